//===- IndexSums.cpp - Sums of rows by index ------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//     for row { if (...) { for columns { table[index][column] += term } } }
//
// The first row of an index does the sum of all rows of that index, in their order. Which those are
// is found by a kernel before: for each row whether it is the first, and the next.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/TeamEmitter.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llamac::teams;

// Rows of a block that finds the rows of one index.
static constexpr int64_t kRowsOfList = 64;

namespace {
class IndexSumEmitter : TeamEmitter {
public:
  IndexSumEmitter(const Nest &nest, const Plan &plan) : TeamEmitter(nest, plan) {}

  void emit() {
    const Columns &columns = plan.columns.front().second;
    numberType = builder.getI32Type();
    builder.setInsertionPoint(nest.call);
    Value lists =
        memref::AllocOp::create(builder, loc, MemRefType::get({2, plan.rowCount}, numberType));
    begin(llvm::divideCeil(plan.rowCount, kRowsOfList), kRowsOfList, lists, "_list");
    emitLists();

    int64_t beside = llvm::divideCeil(columns.pieces(), plan.team);
    begin(plan.rowCount * beside, plan.team, lists);
    Value block = number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
    Value own = arith::DivUIOp::create(builder, loc, block, constant(beside));
    Value piece = add(multiply(remainder(block, beside), threads), thread);
    Type index = builder.getIndexType();
    Value isFirst = memref::LoadOp::create(builder, loc, added[0], ValueRange{resize(own, index)});
    Value guard =
        arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, isFirst, constant(0));
    if (columns.pieces() % threads != 0)
      guard = conjunction(guard, arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult,
                                                       piece, constant(columns.pieces())));
    guarded(guard, [&] {
      const Reduction &r = columns.reductions.front();
      Place place = placeOf(columns, piece, 0, Value(), 0);
      emitRowScalars(own);
      Lanes sums = loadPiece(r.load, columns, place);
      sums.resize(columns.lanes, sums[0]);
      SmallVector<Value> initial{own};
      initial.append(sums);
      SmallVector<Type> types(ValueRange(initial).getTypes());
      auto loop = scf::WhileOp::create(builder, loc, types, initial);
      SmallVector<Location> locations(types.size(), loc);
      {
        OpBuilder::InsertionGuard restore(builder);
        Block *before = builder.createBlock(&loop.getBefore(), {}, types, locations);
        Value at = before->getArgument(0);
        Value link = resize(add(at, constant(plan.rowCount)), index);
        Value next = memref::LoadOp::create(builder, loc, added[0], ValueRange{link});
        known.clear();
        emitRowScalars(at);
        elementSums[r.cell].assign(before->args_begin() + 1, before->args_end());
        emitPiece(columns, place);
        SmallVector<Value> values{next};
        values.append(elementSums[r.cell]);
        Value more =
            arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, next, constant(0));
        scf::ConditionOp::create(builder, loc, more, values);
        Block *after = builder.createBlock(&loop.getAfter(), {}, types, locations);
        scf::YieldOp::create(builder, loc, after->getArguments());
      }
      known.clear();
      emitRowScalars(own);
      writePiece(r.store, columns, place, Lanes(llvm::drop_begin(loop.getResults())));
    });
  }

