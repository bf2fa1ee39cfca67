//===- RaceShadowTest.cpp - Many cells at once, and one after the other -------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Memory/RaceShadow.h"

#include <gtest/gtest.h>
#include <random>

using namespace sgpu;

namespace {
constexpr unsigned numWarps = 3;
constexpr uint64_t bytes = 8192 + 96; // more than one stripe

/// Threads of some warps, with works that mostly come one before the other.
struct Machine {
  std::mt19937 random;
  std::vector<AgentClock> clocks{numWarps * 32};
  std::vector<Work> works;

  explicit Machine(unsigned seed) : random(seed) {
    for (unsigned i = 0; i < clocks.size(); ++i)
      clocks[i].id = AgentId(i / 32, AgentKind::Thread, i % 32);
    newWork();
  }
  unsigned below(unsigned n) { return random() % n; }
  AgentClock *warp(unsigned w) { return &clocks[w * 32]; }
  void newWork() {
    uint32_t id = uint32_t(works.size()) + 1;
    uint32_t apart = below(4) ? 0 : id - 1; // not before this one
    Work w;
    w.id = id;
    w.ordered = [apart](uint32_t earlier) { return earlier != apart; };
    works.push_back(w);
  }
  /// A barrier of all threads, or of one warp; some with a fence of the proxies.
  void meet() {
    unsigned from = 0, to = numWarps;
    if (below(3) == 0)
      from = below(numWarps), to = from + 1;
    Knowledge k;
    for (unsigned w = from; w < to; ++w) {
      if (below(2))
        proxyFence(warp(w), ~0u);
      release(warp(w), ~0u, k);
    }
    for (unsigned w = from; w < to; ++w)
      acquire(warp(w), ~0u, k);
  }
  Access access(const AgentClock *agent, bool write) {
    Access a;
    a.agent = agent;
    a.work = &works.back();
    a.site = 1 + below(5);
    a.write = write;
    if (agent && below(5) == 0)
      a.proxy = Proxy::Async;
    else if (agent && below(5) == 0)
      a.scope = Scope::Gpu;
    return a;
  }
};

struct Outcome {
  bool found = false;
  Conflict conflict;
  void add(bool now, const Conflict &c) {
    if (now && !found)
      conflict = c;
    found |= now;
  }
};

/// One word (or less) after the other: each looks at its cell alone.
void oneByOne(RaceShadow &shadow, uint64_t offset, uint64_t size, const Access &access,
              Outcome &outcome) {
  for (uint64_t at = offset, next; at < offset + size; at = next) {
    next = std::min(offset + size, (at / 4 + 1) * 4);
    Conflict c;
    bool found = shadow.access(at, next - at, access, false, c);
    outcome.add(found, c);
  }
}

void expectAlike(const Outcome &a, const Outcome &b, unsigned seed, unsigned step) {
  ASSERT_EQ(a.found, b.found) << "seed " << seed << ", step " << step;
  if (!a.found)
    return;
  const Conflict &x = a.conflict, &y = b.conflict;
  ASSERT_EQ(x.offset, y.offset) << "seed " << seed << ", step " << step;
  ASSERT_EQ(x.epoch.agent.value, y.epoch.agent.value) << "seed " << seed << ", step " << step;
  ASSERT_EQ(x.epoch.time, y.epoch.time);
  ASSERT_EQ(x.work, y.work);
  ASSERT_EQ(x.site, y.site);
  ASSERT_EQ(x.write, y.write);
  ASSERT_EQ(x.proxyOnly, y.proxyOnly);
}
} // namespace

