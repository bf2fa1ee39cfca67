//===- BlocksToCuda.cpp - The host's side of blocks for CUDA --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The block is written by BlockWriter. What a launch needs to be told is constant: an external
// global for each different launch, with all of it as an attribute. What it holds is known when
// the kernels are compiled (DeviceCode.cpp).
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/BlockWriter.h"
#include "lib/Lower/Cuda/CudaTarget.h"
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_BLOCKSTOCUDAPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

// Constant sizes in x, y and z.
static FailureOr<Attribute> sizesOf(gpu::LaunchFuncOp launch, StringRef what, ValueRange values) {
  SmallVector<int64_t> sizes;
  for (Value value : values) {
    std::optional<int64_t> size = getConstantIntValue(value);
    if (!size || *size < 1)
      return launch.emitOpError("expects a constant ") << what << " of at least 1";
    sizes.push_back(*size);
  }
  return Attribute(DenseI64ArrayAttr::get(launch.getContext(), sizes));
}

namespace {
struct BlocksToCudaPass : llamac::impl::BlocksToCudaPassBase<BlocksToCudaPass> {
  using BlocksToCudaPassBase::BlocksToCudaPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<SmallVector<func::FuncOp>> blocks = blocksOf(module);
    if (failed(blocks))
      return signalPassFailure();
    if (blocks->empty())
      return;
    std::string prefix = ("llrt.launch." + blocks->back().getSymName() + ".").str();
    llvm::DenseMap<Attribute, std::string> launches;
    auto kernelOf = [&](Operation *op) -> FailureOr<std::string> {
      auto launch = dyn_cast<gpu::LaunchFuncOp>(op);
      if (!launch)
        return op->emitOpError("is for the host: expects launches of kernels");
      FailureOr<DictionaryAttr> what = describe(launch);
      if (failed(what))
        return failure();
      auto [entry, isNew] = launches.try_emplace(*what, prefix + std::to_string(launches.size()));
      if (isNew) {
        OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
        auto global = LLVM::GlobalOp::create(builder, launch.getLoc(), builder.getI8Type(),
                                             /*isConstant=*/true, LLVM::Linkage::External,
                                             entry->second, Attribute());
        global->setAttr(kLaunchAttr, *what);
      }
      return entry->second;
    };
    for (func::FuncOp block : *blocks) {
      if (failed(writeBlock(block, module, alignment, kernelOf)))
        return signalPassFailure();
    }
    // Kernels have copies of the constant tables that they read.
    for (auto table : llvm::make_early_inc_range(module.getOps<memref::GlobalOp>()))
      table.erase();
  }

  FailureOr<DictionaryAttr> describe(gpu::LaunchFuncOp launch) {
    Builder builder(&getContext());
    gpu::KernelDim3 grid = launch.getGridSizeOperandValues(),
                    block = launch.getBlockSizeOperandValues();
    NamedAttrList list;
    list.set("kernel", launch.getKernelAttr());
    auto set = [&](StringRef name, FailureOr<Attribute> sizes) {
      if (succeeded(sizes))
        list.set(name, *sizes);
      return sizes;
    };
    if (failed(set("grid", sizesOf(launch, "grid", {grid.x, grid.y, grid.z}))) ||
        failed(set("block", sizesOf(launch, "block", {block.x, block.y, block.z}))))
      return failure();
    if (launch.hasClusterSize()) {
      gpu::KernelDim3 cluster = launch.getClusterSizeOperandValues();
      if (failed(set("cluster", sizesOf(launch, "cluster", {cluster.x, cluster.y, cluster.z}))))
        return failure();
    }
    int64_t shared = 0;
    if (Value bytes = launch.getDynamicSharedMemorySize()) {
      std::optional<int64_t> size = getConstantIntValue(bytes);
      if (!size)
        return launch.emitOpError("expects a constant size of shared memory");
      shared = *size;
    }
    list.set("shared", builder.getI64IntegerAttr(shared));
    list.set("buffers", builder.getI64IntegerAttr(launch.getNumKernelOperands()));
    if (Attribute maps = launch->getAttr(kTensorMapsAttr))
      list.set("maps", maps);
    if (Attribute chips = launch->getAttr(kChipsAttr))
      list.set("chips", chips);
    if (Attribute attention = launch->getAttr(kAttentionAttr))
      list.set("attention", attention);
    return list.getDictionary(&getContext());
  }
};
} // namespace
