//===- Count.h - Numbers of operations and bytes ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_IMPORT_COUNT_H
#define LLAMAC_IMPORT_COUNT_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/StringExtras.h"

namespace mlir::llamac {

/// A sum of operations or of bytes: a step of a large model has more than 2^63 operations. An op
/// alone counts at most 2^63 - 1, which stands for more.
__extension__ using Count = __int128;

/// An attribute that holds a count: an i64 where it fits, else an i128.
inline IntegerAttr countAttr(Builder &builder, Count count) {
  const unsigned width = count == int64_t(count) ? 64 : 128;
  const uint64_t words[] = {uint64_t(count), uint64_t(count >> 64)};
  return builder.getIntegerAttr(builder.getIntegerType(width),
                                llvm::APInt(width, llvm::ArrayRef(words, width / 64)));
}

/// Its digits.
inline std::string countText(Count count) {
  return llvm::toString(llvm::APInt(128, {uint64_t(count), uint64_t(count >> 64)}), 10,
                        /*Signed=*/true);
}

} // namespace mlir::llamac

#endif // LLAMAC_IMPORT_COUNT_H
