//===- DistPlacement.cpp - How values lie on the grid ---------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Dist/IR/DistPlacement.h"

#include "mlir/IR/Builders.h"

using namespace mlir;
using namespace mlir::dist;

//===----------------------------------------------------------------------===//
// The encoding
//===----------------------------------------------------------------------===//

// <[["cp"], []], partial = ["tp"], reduction = max>
Attribute PlacementAttr::parse(AsmParser &parser, Type) {
  ArrayAttr split, partial = ArrayAttr::get(parser.getContext(), {});
  bool isMaximum = false;
  if (parser.parseLess() || parser.parseAttribute(split))
    return {};
  if (succeeded(parser.parseOptionalComma())) {
    if (parser.parseKeyword("partial") || parser.parseEqual() || parser.parseAttribute(partial))
      return {};
    if (succeeded(parser.parseOptionalComma())) {
      if (parser.parseKeyword("reduction") || parser.parseEqual() || parser.parseKeyword("max"))
        return {};
      isMaximum = true;
    }
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<PlacementAttr>(parser.getContext(), split, partial, isMaximum);
}

void PlacementAttr::print(AsmPrinter &printer) const {
  printer << '<' << getSplit();
  if (!getPartial().empty())
    printer << ", partial = " << getPartial();
  if (getIsMaximum())
    printer << ", reduction = max";
  printer << '>';
}

LogicalResult PlacementAttr::verify(llvm::function_ref<InFlightDiagnostic()> emitError,
                                    ArrayAttr split, ArrayAttr partial, bool) {
  llvm::SmallSetVector<Attribute, 4> named;
  auto add = [&](Attribute axis) -> LogicalResult {
    if (!isa<StringAttr>(axis)) // placement_c1
      return emitError() << "expects names of axes, but got " << axis;
    if (!named.insert(axis)) // placement_c2
      return emitError() << "expects axis " << axis << " to be named once";
    return success();
  };
  for (Attribute axes : split) {
    auto names = dyn_cast<ArrayAttr>(axes);
    if (!names) // placement_c1
      return emitError() << "expects an array of names for each dimension, but got " << axes;
    for (Attribute axis : names)
      if (failed(add(axis)))
        return failure();
  }
  for (Attribute axis : partial)
    if (failed(add(axis)))
      return failure();
  return success();
}

LogicalResult
PlacementAttr::verifyEncoding(ArrayRef<int64_t> shape, Type,
                              llvm::function_ref<InFlightDiagnostic()> emitError) const {
  if (getSplit().size() != shape.size()) // placement_c1
    return emitError() << "expects a placement of " << shape.size() << " dimensions, but got "
                       << getSplit().size();
  return success();
}

//===----------------------------------------------------------------------===//
// On one axis
//===----------------------------------------------------------------------===//

OnAxis dist::onAxis(Type type, StringRef axis) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  auto placement = tensor ? dyn_cast_or_null<PlacementAttr>(tensor.getEncoding()) : nullptr;
  if (!placement)
    return {};
  auto names = [&](Attribute axes) {
    return llvm::any_of(cast<ArrayAttr>(axes).getAsRange<StringAttr>(),
                        [&](StringAttr name) { return name.getValue() == axis; });
  };
  for (auto [dimension, axes] : llvm::enumerate(placement.getSplit()))
    if (names(axes))
      return {OnAxis::Split, static_cast<unsigned>(dimension)};
  if (names(placement.getPartial()))
    return {placement.getIsMaximum() ? OnAxis::Maximum : OnAxis::Sum};
  return {};
}

std::string dist::describe(OnAxis placement) {
  switch (placement.kind) {
  case OnAxis::Whole:
    return "whole";
  case OnAxis::Split:
    return "split on dimension " + std::to_string(placement.dimension);
  case OnAxis::Sum:
    return "a partial sum";
  case OnAxis::Maximum:
    return "a partial maximum";
  }
  llvm_unreachable("no such kind");
}

//===----------------------------------------------------------------------===//
// Rules
//===----------------------------------------------------------------------===//

SmallVector<StringRef> dist::dimensionsOf(StringRef letters) {
  SmallVector<StringRef> dimensions;
  while (!letters.empty()) {
    size_t size = letters.front() == '(' ? letters.find(')') + 1 : 1;
    dimensions.push_back(size == 1 ? letters.take_front() : letters.slice(1, size - 1));
    letters = letters.drop_front(size);
  }
  return dimensions;
}

// The dimension of `letters` that has `index`.
static std::optional<unsigned> find(StringRef letters, char index) {
  for (auto [dimension, indices] : llvm::enumerate(dimensionsOf(letters)))
    if (indices.contains(index))
      return dimension;
  return std::nullopt;
}

