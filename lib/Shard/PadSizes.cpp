//===- PadSizes.cpp - Make sizes divisible by the ranks that share them ---===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The parameters get their new types; then the graphs are walked once, and every block that
// takes another type, or a new input, is typed again by inference (Retype.h).
//
//===----------------------------------------------------------------------===//
#include "PadSizes.h"

#include "llamac/Train/Retype.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

#include <functional>

using namespace mlir;
using namespace mlir::llama;

namespace {
class Padder {
public:
  Padder(ModuleOp module) : module(module), symbols(module) {}
  LogicalResult pad(int64_t ranks,
                    llvm::function_ref<std::optional<unsigned>(ParameterOp)> dimensionOf);

private:
  // Whether `block` has an op with parts of the vocabulary, one for each rank.
  static bool hasParts(func::FuncOp block) {
    return !block.getBody().getOps<LinearLseOp>().empty();
  }
  LogicalResult padGraph(func::FuncOp graph);
  LogicalResult padBlock(func::FuncOp block, ApplyOp apply);
  Value addInput(func::FuncOp block, unsigned index, StringRef name, Type type);
  // Whether `value` is a padded table of the vocabulary, in a block that `apply` applies.
  bool isTable(Value value, ApplyOp apply);

  ModuleOp module;
  SymbolTable symbols;
  llvm::StringMap<RankedTensorType> tables; // padded ones of the vocabulary, by parameter
  int64_t vocabulary = 0, padded = 0;       // rows of them; 0: none
  int64_t ranks = 1;
  bool hasExtraRows = false;
  Type biasType, idsType;
  llvm::StringMap<SmallVector<StringRef>> added; // new inputs of blocks that were seen
};
} // namespace

bool Padder::isTable(Value value, ApplyOp apply) {
  auto argument = dyn_cast<BlockArgument>(value);
  unsigned inputs = apply.getInputs().size();
  if (!argument || argument.getArgNumber() < inputs ||
      argument.getArgNumber() >= inputs + apply.getParameters().size())
    return false;
  auto name = cast<FlatSymbolRefAttr>(apply.getParameters()[argument.getArgNumber() - inputs]);
  return tables.contains(name.getValue());
}

Value Padder::addInput(func::FuncOp block, unsigned index, StringRef name, Type type) {
  (void)block.insertArgument(index, type, {},
                             NameLoc::get(StringAttr::get(module.getContext(), name)));
  Builder b(module.getContext());
  for (unsigned i = 0; i < block.getNumResults(); ++i)
    if (auto place = block.getResultAttrOfType<IntegerAttr>(i, kInPlaceAttr);
        place && place.getInt() >= index)
      block.setResultAttr(i, kInPlaceAttr, b.getI64IntegerAttr(place.getInt() + 1));
  return block.getArgument(index);
}

LogicalResult Padder::padBlock(func::FuncOp block, ApplyOp apply) {
  // Found before any argument is added: numbers of arguments are those of `apply`.
  SmallVector<std::function<void(Value)>> heads; // set the bias of one
  SmallVector<OpOperand *> ids;
  if (vocabulary)
    for (Operation &op : block.getBody().front()) {
      if (auto linear = dyn_cast<LinearOp>(op); linear && isTable(linear.getWeight(), apply))
        heads.push_back([linear](Value bias) mutable { linear.getBiasMutable().assign(bias); });
      else if (auto lse = dyn_cast<LinearLseOp>(op); lse && isTable(lse.getWeight(), apply))
        heads.push_back([lse](Value bias) mutable { lse.getBiasMutable().assign(bias); });
      else if (auto gradient = dyn_cast<LinearLseGradOp>(op);
               gradient && isTable(gradient.getWeight(), apply))
        heads.push_back([gradient](Value bias) mutable { gradient.getBiasMutable().assign(bias); });
      else if (auto embed = dyn_cast<EmbedOp>(op);
               embed && hasExtraRows && isTable(embed.getTable(), apply))
        ids.push_back(&embed.getIdsMutable());
      else if (auto gradient = dyn_cast<EmbedGradOp>(op); gradient && hasExtraRows &&
                                                          gradient.getOffset() == 0 &&
                                                          int64_t(gradient.getRows()) == vocabulary)
        ids.push_back(&gradient.getIdsMutable());
    }
  unsigned index = apply.getInputs().size();
  SmallVector<StringRef> &names = added[block.getName()];
  if (!heads.empty()) {
    Value bias = addInput(block, index++, names.emplace_back("vocabulary_bias"), biasType);
    for (auto &setBias : heads)
      setBias(bias);
  }
  if (!ids.empty()) {
    Value tableIds = addInput(block, index++, names.emplace_back("table_ids"), idsType);
    for (OpOperand *operand : ids)
      operand->set(tableIds);
  }

  SmallVector<Type> arguments(apply.getInputs().getTypes());
  for (StringRef name : names)
    arguments.push_back(name == "table_ids" ? idsType : biasType);
  for (ArrayAttr list : {apply.getParameters(), apply.getGradients()})
    for (auto name : list.getAsRange<FlatSymbolRefAttr>()) {
      // A gradient has the parameter's shape and a type of its own.
      auto type = cast<RankedTensorType>(block.getArgument(arguments.size()).getType());
      auto parameter = symbols.lookup<ParameterOp>(name.getValue());
      arguments.push_back(type.clone(parameter.getTensorType().getShape()));
    }
  if (arguments == SmallVector<Type>(block.getArgumentTypes()) && !hasParts(block))
    return success();
  return llamac::retypeBlock(block, arguments, [&](Operation *op) {
    if (auto lse = dyn_cast<LinearLseOp>(op))
      lse.setParts(ranks);
    if (auto gradient = dyn_cast<EmbedGradOp>(op);
        gradient && gradient.getOffset() == 0 && int64_t(gradient.getRows()) == vocabulary)
      gradient.setRows(padded);
    if (auto gradient = dyn_cast<TargetLogitGradOp>(op);
        gradient && int64_t(gradient.getSize()) == vocabulary)
      gradient.setSize(padded);
  });
}

