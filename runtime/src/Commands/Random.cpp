//===- Random.cpp - Numbers that depend only on their place ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Random.h"

#include <cmath>
#include <numbers>

using namespace llrt;

std::array<uint32_t, 4> llrt::philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    uint64_t a = uint64_t(0xD2511F53) * counter[0];
    uint64_t b = uint64_t(0xCD9E8D57) * counter[2];
    counter = {uint32_t(b >> 32) ^ counter[1] ^ key[0], uint32_t(b),
               uint32_t(a >> 32) ^ counter[3] ^ key[1], uint32_t(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

NormalNumbers::NormalNumbers(uint64_t seed, std::string_view name)
    : seed(seed), stream(0xcbf29ce484222325) { // FNV-1a of the name
  for (unsigned char c : name)
    stream = (stream ^ c) * 0x100000001b3;
}

double NormalNumbers::at(uint64_t index) const {
  // Box and Muller's transform makes two numbers of two; pairs share a counter.
  uint64_t pair = index / 2;
  auto bits =
      philox({uint32_t(pair), uint32_t(pair >> 32), uint32_t(stream), uint32_t(stream >> 32)},
             {uint32_t(seed), uint32_t(seed >> 32)});
  auto uniform = [](uint32_t high, uint32_t low) { // in [0, 1), 53 bits
    return double((uint64_t(high) << 32 | low) >> 11) * 0x1p-53;
  };
  double radius = std::sqrt(-2 * std::log(1 - uniform(bits[0], bits[1])));
  double angle = 2 * std::numbers::pi * uniform(bits[2], bits[3]);
  return radius * (index % 2 ? std::sin(angle) : std::cos(angle));
}
