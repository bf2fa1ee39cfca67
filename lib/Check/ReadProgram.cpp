//===- ReadProgram.cpp - Read a device program back into launch lists -----===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// 1. Every graph is read once: its items, and what each of them uses (ReadItems.h).
// 2. Every run repeats the items of its graph between a begin, which fills the inputs, and
//    an end, which reads the outputs. Memory by name is kept beside it: of each name the
//    bytes and the value that was last written there.
// 3. Gradients: the axes on which each has to be reduced, from its parameter; what the
//    collectives say that they reduce.
//
// The time is that of walking all runs once.
//
//===----------------------------------------------------------------------===//
#include "llamac/Check/Certificate.h"

#include "ReadItems.h"

#include "dialects/Llama/IR/Llama.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringSet.h"

#include <set>

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using dist::InstanceAttr;
using func::FuncOp;

namespace {

/// A frame of an entry: whose memory it is, and where.
struct Place {
  int name; ///< of the memory by name
  int64_t shift;
  int arena;
  int64_t address;
};

/// The last value of some bytes by name. `content`: the name of what it is, or, of a gradient
/// and of its shards, the sum of what was added, each term times the axes that it was summed
/// over (ItemReader::factorOf).
struct Written {
  int64_t end;
  uint64_t value, content;
  int64_t first; ///< byte of what was written at once
};

/// What an access has to find: a value, and where its first byte is.
uint64_t valueAt(uint64_t value, int64_t first) { return llvm::hash_combine(value, first) | 1; }

/// The content of zeros in the gradient of image states: where a stage has no layers, or a
/// group no images.
constexpr uint64_t kZeros = 2;

/// Bytes by name, by their first.
using Named = std::map<int64_t, Written>;

class ProgramReader {
public:
  ProgramReader(ModuleOp module, int64_t stages, std::vector<check::Fault> &faults)
      : module(module), items(module, stages, faults), faults(faults) {
    for (auto unit : module.getOps<dist::UnitOp>()) {
      weightsOf[dist::weightsFrame(unit.getSymName())] = unit;
      gradientOf[dist::gradientFrame(unit.getSymName())] = unit;
    }
    for (auto op : module.getOps<dist::StorageOp>())
      ++stagesOf[op.getParameter()];
    auto options = module->getAttrOfType<DictionaryAttr>("llama.options");
    auto given = options ? options.getAs<IntegerAttr>("micro_batches") : IntegerAttr();
    microBatches = given ? std::max<int64_t>(0, given.getInt()) : 0;
  }

  FailureOr<check::Program> read(ArrayRef<dist::ProgramOp> programs);

private:
  /// A trained parameter of the stage: where its sharded or whole gradient lies.
  struct Trained {
    StringRef name;
    dist::StorageOp place;
    llama::ParameterOp op;
    int arena;
    int64_t begin, end; ///< of the gradient's sum, or of the shard of its unit
    int64_t elements;   ///< in it
    uint32_t axes;      ///< over which it is summed
  };
  void checkInstances(dist::RunOp run, const GraphItems &graph, ArrayRef<InstanceAttr> used);
  void checkCollective(dist::CollectiveOp op, const Item &item);
  void checkNorm(dist::GradientNormOp op, const Item &item);
  void checkUpdate(dist::UpdateOp op, const Item &item);
  void checkGradients(const Use &use, const Twine &where, llvm::SetVector<size_t> &covered);
  void checkEntries(dist::ProgramOp program);
  void checkRuns(dist::ProgramOp program);
  LogicalResult readTrained(dist::ProgramOp program);
  int64_t statesBytes(const GraphItems &graph, int frame);
  uint64_t expected(const Trained &one);
  /// Micro-batches, or groups of them for the encoder, of the program.
  int64_t runsOf(bool ofEncoder) const {
    return ofEncoder ? (count + items.groupSize - 1) / items.groupSize : count;
  }
  bool isAt(std::optional<AddressAttr> address, const Use &use, int64_t offset) {
    auto *arena = address ? items.arenas.find(address->getArena().getValue()) : items.arenas.end();
    return arena != items.arenas.end() && arena->second == use.space &&
           address->getOffset() == use.begin + offset;
  }
  LogicalResult checkCommunicators();
  LogicalResult readStage(dist::ProgramOp program);
  LogicalResult readEntry(dist::EntryOpInterface op);
  FailureOr<int> readRun(dist::RunOp run, ArrayRef<int> after);
  LogicalResult readAction(dist::EntryOpInterface op, Item &item);
  template <typename Op> LogicalResult readTransfer(Op op, Item &item);
  void readReduced(dist::CollectiveOp op, Item &item);
  void readZero(dist::ZeroOp op, Item &item);
  LogicalResult readGradients();
  uint32_t axesOfGradient(llama::ParameterOp parameter);
  void checkUnit(dist::CollectiveOp op, const Item &item);

