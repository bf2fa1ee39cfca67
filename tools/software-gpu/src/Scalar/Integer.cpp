//===- Integer.cpp - Integer arithmetic, logic, shifts, bits ----------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Scalar/Float.h"
#include "Scalar/Rows.h"

#include <limits>

using namespace sgpu::scalar;
using sgpu::ptx::Modifier;
using sgpu::ptx::Opcode;
using sgpu::ptx::Type;

namespace {

template <typename T> using U = std::make_unsigned_t<T>;
template <typename T>
using Double = std::conditional_t<
    sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                       std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;
template <typename T> using UD = Double<U<T>>;
template <typename T> constexpr int width = int(sizeof(T)) * 8;

template <typename T> T add(T a, T b) { return T(UD<T>(U<T>(a)) + U<T>(b)); }
template <typename T> T subtract(T a, T b) { return T(UD<T>(U<T>(a)) - U<T>(b)); }
int32_t addSaturate(int32_t a, int32_t b) {
  return int32_t(std::clamp(int64_t(a) + b, int64_t(INT32_MIN), int64_t(INT32_MAX)));
}
int32_t subtractSaturate(int32_t a, int32_t b) {
  return int32_t(std::clamp(int64_t(a) - b, int64_t(INT32_MIN), int64_t(INT32_MAX)));
}

// Carry flags. The borrow of a subtraction is its carry.
template <typename T> std::pair<T, bool> addCarryOut(T a, T b) {
  UD<T> sum = UD<T>(a) + b;
  return {T(sum), bool(sum >> width<T>)};
}
template <typename T> T addCarryIn(T a, T b, bool carry) { return T(a + b + carry); }
template <typename T> std::pair<T, bool> addCarryInOut(T a, T b, bool carry) {
  UD<T> sum = UD<T>(a) + b + carry;
  return {T(sum), bool(sum >> width<T>)};
}
template <typename T> std::pair<T, bool> subtractCarryOut(T a, T b) { return {T(a - b), a < b}; }
template <typename T> T subtractCarryIn(T a, T b, bool borrow) { return T(a - b - borrow); }
template <typename T> std::pair<T, bool> subtractCarryInOut(T a, T b, bool borrow) {
  return {T(a - b - borrow), UD<T>(a) < UD<T>(b) + borrow};
}

template <typename T> T multiplyLow(T a, T b) { return T(UD<T>(U<T>(a)) * U<T>(b)); }
template <typename T> T multiplyHigh(T a, T b) {
  return T((Double<T>(a) * Double<T>(b)) >> width<T>);
}
template <typename T> Double<T> multiplyWide(T a, T b) { return Double<T>(a) * Double<T>(b); }
template <typename T> T madLow(T a, T b, T c) { return add(multiplyLow(a, b), c); }
template <typename T> T madHigh(T a, T b, T c) { return add(multiplyHigh(a, b), c); }
template <typename T> Double<T> madWide(T a, T b, Double<T> c) {
  return add(multiplyWide(a, b), c);
}
int32_t madHighSaturate(int32_t a, int32_t b, int32_t c) {
  return addSaturate(multiplyHigh(a, b), c);
}
template <typename T, bool high> U<T> half(T a, T b) {
  return U<T>(high ? multiplyHigh(a, b) : multiplyLow(a, b));
}
template <typename T, bool high> std::pair<U<T>, bool> madCarryOut(T a, T b, T c) {
  return addCarryOut<U<T>>(half<T, high>(a, b), U<T>(c));
}
template <typename T, bool high> U<T> madCarryIn(T a, T b, T c, bool carry) {
  return addCarryIn<U<T>>(half<T, high>(a, b), U<T>(c), carry);
}
template <typename T, bool high> std::pair<U<T>, bool> madCarryInOut(T a, T b, T c, bool carry) {
  return addCarryInOut<U<T>>(half<T, high>(a, b), U<T>(c), carry);
}

template <typename T> int64_t low24(T a) {
  return std::is_signed_v<T> ? int64_t(int32_t(uint32_t(a) << 8) >> 8)
                             : int64_t(uint32_t(a) & 0xffffff);
}
template <typename T> T multiply24Low(T a, T b) { return T(low24(a) * low24(b)); }
template <typename T> T multiply24High(T a, T b) { return T((low24(a) * low24(b)) >> 16); }
template <typename T> T mad24Low(T a, T b, T c) { return add(multiply24Low(a, b), c); }
template <typename T> T mad24High(T a, T b, T c) { return add(multiply24High(a, b), c); }
int32_t mad24HighSaturate(int32_t a, int32_t b, int32_t c) {
  return addSaturate(multiply24High(a, b), c);
}

template <typename T> T sumAbsoluteDifference(T a, T b, T c) {
  U<T> difference = U<T>(a < b ? U<T>(b) - U<T>(a) : U<T>(a) - U<T>(b));
  return T(U<T>(difference + U<T>(c)));
}
// By zero: all ones for both, as the code that ptxas makes for sm_90 gives it (the ISA leaves it open).
template <typename T> T quotient(T a, T b) {
  if (b == 0)
    return T(-1);
  if (std::is_signed_v<T> && b == T(-1))
    return subtract(T(0), a);
  return T(a / b);
}
template <typename T> T rest(T a, T b) {
  if (b == 0)
    return T(-1);
  if (std::is_signed_v<T> && b == T(-1))
    return 0;
  return T(a % b);
}
template <typename T> T absolute(T a) { return a < 0 ? subtract(T(0), a) : a; }
template <typename T> T negate(T a) { return subtract(T(0), a); }
template <typename T> T minimum(T a, T b) { return b < a ? b : a; }
template <typename T> T maximum(T a, T b) { return a < b ? b : a; }
int32_t minimumRelu(int32_t a, int32_t b) { return std::max(0, std::min(a, b)); }
int32_t maximumRelu(int32_t a, int32_t b) { return std::max(0, std::max(a, b)); }

/// Two halves of 16 bits.
template <auto F, typename T> uint32_t halves(uint32_t a, uint32_t b) {
  uint32_t low = uint16_t(F(T(a), T(b))), high = uint16_t(F(T(a >> 16), T(b >> 16)));
  return low | high << 16;
}
template <typename T> T minimumRelu16(T a, T b) { return std::max(T(0), std::min(a, b)); }
template <typename T> T maximumRelu16(T a, T b) { return std::max(T(0), std::max(a, b)); }

// Bits.
template <typename T> T bitAnd(T a, T b) { return a & b; }
template <typename T> T bitOr(T a, T b) { return a | b; }
template <typename T> T bitXor(T a, T b) { return a ^ b; }
template <typename T> T bitNot(T a) { return T(~a); }
bool predAnd(bool a, bool b) { return a & b; }
bool predOr(bool a, bool b) { return a | b; }
bool predXor(bool a, bool b) { return a ^ b; }
bool predNot(bool a) { return !a; }
template <typename T> T logicalNot(T a) { return a == 0; }
template <typename T> T shiftLeft(T a, uint32_t b) {
  return b >= unsigned(width<T>) ? T(0) : T(a << b);
}
template <typename T> T shiftRight(T a, uint32_t b) {
  unsigned limit = unsigned(width<T>);
  if constexpr (std::is_signed_v<T>)
    return T(a >> std::min(b, limit - 1));
  else
    return b >= limit ? T(0) : T(a >> b);
}
template <bool right, bool clamp> uint32_t funnelShift(uint32_t a, uint32_t b, uint32_t c) {
  uint64_t both = uint64_t(b) << 32 | a;
  uint32_t n = clamp ? std::min(c, 32u) : c & 31;
  return right ? uint32_t(both >> n) : uint32_t((both << n) >> 32);
}
template <typename T> uint32_t countBits(T a) { return uint32_t(std::popcount(a)); }
template <typename T> uint32_t leadingZeros(T a) { return uint32_t(std::countl_zero(a)); }
template <typename T, bool shiftAmount> uint32_t findLeading(T a) {
  U<T> bits = U<T>(std::is_signed_v<T> && a < 0 ? T(~a) : a);
  if (!bits)
    return ~0u;
  uint32_t zeros = uint32_t(std::countl_zero(bits));
  return shiftAmount ? zeros : uint32_t(width<T>) - 1 - zeros;
}
template <typename T> T reverseBits(T a) {
  if constexpr (sizeof(T) == 4)
    return __builtin_bitreverse32(a);
  else
    return __builtin_bitreverse64(a);
}
template <typename T> T extractField(T a, uint32_t position, uint32_t length) {
  uint32_t p = position & 255, n = length & 255, top = unsigned(width<T>) - 1;
  U<T> value = p > top ? U<T>(0) : U<T>(U<T>(a) >> p);
  // A signed field is filled with its top bit; that of the register if the field goes past it.
  bool sign = std::is_signed_v<T> && n != 0 && (U<T>(a) >> std::min(p + n - 1, top) & 1);
  if (n > top)
    n = top + 1;
  U<T> mask = n > top ? U<T>(~U<T>(0)) : U<T>((U<T>(1) << n) - 1);
  if (p <= top && top + 1 - p < n) // bits past the register
    mask = U<T>((U<T>(1) << (top + 1 - p)) - 1 | (top + 1 - p > top ? ~U<T>(0) : U<T>(0)));
  else if (p > top)
    mask = 0;
  return T(sign ? U<T>(value | U<T>(~mask)) : U<T>(value & mask));
}
template <typename T> T insertField(T a, T b, uint32_t position, uint32_t length) {
  uint32_t p = position & 255, n = length & 255, bits = unsigned(width<T>);
  if (p >= bits || n == 0)
    return b;
  T mask = n >= bits ? T(~T(0)) : T((T(1) << n) - 1);
  mask = T(mask << p);
  return T((b & ~mask) | ((a << p) & mask));
}
template <typename T, bool clamp> T signOrZeroExtend(T a, uint32_t b) {
  uint32_t n = clamp ? b : b & 31;
  if (n >= 32)
    return a;
  if (n == 0)
    return 0;
  uint32_t up = uint32_t(a) << (32 - n);
  return std::is_signed_v<T> ? T(int32_t(up) >> (32 - n)) : T(up >> (32 - n));
}
template <bool clamp> uint32_t bitMask(uint32_t a, uint32_t b) {
  if (!clamp) {
    a &= 31;
    b &= 31;
  }
  uint32_t ones = b >= 32 ? ~0u : (1u << b) - 1;
  return a >= 32 ? 0 : ones << a;
}
uint32_t findNthSet(uint32_t mask, uint32_t base, int32_t offset) {
  base &= 31;
  if (offset == 0)
    return mask >> base & 1 ? base : ~0u;
  int32_t position = int32_t(base), step = offset > 0 ? 1 : -1;
  int64_t left = offset > 0 ? int64_t(offset) : -int64_t(offset);
  for (; position >= 0 && position <= 31; position += step)
    if (mask >> position & 1 && --left == 0)
      return uint32_t(position);
  return ~0u;
}
uint32_t lookup3(uint32_t a, uint32_t b, uint32_t c, Control table) {
  uint32_t result = 0;
  for (unsigned i = 0; i < 8; ++i) // no branch: every term is masked by its bit of the table
    result |=
        (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c) & (0u - (table.value >> i & 1));
  return result;
}
template <bool isOr>
std::pair<uint32_t, bool> lookup3Predicate(uint32_t a, uint32_t b, uint32_t c, bool q,
                                           Control table) {
  uint32_t result = lookup3(a, b, c, table);
  return {result, isOr ? (result != 0) | q : (result != 0) & q};
}
uint32_t permute(uint32_t a, uint32_t b, uint32_t selectors) {
  uint64_t bytes = uint64_t(b) << 32 | a;
  uint32_t result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    uint32_t selector = selectors >> (4 * i) & 15;
    uint32_t byte = uint32_t(bytes >> (8 * (selector & 7))) & 255;
    if (selector & 8)
      byte = byte & 128 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}
uint32_t permuteMode(uint32_t a, uint32_t b, uint32_t c, Control mode) {
  static constexpr uint16_t tables[6][4] = {
      {0x3210, 0x4321, 0x5432, 0x6543}, // f4e
      {0x5670, 0x6701, 0x7012, 0x0123}, // b4e
      {0x0000, 0x1111, 0x2222, 0x3333}, // rc8
      {0x3210, 0x3211, 0x3222, 0x3333}, // ecl
      {0x0000, 0x1110, 0x2210, 0x3210}, // ecr
      {0x1010, 0x3232, 0x1010, 0x3232}, // rc16
  };
  return permute(a, b, tables[mode.value][c & 3]);
}
/// Sums of products of bytes: control bit 0: a signed, bit 1: b signed, bit 2: dp2a, bit 3: its .hi.
uint32_t dotProduct(uint32_t a, uint32_t b, uint32_t c, Control control) {
  auto extend = [](uint32_t value, unsigned bits, bool isSigned) {
    uint32_t up = value << (32 - bits);
    return isSigned ? int64_t(int32_t(up) >> (32 - bits)) : int64_t(up >> (32 - bits));
  };
  bool aSigned = control.value & 1, bSigned = control.value & 2;
  int64_t sum = c;
  if (control.value & 4) {
    unsigned base = control.value & 8 ? 2 : 0;
    for (unsigned i = 0; i < 2; ++i)
      sum += extend(a >> (16 * i), 16, aSigned) * extend(b >> (8 * (base + i)), 8, bSigned);
  } else {
    for (unsigned i = 0; i < 4; ++i)
      sum += extend(a >> (8 * i), 8, aSigned) * extend(b >> (8 * i), 8, bSigned);
  }
  return uint32_t(sum);
}

template <typename T> T selectPredicate(T a, T b, bool p) { return p ? a : b; }
template <typename T> T selectSign(T a, T b, int32_t c) { return c >= 0 ? a : b; }
template <typename T> T selectFloat(T a, T b, float c) { return c >= 0 ? a : b; } // -0 too; NaN: b
template <typename T> T selectFloatFtz(T a, T b, float c) {
  return c >= 0 || std::bit_cast<uint32_t>(c) - 0x80000000u < 0x80800000u - 0x80000000u ? a : b;
}
template <typename T> T move(T a) { return a; }
bool movePredicate(bool a) { return a; }

} // namespace

