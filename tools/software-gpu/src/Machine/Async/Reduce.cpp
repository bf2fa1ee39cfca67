//===- Reduce.cpp -----------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/Reduce.h"
#include "Machine/Tensor/Arithmetic.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace sgpu {

using ptx::Modifier;
using ptx::Type;

bool Reduction::exists() const {
  bool integer = type == Type::U32 || type == Type::S32 || type == Type::U64 || type == Type::S64;
  bool half = type == Type::F16 || type == Type::BF16;
  switch (operation) {
  case Modifier::Add:
    return integer || half || type == Type::F32 || type == Type::F64;
  case Modifier::Min:
  case Modifier::Max:
    return integer || half;
  case Modifier::Inc:
  case Modifier::Dec:
    return type == Type::U32;
  case Modifier::And:
  case Modifier::Or:
  case Modifier::Xor:
    return type == Type::B32 || type == Type::B64 || type == Type::U32 || type == Type::S32 ||
           type == Type::U64 || type == Type::S64;
  default:
    return false;
  }
}

namespace {

float flushed(uint32_t bits) {
  return std::bit_cast<float>(bits & 0x7f800000 ? bits : bits & 0x80000000);
}

uint64_t addHalf(TensorType type, uint64_t a, uint64_t b) {
  double sum = double(valueOf(type, uint32_t(a))) + double(valueOf(type, uint32_t(b)));
  return roundedTo(type, sum);
}

/// Minimum or maximum of numbers: a NaN gives way to a number; -0 is less than +0.
uint64_t extremeHalf(TensorType type, bool maximum, uint64_t a, uint64_t b) {
  float x = valueOf(type, uint32_t(a)), y = valueOf(type, uint32_t(b));
  if (std::isnan(x) && std::isnan(y))
    return 0x7fff;
  if (std::isnan(x) || std::isnan(y))
    return std::isnan(x) ? b : a;
  bool less = x < y || (x == y && std::signbit(x) && !std::signbit(y));
  return less == maximum ? b : a;
}

template <typename Integer> uint64_t extreme(bool maximum, uint64_t a, uint64_t b) {
  Integer x = Integer(a), y = Integer(b);
  return uint64_t(maximum ? std::max(x, y) : std::min(x, y));
}

} // namespace

uint64_t Reduction::apply(uint64_t a, uint64_t b) const {
  uint64_t mask = bytes() == 8 ? ~uint64_t(0) : (uint64_t(1) << (8 * bytes())) - 1;
  bool maximum = operation == Modifier::Max;
  TensorType half = type == Type::F16 ? TensorType::F16 : TensorType::BF16;
  switch (operation) {
  case Modifier::Add:
    if (type == Type::F32) {
      float sum = flushed(uint32_t(a)) + flushed(uint32_t(b));
      return std::bit_cast<uint32_t>(std::isnan(sum) ? std::bit_cast<float>(0x7fffffffu)
                                                     : flushed(std::bit_cast<uint32_t>(sum)));
    }
    if (type == Type::F64)
      return std::bit_cast<uint64_t>(std::bit_cast<double>(a) + std::bit_cast<double>(b));
    if (type == Type::F16 || type == Type::BF16)
      return addHalf(half, a, b);
    return (a + b) & mask;
  case Modifier::Min:
  case Modifier::Max:
    switch (type) {
    case Type::F16:
    case Type::BF16:
      return extremeHalf(half, maximum, a, b);
    case Type::S32:
      return extreme<int32_t>(maximum, a, b) & mask;
    case Type::S64:
      return extreme<int64_t>(maximum, a, b);
    case Type::U32:
      return extreme<uint32_t>(maximum, a, b);
    default:
      return extreme<uint64_t>(maximum, a, b);
    }
  case Modifier::Inc:
    return a >= b ? 0 : a + 1;
  case Modifier::Dec:
    return a == 0 || a > b ? b : a - 1;
  case Modifier::And:
    return a & b;
  case Modifier::Or:
    return a | b;
  default:
    return a ^ b;
  }
}

} // namespace sgpu
