//===- LoopAccess.h - What loops read and write ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Iterations of a loop are independent, and two loops may become one, if every
// buffer that is written is "separated" by the loop variables: iterations in which
// they differ touch disjoint parts of the buffer.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LOWER_LOOPACCESS_H
#define LLAMAC_LOWER_LOOPACCESS_H

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/MapVector.h"
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

/// Whether `op` is a loop: affine.for or scf.for.
bool isLoop(Operation &op);

/// The variable of a loop.
Value inductionVariableOf(Operation *loop);

/// The range [low, high) of a loop with constant bounds and step 1.
struct LoopRange {
  int64_t low, high;
  int64_t size() const { return std::max<int64_t>(high - low, 0); }
};
std::optional<LoopRange> constantRange(Operation *loop);

/// The loop over columns (kColumnsAttr) inside `loop`, if it does all that `loop` writes: then
/// its range may be divided, and each part goes through all rows.
scf::ForOp columnsLoop(Operation *loop);

/// An index as a sum: constant + sum of coefficient * value.
struct LinearIndex {
  llvm::SmallMapVector<Value, int64_t, 4> coefficients;
  int64_t constant = 0;

  /// Adds `factor` times `other`.
  void add(const LinearIndex &other, int64_t factor);
  int64_t of(Value value) const { return coefficients.lookup(value); }
};

/// Index `dimension` of `access` as a sum, if it is one. Additions and products with constants
/// of the arith dialect are looked through.
std::optional<LinearIndex> linearIndex(const LoopAccess &access, unsigned dimension);

/// The number of the accessed element in its dense buffer as a sum, if it is one.
std::optional<LinearIndex> linearElement(const LoopAccess &access);

/// Buffers that `op`, or what is in it, reads and writes.
struct Footprint {
  llvm::SetVector<Value> reads, writes;
  explicit Footprint(Operation *op);
  /// Whether the order of the two matters.
  bool conflictsWith(const Footprint &other) const;
};

/// Whether any two iterations of the loops of `variables` that differ in one of them access
/// different elements of `buffer` under `nest`, or only read them, whatever the other loops in it
/// do. The loops are `nest` or in it, with constant ranges. An index may be a sum over several
/// loops, and accesses may be of different parts of the buffer.
bool areSeparated(Value buffer, Operation *nest, ArrayRef<Value> variables);

/// The same of iteration i of loop `a` and another, j, of loop `b`, of the same constant range,
/// which both access `buffer`. What is around both stays.
bool areSeparated(Value buffer, Operation *a, Operation *b);

} // namespace mlir::llamac

#endif // LLAMAC_LOWER_LOOPACCESS_H
