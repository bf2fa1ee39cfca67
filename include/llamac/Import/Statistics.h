//===- Statistics.h - Sizes and costs of a model graph ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_IMPORT_STATISTICS_H
#define LLAMAC_IMPORT_STATISTICS_H

#include "llamac/Import/Count.h"

#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// Floating-point operations of one forward of a micro-batch, by part.
struct OperationCounts {
  Count encoder = 0, projector = 0, crossKeyValue = 0, cross = 0, text = 0, head = 0;
  Count total() const { return encoder + projector + crossKeyValue + cross + text + head; }
};

/// Counts the operations of the blocks that `@model` applies, by the rule of
/// CostOpInterface. Needs static shapes; fails with a message otherwise.
FailureOr<OperationCounts> countOperations(ModuleOp module);

/// Parameters of a module: tensors as in a checkpoint (parts of one count once),
/// elements, and how many of them are trained.
struct ParameterCounts {
  Count tensors = 0, elements = 0, trainable = 0;
};
ParameterCounts countParameters(ModuleOp module);

} // namespace mlir::llamac

#endif // LLAMAC_IMPORT_STATISTICS_H
