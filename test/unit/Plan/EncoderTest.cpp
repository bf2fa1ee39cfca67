//===- EncoderTest.cpp - Encoder work among the stages' work
//---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Balance.h"

#include <algorithm>
#include <cstdio>
#include <gmock/gmock.h>
#include <map>

using namespace mlir::llamac::plan;
using testing::HasSubstr;

namespace {

// Operations of one sample of 192 text tokens and one image of four 336 px
// tiles. D width, F feed-forward, S text tokens, N image tokens of the encoder,
// Nv of the adapter, Dv encoder width. Matrices of a frozen layer have one
// backward product for each forward one, trainable ones two; attention has two.
BalanceModel model405B() {
  constexpr double D = 16384, F = 53248, KV = 1024, S = 192, V = 128256;
  constexpr double N = 2336, Nv = 2308, Dv = 1280;
  constexpr double second = 400e12; // operations of one GPU; cancels in every ratio
  auto cost = [&](const char *kind, double matrices, double attention, bool trainable) {
    BlockCost block{kind, kind};
    block.forward = (matrices + attention) / second;
    block.backwardInput = (matrices + 2 * attention) / second;
    block.backwardWeight = trainable ? matrices / second : 0;
    return block;
  };
  BlockCost self = cost("self", S * 2 * (2 * D * D + 2 * D * KV + 3 * D * F), 4 * S * S * D, false);
  BlockCost cross = cost("cross", S * 2 * (2 * D * D + 3 * D * F), 4 * S * Nv * D, true);
  BlockCost side = cost("key_value", 2 * Nv * 2 * D * KV, 0, true);
  BlockCost encoder =
      cost("encoder",
           40 * 2 * N * (4 * Dv * Dv + 2 * Dv * 5120) + 2 * 4 * 576 * 588 * Dv + 2 * Nv * 7680 * D,
           40 * 4 * N * N * Dv, true);
  BalanceModel model;
  model.encoder = {encoder.forward, encoder.backwardInput, encoder.backwardWeight};
  auto add = [&](const BlockCost &block) {
    model.blocks.push_back(block);
    model.keyValue.push_back(
        block.kind == "cross"
            ? MicroBatchTimes{side.forward, side.backwardInput, side.backwardWeight}
            : MicroBatchTimes{});
  };
  add({"embedding", "embedding"});
  // Plan B: 126 self layers, 32 cross layers at 2, 7 + 5j, 156.
  for (int layer = 0; layer < 158; ++layer)
    add(layer == 2 || layer == 156 || (layer >= 7 && layer < 156 && (layer - 7) % 5 == 0) ? cross
                                                                                          : self);
  add(cost("head", 2 * S * V * D, 0, false));
  return model;
}

// The counts are those of the specification's table for 405B at 336 px, with 32
// cross layers instead of 31.
TEST(Encoder, OperationCounts) {
  BalanceModel model = model405B();
  double cross = 0, side = 0, text = 0;
  int crosses = 0;
  for (size_t b = 0; b < model.blocks.size(); ++b) {
    side += model.keyValue[b].forward;
    crosses += model.blocks[b].kind == "cross";
    (model.blocks[b].kind == "cross" ? cross : text) += model.blocks[b].forward;
  }
  EXPECT_EQ(crosses, 32);
  EXPECT_NEAR(model.encoder.forward * 400e12, 4.80e12 + 5.81e11, 1e10);
  EXPECT_NEAR(side * 400e12, 4.80e12 / 31 * 32 * 1.0, 2e11);
  EXPECT_NEAR(cross * 400e12, 3.85e13 / 31 * 32, 1e12);
  EXPECT_NEAR(text * 400e12, 1.55e14, 1e12);
}

// The paper's stage comes out of the costs: on 32 stages nearly all have four
// self-attention layers and one cross-attention layer.
TEST(Encoder, PaperStageFromCosts) {
  BalanceModel model = model405B();
  PartitionProblem problem{model.blocks, std::vector<ChunkResource>(32)};
  for (size_t b = 0; b < problem.blocks.size(); ++b) {
    problem.blocks[b].forward += model.keyValue[b].forward;
    problem.blocks[b].backwardInput += model.keyValue[b].backward();
  }
  auto partition = solvePartition(problem);
  ASSERT_TRUE(partition);
  EXPECT_FALSE(verifyPartition(problem, *partition));
  int paper = 0;
  for (size_t s = 0; s < 32; ++s) {
    int self = 0, cross = 0;
    for (size_t b = partition->begin[s]; b < partition->begin[s + 1]; ++b) {
      self += problem.blocks[b].kind == "self";
      cross += problem.blocks[b].kind == "cross";
    }
    paper += self == 4 && cross == 1;
  }
  EXPECT_GE(paper, 28);
  EXPECT_LT(partition->gap(), 0.03);
}

// The table of the promises: see docs. Groups give every stage one image.
TEST(Encoder, Balanced) {
  BalanceModel model = model405B();
  std::vector<Balance> rows;
  for (int p : {16, 32})
    for (int m : {16, 64, 128}) {
      auto row = computeBalance(model, p, m, p / 8);
      ASSERT_TRUE(row) << row.error();
      EXPECT_FALSE(validate(row->schedule.schedule));
      EXPECT_GE(row->firstStage, row->replicated) << p << ' ' << m;
      if (m > 16) {
        double promised = p == 16 ? (m == 64 ? 1.27 : 1.37) : (m == 64 ? 1.41 : 1.65);
        EXPECT_LE(row->replicated, 1.03 * row->ideal) << p << ' ' << m;
        EXPECT_GE(row->firstStageEqual, promised * row->replicated) << p << ' ' << m;
      } else {
        EXPECT_LE(row->replicated, row->outside);
      }
      rows.push_back(std::move(*row));
    }
  std::fputs(balanceTable(rows).c_str(), stdout);
}

// 1F1B whose encoder work comes in parts.
Schedule inParts(int parts) {
  Schedule text = *oneForwardOneBackward(4, 16);
  text.encoderParts = parts;
  text.splitsStates = parts > 1;
  return text;
}

// Parts fit into idle time that is too short for a group's whole work; there are as
// many as asked for, in order, and together as long.
TEST(Encoder, PartsFitIntoShorterIdleTimes) {
  double whole = std::numeric_limits<double>::infinity();
  for (int parts : {1, 2, 4}) {
    Schedule text = inParts(parts);
    Costs costs = equalCosts(text, {1, 1, 1}, {0.2, 0.05, 0.1, 0.6});
    auto placed = placeEncoder(text, costs, 4);
    ASSERT_TRUE(placed) << placed.error();
    EXPECT_LT(placed->seconds, whole) << parts;
    if (parts == 1)
      whole = placed->seconds;
    auto timeline = execute(placed->schedule, costs);
    for (const auto &rank : timeline->stages) {
      std::map<Work, std::vector<int>> seen;
      double seconds = 0;
      for (const Span &span : rank)
        if (mayMeet(span.action.work)) {
          seen[span.action.work].push_back(span.action.microBatch * parts + span.action.part);
          seconds += span.end - span.begin;
        }
      EXPECT_NEAR(seconds, 16 * 0.8, 1e-9);
      for (auto &[work, numbers] : seen) {
        ASSERT_EQ(int(numbers.size()), 4 * parts);
        for (int i = 0; i < 4 * parts; ++i)
          EXPECT_EQ(numbers[i], i);
      }
    }
  }
}

// States wait for the last part of all ranks; a part that is missing or out of order is
// an error that says which.
TEST(Encoder, PartsInOrder) {
  Schedule text = inParts(2);
  Costs costs = equalCosts(text, {1, 1, 1}, {0.2, 0.05, 0.1, 0.6});
  Schedule placed = placeEncoder(text, costs, 4)->schedule;
  auto &list = placed.stages[2];
  auto at = [&](int part) {
    return std::find(list.begin(), list.end(), Action{Work::EncodeBackward, -1, 1, part});
  };
  Schedule good = placed;
  std::swap(*at(0), *at(1));
  EXPECT_THAT(validate(placed)->message, HasSubstr("part 1, expected part 0"));
  placed = good;
  list.erase(at(1));
  EXPECT_THAT(validate(placed)->message, HasSubstr("'encode_backward1' is missing"));
  placed = good;
  auto states = std::find(list.begin(), list.end(), Action{Work::States, -1, 0});
  auto encode = std::find(list.begin(), list.end(), Action{Work::Encode, -1, 0, 1});
  ASSERT_LT(encode, states);
  std::rotate(encode, encode + 1, states + 1);
  EXPECT_THAT(validate(placed)->message, HasSubstr("can never start"));
  text.encoderParts = 0;
  EXPECT_THAT(placeEncoder(text, costs, 4).error(), HasSubstr("at least one part"));
}

// The first forward of a group waits for its own states alone, the last backwards are not
// the last to be followed by gradients of all states; together it is the same work.
TEST(Encoder, StatesInParts) {
  Schedule text = inParts(1);
  Costs costs = equalCosts(text, {1, 1, 1}, {0.01, 0.2, 0.25, 0.02});
  double whole = placeEncoder(text, costs, 8)->seconds;
  text.splitsStates = true;
  auto placed = placeEncoder(text, costs, 8);
  ASSERT_TRUE(placed) << placed.error();
  EXPECT_LT(placed->seconds, whole);
  auto timeline = execute(placed->schedule, costs);
  EXPECT_NEAR(timeline->busy(0), 16 * (3 + 0.48), 1e-9);
  const auto &list = placed->schedule.stages[0];
  auto at = [&](Action action) {
    return std::find(list.begin(), list.end(), action) - list.begin();
  };
  EXPECT_LT(at({Work::States, -1, 0, 0}), at({Work::Forward, 0, 0}));
  EXPECT_LT(at({Work::Forward, 0, 0}), at({Work::States, -1, 0, 1}));
  EXPECT_LT(at({Work::States, -1, 0, 1}), at({Work::Forward, 0, 1}));
  const int late = 16 - Schedule::kLateGradients;
  EXPECT_LT(at({Work::Backward, 0, late - 1}), at({Work::StatesGradient, -1, 1, 0}));
  EXPECT_LT(at({Work::StatesGradient, -1, 1, 0}), at({Work::Backward, 0, late}));
  EXPECT_LT(at({Work::Backward, 0, 15}), at({Work::StatesGradient, -1, 1, 1}));
  // A forward before its states is refused.
  Schedule wrong = placed->schedule;
  std::swap(wrong.stages[0][at({Work::States, -1, 0, 1})],
            wrong.stages[0][at({Work::Forward, 0, 1})]);
  EXPECT_THAT(validate(wrong)->message, HasSubstr("can never start"));
}

// Each policy and every text schedule gives a possible order with all encoder
// work, and compute time is conserved.
TEST(Encoder, EveryPolicyIsPossible) {
  for (auto &text : {*oneForwardOneBackward(4, 10), *gpipe(3, 5), *interleaved(4, 8, 2, 4),
                     *zeroBubbleH1(4, 9), *oneForwardOneBackward(5, 3), inParts(3)})
    for (int group : {1, 2, 3})
      for (const EncoderPolicy &policy : encoderPolicies(text, group)) {
        Costs costs = equalCosts(text, {1, 1, 1}, {0.3, 0.1, 0.2, 0.6});
        auto placed = placeEncoder(text, costs, group, policy);
        ASSERT_TRUE(placed) << placed.error();
        auto timeline = execute(placed->schedule, costs);
        EXPECT_NEAR(timeline->busy(0), execute(text, costs)->busy(0) + text.microBatches * 1.2,
                    1e-9);
      }
}

// Encoder work that all ranks begin together: the lists can run, every rank has
// each meeting at one time, and without the flag some would not be a possible
// order.
TEST(Encoder, MeetsOnAllRanks) {
  int impossible = 0;
  for (Schedule text :
       {*oneForwardOneBackward(4, 10), *gpipe(3, 5), *interleaved(4, 8, 2, 4),
        *interleaved(2, 4, 3, 2), *zeroBubbleH1(4, 9), *oneForwardOneBackward(5, 3), inParts(2)})
    for (int group : {1, 2, 3})
      for (const EncoderPolicy &policy : encoderPolicies(text, group)) {
        Costs costs = equalCosts(text, {1, 1, 1}, {0.3, 0.1, 0.2, 0.6});
        auto alone = placeEncoder(text, costs, group, policy);
        alone->schedule.encoderMeets = true;
        impossible += validate(alone->schedule).has_value();
        Schedule meeting = text;
        meeting.encoderMeets = true;
        auto placed = placeEncoder(meeting, costs, group, policy);
        ASSERT_TRUE(placed) << placed.error();
        auto timeline = execute(placed->schedule, costs);
        ASSERT_TRUE(timeline) << timeline.error();
        std::map<std::string, double> begins;
        for (const auto &rank : timeline->stages)
          for (const Span &span : rank)
            if (mayMeet(span.action.work)) {
              double begin =
                  begins
                      .try_emplace(toString(span.action) + std::to_string(span.action.part),
                                   span.begin)
                      .first->second;
              EXPECT_EQ(span.begin, begin) << toString(span.action);
            }
      }
  EXPECT_GT(impossible, 0);
}

// The error of an order that cannot run names the meeting.
TEST(Encoder, MeetingsThatWaitForEachOther) {
  Schedule schedule = *gpipe(2, 2);
  Costs costs = equalCosts(schedule, {1, 1, 1}, {1, 1, 1, 1});
  schedule = placeEncoderOutside(schedule, costs, 1)->schedule;
  schedule.encoderMeets = true;
  EXPECT_FALSE(validate(schedule));
  // Rank 1 wants the first forward before it encodes the second group, rank 0
  // encodes it first.
  auto &list = schedule.stages[1];
  auto encode = std::find(list.begin(), list.end(), Action{Work::Encode, -1, 1});
  auto forward = std::find(list.begin(), list.end(), Action{Work::Forward, 1, 0});
  ASSERT_LT(encode, forward);
  std::rotate(encode, encode + 1, forward + 1);
  auto error = validate(schedule);
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message, HasSubstr("'encode1' can never start"));
}

