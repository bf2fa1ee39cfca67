//===- NcclExchangeTest.cpp - Communicators that are not made ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../Rank/SmallProgram.h"

#include "src/Control/InProcess.h"
#include "src/Cuda/NcclExchange.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>

using namespace llrt;
using namespace llrt::cuda;
using namespace llrt::test;

// Communicators between stages, as programs have them: the last stages first, one for each direction. Each
// takes a unit of time from when both members have come. The time does not grow with stages.
TEST(NcclExchange, StagesDoNotWaitForAllOthers) {
  auto unitsOf = [](int64_t stages) {
    Program program = makeProgram({{"pp", stages}}, {{0}}, 0);
    for (int64_t stage = stages - 2; stage >= 0; --stage)
      for (bool forward : {false, true}) {
        Communicator &between = program.communicators.emplace_back();
        between.axes = {0};
        between.edge = forward ? std::pair(stage, stage + 1) : std::pair(stage + 1, stage);
      }
    std::vector<int64_t> ready(stages);
    std::vector<size_t> order = NcclExchange::makingOrder(program);
    EXPECT_EQ(order.size(), program.communicators.size());
    for (size_t number : order) {
      std::vector<int64_t> members = program.communicators[number].members(program.grid, 0);
      if (const auto &edge = program.communicators[number].edge)
        members = {edge->first, edge->second};
      int64_t done = 0;
      for (int64_t member : members)
        done = std::max(done, ready[member] + 1);
      for (int64_t member : members)
        ready[member] = done;
    }
    return *std::max_element(ready.begin(), ready.end());
  };
  EXPECT_EQ(unitsOf(2), 3);
  EXPECT_EQ(unitsOf(3), 5);
  EXPECT_EQ(unitsOf(16), 5);
}

// Rank 0 of two makes communicator 'a' with rank 1, which does `instead` after the ids have been told.
static void makeWith(const std::function<void(Control &)> &instead) {
  Program program = makeProgram({{"a", 2}}, {{0}}, 0);
  NcclExchange::setEnvironment(program);
  InProcess control(2);
  std::thread other([&] {
    control.of(1).gather("");
    control.of(1).broadcast("");
    instead(control.of(1));
  });
  int status = 0;
  try {
    Gpu gpu(0);
    gpu.enter();
    NcclExchange(program, 0, gpu, control.of(0), std::chrono::milliseconds(500));
  } catch (const PeerFailure &failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    status = failure.status;
  }
  other.join();
  std::exit(status);
}

TEST(NcclExchange, AMemberThatIsSilent) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(makeWith([](Control &) { std::this_thread::sleep_for(std::chrono::seconds(60)); }),
              testing::ExitedWithCode(1),
              "rank 1 \\(a 1\\) has not answered for 0.5 s\n"
              "  rank 0 \\(a 0\\) waits: NCCL, which makes communicator 'a' of 2 ranks");
}

// All are there, but NCCL does not find them: each says what it waits for. So does one that is done, and
// is where ranks tell each other things at the start.
TEST(NcclExchange, MembersThatDoNotMeet) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(makeWith([](Control &own) { own.broadcast(""); }), testing::ExitedWithCode(1),
              "all ranks have waited for each other for 0.5 s\n"
              "  rank 0 \\(a 0\\) waits: NCCL, which makes communicator 'a' of 2 ranks\n"
              "  rank 1 \\(a 1\\) waits: a message of rank 0");
}

// The process ends with its status though a thread is still in NCCL.
TEST(NcclExchange, AMemberThatFails) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(makeWith([](Control &own) { own.tellFailure(); }), testing::ExitedWithCode(1),
              "another rank has failed");
}
