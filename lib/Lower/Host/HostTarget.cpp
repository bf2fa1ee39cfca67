//===- HostTarget.cpp - The target that is this machine -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Host/HostTarget.h"

#include "llamac/Lower/Passes.h"
#include "runtime/include/llrt/Collectives.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;
using namespace mlir::llamac;

namespace {
class HostTarget final : public Target {
public:
  HostTarget(Lowering how, CpuTarget cpu) : Target(how, std::move(cpu)) {}

  StringRef name() const override { return "host"; }
  StringRef machine() const override { return "cpu"; }

  // A cache line, and the widest vector register; loops load parameters from anywhere.
  Alignment alignment() const override { return {.values = 64, .parameters = 32}; }

  bool hasRoutine(Operation *op) const override { return isProduct(op) || isAttention(op); }

  bool hasCollective(const dist::Collective &) const override { return true; }

  int64_t collectiveScratch(const dist::Collective &what) const override {
    return llrt::collectiveScratch(dist::stringifyCollectiveKind(what.kind), what.members,
                                   what.outer, what.outer * what.elements,
                                   what.type.getIntOrFloatBitWidth() / 8);
  }

  void addCodePasses(OpPassManager &pm) const override {
    const bool fast = lowering() == Lowering::Fast;
    pm.addPass(createOutlineLoopsPass({/*parallel=*/fast}));
    pm.addPass(createBlocksToLLVMPass({/*polynomials=*/fast, alignment().values}));
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
  }

  FailureOr<std::vector<ObjectFile>> compile(ModuleOp program, unsigned threads,
                                             StringRef kernelFolder) const override {
    auto asked = program->getAttrOfType<DictionaryAttr>("llama.options");
    auto precision = asked ? asked.getAs<StringAttr>("precision") : StringAttr();
    if (precision && precision.getValue() == "bf16" && !cpu().hasBFloat16)
      emitRemark(program.getLoc(), "option '--precision=bf16': ")
          << cpu().name
          << " has no bf16 instructions: every value is converted in several; f32 is faster";
    return compileObjects(program, cpu(), lowering() == Lowering::Fast, threads);
  }

  SmallVector<StringRef> runtimeLibraries() const override {
    return {"llrt_main", "llrt", "llrt_host", "llrt"};
  }
};
} // namespace

llvm::Expected<std::shared_ptr<const Target>> llamac::makeHostTarget(Lowering how, CpuTarget cpu,
                                                                     StringRef chip) {
  if (!chip.empty())
    return llvm::createStringError("--chip=" + chip + ": expected --target=cuda, got host");
  return std::make_shared<HostTarget>(how, std::move(cpu));
}
