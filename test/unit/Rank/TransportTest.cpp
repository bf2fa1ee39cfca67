//===- TransportTest.cpp - Collectives on threads, over MPI and TCP -------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../Data/TestFiles.h"
#include "SmallGrid.h"

#include "llrt/Collectives.h"
#include "src/Data/SafeTensors.h"
#include "src/Transport/Communication.h"
#include "src/Transport/Mpi.h"
#include "src/Transport/Tcp.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <span>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace llrt;
using namespace llrt::test;
using Kind = Action::Kind;

// The most bytes that this thread has asked for at once. The thread sanitizer counts none: it has
// these operators itself.
static thread_local size_t largest = 0;

#ifdef __has_feature
#define LLRT_COUNTS_MEMORY !__has_feature(thread_sanitizer)
#else
#define LLRT_COUNTS_MEMORY 1
#endif
#if LLRT_COUNTS_MEMORY
void *operator new(size_t bytes) {
  largest = std::max(largest, bytes);
  if (void *memory = std::malloc(bytes ? bytes : 1))
    return memory;
  throw std::bad_alloc();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }
#endif

namespace {

constexpr Kind kinds[] = {Kind::AllGather, Kind::AllReduce, Kind::ReduceScatter, Kind::Broadcast};
constexpr LlrtType types[] = {LLRT_F32, LLRT_BF16, LLRT_F64};

double valueAt(const std::byte *data, LlrtType type, int64_t i) {
  double value;
  size_t bytes = typeSize(type);
  toDouble({type == LLRT_F32    ? DType::F32
            : type == LLRT_BF16 ? DType::BF16
                                : DType::F64,
            {1},
            data + i * int64_t(bytes),
            bytes},
           &value, "");
  return value;
}

void setValue(std::byte *data, LlrtType type, int64_t i, double value) {
  if (type == LLRT_F32)
    reinterpret_cast<float *>(data)[i] = float(value);
  else if (type == LLRT_BF16)
    reinterpret_cast<uint16_t *>(data)[i] = bfloat16FromDouble(value);
  else
    reinterpret_cast<double *>(data)[i] = value;
}

double rounded(LlrtType type, double value) {
  std::byte bytes[8];
  setValue(bytes, type, 0, value);
  return valueAt(bytes, type, 0);
}

// A random collective of `count` members with all its memory.
struct Case {
  Action action = {};
  int64_t count, fromElements, toElements;

  Case(Action action, int64_t members) : action(action), count(members) {
    int64_t part = action.outer * action.elements;
    fromElements = part * (action.kind == Kind::ReduceScatter ? count : 1);
    toElements = part * (action.kind == Kind::AllGather ? count : 1);
  }

  static Case drawn(std::mt19937 &random, int64_t count) {
    Action action = {};
    auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
    action.kind = kinds[below(4)];
    action.type = action.toType = types[below(3)];
    bool reduces = action.kind == Kind::AllReduce || action.kind == Kind::ReduceScatter;
    if (reduces && action.type == LLRT_BF16 && below(2))
      action.toType = LLRT_F32;
    action.reduction = below(4) ? Action::Reduction::Sum : Action::Reduction::Max;
    action.accumulate = action.kind == Kind::ReduceScatter && below(2);
    action.outer = 1 + below(3);
    action.elements = 1 + below(below(2) ? 9 : 90);
    // Mostly in several pieces.
    action.scratchBytes = collectiveSlots(actionName(action.kind), count, action.outer) *
                          collectiveAlignment * (1 + below(4));
    return Case(action, count);
  }

  // Contents of `from`, and of `to` before, of member `i`.
  std::vector<std::byte> input(int64_t i, uint32_t seed, bool isFrom) const {
    LlrtType type = isFrom ? action.type : action.toType;
    int64_t elements = isFrom ? fromElements : toElements;
    std::vector<std::byte> data(elements * typeSize(type));
    std::mt19937 random(seed + uint32_t(2 * i + isFrom));
    // Of unlike size, so that the order of a sum shows.
    for (int64_t e = 0; e < elements; ++e)
      setValue(data.data(), type, e,
               std::ldexp((double(random() % 2000) - 1000) / 3, int(random() % 20)));
    return data;
  }

