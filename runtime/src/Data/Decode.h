//===- Decode.h - One decoder per image format ------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The formats behind `decodeImage`. Each makes of the first picture of a file
// the RGB bytes that PIL makes: Image.open, then transformers' convert_to_rgb
// (transparent images over white). All throw Error, opening with `name`, and
// are re-entrant.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_DECODE_H
#define LLRT_DATA_DECODE_H

#include "src/Data/Image.h"

#include <algorithm>
#include <optional>

namespace llrt {

// An image as it is stored, and the EXIF orientation that turns it upright, 1
// to 8; anything else is 1.
struct Decoded {
  Image image;
  int orientation = 1;
};

Decoded decodePng(std::string_view bytes, const std::string &name);
Decoded decodeJpeg(std::string_view bytes, const std::string &name);
Decoded decodeWebp(std::string_view bytes, const std::string &name);
Decoded decodeGif(std::string_view bytes, const std::string &name);
Decoded decodeTiff(std::string_view bytes, const std::string &name);
Decoded decodeBmp(std::string_view bytes, const std::string &name);

// An image of this size, its pixels not set. Throws Error if a side is less
// than 1 or if it has more pixels than PIL takes.
Image makeImage(int64_t width, int64_t height, const std::string &name);

// The orientation in EXIF data (a TIFF header, perhaps behind `Exif\0\0`), else
// in the XMP text; 1 if neither holds one.
int readOrientation(std::string_view exif, std::string_view xmp);

// Whether the first directory of a TIFF file of 32-bit offsets has `tag`.
bool hasTiffTag(std::string_view tiff, uint32_t tag);

// a * b / 255, rounded to nearest.
inline int multiply255(int a, int b) { return (a * b + 127) / 255; }

// `value` of a pixel with `alpha`, over white.
inline uint8_t overWhite(int value, int alpha) {
  return uint8_t((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

// A colour of a pixel with the inks `ink` and `black`.
inline uint8_t fromInk(int ink, int black) {
  int white = 255 - black;
  return uint8_t(white - multiply255(ink, white));
}

} // namespace llrt

#endif // LLRT_DATA_DECODE_H
