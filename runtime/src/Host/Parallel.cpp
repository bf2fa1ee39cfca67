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
#include "Stream.h"

#include <algorithm>

// libgomp: runs fn(data) on `threads` threads, this one included, and waits.
extern "C" void GOMP_parallel(void (*fn)(void *), void *data, unsigned threads, unsigned flags);
extern "C" int omp_get_num_threads(void);
extern "C" int omp_get_thread_num(void);

namespace {
struct Loop {
  const LlrtKernel &kernel;
  void **args;
  int64_t parts;
};
} // namespace

// OpenMP may grant fewer threads than parts: each thread takes every
// `omp_get_num_threads()`-th part.
static void runParts(void *data) {
  auto &loop = *static_cast<Loop *>(data);
  // Part p is [start(p), start(p + 1)); the first n % parts have one row more.
  auto start = [&](int64_t part) {
    int64_t n = loop.kernel.n;
    return part * (n / loop.parts) + std::min(part, n % loop.parts);
  };
  for (int64_t part = omp_get_thread_num(); part < loop.parts; part += omp_get_num_threads())
    loop.kernel.body(loop.args, start(part), start(part + 1));
}

void llrt_launch(LlrtStream *stream, const LlrtKernel *kernel, void **args) {
  if (kernel->n <= 0)
    return;
  int64_t parts =
      std::clamp<int64_t>(kernel->n / std::max<int64_t>(kernel->grain, 1), 1, stream->threads);
  if (parts == 1)
    return kernel->body(args, 0, kernel->n);
  Loop loop{*kernel, args, parts};
  GOMP_parallel(runParts, &loop, parts, 0);
}
