//===- Simulate.cpp - Execute a parallel program against a machine --------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Queues are the streams of all stages. A head can start when what it awaits is done and, if others
// have to meet it (a transfer, a collective over stages), when those are heads that can start too;
// all that meet take the longest of their times. Each head that can start does; what is left when
// none can is a deadlock, and one of its entries is named.
//
//   stage 0  stream 0   run F0 | run F1 |        run B0 ...
//            stream 1          send y0 | send y1             <- begins with its receive
//   stage 1  stream 2          receive y0 | receive y1
//            stream 0                     run F0 | ...       <- after the event of its receive
//
// Times of blocks are a roofline (BlockCosts.h), noted by dist-build-program before blocks are
// lowered; those of communications follow from bytes, ranks and the machine's links.
//
//===----------------------------------------------------------------------===//
#include "llamac/Cost/Simulate.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Cost/BlockCosts.h"
#include "llamac/Cost/Passes.h"
#include "llamac/Support/Grid.h"

#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"

#include <map>

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;

namespace {

/// What an entry costs.
struct Cost {
  double seconds = 0;
  double communication = 0; ///< of these
  bool meetsStages = false; ///< communicates with other stages
};

/// Time passes with every entry, so that launch order and time agree.
constexpr double kLeastSeconds = 1e-9;

class Durations {
public:
  Durations(ModuleOp module, const Machine &machine)
      : module(module), machine(machine), symbols(module), axes(axesOf(module)) {}

  Cost of(dist::EntryOpInterface entry, int64_t stage);
  StringRef meetingOf(dist::EntryOpInterface entry);

private:
  double collective(dist::CollectiveOp op);
  double block(StringRef name);
  Cost graph(Operation *graph);
  bool spansStages(StringRef communicator) const {
    return llvm::is_contained(axesOf(symbols.lookup<dist::CommunicatorOp>(communicator)), "pp");
  }
  bool spansStages(Operation *collective) const;
  /// The first rank of a stage.
  int64_t rankOf(int64_t stage) const {
    int64_t stride = 1;
    bool inner = false;
    for (const Axis &axis : axes) {
      stride *= inner ? axis.size : 1;
      inner |= axis.name == "pp";
    }
    return stage * stride;
  }

  ModuleOp module;
  const Machine &machine;
  SymbolTable symbols;
  SmallVector<Axis> axes;
  llvm::StringMap<double> blocks;
  llvm::DenseMap<Operation *, Cost> graphs;
};

/// A queue of entries of one stage.
struct Queue {
  size_t stage;
  SmallVector<size_t> entries;
  size_t head = 0;
  double free = 0;
};

} // namespace

double Durations::block(StringRef name) {
  auto [entry, isNew] = blocks.try_emplace(name, 0);
  if (isNew) {
    Operation *block = symbols.lookup(name);
    if (auto seconds = block->getAttrOfType<FloatAttr>(kSecondsAttr))
      entry->second = seconds.getValueAsDouble();
    else if (auto function = dyn_cast<FuncOp>(block); function && !function.isExternal())
      entry->second = blockSeconds(function, machine, CostRule::Roofline);
  }
  return entry->second;
}

double Durations::collective(dist::CollectiveOp op) {
  auto group = symbols.lookup<dist::CommunicatorOp>(op.getCommunicator());
  const SmallVector<StringRef> over = axesOf(group);
  const int64_t ranks = ranksOf(axes, group);
  int64_t stride = 1; // between neighbours: the innermost axis says
  for (const Axis &axis : llvm::reverse(axes)) {
    if (llvm::is_contained(over, axis.name) && axis.size > 1)
      break;
    stride *= axis.size;
  }
  dist::Collective done = op.getCollective(ranks);
  double staging = 0; // blocks before and after it
  if (dist::StagingAttr how = op.getStagingAttr(); how && (how.getPack() || how.getUnpack())) {
    staging = double(done.stagedBytes(bool(how.getPack()), bool(how.getUnpack()))) /
              machine.memoryBandwidth;
    done = done.plain();
  }
  double share = double(done.outer) * done.elements * done.toType.getIntOrFloatBitWidth() / 8;
  switch (op.getKind()) {
  case dist::CollectiveKind::AllGather:
  case dist::CollectiveKind::ReduceScatter:
    return staging + machine.collectiveSeconds(ranks, stride, share * ranks);
  case dist::CollectiveKind::AllReduce:
    return staging + 2 * machine.collectiveSeconds(ranks, stride, share);
  case dist::CollectiveKind::Broadcast:
    return staging + machine.collectiveSeconds(ranks, stride, share);
  case dist::CollectiveKind::Slice:
    break;
  }
  return 2 * share / machine.memoryBandwidth;
}

