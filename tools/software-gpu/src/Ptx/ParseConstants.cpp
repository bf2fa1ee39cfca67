//===- ParseConstants.cpp - Constant expressions ---------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/ParserState.h"

#include <algorithm>

using namespace sgpu::ptx;

static int precedenceOf(std::string_view op) {
  static constexpr std::pair<std::string_view, int> table[] = {
      {"?", 1},  {"||", 2}, {"&&", 3}, {"|", 4},  {"^", 5},  {"&", 6},  {"==", 7},
      {"!=", 7}, {"<", 8},  {"<=", 8}, {">", 8},  {">=", 8}, {"<<", 9}, {">>", 9},
      {"+", 10}, {"-", 10}, {"*", 11}, {"/", 11}, {"%", 11}};
  for (auto &[text, precedence] : table)
    if (text == op)
      return precedence;
  return -1;
}

bool Parser::parseUnary(Constant &result) {
  if (++depth > maxDepth)
    return error("expression nested too deeply");
  struct Leave {
    unsigned &depth;
    ~Leave() { --depth; }
  } leave{depth};
  using Kind = Operand::ImmediateKind;
  if (token.kind == Token::Integer || token.kind == Token::F32 || token.kind == Token::F64) {
    result.kind = token.kind == Token::Integer ? Kind::Integer
                  : token.kind == Token::F32   ? Kind::F32
                                               : Kind::F64;
    result.bits = token.bits;
    result.isUnsigned = token.isUnsigned;
    advance();
    return true;
  }
  if (token.kind == Token::Word && token.text == "WARP_SZ") {
    result = {Kind::Integer, 32, false};
    advance();
    return true;
  }
  if (token.is('(')) {
    advance();
    if (token.isDot("s64") || token.isDot("u64")) { // a cast
      bool isUnsigned = token.text == "u64";
      advance();
      if (!expect(')') || !parseUnary(result))
        return false;
      if (result.kind != Kind::Integer)
        return error("expected an integer after a cast");
      result.isUnsigned = isUnsigned;
      return true;
    }
    return parseConstant(result) && expect(')');
  }
  for (char op : {'-', '+', '~', '!'}) {
    if (!token.is(op))
      continue;
    Token at = token;
    advance();
    if (!parseUnary(result))
      return false;
    if (result.kind != Kind::Integer) {
      if (op == '-')
        result.bits ^= result.kind == Kind::F32 ? uint64_t(1) << 31 : uint64_t(1) << 63;
      else if (op != '+')
        return errorAt(at, "expected an integer after this operator");
      return true;
    }
    if (op == '-')
      result.bits = -result.bits;
    else if (op == '~')
      result.bits = ~result.bits;
    else if (op == '!')
      result = {Kind::Integer, result.bits == 0, false};
    return true;
  }
  return expected("a constant");
}

bool Parser::parseConstant(Constant &result, int minimumPrecedence) {
  if (!parseUnary(result))
    return false;
  using Kind = Operand::ImmediateKind;
  while (token.kind == Token::Punct) {
    std::string_view op = token.text;
    int precedence = precedenceOf(op);
    if (precedence < 0 || precedence < minimumPrecedence)
      break;
    if (result.kind != Kind::Integer)
      return error("expected no operator after a floating-point constant");
    Token at = token;
    advance();
    if (op == "?") {
      Constant yes, no;
      if (!parseConstant(yes, 1) || !expect(':') || !parseConstant(no, 1))
        return false;
      if (yes.kind != Kind::Integer || no.kind != Kind::Integer)
        return errorAt(at, "expected integers in a constant expression");
      bool isUnsigned = yes.isUnsigned || no.isUnsigned;
      result = result.bits ? yes : no;
      result.isUnsigned = isUnsigned;
      continue;
    }
    Constant right;
    if (!parseConstant(right, precedence + 1))
      return false;
    if (right.kind != Kind::Integer)
      return errorAt(at, "expected integers in a constant expression");
    uint64_t a = result.bits, b = right.bits;
    bool isUnsigned = result.isUnsigned || right.isUnsigned;
    auto less = [&] { return isUnsigned ? a < b : int64_t(a) < int64_t(b); };
    bool isComparison = false;
    if (op == "+")
      a += b;
    else if (op == "-")
      a -= b;
    else if (op == "*")
      a *= b;
    else if (op == "/" || op == "%") {
      if (b == 0)
        return errorAt(at, "division by zero in a constant expression");
      bool quotient = op == "/";
      if (isUnsigned)
        a = quotient ? a / b : a % b;
      else if (b == ~uint64_t(0))
        a = quotient ? -a : 0;
      else
        a = uint64_t(quotient ? int64_t(a) / int64_t(b) : int64_t(a) % int64_t(b));
    } else if (op == "&")
      a &= b;
    else if (op == "|")
      a |= b;
    else if (op == "^")
      a ^= b;
    else if (op == "<<") {
      a = b > 63 ? 0 : a << b;
      isUnsigned = result.isUnsigned;
    } else if (op == ">>") {
      isUnsigned = result.isUnsigned;
      unsigned amount = unsigned(std::min<uint64_t>(b, 63));
      a = isUnsigned ? (b > 63 ? 0 : a >> amount) : uint64_t(int64_t(a) >> amount);
    } else {
      isComparison = true;
      bool value = op == "&&"   ? a && b
                   : op == "||" ? a || b
                   : op == "==" ? a == b
                   : op == "!=" ? a != b
                   : op == "<"  ? less()
                   : op == ">=" ? !less()
                   : op == ">"  ? !less() && a != b
                                : less() || a == b;
      a = value;
    }
    result = {Kind::Integer, a, !isComparison && isUnsigned};
  }
  return true;
}

bool Parser::parseInteger(int64_t &value) {
  Token at = token;
  Constant constant;
  if (!parseConstant(constant))
    return false;
  if (constant.kind != Operand::ImmediateKind::Integer)
    return errorAt(at, "expected an integer");
  value = int64_t(constant.bits);
  return true;
}

bool Parser::parseOffset(int64_t &offset) {
  while (token.is('+') || token.is('-')) {
    bool minus = token.is('-');
    advance();
    Constant constant;
    if (!parseConstant(constant, 11)) // what binds more than these two
      return false;
    if (constant.kind != Operand::ImmediateKind::Integer)
      return error("expected an integer offset");
    offset = int64_t(uint64_t(offset) + (minus ? -constant.bits : constant.bits));
  }
  return true;
}

bool Parser::parseUnsigned(uint32_t &value, std::string_view what) {
  Token at = token;
  int64_t wide;
  if (!parseInteger(wide))
    return false;
  if (wide < 0 || wide > int64_t(UINT32_MAX))
    return errorAt(at, "expected " + std::string(what) + " of 0 to 4294967295");
  value = uint32_t(wide);
  return true;
}
