//===- BlockWork.h - What a block asks of a GPU ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_BLOCKWORK_H
#define LLAMAC_LIB_LOWER_CUDA_BLOCKWORK_H

#include "llamac/Lower/Target.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

namespace mlir::llamac {

/// What `function`, the host's code of a block, and the kernels that it launches ask of a GPU. The
/// host's code may put launches and products into its stream, and handle addresses; all else halts.
BlockWork cudaBlockWork(LLVM::LLVMFuncOp function);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_BLOCKWORK_H
