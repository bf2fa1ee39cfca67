//===- DecompositionTest.cpp - What the decompositions compute ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Forward ops against the formula of their description written as plain loops,
// gradient ops against central differences of the forward op. In f64, where a wrong
// formula cannot hide in rounding; element types are tested apart.
//
//===----------------------------------------------------------------------===//
#include "Execute.h"

#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <limits>
#include <random>

using namespace llamac_test;

static size_t product(const std::vector<int64_t> &shape) {
  size_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

// Normally distributed values; every call draws others.
static Array draw(std::vector<int64_t> shape, const std::string &type = "f64") {
  static std::mt19937 generator(7);
  std::normal_distribution<double> normal;
  Array array = {shape, type, std::vector<double>(product(shape))};
  for (double &value : array.values)
    value = normal(generator);
  return array;
}

static Array integers(std::vector<int64_t> shape, std::vector<double> values) {
  return {shape, "i64", values};
}

static Array like(const Array &array) {
  return {array.shape, array.type, std::vector<double>(array.size())};
}

static void expectNear(const Array &got, const Array &wanted, double tolerance = 1e-11) {
  ASSERT_EQ(got.shape, wanted.shape);
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], wanted[i], tolerance * (1 + std::abs(wanted[i]))) << "element " << i;
}

// Checks the results of `gradient` against central differences of sum(cotangents *
// results) of `forward`. `wrt` are the differentiated inputs of `forward`, one per
// result of `gradient`.
static void expectGradient(const std::vector<Array> &gradients, const CompiledOp &forward,
                           std::vector<Array> inputs, const Array &cotangent,
                           const std::vector<int> &wrt, double tolerance = 1e-7) {
  auto loss = [&] {
    double sum = 0;
    Array result = forward(inputs)[0];
    for (size_t i = 0; i < result.size(); ++i)
      sum += cotangent[i] * result[i];
    return sum;
  };
  ASSERT_EQ(gradients.size(), wrt.size());
  for (size_t g = 0; g < wrt.size(); ++g) {
    Array &input = inputs[wrt[g]];
    ASSERT_EQ(gradients[g].size(), input.size());
    for (size_t i = 0; i < input.size(); ++i) {
      const double step = 1e-5, value = input[i];
      input[i] = value + step;
      double above = loss();
      input[i] = value - step;
      double below = loss();
      input[i] = value;
      double wanted = (above - below) / (2 * step);
      ASSERT_NEAR(gradients[g][i], wanted, tolerance * (1 + std::abs(wanted)))
          << "gradient " << g << " element " << i;
    }
  }
}

//===----------------------------------------------------------------------===//
// Embedding, norms, linear layers
//===----------------------------------------------------------------------===//

TEST(Embed, ReadsRowsFromItsOffsetOnAndIsZeroElsewhere) {
  Array ids = integers({2, 3}, {0, 4, 5, 6, 7, 2}), table = draw({2, 3});
  Array wanted = {{2, 3, 3}, "f64", std::vector<double>(18)};
  for (int t = 0; t < 6; ++t)
    for (int c = 0; c < 3; ++c)
      if (ids[t] == 5 || ids[t] == 6)
        wanted[t * 3 + c] = table[(ids[t] - 5) * 3 + c];
  expectNear(execute("llama.embed", "{offset = 5 : i64}", {ids, table})[0], wanted, 0);
}

// Of 8 rows this rank, the second of four, holds rows 2 and 3; row 2 is padding.
TEST(ShiftIndex, CountsFromTheFirstRowOfTheRank) {
  Array ids = integers({2, 3}, {0, 1, 2, 3, 7, -100}), coordinate = integers({1}, {1});
  expectNear(execute("llama.shift_index", "{size = 2 : i64}", {ids, coordinate})[0],
             integers({2, 3}, {-1, -1, 0, 1, -1, -1}), 0);
  expectNear(execute("llama.shift_index", "{size = 2 : i64, padding_index = 2 : i64}",
                     {ids, coordinate})[0],
             integers({2, 3}, {-1, -1, -1, 1, -1, -1}), 0);
}

TEST(EmbedGrad, SumsRepeatedTokensAndSkipsPaddingAndOtherTables) {
  // Rows [2, 5) of the vocabulary; token 3 is padding, 2 occurs twice, 0 and 9 are elsewhere.
  Array ids = integers({2, 3}, {2, 3, 4, 2, 0, 9}), dy = draw({2, 3, 4});
  Array wanted = {{3, 4}, "f64", std::vector<double>(12)};
  for (int t = 0; t < 6; ++t)
    for (int c = 0; c < 4; ++c)
      if (ids[t] == 2 || ids[t] == 4)
        wanted[(ids[t] - 2) * 4 + c] += dy[t * 4 + c];
  expectNear(execute("llama.embed_grad",
                     "{rows = 3 : i64, offset = 2 : i64, padding_index = 3 : i64, "
                     "accumulation = f64}",
                     {dy, ids})[0],
             wanted);
}

static const char *kNorm = "{epsilon = 1.0e-1 : f64, statistics = f64}";
static const char *kNormSum = "{epsilon = 1.0e-1 : f64, statistics = f64, accumulation = f64}";