void sgpu::scalar::findInteger(Builder &b) {
  const sgpu::ptx::Instruction &in = b.in;
  Type t = in.type();
  auto kind = sgpu::ptx::kindOf(t);
  bool isFloat = kind == sgpu::ptx::TypeKind::Float;
  unsigned bits = sgpu::ptx::bitsOf(t);
  Type wide = bits == 16 ? Type::B32 : Type::B64;
  auto same = [&](RowFunction f, unsigned sources, uint32_t control = 0) {
    b.run(f, control).to(t);
    for (unsigned i = 0; i < sources; ++i)
      b.from(t);
  };
  switch (in.opcode) {
  case Opcode::Add:
  case Opcode::Sub: {
    if (isFloat)
      return;
    bool isAdd = in.opcode == Opcode::Add;
    if (in.has(Modifier::Cc)) {
      same(bits == 64
               ? (isAdd ? rows<addCarryOut<uint64_t>>() : rows<subtractCarryOut<uint64_t>>())
               : (isAdd ? rows<addCarryOut<uint32_t>>() : rows<subtractCarryOut<uint32_t>>()),
           2);
      b.toCarry();
      return;
    }
    if (in.has(Modifier::Sat))
      return same(isAdd ? cheapRows<addSaturate>() : cheapRows<subtractSaturate>(), 2);
    if (t == Type::U16x2 || t == Type::S16x2)
      return same(cheapRows<halves<add<uint16_t>, uint16_t>>(), 2);
    return withInteger(t, [&](auto x) {
      using T = U<decltype(x)>;
      same(isAdd ? cheapRows<add<T>>() : cheapRows<subtract<T>>(), 2);
    });
  }
  case Opcode::Addc:
  case Opcode::Subc: {
    bool isAdd = in.opcode == Opcode::Addc, out = in.has(Modifier::Cc);
    withInteger(t, [&](auto x) {
      using T = U<decltype(x)>;
      if constexpr (sizeof(T) >= 4)
        same(isAdd ? (out ? rows<addCarryInOut<T>>() : rows<addCarryIn<T>>())
                   : (out ? rows<subtractCarryInOut<T>>() : rows<subtractCarryIn<T>>()),
             2);
    });
    b.fromCarry();
    if (out)
      b.toCarry();
    return;
  }
  case Opcode::Mul:
    if (isFloat)
      return;
    if (in.has(Modifier::Wide)) {
      withInteger(t, [&](auto x) {
        using T = decltype(x);
        if constexpr (sizeof(T) <= 4)
          b.run(cheapRows<multiplyWide<T>>()).to(wide).from(t).from(t);
      });
      return;
    }
    return withInteger(t, [&](auto x) {
      using T = decltype(x);
      same(in.has(Modifier::Hi) ? cheapRows<multiplyHigh<T>>() : cheapRows<multiplyLow<U<T>>>(), 2);
    });
  case Opcode::Mad:
    if (isFloat)
      return;
    if (in.has(Modifier::Wide)) {
      withInteger(t, [&](auto x) {
        using T = decltype(x);
        if constexpr (sizeof(T) <= 4)
          b.run(cheapRows<madWide<T>>()).to(wide).from(t).from(t).from(wide);
      });
      return;
    }
    if (in.has(Modifier::Cc)) {
      withInteger(t, [&](auto x) {
        using T = decltype(x);
        if constexpr (sizeof(T) >= 4)
          same(in.has(Modifier::Hi) ? rows<madCarryOut<T, true>>() : rows<madCarryOut<T, false>>(),
               3);
      });
      b.toCarry();
      return;
    }
    if (in.has(Modifier::Sat))
      return same(cheapRows<madHighSaturate>(), 3);
    return withInteger(t, [&](auto x) {
      using T = decltype(x);
      same(in.has(Modifier::Hi) ? cheapRows<madHigh<T>>() : cheapRows<madLow<U<T>>>(), 3);
    });
  case Opcode::Madc: {
    bool out = in.has(Modifier::Cc), high = in.has(Modifier::Hi);
    withInteger(t, [&](auto x) {
      using T = decltype(x);
      if constexpr (sizeof(T) >= 4)
        same(out ? (high ? rows<madCarryInOut<T, true>>() : rows<madCarryInOut<T, false>>())
                 : (high ? rows<madCarryIn<T, true>>() : rows<madCarryIn<T, false>>()),
             3);
    });
    b.fromCarry();
    if (out)
      b.toCarry();
    return;
  }
  case Opcode::Mul24:
  case Opcode::Mad24: {
    bool high = in.has(Modifier::Hi), mad = in.opcode == Opcode::Mad24;
    if (in.has(Modifier::Sat))
      return same(cheapRows<mad24HighSaturate>(), 3);
    if (t == Type::S32)
      return mad ? same(high ? cheapRows<mad24High<int32_t>>() : cheapRows<mad24Low<int32_t>>(), 3)
                 : same(high ? cheapRows<multiply24High<int32_t>>()
                             : cheapRows<multiply24Low<int32_t>>(),
                        2);
    return mad ? same(high ? cheapRows<mad24High<uint32_t>>() : cheapRows<mad24Low<uint32_t>>(), 3)
               : same(high ? cheapRows<multiply24High<uint32_t>>()
                           : cheapRows<multiply24Low<uint32_t>>(),
                      2);
  }
  case Opcode::Sad:
    return withInteger(t,
                       [&](auto x) { same(cheapRows<sumAbsoluteDifference<decltype(x)>>(), 3); });
  case Opcode::Div:
    if (isFloat)
      return;
    return withInteger(t, [&](auto x) { same(rows<quotient<decltype(x)>>(), 2); });
  case Opcode::Rem:
    return withInteger(t, [&](auto x) { same(rows<rest<decltype(x)>>(), 2); });
  case Opcode::Abs:
  case Opcode::Neg:
    if (isFloat)
      return;
    return withInteger(t, [&](auto x) {
      using T = std::make_signed_t<decltype(x)>;
      same(in.opcode == Opcode::Abs ? cheapRows<absolute<T>>() : cheapRows<negate<T>>(), 1);
    });
  case Opcode::Min:
  case Opcode::Max: {
    if (isFloat)
      return;
    bool isMin = in.opcode == Opcode::Min, relu = in.has(Modifier::Relu);
    if (t == Type::U16x2)
      return same(isMin ? cheapRows<halves<minimum<uint16_t>, uint16_t>>()
                        : cheapRows<halves<maximum<uint16_t>, uint16_t>>(),
                  2);
    if (t == Type::S16x2)
      return same(relu ? (isMin ? cheapRows<halves<minimumRelu16<int16_t>, int16_t>>()
                                : cheapRows<halves<maximumRelu16<int16_t>, int16_t>>())
                       : (isMin ? cheapRows<halves<minimum<int16_t>, int16_t>>()
                                : cheapRows<halves<maximum<int16_t>, int16_t>>()),
                  2);
    if (relu)
      return same(isMin ? cheapRows<minimumRelu>() : cheapRows<maximumRelu>(), 2);
    return withInteger(t, [&](auto x) {
      using T = decltype(x);
      same(isMin ? cheapRows<minimum<T>>() : cheapRows<maximum<T>>(), 2);
    });
  }
  case Opcode::And:
  case Opcode::Or:
  case Opcode::Xor:
    if (t == Type::Pred)
      return same(in.opcode == Opcode::And  ? cheapRows<predAnd>()
                  : in.opcode == Opcode::Or ? cheapRows<predOr>()
                                            : cheapRows<predXor>(),
                  2);
    return withInteger(t, [&](auto x) {
      using T = decltype(x);
      same(in.opcode == Opcode::And  ? cheapRows<bitAnd<T>>()
           : in.opcode == Opcode::Or ? cheapRows<bitOr<T>>()
                                     : cheapRows<bitXor<T>>(),
           2);
    });
  case Opcode::Not:
    if (t == Type::Pred)
      return same(cheapRows<predNot>(), 1);
    return withInteger(t, [&](auto x) { same(cheapRows<bitNot<decltype(x)>>(), 1); });
  case Opcode::Cnot:
    return withInteger(t, [&](auto x) { same(cheapRows<logicalNot<decltype(x)>>(), 1); });
  case Opcode::Shl:
  case Opcode::Shr:
    return withInteger(t, [&](auto x) {
      using T = decltype(x);
      b.run(in.opcode == Opcode::Shl ? cheapRows<shiftLeft<U<T>>>() : cheapRows<shiftRight<T>>())
          .to(t)
          .from(t)
          .from(Type::U32);
    });
  case Opcode::Shf: {
    bool clamp = in.has(Modifier::Clamp);
    b.run(in.has(Modifier::R) ? (clamp ? cheapRows<funnelShift<true, true>>()
                                       : cheapRows<funnelShift<true, false>>())
                              : (clamp ? cheapRows<funnelShift<false, true>>()
                                       : cheapRows<funnelShift<false, false>>()))
        .to(t)
        .from(t)
        .from(t)
        .from(Type::U32);
    return;
  }
  case Opcode::Popc:
    b.run(bits == 64 ? cheapRows<countBits<uint64_t>>() : cheapRows<countBits<uint32_t>>())
        .to(Type::U32)
        .from(t);
    return;
  case Opcode::Clz:
    b.run(bits == 64 ? cheapRows<leadingZeros<uint64_t>>() : cheapRows<leadingZeros<uint32_t>>())
        .to(Type::U32)
        .from(t);
    return;
  case Opcode::Bfind:
    return withInteger(t, [&](auto x) {
      using T = decltype(x);
      if constexpr (sizeof(T) >= 4)
        b.run(in.has(Modifier::Shiftamt) ? cheapRows<findLeading<T, true>>()
                                         : cheapRows<findLeading<T, false>>())
            .to(Type::U32)
            .from(t);
    });
  case Opcode::Brev:
    return same(
        bits == 64 ? cheapRows<reverseBits<uint64_t>>() : cheapRows<reverseBits<uint32_t>>(), 1);
  case Opcode::Bfe:
    return withInteger(t, [&](auto x) {
      using T = decltype(x);
      if constexpr (sizeof(T) >= 4)
        b.run(cheapRows<extractField<T>>()).to(t).from(t).from(Type::U32).from(Type::U32);
    });
  case Opcode::Bfi:
    b.run(bits == 64 ? cheapRows<insertField<uint64_t>>() : cheapRows<insertField<uint32_t>>())
        .to(t)
        .from(t)
        .from(t)
        .from(Type::U32)
        .from(Type::U32);
    return;
  case Opcode::Szext: {
    bool clamp = in.has(Modifier::Clamp);
    b.run(t == Type::S32 ? (clamp ? cheapRows<signOrZeroExtend<int32_t, true>>()
                                  : cheapRows<signOrZeroExtend<int32_t, false>>())
                         : (clamp ? cheapRows<signOrZeroExtend<uint32_t, true>>()
                                  : cheapRows<signOrZeroExtend<uint32_t, false>>()))
        .to(t)
        .from(t)
        .from(Type::U32);
    return;
  }
  case Opcode::Bmsk:
    b.run(in.has(Modifier::Clamp) ? cheapRows<bitMask<true>>() : cheapRows<bitMask<false>>())
        .to(t)
        .from(Type::U32)
        .from(Type::U32);
    return;
  case Opcode::Fns:
    b.run(rows<findNthSet>()).to(t).from(t).from(t).from(Type::S32);
    return;
  case Opcode::Lop3: {
    uint32_t table = uint32_t(in.operands[4].bits) & 255;
    if (in.has(Modifier::And) || in.has(Modifier::Or)) {
      b.run(in.has(Modifier::Or) ? cheapRows<lookup3Predicate<true>>()
                                 : cheapRows<lookup3Predicate<false>>(),
            table);
      b.toPair(t, Type::Pred).from(t).from(t).from(t);
      ++b.next; // the table
      b.from(Type::Pred);
      return;
    }
    return same(cheapRows<lookup3>(), 3, table);
  }
  case Opcode::Prmt: {
    static constexpr Modifier modes[] = {Modifier::F4e, Modifier::B4e, Modifier::Rc8,
                                         Modifier::Ecl, Modifier::Ecr, Modifier::Rc16};
    for (uint32_t i = 0; i < 6; ++i)
      if (in.has(modes[i]))
        return same(rows<permuteMode>(), 3, i);
    return same(cheapRows<permute>(), 3);
  }
  case Opcode::Dp4a:
  case Opcode::Dp2a: {
    uint32_t control = (in.type(0) == Type::S32) | (in.type(1) == Type::S32) << 1;
    if (in.opcode == Opcode::Dp2a)
      control |= 4 | (in.has(Modifier::Hi) ? 8 : 0);
    b.run(cheapRows<dotProduct>(), control).to(Type::B32).from(t).from(in.type(1)).from(Type::B32);
    return;
  }
  case Opcode::Selp:
    b.run(bits == 64 ? cheapRows<selectPredicate<uint64_t>>()
                     : cheapRows<selectPredicate<uint32_t>>())
        .to(t)
        .from(t)
        .from(t)
        .from(Type::Pred);
    return;
  case Opcode::Slct: {
    bool isWide = bits == 64, byFloat = in.type(1) == Type::F32, ftz = in.has(Modifier::Ftz);
    b.run(byFloat
              ? (ftz ? (isWide ? cheapRows<selectFloatFtz<uint64_t>>()
                               : cheapRows<selectFloatFtz<uint32_t>>())
                     : (isWide ? cheapRows<selectFloat<uint64_t>>()
                               : cheapRows<selectFloat<uint32_t>>()))
              : (isWide ? cheapRows<selectSign<uint64_t>>() : cheapRows<selectSign<uint32_t>>()))
        .to(t)
        .from(t)
        .from(t)
        .from(in.type(1));
    return;
  }
  case Opcode::Mov:
    for (const sgpu::ptx::Operand &operand : in.operands) // others are moved by the machine
      if (operand.kind == sgpu::ptx::Operand::Vector || operand.kind == sgpu::ptx::Operand::Symbol)
        return;
    if (t == Type::Pred)
      return same(cheapRows<movePredicate>(), 1);
    if (t == Type::B128)
      return;
    return same(bits == 64 ? cheapRows<move<uint64_t>>() : cheapRows<move<uint32_t>>(), 1);
  default:
    return;
  }
}
