//===- Rank.h - One rank: its memory and its interpreter -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_MACHINE_RANK_H
#define LLRT_MACHINE_RANK_H

#include "src/Machine/Arenas.h"
#include "src/Machine/Trace.h"

#include <functional>

namespace llrt {

// The order that `llrt/Program.h` gives.
struct Hyperparameters {
  double gradientScale, learningRate, beta1, beta2, epsilon, weightDecay;
  double correction1,
      correction2; // 1 - beta^t, t the number of the step from 1
};

// What a command does between the actions of a program. Empty: nothing.
struct Events {
  // Before the run of a micro-batch: fill its inputs.
  std::function<void(int64_t microBatch)> prepare;
  // After it: read its outputs.
  std::function<void(int64_t microBatch)> finish;
  // All gradients are complete; `sumOfSquares` is over all their elements.
  std::function<void(double sumOfSquares)> gradientsReady;
  // Asked for before each update.
  std::function<Hyperparameters()> hyperparameters;
};

// Owns the arenas of one rank and runs its programs. Make it on the thread that
// runs it: the number of kernel threads belongs to that thread. Ranks share
// nothing but the (constant) program.
class Rank {
public:
  // Rank `number` of the grid. `program` must outlive the rank. `threads` is at
  // least 1.
  Rank(const Program &program, int64_t number, int64_t threads);

  const Program &program() const { return compiled; }
  const Stage &stage() const { return compiled.stages[compiled.stageOf(number)]; }

  template <typename T> T *at(Address address) const {
    return static_cast<T *>(arenas.at(address));
  }

  // Output `output` of `graph`; throws Error if the graph has none of that
  // name.
  const Buffer &output(const std::string &graph,
                       const std::string &output) const;

  // The value at `address`, which is of the master type.
  double masterScalar(Address address) const;

  // Sets element `index` of a buffer of the master type.
  void setMasterScalar(Address address, int64_t index, double value) const;

  // Runs program `name`; of its micro-batches those below `microBatches`.
  void run(const std::string &name, const Events &events, int64_t microBatches);

  // Sets the gradients of all parameters to zero.
  void zeroGradients();

  // Null: no trace. It must outlive the runs.
  void setTrace(Trace *value) { trace = value; }

private:
  void call(const Call &call, int64_t microBatch);

  const Program &compiled;
  int64_t number;
  Arenas arenas;
  Trace *trace = nullptr;
};

} // namespace llrt
#endif // LLRT_MACHINE_RANK_H
