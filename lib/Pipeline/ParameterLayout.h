//===- ParameterLayout.h - Where parameters and their state lie -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The trained parameters of a stage lie in *segments*: those whose gradients are reduced
// over the same axes, one after another, so that one call reduces a segment and one
// call updates all of them. Element k of the arenas of masters, gradients and moments
// belongs to element k of the trained front part of the parameters.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PIPELINE_PARAMETERLAYOUT_H
#define LLAMAC_LIB_PIPELINE_PARAMETERLAYOUT_H

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Plan/Plan.h"

#include "llamac/Support/Alignment.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

#include <vector>

namespace mlir::llamac {

/// Elements to which a segment is padded on each rank of dp: the chunk of the optimizer's loop;
/// and the least to which a parameter is: one vector of f32.
inline constexpr int64_t kSegmentPadding = 1024, kLeastPadding = 16;

using plan::Fsdp;

/// A trained or frozen parameter of a stage.
struct StageParameter {
  llama::ParameterOp op;
  int64_t application = 0;          ///< the first that has it
  SmallVector<StringRef> reduced{}; ///< axes over which its gradient is a partial sum, dp too
  SmallVector<StringRef> once{};    ///< axes over which all ranks have the same part of it
  bool onAllStages = false;         ///< a replicated encoder's
  /// Two stages that have it and add to its gradient.
  std::optional<std::pair<int, int>> tied{};
};

/// Parameters that are sharded together: those of a segment, or of an application in a
/// segment, or frozen ones of an application.
struct Unit {
  int64_t application = -1;
  Type type; ///< of the weights
  SmallVector<StringRef> parameters;
  int64_t begin = 0;    ///< first element among all trained ones, whole
  int64_t elements = 0; ///< whole, a multiple of the padding times the ranks
  dist::UnitOp op;      ///< null: there is none
};

struct Segment {
  SmallVector<StringRef> reduced, once;
  std::optional<std::pair<int, int>> tied;
  std::vector<Unit> units;
  int64_t begin = 0;    ///< first element, whole
  int64_t elements = 0; ///< whole, a multiple of kSegmentPadding times the ranks
};

struct ParameterLayout {
  std::vector<Segment> segments;
  std::vector<Unit> frozen; ///< sharded frozen parameters
  int64_t elements = 0;     ///< of all segments, whole
  int64_t ranks = 1;        ///< over which state is sharded
  Fsdp fsdp = Fsdp::None;   ///< None if there is one rank on dp
  Type storageType, masterType, gradientType;
};

/// Lays out `parameters`, in their order, and adds the arenas, a `dist.storage` for each
/// and the units at the insertion point. `dataRanks`: ranks on dp; `blocksInFlight`: blocks
/// whose weights are whole at once, if they are sharded. `alignment`: where
/// parameters begin, in whatever type.
FailureOr<ParameterLayout> layOutParameters(OpBuilder &builder, ArrayRef<StageParameter> parameters,
                                            Type gradientType, int stage, int stages, Fsdp fsdp,
                                            int64_t dataRanks, int64_t blocksInFlight,
                                            Alignment alignment);

/// Notes at each graph function the units whose weights it reads gathered, and those to
/// whose gradients it adds, in the order of their first use.
void noteUnits(ArrayRef<func::FuncOp> functions, const ParameterLayout &layout);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_PIPELINE_PARAMETERLAYOUT_H
