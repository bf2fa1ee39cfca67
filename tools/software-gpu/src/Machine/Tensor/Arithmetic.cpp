//===- Arithmetic.cpp - Sums of the tensor cores, bit by bit ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The fast path computes a vector of results at once. It holds where the largest exponent of a sum
// is between -90 and 100: there a product in f32 is exact or too small to count, scaling by a power
// of two is exact, and truncation to an integer is the alignment of the rule. Two integer sums of
// at most 16 terms each cannot overflow 32 bits. All other sums, and NaN and infinity, take the
// slow path, which is the definition.
//
//===----------------------------------------------------------------------===//
#include "Machine/Tensor/Arithmetic.h"

#include "Support/Clones.h"
#include "Support/OfThread.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace sgpu {

int bitsOf(TensorType type) {
  switch (type) {
  case TensorType::F16:
  case TensorType::BF16:
    return 16;
  case TensorType::TF32:
  case TensorType::F32:
  case TensorType::S32:
    return 32;
  case TensorType::E4M3:
  case TensorType::E5M2:
  case TensorType::S8:
  case TensorType::U8:
    return 8;
  case TensorType::S4:
  case TensorType::U4:
    return 4;
  case TensorType::F64:
    return 64;
  }
  return 0;
}

SumRule sumRuleFor(TensorUnit unit, int sm, TensorType a, TensorType d) {
  bool toF16 = d == TensorType::F16, fp8 = a == TensorType::E4M3 || a == TensorType::E5M2;
  bool hopper = sm >= 90;
  SumRule rule;
  rule.fractionBits = hopper ? 25 : 24;
  rule.step = (hopper ? 32 : 16) / (bitsOf(a) / 8);
  rule.zeroExponent = toF16 ? (hopper ? -21 : -20) : (hopper ? -133 : -132);
  rule.rounding = toF16 ? SumRule::Rounding::NearestEvenF16 : SumRule::Rounding::TowardZeroF32;
  if (!fp8)
    return rule;
  if (sm == 89 || (hopper && unit == TensorUnit::Wgmma)) {
    rule.fractionBits = 13;
    if (!toF16)
      rule.rounding = SumRule::Rounding::TowardZeroE8M13;
  } else if (hopper) {
    rule.step = 16; // mma.sync of FP8 goes through f16 on Hopper: two steps
  }
  return rule;
}

namespace {

constexpr int zeroOperand = -2000; // exponent of an operand that is zero
constexpr int notANumber = 4000;   // exponent of an operand that is infinite or NaN
constexpr int smallestFast = -90, largestFast = 100;

// Layout of a small float: widths of exponent and fraction.
struct Format {
  int exponentBits, fractionBits;
  bool hasInfinity; // false: E4M3, whose only non-finite value is all ones
};

Format formatOf(TensorType type) {
  switch (type) {
  case TensorType::E4M3:
    return {4, 3, false};
  case TensorType::E5M2:
    return {5, 2, true};
  default: // F16; the 8-bit exponents are bits of f32
    return {5, 10, true};
  }
}

/// As the rule counts it. Without branches: this runs for every operand and every sum.
inline int32_t exponentOf(float value, int leastExponent) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  int field = static_cast<int>(bits >> 23 & 255);
  int exponent = std::max(field - 127, leastExponent);
  exponent = field == 255 ? notANumber : exponent;
  return (bits << 1) == 0 ? zeroOperand : exponent;
}

int leastExponentOf(TensorType type) {
  switch (type) {
  case TensorType::F16:
  case TensorType::E5M2:
    return -14;
  case TensorType::E4M3:
    return -6;
  default: // the 8-bit exponents of f32
    return -126;
  }
}

