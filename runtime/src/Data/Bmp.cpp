//===- Bmp.cpp - Decode BMP -----------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Source: Microsoft's BITMAPINFOHEADER and its successors; which kinds are read
// and how, PIL's BmpImagePlugin.py.
//
//===----------------------------------------------------------------------===//
#include "src/Data/Decode.h"
#include "src/Data/Error.h"

#include <array>
#include <bit>

namespace llrt {

namespace {

enum Compression { Raw = 0, Rle8 = 1, Rle4 = 2, BitFields = 3 };

// The indices of a picture packed by run lengths, its lowest row first; what is
// left out is 0. Nothing if it is cut short.
std::optional<std::vector<uint8_t>> unpackRle(std::string_view bytes, int64_t width, int64_t height,
                                              bool isFour) {
  size_t size = size_t(width * height);
  std::vector<uint8_t> data;
  int64_t x = 0;
  bool ended = false;
  auto byte = [&](size_t at) { return uint8_t(bytes[at]); };
  auto half = [&](uint8_t pair, int64_t i) { return uint8_t(i % 2 == 0 ? pair >> 4 : pair & 15); };
  for (size_t at = 0; data.size() < size && at + 2 <= bytes.size();) {
    int64_t count = byte(at), value = byte(at + 1);
    at += 2;
    if (count != 0) { // a run
      count = std::clamp<int64_t>(count, 0, std::max<int64_t>(0, width - x));
      for (int64_t i = 0; i < count; ++i)
        data.push_back(isFour ? half(uint8_t(value), i) : uint8_t(value));
      x += count;
    } else if (value == 0) { // the end of a line
      while (data.size() % size_t(width) != 0)
        data.push_back(0);
      x = 0;
    } else if (value == 1) {
      ended = true;
      break;
    } else if (value == 2) { // a step to the right and up
      if (at + 2 > bytes.size())
        break;
      size_t step = byte(at) + byte(at + 1) * size_t(width);
      at += 2;
      data.insert(data.end(), std::min(step, size - data.size()), 0);
      x = int64_t(data.size() % size_t(width));
    } else { // pixels one by one, filled up to 16 bits
      size_t length = size_t(isFour ? (value + 1) / 2 : value);
      for (int64_t i = 0; i < value; ++i) {
        size_t from = at + size_t(isFour ? i / 2 : i);
        if (from >= bytes.size())
          break;
        data.push_back(isFour ? half(byte(from), i) : byte(from));
      }
      x += value;
      at += length + length % 2;
    }
  }
  if (data.size() < size && !ended)
    return std::nullopt;
  data.resize(size);
  return data;
}

} // namespace

Decoded decodeBmp(std::string_view bytes, const std::string &name) {
  auto number = [&](size_t at, size_t size) {
    if (at + size > bytes.size())
      fail(name, ": broken BMP: cut short");
    uint32_t value = 0;
    for (size_t i = 0; i < size; ++i)
      value |= uint32_t(uint8_t(bytes[at + i])) << 8 * i;
    return value;
  };
  constexpr size_t info = 14; // where the second header begins
  size_t pixelsAt = number(10, 4), headerSize = number(info, 4);
  bool isCore = headerSize == 12;
  if (!isCore && headerSize != 40 && headerSize != 52 && headerSize != 56 && headerSize != 64 &&
      headerSize != 108 && headerSize != 124)
    fail(name, ": broken BMP: unknown header of ", headerSize, " bytes");
  int64_t width = isCore ? number(info + 4, 2) : number(info + 4, 4);
  int64_t height = isCore ? int64_t(number(info + 6, 2)) : int64_t(int32_t(number(info + 8, 4)));
  bool isTopDown = height < 0;
  height = std::abs(height);
  uint32_t bits = number(info + (isCore ? 10 : 14), 2);
  uint32_t packing = isCore ? uint32_t(Raw) : number(info + 16, 4);
  size_t colours = isCore ? 0 : number(info + 32, 4);
  if (colours == 0)
    colours = size_t(1) << std::min(bits, 16u);
  auto refuse = [&] {
    fail(name, ": this kind of BMP is not read (", bits, " bits, compression ", packing,
         "); convert it to PNG, JPEG or WebP");
  };
  bool hasPalette = bits == 1 || bits == 4 || bits == 8;
  bool isPacked = packing == Rle8 || packing == Rle4;
  if ((!hasPalette && bits != 16 && bits != 24 && bits != 32) || packing > BitFields ||
      (isPacked && !hasPalette) || (packing == BitFields && hasPalette) || colours > 65536)
    refuse();

  // Where each colour's bits are. Alpha counts where the masks name it.
  std::array<uint32_t, 4> masks = {0xFF0000, 0xFF00, 0xFF, 0};
  if (bits == 16)
    masks = {0x7C00, 0x3E0, 0x1F, 0};
  size_t headerEnd = info + headerSize;
  if (packing == BitFields) {
    bool hasAlphaMask = headerSize >= 56;
    for (size_t i = 0; i < (hasAlphaMask ? 4 : 3); ++i)
      masks[i] = number(info + 40 + 4 * i, 4);
    if (!hasAlphaMask && headerSize == 40)
      headerEnd += 12;
    if (masks == std::array<uint32_t, 4>{}) // PIL takes these for BGRA
      masks = {0xFF0000, 0xFF00, 0xFF, 0xFF000000};
    for (uint32_t mask : masks) {
      int width = std::popcount(mask);
      if (mask != 0 && mask >> std::countr_zero(mask) != (1u << width) - 1 && width != 32)
        refuse();
    }
  }

  // The palette: BGR, in newer headers with a byte more.
  size_t entry = isCore ? 3 : 4;
  std::vector<std::array<uint8_t, 3>> palette(256); // black behind its end
  if (hasPalette)
    for (size_t i = 0; i < std::min<size_t>(colours, 256); ++i)
      for (size_t c = 0; c < 3; ++c)
        palette[i][c] = uint8_t(number(headerEnd + i * entry + 2 - c, 1));
  if (pixelsAt == 0)
    pixelsAt = headerEnd + (hasPalette ? colours * entry : 0);
  if (pixelsAt > bytes.size())
    fail(name, ": broken BMP: cut short");

  Image image = makeImage(width, height, name);
  std::optional<std::vector<uint8_t>> indices;
  if (isPacked)
    indices = unpackRle(bytes.substr(pixelsAt), width, height, packing == Rle4);
  size_t rowBytes = (size_t(width) * bits + 31) / 32 * 4;
  bool isCut = isPacked && !indices;
  if (!isPacked) // PIL does without the padding of the last row
    isCut =
        rowBytes * size_t(height - 1) + (size_t(width) * bits + 7) / 8 > bytes.size() - pixelsAt;
  if (isCut)
    fail(name, ": broken BMP: cut short");
  uint8_t *to = image.pixels.data();
  for (int64_t y = 0; y < height; ++y) {
    size_t row = size_t(isTopDown ? y : height - 1 - y);
    for (size_t x = 0; x < size_t(width); ++x) {
      if (hasPalette) {
        size_t bit = x * bits;
        uint32_t index =
            isPacked ? (*indices)[row * size_t(width) + x]
                     : number(pixelsAt + row * rowBytes + bit / 8, 1) >> (8 - bits - bit % 8) &
                           ((1u << bits) - 1);
        for (uint8_t value : palette[index])
          *to++ = value;
        continue;
      }
      uint32_t pixel = number(pixelsAt + row * rowBytes + x * (bits / 8), bits / 8);
      auto part = [&](uint32_t mask) {
        uint32_t most = mask >> std::countr_zero(mask);
        return mask ? int((pixel & mask) >> std::countr_zero(mask)) * 255 / int(most) : 0;
      };
      int alpha = masks[3] ? part(masks[3]) : 255;
      for (size_t c = 0; c < 3; ++c)
        *to++ = overWhite(part(masks[c]), alpha);
    }
  }
  return {std::move(image), 1};
}

} // namespace llrt
