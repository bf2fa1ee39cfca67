//===- AttentionProblems.h - Attention by its formulas ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Problems for the tests of attention on any target, and their results in double.
//
// B batch, S queries, T keys, H query heads, K key and value heads, D head size
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_UNIT_HOST_ATTENTIONPROBLEMS_H
#define LLAMAC_TEST_UNIT_HOST_ATTENTIONPROBLEMS_H

#include "Values.h"

#include <functional>

namespace values {

//===----------------------------------------------------------------------===//
// Reference: the formulas, one query at a time
//===----------------------------------------------------------------------===//

struct Problem {
  LlrtAttention at;
  std::vector<int64_t> mask0 = {}, mask1 = {}, mask2 = {}, mask3 = {};

  int64_t queryCount() const { return at.batch * at.queries * at.heads * at.head_size; }
  int64_t keyCount() const { return at.batch * at.keys * at.kv_heads * at.head_size; }
  int64_t rowCount() const { return at.batch * at.queries * at.heads; }

  // The rules of Kernels.h, word by word.
  bool sees(int64_t b, int64_t i, int64_t j) const {
    const int64_t S = at.queries, T = at.keys;
    if (at.mask == LLRT_MASK_CAUSAL) {
      int64_t own = mask1[b * S + i], other = mask3[b * T + j];
      return other >= 0 && (own < 0 ? -1 - own : own) == other &&
             mask2[b * T + j] <= mask0[b * S + i];
    }
    if (at.mask == LLRT_MASK_ENCODER) {
      auto padding = [&](int64_t token) {
        return token / at.tile_stride >= mask0[b] || token % at.tile_stride >= at.tile_tokens;
      };
      return !padding(mask1[i]) || !padding(j);
    }
    int64_t begin = mask0[b * S + i], end = mask1[b * S + i];
    int64_t tile = j / at.tile_tokens, image = tile / at.tile_count;
    return begin >= end ||
           (begin <= image && image < end && tile % at.tile_count < mask2[b * at.images + image]);
  }
};

struct Forward {
  Doubles out, lse;
};
struct Backward {
  Doubles dQ, dK, dV;
};

// Calls row(b, i, h, P) with the weights of each query; lse if wanted.
inline void
eachRow(const Problem &p, const Doubles &q, const Doubles &k, Doubles *lse,
        const std::function<void(int64_t b, int64_t i, int64_t h, const Doubles &)> &row) {
  const LlrtAttention &at = p.at;
  const int64_t D = at.head_size, G = at.heads / at.kv_heads;
  Doubles weights(at.keys);
  for (int64_t b = 0; b != at.batch; ++b)
    for (int64_t i = 0; i != at.queries; ++i)
      for (int64_t h = 0; h != at.heads; ++h) {
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j != at.keys; ++j) {
          weights[j] = 0;
          for (int64_t d = 0; d != D; ++d)
            weights[j] += at.scale * q[((b * at.queries + i) * at.heads + h) * D + d] *
                          k[((b * at.keys + j) * at.kv_heads + h / G) * D + d];
          if (!p.sees(b, i, j))
            weights[j] = -INFINITY;
          max = std::max(max, weights[j]);
        }
        for (double &weight : weights)
          sum += weight = max == -INFINITY ? 1. : std::exp(weight - max);
        for (double &weight : weights)
          weight /= sum;
        if (lse)
          (*lse)[(b * at.queries + i) * at.heads + h] =
              max == -INFINITY ? max : max + std::log(sum);
        row(b, i, h, weights);
      }
}

inline Forward forwardReference(const Problem &p, const Doubles &q, const Doubles &k,
                                const Doubles &v) {
  const LlrtAttention &at = p.at;
  const int64_t D = at.head_size, G = at.heads / at.kv_heads;
  Forward result = {Doubles(p.queryCount()), Doubles(p.rowCount())};
  eachRow(p, q, k, &result.lse, [&](int64_t b, int64_t i, int64_t h, const Doubles &weights) {
    for (int64_t j = 0; j != at.keys; ++j)
      for (int64_t d = 0; d != D; ++d)
        result.out[((b * at.queries + i) * at.heads + h) * D + d] +=
            weights[j] * v[((b * at.keys + j) * at.kv_heads + h / G) * D + d];
  });
  return result;
}

