//===- Simulate.h - Execute a parallel program against a machine -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The entries of the programs of all stages are executed on paper: the entries of a
// stream one after another, each after the events that it awaits; a send meets its
// receive, a collective over stages meets all its members, so neither is done before
// all are there. One rank of a stage stands for all of them.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_COST_SIMULATE_H
#define LLAMAC_COST_SIMULATE_H

#include "dialects/Dist/IR/Dist.h"
#include "llamac/Cost/Machine.h"
#include "llamac/Plan/Timeline.h"

#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// Attribute of a block: seconds of one application on the machine that the program is
/// planned for. Written before blocks are lowered, when the ops that cost are gone.
inline constexpr llvm::StringLiteral kSecondsAttr = "llama.seconds";

struct SimulatedEntry {
  dist::EntryOpInterface op;
  int64_t stream;
  double begin, end;        ///< seconds
  double communication = 0; ///< of these, collectives within a run
};

struct SimulatedStage {
  std::vector<SimulatedEntry> entries; ///< in launch order
};

struct Simulation {
  std::vector<SimulatedStage> stages;
  double seconds = 0; ///< of the whole program

  /// Seconds in which a stage computes: runs without the collectives in them, and the
  /// optimizer.
  double compute(size_t stage) const;
  /// Seconds in which nothing is computed and something is communicated.
  double exposed(size_t stage) const;
  /// Part of all stages' time in which nothing is computed.
  double bubble() const;
};

/// Executes the programs `name` of all stages. Fails, with a message, if some entry can
/// never start.
FailureOr<Simulation> simulate(ModuleOp module, StringRef name, const Machine &machine);

/// Step time, bubble, load and exposed communication of each stage, and MFU: operations
/// of the step (`llama.operations`) per second and rank, over the peak.
std::string report(const Simulation &simulation, ModuleOp module, const Machine &machine);

/// Chrome's trace format, which Perfetto opens, in the form of the executable's --trace: a
/// process for each stage, a thread for each stream.
std::string traceJson(const Simulation &simulation);

/// What the stages run and when, to be drawn or to be written as a schedule: the runs of one
/// action are one span. Encoder work has the number of its run: a group, or, of states and
/// their gradients, a micro-batch.
FailureOr<plan::Timeline> timelineOf(const Simulation &simulation);

} // namespace mlir::llamac

#endif // LLAMAC_COST_SIMULATE_H
