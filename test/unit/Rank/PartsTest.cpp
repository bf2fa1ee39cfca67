//===- PartsTest.cpp - Which elements a rank holds ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SmallGrid.h"

#include "src/Rank/Parts.h"

#include <random>

using namespace llrt;
using namespace llrt::test;

namespace {

Parameter makeParameter(std::vector<int64_t> shape, Split split, const Grid &grid) {
  Parameter p = {};
  p.shape = std::move(shape);
  p.split = std::move(split);
  p.elements = p.wholeElements();
  for (const Axes &axes : p.split)
    p.elements /= grid.size(axes);
  p.trainable = true;
  return p;
}

using Ranges = std::vector<std::array<int64_t, 3>>; // at, whole, count

Ranges rangesOf(const Grid &grid, const Parameter &p, Held held, int64_t rank) {
  Ranges result;
  forEachRange(grid, p, held, rank,
               [&](int64_t at, int64_t whole, int64_t n) { result.push_back({at, whole, n}); });
  return result;
}

TEST(Grid, CoordinatesAndGroups) {
  Grid grid = {{{"dp", 2}, {"pp", 1}, {"cp", 3}, {"tp", 4}}};
  EXPECT_EQ(grid.ranks(), 24);
  EXPECT_EQ(grid.coordinate(17, "dp"), 1);
  EXPECT_EQ(grid.coordinate(17, "cp"), 1);
  EXPECT_EQ(grid.coordinate(17, "tp"), 1);
  EXPECT_EQ(grid.coordinate(17, "none"), 0);
  EXPECT_EQ(grid.index(17, {0, 3}), 5);
  EXPECT_EQ(grid.moved(17, {0, 3}, 3), 7); // dp 0, tp 3
  EXPECT_EQ(grid.placeText(17), "dp 1, cp 1, tp 1");
  Communicator tp = {"tp", {3}, {}};
  EXPECT_EQ(tp.members(grid, 17), (std::vector<int64_t>{16, 17, 18, 19}));
  Communicator both = {"dp,cp", {0, 2}, {}};
  EXPECT_EQ(both.members(grid, 17), (std::vector<int64_t>{1, 5, 9, 13, 17, 21}));
  Grid stages = {{{"dp", 2}, {"pp", 3}, {"tp", 2}}};
  Communicator edge = {"back", {1}, std::pair<int64_t, int64_t>(2, 0)};
  EXPECT_EQ(edge.members(stages, 7), (std::vector<int64_t>{11, 7}));
  EXPECT_TRUE(edge.members(stages, 9).empty());
}

// The example of Parts.h.
TEST(Parts, ColumnsAndShards) {
  Grid grid = {{{"dp", 2}, {"tp", 2}}};
  Parameter p = makeParameter({4, 6}, {{}, {1}}, grid);
  EXPECT_EQ(rangesOf(grid, p, Held::Storage, 1),
            (Ranges{{0, 3, 3}, {3, 9, 3}, {6, 15, 3}, {9, 21, 3}}));
  p.shard = {0, 0, 16, false};
  EXPECT_EQ(rangesOf(grid, p, Held::Master, 1), // dp 0, tp 1
            (Ranges{{0, 3, 3}, {3, 9, 3}, {6, 15, 2}}));
  EXPECT_EQ(rangesOf(grid, p, Held::Master, 3), (Ranges{{0, 17, 1}, {1, 21, 3}}));
  EXPECT_EQ(rangesOf(grid, p, Held::Storage, 3).size(), 4u);
}

// Columns 3 to 5 of tp 1 are padding from column 5 on; row 3 is none of files.
TEST(Parts, PaddingIsLeftOut) {
  Grid grid = {{{"tp", 2}}};
  Parameter p = makeParameter({4, 6}, {{}, {0}}, grid);
  p.inFiles = {3, 5};
  EXPECT_EQ(p.wholeElements(), 15);
  EXPECT_EQ(rangesOf(grid, p, Held::Storage, 1), (Ranges{{0, 3, 2}, {3, 8, 2}, {6, 13, 2}}));
  p = makeParameter({4, 6}, {{0}, {}}, grid);
  p.inFiles = {3, 6};
  EXPECT_EQ(rangesOf(grid, p, Held::Storage, 1), (Ranges{{0, 12, 6}}));
}

// Whatever the splits and shards: what the owners hold together is every
// element once, and every rank has what the owner with its coordinates has.
TEST(Parts, EveryElementOnce) {
  std::mt19937 random(1);
  auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
  for (int round = 0; round < 300; ++round) {
    Program program = makeProgram({{"dp", 1 + below(3)},
                                   {"pp", 1},
                                   {"cp", 1 + below(2)},
                                   {"tp", 1 + below(3)},
                                   {"tpr", 1 + below(2)}},
                                  {}, 64);
    const Grid &grid = program.grid;
    std::vector<Split> splits = {{}, {{3}, {}}, {{}, {3}}, {{3, 4}, {}}, {{2}, {3}}, {{4}, {2}}};
    Split split = splits[below(int64_t(splits.size()))];
    std::vector<int64_t> shape = {12 * (1 + below(2)), 12};
    Parameter p = makeParameter(shape, split, grid);
    if (below(2)) // padded: the rest is in no range
      p.inFiles = {shape[0] - below(5), shape[1] - below(5)};
    Held held = Held::Storage;
    if (below(2)) {
      int64_t dp = grid.axes[0].size, begin = below(20);
      int64_t unit = begin + p.elements + below(20);
      p.shard = {0, begin, (unit + dp - 1) / dp * dp, below(2) == 1};
      held = Held::Moment1;
    }
    std::vector<int> count(p.wholeElements());
    for (int64_t rank : owners(program, 0, p, held))
      forEachRange(grid, p, held, rank, [&](int64_t at, int64_t whole, int64_t n) {
        ASSERT_GE(at, 0);
        ASSERT_LE(at + n, elementsOf(grid, p, held));
        for (int64_t i = 0; i < n; ++i)
          ++count[whole + i];
      });
    EXPECT_EQ(count, std::vector<int>(count.size(), 1));
  }
}

} // namespace