TEST(RMSNorm, IsTheFormula) {
  Array x = draw({2, 3, 4}), w = draw({4}), wanted = like(x);
  for (int r = 0; r < 6; ++r) {
    double sum = 0;
    for (int c = 0; c < 4; ++c)
      sum += x[r * 4 + c] * x[r * 4 + c];
    for (int c = 0; c < 4; ++c)
      wanted[r * 4 + c] = w[c] * x[r * 4 + c] / std::sqrt(sum / 4 + 0.1);
  }
  expectNear(execute("llama.rms_norm", kNorm, {x, w})[0], wanted);
}

TEST(RMSNorm, GradientsAreCentralDifferences) {
  Array x = draw({2, 3, 4}), w = draw({4}), dy = draw({2, 3, 4});
  CompiledOp forward("llama.rms_norm", kNorm, {x, w});
  Array dx = execute("llama.rms_norm_dx", kNorm, {dy, x, w})[0];
  Array dw = execute("llama.rms_norm_dw", kNormSum, {dy, x})[0];
  expectGradient({dx, dw}, forward, {x, w}, dy, {0, 1});
}

// bf16 data, f32 statistics: the normalized row is rounded before it is scaled.
TEST(RMSNorm, RoundsToTheElementTypeBeforeScaling) {
  Array x = {{1, 4}, "bf16", {1.0, 3.0, 0.5, 7.0}}, w = {{4}, "bf16", {1.5, 3.0, 1.25, 0.75}};
  auto round = [](double value) { // to 8 significant bits
    int exponent;
    double fraction = std::frexp(value, &exponent);
    return std::ldexp(std::nearbyint(fraction * 256), exponent - 8);
  };
  double scale = 1 / std::sqrt((1 + 9 + 0.25 + 49) / 4 + 0.1);
  Array wanted = like(x);
  for (int c = 0; c < 4; ++c)
    wanted[c] = round(w[c] * round(x[c] * scale));
  expectNear(execute("llama.rms_norm", "{epsilon = 1.0e-1 : f64, statistics = f32}", {x, w})[0],
             wanted, 0);
}

TEST(LayerNorm, IsTheFormulaAndGradientsAreCentralDifferences) {
  Array x = draw({3, 5}), w = draw({5}), b = draw({5}), dy = draw({3, 5}), wanted = like(x);
  for (int r = 0; r < 3; ++r) {
    double mean = 0, variance = 0;
    for (int c = 0; c < 5; ++c)
      mean += x[r * 5 + c] / 5;
    for (int c = 0; c < 5; ++c)
      variance += (x[r * 5 + c] - mean) * (x[r * 5 + c] - mean) / 5;
    for (int c = 0; c < 5; ++c)
      wanted[r * 5 + c] = w[c] * (x[r * 5 + c] - mean) / std::sqrt(variance + 0.1) + b[c];
  }
  CompiledOp forward("llama.layer_norm", kNorm, {x, w, b});
  expectNear(forward({x, w, b})[0], wanted);
  Array dx = execute("llama.layer_norm_dx", kNorm, {dy, x, w})[0];
  Array dw = execute("llama.layer_norm_dw", kNormSum, {dy, x})[0];
  Array db = execute("llama.sum_rows", "{accumulation = f64}", {dy})[0];
  expectGradient({dx, dw, db}, forward, {x, w, b}, dy, {0, 1, 2});
}

TEST(Linear, IsTheFormulaAndGradientsAreCentralDifferences) {
  Array x = draw({2, 3, 4}), w = draw({5, 4}), b = draw({5}), dy = draw({2, 3, 5});
  Array wanted = like(dy);
  for (int r = 0; r < 6; ++r)
    for (int n = 0; n < 5; ++n) {
      wanted[r * 5 + n] = b[n];
      for (int k = 0; k < 4; ++k)
        wanted[r * 5 + n] += x[r * 4 + k] * w[n * 4 + k];
    }
  CompiledOp forward("llama.linear", "{accumulation = f64}", {x, w, b});
  expectNear(forward({x, w, b})[0], wanted);
  Array dx = execute("llama.linear_dx", "{accumulation = f64}", {dy, w})[0];
  Array dw = execute("llama.linear_dw", "{accumulation = f64}", {dy, x})[0];
  expectGradient({dx, dw}, forward, {x, w, b}, dy, {0, 1});
}

// 256 + 1 is not a bf16 number: sums in bf16 would stay at 256.
TEST(Linear, SumsInTheAccumulationType) {
  Array x = {{1, 5}, "bf16", {256, 1, 1, 1, 1}}, w = {{1, 5}, "bf16", {1, 1, 1, 1, 1}};
  Array wanted = {{1, 1}, "bf16", {260}};
  expectNear(execute("llama.linear", "{accumulation = f32}", {x, w})[0], wanted, 0);
}

//===----------------------------------------------------------------------===//
// Rotary positions, attention
//===----------------------------------------------------------------------===//