// Encoder work that takes no time changes nothing; nothing is encoded after the
// first forward or decoded before the last backward when it is placed outside.
TEST(Encoder, Outside) {
  auto text = oneForwardOneBackward(4, 8);
  Costs costs = equalCosts(*text, {1, 1, 1}, {0.25, 0, 0, 0.5});
  auto outside = placeEncoderOutside(*text, costs, 2);
  ASSERT_TRUE(outside);
  EXPECT_NEAR(outside->seconds, execute(*text, costs)->seconds + 8 * 0.75, 1e-9);
  EXPECT_EQ(outside->encodedInFlight, 4);
  auto inside = placeEncoder(*text, costs, 2);
  EXPECT_LT(inside->seconds, outside->seconds);
  auto free = placeEncoder(*text, equalCosts(*text, {1, 1, 1}, {}), 2);
  EXPECT_NEAR(free->seconds, execute(*text, costs)->seconds, 1e-9);
}

// A cap on groups in flight is obeyed, and the number in the error works.
TEST(Encoder, MemoryCap) {
  auto text = oneForwardOneBackward(4, 24);
  Costs costs = equalCosts(*text, {1, 1, 1}, {0.25, 0.1, 0.2, 0.5});
  EXPECT_GT(placeEncoder(*text, costs, 2)->encodedInFlight, 5);
  auto capped = placeEncoder(*text, costs, 2, 5);
  ASSERT_TRUE(capped) << capped.error();
  EXPECT_LE(capped->encodedInFlight, 5);
  auto none = placeEncoder(*text, costs, 2, 1);
  ASSERT_FALSE(none);
  int works = std::stoi(none.error().substr(none.error().find("least") + 6));
  EXPECT_TRUE(placeEncoder(*text, costs, 2, works));
  EXPECT_FALSE(placeEncoder(*text, costs, 2, works - 1));
}

TEST(Encoder, RefusesWrongGroups) {
  auto text = oneForwardOneBackward(2, 4);
  Costs costs = equalCosts(*text);
  EXPECT_THAT(placeEncoder(*text, costs, 5, 9).error(),
              HasSubstr("groups of 1 to 4 micro-batches, got 5"));
  EXPECT_THAT(placeEncoder(*text, costs, 0, 9).error(), HasSubstr("got 0"));
}

} // namespace
