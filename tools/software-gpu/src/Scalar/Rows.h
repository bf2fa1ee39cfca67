//===- Rows.h - From a function of values to one of rows ----------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// `rows<F>` makes a RowFunction of a plain function F on lane values. Its parameters and result say
// how the rows lie: integers of up to 32 bits and float are Word lanes, those of 64 bits and double
// Long lanes, bool a predicate, Control the control word. A result of std::pair has two destinations.
// Cheap functions run for all 32 lanes and the result is blended, so that the loop becomes vector
// instructions; others run for the active lanes only.
//===----------------------------------------------------------------------===//
#ifndef SGPU_SCALAR_ROWS_H
#define SGPU_SCALAR_ROWS_H

#include "Scalar/Scalar.h"

#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

namespace sgpu::scalar {

struct Control {
  uint32_t value;
};

template <typename T> using LaneOf = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <typename T> T fromLane(const void *row, unsigned lane) {
  if constexpr (std::is_same_v<T, bool>)
    return *static_cast<const uint32_t *>(row) >> lane & 1;
  else if constexpr (std::is_floating_point_v<T>)
    return std::bit_cast<T>(static_cast<const LaneOf<T> *>(row)[lane]);
  else
    return T(static_cast<const LaneOf<T> *>(row)[lane]);
}

template <typename T> LaneOf<T> toLane(T value) {
  if constexpr (std::is_floating_point_v<T>)
    return std::bit_cast<LaneOf<T>>(value);
  else
    return LaneOf<T>(std::make_unsigned_t<T>(value));
}

/// Collects the results of lanes and writes the active ones.
template <typename T> struct Results {
  LaneOf<T> lanes[32];
  void set(unsigned lane, T value) { lanes[lane] = toLane(value); }
  void write(void *row, uint32_t active) const {
    auto *out = static_cast<LaneOf<T> *>(row);
    if (active == ~0u) {
      std::memcpy(out, lanes, sizeof lanes);
      return;
    }
    for (unsigned i = 0; i < 32; ++i)
      out[i] = active >> i & 1 ? lanes[i] : out[i];
  }
};
template <> struct Results<bool> {
  uint32_t mask = 0;
  void set(unsigned lane, bool value) { mask |= uint32_t(value) << lane; }
  void write(void *row, uint32_t active) const {
    uint32_t &out = *static_cast<uint32_t *>(row);
    out = (out & ~active) | (mask & active);
  }
};
template <typename T> struct IsPair : std::false_type {};
template <typename A, typename B> struct IsPair<std::pair<A, B>> : std::true_type {};

template <auto F, bool cheap> struct Rows;
template <typename R, typename... A, R (*F)(A...), bool cheap> struct Rows<F, cheap> {
  template <size_t... I>
  __attribute__((always_inline)) static R call(const void *const *s, unsigned lane,
                                               uint32_t control, std::index_sequence<I...>) {
    return F([&]() __attribute__((always_inline)) -> A {
      if constexpr (std::is_same_v<A, Control>)
        return Control{control};
      else
        return fromLane<A>(s[I], lane);
    }()...);
  }
  static void run(void *const *d, const void *const *s, uint32_t active, uint32_t control) {
    body(d, s, active, control);
  }
#ifdef __x86_64__
  /// The same with wider vectors and fused multiply-add in hardware.
  __attribute__((target("avx2,fma"))) static void runWide(void *const *d, const void *const *s,
                                                          uint32_t active, uint32_t control) {
    body(d, s, active, control);
  }
#endif
  __attribute__((always_inline)) static void body(void *const *d, const void *const *s,
                                                  uint32_t active, uint32_t control) {
    constexpr auto indices = std::index_sequence_for<A...>();
    if constexpr (IsPair<R>::value) {
      Results<typename R::first_type> first;
      Results<typename R::second_type> second;
      lanes(active, [&](unsigned i) __attribute__((always_inline)) {
        R result = call(s, i, control, indices);
        first.set(i, result.first);
        second.set(i, result.second);
      });
      first.write(d[0], active);
      second.write(d[1], active);
    } else {
      Results<R> results;
      lanes(active, [&](unsigned i) __attribute__((always_inline)) {
        results.set(i, call(s, i, control, indices));
      });
      results.write(d[0], active);
    }
  }
  template <typename Body>
  __attribute__((always_inline)) static void lanes(uint32_t active, Body body) {
    if constexpr (cheap) {
      for (unsigned i = 0; i < 32; ++i)
        body(i);
    } else {
      for (; active; active &= active - 1)
        body(unsigned(std::countr_zero(active)));
    }
  }
};

/// Whether the host has AVX2 and FMA.
inline bool hostIsWide() {
#ifdef __x86_64__
  static const bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return wide;
#else
  return false;
#endif
}

/// For functions of a few instructions.
template <auto F> RowFunction cheapRows() {
#ifdef __x86_64__
  if (hostIsWide())
    return &Rows<F, true>::runWide;
#endif
  return &Rows<F, true>::run;
}
/// For long ones.
template <auto F> RowFunction rows() { return &Rows<F, false>::run; }

/// Fills an Operation.
class Builder {
public:
  Builder(const ptx::Function &function, const ptx::Instruction &in, Operation &op)
      : function(function), in(in), op(op) {}

