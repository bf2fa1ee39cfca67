//===- TimelineTest.cpp - When every action of a schedule runs
//-------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Timeline.h"

#include <gmock/gmock.h>

using namespace mlir::llamac::plan;
using testing::HasSubstr;

namespace {

/// Idle seconds of every rank in the step, if all are equally busy.
double idle(const Schedule &schedule, MicroBatchTimes times) {
  auto timeline = execute(schedule, equalCosts(schedule, times));
  EXPECT_TRUE(timeline);
  return timeline->seconds - timeline->busy(0);
}

// F forward, B whole backward, W its weight half, p ranks, v chunks: idle time
// is (p-1)(F+B) for GPipe and 1F1B, m times that for sequential, that / v interleaved (F and B of one chunk
// here), and (p-1)(F+B-2W) for ZB-H1 if W is not longer than the other two.
// Source: arXiv 2401.10241 table 1, arXiv 2104.04473 section 2.2.
TEST(Timeline, BubblesEqualClosedFormulas) {
  for (int p : {1, 2, 4, 7})
    for (int m : {p, 2 * p, 5 * p}) {
      for (MicroBatchTimes t : {MicroBatchTimes{1, 1, 1}, MicroBatchTimes{0.25, 0.5, 0.125}}) {
        double whole = t.forward + t.backward();
        EXPECT_NEAR(idle(*gpipe(p, m), t), (p - 1) * whole, 1e-9);
        EXPECT_NEAR(idle(*oneForwardOneBackward(p, m), t), (p - 1) * whole, 1e-9);
        EXPECT_NEAR(idle(*sequential(p, m), t), m * (p - 1) * whole, 1e-9);
        for (int v : {2, 3})
          EXPECT_NEAR(idle(*interleaved(p, m, v, p), t), (p - 1) * whole, 1e-9)
              << p << ' ' << m << ' ' << v;
      }
      for (MicroBatchTimes t : {MicroBatchTimes{1, 1, 1}, MicroBatchTimes{0.3, 0.3, 0.3},
                                MicroBatchTimes{1, 1, 0.5}, MicroBatchTimes{1, 1.5, 1}})
        EXPECT_NEAR(idle(*zeroBubbleH1(p, m), t),
                    (p - 1) * (t.forward + t.backward() - 2 * t.backwardWeight), 1e-9)
            << p << ' ' << m << ' ' << t.backwardInput << ' ' << t.backwardWeight;
    }
  // As a fraction of the step, 1F1B: (p-1) / (m+p-1).
  auto schedule = oneForwardOneBackward(4, 12);
  auto timeline = execute(*schedule, equalCosts(*schedule));
  EXPECT_NEAR(idle(*schedule, {1, 1, 1}) / timeline->seconds, 3.0 / 15, 1e-12);
}

// A link of 2 s latency and 1 s of bytes: three seconds are added on each of
// the 2 crossings of a single micro-batch, and shared links take turns.
TEST(Timeline, LinksDelay) {
  auto schedule = oneForwardOneBackward(2, 1);
  Costs costs = equalCosts(*schedule);
  costs.boundaryBytes = 100;
  costs.links.assign(2, std::vector<Link>(2, {2, 100}));
  auto timeline = execute(*schedule, costs);
  ASSERT_TRUE(timeline);
  EXPECT_DOUBLE_EQ(timeline->seconds, 6 + 2 * 3);
  EXPECT_DOUBLE_EQ(timeline->stages[1][0].begin, 1 + 3);
  ASSERT_EQ(timeline->transfers.size(), 2u);
  EXPECT_DOUBLE_EQ(timeline->transfers[1].begin, 7);

  auto many = gpipe(2, 3);
  Costs slow = equalCosts(*many);
  slow.boundaryBytes = 100;
  slow.links.assign(2, std::vector<Link>(2, {0, 10}));
  // Forwards arrive at 11, 21, 31: ten seconds each on one link.
  EXPECT_DOUBLE_EQ(execute(*many, slow)->stages[1][2].begin, 31);
}

// A slow stage sets the pace: the others are crossed once there and once back.
// The last stage goes backward for micro-batch 0 after its last forward.
TEST(Timeline, SlowestStageSetsThePace) {
  auto schedule = gpipe(3, 10);
  Costs costs = equalCosts(*schedule, {1, 1, 1});
  costs.chunks[1] = {3, 2, 2};
  EXPECT_DOUBLE_EQ(execute(*schedule, costs)->seconds, (1 + 3 * 10 + 1 + 2) + 4 * 10 + 2);
}

// Receives stand in the list where the send can begin, not where their data is
// used.
TEST(Timeline, ReceivesStandNearTheSend) {
  auto schedule = gpipe(2, 2);
  auto timeline = execute(*schedule, equalCosts(*schedule));
  auto lists = placeTransfers(*schedule, *timeline);
  std::string text;
  for (const Launch &launch : lists[1])
    text += (launch.kind == Launch::Receive ? "receive "
             : launch.kind == Launch::Send  ? "send "
                                            : "") +
            toString(launch.action) + ";";
  EXPECT_EQ(text, "receive 0F0;1F0;receive 0F1;1F1;1B0;send 1B0;1B1;send 1B1;");
}

TEST(Timeline, Pictures) {
  auto schedule = oneForwardOneBackward(2, 2);
  auto timeline = execute(*schedule, equalCosts(*schedule));
  EXPECT_EQ(drawText(*timeline, 18), "stage   0  F0F1....B0--..B1--\n"
                                     "stage   1  ..F0B0--F1B1--....\n"
                                     "time, s    |0\n"
                                     "F forward, B backward, . idle; behind a letter the "
                                     "micro-batch, of the encoder the group\n");
  EXPECT_THAT(
      drawText(*timeline, 72),
      HasSubstr(
          "\ntime, s    |0              |2              |4              |6              |8\n"));
  std::string svg = drawSvg(*timeline);
  EXPECT_THAT(svg, HasSubstr("<title>1B1: 5 s to 7 s</title>"));
  EXPECT_THAT(svg, HasSubstr(">time, s<"));
  EXPECT_THAT(svg, HasSubstr(">9<")); // the last mark of the axis
  EXPECT_THAT(svg, HasSubstr(">forward<"));
  EXPECT_THAT(svg, testing::Not(HasSubstr(">encode<")));
  for (Span &span : timeline->stages[0])
    span.begin *= 1e-3, span.end *= 1e-3;
  timeline->seconds *= 1e-3;
  EXPECT_THAT(drawSvg(*timeline), HasSubstr(">time, ms<"));
}

// A timeline has its schedule in it; what the first stage does not do backward stands where
// it could: after its own forward and the backward of the stage behind.
TEST(Timeline, HasItsSchedule) {
  for (auto &schedule :
       {gpipe(3, 4), oneForwardOneBackward(3, 4), interleaved(2, 4, 2, 2), zeroBubbleH1(3, 4)}) {
    auto timeline = execute(*schedule, equalCosts(*schedule));
    EXPECT_EQ(scheduleOf(*timeline).stages, schedule->stages);
    EXPECT_EQ(scheduleOf(*timeline).stageOfChunk, schedule->stageOfChunk);
  }
  auto schedule = oneForwardOneBackward(2, 2);
  auto timeline = execute(*schedule, equalCosts(*schedule));
  std::erase_if(timeline->stages[0],
                [](const Span &span) { return span.action.work == Work::Backward; });
  EXPECT_EQ(writeCsv(scheduleOf(*timeline)), "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");

  auto halves = zeroBubbleH1(2, 2);
  timeline = execute(*halves, equalCosts(*halves));
  std::erase_if(timeline->stages[0],
                [](const Span &span) { return span.action.work == Work::BackwardWeight; });
  EXPECT_EQ(writeCsv(scheduleOf(*timeline)), "0F0,0F1,0I0,0W0,0I1,0W1\n1F0,1I0,1F1,1I1,1W0,1W1\n");
}

TEST(Timeline, RefusesCostsOfAnotherSize) {
  auto schedule = gpipe(2, 2);
  Costs costs = equalCosts(*schedule);
  costs.chunks.pop_back();
  EXPECT_EQ(execute(*schedule, costs).error(), "expected costs: stages of 2, got 1");
}

} // namespace
