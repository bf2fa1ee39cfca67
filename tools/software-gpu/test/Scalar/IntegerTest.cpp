//===- IntegerTest.cpp - Integer instructions against models in 128 bits ----===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Evaluate.h"

#include <functional>

using namespace sgpu::scalar;

namespace {

using Int = __int128;
constexpr int rounds = 3000;

struct IntType {
  const char *name;
  unsigned width;
  bool isSigned;
  const char *reg;
};
const IntType allTypes[] = {{"u16", 16, false, "%h"},  {"s16", 16, true, "%h"},
                            {"u32", 32, false, "%r"},  {"s32", 32, true, "%r"},
                            {"u64", 64, false, "%rd"}, {"s64", 64, true, "%rd"}};

Int valueOf(uint64_t bits, const IntType &t) {
  Int value = Int(t.width == 64 ? bits : bits & ((uint64_t(1) << t.width) - 1));
  return t.isSigned && (bits >> (t.width - 1) & 1) ? value - (Int(1) << t.width) : value;
}
uint64_t cut(Int value, unsigned width) {
  return uint64_t(value) & (width == 64 ? ~uint64_t(0) : (uint64_t(1) << width) - 1);
}
Int clampTo(Int value, const IntType &t) {
  Int low = t.isSigned ? -(Int(1) << (t.width - 1)) : 0;
  Int high = (Int(1) << (t.isSigned ? t.width - 1 : t.width)) - 1;
  return value < low ? low : value > high ? high : value;
}
std::string instruction(std::string name, const IntType &t, unsigned operands) {
  for (unsigned i = 0; i < operands; ++i)
    name += (i ? ", " : " ") + std::string(t.reg) + std::to_string(i);
  return name;
}

void checkBinary(const char *name, const std::function<Int(Int, Int, const IntType &)> &model,
                 std::initializer_list<const char *> only = {}) {
  for (const IntType &t : allTypes) {
    if (only.size() && std::find_if(only.begin(), only.end(), [&](const char *o) {
                         return !strcmp(o, t.name);
                       }) == only.end())
      continue;
    Op op(instruction(std::string(name) + "." + t.name, t, 3));
    Values draw;
    for (int i = 0; i < rounds; ++i) {
      uint64_t a = draw(t.width), b = draw(t.width);
      ASSERT_EQ(op(a, b), cut(model(valueOf(a, t), valueOf(b, t), t), t.width))
          << op.text << " " << a << " " << b;
    }
  }
}

TEST(Integer, AddSubMul) {
  checkBinary("add", [](Int a, Int b, const IntType &) { return a + b; });
  checkBinary("sub", [](Int a, Int b, const IntType &) { return a - b; });
  checkBinary("mul.lo",
              [](Int a, Int b, const IntType &) { return Int((unsigned __int128)a * b); });
  checkBinary("min", [](Int a, Int b, const IntType &) { return a < b ? a : b; });
  checkBinary("max", [](Int a, Int b, const IntType &) { return a > b ? a : b; });
  checkBinary("add.sat", [](Int a, Int b, const IntType &t) { return clampTo(a + b, t); }, {"s32"});
  checkBinary("sub.sat", [](Int a, Int b, const IntType &t) { return clampTo(a - b, t); }, {"s32"});
  checkBinary("min.relu",
              [](Int a, Int b, const IntType &) { return std::max(Int(0), std::min(a, b)); },
              {"s32"});
  checkBinary("max.relu",
              [](Int a, Int b, const IntType &) { return std::max(Int(0), std::max(a, b)); },
              {"s32"});
}

TEST(Integer, MulHighByLongMultiplication) {
  for (const IntType &t : allTypes) {
    Op op(instruction(std::string("mul.hi.") + t.name, t, 3));
    Values draw;
    for (int i = 0; i < rounds; ++i) {
      uint64_t a = draw(t.width), b = draw(t.width);
      // |a| * |b| in halves of 32 bits, then the sign.
      Int x = valueOf(a, t), y = valueOf(b, t);
      bool negative = (x < 0) != (y < 0);
      unsigned __int128 m = (unsigned __int128)(x < 0 ? -x : x),
                        n = (unsigned __int128)(y < 0 ? -y : y);
      unsigned __int128 product = m * n; // below 2^128
      if (negative)
        product = -product;
      ASSERT_EQ(op(a, b), cut(Int(product >> t.width), t.width)) << op.text << " " << a << " " << b;
    }
  }
}

TEST(Integer, DivisionAndRemainder) {
  checkBinary("div", [](Int a, Int b, const IntType &) { return b == 0 ? Int(-1) : a / b; });
  checkBinary("rem", [](Int a, Int b, const IntType &) { return b == 0 ? Int(-1) : a % b; });
  EXPECT_EQ(Op("div.s32 %r0, %r1, %r2")(0x80000000, 0xffffffff), 0x80000000u);
  EXPECT_EQ(Op("rem.s32 %r0, %r1, %r2")(0x80000000, 0xffffffff), 0u);
  EXPECT_EQ(Op("div.s64 %rd0, %rd1, %rd2")(uint64_t(1) << 63, ~uint64_t(0)), uint64_t(1) << 63);
  EXPECT_EQ(Op("div.s32 %r0, %r1, %r2")(uint32_t(-7), 2), uint32_t(-3)); // towards zero
  EXPECT_EQ(Op("rem.s32 %r0, %r1, %r2")(uint32_t(-7), 2), uint32_t(-1));
}

TEST(Integer, MadAndWide) {
  for (const IntType &t : allTypes) {
    Op low(instruction(std::string("mad.lo.") + t.name, t, 4));
    Op high(instruction(std::string("mad.hi.") + t.name, t, 4));
    Values draw;
    for (int i = 0; i < rounds; ++i) {
      uint64_t a = draw(t.width), b = draw(t.width), c = draw(t.width);
      Int product = Int((unsigned __int128)valueOf(a, t) * (unsigned __int128)valueOf(b, t));
      ASSERT_EQ(low(a, b, c), cut(product + Int(c), t.width));
      Int upper = t.isSigned ? product >> t.width : Int((unsigned __int128)product >> t.width);
      ASSERT_EQ(high(a, b, c), cut(upper + Int(c), t.width));
    }
    if (t.width == 64)
      continue;
    const char *wide = t.width == 16 ? "%r" : "%rd";
    auto name = [&](const char *base, bool mad) {
      return std::string(base) + ".wide." + t.name + " " + wide + "0, " + t.reg + "1, " + t.reg +
             "2" + (mad ? std::string(", ") + wide + "3" : "");
    };
    Op mul(name("mul", false)), mad(name("mad", true));
    for (int i = 0; i < rounds; ++i) {
      uint64_t a = draw(t.width), b = draw(t.width), c = draw(2 * t.width);
      Int product = valueOf(a, t) * valueOf(b, t);
      ASSERT_EQ(mul(a, b), cut(product, 2 * t.width));
      ASSERT_EQ(mad(a, b, c), cut(product + Int(c), 2 * t.width));
    }
  }
  EXPECT_EQ(Op("mad.hi.sat.s32 %r0, %r1, %r2, %r3")(0x7fffffff, 0x7fffffff, 0x7fffffff),
            0x7fffffffu);
  EXPECT_EQ(Op("mul24.lo.u32 %r0, %r1, %r2")(0xff000003, 0xab000005), 15u);
  EXPECT_EQ(Op("mul24.hi.u32 %r0, %r1, %r2")(0xffffff, 0xffffff),
            uint32_t((0xffffffull * 0xffffff) >> 16));
  EXPECT_EQ(Op("mul24.lo.s32 %r0, %r1, %r2")(0xffffff, 5), uint32_t(-5));
  EXPECT_EQ(Op("mad24.lo.s32 %r0, %r1, %r2, %r3")(0xffffff, 5, 7), 2u);
}

// A sum of 128 bits made of four words with carries is the sum.
TEST(Integer, CarryChains) {
  Op add("add.cc.u32 %r0, %r1, %r2"), addcc("addc.cc.u32 %r0, %r1, %r2"),
      addc("addc.u32 %r0, %r1, %r2");
  Op sub("sub.cc.u32 %r0, %r1, %r2"), subcc("subc.cc.u32 %r0, %r1, %r2"),
      subc("subc.u32 %r0, %r1, %r2");
  Values draw;
  for (int i = 0; i < rounds; ++i) {
    uint32_t a[3], b[3];
    unsigned __int128 x = 0, y = 0;
    for (int w = 2; w >= 0; --w) {
      a[w] = uint32_t(draw(32));
      b[w] = uint32_t(draw(32));
      x = x << 32 | a[w];
      y = y << 32 | b[w];
    }
    auto chain = [&](Op &first, Op &middle, Op &last) {
      auto r0 = first(a[0], b[0]);
      auto r1 = middle(a[1], b[1], r0.second);
      auto r2 = last(a[2], b[2], r1.second);
      return (unsigned __int128)r2.first << 64 | (unsigned __int128)r1.first << 32 | r0.first;
    };
    unsigned __int128 mask = ((unsigned __int128)1 << 96) - 1;
    ASSERT_TRUE(chain(add, addcc, addc) == ((x + y) & mask));
    ASSERT_TRUE(chain(sub, subcc, subc) == ((x - y) & mask));
  }
  // 64 x 64 to 128 bits with mad.lo.cc and madc.hi.
  Op lo("mad.lo.cc.u64 %rd0, %rd1, %rd2, %rd3"), hi("madc.hi.u64 %rd0, %rd1, %rd2, %rd3");
  for (int i = 0; i < rounds; ++i) {
    uint64_t a = draw(64), b = draw(64), c = draw(64), d = draw(64);
    auto low = lo(a, b, c);
    uint64_t high = hi(a, b, d, low.second);
    unsigned __int128 want = (unsigned __int128)a * b + ((unsigned __int128)d << 64 | c);
    ASSERT_TRUE(((unsigned __int128)high << 64 | low.first) == want);
  }
}

TEST(Integer, SadAbsNeg) {
  for (const IntType &t : allTypes) {
    Op sad(instruction(std::string("sad.") + t.name, t, 4));
    Values draw;
    for (int i = 0; i < rounds; ++i) {
      uint64_t a = draw(t.width), b = draw(t.width), c = draw(t.width);
      Int d = valueOf(a, t) - valueOf(b, t);
      ASSERT_EQ(sad(a, b, c), cut((d < 0 ? -d : d) + Int(c), t.width));
      if (t.isSigned && i == 0) {
        Op abs(instruction(std::string("abs.") + t.name, t, 2)),
            neg(instruction(std::string("neg.") + t.name, t, 2));
        for (int j = 0; j < rounds; ++j) {
          uint64_t x = draw(t.width);
          Int v = valueOf(x, t);
          ASSERT_EQ(abs(x), cut(v < 0 ? -v : v, t.width));
          ASSERT_EQ(neg(x), cut(-v, t.width));
        }
      }
    }
  }
}

TEST(Integer, ShiftsPastTheWidth) {
  for (const IntType &t : allTypes) {
    Op right(std::string("shr.") + t.name + " " + t.reg + "0, " + t.reg + "1, %r2");
    Op left("shl.b" + std::to_string(t.width) + " " + t.reg + "0, " + t.reg + "1, %r2");
    Values draw;
    for (int i = 0; i < rounds; ++i) {
      uint64_t a = draw(t.width);
      uint32_t n = uint32_t(i % 3 ? draw.random() % 80 : draw(32));
      Int v = valueOf(a, t);
      ASSERT_EQ(left(a, n), n >= t.width ? 0 : cut(Int(a) << n, t.width)) << n;
      ASSERT_EQ(right(a, n), cut(n >= t.width ? (v < 0 ? Int(-1) : Int(0)) : v >> n, t.width)) << n;
    }
  }
}

TEST(Integer, FunnelShift) {
  Op lw("shf.l.wrap.b32 %r0, %r1, %r2, %r3"), lc("shf.l.clamp.b32 %r0, %r1, %r2, %r3");
  Op rw("shf.r.wrap.b32 %r0, %r1, %r2, %r3"), rc("shf.r.clamp.b32 %r0, %r1, %r2, %r3");
  Values draw;
  for (int i = 0; i < rounds; ++i) {
    uint32_t a = uint32_t(draw(32)), b = uint32_t(draw(32)),
             c = uint32_t(i % 2 ? draw(32) : draw.random() % 40);
    unsigned __int128 both = (unsigned __int128)b << 32 | a;
    uint32_t wrap = c % 32, clamp = std::min(c, 32u);
    ASSERT_EQ(lw(a, b, c), uint32_t((both << wrap) >> 32));
    ASSERT_EQ(lc(a, b, c), uint32_t((both << clamp) >> 32));
    ASSERT_EQ(rw(a, b, c), uint32_t(both >> wrap));
    ASSERT_EQ(rc(a, b, c), uint32_t(both >> clamp));
  }
}

// The pseudo-code of the ISA, bit by bit.
TEST(Integer, BitFields) {
  for (const IntType &t : {allTypes[2], allTypes[3], allTypes[4], allTypes[5]}) {
    Op bfe(std::string("bfe.") + t.name + " " + t.reg + "0, " + t.reg + "1, %r2, %r3");
    Op bfi("bfi.b" + std::to_string(t.width) + " " + t.reg + "0, " + t.reg + "1, " + t.reg +
           "2, %r3, %r4");
    Values draw;
    for (int i = 0; i < 2 * rounds; ++i) {
      uint64_t a = draw(t.width), f = draw(t.width);
      uint32_t b = uint32_t(i % 4 ? draw.random() % (t.width + 4) : draw(32));
      uint32_t c = uint32_t(i % 5 ? draw.random() % (t.width + 4) : draw(32));
      unsigned msb = t.width - 1, pos = b & 255, len = c & 255;
      bool sign = t.isSigned && len != 0 && (a >> std::min(pos + len - 1, msb) & 1);
      uint64_t want = 0;
      for (unsigned j = 0; j <= msb; ++j) {
        bool bit = j < len && pos + j <= msb ? a >> (pos + j) & 1 : sign;
        want |= uint64_t(bit) << j;
      }
      ASSERT_EQ(bfe(a, b, c), want) << bfe.text << " " << a << " " << pos << " " << len;
      want = f;
      for (unsigned j = 0; j < len && pos + j <= msb; ++j)
        want = (want & ~(uint64_t(1) << (pos + j))) | uint64_t(a >> j & 1) << (pos + j);
      ASSERT_EQ(bfi(a, f, b, c), want);
    }
  }
}

TEST(Integer, CountAndFind) {
  Values draw;
  for (const IntType &t : {allTypes[2], allTypes[3], allTypes[4], allTypes[5]}) {
    std::string r = t.reg, w = std::to_string(t.width);
    Op popc("popc.b" + w + " %r0, " + r + "1"), clz("clz.b" + w + " %r0, " + r + "1"),
        brev("brev.b" + w + " " + r + "0, " + r + "1"),
        find(std::string("bfind.") + t.name + " %r0, " + r + "1"),
        shift(std::string("bfind.shiftamt.") + t.name + " %r0, " + r + "1");
    for (int i = 0; i < rounds; ++i) {
      uint64_t a = draw(t.width), reversed = 0;
      unsigned ones = 0, top = 0;
      int highest = -1;
      for (unsigned j = 0; j < t.width; ++j) {
        bool bit = a >> j & 1;
        ones += bit;
        if (bit)
          top = j + 1;
        reversed |= uint64_t(bit) << (t.width - 1 - j);
        bool sign = t.isSigned && (a >> (t.width - 1) & 1);
        if (bit != sign)
          highest = int(j);
      }
      ASSERT_EQ(popc(a), ones);
      ASSERT_EQ(clz(a), t.width - top);
      ASSERT_EQ(brev(a), reversed);
      ASSERT_EQ(find(a), uint32_t(highest));
      ASSERT_EQ(shift(a), highest < 0 ? ~0u : t.width - 1 - unsigned(highest));
    }
  }
}

TEST(Integer, ExtendMaskAndNthBit) {
  Values draw;
  for (bool clamp : {false, true}) {
    std::string mode = clamp ? "clamp" : "wrap";
    Op u("szext." + mode + ".u32 %r0, %r1, %r2"), s("szext." + mode + ".s32 %r0, %r1, %r2"),
        mask("bmsk." + mode + ".b32 %r0, %r1, %r2");
    for (int i = 0; i < rounds; ++i) {
      uint32_t a = uint32_t(draw(32)), b = uint32_t(i % 3 ? draw.random() % 40 : draw(32));
      uint32_t n = clamp ? std::min(b, 32u) : b % 32;
      uint32_t field = n == 32 ? a : a & ((1u << n) - 1);
      ASSERT_EQ(u(a, b), field);
      ASSERT_EQ(s(a, b), n && n < 32 && field >> (n - 1) ? field | ~((1u << n) - 1) : field);
      uint32_t from = clamp ? std::min(a, 32u) : a % 32, want = 0;
      uint32_t small = uint32_t(draw.random() % 40);
      from = clamp ? std::min(small, 32u) : small % 32;
      for (uint32_t j = 0; j < 32; ++j)
        want |= uint32_t(j >= from && j - from < n) << j;
      ASSERT_EQ(mask(small, b), want) << small << " " << b;
    }
  }
  Op fns("fns.b32 %r0, %r1, %r2, %r3");
  EXPECT_EQ(fns(0b10110, 0, 1), 1u);
  EXPECT_EQ(fns(0b10110, 0, 3), 4u);
  EXPECT_EQ(fns(0b10110, 0, 4), ~0u);
  EXPECT_EQ(fns(0b10110, 4, uint32_t(-2)), 2u);
  EXPECT_EQ(fns(0b10110, 2, 0), 2u);
  EXPECT_EQ(fns(0b10110, 3, 0), ~0u);
}

TEST(Integer, LogicTables) {
  Values draw;
  for (unsigned table = 0; table < 256; ++table) {
    Op op("lop3.b32 %r0, %r1, %r2, %r3, " + std::to_string(table));
    for (int i = 0; i < 30; ++i) {
      uint32_t a = uint32_t(draw(32)), b = uint32_t(draw(32)), c = uint32_t(draw(32)), want = 0;
      for (unsigned j = 0; j < 32; ++j)
        want |= (table >> ((a >> j & 1) * 4 + (b >> j & 1) * 2 + (c >> j & 1)) & 1) << j;
      ASSERT_EQ(op(a, b, c), want);
    }
  }
  auto both = Op("lop3.or.b32 %r0|%p0, %r1, %r2, %r3, 192, !%p1")(6, 3, 0, 0);
  EXPECT_EQ(both.first, 2u); // 192 is a & b
  EXPECT_EQ(both.second, 1u);
  EXPECT_EQ(Op("lop3.and.b32 %r0|%p0, %r1, %r2, %r3, 192, %p1")(6, 3, 0, 0).second, 0u);
  EXPECT_EQ(Op("not.b16 %h0, %h1")(0x00ff), 0xff00u);
  EXPECT_EQ(Op("cnot.b32 %r0, %r1")(0), 1u);
  EXPECT_EQ(Op("cnot.b32 %r0, %r1")(7), 0u);
  for (unsigned a = 0; a < 2; ++a)
    for (unsigned b = 0; b < 2; ++b) {
      EXPECT_EQ(Op("and.pred %p0, %p1, %p2")(a, b), a & b);
      EXPECT_EQ(Op("or.pred %p0, %p1, %p2")(a, b), a | b);
      EXPECT_EQ(Op("xor.pred %p0, %p1, %p2")(a, b), a ^ b);
      EXPECT_EQ(Op("not.pred %p0, %p1")(a), 1 - a);
    }
  for (const char *w : {"16 %h0, %h1, %h2", "32 %r0, %r1, %r2", "64 %rd0, %rd1, %rd2"}) {
    unsigned width = unsigned(atoi(w));
    Op a(std::string("and.b") + w), o(std::string("or.b") + w), x(std::string("xor.b") + w);
    for (int i = 0; i < 100; ++i) {
      uint64_t p = draw(width), q = draw(width);
      EXPECT_EQ(a(p, q), p & q);
      EXPECT_EQ(o(p, q), p | q);
      EXPECT_EQ(x(p, q), p ^ q);
    }
  }
}

TEST(Integer, BytePermutation) {
  Op op("prmt.b32 %r0, %r1, %r2, %r3");
  Values draw;
  for (int i = 0; i < rounds; ++i) {
    uint32_t a = uint32_t(draw(32)), b = uint32_t(draw(32)), c = uint32_t(draw.random()), want = 0;
    uint8_t bytes[8];
    std::memcpy(bytes, &a, 4);
    std::memcpy(bytes + 4, &b, 4);
    for (unsigned j = 0; j < 4; ++j) {
      uint8_t byte = bytes[c >> (4 * j) & 7];
      if (c >> (4 * j) & 8)
        byte = byte & 0x80 ? 0xff : 0;
      want |= uint32_t(byte) << (8 * j);
    }
    ASSERT_EQ(op(a, b, c), want);
  }
  // The tables of the ISA, bytes of b 7654, of a 3210.
  uint32_t a = 0x33221100, b = 0x77665544;
  EXPECT_EQ(Op("prmt.b32.f4e %r0, %r1, %r2, %r3")(a, b, 1), 0x44332211u);
  EXPECT_EQ(Op("prmt.b32.b4e %r0, %r1, %r2, %r3")(a, b, 0), 0x55667700u);
  EXPECT_EQ(Op("prmt.b32.b4e %r0, %r1, %r2, %r3")(a, b, 1), 0x66770011u);
  EXPECT_EQ(Op("prmt.b32.rc8 %r0, %r1, %r2, %r3")(a, b, 2), 0x22222222u);
  EXPECT_EQ(Op("prmt.b32.ecl %r0, %r1, %r2, %r3")(a, b, 1), 0x33221111u);
  EXPECT_EQ(Op("prmt.b32.ecr %r0, %r1, %r2, %r3")(a, b, 2), 0x22221100u);
  EXPECT_EQ(Op("prmt.b32.rc16 %r0, %r1, %r2, %r3")(a, b, 1), 0x33223322u);
}

TEST(Integer, DotProducts) {
  Values draw;
  for (bool aSigned : {false, true})
    for (bool bSigned : {false, true}) {
      std::string types = std::string(aSigned ? ".s32" : ".u32") + (bSigned ? ".s32" : ".u32");
      Op four("dp4a" + types + " %r0, %r1, %r2, %r3"),
          low("dp2a.lo" + types + " %r0, %r1, %r2, %r3"),
          high("dp2a.hi" + types + " %r0, %r1, %r2, %r3");
      for (int i = 0; i < rounds; ++i) {
        uint32_t a = uint32_t(draw(32)), b = uint32_t(draw(32)), c = uint32_t(draw(32));
        auto byte = [](uint32_t x, unsigned j, bool s) {
          return s ? int(int8_t(x >> (8 * j))) : int(uint8_t(x >> (8 * j)));
        };
        auto half = [](uint32_t x, unsigned j, bool s) {
          return s ? int(int16_t(x >> (16 * j))) : int(uint16_t(x >> (16 * j)));
        };
        int64_t sum4 = c, sumLow = c, sumHigh = c;
        for (unsigned j = 0; j < 4; ++j)
          sum4 += byte(a, j, aSigned) * byte(b, j, bSigned);
        for (unsigned j = 0; j < 2; ++j) {
          sumLow += half(a, j, aSigned) * byte(b, j, bSigned);
          sumHigh += half(a, j, aSigned) * byte(b, j + 2, bSigned);
        }
        ASSERT_EQ(four(a, b, c), uint32_t(sum4));
        ASSERT_EQ(low(a, b, c), uint32_t(sumLow));
        ASSERT_EQ(high(a, b, c), uint32_t(sumHigh));
      }
    }
}

TEST(Integer, PairsOf16Bits) {
  Op add("add.u16x2 %r0, %r1, %r2"), minS("min.s16x2 %r0, %r1, %r2"),
      maxU("max.u16x2 %r0, %r1, %r2"), relu("min.relu.s16x2 %r0, %r1, %r2");
  EXPECT_EQ(add(0xffff0001, 0x00010002), 0x00000003u);
  EXPECT_EQ(minS(0xffff0001, 0x00010002), 0xffff0001u);
  EXPECT_EQ(maxU(0xffff0001, 0x00010002), 0xffff0002u);
  EXPECT_EQ(relu(0xffff0001, 0x00010002), 0x00000001u);
}

TEST(Integer, Selections) {
  EXPECT_EQ(Op("selp.b64 %rd0, %rd1, %rd2, %p0")(1, 2, 1), 1u);
  EXPECT_EQ(Op("selp.b64 %rd0, %rd1, %rd2, %p0")(1, 2, 0), 2u);
  EXPECT_EQ(Op("selp.u16 %h0, %h1, 7, %p0")(1, 0), 7u);
  EXPECT_EQ(Op("slct.u32.s32 %r0, %r1, %r2, %r3")(1, 2, uint32_t(-1)), 2u);
  EXPECT_EQ(Op("slct.u32.s32 %r0, %r1, %r2, %r3")(1, 2, 0), 1u);
  Op f("slct.f32.f32 %f0, %f1, %f2, %f3"), ftz("slct.ftz.f32.f32 %f0, %f1, %f2, %f3");
  EXPECT_EQ(f(1, 2, bits(-0.0f)), 1u);
  EXPECT_EQ(f(1, 2, 0x7fc00000), 2u);
  EXPECT_EQ(f(1, 2, 0x80000001), 2u); // a negative subnormal
  EXPECT_EQ(ftz(1, 2, 0x80000001), 1u);
  EXPECT_EQ(ftz(1, 2, bits(-1.0f)), 2u);
  EXPECT_EQ(Op("mov.b64 %rd0, -1")(), ~uint64_t(0));
  EXPECT_EQ(Op("mov.pred %p0, %p1")(1), 1u);
}

} // namespace
