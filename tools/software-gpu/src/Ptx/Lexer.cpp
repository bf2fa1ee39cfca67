//===- Lexer.cpp - PTX text to tokens ---------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/Lexer.h"

#include <bit>
#include <charconv>

using namespace sgpu::ptx;

namespace {
bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool isLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool isFollow(char c) { return isLetter(c) || isDigit(c) || c == '_' || c == '$'; }
int hexDigit(char c) {
  if (isDigit(c))
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}
} // namespace

void Lexer::skipBlanks(Token &token) {
  while (at < end) {
    char c = *at;
    if (c == '\n') {
      ++line;
      ++at;
    } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
      ++at;
    } else if (c == '/' && end - at > 1 && at[1] == '/') {
      while (at < end && *at != '\n')
        ++at;
    } else if (c == '@' && end - at > 1 && at[1] == '@') {
      while (at < end && *at != '\n')
        ++at;
    } else if (c == '/' && end - at > 1 && at[1] == '*') {
      const char *start = at;
      uint32_t startLine = line;
      at += 2;
      while (at < end && !(*at == '*' && end - at > 1 && at[1] == '/'))
        line += *at++ == '\n';
      if (at >= end) {
        token.kind = Token::Bad;
        token.start = start;
        token.line = startLine;
        error = "comment without an end";
        return;
      }
      at += 2;
    } else if (c == 0 && end - at == 1) {
      ++at; // the zero at the end of a C string
    } else {
      return;
    }
  }
}

bool Lexer::skipBraces() {
  unsigned depth = 0;
  while (at < end) {
    Token blanks;
    skipBlanks(blanks);
    if (at >= end || blanks.kind == Token::Bad)
      return false;
    if (*at == '"') {
      for (++at; at < end && *at != '"'; ++at)
        line += *at == '\n';
      if (at >= end)
        return false;
    }
    depth += *at == '{';
    if (*at++ == '}' && (depth == 0 || --depth == 0))
      return true;
  }
  return false;
}

Token Lexer::number(Token token) {
  auto bad = [&](const char *message) {
    while (at < end && isFollow(*at))
      ++at;
    token.kind = Token::Bad;
    token.text = {token.start, size_t(at - token.start)};
    error = message;
    return token;
  };
  auto digits = [&](unsigned base, uint64_t &value) {
    bool any = false, overflow = false;
    value = 0;
    for (; at < end; ++at, any = true) {
      int digit = hexDigit(*at);
      if (digit < 0 || unsigned(digit) >= base)
        break;
      overflow |= value > (~uint64_t(0) - unsigned(digit)) / base;
      value = value * base + unsigned(digit);
    }
    return any && !overflow;
  };
  token.kind = Token::Integer;
  if (*at == '0' && end - at > 1) {
    char kind = at[1];
    if (kind == 'f' || kind == 'F' || kind == 'd' || kind == 'D') {
      unsigned want = kind == 'f' || kind == 'F' ? 8 : 16;
      at += 2;
      const char *first = at;
      if (!digits(16, token.bits) || at - first != want || (at < end && isFollow(*at)))
        return bad(want == 8 ? "expected 8 hexadecimal digits after 0f"
                             : "expected 16 hexadecimal digits after 0d");
      token.kind = want == 8 ? Token::F32 : Token::F64;
      token.text = {token.start, size_t(at - token.start)};
      return token;
    }
  }
  const char *start = at;
  if (*at == '0' && end - at > 1 && (at[1] == 'x' || at[1] == 'X')) {
    at += 2;
    if (!digits(16, token.bits))
      return bad("expected a hexadecimal number of at most 64 bits");
  } else if (*at == '0' && end - at > 1 && (at[1] == 'b' || at[1] == 'B')) {
    at += 2;
    if (!digits(2, token.bits))
      return bad("expected a binary number of at most 64 bits");
  } else {
    const char *scan = at;
    while (scan < end && isDigit(*scan))
      ++scan;
    bool isFloat = scan < end && (*scan == '.' || *scan == 'e' || *scan == 'E');
    if (isFloat && *scan == '.' && end - scan > 1 && isLetter(scan[1]) && scan[1] != 'e' &&
        scan[1] != 'E')
      isFloat = false; // `1.b8`: a number and a directive
    if (isFloat) {
      double value = 0;
      auto [rest, status] = std::from_chars(at, end, value);
      if (status != std::errc())
        return bad("expected a number that f64 can hold");
      at = rest;
      if (at < end && isFollow(*at))
        return bad("expected a number");
      token.kind = Token::F64;
      token.bits = std::bit_cast<uint64_t>(value);
      token.text = {token.start, size_t(at - token.start)};
      return token;
    }
    bool octal = *at == '0' && scan - at > 1;
    if (!digits(octal ? 8 : 10, token.bits))
      return bad("expected an integer of at most 64 bits");
  }
  if (at < end && *at == 'U') {
    token.isUnsigned = true;
    ++at;
  }
  if (at < end && isFollow(*at)) {
    at = start;
    return bad("expected a number");
  }
  token.isUnsigned |= token.bits >> 63;
  token.text = {token.start, size_t(at - token.start)};
  return token;
}

Token Lexer::next() {
  Token token;
  skipBlanks(token);
  if (token.kind == Token::Bad)
    return token;
  token.line = line;
  token.start = at;
  if (at >= end)
    return token;
  char c = *at;
  auto take = [&](Token::Kind kind, size_t skip) {
    token.kind = kind;
    token.text = {token.start + skip, size_t(at - token.start) - skip};
    return token;
  };
  if (isLetter(c) || c == '_' || c == '$' || (c == '%' && end - at > 1 && isFollow(at[1]))) {
    ++at;
    while (at < end && isFollow(*at))
      ++at;
    return take(Token::Word, 0);
  }
  if (c == '.') {
    ++at;
    while (at < end && isFollow(*at)) {
      while (at < end && isFollow(*at))
        ++at;
      if (end - at > 2 && at[0] == ':' && at[1] == ':' && isFollow(at[2]))
        at += 2;
    }
    if (at - token.start == 1) {
      error = "expected a name after the dot";
      return take(Token::Bad, 0);
    }
    return take(Token::DotWord, 1);
  }
  if (isDigit(c))
    return number(token);
  if (c == '"') {
    for (++at; at < end && *at != '"' && *at != '\n'; ++at)
      if (*at == '\\' && end - at > 1 && at[1] != '\n')
        ++at;
    if (at >= end || *at != '"') {
      error = "string without an end";
      return take(Token::Bad, 0);
    }
    ++at;
    token.kind = Token::String;
    token.text = {token.start + 1, size_t(at - token.start) - 2};
    return token;
  }
  constexpr std::string_view single = "(){}[]<>,;:=+-*/%&|^~!?@";
  constexpr std::string_view pairs[] = {"<<", ">>", "<=", ">=", "==", "!=", "&&", "||"};
  if (end - at > 1)
    for (std::string_view pair : pairs)
      if (c == pair[0] && at[1] == pair[1]) {
        at += 2;
        return take(Token::Punct, 0);
      }
  ++at;
  if (single.find(c) != std::string_view::npos)
    return take(Token::Punct, 0);
  error = "a character that PTX does not have";
  return take(Token::Bad, 0);
}
