//===- Grid.cpp - The ranks of a program ----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Program/Grid.h"

using namespace llrt;

int64_t Grid::ranks() const {
  int64_t product = 1;
  for (const Axis &axis : axes)
    product *= axis.size;
  return product;
}

std::optional<size_t> Grid::find(const std::string &name) const {
  for (size_t axis = 0; axis < axes.size(); ++axis)
    if (axes[axis].name == name)
      return axis;
  return std::nullopt;
}

int64_t Grid::size(const Axes &over) const {
  int64_t product = 1;
  for (size_t axis : over)
    product *= axes[axis].size;
  return product;
}

// By how much the number of a rank grows from one coordinate to the next.
static int64_t stride(const Grid &grid, size_t axis) {
  int64_t product = 1;
  for (size_t inner = axis + 1; inner < grid.axes.size(); ++inner)
    product *= grid.axes[inner].size;
  return product;
}

int64_t Grid::coordinate(int64_t rank, size_t axis) const {
  return rank / stride(*this, axis) % axes[axis].size;
}

int64_t Grid::coordinate(int64_t rank, const std::string &name) const {
  std::optional<size_t> axis = find(name);
  return axis ? coordinate(rank, *axis) : 0;
}

int64_t Grid::index(int64_t rank, const Axes &over) const {
  int64_t result = 0;
  for (size_t axis : over)
    result = result * axes[axis].size + coordinate(rank, axis);
  return result;
}

int64_t Grid::moved(int64_t rank, const Axes &over, int64_t value) const {
  for (size_t i = over.size(); i-- > 0; value /= axes[over[i]].size)
    rank += (value % axes[over[i]].size - coordinate(rank, over[i])) * stride(*this, over[i]);
  return rank;
}

std::string Grid::placeText(int64_t rank) const {
  std::string text;
  for (size_t axis = 0; axis < axes.size(); ++axis)
    if (axes[axis].size > 1)
      text += (text.empty() ? "" : ", ") + axes[axis].name + " " +
              std::to_string(coordinate(rank, axis));
  return text;
}

std::vector<int64_t> Communicator::members(const Grid &grid, int64_t rank) const {
  if (!edge) {
    std::vector<int64_t> result;
    for (int64_t i = 0; i < grid.size(axes); ++i)
      result.push_back(grid.moved(rank, axes, i));
    return result;
  }
  int64_t here = grid.index(rank, axes);
  if (here != edge->first && here != edge->second)
    return {};
  return {grid.moved(rank, axes, edge->first), grid.moved(rank, axes, edge->second)};
}
