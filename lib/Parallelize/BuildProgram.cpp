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
// 4. For every stage: the layout of its parameters (ParameterLayout.h), its programs.
//
//===----------------------------------------------------------------------===//
#include "llamac/Parallelize/Passes.h"

#include "CutGraph.h"
#include "ParameterLayout.h"

#include "llamac/Parallelize/BlockCosts.h"
#include "llamac/Parallelize/Grid.h"
#include "llamac/Parallelize/Plan/Encoder.h"
#include "llamac/Parallelize/Plan/Partition.h"
#include "llamac/Parallelize/Plan/Schedule.h"
#include "llamac/Parallelize/Simulate.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/MemoryBuffer.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_BUILDPROGRAMPASS
#include "llamac/Parallelize/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;
using llama::ApplyOp;

namespace {

struct BuildProgramPass : mlir::llamac::impl::BuildProgramPassBase<BuildProgramPass> {
  using BuildProgramPassBase::BuildProgramPassBase;

  void runOnOperation() override;

private:
  LogicalResult check();
  LogicalResult findCosts();
  LogicalResult findSchedule();
  void placeEncoderOnFirstStage();
  EncoderPlacement encoderPlacement();

  InFlightDiagnostic optionError(StringRef option) {
    return getOperation().emitError("--") << option << ": ";
  }

  Machine machine;
  SmallVector<Axis> axes; // of the grid
  FuncOp step, forward;
  bool hasEncoder = false;
  plan::PartitionProblem problem; // blocks of the chain; stages are chunks
  plan::StageTimes encoderTimes;  // of one micro-batch, whole
  int64_t boundaryBytes = 0;      // that a stage sends the next, per micro-batch
  int64_t stateBytes = 0;         // of the image states of a micro-batch
  SmallVector<plan::StageTimes> keyValueTimes; // of each link of the chain
  plan::Partition partition;
  plan::Schedule schedule; // with the encoder's work
  std::vector<std::vector<plan::Launch>> launches;
  EncoderPlacement encoder;
  ChainCut cut;
};

/// Writes the programs of one stage.
class ProgramBuilder {
public:
  ProgramBuilder(OpBuilder &builder, ModuleOp module, ArrayRef<Axis> axes,
                 const EncoderPlacement &encoder, int64_t microBatches)
      : builder(builder), module(module), axes(axes), encoder(encoder),
        microBatches(microBatches), event(dist::EventType::get(module.getContext())) {}

  void begin(StringRef name, int stage);
  void run(const Piece &piece, int64_t number);
  void transfer(bool send, StringRef direction, int from, int to, ArrayRef<Boundary> boundaries,
                int chunk, int64_t microBatch);
  void gatherStates(const GraphCut &graph, int64_t group);
  void reduceStates(const GraphCut &graph, int64_t group);
  void zeroStates(const GraphCut &graph, int64_t group);
  void collective(dist::CollectiveKind kind, StringRef name, ArrayRef<StringRef> over,
                  dist::InstanceAttr reads, dist::InstanceAttr writes, dist::AddressAttr from,
                  dist::AddressAttr to, int64_t elements, Type type, ArrayAttr gradients = {});
  void beginStep(const ParameterLayout &layout, int stages);
  void finishStep(const ParameterLayout &layout, int stages);
  void statistics(int stages);

private:
  dist::InstanceAttr instance(const FrameUse &use, int64_t number);
  dist::InstanceAttr instance(StringAttr frame, int64_t number) {
    return dist::InstanceAttr::get(builder.getContext(), frame, number, 0);
  }
  FlatSymbolRefAttr communicator(StringRef name, ArrayRef<StringRef> axes, ArrayRef<int64_t> edge);
  int64_t streamOf(FlatSymbolRefAttr communicator);
  FuncOp sizedBlock(StringRef name, int64_t elements);

  OpBuilder &builder;
  ModuleOp module;
  ArrayRef<Axis> axes;
  const EncoderPlacement &encoder;
  int64_t microBatches;
  Type event;
  int stage = 0;
  llvm::StringMap<int64_t> streams; // of the communicators of this stage
};

} // namespace

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

