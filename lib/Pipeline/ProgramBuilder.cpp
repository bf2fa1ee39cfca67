//===- ProgramBuilder.cpp - The programs of one stage ---------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What each entry is for stands in ProgramBuilder.h, with the arena of statistics. A step is
//
//   beginStep     zero of the sums, zero of what gradients are summed in
//   gather        whole weights of the blocks that a run reads (--fsdp=parameters), as many at
//                 once as blocksInFlight
//   run           its loss is added; with --fsdp=gradients zero of a unit's frame before it and
//                 reduce_scatter of the frame after it
//   transfer      between chunks, each direction of an edge on a stream of its own
//   states ...    gathers and sums of image states and of their gradient, group by group
//   finishStep    what is left to reduce of the gradients, norms, sums over all ranks, clip_norm,
//                 update, gather of updated weights
//
//===----------------------------------------------------------------------===//
#include "ProgramBuilder.h"

#include "runtime/include/llrt/ProgramFields.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::ArenaRole;
using dist::CollectiveKind;
using func::FuncOp;

namespace {
/// The arena of statistics (ProgramBuilder.h).
enum Statistic : int64_t { Sums, Given, Hyperparameters, Loss, Norm, Once };
} // namespace

ProgramBuilder::ProgramBuilder(OpBuilder &builder, SymbolTable &symbols, ArrayRef<Axis> axes,
                               const EncoderPlacement &encoder, int64_t microBatches,
                               int64_t blocksInFlight, int stage, int stages,
                               const ParameterLayout &layout)
    : builder(builder), symbols(symbols), module(cast<ModuleOp>(symbols.getOp())), axes(axes),
      encoder(encoder), microBatches(microBatches), blocksInFlight(blocksInFlight), stage(stage),
      stages(stages), layout(layout), event(dist::EventType::get(module.getContext())),
      spacing(alignmentOf(module)), statistics(Statistic::Once) {
  auto note = [&](const Unit &unit) {
    if (dist::UnitOp op = unit.op)
      units[op.getSymName()] = op;
  };
  for (const Segment &segment : layout.segments)
    llvm::for_each(segment.units, note);
  llvm::for_each(layout.frozen, note);
}

void ProgramBuilder::begin(StringRef name) {
  streams.clear();
  runs.clear();
  lastReduction = {};
  whole.clear();
  gathers.clear();
  reducedBlocks.clear();
  reductions.clear();
  builder.setInsertionPointToEnd(module.getBody());
  program = dist::ProgramOp::create(builder, module.getLoc(), name, stage, ArrayAttr());
  builder.createBlock(&program.getBody());
  Type sums = RankedTensorType::get({2}, builder.getF64Type());
  dist::OutputOp::create(builder, module.getLoc(), builder.getStringAttr(llrt::field::sums),
                         statistic(Statistic::Sums), TypeAttr::get(sums), ArrayAttr(), ArrayAttr());
  dist::ZeroOp::create(builder, module.getLoc(), event, ValueRange(), dist::InstanceAttr(), 16,
                       statistic(Statistic::Sums), ArrayAttr(), 0);
}

/// Declares an input of the entries, so many f64.
dist::AddressAttr ProgramBuilder::input(StringRef name, int64_t number, int64_t count) {
  for (auto known : program.getBody().getOps<dist::InputOp>())
    if (known.getName() == name)
      return known.getAddress();
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&program.getBody().front());
  return dist::InputOp::create(builder, module.getLoc(), builder.getStringAttr(name),
                               statistic(number),
                               TypeAttr::get(RankedTensorType::get({count}, builder.getF64Type())),
                               ArrayAttr(), ArrayAttr())
      .getAddress();
}

/// Calls a block; its scratch is added when memory is planned.
Value ProgramBuilder::call(StringRef block, ArrayRef<Attribute> buffers, IntegerAttr microBatch) {
  return dist::CallOp::create(builder, module.getLoc(), event, ValueRange(), block,
                              builder.getArrayAttr(buffers), microBatch, 0)
      .getDone();
}

