//===- LlamaOps.cpp - Ops of the llama dialect ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/PatternMatch.h"

using namespace mlir;
using namespace mlir::llama;

#define GET_OP_CLASSES
#include "dialects/Llama/IR/LlamaOps.cpp.inc"

//===----------------------------------------------------------------------===//
// ApplyOp
//===----------------------------------------------------------------------===//

void ApplyOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  // Gradients are the only state: reading and writing keeps order and liveness.
  if (!getGradients().empty()) {
    effects.emplace_back(MemoryEffects::Read::get());
    effects.emplace_back(MemoryEffects::Write::get());
  }
}

LogicalResult ApplyOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto block = symbols.lookupNearestSymbolFrom<func::FuncOp>(*this, getBlockAttr());
  if (!block || !block->hasAttr(kBlockAttr)) // apply_c1
    return emitOpError("expects '")
           << getBlock() << "' to name a function with the attribute " << kBlockAttr;

  SmallVector<Type> arguments(getInputs().getTypes()), results(getResultTypes());
  auto addTypes = [&](ArrayAttr names, bool gradients) -> LogicalResult {
    for (Attribute name : names) {
      auto symbol = cast<FlatSymbolRefAttr>(name);
      auto parameter = symbols.lookupNearestSymbolFrom<ParameterOp>(*this, symbol);
      if (!parameter) // apply_c4
        return emitOpError("expects '") << symbol.getValue() << "' to name a llama.parameter";
      if (!gradients) {
        arguments.push_back(parameter.getType());
        continue;
      }
      if (parameter.getFrozen()) // apply_c4
        return emitOpError("expects a trainable parameter, but '")
               << symbol.getValue() << "' is frozen";
      unsigned index = arguments.size();
      if (index >= block.getNumArguments()) // apply_c2
        return emitOpError("expects a block with ")
               << "at least " << index + 1 << " arguments, but '" << getBlock() << "' has "
               << block.getNumArguments();
      Type type = block.getFunctionType().getInput(index);
      auto tensor = dyn_cast<RankedTensorType>(type);
      if (!tensor || tensor.getShape() != parameter.getTensorType().getShape()) // apply_c2
        return emitOpError("expects argument ")
               << index << " of '" << getBlock() << "' to be a gradient of '" << symbol.getValue()
               << "' (" << parameter.getType() << "), but got " << type;
      arguments.push_back(type);
      results.push_back(type);
    }
    return success();
  };
  if (failed(addTypes(getParameters(), false)) || failed(addTypes(getGradients(), true)))
    return failure();
  auto wanted = FunctionType::get(getContext(), arguments, results);
  if (block.getFunctionType() != wanted) { // apply_c2, apply_c3
    auto error = emitOpError("expects '") << getBlock() << "' to have type " << wanted
                                          << ", but got " << block.getFunctionType();
    error.attachNote(block.getLoc()) << "the block is here";
    return error;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Canonicalizations
//===----------------------------------------------------------------------===//

// A view of the inverse view is the original.
template <typename Op, typename Inverse>
static LogicalResult foldInverse(Op op, PatternRewriter &rewriter) {
  auto inner = op.getInput().template getDefiningOp<Inverse>();
  if (!inner || inner.getInput().getType() != op.getType())
    return failure();
  rewriter.replaceOp(op, inner.getInput());
  return success();
}

LogicalResult SplitHeadsOp::canonicalize(SplitHeadsOp op, PatternRewriter &rewriter) {
  return foldInverse<SplitHeadsOp, MergeHeadsOp>(op, rewriter);
}

LogicalResult MergeHeadsOp::canonicalize(MergeHeadsOp op, PatternRewriter &rewriter) {
  return foldInverse<MergeHeadsOp, SplitHeadsOp>(op, rewriter);
}

OpFoldResult CastOp::fold(FoldAdaptor) {
  return getInput().getType() == getType() ? getInput() : OpFoldResult();
}
