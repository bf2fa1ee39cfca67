//===- ModelConfig.cpp - Read a HuggingFace config.json -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every integer has a range, so that no size computed from several of them
// overflows.
//
// Defaults: huggingface/transformers, models/mllama/configuration_mllama.py and
// models/llama/configuration_llama.py (llama3-vision specification E4).
//
//===----------------------------------------------------------------------===//
#include "llamac/Import/ModelConfig.h"

#include "llamac/Import/JsonReader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

#include <cmath>
#include <string>

using namespace llvm;
using namespace mlir::llamac;

SmallVector<double> RopeConfig::frequencies(int64_t headSize) const {
  SmallVector<double> result;
  for (int64_t i = 0; i < headSize / 2; ++i) {
    double frequency = std::pow(theta, -2.0 * i / headSize);
    if (scaling) {
      double length = scaling->originalLength;
      double wavelength = 2 * 3.14159265358979323846 / frequency;
      double low = scaling->lowFrequencyFactor, high = scaling->highFrequencyFactor;
      double smooth = (length / wavelength - low) / (high - low);
      if (wavelength > length / low)
        frequency /= scaling->factor;
      else if (wavelength >= length / high)
        frequency *= (1 - smooth) / scaling->factor + smooth;
    }
    result.push_back(frequency);
  }
  return result;
}

static constexpr int64_t kMaxLayers = 1 << 12; // each becomes an op or more
static constexpr int64_t kMaxLength = int64_t(1) << 40;

// Newer files have one object `rope_parameters`, older ones `rope_theta` beside
// `rope_scaling`, in which `rope_type` was once `type`.
static RopeConfig readRope(JsonReader &reader, double defaultTheta) {
  bool isNewer = reader.get("rope_parameters");
  JsonReader rope = reader.members(isNewer ? "rope_parameters" : "rope_scaling");
  RopeConfig result;
  JsonReader &holdsTheta = isNewer && rope.get("rope_theta") ? rope : reader;
  result.theta = holdsTheta.number("rope_theta", defaultTheta);
  rope.only("partial_rotary_factor", 1.0);
  reader.only("partial_rotary_factor", 1.0);
  StringRef field = !rope.get("rope_type") && rope.get("type") ? "type" : "rope_type";
  std::string type = rope.text(field, "default");
  if (type == "llama3") {
    RopeConfig::Scaling scaling;
    scaling.factor = rope.number("factor", std::nullopt);
    scaling.lowFrequencyFactor = rope.number("low_freq_factor", std::nullopt);
    scaling.highFrequencyFactor = rope.number("high_freq_factor", std::nullopt);
    scaling.originalLength =
        rope.integer("original_max_position_embeddings", std::nullopt, 1, kMaxLength);
    if (scaling.highFrequencyFactor <= scaling.lowFrequencyFactor)
      rope.wrong("high_freq_factor",
                 formatv("a number above low_freq_factor ({0})", scaling.lowFrequencyFactor),
                 formatv("{0}", scaling.highFrequencyFactor));
    result.scaling = scaling;
  } else if (type != "default") {
    rope.wrong(field, "'default' or 'llama3'", "'" + type + "'");
  }
  return result;
}

// Defaults that differ between text-only models and the text part of mllama.
struct TextDefaults {
  int64_t vocabulary, feedForward, layers;
  std::optional<int64_t> keyValueHeads; // none: as many as heads
  double epsilon, theta;
  int64_t maxLength, beginToken, endToken;
  std::optional<int64_t> padToken;
};
static constexpr TextDefaults kLlama = {32000, 11008, 32, std::nullopt, 1e-6, 10000, 2048, 1, 2,
                                        std::nullopt};
static constexpr TextDefaults kMllama = {128256, 14336, 40,     8,      1e-5,  500000,
                                         131072, 128000, 128001, 128004};

