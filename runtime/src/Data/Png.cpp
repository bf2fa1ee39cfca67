//===- Png.cpp - Decode PNG -----------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Decode.h"
#include "src/Data/Error.h"

#include <cstdio>
#include <cstring>

#include <png.h>
#include <zlib.h>

namespace llrt {

namespace {

// libpng reports a fault by a jump. Between setjmp and the jump only plain
// functions of its own run: no object with a destructor is made in there.
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

// What the end of `stream`, of zlib, lacks of its checksum; empty if more is
// missing.
std::string missingChecksum(std::string_view stream) {
  constexpr size_t headerBytes = 2, checksumBytes = 4;
  z_stream state = {};
  if (stream.size() < headerBytes || inflateInit2(&state, -MAX_WBITS) != Z_OK)
    return "";
  stream.remove_prefix(headerBytes);
  state.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(stream.data()));
  state.avail_in = uInt(stream.size());
  std::vector<Bytef> out(1 << 16);
  uLong sum = adler32(0, nullptr, 0);
  int result = Z_OK;
  while (result == Z_OK) {
    state.next_out = out.data();
    state.avail_out = uInt(out.size());
    result = inflate(&state, Z_NO_FLUSH);
    sum = adler32(sum, out.data(), uInt(out.size()) - state.avail_out);
  }
  std::string missing;
  if (result == Z_STREAM_END)
    for (size_t i = state.avail_in; i < checksumBytes; ++i)
      missing += char(sum >> 8 * (checksumBytes - 1 - i));
  inflateEnd(&state);
  return missing;
}

// What is left of a file that ends within its last IDAT chunk, as a whole file:
// the pixels may be there, with only checksums missing. Nothing of any other
// file.
std::optional<std::string> endCutChunk(std::string_view bytes) {
  auto number = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4; ++i)
      value = value << 8 | uint8_t(bytes[at + i]);
    return value;
  };
  auto text = [](uint32_t value) {
    std::string four;
    for (int shift : {24, 16, 8, 0})
      four += char(value >> shift);
    return four;
  };
  size_t at = 8; // behind the signature
  std::string stream;
  while (bytes.size() - at >= 8) {
    size_t length = number(at), left = bytes.size() - at - 8;
    bool hasPixels = bytes.substr(at + 4, 4) == "IDAT";
    if (hasPixels)
      stream += bytes.substr(at + 8, length);
    if (left >= length + 4) {
      at += length + 12;
      continue;
    }
    if (!hasPixels)
      return std::nullopt;
    std::string chunk(bytes.substr(at + 4, length + 4));
    chunk += missingChecksum(stream);
    std::string whole(bytes.substr(0, at));
    whole += text(uint32_t(chunk.size() - 4));
    whole += chunk;
    whole +=
        text(uint32_t(crc32(0, reinterpret_cast<const Bytef *>(chunk.data()), uInt(chunk.size()))));
    whole += std::string_view("\0\0\0\0IEND\xae\x42\x60\x82", 12);
    return whole;
  }
  return std::nullopt;
}

// Reads the header and asks for rows of whole bytes: gray of few bits spread
// over 0 to 255, indices of a palette as they are, 16-bit colours by their high
// byte, 16-bit gray whole. False after a fault.
bool startPng(png_structp png, png_infop info, int &depth) {
  if (setjmp(png_jmpbuf(png)))
    return false;
  png_read_info(png, info);
  // From here on: the pixels have a checksum of zlib's, too.
  png_set_crc_action(png, PNG_CRC_WARN_USE, PNG_CRC_NO_CHANGE);
  depth = png_get_bit_depth(png, info);
  int type = png_get_color_type(png, info);
  if (type == PNG_COLOR_TYPE_PALETTE)
    png_set_packing(png);
  else if (type == PNG_COLOR_TYPE_GRAY)
    png_set_expand_gray_1_2_4_to_8(png);
  else
    png_set_strip_16(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return true;
}

bool readPngRows(png_structp png, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png)))
    return false;
  png_read_image(png, rows);
  return true;
}

// Reads what follows the pixels. It may be missing or broken: the picture is
// there.
void readPngEnd(png_structp png, png_infop info) {
  if (!setjmp(png_jmpbuf(png)))
    png_read_end(png, info);
}

// The text of a chunk with this key; empty if there is none.
std::string_view pngText(png_structp png, png_infop info, const char *key) {
  png_textp texts = nullptr;
  int count = 0;
  png_get_text(png, info, &texts, &count);
  for (int i = count; i-- > 0;)
    if (std::strcmp(texts[i].key, key) == 0 && texts[i].text)
      return {texts[i].text, std::max(texts[i].text_length, texts[i].itxt_length)};
  return {};
}

