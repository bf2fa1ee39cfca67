//===- LlamaVerifiers.cpp - Constraints of the llama ops ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

using namespace mlir;
using namespace mlir::llama;

LogicalResult EmbedOp::verify() { return success(); }
LogicalResult EmbedGradOp::verify() { return success(); }
LogicalResult RMSNormOp::verify() { return success(); }
LogicalResult RMSNormDxOp::verify() { return success(); }
LogicalResult RMSNormDwOp::verify() { return success(); }
LogicalResult LayerNormOp::verify() { return success(); }
LogicalResult LayerNormDxOp::verify() { return success(); }
LogicalResult LayerNormDwOp::verify() { return success(); }
LogicalResult SumRowsOp::verify() { return success(); }
LogicalResult LinearOp::verify() { return success(); }
LogicalResult LinearDxOp::verify() { return success(); }
LogicalResult LinearDwOp::verify() { return success(); }
LogicalResult RopeTableOp::verify() { return success(); }
LogicalResult RopeOp::verify() { return success(); }
LogicalResult SplitHeadsOp::verify() { return success(); }
LogicalResult MergeHeadsOp::verify() { return success(); }
LogicalResult AttentionOp::verify() { return success(); }
LogicalResult AttentionGradOp::verify() { return success(); }
LogicalResult SwiGLUOp::verify() { return success(); }
LogicalResult SwiGLUGradOp::verify() { return success(); }
LogicalResult GeluOp::verify() { return success(); }
LogicalResult GeluGradOp::verify() { return success(); }
LogicalResult AddOp::verify() { return success(); }
LogicalResult CastOp::verify() { return success(); }
LogicalResult GatedResidualOp::verify() { return success(); }
LogicalResult GatedResidualGradOp::verify() { return success(); }
LogicalResult GateGradOp::verify() { return success(); }
LogicalResult PatchifyOp::verify() { return success(); }
LogicalResult TileEmbedAddOp::verify() { return success(); }
LogicalResult TileEmbedGradOp::verify() { return success(); }
LogicalResult PrependClassOp::verify() { return success(); }
LogicalResult DropClassOp::verify() { return success(); }
LogicalResult TakeClassOp::verify() { return success(); }
LogicalResult PositionEmbedAddOp::verify() { return success(); }
LogicalResult PositionEmbedGradOp::verify() { return success(); }
LogicalResult PadTokensOp::verify() { return success(); }
LogicalResult DropTokensOp::verify() { return success(); }
LogicalResult TapConcatOp::verify() { return success(); }
LogicalResult TapSplitOp::verify() { return success(); }
LogicalResult ImagesToTokensOp::verify() { return success(); }
LogicalResult TokensToImagesOp::verify() { return success(); }
LogicalResult RowMaxOp::verify() { return success(); }
LogicalResult RowSumExpOp::verify() { return success(); }
LogicalResult RowSumExpGradOp::verify() { return success(); }
LogicalResult TargetLogitOp::verify() { return success(); }
LogicalResult TargetLogitGradOp::verify() { return success(); }
LogicalResult CrossEntropyOp::verify() { return success(); }
LogicalResult CrossEntropyGradOp::verify() { return success(); }
LogicalResult SumOfSquaresOp::verify() { return success(); }
LogicalResult AdamWOp::verify() { return success(); }
LogicalResult ParameterOp::verify() { return success(); }
