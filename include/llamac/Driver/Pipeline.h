//===- Pipeline.h - The one ordered list of all passes ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DRIVER_PIPELINE_H
#define LLAMAC_DRIVER_PIPELINE_H

#include "llamac/Lower/Target.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

#include <string>

namespace mlir::llamac {

/// The steps of a compilation, in order. A form is named by the step that makes
/// it: Import makes the model graph, Train the training graph, Parallelize the
/// parallel program, Lower the device program, Emit the executable.
enum class Step { Import, Train, Parallelize, Lower, Emit };

/// What `llamac compile` is asked for: a field for each option of Options.def. Sizes are those of
/// one micro-batch.
struct CompileOptions {
#define LLAMAC_OPTION(STEP, TYPE, FIELD, NAME, DEFAULT, VALUES, HELP) TYPE FIELD = DEFAULT;
#include "llamac/Driver/Options.def"
};

/// Module attribute: the options that made a form, `{batch = 1 : i64, ...}`.
inline constexpr llvm::StringLiteral kOptionsAttr = "llama.options";

/// Records the options in the module, for later steps and for the executable's
/// `info`.
void recordOptions(ModuleOp module, const CompileOptions &options);

/// Takes the options that a module records, but not those for which `isGiven`
/// (of the command line's name, e.g. "text-length") says yes.
void restoreOptions(ModuleOp module, CompileOptions &options,
                    llvm::function_ref<bool(StringRef)> isGiven);

/// The target that the options ask for.
TargetOptions targetOf(const CompileOptions &options);

/// The machine that the options name, else that of their target.
std::string machineOf(const CompileOptions &options, const Target &target);

/// Adds the passes of the steps after `from`, up to and including `to`. Emit has
/// none: it is a function on the device program. `stageMemory`: an option of
/// dist-build-program. Lower asks for the target of the options, which must be there (makeTarget).
void buildPipeline(OpPassManager &pm, const CompileOptions &options, Step from, Step to,
                   ArrayRef<int64_t> stageMemory = {});

/// Adds the pass that proves the program which Lower leaves for `target`. Apart from Lower, which runs
/// once for every cut into stages that is tried: only the program that is kept is proved.
void buildCheck(OpPassManager &pm, std::shared_ptr<const Target> target);

} // namespace mlir::llamac

#endif // LLAMAC_DRIVER_PIPELINE_H
