//===- Ranks.h - Ranks in threads and in processes ------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_RANKS_H
#define SGPU_TEST_RANKS_H

#include "Child.h"
#include "abi/cuda.h"
#include "abi/nccl.h"

#include <cstring>
#include <thread>

namespace sgpu::abi {
extern "C" {
#define NCCL_FUNCTION(result, name, parameters) result name parameters;
#include "abi/nccl_functions.def"
#undef NCCL_FUNCTION
}
} // namespace sgpu::abi

namespace sgpu::test {
using namespace sgpu::abi;

enum class Mode { Threads, Processes };
inline const char *nameOf(Mode mode) { return mode == Mode::Threads ? "threads" : "processes"; }

/// What a rank has: a device, a stream, a communicator (unless it was not made).
struct Rank {
  int rank = 0, ranks = 1;
  NcclUniqueId id{};
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  void *comm = nullptr;
  std::vector<CUdeviceptr> memory;

  void device(int ordinal) {
    ASSERT_EQ(cuInit(0), 0);
    ASSERT_EQ(cuDevicePrimaryCtxRetain(&context, ordinal), 0);
    ASSERT_EQ(cuCtxSetCurrent(context), 0);
    ASSERT_EQ(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), 0);
  }
  void join() { EXPECT_EQ(ncclCommInitRank(&comm, ranks, id, rank), ncclSuccess); }
  void leave() {
    if (comm)
      EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
    for (CUdeviceptr p : memory)
      cuMemFree_v2(p);
    cuStreamDestroy_v2(stream);
  }
  void *allocate(size_t bytes) {
    CUdeviceptr p = 0;
    EXPECT_EQ(cuMemAlloc_v2(&p, bytes ? bytes : 1), 0);
    memory.push_back(p);
    return reinterpret_cast<void *>(p);
  }
  void *upload(const void *data, size_t bytes) {
    void *p = allocate(bytes);
    if (bytes)
      EXPECT_EQ(cuMemcpyHtoDAsync_v2(CUdeviceptr(p), data, bytes, stream), 0);
    return p;
  }
  template <typename T> void *upload(const std::vector<T> &data) {
    return upload(data.data(), data.size() * sizeof(T));
  }
  void wait() { EXPECT_EQ(cuStreamSynchronize(stream), 0); }
  template <typename T> std::vector<T> download(const void *p, size_t count) {
    std::vector<T> data(count);
    if (count)
      EXPECT_EQ(cuMemcpyDtoHAsync_v2(data.data(), CUdeviceptr(p), count * sizeof(T), stream), 0);
    wait();
    return data;
  }
};

/// Runs a body in every rank; its device is that of the rank. `join`: with a communicator of all.
inline std::vector<Outcome> everyRank(Mode mode, int ranks, const std::function<void(Rank &)> &body,
                                      Environment environment = {}, bool join = true) {
  environment.insert({"SOFTWARE_GPU_DEVICES", std::to_string(ranks)});
  environment.insert({"SOFTWARE_GPU_MEMORY", "256M"});
  environment.insert({"SOFTWARE_GPU_TIMEOUT", "60"});
  environment.insert({"NCCL_NVLS_ENABLE", "0"}); // sums have one order
  NcclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  auto one = [=](int r) {
    Rank rank;
    rank.rank = r;
    rank.ranks = ranks;
    rank.id = id;
    rank.device(r);
    if (join)
      rank.join();
    body(rank);
    rank.leave();
  };
  std::vector<std::function<void()>> processes;
  if (mode == Mode::Processes) {
    for (int r = 0; r < ranks; ++r)
      processes.push_back([=] { one(r); });
  } else {
    processes.push_back([=] {
      std::vector<std::thread> threads;
      for (int r = 0; r < ranks; ++r)
        threads.emplace_back(one, r);
      for (std::thread &t : threads)
        t.join();
    });
  }
  return inProcesses(processes, environment);
}

} // namespace sgpu::test

#endif
