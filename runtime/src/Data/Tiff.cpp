//===- Tiff.cpp - Decode TIFF --------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// libtiff unpacks rows and tiles; what their samples mean is decided here, as
// PIL does (TiffImagePlugin.py), rather than by libtiff's RGBA interface. Only
// YCbCr goes through the latter.
//
//===----------------------------------------------------------------------===//
#include "src/Data/Decode.h"
#include "src/Data/Error.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>

#include <tiffio.h>

namespace llrt {

namespace {

// The file in memory, and the last fault of libtiff.
struct TiffState {
  std::string_view bytes;
  uint64_t at = 0;
  char message[200] = "unreadable";
};

TiffState &stateOf(thandle_t handle) { return *static_cast<TiffState *>(handle); }

tmsize_t readTiff(thandle_t handle, void *to, tmsize_t size) {
  TiffState &state = stateOf(handle);
  if (state.at >= state.bytes.size())
    return 0;
  size_t count = std::min(size_t(size), size_t(state.bytes.size() - state.at));
  std::memcpy(to, state.bytes.data() + state.at, count);
  state.at += count;
  return tmsize_t(count);
}

tmsize_t writeTiff(thandle_t, void *, tmsize_t) { return 0; }

toff_t seekTiff(thandle_t handle, toff_t offset, int whence) {
  TiffState &state = stateOf(handle);
  uint64_t base = whence == SEEK_CUR ? state.at : whence == SEEK_END ? state.bytes.size() : 0;
  return state.at = base + offset;
}

int closeTiff(thandle_t) { return 0; }

toff_t sizeTiff(thandle_t handle) { return stateOf(handle).bytes.size(); }

int onTiffError(TIFF *, void *user, const char *, const char *format, va_list arguments) {
  TiffState &state = *static_cast<TiffState *>(user);
  std::vsnprintf(state.message, sizeof(state.message), format, arguments);
  return 1; // handled: nothing is printed
}

int onTiffWarning(TIFF *, void *, const char *, const char *, va_list) { return 1; }

using TiffFile = std::unique_ptr<TIFF, decltype(&TIFFClose)>;

TiffFile openTiff(TiffState &state) {
  TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
  TIFFOpenOptionsSetErrorHandlerExtR(options, onTiffError, &state);
  TIFFOpenOptionsSetWarningHandlerExtR(options, onTiffWarning, &state);
  TIFF *tiff = TIFFClientOpenExt("image", "rm", &state, readTiff, writeTiff, seekTiff, closeTiff,
                                 sizeTiff, nullptr, nullptr, options);
  TIFFOpenOptionsFree(options);
  return {tiff, TIFFClose};
}

template <typename T> T tagOf(TIFF *tiff, uint32_t tag, T otherwise) {
  T value = otherwise;
  TIFFGetFieldDefaulted(tiff, tag, &value);
  return value;
}

// The samples of an image, as libtiff unpacks them.
struct Samples {
  int64_t width, height;
  uint16_t bits;     // of a sample
  uint16_t perPixel; // samples of a pixel
  bool areSeparate;  // a plane for each of them, else one plane for all
  size_t rowBytes;   // of a plane
  std::vector<std::vector<uint8_t>> planes;

