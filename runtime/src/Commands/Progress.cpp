//===- Progress.cpp - What a training shows and logs ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Progress.h"

#include "src/Commands/Commands.h"
#include "src/Data/Error.h"
#include "src/Data/Utf8.h"

#include <cstdio>
#include <filesystem>
#include <unistd.h>

using namespace llrt;

// The lines of `path` that are about steps up to `done`.
static std::string earlierLines(const std::string &path, int64_t done) {
  std::ifstream old(path);
  std::string kept;
  for (std::string line; done > 0 && std::getline(old, line);) {
    nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object() && json.contains("step") && json["step"].is_number() &&
        json["step"] <= done)
      kept += line + "\n";
  }
  return kept;
}

Progress::Progress(const Program &program, std::optional<std::string> metrics, int64_t done,
                   int64_t steps)
    : program(program), path(std::move(metrics)), first(done), steps(steps),
      terminal(isatty(STDERR_FILENO)), start(Clock::now()), lastStep(start) {
  if (!path)
    return;
  std::string kept = earlierLines(*path, done);
  file.open(*path);
  file << kept;
  if (!file.flush())
    fail("option '--metrics': expected a file that can be written, got ", *path);
}

Progress::~Progress() {
  if (terminal && lastLine != Clock::time_point())
    std::fputs("\n", stderr);
}

void Progress::print(const std::string &lines) {
  std::fprintf(stderr, "%s%s", terminal ? "\r\033[K" : "", replaceInvalidUtf8(lines).c_str());
}

void Progress::add(int64_t step, const StepResult &result, double learningRate) {
  Clock::time_point now = Clock::now();
  std::chrono::duration<double> seconds = now - lastStep, all = now - start;
  lastStep = now;
  if (path) {
    file << nlohmann::ordered_json{{"step", step},
                                   {"loss", result.loss},
                                   {"tokens", result.tokens},
                                   {"gradient_norm", result.gradientNorm},
                                   {"learning_rate", learningRate},
                                   {"seconds", seconds.count()}}
                .dump()
         << std::endl;
    if (!file)
      throw Failure(*path + ": cannot be written");
  }
  if (!terminal && step < steps && now - lastLine < std::chrono::seconds(1))
    return;
  lastLine = now;
  double stepsPerSecond = double(step - first) / all.count();
  double left = double(steps - step) / stepsPerSecond;
  std::fprintf(stderr,
               "%sstep %lld of %lld  loss %.4f  %.0f tokens/s  %.3g operations/s"
               "  %lld:%02lld:%02lld left%s",
               terminal ? "\r\033[K" : "", (long long)step, (long long)steps, result.loss,
               stepsPerSecond * double(program.globalBatch()) * double(program.textLength),
               stepsPerSecond * program.stepOperations, (long long)left / 3600,
               (long long)left / 60 % 60, (long long)left % 60, terminal ? "" : "\n");
}
