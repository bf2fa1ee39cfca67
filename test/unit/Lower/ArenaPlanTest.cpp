//===- ArenaPlanTest.cpp - Live values never share memory -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Support/ArenaPlan.h"

#include "dialects/Dist/IR/Dist.h"
#include "llrt/MemoryTable.h"

#include "llvm/ADT/SmallVector.h"

#include <gtest/gtest.h>

#include <random>

using namespace mlir::llamac;

namespace {

using Values = llvm::SmallVector<PlannedValue>;

/// Values of random size and lifetime over `positions` positions.
Values drawValues(std::mt19937 &generator, int64_t count, int64_t positions) {
  auto draw = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(generator);
  };
  Values values;
  for (int64_t i = 0; i < count; ++i) {
    int64_t begin = draw(0, positions - 1);
    int64_t longest = draw(0, 3) ? 3 : positions; // most die young
    values.push_back({begin, std::min(positions - 1, begin + draw(0, longest)), draw(0, 1000)});
  }
  return values;
}

/// Pairs that live together and overlap, by comparing all with all.
bool hasConflict(const Values &values, int64_t bytes, int64_t alignment) {
  for (size_t i = 0; i < values.size(); ++i) {
    const PlannedValue &a = values[i];
    if (a.offset < 0 || a.offset % alignment || a.offset + a.bytes > bytes)
      return true;
    for (size_t j = 0; j < i; ++j) {
      const PlannedValue &b = values[j];
      bool together = a.begin <= b.end && b.begin <= a.end;
      if (together && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes && a.bytes &&
          b.bytes)
        return true;
    }
  }
  return false;
}

TEST(ArenaPlan, NoTwoLiveValuesOverlap) {
  std::mt19937 generator(1);
  for (int round = 0; round < 300; ++round) {
    Values values = drawValues(generator, 1 + round, 1 + round / 4);
    const int64_t alignment = 8 << generator() % 9;
    int64_t bytes = planArena(values, alignment);
    EXPECT_FALSE(hasConflict(values, bytes, alignment)) << "round " << round;
    EXPECT_EQ(findConflict(values, bytes, alignment), std::nullopt) << "round " << round;
    EXPECT_GE(bytes, lowerBound(values, alignment));
    EXPECT_EQ(bytes % alignment, 0);
  }
}

// What is aligned for one target may not be for another.
TEST(ArenaPlan, CheckerKnowsTheAlignment) {
  Values values = {{0, 1, 100}, {0, 1, 100}};
  EXPECT_EQ(planArena(values, 256), 512);
  EXPECT_EQ(findConflict(values, 512, 512), std::pair(size_t(1), size_t(1)));
  EXPECT_EQ(planArena(values, 64), 256);
  EXPECT_EQ(findConflict(values, 256, 256), std::pair(size_t(1), size_t(1)));
}

TEST(ArenaPlan, SameAnswerOnEveryRun) {
  std::mt19937 generator(2);
  Values first = drawValues(generator, 500, 50), second = first;
  EXPECT_EQ(planArena(first, 64), planArena(second, 64));
  for (auto [a, b] : llvm::zip_equal(first, second))
    EXPECT_EQ(a.offset, b.offset);
}

// A checker that finds nothing proves nothing: move one value and it must agree with
// the comparison of all pairs.
TEST(ArenaPlan, CheckerFindsWhatComparingAllPairsFinds) {
  std::mt19937 generator(3);
  int found = 0;
  for (int round = 0; round < 300; ++round) {
    Values values = drawValues(generator, 40, 12);
    int64_t bytes = planArena(values, 64);
    PlannedValue &moved = values[generator() % values.size()];
    moved.offset = int64_t(generator() % (bytes / 64 + 1)) * 64;
    bool conflict = hasConflict(values, bytes, 64);
    EXPECT_EQ(findConflict(values, bytes, 64).has_value(), conflict) << "round " << round;
    found += conflict;
  }
  EXPECT_GT(found, 50);
}

// Forward makes the residuals in order, backward frees them in the opposite order:
// nothing is wasted.
TEST(ArenaPlan, ResidualsArePackedWithoutWaste) {
  Values values;
  for (int64_t layer = 0; layer < 50; ++layer)
    for (int64_t i = 0; i < 7; ++i)
      values.push_back({layer, 99 - layer, 64 * (i + layer % 5 + 1)});
  EXPECT_EQ(planArena(values, 64), lowerBound(values, 64));
}

// Disjoint lifetimes share memory; a gap is used again before the arena grows.
TEST(ArenaPlan, MemoryIsUsedAgain) {
  Values values = {{0, 0, 640}, {0, 3, 64}, {1, 2, 128}, {1, 1, 256}, {2, 3, 256}};
  EXPECT_EQ(planArena(values, 64), 704);
  EXPECT_LT(values[2].offset, 640);
  EXPECT_EQ(findConflict(values, 704, 64), std::nullopt);
}

// Placed when it begins, the last value finds no gap: the small ones lie in its place.
TEST(ArenaPlan, LargeValuesKeepTheirPlace) {
  Values values = {{0, 1, 1024}, {0, 3, 448}, {2, 5, 448}, {4, 7, 448}, {6, 9, 1024}};
  EXPECT_EQ(planArena(values, 64), lowerBound(values, 64));
  EXPECT_EQ(findConflict(values, 1472, 64), std::nullopt);
}

TEST(ArenaPlan, AValueThatDiesAtAPositionStillLivesThere) {
  Values values = {{0, 1, 64}, {1, 1, 64}};
  EXPECT_EQ(planArena(values, 64), 128);
}

TEST(ArenaPlan, NothingTakesNothing) {
  Values values;
  EXPECT_EQ(planArena(values, 64), 0);
  values = {{0, 4, 0}};
  EXPECT_EQ(planArena(values, 64), 0);
  EXPECT_EQ(findConflict(values, 0, 64), std::nullopt);
}

// A role is called the same in the IR, in the program text and in tables, where the memory of
// libraries comes behind.
TEST(ArenaRoles, AreThoseOfTheMemoryTableInItsOrder) {
  constexpr unsigned last = mlir::dist::getMaxEnumValForArenaRole();
  ASSERT_EQ(llrt::arenaKinds.size(), last + 3);
  EXPECT_EQ(llrt::arenaKinds[last + 1].name, llrt::productMemory);
  EXPECT_EQ(llrt::arenaKinds[last + 2].name, llrt::communicatorMemory);
  for (unsigned role = 0; role <= last; ++role)
    EXPECT_EQ(std::string(llrt::arenaKinds[role].name),
              mlir::dist::stringifyArenaRole(mlir::dist::ArenaRole(role)).str());
}

} // namespace
