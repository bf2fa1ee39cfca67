//===- ReadItems.cpp - What the ops of a device program do to memory ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every op that uses memory says it twice: by address, and by name (dist.operands, dist.crossing,
// dist.placed). Reading one fills a Use for each operand with its bytes by address, and what has to
// be there; where address, type or placement are not those of what is named, it is a fault.
//
//   dist.call @b(@workspace[64], @kept[0], @parameters[512], @workspace[0])
//       {dist.operands = [value 3, crossing "step.4.forward.1", weights @w, scratch]}
//
//   operand     has to be                                   its type and placement are those of
//   value       in the workspace                            every other use of the value (R7)
//   input       at the address of the graph's dist.input    the input
//   crossing    in a frame                                  the value's uses in all graphs
//   weights     where the stage's dist.storage, or the      the parameter
//   gradient    whole unit's frame, has the parameter       the parameter, in the accumulation type
//   output      at the address of a dist.output             the value's other uses
//
// A collective within a graph has the placements of its operand and result (dist.placed): which
// kind it is, over which axes, and its sizes follow from them and are compared.
//
//===----------------------------------------------------------------------===//
#include "ReadItems.h"

#include "llamac/Shard/Placement.h"

#include "llamac/Lower/Passes.h"
#include "llamac/Lower/Reserves.h"
#include "llamac/Support/Locations.h"
#include "runtime/include/llrt/ProgramFields.h"

#include "llvm/ADT/StringExtras.h"

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

uint32_t llamac::gradientAxes(ArrayRef<Axis> axes, llama::ParameterOp parameter,
                              std::optional<uint32_t> image, unsigned stages) {
  uint32_t bits = image.value_or(0);
  if (auto partial = parameter.getPartial())
    bits |= bitsOf(axes, *partial);
  for (auto [i, axis] : llvm::enumerate(axes))
    if (axis.size > 1 && (axis.name == "dp" || (axis.name == "pp" && !image && stages > 1)))
      bits |= 1u << i;
  return bits;
}

ItemReader::ItemReader(ModuleOp module, int64_t stages, const Target &target,
                       std::vector<check::Fault> &faults)
    : symbols(module), axes(axesOf(module)), stages(stages), module(module), target(target),
      faults(faults) {
  auto options = module->getAttrOfType<DictionaryAttr>("llama.options");
  auto asked = [&](StringRef option, StringRef value) {
    auto given = options ? options.getAs<StringAttr>(option) : StringAttr();
    return given && given.getValue() == value;
  };
  Builder builder(module.getContext());
  gradientType = asked("precision", "f64")     ? Type(builder.getF64Type())
                 : asked("accumulate", "bf16") ? Type(builder.getBF16Type())
                                               : Type(builder.getF32Type());
  auto precision = module->getAttrOfType<DictionaryAttr>("llama.precision");
  auto accumulation = precision ? precision.getAs<TypeAttr>("accumulation") : TypeAttr();
  if (accumulation && accumulation.getValue() != gradientType)
    fault("R9", "gradients are summed in another type than the options ask for");
  auto group = options ? options.getAs<IntegerAttr>("encoder_group") : IntegerAttr();
  groupSize = group ? std::max<int64_t>(1, group.getInt()) : 1;
}

void ItemReader::begin(int64_t number) {
  stage = number;
  arenas.clear();
  graphs.clear();
  for (auto arena : module.getOps<dist::ArenaOp>())
    if (int64_t(arena.getStage()) == stage)
      arenas.insert({arena.getSymName(), int(arenas.size())});
  storage.clear();
  stateArenas.clear();
  weightsUnit.clear();
  gradientUnit.clear();
  for (auto op : module.getOps<dist::StorageOp>())
    if (arenas.contains(op.getAddress().getArena().getValue()))
      if (!storage.try_emplace(op.getParameter(), op).second)
        fault("R7", "'" + op.getParameter() + "' has two places on stage " + Twine(stage));
  for (auto &entry : storage)
    for (auto address : {std::optional(entry.second.getAddress()), entry.second.getMaster(),
                         entry.second.getGradient(), entry.second.getMoment1(),
                         entry.second.getMoment2(), entry.second.getGradientSum()})
      if (address)
        if (auto *arena = arenas.find(address->getArena().getValue()); arena != arenas.end())
          stateArenas.insert(arena->second);
  for (auto unit : module.getOps<dist::UnitOp>()) {
    auto address = unit.getWeights() ? unit.getWeights() : unit.getGradient();
    if (address && arenas.contains(address->getArena().getValue()))
      for (auto name : unit.getParameters().getAsRange<FlatSymbolRefAttr>()) {
        if (unit.getWeights())
          weightsUnit[name.getValue()] = unit;
        if (unit.getGradient())
          gradientUnit[name.getValue()] = unit;
      }
  }
}

