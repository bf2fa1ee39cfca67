//===- Webp.cpp - Decode WebP ---------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Decode.h"
#include "src/Data/Error.h"

#include <memory>

#include <webp/demux.h>

namespace llrt {

Decoded decodeWebp(std::string_view bytes, const std::string &name) {
  WebPData data = {reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()};
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(data.bytes, data.size, &features) != VP8_STATUS_OK)
    fail(name, ": broken WebP: unreadable header");
  makeImage(features.width, features.height, name); // before libwebp does
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(
      WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  if (!decoder)
    fail(name, ": broken WebP: unreadable, or cut short");
  WebPAnimInfo info;
  uint8_t *rgba = nullptr; // of the first frame, on the whole canvas
  int time = 0;
  if (!WebPAnimDecoderGetInfo(decoder.get(), &info) ||
      !WebPAnimDecoderGetNext(decoder.get(), &rgba, &time))
    fail(name, ": broken WebP: unreadable first frame");
  const WebPDemuxer *demuxer = WebPAnimDecoderGetDemuxer(decoder.get());
  bool hasAlpha = WebPDemuxGetI(demuxer, WEBP_FF_FORMAT_FLAGS) & ALPHA_FLAG;

  Image image = makeImage(info.canvas_width, info.canvas_height, name);
  for (uint8_t &value : image.pixels) {
    size_t at = size_t(&value - image.pixels.data());
    const uint8_t *pixel = rgba + at / 3 * 4;
    value = overWhite(pixel[at % 3], hasAlpha ? pixel[3] : 255);
  }

  auto chunk = [&](const char *fourcc) {
    WebPChunkIterator found;
    std::string text;
    if (WebPDemuxGetChunk(demuxer, fourcc, 1, &found))
      text.assign(reinterpret_cast<const char *>(found.chunk.bytes), found.chunk.size);
    WebPDemuxReleaseChunkIterator(&found);
    return text;
  };
  return {std::move(image), readOrientation(chunk("EXIF"), chunk("XMP "))};
}

} // namespace llrt
