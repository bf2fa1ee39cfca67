//===- ScheduleTest.cpp - Pipeline schedules as data
//-----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Schedule.h"

#include <gmock/gmock.h>

using namespace mlir::llamac::plan;
using testing::HasSubstr;

namespace {

// The header's picture: 1F1B on 3 ranks, 4 micro-batches.
TEST(Schedule, OneForwardOneBackwardAsDrawn) {
  auto schedule = oneForwardOneBackward(3, 4);
  ASSERT_TRUE(schedule);
  EXPECT_EQ(writeCsv(*schedule), "0F0,0F1,0F2,0B0,0F3,0B1,0B2,0B3\n"
                                 "1F0,1F1,1B0,1F2,1B1,1F3,1B2,1B3\n"
                                 "2F0,2B0,2F1,2B1,2F2,2B2,2F3,2B3\n");
}

// Two chunks, N = 2: micro-batches 0 and 1 pass chunk 1 before 2 and 3 pass
// chunk 0.
TEST(Schedule, InterleavedGroupsMicroBatches) {
  auto schedule = interleaved(2, 4, 2, 2);
  ASSERT_TRUE(schedule);
  EXPECT_EQ(writeCsv(*schedule),
            "0F0,0F1,2F0,2F1,0F2,2B0,0F3,2B1,2F2,0B0,2F3,0B1,2B2,2B3,0B2,0B3\n"
            "1F0,1F1,3F0,3B0,3F1,3B1,1F2,1B0,1F3,1B1,3F2,3B2,3F3,3B3,1B2,1B3\n");
}

// Every generated schedule is possible, for all small sizes, fewer
// micro-batches than ranks included; interleaved exactly when its last group
// has a micro-batch per rank.
TEST(Schedule, GeneratedSchedulesAreValid) {
  for (int ranks = 1; ranks <= 6; ++ranks)
    for (int m = 1; m <= 14; ++m) {
      for (auto &schedule : {gpipe(ranks, m), oneForwardOneBackward(ranks, m),
                             zeroBubbleH1(ranks, m), sequential(ranks, m)}) {
        ASSERT_TRUE(schedule);
        auto error = validate(*schedule);
        EXPECT_FALSE(error) << error->message;
      }
      for (int chunks = 2; chunks <= 3; ++chunks)
        for (int n = 1; n <= 14; ++n) {
          auto schedule = interleaved(ranks, m, chunks, n);
          int last = m % n ? m % n : std::min(m, n);
          EXPECT_EQ(bool(schedule), last >= ranks) << ranks << ' ' << m << ' ' << n;
          if (schedule) {
            auto error = validate(*schedule);
            EXPECT_FALSE(error) << error->message;
          }
        }
    }
}

// The error's numbers work, and nearer ones do not.
TEST(Schedule, InterleavedNamesTheNearestThatWorks) {
  auto schedule = interleaved(4, 12, 2, 5);
  ASSERT_FALSE(schedule);
  EXPECT_EQ(schedule.error(), "interleaved: expected groups of at least 4 micro-batches, one for "
                              "each pipeline "
                              "rank, got a last group of 2; nearest number of consecutive "
                              "micro-batches that "
                              "works: 4; nearest number of micro-batches that works: 10");
  EXPECT_TRUE(interleaved(4, 12, 2, 4));
  EXPECT_TRUE(interleaved(4, 10, 2, 5));
  EXPECT_FALSE(interleaved(4, 11, 2, 5));
  EXPECT_THAT(interleaved(16, 64, 8, 20).error(), HasSubstr("a last group of 4"));
  EXPECT_THAT(interleaved(4, 2, 2, 2).error(), HasSubstr("4 micro-batches, all consecutive, work"));
  EXPECT_THAT(gpipe(0, 1).error(), HasSubstr("at least 1 pipeline rank"));
}

// 1F1B holds ranks - r micro-batches on rank r, GPipe all, sequential one; ZB-H1 holds `ranks`
// on every rank until the weight half, as many as 1F1B's first rank.
TEST(Schedule, MicroBatchesInFlight) {
  auto one = inFlight(*oneForwardOneBackward(4, 8));
  auto zero = inFlight(*zeroBubbleH1(4, 8));
  for (int r = 0; r < 4; ++r) {
    EXPECT_EQ(one[r].residuals, 4 - r);
    EXPECT_EQ(one[r].carried, 0);
    EXPECT_EQ(zero[r].residuals, 4 - r);
    EXPECT_EQ(zero[r].carried, r + 1);
    EXPECT_EQ(zero[r].both, 4);
  }
  EXPECT_EQ(inFlight(*gpipe(4, 8))[3].residuals, 8);
  for (const InFlight &stage : inFlight(*sequential(4, 8)))
    EXPECT_EQ(stage.both, 1);
  // Warm-up of rank 0: 2 * 3 + 1 * 4 forwards, then one more before a backward.
  auto schedule = interleaved(4, 8, 2, 4);
  auto firstBackward = std::find_if(schedule->stages[0].begin(), schedule->stages[0].end(),
                                    [](const Action &a) { return a.work == Work::Backward; });
  EXPECT_EQ(firstBackward - schedule->stages[0].begin(), 11);
}

// What is written is read back the same; empty cells and line ends of Windows
// are fine.
TEST(Schedule, CsvRoundTrip) {
  for (auto &schedule : {interleaved(3, 6, 2, 3), zeroBubbleH1(4, 9), gpipe(2, 3)}) {
    auto read = readCsv(writeCsv(*schedule), "s.csv");
    ASSERT_TRUE(read) << read.error();
    EXPECT_EQ(read->stages, schedule->stages);
    EXPECT_EQ(read->stageOfChunk, schedule->stageOfChunk);
    EXPECT_EQ(read->microBatches, schedule->microBatches);
  }
  auto sparse = readCsv("0F0,,,0B0\r\n, 1F0 ,1I0,,1W0\r\n", "s.csv");
  ASSERT_TRUE(sparse) << sparse.error();
  EXPECT_EQ(writeCsv(*sparse), "0F0,0B0\n1F0,1I0,1W0\n");
  // A V shape: the last stage on the first rank.
  EXPECT_TRUE(readCsv("0F0,3F0,3B0,0B0\n1F0,2F0,2B0,1B0\n", "v.csv"));
}

// Each fault of a file is one error that names the cell.
TEST(Schedule, CsvErrorsNameTheCell) {
  auto error = [](const char *text) {
    auto schedule = readCsv(text, "s.csv");
    return schedule ? std::string("no error") : schedule.error();
  };
  EXPECT_EQ(error("0F0,0X0\n"), "s.csv: row 1, column 2: expected a cell like "
                                "3F12, letter F, B, I or W, got "
                                "'0X0'");
  EXPECT_THAT(error("0F0,0B0\n1F0,0B1\n"), HasSubstr("row 2, column 2: stage 0 belongs to "
                                                     "row 1 already, got '0B1'"));
  EXPECT_EQ(error("0F0,,0B0,0F0\n"), "s.csv: row 1, column 4: '0F0' stands here a second time");
  EXPECT_EQ(error("0F0,0F1,0B0\n"), "s.csv: row 1: '0B1' is missing");
  EXPECT_EQ(error("0F0,0I0\n"), "s.csv: row 1: '0W0' is missing");
  EXPECT_THAT(error("0F0,0B0,0W0\n"), HasSubstr("column 3: '0W0' is there although"));
  EXPECT_EQ(error("0F0,0B0\n1F0,,1F1,1B0,1B1\n"), "s.csv: row 1: '0F1' is missing");
  EXPECT_EQ(error("0B0,0F0\n"), "s.csv: row 1, column 1: '0B0' can never start: it waits "
                                "for '0F0', which comes later or waits for it");
  EXPECT_THAT(error("0F0,0B0,0F1,0B1\n1F1,1F0,1B1,1B0\n"),
              HasSubstr("row 1, column 2: '0B0' can never start: it waits for '1B0'"));
  EXPECT_THAT(error(""), HasSubstr("empty file"));
  EXPECT_THAT(error("0F0,0B0\n\n1F0,1B0\n"), HasSubstr("row 2: expected at least one"));
  EXPECT_THAT(error("0F0,99999999999F0\n"), HasSubstr("column 2"));
  EXPECT_THAT(error("0F0,0F70000\n"), HasSubstr("0 to 65535"));
  EXPECT_THAT(error("0F0,0B0\n2F0,2B0\n"), HasSubstr("stage 1 has no action"));
}

} // namespace
