//===- DeviceTest.cpp - What every device does ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One suite for all devices: see DeviceKind.h. Memory of a device is seen through `write` and
// `read` alone.
//
//===----------------------------------------------------------------------===//

#include "DeviceKind.h"

#include "../Rank/SmallProgram.h"

#include "src/Control/InProcess.h"
#include "src/Data/Error.h"
#include "src/Transport/Threads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>

using namespace llrt;
using namespace llrt::test;
using Kind = Action::Kind;
using Event = Device::Event;
using Stream = Device::Stream;

namespace {

Words bufferOf(uint32_t seed) {
  Words buffer;
  std::mt19937 random(seed);
  for (uint32_t &value : buffer)
    value = uint32_t(random());
  return buffer;
}

template <typename T>
void put(Device &device, Stream stream, void *to, const std::vector<T> &values) {
  device.write(stream, to, int64_t(values.size() * sizeof(T)),
               [&](std::byte *at) { std::memcpy(at, values.data(), values.size() * sizeof(T)); });
}

template <typename T>
std::vector<T> get(Device &device, Stream stream, const void *from, int64_t count) {
  std::vector<T> values(count);
  device.read(stream, from, count * int64_t(sizeof(T)), values.data());
  return values;
}

void put(Device &device, Stream stream, void *to, const Words &buffer) {
  put(device, stream, to, std::vector<uint32_t>(buffer.begin(), buffer.end()));
}

Words get(Device &device, Stream stream, const void *from) {
  Words buffer;
  device.read(stream, from, sizeof(buffer), buffer.data());
  return buffer;
}

class DeviceTest : public testing::TestWithParam<DeviceKind> {
protected:
  // A rank that is alone, with one device.
  struct One {
    Program program = makeProgram({}, {}, 0);
    InProcess control{1};
    Threads meeting{1};
    std::unique_ptr<Device> device;

    explicit One(const DeviceKind &kind)
        : device(kind.make(program, 0, meeting.of(0), control.of(0), std::chrono::seconds(60))) {}
    Device *operator->() const { return device.get(); }
    Device &operator*() const { return *device; }

    Words *buffer(uint32_t seed) {
      void *at = device->allocate(sizeof(Words), "a buffer");
      put(*device, 0, at, bufferOf(seed));
      device->wait(device->record(0)); // any stream may use it
      return static_cast<Words *>(at);
    }
  };

  void mix(Device &device, Stream stream, void *to, void *from, bool slow = false) {
    static const Action action = callOf(nullptr, {});
    device.call(stream, slow ? GetParam().slowMix : GetParam().mix, {to, from}, {&action, 0});
  }

  void communicate(Device &device, Stream stream, const void *from, void *to, const Work &work) {
    device.communicate(stream, from, to, device.allocate(scratchBytes, "scratch"), work);
  }

