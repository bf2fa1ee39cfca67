//===- Passes.h - Model graph to training graph ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TRAIN_PASSES_H
#define LLAMAC_TRAIN_PASSES_H

#include "mlir/Pass/Pass.h"

namespace mlir::llamac {
#define GEN_PASS_DECL
#include "llamac/Train/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "llamac/Train/Passes.h.inc"
} // namespace mlir::llamac

#endif // LLAMAC_TRAIN_PASSES_H
