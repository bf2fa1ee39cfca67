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
// A config.json is read as transformers 5.23 reads it. Where two fields say
// different things, the one that it follows counts, and a note names both. A
// field that would change the computation and that nothing here computes is an
// error; any other field that nothing reads is named in one note.
//
// Source: huggingface/transformers 5.23, models/mllama/configuration_mllama.py,
// models/llama/configuration_llama.py, configuration_utils.py and
// modeling_rope_utils.py.
//
//===----------------------------------------------------------------------===//
#include "llamac/Import/ModelConfig.h"

#include "llamac/Support/JsonReader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <cmath>
#include <string>

using namespace llvm;
using namespace mlir::llamac;

SmallVector<double> RopeConfig::frequencies(int64_t headSize) const {
  SmallVector<double> result;
  for (int64_t i = 0; i < headSize / 2; ++i) {
    double frequency = std::pow(theta, -2.0 * i / headSize) / divisor;
    if (scaling) {
      double length = scaling->originalLength;
      double wavelength = 2 * 3.14159265358979323846 / frequency;
      double low = scaling->lowFrequencyFactor, high = scaling->highFrequencyFactor;
      if (wavelength > length / low) {
        frequency /= scaling->factor;
      } else if (wavelength >= length / high && high > low) {
        double smooth = (length / wavelength - low) / (high - low);
        frequency *= (1 - smooth) / scaling->factor + smooth;
      }
    }
    result.push_back(frequency);
  }
  return result;
}

StringRef mlir::llamac::nameOf(FeatureTaps taps) {
  return taps == FeatureTaps::Input ? "input" : "output";
}
StringRef mlir::llamac::nameOf(RowMask mask) { return mask == RowMask::Both ? "both" : "ffn"; }

static constexpr int64_t kMaxLayers = 1 << 12; // each becomes an op or more
static constexpr int64_t kMaxLength = int64_t(1) << 40;

namespace {
/// The lines of ModelConfig::notes as they come.
struct Notes {
  StringRef file;
  std::vector<std::string> lines;

  void add(const Twine &text) { lines.push_back((file + ": " + text).str()); }

