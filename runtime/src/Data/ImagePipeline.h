//===- ImagePipeline.h - Images to tiles of pixels --------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What HuggingFace's MllamaImageProcessor does: choose a canvas of tiles,
// resize, pad, normalize, cut. Source: transformers, models/mllama/
// image_processing_pil_mllama.py.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_IMAGEPIPELINE_H
#define LLRT_DATA_IMAGEPIPELINE_H

#include "src/Data/Image.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace llrt {

constexpr int64_t maxTiles = 4; // of one image, in every model of this family

// How many tiles high and wide a canvas is. The aspect ratio id of canvases[k]
// is k + 1; id 0 is a missing image.
struct Canvas {
  int64_t high, wide;
  int64_t tiles() const { return high * wide; }
};
constexpr std::array<Canvas, 8> canvases = {
    {{1, 1}, {1, 2}, {1, 3}, {1, 4}, {2, 1}, {2, 2}, {3, 1}, {4, 1}}};

// Real tiles of an image with this aspect ratio id; 1 for id 0, as
// HuggingFace's aspect_ratio_mask has it.
inline int64_t tilesOfAspect(int64_t id) { return id == 0 ? 1 : canvases[size_t(id - 1)].tiles(); }

// An image laid on its canvas, before normalization.
struct FittedImage {
  int64_t aspectRatioId; // 1..8
  int64_t resizedWidth, resizedHeight;
  Image canvas; // the resized image at its top left, black elsewhere
};

// What the model reads of one image.
struct ImageTiles {
  int64_t aspectRatioId;     // 1..8
  int64_t tiles;             // real ones; the slots after them are zeros
  std::vector<float> pixels; // [4, 3, R, R]
};

// All functions are const and may run on several threads at once.
class ImagePipeline {
public:
  // Reads a preprocessor_config.json, or a processor_config.json of transformers
  // 5, which has the same in its field `image_processor`. Needs `size` (square), `image_mean` and
  // `image_std`; do_resize, do_pad, do_rescale, do_normalize and do_convert_rgb
  // must be true, resample 2 (bilinear) and max_image_tiles 4 where given. Keys
  // that do not concern pixels are passed over. Throws Error naming the field.
  explicit ImagePipeline(const std::string &file);

  int64_t tileSize() const { return side; } // R, pixels

  // Chooses canvas and size, resizes, pads.
  FittedImage fit(const Image &image) const;
  // fit, then normalize and cut into tiles, row by row.
  ImageTiles process(const Image &image) const;

private:
  int64_t side;
  std::array<std::array<float, 256>, 3> normalized; // of each channel and value
};

} // namespace llrt

#endif // LLRT_DATA_IMAGEPIPELINE_H
