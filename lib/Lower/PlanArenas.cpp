//===- PlanArenas.cpp - Fix every address of a program --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A graph is a list of applications. Application i is position i; a value lives
// from the application that makes it to the last one that reads it, outputs to the
// end of the graph. A result that takes the place of an argument is one value with
// it. ArenaPlan.h solves the rest, once for the residuals of a graph and once for
// its workspace; graphs run one after another and share both arenas.
//
// Residuals are the values made before the backward part and read in it. Backward
// begins at the first application that reads something derived from the input
// `loss_gradient`.
//
// State of training is flat, so that one call updates all of it: element k of the
// arenas of masters, gradients and moments belongs to element k of the trainable
// front part of the parameters.
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Lower/ArenaPlan.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_PLANARENASPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using func::FuncOp;
using llama::ApplyOp;
using llama::ParameterOp;

/// The input that begins the backward part of a graph.
static constexpr llvm::StringLiteral kLossGradient = "loss_gradient";

/// Elements to which a trainable parameter, and all of them together, are padded:
/// one vector of f32 and the chunk of the optimizer's loop.
static constexpr int64_t kParameterPadding = 16, kTotalPadding = 1024;

/// Bytes of a tensor that executables know; failure after an error.
static FailureOr<int64_t> bytesOf(Operation *op, Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  Type element = tensor ? tensor.getElementType() : Type();
  if (!tensor || !tensor.hasStaticShape() ||
      !(element.isF32() || element.isBF16() || element.isF64() || element.isSignlessInteger(64)))
    return op->emitOpError("expects tensors of static shape of f32, bf16, f64 or i64, but got ")
           << type;
  return tensor.getNumElements() * (element.getIntOrFloatBitWidth() / 8);
}

/// The argument whose place result `index` of `block` takes, if any.
static std::optional<int64_t> placeOfResult(FuncOp block, unsigned index) {
  if (auto place = block.getResultAttrOfType<IntegerAttr>(index, llama::kInPlaceAttr))
    return place.getInt();
  return std::nullopt;
}

namespace {
struct PlanArenasPass : llamac::impl::PlanArenasPassBase<PlanArenasPass> {
  using PlanArenasPassBase::PlanArenasPassBase;

  void runOnOperation() override;
};

/// Where one parameter lies; state is null if it is frozen.
struct Storage {
  AddressAttr address, master, gradient, moment1, moment2;
};

class Planner {
public:
  explicit Planner(ModuleOp module)
      : module(module), symbols(module), builder(module.getContext()) {}

  LogicalResult run();

private:
  LogicalResult planParameters();
  LogicalResult planInputs(FuncOp graph);
  LogicalResult planGraph(FuncOp graph);
  LogicalResult planActions(dist::ProgramOp program);
  void declareArenas();

  AddressAttr address(StringRef arena, int64_t offset) {
    return AddressAttr::get(module.getContext(), FlatSymbolRefAttr::get(module.getContext(), arena),
                            offset);
  }
  /// Notes that `arena` has at least `bytes` bytes.
  void reserve(StringRef arena, int64_t bytes) {
    int64_t &size = arenas[arena];
    size = std::max<int64_t>(size, llvm::alignTo(bytes, kArenaAlignment));
  }
  FailureOr<int64_t> scratchOf(Operation *user, StringRef block);
  LogicalResult plan(Operation *op, StringRef arena, MutableArrayRef<PlannedValue> values);

  ModuleOp module;
  SymbolTableCollection collection;
  SymbolTable symbols;
  OpBuilder builder;
  llvm::MapVector<StringRef, int64_t> arenas; // name -> bytes, in the order of the IR
  llvm::MapVector<StringAttr, Storage> storage; // by parameter
  llvm::MapVector<StringAttr, std::pair<Type, AddressAttr>> inputs; // by name
  llvm::StringMap<int64_t> scratch;             // by block
  int64_t trainableElements = 0;                // padded
  Type storageType, masterType, gradientType;   // of trainable parameters
};
} // namespace

