//===- Passes.h - Parallel program to device program -----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LOWER_PASSES_H
#define LLAMAC_LOWER_PASSES_H

#include "llamac/Lower/Target.h"

#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassManager.h"

namespace mlir::llamac {
#define GEN_PASS_DECL
#include "llamac/Lower/Passes.h.inc"
#define GEN_PASS_REGISTRATION
#include "llamac/Lower/Passes.h.inc"

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

/// Attribute of a block's declaration after llama-isolate-blocks: its code,
/// `@MODULE::@FUNCTION`.
inline constexpr llvm::StringLiteral kCodeAttr = "llama.code";
/// Attribute of a lowered block function, and of the block's declaration once memory is planned:
/// bytes of scratch memory, i64.
inline constexpr llvm::StringLiteral kScratchAttr = "llama.scratch";
/// Attribute of the module of a block's code: [type of the block, for each result the argument
/// whose place it takes or -1], for which the code was made.
inline constexpr llvm::StringLiteral kSignatureAttr = "llama.signature";
/// Attribute of the same module: the names of the blocks whose code it is.
inline constexpr llvm::StringLiteral kBlocksAttr = "llama.blocks";
/// Attribute of the same module where it has logits: of each tensor of them how many of a rank's
/// rows exist together, `[{chunk = 1024 : i64, rows = 4096 : i64}]` (llama-chunk-rows).
inline constexpr llvm::StringLiteral kLogitsAttr = "llama.logits";
/// Attribute of a block: lists of arguments, the buffers of each of which lie one behind the other
/// (llama-merge-products).
inline constexpr llvm::StringLiteral kConsecutiveAttr = "llama.consecutive";
/// Attribute of a block: texts, what became of products that might be one.
inline constexpr llvm::StringLiteral kProductsAttr = "llama.products";
/// Attribute of a call of an outlined loop: its iterations are independent, and
/// this many (i64) are worth a thread.
inline constexpr llvm::StringLiteral kGrainAttr = "llama.grain";

/// Unit attribute of a loop over columns inside a loop over rows: its iterations
/// are independent, but it is not outermost.
inline constexpr llvm::StringLiteral kColumnsAttr = "llama.columns";

/// Lowers every block of a module to the code of `target`, LLVM dialect on the host (pipeline
/// `llama-lower-blocks`).
void buildLowerBlocksPipeline(OpPassManager &pm, std::shared_ptr<const Target> target);

/// As the passes that have options, but for a target that is there.
std::unique_ptr<Pass> createSelectKernelsPass(std::shared_ptr<const Target> target);
std::unique_ptr<Pass> createLegalizeCollectivesPass(std::shared_ptr<const Target> target);
std::unique_ptr<Pass> createMergeProductsPass(std::shared_ptr<const Target> target);
std::unique_ptr<Pass> createPlanReservesPass(std::shared_ptr<const Target> target);

/// Registers the pipeline `llama-lower-blocks{target=host lower=fast}` and the models by
/// which upstream passes understand the ops of the routine dialect.
void registerLowerBlocksPipeline();
void registerRoutineBufferization(DialectRegistry &registry);

} // namespace mlir::llamac

#endif // LLAMAC_LOWER_PASSES_H