  // Where both fields are there and differ: `used` counts.
  void disagree(const JsonReader &usedIn, StringRef used, const JsonReader &unusedIn,
                StringRef unused) {
    const json::Value *one = usedIn.get(used), *other = unusedIn.get(unused);
    if (one && other && *one != *other)
      add(formatv("fields '{0}' ({1}) and '{2}' ({3}) differ: '{0}' counts, as in transformers",
                  usedIn.nameOf(used), *one, unusedIn.nameOf(unused), *other));
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// Fields that are not followed
//===----------------------------------------------------------------------===//

// Fields that change what some model computes, each with the values that change nothing.
static void refuseOtherComputation(JsonReader &reader) {
  for (StringRef field :
       {"quantization_config", "quantization", "compression_config", "sliding_window",
        "attention_chunk_size", "attn_logit_softcapping", "final_logit_softcapping", "clip_qkv",
        "query_pre_attn_scalar", "attention_multiplier", "no_rope_layers", "num_local_experts",
        "num_experts", "adapters"})
    reader.only(field, nullptr);
  for (StringRef field :
       {"attention_bias", "attention_out_bias", "qkv_bias", "mlp_bias", "use_bias", "qk_norm",
        "use_qk_norm", "use_sliding_window", "add_cross_attention", "alibi"})
    reader.only(field, false);
  for (StringRef field :
       {"attention_dropout", "dropout", "hidden_dropout", "hidden_dropout_prob",
        "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop"})
    reader.only(field, 0);
  for (StringRef field : {"partial_rotary_factor", "rotary_pct", "embedding_multiplier",
                          "residual_multiplier", "logits_scaling", "logit_scale"})
    reader.only(field, 1);
  reader.only("is_causal", true);
  for (StringRef field : {"per_layer_config", "pruned_heads"})
    reader.only(field, json::Object());
}

// One kind for each layer, all of them of the names that stand for what every layer is here.
static void readLayerTypes(JsonReader &reader, StringRef field, int64_t layers,
                           ArrayRef<StringRef> names) {
  const json::Value *value = reader.get(field);
  if (!value)
    return;
  const json::Array *array = value->getAsArray();
  if (!array || int64_t(array->size()) != layers)
    return reader.wrongValue(field, formatv("a list of num_hidden_layers ({0}) names", layers),
                             *value);
  for (const json::Value &element : *array)
    if (!is_contained(names, element.getAsString().value_or("")))
      return reader.wrongValue(field, "'" + names[0] + "' for every layer", element);
}

// Fields that say nothing of the computation: of other programs, of generation, of the library.
static bool isHarmless(StringRef field) {
  static const StringSet<> names = {
      "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
      "_commit_hash", "_experts_implementation_internal", "_name_or_path", "architectures",
      "attn_implementation", "auto_map", "chunk_size_feed_forward", "cross_attention_hidden_size",
      "decoder_start_token_id", "dtype", "experts_implementation", "finetuning_task",
      "gradient_checkpointing", "id2label", "is_decoder", "is_encoder_decoder",
      "keys_to_ignore_at_inference", "label2id", "model_type", "name_or_path", "num_labels",
      "output_attentions", "output_hidden_states", "prefix", "pretraining_tp", "problem_type",
      "return_dict", "sep_token_id", "task_specific_params", "tf_legacy_loss",
      "tie_encoder_decoder", "tokenizer_class", "torch_dtype", "torchscript",
      "transformers_version", "use_bfloat16", "use_cache",
      // Of generation: moved to generation_config.json.
      "assistant_confidence_threshold", "assistant_lookbehind", "bad_words_ids",
      "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
      "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff",
      "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id",
      "length_penalty", "max_length", "min_length", "no_repeat_ngram_size", "num_assistant_tokens",
      "num_assistant_tokens_schedule", "num_beam_groups", "num_beams", "num_return_sequences",
      "output_scores", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate",
      "suppress_tokens", "target_lookbehind", "temperature", "top_k", "top_p", "typical_p"};
  return names.contains(field);
}

static void noteUnread(ArrayRef<JsonReader *> readers, Notes &notes) {
  std::vector<std::string> unread;
  for (JsonReader *reader : readers)
    for (const std::string &field : reader->unread())
      if (!isHarmless(field))
        unread.push_back("'" + reader->nameOf(field) + "'");
  if (!unread.empty())
    notes.add("not used, in transformers neither: " + join(unread, ", "));
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

// Whether the field is there and is neither null nor an empty object.
static bool saysSomething(const JsonReader &reader, StringRef field) {
  const json::Value *value = reader.get(field);
  return value && *value != json::Value(json::Object());
}

// Newer files have one object `rope_parameters`, older ones `rope_theta` beside `rope_scaling`, in
// which `rope_type` was once `type`; what older tools make of newer files has some of both.
static RopeConfig readRope(JsonReader &reader, double defaultTheta, int64_t maxLength,
                           Notes &notes) {
  StringRef object = saysSomething(reader, "rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (object == "rope_scaling" && saysSomething(reader, "rope_parameters"))
    notes.disagree(reader, "rope_scaling", reader, "rope_parameters");
  JsonReader rope = reader.members(object);
  RopeConfig result;
  bool isInside = rope.has("rope_theta");
  result.theta = (isInside ? rope : reader).number("rope_theta", defaultTheta);
  if (isInside)
    notes.disagree(rope, "rope_theta", reader, "rope_theta");
  rope.only("partial_rotary_factor", 1);

  StringRef field = rope.has("type") && !rope.has("rope_type") ? "type" : "rope_type";
  std::string type = rope.text(field, "default");
  notes.disagree(rope, "rope_type", rope, "type");
  if (type == "linear") {
    result.divisor = rope.number("factor", std::nullopt);
  } else if (type == "llama3") {
    RopeConfig::Scaling scaling;
    scaling.factor = rope.number("factor", std::nullopt);
    scaling.lowFrequencyFactor = rope.number("low_freq_factor", std::nullopt);
    scaling.highFrequencyFactor = rope.number("high_freq_factor", std::nullopt);
    StringRef length = "original_max_position_embeddings";
    scaling.originalLength = rope.integer(length, maxLength, 1, kMaxLength);
    scaling.originalLength = reader.integer(length, scaling.originalLength, 1, kMaxLength);
    notes.disagree(reader, length, rope, length);
    if (scaling.highFrequencyFactor <= scaling.lowFrequencyFactor)
      notes.add(formatv("field '{0}' ({1}) is not above low_freq_factor ({2}): no frequency is "
                        "blended, as in transformers",
                        rope.nameOf("high_freq_factor"), json::Value(scaling.highFrequencyFactor),
                        json::Value(scaling.lowFrequencyFactor)));
    result.scaling = scaling;
  } else if (type != "default") {
    rope.wrong(field, "'default', 'linear' or 'llama3'", "'" + type + "'");
  }
  for (const std::string &name : rope.unread())
    if (const json::Value *value = rope.get(name); value && value->getAsObject())
      rope.wrongValue(name, "no object: one rope for all layers", *value);
    else
      notes.add("field '" + rope.nameOf(name) + "' is not used with rope type '" + type + "'");
  return result;
}

// Defaults that differ between text-only models and the text part of mllama.
namespace {
struct TextDefaults {
  int64_t vocabulary, feedForward, layers;
  std::optional<int64_t> keyValueHeads; // none: as many as heads
  double epsilon, theta;
  int64_t maxLength, beginToken, endToken;
  std::optional<int64_t> padToken;
};
} // namespace
static constexpr TextDefaults kLlama = {32000, 11008, 32, std::nullopt, 1e-6, 10000,
                                        2048,  1,     2,  std::nullopt};
static constexpr TextDefaults kMllama = {128256, 14336,  40,     8,      1e-5,
                                         500000, 131072, 128000, 128001, 128004};

// The field may be null, which says what its absence says.
static int64_t integerOrNull(JsonReader &reader, StringRef field, int64_t absent, int64_t least = 1,
                             int64_t most = JsonReader::kMaxSize) {
  return reader.get(field) ? reader.integer(field, absent, least, most) : absent;
}

static void readActivation(JsonReader &reader, StringRef name, StringRef alias) {
  std::string activation = reader.text("hidden_act", name);
  if (activation != name && activation != alias)
    reader.wrong("hidden_act", "'" + name + "' or '" + alias + "'", "'" + activation + "'");
}

static TextConfig readText(JsonReader &reader, bool isMllama, Notes &notes) {
  const TextDefaults &defaults = isMllama ? kMllama : kLlama;
  TextConfig text;
  text.vocabulary = reader.integer("vocab_size", defaults.vocabulary);
  text.extraRows = isMllama ? 8 : 0;
  text.width = reader.integer("hidden_size", 4096);
  text.feedForward = reader.integer("intermediate_size", defaults.feedForward);
  text.layers = reader.integer("num_hidden_layers", defaults.layers, 1, kMaxLayers);
  text.heads = reader.integer("num_attention_heads", 32);
  text.keyValueHeads = defaults.keyValueHeads
                           ? reader.integer("num_key_value_heads", defaults.keyValueHeads)
                           : integerOrNull(reader, "num_key_value_heads", text.heads);
  if (text.heads % text.keyValueHeads)
    reader.wrong("num_key_value_heads",
                 formatv("a divisor of num_attention_heads ({0})", text.heads),
                 Twine(text.keyValueHeads));
  if (!reader.get("head_dim") && text.width % text.heads)
    reader.wrong("num_attention_heads", formatv("a divisor of hidden_size ({0})", text.width),
                 Twine(text.heads));
  text.headSize = integerOrNull(reader, "head_dim", std::max<int64_t>(1, text.width / text.heads));
  if (isMllama && text.headSize * text.heads != text.width)
    reader.wrong("head_dim",
                 formatv("hidden_size / num_attention_heads ({0} / {1})", text.width, text.heads),
                 Twine(text.headSize));
  if (text.headSize % 2)
    reader.wrong(reader.get("head_dim") ? "head_dim" : "num_attention_heads",
                 "an even head size for rotary positions", Twine(text.headSize));
  text.epsilon = reader.number("rms_norm_eps", defaults.epsilon, /*positive=*/false);
  int64_t maxLength = reader.integer("max_position_embeddings", defaults.maxLength, 1, kMaxLength);
  text.rope = readRope(reader, defaults.theta, maxLength, notes);
  text.initializerRange = reader.number("initializer_range", 0.02, /*positive=*/false);
  text.tiedEmbeddings = !isMllama && reader.boolean("tie_word_embeddings", false);
  readActivation(reader, "silu", "swish");
  readLayerTypes(reader, "layer_types", text.layers, {"full_attention", "attention"});
  readLayerTypes(reader, "mlp_layer_types", text.layers, {"dense"});
  refuseOtherComputation(reader);

  int64_t lastToken = text.vocabulary + text.extraRows - 1;
  text.beginToken = reader.integer("bos_token_id", defaults.beginToken, 0, lastToken);
  const json::Value *end = reader.get("eos_token_id");
  if (end && end->getAsArray())
    text.endTokens = reader.integers("eos_token_id", {}, lastToken);
  else if (end || !reader.has("eos_token_id")) // null: there is none
    text.endTokens = {reader.integer("eos_token_id", defaults.endToken, 0, lastToken)};
  // -1 and null both say that there is none. A default past a small vocabulary
  // says nothing either.
  int64_t pad = reader.has("pad_token_id")
                    ? integerOrNull(reader, "pad_token_id", -1, -1, lastToken)
                    : defaults.padToken.value_or(-1);
  if (pad >= 0 && pad <= lastToken)
    text.padToken = pad;
  return text;
}

static SmallVector<int64_t> readCrossLayers(JsonReader &reader, int64_t layers) {
  SmallVector<int64_t> result =
      reader.integers("cross_attention_layers", {3, 8, 13, 18, 23, 28, 33, 38}, layers - 1);
  sort(result);
  if (result.empty())
    reader.wrong("cross_attention_layers", "at least one layer", "none");
  if (auto twice = std::adjacent_find(result.begin(), result.end()); twice != result.end())
    reader.wrong("cross_attention_layers", "every layer once", formatv("{0} twice", *twice));
  if (!result.empty() && result.back() >= layers) // the default list
    reader.wrong("cross_attention_layers", formatv("integers from 0 to {0}", layers - 1),
                 formatv("{0} (default)", result.back()));
  return result;
}

//===----------------------------------------------------------------------===//
// Images
//===----------------------------------------------------------------------===//

static VisionConfig readVision(JsonReader &reader, double initializerRange, Notes &notes) {
  VisionConfig vision;
  vision.width = reader.integer("hidden_size", 1280);
  vision.feedForward = reader.integer("intermediate_size", 5120);
  vision.layers = reader.integer("num_hidden_layers", 32, 1, kMaxLayers);
  vision.globalLayers = reader.integer("num_global_layers", 8, 0, kMaxLayers);
  // Written as `attention_heads`, read as either.
  StringRef heads = reader.has("num_attention_heads") ? "num_attention_heads" : "attention_heads";
  notes.disagree(reader, "num_attention_heads", reader, "attention_heads");
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

  vision.taps =
      reader.integers("intermediate_layers_indices", {3, 7, 15, 23, 30}, vision.layers - 1);
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

  readActivation(reader, "gelu", "gelu_python");
  reader.only("num_channels", vision.channels);
  reader.only("max_num_tiles", vision.tiles);
  reader.only("supported_aspect_ratios",
              json::Array{json::Array{1, 1}, json::Array{1, 2}, json::Array{1, 3},
                          json::Array{1, 4}, json::Array{2, 1}, json::Array{2, 2},
                          json::Array{3, 1}, json::Array{4, 1}});
  refuseOtherComputation(reader);
  double range = reader.number("initializer_range", initializerRange, /*positive=*/false);
  if (range != initializerRange)
    notes.add(formatv("field '{0}' ({1}) is not used: weights that `train` draws have that of "
                      "text_config ({2})",
                      reader.nameOf("initializer_range"), json::Value(range),
                      json::Value(initializerRange)));
  return vision;
}

// What versions of transformers compute, each from a version on (llama3-vision specification J1,
// J2). Source: models/mllama/modeling_mllama.py of 4.45, 4.54, 4.55, 4.56, 5.23 and 5.24.
namespace {
struct VersionedComputation {
  int major, minor;                       ///< from this version on
  std::optional<FeatureTaps> featureTaps; ///< none: taps that no weights were trained for
  RowMask rowMask;
};
} // namespace
static constexpr VersionedComputation kVersions[] = {
    {4, 45, FeatureTaps::Input, RowMask::FeedForward},
    {4, 55, std::nullopt, RowMask::FeedForward}, // all taps read the last layer
    {4, 56, FeatureTaps::Output, RowMask::FeedForward},
};
static constexpr int kNewestMajor = 5, kNewestMinor = 24;

// Feature taps and row mask: of the command line, else of `transformers_version`, else as in the
// reference implementation, whose weights the released ones are.
static void chooseComputation(JsonReader &reader, const ModelOverrides &overrides,
                              VisionConfig &vision, Notes &notes) {
  if (overrides.featureTaps)
    vision.featureTaps = *overrides.featureTaps;
  if (overrides.rowMask)
    vision.rowMask = *overrides.rowMask;
  StringRef field = "transformers_version";
  if (!reader.get(field))
    return;
  std::string version = reader.text(field, "");
  StringRef rest = version;
  int major = 0, minor = 0;
  if (rest.consumeInteger(10, major) || !rest.consume_front(".") || rest.consumeInteger(10, minor))
    return reader.wrong(field, "a version, as 5.23.0", "'" + version + "'");
  const VersionedComputation *computation = kVersions;
  for (const VersionedComputation &next : kVersions)
    if (std::pair(major, minor) >= std::pair(next.major, next.minor))
      computation = &next;
  if (!computation->featureTaps && !overrides.featureTaps)
    return reader.wrong(field,
                        "--feature-taps=input or --feature-taps=output beside this version, "
                        "in which all taps read the encoder's last layer",
                        "'" + version + "' alone");
  FeatureTaps taps = computation->featureTaps.value_or(vision.featureTaps);
  std::string says = formatv("transformers {0} computes --feature-taps={1} --row-mask={2}", version,
                             nameOf(taps), nameOf(computation->rowMask));
  if (!computation->featureTaps)
    says = "in transformers " + version + " all feature taps read the encoder's last layer";
  if (std::pair(major, minor) > std::pair(kNewestMajor, kNewestMinor))
    says += formatv(" if it is like {0}.{1}, the newest known", kNewestMajor, kNewestMinor);
  if (!overrides.featureTaps)
    vision.featureTaps = taps;
  if (!overrides.rowMask)
    vision.rowMask = computation->rowMask;
  bool isSame = computation->featureTaps && vision.featureTaps == taps &&
                vision.rowMask == computation->rowMask;
  notes.add(formatv("field '{0}': {1}; {2}", field, says,
                    isSame ? std::string("so does this program")
                           : formatv("this program computes --feature-taps={0} --row-mask={1}, as "
                                     "the command line says",
                                     nameOf(vision.featureTaps), nameOf(vision.rowMask))
                                 .str()));
}

//===----------------------------------------------------------------------===//
// The file
//===----------------------------------------------------------------------===//

// The model must be one that predicts tokens, not one with another head.
static void readArchitectures(JsonReader &reader) {
  const json::Value *value = reader.get("architectures");
  const json::Array *names = value ? value->getAsArray() : nullptr;
  if (!value || (names && names->empty()))
    return;
  if (names && any_of(*names, [](const json::Value &name) {
        StringRef text = name.getAsString().value_or("");
        return text.ends_with("ForCausalLM") || text.ends_with("ForConditionalGeneration") ||
               text.ends_with("Model");
      }))
    return;
  reader.wrongValue("architectures", "LlamaForCausalLM or MllamaForConditionalGeneration", *value);
}

Expected<ModelConfig> mlir::llamac::readModelConfig(StringRef path,
                                                    const ModelOverrides &overrides) {
  Expected<json::Object> object = readJsonFile(path, "a config.json");
  if (!object)
    return object.takeError();

  std::string error;
  JsonReader reader(path, "", *object, error);
  Notes notes{path, {}};
  std::string type = reader.text("model_type", "");
  ModelConfig config;
  readArchitectures(reader);
  if (type == "llama") {
    config.text = readText(reader, /*isMllama=*/false, notes);
    noteUnread({&reader}, notes);
  } else if (type == "mllama") {
    refuseOtherComputation(reader);
    JsonReader textReader = reader.members("text_config");
    config.text = readText(textReader, /*isMllama=*/true, notes);
    config.text.crossLayers = readCrossLayers(textReader, config.text.layers);
    JsonReader visionReader = reader.members("vision_config");
    config.vision = readVision(visionReader, config.text.initializerRange, notes);
    for (JsonReader *holder : {&reader, &textReader})
      if (holder->boolean("tie_word_embeddings", false))
        notes.add(
            "field '" + holder->nameOf("tie_word_embeddings") +
            "' is not used: the head of an mllama is a tensor of its own, in transformers too");
    StringRef field = reader.has("image_token_id") ? "image_token_id" : "image_token_index";
    notes.disagree(reader, "image_token_id", reader, "image_token_index");
    config.vision->imageToken =
        reader.integer(field, 128256, 0, config.text.vocabulary + config.text.extraRows - 1);
    chooseComputation(reader, overrides, *config.vision, notes);
    noteUnread({&reader, &textReader, &visionReader}, notes);
  } else {
    reader.wrong("model_type", "'mllama' or 'llama'", type.empty() ? "nothing" : "'" + type + "'");
  }
  if (reader.failed())
    return inputError(error);
  config.notes = std::move(notes.lines);
  if (auto buffer = MemoryBuffer::getFile(path))
    config.file = (*buffer)->getBuffer().str();
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
                                                    const ModelOverrides &overrides) {
  ModelConfig config;
  std::optional<std::string> weights;
  if (auto builtin = builtinModel(model)) {
    config = *builtin;
    if (config.vision) {
      config.vision->featureTaps = overrides.featureTaps.value_or(config.vision->featureTaps);
      config.vision->rowMask = overrides.rowMask.value_or(config.vision->rowMask);
    }
  } else {
    SmallString<128> path = model;
    if (sys::fs::is_directory(model)) {
      weights = findWeights(model);
      sys::path::append(path, "config.json");
    } else if (!sys::fs::exists(model)) {
      return inputError(model +
                        ": expected a .mlir file, a config.json, a directory that holds one, "
                        "or one of " +
                        join(builtinModelNames(), ", "));
    }
    Expected<ModelConfig> read = readModelConfig(path, overrides);
    if (!read)
      return read;
    config = *read;
  }

  if (!config.vision) {
    for (auto [name, isGiven] : {std::pair("tile-size", overrides.tileSize.has_value()),
                                 {"feature-taps", overrides.featureTaps.has_value()},
                                 {"row-mask", overrides.rowMask.has_value()}})
      if (isGiven)
        return inputError(Twine("--") + name + ": expected a vision model, got " + model);
    return config;
  }
  std::optional<int64_t> tileSize = overrides.tileSize;
  if (!tileSize)
    return config;
  auto wrong = [&](const Twine &expected) {
    return inputError("--tile-size=" + Twine(*tileSize) + ": expected " + expected);
  };
  VisionConfig &vision = *config.vision;
  if (*tileSize % vision.patchSize)
    return wrong("a multiple of the patch size " + Twine(vision.patchSize));
  if (weights && *tileSize != vision.tileSize)
    return wrong(Twine(vision.tileSize) + ", the size of the position tables in " + *weights);
  vision.tileSize = *tileSize;
  return config;
}