void ItemReader::expectNoState(const Use &use, const Twine &what) {
  if (stateArenas.contains(use.space))
    fault("R7", what + " is in an arena of parameters or their state");
}

uint64_t ItemReader::content(const Twine &name) {
  std::string text = name.str();
  uint64_t number = llvm::hash_value(StringRef(text)) | 1;
  names.try_emplace(number, std::move(text));
  return number;
}

uint64_t ItemReader::factorOf(uint32_t bits) const {
  uint64_t factor = 1;
  for (auto [i, axis] : llvm::enumerate(axes))
    if (bits >> i & 1)
      factor *= uint64_t(llvm::hash_value(StringRef(axis.name))) | 1;
  return factor;
}

AddressAttr ItemReader::placeOf(StringRef parameter, bool gradient) {
  dist::StorageOp place = storage.lookup(parameter);
  if (!place)
    return {};
  dist::UnitOp unit = (gradient ? gradientUnit : weightsUnit).lookup(parameter);
  if (unit && place.getShard()) {
    Type type = gradient ? unit.getGradientType().value_or(unit.getType()) : unit.getType();
    std::string frame =
        gradient ? dist::gradientFrame(unit.getSymName()) : dist::weightsFrame(unit.getSymName());
    return AddressAttr::get(module.getContext(), FlatSymbolRefAttr::get(module.getContext(), frame),
                            (*place.getShard())[0] * widthOf(type));
  }
  if (!gradient)
    return place.getAddress();
  return place.getGradientSum() ? *place.getGradientSum()
                                : place.getGradient().value_or(AddressAttr());
}

/// "tensor<1x8xf32>, whole": how a value lies, for messages.
static std::string textOf(const Lying &lying) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << lying.type << ", ";
  if (lying.placement)
    os << "placed " << lying.placement;
  else
    os << "whole";
  return text;
}

static Attribute encodingOf(Type type) { return cast<RankedTensorType>(type).getEncoding(); }

/// A placement, null if all is whole.
static Attribute placementOrNull(MLIRContext *context, ArrayAttr split, ArrayAttr partial,
                                 bool isMaximum) {
  bool isWhole = partial.empty();
  for (auto names : split.getAsRange<ArrayAttr>())
    isWhole &= names.empty();
  return isWhole ? Attribute()
                 : Attribute(dist::PlacementAttr::get(context, split, partial, isMaximum));
}

/// The same for what is only known by attributes of graphs: `split` of so many dimensions.
static Attribute graphPlacement(MLIRContext *context, size_t rank, std::optional<ArrayAttr> split,
                                std::optional<ArrayAttr> partial) {
  Builder b(context);
  SmallVector<Attribute> none(rank, b.getArrayAttr({}));
  return placementOrNull(context, split.value_or(b.getArrayAttr(none)),
                         partial.value_or(b.getArrayAttr({})), false);
}

/// How the image states of a group, or their gradient, lie as one dimension: split over the
/// axes of the images, then those of `placement`. A stage's part of the gradient is also
/// partial over the stages.
static Attribute flat(MLIRContext *context, Attribute placement, ArrayAttr imageAxes,
                      ArrayRef<Axis> axes, bool partOfStage) {
  Builder b(context);
  auto placed = dyn_cast_or_null<dist::PlacementAttr>(placement);
  SmallVector<Attribute> split, partial;
  if (imageAxes)
    llvm::append_range(split, imageAxes);
  if (placed)
    for (auto names : placed.getSplit().getAsRange<ArrayAttr>())
      llvm::append_range(split, names);
  for (const Axis &axis : axes)
    if ((placed && llvm::is_contained(placed.getPartial(), b.getStringAttr(axis.name))) ||
        (partOfStage && axis.name == "pp" && axis.size > 1))
      partial.push_back(b.getStringAttr(axis.name));
  return placementOrNull(context, b.getArrayAttr({b.getArrayAttr(split)}), b.getArrayAttr(partial),
                         placed && placed.getIsMaximum());
}

static bool isStates(StringRef crossing) {
  return crossing == dist::kStatesCrossing || crossing == dist::kStatesGradientCrossing;
}

