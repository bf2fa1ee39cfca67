//===- Reduce.cpp - The arithmetic of collectives -------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Nccl/Reduce.h"

#include <type_traits>

namespace sgpu::nccl {

/// Calls with the C++ type of an element; float for the small floating-point types, which are
/// rounded by Element's functions.
template <typename F> static void withType(Element element, F f) {
  switch (element) {
  case Element::S8:
    return f(int8_t());
  case Element::U8:
    return f(uint8_t());
  case Element::S32:
    return f(int32_t());
  case Element::U32:
    return f(uint32_t());
  case Element::S64:
    return f(int64_t());
  case Element::U64:
    return f(uint64_t());
  case Element::F64:
    return f(double());
  default:
    return f(float());
  }
}

static bool isSmall(Element element) {
  return isFloating(element) && element != Element::F32 && element != Element::F64;
}
template <typename T> static T get(Element element, const void *data, uint64_t i) {
  if (isSmall(element))
    return T(loadElement<float>(element, data, int64_t(i)));
  return loadAs<T>(static_cast<const char *>(data) + i * sizeof(T));
}
template <typename T> static void put(Element element, void *data, uint64_t i, T value) {
  if (isSmall(element))
    return storeElement<float>(element, data, int64_t(i), float(value));
  std::memcpy(static_cast<char *>(data) + i * sizeof(T), &value, sizeof(T));
}

/// a * b and a + b wrap for integers.
template <typename T, typename F> static T wrapped(T a, T b, F f) {
  if constexpr (std::is_integral_v<T>)
    return T(f(uint64_t(a), uint64_t(b)));
  else
    return f(a, b);
}

void fold(Element element, Fold how, void *accumulator, const void *next, uint64_t count) {
  withType(element, [&]<typename T>(T) {
    for (uint64_t i = 0; i < count; ++i) {
      T a = get<T>(element, accumulator, i), b = get<T>(element, next, i);
      T r{};
      switch (how) {
      case Fold::Sum:
        r = wrapped(a, b, [](auto x, auto y) { return x + y; });
        break;
      case Fold::Prod:
        r = wrapped(a, b, [](auto x, auto y) { return x * y; });
        break;
      case Fold::Max: // of floating point: the other one if one is NaN
        r = b != b || a > b ? a : b;
        break;
      case Fold::Min:
        r = b != b || a < b ? a : b;
        break;
      }
      put<T>(element, accumulator, i, r);
    }
  });
}

void scale(Element element, void *data, const void *scalar, uint64_t count) {
  withType(element, [&]<typename T>(T) {
    T factor = get<T>(element, scalar, 0);
    for (uint64_t i = 0; i < count; ++i)
      put<T>(element, data, i,
             wrapped(get<T>(element, data, i), factor, [](auto x, auto y) { return x * y; }));
  });
}

void divide(Element element, void *data, uint64_t ranks, uint64_t count) {
  withType(element, [&]<typename T>(T) {
    for (uint64_t i = 0; i < count; ++i)
      put<T>(element, data, i, T(get<T>(element, data, i) / T(ranks)));
  });
}

void reciprocal(Element element, uint64_t ranks, void *to) {
  storeElement<double>(element, to, 0, 1.0 / double(ranks));
}

} // namespace sgpu::nccl
