//===- PadSizes.h - Make sizes divisible by the ranks that share them -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_SHARD_PADSIZES_H
#define LLAMAC_LIB_SHARD_PADSIZES_H

#include "dialects/Llama/IR/Llama.h"

#include "mlir/IR/BuiltinOps.h"

#include <optional>

namespace mlir::llamac {

/// Lengthens, in the training graph `module`, the dimension `dimensionOf` of each parameter for
/// which it gives one to a multiple of `ranks`. The parameter keeps the shape that it has in files
/// as its `checkpoint_shape`; elements past that are zero, are in no file and are not counted.
/// Their gradients are zero, so that they stay zero:
///
///   width of the feed-forward branch   the rows and columns that are added meet each other alone
///   vocabulary                         a new input `vocabulary_bias` [V'], 0 and behind the
///                                      vocabulary -1e30, is added to the logits: no probability.
///                                      Where another table has the ids behind the vocabulary, this
///                                      one looks up a new input `table_ids` [B, S], in which they
///                                      are -1
///
/// The vocabulary of llama.linear_lse gets as many parts as ranks.
///
/// Emits an error if the module is no training graph.
LogicalResult padSizes(ModuleOp module, int64_t ranks,
                       llvm::function_ref<std::optional<unsigned>(llama::ParameterOp)> dimensionOf);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_SHARD_PADSIZES_H
