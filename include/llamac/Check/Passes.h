//===- Passes.h - What is proved of a device program ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_CHECK_PASSES_H
#define LLAMAC_CHECK_PASSES_H

#include "llamac/Lower/Target.h"

#include "mlir/Pass/Pass.h"

namespace mlir::llamac {

#define GEN_PASS_DECL
#include "llamac/Check/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "llamac/Check/Passes.h.inc"

/// As the pass without, but for a target that is there.
std::unique_ptr<Pass> createCheckPass(std::shared_ptr<const Target> target);

} // namespace mlir::llamac

#endif // LLAMAC_CHECK_PASSES_H
