//===- graph.cpp - A graph captured over two streams; the twin lacks an event ---===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Program.h"

// Two streams scale one vector each; the first then adds both. The twin joins the second stream
// after the addition, not before it.
int main(int argc, char **argv) {
  Gpu gpu;
  int n = 777;
  size_t bytes = n * sizeof(float);
  float two = 2, three = 3;
  CUdeviceptr da, db, dc;
  float *a, *b, *c;
  CHECK(cuMemAlloc(&da, bytes));
  CHECK(cuMemAlloc(&db, bytes));
  CHECK(cuMemAlloc(&dc, bytes));
  CHECK(cuMemAllocHost(reinterpret_cast<void **>(&a), bytes));
  CHECK(cuMemAllocHost(reinterpret_cast<void **>(&b), bytes));
  CHECK(cuMemAllocHost(reinterpret_cast<void **>(&c), bytes));
  CUstream first, second;
  CUevent fork, join, start, end;
  CHECK(cuStreamCreate(&first, CU_STREAM_NON_BLOCKING));
  CHECK(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING));
  CHECK(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
  CHECK(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
  CHECK(cuEventCreate(&start, CU_EVENT_DEFAULT));
  CHECK(cuEventCreate(&end, CU_EVENT_DEFAULT));
  CUfunction scale = gpu.kernel("scale"), add = gpu.kernel("add");
  unsigned blocks = unsigned(n + 127) / 128;

  CUgraph graph;
  CHECK(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECK(cuEventRecord(fork, first));
  CHECK(cuStreamWaitEvent(second, fork, 0));
  CHECK(cuMemcpyHtoDAsync(da, a, bytes, first));
  void *scaleA[] = {&da, &two, &n};
  CHECK(cuLaunchKernel(scale, blocks, 1, 1, 128, 1, 1, 0, first, scaleA, nullptr));
  CHECK(cuMemcpyHtoDAsync(db, b, bytes, second));
  void *scaleB[] = {&db, &three, &n};
  CHECK(cuLaunchKernel(scale, blocks, 1, 1, 128, 1, 1, 0, second, scaleB, nullptr));
  CHECK(cuEventRecord(join, second));
  if (!faulty(argc, argv))
    CHECK(cuStreamWaitEvent(first, join, 0));
  void *sum[] = {&da, &db, &dc, &n};
  CHECK(cuLaunchKernel(add, blocks, 1, 1, 128, 1, 1, 0, first, sum, nullptr));
  if (faulty(argc, argv))
    CHECK(cuStreamWaitEvent(first, join, 0));
  CHECK(cuMemcpyDtoHAsync(c, dc, bytes, first));
  CHECK(cuStreamEndCapture(first, &graph));
  CUgraphExec exec;
  CHECK(cuGraphInstantiate(&exec, graph, 0));

  int status = 0;
  CHECK(cuEventRecord(start, first));
  for (int round = 0; round < 3 && !status; ++round) {
    std::vector<float> want(n);
    for (int i = 0; i < n; ++i) {
      a[i] = float(i + round);
      b[i] = float(i % 10 - round);
      want[i] = 2 * a[i] + 3 * b[i];
    }
    CHECK(cuGraphLaunch(exec, first));
    CHECK(cuStreamSynchronize(first));
    status = compare(std::vector<float>(c, c + n), want);
  }
  CHECK(cuEventRecord(end, first));
  CHECK(cuEventSynchronize(end));
  float milliseconds;
  CHECK(cuEventElapsedTime(&milliseconds, start, end));
  if (!(milliseconds > 0)) {
    std::printf("the graph took %g ms\n", milliseconds);
    status = 1;
  }
  CHECK(cuGraphExecDestroy(exec));
  CHECK(cuGraphDestroy(graph));
  for (CUevent e : {fork, join, start, end})
    CHECK(cuEventDestroy(e));
  CHECK(cuStreamDestroy(first));
  CHECK(cuStreamDestroy(second));
  for (CUdeviceptr p : {da, db, dc})
    CHECK(cuMemFree(p));
  for (float *p : {a, b, c})
    CHECK(cuMemFreeHost(p));
  return status;
}
