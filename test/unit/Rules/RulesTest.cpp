//===- RulesTest.cpp - The rules that launch lists obey --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The checker is held against the interpreter of Mutations.h.
//
//===----------------------------------------------------------------------===//
#include "llamac/Check/Rules.h"
#include "llamac/Plan/Encoder.h"

#include "Mutations.h"
#include "ScheduleProgram.h"

#include <algorithm>
#include <ctime>
#include <functional>
#include <gmock/gmock.h>
#include <map>
#include <random>
#include <set>

using namespace mlir::llamac::check;
using namespace mlir::llamac::plan;
using testing::HasSubstr;

namespace {

//===--- Programs
//-----------------------------------------------------------===//

Program programOf(const Schedule &schedule) {
  auto timeline = execute(schedule, equalCosts(schedule));
  EXPECT_TRUE(timeline) << timeline.error();
  return scheduleProgram(schedule, placeTransfers(schedule, *timeline));
}

std::string faultsOf(const Certificate &certificate) {
  std::string text;
  for (const Fault &fault : certificate.faults)
    text += fault.rule + ": " + fault.message + "\n";
  return text;
}

Schedule withEncoder(const Schedule &schedule, int group) {
  auto placed = placeEncoder(schedule, equalCosts(schedule, {1, 1, 1}, {.3, .1, .2, .6}), group);
  EXPECT_TRUE(placed) << placed.error();
  return placed->schedule;
}

std::vector<Schedule> someSchedules() {
  std::vector<Schedule> schedules;
  for (int p : {2, 3, 4})
    for (int m : {1, 4, 7}) {
      schedules.push_back(*gpipe(p, m));
      schedules.push_back(*sequential(p, m));
      schedules.push_back(*oneForwardOneBackward(p, m));
      schedules.push_back(*zeroBubbleH1(p, m));
      if (auto schedule = interleaved(p, m, 2, std::min(m, p)))
        schedules.push_back(*schedule);
    }
  size_t plain = schedules.size();
  for (size_t k = 0; k < plain; ++k)
    schedules.push_back(withEncoder(schedules[k], 1 + int(k % 2) % schedules[k].microBatches));
  schedules.push_back(*readCsv("0F0,0F1,3F0,3B0,3F1,3B1,0B0,0B1\n"
                               "1F0,2F0,1F1,2F1,2B0,1B0,2B1,1B1\n",
                               "v.csv"));
  return schedules;
}

// No false alarm: every schedule that we make is proved, the interpreter agrees
// in every order tried, and the queue that the certificate names suffices.
TEST(Rules, OwnProgramsAreFree) {
  std::mt19937 random(1);
  for (const Schedule &schedule : someSchedules()) {
    Program program = programOf(schedule);
    Certificate certificate = checkProgram(program);
    ASSERT_TRUE(certificate) << writeCsv(schedule) << faultsOf(certificate);
    Outcome first = interpret(program, random);
    EXPECT_FALSE(first.hangs);
    Outcome second = interpret(program, random, certificate.launchQueue);
    EXPECT_FALSE(second.hangs);
    EXPECT_EQ(first.written, second.written);
  }
}

// One queue slot less than the certificate says, and the program hangs.
TEST(Rules, LaunchQueueIsTheSmallest) {
  std::mt19937 random(2);
  int tried = 0;
  for (const Schedule &schedule : someSchedules()) {
    Program program = programOf(schedule);
    int queue = checkProgram(program).launchQueue;
    if (queue < 2)
      continue;
    ++tried;
    EXPECT_TRUE(interpret(program, random, queue - 1).hangs) << queue;
  }
  EXPECT_GT(tried, 10);
}

//===--- Mutations
//----------------------------------------------------------===//

// Every mutant that the interpreter sees hang, race or give other numbers in
// one of a few random orders is found by the checker.
TEST(Rules, MutationsAreFound) {
  std::mt19937 random(5);
  std::vector<Schedule> schedules;
  for (int p : {2, 3})
    for (int m : {2, 4}) {
      schedules.push_back(*oneForwardOneBackward(p, m));
      schedules.push_back(*zeroBubbleH1(p, m));
      if (m >= p)
        schedules.push_back(*interleaved(p, m, 2, m));
      schedules.push_back(withEncoder(*oneForwardOneBackward(p, m), 1));
    }
  int shown[kMutationKinds] = {}, total = 0, silent = 0;
  for (int trial = 0; trial < 700; ++trial) {
    Program program = programOf(schedules[random() % schedules.size()]);
    Outcome want = interpret(program, random);
    int kind = trial % kMutationKinds;
    if (!mutate(program, kind, random))
      continue;
    Certificate certificate = checkProgram(program);
    bool broken = false;
    // The checker refuses calls that the interpreter could not run at all.
    for (int order = 0; order < 6 && !broken; ++order) {
      Outcome got = interpret(program, random);
      broken = got.hangs || got.written != want.written;
    }
    if (broken) {
      ++shown[kind], ++total;
      EXPECT_FALSE(certificate) << kMutations[kind] << ", trial " << trial;
    } else {
      silent += !certificate;
    }
    // These break a rule whatever the interpreter sees.
    if (kind == 2 || kind == 5 || kind >= 7)
      EXPECT_FALSE(certificate) << kMutations[kind] << ", trial " << trial;
  }
  EXPECT_GE(total, 200);
  for (int kind = 0; kind < kMutationKinds; ++kind)
    EXPECT_GE(shown[kind], 10) << kMutations[kind];
  std::printf("%d mutants shown by the interpreter, all found; %d more refused "
              "by rule\n",
              total, silent);
}

//===--- Single rules
//-------------------------------------------------------===//

/// Sends, receives and nothing else: cls[c] is a list of (kind, peer, tag,
/// stream).
Program exchange(bool oneStream) {
  Program program;
  program.communicators = {{"a", {0, 1}}, {"b", {0, 1}}};
  for (int c = 0; c < 2; ++c) {
    RankClass cls;
    cls.name = c ? "right" : "left";
    for (int k = 0; k < 2; ++k) {
      LaunchedAction a;
      bool send = k == 0;
      int on = send == (c == 0) ? 0 : 1; // a: left to right, b: right to left
      a.stream = oneStream ? 0 : on;
      a.calls.push_back({send ? CallKind::Send : CallKind::Receive, on, 1 - c, uint64_t(on), 8, 0});
      a.location = send ? "send.mlir:1" : "receive.mlir:2";
      cls.actions.push_back(a);
    }
    program.classes.push_back(cls);
  }
  return program;
}

// Both send first on one stream: each waits for the other's receive. The cycle
// is printed as the four actions with their locations; on two streams it is
// free.
TEST(Rules, CycleIsPrinted) {
  Certificate certificate = checkProgram(exchange(true));
  ASSERT_EQ(certificate.faults.size(), 1u);
  EXPECT_EQ(certificate.faults[0].rule, "R4");
  EXPECT_THAT(certificate.faults[0].message, HasSubstr("left, action 0 (send.mlir:1)"));
  EXPECT_THAT(certificate.faults[0].message, HasSubstr("right, action 1 (receive.mlir:2)"));
  Certificate free = checkProgram(exchange(false));
  EXPECT_TRUE(free) << faultsOf(free);
  EXPECT_EQ(free.launchQueue, 2);
}

TEST(Rules, RulesOfTheirOwn) {
  Program program = exchange(false);
  program.classes[1].actions[1].stream = 5;
  program.classes[1].actions[1].calls[0].communicator = 1;
  EXPECT_THAT(faultsOf(checkProgram(program)), HasSubstr("R2: communicator 'b'"));
  program = exchange(false);
  program.classes[1].actions[1].awaits = {3};
  EXPECT_THAT(faultsOf(checkProgram(program)), HasSubstr("R3: right, action 1"));
  program = exchange(false);
  program.classes[0].gradients = {{"w", 2}};
  EXPECT_THAT(faultsOf(checkProgram(program)), HasSubstr("R9: left: gradient 'w'"));
}

// Notes' figures: the queue for interleaved V = 8, 16 stages, 64 micro-batches,
// N = 16 with a stream per edge and direction is small; 65,000 actions take
// under 0.2 s.
TEST(Rules, ScalesLinearly) {
  auto schedule = interleaved(16, 96, 8, 16);
  Program program = programOf(*schedule);
  size_t actions = 0;
  for (const RankClass &cls : program.classes)
    actions += cls.actions.size();
  EXPECT_GT(actions, 65000u);
  std::clock_t begin = std::clock(); // of this process alone
  Certificate certificate = checkProgram(program);
  double seconds = double(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_TRUE(certificate) << faultsOf(certificate);
  EXPECT_LT(certificate.launchQueue, 300);
  std::printf("%zu actions checked in %.3f s, launch queue %d\n", actions, seconds,
              certificate.launchQueue);
}

} // namespace