/// Bytes of scratch memory of a lowered block: `llama.scratch` of its code.
FailureOr<int64_t> Planner::scratchOf(Operation *user, StringRef name) {
  auto [entry, isNew] = scratch.try_emplace(name, 0);
  if (!isNew)
    return entry->second;
  Operation *block = symbols.lookup(name);
  if (auto code = block->getAttrOfType<SymbolRefAttr>(kCodeAttr))
    block = collection.lookupSymbolIn(module, code);
  auto bytes = block ? block->getAttrOfType<IntegerAttr>(kScratchAttr) : IntegerAttr();
  if (!bytes || bytes.getInt() < 0)
    return user->emitOpError("expects a lowered block, but '")
           << name << "' has no code with the attribute " << kScratchAttr;
  return entry->second = bytes.getInt();
}

/// Plans `values` into `arena` and checks the plan.
LogicalResult Planner::plan(Operation *op, StringRef arena, MutableArrayRef<PlannedValue> values) {
  int64_t bytes = planArena(values);
  if (findConflict(values, bytes))
    return op->emitOpError("internal error: two values that live at the same time overlap in @")
           << arena;
  reserve(arena, bytes);
  return success();
}

LogicalResult Planner::planParameters() {
  SmallVector<ParameterOp> frozen;
  SmallVector<std::pair<StringAttr, int64_t>> trainable; // name, first element
  for (auto parameter : module.getOps<ParameterOp>()) {
    if (failed(bytesOf(parameter, parameter.getType())))
      return failure();
    if (parameter.getFrozen()) {
      frozen.push_back(parameter);
      continue;
    }
    Type element = parameter.getTensorType().getElementType();
    if (!storageType)
      storageType = element;
    if (element != storageType)
      return parameter.emitOpError("expects one storage type of all trained parameters, ")
             << storageType << ", but got " << element;
    trainable.push_back({parameter.getSymNameAttr(), trainableElements});
    trainableElements +=
        llvm::alignTo(parameter.getTensorType().getNumElements(), kParameterPadding);
  }

  int64_t bytes = 0;
  if (!trainable.empty()) {
    trainableElements = llvm::alignTo(trainableElements, kTotalPadding);
    masterType = storageType.isF64() ? Type(builder.getF64Type()) : builder.getF32Type();
    auto norm = symbols.lookup<FuncOp>("gradient_norm");
    gradientType = masterType;
    if (norm && norm.getNumArguments() == 1)
      if (auto tensor = dyn_cast<RankedTensorType>(norm.getArgumentTypes()[0]))
        gradientType = tensor.getElementType();
    int64_t storageBytes = storageType.getIntOrFloatBitWidth() / 8;
    int64_t masterBytes = masterType.getIntOrFloatBitWidth() / 8;
    int64_t gradientBytes = gradientType.getIntOrFloatBitWidth() / 8;
    StringRef masters = storageType == masterType ? "parameters" : "masters";
    for (auto [name, first] : trainable)
      storage[name] = {address("parameters", first * storageBytes),
                       address(masters, first * masterBytes),
                       address("gradients", first * gradientBytes),
                       address("moment1", first * masterBytes),
                       address("moment2", first * masterBytes)};
    bytes = trainableElements * storageBytes;
    reserve("parameters", bytes);
    reserve(masters, trainableElements * masterBytes);
    reserve("gradients", trainableElements * gradientBytes);
    reserve("moment1", trainableElements * masterBytes);
    reserve("moment2", trainableElements * masterBytes);
  }
  for (ParameterOp parameter : frozen) {
    storage[parameter.getSymNameAttr()].address = address("parameters", bytes);
    bytes = llvm::alignTo(bytes + *bytesOf(parameter, parameter.getType()), kArenaAlignment);
  }
  reserve("parameters", bytes);
  return success();
}

LogicalResult Planner::planInputs(FuncOp graph) {
  for (unsigned i = 0; i < graph.getNumArguments(); ++i) {
    auto name = graph.getArgAttrOfType<StringAttr>(i, llama::kInputAttr);
    Type type = graph.getArgumentTypes()[i];
    if (!name)
      return graph.emitOpError("expects argument ") << i << " to have a name (" << llama::kInputAttr
                                                    << ")";
    FailureOr<int64_t> bytes = bytesOf(graph, type);
    if (failed(bytes))
      return failure();
    int64_t offset = arenas["inputs"];
    auto [entry, isNew] = inputs.insert({name, {type, address("inputs", offset)}});
    if (isNew)
      reserve("inputs", offset + *bytes);
    else if (entry->second.first != type)
      return graph.emitOpError("expects input '")
             << name.getValue() << "' to have one type in all graphs, but got " << type << " and "
             << entry->second.first;
  }
  return success();
}