/// Adds `value` to the sum of the losses, or of the squares, on the ranks with coordinate 0 on
/// the axes `once`.
void ProgramBuilder::addOnce(bool toLoss, dist::AddressAttr value, ArrayRef<StringRef> once,
                             IntegerAttr microBatch) {
  std::string axes = llvm::join(once, ",");
  auto [number, isNew] = counters.try_emplace(axes, statistics);
  statistics += isNew;
  call(
      "add_once",
      {statistic(Statistic::Sums, toLoss ? 0 : 8), value, input("once:" + axes, number->second, 1)},
      microBatch);
}

/// Adds the loss of the run of `function` that was added last, if it gives it.
void ProgramBuilder::addLoss(FuncOp function, int64_t microBatch) {
  for (unsigned i = 0; i < function.getNumResults(); ++i) {
    auto name = function.getResultAttrOfType<StringAttr>(i, llama::kOutputAttr);
    if (!name || name.getValue() != llrt::known::loss)
      continue;
    function.setResultAttr(i, dist::kAddressAttr, statistic(Statistic::Loss));
    auto partial = function.getResultAttrOfType<ArrayAttr>(i, kPartialAttr);
    SmallVector<StringRef> once;
    for (const Axis &axis : axes)
      if (axis.size > 1 && axis.name != "dp" && axis.name != "pp" &&
          !(partial && llvm::is_contained(partial, builder.getStringAttr(axis.name))))
        once.push_back(axis.name);
    addOnce(true, statistic(Statistic::Loss), once, builder.getI64IntegerAttr(microBatch));
  }
}

//===----------------------------------------------------------------------===//
// Communication
//===----------------------------------------------------------------------===//

dist::InstanceAttr ProgramBuilder::instance(const FrameUse &use, int64_t number) {
  if (!use.byGroup)
    return instance(use.frame, number);
  return dist::InstanceAttr::get(builder.getContext(), use.frame, number / encoder.group,
                                 number % encoder.group * use.stride);
}

void ProgramBuilder::transfer(bool send, StringRef direction, int from, int to,
                              ArrayRef<Boundary> boundaries, int chunk, int64_t microBatch) {
  for (auto [index, boundary] : llvm::enumerate(boundaries)) {
    if (!boundary.to)
      continue;
    auto edge = dist::CommunicatorOp::declare(
        symbols, (direction + " " + Twine(from) + " to " + Twine(to)).str(), ArrayAttr(),
        builder.getDenseI64ArrayAttr({from, to}));
    Type type = boundary.type.getElementType();
    int64_t tag[] = {chunk, microBatch, int64_t(index)};
    int64_t elements = boundary.type.getNumElements(), stream = streamOf(edge);
    Operation *end;
    if (send)
      end = dist::SendOp::create(
          builder, boundary.location, event, ValueRange(), edge.getSymName(),
          dist::InstanceAttr::get(builder.getContext(), boundary.from, microBatch, boundary.offset),
          type, elements, tag, dist::AddressAttr(), stream);
    else
      end = dist::ReceiveOp::create(builder, boundary.location, event, ValueRange(),
                                    edge.getSymName(), instance(boundary.to, microBatch), type,
                                    elements, tag, dist::AddressAttr(), stream);
    end->setAttr(dist::kCrossingAttr, boundary.name);
  }
}

dist::CollectiveOp ProgramBuilder::collective(CollectiveKind kind, StringRef name,
                                              ArrayRef<StringRef> over, Side from, Side to,
                                              int64_t elements, Type type, ArrayAttr gradients,
                                              ValueRange after) {
  auto group = dist::CommunicatorOp::declare(symbols, name, builder.getStrArrayAttr(over));
  // What touches frames runs beside compute, on a stream of its own.
  int64_t stream = from.instance || to.instance ? streamOf(group) : 0;
  // Messages name what travels; of gradients they name the parameters.
  Location location = module.getLoc();
  if (!gradients) {
    StringAttr what = to.instance ? to.instance.getFrame()
                                  : builder.getStringAttr(kind == CollectiveKind::AllGather
                                                              ? "updated weights"
                                                              : "loss and gradient norm");
    location = FusedLoc::get(builder.getContext(), {location}, what);
  }
  return dist::CollectiveOp::create(builder, location, event, after, kind, group.getSymName(),
                                    from.instance, to.instance, from.address, to.address, 1,
                                    elements, type, TypeAttr(), false, false, gradients,
                                    dist::StagingAttr(), stream);
}

