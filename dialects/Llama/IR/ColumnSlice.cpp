//===- ColumnSlice.cpp - Columns of a wider tensor, reshaped --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/ColumnSlice.h"

using namespace mlir;
using namespace mlir::llama;

std::optional<ColumnSlice> ColumnSlice::of(tensor::ExtractSliceOp op) {
  ArrayRef<int64_t> whole = op.getSourceType().getShape(), part = op.getType().getShape();
  if (whole.size() != part.size() || !op.getSourceType().hasStaticShape() ||
      !op.getType().hasStaticShape() ||
      !llvm::all_of(op.getStaticStrides(), [](int64_t stride) { return stride == 1; }))
    return std::nullopt;
  std::optional<ColumnSlice> slice;
  for (auto [i, size] : llvm::enumerate(part)) {
    if (size == whole[i])
      continue;
    int64_t offset = op.getStaticOffsets()[i];
    if (slice || ShapedType::isDynamic(offset))
      return std::nullopt;
    slice = {SmallVector<int64_t>(whole), unsigned(i), offset, size};
  }
  return slice;
}

std::optional<ColumnSlice> ColumnSlice::reshaped(ArrayRef<int64_t> view) const {
  int64_t inner = 1; // elements of one index
  for (int64_t size : ArrayRef(shape).drop_front(dimension + 1))
    inner *= size;
  // The dimension of the view whose indices, all of them, are those elements `size` times.
  int64_t elements = 1;
  for (int64_t i = int64_t(view.size()) - 1; i >= 0; --i) {
    if (elements * view[i] == inner * size && inner * shape[dimension] % elements == 0 &&
        inner * offset % elements == 0) {
      ColumnSlice result{SmallVector<int64_t>(view), unsigned(i), inner * offset / elements,
                         view[i]};
      result.shape[i] = inner * shape[dimension] / elements;
      return result;
    }
    elements *= view[i];
  }
  return std::nullopt;
}

SmallVector<OpFoldResult> ColumnSlice::offsets(OpBuilder &builder) const {
  SmallVector<OpFoldResult> all(shape.size(), builder.getIndexAttr(0));
  all[dimension] = builder.getIndexAttr(offset);
  return all;
}

SmallVector<OpFoldResult> ColumnSlice::sizes(OpBuilder &builder) const {
  SmallVector<OpFoldResult> all;
  for (auto [i, whole] : llvm::enumerate(shape))
    all.push_back(builder.getIndexAttr(i == dimension ? size : whole));
  return all;
}

SmallVector<OpFoldResult> ColumnSlice::strides(OpBuilder &builder) const {
  return SmallVector<OpFoldResult>(shape.size(), builder.getIndexAttr(1));
}