/// The name of a value between graphs; that of image states says how they lie.
static std::string crossingName(StringRef crossing, Attribute placement) {
  std::string text = crossing.str();
  if (!isStates(crossing))
    return text;
  llvm::raw_string_ostream os(text);
  if (placement)
    os << " " << placement;
  return text;
}

/// Numbers of inputs begin behind those of values.
static constexpr int64_t kFirstInput = int64_t(1) << 32;

/// What an operand of a graph has to be: notes it in `use`, and says (with false) if the
/// address or the type is not that of what it names.
bool ItemReader::readOperand(Operation *op, Attribute attribute, AddressAttr address, Lying lying,
                             bool isResult, GraphItems &graph, Use &use) {
  using Kind = dist::OperandKind;
  auto operand = dyn_cast_or_null<dist::OperandAttr>(attribute);
  std::string where = locationOf(op, op->getName().getStringRef());
  if (auto call = dyn_cast<dist::CallOp>(op))
    where = locationOf(op, call.getBlock());
  auto wrong = [&](const Twine &message) {
    fault("R7", where + ": " + message);
    return false;
  };
  auto at = [&](AddressAttr one) {
    std::string text;
    llvm::raw_string_ostream(text) << one.getArena() << "[" << one.getOffset() << "]";
    return text;
  };
  if (!operand)
    return wrong("nothing says what is at " + at(address));
  auto known = [&](auto &map, auto key, const Twine &what) {
    auto [entry, isNew] = map.try_emplace(key, lying);
    Lying &first = entry->second;
    if (!isNew && !(first == lying))
      return wrong(what + " is " + textOf(lying) + ", but elsewhere " + textOf(first));
    return true;
  };
  switch (operand.getKind()) {
  case Kind::Value: {
    auto number = dyn_cast_or_null<IntegerAttr>(operand.getWhat());
    if (!number || number.getInt() < 0 || number.getInt() >= kFirstInput || use.space < 0)
      return wrong("a value of the graph is not in the workspace: " + at(address));
    use.value = number.getInt();
    return known(graph.values, number.getInt(), "value " + Twine(number.getInt()));
  }
  case Kind::Input: {
    auto name = dyn_cast_or_null<StringAttr>(operand.getWhat());
    auto input = name ? graph.named.find(name.getValue()) : graph.named.end();
    if (input == graph.named.end() || isResult)
      return wrong("names an input that the graph does not have");
    if (input->second.address != address)
      return wrong("input '" + name.getValue() + "' is at " + at(input->second.address) +
                   ", not at " + at(address));
    if (!(input->second.lying == lying))
      return wrong("input '" + name.getValue() + "' is " + textOf(input->second.lying) +
                   ", but expected " + textOf(lying));
    use.value = input->second.value;
    return true;
  }
  case Kind::Crossing: {
    auto name = dyn_cast_or_null<StringAttr>(operand.getWhat());
    if (!name || use.space >= 0)
      return wrong("a value of another graph is not in a frame: " + at(address));
    StringRef crossing = name.getValue();
    if (isStates(crossing)) {
      graph.groupFrames.insert(-1 - use.space);
      bool part = crossing == dist::kStatesGradientCrossing && !graph.imageAxes;
      use.content = content(crossingName(
          crossing, flat(module.getContext(), lying.placement, graph.imageAxes, axes, part)));
      return true;
    }
    use.content = content(crossing);
    return known(crossings, crossing, "value '" + crossing + "'");
  }
  case Kind::Weights:
  case Kind::Gradient: {
    const bool gradient = operand.getKind() == Kind::Gradient;
    auto name = dyn_cast_or_null<FlatSymbolRefAttr>(operand.getWhat());
    auto parameter =
        name ? symbols.lookup<llama::ParameterOp>(name.getValue()) : llama::ParameterOp();
    if (!parameter || isResult || gradient != use.writes)
      return wrong("names a parameter that is not there");
    AddressAttr place = placeOf(name.getValue(), gradient);
    StringRef what = gradient ? "gradient of '" : "weights of '";
    if (place != address)
      return wrong(what + name.getValue() + "' " +
                   (place ? "are at " + at(place) : "are nowhere on the stage") + ", not at " +
                   at(address));
    std::optional<ArrayAttr> partial;
    if (gradient)
      partial = parameter.getPartial();
    auto tensor = parameter.getTensorType();
    Lying want{tensor, graphPlacement(module.getContext(), tensor.getRank(), parameter.getSplit(),
                                      partial)};
    if (gradient)
      want.type = tensor.clone(gradientType);
    if (!(want == lying))
      return wrong(what + name.getValue() + "' are " + textOf(want) + ", but expected " +
                   textOf(lying));
    auto application = op->getAttrOfType<IntegerAttr>(llama::kApplicationAttr);
    if (!application)
      return wrong("expects the application that it belongs to (llama.application)");
    if (!gradient) {
      graph.weights.insert({application.getInt(), name.getValue()});
      return true;
    }
    auto [number, isNew] = parameterNumber.try_emplace(name.getValue(), int(parameters.size()));
    if (isNew)
      parameters.push_back(number->first());
    use.gradient = number->second;
    use.application = application.getInt();
    return true;
  }
  case Kind::Output: {
    auto name = dyn_cast_or_null<StringAttr>(operand.getWhat());
    auto all = op->getParentOfType<dist::GraphOp>().getBody().getOps<dist::OutputOp>();
    if (!name || use.space < 0 ||
        llvm::none_of(
            all,
            [&](dist::OutputOp output) {
              return output.getName() == name.getValue() && output.getAddress() == address;
            }))
      return wrong("names an output that is not at " + at(address));
    return known(graph.outputValues, name.getValue(), "output '" + name.getValue() + "'");
  }
  case Kind::Scratch:
    return wrong("has memory for itself where the block has an operand");
  }
  return false;
}

