//===- ReadProgram.cpp - Read a device program back into launch lists -----===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// 1. Every graph is read once: its items, and what each of them uses (ReadItems.h).
// 2. Every run repeats the items of its graph between a begin, which fills the inputs, and
//    an end, which reads the outputs. Memory by name is kept beside it (ProgramReader.h): of
//    each name the bytes and the value that was last written there.
// 3. Gradients (ReadGradients.cpp) and what the step has to do (CheckStep.cpp).
//
// The time is that of walking all runs once.
//
//===----------------------------------------------------------------------===//
#include "llamac/Check/Certificate.h"

#include "ProgramReader.h"

#include "runtime/include/llrt/ProgramFields.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using dist::InstanceAttr;

//===----------------------------------------------------------------------===//
// Actions
//===----------------------------------------------------------------------===//

void ProgramReader::await(int action, int other) {
  auto &records = cls->actions[other].records;
  if (records.empty())
    records.push_back(other);
  auto &awaits = cls->actions[action].awaits;
  if (!llvm::is_contained(awaits, other))
    awaits.push_back(other);
}

/// Splits what was written across `where`.
void ProgramReader::cut(Named &bytes, int64_t where) {
  auto next = bytes.upper_bound(where);
  if (next == bytes.begin())
    return;
  auto entry = std::prev(next);
  if (entry->first < where && where < entry->second.end) {
    Written rest = entry->second;
    entry->second.end = where;
    bytes.emplace(where, rest);
  }
}

