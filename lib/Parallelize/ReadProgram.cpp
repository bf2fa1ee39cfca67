//===- ReadProgram.cpp - Read a device program back into launch lists -----===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// 1. Every graph is read once: its items, and what each of them uses.
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

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Parallelize/Grid.h"
#include "llamac/Parallelize/Locations.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

#include <map>

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using dist::InstanceAttr;
using func::FuncOp;

namespace {

/// Element types as numbers, and their bytes.
const plan::ElementType kTypes[] = {{"i64", 8}, {"f64", 8}, {"f32", 4}, {"bf16", 2}};
int typeNumber(Type type) {
  return type.isInteger(64) ? 0 : type.isF64() ? 1 : type.isF32() ? 2 : type.isBF16() ? 3 : -1;
}
int64_t widthOf(Type type) { return type.getIntOrFloatBitWidth() / 8; }

/// What an item does with bytes [begin, end) of an arena (space >= 0) or of its frame
/// -1 - space. `value` >= 0: they belong to that value of the graph.
struct Use {
  int space;
  int64_t begin, end;
  int type;
  int64_t value = -1;
  bool reads, writes;
};

/// A call, a collective, an end of a transfer.
struct Item {
  int stream = 0;
  SmallVector<unsigned> after; ///< earlier items of the graph
  SmallVector<Use> uses;
  std::optional<plan::Call> call;
  std::string what;
  /// A gradient of the run that this begins, `value`, or reduces, the first of `uses`.
  std::optional<plan::Gradient> begins;
  bool reduces = false;
};

struct GraphItems {
  llvm::MapVector<StringRef, int> frames; ///< name -> number
  SmallVector<Use> inputs, outputs;
  std::vector<Item> items;
};

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
  ProgramReader(ModuleOp module, std::vector<plan::Fault> &faults)
      : module(module), symbols(module), faults(faults) {}

  FailureOr<plan::Program> read(StringRef name);

private:
  LogicalResult checkCommunicators();
  LogicalResult readStage(dist::ProgramOp program);
  LogicalResult readEntry(Operation &op);
  FailureOr<const GraphItems *> readGraph(Operation *user, StringRef name);
  LogicalResult readCall(Operation *op, StringRef block, std::optional<ArrayAttr> buffers,
                         DenseI64ArrayAttr values, const GraphItems *graph, Item &item);
  LogicalResult readCollective(dist::CollectiveOp op, const GraphItems *graph, Item &item);
  FailureOr<Use> use(Operation *op, AddressAttr address, int64_t bytes, Type type, bool reads,
                     bool writes, const GraphItems *graph);
  LogicalResult readGradients();

  int emit(const Item &item, const llvm::Twine &where, ArrayRef<Place> places, uint64_t tag);
  void await(int action, int other);
  int spaceOf(const InstanceAttr &instance);
  int communicator(StringRef name);
  int64_t ranksOf(StringRef name) { return program.communicators[communicator(name)].ranks; }
  std::string locationOf(Operation *op, const llvm::Twine &what) {
    std::string source = sourceText(op);
    return source.empty() ? what.str() : (what + ", " + source).str();
  }
  /// A name without the stage that it may begin with.
  static std::string common(StringRef name) {
    std::string result;
    while (!name.empty()) {
      size_t at = name.find("stage");
      StringRef rest = at == StringRef::npos ? StringRef() : name.drop_front(at + 5);
      StringRef after = rest.drop_while([](char c) { return llvm::isDigit(c); });
      result += name.take_front(std::min(at, name.size())).str();
      if (at == StringRef::npos)
        break;
      if (after.size() == rest.size() || !after.consume_front("."))
        result += "stage", after = rest;
      name = after;
    }
    return result;
  }
  uint64_t newValue() { return llvm::hash_combine(stage, ++values) | 1; }

  ModuleOp module;
  SymbolTable symbols;
  SymbolTableCollection collection;
  std::vector<plan::Fault> &faults;
  plan::Program program;
  SmallVector<Axis> axes;
  int64_t stages = 1;
  std::map<std::pair<StringRef, int64_t>, int> communicators; // and stage, -1: all
  llvm::StringMap<int64_t> scratch;
  Type gradientType; // in which gradients have to be summed

