//===- Differentiate.cpp - Make the training step -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two levels, the same idea on both: walk back from what is wanted.
//
// In a block (class BlockDifferentiator): a scratch copy of the block gets the
// backward ops of every differentiable op, in reverse order, behind the forward
// ops. Three slices of that joint body become functions:
//
//   backward_input    from the gradients of the inputs, stopping at kept values
//   backward_weight   from the gradients of the parameters, stopping there too,
//                     and at what backward_input computes (`carried`)
//   forward           the block itself, returning also the kept values at which
//                     the other two stopped (`residuals`)
//
// Where one op makes gradients of both kinds (llama.linear_lse_grad), there is one
// `backward` instead, that adds to the gradients of the parameters, too. What only an
// output of the model reads is left out of forward.
//
// What is kept is the recompute policy. Slicing is the dead code elimination: an
// op that no wanted gradient needs is in no slice.
//
// In the model (class StepBuilder): forward over the applications to see which
// values depend on trainable parameters, backward to see which have a cotangent,
// then the step is written down: the forward applications, and in reverse order
// the backward ones. Applications of a block that want the same gradients share
// one variant.
//
//===----------------------------------------------------------------------===//
#include "llamac/Train/Passes.h"

#include "llamac/Train/Retype.h"

#include "dialects/Llama/IR/Llama.h"
#include "runtime/include/llrt/ProgramFields.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringSwitch.h"

#include <map>

namespace mlir::llamac {
#define GEN_PASS_DEF_DIFFERENTIATEPASS
#include "llamac/Train/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llama;

namespace {

enum class Recompute { None, Selective, Full };

bool isView(Operation *op) { return op->hasTrait<llama::IsView>(); }

bool keeps(Recompute recompute, Operation *op) {
  if (isView(op) || recompute == Recompute::Full)
    return false;
  return recompute == Recompute::None || !op->hasTrait<llama::IsCheap>();
}

// The values of a block that depend on a `wanted` argument.
llvm::DenseSet<Value> activeValues(Block &body, ArrayRef<bool> wanted) {
  llvm::DenseSet<Value> active;
  for (auto [argument, want] : llvm::zip_equal(body.getArguments(), wanted))
    if (want)
      active.insert(argument);
  for (Operation &op : body)
    if (isa<DifferentiableOpInterface>(op) &&
        llvm::any_of(op.getOperands(), [&](Value v) { return active.contains(v); }))
      active.insert(op.result_begin(), op.result_end());
  return active;
}

// Where an application gets an argument of a backward function from.
struct Source {
  enum Kind { Input, Result, Residual, Cotangent, InputGradient, Carried } kind;
  unsigned index;
};

struct BackwardFunction {
  func::FuncOp function; // null: nothing to compute
  SmallVector<Source> inputs;
  SmallVector<unsigned> parameters; // numbers among the block's parameters
  SmallVector<unsigned> gradients;  // parameters whose gradients it adds to, in order
};

// A block differentiated for one set of wanted gradients.
struct Variant {
  func::FuncOp forward;
  SmallVector<unsigned> arguments; // of the block, that `forward` takes
  SmallVector<unsigned> results;   // of the block, that `forward` returns before the residuals
  BackwardFunction input, weight;
  SmallVector<unsigned> inputGradients; // inputs whose gradients `input` returns, in order
};

//===----------------------------------------------------------------------===//
// One block
//===----------------------------------------------------------------------===//

class BlockDifferentiator {
public:
  // `wanted` per argument; per result `cotangents`, null where there is none, and whether it
  // is `read` in the step.
  BlockDifferentiator(func::FuncOp block, unsigned inputs, ArrayRef<bool> wanted,
                      ArrayRef<Type> cotangents, ArrayRef<bool> read, Recompute recompute)
      : block(block), numInputs(inputs), wanted(wanted), cotangents(cotangents), read(read),
        recompute(recompute) {}

  // `forwards` holds the forward functions made so far, by what they keep.
  Variant build(StringRef suffix, SymbolTable &symbols, llvm::StringMap<func::FuncOp> &forwards);

private:
  struct Slice {
    llvm::SetVector<Value> arguments;
    llvm::SetVector<Operation *> ops;
  };

