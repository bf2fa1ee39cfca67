//===- FuseLoops.cpp - Make neighbouring row loops one --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Goes through the loops of a block in order. A loop moves up to an earlier one
// with the same range, over ops that it does not conflict with, if every buffer
// that one of the two writes and the other accesses is separated by both variables
// in the same way (LoopAccess.h): iteration r of the second then needs only what
// iterations 0 .. r of the first have done.
//
//   for r { sum[r] += x[r, c] }  for r { y[r, c] = x[r, c] / sum[r] }
//   -> for r { sum[r] += x[r, c] ; y[r, c] = x[r, c] / sum[r] }
//
// The same inside of the loops made so. A temporary that is used in one loop only,
// at index `r` in one dimension, loses that dimension: sum[r] becomes a cell.
//
// Upstream's affine-loop-fusion does this and more, but in LLVM 22 it may privatize
// the same buffers for ever, depending on addresses.
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/Llama.h"
#include "lib/Lower/LoopAccess.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Transforms/RegionUtils.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_FUSELOOPSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using affine::AffineForOp;

static bool sameRange(AffineForOp a, AffineForOp b) {
  return a.hasConstantBounds() && b.hasConstantBounds() && a.getNumIterOperands() == 0 &&
         b.getNumIterOperands() == 0 && a.getConstantLowerBound() == b.getConstantLowerBound() &&
         a.getConstantUpperBound() == b.getConstantUpperBound() && a.getStepAsInt() == 1 &&
         b.getStepAsInt() == 1;
}

// Whether all accesses of `buffer` in both loops are separated in one dimension by
// one factor.
static bool separatedAlike(Value buffer, AffineForOp a, AffineForOp b) {
  auto inA = separatingFactors(buffer, a, a.getInductionVar()),
       inB = separatingFactors(buffer, b, b.getInductionVar());
  if (!inA || !inB)
    return false;
  for (auto [factorA, factorB] : llvm::zip(*inA, *inB))
    if (factorA != 0 && factorA == factorB)
      return true;
  return false;
}

namespace {
struct FuseLoopsPass : llamac::impl::FuseLoopsPassBase<FuseLoopsPass> {
  void runOnOperation() override {
    if (getOperation().isExternal())
      return;
    Block &body = getOperation().getBody().front();
    // Constants and buffers first, so that loops can move over them.
    Operation *front = &body.front();
    for (Operation &op : llvm::make_early_inc_range(body))
      if (op.hasTrait<OpTrait::ConstantLike>() || isa<memref::AllocOp, memref::GetGlobalOp>(op)) {
        if (&op == front)
          front = front->getNextNode();
        else
          op.moveBefore(front);
      }
    fuseIn(body);
    for (auto alloc : llvm::make_early_inc_range(body.getOps<memref::AllocOp>()))
      shrink(alloc);
  }

  // Moves loops that only write (that fill a buffer) down into the first loop that
  // uses the buffer: up in an earlier loop it would live longer.
  static void sinkFills(Block &block) {
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block))) {
      auto fill = dyn_cast<AffineForOp>(op);
      Footprint written(&op);
      if (!fill || !written.reads.empty())
        continue;
      for (Operation *next = op.getNextNode(); next; next = next->getNextNode()) {
        Footprint footprint(next);
        if (!footprint.conflictsWith(written))
          continue;
        if (auto user = dyn_cast<AffineForOp>(next);
            user && canFuse(fill, written, user, footprint))
          fuse(user, fill, user.getBody()->begin());
        break;
      }
    }
  }

  // Fuses the loops that lie directly in `block`, then those in them.
  void fuseIn(Block &block) {
    struct Item {
      Operation *op;
      Footprint footprint;
    };
    sinkFills(block);
    SmallVector<Item> items;
    for (Operation &op : llvm::make_early_inc_range(block)) {
      if (op.hasTrait<OpTrait::IsTerminator>())
        break;
      auto loop = dyn_cast<AffineForOp>(op);
      Footprint footprint(&op);
      bool fused = false;
      if (loop) {
        for (Item &item : llvm::reverse(items)) {
          auto other = dyn_cast<AffineForOp>(item.op);
          if (other && canFuse(other, item.footprint, loop, footprint)) {
            fuse(other, loop, other.getBody()->getTerminator()->getIterator());
            item.footprint = Footprint(other);
            fused = true;
            break;
          }
          if (item.footprint.conflictsWith(footprint) || defines(item.op, loop))
            break;
        }
      }
      if (!fused)
        items.push_back({&op, footprint});
    }
    for (Item &item : items)
      if (auto loop = dyn_cast<AffineForOp>(item.op))
        fuseIn(*loop.getBody());
  }

  // Whether `loop` uses a result of `op`.
  static bool defines(Operation *op, AffineForOp loop) {
    return llvm::any_of(op->getUsers(), [&](Operation *user) { return loop->isAncestor(user); });
  }

  static bool canFuse(AffineForOp a, const Footprint &ofA, AffineForOp b, const Footprint &ofB) {
    if (!sameRange(a, b))
      return false;
    auto alike = [&](Value buffer) { return separatedAlike(buffer, a, b); };
    for (Value buffer : ofA.writes)
      if ((ofB.reads.contains(buffer) || ofB.writes.contains(buffer)) && !alike(buffer))
        return false;
    for (Value buffer : ofA.reads)
      if (ofB.writes.contains(buffer) && !alike(buffer))
        return false;
    return true;
  }

  // Moves the body of `b` to `at` in `a`.
  static void fuse(AffineForOp a, AffineForOp b, Block::iterator at) {
    b.getInductionVar().replaceAllUsesWith(a.getInductionVar());
    Block *from = b.getBody();
    a.getBody()->getOperations().splice(at, from->getOperations(), from->begin(),
                                        from->getTerminator()->getIterator());
    b.erase();
  }

  // Drops the dimension in which every access has the outer loop's variable as
  // index, if only that loop uses the buffer.
  static void shrink(memref::AllocOp alloc) {
    AffineForOp loop;
    for (Operation *user : alloc->getUsers()) {
      auto ancestor =
          dyn_cast_or_null<AffineForOp>(alloc->getBlock()->findAncestorOpInBlock(*user));
      if (!ancestor || (loop && ancestor != loop) ||
          !isa<affine::AffineLoadOp, affine::AffineStoreOp>(user))
        return;
      loop = ancestor;
    }
    if (!loop)
      return;
    Value variable = loop.getInductionVar();
    MemRefType type = alloc.getType();
    for (int64_t dimension = 0; dimension < type.getRank(); ++dimension) {
      bool isVariable = llvm::all_of(alloc->getUsers(), [&](Operation *user) {
        LoopAccess access = *loopAccessOf(user);
        auto expr = dyn_cast<AffineDimExpr>(access.map.getResult(dimension));
        return expr && access.operands[expr.getPosition()] == variable;
      });
      if (!isVariable)
        continue;
      SmallVector<int64_t> shape(type.getShape());
      shape.erase(shape.begin() + dimension);
      alloc.getResult().setType(MemRefType::get(shape, type.getElementType()));
      for (Operation *user : alloc->getUsers()) {
        AffineMap map = loopAccessOf(user)->map.dropResult(dimension);
        if (auto load = dyn_cast<affine::AffineLoadOp>(user))
          load.setMap(map);
        else
          cast<affine::AffineStoreOp>(user).setMap(map);
      }
      return;
    }
  }
};
} // namespace
