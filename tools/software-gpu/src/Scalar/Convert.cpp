//===- Convert.cpp - cvt, cvt.pack ---------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One function converts a value of any type to any other; the pairs that kernels use all the time have
// a function of their own with the same results. Source: PTX ISA 9.0, section 9.7.9.21.
//===----------------------------------------------------------------------===//
#include "Scalar/Float.h"
#include "Scalar/Rows.h"

using namespace sgpu::scalar;
using sgpu::ptx::bitsOf;
using sgpu::ptx::kindOf;
using sgpu::ptx::Modifier;
using sgpu::ptx::Opcode;
using sgpu::ptx::Type;
using sgpu::ptx::TypeKind;

namespace {

/// What the control word holds.
struct Conversion {
  Type to, from;
  Rounding rounding;
  bool toInteger; ///< .rni and the like
  bool ftz, sat, satfinite, relu;
  uint32_t registerBits; ///< of the destination

  uint32_t pack() const {
    return uint32_t(to) | uint32_t(from) << 6 | uint32_t(rounding) << 12 |
           uint32_t(toInteger) << 15 | uint32_t(ftz) << 16 | uint32_t(sat) << 17 |
           uint32_t(satfinite) << 18 | uint32_t(relu) << 19 | registerBits << 20;
  }
  static Conversion unpack(uint32_t word) {
    return {Type(word & 63),      Type(word >> 6 & 63), Rounding(word >> 12 & 7),
            bool(word >> 15 & 1), bool(word >> 16 & 1), bool(word >> 17 & 1),
            bool(word >> 18 & 1), bool(word >> 19 & 1), word >> 20 & 127};
  }
};

Format formatOf(Type type) {
  switch (type) {
  case Type::F64:
    return formatF64;
  case Type::F16:
  case Type::F16x2:
    return formatF16;
  case Type::BF16:
  case Type::BF16x2:
    return formatBF16;
  case Type::TF32:
    return formatTF32;
  case Type::E4M3x2:
    return formatE4M3;
  case Type::E5M2x2:
    return formatE5M2;
  default:
    return formatF32;
  }
}

uint64_t maskOf(unsigned bits) { return bits >= 64 ? ~uint64_t(0) : (uint64_t(1) << bits) - 1; }

/// Sign- or zero-extends the low bits of a value.
uint64_t extend(uint64_t value, unsigned bits, bool isSigned) {
  value &= maskOf(bits);
  if (isSigned && bits < 64 && value >> (bits - 1))
    value |= ~maskOf(bits);
  return value;
}

/// The integer nearest to a number by a rounding, as sign and magnitude; `large` if it is 2^64 or more.
uint64_t integerOf(const Number<uint64_t> &a, Rounding rounding, bool &large) {
  large = false;
  if (!a.significand)
    return 0;
  if (a.exponent >= 0) {
    large = a.exponent + bitLength(a.significand) > 64;
    return large ? 0 : a.significand << a.exponent;
  }
  int shift = -a.exponent;
  uint64_t kept = shift > 63 ? 0 : a.significand >> shift;
  bool half = shift <= 64 && (a.significand >> (shift - 1) & 1);
  bool rest = shift > 64 || (a.significand & maskOf(unsigned(shift - 1))) != 0;
  bool up = rounding == Rounding::Nearest ? half && (rest || (kept & 1))
            : rounding == Rounding::Down  ? a.sign && (half || rest)
            : rounding == Rounding::Up    ? !a.sign && (half || rest)
                                          : false;
  return kept + up;
}

uint64_t flushF32(uint64_t bits) { return bits & 0x7f800000 ? bits : bits & 0x80000000; }

uint64_t floatToInteger(uint64_t bits, const Conversion &c) {
  if (c.ftz && c.from == Type::F32)
    bits = flushF32(bits);
  unsigned width = bitsOf(c.to);
  bool isSigned = kindOf(c.to) == TypeKind::Signed;
  Number<uint64_t> a = unpack<uint64_t>(bits, formatOf(c.from));
  if (a.kind == Number<uint64_t>::NaN)
    return c.from != Type::F64 && width < 64 ? 0 : uint64_t(1) << (width - 1);
  uint64_t largest = isSigned ? maskOf(width - 1) : maskOf(width);
  uint64_t smallest = isSigned ? uint64_t(1) << (width - 1) : 0; // magnitude
  bool large = a.kind == Number<uint64_t>::Infinity;
  uint64_t magnitude = large ? 0 : integerOf(a, c.rounding, large);
  if (a.sign) {
    if (large || magnitude > smallest)
      magnitude = smallest;
    return (-magnitude) & maskOf(width);
  }
  return large || magnitude > largest ? largest : magnitude;
}

uint64_t finishFloat(uint64_t bits, const Conversion &c) {
  Format f = formatOf(c.to);
  if (c.ftz && c.to == Type::F32)
    bits = flushF32(bits);
  bool nan = isNaN(bits, f), sign = bits & f.signMask();
  if (c.sat)
    return nan || sign ? 0 : std::min(bits, uint64_t(f.bias()) << f.fractionBits << f.shift);
  if (c.relu && sign) // NaN has no sign
    return 0;
  return bits;
}

uint64_t floatToFloat(uint64_t bits, const Conversion &c) {
  Format from = formatOf(c.from), to = formatOf(c.to);
  if (c.ftz && c.from == Type::F32)
    bits = flushF32(bits);
  if (c.toInteger) {
    Number<uint64_t> a = unpack<uint64_t>(bits, from);
    if (a.kind == Number<uint64_t>::Finite && a.exponent < 0) {
      bool large;
      bits = roundTo<uint64_t>(to, a.sign, 0, integerOf(a, c.rounding, large), Rounding::Zero);
    } else if (a.kind == Number<uint64_t>::NaN) {
      bits = nanOf(to, {bits});
    }
    return finishFloat(bits, c);
  }
  if (c.from == c.to) // a move, with .ftz or .sat
    return finishFloat(isNaN(bits, from) ? nanOf(to, {bits}) : bits, c);
  return finishFloat(convert(bits, from, to, c.rounding, c.satfinite), c);
}

uint64_t integerToFloat(uint64_t value, const Conversion &c) {
  bool isSigned = kindOf(c.from) == TypeKind::Signed;
  value = extend(value, bitsOf(c.from), isSigned);
  bool sign = isSigned && int64_t(value) < 0;
  return finishFloat(roundTo<uint64_t>(formatOf(c.to), sign, 0, sign ? -value : value, c.rounding),
                     c);
}

uint64_t integerToInteger(uint64_t value, const Conversion &c) {
  bool fromSigned = kindOf(c.from) == TypeKind::Signed, toSigned = kindOf(c.to) == TypeKind::Signed;
  unsigned width = bitsOf(c.to);
  value = extend(value, bitsOf(c.from), fromSigned);
  if (!c.sat)
    return value;
  if (fromSigned && int64_t(value) < 0) {
    int64_t least = toSigned ? -int64_t(maskOf(width - 1)) - 1 : 0;
    return uint64_t(std::max(int64_t(value), least));
  }
  return std::min(value, toSigned ? maskOf(width - 1) : maskOf(width));
}

bool isFloat(Type type) { return kindOf(type) == TypeKind::Float; }

uint64_t convertAny(uint64_t value, uint32_t word) {
  Conversion c = Conversion::unpack(word);
  value &= maskOf(bitsOf(c.from));
  uint64_t result = isFloat(c.from)
                        ? (isFloat(c.to) ? floatToFloat(value, c) : floatToInteger(value, c))
                        : (isFloat(c.to) ? integerToFloat(value, c) : integerToInteger(value, c));
  // A wider register holds the value extended.
  result = extend(result, bitsOf(c.to), kindOf(c.to) == TypeKind::Signed);
  return result & maskOf(c.registerBits);
}
template <typename D, typename S> D general(S a, Control word) {
  return D(convertAny(a, word.value));
}

/// cvt.f16x2.f32 d, a, b and the like: a goes to the upper half.
uint32_t packPair(uint32_t a, uint32_t b, Control word) {
  Conversion c = Conversion::unpack(word.value);
  unsigned bits = bitsOf(c.to) / 2;
  return uint32_t(floatToFloat(a, c) << bits | floatToFloat(b, c));
}
/// Pairs to pairs: f16x2 to e4m3x2 and back.
uint32_t pairToPair(uint32_t a, Control word) {
  Conversion c = Conversion::unpack(word.value);
  unsigned to = bitsOf(c.to) / 2, from = bitsOf(c.from) / 2;
  return uint32_t(floatToFloat(a >> from & maskOf(from), c) << to |
                  floatToFloat(a & maskOf(from), c));
}

/// cvt.pack.sat.type.s32 d, a, b [, c]: control: bits of the type, and 256 if it is signed.
uint32_t packSaturated(int32_t a, int32_t b, uint32_t c, Control control) {
  unsigned bits = control.value & 255;
  bool isSigned = control.value & 256;
  auto clampTo = [&](int32_t x) {
    int64_t low = isSigned ? -(int64_t(1) << (bits - 1)) : 0;
    int64_t high = (int64_t(1) << (isSigned ? bits - 1 : bits)) - 1;
    return uint32_t(std::clamp(int64_t(x), low, high) & int64_t(maskOf(bits)));
  };
  return (bits == 16 ? 0 : c << (2 * bits)) | clampTo(a) << bits | clampTo(b);
}
uint32_t packSaturatedPair(int32_t a, int32_t b, Control control) {
  return packSaturated(a, b, 0, control);
}

//===----------------------------------------------------------------------===//
// Fast paths
//===----------------------------------------------------------------------===//

uint32_t canonical(float x) { return x != x ? 0x7fffffff : std::bit_cast<uint32_t>(x); }
uint32_t s32ToF32(int32_t a) { return std::bit_cast<uint32_t>(float(a)); }
uint32_t u32ToF32(uint32_t a) { return std::bit_cast<uint32_t>(float(a)); }
int32_t f32ToS32(float a) { // .rzi
  float x = a != a ? 0 : a;
  return x >= 0x1p31f ? INT32_MAX : x < -0x1p31f ? INT32_MIN : int32_t(x);
}
uint64_t s32ToS64(int32_t a) { return uint64_t(int64_t(a)); }
uint64_t u32ToU64(uint32_t a) { return a; }
uint32_t low32(uint64_t a) { return uint32_t(a); }
uint32_t low16(uint32_t a) { return a & 0xffff; }
uint32_t s16ToS32(int16_t a) { return uint32_t(int32_t(a)); }
uint32_t bf16ToF32(uint32_t a) { return (a & 0x7fff) > 0x7f80 ? 0x7fffffff : a << 16; }
uint32_t f32ToBf16(uint32_t a) {
  uint32_t rounded = (a + 0x7fff + (a >> 16 & 1)) >> 16;
  return (a & 0x7fffffff) > 0x7f800000 ? 0x7fff : rounded & 0xffff;
}
uint32_t f32ToBf16x2(uint32_t a, uint32_t b) { return f32ToBf16(a) << 16 | f32ToBf16(b); }
uint32_t f32ToF16(uint32_t a) {
  uint32_t sign = a >> 16 & 0x8000, magnitude = a & 0x7fffffff;
  uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  // Below 2^-14 the host's addition rounds at the place of the last bit.
  float shifted = std::bit_cast<float>(magnitude) + 0.5f; // last bit of 0.5 is 2^-24
  uint32_t subnormal = std::bit_cast<uint32_t>(shifted) - 0x3f000000;
  uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
  result = magnitude >= 0x477ff000 ? 0x7c00 : result;
  return magnitude > 0x7f800000 ? 0x7fff : sign | result;
}
uint32_t f32ToF16x2(uint32_t a, uint32_t b) { return f32ToF16(a) << 16 | f32ToF16(b); }
uint32_t f16ToF32(uint32_t a) {
  uint32_t sign = (a & 0x8000) << 16, magnitude = a & 0x7fff;
  uint32_t normal = (magnitude << 13) + (112u << 23);
  uint32_t subnormal = std::bit_cast<uint32_t>(float(magnitude) * 0x1p-24f);
  uint32_t result = magnitude < 0x400 ? subnormal : normal;
  result = magnitude >= 0x7c00 ? 0x7f800000 : result;
  return magnitude > 0x7c00 ? 0x7fffffff : sign | result;
}
double f32ToF64(float a) { return a; }
uint32_t f64ToF32(double a) { return canonical(float(a)); }

struct FastPath {
  Type to, from;
  Modifier rounding; ///< Type: none
  RowFunction (*function)();
};
constexpr FastPath fastPaths[] = {
    {Type::F32, Type::S32, Modifier::Rn, cheapRows<s32ToF32>},
    {Type::F32, Type::U32, Modifier::Rn, cheapRows<u32ToF32>},
    {Type::S32, Type::F32, Modifier::Rzi, cheapRows<f32ToS32>},
    {Type::S64, Type::S32, Modifier::Type, cheapRows<s32ToS64>},
    {Type::U64, Type::S32, Modifier::Type, cheapRows<s32ToS64>},
    {Type::U64, Type::U32, Modifier::Type, cheapRows<u32ToU64>},
    {Type::S64, Type::U32, Modifier::Type, cheapRows<u32ToU64>},
    {Type::U32, Type::U64, Modifier::Type, cheapRows<low32>},
    {Type::U32, Type::S64, Modifier::Type, cheapRows<low32>},
    {Type::S32, Type::U64, Modifier::Type, cheapRows<low32>},
    {Type::S32, Type::S64, Modifier::Type, cheapRows<low32>},
    {Type::U32, Type::U16, Modifier::Type, cheapRows<low16>},
    {Type::S32, Type::U16, Modifier::Type, cheapRows<low16>},
    {Type::S32, Type::S16, Modifier::Type, cheapRows<s16ToS32>},
    {Type::U32, Type::S16, Modifier::Type, cheapRows<s16ToS32>},
    {Type::U16, Type::U32, Modifier::Type, cheapRows<low16>},
    {Type::U16, Type::S32, Modifier::Type, cheapRows<low16>},
    {Type::F32, Type::BF16, Modifier::Type, cheapRows<bf16ToF32>},
    {Type::BF16, Type::F32, Modifier::Rn, cheapRows<f32ToBf16>},
    {Type::F32, Type::F16, Modifier::Type, cheapRows<f16ToF32>},
    {Type::F16, Type::F32, Modifier::Rn, cheapRows<f32ToF16>},
    {Type::F32, Type::F64, Modifier::Rn, cheapRows<f64ToF32>},
};

} // namespace

