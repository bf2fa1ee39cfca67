//===- TeamEmitter.h - Code of a piece of columns ---------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What all kernels of teams share. A kernel of a kind derives from it: RowKernels.cpp, ColumnSums.cpp,
// IndexSums.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_TEAMEMITTER_H
#define LLAMAC_LIB_LOWER_CUDA_TEAMEMITTER_H

#include "lib/Lower/Cuda/TeamPlan.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"

#include <map>
#include <set>

namespace mlir::llamac::teams {

/// Index base + offset of a parallel loop.
struct Index {
  Value base; ///< i32 or i64
  int64_t offset = 0;
};

/// Where a piece is.
struct Place {
  SmallVector<Index> indices; ///< of the parallel loops; the innermost at the first lane
  Value guard;                ///< i1: whether the piece is there; none: it is
  int64_t ordinal = 0;        ///< of the thread's pieces
};

using Lanes = SmallVector<Value>; ///< one value for all neighbours, or one each

/// The largest distance of elements that are loaded with those between.
inline constexpr int64_t kMostWindow = 8;

/// What `combine` leaves unchanged.
TypedAttr neutralOf(OpBuilder &builder, Operation *combine, Type type);

class TeamEmitter {
protected:
  TeamEmitter(const Nest &nest, const Plan &plan)
      : nest(nest), plan(plan), builder(nest.loop->getContext()), loc(nest.loop->getLoc()) {}
  virtual ~TeamEmitter() = default;

  /// Makes an empty kernel NEST + `suffix` and goes to it: its buffers, constants, thread number.
  /// `memory` of the block becomes `added`.
  void begin(int64_t blocks, int64_t threads, ValueRange memory, StringRef suffix = "");

  //===--- Small things ---------------------------------------------------===//

  Value number(Value index) {
    return arith::IndexCastUIOp::create(builder, loc, numberType, index);
  }
  Value constant(Type type, int64_t value) {
    return arith::ConstantOp::create(builder, loc, builder.getIntegerAttr(type, value));
  }
  Value constant(int64_t value) { return constant(numberType, value); }
  /// Sums, products and remainders of numbers that are not negative.
  Value add(Value a, Value b);
  Value multiply(Value a, int64_t factor);
  Value remainder(Value value, int64_t by) {
    return arith::RemUIOp::create(builder, loc, value, constant(by));
  }
  /// `value`, not negative, as a number of `type`.
  Value resize(Value value, Type type);
  Value conjunction(Value a, Value b) {
    return !a ? b : !b ? a : Value(arith::AndIOp::create(builder, loc, a, b));
  }
  /// What `make` makes if `guard` holds, else zero.
  Value guarded(Value guard, Type type, llvm::function_ref<Value()> make);
  void guarded(Value guard, llvm::function_ref<void()> make);
  /// A buffer as its elements, one after the other.
  Value flatten(Value buffer);
  Value flatBuffer(Value buffer);
  /// The op of a sum on other values; `b` if there is no `a`.
  Value combine(Operation *op, Value a, Value b);

  //===--- Numbers --------------------------------------------------------===//

  /// The numbers of iterations of loops of these sizes from that of all of them together.
  SmallVector<Value> iterations(ArrayRef<int64_t> sizes, Value together);
  /// The variables of loops from the number of an iteration of them together.
  void mapVariables(ArrayRef<Operation *> loops, Value together);
  /// Indices of the parallel loops in piece `first` + `more`. If `first` is less than `below`, of
  /// which `more` is a multiple, those that do not depend on it are constants.
  Place placeOf(const Columns &columns, Value first, int64_t more, Value guard, int64_t ordinal,
                int64_t below = 0);
  /// The number of the element that an access has at the first lane, or at `lane`.
  Value elementNumber(Operation *op, const Columns *columns, const Place *place, int64_t lane);
  Value elementIndex(Operation *op, const Columns *columns, const Place *place, int64_t lane = 0) {
    return resize(elementNumber(op, columns, place, lane), builder.getIndexType());
  }
  const Index *indexOf(Value variable, const Columns &columns, const Place &place) const;
  /// A value of the nest: of the kernel, of the row, of a loop, of the piece.
  Lanes lookup(Value value, const Columns *columns, const Place *place);

  //===--- Elements -------------------------------------------------------===//

  using Key = std::pair<void *, std::string>;
  Key keyOf(Operation *op, const Columns &columns, const Place &place);
  bool hasMemory(Value buffer) const {
    return plan.scratch.contains(buffer) || !buffer.getDefiningOp<memref::AllocaOp>();
  }
  /// How an access goes through the neighbours of a piece: 0 all have one element, 1 elements lie
  /// one beside the other, none: each on its own.
  std::optional<int64_t> stepOf(Operation *op, const Columns &columns);
  /// Whether what `load` loads is taken, if a select says so for all neighbours alike: i1, or none.
  Value isTaken(Operation *load, const Columns &columns, const Place &place);
  /// The elements of an access: what the thread knows, else from memory.
  Lanes loadPiece(Operation *op, const Columns &columns, const Place &place);
  /// Of every step-th element, where others of the body take those between: from the pieces that
  /// together have them all, side by side. Nothing where that is not so.
  Lanes loadWindow(Operation *op, const Columns &columns, const Place &place);
  /// Makes elements known, and writes them where there is memory that others read.
  void storePiece(Operation *op, const Columns &columns, const Place &place, Lanes lanes);
  virtual void writePiece(Operation *op, const Columns &columns, const Place &place, Lanes lanes);
  static llvm::MaybeAlign alignmentOf(VectorType vector) {
    return llvm::Align(vector.getNumElements() *
                       llvm::divideCeil(vector.getElementTypeBitWidth(), 8));
  }

  //===--- Bodies ---------------------------------------------------------===//

  /// The body of `columns` for one piece.
  void emitPiece(const Columns &columns, const Place &place);
  /// Adds a piece's terms to a sum: here each to the thread's sum of its element.
  virtual void addTerms(const Reduction &reduction, const Columns &columns, const Place &place);

  //===--- Scalars --------------------------------------------------------===//

  Value loadScalar(Operation *op);
  void storeScalar(Operation *op, Value value);
  /// An op of a row outside of its columns.
  void emitScalar(Operation &op);
  /// What is in `buffer` is not known any more.
  void forget(Value buffer);
  /// A barrier before an access by other threads than those of the accesses since the last one.
  void order(Value buffer, std::string name, bool writes);

  Nest nest;
  const Plan &plan;
  OpBuilder builder;
  Location loc;
  gpu::GPUFuncOp kernel;
  int64_t blocks = 1, threads = 1;
  Type numberType;
  Value thread, member, row, active; ///< thread of block, of team; row; whether there is such a row
  IRMapping uniform;                 ///< values of the kernel, the row, the serial loops
  llvm::DenseMap<Value, Value> flat; ///< buffers as one row of elements
  SmallVector<Value> added;          ///< so the buffers that are the kernel's, but not the nest's
  llvm::DenseMap<Value, Lanes> lanesOf;
  llvm::DenseMap<Value, Value> cellValues;
  llvm::MapVector<Value, Lanes> elementSums; ///< of each element of a piece
  std::map<Key, Lanes> known;                ///< elements in registers
  std::set<Key> carried;                     ///< of those, what is stored after the loop only
  llvm::DenseMap<Value, SmallVector<std::pair<std::string, bool>>> since; ///< the last barrier
};

} // namespace mlir::llamac::teams

#endif // LLAMAC_LIB_LOWER_CUDA_TEAMEMITTER_H