/// Whether a collective, also before memory is planned, goes over several stages.
bool Durations::spansStages(Operation *op) const {
  if (auto planned = dyn_cast<dist::CollectiveOp>(op))
    return spansStages(planned.getCommunicator());
  auto over = op->getAttrOfType<DenseI16ArrayAttr>("grid_axes");
  return over && llvm::any_of(over.asArrayRef(), [&](int16_t axis) {
           return axes[axis].name == "pp" && axes[axis].size > 1;
         });
}

Cost Durations::graph(Operation *graph) {
  auto [entry, isNew] = graphs.try_emplace(graph);
  if (!isNew)
    return entry->second;
  Cost cost;
  for (Operation &op : graph->getRegion(0).front()) {
    double seconds = 0;
    bool communicates = false;
    if (auto apply = dyn_cast<llama::ApplyOp>(op)) {
      seconds = block(apply.getBlock());
    } else if (auto call = dyn_cast<dist::CallOp>(op)) {
      seconds = block(call.getBlock());
    } else if (auto planned = dyn_cast<dist::CollectiveOp>(op)) {
      seconds = collective(planned);
      communicates = planned.getKind() != dist::CollectiveKind::Slice;
    } else if (double known = collectiveSeconds(&op, machine); known > 0) {
      seconds = known;
      communicates = true;
    }
    cost.seconds += seconds;
    cost.communication += communicates ? seconds : 0;
    cost.meetsStages |= communicates && spansStages(&op);
  }
  return graphs[graph] = cost;
}

Cost Durations::of(dist::EntryOpInterface entry, int64_t stage) {
  Cost cost;
  if (FlatSymbolRefAttr name = entry.getGraphAttr()) {
    cost = graph(symbols.lookup(name.getAttr()));
    cost.seconds =
        cost.communication + (cost.seconds - cost.communication) / machine.speed(rankOf(stage));
  } else if (FlatSymbolRefAttr name = entry.getBlockAttr()) {
    cost.seconds = block(name.getValue());
  } else if (auto reduce = dyn_cast<dist::CollectiveOp>(*entry)) {
    cost.seconds = collective(reduce);
  } else if (FlatSymbolRefAttr name = entry.getCommunicatorAttr()) { // an end of a transfer
    auto edge = *symbols.lookup<dist::CommunicatorOp>(name.getValue()).getEdge();
    const plan::Link &link = machine.link(rankOf(edge[0]), rankOf(edge[1]));
    cost.seconds = link.latency + double(entry.getUses(edge.size())[0].bytes) / link.bytesPerSecond;
  } else {
    cost.seconds = entry.getBytes() / machine.memoryBandwidth;
  }
  cost.seconds = std::max(cost.seconds, kLeastSeconds);
  return cost;
}

/// What an entry meets other stages on, a communicator or `run`: runs that communicate
/// with them. Empty: it does not.
StringRef Durations::meetingOf(dist::EntryOpInterface entry) {
  if (FlatSymbolRefAttr name = entry.getGraphAttr())
    return graph(symbols.lookup(name.getAttr())).meetsStages ? entry->getName().stripDialect() : "";
  FlatSymbolRefAttr communicator = entry.getCommunicatorAttr();
  return communicator && spansStages(communicator.getValue()) ? communicator.getValue() : "";
}

