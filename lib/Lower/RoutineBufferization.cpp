//===- RoutineBufferization.cpp - Buffers of calls of routines ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Routine/IR/Routine.h"

#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"

using namespace mlir;
using namespace mlir::bufferization;

namespace {
// A routine writes its outputs in place; it reads them only if it says so.
template <typename Op>
struct RoutineModel : DstBufferizableOpInterfaceExternalModel<RoutineModel<Op>, Op> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand, const AnalysisState &) const {
    auto call = cast<Op>(op);
    return !call.isDpsInit(&operand) || call.readsOutput(operand);
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options, BufferizationState &state) const {
    SmallVector<Value> buffers;
    for (Value operand : op->getOperands()) {
      FailureOr<Value> buffer = getBuffer(rewriter, operand, options, state);
      if (failed(buffer))
        return failure();
      buffers.push_back(*buffer);
    }
    OperationState created(op->getLoc(), op->getName());
    created.addOperands(buffers);
    created.propertiesAttr = op->getPropertiesAsAttribute();
    rewriter.create(created);
    replaceOpWithBufferizedValues(
        rewriter, op, ArrayRef<Value>(buffers).take_back(cast<Op>(op).getNumDpsInits()));
    return success();
  }
};

template <typename... Ops> void attachModels(MLIRContext &context) {
  (Ops::template attachInterface<RoutineModel<Ops>>(context), ...);
}
} // namespace

void llamac::registerRoutineBufferization(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, routine::RoutineDialect *) {
    attachModels<
#define GET_OP_LIST
#include "dialects/Routine/IR/RoutineOps.cpp.inc"
        >(*context);
  });
}
