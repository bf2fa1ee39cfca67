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
#include "src/Commands/Memory.h"
#include "src/Commands/ModelFolder.h"
#include "src/Commands/Steps.h"
#include "src/Commands/Weights.h"
#include "src/Data/Error.h"
#include "src/Data/Utf8.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <sstream>

using namespace llrt;

static std::vector<Option> generateOptions(const Program &program) {
  std::vector<Option> options = {
      {"weights", "PATH", "", weightsHelp, Option::Need::Required},
      {"prompt", "TEXT", "", "What the text begins with; nothing if not given.",
       Option::Need::Optional, /*mayBeEmpty=*/true},
      {"image", "FILE", "", "A PNG, JPEG, WebP, GIF, TIFF or BMP that the text is about.",
       Option::Need::Repeated},
      {"images-list", "FILE", "",
       "Instead of --image: a file with a path in each line, - for the "
       "standard input. Continues the "
       "prompt "
       "for each image alone and prints path, tab, text."},
      {"max-tokens", "N", "64", "The most tokens that are added."}};
  for (Option &option : preprocessingOptions("the folder of the weights"))
    options.push_back(std::move(option));
  for (Option &option : rankOptions(program))
    options.push_back(std::move(option));
  return options;
}

namespace {

class Generator {
public:
  Generator(Ranks &ranks, const Preprocessing &preprocessing, std::vector<int64_t> endTokens,
            int64_t maxTokens)
      : ranks(ranks), program(ranks.program()), preprocessing(preprocessing),
        endTokens(std::move(endTokens)), maxTokens(maxTokens) {
    logitTokens(program);
  }

  // Texts that are continued together.
  int64_t size() const { return roundUpSamples(program, 1); }

  // Continues `prompt` for each entry of `images`, the files of that text's
  // images; at most `size()` entries, all of the same length.
  std::vector<std::string> generate(const std::string &prompt,
                                    const std::vector<std::vector<std::string>> &images);

private:
  ModelInputs makeInputs(const std::vector<int64_t> &ids,
                         const std::vector<std::vector<std::string>> &images) const;
  std::vector<int64_t> likeliest(const ModelInputs &inputs, int64_t position);

  Ranks &ranks;
  const Program &program;
  const Preprocessing &preprocessing;
  std::vector<int64_t> endTokens;
  int64_t maxTokens;
};

} // namespace

ModelInputs Generator::makeInputs(const std::vector<int64_t> &ids,
                                  const std::vector<std::vector<std::string>> &images) const {
  int64_t S = program.textLength, B = size();
  Batch batch;
  batch.shape = batchShape(program, B);
  batch.inputIds.assign(B * S, program.model.padToken);
  batch.labels.assign(B * S, ignoredLabel);
  batch.attentionMask.assign(B * S, 1);
  for (int64_t b = 0; b < B; ++b)
    std::copy(ids.begin(), ids.end(), batch.inputIds.begin() + b * S);
  for (size_t b = 0; b < images.size(); ++b)
    for (size_t m = 0; m < images[b].size(); ++m)
      putImage(batch, int64_t(b), int64_t(m),
               preprocessing.pipeline->process(
                   decodeImage(MappedFile(images[b][m]).text(), images[b][m])));
  return makeModelInputs(std::move(batch), "prompt");
}

