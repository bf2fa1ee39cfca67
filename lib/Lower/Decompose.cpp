//===- Decompose.cpp - Replace ops by their meaning in linalg -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/Llama.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_DECOMPOSEPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

namespace {
struct DecomposePass : llamac::impl::DecomposePassBase<DecomposePass> {
  using DecomposePassBase::DecomposePassBase;
  void runOnOperation() override {
    SmallVector<llama::DecompositionOpInterface> ops;
    getOperation().walk([&](llama::DecompositionOpInterface op) { ops.push_back(op); });
    for (llama::DecompositionOpInterface op : ops) {
      OpBuilder builder(op);
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