  void buildJoint();
  Slice slice(ArrayRef<Value> results, llvm::function_ref<bool(Value)> stops);
  void sortArguments(Slice &slice);
  bool isForward(Value value) {
    return value.getDefiningOp() && forwardOps.contains(value.getDefiningOp());
  }
  bool isParameter(Value value) {
    auto argument = dyn_cast<BlockArgument>(value);
    return argument && argument.getArgNumber() >= numInputs &&
           argument.getArgNumber() < wanted.size();
  }
  std::pair<unsigned, unsigned> orderOf(Value value) {
    if (auto argument = dyn_cast<BlockArgument>(value))
      return {0, argument.getArgNumber()};
    return {1 + position.lookup(value.getDefiningOp()), cast<OpResult>(value).getResultNumber()};
  }
  func::FuncOp emit(StringRef name, const Slice &slice, ArrayRef<Value> results,
                    SymbolTable &symbols);
  void addToGradients(func::FuncOp function, unsigned count);

  func::FuncOp block;
  unsigned numInputs;
  ArrayRef<bool> wanted;
  ArrayRef<Type> cotangents;
  ArrayRef<bool> read;
  Recompute recompute;

  OwningOpRef<func::FuncOp> joint;
  llvm::DenseSet<Operation *> forwardOps;
  llvm::DenseMap<Operation *, unsigned> position;
  llvm::MapVector<Value, Value> gradients;
  llvm::DenseMap<Value, unsigned> cotangentOf; // argument of the joint body -> result
};

void BlockDifferentiator::buildJoint() {
  joint = block.clone();
  Block &body = joint->getBody().front();
  Operation *terminator = body.getTerminator();
  auto forward = llvm::map_to_vector(body.without_terminator(), [](Operation &op) { return &op; });
  forwardOps.insert(forward.begin(), forward.end());

  const llvm::DenseSet<Value> active = activeValues(body, wanted);

  OpBuilder b(terminator);
  auto add = [&](Value value, Value gradient) {
    Value &sum = gradients[value];
    if (sum)
      gradient = AddOp::create(b, gradient.getLoc(), sum, gradient,
                               TypeAttr::get(cotangentType(value).getElementType()));
    sum = gradient;
  };
  for (auto [index, type] : llvm::enumerate(cotangents)) {
    Value result = terminator->getOperand(index);
    if (!type || !active.contains(result))
      continue;
    unsigned number = body.getNumArguments();
    (void)joint->insertArgument(number, type, {}, result.getLoc());
    cotangentOf[body.getArgument(number)] = index;
    add(result, body.getArgument(number));
  }
  for (Operation *op : llvm::reverse(forward)) {
    auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
    if (!differentiable)
      continue;
    auto wants =
        llvm::map_to_vector(op->getOperands(), [&](Value v) { return active.contains(v); });
    auto given =
        llvm::map_to_vector(op->getResults(), [&](Value v) { return gradients.lookup(v); });
    if (!given[0] || !llvm::is_contained(wants, true))
      continue;
    auto found = differentiable.buildVjp(b, given, wants);
    for (auto [operand, gradient, want] : llvm::zip_equal(op->getOperands(), found, wants))
      if (gradient && want)
        add(operand, gradient);
  }
  for (auto [index, op] : llvm::enumerate(body))
    position[&op] = index;
}

BlockDifferentiator::Slice BlockDifferentiator::slice(ArrayRef<Value> results,
                                                      llvm::function_ref<bool(Value)> stops) {
  Slice slice;
  SmallVector<Value> worklist(results);
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    if (isa<BlockArgument>(value) || stops(value))
      slice.arguments.insert(value);
    else if (slice.ops.insert(value.getDefiningOp()))
      llvm::append_range(worklist, value.getDefiningOp()->getOperands());
  }
  return slice;
}

// Values first, parameters last, each in the order of the joint body.
void BlockDifferentiator::sortArguments(Slice &slice) {
  auto sorted = slice.arguments.takeVector();
  llvm::sort(sorted, [&](Value a, Value b) {
    return std::pair(isParameter(a), orderOf(a)) < std::pair(isParameter(b), orderOf(b));
  });
  slice.arguments.insert(sorted.begin(), sorted.end());
  auto ops = slice.ops.takeVector();
  llvm::sort(ops, [&](Operation *a, Operation *b) { return position[a] < position[b]; });
  slice.ops.insert(ops.begin(), ops.end());
}

func::FuncOp BlockDifferentiator::emit(StringRef name, const Slice &slice, ArrayRef<Value> results,
                                       SymbolTable &symbols) {
  OpBuilder b(block.getContext());
  auto function =
      func::FuncOp::create(b, block.getLoc(), name,
                           b.getFunctionType(ValueRange(slice.arguments.getArrayRef()).getTypes(),
                                             ValueRange(results).getTypes()));
  function->setDiscardableAttrs(block->getDiscardableAttrDictionary());
  function.setPrivate();
  IRMapping map;
  Block *body = function.addEntryBlock();
  map.map(slice.arguments.getArrayRef(), body->getArguments());
  b.setInsertionPointToEnd(body);
  for (Operation *op : slice.ops)
    b.clone(*op, map);
  func::ReturnOp::create(b, block.getLoc(),
                         llvm::map_to_vector(results, [&](Value v) { return map.lookup(v); }));
  symbols.insert(function);
  return function;
}

// Adds the last `count` results of `function` to the gradients so far, which come as further
// arguments.
void BlockDifferentiator::addToGradients(func::FuncOp function, unsigned count) {
  Operation *end = function.getBody().front().getTerminator();
  OpBuilder b(end);
  for (unsigned i = end->getNumOperands() - count, e = end->getNumOperands(); i < e; ++i) {
    Value gradient = end->getOperand(i);
    unsigned number = function.getNumArguments();
    (void)function.insertArgument(number, gradient.getType(), {}, gradient.getLoc());
    Value sum =
        AddOp::create(b, gradient.getLoc(), function.getArgument(number), gradient, TypeAttr());
    end->setOperand(i, sum);
    function.setResultAttr(i, kInPlaceAttr, b.getI64IntegerAttr(number));
  }
}

Variant BlockDifferentiator::build(StringRef suffix, SymbolTable &symbols,
                                   llvm::StringMap<func::FuncOp> &forwards) {
  buildJoint();
  Variant variant;
  SmallVector<Value> inputGradients, weightGradients;
  SmallVector<unsigned> parameters; // whose gradients these are
  for (auto [index, argument] : llvm::enumerate(joint->getArguments().take_front(wanted.size()))) {
    Value gradient = wanted[index] ? gradients.lookup(argument) : Value();
    if (!gradient)
      continue;
    (index < numInputs ? inputGradients : weightGradients).push_back(gradient);
    if (index < numInputs)
      variant.inputGradients.push_back(index);
    else
      parameters.push_back(index - numInputs);
  }

  auto kept = [&](Value v) { return isForward(v) && keeps(recompute, v.getDefiningOp()); };
  Slice input = slice(inputGradients, kept), weight;
  const bool together =
      llvm::any_of(weightGradients, [&](Value v) { return input.ops.contains(v.getDefiningOp()); });
  if (together) {
    SmallVector<Value> all(inputGradients);
    llvm::append_range(all, weightGradients);
    input = slice(all, kept);
  } else {
    weight = slice(weightGradients, [&](Value v) {
      return kept(v) || (input.ops.contains(v.getDefiningOp()) && !isView(v.getDefiningOp()));
    });
  }
  sortArguments(input);
  sortArguments(weight);

  // Values that flow from forward to backward, and from the input half to the
  // weight half, apart from what forward and the input half return anyway.
  Operation *terminator = joint->getBody().front().getTerminator();
  SmallVector<Value> results(terminator->getOperands()), residuals, carried;
  auto sourceOf = [&](Value v) -> Source {
    if (auto argument = dyn_cast<BlockArgument>(v)) {
      if (argument.getArgNumber() < numInputs)
        return {Source::Input, argument.getArgNumber()};
      return {Source::Cotangent, cotangentOf.lookup(v)};
    }
    auto indexIn = [&](SmallVector<Value> &list) {
      auto *found = llvm::find(list, v);
      if (found == list.end())
        found = (list.push_back(v), &list.back());
      return static_cast<unsigned>(found - list.begin());
    };
    if (input.ops.contains(v.getDefiningOp())) {
      if (const auto *found = llvm::find(inputGradients, v); found != inputGradients.end())
        return {Source::InputGradient, static_cast<unsigned>(found - inputGradients.begin())};
      return {Source::Carried, indexIn(carried)};
    }
    if (const auto *found = llvm::find(results, v); found != results.end())
      return {Source::Result, static_cast<unsigned>(found - results.begin())};
    return {Source::Residual, indexIn(residuals)};
  };
  auto describe = [&](const Slice &slice, BackwardFunction &backward) {
    for (Value v : slice.arguments) {
      if (isParameter(v))
        backward.parameters.push_back(cast<BlockArgument>(v).getArgNumber() - numInputs);
      else
        backward.inputs.push_back(sourceOf(v));
    }
  };
  describe(input, variant.input);
  describe(weight, variant.weight);

  // Residuals in the order of the block, so that variants that keep the same
  // values share one forward function.
  SmallVector<Value> found = residuals;
  llvm::sort(residuals, [&](Value a, Value b) { return orderOf(a) < orderOf(b); });
  for (BackwardFunction *backward : {&variant.input, &variant.weight})
    for (Source &source : backward->inputs)
      if (source.kind == Source::Residual)
        source.index = llvm::find(residuals, found[source.index]) - residuals.begin();

  std::string name = block.getName().str();
  if (!inputGradients.empty()) {
    SmallVector<Value> returned(inputGradients);
    llvm::append_range(returned, together ? weightGradients : carried);
    func::FuncOp function = emit(name + (together ? ".backward" : ".backward_input") + suffix.str(),
                                 input, returned, symbols);
    for (auto [result, argument] : llvm::enumerate(variant.inputGradients))
      function.setResultAttr(result, kGradientOfAttr,
                             IntegerAttr::get(IntegerType::get(block.getContext(), 64), argument));
    if (together) {
      addToGradients(function, weightGradients.size());
      variant.input.gradients = parameters;
    }
    variant.input.function = function;
  }
  if (!weightGradients.empty() && !together) {
    variant.weight.function =
        emit(name + ".backward_weight" + suffix.str(), weight, weightGradients, symbols);
    addToGradients(variant.weight.function, weightGradients.size());
    variant.weight.gradients = parameters;
  }
  std::string key = name;
  for (Value residual : residuals)
    key += " " + std::to_string(orderOf(residual).first) + ":" +
           std::to_string(orderOf(residual).second);
  // Results that nothing in the step reads.
  auto isSource = [&](unsigned result) {
    return llvm::any_of(ArrayRef<const BackwardFunction *>{&variant.input, &variant.weight},
                        [&](const BackwardFunction *backward) {
                          return llvm::any_of(backward->inputs, [&](const Source &source) {
                            return source.kind == Source::Result && source.index == result;
                          });
                        });
  };
  SmallVector<Value> returned;
  for (auto [index, result] : llvm::enumerate(results))
    if (read[index] || isSource(index)) {
      variant.results.push_back(index);
      returned.push_back(result);
      key += " r" + std::to_string(index);
    }
  for (BackwardFunction *backward : {&variant.input, &variant.weight})
    for (Source &source : backward->inputs)
      if (source.kind == Source::Result)
        source.index = llvm::find(variant.results, source.index) - variant.results.begin();
  func::FuncOp &forward = forwards[key];
  if (residuals.empty() && returned.size() == results.size()) {
    variant.forward = block;
    llvm::append_range(variant.arguments, llvm::seq<unsigned>(0, wanted.size()));
    return variant;
  }
  llvm::append_range(returned, residuals);
  Slice all = slice(returned, [](Value) { return false; });
  sortArguments(all);
  for (Value argument : all.arguments)
    variant.arguments.push_back(cast<BlockArgument>(argument).getArgNumber());
  if (!forward)
    forward = emit(name + ".forward" + suffix.str(), all, returned, symbols);
  variant.forward = forward;
  return variant;
}

//===----------------------------------------------------------------------===//
// The step
//===----------------------------------------------------------------------===//

class StepBuilder {
public:
  StepBuilder(ModuleOp module, func::FuncOp model, Recompute recompute)
      : module(module), model(model), recompute(recompute), symbols(module) {}

