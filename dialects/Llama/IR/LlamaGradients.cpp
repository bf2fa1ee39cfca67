//===- LlamaGradients.cpp - Vector-Jacobian products of the llama ops -----===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One `buildVjp` per forward op (llama3-vision specification D2). The element
// type of a gradient is that of `cotangentType`: a parameter's gradient has the
// accumulation type from the start, so no rounding happens before it is summed.
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

using namespace mlir;
using namespace mlir::llama;

using Gradients = SmallVector<Value>;

static Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

// Element type in which the gradient of `value` is formed, as an attribute.
static TypeAttr gradientElement(Value value) {
  return TypeAttr::get(cotangentType(value).getElementType());
}

static Value castTo(OpBuilder &b, Location loc, Value value, Type element) {
  return elementOf(value) == element ? value
                                     : CastOp::create(b, loc, value, TypeAttr::get(element));
}

// Passes a cotangent on to an operand unchanged but for its element type.
static Value passTo(OpBuilder &b, Location loc, Value cotangent, Value operand) {
  return castTo(b, loc, cotangent, cotangentType(operand).getElementType());
}

Gradients EmbedOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  if (!wanted[1])
    return {Value(), Value()};
  int64_t rows = cast<RankedTensorType>(getTable().getType()).getDimSize(0);
  return {Value(),
          EmbedGradOp::create(b, getLoc(), ct[0], getIds(), b.getI64IntegerAttr(rows),
                              getOffsetAttr(), getPaddingIndexAttr(), gradientElement(getTable()))};
}

Gradients RMSNormOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Value dx, dw;
  if (wanted[0])
    dx = passTo(b, getLoc(),
                RMSNormDxOp::create(b, getLoc(), ct[0], getInput(), getWeight(), getEpsilonAttr(),
                                    getStatisticsAttr()),
                getInput());
  if (wanted[1])
    dw = RMSNormDwOp::create(b, getLoc(), ct[0], getInput(), getEpsilonAttr(), getStatisticsAttr(),
                             gradientElement(getWeight()));
  return {dx, dw};
}

Gradients LayerNormOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Value dx, dw, db;
  if (wanted[0])
    dx = passTo(b, getLoc(),
                LayerNormDxOp::create(b, getLoc(), ct[0], getInput(), getWeight(), getEpsilonAttr(),
                                      getStatisticsAttr()),
                getInput());
  if (wanted[1])
    dw = LayerNormDwOp::create(b, getLoc(), ct[0], getInput(), getEpsilonAttr(),
                               getStatisticsAttr(), gradientElement(getWeight()));
  if (wanted[2])
    db = SumRowsOp::create(b, getLoc(), ct[0], gradientElement(getBias()));
  return {dx, dw, db};
}

Gradients LinearOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  // A cotangent wider than the weight (f32 logits, f32 image states) is rounded
  // once, as an input of the two products.
  Value dy = castTo(b, getLoc(), ct[0], elementOf(getWeight()));
  Gradients gradients(getNumOperands());
  if (wanted[0])
    gradients[0] = LinearDxOp::create(b, getLoc(), dy, getWeight(), getAccumulationAttr(),
                                      gradientElement(getInput()));
  if (wanted[1])
    gradients[1] = LinearDwOp::create(b, getLoc(), dy, getInput(), gradientElement(getWeight()));
  if (getBias() && wanted[2])
    gradients[2] = SumRowsOp::create(b, getLoc(), dy, gradientElement(getBias()));
  return gradients;
}

Gradients RopeOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Value dx =
      RopeOp::create(b, getLoc(), ct[0], getTable(), getInverse() ? UnitAttr() : b.getUnitAttr());
  return {passTo(b, getLoc(), dx, getInput()), Value()};
}

Gradients SplitHeadsOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  return {passTo(b, getLoc(), MergeHeadsOp::create(b, getLoc(), ct[0]), getInput())};
}

Gradients MergeHeadsOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  int64_t headSize = cast<RankedTensorType>(getInput().getType()).getShape().back();
  Value dx = SplitHeadsOp::create(b, getLoc(), ct[0], b.getI64IntegerAttr(headSize));
  return {passTo(b, getLoc(), dx, getInput())};
}

Gradients AttentionOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Gradients gradients(getNumOperands());
  auto gradient = AttentionGradOp::create(b, getLoc(), ct[0], getQuery(), getKey(), getValue(),
                                          getResult(), getLse(), getMasks(), getMaskAttr(),
                                          getScaleAttr(), getTileCountAttr(), getTileStrideAttr(),
                                          getTileTokensAttr(), getStatisticsAttr());
  for (unsigned i = 0; i < 3; ++i)
    if (wanted[i])
      gradients[i] = passTo(b, getLoc(), gradient.getResult(i), getOperand(i));
  return gradients;
}

Gradients SwiGLUOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  auto gradient = SwiGLUGradOp::create(b, getLoc(), ct[0], getGate(), getUp(), getStatisticsAttr());
  return {passTo(b, getLoc(), gradient.getDGate(), getGate()),
          passTo(b, getLoc(), gradient.getDUp(), getUp())};
}

Gradients GeluOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Value dx = GeluGradOp::create(b, getLoc(), ct[0], getInput(), getStatisticsAttr());
  return {passTo(b, getLoc(), dx, getInput())};
}

