//===- CudaTarget.cpp - NVIDIA GPUs as a target ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/CudaTarget.h"

#include "lib/Lower/Cuda/BlockWork.h"
#include "lib/Lower/Cuda/DeviceCode.h"
#include "lib/Lower/Cuda/Ptx.h"
#include "lib/Lower/Host/HostTarget.h"
#include "llamac/Lower/Passes.h"
#include "runtime/include/llrt/Kernels.h"

#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::llamac;

/// What is compiled for where no chip is named.
static constexpr StringRef kDefaultChip = "sm_90a";

/// Multiprocessors of the smallest GPU of a data centre that is such a chip, and how many groups
/// (GPCs) they form; of chips that are not here, of an embedded one. NVIDIA's white papers of the
/// architectures. The runtime compares with the GPU that is there.
static DeviceLimits limitsOf(StringRef chip) {
  constexpr int64_t queues = 32; // CUDA_DEVICE_MAX_CONNECTIONS at its most, as the runtime sets it
  unsigned number = 0;
  chip.consume_front("sm_");
  (void)chip.take_while(llvm::isDigit).getAsInteger(10, number);
  switch (number) {
  case 80:
    return {108, 7, queues}; // A100
  case 86:
    return {72, 6, queues}; // A10
  case 89:
    return {58, 5, queues}; // L4
  case 90:
    return {114, 7, queues}; // H100 PCIe; SXM, H200 and GH200 have 132
  case 100:
  case 103:
    return {148, 8, queues}; // B200, B300
  default:
    return {16, 2, queues};
  }
}

namespace {
class CudaTarget final : public Target {
public:
  CudaTarget(Lowering how, CpuTarget cpu, std::vector<std::string> chips)
      : Target(how, std::move(cpu)), chips(std::move(chips)) {}

  StringRef name() const override { return "cuda"; }
  StringRef machine() const override { return "h100-sxm"; }

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

  CommunicatorShare shareOf(const CommunicatorUse &use) const override;
  int64_t productBytes() const override { return LLRT_CUDA_WORKSPACE_BYTES; }

  std::optional<DeviceLimits> limits() const override {
    DeviceLimits least = limitsOf(chips.front());
    for (StringRef chip : chips)
      if (DeviceLimits of = limitsOf(chip); of.multiprocessors < least.multiprocessors)
        least = of;
    return least;
  }
  BlockWork workOf(Operation *function) const override {
    return cudaBlockWork(cast<LLVM::LLVMFuncOp>(function));
  }

  void addCodePasses(OpPassManager &pm) const override {
    pm.addPass(createEmitAttentionPass({chipNames()}));
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

  std::string chipNames() const override { return llvm::join(chips, ","); }
  StringRef deviceCode() const override { return kDeviceCodeSymbol; }

  SmallVector<StringRef> runtimeLibraries() const override {
    return {"llrt_main", "llrt", "llrt_cuda", "llrt"};
  }

private:
  std::vector<std::string> chips;
};
} // namespace

// A call of NCCL is one kernel with a thread block for each channel, which spins on a multiprocessor
// until its peers have come; a thread block moves 512 KiB at a time (an eighth of NCCL_BUFFSIZE). The
// runtime sets maxCTAs to what is planned here.
//
// Memory: each channel has buffers for each connection, one for each protocol: Simple 4 MiB
// (NCCL_BUFFSIZE), LL128 8 steps of 640 threads x 120 words, LL 8 steps of 512 threads x 8 lines of 16 bytes.
// A ring has two connections; a tree, for all_reduce, two for each of at most 4 neighbours. Within a
// server with NVLink SHARP (sm_90 and later) a channel has 2 MiB for each of at most 8 ranks besides.
// Source: NVIDIA/nccl, src/include/device.h and src/transport/nvls.cc of 2.2x. An estimate: NCCL
// does not promise it, and may take less, as it makes connections when they are first used.
CommunicatorShare CudaTarget::shareOf(const CommunicatorUse &use) const {
  constexpr int64_t step = int64_t(512) << 10, simple = int64_t(4) << 20,
                    ll128 = int64_t(8) * 640 * 120 * 8, ll = int64_t(8) * 512 * 8 * 16;
  const int64_t most = use.isEdge ? 4 : use.besideCompute ? 8 : 16;
  CommunicatorShare share;
  share.multiprocessors = std::clamp<int64_t>(
      int64_t(llvm::PowerOf2Ceil(uint64_t(use.bytes + step - 1) / step)), 1, most);
  int64_t connections = 2;
  if (use.hasAllReduce)
    connections += 2 * std::min<int64_t>(use.ranks - 1, 4);
  int64_t channel = connections * (simple + ll128 + ll);
  if (!use.isEdge && use.ranks > 2)
    channel += (int64_t(2) << 20) * std::min<int64_t>(use.ranks, 8);
  share.bytes = share.multiprocessors * channel;
  return share;
}

llvm::Expected<std::shared_ptr<const Target>> llamac::makeCudaTarget(Lowering how, CpuTarget cpu,
                                                                     StringRef names) {
  llvm::Expected<const Ptxas *> ptxas = Ptxas::find();
  if (!ptxas)
    return ptxas.takeError();
  std::vector<std::string> chips;
  if (names.empty())
    names = kDefaultChip;
  auto wrong = [&](const Twine &message) {
    return llvm::createStringError("--chip=" + names + ": " + message);
  };
  for (StringRef chip : llvm::split(names, ',')) {
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
