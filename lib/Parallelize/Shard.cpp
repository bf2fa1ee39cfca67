//===- Shard.cpp - Give every value a placement on the grid ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parameters and inputs are placed by rule (Megatron's column and row split, tokens
// split between them; arXiv 1909.08053, 2205.05198, and context parallelism,
// arXiv 2407.21783 section 3.3.2). What lies between follows, block by block, in one
// pass forward over the ops (BlockSharder): on every axis an op takes, of the ways its
// rule allows, the one whose operands cost the fewest bytes to bring there, and a
// `dist.convert` is put where a value is wanted otherwise than it lies. One converted
// value serves all ops that want it. Parameters do not move.
//
// A block is sharded once for each placement of its arguments (ModelSharder), along the
// graphs @forward and @step. What blocks return is promised: activations are split over
// tokens as they came, a gradient lies like its value, a parameter's gradient is left a
// partial sum, to be summed once, after all micro-batches.
//
//===----------------------------------------------------------------------===//
#include "llamac/Parallelize/Passes.h"

#include "Placement.h"

#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringSet.h"

#include <limits>
#include <map>
#include <numeric>

namespace mlir::llamac {
#define GEN_PASS_DEF_SHARDPASS
#include "llamac/Parallelize/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::dist;
using namespace mlir::llama;
using namespace mlir::llamac;

namespace {

// What an axis may do in a block.
struct Role {
  unsigned axis;
  /// Splits tokens and nothing else (cp, axes of the encoder). Others split heads, hidden
  /// channels and vocabulary, too. None splits samples.
  bool tokensOnly = false;
  /// The axis outside of this one that splits the same dimensions, for `tpr`, along
  /// which ranks share heads of keys and values.
  std::optional<unsigned> outer = std::nullopt;
};

// How a block has to return a value.
struct Promise {
  enum Kind {
    Free,   ///< as it lies; a partial sum as the whole that a use made of it, if one did
    AsIs,   ///< as it lies, a partial sum too
    Tokens, ///< as it lies, but what is a partial sum is split over tokens (dimension 1)
    Fixed   ///< as `placement` says
  } kind = Free;
  Placement placement = {};
};

constexpr double kForbidden = std::numeric_limits<double>::infinity();
// Price of a slice, which moves nothing, and of leaving a partial sum, per byte. They only
// break ties.
constexpr double kSlice = 1e-6, kPartial = 1e-9;

//===----------------------------------------------------------------------===//
// One block
//===----------------------------------------------------------------------===//

class BlockSharder {
public:
  BlockSharder(func::FuncOp block, ArrayRef<Axis> axes, ArrayRef<Role> roles, unsigned inputs,
               unsigned parameters)
      : block(block), axes(axes), roles(roles), numInputs(inputs), numParameters(parameters) {}

  /// `arguments`: placements of inputs and parameters. `gradients`: those of the
  /// parameters whose gradients the block adds to. `promises`: per result that is no
  /// such gradient.
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

//===----------------------------------------------------------------------===//
// The graphs
//===----------------------------------------------------------------------===//

struct Options {
  Grid grid;
  bool encoderByTokens;
  SmallVector<std::string> encoderAxes; // names of the command line
};

class ModelSharder {
public:
  ModelSharder(ModuleOp module, const Options &options)
      : module(module), options(options), symbols(module) {}
  LogicalResult shard();

private:
  // An application of the model: what its backward has to answer to.
  struct Application {
    ApplyOp apply; // in @forward
    SmallVector<Promise> promises;
    SmallVector<Placement> inputs;
    SmallVector<bool> keepsPartial; // per input: its gradient stays a partial sum
  };

  LogicalResult checkSizes();
  void makeGrid();
  void placeParameters();
  LogicalResult shardGraph(func::FuncOp graph, bool isForward);
  void reduceInputs(ApplyOp apply);
  LogicalResult shardApplication(ApplyOp apply, bool isForward);
  SmallVector<Promise> promisesOf(ApplyOp apply, bool isForward);
  Promise promiseOf(OpResult result);
  bool isEncoder(ApplyOp apply) {
    auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
    auto part = block->getAttrOfType<StringAttr>(kPartAttr);
    return part && part.getValue() == kEncoderPart;
  }
  unsigned indexOf(StringRef name) const {
    return llvm::find_if(axes, [&](const Axis &axis) { return axis.name == name; }) - axes.begin();
  }
  Placement placement(Value value) const { return placementOf(value.getType(), axes); }
  // Split on `dimension` over those of the axes `names` that have more than one rank.
  Placement split(ArrayRef<StringRef> names, unsigned dimension) const {
    Placement result(axes.size());
    for (StringRef name : names)
      if (unsigned index = indexOf(name); index < axes.size() && axes[index].size > 1)
        result[index] = {OnAxis::Split, dimension};
    return result;
  }