/// Adds the action of an item and returns its number. `run` is the number of the micro-batch or
/// group of the run that it belongs to.
int ProgramReader::emit(const Item &item, const llvm::Twine &where, ArrayRef<Place> places,
                        uint64_t tag, int64_t run) {
  int number = cls->actions.size();
  check::LaunchedAction &action = cls->actions.emplace_back();
  action.stream = item.stream;
  action.location = (where + item.what).str();
  if (item.call) {
    action.calls.push_back(*item.call);
    action.calls[0].tag = llvm::hash_combine(item.call->tag, tag);
  }
  auto fault = [&](const char *rule, const Twine &message) {
    items.fault(rule, action.location + " " + message);
  };
  action.held = item.held;
  action.cluster = item.work.cluster;
  action.grid = item.work.grid;
  action.halts.assign(item.work.halts.begin(), item.work.halts.end());
  if (program.device && item.call && item.held < 1 &&
      items.communicators[item.call->communicator].ranks != 1)
    fault("R6", "is on a communicator that is given no multiprocessors: expected at least 1 "
                "(llama.share)");
  if (program.device && item.work.hasProducts &&
      (size_t(stage) >= reserves.size() ||
       !llvm::is_contained(reserves[stage].productStreams, item.stream)))
    action.halts.push_back("has matrix products on stream " + std::to_string(item.stream) +
                           ", for which no memory is planned (llama.reserves): it would be "
                           "allocated then");
  // What is written has its bytes for itself, but for a collective in place.
  struct Range {
    int arena;
    int64_t begin, end;
  };
  SmallVector<Range, 16> ranges;
  for (const Use &use : item.uses) {
    const Place *place = use.space < 0 ? &places[-1 - use.space] : nullptr;
    int64_t shift = place ? place->address : 0;
    ranges.push_back({place ? place->arena : use.space, use.begin + shift, use.end + shift});
  }
  for (size_t i = 0; i < ranges.size(); ++i)
    for (size_t j = 0; item.uses[i].writes && j < ranges.size(); ++j) {
      const Range &a = ranges[i], &b = ranges[j];
      if (i == j || a.arena != b.arena || a.begin >= b.end || b.begin >= a.end)
        continue;
      if (!item.inPlace || a.begin != b.begin || a.end != b.end)
        fault("R7", "writes bytes that it uses for something else");
    }
  SmallVector<std::pair<int64_t, Written>, 4> summed; // what a sum over ranks reads
  uint64_t sum = 0;                                   // what is there that has no name
  for (bool write : {false, true})
    for (const Use &use : item.uses) {
      if (write ? !use.writes : !use.reads)
        continue;
      const Place *place = use.space < 0 ? &places[-1 - use.space] : nullptr;
      int arena = place ? place->arena : use.space;
      int64_t shift = place ? place->address : 0;
      auto add = [&](int64_t begin, int64_t end, uint64_t value) {
        action.accesses.push_back({arena, begin, end, value, write, use.type, use.scratch});
      };
      // Bytes by name; `back` leads from there to the address.
      Named &bytes = !place && use.value >= 0 ? graphValues[use.value]
                                              : named[place ? place->name : use.space];
      int64_t begin = use.begin + (place ? place->shift : 0);
      int64_t end = begin + use.end - use.begin, back = use.begin + shift - begin;
      if (use.scratch) {
        add(begin + back, end + back, newValue());
        continue;
      }
      auto entry = bytes.upper_bound(begin);
      if (write) {
        cut(bytes, begin);
        cut(bytes, end);
        entry = bytes.lower_bound(begin);
        uint64_t before = 0;
        bool uniform = true, isNew = true;
        for (auto old = entry; old != bytes.end() && old->first < end; ++old) {
          uniform &= isNew || old->second.content == before;
          before = old->second.content;
          isNew = false;
        }
        if (place && !isNew && !use.reads && !item.call)
          fault("R7", "writes what is in its frame already");
        entry = bytes.erase(entry, bytes.lower_bound(end));
        uint64_t value = newValue(), content = use.content;
        if (use.gradient >= 0) {
          if (!uniform)
            fault("R9", "adds to bytes of several gradients");
          content = before + contribution(use.gradient, use.application, run);
        } else if (item.factor && summed.size() > 1 &&
                   summed.back().second.end - summed[0].first == end - begin) {
          // A sum in place of each: its pieces stay.
          for (auto &[from, piece] : summed)
            bytes.emplace_hint(entry, begin + from - summed[0].first,
                               Written{begin + piece.end - summed[0].first, value,
                                       piece.content * item.factor, begin});
          add(begin + back, end + back, valueAt(value, begin + back));
          continue;
        } else if (item.factor) {
          content = sum * item.factor + (use.reads ? before : 0);
        }
        bytes.emplace_hint(entry, begin, Written{end, value, content, begin});
        add(begin + back, end + back, valueAt(value, begin + back));
        continue;
      }
      if (entry != bytes.begin())
        --entry;
      int64_t at = begin;
      const size_t first = action.accesses.size();
      for (; at < end && entry != bytes.end() && entry->first < end; ++entry) {
        int64_t until = std::min(end, entry->second.end);
        if (until <= at)
          continue;
        if (entry->first > at) // nothing was written there: the check will say so
          add(at + back, entry->first + back, 0);
        at = std::max(at, entry->first);
        const uint64_t value = valueAt(entry->second.value, entry->second.first + back);
        if (action.accesses.size() > first && action.accesses.back().end == at + back &&
            action.accesses.back().value == value)
          action.accesses.back().end = until + back;
        else
          add(at + back, until + back, value);
        if (use.content && entry->second.content != use.content &&
            !(entry->second.content == kZeros &&
              items.nameOf(use.content).starts_with(dist::kStatesGradientCrossing)))
          fault("R7", "expects '" + items.nameOf(use.content) + "', but finds '" +
                          items.nameOf(entry->second.content) + "'");
        if (item.factor && !use.writes) {
          summed.push_back({at, {until, 0, entry->second.content, at}});
          sum += entry->second.content;
        }
        at = until;
      }
      if (at < end)
        add(at + back, end + back, 0);
    }
  return number;
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

/// The memory by name of a frame instance.
int ProgramReader::spaceOf(const InstanceAttr &instance) {
  auto [entry, isNew] = instances.try_emplace(
      {instance.getFrame().getValue(), instance.getNumber()}, int(named.size()));
  if (isNew)
    named.emplace_back();
  return entry->second;
}

/// The actions of a run: its begin, which fills the inputs, the items of its graph, its end,
/// which reads the outputs. Returns the last.
FailureOr<int> ProgramReader::readRun(dist::RunOp run, ArrayRef<int> after) {
  FailureOr<const GraphItems *> graph = items.readGraph(run, run.getGraph());
  if (failed(graph))
    return failure();
  const int64_t number = run.getMicroBatch();
  const int stream = int(run.getStream());
  SmallVector<Place> places;
  SmallVector<InstanceAttr> used;
  SmallVector<dist::EntryUse> uses = run.getUses(1);
  for (const dist::EntryUse &one : uses)
    used.push_back(one.instance);
  if ((run.getFrames() ? run.getFrames()->size() : 0) != uses.size() ||
      uses.size() != (*graph)->frames.size())
    return run.emitOpError("expects an address for each frame of its graph");
  checkInstances(run, **graph, used);
  for (const dist::EntryUse &one : uses) {
    FailureOr<Use> at = items.use(run, one.address, 0, Type(), true, true, nullptr);
    if (failed(at))
      return failure();
    // The graph's frames are in its own order.
    places.push_back({spaceOf(one.instance), one.instance.getOffset(), at->space, at->begin});
    StringRef frame = one.instance.getFrame().getValue();
    if (one.writes && gradientOf.contains(frame) && !begun.count({frame, one.instance.getNumber()}))
      faults.push_back({"R9", locationOf(run, run.getGraph()) + " adds to '" + frame.str() + "' " +
                                  std::to_string(one.instance.getNumber()) +
                                  ", which is not begun as a gradient"});
  }
  graphValues.clear();
  std::string where = withoutStages((run.getGraph() + " " + Twine(number)).str());
  const uint64_t tag = llvm::hash_combine(withoutStages(run.getGraph()), number);
  Item begin;
  begin.stream = stream;
  begin.uses = (*graph)->inputs;
  begin.what = locationOf(run, where + ": begin");
  int first = emit(begin, "", places, 0, number);
  for (int other : after)
    await(first, other);
  // All of a run is on its stream, one behind the other.
  for (const Item &one : (*graph)->items) {
    if (one.stream == stream) {
      emit(one, where + ": ", places, tag, number);
      continue;
    }
    Item moved = one;
    moved.stream = stream;
    emit(moved, where + ": ", places, tag, number);
  }
  if (!(*graph)->outputs.empty()) {
    Item end;
    end.stream = stream;
    end.uses = (*graph)->outputs;
    end.what = locationOf(run, where + ": end");
    emit(end, "", places, 0, number);
  }
  return int(cls->actions.size()) - 1;
}

/// What meets at an end of a transfer.
template <typename Op> LogicalResult ProgramReader::readTransfer(Op op, Item &item) {
  constexpr bool sends = std::is_same_v<Op, dist::SendOp>;
  auto edge = items.symbols.lookup<dist::CommunicatorOp>(op.getCommunicator()).getEdge();
  if (!edge)
    return failure(); // the verifier has seen the edge
  if ((sends ? (*edge)[0] : (*edge)[1]) != stage)
    return op.emitOpError("expects to be on stage ")
           << (sends ? (*edge)[0] : (*edge)[1]) << ", got " << stage;
  Use &moved = item.uses[0];
  if (auto name = op->template getAttrOfType<StringAttr>(dist::kCrossingAttr))
    moved.content = items.content(name.getValue());
  else
    items.fault("R7", locationOf(op, sends ? "a send" : "a receive") +
                          " does not say which value it moves (dist.crossing)");
  if (op.getInstance().getNumber() != op.getTag()[1])
    items.fault("R1", locationOf(op, sends ? "a send" : "a receive") +
                          " is of another micro-batch than its tag");
  item.held =
      shareOf(items.symbols.lookup<dist::CommunicatorOp>(op.getCommunicator())).multiprocessors;
  check::Call call{};
  call.kind = sends ? check::CallKind::Send : check::CallKind::Receive;
  call.communicator = items.communicator(op.getCommunicator());
  call.peer = int(sends ? (*edge)[1] : (*edge)[0]);
  call.tag = llvm::hash_combine(llvm::hash_combine_range(op.getTag()), moved.content);
  call.count = op.getElements();
  call.type = call.toType = typeNumber(op.getType());
  item.call = call;
  ArrayRef<int64_t> tag = op.getTag();
  item.what =
      locationOf(op, (sends ? "send of " : "receive of ") + Twine("chunk ") + Twine(tag[0]) +
                         ", micro-batch " + Twine(tag[1]) + ", value " + Twine(tag[2]));
  return success();
}

/// Notes which gradient a collective between graphs reduces.
void ProgramReader::readReduced(dist::CollectiveOp op, Item &item) {
  auto names = op.getGradients();
  if (auto instance = op.getReads(); names && instance && item.call) {
    auto gradient = begun.find({instance->getFrame().getValue(), instance->getNumber()});
    if (gradient != begun.end())
      item.call->gradient = gradient->second;
    else
      faults.push_back({"R9", item.what + " reduces a gradient that was not begun"});
  } else if (names && item.call) {
    if (auto unit = units.find(*names); unit != units.end())
      item.call->gradient = unit->second;
  }
}

/// Zeros of a value between graphs, or those with which the gradient of a unit over one run
/// begins, whose sum over dp goes to the shards.
void ProgramReader::readZero(dist::ZeroOp op, Item &item) {
  if (op->hasAttr(dist::kCrossingAttr))
    item.uses[0].content = kZeros;
  if (!op.getGradients() || !op.getWrites())
    return;
  InstanceAttr instance = *op.getWrites();
  StringRef frame = instance.getFrame().getValue();
  item.what = locationOf(op, frame + " " + Twine(instance.getNumber()));
  check::Gradient gradient{item.what, 0, 0, typeNumber(items.gradientType)};
  gradient.count = op.getBytes() / widthOf(items.gradientType);
  for (auto [i, axis] : llvm::enumerate(items.axes))
    if (axis.name == "dp" && axis.size > 1) {
      gradient.partialAxes |= 1u << i;
      gradient.count /= axis.size;
    }
  begun[{frame, instance.getNumber()}] = int(cls->gradients.size());
  cls->gradients.push_back(gradient);
}

/// The memory of an entry that runs no graph, and what rules its kind has beside.
LogicalResult ProgramReader::readAction(dist::EntryOpInterface op, Item &item) {
  auto collective = dyn_cast<dist::CollectiveOp>(*op);
  if (FlatSymbolRefAttr block = op.getBlockAttr()) {
    if (failed(items.readCall(op, block.getValue(), op.getBuffers(), nullptr, item)))
      return failure();
  } else if (collective) {
    if (failed(items.readCollective(collective, nullptr, item)))
      return failure();
  } else {
    item.what = locationOf(op, op->getName().stripDialect());
    for (const dist::EntryUse &one : op.getUses(2)) {
      FailureOr<Use> use =
          items.use(op, one.address, one.bytes, one.type, one.reads, one.writes, nullptr);
      if (failed(use))
        return failure();
      item.uses.push_back(*use);
    }
  }
  if (collective) {
    readReduced(collective, item);
    checkUnit(collective, item);
    checkCollective(collective, item);
  } else if (auto send = dyn_cast<dist::SendOp>(*op)) {
    return readTransfer(send, item);
  } else if (auto receive = dyn_cast<dist::ReceiveOp>(*op)) {
    return readTransfer(receive, item);
  } else if (auto zero = dyn_cast<dist::ZeroOp>(*op)) {
    readZero(zero, item);
  } else if (auto norm = dyn_cast<dist::GradientNormOp>(*op)) {
    checkNorm(norm, item);
  } else if (auto update = dyn_cast<dist::UpdateOp>(*op)) {
    checkUpdate(update, item);
  } else if (isa<dist::CallOp>(*op)) {
    for (const Use &use : item.uses)
      if (use.writes)
        items.expectNoState(use, "what is written by " + item.what);
  }
  return success();
}

/// The runs whose outputs the host reads before it launches `op`, by their last actions: before a
/// run, and before what would overwrite them (Rank::Launch::readOutputs of the runtime).
std::vector<int> ProgramReader::readsBefore(dist::EntryOpInterface op) {
  std::vector<int> reads;
  llvm::erase_if(unread, [&](dist::RunOp run) {
    if (!isa<dist::RunOp>(*op) && op.getStream() != run.getStream() &&
        !llvm::is_contained(op.getAfter(), run.getDone()))
      return false;
    reads.push_back(doneBy.lookup(run));
    return true;
  });
  return reads;
}

LogicalResult ProgramReader::readEntry(dist::EntryOpInterface op) {
  std::vector<int> reads = readsBefore(op);
  const size_t first = cls->actions.size();
  if (failed(readActions(op)))
    return failure();
  if (first < cls->actions.size())
    cls->actions[first].readByHost = std::move(reads);
  if (auto run = dyn_cast<dist::RunOp>(*op); run && isRead)
    unread.push_back(run);
  return success();
}

LogicalResult ProgramReader::readActions(dist::EntryOpInterface op) {
  SmallVector<int> after;
  for (Value event : op.getAfter())
    if (auto other = doneBy.find(event.getDefiningOp()); other != doneBy.end())
      after.push_back(other->second);
  if (auto run = dyn_cast<dist::RunOp>(*op)) {
    FailureOr<int> done = readRun(run, after);
    if (failed(done))
      return failure();
    doneBy[op] = *done;
    return success();
  }

  Item item;
  item.stream = int(op.getStream());
  if (failed(readAction(op, item)))
    return failure();
  // An address that belongs to an instance is used through it.
  SmallVector<Place> places;
  for (auto [use, one] : llvm::zip(item.uses, op.getUses(2)))
    if (InstanceAttr instance = one.instance) {
      places.push_back({spaceOf(instance), instance.getOffset(), use.space, use.begin});
      use.end -= use.begin;
      use.begin = 0;
      use.space = -int(places.size());
    }
  int done = emit(item, "", places, 0);
  for (int other : after)
    if (other != done)
      await(done, other);
  doneBy[op] = done;
  return success();
}

//===----------------------------------------------------------------------===//
// Stages
//===----------------------------------------------------------------------===//

/// Groups are whole axes of the grid, edges go from one stage to another: one rank of a
/// stage stands for all.
LogicalResult ProgramReader::checkCommunicators() {
  for (auto op : module.getOps<dist::CommunicatorOp>()) {
    if (auto edge = op.getEdge()) {
      for (int64_t end : *edge)
        if (end < 0 || end >= items.stages)
          return op.emitOpError("expects stages below ") << items.stages << ", got " << end;
      continue;
    }
    for (auto name : op.getAxes()->getAsRange<StringAttr>())
      if (llvm::none_of(items.axes, [&](const Axis &axis) { return axis.name == name.getValue(); }))
        return op.emitOpError("expects axes of the grid, got '") << name.getValue() << "'";
  }
  return success();
}

LogicalResult ProgramReader::readStage(dist::ProgramOp source) {
  stage = source.getStage();
  items.begin(stage);
  cls = &program.classes[stage];
  cls->name = "stage " + std::to_string(stage);
  instances.clear();
  named.clear();
  units.clear();
  begun.clear();
  doneBy.clear();
  isRead = source.getName() == llrt::known::forward;
  unread.clear();
  named.resize(items.arenas.size());
  ran.clear();
  trained.clear();
  updated.clear();
  applications.clear();
  imageAxes.clear();
  inNorm.clear();

  // State is there before and after; inputs of entries are before.
  llvm::SetVector<int> state;
  auto initial = [&](int arena, int64_t begin, int64_t end) {
    uint64_t value = newValue();
    named[arena][begin] = {end, value, 0, begin};
    cls->initial.push_back({arena, begin, end, valueAt(value, begin), false});
  };
  for (auto storage : module.getOps<dist::StorageOp>())
    for (std::optional<AddressAttr> address :
         {std::optional(storage.getAddress()), storage.getMaster(), storage.getMoment1(),
          storage.getMoment2()})
      if (address)
        if (auto *arena = items.arenas.find(address->getArena().getValue());
            arena != items.arenas.end())
          if (state.insert(arena->second))
            initial(arena->second, 0, items.symbols.lookup<dist::ArenaOp>(arena->first).getBytes());
  for (auto input : source.getBody().getOps<dist::InputOp>()) {
    auto type = cast<RankedTensorType>(input.getType());
    FailureOr<Use> one =
        items.use(input, input.getAddress(), type.getNumElements() * widthOf(type.getElementType()),
                  type.getElementType(), false, true, nullptr);
    if (failed(one))
      return failure();
    items.expectNoState(*one, "input '" + input.getName() + "'");
    initial(one->space, one->begin, one->end);
  }
  if (failed(readTrained(source)) ||
      (source.getName() == llrt::known::step && failed(readGradients())))
    return failure();

  for (auto entry : source.getBody().getOps<dist::EntryOpInterface>())
    if (failed(readEntry(entry)))
      return failure();
  checkRuns(source);
  checkEntries(source);

  for (auto output : source.getBody().getOps<dist::OutputOp>())
    if (auto *arena = items.arenas.find(output.getAddress().getArena().getValue());
        arena != items.arenas.end())
      state.insert(arena->second);
  for (int arena : state)
    for (auto [begin, rest] : named[arena])
      cls->final.push_back({arena, begin, rest.end, valueAt(rest.value, rest.first), false});
  return success();
}

FailureOr<check::Program> ProgramReader::read(ArrayRef<dist::ProgramOp> programs) {
  if (failed(checkCommunicators()))
    return failure();
  for (const Axis &axis : items.axes)
    program.axes.push_back(axis.name);
  program.types.assign(std::begin(kTypes), std::end(kTypes));
  if (std::optional<DeviceLimits> limits = target.limits())
    program.device = {limits->multiprocessors, limits->groups, limits->queues};
  program.classes.resize(items.stages);
  for (dist::ProgramOp source : programs) {
    if (int64_t(source.getStage()) >= items.stages)
      return source.emitOpError("expects a stage below ") << items.stages;
    if (failed(readStage(source)))
      return failure();
  }
  if (losses != 1)
    items.fault("R9", "expected one graph that gives the loss, got " + Twine(losses));
  program.communicators = std::move(items.communicators);
  return std::move(program);
}

FailureOr<check::Program> llamac::readProgram(ModuleOp module, StringRef name, const Target &target,
                                              std::vector<check::Fault> &faults) {
  SmallVector<dist::ProgramOp> programs;
  for (auto source : module.getOps<dist::ProgramOp>())
    if (source.getName() == name)
      programs.push_back(source);
  if (programs.empty())
    return module.emitError("expected a program '") << name << "' (dist.program)";
  const int64_t stages = programs.size();
  for (const Axis &axis : axesOf(module))
    if (axis.name == "pp" && axis.size != stages)
      return module.emitError("expected a program '")
             << name << "' for each of " << axis.size << " stages, got " << stages;
  return ProgramReader(module, stages, target, faults).read(programs);
}
