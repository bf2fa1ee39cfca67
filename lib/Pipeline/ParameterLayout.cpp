//===- ParameterLayout.cpp - Where parameters and their state lie ---------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Three sums decide every address: where a parameter is in its unit, a unit in its segment, a
// segment among all trained elements. Padding is for all ranks of dp, whatever is sharded, so that
// more sharding never takes more memory.
//
//   segment           reduced over dp                   | reduced over dp,tp |
//   unit (by block)   embedding  | layer 0  | layer 1   | norms ...          |  one unit without
//   parameter         w          | q k v o  | q k v o   |                    |  sharding by block
//   element           0 ................................................. elements
//   masters, moments, shards of gradients: the same, divided by the ranks of dp
//   parameters        the same, then the frozen ones
//
//===----------------------------------------------------------------------===//
#include "ParameterLayout.h"

#include "llamac/Support/ArenaPlan.h"
#include "llamac/Support/Grid.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using dist::ArenaRole;

namespace {
/// Adds arenas and storage of one stage.
class LayoutBuilder {
public:
  LayoutBuilder(OpBuilder &builder, int stage, int stages, Alignment alignment)
      : builder(builder), stage(stage), stages(stages), alignment(alignment) {}

  LogicalResult collect(ArrayRef<StageParameter> parameters, Fsdp fsdp, int64_t dataRanks,
                        int64_t blocksInFlight);
  void place();
  ParameterLayout layout;

private:
  struct Place {
    const StageParameter *parameter;
    size_t segment, unit; // of a frozen one: the number among the frozen units, if sharded
    int64_t begin;        // in its unit
  };

  AddressAttr address(ArenaRole arena, int64_t elements, Type type) {
    return AddressAttr::get(
        builder.getContext(),
        FlatSymbolRefAttr::get(builder.getContext(), arenaName(arena, stage, stages > 1)),
        elements * width(type));
  }
  static int64_t width(Type type) { return type.getIntOrFloatBitWidth() / 8; }
  void declareUnit(Unit &unit, AddressAttr weights, AddressAttr gradient);

  OpBuilder &builder;
  int stage, stages;
  Alignment alignment;
  int64_t padding = kLeastPadding;            // elements to which a parameter is padded
  std::vector<Place> places;                  // of all parameters, in their order
  llvm::MapVector<ArenaRole, int64_t> arenas; // bytes
};
} // namespace

/// Whether shards of the frozen parameters and the blocks of them that are whole at once take
/// less memory than all of them whole: not on a stage of few blocks.
static bool savesByFrozenShards(ArrayRef<StageParameter> parameters, int64_t padding,
                                int64_t dataRanks, int64_t blocksInFlight) {
  llvm::MapVector<int64_t, int64_t> bytesOf; // of an application
  int64_t bytes = 0, inFlight = 0;
  for (const StageParameter &parameter : parameters) {
    llama::ParameterOp op = parameter.op;
    if (!op.getFrozen())
      continue;
    auto type = op.getTensorType();
    int64_t size =
        llvm::alignTo(type.getNumElements(), padding) * type.getElementTypeBitWidth() / 8;
    bytesOf[parameter.application] += size;
    bytes += size;
  }
  auto sizes = llvm::map_to_vector(bytesOf, [](auto &entry) { return entry.second; });
  llvm::sort(sizes, std::greater<>());
  for (int64_t size : ArrayRef(sizes).take_front(blocksInFlight))
    inFlight += size;
  return bytes / dataRanks + inFlight < bytes;
}

