//===- PlanTest.cpp - From costs to what every stage does when ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Plan.h"

#include <chrono>
#include <cstdio>
#include <gmock/gmock.h>
#include <numeric>
#include <random>

using namespace mlir::llamac::plan;
using testing::Each;
using testing::ElementsAre;
using testing::Eq;
using testing::HasSubstr;
using testing::Le;
using testing::StartsWith;

namespace {

/// A chain of `layers` equal layers between an embedding and a head that cost little; every
/// fourth layer reads image states, if there is an encoder.
ModelCosts model(int layers, bool images) {
  ModelCosts costs;
  for (int link = 0; link < layers + 2; ++link) {
    const bool layer = link > 0 && link <= layers;
    BlockCost block;
    block.kind = layer ? "layer" : link == 0 ? "embedding" : "head";
    block.forward = layer ? 1e-3 : 1e-4;
    block.backwardInput = block.backwardWeight = block.forward;
    block.residualBytes = 1 << 20;
    block.parameterBytes = 6 << 20; // weights of 2 bytes, gradients of 4
    block.optimizerBytes = 12 << 20;
    costs.links.push_back(block);
    BlockCost sides;
    if (images && layer && link % 4 == 0)
      sides.forward = sides.backwardInput = 1e-4;
    costs.keyValues.push_back(sides);
  }
  costs.boundaryBytes = 1 << 16;
  if (!images)
    return costs;
  for (int layer = 0; layer < 8; ++layer)
    costs.encoder.push_back({100 + layer, 1e-3});
  costs.encoderTimes = {3e-3, 2.5e-3, 2.5e-3};
  costs.stateBytes = 1 << 18;
  return costs;
}

PlanOptions options(int stages, int microBatches) {
  PlanOptions options;
  options.stages = stages;
  options.microBatches = microBatches;
  options.network.insideServer = options.network.betweenServers = {1e-6, 1e11};
  return options;
}

std::vector<size_t> blocksOf(const Plan &plan) {
  std::vector<size_t> blocks;
  for (size_t chunk = 1; chunk < plan.partition.begin.size(); ++chunk)
    blocks.push_back(plan.partition.begin[chunk] - plan.partition.begin[chunk - 1]);
  return blocks;
}

std::string errorOf(const ModelCosts &costs, const PlanOptions &options) {
  auto plan = makePlan(costs, options);
  return plan ? "" : plan.error();
}

/// What must hold of every plan, whatever it is for.
void expectSound(const Plan &plan, const ModelCosts &costs, const PlanOptions &o) {
  EXPECT_EQ(validate(plan.schedule), std::nullopt);
  ASSERT_EQ(plan.launches.size(), size_t(o.stages));
  EXPECT_EQ(plan.partition.begin.front(), 0u);
  EXPECT_EQ(plan.partition.begin.back(), costs.links.size());
  EXPECT_EQ(plan.encoderPart.size(), costs.encoder.size());
  size_t sends = 0, receives = 0;
  for (size_t stage = 0; stage < plan.launches.size(); ++stage) {
    std::vector<Action> computed;
    for (const Launch &launch : plan.launches[stage]) {
      sends += launch.kind == Launch::Send;
      receives += launch.kind == Launch::Receive;
      if (launch.kind == Launch::Compute)
        computed.push_back(launch.action);
    }
    EXPECT_EQ(computed, plan.schedule.stages[stage]);
  }
  EXPECT_EQ(sends, receives);
  for (int part : plan.encoderPart)
    EXPECT_TRUE(part >= 0 && part < plan.schedule.encoderParts) << part;
  // No stage can do its work faster than it is.
  double work = 0;
  for (const BlockCost &block : costs.links)
    work += block.seconds();
  EXPECT_GE(plan.seconds * o.stages * 1.0000001, work * o.microBatches);
}

//===--- Partition ----------------------------------------------------------===//

TEST(Plan, EqualLayersGoToStagesEqually) {
  auto plan = makePlan(model(16, false), options(4, 8));
  ASSERT_TRUE(plan) << plan.error();
  EXPECT_THAT(blocksOf(*plan), ElementsAre(5, 4, 4, 5)); // and embedding and head
  expectSound(*plan, model(16, false), options(4, 8));
}

// A stage on a server of half the speed gets half the layers of the others.
TEST(Plan, SlowServersGetLess) {
  PlanOptions o = options(3, 6);
  o.ranksOfStage = 8;
  o.network.serverSpeeds = {1, 0.5, 1};
  auto plan = makePlan(model(20, false), o);
  ASSERT_TRUE(plan) << plan.error();
  EXPECT_THAT(blocksOf(*plan), ElementsAre(9, 4, 9));
}

// What a stage keeps of micro-batches in flight counts: under a cap the first stage, which has
// most of them in flight, gets fewer layers. A cap that nothing fits is raised for all alike.
TEST(Plan, MemoryCapsMoveLayersBack) {
  PlanOptions o = options(4, 8);
  ModelCosts costs = model(16, false);
  for (BlockCost &block : costs.links)
    block.residualBytes = 8 << 20; // so a link takes 50, 42, 34, 26 MiB on the stages
  auto free = makePlan(costs, o);
  o.stageMemory.assign(4, 170 << 20);
  auto capped = makePlan(costs, o);
  o.stageMemory.assign(4, 1 << 20);
  auto least = makePlan(costs, o);
  ASSERT_TRUE(free && capped && least);
  EXPECT_THAT(blocksOf(*free), ElementsAre(5, 4, 4, 5));
  EXPECT_THAT(blocksOf(*capped), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(capped->partition.bytes, Each(Le(170 << 20)));
  expectSound(*least, costs, o);
}

// Each level counts less per rank than the one before it.
TEST(Plan, ShardedStateCountsLess) {
  const ModelCosts costs = model(16, false);
  PlanOptions o = options(2, 4);
  o.dataRanks = 4;
  int64_t before = INT64_MAX;
  for (Fsdp level : {Fsdp::None, Fsdp::Optimizer, Fsdp::Gradients, Fsdp::Parameters}) {
    o.fsdp = level;
    auto plan = makePlan(costs, o);
    ASSERT_TRUE(plan) << plan.error();
    int64_t bytes =
        std::accumulate(plan->partition.bytes.begin(), plan->partition.bytes.end(), int64_t(0));
    EXPECT_LT(bytes, before);
    before = bytes;
  }
}

//===--- Schedules ----------------------------------------------------------===//

// Chunks go round the stages; their transfers close the ring.
TEST(Plan, InterleavedChunksGoRound) {
  PlanOptions o = options(2, 4);
  o.schedule = "interleaved";
  o.virtualStages = 3;
  auto plan = makePlan(model(16, false), o);
  ASSERT_TRUE(plan) << plan.error();
  EXPECT_THAT(plan->schedule.stageOfChunk, ElementsAre(0, 1, 0, 1, 0, 1));
  EXPECT_THAT(blocksOf(*plan), ElementsAre(3, 3, 3, 3, 3, 3));
  expectSound(*plan, model(16, false), o);
}

TEST(Plan, ZeroBubbleSplitsBackward) {
  PlanOptions o = options(4, 8);
  EXPECT_FALSE(makePlan(model(16, false), o)->splitBackward);
  double whole = makePlan(model(16, false), o)->seconds;
  o.schedule = "zero-bubble";
  auto plan = makePlan(model(16, false), o);
  EXPECT_TRUE(plan->splitBackward);
  EXPECT_LT(plan->seconds, whole);
}

TEST(Plan, SchedulesComeFromFiles) {
  PlanOptions o = options(2, 2);
  o.schedule = "mine.csv";
  o.scheduleCsv = "0F0,0F1,,0B0,0B1\n,1F0,1B0,1F1,1B1\n";
  auto plan = makePlan(model(8, false), o);
  ASSERT_TRUE(plan) << plan.error();
  EXPECT_THAT(blocksOf(*plan), ElementsAre(5, 5));
  o.microBatches = 4;
  EXPECT_THAT(errorOf(model(8, false), o),
              Eq("--schedule: mine.csv: expected 2 rows and 4 micro-batches, got 2 and 2"));
  EXPECT_THAT(errorOf(model(8, false),
                      [&] {
                        PlanOptions wrong = o;
                        wrong.scheduleCsv = "0F0,0X0\n";
                        return wrong;
                      }()),
              StartsWith("--schedule: mine.csv: row 1, column 2"));
}

//===--- Encoder ------------------------------------------------------------===//

// On all stages its work is in parts, where stages would wait; on the first alone in one piece.
TEST(Plan, EncoderWorkHasItsPlace) {
  const ModelCosts costs = model(16, true);
  PlanOptions o = options(4, 8);
  o.encoder.ranks = 4;
  o.encoder.group = 4;
  auto all = makePlan(costs, o);
  ASSERT_TRUE(all) << all.error();
  expectSound(*all, costs, o);
  EXPECT_EQ(all->schedule.groupSize, 4);
  EXPECT_TRUE(std::is_sorted(all->encoderPart.begin(), all->encoderPart.end()));
  EXPECT_EQ(all->encoderPart.back() + 1, all->schedule.encoderParts);

  PlanOptions meeting = o;
  meeting.encoder.meetsStages = true;
  auto met = makePlan(costs, meeting);
  ASSERT_TRUE(met) << met.error();
  EXPECT_TRUE(met->schedule.encoderMeets);
  EXPECT_EQ(met->schedule.encoderParts, 1);

  o.encoder.firstStage = true;
  o.encoder.ranks = 1;
  auto first = makePlan(costs, o);
  ASSERT_TRUE(first) << first.error();
  expectSound(*first, costs, o);
  EXPECT_EQ(first->schedule.encoderParts, 1);
  // Its cost moves layers to the others.
  EXPECT_LT(blocksOf(*first)[0], blocksOf(*all)[0]);
  EXPECT_GT(first->seconds, all->seconds);
}

//===--- Errors -------------------------------------------------------------===//

TEST(Plan, ErrorsNameTheOption) {
  const ModelCosts costs = model(4, false);
  PlanOptions o = options(8, 8);
  EXPECT_THAT(errorOf(costs, o),
              Eq("--grid: expected at most 6 pipeline stages (pp * virtual-stages), one for each "
                 "layer, the embedding and the head, got 8"));
  o = options(2, 4);
  o.virtualStages = 2;
  EXPECT_THAT(errorOf(costs, o), Eq("--virtual-stages: expected 1 with --schedule=1f1b (only "
                                    "interleaved takes more), got 2"));
  o.schedule = "interleaved";
  o.virtualStages = 4;
  EXPECT_THAT(errorOf(costs, o), StartsWith("--virtual-stages: expected at most 6"));
  o.virtualStages = 2;
  o.stageMemory = {1};
  EXPECT_THAT(errorOf(costs, o),
              Eq("--stage-memory: expected 2 numbers, one for each stage, got 1"));
  o.stageMemory.clear();
  o.microBatches = 1;
  EXPECT_THAT(errorOf(costs, o), StartsWith("--schedule: "));
}

//===--- Many ---------------------------------------------------------------===//

// Thousands of drawn candidates are sound; how many are planned in a second is printed.
TEST(Plan, ThousandsOfCandidates) {
  std::mt19937 random(7);
  auto pick = [&](auto... values) {
    std::vector<std::common_type_t<decltype(values)...>> list = {values...};
    return list[random() % list.size()];
  };
  int planned = 0, refused = 0;
  double seconds = 0;
  for (int trial = 0; trial < 4000; ++trial) {
    const ModelCosts costs = model(pick(6, 16, 32, 40), random() % 2);
    PlanOptions o = options(pick(1, 2, 4, 8), pick(1, 2, 4, 8, 16));
    o.schedule = pick("1f1b", "gpipe", "interleaved", "sequential", "zero-bubble");
    if (o.schedule == "interleaved")
      o.virtualStages = pick(1, 2, 4);
    o.fsdp = pick(Fsdp::None, Fsdp::Optimizer, Fsdp::Gradients, Fsdp::Parameters);
    o.dataRanks = pick(1, 2, 8);
    o.ranksOfStage = pick(1, 4, 8);
    if (costs.hasEncoder()) {
      o.encoder.firstStage = random() % 4 == 0;
      o.encoder.ranks = o.encoder.firstStage ? 1 : o.stages;
      o.encoder.group = pick(1, 2, 4);
      o.encoder.meetsStages = !o.encoder.firstStage && random() % 4 == 0;
    }
    auto begin = std::chrono::steady_clock::now();
    auto plan = makePlan(costs, o);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (!plan) {
      ++refused;
      EXPECT_THAT(plan.error(), StartsWith("--"));
      continue;
    }
    ++planned;
    expectSound(*plan, costs, o);
    if (HasFailure())
      FAIL() << "trial " << trial << ": " << o.schedule << ", " << o.stages << " stages, "
             << o.microBatches << " micro-batches, " << costs.links.size() << " links";
  }
  EXPECT_GT(planned, 2000);
  std::printf("  %d planned, %d refused, %.0f candidates per second\n", planned, refused,
              (planned + refused) / seconds);
}

} // namespace
