//===- ShardBlock.cpp - Give the values of one block a placement ----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One pass forward over the ops: on every axis an op takes, of the ways its rule allows,
// the one whose operands cost the fewest bytes to bring there, and a `dist.convert` is put
// where a value is wanted otherwise than it lies. One converted value serves all ops that
// want it. Parameters do not move.
//
//===----------------------------------------------------------------------===//
#include "ShardBlock.h"

#include "dialects/Llama/IR/Llama.h"

#include <limits>

using namespace mlir;
using namespace mlir::dist;
using namespace mlir::llama;
using namespace mlir::llamac;

namespace {

constexpr double kForbidden = std::numeric_limits<double>::infinity();
// Price of a slice, which moves nothing, and of leaving a partial sum, per byte. They only
// break ties.
constexpr double kSlice = 1e-6, kPartial = 1e-9;

class BlockSharder {
public:
  BlockSharder(func::FuncOp block, ArrayRef<Axis> axes, ArrayRef<Role> roles, unsigned inputs,
               unsigned parameters)
      : block(block), axes(axes), roles(roles), numInputs(inputs), numParameters(parameters) {}
  LogicalResult shard(ArrayRef<Placement> arguments, ArrayRef<Placement> gradients,
                      ArrayRef<Promise> promises);

private:
  struct Conversion {
    Placement placement;
    Value value;
  };

  bool isParameter(Value value) const {
    auto argument = dyn_cast<BlockArgument>(value);
    return argument && argument.getArgNumber() >= numInputs &&
           argument.getArgNumber() < numInputs + numParameters;
  }
  void place(Value value, ArrayRef<OnAxis> placement) {
    value.setType(withPlacement(cast<RankedTensorType>(value.getType()), placement, axes));
    placements[value] = Placement(placement);
  }
  void pin(Value gradient, const Placement &parameter);
  double bytesToBring(Value value, unsigned axis, OnAxis to) const;
  double bytesOf(Operation *op, const PlacementRule &rule, const Choice &choice, const Role &role,
                 ArrayRef<char> chosen, const llvm::SmallDenseMap<char, int64_t> &sizes) const;
  LogicalResult placeOp(Operation *op);
  Value convert(OpBuilder &b, Value value, const Placement &to);
  Value fulfil(OpBuilder &b, Value value, const Promise &promise);