/// The value of bits, exactly. NaN stays NaN.
inline float valueOfBits(TensorType type, uint32_t bits) {
  if (type == TensorType::BF16)
    return std::bit_cast<float>(bits << 16);
  if (type == TensorType::TF32)
    return std::bit_cast<float>(bits & ~0x1fffu);
  if (type == TensorType::F32)
    return std::bit_cast<float>(bits);
  Format f = formatOf(type);
  uint32_t fraction = bits & ((1u << f.fractionBits) - 1);
  int all = (1 << f.exponentBits) - 1, bias = all / 2;
  int field = static_cast<int>(bits >> f.fractionBits) & all;
  float sign = (bits >> (f.exponentBits + f.fractionBits)) & 1 ? -1.f : 1.f;
  if (field == all && (f.hasInfinity || fraction == (1u << f.fractionBits) - 1))
    return f.hasInfinity && !fraction ? sign * INFINITY : NAN;
  if (!field && !fraction)
    return 0.f;
  int exponent = std::max(field, 1) - bias;
  float unit = std::bit_cast<float>(static_cast<uint32_t>(exponent - f.fractionBits + 127) << 23);
  return sign * static_cast<float>(fraction | (field ? 1u << f.fractionBits : 0)) * unit;
}

// value = sum * 2^(exponent), rounded as the rule says.
uint32_t roundSum(SumRule::Rounding rounding, int64_t sum, int exponent) {
  bool toF16 = rounding == SumRule::Rounding::NearestEvenF16;
  if (!sum)
    return 0;
  bool negative = sum < 0;
  uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(sum) : sum;
  int top = 63 - std::countl_zero(magnitude); // value in [2^(top+exponent), 2 * that)
  int minimum = toF16 ? -14 : -126, maximum = toF16 ? 15 : 127;
  int kept = toF16 ? 10 : 23;
  int fraction = rounding == SumRule::Rounding::TowardZeroE8M13 ? 13 : kept;
  int e = std::max(top + exponent, minimum);
  int drop = e - fraction - exponent; // low bits of the magnitude below the last kept place
  uint64_t significand;
  if (drop <= 0) {
    significand = magnitude << -drop;
  } else if (drop > 62) {
    significand = 0;
  } else {
    significand = magnitude >> drop;
    if (toF16) {
      uint64_t rest = magnitude & ((uint64_t(1) << drop) - 1), half = uint64_t(1) << (drop - 1);
      significand += rest > half || (rest == half && (significand & 1));
    }
  }
  significand <<= kept - fraction;
  if (!significand)
    return 0;
  if (significand >> (kept + 1))
    significand >>= 1, ++e;
  uint32_t sign = negative ? (toF16 ? 0x8000u : 0x80000000u) : 0;
  if (e > maximum)
    return sign | (toF16 ? 0x7c00u : 0x7f800000u);
  uint32_t field = significand >> kept ? static_cast<uint32_t>(e - minimum + 1) : 0;
  return sign | field << kept | (static_cast<uint32_t>(significand) & ((1u << kept) - 1));
}

// One step by the definition.
uint32_t stepByDefinition(const SumRule &rule, const Multiplicand &a, int m, const Multiplicand &b,
                          int n, int from, int to, uint32_t c) {
  bool toF16 = rule.rounding == SumRule::Rounding::NearestEvenF16;
  uint32_t nan = toF16 ? 0x7fffu : 0x7fffffffu;
  TensorType type = toF16 ? TensorType::F16 : TensorType::F32;
  float vc = valueOfBits(type, c);
  int ec = exponentOf(vc, leastExponentOf(type)),
      largest = ec == zeroOperand ? rule.zeroExponent : ec;
  bool isSpecial = ec == notANumber;
  float special = isSpecial ? vc : 0.f;
  for (int k = from; k < to; ++k) {
    float va = a.at(m, k), vb = b.at(n, k);
    int ea = exponentOf(va, a.leastExponent), eb = exponentOf(vb, b.leastExponent);
    if (ea == notANumber || eb == notANumber) {
      // Finite values only matter by being zero or not, and by sign.
      float x = ea == notANumber ? va : std::copysign(va != 0 ? 1.f : 0.f, va);
      float y = eb == notANumber ? vb : std::copysign(vb != 0 ? 1.f : 0.f, vb);
      special += x * y;
      isSpecial = true;
      continue;
    }
    largest =
        std::max(largest, ea == zeroOperand || eb == zeroOperand ? rule.zeroExponent : ea + eb);
  }
  if (isSpecial) {
    if (std::isnan(special))
      return nan;
    if (std::isinf(special))
      return toF16 ? (special < 0 ? 0xfc00u : 0x7c00u) : std::bit_cast<uint32_t>(special);
  }
  // trunc(value * 2^(fractionBits - largest)) in f64: values have at most 24 bits.
  double scale = rule.fractionBits - largest;
  int64_t sum = static_cast<int64_t>(std::ldexp(static_cast<double>(vc), static_cast<int>(scale)));
  for (int k = from; k < to; ++k) {
    double product = static_cast<double>(a.at(m, k)) * static_cast<double>(b.at(n, k));
    sum += static_cast<int64_t>(std::ldexp(product, static_cast<int>(scale)));
  }
  return roundSum(rule.rounding, sum, largest - rule.fractionBits);
}

