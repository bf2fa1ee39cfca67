//===- CompareTest.cpp - setp and set with every comparison -----------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Evaluate.h"
#include "Formats.h"

using namespace sgpu::scalar;

namespace {

/// less, equal, greater or unordered.
enum Order { Less, Equal, Greater, Unordered };

const struct {
  const char *name;
  bool results[4]; ///< by Order
} comparisons[] = {
    {"eq", {0, 1, 0, 0}},  {"ne", {1, 0, 1, 0}},  {"lt", {1, 0, 0, 0}},  {"le", {1, 1, 0, 0}},
    {"gt", {0, 0, 1, 0}},  {"ge", {0, 1, 1, 0}},  {"equ", {0, 1, 0, 1}}, {"neu", {1, 0, 1, 1}},
    {"ltu", {1, 0, 0, 1}}, {"leu", {1, 1, 0, 1}}, {"gtu", {0, 0, 1, 1}}, {"geu", {0, 1, 1, 1}},
    {"num", {1, 1, 1, 0}}, {"nan", {0, 0, 0, 1}}, {"lo", {1, 0, 0, 0}},  {"ls", {1, 1, 0, 0}},
    {"hi", {0, 0, 1, 0}},  {"hs", {0, 1, 1, 0}},
};

struct Kind {
  const char *name, *reg;
  unsigned width;
  char kind; ///< b, s, u, f
};
const Kind kinds[] = {{"b16", "%h", 16, 'b'}, {"b32", "%r", 32, 'b'},  {"b64", "%rd", 64, 'b'},
                      {"s16", "%h", 16, 's'}, {"s32", "%r", 32, 's'},  {"s64", "%rd", 64, 's'},
                      {"u16", "%h", 16, 'u'}, {"u32", "%r", 32, 'u'},  {"u64", "%rd", 64, 'u'},
                      {"f32", "%f", 32, 'f'}, {"f64", "%fd", 64, 'f'}, {"f16", "%h", 16, 'f'},
                      {"bf16", "%h", 16, 'f'}};

bool exists(int comparison, const Kind &k) {
  std::string name = comparisons[comparison].name;
  if (k.kind == 'b')
    return name == "eq" || name == "ne";
  if (comparison >= 14)
    return k.kind == 'u';
  return k.kind == 'f' || comparison < 6;
}

uint64_t drawOf(Values &draw, const Kind &k) {
  if (k.kind != 'f')
    return draw(k.width);
  return k.width == 64      ? draw.f64()
         : k.width == 32    ? draw.f32()
         : k.name[0] == 'b' ? draw.bf16()
                            : draw.f16();
}

Order order(uint64_t a, uint64_t b, const Kind &k, bool ftz) {
  uint64_t sign = uint64_t(1) << (k.width - 1);
  if (k.kind == 's') // moves negative numbers below
    return (a ^ sign) < (b ^ sign) ? Less : a == b ? Equal : Greater;
  if (k.kind != 'f')
    return a < b ? Less : a == b ? Equal : Greater;
  uint64_t infinity = k.width == 64      ? 0x7ff0000000000000
                      : k.width == 32    ? 0x7f800000
                      : k.name[0] == 'b' ? 0x7f80
                                         : 0x7c00;
  if ((a & ~sign) > infinity || (b & ~sign) > infinity)
    return Unordered;
  if (ftz) {
    a = a & infinity ? a : a & sign;
    b = b & infinity ? b : b & sign;
  }
  auto key = [&](uint64_t x) {
    return x & sign ? -__int128(x & ~sign) : __int128(x);
  }; // zeros are equal
  return key(a) < key(b) ? Less : key(a) == key(b) ? Equal : Greater;
}

TEST(Compare, SetpOfEveryTypeAndComparison) {
  for (int c = 0; c < int(std::size(comparisons)); ++c)
    for (const Kind &k : kinds) {
      if (!exists(c, k))
        continue;
      for (bool ftz : {false, true}) {
        if (ftz && strcmp(k.name, "f32") && strcmp(k.name, "f16"))
          continue;
        std::string r = k.reg, flags = ftz ? ".ftz" : "";
        bool isShort = k.kind == 'f' && k.width == 16; // these have no second result
        std::string to = isShort ? "%p0" : "%p0|%p1";
        std::string sources = " " + to + ", " + r + "1, " + r + "2";
        Op plain(std::string("setp.") + comparisons[c].name + flags + "." + k.name + sources);
        Op andOp(std::string("setp.") + comparisons[c].name + ".and" + flags + "." + k.name +
                 sources + ", %p2"),
            orOp(std::string("setp.") + comparisons[c].name + ".or" + flags + "." + k.name +
                 sources + ", !%p2"),
            xorOp(std::string("setp.") + comparisons[c].name + ".xor" + flags + "." + k.name +
                  sources + ", %p2");
        Values draw;
        for (int i = 0; i < 300; ++i) {
          uint64_t a = drawOf(draw, k), b = i % 4 ? drawOf(draw, k) : a;
          bool want = comparisons[c].results[order(a, b, k, ftz)], p = draw.random() % 2;
          auto check = [&](const Op::Result &got, bool first, bool second, Op &op) {
            ASSERT_EQ(got.first, first) << op.text << std::hex << " " << a << " " << b;
            ASSERT_EQ(got.second, second) << op.text;
          };
          check(plain(a, b), want, !want, plain);
          check(andOp(a, b, p), want && p, !want && p, andOp);
          check(orOp(a, b, p), want || p, !want || p, orOp);
          check(xorOp(a, b, p), want != p, want == p, xorOp);
        }
      }
    }
}

TEST(Compare, PairsOfShortFloats) {
  auto got =
      Op("setp.lt.f16x2 %p0|%p1, %r1, %r2")(0x3c004000, 0x40003c00); // {2, 1} < {1, 2}, low first
  EXPECT_EQ(got.first, 0u);
  EXPECT_EQ(got.second, 1u);
  got = Op("setp.geu.bf16x2 %p0|%p1, %r1, %r2")(0x7fc03f80, 0x3f803f80);
  EXPECT_EQ(got.first, 1u);
  EXPECT_EQ(got.second, 1u);
}

TEST(Compare, Set) {
  EXPECT_EQ(Op("set.lt.u32.s32 %r0, %r1, %r2")(uint32_t(-1), 0), ~0u);
  EXPECT_EQ(Op("set.lt.u32.u32 %r0, %r1, %r2")(uint32_t(-1), 0), 0u);
  EXPECT_EQ(Op("set.eq.f32.s64 %f0, %rd1, %rd2")(5, 5), bits(1.0f));
  EXPECT_EQ(Op("set.eq.f32.s64 %f0, %rd1, %rd2")(5, 6), 0u);
  EXPECT_EQ(Op("set.ltu.or.s32.f64 %r0, %fd1, %fd2, !%p0")(bits(1.0), bits(0.5), 0), 0u);
  EXPECT_EQ(Op("set.ltu.or.s32.f64 %r0, %fd1, %fd2, %p0")(bits(__builtin_nan("")), bits(0.5), 0),
            ~0u);
  EXPECT_EQ(Op("set.gt.f16.f16 %h0, %h1, %h2")(0x4000, 0x3c00), 0x3c00u);
  EXPECT_EQ(Op("set.gt.bf16.bf16 %h0, %h1, %h2")(0x4000, 0x3f80), 0x3f80u);
  EXPECT_EQ(Op("set.gt.u16.f16 %h0, %h1, %h2")(0x4000, 0x3c00), 0xffffu);
  EXPECT_EQ(Op("set.gt.f16x2.f16x2 %r0, %r1, %r2")(0x40003c00, 0x3c003c00), 0x3c000000u);
  EXPECT_EQ(Op("set.ge.u32.f16x2 %r0, %r1, %r2")(0x3c003c00, 0x40003c00), 0x0000ffffu);
  EXPECT_EQ(Op("set.ge.and.bf16x2.bf16x2 %r0, %r1, %r2, %p0")(0x3f803f80, 0x3f803f80, 1),
            0x3f803f80u);
}

} // namespace