  func::FuncOp block;
  ArrayRef<Axis> axes;
  ArrayRef<Role> roles;
  unsigned numInputs, numParameters;
  llvm::DenseMap<Value, Placement> placements;
  llvm::DenseMap<Value, SmallVector<Conversion>> conversions; // made so far
  llvm::DenseMap<Value, Placement> pinned; // gradients: placement of the parameter
};

// Of the whole tensor.
double bytes(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  return double(type.getNumElements()) * type.getElementTypeBitWidth() / 8;
}

// Bytes that a rank receives to bring a tensor of `bytes` bytes from one placement on an
// axis to another.
double conversionBytes(OnAxis from, OnAxis to, int64_t ranks, double bytes) {
  double part = bytes * (ranks - 1) / ranks;
  if (from == to)
    return 0;
  if (to.isPartial())
    return kForbidden;
  if (from.isPartial())
    return to.kind == OnAxis::Split ? part : 2 * part; // reduce-scatter, all-reduce
  if (from.kind == OnAxis::Whole)
    return kSlice * bytes;
  return to.kind == OnAxis::Whole ? part : kForbidden; // all-gather; all-to-all
}

// The size of each index of the op. Of two indices that share a dimension one is known
// from another tensor.
llvm::SmallDenseMap<char, int64_t> indexSizes(Operation *op, const PlacementRule &rule) {
  llvm::SmallDenseMap<char, int64_t> sizes;
  for (bool shared : {false, true}) {
    auto add = [&](ArrayRef<std::string> tensors, TypeRange types) {
      for (auto [letters, type] : llvm::zip_equal(tensors, types))
        for (auto [dimension, size] :
             llvm::zip_equal(dimensionsOf(letters), cast<RankedTensorType>(type).getShape())) {
          if ((dimension.size() > 1) != shared)
            continue;
          char unknown = dimension[0];
          int64_t rest = size;
          for (char letter : dimension)
            if (shared && sizes.contains(letter))
              rest /= std::max<int64_t>(1, sizes[letter]);
            else
              unknown = letter;
          sizes.try_emplace(unknown, rest);
        }
    };
    add(rule.operands, op->getOperandTypes());
    add(rule.results, op->getResultTypes());
  }
  return sizes;
}

// From where it lies, or from a conversion of it.
double BlockSharder::bytesToBring(Value value, unsigned axis, OnAxis to) const {
  OnAxis from = placements.lookup(value)[axis];
  if (isParameter(value))
    return from == to ? 0 : kForbidden;
  double least = conversionBytes(from, to, axes[axis].size, bytes(value));
  if (auto known = conversions.find(value); known != conversions.end())
    for (const Conversion &conversion : known->second)
      least = std::min(
          least, conversionBytes(conversion.placement[axis], to, axes[axis].size, bytes(value)));
  return least;
}

// A sum of gradients keeps partial sums as they are. Other linear ops would, too, but then
// a wider tensor may have to be reduced than where the sum arises, and values that the
// weight half reads once more there.
bool passesSums(Operation *op) { return isa<AddOp>(op); }

double BlockSharder::bytesOf(Operation *op, const PlacementRule &rule, const Choice &choice,
                             const Role &role, ArrayRef<char> chosen,
                             const llvm::SmallDenseMap<char, int64_t> &sizes) const {
  int64_t ranks = axes[role.axis].size;
  if (char index = choice.index) {
    if (index == 'a' || index == 'b' || (role.tokensOnly && index != 's'))
      return kForbidden;
    // Tokens that only the inner of two axes splits would lie apart.
    if (index == 's' && role.outer && chosen[*role.outer] != 's')
      return kForbidden;
    auto left = [&](char letter) { // size of what a rank has on the axes outside
      int64_t size = sizes.lookup(letter);
      for (auto [axis, split] : llvm::enumerate(chosen))
        if (split == letter)
          size /= axes[axis].size;
      return size;
    };
    if (left(index) % ranks)
      return kForbidden;
    for (const auto *tensors : {&rule.operands, &rule.results})
      for (const std::string &letters : *tensors)
        for (StringRef dimension : dimensionsOf(letters))
          for (char outer : dimension.take_until([&](char letter) { return letter == index; }))
            if (dimension.contains(index) && left(outer) != 1)
              return kForbidden;
  }
  if (choice.isLinear && !role.outer && !passesSums(op))
    return kForbidden;

  double sum = 0;
  for (auto [result, placement] : llvm::zip_equal(op->getResults(), choice.results)) {
    if (placement.isPartial())
      sum += kPartial * bytes(result);
    // A gradient is split as its parameter is.
    if (auto pin = pinned.find(result); pin != pinned.end()) {
      OnAxis wanted = pin->second[role.axis];
      if ((wanted.kind == OnAxis::Split || placement.kind == OnAxis::Split) &&
          !(wanted == placement))
        return kForbidden;
    }
  }
  for (auto [operand, placement] : llvm::zip_equal(op->getOperands(), choice.operands))
    sum += bytesToBring(operand, role.axis, placement);
  return sum;
}

LogicalResult BlockSharder::placeOp(Operation *op) {
  auto placed = dyn_cast<PlacementOpInterface>(op);
  if (!placed)
    return op->emitOpError("has no rule for placements on a grid");
  // The gradient so far lies like the summand.
  if (auto add = dyn_cast<AddOp>(op);
      add && !placements.contains(add.getLhs()) && placements.contains(add.getRhs()))
    place(add.getLhs(), placements.lookup(add.getRhs()));
  for (Value operand : op->getOperands())
    if (!placements.contains(operand))
      return op->emitOpError("reads a gradient so far, which only a sum may");
  for (Type type : op->getResultTypes())
    if (!cast<RankedTensorType>(type).hasStaticShape())
      return op->emitOpError("expects sizes that are all known, but got ") << type;

  PlacementRule rule = placed.getPlacementRule();
  SmallVector<Choice> choices = choicesOf(rule);
  auto sizes = indexSizes(op, rule);
  Placement whole(axes.size());
  SmallVector<Placement> operands(op->getNumOperands(), whole), results(op->getNumResults(), whole);
  SmallVector<char> chosen(axes.size(), 0);
  for (const Role &role : roles) {
    const Choice *best = nullptr;
    double least = kForbidden;
    for (const Choice &choice : choices) {
      double bytes = bytesOf(op, rule, choice, role, chosen, sizes);
      // Logits are never brought together: where the vocabulary can be split, it is.
      if (bytes != kForbidden && choice.index == 'v')
        bytes = -1;
      if (bytes < least) {
        best = &choice;
        least = bytes;
      }
    }
    if (!best) {
      auto error = op->emitOpError("has no placement on axis \"") << axes[role.axis].name << "\"";
      for (auto [index, operand] : llvm::enumerate(op->getOperands()))
        error.attachNote(operand.getLoc())
            << "operand " << index << " is " << describe(placements.lookup(operand)[role.axis]);
      return error;
    }
    chosen[role.axis] = best->index;
    for (auto [placement, on] : llvm::zip_equal(operands, best->operands))
      placement[role.axis] = on;
    for (auto [placement, on] : llvm::zip_equal(results, best->results))
      placement[role.axis] = on;
  }
  OpBuilder b(op);
  for (auto [operand, placement] : llvm::zip_equal(op->getOpOperands(), operands))
    operand.set(convert(b, operand.get(), placement));
  for (auto [result, placement] : llvm::zip_equal(op->getResults(), results))
    place(result, placement);
  return success();
}

Value BlockSharder::convert(OpBuilder &b, Value value, const Placement &to) {
  if (placements.lookup(value) == to)
    return value;
  SmallVector<Conversion> &known = conversions[value];
  for (const Conversion &conversion : known)
    if (conversion.placement == to)
      return conversion.value;
  auto price = [&](const Placement &from) {
    double sum = 0;
    for (auto [axis, source, target] : llvm::zip_equal(axes, from, to))
      sum += conversionBytes(source, target, axis.size, bytes(value));
    return sum;
  };
  Value source = value;
  double least = price(placements.lookup(value));
  for (const Conversion &conversion : known)
    if (price(conversion.placement) < least) {
      source = conversion.value;
      least = price(conversion.placement);
    }
  auto type = withPlacement(cast<RankedTensorType>(value.getType()), to, axes);
  Value converted = ConvertOp::create(b, value.getLoc(), type, source);
  known.push_back({to, converted});
  return converted;
}

Value BlockSharder::fulfil(OpBuilder &b, Value value, const Promise &promise) {
  Placement placement = placements.lookup(value);
  switch (promise.kind) {
  case Promise::Free:
    for (const Conversion &conversion : conversions.lookup(value))
      if (llvm::none_of(conversion.placement, [](OnAxis on) { return on.isPartial(); }) &&
          llvm::any_of(placement, [](OnAxis on) { return on.isPartial(); }))
        return conversion.value;
    return value;
  case Promise::AsIs:
    return value;
  case Promise::Tokens:
    for (OnAxis &on : placement)
      if (on.isPartial())
        on = {OnAxis::Split, 1};
    return convert(b, value, placement);
  case Promise::Fixed:
    return convert(b, value, promise.placement);
  }
  llvm_unreachable("no such promise");
}

// Marks what is added to the gradient of a parameter.
void BlockSharder::pin(Value gradient, const Placement &parameter) {
  pinned[gradient] = parameter;
  if (auto add = gradient.getDefiningOp<AddOp>())
    for (Value summand : {add.getLhs(), add.getRhs()})
      if (summand.getDefiningOp())
        pin(summand, parameter);
}

LogicalResult BlockSharder::shard(ArrayRef<Placement> arguments, ArrayRef<Placement> gradients,
                                  ArrayRef<Promise> promises) {
  Block &body = block.getBody().front();
  Operation *end = body.getTerminator();
  for (auto [argument, placement] : llvm::zip(body.getArguments(), arguments))
    place(argument, placement);
  for (auto [result, parameter] :
       llvm::zip_equal(end->getOperands().take_back(gradients.size()), gradients))
    pin(result, parameter);

  for (Operation &op : llvm::make_early_inc_range(body.without_terminator()))
    if (failed(placeOp(&op)))
      return failure();
  OpBuilder b(end);
  for (auto [operand, promise] : llvm::zip(end->getOpOperands(), promises))
    operand.set(fulfil(b, operand.get(), promise));
  for (auto [result, argument] : llvm::zip_equal(end->getOperands().take_back(gradients.size()),
                                                 body.getArguments().take_back(gradients.size())))
    if (result.getType() != argument.getType())
      return block.emitOpError("returns a gradient of type ")
             << result.getType() << " for one of type " << argument.getType();
  block.setFunctionType(
      FunctionType::get(block.getContext(), body.getArgumentTypes(), end->getOperandTypes()));
  return success();
}

} // namespace

LogicalResult llamac::shardBlock(func::FuncOp block, ArrayRef<Axis> axes, ArrayRef<Role> roles,
                                 unsigned inputs, ArrayRef<Placement> arguments,
                                 ArrayRef<Placement> gradients, ArrayRef<Promise> promises) {
  return BlockSharder(block, axes, roles, inputs, arguments.size() - inputs)
      .shard(arguments, gradients, promises);
}
