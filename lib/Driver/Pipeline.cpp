//===- Pipeline.cpp - The one ordered list of all passes ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Driver/Pipeline.h"

#include "llamac/Lower/Passes.h"
#include "llamac/Parallelize/Passes.h"
#include "llamac/Train/Passes.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::llamac;

void llamac::recordOptions(ModuleOp module, const CompileOptions &options) {
  Builder b(module.getContext());
  module->setAttr("llama.options",
                  b.getDictionaryAttr({
                      b.getNamedAttr("batch", b.getI64IntegerAttr(options.batch)),
                      b.getNamedAttr("text_length", b.getI64IntegerAttr(options.textLength)),
                      b.getNamedAttr("images", b.getI64IntegerAttr(options.images)),
                      b.getNamedAttr("micro_batches", b.getI64IntegerAttr(options.microBatches)),
                      b.getNamedAttr("precision", b.getStringAttr(options.precision)),
                      b.getNamedAttr("accumulate", b.getStringAttr(options.accumulate)),
                      b.getNamedAttr("trainable", b.getStringAttr(options.trainable)),
                      b.getNamedAttr("recompute", b.getStringAttr(options.recompute)),
                      b.getNamedAttr("target", b.getStringAttr(options.target)),
                      b.getNamedAttr("cpu", b.getStringAttr(options.cpu)),
                      b.getNamedAttr("lower", b.getStringAttr(options.lower)),
                  }));
}

static void buildTrain(OpPassManager &pm, const CompileOptions &options) {
  // A text model has no input that the number of images would size.
  pm.addPass(createSpecializePass(
      {options.batch, options.textLength, std::max<int64_t>(1, options.images)}));
  pm.addPass(createAssignPrecisionPass({options.precision, options.accumulate}));
  pm.addPass(createFreezePass({options.trainable}));
  pm.addPass(createDifferentiatePass({options.recompute}));
  pm.addPass(createAddOptimizerPass());
}

void llamac::buildPipeline(OpPassManager &pm, const CompileOptions &options, Step from, Step to) {
  auto includes = [&](Step step) { return from < step && step <= to; };
  if (includes(Step::Train))
    buildTrain(pm, options);
  if (includes(Step::Parallelize))
    pm.addPass(createBuildProgramPass({options.microBatches}));
  if (includes(Step::Lower))
    buildLowerBlocksPipeline(pm, options.lower == "reference");
}
