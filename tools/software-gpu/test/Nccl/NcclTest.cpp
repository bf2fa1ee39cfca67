//===- NcclTest.cpp - Collectives and messages give the right bits ----------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ranks.h"
#include "Types.h"

#include <cmath>
#include <random>

namespace {
using namespace sgpu::test;

//===----------------------------------------------------------------------===//
// A model of the types and sums, apart from the library's
//===----------------------------------------------------------------------===//

template <typename T> constexpr bool isInteger = std::is_integral_v<T>;

template <typename T> T fold(int op, T a, T b) {
  if constexpr (isInteger<T>) {
    if (op == ncclSum || op == ncclAvg || op == ncclNumOps)
      return T(uint64_t(a) + uint64_t(b));
    if (op == ncclProd)
      return T(uint64_t(a) * uint64_t(b));
    return op == ncclMax ? std::max(a, b) : std::min(a, b);
  } else {
    double x = double(a), y = double(b);
    return op == ncclProd  ? T(x * y)
           : op == ncclMax ? T(std::max(x, y))
           : op == ncclMin ? T(std::min(x, y))
                           : T(x + y);
  }
}

/// Element i of the sum over ranks, in rising order.
template <typename T>
T reduced(int op, const std::vector<std::vector<T>> &data, size_t i,
          const std::vector<T> &scalars) {
  auto scaled = [&](size_t r) -> T {
    T x = data[r][i];
    if (op == ncclNumOps) {
      if constexpr (isInteger<T>)
        return T(uint64_t(x) * uint64_t(scalars[r]));
      else
        return T(double(x) * double(scalars[r]));
    }
    if constexpr (!isInteger<T>)
      if (op == ncclAvg)
        return T(double(x) * double(T(1.0 / double(data.size()))));
    return x;
  };
  T sum = scaled(0);
  for (size_t r = 1; r < data.size(); ++r)
    sum = fold(op, sum, scaled(r));
  if constexpr (isInteger<T>)
    if (op == ncclAvg)
      sum = T(sum / T(data.size()));
  return sum;
}

template <typename T> T drawn(std::mt19937_64 &draw) {
  if constexpr (isInteger<T>)
    return T(draw());
  else
    return T((double(draw() % 4097) - 2048) / 512);
}

//===----------------------------------------------------------------------===//
// Drawn calls
//===----------------------------------------------------------------------===//

enum Which {
  AllReduce,
  ReduceScatter,
  AllGather,
  Broadcast,
  Bcast,
  Reduce,
  AlltoAll,
  Gather,
  Scatter,
  kinds
};

/// One collective with a type, drawn; all ranks draw the same.
template <typename T> void drawnCall(Rank &rank, int type, std::mt19937_64 &draw) {
  Which which = Which(draw() % kinds);
  size_t ranks = size_t(rank.ranks), me = size_t(rank.rank);
  size_t counts[] = {1, 2, 3, 7, 64, 100, 1000, 0};
  size_t count = counts[draw() % 8];
  int op = int(draw() % 6), root = int(draw() % ranks);
  bool inPlace = draw() % 2, scalarOnDevice = draw() % 2;
  size_t gives =
      which == ReduceScatter || which == AlltoAll || which == Scatter ? count * ranks : count;
  std::vector<std::vector<T>> data(ranks, std::vector<T>(gives));
  std::vector<T> scalars(ranks);
  for (auto &values : data)
    for (T &x : values)
      x = drawn<T>(draw);
  for (T &x : scalars)
    x = isInteger<T> ? T(draw() % 5) : drawn<T>(draw);
  bool isRoot = root == rank.rank;
  auto part = [&](size_t r, size_t p) {
    return std::vector<T>(data[r].begin() + long(p * count),
                          data[r].begin() + long((p + 1) * count));
  };
  // What this rank must have at the end.
  std::vector<T> want;
  auto append = [&](const std::vector<T> &v) { want.insert(want.end(), v.begin(), v.end()); };
  if (which == AllReduce || (which == Reduce && isRoot))
    for (size_t i = 0; i < count; ++i)
      want.push_back(reduced(op, data, i, scalars));
  else if (which == ReduceScatter)
    for (size_t i = 0; i < count; ++i)
      want.push_back(reduced(op, data, me * count + i, scalars));
  else if (which == AllGather || (which == Gather && isRoot))
    for (size_t r = 0; r < ranks; ++r)
      append(data[r]);
  else if (which == Broadcast || which == Bcast)
    append(data[size_t(root)]);
  else if (which == AlltoAll)
    for (size_t r = 0; r < ranks; ++r)
      append(part(r, me));
  else if (which == Scatter)
    append(part(size_t(root), me));

  int handle = op;
  if (op == ncclNumOps && (which == AllReduce || which == ReduceScatter || which == Reduce)) {
    T scalar = scalars[me];
    void *place = scalarOnDevice ? rank.upload(&scalar, sizeof scalar) : &scalar;
    EXPECT_EQ(ncclRedOpCreatePreMulSum(&handle, place, type,
                                       scalarOnDevice ? ncclScalarDevice : ncclScalarHostImmediate,
                                       rank.comm),
              0);
  }
  // In place: one buffer, with the part of this rank where the rule says.
  size_t whole = std::max(gives, want.size());
  size_t sendAt = 0, recvAt = 0;
  if (which == ReduceScatter || (which == Scatter && isRoot))
    recvAt = me * count;
  if (which == AllGather || (which == Gather && isRoot))
    sendAt = me * count;
  if (which == AlltoAll)
    inPlace = false;
  if (which == Bcast)
    inPlace = true;
  char *send, *recv;
  if (inPlace) {
    char *both = static_cast<char *>(rank.allocate(whole * sizeof(T)));
    send = both + sendAt * sizeof(T), recv = both + recvAt * sizeof(T);
    bool writes = which != Broadcast && which != Bcast ? true : isRoot;
    if (gives && writes)
      EXPECT_EQ(
          cuMemcpyHtoDAsync_v2(CUdeviceptr(send), data[me].data(), gives * sizeof(T), rank.stream),
          0);
  } else {
    send = static_cast<char *>(rank.upload(data[me]));
    recv = static_cast<char *>(rank.allocate(want.size() * sizeof(T)));
  }
  void *c = rank.comm, *s = rank.stream;
  int status = -1;
  switch (which) {
  case AllReduce:
    status = ncclAllReduce(send, recv, count, type, handle, c, s);
    break;
  case ReduceScatter:
    status = ncclReduceScatter(send, recv, count, type, handle, c, s);
    break;
  case AllGather:
    status = ncclAllGather(send, recv, count, type, c, s);
    break;
  case Broadcast:
    status = ncclBroadcast(send, recv, count, type, root, c, s);
    break;
  case Bcast:
    status = ncclBcast(recv, count, type, root, c, s);
    break;
  case Reduce:
    status = ncclReduce(send, recv, count, type, handle, root, c, s);
    break;
  case AlltoAll:
    status = ncclAlltoAll(send, recv, count, type, c, s);
    break;
  case Gather:
    status = ncclGather(send, recv, count, type, root, c, s);
    break;
  case Scatter:
    status = ncclScatter(send, recv, count, type, root, c, s);
    break;
  case kinds:
    break;
  }
  EXPECT_EQ(status, ncclSuccess) << which;
  if (handle >= ncclNumOps && handle != op + 100 && op == ncclNumOps &&
      (which == AllReduce || which == ReduceScatter || which == Reduce))
    EXPECT_EQ(ncclRedOpDestroy(handle, c), ncclSuccess); // the call has taken what it needs
  std::vector<T> got = rank.download<T>(recv, want.size());
  EXPECT_TRUE(want.empty() || std::memcmp(got.data(), want.data(), want.size() * sizeof(T)) == 0)
      << "collective " << which << " type " << type << " op " << op << " count " << count
      << " rank " << me << " of " << ranks << (inPlace ? " in place" : "");
}

void drawnCalls(Rank &rank, uint64_t seed, int calls) {
  std::mt19937_64 draw(seed);
  for (int i = 0; i < calls; ++i)
    switch (int type = int(draw() % ncclNumTypes)) {
    case ncclInt8:
      drawnCall<int8_t>(rank, type, draw);
      break;
    case ncclUint8:
      drawnCall<uint8_t>(rank, type, draw);
      break;
    case ncclInt32:
      drawnCall<int32_t>(rank, type, draw);
      break;
    case ncclUint32:
      drawnCall<uint32_t>(rank, type, draw);
      break;
    case ncclInt64:
      drawnCall<int64_t>(rank, type, draw);
      break;
    case ncclUint64:
      drawnCall<uint64_t>(rank, type, draw);
      break;
    case ncclFloat16:
      drawnCall<F16>(rank, type, draw);
      break;
    case ncclFloat32:
      drawnCall<float>(rank, type, draw);
      break;
    case ncclFloat64:
      drawnCall<double>(rank, type, draw);
      break;
    case ncclBfloat16:
      drawnCall<BF16>(rank, type, draw);
      break;
    case ncclFloat8e4m3:
      drawnCall<E4M3>(rank, type, draw);
      break;
    case ncclFloat8e5m2:
      drawnCall<E5M2>(rank, type, draw);
      break;
    }
}

class Nccl : public testing::TestWithParam<Mode> {
protected:
  void run(int ranks, const std::function<void(Rank &)> &body, const Environment &environment = {},
           bool join = true) {
    for (const Outcome &outcome : everyRank(GetParam(), ranks, body, environment, join))
      EXPECT_TRUE(isClean(outcome));
  }
};
INSTANTIATE_TEST_SUITE_P(All, Nccl, testing::Values(Mode::Threads, Mode::Processes),
                         [](const auto &info) { return std::string(nameOf(info.param)); });

// The bits are those of the model, whatever the seed of the machine and the moment of completion.
TEST_P(Nccl, DrawnCollectives) {
  const char *completions[] = {"late", "early", "random"};
  for (int i = 0; i < 6; ++i)
    run(1 + i % 4, [=](Rank &rank) { drawnCalls(rank, uint64_t(i) + 10, 40); },
        {{"SOFTWARE_GPU_SEED", std::to_string(i)},
         {"SOFTWARE_GPU_COMPLETION", completions[i % 3]}});
}

// All types and operations, so that none is left to chance.
template <typename T> void everyOp(Rank &rank, int type) {
  for (int op = 0; op < ncclNumOps; ++op) {
    std::mt19937_64 draw(uint64_t(type * 10 + op));
    std::vector<std::vector<T>> data(size_t(rank.ranks), std::vector<T>(33));
    for (auto &values : data)
      for (T &x : values)
        x = drawn<T>(draw);
    void *p = rank.upload(data[size_t(rank.rank)]);
    EXPECT_EQ(ncclAllReduce(p, p, 33, type, op, rank.comm, rank.stream), 0);
    std::vector<T> got = rank.download<T>(p, 33);
    for (size_t i = 0; i < 33; ++i) {
      T want = reduced<T>(op, data, i, {});
      EXPECT_EQ(std::memcmp(&got[i], &want, sizeof want), 0)
          << "type " << type << " op " << op << " element " << i;
    }
  }
}
TEST_P(Nccl, EveryTypeAndOperation) {
  run(3, [](Rank &rank) {
    everyOp<int8_t>(rank, ncclInt8);
    everyOp<uint8_t>(rank, ncclUint8);
    everyOp<int32_t>(rank, ncclInt32);
    everyOp<uint32_t>(rank, ncclUint32);
    everyOp<int64_t>(rank, ncclInt64);
    everyOp<uint64_t>(rank, ncclUint64);
    everyOp<F16>(rank, ncclFloat16);
    everyOp<float>(rank, ncclFloat32);
    everyOp<double>(rank, ncclFloat64);
    everyOp<BF16>(rank, ncclBfloat16);
    everyOp<E4M3>(rank, ncclFloat8e4m3);
    everyOp<E5M2>(rank, ncclFloat8e5m2);
  });
}

//===----------------------------------------------------------------------===//
// Messages and groups
//===----------------------------------------------------------------------===//

// A ring, an exchange of all with all, several messages to one rank, and one to itself.
TEST_P(Nccl, Messages) {
  run(3, [](Rank &rank) {
    int n = rank.ranks, me = rank.rank;
    auto value = [&](int from, int to, int k) {
      return std::vector<int>{from * 100 + to * 10 + k, -from, to};
    };
    void *out = rank.upload(value(me, (me + 1) % n, 0)), *in = rank.allocate(12);
    EXPECT_EQ(ncclGroupStart(), 0);
    EXPECT_EQ(ncclSend(out, 3, ncclInt32, (me + 1) % n, rank.comm, rank.stream), 0);
    EXPECT_EQ(ncclRecv(in, 3, ncclInt32, (me + n - 1) % n, rank.comm, rank.stream), 0);
    EXPECT_EQ(ncclGroupEnd(), 0);
    EXPECT_EQ(rank.download<int>(in, 3), value((me + n - 1) % n, me, 0));

    std::vector<void *> from;
    EXPECT_EQ(ncclGroupStart(), 0);
    for (int peer = 0; peer < n; ++peer)
      for (int k = 0; k < 2; ++k) {
        from.push_back(rank.allocate(12));
        EXPECT_EQ(
            ncclSend(rank.upload(value(me, peer, k)), 3, ncclInt32, peer, rank.comm, rank.stream),
            0);
        EXPECT_EQ(ncclRecv(from.back(), 3, ncclInt32, peer, rank.comm, rank.stream), 0);
      }
    EXPECT_EQ(ncclGroupEnd(), 0);
    for (int peer = 0; peer < n; ++peer)
      for (int k = 0; k < 2; ++k)
        EXPECT_EQ(rank.download<int>(from[size_t(peer * 2 + k)], 3), value(peer, me, k));

    // Without a group: one sends, then the other.
    void *x = rank.upload(std::vector<int>{me}), *y = rank.allocate(4);
    if (me == 0) {
      EXPECT_EQ(ncclSend(x, 1, ncclInt32, 1, rank.comm, rank.stream), 0);
      EXPECT_EQ(ncclRecv(y, 1, ncclInt32, 1, rank.comm, rank.stream), 0);
      EXPECT_EQ(rank.download<int>(y, 1)[0], 1);
    } else if (me == 1) {
      EXPECT_EQ(ncclRecv(y, 1, ncclInt32, 0, rank.comm, rank.stream), 0);
      EXPECT_EQ(ncclSend(x, 1, ncclInt32, 0, rank.comm, rank.stream), 0);
      EXPECT_EQ(rank.download<int>(y, 1)[0], 0);
    }
    EXPECT_EQ(ncclGroupStart(), 0); // a message without elements is one too
    EXPECT_EQ(ncclSend(nullptr, 0, ncclInt32, (me + 1) % n, rank.comm, rank.stream), 0);
    EXPECT_EQ(ncclRecv(nullptr, 0, ncclInt32, (me + n - 1) % n, rank.comm, rank.stream), 0);
    EXPECT_EQ(ncclGroupEnd(), 0);
    rank.wait();
  });
}

// Collectives and messages of nested groups, in two streams, on two communicators.
TEST_P(Nccl, Groups) {
  for (const char *completion : {"late", "early", "random"})
    run(2,
        [](Rank &rank) {
          void *second = nullptr;
          EXPECT_EQ(ncclCommSplit(rank.comm, 0, -rank.rank, &second, nullptr), 0);
          int place = -1;
          EXPECT_EQ(ncclCommUserRank(second, &place), 0);
          EXPECT_EQ(place, 1 - rank.rank); // the key has turned them round
          CUstream other;
          EXPECT_EQ(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING), 0);
          float mine = float(rank.rank + 1);
          void *a = rank.upload(&mine, 4), *b = rank.upload(&mine, 4), *c = rank.allocate(8),
               *d = rank.allocate(4), *e = rank.upload(&mine, 4);
          CUevent ready; // `other` comes after the copies
          EXPECT_EQ(cuEventCreate(&ready, CU_EVENT_DISABLE_TIMING), 0);
          EXPECT_EQ(cuEventRecord(ready, rank.stream), 0);
          EXPECT_EQ(cuStreamWaitEvent(other, ready, 0), 0);
          EXPECT_EQ(ncclGroupStart(), 0);
          EXPECT_EQ(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
          EXPECT_EQ(ncclGroupStart(), 0);
          EXPECT_EQ(ncclAllGather(b, c, 1, ncclFloat32, second, rank.stream), 0);
          EXPECT_EQ(ncclGroupEnd(), 0);
          EXPECT_EQ(ncclSend(b, 1, ncclFloat32, 1 - rank.rank, rank.comm, other), 0);
          EXPECT_EQ(ncclRecv(d, 1, ncclFloat32, 1 - rank.rank, rank.comm, other), 0);
          EXPECT_EQ(ncclAllReduce(e, e, 1, ncclFloat32, ncclProd, rank.comm, other), 0);
          EXPECT_EQ(ncclGroupEnd(), 0);
          EXPECT_EQ(cuStreamSynchronize(other), 0);
          EXPECT_EQ(rank.download<float>(a, 1)[0], 3);
          EXPECT_EQ(rank.download<float>(c, 2), (std::vector<float>{2, 1}));
          EXPECT_EQ(rank.download<float>(d, 1)[0], float(2 - rank.rank));
          EXPECT_EQ(rank.download<float>(e, 1)[0], 2);
          EXPECT_EQ(cuEventDestroy_v2(ready), 0);
          EXPECT_EQ(cuStreamDestroy_v2(other), 0);
          EXPECT_EQ(ncclCommDestroy(second), 0);
        },
        {{"SOFTWARE_GPU_COMPLETION", completion}});
}

// Calls in several streams, which only the order of calls holds together.
TEST_P(Nccl, StreamsKeepTheOrderOfCalls) {
  for (int seed = 0; seed < 4; ++seed)
    run(2,
        [](Rank &rank) {
          CUstream streams[3];
          std::vector<void *> data;
          for (CUstream &s : streams)
            EXPECT_EQ(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING), 0);
          for (int i = 0; i < 9; ++i)
            data.push_back(rank.upload(std::vector<int>{i * 10 + rank.rank}));
          rank.wait();
          for (int i = 0; i < 9; ++i)
            EXPECT_EQ(ncclAllReduce(data[size_t(i)], data[size_t(i)], 1, ncclInt32,
                                    i % 2 ? ncclMax : ncclSum, rank.comm, streams[i * 7 % 3]),
                      0);
          // One rank waits for them from the front, the other from the back.
          for (int i = 0; i < 3; ++i)
            EXPECT_EQ(cuStreamSynchronize(streams[rank.rank ? 2 - i : i]), 0);
          for (int i = 0; i < 9; ++i)
            EXPECT_EQ(rank.download<int>(data[size_t(i)], 1)[0], i % 2 ? i * 10 + 1 : i * 20 + 1);
          for (CUstream s : streams)
            EXPECT_EQ(cuStreamDestroy_v2(s), 0);
        },
        {{"SOFTWARE_GPU_SEED", std::to_string(seed)}});
}

