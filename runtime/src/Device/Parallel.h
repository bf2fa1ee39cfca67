//===- Parallel.h - Loops over the threads of one rank ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DEVICE_PARALLEL_H
#define LLRT_DEVICE_PARALLEL_H

#include "llrt/Kernels.h"

namespace llrt {

// Splits [0, n) into one contiguous part per thread and runs `body` on each part, on this
// thread and `threads - 1` others of libgomp; returns when all are done. `grain` is the least
// number of rows worth a thread of its own (at least 1). Ranks that are threads share the
// cores, each with a number of threads of its own.
void parallelFor(int64_t threads, LlrtLoopBody body, void **args, int64_t n, int64_t grain);

} // namespace llrt
#endif // LLRT_DEVICE_PARALLEL_H