dist::AddressAttr ProgramBuilder::address(ArenaRole arena, int64_t elements, Type type) {
  return dist::AddressAttr::get(
      builder.getContext(),
      FlatSymbolRefAttr::get(builder.getContext(), arenaName(arena, stage, stages > 1)),
      elements * type.getIntOrFloatBitWidth() / 8);
}

//===----------------------------------------------------------------------===//
// Image states
//===----------------------------------------------------------------------===//

void ProgramBuilder::place(dist::CollectiveOp op, StringRef crossing, int64_t elements,
                           const Flat &before, const Flat &after) {
  auto type = [&](const Flat &flat) {
    auto whole = RankedTensorType::get({elements}, op.getType());
    if (flat.split.empty() && flat.partial.empty())
      return whole;
    return whole.cloneWithEncoding(dist::PlacementAttr::get(
        builder.getContext(), builder.getArrayAttr({builder.getStrArrayAttr(flat.split)}),
        builder.getStrArrayAttr(flat.partial), false));
  };
  op->setAttr(dist::kCrossingAttr, builder.getStringAttr(crossing));
  op->setAttr(dist::kPlacedAttr, builder.getTypeArrayAttr({type(before), type(after)}));
}

void ProgramBuilder::gatherStates(const GraphCut &graph, int64_t group) {
  if (!graph.states)
    return;
  Type element = graph.stateType.getElementType();
  if (graph.encoded != graph.states && (stage == 0 || !encoder.firstStage))
    place(collective(CollectiveKind::AllGather, "states", encoder.axes,
                     instance(graph.encoded, group), instance(graph.states, group),
                     graph.encodedType.getNumElements(), element),
          dist::kStatesCrossing, graph.groupElements, {encoder.axes, {}}, {});
  if (encoder.firstStage && sizeOfAxis(axes, "pp") > 1)
    place(collective(CollectiveKind::Broadcast, "states to stages", {"pp"},
                     stage == 0 ? instance(graph.states, group) : dist::InstanceAttr(),
                     instance(graph.states, group), graph.groupElements, element),
          dist::kStatesCrossing, graph.groupElements, {}, {});
}

void ProgramBuilder::keepStates(const GraphCut &graph, int64_t group) {
  if (graph.keptOver.empty() || graph.stages[stage].statesGradient.empty())
    return;
  int64_t parts = ranksOver(axes, builder.getStrArrayAttr(graph.keptOver));
  place(collective(CollectiveKind::Slice, "kept states", graph.keptOver,
                   instance(graph.states, group), instance(graph.keptStates, group),
                   graph.groupElements / parts, graph.stateType.getElementType()),
        dist::kStatesCrossing, graph.groupElements, {}, {graph.keptOver, {}});
}

void ProgramBuilder::restoreStates(const GraphCut &graph, int64_t group) {
  if (graph.keptOver.empty() || graph.stages[stage].statesGradient.empty())
    return;
  int64_t parts = ranksOver(axes, builder.getStrArrayAttr(graph.keptOver));
  place(collective(CollectiveKind::AllGather, "kept states", graph.keptOver,
                   instance(graph.keptStates, group), instance(graph.restoredStates, group),
                   graph.groupElements / parts, graph.stateType.getElementType(), {},
                   beforeLastRun()),
        dist::kStatesCrossing, graph.groupElements, {graph.keptOver, {}}, {});
}

