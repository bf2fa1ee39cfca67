//===- Partition.h - A chain of blocks, cut into chunks --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Partition as a problem of its own: a chain of blocks is cut into chunks
// so that the slowest chunk is as fast as possible. Input check, solver and
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

/// What runs one chunk: its stage, or the part of it that the chunk may have.
struct ChunkResource {
  double speed = 1;                ///< > 0; time of a block = its seconds / speed
  int64_t memoryBytes = INT64_MAX; ///< for parameters, optimizer and residuals
  int64_t inFlight = 1;            ///< micro-batches whose residuals live at once
};

struct PartitionProblem {
  std::vector<BlockCost> blocks;     ///< in order of the chain
  std::vector<ChunkResource> chunks; ///< in order of the chain
};

/// Chunk c gets blocks [begin[c], begin[c + 1]); no chunk is empty.
struct Partition {
  std::vector<size_t> begin;   ///< one more than chunks
  std::vector<double> seconds; ///< of each chunk, one micro-batch
  std::vector<int64_t> bytes;  ///< of each chunk
  double largest = 0;          ///< seconds of the slowest chunk
  double lowerBound = 0;       ///< no cut can have a faster slowest chunk
  double gap() const { return lowerBound > 0 ? largest / lowerBound - 1 : 0; }
};

/// What is wrong with the problem before any cut is tried: no chunk, more
/// chunks than blocks, a negative or infinite cost, a speed that is not
/// positive.
std::optional<Error> checkProblem(const PartitionProblem &problem);

/// The best cut under the memory caps. Exact. Of all cuts it takes the one
/// whose slowest chunk is fastest; of these the one whose second slowest chunk
/// is fastest, and so on; of cuts whose sorted chunk times are all equal the
/// one with the fewest blocks in the first chunk, then in the second, and so on
/// (those of early stages hold more micro-batches). Times are compared in whole
/// femtoseconds, so that equal chunks are equal in whatever order their blocks
/// are added. If no cut fits, the error gives leastLack(). O(chunks^2 * blocks^2); 32
/// chunks of 160 blocks take milliseconds.
Result<Partition> solvePartition(const PartitionProblem &problem);

/// The least number of bytes with which, added to the cap of every chunk, some cut fits; 0 if
/// one does. Needs a checked problem.
int64_t leastLack(const PartitionProblem &problem);

/// Checks an answer against the problem: covers every block once in order,
/// times and bytes right, caps obeyed, not below the lower bound.
std::optional<Error> verifyPartition(const PartitionProblem &problem, const Partition &partition);

/// The cut at which chunks have as many blocks as their neighbours, the larger
/// ones first; what one does without costs. Caps are not looked at. Needs a
/// checked problem.
Partition equalCounts(const PartitionProblem &problem);

/// The kinds of the blocks of one chunk, in order, runs counted: "3 self,
/// cross, self".
std::string describeChunk(const PartitionProblem &problem, const Partition &partition,
                          size_t chunk);

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_PARTITION_H
