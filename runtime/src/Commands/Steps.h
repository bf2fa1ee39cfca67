//===- Steps.h - One step, one forward -------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_STEPS_H
#define LLRT_COMMANDS_STEPS_H

#include "src/Commands/Optimizer.h"
#include "src/Data/Batch.h"

namespace llrt {

// The sizes of a batch of `samples` samples for `program`.
BatchShape batchShape(const Program &program, int64_t samples);

struct StepResult {
  double loss;         // of a token: sum over valid tokens / their number, or 0
  int64_t tokens;      // valid ones
  double gradientNorm; // before clipping
};

// Throws Failure if the loss or the norm of the gradient is not finite.
void requireFinite(int64_t step, const StepResult &result);

// One step on the global batch `inputs`: forward, backward, update. `step`
// counts from 1. `gradientsReady` (may be empty) is called between backward and
// update.
StepResult runStep(Rank &rank, const ModelInputs &inputs,
                   const Optimizer &optimizer, int64_t step,
                   const std::function<void()> &gradientsReady = {});

// The sum of the losses of all valid tokens of `inputs`, whose samples are a
// multiple of the program's batch, at most its global batch. `finish` (may be
// empty) is called after each micro-batch, when its outputs can be read.
double runForward(Rank &rank, const ModelInputs &inputs,
                  const std::function<void(int64_t microBatch)> &finish = {});

// The output `logits` of the forward program, [batch, S, V]. Throws Error if
// the program has another.
const Buffer &logitsOutput(const Rank &rank);

} // namespace llrt
#endif // LLRT_COMMANDS_STEPS_H
