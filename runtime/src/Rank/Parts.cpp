//===- Parts.cpp - Which elements a rank holds ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Rank/Parts.h"

#include <algorithm>

using namespace llrt;

LlrtType llrt::typeOf(const Program &program, const Parameter &p, Held held) {
  switch (held) {
  case Held::Storage:
    return p.type;
  case Held::Gradient:
    return p.gradientType;
  default:
    return program.masterType();
  }
}

Address llrt::addressOf(const Parameter &p, Held held) {
  switch (held) {
  case Held::Storage:
    return p.address;
  case Held::Master:
    return *p.master;
  case Held::Gradient:
    return *p.gradient;
  case Held::Moment1:
    return *p.moment1;
  case Held::Moment2:
    return *p.moment2;
  }
  __builtin_unreachable();
}

static bool isSharded(const Parameter &p, Held held) {
  return p.shard && (held != Held::Storage || p.shard->storage);
}

int64_t llrt::elementsOf(const Grid &grid, const Parameter &p, Held held) {
  return isSharded(p, held) ? p.stateElements(grid) : p.elements;
}

// Calls `visit` for what files have of elements [whole, whole + count) of a
// padded parameter, and with the places there.
static void visitInFiles(const Parameter &p, int64_t at, int64_t whole, int64_t count,
                         const std::function<void(int64_t, int64_t, int64_t)> &visit) {
  int64_t rows = p.inFiles[0], columns = p.inFiles[1], stride = p.shape[1];
  while (count > 0 && whole / stride < rows) {
    int64_t row = whole / stride, column = whole % stride;
    // Whole rows at once where no column is padded.
    int64_t run =
        std::min(columns == stride ? (rows - row) * stride - column : stride - column, count);
    int64_t real = columns == stride ? run : std::min(run, columns - column);
    if (real > 0)
      visit(at, row * columns + column, real);
    at += run;
    whole += run;
    count -= run;
  }
}

void llrt::forEachRange(const Grid &grid, const Parameter &p, Held held, int64_t rank,
                        const std::function<void(int64_t, int64_t, int64_t)> &visit) {
  // Elements [first, last) of the part are in the buffer, from `offset`.
  int64_t first = 0, last = p.elements, offset = 0;
  if (isSharded(p, held)) {
    int64_t size = p.stateElements(grid);
    int64_t begin = grid.coordinate(rank, p.shard->axis) * size;
    first = std::clamp<int64_t>(begin - p.shard->begin, 0, p.elements);
    last = std::clamp<int64_t>(begin + size - p.shard->begin, 0, p.elements);
    offset = p.shard->begin + first - begin;
  }
  // The dimensions behind the last one that is split are contiguous in both.
  size_t dimensions = 0;
  for (size_t d = 0; d < p.split.size(); ++d)
    if (grid.size(p.split[d]) > 1)
      dimensions = d + 1;
  std::vector<int64_t> sizes(dimensions), begins(dimensions);
  int64_t inner = 1; // of a step of the last split dimension
  for (size_t d = dimensions; d < p.shape.size(); ++d)
    inner *= p.shape[d];
  for (size_t d = 0; d < dimensions; ++d) {
    sizes[d] = p.shape[d] / grid.size(p.split[d]);
    begins[d] = sizes[d] * grid.index(rank, p.split[d]);
  }
  int64_t run = inner * (dimensions ? sizes.back() : 1);
  if (run == 0)
    return;
  for (int64_t local = first / run * run; local < last; local += run) {
    // Coordinates of the run in the part, innermost dimension first.
    int64_t whole = 0, stride = inner, rest = local / inner;
    for (size_t d = dimensions; d-- > 0;) {
      whole += (begins[d] + rest % sizes[d]) * stride;
      rest /= sizes[d];
      stride *= p.shape[d];
    }
    int64_t from = std::max(local, first), to = std::min(local + run, last);
    if (from >= to)
      continue;
    int64_t at = offset + from - first, begin = whole + from - local;
    if (p.inFiles.empty())
      visit(at, begin, to - from);
    else
      visitInFiles(p, at, begin, to - from, visit);
  }
}

std::vector<int64_t> llrt::owners(const Program &program, size_t stage, const Parameter &p,
                                  Held held) {
  std::vector<bool> divides(program.grid.axes.size());
  for (const Axes &axes : p.split)
    for (size_t axis : axes)
      divides[axis] = true;
  if (isSharded(p, held))
    divides[p.shard->axis] = true;
  Axes axes;
  for (size_t axis = 0; axis < divides.size(); ++axis)
    if (divides[axis])
      axes.push_back(axis);
  int64_t first = 0;
  if (std::optional<size_t> pp = program.grid.find("pp"))
    first = program.grid.moved(0, {*pp}, int64_t(stage));
  std::vector<int64_t> result;
  for (int64_t i = 0; i < program.grid.size(axes); ++i)
    result.push_back(program.grid.moved(first, axes, i));
  return result;
}