/// A collective between placements: kind, group and sizes follow from them.
void ItemReader::checkPlaced(dist::CollectiveOp op, ArrayAttr placed, const Twine &what) {
  using Kind = dist::CollectiveKind;
  using dist::OnAxis;
  auto wrong = [&](const Twine &message) { fault("R1", what + " " + message); };
  SmallVector<RankedTensorType> types;
  if (placed)
    for (auto type : placed.getAsRange<TypeAttr>())
      types.push_back(dyn_cast<RankedTensorType>(type.getValue()));
  if (types.size() != 2 || !types[0] || !types[1] || types[0].getShape() != types[1].getShape())
    return wrong("does not say how its value lies before and after");
  RankedTensorType local[2] = {localType(types[0], axes), localType(types[1], axes)};
  if (!local[0] || !local[1])
    return wrong("has a value that its axes do not divide");
  Placement before = placementOf(types[0], axes), after = placementOf(types[1], axes);
  std::optional<Kind> kind;
  SmallVector<StringRef> over;
  unsigned dimension = 0;
  bool maximum = false, single = true;
  size_t innermost = 0, first = axes.size(); // axis that stays split; first that changes
  for (auto [i, axis] : llvm::enumerate(axes)) {
    OnAxis b = before[i], a = after[i];
    if (b == a)
      continue;
    Kind one = b.kind == OnAxis::Split ? Kind::AllGather
               : b.isPartial() ? a.kind == OnAxis::Split ? Kind::ReduceScatter : Kind::AllReduce
                               : Kind::Slice;
    bool legal = b.kind == OnAxis::Split ? a.kind == OnAxis::Whole
                 : b.isPartial()         ? !a.isPartial()
                                         : a.kind == OnAxis::Split;
    unsigned d = b.kind == OnAxis::Split ? b.dimension : a.kind == OnAxis::Split ? a.dimension : 0;
    bool max = b.kind == OnAxis::Maximum;
    single &= legal && (!kind || (*kind == one && dimension == d && maximum == max));
    kind = one, dimension = d, maximum = max;
    first = std::min(first, i);
    over.push_back(axis.name);
  }
  for (auto [i, b] : llvm::enumerate(before))
    if (b == after[i] && b.kind == OnAxis::Split && b.dimension == dimension)
      innermost = i + 1;
  auto group = symbols.lookup<dist::CommunicatorOp>(op.getCommunicator());
  SmallVector<StringRef> got;
  if (group.getAxes())
    got = axesOf(group);
  if (!kind) {
    // The same on all of a group: from the stage that has it.
    if (op.getKind() != Kind::Broadcast || got != SmallVector<StringRef>{"pp"} ||
        int64_t(op.getOuter() * op.getElements()) != local[1].getNumElements())
      wrong("changes nothing about where its value lies");
    return;
  }
  bool moves = *kind == Kind::AllGather || *kind == Kind::ReduceScatter || *kind == Kind::Slice;
  if (!single || (moves && innermost > first))
    return wrong("cannot be one collective: its placements differ in more than one way");
  RankedTensorType share = local[*kind == Kind::AllGather ? 0 : 1];
  int64_t outer = 1;
  if (moves)
    for (int64_t size : share.getShape().take_front(dimension))
      outer *= size;
  if (op.getKind() != *kind || op.getMaximum() != maximum || op.getAccumulate())
    return wrong("has to be " + stringifyCollectiveKind(*kind) + (maximum ? ", maximum" : "") +
                 " to go from one of its placements to the other");
  if (got != over)
    return wrong("has to be over the axes " + llvm::join(over, ", "));
  if (int64_t(op.getOuter()) != outer ||
      int64_t(op.getOuter() * op.getElements()) != share.getNumElements())
    return wrong("has to move " + Twine(outer) + " x " + Twine(share.getNumElements() / outer) +
                 " elements");
  if (op.getType() != local[0].getElementType() ||
      op.getToType().value_or(op.getType()) != local[1].getElementType())
    wrong("has to be from " +
          llvm::Twine(kTypes[std::max(0, typeNumber(local[0].getElementType()))].name) + " to " +
          kTypes[std::max(0, typeNumber(local[1].getElementType()))].name);
}

