//===- Object.h - LLVM dialect to object files -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_EMIT_OBJECT_H
#define LLAMAC_EMIT_OBJECT_H

#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <vector>

namespace mlir::llamac {

/// The processor that host code is made for.
struct CpuTarget {
  std::string triple;   ///< of this machine
  std::string name;     ///< as `-mcpu` takes it; never `native`
  std::string features; ///< as `-mattr` takes it, may be empty
  bool hasBFloat16;     ///< whether it converts f32 to bf16 by an instruction
  bool hasFma;          ///< whether it multiplies and adds in one instruction
};

/// The target for `--cpu=NAME`: `native` (this machine) or a name that LLVM knows
/// (`x86-64-v3`, `znver4`, ...). Emits an error at `loc` if it knows none.
FailureOr<CpuTarget> resolveCpu(Location loc, StringRef name);

/// A relocatable ELF file in memory, position independent.
struct ObjectFile {
  std::string name; ///< of the module that it was made from
  SmallVector<char, 0> bytes;
};

/// Compiles each `builtin.module` directly in `program`, LLVM dialect only, to an
/// object file, in the order of the modules whatever `threads` (0: one per core).
/// With `fast` loops over bf16 are vectorized at full width. The files need
/// llrt_*, memcpy and memset, and libm where the IR calls it. Emits an error and
/// fails if a module cannot be translated.
FailureOr<std::vector<ObjectFile>> compileObjects(ModuleOp program, const CpuTarget &cpu, bool fast,
                                                  unsigned threads = 0);

/// Compiles one module; `program` itself must be LLVM dialect only.
FailureOr<ObjectFile> compileObject(ModuleOp module, const CpuTarget &cpu, bool fast);

/// Translations from MLIR to LLVM IR that compileObject needs.
void registerObjectTranslations(DialectRegistry &registry);

} // namespace mlir::llamac

#endif // LLAMAC_EMIT_OBJECT_H
