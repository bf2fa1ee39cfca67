//===- Inputs.cpp - What a rank reads of the global batch -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// B samples of a micro-batch, S tokens, M images of a sample
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Inputs.h"

#include "src/Commands/Weights.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <sstream>

using namespace llrt;

std::vector<int64_t> llrt::tokenOrder(int64_t tokens, int64_t ranks) {
  std::vector<int64_t> order(tokens);
  std::iota(order.begin(), order.end(), 0);
  if (ranks == 1)
    return order;
  int64_t chunk = tokens / (2 * ranks);
  for (int64_t i = 0; i < tokens; ++i) {
    int64_t number = i / chunk, pair = number / 2;
    int64_t place = number % 2 ? 2 * ranks - 1 - pair : pair;
    order[i] = place * chunk + i % chunk;
  }
  return order;
}

int64_t llrt::firstSample(const Program &program, int64_t rank, int64_t microBatch) {
  int64_t dp = program.grid.coordinate(rank, "dp");
  return (dp * program.microBatches + microBatch) * program.batch;
}

namespace {

// Fills the inputs of one rank for one run.
class Filler {
public:
  Filler(Rank &rank, const ModelInputs &inputs, int64_t microBatch)
      : rank(rank), program(rank.program()), inputs(inputs), microBatch(microBatch) {}

  void text(const Input &to, const std::vector<int64_t> &from) const;
  template <typename T> void images(const Input &to, const std::vector<T> &from, T missing) const;
  void imagePositions(const Input &to) const;
  void vocabularyBias(const Input &to) const;
  std::vector<int64_t> tableIds() const;
  void logitTokens(const Input &to, const std::vector<int64_t> &tokens) const;
  void coordinate(const Input &to, const std::string &axes) const;
  // All of `to`, from numbers of any floating-point type.
  void writeNumbers(const Input &to, const TensorView &numbers) const {
    rank.write(to.address, to.elements() * typeSize(to.type),
               [&](std::byte *memory) { convert(numbers, to.type, memory, to.name); });
  }

private:
  [[noreturn]] void wrong(const Input &to, const std::string &expected) const {
    fail("the program in this executable: input '", to.name, "': expected ", expected, ", got ",
         shapeText(to.shape), " of ", typeName(to.type));
  }
  void requireInt64(const Input &to) const {
    if (to.type != LLRT_I64)
      wrong(to, "i64");
  }

  Rank &rank;
  const Program &program;
  const ModelInputs &inputs;
  int64_t microBatch;
};

} // namespace

// [B, S], of which a rank has some tokens.
void Filler::text(const Input &to, const std::vector<int64_t> &from) const {
  const Grid &grid = program.grid;
  int64_t S = program.textLength, B = program.batch;
  std::optional<size_t> cp = grid.find("cp");
  int64_t chunked = cp ? grid.axes[*cp].size : 1;
  Axes axes = to.split.empty() ? Axes() : to.split[1];
  int64_t parts = grid.size(axes), local = S / parts;
  if (S % parts || (chunked > 1 && S % (2 * chunked)))
    fail("the program in this executable: field 'text_length': expected a "
         "multiple of ",
         std::lcm(parts, 2 * chunked), ", got ", S);
  if (to.shape != std::vector<int64_t>{B, local})
    wrong(to, shapeText({B, local}));
  requireInt64(to);
  std::vector<int64_t> order = tokenOrder(S, chunked);
  int64_t begin = grid.index(rank.number(), axes) * local;
  int64_t sample = firstSample(program, rank.number(), microBatch);
  std::vector<int64_t> rows;
  for (int64_t b = 0; b < B; ++b)
    for (int64_t i = 0; i < local; ++i)
      rows.push_back(from[(sample + b) * S + order[begin + i]]);
  rank.writeValues(to.address, rows);
}