  // Of the stage that is being read.
  int64_t stage = 0;
  plan::RankClass *cls = nullptr;
  llvm::MapVector<StringRef, int> arenas;
  llvm::StringMap<GraphItems> graphs;
  std::map<std::pair<StringRef, int64_t>, int> instances; // frame, number -> name
  std::vector<Named> named;                               // arenas first
  llvm::DenseMap<int64_t, Named> graphValues;             // of the run
  llvm::DenseMap<int64_t, int> graphGradients;            // of the run: value -> gradient
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
    if (item.reduces) {
      auto gradient = graphGradients.find(item.uses[0].value);
      if (gradient != graphGradients.end())
        action.calls[0].gradient = gradient->second;
      else
        faults.push_back({"R9", action.location + " reduces a gradient that was not begun"});
    }
  }
  if (item.begins) {
    graphGradients[item.uses[0].value] = cls->gradients.size();
    cls->gradients.push_back(*item.begins);
    cls->gradients.back().name = (where + item.what).str();
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
// Items
//===----------------------------------------------------------------------===//

FailureOr<Use> ProgramReader::use(Operation *op, AddressAttr address, int64_t bytes, Type type,
                                  bool reads, bool writes, const GraphItems *graph) {
  if (!address)
    return op->emitOpError("expects planned memory (llama-plan-arenas)");
  StringRef name = address.getArena().getValue();
  Use result{0, address.getOffset(), address.getOffset() + bytes,
             type ? typeNumber(type) : -1,  -1, reads, writes};
  if (graph)
    if (auto *frame = graph->frames.find(name); frame != graph->frames.end()) {
      result.space = -1 - frame->second;
      return result;
    }
  auto *arena = arenas.find(name);
  if (arena == arenas.end())
    return op->emitOpError("expects an arena of stage ") << stage << ", got @" << name;
  result.space = arena->second;
  int64_t size = symbols.lookup<dist::ArenaOp>(name).getBytes();
  if (result.end > size)
    faults.push_back({"R7", locationOf(op, op->getName().getStringRef()) + " uses bytes " +
                                std::to_string(result.begin) + " to " +
                                std::to_string(result.end) + " of @" + name.str() +
                                ", which has " + std::to_string(size)});
  return result;
}

/// The buffers of a call: arguments, results not in place, scratch.
LogicalResult ProgramReader::readCall(Operation *op, StringRef name,
                                      std::optional<ArrayAttr> buffers, DenseI64ArrayAttr values,
                                      const GraphItems *graph, Item &item) {
  auto block = symbols.lookup<FuncOp>(name);
  if (!block)
    return op->emitOpError("expects a block with a type, got '") << name << "'";
  auto [bytes, isNew] = scratch.try_emplace(name, 0);
  if (isNew) {
    auto code = block->getAttrOfType<SymbolRefAttr>(kCodeAttr);
    Operation *lowered = code ? collection.lookupSymbolIn(module, code) : nullptr;
    auto function = dyn_cast_or_null<LLVM::LLVMFuncOp>(lowered);
    auto size = function ? function->getAttrOfType<IntegerAttr>(kScratchAttr) : IntegerAttr();
    if (!size)
      return op->emitOpError("expects a lowered block, but '") << name << "' has no code";
    bytes->second = size.getInt();
  }
  item.what = locationOf(op, name);
  SmallVector<Type> types(block.getArgumentTypes());
  SmallVector<bool> written(types.size(), false);
  for (unsigned r = 0; r < block.getNumResults(); ++r) {
    if (auto place = block.getResultAttrOfType<IntegerAttr>(r, llama::kInPlaceAttr);
        place && uint64_t(place.getInt()) < block.getNumArguments())
      written[place.getInt()] = true;
    else
      types.push_back(block.getResultTypes()[r]);
  }
  if (!buffers || buffers->size() != types.size() + 1)
    return op->emitOpError("expects ") << types.size() + 1 << " buffers";
  for (auto [i, attribute] : llvm::enumerate(*buffers)) {
    bool isScratch = i == types.size(), isArgument = i < block.getNumArguments();
    auto tensor = isScratch ? RankedTensorType() : cast<RankedTensorType>(types[i]);
    int64_t size = isScratch ? bytes->second
                             : tensor.getNumElements() * widthOf(tensor.getElementType());
    if (size == 0)
      continue;
    FailureOr<Use> one = use(op, cast<AddressAttr>(attribute), size,
                             isScratch ? Type() : tensor.getElementType(), isArgument,
                             !isArgument || written[i], graph);
    if (failed(one))
      return failure();
    if (values && i < size_t(values.size()) && one->space >= 0)
      one->value = values[i];
    item.uses.push_back(*one);
  }
  return success();
}

static uint32_t bitsOf(ArrayRef<Axis> axes, ArrayAttr names) {
  uint32_t bits = 0;
  for (auto [i, axis] : llvm::enumerate(axes))
    for (auto name : names.getAsRange<StringAttr>())
      if (name.getValue() == axis.name && axis.size > 1)
        bits |= 1u << i;
  return bits;
}

/// The groups of a communicator that the stage belongs to, as the check knows them.
int ProgramReader::communicator(StringRef name) {
  auto declared = symbols.lookup<dist::CommunicatorOp>(name);
  std::vector<int> classes;
  uint32_t bits = 0;
  int64_t ranks = 2, of = -1;
  if (auto edge = declared.getEdge()) {
    classes.assign(edge->begin(), edge->end());
  } else {
    bits = bitsOf(axes, *declared.getAxes());
    ranks = 1;
    bool acrossStages = false;
    for (auto [i, axis] : llvm::enumerate(axes))
      if (bits >> i & 1) {
        ranks *= axis.size;
        acrossStages |= axis.name == "pp";
      }
    if (acrossStages)
      for (int s = 0; s < stages; ++s)
        classes.push_back(s);
    else
      classes.push_back(int(of = stage));
  }
  auto [entry, isNew] = communicators.try_emplace({name, of}, int(program.communicators.size()));
  if (isNew) {
    plan::Communicator &made = program.communicators.emplace_back();
    made.name = name.str() + (of >= 0 && stages > 1 ? " of stage " + std::to_string(of) : "");
    made.classes = std::move(classes);
    made.axes = bits;
    made.ranks = ranks;
  }
  return entry->second;
}

LogicalResult ProgramReader::readCollective(dist::CollectiveOp op, const GraphItems *graph,
                                            Item &item) {
  using Kind = dist::CollectiveKind;
  if (!op.getFrom() || !op.getTo())
    return op.emitOpError("expects planned memory (llama-plan-arenas)");
  Kind kind = op.getKind();
  item.what = locationOf(op, (stringifyCollectiveKind(kind) + " @" + op.getCommunicator()).str());
  item.stream = op.getStream();
  int on = communicator(op.getCommunicator());
  const plan::Communicator &group = program.communicators[on];
  Type type = op.getType(), toType = op.getToType().value_or(type);
  int64_t share = op.getOuter() * op.getElements(), whole = share * group.ranks;
  bool scatters = kind == Kind::ReduceScatter || kind == Kind::Slice;
  // A broadcast that reads no instance takes what another member has.
  bool reads = graph || kind != Kind::Broadcast || op.getReads();
  FailureOr<Use> from = use(op, *op.getFrom(), (scatters ? whole : share) * widthOf(type), type,
                            reads, false, graph);
  FailureOr<Use> to = use(op, *op.getTo(),
                          (kind == Kind::AllGather ? whole : share) * widthOf(toType), toType,
                          op.getAccumulate(), true, graph);
  if (failed(from) || failed(to))
    return failure();
  if (auto values = op->getAttrOfType<DenseI64ArrayAttr>(dist::kValuesAttr);
      values && values.size() == 2) {
    if (from->space >= 0)
      from->value = values[0];
    if (to->space >= 0)
      to->value = values[1];
  }
  item.uses = {*from, *to};
  if (kind == Kind::Slice)
    return success();
  static const std::pair<Kind, plan::CallKind> kinds[] = {
      {Kind::AllGather, plan::CallKind::AllGather},
      {Kind::AllReduce, plan::CallKind::AllReduce},
      {Kind::ReduceScatter, plan::CallKind::ReduceScatter},
      {Kind::Broadcast, plan::CallKind::Broadcast}};
  plan::Call call{};
  for (auto [one, other] : kinds)
    if (one == kind)
      call.kind = other;
  call.communicator = on;
  call.count = share;
  call.type = typeNumber(type);
  call.toType = typeNumber(toType);
  call.axes = group.axes;
  if (op.getGradients() && !graph) {
    auto unit = units.find(*op.getGradients());
    call.gradient = unit == units.end() ? -1 : unit->second;
  }
  // Which tensor it is, the same on all stages.
  if (op.getGradients())
    call.tag = llvm::hash_combine_range(
        llvm::map_range(*op.getGradients(), [](Attribute name) {
          return cast<FlatSymbolRefAttr>(name).getValue();
        }));
  else if (auto instance = op.getWrites())
    call.tag = llvm::hash_combine(common(instance->getFrame()), instance->getNumber());
  else
    call.tag = llvm::hash_combine(from->value, to->value, int(op.getMaximum()));
  item.call = call;
  return success();
}

FailureOr<const GraphItems *> ProgramReader::readGraph(Operation *user, StringRef name) {
  auto [found, isNew] = graphs.try_emplace(name);
  GraphItems &result = found->second;
  if (!isNew)
    return &result;
  auto graph = symbols.lookup<dist::GraphOp>(name);
  if (!graph)
    return user->emitOpError("expects planned memory (llama-plan-arenas)");
  for (auto frame : graph.getBody().getOps<dist::FrameOp>())
    result.frames.insert({frame.getName(), int(result.frames.size())});
  llvm::DenseMap<Operation *, unsigned> numberOf;
  for (Operation &op : graph.getBody().front()) {
    auto named = [&](auto op, bool isInput) -> LogicalResult {
      auto tensor = cast<RankedTensorType>(op.getType());
      FailureOr<Use> one =
          use(op, op.getAddress(), tensor.getNumElements() * widthOf(tensor.getElementType()),
              tensor.getElementType(), !isInput, isInput, &result);
      if (failed(one))
        return failure();
      auto values = op->template getAttrOfType<DenseI64ArrayAttr>(dist::kValuesAttr);
      if (values && values.size() == 1 && one->space >= 0)
        one->value = values[0];
      (isInput ? result.inputs : result.outputs).push_back(*one);
      return success();
    };
    Item item;
    if (auto input = dyn_cast<dist::InputOp>(op)) {
      if (failed(named(input, true)))
        return failure();
      continue;
    }
    if (auto output = dyn_cast<dist::OutputOp>(op)) {
      if (failed(named(output, false)))
        return failure();
      continue;
    }
    if (auto call = dyn_cast<dist::CallOp>(op)) {
      if (failed(readCall(call, call.getBlock(), call.getBuffers(),
                          call->getAttrOfType<DenseI64ArrayAttr>(dist::kValuesAttr), &result,
                          item)))
        return failure();
    } else if (auto collective = dyn_cast<dist::CollectiveOp>(op)) {
      if (failed(readCollective(collective, &result, item)))
        return failure();
      item.reduces = collective.getGradients() && collective.getAccumulate();
    } else if (auto zero = dyn_cast<dist::ZeroOp>(op)) {
      FailureOr<Use> one = use(zero, zero.getAddress().value_or(AddressAttr()), zero.getBytes(),
                               Type(), false, true, &result);
      if (failed(one))
        return failure();
      auto values = zero->getAttrOfType<DenseI64ArrayAttr>(dist::kValuesAttr);
      if (values && values.size() == 1 && values[0] >= 0) {
        // The gradient of a unit over one micro-batch; its sum over dp goes to the shards.
        one->value = values[0];
        plan::Gradient gradient{"", 0, 0, typeNumber(gradientType)};
        gradient.count = zero.getBytes() / widthOf(gradientType);
        for (auto [i, axis] : llvm::enumerate(axes))
          if (axis.name == "dp" && axis.size > 1) {
            gradient.partialAxes |= 1u << i;
            gradient.count /= axis.size;
          }
        item.begins = gradient;
      }
      item.uses.push_back(*one);
      item.what = locationOf(zero, "gradient of value " + Twine(one->value));
    } else {
      continue;
    }
    for (Value event : op.getOperands())
      if (auto other = numberOf.find(event.getDefiningOp()); other != numberOf.end())
        item.after.push_back(other->second);
    numberOf[&op] = result.items.size();
    result.items.push_back(std::move(item));
  }
  return &result;
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
    FailureOr<const GraphItems *> graph = readGraph(&op, run.getGraph());
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
      FailureOr<Use> at = use(&op, address, 0, Type(), true, true, nullptr);
      if (failed(at))
        return failure();
      // The graph's frames are in its own order.
      places.push_back({spaceOf(used[i]), used[i].getOffset(), at->space, at->begin});
    }
    graphValues.clear();
    graphGradients.clear();
    const int64_t number = run.getMicroBatch();
    std::string where = (run.getGraph() + " " + Twine(number)).str();
    where = common(where);
    tag = llvm::hash_combine(common(run.getGraph()), number);
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
      FailureOr<Use> one = use(op, address, op.getElements() * widthOf(op.getType()), op.getType(),
                               sends, !sends, nullptr);
      auto edge = symbols.lookup<dist::CommunicatorOp>(op.getCommunicator()).getEdge();
      if (failed(one) || !edge)
        return failure(); // the verifier has seen the edge
      if ((sends ? (*edge)[0] : (*edge)[1]) != stage)
        return op.emitOpError("expects to be on stage ")
               << (sends ? (*edge)[0] : (*edge)[1]) << ", got " << stage;
      through(*one, op.getInstance());
      item.uses.push_back(*one);
      plan::Call call{};
      call.kind = sends ? plan::CallKind::Send : plan::CallKind::Receive;
      call.communicator = communicator(op.getCommunicator());
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
      if (failed(readCollective(collective, nullptr, item)))
        return failure();
      if (auto instance = collective.getReads())
        through(item.uses[0], *instance);
      if (auto instance = collective.getWrites())
        through(item.uses[1], *instance);
    } else if (auto zero = dyn_cast<dist::ZeroOp>(op)) {
      FailureOr<Use> one = use(&op, zero.getAddress().value_or(AddressAttr()), zero.getBytes(),
                               Type(), false, true, nullptr);
      if (failed(one))
        return failure();
      if (auto instance = zero.getWrites())
        through(*one, *instance);
      item.uses.push_back(*one);
      item.what = locationOf(&op, "zero");
    } else if (auto norm = dyn_cast<dist::GradientNormOp>(op)) {
      if (failed(readCall(&op, norm.getBlock(), norm.getBuffers(), {}, nullptr, item)))
        return failure();
    } else if (auto update = dyn_cast<dist::UpdateOp>(op)) {
      if (failed(readCall(&op, update.getBlock(), update.getBuffers(), {}, nullptr, item)))
        return failure();
      for (auto [stream, last] : lastOfStream) // all that stands before it is done
        after.push_back(last);
    } else if (auto statistics = dyn_cast<dist::StatisticsOp>(op)) {
      FailureOr<Use> one = use(&op, statistics.getAddress().value_or(AddressAttr()), 16,
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
  }
  doneBy[&op] = done;
  return success();
}