FailureOr<Simulation> llamac::simulate(ModuleOp module, StringRef name, const Machine &machine) {
  Durations durations(module, machine);
  Simulation result;
  SmallVector<Queue> queues;
  llvm::StringMap<SmallVector<size_t>> meetings; // communicator -> the queues that use it
  llvm::DenseMap<Operation *, std::pair<size_t, size_t>> place; // stage, entry
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (program.getName() != name)
      continue;
    size_t stage = program.getStage();
    if (result.stages.size() <= stage)
      result.stages.resize(stage + 1);
    std::map<int64_t, size_t> queueOf;
    for (auto op : program.getBody().getOps<dist::EntryOpInterface>()) {
      const int64_t stream = op.getStream();
      Cost cost = durations.of(op, stage);
      auto &entries = result.stages[stage].entries;
      place[op] = {stage, entries.size()};
      auto [queue, isNew] = queueOf.try_emplace(stream, queues.size());
      if (isNew)
        queues.push_back({stage, {}});
      queues[queue->second].entries.push_back(entries.size());
      // `begin` < 0: not yet; `end` holds the length till then.
      entries.push_back({op, stream, -1, cost.seconds, cost.communication});
      if (StringRef meeting = durations.meetingOf(op);
          !meeting.empty() && !llvm::is_contained(meetings[meeting], queue->second))
        meetings[meeting].push_back(queue->second);
    }
  }

  auto headOf = [&](const Queue &queue) -> SimulatedEntry * {
    return queue.head < queue.entries.size()
               ? &result.stages[queue.stage].entries[queue.entries[queue.head]]
               : nullptr;
  };
  /// When the head of a queue can start, if what it awaits is done.
  auto ready = [&](const Queue &queue) -> std::optional<double> {
    SimulatedEntry *entry = headOf(queue);
    if (!entry)
      return std::nullopt;
    double time = queue.free;
    for (Value event : entry->op.getAfter()) {
      auto [stage, number] = place.lookup(event.getDefiningOp());
      const SimulatedEntry &other = result.stages[stage].entries[number];
      if (other.begin < 0)
        return std::nullopt;
      time = std::max(time, other.end);
    }
    return time;
  };
  for (bool progress = true; progress;) {
    progress = false;
    for (Queue &queue : queues)
      while (std::optional<double> time = ready(queue)) {
        SmallVector<Queue *> together = {&queue};
        if (StringRef meeting = durations.meetingOf(headOf(queue)->op); !meeting.empty()) {
          bool all = true;
          for (size_t other : meetings[meeting]) {
            if (&queues[other] == &queue)
              continue;
            std::optional<double> its = ready(queues[other]);
            all &= its && durations.meetingOf(headOf(queues[other])->op) == meeting;
            time = std::max(*time, its.value_or(0));
            together.push_back(&queues[other]);
          }
          if (!all)
            break;
        }
        double seconds = 0; // the longest of those that meet
        for (Queue *one : together)
          seconds = std::max(seconds, headOf(*one)->end);
        for (Queue *one : together) {
          SimulatedEntry &entry = *headOf(*one);
          entry.begin = *time;
          entry.end = one->free = *time + seconds;
          result.seconds = std::max(result.seconds, entry.end);
          ++one->head;
        }
        progress = true;
      }
  }
  for (const Queue &queue : queues)
    if (SimulatedEntry *entry = headOf(queue))
      return entry->op->emitOpError("can never start: the entries of the stages wait for each "
                                    "other");
  return result;
}

//===----------------------------------------------------------------------===//
// What it says
//===----------------------------------------------------------------------===//

static bool computes(dist::EntryOpInterface op) {
  return op.getGraphAttr() || op.getBlockAttr() || op.getBytes();
}

double Simulation::compute(size_t stage) const {
  double sum = 0;
  for (const SimulatedEntry &entry : stages[stage].entries)
    if (computes(entry.op))
      sum += entry.end - entry.begin - entry.communication;
  return sum;
}

double Simulation::exposed(size_t stage) const {
  // Collectives within runs, and the union of other communication without what is computed.
  double sum = 0;
  SmallVector<std::pair<double, double>> busy, talks;
  for (SimulatedEntry entry : stages[stage].entries) {
    sum += entry.communication;
    if (computes(entry.op))
      busy.push_back({entry.begin, entry.end});
    else if (entry.op.getCommunicatorAttr())
      talks.push_back({entry.begin, entry.end});
  }
  llvm::sort(busy);
  llvm::sort(talks);
  double until = 0; // talks before are counted
  size_t next = 0;
  for (auto [begin, end] : talks) {
    begin = std::max(begin, until);
    if (end <= begin)
      continue;
    until = end;
    double free = end - begin;
    while (next < busy.size() && busy[next].second <= begin)
      ++next;
    for (size_t i = next; i < busy.size() && busy[i].first < end; ++i)
      free -= std::min(end, busy[i].second) - std::max(begin, busy[i].first);
    sum += free;
  }
  return sum;
}

