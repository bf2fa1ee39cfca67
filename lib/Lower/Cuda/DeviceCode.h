//===- DeviceCode.h - All kernels of a program as one object ---*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_DEVICECODE_H
#define LLAMAC_LIB_LOWER_CUDA_DEVICECODE_H

#include "llamac/Lower/Target.h"

namespace mlir::llamac {

/// The symbol of the table that compileKernels makes, a LlrtDeviceCode.
inline constexpr llvm::StringLiteral kDeviceCodeSymbol = "llrt.device";

/// Compiles the kernels that the blocks of `program` launch for each of `chips`, those with the
/// same code once, on `threads` threads (0: one per core). The object file, for the processor
/// `cpu`, has what the launches refer to (kLaunchAttr) and the table of all. Emits an error if a
/// kernel cannot be compiled, a remark if there is no ptxas, so that the object has only PTX.
/// With a `folder`, PTX and machine code go there too: `NAME.CODE.CHIP.ptx`, `.cubin`.
FailureOr<ObjectFile> compileKernels(ModuleOp program, ArrayRef<std::string> chips,
                                     const CpuTarget &cpu, unsigned threads, StringRef folder);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_DEVICECODE_H
