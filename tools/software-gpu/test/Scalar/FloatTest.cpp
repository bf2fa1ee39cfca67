//===- FloatTest.cpp - Float instructions against the host and tables -------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// f32 and f64: the host's own instructions in all rounding modes (fesetround). f16 and bf16: exact
// values in 113 bits, rounded by tables.
//===----------------------------------------------------------------------===//
#include "Evaluate.h"
#include "Formats.h"

#include <cfenv>
#include <functional>

#pragma STDC FENV_ACCESS ON

using namespace sgpu::scalar;

namespace {

constexpr int rounds = 20000;
const std::pair<const char *, int> modes[] = {
    {"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};

template <typename F> auto inMode(int mode, F f) {
  std::fesetround(mode);
  auto result = f();
  std::fesetround(FE_TONEAREST);
  return result;
}
float flush(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

/// What an f32 instruction gives for the host's result.
uint32_t expected32(float x, bool ftz, bool sat) {
  if (ftz)
    x = flush(x);
  if (sat)
    x = x > 0 ? std::fmin(x, 1.0f) : 0.0f;
  return x != x ? 0x7fffffff : bits(x);
}

TEST(Float, SinglePrecisionInAllModes) {
  for (auto [name, mode] : modes)
    for (bool ftz : {false, true})
      for (bool sat : {false, true}) {
        std::string suffix =
            std::string(".") + name + (ftz ? ".ftz" : "") + (sat ? ".sat" : "") + ".f32";
        Op add("add" + suffix + " %f0, %f1, %f2"), sub("sub" + suffix + " %f0, %f1, %f2"),
            mul("mul" + suffix + " %f0, %f1, %f2"), fma("fma" + suffix + " %f0, %f1, %f2, %f3"),
            mad("mad" + suffix + " %f0, %f1, %f2, %f3");
        Values draw(uint64_t(mode) + 1);
        for (int i = 0; i < rounds / 4; ++i) {
          uint32_t x = draw.f32(), y = draw.f32(), z = draw.f32();
          if (i % 5 == 0) // cancellation
            z = bits(-(asFloat(x) * asFloat(y)));
          volatile float a = asFloat(x), b = asFloat(y), c = asFloat(z);
          if (ftz) {
            a = flush(a);
            b = flush(b);
            c = flush(c);
          }
          auto check = [&](Op &op, uint64_t got, float host) {
            ASSERT_EQ(got, expected32(host, ftz, sat))
                << op.text << " " << std::hex << x << " " << y << " " << z;
          };
          check(add, add(x, y), inMode(mode, [&] {
                  volatile float r = a + b;
                  return float(r);
                }));
          check(sub, sub(x, y), inMode(mode, [&] {
                  volatile float r = a - b;
                  return float(r);
                }));
          check(mul, mul(x, y), inMode(mode, [&] {
                  volatile float r = a * b;
                  return float(r);
                }));
          float f = inMode(mode, [&] {
            volatile float r = std::fma(a, b, c);
            return float(r);
          });
          check(fma, fma(x, y, z), f);
          check(mad, mad(x, y, z), f);
        }
      }
}

TEST(Float, DoublePrecisionInAllModes) {
  for (auto [name, mode] : modes) {
    std::string suffix = std::string(".") + name + ".f64";
    Op add("add" + suffix + " %fd0, %fd1, %fd2"), sub("sub" + suffix + " %fd0, %fd1, %fd2"),
        mul("mul" + suffix + " %fd0, %fd1, %fd2"), fma("fma" + suffix + " %fd0, %fd1, %fd2, %fd3"),
        div("div" + suffix + " %fd0, %fd1, %fd2"), sqrt("sqrt" + suffix + " %fd0, %fd1"),
        rcp("rcp" + suffix + " %fd0, %fd1");
    Values draw(uint64_t(mode) + 1);
    for (int i = 0; i < rounds; ++i) {
      uint64_t x = draw.f64(), y = draw.f64(), z = draw.f64();
      if (i % 5 == 0)
        z = bits(-(asDouble(x) * asDouble(y)));
      volatile double a = asDouble(x), b = asDouble(y), c = asDouble(z);
      auto check = [&](Op &op, uint64_t got, double host) {
        if (host != host)
          ASSERT_TRUE(std::isnan(asDouble(got))) << op.text;
        else
          ASSERT_EQ(got, bits(host)) << op.text << " " << std::hex << x << " " << y << " " << z;
      };
      check(add, add(x, y), inMode(mode, [&] {
              volatile double r = a + b;
              return double(r);
            }));
      check(sub, sub(x, y), inMode(mode, [&] {
              volatile double r = a - b;
              return double(r);
            }));
      check(mul, mul(x, y), inMode(mode, [&] {
              volatile double r = a * b;
              return double(r);
            }));
      check(div, div(x, y), inMode(mode, [&] {
              volatile double r = a / b;
              return double(r);
            }));
      check(rcp, rcp(x), inMode(mode, [&] {
              volatile double r = 1 / a;
              return double(r);
            }));
      check(sqrt, sqrt(x), inMode(mode, [&] {
              volatile double r = std::sqrt(a);
              return double(r);
            }));
      check(fma, fma(x, y, z), inMode(mode, [&] {
              volatile double r = std::fma(a, b, c);
              return double(r);
            }));
    }
  }
}

TEST(Float, DivisionAndRootsOfSinglePrecision) {
  for (auto [name, mode] : modes)
    for (bool ftz : {false, true}) {
      std::string suffix = std::string(".") + name + (ftz ? ".ftz" : "") + ".f32";
      Op div("div" + suffix + " %f0, %f1, %f2"), rcp("rcp" + suffix + " %f0, %f1"),
          sqrt("sqrt" + suffix + " %f0, %f1");
      Values draw(uint64_t(mode) + 7);
      for (int i = 0; i < rounds / 2; ++i) {
        uint32_t x = draw.f32(), y = draw.f32();
        volatile float a = asFloat(x), b = asFloat(y);
        if (ftz) {
          a = flush(a);
          b = flush(b);
        }
        ASSERT_EQ(div(x, y), expected32(inMode(mode,
                                               [&] {
                                                 volatile float r = a / b;
                                                 return float(r);
                                               }),
                                        ftz, false))
            << div.text << std::hex << " " << x << " " << y;
        ASSERT_EQ(rcp(x), expected32(inMode(mode,
                                            [&] {
                                              volatile float r = 1 / a;
                                              return float(r);
                                            }),
                                     ftz, false));
        ASSERT_EQ(sqrt(x), expected32(inMode(mode,
                                             [&] {
                                               volatile float r = std::sqrt(a);
                                               return float(r);
                                             }),
                                      ftz, false))
            << sqrt.text << std::hex << " " << x;
      }
    }
}

// NaN of f64 keeps its payload, made quiet.
TEST(Float, NaNOfDoublePrecision) {
  Op add("add.f64 %fd0, %fd1, %fd2"), down("add.rm.f64 %fd0, %fd1, %fd2");
  for (Op *op : {&add, &down}) {
    EXPECT_EQ((*op)(uint64_t(0x7ff0000000000005), bits(1.0)), 0x7ff8000000000005u);
    EXPECT_EQ((*op)(bits(1.0), uint64_t(0xfff8000000000007)), 0xfff8000000000007u);
    EXPECT_EQ((*op)(bits(__builtin_inf()), bits(-__builtin_inf())), 0xfff8000000000000u);
  }
}

struct Short {
  const char *type;
  const Table &table;
  unsigned exponentBits, fractionBits;
};

void checkShort(const Short &s) {
  std::string t = s.type;
  bool isHalf = t == "f16";
  auto decode = [&](uint32_t x, bool &nan, bool &negative) -> quad {
    uint32_t magnitude = x & 0x7fff;
    negative = x >> 15;
    nan = magnitude > s.table.infinity;
    if (nan || magnitude == s.table.infinity)
      return negative ? -quad(__builtin_inf()) : quad(__builtin_inf());
    quad value = s.table.value(magnitude);
    return negative ? -value : value;
  };
  for (const char *flags : isHalf ? std::vector<const char *>{"", ".ftz", ".sat", ".ftz.sat"}
                                  : std::vector<const char *>{""}) {
    bool ftz = strstr(flags, "ftz"), sat = strstr(flags, "sat");
    Op add("add" + std::string(flags) + "." + t + " %h0, %h1, %h2"),
        sub("sub" + std::string(flags) + "." + t + " %h0, %h1, %h2"),
        mul("mul" + std::string(flags) + "." + t + " %h0, %h1, %h2"),
        fma("fma.rn" + std::string(flags) + "." + t + " %h0, %h1, %h2, %h3"),
        pair("fma.rn" + std::string(flags) + "." + t + "x2 %r0, %r1, %r2, %r3"),
        relu(std::string("fma.rn.relu.") + t + " %h0, %h1, %h2, %h3");
    Values draw(3);
    for (int i = 0; i < rounds; ++i) {
      uint32_t x = uint32_t(draw.floating(s.exponentBits, s.fractionBits)),
               y = uint32_t(draw.floating(s.exponentBits, s.fractionBits)),
               z = uint32_t(draw.floating(s.exponentBits, s.fractionBits));
      auto flushed = [&](uint32_t v) { return ftz && !(v & s.table.infinity) ? v & 0x8000 : v; };
      bool xNan, yNan, zNan, xn, yn, zn;
      quad a = decode(flushed(x), xNan, xn), b = decode(flushed(y), yNan, yn),
           c = decode(flushed(z), zNan, zn);
      auto finish = [&](quad exact, bool nan, bool negativeZero,
                        bool withRelu = false) -> uint32_t {
        nan = nan || exact != exact;
        if (sat && !withRelu)
          return nan || exact <= 0 ? 0
                 : exact >= 1      ? s.table.round(1, false, Mode::Nearest)
                                   : flushed(s.table.round(exact, false, Mode::Nearest));
        if (nan)
          return s.table.nan;
        uint32_t result =
            s.table.round(exact, exact == 0 ? negativeZero : exact < 0, Mode::Nearest);
        if (withRelu)
          return result & 0x8000 ? 0 : result;
        return flushed(result);
      };
      ASSERT_EQ(add(x, y), finish(a + b, xNan || yNan, xn && yn))
          << add.text << std::hex << x << " " << y;
      ASSERT_EQ(sub(x, y), finish(a - b, xNan || yNan, xn && !yn))
          << sub.text << std::hex << x << " " << y;
      ASSERT_EQ(mul(x, y), finish(a * b, xNan || yNan, xn != yn))
          << mul.text << std::hex << x << " " << y;
      // Sums whose terms are too far apart for 113 bits are left out (bf16).
      quad p = a * b, m = p < 0 ? -p : p, n = c < 0 ? -c : c;
      quad larger = m > n ? m : n, smaller = m > n ? n : m;
      if (smaller != 0 && larger < quad(1e300) && larger / smaller > quad(0x1p80))
        continue;
      uint32_t want = finish(p + c, xNan || yNan || zNan, xn != yn && zn);
      ASSERT_EQ(fma(x, y, z), want) << fma.text << std::hex << " " << x << " " << y << " " << z;
      if (!ftz && !sat)
        ASSERT_EQ(relu(x, y, z), finish(p + c, xNan || yNan || zNan, false, true));
      uint32_t half = want;
      ASSERT_EQ(pair(x | x << 16, y | y << 16, z | z << 16), half | half << 16);
    }
  }
}
TEST(Float, Half) { checkShort({"f16", tableF16(), 5, 10}); }
TEST(Float, BFloat) { checkShort({"bf16", tableBF16(), 8, 7}); }

TEST(Float, MinMax) {
  struct Case {
    const char *type, *reg;
    unsigned exponentBits, fractionBits;
    bool flags;
  };
  for (const Case &c : {Case{"f32", "%f", 8, 23, true}, Case{"f64", "%fd", 11, 52, false},
                        Case{"f16", "%h", 5, 10, true}, Case{"bf16", "%h", 8, 7, true}})
    for (bool isMax : {false, true})
      for (int flags = 0; flags < (c.flags ? 8 : 1); ++flags) {
        bool ftz = flags & 1, nans = flags & 2, xorsign = flags & 4;
        if (ftz && !strcmp(c.type, "bf16"))
          continue;
        std::string r = c.reg;
        Op op(std::string(isMax ? "max" : "min") + (ftz ? ".ftz" : "") + (nans ? ".NaN" : "") +
              (xorsign ? ".xorsign.abs" : "") + "." + c.type + " " + r + "0, " + r + "1, " + r +
              "2");
        uint64_t sign = uint64_t(1) << (c.exponentBits + c.fractionBits);
        uint64_t infinity = ((uint64_t(1) << c.exponentBits) - 1) << c.fractionBits;
        Values draw(5);
        for (int i = 0; i < rounds / 4; ++i) {
          uint64_t x = draw.floating(c.exponentBits, c.fractionBits),
                   y = draw.floating(c.exponentBits, c.fractionBits);
          auto flushed = [&](uint64_t v) { return ftz && !(v & infinity) ? v & sign : v; };
          uint64_t a = flushed(x), b = flushed(y), want;
          uint64_t s = (a ^ b) & sign;
          if (xorsign) {
            a &= ~sign;
            b &= ~sign;
          }
          bool aNan = (a & ~sign) > infinity, bNan = (b & ~sign) > infinity;
          // Order of sign and magnitude.
          auto key = [&](uint64_t v) { return v & sign ? -__int128(v & ~sign) - 1 : __int128(v); };
          bool isNan = (aNan && bNan) || (nans && (aNan || bNan));
          if (aNan || bNan)
            want = aNan ? b : a;
          else
            want = (key(a) < key(b)) != isMax ? a : b;
          uint64_t got = op(x, y);
          if (isNan && c.fractionBits == 52)
            ASSERT_GT(got & ~sign, infinity);
          else if (isNan)
            ASSERT_EQ(got, sign - 1) << op.text << std::hex << " " << x << " " << y;
          else
            ASSERT_EQ(got, xorsign ? want | s : want)
                << op.text << std::hex << " " << x << " " << y;
        }
      }
  EXPECT_EQ(Op("max.f16x2 %r0, %r1, %r2")(0x3c00bc00, 0xbc003c00), 0x3c003c00u);
  EXPECT_EQ(Op("min.NaN.bf16x2 %r0, %r1, %r2")(0x3f807fc0, 0x40000000), 0x3f807fffu);
}

TEST(Float, SignsAndProperties) {
  Values draw;
  Op abs("abs.f32 %f0, %f1"), absFtz("abs.ftz.f32 %f0, %f1"), neg("neg.f32 %f0, %f1"),
      negFtz("neg.ftz.f32 %f0, %f1");
  Op abs64("abs.f64 %fd0, %fd1"), neg64("neg.f64 %fd0, %fd1"), neg16("neg.f16 %h0, %h1"),
      absB("abs.bf16x2 %r0, %r1");
  Op copy("copysign.f32 %f0, %f1, %f2"), copy64("copysign.f64 %fd0, %fd1, %fd2");
  for (int i = 0; i < rounds; ++i) {
    uint32_t x = draw.f32(), y = draw.f32();
    bool nan = (x & 0x7fffffff) > 0x7f800000;
    uint32_t flushed = x & 0x7f800000 ? x : x & 0x80000000;
    ASSERT_EQ(abs(x), nan ? 0x7fffffff : x & 0x7fffffff);
    ASSERT_EQ(absFtz(x), nan ? 0x7fffffff : flushed & 0x7fffffff);
    ASSERT_EQ(neg(x), nan ? 0x7fffffff : x ^ 0x80000000);
    ASSERT_EQ(negFtz(x), nan ? 0x7fffffff : flushed ^ 0x80000000);
    ASSERT_EQ(copy(x, y), (x & 0x80000000) | (y & 0x7fffffff));
    uint64_t a = draw.f64(), b = draw.f64(), s = uint64_t(1) << 63;
    ASSERT_EQ(abs64(a), a & ~s);
    ASSERT_EQ(neg64(a), a ^ s);
    ASSERT_EQ(copy64(a, b), (a & s) | (b & ~s));
    uint32_t h = draw.f16();
    ASSERT_EQ(neg16(h), (h & 0x7fff) > 0x7c00 ? 0x7fff : h ^ 0x8000);
  }
  EXPECT_EQ(absB(0xbf80c000), 0x3f804000u);
  struct {
    const char *name;
    bool (*model)(double, int);
  } properties[] = {{"finite", [](double x, int) { return std::isfinite(x) != 0; }},
                    {"infinite", [](double x, int) { return std::isinf(x) != 0; }},
                    {"number", [](double x, int) { return !std::isnan(x); }},
                    {"notanumber", [](double x, int) { return std::isnan(x) != 0; }},
                    {"normal", [](double, int c) { return c == FP_NORMAL || c == FP_ZERO; }},
                    {"subnormal", [](double, int c) { return c == FP_SUBNORMAL; }}};
  for (auto &property : properties) {
    Op single(std::string("testp.") + property.name + ".f32 %p0, %f1"),
        wide(std::string("testp.") + property.name + ".f64 %p0, %fd1");
    for (int i = 0; i < 2000; ++i) {
      float x = asFloat(draw.f32());
      double y = asDouble(draw.f64());
      ASSERT_EQ(single(bits(x)), property.model(x, std::fpclassify(x)));
      ASSERT_EQ(wide(bits(y)), property.model(y, std::fpclassify(y)));
    }
  }
}

} // namespace