FailureOr<Use> ItemReader::use(Operation *op, AddressAttr address, int64_t bytes, Type type,
                               bool reads, bool writes, const GraphItems *graph) {
  if (!address)
    return op->emitOpError("expects planned memory (llama-plan-arenas)");
  StringRef name = address.getArena().getValue();
  Use result{0,
             address.getOffset(),
             address.getOffset() + bytes,
             type ? typeNumber(type) : -1,
             -1,
             reads,
             writes};
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
                                std::to_string(result.begin) + " to " + std::to_string(result.end) +
                                " of @" + name.str() + ", which has " + std::to_string(size)});
  return result;
}

FuncOp ItemReader::readBlock(Operation *op, StringRef name) {
  auto block = symbols.lookup<FuncOp>(name);
  if (!block) {
    op->emitOpError("expects a block with a type, got '") << name << "'";
    return {};
  }
  auto [bytes, isNew] = scratch.try_emplace(name, 0);
  if (isNew) {
    auto code = block->getAttrOfType<SymbolRefAttr>(kCodeAttr);
    Operation *lowered = code ? collection.lookupSymbolIn(module, code) : nullptr;
    auto function = dyn_cast_or_null<LLVM::LLVMFuncOp>(lowered);
    auto size = function ? function->getAttrOfType<IntegerAttr>(kScratchAttr) : IntegerAttr();
    if (!size) {
      op->emitOpError("expects a lowered block, but '") << name << "' has no code";
      return {};
    }
    bytes->second = size.getInt();
    auto pointer = LLVM::LLVMPointerType::get(op->getContext());
    if (function.getFunctionType() !=
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(op->getContext()), {pointer, pointer}))
      fault("R7",
            "the code of block '" + name + "' takes other arguments than a stream and buffers");
    // The code was made for buffers of these types.
    SmallVector<int64_t> places;
    for (unsigned r = 0; r < block.getNumResults(); ++r) {
      auto place = block.getResultAttrOfType<IntegerAttr>(r, llama::kInPlaceAttr);
      places.push_back(place ? place.getInt() : -1);
    }
    Builder b(op->getContext());
    auto signature = function->getParentOp()->getAttrOfType<ArrayAttr>(kSignatureAttr);
    if (signature !=
        b.getArrayAttr({TypeAttr::get(block.getFunctionType()), b.getDenseI64ArrayAttr(places)}))
      fault("R7", "block '" + name + "' is declared with other buffers than its code has");
    if (block->getAttr(kScratchAttr) != size)
      fault("R7", "block '" + name + "' is declared with other scratch memory than its code has");
    auto names = function->getParentOp()->getAttrOfType<ArrayAttr>(kBlocksAttr);
    if (!names || !llvm::is_contained(names, b.getStringAttr(name)))
      fault("R7", "block '" + name + "' is declared with the code of another");
  }
  return block;
}