LogicalResult Planner::planGraph(FuncOp graph) {
  if (!graph.getBody().hasOneBlock())
    return graph.emitOpError("expects one block of applications");
  Block &body = graph.getBody().front();
  SmallVector<ApplyOp> applies;
  for (Operation &op : body.without_terminator()) {
    auto apply = dyn_cast<ApplyOp>(op);
    if (!apply)
      return op.emitOpError("is not an application of a block, which is all a graph may hold");
    applies.push_back(apply);
  }
  const int64_t end = applies.size(); // the position of the return

  // 1. Values that share a place have one entry in `planned`; inputs have -1 - their
  // argument number.
  struct Lifetime : PlannedValue {
    int64_t lastRead = 0; // by an application
  };
  SmallVector<Lifetime> planned;
  DenseMap<Value, int64_t> entryOf;
  DenseMap<Operation *, int64_t> position;
  for (BlockArgument argument : body.getArguments())
    entryOf[argument] = -1 - int64_t(argument.getArgNumber());
  for (auto [i, apply] : llvm::enumerate(applies))
    position[apply] = i;
  position[body.getTerminator()] = end;

  for (auto [i, apply] : llvm::enumerate(applies)) {
    auto block = symbols.lookup<FuncOp>(apply.getBlock());
    const unsigned firstGradient = apply.getInputs().size() + apply.getParameters().size();
    for (Value input : apply.getInputs())
      if (int64_t entry = entryOf.lookup(input); entry >= 0)
        planned[entry].lastRead = planned[entry].end = i;
    for (unsigned r = 0; r < block.getNumResults(); ++r) {
      std::optional<int64_t> place = placeOfResult(block, r);
      if (r >= apply.getNumResults()) { // a gradient
        unsigned k = r - apply.getNumResults();
        if (!place || *place != firstGradient + k)
          return apply.emitOpError("expects result ")
                 << r << " of '" << apply.getBlock() << "' to take the place of argument "
                 << firstGradient + k << ", the gradient so far";
        Type element = cast<RankedTensorType>(block.getResultTypes()[r]).getElementType();
        if (element != gradientType)
          return apply.emitOpError("expects gradients of type ")
                 << gradientType << " (as in the block 'gradient_norm'), but got " << element;
        continue;
      }
      Value result = apply.getResult(r);
      if (!place) {
        FailureOr<int64_t> bytes = bytesOf(apply, result.getType());
        if (failed(bytes))
          return failure();
        entryOf[result] = planned.size();
        Lifetime &value = planned.emplace_back();
        value.begin = value.end = value.lastRead = i;
        value.bytes = *bytes;
        continue;
      }
      // The old value dies here: nothing may read it any more.
      if (*place < 0 || *place >= int64_t(apply.getInputs().size()))
        return apply.emitOpError("expects result ")
               << r << " to take the place of an input, but got argument " << *place;
      Value old = apply.getInputs()[*place];
      bool readLater = llvm::any_of(old.getUses(), [&](OpOperand &use) {
        return position.lookup(use.getOwner()) > int64_t(i) ||
               (use.getOwner() == apply && use.getOperandNumber() != *place);
      });
      if (entryOf.lookup(old) < 0 || readLater)
        return apply.emitOpError("expects input ")
               << *place << ", whose place result " << r
               << " takes, to be no input of the graph and not to be read any more";
      entryOf[result] = entryOf.lookup(old);
    }
  }
  for (Value output : body.getTerminator()->getOperands())
    if (int64_t entry = entryOf.lookup(output); entry >= 0)
      planned[entry].end = end;

  // 2. Backward begins where something is derived from the cotangent of the loss.
  llvm::DenseSet<Value> derived;
  for (unsigned i = 0; i < graph.getNumArguments(); ++i)
    if (graph.getArgAttrOfType<StringAttr>(i, llama::kInputAttr) == kLossGradient)
      derived.insert(body.getArgument(i));
  int64_t backward = end;
  for (auto [i, apply] : llvm::enumerate(applies)) {
    if (llvm::none_of(apply.getInputs(), [&](Value input) { return derived.contains(input); }))
      continue;
    backward = std::min<int64_t>(backward, i);
    derived.insert_range(apply.getResults());
  }

  // 3. Places for residuals, and for all else together with the blocks' scratch.
  SmallVector<PlannedValue> residuals, workspace;
  SmallVector<std::pair<bool, size_t>> placeOfEntry; // residual?, number in its arena
  for (const Lifetime &value : planned) {
    bool isResidual = value.begin < backward && value.lastRead >= backward;
    auto &values = isResidual ? residuals : workspace;
    placeOfEntry.push_back({isResidual, values.size()});
    values.push_back(value);
  }
  const size_t firstScratch = workspace.size();
  for (auto [i, apply] : llvm::enumerate(applies)) {
    FailureOr<int64_t> bytes = scratchOf(apply, apply.getBlock());
    if (failed(bytes))
      return failure();
    workspace.push_back({int64_t(i), int64_t(i), *bytes});
  }
  if (failed(plan(graph, "residuals", residuals)) || failed(plan(graph, "workspace", workspace)))
    return failure();

  // 4. The same graph on addresses.
  auto placeOf = [&](Value value) {
    int64_t entry = entryOf.lookup(value);
    if (entry < 0) {
      auto name = graph.getArgAttrOfType<StringAttr>(-1 - entry, llama::kInputAttr);
      return inputs.lookup(name).second;
    }
    auto [isResidual, number] = placeOfEntry[entry];
    return isResidual ? address("residuals", residuals[number].offset)
                      : address("workspace", workspace[number].offset);
  };
  builder.setInsertionPoint(graph);
  auto result = dist::GraphOp::create(builder, graph.getLoc(), graph.getSymNameAttr());
  builder.createBlock(&result.getBody());
  for (BlockArgument argument : body.getArguments())
    dist::InputOp::create(
        builder, graph.getLoc(),
        graph.getArgAttrOfType<StringAttr>(argument.getArgNumber(), llama::kInputAttr),
        placeOf(argument), TypeAttr::get(argument.getType()));
  for (auto [i, apply] : llvm::enumerate(applies)) {
    auto block = symbols.lookup<FuncOp>(apply.getBlock());
    SmallVector<Attribute> buffers;
    for (Value input : apply.getInputs())
      buffers.push_back(placeOf(input));
    for (auto parameter : apply.getParameters().getAsRange<FlatSymbolRefAttr>())
      buffers.push_back(storage.lookup(parameter.getAttr()).address);
    for (auto parameter : apply.getGradients().getAsRange<FlatSymbolRefAttr>())
      buffers.push_back(storage.lookup(parameter.getAttr()).gradient);
    for (unsigned r = 0; r < apply.getNumResults(); ++r)
      if (!placeOfResult(block, r))
        buffers.push_back(placeOf(apply.getResult(r)));
    buffers.push_back(address("workspace", workspace[firstScratch + i].offset));
    dist::CallOp::create(builder, apply.getLoc(), apply.getBlockAttr(),
                         builder.getArrayAttr(buffers));
  }
  for (OpOperand &output : body.getTerminator()->getOpOperands()) {
    auto name =
        graph.getResultAttrOfType<StringAttr>(output.getOperandNumber(), llama::kOutputAttr);
    if (!name)
      return graph.emitOpError("expects result ")
             << output.getOperandNumber() << " to have a name (" << llama::kOutputAttr << ")";
    dist::OutputOp::create(builder, graph.getLoc(), name, placeOf(output.get()),
                           TypeAttr::get(output.get().getType()));
  }
  return success();
}