void ProgramBuilder::reduceStates(const GraphCut &graph, int64_t group) {
  if (!graph.statesGradient)
    return;
  Type element = graph.stateGradientElement;
  const int64_t share = graph.encodedType.getNumElements(), whole = graph.groupElements;
  const bool split = graph.encodedGradient != graph.statesGradient;
  dist::InstanceAttr gradient = instance(graph.statesGradient, group);
  dist::InstanceAttr part = instance(graph.encodedGradient, group);
  Flat now; // how the gradient lies
  for (const Axis &axis : axes)
    if (axis.size > 1 && (axis.name == "pp" || llvm::is_contained(graph.statePartial, axis.name)))
      now.partial.push_back(axis.name);
  auto step = [&](CollectiveKind kind, StringRef name, ArrayRef<StringRef> over,
                  dist::InstanceAttr from, dist::InstanceAttr to, int64_t elements) {
    Flat before = now;
    if (kind != CollectiveKind::AllReduce)
      now.split.assign(over.begin(), over.end());
    if (kind != CollectiveKind::Slice)
      llvm::erase_if(now.partial, [&](StringRef axis) { return llvm::is_contained(over, axis); });
    place(collective(kind, name, over, from, to, elements, element), dist::kStatesGradientCrossing,
          whole, before, now);
  };
  auto reduce = [&](StringRef name, SmallVector<StringRef> over, dist::InstanceAttr what,
                    int64_t elements) {
    if (!over.empty())
      step(CollectiveKind::AllReduce, name, over, what, what, elements);
  };
  if (!split)
    return reduce("states_gradient", now.partial, gradient, whole);
  if (encoder.firstStage) {
    if (sizeOfAxis(axes, "pp") > 1)
      reduce("states_gradient to stage 0", {"pp"}, gradient, whole);
    if (stage != 0)
      return;
  }
  bool scatters = llvm::all_of(
      encoder.axes, [&](StringRef axis) { return llvm::is_contained(now.partial, axis); });
  if (!scatters)
    reduce("states_gradient", now.partial, gradient, whole);
  step(scatters ? CollectiveKind::ReduceScatter : CollectiveKind::Slice,
       "states_gradient to images", encoder.axes, gradient, part, share);
  if (scatters)
    reduce("states_gradient of images", now.partial, part, share);
}

void ProgramBuilder::zeroStates(const GraphCut &graph, int64_t group) {
  if (!graph.statesGradient)
    return;
  int64_t written = !graph.stages[stage].statesGradient.empty()
                        ? std::min(encoder.group, microBatches - group * encoder.group) *
                              graph.stateType.getNumElements()
                        : 0;
  int64_t width = graph.stateGradientElement.getIntOrFloatBitWidth() / 8;
  int64_t rest = graph.groupElements - written;
  if (rest > 0)
    dist::ZeroOp::create(
        builder, module.getLoc(), event, ValueRange(),
        dist::InstanceAttr::get(builder.getContext(), graph.statesGradient, group, written * width),
        rest * width, dist::AddressAttr(), ArrayAttr(), 0)
        ->setAttr(dist::kCrossingAttr, builder.getStringAttr(dist::kStatesGradientCrossing));
}

//===----------------------------------------------------------------------===//
// Runs
//===----------------------------------------------------------------------===//

/// Gathers the weights of the units that a run reads, but for those that are whole. The block
/// that was read the longest time ago makes room.
void ProgramBuilder::gatherWeights(ArrayAttr units) {
  WholeBlock block = {units, {}};
  SmallVector<Attribute> missing;
  for (Attribute unit : units)
    if (llvm::none_of(whole, [&](const WholeBlock &other) { return other.has(unit); }))
      missing.push_back(unit);
  llvm::erase_if(whole, [&](const WholeBlock &other) {
    return other.units.size() == units.size() &&
           llvm::all_of(units, [&](Attribute unit) { return other.has(unit); });
  });
  whole.push_back(block);
  SmallVector<Value, 1> after;
  while (int64_t(whole.size()) > blocksInFlight) {
    after = {whole.front().reader};
    whole.erase(whole.begin());
  }
  for (Attribute symbol : missing) {
    dist::UnitOp unit = unitOf(symbol);
    auto [entry, isNew] = gathers.try_emplace(unit.getSymName(), 0);
    entry->second += !isNew;
    collective(
        CollectiveKind::AllGather, "weights of units", {"dp"}, unit.getWeightsAttr(),
        instance(builder.getStringAttr(dist::weightsFrame(unit.getSymName())), entry->second),
        unit.getElements() / layout.ranks, unit.getType(), {}, after);
  }
}

