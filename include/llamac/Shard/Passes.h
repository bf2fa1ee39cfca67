//===- Passes.h - Training graph to the graph of one rank -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SHARD_PASSES_H
#define LLAMAC_SHARD_PASSES_H

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Pass/Pass.h"

namespace mlir::llamac {

#define GEN_PASS_DECL
#include "llamac/Shard/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "llamac/Shard/Passes.h.inc"

} // namespace mlir::llamac

#endif // LLAMAC_SHARD_PASSES_H
