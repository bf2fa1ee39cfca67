//===- Grid.h - The ranks of a program -------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_PROGRAM_GRID_H
#define LLRT_PROGRAM_GRID_H

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace llrt {

// Indices into `Grid::axes`, outermost first.
using Axes = std::vector<size_t>;

// For each dimension of a tensor the axes that split it into contiguous equal
// parts; no entry at all: nothing is split.
using Split = std::vector<Axes>;

// The ranks as a grid. A rank's number is the row-major index of its
// coordinates: the last axis varies fastest.
struct Grid {
  struct Axis {
    std::string name;
    int64_t size;
  };
  std::vector<Axis> axes; // outermost first

  int64_t ranks() const;

  // None if there is no axis of that name.
  std::optional<size_t> find(const std::string &axis) const;

  // Ranks along `over`: the product of the sizes.
  int64_t size(const Axes &over) const;

  int64_t coordinate(int64_t rank, size_t axis) const;

  // The same on the axis `axis` of which there may be none: 0.
  int64_t coordinate(int64_t rank, const std::string &axis) const;

  // The row-major index of the coordinates of `rank` on `over`.
  int64_t index(int64_t rank, const Axes &over) const;

  // The rank whose coordinates on `over` have index `value`, all others as
  // those of `rank`.
  int64_t moved(int64_t rank, const Axes &over, int64_t value) const;

  // `dp 1, pp 0, tp 3`; axes of size 1 are left out.
  std::string placeText(int64_t rank) const;
};

// Ranks that talk to each other: one group for each value of the other
// coordinates.
struct Communicator {
  std::string name;
  Axes axes;
  // Two ranks, by their coordinates on the one axis in `axes`: sender,
  // receiver.
  std::optional<std::pair<int64_t, int64_t>> edge;
  // On a device of each member: multiprocessors that its calls hold at most while they wait, bytes
  // of memory beside the arenas. 0: none.
  int64_t multiprocessors = 0, bytes = 0;

  // The group of `rank`, in the order in which sums are formed; empty if the
  // rank is not on the edge.
  std::vector<int64_t> members(const Grid &grid, int64_t rank) const;
};

} // namespace llrt
#endif // LLRT_PROGRAM_GRID_H