  // `work` for each of `ranks` ranks on a thread of its own. Rethrows the first failure.
  void onRanks(const Program &program, const std::function<void(int64_t rank, Device &)> &work,
               double timeout = 60) {
    int64_t ranks = program.grid.ranks();
    InProcess control(ranks);
    Threads meeting(ranks);
    std::vector<std::unique_ptr<Device>> devices(ranks); // until all are done
    std::vector<std::thread> threads;
    std::mutex mutex;
    std::exception_ptr failure;
    for (int64_t rank = 0; rank < ranks; ++rank)
      threads.emplace_back([&, rank] {
        try {
          devices[rank] = GetParam().make(program, rank, meeting.of(rank), control.of(rank),
                                          std::chrono::duration<double>(timeout));
          work(rank, *devices[rank]);
        } catch (...) {
          std::lock_guard lock(mutex);
          if (!failure)
            failure = std::current_exception();
          control.stop();
        }
      });
    for (std::thread &thread : threads)
      thread.join();
    if (failure)
      std::rethrow_exception(failure);
  }
};

std::string messageOf(const std::function<void()> &work) {
  try {
    work();
  } catch (const Failure &failure) {
    return failure.what();
  }
  ADD_FAILURE() << "expected a failure";
  return "";
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

TEST_P(DeviceTest, MemoryIsZeroAndApart) {
  One one(GetParam());
  std::vector<void *> places;
  for (int64_t bytes : {0, 1, 4096, 5000000}) {
    places.push_back(one->allocate(bytes, "memory"));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(places.back()) % 256, 0u);
    EXPECT_EQ(get<uint8_t>(*one, 0, places.back(), bytes), std::vector<uint8_t>(bytes, 0));
    put(*one, 0, places.back(), std::vector<uint8_t>(bytes, uint8_t(places.size())));
  }
  EXPECT_EQ(get<uint8_t>(*one, 0, places[1], 1), std::vector<uint8_t>(1, 2));
  EXPECT_EQ(get<uint8_t>(*one, 0, places[2], 4096), std::vector<uint8_t>(4096, 3));
}

TEST_P(DeviceTest, TooMuchMemory) {
  One one(GetParam());
  try {
    one->allocate(int64_t(1) << 62, "workspace");
    ADD_FAILURE() << "expected an error";
  } catch (const Error &error) {
    EXPECT_NE(std::string(error.what())
                  .find("memory: expected 4611686018427387904 bytes for arena workspace, got: "),
              std::string::npos)
        << error.what();
  }
  one.buffer(1); // what is left is there
}

//===----------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------===//

// A stream does its work in the order in which it was given, whatever the work is.
TEST_P(DeviceTest, OrderWithinAStream) {
  One one(GetParam());
  Words *a = one.buffer(1), *b = one.buffer(2);
  Words wantA = bufferOf(1), wantB = bufferOf(2);
  for (int i = 0; i < 20; ++i) {
    mix(*one, 0, a, b, i % 5 == 0);
    mixInto(wantA, wantB);
    one->copy(0, b, 0, a, 0, 1, sizeof(Words));
    wantB = wantA;
    if (i % 3 == 0) {
      one->zero(0, a, sizeof(uint32_t));
      wantA[0] = 0;
    }
    put(*one, 0, a + 0, std::vector<uint32_t>{wantA[0] = uint32_t(i)});
  }
  EXPECT_EQ(get(*one, 0, a), wantA);
  EXPECT_EQ(get(*one, 0, b), wantB);
}

// A chain over three streams, against the order of their numbers and against the order
// in which the links are issued within a number.
// What is read later is what was there, also where it is overwritten before anybody looks.
TEST_P(DeviceTest, ReadLater) {
  One one(GetParam());
  Words *a = one.buffer(1), *b = one.buffer(2);
  Words want = bufferOf(1);
  mix(*one, 0, a, b, false);
  mixInto(want, bufferOf(2));
  std::unique_ptr<Device::Reading> first = one->readLater(0, a, sizeof(Words)),
                                   dropped = one->readLater(0, a, sizeof(Words));
  mix(*one, 0, a, b, true);
  dropped.reset();
  one->zero(0, a, sizeof(Words));
  std::unique_ptr<Device::Reading> second = one->readLater(0, a, sizeof(Words));
  EXPECT_EQ(std::memcmp(second->wait(), Words().data(), sizeof(Words)), 0);
  EXPECT_EQ(std::memcmp(first->wait(), want.data(), sizeof(Words)), 0);
}

TEST_P(DeviceTest, EventsAcrossStreams) {
  One one(GetParam());
  Words *a = one.buffer(1), *b = one.buffer(2);
  Words want = bufferOf(1);
  Event last = one->record(0);
  for (int i = 0; i < 30; ++i) {
    Stream stream = (29 - i) % 3;
    one->await(stream, last);
    mix(*one, stream, a, b, i % 4 == 0);
    if (i % 7 == 0) // an event that has been awaited may be awaited again
      one->await(stream, last);
    last = one->record(stream);
    mixInto(want, bufferOf(2));
  }
  one->wait(last);
  one->wait(last);
  EXPECT_EQ(get(*one, 5, a), want); // in a stream that had nothing to do
}

// An event is of what was issued before it: not of what came later in its stream.
TEST_P(DeviceTest, EventsDoNotWaitForLaterWork) {
  Program program = makeProgram({{"a", 2}}, {{0}}, 0);
  onRanks(program, [&](int64_t rank, Device &device) {
    auto *at = static_cast<float *>(device.allocate(8, "two numbers"));
    Action sum = collective(Kind::AllReduce, 0, 1, {}, {}, 1);
    put(device, 0, at, std::vector<float>{float(rank + 1), 0});
    Event written = device.record(0);
    device.await(1, written);
    Event before = device.record(1);
    if (rank == 0) {
      // Nothing of rank 1 is there yet: it waits for a message that is sent last.
      communicate(device, 1, at, at + 1, {&sum, 0});
      device.wait(before);
      Event after = device.record(1);
      device.wait(after);
    } else {
      device.wait(before);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      communicate(device, 1, at, at + 1, {&sum, 0});
    }
    EXPECT_EQ(get<float>(device, 1, at + 1, 1)[0], 3);
  });
}

// A stream that waits for another rank holds nobody else.
TEST_P(DeviceTest, StreamsDoNotHoldEachOther) {
  Program program = makeProgram({{"a", 2}}, {{0}, {0}}, 0); // there and back
  onRanks(program, [&](int64_t rank, Device &device) {
    auto *at = static_cast<Words *>(device.allocate(4 * sizeof(Words), "buffers"));
    Action send = collective(Kind::Send, size_t(rank), 1, {}, {});
    Action receive = collective(Kind::Receive, size_t(1 - rank), 1, {}, {});
    if (rank == 0) {
      communicate(device, 7, nullptr, at, {&receive, 0});
      for (int i = 0; i < 10; ++i)
        mix(device, 3, at + 1, at + 2);
      Words want = {};
      for (int i = 0; i < 10; ++i)
        mixInto(want, Words{});
      EXPECT_EQ(get(device, 3, at + 1), want); // stream 7 still waits
      communicate(device, 3, at + 1, nullptr, {&send, 1});
      device.wait(device.record(7));
      EXPECT_EQ(get(device, 7, at)[0], want[0]);
    } else {
      // Sends back what it got.
      communicate(device, 0, nullptr, at, {&receive, 0});
      communicate(device, 0, at, nullptr, {&send, 1});
    }
    device.wait(device.record(3));
    device.wait(device.record(0));
  });
}

TEST_P(DeviceTest, BlocksInParallelStreams) {
  One one(GetParam());
  constexpr int64_t Streams = 8;
  std::vector<Words *> buffers;
  std::vector<Words> want;
  for (uint32_t i = 0; i < Streams; ++i) {
    buffers.push_back(one.buffer(i));
    want.push_back(bufferOf(i));
  }
  Event written = one->record(0);
  std::vector<Event> ends;
  for (Stream stream = 0; stream < Streams; ++stream)
    one->await(stream, written);
  for (int turn = 0; turn < 50; ++turn)
    for (Stream stream = 0; stream < Streams; ++stream) {
      mix(*one, stream, buffers[stream], buffers[stream], (turn + stream) % 40 == 0);
      mixInto(want[stream], Words(want[stream]));
    }
  // All of them meet in one stream.
  for (Stream stream = 1; stream < Streams; ++stream) {
    one->await(0, one->record(stream));
    mix(*one, 0, buffers[0], buffers[stream]);
    mixInto(want[0], want[stream]);
  }
  for (Stream stream = 0; stream < Streams; ++stream)
    EXPECT_EQ(get(*one, 0, buffers[stream]), want[stream]) << stream;
}

// Random work on random buffers in random streams, an event wherever two pieces touch the
// same buffer, gives the bits of the same work done one piece after the other.
TEST_P(DeviceTest, RandomWork) {
  constexpr size_t Buffers = 6;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    One one(GetParam());
    std::mt19937 random(seed);
    auto below = [&](uint32_t n) { return uint32_t(random()) % n; };
    std::vector<Words *> at;
    std::vector<Words> want;
    std::vector<std::vector<std::pair<Stream, Event>>> touched(Buffers);
    for (uint32_t i = 0; i < Buffers; ++i) {
      at.push_back(one.buffer(i));
      want.push_back(bufferOf(i));
      touched[i] = {{0, one->record(0)}};
    }
    for (int i = 0; i < 150; ++i) {
      Stream stream = below(4);
      size_t to = below(Buffers), from = below(Buffers);
      for (size_t buffer : {from, to})
        for (auto &[other, event] : touched[buffer])
          if (other != stream)
            one->await(stream, event);
      switch (below(6)) {
      case 0:
        one->zero(stream, at[to], sizeof(Words));
        want[to] = {};
        break;
      case 1:
        one->copy(stream, at[to], 0, at[from], 0, 1, sizeof(Words));
        want[to] = want[from];
        break;
      case 2:
        put(*one, stream, at[to], want[to] = bufferOf(1000 + i));
        break;
      case 3: // all at once: the host looks in between
        if (below(8) == 0) {
          EXPECT_EQ(get(*one, stream, at[to]), want[to]) << seed << ", " << i;
          break;
        }
        [[fallthrough]];
      default:
        mix(*one, stream, at[to], at[from], below(30) == 0);
        mixInto(want[to], Words(want[from]));
      }
      Event event = one->record(stream);
      touched[to].emplace_back(stream, event);
      touched[from].emplace_back(stream, event);
    }
    for (size_t i = 0; i < Buffers; ++i) {
      for (auto &[other, event] : touched[i])
        one->wait(event);
      EXPECT_EQ(get(*one, 9, at[i]), want[i]) << seed;
    }
  }
}

