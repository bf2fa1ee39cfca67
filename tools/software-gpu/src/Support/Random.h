//===- Random.h - Seeded, splittable random numbers ----------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_SUPPORT_RANDOM_H
#define SGPU_SUPPORT_RANDOM_H

#include <cstdint>

namespace sgpu {

/// A bijection of 64 bits that mixes well. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom
/// Number Generators", OOPSLA 2014 (the finalizer of SplitMix64).
constexpr uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// The same seed gives the same numbers on every run. `split` gives a generator of its own for a
/// part (launch, block, warp), which does not depend on how many numbers others have drawn.
class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t next() { return mix(state += 0x9e3779b97f4a7c15); }
  /// 0 to n - 1; n > 0.
  uint32_t below(uint32_t n) { return uint32_t((uint64_t(uint32_t(next())) * n) >> 32); }
  Random split(uint64_t key) const { return Random(mix(state ^ mix(key))); }

private:
  uint64_t state;
};

} // namespace sgpu

#endif
