//===- ClocksTest.cpp -------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Memory/Clocks.h"
#include "Support/Random.h"

#include <gtest/gtest.h>
#include <map>

using namespace sgpu;

// Against a plain map, with drawn operations.
TEST(VectorClock, EqualsAMap) {
  Random random(7);
  std::vector<VectorClock> clocks(4);
  std::vector<std::map<uint64_t, uint32_t>> maps(4);
  for (int step = 0; step < 20000; ++step) {
    unsigned i = random.below(4), j = random.below(4);
    if (random.below(10) == 0) {
      clocks[i].join(clocks[j]);
      for (auto [agent, time] : maps[j])
        maps[i][agent] = std::max(maps[i][agent], time);
    } else {
      AgentId agent(random.below(20) * (random.below(3) ? 1 : 1000), AgentKind(random.below(4)),
                    random.below(32));
      uint32_t time = 1 + random.below(1000);
      clocks[i].raise(agent, time);
      maps[i][agent.value] = std::max(maps[i][agent.value], time);
      AgentId other(random.below(20), AgentKind(random.below(4)), random.below(32));
      auto it = maps[j].find(other.value);
      ASSERT_EQ(clocks[j].of(other), it == maps[j].end() ? 0 : it->second);
    }
    bool covers = true;
    if (step % 100 == 0) {
      for (auto [agent, time] : maps[j])
        covers &= maps[i].contains(agent) && maps[i][agent] >= time;
      ASSERT_EQ(clocks[i].covers(clocks[j]), covers);
    }
  }
}

namespace {
struct Agents : ::testing::Test {
  Agents() {
    for (unsigned i = 0; i < 64; ++i)
      clocks[i].id = AgentId(i / 32, AgentKind::Thread, i % 32);
  }
  Epoch now(unsigned i) const { return {clocks[i].id, clocks[i].time}; }
  AgentClock clocks[64];
};
} // namespace

TEST_F(Agents, ABarrierOrdersWhatWasBefore) {
  Epoch before = now(3);
  EXPECT_FALSE(clocks[40].after(before));
  Knowledge barrier;
  release(clocks, ~0u, barrier);
  release(clocks + 32, ~0u, barrier);
  Epoch later = now(3);
  acquire(clocks, ~0u, barrier);
  acquire(clocks + 32, ~0u, barrier);
  EXPECT_TRUE(clocks[40].after(before));
  EXPECT_FALSE(clocks[40].after(later));
  EXPECT_TRUE(clocks[3].after(later)); // its own
}

TEST_F(Agents, ReleaseAndAcquireOfSomeLanes) {
  Epoch a = now(1), b = now(2);
  Knowledge object;
  release(clocks, 1u << 1, object);
  acquire(clocks + 32, 0xf0, object);
  EXPECT_TRUE(clocks[36].after(a));
  EXPECT_FALSE(clocks[36].after(b));
  EXPECT_FALSE(clocks[35].after(a));
}

TEST_F(Agents, OrderGoesOnFromOneToTheNext) {
  Epoch a = now(0);
  Knowledge first, second;
  clocks[0].release(first);
  clocks[1].acquire(first);
  clocks[1].release(second);
  clocks[33].acquire(second);
  EXPECT_TRUE(clocks[33].after(a));
}

TEST_F(Agents, AProxyFenceCountsOnlyWhatIsBeforeIt) {
  Epoch a = now(0);
  EXPECT_FALSE(clocks[0].afterProxyFence(a));
  proxyFence(clocks, 1);
  Epoch b = now(0);
  EXPECT_TRUE(clocks[0].afterProxyFence(a));
  EXPECT_FALSE(clocks[0].afterProxyFence(b));
  Knowledge barrier;
  clocks[0].release(barrier);
  clocks[40].acquire(barrier);
  EXPECT_TRUE(clocks[40].afterProxyFence(a));
  EXPECT_FALSE(clocks[40].afterProxyFence(b));
}

TEST_F(Agents, FencesMakeRelaxedAccessesOrder) {
  Epoch a = now(0);
  Released word;
  clocks[0].publish(word, false, false, false, 0); // no fence: nothing
  clocks[40].observe(word, true, false, 1);
  EXPECT_FALSE(clocks[40].after(a));
  clocks[0].fence(false);
  clocks[0].publish(word, false, false, false, 0);
  clocks[40].observe(word, false, false, 1); // relaxed: known at the next fence
  EXPECT_FALSE(clocks[40].after(a));
  clocks[40].fence(false);
  EXPECT_TRUE(clocks[40].after(a));
}

TEST_F(Agents, ScopeOfTheBlockReachesOnlyTheBlock) {
  Epoch a = now(0);
  Released word;
  clocks[0].publish(word, true, false, true, 5);
  clocks[40].observe(word, true, false, 6);
  EXPECT_FALSE(clocks[40].after(a));
  clocks[41].observe(word, true, true, 5);
  EXPECT_TRUE(clocks[41].after(a));
}
