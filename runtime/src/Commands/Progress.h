//===- Progress.h - What a training shows and logs -------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_PROGRESS_H
#define LLRT_COMMANDS_PROGRESS_H

#include "src/Commands/Steps.h"

#include <chrono>
#include <fstream>

namespace llrt {

// A line about the training on the standard error, in place on a terminal, else
// one per second at most; and a line of JSON for each step in a file. Speeds
// are averages since the start: tokens of the text length (padding too), and
// floating-point operations as the compiler counted them.
class Progress {
public:
  // `metrics`: the file, if wanted. Of a file that is there, the lines of steps
  // up to `done` stay. Throws Error if it cannot be written.
  Progress(const Program &program, std::optional<std::string> metrics, int64_t done, int64_t steps);
  ~Progress();

  // Prints `lines`, each with its end, above the line about the training.
  void print(const std::string &lines);

  // Step `step` is done. Throws Failure if the file cannot be written.
  void add(int64_t step, const StepResult &result, double learningRate);

private:
  using Clock = std::chrono::steady_clock;

  const Program &program;
  std::optional<std::string> path;
  std::ofstream file;
  int64_t first, steps;
  bool terminal;
  Clock::time_point start, lastStep, lastLine;
};

} // namespace llrt
#endif // LLRT_COMMANDS_PROGRESS_H