  int emit(const Item &item, const llvm::Twine &where, ArrayRef<Place> places, uint64_t tag,
           int64_t number = -1);
  uint64_t contribution(int parameter, int64_t application, int64_t number) const {
    return llvm::hash_combine(parameter, application, number);
  }
  void await(int action, int other);
  int spaceOf(const InstanceAttr &instance);
  uint64_t newValue() { return llvm::hash_combine(stage, ++values) | 1; }

  ModuleOp module;
  ItemReader items;
  std::vector<check::Fault> &faults;
  llvm::StringMap<dist::UnitOp> weightsOf, gradientOf; // by the frame of what is whole
  llvm::StringMap<unsigned> stagesOf;                  // of parameters
  int64_t microBatches = 0;                            // 0: not known
  int64_t losses = 0;                                  // graphs that give it
  check::Program program;

  // Of the stage that is being read.
  int64_t stage = 0;
  std::vector<Trained> trained;
  llvm::StringMap<uint32_t> imageAxes; // of the encoder's parameters: what splits its images
  llvm::SetVector<size_t> inNorm;      // of `trained`, counted in the norm
  check::RankClass *cls = nullptr;
  std::map<std::pair<StringRef, int64_t>, int> instances; // frame, number -> name
  std::vector<Named> named;                               // arenas first
  llvm::DenseMap<int64_t, Named> graphValues;             // of the run
  std::map<std::pair<StringRef, int64_t>, int> begun;     // gradients by frame and number
  llvm::MapVector<StringRef, std::set<int64_t>> ran;      // graph -> numbers of its runs
  int64_t count = 0;                                      // micro-batches
  llvm::StringMap<llvm::SetVector<std::pair<int64_t, int>>>
      applications; // of a parameter; 1: of the encoder
  struct Updated {  // sharded weights after the update
    AddressAttr from;
    int64_t elements; // of the shard
    Type type;
    SmallVector<dist::StorageOp, 4> parameters;
  };
  std::vector<Updated> updated;
  uint64_t values = 0;
  llvm::DenseMap<Operation *, int> doneBy; // entry -> its last action
  llvm::DenseMap<Attribute, int> units;    // list of gradients -> its number
};

} // namespace

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

