//===- Localize.cpp - From whole tensors to what a rank holds -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Types lose their placement and shrink to the part of a rank; a `dist.convert` becomes
// collectives, at most one of a kind for each dimension. The placement of parameters,
// inputs and outputs stays behind as attributes.
//
// An op that looks up rows of a split dimension by number gets its numbers shifted to
// the rank's part (llama.shift_index). The rank's coordinate on the axes is data: a
// block that needs it gets one more input, and so do the graphs.
//
//===----------------------------------------------------------------------===//
#include "llamac/Shard/Passes.h"

#include "llamac/Shard/Placement.h"

#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/MapVector.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_LOCALIZEPASS
#include "llamac/Shard/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::dist;
using namespace mlir::llama;
using namespace mlir::llamac;

namespace {

bool isPlaced(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && isa_and_nonnull<PlacementAttr>(tensor.getEncoding());
}

class Localizer {
public:
  Localizer(ModuleOp module) : module(module), symbols(module), axes(llamac::axesOf(module)) {}
  LogicalResult run();

private:
  // A block that needs coordinates: after its inputs come those of these inputs' names.
  using Coordinates = llvm::SmallMapVector<StringAttr, Value, 1>;

  FailureOr<Type> local(Type type, Operation *user);
  LogicalResult shrink(Value value, Operation *user);
  void replace(ConvertOp convert);
  LogicalResult localizeParameters();
  LogicalResult localizeBody(func::FuncOp function,
                             llvm::function_ref<LogicalResult(Operation *)> visit);
  LogicalResult localizeBlock(func::FuncOp block);
  LogicalResult localizeGraph(func::FuncOp graph);
  LogicalResult shiftRows(PlacementOpInterface op, func::FuncOp block, Coordinates &coordinates);
  Value coordinate(func::FuncOp block, ArrayRef<int16_t> split, Coordinates &coordinates);
  Value collectives(ConvertOp convert);