void ProgramBuilder::begin(StringRef name, int number) {
  stage = number;
  streams.clear();
  builder.setInsertionPointToEnd(module.getBody());
  auto program = dist::ProgramOp::create(builder, module.getLoc(), name, stage);
  builder.createBlock(&program.getBody());
}

FlatSymbolRefAttr ProgramBuilder::communicator(StringRef name, ArrayRef<StringRef> over,
                                               ArrayRef<int64_t> edge) {
  if (!module.lookupSymbol(name)) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(module.getBody());
    dist::CommunicatorOp::create(builder, module.getLoc(), name,
                                 over.empty() ? ArrayAttr() : builder.getStrArrayAttr(over),
                                 edge.empty() ? DenseI64ArrayAttr()
                                              : builder.getDenseI64ArrayAttr(edge));
  }
  return FlatSymbolRefAttr::get(builder.getContext(), name);
}

/// Streams of communicators that are not used beside compute: 1, 2, ...
int64_t ProgramBuilder::streamOf(FlatSymbolRefAttr communicator) {
  return streams.try_emplace(communicator.getValue(), int64_t(streams.size()) + 1).first->second;
}

dist::InstanceAttr ProgramBuilder::instance(const FrameUse &use, int64_t number) {
  if (!use.byGroup)
    return instance(use.frame, number);
  return dist::InstanceAttr::get(builder.getContext(), use.frame, number / encoder.group,
                                 number % encoder.group * use.stride);
}

void ProgramBuilder::run(const Piece &piece, int64_t number) {
  FuncOp function = piece.function;
  if (!function)
    return;
  auto instances = [&](ArrayRef<FrameUse> uses) {
    return builder.getArrayAttr(llvm::map_to_vector(
        uses, [&](const FrameUse &use) -> Attribute { return instance(use, number); }));
  };
  dist::RunOp::create(builder, function.getLoc(), event, ValueRange(), function.getName(), number,
                      instances(piece.reads), instances(piece.writes), ArrayAttr());
}

void ProgramBuilder::transfer(bool send, StringRef direction, int from, int to,
                              ArrayRef<Boundary> boundaries, int chunk, int64_t microBatch) {
  for (auto [index, boundary] : llvm::enumerate(boundaries)) {
    if (!boundary.to)
      continue;
    FlatSymbolRefAttr edge =
        communicator((direction + " " + Twine(from) + " to " + Twine(to)).str(), {}, {from, to});
    Type type = boundary.type.getElementType();
    int64_t tag[] = {chunk, microBatch, int64_t(index)};
    int64_t elements = boundary.type.getNumElements(), stream = streamOf(edge);
    if (send)
      dist::SendOp::create(builder, module.getLoc(), event, ValueRange(), edge.getValue(),
                           dist::InstanceAttr::get(builder.getContext(), boundary.from, microBatch,
                                                   boundary.offset),
                           type, elements, tag, dist::AddressAttr(), stream);
    else
      dist::ReceiveOp::create(builder, module.getLoc(), event, ValueRange(), edge.getValue(),
                              instance(boundary.to, microBatch), type, elements, tag,
                              dist::AddressAttr(), stream);
  }
}

void ProgramBuilder::collective(dist::CollectiveKind kind, StringRef name,
                                ArrayRef<StringRef> over, dist::InstanceAttr reads,
                                dist::InstanceAttr writes, dist::AddressAttr from,
                                dist::AddressAttr to, int64_t elements, Type type,
                                ArrayAttr gradients) {
  FlatSymbolRefAttr group = communicator(name, over, {});
  // What touches frames runs beside compute, on a stream of its own.
  int64_t stream = reads || writes ? streamOf(group) : 0;
  dist::CollectiveOp::create(builder, module.getLoc(), event, ValueRange(), kind, group.getValue(),
                             reads, writes, from, to, 1, elements, type, TypeAttr(), false, false,
                             gradients, stream);
}

/// Elements of the states of a group on all ranks, padding included.
static int64_t elementsOfGroup(const GraphCut &graph, const EncoderPlacement &encoder) {
  return graph.encodedType.getNumElements() *
         (graph.encoded == graph.states ? 1 : encoder.ranks);
}

