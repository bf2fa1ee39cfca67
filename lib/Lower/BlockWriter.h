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

/// Makes the constant that llrt_launch takes as kernel on some target for `op` of a block, a
/// func.call of an outlined loop or a gpu.launch_func, and returns its symbol; empty if `op` is a
/// call to be made as it is. Fails after an error.
using KernelMaker = llvm::function_ref<FailureOr<std::string>(Operation *op)>;

/// The block of a module and the functions that it calls (`routine.chunks`), these first; none if it
/// has no block. Emits an error if it has several.
FailureOr<SmallVector<func::FuncOp>> blocksOf(ModuleOp module);

/// Writes the function `void NAME(LlrtStream *, void **buffers)` of a block whose loops are
/// functions or kernels of the module already, in its place. What it calls has been written before.
/// Its temporaries begin at multiples of `alignment` bytes. Emits an error if it has anything but
/// calls of loops, routines and functions of the block, launches, buffers and constants.
LogicalResult writeBlock(func::FuncOp block, ModuleOp module, int64_t alignment,
                         KernelMaker kernelOf);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_BLOCKWRITER_H
