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
//   isSeparated     do iterations of a loop touch elements of their own: in some dimension the
//                   index is  factor * i + rest,  with all values of `rest` below `factor`
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

// The largest value of a loop variable with constant bounds, or -1.
static int64_t largest(Value index) {
  if (auto loop = affine::getForInductionVarOwner(index))
    if (loop.hasConstantBounds() && loop.getConstantLowerBound() >= 0)
      return loop.getConstantUpperBound() - 1;
  return -1;
}

// The factor by which `variable` separates index `expr` of an access, or 0.
static int64_t separatingFactor(AffineExpr expr, const LoopAccess &access, Value variable) {
  SmallVector<int64_t> flat; // coefficients of dims, symbols, divisions, then the constant
  if (failed(getFlattenedAffineExpr(expr, access.map.getNumDims(), access.map.getNumSymbols(),
                                    &flat)) ||
      flat.size() != access.operands.size() + 1 || flat.back() < 0)
    return 0;
  int64_t factor = 0, rest = flat.back();
  for (auto [operand, coefficient] : llvm::zip(access.operands, flat)) {
    if (operand == variable) {
      factor += coefficient;
    } else if (coefficient != 0) {
      int64_t most = largest(operand);
      if (coefficient < 0 || most < 0)
        return 0;
      rest += coefficient * most;
    }
  }
  return rest < factor ? factor : 0;
}

std::optional<SmallVector<int64_t>> llamac::separatingFactors(Value buffer, Operation *loop,
                                                              Value variable) {
  std::optional<SmallVector<int64_t>> common;
  loop->walk([&](Operation *op) {
    std::optional<LoopAccess> access = loopAccessOf(op);
    if (!access || access->buffer != buffer)
      return;
    auto factors = llvm::map_to_vector(access->map.getResults(), [&](AffineExpr expr) {
      return separatingFactor(expr, *access, variable);
    });
    if (!common)
      common = factors;
    for (auto [a, b] : llvm::zip(*common, factors))
      if (a != b)
        a = 0;
  });
  return common;
}

bool llamac::isSeparated(Value buffer, Operation *loop, Value variable) {
  auto factors = separatingFactors(buffer, loop, variable);
  return factors && llvm::any_of(*factors, [](int64_t factor) { return factor != 0; });
}

bool llamac::areSeparated(Value buffer, Operation *nest, ArrayRef<Value> variables) {
  auto type = cast<MemRefType>(buffer.getType());
  // The loop of a variable; nothing if it is another value of the nest.
  auto loopOf = [&](Value value) -> Operation * {
    auto argument = dyn_cast<BlockArgument>(value);
    Operation *loop = argument ? argument.getOwner()->getParentOp() : nullptr;
    return loop && isLoop(*loop) && nest->isAncestor(loop) && inductionVariableOf(loop) == value &&
                   constantRange(loop)
               ? loop
               : nullptr;
  };
  auto isOutside = [&](Value value) {
    return !nest->isAncestor(value.getParentRegion()->getParentOp());
  };
  // Dimensions whose index is, in all accesses, a sum of loop variables and what the nest
  // does not change. Elements that differ in those are different.
  SmallVector<LoopAccess> accesses;
  nest->walk([&](Operation *op) {
    if (std::optional<LoopAccess> access = loopAccessOf(op); access && access->buffer == buffer)
      accesses.push_back(*access);
  });
  llvm::SmallBitVector known(type.getRank(), true);
  for (const LoopAccess &access : accesses)
    for (int64_t d = 0; d < type.getRank(); ++d) {
      std::optional<LinearIndex> index = linearIndex(access, d);
      if (!index || llvm::any_of(index->coefficients, [&](auto &term) {
            return !loopOf(term.first) && !isOutside(term.first);
          }))
        known[d] = false;
    }
  // Those as one number: coefficients of `variables` and of what is outside must agree, the
  // rest of the numbers lies in [low, high].
  std::optional<LinearIndex> common;
  int64_t low = 0, high = 0;
  for (const LoopAccess &access : accesses) {
    LinearIndex linear, fixed;
    for (int64_t d = 0; d < type.getRank(); ++d)
      if (known[d]) {
        LinearIndex scaled;
        scaled.add(linear, type.getDimSize(d));
        scaled.add(*linearIndex(access, d), 1);
        linear = scaled;
      }
    int64_t from = linear.constant, to = linear.constant;
    for (auto [value, coefficient] : linear.coefficients) {
      if (coefficient == 0)
        continue;
      if (llvm::is_contained(variables, value) || isOutside(value)) {
        fixed.coefficients[value] = coefficient;
        continue;
      }
      LoopRange range = *constantRange(loopOf(value));
      if (range.size() == 0)
        continue;
      int64_t a = coefficient * range.low, b = coefficient * (range.high - 1);
      from += std::min(a, b), to += std::max(a, b);
    }
    if (!common) {
      common = fixed, low = from, high = to;
      continue;
    }
    LinearIndex difference = fixed;
    difference.add(*common, -1);
    if (llvm::any_of(difference.coefficients, [](auto &term) { return term.second != 0; }))
      return false;
    low = std::min(low, from), high = std::max(high, to);
  }
  if (!common)
    return true;
  // The variables by size of their steps: each step is beyond all that smaller ones reach.
  SmallVector<std::pair<int64_t, int64_t>> steps; // |coefficient|, iterations
  for (Value variable : variables)
    steps.push_back({std::abs(common->of(variable)), constantRange(loopOf(variable))->size()});
  llvm::sort(steps);
  int64_t reach = high - low + 1;
  for (auto [step, size] : steps) {
    if (size <= 1)
      continue;
    if (step < reach)
      return false;
    reach += step * (size - 1);
  }
  return true;
}