/// The image states of a group, from every rank's share to all ranks.
void ProgramBuilder::gatherStates(const GraphCut &graph, int64_t group) {
  Type element = graph.stateType.getElementType();
  if (graph.encoded != graph.states && (stage == 0 || !encoder.firstStage))
    collective(dist::CollectiveKind::AllGather, "states", encoder.axes,
               instance(graph.encoded, group), instance(graph.states, group), {}, {},
               graph.encodedType.getNumElements(), element);
  if (encoder.firstStage && sizeOfAxis(axes, "pp") > 1)
    collective(dist::CollectiveKind::Broadcast, "states to stages", {"pp"},
               stage == 0 ? instance(graph.states, group) : dist::InstanceAttr(),
               instance(graph.states, group), {}, {}, elementsOfGroup(graph, encoder), element);
}

/// The gradient of a group's states, from every stage's part to the ranks that encoded
/// the images.
void ProgramBuilder::reduceStates(const GraphCut &graph, int64_t group) {
  Type element = graph.stateGradientElement;
  const int64_t share = graph.encodedType.getNumElements(), whole = elementsOfGroup(graph, encoder);
  const bool split = graph.encodedGradient != graph.statesGradient;
  dist::InstanceAttr gradient = instance(graph.statesGradient, group);
  dist::InstanceAttr part = instance(graph.encodedGradient, group);
  auto reduce = [&](StringRef name, ArrayRef<StringRef> over, dist::InstanceAttr what,
                    int64_t elements) {
    if (!over.empty())
      collective(dist::CollectiveKind::AllReduce, name, over, what, what, {}, {}, elements, element);
  };
  SmallVector<StringRef> partial;
  for (const Axis &axis : axes)
    if (axis.size > 1 && (axis.name == "pp" || llvm::is_contained(graph.statePartial, axis.name)))
      partial.push_back(axis.name);
  if (!split)
    return reduce("states_gradient", partial, gradient, whole);
  if (encoder.firstStage) {
    if (sizeOfAxis(axes, "pp") > 1)
      reduce("states_gradient to stage 0", {"pp"}, gradient, whole);
    llvm::erase(partial, "pp");
    if (stage != 0)
      return;
  }
  bool scatters = llvm::all_of(
      encoder.axes, [&](StringRef axis) { return llvm::is_contained(partial, axis); });
  if (!scatters)
    reduce("states_gradient", partial, gradient, whole);
  collective(scatters ? dist::CollectiveKind::ReduceScatter : dist::CollectiveKind::Slice,
             "states_gradient to images", encoder.axes, gradient, part, {}, {}, share, element);
  if (!scatters)
    return;
  llvm::erase_if(partial, [&](StringRef axis) { return llvm::is_contained(encoder.axes, axis); });
  reduce("states_gradient of images", partial, part, share);
}

/// Zeros where a stage adds nothing to the gradient of a group's states: everywhere if it
/// has no cross-attention layers, else behind the group's images.
void ProgramBuilder::zeroStates(const GraphCut &graph, int64_t group) {
  int64_t written = graph.stages[stage].statesGradient.function
                        ? std::min(encoder.group, microBatches - group * encoder.group) *
                              graph.stateType.getNumElements()
                        : 0;
  int64_t width = graph.stateGradientElement.getIntOrFloatBitWidth() / 8;
  int64_t rest = elementsOfGroup(graph, encoder) - written;
  if (rest > 0)
    dist::ZeroOp::create(builder, module.getLoc(), event, ValueRange(),
                         dist::InstanceAttr::get(builder.getContext(), graph.statesGradient, group,
                                                 written * width),
                         rest * width, dist::AddressAttr(), 0);
}