// A graph of collectives in two streams, launched several times, with calls between.
TEST_P(Nccl, Graphs) {
  for (int seed = 0; seed < 4; ++seed)
    run(2,
        [](Rank &rank) {
          void *a = rank.upload(std::vector<float>{float(rank.rank + 1)}), *b = rank.allocate(8),
               *c = rank.upload(std::vector<float>{2});
          rank.wait();
          CUstream side;
          EXPECT_EQ(cuStreamCreate(&side, CU_STREAM_NON_BLOCKING), 0);
          CUevent fork, join;
          EXPECT_EQ(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING), 0);
          EXPECT_EQ(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING), 0);
          EXPECT_EQ(cuStreamBeginCapture_v2(rank.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), 0);
          EXPECT_EQ(cuEventRecord(fork, rank.stream), 0);
          EXPECT_EQ(cuStreamWaitEvent(side, fork, 0), 0);
          EXPECT_EQ(ncclAllGather(a, b, 1, ncclFloat32, rank.comm, side), 0);
          EXPECT_EQ(ncclAllReduce(c, c, 1, ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
          EXPECT_EQ(cuEventRecord(join, side), 0);
          EXPECT_EQ(cuStreamWaitEvent(rank.stream, join, 0), 0);
          EXPECT_EQ(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
          CUgraph graph;
          EXPECT_EQ(cuStreamEndCapture(rank.stream, &graph), 0);
          CUgraphExec exec;
          EXPECT_EQ(cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
          EXPECT_EQ(rank.download<float>(c, 1)[0], 2); // capture does nothing
          EXPECT_EQ(cuGraphLaunch(exec, rank.stream), 0);
          EXPECT_EQ(cuGraphLaunch(exec, rank.stream), 0);
          EXPECT_EQ(ncclAllReduce(c, c, 1, ncclFloat32, ncclMax, rank.comm, rank.stream), 0);
          EXPECT_EQ(cuGraphLaunch(exec, rank.stream), 0);
          EXPECT_EQ(rank.download<float>(a, 1)[0], 12); // 3, 6, 12
          EXPECT_EQ(rank.download<float>(b, 2), (std::vector<float>{6, 6}));
          EXPECT_EQ(rank.download<float>(c, 1)[0], 16);
          EXPECT_EQ(cuGraphExecDestroy(exec), 0);
          EXPECT_EQ(cuGraphDestroy(graph), 0);
          EXPECT_EQ(cuEventDestroy_v2(fork), 0);
          EXPECT_EQ(cuEventDestroy_v2(join), 0);
          EXPECT_EQ(cuStreamDestroy_v2(side), 0);
        },
        {{"SOFTWARE_GPU_SEED", std::to_string(seed)}});
}

//===----------------------------------------------------------------------===//
// Communicators
//===----------------------------------------------------------------------===//

TEST_P(Nccl, Split) {
  run(4, [](Rank &rank) {
    for (int round = 0; round < 3; ++round) { // shared places are used again
      void *child = nullptr;
      bool out = round == 1 && rank.rank == 3;
      EXPECT_EQ(
          ncclCommSplit(rank.comm, out ? ncclSplitNoColor : rank.rank % 2, 0, &child, nullptr), 0);
      if (out) {
        EXPECT_EQ(child, nullptr);
        continue;
      }
      int count = 0, place = -1, device = -1;
      EXPECT_EQ(ncclCommCount(child, &count), 0);
      EXPECT_EQ(ncclCommUserRank(child, &place), 0);
      EXPECT_EQ(ncclCommCuDevice(child, &device), 0);
      EXPECT_EQ(count, round == 1 && rank.rank == 1 ? 1 : 2);
      EXPECT_EQ(place, rank.rank / 2);
      EXPECT_EQ(device, rank.rank);
      void *p = rank.upload(std::vector<int>{1 << rank.rank});
      EXPECT_EQ(ncclAllReduce(p, p, 1, ncclInt32, ncclSum, child, rank.stream), 0);
      EXPECT_EQ(rank.download<int>(p, 1)[0], count == 1 ? 2 : rank.rank % 2 ? 10 : 5);
      EXPECT_EQ(ncclCommFinalize(child), 0);
      EXPECT_EQ(ncclCommDestroy(child), 0);
    }
  });
}

// A rank that has called but is elsewhere when the other waits: it must not hang.
TEST_P(Nccl, WorkGoesOnWhileTheHostIsElsewhere) {
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  run(2, [=](Rank &rank) {
    void *p = rank.upload(std::vector<int>{rank.rank + 1});
    EXPECT_EQ(ncclAllReduce(p, p, 1, ncclInt32, ncclSum, rank.comm, rank.stream), 0);
    char go = 'x';
    if (rank.rank == 0) {
      EXPECT_EQ(rank.download<int>(p, 1)[0], 3); // rank 1 does not look after its stream
      EXPECT_EQ(write(pipes[1], &go, 1), 1);
    } else {
      EXPECT_EQ(read(pipes[0], &go, 1), 1);
      EXPECT_EQ(rank.download<int>(p, 1)[0], 3);
    }
  });
}

TEST_P(Nccl, NotBlocking) {
  run(
      2,
      [](Rank &rank) {
        NcclConfig config{};
        config.size = sizeof config;
        config.magic = ncclConfigMagic;
        config.version = ncclVersion;
        config.blocking = 0;
        config.cgaClusterSize = config.minCTAs = config.maxCTAs = config.splitShare =
            config.trafficClass = config.collnetEnable = config.CTAPolicy = config.shrinkShare =
                config.nvlsCTAs = config.nChannelsPerNetPeer = config.nvlinkCentricSched =
                    ncclUndefinedInt;
        config.commName = "quick";
        void *comm = nullptr;
        EXPECT_EQ(ncclCommInitRankConfig(&comm, 2, rank.id, rank.rank, &config), ncclInProgress);
        ASSERT_NE(comm, nullptr);
        auto settle = [&] {
          int error = ncclInProgress;
          while (error == ncclInProgress)
            ASSERT_EQ(ncclCommGetAsyncError(comm, &error), 0);
          EXPECT_EQ(error, ncclSuccess);
        };
        settle();
        void *p = rank.upload(std::vector<int>{rank.rank + 1});
        EXPECT_EQ(ncclAllReduce(p, p, 1, ncclInt32, ncclSum, comm, rank.stream), ncclInProgress);
        settle();
        EXPECT_EQ(rank.download<int>(p, 1)[0], 3);
        EXPECT_EQ(ncclCommFinalize(comm), ncclInProgress);
        settle();
        EXPECT_EQ(ncclCommDestroy(comm), 0);
      },
      {}, false);
}

// One rank fails: the other learns of it and aborts; nobody hangs and nothing is reported.
TEST_P(Nccl, Abort) {
  run(2, [](Rank &rank) {
    void *p = rank.upload(std::vector<int>{rank.rank + 1});
    rank.wait();
    if (rank.rank == 1) {
      EXPECT_EQ(ncclCommAbort(rank.comm), 0);
      rank.comm = nullptr;
      return;
    }
    EXPECT_EQ(ncclAllReduce(p, p, 1, ncclInt32, ncclSum, rank.comm, rank.stream), 0);
    int error = ncclSuccess;
    while (error == ncclSuccess) {
      cuStreamQuery(rank.stream);
      ASSERT_EQ(ncclCommGetAsyncError(rank.comm, &error), 0);
    }
    EXPECT_EQ(error, ncclRemoteError);
    EXPECT_NE(std::string(ncclGetLastError(rank.comm)).find("rank 1"), std::string::npos);
    EXPECT_EQ(ncclAllReduce(p, p, 1, ncclInt32, ncclSum, rank.comm, rank.stream), ncclRemoteError);
    EXPECT_EQ(ncclCommAbort(rank.comm), 0);
    rank.comm = nullptr;
    rank.wait(); // what was under way has ended
  });
}

// One thread, all devices.
TEST(NcclAll, OneThread) {
  for (const char *completion : {"late", "early", "random"})
    EXPECT_TRUE(isClean(inProcess(
        [] {
          void *comms[3];
          ASSERT_EQ(ncclCommInitAll(comms, 3, nullptr), 0);
          std::vector<Rank> ranks(3);
          std::vector<void *> data;
          for (int r = 0; r < 3; ++r) {
            ranks[size_t(r)].device(r);
            data.push_back(ranks[size_t(r)].upload(std::vector<int>{r + 1, 10}));
          }
          EXPECT_EQ(ncclGroupStart(), 0);
          for (int r = 0; r < 3; ++r)
            EXPECT_EQ(ncclAllReduce(data[size_t(r)], data[size_t(r)], 2, ncclInt32, ncclSum,
                                    comms[r], ranks[size_t(r)].stream),
                      0);
          EXPECT_EQ(ncclGroupEnd(), 0);
          void *children[3];
          EXPECT_EQ(ncclGroupStart(), 0);
          for (int r = 0; r < 3; ++r)
            EXPECT_EQ(ncclCommSplit(comms[r], r == 2, r, &children[r], nullptr), 0);
          EXPECT_EQ(ncclGroupEnd(), 0);
          for (int r = 0; r < 3; ++r) {
            EXPECT_EQ(ranks[size_t(r)].download<int>(data[size_t(r)], 2),
                      (std::vector<int>{6, 30}));
            int count = 0;
            EXPECT_EQ(ncclCommCount(children[r], &count), 0);
            EXPECT_EQ(count, r == 2 ? 1 : 2);
            EXPECT_EQ(ncclCommDestroy(children[r]), 0);
          }
          for (int r = 0; r < 3; ++r) {
            EXPECT_EQ(ncclCommDestroy(comms[r]), 0);
            ranks[size_t(r)].leave();
          }
        },
        {{"SOFTWARE_GPU_DEVICES", "3"}, {"SOFTWARE_GPU_COMPLETION", completion}})));
}

// As launchers do it: rank 0 makes the id and sends it to the others.
TEST(NcclAll, IdFromRankZero) {
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  std::vector<std::function<void()>> processes;
  for (int r = 0; r < 2; ++r)
    processes.push_back([=] {
      Rank rank;
      rank.rank = r, rank.ranks = 2;
      rank.device(r);
      if (r == 0) {
        EXPECT_EQ(ncclGetUniqueId(&rank.id), 0);
        EXPECT_EQ(write(pipes[1], &rank.id, sizeof rank.id), ssize_t(sizeof rank.id));
      } else {
        EXPECT_EQ(read(pipes[0], &rank.id, sizeof rank.id), ssize_t(sizeof rank.id));
      }
      rank.join();
      std::vector<float> big(300000, float(r + 1));
      void *p = rank.upload(big);
      EXPECT_EQ(ncclAllReduce(p, p, big.size(), ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
      EXPECT_EQ(rank.download<float>(p, big.size()), std::vector<float>(big.size(), 3.0f));
      rank.leave();
    });
  for (const Outcome &outcome : inProcesses(processes, {{"SOFTWARE_GPU_DEVICES", "2"}}))
    EXPECT_TRUE(isClean(outcome));
}

TEST(NcclAll, MemoryAndRegistration) {
  EXPECT_TRUE(isClean(inProcess([] {
    Rank rank;
    ASSERT_EQ(ncclGetUniqueId(&rank.id), 0);
    rank.device(0);
    rank.join();
    void *p = nullptr, *registration = nullptr;
    EXPECT_EQ(ncclMemAlloc(&p, 1000), 0);
    EXPECT_EQ(ncclCommRegister(rank.comm, p, 1000, &registration), 0);
    EXPECT_EQ(cuMemsetD32_v2(CUdeviceptr(p), 7, 250), 0);
    EXPECT_EQ(ncclAllReduce(p, p, 250, ncclInt32, ncclSum, rank.comm, nullptr), 0);
    std::vector<int> got(250);
    EXPECT_EQ(cuMemcpyDtoH_v2(got.data(), CUdeviceptr(p), 1000),
              0); // the default stream orders them
    EXPECT_EQ(got, std::vector<int>(250, 7));
    EXPECT_EQ(ncclCommDeregister(rank.comm, registration), 0);
    EXPECT_EQ(ncclMemFree(p), 0);
    int version = 0;
    EXPECT_EQ(ncclGetVersion(&version), 0);
    EXPECT_EQ(version, ncclVersion);
    for (int result = 0; result < 8; ++result)
      EXPECT_STRNE(ncclGetErrorString(result), ncclGetErrorString(99));
    rank.leave();
  })));
}

// NVLink SHARP sums in an order of its own, the same for all ranks, unless it is switched off.
TEST(Nccl, SumsWithinTheSwitchHaveNoOrder) {
  auto sumsOf = [](const char *seed, const char *enable) {
    auto outcomes = everyRank(
        Mode::Processes, 3,
        [](Rank &rank) {
          const float values[] = {1e8f, 1, -1e8f};
          std::vector<float> mine(8, values[rank.rank]);
          std::string text;
          for (int turn = 0; turn < 4; ++turn) {
            void *p = rank.upload(mine);
            EXPECT_EQ(ncclAllReduce(p, p, 8, ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
            text += std::to_string(rank.download<float>(p, 8)[0]) + " ";
          }
          std::printf("%s\n", text.c_str());
        },
        {{"SOFTWARE_GPU_SEED", seed}, {"NCCL_NVLS_ENABLE", enable}});
    for (const Outcome &outcome : outcomes) {
      EXPECT_TRUE(isClean(outcome));
      EXPECT_EQ(outcome.text, outcomes[0].text);
    }
    return outcomes[0].text;
  };
  std::string off = sumsOf("1", "0"), on = sumsOf("1", "1");
  EXPECT_EQ(off, "0.000000 0.000000 0.000000 0.000000 \n");
  EXPECT_EQ(sumsOf("2", "0"), off);
  bool differs = on != off;
  for (const char *seed : {"2", "3", "4", "5"})
    differs |= sumsOf(seed, "1") != on;
  EXPECT_TRUE(differs);
}

} // namespace
