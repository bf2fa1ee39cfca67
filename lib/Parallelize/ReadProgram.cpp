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
#include "llamac/Parallelize/Certificate.h"

#include "ReadItems.h"

#include "dialects/Llama/IR/Llama.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringSet.h"

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

/// Bytes by name: where they end, and the value that was last written there.
using Named = std::map<int64_t, std::pair<int64_t, uint64_t>>;

class ProgramReader {
public:
  ProgramReader(ModuleOp module, int64_t stages, std::vector<plan::Fault> &faults)
      : module(module), items(module, stages, faults), faults(faults) {
    for (auto unit : module.getOps<dist::UnitOp>()) {
      weightsOf[dist::weightsFrame(unit.getSymName())] = unit;
      gradientOf[dist::gradientFrame(unit.getSymName())] = unit;
    }
  }

  FailureOr<plan::Program> read(ArrayRef<dist::ProgramOp> programs);

private:
  LogicalResult checkCommunicators();
  LogicalResult readStage(dist::ProgramOp program);
  LogicalResult readEntry(Operation &op);
  LogicalResult readGradients();
  void checkUnit(dist::CollectiveOp op, const Item &item);

  int emit(const Item &item, const llvm::Twine &where, ArrayRef<Place> places, uint64_t tag);
  void await(int action, int other);
  int spaceOf(const InstanceAttr &instance);
  uint64_t newValue() { return llvm::hash_combine(stage, ++values) | 1; }

  ModuleOp module;
  ItemReader items;
  std::vector<plan::Fault> &faults;
  llvm::StringMap<dist::UnitOp> weightsOf, gradientOf; // by the frame of what is whole
  plan::Program program;

  // Of the stage that is being read.
  int64_t stage = 0;
  plan::RankClass *cls = nullptr;
  std::map<std::pair<StringRef, int64_t>, int> instances; // frame, number -> name
  std::vector<Named> named;                               // arenas first
  llvm::DenseMap<int64_t, Named> graphValues;             // of the run
  std::map<std::pair<StringRef, int64_t>, int> begun; // gradients by frame and number
  uint64_t values = 0;
  std::map<int, int> lastOfStream;
  llvm::DenseMap<Operation *, int> doneBy; // entry -> its last action
  llvm::DenseMap<Attribute, int> units; // list of gradients -> its number
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
  if (entry->first < where && where < entry->second.first) {
    auto [end, value] = entry->second;
    entry->second.first = where;
    bytes.emplace(where, std::pair(end, value));
  }
}

