//===- ThreadsTest.cpp - Programs of several threads ------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CudaTest.h"

#include <thread>

using namespace sgpu::cudatest;

namespace {

/// Eight threads, on two devices: each allocates, copies, launches, waits and captures in its own
/// stream. Errors end the process.
void work(unsigned t) {
  CUcontext context;
  MUST(cuDevicePrimaryCtxRetain(&context, int(t % 2)));
  MUST(cuCtxSetCurrent(context));
  CUmodule module;
  MUST(cuModuleLoadData(&module, kernels));
  CUfunction fill, increment;
  MUST(cuModuleGetFunction(&fill, module, "fill"));
  MUST(cuModuleGetFunction(&increment, module, "increment"));
  CUstream s;
  CUevent e;
  MUST(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  MUST(cuEventCreate(&e, 0));
  unsigned n = 100 + t, calls = 0;
  unsigned *pinned;
  MUST(cuMemAllocHost_v2(reinterpret_cast<void **>(&pinned), n * 4));
  for (unsigned round = 0; round < 6; ++round) {
    CUdeviceptr p;
    MUST(cuMemAllocAsync(&p, n * 4, s));
    unsigned value = t * 100 + round;
    MUST(launch(fill, 2, 64, s, {&p, &value, &n}));
    MUST(cuEventRecord(e, s));
    CUgraph graph;
    CUgraphExec exec;
    MUST(cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    MUST(launch(increment, 2, 64, s, {&p, &n}));
    MUST(cuLaunchHostFunc(s, [](void *c) { ++*static_cast<unsigned *>(c); }, &calls));
    MUST(cuStreamEndCapture(s, &graph));
    MUST(cuGraphInstantiateWithFlags(&exec, graph, 0));
    MUST(cuGraphLaunch(exec, s));
    MUST(cuGraphLaunch(exec, s));
    MUST(cuMemcpyDtoHAsync_v2(pinned, p, n * 4, s));
    MUST(cuMemFreeAsync(p, s));
    MUST(cuEventSynchronize(e));
    MUST(cuStreamSynchronize(s));
    for (unsigned i = 0; i < n; ++i)
      WANT(pinned[i] == value + 2);
    WANT(calls == 2 * (round + 1));
    MUST(cuGraphExecDestroy(exec));
    MUST(cuGraphDestroy(graph));
  }
  MUST(cuMemFreeHost(pinned));
  MUST(cuEventDestroy_v2(e));
  MUST(cuStreamDestroy_v2(s));
  MUST(cuModuleUnload(module));
  MUST(cuDevicePrimaryCtxRelease_v2(int(t % 2)));
}

TEST(Threads, EachWithAStreamOfItsOwn) {
  for (const char *completion : {"late", "random"})
    CLEAN_WITH(completion, [] {
      std::vector<std::thread> threads;
      for (unsigned t = 0; t < 8; ++t)
        threads.emplace_back(work, t);
      for (std::thread &t : threads)
        t.join();
    });
}

} // namespace
