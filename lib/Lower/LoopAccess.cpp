//===- LoopAccess.cpp - What loops read and write -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An index is a sum of terms: constant + factor * value of loops and arguments. affine maps,
// affine.apply and arith on indices are added up to it (LinearIndex); what is no such sum has no
// answer, and who asks takes the worst. Two questions are answered with it:
//
//   conflictsWith   may two pieces of code not change places: one writes what the other touches
//   areSeparated    do iterations of loops touch elements of their own: no numbers of elements, or
//                   no indices in one dimension, are equal where variables of the loops differ
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/LoopAccess.h"

#include "dialects/Routine/IR/Routine.h"
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/Affine/Analysis/AffineStructures.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/CallInterfaces.h"

using namespace mlir;
using namespace mlir::llamac;

std::optional<LoopAccess> llamac::loopAccessOf(Operation *op) {
  auto direct = [&](Value buffer, ValueRange indices, bool writes) {
    return LoopAccess{buffer, writes,
                      AffineMap::getMultiDimIdentityMap(indices.size(), op->getContext()), indices};
  };
  if (auto load = dyn_cast<affine::AffineReadOpInterface>(op))
    return LoopAccess{load.getMemRef(), false, load.getAffineMap(), load.getMapOperands()};
  if (auto store = dyn_cast<affine::AffineWriteOpInterface>(op))
    return LoopAccess{store.getMemRef(), true, store.getAffineMap(), store.getMapOperands()};
  if (auto load = dyn_cast<memref::LoadOp>(op))
    return direct(load.getMemRef(), load.getIndices(), false);
  if (auto store = dyn_cast<memref::StoreOp>(op))
    return direct(store.getMemRef(), store.getIndices(), true);
  return std::nullopt;
}

bool llamac::isLoop(Operation &op) { return isa<affine::AffineForOp, scf::ForOp>(op); }

Value llamac::inductionVariableOf(Operation *loop) {
  if (auto affineLoop = dyn_cast<affine::AffineForOp>(loop))
    return affineLoop.getInductionVar();
  return cast<scf::ForOp>(loop).getInductionVar();
}

std::optional<LoopRange> llamac::constantRange(Operation *loop) {
  if (auto affineLoop = dyn_cast<affine::AffineForOp>(loop)) {
    if (!affineLoop.hasConstantBounds() || affineLoop.getStepAsInt() != 1)
      return std::nullopt;
    return LoopRange{affineLoop.getConstantLowerBound(), affineLoop.getConstantUpperBound()};
  }
  auto forOp = cast<scf::ForOp>(loop);
  std::optional<int64_t> low = getConstantIntValue(forOp.getLowerBound()),
                         high = getConstantIntValue(forOp.getUpperBound()),
                         step = getConstantIntValue(forOp.getStep());
  if (!low || !high || step != 1)
    return std::nullopt;
  return LoopRange{*low, *high};
}

scf::ForOp llamac::columnsLoop(Operation *loop) {
  scf::ForOp columns;
  loop->walk([&](scf::ForOp inner) {
    if (!columns && inner->hasAttr(kColumnsAttr))
      columns = inner;
  });
  if (!columns || columns == loop)
    return {};
  WalkResult result = loop->walk([&](Operation *op) {
    std::optional<LoopAccess> access = loopAccessOf(op);
    bool writes = access ? access->writes : isa<CallOpInterface>(op);
    return writes && !columns->isProperAncestor(op) ? WalkResult::interrupt()
                                                    : WalkResult::advance();
  });
  return result.wasInterrupted() ? scf::ForOp() : columns;
}

void LinearIndex::add(const LinearIndex &other, int64_t factor) {
  constant += other.constant * factor;
  for (auto [value, coefficient] : other.coefficients)
    coefficients[value] += coefficient * factor;
}

static void addValue(LinearIndex &sum, Value value, int64_t factor);

// Adds `factor` times result `position` of `map` on `operands`, if that is a sum.
static bool addResult(LinearIndex &sum, AffineMap map, unsigned position, ValueRange operands,
                      int64_t factor) {
  SmallVector<int64_t> flat; // coefficients of dims, symbols, divisions, then the constant
  if (failed(getFlattenedAffineExpr(map.getResult(position), map.getNumDims(), map.getNumSymbols(),
                                    &flat)) ||
      flat.size() != operands.size() + 1)
    return false;
  sum.constant += factor * flat.back();
  for (auto [operand, coefficient] : llvm::zip(operands, flat))
    addValue(sum, operand, factor * coefficient);
  return true;
}