LogicalResult ItemReader::readCall(Operation *op, StringRef name, std::optional<ArrayAttr> buffers,
                                   GraphItems *graph, Item &item) {
  FuncOp block = readBlock(op, name);
  if (!block)
    return failure();
  const int64_t scratchBytes = scratch.lookup(name);
  item.what = locationOf(op, name);
  addWork(name, item);
  SmallVector<Type> types(block.getArgumentTypes());
  SmallVector<Attribute> placements;
  for (unsigned i = 0; i < block.getNumArguments(); ++i)
    placements.push_back(block.getArgAttr(i, dist::kPlacementAttr));
  SmallVector<bool> written(types.size(), false), isNeeded; // arguments; results
  for (unsigned r = 0; r < block.getNumResults(); ++r) {
    if (auto place = block.getResultAttrOfType<IntegerAttr>(r, llama::kInPlaceAttr);
        place && uint64_t(place.getInt()) < block.getNumArguments())
      written[place.getInt()] = true;
    else {
      types.push_back(block.getResultTypes()[r]);
      placements.push_back(block.getResultAttr(r, dist::kPlacementAttr));
      // What is no part of an application adds or converts.
      isNeeded.push_back(block.getResultAttr(r, llama::kGradientOfAttr) ||
                         !op->hasAttr(llama::kApplicationAttr));
    }
  }
  auto operands = op->getAttrOfType<ArrayAttr>(dist::kOperandsAttr);
  if (graph && (!operands || operands.size() != types.size() + 1))
    fault("R7", item.what + " does not say what its operands are");
  else if (graph && operands[types.size()] !=
                        dist::OperandAttr::get(op->getContext(), dist::OperandKind::Scratch, {}))
    fault("R7", item.what + " does not say that its last operand is memory for itself");
  if (!buffers || buffers->size() != types.size() + 1)
    return op->emitOpError("expects ") << types.size() + 1 << " buffers";
  for (auto [i, attribute] : llvm::enumerate(*buffers)) {
    bool isScratch = i == types.size(), isArgument = i < block.getNumArguments();
    auto tensor = isScratch ? RankedTensorType() : cast<RankedTensorType>(types[i]);
    int64_t size =
        isScratch ? scratchBytes : tensor.getNumElements() * widthOf(tensor.getElementType());
    if (size == 0)
      continue;
    FailureOr<Use> one =
        use(op, cast<AddressAttr>(attribute), size, isScratch ? Type() : tensor.getElementType(),
            isArgument, !isArgument || written[i], graph);
    if (failed(one))
      return failure();
    one->scratch = isScratch;
    if (graph && !isScratch && operands && i < operands.size())
      readOperand(op, operands[i], cast<AddressAttr>(attribute), {tensor, placements[i]},
                  !isArgument, *graph, *one);
    if (graph && !isScratch && !isArgument && one->value >= 0 &&
        isNeeded[i - block.getNumArguments()])
      graph->needed[one->value] = item.what;
    item.uses.push_back(*one);
  }
  return success();
}

void ItemReader::addWork(StringRef name, Item &item) {
  auto [entry, isNew] = works.try_emplace(name);
  if (isNew)
    entry->second = workOf(collection, module, name, target).value_or(BlockWork());
  const BlockWork &work = entry->second;
  item.work.hasProducts |= work.hasProducts;
  item.work.cluster = std::max(item.work.cluster, work.cluster);
  item.work.grid = std::max(item.work.grid, work.grid);
  for (const std::string &what : work.halts)
    item.work.halts.push_back("(block '" + name.str() + "') " + what);
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
    check::Communicator &made = communicators.emplace_back();
    made.name = name.str() + (of >= 0 && stages > 1 ? " of stage " + std::to_string(of) : "");
    made.classes = std::move(classes);
    made.axes = bits;
    made.ranks = ranks;
  }
  return entry->second;
}

/// The blocks around a collective are those that lead to its plain form and back, and their
/// memory is there.
LogicalResult ItemReader::readStaging(dist::CollectiveOp op, const dist::Collective &what,
                                      Item &item) {
  dist::StagingAttr staging = op.getStagingAttr();
  if (!staging)
    return success();
  auto wrong = [&](const Twine &message) { fault("R7", item.what + " " + message); };
  auto check = [&](FlatSymbolRefAttr symbol, FunctionType type, StringRef step) -> LogicalResult {
    if (!symbol)
      return success();
    FuncOp block = readBlock(op, symbol.getValue());
    if (!block)
      return failure();
    addWork(symbol.getValue(), item);
    const bool adds = type && type.getNumInputs() == 2;
    auto place = block.getNumResults() == 1
                     ? block.getResultAttrOfType<IntegerAttr>(0, llama::kInPlaceAttr)
                     : IntegerAttr();
    if (block.getFunctionType() != type || bool(place) != adds || (adds && place.getInt() != 1))
      wrong(step + "s by a block of other types: '" + symbol.getValue() + "'");
    if (scratch.lookup(symbol.getValue()) > staging.getBytes() || !staging.getScratch())
      wrong("has too little memory for '" + symbol.getValue() + "'");
    return success();
  };
  if (failed(check(staging.getPack(), what.packType(), "pack")) ||
      failed(check(staging.getUnpack(), what.unpackType(), "unpack")))
    return failure();
  if (!staging.getPack() && !staging.getUnpack())
    return success();
  // What one block does is of no use without the other.
  if (bool(staging.getPack()) != bool(what.packType()) ||
      bool(staging.getUnpack()) != bool(what.unpackType()))
    wrong("lacks a block between it and its plain form");
  if (bool(staging.getPacked()) != (what.packedBytes() > 0) ||
      bool(staging.getReceived()) != (what.receivedBytes() > 0))
    wrong("has no memory for its plain form");
  return success();
}

