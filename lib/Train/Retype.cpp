//===- Retype.cpp - Give a model graph other types ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Train/Retype.h"

#include "dialects/Llama/IR/Llama.h"

using namespace mlir;
using namespace mlir::llama;

func::FuncOp llamac::findModel(ModuleOp module) {
  auto model = module.lookupSymbol<func::FuncOp>("model");
  if (!model || !model.getBody().hasOneBlock()) {
    module.emitError("expects a model graph: a function '@model' with one block");
    return {};
  }
  return model;
}

// Sets the argument types of `block` and infers the rest.
LogicalResult llamac::retypeBlock(func::FuncOp block, ArrayRef<Type> arguments,
                                  llvm::function_ref<void(Operation *)> update) {
  Block &body = block.getBody().front();
  for (auto [argument, type] : llvm::zip_equal(body.getArguments(), arguments))
    argument.setType(type);
  for (Operation &op : body.without_terminator()) {
    update(&op);
    auto inferable = dyn_cast<InferTypeOpInterface>(op);
    if (!inferable)
      return op.emitOpError("cannot be re-typed: its result types are not inferred");
    SmallVector<Type> types;
    if (failed(inferable.inferReturnTypes(op.getContext(), op.getLoc(), op.getOperands(),
                                          op.getRawDictionaryAttrs(), op.getPropertiesStorage(),
                                          op.getRegions(), types)))
      return failure();
    for (auto [result, type] : llvm::zip_equal(op.getResults(), types))
      result.setType(type);
  }
  block.setFunctionType(
      FunctionType::get(block.getContext(), arguments, body.getTerminator()->getOperandTypes()));
  return success();
}

LogicalResult llamac::retypeModel(ModuleOp module, ArrayRef<Type> inputs,
                                  llvm::function_ref<void(Operation *)> update) {
  func::FuncOp model = findModel(module);
  if (!model)
    return failure();
  Block &body = model.getBody().front();
  for (auto [argument, type] : llvm::zip_equal(body.getArguments(), inputs))
    argument.setType(type);

  SymbolTable symbols(module);
  llvm::DenseMap<Operation *, ApplyOp> firstUse;
  for (Operation &op : body.without_terminator()) {
    auto apply = dyn_cast<ApplyOp>(op);
    if (!apply)
      return op.emitOpError("is not allowed in '@model': it applies blocks and nothing else");
    auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
    if (!block)
      return apply.emitOpError("applies an unknown block '") << apply.getBlock() << "'";
    if (!block.getBody().hasOneBlock())
      return block.emitOpError("expects a body of one block");
    SmallVector<Type> arguments(apply.getInputs().getTypes());
    for (Attribute name : apply.getParameters()) {
      auto symbol = cast<FlatSymbolRefAttr>(name).getValue();
      auto parameter = symbols.lookup<ParameterOp>(symbol);
      if (!parameter)
        return apply.emitOpError("names an unknown parameter '") << symbol << "'";
      arguments.push_back(parameter.getType());
    }
    if (arguments.size() != block.getNumArguments())
      return apply.emitOpError("passes ") << arguments.size() << " values to '" << apply.getBlock()
                                          << "', which takes " << block.getNumArguments();
    auto [first, isNew] = firstUse.try_emplace(block, apply);
    if (isNew) {
      if (failed(retypeBlock(block, arguments, update)))
        return failure();
    } else if (arguments != llvm::to_vector(block.getArgumentTypes())) {
      auto error = apply.emitOpError("applies '")
                   << apply.getBlock() << "' to other types than before";
      error.attachNote(first->second.getLoc()) << "applied here before";
      return failure();
    }
    for (auto [result, type] : llvm::zip_equal(apply.getResults(), block.getResultTypes()))
      result.setType(type);
  }
  model.setFunctionType(
      FunctionType::get(module.getContext(), inputs, body.getTerminator()->getOperandTypes()));
  return success();
}