static TextConfig readText(JsonReader &reader, bool isMllama) {
  const TextDefaults &defaults = isMllama ? kMllama : kLlama;
  TextConfig text;
  text.vocabulary = reader.integer("vocab_size", defaults.vocabulary);
  text.extraRows = isMllama ? 8 : 0;
  text.width = reader.integer("hidden_size", 4096);
  text.feedForward = reader.integer("intermediate_size", defaults.feedForward);
  text.layers = reader.integer("num_hidden_layers", defaults.layers, 1, kMaxLayers);
  text.heads = reader.integer("num_attention_heads", 32);
  text.keyValueHeads =
      reader.integer("num_key_value_heads", defaults.keyValueHeads.value_or(text.heads));
  if (text.heads % text.keyValueHeads)
    reader.wrong("num_key_value_heads",
                 formatv("a divisor of num_attention_heads ({0})", text.heads),
                 Twine(text.keyValueHeads));
  if (!reader.get("head_dim") && text.width % text.heads)
    reader.wrong("num_attention_heads", formatv("a divisor of hidden_size ({0})", text.width),
                 Twine(text.heads));
  text.headSize = reader.integer("head_dim", std::max<int64_t>(1, text.width / text.heads));
  if (isMllama && text.headSize * text.heads != text.width)
    reader.wrong("head_dim",
                 formatv("hidden_size / num_attention_heads ({0} / {1})", text.width, text.heads),
                 Twine(text.headSize));
  if (text.headSize % 2)
    reader.wrong(reader.get("head_dim") ? "head_dim" : "num_attention_heads",
                 "an even head size for rotary positions", Twine(text.headSize));
  text.epsilon = reader.number("rms_norm_eps", defaults.epsilon, /*positive=*/false);
  text.rope = readRope(reader, defaults.theta);
  text.initializerRange = reader.number("initializer_range", 0.02, /*positive=*/false);
  text.tiedEmbeddings = reader.boolean("tie_word_embeddings", false);
  if (isMllama && text.tiedEmbeddings)
    reader.wrong("tie_word_embeddings", "false (the embedding table has more rows than the head)",
                 "true");

  reader.integer("max_position_embeddings", defaults.maxLength, 1, kMaxLength);
  reader.only("hidden_act", "silu");
  reader.only("attention_bias", false);
  reader.only("mlp_bias", false);
  reader.only("dropout", 0);
  reader.only("attention_dropout", 0);

  int64_t lastToken = text.vocabulary + text.extraRows - 1;
  text.beginToken = reader.integer("bos_token_id", defaults.beginToken, 0, lastToken);
  const json::Value *end = reader.get("eos_token_id");
  if (end && end->getAsArray())
    text.endTokens = reader.integers("eos_token_id", {}, lastToken);
  else
    text.endTokens = {reader.integer("eos_token_id", defaults.endToken, 0, lastToken)};
  // -1 and null both say that there is none. A default past a small vocabulary
  // says nothing either.
  int64_t pad = reader.integer("pad_token_id", defaults.padToken.value_or(-1), -1, lastToken);
  if (pad >= 0 && pad <= lastToken)
    text.padToken = pad;
  return text;
}

static SmallVector<int64_t> readCrossLayers(JsonReader &reader, int64_t layers) {
  SmallVector<int64_t> result = reader.integers(
      "cross_attention_layers", {3, 8, 13, 18, 23, 28, 33, 38}, layers - 1);
  sort(result);
  if (result.empty())
    reader.wrong("cross_attention_layers", "at least one layer", "none");
  if (auto twice = std::adjacent_find(result.begin(), result.end()); twice != result.end())
    reader.wrong("cross_attention_layers", "every layer once", formatv("{0} twice", *twice));
  if (!result.empty() && result.back() >= layers) // the default list
    reader.wrong("cross_attention_layers",
                 formatv("integers from 0 to {0}", layers - 1),
                 formatv("{0} (default)", result.back()));
  return result;
}

