//===- Pipeline.h - The one ordered list of all passes ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DRIVER_PIPELINE_H
#define LLAMAC_DRIVER_PIPELINE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

#include <string>

namespace mlir::llamac {

/// The steps of a compilation, in order. A form is named by the step that makes
/// it: Import makes the model graph, Train the training graph, Parallelize the
/// parallel program, Lower the device program, Emit the executable.
enum class Step { Import, Train, Parallelize, Lower, Emit };

/// What `llamac compile` is asked for. Sizes are those of one micro-batch.
struct CompileOptions {
  int64_t batch = 1;        ///< samples
  int64_t textLength = 192; ///< tokens of a sample
  int64_t images = 1;       ///< images of a sample; 0 for text-only models
  int64_t microBatches = 1; ///< of a step
  std::string precision = "bf16";
  std::string accumulate = "f32";
  std::string trainable = "all";
  std::string recompute = "none";
  std::string target = "host";
  std::string cpu = "native"; ///< this machine's, or LLVM's name of one
  std::string lower = "fast";
  // How the work is spread over ranks.
  std::string grid = "tp=1,cp=1,pp=1,dp=1"; ///< ranks on each axis
  std::string fsdp = "none";                ///< what is sharded over dp
  int64_t blocksInFlight = 2;               ///< that have whole gradients, whole weights, at once
  std::string encoder = "replicated";       ///< where the image encoder runs
  std::string encoderShard = "images";      ///< what of its work is split
  std::string encoderAxes;                  ///< axes that split it: "tp,cp,pp"
  int64_t encoderGroup = 1;                 ///< micro-batches that it takes at once
  std::string schedule = "1f1b";
  int64_t virtualStages = 1;         ///< chunks of a pipeline stage
  int64_t consecutive = 0;           ///< micro-batches that pass a chunk before the next; 0: pp
  std::string machine = "cpu";       ///< what it is planned for: a preset or FILE.json
  std::string overMemory = "refuse"; ///< what becomes of a program that its memory is too small for
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

/// Adds the passes of the steps after `from`, up to and including `to`. Emit has
/// none: it is a function on the device program. `stageMemory`: an option of
/// dist-build-program.
void buildPipeline(OpPassManager &pm, const CompileOptions &options, Step from, Step to,
                   ArrayRef<int64_t> stageMemory = {});

} // namespace mlir::llamac

#endif // LLAMAC_DRIVER_PIPELINE_H
