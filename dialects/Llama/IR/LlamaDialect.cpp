//===- LlamaDialect.cpp - The llama dialect -------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::llama;

#include "dialects/Llama/IR/LlamaDialect.cpp.inc"
#include "dialects/Llama/IR/LlamaEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Llama/IR/LlamaAttributes.cpp.inc"

void LlamaDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Llama/IR/LlamaAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Llama/IR/LlamaOps.cpp.inc"
      >();
}

bool llama::equalButForEncodings(TypeRange a, TypeRange b) {
  auto bare = [](Type type) -> Type {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor ? tensor.dropEncoding() : type;
  };
  return a.size() == b.size() && llvm::all_of(llvm::zip(a, b), [&](auto types) {
           return bare(std::get<0>(types)) == bare(std::get<1>(types));
         });
}

RankedTensorType llama::cotangentType(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  auto argument = dyn_cast<BlockArgument>(value);
  if (!argument)
    return type;
  auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  if (!function)
    return type;
  auto element = function.getArgAttrOfType<TypeAttr>(argument.getArgNumber(), kGradientTypeAttr);
  return element ? type.clone(element.getValue()) : type;
}