LogicalResult Planner::planActions(dist::ProgramOp program) {
  // Blocks of the optimizer run when no graph does: the whole workspace is theirs.
  auto flat = [&](Type element) {
    return Type(RankedTensorType::get({trainableElements}, element));
  };
  for (Operation &op : program.getBody().front()) {
    SmallVector<Attribute> buffers;
    auto checkType = [&](FuncOp block, unsigned argument, Type expected) -> LogicalResult {
      if (trainableElements && block.getArgumentTypes()[argument] == expected)
        return success();
      return op.emitOpError("expects argument ")
             << argument << " of '" << block.getName() << "' to cover all " << trainableElements
             << " trained elements, but got " << block.getArgumentTypes()[argument];
    };
    if (auto norm = dyn_cast<dist::GradientNormOp>(op)) {
      auto block = symbols.lookup<FuncOp>(norm.getBlock());
      if (!block || failed(checkType(block, 0, flat(gradientType))))
        return failure();
      FailureOr<int64_t> bytes = scratchOf(&op, norm.getBlock());
      FailureOr<int64_t> resultBytes = bytesOf(&op, block.getResultTypes()[0]);
      if (failed(bytes) || failed(resultBytes))
        return failure();
      PlannedValue values[] = {{0, 0, *resultBytes}, {0, 0, *bytes}};
      if (failed(plan(&op, "workspace", values)))
        return failure();
      norm.setBuffersAttr(builder.getArrayAttr({address("gradients", 0),
                                                address("workspace", values[0].offset),
                                                address("workspace", values[1].offset)}));
    } else if (auto update = dyn_cast<dist::UpdateOp>(op)) {
      auto block = symbols.lookup<FuncOp>(update.getBlock());
      if (!block || failed(checkType(block, 0, flat(masterType))) ||
          failed(checkType(block, 3, flat(gradientType))))
        return failure();
      bool hasMasters = storageType != masterType;
      if (hasMasters != (block.getNumResults() == 4) ||
          (hasMasters && block.getResultTypes()[3] != flat(storageType)))
        return op.emitOpError("expects '")
               << block.getName() << "' to return weights of type " << storageType
               << " exactly if that is not the type of the masters, " << masterType;
      FailureOr<int64_t> bytes = scratchOf(&op, update.getBlock());
      FailureOr<int64_t> hyperBytes = bytesOf(&op, block.getArgumentTypes()[4]);
      if (failed(bytes) || failed(hyperBytes))
        return failure();
      int64_t hyper = arenas["inputs"];
      reserve("inputs", hyper + *hyperBytes);
      reserve("workspace", *bytes);
      buffers = {address(hasMasters ? "masters" : "parameters", 0), address("moment1", 0),
                 address("moment2", 0), address("gradients", 0), address("inputs", hyper)};
      if (hasMasters)
        buffers.push_back(address("parameters", 0));
      buffers.push_back(address("workspace", 0));
      update.setBuffersAttr(builder.getArrayAttr(buffers));
    }
  }
  return success();
}

