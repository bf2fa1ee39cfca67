//===- PlanReserves.cpp - What libraries take of a device -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"
#include "llamac/Lower/Reserves.h"
#include "llamac/Support/Grid.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/SymbolTable.h"

#include <set>

namespace mlir::llamac {
#define GEN_PASS_DEF_PLANRESERVESPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

std::optional<BlockWork> llamac::workOf(SymbolTableCollection &symbols, ModuleOp module,
                                        StringRef name, const Target &target) {
  Operation *block = symbols.lookupSymbolIn(module, StringAttr::get(module.getContext(), name));
  auto code = block ? block->getAttrOfType<SymbolRefAttr>(kCodeAttr) : SymbolRefAttr();
  Operation *function = code ? symbols.lookupSymbolIn(module, code) : nullptr;
  if (!function)
    return std::nullopt;
  return target.workOf(function);
}

namespace {
// Reads a program once for what its communicators and streams do.
class UseReader {
public:
  UseReader(ModuleOp module, const Target &target)
      : module(module), target(target), graphs(module), axes(axesOf(module)) {}

  Reserves compute();

private:
  struct Calls {
    CommunicatorUse use;
    std::set<std::pair<int64_t, int64_t>> streams; // of stages
  };

  void read(int64_t stage, dist::EntryOpInterface entry);
  void readCollective(int64_t stage, int64_t stream, dist::CollectiveOp op);
  void call(int64_t stage, int64_t stream, StringRef block);
  // Halves shares until those of all streams together leave half of the device to blocks.
  void fit(Reserves &reserves) const;

  ModuleOp module;
  const Target &target;
  SymbolTable graphs;
  SymbolTableCollection symbols;
  SmallVector<Axis> axes;
  llvm::MapVector<StringRef, Calls> calls;              // by communicator
  std::vector<std::set<int64_t>> productStreams;        // of each stage
  std::set<std::pair<int64_t, int64_t>> computeStreams; // stage, stream
  llvm::StringMap<bool> hasProducts;                    // of blocks
};
} // namespace

static int64_t bytesOf(Type type, int64_t elements) {
  return elements * int64_t(type.getIntOrFloatBitWidth()) / 8;
}

void UseReader::call(int64_t stage, int64_t stream, StringRef block) {
  auto [entry, isNew] = hasProducts.try_emplace(block, false);
  if (isNew)
    if (std::optional<BlockWork> work = workOf(symbols, module, block, target))
      entry->second = work->hasProducts;
  if (entry->second)
    productStreams[stage].insert(stream);
}

void UseReader::readCollective(int64_t stage, int64_t stream, dist::CollectiveOp op) {
  if (dist::StagingAttr staging = op.getStagingAttr())
    for (FlatSymbolRefAttr block : {staging.getPack(), staging.getUnpack()})
      if (block)
        call(stage, stream, block.getValue());
  if (op.getKind() == dist::CollectiveKind::Slice)
    return;
  Calls &of = calls[op.getCommunicator()];
  dist::Collective what = op.getCollective(of.use.ranks);
  const int64_t elements = what.outer * what.elements;
  of.use.hasAllReduce |= what.kind == dist::CollectiveKind::AllReduce;
  of.use.bytes = std::max(of.use.bytes,
                          std::max(bytesOf(what.type, elements), bytesOf(what.toType, elements)));
  of.streams.insert({stage, stream});
}

void UseReader::read(int64_t stage, dist::EntryOpInterface entry) {
  const auto stream = int64_t(entry.getStream());
  if (FlatSymbolRefAttr block = entry.getBlockAttr())
    call(stage, stream, block.getValue());
  if (FlatSymbolRefAttr name = entry.getGraphAttr()) {
    computeStreams.insert({stage, stream});
    if (auto graph = graphs.lookup<dist::GraphOp>(name.getAttr()))
      for (Operation &op : graph.getBody().front())
        if (auto each = dyn_cast<dist::CallOp>(op))
          call(stage, stream, each.getBlock());
        else if (auto collective = dyn_cast<dist::CollectiveOp>(op))
          readCollective(stage, stream, collective);
  }
  if (auto collective = dyn_cast<dist::CollectiveOp>(*entry))
    readCollective(stage, stream, collective);
  auto transfer = [&](auto op) {
    Calls &of = calls[op.getCommunicator()];
    of.use.bytes = std::max(of.use.bytes, bytesOf(op.getType(), op.getElements()));
    of.streams.insert({stage, stream});
  };
  if (auto send = dyn_cast<dist::SendOp>(*entry))
    transfer(send);
  if (auto receive = dyn_cast<dist::ReceiveOp>(*entry))
    transfer(receive);
}

void UseReader::fit(Reserves &reserves) const {
  std::optional<DeviceLimits> limits = target.limits();
  auto held = [&] {
    std::map<int64_t, std::map<int64_t, int64_t>> most; // by stage and stream
    for (const auto &[name, share] : reserves.shares)
      for (auto [stage, stream] : calls.find(name)->second.streams)
        most[stage][stream] = std::max(most[stage][stream], share.multiprocessors);
    int64_t all = 0;
    for (const auto &[stage, streams] : most) {
      int64_t sum = 0;
      for (auto [stream, multiprocessors] : streams)
        sum += multiprocessors;
      all = std::max(all, sum);
    }
    return all;
  };
  while (limits && held() > limits->multiprocessors / 2) {
    bool smaller = false;
    for (auto &[name, share] : reserves.shares)
      if (share.multiprocessors > 1) {
        share.bytes /= share.multiprocessors;
        share.multiprocessors /= 2;
        share.bytes *= share.multiprocessors;
        smaller = true;
      }
    if (!smaller)
      return;
  }
}

Reserves UseReader::compute() {
  int64_t stages = 1;
  for (auto program : module.getOps<dist::ProgramOp>())
    stages = std::max<int64_t>(stages, int64_t(program.getStage()) + 1);
  productStreams.resize(stages);
  for (auto communicator : module.getOps<dist::CommunicatorOp>())
    calls[communicator.getSymName()].use = {ranksOf(axes, communicator),
                                            communicator.getEdge().has_value()};
  for (auto program : module.getOps<dist::ProgramOp>())
    for (auto entry : program.getBody().getOps<dist::EntryOpInterface>())
      read(int64_t(program.getStage()), entry);
  Reserves reserves;
  for (auto &[name, of] : calls) {
    of.use.besideCompute = llvm::none_of(
        of.streams, [&](const auto &stream) { return computeStreams.count(stream) != 0; });
    reserves.shares[name] = of.use.ranks > 1 ? target.shareOf(of.use) : CommunicatorShare();
  }
  fit(reserves);
  reserves.stages.resize(stages);
  for (auto [stage, of] : llvm::enumerate(reserves.stages)) {
    of.productStreams.assign(productStreams[stage].begin(), productStreams[stage].end());
    of.productBytes = int64_t(of.productStreams.size()) * target.productBytes();
    for (auto communicator : module.getOps<dist::CommunicatorOp>()) {
      std::optional<ArrayRef<int64_t>> edge = communicator.getEdge();
      if (!edge || llvm::is_contained(*edge, int64_t(stage)))
        of.communicatorBytes += reserves.shares[communicator.getSymName()].bytes;
    }
  }
  return reserves;
}

Reserves llamac::computeReserves(ModuleOp module, const Target &target) {
  return UseReader(module, target).compute();
}

//===----------------------------------------------------------------------===//
// As attributes
//===----------------------------------------------------------------------===//

static constexpr llvm::StringLiteral kBytes = "bytes", kMultiprocessors = "multiprocessors",
                                     kCommunicators = "communicators",
                                     kProductBytes = "product_bytes",
                                     kProductStreams = "product_streams";

static int64_t numberOf(DictionaryAttr from, StringRef name) {
  auto value = from ? from.getAs<IntegerAttr>(name) : IntegerAttr();
  return value ? value.getInt() : 0;
}

CommunicatorShare llamac::shareOf(dist::CommunicatorOp communicator) {
  auto share = communicator->getAttrOfType<DictionaryAttr>(kShareAttr);
  return {numberOf(share, kMultiprocessors), numberOf(share, kBytes)};
}

std::vector<StageReserves> llamac::reservesOf(ModuleOp module) {
  std::vector<StageReserves> stages;
  if (auto list = module->getAttrOfType<ArrayAttr>(kReservesAttr))
    for (auto stage : list.getAsRange<DictionaryAttr>()) {
      StageReserves &of = stages.emplace_back();
      if (auto streams = stage.getAs<DenseI64ArrayAttr>(kProductStreams))
        of.productStreams = llvm::to_vector(streams.asArrayRef());
      of.productBytes = numberOf(stage, kProductBytes);
      of.communicatorBytes = numberOf(stage, kCommunicators);
    }
  return stages;
}

namespace {
struct PlanReservesPass : llamac::impl::PlanReservesPassBase<PlanReservesPass> {
  using PlanReservesPassBase::PlanReservesPassBase;
  explicit PlanReservesPass(std::shared_ptr<const Target> given) : target(std::move(given)) {}