// Adds `factor` times `value` to `sum`: through additions and products with constants.
static void addValue(LinearIndex &sum, Value value, int64_t factor) {
  if (factor == 0)
    return;
  if (std::optional<int64_t> constant = getConstantIntValue(value)) {
    sum.constant += factor * *constant;
    return;
  }
  if (auto add = value.getDefiningOp<arith::AddIOp>()) {
    addValue(sum, add.getLhs(), factor);
    addValue(sum, add.getRhs(), factor);
    return;
  }
  if (auto sub = value.getDefiningOp<arith::SubIOp>()) {
    addValue(sum, sub.getLhs(), factor);
    addValue(sum, sub.getRhs(), -factor);
    return;
  }
  if (auto mul = value.getDefiningOp<arith::MulIOp>())
    for (auto [a, b] : {std::pair(mul.getLhs(), mul.getRhs()), {mul.getRhs(), mul.getLhs()}})
      if (std::optional<int64_t> constant = getConstantIntValue(b)) {
        addValue(sum, a, factor * *constant);
        return;
      }
  if (auto apply = value.getDefiningOp<affine::AffineApplyOp>())
    if (addResult(sum, apply.getAffineMap(), 0, apply.getMapOperands(), factor))
      return;
  sum.coefficients[value] += factor;
}

std::optional<LinearIndex> llamac::linearIndex(const LoopAccess &access, unsigned dimension) {
  LinearIndex index;
  if (!addResult(index, access.map, dimension, access.operands, 1))
    return std::nullopt;
  index.coefficients.remove_if([](auto &term) { return term.second == 0; });
  return index;
}

std::optional<LinearIndex> llamac::linearElement(const LoopAccess &access) {
  auto type = cast<MemRefType>(access.buffer.getType());
  LinearIndex element;
  for (int64_t d = 0; d < type.getRank(); ++d) {
    std::optional<LinearIndex> index = linearIndex(access, d);
    if (!index)
      return std::nullopt;
    LinearIndex scaled;
    scaled.add(element, type.getDimSize(d));
    scaled.add(*index, 1);
    element = scaled;
  }
  element.coefficients.remove_if([](auto &term) { return term.second == 0; });
  return element;
}

/// The buffer that columns of it (llama-fold-views) are of.
static Value withoutColumns(Value value) {
  auto columns = value.getDefiningOp<memref::ReinterpretCastOp>();
  return columns ? columns.getSource() : value;
}

Footprint::Footprint(Operation *root) {
  root->walk([&](Operation *op) {
    if (std::optional<LoopAccess> access = loopAccessOf(op)) {
      (access->writes ? writes : reads).insert(access->buffer);
    } else if (auto call = dyn_cast<routine::RoutineOpInterface>(op)) {
      for (OpOperand *input : call.getDpsInputOperands())
        reads.insert(withoutColumns(input->get()));
      for (Value init : call.getDpsInits())
        writes.insert(withoutColumns(init));
    }
  });
}

bool Footprint::conflictsWith(const Footprint &other) const {
  return llvm::any_of(
             writes,
             [&](Value v) { return other.writes.contains(v) || other.reads.contains(v); }) ||
         llvm::any_of(reads, [&](Value v) { return other.writes.contains(v); });
}

// The constant range of the loop of a variable; nothing for another value.
static std::optional<LoopRange> rangeOf(Value value) {
  auto argument = dyn_cast<BlockArgument>(value);
  Operation *loop = argument ? argument.getOwner()->getParentOp() : nullptr;
  if (!loop || !isLoop(*loop) || inductionVariableOf(loop) != value)
    return std::nullopt;
  return constantRange(loop);
}

// Whether  sum of step * d + rest = 0  has a solution with |d| < size, low <= rest <= high, and
// some d other than 0 unless `differs`. `steps` are (step, size), the smallest step first.
static bool hasSolution(ArrayRef<std::pair<int64_t, int64_t>> steps, int64_t low, int64_t high,
                        bool differs, int64_t &tries) {
  if (steps.empty())
    return differs && low <= 0 && 0 <= high;
  if (--tries < 0)
    return true; // not known
  auto [step, size] = steps.back();
  int64_t reach = 0; // of the smaller steps
  for (auto [smaller, count] : steps.drop_back())
    reach += smaller * (count - 1);
  int64_t first = std::max(1 - size, llvm::divideCeilSigned(-high - reach, step)),
          last = std::min(size - 1, llvm::divideFloorSigned(reach - low, step));
  for (int64_t d = first; d <= last; ++d)
    if (hasSolution(steps.drop_back(), low + step * d, high + step * d, differs || d != 0, tries))
      return true;
  return false;
}

namespace {
// Accesses of one buffer: the dimensions whose index is, in all of them, a sum of variables of
// loops and values that stay. Elements that differ in those are different.
class Elements {
public:
  Elements(Value buffer, llvm::function_ref<bool(Value)> isOutside)
      : type(cast<MemRefType>(buffer.getType())), known(type.getRank(), true),
        isOutside(isOutside) {}

  void add(const LoopAccess &access) {
    accesses.push_back(access);
    for (int64_t d = 0; d < type.getRank(); ++d) {
      std::optional<LinearIndex> index = linearIndex(access, d);
      if (!index || llvm::any_of(index->coefficients, [&](auto &term) {
            return !rangeOf(term.first) && !isOutside(term.first);
          }))
        known[d] = false;
    }
  }

