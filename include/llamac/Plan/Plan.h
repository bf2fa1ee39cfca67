//===- Plan.h - From costs to what every stage does when --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All decisions about a pipeline, without IR:
//
//   ModelCosts   seconds and bytes of a model: the chain of text blocks (links), beside it the
//                key/value sides and the image encoder; measured on the IR of one rank
//   PlanOptions  what the user asks for, and the ranks and the network that there are
//   Plan         the chain cut into chunks, the schedule with the encoder's work in it, the
//                launch list of every stage
//
//     links     e  L0 L1 L2 L3 L4 L5  h           e embedding, h head
//     chunks    |  0   |   1   |  2  | 3  |       with 2 chunks of a stage: stages 0, 1, 0, 1
//
// makePlan() takes microseconds to milliseconds, so that thousands of candidates can be tried.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PLAN_PLAN_H
#define LLAMAC_PLAN_PLAN_H

#include "llamac/Plan/Network.h"
#include "llamac/Plan/Partition.h"
#include "llamac/Plan/Schedule.h"
#include "llamac/Plan/Timeline.h"

namespace mlir::llamac::plan {

/// What a model costs on one rank of speed 1 that has all of it: seconds and bytes of one
/// micro-batch.
struct ModelCosts {
  struct Application {
    int64_t number; ///< whoever measured knows it by
    double seconds; ///< forward and backward
  };
  std::vector<BlockCost> links;     ///< the chain, in order: embedding, layers, head
  std::vector<BlockCost> keyValues; ///< what belongs to each link: key/value sides; zeros: none
  std::vector<Application> encoder; ///< of the encoder, in order
  MicroBatchTimes encoderTimes;     ///< of the whole encoder
  int64_t boundaryBytes = 0;        ///< that a chunk sends the next
  int64_t stateBytes = 0;           ///< of the image states
  bool hasEncoder() const { return !encoder.empty(); }
};

/// How far training state is sharded over dp.
///   Optimizer   masters and moments; gradients are whole until the step ends
///   Gradients   gradients too: every block's backward adds to the shards
///   Parameters  weights too: gathered where a graph needs them; frozen ones only on a stage
///               where that saves memory
enum class Fsdp { None, Optimizer, Gradients, Parameters };

/// Names of schedules that need no file: 1f1b, gpipe, ...
std::vector<std::string_view> scheduleNames();

struct PlanOptions {
  int stages = 1;
  int microBatches = 1;
  std::string schedule = "1f1b"; ///< one of scheduleNames(), or a CSV file's name
  std::string scheduleCsv;       ///< the text of that file
  int virtualStages = 1;         ///< chunks of a stage (interleaved)
  int consecutive = 0;           ///< micro-batches that pass a chunk before the next; 0: `stages`
  /// Bytes of each stage that what the partition counts may take; empty: no cap. If no cut
  /// fits, the one that lacks least is taken.
  std::vector<int64_t> stageMemory;
  Fsdp fsdp = Fsdp::None;
  int64_t dataRanks = 1;    ///< on dp
  int64_t ranksOfStage = 1; ///< of one coordinate of dp: tp times cp; stages are so far apart
  struct {
    bool firstStage = false;  ///< on stage 0 only, else on all
    bool meetsStages = false; ///< stages share its tokens: its work has collectives over them
    int64_t ranks = 1;        ///< that share its work
    int64_t group = 1;        ///< micro-batches of a round
  } encoder;
  Network network;
};

struct Plan {
  Partition partition;                       ///< of the chain into chunks
  Schedule schedule;                         ///< with the encoder's work
  std::vector<std::vector<Launch>> launches; ///< of each stage
  std::vector<int> encoderPart;              ///< of each application of the encoder: Action::part
  bool splitBackward = false;                ///< backward in two actions (zero-bubble)
  double seconds = 0;                        ///< of the step, by the costs
};

/// Decides. Errors begin with the option that is wrong, as on a command line: `--grid: ...`.
Result<Plan> makePlan(const ModelCosts &costs, const PlanOptions &options);

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_PLAN_H