static void cut(Named &bytes, int64_t where) {
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
        action.accesses.push_back({arena, begin, end, value, write, use.type});
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

LogicalResult ProgramReader::readEntry(dist::EntryOpInterface op) {
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
// Gradients
//===----------------------------------------------------------------------===//

/// Whole weights come from the shards of their unit; its gradient goes there.
void ProgramReader::checkUnit(dist::CollectiveOp op, const Item &item) {
  auto unitOf = [](auto &units, std::optional<InstanceAttr> instance) {
    return instance ? units.lookup(instance->getFrame()) : dist::UnitOp();
  };
  const int64_t ranks = items.communicators[items.communicator(op.getCommunicator())].ranks;
  const int64_t elements = int64_t(op.getOuter()) * op.getElements() * ranks;
  auto group = items.symbols.lookup<dist::CommunicatorOp>(op.getCommunicator());
  const bool overData = group.getAxes() && axesOf(group) == SmallVector<StringRef>{"dp"} &&
                        op.getOuter() == 1 && !op.getMaximum() && !op.getToType();
  auto isOf = [&](dist::UnitOp unit, std::optional<AddressAttr> shard,
                  std::optional<AddressAttr> address) {
    return overData && shard == address && elements == int64_t(unit.getElements());
  };
  if (dist::UnitOp unit = unitOf(weightsOf, op.getWrites()))
    if (op.getKind() != dist::CollectiveKind::AllGather ||
        !isOf(unit, unit.getWeights(), op.getFrom()) || op.getType() != unit.getType() ||
        op.getAccumulate() || op.getWrites()->getOffset())
      faults.push_back({"R7", item.what + " does not gather the weights of '" +
                                  unit.getSymName().str() + "' from their shards"});
  if (dist::UnitOp unit = unitOf(gradientOf, op.getReads()))
    if (op.getKind() != dist::CollectiveKind::ReduceScatter || !op.getAccumulate() ||
        !isOf(unit, unit.getGradient(), op.getTo()) || op.getReads()->getOffset() ||
        op.getGradients() != unit.getParameters())
      faults.push_back({"R9", item.what + " does not add the gradient of '" +
                                  unit.getSymName().str() + "' to its shards"});
}

uint32_t ProgramReader::axesOfGradient(llama::ParameterOp parameter) {
  auto image = imageAxes.find(parameter.getSymName());
  return gradientAxes(items.axes, parameter,
                      image == imageAxes.end() ? std::nullopt : std::optional(image->second),
                      stagesOf.lookup(parameter.getSymName()));
}

/// The gradients of the stage: one unit for each list of parameters that are reduced
/// together. What the check needs to know of a unit is found from its parameters, not from
/// its collectives.
LogicalResult ProgramReader::readGradients() {
  auto fault = [&](const Twine &message) { faults.push_back({"R9", message.str()}); };
  // What is sharded and has no sum of the step beside it is reduced over dp after every run.
  auto isInShards = [&](StringRef name) {
    dist::StorageOp place = items.storage.lookup(name);
    return place && place.getShard() && !place.getGradientSum();
  };
  auto partialAxes = [&](llama::ParameterOp parameter) {
    uint32_t bits = axesOfGradient(parameter);
    for (auto [i, axis] : llvm::enumerate(items.axes))
      if (axis.name == "dp" && isInShards(parameter.getSymName()))
        bits &= ~(1u << i);
    return bits;
  };

  llvm::StringMap<int> unitOf;
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (int64_t(program.getStage()) != stage || program.getName() != "step")
      continue;
    for (auto op : program.getBody().getOps<dist::CollectiveOp>()) {
      if (!op.getGradients() || op.getGradients()->empty() || !op.getFrom() || op.getReads())
        continue;
      auto [unit, isNew] = units.try_emplace(*op.getGradients(), int(cls->gradients.size()));
      std::string where = locationOf(op, "a " + stringifyCollectiveKind(op.getKind()));
      const int64_t count = op.getOuter() * op.getElements();
      const bool scatters = op.getKind() == dist::CollectiveKind::ReduceScatter;
      const int64_t ranks = items.communicators[items.communicator(op.getCommunicator())].ranks;
      const int64_t bytes = count * (scatters ? ranks : 1) * widthOf(op.getType());
      auto from = *op.getFrom();
      int64_t needed = count;
      StringRef misplaced;
      bool sums = !op.getMaximum() && !op.getAccumulate() &&
                  (scatters || op.getKind() == dist::CollectiveKind::AllReduce);
      for (auto name : op.getGradients()->getAsRange<FlatSymbolRefAttr>()) {
        auto parameter = items.symbols.lookup<llama::ParameterOp>(name.getAttr());
        dist::StorageOp place = items.storage.lookup(name.getValue());
        if (!parameter || !place || !place.getGradient())
          return op.emitOpError("names '")
                 << name.getValue() << "', which has no gradient on stage " << stage;
        if (isNew) {
          if (name == (*op.getGradients())[0]) {
            std::string text = name.getValue().str();
            if (op.getGradients()->size() > 1)
              text += " and " + std::to_string(op.getGradients()->size() - 1) + " more";
            cls->gradients.push_back(
                {text, partialAxes(parameter), count, typeNumber(items.gradientType)});
          } else if (partialAxes(parameter) != cls->gradients.back().partialAxes) {
            fault("gradients of '" + cast<FlatSymbolRefAttr>((*op.getGradients())[0]).getValue() +
                  "' and '" + name.getValue() +
                  "' are partial over different axes, but reduced together by " + where);
          }
          if (!unitOf.try_emplace(name.getValue(), unit->second).second)
            fault("gradient of '" + name.getValue() +
                  "' is reduced twice, in two pieces: again by " + where);
        }
        sums &= !scatters || place.getGradientSum(); // of which each rank gets a part
        // All of it has to be reduced: the sum of this rank, or the shard of its unit.
        bool sum = place.getGradientSum().has_value() && scatters;
        AddressAttr at = sum ? *place.getGradientSum() : *place.getGradient();
        int64_t elements = parameter.getTensorType().getNumElements();
        if (auto shard = place.getShard(); shard && !sum)
          for (const Axis &axis : items.axes)
            if (axis.name == "dp")
              elements = (*shard)[1] / axis.size;
        int64_t begin = at.getOffset(), end = begin + elements * widthOf(op.getType());
        if (at.getArena() != from.getArena() || begin < from.getOffset() ||
            end > from.getOffset() + bytes)
          needed = std::max(needed + 1, (end - from.getOffset()) / widthOf(op.getType()));
        // The sum goes to where the norm and the update read it.
        if (auto shard = place.getShard(); !shard)
          elements = parameter.getTensorType().getNumElements();
        else
          elements = (*shard)[1] / sizeOfAxis(items.axes, "dp");
        const AddressAttr to = op.getTo().value_or(from), result = *place.getGradient();
        const int64_t width = widthOf(op.getToType().value_or(op.getType()));
        if (result.getArena() != to.getArena() || result.getOffset() < to.getOffset() ||
            result.getOffset() + elements * width > to.getOffset() + count * width ||
            (!scatters && to != from))
          misplaced = name.getValue();
      }
      if (!sums)
        fault("gradient of '" + cast<FlatSymbolRefAttr>((*op.getGradients())[0]).getValue() +
              "' is not summed by " + where);
      if (needed != count) // the check names both
        cls->gradients[unit->second].count = needed;
      else if (!misplaced.empty())
        fault("sum of the gradient of '" + misplaced + "' is not where it belongs: by " + where);
    }
  }
  for (auto parameter : module.getOps<llama::ParameterOp>()) {
    dist::StorageOp place = items.storage.lookup(parameter.getSymName());
    if (!place || !place.getGradient() || unitOf.contains(parameter.getSymName()))
      continue;
    if (uint32_t bits = partialAxes(parameter))
      cls->gradients.push_back({parameter.getSymName().str(), bits,
                                parameter.getTensorType().getNumElements(),
                                typeNumber(items.gradientType)});
  }
  return success();
}

//===----------------------------------------------------------------------===//
// What the step has to do
//===----------------------------------------------------------------------===//

/// The trained parameters of the stage, those of the encoder, and who uses them.
LogicalResult ProgramReader::readTrained(dist::ProgramOp source) {
  count = microBatches;
  llvm::StringSet<> seen;
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (int64_t(program.getStage()) != stage)
      continue;
    for (auto run : program.getBody().getOps<dist::RunOp>()) {
      if (!microBatches && program == source) // of a module made by hand: what there is
        count = std::max<int64_t>(count, run.getMicroBatch() + 1);
      if (!seen.insert(run.getGraph()).second)
        continue;
      FailureOr<const GraphItems *> graph = items.readGraph(run, run.getGraph());
      if (failed(graph))
        return failure();
      for (auto [application, name] : (*graph)->weights) {
        if ((*graph)->imageAxes)
          imageAxes[name] = bitsOf(items.axes, (*graph)->imageAxes);
        if (program == source)
          applications[name].insert({application, (*graph)->imageAxes ? 1 : 0});
      }
    }
  }
  const int64_t ranks = sizeOfAxis(items.axes, "dp");
  for (auto parameter : module.getOps<llama::ParameterOp>()) {
    dist::StorageOp place = items.storage.lookup(parameter.getSymName());
    if (!place || !place.getGradient())
      continue;
    auto *arena = items.arenas.find(place.getGradient()->getArena().getValue());
    if (arena == items.arenas.end())
      return place.emitOpError("expects arenas of one stage");
    int64_t elements = place.getShard() ? (*place.getShard())[1] / ranks
                                        : parameter.getTensorType().getNumElements();
    int64_t begin = place.getGradient()->getOffset();
    trained.push_back({parameter.getSymName(), place, parameter, arena->second, begin,
                       begin + elements * widthOf(items.gradientType), elements,
                       axesOfGradient(parameter)});
  }
  return success();
}