void Planner::declareArenas() {
  builder.setInsertionPointToStart(module.getBody());
  for (auto [name, bytes] : arenas)
    dist::ArenaOp::create(builder, module.getLoc(), name, bytes);
  // After the parameters, in their order.
  Operation *last = nullptr;
  for (auto parameter : module.getOps<ParameterOp>())
    last = parameter;
  if (!last)
    return;
  builder.setInsertionPointAfter(last);
  for (auto parameter : module.getOps<ParameterOp>()) {
    const Storage &place = storage[parameter.getSymNameAttr()];
    dist::StorageOp::create(builder, parameter.getLoc(),
                            FlatSymbolRefAttr::get(parameter.getSymNameAttr()), place.address,
                            place.master, place.gradient, place.moment1, place.moment2);
  }
}

LogicalResult Planner::run() {
  llvm::SetVector<Operation *> graphs;
  for (auto program : module.getOps<dist::ProgramOp>())
    for (auto action : program.getBody().getOps<dist::RunOp>())
      graphs.insert(symbols.lookup(action.getGraph()));
  if (graphs.empty())
    return module.emitError("expected a program (dist.program) that runs a graph");
  for (Operation *graph : graphs)
    if (!isa<FuncOp>(graph))
      return graph->emitOpError("has its memory planned already");

  // The order in which arenas are declared.
  for (StringRef name : {"parameters", "inputs", "residuals", "workspace"})
    arenas[name] = 0;
  if (failed(planParameters()))
    return failure();
  for (Operation *graph : graphs)
    if (failed(planInputs(cast<FuncOp>(graph))))
      return failure();
  for (Operation *graph : graphs)
    if (failed(planGraph(cast<FuncOp>(graph))))
      return failure();
  for (auto program : module.getOps<dist::ProgramOp>())
    if (failed(planActions(program)))
      return failure();
  for (Operation *graph : graphs)
    graph->erase();
  declareArenas();
  return success();
}

void PlanArenasPass::runOnOperation() {
  if (failed(Planner(getOperation()).run()))
    signalPassFailure();
}
