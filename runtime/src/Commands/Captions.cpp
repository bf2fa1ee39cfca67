//===- Captions.cpp - The data options of a command -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Captions.h"

#include "src/Commands/Steps.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <filesystem>

using namespace llrt;

std::vector<Option> llrt::preprocessingOptions(const std::string &folder) {
  return {
      {"tokenizer", "FILE", "",
       "The tokenizer.model; if not given, that of " + folder + "."},
      {"preprocessor", "FILE", "",
       "The preprocessor_config.json, for a model that reads images; if not "
       "given, that of " +
           folder + "."}};
}

std::vector<Option> llrt::captionOptions() {
  std::vector<Option> options = preprocessingOptions("the folder of the data");
  options.insert(options.begin(),
                 {"data", "DIR|FILES", "",
                  "WebDataset: a folder of .tar files, or files separated by "
                  "commas; {000..012} stands for a range.",
                  Option::Need::Required});
  return options;
}

Preprocessing::Preprocessing(const Program &program, const Arguments &arguments,
                             const std::string &folder) {
  auto path = [&](const char *option, const char *file) {
    return arguments.find(option).value_or(std::filesystem::path(folder) /
                                           file);
  };
  const Program::Model &model = program.model;
  tokenizer = std::make_unique<Tokenizer>(path("tokenizer", "tokenizer.model"));
  auto check = [&](const char *token, int64_t want) {
    if (int64_t got = tokenizer->specialToken(token); got != want)
      fail(tokenizer->path(), ": token '", token, "': expected id ", want,
           " of the program, got ", got);
  };
  check("<|begin_of_text|>", model.beginToken);
  if (program.images == 0)
    return;
  check("<|image|>", model.imageToken);
  std::string file = path("preprocessor", "preprocessor_config.json");
  pipeline = std::make_unique<ImagePipeline>(file);
  if (pipeline->tileSize() != model.tileSize)
    fail(file, ": field 'size': expected the program's tile size ",
         model.tileSize, ", got ", pipeline->tileSize());
}

// The folder of the first of `files`.
static std::string folderOf(const std::vector<std::string> &files) {
  std::filesystem::path folder = std::filesystem::path(files[0]).parent_path();
  return folder.empty() ? "." : folder.string();
}

Captions::Captions(const Program &program, const Arguments &arguments)
    : program(program), files(expandShards(arguments.text("data"))),
      preprocessing(program, arguments, folderOf(files)) {}

ModelInputs Captions::makeInputs(std::vector<Sample> samples) const {
  size_t real = samples.size();
  samples.resize(roundUpSamples(program, real), samples.back());
  BatchShape shape = batchShape(program, samples.size());
  Batch batch = makeCaptionBatch(samples, *preprocessing.tokenizer,
                                 preprocessing.pipeline.get(), shape,
                                 program.model.padToken);
  std::fill(batch.labels.begin() + real * program.textLength,
            batch.labels.end(), ignoredLabel);
  return makeModelInputs(std::move(batch), "data");
}
