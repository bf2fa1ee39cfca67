//===- ArenaPlan.h - Places in memory for values with lifetimes -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The memory problem apart from the IR. Values live from one position to another;
// those that live at the same position must not overlap. Problem, solver and
// checker are independent of each other.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SUPPORT_ARENAPLAN_H
#define LLAMAC_SUPPORT_ARENAPLAN_H

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <optional>
#include <utility>

namespace mlir::llamac {

/// A value that takes memory.
struct PlannedValue {
  int64_t begin;       ///< first position at which it lives
  int64_t end;         ///< last position at which it lives, >= begin
  int64_t bytes;       ///< size, >= 0
  int64_t offset = -1; ///< the answer: its first byte
};

/// Gives every value an offset, a multiple of `alignment` bytes; returns the size of the
/// arena, which is one too. Goes through the positions in order; at each one, larger values
/// first, a value takes the smallest free gap that holds it, the lowest of equals,
/// and extends the arena if none does. If that is not the least that can be, and the
/// values are at most 3000, it also places larger values first, each as low as it can,
/// and takes the better plan. The same answer on every run.
/// Source: best fit, Knuth, The Art of Computer Programming 1, section 2.5; by size,
/// Pisarchyk and Lee, arXiv 2001.03288.
int64_t planArena(llvm::MutableArrayRef<PlannedValue> values, int64_t alignment);

/// The largest sum of sizes (each rounded up to `alignment`) that live at one position: no
/// plan needs less.
int64_t lowerBound(llvm::ArrayRef<PlannedValue> values, int64_t alignment);

/// Checks a plan: two values (by number) that live at one position and overlap, or
/// one value twice whose offset is negative, no multiple of `alignment`, or ends behind `bytes`.
std::optional<std::pair<size_t, size_t>> findConflict(llvm::ArrayRef<PlannedValue> values,
                                                      int64_t bytes, int64_t alignment);

} // namespace mlir::llamac

#endif // LLAMAC_SUPPORT_ARENAPLAN_H