  ModuleOp module;
  SymbolTable symbols;
  SmallVector<Axis> axes;
  llvm::DenseMap<Value, Type> whole;              // type before
  llvm::StringMap<unsigned> numInputs;            // of blocks, before
  llvm::StringMap<SmallVector<StringAttr>> added; // inputs of blocks
};

FailureOr<Type> Localizer::local(Type type, Operation *user) {
  if (!isPlaced(type))
    return type;
  for (StringAttr name : dist::axesOf(type))
    if (llvm::none_of(axes, [&](const Axis &axis) { return axis.name == name.getValue(); }))
      return user->emitOpError("names an axis that the grid does not have: ") << name;
  if (RankedTensorType result = localType(type, axes))
    return Type(result);
  return user->emitOpError("has a value that its axes do not divide: ") << type;
}

LogicalResult Localizer::shrink(Value value, Operation *user) {
  whole[value] = value.getType();
  FailureOr<Type> type = local(value.getType(), user);
  if (succeeded(type))
    value.setType(*type);
  return type;
}

LogicalResult Localizer::localizeParameters() {
  // The gradient that a block adds to says over which axes it is a partial sum.
  llvm::StringMap<ArrayAttr> partial;
  module.walk([&](ApplyOp apply) {
    auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
    auto types = ArrayRef(block.getArgumentTypes()).take_back(apply.getGradients().size());
    for (auto [name, type] : llvm::zip_equal(apply.getGradients(), types))
      if (isPlaced(type))
        partial[cast<FlatSymbolRefAttr>(name).getValue()] =
            cast<PlacementAttr>(cast<RankedTensorType>(type).getEncoding()).getPartial();
  });
  for (auto parameter : module.getOps<ParameterOp>()) {
    if (ArrayAttr names = partial.lookup(parameter.getSymName()); names && !names.empty())
      parameter.setPartialAttr(names);
    RankedTensorType type = parameter.getTensorType();
    if (!isPlaced(type))
      continue;
    FailureOr<Type> part = local(type, parameter);
    if (failed(part))
      return failure();
    parameter.setGlobalShape(type.getShape());
    parameter.setSplitAttr(cast<PlacementAttr>(type.getEncoding()).getSplit());
    parameter.setType(cast<RankedTensorType>(*part));
  }
  return success();
}

// The rank's coordinate on the axes `split`: an input of `block`.
Value Localizer::coordinate(func::FuncOp block, ArrayRef<int16_t> split, Coordinates &coordinates) {
  std::string name = kCoordinatePrefix.str();
  for (auto [index, axis] : llvm::enumerate(split))
    name += (index ? "," : "") + axes[axis].name;
  StringAttr input = StringAttr::get(module.getContext(), name);
  Value &value = coordinates[input];
  if (value)
    return value;
  Builder b(module.getContext());
  unsigned index = numInputs[block.getName()] + coordinates.size() - 1;
  (void)block.insertArgument(index, RankedTensorType::get({1}, b.getI64Type()), {},
                             NameLoc::get(input));
  for (unsigned i = 0; i < block.getNumResults(); ++i)
    if (auto place = block.getResultAttrOfType<IntegerAttr>(i, kInPlaceAttr);
        place && place.getInt() >= index)
      block.setResultAttr(i, kInPlaceAttr, b.getI64IntegerAttr(place.getInt() + 1));
  return value = block.getArgument(index);
}

// Where the dimension is split whose rows `op` looks up, counts the numbers from the first
// row of the rank's part.
LogicalResult Localizer::shiftRows(PlacementOpInterface op, func::FuncOp block,
                                   Coordinates &coordinates) {
  PlacementRule rule = op.getPlacementRule();
  if (!rule.rows && !rule.size)
    return success();
  char index = rule.rows ? rule.rows->index : rule.size->index;
  SmallVector<int16_t> split;
  // Of the rank's part: rows, and as the results have it, which may be fewer (one for each part).
  int64_t size = 0, ofResults = 0;
  auto find = [&](ArrayRef<std::string> tensors, ValueRange values) {
    for (auto [letters, value] : llvm::zip_equal(tensors, values))
      for (auto [dimension, indices] : llvm::enumerate(dimensionsOf(letters)))
        if (indices == StringRef(&index, 1)) {
          split = axesThatSplit(placementOf(whole.lookup(value), axes), dimension);
          ofResults = cast<RankedTensorType>(value.getType()).getDimSize(dimension);
          size = std::max(size, ofResults);
        }
  };
  find(rule.operands, op->getOperands());
  find(rule.results, op->getResults());
  if (split.empty())
    return success();

  OpBuilder b(op);
  if (rule.size)
    op->setAttr(rule.size->attribute, b.getI64IntegerAttr(ofResults));
  if (!rule.rows)
    return success();
  IntegerAttr padding; // brings no gradient; is looked up like any other
  if (auto embed = dyn_cast<EmbedOp>(op.getOperation())) {
    embed.removePaddingIndexAttr();
  } else if (auto gradient = dyn_cast<EmbedGradOp>(op.getOperation())) {
    padding = gradient.getPaddingIndexAttr();
    gradient.removePaddingIndexAttr();
  }
  OpOperand &rows = op->getOpOperand(rule.rows->operand);
  rows.set(ShiftIndexOp::create(b, op.getLoc(), rows.get().getType(), rows.get(),
                                coordinate(block, split, coordinates), b.getI64IntegerAttr(size),
                                padding));
  return success();
}

// From where the input lies to where the result does.
Value Localizer::collectives(ConvertOp convert) {
  OpBuilder b(convert);
  Location loc = convert.getLoc();
  Value value = convert.getInput();
  Placement from = placementOf(whole.lookup(value), axes);
  Placement to = placementOf(convert.getType(), axes);
  auto grid = FlatSymbolRefAttr::get(b.getContext(), kGridSymbol);
  auto kindOf = [](OnAxis on) {
    return on.kind == OnAxis::Maximum ? shard::ReductionKind::Max : shard::ReductionKind::Sum;
  };
  // The type of `value` once `dimension` is put together, or cut, over these axes.
  auto resized = [&](unsigned dimension, ArrayRef<int16_t> over, bool larger) {
    auto type = cast<RankedTensorType>(value.getType());
    SmallVector<int64_t> shape(type.getShape());
    for (int16_t axis : over)
      shape[dimension] =
          larger ? shape[dimension] * axes[axis].size : shape[dimension] / axes[axis].size;
    return type.clone(shape);
  };

  // Every op keeps the attributes of `convert`, and says from which placement to which it goes.
  auto wholeType = cast<RankedTensorType>(convert.getType()).dropEncoding();
  Placement current = from;
  auto made = [&](Value result, ArrayRef<int16_t> over, OnAxis on) {
    Placement before = current;
    for (int16_t axis : over)
      current[axis] = on;
    Operation *op = result.getDefiningOp();
    op->setDiscardableAttrs(convert->getDiscardableAttrDictionary());
    op->setAttr(kPlacedAttr, b.getTypeArrayAttr({withPlacement(wholeType, before, axes),
                                                 withPlacement(wholeType, current, axes)}));
    return result;
  };

  // Splits are undone from the inside and made from the outside; what nests outside of
  // the first difference stays.
  unsigned rank = cast<RankedTensorType>(value.getType()).getRank();
  SmallVector<SmallVector<int16_t>> make(rank);
  for (unsigned dimension = 0; dimension < rank; ++dimension) {
    auto before = axesThatSplit(from, dimension), after = axesThatSplit(to, dimension);
    size_t same = 0;
    while (same < before.size() && same < after.size() && before[same] == after[same])
      ++same;
    ArrayRef<int16_t> undo = ArrayRef(before).drop_front(same);
    make[dimension].assign(after.begin() + same, after.end());
    if (!undo.empty())
      value = made(shard::AllGatherOp::create(b, loc, resized(dimension, undo, true), grid,
                                              b.getDenseI16ArrayAttr(undo), value,
                                              b.getIndexAttr(dimension)),
                   undo, {});
  }
  for (unsigned dimension = 0; dimension < rank; ++dimension) {
    ArrayRef<int16_t> rest = make[dimension];
    while (!rest.empty()) {
      OnAxis first = from[rest.front()];
      auto part = rest.take_while(
          [&](int16_t axis) { return from[axis].isPartial() == first.isPartial(); });
      rest = rest.drop_front(part.size());
      Type type = resized(dimension, part, false);
      auto over = b.getDenseI16ArrayAttr(part);
      Value result;
      if (first.isPartial())
        result = shard::ReduceScatterOp::create(
            b, loc, type, grid, over, value,
            shard::ReductionKindAttr::get(b.getContext(), kindOf(first)),
            b.getIndexAttr(dimension));
      else
        result =
            shard::AllSliceOp::create(b, loc, type, grid, over, value, b.getIndexAttr(dimension));
      value = made(result, part, {OnAxis::Split, dimension});
    }
  }
  SmallVector<int16_t> summed;
  shard::ReductionKind kind = shard::ReductionKind::Sum;
  for (auto [axis, before] : llvm::enumerate(from))
    if (before.isPartial() && to[axis].kind == OnAxis::Whole) {
      summed.push_back(axis);
      kind = kindOf(before);
    }
  if (!summed.empty())
    value = made(shard::AllReduceOp::create(b, loc, value.getType(), grid,
                                            b.getDenseI16ArrayAttr(summed), value,
                                            shard::ReductionKindAttr::get(b.getContext(), kind)),
                 summed, {});
  return value;
}

void Localizer::replace(ConvertOp convert) {
  Value value = collectives(convert);
  whole[value] = convert.getType();
  convert.replaceAllUsesWith(value);
  convert.erase();
}

/// Takes arguments and results to a rank's part; `visit` gets each op that has its new types.
LogicalResult Localizer::localizeBody(func::FuncOp function,
                                      llvm::function_ref<LogicalResult(Operation *)> visit) {
  Block &body = function.getBody().front();
  for (BlockArgument argument : body.getArguments())
    if (failed(shrink(argument, function)))
      return failure();
  for (Operation &op : llvm::make_early_inc_range(body.without_terminator())) {
    if (auto convert = dyn_cast<ConvertOp>(op)) {
      replace(convert);
      continue;
    }
    for (Value result : op.getResults())
      if (failed(shrink(result, &op)))
        return failure();
    if (failed(visit(&op)))
      return failure();
  }
  return success();
}

LogicalResult Localizer::localizeBlock(func::FuncOp block) {
  Block &body = block.getBody().front();
  Coordinates coordinates;
  auto visit = [&](Operation *op) {
    auto placed = dyn_cast<PlacementOpInterface>(op);
    return placed ? shiftRows(placed, block, coordinates) : success();
  };
  if (failed(localizeBody(block, visit)))
    return failure();
  block.setFunctionType(FunctionType::get(block.getContext(), body.getArgumentTypes(),
                                          body.getTerminator()->getOperandTypes()));
  // How its arguments and results lie, for those who call it.
  auto placement = [&](Value value) {
    Type type = whole.lookup(value);
    return type && isPlaced(type) ? cast<PlacementAttr>(cast<RankedTensorType>(type).getEncoding())
                                  : PlacementAttr();
  };
  for (BlockArgument argument : body.getArguments())
    if (PlacementAttr placed = placement(argument))
      block.setArgAttr(argument.getArgNumber(), kPlacementAttr, placed);
  for (OpOperand &result : body.getTerminator()->getOpOperands())
    if (PlacementAttr placed = placement(result.get()))
      block.setResultAttr(result.getOperandNumber(), kPlacementAttr, placed);
  // And its values, for the cut at the collectives.
  for (Operation &op : body.without_terminator()) {
    if (llvm::none_of(op.getResults(), [&](Value value) { return bool(placement(value)); }))
      continue;
    SmallVector<Attribute> placements;
    for (Value value : op.getResults()) {
      PlacementAttr placed = placement(value);
      placements.push_back(placed ? Attribute(placed) : UnitAttr::get(block.getContext()));
    }
    op.setAttr(kPlacementAttr, ArrayAttr::get(block.getContext(), placements));
  }
  for (auto &[name, value] : coordinates)
    added[block.getName()].push_back(name);
  return success();
}

LogicalResult Localizer::localizeGraph(func::FuncOp graph) {
  Block &body = graph.getBody().front();
  Builder b(graph.getContext());
  auto describe = [&](Type type, auto set) {
    if (!isPlaced(type))
      return;
    auto placement = cast<PlacementAttr>(cast<RankedTensorType>(type).getEncoding());
    if (llvm::any_of(placement.getSplit().getAsRange<ArrayAttr>(),
                     [](ArrayAttr names) { return !names.empty(); }))
      set(kSplitAttr, placement.getSplit());
    if (!placement.getPartial().empty())
      set(kPartialAttr, placement.getPartial());
  };
  for (auto [index, type] : llvm::enumerate(graph.getArgumentTypes()))
    describe(type, [&](StringRef name, Attribute value) { graph.setArgAttr(index, name, value); });
  for (auto [index, type] : llvm::enumerate(graph.getResultTypes()))
    describe(type,
             [&](StringRef name, Attribute value) { graph.setResultAttr(index, name, value); });

  llvm::MapVector<StringAttr, Value> coordinates;
  auto visit = [&](Operation *op) {
    auto apply = dyn_cast<ApplyOp>(op);
    if (!apply)
      return success();
    for (StringAttr name : added.lookup(apply.getBlock())) {
      Value &coordinate = coordinates[name];
      if (!coordinate)
        coordinate =
            body.addArgument(RankedTensorType::get({1}, b.getI64Type()), NameLoc::get(name));
      op->insertOperands(op->getNumOperands(), coordinate);
    }
    return success();
  };
  if (failed(localizeBody(graph, visit)))
    return failure();
  unsigned before = graph.getFunctionType().getNumInputs();
  SmallVector<DictionaryAttr> attributes;
  graph.getAllArgAttrs(attributes);
  graph.setFunctionType(FunctionType::get(graph.getContext(), body.getArgumentTypes(),
                                          body.getTerminator()->getOperandTypes()));
  attributes.resize(before);
  for (auto &[name, value] : coordinates)
    attributes.push_back(b.getDictionaryAttr(b.getNamedAttr(kInputAttr, name)));
  graph.setAllArgAttrs(attributes);
  return success();
}

LogicalResult Localizer::run() {
  if (axes.empty())
    return emitError(module.getLoc()) << "expected a module on a grid, as dist-shard makes it";
  SmallVector<func::FuncOp> blocks, graphs;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal())
      continue;
    (function->hasAttr(kBlockAttr) ? blocks : graphs).push_back(function);
  }
  for (func::FuncOp graph : graphs)
    for (auto apply : graph.getOps<ApplyOp>())
      numInputs[apply.getBlock()] = apply.getInputs().size();
  if (failed(localizeParameters()))
    return failure();
  for (func::FuncOp block : blocks)
    if (failed(localizeBlock(block)))
      return failure();
  for (func::FuncOp graph : graphs)
    if (failed(localizeGraph(graph)))
      return failure();
  return success();
}

struct LocalizePass : llamac::impl::LocalizePassBase<LocalizePass> {
  void runOnOperation() override {
    if (failed(Localizer(getOperation()).run()))
      signalPassFailure();
  }
};
} // namespace