static VisionConfig readVision(JsonReader &reader) {
  VisionConfig vision;
  vision.width = reader.integer("hidden_size", 1280);
  vision.feedForward = reader.integer("intermediate_size", 5120);
  vision.layers = reader.integer("num_hidden_layers", 32, 1, kMaxLayers);
  vision.globalLayers = reader.integer("num_global_layers", 8, 0, kMaxLayers);
  // Written as `attention_heads`, read as either (specification J18).
  StringRef heads = reader.get("attention_heads") ? "attention_heads" : "num_attention_heads";
  vision.heads = reader.integer(heads, 16);
  if (vision.width % vision.heads)
    reader.wrong(heads, formatv("a divisor of hidden_size ({0})", vision.width),
                 Twine(vision.heads));
  constexpr int64_t maxPixels = 1 << 14;
  vision.patchSize = reader.integer("patch_size", 14, 1, maxPixels);
  vision.tileSize = reader.integer("image_size", 448, 1, maxPixels);
  if (vision.tileSize % vision.patchSize)
    reader.wrong("image_size", formatv("a multiple of patch_size ({0})", vision.patchSize),
                 Twine(vision.tileSize));
  vision.epsilon = reader.number("norm_eps", 1e-5, /*positive=*/false);

  vision.taps = reader.integers("intermediate_layers_indices", {3, 7, 15, 23, 30},
                                vision.layers - 1);
  if (!is_sorted(vision.taps, std::less_equal<int64_t>()))
    reader.wrongValue("intermediate_layers_indices", "ascending integers, each once",
                 *reader.get("intermediate_layers_indices"));
  if (!vision.taps.empty() && vision.taps.back() >= vision.layers) // the default list
    reader.wrong("intermediate_layers_indices",
                 formatv("integers from 0 to {0}", vision.layers - 1),
                 formatv("{0} (default)", vision.taps.back()));
  int64_t features = vision.width * (1 + vision.taps.size());
  int64_t output = reader.integer("vision_output_dim", 7680, 1, INT32_MAX);
  if (output != features)
    reader.wrong("vision_output_dim",
                 formatv("hidden_size * (1 + intermediate_layers_indices) = {0}", features),
                 Twine(output));

  reader.only("hidden_act", "gelu");
  reader.only("num_channels", vision.channels);
  reader.only("max_num_tiles", vision.tiles);
  reader.only("supported_aspect_ratios",
              json::Array{json::Array{1, 1}, json::Array{1, 2}, json::Array{1, 3},
                          json::Array{1, 4}, json::Array{2, 1}, json::Array{2, 2},
                          json::Array{3, 1}, json::Array{4, 1}});
  return vision;
}

Expected<ModelConfig> mlir::llamac::readModelConfig(StringRef path) {
  Expected<json::Object> object = readJsonFile(path, "a config.json");
  if (!object)
    return object.takeError();

  std::string error;
  JsonReader reader(path, "", *object, error);
  std::string type = reader.text("model_type", "");
  ModelConfig config;
  if (type == "llama") {
    config.text = readText(reader, /*isMllama=*/false);
  } else if (type == "mllama") {
    JsonReader textReader = reader.members("text_config");
    config.text = readText(textReader, /*isMllama=*/true);
    config.text.crossLayers = readCrossLayers(textReader, config.text.layers);
    JsonReader visionReader = reader.members("vision_config");
    config.vision = readVision(visionReader);
    StringRef field = reader.get("image_token_id") ? "image_token_id" : "image_token_index";
    config.vision->imageToken = reader.integer(
        field, 128256, 0, config.text.vocabulary + config.text.extraRows - 1);
  } else {
    reader.wrong("model_type", "'mllama' or 'llama'", type.empty() ? "nothing" : "'" + type + "'");
  }
  reader.text(reader.get("dtype") ? "dtype" : "torch_dtype", "");
  if (reader.failed())
    return inputError(error);
  return config;
}

// A weight file of the directory, if there is one.
static std::optional<std::string> findWeights(StringRef directory) {
  std::error_code error;
  for (sys::fs::directory_iterator file(directory, error), end; !error && file != end;
       file.increment(error))
    if (sys::path::extension(file->path()) == ".safetensors")
      return file->path();
  return std::nullopt;
}

Expected<ModelConfig> mlir::llamac::findModelConfig(StringRef model,
                                                    std::optional<int64_t> tileSize) {
  ModelConfig config;
  std::optional<std::string> weights;
  if (auto builtin = builtinModel(model)) {
    config = *builtin;
  } else {
    SmallString<128> path = model;
    if (sys::fs::is_directory(model)) {
      weights = findWeights(model);
      sys::path::append(path, "config.json");
    } else if (!sys::fs::exists(model)) {
      return inputError(model + ": expected a .mlir file, a config.json, a directory that holds one, "
                                "or one of " + join(builtinModelNames(), ", "));
    }
    Expected<ModelConfig> read = readModelConfig(path);
    if (!read)
      return read;
    config = *read;
  }
  if (!tileSize)
    return config;

  auto wrong = [&](const Twine &expected) {
    return inputError("--tile-size=" + Twine(*tileSize) + ": expected " + expected);
  };
  if (!config.vision)
    return wrong("a vision model, got " + model);
  VisionConfig &vision = *config.vision;
  if (*tileSize % vision.patchSize)
    return wrong("a multiple of the patch size " + Twine(vision.patchSize));
  if (weights && *tileSize != vision.tileSize)
    return wrong(Twine(vision.tileSize) + ", the size of the position tables in " + *weights);
  vision.tileSize = *tileSize;
  return config;
}
