//===- OpInterfaces.h - Questions every op can answer ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_INTERFACES_OPINTERFACES_H
#define LLAMAC_INTERFACES_OPINTERFACES_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/OpDefinition.h"

namespace mlir::llama {

/// How the dimensions of an op's operands and results hang together. A tensor is
/// written as one letter per dimension; the same letter is the same index, and
/// `(hd)` is a dimension that two indices share, the outer one first. So
/// `{{"bsk", "nk"}, {"bsn"}}` is a product: k, which no result has, is summed over.
/// `b` and `a` always are samples and images, `s` tokens, `v` the vocabulary.
struct PlacementRule {
  SmallVector<std::string> operands, results;
  /// Indices that may not be split: a row has to be there as a whole.
  std::string whole = {};
  /// Indices over which results are maxima, where others are sums.
  std::string maximum = {};
  /// Operands in which the results are linear: where all of them are partial sums and
  /// the others whole, the results are partial sums. Empty: not linear.
  SmallVector<unsigned> linear = {};
  /// An operand that holds numbers of rows, and the index that they are.
  struct Rows {
    unsigned operand;
    char index;
  };
  std::optional<Rows> rows = std::nullopt;
  /// The integer attribute that holds the size of an index.
  struct Size {
    StringRef attribute;
    char index;
  };
  std::optional<Size> size = std::nullopt;
};

namespace detail {
/// Bytes of all operands and results of `op`, each once; shapes must be static.
int64_t bytesOfOperandsAndResults(Operation *op);
/// Checks the placements (#dist.placement) of operands and results against the rule.
LogicalResult verifyPlacement(Operation *op);
} // namespace detail
} // namespace mlir::llama

#include "dialects/Interfaces/OpInterfaces.h.inc"

#endif // LLAMAC_INTERFACES_OPINTERFACES_H