/// The block `name` of the optimizer for so many elements.
FuncOp ProgramBuilder::sizedBlock(StringRef name, int64_t elements) {
  auto block = module.lookupSymbol<FuncOp>(name);
  int64_t old = cast<RankedTensorType>(block.getArgumentTypes()[0]).getDimSize(0);
  if (old == elements)
    return block;
  std::string sized = (name + "." + Twine(elements)).str();
  if (auto known = module.lookupSymbol<FuncOp>(sized))
    return known;
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointAfter(block);
  auto copy = cast<FuncOp>(builder.clone(*block));
  copy.setName(sized);
  auto resize = [&](Value value) {
    auto tensor = cast<RankedTensorType>(value.getType());
    if (tensor.getRank() == 1 && tensor.getDimSize(0) == old)
      value.setType(tensor.clone({elements}));
  };
  Block &body = copy.getBody().front();
  llvm::for_each(body.getArguments(), resize);
  for (Operation &op : body)
    llvm::for_each(op.getResults(), resize);
  copy.setFunctionType(
      builder.getFunctionType(body.getArgumentTypes(), body.getTerminator()->getOperandTypes()));
  return copy;
}

void ProgramBuilder::statistics(int stages) {
  auto place = dist::AddressAttr::get(
      builder.getContext(),
      FlatSymbolRefAttr::get(builder.getContext(), arenaName("statistics", stage, stages > 1)), 0);
  dist::StatisticsOp::create(builder, module.getLoc(), event, ValueRange(), place, 0);
  SmallVector<StringRef> all;
  for (const Axis &axis : axes)
    if (axis.size > 1)
      all.push_back(axis.name);
  if (!all.empty())
    collective(dist::CollectiveKind::AllReduce, "world", all, {}, {}, place, place, 2,
               builder.getF64Type());
}

/// Gradients are sums: they start at zero.
void ProgramBuilder::beginStep(const ParameterLayout &layout, int stages) {
  if (layout.elements == 0)
    return;
  bool isWhole = layout.fsdp == Fsdp::None || layout.fsdp == Fsdp::Optimizer;
  int64_t elements = isWhole ? layout.elements : layout.elements / layout.ranks;
  auto gradients = dist::AddressAttr::get(
      builder.getContext(),
      FlatSymbolRefAttr::get(builder.getContext(), arenaName("gradients", stage, stages > 1)), 0);
  dist::ZeroOp::create(builder, module.getLoc(), event, ValueRange(), dist::InstanceAttr(),
                       elements * layout.gradientType.getIntOrFloatBitWidth() / 8, gradients, 0);
}

void ProgramBuilder::finishStep(const ParameterLayout &layout, int stages) {
  auto address = [&](StringRef arena, int64_t elements, Type type) {
    return dist::AddressAttr::get(
        builder.getContext(),
        FlatSymbolRefAttr::get(builder.getContext(), arenaName(arena, stage, stages > 1)),
        elements * type.getIntOrFloatBitWidth() / 8);
  };
  const int64_t ranks = layout.ranks;
  const StringRef gradients = layout.fsdp == Fsdp::Optimizer ? "gradient_shard" : "gradients";
  Type type = layout.gradientType;

  // Shards hold sums over dp; what is left to reduce is reduced on them.
  for (const Segment &segment : layout.segments) {
    SmallVector<Attribute> names;
    for (const Unit &unit : segment.units)
      for (StringRef parameter : unit.parameters)
        names.push_back(FlatSymbolRefAttr::get(builder.getContext(), parameter));
    ArrayAttr keys = builder.getArrayAttr(names);
    auto shard = address(gradients, segment.begin / ranks, type);
    SmallVector<StringRef> over = segment.reduced;
    if (layout.fsdp == Fsdp::Optimizer)
      collective(dist::CollectiveKind::ReduceScatter, "dp", {"dp"}, {}, {},
                 address("gradients", segment.begin, type), shard, segment.elements / ranks, type,
                 keys);
    if (ranks > 1)
      llvm::erase(over, "dp");
    if (!over.empty())
      collective(dist::CollectiveKind::AllReduce, llvm::join(over, ","), over, {}, {}, shard, shard,
                 segment.elements / ranks, type, keys);
  }
  for (const Segment &segment : layout.segments) {
    SmallVector<StringRef> once = segment.once;
    if (ranks > 1)
      llvm::erase(once, "dp");
    FuncOp block = sizedBlock("gradient_norm", segment.elements / ranks);
    dist::GradientNormOp::create(
        builder, module.getLoc(), event, ValueRange(), block.getName(),
        builder.getArrayAttr({address(gradients, segment.begin / ranks, type)}),
        builder.getStrArrayAttr(once), 0);
  }
  statistics(stages);
  if (!layout.elements)
    return;
  FuncOp update = sizedBlock("adamw", layout.elements / ranks);
  dist::UpdateOp::create(builder, module.getLoc(), event, ValueRange(), update.getName(),
                         ArrayAttr(), 0);
  if (ranks == 1 || layout.fsdp == Fsdp::Parameters)
    return;
  const StringRef updated = layout.storageType != layout.masterType ? "weight_shard" : "masters";
  for (const Segment &segment : layout.segments)
    for (const Unit &unit : segment.units)
      collective(dist::CollectiveKind::AllGather, "dp", {"dp"}, {}, {},
                 address(updated, unit.begin / ranks, layout.storageType),
                 address("parameters", unit.begin, layout.storageType), unit.elements / ranks,
                 layout.storageType);
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

LogicalResult BuildProgramPass::check() {
  ModuleOp module = getOperation();
  if (microBatches < 1)
    return optionError("micro-batches") << "expected at least 1, got " << microBatches;
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
  keyValueTimes.resize(chain.size());
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
    auto add = [&](plan::StageTimes &times) {
      times.forward += application.cost.forward;
      times.backwardInput += application.cost.backwardInput;
      times.backwardWeight += application.cost.backwardWeight;
    };
    if (application.part == "encoder") {
      hasEncoder = true;
      add(encoderTimes);
    } else if (!application.part.empty()) {
      add(keyValueTimes[readerOf.lookup(number)]);
    }
  }
  return success();
}