//===----------------------------------------------------------------------===//
// Gradients
//===----------------------------------------------------------------------===//

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
    auto arena = symbols.lookup<dist::ArenaOp>(op.getAddress().getArena().getAttr());
    if (int64_t(arena.getStage()) != stage)
      continue;
    storage[op.getParameter()] = op;
    parametersAt[op.getAddress()].push_back(op.getParameter());
  }
  // Parameters of the encoder, and the axes that split its images.
  llvm::StringMap<uint32_t> imageAxes;
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (int64_t(program.getStage()) != stage)
      continue;
    llvm::StringSet<> seen;
    for (auto run : program.getBody().getOps<dist::RunOp>()) {
      auto graph = symbols.lookup<dist::GraphOp>(run.getGraph());
      if (!graph || !seen.insert(run.getGraph()).second)
        continue;
      std::optional<uint32_t> split;
      for (auto input : graph.getBody().getOps<dist::InputOp>())
        if (auto images = input.getImages())
          split = bitsOf(axes, ArrayAttr::get(module.getContext(),
                                              images->getValue().drop_front()));
      if (!split)
        continue;
      auto note = [&](AddressAttr address) {
        for (StringRef name : parametersAt.lookup(address))
          imageAxes[name] = *split;
      };
      for (auto call : graph.getBody().getOps<dist::CallOp>())
        for (auto address : call.getBuffers().getAsRange<AddressAttr>())
          note(address);
      for (auto gather : graph.getBody().getOps<dist::CollectiveOp>())
        if (gather.getFrom())
          note(*gather.getFrom());
    }
  }
  // What is sharded and has no sum of the step beside it is reduced over dp in the graphs.
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
      bits |= bitsOf(axes, *partial);
    for (auto [i, axis] : llvm::enumerate(axes))
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
      if (!op.getGradients() || op.getGradients()->empty() || !op.getFrom())
        continue;
      auto [unit, isNew] = units.try_emplace(*op.getGradients(), int(cls->gradients.size()));
      std::string where = locationOf(op, "a " + stringifyCollectiveKind(op.getKind()));
      const int64_t count = op.getOuter() * op.getElements();
      const bool scatters = op.getKind() == dist::CollectiveKind::ReduceScatter;
      const int64_t ranks = ranksOf(op.getCommunicator());
      const int64_t bytes = count * (scatters ? ranks : 1) * widthOf(op.getType());
      auto from = *op.getFrom();
      int64_t needed = count;
      for (auto name : op.getGradients()->getAsRange<FlatSymbolRefAttr>()) {
        auto parameter = symbols.lookup<llama::ParameterOp>(name.getAttr());
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
                {text, partialAxes(parameter), count, typeNumber(gradientType)});
          } else if (partialAxes(parameter) != cls->gradients.back().partialAxes) {
            fault("gradients of '" + cast<FlatSymbolRefAttr>((*op.getGradients())[0]).getValue() +
                  "' and '" + name.getValue() +
                  "' are partial over different axes, but reduced together by " + where);
          }
          if (!unitOf.try_emplace(name.getValue(), unit->second).second)
            fault("gradient of '" + name.getValue() +
                  "' is reduced twice, in two pieces: again by " + where);
        }
        // All of it has to be reduced: the sum of this rank, or the shard of its unit.
        bool sum = place.getGradientSum().has_value() && scatters;
        AddressAttr at = sum ? *place.getGradientSum() : *place.getGradient();
        int64_t elements = parameter.getTensorType().getNumElements();
        if (auto shard = place.getShard(); shard && !sum)
          for (const Axis &axis : axes)
            if (axis.name == "dp")
              elements = (*shard)[1] / axis.size;
        int64_t begin = at.getOffset(), end = begin + elements * widthOf(op.getType());
        if (at.getArena() != from.getArena() || begin < from.getOffset() ||
            end > from.getOffset() + bytes)
          needed = std::max(needed + 1, (end - from.getOffset()) / widthOf(op.getType()));
      }
      if (needed != count) // the check names both
        cls->gradients[unit->second].count = needed;
    }
  }
  for (auto parameter : module.getOps<llama::ParameterOp>()) {
    dist::StorageOp place = storage.lookup(parameter.getSymName());
    if (!place || !place.getGradient() || unitOf.contains(parameter.getSymName()))
      continue;
    if (uint32_t bits = partialAxes(parameter))
      cls->gradients.push_back({parameter.getSymName().str(), bits,
                                parameter.getTensorType().getNumElements(),
                                typeNumber(gradientType)});
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
        if (end < 0 || end >= stages)
          return op.emitOpError("expects stages below ") << stages << ", got " << end;
      continue;
    }
    for (auto name : op.getAxes()->getAsRange<StringAttr>())
      if (llvm::none_of(axes, [&](const Axis &axis) { return axis.name == name.getValue(); }))
        return op.emitOpError("expects axes of the grid, got '") << name.getValue() << "'";
  }
  return success();
}

