//===- GraphEmission.cpp - A graph on addresses ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An application becomes a dist.call with a buffer for each argument of its block, for each
// result that is not in the place of one, and for its scratch, in this order; a collective of
// the shard dialect becomes a dist.collective between two addresses.
//
//===----------------------------------------------------------------------===//
#include "GraphCollective.h"
#include "GraphMemory.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;
using llama::ApplyOp;

namespace {
class GraphEmitter {
public:
  GraphEmitter(FuncOp graph, const GraphLifetimes &lifetimes, const GraphPlaces &places,
               ModuleMemory &memory)
      : graph(graph), lifetimes(lifetimes), places(places), memory(memory), builder(graph) {}

  void run();

private:
  void emitInputs();
  void emitCall(ApplyOp apply, size_t position);
  void emitCollective(Operation *op);
  void emitOutputs();
  const Buffer &bufferOf(Value value) const { return places.values.find(value)->second; }

  FuncOp graph;
  const GraphLifetimes &lifetimes;
  const GraphPlaces &places;
  ModuleMemory &memory;
  OpBuilder builder;
};
} // namespace

void GraphEmitter::emitInputs() {
  ArrayAttr attributes = graph.getAllArgAttrs();
  for (BlockArgument argument : graph.getArguments()) {
    unsigned i = argument.getArgNumber();
    if (!frameOf(attributes, i))
      dist::InputOp::create(builder, graph.getLoc(),
                            graph.getArgAttrOfType<StringAttr>(i, llama::kInputAttr),
                            bufferOf(argument).address, TypeAttr::get(argument.getType()),
                            graph.getArgAttrOfType<ArrayAttr>(i, kSplitAttr),
                            graph.getArgAttrOfType<ArrayAttr>(i, dist::kImagesAttr));
  }
}

void GraphEmitter::emitCall(ApplyOp apply, size_t position) {
  SmallVector<Attribute> addresses, operands;
  auto add = [&](const Buffer &buffer) {
    addresses.push_back(buffer.address);
    operands.push_back(buffer.is);
  };
  for (Value input : apply.getInputs())
    add(bufferOf(input));
  llvm::for_each(places.parameters[position], add);
  auto block = memory.symbols.lookup<FuncOp>(apply.getBlock());
  for (unsigned r = 0; r < apply.getNumResults(); ++r)
    if (!placeOfResult(block, r))
      add(bufferOf(apply.getResult(r)));
  add(places.scratch[position]);
  auto call = dist::CallOp::create(builder, apply.getLoc(), builder.getType<dist::EventType>(),
                                   ValueRange(), apply.getBlock(), builder.getArrayAttr(addresses),
                                   IntegerAttr(), 0);
  call->setAttr(dist::kOperandsAttr, builder.getArrayAttr(operands));
  if (Attribute application = apply->getAttr(llama::kApplicationAttr))
    call->setAttr(llama::kApplicationAttr, application);
}

void GraphEmitter::emitCollective(Operation *op) {
  const Buffer &from = bufferOf(op->getOperand(0)), &to = bufferOf(op->getResult(0));
  const auto [what, over] = readCollective(op, memory.axes);
  std::string name = llvm::join(
      llvm::map_range(over, [](Attribute axis) { return cast<StringAttr>(axis).getValue(); }), ",");
  name =
      dist::CommunicatorOp::declare(memory.symbols, name, builder.getArrayAttr(over)).getSymName();
  auto collective = dist::CollectiveOp::create(
      builder, op->getLoc(), builder.getType<dist::EventType>(), ValueRange(), what.kind, name,
      dist::InstanceAttr(), dist::InstanceAttr(), from.address, to.address, what.outer,
      what.elements, what.type, what.toType == what.type ? TypeAttr() : TypeAttr::get(what.toType),
      what.maximum, false, ArrayAttr(), places.staging.lookup(op), 0);
  collective->setAttr(dist::kOperandsAttr, builder.getArrayAttr({from.is, to.is}));
  if (Attribute application = op->getAttr(llama::kApplicationAttr))
    collective->setAttr(llama::kApplicationAttr, application);
  auto placed = op->getAttrOfType<ArrayAttr>(dist::kPlacedAttr);
  if (!placed || placed.size() != 2)
    return;
  // The encoder's values have other sizes than when this was noted: those of its images.
  SmallVector<Attribute> types;
  for (auto [value, attribute] : llvm::zip(SmallVector<Value>{op->getOperand(0), op->getResult(0)},
                                           placed.getAsRange<TypeAttr>())) {
    auto local = cast<RankedTensorType>(value.getType());
    auto known = cast<RankedTensorType>(attribute.getValue());
    SmallVector<int64_t> shape(local.getShape());
    if (auto placement = dyn_cast_or_null<dist::PlacementAttr>(known.getEncoding()))
      for (auto [size, over] : llvm::zip(shape, placement.getSplit().getAsRange<ArrayAttr>()))
        size *= ranksOver(memory.axes, over);
    types.push_back(
        TypeAttr::get(RankedTensorType::get(shape, local.getElementType(), known.getEncoding())));
  }
  collective->setAttr(dist::kPlacedAttr, builder.getArrayAttr(types));
}

void GraphEmitter::emitOutputs() {
  ArrayAttr attributes = graph.getAllResultAttrs();
  for (OpOperand &output : graph.getBody().front().getTerminator()->getOpOperands()) {
    unsigned i = output.getOperandNumber();
    if (frameOf(attributes, i))
      continue;
    const Buffer &buffer = bufferOf(output.get());
    auto place = dist::OutputOp::create(
        builder, graph.getLoc(), graph.getResultAttrOfType<StringAttr>(i, llama::kOutputAttr),
        buffer.address, TypeAttr::get(output.get().getType()),
        graph.getResultAttrOfType<ArrayAttr>(i, kSplitAttr),
        graph.getResultAttrOfType<ArrayAttr>(i, kPartialAttr));
    place->setAttr(dist::kOperandsAttr, builder.getArrayAttr({buffer.is}));
  }
}

void GraphEmitter::run() {
  auto result = dist::GraphOp::create(builder, graph.getLoc(), graph.getSymNameAttr());
  if (Attribute imageAxes = graph->getAttr(dist::kImageAxesAttr))
    result->setAttr(dist::kImageAxesAttr, imageAxes);
  builder.createBlock(&result.getBody());
  for (auto [name, bytes] : places.frames)
    dist::FrameOp::create(builder, graph.getLoc(), name, bytes);
  emitInputs();
  for (auto [position, op] : llvm::enumerate(lifetimes.ops)) {
    if (auto apply = dyn_cast<ApplyOp>(op))
      emitCall(apply, position);
    else
      emitCollective(op);
  }
  emitOutputs();
}

void llamac::emitGraph(FuncOp graph, const GraphLifetimes &lifetimes, const GraphPlaces &places,
                       ModuleMemory &memory) {
  GraphEmitter(graph, lifetimes, places, memory).run();
}
