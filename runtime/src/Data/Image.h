//===- Image.h - Decode PNG and JPEG, resize --------------------*- C++ -*-===//
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

// Decodes a whole PNG (every bit depth and colour type) or JPEG (gray, YCbCr,
// RGB, CMYK, YCCK) to RGB, with the values that PIL's convert("RGB") gives: no
// gamma or profile is applied, no EXIF rotation. Transparent images are laid
// over white, as HuggingFace's convert_to_rgb does. 16-bit samples keep their
// high byte (PIL clips those of 16-bit gray instead). Throws Error, opening
// with `name`, if `bytes` is neither, is broken or cut short, or has more than
// 178,956,970 pixels (the limit of PIL). Re-entrant.
Image decodeImage(std::string_view bytes, const std::string &name);

// `image` in a new size (each side at least 1), bit for bit as Image.resize of
// Pillow 13 with BILINEAR: a triangle filter, as wide as the reduction.
Image resizeBilinear(const Image &image, int64_t width, int64_t height);

} // namespace llrt

#endif // LLRT_DATA_IMAGE_H
