//===- LlamaPlacement.cpp - How the llama ops may be split ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The placement rule of each op: which dimensions of operands and results are one
// index. Letters: b samples, a images, s tokens (of queries), t tokens of keys, h
// heads of keys and values, g query heads that share one of them, d head size, c
// channels, k channels that are summed over, n rows of a weight, v vocabulary, u the
// one element of a scalar.
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

using namespace mlir;
using namespace mlir::llama;

static int64_t rankOf(Value value) { return cast<RankedTensorType>(value.getType()).getRank(); }

// Letters of `count` leading dimensions: samples, tokens, heads; rows if only one.
static std::string leading(int64_t count) {
  if (count <= 1)
    return std::string(std::max<int64_t>(count, 0), 'r');
  return std::string("bshijlopqwyz").substr(0, count);
}
// Those of the rows of `value`: all dimensions but the last.
static std::string rows(Value value) { return leading(rankOf(value) - 1); }

// Every dimension of every operand and result is whole.
static PlacementRule wholeRule(Operation *op, SmallVector<unsigned> linear = {}) {
  PlacementRule rule;
  char letter = 'A';
  auto add = [&](SmallVector<std::string> &tensors, Value value) {
    std::string &letters = tensors.emplace_back();
    for (int64_t i = 0, rank = rankOf(value); i < rank; ++i)
      letters += letter++;
    rule.whole += letters;
  };
  for (Value operand : op->getOperands())
    add(rule.operands, operand);
  for (Value result : op->getResults())
    add(rule.results, result);
  rule.linear = std::move(linear);
  return rule;
}

// `results` of the shape of `operands`, each element by itself.
static PlacementRule elementwise(Operation *op, SmallVector<unsigned> linear = {}) {
  PlacementRule rule;
  std::string letters = rows(op->getOperand(0)) + "c";
  if (rankOf(op->getOperand(0)) == 0)
    letters.clear();
  rule.operands.assign(op->getNumOperands(), letters);
  rule.results.assign(op->getNumResults(), letters);
  rule.linear = std::move(linear);
  return rule;
}

//===----------------------------------------------------------------------===//
// Embedding, norms, linear layers
//===----------------------------------------------------------------------===//

PlacementRule EmbedOp::getPlacementRule() {
  std::string l = leading(rankOf(getIds()));
  return {{l, "vc"}, {l + "c"}, getOffset() ? "v" : "", "", {}, PlacementRule::Rows{0, 'v'}};
}

PlacementRule EmbedGradOp::getPlacementRule() {
  std::string l = leading(rankOf(getIds()));
  return {{l + "c", l},
          {"vc"},
          getOffset() ? "v" : "",
          "",
          {},
          PlacementRule::Rows{1, 'v'},
          PlacementRule::Size{"rows", 'v'}};
}

PlacementRule ShiftIndexOp::getPlacementRule() {
  std::string l = leading(rankOf(getIds()));
  return {{l, "u"}, {l}, "u"};
}

PlacementRule RMSNormOp::getPlacementRule() {
  std::string x = rows(getInput()) + "c";
  return {{x, "c"}, {x}, "c"};
}

PlacementRule RMSNormDxOp::getPlacementRule() {
  std::string x = rows(getInput()) + "c";
  return {{x, x, "c"}, {x}, "c"};
}

PlacementRule RMSNormDwOp::getPlacementRule() {
  std::string x = rows(getInput()) + "c";
  return {{x, x}, {"c"}, "c"};
}

PlacementRule LayerNormOp::getPlacementRule() {
  std::string x = rows(getInput()) + "c";
  return {{x, "c", "c"}, {x}, "c"};
}

PlacementRule LayerNormDxOp::getPlacementRule() {
  std::string x = rows(getInput()) + "c";
  return {{x, x, "c"}, {x}, "c"};
}

PlacementRule LayerNormDwOp::getPlacementRule() {
  std::string x = rows(getInput()) + "c";
  return {{x, x}, {"c"}, "c"};
}

PlacementRule SumRowsOp::getPlacementRule() {
  return {{rows(getInput()) + "c"}, {"c"}, "", "", {0}};
}