// Vectors of `lanes` results; clang makes of them what the machine has.
constexpr int lanes = 16;
typedef float Floats __attribute__((vector_size(lanes * 4), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(lanes * 4), aligned(4)));
typedef int16_t Shorts __attribute__((vector_size(lanes * 2), aligned(2)));
typedef int64_t Longs __attribute__((vector_size(lanes * 8), aligned(4)));
typedef double Doubles __attribute__((vector_size(lanes * 8), aligned(4)));

SGPU_CLONES
void exponentsOf(const float *values, size_t count, int leastExponent, int16_t *exponents) {
  for (size_t i = 0; i < count; ++i)
    exponents[i] = static_cast<int16_t>(exponentOf(values[i], leastExponent));
}

// One step for all results. `cv` are the C as f32, which may lie where the results go. `slow` ([n][m], 0
// or 1) says which results the caller must compute by the definition; those are left unchanged. If
// `toF16`, the results are f32 rounded to odd (the last bit says whether anything was cut), which
// rounds to f16 as the exact sum does. Returns whether any result is slow.
// Exponents are 16-bit numbers, of which a vector unit takes twice as many at a time.
SGPU_CLONES
bool fastStep(int fractionBits, int zeroExponent, bool toF16, int resultBits, const float *av,
              const int16_t *ae, int m, const float *bv, const int16_t *be, int n, int bLine,
              int bK, int steps, const float *cv, int leastC, uint32_t *acc, uint8_t *slow) {
  const int64_t low = (int64_t(1) << (52 - resultBits)) - 1;
  Ints all = ~Ints{};
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < m; i += lanes) {
      const Floats c = *reinterpret_cast<const Floats *>(cv + j * m + i);
      Ints field = ((Ints)c >> 23) & 255; // exponentOf
      Ints ec = __builtin_elementwise_max(field - 127, Ints{} + leastC);
      ec = field == 255 ? Ints{} + notANumber : ec;
      ec = ((Ints)c << 1) == 0 ? Ints{} + zeroOperand : ec;
      Shorts most = __builtin_convertvector(ec, Shorts), fewest = most;
      for (int k = 0; k < steps; ++k) {
        Shorts e = *reinterpret_cast<const Shorts *>(ae + k * m + i) + be[k * bK + j * bLine];
        most = __builtin_elementwise_max(most, e);
        if (toF16)
          fewest = __builtin_elementwise_min(fewest, e);
      }
      Ints largest = __builtin_convertvector(most, Ints);
      Ints least = __builtin_convertvector(fewest, Ints);
      Ints withZero = __builtin_elementwise_max(largest, Ints{} + zeroExponent);
      Ints top = toF16 ? ((least < zeroOperand / 2) ? withZero : largest) : withZero;
      Ints isFast = (top >= smallestFast) & (top <= largestFast);
      Ints power = top & isFast;
      Floats scale = (Floats)(((fractionBits - power + 127) << 23) & isFast);
      // Lanes that are not fast multiply by zero; NaN there is never looked at.
      Ints even = __builtin_convertvector(c * scale, Ints);
      Ints odd = {};
      int k = 0;
      for (; k + 1 < steps; k += 2) {
        Floats p0 =
            *reinterpret_cast<const Floats *>(av + k * m + i) * bv[k * bK + j * bLine] * scale;
        Floats p1 = *reinterpret_cast<const Floats *>(av + (k + 1) * m + i) *
                    bv[(k + 1) * bK + j * bLine] * scale;
        even += __builtin_convertvector(p0, Ints);
        odd += __builtin_convertvector(p1, Ints);
      }
      if (k < steps)
        odd += __builtin_convertvector(*reinterpret_cast<const Floats *>(av + k * m + i) *
                                           bv[k * bK + j * bLine] * scale,
                                       Ints);
      Doubles sum = __builtin_convertvector(even, Doubles) + __builtin_convertvector(odd, Doubles);
      sum *= (Doubles)(__builtin_convertvector(power - fractionBits + 1023, Longs) << 52);
      // Toward zero: what the result has no place for is cleared, so that the conversion is exact.
      Longs bits = (Longs)sum, cut = bits & ~low;
      if (toF16)
        cut |= ((bits & low) != 0) & (low + 1);
      Ints rounded = (Ints) __builtin_convertvector((Doubles)cut, Floats);
      Ints *result = reinterpret_cast<Ints *>(acc + j * m + i);
      *result = isFast ? rounded : *result;
      all &= isFast;
      for (int l = 0; l < lanes; ++l)
        slow[j * m + i + l] = isFast[l] == 0;
    }
  }
  bool any = false;
  for (int l = 0; l < lanes; ++l)
    any |= all[l] == 0;
  return any;
}