TEST_P(DeviceTest, TimesOfEvents) {
  One one(GetParam());
  Words *a = one.buffer(1);
  auto begin = Device::Clock::now();
  Event first = one->record(0);
  mix(*one, 0, a, a, true);
  Event second = one->record(0);
  one->await(1, second);
  Event third = one->record(1);
  one->wait(third);
  if (GetParam().keepsTime) {
    EXPECT_LE(begin, one->time(first));
    EXPECT_LE(one->time(third), Device::Clock::now());
  }
  EXPECT_LT(one->time(first), one->time(second));
  EXPECT_LE(one->time(second), one->time(third));
}

//===----------------------------------------------------------------------===//
// Writes, reads, zeroes, copies
//===----------------------------------------------------------------------===//

// A read sees all that its stream was given before, and nothing that comes later.
TEST_P(DeviceTest, LateReads) {
  One one(GetParam());
  Words *a = one.buffer(1), *b = one.buffer(2);
  Words want = bufferOf(1);
  for (int i = 0; i < 5; ++i) {
    mix(*one, 2, a, b, true);
    mixInto(want, bufferOf(2));
    EXPECT_EQ(get(*one, 2, a), want);
    mix(*one, 2, a, b);
    mixInto(want, bufferOf(2));
  }
}

// What is written is what was there when `write` was called; work that was issued before
// sees what was there before it.
TEST_P(DeviceTest, WritesAreSnapshots) {
  One one(GetParam());
  Words *a = one.buffer(1), *b = one.buffer(2);
  Words want = bufferOf(1), source;
  for (uint32_t i = 0; i < 10; ++i) {
    mix(*one, 0, a, b, i % 3 == 0);
    mixInto(want, i == 0 ? bufferOf(2) : bufferOf(10 + i - 1));
    source = bufferOf(10 + i);
    int calls = 0;
    one->write(0, b, sizeof(source), [&](std::byte *to) {
      ++calls;
      std::memcpy(to, source.data(), sizeof(source));
    });
    EXPECT_EQ(calls, 1);
    source.fill(0);
  }
  EXPECT_EQ(get(*one, 0, a), want);
  EXPECT_EQ(get(*one, 0, b), bufferOf(19));
}

