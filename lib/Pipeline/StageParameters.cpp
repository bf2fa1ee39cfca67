//===- StageParameters.cpp - The parameters that a stage has --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A stage has the parameters that its pieces apply. On the axes of the grid a gradient is
// reduced where it is a partial sum: over dp, where the sharding says so (`partial`), and, of
// the encoder, over the axes that split its images. It is counted once where all ranks have
// the same of it.
//
//===----------------------------------------------------------------------===//
#include "StageParameters.h"

#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;
using llama::ApplyOp;

StagesOfParameters llamac::stagesOfParameters(ArrayRef<SmallVector<FuncOp>> functionsOfStage) {
  StagesOfParameters stagesOf;
  for (auto [stage, functions] : llvm::enumerate(functionsOfStage))
    for (FuncOp function : functions)
      for (auto apply : function.getOps<ApplyOp>())
        for (auto name : apply.getParameters().getAsRange<FlatSymbolRefAttr>())
          if (auto &stages = stagesOf[name.getValue()];
              stages.empty() || stages.back() != int(stage))
            stages.push_back(stage);
  return stagesOf;
}

/// Notes the stages that have a parameter, if there are two: both add to its gradient
/// (embedding table and head that are tied).
static LogicalResult tie(StageParameter &parameter, ArrayRef<int> stages, ArrayRef<Axis> axes,
                         ModuleOp module) {
  if (stages.size() < 2)
    return success();
  if (stages.size() > 2 || stages[0] != 0)
    return module.emitError("--schedule: ")
           << "expected a schedule that keeps the layers that share '" << parameter.op.getSymName()
           << "' on one stage, or on two of which one is the first";
  parameter.tied = {stages[0], stages[1]};
  SmallVector<StringRef> once;
  for (const Axis &axis : axes) // in their order
    if (axis.name == "pp" || llvm::is_contained(parameter.once, axis.name))
      once.push_back(axis.name);
  parameter.once = once;
  return success();
}

FailureOr<SmallVector<StageParameter>>
llamac::parametersOf(SymbolTable &symbols, ArrayRef<Axis> axes, const EncoderPlacement &encoder,
                     ArrayRef<FuncOp> functions, const StagesOfParameters &stagesOf) {
  auto module = cast<ModuleOp>(symbols.getOp());
  llvm::StringMap<int64_t> used; // and the first application
  llvm::StringSet<> ofEncoder;
  for (FuncOp function : functions)
    for (auto apply : function.getOps<ApplyOp>()) {
      int64_t application = -1;
      if (auto number = apply->getAttrOfType<IntegerAttr>(llama::kApplicationAttr))
        application = number.getInt();
      auto part = symbols.lookup(apply.getBlock())->getAttrOfType<StringAttr>(llama::kPartAttr);
      for (ArrayAttr list : {apply.getParametersAttr(), apply.getGradientsAttr()})
        for (auto name : list.getAsRange<FlatSymbolRefAttr>()) {
          used.try_emplace(name.getValue(), application);
          if (part && part.getValue() == "encoder")
            ofEncoder.insert(name.getValue());
        }
    }
  SmallVector<StageParameter> parameters;
  for (auto op : module.getOps<llama::ParameterOp>()) {
    if (!used.contains(op.getSymName()))
      continue;
    StageParameter parameter{op, used.lookup(op.getSymName())};
    bool inEncoder = ofEncoder.contains(op.getSymName());
    llvm::StringSet<> partial, split;
    partial.insert("dp");
    if (auto list = op->getAttrOfType<ArrayAttr>("partial"))
      for (auto axis : list.getAsRange<StringAttr>())
        partial.insert(axis.getValue());
    if (inEncoder && !encoder.tokens)
      for (StringRef axis : encoder.axes)
        partial.insert(axis);
    if (auto dimensions = op->getAttrOfType<ArrayAttr>("split"))
      for (auto list : dimensions.getAsRange<ArrayAttr>())
        for (auto axis : list.getAsRange<StringAttr>())
          split.insert(axis.getValue());
    parameter.onAllStages = inEncoder && !encoder.firstStage;
    for (const Axis &axis : axes) {
      if (axis.size == 1)
        continue;
      if (partial.contains(axis.name))
        parameter.reduced.push_back(axis.name);
      if (!split.contains(axis.name) && (axis.name != "pp" || parameter.onAllStages))
        parameter.once.push_back(axis.name);
    }
    if (!parameter.onAllStages &&
        failed(tie(parameter, stagesOf.lookup(op.getSymName()), axes, module)))
      return failure();
    parameters.push_back(std::move(parameter));
  }
  return parameters;
}
