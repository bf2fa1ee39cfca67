//===- BlockCosts.cpp - Seconds of blocks ---------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Parallelize/BlockCosts.h"

#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace mlir::llama;
using namespace mlir::llamac;
namespace plan = mlir::llamac::plan;

//===----------------------------------------------------------------------===//
// One block
//===----------------------------------------------------------------------===//

static int64_t bytesOf(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return tensor.getNumElements() * tensor.getElementTypeBitWidth() / 8;
}

// Whether `add` is the sum so far plus a summand that only it reads, put back into
// the buffer of the sum.
static bool sumsInPlace(func::FuncOp block, AddOp add) {
  auto argument = dyn_cast<BlockArgument>(add.getLhs());
  Operation *summand = add.getRhs().getDefiningOp();
  if (!argument || !summand || !add.getRhs().hasOneUse() || !add->hasOneUse())
    return false;
  OpOperand &use = *add->use_begin();
  if (!isa<func::ReturnOp>(use.getOwner()))
    return false;
  auto place = block.getResultAttrOfType<IntegerAttr>(use.getOperandNumber(), kInPlaceAttr);
  return place && place.getInt() == argument.getArgNumber();
}

// Bytes that the op moves. A sum in place only reads the sum so far: the op that
// makes the summand writes the new one. That of an embedding's gradient touches the
// rows of the tokens alone, which llama.embed_grad counts.
static int64_t movedBytes(func::FuncOp block, CostOpInterface op) {
  auto add = dyn_cast<AddOp>(op.getOperation());
  if (!add || !sumsInPlace(block, add))
    return op.countBytes();
  return isa<EmbedGradOp>(add.getRhs().getDefiningOp()) ? 0 : bytesOf(add.getLhs().getType());
}

// The part of the peak that products of this op reach.
static double efficiencyOf(Operation *op, const Machine &machine) {
  if (isa<AttentionOp>(op))
    return machine.efficiency.attentionForward;
  if (isa<AttentionGradOp>(op))
    return machine.efficiency.attentionBackward;
  return machine.efficiency.gemm;
}

// Of a collective over axes of the module's grid; `whole`: bytes of the whole tensor.
template <typename Op>
static double collectiveSeconds(Op op, const Machine &machine, double whole) {
  auto grid = SymbolTable::lookupNearestSymbolFrom<shard::GridOp>(op, op.getGridAttr());
  ArrayRef<int64_t> shape = grid.getShape();
  int64_t ranks = 1, stride = 1;
  for (int16_t axis : op.getGridAxes())
    ranks *= shape[axis];
  // The innermost of its axes says how far apart neighbours are.
  int16_t innermost = *llvm::max_element(op.getGridAxes());
  for (size_t axis = innermost + 1; axis < shape.size(); ++axis)
    stride *= shape[axis];
  return machine.collectiveSeconds(ranks, stride, whole);
}

static double collectiveSeconds(Operation *op, const Machine &machine) {
  if (auto gather = dyn_cast<shard::AllGatherOp>(op))
    return collectiveSeconds(gather, machine, bytesOf(gather.getType()));
  if (auto scatter = dyn_cast<shard::ReduceScatterOp>(op))
    return collectiveSeconds(scatter, machine, bytesOf(scatter.getInput().getType()));
  if (auto reduce = dyn_cast<shard::AllReduceOp>(op))
    return 2 * collectiveSeconds(reduce, machine, bytesOf(reduce.getType()));
  return 0;
}

double llamac::blockSeconds(func::FuncOp block, const Machine &machine, CostRule rule) {
  double seconds = 0;
  if (rule == CostRule::Roofline)
    block.walk([&](Operation *op) { seconds += collectiveSeconds(op, machine); });
  block.walk([&](CostOpInterface op) {
    double operations = op.countOperations();
    double peak =
        operations ? machine.peakOf(getElementTypeOrSelf(op->getOperand(0).getType())) : 1;
    if (rule == CostRule::Operations) {
      seconds += operations / peak;
      return;
    }
    double bytes = movedBytes(block, op);
    if (operations == 0 && bytes == 0)
      return;
    seconds += std::max(operations / (peak * efficiencyOf(op, machine)),
                        bytes / (machine.memoryBandwidth * machine.efficiency.memory));
    // A sum in place is no kernel of its own.
    auto add = dyn_cast<AddOp>(op.getOperation());
    if (!add || !sumsInPlace(block, add))
      seconds += machine.launchSeconds;
  });
  return seconds;
}

//===----------------------------------------------------------------------===//
// A training graph
//===----------------------------------------------------------------------===//

// `model.layers.3.` of `model.layers.3.mlp.up_proj.weight` and its neighbours: what
// the keys have in common, up to a dot.
static std::string commonPrefix(ArrayAttr keys) {
  StringRef prefix;
  for (auto [index, key] : llvm::enumerate(keys.getAsRange<FlatSymbolRefAttr>())) {
    StringRef name = key.getValue();
    if (index == 0)
      prefix = name;
    while (!name.starts_with(prefix))
      prefix = prefix.drop_back();
  }
  return prefix.take_front(prefix.rfind('.') + 1).str();
}

