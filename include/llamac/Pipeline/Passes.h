//===- Passes.h - Graphs of a rank to programs of stages --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PIPELINE_PASSES_H
#define LLAMAC_PIPELINE_PASSES_H

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Pass/Pass.h"

namespace mlir::llamac {

#define GEN_PASS_DECL
#include "llamac/Pipeline/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "llamac/Pipeline/Passes.h.inc"

} // namespace mlir::llamac

#endif // LLAMAC_PIPELINE_PASSES_H
