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

void llamac::buildLowerBlocksPipeline(OpPassManager &top, bool reference) {
  top.addPass(createIsolateBlocksPass());
  OpPassManager &pm = top.nest<ModuleOp>();
  OpPassManager &tensors = pm.nest<func::FuncOp>();
  tensors.addPass(createSelectKernelsPass({reference}));
  tensors.addPass(createDecomposePass({/*fast=*/!reference}));
  tensors.addPass(createCSEPass());
  if (!reference)
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
  if (!reference)
    buffers.addPass(createFuseLoopsPass());
  buffers.addPass(createCanonicalizerPass());
  buffers.addPass(createCSEPass());
  pm.addPass(createOutlineLoopsPass({/*parallel=*/!reference}));
  pm.addPass(createBlocksToLLVMPass({/*polynomials=*/!reference}));
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}

namespace {
struct LowerBlocksOptions : PassPipelineOptions<LowerBlocksOptions> {
  Option<bool> reference{*this, "reference", llvm::cl::init(false),
                         llvm::cl::desc("Every op by its decomposition: no fusion, one thread, "
                                        "libm, matrix products in f64 only by a library.")};
};
} // namespace

void llamac::registerLowerBlocksPipeline() {
  PassPipelineRegistration<LowerBlocksOptions>(
      "llama-lower-blocks", "Lower every block of a module to LLVM dialect.",
      [](OpPassManager &pm, const LowerBlocksOptions &options) {
        buildLowerBlocksPipeline(pm, options.reference);
      });
}
