//===- Target.cpp - Which targets there are -------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Target.h"

#include "dialects/Llama/IR/Llama.h"
#include "lib/Lower/Cuda/CudaTarget.h"
#include "lib/Lower/Host/HostTarget.h"

#include "llvm/ADT/StringExtras.h"
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

bool Target::isProduct(Operation *op) const {
  if (!isa<LinearOp, LinearDxOp, LinearDwOp>(op))
    return false;
  Type element = elementOf(op->getOperand(0));
  bool known = element.isF64() || (how == Lowering::Fast && (element.isF32() || element.isBF16()));
  return known && llvm::all_of(op->getOperands(),
                               [&](Value v) { return elementOf(v) == element && isDense(v); });
}

bool Target::isAttention(Operation *op) const {
  return llvm::TypeSwitch<Operation *, bool>(op)
      .Case<AttentionOp, AttentionGradOp>([&](auto attention) {
        Type element = elementOf(attention.getQuery());
        return how == Lowering::Fast && (element.isF32() || element.isBF16()) &&
               elementOf(attention.getLse()).isF32() && isDense(attention.getQuery()) &&
               isDense(attention.getKey());
      })
      .Default([](Operation *) { return false; });
}

SmallVector<StringRef> Target::linkArguments() const {
  SmallVector<StringRef> arguments;
  StringRef(LLAMAC_LINK_LIBRARIES).split(arguments, ' ', -1, /*KeepEmpty=*/false);
  return arguments;
}

namespace {
struct Entry {
  StringRef name;
  llvm::Expected<std::shared_ptr<const Target>> (*make)(Lowering, CpuTarget, StringRef chip);
};
} // namespace

static constexpr Entry kTargets[] = {{"host", makeHostTarget}, {"cuda", makeCudaTarget}};

static llvm::Error wrong(StringRef option, StringRef value, const llvm::Twine &expected) {
  return llvm::createStringError("--" + option + "=" + value + ": expected " + expected);
}

llvm::Expected<std::shared_ptr<const Target>> llamac::makeTarget(const TargetOptions &options) {
  const auto *found =
      llvm::find_if(kTargets, [&](const Entry &entry) { return entry.name == options.name; });
  if (found == std::end(kTargets))
    return wrong(
        "target", options.name,
        "one that this version has: " +
            llvm::join(llvm::map_range(kTargets, [](auto &entry) { return entry.name; }), ", "));
  if (options.lower != "fast" && options.lower != "reference")
    return wrong("lower", options.lower, "fast or reference");
  llvm::Expected<CpuTarget> cpu = resolveCpu(options.cpu);
  if (!cpu)
    return cpu.takeError();
  return found->make(options.lower == "fast" ? Lowering::Fast : Lowering::Reference,
                     std::move(*cpu), options.chip);
}

LogicalResult llamac::makeTarget(std::shared_ptr<const Target> &target,
                                 const TargetOptions &options, MLIRContext *context) {
  if (target)
    return success();
  llvm::Expected<std::shared_ptr<const Target>> made = makeTarget(options);
  if (!made)
    return emitError(UnknownLoc::get(context)) << llvm::toString(made.takeError());
  target = std::move(*made);
  return success();
}
