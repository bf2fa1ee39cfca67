//===- Video.cpp - vadd and its kin --------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scalar video instructions work on 33 to 34 bits: bytes, halves or words chosen from the sources,
// extended; then saturated or cut; then perhaps added to, or compared with, a third source. The packed
// forms do the same for two halves or four bytes. Source: PTX ISA 9.0, sections 9.7.17 and 9.7.18.
//===----------------------------------------------------------------------===//
#include "Scalar/Float.h"
#include "Scalar/Rows.h"

using namespace sgpu::scalar;
using sgpu::ptx::Component;
using sgpu::ptx::Modifier;
using sgpu::ptx::Opcode;
using sgpu::ptx::Type;

namespace {

enum class Basic : uint8_t { Add, Sub, AbsoluteDifference, Min, Max, Shl, Shr, Average, Set };
enum class Second : uint8_t { None, Add, Min, Max };

/// What the control word holds.
struct Video {
  Basic basic;
  bool toSigned, aSigned, bSigned;
  bool sat, wrap;
  Second second;
  uint8_t aPart, bPart; ///< Component of the sources, as a number
  uint8_t comparison;   ///< eq ne lt le gt ge
  uint8_t lanes;        ///< 1, 2, 4

  uint32_t pack() const {
    return uint32_t(basic) | uint32_t(toSigned) << 4 | uint32_t(aSigned) << 5 |
           uint32_t(bSigned) << 6 | uint32_t(sat) << 7 | uint32_t(wrap) << 8 |
           uint32_t(second) << 9 | uint32_t(aPart) << 11 | uint32_t(bPart) << 15 |
           uint32_t(comparison) << 19 | uint32_t(lanes) << 22;
  }
  static Video unpack(uint32_t w) {
    return {Basic(w & 15),         bool(w >> 4 & 1),     bool(w >> 5 & 1),    bool(w >> 6 & 1),
            bool(w >> 7 & 1),      bool(w >> 8 & 1),     Second(w >> 9 & 3),  uint8_t(w >> 11 & 15),
            uint8_t(w >> 15 & 15), uint8_t(w >> 19 & 7), uint8_t(w >> 22 & 7)};
  }
};

int64_t extend(uint32_t value, unsigned bits, bool isSigned) {
  uint32_t up = value << (32 - bits);
  return isSigned ? int64_t(int32_t(up) >> (32 - bits)) : int64_t(up >> (32 - bits));
}
int64_t part(uint32_t value, uint8_t which, bool isSigned) {
  Component c = Component(which);
  if (c >= Component::H0)
    return extend(value >> (16 * (which - uint8_t(Component::H0))), 16, isSigned);
  if (c >= Component::B0)
    return extend(value >> (8 * (which - uint8_t(Component::B0))), 8, isSigned);
  return extend(value, 32, isSigned);
}
int64_t basicOf(const Video &v, int64_t a, int64_t b, unsigned bits) {
  switch (v.basic) {
  case Basic::Add:
    return a + b;
  case Basic::Sub:
    return a - b;
  case Basic::AbsoluteDifference:
    return a < b ? b - a : a - b;
  case Basic::Min:
    return std::min(a, b);
  case Basic::Max:
    return std::max(a, b);
  case Basic::Average: // towards plus infinity
    return (a + b + 1) >> 1;
  case Basic::Set:
    switch (v.comparison) {
    case 0:
      return a == b;
    case 1:
      return a != b;
    case 2:
      return a < b;
    case 3:
      return a <= b;
    case 4:
      return a > b;
    default:
      return a >= b;
    }
  case Basic::Shl:
  case Basic::Shr: {
    uint32_t amount = uint32_t(b);
    amount = v.wrap ? amount & (bits - 1) : std::min(amount, uint32_t(bits));
    return v.basic == Basic::Shl ? int64_t(uint64_t(a) << amount) : a >> amount;
  }
  }
  return 0;
}
int64_t fit(const Video &v, int64_t x, unsigned bits) {
  if (v.sat) {
    int64_t low = v.toSigned ? -(int64_t(1) << (bits - 1)) : 0;
    int64_t high = (int64_t(1) << (v.toSigned ? bits - 1 : bits)) - 1;
    return std::clamp(x, low, high);
  }
  return extend(uint32_t(x), bits, v.toSigned);
}
uint32_t scalarVideo(uint32_t a, uint32_t b, uint32_t c, Control control) {
  Video v = Video::unpack(control.value);
  int64_t x = fit(v, basicOf(v, part(a, v.aPart, v.aSigned), part(b, v.bPart, v.bSigned), 32), 32);
  int64_t third = extend(c, 32, v.toSigned);
  switch (v.second) {
  case Second::None:
    return uint32_t(x);
  case Second::Add:
    return uint32_t(x + third);
  case Second::Min:
    return uint32_t(std::min(x, third));
  case Second::Max:
    return uint32_t(std::max(x, third));
  }
  return 0;
}
uint32_t scalarVideoAlone(uint32_t a, uint32_t b, Control control) {
  return scalarVideo(a, b, 0, control);
}
uint32_t packedVideo(uint32_t a, uint32_t b, uint32_t c, Control control) {
  Video v = Video::unpack(control.value);
  unsigned bits = 32 / v.lanes;
  uint32_t result = v.second == Second::Add ? c : 0;
  for (unsigned i = 0; i < v.lanes; ++i) {
    int64_t x = fit(v,
                    basicOf(v, extend(a >> (bits * i), bits, v.aSigned),
                            extend(b >> (bits * i), bits, v.bSigned), bits),
                    bits);
    if (v.second == Second::Add)
      result += uint32_t(x);
    else
      result |= (uint32_t(x) & ((uint64_t(1) << bits) - 1)) << (bits * i);
  }
  return result;
}
/// vmad: control as above; sat, and in `comparison` the shift (1: 7, 2: 15) and 4 for .po.
uint32_t multiplyAddVideo(uint32_t a, uint32_t b, uint32_t c, Control control) {
  Video v = Video::unpack(control.value);
  __int128 sum = __int128(part(a, v.aPart, v.aSigned)) * part(b, v.bPart, v.bSigned);
  sum += extend(c, 32, v.aSigned || v.bSigned || v.toSigned) + (v.comparison & 4 ? 1 : 0);
  sum >>= v.comparison & 1 ? 7 : v.comparison & 2 ? 15 : 0;
  if (v.sat) {
    __int128 low = v.toSigned ? -(__int128(1) << 31) : 0;
    __int128 high = (__int128(1) << (v.toSigned ? 31 : 32)) - 1;
    sum = sum < low ? low : sum > high ? high : sum;
  }
  return uint32_t(sum);
}

} // namespace

