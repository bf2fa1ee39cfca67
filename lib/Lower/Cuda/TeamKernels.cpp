//===- TeamKernels.cpp - Rows per team of threads, columns in pieces ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A nest of independent rows is
//
//   for row { scalars; for columns { maps, sums }; scalars; for columns { ... } ... }
//
// A row belongs to a team of 1 to 1024 threads. Every thread computes the scalars. The columns
// are cut into pieces of `lanes` neighbours, 16 bytes of the widest element type, and piece p
// belongs to thread p mod team. A thread goes through its pieces one after the other, unrolled
// if they are few. So all column loops of a row find an element in the same thread: what one
// writes and another reads at the same index is handed over in registers. Where indices differ, a
// barrier stands between.
//
// A sum over columns (any combining op that may be reassociated) is summed by lanes as a tree,
// then over a thread's pieces, then over lanes of the warp by shuffles in butterfly order, then
// over warps through shared memory: one order, whatever the scheduling.
//
// A buffer of which a row has one element ("cell") is a value in the thread; the first thread
// of the team stores it when the row is done.
//
// A nest whose loops are all parallel has no rows: its pieces belong to all threads of the grid.
// Where an access would touch parts of sectors only, a block has a tile, and the part of that
// buffer goes through shared memory.
//
// Loops that are not parallel stay loops in the thread; what they add to at one place is carried
// in registers. If they are long and only add up (a sum over rows), threads of a block and blocks
// share them, and a second kernel adds up the partial sums. A long sum in rows too few to fill the
// GPU becomes nests of its own. A sum of rows by index is done by the first row of each index.
//
// Where what is:
//
//   TeamPlan.h, TeamPlan.cpp        recognises the forms; lanes, teams, parts
//   TeamEmitter.h, TeamEmitter.cpp  a piece: its elements, its body
//   RowKernels.cpp                  rows, and nests without rows
//   ColumnSums.cpp                  sums over rows
//   LongSums.cpp                    sums for which rows are too few: nests of their own
//   IndexSums.cpp                   sums of rows by index
//   TileKernels.cpp                 independent elements, one buffer in shared memory
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/TeamPlan.h"

using namespace mlir;
using namespace mlir::llamac;

bool llamac::mapToTeams(const Nest &nest) {
  std::optional<teams::Plan> plan = teams::planTeams(nest);
  if (!plan)
    return false;
  if (plan->condition)
    teams::emitIndexSums(nest, *plan);
  else if (plan->width != 0)
    teams::emitColumnSums(nest, *plan);
  else if (plan->tile)
    teams::emitTiles(nest, *plan);
  else
    teams::emitRows(nest, *plan);
  return true;
}