unsigned Builder::registerBits(size_t operand, Type type) const {
  const sgpu::ptx::Operand &op = in.operands[operand];
  if (op.kind == sgpu::ptx::Operand::Register)
    return bitsOf(function.registers[op.index].type);
  if (op.kind == sgpu::ptx::Operand::Special)
    return std::max(32u, sgpu::ptx::bitsOf(op.special));
  return std::max(16u, bitsOf(type));
}
Lane Builder::registerLane(size_t operand, Type type) const {
  return registerBits(operand, type) > 32 ? Lane::Long : Lane::Word;
}

void sgpu::scalar::findConvert(Builder &b) {
  const sgpu::ptx::Instruction &in = b.in;
  if (in.opcode == Opcode::CvtPack) {
    uint32_t control = bitsOf(in.type()) | (kindOf(in.type()) == TypeKind::Signed ? 256 : 0);
    bool three = in.types.size() == 3;
    b.run(three ? rows<packSaturated>() : rows<packSaturatedPair>(), control)
        .to(Type::U32)
        .from(Type::S32)
        .from(Type::S32);
    if (three)
      b.from(Type::U32);
    return;
  }
  if (in.opcode != Opcode::Cvt || in.has(Modifier::Rs))
    return;
  using M = Modifier;
  M rounding = in.firstOf({M::Rn, M::Rz, M::Rm, M::Rp, M::Rna, M::Rni, M::Rzi, M::Rmi, M::Rpi});
  Conversion c{};
  c.to = in.type(0);
  c.from = in.type(1);
  c.rounding = rounding == M::Rz || rounding == M::Rzi   ? Rounding::Zero
               : rounding == M::Rm || rounding == M::Rmi ? Rounding::Down
               : rounding == M::Rp || rounding == M::Rpi ? Rounding::Up
               : rounding == M::Rna                      ? Rounding::NearestAway
                                                         : Rounding::Nearest;
  c.toInteger =
      rounding == M::Rni || rounding == M::Rzi || rounding == M::Rmi || rounding == M::Rpi;
  c.ftz = in.has(M::Ftz);
  c.sat = in.has(M::Sat);
  c.satfinite = in.has(M::Satfinite);
  c.relu = in.has(M::Relu);
  c.registerBits = b.registerBits(0, c.to);
  bool plain = !c.ftz && !c.sat && !c.satfinite && !c.relu;
  bool toPair =
      c.to == Type::F16x2 || c.to == Type::BF16x2 || c.to == Type::E4M3x2 || c.to == Type::E5M2x2;
  bool fromPair = c.from == Type::F16x2 || c.from == Type::E4M3x2 || c.from == Type::E5M2x2;
  if (toPair && fromPair) {
    b.run(rows<pairToPair>(), c.pack())
        .to(bitsOf(c.to) == 16 ? Type::B16 : Type::B32)
        .from(bitsOf(c.from) == 16 ? Type::B16 : Type::B32);
    return;
  }
  if (toPair) {
    RowFunction f = rows<packPair>();
    if (plain && c.rounding == Rounding::Nearest && c.to == Type::BF16x2)
      f = cheapRows<f32ToBf16x2>();
    if (plain && c.rounding == Rounding::Nearest && c.to == Type::F16x2)
      f = cheapRows<f32ToF16x2>();
    b.run(f, c.pack())
        .to(bitsOf(c.to) == 16 ? Type::B16 : Type::B32)
        .from(Type::F32)
        .from(Type::F32);
    return;
  }
  // Registers may be wider than the types; the lanes are those of the registers.
  Lane toLane = b.registerLane(0, c.to), fromLane = b.registerLane(1, c.from);
  RowFunction f = toLane == Lane::Long
                      ? (fromLane == Lane::Long ? rows<general<uint64_t, uint64_t>>()
                                                : rows<general<uint64_t, uint32_t>>())
                      : (fromLane == Lane::Long ? rows<general<uint32_t, uint64_t>>()
                                                : rows<general<uint32_t, uint32_t>>());
  if (plain && c.registerBits == bitsOf(c.to) && b.registerBits(1, c.from) == bitsOf(c.from))
    for (const FastPath &path : fastPaths)
      if (path.to == c.to && path.from == c.from && path.rounding == rounding)
        f = path.function();
  if (c.to == Type::F64 && c.from == Type::F32 && plain && rounding == M::Type)
    f = cheapRows<f32ToF64>();
  b.run(f, c.pack()).to(c.to).from(c.from);
  b.op.destination[0].lane = toLane;
  b.op.source[0].lane = fromLane;
}
