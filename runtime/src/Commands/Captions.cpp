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
#include <sstream>

using namespace llrt;

std::vector<Option> llrt::preprocessingOptions(const std::string &folder) {
  return {{"tokenizer", "FILE", "",
           "tokenizer.json or tokenizer.model; if not given, that of " + folder + "."},
          {"preprocessor", "FILE", "",
           "preprocessor_config.json or processor_config.json, for a model that "
           "reads images; if not given, that of " +
               folder + "."}};
}

std::vector<Option> llrt::captionOptions() {
  std::vector<Option> options =
      preprocessingOptions("the folder of the data, or else of the weights");
  options.insert(options.begin(), {"data", "DIR|FILES", "",
                                   "WebDataset: a folder of .tar files, or files separated by "
                                   "commas; {000..012} stands for a range.",
                                   Option::Need::Required});
  for (Option &option : std::vector<Option>{
           {"image-fields", "A,B,...", "",
            "The fields of a sample that are its images, in order; if not "
            "given, all that look like images, ordered by name."},
           {"on-bad-sample", "stop|skip", "stop", "What to do about a sample that cannot be read."},
           {"bad-sample-limit", "X", "0.1",
            "With skip: end when more than this share of the samples of an "
            "epoch is bad (and more than 10)."}})
    options.push_back(std::move(option));
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

const Choice tokenizerChoice = {"tokenizer",
                                {"tokenizer.json", "tokenizer.model", "original/tokenizer.model"},
                                {"tokenizer_config.json", "special_tokens_map.json",
                                 "added_tokens.json", "chat_template.json", "chat_template.jinja"},
                                [](const fs::path &) { return true; }};
const Choice preprocessorChoice = {
    "preprocessor", {"processor_config.json", "preprocessor_config.json"}, {}, hasImageProcessor};

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
  if (auto given = arguments.find(choice.option); given && !fs::is_directory(*given)) {
    // It gets the name by which it will be found again.
    bool isJson = given->ends_with(".json");
    std::string name = choice.names[isJson ? 0 : 1];
    if (isJson && choice.accept == hasImageProcessor &&
        !parseJson(MappedFile(*given).text(), *given).contains("image_processor"))
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
  tokenizer = std::make_unique<Tokenizer>(choose(tokenizerChoice, arguments, folders, files));
  auto check = [&](const char *token, int64_t want) {
    if (int64_t got = tokenizer->specialToken(token); got != want)
      fail(tokenizer->path(), ": token '", token, "': expected id ", want, " of the program, got ",
           got);
  };
  check("<|begin_of_text|>", model.beginToken);
  if (program.images == 0)
    return;
  check("<|image|>", model.imageToken);
  std::string file = choose(preprocessorChoice, arguments, folders, files);
  pipeline = std::make_unique<ImagePipeline>(file);
  if (pipeline->tileSize() != model.tileSize)
    fail(file, ": field 'size': expected the program's tile size ", model.tileSize, ", got ",
         pipeline->tileSize());
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

static std::vector<std::string> splitAtCommas(const std::string &text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, ',');) {
    for (char &c : word) // as the fields of samples
      c = c >= 'A' && c <= 'Z' ? char(c + 'a' - 'A') : c;
    words.push_back(word);
  }
  return words;
}

Captions::Captions(const Program &program, const Arguments &arguments, const std::string &model)
    : program(program), files(expandShards(arguments.text("data"))),
      preprocessing(program, arguments, folders(files, model)),
      imageFields(splitAtCommas(arguments.find("image-fields").value_or(""))),
      skips(arguments.choice("on-bad-sample", {"stop", "skip"}) == "skip"),
      limit(arguments.number("bad-sample-limit", 0)) {}

std::optional<Captions::Loaded> Captions::load(const std::function<std::optional<Sample>()> &next) {
  constexpr int64_t alwaysSkipped = 10; // in an epoch
  CaptionBatch batch({*preprocessing.tokenizer, preprocessing.pipeline.get(),
                      batchShape(program, program.globalBatch()), program.model.padToken,
                      imageFields});
  Loaded loaded;
  while (batch.size() < program.globalBatch()) {
    std::optional<Sample> sample = next();
    if (!sample)
      break;
    ++epochRead;
    try {
      CaptionBatch::Added added = batch.add(*sample);
      ++counts.samples;
      counts.images += added.images;
      counts.imagesPassed += added.imagesPassed;
      counts.cut += added.cut;
      counts.replaced += added.replaced;
      for (const std::string &field : added.otherFields)
        ++counts.otherFields[field];
    } catch (const Error &error) {
      if (!skips)
        fail(error.what(), " (--on-bad-sample=skip goes on without it)");
      ++counts.skipped;
      ++epochBad;
      bool tooMany = double(epochBad) > limit * double(epochRead);
      if ((tooMany && epochBad > alwaysSkipped) ||
          (counts.samples == 0 && counts.skipped > alwaysSkipped))
        fail("option '--bad-sample-limit': expected at most ", limit,
             " of the samples to be bad, got ", epochBad, " of ", epochRead,
             "; the last one: ", error.what());
      loaded.skipped.push_back(error.what());
    }
  }
  if (batch.size() == 0 && loaded.skipped.empty())
    return std::nullopt;
  loaded.inputs = makeModelInputs(batch.take(roundUpSamples(program, batch.size())), "data");
  loaded.counts = counts;
  return loaded;
}

static std::string counted(int64_t count, const char *one, const char *many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

std::string DataCounts::notes(const Program &program) const {
  std::string lines;
  if (cut)
    lines += counted(cut, "caption", "captions") + " cut at " + std::to_string(program.textLength) +
             " tokens\n";
  if (skipped)
    lines += counted(skipped, "bad sample", "bad samples") + " skipped\n";
  if (replaced)
    lines += counted(replaced, "caption", "captions") +
             " with bytes that are not UTF-8, read as U+FFFD\n";
  if (imagesPassed)
    lines += counted(imagesPassed, "image", "images") +
             " passed over: the program was compiled for text alone\n";
  if (program.images > 0 && images == 0 && samples > 0)
    lines += "no sample has an image, though the program reads images\n";
  std::string fields;
  for (const auto &[field, times] : otherFields)
    fields += (fields.empty() ? "" : ", ") + field + " (" + std::to_string(times) + ")";
  if (!fields.empty())
    lines += "fields that nothing was read of: " + fields + "\n";
  if (!withoutField.empty())
    lines += "members without a field were passed over, first " + withoutField + "\n";
  return lines;
}

std::string DataCounts::text(const Program &program) const {
  return "read " + counted(samples, "sample", "samples") + ", " +
         counted(images, "image", "images") + "\n" + notes(program);
}