double Simulation::bubble() const {
  double sum = 0;
  for (size_t stage = 0; stage < stages.size(); ++stage)
    sum += compute(stage);
  return seconds > 0 ? 1 - sum / (seconds * double(stages.size())) : 0;
}

std::string llamac::report(const Simulation &simulation, ModuleOp module, const Machine &machine) {
  std::string text;
  llvm::raw_string_ostream os(text);
  double ranks = 1; // that share the operations of one coordinate of dp
  for (const Axis &axis : axesOf(module))
    ranks *= axis.name == "dp" ? 1 : double(axis.size);
  auto operations = module->getAttrOfType<DictionaryAttr>(kOperationsAttr);
  auto count = operations ? operations.getAs<IntegerAttr>("step") : IntegerAttr();
  auto options = module->getAttrOfType<DictionaryAttr>("llama.options");
  auto precision = options ? options.getAs<StringAttr>("precision") : StringAttr();
  double peak = machine.peak.bf16;
  if (precision && precision.getValue() != "bf16")
    peak = precision.getValue() == "f32" ? machine.peak.f32 : machine.peak.f64;
  os << llvm::format("simulated step on %s: %.6g s\n", machine.name.c_str(), simulation.seconds);
  os << llvm::format("bubble: %.2f %%\n", 100 * simulation.bubble());
  if (count)
    os << llvm::format("MFU: %.2f %% of %.4g operations per second and rank\n",
                       100 * count.getValue().roundToDouble(/*isSigned=*/false) /
                           (simulation.seconds * ranks * peak),
                       peak);
  os << "stage  compute s    load %  exposed communication s\n";
  for (size_t stage = 0; stage < simulation.stages.size(); ++stage)
    os << llvm::format("%5zu  %9.6f  %8.2f  %9.6f\n", stage, simulation.compute(stage),
                       100 * simulation.compute(stage) / simulation.seconds,
                       simulation.exposed(stage));
  return text;
}

/// What a run does, by the name of its graph: [stageS.]step.PIECE[.chunkC][.part].
namespace {
struct Piece {
  StringRef name;  ///< empty: not a run
  StringRef chunk; ///< of those that the stage holds; empty if it holds one
};
} // namespace

static Piece pieceOf(dist::EntryOpInterface op) {
  FlatSymbolRefAttr graph = op.getGraphAttr();
  if (!graph)
    return {};
  SmallVector<StringRef, 5> names;
  graph.getValue().split(names, '.');
  auto rest = ArrayRef<StringRef>(names).drop_front(names.front().starts_with("stage") ? 2 : 1);
  if (rest.empty())
    return {};
  return {rest.front(), rest.size() > 1 && rest[1].starts_with("chunk") ? rest[1] : StringRef()};
}

/// The micro-batch, or group, of a run.
static int64_t numberOf(dist::EntryOpInterface run) {
  return cast<dist::RunOp>(*run).getMicroBatch();
}

static std::string nameOf(dist::EntryOpInterface op) {
  if (StringRef piece = pieceOf(op).name; !piece.empty())
    return (piece + " " + Twine(numberOf(op))).str();
  auto collective = dyn_cast<dist::CollectiveOp>(*op);
  StringRef what = collective ? dist::stringifyCollectiveKind(collective.getKind())
                              : op->getName().stripDialect();
  FlatSymbolRefAttr communicator = op.getCommunicatorAttr();
  return communicator ? (what + " " + communicator.getValue()).str() : what.str();
}

