//===- ChecksTest.cpp - Programs with one fault, and their right twins ------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ranks.h"

namespace {
using namespace sgpu::test;
using Words = std::vector<std::string>;

class NcclChecks : public testing::TestWithParam<Mode> {
protected:
  /// The body with `faulty` = true must be reported by all processes with these words, the twin by
  /// none. Where ranks are processes `only` is the one whose report is looked at (-1: all).
  void both(int ranks, const std::function<void(Rank &, bool faulty)> &body, const Words &words,
            int only = -1, Environment environment = {}, bool join = true) {
    for (const Outcome &outcome :
         everyRank(GetParam(), ranks, [&](Rank &r) { body(r, false); }, environment, join))
      EXPECT_TRUE(isClean(outcome));
    auto outcomes =
        everyRank(GetParam(), ranks, [&](Rank &r) { body(r, true); }, environment, join);
    for (size_t i = 0; i < outcomes.size(); ++i)
      if (only < 0 || outcomes.size() == 1 || int(i) == only)
        EXPECT_TRUE(isReported(outcomes[i], words)) << "process " << i;
  }
};
INSTANTIATE_TEST_SUITE_P(All, NcclChecks, testing::Values(Mode::Threads, Mode::Processes),
                         [](const auto &info) { return std::string(nameOf(info.param)); });

/// Ends the work of a rank whose context may have failed.
void giveUp(Rank &rank, bool faulty) {
  if (!faulty)
    return rank.wait();
  EXPECT_NE(cuStreamSynchronize(rank.stream), 0);
  EXPECT_EQ(ncclCommAbort(rank.comm), 0);
  rank.comm = nullptr;
}

//===----------------------------------------------------------------------===//
// Ranks that disagree
//===----------------------------------------------------------------------===//

TEST_P(NcclChecks, Count) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<float>(100, 1.0f));
         size_t count = faulty && rank.rank ? 99 : 100;
         EXPECT_EQ(ncclAllReduce(p, p, count, ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
         giveUp(rank, faulty);
       },
       {"argument: ranks disagree in collective 1 of the communicator of 2 ranks",
        "rank 0 (process ", "calls ncclAllReduce of 100 ncclFloat32 with ncclSum, rank 1 (process ",
        "ncclAllReduce of 99 ncclFloat32"});
}

TEST_P(NcclChecks, Type) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<float>(100, 1.0f));
         EXPECT_EQ(ncclAllReduce(p, p, 100, faulty && rank.rank ? ncclInt32 : ncclFloat32, ncclSum,
                                 rank.comm, rank.stream),
                   0);
         giveUp(rank, faulty);
       },
       {"calls ncclAllReduce of 100 ncclFloat32 with ncclSum, rank 1",
        "calls ncclAllReduce of 100 ncclInt32"});
}

TEST_P(NcclChecks, Operation) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<float>(100, 1.0f));
         EXPECT_EQ(ncclAllReduce(p, p, 100, ncclFloat32, faulty && rank.rank ? ncclMax : ncclSum,
                                 rank.comm, rank.stream),
                   0);
         giveUp(rank, faulty);
       },
       {"with ncclSum, rank 1", "with ncclMax"});
}

TEST_P(NcclChecks, Root) {
  both(3,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<float>(100, 1.0f));
         EXPECT_EQ(ncclBroadcast(p, p, 100, ncclFloat32, faulty && rank.rank == 2 ? 1 : 0,
                                 rank.comm, rank.stream),
                   0);
         giveUp(rank, faulty);
       },
       {"calls ncclBroadcast of 100 ncclFloat32, root 0, rank 2",
        "calls ncclBroadcast of 100 ncclFloat32, root 1"});
}

