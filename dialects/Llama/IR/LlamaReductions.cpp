//===- LlamaReductions.cpp - What the llama ops sum up --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The reductions of each op, which the precision report lists: over what, in which type,
// how many terms a sum has. Most lengths follow from the placement rule: a sum goes over
// the indices that operands have and results have not. A statistic of a row keeps its
// index, so its op says how long the row is.
//
//   llama.linear_dw %dy, %x   "bsn", "bsk" -> "nk"   in `accumulation`, b * s terms
//   llama.rms_norm %x, %w     "bsc", "c" -> "bsc"    in `statistics`, c terms
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

using namespace mlir;
using namespace mlir::llama;

using Reductions = SmallVector<Reduction>;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static int64_t columns(Value value) { return tensorOf(value).getShape().back(); }
static int64_t elements(Value value) { return tensorOf(value).getNumElements(); }

// A sum over the indices that no result of `op` has; none if there is one term.
static Reductions contraction(Operation *op, Type type) {
  int64_t length = llama::detail::contractedElements(op);
  return length > 1 ? Reductions{{"", type, length}} : Reductions();
}

// The sum of a table's gradient over all that adds the table.
static Reductions perTable(Value cotangent, Value table, Type type) {
  return {{"", type,
           std::max<int64_t>(1, elements(cotangent) / std::max<int64_t>(1, elements(table)))}};
}

// Statistics of the rows of `value`.
static Reductions perRow(Value value, Type type) { return {{"", type, columns(value)}}; }

//===----------------------------------------------------------------------===//
// Embedding, norms, linear layers
//===----------------------------------------------------------------------===//

Reductions EmbedOp::getReductions() { return {}; }
Reductions EmbedGradOp::getReductions() { return contraction(*this, getAccumulation()); }
Reductions ShiftIndexOp::getReductions() { return {}; }
Reductions RMSNormOp::getReductions() { return perRow(getInput(), getStatistics()); }
Reductions RMSNormDxOp::getReductions() { return perRow(getCotangent(), getStatistics()); }
Reductions RMSNormDwOp::getReductions() { return contraction(*this, getAccumulation()); }
Reductions LayerNormOp::getReductions() { return perRow(getInput(), getStatistics()); }
Reductions LayerNormDxOp::getReductions() { return perRow(getCotangent(), getStatistics()); }
Reductions LayerNormDwOp::getReductions() { return contraction(*this, getAccumulation()); }
Reductions SumRowsOp::getReductions() { return contraction(*this, getAccumulation()); }
Reductions LinearOp::getReductions() { return contraction(*this, getAccumulation()); }
Reductions LinearDxOp::getReductions() { return contraction(*this, getAccumulation()); }
Reductions LinearDwOp::getReductions() { return contraction(*this, getAccumulation()); }

//===----------------------------------------------------------------------===//
// Rotary positions, heads, attention
//===----------------------------------------------------------------------===//

Reductions RopeTableOp::getReductions() { return {}; }
Reductions RopeOp::getReductions() { return {}; }
Reductions SplitHeadsOp::getReductions() { return {}; }
Reductions MergeHeadsOp::getReductions() { return {}; }

Reductions AttentionOp::getReductions() {
  return {{" over head", getStatistics(), columns(getKey())},
          {" over keys", getStatistics(), tensorOf(getKey()).getDimSize(1)}};
}

Reductions AttentionGradOp::getReductions() {
  RankedTensorType queries = tensorOf(getQuery()), keys = tensorOf(getKey());
  int64_t heads = keys.getDimSize(2); // of keys; a gradient is summed over those that share one
  return {{" over head", getStatistics(), columns(getKey())},
          {" over keys", getStatistics(), keys.getDimSize(1)},
          {" over queries", getStatistics(),
           queries.getDimSize(1) * (heads ? queries.getDimSize(2) / heads : 1)}};
}

//===----------------------------------------------------------------------===//
// Feed-forward, residual
//===----------------------------------------------------------------------===//

Reductions SwiGLUOp::getReductions() { return {}; }
Reductions SwiGLUGradOp::getReductions() { return {}; }
Reductions GeluOp::getReductions() { return {}; }
Reductions GeluGradOp::getReductions() { return {}; }
Reductions AddOp::getReductions() { return {}; }
Reductions CastOp::getReductions() { return {}; }
Reductions GatedResidualOp::getReductions() { return {}; }
Reductions GatedResidualGradOp::getReductions() { return {}; }
Reductions GateGradOp::getReductions() {
  return {{"", getAccumulation(), elements(getCotangent())}};
}

//===----------------------------------------------------------------------===//
// Vision
//===----------------------------------------------------------------------===//

Reductions PatchifyOp::getReductions() { return {}; }
Reductions TileEmbedAddOp::getReductions() { return {}; }
Reductions TileEmbedGradOp::getReductions() {
  return perTable(getCotangent(), getDTable(), getAccumulation());
}
Reductions PrependClassOp::getReductions() { return {}; }
Reductions DropClassOp::getReductions() { return {}; }
Reductions TakeClassOp::getReductions() { return {}; }
Reductions PositionEmbedAddOp::getReductions() { return {}; }
Reductions PositionEmbedGradOp::getReductions() {
  return perTable(getCotangent(), getDTable(), getAccumulation());
}
Reductions PadTokensOp::getReductions() { return {}; }
Reductions DropTokensOp::getReductions() { return {}; }
Reductions TapConcatOp::getReductions() { return {}; }
Reductions TapSplitOp::getReductions() { return {}; }
Reductions ImagesToTokensOp::getReductions() { return {}; }
Reductions TokensToImagesOp::getReductions() { return {}; }

//===----------------------------------------------------------------------===//
// Loss
//===----------------------------------------------------------------------===//

Reductions RowMaxOp::getReductions() {
  return {{"", getStatistics(), llama::detail::contractedElements(*this)}};
}
Reductions RowSumExpOp::getReductions() {
  return {{"", getStatistics(), llama::detail::contractedElements(*this)}};
}
Reductions RowSumExpGradOp::getReductions() { return {}; }
Reductions TargetLogitOp::getReductions() {
  return {{"", getStatistics(), llama::detail::contractedElements(*this)}};
}
Reductions TargetLogitGradOp::getReductions() { return {}; }
Reductions TakeTokensOp::getReductions() { return {}; }
Reductions LinearLseOp::getReductions() {
  return {{" over input", getStatistics(), columns(getInput())},
          {" over vocabulary", getStatistics(), tensorOf(getWeight()).getDimSize(0)}};
}
Reductions LinearLseGradOp::getReductions() {
  Reductions sums = {{" over input", getStatistics(), columns(getInput())}};
  if (!getDInput().use_empty())
    sums.push_back({" over vocabulary", getStatistics(), tensorOf(getWeight()).getDimSize(0)});
  if (!getDWeight().use_empty())
    sums.push_back({" over rows", getAccumulation(), elements(getLabels())});
  return sums;
}
Reductions CrossEntropyOp::getReductions() {
  return {{"", tensorOf(getResult()).getElementType(), elements(getMaximum())}};
}
Reductions CrossEntropyGradOp::getReductions() { return {}; }

//===----------------------------------------------------------------------===//
// Optimizer
//===----------------------------------------------------------------------===//

Reductions SumOfSquaresOp::getReductions() {
  return {{"", tensorOf(getResult()).getElementType(), elements(getInput())}};
}
Reductions AddOnceOp::getReductions() { return {}; }
Reductions ClipNormOp::getReductions() { return {}; }
Reductions AdamWOp::getReductions() { return {}; }