// dP = dO . v, dS = P (dP - sum P dP), dQ = scale dS k, dK = scale dS q, dV = P
// dO.
inline Backward backwardReference(const Problem &p, const Doubles &dOut, const Doubles &q,
                                  const Doubles &k, const Doubles &v) {
  const LlrtAttention &at = p.at;
  const int64_t D = at.head_size, G = at.heads / at.kv_heads;
  Backward result = {Doubles(q.size()), Doubles(k.size()), Doubles(v.size())};
  Doubles dWeights(at.keys);
  eachRow(p, q, k, nullptr, [&](int64_t b, int64_t i, int64_t h, const Doubles &weights) {
    const int64_t query = ((b * at.queries + i) * at.heads + h) * D;
    auto key = [&](int64_t j) { return ((b * at.keys + j) * at.kv_heads + h / G) * D; };
    double mean = 0;
    for (int64_t j = 0; j != at.keys; ++j) {
      dWeights[j] = 0;
      for (int64_t d = 0; d != D; ++d)
        dWeights[j] += dOut[query + d] * v[key(j) + d];
      mean += weights[j] * dWeights[j];
    }
    for (int64_t j = 0; j != at.keys; ++j) {
      double dScore = at.scale * weights[j] * (dWeights[j] - mean);
      for (int64_t d = 0; d != D; ++d) {
        result.dQ[query + d] += dScore * k[key(j) + d];
        result.dK[key(j) + d] += dScore * q[query + d];
        result.dV[key(j) + d] += weights[j] * dOut[query + d];
      }
    }
  });
  return result;
}

//===----------------------------------------------------------------------===//
// Problems
//===----------------------------------------------------------------------===//

struct Sizes {
  int64_t batch, heads, kvHeads, headSize;
};

inline LlrtAttention describe(int64_t type, const Sizes &s, int64_t queries, int64_t keys,
                              int64_t mask) {
  return {.type = type,
          .batch = s.batch,
          .queries = queries,
          .keys = keys,
          .heads = s.heads,
          .kv_heads = s.kvHeads,
          .head_size = s.headSize,
          .mask = mask,
          .images = 0,
          .tile_count = 0,
          .tile_stride = 0,
          .tile_tokens = 0,
          .scale = 1 / std::sqrt(double(s.headSize))};
}

// `documents` documents one after the other, positions from 0 in each. The
// first `leftPadding` and last `rightPadding` tokens are padding.
inline Problem causal(int64_t type, const Sizes &s, int64_t length, int64_t documents = 1,
                      int64_t leftPadding = 0, int64_t rightPadding = 0) {
  Problem p = {describe(type, s, length, length, LLRT_MASK_CAUSAL)};
  for (int64_t b = 0; b != s.batch; ++b)
    for (int64_t i = 0; i != length; ++i) {
      int64_t each = (length + documents - 1) / documents;
      bool padded = i < leftPadding || i >= length - rightPadding;
      p.mask0.push_back(i % each);
      p.mask1.push_back(padded ? -1 - i / each : i / each);
    }
  p.mask2 = p.mask0;
  p.mask3 = p.mask1;
  return p;
}

// The queries [first, first + queries) of `whole`, which has as many queries as
// keys; the keys stay.
inline Problem someQueries(const Problem &whole, int64_t first, int64_t queries) {
  Problem p = whole;
  p.at.queries = queries;
  auto cut = [&](std::vector<int64_t> &mask, int64_t samples) {
    std::vector<int64_t> all = std::move(mask);
    mask.clear();
    for (int64_t b = 0; b != samples; ++b) {
      auto begin = all.begin() + b * whole.at.queries + first;
      mask.insert(mask.end(), begin, begin + queries);
    }
  };
  if (p.at.mask == LLRT_MASK_CAUSAL)
    cut(p.mask0, p.at.batch);
  cut(p.mask1, p.at.mask == LLRT_MASK_CAUSAL ? p.at.batch : 1);
  return p;
}

