//===- Generate.cpp - OUT generate ----------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Greedy continuation of `<|begin_of_text|><|image|>...prompt`. Each token
// takes one forward over the whole text length; what lies behind the last token
// does not matter, as text attention is causal.
//
// B batch, S text length, M images of a sample, R tile side, V vocabulary
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Captions.h"
#include "src/Commands/Commands.h"
#include "src/Commands/Steps.h"
#include "src/Commands/Weights.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <sstream>

using namespace llrt;

static std::vector<Option> generateOptions(const Program &) {
  std::vector<Option> options = {
      {"weights", "PATH", "",
       "Weights: a safetensors file, an index, or a HuggingFace folder.",
       Option::Need::Required},
      {"prompt", "TEXT", "",
       "What the text begins with; nothing if not given."},
      {"image", "FILE", "", "A PNG or JPEG that the text is about.",
       Option::Need::Repeated},
      {"images-list", "FILE", "",
       "Instead of --image: a file with a path in each line. Continues the "
       "prompt "
       "for each image alone and prints path, tab, text."},
      {"max-tokens", "N", "64", "The most tokens that are added."},
      threadsOption()};
  for (Option &option : preprocessingOptions("the folder of the weights"))
    options.push_back(std::move(option));
  return options;
}

namespace {

class Generator {
public:
  Generator(Rank &rank, const Preprocessing &preprocessing, int64_t maxTokens)
      : rank(rank), program(rank.program()), preprocessing(preprocessing),
        logits(logitsOutput(rank)), maxTokens(maxTokens) {}

  // Continues `prompt` for each entry of `images`, the files of that text's
  // images; at most B entries, all of the same length.
  std::vector<std::string>
  generate(const std::string &prompt,
           const std::vector<std::vector<std::string>> &images);

private:
  ModelInputs
  makeInputs(const std::vector<int64_t> &ids,
             const std::vector<std::vector<std::string>> &images) const;
  int64_t likeliest(int64_t sample, int64_t position) const;

  Rank &rank;
  const Program &program;
  const Preprocessing &preprocessing;
  const Buffer &logits;
  int64_t maxTokens;
};

} // namespace

ModelInputs Generator::makeInputs(
    const std::vector<int64_t> &ids,
    const std::vector<std::vector<std::string>> &images) const {
  int64_t S = program.textLength, M = program.images,
          R = program.model.tileSize;
  int64_t B = program.batch;
  Batch batch;
  batch.shape = batchShape(program, B);
  batch.inputIds.assign(B * S, program.model.padToken);
  batch.labels.assign(B * S, ignoredLabel);
  batch.attentionMask.assign(B * S, 1);
  for (int64_t b = 0; b < B; ++b)
    std::copy(ids.begin(), ids.end(), batch.inputIds.begin() + b * S);
  if (!images[0].empty()) {
    int64_t pixels = maxTiles * 3 * R * R; // of one image
    batch.pixelValues.resize(B * M * pixels);
    batch.aspectRatioIds.resize(B * M);
    batch.aspectRatioMask.resize(B * M * maxTiles);
    batch.crossAttentionMask.resize(B * S * M * maxTiles);
    for (int64_t image = 0; image < B * M; ++image)
      batch.aspectRatioMask[image * maxTiles] = 1; // of missing images too
  }
  for (size_t b = 0; b < images.size(); ++b)
    for (size_t m = 0; m < images[b].size(); ++m) {
      const std::string &path = images[b][m];
      ImageTiles tiles = preprocessing.pipeline->process(
          decodeImage(MappedFile(path).text(), path));
      int64_t image = b * M + m;
      std::copy(tiles.pixels.begin(), tiles.pixels.end(),
                batch.pixelValues.begin() + image * tiles.pixels.size());
      batch.aspectRatioIds[image] = tiles.aspectRatioId;
      std::fill_n(batch.aspectRatioMask.begin() + image * maxTiles, tiles.tiles,
                  1);
      // Markers stand beside each other, at 1, 2, ...: the text after the last
      // one sees all images, a marker its own and those before it.
      for (int64_t s = 1 + m; s < S; ++s)
        std::fill_n(batch.crossAttentionMask.begin() +
                        ((b * S + s) * M + m) * maxTiles,
                    tiles.tiles, 1);
    }
  return makeModelInputs(std::move(batch), "prompt");
}

