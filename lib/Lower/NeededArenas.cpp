//===- NeededArenas.cpp - Which arenas a program needs --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Programs of a stage share its arenas, and `forward` needs less of them than `step`:
//
//   @workspace   |-- step -----------------------------|
//                |-- forward ----|
//   @activations |-- step -------------------|
//                |-- forward --|
//   @moment1     |-- step -----|
//
// Of each arena a program needs what is before the last byte that it names. All that names
// bytes is walked once: entries, the graphs that they run, with frames where the run says that
// they lie, inputs and outputs. What parameters and their state lie in is needed whole: commands
// read and write all of it, to load and to save.
//
//===----------------------------------------------------------------------===//
#include "NeededArenas.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Support/Alignment.h"
#include "llamac/Support/Grid.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;

namespace {
class NeededArenas {
public:
  explicit NeededArenas(ModuleOp module) : module(module), symbols(module), axes(axesOf(module)) {}

  LogicalResult run();

private:
  LogicalResult addProgram(dist::ProgramOp program);
  LogicalResult addEntry(dist::EntryOpInterface entry);
  LogicalResult addGraph(dist::GraphOp graph);
  LogicalResult addBuffers(dist::EntryOpInterface entry);
  /// Notes `bytes` bytes at `address`, unless it is in a frame.
  void add(AddressAttr address, int64_t bytes);
  void add(AddressAttr address, Type tensor) {
    auto type = cast<RankedTensorType>(tensor);
    add(address, type.getNumElements() * type.getElementTypeBitWidth() / 8);
  }

  ModuleOp module;
  SymbolTable symbols;
  SmallVector<Axis> axes;
  llvm::DenseMap<Attribute, int64_t> ends;  // of the program, by arena
  llvm::DenseSet<Operation *> graphs;       // of the program that were added
  llvm::SmallDenseSet<Attribute, 4> frames; // of the graph that is added
};
} // namespace

void NeededArenas::add(AddressAttr address, int64_t bytes) {
  if (frames.contains(address.getArena().getAttr()))
    return;
  int64_t &end = ends[address.getArena()];
  end = std::max(end, address.getOffset() + bytes);
}

/// The buffers of a call: arguments, results that are not in place, scratch.
LogicalResult NeededArenas::addBuffers(dist::EntryOpInterface entry) {
  auto block = symbols.lookup<func::FuncOp>(entry.getBlockAttr().getAttr());
  auto scratch = block ? block->getAttrOfType<IntegerAttr>(kScratchAttr) : IntegerAttr();
  ArrayAttr buffers = entry.getBuffers().value_or(ArrayAttr());
  if (!scratch || !buffers)
    return entry->emitOpError("expects a lowered block and planned memory");
  SmallVector<Type> types(block.getArgumentTypes());
  for (unsigned r = 0; r < block.getNumResults(); ++r)
    if (!block.getResultAttr(r, llama::kInPlaceAttr))
      types.push_back(block.getResultTypes()[r]);
  if (buffers.size() != types.size() + 1)
    return entry->emitOpError("expects ") << types.size() + 1 << " buffers";
  for (auto [i, address] : llvm::enumerate(buffers.getAsRange<AddressAttr>()))
    if (i < types.size())
      add(address, types[i]);
    else
      add(address, scratch.getInt());
  return success();
}

LogicalResult NeededArenas::addEntry(dist::EntryOpInterface entry) {
  if (entry.getBlockAttr() && failed(addBuffers(entry)))
    return failure();
  dist::GraphOp graph;
  SmallVector<int64_t> frameBytes;
  if (FlatSymbolRefAttr name = entry.getGraphAttr()) {
    graph = symbols.lookup<dist::GraphOp>(name.getAttr());
    if (!graph)
      return entry->emitOpError("expects a graph whose memory is planned");
    for (auto frame : graph.getBody().getOps<dist::FrameOp>())
      frameBytes.push_back(frame.getBytes());
  }
  FlatSymbolRefAttr group = entry.getCommunicatorAttr();
  const int64_t members =
      group ? ranksOf(axes, symbols.lookup<dist::CommunicatorOp>(group.getAttr())) : 1;
  for (auto [i, use] : llvm::enumerate(entry.getUses(members)))
    if (use.address)
      add(use.address, graph && i < frameBytes.size() ? frameBytes[i] : use.bytes);
  return graph ? addGraph(graph) : success();
}

LogicalResult NeededArenas::addGraph(dist::GraphOp graph) {
  if (!graphs.insert(graph).second)
    return success();
  for (auto frame : graph.getBody().getOps<dist::FrameOp>())
    frames.insert(frame.getNameAttr());
  for (Operation &op : graph.getBody().front())
    if (auto input = dyn_cast<dist::InputOp>(op))
      add(input.getAddress(), input.getType());
    else if (auto output = dyn_cast<dist::OutputOp>(op))
      add(output.getAddress(), output.getType());
    else if (auto item = dyn_cast<dist::EntryOpInterface>(op); item && failed(addEntry(item)))
      return failure();
  frames.clear();
  return success();
}

LogicalResult NeededArenas::addProgram(dist::ProgramOp program) {
  ends.clear();
  graphs.clear();
  for (Operation &op : program.getBody().front())
    if (auto input = dyn_cast<dist::InputOp>(op))
      add(input.getAddress(), input.getType());
    else if (auto output = dyn_cast<dist::OutputOp>(op))
      add(output.getAddress(), output.getType());
    else if (failed(addEntry(cast<dist::EntryOpInterface>(op))))
      return failure();

  llvm::SmallDenseSet<Attribute, 8> whole;
  for (auto place : module.getOps<dist::StorageOp>()) {
    auto arena = symbols.lookup<dist::ArenaOp>(place.getAddress().getArena().getAttr());
    if (arena.getStage() != program.getStage())
      continue;
    add(place.getAddress(), 0);
    for (std::optional<AddressAttr> address :
         {std::optional(place.getAddress()), place.getMaster(), place.getGradient(),
          place.getMoment1(), place.getMoment2(), place.getGradientSum()})
      if (address)
        whole.insert(address->getArena());
  }
  SmallVector<Attribute> needs;
  for (auto arena : module.getOps<dist::ArenaOp>()) {
    auto name = FlatSymbolRefAttr::get(arena.getSymNameAttr());
    auto found = ends.find(name);
    if (found == ends.end())
      continue;
    const int64_t size = arena.getBytes();
    int64_t end = llvm::alignTo(found->second, alignmentOf(module));
    needs.push_back(AddressAttr::get(module.getContext(), name,
                                     whole.contains(name) ? size : std::min(end, size)));
  }
  program.setNeedsAttr(ArrayAttr::get(module.getContext(), needs));
  return success();
}

LogicalResult NeededArenas::run() {
  for (auto program : module.getOps<dist::ProgramOp>())
    if (failed(addProgram(program)))
      return failure();
  return success();
}

LogicalResult llamac::stateNeededArenas(ModuleOp module) { return NeededArenas(module).run(); }
