//===- Placement.cpp - How values lie on all axes of the grid -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Shard/Placement.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::dist;
using namespace mlir::llamac;

Placement llamac::placementOf(Type type, ArrayRef<Axis> axes) {
  return llvm::map_to_vector<6>(axes, [&](const Axis &axis) { return onAxis(type, axis.name); });
}

RankedTensorType llamac::withPlacement(RankedTensorType type, ArrayRef<OnAxis> placement,
                                       ArrayRef<Axis> axes) {
  Builder b(type.getContext());
  SmallVector<SmallVector<StringRef>> split(type.getRank());
  SmallVector<StringRef> partial;
  bool isWhole = true, isMaximum = false;
  for (auto [axis, on] : llvm::zip_equal(axes, placement)) {
    isWhole &= on.kind == OnAxis::Whole;
    isMaximum |= on.kind == OnAxis::Maximum;
    if (on.kind == OnAxis::Split)
      split[on.dimension].push_back(axis.name);
    else if (on.isPartial())
      partial.push_back(axis.name);
  }
  if (isWhole)
    return type.dropEncoding();
  auto dimensions = llvm::map_to_vector(
      split, [&](ArrayRef<StringRef> names) -> Attribute { return b.getStrArrayAttr(names); });
  return type.cloneWithEncoding(PlacementAttr::get(type.getContext(), b.getArrayAttr(dimensions),
                                                   b.getStrArrayAttr(partial), isMaximum));
}

RankedTensorType llamac::localType(Type type, ArrayRef<Axis> axes) {
  auto tensor = cast<RankedTensorType>(type);
  SmallVector<int64_t> shape(tensor.getShape());
  for (const Axis &axis : axes) {
    OnAxis on = onAxis(type, axis.name);
    if (on.kind != OnAxis::Split)
      continue;
    if (shape[on.dimension] % axis.size)
      return {};
    shape[on.dimension] /= axis.size;
  }
  return RankedTensorType::get(shape, tensor.getElementType());
}

SmallVector<int16_t> llamac::axesThatSplit(ArrayRef<OnAxis> placement, unsigned dimension) {
  SmallVector<int16_t> result;
  for (auto [axis, on] : llvm::enumerate(placement))
    if (on.kind == OnAxis::Split && on.dimension == dimension)
      result.push_back(axis);
  return result;
}
