//===- Arithmetic.h - Sums of the tensor cores, bit by bit ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A tensor core does not add in f32. One step takes C and the exact products of
// up to `step` values of k, aligns all of them to the largest exponent, cuts
// each to `fractionBits` bits behind the point, adds exactly, and rounds once.
// Longer k are several steps, the result of one being the C of the next.
// Source: arXiv:2511.10909 and the PyPI package mmasim 2.1.1 (same rule).
//
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_TENSOR_ARITHMETIC_H
#define SGPU_MACHINE_TENSOR_ARITHMETIC_H

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace sgpu {

// Types of multiplicands and accumulators. Raw bits are in the low bits of a uint32_t (F64: of a
// uint64_t).
enum class TensorType : uint8_t { F16, BF16, TF32, E4M3, E5M2, F64, S8, U8, S4, U4, F32, S32 };

// Bits of one element. TF32 occupies 32 bits, of which the low 13 are ignored.
int bitsOf(TensorType);

// Which instruction computes; the FP8 units of wgmma keep fewer bits than those of mma.sync.
enum class TensorUnit : uint8_t { Mma, Wgmma };

// How one step adds.
struct SumRule {
  enum class Rounding : uint8_t { TowardZeroF32, TowardZeroE8M13, NearestEvenF16 };
  int fractionBits; // kept behind the point of the largest term
  int step;         // values of k of one step
  int zeroExponent; // exponent that a term equal to zero takes part with
  Rounding rounding;
};

// `sm` is 80, 86, 89, 90, ... ; `a` the type of A and B, `d` F32 or F16.
SumRule sumRuleFor(TensorUnit, int sm, TensorType a, TensorType d);

// A multiplicand, made ready once and used for many products: values exact in f32, element (line, k) at
// line * lineStride + k * kStride.
struct Multiplicand {
  int lines = 0, k = 0;
  int lineStride = 1, kStride = 0;
  int leastExponent = 0; // of the type: subnormal numbers keep it
  std::vector<float> value;

  // All elements are to be set afterwards, with one type. `byLine`: elements along k lie side by side,
  // else those along the lines.
  void resize(int newLines, int newK, bool byLine = false);
  // Sets line `line`, element `kIndex` from raw bits.
  void set(TensorType type, int line, int kIndex, uint32_t bits);
  // 16 bytes: elements side by side from (line, k) on, at byte `at`.
  struct Run {
    int line, k;
    uint32_t at;
  };
  // Sets runs from `bytes`: elements along the lines, or along k. `flip` is xored to the bits of each.
  void setRuns(TensorType type, bool alongLines, std::span<const Run> runs, const uint8_t *bytes,
               uint32_t flip);
  float at(int line, int kIndex) const { return value[line * lineStride + kIndex * kStride]; }
};

// acc[n][m] = acc[n][m] + sum over k of a[k][m] b[k][n], in the steps of `rule`, for floating-point
// types. `acc` holds F32 bits, or F16 bits in the low half if the rule rounds to F16. The lines of
// `a` (m) must be a multiple of 16, and lie side by side. NaN results are 0x7FFFFFFF (F16: 0x7FFF), -0 becomes +0.
void multiplyAdd(const SumRule &rule, const Multiplicand &a, const Multiplicand &b, uint32_t *acc);

// The same by the definition, one result at a time (tests compare; rare cases use it).
uint32_t sumOfProducts(const SumRule &rule, const Multiplicand &a, int m, const Multiplicand &b,
                       int n, uint32_t c);

// acc[n][m] += a[k][m] b[k][n] in 32-bit integers that wrap, or saturate once at the end.
void multiplyAddInteger(int m, int n, int k, const int32_t *a, const int32_t *b, int32_t *acc,
                        bool saturate);

// The value of F16, BF16, TF32, E4M3, E5M2 or F32 bits, exactly; and the nearest F16, BF16 or F32 (ties
// to even) of a value that has at most 53 bits. NaN is all ones but the sign.
float valueOf(TensorType type, uint32_t bits);
uint32_t roundedTo(TensorType type, double value);

// Sign- or zero-extends raw bits of S8, U8, S4, U4.
int32_t integerOf(TensorType type, uint32_t bits);

// f64: one fused multiply-add per k, k ascending.
void multiplyAddF64(int m, int n, int k, const double *a, const double *b, double *acc);

} // namespace sgpu

#endif
