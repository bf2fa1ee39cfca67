//===- Batch.cpp - Samples to what the model reads -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Batch.h"

#include "src/Data/Error.h"
#include "src/Data/JsonTexts.h"
#include "src/Data/SafeTensors.h"
#include "src/Data/Utf8.h"

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
    const TensorView &view = checked(name, shape);
    std::vector<int64_t> values = toInt64(view, where(name));
    for (size_t i = 0; i < values.size(); ++i)
      if (!good(values[i]))
        fail(where(name), ": element ", placeText(i, shape), ": expected ", expected, ", got ",
             values[i]);
    return values;
  }

  std::vector<int64_t> mask(const char *name, std::vector<int64_t> shape) {
    return integers(name, std::move(shape), "0 or 1",
                    [](int64_t value) { return value == 0 || value == 1; });
  }

  std::vector<float> floats(const char *name, std::vector<int64_t> shape) {
    const TensorView &view = checked(name, shape);
    std::vector<float> values(size_t(view.elements()));
    toFloat(view, values.data(), where(name));
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        fail(where(name), ": element ", placeText(i, shape), ": expected a finite number, got ",
             values[i]);
    return values;
  }

  bool has(const char *name) const { return file.find(name) != nullptr; }
  std::string where(const std::string &name) const {
    return file.path() + ": tensor '" + name + "'";
  }

private:
  const TensorView &checked(const char *name, const std::vector<int64_t> &shape) {
    const TensorView &view = file.at(name);
    if (view.shape != shape)
      fail(where(name), ": expected the shape ", shapeText(shape), ", got ", shapeText(view.shape));
    return view;
  }

  const SafeTensors &file;
};

// The last part of a field's name: `png` of `image.0.png` and of `png`.
std::string_view extensionOf(std::string_view field) {
  return field.substr(field.rfind('.') + 1); // npos + 1 is 0
}

// The field `extension`, else the only one that ends with it; null if there is
// none. Throws Error if there are several.
const std::string *findField(const Sample &sample, const std::string &extension,
                             const std::string &where) {
  if (auto found = sample.fields.find(extension); found != sample.fields.end())
    return &found->first;
  const std::string *only = nullptr;
  for (const auto &[field, bytes] : sample.fields) {
    if (extensionOf(field) != extension)
      continue;
    if (only)
      fail(where, ": expected one caption, got fields '", *only, "' and '", field,
           "'; call the right one '", extension, "'");
    only = &field;
  }
  return only;
}

struct Caption {
  std::string text;
  const std::string *field;
};

Caption captionOf(const Sample &sample, const std::string &where) {
  if (const std::string *field = findField(sample, "txt", where))
    return {sample.fields.at(*field), field};
  const std::string *field = findField(sample, "json", where);
  if (!field) {
    std::string names;
    for (const auto &[name, bytes] : sample.fields)
      names += (names.empty() ? "'" : ", '") + name + "'";
    fail(where, ": expected a field 'txt' or 'json', got ", names);
  }
  std::string whereField = where + ": field '" + *field + "'";
  auto texts = readJsonTexts(sample.fields.at(*field), whereField);
  for (const char *key : {"caption", "text"})
    if (auto found = texts.find(key); found != texts.end())
      return {std::move(found->second), field};
  fail(whereField, ": expected a string 'caption' or 'text'");
}

// Whether `field` is named as images are. Not all of these can be read, but
// none is passed over.
bool hasImageName(std::string_view field) {
  static const std::set<std::string_view> extensions = {
      "apng", "arw", "avif", "bmp",  "cr2",  "cur",  "dds",  "dib", "dng",  "eps",
      "exr",  "gif", "hdr",  "heic", "heif", "ico",  "j2k",  "jfi", "jfif", "jif",
      "jp2",  "jpe", "jpeg", "jpf",  "jpg",  "jpx",  "jxl",  "nef", "orf",  "pam",
      "pbm",  "pcx", "pgm",  "png",  "pnm",  "ppm",  "psd",  "qoi", "ras",  "rw2",
      "sgi",  "svg", "svgz", "tga",  "tif",  "tiff", "webp", "xbm", "xpm"};
  return extensions.contains(extensionOf(field));
}

// The name of an image's field without its extension.
std::string_view stemOf(std::string_view field) {
  if (!hasImageName(field))
    return field;
  size_t dot = field.rfind('.');
  return dot == field.npos ? "" : field.substr(0, dot);
}

// Whether `a` comes before `b`: numbers by value, the rest by bytes.
bool comesBefore(std::string_view a, std::string_view b) {
  auto number = [](std::string_view &text) {
    size_t zeros = std::min(text.find_first_not_of('0'), text.size());
    size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
    std::string_view digits = text.substr(zeros, end - std::min(zeros, end));
    text.remove_prefix(end);
    return digits;
  };
  auto isDigit = [](char c) { return c >= '0' && c <= '9'; };
  while (!a.empty() && !b.empty()) {
    if (isDigit(a[0]) && isDigit(b[0])) {
      std::string_view x = number(a), y = number(b);
      if (x != y)
        return x.size() != y.size() ? x.size() < y.size() : x < y;
      continue;
    }
    if (a[0] != b[0])
      return uint8_t(a[0]) < uint8_t(b[0]);
    a.remove_prefix(1);
    b.remove_prefix(1);
  }
  return a.size() < b.size();
}

} // namespace

