//===- RuntimeTable.cpp - Constants that the runtime reads ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/RuntimeTable.h"

#include "llvm/IR/Module.h"
#include "llvm/Support/ErrorHandling.h"

using namespace mlir;
using namespace mlir::llamac;

RuntimeTable::RuntimeTable(llvm::Module &module)
    : module(module), context(module.getContext()), pointer(llvm::PointerType::get(context, 0)),
      i64(llvm::Type::getInt64Ty(context)) {}

llvm::Constant *RuntimeTable::global(llvm::Constant *value, StringRef symbol) {
  return new llvm::GlobalVariable(module, value->getType(), /*isConstant=*/true,
                                  symbol.empty() ? llvm::GlobalValue::PrivateLinkage
                                                 : llvm::GlobalValue::ExternalLinkage,
                                  value, symbol);
}

llvm::Constant *RuntimeTable::numbers(ArrayRef<int64_t> values) {
  return llvm::ConstantDataArray::get(context, values);
}

llvm::Constant *RuntimeTable::string(StringRef text) {
  llvm::Constant *&known = strings[text];
  if (!known)
    known = global(llvm::ConstantDataArray::getString(context, text));
  return known;
}

llvm::Constant *RuntimeTable::bytes(StringRef data) {
  if (data.empty())
    return null();
  return global(llvm::ConstantDataArray::getRaw(data, data.size(), llvm::Type::getInt8Ty(context)));
}

llvm::Constant *RuntimeTable::array(ArrayRef<llvm::Constant *> values) {
  llvm::Type *type = values.empty() ? pointer : values.front()->getType();
  return global(llvm::ConstantArray::get(llvm::ArrayType::get(type, values.size()), values));
}

llvm::Constant *RuntimeTable::structure(StringRef name, uint64_t size,
                                        MutableArrayRef<Place> places) {
  llvm::sort(places, [](const Place &a, const Place &b) { return a.offset < b.offset; });
  const llvm::DataLayout &layout = module.getDataLayout();
  auto wrong = [&](const Twine &what) {
    llvm::report_fatal_error("the table " + name + " does not agree with the runtime's: " + what,
                             /*gen_crash_diag=*/false);
  };
  uint64_t end = 0;
  SmallVector<llvm::Constant *> values;
  for (const Place &place : places) {
    llvm::Type *type = place.value->getType();
    if (place.offset != llvm::alignTo(end, layout.getABITypeAlign(type)))
      wrong("no value at byte " + Twine(end));
    if (layout.getTypeAllocSize(type) != place.size)
      wrong("a value of another size at byte " + Twine(place.offset));
    end = place.offset + place.size;
    values.push_back(place.value);
  }
  llvm::Constant *value = llvm::ConstantStruct::getAnon(context, values);
  if (layout.getTypeAllocSize(value->getType()) != size)
    wrong("no value at byte " + Twine(end));
  return value;
}