LogicalResult ItemReader::readCollective(dist::CollectiveOp op, GraphItems *graph, Item &item) {
  using Kind = dist::CollectiveKind;
  if (!op.getFrom() || !op.getTo())
    return op.emitOpError("expects planned memory (llama-plan-arenas)");
  Kind kind = op.getKind();
  item.what = locationOf(op, (stringifyCollectiveKind(kind) + " @" + op.getCommunicator()).str());
  item.stream = op.getStream();
  item.inPlace = kind == Kind::AllReduce || kind == Kind::Broadcast;
  int on = communicator(op.getCommunicator());
  if (kind != Kind::Slice)
    item.held = shareOf(symbols.lookup<dist::CommunicatorOp>(op.getCommunicator())).multiprocessors;
  const check::Communicator &group = communicators[on];
  Type type = op.getType(), toType = op.getToType().value_or(type);
  const SmallVector<dist::EntryUse> uses = op.getUses(group.ranks);
  auto read = [&](const dist::EntryUse &one, bool reads) {
    return use(op, one.address, one.bytes, one.type, reads, one.writes, graph);
  };
  FailureOr<Use> from = read(uses[0], graph || uses[0].reads);
  FailureOr<Use> to = read(uses[1], uses[1].reads);
  if (failed(from) || failed(to))
    return failure();
  auto placed = op->getAttrOfType<ArrayAttr>(dist::kPlacedAttr);
  if (graph || placed)
    checkPlaced(op, placed, item.what);
  if (graph) {
    auto operands = op->getAttrOfType<ArrayAttr>(dist::kOperandsAttr);
    if (!operands || operands.size() != 2 || !placed || placed.size() != 2) {
      fault("R7", item.what + " does not say what its operands are");
    } else {
      for (auto [i, one] : llvm::enumerate(SmallVector<Use *>{&*from, &*to})) {
        auto type = dyn_cast<TypeAttr>(placed[i]);
        auto whole = type ? dyn_cast<RankedTensorType>(type.getValue()) : RankedTensorType();
        if (whole)
          if (RankedTensorType local = localType(whole, axes))
            readOperand(op, operands[i], i ? *op.getTo() : *op.getFrom(),
                        {local, encodingOf(whole)}, i == 1, *graph, *one);
      }
    }
  } else if (auto crossing = op->getAttrOfType<StringAttr>(dist::kCrossingAttr);
             crossing && placed && placed.size() == 2) {
    for (auto [one, attribute] :
         llvm::zip(SmallVector<Use *>{&*from, &*to}, placed.getAsRange<TypeAttr>()))
      if (auto type = dyn_cast<RankedTensorType>(attribute.getValue()))
        one->content = content(crossingName(crossing.getValue(), encodingOf(type)));
  } else if (kind == Kind::AllReduce || kind == Kind::ReduceScatter) {
    item.factor = op.getMaximum() ? 0 : factorOf(group.axes);
  }
  item.uses = {*from, *to};
  for (const dist::EntryUse &one : llvm::drop_begin(uses, 2)) {
    FailureOr<Use> staged = read(one, false);
    if (failed(staged))
      return failure();
    staged->scratch = true;
    item.uses.push_back(*staged);
  }
  if (failed(readStaging(op, op.getCollective(group.ranks), item)))
    return failure();
  if (graph && to->value >= 0 && to->value < kFirstInput)
    graph->needed[to->value] = item.what;
  if (kind == Kind::Slice)
    return success();
  static const std::pair<Kind, check::CallKind> kinds[] = {
      {Kind::AllGather, check::CallKind::AllGather},
      {Kind::AllReduce, check::CallKind::AllReduce},
      {Kind::ReduceScatter, check::CallKind::ReduceScatter},
      {Kind::Broadcast, check::CallKind::Broadcast}};
  check::Call call{};
  for (auto [one, other] : kinds)
    if (one == kind)
      call.kind = other;
  call.communicator = on;
  call.count = op.getOuter() * op.getElements();
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
    call.tag = llvm::hash_combine_range(llvm::map_range(*op.getGradients(), [](Attribute name) {
      return cast<FlatSymbolRefAttr>(name).getValue();
    }));
  else if (auto instance = op.getWrites())
    call.tag = tagOf(*instance);
  else
    call.tag = llvm::hash_combine(from->value, to->value, from->content, to->content,
                                  int(op.getMaximum()));
  // What goes from rank to rank, and in pieces of which size.
  if (dist::StagingAttr staging = op.getStagingAttr())
    call.tag = llvm::hash_combine(call.tag, bool(staging.getPack() || staging.getUnpack()),
                                  staging.getBytes());
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
  result.imageAxes = graph->getAttrOfType<ArrayAttr>(dist::kImageAxesAttr);
  llvm::DenseSet<std::pair<int64_t, StringRef>> blocks; // of applications
  for (Operation &op : graph.getBody().front()) {
    auto named = [&](auto op, bool isInput) -> LogicalResult {
      auto tensor = cast<RankedTensorType>(op.getType());
      FailureOr<Use> one =
          use(op, op.getAddress(), tensor.getNumElements() * widthOf(tensor.getElementType()),
              tensor.getElementType(), !isInput, isInput, &result);
      if (failed(one))
        return failure();
      Lying lying{tensor, {}};
      if constexpr (std::is_same_v<decltype(op), dist::InputOp>) {
        lying.placement = graphPlacement(op.getContext(), tensor.getRank(), op.getSplit(), {});
        one->value = kFirstInput + int64_t(result.named.size());
        result.named[op.getName()] = {op.getAddress(), lying, one->value};
        expectNoState(*one, "input '" + op.getName() + "' of '" + name + "'");
        SmallVector<Attribute> images;
        if (op.getName().starts_with("encoder:")) {
          images.push_back(Builder(op.getContext()).getI64IntegerAttr(groupSize));
          if (result.imageAxes)
            llvm::append_range(images, result.imageAxes);
        }
        if (op.getImages().value_or(ArrayAttr::get(op.getContext(), {})).getValue() !=
            ArrayRef(images))
          fault("R7", "input '" + op.getName() + "' of '" + name +
                          "' does not count the images of a group over the axes that split them");
      } else {
        lying.placement =
            graphPlacement(op.getContext(), tensor.getRank(), op.getSplit(), op.getPartial());
        auto operands = op->template getAttrOfType<ArrayAttr>(dist::kOperandsAttr);
        readOperand(op, operands && operands.size() == 1 ? operands[0] : Attribute(),
                    op.getAddress(), lying, true, result, *one);
        if (op.getName() == llrt::known::loss)
          result.loss = op;
      }
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
      if (failed(readCall(call, call.getBlock(), call.getBuffers(), &result, item)))
        return failure();
      // An application is of one kind of layer, and has each of its parts once in a graph.
      if (auto application = call->getAttrOfType<IntegerAttr>(llama::kApplicationAttr)) {
        StringRef family = call.getBlock().split('.').first;
        if (!blocks.insert({application.getInt(), call.getBlock()}).second)
          fault("R7", item.what + " is there twice for one application");
        if (family != "add" &&
            families.try_emplace(application.getInt(), family).first->second != family)
          fault("R7", item.what + " is of another layer than the rest of its application");
      }
    } else if (auto collective = dyn_cast<dist::CollectiveOp>(op)) {
      if (failed(readCollective(collective, &result, item)))
        return failure();
    } else {
      continue;
    }
    result.items.push_back(std::move(item));
  }
  // A sum that lacks a gradient has another value that nobody reads.
  llvm::DenseSet<int64_t> read;
  for (const Use &output : result.outputs)
    read.insert(output.value);
  for (const Item &item : result.items)
    for (const Use &one : item.uses)
      if (one.reads)
        read.insert(one.value);
  for (auto &[value, what] : result.needed)
    if (!read.contains(value))
      fault("R7", "nothing in '" + name + "' reads what " + what + " gives");
  return &result;
}
