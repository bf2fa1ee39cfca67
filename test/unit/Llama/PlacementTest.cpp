//===- PlacementTest.cpp - The rules of the ops are right -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every op runs on two ranks in every way that its placement rule allows, each rank on
// its parts of the operands. Put together as the rule says, the results have to be those
// of the op on whole operands.
//
//===----------------------------------------------------------------------===//
#include "Execute.h"

#include "dialects/Dist/IR/DistPlacement.h"

#include <cmath>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>

using namespace llamac_test;
using mlir::dist::Choice;
using mlir::dist::OnAxis;

static size_t product(const std::vector<int64_t> &shape) {
  size_t count = 1;
  for (int64_t size : shape)
    count *= size;
  return count;
}

static Array floats(std::vector<int64_t> shape, double least = -1) {
  static std::mt19937 generator(5);
  std::uniform_real_distribution<double> uniform(least, 1);
  Array array = {shape, "f64", std::vector<double>(product(shape))};
  for (double &value : array.values)
    value = uniform(generator);
  return array;
}

// Integers from `least` on, below `below`.
static Array integers(std::vector<int64_t> shape, int64_t below, int64_t least = 0) {
  static std::mt19937 generator(6);
  Array array = {shape, "i64", std::vector<double>(product(shape))};
  for (double &value : array.values)
    value = double(least + int64_t(generator() % (below - least)));
  return array;
}

static Array counting(std::vector<int64_t> shape) {
  Array array = {shape, "i64", std::vector<double>(product(shape))};
  for (size_t i = 0; i < array.size(); ++i)
    array[i] = double(i % shape.back());
  return array;
}

// Half `rank` of the array along `dimension`.
static Array half(const Array &array, unsigned dimension, int rank) {
  Array part = {array.shape, array.type, {}};
  part.shape[dimension] /= 2;
  size_t inner = 1;
  for (size_t d = dimension + 1; d < array.shape.size(); ++d)
    inner *= array.shape[d];
  size_t run = part.shape[dimension] * inner; // elements of the half that lie together
  for (size_t i = 0; i < array.size(); ++i)
    if (int(i / run % 2) == rank)
      part.values.push_back(array[i]);
  return part;
}

namespace {
struct Instance {
  std::string op, attributes;
  std::vector<Array> inputs;
};
} // namespace

// What rank `rank` has of operand `index`, and what the rank's op says of its size.
static std::vector<Array> inputsOf(const Instance &op, const mlir::llama::PlacementRule &rule,
                                   const Choice &choice, int rank, int64_t rows) {
  std::vector<Array> inputs;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    Array input = op.inputs[i];
    if (choice.operands[i].kind == OnAxis::Split)
      input = half(input, choice.operands[i].dimension, rank);
    else if (choice.operands[i].kind == OnAxis::Sum) // two summands, none of them simple
      for (size_t j = 0; j < input.size(); ++j)
        input[j] = rank ? input[j] - std::sin(j + i) : std::sin(j + i);
    if (rule.rows && rule.rows->operand == i && rule.rows->index == choice.index)
      for (double &row : input.values) {
        row -= rank * rows;
        row = row >= 0 && row < rows ? row : -1;
      }
    inputs.push_back(input);
  }
  return inputs;
}

// Whether two ranks can share the index: its size is even, and what is outside of it in a
// dimension is 1.
static bool canSplit(const Instance &op, const mlir::llama::PlacementRule &rule,
                     const std::vector<Array> &results, char index) {
  std::map<char, int64_t> sizes; // of indices with a dimension of their own
  bool fits = true;
  for (bool known : {false, true}) {
    auto visit = [&](const std::vector<Array> &arrays, llvm::ArrayRef<std::string> letters) {
      for (size_t i = 0; i < arrays.size(); ++i) {
        auto dimensions = mlir::dist::dimensionsOf(letters[i]);
        for (size_t d = 0; d < dimensions.size(); ++d) {
          int64_t size = arrays[i].shape[d];
          if (!known && dimensions[d].size() == 1)
            sizes[dimensions[d][0]] = size;
          if (!known || !dimensions[d].contains(index))
            continue;
          for (char outer : dimensions[d].take_until([&](char c) { return c == index; }))
            fits &= sizes[outer] == 1;
          fits &= (sizes.count(index) ? sizes[index] : size) % 2 == 0;
        }
      }
    };
    visit(op.inputs, rule.operands);
    visit(results, rule.results);
  }
  return fits;
}