TEST_P(NcclChecks, Order) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<float>(4, 1.0f)),
              *q = rank.upload(std::vector<float>(8, 1.0f));
         for (int i = 0; i < 2; ++i) {
           int status = (i == 0) != (faulty && rank.rank)
                            ? ncclAllReduce(p, p, 4, ncclFloat32, ncclSum, rank.comm, rank.stream)
                            : ncclAllGather(p, q, 4, ncclFloat32, rank.comm, rank.stream);
           if (!faulty || i == 0) // the second one may come when the fault of the first is known
             EXPECT_EQ(status, 0);
         }
         giveUp(rank, faulty);
       },
       {"calls ncclAllReduce of 4 ncclFloat32 with ncclSum, rank 1",
        "calls ncclAllGather of 4 ncclFloat32"});
}

TEST_P(NcclChecks, MessageCount) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<float>(10, 1.0f));
         if (rank.rank == 0)
           EXPECT_EQ(ncclSend(p, faulty ? 9 : 10, ncclFloat32, 1, rank.comm, rank.stream), 0);
         else
           EXPECT_EQ(ncclRecv(p, 10, ncclFloat32, 0, rank.comm, rank.stream), 0);
         giveUp(rank, faulty);
       },
       {"ranks disagree in message 1", "calls ncclSend of 9 ncclFloat32 to rank 1, rank 1",
        "calls ncclRecv of 10 ncclFloat32 from rank 0"});
}

//===----------------------------------------------------------------------===//
// Ranks that never come
//===----------------------------------------------------------------------===//

TEST_P(NcclChecks, Hang) {
  for (const Outcome &outcome : everyRank(
           GetParam(), 2,
           [](Rank &rank) {
             void *p = rank.upload(std::vector<float>(100, 1.0f));
             if (rank.rank == 0) {
               EXPECT_EQ(ncclAllReduce(p, p, 100, ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
             } else {
               EXPECT_EQ(ncclRecv(p, 7, ncclFloat32, 0, rank.comm, rank.stream), 0);
             }
             rank.wait();
           },
           {{"SOFTWARE_GPU_TIMEOUT", "1"}}))
    EXPECT_TRUE(isReported(
        outcome,
        {"deadlock: nothing has come for 1 s (SOFTWARE_GPU_TIMEOUT) in the communicator of 2 ranks",
         "other: rank 0 (process ",
         "waits in ncclAllReduce of 100 ncclFloat32 with ncclSum (its collective 1)",
         "other: rank 1 (process ", "waits in ncclRecv of 7 ncclFloat32 from rank 0"}));
}

// Both send first: allowed in a group, or one after the other, a deadlock else.
TEST_P(NcclChecks, SendsWithoutGroup) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<float>(10, 1.0f)), *q = rank.allocate(40);
         if (!faulty)
           EXPECT_EQ(ncclGroupStart(), 0);
         EXPECT_EQ(ncclSend(p, 10, ncclFloat32, 1 - rank.rank, rank.comm, rank.stream), 0);
         EXPECT_EQ(ncclRecv(q, 10, ncclFloat32, 1 - rank.rank, rank.comm, rank.stream), 0);
         if (!faulty)
           EXPECT_EQ(ncclGroupEnd(), 0);
         rank.wait();
       },
       {"deadlock:", "waits in ncclSend of 10 ncclFloat32 to rank 1",
        "waits in ncclSend of 10 ncclFloat32 to rank 0"},
       -1, {{"SOFTWARE_GPU_TIMEOUT", "2"}});
}

TEST_P(NcclChecks, RankNeverJoins) {
  both(
      2,
      [](Rank &rank, bool faulty) {
        if (faulty && rank.rank == 1) {
          sleep(3);
          return;
        }
        rank.join();
      },
      {"deadlock: no rank has come for 1 s", "call ncclCommInitRank", "rank 0 (process ",
       "has joined", "rank 1, has not joined"},
      0, {{"SOFTWARE_GPU_TIMEOUT", "1"}}, false);
}