TEST(Rope, RotatesHalvesAndTheInverseRotatesBack) {
  Array positions = integers({1, 3}, {0, 5, 2}), x = draw({1, 3, 2, 4}), wanted = like(x);
  Array table = execute("llama.rope_table",
                        "{frequencies = array<f64: 1.0, 0.1>, statistics = f64}", {positions})[0];
  const double frequencies[] = {1.0, 0.1};
  for (int s = 0; s < 3; ++s)
    for (int h = 0; h < 2; ++h)
      for (int i = 0; i < 2; ++i) {
        double angle = positions[s] * frequencies[i];
        const double *head = &x.values[(s * 2 + h) * 4];
        wanted[(s * 2 + h) * 4 + i] = head[i] * std::cos(angle) - head[2 + i] * std::sin(angle);
        wanted[(s * 2 + h) * 4 + 2 + i] = head[2 + i] * std::cos(angle) + head[i] * std::sin(angle);
      }
  Array y = execute("llama.rope", "{}", {x, table})[0];
  expectNear(y, wanted);
  expectNear(execute("llama.rope", "{inverse}", {y, table})[0], x);
}

namespace {
/// An attention case: the op's inputs, its attributes, and which keys queries see.
struct Attention {
  Array query, key, value;
  std::vector<Array> masks;
  std::string attributes;
  std::function<bool(int b, int s, int t)> sees;

  std::vector<Array> inputs() const {
    std::vector<Array> all = {query, key, value};
    all.insert(all.end(), masks.begin(), masks.end());
    return all;
  }
};
} // namespace

static std::string attentionAttributes(const std::string &mask, int tileCount, int tileStride,
                                       int tileTokens) {
  return "{mask = #llama.mask<" + mask +
         ">, scale = 0.5 : f64, tile_count = " + std::to_string(tileCount) +
         " : i64, tile_stride = " + std::to_string(tileStride) +
         " : i64, tile_tokens = " + std::to_string(tileTokens) + " : i64, statistics = f64}";
}

// Two documents of different length, the second with padding at its end; sample 1 has a
// padded token first, which sees the real token at the same position.
static Attention causalCase() {
  Array positions = integers({2, 5}, {0, 1, 0, 1, 2, 0, 0, 1, 2, 3});
  Array documents = integers({2, 5}, {0, 0, 1, 1, -2, -1, 0, 0, 0, 0});
  return {draw({2, 5, 4, 3}),
          draw({2, 5, 2, 3}),
          draw({2, 5, 2, 3}),
          {positions, documents, positions, documents},
          attentionAttributes("causal", 0, 0, 0),
          [=](int b, int s, int t) {
            double own = documents[b * 5 + s], other = documents[b * 5 + t];
            return other >= 0 && other == (own < 0 ? -1 - own : own) &&
                   positions[b * 5 + t] <= positions[b * 5 + s];
          }};
}

// The first token of sample 1 is padding of a document without real tokens: it sees
// no key.
static Attention noKeyCase() {
  Attention attention = causalCase();
  attention.masks[1][5] = attention.masks[3][5] = -8;
  Array positions = attention.masks[0], changed = attention.masks[1];
  attention.sees = [=](int b, int s, int t) {
    if (b == 1 && s == 0)
      return true; // weighs all alike
    double own = changed[b * 5 + s], other = changed[b * 5 + t];
    return other >= 0 && other == (own < 0 ? -1 - own : own) &&
           positions[b * 5 + t] <= positions[b * 5 + s];
  };
  return attention;
}

// The last two rows of each sample as queries, all rows in another order as keys: what
// a rank of two has under context parallelism.
static Attention splitCausalCase() {
  Array positions = integers({2, 2}, {1, 2, 2, 3}), documents = integers({2, 2}, {1, -2, 0, 0});
  Array keyPositions = integers({2, 5}, {1, 2, 0, 1, 0, 2, 3, 0, 0, 1});
  Array keyDocuments = integers({2, 5}, {1, -2, 0, 0, 1, 0, 0, -1, 0, 0});
  return {draw({2, 2, 4, 3}),
          draw({2, 5, 2, 3}),
          draw({2, 5, 2, 3}),
          {positions, documents, keyPositions, keyDocuments},
          attentionAttributes("causal", 0, 0, 0),
          [=](int b, int s, int t) {
            double own = documents[b * 2 + s], other = keyDocuments[b * 5 + t];
            return other >= 0 && other == (own < 0 ? -1 - own : own) &&
                   keyPositions[b * 5 + t] <= positions[b * 2 + s];
          }};
}

// Two samples of one image: 3 tiles of 3 tokens, 2 of them real. Queries are the tokens
// `first` to `first + queries - 1`.
static Attention encoderCase(int first, int queries) {
  Array tiles = integers({2, 1}, {1, 3}), positions = {{1, queries}, "i64", {}};
  for (int s = 0; s < queries; ++s)
    positions.values.push_back(first + s);
  return {draw({2, queries, 2, 3}),
          draw({2, 9, 2, 3}),
          draw({2, 9, 2, 3}),
          {tiles, positions},
          attentionAttributes("encoder", 3, 3, 2),
          [=](int b, int s, int t) {
            auto valid = [&](int token) { return token / 3 < tiles[b] && token % 3 < 2; };
            return valid(first + s) || valid(t);
          }};
}

