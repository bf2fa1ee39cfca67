//===- ImagePipeline.cpp - Images to tiles of pixels ---------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/ImagePipeline.h"

#include "src/Data/Error.h"
#include "src/Data/Files.h"

#include <algorithm>
#include <cmath>

namespace llrt {

namespace {

using nlohmann::json;

constexpr int64_t maxTileSize = 8192; // against typing errors; a canvas is 4 tiles

// Three numbers that `good` accepts.
template <typename Good>
std::array<double, 3> readTriple(const json &config, const char *key, const std::string &path,
                                 const char *expected, Good good) {
  std::array<double, 3> values;
  json list = config.value(key, json());
  bool fine = list.is_array() && list.size() == 3;
  for (size_t i = 0; fine && i < 3; ++i)
    fine = list[i].is_number() && good(values[i] = list[i].get<double>());
  if (!fine)
    fail(path, ": field '", key, "': expected ", expected, ", got ",
         config.contains(key) ? list.dump() : "nothing");
  return values;
}

// If `key` is given, its value must be `expected`.
void expectValue(const json &config, const char *key, const json &expected,
                 const std::string &path) {
  if (config.contains(key) && config[key] != expected)
    fail(path, ": field '", key, "': expected ", expected.dump(), ", got ", config[key].dump());
}

} // namespace

ImagePipeline::ImagePipeline(const std::string &file) {
  json config = parseJson(MappedFile(file).text(), file);
  std::string path = file;
  if (config.is_object() && config.contains("image_processor")) {
    path += ": field 'image_processor'";
    json inner = config["image_processor"];
    config = std::move(inner);
  }
  if (!config.is_object())
    fail(path, ": expected a JSON object, got ", config.type_name());
  json type = config.value("image_processor_type", json("MllamaImageProcessor"));
  if (!type.is_string() || !type.get<std::string>().starts_with("MllamaImageProcessor"))
    fail(path,
         ": field 'image_processor_type': expected \"MllamaImageProcessor\", "
         "got ",
         type.dump());
  for (const char *key : {"do_convert_rgb", "do_resize", "do_rescale", "do_normalize", "do_pad"})
    expectValue(config, key, true, path);
  expectValue(config, "resample", 2, path);
  expectValue(config, "max_image_tiles", maxTiles, path);

  json size = config.value("size", json());
  auto sideOf = [&](const char *key) -> int64_t {
    json value = size.is_object() ? size.value(key, json()) : json();
    return value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t(maxTileSize)
               ? value.get<int64_t>()
               : 0;
  };
  side = sideOf("height");
  if (side == 0 || side != sideOf("width"))
    fail(path, ": field 'size': expected equal height and width, 1 to ", maxTileSize, ", got ",
         size.is_null() ? "nothing" : size.dump());

  auto finite = [](double value) { return std::isfinite(value); };
  auto positive = [](double value) { return std::isfinite(value) && value > 0; };
  std::array<double, 3> mean = readTriple(config, "image_mean", path, "three numbers", finite);
  std::array<double, 3> deviation =
      readTriple(config, "image_std", path, "three numbers greater than 0", positive);
  json factor = config.value("rescale_factor", json(1.0 / 255));
  if (!factor.is_number() || !positive(factor.get<double>()))
    fail(path, ": field 'rescale_factor': expected a number greater than 0, got ", factor.dump());
  // Rescaled in f64 and rounded to f32, normalized in f32, as transformers
  // does.
  for (size_t channel = 0; channel < 3; ++channel)
    for (size_t value = 0; value < 256; ++value)
      normalized[channel][value] =
          (float(double(value) * factor.get<double>()) - float(mean[channel])) /
          float(deviation[channel]);
}

FittedImage ImagePipeline::fit(const Image &image) const {
  // The smallest enlargement that fits a canvas, else the smallest reduction;
  // of canvases that allow the same scale the one of least area, the first on
  // ties.
  size_t best = 0;
  double bestScale = 0;
  for (size_t k = 0; k < canvases.size(); ++k) {
    double scale = std::min(double(canvases[k].high * side) / double(image.height),
                            double(canvases[k].wide * side) / double(image.width));
    bool better = k == 0;
    if (scale == bestScale)
      better = better || canvases[k].tiles() < canvases[best].tiles();
    else if (scale >= 1)
      better = better || bestScale < 1 || scale < bestScale;
    else
      better = better || (bestScale < 1 && scale > bestScale);
    if (better) {
      best = k;
      bestScale = scale;
    }
  }

  FittedImage result;
  result.aspectRatioId = int64_t(best) + 1;
  int64_t height = canvases[best].high * side, width = canvases[best].wide * side;
  // Small images grow to one tile side at most.
  int64_t targetHeight = std::clamp(image.height, side, height);
  int64_t targetWidth = std::clamp(image.width, side, width);
  double scaleHigh = double(targetHeight) / double(image.height);
  double scaleWide = double(targetWidth) / double(image.width);
  auto scaled = [](int64_t length, double scale, int64_t most) {
    return std::clamp(int64_t(std::floor(double(length) * scale)), int64_t(1), most);
  };
  bool byWidth = scaleWide < scaleHigh;
  result.resizedHeight = byWidth ? scaled(image.height, scaleWide, targetHeight) : targetHeight;
  result.resizedWidth = byWidth ? targetWidth : scaled(image.width, scaleHigh, targetWidth);

  Image resized = resizeBilinear(image, result.resizedWidth, result.resizedHeight);
  result.canvas = {width, height, std::vector<uint8_t>(size_t(width * height) * 3)};
  for (int64_t y = 0; y < resized.height; ++y)
    std::copy_n(resized.pixels.begin() + y * resized.width * 3, resized.width * 3,
                result.canvas.pixels.begin() + y * width * 3);
  return result;
}

ImageTiles ImagePipeline::process(const Image &image) const {
  FittedImage fitted = fit(image);
  Canvas canvas = canvases[size_t(fitted.aspectRatioId - 1)];
  ImageTiles result = {fitted.aspectRatioId, canvas.tiles(), {}};
  result.pixels.resize(size_t(maxTiles * 3 * side * side));
  float *to = result.pixels.data();
  for (int64_t tile = 0; tile < canvas.tiles(); ++tile) {
    int64_t top = tile / canvas.wide * side, left = tile % canvas.wide * side;
    for (size_t channel = 0; channel < 3; ++channel)
      for (int64_t y = top; y < top + side; ++y)
        for (int64_t x = left; x < left + side; ++x)
          *to++ =
              normalized[channel]
                        [fitted.canvas.pixels[size_t(y * fitted.canvas.width + x) * 3 + channel]];
  }
  return result;
}

} // namespace llrt