/// Writes down what every block costs.
static void noteSeconds(ModuleOp module, const Machine &machine) {
  Builder builder(module.getContext());
  for (auto block : module.getOps<FuncOp>())
    if (block->hasAttr(llama::kBlockAttr) && !block.isExternal())
      block->setAttr(kSecondsAttr, builder.getF64FloatAttr(
                                       blockSeconds(block, machine, CostRule::Roofline)));
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
  } else if (name == "interleaved") {
    made = plan::interleaved(stages, count, chunks, consecutive > 0 ? consecutive : stages);
  } else if (name == "zero-bubble") {
    made = plan::zeroBubbleH1(stages, count);
  } else {
    auto file = llvm::MemoryBuffer::getFile(name);
    if (!file)
      return optionError("schedule") << name << ": " << file.getError().message();
    made = plan::readCsv((*file)->getBuffer().str(), scheduleOption);
    if (made && (int(made->ranks.size()) != stages || made->microBatches != count))
      return optionError("schedule")
             << name << ": expected " << stages << " rows and " << count << " micro-batches, got "
             << made->ranks.size() << " and " << made->microBatches;
    if (made && size_t(made->stages()) > links)
      return optionError("schedule") << name << ": expected at most " << links << " stages, got "
                                     << made->stages();
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
  for (auto [block, times] : llvm::zip(whole.blocks, keyValueTimes)) {
    block.forward += times.forward;
    block.backwardInput += times.backwardInput;
    block.backwardWeight += times.backwardWeight;
  }
  if (hasEncoder && encoder.firstStage) {
    whole.blocks[0].forward += encoderTimes.forward / encoder.ranks;
    whole.blocks[0].backwardInput += encoderTimes.backward() / encoder.ranks;
  }
  const int64_t dataRanks = sizeOfAxis(axes, "dp");
  for (plan::BlockCost &block : whole.blocks) {
    block.optimizerBytes /= fsdp == "none" ? 1 : dataRanks;
    block.parameterBytes /= fsdp == "parameters" ? dataRanks : 1;
  }
  whole.stages.resize(schedule.stages());
  std::vector<plan::InFlight> inFlight = plan::inFlight(schedule);
  for (auto [chunk, resource] : llvm::enumerate(whole.stages)) {
    resource.speed = machine.speed(schedule.rankOfStage[chunk] * sizeOfAxis(axes, "cp") *
                                   sizeOfAxis(axes, "tp") * sizeOfAxis(axes, "tpr"));
    resource.memoryBytes = machine.memoryBytes / (schedule.stages() / stages);
    resource.inFlight = std::max(1, inFlight[chunk].both);
  }
  plan::Result<plan::Partition> solved = plan::solvePartition(whole);
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
      sides.forward += keyValueTimes[link].forward;
      sides.backwardInput += keyValueTimes[link].backwardInput;
      sides.backwardWeight += keyValueTimes[link].backwardWeight;
    }
    costs.stages.push_back(times);
  }
  const int64_t ranksOfStage = sizeOfAxis(axes, "cp") * sizeOfAxis(axes, "tp") * sizeOfAxis(axes, "tpr");
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
      // Tokens that stages share are gathered in the encoder's layers.
      schedule.encoderMeets = encoder.tokens && llvm::is_contained(encoder.axes, "pp");
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
    StageParameter parameter{op, used.lookup(op.getSymName()), {}, {}};
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
    const bool onAllStages = inEncoder && !encoder.firstStage;
    for (const Axis &axis : axes) {
      if (axis.size == 1)
        continue;
      if (partial.contains(axis.name))
        parameter.reduced.push_back(axis.name);
      if (!split.contains(axis.name) && (axis.name != "pp" || onAllStages))
        parameter.once.push_back(axis.name);
    }
    parameters.push_back(std::move(parameter));
  }
  return parameters;
}

