//===- Memory.h - What a program needs, and what fits -----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A program needs what its arenas take. Stages are cut without regard to memory first; if
// that does not fit a machine, the cut is made again under caps that come from the program
// measured before. What fits nowhere is refused, with the smallest changes that do, each
// found by compiling it.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DRIVER_MEMORY_H
#define LLAMAC_DRIVER_MEMORY_H

#include "llamac/Driver/Pipeline.h"
#include "runtime/include/llrt/MemoryTable.h"

#include "mlir/Support/Timing.h"

#include <functional>
#include <optional>
#include <vector>

namespace mlir::llamac {

/// The arenas of a rank of each stage, as far as they are planned; once all is, those of the
/// program that needs most there.
std::vector<llrt::ArenaSizes> memoryOf(ModuleOp module);

/// Those that the program named `program` needs. All is planned.
std::vector<llrt::ArenaSizes> memoryOf(ModuleOp module, StringRef program);

/// The largest sum of a stage's arenas, as of `memoryOf`.
int64_t neededBytes(ModuleOp module);

/// Prints the arenas of all ranks as tables, a program each, and what a rank of the machine has,
/// if known. All is planned.
void printMemory(ModuleOp module, StringRef machine, std::optional<int64_t> memory,
                 llvm::raw_ostream &os);

/// Runs the steps after `from` (Train or Parallelize) up to `to`, Parallelize or a later one;
/// not Emit; not Lower if `goesOn` says no of what Parallelize left. Where stages do not fit into `memory` (bytes of a rank), other cuts are tried; the module becomes
/// the program that needs the least. Fails after a message.
LogicalResult buildPrograms(ModuleOp module, const CompileOptions &options, Step from, Step to,
                            std::optional<int64_t> memory, TimingScope &timing,
                            llvm::function_ref<bool(ModuleOp)> goesOn = nullptr);

/// A change of options and what a rank then needs.
struct Remedy {
  std::string change; ///< as on a command line
  int64_t bytes;
};

/// The smallest changes with which the program fits into `memory`: of sharding, recomputation,
/// micro-batch size, tp and pp, each alone; if no single one does, two or more together. Where
/// nothing fits, one that needs least, whose change is empty if that is none. `model` is the form after step `from`, Import or Train;
/// `settle` completes options and says whether they are possible.
std::vector<Remedy> findRemedies(ModuleOp model, Step from, const CompileOptions &options,
                                 int64_t memory, llvm::function_ref<bool(CompileOptions &)> settle);

} // namespace mlir::llamac

#endif // LLAMAC_DRIVER_MEMORY_H
