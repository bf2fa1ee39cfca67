//===- Step.cpp - OUT step ------------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs steps on one given batch and writes what came of them: the tool that
// compares an executable with other implementations.
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Commands.h"
#include "src/Commands/Memory.h"
#include "src/Commands/ModelFolder.h"
#include "src/Commands/Steps.h"
#include "src/Commands/Weights.h"
#include "src/Data/Error.h"
#include "src/Data/Files.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <numeric>
#include <unistd.h>

using namespace llrt;

static std::vector<Option> stepOptions(const Program &program) {
  std::vector<Option> options = {
      {"weights", "PATH", "", weightsHelp, Option::Need::Required},
      {"batch", "FILE", "", "The global batch: a safetensors file.", Option::Need::Required},
      {"steps", "N", "1", "Updates, all on this batch."},
      {"gradients", "FILE", "",
       "Write the gradients of the first step, normalised, before clipping."},
      {"updated", "FILE", "", "Write the master weights after the last step."},
      {"logits", "FILE", "", "Write the logits [B, S, V] of the given weights."},
      {"trace", "FILE", "", "Write what each rank did and when (Chrome trace JSON)."}};
  for (Option &option :
       optimizerOptions({"learning-rate", "X", "0.001", "The rate after the warm-up."}))
    options.push_back(std::move(option));
  for (Option &option : rankOptions(program))
    options.push_back(std::move(option));
  return options;
}

// Runs the forward program; every rank writes its part of the logits to its
// place in the file.
static void writeLogits(Ranks &ranks, const ModelInputs &inputs, const std::string &path) {
  const Program &program = ranks.program();
  const int64_t together = logitTokens(program);
  LlrtType type = program.masterType();
  int64_t S = program.textLength, V = program.model.vocabulary;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(program.globalBatch(), S * V * typeSize(type), &bytes))
    fail("option '--logits': expected logits of less than 2^63 bytes, got ",
         double(program.globalBatch()) * double(S * V * typeSize(type)));
  nlohmann::json header = {{"logits",
                            {{"dtype", dtypeName(dtypeOf(type))},
                             {"shape", {program.globalBatch(), S, V}},
                             {"data_offsets", {0, bytes}}}}};
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t length = text.size();
  int64_t dataBegin = int64_t(sizeof(length) + length);
  ranks.atRoot([&] {
    std::ofstream file(path, std::ios::binary);
    if (!file)
      fail(path, ": cannot create the file: ", std::strerror(errno));
    file.write(reinterpret_cast<const char *>(&length), sizeof(length));
    file << text;
    file.close();
    std::error_code cause;
    std::filesystem::resize_file(path, dataBegin + bytes, cause);
    if (!file || cause)
      throw Failure(path + ": cannot write the logits");
    return std::string();
  });
  int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  std::atomic<bool> good = file >= 0;
  auto write = [&](const Logits &logits) {
    std::vector<std::byte> row;
    logits.forEachToken(
        [&](int64_t sample, int64_t position, int64_t begin, const TensorView &values) {
          row.resize(values.elements() * typeSize(type));
          convert(values, type, row.data(), "logits");
          int64_t at = ((sample * S + position) * V + begin) * typeSize(type);
          if (pwrite(file, row.data(), row.size(), dataBegin + at) != ssize_t(row.size()))
            good = false;
        });
  };
  // A forward for the logits that exist together.
  for (int64_t begin = 0; begin < S; begin += together) {
    std::vector<int64_t> tokens(std::min(together, S - begin));
    std::iota(tokens.begin(), tokens.end(), begin);
    runForward(ranks, inputs, write, tokens);
  }
  if (file < 0 || close(file) != 0 || !good)
    throw Failure(path + ": cannot write the logits");
}

static int step(const Program &program, const Arguments &arguments) {
  int64_t steps = arguments.integer("steps", 1);
  Optimizer optimizer(arguments, steps);
  std::string batchFile = arguments.text("batch");
  ModelInputs inputs =
      makeModelInputs(readBatch(batchFile, batchShape(program, program.globalBatch())), batchFile);

  std::vector<std::string> runs = {"step"};
  if (arguments.find("logits"))
    runs.push_back("forward");
  requireMemory(program, arguments, runs);
  Ranks ranks(program, arguments, runs);
  ranks.atRoot([&] {
    for (const char *name : {"gradients", "updated"})
      if (auto file = arguments.find(name))
        NewFile{*file}; // if there can be none that is told now, not after hours of work
    return std::string();
  });
  Weights weights(program);
  ModelFolder(arguments.text("weights")).load(ranks, weights);
  ranks.meet();

  if (auto file = arguments.find("logits"))
    writeLogits(ranks, inputs, *file);

  std::optional<Tracing> tracing;
  if (auto file = arguments.find("trace"))
    tracing.emplace(ranks, *file);
  for (int64_t number = 1; number <= steps; ++number) {
    if (tracing)
      tracing->setStep(number);
    auto begin = Trace::Clock::now();
    StepResult result = runStep(ranks, inputs, optimizer, number);
    std::chrono::duration<double> seconds = Trace::Clock::now() - begin;
    if (auto file = arguments.find("gradients"); file && number == 1)
      ranks.atRoot([&] {
        weights.write(*file, ranks, Weights::Kind::Gradients);
        return std::string();
      });
    std::cout << nlohmann::ordered_json{{"step", number},
                                        {"loss", result.loss},
                                        {"tokens", result.tokens},
                                        {"gradient_norm", result.gradientNorm},
                                        {"seconds", seconds.count()}}
                     .dump()
              << std::endl;
    requireFinite(number, result);
  }
  if (auto file = arguments.find("updated"))
    ranks.atRoot([&] {
      weights.write(*file, ranks, Weights::Kind::Masters);
      return std::string();
    });
  if (tracing)
    tracing->write();
  return 0;
}

Command llrt::stepCommand() {
  return {"step", "Run steps on one batch; write loss, gradients, weights.", stepOptions, step};
}
