//===- Random.h - Numbers that depend only on their place ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_RANDOM_H
#define LLRT_COMMANDS_RANDOM_H

#include <array>
#include <cstdint>
#include <string_view>

namespace llrt {

// Philox4x32-10: 128 random bits from a 128-bit counter and a 64-bit key.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A sequence of independent N(0, 1) numbers named by `name`; any element can be
// computed alone, on any rank, in any order.
class NormalNumbers {
public:
  NormalNumbers(uint64_t seed, std::string_view name);

  double at(uint64_t index) const;

private:
  uint64_t seed, stream;
};

} // namespace llrt
#endif // LLRT_COMMANDS_RANDOM_H
