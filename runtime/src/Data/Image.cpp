//===- Image.cpp - Decode PNG and JPEG, resize ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Image.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h> // wants cstdio before it
//
#include <jerror.h> // wants jpeglib.h before it
#include <png.h>

namespace llrt {

namespace {

constexpr int64_t maxPixels = 178'956'970; // PIL's bound against bombs
constexpr char pngSignature[] = "\x89PNG\r\n\x1a\n";
constexpr char jpegSignature[] = "\xff\xd8\xff";

// a * b / 255, rounded to nearest.
int multiply255(int a, int b) { return (a * b + 127) / 255; }

// libpng and libjpeg report a fault by a jump. Between setjmp and the jump only
// plain functions of theirs run: no object with a destructor is made in there.
struct PngState {
  std::string_view rest;
  char message[200] = "";
};

void readPngBytes(png_structp png, png_bytep to, size_t size) {
  auto &state = *static_cast<PngState *>(png_get_io_ptr(png));
  if (size > state.rest.size())
    png_error(png, "the file is cut short");
  std::memcpy(to, state.rest.data(), size);
  state.rest.remove_prefix(size);
}

[[noreturn]] void onPngError(png_structp png, png_const_charp message) {
  auto &state = *static_cast<PngState *>(png_get_error_ptr(png));
  std::snprintf(state.message, sizeof(state.message), "%s", message);
  png_longjmp(png, 1);
}

// Reads the header and asks for 8-bit RGBA rows. False after a fault.
bool startPng(png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png)))
    return false;
  png_read_info(png, info);
  png_set_expand(png); // palette, few bits and transparent colour to 8 bits
  png_set_strip_16(png);
  png_set_gray_to_rgb(png);
  png_set_add_alpha(png, 255, PNG_FILLER_AFTER);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return true;
}

bool readPngRows(png_structp png, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png)))
    return false;
  png_read_image(png, rows);
  png_read_end(png, nullptr);
  return true;
}

Image decodePng(std::string_view bytes, const std::string &name) {
  struct Reader {
    PngState state;
    png_structp png;
    png_infop info;
    ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
  } reader;
  reader.state.rest = bytes;
  reader.png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader.state, onPngError,
                             [](png_structp, png_const_charp) {});
  reader.info = reader.png ? png_create_info_struct(reader.png) : nullptr;
  if (!reader.info)
    fail(name, ": out of memory while decoding");
  png_set_read_fn(reader.png, &reader.state, readPngBytes);
  png_set_user_limits(reader.png, maxPixels, maxPixels);
  if (!startPng(reader.png, reader.info))
    fail(name, ": broken PNG: ", reader.state.message);

  Image image;
  image.width = png_get_image_width(reader.png, reader.info);
  image.height = png_get_image_height(reader.png, reader.info);
  if (image.width * image.height > maxPixels)
    fail(name, ": expected at most ", maxPixels, " pixels, got ", image.width,
         " x ", image.height);
  size_t rowBytes = size_t(image.width) * 4;
  if (png_get_rowbytes(reader.png, reader.info) != rowBytes)
    fail(name, ": broken PNG: unknown pixel format");
  std::vector<uint8_t> rgba(rowBytes * size_t(image.height));
  std::vector<png_bytep> rows;
  for (int64_t y = 0; y < image.height; ++y)
    rows.push_back(rgba.data() + size_t(y) * rowBytes);
  if (!readPngRows(reader.png, rows.data()))
    fail(name, ": broken PNG: ", reader.state.message);

  image.pixels.reserve(rgba.size() / 4 * 3);
  for (size_t at = 0; at < rgba.size(); at += 4) {
    int alpha = rgba[at + 3];
    for (size_t channel = 0; channel < 3; ++channel) // over white
      image.pixels.push_back(uint8_t(
          (rgba[at + channel] * alpha + 255 * (255 - alpha) + 127) / 255));
  }
  return image;
}

struct JpegState {
  jpeg_error_mgr manager; // first: libjpeg hands it back
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void onJpegError(j_common_ptr jpeg) {
  auto *state = reinterpret_cast<JpegState *>(jpeg->err);
  jpeg->err->format_message(jpeg, state->message);
  longjmp(state->jump, 1);
}

// libjpeg warns of a missing end and goes on with gray; that is an error here,
// as in PIL. Its other warnings (stray bytes, odd headers) are passed over.
void onJpegMessage(j_common_ptr jpeg, int level) {
  if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF)
    onJpegError(jpeg);
}

bool startJpeg(jpeg_decompress_struct &jpeg, JpegState &state,
               std::string_view bytes) {
  if (setjmp(state.jump))
    return false;
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char *>(bytes.data()),
               bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  bool fourInks =
      jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK;
  jpeg.out_color_space = fourInks ? JCS_CMYK : JCS_RGB;
  jpeg_calc_output_dimensions(&jpeg);
  return true;
}