// Two images of 2 tiles of 2 tokens; queries with no image, one and both.
static Attention imagesCase() {
  Array begin = integers({2, 3}, {0, 0, 1, 0, 0, 2}), end = integers({2, 3}, {0, 1, 2, 2, 1, 1});
  Array tiles = integers({2, 2}, {1, 2, 2, 1});
  return {draw({2, 3, 4, 3}),
          draw({2, 8, 2, 3}),
          draw({2, 8, 2, 3}),
          {begin, end, tiles},
          attentionAttributes("images", 2, 2, 2),
          [=](int b, int s, int t) {
            double first = begin[b * 3 + s], last = end[b * 3 + s];
            int image = t / 4, tile = t / 2 % 2;
            return first >= last || (first <= image && image < last && tile < tiles[b * 2 + image]);
          }};
}

// Output and lse by plain loops; `uniform` queries have score 0 for every key.
static std::vector<Array> attentionByLoops(const Attention &a,
                                           std::function<bool(int, int)> uniform) {
  int B = a.query.shape[0], S = a.query.shape[1], H = a.query.shape[2], D = a.query.shape[3];
  int T = a.key.shape[1], K = a.key.shape[2];
  Array out = like(a.query), lse = {{B, S, H}, "f64", std::vector<double>(B * S * H)};
  for (int b = 0; b < B; ++b)
    for (int s = 0; s < S; ++s)
      for (int h = 0; h < H; ++h) {
        std::vector<double> weights(T);
        double sum = 0;
        int row = (b * S + s) * H + h;
        auto keyAt = [&](int t) { return ((b * T + t) * K + h / (H / K)) * D; };
        for (int t = 0; t < T; ++t) {
          double score = 0;
          for (int d = 0; d < D; ++d)
            score += a.query[row * D + d] * a.key[keyAt(t) + d];
          weights[t] = a.sees(b, s, t) ? std::exp(uniform(b, s) ? 0 : 0.5 * score) : 0;
          sum += weights[t];
        }
        for (int t = 0; t < T; ++t)
          for (int d = 0; d < D; ++d)
            out[row * D + d] += weights[t] / sum * a.value[keyAt(t) + d];
        lse[row] = std::log(sum);
      }
  return {out, lse};
}

static void expectAttention(const Attention &a) {
  CompiledOp forward("llama.attention", a.attributes, a.inputs());
  std::vector<Array> results = forward(a.inputs());
  std::vector<Array> wanted = attentionByLoops(a, [](int, int) { return false; });
  expectNear(results[0], wanted[0]);
  expectNear(results[1], wanted[1]);
  Array dOut = draw(a.query.shape);
  std::vector<Array> inputs = {dOut, a.query, a.key, a.value, results[0], results[1]};
  inputs.insert(inputs.end(), a.masks.begin(), a.masks.end());
  expectGradient(execute("llama.attention_grad", a.attributes, inputs), forward, a.inputs(), dOut,
                 {0, 1, 2});
}

TEST(Attention, CausalMask) { expectAttention(causalCase()); }
TEST(Attention, CausalMaskOfSomeQueries) { expectAttention(splitCausalCase()); }
TEST(Attention, EncoderMask) { expectAttention(encoderCase(0, 9)); }
TEST(Attention, EncoderMaskOfSomeQueries) { expectAttention(encoderCase(4, 4)); }
TEST(Attention, ImagesMask) { expectAttention(imagesCase()); }

// A query that sees no key weighs all T alike, with the softmax's gradient there:
// dS = P * (dP - rowsum(dO * O)), which reaches query and key.
TEST(Attention, AQueryWithoutKeysWeighsAllAlike) {
  Attention a = noKeyCase();
  std::vector<Array> results = execute("llama.attention", a.attributes, a.inputs());
  std::vector<Array> wanted = attentionByLoops(a, [](int b, int s) { return b == 1 && s == 0; });
  expectNear(results[0], wanted[0]);
  expectNear(results[1], wanted[1]);
  EXPECT_NEAR(results[1][5 * 4], std::log(5.0), 1e-12);

  Array dOut = draw(a.query.shape);
  std::vector<Array> inputs = {dOut, a.query, a.key, a.value, results[0], results[1]};
  inputs.insert(inputs.end(), a.masks.begin(), a.masks.end());
  Array dQuery = execute("llama.attention_grad", a.attributes, inputs)[0];
  const int B1 = 5 * 4 * 3; // query row (1, 0, h = 0) and sample 1 of the keys
  for (int d = 0; d < 3; ++d) {
    double wantedElement = 0;
    for (int t = 0; t < 5; ++t) {
      double difference = 0;
      for (int e = 0; e < 3; ++e)
        difference += dOut[B1 + e] * (a.value[(5 + t) * 6 + e] - results[0][B1 + e]);
      wantedElement += 0.5 * 0.2 * difference * a.key[(5 + t) * 6 + d];
    }
    EXPECT_NEAR(dQuery[B1 + d], wantedElement, 1e-12);
  }
}

