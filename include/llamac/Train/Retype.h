//===- Retype.h - Give a model graph other types ---------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TRAIN_RETYPE_H
#define LLAMAC_TRAIN_RETYPE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// The function `@model` of `module`, or null after an error.
func::FuncOp findModel(ModuleOp module);

/// Gives the arguments of `block` the types `arguments` and infers the rest. `update` may
/// change the attributes of an op before its result types are inferred. Fails, with a
/// message, if an op has types that cannot be inferred.
LogicalResult retypeBlock(func::FuncOp block, ArrayRef<Type> arguments,
                          llvm::function_ref<void(Operation *)> update);

/// Gives the inputs of `@model` the types `inputs` and carries them, and the
/// types of the parameters, through all applications and blocks by inference.
/// `update` may change the attributes of an op of a block before its result
/// types are inferred. Fails, with a message, if two applications of a block
/// disagree or an op's types cannot be inferred.
LogicalResult retypeModel(ModuleOp module, ArrayRef<Type> inputs,
                          llvm::function_ref<void(Operation *)> update);

} // namespace mlir::llamac

#endif // LLAMAC_TRAIN_RETYPE_H
