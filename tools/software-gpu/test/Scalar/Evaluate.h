//===- Evaluate.h - Runs one PTX instruction on values ------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_SCALAR_EVALUATE_H
#define SGPU_TEST_SCALAR_EVALUATE_H

#include "Ptx/Parser.h"
#include "Scalar/Scalar.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <random>

namespace sgpu::scalar {

/// An instruction given as text, e.g. Op("add.f32 %f0, %f1, %f2"). Registers: %p, %h (16 bits), %r,
/// %f, %rd, %fd.
class Op {
public:
  explicit Op(const std::string &text) : text(text) {
    std::string source =
        ".version 9.0\n.target sm_90a\n.address_size 64\n.visible .entry test()\n{\n"
        ".reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>;\n"
        ".reg .f32 %f<9>; .reg .f64 %fd<9>;\n" +
        text + ";\nret;\n}\n";
    std::vector<ptx::Diagnostic> diagnostics;
    std::optional<ptx::Module> parsed = ptx::parse(source, diagnostics);
    if (!parsed) {
      ADD_FAILURE() << text << ": " << diagnostics[0].str();
      return;
    }
    module = std::move(*parsed);
    const ptx::Function &function = module.functions[0];
    std::string message;
    operation = find(function, function.instructions[0], message);
    EXPECT_NE(operation.run, nullptr) << text << ": " << message;
  }
  explicit operator bool() const { return operation.run; }

  struct Result {
    uint64_t first = 0, second = 0;
    operator uint64_t() const { return first; }
  };

  /// Values of the sources in order, constants left out; carry last. The value stands in one lane,
  /// others hold something else and some of them are not active: they must keep what they had.
  template <typename... Values> Result operator()(Values... values) {
    return run({uint64_t(values)...});
  }

  Result run(std::initializer_list<uint64_t> values) {
    Result result;
    if (!operation.run)
      return result;
    alignas(64) uint64_t rows[maxSources][32], out[maxDestinations][32],
        before[maxDestinations][32];
    const void *sources[maxSources] = {};
    void *destinations[maxDestinations] = {};
    unsigned lane = unsigned(random() % 32);
    uint32_t active = uint32_t(random()) | 1u << lane;
    if (random() % 2)
      active = ~0u;
    auto next = values.begin();
    for (unsigned i = 0; i < operation.sources; ++i) {
      const Slot &slot = operation.source[i];
      for (uint64_t &word : rows[i])
        word = random();
      sources[i] = rows[i];
      uint64_t value;
      const ptx::Operand *operand =
          slot.operand < 0 ? nullptr
                           : &module.functions[0].instructions[0].operands[size_t(slot.operand)];
      if (operand && operand->kind == ptx::Operand::Immediate) {
        value = ptx::immediateAs(*operand, slot.type);
      } else {
        if (next == values.end()) {
          ADD_FAILURE() << text << ": too few values";
          return result;
        }
        value = *next++;
      }
      set(rows[i], slot.lane, lane, value);
    }
    EXPECT_EQ(next, values.end()) << text << ": too many values";
    for (unsigned i = 0; i < operation.destinations; ++i) {
      for (uint64_t &word : out[i])
        word = random();
      std::memcpy(before[i], out[i], sizeof out[i]);
      destinations[i] = out[i];
    }
    operation.run(destinations, sources, active, operation.control);
    for (unsigned i = 0; i < operation.destinations; ++i) {
      Lane kind = operation.destination[i].lane;
      for (unsigned other = 0; other < 32; ++other)
        if (!(active >> other & 1))
          EXPECT_EQ(get(out[i], kind, other), get(before[i], kind, other))
              << text << ": lane that is not active";
      (i ? result.second : result.first) = get(out[i], kind, lane);
    }
    return result;
  }

  std::string text;
  ptx::Module module;
  Operation operation;

private:
  static void set(uint64_t *row, Lane kind, unsigned lane, uint64_t value) {
    if (kind == Lane::Long)
      row[lane] = value;
    else if (kind == Lane::Word)
      reinterpret_cast<uint32_t *>(row)[lane] = uint32_t(value);
    else
      *reinterpret_cast<uint32_t *>(row) = (uint32_t(*row) & ~(1u << lane)) | uint32_t(value & 1)
                                                                                  << lane;
  }
  static uint64_t get(const uint64_t *row, Lane kind, unsigned lane) {
    if (kind == Lane::Long)
      return row[lane];
    uint32_t word = reinterpret_cast<const uint32_t *>(row)[kind == Lane::Word ? lane : 0];
    return kind == Lane::Word ? word : word >> lane & 1;
  }
  std::mt19937_64 random{std::hash<std::string>()(text)};
};

inline uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
inline uint64_t bits(double x) { return std::bit_cast<uint64_t>(x); }
inline float asFloat(uint64_t x) { return std::bit_cast<float>(uint32_t(x)); }
inline double asDouble(uint64_t x) { return std::bit_cast<double>(x); }

/// Values to try: the special ones of a width, then drawn ones.
class Values {
public:
  explicit Values(uint64_t seed = 1) : random(seed) {}
  uint64_t operator()(unsigned width) {
    uint64_t mask = width == 64 ? ~uint64_t(0) : (uint64_t(1) << width) - 1;
    uint64_t x = random();
    switch (random() % 8) {
    case 0:
      return random() % 5 & mask;
    case 1: // near a power of two
      return ((uint64_t(1) << random() % width) + random() % 3 - 1) & mask;
    case 2:
      return (mask - random() % 4) & mask;
    case 3:
      return ((mask >> 1) + random() % 4 - 1) & mask;
    case 4: // few bits
      return x & random() & random() & mask;
    default:
      return x & mask;
    }
  }
  /// Bits of a float: specials, subnormals, near powers of two, and numbers of all sizes.
  uint64_t floating(unsigned exponentBits, unsigned fractionBits) {
    uint64_t sign = random() % 2 << (exponentBits + fractionBits);
    uint64_t ones = (uint64_t(1) << exponentBits) - 1,
             fraction = random() & ((uint64_t(1) << fractionBits) - 1);
    switch (random() % 11) {
    case 10: { // few bits: halfway between two values of a shorter format
      unsigned zeros = unsigned(random() % fractionBits);
      return sign | (random() % ones) << fractionBits | fraction >> zeros << zeros;
    }
    case 0:
      return sign;
    case 1:
      return sign | ones << fractionBits | (random() % 2 ? fraction : 0);
    case 2:
      return sign | fraction; // subnormal
    case 3:
      return sign | fraction >> random() % fractionBits;
    case 4: // exact small numbers
      return sign | ((ones >> 1) + random() % 8) << fractionBits |
             (random() % 8) << (fractionBits - std::min(fractionBits, 3u));
    case 5: // near one
      return sign | ((ones >> 1) - 3 + random() % 6) << fractionBits | fraction;
    case 6: // the largest and the smallest
      return sign | (random() % 2 ? ones - 1 - random() % 3 : 1 + random() % 3) << fractionBits |
             fraction;
    default:
      return sign | (random() % ones) << fractionBits | fraction;
    }
  }
  uint32_t f32() { return uint32_t(floating(8, 23)); }
  uint64_t f64() { return floating(11, 52); }
  uint32_t f16() { return uint32_t(floating(5, 10)); }
  uint32_t bf16() { return uint32_t(floating(8, 7)); }
  std::mt19937_64 random;
};

} // namespace sgpu::scalar

#endif
