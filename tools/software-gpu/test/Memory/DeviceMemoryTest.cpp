//===- DeviceMemoryTest.cpp -------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Memory/DeviceMemory.h"

#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <thread>
#include <vector>

using namespace sgpu;

namespace {
struct Memory : ::testing::Test {
  Memory() : Memory(uint64_t(16) << 20) {}
  explicit Memory(uint64_t bytes)
      : options(make(bytes)), reporter(options, false), memory(0, options, reporter) {}
  static Options make(uint64_t bytes) {
    Options o;
    o.memory = bytes;
    return o;
  }
  static Place here() {
    Place p;
    p.call = "test";
    return p;
  }
  Access reading(uint32_t id = 0) {
    Access a;
    a.work = &work(id);
    return a;
  }
  Access writing(uint32_t id = 0) {
    Access a = reading(id);
    a.write = true;
    return a;
  }
  /// Work that comes after everything but `unordered`.
  Work &work(uint32_t id) {
    Work &w = works[id];
    w.id = id;
    w.ordered = [this, id](uint32_t earlier) { return !unordered.contains({earlier, id}); };
    w.name = [](uint32_t i) { return "work " + std::to_string(i); };
    return w;
  }
  void fill(uint64_t address, uint64_t bytes, uint32_t id = 0) {
    std::vector<uint8_t> data(bytes, 7);
    EXPECT_TRUE(memory.write(address, bytes, data.data(), writing(id), here));
  }
  Check only() {
    EXPECT_EQ(reporter.total(), 1u);
    return reporter.reports().at(0).check;
  }
  Options options;
  Reporter reporter;
  DeviceMemory memory;
  std::map<uint32_t, Work> works;
  std::set<std::pair<uint32_t, uint32_t>> unordered;
  uint8_t buffer[4096] = {};
};
} // namespace

TEST_F(Memory, KeepsWhatIsWritten) {
  uint64_t a = memory.allocate(1000, "a"), b = memory.allocate(1000, "b", 4096);
  EXPECT_EQ(a % 256, 0u);
  EXPECT_EQ(b % 4096, 0u);
  for (int i = 0; i < 1000; ++i)
    buffer[i] = uint8_t(i * 7);
  EXPECT_TRUE(memory.write(a, 1000, buffer, writing(), here));
  EXPECT_TRUE(memory.copy(b, a, 1000, reading(), writing(), here));
  uint8_t back[1000];
  EXPECT_TRUE(memory.read(b, 1000, back, reading(), here));
  EXPECT_EQ(std::memcmp(buffer, back, 1000), 0);
  EXPECT_EQ(reporter.total(), 0u);
  EXPECT_EQ(memory.used(), 2000u);
  EXPECT_TRUE(memory.owns(a));
  EXPECT_FALSE(memory.owns(reinterpret_cast<uint64_t>(buffer)));
}

TEST_F(Memory, ADevicePointerIsNoHostPointer) {
  uint64_t a = memory.allocate(64, "a");
  EXPECT_DEATH(
      {
        volatile char c = *reinterpret_cast<volatile char *>(a);
        (void)c;
      },
      "");
}

TEST_F(Memory, BytesNeverWrittenAreReportedAndNotZero) {
  uint64_t a = memory.allocate(256, "a");
  fill(a, 100);
  EXPECT_TRUE(memory.read(a, 100, buffer, reading(), here));
  EXPECT_EQ(reporter.total(), 0u);
  EXPECT_TRUE(memory.read(a + 99, 100, buffer, reading(), here));
  EXPECT_EQ(only(), Check::Uninitialized);
  EXPECT_EQ(reporter.reports()[0].address, a + 100);
  int zeros = 0;
  for (int i = 1; i < 100; ++i)
    zeros += buffer[i] == 0;
  EXPECT_LT(zeros, 10);
}

