//===- Optimizer.cpp - Options of the optimizer ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Optimizer.h"

#include "src/Data/Error.h"

#include <cmath>
#include <numbers>

using namespace llrt;

std::vector<Option> llrt::optimizerOptions(const Option &learningRate) {
  return {
      learningRate,
      {"beta1", "X", "0.9", "AdamW: decay of the mean of gradients."},
      {"beta2", "X", "0.95", "AdamW: decay of the mean of squared gradients."},
      {"epsilon", "X", "1e-8", "AdamW: added to the root of the second moment."},
      {"weight-decay", "X", "0", "AdamW: decoupled decay, on all trainable tensors."},
      {"clip", "X", "0", "Scale gradients down to this norm if theirs is larger; 0: never."},
      {"warmup", "N", "0", "Steps in which the rate rises linearly to --learning-rate."},
      {"schedule", "constant|cosine", "constant", "The rate after the warm-up."},
      {"min-learning-rate", "X", "0", "Where the cosine schedule ends, at the last step."},
  };
}

Optimizer::Optimizer(const Arguments &arguments, int64_t steps)
    : learningRate(arguments.number("learning-rate", 0)), beta1(arguments.number("beta1", 0, 1)),
      beta2(arguments.number("beta2", 0, 1)), epsilon(arguments.number("epsilon", 0)),
      weightDecay(arguments.number("weight-decay", 0)), clip(arguments.number("clip", 0)),
      warmup(arguments.integer("warmup", 0)),
      cosine(arguments.choice("schedule", {"constant", "cosine"}) == "cosine"),
      minLearningRate(arguments.number("min-learning-rate", 0)), steps(steps) {
  if (minLearningRate > learningRate)
    fail("option '--min-learning-rate': expected at most --learning-rate (", learningRate,
         "), got ", minLearningRate);
}

double Optimizer::rate(int64_t step) const {
  if (step <= warmup)
    return learningRate * double(step) / double(warmup);
  if (!cosine)
    return learningRate;
  double done = std::min(1.0, double(step - warmup) / double(steps - warmup));
  return minLearningRate +
         (learningRate - minLearningRate) * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

std::array<double, 8> Optimizer::hyperparameters(int64_t step) const {
  return {clip,
          rate(step),
          beta1,
          beta2,
          epsilon,
          weightDecay,
          1 - std::pow(beta1, double(step)),
          1 - std::pow(beta2, double(step))};
}

nlohmann::ordered_json Optimizer::description() const {
  nlohmann::ordered_json result = {{"learning-rate", learningRate},
                                   {"beta1", beta1},
                                   {"beta2", beta2},
                                   {"epsilon", epsilon},
                                   {"weight-decay", weightDecay},
                                   {"clip", clip},
                                   {"warmup", warmup},
                                   {"schedule", cosine ? "cosine" : "constant"}};
  if (cosine) {
    result["min-learning-rate"] = minLearningRate;
    result["steps"] = steps;
  }
  return result;
}