SmallVector<Choice> dist::choicesOf(const llama::PlacementRule &rule) {
  llvm::SmallSetVector<char, 8> indices;
  for (const auto *tensors : {&rule.operands, &rule.results})
    for (const std::string &letters : *tensors)
      for (char letter : letters)
        if (llvm::isAlpha(letter) && !StringRef(rule.whole).contains(letter))
          indices.insert(letter);

  SmallVector<Choice> choices;
  for (char index : indices) {
    Choice choice;
    choice.index = index;
    OnAxis contracted = {StringRef(rule.maximum).contains(index) ? OnAxis::Maximum : OnAxis::Sum};
    auto place = [&](StringRef letters, OnAxis otherwise) -> OnAxis {
      auto dimension = find(letters, index);
      return dimension ? OnAxis{OnAxis::Split, *dimension} : otherwise;
    };
    for (const std::string &letters : rule.operands)
      choice.operands.push_back(place(letters, OnAxis()));
    for (const std::string &letters : rule.results)
      choice.results.push_back(place(letters, contracted));
    choices.push_back(std::move(choice));
  }
  auto addUniform = [&](ArrayRef<unsigned> partial) {
    Choice choice;
    choice.isLinear = !partial.empty();
    choice.operands.resize(rule.operands.size());
    for (unsigned operand : partial)
      choice.operands[operand] = {OnAxis::Sum};
    choice.results.assign(rule.results.size(), {choice.isLinear ? OnAxis::Sum : OnAxis::Whole});
    choices.push_back(std::move(choice));
  };
  if (!rule.linear.empty())
    addUniform(rule.linear);
  addUniform({});
  return choices;
}

//===----------------------------------------------------------------------===//
// Verification
//===----------------------------------------------------------------------===//

static PlacementAttr placementOf(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? dyn_cast_or_null<PlacementAttr>(tensor.getEncoding()) : nullptr;
}

llvm::SmallSetVector<StringAttr, 4> dist::axesOf(TypeRange types) {
  llvm::SmallSetVector<StringAttr, 4> axes;
  for (Type type : types)
    if (PlacementAttr placement = placementOf(type)) {
      for (ArrayAttr names : placement.getSplit().getAsRange<ArrayAttr>())
        axes.insert_range(names.getAsRange<StringAttr>());
      axes.insert_range(placement.getPartial().getAsRange<StringAttr>());
    }
  return axes;
}

LogicalResult PlacementAttr::verifyPlacements(Operation *op) const {
  SmallVector<Type> types(op->getOperandTypes());
  llvm::append_range(types, op->getResultTypes());
  auto axes = dist::axesOf(types);
  if (axes.empty())
    return success();

  llama::PlacementRule rule = cast<llama::PlacementOpInterface>(op).getPlacementRule();
  auto fits = [](ArrayRef<std::string> letters, TypeRange types) {
    return letters.size() == types.size() && llvm::all_of(llvm::zip(letters, types), [](auto pair) {
             auto [tensor, type] = pair;
             return int64_t(dimensionsOf(tensor).size()) == cast<RankedTensorType>(type).getRank();
           });
  };
  if (!fits(rule.operands, op->getOperandTypes()) || !fits(rule.results, op->getResultTypes()))
    return success(); // ranks are wrong: the op's own verifier says so
  SmallVector<Choice> choices = choicesOf(rule);

  for (StringAttr axis : axes) {
    auto on = [&](TypeRange types) {
      return llvm::map_to_vector(types, [&](Type type) { return onAxis(type, axis.getValue()); });
    };
    auto operands = on(op->getOperandTypes()), results = on(op->getResultTypes());
    if (llvm::any_of(choices, [&](const Choice &choice) {
          return operands == choice.operands && results == choice.results;
        }))
      continue;
    auto error = op->emitOpError("has no rule for its placements on axis ") << axis;
    for (auto [index, operand, placement] : llvm::enumerate(op->getOperands(), operands))
      error.attachNote(operand.getLoc())
          << "operand " << index << " is " << describe(placement) << " over " << axis << " here"
          << (placement.isPartial() ? "; reduce it first" : "");
    for (auto [index, placement] : llvm::enumerate(results))
      error.attachNote(op->getLoc())
          << "result " << index << " is " << describe(placement) << " over " << axis;
    return error;
  }
  return success();
}

LogicalResult ConvertOp::verify() {
  auto from = cast<RankedTensorType>(getInput().getType());
  auto to = cast<RankedTensorType>(getResult().getType());
  if (from.dropEncoding() != to.dropEncoding()) // convert_c1
    return emitOpError("expects input and result to differ in their placements only, but got ")
           << from << " and " << to;
  for (StringAttr axis : axesOf({from, to})) {
    OnAxis before = onAxis(from, axis.getValue()), after = onAxis(to, axis.getValue());
    if (after.isPartial() && !(before == after)) // convert_c2
      return emitOpError("cannot make ")
             << describe(after) << " over axis " << axis << " of what is " << describe(before);
    if (before.kind == OnAxis::Split && after.kind == OnAxis::Split &&
        before.dimension != after.dimension) // convert_c3
      return emitOpError("cannot move axis ") << axis << " from dimension " << before.dimension
                                              << " to dimension " << after.dimension;
  }
  return success();
}
