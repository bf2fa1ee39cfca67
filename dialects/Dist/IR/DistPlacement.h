//===- DistPlacement.h - How values lie on the grid ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DIST_DISTPLACEMENT_H
#define LLAMAC_DIST_DISTPLACEMENT_H

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Interfaces/OpInterfaces.h"

#include "llvm/ADT/SetVector.h"

namespace mlir::dist {

/// How a tensor lies on one axis of the grid.
struct OnAxis {
  enum Kind { Whole, Split, Sum, Maximum } kind = Whole;
  unsigned dimension = 0; ///< that is split

  bool isPartial() const { return kind == Sum || kind == Maximum; }
  bool operator==(const OnAxis &other) const {
    return kind == other.kind && (kind != Split || dimension == other.dimension);
  }
};

/// How `type` lies on `axis`, by its encoding. Whole without one.
OnAxis onAxis(Type type, StringRef axis);

/// The axes that the placements of `types` name, in order.
llvm::SmallSetVector<StringAttr, 4> axesOf(TypeRange types);

/// "split on dimension 1", "a partial sum", ...
std::string describe(OnAxis placement);

/// One way in which an op may work on an axis.
struct Choice {
  SmallVector<OnAxis> operands, results;
  char index = 0;        ///< that is split; 0: none
  bool isLinear = false; ///< partial sums pass through
};

/// All ways in which an op of this rule may work on an axis, all whole last.
SmallVector<Choice> choicesOf(const llama::PlacementRule &rule);

/// The dimensions of a tensor of a rule: "bs(hd)" -> "b", "s", "hd".
SmallVector<StringRef> dimensionsOf(StringRef letters);

} // namespace mlir::dist

#endif // LLAMAC_DIST_DISTPLACEMENT_H
