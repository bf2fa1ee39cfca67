//===- SplitBlocks.cpp - Cut blocks at their collectives ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every op of a block gets a level: the number of collectives, one behind the other,
// that it has to wait for. The ops of a level become a function, and an application of
// the block becomes, level by level, the collectives that the level waits for and the
// application of its function. So a block is cut as seldom as its data allows:
//
//   x ─ gather ─ linear ─ reduce-scatter ─ add ─ norm ─ gather ─ ...
//        │       level 0       │       level 1        │     level 2
//
// A collective of an argument waits for nothing.
//
//===----------------------------------------------------------------------===//
#include "llamac/Shard/Passes.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/SetVector.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_SPLITBLOCKSPASS
#include "llamac/Shard/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llama;

namespace {

bool isCollective(Operation *op) {
  return isa_and_nonnull<shard::AllGatherOp, shard::AllReduceOp, shard::ReduceScatterOp,
                         shard::AllSliceOp>(op);
}

// How a value of a block lies, if it is not whole (llama-localize noted it).
dist::PlacementAttr placementOf(func::FuncOp block, Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return block.getArgAttrOfType<dist::PlacementAttr>(argument.getArgNumber(),
                                                       dist::kPlacementAttr);
  auto list = value.getDefiningOp()->getAttrOfType<ArrayAttr>(dist::kPlacementAttr);
  return list ? dyn_cast<dist::PlacementAttr>(list[cast<OpResult>(value).getResultNumber()])
              : dist::PlacementAttr();
}

// The ops of one level as a function. Arguments and results are those values of the
// block, in the order of the function's; parameters and gradients last.
struct Segment {
  func::FuncOp function;
  SmallVector<Value> inputs, results;
  SmallVector<unsigned> parameters, gradients; // numbers among those of the block
};

class BlockSplitter {
public:
  BlockSplitter(func::FuncOp block, ApplyOp use, SymbolTable &symbols)
      : block(block), symbols(symbols), numInputs(use.getInputs().size()),
        numParameters(use.getParameters().size()), numGradients(use.getGradients().size()) {}

  void split();
  /// Replaces an application of the block.
  void replace(ApplyOp apply);

private:
  /// The first level that may use `value`.
  unsigned availableAt(Value value) const;
  void makeSegment(unsigned number);

  func::FuncOp block;
  SymbolTable &symbols;
  unsigned numInputs, numParameters, numGradients;
  llvm::DenseMap<Operation *, unsigned> levelOf; // of ops that compute
  std::vector<SmallVector<Operation *>> levels;
  std::vector<Segment> segments;
};

unsigned BlockSplitter::availableAt(Value value) const {
  Operation *op = value.getDefiningOp();
  if (!op)
    return 0;
  if (!isCollective(op))
    return levelOf.lookup(op);
  Operation *source = op->getOperand(0).getDefiningOp();
  return availableAt(op->getOperand(0)) + (source && !isCollective(source) ? 1 : 0);
}

void BlockSplitter::split() {
  for (Operation &op : block.getBody().front().without_terminator()) {
    if (isCollective(&op))
      continue;
    unsigned level = 0;
    for (Value operand : op.getOperands())
      level = std::max(level, availableAt(operand));
    levelOf[&op] = level;
    if (level >= levels.size())
      levels.resize(level + 1);
    levels[level].push_back(&op);
  }
  for (unsigned number = 0; number < levels.size(); ++number)
    makeSegment(number);
}

void BlockSplitter::makeSegment(unsigned number) {
  Segment &segment = segments.emplace_back();
  auto isInside = [&](Operation *op) {
    auto level = levelOf.find(op);
    return level != levelOf.end() && level->second == number;
  };
  auto roleOf = [&](Value value) { // 0: input, 1: parameter, 2: gradient
    auto argument = dyn_cast<BlockArgument>(value);
    if (!argument || argument.getArgNumber() < numInputs)
      return 0;
    return argument.getArgNumber() < numInputs + numParameters ? 1 : 2;
  };
  llvm::SetVector<Value> used;
  for (Operation *op : levels[number])
    for (Value operand : op->getOperands())
      if (!isInside(operand.getDefiningOp()))
        used.insert(operand);
  // Arguments first, in their order; then other values, in the order of their use.
  auto arguments = used.takeVector();
  llvm::stable_sort(arguments, [&](Value a, Value b) {
    auto order = [&](Value value) {
      auto argument = dyn_cast<BlockArgument>(value);
      return std::pair(roleOf(value), argument ? argument.getArgNumber() : ~0u);
    };
    return order(a) < order(b);
  });
  for (Value value : arguments) {
    if (roleOf(value) == 0)
      segment.inputs.push_back(value);
    else if (roleOf(value) == 1)
      segment.parameters.push_back(cast<BlockArgument>(value).getArgNumber() - numInputs);
    else
      segment.gradients.push_back(cast<BlockArgument>(value).getArgNumber() - numInputs -
                                  numParameters);
  }

  // Results: what others use, then the gradients.
  Operation *end = block.getBody().front().getTerminator();
  unsigned firstGradient = end->getNumOperands() - numGradients;
  auto isOutside = [&](OpOperand &use) {
    return !isInside(use.getOwner()) &&
           !(use.getOwner() == end && use.getOperandNumber() >= firstGradient);
  };
  for (Operation *op : levels[number])
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUses(), isOutside))
        segment.results.push_back(result);
  SmallVector<Value> results = segment.results;
  for (unsigned gradient : segment.gradients)
    results.push_back(end->getOperand(firstGradient + gradient));

  OpBuilder b(block);
  std::string name = block.getName().str();
  if (levels.size() > 1)
    name += "." + std::to_string(number);
  auto function = func::FuncOp::create(
      b, block.getLoc(), name,
      b.getFunctionType(ValueRange(arguments).getTypes(), ValueRange(results).getTypes()));
  function->setDiscardableAttrs(block->getDiscardableAttrDictionary());
  function.setPrivate();
  Block *body = function.addEntryBlock();
  IRMapping map;
  for (auto [index, value] : llvm::enumerate(arguments)) {
    map.map(value, body->getArgument(index));
    body->getArgument(index).setLoc(value.getLoc());
    if (auto argument = dyn_cast<BlockArgument>(value))
      function.setArgAttrs(index, block.getArgAttrDict(argument.getArgNumber()));
    if (dist::PlacementAttr placed = placementOf(block, value))
      function.setArgAttr(index, dist::kPlacementAttr, placed);
  }
  b.setInsertionPointToEnd(body);
  for (Operation *op : levels[number])
    b.clone(*op, map);
  func::ReturnOp::create(b, block.getLoc(),
                         llvm::map_to_vector(results, [&](Value v) { return map.lookup(v); }));

  // What the block says of a result it says of the segment's, with the new number of an
  // argument whose place it takes, if nothing else reads that.
  for (auto [index, result] : llvm::enumerate(results))
    for (OpOperand &use : result.getUses()) {
      if (use.getOwner() != end)
        continue;
      NamedAttrList attributes(block.getResultAttrDict(use.getOperandNumber()));
      if (auto place = dyn_cast_or_null<IntegerAttr>(attributes.erase(kInPlaceAttr))) {
        BlockArgument argument = block.getArgument(place.getInt());
        auto *found = llvm::find(arguments, argument);
        if (found != arguments.end() && llvm::all_of(argument.getUsers(), isInside))
          attributes.set(kInPlaceAttr, b.getI64IntegerAttr(found - arguments.begin()));
      }
      function.setResultAttrs(index, attributes.getDictionary(b.getContext()));
    }
  for (auto [index, result] : llvm::enumerate(results))
    if (dist::PlacementAttr placed = placementOf(block, result))
      function.setResultAttr(index, dist::kPlacementAttr, placed);
  segment.function = function;
  if (levels.size() > 1)
    symbols.insert(function);
}

