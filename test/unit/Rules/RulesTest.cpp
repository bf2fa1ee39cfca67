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

//===--- On a device
//----------------------------------------------------------===//

/// A stage that computes on stream 0 while communicators of its own wait on two others.
Program beside(int64_t first, int64_t second) {
  Program program;
  program.communicators = {{"a", {0}}, {"b", {0}}};
  program.device = {100, 5, 4};
  RankClass cls;
  cls.name = "stage 0";
  auto add = [&](int stream, const char *where) -> LaunchedAction & {
    LaunchedAction &action = cls.actions.emplace_back();
    action.stream = stream;
    action.location = where;
    return action;
  };
  add(0, "compute 0").cluster = 1;
  for (auto [stream, held] : {std::pair(1, first), {2, second}}) {
    LaunchedAction &action = add(stream, stream == 1 ? "sum a" : "sum b");
    action.calls.push_back({CallKind::AllReduce, stream - 1});
    action.held = held;
  }
  add(0, "compute 1").cluster = 1;
  program.classes.push_back(cls);
  return program;
}

TEST(Device, WhatWaitsLeavesRoom) {
  Certificate certificate = checkProgram(beside(60, 39));
  EXPECT_TRUE(certificate) << faultsOf(certificate);
  EXPECT_EQ(certificate.held, 99);
  EXPECT_EQ(certificate.streams, 3);
  // All multiprocessors wait, and none is left for what they wait for.
  EXPECT_THAT(
      faultsOf(checkProgram(beside(60, 40))),
      HasSubstr("R6: stage 0, action 0 (compute 0): communication beside it may hold all 100 "
                "multiprocessors while it waits for other ranks: expected one to be left"));
  EXPECT_THAT(
      faultsOf(checkProgram(beside(60, 41))),
      HasSubstr("R6: stage 0, action 1 (sum a) and what may wait for other ranks beside it: "
                "expected to hold at most the 100 multiprocessors of the device, got 101"));
  // With an event between them only one waits at a time.
  Program ordered = beside(60, 60);
  ordered.classes[0].actions[1].records = {0};
  ordered.classes[0].actions[2].awaits = {0};
  certificate = checkProgram(ordered);
  EXPECT_TRUE(certificate) << faultsOf(certificate);
  EXPECT_EQ(certificate.held, 60);
  // The host has no device.
  Program host = beside(60, 60);
  host.device.reset();
  EXPECT_TRUE(checkProgram(host));
}

TEST(Device, ThreadBlocksThatWaitForEachOther) {
  Program program = beside(20, 20);
  LaunchedAction &compute = program.classes[0].actions[0];
  // Wherever the 40 that wait are, one of the five groups of 20 has 12 left: to leave each less
  // takes 45. To leave each less than 13 takes 40.
  compute.cluster = 12;
  EXPECT_TRUE(checkProgram(program)) << faultsOf(checkProgram(program));
  compute.cluster = 13;
  EXPECT_THAT(
      faultsOf(checkProgram(program)),
      HasSubstr("R6: stage 0, action 0 (compute 0) has a cluster of 13 thread blocks, which "
                "run in one group of 20 multiprocessors, of which the device has 5"));
  compute.cluster = 21; // no group is so large
  program.classes[0].actions[1].held = program.classes[0].actions[2].held = 0;
  EXPECT_THAT(faultsOf(checkProgram(program)), HasSubstr("a cluster of 21"));
  program = beside(20, 20);
  program.classes[0].actions[3].grid = 60;
  EXPECT_TRUE(checkProgram(program));
  program.classes[0].actions[3].grid = 61;
  EXPECT_THAT(
      faultsOf(checkProgram(program)),
      HasSubstr("R6: stage 0, action 3 (compute 1) has a kernel whose thread blocks wait for "
                "each other: expected at most 60, as many as the device has multiprocessors "
                "beside the 40 that communication may hold, got 61"));
}

TEST(Device, NothingMakesTheHostWait) {
  Program program = beside(8, 8);
  program.classes[0].actions[3].halts = {"calls malloc, which is no work for a stream"};
  EXPECT_THAT(
      faultsOf(checkProgram(program)),
      HasSubstr("R5: stage 0, action 3 (compute 1) calls malloc, which is no work for a "
                "stream: expected between the first and the last action nothing but work for "
                "streams"));
  program.device.reset();
  EXPECT_TRUE(checkProgram(program));
}

// A host that reads a result before it launches the send that the other waits for: the other's send
// is behind its receive.
TEST(Device, HostsThatReadTooEarly) {
  Program program = exchange(false);
  for (RankClass &cls : program.classes)
    std::swap(cls.actions[0], cls.actions[1]); // receive first, on two streams: free
  EXPECT_TRUE(checkProgram(program));
  program.classes[0].actions[1].readByHost = {0};
  EXPECT_TRUE(checkProgram(program)); // the other one sends all the same
  program.classes[1].actions[1].readByHost = {0};
  EXPECT_THAT(faultsOf(checkProgram(program)), HasSubstr("R4: these actions wait for each other"));
}

// Streams that share a queue of the device wait for each other: that does no harm where hosts
// launch nothing before what was launched is done.
TEST(Device, AQueueForEachStream) {
  Program program = exchange(false);
  program.device = {100, 5, 2};
  EXPECT_TRUE(checkProgram(program));
  program.device->queues = 1;
  EXPECT_THAT(
      faultsOf(checkProgram(program)),
      HasSubstr("R4: left has 2 streams, and its host has to be 2 actions ahead: expected at "
                "most 1 streams"));
  program = beside(8, 8); // three streams, one action ahead
  program.device->queues = 1;
  EXPECT_TRUE(checkProgram(program));
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