LogicalResult LayoutBuilder::collect(ArrayRef<StageParameter> parameters, Fsdp fsdp,
                                     int64_t dataRanks, int64_t blocksInFlight) {
  layout.fsdp = dataRanks > 1 ? fsdp : Fsdp::None;
  layout.ranks = layout.fsdp == Fsdp::None ? 1 : dataRanks;
  // So many of the narrowest type begin where they have to, and so of any other.
  auto noteType = [&](Type type) {
    padding = std::max(padding, alignment.parameters / width(type));
  };
  if (layout.gradientType)
    noteType(layout.gradientType);
  for (StageParameter parameter : parameters)
    noteType(parameter.op.getTensorType().getElementType());
  const bool shardsFrozen = layout.fsdp == Fsdp::Parameters &&
                            savesByFrozenShards(parameters, padding, dataRanks, blocksInFlight);
  // Shards of whole blocks are units of their own.
  const bool byBlock = layout.fsdp == Fsdp::Gradients || layout.fsdp == Fsdp::Parameters;
  auto unitOf = [&](std::vector<Unit> &units, const StageParameter &parameter) {
    llama::ParameterOp op = parameter.op;
    int64_t application = byBlock ? parameter.application : -1;
    auto unit = llvm::find_if(units, [&](Unit &u) { return u.application == application; });
    if (unit == units.end()) {
      units.push_back({application, op.getTensorType().getElementType(), {}, 0, 0, {}});
      unit = units.end() - 1;
    }
    unit->parameters.push_back(op.getSymName());
    return unit;
  };
  for (const StageParameter &parameter : parameters) {
    llama::ParameterOp op = parameter.op;
    const int64_t elements = llvm::alignTo(op.getTensorType().getNumElements(), padding);
    Place place = {&parameter, 0, 0, 0};
    if (op.getFrozen()) {
      if (shardsFrozen) {
        auto unit = unitOf(layout.frozen, parameter);
        place.unit = unit - layout.frozen.begin();
        place.begin = unit->elements;
        unit->elements += elements;
      }
      places.push_back(place);
      continue;
    }
    Type element = op.getTensorType().getElementType();
    if (!layout.storageType)
      layout.storageType = element;
    if (element != layout.storageType)
      return op.emitOpError("expects one storage type of all trained parameters, ")
             << layout.storageType << ", but got " << element;
    auto segment = llvm::find_if(layout.segments, [&](const Segment &s) {
      return s.reduced == parameter.reduced && s.once == parameter.once && s.tied == parameter.tied;
    });
    if (segment == layout.segments.end()) {
      layout.segments.push_back({parameter.reduced, parameter.once, parameter.tied, {}, 0, 0});
      segment = layout.segments.end() - 1;
    }
    auto unit = unitOf(segment->units, parameter);
    place.segment = segment - layout.segments.begin();
    place.unit = unit - segment->units.begin();
    place.begin = unit->elements;
    unit->elements += elements;
    places.push_back(place);
  }
  // Padded for all ranks on dp, whatever is sharded: so more sharding never takes more memory.
  for (Segment &segment : layout.segments) {
    segment.begin = layout.elements;
    for (Unit &unit : segment.units) {
      unit.begin = segment.begin + segment.elements;
      // The last one fills the segment up.
      if (&unit != &segment.units.back())
        unit.elements = llvm::alignTo(unit.elements, padding * dataRanks);
      else
        unit.elements =
            llvm::alignTo(segment.elements + unit.elements, kSegmentPadding * dataRanks) -
            segment.elements;
      segment.elements += unit.elements;
    }
    layout.elements += segment.elements;
  }
  for (Unit &unit : layout.frozen)
    unit.elements = llvm::alignTo(unit.elements, padding * layout.ranks);
  layout.masterType = layout.storageType && layout.storageType.isF64() ? Type(builder.getF64Type())
                                                                       : builder.getF32Type();
  if (!layout.gradientType)
    layout.gradientType = layout.masterType;
  return success();
}

void LayoutBuilder::declareUnit(Unit &unit, AddressAttr weights, AddressAttr gradient) {
  SmallVector<Attribute> names;
  for (StringRef name : unit.parameters)
    names.push_back(FlatSymbolRefAttr::get(builder.getContext(), name));
  // The first parameter names the unit.
  std::string symbol = (unit.parameters.front() + ".unit").str();
  if (stages > 1)
    symbol = "stage" + std::to_string(stage) + "." + symbol;
  unit.op = dist::UnitOp::create(
      builder, builder.getUnknownLoc(), symbol, builder.getArrayAttr(names), unit.elements,
      unit.type, weights, gradient, gradient ? TypeAttr::get(layout.gradientType) : TypeAttr());
}

