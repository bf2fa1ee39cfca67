//===- Utf8.cpp - Characters of bytes ------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Utf8.h"

namespace llrt {

Utf8Part readUtf8(std::string_view text) {
  uint8_t first = uint8_t(text[0]);
  if (first < 0x80)
    return {1, true, first};
  size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4)
    return {1, false, 0};
  uint32_t character = first & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    uint8_t low = 0x80, high = 0xBF;
    if (i == 1) { // no overlong forms, no surrogates, nothing past U+10FFFF
      low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : low;
      high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : high;
    }
    if (i >= text.size() || uint8_t(text[i]) < low || uint8_t(text[i]) > high)
      return {i, false, 0};
    character = character << 6 | (uint8_t(text[i]) & 0x3F);
  }
  return {length, true, character};
}

std::string toUtf8(uint32_t character) {
  if (character < 0x80)
    return {char(character)};
  std::string bytes;
  int tail = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
  constexpr uint8_t lead[] = {0, 0xC0, 0xE0, 0xF0};
  bytes += char(lead[tail] | character >> (6 * tail));
  while (tail-- > 0)
    bytes += char(0x80 | (character >> (6 * tail) & 0x3F));
  return bytes;
}

std::string replaceInvalidUtf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    Utf8Part part = readUtf8(bytes);
    text += part.whole ? bytes.substr(0, part.bytes) : replacementCharacter;
    bytes.remove_prefix(part.bytes);
  }
  return text;
}

} // namespace llrt
