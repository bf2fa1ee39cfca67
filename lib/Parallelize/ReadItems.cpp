//===- ReadItems.cpp - What the ops of a device program do to memory ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ReadItems.h"

#include "dialects/Llama/IR/Llama.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Parallelize/Locations.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using func::FuncOp;

std::string llamac::locationOf(Operation *op, const llvm::Twine &what) {
  std::string source = sourceText(op);
  return source.empty() ? what.str() : (what + ", " + source).str();
}

std::string llamac::withoutStages(StringRef name) {
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

uint32_t llamac::bitsOf(ArrayRef<Axis> axes, ArrayAttr names) {
  uint32_t bits = 0;
  for (auto [i, axis] : llvm::enumerate(axes))
    for (auto name : names.getAsRange<StringAttr>())
      if (name.getValue() == axis.name && axis.size > 1)
        bits |= 1u << i;
  return bits;
}

ItemReader::ItemReader(ModuleOp module, int64_t stages, std::vector<plan::Fault> &faults)
    : symbols(module), axes(axesOf(module)), stages(stages), module(module), faults(faults) {
  auto options = module->getAttrOfType<DictionaryAttr>("llama.options");
  auto asked = [&](StringRef option, StringRef value) {
    auto given = options ? options.getAs<StringAttr>(option) : StringAttr();
    return given && given.getValue() == value;
  };
  Builder builder(module.getContext());
  gradientType = asked("precision", "f64")      ? Type(builder.getF64Type())
                 : asked("accumulate", "bf16") ? Type(builder.getBF16Type())
                                                : Type(builder.getF32Type());
}

void ItemReader::begin(int64_t number) {
  stage = number;
  arenas.clear();
  graphs.clear();
  for (auto arena : module.getOps<dist::ArenaOp>())
    if (int64_t(arena.getStage()) == stage)
      arenas.insert({arena.getSymName(), int(arenas.size())});
}

FailureOr<Use> ItemReader::use(Operation *op, AddressAttr address, int64_t bytes, Type type,
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

LogicalResult ItemReader::readCall(Operation *op, StringRef name,
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

int ItemReader::communicator(StringRef name) {
  auto declared = symbols.lookup<dist::CommunicatorOp>(name);
  std::vector<int> classes;
  uint32_t bits = 0;
  int64_t ranks = 2, of = -1;
  if (auto edge = declared.getEdge()) {
    classes.assign(edge->begin(), edge->end());
    for (auto [i, axis] : llvm::enumerate(axes))
      bits |= axis.name == "pp" ? 1u << i : 0;
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
  auto [entry, isNew] = communicatorOf.try_emplace({name, of}, int(communicators.size()));
  if (isNew) {
    plan::Communicator &made = communicators.emplace_back();
    made.name = name.str() + (of >= 0 && stages > 1 ? " of stage " + std::to_string(of) : "");
    made.classes = std::move(classes);
    made.axes = bits;
    made.ranks = ranks;
  }
  return entry->second;
}

LogicalResult ItemReader::readCollective(dist::CollectiveOp op, const GraphItems *graph,
                                            Item &item) {
  using Kind = dist::CollectiveKind;
  if (!op.getFrom() || !op.getTo())
    return op.emitOpError("expects planned memory (llama-plan-arenas)");
  Kind kind = op.getKind();
  item.what = locationOf(op, (stringifyCollectiveKind(kind) + " @" + op.getCommunicator()).str());
  item.stream = op.getStream();
  int on = communicator(op.getCommunicator());
  const plan::Communicator &group = communicators[on];
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
  // Which tensor it is, the same on all stages.
  auto tagOf = [](dist::InstanceAttr instance) {
    return llvm::hash_combine(withoutStages(instance.getFrame()), instance.getNumber());
  };
  if (op.getGradients() && op.getReads())
    call.tag = tagOf(*op.getReads());
  else if (op.getGradients())
    call.tag = llvm::hash_combine_range(
        llvm::map_range(*op.getGradients(), [](Attribute name) {
          return cast<FlatSymbolRefAttr>(name).getValue();
        }));
  else if (auto instance = op.getWrites())
    call.tag = tagOf(*instance);
  else
    call.tag = llvm::hash_combine(from->value, to->value, int(op.getMaximum()));
  item.call = call;
  return success();
}

FailureOr<const GraphItems *> ItemReader::readGraph(Operation *user, StringRef name) {
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
