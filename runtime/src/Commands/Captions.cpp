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
       "tokenizer.json or tokenizer.model; if not given, that of " + folder +
           "."},
      {"preprocessor", "FILE", "",
       "preprocessor_config.json or processor_config.json, for a model that "
       "reads images; if not given, that of " +
           folder + "."}};
}

std::vector<Option> llrt::captionOptions() {
  std::vector<Option> options = preprocessingOptions(
      "the folder of the data, or else of the weights");
  options.insert(options.begin(),
                 {"data", "DIR|FILES", "",
                  "WebDataset: a folder of .tar files, or files separated by "
                  "commas; {000..012} stands for a range.",
                  Option::Need::Required});
  return options;
}

namespace {
namespace fs = std::filesystem;

// Files that describe one thing, and how they are chosen.
struct Choice {
  const char *option;
  std::vector<const char *> names;  // the first that is there is read
  std::vector<const char *> beside; // what else describes it, in its folder
  bool (*accept)(const fs::path &);
};

// Without `image_processor`, as transformers 4 wrote it, it says nothing.
bool hasImageProcessor(const fs::path &path) {
  return path.filename() != "processor_config.json" ||
         parseJson(MappedFile(path).text(), path).contains("image_processor");
}

const Choice tokenizerChoice = {
    "tokenizer",
    {"tokenizer.json", "tokenizer.model", "original/tokenizer.model"},
    {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
     "chat_template.json", "chat_template.jinja"},
    [](const fs::path &) { return true; }};
const Choice preprocessorChoice = {
    "preprocessor",
    {"processor_config.json", "preprocessor_config.json"},
    {},
    hasImageProcessor};

// The file of `choice`. `files` gets it and what lies beside it.
std::string choose(const Choice &choice, const Arguments &arguments,
                   const std::vector<std::string> &folders,
                   std::map<std::string, std::string> &files) {
  auto take = [&](const fs::path &path, const std::string &name) {
    if (fs::exists(path) && !files.contains(name))
      files[name] = MappedFile(path).text();
  };
  auto takeBeside = [&](const fs::path &folder) {
    for (const char *name : choice.beside)
      take(folder / name, name);
  };
  if (auto given = arguments.find(choice.option);
      given && !fs::is_directory(*given)) {
    // It gets the name by which it will be found again.
    bool isJson = given->ends_with(".json");
    std::string name = choice.names[isJson ? 0 : 1];
    if (isJson && choice.accept == hasImageProcessor &&
        !parseJson(MappedFile(*given).text(), *given)
             .contains("image_processor"))
      name = choice.names[1];
    take(*given, name);
    takeBeside(fs::path(*given).parent_path());
    return *given;
  } else {
    std::vector<std::string> places = folders;
    if (given)
      places = {*given};
    std::string list;
    for (const fs::path folder : places) {
      for (const char *name : choice.names)
        if (fs::exists(folder / name) && choice.accept(folder / name)) {
          for (const char *other : choice.names)
            take(folder / other, fs::path(other).filename());
          takeBeside(folder);
          return folder / name;
        }
      list += (list.empty() ? "" : " or ") + folder.string();
    }
    std::string names;
    for (const char *name : choice.names)
      names += (names.empty() ? "" : " or ") + std::string(name);
    fail("option '--", choice.option, "': expected ", names, " in ", list,
         ", or the name of a file");
  }
}

} // namespace

Preprocessing::Preprocessing(const Program &program, const Arguments &arguments,
                             const std::vector<std::string> &folders) {
  const Program::Model &model = program.model;
  tokenizer = std::make_unique<Tokenizer>(
      choose(tokenizerChoice, arguments, folders, files));
  auto check = [&](const char *token, int64_t want) {
    if (int64_t got = tokenizer->specialToken(token); got != want)
      fail(tokenizer->path(), ": token '", token, "': expected id ", want,
           " of the program, got ", got);
  };
  check("<|begin_of_text|>", model.beginToken);
  if (program.images == 0)
    return;
  check("<|image|>", model.imageToken);
  std::string file = choose(preprocessorChoice, arguments, folders, files);
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

// The places of tokenizer and preprocessor.
static std::vector<std::string> folders(const std::vector<std::string> &files,
                                        const std::string &model) {
  std::vector<std::string> list = {folderOf(files)};
  if (!model.empty())
    list.push_back(model);
  return list;
}

Captions::Captions(const Program &program, const Arguments &arguments,
                   const std::string &model)
    : program(program), files(expandShards(arguments.text("data"))),
      preprocessing(program, arguments, folders(files, model)) {}

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
