//===- Specialize.cpp - Fix the shapes of a micro-batch -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An input of `@model` has its unknown dimensions in a known order: samples
// first, then text tokens for the text inputs, images for the image inputs. The
// rest follows by inference (Retype.h).
//
//===----------------------------------------------------------------------===//
#include "llamac/Train/Passes.h"

#include "llamac/Train/Retype.h"

#include "dialects/Llama/IR/Llama.h"

#include "llvm/ADT/StringSet.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_SPECIALIZEPASS
#include "llamac/Train/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llama;

namespace {
struct SpecializePass : llamac::impl::SpecializePassBase<SpecializePass> {
  using SpecializePassBase::SpecializePassBase;

  void runOnOperation() override {
    if (failed(specialize(getOperation())))
      signalPassFailure();
  }

  LogicalResult specialize(ModuleOp module) {
    func::FuncOp model = llamac::findModel(module);
    if (!model)
      return failure();
    for (auto [name, value] : {std::pair("batch", batch.getValue()),
                               {"text-length", textLength.getValue()},
                               {"images", images.getValue()}})
      if (value < 1)
        return module.emitError("expects ") << name << " to be at least 1, but got " << value;

    SmallVector<Type> types;
    for (auto [index, type] : llvm::enumerate(model.getArgumentTypes())) {
      auto name = model.getArgAttrOfType<StringAttr>(index, kInputAttr);
      auto tensor = dyn_cast<RankedTensorType>(type);
      if (!name || !tensor)
        return model.emitError("expects argument ")
               << index << " to be a tensor with the attribute llama.input";
      bool ofImages = llvm::is_contained({"tiles", "aspect_ratio_ids", "pixels"}, name.getValue());
      SmallVector<int64_t> sizes = {batch, ofImages ? images : textLength};
      SmallVector<int64_t> shape(tensor.getShape());
      for (auto [dimension, size] : llvm::enumerate(shape))
        if (ShapedType::isDynamic(size)) {
          if (dimension >= sizes.size())
            return model.emitError("expects dimension ")
                   << dimension << " of input '" << name.getValue() << "' to be static";
          size = sizes[dimension];
        }
      types.push_back(tensor.clone(shape));
    }
    if (failed(llamac::retypeModel(module, types, [](Operation *) {})))
      return failure();
    // What is not applied (a self-attention layer where all are cross-attention)
    // would keep its unknown dimensions.
    llvm::StringSet<> applied;
    for (auto apply : model.getOps<ApplyOp>())
      applied.insert(apply.getBlock());
    for (auto block : llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
      if (block->hasAttr(kBlockAttr) && !applied.contains(block.getName()))
        block.erase();
    return success();
  }
};
} // namespace
