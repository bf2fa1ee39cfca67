//===- Floating.cpp - Floating-point arithmetic ------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rounding to nearest in f32 and f64 is done by the host's instructions, everything else by the exact
// arithmetic of Float.h. NaN results are canonical (0x7fffffff, 0x7fff); in f64 the first NaN operand
// made quiet. Source: PTX ISA 9.0, sections 9.7.3, 9.7.4.
//===----------------------------------------------------------------------===//
#include "Scalar/Float.h"
#include "Scalar/Rows.h"

using namespace sgpu::scalar;
using sgpu::ptx::Modifier;
using sgpu::ptx::Opcode;
using sgpu::ptx::Type;

namespace {

/// Bits of the control word.
enum Flags : uint32_t {
  RoundingMask = 7,
  Ftz = 8,
  Sat = 16,
  Relu = 32,
  NaNs = 64, ///< .NaN of min and max
  XorsignAbs = 128,
  Negate = 256, ///< subtraction
  IsMax = 512,
};

//===----------------------------------------------------------------------===//
// Fast paths: f32 and f64, to nearest
//===----------------------------------------------------------------------===//

constexpr uint32_t nan32 = 0x7fffffff;

template <bool ftz> float flush(float x) {
  if constexpr (!ftz)
    return x;
  uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>(bits & 0x7f800000 ? bits : bits & 0x80000000);
}
template <bool ftz, bool sat> uint32_t finish(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(flush<ftz>(x));
  if constexpr (sat) // NaN becomes zero
    return x > 0 ? (x < 1 ? bits : 0x3f800000u) : 0u;
  return x != x ? nan32 : bits;
}
template <bool ftz, bool sat> uint32_t add32(float a, float b) {
  return finish<ftz, sat>(flush<ftz>(a) + flush<ftz>(b));
}
template <bool ftz, bool sat> uint32_t subtract32(float a, float b) {
  return finish<ftz, sat>(flush<ftz>(a) - flush<ftz>(b));
}
template <bool ftz, bool sat> uint32_t multiply32(float a, float b) {
  return finish<ftz, sat>(flush<ftz>(a) * flush<ftz>(b));
}
template <bool ftz, bool sat> uint32_t fma32(float a, float b, float c) {
  return finish<ftz, sat>(__builtin_fmaf(flush<ftz>(a), flush<ftz>(b), flush<ftz>(c)));
}
uint32_t divide32(float a, float b) { return finish<false, false>(a / b); }
uint32_t divide32Ftz(float a, float b) {
  return finish<true, false>(flush<true>(a) / flush<true>(b));
}

uint64_t finish64(double result, double a, double b, double c) {
  auto quiet = [](double x) { return quietF64(std::bit_cast<uint64_t>(x)); };
  return result == result ? std::bit_cast<uint64_t>(result)
         : a != a         ? quiet(a)
         : b != b         ? quiet(b)
         : c != c         ? quiet(c)
                          : invalidF64;
}
uint64_t add64(double a, double b) { return finish64(a + b, a, b, 0); }
uint64_t subtract64(double a, double b) { return finish64(a - b, a, b, 0); }
uint64_t multiply64(double a, double b) { return finish64(a * b, a, b, 0); }
uint64_t fma64(double a, double b, double c) { return finish64(__builtin_fma(a, b, c), a, b, c); }
uint64_t divide64(double a, double b) { return finish64(a / b, a, b, 0); }

/// min and max without modifiers: a number wins over NaN, -0 is less than +0.
template <bool isMax, bool ftz> uint32_t minMax32(float a, float b) {
  a = flush<ftz>(a);
  b = flush<ftz>(b);
  uint32_t x = std::bit_cast<uint32_t>(a), y = std::bit_cast<uint32_t>(b);
  uint32_t equal = isMax ? x & y : x | y; // differ only if zeros of both signs
  bool first = isMax ? a > b : a < b;
  uint32_t result = a == b ? equal : first ? x : y;
  result = a != a ? y : result;
  result = b != b ? (a != a ? nan32 : x) : result;
  return result;
}

//===----------------------------------------------------------------------===//
// Exact paths, every format and rounding
//===----------------------------------------------------------------------===//

template <Format f>
using Bits = std::conditional_t<f.fractionBits == 52, uint64_t,
                                std::conditional_t<f.fractionBits == 23, uint32_t, uint16_t>>;

template <Format f> uint64_t flushBits(uint64_t bits, uint32_t control) {
  uint64_t exponent = uint64_t(f.maxField()) << f.fractionBits;
  return (control & Ftz) && !(bits & exponent) ? bits & f.signMask() : bits;
}
template <Format f> Bits<f> finishBits(uint64_t bits, uint32_t control) {
  bits = flushBits<f>(bits, control);
  bool isNan = isNaN(bits, f);
  bool sign = bits & f.signMask();
  if (control & Sat) {
    uint64_t one = uint64_t(f.bias()) << f.fractionBits;
    return Bits<f>(isNan || sign ? 0 : std::min(bits, one));
  }
  if ((control & Relu) && sign && !isNan)
    return 0;
  return Bits<f>(bits);
}
template <Format f> Bits<f> addExact(Bits<f> a, Bits<f> b, Control control) {
  uint64_t x = flushBits<f>(a, control.value), y = flushBits<f>(b, control.value);
  if ((control.value & Negate) && !isNaN(y, f))
    y ^= f.signMask();
  uint64_t one = uint64_t(f.bias()) << f.fractionBits;
  return finishBits<f>(
      multiplyAdd<WideFor<f.fractionBits>>(f, x, one, y, Rounding(control.value & RoundingMask), f),
      control.value);
}
template <Format f> Bits<f> multiplyExact(Bits<f> a, Bits<f> b, Control control) {
  uint64_t x = flushBits<f>(a, control.value), y = flushBits<f>(b, control.value);
  uint64_t zero = (x ^ y) & f.signMask();
  return finishBits<f>(multiplyAdd<WideFor<f.fractionBits>>(
                           f, x, y, zero, Rounding(control.value & RoundingMask), f),
                       control.value);
}
template <Format f> Bits<f> fmaExact(Bits<f> a, Bits<f> b, Bits<f> c, Control control) {
  return finishBits<f>(multiplyAdd<WideFor<f.fractionBits>>(
                           f, flushBits<f>(a, control.value), flushBits<f>(b, control.value),
                           flushBits<f>(c, control.value), Rounding(control.value & RoundingMask),
                           f),
                       control.value);
}
template <Format f> Bits<f> divideExact(Bits<f> a, Bits<f> b, Control control) {
  return finishBits<f>(divide<WideFor<f.fractionBits>>(f, flushBits<f>(a, control.value),
                                                       flushBits<f>(b, control.value),
                                                       Rounding(control.value & RoundingMask)),
                       control.value);
}
template <Format f> Bits<f> reciprocalExact(Bits<f> a, Control control) {
  return divideExact<f>(Bits<f>(uint64_t(f.bias()) << f.fractionBits), a, control);
}
template <Format f> Bits<f> squareRootExact(Bits<f> a, Control control) {
  return finishBits<f>(squareRoot<WideFor<f.fractionBits>>(f, flushBits<f>(a, control.value),
                                                           Rounding(control.value & RoundingMask)),
                       control.value);
}
template <Format f> Bits<f> minMaxExact(Bits<f> a, Bits<f> b, Control control) {
  uint64_t x = flushBits<f>(a, control.value), y = flushBits<f>(b, control.value);
  uint64_t sign = 0;
  bool xNan = isNaN(x, f), yNan = isNaN(y, f);
  if (control.value & XorsignAbs) {
    sign = (x ^ y) & f.signMask();
    x &= ~f.signMask();
    y &= ~f.signMask();
  }
  if ((xNan && yNan) || ((control.value & NaNs) && (xNan || yNan)))
    return Bits<f>(nanOf(f, {x, y}));
  uint64_t result;
  if (xNan || yNan) {
    result = xNan ? y : x;
  } else {
    // The order of bits is that of values once negative numbers are turned round.
    auto key = [](uint64_t bits) { return bits & f.signMask() ? ~bits : bits | f.signMask(); };
    uint64_t mask = f.signMask() | (f.signMask() - 1);
    bool less = (key(x) & mask) < (key(y) & mask);
    result = (control.value & IsMax) ? (less ? y : x) : (less ? x : y);
  }
  return Bits<f>(result | sign);
}
template <Format f> Bits<f> absolute(Bits<f> a, Control control) {
  uint64_t bits = flushBits<f>(a, control.value);
  if (isNaN(bits, f) && f.fractionBits != 52)
    return Bits<f>(f.nan());
  return Bits<f>(bits & ~f.signMask());
}
template <Format f> Bits<f> negate(Bits<f> a, Control control) {
  uint64_t bits = flushBits<f>(a, control.value);
  if (isNaN(bits, f) && f.fractionBits != 52)
    return Bits<f>(f.nan());
  return Bits<f>(bits ^ f.signMask());
}
template <bool ftz> uint32_t absolute32(float a) {
  return a != a ? nan32 : std::bit_cast<uint32_t>(flush<ftz>(a)) & 0x7fffffff;
}
template <bool ftz> uint32_t negate32(float a) {
  return a != a ? nan32 : std::bit_cast<uint32_t>(flush<ftz>(a)) ^ 0x80000000;
}

// The same on both halves.
template <auto F> uint32_t halves1(uint32_t a, Control c) {
  return F(uint16_t(a), c) | uint32_t(F(uint16_t(a >> 16), c)) << 16;
}
template <auto F> uint32_t halves2(uint32_t a, uint32_t b, Control c) {
  return F(uint16_t(a), uint16_t(b), c) | uint32_t(F(uint16_t(a >> 16), uint16_t(b >> 16), c))
                                              << 16;
}
template <auto F> uint32_t halves3(uint32_t a, uint32_t b, uint32_t d, Control c) {
  return F(uint16_t(a), uint16_t(b), uint16_t(d), c) |
         uint32_t(F(uint16_t(a >> 16), uint16_t(b >> 16), uint16_t(d >> 16), c)) << 16;
}

template <typename T> T copySign(T a, T b) {
  constexpr T sign = T(1) << (sizeof(T) * 8 - 1);
  return (a & sign) | (b & ~sign);
}
/// control: the property, in the order of the modifiers of testp.
template <Format f> bool test(Bits<f> a, Control property) {
  uint64_t magnitude = a & ~f.signMask();
  uint64_t infinity = f.infinity(), normal = f.one();
  switch (property.value) {
  case 0:
    return magnitude < infinity;
  case 1:
    return magnitude == infinity;
  case 2:
    return magnitude <= infinity;
  case 3:
    return magnitude > infinity;
  case 4:
    return magnitude < infinity && (magnitude >= normal || magnitude == 0);
  default:
    return magnitude < normal && magnitude != 0;
  }
}

} // namespace

