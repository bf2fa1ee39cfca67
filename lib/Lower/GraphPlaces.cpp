//===- GraphPlaces.cpp - Where the values of a graph lie ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What leaves for another graph lies in a frame, whose offsets are known, and whole weights
// and gradients of units in the frames of the units. ArenaPlan.h solves the rest: values that
// stay within the graph, and the scratch memory of each op, which lives at its position; so
// does what a collective has beside its values.
//
//===----------------------------------------------------------------------===//
#include "GraphCollective.h"
#include "GraphMemory.h"

#include "llamac/Lower/Passes.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using func::FuncOp;
using llama::ApplyOp;
using Kind = dist::OperandKind;

ArrayAttr llamac::frameOf(ArrayAttr attributes, unsigned index) {
  if (!attributes || index >= attributes.size())
    return {};
  return cast<DictionaryAttr>(attributes[index]).getAs<ArrayAttr>(dist::kFrameAttr);
}

namespace {
class PlaceFinder {
public:
  PlaceFinder(FuncOp graph, int64_t stage, const GraphLifetimes &lifetimes, ModuleMemory &memory)
      : graph(graph), stage(stage), lifetimes(lifetimes), memory(memory) {}

  LogicalResult run();
  GraphPlaces result;

private:
  void placeArguments();
  LogicalResult placeUnits(StringRef attribute, bool gradients);
  LogicalResult placeOutputs();
  LogicalResult placeInWorkspace();
  LogicalResult placeParameters();
  LogicalResult checkConsecutive(ApplyOp apply, FuncOp block, ArrayRef<Buffer> parameters);
  FailureOr<Buffer> placeParameter(ApplyOp apply, FlatSymbolRefAttr parameter, bool isGradient,
                                   Type type);

  dist::OperandAttr is(Kind kind, Attribute what = {}) {
    return dist::OperandAttr::get(graph.getContext(), kind, what);
  }
  AddressAttr inFrame(StringAttr frame, int64_t offset) {
    return AddressAttr::get(graph.getContext(), FlatSymbolRefAttr::get(frame), offset);
  }
  Buffer crossing(DictionaryAttr attributes, Type type);

  FuncOp graph;
  int64_t stage;
  const GraphLifetimes &lifetimes;
  ModuleMemory &memory;
  llvm::DenseMap<size_t, Buffer> fixed; // values of the graph that are not in the workspace
  llvm::DenseMap<StringAttr, StringAttr> weightsFrame, gradientFrame; // by parameter of a unit
};
} // namespace

/// What crosses to or from another graph, in the frame that its attributes name.
Buffer PlaceFinder::crossing(DictionaryAttr attributes, Type type) {
  auto frame = attributes.getAs<ArrayAttr>(dist::kFrameAttr);
  auto name = cast<StringAttr>(frame[0]);
  int64_t offset = cast<IntegerAttr>(frame[1]).getInt();
  int64_t &bytes = result.frames[name];
  bytes = std::max<int64_t>(bytes, llvm::alignTo(offset + *bytesOf(graph, type), memory.alignment));
  Attribute what = attributes.get(dist::kCrossingAttr);
  if (!what) // of a graph made by hand
    what = StringAttr::get(graph.getContext(), name.getValue() + " " + Twine(offset));
  return {inFrame(name, offset), is(Kind::Crossing, what)};
}

void PlaceFinder::placeArguments() {
  ArrayAttr attributes = graph.getAllArgAttrs();
  for (BlockArgument argument : graph.getArguments()) {
    unsigned i = argument.getArgNumber();
    if (frameOf(attributes, i)) {
      result.values[argument] = crossing(cast<DictionaryAttr>(attributes[i]), argument.getType());
    } else {
      auto name = graph.getArgAttrOfType<StringAttr>(i, llama::kInputAttr);
      result.values[argument] = {memory.input(stage, name), is(Kind::Input, name)};
    }
  }
}

