//===- Values.h - Drawn matrices of the host kernel tests ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_UNIT_HOST_VALUES_H
#define LLAMAC_TEST_UNIT_HOST_VALUES_H

#include "llrt/Kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <vector>

namespace values {

using Doubles = std::vector<double>;

inline int64_t bytesOf(int64_t type) { return type == LLRT_BF16 ? 2 : type == LLRT_F32 ? 4 : 8; }

// An array of `type` in memory of exactly its size, so that a sanitizer sees
// accesses outside.
class Array {
public:
  Array(int64_t type, int64_t count)
      : type(type), memory(count * bytesOf(type), char(0xff)) {} // NaN

  // Rounds to the type; bf16 to nearest even.
  Array(int64_t type, const Doubles &from) : Array(type, from.size()) {
    for (size_t i = 0; i != from.size(); ++i)
      set(i, from[i]);
  }

  void set(size_t i, double value) {
    float single = float(value);
    uint32_t bits = std::bit_cast<uint32_t>(single);
    uint16_t upper = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    if (type == LLRT_F64)
      memcpy(&memory[8 * i], &value, 8);
    else if (type == LLRT_F32)
      memcpy(&memory[4 * i], &single, 4);
    else
      memcpy(&memory[2 * i], &upper, 2);
  }
  double get(size_t i) const {
    double value;
    float single;
    uint16_t upper;
    if (type == LLRT_F64)
      return memcpy(&value, &memory[8 * i], 8), value;
    if (type == LLRT_F32)
      return memcpy(&single, &memory[4 * i], 4), single;
    memcpy(&upper, &memory[2 * i], 2);
    return std::bit_cast<float>(uint32_t(upper) << 16);
  }
  Doubles doubles() const {
    Doubles result(size());
    for (size_t i = 0; i != result.size(); ++i)
      result[i] = get(i);
    return result;
  }
  size_t size() const { return memory.size() / bytesOf(type); }
  void *data() { return memory.data(); }
  const void *data() const { return memory.data(); }
  bool operator==(const Array &) const = default;

private:
  int64_t type;
  std::vector<char> memory;
};

inline Array draw(std::mt19937 &generator, int64_t type, int64_t count) {
  std::normal_distribution<double> normal;
  Doubles result(count);
  for (double &value : result)
    value = normal(generator);
  return Array(type, result);
}

inline double rms(const Doubles &values) {
  double squares = 0;
  for (double value : values)
    squares += value * value;
  return std::sqrt(squares / values.size());
}

// Each value lies within `tolerance` times the root mean square of the wanted
// ones (all of them, so that values near 0 are not held to their own size).
inline void expectClose(const Doubles &found, const Doubles &wanted, double tolerance,
                        const char *what) {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  double bound = tolerance * rms(wanted) + 1e-30;
  for (size_t i = 0; i != found.size(); ++i)
    ASSERT_LE(std::abs(found[i] - wanted[i]), std::max(bound, tolerance * std::abs(wanted[i])))
        << what << "[" << i << "]: expected " << wanted[i] << ", found " << found[i];
}

} // namespace values
#endif // LLAMAC_TEST_UNIT_HOST_VALUES_H
