//===- Freeze.cpp - Mark the parameters that are not trained --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Train/Passes.h"

#include "dialects/Llama/IR/Llama.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/Support/GlobPattern.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_FREEZEPASS
#include "llamac/Train/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llama;

// The part of a checkpoint key that names its layer: "a.layers.7." of
// "a.layers.7.cross_attn.q_proj.weight"; empty if it belongs to none.
static StringRef layerOf(StringRef key) {
  size_t at = key.find(".layers.");
  if (at == StringRef::npos)
    return {};
  size_t end = key.find('.', at + strlen(".layers."));
  return end == StringRef::npos ? StringRef() : key.take_front(end + 1);
}

namespace {
struct FreezePass : llamac::impl::FreezePassBase<FreezePass> {
  using FreezePassBase::FreezePassBase;

  void runOnOperation() override {
    if (failed(freeze(getOperation())))
      signalPassFailure();
  }

  LogicalResult freeze(ModuleOp module) {
    std::string choice = trainable;
    if (choice == "all")
      return success();
    auto parameters = llvm::to_vector(module.getOps<ParameterOp>());

    if (choice == "adapter" || choice == "adapter-without-rows") {
      llvm::StringSet<> crossLayers;
      for (ParameterOp parameter : parameters)
        if (parameter.getSymName().contains(".cross_attn"))
          crossLayers.insert(layerOf(parameter.getSymName()));
      if (crossLayers.empty())
        return module.emitError("--trainable=")
               << choice << " needs a vision model: no cross-attention layer found";
      for (ParameterOp parameter : parameters) {
        StringRef key = parameter.getSymName();
        bool isExtraRows = parameter.getKey().has_value() && parameter.getRowBegin().value_or(0);
        bool trains = key.contains("vision_model.") || key.contains("multi_modal_projector.") ||
                      crossLayers.contains(layerOf(key)) || (isExtraRows && choice == "adapter");
        parameter.setFrozen(!trains);
      }
      return success();
    }

    SmallVector<StringRef> patterns;
    StringRef(choice).split(patterns, ',');
    llvm::DenseSet<Operation *> trained;
    for (StringRef pattern : patterns) {
      auto glob = llvm::GlobPattern::create(pattern);
      if (!glob)
        return module.emitError("--trainable: '")
               << pattern << "' is no pattern: " << llvm::toString(glob.takeError());
      bool matched = false;
      for (ParameterOp parameter : parameters)
        if (glob->match(parameter.getSymName())) {
          trained.insert(parameter);
          matched = true;
        }
      if (!matched)
        return module.emitError("--trainable: expects the key of a parameter, a pattern with '*', "
                                "all, adapter or adapter-without-rows, but nothing is named '")
               << pattern << "'";
    }
    for (ParameterOp parameter : parameters)
      parameter.setFrozen(!trained.contains(parameter));
    return success();
  }
};
} // namespace