int64_t Generator::likeliest(int64_t sample, int64_t position) const {
  int64_t V = program.model.vocabulary;
  int64_t row = (sample * program.textLength + position) * V;
  std::vector<double> values(V);
  convert(viewOf(rank.at<char>(logits.address) + row * typeSize(logits.type),
                 logits.type, V),
          LLRT_F64, values.data(), "logits");
  return std::max_element(values.begin(), values.end()) - values.begin();
}

std::vector<std::string>
Generator::generate(const std::string &prompt,
                    const std::vector<std::vector<std::string>> &images) {
  const Program::Model &model = program.model;
  std::vector<int64_t> ids = {model.beginToken};
  ids.insert(ids.end(), images[0].size(), model.imageToken);
  std::vector<int64_t> words = preprocessing.tokenizer->encode(prompt);
  ids.insert(ids.end(), words.begin(), words.end());
  int64_t begin = ids.size();
  if (begin >= program.textLength)
    fail("option '--prompt': expected at most ", program.textLength - 1,
         " tokens with begin and image markers, got ", begin);

  ModelInputs inputs = makeInputs(ids, images);
  std::vector<std::vector<int64_t>> added(images.size());
  std::vector<bool> ended(images.size(), false);
  int64_t end = std::min(begin + maxTokens, program.textLength);
  for (int64_t position = begin; position < end; ++position) {
    runForward(rank, inputs);
    for (size_t b = 0; b < images.size(); ++b) {
      if (ended[b])
        continue;
      int64_t token = likeliest(b, position - 1);
      ended[b] = std::find(model.endTokens.begin(), model.endTokens.end(),
                           token) != model.endTokens.end();
      if (!ended[b])
        added[b].push_back(token);
      inputs.inputIds[b * program.textLength + position] = token;
    }
    if (std::find(ended.begin(), ended.end(), false) == ended.end())
      break;
  }
  std::vector<std::string> texts;
  for (const std::vector<int64_t> &tokens : added)
    texts.push_back(
        replaceInvalidUtf8(preprocessing.tokenizer->decode(tokens)));
  return texts;
}

// The paths in `file`, one per line.
static std::vector<std::string> readLines(const std::string &file) {
  std::vector<std::string> lines;
  MappedFile mapped(file);
  std::istringstream text{std::string(mapped.text())};
  for (std::string line; std::getline(text, line);)
    if (!line.empty())
      lines.push_back(line);
  return lines;
}

static int generate(const Program &program, const Arguments &arguments) {
  int64_t maxTokens = arguments.integer("max-tokens", 1);
  std::string prompt = arguments.find("prompt").value_or("");
  std::vector<std::string> images = arguments.all("image");
  std::optional<std::string> list = arguments.find("images-list");
  if (list && !images.empty())
    fail("option '--images-list': expected no --image beside it, got '",
         images[0], "'");
  if (int64_t count = list ? 1 : images.size(); count > program.images)
    fail("option '--image': expected at most ", program.images,
         " images, as the program was compiled, got ", count);
  std::vector<std::string> paths;
  if (list)
    paths = readLines(*list);

  std::string weightsPath = arguments.text("weights");
  std::filesystem::path folder = weightsPath;
  if (!std::filesystem::is_directory(folder))
    folder = folder.has_parent_path() ? folder.parent_path() : ".";
  Preprocessing preprocessing(program, arguments, folder);
  Rank rank(program, 0, threads(arguments));
  Weights weights(program);
  weights.load(rank, SafeTensors(weightsPath));
  Generator generator(rank, preprocessing, maxTokens);

  if (!list) {
    std::string continuation = generator.generate(prompt, {images})[0];
    std::cout << prompt << continuation << "\n";
    return 0;
  }
  for (size_t first = 0; first < paths.size(); first += program.batch) {
    size_t count = std::min<size_t>(program.batch, paths.size() - first);
    std::vector<std::vector<std::string>> group;
    for (size_t i = 0; i < count; ++i)
      group.push_back({paths[first + i]});
    std::vector<std::string> texts = generator.generate(prompt, group);
    for (size_t i = 0; i < count; ++i) {
      // A line and two columns, whatever the text holds.
      std::replace_if(
          texts[i].begin(), texts[i].end(),
          [](char c) { return c == '\n' || c == '\t' || c == '\r'; }, ' ');
      std::cout << paths[first + i] << "\t" << texts[i] << std::endl;
    }
  }
  return 0;
}

Command llrt::generateCommand() {
  return {"generate", "Continue a text about images.", generateOptions,
          generate};
}