/// Frames of the whole weights, or gradients, of the units that `attribute` of the graph names.
LogicalResult PlaceFinder::placeUnits(StringRef attribute, bool gradients) {
  auto list = graph->getAttrOfType<ArrayAttr>(attribute);
  for (Attribute symbol : list ? list.getValue() : ArrayRef<Attribute>()) {
    auto name = dyn_cast<FlatSymbolRefAttr>(symbol);
    auto unit = name ? memory.symbols.lookup<dist::UnitOp>(name.getValue()) : dist::UnitOp();
    if (!unit || !(gradients ? unit.getGradient() : unit.getWeights()))
      return graph.emitOpError("expects ")
             << symbol << " in " << attribute << " to name a dist.unit with "
             << (gradients ? "a gradient" : "weights");
    auto frame =
        StringAttr::get(graph.getContext(), gradients ? dist::gradientFrame(name.getValue())
                                                      : dist::weightsFrame(name.getValue()));
    Type type = gradients ? *unit.getGradientType() : unit.getType();
    result.frames[frame] =
        llvm::alignTo(unit.getElements() * type.getIntOrFloatBitWidth() / 8, memory.alignment);
    for (auto parameter : unit.getParameters().getAsRange<FlatSymbolRefAttr>())
      (gradients ? gradientFrame : weightsFrame)[parameter.getAttr()] = frame;
  }
  return success();
}

/// Results of the graph that have a place: a frame, or an address that entries read.
LogicalResult PlaceFinder::placeOutputs() {
  ArrayAttr attributes = graph.getAllResultAttrs();
  for (OpOperand &output : graph.getBody().front().getTerminator()->getOpOperands()) {
    const unsigned index = output.getOperandNumber();
    const size_t number = lifetimes.number.lookup(output.get());
    if (frameOf(attributes, index)) {
      fixed[number] = crossing(cast<DictionaryAttr>(attributes[index]), output.get().getType());
      continue;
    }
    auto name = graph.getResultAttrOfType<StringAttr>(index, llama::kOutputAttr);
    if (!name)
      return graph.emitOpError("expects result ")
             << index << " to have a name (" << llama::kOutputAttr << ") or a frame ("
             << dist::kFrameAttr << ")";
    if (auto address = graph.getResultAttrOfType<AddressAttr>(index, dist::kAddressAttr))
      fixed[number] = {address, is(Kind::Output, name)};
  }
  return success();
}

LogicalResult PlaceFinder::placeInWorkspace() {
  SmallVector<PlannedValue> workspace;
  SmallVector<size_t> placeOf; // of each value: its number in the workspace
  for (auto [number, value] : llvm::enumerate(lifetimes.values)) {
    placeOf.push_back(workspace.size());
    if (!fixed.contains(number))
      workspace.push_back(value);
  }
  const size_t firstScratch = workspace.size();
  SmallVector<std::pair<size_t, StagingBytes>> staged; // position of a collective
  for (auto [position, op] : llvm::enumerate(lifetimes.ops)) {
    auto apply = dyn_cast<ApplyOp>(op);
    FailureOr<int64_t> bytes = apply ? memory.scratchOf(apply, apply.getBlock()) : 0;
    if (auto staging = op->getAttrOfType<dist::StagingAttr>(dist::kStagingAttr)) {
      FailureOr<StagingBytes> all =
          memory.stagingOf(op, staging, readCollective(op, memory.axes).what);
      if (failed(all))
        return failure();
      staged.push_back({position, *all});
      bytes = all->scratch;
    }
    if (failed(bytes))
      return failure();
    workspace.push_back({int64_t(position), int64_t(position), *bytes});
  }
  const size_t firstStaged = workspace.size(); // what is packed and received, by collective
  for (const auto &[position, all] : staged)
    for (int64_t size : {all.packed, all.received})
      workspace.push_back({int64_t(position), int64_t(position), size});
  const int64_t bytes = planArena(workspace, memory.alignment);
  if (findConflict(workspace, bytes, memory.alignment))
    return graph.emitOpError("internal error: two values that live at the same time overlap");
  memory.reserve(dist::ArenaRole::Workspace, stage, bytes);

  auto address = [&](size_t i) {
    return memory.address(dist::ArenaRole::Workspace, stage, workspace[i].offset);
  };
  for (auto [value, number] : lifetimes.number) {
    if (auto place = fixed.find(number); place != fixed.end()) {
      result.values[value] = place->second;
      continue;
    }
    auto what = IntegerAttr::get(IntegerType::get(graph.getContext(), 64), int64_t(number));
    result.values[value] = {address(placeOf[number]), is(Kind::Value, what)};
  }
  for (size_t position = 0; position < lifetimes.ops.size(); ++position)
    result.scratch.push_back({address(firstScratch + position), is(Kind::Scratch)});
  for (auto [i, one] : llvm::enumerate(staged)) {
    Operation *op = lifetimes.ops[one.first];
    result.staging[op] =
        placeStaging(op->getAttrOfType<dist::StagingAttr>(dist::kStagingAttr), one.second,
                     address(firstStaged + 2 * i), address(firstStaged + 2 * i + 1),
                     result.scratch[one.first].address);
  }
  return success();
}

