//===- Stream.h - A stream of the host --------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_HOST_STREAM_H
#define LLRT_HOST_STREAM_H

#include "src/Device/Parallel.h"

// What is launched on it is done by the calling thread and `threads - 1` others of
// libgomp before the launch returns. Ranks that are threads share the cores, each
// with a number of its own.
struct LlrtStream {
  int64_t threads = 1; // at least 1
};

namespace llrt {

// A loop on the threads of the stream.
inline void parallelFor(LlrtStream *stream, LlrtLoopBody body, void **args, int64_t n,
                        int64_t grain) {
  parallelFor(stream->threads, body, args, n, grain);
}

} // namespace llrt
#endif // LLRT_HOST_STREAM_H
