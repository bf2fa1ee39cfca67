//===- KernelBufferization.cpp - Buffers of llama.kernel ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"

using namespace mlir;
using namespace mlir::bufferization;

namespace {
// A kernel writes its outputs in place and reads them only if it accumulates.
struct KernelModel : DstBufferizableOpInterfaceExternalModel<KernelModel, llama::KernelOp> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand, const AnalysisState &) const {
    auto kernel = cast<llama::KernelOp>(op);
    return !kernel.isDpsInit(&operand) || kernel.getAccumulate();
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
    auto outputs = cast<llama::KernelOp>(op).getOutputs();
    replaceOpWithBufferizedValues(rewriter, op, ArrayRef<Value>(buffers).take_back(outputs.size()));
    return success();
  }
};
} // namespace

void llamac::registerKernelBufferization(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, llama::LlamaDialect *) {
    llama::KernelOp::attachInterface<KernelModel>(*context);
  });
}