TEST_F(Memory, ACopyOfUndefinedBytesIsUndefined) {
  uint64_t a = memory.allocate(256, "a"), b = memory.allocate(256, "b");
  fill(a, 128);
  EXPECT_TRUE(memory.copy(b, a, 256, reading(), writing(), here));
  EXPECT_EQ(reporter.total(), 0u);
  EXPECT_TRUE(memory.written(b, 128));
  EXPECT_FALSE(memory.written(b, 129));
}

TEST_F(Memory, RedzonesLieAroundAllocations) {
  uint64_t a = memory.allocate(100, "call A"), b = memory.allocate(100, "call B");
  fill(a, 100);
  fill(b, 100);
  for (auto [address, bytes] : {std::pair(a + 100, 1), {a + 96, 8}, {a - 1, 1}, {b - 4, 4}}) {
    reporter.clear();
    EXPECT_FALSE(memory.read(address, uint64_t(bytes), buffer, reading(), here));
    EXPECT_EQ(only(), Check::OutOfBounds);
    EXPECT_FALSE(memory.write(address, uint64_t(bytes), buffer, writing(), here));
  }
  reporter.clear();
  memory.read(a + 104, 4, buffer, reading(), here);
  EXPECT_NE(reporter.reports()[0].memory.find("4 bytes past the end of allocation #1 of 100 bytes, "
                                              "made by call A"),
            std::string::npos)
      << reporter.reports()[0].memory;
}

TEST_F(Memory, UseAfterFree) {
  uint64_t a = memory.allocate(512, "make");
  fill(a, 512);
  EXPECT_TRUE(memory.free(a, "drop"));
  EXPECT_FALSE(memory.free(a, "drop"));
  EXPECT_FALSE(memory.free(a + 8, "drop"));
  EXPECT_FALSE(memory.read(a + 8, 4, buffer, reading(), here));
  EXPECT_EQ(only(), Check::UseAfterFree);
  EXPECT_NE(reporter.reports()[0].memory.find("freed by drop"), std::string::npos);
  // A new allocation does not take the place at once, and does not show old bytes as written.
  uint64_t b = memory.allocate(512, "make");
  EXPECT_NE(a, b);
}

TEST_F(Memory, FreedMemoryIsUsedAgainInTheEndAndIsUndefined) {
  // 16 MiB of memory: hundreds of times that in all.
  uint64_t first = memory.allocate(4 << 20, "x");
  fill(first, 4096);
  bool again = false;
  memory.free(first, "f");
  for (int i = 0; i < 200; ++i) {
    uint64_t a = memory.allocate(4 << 20, "x");
    ASSERT_NE(a, 0u);
    again |= a == first;
    EXPECT_FALSE(memory.written(a, 1));
    fill(a, 4096);
    memory.free(a, "f");
  }
  EXPECT_TRUE(again);
  EXPECT_EQ(memory.used(), 0u);
}

TEST_F(Memory, NoMoreThanThereIs) {
  EXPECT_EQ(memory.allocate((16 << 20) + 1, "x"), 0u);
  uint64_t a = memory.allocate(10 << 20, "x");
  EXPECT_NE(a, 0u);
  EXPECT_EQ(memory.allocate(10 << 20, "x"), 0u);
  memory.free(a, "f");
  EXPECT_NE(memory.allocate(10 << 20, "x"), 0u);
  EXPECT_EQ(memory.allocate(0, "x"), 0u);
}

TEST_F(Memory, Leaks) {
  uint64_t a = memory.allocate(8, "A"), b = memory.allocate(8, "B"), c = memory.allocate(8, "C");
  memory.free(a, "f");
  memory.setKeep(b);
  memory.reportLeaks();
  EXPECT_EQ(only(), Check::Leak);
  EXPECT_EQ(reporter.reports()[0].address, c);
  EXPECT_EQ(reporter.reports()[0].place.call, "C");
}

