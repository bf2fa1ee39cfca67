//===- SharedGpuTest.cpp - Sums over ranks that share a GPU ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Gpus.h"

#include "src/Transport/Communication.h"
#include "src/Transport/Threads.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

using namespace llrt;
using namespace llrt::cuda;
using namespace llrt::test;
using Kind = Action::Kind;

namespace {

constexpr int64_t Ranks = 3;

// Bytes of numbers of the type: of any size, some too large for the narrower types, some that
// are no numbers.
std::vector<std::byte> draw(std::mt19937 &random, LlrtType type, int64_t count) {
  std::vector<std::byte> bytes(size_t(count * typeSize(type)));
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < count; ++i) {
    double value = std::ldexp(normal(random), int(random() % 40) - 20);
    if (random() % 16 == 0)
      value = random() % 2 ? std::numeric_limits<double>::quiet_NaN() : value * 1e30;
    std::byte *at = bytes.data() + i * typeSize(type);
    float single = float(value);
    if (type == LLRT_F64)
      std::memcpy(at, &value, 8);
    else if (type == LLRT_F32)
      std::memcpy(at, &single, 4);
    else
      std::memcpy(at, reinterpret_cast<std::byte *>(&single) + 2, 2);
  }
  return bytes;
}

// A number that is none has many forms: all of them become one.
void sameNaNs(std::vector<std::byte> &bytes, LlrtType type) {
  for (size_t at = 0; at < bytes.size(); at += size_t(typeSize(type))) {
    uint64_t bits = 0;
    std::memcpy(&bits, &bytes[at], size_t(typeSize(type)));
    int fraction = type == LLRT_F64 ? 52 : type == LLRT_F32 ? 23 : 7;
    int exponent = type == LLRT_F64 ? 11 : 8;
    uint64_t most = (uint64_t(1) << exponent) - 1;
    if ((bits >> fraction & most) == most && (bits & ((uint64_t(1) << fraction) - 1))) {
      bits = most << fraction | 1;
      std::memcpy(&bytes[at], &bits, size_t(typeSize(type)));
    }
  }
}

// Every kind, type, shape and form, against the same on the host, to the bit.
TEST(SharedGpu, BitsAreThoseOfTheHost) {
  std::mt19937 random(1);
  auto below = [&](uint32_t n) { return int64_t(random() % n); };
  Gpu gpu(0);
  for (int turn = 0; turn < 120; ++turn) {
    Program program = makeProgram({{"a", Ranks}}, {{0}}, 0);
    constexpr Kind kinds[] = {Kind::AllGather, Kind::AllReduce, Kind::ReduceScatter,
                              Kind::Broadcast};
    constexpr LlrtType types[] = {LLRT_F32, LLRT_BF16, LLRT_F64};
    Action action = collective(kinds[below(4)], 0, 1 + below(40), {}, {});
    action.outer = 1 + below(4);
    action.type = types[below(3)];
    bool sums = action.kind == Kind::AllReduce || action.kind == Kind::ReduceScatter;
    action.toType = sums ? types[below(3)] : action.type;
    action.accumulate = action.kind == Kind::ReduceScatter && below(2);
    action.reduction = sums && below(3) == 0 ? Action::Reduction::Max : Action::Reduction::Sum;
    int64_t part = action.outer * action.elements;
    int64_t fromCount = part * (action.kind == Kind::ReduceScatter ? Ranks : 1);
    int64_t toCount = part * (action.kind == Kind::AllGather ? Ranks : 1);
    bool inPlace = action.type == action.toType && !action.accumulate &&
                   (action.kind == Kind::AllReduce || action.kind == Kind::Broadcast) && below(2);
    std::vector<std::vector<std::byte>> from(Ranks), before(Ranks);
    for (int64_t rank = 0; rank < Ranks; ++rank) {
      from[rank] = draw(random, action.type, fromCount);
      before[rank] = draw(random, action.toType, toCount);
    }
    const std::vector<int64_t> members = {0, 1, 2};
    SharedGpu shared(program, gpu);
    InProcess control(Ranks);
    Threads transport(Ranks);
    std::vector<std::vector<std::byte>> want = before, got = before;
    std::vector<std::unique_ptr<CudaDevice>> devices(Ranks);
    std::vector<std::thread> threads;
    for (int64_t rank = 0; rank < Ranks; ++rank)
      threads.emplace_back([&, rank] {
        std::vector<std::byte> scratch(scratchBytes);
        Communication onHost(transport.of(rank), action, members, rank, from[rank].data(),
                             want[rank].data(), scratch.data());
        while (!onHost.poll())
          transport.of(rank).idle();
        auto &device =
            *(devices[rank] = std::make_unique<CudaDevice>(program, rank, gpu, shared.end(rank),
                                                           control.of(rank), DeviceOptions()));
        auto put = [&](const std::vector<std::byte> &data) {
          void *at = device.allocate(int64_t(data.size()), "data");
          device.write(0, at, int64_t(data.size()),
                       [&](std::byte *to) { std::copy(data.begin(), data.end(), to); });
          return at;
        };
        void *source = put(from[rank]);
        void *to = inPlace ? source : put(before[rank]);
        device.communicate(0, source, to, nullptr, {&action, 0});
        device.read(0, to, int64_t(got[rank].size()), got[rank].data());
      });
    for (std::thread &thread : threads)
      thread.join();
    for (int64_t rank = 0; rank < Ranks; ++rank) {
      sameNaNs(want[rank], action.toType);
      sameNaNs(got[rank], action.toType);
      EXPECT_EQ(got[rank], want[rank])
          << actionName(action.kind) << " of " << action.outer << " x " << action.elements
          << ", type " << action.type << " to " << action.toType << ", accumulate "
          << action.accumulate << ", max " << (action.reduction == Action::Reduction::Max)
          << ", in place " << inPlace << ", rank " << rank << ", turn " << turn;
    }
    devices.clear();
  }
}

} // namespace
