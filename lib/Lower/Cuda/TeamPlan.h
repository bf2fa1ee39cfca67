//===- TeamPlan.h - What threads do in the kernel of a nest -----*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What is decided about a nest before code is made: which loops are rows and which columns, how the
// columns are cut into pieces, and how many threads take them. TeamKernels.cpp says what for.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_TEAMPLAN_H
#define LLAMAC_LIB_LOWER_CUDA_TEAMPLAN_H

#include "lib/Lower/Cuda/Nest.h"

namespace mlir::llamac::teams {

inline constexpr int64_t kWarp = 32, kMostThreads = 1024, kPieceBytes = 16;
/// The most pieces of a thread that are unrolled.
inline constexpr int64_t kUnrolledPieces = 8;

/// Blocks of kThreadsPerBlock that keep a GPU of 132 multiprocessors busy.
inline constexpr int64_t kBlocksOfGpu = 264;

/// A place to which the columns add: `store(combine(load, term))`.
struct Reduction {
  Value cell; ///< the buffer
  Operation *load, *combine, *store;
  Value term;
};

/// One loop nest over the columns of a row, or the whole of a nest without rows.
struct Columns {
  Operation *outermost;
  SmallVector<Operation *> parallel, serial;
  Block *body;
  int64_t elements = 1; ///< of the parallel loops together
  int64_t lanes = 1;    ///< neighbours in a piece: divides the innermost parallel loop
  SmallVector<Reduction> reductions;
  std::string shape; ///< sizes of the parallel loops
  /// The terms are exp(x - maximum), the maximum that of the loop before it, and rows are too long
  /// for registers: both go through the row together. That loop then does nothing by itself.
  Operation *maximum = nullptr;
  bool isOfNext = false;
  /// Iterations of each parallel loop that a thread does (nests without rows); else empty.
  SmallVector<int64_t> together;

  int64_t pieces() const { return elements / lanes; }
  /// The parallel loop over two halves of which each reads the other (`1 - i`), if there is one.
  std::optional<size_t> turned;
  /// Sizes of the parallel loops in pieces, a thread's iterations counted as one.
  SmallVector<int64_t> sizes() const;
  /// Iterations of the serial loops together.
  int64_t turns() const;
  Value inner() const { return parallel.empty() ? Value() : inductionVariableOf(parallel.back()); }
  /// Whether `op` loads or stores a sum that stays in registers.
  bool isOfSum(Operation *op) const;
};

/// Of a nest without rows: iterations that a block does together, with the part of one buffer that
/// they access side by side in shared memory.
struct Tile {
  size_t outer = 0;     ///< parallel loops before these are the block's, the others the tile's
  Value buffer;         ///< what lies in shared memory
  bool writes = false;  ///< written there, then copied to the buffer; else copied, then read
  int64_t first = 0;    ///< number of the tile's first element, without what the outer loops add
  int64_t elements = 0; ///< from there on: each is accessed once
  Operation *load = nullptr; ///< goes through its buffer side by side, if the loops are in `order`
  SmallVector<size_t> order; ///< of the tile's loops; empty: as they are
  int64_t lanes = 1;         ///< neighbours of `load`
};

/// What is known of a nest before code is made.
struct Plan {
  SmallVector<Operation *> rows; ///< parallel loops whose iterations are rows; may be empty
  int64_t rowCount = 1;
  Block *body = nullptr;                          ///< of the row
  llvm::MapVector<Operation *, Columns> columns;  ///< loops in it
  llvm::DenseMap<Operation *, LoopAccess> access; ///< all loads and stores
  llvm::DenseMap<Operation *, std::optional<LinearIndex>> element;
  llvm::SetVector<Value> cells, loadedCells, storedCells;
  llvm::SetVector<Value> scratch; ///< stack buffers that need memory, one for each row
  int64_t team = 1, teams = 1;    ///< threads of a team in a block, teams of a block
  int64_t spread = 1;             ///< blocks of a row
  /// Sums over the serial loops of a nest without rows, if those are cut into parts: pieces of a
  /// block beside each other, parts.
  int64_t width = 0, parts = 1;
  std::optional<Tile> tile;
  /// A loop over columns that only adds up, and is long for rows as few as these (LongSums.cpp).
  Operation *longSum = nullptr;
  /// A sum of rows by index, `for row { if (...) { for columns { table[index] += ... } } }`:
  /// where the columns are.
  scf::IfOp condition;

  int64_t threadsOfRow() const { return team * spread; }
  bool isUnrolled(const Columns &c) const {
    return llvm::divideCeil(c.pieces(), threadsOfRow()) <= kUnrolledPieces;
  }
  /// Whether an access has the same element in every iteration of the serial loops.
  bool isFixed(const Columns &columns, Operation *op) const;
  /// Names the element that an access has in a piece: equal names, equal elements.
  std::string signature(const Columns &columns, Operation *op) const;
};

/// The plan of a nest; none if it has not the form that teams can do.
std::optional<Plan> planTeams(const Nest &nest);

/// Make the kernels of a plan: one of rows, or of independent elements; the sum over many rows of
/// each column; the sum of rows by index; independent elements by way of shared memory.
void emitRows(const Nest &nest, const Plan &plan);
void emitColumnSums(const Nest &nest, const Plan &plan);
void emitIndexSums(const Nest &nest, const Plan &plan);
void emitTiles(const Nest &nest, const Plan &plan);

/// The tile of a nest without rows in which an access would touch parts of sectors only, if there
/// is one.
std::optional<Tile> planTile(const Plan &plan);

} // namespace mlir::llamac::teams

#endif // LLAMAC_LIB_LOWER_CUDA_TEAMPLAN_H
