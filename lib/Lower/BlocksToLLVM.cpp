//===- BlocksToLLVM.cpp - A block and its loops in LLVM dialect -----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two parts. The functions of outlined loops go through upstream's conversions,
// memrefs as bare pointers. The block itself is only calls, buffers and constants:
// it is written directly, each buffer as a pointer taken from `buffers` or an
// offset into the scratch buffer.
//
// A temporary lives from the first to the last call that has it as operand; its
// place in the scratch buffer is planned as arenas are (ArenaPlan.h).
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"
#include "llamac/Support/ArenaPlan.h"

#include "dialects/Llama/IR/Llama.h"
#include "dialects/Routine/IR/Routine.h"

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

//===----------------------------------------------------------------------===//
// Scratch memory
//===----------------------------------------------------------------------===//

namespace {
// Where each temporary of a block lies, and how much memory they take.
struct Scratch {
  llvm::DenseMap<Value, int64_t> offsets;
  int64_t bytes = 0;
};
} // namespace

static int64_t bytesOf(MemRefType type) {
  return type.getNumElements() * llvm::divideCeil(type.getElementTypeBitWidth(), 8);
}

static Scratch planScratch(func::FuncOp function) {
  Block &body = function.getBody().front();
  llvm::DenseMap<Operation *, int64_t> position;
  for (auto [index, op] : llvm::enumerate(body))
    position[&op] = index;
  SmallVector<Value> buffers;
  SmallVector<PlannedValue> lives;
  for (auto alloc : body.getOps<memref::AllocOp>()) {
    if (alloc->use_empty())
      continue;
    auto at = llvm::map_to_vector(alloc->getUsers(), [&](Operation *user) {
      return position[body.findAncestorOpInBlock(*user)];
    });
    buffers.push_back(alloc);
    lives.push_back({*llvm::min_element(at), *llvm::max_element(at), bytesOf(alloc.getType())});
  }
  Scratch scratch;
  scratch.bytes = planArena(lives);
  for (auto [buffer, life] : llvm::zip_equal(buffers, lives))
    scratch.offsets[buffer] = life.offset;
  return scratch;
}

//===----------------------------------------------------------------------===//
// The block
//===----------------------------------------------------------------------===//

namespace {
// Writes the LLVM function of a block.
class BlockWriter {
public:
  BlockWriter(func::FuncOp block, ModuleOp module)
      : block(block), module(module), builder(block), loc(block.getLoc()),
        pointer(LLVM::LLVMPointerType::get(block.getContext())) {}

  LogicalResult write() {
    Scratch scratch = planScratch(block);
    std::string name = block.getSymName().str();
    block.setSymName(name + ".buffers");
    auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(builder.getContext()),
                                            {pointer, pointer});
    auto function = LLVM::LLVMFuncOp::create(builder, loc, name, type);
    function->setAttr(kScratchAttr, builder.getI64IntegerAttr(scratch.bytes));
    Block *entry = function.addEntryBlock(builder);
    builder.setInsertionPointToStart(entry);

    stream = entry->getArgument(0);
    Value buffers = entry->getArgument(1);
    auto loadBuffer = [&](unsigned index) -> Value {
      Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, buffers,
                                       ArrayRef<LLVM::GEPArg>{int32_t(index)});
      return LLVM::LoadOp::create(builder, loc, pointer, slot);
    };
    for (BlockArgument argument : block.getArguments())
      pointers[argument] = loadBuffer(argument.getArgNumber());
    if (scratch.bytes > 0) {
      Value base = loadBuffer(block.getNumArguments());
      for (auto alloc : block.getOps<memref::AllocOp>()) {
        auto place = scratch.offsets.find(alloc);
        if (place == scratch.offsets.end())
          continue;
        pointers[alloc] = LLVM::GEPOp::create(builder, loc, pointer, builder.getI8Type(), base,
                                              ArrayRef<LLVM::GEPArg>{constant(place->second)});
      }
    }

    for (Operation &op : block.getBody().front()) {
      loc = op.getLoc();
      if (auto call = dyn_cast<func::CallOp>(op))
        writeLoop(call);
      else if (auto call = dyn_cast<routine::RoutineOpInterface>(op))
        writeRoutine(call);
      else if (!isa<memref::AllocOp, func::ReturnOp>(op) && !op.hasTrait<OpTrait::ConstantLike>())
        return op.emitOpError("expects only calls of loops and routines and buffers in a block");
    }
    LLVM::ReturnOp::create(builder, loc, ValueRange());
    return success();
  }

