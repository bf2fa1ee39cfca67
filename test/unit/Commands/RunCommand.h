//===- RunCommand.h - Executables in a process of their own ----*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_COMMANDS_RUNCOMMAND_H
#define LLRT_TEST_COMMANDS_RUNCOMMAND_H

#include "../Data/TestFiles.h"
#include "TinyProgram.h"

#include "src/Data/SafeTensors.h"

#include <map>
#include <sys/types.h>

namespace llrt::test {

struct Outcome {
  int status; // exit status; -N: killed by signal N
  std::string out, err;
};

// `tiny WORDS...` in a new process.
Outcome run(TinyProgram &program, std::vector<std::string> words);

// Starts the same and returns the process; its output goes to the files
// `log`.out and `log`.err.
pid_t start(TinyProgram &program, std::vector<std::string> words, const std::string &log);

// Waits for the end of `process`; its status as in Outcome.
int waitFor(pid_t process);

// Tensors of a file as doubles.
using Tensors = std::map<std::string, std::vector<double>>;
Tensors readTensors(const std::string &path);

// Writes tensors of f32 into a file.
struct FloatTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
void writeTensors(const std::string &path, const std::map<std::string, FloatTensor> &tensors);

// Weights of these shapes, all numbers unlike each other.
std::map<std::string, FloatTensor>
unlikeWeights(const std::map<std::string, std::vector<int64_t>> &shapes);

// Those of the tiny program under its own keys.
std::map<std::string, FloatTensor> tinyWeights();

// A batch file of `samples` samples of text; sample i has `tokens[i]` labels.
void writeBatch(const std::string &path, const std::vector<int64_t> &tokens, int64_t images = 0);

// Makes a folder with a dataset of `samples` captions, at least 5, in two
// shards, with a tokenizer, and images and a preprocessor if `images`.
void writeDataset(const std::string &folder, int64_t samples, bool images);

// A PNG of one color.
void writePng(const std::string &path, int64_t side, uint8_t gray);

} // namespace llrt::test
#endif // LLRT_TEST_COMMANDS_RUNCOMMAND_H
