//===- BlockWriter.h - A block as calls on buffers -------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_BLOCKWRITER_H
#define LLAMAC_LIB_LOWER_BLOCKWRITER_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// A call of an outlined loop.
struct LoopCall {
  LLVM::LLVMFuncOp loop; ///< (buffers, low, high)
  int64_t low, high;     ///< its iterations
  int64_t grain;         ///< how many are worth a thread; 0 if they are not independent
};

/// Makes the constant kernel that llrt_launch takes for a loop on some target, and returns its
/// symbol; empty if the loop is to be called as it is.
using KernelMaker = llvm::function_ref<std::string(const LoopCall &call)>;

/// Writes the function `void NAME(LlrtStream *, void **buffers)` of a block whose loops are
/// functions of the module already. `block` itself stays, under another name. Emits an error if
/// it has anything but calls of loops and routines, buffers and constants.
LogicalResult writeBlock(func::FuncOp block, ModuleOp module, KernelMaker kernelOf);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_BLOCKWRITER_H
