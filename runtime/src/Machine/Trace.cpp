//===- Trace.cpp - When each block ran ------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Machine/Trace.h"

#include "src/Data/Error.h"

#include <nlohmann/json.hpp>

#include <fstream>

using namespace llrt;

void Trace::write(const std::string &file) const {
  using Microseconds = std::chrono::duration<double, std::micro>;
  std::ofstream out(file);
  out << "{\"traceEvents\":[";
  const char *separator = "\n";
  for (const Event &event : events) {
    nlohmann::json args = {{"step", event.step}};
    if (event.microBatch >= 0)
      args["micro_batch"] = event.microBatch;
    nlohmann::json line = {
        {"name", *event.block},
        {"ph", "X"},
        {"ts", Microseconds(event.begin - events.front().begin).count()},
        {"dur", Microseconds(event.end - event.begin).count()},
        {"pid", 0},
        {"tid", 0},
        {"args", args}};
    out << separator << line.dump();
    separator = ",\n";
  }
  out << "\n]}\n";
  if (!out.flush())
    fail(file, ": cannot write the trace");
}