  LogicalResult build();

private:
  struct Application {
    ApplyOp apply;
    func::FuncOp block;
    SmallVector<bool> wanted;     // per argument of the block
    SmallVector<Type> cotangents; // per result, null where there is none
    SmallVector<bool> read;       // per result: in the step
    Variant *variant = nullptr;   // null: no backward
    int64_t number = 0;           // in @model
    ApplyOp forward;              // in the step
  };

  void findActive();
  LogicalResult findCotangents();
  Variant *variantOf(Application &application);
  Value sum(OpBuilder &b, const Application &application, ArrayRef<Value> gradients);
  void emitBackward(OpBuilder &b, Application &application);

  ModuleOp module;
  func::FuncOp model;
  Recompute recompute;
  SymbolTable symbols;
  std::vector<Application> applications;
  llvm::DenseMap<Value, Type> cotangentTypes; // values of @model that have a cotangent
  Value loss;
  using VariantKey =
      std::tuple<std::string, SmallVector<bool>, SmallVector<const void *>, SmallVector<bool>>;
  std::map<VariantKey, Variant> variants;
  llvm::StringMap<unsigned> variantCount;
  llvm::StringMap<func::FuncOp> forwards;
  IRMapping map;                                       // values of @model -> values of @step
  llvm::DenseMap<Value, SmallVector<Value>> gradients; // of values of @model
};

void StepBuilder::findActive() {
  llvm::DenseSet<Value> active;
  for (auto apply : model.getBody().getOps<ApplyOp>()) {
    Application application;
    application.apply = apply;
    application.number = applications.size();
    application.block = symbols.lookup<func::FuncOp>(apply.getBlock());
    for (Value input : apply.getInputs())
      application.wanted.push_back(active.contains(input));
    for (auto name : apply.getParameters().getAsRange<FlatSymbolRefAttr>())
      application.wanted.push_back(!symbols.lookup<ParameterOp>(name.getValue()).getFrozen());
    Block &body = application.block.getBody().front();
    const llvm::DenseSet<Value> inside = activeValues(body, application.wanted);
    for (auto [result, returned] :
         llvm::zip_equal(apply.getResults(), body.getTerminator()->getOperands()))
      if (inside.contains(returned) &&
          isa<FloatType>(cast<RankedTensorType>(result.getType()).getElementType()))
        active.insert(result);
    applications.push_back(std::move(application));
  }
}

LogicalResult StepBuilder::findCotangents() {
  Operation *terminator = model.getBody().front().getTerminator();
  for (unsigned i = 0, e = terminator->getNumOperands(); i < e; ++i)
    if (auto name = model.getResultAttrOfType<StringAttr>(i, kOutputAttr);
        name && name.getValue() == llrt::known::loss)
      loss = terminator->getOperand(i);
  if (!loss)
    return model.emitError("expects a result with the attribute llama.output = \"loss\"");
  cotangentTypes[loss] = loss.getType();

  for (Application &application : llvm::reverse(applications)) {
    bool reached = false;
    for (Value result : application.apply.getResults()) {
      application.read.push_back(
          result == loss ||
          llvm::any_of(result.getUsers(), [](Operation *user) { return isa<ApplyOp>(user); }));
      Type type = cotangentTypes.lookup(result);
      application.cotangents.push_back(type);
      reached |= type != nullptr;
    }
    if (!reached) {
      llvm::fill(application.wanted, false);
      continue;
    }
    for (auto [index, input] : llvm::enumerate(application.apply.getInputs())) {
      if (!application.wanted[index])
        continue;
      auto type = cotangentType(application.block.getArgument(index));
      auto known = dyn_cast_or_null<RankedTensorType>(cotangentTypes.lookup(input));
      // Contributions of unlike types are summed in the widest.
      if (!known || known.getElementTypeBitWidth() < type.getElementTypeBitWidth())
        cotangentTypes[input] = type;
    }
  }
  return success();
}

Variant *StepBuilder::variantOf(Application &application) {
  std::string name = application.block.getName().str();
  VariantKey key{
      name, application.wanted,
      llvm::map_to_vector(application.cotangents, [](Type t) { return t.getAsOpaquePointer(); }),
      application.read};
  auto [found, isNew] = variants.try_emplace(key);
  if (isNew) {
    unsigned number = ++variantCount[name];
    std::string suffix = number == 1 ? "" : "." + std::to_string(number);
    BlockDifferentiator differentiator(application.block, application.apply.getInputs().size(),
                                       application.wanted, application.cotangents, application.read,
                                       recompute);
    found->second = differentiator.build(suffix, symbols, forwards);
  }
  return &found->second;
}

// Says what part of the work `apply` is.
static ApplyOp tag(ApplyOp apply, int64_t application, StringRef phase) {
  OpBuilder b(apply);
  apply->setAttr(kApplicationAttr, b.getI64IntegerAttr(application));
  apply->setAttr(kPhaseAttr, b.getStringAttr(phase));
  return apply;
}

// The sum of several gradients of one result of `application`, in place of the first.
Value StepBuilder::sum(OpBuilder &b, const Application &application, ArrayRef<Value> gradients) {
  Value total = gradients.front();
  for (Value next : gradients.drop_front()) {
    auto a = cast<RankedTensorType>(total.getType()), c = cast<RankedTensorType>(next.getType());
    if (a.getElementTypeBitWidth() < c.getElementTypeBitWidth()) {
      std::swap(total, next);
      std::swap(a, c);
    }
    std::string name = "add";
    for (int64_t size : a.getShape())
      name += "." + std::to_string(size);
    llvm::raw_string_ostream(name) << "." << a.getElementType();
    if (a != c)
      llvm::raw_string_ostream(name) << "." << c.getElementType();
    if (!symbols.lookup(name)) {
      OpBuilder inside(module.getContext());
      auto block =
          func::FuncOp::create(inside, module.getLoc(), name, inside.getFunctionType({a, c}, {a}));
      block.setPrivate();
      block->setAttr(kBlockAttr, inside.getUnitAttr());
      block.setResultAttr(0, kInPlaceAttr, inside.getI64IntegerAttr(0));
      inside.setInsertionPointToEnd(block.addEntryBlock());
      Value result = AddOp::create(inside, module.getLoc(), block.getArgument(0),
                                   block.getArgument(1), TypeAttr());
      func::ReturnOp::create(inside, module.getLoc(), result);
      symbols.insert(block);
    }
    total = tag(ApplyOp::create(b, total.getLoc(), TypeRange(a), b.getStringAttr(name),
                                ValueRange{total, next}, b.getArrayAttr({}), b.getArrayAttr({})),
                application.number, kBackwardInputPhase)
                .getResult(0);
  }
  return total;
}

void StepBuilder::emitBackward(OpBuilder &b, Application &application) {
  Variant &variant = *application.variant;
  ApplyOp apply = application.apply;
  SmallVector<Value> cotangents;
  for (Value result : apply.getResults())
    cotangents.push_back(gradients.contains(result) ? sum(b, application, gradients[result])
                                                    : Value());

  SmallVector<Value> inputResults;
  auto valueOf = [&](Source source) -> Value {
    switch (source.kind) {
    case Source::Input:
      return map.lookup(apply.getInputs()[source.index]);
    case Source::Result:
      return application.forward.getResult(source.index);
    case Source::Residual:
      return application.forward.getResult(variant.results.size() + source.index);
    case Source::Cotangent:
      return cotangents[source.index];
    case Source::InputGradient:
      return inputResults[source.index];
    case Source::Carried:
      return inputResults[variant.inputGradients.size() + source.index];
    }
    return {};
  };
  auto names = [&](ArrayRef<unsigned> indices) {
    return b.getArrayAttr(llvm::map_to_vector(
        indices, [&](unsigned i) -> Attribute { return apply.getParameters()[i]; }));
  };
  auto call = [&](BackwardFunction &backward, StringRef phase) {
    return tag(
        ApplyOp::create(b, apply.getLoc(),
                        backward.function.getResultTypes().drop_back(backward.gradients.size()),
                        b.getStringAttr(backward.function.getName()),
                        llvm::map_to_vector(backward.inputs, valueOf), names(backward.parameters),
                        names(backward.gradients)),
        application.number, phase);
  };
  if (variant.input.function) {
    auto results = call(variant.input, kBackwardInputPhase);
    inputResults.assign(results.result_begin(), results.result_end());
    for (auto [index, gradient] : llvm::zip(variant.inputGradients, inputResults))
      gradients[apply.getInputs()[index]].push_back(gradient);
  }
  if (variant.weight.function)
    call(variant.weight, kBackwardWeightPhase);
}

LogicalResult StepBuilder::build() {
  findActive();
  if (failed(findCotangents()))
    return failure();
  if (llvm::none_of(applications,
                    [](Application &a) { return llvm::is_contained(a.wanted, true); }))
    return model.emitError("expects at least one trainable parameter on the way to the loss");
  for (Application &application : applications)
    if (llvm::is_contained(application.wanted, true))
      application.variant = variantOf(application);

  // @step: the inputs of @model and the cotangent of the loss.
  OpBuilder b(model.getContext());
  SmallVector<Type> inputs(model.getArgumentTypes());
  inputs.push_back(loss.getType());
  auto step =
      func::FuncOp::create(b, model.getLoc(), "step", b.getFunctionType(inputs, {loss.getType()}));
  Block *body = step.addEntryBlock();
  for (unsigned i = 0, e = model.getNumArguments(); i < e; ++i) {
    map.map(model.getArgument(i), body->getArgument(i));
    step.setArgAttrs(i, model.getArgAttrDict(i));
  }
  step.setArgAttr(inputs.size() - 1, kInputAttr, b.getStringAttr("loss_gradient"));
  step.setResultAttr(0, kOutputAttr, b.getStringAttr(llrt::known::loss));

  b.setInsertionPointToEnd(body);
  for (Application &application : applications) {
    ApplyOp apply = application.apply;
    func::FuncOp forward = application.variant ? application.variant->forward : application.block;
    SmallVector<Value> inputs;
    SmallVector<Attribute> parameters;
    auto take = [&](unsigned argument) {
      unsigned count = apply.getInputs().size();
      if (argument < count)
        inputs.push_back(map.lookup(apply.getInputs()[argument]));
      else
        parameters.push_back(apply.getParameters()[argument - count]);
    };
    if (application.variant)
      llvm::for_each(application.variant->arguments, take);
    else
      llvm::for_each(llvm::seq<unsigned>(0, application.block.getNumArguments()), take);
    application.forward = tag(ApplyOp::create(b, apply.getLoc(), forward.getResultTypes(),
                                              b.getStringAttr(forward.getName()), inputs,
                                              b.getArrayAttr(parameters), b.getArrayAttr({})),
                              application.number, kForwardPhase);
    tag(apply, application.number, kForwardPhase);
    for (unsigned i = 0, e = apply.getNumResults(); i < e; ++i) {
      unsigned number = i;
      if (application.variant) {
        const auto *found = llvm::find(application.variant->results, i);
        if (found == application.variant->results.end())
          continue;
        number = found - application.variant->results.begin();
      }
      map.map(apply.getResult(i), application.forward.getResult(number));
    }
  }
  gradients[loss].push_back(body->getArguments().back());
  for (Application &application : llvm::reverse(applications))
    if (application.variant)
      emitBackward(b, application);
  func::ReturnOp::create(b, model.getLoc(), map.lookup(loss));
  // Inputs of outputs that the step does not form.
  llvm::BitVector unread(body->getNumArguments());
  for (BlockArgument argument : body->getArguments())
    unread[argument.getArgNumber()] = argument.use_empty();
  if (failed(step.eraseArguments(unread)))
    return failure();
  symbols.insert(step);
  return symbols.rename(model, "forward");
}

struct DifferentiatePass : llamac::impl::DifferentiatePassBase<DifferentiatePass> {
  using DifferentiatePassBase::DifferentiatePassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    func::FuncOp model = llamac::findModel(module);
    if (!model)
      return signalPassFailure();
    auto policy = llvm::StringSwitch<std::optional<Recompute>>(recompute)
                      .Case("none", Recompute::None)
                      .Case("selective", Recompute::Selective)
                      .Case("full", Recompute::Full)
                      .Default(std::nullopt);
    if (!policy) {
      module.emitError("expects recompute to be none, selective or full, but got '")
          << recompute << "'";
      return signalPassFailure();
    }
    if (failed(StepBuilder(module, model, *policy).build()))
      signalPassFailure();
  }
};
} // namespace
