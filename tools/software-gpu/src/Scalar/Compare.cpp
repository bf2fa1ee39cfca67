//===- Compare.cpp - set and setp ---------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// setp.cmp.bool p|q, a, b, c: p = (a cmp b) bool c, q = !(a cmp b) bool c. Source: PTX ISA 9.0, 9.7.6.
//===----------------------------------------------------------------------===//
#include "Scalar/Float.h"
#include "Scalar/Rows.h"

using namespace sgpu::scalar;
using sgpu::ptx::Modifier;
using sgpu::ptx::Opcode;
using sgpu::ptx::Type;

namespace {

enum class Comparison : uint8_t { Eq, Ne, Lt, Le, Gt, Ge, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan };
enum class Boolean : uint8_t { None, And, Or, Xor };

template <Comparison c, typename T> bool compare(T a, T b) {
  bool unordered = std::is_floating_point_v<T> && (a != a || b != b);
  switch (c) {
  case Comparison::Eq:
    return a == b;
  case Comparison::Ne: // ordered for floats
    return a != b && !unordered;
  case Comparison::Lt:
    return a < b;
  case Comparison::Le:
    return a <= b;
  case Comparison::Gt:
    return a > b;
  case Comparison::Ge:
    return a >= b;
  case Comparison::Equ:
    return a == b || unordered;
  case Comparison::Neu:
    return a != b;
  case Comparison::Ltu:
    return a < b || unordered;
  case Comparison::Leu:
    return a <= b || unordered;
  case Comparison::Gtu:
    return a > b || unordered;
  case Comparison::Geu:
    return a >= b || unordered;
  case Comparison::Num:
    return !unordered;
  case Comparison::Nan:
    return unordered;
  }
}
template <Boolean o> bool combine(bool value, bool c) {
  switch (o) {
  case Boolean::And:
    return value & c;
  case Boolean::Or:
    return value | c;
  case Boolean::Xor:
    return value ^ c;
  case Boolean::None:
    return value;
  }
}

/// How a register's lane becomes what is compared.
template <typename T> struct Plain {
  using Lane = T;
  using Value = T;
  static T value(T lane) { return lane; }
};
struct FlushedF32 {
  using Lane = uint32_t;
  using Value = float;
  static float value(uint32_t bits) {
    return std::bit_cast<float>(bits & 0x7f800000 ? bits : bits & 0x80000000);
  }
};
template <Format f, bool ftz> struct Short {
  using Lane = uint16_t;
  using Value = float;
  static float value(uint16_t bits) {
    if (ftz && !(bits & f.infinity()))
      bits &= f.signMask();
    return std::bit_cast<float>(uint32_t(convert(bits, f, formatF32, Rounding::Nearest)));
  }
};

template <typename K, Comparison c>
std::pair<bool, bool> setp(typename K::Lane a, typename K::Lane b) {
  bool value = compare<c, typename K::Value>(K::value(a), K::value(b));
  return {value, !value};
}
template <typename K, Comparison c, Boolean o>
std::pair<bool, bool> setpBoolean(typename K::Lane a, typename K::Lane b, bool p) {
  bool value = compare<c, typename K::Value>(K::value(a), K::value(b));
  return {combine<o>(value, p), combine<o>(!value, p)};
}
/// Two values in one register: p of the low one, q of the high one.
template <typename K, Comparison c> std::pair<bool, bool> setpPair(uint32_t a, uint32_t b) {
  return {compare<c, float>(K::value(uint16_t(a)), K::value(uint16_t(b))),
          compare<c, float>(K::value(uint16_t(a >> 16)), K::value(uint16_t(b >> 16)))};
}
template <typename K, Comparison c, Boolean o>
std::pair<bool, bool> setpPairBoolean(uint32_t a, uint32_t b, bool p) {
  auto values = setpPair<K, c>(a, b);
  return {combine<o>(values.first, p), combine<o>(values.second, p)};
}

/// What `set` writes for true; for pairs the value of each half is control, of the whole if both are.
template <typename K, Comparison c>
uint32_t set(typename K::Lane a, typename K::Lane b, bool p, Control control) {
  bool value = compare<c, typename K::Value>(K::value(a), K::value(b));
  uint32_t boolean = control.value & 3;
  value = boolean == 1 ? value & p : boolean == 2 ? value | p : boolean == 3 ? value ^ p : value;
  switch (control.value >> 2) {
  case 0:
    return value ? 0xffffffff : 0;
  case 1:
    return value ? 0x3f800000 : 0;
  case 2:
    return value ? 0x3c00 : 0; // f16
  case 3:
    return value ? 0x3f80 : 0; // bf16
  default:
    return value ? 0xffff : 0;
  }
}
template <typename K, Comparison c>
uint32_t setAlone(typename K::Lane a, typename K::Lane b, Control control) {
  return set<K, c>(a, b, false, control);
}
template <typename K, Comparison c>
uint32_t setPair(uint32_t a, uint32_t b, bool p, Control control) {
  auto values = setpPair<K, c>(a, b);
  uint32_t boolean = control.value & 3;
  auto with = [&](bool value) {
    return boolean == 1 ? value & p : boolean == 2 ? value | p : boolean == 3 ? value ^ p : value;
  };
  uint32_t one = control.value >> 2 == 2 ? 0x3c00 : control.value >> 2 == 3 ? 0x3f80 : 0xffff;
  return (with(values.first) ? one : 0) | (with(values.second) ? one << 16 : 0);
}

template <typename K, Comparison c> uint32_t setPairAlone(uint32_t a, uint32_t b, Control control) {
  return setPair<K, c>(a, b, false, control);
}

template <Comparison c> struct Functions {
  template <typename K> static RowFunction setOf(Boolean o) {
    return o == Boolean::None ? rows<setAlone<K, c>>() : rows<set<K, c>>();
  }
  template <typename K> static RowFunction setPairOf(Boolean o) {
    return o == Boolean::None ? rows<setPairAlone<K, c>>() : rows<setPair<K, c>>();
  }
  template <typename K> static RowFunction setpOf(Boolean o) {
    switch (o) {
    case Boolean::None:
      return cheapRows<setp<K, c>>();
    case Boolean::And:
      return cheapRows<setpBoolean<K, c, Boolean::And>>();
    case Boolean::Or:
      return cheapRows<setpBoolean<K, c, Boolean::Or>>();
    default:
      return cheapRows<setpBoolean<K, c, Boolean::Xor>>();
    }
  }
  template <typename K> static RowFunction setpPairOf(Boolean o) {
    switch (o) {
    case Boolean::None:
      return rows<setpPair<K, c>>();
    case Boolean::And:
      return rows<setpPairBoolean<K, c, Boolean::And>>();
    case Boolean::Or:
      return rows<setpPairBoolean<K, c, Boolean::Or>>();
    default:
      return rows<setpPairBoolean<K, c, Boolean::Xor>>();
    }
  }
  static RowFunction ofFloat(Type t, bool ftz, bool isSet, Boolean o) {
#define BOTH(kind) (isSet ? setOf<kind>(o) : setpOf<kind>(o))
#define PAIRS(kind) (isSet ? setPairOf<kind>(o) : setpPairOf<kind>(o))
    using F16 = Short<formatF16, false>;
    using F16Ftz = Short<formatF16, true>;
    using BF16 = Short<formatBF16, false>;
    switch (t) {
    case Type::F32:
      return ftz ? BOTH(FlushedF32) : BOTH(Plain<float>);
    case Type::F64:
      return BOTH(Plain<double>);
    case Type::F16:
      return ftz ? BOTH(F16Ftz) : BOTH(F16);
    case Type::BF16:
      return BOTH(BF16);
    case Type::F16x2:
      return ftz ? PAIRS(F16Ftz) : PAIRS(F16);
    case Type::BF16x2:
      return PAIRS(BF16);
    default:
      return nullptr;
    }
#undef PAIRS
  }
  static RowFunction ofInteger(Type t, bool isSet, Boolean o) {
    RowFunction result = nullptr;
    withInteger(t, [&](auto x) {
      using T = decltype(x);
      result = BOTH(Plain<T>);
    });
    return result;
#undef BOTH
  }
};

RowFunction find(Modifier m, Type t, bool ftz, bool isSet, Boolean o) {
  bool isFloat = sgpu::ptx::kindOf(t) == sgpu::ptx::TypeKind::Float;
  using C = Comparison;
  switch (m) {
#define CASE(name)                                                                                 \
  return isFloat ? Functions<C::name>::ofFloat(t, ftz, isSet, o)                                   \
                 : Functions<C::name>::ofInteger(t, isSet, o)
  case Modifier::Eq:
    CASE(Eq);
  case Modifier::Ne:
    CASE(Ne);
  case Modifier::Lt:
  case Modifier::Lo:
    CASE(Lt);
  case Modifier::Le:
  case Modifier::Ls:
    CASE(Le);
  case Modifier::Gt:
  case Modifier::Hi:
    CASE(Gt);
  case Modifier::Ge:
  case Modifier::Hs:
    CASE(Ge);
#undef CASE
#define CASE(name) return isFloat ? Functions<C::name>::ofFloat(t, ftz, isSet, o) : nullptr
  case Modifier::Equ:
    CASE(Equ);
  case Modifier::Neu:
    CASE(Neu);
  case Modifier::Ltu:
    CASE(Ltu);
  case Modifier::Leu:
    CASE(Leu);
  case Modifier::Gtu:
    CASE(Gtu);
  case Modifier::Geu:
    CASE(Geu);
  case Modifier::Num:
    CASE(Num);
  case Modifier::Nan:
    CASE(Nan);
#undef CASE
  default:
    return nullptr;
  }
}

} // namespace

