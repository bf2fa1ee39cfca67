//===- Grid.h - The ranks and their axes -----------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SUPPORT_GRID_H
#define LLAMAC_SUPPORT_GRID_H

#include "dialects/Dist/IR/Dist.h"

#include "mlir/IR/BuiltinOps.h"

#include <string>

namespace mlir::llamac {

/// What the option `--grid` says: ranks along each kind of parallelism.
struct Grid {
  int64_t dp = 1, pp = 1, cp = 1, tp = 1;

  int64_t ranks() const { return dp * pp * cp * tp; }
};

/// Reads `tp=2,cp=2,pp=1,dp=1`, in any order; what is not named is 1. Fails with a
/// message at `loc`.
FailureOr<Grid> parseGrid(StringRef text, Location loc);

/// The symbol of the module's `shard.grid`, and the module attribute with the names of
/// its axes.
inline constexpr llvm::StringLiteral kGridSymbol = "grid";
inline constexpr llvm::StringLiteral kAxesAttr = "dist.axes";

/// Attributes of arguments and results of graphs that are not whole: the axes that
/// split each dimension, `[[], ["cp"]]`, and those over which it is a partial sum.
inline constexpr llvm::StringLiteral kSplitAttr = "dist.split";
inline constexpr llvm::StringLiteral kPartialAttr = "dist.partial";

/// An input of a graph with this name and the names of axes behind it,
/// `coordinate:tp,tpr`, is the rank's coordinate on those axes, row-major.
inline constexpr llvm::StringLiteral kCoordinatePrefix = "coordinate:";

/// An axis of the grid.
struct Axis {
  std::string name;
  int64_t size;
};

/// The axes of the module's grid, outermost first: `dp, pp, cp, tp`, and `tpr` where
/// ranks share heads of keys and values. None if the module has no grid, or one whose sizes
/// or names are not known.
SmallVector<Axis> axesOf(ModuleOp module);

/// Tokens of an image in the encoder's attention; 0 if there is no encoder.
int64_t encoderTokens(ModuleOp module);

/// Ranks of `name` among `axes`; 1 if there is no such axis.
int64_t sizeOfAxis(ArrayRef<Axis> axes, StringRef name);

/// Ranks that differ on the axes `names` alone.
int64_t ranksOver(ArrayRef<Axis> axes, ArrayAttr names);

/// Ranks of a group of a communicator: 2 at an edge.
int64_t ranksOf(ArrayRef<Axis> axes, dist::CommunicatorOp communicator);

/// The axes on which they differ: pp at an edge.
SmallVector<StringRef> axesOf(dist::CommunicatorOp communicator);

/// The symbol of an arena of a stage: `parameters`, or `stage1.parameters` where there are
/// several stages.
std::string arenaName(dist::ArenaRole role, int64_t stage, bool isPipeline);

} // namespace mlir::llamac

#endif // LLAMAC_SUPPORT_GRID_H
