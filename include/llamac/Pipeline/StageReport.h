//===- StageReport.h - How the work was shared out --------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PIPELINE_STAGEREPORT_H
#define LLAMAC_PIPELINE_STAGEREPORT_H

#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// Attribute of a module with programs, which dist-build-program writes: `blocks`, the
/// number of each chunk; `slowest` and `lower_bound`, seconds of a micro-batch; `counted`, bytes
/// that the partition counted on each stage. With an
/// image encoder that several ranks share, `encoder`: `shard`, `axes`, `ranks`, `group`
/// (micro-batches), `parts`, `padding` (images of each round that are none).
inline constexpr llvm::StringLiteral kStagesAttr = "llama.stages";

/// Prints it, a line for the cut and one for the encoder; nothing if nothing is shared.
void printStages(ModuleOp module, llvm::raw_ostream &os);

} // namespace mlir::llamac

#endif // LLAMAC_PIPELINE_STAGEREPORT_H
