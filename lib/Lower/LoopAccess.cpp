//===- LoopAccess.cpp - What loops read and write -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/LoopAccess.h"

#include "dialects/Routine/IR/Routine.h"

#include "mlir/Dialect/Affine/Analysis/AffineStructures.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"

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

Footprint::Footprint(Operation *root) {
  root->walk([&](Operation *op) {
    if (std::optional<LoopAccess> access = loopAccessOf(op)) {
      (access->writes ? writes : reads).insert(access->buffer);
    } else if (auto call = dyn_cast<routine::RoutineOpInterface>(op)) {
      for (OpOperand *input : call.getDpsInputOperands())
        reads.insert(input->get());
      writes.insert_range(call.getDpsInits());
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
