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

Decoded decodeGif(std::string_view bytes, const std::string &name) {
  int cause = 0;
  auto read = [](GifFileType *gif, GifByteType *to, int size) {
    auto &rest = *static_cast<std::string_view *>(gif->UserData);
    if (rest.empty() && size == 1) { // a missing end of the picture's blocks
      *to = 0;
      return 1;
    }
    size_t count = std::min(size_t(size), rest.size());
    std::memcpy(to, rest.data(), count);
    rest.remove_prefix(count);
    return int(count);
  };
  std::string_view rest = bytes;
  auto close = [](GifFileType *gif) { DGifCloseFile(gif, nullptr); };
  std::unique_ptr<GifFileType, decltype(close)> gif(
      DGifOpen(&rest, read, &cause), close);
  auto check = [&](bool good) {
    if (good)
      return;
    const char *text = GifErrorString(gif ? gif->Error : cause);
    fail(name, ": broken GIF: ", text ? text : "cut short");
  };
  check(gif != nullptr);

  // The first frame and the transparent index that goes with it.
  int clear = NO_TRANSPARENT_COLOR;
  for (GifRecordType record = UNDEFINED_RECORD_TYPE;
       record != IMAGE_DESC_RECORD_TYPE;) {
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
  Image image = makeImage(
      std::max<int64_t>(gif->SWidth, frame.Left + frame.Width),
      std::max<int64_t>(gif->SHeight, frame.Top + frame.Height), name);
  std::vector<uint8_t> indices(
      size_t(image.width * image.height),
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
  for (int64_t y : order)
    check(DGifGetLine(
        gif.get(), &indices[size_t((frame.Top + y) * image.width + frame.Left)],
        frame.Width));

  const ColorMapObject *colours =
      frame.ColorMap ? frame.ColorMap : gif->SColorMap;
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