// [images, ...] of a micro-batch, or of a group of them; `missing` where there
// is no image.
template <typename T>
void Filler::images(const Input &to, const std::vector<T> &from, T missing) const {
  if ((sizeof(T) == sizeof(int64_t)) != (to.type == LLRT_I64))
    wrong(to, sizeof(T) == sizeof(int64_t) ? "i64" : "a float type");
  if (to.elements() == 0)
    return; // the program reads no images
  if (program.images == 0)
    wrong(to, "no elements");
  int64_t perBatch = program.batch * program.images; // of a micro-batch
  int64_t size = from.size() / (inputs.shape.samples * program.images);
  int64_t group = to.images ? to.images->group : 1;
  // Without `images` the first dimensions are [B, M].
  int64_t count = to.images ? to.shape[0] : perBatch;
  if (to.elements() != count * size)
    wrong(to, std::to_string(size) + " elements for each image");
  int64_t begin = 0;
  if (to.images) {
    if (count * program.grid.size(to.images->axes) < group * perBatch)
      wrong(to, "room for the " + std::to_string(group * perBatch) + " images of a group");
    begin = program.grid.index(rank.number(), to.images->axes) * count;
  }
  // Images of a group are consecutive in the global batch.
  int64_t first = firstSample(program, rank.number(), microBatch * group) * program.images;
  // The last group of a step may be smaller.
  int64_t batches = std::min(group, program.microBatches - microBatch * group);
  // On one rank there may be fewer samples than a global batch.
  int64_t given = inputs.shape.samples * program.images - first;
  int64_t real = std::clamp<int64_t>(std::min(batches * perBatch, given) - begin, 0, count);
  rank.write(to.address, to.elements() * typeSize(to.type), [&](std::byte *memory) {
    LlrtType sourceType = sizeof(T) == sizeof(int64_t) ? LLRT_I64 : LLRT_F32;
    auto put = [&](int64_t at, const T *data, int64_t elements) {
      std::byte *place = memory + at * typeSize(to.type);
      if (sourceType == LLRT_I64)
        std::memcpy(place, data, elements * sizeof(T));
      else
        convert(viewOf(data, sourceType, elements), to.type, place, to.name);
    };
    put(0, from.data() + (first + begin) * size, real * size);
    std::vector<T> none(size, missing);
    for (int64_t image = real; image < count; ++image)
      put(image * size, none.data(), size);
  });
}

// [1, T]: 0, 1, .. T - 1, of which a rank has some.
void Filler::imagePositions(const Input &to) const {
  requireInt64(to);
  Axes axes = to.split.empty() ? Axes() : to.split.back();
  int64_t begin = program.grid.index(rank.number(), axes) * to.elements();
  std::vector<int64_t> tokens(to.elements());
  std::iota(tokens.begin(), tokens.end(), begin);
  rank.writeValues(to.address, tokens);
}

// [V']: what is added to the logits; behind the vocabulary so little that
// nothing is left of their exponentials.
void Filler::vocabularyBias(const Input &to) const {
  if (to.type == LLRT_I64)
    wrong(to, "a float type");
  std::vector<float> bias(to.elements());
  for (int64_t i = program.model.vocabulary; i < to.elements(); ++i)
    bias[i] = -1e30f;
  writeNumbers(to, viewOf(bias.data(), LLRT_F32, to.elements()));
}

// The ids as a table of the vocabulary alone looks them up: -1 behind it.
std::vector<int64_t> Filler::tableIds() const {
  std::vector<int64_t> ids = inputs.inputIds;
  for (int64_t &id : ids)
    if (id >= program.model.vocabulary)
      id = -1;
  return ids;
}

// [B, K]: the numbers of the tokens at the places `tokens` of a sample, in the order of axis cp;
// -1, no token, behind them.
void Filler::logitTokens(const Input &to, const std::vector<int64_t> &tokens) const {
  requireInt64(to);
  if (to.shape.size() != 2 || to.shape[0] != program.batch)
    wrong(to, "shape [" + std::to_string(program.batch) + ", K]");
  std::optional<size_t> cp = program.grid.find("cp");
  std::vector<int64_t> order = tokenOrder(program.textLength, cp ? program.grid.axes[*cp].size : 1);
  std::vector<int64_t> numbers(to.shape[1], -1);
  for (size_t i = 0; i < numbers.size() && i < tokens.size(); ++i)
    numbers[i] = std::find(order.begin(), order.end(), tokens[i]) - order.begin();
  std::vector<int64_t> all;
  for (int64_t b = 0; b < program.batch; ++b)
    all.insert(all.end(), numbers.begin(), numbers.end());
  rank.writeValues(to.address, all);
}

