//===- ModelConfig.h - Description of a model ------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A model as HuggingFace's config.json describes it: sizes and constants, no
// weights. What a reader returns is consistent: every divisibility and every
// range that the model graph needs has been checked.
//
// Source of names and defaults: huggingface/transformers, models/mllama and
// models/llama, configuration_*.py.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_IMPORT_MODELCONFIG_H
#define LLAMAC_IMPORT_MODELCONFIG_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlir::llamac {

/// Rotary positions: base frequencies `theta^(-2 i / head size)`, all of them divided by
/// `divisor` (`rope_type` "linear"), or the slow ones stretched as in Llama 3.1 ("llama3").
struct RopeConfig {
  struct Scaling {
    double factor;              ///< slow frequencies are divided by it
    double lowFrequencyFactor;  ///< below originalLength / this: fully stretched
    double highFrequencyFactor; ///< above originalLength / this: left alone
    int64_t originalLength;     ///< tokens, of the context before stretching
  };
  double theta;
  std::optional<Scaling> scaling = std::nullopt;
  double divisor = 1;

  /// The angle per position of each channel pair, `headSize / 2` of them.
  /// Source: meta-llama/llama-models, models/llama3/model.py, apply_scaling.
  llvm::SmallVector<double> frequencies(int64_t headSize) const;
};

/// The text decoder. Layers count self-attention and cross-attention together.
struct TextConfig {
  int64_t vocabulary, width, feedForward, layers, heads, keyValueHeads, headSize;
  double epsilon;
  RopeConfig rope;
  bool tiedEmbeddings = false; ///< the output head is the embedding table
  double initializerRange = 0.02;
  int64_t beginToken;
  llvm::SmallVector<int64_t> endTokens;
  std::optional<int64_t> padToken;
  /// Rows of the embedding table past the vocabulary (image marker), 0 or 8.
  int64_t extraRows = 0;
  /// Which of the layers are cross-attention, ascending; empty without vision.
  llvm::SmallVector<int64_t> crossLayers;
};

/// Where a feature tap reads the residual stream of encoder layer i.
/// The released weights want Input: llama3-vision specification J1.
enum class FeatureTaps { Input, Output };

/// Which branches of a cross-attention layer leave text rows that attend no
/// image alone: both (Meta), or only the feed-forward one (older transformers).
/// Source: llama3-vision specification J2.
enum class RowMask { Both, FeedForward };

/// The image encoder and what joins it to the text decoder.
struct VisionConfig {
  int64_t width, feedForward, layers, globalLayers, heads;
  int64_t patchSize, tileSize;     ///< pixels
  double epsilon;                  ///< of the norms in encoder layers
  llvm::SmallVector<int64_t> taps; ///< encoder layers, ascending
  int64_t imageToken;
  FeatureTaps featureTaps = FeatureTaps::Input;
  RowMask rowMask = RowMask::Both;

  static constexpr int64_t tiles = 4;        ///< tile slots of an image
  static constexpr int64_t channels = 3;     ///< red, green, blue
  static constexpr int64_t aspectRatios = 9; ///< table rows: 8 ratios, 0 = no image
  static constexpr int64_t tokenMultiple = 8;
  /// Of the norms before and after the encoder, whatever `norm_eps` says.
  /// Source: huggingface/transformers, modeling_mllama.py, layernorm_pre.
  static constexpr double outerEpsilon = 1e-5;

  int64_t patches() const { return (tileSize / patchSize) * (tileSize / patchSize); }
  /// Tokens of a tile: its patches and the class token.
  int64_t tokens() const { return patches() + 1; }
  int64_t headSize() const { return width / heads; }
};

struct ModelConfig {
  TextConfig text;
  std::optional<VisionConfig> vision; ///< none: text-only `llama`
  /// What the reader decided and a user should know, a line each: fields that disagree, fields
  /// that nothing reads, what `transformers_version` chose.
  std::vector<std::string> notes;
  std::string file; ///< content of the config.json that was read; else empty
};

/// What a command line says of a model, in place of its config.json.
struct ModelOverrides {
  std::optional<int64_t> tileSize; ///< pixels
  std::optional<FeatureTaps> featureTaps;
  std::optional<RowMask> rowMask;
};

/// The values of --feature-taps and --row-mask.
llvm::StringRef nameOf(FeatureTaps taps);
llvm::StringRef nameOf(RowMask mask);

/// Names that stand for a model without a file.
llvm::ArrayRef<llvm::StringRef> builtinModelNames();

/// The built-in model of that name, none if there is none.
std::optional<ModelConfig> builtinModel(llvm::StringRef name);

/// Reads a config.json of model type `mllama` or `llama` as transformers 5.23 does. A field that
/// changes the computation and cannot be followed is an error. Errors are one line,
/// `FILE: field 'x': expected ..., got ...` or `FILE:LINE:COLUMN: ...`.
///
/// Where versions of transformers differ, `transformers_version` decides unless `overrides` does;
/// without it taps are Input and the row mask is Both.
/// Source: huggingface/transformers, the files named above and modeling_rope_utils.py.
llvm::Expected<ModelConfig> readModelConfig(llvm::StringRef path,
                                            const ModelOverrides &overrides = {});

/// The config.json of a model, in one line, as transformers reads it: the file that
/// was read, of a built-in model all fields. Does not know of another tile size.
std::string writeModelConfig(const ModelConfig &config);

/// The model that a command line names: a built-in name, a config.json, or a HuggingFace
/// directory. `overrides.tileSize` is an error if the patch size does not divide it, or if the
/// directory holds weights, whose position tables are of the configured size; all of them are
/// errors for a text model.
llvm::Expected<ModelConfig> findModelConfig(llvm::StringRef model,
                                            const ModelOverrides &overrides = {});

} // namespace mlir::llamac

#endif // LLAMAC_IMPORT_MODELCONFIG_H