void LayoutBuilder::place() {
  const Fsdp fsdp = layout.fsdp;
  const int64_t ranks = layout.ranks, shard = layout.elements / ranks;
  const bool shardsWeights = fsdp == Fsdp::Parameters;
  // Masters lie apart where they are not the weights.
  const bool hasMasters = layout.storageType != layout.masterType || (ranks > 1 && !shardsWeights);
  const ArenaRole masters = hasMasters ? ArenaRole::Masters : ArenaRole::Parameters;
  const ArenaRole gradients =
      fsdp == Fsdp::Optimizer ? ArenaRole::GradientShard : ArenaRole::Gradients;
  Location loc = builder.getUnknownLoc();

  arenas[ArenaRole::Parameters] = 0;
  int64_t bytes = 0; // of parameters
  if (layout.elements) {
    bytes = (shardsWeights ? shard : layout.elements) * width(layout.storageType);
    if (hasMasters)
      arenas[ArenaRole::Masters] = shard * width(layout.masterType);
    arenas[ArenaRole::Gradients] =
        (fsdp == Fsdp::None || fsdp == Fsdp::Optimizer ? layout.elements : shard) *
        width(layout.gradientType);
    if (fsdp == Fsdp::Optimizer)
      arenas[ArenaRole::GradientShard] = shard * width(layout.gradientType);
    if (ranks > 1 && !shardsWeights && layout.storageType != layout.masterType)
      arenas[ArenaRole::WeightShard] = shard * width(layout.storageType);
    arenas[ArenaRole::Moment1] = arenas[ArenaRole::Moment2] = shard * width(layout.masterType);
  }
  SmallVector<int64_t> frozenBytes; // where sharded frozen units begin
  for (Unit &unit : layout.frozen) {
    frozenBytes.push_back(bytes);
    bytes = llvm::alignTo(bytes + unit.elements / ranks * width(unit.type), alignment.values);
  }

  Operation *first = nullptr;
  for (const Place &place : places) {
    llama::ParameterOp op = place.parameter->op;
    auto symbol = FlatSymbolRefAttr::get(op.getSymNameAttr());
    Type type = op.getTensorType().getElementType();
    loc = op.getLoc();
    dist::StorageOp storage;
    if (op.getFrozen()) {
      DenseI64ArrayAttr inUnit;
      int64_t at = bytes;
      if (!layout.frozen.empty()) { // all are sharded
        at = frozenBytes[place.unit];
        inUnit = builder.getDenseI64ArrayAttr({place.begin, layout.frozen[place.unit].elements});
      } else {
        bytes = llvm::alignTo(bytes + op.getTensorType().getNumElements() * width(type),
                              alignment.values);
      }
      storage = dist::StorageOp::create(
          builder, loc, symbol, address(ArenaRole::Parameters, at / width(type), type),
          AddressAttr(), AddressAttr(), AddressAttr(), AddressAttr(), AddressAttr(), inUnit,
          inUnit ? builder.getUnitAttr() : UnitAttr());
    } else {
      const Unit &unit = layout.segments[place.segment].units[place.unit];
      // A shard is addressed by its unit; what is whole by itself.
      int64_t whole = unit.begin + place.begin, state = ranks > 1 ? unit.begin / ranks : whole;
      DenseI64ArrayAttr inUnit;
      if (ranks > 1)
        inUnit = builder.getDenseI64ArrayAttr({place.begin, unit.elements});
      storage = dist::StorageOp::create(
          builder, loc, symbol, address(ArenaRole::Parameters, shardsWeights ? state : whole, type),
          address(masters, state, layout.masterType),
          address(gradients, state, layout.gradientType),
          address(ArenaRole::Moment1, state, layout.masterType),
          address(ArenaRole::Moment2, state, layout.masterType),
          fsdp == Fsdp::Optimizer ? address(ArenaRole::Gradients, whole, layout.gradientType)
                                  : AddressAttr(),
          inUnit, shardsWeights ? builder.getUnitAttr() : UnitAttr());
    }
    if (!first)
      first = storage;
  }
  if (fsdp == Fsdp::Gradients || shardsWeights)
    for (Segment &segment : layout.segments)
      for (Unit &unit : segment.units)
        declareUnit(unit,
                    shardsWeights
                        ? address(ArenaRole::Parameters, unit.begin / ranks, layout.storageType)
                        : AddressAttr(),
                    address(ArenaRole::Gradients, unit.begin / ranks, layout.gradientType));
  for (auto [unit, at] : llvm::zip(layout.frozen, frozenBytes))
    declareUnit(unit, address(ArenaRole::Parameters, at / width(unit.type), unit.type),
                AddressAttr());
  arenas[ArenaRole::Parameters] = llvm::alignTo(bytes, alignment.values);

  OpBuilder::InsertionGuard guard(builder);
  if (first)
    builder.setInsertionPoint(first);
  for (auto [role, size] : arenas)
    dist::ArenaOp::create(builder, loc, arenaName(role, stage, stages > 1), role, size, stage);
}

FailureOr<ParameterLayout> llamac::layOutParameters(OpBuilder &builder,
                                                    ArrayRef<StageParameter> parameters,
                                                    Type gradientType, int stage, int stages,
                                                    Fsdp fsdp, int64_t dataRanks,
                                                    int64_t blocksInFlight, Alignment alignment) {
  LayoutBuilder layout(builder, stage, stages, alignment);
  layout.layout.gradientType = gradientType;
  if (failed(layout.collect(parameters, fsdp, dataRanks, blocksInFlight)))
    return failure();
  layout.place();
  return std::move(layout.layout);
}

void llamac::noteUnits(ArrayRef<func::FuncOp> functions, const ParameterLayout &layout) {
  llvm::StringMap<dist::UnitOp> unitOf;
  auto note = [&](const Unit &unit) {
    for (StringRef name : unit.parameters)
      unitOf[name] = unit.op;
  };
  for (const Segment &segment : layout.segments)
    llvm::for_each(segment.units, note);
  llvm::for_each(layout.frozen, note);

  for (func::FuncOp function : functions) {
    llvm::SetVector<Attribute> weights, gradients;
    auto add = [&](ArrayAttr names, llvm::SetVector<Attribute> &units) {
      for (auto name : names.getAsRange<FlatSymbolRefAttr>())
        if (dist::UnitOp unit = unitOf.lookup(name.getValue()))
          units.insert(FlatSymbolRefAttr::get(unit.getSymNameAttr()));
    };
    for (auto apply : function.getOps<llama::ApplyOp>()) {
      if (layout.fsdp == Fsdp::Parameters)
        add(apply.getParameters(), weights);
      add(apply.getGradients(), gradients);
    }
    Builder builder(function.getContext());
    for (auto &[name, units] :
         {std::pair(dist::kWeightsAttr, &weights), std::pair(dist::kGradientsAttr, &gradients)})
      if (!units->empty())
        function->setAttr(name, builder.getArrayAttr(units->getArrayRef()));
  }
}
