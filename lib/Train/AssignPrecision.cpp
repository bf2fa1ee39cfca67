//===- AssignPrecision.cpp - Storage, compute, statistics, accumulation ---===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Three places decide all types: the parameters (storage), the one op that turns
// pixels into activations (patchify: compute), and the type attributes of the
// ops. The inputs of the model keep their types. Everything else is inferred.
//
//===----------------------------------------------------------------------===//
#include "llamac/Train/Passes.h"

#include "llamac/Train/Retype.h"

#include "dialects/Llama/IR/Llama.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_ASSIGNPRECISIONPASS
#include "llamac/Train/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llama;

namespace {
struct AssignPrecisionPass : llamac::impl::AssignPrecisionPassBase<AssignPrecisionPass> {
  using AssignPrecisionPassBase::AssignPrecisionPassBase;

  void runOnOperation() override {
    if (failed(assign(getOperation())))
      signalPassFailure();
  }

  LogicalResult assign(ModuleOp module) {
    OpBuilder b(&getContext());
    func::FuncOp model = llamac::findModel(module);
    if (!model)
      return failure();
    if (!llvm::is_contained({"bf16", "f32", "f64"}, precision.getValue()))
      return module.emitError("expects precision to be bf16, f32 or f64, but got '")
             << precision << "'";
    if (!llvm::is_contained({"f32", "bf16"}, accumulate.getValue()))
      return module.emitError("expects accumulate to be f32 or bf16, but got '")
             << accumulate << "'";
    Type f32 = b.getF32Type(), bf16 = b.getBF16Type(), f64 = b.getF64Type();
    bool isDouble = precision == "f64";
    Type storage = isDouble ? f64 : precision == "bf16" ? bf16 : f32;
    Type statistics = isDouble ? f64 : f32;
    Type accumulation = isDouble ? f64 : accumulate == "bf16" ? bf16 : f32;

    for (auto parameter : module.getOps<ParameterOp>())
      parameter.setType(parameter.getTensorType().clone(storage));

    auto update = [&](Operation *op) {
      if (op->hasAttr("statistics"))
        op->setAttr("statistics", TypeAttr::get(statistics));
      if (op->hasAttr("accumulation"))
        op->setAttr("accumulation", TypeAttr::get(statistics));
      if (auto patchify = dyn_cast<PatchifyOp>(op))
        patchify.setElementType(storage);
      else if (auto linear = dyn_cast<LinearOp>(op); linear && linear.getElementType())
        linear.setElementType(statistics); // the logits
    };
    if (failed(llamac::retypeModel(module, model.getArgumentTypes(), update)))
      return failure();

    // Where gradients are sums over tokens, layers or micro-batches.
    SymbolTable symbols(module);
    for (auto apply : model.getBody().getOps<ApplyOp>()) {
      auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
      for (unsigned i = 0, e = block.getNumArguments(); i < e; ++i)
        if (i >= apply.getInputs().size() || block.getArgAttr(i, kGradientTypeAttr))
          block.setArgAttr(i, kGradientTypeAttr, TypeAttr::get(accumulation));
    }
    module->setAttr(
        "llama.precision",
        b.getDictionaryAttr({b.getNamedAttr("storage", TypeAttr::get(storage)),
                             b.getNamedAttr("compute", TypeAttr::get(storage)),
                             b.getNamedAttr("statistics", TypeAttr::get(statistics)),
                             b.getNamedAttr("accumulation", TypeAttr::get(accumulation))}));
    return success();
  }
};
} // namespace
