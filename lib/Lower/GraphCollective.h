//===- GraphCollective.h - The collectives of graphs ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_GRAPHCOLLECTIVE_H
#define LLAMAC_LIB_LOWER_GRAPHCOLLECTIVE_H

#include "dialects/Dist/IR/Dist.h"
#include "llamac/Support/Grid.h"

namespace mlir::llamac {

/// A collective of a graph function: what it does, and the names of the axes that it is over.
struct GraphCollective {
  dist::Collective what;
  SmallVector<Attribute> axes;
};

/// Whether `op` is one: shard.all_gather, all_reduce, reduce_scatter or all_slice.
bool isGraphCollective(Operation *op);

/// Reads one, of a module on the grid `axes`.
GraphCollective readCollective(Operation *op, ArrayRef<Axis> axes);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_GRAPHCOLLECTIVE_H
