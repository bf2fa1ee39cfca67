//===- Trace.cpp - What a rank did and when -------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Rank/Trace.h"

#include "src/Data/Error.h"

#include <fstream>

using namespace llrt;

std::vector<std::string> Trace::lines(const Program &program, int64_t rank) const {
  using Microseconds = std::chrono::duration<double, std::micro>;
  std::string place = program.grid.placeText(rank);
  std::vector<std::string> result;
  result.push_back(nlohmann::json{
      {"name", "process_name"},
      {"ph", "M"},
      {"pid", rank},
      {"args",
       {{"name", "rank " + std::to_string(rank) + (place.empty() ? "" : " (" + place + ")")}}}}
                       .dump());
  for (const Stepped &event : events) {
    const Action &action = *event.action;
    std::string kind = actionName(action.kind), name = kind;
    nlohmann::json args = {{"step", event.step}, {"entry", event.entry}, {"do", kind}};
    if (action.kind == Action::Kind::Call)
      name = args["block"] = action.call.name;
    if (event.item >= 0)
      args["item"] = event.item;
    if (event.microBatch >= 0)
      args["micro_batch"] = event.microBatch;
    if (action.communicates() || action.kind == Action::Kind::Slice) {
      const std::string &with = program.communicators[action.communicator].name;
      args["communicator"] = with;
      name += " " + with;
    }
    if (action.communicates())
      args["bytes"] = action.outer * action.elements * typeSize(action.type);
    if (action.kind == Action::Kind::Send || action.kind == Action::Kind::Receive)
      args["tag"] = action.tag;
    if (action.kind == Action::Kind::Run)
      name = args["graph"] = action.graph;
    if (!action.location.empty())
      args["location"] = action.location;
    result.push_back(nlohmann::json{
        {"name", name},
        {"ph", "X"},
        {"ts", Microseconds(event.begin.time_since_epoch()).count()},
        {"dur", Microseconds(event.end - event.begin).count()},
        {"pid", rank},
        {"tid", action.stream},
        {"args", args}}.dump());
  }
  return result;
}

void llrt::writeTrace(const std::string &file, const std::vector<std::string> &lines) {
  std::ofstream out(file);
  out << "{\"traceEvents\":[";
  const char *separator = "\n";
  for (const std::string &line : lines) {
    out << separator << line;
    separator = ",\n";
  }
  out << "\n]}\n";
  if (!out.flush())
    fail(file, ": cannot write the trace");
}
