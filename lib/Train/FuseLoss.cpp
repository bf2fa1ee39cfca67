//===- FuseLoss.cpp - Logits and loss in chunks of tokens -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Train/Passes.h"

#include "dialects/Llama/IR/Llama.h"
#include "llamac/Train/Retype.h"
#include "runtime/include/llrt/ProgramFields.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_FUSELOSSPASS
#include "llamac/Train/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llama;

/// The most tokens that --head-chunk may name.
static constexpr int64_t kMostTokens = 1 << 30;

/// Bytes of logits of a micro-batch that `auto` leaves whole: on ranks that divide them, little
/// memory.
static constexpr int64_t kFewLogits = int64_t(1) << 30;

namespace {
// What a block makes of logits.
struct Loss {
  LinearOp logits;
  RowMaxOp maximum;
  RowSumExpOp sum;
  TargetLogitOp target;
};

struct FuseLossPass : llamac::impl::FuseLossPassBase<FuseLossPass> {
  using FuseLossPassBase::FuseLossPassBase;

  void runOnOperation() override {
    if (failed(fuse(getOperation())))
      signalPassFailure();
  }

  // The losses of `block`: products of which nothing but the three ops and the block's
  // results is made.
  static SmallVector<Loss> findLosses(func::FuncOp block) {
    SmallVector<Loss> losses;
    for (auto linear : block.getBody().getOps<LinearOp>()) {
      Loss loss{linear, {}, {}, {}};
      bool others = false;
      for (Operation *user : linear->getUsers()) {
        if (auto maximum = dyn_cast<RowMaxOp>(user); maximum && !loss.maximum)
          loss.maximum = maximum;
        else if (auto sum = dyn_cast<RowSumExpOp>(user); sum && !loss.sum)
          loss.sum = sum;
        else if (auto target = dyn_cast<TargetLogitOp>(user); target && !loss.target)
          loss.target = target;
        else
          others |= !isa<func::ReturnOp>(user);
      }
      if (!others && loss.maximum && loss.sum && loss.target &&
          loss.sum.getMaximum() == loss.maximum)
        losses.push_back(loss);
    }
    return losses;
  }

  LogicalResult fuse(ModuleOp module) {
    func::FuncOp model = llamac::findModel(module);
    if (!model)
      return failure();
    int64_t asked = 0;
    if (headChunk != "auto" && headChunk != "none" &&
        (StringRef(headChunk).getAsInteger(10, asked) || asked < 1 || asked > kMostTokens))
      return emitError(module.getLoc())
             << "--head-chunk: expected auto, none or a number of tokens from 1 to " << kMostTokens
             << ", got '" << headChunk << "'";
    if (headChunk == "none")
      return success();
    SymbolTable symbols(module);
    for (auto apply : llvm::to_vector(model.getBody().getOps<ApplyOp>())) {
      auto block = symbols.lookup<func::FuncOp>(apply.getBlock());
      if (!block || block.isExternal())
        return apply.emitOpError("applies '") << apply.getBlock() << "', which has no body";
      for (Loss loss : findLosses(block)) {
        auto logits = cast<RankedTensorType>(loss.logits.getType());
        if (!logits.hasStaticShape())
          return loss.logits.emitOpError("expects sizes that are all known, but got ") << logits;
        int64_t vocabulary = logits.getShape().back(), rows = logits.getNumElements() / vocabulary;
        int64_t bytes = logits.getElementTypeBitWidth() / 8;
        int64_t chunk = llama::headChunk(asked, rows, vocabulary, bytes);
        // Fewer are not worth a product more.
        if (!asked && (chunk >= rows || rows * vocabulary * bytes <= kFewLogits))
          continue;
        LinearOp linear = loss.logits;
        replace(loss, asked);
        if (linear.use_empty())
          linear.erase();
        else if (logits.getRank() == 3)
          if (int64_t tokens = std::max<int64_t>(1, chunk / logits.getDimSize(0));
              tokens < logits.getDimSize(1))
            takeTokens(linear, block, model, tokens);
      }
    }
    return success();
  }

  static void replace(Loss loss, int64_t asked) {
    LinearOp linear = loss.logits;
    OpBuilder b(linear);
    TypeAttr statistics = loss.maximum.getStatisticsAttr();
    auto fused = LinearLseOp::create(
        b, linear.getLoc(), linear.getInput(), linear.getWeight(), loss.target.getLabels(),
        linear.getBias(), b.getI64IntegerAttr(1), b.getI64IntegerAttr(asked), statistics);
    Value maximum = RowMaxOp::create(b, loss.maximum->getLoc(), fused.getLse(), statistics);
    Value sum = RowSumExpOp::create(b, loss.sum->getLoc(), fused.getLse(), maximum, statistics);
    loss.maximum->replaceAllUsesWith(ValueRange(maximum));
    loss.sum->replaceAllUsesWith(ValueRange(sum));
    loss.target->replaceAllUsesWith(ValueRange(fused.getTarget()));
    for (Operation *op :
         {loss.sum.getOperation(), loss.maximum.getOperation(), loss.target.getOperation()})
      op->erase();
  }

  // The logits of `tokens` tokens of each sample, as a new input of `model` numbers them.
  static void takeTokens(LinearOp linear, func::FuncOp block, func::FuncOp model, int64_t tokens) {
    OpBuilder b(linear);
    auto logits = cast<RankedTensorType>(linear.getType());
    auto type = RankedTensorType::get({logits.getDimSize(0), tokens}, b.getI64Type());
    Location loc = NameLoc::get(b.getStringAttr(llrt::known::logitTokens));
    Block &body = model.getBody().front();
    Value input = body.addArgument(type, loc);
    bool isNew = true;
    for (auto apply : body.getOps<ApplyOp>()) {
      if (apply.getBlock() != block.getName())
        continue;
      unsigned index = apply.getInputs().size();
      if (std::exchange(isNew, false)) {
        (void)block.insertArgument(index, type, {}, loc);
        Value taken =
            TakeTokensOp::create(b, linear.getLoc(), linear.getInput(), block.getArgument(index));
        linear.getInputMutable().assign(taken);
        linear.getResult().setType(
            logits.clone({type.getDimSize(0), tokens, logits.getDimSize(2)}));
        Operation *end = block.getBody().front().getTerminator();
        block.setFunctionType(
            b.getFunctionType(block.getBody().getArgumentTypes(), end->getOperandTypes()));
      }
      apply->insertOperands(index, input);
      for (auto [result, now] : llvm::zip(apply.getResults(), block.getResultTypes()))
        result.setType(now);
    }
    SmallVector<DictionaryAttr> attributes;
    model.getAllArgAttrs(attributes);
    attributes.resize(body.getNumArguments() - 1);
    attributes.push_back(
        b.getDictionaryAttr(b.getNamedAttr(kInputAttr, b.getStringAttr(llrt::known::logitTokens))));
    model.setFunctionType(
        b.getFunctionType(body.getArgumentTypes(), body.getTerminator()->getOperandTypes()));
    model.setAllArgAttrs(attributes);
  }
};
} // namespace