LogicalResult ProgramReader::readStage(dist::ProgramOp source) {
  stage = source.getStage();
  cls = &program.classes[stage];
  cls->name = "stage " + std::to_string(stage);
  arenas.clear();
  graphs.clear();
  instances.clear();
  named.clear();
  units.clear();
  lastOfStream.clear();
  doneBy.clear();
  for (auto arena : module.getOps<dist::ArenaOp>())
    if (int64_t(arena.getStage()) == stage)
      arenas.insert({arena.getSymName(), int(arenas.size())});
  named.resize(arenas.size());

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
        if (auto *arena = arenas.find(address->getArena().getValue()); arena != arenas.end())
          if (state.insert(arena->second))
            initial(arena->second, 0, symbols.lookup<dist::ArenaOp>(arena->first).getBytes());
  for (auto update : source.getBody().getOps<dist::UpdateOp>()) {
    auto block = symbols.lookup<FuncOp>(update.getBlock());
    if (!block || block.getNumArguments() < 5 || !update.getBuffers() ||
        update.getBuffers()->size() < 5)
      continue; // said where the entry is read
    auto address = cast<AddressAttr>((*update.getBuffers())[4]);
    auto type = cast<RankedTensorType>(block.getArgumentTypes()[4]);
    if (auto *arena = arenas.find(address.getArena().getValue()); arena != arenas.end())
      initial(arena->second, address.getOffset(),
              address.getOffset() + type.getNumElements() * widthOf(type.getElementType()));
  }
  if (source.getName() == "step" && failed(readGradients()))
    return failure();

  for (Operation &op : source.getBody().front())
    if (failed(readEntry(op)))
      return failure();

  for (auto statistics : source.getBody().getOps<dist::StatisticsOp>())
    if (auto *arena = arenas.find(statistics.getAddress()->getArena().getValue());
        arena != arenas.end())
      state.insert(arena->second);
  for (int arena : state)
    for (auto [begin, rest] : named[arena])
      cls->final.push_back({arena, begin, rest.first, rest.second, false});
  return success();
}

