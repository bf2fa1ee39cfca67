//===- AttentionTest.cpp - Attention against its formulas in double -------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// B batch, S queries, T keys, H query heads, K key and value heads, D head size
//
//===----------------------------------------------------------------------===//
#include "Values.h"
#include "src/Host/Stream.h"

#include <functional>

using namespace values;

namespace {

//===----------------------------------------------------------------------===//
// Reference: the formulas, one query at a time
//===----------------------------------------------------------------------===//

struct Problem {
  LlrtAttention at;
  std::vector<int64_t> mask0, mask1, mask2, mask3;

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
void eachRow(const Problem &p, const Doubles &q, const Doubles &k, Doubles *lse,
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

Forward forwardReference(const Problem &p, const Doubles &q, const Doubles &k, const Doubles &v) {
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
Backward backwardReference(const Problem &p, const Doubles &dOut, const Doubles &q,
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

LlrtAttention describe(int64_t type, const Sizes &s, int64_t queries, int64_t keys, int64_t mask) {
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
Problem causal(int64_t type, const Sizes &s, int64_t length, int64_t documents = 1,
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
Problem someQueries(const Problem &whole, int64_t first, int64_t queries) {
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
Problem encoder(int64_t type, const Sizes &s, int64_t tileCount, int64_t tileStride,
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
Problem images(int64_t type, const Sizes &s, int64_t queries, int64_t images, int64_t tileCount,
               int64_t tileTokens) {
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

//===----------------------------------------------------------------------===//
// Comparison
//===----------------------------------------------------------------------===//

struct Result {
  Array out, lse, dQ, dK, dV;
  bool operator==(const Result &) const = default;
};

struct Inputs {
  Array q, k, v, dOut;
};

Inputs drawInputs(const Problem &p) {
  std::mt19937 generator(5);
  return {draw(generator, p.at.type, p.queryCount()), draw(generator, p.at.type, p.keyCount()),
          draw(generator, p.at.type, p.keyCount()), draw(generator, p.at.type, p.queryCount())};
}

Result runKernels(const Problem &p, const Inputs &in, int64_t threads = 1) {
  LlrtStream stream{threads};
  const int64_t type = p.at.type;
  Result r = {Array(type, p.queryCount()), Array(LLRT_F32, p.rowCount()),
              Array(type, p.queryCount()), Array(type, p.keyCount()), Array(type, p.keyCount())};
  auto *lse = static_cast<float *>(r.lse.data());
  llrt_attention_forward(&stream, &p.at, in.q.data(), in.k.data(), in.v.data(), p.mask0.data(),
                         p.mask1.data(), p.mask2.data(), p.mask3.data(), r.out.data(), lse);
  llrt_attention_backward(&stream, &p.at, in.dOut.data(), in.q.data(), in.k.data(), in.v.data(),
                          p.mask0.data(), p.mask1.data(), p.mask2.data(), p.mask3.data(),
                          r.out.data(), lse, r.dQ.data(), r.dK.data(), r.dV.data());
  return r;
}

// Compares with the reference on 1 and 2 threads, which must agree bit by bit.
void check(const Problem &p) {
  const LlrtAttention &at = p.at;
  SCOPED_TRACE(testing::Message() << "type " << at.type << ", mask " << at.mask << ", B "
                                  << at.batch << ", S " << at.queries << ", T " << at.keys << ", H "
                                  << at.heads << ", K " << at.kv_heads << ", D " << at.head_size);
  Inputs in = drawInputs(p);
  Result found = runKernels(p, in, 2);
  EXPECT_TRUE(runKernels(p, in) == found) << "1 and 2 threads differ";

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
  // With one key in sight dQ and dK are 0 up to rounding: hold them to dV's
  // size.
  auto gradient = [&](const Array &array, const Doubles &wanted, const char *what) {
    Doubles values = array.doubles();
    double size = std::max(rms(wanted), rms(backward.dV));
    for (size_t i = 0; i != wanted.size(); ++i)
      ASSERT_LE(std::abs(values[i] - wanted[i]), tolerance * std::max(size, std::abs(wanted[i])))
          << what << "[" << i << "]: expected " << wanted[i] << ", found " << values[i];
  };
  gradient(found.dQ, backward.dQ, "dQ");
  gradient(found.dK, backward.dK, "dK");
  gradient(found.dV, backward.dV, "dV");
}

class Attention : public testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(Types, Attention, testing::Values(int64_t(LLRT_F32), int64_t(LLRT_BF16)),
                         [](const auto &info) { return info.param == LLRT_F32 ? "f32" : "bf16"; });

//===----------------------------------------------------------------------===//
// Tests
//===----------------------------------------------------------------------===//

// The gradient formulas of the reference agree with differences of its forward.
TEST(AttentionReference, GradientsMatchCentralDifferences) {
  for (const Problem &p :
       {causal(LLRT_F32, {1, 4, 2, 3}, 6, 2, 1, 1), encoder(LLRT_F32, {2, 2, 1, 4}, 2, 3, 2),
        images(LLRT_F32, {1, 2, 2, 4}, 5, 2, 2, 2)}) {
    Inputs in = drawInputs(p);
    Doubles inputs[] = {in.q.doubles(), in.k.doubles(), in.v.doubles()};
    Doubles dOut = in.dOut.doubles();
    Backward backward = backwardReference(p, dOut, inputs[0], inputs[1], inputs[2]);
    auto loss = [&] {
      Doubles out = forwardReference(p, inputs[0], inputs[1], inputs[2]).out;
      double sum = 0;
      for (size_t i = 0; i != out.size(); ++i)
        sum += dOut[i] * out[i];
      return sum;
    };
    // A query that sees nothing has constant weights, whose derivative is 0;
    // the formulas give its scores a gradient on purpose (Kernels.h). Leave it
    // out.
    Problem seen = p;
    bool uniform = false;
    for (int64_t b = 0; b != p.at.batch; ++b)
      for (int64_t i = 0; i != p.at.queries; ++i) {
        bool any = false;
        for (int64_t j = 0; j != p.at.keys; ++j)
          any |= p.sees(b, i, j);
        if (any)
          continue;
        uniform = true;
        int64_t row = p.at.heads * p.at.head_size;
        std::fill_n(dOut.begin() + (b * p.at.queries + i) * row, row, 0.);
      }
    if (uniform)
      backward = backwardReference(p, dOut, inputs[0], inputs[1], inputs[2]);
    const Doubles *gradients[] = {&backward.dQ, &backward.dK, &backward.dV};
    const double step = 1e-5;
    for (int which = 0; which != 3; ++which)
      for (size_t i = 0; i != inputs[which].size(); ++i) {
        double &x = inputs[which][i], before = x;
        x = before + step;
        double above = loss();
        x = before - step;
        double below = loss();
        x = before;
        EXPECT_NEAR((*gradients[which])[i], (above - below) / (2 * step), 1e-8)
            << "input " << which << "[" << i << "]";
      }
  }
}

TEST_P(Attention, CausalMatchesFormulas) {
  for (int64_t length : {1, 2, 17, 128, 131, 300})
    check(causal(GetParam(), {2, 4, 2, 16}, length));
}

// Documents end inside tiles and at their edges.
TEST_P(Attention, DocumentsDoNotSeeEachOther) {
  check(causal(GetParam(), {1, 2, 2, 16}, 384, 3));
  check(causal(GetParam(), {2, 2, 1, 16}, 290, 7));
}

// Queries in the padding on the left see no key and weigh all keys alike.
TEST_P(Attention, QueriesThatSeeNothingWeighAllKeysAlike) {
  check(causal(GetParam(), {1, 4, 2, 16}, 300, 1, 150, 20));
  check(causal(GetParam(), {2, 2, 1, 8}, 9, 2, 3, 0));
  check(causal(GetParam(), {1, 1, 1, 16}, 140, 1, 140, 0)); // nothing but padding
}

// Positions need not ascend: a rank may hold any rows of the text.
TEST_P(Attention, CausalWorksInAnyOrderOfRows) {
  Problem p = causal(GetParam(), {2, 4, 2, 16}, 270, 2, 0, 5);
  std::mt19937 generator(6);
  for (int64_t b = 0; b != p.at.batch; ++b) {
    std::vector<int64_t> order(p.at.queries);
    for (size_t i = 0; i != order.size(); ++i)
      order[i] = b * p.at.queries + i;
    std::shuffle(order.begin(), order.end(), generator);
    Problem before = p;
    for (size_t i = 0; i != order.size(); ++i) {
      p.mask0[b * p.at.queries + i] = before.mask0[order[i]];
      p.mask1[b * p.at.queries + i] = before.mask1[order[i]];
    }
  }
  check(p); // the keys in another order than the queries
  p.mask2 = p.mask0;
  p.mask3 = p.mask1;
  check(p);
}

// A rank may hold some of the queries and all keys.
TEST_P(Attention, SomeQueriesMatchFormulas) {
  Problem text = causal(GetParam(), {2, 4, 2, 16}, 300, 2, 3, 5);
  check(someQueries(text, 75, 150));
  check(someQueries(text, 170, 130));
  Problem image = encoder(GetParam(), {5, 2, 2, 16}, 4, 40, 37);
  check(someQueries(image, 35, 50));
  check(someQueries(image, 120, 40));
}

// 1 to 8 query heads share a key and value head.
TEST_P(Attention, HeadsShareKeys) {
  for (int64_t group = 1; group <= 8; ++group)
    check(causal(GetParam(), {1, 2 * group, 2, 8}, 150));
  check(causal(GetParam(), {1, 130, 1, 4},
               20)); // more heads than a tile has rows
}

TEST_P(Attention, EveryHeadSize) {
  for (int64_t size : {1, 3, 4, 16, 64, 80, 128, 129})
    check(causal(GetParam(), {1, 2, 1, size}, 70));
}

TEST_P(Attention, EncoderMatchesFormulas) {
  check(encoder(GetParam(), {5, 2, 2, 16}, 4, 40, 37));
  check(encoder(GetParam(), {2, 2, 2, 80}, 4, 192, 161));
  check(encoder(GetParam(), {2, 1, 1, 4}, 1, 5, 5));
}

TEST_P(Attention, ImagesMatchFormulas) {
  check(images(GetParam(), {2, 4, 2, 16}, 65, 3, 4, 41));
  check(images(GetParam(), {1, 8, 1, 16}, 1, 1, 2, 5));
  check(images(GetParam(), {3, 2, 2, 8}, 200, 2, 2, 301));
}

// One group of heads on two threads goes through tiles in two passes, two
// groups in one pass: both orders add up alike.
TEST_P(Attention, BothBackwardOrdersMatchFormulas) {
  check(causal(GetParam(), {1, 4, 1, 16}, 400, 2, 3, 0)); // two passes
  check(causal(GetParam(), {2, 4, 1, 16}, 400, 2, 3, 0)); // one pass
  check(causal(GetParam(), {3, 4, 1, 16}, 200));
}

// Scores far apart: weights underflow to 0, nothing overflows.
TEST_P(Attention, LargeScoresStayFinite) {
  Problem p = causal(GetParam(), {1, 2, 2, 16}, 200);
  p.at.scale = 64;
  Inputs in = drawInputs(p);
  Result r = runKernels(p, in);
  for (const Array *array : {&r.out, &r.lse, &r.dQ, &r.dK, &r.dV})
    for (double value : array->doubles())
      ASSERT_TRUE(std::isfinite(value));
  Forward wanted = forwardReference(p, in.q.doubles(), in.k.doubles(), in.v.doubles());
  expectClose(r.out.doubles(), wanted.out, GetParam() == LLRT_F32 ? 1e-3 : 3e-2, "out");
}

// A NaN reaches the rows that see it and no other.
TEST_P(Attention, NaNReachesOnlyRowsThatSeeIt) {
  Problem p = causal(GetParam(), {1, 1, 1, 16}, 200);
  Inputs in = drawInputs(p);
  in.k.set(150 * 16, NAN);
  Doubles out = runKernels(p, in).out.doubles();
  for (int64_t i = 0; i != 200; ++i)
    EXPECT_EQ(std::isnan(out[i * 16]), i >= 150) << "query " << i;
}

} // namespace
