//===- CudaTarget.cpp - NVIDIA GPUs as a target ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/CudaTarget.h"

#include "lib/Lower/Cuda/DeviceCode.h"
#include "lib/Lower/Cuda/Ptx.h"
#include "lib/Lower/Host/HostTarget.h"
#include "llamac/Lower/Passes.h"

#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::llamac;

/// What is compiled for where no chip is named.
static constexpr StringRef kDefaultChip = "sm_90a";

namespace {
class CudaTarget final : public Target {
public:
  CudaTarget(Lowering how, CpuTarget cpu, std::vector<std::string> chips)
      : Target(how, std::move(cpu)), chips(std::move(chips)) {}

  StringRef name() const override { return "cuda"; }

  // What cuBLASLt expects of operands; two lines of the L2.
  Alignment alignment() const override { return {.values = 256, .parameters = 256}; }

  bool hasRoutine(Operation *op) const override { return isProduct(op) || isAttention(op); }

  // Fewer and fuller waves of tiles, fewer launches, and sums of gradients within a product.
  bool mergesProducts() const override { return true; }

  // NCCL has them in plain form alone, and takes its memory itself.
  bool hasCollective(const dist::Collective &what) const override {
    return !what.packType() && !what.unpackType();
  }
  int64_t collectiveScratch(const dist::Collective &) const override { return 0; }

  void addCodePasses(OpPassManager &pm) const override {
    pm.addPass(createEmitAttentionPass({llvm::join(chips, ",")}));
    pm.addPass(createOutlineLoopsPass({/*parallel=*/false}));
    pm.addPass(createMapKernelsPass());
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
    OpPassManager &kernels = pm.nest<gpu::GPUModuleOp>();
    kernels.addPass(createExpandMathPass());
    kernels.addPass(createLowerKernelsPass());
    pm.addPass(createBlocksToCudaPass({alignment().values}));
    pm.addPass(createReconcileUnrealizedCastsPass());
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
  }

  FailureOr<std::vector<ObjectFile>> compile(ModuleOp program, unsigned threads,
                                             StringRef kernelFolder) const override {
    FailureOr<ObjectFile> kernels = compileKernels(program, chips, cpu(), threads, kernelFolder);
    if (failed(kernels))
      return failure();
    FailureOr<std::vector<ObjectFile>> objects =
        compileObjects(program, cpu(), /*fast=*/false, threads);
    if (succeeded(objects))
      objects->push_back(std::move(*kernels));
    return objects;
  }

  StringRef deviceCode() const override { return kDeviceCodeSymbol; }

  SmallVector<StringRef> runtimeLibraries() const override {
    return {"llrt_main", "llrt", "llrt_cuda", "llrt"};
  }

private:
  std::vector<std::string> chips;
};
} // namespace

llvm::Expected<std::shared_ptr<const Target>> llamac::makeCudaTarget(Lowering how, CpuTarget cpu,
                                                                     StringRef names) {
  llvm::Expected<const Ptxas *> ptxas = Ptxas::find();
  if (!ptxas)
    return ptxas.takeError();
  std::vector<std::string> chips;
  auto wrong = [&](const Twine &message) {
    return llvm::createStringError("--chip=" + names + ": " + message);
  };
  for (StringRef chip : llvm::split(names.empty() ? kDefaultChip : names, ',')) {
    if (llvm::Error error = checkChip(chip))
      return wrong(chip + ": " + llvm::toString(std::move(error)));
    if (*ptxas && !llvm::is_contained((*ptxas)->chips, chip))
      return wrong((*ptxas)->path + " " + (*ptxas)->version + " does not know " + chip + ", but " +
                   llvm::join((*ptxas)->chips, ", ") +
                   "; LLAMAC_PTXAS names another, none leaves the code to the driver");
    if (llvm::is_contained(chips, chip))
      return wrong("expected " + chip + " once");
    chips.push_back(chip.str());
  }
  return std::make_shared<CudaTarget>(how, std::move(cpu), std::move(chips));
}
