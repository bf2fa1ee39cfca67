//===- HostTarget.h - The target that is this machine ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_HOST_HOSTTARGET_H
#define LLAMAC_LIB_LOWER_HOST_HOSTTARGET_H

#include "llamac/Lower/Target.h"

namespace mlir::llamac {

/// Loops and routines on the threads of a CPU (runtime/src/Host). An error if a chip is given.
llvm::Expected<std::shared_ptr<const Target>> makeHostTarget(Lowering how, CpuTarget cpu,
                                                             StringRef chip);

/// The processor for `--cpu=NAME`: `native` (this machine) or a name that LLVM knows
/// (`x86-64-v3`, `znver4`, ...). An error if it knows none.
llvm::Expected<CpuTarget> resolveCpu(StringRef name);

/// Compiles the modules of a program: Target::compile on `cpu`. LLVM dialect only. With `fast`
/// loops over bf16 are vectorized at full width. The files need llrt_*, memcpy and memset, and
/// libm where the IR calls it.
FailureOr<std::vector<ObjectFile>> compileObjects(ModuleOp program, const CpuTarget &cpu, bool fast,
                                                  unsigned threads);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_HOST_HOSTTARGET_H
