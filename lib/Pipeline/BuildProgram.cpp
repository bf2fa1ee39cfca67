//===- BuildProgram.cpp - Cut the graphs, list what every stage does ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   module --measure--> costs --makePlan--> plan --cutGraph--> pieces --> programs
//   options -----------------------^
//
// 1. What the model costs (Measure.h).
// 2. The plan, without IR (Plan/Plan.h): chunks, the schedule with the encoder's work in it,
//    launch lists.
// 3. The graphs, cut into pieces (CutGraph.h).
// 4. For every stage: its parameters (StageParameters.h) and their layout (ParameterLayout.h),
//    its programs (StagePrograms.h).
//
//===----------------------------------------------------------------------===//
#include "llamac/Pipeline/Passes.h"

#include "CutGraph.h"
#include "Measure.h"
#include "StageParameters.h"
#include "StagePrograms.h"

#include "llamac/Cost/BlockCosts.h"
#include "llamac/Cost/Simulate.h"
#include "llamac/Pipeline/StageReport.h"
#include "llamac/Support/Alignment.h"
#include "llamac/Support/Grid.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_BUILDPROGRAMPASS
#include "llamac/Pipeline/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;
using llama::ApplyOp;

namespace {
/// The graphs of the module.
struct Graphs {
  FuncOp step, forward;
};

struct BuildProgramPass : mlir::llamac::impl::BuildProgramPassBase<BuildProgramPass> {
  using BuildProgramPassBase::BuildProgramPassBase;

