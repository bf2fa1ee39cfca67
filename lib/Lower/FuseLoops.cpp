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
// The same inside of the loops made so; sums over rows that read the same become one
// too. A temporary that is used in one loop only, at index `r` in one dimension, loses
// that dimension: sum[r] becomes a cell.
//
// Upstream's affine-loop-fusion does this and more, but in LLVM 22 it may privatize
// the same buffers for ever, depending on addresses.
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/Llama.h"
#include "lib/Lower/LoopAccess.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Affine/LoopUtils.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Iterators.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
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
    removeUnread(body);
    getOperation().walk([&](AffineForOp loop) {
      if (isa<AffineForOp>(loop->getParentOp()))
        (void)affine::promoteIfSingleIteration(loop);
    });
    fuseIn(body);
    getOperation().walk([](AffineForOp loop) { removeOverwritten(*loop.getBody()); });
    removeUnread(body);
    fuseColumnSums(body);
    for (auto alloc : llvm::make_early_inc_range(body.getOps<memref::AllocOp>()))
      shrink(alloc);
  }

  // Removes buffers that are only written, and what was computed for them alone.
  void removeUnread(Block &body) {
    bool changed = true;
    while (changed) {
      changed = false;
      for (auto alloc : llvm::make_early_inc_range(body.getOps<memref::AllocOp>())) {
        if (!llvm::all_of(alloc->getUses(), [](OpOperand &use) {
              std::optional<LoopAccess> access = loopAccessOf(use.getOwner());
              return access && access->writes && use.getOwner()->getOperand(0) != use.get();
            }))
          continue;
        for (Operation *store : llvm::make_early_inc_range(alloc->getUsers()))
          store->erase();
        alloc.erase();
        changed = true;
      }
      getOperation().walk<WalkOrder::PostOrder, mlir::ReverseIterator>([](Operation *op) {
        if (isOpTriviallyDead(op))
          op->erase();
      });
    }
  }

  // Removes a store behind which the same block stores to the same element, and nothing between
  // reads the buffer; and takes what was stored where the block loads it.
  static void removeOverwritten(Block &block) {
    llvm::DenseMap<Value, affine::AffineStoreOp> last; // of a buffer that nothing has read since
    for (Operation &op : llvm::make_early_inc_range(block)) {
      auto isSame = [&](affine::AffineStoreOp store, const LoopAccess &access) {
        return store && store.getAffineMap() == access.map &&
               llvm::equal(store.getMapOperands(), access.operands);
      };
      if (auto store = dyn_cast<affine::AffineStoreOp>(op)) {
        affine::AffineStoreOp &before = last[store.getMemRef()];
        if (isSame(before, *loopAccessOf(store)))
          before.erase();
        before = store;
      } else if (auto load = dyn_cast<affine::AffineLoadOp>(op);
                 load && isSame(last.lookup(load.getMemRef()), *loopAccessOf(load))) {
        load.replaceAllUsesWith(last.lookup(load.getMemRef()).getValueToStore());
        load.erase();
      } else {
        Footprint footprint(&op);
        for (const llvm::SetVector<Value> &touched : {footprint.reads, footprint.writes})
          for (Value buffer : touched)
            last.erase(buffer);
      }
    }
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
    auto apart = [&](Value buffer) { return areSeparated(buffer, a, b); };
    for (Value buffer : ofA.writes)
      if ((ofB.reads.contains(buffer) || ofB.writes.contains(buffer)) && !apart(buffer))
        return false;
    for (Value buffer : ofA.reads)
      if (ofB.writes.contains(buffer) && !apart(buffer))
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

  // A sum over rows, `for row { for columns { ... } }` (llama-lower-row-loops): its two loops.
  static std::optional<std::pair<scf::ForOp, scf::ForOp>> columnSumOf(Operation &op) {
    auto rows = dyn_cast<scf::ForOp>(op);
    if (!rows || !llvm::hasNItems(*rows.getBody(), 2))
      return std::nullopt;
    auto columns = dyn_cast<scf::ForOp>(rows.getBody()->front());
    if (!columns || !columns->hasAttr(kColumnsAttr) || columns.getNumRegionIterArgs() != 0 ||
        !constantRange(rows) || !constantRange(columns))
      return std::nullopt;
    return std::pair(rows, columns);
  }

  // Sums over the same rows of the same columns that read a buffer in common become one, where the
  // first one is: the buffer is read once.
  static void fuseColumnSums(Block &block) {
    auto isSame = [](scf::ForOp a, scf::ForOp b) {
      LoopRange ofA = *constantRange(a), ofB = *constantRange(b);
      return ofA.low == ofB.low && ofA.high == ofB.high;
    };
    for (Operation &op : llvm::make_early_inc_range(block)) {
      auto sum = columnSumOf(op);
      if (!sum)
        continue;
      auto [rows, columns] = *sum;
      Footprint footprint(&op);
      for (Operation *before = op.getPrevNode(); before; before = before->getPrevNode()) {
        Footprint ofBefore(before);
        if (ofBefore.conflictsWith(footprint) ||
            llvm::any_of(before->getUsers(), [&](Operation *u) { return op.isAncestor(u); }))
          break;
        auto other = columnSumOf(*before);
        if (!other || !isSame(other->first, rows) || !isSame(other->second, columns) ||
            llvm::none_of(footprint.reads, [&](Value buffer) {
              return ofBefore.reads.contains(buffer) &&
                     cast<MemRefType>(buffer.getType()).getRank() > 1;
            }))
          continue;
        rows.getInductionVar().replaceAllUsesWith(other->first.getInductionVar());
        columns.getInductionVar().replaceAllUsesWith(other->second.getInductionVar());
        Block *to = other->second.getBody(), *from = columns.getBody();
        to->getOperations().splice(to->getTerminator()->getIterator(), from->getOperations(),
                                   from->begin(), from->getTerminator()->getIterator());
        rows.erase();
        break;
      }
    }
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
