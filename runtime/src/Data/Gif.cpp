//===- Gif.cpp - Decode GIF -----------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Decode.h"
#include "src/Data/Error.h"

#include <cstring>
#include <memory>

#include <gif_lib.h>

namespace llrt {

namespace {

// Unpacks the indices of the frame that `gif` has come to into `indices`, as
// many as it holds. giflib's own routine takes codes that cannot be. False if a
// code cannot be, or if the data is cut short.
// Source: GIF 89a, appendix F.
bool unpackFrame(GifFileType *gif, std::vector<uint8_t> &indices) {
  constexpr int mostBits = 12;
  int literalBits = 0;
  GifByteType *block = nullptr; // its length, then its bytes
  if (DGifGetCode(gif, &literalBits, &block) != GIF_OK || literalBits < 1 || literalBits > 8)
    return false;
  const int clear = 1 << literalBits, end = clear + 1;
  // Code k stands for what code prefix[k] stands for, then suffix[k].
  std::vector<int> prefix(1 << mostBits);
  std::vector<uint8_t> suffix(1 << mostBits), text; // text: last byte first
  int width = literalBits + 1, next = end + 1, last = -1;
  uint8_t first = 0; // byte of what `last` stands for
  uint32_t bits = 0;
  int have = 0;
  size_t done = 0;
  while (block) {
    for (int i = 1; i <= block[0]; ++i) {
      bits |= uint32_t(block[i]) << have;
      for (have += 8; have >= width;) {
        int code = int(bits & ((1u << width) - 1));
        bits >>= width;
        have -= width;
        if (code == clear) {
          width = literalBits + 1;
          next = end + 1;
          last = -1;
          continue;
        }
        if (code == end)
          return done == indices.size();
        if (last < 0 ? code > end : code > next)
          return false;
        text.clear();
        int at = code;
        if (code == next) { // the last text and its first byte again
          text.push_back(first);
          at = last;
        }
        for (; at > end; at = prefix[size_t(at)])
          text.push_back(suffix[size_t(at)]);
        first = uint8_t(at);
        text.push_back(first);
        for (; !text.empty() && done < indices.size(); text.pop_back())
          indices[done++] = text.back();
        if (done == indices.size())
          return true;
        if (last >= 0 && next < 1 << mostBits) {
          prefix[size_t(next)] = last;
          suffix[size_t(next)] = first;
          if (++next == 1 << width && width < mostBits)
            ++width;
        }
        last = code;
      }
    }
    if (DGifGetCodeNext(gif, &block) != GIF_OK)
      return false;
  }
  return done == indices.size();
}

} // namespace

Decoded decodeGif(std::string_view bytes, const std::string &name) {
  int cause = 0;
  auto read = [](GifFileType *gif, GifByteType *to, int size) {
    auto &rest = *static_cast<std::string_view *>(gif->UserData);
    size_t count = std::min(size_t(size), rest.size());
    std::memcpy(to, rest.data(), count);
    rest.remove_prefix(count);
    return int(count);
  };
  std::string_view rest = bytes;
  auto close = [](GifFileType *gif) { DGifCloseFile(gif, nullptr); };
  std::unique_ptr<GifFileType, decltype(close)> gif(DGifOpen(&rest, read, &cause), close);
  auto check = [&](bool good) {
    if (good)
      return;
    const char *text = GifErrorString(gif ? gif->Error : cause);
    fail(name, ": broken GIF: ", text ? text : "cut short");
  };
  check(gif != nullptr);

  // The first frame and the transparent index that goes with it.
  int clear = NO_TRANSPARENT_COLOR;
  for (GifRecordType record = UNDEFINED_RECORD_TYPE; record != IMAGE_DESC_RECORD_TYPE;) {
    check(DGifGetRecordType(gif.get(), &record));
    if (record == TERMINATE_RECORD_TYPE)
      fail(name, ": broken GIF: expected a picture, got none");
    if (record != EXTENSION_RECORD_TYPE)
      continue;
    int code = 0;
    GifByteType *block = nullptr;
    check(DGifGetExtension(gif.get(), &code, &block));
    GraphicsControlBlock control;
    if (code == GRAPHICS_EXT_FUNC_CODE && block &&
        DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK)
      clear = control.TransparentColor;
    while (block)
      check(DGifGetExtensionNext(gif.get(), &block));
  }
  check(DGifGetImageDesc(gif.get()));
  const GifImageDesc &frame = gif->Image;
  // A frame that stands out of the screen widens it, as in PIL.
  Image image = makeImage(std::max<int64_t>(gif->SWidth, frame.Left + frame.Width),
                          std::max<int64_t>(gif->SHeight, frame.Top + frame.Height), name);
  std::vector<uint8_t> indices(size_t(image.width * image.height),
                               uint8_t(clear == NO_TRANSPARENT_COLOR ? 0 : clear));
  std::vector<int64_t> order; // the rows as they are stored
  if (frame.Interlace) {
    for (auto [first, step] : {std::pair{0, 8}, {4, 8}, {2, 4}, {1, 2}})
      for (int64_t y = first; y < frame.Height; y += step)
        order.push_back(y);
  } else {
    for (int64_t y = 0; y < frame.Height; ++y)
      order.push_back(y);
  }
  std::vector<uint8_t> stored(size_t(frame.Width * frame.Height));
  if (!unpackFrame(gif.get(), stored))
    fail(name, ": broken GIF: its data cannot be unpacked, or is cut short");
  for (size_t row = 0; row < order.size(); ++row)
    std::copy_n(&stored[row * size_t(frame.Width)], frame.Width,
                &indices[size_t((frame.Top + order[row]) * image.width + frame.Left)]);

  const ColorMapObject *colours = frame.ColorMap ? frame.ColorMap : gif->SColorMap;
  uint8_t *to = image.pixels.data();
  for (int index : indices) {
    // Without a palette indices are grays; behind its end a palette is black.
    uint8_t gray = colours ? 0 : uint8_t(index);
    GifColorType colour = {gray, gray, gray};
    if (colours && index < colours->ColorCount)
      colour = colours->Colors[index];
    int alpha = index == clear ? 0 : 255;
    for (int value : {colour.Red, colour.Green, colour.Blue})
      *to++ = overWhite(value, alpha);
  }
  return {std::move(image), 1};
}

} // namespace llrt
