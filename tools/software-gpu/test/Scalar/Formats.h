//===- Formats.h - Short float formats as tables of values --------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model that shares nothing with src/Scalar/Float.h: all values of a format in a sorted table, and
// rounding by looking at the two neighbours of a number.
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_SCALAR_FORMATS_H
#define SGPU_TEST_SCALAR_FORMATS_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace sgpu::scalar {

__extension__ using quad = __float128; // 113 bits

enum class Mode { Nearest, Zero, Down, Up, Away };

class Table {
public:
  /// `shift`: the bits of a value stand this far up in its register (tf32).
  Table(int exponentBits, int fractionBits, bool finiteOnly, int shift = 0)
      : signShift(exponentBits + fractionBits + shift) {
    int bias = (1 << (exponentBits - 1)) - 1;
    uint32_t count = 1u << (exponentBits + fractionBits);
    for (uint32_t bits = 0; bits < count; ++bits) {
      int field = int(bits >> fractionBits);
      double fraction = bits & ((1u << fractionBits) - 1);
      bool last = field == (1 << exponentBits) - 1;
      if (last && (!finiteOnly || bits == count - 1))
        continue;
      double value = field ? std::ldexp(1 + std::ldexp(fraction, -fractionBits), field - bias)
                           : std::ldexp(fraction, 1 - bias - fractionBits);
      values.push_back(value);
      codes.push_back(bits << shift);
    }
    nan = shift ? 0x7fffffff : (1u << (exponentBits + fractionBits)) - 1;
    infinity = finiteOnly ? nan : uint32_t((1u << exponentBits) - 1) << fractionBits << shift;
    nextValue = 2 * values.back() - values[values.size() - 2]; // if there were one more
  }
  double value(uint32_t code) const { // finite, without sign
    return values[std::lower_bound(codes.begin(), codes.end(), code) - codes.begin()];
  }
  /// Rounds a number that is not NaN.
  uint32_t round(quad x, bool negative, Mode mode, bool saturate = false) const {
    uint32_t sign = negative ? 1u << signShift : 0;
    quad m = x < 0 ? -x : x;
    if (__builtin_isinf(double(m)) && m > quad(1e300))
      return sign | (saturate ? codes.back() : infinity);
    size_t above = size_t(std::lower_bound(values.begin(), values.end(), m,
                                           [](double a, quad b) { return quad(a) < b; }) -
                          values.begin());
    if (above < values.size() && quad(values[above]) == m)
      return sign | codes[above];
    // Between `below` and `above`, which may be past the end.
    size_t below = above - 1;
    quad low = values[below], high = above < values.size() ? values[above] : nextValue;
    bool up;
    if (mode == Mode::Zero || (mode == Mode::Down && !negative) || (mode == Mode::Up && negative))
      up = false;
    else if (mode == Mode::Down || mode == Mode::Up)
      up = true;
    else if (m - low != high - m)
      up = m - low > high - m;
    else
      up = mode == Mode::Away || (below & 1);
    if (!up)
      return sign | codes[below];
    if (above < values.size())
      return sign | codes[above];
    if (saturate)
      return sign | codes.back();
    return infinity == nan ? nan : sign | infinity;
  }
  int signShift;
  uint32_t nan, infinity;
  std::vector<double> values;
  std::vector<uint32_t> codes;
  double nextValue;
};

inline const Table &tableF16() {
  static const Table t(5, 10, false);
  return t;
}
inline const Table &tableBF16() {
  static const Table t(8, 7, false);
  return t;
}
inline const Table &tableTF32() {
  static const Table t(8, 10, false, 13);
  return t;
}
inline const Table &tableE4M3() {
  static const Table t(4, 3, true);
  return t;
}
inline const Table &tableE5M2() {
  static const Table t(5, 2, false);
  return t;
}

} // namespace sgpu::scalar

#endif