/// The instances of a run are those of its frames and of its micro-batch.
void ProgramReader::checkInstances(dist::RunOp run, const GraphItems &graph,
                                   ArrayRef<InstanceAttr> used) {
  const int64_t number = run.getMicroBatch();
  auto wrong = [&](const Twine &message) {
    items.fault("R7", locationOf(run, run.getGraph() + " " + Twine(number)) + " " + message);
  };
  for (auto [instance, frame] : llvm::zip(used, graph.frames)) {
    StringRef name = instance.getFrame().getValue();
    if (name != frame.first) {
      wrong("has an instance of '" + name + "' for its frame '" + frame.first + "'");
      continue;
    }
    if (weightsOf.contains(name) || gradientOf.contains(name)) {
      if (instance.getOffset())
        wrong("reads '" + name + "' not from its first byte on");
      continue;
    }
    int64_t of = number, offset = 0;
    if (!graph.imageAxes && graph.groupFrames.contains(frame.second)) {
      of = number / items.groupSize;
      offset = number % items.groupSize * statesBytes(graph, frame.second);
    }
    if (instance.getNumber() != of || instance.getOffset() != offset)
      wrong("uses '" + name + "' " + Twine(instance.getNumber()) + " from byte " +
            Twine(instance.getOffset()) + " on, but expected " + Twine(of) + " from byte " +
            Twine(offset) + " on");
  }
  if (!ran[run.getGraph()].insert(number).second)
    wrong("runs a second time");
}

