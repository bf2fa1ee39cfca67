//===- Shard.cpp - Give every value a placement on the grid ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parameters and inputs are placed by rule (Megatron's column and row split, tokens
// split between them; arXiv 1909.08053, 2205.05198, and context parallelism,
// arXiv 2407.21783 section 3.3.2). What lies between follows, block by block
// (ShardBlock.h). A block is sharded once for each placement of its arguments, along the
// graphs @forward and @step. What blocks return is promised: activations are split over
// tokens as they came, a gradient lies like its value, a parameter's gradient is left a
// partial sum, to be summed once, after all micro-batches.
//
//===----------------------------------------------------------------------===//
#include "llamac/Shard/Passes.h"

#include "PadSizes.h"
#include "ShardBlock.h"

#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/StringSet.h"

#include <map>
#include <numeric>

namespace mlir::llamac {
#define GEN_PASS_DEF_SHARDPASS
#include "llamac/Shard/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::dist;
using namespace mlir::llama;
using namespace mlir::llamac;

namespace {

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

// Heads divide or not; the vocabulary and the width of the feed-forward branch can be made to.
bool canPad(ParameterOp parameter) {
  return splitOf(parameter) &&
         llvm::any_of(ArrayRef<StringRef>{"gate_proj.weight", "up_proj.weight", "down_proj.weight",
                                          "embed_tokens.weight", "lm_head.weight"},
                      [&](StringRef end) { return parameter.getCheckpointKey().ends_with(end); });
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
  const int64_t encoderTokens = llamac::encoderTokens(module);
  module.walk([&](AttentionOp attention) {
    auto heads = [](Value value) { return cast<RankedTensorType>(value.getType()).getDimSize(2); };
    if (attention.getMask() == Mask::Encoder)
      return;
    queryHeads = heads(attention.getQuery());
    keyHeads = heads(attention.getKey());
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
      if (!split || encoderParameters.contains(parameter.getSymName()) || canPad(parameter))
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
           << "--grid: tp=" << grid.tp << " does not divide " << why << "; the nearest that work: "
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
    if (failed(checkTokens("--text-length",
                           cast<RankedTensorType>(step.getArgument(i).getType()).getDimSize(1),
                           multiple, "cp=" + Twine(grid.cp) + " and tp=" + Twine(grid.tp))))
      return failure();
  }
  if (options.encoderByTokens && encoderTokens) {
    int64_t ranks = 1;
    for (const std::string &name : options.encoderAxes)
      ranks *= name == "tp" ? grid.tp : name == "cp" ? grid.cp : grid.pp;
    if (failed(checkTokens("--encoder-axes", encoderTokens, ranks,
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
    if (failed(shardBlock(variant, axes, encoder ? encoderRoles : textRoles,
                          apply.getInputs().size(), arguments, gradientsOf, promises)))
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
  static constexpr StringLiteral kTokenInputs[] = {
      "input_ids", "labels", "positions", "documents", "image_begin", "image_end", "table_ids"};
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
  auto toPad = [&](ParameterOp parameter) -> std::optional<unsigned> {
    if (encoderParameters.contains(parameter.getSymName()) || !canPad(parameter))
      return std::nullopt;
    return splitOf(parameter)->dimension;
  };
  if (failed(checkSizes()) || failed(padSizes(module, options.grid.tp, toPad)))
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
      emitError(module.getLoc()) << "--encoder-shard: expected images or tokens, got '"
                                 << encoderShard << "'";
      return signalPassFailure();
    }
    for (const std::string &axis : encoderAxes) {
      if (axis != "tp" && axis != "cp" && axis != "pp") {
        emitError(module.getLoc())
            << "--encoder-axes: expected a list of tp, cp and pp, got '" << axis << "'";
        return signalPassFailure();
      }
      options.encoderAxes.push_back(axis);
    }
    if (failed(ModelSharder(module, options).shard()))
      signalPassFailure();
  }
};
} // namespace
