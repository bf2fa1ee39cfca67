//===- TinyProgram.h - A program that was not compiled ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A program as the compiler emits it, with blocks written by hand: one linear
// layer over embeddings, which are scaled by a norm and shifted by the mean of
// the image's pixels times a gate. Small, but everything that a command touches
// is there: frozen and trainable rows of one tensor, gates, images, logits.
//
//   h[b,s,:] = norm * E[id[b,s],:] + gate * mean(pixels[b])   if s sees the
//   image loss     = sum over labels of -log softmax(W h)[label]
//
// E [V + X, D]: rows below V frozen, the X extra rows trainable; W [V, D].
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_COMMANDS_TINYPROGRAM_H
#define LLRT_TEST_COMMANDS_TINYPROGRAM_H

#include "llrt/Program.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace llrt::test {

// As many tokens as tokenizer_small.model of the tests of Data.
constexpr int64_t baseTokens = 756;
constexpr int64_t beginToken = baseTokens, endToken = baseTokens + 1, padToken = baseTokens + 4,
                  imageToken = baseTokens + 256;
constexpr int64_t V = baseTokens + 256, X = 8, D = 4, S = 8, R = 14;

class TinyProgram {
public:
  // `batch` 1 or 2, `images` 0 or 1. `slow`: a micro-batch of `step` takes 5 ms
  // more.
  TinyProgram(int64_t batch, int64_t microBatches, int64_t images = 0, bool slow = false);

  // The program's text, which may be edited before `get`.
  nlohmann::json content;
  std::vector<const char *> cpuFeatures = {nullptr};

  // Lives as long as this object, until the next call.
  const LlrtProgram &get();

private:
  std::string text;
  std::vector<std::string> names;
  std::vector<const char *> namePointers;
  std::vector<LlrtBlock> blocks;
  LlrtProgram program;
};

} // namespace llrt::test
#endif // LLRT_TEST_COMMANDS_TINYPROGRAM_H
