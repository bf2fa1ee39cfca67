//===- SmallProgram.h - Programs that tests put together -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_RANK_SMALLPROGRAM_H
#define LLRT_TEST_RANK_SMALLPROGRAM_H

#include "src/Program/Program.h"

namespace llrt::test {

// Of a collective: for 16 members, 16 elements of each at once.
constexpr int64_t scratchBytes = 16 * 64;

// A program of one stage, without parameters, on `axes`; a communicator for
// each set of `communicators`. One arena of `bytes` bytes, one with the scratch memory of
// collectives in streams below 16; `step` needs both.
inline Program makeProgram(std::vector<Grid::Axis> axes, std::vector<Axes> communicators,
                           int64_t bytes) {
  Program program = {};
  program.batch = program.microBatches = 1;
  program.precision = "f32";
  program.grid.axes = std::move(axes);
  for (const Axes &each : communicators) {
    std::string name;
    for (size_t axis : each)
      name += (name.empty() ? "" : ",") + program.grid.axes[axis].name;
    program.communicators.push_back({name, each, std::nullopt});
  }
  program.stages.emplace_back().arenas = {
      {"all", bytes, {{"step", bytes}}},
      {"scratch", 16 * scratchBytes, {{"step", 16 * scratchBytes}}}};
  return program;
}

// A call of `block`, which gets `buffers`.
inline Action callOf(LlrtBlock block, std::vector<Address> buffers, int64_t stream = 0,
                     std::vector<int64_t> after = {}) {
  Action action = {};
  action.kind = Action::Kind::Call;
  action.stream = stream;
  action.after = std::move(after);
  action.call = {"a block", block, std::move(buffers)};
  return action;
}

// A collective of f32.
inline Action collective(Action::Kind kind, size_t communicator, int64_t elements, Address from,
                         Address to, int64_t stream = 0, std::vector<int64_t> after = {}) {
  Action action = {};
  action.kind = kind;
  action.stream = stream;
  action.after = std::move(after);
  action.communicator = communicator;
  action.elements = elements;
  action.from = from;
  action.to = to;
  action.scratch = {1, stream * scratchBytes};
  action.scratchBytes = scratchBytes;
  return action;
}

} // namespace llrt::test
#endif // LLRT_TEST_RANK_SMALLPROGRAM_H
