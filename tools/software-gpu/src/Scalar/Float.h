//===- Float.h - Floating-point formats on raw bits --------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Exact arithmetic in integers with one rounding at the end, for every format and rounding mode of
// PTX. Numbers are sign * significand * 2^exponent; the significand is wide enough that alignment
// loses at most bits which a sticky lowest bit stands for.
//===----------------------------------------------------------------------===//
#ifndef SGPU_SCALAR_FLOAT_H
#define SGPU_SCALAR_FLOAT_H

#include <algorithm>
#include <bit>
#include <cstdint>

namespace sgpu::scalar {

__extension__ using uint128_t = unsigned __int128;

/// Fraction bits are those behind the hidden one.
struct Format {
  int exponentBits, fractionBits;
  /// e4m3: no infinities; exponent and fraction all ones is the only NaN.
  bool finiteOnly = false;
  /// The bits of a value stand this far up (tf32 in 32 bits: 13).
  int shift = 0;

  constexpr int bias() const { return (1 << (exponentBits - 1)) - 1; }
  constexpr int maxField() const { return (1 << exponentBits) - 1; }
  constexpr uint64_t one() const { return uint64_t(1) << fractionBits; }
  constexpr int signBit() const { return exponentBits + fractionBits; }
  constexpr uint64_t signMask() const { return uint64_t(1) << (signBit() + shift); }
  /// The NaN that instructions return. The f64 ones have a rule of their own.
  constexpr uint64_t nan() const { return shift ? 0x7fffffff : (uint64_t(1) << signBit()) - 1; }
  constexpr uint64_t infinity() const { return (uint64_t(maxField()) << fractionBits) << shift; }
  /// The largest finite value.
  constexpr uint64_t largest() const {
    return (finiteOnly ? (uint64_t(1) << signBit()) - 2
                       : (uint64_t(maxField()) << fractionBits) - 1)
           << shift;
  }
};
inline constexpr Format formatF16{5, 10}, formatBF16{8, 7}, formatTF32{8, 10, false, 13},
    formatF32{8, 23}, formatF64{11, 52}, formatE4M3{4, 3, true}, formatE5M2{5, 2};

enum class Rounding : uint8_t {
  Nearest, ///< to nearest, ties to even
  Zero,
  Down,
  Up,
  NearestAway, ///< to nearest, ties away from zero
};

/// A value taken apart. Wide: uint64_t for formats up to 32 bits, uint128_t for f64.
template <typename Wide> struct Number {
  enum Kind : uint8_t { Finite, Infinity, NaN } kind = Finite;
  bool sign = false;
  int exponent = 0;
  Wide significand = 0; ///< 0: the number is zero
};

template <typename Wide> int bitLength(Wide value) {
  if constexpr (sizeof(Wide) == 16) {
    uint64_t high = uint64_t(value >> 64);
    return high ? 128 - std::countl_zero(high) : 64 - std::countl_zero(uint64_t(value));
  } else {
    return 64 - std::countl_zero(uint64_t(value));
  }
}

template <typename Wide> constexpr Number<Wide> unpack(uint64_t bits, Format format) {
  bits >>= format.shift;
  Number<Wide> number;
  uint64_t fraction = bits & (format.one() - 1);
  int field = int(bits >> format.fractionBits) & format.maxField();
  number.sign = bits >> format.signBit() & 1;
  if (field == format.maxField() && !format.finiteOnly) {
    number.kind = fraction ? Number<Wide>::NaN : Number<Wide>::Infinity;
    return number;
  }
  if (format.finiteOnly && field == format.maxField() && fraction == format.one() - 1) {
    number.kind = Number<Wide>::NaN;
    return number;
  }
  number.exponent = std::max(field, 1) - format.bias() - format.fractionBits;
  number.significand = fraction | (field ? format.one() : 0);
  return number;
}

/// Shifts right; bits that fall out leave the lowest bit set.
template <typename Wide> constexpr Wide shiftRightSticky(Wide value, int amount) {
  if (amount <= 0)
    return value;
  if (amount >= int(sizeof(Wide)) * 8)
    return value != 0;
  Wide lost = value & ((Wide(1) << amount) - 1);
  return (value >> amount) | (lost != 0);
}

/// Rounds sign * significand * 2^exponent to a format. The lowest bit of the significand may be
/// sticky if it is far below the last bit of the result. `saturate`: overflow gives the largest
/// finite value.
template <typename Wide>
constexpr uint64_t roundTo(Format format, bool sign, int exponent, Wide significand,
                           Rounding rounding, bool saturate = false) {
  uint64_t signBits = sign ? format.signMask() : 0;
  if (significand == 0)
    return signBits;
  int top = exponent + bitLength(significand) - 1;                   // 2^top <= value < 2^(top + 1)
  int last = std::max(top, 1 - format.bias()) - format.fractionBits; // weight of the last bit
  int shift = last - exponent;
  uint64_t kept;
  bool half = false, rest = false;
  constexpr int width = int(sizeof(Wide)) * 8;
  if (shift <= 0) {
    kept = uint64_t(significand) << -shift;
  } else if (shift > width) {
    kept = 0;
    rest = true;
  } else {
    kept = shift == width ? 0 : uint64_t(significand >> shift);
    half = significand >> (shift - 1) & 1;
    rest = (significand & ((Wide(1) << (shift - 1)) - 1)) != 0;
  }
  bool up = false;
  switch (rounding) {
  case Rounding::Nearest:
    up = half && (rest || (kept & 1));
    break;
  case Rounding::NearestAway:
    up = half;
    break;
  case Rounding::Zero:
    break;
  case Rounding::Down:
    up = sign && (half || rest);
    break;
  case Rounding::Up:
    up = !sign && (half || rest);
    break;
  }
  kept += up;
  if (kept >> (format.fractionBits + 1)) {
    kept >>= 1;
    ++last;
  }
  if (kept < format.one())
    return signBits | kept << format.shift;
  int field = last + format.fractionBits + format.bias();
  uint64_t bits = (uint64_t(field) << format.fractionBits) | (kept & (format.one() - 1));
  uint64_t largest = format.largest() >> format.shift;
  if (field > format.maxField() || bits > largest) {
    bool finite = saturate || rounding == Rounding::Zero || (rounding == Rounding::Down && !sign) ||
                  (rounding == Rounding::Up && sign);
    if (finite)
      return signBits | format.largest();
    return format.finiteOnly ? format.nan() : signBits | format.infinity();
  }
  return signBits | bits << format.shift;
}

/// The NaN that an operation of f64 returns: the first operand that is one, made quiet.
constexpr uint64_t quietF64(uint64_t bits) { return bits | uint64_t(1) << 51; }
constexpr bool isNaN(uint64_t bits, Format format) {
  return unpack<uint64_t>(bits, format).kind == Number<uint64_t>::NaN;
}
constexpr uint64_t invalidF64 = 0xfff8000000000000;

/// The NaN of an operation whose operands are these bits.
constexpr uint64_t nanOf(Format format, std::initializer_list<uint64_t> operands) {
  if (format.fractionBits != 52)
    return format.nan();
  for (uint64_t bits : operands)
    if (isNaN(bits, formatF64))
      return quietF64(bits);
  return invalidF64;
}

template <int fractionBits>
using WideFor = std::conditional_t<(fractionBits > 23), uint128_t, uint64_t>;

/// a * b + c, rounded once. Of every format up to f64.
template <typename Wide>
constexpr uint64_t multiplyAdd(Format format, uint64_t aBits, uint64_t bBits, uint64_t cBits,
                               Rounding rounding, Format abFormat) {
  using N = Number<Wide>;
  N a = unpack<Wide>(aBits, abFormat), b = unpack<Wide>(bBits, abFormat),
    c = unpack<Wide>(cBits, format);
  if (a.kind == N::NaN || b.kind == N::NaN || c.kind == N::NaN)
    return nanOf(format, {aBits, bBits, cBits});
  bool sign = a.sign != b.sign;
  if (a.kind == N::Infinity || b.kind == N::Infinity) {
    bool zero = (a.kind == N::Finite && !a.significand) || (b.kind == N::Finite && !b.significand);
    if (zero || (c.kind == N::Infinity && c.sign != sign))
      return nanOf(format, {});
    return format.infinity() | (sign ? format.signMask() : 0);
  }
  if (c.kind == N::Infinity)
    return cBits;
  Wide p = a.significand * b.significand;
  int pExponent = a.exponent + b.exponent;
  if (p == 0 || c.significand == 0) {
    if (p == 0 && c.significand == 0) {
      bool negative = sign == c.sign ? sign : rounding == Rounding::Down;
      return negative ? format.signMask() : 0;
    }
    return p == 0 ? roundTo(format, c.sign, c.exponent, c.significand, rounding)
                  : roundTo(format, sign, pExponent, p, rounding);
  }
  // Both get their top bit to the same place, two below the end; the smaller is shifted down.
  constexpr int place = int(sizeof(Wide)) * 8 - 2;
  int pUp = place - bitLength(p), cUp = place - bitLength(c.significand);
  p <<= pUp;
  pExponent -= pUp;
  Wide q = c.significand << cUp;
  int qExponent = c.exponent - cUp;
  int exponent = std::max(pExponent, qExponent);
  p = shiftRightSticky(p, exponent - pExponent);
  q = shiftRightSticky(q, exponent - qExponent);
  if (sign == c.sign)
    return roundTo(format, sign, exponent, Wide(p + q), rounding);
  if (p == q)
    return rounding == Rounding::Down ? format.signMask() : 0;
  return p > q ? roundTo(format, sign, exponent, Wide(p - q), rounding)
               : roundTo(format, c.sign, exponent, Wide(q - p), rounding);
}

template <typename Wide>
constexpr uint64_t divide(Format format, uint64_t aBits, uint64_t bBits, Rounding rounding) {
  using N = Number<Wide>;
  N a = unpack<Wide>(aBits, format), b = unpack<Wide>(bBits, format);
  bool sign = a.sign != b.sign;
  uint64_t signBits = sign ? format.signMask() : 0;
  bool aZero = a.kind == N::Finite && !a.significand, bZero = b.kind == N::Finite && !b.significand;
  if (a.kind == N::NaN || b.kind == N::NaN || (a.kind == N::Infinity && b.kind == N::Infinity) ||
      (aZero && bZero))
    return nanOf(format, {aBits, bBits});
  if (a.kind == N::Infinity || bZero)
    return signBits | format.infinity();
  if (aZero || b.kind == N::Infinity)
    return signBits;
  // A quotient of at least fractionBits + 3 bits, its lowest bit sticky.
  int up = int(sizeof(Wide)) * 8 - 1 - bitLength(a.significand);
  Wide dividend = a.significand << up;
  Wide quotient = dividend / b.significand;
  quotient |= dividend % b.significand != 0;
  return roundTo(format, sign, a.exponent - up - b.exponent, quotient, rounding);
}

template <typename Wide>
constexpr uint64_t squareRoot(Format format, uint64_t bits, Rounding rounding) {
  using N = Number<Wide>;
  N a = unpack<Wide>(bits, format);
  if (a.kind == N::NaN)
    return nanOf(format, {bits});
  if (a.kind == N::Finite && !a.significand)
    return bits;
  if (a.sign)
    return nanOf(format, {});
  if (a.kind == N::Infinity)
    return bits;
  int up = int(sizeof(Wide)) * 8 - 2 - bitLength(a.significand);
  up -= (a.exponent - up) & 1; // an even exponent
  Wide value = a.significand << up, root = 0, rest = value;
  for (int bit = (bitLength(value) - 1) / 2; bit >= 0; --bit) {
    Wide step = (root << (bit + 1)) + (Wide(1) << (2 * bit));
    if (step <= rest) {
      rest -= step;
      root += Wide(1) << bit;
    }
  }
  // Half the width has 31 or 63 bits; one more place for the sticky bit.
  root = (root << 1) | (rest != 0);
  return roundTo(format, false, (a.exponent - up) / 2 - 1, root, rounding);
}

/// From one format to another.
template <typename Wide = uint64_t>
constexpr uint64_t convert(uint64_t bits, Format from, Format to, Rounding rounding,
                           bool saturate = false) {
  using N = Number<Wide>;
  N a = unpack<Wide>(bits, from);
  uint64_t signBits = a.sign ? to.signMask() : 0;
  if (a.kind == N::NaN) {
    if (to.fractionBits == 52) // the payload moves up
      return (uint64_t(a.sign) << 63) |
             quietF64(uint64_t(0x7ff) << 52 |
                      (from.fractionBits == 52
                           ? bits & ((uint64_t(1) << 52) - 1)
                           : (bits >> from.shift & (from.one() - 1)) << (52 - from.fractionBits)));
    return to.nan();
  }
  if (a.kind == N::Infinity)
    return saturate ? signBits | to.largest() : to.finiteOnly ? to.nan() : signBits | to.infinity();
  return roundTo(to, a.sign, a.exponent, a.significand, rounding, saturate);
}

} // namespace sgpu::scalar

#endif
