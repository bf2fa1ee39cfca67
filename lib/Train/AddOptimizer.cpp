//===- AddOptimizer.cpp - The optimizer's blocks --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Train/Passes.h"

#include "dialects/Llama/IR/Llama.h"

#include "llvm/Support/MathExtras.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_ADDOPTIMIZERPASS
#include "llamac/Train/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llama;

namespace {
struct AddOptimizerPass : llamac::impl::AddOptimizerPassBase<AddOptimizerPass> {
  using AddOptimizerPassBase::AddOptimizerPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
    Location loc = module.getLoc();

    int64_t elements = 0;
    Type storage;
    for (auto parameter : module.getOps<ParameterOp>())
      if (!parameter.getFrozen()) {
        elements += llvm::alignTo(parameter.getTensorType().getNumElements(), 16);
        storage = parameter.getTensorType().getElementType();
      }
    if (!elements) {
      module.emitError("expects at least one trainable parameter");
      return signalPassFailure();
    }
    elements = llvm::alignTo(elements, 1024);

    Type master = storage.isF64() ? b.getF64Type() : b.getF32Type();
    Type accumulation = master;
    if (auto precision = module->getAttrOfType<DictionaryAttr>("llama.precision"))
      if (auto type = precision.getAs<TypeAttr>("accumulation"))
        accumulation = type.getValue();
    auto flat = [&](Type element) { return RankedTensorType::get({elements}, element); };
    auto hyper = RankedTensorType::get({8}, master);

    // Starts a block with the given arguments.
    auto begin = [&](StringRef name, ArrayRef<Type> arguments) {
      auto block = func::FuncOp::create(b, loc, name, b.getFunctionType(arguments, {}));
      block.setPrivate();
      block->setAttr(kBlockAttr, b.getUnitAttr());
      OpBuilder body = OpBuilder::atBlockEnd(block.addEntryBlock());
      return std::pair(block, body);
    };
    auto end = [&](func::FuncOp block, OpBuilder &body, ArrayRef<Value> results) {
      func::ReturnOp::create(body, loc, results);
      block.setFunctionType(
          b.getFunctionType(block.getArgumentTypes(), ValueRange(results).getTypes()));
    };

    {
      auto [block, body] = begin("gradient_norm", {flat(accumulation)});
      Value gradient = block.getArgument(0);
      if (accumulation != master)
        gradient = CastOp::create(body, loc, gradient, TypeAttr::get(master));
      Value norm = SumOfSquaresOp::create(body, loc, gradient);
      end(block, body, {norm});
    }
    Type sum = b.getF64Type();
    auto numbers = [&](int64_t count, Type element) {
      return RankedTensorType::get({count}, element);
    };
    {
      auto [block, body] =
          begin("add_once", {numbers(1, sum), numbers(1, master), numbers(1, sum)});
      Value result = AddOnceOp::create(body, loc, block.getArgument(0), block.getArgument(1),
                                       block.getArgument(2));
      end(block, body, {result});
      block.setResultAttr(0, kInPlaceAttr, b.getI64IntegerAttr(0));
    }
    {
      auto [block, body] = begin("clip_norm", {numbers(2, sum), numbers(8, sum)});
      Value result = ClipNormOp::create(body, loc, block.getArgument(0), block.getArgument(1),
                                        TypeAttr::get(master));
      end(block, body, {result});
    }
    {
      auto [block, body] =
          begin("adamw", {flat(master), flat(master), flat(master), flat(accumulation), hyper});
      auto update =
          AdamWOp::create(body, loc, block.getArgument(0), block.getArgument(1),
                          block.getArgument(2), block.getArgument(3), block.getArgument(4));
      SmallVector<Value> results(update.getResults());
      if (storage != master)
        results.push_back(CastOp::create(body, loc, results[0], TypeAttr::get(storage)));
      end(block, body, results);
      for (unsigned i = 0; i < 3; ++i)
        block.setResultAttr(i, kInPlaceAttr, b.getI64IntegerAttr(i));
    }
  }
};
} // namespace
