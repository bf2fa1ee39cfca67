//===- BlockWork.cpp - What a block asks of a GPU ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/BlockWork.h"

#include "lib/Lower/Cuda/CudaTarget.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "llvm/Support/Regex.h"

using namespace mlir;
using namespace mlir::llamac;

// Address space of shared memory.
static constexpr unsigned kShared = 3;

static bool isShared(Value address) {
  return cast<LLVM::LLVMPointerType>(address.getType()).getAddressSpace() == kShared;
}

// Whether the blocks of a kernel wait only for such as have begun before: then one with room is enough. Their
// numbers in the grid say nothing about the order in which they begin.
static bool isBegunInOrder(gpu::GPUModuleOp kernel) {
  return kernel->hasAttr(kBegunInOrderAttr) &&
         !kernel
              .walk([](Operation *op) {
                return isa<NVVM::BlockIdXOp, NVVM::BlockIdYOp, NVVM::BlockIdZOp>(op)
                           ? WalkResult::interrupt()
                           : WalkResult::advance();
              })
              .wasInterrupted();
}

// Whether thread blocks may learn from memory what others have done: one that waits for that needs
// the others to run beside it.
static bool waitsForOthers(gpu::GPUModuleOp kernel) {
  static const llvm::Regex access("(^|[^a-z0-9_.:])((ld|atom|red)\\.[a-z0-9_.:]*)");
  WalkResult found = kernel.walk([&](Operation *op) {
    bool waits = false;
    if (auto load = dyn_cast<LLVM::LoadOp>(op))
      waits = (load.getVolatile_() || load.getOrdering() != LLVM::AtomicOrdering::not_atomic) &&
              !isShared(load.getAddr());
    else if (auto change = dyn_cast<LLVM::AtomicRMWOp>(op))
      waits = !isShared(change.getPtr());
    else if (auto change = dyn_cast<LLVM::AtomicCmpXchgOp>(op))
      waits = !isShared(change.getPtr());
    else if (auto code = dyn_cast<LLVM::InlineAsmOp>(op)) {
      SmallVector<StringRef> match;
      for (StringRef rest = code.getAsmString(); access.match(rest, &match);
           rest = rest.substr(match[0].end() - rest.begin())) {
        StringRef form = match[2];
        bool sees = !form.starts_with("ld.") || form.contains(".acquire") ||
                    form.contains(".relaxed") || form.contains(".volatile");
        waits |= sees && !form.contains(".shared");
      }
    }
    return waits ? WalkResult::interrupt() : WalkResult::advance();
  });
  return found.wasInterrupted();
}

static int64_t productOf(DictionaryAttr launch, StringRef sizes) {
  int64_t product = 1;
  if (auto list = launch.getAs<DenseI64ArrayAttr>(sizes))
    for (int64_t size : list.asArrayRef())
      product *= size;
  return product;
}

BlockWork llamac::cudaBlockWork(LLVM::LLVMFuncOp function) {
  BlockWork work;
  auto module = function->getParentOfType<ModuleOp>();
  auto halts = [&](const Twine &what) { work.halts.push_back(what.str()); };
  auto readLaunch = [&](LLVM::CallOp call) {
    auto kernel = call.getNumOperands() > 1 ? call.getOperand(1).getDefiningOp<LLVM::AddressOfOp>()
                                            : LLVM::AddressOfOp();
    auto global =
        kernel ? module.lookupSymbol<LLVM::GlobalOp>(kernel.getGlobalName()) : LLVM::GlobalOp();
    auto launch = global ? global->getAttrOfType<DictionaryAttr>(kLaunchAttr) : DictionaryAttr();
    auto name = launch ? launch.getAs<SymbolRefAttr>("kernel") : SymbolRefAttr();
    auto code =
        name ? module.lookupSymbol<gpu::GPUModuleOp>(name.getRootReference()) : gpu::GPUModuleOp();
    if (!code)
      return halts(
          "launches a kernel that is not in the table of those that are loaded at the start");
    work.cluster = std::max(work.cluster, productOf(launch, "cluster"));
    if (waitsForOthers(code) && !isBegunInOrder(code))
      work.grid = std::max(work.grid, productOf(launch, "grid"));
  };
  // Addresses of device memory come out of the array of buffers: what is behind them is not for the
  // host.
  auto isHosts = [&](Value address) {
    while (auto part = address.getDefiningOp<LLVM::GEPOp>())
      address = part.getBase();
    return isa_and_nonnull<LLVM::AllocaOp, LLVM::AddressOfOp>(address.getDefiningOp()) ||
           (function.getNumArguments() > 1 && address == function.getArgument(1));
  };
  function.walk([&](Operation *op) {
    if (auto call = dyn_cast<LLVM::CallOp>(op)) {
      StringRef callee = call.getCallee().value_or("a function pointer");
      if (callee == "llrt_launch")
        readLaunch(call);
      else if (callee == "llrt_gemm")
        work.hasProducts = true;
      else if (auto own = module.lookupSymbol<LLVM::LLVMFuncOp>(callee); own && !own.isExternal()) {
        // A part of the block that it does in chunks.
        BlockWork of = cudaBlockWork(own);
        work.hasProducts |= of.hasProducts;
        work.cluster = std::max(work.cluster, of.cluster);
        work.grid = std::max(work.grid, of.grid);
        llvm::append_range(work.halts, of.halts);
      } else
        halts("calls " + callee + ", which is no work for a stream");
    } else if (auto load = dyn_cast<LLVM::LoadOp>(op)) {
      if (!isHosts(load.getAddr()))
        halts("reads memory of the device on the host");
    } else if (auto store = dyn_cast<LLVM::StoreOp>(op)) {
      if (!isHosts(store.getAddr()))
        halts("writes memory of the device on the host");
    } else if (!isa<LLVM::LLVMFuncOp, LLVM::ReturnOp, LLVM::GEPOp, LLVM::AllocaOp,
                    LLVM::AddressOfOp, LLVM::ZeroOp, LLVM::ConstantOp, LLVM::BrOp, LLVM::CondBrOp,
                    LLVM::AddOp, LLVM::MulOp, LLVM::ICmpOp>(op)) {
      halts("has " + op->getName().getStringRef() + ", which is no work for a stream");
    }
  });
  return work;
}