/// Where an application finds a parameter or, with a sharded state too, sums up its gradient.
FailureOr<Buffer> PlaceFinder::placeParameter(ApplyOp apply, FlatSymbolRefAttr parameter,
                                              bool isGradient, Type type) {
  dist::StorageOp place = memory.storageOf(stage, parameter.getAttr());
  std::optional<AddressAttr> address;
  if (place && isGradient)
    address = place.getGradientSum() ? place.getGradientSum() : place.getGradient();
  else if (place)
    address = place.getAddress();
  if (!address) {
    apply.emitOpError("expects a dist.storage of '")
        << parameter.getValue() << "' on stage " << stage << (isGradient ? " with a gradient" : "");
    return failure();
  }
  if (StringAttr frame = (isGradient ? gradientFrame : weightsFrame).lookup(parameter.getAttr())) {
    if (!place.getShard()) { // where it is in its unit
      place.emitOpError("expects a shard of its dist.unit");
      return failure();
    }
    int64_t width = cast<RankedTensorType>(type).getElementTypeBitWidth() / 8;
    address = inFrame(frame, (*place.getShard())[0] * width);
  }
  return Buffer{*address, is(isGradient ? Kind::Gradient : Kind::Weights, parameter)};
}

LogicalResult PlaceFinder::placeParameters() {
  for (Operation *op : lifetimes.ops) {
    SmallVector<Buffer> &buffers = result.parameters.emplace_back();
    auto apply = dyn_cast<ApplyOp>(op);
    if (!apply)
      continue;
    auto block = memory.symbols.lookup<FuncOp>(apply.getBlock());
    for (bool isGradient : {false, true})
      for (auto parameter : (isGradient ? apply.getGradients() : apply.getParameters())
                                .getAsRange<FlatSymbolRefAttr>()) {
        Type type = block.getArgumentTypes()[apply.getInputs().size() + buffers.size()];
        FailureOr<Buffer> buffer = placeParameter(apply, parameter, isGradient, type);
        if (failed(buffer))
          return failure();
        buffers.push_back(*buffer);
      }
    if (failed(checkConsecutive(apply, block, buffers)))
      return failure();
  }
  return success();
}

/// Arguments that the block takes for one matrix have to lie one behind the other.
LogicalResult PlaceFinder::checkConsecutive(ApplyOp apply, FuncOp block,
                                            ArrayRef<Buffer> parameters) {
  auto runs = block->getAttrOfType<ArrayAttr>(kConsecutiveAttr);
  for (Attribute run : runs ? runs.getValue() : ArrayRef<Attribute>()) {
    AddressAttr end;
    for (int64_t argument : cast<DenseI64ArrayAttr>(run).asArrayRef()) {
      const int64_t index = argument - int64_t(apply.getInputs().size());
      if (index < 0 || index >= int64_t(parameters.size()) ||
          (end && parameters[index].address != end))
        return apply.emitOpError("expects argument ")
               << argument << " of '" << apply.getBlock()
               << "' to be a parameter that lies behind the one before (" << kConsecutiveAttr
               << ")";
      AddressAttr begin = parameters[index].address;
      end =
          AddressAttr::get(graph.getContext(), begin.getArena(),
                           begin.getOffset() + *bytesOf(apply, block.getArgumentTypes()[argument]));
    }
  }
  return success();
}

LogicalResult PlaceFinder::run() {
  // Frames in the order in which a run names them.
  placeArguments();
  if (failed(placeUnits(dist::kWeightsAttr, false)) || failed(placeOutputs()) ||
      failed(placeUnits(dist::kGradientsAttr, true)) || failed(placeInWorkspace()))
    return failure();
  return placeParameters();
}

FailureOr<GraphPlaces> llamac::findPlaces(FuncOp graph, int64_t stage,
                                          const GraphLifetimes &lifetimes, ModuleMemory &memory) {
  PlaceFinder finder(graph, stage, lifetimes, memory);
  if (failed(finder.run()))
    return failure();
  return std::move(finder.result);
}