// More bytes than a device keeps for writes, while the stream has work before each.
TEST_P(DeviceTest, LargeWrites) {
  One one(GetParam());
  constexpr int64_t Count = int64_t(6) << 20; // of u32: 24 MiB
  auto *large = static_cast<uint32_t *>(one->allocate(Count * 4, "large"));
  auto *last = static_cast<uint32_t *>(one->allocate(32, "last elements"));
  Words *a = one.buffer(1);
  for (uint32_t i = 0; i < 8; ++i) {
    mix(*one, 0, a, a);
    one->write(0, large, Count * 4,
               [&](std::byte *to) { std::fill_n(reinterpret_cast<uint32_t *>(to), Count, i); });
    one->copy(0, last + i, 0, large + Count - 1 - i, 0, 1, 4);
  }
  EXPECT_EQ(get<uint32_t>(*one, 0, last, 8), (std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

// A write that has to wait for another rank keeps no one from issuing more.
TEST_P(DeviceTest, WritesBehindACommunication) {
  Program program = makeProgram({{"a", 2}}, {{0}}, 0);
  onRanks(program, [&](int64_t rank, Device &device) {
    constexpr int64_t Count = int64_t(10) << 20; // of f32: 40 MiB
    auto *data = static_cast<float *>(device.allocate(Count * 4, "data"));
    Action sum = collective(Kind::AllReduce, 0, 4, {}, {});
    // Rank 1 comes late; both issue all four before anything of rank 1 can be there.
    if (rank == 1)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    for (int i = 1; i <= 4; ++i) {
      put(device, 0, data, std::vector<float>(Count, float(i * (rank + 1))));
      communicate(device, 0, data, data, {&sum, i});
    }
    EXPECT_EQ(get<float>(device, 0, data, 5), (std::vector<float>{12, 12, 12, 12, rank * 4.f + 4}));
  });
}

TEST_P(DeviceTest, ZeroesExactlyItsBytes) {
  One one(GetParam());
  constexpr int64_t Size = 9000000;
  auto *at = static_cast<std::byte *>(one->allocate(Size, "bytes"));
  for (auto [begin, bytes] : {std::pair<int64_t, int64_t>{0, 0},
                              {5, 1},
                              {4096, 4097},
                              {3, int64_t(8) << 20},
                              {0, Size}}) {
    put(*one, 0, at, std::vector<uint8_t>(Size, 0xa5));
    one->zero(0, at + begin, bytes);
    std::vector<uint8_t> want(Size, 0xa5);
    std::fill_n(want.begin() + begin, bytes, 0);
    EXPECT_TRUE(get<uint8_t>(*one, 0, at, Size) == want) << begin << ", " << bytes;
  }
}

TEST_P(DeviceTest, CopiesOfRows) {
  One one(GetParam());
  std::vector<uint8_t> from(60), want(40, 0);
  std::iota(from.begin(), from.end(), 1);
  auto *a = static_cast<std::byte *>(one->allocate(60, "a"));
  auto *b = static_cast<std::byte *>(one->allocate(40, "b"));
  put(*one, 0, a, from);
  one->copy(0, b + 1, 7, a + 2, 12, 4, 5); // four rows of five bytes
  for (int row = 0; row < 4; ++row)
    std::copy_n(from.begin() + 2 + 12 * row, 5, want.begin() + 1 + 7 * row);
  EXPECT_EQ(get<uint8_t>(*one, 0, b, 40), want);
  // Onto itself, both ways.
  for (auto [to, begin] : {std::pair(3, 0), std::pair(0, 3)}) {
    one->copy(0, a + to, 0, a + begin, 0, 1, 50);
    std::vector<uint8_t> moved = from;
    std::copy_n(from.begin() + begin, 50, moved.begin() + to);
    from = moved;
    EXPECT_EQ(get<uint8_t>(*one, 0, a, 60), from);
  }
}

//===----------------------------------------------------------------------===//
// Several ranks
//===----------------------------------------------------------------------===//

// Members issue at different times, and collectives of different communicators, each in a
// stream of its own, in a different order on every rank.
TEST_P(DeviceTest, MembersInAnyOrder) {
  Program program = makeProgram({{"a", 2}, {"b", 3}}, {{0}, {1}, {0, 1}}, 0);
  constexpr int64_t N = 5, Rounds = 8;
  onRanks(program, [&](int64_t rank, Device &device) {
    std::mt19937 random{uint32_t(rank)};
    Action sum[3];
    float *at[3];
    std::vector<int64_t> groups[3];
    for (size_t c = 0; c < 3; ++c) {
      sum[c] = collective(Kind::AllReduce, c, N, {}, {});
      at[c] = static_cast<float *>(device.allocate(N * 4, "data"));
      groups[c] = program.communicators[c].members(program.grid, rank);
      std::vector<float> values(N);
      for (int64_t i = 0; i < N; ++i)
        values[i] = float(rank + 10 * i);
      put(device, Stream(c), at[c], values);
    }
    for (int64_t round = 0; round < Rounds; ++round) {
      size_t order[3] = {0, 1, 2};
      std::shuffle(order, order + 3, random);
      if (random() % 2)
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      for (size_t c : order)
        communicate(device, Stream(c), at[c], at[c], {&sum[c], round});
    }
    for (size_t c = 0; c < 3; ++c) {
      std::vector<float> got = get<float>(device, Stream(c), at[c], N);
      float total = 0, factor = 1;
      for (int64_t member : groups[c])
        total += float(member);
      for (int64_t round = 1; round < Rounds; ++round)
        factor *= float(groups[c].size());
      for (int64_t i = 0; i < N; ++i)
        EXPECT_EQ(got[i], (total + float(groups[c].size()) * float(10 * i)) * factor) << c;
    }
  });
}

// All kinds: gather, reduce and scatter, broadcast, in one stream behind each other.
TEST_P(DeviceTest, KindsOfCollectives) {
  Program program = makeProgram({{"a", 3}}, {{0}}, 0);
  onRanks(program, [&](int64_t rank, Device &device) {
    auto *own = static_cast<float *>(device.allocate(8, "own"));
    auto *all = static_cast<float *>(device.allocate(24, "all"));
    put(device, 0, own, std::vector<float>{float(rank), float(rank * 10)});
    Action action[] = {collective(Kind::AllGather, 0, 2, {}, {}),
                       collective(Kind::ReduceScatter, 0, 2, {}, {}),
                       collective(Kind::Broadcast, 0, 2, {}, {})};
    communicate(device, 0, own, all, {&action[0], 0});
    EXPECT_EQ(get<float>(device, 0, all, 6), (std::vector<float>{0, 0, 1, 10, 2, 20}));
    communicate(device, 0, all, own, {&action[1], 1});
    EXPECT_EQ(get<float>(device, 0, own, 2), (std::vector<float>{rank * 3.f, rank * 30.f}));
    put(device, 0, own, std::vector<float>{float(rank + 7), float(rank + 8)});
    communicate(device, 0, own, own, {&action[2], 2});
    EXPECT_EQ(get<float>(device, 0, own, 2), (std::vector<float>{7, 8}));
  });
}

// A buffer goes round a ring of four, each rank mixes it.
TEST_P(DeviceTest, Transfers) {
  Program program = makeProgram({{"pp", 4}}, {}, 0);
  for (int64_t rank = 0; rank < 4; ++rank)
    program.communicators.push_back(
        {"edge " + std::to_string(rank), {0}, std::pair<int64_t, int64_t>(rank, (rank + 1) % 4)});
  program.stages.resize(4);
  onRanks(program, [&](int64_t rank, Device &device) {
    auto *at = static_cast<Words *>(device.allocate(2 * sizeof(Words), "buffers"));
    Action send = collective(Kind::Send, size_t(rank), Lanes, {}, {});
    Action receive = collective(Kind::Receive, size_t(rank + 3) % 4, Lanes, {}, {});
    if (rank == 0) {
      put(device, 0, at, bufferOf(3));
      communicate(device, 0, at, nullptr, {&send, 0});
      communicate(device, 0, nullptr, at + 1, {&receive, 1});
      Words want = bufferOf(3);
      for (int64_t other = 1; other < 4; ++other)
        mixInto(want, Words{});
      EXPECT_EQ(get(device, 0, at + 1), want);
    } else {
      communicate(device, 2, nullptr, at, {&receive, 0});
      device.await(0, device.record(2));
      mix(device, 0, at, at + 1, rank == 2);
      device.await(1, device.record(0));
      communicate(device, 1, at, nullptr, {&send, 1});
      device.wait(device.record(1));
    }
  });
}

//===----------------------------------------------------------------------===//
// Recordings
//===----------------------------------------------------------------------===//

// What was recorded over two streams is done again, each time with the data of new writes.
TEST_P(DeviceTest, RecordingsAreDoneAgain) {
  One one(GetParam());
  if (!one->records())
    return;
  Words *a = one.buffer(1), *b = one.buffer(2);
  Words want = bufferOf(1);
  auto write = [&](uint32_t turn) { put(*one, 1, b, bufferOf(10 + turn)); };
  one->beginRecording(0, std::chrono::seconds(1));
  one->await(1, one->record(0));
  write(0);
  one->await(0, one->record(1));
  mix(*one, 0, a, b);
  one->copy(0, b, 0, a, 0, 1, sizeof(Words));
  auto recording = one->endRecording(0);
  EXPECT_EQ(get(*one, 3, a), want); // nothing of it was done
  for (uint32_t turn = 0; turn < 5; ++turn) {
    if (turn > 0) {
      one->rewrite(recording);
      write(turn);
    }
    one->play(0, recording);
    mixInto(want, bufferOf(10 + turn));
    EXPECT_EQ(get(*one, 0, a), want) << turn;
    EXPECT_EQ(get(*one, 0, b), want) << turn;
  }
  // Other writes than those that were recorded.
  one->rewrite(recording);
  EXPECT_EQ(messageOf([&] { put(*one, 1, b, std::vector<uint32_t>{1}); }),
            "a write that was not recorded");
  EXPECT_EQ(messageOf([&] { one->play(0, recording); }), "fewer writes than were recorded");
}

TEST_P(DeviceTest, CollectivesInRecordings) {
  Program program = makeProgram({{"a", 2}}, {{0}}, 0);
  onRanks(program, [&](int64_t rank, Device &device) {
    if (!device.records())
      return;
    auto *at = static_cast<float *>(device.allocate(8, "data"));
    Action sum = collective(Kind::AllReduce, 0, 2, {}, {});
    std::shared_ptr<Device::Recording> recording;
    for (int turn = 0; turn < 4; ++turn) {
      std::vector<float> values = {float(rank + turn), float(10 * turn)};
      if (turn == 0)
        device.beginRecording(0, std::chrono::seconds(1));
      else
        device.rewrite(recording);
      put(device, 0, at, values);
      if (turn == 0) {
        device.communicate(0, at, at, nullptr, {&sum, 0});
        recording = device.endRecording(0);
      }
      device.play(0, recording);
      EXPECT_EQ(get<float>(device, 0, at, 2),
                (std::vector<float>{float(1 + 2 * turn), float(20 * turn)}));
    }
  });
}

//===----------------------------------------------------------------------===//
// Failures
//===----------------------------------------------------------------------===//

TEST_P(DeviceTest, FailuresOfABlockNameIt) {
  One one(GetParam());
  Action call = callOf(GetParam().fail, {});
  call.call.name = "loss.backward";
  call.location = "loss of model";
  EXPECT_EQ(messageOf([&] {
              one->call(0, GetParam().fail, {}, {&call, 4});
              one->wait(one->record(0));
            }),
            "call of block 'loss.backward' (loss of model), entry 4: out of luck");

  One other(GetParam());
  Action run = {};
  run.kind = Kind::Run;
  run.graph = "step";
  run.microBatch = 3;
  int value;
  EXPECT_EQ(messageOf([&] {
              other->call(0, GetParam().fail, {}, {&call, 4, 7, &run});
              other->read(0, &value, 0, &value);
            }),
            "call of block 'loss.backward' (loss of model), item 7 of graph 'step', micro-batch 3: "
            "out of luck");
}

TEST_P(DeviceTest, FailuresOfACollectiveNameIt) {
  if (!GetParam().compares)
    GTEST_SKIP() << "this kind of device does not compare what members ask for";
  Program program = makeProgram({{"tp", 2}}, {{0}}, 0);
  std::string message = messageOf([&] {
    onRanks(program, [&](int64_t rank, Device &device) {
      auto *at = static_cast<float *>(device.allocate(64, "data"));
      Action sum = collective(Kind::Broadcast, 0, rank == 0 ? 4 : 8, {}, {});
      communicate(device, 0, at, at, {&sum, 11});
      device.wait(device.record(0));
    });
  });
  EXPECT_TRUE(message.starts_with("broadcast on communicator 'tp', entry 11: messages that do not "
                                  "match: expected broadcast of "))
      << message;
}

// Who waits for whom, and who does not answer.
TEST_P(DeviceTest, TimeoutsNameWhoWaits) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto run = [&](bool silent) {
    Program program = makeProgram({{"a", 2}}, {{0}, {0}}, 0);
    onRanks(
        program,
        [&](int64_t rank, Device &device) {
          auto *at = static_cast<float *>(device.allocate(64, "data"));
          Action sum = collective(Kind::AllReduce, size_t(rank), 4, {}, {});
          sum.location = "layer 3";
          if (silent && rank == 1)
            std::this_thread::sleep_for(std::chrono::seconds(60));
          communicate(device, 2, at, at, {&sum, 5});
          device.wait(device.record(2));
        },
        0.5);
  };
  EXPECT_EXIT(
      run(false), testing::ExitedWithCode(1),
      "all ranks have waited for each other for 0.5 s\n"
      "  rank 0 \\(a 0\\) waits: all_reduce on communicator 'a' \\(layer 3\\), entry 5, for "
      "rank 1\n"
      "  rank 1 \\(a 1\\) waits: all_reduce on communicator 'a' \\(layer 3\\), entry 5, for "
      "rank 0");
  EXPECT_EXIT(
      run(true), testing::ExitedWithCode(1),
      "rank 1 \\(a 1\\) has not answered for 0.5 s\n"
      "  rank 0 \\(a 0\\) waits: all_reduce on communicator 'a' \\(layer 3\\), entry 5, for "
      "rank 1");
}

// A recording has the timeout, or ten times as long as what is in it took: not told before, told after that.
TEST_P(DeviceTest, TimeoutsOfRecordings) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  Program program = makeProgram({{"a", 2}}, {{0}}, 0);
  bool records = true;
  onRanks(program, [&](int64_t rank, Device &device) {
    if (rank == 0)
      records = device.records();
  });
  if (!records)
    GTEST_SKIP() << "does not record what ranks do together";
  auto run = [&](double late, double took) {
    onRanks(
        program,
        [&](int64_t rank, Device &device) {
          auto *at = static_cast<float *>(device.allocate(64, "data"));
          Action sum = collective(Kind::AllReduce, 0, 4, {}, {});
          device.beginRecording(0, std::chrono::duration<double>(took));
          device.communicate(0, at, at, nullptr, {&sum, 0});
          auto recording = device.endRecording(0);
          if (rank == 1)
            std::this_thread::sleep_for(std::chrono::duration<double>(late));
          device.play(0, recording);
          device.wait(device.record(0));
        },
        0.5);
  };
  run(1, 0.5);
  const std::string waits = "\n  rank 0 \\(a 0\\) waits: its GPU, which does a step as CUDA graphs";
  EXPECT_EXIT(run(60, 0), testing::ExitedWithCode(1),
              "rank 1 \\(a 1\\) has not answered for 0.5 s" + waits);
  EXPECT_EXIT(run(60, 0.1), testing::ExitedWithCode(1),
              "rank 1 \\(a 1\\) has not answered for 1 s" + waits);
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceTest, testing::ValuesIn(deviceKinds()),
                         [](const auto &info) { return std::string(info.param.name); });

} // namespace
