//===- Passes.h - Training graph to parallel program -----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PARALLELIZE_PASSES_H
#define LLAMAC_PARALLELIZE_PASSES_H

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Pass/Pass.h"

namespace mlir::llamac {

/// Module attribute: floating-point operations of one call of each program, all
/// micro-batches of one coordinate of the axis dp together, `{forward = N : i64, step = N : i64}`.
inline constexpr llvm::StringLiteral kOperationsAttr = "llama.operations";

#define GEN_PASS_DECL
#include "llamac/Parallelize/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "llamac/Parallelize/Passes.h.inc"
} // namespace mlir::llamac

#endif // LLAMAC_PARALLELIZE_PASSES_H
