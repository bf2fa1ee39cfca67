//===- LowerKernels.cpp - Kernels to LLVM and NVVM ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Upstream's patterns, but not upstream's pass, which makes calls of libdevice. What has no
// instruction is an error here: LLVM would end the process.
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "llamac/Support/Locations.h"

#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVM.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVMPass.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/NVVMToLLVM/NVVMToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/Transforms/Transforms.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/Vector/Transforms/LoweringPatterns.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "llvm/BinaryFormat/Dwarf.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_LOWERKERNELSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

/// Threads of a warp.
static constexpr unsigned kWarp = 32;
/// Alignment that 16-byte accesses of shared memory need.
static constexpr int64_t kSharedAlignment = 16;

static bool isSinglePrecision(Operation *op) {
  return getElementTypeOrSelf(op->getResult(0).getType()).isF32();
}

static bool hasFlag(Operation *op, LLVM::FastmathFlags flag) {
  auto flags = dyn_cast<LLVM::FastmathFlagsInterface>(op);
  return flags && bitEnumContainsAll(flags.getFastmathAttr().getValue(), flag);
}

// LLVM has instructions for the rest of its math operations, on every chip.
static void addMathLegality(ConversionTarget &target) {
  target.addIllegalOp<LLVM::ExpOp, LLVM::LogOp, LLVM::Log2Op, LLVM::Log10Op, LLVM::PowOp,
                      LLVM::PowIOp, LLVM::Exp10Op, LLVM::TanOp, LLVM::ASinOp, LLVM::ACosOp,
                      LLVM::ATanOp, LLVM::ATan2Op, LLVM::SinhOp, LLVM::CoshOp>();
  target.addDynamicallyLegalOp<LLVM::Exp2Op>(isSinglePrecision);
  auto isApproximate = [](Operation *op) {
    return isSinglePrecision(op) && hasFlag(op, LLVM::FastmathFlags::afn);
  };
  target.addDynamicallyLegalOp<LLVM::SinOp>(isApproximate);
  target.addDynamicallyLegalOp<LLVM::CosOp>(isApproximate);
  target.addDynamicallyLegalOp<LLVM::TanhOp>(isApproximate);
}

//===----------------------------------------------------------------------===//
// Locations
//===----------------------------------------------------------------------===//

namespace {
// Gives a kernel's ops places that LLVM writes as `.file` and `.loc`: a file with a line is
// what it is; for a name, the name is the file and the line 1; nothing known: the kernel's name.
class LinePlaces {
public:
  explicit LinePlaces(LLVM::LLVMFuncOp kernel)
      : kernel(kernel), context(kernel.getContext()), home(placeOf(kernel.getLoc())) {
    if (home.file.empty())
      home = {kernel.getSymName().str(), 1, 0};
    auto id = [&] { return DistinctAttr::create(UnitAttr::get(context)); };
    LLVM::DIFileAttr file = fileOf(home.file);
    auto unit = LLVM::DICompileUnitAttr::get(
        context, id(), llvm::dwarf::DW_LANG_C, file, StringAttr::get(context, "llamac"),
        /*isOptimized=*/true, LLVM::DIEmissionKind::DebugDirectivesOnly,
        LLVM::DINameTableKind::Default, StringAttr());
    auto type = LLVM::DISubroutineTypeAttr::get(context, {});
    subprogram = LLVM::DISubprogramAttr::get(
        context, id(), unit, file, kernel.getSymNameAttr(), kernel.getSymNameAttr(), file,
        home.line, home.line,
        LLVM::DISubprogramFlags::Definition | LLVM::DISubprogramFlags::Optimized, type, {}, {});
  }

  void write() {
    kernel.walk([&](Operation *op) {
      if (op != kernel)
        op->setLoc(scoped(op->getLoc()));
    });
    kernel->setLoc(FusedLoc::get({lineOf(home)}, subprogram, context));
  }

private:
  struct Place {
    std::string file;
    unsigned line = 0, column = 0;
  };
  LLVM::LLVMFuncOp kernel;
  MLIRContext *context;
  Place home;
  LLVM::DISubprogramAttr subprogram;
  llvm::DenseMap<Location, Location> known;

  LLVM::DIFileAttr fileOf(StringRef name) { return LLVM::DIFileAttr::get(context, name, ""); }

  Location lineOf(const Place &place) {
    return FileLineColLoc::get(context, place.file, place.line, place.column);
  }

  static Place placeOf(Location location) {
    if (auto line = location->findInstanceOf<FileLineColLoc>())
      return {line.getFilename().str(), line.getLine(), line.getColumn()};
    return {locationText(location), 1, 0};
  }