// Image b has b % (tileCount + 1) real tiles, so one of them has none.
inline Problem encoder(int64_t type, const Sizes &s, int64_t tileCount, int64_t tileStride,
                       int64_t tileTokens) {
  int64_t length = tileCount * tileStride;
  Problem p = {describe(type, s, length, length, LLRT_MASK_ENCODER)};
  p.at.tile_count = tileCount;
  p.at.tile_stride = tileStride;
  p.at.tile_tokens = tileTokens;
  for (int64_t b = 0; b != s.batch; ++b)
    p.mask0.push_back((b + 1) % (tileCount + 1));
  for (int64_t i = 0; i != length; ++i)
    p.mask1.push_back(i);
  return p;
}

// Ranges of images go up along the text; some queries have none.
inline Problem images(int64_t type, const Sizes &s, int64_t queries, int64_t images,
                      int64_t tileCount, int64_t tileTokens) {
  Problem p = {describe(type, s, queries, images * tileCount * tileTokens, LLRT_MASK_IMAGES)};
  p.at.images = images;
  p.at.tile_count = tileCount;
  p.at.tile_tokens = tileTokens;
  for (int64_t b = 0; b != s.batch; ++b) {
    for (int64_t i = 0; i != queries; ++i) {
      int64_t end = (i + b) * (images + 1) / queries;
      p.mask0.push_back(i % 3 ? 0 : std::max<int64_t>(end - 1, 0));
      p.mask1.push_back(std::min(end, images)); // 0 for the first queries
    }
    for (int64_t m = 0; m != images; ++m)
      p.mask2.push_back((m + b) % tileCount + 1);
  }
  return p;
}

struct Inputs {
  Array q, k, v, dOut;
};

inline Inputs drawInputs(const Problem &p, uint32_t seed = 5) {
  std::mt19937 generator(seed);
  return {draw(generator, p.at.type, p.queryCount()), draw(generator, p.at.type, p.keyCount()),
          draw(generator, p.at.type, p.keyCount()), draw(generator, p.at.type, p.queryCount())};
}

//===----------------------------------------------------------------------===//
// Comparison
//===----------------------------------------------------------------------===//

struct Result {
  Array out, lse, dQ, dK, dV;
  bool operator==(const Result &) const = default;
};

// Compares what a target found with the formulas.
inline void compare(const Problem &p, const Inputs &in, const Result &found) {
  const LlrtAttention &at = p.at;
  Doubles q = in.q.doubles(), k = in.k.doubles(), v = in.v.doubles();
  Forward forward = forwardReference(p, q, k, v);
  Backward backward = backwardReference(p, in.dOut.doubles(), q, k, v);
  // bf16: the weights and their gradients are rounded to 8 bits as well.
  const double tolerance = at.type == LLRT_F32 ? 2e-5 : 3e-2;
  expectClose(found.out.doubles(), forward.out, tolerance, "out");
  for (size_t i = 0; i != forward.lse.size(); ++i)
    if (forward.lse[i] == -INFINITY)
      EXPECT_EQ(found.lse.get(i), -INFINITY) << "lse[" << i << "]";
    else
      EXPECT_NEAR(found.lse.get(i), forward.lse[i], 1e-5) << "lse[" << i << "]";
  // With one key in sight dQ and dK are 0 up to rounding: hold them to dV's size. Single gradients of
  // bf16 are twice as far off as outputs: dP - dO . O loses digits, and O is rounded. The whole is not.
  const double most = at.type == LLRT_F32 ? tolerance : 2 * tolerance;
  auto gradient = [&](const Array &array, const Doubles &wanted, const char *what) {
    Doubles values = array.doubles(), errors(wanted.size());
    double size = std::max(rms(wanted), rms(backward.dV));
    for (size_t i = 0; i != wanted.size(); ++i) {
      errors[i] = values[i] - wanted[i];
      ASSERT_LE(std::abs(errors[i]), most * std::max(size, std::abs(wanted[i])))
          << what << "[" << i << "]: expected " << wanted[i] << ", found " << values[i];
    }
    EXPECT_LE(rms(errors), tolerance / 3 * size) << what;
  };
  gradient(found.dQ, backward.dQ, "dQ");
  gradient(found.dK, backward.dK, "dK");
  gradient(found.dV, backward.dV, "dV");
}

} // namespace values
#endif // LLAMAC_TEST_UNIT_HOST_ATTENTIONPROBLEMS_H
