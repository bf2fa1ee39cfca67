//===- GraphCollective.cpp - The collectives of graphs --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tensor of a rank is [outer][elements]: the dimensions before the one that the collective
// puts together or cuts, and the rest.
//
//   all_gather of 2x4x8, dimension 1, 2 members: 2 x [4 x 8] -> 2 x 2 x [4 x 8], a 2x8x8
//
//===----------------------------------------------------------------------===//
#include "GraphCollective.h"

#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::CollectiveKind;

bool llamac::isGraphCollective(Operation *op) {
  return isa<shard::AllGatherOp, shard::AllReduceOp, shard::ReduceScatterOp, shard::AllSliceOp>(op);
}

GraphCollective llamac::readCollective(Operation *op, ArrayRef<Axis> axes) {
  auto operand = cast<RankedTensorType>(op->getOperand(0).getType());
  auto result = cast<RankedTensorType>(op->getResult(0).getType());
  GraphCollective read;
  read.what = {CollectiveKind::AllReduce, 1, 1, 1, operand.getElementType(),
               result.getElementType()};
  ArrayRef<int16_t> over;
  ArrayRef<int64_t> share = result.getShape();
  int64_t dimension = 0;
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](shard::AllGatherOp gather) {
        read.what.kind = CollectiveKind::AllGather;
        over = gather.getGridAxes();
        share = operand.getShape();
        dimension = gather.getGatherAxis().getSExtValue();
      })
      .Case([&](shard::AllReduceOp reduce) {
        over = reduce.getGridAxes();
        read.what.maximum = reduce.getReduction() == shard::ReductionKind::Max;
      })
      .Case([&](shard::ReduceScatterOp scatter) {
        read.what.kind = CollectiveKind::ReduceScatter;
        over = scatter.getGridAxes();
        dimension = scatter.getScatterAxis().getSExtValue();
        read.what.maximum = scatter.getReduction() == shard::ReductionKind::Max;
      })
      .Case([&](shard::AllSliceOp slice) {
        read.what.kind = CollectiveKind::Slice;
        over = slice.getGridAxes();
        dimension = slice.getSliceAxis().getSExtValue();
      });
  auto product = [](ArrayRef<int64_t> sizes) {
    int64_t result = 1;
    for (int64_t size : sizes)
      result *= size;
    return result;
  };
  read.what.outer = product(share.take_front(dimension));
  read.what.elements = product(share.drop_front(dimension));
  for (int16_t axis : over) {
    read.axes.push_back(StringAttr::get(op->getContext(), axes[axis].name));
    read.what.members *= axes[axis].size;
  }
  return read;
}
