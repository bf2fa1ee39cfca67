//===- BlocksToLLVM.cpp - The loops of a block for the host ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The functions of outlined loops go through upstream's conversions, memrefs as bare
// pointers. The block that calls them is written by BlockWriter; a loop that several
// threads may share gets a kernel: its body on an array of buffers, rows, rows per thread.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/BlockWriter.h"
#include "llamac/Lower/Passes.h"
#include "runtime/include/llrt/Kernels.h"

#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MathToLibm/MathToLibm.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_BLOCKSTOLLVMPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

// The private function `void BODY(ptr buffers, i64 lo, i64 hi)` that takes the
// buffers of `loop` from memory.
static LLVM::LLVMFuncOp loopBody(OpBuilder &builder, ModuleOp module, LLVM::LLVMFuncOp loop) {
  Location loc = loop.getLoc();
  Type pointer = LLVM::LLVMPointerType::get(builder.getContext());
  std::string name = (loop.getSymName() + ".body").str();
  if (auto found = module.lookupSymbol<LLVM::LLVMFuncOp>(name))
    return found;
  builder.setInsertionPointAfter(loop);
  Type i64 = builder.getI64Type();
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(builder.getContext()),
                                          {pointer, i64, i64});
  auto body = LLVM::LLVMFuncOp::create(builder, loc, name, type, LLVM::Linkage::Internal);
  Block *entry = body.addEntryBlock(builder);
  builder.setInsertionPointToStart(entry);
  SmallVector<Value> operands;
  for (unsigned i = 0; i + 2 < loop.getNumArguments(); ++i) {
    Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, entry->getArgument(0),
                                     ArrayRef<LLVM::GEPArg>{int32_t(i)});
    operands.push_back(LLVM::LoadOp::create(builder, loc, pointer, slot));
  }
  operands.push_back(entry->getArgument(1));
  operands.push_back(entry->getArgument(2));
  LLVM::CallOp::create(builder, loc, loop, operands);
  LLVM::ReturnOp::create(builder, loc, ValueRange());
  return body;
}

// The constant LlrtKernel of a loop that threads may share.
static FailureOr<std::string> kernelOf(ModuleOp module, Operation *op) {
  auto call = dyn_cast<func::CallOp>(op);
  if (!call)
    return op->emitOpError("is for a GPU: expects calls of loops on the host");
  int64_t low = *getConstantIntValue(call.getOperands().drop_back().back()),
          high = *getConstantIntValue(call.getOperands().back());
  auto grain = call->getAttrOfType<IntegerAttr>(kGrainAttr);
  if (!grain || low != 0)
    return std::string();
  auto loop = module.lookupSymbol<LLVM::LLVMFuncOp>(call.getCallee());
  std::string name =
      (loop.getSymName() + ".kernel." + Twine(high) + "." + Twine(grain.getInt())).str();
  if (module.lookupSymbol(name))
    return name;
  OpBuilder builder(module.getContext());
  Location loc = loop.getLoc();
  Type pointer = LLVM::LLVMPointerType::get(builder.getContext()), i64 = builder.getI64Type();
  LLVM::LLVMFuncOp body = loopBody(builder, module, loop);
  builder.setInsertionPointAfter(body);
  static_assert(offsetof(LlrtKernel, body) == 0 && offsetof(LlrtKernel, n) == 8 &&
                offsetof(LlrtKernel, grain) == 16 && sizeof(LlrtKernel) == 24);
  auto type = LLVM::LLVMStructType::getLiteral(builder.getContext(), {pointer, i64, i64});
  auto global = LLVM::GlobalOp::create(builder, loc, type, /*isConstant=*/true,
                                       LLVM::Linkage::Internal, name, Attribute());
  builder.createBlock(&global.getInitializerRegion());
  auto constant = [&](int64_t value) -> Value {
    return LLVM::ConstantOp::create(builder, loc, builder.getI64IntegerAttr(value));
  };
  Value value = LLVM::UndefOp::create(builder, loc, type);
  Value members[] = {LLVM::AddressOfOp::create(builder, loc, body), constant(high),
                     constant(grain.getInt())};
  for (auto [index, member] : llvm::enumerate(members))
    value = LLVM::InsertValueOp::create(builder, loc, value, member, int64_t(index));
  LLVM::ReturnOp::create(builder, loc, value);
  return name;
}

namespace {
struct BlocksToLLVMPass : llamac::impl::BlocksToLLVMPassBase<BlocksToLLVMPass> {
  using BlocksToLLVMPassBase::BlocksToLLVMPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<SmallVector<func::FuncOp>> blocks = blocksOf(module);
    if (failed(blocks))
      return signalPassFailure();
    if (blocks->empty())
      return;
    if (failed(expandMath(module)) || failed(convertLoops(module, *blocks)))
      return signalPassFailure();
    for (func::FuncOp block : *blocks) {
      if (failed(writeBlock(block, module, alignment,
                            [&](Operation *op) { return kernelOf(module, op); })))
        return signalPassFailure();
    }
  }

  LogicalResult expandMath(ModuleOp module) {
    RewritePatternSet patterns(&getContext());
    if (polynomials)
      populateMathPolynomialApproximationPatterns(patterns, [](StringRef name) {
        return llvm::is_contained({"math.exp", "math.tanh", "math.erf", "math.log"}, name);
      });
    math::populateExpansionPatterns(patterns, {"rsqrt"});
    return applyPatternsGreedily(module, std::move(patterns));
  }

  LogicalResult convertLoops(ModuleOp module, ArrayRef<func::FuncOp> blocks) {
    MLIRContext *context = &getContext();
    LowerToLLVMOptions options(context);
    options.useBarePtrCallConv = true;
    LLVMTypeConverter converter(context, options);

    // Loops to branches, then everything at once.
    {
      RewritePatternSet patterns(context);
      populateAffineToStdConversionPatterns(patterns);
      populateSCFToControlFlowConversionPatterns(patterns);
      ConversionTarget target(*context);
      target.addIllegalDialect<affine::AffineDialect, scf::SCFDialect>();
      target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
      if (failed(applyPartialConversion(module, target, std::move(patterns))))
        return failure();
    }
    RewritePatternSet patterns(context);
    populateFuncToLLVMConversionPatterns(converter, patterns);
    populateFinalizeMemRefToLLVMConversionPatterns(converter, patterns);
    arith::populateArithToLLVMConversionPatterns(converter, patterns);
    populateMathToLLVMConversionPatterns(converter, patterns, /*approximateLog1p=*/false,
                                         /*benefit=*/2); // an instruction before a call
    populateMathToLibmConversionPatterns(patterns);
    cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
    LLVMConversionTarget target(*context);
    target.addLegalOp<ModuleOp>();
    auto isOfBlock = [&](Operation *op) {
      return llvm::any_of(blocks, [&](func::FuncOp block) { return block->isAncestor(op); });
    };
    target.markUnknownOpDynamicallyLegal(isOfBlock);
    for (StringRef dialect : {"func", "memref", "arith", "math", "cf"})
      target.addDynamicallyLegalDialect(isOfBlock, dialect);
    if (failed(applyFullConversion(module, target, std::move(patterns))))
      return failure();
    for (auto function : module.getOps<LLVM::LLVMFuncOp>())
      if (!function.isExternal())
        function.setLinkage(LLVM::Linkage::Internal);
    return success();
  }
};
} // namespace