// An f32 that is not a NaN, rounded to the nearest f16.
uint32_t halfOf(uint32_t bits) {
  int field = static_cast<int>(bits >> 23 & 255);
  int64_t significand = (bits & 0x7fffff) | (field ? 0x800000 : 0);
  return roundSum(SumRule::Rounding::NearestEvenF16, bits >> 31 ? -significand : significand,
                  std::max(field, 1) - 150);
}

} // namespace

void Multiplicand::resize(int newLines, int newK, bool byLine) {
  lines = newLines, k = newK;
  lineStride = byLine ? k : 1, kStride = byLine ? 1 : lines;
  value.resize(static_cast<size_t>(lines) * k);
}

void Multiplicand::set(TensorType type, int line, int kIndex, uint32_t bits) {
  leastExponent = leastExponentOf(type);
  value[line * lineStride + kIndex * kStride] = valueOfBits(type, bits);
}

void Multiplicand::setRuns(TensorType type, bool alongLines, std::span<const Run> runs,
                           const uint8_t *bytes, uint32_t flip) {
  leastExponent = leastExponentOf(type);
  const int step = alongLines ? lineStride : kStride;
  auto each = [&](auto word, auto valueOfOne) {
    constexpr int count = 16 / sizeof word;
    for (const Run &r : runs) {
      float *to = &value[r.line * lineStride + r.k * kStride], values[count];
      for (int i = 0; i < count; ++i) {
        std::memcpy(&word, bytes + r.at + i * sizeof word, sizeof word);
        values[i] = valueOfOne(word ^ flip);
      }
      if (step == 1)
        std::memcpy(to, values, sizeof values);
      else
        for (int i = 0; i < count; ++i)
          to[i * step] = values[i];
    }
  };
  switch (type) {
  case TensorType::BF16: // each type with code of its own
    return each(uint16_t(), [](uint32_t bits) { return valueOfBits(TensorType::BF16, bits); });
  case TensorType::TF32:
    return each(uint32_t(), [](uint32_t bits) { return valueOfBits(TensorType::TF32, bits); });
  case TensorType::F16:
    return each(uint16_t(), [](uint32_t bits) { return valueOfBits(TensorType::F16, bits); });
  case TensorType::E4M3:
    return each(uint8_t(), [](uint32_t bits) { return valueOfBits(TensorType::E4M3, bits); });
  case TensorType::E5M2:
    return each(uint8_t(), [](uint32_t bits) { return valueOfBits(TensorType::E5M2, bits); });
  default: // integers and f64 are no multiplicands of this kind
    return;
  }
}

uint32_t sumOfProducts(const SumRule &rule, const Multiplicand &a, int m, const Multiplicand &b,
                       int n, uint32_t c) {
  for (int k = 0; k < a.k; k += rule.step)
    c = stepByDefinition(rule, a, m, b, n, k, std::min(a.k, k + rule.step), c);
  return c;
}

