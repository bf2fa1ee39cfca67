//===- LoopAccess.h - What loops read and write ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Iterations of a loop are independent, and two loops may become one, if every
// buffer that is written is "separated" by the loop variables: in one dimension,
// each access has the index `factor * variable + rest` with 0 <= rest < factor, so
// that iterations touch disjoint parts of the buffer.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LOWER_LOOPACCESS_H
#define LLAMAC_LOWER_LOOPACCESS_H

#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/SetVector.h"

#include <optional>

namespace mlir::llamac {

/// A load or store: index i of the buffer is result i of `map` on `operands`.
struct LoopAccess {
  Value buffer;
  bool writes;
  AffineMap map;
  SmallVector<Value> operands;
};

/// The access that `op` makes, if it is a load or store.
std::optional<LoopAccess> loopAccessOf(Operation *op);

/// Buffers that `op`, or what is in it, reads and writes.
struct Footprint {
  llvm::SetVector<Value> reads, writes;
  explicit Footprint(Operation *op);
  /// Whether the order of the two matters.
  bool conflictsWith(const Footprint &other) const;
};

/// For each dimension of `buffer` the factor by which `variable` separates all
/// accesses under `loop`, 0 where it does not. Nothing if there is no access.
std::optional<SmallVector<int64_t>> separatingFactors(Value buffer, Operation *loop,
                                                      Value variable);

/// Whether `variable` separates all accesses of `buffer` under `loop`.
bool isSeparated(Value buffer, Operation *loop, Value variable);

} // namespace mlir::llamac

#endif // LLAMAC_LOWER_LOOPACCESS_H