  // `to` of member `me` afterwards, by the definition.
  std::vector<std::byte> want(int64_t me, uint32_t seed) const {
    std::vector<std::byte> to = input(me, seed, false);
    std::vector<std::vector<std::byte>> from;
    for (int64_t i = 0; i < count; ++i)
      from.push_back(input(i, seed, true));
    int64_t n = action.elements;
    auto put = [&](int64_t at, double value) { setValue(to.data(), action.toType, at, value); };
    auto get = [&](int64_t i, int64_t at) { return valueAt(from[i].data(), action.type, at); };
    // Sums are in f32, or f64.
    bool wide = action.type == LLRT_F64;
    auto reduce = [&](int64_t at, int64_t source) {
      double sum = get(0, source);
      for (int64_t i = 1; i < count; ++i) {
        double value = get(i, source);
        if (action.reduction == Action::Reduction::Max)
          sum = std::max(sum, value);
        else
          sum = wide ? sum + value : double(float(sum) + float(value));
      }
      sum = rounded(action.toType, sum);
      if (action.accumulate) {
        double before = valueAt(to.data(), action.toType, at);
        sum = wide ? before + sum : double(float(before) + float(sum));
      }
      put(at, sum);
    };
    for (int64_t o = 0; o < action.outer; ++o)
      for (int64_t e = 0; e < n; ++e)
        switch (action.kind) {
        case Kind::AllGather:
          for (int64_t i = 0; i < count; ++i)
            put((o * count + i) * n + e, get(i, o * n + e));
          break;
        case Kind::Broadcast:
          put(o * n + e, get(0, o * n + e));
          break;
        case Kind::AllReduce:
          reduce(o * n + e, o * n + e);
          break;
        default:
          reduce(o * n + e, (o * count + me) * n + e);
        }
    return to;
  }
};

// Does `action` as member `me` of all; checks that it takes no memory but what it is given.
void communicate(Transport &transport, const Action &action, const std::vector<int64_t> &members,
                 int64_t me, const void *from, void *to) {
  std::vector<std::byte> scratch(action.scratchBytes + 64, std::byte(0xa5));
  largest = 0;
  Communication communication(transport, action, members, me, from, to, scratch.data());
  while (!communication.poll())
    transport.idle();
  EXPECT_LE(largest, 4096u) << "memory that no plan has";
  for (std::byte behind : std::span(scratch).last(64))
    EXPECT_EQ(behind, std::byte(0xa5)) << "writes behind its scratch memory";
}

// Does `cases` one after the other as member `me` of all ranks; the results one
// behind the other.
std::vector<std::byte> perform(Transport &transport, std::vector<Case> &cases,
                               const std::vector<int64_t> &members, int64_t me) {
  std::vector<std::byte> all;
  for (size_t i = 0; i < cases.size(); ++i) {
    std::vector<std::byte> from = cases[i].input(me, uint32_t(i * 100), true);
    std::vector<std::byte> to = cases[i].input(me, uint32_t(i * 100), false);
    communicate(transport, cases[i].action, members, me, from.data(), to.data());
    all.insert(all.end(), to.begin(), to.end());
  }
  return all;
}

std::vector<Case> makeCases(int64_t members, int64_t count) {
  std::mt19937 random{uint32_t(members)};
  std::vector<Case> cases;
  for (int64_t i = 0; i < count; ++i)
    cases.push_back(Case::drawn(random, members));
  return cases;
}

std::vector<int64_t> firstRanks(int64_t count) {
  std::vector<int64_t> ranks(count);
  for (int64_t i = 0; i < count; ++i)
    ranks[i] = i;
  return ranks;
}

// What rank 0 and the others tell each other, each of them several sizes of bytes; all
// that a rank has got, one behind the other.
std::string talk(Control &control) {
  const int64_t sizes[] = {0, 1, 1000, 3000000};
  auto textOf = [](int64_t rank, int64_t bytes) {
    return std::string(size_t(bytes), char('a' + rank));
  };
  std::string got;
  for (int64_t bytes : sizes) {
    for (const std::string &text : control.gather(textOf(control.rank(), bytes + control.rank())))
      got += text;
    got += control.broadcast(textOf(control.rank(), bytes));
    for (int64_t other = 1; other < control.size(); ++other) {
      std::string there = textOf(control.rank(), bytes), here(size_t(bytes), ' ');
      if (control.rank() == 0) {
        control.send(other, there.data(), bytes);
        control.receive(other, here.data(), bytes);
      } else if (control.rank() == other) {
        control.receive(0, here.data(), bytes);
        control.send(0, there.data(), bytes);
      }
      got += here;
    }
  }
  // Who waits for what another rank sends says so to one who asks.
  if (control.rank() == 0)
    for (const std::optional<std::string> &answer : control.ask("nothing"))
      got += answer.value_or("silent") + "\n";
  return got + control.broadcast("end");
}

std::vector<std::vector<std::byte>> performOnThreads(int64_t count) {
  Threads meeting(count);
  InProcess control(count);
  std::vector<Case> cases = makeCases(count, 200);
  std::vector<int64_t> members = firstRanks(count);
  std::vector<std::vector<std::byte>> results(count);
  std::vector<std::thread> threads;
  for (int64_t me = 0; me < count; ++me)
    threads.emplace_back([&, me] {
      results[me] = perform(meeting.of(me), cases, members, me);
      for (char c : talk(control.of(me)))
        results[me].push_back(std::byte(c));
    });
  for (std::thread &thread : threads)
    thread.join();
  return results;
}

// Every collective does what its definition says, to the bit, in both types of
// a sum and with any number of members.
TEST(Transport, CollectivesOfThreads) {
  for (int64_t count : {1, 2, 3, 4, 5}) {
    std::vector<Case> cases = makeCases(count, 200);
    std::vector<std::vector<std::byte>> got = performOnThreads(count);
    for (int64_t me = 0; me < count; ++me) {
      size_t at = 0;
      for (size_t i = 0; i < cases.size(); ++i) {
        std::vector<std::byte> want = cases[i].want(me, uint32_t(i * 100));
        ASSERT_LE(at + want.size(), got[me].size());
        EXPECT_EQ(std::memcmp(want.data(), got[me].data() + at, want.size()), 0)
            << count << " members, case " << i << ", " << actionName(cases[i].action.kind) << " of "
            << typeName(cases[i].action.type);
        at += want.size();
      }
      std::string end = me == 0 ? "nothing\n" : "";
      for (int64_t other = 1; me == 0 && other < count; ++other)
        end += "a message of rank 0\n";
      end += "end";
      ASSERT_LE(at + end.size(), got[me].size());
      EXPECT_EQ(std::memcmp(end.data(), got[me].data() + got[me].size() - end.size(), end.size()),
                0);
    }
  }
}

// A program for a target whose collectives take their own memory plans none.
TEST(Transport, NoPlannedMemoryIsAnError) {
  Action action = {};
  action.kind = Kind::ReduceScatter;
  action.outer = 1;
  action.elements = 4;
  Threads meeting(2);
  std::vector<float> from(8), to(4);
  try {
    Communication communication(meeting.of(0), action, {0, 1}, 0, from.data(), to.data(), nullptr);
    FAIL() << "expected an error";
  } catch (const Error &error) {
    EXPECT_STREQ(error.what(),
                 "expected at least 64 bytes of memory for the parts of others, got 0");
  }
}

// What the compiler plans for a collective has a bound, and is enough for more elements than
// it holds at once.
TEST(Transport, PlannedMemory) {
  for (Kind kind : {Kind::AllGather, Kind::AllReduce, Kind::ReduceScatter})
    for (int64_t outer : {1, 3}) {
      Action action = {};
      action.kind = kind;
      action.outer = outer;
      action.elements = (int64_t(9) << 20) / outer + 5;
      const int64_t n = action.elements, part = outer * n, whole = 2 * part;
      action.scratchBytes = collectiveScratch(actionName(kind), 2, outer, part, sizeof(float));
      EXPECT_LE(action.scratchBytes, int64_t(32) << 20);
      const bool scatters = kind == Kind::ReduceScatter, gathers = kind == Kind::AllGather;
      Threads meeting(2);
      std::vector<float> to[2];
      auto valueOf = [](int64_t me, int64_t i) { return float((i * (me + 3)) % 1021); };
      auto work = [&](int64_t me) {
        std::vector<float> from(scatters ? whole : part);
        for (size_t i = 0; i < from.size(); ++i)
          from[i] = valueOf(me, int64_t(i));
        to[me].resize(gathers ? whole : part);
        communicate(meeting.of(me), action, {0, 1}, me, from.data(), to[me].data());
      };
      std::thread other(work, 1);
      work(0);
      other.join();
      for (int64_t me : {0, 1}) {
        int64_t wrong = 0;
        for (int64_t i = 0; i < int64_t(to[me].size()); ++i) {
          int64_t row = i / n, column = i % n;
          int64_t own = scatters ? (2 * row + me) * n + column : i;
          float want =
              gathers ? valueOf(row % 2, row / 2 * n + column) : valueOf(0, own) + valueOf(1, own);
          wrong += to[me][i] != want;
        }
        EXPECT_EQ(wrong, 0) << actionName(kind) << ", " << outer << " rows";
      }
    }
  // A share of an all_reduce, each rounded up.
  EXPECT_EQ(collectiveScratch("all_reduce", 3, 1, 4, 8), 2 * 64);
  EXPECT_EQ(collectiveScratch("reduce_scatter", 3, 2, 20, 4), 5 * 128);
  EXPECT_EQ(collectiveScratch("all_gather", 3, 1, 20, 4), 0);
  EXPECT_EQ(collectiveScratch("broadcast", 3, 1, 20, 4), 0);
  EXPECT_EQ(collectiveScratch("reduce_scatter", 1, 2, 20, 4), 0);
}

// Processes give the same bits as threads: `command(rank)` starts one or all.
void expectBitsOfThreads(int64_t count,
                         const std::function<std::string(const std::string &)> &line) {
  Folder folder;
  std::string self = std::filesystem::read_symlink("/proc/self/exe").string() +
                     " --collectives=" + (folder / "out");
  ASSERT_EQ(std::system((line(self) + " 2>" + (folder / "err")).c_str()), 0)
      << readAll(folder / "err");
  std::vector<std::vector<std::byte>> want = performOnThreads(count);
  for (int64_t me = 0; me < count; ++me) {
    std::string got = readAll(folder / "out" + std::to_string(me));
    EXPECT_TRUE(got == std::string(reinterpret_cast<char *>(want[me].data()), want[me].size()))
        << "rank " << me << " of " << count;
  }
}

TEST(Transport, CollectivesOfMpi) {
  for (int64_t count : {2, 3, 4, 5})
    expectBitsOfThreads(count, [&](const std::string &self) {
      return "mpirun --allow-run-as-root --oversubscribe --bind-to none -n " +
             std::to_string(count) + " " + self;
    });
}

TEST(Transport, CollectivesOfTcp) {
  for (int64_t count : {2, 3, 4, 5})
    expectBitsOfThreads(count, [&](const std::string &self) {
      int64_t port = 0;
      {
        Socket unused = listenOn(port);
      }
      std::string line = "export WORLD_SIZE=" + std::to_string(count) +
                         " MASTER_ADDR=localhost MASTER_PORT=" + std::to_string(port) + "; (";
      for (int64_t rank = count - 1; rank >= 0; --rank) {
        std::string number = std::to_string(rank);
        line += "RANK=" + number + " LOCAL_RANK=" + number + " " + self + (rank ? " & " : "");
      }
      return line + " && wait)";
    });
}

// A send is done only when its receive is there and the data has been copied.
TEST(Transport, SendsAreRendezvous) {
  Threads meeting(2);
  Label label = {{"send"}, 4, {0, 0, 3, 1}};
  int32_t sent = 7, received = 0;
  auto send = meeting.of(0).send(5, 1, label, &sent);
  EXPECT_FALSE(send->test());
  // Another channel is another conversation.
  int32_t other = 0;
  auto elsewhere = meeting.of(1).receive(6, 0, label, &other);
  EXPECT_FALSE(send->test());
  auto receive = meeting.of(1).receive(5, 0, label, &received);
  EXPECT_TRUE(receive->test());
  EXPECT_TRUE(send->test());
  EXPECT_EQ(received, 7);
  EXPECT_FALSE(elsewhere->test());
}

// Two swapped sends of equal size would train on the wrong data: both sides say
// so.
TEST(Transport, TagsMustMatch) {
  Threads meeting(2);
  int32_t data[2] = {};
  auto send = meeting.of(0).send(0, 1, {{"send"}, 4, {0, 0, 3, 1}}, &data[0]);
  auto receive = meeting.of(1).receive(0, 0, {{"send"}, 4, {0, 0, 2, 1}}, &data[1]);
  for (auto *request : {&send, &receive})
    try {
      (*request)->test();
      ADD_FAILURE() << "expected a failure";
    } catch (const Failure &failure) {
      std::string text = failure.what();
      EXPECT_NE(text.find("expected send of 4 bytes, tag [0, 0, "), text.npos);
      EXPECT_NE(text.find(", got send of 4 bytes, tag [0, 0, "), text.npos);
    }
}

//===----------------------------------------------------------------------===//
// TCP
//===----------------------------------------------------------------------===//

// Calls `work` for two ranks, each on a thread of this process, which meet over TCP.
void overTcp(const std::function<void(Transport &transport, int64_t rank)> &work) {
  Launch launch;
  launch.kind = Launch::Kind::Tcp;
  launch.size = 2;
  launch.hosts = {"localhost"};
  {
    Socket unused = listenOn(launch.port);
  }
  std::vector<std::thread> threads;
  for (int64_t rank : {0, 1})
    threads.emplace_back([&, rank, launch = launch]() mutable {
      launch.rank = rank;
      TcpControl control(launch, "a test", std::chrono::seconds(60));
      TcpTransport transport(control);
      work(transport, rank);
      control.gather(""); // neither ends before the other
      control.broadcast("");
    });
  for (std::thread &thread : threads)
    thread.join();
}

// Both ranks begin all their sends before any receive, of more than any buffer holds,
// and receive in another order: nothing stands in the way of anything else.
TEST(Tcp, NothingWaitsForABuffer) {
  constexpr int64_t channels = 8, bytes = int64_t(1) << 24;
  overTcp([&](Transport &transport, int64_t rank) {
    std::vector<std::vector<char>> sent, got(channels, std::vector<char>(bytes));
    std::vector<std::unique_ptr<Transport::Request>> requests;
    for (int64_t channel = 0; channel < channels; ++channel) {
      sent.emplace_back(size_t(bytes), char(10 * rank + channel));
      Label label = {{"send"}, bytes, {0, 0, channel, 1}};
      requests.push_back(transport.send(channel, 1 - rank, label, sent.back().data()));
    }
    for (int i = 0; i < 3; ++i) {
      transport.idle();
      for (auto &request : requests)
        EXPECT_FALSE(request->test()); // a send waits for its receive
    }
    // Nothing is received before both have looked.
    char here = 0, there = 1;
    Label meet = {{"send"}, 1, {}};
    auto hello = transport.send(99, 1 - rank, meet, &here);
    auto answer = transport.receive(99, 1 - rank, meet, &there);
    for (; !hello->test() || !answer->test();)
      transport.idle();
    for (int64_t channel = channels - 1; channel >= 0; --channel) {
      Label label = {{"send"}, bytes, {0, 0, channel, 1}};
      requests.push_back(transport.receive(channel, 1 - rank, label, got[channel].data()));
    }
    while (!requests.empty()) {
      std::erase_if(requests, [](auto &request) { return request->test(); });
      if (!requests.empty())
        transport.idle();
    }
    for (int64_t channel = 0; channel < channels; ++channel)
      EXPECT_EQ(got[channel], std::vector<char>(size_t(bytes), char(10 * (1 - rank) + channel)));
  });
}

TEST(Tcp, TagsMustMatch) {
  overTcp([&](Transport &transport, int64_t rank) {
    int32_t data = 0;
    Label label = {{"send"}, 4, {0, 0, 3 - rank, 1}};
    auto request =
        rank == 0 ? transport.send(0, 1, label, &data) : transport.receive(0, 0, label, &data);
    try {
      while (!request->test())
        transport.idle();
      ADD_FAILURE() << "expected a failure";
    } catch (const Failure &failure) {
      std::string text = failure.what(), own = std::to_string(3 - rank),
                  other = std::to_string(2 + rank);
      EXPECT_NE(text.find("expected send of 4 bytes, tag [0, 0, " + own), text.npos) << text;
      EXPECT_NE(text.find(", got send of 4 bytes, tag [0, 0, " + other), text.npos) << text;
    }
  });
}

} // namespace

// `--collectives=FILE`: a process of expectBitsOfThreads, else all tests.
int main(int argc, char **argv) {
  std::string word = argc > 1 ? argv[1] : "", option = "--collectives=";
  if (!word.starts_with(option)) {
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  }
  std::unique_ptr<Control> control;
  std::unique_ptr<Transport> transport;
  if (const char *size = std::getenv("WORLD_SIZE")) {
    auto tcp = std::make_unique<TcpControl>(Launch::find(std::atoll(size)), "a test",
                                            std::chrono::seconds(60));
    transport = std::make_unique<TcpTransport>(*tcp);
    control = std::move(tcp);
  } else {
    auto mpi = std::make_unique<MpiControl>();
    transport = std::make_unique<MpiTransport>(*mpi);
    control = std::move(mpi);
  }
  int64_t count = control->size();
  std::vector<Case> cases = makeCases(count, 200);
  std::vector<std::byte> result = perform(*transport, cases, firstRanks(count), control->rank());
  std::ofstream(word.substr(option.size()) + std::to_string(control->rank()))
          .write(reinterpret_cast<char *>(result.data()), std::streamsize(result.size()))
      << talk(*control);
}
