//===- OfThreadTest.cpp - Objects of host threads -----------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Support/OfThread.h"

#include <atomic>
#include <cstdlib>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

using namespace sgpu;

namespace {
std::atomic<int> made{0}, destroyed{0};
struct Buffer {
  Buffer() { ++made; }
  ~Buffer() { ++destroyed; }
  std::vector<int> numbers;
};

TEST(OfThread, IsOnePerThreadAndEndsWithIt) {
  ofThread<Buffer>().numbers = {1, 2};
  int madeBefore = made, destroyedBefore = destroyed;
  std::thread([] {
    EXPECT_TRUE(ofThread<Buffer>().numbers.empty());
    ofThread<Buffer>().numbers = {3};
    EXPECT_EQ(&ofThread<Buffer>(), &ofThread<Buffer>());
  }).join();
  EXPECT_EQ(made, madeBefore + 1);
  EXPECT_EQ(destroyed, destroyedBefore + 1);
  EXPECT_EQ(ofThread<Buffer>().numbers, (std::vector{1, 2}));
}

/// The process ends with 7 if a handler of exit() finds the same numbers as before (`same`), or none.
void leave(bool same) {
  static bool want;
  static std::vector<int> &numbers = *new std::vector{5, 6};
  want = same;
  std::atexit(
      [] { _exit(ofThread<Buffer>().numbers == (want ? numbers : std::vector<int>()) ? 7 : 1); });
  ofThread<Buffer>().numbers = numbers;
  std::exit(0);
}

TEST(OfThread, MayBeUsedByHandlersOfExit) {
  EXPECT_EXIT(leave(true), testing::ExitedWithCode(7), "");
  // exit() in another thread destroys that of this thread; there is a new one.
  EXPECT_EXIT(std::thread([] { leave(false); }).join(), testing::ExitedWithCode(7), "");
}
} // namespace
