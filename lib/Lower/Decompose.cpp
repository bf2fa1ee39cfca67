//===- Decompose.cpp - Replace ops by their meaning in linalg -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/Llama.h"

#include "mlir/IR/Matchers.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_DECOMPOSEPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

// Whether `value` is a tensor of zeros.
static bool isZeros(Value value) {
  auto fill = value.getDefiningOp<linalg::FillOp>();
  return fill && matchPattern(fill.value(), m_AnyZeroFloat());
}

// Whether `op` is `out += f(inputs)`, some loop reducing.
static bool isSum(linalg::GenericOp op) {
  if (op.getNumDpsInits() != 1 || op.getNumReductionLoops() == 0)
    return false;
  Value yielded = op.getBody()->getTerminator()->getOperand(0);
  auto add = yielded.getDefiningOp<arith::AddFOp>();
  BlockArgument out = op.getRegionOutputArgs()[0];
  return add && out.hasOneUse() && (add.getLhs() == out || add.getRhs() == out);
}

// If `add` adds to an argument a sum, or rows summed by index, that begins at zeros,
// makes the sum begin at the argument: no tensor of that size in between.
static bool accumulate(llama::AddOp add) {
  Value sum = add.getRhs(), into = add.getLhs();
  if (!isa<BlockArgument>(into) || sum.getType() != add.getType() ||
      into.getType() != add.getType())
    return false;
  auto view = sum.getDefiningOp<tensor::ExpandShapeOp>();
  Value inner = view ? view.getSrc() : sum;
  if (!sum.hasOneUse() || !inner.hasOneUse() || !inner.getDefiningOp())
    return false;
  OpOperand *start = nullptr;
  if (auto generic = inner.getDefiningOp<linalg::GenericOp>(); generic && isSum(generic))
    start = generic.getTiedOpOperand(cast<OpResult>(inner));
  else if (auto loop = inner.getDefiningOp<scf::ForOp>())
    start = loop.getTiedLoopInit(cast<OpResult>(inner));
  if (!start || !isZeros(start->get()))
    return false;
  if (view) {
    OpBuilder builder(inner.getDefiningOp());
    into = tensor::CollapseShapeOp::create(builder, add.getLoc(), inner.getType(), into,
                                           view.getReassociationIndices());
  }
  start->set(into);
  add.replaceAllUsesWith(sum);
  return true;
}

namespace {
struct DecomposePass : llamac::impl::DecomposePassBase<DecomposePass> {
  using DecomposePassBase::DecomposePassBase;
  void runOnOperation() override {
    SmallVector<llama::DecompositionOpInterface> ops;
    getOperation().walk([&](llama::DecompositionOpInterface op) { ops.push_back(op); });
    for (llama::DecompositionOpInterface op : ops) {
      OpBuilder builder(op);
      if (auto add = dyn_cast<llama::AddOp>(op.getOperation()); add && accumulate(add)) {
        add.erase();
        continue;
      }
      op->replaceAllUsesWith(op.decompose(builder));
      op->erase();
    }
    if (!fast)
      return;
    auto flags = arith::FastMathFlags::reassoc | arith::FastMathFlags::contract;
    getOperation().walk([&](arith::ArithFastMathInterface op) {
      op->setAttr(op.getFastMathAttrName(), arith::FastMathFlagsAttr::get(&getContext(), flags));
    });
  }
};
} // namespace