void sgpu::scalar::findFloating(Builder &b) {
  const sgpu::ptx::Instruction &in = b.in;
  Type t = in.type();
  if (sgpu::ptx::kindOf(t) != sgpu::ptx::TypeKind::Float || in.types.size() != 1 ||
      in.has(Modifier::Oob) || t == Type::F32x2)
    return;
  uint32_t control = uint32_t(in.has(Modifier::Rz)   ? Rounding::Zero
                              : in.has(Modifier::Rm) ? Rounding::Down
                              : in.has(Modifier::Rp) ? Rounding::Up
                                                     : Rounding::Nearest);
  bool nearest = control == 0, ftz = in.has(Modifier::Ftz), sat = in.has(Modifier::Sat);
  control |= (ftz ? Ftz : 0) | (sat ? Sat : 0) | (in.has(Modifier::Relu) ? Relu : 0) |
             (in.has(Modifier::PropagateNaN) ? NaNs : 0) |
             (in.has(Modifier::XorsignAbs) ? XorsignAbs : 0);
  auto same = [&](RowFunction f, unsigned sources) {
    b.run(f, control).to(t);
    for (unsigned i = 0; i < sources; ++i)
      b.from(t);
  };
#define CHOOSE(exact, halvesOf)                                                                    \
  (t == Type::F32      ? rows<exact<formatF32>>()                                                  \
   : t == Type::F64    ? rows<exact<formatF64>>()                                                  \
   : t == Type::F16    ? rows<exact<formatF16>>()                                                  \
   : t == Type::BF16   ? rows<exact<formatBF16>>()                                                 \
   : t == Type::F16x2  ? rows<halvesOf<exact<formatF16>>>()                                        \
   : t == Type::BF16x2 ? rows<halvesOf<exact<formatBF16>>>()                                       \
                       : nullptr)
#define CHOOSE32(function)                                                                         \
  (ftz ? (sat ? cheapRows<function<true, true>>() : cheapRows<function<true, false>>())            \
       : (sat ? cheapRows<function<false, true>>() : cheapRows<function<false, false>>()))
  switch (in.opcode) {
  case Opcode::Add:
  case Opcode::Sub: {
    bool isSub = in.opcode == Opcode::Sub;
    if (nearest && t == Type::F32)
      return same(isSub ? CHOOSE32(subtract32) : CHOOSE32(add32), 2);
    if (nearest && t == Type::F64)
      return same(isSub ? cheapRows<subtract64>() : cheapRows<add64>(), 2);
    control |= isSub ? Negate : 0;
    return same(CHOOSE(addExact, halves2), 2);
  }
  case Opcode::Mul:
    if (nearest && t == Type::F32)
      return same(CHOOSE32(multiply32), 2);
    if (nearest && t == Type::F64)
      return same(cheapRows<multiply64>(), 2);
    return same(CHOOSE(multiplyExact, halves2), 2);
  case Opcode::Mad:
  case Opcode::Fma:
    if (nearest && t == Type::F32)
      return same(CHOOSE32(fma32), 3);
    if (nearest && t == Type::F64)
      return same(cheapRows<fma64>(), 3);
    return same(CHOOSE(fmaExact, halves3), 3);
  case Opcode::Div:
    if (in.has(Modifier::Approx) || in.has(Modifier::Full))
      return;
    if (nearest && t == Type::F32)
      return same(ftz ? cheapRows<divide32Ftz>() : cheapRows<divide32>(), 2);
    if (nearest && t == Type::F64)
      return same(cheapRows<divide64>(), 2);
    return same(t == Type::F32 ? rows<divideExact<formatF32>>() : rows<divideExact<formatF64>>(),
                2);
  case Opcode::Rcp:
    if (!in.has(Modifier::Approx))
      same(t == Type::F32 ? rows<reciprocalExact<formatF32>>() : rows<reciprocalExact<formatF64>>(),
           1);
    return;
  case Opcode::Sqrt:
    if (!in.has(Modifier::Approx))
      same(t == Type::F32 ? rows<squareRootExact<formatF32>>() : rows<squareRootExact<formatF64>>(),
           1);
    return;
  case Opcode::Min:
  case Opcode::Max: {
    bool isMax = in.opcode == Opcode::Max;
    if (in.operands.size() != 3)
      return;
    if (t == Type::F32 && !in.has(Modifier::PropagateNaN) && !in.has(Modifier::XorsignAbs))
      return same(
          isMax ? (ftz ? cheapRows<minMax32<true, true>>() : cheapRows<minMax32<true, false>>())
                : (ftz ? cheapRows<minMax32<false, true>>() : cheapRows<minMax32<false, false>>()),
          2);
    control |= isMax ? IsMax : 0;
    return same(CHOOSE(minMaxExact, halves2), 2);
  }
  case Opcode::Abs:
    if (t == Type::F32)
      return same(ftz ? cheapRows<absolute32<true>>() : cheapRows<absolute32<false>>(), 1);
    return same(CHOOSE(absolute, halves1), 1);
  case Opcode::Neg:
    if (t == Type::F32)
      return same(ftz ? cheapRows<negate32<true>>() : cheapRows<negate32<false>>(), 1);
    return same(CHOOSE(negate, halves1), 1);
  case Opcode::Copysign:
    return same(t == Type::F64 ? cheapRows<copySign<uint64_t>>() : cheapRows<copySign<uint32_t>>(),
                2);
  case Opcode::Testp: {
    static constexpr Modifier properties[] = {Modifier::Finite, Modifier::Infinite,
                                              Modifier::Number, Modifier::Notanumber,
                                              Modifier::Normal, Modifier::Subnormal};
    uint32_t property = 0;
    while (!in.has(properties[property]))
      ++property;
    b.run(t == Type::F64 ? rows<test<formatF64>>() : rows<test<formatF32>>(), property)
        .to(Type::Pred)
        .from(t);
    return;
  }
  default:
    return;
  }
#undef CHOOSE
#undef CHOOSE32
}
