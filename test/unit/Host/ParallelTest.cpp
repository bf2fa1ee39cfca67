//===- ParallelTest.cpp - Loops over the threads of one rank --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Host/Stream.h"

#include <algorithm>
#include <atomic>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

namespace {

struct Record {
  std::vector<std::atomic<int>> visits;
  std::atomic<int> parts{0};
  explicit Record(int64_t n) : visits(n) {}
};

void visit(void **args, int64_t lo, int64_t hi) {
  auto &record = *static_cast<Record *>(args[0]);
  ++record.parts;
  for (int64_t i = lo; i != hi; ++i)
    ++record.visits[i];
}

// Every index is visited once, whatever the sizes.
TEST(ParallelFor, CoversEveryIndexOnce) {
  for (int64_t threads : {1, 2, 3, 7}) {
    LlrtStream stream{threads};
    for (int64_t n : {0, 1, 2, 5, 64, 1001})
      for (int64_t grain : {1, 3, 1000}) {
        Record record(n);
        void *args[] = {&record};
        llrt::parallelFor(&stream, visit, args, n, grain);
        for (auto &count : record.visits)
          EXPECT_EQ(count, 1);
        EXPECT_EQ(record.parts, n ? std::clamp<int64_t>(n / grain, 1, threads) : 0);
      }
  }
}

// The parts of a loop run on threads of their own.
TEST(ParallelFor, UsesTheThreadsOfTheStream) {
  LlrtStream stream{2};
  std::atomic<int> arrived{0};
  void *args[] = {&arrived};
  // Each part waits for the other one: this ends only if both run at once.
  llrt::parallelFor(
      &stream,
      [](void **args, int64_t, int64_t) {
        auto &arrived = *static_cast<std::atomic<int> *>(args[0]);
        for (++arrived; arrived != 2;)
          std::this_thread::yield();
      },
      args, 2, 1);
  EXPECT_EQ(arrived, 2);
}

} // namespace
