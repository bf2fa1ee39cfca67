//===- NeededArenas.h - Which arenas a program needs ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_NEEDEDARENAS_H
#define LLAMAC_LIB_LOWER_NEEDEDARENAS_H

#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// Says of every program of `module`, whose addresses are all fixed, which arenas it needs and
/// how much of each (`needs` of dist.program).
LogicalResult stateNeededArenas(ModuleOp module);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_NEEDEDARENAS_H