/// What a run that adds to the gradient of `unit` waits for: the reduction of the block that
/// makes room, and that of its own gradient so far. So whole gradients never take more memory
/// than if they were not sharded.
SmallVector<Value, 2> ProgramBuilder::roomForGradients(dist::UnitOp unit) {
  SmallVector<Value, 2> after;
  if (int64_t(reducedBlocks.size()) >= blocksInFlight)
    after.push_back(reducedBlocks[reducedBlocks.size() - blocksInFlight]);
  if (Value last = reductions.lookup(unit.getSymName()).last)
    after.push_back(last);
  return after;
}

void ProgramBuilder::runPiece(const Piece &piece, int64_t number) {
  FuncOp function = piece.function;
  auto instances = [&](ArrayRef<FrameUse> uses) {
    return llvm::map_to_vector(
        uses, [&](const FrameUse &use) -> Attribute { return instance(use, number); });
  };
  SmallVector<Attribute> reads = instances(piece.reads), writes = instances(piece.writes);
  if (auto units = function->getAttrOfType<ArrayAttr>(dist::kWeightsAttr)) {
    gatherWeights(units);
    for (auto symbol : units.getAsRange<FlatSymbolRefAttr>())
      reads.push_back(instance(builder.getStringAttr(dist::weightsFrame(symbol.getValue())),
                               gathers.lookup(symbol.getValue())));
  }
  SmallVector<std::pair<dist::UnitOp, dist::InstanceAttr>> gradients;
  if (auto units = function->getAttrOfType<ArrayAttr>(dist::kGradientsAttr))
    for (Attribute symbol : units) {
      dist::UnitOp unit = unitOf(symbol);
      auto gradient = instance(builder.getStringAttr(dist::gradientFrame(unit.getSymName())),
                               reductions[unit.getSymName()].count);
      dist::ZeroOp::create(builder, function.getLoc(), event, roomForGradients(unit), gradient,
                           unit.getElements() * unit.getGradientType()->getIntOrFloatBitWidth() / 8,
                           dist::AddressAttr(), unit.getParametersAttr(), 0);
      gradients.push_back({unit, gradient});
      writes.push_back(gradient);
    }
  auto run = dist::RunOp::create(builder, function.getLoc(), event, ValueRange(),
                                 function.getName(), number, builder.getArrayAttr(reads),
                                 builder.getArrayAttr(writes), ArrayAttr());
  runs.push_back(run.getDone());
  if (function->hasAttr(dist::kWeightsAttr))
    whole.back().reader = run.getDone();
  addLoss(function, number);
  for (auto [unit, gradient] : gradients) {
    auto reduce = collective(CollectiveKind::ReduceScatter, "gradients of units", {"dp"}, gradient,
                             unit.getGradientAttr(), unit.getElements() / layout.ranks,
                             *unit.getGradientType(), unit.getParametersAttr());
    reduce.setAccumulate(true);
    lastReduction = reduce.getDone();
    Reductions &of = reductions[unit.getSymName()];
    of = {of.count + 1, lastReduction};
  }
  if (!gradients.empty())
    reducedBlocks.push_back(lastReduction);
}

void ProgramBuilder::run(const Pieces &pieces, int64_t number) {
  for (const Piece &piece : pieces)
    runPiece(piece, number);
}

//===----------------------------------------------------------------------===//
// Beginning and end of a step
//===----------------------------------------------------------------------===//

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

void ProgramBuilder::reduceSums() {
  SmallVector<StringRef> all;
  for (const Axis &axis : axes)
    if (axis.size > 1)
      all.push_back(axis.name);
  if (!all.empty())
    collective(CollectiveKind::AllReduce, "world", all, statistic(Statistic::Sums),
               statistic(Statistic::Sums), 2, builder.getF64Type());
}

void ProgramBuilder::beginStep() {
  if (layout.elements == 0)
    return;
  bool isWhole = layout.fsdp == Fsdp::None || layout.fsdp == Fsdp::Optimizer;
  int64_t elements = isWhole ? layout.elements : layout.elements / layout.ranks;
  dist::ZeroOp::create(builder, module.getLoc(), event, ValueRange(), dist::InstanceAttr(),
                       elements * layout.gradientType.getIntOrFloatBitWidth() / 8,
                       address(ArenaRole::Gradients, 0, layout.gradientType), ArrayAttr(), 0);
}