  static Lane laneOf(ptx::Type type) {
    return type == ptx::Type::Pred || type == ptx::Type::None ? Lane::Mask
           : ptx::bitsOf(type) > 32                           ? Lane::Long
                                                              : Lane::Word;
  }
  Builder &run(RowFunction function, uint32_t control = 0) {
    op.run = function;
    op.control = control;
    return *this;
  }
  /// The next operand is a destination or a source of a type.
  Builder &to(ptx::Type type) {
    op.destination[op.destinations++] = {laneOf(type), type, next++, 0};
    return *this;
  }
  Builder &from(ptx::Type type) {
    op.source[op.sources++] = {laneOf(type), type, next++, 0};
    return *this;
  }
  /// `p|q`, or `d|p`: one operand, two destinations.
  Builder &toPair(ptx::Type first, ptx::Type second) {
    op.destination[op.destinations++] = {laneOf(first), first, next, 0};
    op.destination[op.destinations++] = {laneOf(second), second, next, 1};
    ++next;
    return *this;
  }
  Builder &toCarry() {
    op.destination[op.destinations++] = {Lane::Mask, ptx::Type::None, -1, 0};
    return *this;
  }
  Builder &fromCarry() {
    op.source[op.sources++] = {Lane::Mask, ptx::Type::None, -1, 0};
    return *this;
  }
  /// The lane of an operand whose register may be wider than the type (cvt).
  Lane registerLane(size_t operand, ptx::Type type) const;
  unsigned registerBits(size_t operand, ptx::Type type) const;

  const ptx::Function &function;
  const ptx::Instruction &in;
  Operation &op;
  int8_t next = 0;
};

/// Each looks for the opcodes of its file; leaves run null if there is none.
void findInteger(Builder &builder);
void findFloating(Builder &builder);
void findApproximate(Builder &builder);
void findCompare(Builder &builder);
void findConvert(Builder &builder);
void findVideo(Builder &builder);

/// The C++ type of an integer type: calls `body` with a value of it.
template <typename Body> void withInteger(ptx::Type type, Body body) {
  using T = ptx::Type;
  switch (type) {
  case T::S16:
    return body(int16_t());
  case T::S32:
    return body(int32_t());
  case T::S64:
    return body(int64_t());
  case T::U16:
  case T::B16:
    return body(uint16_t());
  case T::U32:
  case T::B32:
    return body(uint32_t());
  case T::U64:
  case T::B64:
    return body(uint64_t());
  default:
    return;
  }
}

} // namespace sgpu::scalar

#endif