// ImageMagick's way to keep EXIF: three lines, then hexadecimal digits.
std::string fromHexProfile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    size_t end = text.find('\n');
    if (end == text.npos)
      return "";
    text.remove_prefix(end + 1);
  }
  std::string bytes;
  int high = -1;
  for (char c : text) {
    constexpr std::string_view digits = "0123456789abcdef";
    size_t digit = digits.find(c >= 'A' && c <= 'F' ? char(c - 'A' + 'a') : c);
    if (digit == digits.npos)
      continue;
    if (high < 0) {
      high = int(digit);
    } else {
      bytes += char(high << 4 | int(digit));
      high = -1;
    }
  }
  return bytes;
}

int pngOrientation(png_structp png, png_infop info) {
  png_uint_32 size = 0;
  png_bytep data = nullptr;
  std::string exif;
  if (png_get_eXIf_1(png, info, &size, &data))
    exif.assign(reinterpret_cast<char *>(data), size);
  else
    exif = fromHexProfile(pngText(png, info, "Raw profile type exif"));
  return readOrientation(exif, pngText(png, info, "XML:com.adobe.xmp"));
}

} // namespace

Decoded decodePng(std::string_view bytes, const std::string &name) {
  struct Reader {
    PngState state;
    png_structp png;
    png_infop info;
    int depth = 0; // bits of a sample, in the file
    ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
  } reader;
  std::optional<std::string> whole = endCutChunk(bytes);
  reader.state.rest = whole ? std::string_view(*whole) : bytes;
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader.state, onPngError,
                                      [](png_structp, png_const_charp) {});
  reader.info = reader.png ? png_create_info_struct(reader.png) : nullptr;
  if (!reader.info)
    fail(name, ": out of memory while decoding");
  png_structp png = reader.png;
  png_infop info = reader.info;
  png_set_read_fn(png, &reader.state, readPngBytes);
  png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
  if (!startPng(png, info, reader.depth))
    fail(name, ": broken PNG: ", reader.state.message);

  Image image = makeImage(png_get_image_width(png, info), png_get_image_height(png, info), name);
  int type = png_get_color_type(png, info);
  bool isWide = png_get_bit_depth(png, info) == 16; // only gray still is
  size_t channels = png_get_channels(png, info);
  size_t rowBytes = size_t(image.width) * channels * (isWide ? 2 : 1);
  if (png_get_rowbytes(png, info) != rowBytes)
    fail(name, ": broken PNG: unknown pixel format");
  std::vector<uint8_t> stored(rowBytes * size_t(image.height));
  std::vector<png_bytep> rows;
  for (int64_t y = 0; y < image.height; ++y)
    rows.push_back(stored.data() + size_t(y) * rowBytes);
  if (!readPngRows(png, rows.data()))
    fail(name, ": broken PNG: ", reader.state.message);
  readPngEnd(png, info);

  png_bytep alphas = nullptr;
  int alphaCount = 0;
  png_color_16p clear = nullptr; // the colour that is transparent
  png_get_tRNS(png, info, &alphas, &alphaCount, &clear);
  png_colorp colours = nullptr;
  int colourCount = 0;
  if (type == PNG_COLOR_TYPE_PALETTE)
    png_get_PLTE(png, info, &colours, &colourCount);
  uint8_t *to = image.pixels.data();
  auto put = [&](int red, int green, int blue, int alpha) {
    for (int value : {red, green, blue})
      *to++ = overWhite(value, alpha);
  };
  // PIL compares stored values with the transparent one's low byte, but that of
  // 1 bit as 0 or 255.
  bool isOneBit = reader.depth == 1;
  auto isClear = [](int value, png_uint_16 clear) { return value == (clear & 0xFF); };
  for (const uint8_t *pixel = stored.data(); to != image.pixels.data() + image.pixels.size();
       pixel += channels * (isWide ? 2 : 1)) {
    switch (type) {
    case PNG_COLOR_TYPE_PALETTE: {
      int index = pixel[0], alpha = index < alphaCount ? alphas[index] : 255;
      if (index < colourCount)
        put(colours[index].red, colours[index].green, colours[index].blue, alpha);
      else // behind its end a palette is black, as in PIL
        put(0, 0, 0, alpha);
      break;
    }
    case PNG_COLOR_TYPE_GRAY: {
      int value = isWide ? std::min(pixel[0] << 8 | pixel[1], 255) : pixel[0];
      bool hides =
          clear && (isOneBit ? value == (clear->gray ? 255 : 0) : isClear(value, clear->gray));
      put(value, value, value, hides ? 0 : 255);
      break;
    }
    case PNG_COLOR_TYPE_RGB:
      put(pixel[0], pixel[1], pixel[2],
          clear && isClear(pixel[0], clear->red) && isClear(pixel[1], clear->green) &&
                  isClear(pixel[2], clear->blue)
              ? 0
              : 255);
      break;
    case PNG_COLOR_TYPE_GRAY_ALPHA:
      put(pixel[0], pixel[0], pixel[0], pixel[1]);
      break;
    default:
      put(pixel[0], pixel[1], pixel[2], pixel[3]);
    }
  }
  return {std::move(image), pngOrientation(png, info)};
}

} // namespace llrt