/// Bytes of a micro-batch in a frame of a group.
int64_t ProgramReader::statesBytes(const GraphItems &graph, int frame) {
  int64_t bytes = 0;
  for (const Item &item : graph.items)
    for (const Use &use : item.uses)
      if (use.space == -1 - frame)
        bytes = std::max(bytes, use.end);
  return bytes;
}

/// Every graph runs once on each micro-batch, or group of micro-batches.
void ProgramReader::checkRuns(dist::ProgramOp program) {
  for (auto &[name, numbers] : ran) {
    FailureOr<const GraphItems *> graph = items.readGraph(program, name);
    int64_t wanted = runsOf(bool((*graph)->imageAxes));
    if (int64_t(numbers.size()) != wanted || *numbers.begin() != 0 ||
        *numbers.rbegin() + 1 != wanted)
      items.fault("R9", cls->name + ": '" + name + "' runs " + Twine(numbers.size()) +
                            " times, but expected once for each of " + Twine(wanted) +
                            ((*graph)->imageAxes ? " groups of" : "") + " micro-batches");
    losses += bool((*graph)->loss);
  }
}

/// Gradients within the bytes of `use` are whole there, complete, and summed over all axes
/// over which they are partial; adds them to `covered`.
void ProgramReader::checkGradients(const Use &use, const Twine &where,
                                   llvm::SetVector<size_t> &covered) {
  uint64_t want = 0, got = 0;
  for (auto [i, one] : llvm::enumerate(trained)) {
    if (one.arena != use.space || one.end <= use.begin || one.begin >= use.end)
      continue;
    if (one.begin < use.begin || one.end > use.end)
      items.fault("R9", where + " has a part of the gradient of '" + one.name + "'");
    if (!covered.insert(i))
      items.fault("R9", where + " has the gradient of '" + one.name + "' a second time");
    want += expected(one);
  }
  Named &bytes = named[use.space];
  auto entry = bytes.upper_bound(use.begin);
  if (entry != bytes.begin())
    --entry;
  for (; entry != bytes.end() && entry->first < use.end; ++entry)
    if (entry->second.end > use.begin)
      got += entry->second.content;
  if (want == got)
    return;
  // Which one, if each lies by itself.
  std::string which;
  for (auto &one : trained)
    if (one.arena == use.space && one.begin >= use.begin && one.end <= use.end && which.empty())
      if (auto at = bytes.find(one.begin);
          at == bytes.end() || at->second.end > one.end || at->second.content != expected(one))
        which = one.name.str();
  items.fault("R9", where +
                        " reads gradients that are not the sum of what every application and "
                        "micro-batch adds, once over each axis: '" +
                        which + "' or one that lies with it");
}

/// What has to be in the gradient of a parameter (Written::content).
uint64_t ProgramReader::expected(const Trained &one) {
  auto number = items.parameterNumber.find(one.name);
  if (number == items.parameterNumber.end())
    return 1; // nothing adds to it
  uint64_t sum = 0;
  for (auto [application, ofEncoder] : applications[one.name])
    for (int64_t n = 0, e = runsOf(ofEncoder); n < e; ++n)
      sum += contribution(number->second, application, n);
  return sum * items.factorOf(one.axes);
}

