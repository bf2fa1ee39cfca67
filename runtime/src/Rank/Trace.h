//===- Trace.h - What a rank did and when ----------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_RANK_TRACE_H
#define LLRT_RANK_TRACE_H

#include "src/Program/Program.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace llrt {

// A record of all that one rank did, in the order in which it was done: each
// entry of a program and each item of its runs.
class Trace {
public:
  // The same clock for all ranks of a machine.
  using Clock = std::chrono::steady_clock;

  struct Event {
    const Action *action;
    int64_t entry;           // in its program
    int64_t item = -1;       // in the graph of the entry, a run; -1: the entry itself
    int64_t microBatch = -1; // of a run and its items; -1: none
    Clock::time_point begin, end;
  };

  void add(const Event &event) { events.push_back({event, step}); }

  // Later events belong to step `number`.
  void setStep(int64_t number) { step = number; }

  // The events as lines of Chrome's trace event format (JSON, complete events,
  // microseconds): a process for the rank, a thread for each stream. `args` has
  // step, entry, item, do, micro_batch, communicator, tag and location where
  // they apply.
  std::vector<std::string> lines(const Program &program, int64_t rank) const;

private:
  struct Stepped : Event {
    int64_t step;
  };
  std::vector<Stepped> events;
  int64_t step = 0;
};

// Writes the lines of all ranks as one file, which chrome://tracing and
// ui.perfetto.dev show. Throws Error if it cannot be written.
void writeTrace(const std::string &file, const std::vector<std::string> &lines);

} // namespace llrt
#endif // LLRT_RANK_TRACE_H
