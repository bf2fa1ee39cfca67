//===- Element.h - Values of the types of the libraries -------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_SUPPORT_ELEMENT_H
#define SGPU_SUPPORT_ELEMENT_H

#include "Scalar/Float.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace sgpu {

/// The type of an element of a matrix or a message.
enum class Element : uint8_t { S8, U8, S32, U32, S64, U64, F16, BF16, F32, F64, E4M3, E5M2 };

constexpr unsigned bytesOf(Element element) {
  switch (element) {
  case Element::S8:
  case Element::U8:
  case Element::E4M3:
  case Element::E5M2:
    return 1;
  case Element::F16:
  case Element::BF16:
    return 2;
  case Element::S64:
  case Element::U64:
  case Element::F64:
    return 8;
  default:
    return 4;
  }
}

/// The format of a floating-point type of at most 16 bits.
constexpr scalar::Format smallFormat(Element element) {
  return element == Element::F16    ? scalar::formatF16
         : element == Element::BF16 ? scalar::formatBF16
         : element == Element::E4M3 ? scalar::formatE4M3
                                    : scalar::formatE5M2;
}

/// Bits of a floating-point type of at most 16 bits as f32 (exact).
inline float smallToFloat(Element element, uint16_t bits) {
  if (element == Element::BF16)
    return std::bit_cast<float>(uint32_t(bits) << 16);
  auto number = scalar::unpack<uint64_t>(bits, smallFormat(element));
  float magnitude = number.kind == scalar::Number<uint64_t>::NaN ? NAN
                    : number.kind == scalar::Number<uint64_t>::Infinity
                        ? INFINITY
                        : std::ldexp(float(number.significand), number.exponent);
  return number.sign ? -magnitude : magnitude;
}

/// f32 to a floating-point type of at most 16 bits, to nearest even; the types of 8 bits saturate,
/// as the conversions of the libraries do.
inline uint16_t floatToSmall(Element element, float value) {
  scalar::Format format = smallFormat(element);
  if (std::isnan(value))
    return uint16_t(format.nan());
  bool eight = bytesOf(element) == 1;
  if (std::isinf(value)) {
    uint64_t sign = std::signbit(value) ? format.signMask() : 0;
    return uint16_t(sign | (eight ? format.largest() : format.infinity()));
  }
  if (element == Element::BF16) { // the upper half, what is cut off rounds it
    uint32_t bits = std::bit_cast<uint32_t>(value);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  auto number = scalar::unpack<uint64_t>(std::bit_cast<uint32_t>(value), scalar::formatF32);
  return uint16_t(scalar::roundTo<uint64_t>(format, number.sign, number.exponent,
                                            number.significand, scalar::Rounding::Nearest, eight));
}

/// f32 with the fraction of tf32, to nearest even.
inline float roundToTF32(float value) {
  if (!std::isfinite(value))
    return value;
  uint32_t bits = std::bit_cast<uint32_t>(value);
  bits += 0xfff + (bits >> 13 & 1);
  return std::bit_cast<float>(bits & ~uint32_t(0x1fff));
}

template <typename T> T loadAs(const void *data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

/// Element `index` of an array as a real number. Exact but for 64-bit integers.
template <typename Real> Real loadElement(Element element, const void *data, int64_t index) {
  const char *at = static_cast<const char *>(data) + index * bytesOf(element);
  switch (element) {
  case Element::S8:
    return Real(loadAs<int8_t>(at));
  case Element::U8:
    return Real(loadAs<uint8_t>(at));
  case Element::S32:
    return Real(loadAs<int32_t>(at));
  case Element::U32:
    return Real(loadAs<uint32_t>(at));
  case Element::S64:
    return Real(loadAs<int64_t>(at));
  case Element::U64:
    return Real(loadAs<uint64_t>(at));
  case Element::F32:
    return Real(loadAs<float>(at));
  case Element::F64:
    return Real(loadAs<double>(at));
  case Element::F16:
  case Element::BF16:
    return Real(smallToFloat(element, loadAs<uint16_t>(at)));
  default:
    return Real(smallToFloat(element, loadAs<uint8_t>(at)));
  }
}

/// A real number to element `index` of an array: rounded to nearest even; integers saturate.
template <typename Real> void storeElement(Element element, void *data, int64_t index, Real value) {
  char *at = static_cast<char *>(data) + index * bytesOf(element);
  auto put = [&](auto v) { std::memcpy(at, &v, sizeof v); };
  auto integer = [&]<typename T>(T) {
    double rounded = std::nearbyint(double(value));
    if (std::isnan(rounded))
      return put(T(0));
    if (rounded >= std::ldexp(1.0, int(sizeof(T) * 8) - (T(-1) < T(0))))
      return put(std::numeric_limits<T>::max());
    if (rounded < double(std::numeric_limits<T>::min()))
      return put(std::numeric_limits<T>::min());
    put(T(rounded));
  };
  switch (element) {
  case Element::S8:
    return integer(int8_t());
  case Element::U8:
    return integer(uint8_t());
  case Element::S32:
    return integer(int32_t());
  case Element::U32:
    return integer(uint32_t());
  case Element::S64:
    return integer(int64_t());
  case Element::U64:
    return integer(uint64_t());
  case Element::F32:
    return put(float(value));
  case Element::F64:
    return put(double(value));
  case Element::F16:
  case Element::BF16:
    return put(floatToSmall(element, float(value)));
  default:
    return put(uint8_t(floatToSmall(element, float(value))));
  }
}

} // namespace sgpu

#endif
