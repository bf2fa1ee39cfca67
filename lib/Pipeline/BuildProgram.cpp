//===- BuildProgram.cpp - Cut the graphs, list what every stage does ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// 1. Costs of the chain of text applications; the partition into chunks (Plan).
// 2. The schedule (Plan), the encoder's work in it.
// 3. The graphs, cut into pieces (CutGraph.h).
// 4. For every stage: the layout of its parameters (ParameterLayout.h), its programs
//    (ProgramBuilder.h).
//
//===----------------------------------------------------------------------===//
#include "llamac/Pipeline/Passes.h"

#include "CutGraph.h"
#include "ProgramBuilder.h"

#include "llamac/Cost/BlockCosts.h"
#include "llamac/Support/Grid.h"
#include "llamac/Plan/Encoder.h"
#include "llamac/Plan/Partition.h"
#include "llamac/Plan/Schedule.h"
#include "llamac/Cost/Simulate.h"
#include "llamac/Pipeline/StageReport.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
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

/// Parts of the encoder's work on a group, each a piece of its own.
constexpr int kMostEncoderParts = 8;

struct BuildProgramPass : mlir::llamac::impl::BuildProgramPassBase<BuildProgramPass> {
  using BuildProgramPassBase::BuildProgramPassBase;

  void runOnOperation() override;

private:
  LogicalResult check();
  LogicalResult findCosts();
  LogicalResult findSchedule();
  void placeEncoderOnFirstStage();
  void cutEncoder(const plan::Costs &costs);
  EncoderPlacement encoderPlacement();
  void findBlocksApart(Fsdp level);
  void noteStages(const GraphCut &graph);
  LogicalResult tie(StageParameter &parameter, ArrayRef<int> stages);
  void buildStep(ProgramBuilder &programs, const GraphCut &graph, int stage);
  void buildForward(ProgramBuilder &programs, const GraphCut &graph, int stage);

  InFlightDiagnostic optionError(StringRef option) {
    return getOperation().emitError("--") << option << ": ";
  }

  Machine machine;
  SmallVector<Axis> axes; // of the grid
  FuncOp step, forward;
  bool hasEncoder = false;
  plan::PartitionProblem problem; // blocks of the chain; stages are chunks
  plan::StageTimes encoderTimes;  // of one micro-batch, whole
  std::vector<std::pair<int64_t, double>> encoderApplications; // seconds of each, in order
  int64_t boundaryBytes = 0;              // that a stage sends the next, per micro-batch
  int64_t stateBytes = 0;                 // of the image states of a micro-batch
  SmallVector<plan::BlockCost> keyValues; // of each link of the chain
  plan::Partition partition;
  plan::Schedule schedule; // with the encoder's work
  std::vector<std::vector<plan::Launch>> launches;
  EncoderPlacement encoder;
  ChainCut cut;
};

} // namespace

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