// A process that ends while others wait for it.
TEST(NcclProcesses, RankEnds) {
  for (bool faulty : {false, true}) {
    auto outcomes = everyRank(
        Mode::Processes, 2,
        [=](Rank &rank) {
          void *p = rank.upload(std::vector<float>(100, 1.0f));
          if (faulty && rank.rank == 1)
            _exit(0);
          EXPECT_EQ(ncclAllReduce(p, p, 100, ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
          rank.wait();
        },
        {{"SOFTWARE_GPU_TIMEOUT", "2"}});
    if (!faulty)
      EXPECT_TRUE(isClean(outcomes[0]));
    else
      EXPECT_TRUE(isReported(outcomes[0],
                             {"device 1) has ended while rank 0", "waits in ncclAllReduce of 100",
                              "the communicator was not aborted", "its process has ended"}));
  }
}

TEST_P(NcclChecks, RankDestroysTooEarly) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<float>(100, 1.0f));
         if (!faulty || rank.rank == 0)
           EXPECT_EQ(ncclAllReduce(p, p, 100, ncclFloat32, ncclSum, rank.comm, rank.stream), 0);
         if (rank.rank == 0)
           rank.wait();
         else if (faulty) {
           EXPECT_EQ(ncclCommDestroy(rank.comm), 0);
           rank.comm = nullptr;
         }
       },
       {"has destroyed its communicator while rank 0", "waits in ncclAllReduce of 100 ncclFloat32"},
       0, {{"SOFTWARE_GPU_TIMEOUT", "1"}});
}

//===----------------------------------------------------------------------===//
// Calls that are refused
//===----------------------------------------------------------------------===//

TEST_P(NcclChecks, TwoRanksOnOneDevice) {
  for (bool faulty : {false, true}) {
    NcclUniqueId id;
    ASSERT_EQ(ncclGetUniqueId(&id), 0);
    auto outcomes = everyRank(
        GetParam(), 2,
        [=](Rank &rank) {
          if (faulty)
            rank.device(0); // instead of that of the rank
          int status = ncclCommInitRank(&rank.comm, 2, id, rank.rank);
          EXPECT_EQ(status, faulty ? ncclInvalidUsage : ncclSuccess);
          EXPECT_EQ(rank.comm == nullptr, faulty);
        },
        {}, false);
    for (const Outcome &outcome : outcomes)
      if (faulty)
        EXPECT_TRUE(isReported(outcome, {"argument: ranks 0 and 1 are both on device 0"}));
      else
        EXPECT_TRUE(isClean(outcome));
  }
}

// Devices of other machines have the same numbers.
TEST(NcclProcesses, MachinesByHostId) {
  NcclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), 0);
  for (const Outcome &outcome : everyRank(
           Mode::Processes, 2,
           [=](Rank &rank) {
             setenv("NCCL_HOSTID", rank.rank ? "second" : "first", 1);
             cuStreamDestroy_v2(rank.stream);
             rank.device(0);
             EXPECT_EQ(ncclCommInitRank(&rank.comm, 2, id, rank.rank), ncclSuccess);
           },
           {}, false))
    EXPECT_TRUE(isClean(outcome));
}

TEST_P(NcclChecks, RanksDisagreeAboutTheirNumber) {
  both(
      2,
      [](Rank &rank, bool faulty) {
        if (faulty && rank.rank == 1) {
          EXPECT_EQ(ncclCommInitRank(&rank.comm, 3, rank.id, 1), ncclInvalidUsage);
        } else if (faulty) {
          EXPECT_NE(ncclCommInitRank(&rank.comm, 2, rank.id, 0), ncclSuccess);
        } else {
          rank.join();
        }
      },
      {"rank 1 is one of 3 ranks, rank 0 one of 2"}, 1, {}, false);
}

