//===- Partition.h - Blocks to pipeline stages -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Stage partition as a problem of its own: a chain of blocks is cut into stages
// so that the slowest stage is as fast as possible. Input check, solver and
// checker of the answer are independent of each other; no IR.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PLAN_PARTITION_H
#define LLAMAC_PLAN_PARTITION_H

#include "llamac/Plan/Result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlir::llamac::plan {

/// One application of a block: a layer, the embedding, the head. Times are of
/// one micro-batch on a stage of speed 1; bytes are of one rank.
struct BlockCost {
  std::string name;           ///< for messages: model.layers.7
  std::string kind;           ///< blocks of one kind cost the same: self, cross, ...
  double forward = 0;         ///< seconds
  double backwardInput = 0;   ///< seconds; 0 below the first trainable block
  double backwardWeight = 0;  ///< seconds; 0 for a frozen block
  int64_t residualBytes = 0;  ///< kept from forward to backward, per micro-batch in flight
  int64_t parameterBytes = 0; ///< weights and gradients
  int64_t optimizerBytes = 0; ///< masters and moments
  double seconds() const { return forward + backwardInput + backwardWeight; }
};

/// What runs one stage.
struct StageResource {
  double speed = 1;                ///< > 0; time of a block = its seconds / speed
  int64_t memoryBytes = INT64_MAX; ///< for parameters, optimizer and residuals
  int64_t inFlight = 1;            ///< micro-batches whose residuals live at once
};

struct PartitionProblem {
  std::vector<BlockCost> blocks;     ///< in order of the chain
  std::vector<StageResource> stages; ///< in order of the chain; chunks are stages too
};

/// Stage s gets blocks [begin[s], begin[s + 1]); no stage is empty.
struct Partition {
  std::vector<size_t> begin;   ///< one more than stages
  std::vector<double> seconds; ///< of each stage, one micro-batch
  std::vector<int64_t> bytes;  ///< of each stage
  double largest = 0;          ///< seconds of the slowest stage
  double lowerBound = 0;       ///< no cut can have a faster slowest stage
  double gap() const { return lowerBound > 0 ? largest / lowerBound - 1 : 0; }
};

/// What is wrong with the problem before any cut is tried: no stage, more
/// stages than blocks, a negative or infinite cost, a speed that is not
/// positive.
std::optional<Error> checkProblem(const PartitionProblem &problem);

/// The best cut under the memory caps. Exact. Of all cuts it takes the one
/// whose slowest stage is fastest; of these the one whose second slowest stage
/// is fastest, and so on; of cuts whose sorted stage times are all equal the
/// one with the fewest blocks in the first stage, then in the second, and so on
/// (early stages hold more micro-batches). Times are compared in whole
/// femtoseconds, so that equal stages are equal in whatever order their blocks
/// are added. If no cut fits, the error gives leastLack(). O(stages^2 * blocks^2); 32
/// stages of 160 blocks take milliseconds.
Result<Partition> solvePartition(const PartitionProblem &problem);

/// The least number of bytes with which, added to the cap of every stage, some cut fits; 0 if
/// one does. Needs a checked problem.
int64_t leastLack(const PartitionProblem &problem);

/// Checks an answer against the problem: covers every block once in order,
/// times and bytes right, caps obeyed, not below the lower bound.
std::optional<Error> verifyPartition(const PartitionProblem &problem, const Partition &partition);

/// The cut at which stages have as many blocks as their neighbours, the larger
/// ones first; what one does without costs. Caps are not looked at. Needs a
/// checked problem.
Partition equalCounts(const PartitionProblem &problem);

/// The kinds of the blocks of one stage, in order, runs counted: "3 self,
/// cross, self".
std::string describeStage(const PartitionProblem &problem, const Partition &partition,
                          size_t stage);

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_PARTITION_H
