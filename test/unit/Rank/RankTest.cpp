//===- RankTest.cpp - The interpreter: streams, order, waiting ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SmallGrid.h"

#include "src/Host/HostDevice.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>

using namespace llrt;
using namespace llrt::test;
using Kind = Action::Kind;

namespace {

Address place(int64_t element) { return {0, element * 4}; }

// Buffers: a counter, and where to note its value.
void note(LlrtStream *, void **buffers) {
  float &count = *static_cast<float *>(buffers[0]);
  *static_cast<float *>(buffers[1]) = ++count;
}

// The order in which the calls of `entries` ran on one rank: entry i notes its
// turn in element 1 + i.
std::vector<int> turns(std::vector<Action> entries, Program program, int64_t count) {
  std::vector<int> result;
  runAll(
      program, [&](int64_t) { return entries; }, [](Rank &) {},
      [&](Rank &rank) {
        for (float turn : rank.readValues<float>(place(1), count))
          result.push_back(int(turn));
      });
  return result;
}

Action noteAt(int64_t element, int64_t stream = 0, std::vector<int64_t> after = {}) {
  return callOf(note, {place(0), place(1 + element)}, stream, after);
}

// A stream keeps its order; `after` keeps order between streams.
TEST(Rank, StreamsAndAfter) {
  Program program = makeProgram({}, {}, 4096);
  // Stream 0 waits for the last of stream 3.
  EXPECT_EQ(turns({noteAt(0, 3), noteAt(1, 3), noteAt(2, 0, {1}), noteAt(3, 0)}, program, 4),
            (std::vector<int>{1, 2, 3, 4}));
  // Without `after` the streams go in turn, each in its order.
  std::vector<int> free =
      turns({noteAt(0, 3), noteAt(1, 3), noteAt(2, 0), noteAt(3, 0)}, program, 4);
  EXPECT_LT(free[0], free[1]);
  EXPECT_LT(free[2], free[3]);
  EXPECT_LT(free[2], free[1]);
  // A chain across three streams, against the order in which they are visited.
  EXPECT_EQ(
      turns({noteAt(0, 2), noteAt(1, 1, {0}), noteAt(2, 0, {1}), noteAt(3, 2, {2})}, program, 4),
      (std::vector<int>{1, 2, 3, 4}));
}

Action runOf(const char *graph, std::vector<Address> frames = {}, int64_t stream = 0,
             std::vector<int64_t> after = {}) {
  Action action = {};
  action.kind = Kind::Run;
  action.graph = graph;
  action.frames = std::move(frames);
  action.stream = stream;
  action.after = std::move(after);
  return action;
}

// A run is done when all its items are, on whatever stream; the next entry of
// its stream comes after it, an entry of another stream need not.
TEST(Rank, RunsAndTheirItems) {
  Program program = makeProgram({}, {}, 4096);
  Graph &graph = program.stages[0].graphs["g"];
  graph.items = {noteAt(0), noteAt(1, 7), noteAt(2, 7, {0}), noteAt(3, 0, {1})};
  std::vector<int> order = turns({runOf("g"), noteAt(4), noteAt(5, 9), noteAt(6, 7)}, program, 7);
  EXPECT_LT(order[0], order[2]);
  EXPECT_LT(order[1], order[3]);
  for (int item : {0, 1, 2, 3})
    EXPECT_LT(order[item], order[4]);
  EXPECT_LT(order[5], order[4]);
  EXPECT_LT(order[2], order[6]); // behind the items of its stream

  // Items wait for the begin of their run, which waits for `after`.
  graph.items = {noteAt(0, 7)};
  order = turns({noteAt(1, 5), noteAt(2, 5), runOf("g", {}, 0, {1})}, program, 3);
  EXPECT_EQ(order, (std::vector<int>{3, 1, 2}));
}

void addOne(LlrtStream *, void **buffers) { *static_cast<float *>(buffers[0]) += 1; }
void copyOne(LlrtStream *, void **buffers) {
  *static_cast<float *>(buffers[1]) = *static_cast<float *>(buffers[0]);
}

// A graph runs on the memory that each run gives it.
TEST(Rank, Frames) {
  Program program = makeProgram({}, {}, 4096);
  Graph &graph = program.stages[0].graphs["g"];
  graph.frames = {{"a", 8}, {"b", 4}};
  // The second element of frame a.
  graph.items = {callOf(addOne, {{-1, 4}}), callOf(copyOne, {{-1, 4}, {-2, 0}})};
  runAll(
      program,
      [&](int64_t) {
        return std::vector<Action>{runOf("g", {place(0), place(10)}),
                                   runOf("g", {place(2), place(11)})};
      },
      [](Rank &rank) {
        std::vector<float> values(16);
        std::iota(values.begin(), values.end(), 0.f);
        rank.writeValues(place(0), values);
      },
      [](Rank &rank) {
        std::vector<float> data = rank.readValues<float>(place(0), 16);
        EXPECT_EQ(data[1], 2);
        EXPECT_EQ(data[3], 4);
        EXPECT_EQ(data[10], 2);
        EXPECT_EQ(data[11], 4);
      });
}

// buffers: to, from
void mix(LlrtStream *, void **buffers) {
  float *to = static_cast<float *>(buffers[0]);
  const float *from = static_cast<const float *>(buffers[1]);
  for (int i = 0; i < 4; ++i)
    to[i] = 0.5f * to[i] + std::sin(from[3 - i]) + 0.1f;
}

// Random programs of 2 x 3 ranks, with a stream for each communicator and
// random delays, give the bits of the same actions done one after the other.
TEST(Rank, RandomProgramsInAnyOrder) {
  constexpr int64_t Buffers = 6;
  Program program = makeProgram({{"a", 2}, {"b", 3}}, {{0}, {1}, {0, 1}}, Buffers * 4 * 4);
  for (uint32_t seed = 0; seed < 30; ++seed) {
    std::vector<std::vector<float>> results[2];
    for (bool streams : {false, true}) {
      // The same list on every rank; each does its part of a collective. An
      // action comes after the earlier ones that touch its buffers.
      std::mt19937 random(seed);
      std::vector<Action> list;
      std::vector<std::vector<int64_t>> touched(Buffers);
      for (int i = 0; i < 60; ++i) {
        int64_t from = random() % Buffers, to = random() % Buffers;
        Action action;
        if (random() % 2) {
          size_t communicator = random() % 3;
          action = collective(Kind::AllReduce, communicator, 4, place(4 * from), place(4 * to),
                              1 + int64_t(communicator));
          if (from != to && random() % 2)
            action.kind = Kind::Broadcast;
          else
            action.reduction = random() % 2 ? Action::Reduction::Max : Action::Reduction::Sum;
        } else {
          action = callOf(mix, {place(4 * to), place(4 * from)});
        }
        if (!streams)
          action.stream = 0;
        for (int64_t buffer : {from, to})
          action.after.insert(action.after.end(), touched[buffer].begin(), touched[buffer].end());
        for (int64_t buffer : {from, to})
          touched[buffer].push_back(i);
        list.push_back(action);
      }
      runAll(
          program,
          [&](int64_t rank) {
            std::vector<Action> own = list;
            // Delays of this rank alone; they touch nothing.
            std::mt19937 delays(seed * 100 + uint32_t(rank));
            for (Action &action : own)
              if (action.kind == Kind::Call && delays() % 4 == 0)
                action.call.block = [](LlrtStream *stream, void **buffers) {
                  std::this_thread::sleep_for(std::chrono::microseconds(200));
                  mix(stream, buffers);
                };
            return own;
          },
          [](Rank &rank) {
            std::vector<float> values;
            for (int64_t i = 0; i < Buffers * 4; ++i)
              values.push_back(std::cos(float(7 * rank.number() + i)));
            rank.writeValues(place(0), values);
          },
          [&](Rank &rank) {
            auto &all = results[streams];
            all.resize(6);
            all[rank.number()] = rank.readValues<float>(place(0), Buffers * 4);
          });
    }
    EXPECT_EQ(results[0], results[1]) << "seed " << seed;
  }
}

// Two ranks that use two communicators in opposite order wait for each other.
// Everyone is named, and the process ends.
TEST(RankDeathTest, DeadlocksAreReported) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto run = [] {
    Program program = makeProgram({{"a", 2}}, {{0}, {0}}, 4096);
    runAll(
        program,
        [](int64_t rank) {
          std::vector<Action> list = {collective(Kind::AllReduce, 0, 4, place(0), place(0)),
                                      collective(Kind::AllReduce, 1, 4, place(4), place(4))};
          if (rank == 1)
            std::swap(list[0], list[1]);
          return list;
        },
        [](Rank &) {}, [](Rank &) {}, 0.5);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(1),
              "all ranks have waited for each other for 0.5 s\n"
              "  rank 0 \\(a 0\\) waits: all_reduce on communicator 'a', "
              "entry 0, for rank 1\n"
              "  rank 1 \\(a 1\\) waits: all_reduce on communicator 'a', "
              "entry 0, for rank 0");
}