// With a bias k may not be split: every part would add the bias.
PlacementRule LinearOp::getPlacementRule() {
  std::string l = rows(getInput());
  if (getBias())
    return {{l + "k", "nk", "n"}, {l + "n"}, "k"};
  return {{l + "k", "nk"}, {l + "n"}, "", "", {0}};
}

PlacementRule LinearDxOp::getPlacementRule() {
  std::string l = rows(getCotangent());
  return {{l + "n", "nk"}, {l + "k"}, "", "", {0}};
}

PlacementRule LinearDwOp::getPlacementRule() {
  std::string l = rows(getInput());
  return {{l + "n", l + "k"}, {"nk"}, "", "", {0}};
}

//===----------------------------------------------------------------------===//
// Rotary positions, heads, attention
//===----------------------------------------------------------------------===//

PlacementRule RopeTableOp::getPlacementRule() { return {{"bs"}, {"bsxi"}, "xi"}; }

PlacementRule RopeOp::getPlacementRule() { return {{"bshd", "bsxi"}, {"bshd"}, "dxi", "", {0}}; }

PlacementRule SplitHeadsOp::getPlacementRule() {
  std::string l = rows(getInput());
  return {{l + "(hd)"}, {l + "hd"}, "d", "", {0}};
}

PlacementRule MergeHeadsOp::getPlacementRule() {
  std::string l = leading(rankOf(getInput()) - 2);
  return {{l + "hd"}, {l + "(hd)"}, "d", "", {0}};
}

// Queries may be split where keys are whole: every query sees all keys. Where ranks
// share a head of keys and values (g), its gradients are partial sums.
static void addMasks(PlacementRule &rule, Mask mask) {
  rule.whole = "tdmu";
  switch (mask) {
  case Mask::Causal:
    rule.operands.append({"bs", "bs", "bt", "bt"});
    break;
  case Mask::Encoder:
    rule.operands.append({"xm", "us"});
    rule.whole += "xb"; // b is x and m
    break;
  case Mask::Images:
    rule.operands.append({"bs", "bs", "bm"});
    break;
  }
}

PlacementRule AttentionOp::getPlacementRule() {
  PlacementRule rule = {{"bs(hg)d", "bthd", "bthd"}, {"bs(hg)d", "bs(hg)"}};
  addMasks(rule, getMask());
  return rule;
}

PlacementRule AttentionGradOp::getPlacementRule() {
  PlacementRule rule = {{"bs(hg)d", "bs(hg)d", "bthd", "bthd", "bs(hg)d", "bs(hg)"},
                        {"bs(hg)d", "bthd", "bthd"}};
  addMasks(rule, getMask());
  return rule;
}

//===----------------------------------------------------------------------===//
// Element by element; gated branches
//===----------------------------------------------------------------------===//

PlacementRule SwiGLUOp::getPlacementRule() { return elementwise(*this); }
PlacementRule SwiGLUGradOp::getPlacementRule() { return elementwise(*this); }
PlacementRule GeluOp::getPlacementRule() { return elementwise(*this); }
PlacementRule GeluGradOp::getPlacementRule() { return elementwise(*this); }
PlacementRule AddOp::getPlacementRule() { return elementwise(*this, {0, 1}); }
PlacementRule CastOp::getPlacementRule() { return elementwise(*this, {0}); }

PlacementRule GatedResidualOp::getPlacementRule() {
  std::string x = rows(getInput()) + "c";
  PlacementRule rule = {{x, x, "u"}, {x}, "u"};
  rule.operands.append(getMasks().size(), "bs");
  return rule;
}

PlacementRule GatedResidualGradOp::getPlacementRule() {
  std::string x = rows(getCotangent()) + "c";
  PlacementRule rule = {{x, "u"}, {x}, "u"};
  rule.operands.append(getMasks().size(), "bs");
  return rule;
}

PlacementRule GateGradOp::getPlacementRule() {
  std::string x = rows(getCotangent()) + "c";
  PlacementRule rule = {{x, x, "u"}, {"u"}, "u"};
  rule.operands.append(getMasks().size(), "bs");
  return rule;
}

