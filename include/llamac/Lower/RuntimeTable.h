//===- RuntimeTable.h - Constants that the runtime reads -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The tables of an executable are the structures of the runtime's own headers (llrt/Program.h,
// llrt/Kernels.h). A member is written by its name, which says where it lies and how large it is;
// a structure that is written lacks none:
//
//   table.structure<LlrtImage>({{&LlrtImage::chip, table.string("sm_80")}, ...})
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LOWER_RUNTIMETABLE_H
#define LLAMAC_LOWER_RUNTIMETABLE_H

#include "mlir/Support/LLVM.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/IR/Constants.h"
#include "llvm/Support/TypeName.h"

namespace mlir::llamac {

class RuntimeTable {
public:
  /// A member of the structure `T` and what is there.
  template <typename T> class Member {
  public:
    template <typename M>
    Member(M T::*member, llvm::Constant *value) : size(sizeof(M)), value(value) {
      static const T any{};
      offset =
          reinterpret_cast<const char *>(&(any.*member)) - reinterpret_cast<const char *>(&any);
    }
    uint64_t offset, size;
    llvm::Constant *value;
  };

  explicit RuntimeTable(llvm::Module &module);

  llvm::Constant *null() { return llvm::ConstantPointerNull::get(pointer); }
  llvm::Constant *number(uint64_t value) { return llvm::ConstantInt::get(i64, value); }
  /// An array of numbers within a structure.
  llvm::Constant *numbers(ArrayRef<int64_t> values);
  /// The address of a text that ends with a NUL; of equal ones the same.
  llvm::Constant *string(StringRef text);
  /// The address of bytes; null if there are none.
  llvm::Constant *bytes(StringRef data);
  /// The address of an array of constants of one type.
  llvm::Constant *array(ArrayRef<llvm::Constant *> values);
  /// The address of a constant that other modules know as `symbol`.
  llvm::Constant *define(StringRef symbol, llvm::Constant *value) { return global(value, symbol); }

  /// A constant `T`. All of its members must be given: else, or if one has another size, it is the
  /// compiler that is wrong, which ends with a message.
  template <typename T> llvm::Constant *structure(std::initializer_list<Member<T>> members) {
    SmallVector<Place> places;
    for (const Member<T> &member : members)
      places.push_back({member.offset, member.size, member.value});
    return structure(llvm::getTypeName<T>(), sizeof(T), places);
  }

private:
  struct Place {
    uint64_t offset, size;
    llvm::Constant *value;
  };
  llvm::Constant *structure(StringRef name, uint64_t size, MutableArrayRef<Place> places);
  llvm::Constant *global(llvm::Constant *value, StringRef symbol = {});

  llvm::Module &module;
  llvm::LLVMContext &context;
  llvm::PointerType *pointer;
  llvm::Type *i64;
  llvm::StringMap<llvm::Constant *> strings;
};

} // namespace mlir::llamac

#endif // LLAMAC_LOWER_RUNTIMETABLE_H
