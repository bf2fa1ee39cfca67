//===- PartitionTest.cpp - Blocks to pipeline stages
//-----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Partition.h"

#include <algorithm>
#include <functional>
#include <gmock/gmock.h>
#include <random>

using namespace mlir::llamac::plan;
using testing::HasSubstr;

namespace {

PartitionProblem chain(const std::vector<double> &times, size_t stages) {
  PartitionProblem problem;
  for (double time : times)
    problem.blocks.push_back({"b" + std::to_string(problem.blocks.size()), "self", time});
  problem.chunks.resize(stages);
  return problem;
}

/// The best (sorted times, then boundaries) of all cuts; empty if none fits.
std::pair<std::vector<int64_t>, std::vector<size_t>> bruteForce(const PartitionProblem &problem) {
  std::pair<std::vector<int64_t>, std::vector<size_t>> best;
  std::vector<size_t> begin{0};
  std::function<void()> visit = [&] {
    size_t s = begin.size() - 1;
    if (s == problem.chunks.size()) {
      if (begin.back() != problem.blocks.size())
        return;
      std::vector<int64_t> times;
      for (size_t k = 0; k < s; ++k) {
        double seconds = 0;
        int64_t bytes = 0;
        for (size_t b = begin[k]; b < begin[k + 1]; ++b) {
          seconds += problem.blocks[b].seconds();
          bytes += problem.blocks[b].parameterBytes + problem.blocks[b].optimizerBytes +
                   problem.chunks[k].inFlight * problem.blocks[b].residualBytes;
        }
        if (bytes > problem.chunks[k].memoryBytes)
          return;
        times.push_back(std::llround(seconds * 1e15 / problem.chunks[k].speed));
      }
      std::sort(times.rbegin(), times.rend());
      if (best.second.empty() || std::pair(times, begin) < best)
        best = {times, begin};
      return;
    }
    for (size_t end = begin.back() + 1; end <= problem.blocks.size(); ++end) {
      begin.push_back(end);
      visit();
      begin.pop_back();
    }
  };
  visit();
  return best;
}

// The answer is that of brute force on drawn small problems: unlike speeds,
// caps, residuals in flight, ties.
TEST(Partition, EqualsBruteForce) {
  std::mt19937 random(3);
  int infeasible = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    size_t blocks = 1 + random() % 9, stages = 1 + random() % std::min<size_t>(blocks, 5);
    PartitionProblem problem = chain(std::vector<double>(blocks), stages);
    for (BlockCost &block : problem.blocks) {
      block.forward = double(random() % 4);
      block.backwardInput = double(random() % 3);
      block.backwardWeight = double(random() % 2);
      block.residualBytes = random() % 5;
      block.parameterBytes = random() % 9;
      block.optimizerBytes = random() % 9;
    }
    for (size_t s = 0; s < stages; ++s) {
      problem.chunks[s].speed = double(1u << (random() % 2));
      problem.chunks[s].inFlight = stages - s;
      if (trial % 2)
        problem.chunks[s].memoryBytes = 30 + random() % 60;
    }
    auto [times, begin] = bruteForce(problem);
    auto answer = solvePartition(problem);
    ASSERT_EQ(bool(answer), !begin.empty()) << trial;
    if (!answer) {
      ++infeasible;
      continue;
    }
    EXPECT_EQ(answer->begin, begin) << trial;
    auto bad = verifyPartition(problem, *answer);
    EXPECT_FALSE(bad) << bad->message;
  }
  EXPECT_GT(infeasible, 50);
}

// A server twice as fast takes twice as many blocks.
TEST(Partition, ProportionalToSpeed) {
  PartitionProblem problem = chain(std::vector<double>(9, 1.0), 2);
  problem.chunks[0].speed = 2;
  auto answer = solvePartition(problem);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->begin, (std::vector<size_t>{0, 6, 9}));
  EXPECT_DOUBLE_EQ(answer->largest, 3);
  EXPECT_DOUBLE_EQ(answer->gap(), 0);
}

// Equal stages are equal although 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in
// binary.
TEST(Partition, TiesDoNotDependOnRounding) {
  auto answer = solvePartition(chain({0.1, 0.2, 0.3, 0.3, 0.2, 0.1}, 2));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->begin, (std::vector<size_t>{0, 3, 6}));
  EXPECT_EQ(answer->seconds[0], answer->seconds[1]);
}

// Of cuts with equal times the early stages get fewer blocks.
TEST(Partition, EarlyStagesGetFewerBlocks) {
  auto answer = solvePartition(chain({1, 1, 1, 1, 1}, 3));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->begin, (std::vector<size_t>{0, 1, 3, 5}));
}

// An error gives the number of stages or bytes that works, and that number
// works.
TEST(Partition, ErrorsNameTheSmallestChange) {
  auto many = solvePartition(chain({1, 1, 1}, 4));
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error(), "expected at most 3 stages, one for each block, got 4");

  PartitionProblem problem = chain({1, 1, 1, 1}, 2);
  for (BlockCost &block : problem.blocks)
    block.parameterBytes = 100, block.residualBytes = 10;
  for (size_t s = 0; s < 2; ++s)
    problem.chunks[s] = {1, 150, int64_t(2 - s)};
  auto full = solvePartition(problem);
  ASSERT_FALSE(full);
  EXPECT_THAT(full.error(), HasSubstr("needs 90 bytes more on a stage"));
  for (ChunkResource &stage : problem.chunks)
    stage.memoryBytes = 239;
  EXPECT_FALSE(solvePartition(problem));
  for (ChunkResource &stage : problem.chunks)
    stage.memoryBytes = 240;
  EXPECT_TRUE(solvePartition(problem));
  problem.chunks[0].memoryBytes = problem.chunks[1].memoryBytes = 105;
  problem.blocks[2].name = "head";
  problem.blocks[2].parameterBytes = 900;
  EXPECT_THAT(solvePartition(problem).error(), HasSubstr("'head' alone needs 910"));
}

// Wrong answers are refused: a block twice, a cap not obeyed, a wrong time.
TEST(Partition, VerifierRefusesWrongAnswers) {
  PartitionProblem problem = chain({1, 2, 3, 4}, 2);
  Partition good = *solvePartition(problem), bad = good;
  EXPECT_FALSE(verifyPartition(problem, good));
  bad.begin[1] = 1;
  EXPECT_TRUE(verifyPartition(problem, bad));
  bad = good;
  bad.largest = 1;
  EXPECT_TRUE(verifyPartition(problem, bad));
  problem.blocks[0].parameterBytes = 5;
  problem.chunks[0].memoryBytes = 4;
  EXPECT_TRUE(verifyPartition(problem, good));
}

// Ten blocks on four stages by number alone: one fewer at both ends.
TEST(Partition, EqualCounts) {
  EXPECT_EQ(equalCounts(chain(std::vector<double>(10, 1), 4)).begin,
            (std::vector<size_t>{0, 2, 5, 8, 10}));
  EXPECT_EQ(equalCounts(chain(std::vector<double>(5, 1), 3)).begin,
            (std::vector<size_t>{0, 1, 3, 5}));
}

TEST(Partition, RefusesWrongCosts) {
  PartitionProblem problem = chain({1, 2}, 1);
  problem.blocks[1].forward = -1;
  EXPECT_THAT(solvePartition(problem).error(), HasSubstr("block 'b1'"));
  problem.blocks[1].forward = 1;
  problem.chunks[0].speed = 0;
  EXPECT_THAT(solvePartition(problem).error(), HasSubstr("positive speed"));
}

} // namespace
