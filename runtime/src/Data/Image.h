//===- Image.h - Decode images, resize --------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_IMAGE_H
#define LLRT_DATA_IMAGE_H

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llrt {

// An RGB image of 8 bits: pixels[(y * width + x) * 3 + channel].
struct Image {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> pixels;
};

// Decodes a whole PNG, JPEG, WebP, GIF, TIFF or BMP, known by its content, to
// RGB, with the values that PIL 13 and transformers give: of several pictures
// in a file the first; turned upright as its EXIF (else XMP) orientation says,
// as ImageOps.exif_transpose does; transparent images over white, as
// convert_to_rgb lays them; no gamma or profile applied. Samples of 16 bits: of
// gray they are clamped to 255, of colours the high byte stays, both as PIL's.
// Throws Error, opening with `name`, if `bytes` is something else, is broken or
// cut short, or has more than 178,956,970 pixels (PIL's limit). Re-entrant.
Image decodeImage(std::string_view bytes, const std::string &name);

// Whether `bytes` begins as images do, also those that decodeImage does not
// read. (A BMP's two letters say too little; it is known by its name.)
bool beginsLikeImage(std::string_view bytes);

// `image` in a new size (each side at least 1), bit for bit as Image.resize of
// Pillow 13 with BILINEAR: a triangle filter, as wide as the reduction.
Image resizeBilinear(const Image &image, int64_t width, int64_t height);

} // namespace llrt

#endif // LLRT_DATA_IMAGE_H
