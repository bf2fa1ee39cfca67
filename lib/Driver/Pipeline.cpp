//===- Pipeline.cpp - The one ordered list of all passes ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Driver/Pipeline.h"

#include "llamac/Check/Passes.h"
#include "llamac/Cost/Passes.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Pipeline/Passes.h"
#include "llamac/Shard/Passes.h"
#include "llamac/Train/Passes.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::llamac;

// Calls `visit(name, field)` for every option; names are those of the command line.
template <typename Options, typename Visit>
static void visitOptions(Options &options, Visit visit) {
#define LLAMAC_OPTION(STEP, TYPE, FIELD, NAME, DEFAULT, VALUES, HELP) visit(NAME, options.FIELD);
#include "llamac/Driver/Options.def"
}

// As an attribute's name.
static std::string underscored(StringRef name) {
  std::string result = name.str();
  llvm::replace(result, '-', '_');
  return result;
}

void llamac::recordOptions(ModuleOp module, const CompileOptions &options) {
  Builder builder(module.getContext());
  NamedAttrList attributes;
  visitOptions(options, [&](StringRef name, const auto &field) {
    if constexpr (std::is_same_v<decltype(field), const int64_t &>)
      attributes.set(underscored(name), builder.getI64IntegerAttr(field));
    else
      attributes.set(underscored(name), builder.getStringAttr(field));
  });
  module->setAttr(kOptionsAttr, attributes.getDictionary(module.getContext()));
}

void llamac::restoreOptions(ModuleOp module, CompileOptions &options,
                            llvm::function_ref<bool(StringRef)> isGiven) {
  auto attributes = module->getAttrOfType<DictionaryAttr>(kOptionsAttr);
  if (!attributes)
    return;
  visitOptions(options, [&](StringRef name, auto &field) {
    if (isGiven(name))
      return;
    if constexpr (std::is_same_v<decltype(field), int64_t &>) {
      if (auto value = attributes.getAs<IntegerAttr>(underscored(name)))
        field = value.getInt();
    } else if (auto value = attributes.getAs<StringAttr>(underscored(name))) {
      field = value.getValue().str();
    }
  });
}

static void buildTrain(OpPassManager &pm, const CompileOptions &options) {
  // A text model has no input that the number of images would size.
  pm.addPass(createSpecializePass(
      {options.batch, options.textLength, std::max<int64_t>(1, options.images)}));
  pm.addPass(createAssignPrecisionPass({options.precision, options.accumulate}));
  pm.addPass(createFreezePass({options.trainable}));
  pm.addPass(createFuseLossPass({options.headChunk}));
  pm.addPass(createDifferentiatePass({options.recompute}));
  pm.addPass(createAddOptimizerPass());
}

static void buildParallelize(OpPassManager &pm, const CompileOptions &options,
                             ArrayRef<int64_t> stageMemory, const Target &target) {
  const std::string machine = machineOf(options, target);
  pm.addPass(createCountOperationsPass({options.microBatches}));
  ShardPassOptions shard;
  shard.grid = options.grid;
  shard.encoderShard = options.encoderShard;
  SmallVector<StringRef> axes;
  StringRef(options.encoderAxes).split(axes, ',', -1, /*KeepEmpty=*/false);
  shard.encoderAxes = llvm::map_to_vector(axes, [](StringRef axis) { return axis.str(); });
  pm.addPass(createShardPass(shard));
  pm.addPass(createLocalizePass());
  pm.addPass(createSplitBlocksPass());
  BuildProgramPassOptions build;
  build.microBatches = options.microBatches;
  build.scheduleOption = options.schedule;
  build.virtualStages = options.virtualStages;
  build.consecutive = options.consecutive;
  build.encoderOption = options.encoder;
  build.encoderShard = options.encoderShard;
  build.encoderAxes = options.encoderAxes;
  build.encoderGroup = options.encoderGroup;
  build.fsdp = options.fsdp;
  build.blocksInFlight = options.blocksInFlight;
  build.machineOption = machine;
  build.alignment = target.alignment().values;
  build.parameterAlignment = target.alignment().parameters;
  build.stageMemory = SmallVector<int64_t>(stageMemory);
  pm.addPass(createBuildProgramPass(build));
  pm.addPass(createPlaceFramesPass({machine}));
}

TargetOptions llamac::targetOf(const CompileOptions &options) {
  return {.name = options.target, .lower = options.lower, .cpu = options.cpu, .chip = options.chip};
}

std::string llamac::machineOf(const CompileOptions &options, const Target &target) {
  return options.machine.empty() ? target.machine().str() : options.machine;
}

void llamac::buildPipeline(OpPassManager &pm, const CompileOptions &options, Step from, Step to,
                           ArrayRef<int64_t> stageMemory) {
  auto includes = [&](Step step) { return from < step && step <= to; };
  if (includes(Step::Train))
    buildTrain(pm, options);
  std::shared_ptr<const Target> target;
  if (includes(Step::Parallelize) || includes(Step::Lower))
    target = llvm::cantFail(makeTarget(targetOf(options)));
  if (includes(Step::Parallelize))
    buildParallelize(pm, options, stageMemory, *target);
  if (includes(Step::Lower)) {
    pm.addPass(createNoteReductionsPass()); // blocks are still ops that say what they sum
    if (target->mergesProducts())
      pm.addPass(createMergeProductsPass(target));
    pm.addPass(createLegalizeCollectivesPass(target));
    buildLowerBlocksPipeline(pm, target);
    pm.addPass(createPlanArenasPass({target->alignment().values}));
    pm.addPass(createPlanReservesPass(target));
  }
}

void llamac::buildCheck(OpPassManager &pm, std::shared_ptr<const Target> target) {
  pm.addPass(createCheckPass(std::move(target)));
}
