//===- BlockCosts.cpp - Seconds of blocks ---------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An op takes the longer of its operations at the machine's rate and its bytes at the bandwidth
// of memory, and the time of a launch; a block the sum of its ops and collectives. A sum in place
// is no kernel of its own: whoever makes the summand writes the sum.
//
//   @forward, @step  ->  applications of text blocks, in order    BlockCost, one each
//                        key/value sides                          beside the layer that reads them
//                        the encoder                              one sum
//
//===----------------------------------------------------------------------===//
#include "llamac/Cost/BlockCosts.h"

#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/SetVector.h"
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
  if (auto gradient = dyn_cast<LinearLseGradOp>(op)) {
    // Logits are one product more than count.
    double products = !gradient.getDInput().use_empty() + !gradient.getDWeight().use_empty();
    return machine.efficiency.gemm * products / (products + 1);
  }
  return machine.efficiency.gemm;
}

// Of a collective over axes of the module's grid; `whole`: bytes of the whole tensor.
template <typename Op> static double secondsOver(Op op, const Machine &machine, double whole) {
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

double llamac::collectiveSeconds(Operation *op, const Machine &machine) {
  if (auto gather = dyn_cast<shard::AllGatherOp>(op))
    return secondsOver(gather, machine, bytesOf(gather.getType()));
  if (auto scatter = dyn_cast<shard::ReduceScatterOp>(op))
    return secondsOver(scatter, machine, bytesOf(scatter.getInput().getType()));
  if (auto reduce = dyn_cast<shard::AllReduceOp>(op))
    return 2 * secondsOver(reduce, machine, bytesOf(reduce.getType()));
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
static std::string commonPrefix(ArrayRef<StringRef> keys) {
  StringRef prefix = keys.empty() ? "" : keys.front();
  for (StringRef key : keys)
    while (!key.starts_with(prefix))
      prefix = prefix.drop_back();
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

static StringRef phaseOf(Operation *op) {
  auto phase = op->getAttrOfType<StringAttr>(kPhaseAttr);
  return phase ? phase.getValue() : "";
}

// The application that an op of @step counts for: its own, or, for a sum of gradients,
// that of the last summand. -1 if it has none.
static int64_t applicationOf(Operation *op, func::FuncOp block) {
  auto tag = op->getAttrOfType<IntegerAttr>(kApplicationAttr);
  if (!tag || phaseOf(op).empty())
    return -1;
  if (block && isa<AddOp>(block.front().front()) && op->getNumOperands() == 2)
    if (Operation *maker = op->getOperands().back().getDefiningOp())
      if (auto summand = maker->getAttrOfType<IntegerAttr>(kApplicationAttr))
        return summand.getInt();
  return tag.getInt();
}

namespace {
/// Goes through the ops of @step and adds them to the costs of their applications.
class CostCounter {
public:
  CostCounter(ModuleOp module, const Machine &machine, CostRule rule)
      : symbols(module), machine(machine), rule(rule) {}

  LogicalResult count(Operation *op);
  std::vector<ApplicationCost> finish();

private:
  void countApply(ApplyOp apply, func::FuncOp block, int64_t number);

  SymbolTable symbols;
  const Machine &machine;
  CostRule rule;
  std::vector<ApplicationCost> costs;
  std::vector<llvm::SetVector<StringRef>> parameters; // of each application
  llvm::StringMap<double> secondsOfBlock;
  llvm::DenseSet<std::pair<int64_t, Value>> residuals;
};
} // namespace

LogicalResult CostCounter::count(Operation *op) {
  func::FuncOp block;
  if (auto apply = dyn_cast<ApplyOp>(op))
    block = symbols.lookup<func::FuncOp>(apply.getBlock());
  int64_t number = applicationOf(op, block);
  if (number < 0)
    return op->emitError("expects the attributes llama.application and llama.phase");
  if (number >= int64_t(costs.size())) {
    costs.resize(number + 1);
    parameters.resize(number + 1);
  }

  double seconds = 0;
  if (!block) {
    seconds = rule == CostRule::Roofline ? collectiveSeconds(op, machine) : 0;
  } else {
    auto [known, isNew] = secondsOfBlock.try_emplace(block.getName(), 0);
    if (isNew) {
      if (!hasStaticShapes(block))
        return block.emitError("expects static shapes, to count what the block costs");
      known->second = blockSeconds(block, machine, rule);
    }
    seconds = known->second;
    countApply(cast<ApplyOp>(op), block, number);
  }

  plan::BlockCost &cost = costs[number].cost;
  StringRef phase = phaseOf(op);
  (phase == kForwardPhase         ? cost.forward
   : phase == kBackwardInputPhase ? cost.backwardInput
                                  : cost.backwardWeight) += seconds;
  if (phase != kForwardPhase)
    for (Value input : op->getOperands())
      if (Operation *maker = input.getDefiningOp();
          maker && phaseOf(maker) == kForwardPhase && residuals.insert({number, input}).second)
        cost.residualBytes += bytesOf(input.getType());
  return success();
}

void CostCounter::countApply(ApplyOp apply, func::FuncOp block, int64_t number) {
  ApplicationCost &application = costs[number];
  if (phaseOf(apply) == kForwardPhase) {
    application.cost.kind = block.getName().split('.').first.str();
    if (auto part = block->getAttrOfType<StringAttr>(kPartAttr))
      application.part = part.str();
    for (auto key : apply.getParameters().getAsRange<FlatSymbolRefAttr>())
      parameters[number].insert(key.getValue());
  }
  // The last arguments are the gradients; master and two moments have their type.
  for (Type type : block.getArgumentTypes().take_back(apply.getGradients().size())) {
    application.cost.parameterBytes += bytesOf(type);
    application.cost.optimizerBytes += 3 * bytesOf(type);
  }
}

std::vector<ApplicationCost> CostCounter::finish() {
  for (auto [application, keys] : llvm::zip_equal(costs, parameters)) {
    application.cost.name = commonPrefix(keys.getArrayRef());
    for (StringRef key : keys)
      application.cost.parameterBytes += bytesOf(symbols.lookup<ParameterOp>(key).getTensorType());
  }
  return std::move(costs);
}

FailureOr<std::vector<ApplicationCost>>
llamac::applicationCosts(ModuleOp module, const Machine &machine, CostRule rule) {
  auto step = module.lookupSymbol<func::FuncOp>("step");
  if (!step)
    return module.emitError("expects a training graph with a function @step");
  CostCounter counter(module, machine, rule);
  for (Operation &op : step.front().without_terminator())
    if (failed(counter.count(&op)))
      return failure();
  return counter.finish();
}

plan::BalanceModel llamac::balanceModel(ArrayRef<ApplicationCost> applications) {
  plan::BalanceModel model;
  plan::MicroBatchTimes keyValue;      // of the text block to come
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