TEST_F(Memory, HostMemoryIsSeenAtItsOwnAddress) {
  std::vector<uint8_t> host(256, 3);
  uint64_t a = reinterpret_cast<uint64_t>(host.data());
  memory.addHost(host.data(), host.size(), "cuMemHostRegister");
  EXPECT_TRUE(memory.read(a + 5, 4, buffer, reading(), here));
  EXPECT_EQ(buffer[0], 3);
  uint8_t nine = 9;
  EXPECT_TRUE(memory.write(a, 1, &nine, writing(), here));
  EXPECT_EQ(host[0], 9);
  EXPECT_EQ(reporter.total(), 0u);
  EXPECT_FALSE(memory.read(a + 254, 4, buffer, reading(), here));
  EXPECT_EQ(only(), Check::OutOfBounds);
  EXPECT_TRUE(memory.free(a, "cuMemHostUnregister"));
  EXPECT_FALSE(memory.read(a, 4, buffer, reading(), here));
}

TEST_F(Memory, WorkOfTwoStreams) {
  unordered = {{1, 2}, {2, 3}};
  uint64_t a = memory.allocate(256, "a");
  fill(a, 256, 1);
  EXPECT_TRUE(memory.read(a, 4, buffer, reading(4), here)); // ordered
  EXPECT_EQ(reporter.total(), 0u);
  memory.read(a + 8, 4, buffer, reading(2), here); // not ordered with 1
  EXPECT_EQ(only(), Check::Stream);
  EXPECT_EQ(reporter.reports()[0].others.at(0).call, "work 1");
  reporter.clear();
  memory.read(a, 4, buffer, reading(2), here); // reads never conflict
  reporter.clear();
  fill(a, 4, 3); // a write after an unordered read
  EXPECT_EQ(only(), Check::Stream);
  EXPECT_EQ(reporter.reports()[0].others.at(0).call, "work 2");
}

TEST_F(Memory, ReadsOfSeveralStreamsAreAllRemembered) {
  unordered = {{2, 3}, {3, 4}, {2, 4}, {2, 5}};
  uint64_t a = memory.allocate(256, "a");
  fill(a, 256, 1);
  memory.read(a, 4, buffer, reading(2), here);
  memory.read(a, 4, buffer, reading(3), here);
  EXPECT_EQ(reporter.total(), 0u);
  fill(a, 4, 5); // ordered after 3, not after 2
  EXPECT_EQ(only(), Check::Stream);
  EXPECT_EQ(reporter.reports()[0].others.at(0).call, "work 2");
}

TEST_F(Memory, NeighbouringBytesAreApart) {
  unordered = {{1, 2}};
  uint64_t a = memory.allocate(256, "a");
  fill(a, 2, 1);
  fill(a + 2, 2, 2);
  fill(a + 4, 1, 1);
  fill(a + 5, 3, 2);
  EXPECT_EQ(reporter.total(), 0u);
  fill(a + 1, 1, 2);
  EXPECT_EQ(only(), Check::Stream);
}

TEST_F(Memory, ReadOnlyForKernelsOnly) {
  uint64_t a = memory.allocate(64, "constant");
  fill(a, 64);
  memory.setReadOnly(a, true);
  fill(a, 64); // the host may (cuMemcpyHtoD to a symbol)
  EXPECT_EQ(reporter.total(), 0u);
  AgentClock clock;
  clock.id = AgentId(0, AgentKind::Thread, 0);
  Access access = writing(1);
  access.agent = &clock;
  EXPECT_FALSE(memory.write(a, 4, buffer, access, here));
  EXPECT_EQ(only(), Check::OutOfBounds);
}

TEST_F(Memory, AtomicsOfManyThreads) {
  uint64_t a = memory.allocate(64, "a");
  std::memset(buffer, 0, 64);
  memory.write(a, 64, buffer, writing(), here);
  struct Sink final : FaultSink {
    void fault(const Fault &) override { ADD_FAILURE(); }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      Sink sink;
      for (int i = 0; i < 10000; ++i)
        memory.atomic(
            a + 8, 8, [](void *p, void *) { ++*static_cast<uint64_t *>(p); }, nullptr, Access{},
            sink);
    });
  for (auto &t : threads)
    t.join();
  uint64_t sum = 0;
  memory.read(a + 8, 8, &sum, reading(), here);
  EXPECT_EQ(sum, 40000u);
}
