//===- JsonTexts.cpp - The texts of a JSON object ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/JsonTexts.h"

#include "src/Data/Error.h"
#include "src/Data/Utf8.h"

#include <cstdint>
#include <utility>

namespace llrt {

namespace {

constexpr int maxDepth = 1000; // as Python's limit of recursion

bool isSurrogate(uint32_t unit) { return unit >= 0xD800 && unit < 0xE000; }

class Reader {
public:
  Reader(std::string_view bytes, const std::string &where) : text(bytes), where(where) {}

  // The whole text: an object.
  std::map<std::string, std::string> object() {
    std::map<std::string, std::string> texts;
    if (text.starts_with("\xEF\xBB\xBF"))
      at = 3;
    skipSpace();
    if (peek() != '{')
      expected("an object");
    members(1, [&](const std::string &key) {
      texts.erase(key);
      if (peek() == '"')
        texts[key] = string();
      else
        value(1);
    });
    skipSpace();
    if (at != text.size())
      expected("the end of the text");
    return texts;
  }

private:
  [[noreturn]] void expected(const std::string &what) const {
    fail(where, ": expected JSON: ", what, " at byte ", at);
  }

  // The next byte; 0 at the end.
  char peek() const { return at < text.size() ? text[at] : '\0'; }

  bool take(std::string_view word) {
    if (!text.substr(at).starts_with(word))
      return false;
    at += word.size();
    return true;
  }

  void skipSpace() {
    while (at < text.size() && std::string_view(" \t\n\r").find(text[at]) != std::string_view::npos)
      ++at;
  }

  // The members of an object; `read` reads the value of each.
  template <typename Read> void members(int depth, Read read) {
    if (depth > maxDepth)
      expected("at most " + std::to_string(maxDepth) + " levels");
    ++at; // the brace
    skipSpace();
    if (take("}"))
      return;
    do {
      skipSpace();
      if (peek() != '"')
        expected("a key in double quotes");
      std::string key = string();
      skipSpace();
      if (!take(":"))
        expected("':'");
      skipSpace();
      read(key);
      skipSpace();
    } while (take(","));
    if (!take("}"))
      expected("',' or '}'");
  }

  // Passes over a value.
  void value(int depth) {
    if (depth > maxDepth)
      expected("at most " + std::to_string(maxDepth) + " levels");
    if (peek() == '"') {
      string();
    } else if (peek() == '{') {
      members(depth + 1, [&](const std::string &) { value(depth + 1); });
    } else if (take("[")) {
      skipSpace();
      if (take("]"))
        return;
      do {
        skipSpace();
        value(depth + 1);
        skipSpace();
      } while (take(","));
      if (!take("]"))
        expected("',' or ']'");
    } else if (!take("null") && !take("true") && !take("false") && !take("NaN") &&
               !take("Infinity") && !take("-Infinity")) {
      number();
    }
  }

  void number() {
    auto digits = [&] {
      size_t begin = at;
      while (peek() >= '0' && peek() <= '9')
        ++at;
      return at != begin;
    };
    size_t begin = at;
    take("-");
    if (!take("0") && !digits()) {
      at = begin;
      expected("a value");
    }
    // What looks like the rest of a number and is none is left for the caller
    // to refuse.
    if (size_t dot = at; take(".") && !digits())
      at = dot;
    if (size_t mark = at; take("e") || take("E")) {
      if (!take("-"))
        take("+");
      if (!digits())
        at = mark;
    }
  }

  uint32_t hexUnit() {
    uint32_t unit = 0;
    for (int i = 0; i < 4; ++i, ++at) {
      char c = peek();
      int digit = c >= '0' && c <= '9'   ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                         : -1;
      if (digit < 0)
        expected("four hexadecimal digits behind \\u");
      unit = unit << 4 | uint32_t(digit);
    }
    return unit;
  }

  std::string string() {
    std::string result;
    ++at; // the quote
    for (;;) {
      if (at == text.size())
        expected("the end of a string");
      std::string_view rest = text.substr(at);
      if (take("\""))
        return result;
      if (uint8_t(rest[0]) < 0x20)
        expected("no control character in a string");
      if (!take("\\")) {
        Utf8Part part = readUtf8(rest);
        // A surrogate that was written as three bytes.
        bool lone = rest.size() >= 3 && rest[0] == '\xED' && uint8_t(rest[1]) >= 0xA0 &&
                    uint8_t(rest[1]) < 0xC0 && uint8_t(rest[2]) >= 0x80 && uint8_t(rest[2]) < 0xC0;
        if (!part.whole && !lone)
          expected("UTF-8");
        result += lone ? replacementCharacter : rest.substr(0, part.bytes);
        at += lone ? 3 : part.bytes;
        continue;
      }
      constexpr std::string_view marks = "\"\\/bfnrt", means = "\"\\/\b\f\n\r\t";
      size_t mark = at < text.size() ? marks.find(text[at]) : marks.npos;
      if (mark != marks.npos) {
        result += means[mark];
        ++at;
        continue;
      }
      if (!take("u"))
        expected("one of \"\\/bfnrtu behind a backslash");
      uint32_t unit = hexUnit();
      if (unit >= 0xD800 && unit < 0xDC00 && text.substr(at).starts_with("\\u")) {
        size_t before = std::exchange(at, at + 2);
        uint32_t low = hexUnit();
        if (low >= 0xDC00 && low < 0xE000)
          unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        else
          at = before;
      }
      result += isSurrogate(unit) ? replacementCharacter : toUtf8(unit);
    }
  }

  std::string_view text;
  const std::string &where;
  size_t at = 0;
};

} // namespace

std::map<std::string, std::string> readJsonTexts(std::string_view bytes, const std::string &where) {
  return Reader(bytes, where).object();
}

} // namespace llrt
