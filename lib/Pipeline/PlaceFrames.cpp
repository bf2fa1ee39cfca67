//===- PlaceFrames.cpp - Addresses of frames, events between streams ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The programs of all stages are simulated (Simulate.h), with a read waiting for the
// writes before it. Every entry gets a time. Then
//
//   - entries are put in the order of their times: the launch order
//   - a frame instance lives from the start of its first writer to the end of its last
//     reader; ArenaPlan.h gives it an address. Whole weights and gradients of units have
//     arenas of their own
//   - the first writer of an instance waits for all that used its bytes before
//
// Every wait that this adds holds in the times found, so no wait can close a cycle: an
// address that is free by list order only, of a value that is still being sent, could.
//
//===----------------------------------------------------------------------===//
#include "llamac/Pipeline/Passes.h"

#include "CutGraph.h"

#include "llamac/Cost/Simulate.h"
#include "llamac/Support/Alignment.h"
#include "llamac/Support/ArenaPlan.h"
#include "llamac/Support/Grid.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Support/MathExtras.h"

#include <map>

namespace mlir::llamac {
#define GEN_PASS_DEF_PLACEFRAMESPASS
#include "llamac/Pipeline/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using dist::ArenaRole;
using dist::InstanceAttr;
using func::FuncOp;

namespace {

/// A frame instance by frame and number.
using InstanceKey = std::pair<StringAttr, int64_t>;

struct Entry {
  dist::EntryOpInterface op;
  int64_t stream = 0;
  SmallVector<InstanceKey, 4> reads, writes;
  SmallVector<unsigned, 4> after; ///< entries of the stage, of other streams
  double begin = -1, end = -1;
};

/// The life of an instance.
struct Life {
  SmallVector<unsigned, 4> uses; ///< entries, in launch order; the first writes
  double begin = 0, end = 0;
  int64_t bytes = 0, offset = 0;
};

struct StageProgram {
  dist::ProgramOp program;
  std::vector<Entry> entries;
  llvm::MapVector<InstanceKey, Life> lives;
};

class FramePlacer {
public:
  FramePlacer(ModuleOp module, const Machine &machine)
      : module(module), machine(machine), symbols(module), axes(axesOf(module)),
        builder(module.getContext()), alignment(alignmentOf(module)) {}
  LogicalResult run();

private:
  LogicalResult read(dist::ProgramOp program, StageProgram &stage);
  void findHazards(StageProgram &stage);
  void sortByTime(StageProgram &stage);
  LogicalResult place(StageProgram &stage);
  FailureOr<int64_t> place(StageProgram &stage, ArenaRole arena);
  void writeEvents(StageProgram &stage);
  void write(StageProgram &stage);

  /// Memory that an entry uses.
  SmallVector<dist::EntryUse> usesOf(dist::EntryOpInterface op) {
    FlatSymbolRefAttr group = op.getCommunicatorAttr();
    return op.getUses(group ? ranksOf(axes, symbols.lookup<dist::CommunicatorOp>(group.getAttr()))
                            : 1);
  }
  void noteFrame(StageProgram &stage, const dist::EntryUse &use, FuncOp graph);
  void note(StageProgram &stage, InstanceAttr instance, int64_t bytes) {
    int64_t &known = frameBytes[{stage.program.getStage(), instance.getFrame()}];
    known = std::max(known, int64_t(llvm::alignTo(instance.getOffset() + bytes, alignment)));
  }
  static InstanceKey keyOf(InstanceAttr instance) {
    return {instance.getFrame(), instance.getNumber()};
  }

  ModuleOp module;
  const Machine &machine;
  SymbolTable symbols;
  SmallVector<Axis> axes;
  OpBuilder builder;
  const int64_t alignment;
  /// The arena in which a frame's instances lie.
  ArenaRole arenaOf(StringAttr frame) const {
    auto entry = arenaOfUnits.find(frame.getValue());
    return entry == arenaOfUnits.end() ? ArenaRole::Activations : entry->second;
  }

