//===- Target.cpp - Which targets there are -------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Target.h"

#include "lib/Lower/Host/HostTarget.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::llamac;

namespace {
struct Entry {
  StringRef name;
  std::shared_ptr<const Target> (*make)(Lowering, CpuTarget);
};
} // namespace

static constexpr Entry kTargets[] = {{"host", makeHostTarget}};

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
                     std::move(*cpu));
}
