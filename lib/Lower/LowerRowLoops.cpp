//===- LowerRowLoops.cpp - Sums over rows, updates of rows as loops -------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Linalg/Utils/Utils.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_LOWERROWLOOPSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

// A sum over leading dimensions: the first loop reduces, the last does not.
static bool isColumnSum(linalg::GenericOp op) {
  auto iterators = op.getIteratorTypesArray();
  return iterators.size() >= 2 && iterators.front() == utils::IteratorType::reduction &&
         iterators.back() == utils::IteratorType::parallel;
}

namespace {
struct LowerRowLoopsPass : llamac::impl::LowerRowLoopsPassBase<LowerRowLoopsPass> {
  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    SmallVector<memref::CopyOp> copies;
    getOperation().walk([&](memref::CopyOp op) { copies.push_back(op); });
    for (memref::CopyOp copy : copies) {
      rewriter.setInsertionPoint(copy);
      // Bufferization puts a row that was changed in place back where it is.
      if (copy.getSource() != copy.getTarget())
        linalg::makeMemRefCopyOp(rewriter, copy.getLoc(), copy.getSource(), copy.getTarget());
      rewriter.eraseOp(copy);
    }

    SmallVector<linalg::LinalgOp> ops;
    getOperation().walk([&](linalg::LinalgOp op) {
      auto generic = dyn_cast<linalg::GenericOp>(op.getOperation());
      if (op->getParentOfType<scf::ForOp>() || (generic && isColumnSum(generic)))
        ops.push_back(op);
    });
    for (linalg::LinalgOp op : ops) {
      rewriter.setInsertionPoint(op);
      FailureOr<linalg::LinalgLoops> loops = linalg::linalgOpToLoops(rewriter, op);
      if (failed(loops)) {
        op->emitOpError("expects buffers that loops can be made for");
        return signalPassFailure();
      }
      if (!loops->empty())
        loops->back()->setAttr(kColumnsAttr, rewriter.getUnitAttr());
      rewriter.eraseOp(op);
    }
  }
};
} // namespace