  llvm::DenseMap<std::pair<int64_t, StringAttr>, int64_t> frameBytes;
  llvm::StringMap<ArenaRole> arenaOfUnits;                 // of the frames of units
  std::map<std::pair<int64_t, ArenaRole>, int64_t> arenas; // by stage: bytes
  bool isPipeline = false;                                 // several stages
};

} // namespace

/// Adds to `after` those of `others` that the queue of `entry`'s stream does not order
/// already, the last of each stream.
static void waitFor(std::vector<Entry> &entries, unsigned number, ArrayRef<unsigned> others) {
  Entry &entry = entries[number];
  for (unsigned other : others) {
    if (other == number || entries[other].stream == entry.stream)
      continue;
    auto *same = llvm::find_if(entry.after, [&](unsigned known) {
      return entries[known].stream == entries[other].stream;
    });
    if (same == entry.after.end())
      entry.after.push_back(other);
    else
      *same = std::max(*same, other);
  }
}

/// The bytes of a frame that a graph reads as arguments, or writes as results.
void FramePlacer::noteFrame(StageProgram &stage, const dist::EntryUse &use, FuncOp graph) {
  note(stage, use.instance, 0);
  ArrayRef<Type> types = use.writes ? graph.getResultTypes() : graph.getArgumentTypes();
  for (auto [i, type] : llvm::enumerate(types)) {
    auto place = use.writes ? graph.getResultAttrOfType<ArrayAttr>(i, dist::kFrameAttr)
                            : graph.getArgAttrOfType<ArrayAttr>(i, dist::kFrameAttr);
    if (place && place[0] == use.instance.getFrame())
      note(stage, use.instance,
           cast<IntegerAttr>(place[1]).getInt() + alignedBytes(type, alignment));
  }
}

LogicalResult FramePlacer::read(dist::ProgramOp program, StageProgram &stage) {
  stage.program = program;
  llvm::DenseMap<Value, unsigned> numberOf; // of the entry that is done
  for (auto op : program.getBody().getOps<dist::EntryOpInterface>()) {
    Entry &entry = stage.entries.emplace_back();
    entry.op = op;
    entry.stream = op.getStream();
    numberOf[op->getResult(0)] = stage.entries.size() - 1;
    // It keeps what it awaits already.
    for (Value event : op.getAfter())
      waitFor(stage.entries, stage.entries.size() - 1, numberOf.lookup(event));
    FuncOp graph;
    if (FlatSymbolRefAttr name = op.getGraphAttr()) {
      graph = symbols.lookup<FuncOp>(name.getAttr());
      if (!graph)
        return op->emitOpError("expects a graph function, not yet planned");
    }
    for (const dist::EntryUse &use : usesOf(op)) {
      if (!use.instance)
        continue;
      (use.writes ? entry.writes : entry.reads).push_back(keyOf(use.instance));
      if (graph)
        noteFrame(stage, use, graph);
      else
        note(stage, use.instance, use.bytes);
    }
  }
  return success();
}

void FramePlacer::findHazards(StageProgram &stage) {
  llvm::DenseMap<InstanceKey, SmallVector<unsigned, 4>> writers;
  for (auto [number, entry] : llvm::enumerate(stage.entries)) {
    for (const InstanceKey &key : entry.reads) {
      waitFor(stage.entries, number, writers[key]);
      stage.lives[key].uses.push_back(number);
    }
    for (const InstanceKey &key : entry.writes) {
      Life &life = stage.lives[key];
      waitFor(stage.entries, number, life.uses);
      if (life.uses.empty() || life.uses.back() != number)
        life.uses.push_back(number);
      writers[key].push_back(number);
    }
  }
}

void FramePlacer::sortByTime(StageProgram &stage) {
  SmallVector<unsigned> order(stage.entries.size());
  std::iota(order.begin(), order.end(), 0);
  llvm::stable_sort(order, [&](unsigned a, unsigned b) {
    return stage.entries[a].begin < stage.entries[b].begin;
  });
  SmallVector<unsigned> place(order.size());
  std::vector<Entry> sorted;
  for (auto [now, old] : llvm::enumerate(order)) {
    place[old] = now;
    sorted.push_back(std::move(stage.entries[old]));
  }
  for (Entry &entry : sorted) {
    for (unsigned &other : entry.after)
      other = place[other];
    entry.op->moveBefore(&stage.program.getBody().front(), stage.program.getBody().front().end());
  }
  stage.entries = std::move(sorted);
  for (auto &[key, life] : stage.lives) {
    for (unsigned &use : life.uses)
      use = place[use];
    llvm::sort(life.uses);
  }
}

/// Gives every instance an address and adds the waits for what was there before.
LogicalResult FramePlacer::place(StageProgram &stage) {
  llvm::SetVector<ArenaRole> roles;
  roles.insert(ArenaRole::Activations);
  for (auto &[key, life] : stage.lives) {
    roles.insert(arenaOf(key.first));
    life.begin = stage.entries[life.uses.front()].begin;
    for (unsigned use : life.uses)
      life.end = std::max(life.end, stage.entries[use].end);
    life.bytes = frameBytes[{stage.program.getStage(), key.first}];
  }
  for (ArenaRole role : roles) {
    FailureOr<int64_t> bytes = place(stage, role);
    if (failed(bytes))
      return failure();
    int64_t &size = arenas[{stage.program.getStage(), role}];
    size = std::max(size, *bytes);
  }
  return success();
}

FailureOr<int64_t> FramePlacer::place(StageProgram &stage, ArenaRole arena) {
  SmallVector<Life *> lives;
  SmallVector<double> times;
  llvm::MapVector<StringAttr, int64_t> placeOf; // of a frame, if each has one of its own
  int64_t apart = 0;                            // bytes then
  for (auto &[key, life] : stage.lives) {
    if (arenaOf(key.first) != arena)
      continue;
    lives.push_back(&life);
    times.push_back(life.begin);
    times.push_back(life.end);
    if (auto [entry, isNew] = placeOf.insert({key.first, apart}); isNew)
      apart += life.bytes;
    life.offset = placeOf[key.first];
  }
  llvm::sort(times);
  times.erase(llvm::unique(times), times.end());
  auto rank = [&](double time) { return int64_t(llvm::lower_bound(times, time) - times.begin()); };
  SmallVector<PlannedValue> values;
  for (Life *life : lives)
    values.push_back({2 * rank(life->begin), 2 * rank(life->end) - 1, life->bytes});
  int64_t bytes = planArena(values, alignment);
  // A unit has at most one whole instance at a time: never more than all units together.
  if (arena != ArenaRole::Activations && apart < bytes) {
    bytes = apart;
    for (auto [value, life] : llvm::zip(values, lives))
      value.offset = life->offset;
  }
  if (findConflict(values, bytes, alignment))
    return stage.program.emitOpError("internal error: two frame instances that live at the same "
                                     "time overlap");
  for (auto [value, life] : llvm::zip(values, lives))
    life->offset = value.offset;

  // Bytes [first, second) were last used by a life.
  llvm::stable_sort(lives, [](Life *a, Life *b) { return a->begin < b->begin; });
  std::map<int64_t, std::pair<int64_t, Life *>> users;
  for (Life *life : lives) {
    if (!life->bytes)
      continue;
    const int64_t begin = life->offset, end = begin + life->bytes;
    auto it = users.upper_bound(begin);
    if (it != users.begin())
      --it;
    while (it != users.end() && it->first < end) {
      auto [from, rest] = *it;
      auto [to, before] = rest;
      if (to <= begin) {
        ++it;
        continue;
      }
      waitFor(stage.entries, life->uses.front(), before->uses);
      it = users.erase(it);
      if (from < begin)
        users[from] = {begin, before};
      if (to > end)
        users[end] = {to, before};
    }
    users[begin] = {end, life};
  }
  return bytes;
}

/// Lets every entry await the entries of other streams that it waits for.
void FramePlacer::writeEvents(StageProgram &stage) {
  for (Entry &entry : stage.entries) {
    SmallVector<Value> events;
    llvm::sort(entry.after);
    for (unsigned other : entry.after)
      events.push_back(stage.entries[other].op->getResult(0));
    entry.op->setOperands(events);
  }
}

void FramePlacer::write(StageProgram &stage) {
  auto addressOf = [&](InstanceAttr instance) -> dist::AddressAttr {
    if (!instance)
      return {};
    std::string arena =
        arenaName(arenaOf(instance.getFrame()), stage.program.getStage(), isPipeline);
    return dist::AddressAttr::get(builder.getContext(),
                                  FlatSymbolRefAttr::get(builder.getContext(), arena),
                                  stage.lives[keyOf(instance)].offset + instance.getOffset());
  };
  writeEvents(stage);
  for (Entry &entry : stage.entries)
    entry.op.setPlaces(llvm::map_to_vector(
        usesOf(entry.op), [&](const dist::EntryUse &use) { return addressOf(use.instance); }));
}

LogicalResult FramePlacer::run() {
  llvm::MapVector<StringRef, SmallVector<dist::ProgramOp>> programs;
  for (auto program : module.getOps<dist::ProgramOp>())
    programs[program.getName()].push_back(program);
  if (programs.empty())
    return module.emitError("expected a program (dist.program)");
  int64_t count = 0;
  for (auto &[name, list] : programs)
    count = std::max<int64_t>(count, list.size());
  isPipeline = count > 1;
  for (auto unit : module.getOps<dist::UnitOp>()) {
    arenaOfUnits[dist::weightsFrame(unit.getSymName())] = ArenaRole::WholeWeights;
    arenaOfUnits[dist::gradientFrame(unit.getSymName())] = ArenaRole::WholeGradients;
  }
  for (auto &[name, list] : programs) {
    frameBytes.clear();
    SmallVector<StageProgram> stages(list.size());
    for (auto [program, stage] : llvm::zip(list, stages)) {
      if (int64_t(program.getStage()) >= count)
        return program.emitOpError("expects a stage below ") << count;
      if (failed(read(program, stage)))
        return failure();
      findHazards(stage);
      for (auto &[key, life] : stage.lives)
        if (!llvm::is_contained(stage.entries[life.uses.front()].writes, key))
          return stage.entries[life.uses.front()].op->emitOpError("reads frame '")
                 << key.first.getValue() << "' " << key.second << " before it is written";
    }
    // The times of the program as it is, with the waits for data.
    for (StageProgram &stage : stages)
      writeEvents(stage);
    FailureOr<Simulation> simulation = simulate(module, name, machine);
    if (failed(simulation))
      return failure();
    for (StageProgram &stage : stages) {
      for (auto [entry, simulated] :
           llvm::zip_equal(stage.entries, simulation->stages[stage.program.getStage()].entries)) {
        entry.begin = simulated.begin;
        entry.end = simulated.end;
      }
      sortByTime(stage);
      if (failed(place(stage)))
        return failure();
      write(stage);
    }
  }
  builder.setInsertionPoint(*module.getOps<dist::ProgramOp>().begin());
  for (auto [key, size] : arenas)
    dist::ArenaOp::create(builder, module.getLoc(), arenaName(key.second, key.first, isPipeline),
                          key.second, size, key.first);
  return success();
}

namespace {
struct PlaceFramesPass : llamac::impl::PlaceFramesPassBase<PlaceFramesPass> {
  using PlaceFramesPassBase::PlaceFramesPassBase;
  void runOnOperation() override {
    llvm::Expected<Machine> found = findMachine(machine);
    if (!found) {
      getOperation().emitError("--machine: ") << llvm::toString(found.takeError());
      return signalPassFailure();
    }
    if (failed(FramePlacer(getOperation(), *found).run()))
      signalPassFailure();
  }
};
} // namespace