/// What the streams of a stage carry: `compute`, else the communicator.
static std::map<int64_t, std::string> streamNames(const SimulatedStage &stage) {
  std::map<int64_t, std::string> names;
  for (SimulatedEntry entry : stage.entries) {
    FlatSymbolRefAttr communicator = entry.op.getCommunicatorAttr();
    names.try_emplace(entry.stream,
                      entry.stream && communicator ? communicator.getValue().str() : "compute");
  }
  return names;
}

std::string llamac::traceJson(const Simulation &simulation) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream json(stream);
  json.object([&] {
    json.attribute("displayTimeUnit", "ms");
    json.attributeArray("traceEvents", [&] {
      for (auto [stage, list] : llvm::enumerate(simulation.stages)) {
        json.object([&, stage = stage] {
          json.attribute("ph", "M");
          json.attribute("name", "process_name");
          json.attribute("pid", int64_t(stage));
          json.attributeObject("args",
                               [&] { json.attribute("name", "stage " + std::to_string(stage)); });
        });
        for (const auto &[stream, name] : streamNames(list))
          json.object([&, stage = stage, stream = stream, name = name] {
            json.attribute("ph", "M");
            json.attribute("name", "thread_name");
            json.attribute("pid", int64_t(stage));
            json.attribute("tid", stream);
            json.attributeObject("args", [&] { json.attribute("name", name); });
          });
        for (const SimulatedEntry &entry : list.entries)
          json.object([&, stage = stage] {
            json.attribute("ph", "X");
            json.attribute("name", nameOf(entry.op));
            json.attribute("pid", int64_t(stage));
            json.attribute("tid", entry.stream);
            json.attribute("ts", entry.begin * 1e6);
            json.attribute("dur", (entry.end - entry.begin) * 1e6);
          });
      }
    });
  });
  return text;
}

FailureOr<plan::Timeline> llamac::timelineOf(const Simulation &simulation) {
  using plan::Work;
  auto workOf = [](StringRef piece) {
    return llvm::StringSwitch<std::optional<Work>>(piece)
        .Case("forward", Work::Forward)
        .Case("backward", Work::Backward)
        .Case("backward_input", Work::BackwardInput)
        .Case("backward_weight", Work::BackwardWeight)
        .Case("encode", Work::Encode)
        .Case("states", Work::States)
        .Case("states_gradient", Work::StatesGradient)
        .Case("encode_backward", Work::EncodeBackward)
        .Default(std::nullopt);
  };
  // Chunks are numbered in the order in which the first micro-batch passes them.
  using Chunk = std::pair<size_t, StringRef>; // the stage that holds it, its name there
  SmallVector<std::pair<double, Chunk>> passed;
  for (auto [stage, list] : llvm::enumerate(simulation.stages))
    for (const SimulatedEntry &entry : list.entries)
      if (Piece piece = pieceOf(entry.op); piece.name == "forward" && numberOf(entry.op) == 0)
        passed.push_back({entry.begin, {stage, piece.chunk}});
  llvm::sort(passed);
  std::map<Chunk, int> numbers;
  for (const auto &[begin, chunk] : passed)
    numbers.try_emplace(chunk, int(numbers.size()));
  constexpr int64_t kMicroBatches = 65536; // as many as --micro-batches takes

  plan::Timeline timeline;
  timeline.seconds = simulation.seconds;
  for (auto [stage, list] : llvm::enumerate(simulation.stages)) {
    std::vector<plan::Span> &spans = timeline.stages.emplace_back();
    for (const SimulatedEntry &entry : list.entries) {
      Piece piece = pieceOf(entry.op);
      std::optional<Work> work = workOf(piece.name);
      if (!work)
        continue;
      const int64_t number = numberOf(entry.op);
      if (number >= kMicroBatches)
        return entry.op->emitOpError("expects a micro-batch below ")
               << kMicroBatches << ", got " << number;
      int chunk = -1;
      if (!plan::isEncoderWork(*work)) // one that has no forward (of an edited program) is last
        chunk = numbers.try_emplace({stage, piece.chunk}, int(numbers.size())).first->second;
      plan::Action action = {*work, chunk, int(number)};
      if (!spans.empty() && spans.back().action == action)
        spans.back().end = entry.end;
      else
        spans.push_back({action, entry.begin, entry.end});
    }
  }
  return timeline;
}