void sgpu::scalar::findCompare(Builder &b) {
  const sgpu::ptx::Instruction &in = b.in;
  bool isSet = in.opcode == Opcode::Set;
  if (!isSet && in.opcode != Opcode::Setp)
    return;
  using M = Modifier;
  M comparison = in.firstOf({M::Eq, M::Ne, M::Lt, M::Le, M::Gt, M::Ge, M::Lo, M::Ls, M::Hi, M::Hs,
                             M::Equ, M::Neu, M::Ltu, M::Leu, M::Gtu, M::Geu, M::Num, M::Nan});
  Boolean o = in.has(M::And)   ? Boolean::And
              : in.has(M::Or)  ? Boolean::Or
              : in.has(M::Xor) ? Boolean::Xor
                               : Boolean::None;
  Type t = in.type(isSet ? 1 : 0);
  RowFunction f = ::find(comparison, t, in.has(M::Ftz), isSet, o);
  if (!isSet) {
    b.run(f).toPair(Type::Pred, Type::Pred).from(t).from(t);
    if (o != Boolean::None)
      b.from(Type::Pred);
    return;
  }
  Type d = in.type(0);
  // A pair compared into u32 or s32 gives a mask for each half.
  uint32_t value = d == Type::F32                         ? 1
                   : d == Type::F16 || d == Type::F16x2   ? 2
                   : d == Type::BF16 || d == Type::BF16x2 ? 3
                   : sgpu::ptx::bitsOf(d) == 16           ? 4
                                                          : 0;
  b.run(f, uint32_t(o) | value << 2).to(d).from(t).from(t);
  if (o != Boolean::None)
    b.from(Type::Pred);
}
