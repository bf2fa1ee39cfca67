//===- BlockCosts.h - Seconds of blocks ------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From the IR to the costs that Plan/ works with: seconds of a block by a roofline
// over its ops, and of every application of a training graph.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_COST_BLOCKCOSTS_H
#define LLAMAC_COST_BLOCKCOSTS_H

#include "llamac/Cost/Machine.h"
#include "llamac/Plan/Balance.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// What takes time.
enum class CostRule {
  Operations, ///< floating-point operations at the peak rate, nothing else
  Roofline,   ///< of each op the longer of its operations and its bytes, and its launch;
              ///< collectives
};

/// Seconds of one application of `block`, whose tensors have the (static) shapes of
/// one rank. With Roofline, op by op:
///   max(operations / (peak * efficiency), bytes / (bandwidth * efficiency)) + launch
/// by CostOpInterface; no op is fused with another, except that views are free and
/// that a sum into a buffer (`llama.in_place`) is part of the op that makes the
/// summand. Attention counts every key, so a causal mask over long texts costs too
/// much. A `shard` collective costs Machine::collectiveSeconds, and nothing runs beside
/// it.
double blockSeconds(func::FuncOp block, const Machine &machine, CostRule rule);

/// Seconds of a `shard` collective; 0 of any other op.
double collectiveSeconds(Operation *op, const Machine &machine);

/// One application of a block in the model, forward and backward.
struct ApplicationCost {
  plan::BlockCost cost; ///< `name`: the keys of its parameters have this prefix
  std::string part;     ///< `llama.part` of the block; empty: text
};

/// Costs of all applications of a training graph: entry N is application N of @step, by
/// the attributes `llama.application` and `llama.phase`. Blocks may be cut at their
/// collectives (dist-split-blocks), which then count as ops of @step. The residuals of
/// an application are the results of forwards, its own input among them, that its
/// backward reads. A sum of gradients counts for the application that made the last
/// summand. Fails, with a message, if an op of @step has no such attributes, or if
/// shapes are not static.
FailureOr<std::vector<ApplicationCost>> applicationCosts(ModuleOp module, const Machine &machine,
                                                         CostRule rule);

/// The model as a chain of text blocks with key/value sides, and the encoder beside
/// it. A text block without parameters (the rotation table) joins the one after it.
plan::BalanceModel balanceModel(llvm::ArrayRef<ApplicationCost> applications);

} // namespace mlir::llamac

#endif // LLAMAC_COST_BLOCKCOSTS_H
