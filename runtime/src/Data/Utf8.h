//===- Utf8.h - Characters of bytes -----------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_UTF8_H
#define LLRT_DATA_UTF8_H

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace llrt {

constexpr std::string_view replacementCharacter = "\xEF\xBF\xBD"; // U+FFFD

// What starts a text: a character or the longest start of one.
struct Utf8Part {
  size_t bytes;
  bool whole; // a character
  uint32_t character;
};

// `text` is not empty. Source: The Unicode Standard, table 3-7 (well-formed
// UTF-8).
Utf8Part readUtf8(std::string_view text);

// The bytes of `character`, which is no surrogate.
std::string toUtf8(uint32_t character);

// `bytes` with U+FFFD for each longest start of a character that is not one, as
// Python's decode(errors="replace") does it.
std::string replaceInvalidUtf8(std::string_view bytes);

} // namespace llrt

#endif // LLRT_DATA_UTF8_H
