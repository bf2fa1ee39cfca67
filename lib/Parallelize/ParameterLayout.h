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
#ifndef LLAMAC_LIB_PARALLELIZE_PARAMETERLAYOUT_H
#define LLAMAC_LIB_PARALLELIZE_PARAMETERLAYOUT_H

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"

#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// Elements to which a trained parameter, and a segment, are padded: one vector of f32
/// and the chunk of the optimizer's loop.
inline constexpr int64_t kParameterPadding = 16, kSegmentPadding = 1024;

/// How far training state is sharded over dp.
enum class Fsdp { None, Optimizer, Gradients, Parameters };

/// A trained or frozen parameter of a stage.
struct StageParameter {
  llama::ParameterOp op;
  SmallVector<StringRef> reduced; ///< axes over which its gradient is a partial sum, dp too
  SmallVector<StringRef> once;    ///< axes over which all ranks have the same part of it
};

struct Segment {
  SmallVector<StringRef> reduced, once;
  SmallVector<StringRef> parameters;
  int64_t begin = 0;    ///< first element, whole
  int64_t elements = 0; ///< whole, a multiple of kSegmentPadding times the ranks it is sharded over
};

struct ParameterLayout {
  SmallVector<Segment> segments;
  int64_t elements = 0; ///< of all segments, whole
  Type storageType, masterType, gradientType;
};

/// Name of arena `name` of a stage.
std::string arenaName(StringRef name, int stage, int stages);

/// Lays out `parameters`, in their order, and adds the arenas and a `dist.storage` for each
/// at the insertion point. `fsdp` with `dataRanks` ranks on dp (1: nothing is sharded).
FailureOr<ParameterLayout> layOutParameters(OpBuilder &builder, ArrayRef<StageParameter> parameters,
                                            Type gradientType, int stage, int stages, Fsdp fsdp,
                                            int64_t dataRanks);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_PARALLELIZE_PARAMETERLAYOUT_H