  ModuleOp module;
  const Options &options;
  SymbolTable symbols;
  int64_t queryHeads = 0, keyHeads = 0; // of the text layers, 0: none
  SmallVector<Axis> axes;
  SmallVector<Role> textRoles, encoderRoles;
  SmallVector<StringRef> encoderAxes; // in the order of the grid
  llvm::StringSet<> encoderParameters;
  std::map<int64_t, Application> applications;
  llvm::StringMap<OwningOpRef<func::FuncOp>> originals; // blocks as they were
  std::map<std::string, func::FuncOp> sharded;          // by block and placements
  llvm::StringMap<unsigned> variants;
  llvm::DenseMap<Value, Value> reducedInputs;                   // of the encoder, from partial sums
  llvm::StringMap<std::pair<Placement, Operation *>> gradients; // of parameters, first use
};

// The dimension of a text parameter that tp splits, and whether tp alone does, not tpr
// (Megatron: columns of what comes in, rows of what goes out).
struct ParameterSplit {
  unsigned dimension;
  bool sharesHeads;
};
std::optional<ParameterSplit> splitOf(ParameterOp parameter) {
  StringRef key = parameter.getCheckpointKey();
  if (parameter.getRowBegin().value_or(0) || // the extra rows of the embedding
      parameter.getTensorType().getRank() != 2)
    return std::nullopt;
  key.consume_back(".weight");
  StringRef name = key.substr(key.rfind('.') + 1); // npos + 1 is 0
  auto isOneOf = [&](ArrayRef<StringRef> names) { return llvm::is_contained(names, name); };
  if (isOneOf({"k_proj", "v_proj"}))
    return ParameterSplit{0, true};
  if (isOneOf({"q_proj", "gate_proj", "up_proj", "embed_tokens", "lm_head"}))
    return ParameterSplit{0, false};
  if (isOneOf({"o_proj", "down_proj"}))
    return ParameterSplit{1, false};
  return std::nullopt;
}

// The sizes next to `wanted`, not above `most`, that work.
std::string nearest(int64_t wanted, int64_t most, llvm::function_ref<bool(int64_t)> works) {
  int64_t below = std::min(wanted - 1, most), above = wanted + 1;
  while (below > 0 && !works(below))
    --below;
  while (above <= most && !works(above))
    ++above;
  std::string text;
  if (below > 0)
    text = std::to_string(below);
  if (above <= most)
    text += (text.empty() ? "" : " and ") + std::to_string(above);
  return text;
}

// Sizes that the grid has to divide.
LogicalResult ModelSharder::checkSizes() {
  int64_t encoderTokens = 0;
  module.walk([&](AttentionOp attention) {
    auto heads = [](Value value) { return cast<RankedTensorType>(value.getType()).getDimSize(2); };
    if (attention.getMask() == Mask::Encoder) {
      encoderTokens = cast<RankedTensorType>(attention.getKey().getType()).getDimSize(1);
    } else {
      queryHeads = heads(attention.getQuery());
      keyHeads = heads(attention.getKey());
    }
  });

  // Why tp ranks cannot share the model; empty if they can.
  auto whyNot = [&](int64_t tp) -> std::string {
    if (queryHeads && queryHeads % tp)
      return "the " + std::to_string(queryHeads) + " attention heads of the text layers";
    if (keyHeads && keyHeads % tp && tp % keyHeads)
      return "the " + std::to_string(keyHeads) +
             " key and value heads of the text layers, nor do these divide it";
    for (auto parameter : module.getOps<ParameterOp>()) {
      auto split = splitOf(parameter);
      if (!split || encoderParameters.contains(parameter.getSymName()))
        continue;
      int64_t size = parameter.getTensorType().getDimSize(split->dimension);
      if (size % (split->sharesHeads && keyHeads ? std::gcd(tp, keyHeads) : tp))
        return "dimension " + std::to_string(split->dimension) + " of '" +
               parameter.getSymName().str() + "' (" + std::to_string(size) + ")";
    }
    return "";
  };
  const Grid &grid = options.grid;
  if (std::string why = whyNot(grid.tp); !why.empty())
    return emitError(module.getLoc())
           << "grid: tp=" << grid.tp << " does not divide " << why << "; the nearest that work: "
           << nearest(grid.tp, queryHeads ? queryHeads : std::min<int64_t>(2 * grid.tp, 1024),
                      [&](int64_t tp) { return whyNot(tp).empty(); });

  auto checkTokens = [&](StringRef option, int64_t tokens, int64_t multiple,
                         const Twine &over) -> LogicalResult {
    if (tokens % multiple == 0)
      return success();
    int64_t below = tokens / multiple * multiple;
    return emitError(module.getLoc())
           << option << ": " << tokens << " tokens cannot be split over " << over
           << ": expected a multiple of " << multiple << ", the nearest "
           << (below ? "are " + std::to_string(below) + " and " : "is ") << below + multiple;
  };
  auto step = symbols.lookup<func::FuncOp>("step");
  for (unsigned i = 0; i < step.getNumArguments(); ++i) {
    auto name = step.getArgAttrOfType<StringAttr>(i, kInputAttr);
    if (!name || name.getValue() != "input_ids")
      continue;
    // Context parallelism gives each rank two chunks of the sequence.
    int64_t multiple = grid.cp * (grid.cp > 1 ? std::lcm(int64_t(2), grid.tp) : grid.tp);
    if (failed(checkTokens("text-length",
                           cast<RankedTensorType>(step.getArgument(i).getType()).getDimSize(1),
                           multiple, "cp=" + Twine(grid.cp) + " and tp=" + Twine(grid.tp))))
      return failure();
  }
  if (options.encoderByTokens && encoderTokens) {
    int64_t ranks = 1;
    for (const std::string &name : options.encoderAxes)
      ranks *= name == "tp" ? grid.tp : name == "cp" ? grid.cp : grid.pp;
    if (failed(checkTokens("encoder-axes", encoderTokens, ranks,
                           Twine(ranks) + " ranks of the encoder")))
      return failure();
  }
  return success();
}

void ModelSharder::makeGrid() {
  const Grid &grid = options.grid;
  int64_t shared = keyHeads ? std::gcd(grid.tp, keyHeads) : grid.tp;
  axes = {{"dp", grid.dp}, {"pp", grid.pp}, {"cp", grid.cp}, {"tp", shared}};
  if (shared != grid.tp)
    axes.push_back({"tpr", grid.tp / shared});

  OpBuilder b = OpBuilder::atBlockBegin(module.getBody());
  SmallVector<StringRef> names;
  SmallVector<int64_t> shape;
  for (const Axis &axis : axes) {
    names.push_back(axis.name);
    shape.push_back(axis.size);
  }
  shard::GridOp::create(b, module.getLoc(), kGridSymbol, shape);
  module->setAttr(kAxesAttr, b.getStrArrayAttr(names));

  if (options.encoderByTokens)
    for (const Axis &axis : axes)
      if (llvm::is_contained(options.encoderAxes, axis.name == "tpr" ? "tp" : axis.name))
        encoderAxes.push_back(axis.name);
  for (auto [index, axis] : llvm::enumerate(axes)) {
    if (axis.size == 1)
      continue;
    unsigned number = index;
    bool ofEncoder = llvm::is_contained(encoderAxes, axis.name);
    if (ofEncoder)
      encoderRoles.push_back({number, /*tokensOnly=*/true});
    if (axis.name == "tpr")
      textRoles.push_back({number, false, number - 1});
    else if (axis.name == "tp")
      textRoles.push_back({number});
    else if (axis.name == "cp" || ofEncoder)
      textRoles.push_back({number, /*tokensOnly=*/true});
  }
}

void ModelSharder::placeParameters() {
  for (auto parameter : module.getOps<ParameterOp>()) {
    auto found = splitOf(parameter);
    if (!found || encoderParameters.contains(parameter.getSymName()))
      continue;
    SmallVector<StringRef> names = {"tp", "tpr"};
    auto placement =
        split(ArrayRef(names).take_front(found->sharesHeads ? 1 : 2), found->dimension);
    parameter.setType(withPlacement(parameter.getTensorType(), placement, axes));
  }
}

// Of a result of an application in @forward.
Promise ModelSharder::promiseOf(OpResult result) {
  auto type = cast<RankedTensorType>(result.getType());
  if (!isEncoder(cast<ApplyOp>(result.getOwner())))
    return {type.getRank() >= 3 ? Promise::Tokens : Promise::Free};
  // Within the encoder tokens are split; image states go to all ranks.
  bool staysInside = llvm::all_of(result.getUsers(), [&](Operation *user) {
    auto apply = dyn_cast<ApplyOp>(user);
    return apply && isEncoder(apply);
  });
  return {Promise::Fixed, staysInside ? split(encoderAxes, 1) : Placement(axes.size())};
}

SmallVector<Promise> ModelSharder::promisesOf(ApplyOp apply, bool isForward) {
  SmallVector<Promise> promises(apply.getNumResults());
  auto number = apply->getAttrOfType<IntegerAttr>(kApplicationAttr);
  auto phase = apply->getAttrOfType<StringAttr>(kPhaseAttr);
  if (!number)
    return promises;
  if (isForward) {
    Application &application = applications[number.getInt()];
    application.apply = apply;
    for (OpResult result : apply->getResults())
      application.promises.push_back(promiseOf(result));
    auto block = originals.count(apply.getBlock()) ? originals[apply.getBlock()].get()
                                                   : symbols.lookup<func::FuncOp>(apply.getBlock());
    for (auto [index, input] : llvm::enumerate(apply.getInputs())) {
      application.inputs.push_back(placement(input));
      application.keepsPartial.push_back(bool(block.getArgAttr(index, kGradientTypeAttr)));
    }
    return application.promises;
  }
  auto found = applications.find(number.getInt());
  if (found == applications.end() || !phase)
    return promises;
  const Application &application = found->second;
  if (phase.getValue() == kForwardPhase)
    llvm::copy(application.promises, promises.begin()); // behind them: residuals
  auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
  for (unsigned i = 0; i < promises.size(); ++i)
    if (auto of = block.getResultAttrOfType<IntegerAttr>(i, kGradientOfAttr)) {
      if (application.keepsPartial[of.getInt()])
        promises[i] = {Promise::AsIs};
      else
        promises[i] = {Promise::Fixed, application.inputs[of.getInt()]};
    }
  return promises;
}

// The gradient of the image states is summed once, before the encoder's backward pass.
void ModelSharder::reduceInputs(ApplyOp apply) {
  OpBuilder b(apply);
  for (OpOperand &input : apply->getOpOperands()) {
    Placement whole = placement(input.get());
    for (OnAxis &on : whole)
      if (on.isPartial())
        on = OnAxis();
    if (whole == placement(input.get()))
      continue;
    Value &reduced = reducedInputs[input.get()];
    if (!reduced) {
      auto type = withPlacement(cast<RankedTensorType>(input.get().getType()), whole, axes);
      auto convert = ConvertOp::create(b, apply.getLoc(), type, input.get());
      convert->setDiscardableAttrs(apply->getDiscardableAttrDictionary());
      reduced = convert;
    }
    input.set(reduced);
  }
}

LogicalResult ModelSharder::shardApplication(ApplyOp apply, bool isForward) {
  if (isEncoder(apply))
    reduceInputs(apply);
  std::string name = apply.getBlock().str();
  auto block = symbols.lookup<func::FuncOp>(name);
  if (block.isExternal())
    return apply.emitOpError("applies '") << name << "', which has no body";
  for (Type type : block.getArgumentTypes())
    if (!cast<RankedTensorType>(type).hasStaticShape())
      return block.emitOpError("expects sizes that are all known, but got ") << type;
  SmallVector<Promise> promises = promisesOf(apply, isForward);
  SmallVector<Placement> arguments, gradientsOf;
  for (Value input : apply.getInputs())
    arguments.push_back(placement(input));
  auto placementsOf = [&](ArrayAttr names, SmallVector<Placement> &list) {
    for (auto parameter : names.getAsRange<FlatSymbolRefAttr>())
      list.push_back(
          placementOf(symbols.lookup<ParameterOp>(parameter.getValue()).getType(), axes));
  };
  placementsOf(apply.getParameters(), arguments);
  placementsOf(apply.getGradients(), gradientsOf);

  std::string key = name;
  llvm::raw_string_ostream os(key);
  auto print = [&](ArrayRef<OnAxis> placement) {
    os << ' ';
    for (OnAxis on : placement)
      os << "WSPM"[on.kind] << on.dimension;
  };
  llvm::for_each(arguments, print);
  llvm::for_each(gradientsOf, print);
  for (const Promise &promise : promises) {
    os << ' ' << "FATX"[promise.kind];
    print(promise.placement);
  }

  func::FuncOp &variant = sharded[key];
  if (!variant) {
    unsigned number = ++variants[name];
    if (number == 1) {
      originals[name] = block.clone();
      variant = block;
    } else {
      variant = originals[name]->clone();
      variant.setName(name + ".placed" + std::to_string(number));
      symbols.insert(variant);
    }
    bool encoder = isEncoder(apply);
    BlockSharder sharder(variant, axes, encoder ? encoderRoles : textRoles,
                         apply.getInputs().size(), apply.getParameters().size());
    if (failed(sharder.shard(arguments, gradientsOf, promises)))
      return failure();
  }
  apply.setBlock(variant.getName());
  for (auto [result, type] : llvm::zip(apply.getResults(), variant.getResultTypes()))
    result.setType(type);

  // All gradients of one parameter are summed over the same axes.
  unsigned first = variant.getNumArguments() - gradientsOf.size();
  for (auto [index, parameter] :
       llvm::enumerate(apply.getGradients().getAsRange<FlatSymbolRefAttr>())) {
    Placement found = placementOf(variant.getArgument(first + index).getType(), axes);
    auto &[known, user] = gradients[parameter.getValue()];
    if (user && known != found) {
      auto error = apply.emitOpError("makes another partial sum of the gradient of '")
                   << parameter.getValue() << "' than an application before";
      error.attachNote(user->getLoc()) << "which is here";
      return error;
    }
    known = found;
    user = apply;
  }
  return success();
}

LogicalResult ModelSharder::shardGraph(func::FuncOp graph, bool isForward) {
  Block &body = graph.getBody().front();
  static constexpr StringLiteral kTokenInputs[] = {"input_ids", "labels",      "positions",
                                                   "documents", "image_begin", "image_end"};
  for (BlockArgument argument : body.getArguments()) {
    auto name = graph.getArgAttrOfType<StringAttr>(argument.getArgNumber(), kInputAttr);
    if (name && llvm::is_contained(kTokenInputs, name.getValue()))
      argument.setType(
          withPlacement(cast<RankedTensorType>(argument.getType()), split({"cp"}, 1), axes));
  }
  for (Operation &op : body.without_terminator()) {
    auto apply = dyn_cast<ApplyOp>(op);
    if (!apply)
      return op.emitOpError("is not allowed in a graph: it applies blocks and nothing else");
    if (failed(shardApplication(apply, isForward)))
      return failure();
  }
  graph.setFunctionType(FunctionType::get(graph.getContext(), body.getArgumentTypes(),
                                          body.getTerminator()->getOperandTypes()));
  return success();
}

LogicalResult ModelSharder::shard() {
  if (module.lookupSymbol(kGridSymbol))
    return emitError(module.getLoc()) << "the module is already on a grid";
  func::FuncOp graphs[] = {symbols.lookup<func::FuncOp>("forward"),
                           symbols.lookup<func::FuncOp>("step")};
  for (auto [graph, name] : llvm::zip(graphs, ArrayRef<StringRef>{"forward", "step"})) {
    if (!graph || graph.isExternal())
      return emitError(module.getLoc())
             << "expected a training graph with a function '" << name << "'";
    for (auto apply : graph.getOps<ApplyOp>())
      if (isEncoder(apply))
        for (ArrayAttr names : {apply.getParameters(), apply.getGradients()})
          for (auto parameter : names.getAsRange<FlatSymbolRefAttr>())
            encoderParameters.insert(parameter.getValue());
  }
  if (failed(checkSizes()))
    return failure();
  makeGrid();
  if (textRoles.empty() && encoderRoles.empty())
    return success();
  placeParameters();
  return success(succeeded(shardGraph(graphs[0], true)) && succeeded(shardGraph(graphs[1], false)));
}

struct ShardPass : llamac::impl::ShardPassBase<ShardPass> {
  using ShardPassBase::ShardPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<Grid> parsed = parseGrid(grid, module.getLoc());
    if (failed(parsed))
      return signalPassFailure();
    Options options{*parsed, encoderShard == "tokens", {}};
    if (encoderShard != "tokens" && encoderShard != "images") {
      emitError(module.getLoc()) << "encoder-shard: expected images or tokens, got '"
                                 << encoderShard << "'";
      return signalPassFailure();
    }
    for (const std::string &axis : encoderAxes) {
      if (axis != "tp" && axis != "cp" && axis != "pp") {
        emitError(module.getLoc())
            << "encoder-axes: expected a list of tp, cp and pp, got '" << axis << "'";
        return signalPassFailure();
      }
      options.encoderAxes.push_back(axis);
    }
    if (failed(ModelSharder(module, options).shard()))
      signalPassFailure();
  }
};
} // namespace
