//===- LongSums.cpp - Long sums of few rows -------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where rows are too few to fill the GPU, a long sum of theirs becomes nests of its own, before
// kernels are made. A total is summed in parts, each of them a row of a kernel, a thread's pieces
// in their order; what is left over, and the parts, the nest adds up:
//
//     for row { scalars; for column { total[row] += term }; scalars }
//
//   for row, part { partial[row, part] = 0; for column of part { partial[row, part] += term } }
//   for row { scalars; for part { total[row] += partial[row, part] }; scalars }
//
// A sum over a loop inside a row is a sum over rows (ColumnSums.cpp), which has parts itself:
//
//     for row { A; for i, column { sum[row, column] += term }; B }
//
//   for row { A }
//   for row, i, column { sum[row, column] += term }
//   for row { B }
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/TeamEmitter.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"

#include <numeric>

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llamac::teams;

// Elements of a part are a multiple: whole pieces of 16 bytes, few that are left over.
static constexpr int64_t kUnitOfPart = 64;

namespace {
class LongSum {
public:
  LongSum(const Nest &nest, const Plan &plan)
      : nest(nest), plan(plan), columns(plan.columns.find(plan.longSum)->second),
        builder(nest.loop->getContext()), loc(nest.loop->getLoc()) {}

  SmallVector<Nest> takeApart() { return columns.serial.empty() ? inParts() : byItself(); }

private:
  // A copy of the nest that runs before it.
  Nest copy(StringRef suffix, IRMapping &mapping) {
    auto module = nest.call->getParentOfType<ModuleOp>();
    std::string name = (nest.function.getSymName() + suffix).str();
    while (module.lookupSymbol(name))
      name += '_';
    builder.setInsertionPoint(nest.function);
    auto function = cast<func::FuncOp>(builder.clone(*nest.function, mapping));
    function.setSymName(name);
    builder.setInsertionPoint(nest.call);
    auto call = func::CallOp::create(builder, loc, function, nest.call.getOperands());
    return {function, mapping.lookup(nest.loop), call};
  }

  // Removes the row's ops for which `isGone` holds, users first.
  static void remove(Block &body, llvm::function_ref<bool(Operation &)> isGone) {
    SmallVector<Operation *> gone;
    for (Operation &op : body.without_terminator())
      if (isGone(op))
        gone.push_back(&op);
    for (Operation *op : llvm::reverse(gone))
      op->erase();
  }

  static Value addArgument(Nest &to, Value buffer) {
    (void)to.function.insertArgument(to.function.getNumArguments(), buffer.getType(), {},
                                     buffer.getLoc());
    to.call.getOperandsMutable().append(buffer);
    return to.function.getArguments().back();
  }

  SmallVector<Nest> byItself() {
    IRMapping toFirst, toSums;
    Operation *sum = plan.longSum;
    SmallVector<Nest> nests;
    if (sum != &plan.body->front()) {
      nests.push_back(copy("_first", toFirst));
      Operation *end = toFirst.lookup(sum);
      remove(*end->getBlock(), [&](Operation &op) { return !op.isBeforeInBlock(end); });
    }
    nests.push_back(copy("_sums", toSums));
    Operation *only = toSums.lookup(sum);
    remove(*only->getBlock(), [&](Operation &op) { return &op != only; });
    if (sum != &*std::prev(plan.body->without_terminator().end())) {
      nests.push_back(nest);
      remove(*plan.body, [&](Operation &op) { return &op == sum || op.isBeforeInBlock(sum); });
    } else {
      nest.call.erase();
      nest.function.erase();
    }
    return nests;
  }

