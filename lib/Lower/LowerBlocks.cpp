//===- LowerBlocks.cpp - The pipeline from blocks to LLVM dialect ---------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/Bufferization/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;
using namespace mlir::llamac;

void llamac::buildLowerBlocksPipeline(OpPassManager &top, std::shared_ptr<const Target> target) {
  const bool fast = target->lowering() == Lowering::Fast;
  top.addPass(createIsolateBlocksPass());
  OpPassManager &pm = top.nest<ModuleOp>();
  pm.addPass(createChunkRowsPass());
  OpPassManager &tensors = pm.nest<func::FuncOp>();
  tensors.addPass(createSelectKernelsPass(target));
  tensors.addPass(createDecomposePass({fast}));
  tensors.addPass(createCSEPass());
  if (fast)
    tensors.addPass(createFuseElementwisePass());
  tensors.addPass(createPassDestinationsPass());
  pm.addPass(bufferization::createEmptyTensorEliminationPass());
  pm.addPass(bufferization::createOneShotBufferizePass());
  OpPassManager &buffers = pm.nest<func::FuncOp>();
  buffers.addPass(createCanonicalizerPass());
  buffers.addPass(createCSEPass());
  buffers.addPass(createLowerRowLoopsPass());
  buffers.addPass(createConvertLinalgToAffineLoopsPass());
  buffers.addPass(createFoldViewsPass());
  if (fast)
    buffers.addPass(createFuseLoopsPass());
  buffers.addPass(createCanonicalizerPass());
  buffers.addPass(createCSEPass());
  target->addCodePasses(pm);
}

namespace {
struct LowerBlocksOptions : PassPipelineOptions<LowerBlocksOptions> {
  Option<std::string> target{*this, "target", llvm::cl::init("host"),
                             llvm::cl::desc("What runs the blocks.")};
  Option<std::string> chip{*this, "chip", llvm::cl::init(""),
                           llvm::cl::desc("GPUs that code is for, as in sm_80,sm_90a.")};
  Option<std::string> lower{*this, "lower", llvm::cl::init("fast"),
                            llvm::cl::desc("fast, or reference: every op by its decomposition, no "
                                           "fusion, one thread, libm.")};
};
} // namespace

void llamac::registerLowerBlocksPipeline() {
  registerPassPipeline(
      "llama-lower-blocks", "Lower every block of a module to the code of a target.",
      [](OpPassManager &pm, StringRef text,
         llvm::function_ref<LogicalResult(const Twine &)> fail) -> LogicalResult {
        LowerBlocksOptions options;
        if (failed(options.parseFromString(text)))
          return failure();
        llvm::Expected<std::shared_ptr<const Target>> target =
            makeTarget({.name = options.target, .lower = options.lower, .chip = options.chip});
        if (!target)
          return fail(llvm::toString(target.takeError()));
        buildLowerBlocksPipeline(pm, *target);
        return success();
      },
      [](llvm::function_ref<void(const detail::PassOptions &)> visit) {
        visit(LowerBlocksOptions());
      });
}
