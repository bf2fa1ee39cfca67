//===- BuiltinModels.cpp - Models that a name stands for ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sizes: "The Llama 3 Herd of Models" (arXiv 2407.21783), table 3 and section
// 7.2; the released config.json of Llama 3.2 Vision; llama3-vision specification
// A, E4 and E5.
//
//===----------------------------------------------------------------------===//
#include "llamac/Import/ModelConfig.h"

using namespace mlir::llamac;

namespace {
struct Size {
  int64_t width, feedForward, selfLayers, heads;
};
} // namespace

static constexpr Size k8B = {4096, 14336, 32, 32};
static constexpr Size k70B = {8192, 28672, 80, 64};
static constexpr Size k405B = {16384, 53248, 126, 128};

static ModelConfig textModel(Size size) {
  ModelConfig model;
  TextConfig &text = model.text;
  text.vocabulary = 128256;
  text.width = size.width;
  text.feedForward = size.feedForward;
  text.layers = size.selfLayers;
  text.heads = size.heads;
  text.keyValueHeads = 8;
  text.headSize = 128;
  text.epsilon = 1e-5;
  text.rope = {500000.0, RopeConfig::Scaling{8.0, 1.0, 4.0, 8192}};
  text.beginToken = 128000;
  text.endTokens = {128001};
  return model;
}

static ModelConfig visionModel(Size size, llvm::ArrayRef<int64_t> crossLayers, int64_t tileSize) {
  ModelConfig model = textModel(size);
  model.text.layers += crossLayers.size();
  model.text.crossLayers.assign(crossLayers.begin(), crossLayers.end());
  model.text.padToken = 128004;
  model.text.extraRows = 8;
  VisionConfig &vision = model.vision.emplace();
  vision.width = 1280;
  vision.feedForward = 5120;
  vision.layers = 32;
  vision.globalLayers = 8;
  vision.heads = 16;
  vision.patchSize = 14;
  vision.tileSize = tileSize;
  vision.epsilon = 1e-5;
  vision.taps = {3, 7, 15, 23, 30};
  vision.imageToken = 128256;
  return model;
}

// The middle layers [S S S X S], `count` times, from combined layer `first`.
static llvm::SmallVector<int64_t> everyFifth(int64_t first, int64_t count) {
  llvm::SmallVector<int64_t> layers;
  for (int64_t i = 0; i < count; ++i)
    layers.push_back(first + 5 * i);
  return layers;
}

llvm::ArrayRef<llvm::StringRef> mlir::llamac::builtinModelNames() {
  static constexpr llvm::StringRef names[] = {
      "llama3-8b",           "llama3-70b",       "llama3-405b",       "llama3.2-11b-vision",
      "llama3.2-90b-vision", "llama3-8b-vision", "llama3-70b-vision", "llama3-405b-vision"};
  return names;
}

std::optional<ModelConfig> mlir::llamac::builtinModel(llvm::StringRef name) {
  if (name == "llama3-8b")
    return textModel(k8B);
  if (name == "llama3-70b")
    return textModel(k70B);
  if (name == "llama3-405b")
    return textModel(k405B);
  if (name == "llama3.2-11b-vision")
    return visionModel(k8B, everyFifth(3, 8), 560);
  if (name == "llama3.2-90b-vision")
    return visionModel(k70B, everyFifth(3, 20), 560);
  if (name == "llama3-8b-vision")
    return visionModel(k8B, everyFifth(3, 8), 336);
  if (name == "llama3-70b-vision")
    return visionModel(k70B, everyFifth(3, 20), 336);
  if (name == "llama3-405b-vision") {
    // Plan B of E5: 32 equal stages, [S S X S], 30 x [S S S X S], [S S X S].
    llvm::SmallVector<int64_t> layers = {2};
    layers.append(everyFifth(7, 30));
    layers.push_back(156);
    return visionModel(k405B, layers, 336);
  }
  return std::nullopt;
}
