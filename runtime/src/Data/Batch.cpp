//===- Batch.cpp - Samples to what the model reads -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Batch.h"

#include "src/Data/Error.h"
#include "src/Data/SafeTensors.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace llrt {

namespace {

// The place of element `index` of a tensor of this shape: `[1, 0, 5]`.
std::string placeText(size_t index, const std::vector<int64_t> &shape) {
  std::vector<int64_t> place(shape.size());
  for (size_t axis = shape.size(); axis-- > 0; index /= size_t(shape[axis]))
    place[axis] = int64_t(index % size_t(shape[axis]));
  return shapeText(place);
}

// Reads the tensors of B.safetensors, each with its shape checked.
class BatchReader {
public:
  BatchReader(const SafeTensors &file) : file(file) {}

  // `good(value)` for every element, else an error that says `expected`.
  template <typename Good>
  std::vector<int64_t> integers(const char *name, std::vector<int64_t> shape,
                                const std::string &expected, Good good) {
    const TensorView &view = checked(name, DType::I64, shape);
    std::vector<int64_t> values = toInt64(view, where(name));
    for (size_t i = 0; i < values.size(); ++i)
      if (!good(values[i]))
        fail(where(name), ": element ", placeText(i, shape), ": expected ",
             expected, ", got ", values[i]);
    return values;
  }

  std::vector<int64_t> mask(const char *name, std::vector<int64_t> shape) {
    return integers(name, std::move(shape), "0 or 1",
                    [](int64_t value) { return value == 0 || value == 1; });
  }

  std::vector<float> floats(const char *name, std::vector<int64_t> shape) {
    const TensorView &view = checked(name, DType::F32, shape);
    std::vector<float> values(size_t(view.elements()));
    toFloat(view, values.data(), where(name));
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        fail(where(name), ": element ", placeText(i, shape),
             ": expected a finite number, got ", values[i]);
    return values;
  }

  bool has(const char *name) const { return file.find(name) != nullptr; }
  std::string where(const std::string &name) const {
    return file.path() + ": tensor '" + name + "'";
  }

private:
  const TensorView &checked(const char *name, DType dtype,
                            const std::vector<int64_t> &shape) {
    const TensorView &view = file.at(name);
    if (view.dtype != dtype || view.shape != shape)
      fail(where(name), ": expected ", dtypeName(dtype), " ", shapeText(shape),
           ", got ", dtypeName(view.dtype), " ", shapeText(view.shape));
    return view;
  }

  const SafeTensors &file;
};

// The caption of a sample.
std::string captionOf(const Sample &sample, const std::string &where) {
  auto text = sample.fields.find("txt");
  if (text != sample.fields.end())
    return text->second;
  auto description = sample.fields.find("json");
  if (description == sample.fields.end())
    fail(where, ": expected a field 'txt' or 'json'");
  nlohmann::json object =
      parseJson(description->second, where + ": field 'json'");
  for (const char *key : {"caption", "text"})
    if (object.is_object() && object.contains(key) && object[key].is_string())
      return object[key].get<std::string>();
  fail(where, ": field 'json': expected a string 'caption' or 'text'");
}

} // namespace

Batch readBatch(const std::string &path, const BatchShape &shape) {
  const auto &[B, S, M, R, vocabulary, extraRows] = shape;
  SafeTensors file(path);
  BatchReader reader(file);
  const char *const imageNames[] = {"pixel_values", "aspect_ratio_ids",
                                    "aspect_ratio_mask",
                                    "cross_attention_mask"};
  std::set<std::string> known = {"input_ids", "labels", "attention_mask",
                                 "document_ids"};
  known.insert(std::begin(imageNames), std::end(imageNames));
  for (const auto &[name, view] : file.tensors())
    if (!known.contains(name))
      fail(reader.where(name), ": expected only the tensors of a batch");

  Batch batch;
  batch.shape = shape;
  int64_t idCount = vocabulary + extraRows, labelCount = vocabulary;
  batch.inputIds = reader.integers(
      "input_ids", {B, S}, "0 to " + std::to_string(idCount - 1),
      [=](int64_t id) { return id >= 0 && id < idCount; });
  batch.labels = reader.integers(
      "labels", {B, S}, "-100 or 0 to " + std::to_string(labelCount - 1),
      [=](int64_t label) {
        return label == ignoredLabel || (label >= 0 && label < labelCount);
      });
  batch.attentionMask = reader.mask("attention_mask", {B, S});
  if (reader.has("document_ids"))
    batch.documentIds = reader.integers("document_ids", {B, S}, "at least 0",
                                        [](int64_t id) { return id >= 0; });

  auto has = [&](const char *name) { return reader.has(name); };
  if (std::none_of(std::begin(imageNames), std::end(imageNames), has))
    return batch;
  for (const char *name : imageNames)
    if (!has(name))
      fail(reader.where(name), ": missing; expected the four image tensors "
                               "together or none of them");
  if (M == 0)
    fail(reader.where(imageNames[0]),
         ": expected none, the program has no images");
  batch.pixelValues = reader.floats("pixel_values", {B, M, maxTiles, 3, R, R});
  int64_t lastAspect = int64_t(canvases.size());
  batch.aspectRatioIds = reader.integers(
      "aspect_ratio_ids", {B, M}, "0 to " + std::to_string(lastAspect),
      [=](int64_t id) { return id >= 0 && id <= lastAspect; });
  batch.aspectRatioMask = reader.mask("aspect_ratio_mask", {B, M, maxTiles});
  for (size_t i = 0; i < batch.aspectRatioMask.size(); ++i) {
    int64_t id = batch.aspectRatioIds[i / maxTiles];
    int64_t expected = int64_t(i % maxTiles) < tilesOfAspect(id);
    if (batch.aspectRatioMask[i] != expected)
      fail(reader.where("aspect_ratio_mask"), ": element ",
           placeText(i, {B, M, maxTiles}), ": expected ", expected,
           " for aspect ratio id ", id, ", got ", batch.aspectRatioMask[i]);
  }
  batch.crossAttentionMask =
      reader.mask("cross_attention_mask", {B, S, M, maxTiles});
  return batch;
}