//===----------------------------------------------------------------------===//
// Feed-forward, residual
//===----------------------------------------------------------------------===//

static const char *kStatistics = "{statistics = f64}";

TEST(SwiGLU, IsTheFormulaAndGradientsAreCentralDifferences) {
  Array g = draw({2, 3, 2}), u = draw({2, 3, 2}), dy = draw({2, 3, 2}), wanted = like(g);
  for (size_t i = 0; i < g.size(); ++i)
    wanted[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
  CompiledOp forward("llama.swiglu", kStatistics, {g, u});
  expectNear(forward({g, u})[0], wanted);
  expectGradient(execute("llama.swiglu_grad", kStatistics, {dy, g, u}), forward, {g, u}, dy,
                 {0, 1});
}

TEST(Gelu, IsTheFormulaAndGradientsAreCentralDifferences) {
  Array x = draw({3, 4}), dy = draw({3, 4}), wanted = like(x);
  for (size_t i = 0; i < x.size(); ++i)
    wanted[i] = x[i] * (1 + std::erf(x[i] / std::sqrt(2.0))) / 2;
  CompiledOp forward("llama.gelu", kStatistics, {x});
  expectNear(forward({x})[0], wanted);
  expectGradient(execute("llama.gelu_grad", kStatistics, {dy, x}), forward, {x}, dy, {0});
}

// 1 + 2^-9 is lost in bf16 but not in the sum with an f32 operand.
TEST(Add, IsFormedInTheWiderType) {
  Array narrow = {{2}, "bf16", {1, 2}}, wide = {{2}, "f32", {0.001953125, 1}};
  Array wanted = {{2}, "f32", {1.001953125, 3}};
  expectNear(execute("llama.add", "{element_type = f32}", {narrow, wide})[0], wanted, 0);
}

TEST(Cast, RoundsToNearestEven) {
  Array x = {{1, 2, 2}, "f32", {1.00390625, 1.01171875, -0.1, 3}};
  Array wanted = {{1, 2, 2}, "bf16", {1.0, 1.015625, -0.10009765625, 3}};
  expectNear(execute("llama.cast", "{element_type = bf16}", {x})[0], wanted, 0);
}

// Row kinds: no image in the batch (begin > end), none for the row, one.
TEST(GatedResidual, RowsAndGradients) {
  Array begin = integers({1, 3}, {1, 0, 0}), end = integers({1, 3}, {0, 0, 1});
  const std::vector<std::pair<std::string, std::vector<double>>> kinds = {
      {"none", {1, 1, 1}}, {"present", {0, 1, 1}}, {"image", {0, 0, 1}}};
  for (const auto &[kind, row] : kinds) {
    Array x = draw({1, 3, 2}), f = draw({1, 3, 2}), g = draw({1}), dy = draw({1, 3, 2});
    Array wanted = like(x);
    for (int i = 0; i < 6; ++i)
      wanted[i] = x[i] + std::tanh(g[0]) * row[i / 2] * f[i];
    std::vector<Array> masks;
    if (kind != "none")
      masks = {begin, end};
    auto with = [&](std::vector<Array> inputs) {
      inputs.insert(inputs.end(), masks.begin(), masks.end());
      return inputs;
    };
    std::string rows = "{rows = #llama.rows<" + kind + ">, ";
    CompiledOp forward("llama.gated_residual", rows + "statistics = f64}", with({x, f, g}));
    expectNear(forward(with({x, f, g}))[0], wanted);
    Array df = execute("llama.gated_residual_grad", rows + "statistics = f64}", with({dy, g}))[0];
    Array dg = execute("llama.gate_grad", rows + "accumulation = f64}", with({dy, f, g}))[0];
    expectGradient({df, dg}, forward, with({x, f, g}), dy, {1, 2});
  }
}

//===----------------------------------------------------------------------===//
// Vision
//===----------------------------------------------------------------------===//

TEST(Patchify, OrdersPatchesByRowAndPixelsByColour) {
  const int B = 1, M = 2, T = 2, C = 3, R = 4, P = 2, g = R / P;
  Array x = draw({B, M, T, C, R, R});
  Array wanted = {{B * M, T * g * g, C * P * P}, "f64", std::vector<double>(x.size())};
  for (int a = 0; a < B * M; ++a)
    for (int t = 0; t < T; ++t)
      for (int c = 0; c < C; ++c)
        for (int row = 0; row < R; ++row)
          for (int column = 0; column < R; ++column) {
            int patch = t * g * g + row / P * g + column / P;
            int channel = c * P * P + row % P * P + column % P;
            wanted[(a * T * g * g + patch) * C * P * P + channel] =
                x[(((a * T + t) * C + c) * R + row) * R + column];
          }
  expectNear(execute("llama.patchify", "{patch_size = 2 : i64, element_type = f64}", {x})[0],
             wanted, 0);
}

// Per tile (P = 2 tokens of a tile) and per token (P = 1); images 0 and 2 share a row.
TEST(TileEmbed, AddsAndSums) {
  for (int tiles : {2, 4}) {
    const int A = 3, N = 4, C = 3;
    Array x = draw({A, N, C}), table = draw({4, tiles, C}), g = draw({1}), dy = draw({A, N, C});
    Array ids = integers({3, 1}, {2, 0, 2}), wanted = x;
    for (int a = 0; a < A; ++a)
      for (int n = 0; n < N; ++n)
        for (int c = 0; c < C; ++c)
          wanted[(a * N + n) * C + c] +=
              std::tanh(g[0]) * table[(ids[a] * tiles + n / (N / tiles)) * C + c];
    CompiledOp forward("llama.tile_embed_add", kStatistics, {x, table, g, ids});
    expectNear(forward({x, table, g, ids})[0], wanted);
    expectGradient(execute("llama.tile_embed_grad", "{accumulation = f64}", {dy, table, g, ids}),
                   forward, {x, table, g, ids}, dy, {1, 2});
  }
}

TEST(PositionEmbed, AddsAndSums) {
  Array x = draw({2, 6, 3}), table = draw({3, 3}), g = draw({1}), dy = draw({2, 6, 3});
  Array wanted = x;
  for (int r = 0; r < 12; ++r)
    for (int c = 0; c < 3; ++c)
      wanted[r * 3 + c] += (1 - std::tanh(g[0])) * table[r % 3 * 3 + c];
  CompiledOp forward("llama.position_embed_add", kStatistics, {x, table, g});
  expectNear(forward({x, table, g})[0], wanted);
  expectGradient(execute("llama.position_embed_grad", "{accumulation = f64}", {dy, table, g}),
                 forward, {x, table, g}, dy, {1, 2});
}

TEST(ClassToken, GoesBeforeEveryTileAndComesBack) {
  Array x = draw({2, 6, 3}), token = draw({3}), wanted = {{2, 8, 3}, "f64", {}};
  for (int tile = 0; tile < 4; ++tile) {
    wanted.values.insert(wanted.values.end(), token.values.begin(), token.values.end());
    wanted.values.insert(wanted.values.end(), x.values.begin() + tile * 9,
                         x.values.begin() + (tile + 1) * 9);
  }
  Array y = execute("llama.prepend_class", "{tiles = 2 : i64}", {x, token})[0];
  expectNear(y, wanted, 0);
  expectNear(execute("llama.drop_class", "{tiles = 2 : i64}", {y})[0], x, 0);
  Array classes = {{2, 2, 3}, "f64", {}};
  for (int tile = 0; tile < 4; ++tile)
    classes.values.insert(classes.values.end(), token.values.begin(), token.values.end());
  expectNear(execute("llama.take_class", "{tiles = 2 : i64}", {y})[0], classes, 0);
}

TEST(PadTokens, AppendsZerosToEveryTileAndDropTokensTakesThemAway) {
  Array x = draw({2, 6, 3}), wanted = {{2, 8, 3}, "f64", {}};
  for (int tile = 0; tile < 4; ++tile) {
    wanted.values.insert(wanted.values.end(), x.values.begin() + tile * 9,
                         x.values.begin() + (tile + 1) * 9);
    wanted.values.insert(wanted.values.end(), 3, 0.0);
  }
  Array y = execute("llama.pad_tokens", "{tiles = 2 : i64, multiple = 4 : i64}", {x})[0];
  expectNear(y, wanted, 0);
  expectNear(execute("llama.drop_tokens", "{tiles = 2 : i64, tokens = 3 : i64}", {y})[0], x, 0);
}

TEST(Taps, AreInterleavedAfterTheFinalState) {
  Array final = draw({1, 2, 3}), t0 = draw({1, 2, 3}), t1 = draw({1, 2, 3});
  Array wanted = {{1, 2, 9}, "f64", std::vector<double>(18)};
  for (int r = 0; r < 2; ++r)
    for (int c = 0; c < 3; ++c) {
      wanted[r * 9 + c] = final[r * 3 + c];
      wanted[r * 9 + 3 + 2 * c] = t0[r * 3 + c];
      wanted[r * 9 + 3 + 2 * c + 1] = t1[r * 3 + c];
    }
  Array y = execute("llama.tap_concat", "{}", {final, t0, t1})[0];
  expectNear(y, wanted, 0);
  std::vector<Array> parts = execute("llama.tap_split", "{taps = 2 : i64}", {y});
  expectNear(parts[0], final, 0);
  expectNear(parts[1], t0, 0);
  expectNear(parts[2], t1, 0);
}

TEST(Views, KeepTheOrderOfElements) {
  Array heads = draw({2, 3, 2, 4}), images = draw({4, 5, 3}),
        tiles = integers({2, 2}, {1, 1, 1, 1});
  Array merged = execute("llama.merge_heads", "{}", {heads})[0];
  expectNear(merged, {{2, 3, 8}, "f64", heads.values}, 0);
  expectNear(execute("llama.split_heads", "{head_size = 4 : i64}", {merged})[0], heads, 0);
  Array tokens = execute("llama.images_to_tokens", "{}", {images, tiles})[0];
  expectNear(tokens, {{2, 10, 3}, "f64", images.values}, 0);
  expectNear(execute("llama.tokens_to_images", "{}", {tokens, tiles})[0], images, 0);
}

//===----------------------------------------------------------------------===//
// Loss, optimizer
//===----------------------------------------------------------------------===//

// The four ops together are the cross-entropy of the valid rows; their gradients
// together are cotangent * (softmax - target), 0 on rows without a label.
TEST(CrossEntropy, ChainAndGradient) {
  const int R = 4, V = 5;
  Array logits = draw({2, 2, V}), labels = integers({2, 2}, {3, -100, 0, 4});
  double wanted = 0;
  Array wantedGradient = like(logits);
  const double cotangent = 0.25;
  for (int r = 0; r < R; ++r) {
    double sum = 0;
    for (int v = 0; v < V; ++v)
      sum += std::exp(logits[r * V + v]);
    if (labels[r] < 0)
      continue;
    wanted += std::log(sum) - logits[r * V + labels[r]];
    for (int v = 0; v < V; ++v)
      wantedGradient[r * V + v] =
          cotangent * (std::exp(logits[r * V + v]) / sum - (v == labels[r]));
  }
  Array maximum = execute("llama.row_max", kStatistics, {logits})[0];
  Array sum = execute("llama.row_sum_exp", kStatistics, {logits, maximum})[0];
  Array target = execute("llama.target_logit", kStatistics, {logits, labels})[0];
  EXPECT_EQ(target[1], 0); // no label
  Array loss = execute("llama.cross_entropy", "{}", {maximum, sum, target, labels})[0];
  ASSERT_EQ(loss.size(), 1u);
  EXPECT_NEAR(loss[0], wanted, 1e-12);

  Array one = {{1}, "f64", {cotangent}};
  std::vector<Array> d = execute("llama.cross_entropy_grad", "{}", {one, sum, labels});
  Array dLogits = execute("llama.row_sum_exp_grad", kStatistics, {d[0], logits, maximum})[0];
  Array dTarget =
      execute("llama.target_logit_grad", "{size = 5 : i64, element_type = f64}", {d[1], labels})[0];
  for (size_t i = 0; i < dLogits.size(); ++i)
    dLogits[i] += dTarget[i];
  expectNear(dLogits, wantedGradient);
}

// Log-sum-exp of each part of the vocabulary, the logit of the label, and their gradients. Logits that are
// large stay in range.
TEST(LinearLse, FormulaAndGradient) {
  const int R = 4, D = 3, V = 6, P = 2;
  Array x = draw({2, 2, D}), w = draw({V, D}), bias = draw({V}),
        labels = integers({2, 2}, {3, -100, 0, 5});
  for (int c = 0; c < D; ++c)
    x[c] += 400; // row 0
  Array lse = {{2, 2, P}, "f64", std::vector<double>(R * P)},
        target = like({{2, 2}, "f64", {0, 0, 0, 0}});
  for (int r = 0; r < R; ++r) {
    std::vector<double> logits(V);
    for (int v = 0; v < V; ++v) {
      logits[v] = bias[v];
      for (int c = 0; c < D; ++c)
        logits[v] += x[r * D + c] * w[v * D + c];
    }
    for (int p = 0; p < P; ++p) {
      double largest =
          *std::max_element(logits.begin() + p * V / P, logits.begin() + (p + 1) * V / P);
      double sum = 0;
      for (int v = p * V / P; v < (p + 1) * V / P; ++v)
        sum += std::exp(logits[v] - largest);
      lse[r * P + p] = largest + std::log(sum);
    }
    target[r] = labels[r] < 0 ? 0 : logits[labels[r]];
  }
  const char *attributes = "{parts = 2 : i64, chunk = 0 : i64, statistics = f64}";
  std::vector<Array> got = execute("llama.linear_lse", attributes, {x, w, labels, bias});
  expectNear(got[0], lse);
  expectNear(got[1], target);

  for (int c = 0; c < D; ++c)
    x[c] -= 400; // differences of large numbers say little
  Array dLse = draw({2, 2, P}), dTarget = draw({2, 2});
  Array formed = execute("llama.linear_lse", attributes, {x, w, labels, bias})[0];
  std::vector<Array> gradients =
      execute("llama.linear_lse_grad",
              "{chunk = 0 : i64, statistics = f64, accumulation = f64, element_type = f64}",
              {dLse, dTarget, x, w, labels, formed, bias});
  ASSERT_EQ(gradients.size(), 2u);
  CompiledOp op("llama.linear_lse", attributes, {x, w, labels, bias});
  auto loss = [&] {
    std::vector<Array> results = op({x, w, labels, bias});
    double sum = 0;
    for (size_t i = 0; i < dLse.size(); ++i)
      sum += dLse[i] * results[0][i];
    for (size_t i = 0; i < dTarget.size(); ++i)
      sum += dTarget[i] * results[1][i];
    return sum;
  };
  Array *inputs[] = {&x, &w};
  for (int g = 0; g < 2; ++g)
    for (size_t i = 0; i < inputs[g]->size(); ++i) {
      const double step = 1e-5, value = (*inputs[g])[i];
      (*inputs[g])[i] = value + step;
      double above = loss();
      (*inputs[g])[i] = value - step;
      double below = loss();
      (*inputs[g])[i] = value;
      EXPECT_NEAR(gradients[g][i], (above - below) / (2 * step),
                  1e-7 * (1 + std::abs(above - below) / step))
          << "gradient " << g << " element " << i;
    }
}

TEST(TakeTokens, ReadsTokensOfItsSampleAndIsZeroElsewhere) {
  Array x = draw({2, 3, 2}), tokens = integers({2, 2}, {2, -1, 0, 3});
  Array wanted = {{2, 2, 2}, "f64", {x[4], x[5], 0, 0, x[6], x[7], 0, 0}};
  expectNear(execute("llama.take_tokens", "{}", {x, tokens})[0], wanted, 0);
}

// Large logits: the maximum keeps exponentials in range.
TEST(CrossEntropy, StaysFinite) {
  Array logits = {{1, 3}, "f32", {1e4, 1e4 - 1, -1e4}};
  Array maximum = execute("llama.row_max", "{statistics = f32}", {logits})[0];
  Array sum = execute("llama.row_sum_exp", "{statistics = f32}", {logits, maximum})[0];
  EXPECT_EQ(maximum[0], 1e4);
  EXPECT_NEAR(sum[0], 1 + std::exp(-1.0), 1e-6);
}

TEST(SumOfSquares, SumsAllRows) {
  Array x = draw({3072});
  double wanted = 0;
  for (double value : x.values)
    wanted += value * value;
  EXPECT_NEAR(execute("llama.sum_of_squares", "{}", {x})[0][0], wanted, 1e-9);
}

TEST(AddOnce, AddsWhereTheFactorIsNotZero) {
  Array sum = {{1}, "f64", {0.1}}, one = {{1}, "f64", {1}}, none = {{1}, "f64", {0}};
  const double third = double(1 / 3.f);
  Array value = {{1}, "f32", {third}}, infinite = {{1}, "f32", {INFINITY}},
        nan = {{1}, "f32", {NAN}};
  auto add = [&](const Array &value, const Array &factor) {
    return execute("llama.add_once", "{}", {sum, value, factor})[0][0];
  };
  EXPECT_EQ(add(value, one), 0.1 + third); // in f64
  EXPECT_EQ(add(value, none), 0.1);
  EXPECT_EQ(add(infinite, none), 0.1);
  EXPECT_EQ(add(nan, none), 0.1);
  EXPECT_EQ(add(infinite, one), INFINITY);
}

// As torch.nn.utils.clip_grad_norm_.
TEST(ClipNorm, ScalesDownToTheNorm) {
  auto scaleOf = [&](double clip, double loss, double squares) {
    Array sums = {{2}, "f64", {loss, squares}};
    Array given = {{8}, "f64", {clip, 0.1, 2, 3, 4, 5, 6, 7}};
    Array result = execute("llama.clip_norm", "{element_type = f32}", {sums, given})[0];
    EXPECT_EQ(result[1], double(0.1f));
    for (int i = 2; i < 8; ++i)
      EXPECT_EQ(result[i], i);
    return result[0];
  };
  EXPECT_EQ(scaleOf(3, 1, 36), double(float(3 / 6.000001)));
  EXPECT_EQ(scaleOf(3, 1, 4), 1);
  EXPECT_EQ(scaleOf(0, 1, 1e18), 1); // never
  EXPECT_EQ(scaleOf(3, 1, 0), 1);
  for (double what : {double(INFINITY), double(NAN)}) {
    EXPECT_TRUE(std::isnan(scaleOf(3, what, 4)));
    EXPECT_TRUE(std::isnan(scaleOf(3, 1, what)));
    EXPECT_TRUE(std::isnan(scaleOf(0, -what, 4)));
  }
}

TEST(AdamW, IsAlgorithm2) {
  Array p = draw({16}), m = draw({16}), v = draw({16}), g = draw({16});
  for (double &value : v.values)
    value *= value;
  const double scale = 0.5, rate = 0.01, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-3, decay = 0.1;
  const double correction1 = 1 - beta1 * beta1, correction2 = 1 - beta2 * beta2;
  Array h = {{8}, "f64", {scale, rate, beta1, beta2, epsilon, decay, correction1, correction2}};
  Array p1 = like(p), m1 = like(m), v1 = like(v);
  for (int i = 0; i < 16; ++i) {
    m1[i] = beta1 * m[i] + (1 - beta1) * scale * g[i];
    v1[i] = beta2 * v[i] + (1 - beta2) * scale * g[i] * scale * g[i];
    p1[i] = p[i] * (1 - rate * decay) -
            rate * (m1[i] / correction1) / (std::sqrt(v1[i] / correction2) + epsilon);
  }
  std::vector<Array> results = execute("llama.adamw", "{}", {p, m, v, g, h});
  expectNear(results[0], p1);
  expectNear(results[1], m1);
  expectNear(results[2], v1);

  h[0] = NAN; // no update
  results = execute("llama.adamw", "{}", {p, m, v, g, h});
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(results[0][i], p[i]);
    EXPECT_EQ(results[1][i], m[i]);
    EXPECT_EQ(results[2][i], v[i]);
  }
}
