//===- Balance.cpp - What the encoder's placement is worth ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Balance.h"

#include <cstdio>

namespace mlir::llamac::plan {

namespace {

void add(MicroBatchTimes &sum, double forward, double input, double weight) {
  sum.forward += forward;
  sum.backwardInput += input;
  sum.backwardWeight += weight;
}

/// Times of the chunks of a cut of the chain.
std::vector<MicroBatchTimes> chunkTimes(const std::vector<BlockCost> &blocks,
                                        const std::vector<size_t> &begin) {
  std::vector<MicroBatchTimes> times(begin.size() - 1);
  for (size_t s = 0; s < times.size(); ++s)
    for (size_t b = begin[s]; b < begin[s + 1]; ++b)
      add(times[s], blocks[b].forward, blocks[b].backwardInput, blocks[b].backwardWeight);
  return times;
}

} // namespace

Result<Balance> computeBalance(const BalanceModel &model, int stages, int microBatches,
                               int groupSize, const std::vector<std::vector<Link>> &links,
                               int64_t boundaryBytes, double gatherSeconds, double reduceSeconds) {
  size_t blocks = model.blocks.size();
  if (model.keyValue.size() != blocks)
    return Error{"expected a key/value side for each of " + std::to_string(blocks) +
                 " blocks, got " + std::to_string(model.keyValue.size())};
  auto schedule = oneForwardOneBackward(stages, microBatches);
  if (!schedule)
    return Error{schedule.error()};

  // The chain with key/value sides in its blocks; behind the encoder for the
  // first stage.
  PartitionProblem whole;
  whole.blocks = model.blocks;
  whole.chunks.resize(stages);
  MicroBatchTimes work = model.encoder;
  for (size_t b = 0; b < blocks; ++b) {
    whole.blocks[b].forward += model.keyValue[b].forward;
    whole.blocks[b].backwardInput += model.keyValue[b].backwardInput;
    whole.blocks[b].backwardWeight += model.keyValue[b].backwardWeight;
    add(work, whole.blocks[b].forward, whole.blocks[b].backwardInput,
        whole.blocks[b].backwardWeight);
  }
  Balance row;
  row.stages = stages;
  row.microBatches = microBatches;
  row.ideal = (microBatches + stages - 1) * (work.forward + work.backward()) / stages;

  // Replicated: key/value sides are actions of their own.
  auto partition = solvePartition(whole);
  if (!partition)
    return Error{partition.error()};
  row.partition = *partition;
  Costs costs;
  costs.boundaryBytes = boundaryBytes;
  costs.links = links;
  costs.gatherSeconds = gatherSeconds;
  costs.reduceSeconds = reduceSeconds;
  costs.chunks = chunkTimes(model.blocks, partition->begin);
  for (int s = 0; s < stages; ++s) {
    EncoderTimes times{model.encoder.forward / stages, 0, 0, model.encoder.backward() / stages};
    for (size_t b = partition->begin[s]; b < partition->begin[s + 1]; ++b) {
      times.states += model.keyValue[b].forward;
      times.statesGradient += model.keyValue[b].backward();
    }
    costs.encoder.push_back(times);
  }
  auto inside = placeEncoder(*schedule, costs, groupSize);
  auto outside = placeEncoderOutside(*schedule, costs, groupSize);
  if (!inside || !outside)
    return Error{!inside ? inside.error() : outside.error()};
  row.replicated = inside->seconds;
  row.outside = outside->seconds;
  row.schedule = std::move(*inside);

  // On the first stage, cut by costs: the encoder is the first block.
  PartitionProblem chain = whole;
  chain.blocks.insert(chain.blocks.begin(),
                      {"encoder", "encoder", model.encoder.forward, model.encoder.backwardInput,
                       model.encoder.backwardWeight});
  auto first = solvePartition(chain);
  if (!first)
    return Error{first.error()};
  costs.chunks = chunkTimes(chain.blocks, first->begin);
  auto timeline = execute(*schedule, costs);
  if (!timeline)
    return Error{timeline.error()};
  row.firstStage = timeline->seconds;

  // On the first stage, layers cut by number; embedding and head go with the
  // ends.
  PartitionProblem layers = whole;
  layers.blocks.assign(whole.blocks.begin() + 1, whole.blocks.end() - 1);
  if (auto error = checkProblem(layers))
    return *error;
  std::vector<size_t> begin = equalCounts(layers).begin;
  for (size_t s = 1; s < begin.size(); ++s)
    begin[s] += 1;
  begin.back() += 1;
  costs.chunks = chunkTimes(whole.blocks, begin);
  add(costs.chunks[0], model.encoder.forward, model.encoder.backwardInput,
      model.encoder.backwardWeight);
  row.firstStageEqual = execute(*schedule, costs)->seconds;
  return row;
}

std::string balanceTable(const std::vector<Balance> &rows) {
  std::string text = "   p    m    step s  / ideal  outside bubbles  first stage equal  "
                     "first stage  encoder groups in flight\n";
  for (const Balance &row : rows) {
    char line[160];
    std::snprintf(line, sizeof line, "%4d %4d %9.4f %8.4f %16.4f %18.4f %12.4f %9d\n", row.stages,
                  row.microBatches, row.replicated, row.replicated / row.ideal,
                  row.outside / row.replicated, row.firstStageEqual / row.replicated,
                  row.firstStage / row.replicated, row.schedule.encodedInFlight);
    text += line;
  }
  return text;
}

} // namespace mlir::llamac::plan