// On streams of their own the same two get through.
TEST(Rank, StreamsResolveTheDeadlock) {
  Program program = makeProgram({{"a", 2}}, {{0}, {0}}, 4096);
  runAll(
      program,
      [](int64_t rank) {
        std::vector<Action> list = {collective(Kind::AllReduce, 0, 4, place(0), place(0), 1),
                                    collective(Kind::AllReduce, 1, 4, place(4), place(4), 2)};
        if (rank == 1)
          std::swap(list[0], list[1]);
        return list;
      },
      [](Rank &rank) {
        std::vector<float> values(8);
        std::iota(values.begin(), values.end(), 0.f);
        rank.writeValues(place(0), values);
      },
      [](Rank &rank) {
        std::vector<float> values = rank.readValues<float>(place(0), 8);
        for (int64_t i = 0; i < 8; ++i)
          EXPECT_EQ(values[i], float(2 * i));
      });
}

// Records nothing, but notes how long it is told that what it is to record took.
struct Recorder : HostDevice {
  std::vector<std::chrono::duration<double>> &told;

  Recorder(const Program &program, Threads &transport, InProcess &control,
           std::vector<std::chrono::duration<double>> &told)
      : HostDevice(program, 0, 1, transport.of(0), control.of(0), std::chrono::seconds(60)),
        told(told) {}
  bool records() const override { return true; }
  void beginRecording(Stream, std::chrono::duration<double> took) override { told.push_back(took); }
};

// The second run is recorded, with the time of the first one: it bounds how long a recording is waited for.
TEST(Rank, RecordingsKnowHowLongTheWorkTook) {
  Program program = makeProgram({}, {}, 4096);
  LlrtBlock slow = [](LlrtStream *, void **) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  };
  program.stages[0].programs["step"] = {callOf(slow, {})};
  InProcess control(1);
  Threads transport(1);
  std::vector<std::chrono::duration<double>> told;
  Rank rank(program, 0, 1, std::make_unique<Recorder>(program, transport, control, told), {"step"});
  rank.run("step", {}, 1);
  EXPECT_TRUE(told.empty());
  rank.run("step", {}, 1);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_GE(told[0], std::chrono::milliseconds(50));
}

} // namespace
