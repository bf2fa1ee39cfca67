//===- Evaluate.cpp - OUT evaluate ----------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Captions.h"
#include "src/Commands/Commands.h"
#include "src/Commands/ModelFolder.h"
#include "src/Commands/Steps.h"
#include "src/Commands/Weights.h"

#include <iostream>

using namespace llrt;

static std::vector<Option> evaluateOptions(const Program &program) {
  std::vector<Option> options = captionOptions();
  options.push_back(
      {"weights", "PATH", "",
       weightsHelp,
       Option::Need::Required});
  for (Option &option : rankOptions(program))
    options.push_back(std::move(option));
  return options;
}

static int evaluate(const Program &program, const Arguments &arguments) {
  ModelFolder model(arguments.text("weights"));
  Captions captions(program, arguments, model.folder());
  Ranks ranks(program, arguments);
  Weights weights(program);
  model.load(ranks, weights);
  ranks.meet();

  WebDataset dataset(captions.shards());
  double sum = 0;
  int64_t tokens = 0, count = 0;
  for (bool more = true; more;) {
    std::vector<Sample> samples;
    while (int64_t(samples.size()) < program.globalBatch()) {
      std::optional<Sample> sample = dataset.next();
      if (!(more = sample.has_value()))
        break;
      samples.push_back(std::move(*sample));
    }
    if (samples.empty())
      break;
    count += samples.size();
    ModelInputs inputs = captions.makeInputs(std::move(samples));
    sum += runForward(ranks, inputs);
    tokens += inputs.validTokens;
  }
  std::cout << nlohmann::ordered_json{{"loss",
                                       tokens ? sum / double(tokens) : 0},
                                      {"tokens", tokens},
                                      {"samples", count}}
                   .dump()
            << "\n";
  return 0;
}

Command llrt::evaluateCommand() {
  return {"evaluate", "Print the loss of a token over a dataset.",
          evaluateOptions, evaluate};
}
