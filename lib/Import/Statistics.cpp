//===- Statistics.cpp - Sizes and costs of a model graph ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The cost of a block is counted once, then added for each of its applications.
// The parts are those of the llama3-vision specification, D3.
//
//===----------------------------------------------------------------------===//
#include "llamac/Import/Statistics.h"

#include "dialects/Llama/IR/Llama.h"

#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace mlir::llama;
using llamac::Count;

// Operations of one application of `block`.
static FailureOr<Count> countBlock(func::FuncOp block) {
  Count operations = 0;
  auto walk = block.walk([&](CostOpInterface op) {
    for (Value operand : op->getOperands()) {
      auto type = dyn_cast<ShapedType>(operand.getType());
      if (type && !type.hasStaticShape()) {
        op->emitError("expects static shapes to count operations, but got ") << type;
        return WalkResult::interrupt();
      }
    }
    operations += op.countOperations();
    return WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();
  return operations;
}

FailureOr<llamac::OperationCounts> llamac::countOperations(ModuleOp module) {
  auto model = module.lookupSymbol<func::FuncOp>("model");
  if (!model)
    return module.emitError("expects a function @model");
  OperationCounts counts;
  llvm::StringMap<Count> costs;
  for (auto apply : model.getOps<ApplyOp>()) {
    StringRef name = apply.getBlock();
    auto [known, isNew] = costs.try_emplace(name, 0);
    if (isNew) {
      auto block = module.lookupSymbol<func::FuncOp>(name);
      if (!block)
        return apply.emitError("expects a block @") << name;
      FailureOr<Count> cost = countBlock(block);
      if (failed(cost))
        return failure();
      known->second = *cost;
    }
    Count *part = llvm::StringSwitch<Count *>(name)
                      .Case("vision_output", &counts.projector)
                      .StartsWith("vision_", &counts.encoder)
                      .Case("cross_key_value", &counts.crossKeyValue)
                      .Case("cross_layer", &counts.cross)
                      .Case("head", &counts.head)
                      .Default(&counts.text);
    *part += known->second;
  }
  return counts;
}

llamac::ParameterCounts llamac::countParameters(ModuleOp module) {
  ParameterCounts counts;
  for (auto parameter : module.getOps<ParameterOp>()) {
    int64_t elements = parameter.getTensorType().getNumElements();
    // The parts of a checkpoint tensor are one tensor: its first part counts.
    counts.tensors += parameter.getRowBegin().value_or(0) == 0;
    counts.elements += elements;
    if (!parameter.getFrozen())
      counts.trainable += elements;
  }
  return counts;
}
