//===- Optimizer.h - Options of the optimizer ------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_OPTIMIZER_H
#define LLRT_COMMANDS_OPTIMIZER_H

#include "src/Commands/Arguments.h"

#include <nlohmann/json.hpp>

#include <array>

namespace llrt {

// AdamW, as torch.optim.AdamW, on all trainable tensors.
struct Optimizer {
  double learningRate, beta1, beta2, epsilon, weightDecay;
  double clip;            // largest gradient norm; 0: no clipping
  int64_t warmup;         // steps
  bool cosine;            // else constant after the warm-up
  double minLearningRate; // where cosine ends
  int64_t steps;          // of the whole training: where cosine ends

  // Reads the options below.
  Optimizer(const Arguments &arguments, int64_t steps);

  // The rate of step `step` (from 1): learningRate * step / warmup up to step
  // `warmup`; from there constant, or half a cosine down to minLearningRate at
  // step `steps`.
  double rate(int64_t step) const;

  // The input `hyperparameters` (`llrt/Program.h`) of step `step`.
  std::array<double, 8> hyperparameters(int64_t step) const;

  // What two runs must share to be one training.
  nlohmann::ordered_json description() const;
};

// The options that `step` and `train` share.
std::vector<Option> optimizerOptions(const Option &learningRate);

} // namespace llrt
#endif // LLRT_COMMANDS_OPTIMIZER_H