/// Each collective between graphs is one of those that a step is made of.
void ProgramReader::checkCollective(dist::CollectiveOp op, const Item &item) {
  auto frame = [](std::optional<InstanceAttr> instance) {
    return instance ? instance->getFrame().getValue() : StringRef();
  };
  bool ofUnit =
      weightsOf.contains(frame(op.getWrites())) || gradientOf.contains(frame(op.getReads()));
  if ((op.getReads() || op.getWrites()) && !ofUnit &&
      (!op->hasAttr(dist::kPlacedAttr) || !op->hasAttr(dist::kCrossingAttr)))
    items.fault("R7", item.what + " does not say which value it moves, and how that lies");
}

/// A norm takes whole gradients, and counts each on one of the ranks that have it.
void ProgramReader::checkNorm(dist::GradientNormOp op, const Item &item) {
  if (item.uses.empty())
    return;
  for (const Use &use : item.uses)
    if (use.writes)
      items.expectNoState(use, "the result of " + item.what);
  size_t before = inNorm.size();
  checkGradients(item.uses[0], item.what, inNorm);
  for (size_t i : inNorm.getArrayRef().drop_front(before)) {
    Trained &one = trained[i];
    uint32_t once = 0;
    for (auto [number, axis] : llvm::enumerate(items.axes))
      if (axis.size > 1 && (axis.name != "dp" || !one.place.getShard()) &&
          (axis.name != "pp" || stagesOf.lookup(one.name) > 1))
        once |= 1u << number;
    if (auto split = one.op.getSplit())
      for (auto names : split->getAsRange<ArrayAttr>())
        once &= ~bitsOf(items.axes, names);
    if (once != bitsOf(items.axes, op.getOnce()))
      items.fault("R9", item.what + " counts the gradient of '" + one.name +
                            "' not once over the axes on which all ranks have the same");
  }
}

/// The update takes each gradient together with master and moments of the same parameter, and
/// writes its weights.
void ProgramReader::checkUpdate(dist::UpdateOp op, const Item &item) {
  auto block = items.symbols.lookup<FuncOp>(op.getBlock());
  const bool givesWeights = block.getNumResults() == 4;
  if (item.uses.size() < (givesWeights ? 6u : 5u))
    return;
  items.expectNoState(item.uses[4], "the hyperparameters of " + item.what);
  llvm::SetVector<size_t> covered;
  checkGradients(item.uses[3], item.what, covered);
  auto width = [&](Type type) { return widthOf(cast<RankedTensorType>(type).getElementType()); };
  const int64_t gradientWidth = width(block.getArgumentTypes()[3]);
  const int64_t masterWidth = width(block.getArgumentTypes()[0]);
  const int64_t ranks = sizeOfAxis(items.axes, "dp");
  updated.clear();
  for (auto [i, one] : llvm::enumerate(trained)) {
    auto wrong = [&](StringRef what) {
      items.fault("R9", item.what + " does not update the " + what + " of '" + one.name + "'");
    };
    if (!covered.contains(i)) {
      wrong("gradient");
      continue;
    }
    const int64_t element = (one.begin - item.uses[3].begin) / gradientWidth;
    std::pair<StringRef, std::optional<AddressAttr>> held[] = {
        {"master", one.place.getMaster()},
        {"first moment", one.place.getMoment1()},
        {"second moment", one.place.getMoment2()}};
    for (auto [k, what] : llvm::enumerate(held))
      if (!isAt(what.second, item.uses[k], element * masterWidth))
        wrong(what.first);
    // Weights: of the block, or the masters; gathered where each rank has a part.
    Type type = one.op.getTensorType().getElementType();
    const Use &weights = item.uses[givesWeights ? 5 : 0];
    const int64_t offset = element * widthOf(type);
    if (weights.type != typeNumber(type))
      wrong("weights, which have another type,");
    if (!one.place.getShard() || one.place.getShardStorage()) {
      if (!isAt(one.place.getAddress(), weights, offset))
        wrong("weights");
      continue;
    }
    auto arena = llvm::find_if(items.arenas, [&](auto &a) { return a.second == weights.space; });
    auto from =
        AddressAttr::get(op.getContext(), FlatSymbolRefAttr::get(op.getContext(), arena->first),
                         weights.begin + offset);
    auto same = llvm::find_if(updated, [&](const Updated &u) { return u.from == from; });
    if (same == updated.end()) {
      updated.push_back({from, (*one.place.getShard())[1] / ranks, type, {}});
      same = updated.end() - 1;
    }
    same->parameters.push_back(one.place);
  }
}