/// Adds the action of an item and returns its number.
int ProgramReader::emit(const Item &item, const llvm::Twine &where, ArrayRef<Place> places,
                        uint64_t tag) {
  int number = cls->actions.size();
  plan::LaunchedAction &action = cls->actions.emplace_back();
  action.stream = item.stream;
  action.location = (where + item.what).str();
  if (item.call) {
    action.calls.push_back(*item.call);
    action.calls[0].tag = llvm::hash_combine(item.call->tag, tag);
  }
  lastOfStream[item.stream] = number;
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
      auto entry = bytes.upper_bound(begin);
      if (write) {
        cut(bytes, begin);
        cut(bytes, end);
        entry = bytes.lower_bound(begin);
        while (entry != bytes.end() && entry->first < end)
          entry = bytes.erase(entry);
        uint64_t value = newValue();
        bytes.emplace_hint(entry, begin, std::pair(end, value));
        add(begin + back, end + back, value);
        continue;
      }
      if (entry != bytes.begin())
        --entry;
      int64_t at = begin;
      for (; at < end && entry != bytes.end() && entry->first < end; ++entry) {
        int64_t until = std::min(end, entry->second.first);
        if (until <= at)
          continue;
        if (entry->first > at) // nothing was written there: the check will say so
          add(at + back, entry->first + back, 0);
        at = std::max(at, entry->first);
        add(at + back, until + back, entry->second.second);
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

LogicalResult ProgramReader::readEntry(Operation &op) {
  Item item;
  SmallVector<Place> places;
  uint64_t tag = 0;
  // An address that belongs to an instance is used through it.
  auto through = [&](Use &use, InstanceAttr instance) {
    places.push_back({spaceOf(instance), instance.getOffset(), use.space, use.begin});
    use.end -= use.begin;
    use.begin = 0;
    use.space = -int(places.size());
  };
  auto stream = op.getAttrOfType<IntegerAttr>("stream");
  item.stream = stream ? int(stream.getInt()) : 0;
  SmallVector<int> after;
  for (Value event : op.getOperands())
    if (auto other = doneBy.find(event.getDefiningOp()); other != doneBy.end())
      after.push_back(other->second);
  int done = -1;

  if (auto run = dyn_cast<dist::RunOp>(op)) {
    FailureOr<const GraphItems *> graph = items.readGraph(&op, run.getGraph());
    if (failed(graph))
      return failure();
    SmallVector<InstanceAttr> used;
    for (ArrayAttr list : {run.getReads(), run.getWrites()})
      llvm::append_range(used, list.getAsRange<InstanceAttr>());
    size_t given = run.getFrames() ? run.getFrames()->size() : 0;
    if (given != used.size() || given != (*graph)->frames.size())
      return op.emitOpError("expects an address for each frame of its graph");
    for (size_t i = 0; i < used.size(); ++i) {
      auto address = cast<AddressAttr>((*run.getFrames())[i]);
      FailureOr<Use> at = items.use(&op, address, 0, Type(), true, true, nullptr);
      if (failed(at))
        return failure();
      // The graph's frames are in its own order.
      places.push_back({spaceOf(used[i]), used[i].getOffset(), at->space, at->begin});
    }
    for (auto instance : run.getWrites().getAsRange<InstanceAttr>()) {
      StringRef frame = instance.getFrame().getValue();
      if (gradientOf.contains(frame) && !begun.count({frame, instance.getNumber()}))
        faults.push_back({"R9", locationOf(&op, run.getGraph()) + " adds to '" + frame.str() + "' " +
                                    std::to_string(instance.getNumber()) +
                                    ", which is not begun as a gradient"});
    }
    graphValues.clear();
    const int64_t number = run.getMicroBatch();
    std::string where = (run.getGraph() + " " + Twine(number)).str();
    where = withoutStages(where);
    tag = llvm::hash_combine(withoutStages(run.getGraph()), number);
    Item begin;
    begin.stream = item.stream;
    begin.uses = (*graph)->inputs;
    begin.what = locationOf(&op, where + ": begin");
    int first = emit(begin, "", places, 0);
    for (int other : after)
      await(first, other);
    llvm::SmallDenseMap<int, int> last; // other streams -> their last item
    SmallVector<int> numbers;
    for (const Item &one : (*graph)->items) {
      Item moved;
      const Item *launched = &one;
      if (one.stream == 0 && item.stream != 0) { // items without a stream are on the run's
        moved = one;
        moved.stream = item.stream;
        launched = &moved;
      }
      int action = emit(*launched, where + ": ", places, tag);
      numbers.push_back(action);
      if (launched->stream != item.stream) {
        await(action, first);
        last[launched->stream] = action;
      }
      for (unsigned other : one.after)
        await(action, numbers[other]);
    }
    if (!(*graph)->outputs.empty() || !last.empty()) {
      Item end;
      end.stream = item.stream;
      end.uses = (*graph)->outputs;
      end.what = locationOf(&op, where + ": end");
      int action = emit(end, "", places, 0);
      for (auto [stream, other] : last)
        await(action, other);
    }
    done = cls->actions.size() - 1;
  } else {
    auto transfer = [&](auto op, bool sends) -> LogicalResult {
      AddressAttr address = op.getAddress().value_or(AddressAttr());
      FailureOr<Use> one = items.use(op, address, op.getElements() * widthOf(op.getType()),
                                     op.getType(), sends, !sends, nullptr);
      auto edge = items.symbols.lookup<dist::CommunicatorOp>(op.getCommunicator()).getEdge();
      if (failed(one) || !edge)
        return failure(); // the verifier has seen the edge
      if ((sends ? (*edge)[0] : (*edge)[1]) != stage)
        return op.emitOpError("expects to be on stage ")
               << (sends ? (*edge)[0] : (*edge)[1]) << ", got " << stage;
      through(*one, op.getInstance());
      item.uses.push_back(*one);
      plan::Call call{};
      call.kind = sends ? plan::CallKind::Send : plan::CallKind::Receive;
      call.communicator = items.communicator(op.getCommunicator());
      call.peer = int(sends ? (*edge)[1] : (*edge)[0]);
      call.tag = llvm::hash_combine_range(op.getTag());
      call.count = op.getElements();
      call.type = call.toType = typeNumber(op.getType());
      item.call = call;
      ArrayRef<int64_t> tag = op.getTag();
      item.what = locationOf(op, (sends ? "send of " : "receive of ") + Twine("chunk ") +
                                     Twine(tag[0]) + ", micro-batch " + Twine(tag[1]) +
                                     ", value " + Twine(tag[2]));
      return success();
    };
    if (auto send = dyn_cast<dist::SendOp>(op)) {
      if (failed(transfer(send, true)))
        return failure();
    } else if (auto receive = dyn_cast<dist::ReceiveOp>(op)) {
      if (failed(transfer(receive, false)))
        return failure();
    } else if (auto collective = dyn_cast<dist::CollectiveOp>(op)) {
      if (failed(items.readCollective(collective, nullptr, item)))
        return failure();
      auto names = collective.getGradients();
      if (auto instance = collective.getReads(); names && instance && item.call) {
        auto gradient = begun.find({instance->getFrame().getValue(), instance->getNumber()});
        if (gradient != begun.end())
          item.call->gradient = gradient->second;
        else
          faults.push_back({"R9", item.what + " reduces a gradient that was not begun"});
      } else if (names && item.call) {
        if (auto unit = units.find(*names); unit != units.end())
          item.call->gradient = unit->second;
      }
      checkUnit(collective, item);
      if (auto instance = collective.getReads())
        through(item.uses[0], *instance);
      if (auto instance = collective.getWrites())
        through(item.uses[1], *instance);
    } else if (auto zero = dyn_cast<dist::ZeroOp>(op)) {
      FailureOr<Use> one = items.use(&op, zero.getAddress().value_or(AddressAttr()),
                                     zero.getBytes(), Type(), false, true, nullptr);
      if (failed(one))
        return failure();
      if (auto instance = zero.getWrites())
        through(*one, *instance);
      item.uses.push_back(*one);
      item.what = locationOf(&op, "zero");
      if (zero.getGradients() && zero.getWrites()) {
        // The gradient of a unit over one run; its sum over dp goes to the shards.
        InstanceAttr instance = *zero.getWrites();
        StringRef frame = instance.getFrame().getValue();
        item.what = locationOf(&op, frame + " " + Twine(instance.getNumber()));
        plan::Gradient gradient{item.what, 0, 0, typeNumber(items.gradientType)};
        gradient.count = zero.getBytes() / widthOf(items.gradientType);
        for (auto [i, axis] : llvm::enumerate(items.axes))
          if (axis.name == "dp" && axis.size > 1) {
            gradient.partialAxes |= 1u << i;
            gradient.count /= axis.size;
          }
        begun[{frame, instance.getNumber()}] = int(cls->gradients.size());
        cls->gradients.push_back(gradient);
      }
    } else if (auto norm = dyn_cast<dist::GradientNormOp>(op)) {
      if (failed(items.readCall(&op, norm.getBlock(), norm.getBuffers(), {}, nullptr, item)))
        return failure();
    } else if (auto update = dyn_cast<dist::UpdateOp>(op)) {
      if (failed(items.readCall(&op, update.getBlock(), update.getBuffers(), {}, nullptr, item)))
        return failure();
      for (auto [stream, last] : lastOfStream) // all that stands before it is done
        after.push_back(last);
    } else if (auto statistics = dyn_cast<dist::StatisticsOp>(op)) {
      FailureOr<Use> one = items.use(&op, statistics.getAddress().value_or(AddressAttr()), 16,
                                     Float64Type::get(op.getContext()), false, true, nullptr);
      if (failed(one))
        return failure();
      item.uses.push_back(*one);
      item.what = locationOf(&op, "statistics");
    } else {
      return op.emitOpError("is no entry of a program that can be checked");
    }
    done = emit(item, "", places, tag);
    for (int other : after)
      if (other != done)
        await(done, other);
    if (isa<dist::GradientNormOp>(op)) {
      // The statistics take the result at once: the next norm may be at the same place.
      Item taken;
      taken.stream = item.stream;
      taken.what = item.what + ": result";
      for (Use use : item.uses)
        if (use.writes && use.type >= 0) {
          use.reads = true;
          use.writes = false;
          taken.uses.push_back(use);
        }
      done = emit(taken, "", places, tag);
    }
  }
  doneBy[&op] = done;
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
  auto isOf = [&](dist::UnitOp unit, std::optional<AddressAttr> shard,
                  std::optional<AddressAttr> address) {
    return shard == address && elements == int64_t(unit.getElements());
  };
  if (dist::UnitOp unit = unitOf(weightsOf, op.getWrites()))
    if (op.getKind() != dist::CollectiveKind::AllGather ||
        !isOf(unit, unit.getWeights(), op.getFrom()) || op.getType() != unit.getType())
      faults.push_back({"R7", item.what + " does not gather the weights of '" +
                                  unit.getSymName().str() + "' from their shards"});
  if (dist::UnitOp unit = unitOf(gradientOf, op.getReads()))
    if (op.getKind() != dist::CollectiveKind::ReduceScatter || !op.getAccumulate() ||
        !isOf(unit, unit.getGradient(), op.getTo()) ||
        op.getGradients() != unit.getParameters())
      faults.push_back({"R9", item.what + " does not add the gradient of '" +
                                  unit.getSymName().str() + "' to its shards"});
}

/// The gradients of the stage: one unit for each list of parameters that are reduced
/// together. What the check needs to know of a unit is found from its parameters, not from
/// its collectives.
LogicalResult ProgramReader::readGradients() {
  auto fault = [&](const Twine &message) { faults.push_back({"R9", message.str()}); };
  llvm::StringMap<dist::StorageOp> storage;
  llvm::StringMap<unsigned> stagesOf;
  llvm::DenseMap<AddressAttr, SmallVector<StringRef>> parametersAt; // a unit has one address
  for (auto op : module.getOps<dist::StorageOp>()) {
    ++stagesOf[op.getParameter()];
    auto arena = items.symbols.lookup<dist::ArenaOp>(op.getAddress().getArena().getAttr());
    if (int64_t(arena.getStage()) != stage)
      continue;
    storage[op.getParameter()] = op;
    parametersAt[op.getAddress()].push_back(op.getParameter());
  }
  // Parameters of the encoder, and the axes that split its images. Their gathered weights
  // are known by the shards that were gathered.
  llvm::StringMap<uint32_t> imageAxes;
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (int64_t(program.getStage()) != stage)
      continue;
    llvm::DenseMap<StringAttr, AddressAttr> shardOf; // of the frame of whole weights
    for (auto gather : program.getBody().getOps<dist::CollectiveOp>())
      if (gather.getWrites() && gather.getFrom() && !gather.getReads())
        shardOf[gather.getWrites()->getFrame()] = *gather.getFrom();
    llvm::StringSet<> seen;
    for (auto run : program.getBody().getOps<dist::RunOp>()) {
      auto graph = items.symbols.lookup<dist::GraphOp>(run.getGraph());
      auto split = graph ? graph->getAttrOfType<ArrayAttr>(dist::kImageAxesAttr) : ArrayAttr();
      if (!split || !seen.insert(run.getGraph()).second)
        continue;
      auto note = [&](AddressAttr address) {
        for (StringRef name : parametersAt.lookup(address))
          imageAxes[name] = bitsOf(items.axes, split);
      };
      for (auto call : graph.getBody().getOps<dist::CallOp>())
        for (auto address : call.getBuffers().getAsRange<AddressAttr>())
          note(address);
      for (auto instance : run.getReads().getAsRange<InstanceAttr>())
        if (AddressAttr shard = shardOf.lookup(instance.getFrame()))
          note(shard);
    }
  }
  // What is sharded and has no sum of the step beside it is reduced over dp after every run.
  auto isInShards = [&](StringRef name) {
    dist::StorageOp place = storage.lookup(name);
    return place && place.getShard() && !place.getGradientSum();
  };
  auto partialAxes = [&](llama::ParameterOp parameter) {
    uint32_t bits = 0;
    auto image = imageAxes.find(parameter.getSymName());
    if (image != imageAxes.end())
      bits |= image->second;
    if (auto partial = parameter.getPartial())
      bits |= bitsOf(items.axes, *partial);
    for (auto [i, axis] : llvm::enumerate(items.axes))
      if (axis.size > 1 &&
          ((axis.name == "dp" && !isInShards(parameter.getSymName())) ||
           (axis.name == "pp" && image == imageAxes.end() &&
            stagesOf[parameter.getSymName()] > 1)))
        bits |= 1u << i;
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
        dist::StorageOp place = storage.lookup(name.getValue());
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
    dist::StorageOp place = storage.lookup(parameter.getSymName());
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
      if (llvm::none_of(items.axes,
                        [&](const Axis &axis) { return axis.name == name.getValue(); }))
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
  lastOfStream.clear();
  doneBy.clear();
  named.resize(items.arenas.size());

  // State is there before and after; hyperparameters are before.
  llvm::SetVector<int> state;
  auto initial = [&](int arena, int64_t begin, int64_t end) {
    uint64_t value = newValue();
    named[arena][begin] = {end, value};
    cls->initial.push_back({arena, begin, end, value, false});
  };
  for (auto storage : module.getOps<dist::StorageOp>())
    for (std::optional<AddressAttr> address :
         {std::optional(storage.getAddress()), storage.getMaster(), storage.getMoment1(),
          storage.getMoment2()})
      if (address)
        if (auto *arena = items.arenas.find(address->getArena().getValue());
            arena != items.arenas.end())
          if (state.insert(arena->second))
            initial(arena->second, 0,
                    items.symbols.lookup<dist::ArenaOp>(arena->first).getBytes());
  for (auto update : source.getBody().getOps<dist::UpdateOp>()) {
    auto block = items.symbols.lookup<FuncOp>(update.getBlock());
    if (!block || block.getNumArguments() < 5 || !update.getBuffers() ||
        update.getBuffers()->size() < 5)
      continue; // said where the entry is read
    auto address = cast<AddressAttr>((*update.getBuffers())[4]);
    auto type = cast<RankedTensorType>(block.getArgumentTypes()[4]);
    if (auto *arena = items.arenas.find(address.getArena().getValue());
        arena != items.arenas.end())
      initial(arena->second, address.getOffset(),
              address.getOffset() + type.getNumElements() * widthOf(type.getElementType()));
  }
  if (source.getName() == "step" && failed(readGradients()))
    return failure();

  for (Operation &op : source.getBody().front())
    if (failed(readEntry(op)))
      return failure();

  for (auto statistics : source.getBody().getOps<dist::StatisticsOp>())
    if (auto *arena = items.arenas.find(statistics.getAddress()->getArena().getValue());
        arena != items.arenas.end())
      state.insert(arena->second);
  for (int arena : state)
    for (auto [begin, rest] : named[arena])
      cls->final.push_back({arena, begin, rest.first, rest.second, false});
  return success();
}

FailureOr<plan::Program> ProgramReader::read(ArrayRef<dist::ProgramOp> programs) {
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
  program.communicators = std::move(items.communicators);
  return std::move(program);
}

FailureOr<plan::Program> llamac::readProgram(ModuleOp module, StringRef name,
                                             std::vector<plan::Fault> &faults) {
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
