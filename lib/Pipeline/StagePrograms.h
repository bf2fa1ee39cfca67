//===- StagePrograms.h - What a stage does, from the plan -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PIPELINE_STAGEPROGRAMS_H
#define LLAMAC_LIB_PIPELINE_STAGEPROGRAMS_H

#include "CutGraph.h"
#include "ProgramBuilder.h"

#include "llamac/Plan/Plan.h"

namespace mlir::llamac {

/// Writes the program "step" of a stage: the pieces of `graph` in the order of the plan's launch
/// list.
void buildStep(ProgramBuilder &programs, const GraphCut &graph, const plan::Plan &plan, int stage);

/// Writes the program "forward" of a stage: micro-batch after micro-batch, images in groups of
/// `group`.
void buildForward(ProgramBuilder &programs, const GraphCut &graph, const ChainCut &cut,
                  int64_t group, int64_t microBatches, int stage);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_PIPELINE_STAGEPROGRAMS_H
