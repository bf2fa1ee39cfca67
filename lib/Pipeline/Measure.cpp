//===- Measure.cpp - What a training graph costs, for a plan --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every application of @step counts for one of three: a link of the chain, the link that reads
// what it makes (a key/value side), or the encoder.
//
//===----------------------------------------------------------------------===//
#include "Measure.h"

#include "CutGraph.h"

#include "llamac/Cost/BlockCosts.h"

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;
using llama::ApplyOp;

static int64_t numberOf(Operation *op) {
  auto number = op->getAttrOfType<IntegerAttr>(llama::kApplicationAttr);
  return number ? number.getInt() : -1;
}

static int64_t bytesOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  return type.getNumElements() * type.getElementTypeBitWidth() / 8;
}

/// Adds `cost` to `times`.
template <typename Times> static void addSeconds(Times &times, const plan::BlockCost &cost) {
  times.forward += cost.forward;
  times.backwardInput += cost.backwardInput;
  times.backwardWeight += cost.backwardWeight;
}

FailureOr<plan::ModelCosts> llamac::measure(ModuleOp module, const Machine &machine) {
  FailureOr<std::vector<ApplicationCost>> costs =
      applicationCosts(module, machine, CostRule::Roofline);
  if (failed(costs))
    return failure();
  auto step = module.lookupSymbol<FuncOp>("step");
  plan::ModelCosts model;
  llvm::DenseMap<int64_t, size_t> linkOf, readerOf;
  for (auto [link, number] : llvm::enumerate(findChain(step))) {
    linkOf[number] = link;
    model.links.push_back((*costs)[number].cost);
  }
  model.keyValues.resize(model.links.size());
  // A key/value side belongs to the link that reads it.
  for (auto apply : step.getOps<ApplyOp>())
    for (Operation *user : apply->getUsers())
      if (linkOf.contains(numberOf(user)) && !linkOf.contains(numberOf(apply)))
        readerOf.try_emplace(numberOf(apply), linkOf[numberOf(user)]);
  // What travels: the residual stream between stages, the image states.
  for (auto apply : step.getOps<ApplyOp>()) {
    StringRef phase = apply->getAttrOfType<StringAttr>(llama::kPhaseAttr).getValue();
    if (phase != llama::kForwardPhase)
      continue;
    const int64_t number = numberOf(apply);
    if (linkOf.contains(number) && linkOf[number] > 0 && model.boundaryBytes == 0)
      model.boundaryBytes = bytesOf(apply.getInputs()[0]);
    if (readerOf.contains(number) && !apply.getInputs().empty())
      model.stateBytes = bytesOf(apply.getInputs()[0]);
  }
  for (auto [number, application] : llvm::enumerate(*costs)) {
    const plan::BlockCost &cost = application.cost;
    if (application.part == llama::kEncoderPart) {
      addSeconds(model.encoderTimes, cost);
      model.encoder.push_back(
          {int64_t(number), cost.forward + cost.backwardInput + cost.backwardWeight});
    } else if (!application.part.empty()) {
      plan::BlockCost &sides = model.keyValues[readerOf.lookup(number)];
      addSeconds(sides, cost);
      sides.residualBytes += cost.residualBytes;
      sides.parameterBytes += cost.parameterBytes;
      sides.optimizerBytes += cost.optimizerBytes;
    }
  }
  return model;
}