void ProgramBuilder::finishStep() {
  const int64_t ranks = layout.ranks;
  const ArenaRole gradients =
      layout.fsdp == Fsdp::Optimizer ? ArenaRole::GradientShard : ArenaRole::Gradients;
  Type type = layout.gradientType;
  ValueRange reduced = lastReduction ? ValueRange(lastReduction) : ValueRange();

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
      collective(CollectiveKind::ReduceScatter, "dp", {"dp"},
                 address(ArenaRole::Gradients, segment.begin, type), shard,
                 segment.elements / ranks, type, keys);
    if (ranks > 1)
      llvm::erase(over, "dp");
    if (!over.empty())
      collective(CollectiveKind::AllReduce, llvm::join(over, ","), over, shard, shard,
                 segment.elements / ranks, type, keys, reduced);
    if (segment.tied) {
      auto [first, second] = *segment.tied;
      auto edge = dist::CommunicatorOp::declare(
          symbols, ("stages " + Twine(first) + " and " + Twine(second)).str(), ArrayAttr(),
          builder.getDenseI64ArrayAttr({first, second}));
      dist::CollectiveOp::create(builder, module.getLoc(), event, reduced,
                                 CollectiveKind::AllReduce, edge.getSymName(), dist::InstanceAttr(),
                                 dist::InstanceAttr(), shard, shard, 1, segment.elements / ranks,
                                 type, TypeAttr(), false, false, keys, dist::StagingAttr(), 0);
    }
  }
  for (const Segment &segment : layout.segments) {
    SmallVector<StringRef> once = segment.once;
    if (ranks > 1)
      llvm::erase(once, "dp");
    FuncOp block = sizedBlock("gradient_norm", segment.elements / ranks);
    dist::GradientNormOp::create(
        builder, module.getLoc(), event, reduced, block.getName(),
        builder.getArrayAttr(
            {address(gradients, segment.begin / ranks, type), statistic(Statistic::Norm)}),
        builder.getStrArrayAttr(once), 0);
    addOnce(false, statistic(Statistic::Norm), once);
  }
  reduceSums();
  if (!layout.elements)
    return;
  Value clipped = call("clip_norm", {statistic(Statistic::Sums),
                                     input(llrt::known::hyperparameters, Statistic::Given, 8),
                                     statistic(Statistic::Hyperparameters)});

  // Masters are the weights where these are of their type and as many. What is gathered
  // afterwards is apart from what it is gathered to.
  const bool gathers = ranks > 1 && layout.fsdp != Fsdp::Parameters;
  const bool rounds = layout.storageType != layout.masterType;
  const ArenaRole updated = rounds ? ArenaRole::WeightShard : ArenaRole::Masters;
  SmallVector<Attribute> buffers;
  for (ArenaRole arena : {rounds || gathers ? ArenaRole::Masters : ArenaRole::Parameters,
                          ArenaRole::Moment1, ArenaRole::Moment2, gradients})
    buffers.push_back(address(arena, 0, builder.getI8Type()));
  buffers.push_back(statistic(Statistic::Hyperparameters));
  if (rounds)
    buffers.push_back(address(gathers ? updated : ArenaRole::Parameters, 0, builder.getI8Type()));
  SmallVector<Value> after(reduced);
  after.push_back(clipped);
  FuncOp update = sizedBlock("adamw", layout.elements / ranks);
  dist::UpdateOp::create(builder, module.getLoc(), event, after, update.getName(),
                         builder.getArrayAttr(buffers), 0);
  if (!gathers)
    return;
  for (const Segment &segment : layout.segments)
    for (const Unit &unit : segment.units)
      collective(CollectiveKind::AllGather, "dp", {"dp"},
                 address(updated, unit.begin / ranks, layout.storageType),
                 address(ArenaRole::Parameters, unit.begin, layout.storageType),
                 unit.elements / ranks, layout.storageType);
}