private:
  // The scalars of a row, also those under the condition.
  void emitRowScalars(Value number) {
    uniform.map(inductionVariableOf(nest.loop), resize(number, builder.getIndexType()));
    scf::IfOp condition = plan.condition;
    for (Block *block : {plan.body, condition.thenBlock()})
      for (Operation &op : block->without_terminator())
        if (&op != condition.getOperation() && !isLoop(op))
          emitScalar(op);
  }

  // The number of the first element that a row adds to, -1 if it adds to none.
  Value elementOf(Value row) {
    Operation *store = plan.columns.front().second.reductions.front().store;
    scf::IfOp condition = plan.condition;
    Type type = builder.getI64Type();
    auto orNone = [&](Value holds, llvm::function_ref<Value()> make) -> Value {
      auto ifOp = scf::IfOp::create(builder, loc, type, holds, /*withElseRegion=*/true);
      OpBuilder::InsertionGuard restore(builder);
      builder.setInsertionPointToEnd(ifOp.thenBlock());
      Value made = make();
      scf::YieldOp::create(builder, loc, made);
      builder.setInsertionPointToEnd(ifOp.elseBlock());
      Value none = constant(type, -1);
      scf::YieldOp::create(builder, loc, none);
      return ifOp.getResult(0);
    };
    Value there = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, row,
                                        constant(plan.rowCount));
    return orNone(there, [&]() -> Value {
      uniform.map(inductionVariableOf(nest.loop), resize(row, builder.getIndexType()));
      for (Operation &op : plan.body->without_terminator())
        if (&op != condition.getOperation())
          emitScalar(op);
      return orNone(uniform.lookup(condition.getCondition()), [&]() -> Value {
        for (Operation &op : condition.thenBlock()->without_terminator())
          if (!isLoop(op))
            emitScalar(op);
        const Columns &columns = plan.columns.front().second;
        Place place = placeOf(columns, constant(0), 0, Value(), 0);
        return resize(elementNumber(store, &columns, &place, 0), type);
      });
    });
  }

  // A thread per row compares its key with all others, a block's number of them at a time.
  void emitLists() {
    Type i64 = builder.getI64Type(), index = builder.getIndexType();
    auto space = gpu::AddressSpaceAttr::get(builder.getContext(), gpu::AddressSpace::Workgroup);
    Value keys = kernel.addWorkgroupAttribution(
        MemRefType::get({threads}, i64, MemRefLayoutAttrInterface(), space), loc);
    Value own = thread;
    if (blocks > 1)
      own = add(multiply(number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x)), threads),
                own);
    Value key = elementOf(own);
    auto loop = scf::ForOp::create(builder, loc, constant(0), constant(plan.rowCount),
                                   constant(threads), ValueRange{constant(1), constant(-1)});
    {
      OpBuilder::InsertionGuard restore(builder);
      builder.setInsertionPointToEnd(loop.getBody());
      // Not before all have looked at the keys before.
      if (plan.rowCount > threads)
        guarded(arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne,
                                      loop.getInductionVar(), constant(0)),
                [&] { gpu::BarrierOp::create(builder, loc); });
      Value other = elementOf(add(loop.getInductionVar(), thread));
      memref::StoreOp::create(builder, loc, other, keys, ValueRange{resize(thread, index)});
      gpu::BarrierOp::create(builder, loc);
      auto inner = scf::ForOp::create(builder, loc, constant(0), constant(threads), constant(1),
                                      loop.getRegionIterArgs());
      {
        OpBuilder::InsertionGuard restore(builder);
        builder.setInsertionPointToEnd(inner.getBody());
        Value isFirst = inner.getRegionIterArg(0), next = inner.getRegionIterArg(1);
        Value that = memref::LoadOp::create(builder, loc, keys,
                                            ValueRange{resize(inner.getInductionVar(), index)});
        Value row = add(loop.getInductionVar(), inner.getInductionVar());
        auto compare = [&](arith::CmpIPredicate predicate, Value a, Value b) -> Value {
          return arith::CmpIOp::create(builder, loc, predicate, a, b);
        };
        Value same = compare(arith::CmpIPredicate::eq, key, that);
        Value earlier = conjunction(same, compare(arith::CmpIPredicate::ult, row, own));
        Value later = conjunction(conjunction(same, compare(arith::CmpIPredicate::ugt, row, own)),
                                  compare(arith::CmpIPredicate::slt, next, constant(0)));
        isFirst = arith::SelectOp::create(builder, loc, earlier, constant(0), isFirst);
        next = arith::SelectOp::create(builder, loc, later, row, next);
        scf::YieldOp::create(builder, loc, ValueRange{isFirst, next});
      }
      scf::YieldOp::create(builder, loc, inner.getResults());
    }
    Value there = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, own,
                                        constant(plan.rowCount));
    guarded(there, [&] {
      Value adds =
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, key, constant(i64, 0));
      Value isFirst = arith::SelectOp::create(builder, loc, adds, loop.getResult(0), constant(0));
      memref::StoreOp::create(builder, loc, isFirst, added[0], ValueRange{resize(own, index)});
      memref::StoreOp::create(builder, loc, loop.getResult(1), added[0],
                              ValueRange{resize(add(own, constant(plan.rowCount)), index)});
    });
  }
};
} // namespace

void teams::emitIndexSums(const Nest &nest, const Plan &plan) {
  IndexSumEmitter(nest, plan).emit();
}
