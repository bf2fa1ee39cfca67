//===- Parts.h - Which elements a rank holds -------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A parameter is cut twice: its dimensions over the axes of `split`, and what a
// rank has of it then, flat, over the axis of `shard`:
//
//   whole [4, 6], split [[], ["tp"]] over 2   tp 0: columns 0..2, tp 1: 3..5
//   part of tp 1: 12 elements 3 4 5 9 10 11 ..., shard over dp 2 in a unit of
//   16 that begins with it                    dp 0: the first 8, dp 1: the last 4
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_RANK_PARTS_H
#define LLRT_RANK_PARTS_H

#include "src/Program/Program.h"

#include <functional>

namespace llrt {

// A buffer of a parameter.
enum class Held { Storage, Master, Gradient, Moment1, Moment2 };

// Type and address of a buffer; the parameter must have it.
LlrtType typeOf(const Program &program, const Parameter &p, Held held);
Address addressOf(const Parameter &p, Held held);

// Elements [0, count) of the buffer `held` of rank `rank`.
int64_t elementsOf(const Grid &grid, const Parameter &p, Held held);

// Calls `visit(at, whole, count)` for each contiguous range of elements that
// rank `rank` holds: from element `at` of the buffer, which is element `whole`
// of the whole parameter, counted without padding; padding is left out.
void forEachRange(const Grid &grid, const Parameter &p, Held held, int64_t rank,
                  const std::function<void(int64_t at, int64_t whole, int64_t count)> &visit);

// The ranks of stage `stage` that hold every element of the parameter once
// together.
std::vector<int64_t> owners(const Program &program, size_t stage, const Parameter &p, Held held);

} // namespace llrt
#endif // LLRT_RANK_PARTS_H