bool readJpegRows(jpeg_decompress_struct &jpeg, JpegState &state, uint8_t *to) {
  if (setjmp(state.jump))
    return false;
  jpeg_start_decompress(&jpeg);
  size_t rowBytes = size_t(jpeg.output_width) * size_t(jpeg.output_components);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = to + rowBytes * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

Image decodeJpeg(std::string_view bytes, const std::string &name) {
  struct Reader {
    jpeg_decompress_struct jpeg = {};
    JpegState state = {};
    ~Reader() { jpeg_destroy_decompress(&jpeg); }
  } reader;
  reader.jpeg.err = jpeg_std_error(&reader.state.manager);
  reader.state.manager.error_exit = onJpegError;
  reader.state.manager.emit_message = onJpegMessage;
  if (!startJpeg(reader.jpeg, reader.state, bytes))
    fail(name, ": broken JPEG: ", reader.state.message);

  Image image;
  image.width = reader.jpeg.output_width;
  image.height = reader.jpeg.output_height;
  if (image.width * image.height > maxPixels)
    fail(name, ": expected at most ", maxPixels, " pixels, got ", image.width,
         " x ", image.height);
  size_t channels = reader.jpeg.out_color_space == JCS_CMYK ? 4 : 3;
  image.pixels.resize(size_t(image.width * image.height) * channels);
  if (!readJpegRows(reader.jpeg, reader.state, image.pixels.data()))
    fail(name, ": broken JPEG: ", reader.state.message);
  if (channels == 4) { // stored inverted, as Adobe does and PIL assumes
    std::vector<uint8_t> inks;
    inks.swap(image.pixels);
    for (size_t at = 0; at < inks.size(); at += 4) {
      int white = inks[at + 3];
      for (size_t ink = 0; ink < 3; ++ink)
        image.pixels.push_back(
            uint8_t(white - multiply255(255 - inks[at + ink], white)));
    }
  }
  return image;
}

// The inputs that make one output, and their weights in units of 2^-22.
struct Taps {
  int64_t first;
  std::vector<int32_t> weights;
};

constexpr int weightBits = 32 - 8 - 2;

// The triangle filter of Pillow for `from` inputs and `to` outputs.
// Source: python-pillow/Pillow, src/libImaging/Resample.c.
std::vector<Taps> makeTaps(int64_t from, int64_t to) {
  double step = double(from) / double(to);
  double support = std::max(step, 1.0); // half the width of the filter
  std::vector<Taps> taps;
  for (int64_t out = 0; out < to; ++out) {
    double center = (double(out) + 0.5) * step;
    int64_t first = std::max<int64_t>(0, int64_t(center - support + 0.5));
    int64_t last = std::min(from, int64_t(center + support + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int64_t in = first; in < last; ++in) {
      double distance =
          std::fabs((double(in - first) + double(first) - center + 0.5) *
                    (1.0 / support));
      weights.push_back(std::max(0.0, 1.0 - distance));
      sum += weights.back();
    }
    Taps &tap = taps.emplace_back(Taps{first, {}});
    for (double weight : weights)
      tap.weights.push_back(int32_t(0.5 + (sum != 0 ? weight / sum : weight) *
                                              (1 << weightBits)));
  }
  return taps;
}

constexpr int32_t half = 1 << (weightBits - 1); // rounds to nearest

uint8_t toByte(int32_t sum) {
  return uint8_t(std::clamp(sum >> weightBits, 0, 255));
}

Image resizeWidth(const Image &image, int64_t width) {
  if (width == image.width)
    return image;
  Image result = {width, image.height, {}};
  result.pixels.reserve(size_t(width * image.height) * 3);
  std::vector<Taps> taps = makeTaps(image.width, width);
  for (int64_t y = 0; y < image.height; ++y)
    for (const Taps &tap : taps) {
      const uint8_t *pixel =
          &image.pixels[size_t(y * image.width + tap.first) * 3];
      int32_t red = half, green = half, blue = half;
      for (int32_t weight : tap.weights) {
        red += weight * pixel[0];
        green += weight * pixel[1];
        blue += weight * pixel[2];
        pixel += 3;
      }
      for (int32_t sum : {red, green, blue})
        result.pixels.push_back(toByte(sum));
    }
  return result;
}

Image resizeHeight(const Image &image, int64_t height) {
  if (height == image.height)
    return image;
  Image result = {image.width, height, {}};
  size_t rowBytes = size_t(image.width) * 3;
  result.pixels.reserve(size_t(height) * rowBytes);
  std::vector<int32_t> sums;
  for (const Taps &tap : makeTaps(image.height, height)) {
    sums.assign(rowBytes, half);
    const uint8_t *row = &image.pixels[size_t(tap.first) * rowBytes];
    for (int32_t weight : tap.weights) { // a row at a time: adjacent memory
      for (size_t i = 0; i < rowBytes; ++i)
        sums[i] += weight * row[i];
      row += rowBytes;
    }
    for (int32_t sum : sums)
      result.pixels.push_back(toByte(sum));
  }
  return result;
}

} // namespace

Image decodeImage(std::string_view bytes, const std::string &name) {
  if (bytes.starts_with(pngSignature))
    return decodePng(bytes, name);
  if (bytes.starts_with(jpegSignature))
    return decodeJpeg(bytes, name);
  fail(name, ": expected a PNG or JPEG image");
}

Image resizeBilinear(const Image &image, int64_t width, int64_t height) {
  // The order shows in the last bit. This is Pillow 13's, found by comparing
  // 2,949 random sizes; Pillow 11 always begins with the width.
  bool heightFirst = height < image.height &&
                     image.height - height > 2 * (image.width - width);
  return heightFirst ? resizeWidth(resizeHeight(image, height), width)
                     : resizeHeight(resizeWidth(image, width), height);
}

} // namespace llrt
