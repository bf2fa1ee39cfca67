//===- OutlineLoops.cpp - Make outermost loops functions ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Ops of a block that are in no loop get one of a single iteration, so that all that computes
// is a loop; then each outermost loop becomes a function of its buffers and of a range:
//
//   affine.for %i = 0 to 64 { ... %a ... }   =>   func @f.loop0(%a, %b, %low, %high) { scf/affine }
//                                                 call @f.loop0(%a, %b, 0, 64) {grain}
//
// A loop that threads may share says from how many rows on (grain). One that sums over its rows
// has its columns shared instead: each thread goes through all rows.
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Routine/IR/Routine.h"
#include "lib/Lower/LoopAccess.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Transforms/RegionUtils.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_OUTLINELOOPSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

// Elementary operations that are worth a thread of their own: about 5 us, ten
// times what it costs to start the others.
static constexpr int64_t kOperationsPerThread = 16384;
// Columns of a sum over rows worth a thread of their own.
static constexpr int64_t kColumnsPerThread = 256;
// The most stack memory of one loop, bytes.
static constexpr int64_t kStackBytes = 256 << 10;

// Operations of one run of `region`, loops counted as often as they turn.
static int64_t countOperations(Region &region) {
  int64_t count = 0;
  for (Operation &op : region.getOps()) {
    ++count;
    for (Region &inner : op.getRegions()) {
      std::optional<LoopRange> range = isLoop(op) ? constantRange(&op) : std::nullopt;
      count += countOperations(inner) * (range ? std::max<int64_t>(range->size(), 1) : 1);
    }
  }
  return count;
}

namespace {
struct OutlineLoopsPass : llamac::impl::OutlineLoopsPassBase<OutlineLoopsPass> {
  using OutlineLoopsPassBase::OutlineLoopsPassBase;

  void runOnOperation() override {
    SmallVector<func::FuncOp> functions(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp function : functions) {
      if (function.isExternal())
        continue;
      wrapLooseOps(function);
      int64_t number = 0;
      for (Operation &op : llvm::make_early_inc_range(function.getBody().front()))
        if (isLoop(op) && failed(outline(function, &op, number++)))
          return signalPassFailure();
    }
  }

  // Whether an op may stay between the loops: it needs no code, or is a call.
  static bool staysOutside(Operation &op) {
    return isLoop(op) || op.hasTrait<OpTrait::IsTerminator>() ||
           op.hasTrait<OpTrait::ConstantLike>() ||
           isa<memref::AllocOp, memref::GetGlobalOp, memref::ReinterpretCastOp,
               routine::RoutineOpInterface, func::CallOp, gpu::LaunchFuncOp>(op);
  }

  // Gives runs of ops that are in no loop a loop of one iteration. A scalar that
  // is used after its run goes through memory.
  void wrapLooseOps(func::FuncOp function) {
    Block &body = function.getBody().front();
    SmallVector<SmallVector<Operation *>> runs(1);
    for (Operation &op : body) {
      if (!staysOutside(op))
        runs.back().push_back(&op);
      else if (!isa<memref::AllocOp, memref::GetGlobalOp>(op) &&
               !op.hasTrait<OpTrait::ConstantLike>() && !runs.back().empty())
        runs.emplace_back();
    }
    for (ArrayRef<Operation *> run : runs) {
      if (run.empty())
        continue;
      OpBuilder builder(run.front());
      // Constants and buffers of the run come first.
      auto loop = affine::AffineForOp::create(builder, run.front()->getLoc(), 0, 1);
      loop->moveAfter(run.back());
      llvm::SmallPtrSet<Operation *, 8> members(run.begin(), run.end());
      for (Operation *op : run) {
        for (Value result : op->getResults()) {
          SmallVector<OpOperand *> outside;
          for (OpOperand &use : result.getUses())
            if (!members.contains(
                    function.getBody().front().findAncestorOpInBlock(*use.getOwner())))
              outside.push_back(&use);
          if (outside.empty())
            continue;
          builder.setInsertionPointToStart(&body);
          Value cell =
              memref::AllocOp::create(builder, op->getLoc(), MemRefType::get({}, result.getType()));
          for (OpOperand *use : outside) {
            builder.setInsertionPoint(use->getOwner());
            use->set(memref::LoadOp::create(builder, op->getLoc(), cell));
          }
          builder.setInsertionPoint(loop.getBody()->getTerminator());
          memref::StoreOp::create(builder, op->getLoc(), result, cell);
        }
      }
      // The stores above are before the terminator: the run goes to the front.
      Operation *front = &loop.getBody()->front();
      for (Operation *op : run)
        op->moveBefore(front);
    }
  }