/// All ways to record many cells at once say what one cell after the other says.
TEST(RaceShadow, ManyCellsAreLikeOneAfterTheOther) {
  unsigned conflicts = 0, clean = 0, lanesAtOnce = 0, rangesAtOnce = 0;
  for (unsigned seed = 0; seed < 60; ++seed) {
    Machine m(seed);
    bool threadSafe = seed & 1;
    RaceShadow quick(bytes, threadSafe), slow(bytes, threadSafe);
    // Some seeds stay in a small part, so that accesses meet often.
    uint64_t room = seed % 3 ? 96 : bytes, start = seed % 3 == 1 ? 4096 - 48 : 0;
    for (unsigned step = 0; step < 400; ++step) {
      Outcome a, b;
      unsigned what = m.below(16);
      bool write = m.below(3) == 0;
      unsigned w = m.below(numWarps), lane = m.below(32);
      if (what < 2) {
        m.meet();
        continue;
      }
      if (what == 2 && m.below(4) == 0) {
        m.newWork();
        continue;
      }
      if (what < 6) { // lanes side by side
        unsigned first = m.below(32), count = 1 + m.below(32 - first);
        uint64_t size = uint64_t(1) << m.below(5);
        if (size * count > room)
          continue;
        uint64_t offset = start + m.below(unsigned((room - size * count) / size + 1)) * size;
        offset = offset / size * size;
        Access access = m.access(m.warp(w) + first, write);
        bool done = quick.accessLanes(offset, size, count, access);
        lanesAtOnce += done;
        for (unsigned i = 0; i < count; ++i) {
          Access one = access;
          one.agent = m.warp(w) + first + i;
          one.found = {};
          // Their clocks may differ when a fence or a barrier of lanes came between: not here.
          ASSERT_EQ(one.agent->time, access.agent->time);
          if (!done) {
            Conflict c;
            bool found = quick.access(offset + i * size, size, one, false, c);
            a.add(found, c);
          }
          Access again = one;
          again.found = {};
          oneByOne(slow, offset + i * size, size, again, b);
        }
      } else if (what < 8 && !threadSafe) { // ranges
        std::vector<ByteRange> ranges;
        for (unsigned i = 0; i < 1 + m.below(5); ++i) {
          uint32_t size = 4 * (1 + m.below(12));
          ranges.push_back({uint32_t(start) + 4 * m.below(unsigned(room - size) / 4 + 1), size});
        }
        Access access = m.access(m.warp(w) + lane, false);
        Access again = access;
        size_t done = quick.accessRanges(ranges, access);
        rangesAtOnce += unsigned(done);
        for (size_t i = 0; i < ranges.size(); ++i) {
          Conflict c;
          if (i >= done)
            a.add(quick.access(ranges[i].offset, ranges[i].bytes, access, false, c), c);
          oneByOne(slow, ranges[i].offset, ranges[i].bytes, again, b);
        }
      } else if (what == 8 && m.below(3) == 0) {
        uint64_t size = 1 + m.below(unsigned(room)),
                 offset = start + m.below(unsigned(room - size + 1));
        quick.forget(offset / 4 * 4, (size + 3) / 4 * 4);
        slow.forget(offset / 4 * 4, (size + 3) / 4 * 4);
      } else { // one agent or the host, many bytes; some of odd sizes
        unsigned unit = m.below(4) ? 4 : m.below(2) ? 2 : 1;
        uint64_t size = unit * (1 + m.below(unsigned(room / unit)));
        uint64_t offset = start + unit * m.below(unsigned((room - size) / unit) + 1);
        bool host = m.below(4) == 0;
        Access access = m.access(host ? nullptr : m.warp(w) + lane, write);
        if (!host && !write && m.below(2))
          access.lanes = 1u << lane | m.random();
        Access again = access;
        Conflict c;
        a.add(quick.access(offset, size, access, false, c), c);
        oneByOne(slow, offset, size, again, b);
      }
      expectAlike(a, b, seed, step);
      if (HasFatalFailure())
        return;
      (a.found ? conflicts : clean) += 1;
    }
  }
  // The test has seen all of it.
  EXPECT_GT(conflicts, 1000u);
  EXPECT_GT(clean, 1000u);
  EXPECT_GT(lanesAtOnce, 200u);
  EXPECT_GT(rangesAtOnce, 200u);
}
