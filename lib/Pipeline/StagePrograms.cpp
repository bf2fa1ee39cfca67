//===- StagePrograms.cpp - What a stage does, from the plan ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The step follows the launch list of the plan:
//
//   launch list   encode0      states0    receive F0  F0   send F0  ...  B0   ...
//   entries       run, gather  run, keep  receive     run  send          run       finish
//
// The forward program has no schedule: micro-batch after micro-batch goes through the chunks.
//
//===----------------------------------------------------------------------===//
#include "StagePrograms.h"

using namespace mlir;
using namespace mlir::llamac;

namespace {
/// Writes the step of one stage.
class Writer {
public:
  Writer(ProgramBuilder &programs, const GraphCut &graph, const plan::Plan &plan, int stage)
      : programs(programs), graph(graph), plan(plan), stage(stage) {}

  void write();

private:
  void transfer(const plan::Launch &launch);
  void compute(const plan::Action &action);

  ProgramBuilder &programs;
  const GraphCut &graph;
  const plan::Plan &plan;
  int stage;
};
} // namespace

/// An end of what an action sends to the next chunk, or to the one before.
void Writer::transfer(const plan::Launch &launch) {
  const plan::Action &action = launch.action;
  const bool send = launch.kind == plan::Launch::Send;
  const bool ahead = action.work == plan::Work::Forward;
  const Chunk &chunk = graph.chunks[action.chunk];
  programs.transfer(send, ahead ? "forward" : "backward", send ? stage : launch.peer,
                    send ? launch.peer : stage, ahead ? chunk.forwardOut : chunk.backwardOut,
                    action.chunk, action.microBatch);
}

/// What an action of the schedule runs.
void Writer::compute(const plan::Action &action) {
  const Stage &own = graph.stages[stage];
  const int64_t number = action.microBatch;
  const bool isLastPart = action.part + 1 == plan.schedule.partsOf(action.work);
  auto part = [&](ArrayRef<Pieces> parts) {
    if (size_t(action.part) < parts.size())
      programs.run(parts[action.part], number);
  };
  auto runOfGroup = [&](const Pieces &pieces) {
    auto [begin, end] = plan.schedule.microBatchesOf(action);
    for (int64_t m = begin; m < end; ++m)
      programs.run(pieces, m);
  };
  switch (action.work) {
  case plan::Work::Forward:
    programs.run(graph.chunks[action.chunk].forward, number);
    break;
  case plan::Work::Backward:
    programs.run(graph.chunks[action.chunk].backward, number);
    programs.run(graph.chunks[action.chunk].backwardWeight, number);
    break;
  case plan::Work::BackwardInput:
    programs.run(graph.chunks[action.chunk].backward, number);
    break;
  case plan::Work::BackwardWeight:
    programs.run(graph.chunks[action.chunk].backwardWeight, number);
    break;
  case plan::Work::Encode:
    part(own.encode);
    if (isLastPart)
      programs.gatherStates(graph, number);
    break;
  case plan::Work::States:
    runOfGroup(own.states);
    if (isLastPart)
      programs.keepStates(graph, number);
    break;
  case plan::Work::StatesGradient:
    // A short group has all of it in the last part.
    if (auto [begin, end] = plan.schedule.microBatchesOf(action);
        begin == number * plan.schedule.groupSize && begin < end) {
      programs.restoreStates(graph, number);
      programs.zeroStates(graph, number);
    }
    runOfGroup(own.statesGradient);
    if (isLastPart)
      programs.reduceStates(graph, number);
    break;
  case plan::Work::EncodeBackward:
    part(own.encodeBackward);
    break;
  }
}

void Writer::write() {
  programs.begin("step");
  programs.beginStep();
  for (const plan::Launch &launch : plan.launches[stage])
    if (launch.kind == plan::Launch::Compute)
      compute(launch.action);
    else
      transfer(launch);
  programs.finishStep();
}

void llamac::buildStep(ProgramBuilder &programs, const GraphCut &graph, const plan::Plan &plan,
                       int stage) {
  Writer(programs, graph, plan, stage).write();
}

void llamac::buildForward(ProgramBuilder &programs, const GraphCut &graph, const ChainCut &cut,
                          int64_t group, int64_t microBatches, int stage) {
  programs.begin("forward");
  for (int64_t m = 0; m < microBatches; ++m) {
    if (m % group == 0) {
      for (const Pieces &pieces : graph.stages[stage].encode)
        programs.run(pieces, m / group);
      programs.gatherStates(graph, m / group);
    }
    programs.run(graph.stages[stage].states, m);
    for (auto [number, chunk] : llvm::enumerate(graph.chunks)) {
      if (cut.stageOfChunk[number] != stage)
        continue;
      if (number > 0)
        programs.transfer(false, "forward", cut.stageOfChunk[number - 1], stage,
                          graph.chunks[number - 1].forwardOut, number - 1, m);
      programs.run(chunk.forward, m);
      if (number + 1 < graph.chunks.size())
        programs.transfer(true, "forward", stage, cut.stageOfChunk[number + 1], chunk.forwardOut,
                          number, m);
    }
  }
  programs.reduceSums();
}