static bool hasStaticShapes(func::FuncOp block) {
  auto isStatic = [](Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return !tensor || tensor.hasStaticShape();
  };
  return llvm::all_of(block.getArgumentTypes(), isStatic) &&
         !block
              .walk([&](Operation *op) {
                return llvm::all_of(op->getResultTypes(), isStatic) ? WalkResult::advance()
                                                                    : WalkResult::interrupt();
              })
              .wasInterrupted();
}

// The application that `apply` counts for: its own, or, for a sum of gradients, that
// of the last summand.
static std::optional<int64_t> applicationOf(ApplyOp apply, func::FuncOp block) {
  auto tag = apply->getAttrOfType<IntegerAttr>(kApplicationAttr);
  if (!tag)
    return std::nullopt;
  if (isa<AddOp>(block.front().front()) && apply.getInputs().size() == 2)
    if (auto summand = apply.getInputs().back().getDefiningOp<ApplyOp>())
      if (auto maker = summand->getAttrOfType<IntegerAttr>(kApplicationAttr))
        return maker.getInt();
  return tag.getInt();
}

FailureOr<std::vector<ApplicationCost>>
llamac::applicationCosts(ModuleOp module, const Machine &machine, CostRule rule) {
  auto forward = module.lookupSymbol<func::FuncOp>("forward");
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!forward || !step)
    return module.emitError("expects a training graph with functions @forward and @step");

  SymbolTable symbols(module);
  std::vector<ApplicationCost> costs;
  for (auto apply : forward.getOps<ApplyOp>()) {
    auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
    ApplicationCost application;
    application.cost.kind = apply.getBlock().str();
    application.cost.name = commonPrefix(apply.getParameters());
    if (auto part = block->getAttrOfType<StringAttr>(kPartAttr))
      application.part = part.str();
    for (auto key : apply.getParameters().getAsRange<FlatSymbolRefAttr>())
      application.cost.parameterBytes +=
          bytesOf(symbols.lookup<ParameterOp>(key.getValue()).getTensorType());
    costs.push_back(std::move(application));
  }

  llvm::StringMap<double> seconds; // of the blocks seen so far
  llvm::DenseSet<std::pair<int64_t, Value>> residuals;
  for (auto apply : step.getOps<ApplyOp>()) {
    auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
    std::optional<int64_t> number = applicationOf(apply, block);
    auto phase = apply->getAttrOfType<StringAttr>(kPhaseAttr);
    if (!number || *number < 0 || *number >= int64_t(costs.size()) || !phase)
      return apply.emitError("expects the attributes llama.application, below the ")
             << costs.size() << " applications of @forward, and llama.phase";
    auto [known, isNew] = seconds.try_emplace(apply.getBlock(), 0);
    if (isNew) {
      if (!hasStaticShapes(block))
        return block.emitError("expects static shapes, to count what the block costs");
      known->second = blockSeconds(block, machine, rule);
    }

    plan::BlockCost &cost = costs[*number].cost;
    if (phase == kForwardPhase) {
      cost.forward += known->second;
      continue;
    }
    for (Value input : apply.getInputs()) {
      auto maker = input.getDefiningOp<ApplyOp>();
      if (maker && maker->getAttrOfType<StringAttr>(kPhaseAttr) == kForwardPhase &&
          residuals.insert({*number, input}).second)
        cost.residualBytes += bytesOf(input.getType());
    }
    (phase == kBackwardInputPhase ? cost.backwardInput : cost.backwardWeight) += known->second;
    // The last arguments are the gradients; master and two moments have their type.
    for (Type type : block.getArgumentTypes().take_back(apply.getGradients().size())) {
      cost.parameterBytes += bytesOf(type);
      cost.optimizerBytes += 3 * bytesOf(type);
    }
  }
  return costs;
}

plan::BalanceModel llamac::balanceModel(ArrayRef<ApplicationCost> applications) {
  plan::BalanceModel model;
  plan::StageTimes keyValue;           // of the text block to come
  std::optional<plan::BlockCost> join; // a block without parameters before it
  for (const ApplicationCost &application : applications) {
    const plan::BlockCost &cost = application.cost;
    if (application.part == kEncoderPart) {
      model.encoder.forward += cost.forward;
      model.encoder.backwardInput += cost.backwardInput;
      model.encoder.backwardWeight += cost.backwardWeight;
    } else if (application.part == kKeyValuePart) {
      keyValue = {cost.forward, cost.backwardInput, cost.backwardWeight};
    } else if (cost.parameterBytes == 0) {
      join = cost;
    } else {
      plan::BlockCost block = cost;
      if (join) {
        block.forward += join->forward;
        block.residualBytes += join->residualBytes;
        join.reset();
      }
      model.blocks.push_back(std::move(block));
      model.keyValue.push_back(keyValue);
      keyValue = {};
    }
  }
  return model;
}
