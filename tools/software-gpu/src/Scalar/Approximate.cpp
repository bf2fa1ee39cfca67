//===- Approximate.cpp - ex2, lg2, sin, cos, tanh, rcp, rsqrt, sqrt, div ----===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ISA gives bounds for these, not bits. They are computed in f64 and rounded once, so that results
// are within half a unit of the last place or a hair more: inside every bound. Only operations that
// IEEE 754 defines exactly are used (but for sin and cos), so that all hosts give the same bits.
// Source: PTX ISA 9.0, sections 9.7.3.8 to 9.7.3.22, 9.7.4.
//===----------------------------------------------------------------------===//
#include "Scalar/Float.h"
#include "Scalar/Rows.h"

#include <cmath>

using namespace sgpu::scalar;
using sgpu::ptx::Modifier;
using sgpu::ptx::Opcode;
using sgpu::ptx::Type;

namespace {

constexpr double infinity = __builtin_inf();

/// 2^x to about 1e-13; x is a float or shorter.
double exp2Of(double x) {
  if (!(x > -1100))
    return x != x ? x : 0;
  if (x > 1100)
    return infinity;
  double whole = std::nearbyint(x);
  double t = (x - whole) * 0.69314718055994530942; // |t| <= 0.3466
  static constexpr double terms[] = {1.0 / 479001600,
                                     1.0 / 39916800,
                                     1.0 / 3628800,
                                     1.0 / 362880,
                                     1.0 / 40320,
                                     1.0 / 5040,
                                     1.0 / 720,
                                     1.0 / 120,
                                     1.0 / 24,
                                     1.0 / 6,
                                     0.5,
                                     1,
                                     1}; // 1 / 12! to 1 / 0!
  double sum = 0;
  for (double term : terms)
    sum = sum * t + term;
  return std::ldexp(sum, int(whole));
}
double log2Of(double x) {
  if (x == 0)
    return -infinity;
  if (!(x > 0) || x == infinity)
    return x > 0 ? x : __builtin_nan("");
  int exponent;
  double m = std::frexp(x, &exponent); // [0.5, 1)
  if (m < 0.70710678118654752440) {
    m *= 2;
    --exponent;
  }
  double s = (m - 1) / (m + 1), square = s * s, sum = 0;
  for (int i = 21; i >= 1; i -= 2)
    sum = sum * square + 1.0 / i;
  return exponent + sum * s * 2.88539008177792681472; // 2 / ln 2
}
double tanhOf(double x) {
  double magnitude = std::fabs(x);
  if (magnitude < 1e-4)
    return x * (1 - x * x / 3);
  if (magnitude > 20)
    return std::copysign(1.0, x);
  double e = exp2Of(-2 * magnitude * 1.44269504088896340736);
  return x != x ? x : std::copysign((1 - e) / (1 + e), x);
}
double rsqrtOf(double x) { return x == 0 ? std::copysign(infinity, x) : 1 / std::sqrt(x); }
double rcpOf(double x) { return 1 / x; }
double sqrtOf(double x) { return std::sqrt(x); }
double sinOf(double x) { return x == 0 ? x : std::sin(x); }
double cosOf(double x) { return std::cos(x); }

float flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
uint32_t bitsOf(float x) { return x != x ? 0x7fffffff : std::bit_cast<uint32_t>(x); }

/// control 1: .ftz
template <double (*F)(double)> uint32_t single(float a, Control ftz) {
  if (ftz.value)
    return bitsOf(flush(float(F(flush(a)))));
  return bitsOf(float(F(a)));
}
double fromShort(uint16_t bits, Format format) {
  return std::bit_cast<double>(convert(bits, format, formatF64, Rounding::Nearest));
}
template <double (*F)(double), Format f> uint16_t shortFloat(uint16_t a, Control ftz) {
  // f64 to 16 bits in one step.
  uint64_t bits =
      convert(std::bit_cast<uint64_t>(F(fromShort(a, f))), formatF64, f, Rounding::Nearest);
  if (ftz.value) { // bf16 only
    uint64_t exponent = uint64_t(f.maxField()) << f.fractionBits;
    if (!(a & exponent))
      bits = convert(std::bit_cast<uint64_t>(F(a & f.signMask() ? -0.0 : 0.0)), formatF64, f,
                     Rounding::Nearest);
    if (!(bits & exponent))
      bits &= f.signMask();
  }
  return uint16_t(bits);
}
template <double (*F)(double), Format f> uint32_t shortPair(uint32_t a, Control ftz) {
  return shortFloat<F, f>(uint16_t(a), ftz) | uint32_t(shortFloat<F, f>(uint16_t(a >> 16), ftz))
                                                  << 16;
}

uint32_t divideApproximate(float a, float b, Control ftz) {
  if (ftz.value) {
    a = flush(a);
    b = flush(b);
  }
  float magnitude = std::fabs(b), result = float(double(a) / double(b));
  if (magnitude > 0x1p126f && magnitude < infinity && a == a) // 1 / b is flushed to zero
    result = std::isinf(a) ? __builtin_nanf("") : std::signbit(a) != std::signbit(b) ? -0.0f : 0.0f;
  return bitsOf(ftz.value ? flush(result) : result);
}
uint32_t divideFull(float a, float b, Control ftz) {
  if (ftz.value)
    return bitsOf(flush(float(double(flush(a)) / double(flush(b)))));
  return bitsOf(float(double(a) / double(b)));
}

/// The upper 32 bits of an f64, subnormals flushed; the result likewise.
template <double (*F)(double)> uint64_t upperHalf(uint64_t a) {
  uint64_t x = a & 0xffffffff00000000;
  if (isNaN(a, formatF64) || isNaN(x, formatF64))
    return 0x7fffffff00000000;
  if (!(x & 0x7ff0000000000000))
    x &= 0x8000000000000000;
  uint64_t bits = std::bit_cast<uint64_t>(F(std::bit_cast<double>(x)));
  if (isNaN(bits, formatF64))
    return 0x7fffffff00000000;
  if (!(bits & 0x7ff0000000000000))
    return bits & 0x8000000000000000;
  return bits & 0xffffffff00000000;
}
uint64_t rsqrt64(double a) {
  double result = rsqrtOf(a);
  return result == result ? std::bit_cast<uint64_t>(result)
                          : nanOf(formatF64, {std::bit_cast<uint64_t>(a)});
}

template <double (*F)(double)> RowFunction choose(Type type) {
  switch (type) {
  case Type::F32:
    return rows<single<F>>();
  case Type::F16:
    return rows<shortFloat<F, formatF16>>();
  case Type::BF16:
    return rows<shortFloat<F, formatBF16>>();
  case Type::F16x2:
    return rows<shortPair<F, formatF16>>();
  case Type::BF16x2:
    return rows<shortPair<F, formatBF16>>();
  default:
    return nullptr;
  }
}

} // namespace