void BlockSplitter::replace(ApplyOp apply) {
  OpBuilder b(apply);
  IRMapping map;
  Block &body = block.getBody().front();
  map.map(body.getArguments().take_front(numInputs), apply.getInputs());
  auto clone = [&](Operation &op) {
    Operation *collective = b.clone(op, map);
    collective->setDiscardableAttrs(apply->getDiscardableAttrDictionary());
    if (Attribute placed = op.getAttr(dist::kPlacedAttr))
      collective->setAttr(dist::kPlacedAttr, placed);
    collective->setLoc(isa<UnknownLoc>(op.getLoc())
                           ? apply.getLoc()
                           : Location(CallSiteLoc::get(op.getLoc(), apply.getLoc())));
  };
  auto collectives = [&](unsigned level) {
    for (Operation &op : body)
      if (isCollective(&op) && availableAt(op.getResult(0)) == level && !op.use_empty())
        clone(op);
  };
  auto names = [&](ArrayAttr all, ArrayRef<unsigned> numbers) {
    return b.getArrayAttr(llvm::map_to_vector(numbers, [&](unsigned i) { return all[i]; }));
  };
  for (auto [level, segment] : llvm::enumerate(segments)) {
    collectives(level);
    auto part = ApplyOp::create(
        b, apply.getLoc(), ValueRange(segment.results).getTypes(), segment.function.getName(),
        llvm::map_to_vector(segment.inputs, [&](Value v) { return map.lookup(v); }),
        names(apply.getParameters(), segment.parameters),
        names(apply.getGradients(), segment.gradients));
    part->setDiscardableAttrs(apply->getDiscardableAttrDictionary());
    map.map(segment.results, part.getResults());
  }
  collectives(segments.size());
  for (auto [result, value] : llvm::zip(apply.getResults(), body.getTerminator()->getOperands()))
    result.replaceAllUsesWith(map.lookup(value));
  apply.erase();
}

struct SplitBlocksPass : llamac::impl::SplitBlocksPassBase<SplitBlocksPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);
    llvm::StringMap<std::unique_ptr<BlockSplitter>> splitters;
    SmallVector<func::FuncOp> done, graphs;
    for (auto function : module.getOps<func::FuncOp>())
      if (!function->hasAttr(kBlockAttr))
        graphs.push_back(function);
    for (func::FuncOp graph : graphs) {
      for (auto apply : llvm::make_early_inc_range(graph.getOps<ApplyOp>())) {
        auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
        if (block.isExternal() ||
            llvm::none_of(block.getBody().front(), [](Operation &op) { return isCollective(&op); }))
          continue;
        auto &splitter = splitters[block.getName()];
        if (!splitter) {
          splitter = std::make_unique<BlockSplitter>(block, apply, symbols);
          splitter->split();
          done.push_back(block);
        }
        splitter->replace(apply);
      }
    }
    // A block that was not cut keeps its name.
    for (func::FuncOp block : done)
      symbols.erase(block);
    for (auto function : module.getOps<func::FuncOp>())
      if (function->hasAttr(kBlockAttr) && !function.isExternal())
        for (Operation &op : function.getBody().front())
          op.removeAttr(dist::kPlacementAttr);
  }
};
} // namespace
