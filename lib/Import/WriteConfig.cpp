//===- WriteConfig.cpp - The config.json of a model -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A file stays as it was written: transformers tells 8 from 8.0, and its fields
// are more than those that this compiler reads. Fields of built-in models:
// huggingface/transformers, models/mllama/configuration_mllama.py and
// models/llama/configuration_llama.py.
//
//===----------------------------------------------------------------------===//
#include "llamac/Import/ModelConfig.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace mlir::llamac;

// Tokens of the text that built-in models are made for, before and after
// stretching. Source: the released config.json of Llama 3 and Llama 3.1.
static constexpr int64_t kLength = 8192, kStretchedLength = 131072;

// JSON without the space between its tokens.
static std::string withoutSpace(StringRef json) {
  std::string text;
  bool inString = false;
  for (size_t i = 0; i < json.size(); ++i) {
    char c = json[i];
    if (!inString && StringRef(" \t\r\n").contains(c))
      continue;
    text += c;
    if (inString && c == '\\' && i + 1 < json.size())
      text += json[++i];
    else if (c == '"')
      inString = !inString;
  }
  return text;
}

// With a point or an exponent, so that it is no integer to any reader.
static void number(json::OStream &json, StringRef name, double value) {
  SmallString<32> text;
  APFloat(value).toString(text, /*FormatPrecision=*/0, /*FormatMaxPadding=*/8);
  if (text.find_first_of(".E") == StringRef::npos)
    text += ".0";
  json.attributeBegin(name);
  json.rawValue(text);
  json.attributeEnd();
}

static void integers(json::OStream &json, StringRef name, ArrayRef<int64_t> values) {
  json.attribute(name, json::Array(values));
}

static void writeText(json::OStream &json, const TextConfig &text) {
  json.attribute("vocab_size", text.vocabulary);
  json.attribute("hidden_size", text.width);
  json.attribute("intermediate_size", text.feedForward);
  json.attribute("num_hidden_layers", text.layers);
  json.attribute("num_attention_heads", text.heads);
  json.attribute("num_key_value_heads", text.keyValueHeads);
  json.attribute("hidden_act", "silu");
  number(json, "rms_norm_eps", text.epsilon);
  number(json, "rope_theta", text.rope.theta);
  if (const auto &scaling = text.rope.scaling)
    json.attributeObject("rope_scaling", [&] {
      json.attribute("rope_type", "llama3");
      number(json, "factor", scaling->factor);
      number(json, "low_freq_factor", scaling->lowFrequencyFactor);
      number(json, "high_freq_factor", scaling->highFrequencyFactor);
      json.attribute("original_max_position_embeddings", scaling->originalLength);
    });
  json.attribute("max_position_embeddings", text.rope.scaling ? kStretchedLength : kLength);
  number(json, "initializer_range", text.initializerRange);
  json.attribute("tie_word_embeddings", text.tiedEmbeddings);
  json.attribute("bos_token_id", text.beginToken);
  if (text.endTokens.size() == 1)
    json.attribute("eos_token_id", text.endTokens.front());
  else
    integers(json, "eos_token_id", text.endTokens);
  if (text.padToken)
    json.attribute("pad_token_id", *text.padToken);
}

static void writeVision(json::OStream &json, const VisionConfig &vision) {
  json.attribute("model_type", "mllama_vision_model");
  json.attribute("hidden_size", vision.width);
  json.attribute("hidden_act", "gelu");
  json.attribute("intermediate_size", vision.feedForward);
  json.attribute("num_hidden_layers", vision.layers);
  json.attribute("num_global_layers", vision.globalLayers);
  json.attribute("attention_heads", vision.heads);
  json.attribute("num_channels", VisionConfig::channels);
  json.attribute("patch_size", vision.patchSize);
  json.attribute("image_size", vision.tileSize);
  number(json, "norm_eps", vision.epsilon);
  json.attribute("max_num_tiles", VisionConfig::tiles);
  integers(json, "intermediate_layers_indices", vision.taps);
  json.attribute("vision_output_dim", vision.width * int64_t(1 + vision.taps.size()));
}

std::string mlir::llamac::writeModelConfig(const ModelConfig &config) {
  if (!config.file.empty())
    return withoutSpace(config.file);
  std::string text;
  raw_string_ostream stream(text);
  json::OStream json(stream);
  json.object([&] {
    json.attributeArray("architectures", [&] {
      json.value(config.vision ? "MllamaForConditionalGeneration" : "LlamaForCausalLM");
    });
    json.attribute("model_type", config.vision ? "mllama" : "llama");
    if (!config.vision)
      return writeText(json, config.text);
    json.attribute("image_token_index", config.vision->imageToken);
    json.attributeObject("text_config", [&] {
      json.attribute("model_type", "mllama_text_model");
      writeText(json, config.text);
      integers(json, "cross_attention_layers", config.text.crossLayers);
    });
    json.attributeObject("vision_config", [&] { writeVision(json, *config.vision); });
  });
  return text;
}