Batch readBatch(const std::string &path, const BatchShape &shape) {
  const auto &[B, S, M, R, vocabulary, extraRows] = shape;
  SafeTensors file(path);
  BatchReader reader(file);
  const char *const imageNames[] = {"pixel_values", "aspect_ratio_ids", "aspect_ratio_mask",
                                    "cross_attention_mask"};
  std::set<std::string> known = {"input_ids", "labels", "attention_mask", "document_ids"};
  known.insert(std::begin(imageNames), std::end(imageNames));
  for (const auto &[name, view] : file.tensors())
    if (!known.contains(name))
      fail(reader.where(name), ": expected only the tensors of a batch");

  Batch batch;
  batch.shape = shape;
  int64_t idCount = vocabulary + extraRows, labelCount = vocabulary;
  batch.inputIds = reader.integers("input_ids", {B, S}, "0 to " + std::to_string(idCount - 1),
                                   [=](int64_t id) { return id >= 0 && id < idCount; });
  batch.labels = reader.integers(
      "labels", {B, S}, "-100 or 0 to " + std::to_string(labelCount - 1),
      [=](int64_t label) { return label == ignoredLabel || (label >= 0 && label < labelCount); });
  if (reader.has("attention_mask"))
    batch.attentionMask = reader.mask("attention_mask", {B, S});
  else
    batch.attentionMask.assign(B * S, 1);
  if (reader.has("document_ids"))
    batch.documentIds =
        reader.integers("document_ids", {B, S}, "at least 0", [](int64_t id) { return id >= 0; });

  auto has = [&](const char *name) { return reader.has(name); };
  if (std::none_of(std::begin(imageNames), std::end(imageNames), has))
    return batch;
  for (const char *name : imageNames)
    if (!has(name))
      fail(reader.where(name), ": missing; expected the four image tensors "
                               "together or none of them");
  if (M == 0)
    fail(reader.where(imageNames[0]), ": expected none, the program has no images");
  batch.pixelValues = reader.floats("pixel_values", {B, M, maxTiles, 3, R, R});
  int64_t lastAspect = int64_t(canvases.size());
  batch.aspectRatioIds =
      reader.integers("aspect_ratio_ids", {B, M}, "0 to " + std::to_string(lastAspect),
                      [=](int64_t id) { return id >= 0 && id <= lastAspect; });
  batch.aspectRatioMask = reader.mask("aspect_ratio_mask", {B, M, maxTiles});
  for (size_t i = 0; i < batch.aspectRatioMask.size(); ++i) {
    int64_t id = batch.aspectRatioIds[i / maxTiles];
    int64_t expected = int64_t(i % maxTiles) < tilesOfAspect(id);
    if (batch.aspectRatioMask[i] != expected)
      fail(reader.where("aspect_ratio_mask"), ": element ", placeText(i, {B, M, maxTiles}),
           ": expected ", expected, " for aspect ratio id ", id, ", got ",
           batch.aspectRatioMask[i]);
  }
  batch.crossAttentionMask = reader.mask("cross_attention_mask", {B, S, M, maxTiles});
  return batch;
}

void putImage(Batch &batch, int64_t b, int64_t m, const ImageTiles &tiles) {
  int64_t B = batch.shape.samples, S = batch.shape.textLength, M = batch.shape.images,
          R = batch.shape.tileSize;
  int64_t imageFloats = maxTiles * 3 * R * R;
  if (batch.pixelValues.empty()) { // the first image of the batch
    batch.pixelValues.resize(size_t(B * M * imageFloats));
    batch.aspectRatioIds.resize(size_t(B * M));
    batch.aspectRatioMask.resize(size_t(B * M * maxTiles));
    for (size_t i = 0; i < batch.aspectRatioMask.size(); i += maxTiles)
      batch.aspectRatioMask[i] = 1; // of missing images too
    batch.crossAttentionMask.resize(size_t(B * S * M * maxTiles));
  }
  int64_t image = b * M + m;
  std::copy(tiles.pixels.begin(), tiles.pixels.end(),
            batch.pixelValues.begin() + image * imageFloats);
  batch.aspectRatioIds[size_t(image)] = tiles.aspectRatioId;
  std::fill_n(&batch.aspectRatioMask[size_t(image * maxTiles)], tiles.tiles, 1);
  for (int64_t s = 1 + m; s < S; ++s)
    std::fill_n(&batch.crossAttentionMask[size_t(((b * S + s) * M + m) * maxTiles)], tiles.tiles,
                1);
}