// The likeliest token behind `position` of each sample, in all processes.
std::vector<int64_t> Generator::likeliest(const ModelInputs &inputs, int64_t position) {
  // Each rank notes the largest of its logits; of equal ones the first counts.
  struct Candidate {
    int64_t sample, token;
    double logit;
  };
  std::vector<std::vector<Candidate>> found(program.grid.ranks());
  auto note = [&](const Logits &logits) {
    std::vector<double> row;
    logits.forEachToken(
        [&](int64_t sample, int64_t place, int64_t begin, const TensorView &values) {
          if (place != position)
            return;
          row.resize(values.elements());
          convert(values, LLRT_F64, row.data(), "logits");
          auto largest = std::max_element(row.begin(), row.end());
          for (auto logit = row.begin(); logit != row.end(); ++logit)
            if (std::isnan(*logit))
              largest = logit;
          found[logits.owner()].push_back({sample, begin + (largest - row.begin()), *largest});
        });
  };
  runForward(ranks, inputs, note, {position});
  std::vector<std::string> texts = ranks.texts([&](Rank &rank) {
    const std::vector<Candidate> &list = found[rank.number()];
    return std::string(reinterpret_cast<const char *>(list.data()),
                       list.size() * sizeof(Candidate));
  });
  std::vector<int64_t> tokens(size());
  std::string chosen = ranks.atRoot([&] {
    std::vector<std::optional<Candidate>> best(size());
    for (const std::string &text : texts)
      for (size_t at = 0; at < text.size(); at += sizeof(Candidate)) {
        Candidate candidate;
        std::memcpy(&candidate, text.data() + at, sizeof(Candidate));
        std::optional<Candidate> &other = best[candidate.sample];
        if (std::isnan(candidate.logit))
          throw Failure("expected logits that are numbers, got nan at token " +
                        std::to_string(position) + " of sample " +
                        std::to_string(candidate.sample));
        if (!other || candidate.logit > other->logit ||
            (candidate.logit == other->logit && candidate.token < other->token))
          other = candidate;
      }
    for (size_t sample = 0; sample < tokens.size(); ++sample)
      tokens[sample] = best[sample].value().token;
    return std::string(reinterpret_cast<const char *>(tokens.data()),
                       tokens.size() * sizeof(int64_t));
  });
  std::memcpy(tokens.data(), chosen.data(), chosen.size());
  return tokens;
}

std::vector<std::string> Generator::generate(const std::string &prompt,
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
    std::vector<int64_t> tokens = likeliest(inputs, position - 1);
    for (size_t b = 0; b < images.size(); ++b) {
      if (ended[b])
        continue;
      int64_t token = tokens[b];
      ended[b] = std::find(endTokens.begin(), endTokens.end(), token) != endTokens.end();
      if (!ended[b])
        added[b].push_back(token);
      inputs.inputIds[b * program.textLength + position] = token;
    }
    if (std::find(ended.begin(), ended.end(), false) == ended.end())
      break;
  }
  std::vector<std::string> texts;
  for (const std::vector<int64_t> &tokens : added)
    texts.push_back(replaceInvalidUtf8(preprocessing.tokenizer->decode(tokens)));
  return texts;
}

// The bytes of `file`; `-` is the standard input.
static std::string readList(const std::string &file) {
  if (file != "-")
    return std::string(MappedFile(file).text());
  std::ostringstream text;
  text << std::cin.rdbuf();
  return text.str();
}

// The paths in a list, one per line. A byte order mark and the carriage returns
// of Windows are no part of them.
static std::vector<std::string> linesOf(const std::string &list) {
  std::vector<std::string> lines;
  std::istringstream text(list);
  for (std::string line; std::getline(text, line);) {
    if (lines.empty() && line.starts_with("\xEF\xBB\xBF"))
      line.erase(0, 3);
    if (line.ends_with('\r'))
      line.pop_back();
    if (!line.empty())
      lines.push_back(line);
  }
  return lines;
}

static int generate(const Program &program, const Arguments &arguments) {
  int64_t maxTokens = arguments.integer("max-tokens", 1);
  std::string prompt = arguments.find("prompt").value_or("");
  std::vector<std::string> images = arguments.all("image");
  std::optional<std::string> list = arguments.find("images-list");
  if (list && !images.empty())
    fail("option '--images-list': expected no --image beside it, got '", images[0], "'");
  if (int64_t count = list ? 1 : images.size(); count > program.images)
    fail("option '--image': expected at most ", program.images,
         " images, as the program was compiled, got ", count);

  ModelFolder model(arguments.text("weights"));
  Preprocessing preprocessing(program, arguments, {model.folder()});
  requireMemory(program, arguments, {"forward"});
  Ranks ranks(program, arguments, {"forward"});
  Weights weights(program);
  model.load(ranks, weights);
  ranks.meet();
  Generator generator(ranks, preprocessing, endTokens(program, model, preprocessing), maxTokens);
  std::vector<std::string> paths;
  if (list) // of the processes, one has the standard input
    paths = linesOf(ranks.atRoot([&] { return readList(*list); }));
  if (list && paths.empty())
    fail("option '--images-list': expected paths of images in ", *list, ", got none");

  if (!list) {
    std::string continuation = generator.generate(prompt, {images})[0];
    std::cout << replaceInvalidUtf8(prompt) << continuation << "\n";
    return 0;
  }
  for (size_t first = 0; first < paths.size(); first += generator.size()) {
    size_t count = std::min<size_t>(generator.size(), paths.size() - first);
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
  return {"generate", "Continue a text about images.", generateOptions, generate};
}