  void runOnOperation() override {
    if (failed(build()))
      signalPassFailure();
  }

private:
  LogicalResult build();
  FailureOr<Graphs> findGraphs();
  EncoderPlacement encoderPlacement(ArrayRef<Axis> axes);
  FailureOr<plan::PlanOptions> planOptions(ArrayRef<Axis> axes, const EncoderPlacement &encoder,
                                           const Machine &machine);
  plan::Fsdp fsdpLevel() {
    return llvm::StringSwitch<plan::Fsdp>(fsdp)
        .Case("optimizer", plan::Fsdp::Optimizer)
        .Case("gradients", plan::Fsdp::Gradients)
        .Case("parameters", plan::Fsdp::Parameters)
        .Default(plan::Fsdp::None);
  }
  InFlightDiagnostic optionError(StringRef option) {
    return getOperation().emitError("--") << option << ": ";
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// What is asked for
//===----------------------------------------------------------------------===//

FailureOr<Graphs> BuildProgramPass::findGraphs() {
  ModuleOp module = getOperation();
  if (microBatches < 1)
    return optionError("micro-batches") << "expected at least 1, got " << microBatches;
  if (blocksInFlight < 1)
    return optionError("blocks-in-flight") << "expected at least 1, got " << blocksInFlight;
  Graphs graphs;
  for (auto [graph, name] :
       {std::pair(&graphs.step, "step"), std::pair(&graphs.forward, "forward")}) {
    *graph = module.lookupSymbol<FuncOp>(name);
    if (!*graph)
      return module.emitError("expected a training graph with a function '") << name << "'";
  }
  bool trains = llvm::any_of(module.getOps<llama::ParameterOp>(),
                             [](llama::ParameterOp parameter) { return !parameter.getFrozen(); });
  for (StringRef name : {"gradient_norm", "adamw"}) {
    auto block = module.lookupSymbol<FuncOp>(name);
    auto flat = block && block.getNumArguments() && !block.isExternal()
                    ? dyn_cast<RankedTensorType>(block.getArgumentTypes()[0])
                    : RankedTensorType();
    if (trains && (!flat || flat.getRank() != 1))
      return module.emitError("expected a block '")
             << name << "' that updates the parameters, all elements in one dimension";
  }
  for (StringRef name : {"add_once", "clip_norm"})
    if ((trains || name == "add_once") && !module.lookupSymbol<FuncOp>(name))
      return module.emitError("expected a block '") << name << "' (llama-add-optimizer)";
  if (findChain(graphs.step) != findChain(graphs.forward))
    return graphs.forward.emitOpError("expects the same text blocks as 'step', in the same order");
  return graphs;
}

EncoderPlacement BuildProgramPass::encoderPlacement(ArrayRef<Axis> axes) {
  EncoderPlacement result;
  result.firstStage = encoderOption == "first-stage";
  result.tokens = encoderShard == "tokens";
  SmallVector<StringRef> given;
  StringRef(encoderAxes).split(given, ',', -1, false);
  for (const Axis &axis : axes) {
    StringRef user = axis.name == "tpr" ? "tp" : StringRef(axis.name);
    if (axis.size == 1 || !llvm::is_contained(given, user))
      continue;
    result.axes.push_back(axis.name);
    result.ranks *= axis.size;
  }
  result.group = std::max<int64_t>(1, encoderGroup);
  return result;
}

FailureOr<plan::PlanOptions> BuildProgramPass::planOptions(ArrayRef<Axis> axes,
                                                           const EncoderPlacement &encoder,
                                                           const Machine &machine) {
  plan::PlanOptions options;
  options.stages = int(sizeOfAxis(axes, "pp"));
  options.microBatches = int(microBatches);
  options.schedule = scheduleOption;
  const std::vector<std::string_view> names = plan::scheduleNames();
  if (!llvm::is_contained(names, std::string_view(scheduleOption))) {
    auto file = llvm::MemoryBuffer::getFile(scheduleOption);
    if (!file)
      return optionError("schedule") << scheduleOption << ": expected " << llvm::join(names, ", ")
                                     << " or a CSV file: " << file.getError().message();
    options.scheduleCsv = (*file)->getBuffer().str();
  }
  options.virtualStages = int(virtualStages);
  options.consecutive = int(consecutive);
  options.stageMemory.assign(stageMemory.begin(), stageMemory.end());
  options.fsdp = fsdpLevel();
  options.dataRanks = sizeOfAxis(axes, "dp");
  options.ranksOfStage = sizeOfAxis(axes, "cp") * sizeOfAxis(axes, "tp") * sizeOfAxis(axes, "tpr");
  options.encoder.firstStage = encoder.firstStage;
  options.encoder.meetsStages = encoder.tokens && llvm::is_contained(encoder.axes, "pp");
  options.encoder.ranks = encoder.ranks;
  options.encoder.group = encoder.group;
  options.network = machine;
  return options;
}

//===----------------------------------------------------------------------===//
// Pieces
//===----------------------------------------------------------------------===//

/// Says of which chunks, and whether of the encoder, each application is a piece of its own:
/// where its weights or gradients are sharded. `level`: None if there is one rank on dp.
static void findBlocksApart(ChainCut &cut, FuncOp step, const plan::ModelCosts &costs,
                            plan::Fsdp level) {
  const bool all = level == plan::Fsdp::Parameters;
  SmallVector<bool> stages(cut.stages, all);
  cut.encoderByApplication = all;
  if (level == plan::Fsdp::Gradients) {
    llvm::DenseMap<int64_t, size_t> linkOf;
    for (auto [link, number] : llvm::enumerate(findChain(step)))
      linkOf[number] = link;
    for (auto apply : step.getOps<ApplyOp>()) {
      auto number = apply->getAttrOfType<IntegerAttr>(llama::kApplicationAttr);
      if (!number || apply.getGradients().empty())
        continue;
      auto link = linkOf.find(number.getInt());
      if (link == linkOf.end()) { // of the encoder, or of a key/value side
        cut.encoderByApplication |= llvm::any_of(costs.encoder, [&](auto &application) {
          return application.number == number.getInt();
        });
        continue;
      }
      auto chunk = llvm::upper_bound(cut.begin, link->second) - cut.begin.begin() - 1;
      stages[cut.stageOfChunk[chunk]] = true;
    }
  }
  for (int stage : cut.stageOfChunk)
    cut.chunksByApplication.push_back(stages[stage]);
}

/// The plan in the words of CutGraph.h.
static ChainCut chainCut(FuncOp step, const plan::ModelCosts &costs, const plan::Plan &plan,
                         plan::Fsdp level) {
  ChainCut cut;
  cut.stages = int(plan.schedule.stages.size());
  cut.begin.assign(plan.partition.begin.begin(), plan.partition.begin.end());
  cut.stageOfChunk.assign(plan.schedule.stageOfChunk.begin(), plan.schedule.stageOfChunk.end());
  cut.splitBackward = plan.splitBackward;
  cut.encoderParts = plan.schedule.encoderParts;
  for (auto [application, part] : llvm::zip(costs.encoder, plan.encoderPart))
    cut.encoderPart[application.number] = part;
  findBlocksApart(cut, step, costs, level);
  return cut;
}

/// The same for the forward graph, which has no backward and no gradients.
static ChainCut forwardCut(ChainCut cut, plan::Fsdp level) {
  cut.splitBackward = false;
  if (level == plan::Fsdp::Gradients) {
    cut.chunksByApplication.assign(cut.stageOfChunk.size(), false);
    cut.encoderByApplication = false;
  }
  return cut;
}

/// Pieces that `stage` runs, of a graph.
static SmallVector<FuncOp> functionsOf(const GraphCut &graph, const ChainCut &cut, int stage) {
  SmallVector<FuncOp> functions;
  auto note = [&](std::initializer_list<const Pieces *> lists) {
    for (const Pieces *pieces : lists)
      for (const Piece &piece : *pieces)
        functions.push_back(piece.function);
  };
  for (auto [chunk, where] : llvm::zip(graph.chunks, cut.stageOfChunk))
    if (where == stage)
      note({&chunk.forward, &chunk.backward, &chunk.backwardWeight});
  const Stage &own = graph.stages[stage];
  note({&own.states, &own.statesGradient});
  for (const Pieces &pieces : own.encode)
    note({&pieces});
  for (const Pieces &pieces : own.encodeBackward)
    note({&pieces});
  return functions;
}

//===----------------------------------------------------------------------===//
// Notes for later steps
//===----------------------------------------------------------------------===//

/// Erases blocks that the cut left without use.
static void eraseUnused(ModuleOp module) {
  llvm::StringSet<> applied;
  for (auto function : module.getOps<FuncOp>())
    for (auto apply : function.getOps<ApplyOp>())
      applied.insert(apply.getBlock());
  for (auto program : module.getOps<dist::ProgramOp>())
    for (auto entry : program.getBody().getOps<dist::EntryOpInterface>())
      if (FlatSymbolRefAttr block = entry.getBlockAttr())
        applied.insert(block.getValue());
  for (auto block : llvm::make_early_inc_range(module.getOps<FuncOp>()))
    if (block->hasAttr(llama::kBlockAttr) && !applied.contains(block.getName()))
      block.erase();
}

/// Writes down what every block costs.
static void noteSeconds(ModuleOp module, const Machine &machine) {
  Builder builder(module.getContext());
  for (auto block : module.getOps<FuncOp>())
    if (block->hasAttr(llama::kBlockAttr) && !block.isExternal())
      block->setAttr(kSecondsAttr,
                     builder.getF64FloatAttr(blockSeconds(block, machine, CostRule::Roofline)));
}

/// Writes down how the work was shared out (StageReport.h).
static void noteStages(ModuleOp module, const GraphCut &graph, const ChainCut &cut,
                       const plan::Partition &partition, const EncoderPlacement &encoder) {
  MLIRContext *context = module.getContext();
  Builder builder(context);
  SmallVector<int64_t> blocks;
  for (size_t chunk = 1; chunk < cut.begin.size(); ++chunk)
    blocks.push_back(cut.begin[chunk] - cut.begin[chunk - 1]);
  NamedAttrList facts;
  facts.set("blocks", builder.getDenseI64ArrayAttr(blocks));
  facts.set("slowest", builder.getF64FloatAttr(partition.largest));
  facts.set("lower_bound", builder.getF64FloatAttr(partition.lowerBound));
  SmallVector<int64_t> counted(cut.stages, 0);
  for (auto [chunk, bytes] : llvm::enumerate(partition.bytes))
    counted[cut.stageOfChunk[chunk]] += bytes;
  facts.set("counted", builder.getDenseI64ArrayAttr(counted));
  if (graph.states && encoder.ranks > 1) {
    int64_t padding = 0; // elements of the states
    if (!encoder.tokens)
      padding = graph.groupElements - encoder.group * graph.stateType.getNumElements();
    const int64_t image = graph.encodedType.getNumElements() / graph.encodedType.getDimSize(0);
    NamedAttrList of;
    of.set("shard", builder.getStringAttr(encoder.tokens ? "tokens" : "images"));
    of.set("axes", builder.getStrArrayAttr(encoder.axes));
    of.set("ranks", builder.getI64IntegerAttr(encoder.ranks));
    of.set("group", builder.getI64IntegerAttr(encoder.group));
    of.set("parts", builder.getI64IntegerAttr(cut.encoderParts));
    of.set("padding", builder.getI64IntegerAttr(padding / image));
    facts.set("encoder", of.getDictionary(context));
  }
  module->setAttr(kStagesAttr, facts.getDictionary(context));
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

LogicalResult BuildProgramPass::build() {
  ModuleOp module = getOperation();
  for (auto [name, bytes] : {std::pair("alignment", alignment.getValue()),
                             std::pair("parameter-alignment", parameterAlignment.getValue())})
    if (bytes < 8 || bytes > 2048 || !llvm::isPowerOf2_64(bytes))
      return optionError(name) << "expected a power of two from 8 to 2048, got " << bytes;
  module->removeAttr(kAlignmentAttr);
  if (alignmentOf(module) != alignment)
    module->setAttr(kAlignmentAttr, Builder(&getContext()).getI64IntegerAttr(alignment));
  FailureOr<Graphs> graphs = findGraphs();
  if (failed(graphs))
    return failure();
  llvm::Expected<Machine> machine = findMachine(machineOption);
  if (!machine)
    return optionError("machine") << llvm::toString(machine.takeError());
  const SmallVector<Axis> axes = axesOf(module);
  const EncoderPlacement encoder = encoderPlacement(axes);

  FailureOr<plan::ModelCosts> costs = measure(module, *machine);
  if (failed(costs))
    return failure();
  FailureOr<plan::PlanOptions> options = planOptions(axes, encoder, *machine);
  if (failed(options))
    return failure();
  plan::Result<plan::Plan> plan = plan::makePlan(*costs, *options);
  if (!plan)
    return module.emitError(plan.error());

  const plan::Fsdp level = options->dataRanks > 1 ? options->fsdp : plan::Fsdp::None;
  const ChainCut cut = chainCut(graphs->step, *costs, *plan, level);
  FailureOr<GraphCut> step = cutGraph(graphs->step, "step", cut, encoder, axes);
  if (failed(step))
    return failure();
  FailureOr<GraphCut> forward =
      cutGraph(graphs->forward, "forward", forwardCut(cut, level), encoder, axes);
  if (failed(forward))
    return failure();
  graphs->step.erase();
  graphs->forward.erase();

  Type gradientType;
  if (auto norm = module.lookupSymbol<FuncOp>("gradient_norm"))
    gradientType = cast<RankedTensorType>(norm.getArgumentTypes()[0]).getElementType();
  OpBuilder builder(module.getContext());
  SymbolTable symbols(module);
  std::vector<SmallVector<FuncOp>> functionsOfStage(cut.stages);
  for (int stage = 0; stage < cut.stages; ++stage) {
    functionsOfStage[stage] = functionsOf(*step, cut, stage);
    llvm::append_range(functionsOfStage[stage], functionsOf(*forward, cut, stage));
  }
  const StagesOfParameters stagesOf = stagesOfParameters(functionsOfStage);
  for (int stage = 0; stage < cut.stages; ++stage) {
    ArrayRef<FuncOp> functions = functionsOfStage[stage];
    builder.setInsertionPointToEnd(module.getBody());
    FailureOr<SmallVector<StageParameter>> parameters =
        parametersOf(symbols, axes, encoder, functions, stagesOf);
    if (failed(parameters))
      return failure();
    FailureOr<ParameterLayout> layout =
        layOutParameters(builder, *parameters, gradientType, stage, cut.stages, options->fsdp,
                         options->dataRanks, blocksInFlight, {alignment, parameterAlignment});
    if (failed(layout))
      return failure();
    noteUnits(functions, *layout);
    constexpr auto role = dist::ArenaRole::Statistics;
    auto statistics = dist::ArenaOp::create(builder, module.getLoc(),
                                            arenaName(role, stage, cut.stages > 1), role, 0, stage);
    ProgramBuilder programs(builder, symbols, axes, encoder, microBatches, blocksInFlight, stage,
                            cut.stages, *layout);
    buildStep(programs, *step, *plan, stage);
    buildForward(programs, *forward, cut, encoder.group, microBatches, stage);
    statistics.setBytes(programs.statisticsBytes());
  }
  eraseUnused(module);
  noteSeconds(module, *machine);
  noteStages(module, *step, cut, plan->partition, encoder);
  return success();
}