FailureOr<plan::Program> ProgramReader::read(StringRef name) {
  axes = axesOf(module);
  SmallVector<dist::ProgramOp> programs;
  for (auto source : module.getOps<dist::ProgramOp>())
    if (source.getName() == name)
      programs.push_back(source);
  if (programs.empty())
    return module.emitError("expected a program '") << name << "' (dist.program)";
  stages = programs.size();
  for (const Axis &axis : axes)
    if (axis.name == "pp" && axis.size != stages)
      return module.emitError("expected a program '")
             << name << "' for each of " << axis.size << " stages, got " << stages;
  if (failed(checkCommunicators()))
    return failure();
  auto options = module->getAttrOfType<DictionaryAttr>("llama.options");
  auto asked = [&](StringRef option, StringRef value) {
    auto given = options ? options.getAs<StringAttr>(option) : StringAttr();
    return given && given.getValue() == value;
  };
  Builder builder(module.getContext());
  gradientType = asked("precision", "f64")      ? Type(builder.getF64Type())
                 : asked("accumulate", "bf16") ? Type(builder.getBF16Type())
                                                : Type(builder.getF32Type());
  for (const Axis &axis : axes)
    program.axes.push_back(axis.name);
  program.types.assign(std::begin(kTypes), std::end(kTypes));
  program.classes.resize(stages);
  for (dist::ProgramOp source : programs) {
    if (int64_t(source.getStage()) >= stages)
      return source.emitOpError("expects a stage below ") << stages;
    if (failed(readStage(source)))
      return failure();
  }
  return std::move(program);
}

FailureOr<plan::Program> llamac::readProgram(ModuleOp module, StringRef name,
                                             std::vector<plan::Fault> &faults) {
  return ProgramReader(module, faults).read(name);
}