Batch makeCaptionBatch(const std::vector<Sample> &samples,
                       const Tokenizer &tokenizer,
                       const ImagePipeline *pipeline, const BatchShape &shape) {
  return makeCaptionBatch(samples, tokenizer, pipeline, shape,
                          tokenizer.specialToken("<|finetune_right_pad_id|>"));
}

Batch makeCaptionBatch(const std::vector<Sample> &samples,
                       const Tokenizer &tokenizer,
                       const ImagePipeline *pipeline, const BatchShape &shape,
                       int64_t padId) {
  const auto &[B, S, M, R, vocabulary, extraRows] = shape;
  if (int64_t(samples.size()) != B)
    fail("batch: expected ", B, " samples, got ", samples.size());
  if (M > 0 && (!pipeline || pipeline->tileSize() != R))
    fail("preprocessor_config.json: field 'size': expected ", R,
         ", the tile size of the program, got ",
         pipeline ? pipeline->tileSize() : 0);
  int64_t beginId = tokenizer.specialToken("<|begin_of_text|>");
  int64_t endId = tokenizer.specialToken(captionEnd);
  int64_t imageId = M > 0 ? tokenizer.specialToken("<|image|>") : -1;
  // Only `<|image|>` may lie behind the vocabulary: it has an embedding, no
  // label.
  if (endId >= vocabulary || padId < 0 || padId >= vocabulary ||
      tokenizer.baseTokens() > vocabulary ||
      (M > 0 && imageId >= vocabulary + extraRows))
    fail(tokenizer.path(), ": expected token ids below the vocabulary of ",
         vocabulary, " (and ", extraRows, " extra rows), got ",
         tokenizer.baseTokens(), " base tokens, end ", endId, ", padding ",
         padId, ", image ", imageId);

  Batch batch;
  batch.shape = shape;
  batch.inputIds.assign(size_t(B * S), padId);
  batch.labels.assign(size_t(B * S), ignoredLabel);
  batch.attentionMask.assign(size_t(B * S), 0);
  size_t imageFloats = size_t(maxTiles * 3 * R * R); // of one image
  for (int64_t b = 0; b < B; ++b) {
    const Sample &sample = samples[size_t(b)];
    std::string where = sample.shard + ": sample '" + sample.key + "'";
    const std::string *imageBytes = nullptr;
    std::string imageWhere;
    for (const char *field : {"png", "jpg", "jpeg"}) {
      auto found = sample.fields.find(field);
      if (M == 0 || found == sample.fields.end())
        continue;
      if (imageBytes)
        fail(where, ": expected at most one image, got another in field '",
             field, "'");
      imageBytes = &found->second;
      imageWhere = where + ": field '" + field + "'";
    }

    std::vector<int64_t> ids = {beginId};
    if (imageBytes)
      ids.push_back(imageId);
    size_t start = ids.size();
    std::vector<int64_t> caption = tokenizer.encode(captionOf(sample, where));
    ids.insert(ids.end(), caption.begin(), caption.end());
    ids.push_back(endId);
    ids.resize(std::min(ids.size(), size_t(S)));
    size_t row = size_t(b * S);
    for (size_t s = 0; s < ids.size(); ++s) {
      batch.inputIds[row + s] = ids[s];
      batch.attentionMask[row + s] = 1;
      if (s >= start)
        batch.labels[row + s] = ids[s];
    }

    if (!imageBytes)
      continue;
    if (batch.pixelValues.empty()) { // the first image of the batch
      batch.pixelValues.resize(size_t(B * M) * imageFloats);
      batch.aspectRatioIds.resize(size_t(B * M));
      batch.aspectRatioMask.resize(size_t(B * M * maxTiles));
      for (size_t i = 0; i < batch.aspectRatioMask.size(); i += maxTiles)
        batch.aspectRatioMask[i] = 1; // of missing images too
      batch.crossAttentionMask.resize(size_t(B * S * M * maxTiles));
    }
    size_t image = size_t(b * M); // the first image of the sample
    ImageTiles tiles = pipeline->process(decodeImage(*imageBytes, imageWhere));
    std::copy(tiles.pixels.begin(), tiles.pixels.end(),
              batch.pixelValues.begin() + int64_t(image * imageFloats));
    batch.aspectRatioIds[image] = tiles.aspectRatioId;
    std::fill_n(&batch.aspectRatioMask[image * maxTiles], tiles.tiles, 1);
    for (size_t s = start - 1; s < size_t(S); ++s)
      std::fill_n(&batch.crossAttentionMask[(row + s) * size_t(M * maxTiles)],
                  tiles.tiles, 1);
  }
  return batch;
}

