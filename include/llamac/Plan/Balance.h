//===- Balance.h - What the encoder's placement is worth -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PLAN_BALANCE_H
#define LLAMAC_PLAN_BALANCE_H

#include "llamac/Plan/Encoder.h"

namespace mlir::llamac::plan {

/// A model as a chain with an encoder beside it. Seconds of one micro-batch on
/// one rank of speed 1 that holds the block (tp counted).
struct BalanceModel {
  std::vector<BlockCost> blocks;         ///< embedding, layers, head; without key/value sides
  std::vector<MicroBatchTimes> keyValue; ///< key/value side of each block; zeros if it has none
  MicroBatchTimes encoder;               ///< encoder and projector, whole
};

/// One line of the table: seconds of a 1F1B step.
struct Balance {
  int stages = 0, microBatches = 0;
  double ideal = 0;           ///< (m + p - 1) * work of a micro-batch / p
  double replicated = 0;      ///< encoder on all stages, its work in bubbles where it fits
  double outside = 0;         ///< the same, nothing in bubbles: before and after all stages
  double firstStageEqual = 0; ///< encoder on stage 0, layers cut by number
  double firstStage = 0;      ///< encoder on stage 0, cut by the partition of Partition.h
  Partition partition;        ///< of the replicated one
  EncoderSchedule schedule;   ///< of the replicated one
};

/// Computes a line; groups of `groupSize` micro-batches. The first block of the
/// chain stays with the first layer and the last one with the last layer where
/// layers are cut by number. `links` as in Costs with `boundaryBytes`; empty
/// for operations only.
Result<Balance> computeBalance(const BalanceModel &model, int stages, int microBatches,
                               int groupSize, const std::vector<std::vector<Link>> &links = {},
                               int64_t boundaryBytes = 0, double gatherSeconds = 0,
                               double reduceSeconds = 0);

/// Heading and a row for each line: ratios to the ideal and against the first
/// stage.
std::string balanceTable(const std::vector<Balance> &rows);

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_BALANCE_H
