//===- Exif.cpp - Which way up an image is --------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Decode.h"

namespace llrt {

namespace {

constexpr uint32_t orientationTag = 274;

// The first directory of a TIFF or BigTIFF file, or of EXIF data. Source: TIFF
// 6.0, section 2; the BigTIFF Design, AWare Systems.
class Directory {
public:
  explicit Directory(std::string_view bytes)
      : bytes(bytes), isLittle(bytes.starts_with("II")),
        isKnown(isLittle || bytes.starts_with("MM")), isBig(number(2, 2) == 43) {}

  // Where the entry of `tag` is.
  std::optional<size_t> find(uint32_t tag) const {
    size_t wide = isBig ? 8 : 4, entrySize = 4 + 2 * wide;
    size_t begin = number(isBig ? 8 : 4, wide);
    if (!isKnown || begin >= bytes.size())
      return std::nullopt;
    size_t count = number(begin, isBig ? 8 : 2);
    begin += isBig ? 8 : 2;
    for (size_t i = 0; i < count; ++i, begin += entrySize) {
      if (begin + entrySize > bytes.size())
        break;
      if (number(begin, 2) == tag)
        return begin;
    }
    return std::nullopt;
  }

  // The number of `size` bytes at byte `at`.
  uint64_t number(size_t at, size_t size) const {
    uint64_t value = 0;
    for (size_t i = 0; i < size && at < bytes.size() && i < bytes.size() - at; ++i)
      value |= uint64_t(uint8_t(bytes[at + i])) << 8 * (isLittle ? i : size - 1 - i);
    return value;
  }

private:
  std::string_view bytes;
  bool isLittle, isKnown, isBig;
};

// The value of the orientation tag; of the types the integers of more than a
// byte, of several values the first, as in PIL.
std::optional<int> exifOrientation(std::string_view exif) {
  constexpr std::string_view mark("Exif\0\0", 6);
  for (int times = 0; times < 2 && exif.starts_with(mark); ++times)
    exif.remove_prefix(mark.size());
  Directory directory(exif);
  std::optional<size_t> entry = directory.find(orientationTag);
  if (!entry)
    return std::nullopt;
  size_t type = directory.number(*entry + 2, 2);
  size_t count = directory.number(*entry + 4, 4);
  size_t size = type == 3 || type == 8   ? 2  // SHORT, SSHORT
                : type == 4 || type == 9 ? 4  // LONG, SLONG
                                         : 0; // of no use
  size_t value = *entry + 8;
  if (count * size > 4)
    value = directory.number(value, 4);
  return count == 0 || size == 0 ? 0 : int(directory.number(value, size));
}

} // namespace

bool hasTiffTag(std::string_view tiff, uint32_t tag) {
  return Directory(tiff).find(tag).has_value();
}

int readOrientation(std::string_view exif, std::string_view xmp) {
  std::optional<int> value = exifOrientation(exif);
  constexpr std::string_view tag = "tiff:Orientation";
  for (size_t at = 0; !value && (at = xmp.find(tag, at)) != xmp.npos;) {
    at += tag.size();
    std::string_view rest = xmp.substr(at, 3);
    rest.remove_prefix(rest.starts_with("=\"") ? 2 : rest.starts_with('>') ? 1 : rest.size());
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9')
      value = rest[0] - '0';
  }
  return value && *value >= 1 && *value <= 8 ? *value : 1;
}

} // namespace llrt