ModelInputs makeModelInputs(Batch batch, const std::string &name) {
  const auto &[B, S, M, R, vocabulary, extraRows] = batch.shape;
  bool hasImages = !batch.aspectRatioIds.empty();
  ModelInputs inputs;
  inputs.shape = batch.shape;
  inputs.validTokens = 0;
  inputs.inputIds = std::move(batch.inputIds);

  size_t tokens = size_t(B * S);
  inputs.labels.assign(tokens, ignoredLabel);
  inputs.positions.resize(tokens);
  inputs.documents.resize(tokens);
  for (size_t i = 0; i < tokens; ++i) {
    bool isFirst = i % size_t(S) == 0, isLast = (i + 1) % size_t(S) == 0;
    if (!isLast)
      inputs.labels[i] = batch.labels[i + 1];
    inputs.validTokens += inputs.labels[i] != ignoredLabel;
    int64_t document = 0;
    bool goesOn = !isFirst;
    if (!batch.documentIds.empty()) {
      document = batch.documentIds[i];
      goesOn = goesOn && document == batch.documentIds[i - 1];
    }
    inputs.positions[i] = goesOn ? inputs.positions[i - 1] + 1 : 0;
    inputs.documents[i] = batch.attentionMask[i] ? document : -1 - document;
  }

  if (!hasImages) {
    inputs.imageBegin.assign(tokens, 1);
    inputs.imageEnd.assign(tokens, 0);
    inputs.tiles.assign(size_t(B * M), 1);
    inputs.aspectIds.assign(size_t(B * M), 0);
    if (M > 0)
      inputs.pixels.resize(size_t(B * M * maxTiles * 3 * R * R));
    return inputs;
  }

  inputs.pixels = std::move(batch.pixelValues);
  inputs.aspectIds = std::move(batch.aspectRatioIds);
  for (int64_t id : inputs.aspectIds)
    inputs.tiles.push_back(tilesOfAspect(id));
  inputs.imageBegin.resize(tokens);
  inputs.imageEnd.resize(tokens);
  for (size_t i = 0; i < tokens; ++i) {
    size_t sample = i / size_t(S);
    auto refuse = [&](size_t image, const char *reason) {
      fail(name, ": tensor 'cross_attention_mask': sample ", sample, ", row ",
           i % size_t(S),
           ": expected one interval of images with exactly their "
           "real tiles, got image ",
           image, " ", reason);
    };
    int64_t &begin = inputs.imageBegin[i], &end = inputs.imageEnd[i];
    for (size_t m = 0; m < size_t(M); ++m) {
      const int64_t *mask =
          &batch.crossAttentionMask[(i * size_t(M) + m) * maxTiles];
      size_t image = sample * size_t(M) + m;
      if (std::all_of(mask, mask + maxTiles, [](int64_t x) { return x == 0; }))
        continue;
      if (inputs.aspectIds[image] == 0)
        refuse(m, "which is missing (aspect ratio id 0)");
      for (int64_t tile = 0; tile < maxTiles; ++tile)
        if (mask[tile] != (tile < inputs.tiles[image]))
          refuse(m, "with other tiles");
      if (end != 0 && end != int64_t(m))
        refuse(m, "after a gap");
      if (end == 0)
        begin = int64_t(m);
      end = int64_t(m) + 1;
    }
  }
  return inputs;
}

} // namespace llrt
