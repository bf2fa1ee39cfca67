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
#include "src/Commands/Steps.h"
#include "src/Commands/Weights.h"
#include "src/Data/Error.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

using namespace llrt;

static std::vector<Option> stepOptions(const Program &) {
  std::vector<Option> options = {
      {"weights", "PATH", "",
       "Weights: a safetensors file, an index, or a HuggingFace folder.",
       Option::Need::Required},
      {"batch", "FILE", "", "The global batch: a safetensors file.",
       Option::Need::Required},
      {"steps", "N", "1", "Updates, all on this batch."},
      {"gradients", "FILE", "",
       "Write the gradients of the first step, normalised, before clipping."},
      {"updated", "FILE", "", "Write the master weights after the last step."},
      {"logits", "FILE", "",
       "Write the logits [B, S, V] of the given weights."},
      {"trace", "FILE", "", "Write when each block ran (Chrome trace JSON)."},
      threadsOption()};
  for (Option &option : optimizerOptions(
           {"learning-rate", "X", "0.001", "The rate after the warm-up."}))
    options.push_back(std::move(option));
  return options;
}

// Runs the forward program and writes its logits, micro-batch by micro-batch,
// so that no more than one of them is in memory.
static void writeLogits(Rank &rank, const ModelInputs &inputs,
                        const std::string &path) {
  const Program &program = rank.program();
  const Buffer &logits = logitsOutput(rank);
  LlrtType type = program.masterType();
  int64_t bytes = logits.elements() * typeSize(type);
  nlohmann::json header = {
      {"logits",
       {{"dtype", dtypeName(dtypeOf(type))},
        {"shape",
         {program.globalBatch(), program.textLength, program.model.vocabulary}},
        {"data_offsets", {0, bytes * program.microBatches}}}}};
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t length = text.size();

  std::ofstream file(path, std::ios::binary);
  if (!file)
    fail(path, ": cannot create the file: ", std::strerror(errno));
  file.write(reinterpret_cast<const char *>(&length), sizeof(length));
  file << text;
  std::vector<char> rows(bytes);
  runForward(rank, inputs, [&](int64_t) {
    convert(
        viewOf(rank.at<void>(logits.address), logits.type, logits.elements()),
        type, rows.data(), "logits");
    file.write(rows.data(), bytes);
  });
  if (!file.flush())
    throw Failure(path + ": cannot write the logits");
}

static int step(const Program &program, const Arguments &arguments) {
  int64_t steps = arguments.integer("steps", 1);
  Optimizer optimizer(arguments, steps);
  int64_t threadCount = threads(arguments);
  std::string batchFile = arguments.text("batch");
  ModelInputs inputs = makeModelInputs(
      readBatch(batchFile, batchShape(program, program.globalBatch())),
      batchFile);

  Rank rank(program, 0, threadCount);
  Weights weights(program);
  weights.load(rank, SafeTensors(arguments.text("weights")));

  if (auto file = arguments.find("logits"))
    writeLogits(rank, inputs, *file);

  Trace trace;
  std::optional<std::string> traceFile = arguments.find("trace");
  if (traceFile)
    rank.setTrace(&trace);
  for (int64_t number = 1; number <= steps; ++number) {
    trace.setStep(number);
    auto begin = Trace::Clock::now();
    std::function<void()> writeGradients;
    if (auto file = arguments.find("gradients"); file && number == 1)
      writeGradients = [&, file] {
        weights.write(*file, rank, Weights::Kind::Gradients);
      };
    StepResult result =
        runStep(rank, inputs, optimizer, number, writeGradients);
    std::chrono::duration<double> seconds = Trace::Clock::now() - begin;
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
    weights.write(*file, rank, Weights::Kind::Masters);
  if (traceFile)
    trace.write(*traceFile);
  return 0;
}

Command llrt::stepCommand() {
  return {"step", "Run steps on one batch; write loss, gradients, weights.",
          stepOptions, step};
}