void multiplyAdd(const SumRule &rule, const Multiplicand &a, const Multiplicand &b, uint32_t *acc) {
  bool toF16 = rule.rounding == SumRule::Rounding::NearestEvenF16;
  bool toE8M13 = rule.rounding == SumRule::Rounding::TowardZeroE8M13;
  int m = a.lines, n = b.lines, count = m * n;
  // Reused between calls: a wgmma makes up to 16384 results.
  struct Buffers {
    std::vector<float> halves;
    std::vector<int16_t> ae, be;
    std::vector<uint32_t> before;
    std::vector<uint8_t> slow;
  };
  auto &[halves, ae, be, before, slow] = ofThread<Buffers>();
  slow.resize(count);
  ae.resize(a.value.size()), be.resize(b.value.size());
  exponentsOf(a.value.data(), ae.size(), a.leastExponent, ae.data());
  exponentsOf(b.value.data(), be.size(), b.leastExponent, be.data());
  for (int from = 0; from < a.k; from += rule.step) {
    int to = std::min(a.k, from + rule.step);
    if (toF16) {
      before.assign(acc, acc + count);
      halves.resize(count);
      for (int i = 0; i < count; ++i)
        halves[i] = valueOfBits(TensorType::F16, acc[i]);
    }
    const float *c = toF16 ? halves.data() : reinterpret_cast<const float *>(acc);
    bool any =
        fastStep(rule.fractionBits, rule.zeroExponent, toF16, toE8M13 ? 13 : 23, &a.value[from * m],
                 &ae[from * m], m, &b.value[from * b.kStride], &be[from * b.kStride], n,
                 b.lineStride, b.kStride, to - from, c,
                 leastExponentOf(toF16 ? TensorType::F16 : TensorType::F32), acc, slow.data());
    for (int i = 0; i < count && (any || toF16); ++i) {
      if (slow[i])
        acc[i] = stepByDefinition(rule, a, i % m, b, i / m, from, to, toF16 ? before[i] : acc[i]);
      else if (toF16)
        acc[i] = halfOf(acc[i]);
    }
  }
}

void multiplyAddInteger(int m, int n, int k, const int32_t *a, const int32_t *b, int32_t *acc,
                        bool saturate) {
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < m; ++i) {
      int64_t sum = acc[j * m + i];
      for (int l = 0; l < k; ++l)
        sum += int64_t(a[l * m + i]) * b[l * n + j];
      if (saturate)
        sum = std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX);
      acc[j * m + i] = static_cast<int32_t>(sum);
    }
}

float valueOf(TensorType type, uint32_t bits) { return valueOfBits(type, bits); }

uint32_t roundedTo(TensorType type, double value) {
  if (type == TensorType::F32)
    return std::bit_cast<uint32_t>(static_cast<float>(value));
  bool f16 = type == TensorType::F16;
  int kept = f16 ? 10 : 7, minimum = f16 ? -14 : -126, maximum = f16 ? 15 : 127;
  uint32_t sign = std::signbit(value) ? 0x8000 : 0, infinity = f16 ? 0x7c00 : 0x7f80;
  if (std::isnan(value))
    return 0x7fff;
  if (std::isinf(value))
    return sign | infinity;
  double magnitude = std::fabs(value);
  if (magnitude == 0)
    return sign;
  int e = std::max(std::ilogb(magnitude), minimum);
  // nearbyint rounds to even in the default mode.
  double significand = std::nearbyint(std::ldexp(magnitude, kept - e));
  if (significand >= std::ldexp(2, kept))
    significand /= 2, ++e;
  if (e > maximum)
    return sign | infinity;
  uint32_t bits = static_cast<uint32_t>(significand);
  uint32_t field = bits >> kept ? static_cast<uint32_t>(e - minimum + 1) : 0;
  return sign | field << kept | (bits & ((1u << kept) - 1));
}

int32_t integerOf(TensorType type, uint32_t bits) {
  switch (type) {
  case TensorType::S8:
    return static_cast<int8_t>(bits);
  case TensorType::U8:
    return bits & 255;
  case TensorType::S4:
    return static_cast<int32_t>(bits << 28) >> 28;
  case TensorType::U4:
    return bits & 15;
  default:
    return static_cast<int32_t>(bits);
  }
}

void multiplyAddF64(int m, int n, int k, const double *a, const double *b, double *acc) {
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < m; ++i)
      for (int l = 0; l < k; ++l)
        acc[j * m + i] = std::fma(a[l * m + i], b[l * n + j], acc[j * m + i]);
}

} // namespace sgpu
