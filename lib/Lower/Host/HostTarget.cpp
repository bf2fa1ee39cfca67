//===- HostTarget.cpp - The target that is this machine -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Host/HostTarget.h"

#include "dialects/Llama/IR/Llama.h"
#include "llamac/Lower/Passes.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llama;

static Type elementOf(Value value) { return getElementTypeOrSelf(value); }

// A tensor of known sizes that is not empty.
static bool isDense(Value value) {
  auto tensor = cast<RankedTensorType>(value.getType());
  return tensor.hasStaticShape() && tensor.getNumElements() > 0;
}

// Products have one operand type, f32, bf16 or f64; the reference takes those of f64 only.
static bool hasProduct(Operation *op, Lowering how) {
  Type element = elementOf(op->getOperand(0));
  bool known = element.isF64() || (how == Lowering::Fast && (element.isF32() || element.isBF16()));
  return known && llvm::all_of(op->getOperands(),
                               [&](Value v) { return elementOf(v) == element && isDense(v); });
}

// Attention is in f32 and bf16, statistics in f32.
template <typename Op> static bool hasAttention(Op op, Lowering how) {
  Type element = elementOf(op.getQuery());
  return how == Lowering::Fast && (element.isF32() || element.isBF16()) &&
         elementOf(op.getLse()).isF32() && isDense(op.getQuery()) && isDense(op.getKey());
}

namespace {
class HostTarget final : public Target {
public:
  HostTarget(Lowering how, CpuTarget cpu) : Target(how, std::move(cpu)) {}

  bool hasRoutine(Operation *op) const override {
    return llvm::TypeSwitch<Operation *, bool>(op)
        .Case<LinearOp, LinearDxOp, LinearDwOp>([&](auto) { return hasProduct(op, lowering()); })
        .Case<AttentionOp, AttentionGradOp>(
            [&](auto attention) { return hasAttention(attention, lowering()); })
        .Default([](Operation *) { return false; });
  }

  void addCodePasses(OpPassManager &pm) const override {
    const bool fast = lowering() == Lowering::Fast;
    pm.addPass(createOutlineLoopsPass({/*parallel=*/fast}));
    pm.addPass(createBlocksToLLVMPass({/*polynomials=*/fast}));
    pm.addPass(createCanonicalizerPass());
    pm.addPass(createCSEPass());
  }

  FailureOr<std::vector<ObjectFile>> compile(ModuleOp program, unsigned threads) const override {
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

  SmallVector<StringRef> linkArguments() const override {
    SmallVector<StringRef> arguments;
    StringRef(LLAMAC_LINK_LIBRARIES).split(arguments, ' ', -1, /*KeepEmpty=*/false);
    return arguments;
  }
};
} // namespace

std::shared_ptr<const Target> llamac::makeHostTarget(Lowering how, CpuTarget cpu) {
  return std::make_shared<HostTarget>(how, std::move(cpu));
}