  LogicalResult initialize(MLIRContext *context) override {
    return makeTarget(target, {.name = targetOption, .chip = chipOption}, context);
  }

  void runOnOperation() override {
    ModuleOp module = getOperation();
    Builder b(module.getContext());
    Reserves reserves = computeReserves(module, *target);
    auto number = [&](StringRef name, int64_t value) {
      return b.getNamedAttr(name, b.getI64IntegerAttr(value));
    };
    for (auto communicator : module.getOps<dist::CommunicatorOp>()) {
      CommunicatorShare share = reserves.shares[communicator.getSymName()];
      if (share == CommunicatorShare())
        communicator->removeAttr(kShareAttr);
      else
        communicator->setAttr(
            kShareAttr, b.getDictionaryAttr({number(kBytes, share.bytes),
                                             number(kMultiprocessors, share.multiprocessors)}));
    }
    SmallVector<Attribute> stages;
    bool any = false;
    for (const StageReserves &of : reserves.stages) {
      any |= of != StageReserves();
      stages.push_back(b.getDictionaryAttr(
          {number(kCommunicators, of.communicatorBytes), number(kProductBytes, of.productBytes),
           b.getNamedAttr(kProductStreams, b.getDenseI64ArrayAttr(of.productStreams))}));
    }
    if (any && target->limits())
      module->setAttr(kReservesAttr, b.getArrayAttr(stages));
    else
      module->removeAttr(kReservesAttr);
  }

private:
  std::shared_ptr<const Target> target;
};
} // namespace

std::unique_ptr<Pass> llamac::createPlanReservesPass(std::shared_ptr<const Target> target) {
  return std::make_unique<PlanReservesPass>(std::move(target));
}