/// Calls of one rank that are refused at once, each with its right twin.
struct Refusal {
  const char *name;
  std::function<int(Rank &, bool faulty)> call; ///< the status of the call in question
  int status;
  Words words;
};
const std::vector<Refusal> &refusals() {
  static const std::vector<Refusal> all = {
      {"Root",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4));
         return ncclBroadcast(p, p, 4, ncclFloat32, faulty ? 1 : 0, r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"root 1 is not in the communicator of 1 rank"}},
      {"Peer",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4)), *q = r.allocate(16);
         ncclGroupStart();
         int status = ncclSend(p, 4, ncclFloat32, faulty ? -1 : 0, r.comm, r.stream);
         if (!faulty)
           ncclRecv(q, 4, ncclFloat32, 0, r.comm, r.stream);
         int end = ncclGroupEnd();
         EXPECT_EQ(status, end); // the group says it again
         return end;
       },
       ncclInvalidArgument,
       {"peer -1 is not in"}},
      {"Type",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4));
         return ncclAllReduce(p, p, 4, faulty ? 12 : ncclFloat32, ncclSum, r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"type 12 does not exist"}},
      {"Op",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4));
         float half = 0.5f;
         int op;
         EXPECT_EQ(
             ncclRedOpCreatePreMulSum(&op, &half, ncclFloat32, ncclScalarHostImmediate, r.comm), 0);
         if (faulty)
           EXPECT_EQ(ncclRedOpDestroy(op, r.comm), 0);
         return ncclAllReduce(p, p, 4, ncclFloat32, op, r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"operation 5 does not exist for this communicator"}},
      {"OpType",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4));
         float half = 0.5f;
         int op;
         EXPECT_EQ(
             ncclRedOpCreatePreMulSum(&op, &half, ncclFloat32, ncclScalarHostImmediate, r.comm), 0);
         return ncclAllReduce(p, p, 4, faulty ? ncclInt32 : ncclFloat32, op, r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"the scalar of the premultiplied sum has another type"}},
      {"Null",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4));
         return ncclAllReduce(p, faulty ? nullptr : p, 4, ncclFloat32, ncclSum, r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"recvbuff is null"}},
      {"HostMemory",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4)), *pinned = nullptr;
         static float host[4];
         EXPECT_EQ(cuMemAllocHost_v2(&pinned, 16), 0);
         int status =
             ncclAllReduce(p, faulty ? host : pinned, 4, ncclFloat32, ncclSum, r.comm, r.stream);
         r.wait();
         EXPECT_EQ(cuMemFreeHost(pinned), 0);
         return status;
       },
       ncclInvalidArgument,
       {"recvbuff is not memory of a device"}},
      {"OtherDevice",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4));
         CUcontext other, old;
         EXPECT_EQ(cuDevicePrimaryCtxRetain(&other, 1), 0);
         EXPECT_EQ(cuCtxPushCurrent_v2(faulty ? other : r.context), 0);
         CUdeviceptr q;
         EXPECT_EQ(cuMemAlloc_v2(&q, 16), 0);
         EXPECT_EQ(cuCtxPopCurrent_v2(&old), 0);
         int status = ncclAllReduce(p, reinterpret_cast<void *>(q), 4, ncclFloat32, ncclSum, r.comm,
                                    r.stream);
         r.wait();
         EXPECT_EQ(cuMemFree_v2(q), 0);
         return status;
       },
       ncclInvalidArgument,
       {"recvbuff is memory of device 1, the communicator of 1 rank is on device 0"}},
      {"OtherStream",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4));
         CUcontext other, old;
         EXPECT_EQ(cuDevicePrimaryCtxRetain(&other, 1), 0);
         EXPECT_EQ(cuCtxPushCurrent_v2(other), 0);
         CUstream s;
         EXPECT_EQ(cuStreamCreate(&s, 0), 0);
         EXPECT_EQ(cuCtxPopCurrent_v2(&old), 0);
         int status = ncclAllReduce(p, p, 4, ncclFloat32, ncclSum, r.comm, faulty ? s : r.stream);
         EXPECT_EQ(cuStreamDestroy_v2(s), 0);
         return status;
       },
       ncclUnhandledCudaError,
       {"the stream is of device 1, the communicator of 1 rank of device 0"}},
      {"Misaligned",
       [](Rank &r, bool faulty) {
         char *p = static_cast<char *>(r.upload(std::vector<float>(8)));
         return ncclAllReduce(p + (faulty ? 2 : 4), p + (faulty ? 2 : 4), 4, ncclFloat32, ncclSum,
                              r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"misaligned: sendbuff is not at a multiple of 4 bytes"}},
      {"InPlaceAllReduce",
       [](Rank &r, bool faulty) {
         float *p = static_cast<float *>(r.upload(std::vector<float>(8)));
         return ncclAllReduce(p, p + (faulty ? 1 : 4), 4, ncclFloat32, ncclSum, r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"sendbuff and recvbuff share bytes; in place is sendbuff = recvbuff"}},
      {"InPlaceAllGather",
       [](Rank &r, bool faulty) {
         float *p = static_cast<float *>(r.upload(std::vector<float>(8)));
         return ncclAllGather(p + (faulty ? 1 : 0), p, 4, ncclFloat32, r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"in place is sendbuff = recvbuff + rank * count elements"}},
      {"InPlaceReduceScatter",
       [](Rank &r, bool faulty) {
         float *p = static_cast<float *>(r.upload(std::vector<float>(8)));
         return ncclReduceScatter(p, p + (faulty ? 1 : 0), 4, ncclFloat32, ncclSum, r.comm,
                                  r.stream);
       },
       ncclInvalidArgument,
       {"in place is recvbuff = sendbuff + rank * count elements"}},
      {"InPlaceAlltoAll",
       [](Rank &r, bool faulty) {
         float *p = static_cast<float *>(r.upload(std::vector<float>(8)));
         return ncclAlltoAll(p, p + (faulty ? 0 : 4), 4, ncclFloat32, r.comm, r.stream);
       },
       ncclInvalidArgument,
       {"in place is not possible"}},
      {"GroupOverlap",
       [](Rank &r, bool faulty) {
         float *p = static_cast<float *>(r.upload(std::vector<float>(8)));
         ncclGroupStart();
         EXPECT_EQ(ncclAllReduce(p, p, 4, ncclFloat32, ncclSum, r.comm, r.stream), 0);
         EXPECT_EQ(ncclAllReduce(p + (faulty ? 3 : 4), p + (faulty ? 3 : 4), 4, ncclFloat32,
                                 ncclSum, r.comm, r.stream),
                   0);
         return ncclGroupEnd();
       },
       ncclInvalidArgument,
       {"writes bytes that another call of the group touches"}},
      {"SendToSelf",
       [](Rank &r, bool faulty) {
         float *p = static_cast<float *>(r.upload(std::vector<float>(8)));
         ncclGroupStart();
         EXPECT_EQ(ncclSend(p, 4, ncclFloat32, 0, r.comm, r.stream), 0);
         if (!faulty)
           EXPECT_EQ(ncclRecv(p + 4, 4, ncclFloat32, 0, r.comm, r.stream), 0);
         return ncclGroupEnd();
       },
       ncclInvalidUsage,
       {"rank 0 sends to itself without receiving in the same group"}},
      {"GroupEnd",
       [](Rank &, bool faulty) {
         if (!faulty)
           ncclGroupStart();
         return ncclGroupEnd();
       },
       ncclInvalidUsage,
       {"there was no ncclGroupStart"}},
      {"Finalized",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4));
         if (faulty)
           EXPECT_EQ(ncclCommFinalize(r.comm), 0);
         return ncclAllReduce(p, p, 4, ncclFloat32, ncclSum, r.comm, r.stream);
       },
       ncclInvalidUsage,
       {"the communicator was finalized"}},
      {"Destroyed",
       [](Rank &r, bool faulty) {
         void *comm = r.comm;
         if (faulty)
           EXPECT_EQ(ncclCommDestroy(comm), 0);
         int status = ncclCommDestroy(comm);
         r.comm = nullptr;
         return status;
       },
       ncclInvalidArgument,
       {"not a communicator, or one that was destroyed"}},
      {"SecondUseOfId",
       [](Rank &r, bool faulty) {
         NcclUniqueId id;
         EXPECT_EQ(ncclGetUniqueId(&id), 0);
         void *comm = nullptr;
         int status = ncclCommInitRank(&comm, 1, faulty ? r.id : id, 0);
         if (comm)
           EXPECT_EQ(ncclCommDestroy(comm), 0);
         return status;
       },
       ncclInvalidUsage,
       {"rank 0 has joined with this unique id before"}},
      {"ForeignId",
       [](Rank &r, bool faulty) {
         NcclUniqueId id;
         EXPECT_EQ(ncclGetUniqueId(&id), 0);
         if (faulty)
           std::memset(&id, 0, sizeof id);
         void *comm = nullptr;
         int status = ncclCommInitRank(&comm, 1, id, 0);
         if (comm)
           EXPECT_EQ(ncclCommDestroy(comm), 0);
         return status;
       },
       ncclInvalidArgument,
       {"the unique id was not made by ncclGetUniqueId"}},
      {"Config",
       [](Rank &r, bool faulty) {
         NcclConfig config{};
         config.size = sizeof config;
         config.magic = faulty ? 0 : ncclConfigMagic;
         config.blocking = 1;
         config.cgaClusterSize = config.minCTAs = config.maxCTAs = config.splitShare =
             config.trafficClass = config.collnetEnable = config.CTAPolicy = config.shrinkShare =
                 config.nvlsCTAs = config.nChannelsPerNetPeer = config.nvlinkCentricSched =
                     ncclUndefinedInt;
         void *child = nullptr;
         int status = ncclCommSplit(r.comm, 0, 0, &child, &config);
         if (child)
           EXPECT_EQ(ncclCommDestroy(child), 0);
         return status;
       },
       ncclInvalidArgument,
       {"the configuration was not made with NCCL_CONFIG_INITIALIZER"}},
      {"Color",
       [](Rank &r, bool faulty) {
         void *child = nullptr;
         int status = ncclCommSplit(r.comm, faulty ? -2 : -1, 0, &child, nullptr);
         EXPECT_EQ(child, nullptr);
         return status;
       },
       ncclInvalidArgument,
       {"color -2, expected 0 or more or NCCL_SPLIT_NOCOLOR"}},
      {"NotReady",
       [](Rank &r, bool faulty) {
         NcclConfig config{};
         config.size = sizeof config;
         config.magic = ncclConfigMagic;
         config.cgaClusterSize = config.minCTAs = config.maxCTAs = config.splitShare =
             config.trafficClass = config.collnetEnable = config.CTAPolicy = config.shrinkShare =
                 config.nvlsCTAs = config.nChannelsPerNetPeer = config.nvlinkCentricSched =
                     ncclUndefinedInt;
         void *child = nullptr, *p = r.upload(std::vector<float>(4)); // blocking = 0
         EXPECT_EQ(ncclCommSplit(r.comm, 0, 0, &child, &config), ncclInProgress);
         int error = ncclInProgress;
         while (!faulty && error == ncclInProgress)
           ncclCommGetAsyncError(child, &error);
         int status = ncclAllReduce(p, p, 4, ncclFloat32, ncclSum, child, r.stream);
         EXPECT_EQ(ncclCommDestroy(child), 0);
         return status == ncclInProgress ? ncclSuccess : status;
       },
       ncclInvalidArgument,
       {"used before ncclCommGetAsyncError has said that the call before is complete"}},
      {"RedOpDestroy",
       [](Rank &r, bool faulty) {
         float half = 0.5f;
         int op;
         EXPECT_EQ(
             ncclRedOpCreatePreMulSum(&op, &half, ncclFloat32, ncclScalarHostImmediate, r.comm), 0);
         return ncclRedOpDestroy(faulty ? ncclSum : op, r.comm);
       },
       ncclInvalidArgument,
       {"an operation of the library cannot be destroyed"}},
      {"Deregister",
       [](Rank &r, bool faulty) {
         void *p = r.upload(std::vector<float>(4)), *registration = nullptr;
         EXPECT_EQ(ncclCommRegister(r.comm, p, 16, &registration), 0);
         return ncclCommDeregister(r.comm, faulty ? &registration : registration);
       },
       ncclInvalidArgument,
       {"not a registration of this communicator"}},
  };
  return all;
}
class NcclRefuses : public testing::TestWithParam<Refusal> {};
INSTANTIATE_TEST_SUITE_P(All, NcclRefuses, testing::ValuesIn(refusals()),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_P(NcclRefuses, WithItsStatus) {
  const Refusal &c = GetParam();
  for (bool faulty : {false, true}) {
    Outcome outcome = inProcess(
        [&] {
          Rank rank;
          EXPECT_EQ(ncclGetUniqueId(&rank.id), 0);
          rank.device(0);
          rank.join();
          EXPECT_EQ(c.call(rank, faulty), faulty ? c.status : int(ncclSuccess));
          rank.wait();
          if (faulty)
            EXPECT_NE(std::string(ncclGetLastError(nullptr)), "");
          rank.leave();
        },
        {{"SOFTWARE_GPU_DEVICES", "2"}});
    if (faulty)
      EXPECT_TRUE(isReported(outcome, c.words));
    else
      EXPECT_TRUE(isClean(outcome));
  }
}

TEST(NcclRefusesAll, EightBitSumsOnSm80) {
  for (const char *chip : {"sm_90", "sm_80"}) {
    bool faulty = std::string(chip) == "sm_80";
    Outcome outcome = inProcess(
        [=] {
          Rank rank;
          EXPECT_EQ(ncclGetUniqueId(&rank.id), 0);
          rank.device(0);
          rank.join();
          void *p = rank.upload(std::vector<char>(4));
          EXPECT_EQ(ncclAllReduce(p, p, 4, ncclFloat8e4m3, ncclSum, rank.comm, rank.stream),
                    faulty ? ncclInvalidArgument : ncclSuccess);
          rank.leave();
        },
        {{"SOFTWARE_GPU_CHIP", chip}});
    if (faulty)
      EXPECT_TRUE(isReported(outcome, {"reductions of 8-bit floating-point types need sm_90"}));
    else
      EXPECT_TRUE(isClean(outcome));
  }
}

//===----------------------------------------------------------------------===//
// Memory and streams
//===----------------------------------------------------------------------===//

TEST_P(NcclChecks, ResultReadBeforeItIsThere) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<int>{1, 2}), *q = rank.allocate(8);
         CUstream other;
         EXPECT_EQ(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING), 0);
         EXPECT_EQ(ncclAllReduce(p, q, 2, ncclInt32, ncclSum, rank.comm, rank.stream), 0);
         if (!faulty)
           rank.wait();
         int got[2] = {};
         EXPECT_EQ(cuMemcpyDtoHAsync_v2(got, CUdeviceptr(q), 8, other), 0);
         EXPECT_EQ(cuStreamSynchronize(other), 0);
         EXPECT_EQ(got[0] == 2 && got[1] == 4, !faulty); // it must not be there by chance
         rank.wait();
         EXPECT_EQ(cuStreamDestroy_v2(other), 0);
       },
       {"software-gpu: "});
}

TEST_P(NcclChecks, BufferTooSmall) {
  both(2,
       [](Rank &rank, bool faulty) {
         void *p = rank.upload(std::vector<int>{1, 2}), *q = rank.allocate(faulty ? 12 : 16);
         EXPECT_EQ(ncclAllGather(p, q, 2, ncclInt32, rank.comm, rank.stream), 0);
         giveUp(rank, faulty);
       },
       {"out-of-bounds", "call ncclAllGather"});
}

TEST_P(NcclChecks, NeverWritten) {
  both(2,
       [](Rank &rank, bool faulty) {
         int two[2] = {1, 2};
         void *p = faulty ? rank.allocate(8) : rank.upload(two, 8);
         EXPECT_EQ(ncclAllReduce(p, p, 2, ncclInt32, ncclSum, rank.comm, rank.stream), 0);
         rank.wait();
       },
       {"uninitialized", "call ncclAllReduce"});
}

} // namespace