/// The sums: zero, then the loss of every run that gives it and every norm, each on one of the
/// ranks that have it; then once over all ranks. Then the hyperparameters from them, the update,
/// the updated weights to all.
void ProgramReader::checkEntries(dist::ProgramOp program) {
  enum Phase { Begun, Working, Reduced, Clipped, Done } phase = Begun;
  uint32_t all = 0;
  for (auto [i, axis] : llvm::enumerate(items.axes))
    all |= axis.size > 1 ? 1u << i : 0;
  AddressAttr sums, given;
  llvm::DenseMap<Attribute, StringRef> inputs; // by address
  for (auto output : program.getBody().getOps<dist::OutputOp>())
    if (auto type = dyn_cast<RankedTensorType>(output.getType());
        output.getName() == "sums" && type.getNumElements() == 2 && type.getElementType().isF64())
      sums = output.getAddress();
  for (auto input : program.getBody().getOps<dist::InputOp>()) {
    inputs[input.getAddress()] = input.getName();
    if (input.getName() == "hyperparameters")
      given = input.getAddress();
  }
  auto finish = [&](bool holds, const Twine &what) {
    if (!holds)
      items.fault("R9", cls->name + ": program '" + program.getName() + "' " + what);
  };
  if (!sums)
    return finish(false, "has no output 'sums', two f64");
  auto isSum = [&](Attribute address, int64_t number) {
    auto at = cast<AddressAttr>(address);
    return at.getArena() == sums.getArena() && at.getOffset() == sums.getOffset() + 8 * number;
  };
  // What waits to be added: the loss of a run, or a norm.
  struct Waiting {
    Operation *by;
    AddressAttr at;
    int64_t sum;      // its number
    std::string once; // the input that says which ranks count it
  };
  std::optional<Waiting> waiting;
  auto inputOf = [](ArrayRef<StringRef> axes) { return "once:" + llvm::join(axes, ","); };
  Attribute clipped; // where
  std::vector<bool> gathered(updated.size(), false);
  for (auto entry : program.getBody().getOps<dist::EntryOpInterface>()) {
    Operation &op = *entry;
    auto expect = [&](bool holds, const Twine &what) {
      if (!holds)
        items.fault("R9",
                    cls->name + ": " + locationOf(&op, op.getName().getStringRef()) + " " + what);
    };
    auto call = dyn_cast<dist::CallOp>(op);
    const size_t count = call && call.getBuffers() ? call.getBuffers()->size() : 0;
    auto collective = dyn_cast<dist::CollectiveOp>(op);
    const bool isPlain = collective && !collective.getReads() && !collective.getWrites() &&
                         !collective.getGradients();
    const bool moves = isa<dist::SendOp, dist::ReceiveOp>(op) || op.hasAttr(dist::kPlacedAttr) ||
                       (collective && (collective.getReads() || collective.getWrites()));
    if (waiting && !call && !moves) {
      items.fault("R9", cls->name + ": what " + locationOf(waiting->by, "an entry") +
                            " gives is not added to the sums");
      waiting.reset();
    }
    if (auto zero = dyn_cast<dist::ZeroOp>(op);
        zero && zero.getAddress() && zero.getAddress()->getArena() == sums.getArena()) {
      expect(phase == Begun && zero.getAddress() == sums && zero.getBytes() == 16,
             "does not set the sums to zero, once");
      phase = Working;
    } else if (call && waiting && count == 4) {
      ArrayAttr buffers = *call.getBuffers();
      auto run = dyn_cast<dist::RunOp>(waiting->by);
      expect(isSum(buffers[0], waiting->sum) && buffers[1] == waiting->at &&
                 call.getMicroBatch() ==
                     (run ? std::optional<uint64_t>(run.getMicroBatch()) : std::nullopt),
             "does not add what " + locationOf(waiting->by, "the entry before") +
                 " gives to its sum");
      expect(inputs.lookup(buffers[2]) == waiting->once,
             "does not count once over the axes on which all ranks have the same");
      waiting.reset();
    } else if (call) {
      // Without other ranks the sums are those of all.
      expect(phase == (all ? Reduced : Working) && count == 4 &&
                 isSum((*call.getBuffers())[0], 0) && (*call.getBuffers())[1] == given &&
                 !call.getMicroBatch(),
             "does neither add to the sums nor find the hyperparameters from those of all ranks");
      if (count == 4)
        clipped = (*call.getBuffers())[2];
      phase = Clipped;
    } else if (auto update = dyn_cast<dist::UpdateOp>(op)) {
      expect(phase == Clipped && update.getBuffers() && (*update.getBuffers())[4] == clipped,
             "does not come once, with hyperparameters from the sums of all ranks");
      phase = Done;
    } else if (isPlain) {
      AddressAttr from = collective.getFrom().value_or(AddressAttr());
      AddressAttr to = collective.getTo().value_or(AddressAttr());
      auto group = items.symbols.lookup<dist::CommunicatorOp>(collective.getCommunicator());
      uint32_t over = group.getAxes() ? bitsOf(items.axes, *group.getAxes()) : 0;
      bool isCopy =
          !collective.getMaximum() && !collective.getAccumulate() && !collective.getToType();
      if (phase <= Working && all) {
        expect(phase == Working && collective.getKind() == dist::CollectiveKind::AllReduce &&
                   isCopy && from == sums && to == sums &&
                   collective.getOuter() * collective.getElements() == 2 &&
                   collective.getType().isF64() && over == all,
               "does not sum loss and norm over all ranks");
        phase = Reduced;
        continue;
      }
      expect(phase == Done, "moves what no gradient, value or unit is");
      auto one = llvm::find_if(updated, [&](const Updated &u) { return u.from == from; });
      if (one == updated.end()) {
        expect(false, "does not gather updated weights");
        continue;
      }
      bool fits = collective.getKind() == dist::CollectiveKind::AllGather && isCopy &&
                  collective.getOuter() == 1 &&
                  int64_t(collective.getElements()) == one->elements &&
                  collective.getType() == one->type && !gathered[one - updated.begin()] &&
                  group.getAxes() && axesOf(group) == SmallVector<StringRef>{"dp"};
      for (dist::StorageOp place : one->parameters)
        fits &= to.getArena() == place.getAddress().getArena() &&
                to.getOffset() + (*place.getShard())[0] * widthOf(one->type) ==
                    place.getAddress().getOffset();
      expect(fits, "does not gather updated weights to where they belong");
      gathered[one - updated.begin()] = true;
    } else if (!moves) {
      // What moves values between stages may end for others later.
      expect(phase == Working || phase == Begun, "comes behind the sums of loss and norm");
      if (auto norm = dyn_cast<dist::GradientNormOp>(op); norm && norm.getBuffers()) {
        SmallVector<StringRef> once;
        for (auto axis : norm.getOnce().getAsRange<StringAttr>())
          once.push_back(axis.getValue());
        waiting = {&op, cast<AddressAttr>((*norm.getBuffers())[1]), 1, inputOf(once)};
      } else if (auto run = dyn_cast<dist::RunOp>(op)) {
        FailureOr<const GraphItems *> graph = items.readGraph(&op, run.getGraph());
        if (dist::OutputOp loss = (*graph)->loss) {
          SmallVector<StringRef> once;
          for (const Axis &axis : items.axes)
            if (axis.size > 1 && axis.name != "dp" && axis.name != "pp" &&
                !(loss.getPartial() &&
                  llvm::is_contained(*loss.getPartial(),
                                     StringAttr::get(op.getContext(), axis.name))))
              once.push_back(axis.name);
          waiting = {&op, loss.getAddress(), 0, inputOf(once)};
        }
      }
      expect(!waiting || phase == Working, "gives what is added before the sums are zero");
    }
  }
  if (waiting)
    finish(false, "does not add what its last entry gives to the sums");
  const bool trains = program.getName() == "step" && !trained.empty();
  finish(phase == (trains ? Done
                   : all  ? Reduced
                          : Working),
         trains ? "does not end with an update" : "does not end with the sum of its losses");
  for (bool one : gathered)
    finish(one, "does not gather all updated weights");
  if (trains)
    for (auto [i, one] : llvm::enumerate(trained))
      finish(inNorm.contains(i), "does not count the gradient of '" + one.name + "' in the norm");
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
  if (failed(readTrained(source)) || (source.getName() == "step" && failed(readGradients())))
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

FailureOr<check::Program> llamac::readProgram(ModuleOp module, StringRef name,
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
  return ProgramReader(module, stages, faults).read(programs);
}
