//===- Emit.h - Device program to executable -------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A device program has its memory planned (llama-plan-arenas) and its blocks lowered
// (llama-lower-blocks). What an executable carries of it: runtime/include/llrt/Program.h.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_EMIT_EMIT_H
#define LLAMAC_EMIT_EMIT_H

#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <vector>

namespace mlir::llamac {
class Target;

struct EmitOptions {
  /// Where libllrt.a and libllrt_main.a are. Empty: environment variable
  /// LLAMAC_RUNTIME_DIR, else `../lib` seen from the folder of the running program
  /// (so it is in a build tree and where llamac is installed).
  std::string runtimeDirectory;
  /// The compiler that links. Empty: environment variable LLAMAC_LINKER, else the one
  /// that llamac was built with, else `c++`.
  std::string linker;
  /// Where the kernels of a device are written too (Target::compile). Empty: nowhere.
  std::string kernelFolder;
};

/// Compiles the blocks of a device program, which were lowered for `target`, and links them with the program's text
/// and the runtime library into the executable `path`. Emits an error if something fails;
/// what was at `path` is still there then.
LogicalResult emitExecutable(ModuleOp program, const Target &target, const EmitOptions &options,
                             StringRef path);

/// What an executable interprets.
struct ProgramText {
  struct Block {
    std::string name;   ///< as in the text
    SymbolRefAttr code; ///< the `llvm.func`
  };
  std::string json;          ///< see llrt/Program.h
  std::vector<Block> blocks; ///< in the order of their first call
};

/// The text of a device program. Emits an error if something that an executable
/// needs is missing: module attributes, lowered blocks, room for their scratch memory.
FailureOr<ProgramText> writeProgramText(ModuleOp program);

} // namespace mlir::llamac

#endif // LLAMAC_EMIT_EMIT_H
