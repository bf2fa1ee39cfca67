//===- Passes.h - What a program costs --------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_COST_PASSES_H
#define LLAMAC_COST_PASSES_H

#include "mlir/Pass/Pass.h"

namespace mlir::llamac {

/// Module attribute: floating-point operations of one call of each program, all
/// micro-batches of one coordinate of the axis dp together, `{forward = N : i64, step = N : i64}`.
inline constexpr llvm::StringLiteral kOperationsAttr = "llama.operations";

#define GEN_PASS_DECL
#include "llamac/Cost/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "llamac/Cost/Passes.h.inc"

} // namespace mlir::llamac

#endif // LLAMAC_COST_PASSES_H
