//===- Routine.h - Calls of the runtime's routines -------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_ROUTINE_ROUTINE_H
#define LLAMAC_ROUTINE_ROUTINE_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/Routine/IR/RoutineDialect.h.inc"
#include "dialects/Routine/IR/RoutineEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Routine/IR/RoutineAttributes.h.inc"
#include "dialects/Routine/IR/RoutineInterfaces.h.inc"
#define GET_OP_CLASSES
#include "dialects/Routine/IR/RoutineOps.h.inc"

namespace mlir::routine {
/// The runtime's number of an element type (LlrtType of llrt/Kernels.h): f32, bf16, f64, else i64.
int64_t runtimeType(Type element);
} // namespace mlir::routine

#endif // LLAMAC_ROUTINE_ROUTINE_H
