//===- Trace.h - When each block ran ---------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_MACHINE_TRACE_H
#define LLRT_MACHINE_TRACE_H

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace llrt {

// A record of block calls, written in Chrome's trace event format (JSON,
// complete events, microseconds), which chrome://tracing and ui.perfetto.dev
// show.
class Trace {
public:
  using Clock = std::chrono::steady_clock;

  // `block` must live as long as the trace. `microBatch` -1: belongs to none.
  void add(const std::string &block, int64_t microBatch,
           Clock::time_point begin, Clock::time_point end) {
    events.push_back({&block, step, microBatch, begin, end});
  }

  // Later events belong to step `number`.
  void setStep(int64_t number) { step = number; }

  // Throws Error if the file cannot be written.
  void write(const std::string &file) const;

private:
  struct Event {
    const std::string *block;
    int64_t step, microBatch;
    Clock::time_point begin, end;
  };
  std::vector<Event> events;
  int64_t step = 0;
};

} // namespace llrt
#endif // LLRT_MACHINE_TRACE_H
