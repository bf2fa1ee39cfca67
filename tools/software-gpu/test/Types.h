//===- Types.h - Small floating-point types, for models of tests ----*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Written for the tests alone, by search over all values where it can be: not the code under test.
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_TYPES_H
#define SGPU_TEST_TYPES_H

#include <cmath>
#include <cstdint>
#include <cstring>

namespace sgpu::test {

struct BF16 {
  uint16_t bits = 0;
  BF16() = default;
  explicit BF16(double d) {
    float f = float(d);
    uint32_t u;
    std::memcpy(&u, &f, 4);
    bits = uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
  explicit operator double() const {
    uint32_t u = uint32_t(bits) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return double(f);
  }
};
/// 8 bits: sign, exponent, fraction of `F` bits. Of two equally near values the even one.
template <int F, int Bias, int Largest> struct Small {
  uint8_t bits = 0;
  Small() = default;
  static double value(int b) {
    int e = (b & 127) >> F, f = b & ((1 << F) - 1);
    double v = e ? std::ldexp(1.0 + f / double(1 << F), e - Bias)
                 : std::ldexp(f / double(1 << F), 1 - Bias);
    return b & 128 ? -v : v;
  }
  explicit Small(double d) {
    int best = 0;
    for (int b = 0; b <= Largest; ++b) {
      double now = std::abs(value(b) - std::abs(d)), before = std::abs(value(best) - std::abs(d));
      if (now < before || (now == before && b % 2 == 0))
        best = b;
    }
    bits = uint8_t(best | (std::signbit(d) ? 128 : 0));
  }
  explicit operator double() const { return value(bits); }
};
using E4M3 = Small<3, 7, 0x7e>;
using E5M2 = Small<2, 15, 0x7b>;
using F16 = _Float16;

} // namespace sgpu::test

#endif
