//===- OpInterfaces.h - Questions every op can answer ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_INTERFACES_OPINTERFACES_H
#define LLAMAC_INTERFACES_OPINTERFACES_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OpDefinition.h"

namespace mlir::llama {

/// Unit attribute of a `func.func` that is a block.
inline constexpr llvm::StringLiteral kBlockAttr = "llama.block";

/// Attribute of a block's result: the number of the argument whose place (whose
/// buffer) it takes. State that a block updates: gradients, masters, moments.
inline constexpr llvm::StringLiteral kInPlaceAttr = "llama.in_place";

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

/// A sum (or maximum) that an op forms: over what if the op has several (" over keys"), in which
/// type, of how many terms each.
struct Reduction {
  StringRef what;
  Type type;
  int64_t length;
};

namespace detail {
/// Terms of each sum by the placement rule of `op`: the product of the sizes of the indices that
/// operands have and no result has. Grouped indices, "(hg)", count as their first letter.
int64_t contractedElements(Operation *op);
/// Bytes of all operands and results of `op`, each once; shapes must be static.
int64_t bytesOfOperandsAndResults(Operation *op);
/// Checks the placements (PlacementAttrInterface) of operands and results against the rule.
LogicalResult verifyPlacement(Operation *op);
} // namespace detail
} // namespace mlir::llama

#include "dialects/Interfaces/AttrInterfaces.h.inc"
#include "dialects/Interfaces/OpInterfaces.h.inc"

#endif // LLAMAC_INTERFACES_OPINTERFACES_H