  Location scoped(Location location) {
    auto [entry, isNew] = known.try_emplace(location, location);
    if (!isNew)
      return entry->second;
    Place place = placeOf(location);
    if (place.file.empty())
      place = home;
    LLVM::DILocalScopeAttr scope = subprogram;
    if (place.file != home.file)
      scope = LLVM::DILexicalBlockFileAttr::get(context, subprogram, fileOf(place.file), 0);
    return entry->second = FusedLoc::get({lineOf(place)}, scope, context);
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

namespace {
struct LowerKernelsPass : llamac::impl::LowerKernelsPassBase<LowerKernelsPass> {
  using LowerKernelsPassBase::LowerKernelsPassBase;

  void runOnOperation() override {
    gpu::GPUModuleOp module = getOperation();
    alignShared(module);
    if (failed(expand(module)) || failed(lowerLoops(module)) || failed(convert(module)))
      return signalPassFailure();
    for (auto function : module.getOps<LLVM::LLVMFuncOp>())
      if (!function.isExternal())
        LinePlaces(function).write();
  }

  static void alignShared(gpu::GPUModuleOp module) {
    Builder builder(module.getContext());
    StringRef name = LLVM::LLVMDialect::getAlignAttrName();
    for (auto kernel : module.getOps<gpu::GPUFuncOp>())
      for (int i = 0, e = kernel.getNumWorkgroupAttributions(); i < e; ++i)
        if (!kernel.getWorkgroupAttributionAttr(i, builder.getStringAttr(name)))
          kernel.setWorkgroupAttributionAttr(i, builder.getStringAttr(name),
                                             builder.getI64IntegerAttr(kSharedAlignment));
  }

  // What becomes ops of the same dialects: reductions of warps, vectors of several dimensions,
  // views.
  LogicalResult expand(gpu::GPUModuleOp module) {
    RewritePatternSet patterns(&getContext());
    populateGpuBreakDownSubgroupReducePatterns(patterns, /*maxShuffleBitwidth=*/32);
    populateGpuLowerSubgroupReduceToShufflePatterns(patterns, kWarp);
    populateGpuLowerClusteredSubgroupReduceToShufflePatterns(patterns, kWarp);
    vector::populateVectorTransferLoweringPatterns(patterns, /*maxTransferRank=*/1);
    memref::populateExpandStridedMetadataPatterns(patterns);
    return applyPatternsGreedily(module, std::move(patterns));
  }

  LogicalResult lowerLoops(gpu::GPUModuleOp module) {
    MLIRContext *context = &getContext();
    RewritePatternSet patterns(context);
    populateAffineToStdConversionPatterns(patterns);
    populateSCFToControlFlowConversionPatterns(patterns);
    ConversionTarget target(*context);
    target.addIllegalDialect<affine::AffineDialect, scf::SCFDialect>();
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
    return applyPartialConversion(module, target, std::move(patterns));
  }

  LogicalResult convert(gpu::GPUModuleOp module) {
    MLIRContext *context = &getContext();
    LowerToLLVMOptions options(context);
    options.useBarePtrCallConv = true;
    LLVMTypeConverter converter(context, options);
    configureGpuToNVVMTypeConverter(converter);
    RewritePatternSet patterns(context);
    // Behind all others, as it has calls of libdevice for what they have instructions for.
    populateGpuToNVVMConversionPatterns(converter, patterns, /*benefit=*/0);
    populateFuncToLLVMConversionPatterns(converter, patterns);
    populateFinalizeMemRefToLLVMConversionPatterns(converter, patterns);
    arith::populateArithToLLVMConversionPatterns(converter, patterns);
    cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
    ub::populateUBToLLVMConversionPatterns(converter, patterns);
    populateVectorToLLVMConversionPatterns(converter, patterns);
    populateMathToLLVMConversionPatterns(converter, patterns);
    populateNVVMToLLVMConversionPatterns(patterns);
    LLVMConversionTarget target(*context);
    target.addLegalDialect<NVVM::NVVMDialect>();
    target.addLegalOp<gpu::GPUModuleOp>();
    addMathLegality(target);
    if (failed(applyFullConversion(module, target, std::move(patterns))))
      return failure();
    for (auto function : module.getOps<LLVM::LLVMFuncOp>())
      if (function.isExternal())
        return function.emitError("no instruction, but a call of ")
               << function.getSymName() << ": expects functions to be expanded";
    return success();
  }
};
} // namespace