static int ways = 0; // that were tested

static void expectRuleHolds(const Instance &op) {
  SCOPED_TRACE(op.op + " " + op.attributes);
  auto rule = placementRule(op.op, op.attributes, op.inputs);
  auto want = execute(op.op, op.attributes, op.inputs);
  for (const Choice &choice : mlir::dist::choicesOf(rule)) {
    SCOPED_TRACE(choice.isLinear ? std::string("partial sums")
                                 : std::string("index ") + choice.index);
    if (!choice.index && !choice.isLinear)
      continue;
    if (!canSplit(op, rule, want, choice.index))
      continue;
    ++ways;

    int64_t rows = 0, ofResults = 0; // which may have fewer: parts
    const bool counts = (rule.rows && rule.rows->index == choice.index) ||
                        (rule.size && rule.size->index == choice.index);
    std::string attributes = op.attributes;
    for (size_t i = 0; i < want.size(); ++i)
      if (counts && choice.results[i].kind == OnAxis::Split)
        rows = ofResults = want[i].shape[choice.results[i].dimension] / 2;
    for (size_t i = 0; i < op.inputs.size(); ++i)
      if (counts && choice.operands[i].kind == OnAxis::Split)
        rows = std::max(rows, op.inputs[i].shape[choice.operands[i].dimension] / 2);
    if (rule.size && rule.size->index == choice.index) {
      std::string whole = rule.size->attribute.str() + " = " + std::to_string(2 * ofResults);
      size_t at = attributes.find(whole);
      ASSERT_NE(at, std::string::npos) << whole;
      attributes.replace(at, whole.size(),
                         rule.size->attribute.str() + " = " + std::to_string(ofResults));
    }
    std::vector<std::vector<Array>> ranks;
    for (int rank : {0, 1})
      ranks.push_back(execute(op.op, attributes, inputsOf(op, rule, choice, rank, rows)));
    for (size_t i = 0; i < want.size(); ++i)
      for (int rank : {0, 1}) {
        Array expected = want[i], got = ranks[rank][i];
        if (choice.results[i].kind == OnAxis::Split) {
          expected = half(want[i], choice.results[i].dimension, rank);
        } else if (choice.results[i].isPartial()) {
          for (size_t j = 0; j < got.size(); ++j)
            got[j] = choice.results[i].kind == OnAxis::Sum
                         ? ranks[0][i][j] + ranks[1][i][j]
                         : std::max(ranks[0][i][j], ranks[1][i][j]);
        }
        ASSERT_EQ(got.shape, expected.shape) << "result " << i;
        for (size_t j = 0; j < got.size(); ++j)
          ASSERT_NEAR(got[j], expected[j], 1e-11 * (1 + std::abs(expected[j])))
              << "result " << i << " element " << j << " rank " << rank;
      }
  }
}