  // Sample `which` of a pixel, its bits as an unsigned number.
  uint32_t at(int64_t x, int64_t y, uint16_t which) const {
    const uint8_t *row = planes[areSeparate ? which : 0].data() + size_t(y) * rowBytes;
    size_t index = areSeparate ? size_t(x) : size_t(x) * perPixel + which;
    switch (bits) {
    case 8:
      return row[index];
    case 16: {
      uint16_t value;
      std::memcpy(&value, row + 2 * index, 2);
      return value;
    }
    case 32: {
      uint32_t value;
      std::memcpy(&value, row + 4 * index, 4);
      return value;
    }
    default: { // 1, 2, 4, 12: high bits first
      uint32_t value = 0;
      for (size_t bit = index * bits; bit < (index + 1) * bits; ++bit)
        value = value << 1 | (row[bit / 8] >> (7 - bit % 8) & 1);
      return value;
    }
    }
  }
};

// Reads all rows of all planes. False after a fault of libtiff.
bool readSamples(TIFF *tiff, Samples &samples) {
  size_t inRow = samples.areSeparate ? 1 : samples.perPixel;
  samples.rowBytes = (size_t(samples.width) * inRow * samples.bits + 7) / 8;
  size_t planes = samples.areSeparate ? samples.perPixel : 1;
  if (!TIFFIsTiled(tiff)) {
    if (size_t(TIFFScanlineSize(tiff)) != samples.rowBytes)
      return false;
    for (size_t plane = 0; plane < planes; ++plane) {
      samples.planes.emplace_back(samples.rowBytes * size_t(samples.height));
      for (int64_t y = 0; y < samples.height; ++y)
        if (TIFFReadScanline(tiff, samples.planes.back().data() + size_t(y) * samples.rowBytes,
                             uint32_t(y), uint16_t(plane)) < 0)
          return false;
    }
    return true;
  }
  int64_t wide = tagOf<uint32_t>(tiff, TIFFTAG_TILEWIDTH, 0),
          high = tagOf<uint32_t>(tiff, TIFFTAG_TILELENGTH, 0);
  size_t tileRow = size_t(TIFFTileRowSize(tiff));
  std::vector<uint8_t> tile(size_t(TIFFTileSize(tiff)));
  if (wide <= 0 || high <= 0 || tile.size() < tileRow * size_t(high) ||
      size_t(wide) * inRow * samples.bits % 8 != 0)
    return false;
  for (size_t plane = 0; plane < planes; ++plane) {
    std::vector<uint8_t> &rows =
        samples.planes.emplace_back(samples.rowBytes * size_t(samples.height));
    for (int64_t top = 0; top < samples.height; top += high)
      for (int64_t left = 0; left < samples.width; left += wide) {
        if (TIFFReadTile(tiff, tile.data(), uint32_t(left), uint32_t(top), 0, uint16_t(plane)) < 0)
          return false;
        size_t begin = size_t(left) * inRow * samples.bits / 8;
        size_t count = std::min(tileRow, samples.rowBytes - begin);
        for (int64_t y = 0; y < std::min(high, samples.height - top); ++y)
          std::memcpy(&rows[size_t(top + y) * samples.rowBytes + begin], &tile[size_t(y) * tileRow],
                      count);
      }
  }
  return true;
}

} // namespace

Decoded decodeTiff(std::string_view bytes, const std::string &name) {
  TiffState state;
  state.bytes = bytes;
  TiffFile file = openTiff(state);
  TIFF *tiff = file.get();
  auto broken = [&] { fail(name, ": broken TIFF: ", state.message); };
  if (!tiff)
    broken();
  Image image = makeImage(tagOf<uint32_t>(tiff, TIFFTAG_IMAGEWIDTH, 0),
                          tagOf<uint32_t>(tiff, TIFFTAG_IMAGELENGTH, 0), name);

  // Which way up. Rows are read as they are stored.
  uint16_t orientation = 1;
  if (!TIFFGetField(tiff, TIFFTAG_ORIENTATION, &orientation)) {
    uint32_t size = 0;
    char *xmp = nullptr;
    if (TIFFGetField(tiff, TIFFTAG_XMLPACKET, &size, &xmp))
      orientation = uint16_t(readOrientation("", {xmp, size}));
  }
  TIFFSetField(tiff, TIFFTAG_ORIENTATION, ORIENTATION_TOPLEFT);
  int turned = orientation >= 1 && orientation <= 8 ? orientation : 1;

  uint16_t photometric = tagOf<uint16_t>(tiff, TIFFTAG_PHOTOMETRIC, 0),
           compression = tagOf<uint16_t>(tiff, TIFFTAG_COMPRESSION, 1),
           format = tagOf<uint16_t>(tiff, TIFFTAG_SAMPLEFORMAT, 1);
  Samples samples = {};
  samples.width = image.width;
  samples.height = image.height;
  samples.bits = tagOf<uint16_t>(tiff, TIFFTAG_BITSPERSAMPLE, 1);
  samples.perPixel = tagOf<uint16_t>(tiff, TIFFTAG_SAMPLESPERPIXEL, 1);
  samples.areSeparate = tagOf<uint16_t>(tiff, TIFFTAG_PLANARCONFIG, 1) == PLANARCONFIG_SEPARATE;
  uint16_t extras = 0, *extraTypes = nullptr;
  TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &extras, &extraTypes);

  bool isYcc = photometric == PHOTOMETRIC_YCBCR && samples.perPixel == 3;
  if (isYcc && compression == COMPRESSION_JPEG && !samples.areSeparate) {
    TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    photometric = PHOTOMETRIC_RGB;
  } else if (isYcc || compression == COMPRESSION_OJPEG) {
    std::vector<uint32_t> pixels(image.pixels.size() / 3);
    if (!TIFFReadRGBAImageOriented(tiff, uint32_t(image.width), uint32_t(image.height),
                                   pixels.data(), ORIENTATION_TOPLEFT, 1))
      broken();
    uint8_t *to = image.pixels.data();
    for (uint32_t pixel : pixels)
      for (int shift : {0, 8, 16})
        *to++ = uint8_t(pixel >> shift);
    return {std::move(image), turned};
  }

