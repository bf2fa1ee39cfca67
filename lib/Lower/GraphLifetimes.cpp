//===- GraphLifetimes.cpp - When the values of a graph live ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "GraphCollective.h"
#include "GraphMemory.h"

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;
using llama::ApplyOp;

FailureOr<int64_t> llamac::bytesOf(Operation *op, Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  Type element = tensor ? tensor.getElementType() : Type();
  if (!tensor || !tensor.hasStaticShape() ||
      !(element.isF32() || element.isBF16() || element.isF64() || element.isSignlessInteger(64)))
    return op->emitOpError("expects tensors of static shape of f32, bf16, f64 or i64, but got ")
           << type;
  return tensor.getNumElements() * (element.getIntOrFloatBitWidth() / 8);
}

std::optional<int64_t> llamac::placeOfResult(FuncOp block, unsigned index) {
  if (auto place = block.getResultAttrOfType<IntegerAttr>(index, llama::kInPlaceAttr))
    return place.getInt();
  return std::nullopt;
}

namespace {
class LifetimeFinder {
public:
  LifetimeFinder(FuncOp graph, const SymbolTable &symbols) : graph(graph), symbols(symbols) {}

  LogicalResult run();
  GraphLifetimes result;

private:
  LogicalResult add(Operation *op, Value value, int64_t position);
  LogicalResult addResults(ApplyOp apply, int64_t position);
  LogicalResult takePlace(ApplyOp apply, unsigned index, int64_t argument, int64_t position);

  FuncOp graph;
  const SymbolTable &symbols;
  llvm::DenseMap<Operation *, int64_t> positions;
};
} // namespace

/// A value of its own, which `op` makes.
LogicalResult LifetimeFinder::add(Operation *op, Value value, int64_t position) {
  FailureOr<int64_t> bytes = bytesOf(op, value.getType());
  if (failed(bytes))
    return failure();
  result.number[value] = result.values.size();
  result.values.push_back({position, position, *bytes});
  return success();
}

/// Result `index` takes the place of an input, whose value dies here: nothing may read it any
/// more.
LogicalResult LifetimeFinder::takePlace(ApplyOp apply, unsigned index, int64_t argument,
                                        int64_t position) {
  if (argument < 0 || argument >= int64_t(apply.getInputs().size()))
    return apply.emitOpError("expects result ")
           << index << " to take the place of an input, but got argument " << argument;
  Value old = apply.getInputs()[argument];
  bool readLater = llvm::any_of(old.getUses(), [&](OpOperand &use) {
    return positions.lookup(use.getOwner()) > position ||
           (use.getOwner() == apply && use.getOperandNumber() != argument);
  });
  auto number = result.number.find(old);
  if (number == result.number.end() || readLater)
    return apply.emitOpError("expects input ")
           << argument << ", whose place result " << index
           << " takes, to be no input of the graph and not to be read any more";
  const size_t same = number->second;
  result.number[apply.getResult(index)] = same;
  return success();
}

LogicalResult LifetimeFinder::addResults(ApplyOp apply, int64_t position) {
  auto block = symbols.lookup<FuncOp>(apply.getBlock());
  const unsigned firstGradient = apply.getInputs().size() + apply.getParameters().size();
  for (unsigned r = 0; r < block.getNumResults(); ++r) {
    std::optional<int64_t> place = placeOfResult(block, r);
    if (r >= apply.getNumResults()) { // a gradient
      unsigned k = r - apply.getNumResults();
      if (!place || *place != firstGradient + k)
        return apply.emitOpError("expects result ")
               << r << " of '" << apply.getBlock() << "' to take the place of argument "
               << firstGradient + k << ", the gradient so far";
    } else if (failed(place ? takePlace(apply, r, *place, position)
                            : add(apply, apply.getResult(r), position))) {
      return failure();
    }
  }
  return success();
}

LogicalResult LifetimeFinder::run() {
  if (!graph.getBody().hasOneBlock())
    return graph.emitOpError("expects one block of applications");
  Block &body = graph.getBody().front();
  for (Operation &op : body.without_terminator()) {
    if (!isa<ApplyOp>(op) && !isGraphCollective(&op))
      return op.emitOpError("is no application of a block and no collective, which is all a graph "
                            "may hold");
    positions[&op] = result.ops.size();
    result.ops.push_back(&op);
  }
  const int64_t end = result.ops.size();
  positions[body.getTerminator()] = end;
  for (auto [position, op] : llvm::enumerate(result.ops)) {
    for (Value input : op->getOperands())
      if (auto number = result.number.find(input); number != result.number.end())
        result.values[number->second].end = position;
    auto apply = dyn_cast<ApplyOp>(op);
    if (failed(apply ? addResults(apply, position) : add(op, op->getResult(0), position)))
      return failure();
  }
  for (OpOperand &output : body.getTerminator()->getOpOperands()) {
    auto number = result.number.find(output.get());
    if (number == result.number.end())
      return graph.emitOpError("expects result ")
             << output.getOperandNumber() << " to be made by the graph";
    result.values[number->second].end = end;
  }
  return success();
}

FailureOr<GraphLifetimes> llamac::findLifetimes(FuncOp graph, const SymbolTable &symbols) {
  LifetimeFinder finder(graph, symbols);
  if (failed(finder.run()))
    return failure();
  return std::move(finder.result);
}
