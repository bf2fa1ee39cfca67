//===- OpInterfaces.h - Questions every op can answer ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_INTERFACES_OPINTERFACES_H
#define LLAMAC_INTERFACES_OPINTERFACES_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpDefinition.h"

namespace mlir::llama::detail {
/// Bytes of all operands and results of `op`, each once; shapes must be static.
int64_t bytesOfOperandsAndResults(Operation *op);
} // namespace mlir::llama::detail

#include "dialects/Interfaces/OpInterfaces.h.inc"

#endif // LLAMAC_INTERFACES_OPINTERFACES_H