  SmallVector<Nest> inParts() {
    auto whole = cast<affine::AffineForOp>(plan.longSum);
    LoopRange range = *constantRange(whole);
    int64_t inner = columns.elements / range.size();
    // As many parts as fill the GPU, or somewhat fewer that leave less over.
    int64_t unit = kUnitOfPart / std::gcd(inner, kUnitOfPart);
    int64_t least = std::max<int64_t>(1, range.size() * plan.rowCount / kBlocksOfGpu / unit) * unit;
    int64_t size = least;
    for (int64_t more = least; more <= least + least / 8; more += unit)
      if (range.size() % more < range.size() % size)
        size = more;
    int64_t parts = range.size() / size, low = range.low;
    if (parts < 2)
      return {nest};
    SmallVector<int64_t> shape;
    for (Operation *row : plan.rows)
      shape.push_back(constantRange(row)->size());
    shape.push_back(parts);
    builder.setInsertionPoint(nest.call);
    IRMapping mapping;
    SmallVector<Value> partial;
    for (const Reduction &r : columns.reductions)
      partial.push_back(memref::AllocOp::create(
          builder, loc, MemRefType::get(shape, r.combine->getResult(0).getType())));
    Nest first = copy("_parts", mapping);

    // One part more is one iteration of a loop around the copy's.
    auto part = cast<affine::AffineForOp>(mapping.lookup(plan.longSum));
    remove(*part->getBlock(), [&](Operation &op) { return &op != part; });
    part.setConstantLowerBound(0);
    part.setConstantUpperBound(size);
    builder.setInsertionPoint(part);
    auto all = affine::AffineForOp::create(builder, loc, 0, parts);
    part->moveBefore(all.getBody()->getTerminator());
    builder.setInsertionPointToStart(mapping.lookup(columns.body));
    AffineExpr number = builder.getAffineDimExpr(0) * size + builder.getAffineDimExpr(1) + low;
    Value variable = part.getInductionVar();
    auto column = affine::AffineApplyOp::create(builder, loc, AffineMap::get(2, 0, number),
                                                ValueRange{all.getInductionVar(), variable});
    variable.replaceAllUsesExcept(column, column);
    SmallVector<Value> at = rowsOf(mapping);
    at.push_back(all.getInductionVar());
    for (auto [r, buffer] : llvm::zip(columns.reductions, partial)) {
      Value memory = addArgument(first, buffer);
      builder.setInsertionPoint(part);
      Value neutral = arith::ConstantOp::create(
          builder, loc, neutralOf(builder, r.combine, r.combine->getResult(0).getType()));
      memref::StoreOp::create(builder, loc, neutral, memory, at);
      Operation *load = mapping.lookup(r.load), *store = mapping.lookup(r.store);
      builder.setInsertionPoint(load);
      load->getResult(0).replaceAllUsesWith(
          memref::LoadOp::create(builder, loc, memory, at).getResult());
      builder.setInsertionPoint(store);
      memref::StoreOp::create(builder, loc, store->getOperand(0), memory, at);
      load->erase();
      store->erase();
    }

    // The nest adds up the parts, and what is behind them.
    builder.setInsertionPoint(whole);
    auto sum = affine::AffineForOp::create(builder, loc, 0, parts);
    at = rowsOf(IRMapping());
    at.push_back(sum.getInductionVar());
    for (auto [r, buffer] : llvm::zip(columns.reductions, partial)) {
      Value memory = addArgument(nest, buffer);
      builder.setInsertionPoint(sum.getBody()->getTerminator());
      IRMapping values;
      Operation *load = builder.clone(*r.load);
      values.map(r.load->getResult(0), load->getResult(0));
      values.map(r.term, memref::LoadOp::create(builder, loc, memory, at).getResult());
      builder.clone(*r.combine, values);
      builder.clone(*r.store, values);
    }
    if (parts * size == range.size())
      whole.erase();
    else
      whole.setConstantLowerBound(low + parts * size);
    return {first, nest};
  }

  SmallVector<Value> rowsOf(const IRMapping &mapping) const {
    return llvm::map_to_vector(plan.rows, [&](Operation *row) {
      return mapping.lookupOrDefault(inductionVariableOf(row));
    });
  }

  Nest nest;
  const Plan &plan;
  const Columns &columns;
  OpBuilder builder;
  Location loc;
};
} // namespace

SmallVector<Nest> llamac::takeApart(const Nest &nest) {
  SmallVector<Nest> open{nest}, done;
  while (!open.empty()) {
    Nest next = open.pop_back_val();
    std::optional<Plan> plan = planTeams(next);
    SmallVector<Nest> parts{next};
    if (plan && plan->longSum)
      parts = LongSum(next, *plan).takeApart();
    if (parts.size() == 1)
      done.push_back(parts.front());
    else
      open.append(parts.rbegin(), parts.rend());
  }
  return done;
}