CaptionBatch::CaptionBatch(Settings given)
    : settings(std::move(given)), beginId(settings.tokenizer.specialToken("<|begin_of_text|>")),
      endId(settings.tokenizer.specialToken(captionEnd)),
      imageId(settings.shape.images > 0 ? settings.tokenizer.specialToken("<|image|>") : -1) {
  const auto &[tokenizer, pipeline, shape, padId, imageFields] = settings;
  const auto &[B, S, M, R, vocabulary, extraRows] = shape;
  if (M > 0 && (!pipeline || pipeline->tileSize() != R))
    fail("preprocessor_config.json: field 'size': expected ", R,
         ", the tile size of the program, got ", pipeline ? pipeline->tileSize() : 0);
  // Only `<|image|>` may lie behind the vocabulary: it has an embedding, no
  // label.
  if (endId >= vocabulary || padId < 0 || padId >= vocabulary ||
      tokenizer.baseTokens() > vocabulary || (M > 0 && imageId >= vocabulary + extraRows))
    fail(tokenizer.path(), ": expected token ids below the vocabulary of ", vocabulary, " (and ",
         extraRows, " extra rows), got ", tokenizer.baseTokens(), " base tokens, end ", endId,
         ", padding ", padId, ", image ", imageId);
  batch.shape = shape;
  batch.inputIds.assign(size_t(B * S), padId);
  batch.labels.assign(size_t(B * S), ignoredLabel);
  batch.attentionMask.assign(size_t(B * S), 0);
}

// The fields of the images of `sample`, in order.
std::vector<std::string> CaptionBatch::imagesOf(const Sample &sample) const {
  std::vector<std::string> images;
  for (const std::string &field : settings.imageFields)
    if (sample.fields.contains(field))
      images.push_back(field);
  if (!settings.imageFields.empty())
    return images;
  for (const auto &[field, bytes] : sample.fields)
    if (hasImageName(field) ||
        (extensionOf(field) != "txt" && extensionOf(field) != "json" && beginsLikeImage(bytes)))
      images.push_back(field);
  std::sort(images.begin(), images.end(), [](const std::string &a, const std::string &b) {
    std::string_view x = stemOf(a), y = stemOf(b);
    return comesBefore(x, y) || (!comesBefore(y, x) && a < b);
  });
  return images;
}

CaptionBatch::Added CaptionBatch::add(const Sample &sample) {
  int64_t S = settings.shape.textLength, M = settings.shape.images;
  std::string where = sample.shard + ": sample '" + sample.key + "'";
  if (!sample.fault.empty())
    throw Error(sample.fault);
  if (added == settings.shape.samples)
    fail("batch: expected at most ", added, " samples");
  Added result;
  std::vector<std::string> images = imagesOf(sample);
  Caption caption = captionOf(sample, where);
  for (const auto &[field, bytes] : sample.fields)
    if (field != *caption.field && std::find(images.begin(), images.end(), field) == images.end())
      result.otherFields.push_back(field);
  if (M == 0) {
    result.imagesPassed = int64_t(images.size());
    images.clear();
  }
  if (int64_t(images.size()) > M) {
    std::string names;
    for (const std::string &field : images)
      names += (names.empty() ? "'" : ", '") + field + "'";
    fail(where, ": expected at most ", M, " images, got fields ", names,
         "; name those to read with --image-fields, or compile with --images=", images.size());
  }
  std::vector<ImageTiles> tiles;
  for (const std::string &field : images)
    tiles.push_back(settings.pipeline->process(
        decodeImage(sample.fields.at(field), where + ": field '" + field + "'")));

  std::vector<int64_t> ids = {beginId};
  ids.insert(ids.end(), images.size(), imageId);
  size_t start = ids.size();
  std::string text = replaceInvalidUtf8(caption.text);
  result.replaced = text != caption.text;
  std::vector<int64_t> words = settings.tokenizer.encode(text);
  ids.insert(ids.end(), words.begin(), words.end());
  ids.push_back(endId);
  result.cut = int64_t(ids.size()) > S;
  ids.resize(std::min(ids.size(), size_t(S)));
  size_t row = size_t(added * S);
  for (size_t s = 0; s < ids.size(); ++s) {
    batch.inputIds[row + s] = ids[s];
    batch.attentionMask[row + s] = 1;
    if (s >= start)
      batch.labels[row + s] = ids[s];
  }
  for (size_t m = 0; m < tiles.size(); ++m)
    putImage(batch, added, int64_t(m), tiles[m]);
  result.images = int64_t(images.size());
  ++added;
  return result;
}

Batch CaptionBatch::take(int64_t samples) {
  int64_t B = std::exchange(batch.shape.samples, samples);
  auto cut = [&](auto &array) { array.resize(array.size() / size_t(B) * size_t(samples)); };
  cut(batch.inputIds);
  cut(batch.labels);
  cut(batch.attentionMask);
  cut(batch.pixelValues);
  cut(batch.aspectRatioIds);
  cut(batch.aspectRatioMask);
  cut(batch.crossAttentionMask);
  return std::move(batch);
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
      fail(name, ": tensor 'cross_attention_mask': sample ", sample, ", row ", i % size_t(S),
           ": expected one interval of images with exactly their "
           "real tiles, got image ",
           image, " ", reason);
    };
    int64_t &begin = inputs.imageBegin[i], &end = inputs.imageEnd[i];
    for (size_t m = 0; m < size_t(M); ++m) {
      const int64_t *mask = &batch.crossAttentionMask[(i * size_t(M) + m) * maxTiles];
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
