//===- PlanArenas.cpp - Fix every address of a program --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Graphs of a stage run one after another and share its workspace; the largest one says how
// large it is. Each is planned by itself (GraphMemory.h). Blocks that entries call run when no
// graph does, so the whole workspace is theirs. Inputs have one place for all graphs.
//
//   @workspace  |--- values and scratch of @step.0 ----|          graph by graph
//               |---- values and scratch of @step.1 --------|
//               |- scratch of @adamw -|
//   @inputs     |input_ids|labels|positions|...|
//   @collectives|  those of stream 1  | of stream 2 |   what collectives beside compute need
//
//===----------------------------------------------------------------------===//
#include "GraphMemory.h"
#include "NeededArenas.h"

#include "llamac/Lower/Passes.h"
#include "llamac/Support/Alignment.h"
#include "llamac/Support/Grid.h"

#include "llvm/Support/MathExtras.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_PLANARENASPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using dist::ArenaRole;
using func::FuncOp;

//===----------------------------------------------------------------------===//
// ModuleMemory
//===----------------------------------------------------------------------===//

ModuleMemory::ModuleMemory(ModuleOp module, bool isPipeline)
    : module(module), symbols(module), axes(axesOf(module)), alignment(alignmentOf(module)),
      isPipeline(isPipeline) {
  for (auto place : module.getOps<dist::StorageOp>()) {
    auto arena = symbols.lookup<dist::ArenaOp>(place.getAddress().getArena().getAttr());
    storage[{int64_t(arena.getStage()), place.getParameterAttr().getAttr()}] = place;
  }
}

void ModuleMemory::reserve(ArenaRole role, int64_t stage, int64_t bytes) {
  int64_t &size = arenas[{stage, role}];
  size = std::max<int64_t>(size, llvm::alignTo(bytes, alignment));
}

AddressAttr ModuleMemory::address(ArenaRole role, int64_t stage, int64_t offset) {
  MLIRContext *context = module.getContext();
  return AddressAttr::get(
      context, FlatSymbolRefAttr::get(context, arenaName(role, stage, isPipeline)), offset);
}

LogicalResult ModuleMemory::addInputs(FuncOp graph, int64_t stage) {
  ArrayAttr attributes = graph.getAllArgAttrs();
  for (unsigned i = 0; i < graph.getNumArguments(); ++i) {
    auto name = graph.getArgAttrOfType<StringAttr>(i, llama::kInputAttr);
    Type type = graph.getArgumentTypes()[i];
    FailureOr<int64_t> bytes = bytesOf(graph, type);
    if (failed(bytes))
      return failure();
    if (frameOf(attributes, i))
      continue;
    if (!name)
      return graph.emitOpError("expects argument ") << i << " to have a name (" << llama::kInputAttr
                                                    << ") or a frame (" << dist::kFrameAttr << ")";
    int64_t offset = arenas[{stage, ArenaRole::Inputs}];
    auto [entry, isNew] =
        inputs.insert({{stage, name}, {type, address(ArenaRole::Inputs, stage, offset)}});
    if (isNew)
      reserve(ArenaRole::Inputs, stage, offset + *bytes);
    else if (entry->second.first != type)
      return graph.emitOpError("expects input '")
             << name.getValue() << "' to have one type in all graphs, but got " << type << " and "
             << entry->second.first;
  }
  return success();
}

FailureOr<int64_t> ModuleMemory::scratchOf(Operation *user, StringRef name) {
  auto [entry, isNew] = scratch.try_emplace(name, 0);
  if (!isNew)
    return entry->second;
  Operation *block = symbols.lookup(name), *declaration = block;
  if (auto code = block->getAttrOfType<SymbolRefAttr>(kCodeAttr))
    block = collection.lookupSymbolIn(module, code);
  auto bytes = block ? block->getAttrOfType<IntegerAttr>(kScratchAttr) : IntegerAttr();
  if (!bytes || bytes.getInt() < 0)
    return user->emitOpError("expects a lowered block, but '")
           << name << "' has no code with the attribute " << kScratchAttr;
  declaration->setAttr(kScratchAttr, bytes);
  return entry->second = bytes.getInt();
}

FailureOr<StagingBytes> ModuleMemory::stagingOf(Operation *user, dist::StagingAttr staging,
                                                const dist::Collective &what) {
  StagingBytes bytes = {staging.getPack() ? what.packedBytes() : 0,
                        staging.getUnpack() ? what.receivedBytes() : 0, staging.getBytes()};
  for (FlatSymbolRefAttr block : {staging.getPack(), staging.getUnpack()}) {
    FailureOr<int64_t> own = block ? scratchOf(user, block.getValue()) : 0;
    if (failed(own))
      return failure();
    bytes.scratch = std::max(bytes.scratch, *own);
  }
  return bytes;
}

