//===- ShardBlock.h - Give the values of one block a placement --*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_SHARD_SHARDBLOCK_H
#define LLAMAC_LIB_SHARD_SHARDBLOCK_H

#include "llamac/Shard/Placement.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <optional>

namespace mlir::llamac {

/// What an axis may do in a block.
struct Role {
  unsigned axis;
  /// Splits tokens and nothing else (cp, axes of the encoder). Others split heads, hidden
  /// channels and vocabulary, too. None splits samples.
  bool tokensOnly = false;
  /// The axis outside of this one that splits the same dimensions, for `tpr`, along
  /// which ranks share heads of keys and values.
  std::optional<unsigned> outer = std::nullopt;
};

/// How a block has to return a value.
struct Promise {
  enum Kind {
    Free,   ///< as it lies; a partial sum as the whole that a use made of it, if one did
    AsIs,   ///< as it lies, a partial sum too
    Tokens, ///< as it lies, but what is a partial sum is split over tokens (dimension 1)
    Fixed   ///< as `placement` says
  } kind = Free;
  Placement placement = {};
};

/// Places all values of `block`, puts in the conversions that this takes. `arguments`:
/// placements of its `inputs` inputs and of its parameters. `gradients`: those of the
/// parameters whose gradients it adds to. `promises`: per result that is no such gradient.
LogicalResult shardBlock(func::FuncOp block, ArrayRef<Axis> axes, ArrayRef<Role> roles,
                         unsigned inputs, ArrayRef<Placement> arguments,
                         ArrayRef<Placement> gradients, ArrayRef<Promise> promises);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_SHARD_SHARDBLOCK_H
