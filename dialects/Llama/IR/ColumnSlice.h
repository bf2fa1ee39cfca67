//===- ColumnSlice.h - Columns of a wider tensor, reshaped ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A slice is not dense, so it has no reshape that is a view of it; but the tensor has, of which
// the slice is:
//
//   [2, 8, 24], of dimension 2 from 8 on 8, seen as [16, 4, 2]:
//   [16, 12, 2], of dimension 1 from 4 on 4
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_COLUMNSLICE_H
#define LLAMAC_LLAMA_COLUMNSLICE_H

#include "mlir/Dialect/Tensor/IR/Tensor.h"

namespace mlir::llama {

/// Of a dense tensor, `size` indices of one dimension from `offset` on, and all of the others.
struct ColumnSlice {
  SmallVector<int64_t> shape; ///< of the whole tensor
  unsigned dimension;
  int64_t offset, size;

  /// That of `op`; nothing if it is another kind of slice.
  static std::optional<ColumnSlice> of(tensor::ExtractSliceOp op);

  /// The same elements where the slice is reshaped to `view`; nothing if they are no slice of
  /// one dimension then.
  std::optional<ColumnSlice> reshaped(ArrayRef<int64_t> view) const;

  SmallVector<OpFoldResult> offsets(OpBuilder &builder) const;
  SmallVector<OpFoldResult> sizes(OpBuilder &builder) const;
  SmallVector<OpFoldResult> strides(OpBuilder &builder) const;
};

} // namespace mlir::llama

#endif // LLAMAC_LLAMA_COLUMNSLICE_H