dist::StagingAttr llamac::placeStaging(dist::StagingAttr staging, const StagingBytes &bytes,
                                       AddressAttr packed, AddressAttr received,
                                       AddressAttr scratch) {
  const bool calls = staging.getPack() || staging.getUnpack();
  return dist::StagingAttr::get(staging.getContext(), staging.getPack(),
                                bytes.packed ? packed : AddressAttr(),
                                bytes.received ? received : AddressAttr(), staging.getUnpack(),
                                bytes.scratch, calls || bytes.scratch ? scratch : AddressAttr());
}

void ModuleMemory::declareArenas() {
  OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
  for (auto arena : module.getOps<dist::ArenaOp>())
    builder.setInsertionPointAfter(arena);
  for (const auto &[key, bytes] : arenas) {
    auto [stage, role] = key;
    dist::ArenaOp::create(builder, module.getLoc(), arenaName(role, stage, isPipeline), role, bytes,
                          stage);
  }
  SmallVector<dist::ArenaOp> list(module.getOps<dist::ArenaOp>());
  auto orderOf = [](dist::ArenaOp arena) {
    return std::pair(int64_t(arena.getStage()), arena.getRole());
  };
  llvm::stable_sort(list,
                    [&](dist::ArenaOp a, dist::ArenaOp b) { return orderOf(a) < orderOf(b); });
  for (dist::ArenaOp arena : list)
    arena->moveBefore(builder.getInsertionBlock(), builder.getInsertionPoint());
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

/// The graphs that programs run, and their stages; none after an error.
static FailureOr<llvm::MapVector<FuncOp, int64_t>> graphsOf(ModuleOp module) {
  SymbolTable symbols(module);
  llvm::MapVector<Operation *, int64_t> stages;
  for (auto program : module.getOps<dist::ProgramOp>())
    for (auto entry : program.getBody().getOps<dist::EntryOpInterface>()) {
      FlatSymbolRefAttr name = entry.getGraphAttr();
      Operation *graph = name ? symbols.lookup(name.getAttr()) : nullptr;
      if (!graph)
        continue;
      auto [known, isNew] = stages.insert({graph, program.getStage()});
      if (!isNew && known->second != int64_t(program.getStage()))
        return entry->emitOpError("expects a graph that only stage ") << known->second << " runs";
    }
  if (stages.empty())
    return module.emitError("expected a program (dist.program) that runs a graph");
  llvm::MapVector<FuncOp, int64_t> graphs;
  for (auto [graph, stage] : stages) {
    if (!isa<FuncOp>(graph))
      return graph->emitOpError("has its memory planned already");
    graphs.insert({cast<FuncOp>(graph), stage});
  }
  return graphs;
}

/// Gives the blocks that entries call their scratch.
static LogicalResult planEntries(dist::ProgramOp program, ModuleMemory &memory) {
  const int64_t stage = program.getStage();
  Builder builder(program.getContext());
  for (auto entry : program.getBody().getOps<dist::EntryOpInterface>()) {
    FlatSymbolRefAttr name = entry.getBlockAttr();
    if (!name)
      continue;
    Operation &op = *entry;
    ArrayAttr buffers = entry.getBuffers().value_or(ArrayAttr());
    auto block = memory.symbols.lookup<FuncOp>(name.getValue());
    if (!block)
      return op.emitOpError("expects a block");
    SmallVector<Type> types(block.getArgumentTypes());
    for (unsigned r = 0; r < block.getNumResults(); ++r)
      if (!placeOfResult(block, r))
        types.push_back(block.getResultTypes()[r]);
    if (!buffers || buffers.size() != types.size())
      return op.emitOpError("expects an address for each of ")
             << types.size() << " buffers of '" << name.getValue() << "'";
    for (auto [index, address] : llvm::enumerate(buffers.getAsRange<AddressAttr>())) {
      FailureOr<int64_t> bytes = bytesOf(&op, types[index]);
      if (failed(bytes))
        return failure();
      auto arena = memory.symbols.lookup<dist::ArenaOp>(address.getArena().getValue());
      if (!arena || address.getOffset() + *bytes > int64_t(arena.getBytes()))
        return op.emitOpError("expects buffer ")
               << index << " of '" << name.getValue() << "' to fit into " << address.getArena()
               << ", but got " << types[index];
    }
    FailureOr<int64_t> scratch = memory.scratchOf(&op, name.getValue());
    if (failed(scratch))
      return failure();
    memory.reserve(ArenaRole::Workspace, stage, *scratch);
    SmallVector<Attribute> all(buffers.getValue());
    all.push_back(memory.address(ArenaRole::Workspace, stage, 0));
    op.setAttr("buffers", builder.getArrayAttr(all));
  }
  return success();
}

/// Gives the collectives between graphs the memory that they have beside operand and result.
/// Those of one stream come one after the other and have the same; those of the stream of runs
/// have the workspace.
static LogicalResult planCollectives(ModuleMemory &memory) {
  struct Staged {
    dist::CollectiveOp op;
    std::pair<int64_t, int64_t> stream; // stage, stream
    StagingBytes bytes;
  };
  auto aligned = [&](int64_t bytes) { return int64_t(llvm::alignTo(bytes, memory.alignment)); };
  auto roleOf = [](std::pair<int64_t, int64_t> stream) {
    return stream.second ? ArenaRole::Collectives : ArenaRole::Workspace;
  };
  SmallVector<Staged> all;
  std::map<std::pair<int64_t, int64_t>, int64_t> bytesOf, beginOf; // by stream
  for (auto program : memory.module.getOps<dist::ProgramOp>())
    for (auto op : program.getBody().getOps<dist::CollectiveOp>()) {
      if (!op.getStagingAttr())
        continue;
      auto group = memory.symbols.lookup<dist::CommunicatorOp>(op.getCommunicator());
      FailureOr<StagingBytes> bytes =
          memory.stagingOf(op, op.getStagingAttr(), op.getCollective(ranksOf(memory.axes, group)));
      if (failed(bytes))
        return failure();
      all.push_back({op, {program.getStage(), op.getStream()}, *bytes});
      int64_t &most = bytesOf[all.back().stream];
      most = std::max(most, aligned(bytes->packed) + aligned(bytes->received) + bytes->scratch);
    }
  std::map<int64_t, int64_t> end; // of the arena of a stage
  for (auto [stream, bytes] : bytesOf) {
    int64_t &begin = end[stream.first];
    beginOf[stream] = stream.second ? begin : 0;
    memory.reserve(roleOf(stream), stream.first, beginOf[stream] + bytes);
    begin += stream.second ? aligned(bytes) : 0;
  }
  for (Staged &one : all) {
    auto address = [&](int64_t offset) {
      return memory.address(roleOf(one.stream), one.stream.first, offset);
    };
    const int64_t packed = beginOf[one.stream], received = packed + aligned(one.bytes.packed);
    one.op.setStagingAttr(placeStaging(one.op.getStagingAttr(), one.bytes, address(packed),
                                       address(received),
                                       address(received + aligned(one.bytes.received))));
  }
  return success();
}

static LogicalResult planModule(ModuleOp module) {
  auto programs = module.getOps<dist::ProgramOp>();
  FailureOr<llvm::MapVector<FuncOp, int64_t>> graphs = graphsOf(module);
  if (failed(graphs))
    return failure();
  ModuleMemory memory(module, llvm::any_of(programs, [](dist::ProgramOp program) {
                        return program.getStage() > 0;
                      }));
  for (auto [graph, stage] : *graphs) {
    memory.reserve(ArenaRole::Inputs, stage, 0);
    memory.reserve(ArenaRole::Workspace, stage, 0);
    if (failed(memory.addInputs(graph, stage)))
      return failure();
  }
  for (auto [graph, stage] : *graphs) {
    FailureOr<GraphLifetimes> lifetimes = findLifetimes(graph, memory.symbols);
    if (failed(lifetimes))
      return failure();
    FailureOr<GraphPlaces> places = findPlaces(graph, stage, *lifetimes, memory);
    if (failed(places))
      return failure();
    emitGraph(graph, *lifetimes, *places, memory);
  }
  for (auto program : programs)
    if (failed(planEntries(program, memory)))
      return failure();
  if (failed(planCollectives(memory)))
    return failure();
  for (auto [graph, stage] : *graphs)
    graph->erase();
  memory.declareArenas();
  return stateNeededArenas(module);
}

namespace {
struct PlanArenasPass : llamac::impl::PlanArenasPassBase<PlanArenasPass> {
  using PlanArenasPassBase::PlanArenasPassBase;
  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (const int64_t planned = alignmentOf(module); planned % alignment) {
      module.emitError("the target expects memory aligned to ")
          << alignment.getValue() << " bytes, but the program was laid out for " << planned << " ("
          << kAlignmentAttr << "): compile it for this target from the step before";
      return signalPassFailure();
    }
    if (failed(planModule(module)))
      signalPassFailure();
  }
};
} // namespace