static std::vector<Instance> instances() {
  const std::string norm = "{epsilon = 1.0e-5 : f64, statistics = f64}",
                    normSum = "{epsilon = 1.0e-5 : f64, statistics = f64, accumulation = f64}",
                    statistics = "{statistics = f64}", sum = "{accumulation = f64}";
  Array x = floats({2, 4, 6}), heads = floats({2, 4, 2, 4}), one = floats({1});
  Array ids = integers({2, 4}, 10, -1), labels = integers({2, 4}, 6, -2),
        logits = floats({2, 4, 6});
  Array perRow = floats({2, 4}, 0.5);
  std::vector<Instance> all = {
      {"llama.embed", "{}", {ids, floats({8, 4})}},
      {"llama.embed", "{offset = 4 : i64}", {ids, floats({4, 4})}},
      {"llama.embed_grad",
       "{rows = 8 : i64, offset = 0 : i64, accumulation = f64}",
       {floats({2, 4, 4}), integers({2, 4}, 8)}},
      {"llama.embed_grad",
       "{rows = 4 : i64, offset = 4 : i64, accumulation = f64}",
       {floats({2, 4, 4}), integers({2, 4}, 8)}},
      {"llama.shift_index", "{size = 4 : i64, padding_index = 5 : i64}", {ids, integers({1}, 2)}},
      {"llama.rms_norm", norm, {x, floats({6})}},
      {"llama.rms_norm", norm, {heads, floats({4})}},
      {"llama.rms_norm_dx", norm, {floats({2, 4, 6}), x, floats({6})}},
      {"llama.rms_norm_dw", normSum, {floats({2, 4, 6}), x}},
      {"llama.rms_norm_dw", normSum, {floats({2, 4, 2, 4}), heads}},
      {"llama.layer_norm", norm, {x, floats({6}), floats({6})}},
      {"llama.layer_norm_dx", norm, {floats({2, 4, 6}), x, floats({6})}},
      {"llama.layer_norm_dw", normSum, {floats({2, 4, 6}), x}},
      {"llama.sum_rows", sum, {x}},
      {"llama.linear", sum, {x, floats({4, 6})}},
      {"llama.linear", sum, {x, floats({4, 6}), floats({4})}},
      {"llama.linear_dx", sum, {floats({2, 4, 4}), floats({4, 6})}},
      {"llama.linear_dw", sum, {floats({2, 4, 4}), x}},
      {"llama.rope_table", "{frequencies = array<f64: 1.0, 0.1>, statistics = f64}", {ids}},
      {"llama.rope", "{}", {heads, floats({2, 4, 2, 2})}},
      {"llama.split_heads", "{head_size = 2 : i64}", {floats({2, 4, 8})}},
      {"llama.merge_heads", "{}", {heads}},
      {"llama.swiglu", statistics, {x, floats({2, 4, 6})}},
      {"llama.swiglu_grad", statistics, {floats({2, 4, 6}), x, floats({2, 4, 6})}},
      {"llama.gelu", statistics, {x}},
      {"llama.gelu_grad", statistics, {floats({2, 4, 6}), x}},
      {"llama.add", "{}", {x, floats({2, 4, 6})}},
      {"llama.add", "{}", {floats({4, 6}), floats({4, 6})}},
      {"llama.add", "{}", {floats({6}), floats({6})}},
      {"llama.cast", "{element_type = f64}", {x}},
      {"llama.tap_concat", "{}", {x, floats({2, 4, 6}), floats({2, 4, 6})}},
      {"llama.tap_split", "{taps = 1 : i64}", {x}},
      {"llama.row_max", statistics, {logits}},
      {"llama.row_sum_exp", statistics, {logits, perRow}},
      {"llama.row_sum_exp_grad", statistics, {perRow, logits, floats({2, 4})}},
      {"llama.target_logit", statistics, {logits, labels}},
      {"llama.target_logit_grad", "{size = 6 : i64, element_type = f64}", {perRow, labels}},
      {"llama.linear_lse",
       "{parts = 2 : i64, chunk = 0 : i64, statistics = f64}",
       {floats({2, 4, 3}), floats({6, 3}), labels}},
      {"llama.linear_lse",
       "{parts = 2 : i64, chunk = 0 : i64, statistics = f64}",
       {floats({2, 4, 3}), floats({6, 3}), labels, floats({6})}},
      {"llama.linear_lse_grad",
       "{chunk = 0 : i64, statistics = f64, accumulation = f64, element_type = f64}",
       {floats({2, 4, 2}), perRow, floats({2, 4, 3}), floats({6, 3}), labels, floats({2, 4, 2})}},
      {"llama.take_tokens", "{}", {x, integers({2, 3}, 5)}},
      {"llama.cross_entropy", "{}", {floats({2, 4}), perRow, floats({2, 4}), labels}},
      {"llama.cross_entropy_grad", "{}", {one, perRow, labels}},
      // Tokens of tiles stay whole; sums pass through some.
      {"llama.patchify",
       "{patch_size = 2 : i64, element_type = f64}",
       {floats({1, 2, 4, 3, 4, 4})}},
      {"llama.tile_embed_add",
       statistics,
       {floats({2, 8, 4}), floats({9, 4, 4}), one, integers({2, 1}, 9)}},
      {"llama.tile_embed_grad",
       sum,
       {floats({2, 8, 4}), floats({9, 4, 4}), one, integers({2, 1}, 9)}},
      {"llama.prepend_class", "{tiles = 4 : i64}", {floats({2, 8, 4}), floats({4})}},
      {"llama.drop_class", "{tiles = 4 : i64}", {floats({2, 12, 4})}},
      {"llama.take_class", "{tiles = 4 : i64}", {floats({2, 12, 4})}},
      {"llama.position_embed_add", statistics, {floats({2, 8, 4}), floats({2, 4}), one}},
      {"llama.position_embed_grad", sum, {floats({2, 8, 4}), floats({2, 4}), one}},
      {"llama.pad_tokens", "{tiles = 4 : i64, multiple = 4 : i64}", {floats({2, 12, 4})}},
      {"llama.drop_tokens", "{tiles = 4 : i64, tokens = 2 : i64}", {floats({2, 12, 4})}},
      {"llama.images_to_tokens", "{}", {floats({4, 6, 4}), integers({2, 2}, 4)}},
      {"llama.tokens_to_images", "{}", {floats({2, 12, 4}), integers({2, 2}, 4)}},
      {"llama.sum_of_squares", "{}", {floats({1024})}},
      {"llama.add_once", "{}", {floats({1}), floats({1}), floats({1})}},
      {"llama.clip_norm", "{element_type = f64}", {floats({2}), floats({8})}},
      {"llama.adamw",
       "{}",
       {floats({4}), floats({4}), floats({4}, 0), floats({4}), floats({8}, 0.5)}},
  };
  Array begin = integers({2, 4}, 3), end = integers({2, 4}, 3);
  for (std::string rows : {"none", "present", "image"}) {
    std::vector<Array> masks;
    if (rows != "none")
      masks = {begin, end};
    auto with = [&](std::vector<Array> inputs) {
      inputs.insert(inputs.end(), masks.begin(), masks.end());
      return inputs;
    };
    std::string mask = "{rows = #llama.rows<" + rows + ">, ";
    all.push_back(
        {"llama.gated_residual", mask + "statistics = f64}", with({x, floats({2, 4, 6}), one})});
    all.push_back({"llama.gated_residual_grad", mask + "statistics = f64}", with({x, one})});
    all.push_back(
        {"llama.gate_grad", mask + "accumulation = f64}", with({x, floats({2, 4, 6}), one})});
  }
  // Queries of 4 tokens in 4 heads; keys with 2 heads, or 1.
  for (int64_t keyHeads : {2, 1})
    for (std::string mask : {"causal", "encoder", "images"}) {
      int64_t keys = mask == "encoder" ? 12 : 16;
      std::vector<Array> masks;
      if (mask == "causal")
        masks = {integers({2, 4}, 8), integers({2, 4}, 2), counting({2, keys}),
                 integers({2, keys}, 2, -1)};
      else if (mask == "encoder")
        masks = {integers({2, 1}, 5, 1), counting({1, 4})};
      else
        masks = {integers({2, 4}, 2), integers({2, 4}, 3, 1), integers({2, 2}, 5, 1)};
      std::string attributes =
          "{mask = #llama.mask<" + mask + ">, scale = 0.5 : f64, tile_count = 4 : i64, " +
          (mask == "encoder" ? "tile_stride = 3 : i64, " : "tile_stride = 2 : i64, ") +
          "tile_tokens = 2 : i64, statistics = f64}";
      Array q = floats({2, 4, 4, 2}), k = floats({2, keys, keyHeads, 2}),
            v = floats({2, keys, keyHeads, 2});
      std::vector<Array> inputs = {q, k, v};
      inputs.insert(inputs.end(), masks.begin(), masks.end());
      all.push_back({"llama.attention", attributes, inputs});
      auto results = execute("llama.attention", attributes, inputs);
      inputs = {floats({2, 4, 4, 2}), q, k, v, results[0], results[1]};
      inputs.insert(inputs.end(), masks.begin(), masks.end());
      all.push_back({"llama.attention_grad", attributes, inputs});
    }
  return all;
}

TEST(Placement, EveryWayOfEveryOp) {
  std::set<std::string> tested;
  for (const Instance &instance : instances()) {
    expectRuleHolds(instance);
    tested.insert(instance.op);
  }
  for (const std::string &name : opsWithPlacementRule())
    EXPECT_TRUE(tested.count(name)) << name << " is not tested";
  EXPECT_GE(ways, 180);
}