//===----------------------------------------------------------------------===//
// Vision: an image's tokens lie in tiles, which are not cut
//===----------------------------------------------------------------------===//

PlacementRule PatchifyOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule TileEmbedAddOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule TileEmbedGradOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule PrependClassOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule DropClassOp::getPlacementRule() { return wholeRule(*this, {0}); }
PlacementRule TakeClassOp::getPlacementRule() { return wholeRule(*this, {0}); }
PlacementRule PositionEmbedAddOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule PositionEmbedGradOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule PadTokensOp::getPlacementRule() { return wholeRule(*this, {0}); }
PlacementRule DropTokensOp::getPlacementRule() { return wholeRule(*this, {0}); }
PlacementRule ImagesToTokensOp::getPlacementRule() { return wholeRule(*this, {0}); }
PlacementRule TokensToImagesOp::getPlacementRule() { return wholeRule(*this, {0}); }

PlacementRule TapConcatOp::getPlacementRule() {
  std::string l = rows(getFinal());
  PlacementRule rule = {{}, {l + "e"}, "ce"};
  rule.operands.assign(getNumOperands(), l + "c");
  return rule;
}

PlacementRule TapSplitOp::getPlacementRule() {
  std::string l = rows(getInput());
  PlacementRule rule = {{l + "e"}, {}, "ce", "", {0}};
  rule.results.assign(getNumResults(), l + "c");
  return rule;
}

//===----------------------------------------------------------------------===//
// Loss, optimizer
//===----------------------------------------------------------------------===//

PlacementRule RowMaxOp::getPlacementRule() {
  std::string l = rows(getLogits());
  return {{l + "v"}, {l}, "", "v"};
}

PlacementRule RowSumExpOp::getPlacementRule() {
  std::string l = rows(getLogits());
  return {{l + "v", l}, {l}};
}

PlacementRule RowSumExpGradOp::getPlacementRule() {
  std::string l = rows(getLogits());
  return {{l, l + "v", l}, {l + "v"}};
}

PlacementRule TargetLogitOp::getPlacementRule() {
  std::string l = rows(getLogits());
  return {{l + "v", l}, {l}, "", "", {}, PlacementRule::Rows{1, 'v'}};
}

PlacementRule TargetLogitGradOp::getPlacementRule() {
  std::string l = leading(rankOf(getLabels()));
  return {
      {l, l}, {l + "v"}, "", "", {}, PlacementRule::Rows{1, 'v'}, PlacementRule::Size{"size", 'v'}};
}

PlacementRule TakeTokensOp::getPlacementRule() {
  return {{"bsc", "bk"}, {"bkc"}, "k", "", {}, PlacementRule::Rows{1, 's'}};
}

// The parts of the vocabulary are split as it is.
PlacementRule LinearLseOp::getPlacementRule() {
  std::string l = rows(getInput());
  PlacementRule rule = {{l + "k", "vk", l}, {l + "v", l}, "k"};
  if (getBias())
    rule.operands.push_back("v");
  rule.rows = PlacementRule::Rows{2, 'v'};
  rule.size = PlacementRule::Size{"parts", 'v'};
  return rule;
}

PlacementRule LinearLseGradOp::getPlacementRule() {
  std::string l = rows(getInput());
  PlacementRule rule = {{l + "v", l, l + "k", "vk", l, l + "v"}, {l + "k", "vk"}, "k"};
  if (getBias())
    rule.operands.push_back("v");
  rule.rows = PlacementRule::Rows{4, 'v'};
  return rule;
}

PlacementRule CrossEntropyOp::getPlacementRule() {
  std::string l = leading(rankOf(getLabels()));
  return {{l, l, l, l}, {"u"}, "u"};
}

PlacementRule CrossEntropyGradOp::getPlacementRule() {
  std::string l = leading(rankOf(getLabels()));
  return {{"u", l, l}, {l, l}, "u"};
}

PlacementRule SumOfSquaresOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule AddOnceOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule ClipNormOp::getPlacementRule() { return wholeRule(*this); }
PlacementRule AdamWOp::getPlacementRule() { return wholeRule(*this); }