  // Whether accesses `i` and `j` may be of one element where at least one pair of `variables`, of
  // `i` and of `j`, differ: then the number of the element is equal, and the index in each dimension
  // (whose ranges say more where the sum of an index may leave the buffer).
  bool mayMeet(size_t i, size_t j, ArrayRef<std::pair<Value, Value>> variables) const {
    auto areEqual = [&](const llvm::SmallBitVector &dimensions) {
      return mayBeEqual(number(accesses[i], dimensions), number(accesses[j], dimensions),
                        variables);
    };
    return areEqual(known) && llvm::all_of(known.set_bits(), [&](unsigned d) {
             llvm::SmallBitVector one(known.size());
             return areEqual(one.set(d));
           });
  }

  SmallVector<LoopAccess> accesses;

private:
  // Whether two numbers may be equal where at least one pair of `variables`, of `a` and of `b`,
  // differ.
  bool mayBeEqual(const LinearIndex &a, const LinearIndex &b,
                  ArrayRef<std::pair<Value, Value>> variables) const {
    int64_t low = a.constant - b.constant, high = low;
    auto widen = [&](const LoopRange &range, int64_t coefficient) {
      int64_t from = coefficient * range.low, to = coefficient * (range.high - 1);
      low += std::min(from, to), high += std::max(from, to);
    };
    bool differs = false;
    SmallVector<std::pair<int64_t, int64_t>> steps;
    for (auto [ofA, ofB] : variables) {
      int64_t size = rangeOf(ofA)->size(), step = a.of(ofA);
      if (size == 0)
        return false;
      if (step == b.of(ofB) && step != 0 && size > 1)
        steps.push_back({std::abs(step), size});
      else if (size > 1)
        differs = true;
      if (step != b.of(ofB)) {
        widen(*rangeOf(ofA), step);
        widen(*rangeOf(ofB), -b.of(ofB));
      }
    }
    auto isVariable = [&](Value value) {
      return llvm::any_of(variables,
                          [&](auto pair) { return pair.first == value || pair.second == value; });
    };
    LinearIndex outside;
    for (auto [index, sign] : {std::pair(&a, 1), std::pair(&b, -1)})
      for (auto [value, coefficient] : index->coefficients) {
        if (isVariable(value))
          continue;
        if (isOutside(value))
          outside.coefficients[value] += sign * coefficient;
        else if (LoopRange range = *rangeOf(value); range.size() != 0)
          widen(range, sign * coefficient);
      }
    if (llvm::any_of(outside.coefficients, [](auto &term) { return term.second != 0; }))
      return true;
    llvm::sort(steps);
    int64_t tries = 1000;
    return hasSolution(steps, low, high, differs, tries);
  }

  // The number of the element in `dimensions` alone.
  LinearIndex number(const LoopAccess &access, const llvm::SmallBitVector &dimensions) const {
    LinearIndex number;
    for (unsigned d : dimensions.set_bits()) {
      LinearIndex scaled;
      scaled.add(number, type.getDimSize(d));
      scaled.add(*linearIndex(access, d), 1);
      number = scaled;
    }
    return number;
  }

  MemRefType type;
  llvm::SmallBitVector known;
  llvm::function_ref<bool(Value)> isOutside;
};
} // namespace

static bool isIn(Operation *nest, Value value) {
  return nest->isAncestor(value.getParentRegion()->getParentOp());
}

bool llamac::areSeparated(Value buffer, Operation *nest, ArrayRef<Value> variables) {
  auto isOutside = [&](Value value) { return !isIn(nest, value); };
  Elements elements(buffer, isOutside);
  nest->walk([&](Operation *op) {
    if (std::optional<LoopAccess> access = loopAccessOf(op); access && access->buffer == buffer)
      elements.add(*access);
  });
  if (!llvm::all_of(variables, rangeOf))
    return false;
  auto pairs = llvm::map_to_vector(variables, [](Value v) { return std::pair(v, v); });
  for (size_t i = 0; i < elements.accesses.size(); ++i)
    for (size_t j = i; j < elements.accesses.size(); ++j)
      if ((elements.accesses[i].writes || elements.accesses[j].writes) &&
          elements.mayMeet(i, j, pairs))
        return false;
  return true;
}

bool llamac::areSeparated(Value buffer, Operation *a, Operation *b) {
  auto isOutside = [&](Value value) { return !isIn(a, value) && !isIn(b, value); };
  Elements elements(buffer, isOutside);
  size_t ofA = 0;
  for (Operation *loop : {a, b}) {
    loop->walk([&](Operation *op) {
      if (std::optional<LoopAccess> access = loopAccessOf(op); access && access->buffer == buffer)
        elements.add(*access);
    });
    if (loop == a)
      ofA = elements.accesses.size();
  }
  if (ofA == 0 || ofA == elements.accesses.size()) // what touches it there is not known
    return false;
  std::pair variables(inductionVariableOf(a), inductionVariableOf(b));
  for (size_t i = 0; i < ofA; ++i)
    for (size_t j = ofA; j < elements.accesses.size(); ++j)
      if ((elements.accesses[i].writes || elements.accesses[j].writes) &&
          elements.mayMeet(i, j, variables))
        return false;
  return true;
}