private:
  func::FuncOp block;
  ModuleOp module;
  OpBuilder builder;
  Location loc;
  Type pointer;
  Value stream;
  llvm::DenseMap<Value, Value> pointers;
  llvm::StringMap<unsigned> descriptions;

  Value constant(int64_t value) {
    return LLVM::ConstantOp::create(builder, loc, builder.getI64IntegerAttr(value));
  }

  // The private function `void BODY(ptr buffers, i64 lo, i64 hi)` that takes the
  // buffers of `loop` from memory.
  LLVM::LLVMFuncOp loopBody(LLVM::LLVMFuncOp loop) {
    std::string name = (loop.getSymName() + ".body").str();
    if (auto found = module.lookupSymbol<LLVM::LLVMFuncOp>(name))
      return found;
    OpBuilder::InsertionGuard guard(builder);
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

  // A routine of the runtime library, declared at first use.
  LLVM::LLVMFuncOp declare(StringRef name, ArrayRef<Type> arguments) {
    if (auto found = module.lookupSymbol<LLVM::LLVMFuncOp>(name))
      return found;
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(module.getBody());
    auto type =
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(builder.getContext()), arguments);
    return LLVM::LLVMFuncOp::create(builder, loc, name, type);
  }

  void writeLoop(func::CallOp call) {
    auto loop = module.lookupSymbol<LLVM::LLVMFuncOp>(call.getCallee());
    SmallVector<Value> buffers;
    for (Value operand : call.getOperands().drop_back(2))
      buffers.push_back(pointers[operand]);
    size_t count = call.getNumOperands();
    int64_t low = *getConstantIntValue(call.getOperand(count - 2)),
            high = *getConstantIntValue(call.getOperand(count - 1));
    auto grain = call->getAttrOfType<IntegerAttr>(kGrainAttr);
    if (!grain || low != 0) {
      SmallVector<Value> operands(buffers);
      operands.push_back(constant(low));
      operands.push_back(constant(high));
      LLVM::CallOp::create(builder, loc, loop, operands);
      return;
    }
    Value array;
    {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(builder.getInsertionBlock());
      array = LLVM::AllocaOp::create(builder, loc, pointer, pointer, constant(buffers.size()));
    }
    for (auto [index, buffer] : llvm::enumerate(buffers)) {
      Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, array,
                                       ArrayRef<LLVM::GEPArg>{int32_t(index)});
      LLVM::StoreOp::create(builder, loc, buffer, slot);
    }
    LLVM::CallOp::create(builder, loc, declare("llrt_launch", {pointer, pointer, pointer}),
                         ValueRange{stream, kernel(loop, high, grain.getInt()), array});
  }

  // Address of the constant LlrtKernel of `loop` over `rows` rows.
  Value kernel(LLVM::LLVMFuncOp loop, int64_t rows, int64_t grain) {
    std::string name = (loop.getSymName() + ".kernel." + Twine(rows) + "." + Twine(grain)).str();
    if (!module.lookupSymbol(name)) {
      LLVM::LLVMFuncOp body = loopBody(loop);
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointAfter(body);
      Type i64 = builder.getI64Type();
      auto type = LLVM::LLVMStructType::getLiteral(builder.getContext(), {pointer, i64, i64});
      auto global = LLVM::GlobalOp::create(builder, loc, type, /*isConstant=*/true,
                                           LLVM::Linkage::Internal, name, Attribute());
      builder.createBlock(&global.getInitializerRegion());
      Value value = LLVM::UndefOp::create(builder, loc, type);
      Value members[] = {LLVM::AddressOfOp::create(builder, loc, body), constant(rows),
                         constant(grain)};
      for (auto [index, member] : llvm::enumerate(members))
        value = LLVM::InsertValueOp::create(builder, loc, value, member, int64_t(index));
      LLVM::ReturnOp::create(builder, loc, value);
    }
    return LLVM::AddressOfOp::create(builder, loc, pointer, name);
  }

  // Address of a constant structure in words of 64 bits.
  Value description(ArrayRef<int64_t> words) {
    std::string key;
    llvm::raw_string_ostream stream(key);
    llvm::interleave(words, stream, ",");
    auto [entry, isNew] = descriptions.try_emplace(key, descriptions.size());
    std::string name = "descriptor" + std::to_string(entry->second);
    if (isNew) {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(module.getBody());
      auto type = LLVM::LLVMArrayType::get(builder.getI64Type(), words.size());
      LLVM::GlobalOp::create(builder, loc, type, /*isConstant=*/true, LLVM::Linkage::Internal, name,
                             builder.getI64TensorAttr(words), /*alignment=*/8);
    }
    return LLVM::AddressOfOp::create(builder, loc, pointer, name);
  }

  void writeRoutine(routine::RoutineOpInterface op) {
    SmallVector<Value> operands{stream, description(op.getDescription())};
    Value null;
    for (Value buffer : op.getRoutineArguments()) {
      if (!buffer && !null)
        null = LLVM::ZeroOp::create(builder, loc, pointer);
      operands.push_back(buffer ? pointers[buffer] : null);
    }
    SmallVector<Type> types(operands.size(), pointer);
    LLVM::CallOp::create(builder, loc, declare(op.getRoutine(), types), operands);
  }
};

//===----------------------------------------------------------------------===//
// The loops
//===----------------------------------------------------------------------===//

struct BlocksToLLVMPass : llamac::impl::BlocksToLLVMPassBase<BlocksToLLVMPass> {
  using BlocksToLLVMPassBase::BlocksToLLVMPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto blocks = llvm::filter_to_vector(module.getOps<func::FuncOp>(), [](func::FuncOp f) {
      return f->hasAttr(llama::kBlockAttr);
    });
    if (blocks.empty())
      return;
    if (blocks.size() != 1) {
      module.emitOpError("expects one block, but got ") << blocks.size();
      return signalPassFailure();
    }
    if (failed(expandMath(module)) || failed(convertLoops(module, blocks.front())) ||
        failed(BlockWriter(blocks.front(), module).write()))
      return signalPassFailure();
    blocks.front().erase();
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

  LogicalResult convertLoops(ModuleOp module, func::FuncOp block) {
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
    target.markUnknownOpDynamicallyLegal(
        [&](Operation *op) { return op == block || block->isProperAncestor(op); });
    for (StringRef dialect : {"func", "memref", "arith", "math", "cf"})
      target.addDynamicallyLegalDialect(
          [&](Operation *op) { return op == block || block->isProperAncestor(op); }, dialect);
    if (failed(applyFullConversion(module, target, std::move(patterns))))
      return failure();
    for (auto function : module.getOps<LLVM::LLVMFuncOp>())
      if (!function.isExternal())
        function.setLinkage(LLVM::Linkage::Internal);
    return success();
  }
};
} // namespace