  bool isGray = photometric == PHOTOMETRIC_MINISWHITE || photometric == PHOTOMETRIC_MINISBLACK ||
                (photometric == PHOTOMETRIC_YCBCR && samples.perPixel == 1);
  bool isPalette = photometric == PHOTOMETRIC_PALETTE;
  bool isInk = photometric == PHOTOMETRIC_SEPARATED;
  uint16_t colours = isGray || isPalette ? 1 : isInk ? 4 : 3;
  bool isFew = samples.bits == 1 || samples.bits == 2 || samples.bits == 4;
  bool isWhole = format == SAMPLEFORMAT_UINT || format == SAMPLEFORMAT_VOID;
  bool isRead = samples.perPixel >= colours;
  if (isGray)
    isRead &= samples.bits == 32 || samples.bits == 8 ||
              (samples.bits == 16 && format != SAMPLEFORMAT_IEEEFP) ||
              ((isFew || samples.bits == 12) && isWhole);
  else if (isPalette)
    isRead &= isWhole && (isFew || samples.bits == 8);
  else
    isRead &= isWhole && (samples.bits == 8 || samples.bits == 16) &&
              (isInk || photometric == PHOTOMETRIC_RGB);
  if (isGray && samples.perPixel > 1)
    isRead &= samples.bits == 8;
  if (!isRead)
    fail(name, ": this kind of TIFF is not read (photometric interpretation ", photometric, ", ",
         samples.perPixel, " samples of ", samples.bits, " bits, format ", format,
         "); convert it to PNG, JPEG or WebP");

  // The sample behind the colours may be alpha; of four without a word on it,
  // it is.
  enum { None, Premultiplied, Plain } alpha = None;
  bool isTold = hasTiffTag(bytes, TIFFTAG_EXTRASAMPLES); // libtiff makes it up
  if (isTold && extras > 0 && samples.perPixel > colours && !isInk)
    alpha = extraTypes[0] == EXTRASAMPLE_ASSOCALPHA    ? Premultiplied
            : extraTypes[0] == EXTRASAMPLE_UNSPECIFIED ? None
                                                       : Plain;
  else if (photometric == PHOTOMETRIC_RGB && samples.perPixel == 4)
    alpha = Plain;
  uint16_t *red = nullptr, *green = nullptr, *blue = nullptr;
  if (isPalette && !TIFFGetField(tiff, TIFFTAG_COLORMAP, &red, &green, &blue))
    fail(name, ": broken TIFF: no palette");
  if (!readSamples(tiff, samples))
    broken();

  auto gray = [&](uint32_t value) -> int {
    if (format == SAMPLEFORMAT_IEEEFP) {
      float number;
      std::memcpy(&number, &value, sizeof(number));
      return number > 0 ? int(std::min(number, 255.0f)) : 0;
    }
    int64_t number = value;
    if (samples.bits == 32)
      number = int32_t(value); // as PIL, signed or not
    else if (samples.bits == 16 && format == SAMPLEFORMAT_INT)
      number = int16_t(value);
    else if (isFew)
      number = value * (255 / ((1u << samples.bits) - 1));
    number = std::clamp<int64_t>(number, 0, 255);
    bool inverts = photometric == PHOTOMETRIC_MINISWHITE && samples.bits <= 8;
    return int(inverts ? 255 - number : number);
  };
  auto sampleByte = [&](int64_t x, int64_t y, uint16_t which) {
    return int(samples.at(x, y, which) >> (samples.bits == 16 ? 8 : 0));
  };
  uint8_t *to = image.pixels.data();
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      int colour[3];
      if (isGray) {
        colour[0] = colour[1] = colour[2] = gray(samples.at(x, y, 0));
      } else if (isPalette) {
        uint32_t index = samples.at(x, y, 0);
        colour[0] = red[index] >> 8;
        colour[1] = green[index] >> 8;
        colour[2] = blue[index] >> 8;
      } else if (isInk) {
        int black = sampleByte(x, y, 3);
        for (uint16_t c = 0; c < 3; ++c)
          colour[c] = fromInk(sampleByte(x, y, c), black);
      } else {
        for (uint16_t c = 0; c < 3; ++c)
          colour[c] = sampleByte(x, y, c);
      }
      int opacity = alpha == None ? 255 : sampleByte(x, y, colours);
      for (int value : colour) {
        if (alpha == Premultiplied)
          value = opacity == 0 ? 0 : std::min(255, value * 255 / opacity);
        *to++ = overWhite(value, opacity);
      }
    }
  return {std::move(image), turned};
}

} // namespace llrt