// [1]: the coordinate on `axes`, separated by commas.
void Filler::coordinate(const Input &to, const std::string &axes) const {
  requireInt64(to);
  Axes list;
  std::istringstream names(axes);
  for (std::string name; std::getline(names, name, ',');) {
    std::optional<size_t> axis = program.grid.find(name);
    if (!axis)
      wrong(to, "names of axes behind 'coordinate:'");
    list.push_back(*axis);
  }
  rank.writeValues<int64_t>(to.address, {program.grid.index(rank.number(), list)});
}

// Whether the coordinates of the rank on `axes` are all 0.
static bool isFirst(const Rank &rank, const Input &to, const std::string &axes) {
  std::istringstream names(axes);
  for (std::string name; std::getline(names, name, ',');) {
    std::optional<size_t> axis = rank.program().grid.find(name);
    if (!axis)
      fail("the program in this executable: input '", to.name,
           "': expected names of axes behind 'once:'");
    if (rank.program().grid.coordinate(rank.number(), *axis) != 0)
      return false;
  }
  return true;
}

void llrt::setEntryInputs(Rank &rank, const std::array<double, 8> *hyperparameters) {
  constexpr std::string_view once = "once:";
  for (size_t index : rank.stage().entryInputs) {
    const Input &to = rank.stage().inputs[index];
    const bool isOnce = to.name.starts_with(once);
    if (!isOnce && to.name != known::hyperparameters)
      fail("the program in this executable: unknown input '", to.name, "'");
    const int64_t count = isOnce ? 1 : 8;
    if (to.type != LLRT_F64 || to.elements() != count)
      fail("the program in this executable: input '", to.name, "': expected ", count,
           " numbers of f64, got ", shapeText(to.shape), " of ", typeName(to.type));
    if (!rank.holds(to.address, count * int64_t(sizeof(double))))
      continue; // of another program
    if (isOnce)
      rank.writeValues<double>(to.address,
                               {isFirst(rank, to, to.name.substr(once.size())) ? 1.0 : 0.0});
    else if (hyperparameters)
      rank.writeValues<double>(to.address, {hyperparameters->begin(), hyperparameters->end()});
  }
}

void llrt::setInputs(Rank &rank, const Graph &graph, const ModelInputs &inputs, int64_t microBatch,
                     double lossGradient, const std::vector<int64_t> &logitTokens) {
  Filler filler(rank, inputs, microBatch);
  const std::map<std::string, const std::vector<int64_t> *> texts = {
      {"input_ids", &inputs.inputIds},      {"labels", &inputs.labels},
      {"positions", &inputs.positions},     {"documents", &inputs.documents},
      {"key_positions", &inputs.positions}, {"key_documents", &inputs.documents},
      {"image_begin", &inputs.imageBegin},  {"image_end", &inputs.imageEnd}};
  for (size_t index : graph.inputs) {
    const Input &to = rank.stage().inputs[index];
    std::string name = to.name;
    if (name.starts_with("encoder:"))
      name = name.substr(std::strlen("encoder:"));
    if (auto text = texts.find(name); text != texts.end())
      filler.text(to, *text->second);
    else if (name == "tiles")
      filler.images<int64_t>(to, inputs.tiles, 1);
    else if (name == "aspect_ratio_ids")
      filler.images<int64_t>(to, inputs.aspectIds, 0);
    else if (name == "pixels")
      filler.images<float>(to, inputs.pixels, 0);
    else if (name == "image_positions")
      filler.imagePositions(to);
    else if (name == "table_ids")
      filler.text(to, filler.tableIds());
    else if (name == "vocabulary_bias")
      filler.vocabularyBias(to);
    else if (name == known::logitTokens)
      filler.logitTokens(to, logitTokens);
    else if (name == "loss_gradient")
      filler.writeNumbers(to, viewOf(&lossGradient, LLRT_F64, 1));
    else if (name.starts_with("coordinate:"))
      filler.coordinate(to, name.substr(std::strlen("coordinate:")));
    else
      fail("the program in this executable: unknown input '", to.name, "'");
  }
}