void sgpu::scalar::findApproximate(Builder &b) {
  const sgpu::ptx::Instruction &in = b.in;
  Type t = in.type();
  uint32_t ftz = in.has(Modifier::Ftz);
  auto unary = [&](RowFunction f) { b.run(f, ftz).to(t).from(t); };
  switch (in.opcode) {
  case Opcode::Ex2:
    return unary(choose<exp2Of>(t));
  case Opcode::Lg2:
    return unary(choose<log2Of>(t));
  case Opcode::Tanh:
    return unary(choose<tanhOf>(t));
  case Opcode::Sin:
    return unary(choose<sinOf>(t));
  case Opcode::Cos:
    return unary(choose<cosOf>(t));
  case Opcode::Rsqrt:
    if (t == Type::F64)
      return unary(ftz ? rows<upperHalf<rsqrtOf>>() : rows<rsqrt64>());
    return unary(choose<rsqrtOf>(t));
  case Opcode::Rcp:
    if (in.has(Modifier::Approx))
      unary(t == Type::F64 ? rows<upperHalf<rcpOf>>() : choose<rcpOf>(t));
    return;
  case Opcode::Sqrt:
    if (in.has(Modifier::Approx))
      unary(choose<sqrtOf>(t));
    return;
  case Opcode::Div:
    if (in.has(Modifier::Approx))
      b.run(rows<divideApproximate>(), ftz).to(t).from(t).from(t);
    else if (in.has(Modifier::Full))
      b.run(rows<divideFull>(), ftz).to(t).from(t).from(t);
    return;
  default:
    return;
  }
}
