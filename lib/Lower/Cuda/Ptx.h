//===- Ptx.h - Kernels as PTX and as machine code --------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_PTX_H
#define LLAMAC_LIB_LOWER_CUDA_PTX_H

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace mlir::llamac {

/// Checks that LLVM has `chip`, a name as `sm_90a`, and that it is sm_80 or later.
llvm::Error checkChip(StringRef chip);

/// The name of the entry for a kernel's symbol: PTX has letters, digits and `_`.
std::string entryName(StringRef kernel);

/// The PTX of a lowered kernel for a chip that checkChip knows, in the lowest version that has
/// the chip. Emits an error if LLVM cannot make it. Threads may call it at the same time.
FailureOr<std::string> writePtx(gpu::GPUModuleOp kernel, StringRef chip);

/// What a kernel takes of a multiprocessor, as ptxas says it; -1: it was not asked.
struct Resources {
  int64_t registers = -1; ///< of a thread
  int64_t shared = -1;    ///< static shared memory of a block, bytes
  int64_t stack = -1;     ///< local memory of a thread, bytes
  int64_t spills = -1;    ///< bytes that a thread stores and loads for want of registers
};

/// Machine code of a kernel for one chip.
struct Cubin {
  Resources resources;
  std::vector<char> bytes;
  std::string warning; ///< that ptxas serializes what is asynchronous; empty: it does not
};

/// NVIDIA's assembler.
struct Ptxas {
  std::string path;
  std::string version;            ///< as `V13.0.88`
  std::vector<std::string> chips; ///< that it knows

  /// The one that LLAMAC_PTXAS names (none: `none`), else that of PATH, CUDA_HOME, CUDA_PATH,
  /// /usr/local/cuda, or of the folder `cuda` beside that of the running program, where
  /// tools/setup.sh puts it. Null if there is none; looked for once. An error if LLAMAC_PTXAS names
  /// something else.
  static llvm::Expected<const Ptxas *> find();

  /// Assembles `ptx`, or takes what that gave before from the cache: the folder LLAMAC_CACHE, else
  /// `llamac` in XDG_CACHE_HOME or ~/.cache; processes may share it. The error is what ptxas says.
  llvm::Expected<Cubin> assemble(StringRef ptx, StringRef chip) const;
};

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_PTX_H