void BuildProgramPass::runOnOperation() {
  ModuleOp module = getOperation();
  if (failed(check()) || failed(findCosts()))
    return signalPassFailure();
  encoder = encoderPlacement();
  if (failed(findSchedule()))
    return signalPassFailure();

  FailureOr<GraphCut> stepCut = cutGraph(step, "step", cut, encoder, axes);
  if (failed(stepCut))
    return signalPassFailure();
  ChainCut forwardChain = cut;
  forwardChain.splitBackward = false;
  FailureOr<GraphCut> forwardCut = cutGraph(forward, "forward", forwardChain, encoder, axes);
  if (failed(forwardCut))
    return signalPassFailure();
  step.erase();
  forward.erase();

  Fsdp level = llvm::StringSwitch<Fsdp>(fsdp)
                   .Case("optimizer", Fsdp::Optimizer)
                   .Case("gradients", Fsdp::Gradients)
                   .Case("parameters", Fsdp::Parameters)
                   .Default(Fsdp::None);
  Type gradientType;
  if (auto norm = module.lookupSymbol<FuncOp>("gradient_norm"))
    gradientType = cast<RankedTensorType>(norm.getArgumentTypes()[0]).getElementType();

  OpBuilder builder(module.getContext());
  SymbolTable symbols(module);
  ProgramBuilder programs(builder, module, axes, encoder, microBatches);
  llvm::StringMap<int> stageOfParameter;
  for (int stage = 0; stage < cut.stages; ++stage) {
    // Parameters.
    SmallVector<FuncOp> functions;
    auto note = [&](const Piece &piece) {
      if (piece.function)
        functions.push_back(piece.function);
    };
    for (const GraphCut *graph : {&*stepCut, &*forwardCut}) {
      for (auto [chunk, where] : llvm::zip(graph->chunks, cut.stageOfChunk))
        if (where == stage)
          for (const Piece *piece : {&chunk.forward, &chunk.backward, &chunk.backwardWeight})
            note(*piece);
      const Stage &own = graph->stages[stage];
      for (const Piece *piece : {&own.encode, &own.states, &own.statesGradient, &own.encodeBackward})
        note(*piece);
    }
    builder.setInsertionPointToEnd(module.getBody());
    SmallVector<StageParameter> parameters =
        parametersOf(module, axes, encoder, functions, symbols);
    for (StageParameter &parameter : parameters) {
      bool ofEncoder = llvm::any_of(parameter.once, [](StringRef axis) { return axis == "pp"; });
      auto [other, isNew] = stageOfParameter.try_emplace(parameter.op.getSymName(), stage);
      if (isNew || ofEncoder)
        continue;
      optionError("grid") << "expected pp=1 where layers of several stages share a parameter ('"
                          << parameter.op.getSymName() << "': tied embeddings), got pp="
                          << cut.stages;
      return signalPassFailure();
    }
    FailureOr<ParameterLayout> layout = layOutParameters(
        builder, parameters, gradientType, stage, cut.stages, level, sizeOfAxis(axes, "dp"));
    if (failed(layout))
      return signalPassFailure();
    shardGraphs(functions, *layout);
    dist::ArenaOp::create(builder, module.getLoc(), arenaName("statistics", stage, cut.stages > 1), 16,
                          stage);

    // The step.
    programs.begin("step", stage);
    const GraphCut &graph = *stepCut;
    programs.beginStep(*layout, cut.stages);
    for (const plan::Launch &launch : launches[stage]) {
      const plan::Action &action = launch.action;
      int64_t number = action.microBatch;
      auto ofGroup = [&](auto visit) {
        for (int64_t m = number * encoder.group;
             m < std::min<int64_t>(microBatches, (number + 1) * encoder.group); ++m)
          visit(m);
      };
      if (launch.kind != plan::Launch::Compute) {
        bool send = launch.kind == plan::Launch::Send;
        bool ahead = action.work == plan::Work::Forward;
        const Chunk &chunk = graph.chunks[action.stage];
        programs.transfer(send, ahead ? "forward" : "backward", send ? stage : launch.peer,
                          send ? launch.peer : stage, ahead ? chunk.forwardOut : chunk.backwardOut,
                          action.stage, number);
        continue;
      }
      switch (action.work) {
      case plan::Work::Forward: programs.run(graph.chunks[action.stage].forward, number); break;
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
        programs.run(graph.stages[stage].encode, number);
        if (graph.states)
          programs.gatherStates(graph, number);
        break;
      case plan::Work::States:
        ofGroup([&](int64_t m) { programs.run(graph.stages[stage].states, m); });
        break;
      case plan::Work::StatesGradient:
        if (graph.statesGradient)
          programs.zeroStates(graph, number);
        ofGroup([&](int64_t m) { programs.run(graph.stages[stage].statesGradient, m); });
        if (graph.statesGradient)
          programs.reduceStates(graph, number);
        break;
      case plan::Work::EncodeBackward:
        programs.run(graph.stages[stage].encodeBackward, number);
        break;
      }
    }
    programs.finishStep(*layout, cut.stages);

    // The forward program: micro-batch after micro-batch.
    programs.begin("forward", stage);
    const GraphCut &ahead = *forwardCut;
    for (int64_t m = 0; m < microBatches; ++m) {
      if (ahead.states) {
        if (m % encoder.group == 0) {
          programs.run(ahead.stages[stage].encode, m / encoder.group);
          programs.gatherStates(ahead, m / encoder.group);
        }
        programs.run(ahead.stages[stage].states, m);
      }
      for (auto [number, chunk] : llvm::enumerate(ahead.chunks)) {
        if (cut.stageOfChunk[number] != stage)
          continue;
        if (number > 0)
          programs.transfer(false, "forward", cut.stageOfChunk[number - 1], stage,
                            ahead.chunks[number - 1].forwardOut, number - 1, m);
        programs.run(chunk.forward, m);
        if (number + 1 < ahead.chunks.size())
          programs.transfer(true, "forward", stage, cut.stageOfChunk[number + 1], chunk.forwardOut,
                            number, m);
      }
    }
    programs.statistics(cut.stages);
  }

  // Blocks that the cut left without use.
  llvm::StringSet<> applied;
  for (auto function : module.getOps<FuncOp>())
    for (auto apply : function.getOps<ApplyOp>())
      applied.insert(apply.getBlock());
  for (auto program : module.getOps<dist::ProgramOp>())
    for (Operation &op : program.getBody().front()) {
      if (auto norm = dyn_cast<dist::GradientNormOp>(op))
        applied.insert(norm.getBlock());
      if (auto update = dyn_cast<dist::UpdateOp>(op))
        applied.insert(update.getBlock());
    }
  for (auto block : llvm::make_early_inc_range(module.getOps<FuncOp>()))
    if (block->hasAttr(llama::kBlockAttr) && !applied.contains(block.getName()))
      block.erase();
  noteSeconds(module, machine);
}