void sgpu::scalar::findVideo(Builder &b) {
  const sgpu::ptx::Instruction &in = b.in;
  Video v{};
  v.lanes = 1;
  switch (in.opcode) {
#define SCALAR(name, basicName)                                                                    \
  case Opcode::name:                                                                               \
    v.basic = Basic::basicName;                                                                    \
    break
#define PACKED(name, basicName)                                                                    \
  case Opcode::name##2:                                                                            \
    v.basic = Basic::basicName;                                                                    \
    v.lanes = 2;                                                                                   \
    break;                                                                                         \
  case Opcode::name##4:                                                                            \
    v.basic = Basic::basicName;                                                                    \
    v.lanes = 4;                                                                                   \
    break
    SCALAR(Vadd, Add);
    SCALAR(Vsub, Sub);
    SCALAR(Vabsdiff, AbsoluteDifference);
    SCALAR(Vmin, Min);
    SCALAR(Vmax, Max);
    SCALAR(Vshl, Shl);
    SCALAR(Vshr, Shr);
    SCALAR(Vset, Set);
    SCALAR(Vmad, Add);
    PACKED(Vadd, Add);
    PACKED(Vsub, Sub);
    PACKED(Vabsdiff, AbsoluteDifference);
    PACKED(Vmin, Min);
    PACKED(Vmax, Max);
    PACKED(Vavrg, Average);
    PACKED(Vset, Set);
#undef SCALAR
#undef PACKED
  default:
    return;
  }
  bool isSet = v.basic == Basic::Set;
  size_t first = isSet ? 0 : 1;
  v.toSigned = !isSet && in.type(0) == Type::S32;
  v.aSigned = in.type(first) == Type::S32;
  v.bSigned = in.type(first + 1) == Type::S32;
  v.sat = in.has(Modifier::Sat);
  v.wrap = in.has(Modifier::Wrap);
  v.second = in.has(Modifier::Add)   ? Second::Add
             : in.has(Modifier::Min) ? Second::Min
             : in.has(Modifier::Max) ? Second::Max
                                     : Second::None;
  v.aPart = uint8_t(in.operands[1].component);
  v.bPart = uint8_t(in.operands[2].component);
  static constexpr Modifier comparisons[] = {Modifier::Eq, Modifier::Ne, Modifier::Lt,
                                             Modifier::Le, Modifier::Gt, Modifier::Ge};
  for (uint8_t i = 0; isSet && i < 6; ++i)
    if (in.has(comparisons[i]))
      v.comparison = i;
  for (size_t i = 0; i < in.operands.size(); ++i) // parts of the destination and the third source
    if ((i == 0 || i == 3) && in.operands[i].component != Component::Whole)
      return;
  if (in.opcode == Opcode::Vmad) {
    v.comparison = uint8_t((in.has(Modifier::Shr7) ? 1 : 0) | (in.has(Modifier::Shr15) ? 2 : 0) |
                           (in.has(Modifier::Po) ? 4 : 0));
    b.run(rows<multiplyAddVideo>(), v.pack());
  } else {
    b.run(v.lanes > 1               ? rows<packedVideo>()
          : in.operands.size() == 4 ? rows<scalarVideo>()
                                    : rows<scalarVideoAlone>(),
          v.pack());
  }
  b.to(Type::B32);
  for (size_t i = 1; i < in.operands.size(); ++i)
    b.from(Type::B32);
}
