//===- Placement.h - How values lie on all axes of the grid ----*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SHARD_PLACEMENT_H
#define LLAMAC_SHARD_PLACEMENT_H

#include "dialects/Dist/IR/DistPlacement.h"
#include "llamac/Support/Grid.h"

namespace mlir::llamac {

/// How a tensor lies on each axis of the grid, outermost axis first. Axes that split
/// one dimension always nest in this order.
using Placement = SmallVector<dist::OnAxis>;

/// What the encoding of `type` says.
Placement placementOf(Type type, ArrayRef<Axis> axes);

/// `type` with `placement` for its encoding; none if all is whole.
RankedTensorType withPlacement(RankedTensorType type, ArrayRef<dist::OnAxis> placement,
                               ArrayRef<Axis> axes);

/// The type of what a rank holds of `type`. Null if a size does not divide.
RankedTensorType localType(Type type, ArrayRef<Axis> axes);

/// The axes (their numbers) that split `dimension`, outermost first.
SmallVector<int16_t> axesThatSplit(ArrayRef<dist::OnAxis> placement, unsigned dimension);

} // namespace mlir::llamac

#endif // LLAMAC_SHARD_PLACEMENT_H
