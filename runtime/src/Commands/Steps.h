//===- Steps.h - One step, one forward -------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_STEPS_H
#define LLRT_COMMANDS_STEPS_H

#include "src/Commands/Optimizer.h"
#include "src/Commands/Ranks.h"
#include "src/Data/Batch.h"
#include "src/Data/SafeTensors.h"

namespace llrt {

// The sizes of a batch of `samples` samples for `program`.
BatchShape batchShape(const Program &program, int64_t samples);

// The least number of samples, `samples` at least, that a forward can take: a
// multiple of a micro-batch on one rank, on more ranks the global batch.
int64_t roundUpSamples(const Program &program, int64_t samples);

struct StepResult {
  double loss;         // of a token: sum over valid tokens / their number, or 0
  int64_t tokens;      // valid ones
  double gradientNorm; // before clipping
};

// The loss or the norm of the gradient of a step is not finite.
struct NotFinite : Failure {
  using Failure::Failure;
};

// Throws NotFinite if the loss or the norm of the gradient is not.
void requireFinite(int64_t step, const StepResult &result);

// One step on the global batch `inputs`: forward, backward, update. `step`
// counts from 1. If loss or norm are not finite, weights and optimizer are those
// of before the step. The gradients are there until the next step begins.
StepResult runStep(Ranks &ranks, const ModelInputs &inputs, const Optimizer &optimizer,
                   int64_t step);

// A rank's part of the logits of one micro-batch.
class Logits {
public:
  Logits(const Rank &rank, const Output &output, int64_t microBatch)
      : rank(rank), output(output), microBatch(microBatch) {}

  // Calls `visit` for each token of this part: its sample in the global batch,
  // its place in the sequence, and `values`, the logits of vocabulary entries
  // `begin` and on.
  void forEachToken(const std::function<void(int64_t sample, int64_t position, int64_t begin,
                                             const TensorView &values)> &visit) const;

  int64_t owner() const { return rank.number(); }

private:
  const Rank &rank;
  const Output &output;
  int64_t microBatch;
};

// The sum of the losses of all valid tokens of `inputs`, which has
// `roundUpSamples` samples. `read` (may be empty) is called after each
// micro-batch with the logits, on the threads of all ranks that have a part; no
// two have the same part.
double runForward(Ranks &ranks, const ModelInputs &inputs,
                  const std::function<void(const Logits &)> &read = {});

// Throws Error if the forward program has no output `logits`, [B, S, V].
void requireLogits(const Program &program);

} // namespace llrt
#endif // LLRT_COMMANDS_STEPS_H
