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

#include <memory>
#include <optional>

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

// Steps, one after the other, on devices that are not kept waiting: what came of a step is
// read while the next one computes, before that updates anything.
class StepQueue {
public:
  // Both must outlive it.
  StepQueue(Ranks &ranks, const Optimizer &optimizer) : ranks(ranks), optimizer(optimizer) {}

  // Begins step `step`, as `runStep` does it. Returns what came of the step before, if nobody has
  // asked yet. If that was not finite, weights and optimizer are those of before it, and nothing
  // comes of this step.
  std::optional<StepResult> begin(const ModelInputs &inputs, int64_t step);

  // Whether the last step was waited for: so it is where nothing is gained by going on.
  bool isIdle() const { return ranks.first().isIdle(); }

  // Waits for the last step. Returns what came of it, if nobody has asked yet.
  std::optional<StepResult> finish();

private:
  struct Unread {
    int64_t tokens;
    std::unique_ptr<Device::Reading> sums;
  };

  std::optional<StepResult> read();

  Ranks &ranks;
  const Optimizer &optimizer;
  std::optional<Unread> unread;
};

// A rank's part of the logits of one micro-batch.
class Logits {
public:
  Logits(const Rank &rank, const Output &output, const std::vector<int64_t> &tokens,
         int64_t microBatch)
      : rank(rank), output(output), tokens(tokens), microBatch(microBatch) {}

  // Calls `visit` for each token of this part: its sample in the global batch,
  // its place in the sequence, and `values`, the logits of vocabulary entries
  // `begin` and on.
  void forEachToken(const std::function<void(int64_t sample, int64_t position, int64_t begin,
                                             const TensorView &values)> &visit) const;

  int64_t owner() const { return rank.number(); }

private:
  const Rank &rank;
  const Output &output;
  const std::vector<int64_t> &tokens; // of each sample that it has; all if there are none here
  int64_t microBatch;
};

// The sum of the losses of all valid tokens of `inputs`, which has
// `roundUpSamples` samples. `read` (may be empty) is called after each
// micro-batch with the logits, on the threads of all ranks that have a part; no
// two have the same part. The logits are those of the tokens at the places `tokens` of each
// sample, at most `logitTokens` of them.
double runForward(Ranks &ranks, const ModelInputs &inputs,
                  const std::function<void(const Logits &)> &read = {},
                  const std::vector<int64_t> &tokens = {});

// The tokens of a sample whose logits a forward gives: all, or as many as exist together
// (--head-chunk). Throws Error if the forward program has no output `logits`, [B, K, V].
int64_t logitTokens(const Program &program);

} // namespace llrt
#endif // LLRT_COMMANDS_STEPS_H
