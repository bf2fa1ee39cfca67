//===- Lexer.h - PTX text to tokens ------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_PTX_LEXER_H
#define SGPU_PTX_LEXER_H

#include <cstdint>
#include <string_view>

namespace sgpu::ptx {

struct Token {
  enum Kind : uint8_t {
    End,
    Word,    ///< identifier: `%r1`, `add`, `$L1`, `_`
    DotWord, ///< `.s32`, `.shared::cta`: `text` is without the dot
    Integer, ///< `bits`; `isUnsigned` if written with U or too large for s64
    F32,     ///< 0f3F800000
    F64,     ///< 0d..., 1.5
    String,  ///< `text` is what is between the quotes
    Punct,   ///< one of ( ) { } [ ] < > , ; : = + - * / % & | ^ ~ ! ? @ or, in `text`, two of them
    Bad,     ///< `text`; the message is in Lexer::error
  };
  Kind kind = End;
  bool isUnsigned = false;
  std::string_view text;
  uint64_t bits = 0;
  uint32_t line = 1;
  const char *start = nullptr;
  bool is(char punct) const { return kind == Punct && text.size() == 1 && text[0] == punct; }
  bool is(std::string_view punct) const { return kind == Punct && text == punct; }
  bool isDot(std::string_view word) const { return kind == DotWord && text == word; }
};

/// Gives the tokens of a text one by one. Comments (// and /* */) and `@@` lines of old debug output
/// are skipped.
class Lexer {
public:
  explicit Lexer(std::string_view text) : begin(text.data()), at(begin), end(begin + text.size()) {}
  Token next();
  /// Skips from here to behind the `}` that closes the next `{`: the bytes of a debug section.
  /// False if there is none.
  bool skipBraces();
  const char *error = "";

private:
  void skipBlanks(Token &token);
  Token number(Token token);

  const char *begin, *at, *end;
  uint32_t line = 1;
};

} // namespace sgpu::ptx

#endif
