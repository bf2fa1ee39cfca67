//===- Parallel.cpp - Loops over the threads of one rank ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The threads are those of libgomp, which oneDNN uses as well: a second pool
// would fight with it for the same cores. libgomp is called by its own entry
// points, because clang's -fopenmp would bring another OpenMP runtime.
//
//===----------------------------------------------------------------------===//
#include "src/Device/Parallel.h"

#include <algorithm>

// libgomp: runs fn(data) on `threads` threads, this one included, and waits.
extern "C" void GOMP_parallel(void (*fn)(void *), void *data, unsigned threads, unsigned flags);
extern "C" int omp_get_num_threads(void);
extern "C" int omp_get_thread_num(void);

namespace {
struct Loop {
  LlrtLoopBody body;
  void **args;
  int64_t n, parts;
};
} // namespace

// OpenMP may grant fewer threads than parts: each thread takes every
// `omp_get_num_threads()`-th part.
static void runParts(void *data) {
  auto &loop = *static_cast<Loop *>(data);
  // Part p is [start(p), start(p + 1)); the first n % parts have one row more.
  auto start = [&](int64_t part) {
    return part * (loop.n / loop.parts) + std::min(part, loop.n % loop.parts);
  };
  for (int64_t part = omp_get_thread_num(); part < loop.parts; part += omp_get_num_threads())
    loop.body(loop.args, start(part), start(part + 1));
}

void llrt::parallelFor(int64_t threads, LlrtLoopBody body, void **args, int64_t n, int64_t grain) {
  if (n <= 0)
    return;
  int64_t parts = std::clamp<int64_t>(n / std::max<int64_t>(grain, 1), 1, threads);
  if (parts == 1)
    return body(args, 0, n);
  Loop loop{body, args, n, parts};
  GOMP_parallel(runParts, &loop, parts, 0);
}
