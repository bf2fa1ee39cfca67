//===- Counters.cpp ---------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Counters.h"
#include "Support/Json.h"

using namespace sgpu;

void Counts::add(const Counts &o) {
  executions += o.executions;
  lanes += o.lanes;
  requests += o.requests;
  bytes += o.bytes;
  sectors += o.sectors;
  sharedRequests += o.sharedRequests;
  wavefronts += o.wavefronts;
  idealWavefronts += o.idealWavefronts;
  tensorOps += o.tensorOps;
}

void Counters::add(const Counters &other) {
  if (kernel.empty())
    kernel = other.kernel;
  launches += other.launches;
  blocks += other.blocks;
  barriers += other.barriers;
  for (const auto &[line, counts] : other.lines) {
    LineCounters &mine = lines[line];
    mine.add(counts);
    mine.opcode = counts.opcode;
  }
}

Counts Counters::total() const {
  Counts sum;
  for (const auto &[line, counts] : lines)
    sum.add(counts);
  return sum;
}

/// Members that are zero are left out, but for executions and lanes.
static void addCounts(Json &j, const Counts &c) {
  j.add("executions", c.executions);
  j.add("lanes", c.lanes);
  const std::pair<const char *, uint64_t> others[] = {
      {"requests", c.requests},     {"bytes", c.bytes},
      {"sectors", c.sectors},       {"sharedRequests", c.sharedRequests},
      {"wavefronts", c.wavefronts}, {"idealWavefronts", c.idealWavefronts},
      {"tensorOps", c.tensorOps}};
  for (auto [name, value] : others)
    if (value)
      j.add(name, value);
}

std::string Counters::toJson() const {
  Json j, totals, opcodes;
  j.add("kernel", kernel);
  j.add("launches", launches);
  j.add("blocks", blocks);
  j.add("barriers", barriers);
  addCounts(totals, total());
  j.add("totals", totals);
  std::map<std::string, uint64_t> byOpcode;
  std::vector<Json> list;
  for (const auto &[line, counts] : lines) {
    byOpcode[counts.opcode] += counts.executions;
    Json l;
    l.add("line", line);
    l.add("opcode", counts.opcode);
    addCounts(l, counts);
    list.push_back(l);
  }
  for (const auto &[name, count] : byOpcode)
    opcodes.add(name, count);
  j.add("opcodes", opcodes);
  j.add("lines", list);
  return j.str();
}
