//===- ConvertTest.cpp - cvt of all types in all roundings ------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Evaluate.h"
#include "Formats.h"

using namespace sgpu::scalar;

namespace {

constexpr int rounds = 4000;

struct Kind {
  const char *name, *reg;
  unsigned width;
  bool isSigned;
};
const Kind integers[] = {{"u8", "%h", 8, false},    {"s8", "%h", 8, true},
                         {"u16", "%h", 16, false},  {"s16", "%h", 16, true},
                         {"u32", "%r", 32, false},  {"s32", "%r", 32, true},
                         {"u64", "%rd", 64, false}, {"s64", "%rd", 64, true}};
const Kind floats[] = {{"f16", "%h", 16, true},
                       {"bf16", "%h", 16, true},
                       {"f32", "%f", 32, true},
                       {"f64", "%fd", 64, true}};
unsigned registerWidth(const Kind &k) { return std::max(16u, k.width); }

uint64_t drawFloat(Values &draw, const Kind &k) {
  return k.width == 64      ? draw.f64()
         : k.width == 32    ? draw.f32()
         : k.name[0] == 'b' ? draw.bf16()
                            : draw.f16();
}
/// The value of a float's bits; exact.
double valueOf(uint64_t x, const Kind &k) {
  if (k.width == 64)
    return asDouble(x);
  if (k.width == 32)
    return asFloat(x);
  const Table &t = k.name[0] == 'b' ? tableBF16() : tableF16();
  uint32_t magnitude = x & 0x7fff;
  double value = magnitude > t.infinity    ? __builtin_nan("")
                 : magnitude == t.infinity ? __builtin_inf()
                                           : t.value(magnitude);
  return x & 0x8000 ? -value : value;
}
__int128 integerValue(uint64_t x, const Kind &k) {
  __int128 v = x & (k.width == 64 ? ~uint64_t(0) : (uint64_t(1) << k.width) - 1);
  return k.isSigned && v >> (k.width - 1) ? v - ((__int128)1 << k.width) : v;
}
uint64_t cut(__int128 v, unsigned width) {
  return uint64_t(v) & (width == 64 ? ~uint64_t(0) : (uint64_t(1) << width) - 1);
}

TEST(Convert, IntegerToInteger) {
  for (const Kind &to : integers)
    for (const Kind &from : integers)
      for (bool sat : {false, true}) {
        Op op(std::string("cvt") + (sat ? ".sat" : "") + "." + to.name + "." + from.name + " " +
              to.reg + "0, " + from.reg + "1");
        Values draw;
        for (int i = 0; i < 500; ++i) {
          uint64_t x = draw(registerWidth(from)); // bits above the type are not looked at
          __int128 v = integerValue(x, from);
          if (sat) {
            __int128 low = to.isSigned ? -((__int128)1 << (to.width - 1)) : 0;
            __int128 high = ((__int128)1 << (to.isSigned ? to.width - 1 : to.width)) - 1;
            v = v < low ? low : v > high ? high : v;
          }
          // Cut to the type, then extended to the register.
          v = integerValue(cut(v, to.width), to);
          ASSERT_EQ(op(x), cut(v, registerWidth(to))) << op.text << " " << x;
        }
      }
}

// Registers wider than the types: the source is cut, the result extended.
TEST(Convert, WiderRegisters) {
  EXPECT_EQ(Op("cvt.s8.s32 %r0, %r1")(0x12345680), 0xffffff80u);
  EXPECT_EQ(Op("cvt.u8.u32 %r0, %r1")(0x12345680), 0x80u);
  EXPECT_EQ(Op("cvt.s16.s32 %rd0, %r1")(0x00018000), 0xffffffffffff8000u);
  EXPECT_EQ(Op("cvt.u32.u8 %r0, %r1")(0xabcdef12), 0x12u);
  EXPECT_EQ(Op("cvt.s32.s8 %r0, %rd1")(0x80), 0xffffff80u);
  EXPECT_EQ(Op("cvt.rzi.s8.f32 %r0, %f1")(bits(-3.5f)), 0xfffffffdu);
  EXPECT_EQ(Op("cvt.rn.f32.s8 %f0, %r1")(0x1ff), bits(-1.0f));
  EXPECT_EQ(Op("cvt.u32.u16 %r0, %tid.x")(0x12345678), 0x5678u);
}

TEST(Convert, FloatToInteger) {
  const std::pair<const char *, double (*)(double)> modes[] = {
      {"rni", [](double x) { return std::nearbyint(x); }},
      {"rzi", [](double x) { return std::trunc(x); }},
      {"rmi", [](double x) { return std::floor(x); }},
      {"rpi", [](double x) { return std::ceil(x); }}};
  for (const Kind &to : integers)
    for (const Kind &from : floats)
      for (auto &[mode, model] : modes)
        for (bool ftz : {false, true}) {
          if (ftz && strcmp(from.name, "f32"))
            continue;
          Op op(std::string("cvt.") + mode + (ftz ? ".ftz" : "") + "." + to.name + "." + from.name +
                " " + to.reg + "0, " + from.reg + "1");
          Values draw;
          for (int i = 0; i < rounds / 4; ++i) {
            uint64_t x = drawFloat(draw, from);
            if (i % 3 == 0) { // in the range of integers
              double small = double(int64_t(draw(64))) / double(uint64_t(1) << draw.random() % 60);
              x = from.width == 64 ? bits(small) : from.width == 32 ? bits(float(small)) : x;
            }
            double v = valueOf(x, from);
            if (ftz && std::fabs(v) < 0x1p-126)
              v = 0;
            __int128 want;
            __int128 low = to.isSigned ? -((__int128)1 << (to.width - 1)) : 0;
            __int128 high = ((__int128)1 << (to.isSigned ? to.width - 1 : to.width)) - 1;
            if (v != v)
              want = from.width < 64 && to.width < 64
                         ? 0
                         : integerValue(uint64_t(1) << (to.width - 1), to);
            else
              want = model(v) >= double(high)  ? high
                     : model(v) <= double(low) ? low
                                               : __int128(model(v));
            ASSERT_EQ(op(x), cut(want, registerWidth(to))) << op.text << " " << v;
          }
        }
  EXPECT_EQ(Op("cvt.rni.s32.f32 %r0, %f1")(bits(2.5f)), 2u);
  EXPECT_EQ(Op("cvt.rni.s32.f32 %r0, %f1")(bits(3.5f)), 4u);
  EXPECT_EQ(Op("cvt.rzi.u32.f32 %r0, %f1")(bits(-1.0f)), 0u);
  EXPECT_EQ(Op("cvt.rzi.s64.f64 %rd0, %fd1")(uint64_t(0x7ff8000000000000)), uint64_t(1) << 63);
  EXPECT_EQ(Op("cvt.rzi.u64.f32 %rd0, %f1")(0x7fc00000), uint64_t(1) << 63);
}

/// Rounds an exact number to f32 or f64 by its neighbours in that format.
uint64_t roundWide(quad x, bool negative, Mode mode, bool isDouble) {
  auto step = [&](double v, double to) {
    return isDouble ? std::nextafter(v, to) : double(std::nextafterf(float(v), float(to)));
  };
  quad m = x < 0 ? -x : x;
  if (m == 0)
    return isDouble ? uint64_t(negative) << 63 : uint64_t(negative) << 31;
  double below = isDouble ? double(m) : double(float(double(m)));
  double largest = isDouble ? 1.7976931348623157e308 : double(3.40282347e38f);
  if (below > largest)
    below = largest;
  while (quad(below) > m)
    below = step(below, 0);
  double above = below;
  while (quad(above) < m && above <= largest)
    above = step(above, __builtin_inf());
  double result;
  quad high = above > largest ? quad(isDouble ? 0x1p1023 : 0x1p127) * 2 : quad(above);
  if (quad(below) == m)
    result = below;
  else if (mode == Mode::Zero || (mode == Mode::Down && !negative) ||
           (mode == Mode::Up && negative))
    result = below;
  else if (mode == Mode::Down || mode == Mode::Up)
    result = above;
  else if (m - quad(below) != high - m)
    result = m - quad(below) > high - m ? above : below;
  else
    result = (isDouble ? bits(below) : bits(float(below))) & 1 ? above : below;
  if (negative)
    result = -result;
  return isDouble ? bits(result) : bits(float(result));
}
uint64_t roundKind(quad x, bool negative, Mode mode, const Kind &to) {
  if (to.width == 16)
    return (to.name[0] == 'b' ? tableBF16() : tableF16()).round(x, negative, mode);
  return roundWide(x, negative, mode, to.width == 64);
}
const std::pair<const char *, Mode> roundings[] = {
    {"rn", Mode::Nearest}, {"rz", Mode::Zero}, {"rm", Mode::Down}, {"rp", Mode::Up}};

TEST(Convert, IntegerToFloat) {
  for (const Kind &to : floats)
    for (const Kind &from : integers)
      for (auto &[name, mode] : roundings) {
        Op op(std::string("cvt.") + name + "." + to.name + "." + from.name + " " + to.reg + "0, " +
              from.reg + "1");
        Values draw;
        for (int i = 0; i < rounds / 4; ++i) {
          uint64_t x = draw(registerWidth(from));
          __int128 v = integerValue(x, from);
          ASSERT_EQ(op(x), roundKind(quad(v), v < 0, mode, to)) << op.text << " " << x;
        }
      }
}

TEST(Convert, FloatToFloat) {
  for (const Kind &to : floats)
    for (const Kind &from : floats)
      for (auto &[name, mode] : roundings)
        for (bool sat : {false, true}) {
          if (!strcmp(to.name, from.name))
            continue;
          if (sat && (to.name[0] == 'b' || from.name[0] == 'b')) // bf16 has no .sat
            continue;
          bool widening = to.width > from.width;
          if (widening && mode != Mode::Nearest)
            continue;
          Op op(std::string("cvt") + (widening ? "" : std::string(".") + name) +
                (sat ? ".sat" : "") + "." + to.name + "." + from.name + " " + to.reg + "0, " +
                from.reg + "1");
          Values draw;
          for (int i = 0; i < rounds; ++i) {
            uint64_t x = drawFloat(draw, from);
            double v = valueOf(x, from);
            uint64_t got = op(x);
            if (sat) {
              uint64_t want = v > 0 ? roundKind(v < 1 ? v : 1, false, mode, to) : 0;
              if (v != v)
                want = 0;
              if (want > roundKind(1, false, mode, to))
                want = roundKind(1, false, mode, to);
              ASSERT_EQ(got, want) << op.text << " " << v;
            } else if (v != v) {
              if (to.width == 64)
                ASSERT_TRUE(std::isnan(asDouble(got)));
              else
                ASSERT_EQ(got, to.width == 32 ? 0x7fffffffu : 0x7fffu);
            } else if (std::isinf(v)) {
              uint64_t infinity =
                  to.width == 64   ? bits(v)
                  : to.width == 32 ? bits(float(v))
                                   : ((to.name[0] == 'b' ? 0x7f80 : 0x7c00) | (v < 0 ? 0x8000 : 0));
              ASSERT_EQ(got, infinity) << op.text;
            } else {
              ASSERT_EQ(got, roundKind(v, std::signbit(v), mode, to))
                  << op.text << " " << std::hex << x;
            }
          }
        }
}

TEST(Convert, RoundToIntegralAndFlush) {
  Values draw;
  Op rni("cvt.rni.f32.f32 %f0, %f1"), rzi("cvt.rzi.ftz.f32.f32 %f0, %f1"),
      rmi("cvt.rmi.f64.f64 %fd0, %fd1"), rpi("cvt.rpi.f16.f16 %h0, %h1"),
      sat("cvt.sat.f32.f32 %f0, %f1"), ftz("cvt.rn.ftz.f32.f64 %f0, %fd1"),
      half("cvt.rn.ftz.f16.f32 %h0, %f1");
  for (int i = 0; i < rounds; ++i) {
    float x = asFloat(draw.f32());
    auto canonical = [](float v) { return v != v ? 0x7fffffffu : bits(v); };
    ASSERT_EQ(rni(bits(x)), canonical(std::nearbyintf(x)));
    ASSERT_EQ(rzi(bits(x)), canonical(std::truncf(x)));
    ASSERT_EQ(sat(bits(x)), x > 0 ? bits(std::fmin(x, 1.0f)) : 0u);
    double y = asDouble(draw.f64());
    if (y == y)
      ASSERT_EQ(rmi(bits(y)), bits(std::floor(y)));
    uint32_t h = draw.f16();
    double v = valueOf(h, floats[0]);
    ASSERT_EQ(rpi(h), v != v ? 0x7fffu
                      : std::isinf(v)
                          ? h
                          : tableF16().round(std::ceil(v), std::signbit(v), Mode::Nearest));
    float narrow = float(y);
    if (std::fabs(narrow) < 0x1p-126f)
      narrow = std::copysign(0.0f, narrow);
    ASSERT_EQ(ftz(bits(y)), canonical(narrow));
  }
  EXPECT_EQ(half(0x00000001), 0u);
  EXPECT_EQ(half(0x80000001), 0x8000u);
}

TEST(Convert, PairsAndSmallFormats) {
  struct Form {
    const char *text;
    const Table &table;
    Mode mode;
    bool saturate, relu;
    unsigned half; ///< bits of one result
  };
  const Form forms[] = {
      {"cvt.rn.bf16x2.f32 %r0, %f1, %f2", tableBF16(), Mode::Nearest, false, false, 16},
      {"cvt.rz.bf16x2.f32 %r0, %f1, %f2", tableBF16(), Mode::Zero, false, false, 16},
      {"cvt.rn.relu.bf16x2.f32 %r0, %f1, %f2", tableBF16(), Mode::Nearest, false, true, 16},
      {"cvt.rn.satfinite.bf16x2.f32 %r0, %f1, %f2", tableBF16(), Mode::Nearest, true, false, 16},
      {"cvt.rn.f16x2.f32 %r0, %f1, %f2", tableF16(), Mode::Nearest, false, false, 16},
      {"cvt.rz.relu.f16x2.f32 %r0, %f1, %f2", tableF16(), Mode::Zero, false, true, 16},
      {"cvt.rn.satfinite.f16x2.f32 %r0, %f1, %f2", tableF16(), Mode::Nearest, true, false, 16},
      {"cvt.rn.satfinite.e4m3x2.f32 %h0, %f1, %f2", tableE4M3(), Mode::Nearest, true, false, 8},
      {"cvt.rn.satfinite.relu.e4m3x2.f32 %h0, %f1, %f2", tableE4M3(), Mode::Nearest, true, true, 8},
      {"cvt.rn.satfinite.e5m2x2.f32 %h0, %f1, %f2", tableE5M2(), Mode::Nearest, true, false, 8},
  };
  for (const Form &form : forms) {
    Op op(form.text);
    Values draw;
    for (int i = 0; i < rounds; ++i) {
      uint32_t x = draw.f32(), y = draw.f32();
      if (i % 2) // in the range of the small formats
        x = bits(float(int32_t(draw.random())) * 0x1p-31f * float(1 << draw.random() % 17));
      auto one = [&](uint32_t bits) -> uint32_t {
        float v = asFloat(bits);
        if (v != v)
          return form.table.nan;
        if (form.relu && std::signbit(v))
          return 0;
        return form.table.round(v, std::signbit(v), form.mode, form.saturate);
      };
      ASSERT_EQ(op(x, y), one(x) << form.half | one(y))
          << form.text << std::hex << " " << x << " " << y;
    }
  }
  // tf32.
  Op rna("cvt.rna.tf32.f32 %r0, %f1"), rn("cvt.rn.tf32.f32 %r0, %f1"),
      rz("cvt.rz.relu.tf32.f32 %r0, %f1"), sat("cvt.rna.satfinite.tf32.f32 %r0, %f1");
  Values draw;
  for (int i = 0; i < rounds; ++i) {
    uint32_t x = i % 4 ? draw.f32() : draw.f32() << 12;
    float v = asFloat(x);
    auto model = [&](Mode mode, bool saturate = false) {
      return v != v ? 0x7fffffffu : tableTF32().round(v, std::signbit(v), mode, saturate);
    };
    ASSERT_EQ(rna(x), model(Mode::Away)) << std::hex << x;
    ASSERT_EQ(rn(x), model(Mode::Nearest)) << std::hex << x;
    ASSERT_EQ(rz(x), v == v && std::signbit(v) ? 0 : model(Mode::Zero)) << std::hex << x;
    ASSERT_EQ(sat(x), model(Mode::Away, true)) << std::hex << x;
  }
  // From 8 bits to f16 and back, all values.
  Op up4("cvt.rn.f16x2.e4m3x2 %r0, %h1"), up5("cvt.rn.f16x2.e5m2x2 %r0, %h1"),
      down4("cvt.rn.satfinite.e4m3x2.f16x2 %h0, %r1"),
      down5("cvt.rn.satfinite.e5m2x2.f16x2 %h0, %r1");
  for (unsigned code = 0; code < 256; ++code) {
    auto half = [&](const Table &t) -> uint32_t {
      uint32_t magnitude = code & 127;
      if (std::find(t.codes.begin(), t.codes.end(), magnitude) == t.codes.end())
        return &t == &tableE5M2() && magnitude == 0x7c ? (code & 128) << 8 | 0x7c00 : 0x7fff;
      return tableF16().round(t.value(magnitude), code & 128, Mode::Nearest);
    };
    uint32_t f4 = half(tableE4M3()), f5 = half(tableE5M2());
    ASSERT_EQ(up4(code << 8 | 0x38), f4 << 16 | 0x3c00) << code;
    ASSERT_EQ(up5(code << 8 | 0x3c), f5 << 16 | 0x3c00) << code;
    uint32_t nan4 = 0x7f, nan5 = 0x7f;
    ASSERT_EQ(down4(f4 << 16 | 0x3c00) >> 8, (code & 127) == 127 ? nan4 : code);
    ASSERT_EQ(down5(f5 << 16 | 0x3c00) >> 8, (code & 127) > 124    ? nan5
                                             : (code & 127) == 124 ? (code & 128) | 0x7b
                                                                   : code);
  }
}

TEST(Convert, Pack) {
  EXPECT_EQ(Op("cvt.pack.sat.s16.s32 %r0, %r1, %r2")(70000, uint32_t(-70000)), 0x7fff8000u);
  EXPECT_EQ(Op("cvt.pack.sat.u16.s32 %r0, %r1, %r2")(70000, uint32_t(-1)), 0xffff0000u);
  EXPECT_EQ(Op("cvt.pack.sat.s8.s32.b32 %r0, %r1, %r2, %r3")(300, uint32_t(-300), 0x11223344),
            0x33447f80u);
  EXPECT_EQ(Op("cvt.pack.sat.u8.s32.b32 %r0, %r1, %r2, %r3")(300, uint32_t(-1), 0x11223344),
            0x3344ff00u);
}

} // namespace