Gradients AddOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  return {wanted[0] ? passTo(b, getLoc(), ct[0], getLhs()) : Value(),
          wanted[1] ? passTo(b, getLoc(), ct[0], getRhs()) : Value()};
}

Gradients CastOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  return {passTo(b, getLoc(), ct[0], getInput())};
}

Gradients GatedResidualOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Gradients gradients(getNumOperands());
  if (wanted[0])
    gradients[0] = passTo(b, getLoc(), ct[0], getInput());
  if (wanted[1])
    gradients[1] = passTo(b, getLoc(),
                          GatedResidualGradOp::create(b, getLoc(), ct[0], getGate(), getMasks(),
                                                      getRowsAttr(), getStatisticsAttr()),
                          getBranch());
  if (wanted[2])
    gradients[2] = GateGradOp::create(b, getLoc(), ct[0], getBranch(), getGate(), getMasks(),
                                      getRowsAttr(), gradientElement(getGate()));
  return gradients;
}

Gradients TileEmbedAddOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Value dx, dTable, dGate;
  if (wanted[0])
    dx = passTo(b, getLoc(), ct[0], getInput());
  if (wanted[1] || wanted[2]) {
    auto gradient = TileEmbedGradOp::create(b, getLoc(), ct[0], getTable(), getGate(), getIds(),
                                            gradientElement(getTable()));
    dTable = wanted[1] ? gradient.getDTable() : Value();
    dGate = wanted[2] ? gradient.getDGate() : Value();
  }
  return {dx, dTable, dGate, Value()};
}

Gradients PrependClassOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Value dx, dToken;
  if (wanted[0])
    dx = passTo(b, getLoc(), DropClassOp::create(b, getLoc(), ct[0], getTilesAttr()), getInput());
  if (wanted[1])
    dToken = SumRowsOp::create(b, getLoc(), TakeClassOp::create(b, getLoc(), ct[0], getTilesAttr()),
                               gradientElement(getToken()));
  return {dx, dToken};
}

Gradients PositionEmbedAddOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Value dx, dTable, dGate;
  if (wanted[0])
    dx = passTo(b, getLoc(), ct[0], getInput());
  if (wanted[1] || wanted[2]) {
    auto gradient = PositionEmbedGradOp::create(b, getLoc(), ct[0], getTable(), getGate(),
                                                gradientElement(getTable()));
    dTable = wanted[1] ? gradient.getDTable() : Value();
    dGate = wanted[2] ? gradient.getDGate() : Value();
  }
  return {dx, dTable, dGate};
}

Gradients PadTokensOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  int64_t tokens = cast<RankedTensorType>(getInput().getType()).getDimSize(1) / getTiles();
  Value dx = DropTokensOp::create(b, getLoc(), ct[0], getTilesAttr(), b.getI64IntegerAttr(tokens));
  return {passTo(b, getLoc(), dx, getInput())};
}

Gradients DropTokensOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  // Pad to exactly the input's tokens: they are the next multiple of themselves.
  int64_t tokens = cast<RankedTensorType>(getInput().getType()).getDimSize(1) / getTiles();
  Value dx = PadTokensOp::create(b, getLoc(), ct[0], getTilesAttr(), b.getI64IntegerAttr(tokens));
  return {passTo(b, getLoc(), dx, getInput())};
}

Gradients TapConcatOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  auto split = TapSplitOp::create(b, getLoc(), ct[0], b.getI64IntegerAttr(getTaps().size()));
  Gradients gradients;
  for (auto [part, operand] : llvm::zip_equal(split->getResults(), getOperands()))
    gradients.push_back(passTo(b, getLoc(), part, operand));
  return gradients;
}

Gradients ImagesToTokensOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Value dx = TokensToImagesOp::create(b, getLoc(), ct[0], getLike());
  return {passTo(b, getLoc(), dx, getInput()), Value()};
}

Gradients RowSumExpOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  return {
      RowSumExpGradOp::create(b, getLoc(), ct[0], getLogits(), getMaximum(), getStatisticsAttr()),
      Value()};
}

Gradients TargetLogitOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  auto logits = cast<RankedTensorType>(getLogits().getType());
  return {TargetLogitGradOp::create(b, getLoc(), ct[0], getLabels(),
                                    b.getI64IntegerAttr(logits.getShape().back()),
                                    TypeAttr::get(logits.getElementType())),
          Value()};
}

Gradients LinearLseOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  Gradients gradients(getNumOperands());
  if (!ct[1])
    return gradients; // a target that nothing reads
  auto gradient =
      LinearLseGradOp::create(b, getLoc(), ct[0], ct[1], getInput(), getWeight(), getLabels(),
                              getLse(), getBias(), getChunkAttr(), getStatisticsAttr(),
                              gradientElement(getWeight()), gradientElement(getInput()));
  for (unsigned i = 0; i < 2; ++i)
    if (wanted[i])
      gradients[i] = gradient.getResult(i);
  return gradients;
}

Gradients CrossEntropyOp::buildVjp(OpBuilder &b, ValueRange ct, ArrayRef<bool> wanted) {
  auto gradient = CrossEntropyGradOp::create(b, getLoc(), ct[0], getSum(), getLabels());
  return {Value(), gradient.getDSum(), gradient.getDTarget(), Value()};
}
