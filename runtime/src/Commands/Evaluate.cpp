//===- Evaluate.cpp - OUT evaluate ----------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Captions.h"
#include "src/Commands/Commands.h"
#include "src/Commands/Memory.h"
#include "src/Commands/ModelFolder.h"
#include "src/Commands/Steps.h"
#include "src/Commands/Weights.h"
#include "src/Data/Error.h"
#include "src/Data/Utf8.h"

#include <cmath>
#include <iostream>

using namespace llrt;

static std::vector<Option> evaluateOptions(const Program &program) {
  std::vector<Option> options = captionOptions();
  options.push_back({"weights", "PATH", "", weightsHelp, Option::Need::Required});
  for (Option &option : rankOptions(program))
    options.push_back(std::move(option));
  return options;
}

static int evaluate(const Program &program, const Arguments &arguments) {
  ModelFolder model(arguments.text("weights"));
  Captions captions(program, arguments, model.folder());
  requireMemory(program, arguments, {"forward"});
  Ranks ranks(program, arguments, {"forward"});
  Weights weights(program);
  model.load(ranks, weights);
  ranks.meet();

  WebDataset dataset(captions.shards());
  double sum = 0;
  int64_t tokens = 0;
  DataCounts counts;
  auto say = [&](const std::string &lines) {
    if (ranks.isRoot())
      std::cerr << replaceInvalidUtf8(lines);
  };
  while (auto loaded = captions.load([&] { return dataset.next(); })) {
    for (const std::string &why : loaded->skipped)
      say("skipped: " + why + "\n");
    if (loaded->inputs.validTokens > 0)
      sum += runForward(ranks, loaded->inputs);
    tokens += loaded->inputs.validTokens;
    counts = loaded->counts;
  }
  counts.withoutField = dataset.firstWithoutField();
  say(counts.notes(program));
  if (counts.samples == 0)
    throw Failure("option '--data': expected at least one sample that can be "
                  "read, got none");
  double loss = tokens ? sum / double(tokens) : 0;
  std::cout << nlohmann::ordered_json{{"loss", loss},
                                      {"tokens", tokens},
                                      {"samples", counts.samples},
                                      {"images", counts.images},
                                      {"cut", counts.cut},
                                      {"skipped", counts.skipped}}
                   .dump()
            << std::endl;
  if (tokens == 0)
    throw Failure("expected at least one token to predict, got none: each "
                  "caption is cut off by the text length of the program");
  if (!std::isfinite(loss))
    throw Failure("expected a finite loss, got " + std::to_string(loss));
  return 0;
}

Command llrt::evaluateCommand() {
  return {"evaluate", "Print the loss of a token over a dataset.", evaluateOptions, evaluate};
}