LogicalResult BuildProgramPass::check() {
  ModuleOp module = getOperation();
  if (microBatches < 1)
    return optionError("micro-batches") << "expected at least 1, got " << microBatches;
  if (blocksInFlight < 1)
    return optionError("blocks-in-flight") << "expected at least 1, got " << blocksInFlight;
  for (auto [graph, name] : {std::pair(&step, "step"), std::pair(&forward, "forward")}) {
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
  if (findChain(step) != findChain(forward))
    return forward.emitOpError("expects the same text blocks as 'step', in the same order");
  axes = axesOf(module);
  return success();
}

EncoderPlacement BuildProgramPass::encoderPlacement() {
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

/// Costs of the chain's links and of the encoder, from the applications of the step; every
/// block is told its seconds, which the simulation reads when its ops are gone.
LogicalResult BuildProgramPass::findCosts() {
  llvm::Expected<Machine> found = findMachine(machineOption);
  if (!found)
    return optionError("machine") << llvm::toString(found.takeError());
  machine = *found;
  FailureOr<std::vector<ApplicationCost>> costs =
      applicationCosts(getOperation(), machine, CostRule::Roofline);
  if (failed(costs))
    return failure();
  SmallVector<int64_t> chain = findChain(step);
  llvm::DenseMap<int64_t, size_t> linkOf;
  for (auto [link, number] : llvm::enumerate(chain)) {
    linkOf[number] = link;
    problem.blocks.push_back((*costs)[number].cost);
  }
  keyValues.resize(chain.size());
  // A key/value side belongs to the link that reads it.
  auto numberOf = [](Operation *op) {
    auto number = op->getAttrOfType<IntegerAttr>(llama::kApplicationAttr);
    return number ? number.getInt() : -1;
  };
  llvm::DenseMap<int64_t, size_t> readerOf;
  for (auto apply : step.getOps<ApplyOp>())
    for (Operation *user : apply->getUsers())
      if (linkOf.contains(numberOf(user)) && !linkOf.contains(numberOf(apply)))
        readerOf.try_emplace(numberOf(apply), linkOf[numberOf(user)]);
  // What travels: the residual stream between stages, the image states.
  auto bytesOf = [](Value value) {
    auto type = cast<RankedTensorType>(value.getType());
    return type.getNumElements() * type.getElementTypeBitWidth() / 8;
  };
  for (auto apply : step.getOps<ApplyOp>()) {
    StringRef phase = apply->getAttrOfType<StringAttr>(llama::kPhaseAttr).getValue();
    if (phase != llama::kForwardPhase)
      continue;
    if (linkOf.contains(numberOf(apply)) && linkOf[numberOf(apply)] > 0 && boundaryBytes == 0)
      boundaryBytes = bytesOf(apply.getInputs()[0]);
    if (readerOf.contains(numberOf(apply)) && !apply.getInputs().empty())
      stateBytes = bytesOf(apply.getInputs()[0]);
  }
  for (auto [number, application] : llvm::enumerate(*costs)) {
    auto add = [&](auto &times) {
      times.forward += application.cost.forward;
      times.backwardInput += application.cost.backwardInput;
      times.backwardWeight += application.cost.backwardWeight;
    };
    if (application.part == "encoder") {
      hasEncoder = true;
      add(encoderTimes);
      encoderApplications.push_back({number, application.cost.forward +
                                                 application.cost.backwardInput +
                                                 application.cost.backwardWeight});
    } else if (!application.part.empty()) {
      plan::BlockCost &sides = keyValues[readerOf.lookup(number)];
      add(sides);
      sides.residualBytes += application.cost.residualBytes;
      sides.parameterBytes += application.cost.parameterBytes;
      sides.optimizerBytes += application.cost.optimizerBytes;
    }
  }
  return success();
}

/// Writes down what every block costs.
static void noteSeconds(ModuleOp module, const Machine &machine) {
  Builder builder(module.getContext());
  for (auto block : module.getOps<FuncOp>())
    if (block->hasAttr(llama::kBlockAttr) && !block.isExternal())
      block->setAttr(kSecondsAttr,
                     builder.getF64FloatAttr(blockSeconds(block, machine, CostRule::Roofline)));
}

/// Puts the work of an encoder on the first stage into the schedule: encode(g) before the
/// first forward of the group, its backward after the group's last backward; the other
/// stages only take the states, which the encode actions stand for.
void BuildProgramPass::placeEncoderOnFirstStage() {
  schedule.groupSize = encoder.group;
  for (auto [stage, actions] : llvm::enumerate(schedule.ranks)) {
    std::vector<plan::Action> with;
    if (stage > 0)
      for (int group = 0; group < schedule.groups(); ++group)
        with.push_back({plan::Work::Encode, -1, group});
    std::vector<int> left(schedule.groups(), 0); // backward actions of a group
    std::vector<bool> begun(schedule.groups(), false);
    auto isLast = [&](const plan::Action &action) {
      return action.work == plan::Work::Backward || action.work == plan::Work::BackwardWeight;
    };
    for (const plan::Action &action : actions)
      left[action.microBatch / schedule.groupSize] += isLast(action);
    for (const plan::Action &action : actions) {
      int group = action.microBatch / schedule.groupSize;
      if (!begun[group]) {
        if (stage == 0)
          with.push_back({plan::Work::Encode, -1, group});
        with.push_back({plan::Work::States, -1, group});
        begun[group] = true;
      }
      with.push_back(action);
      if (isLast(action) && --left[group] == 0) {
        with.push_back({plan::Work::StatesGradient, -1, group});
        if (stage == 0)
          with.push_back({plan::Work::EncodeBackward, -1, group});
      }
    }
    if (stage > 0)
      for (int group = 0; group < schedule.groups(); ++group)
        with.push_back({plan::Work::EncodeBackward, -1, group});
    actions = std::move(with);
  }
}

/// Cuts the encoder's work on a group into parts that fit between the actions of a stage:
/// of half the shortest backward at most, but no more than kMostEncoderParts.
void BuildProgramPass::cutEncoder(const plan::Costs &costs) {
  // Tokens that stages share are gathered in the encoder's layers.
  schedule.encoderMeets = encoder.tokens && llvm::is_contained(encoder.axes, "pp");
  if (schedule.encoderMeets)
    return;
  double least = std::numeric_limits<double>::infinity(), most = 0, total = 0;
  for (const plan::StageTimes &times : costs.stages)
    if (times.backward() > 0)
      least = std::min(least, times.backward());
  for (const plan::EncoderTimes &times : costs.encoder)
    most = std::max(most, double(encoder.group) * std::max(times.encode, times.encodeBackward));
  const int64_t wanted = least > 0 ? int64_t(std::ceil(std::min(2 * most / least, 1e6))) : 1;
  cut.encoderParts = int(std::clamp<int64_t>(
      wanted, 1, std::min<int64_t>(kMostEncoderParts, encoderApplications.size())));
  schedule.encoderParts = cut.encoderParts;
  schedule.splitsStates = true;
  for (auto [number, seconds] : encoderApplications)
    total += seconds;
  double before = 0;
  for (auto [number, seconds] : encoderApplications) {
    int part = total > 0 ? int(cut.encoderParts * (before + seconds / 2) / total) : 0;
    cut.encoderPart[number] = std::min(part, cut.encoderParts - 1);
    before += seconds;
  }
}

LogicalResult BuildProgramPass::findSchedule() {
  const int stages = sizeOfAxis(axes, "pp"), count = microBatches, chunks = virtualStages;
  const size_t links = problem.blocks.size();
  if (chunks > 1 && scheduleOption != "interleaved")
    return optionError("virtual-stages") << "expected 1 with --schedule=" << scheduleOption
                                         << " (only interleaved takes more), got " << chunks;
  if (size_t(stages) * chunks > links)
    return optionError(chunks > 1 ? "virtual-stages" : "grid")
           << "expected at most " << links
           << " pipeline stages (pp * virtual-stages), one for each layer, the embedding and the "
              "head, got "
           << stages * chunks;

  plan::Result<plan::Schedule> made = plan::Error{""};
  StringRef name = scheduleOption;
  if (name == "1f1b") {
    made = plan::oneForwardOneBackward(stages, count);
  } else if (name == "gpipe") {
    made = plan::gpipe(stages, count);
  } else if (name == "sequential") {
    made = plan::sequential(stages, count);
  } else if (name == "interleaved") {
    made = plan::interleaved(stages, count, chunks, consecutive > 0 ? consecutive : stages);
  } else if (name == "zero-bubble") {
    made = plan::zeroBubbleH1(stages, count);
  } else {
    auto file = llvm::MemoryBuffer::getFile(name);
    if (!file)
      return optionError("schedule")
             << name << ": expected 1f1b, gpipe, interleaved, sequential, zero-bubble or a CSV file: "
             << file.getError().message();
    made = plan::readCsv((*file)->getBuffer().str(), scheduleOption);
    if (made && (int(made->ranks.size()) != stages || made->microBatches != count))
      return optionError("schedule")
             << name << ": expected " << stages << " rows and " << count << " micro-batches, got "
             << made->ranks.size() << " and " << made->microBatches;
    if (made && size_t(made->stages()) > links)
      return optionError("schedule")
             << name << ": expected at most " << links << " stages, got " << made->stages();
  }
  if (!made)
    return optionError("schedule") << made.error();
  schedule = *made;

  for (auto &rank : schedule.ranks)
    for (const plan::Action &action : rank)
      cut.splitBackward |= action.work == plan::Work::BackwardInput;
  cut.stages = stages;
  cut.stageOfChunk.assign(schedule.rankOfStage.begin(), schedule.rankOfStage.end());

  // The partition counts the key/value sides, and an encoder on the first stage.
  plan::PartitionProblem whole = problem;
  for (auto [block, times] : llvm::zip(whole.blocks, keyValues)) {
    block.forward += times.forward;
    block.backwardInput += times.backwardInput;
    block.backwardWeight += times.backwardWeight;
    block.residualBytes += times.residualBytes;
    block.parameterBytes += times.parameterBytes;
    block.optimizerBytes += times.optimizerBytes;
  }
  if (hasEncoder && encoder.firstStage) {
    whole.blocks[0].forward += encoderTimes.forward / encoder.ranks;
    whole.blocks[0].backwardInput += encoderTimes.backward() / encoder.ranks;
  }
  if (!stageMemory.empty() && int(stageMemory.size()) != stages)
    return optionError("stage-memory") << "expected " << stages << " numbers, one for each stage, "
                                       << "got " << stageMemory.size();
  const int64_t dataRanks = sizeOfAxis(axes, "dp");
  for (plan::BlockCost &block : whole.blocks) {
    // Master and moments are as large as the gradient, each.
    int64_t gradients = block.optimizerBytes / 3, weights = block.parameterBytes - gradients;
    int64_t shards = block.optimizerBytes;
    if (fsdp != "none" && dataRanks > 1)
      shards += gradients + (fsdp == "parameters" ? 0 : weights);
    block.optimizerBytes = shards / (fsdp == "none" ? 1 : dataRanks);
    block.parameterBytes =
        (fsdp == "parameters" ? weights / dataRanks : weights) +
        (fsdp == "none" || fsdp == "optimizer" || dataRanks == 1 ? gradients : 0);
  }
  whole.stages.resize(schedule.stages());
  std::vector<plan::InFlight> inFlight = plan::inFlight(schedule);
  for (auto [chunk, resource] : llvm::enumerate(whole.stages)) {
    resource.speed = machine.speed(schedule.rankOfStage[chunk] * sizeOfAxis(axes, "cp") *
                                   sizeOfAxis(axes, "tp") * sizeOfAxis(axes, "tpr"));
    if (!stageMemory.empty())
      resource.memoryBytes = std::max<int64_t>(0, stageMemory[schedule.rankOfStage[chunk]] /
                                                      (schedule.stages() / stages));
    resource.inFlight = std::max(1, inFlight[chunk].both);
  }
  plan::Result<plan::Partition> solved = plan::solvePartition(whole);
  if (int64_t lack = stageMemory.empty() ? 0 : plan::leastLack(whole)) {
    for (plan::StageResource &resource : whole.stages)
      resource.memoryBytes += lack;
    solved = plan::solvePartition(whole);
  }
  if (!solved)
    return optionError("grid") << solved.error();
  partition = *solved;
  cut.begin.assign(partition.begin.begin(), partition.begin.end());

  // Times of the schedule.
  plan::Costs costs;
  std::vector<plan::StageTimes> keyValueOfRank(stages);
  for (int chunk = 0; chunk < schedule.stages(); ++chunk) {
    plan::StageTimes times;
    plan::StageTimes &sides = keyValueOfRank[schedule.rankOfStage[chunk]];
    for (size_t link = partition.begin[chunk]; link < partition.begin[chunk + 1]; ++link) {
      times.forward += problem.blocks[link].forward;
      times.backwardInput += problem.blocks[link].backwardInput;
      times.backwardWeight += problem.blocks[link].backwardWeight;
      sides.forward += keyValues[link].forward;
      sides.backwardInput += keyValues[link].backwardInput;
      sides.backwardWeight += keyValues[link].backwardWeight;
    }
    costs.stages.push_back(times);
  }
  const int64_t ranksOfStage =
      sizeOfAxis(axes, "cp") * sizeOfAxis(axes, "tp") * sizeOfAxis(axes, "tpr");
  costs.boundaryBytes = boundaryBytes;
  for (int from = 0; from < stages; ++from) {
    auto &row = costs.links.emplace_back();
    for (int to = 0; to < stages; ++to)
      row.push_back(machine.link(from * ranksOfStage, to * ranksOfStage));
  }
  if (hasEncoder) {
    double bytes = double(stateBytes) * encoder.group;
    costs.gatherSeconds = machine.collectiveSeconds(encoder.ranks, 1, bytes);
    // Gradients are summed in f32 at least.
    costs.reduceSeconds = machine.collectiveSeconds(encoder.ranks, 1, 2 * bytes);
    for (int rank = 0; rank < stages; ++rank) {
      double share = encoder.firstStage && rank > 0 ? 0 : 1.0 / double(encoder.ranks);
      costs.encoder.push_back({encoderTimes.forward * share, keyValueOfRank[rank].forward,
                               keyValueOfRank[rank].backward(), encoderTimes.backward() * share});
    }
    // One stage has no bubbles to encode ahead in.
    if (encoder.firstStage || stages == 1) {
      placeEncoderOnFirstStage();
    } else {
      cutEncoder(costs);
      plan::Result<plan::EncoderSchedule> placed =
          plan::placeEncoder(schedule, costs, int(encoder.group));
      if (!placed)
        return optionError("encoder-group") << placed.error();
      schedule = placed->schedule;
    }
  }
  plan::Result<plan::Timeline> timeline = plan::execute(schedule, costs);
  if (!timeline)
    return optionError("schedule") << timeline.error();
  launches = plan::placeTransfers(schedule, *timeline);
  return success();
}

/// Parameters of a stage, in their order in the module, with the axes of their gradients.
static SmallVector<StageParameter> parametersOf(ModuleOp module, ArrayRef<Axis> axes,
                                                const EncoderPlacement &encoder,
                                                ArrayRef<FuncOp> functions, SymbolTable &symbols) {
  llvm::StringMap<int64_t> used; // and the first application
  llvm::StringSet<> ofEncoder;
  for (FuncOp function : functions)
    for (auto apply : function.getOps<ApplyOp>()) {
      int64_t application = -1;
      if (auto number = apply->getAttrOfType<IntegerAttr>(llama::kApplicationAttr))
        application = number.getInt();
      auto part = symbols.lookup(apply.getBlock())->getAttrOfType<StringAttr>(llama::kPartAttr);
      for (ArrayAttr list : {apply.getParametersAttr(), apply.getGradientsAttr()})
        for (auto name : list.getAsRange<FlatSymbolRefAttr>()) {
          used.try_emplace(name.getValue(), application);
          if (part && part.getValue() == "encoder")
            ofEncoder.insert(name.getValue());
        }
    }
  SmallVector<StageParameter> parameters;
  for (auto op : module.getOps<llama::ParameterOp>()) {
    if (!used.contains(op.getSymName()))
      continue;
    StageParameter parameter{op, used.lookup(op.getSymName())};
    bool inEncoder = ofEncoder.contains(op.getSymName());
    llvm::StringSet<> partial, split;
    partial.insert("dp");
    if (auto list = op->getAttrOfType<ArrayAttr>("partial"))
      for (auto axis : list.getAsRange<StringAttr>())
        partial.insert(axis.getValue());
    if (inEncoder && !encoder.tokens)
      for (StringRef axis : encoder.axes)
        partial.insert(axis);
    if (auto dimensions = op->getAttrOfType<ArrayAttr>("split"))
      for (auto list : dimensions.getAsRange<ArrayAttr>())
        for (auto axis : list.getAsRange<StringAttr>())
          split.insert(axis.getValue());
    parameter.onAllStages = inEncoder && !encoder.firstStage;
    for (const Axis &axis : axes) {
      if (axis.size == 1)
        continue;
      if (partial.contains(axis.name))
        parameter.reduced.push_back(axis.name);
      if (!split.contains(axis.name) && (axis.name != "pp" || parameter.onAllStages))
        parameter.once.push_back(axis.name);
    }
    parameters.push_back(std::move(parameter));
  }
  return parameters;
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

void BuildProgramPass::buildStep(ProgramBuilder &programs, const GraphCut &graph, int stage) {
  programs.begin("step");
  programs.beginStep();
  const Stage &own = graph.stages[stage];
  for (const plan::Launch &launch : launches[stage]) {
    const plan::Action &action = launch.action;
    const int64_t number = action.microBatch;
    if (launch.kind != plan::Launch::Compute) {
      bool send = launch.kind == plan::Launch::Send;
      bool ahead = action.work == plan::Work::Forward;
      const Chunk &chunk = graph.chunks[action.stage];
      programs.transfer(send, ahead ? "forward" : "backward", send ? stage : launch.peer,
                        send ? launch.peer : stage, ahead ? chunk.forwardOut : chunk.backwardOut,
                        action.stage, number);
      continue;
    }
    const bool isLastPart = action.part + 1 == schedule.partsOf(action.work);
    auto runOfGroup = [&](const Pieces &pieces) {
      auto [begin, end] = schedule.microBatchesOf(action);
      for (int64_t m = begin; m < end; ++m)
        programs.run(pieces, m);
    };
    switch (action.work) {
    case plan::Work::Forward:
      programs.run(graph.chunks[action.stage].forward, number);
      break;
    case plan::Work::Backward:
      programs.run(graph.chunks[action.stage].backward, number);
      programs.run(graph.chunks[action.stage].backwardWeight, number);
      break;
    case plan::Work::BackwardInput:
      programs.run(graph.chunks[action.stage].backward, number);
      break;
    case plan::Work::BackwardWeight:
      programs.run(graph.chunks[action.stage].backwardWeight, number);
      break;
    case plan::Work::Encode:
      if (size_t(action.part) < own.encode.size())
        programs.run(own.encode[action.part], number);
      if (isLastPart)
        programs.gatherStates(graph, number);
      break;
    case plan::Work::States:
      runOfGroup(own.states);
      if (isLastPart)
        programs.keepStates(graph, number);
      break;
    case plan::Work::StatesGradient:
      // A short group has all of it in the last part.
      if (auto [begin, end] = schedule.microBatchesOf(action);
          begin == number * encoder.group && begin < end) {
        programs.restoreStates(graph, number);
        programs.zeroStates(graph, number);
      }
      runOfGroup(own.statesGradient);
      if (isLastPart)
        programs.reduceStates(graph, number);
      break;
    case plan::Work::EncodeBackward:
      if (size_t(action.part) < own.encodeBackward.size())
        programs.run(own.encodeBackward[action.part], number);
      break;
    }
  }
  programs.finishStep();
}

/// Micro-batch after micro-batch.
void BuildProgramPass::buildForward(ProgramBuilder &programs, const GraphCut &graph, int stage) {
  programs.begin("forward");
  for (int64_t m = 0; m < microBatches; ++m) {
    if (m % encoder.group == 0) {
      for (const Pieces &pieces : graph.stages[stage].encode)
        programs.run(pieces, m / encoder.group);
      programs.gatherStates(graph, m / encoder.group);
    }
    programs.run(graph.stages[stage].states, m);
    for (auto [number, chunk] : llvm::enumerate(graph.chunks)) {
      if (cut.stageOfChunk[number] != stage)
        continue;
      if (number > 0)
        programs.transfer(false, "forward", cut.stageOfChunk[number - 1], stage,
                          graph.chunks[number - 1].forwardOut, number - 1, m);
      programs.run(chunk.forward, m);
      if (number + 1 < graph.chunks.size())
        programs.transfer(true, "forward", stage, cut.stageOfChunk[number + 1], chunk.forwardOut,
                          number, m);
    }
  }
  programs.statistics();
}

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

/// Writes down how the work was shared out (StageReport.h).
void BuildProgramPass::noteStages(const GraphCut &graph) {
  Builder builder(&getContext());
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
    facts.set("encoder", of.getDictionary(&getContext()));
  }
  getOperation()->setAttr(kStagesAttr, facts.getDictionary(&getContext()));
}

/// Notes the stages that have a parameter, if there are two: both add to its gradient
/// (embedding table and head that are tied).
LogicalResult BuildProgramPass::tie(StageParameter &parameter, ArrayRef<int> stages) {
  if (stages.size() < 2)
    return success();
  if (stages.size() > 2 || stages[0] != 0)
    return optionError("schedule")
           << "expected a schedule that keeps the layers that share '" << parameter.op.getSymName()
           << "' on one stage, or on two of which one is the first";
  parameter.tied = {stages[0], stages[1]};
  SmallVector<StringRef> once;
  for (const Axis &axis : axes) // in their order
    if (axis.name == "pp" || llvm::is_contained(parameter.once, axis.name))
      once.push_back(axis.name);
  parameter.once = once;
  return success();
}

/// Says of which stages, and whether of the encoder, each application is a piece of its own:
/// where its weights or gradients are sharded.
void BuildProgramPass::findBlocksApart(Fsdp level) {
  const bool shards = sizeOfAxis(axes, "dp") > 1;
  const bool all = shards && level == Fsdp::Parameters;
  SmallVector<bool> stages(cut.stages, all);
  cut.encoderByApplication = all;
  if (shards && level == Fsdp::Gradients) {
    llvm::DenseMap<int64_t, size_t> linkOf;
    for (auto [link, number] : llvm::enumerate(findChain(step)))
      linkOf[number] = link;
    for (auto apply : step.getOps<ApplyOp>()) {
      auto number = apply->getAttrOfType<IntegerAttr>(llama::kApplicationAttr);
      if (!number || apply.getGradients().empty())
        continue;
      auto link = linkOf.find(number.getInt());
      if (link == linkOf.end()) { // of the encoder, or of a key/value side
        cut.encoderByApplication |= llvm::any_of(encoderApplications, [&](auto &application) {
          return application.first == number.getInt();
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

void BuildProgramPass::runOnOperation() {
  ModuleOp module = getOperation();
  if (failed(check()) || failed(findCosts()))
    return signalPassFailure();
  encoder = encoderPlacement();
  if (failed(findSchedule()))
    return signalPassFailure();

  const Fsdp level = llvm::StringSwitch<Fsdp>(fsdp)
                         .Case("optimizer", Fsdp::Optimizer)
                         .Case("gradients", Fsdp::Gradients)
                         .Case("parameters", Fsdp::Parameters)
                         .Default(Fsdp::None);
  findBlocksApart(level);
  FailureOr<GraphCut> stepCut = cutGraph(step, "step", cut, encoder, axes);
  if (failed(stepCut))
    return signalPassFailure();
  ChainCut forwardChain = cut;
  forwardChain.splitBackward = false;
  if (level == Fsdp::Gradients) { // it has none
    forwardChain.chunksByApplication.assign(cut.stageOfChunk.size(), false);
    forwardChain.encoderByApplication = false;
  }
  FailureOr<GraphCut> forwardCut = cutGraph(forward, "forward", forwardChain, encoder, axes);
  if (failed(forwardCut))
    return signalPassFailure();
  step.erase();
  forward.erase();

  Type gradientType;
  if (auto norm = module.lookupSymbol<FuncOp>("gradient_norm"))
    gradientType = cast<RankedTensorType>(norm.getArgumentTypes()[0]).getElementType();

  OpBuilder builder(module.getContext());
  SymbolTable symbols(module);
  std::vector<SmallVector<FuncOp>> functionsOfStage(cut.stages);
  llvm::StringMap<SmallVector<int, 2>> stagesOf; // of parameters
  for (int stage = 0; stage < cut.stages; ++stage) {
    SmallVector<FuncOp> &functions = functionsOfStage[stage];
    functions = functionsOf(*stepCut, cut, stage);
    llvm::append_range(functions, functionsOf(*forwardCut, cut, stage));
    for (FuncOp function : functions)
      for (auto apply : function.getOps<ApplyOp>())
        for (auto name : apply.getParameters().getAsRange<FlatSymbolRefAttr>())
          if (auto &stages = stagesOf[name.getValue()]; stages.empty() || stages.back() != stage)
            stages.push_back(stage);
  }
  for (int stage = 0; stage < cut.stages; ++stage) {
    ArrayRef<FuncOp> functions = functionsOfStage[stage];
    builder.setInsertionPointToEnd(module.getBody());
    SmallVector<StageParameter> parameters =
        parametersOf(module, axes, encoder, functions, symbols);
    for (StageParameter &parameter : parameters)
      if (!parameter.onAllStages && failed(tie(parameter, stagesOf[parameter.op.getSymName()])))
        return signalPassFailure();
    FailureOr<ParameterLayout> layout =
        layOutParameters(builder, parameters, gradientType, stage, cut.stages, level,
                         sizeOfAxis(axes, "dp"), blocksInFlight);
    if (failed(layout))
      return signalPassFailure();
    noteUnits(functions, *layout);
    dist::ArenaOp::create(builder, module.getLoc(), arenaName("statistics", stage, cut.stages > 1),
                          16, stage);
    ProgramBuilder programs(builder, symbols, axes, encoder, microBatches, blocksInFlight, stage,
                            cut.stages, *layout);
    buildStep(programs, *stepCut, stage);
    buildForward(programs, *forwardCut, stage);
  }
  eraseUnused(module);
  noteSeconds(module, machine);
  noteStages(*stepCut);
}