  LogicalResult outline(func::FuncOp function, Operation *loop, int64_t number) {
    MLIRContext *context = &getContext();
    OpBuilder builder(loop);
    Location loc = loop->getLoc();

    // The loop whose range becomes arguments: the columns, or the loop itself.
    scf::ForOp columns = columnsLoop(loop);
    bool isColumns = columns != nullptr;
    Operation *ranged = isColumns ? columns : loop;
    std::optional<LoopRange> range = constantRange(ranged);
    if (!range)
      return loop->emitOpError("expects constant bounds and step 1");
    Value variable = inductionVariableOf(ranged);

    // Buffers written under the loop; what is needed from outside.
    llvm::SetVector<Value> outside, written;
    getUsedValuesDefinedAbove(loop->getRegions(), outside);
    for (Value operand : loop->getOperands())
      outside.insert(operand);
    loop->walk([&](Operation *op) {
      if (std::optional<LoopAccess> access = loopAccessOf(op))
        if (access->writes)
          written.insert(access->buffer);
    });

    SmallVector<Value> arguments;
    SmallVector<Operation *> inside; // constants to repeat, buffers to move
    bool independent = true;
    for (Value value : outside) {
      Operation *op = value.getDefiningOp();
      if (op && (op->hasTrait<OpTrait::ConstantLike>() || isa<memref::GetGlobalOp>(op))) {
        inside.push_back(op);
        continue;
      }
      auto type = dyn_cast<MemRefType>(value.getType());
      if (!type)
        return loop->emitOpError("expects only buffers and constants from outside, but got ")
               << value.getType();
      bool separated = !written.contains(value) || isColumns || areSeparated(value, loop, variable);
      bool own = isa_and_nonnull<memref::AllocOp>(op) &&
                 llvm::all_of(op->getUsers(), [&](Operation *u) { return loop->isAncestor(u); });
      int64_t bytes = type.getNumElements() * llvm::divideCeil(type.getElementTypeBitWidth(), 8);
      if (own && bytes <= kStackBytes && (bytes <= 64 || !separated)) {
        inside.push_back(op);
        continue;
      }
      independent &= separated;
      arguments.push_back(value);
    }

    // The function.
    SmallVector<Type> types(ValueRange(arguments).getTypes());
    types.append(2, builder.getIndexType());
    builder.setInsertionPoint(function);
    std::string name = (function.getSymName() + ".loop" + Twine(number)).str();
    auto made = func::FuncOp::create(builder, loc, name, builder.getFunctionType(types, {}));
    made.setPrivate();
    Block *entry = made.addEntryBlock();
    for (unsigned i = 0; i < arguments.size(); ++i)
      made.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), builder.getUnitAttr());

    // The call.
    builder.setInsertionPoint(loop);
    SmallVector<Value> operands(arguments);
    operands.push_back(arith::ConstantIndexOp::create(builder, loc, range->low));
    operands.push_back(arith::ConstantIndexOp::create(builder, loc, range->high));
    auto call = func::CallOp::create(builder, loc, made, operands);
    int64_t count = range->size();
    if (parallel && independent && count > 1) {
      int64_t work = std::max<int64_t>(countOperations(ranged->getRegion(0)), 1);
      int64_t grain = isColumns ? kColumnsPerThread : llvm::divideCeil(kOperationsPerThread, work);
      if (grain < count)
        call->setAttr(kGrainAttr, builder.getI64IntegerAttr(grain));
    }

    // The body.
    builder.setInsertionPointToStart(entry);
    IRMapping mapping;
    for (Operation *op : inside) {
      if (isa<memref::AllocOp>(op)) {
        Value cell = memref::AllocaOp::create(builder, op->getLoc(),
                                              cast<MemRefType>(op->getResult(0).getType()));
        mapping.map(op->getResult(0), cell);
      } else {
        builder.clone(*op, mapping);
      }
    }
    for (auto [from, to] : llvm::zip(arguments, entry->getArguments()))
      mapping.map(from, to);
    Operation *clone = builder.clone(*loop, mapping);
    func::ReturnOp::create(builder, loc);
    Operation *divided = isColumns ? columnsLoop(clone) : clone;
    Value from = entry->getArgument(arguments.size()),
          to = entry->getArgument(arguments.size() + 1);
    if (auto affineLoop = dyn_cast<affine::AffineForOp>(divided)) {
      AffineMap bound = AffineMap::get(0, 1, getAffineSymbolExpr(0, context));
      affineLoop.setLowerBound(from, bound);
      affineLoop.setUpperBound(to, bound);
    } else {
      cast<scf::ForOp>(divided).setLowerBound(from);
      cast<scf::ForOp>(divided).setUpperBound(to);
    }
    loop->erase();
    for (Operation *op : inside)
      if (op->use_empty())
        op->erase();
    return success();
  }
};
} // namespace
