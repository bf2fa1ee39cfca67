//===- Inputs.h - What a rank reads of the global batch --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_INPUTS_H
#define LLRT_COMMANDS_INPUTS_H

#include "src/Data/Batch.h"
#include "src/Rank/Rank.h"

#include <array>

namespace llrt {

// The order of S tokens where axis cp has `ranks` ranks: element i is the place
// in the sequence of token i. With n ranks the 2n chunks come in the order 0,
// 2n - 1, 1, 2n - 2, ..., so that each rank, which has two of them, does the
// same amount of causal attention. Source: The Llama 3 Herd of Models,
// section 3.3.2.
std::vector<int64_t> tokenOrder(int64_t tokens, int64_t ranks);

// The samples of micro-batch `microBatch` of `rank` begin here in the global
// batch.
int64_t firstSample(const Program &program, int64_t rank, int64_t microBatch);

// Fills the inputs of `graph` with this rank's part of `inputs`. `microBatch`:
// that of the run. `lossGradient`: 1 / valid tokens of the global batch. `logitTokens`: the
// places in each sample of the tokens whose logits are wanted, where the program takes some.
void setInputs(Rank &rank, const Graph &graph, const ModelInputs &inputs, int64_t microBatch,
               double lossGradient, const std::vector<int64_t> &logitTokens = {});

// Fills the inputs of entries. `hyperparameters` as `llrt/Program.h` says; null where
// the program updates nothing.
void setEntryInputs(Rank &rank, const std::array<double, 8> *hyperparameters);

} // namespace llrt
#endif // LLRT_COMMANDS_INPUTS_H