LogicalResult Padder::padGraph(func::FuncOp graph) {
  Block &body = graph.getBody().front();
  Builder b(module.getContext());
  llvm::MapVector<StringRef, Value> inputs; // new ones of the graph
  for (auto apply : body.getOps<ApplyOp>()) {
    auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
    if (!block || block.isExternal())
      return apply.emitOpError("applies '") << apply.getBlock() << "', which has no body";
    if (!added.contains(block.getName()) && failed(padBlock(block, apply)))
      return failure();
    for (StringRef name : added[block.getName()]) {
      Value &input = inputs[name];
      if (!input)
        input = body.addArgument(name == "table_ids" ? idsType : biasType,
                                 NameLoc::get(b.getStringAttr(name)));
      apply->insertOperands(apply.getInputs().size(), input);
    }
    for (auto [result, type] : llvm::zip(apply.getResults(), block.getResultTypes()))
      result.setType(type);
  }
  SmallVector<DictionaryAttr> attributes;
  graph.getAllArgAttrs(attributes);
  graph.setFunctionType(FunctionType::get(graph.getContext(), body.getArgumentTypes(),
                                          body.getTerminator()->getOperandTypes()));
  for (auto &[name, value] : inputs)
    attributes.push_back(b.getDictionaryAttr(b.getNamedAttr(kInputAttr, b.getStringAttr(name))));
  graph.setAllArgAttrs(attributes);
  return success();
}

LogicalResult Padder::pad(int64_t count,
                          llvm::function_ref<std::optional<unsigned>(ParameterOp)> dimensionOf) {
  ranks = count;
  bool any = ranks > 1 && llvm::any_of(module.getOps<func::FuncOp>(), [](func::FuncOp function) {
               return function->hasAttr(kBlockAttr) && !function.isExternal() && hasParts(function);
             });
  for (auto parameter : module.getOps<ParameterOp>()) {
    hasExtraRows |= parameter.getRowBegin().value_or(0) > 0;
    std::optional<unsigned> dimension = dimensionOf(parameter);
    RankedTensorType type = parameter.getTensorType();
    if (!dimension || type.getDimSize(*dimension) % ranks == 0)
      continue;
    any = true;
    SmallVector<int64_t> shape(type.getShape());
    shape[*dimension] = llvm::alignTo(shape[*dimension], ranks);
    parameter.setCheckpointShape(type.getShape());
    parameter.setType(type.clone(shape));
    StringRef key = parameter.getCheckpointKey();
    if (!key.ends_with("embed_tokens.weight") && !key.ends_with("lm_head.weight"))
      continue;
    tables[parameter.getSymName()] = type;
    vocabulary = type.getDimSize(*dimension);
    padded = shape[*dimension];
    biasType = RankedTensorType::get({padded}, type.getElementType());
  }
  if (!any)
    return success();
  for (StringRef name : {"forward", "step"}) {
    auto graph = symbols.lookup<func::FuncOp>(name);
    for (unsigned i = 0; i < graph.getNumArguments(); ++i)
      if (auto input = graph.getArgAttrOfType<StringAttr>(i, kInputAttr);
          input && input.getValue() == "input_ids")
        idsType = graph.getArgument(i).getType();
    if (failed(padGraph(graph)))
      return failure();
  }
  return success();
}

LogicalResult
llamac::padSizes(ModuleOp module, int64_t ranks,
                 llvm::function_ref<std::optional<unsigned>(ParameterOp)> dimensionOf) {
  return Padder(module).pad(ranks, dimensionOf);
}
