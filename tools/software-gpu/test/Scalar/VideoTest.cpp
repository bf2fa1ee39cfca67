//===- VideoTest.cpp - Video instructions ------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Evaluate.h"

using namespace sgpu::scalar;

namespace {

TEST(Video, Scalar) {
  EXPECT_EQ(Op("vadd.s32.u32.s32.sat %r0, %r1.b0, %r2.h1")(0x123456ff, 0x80000000),
            uint32_t(255 - 32768));
  EXPECT_EQ(Op("vadd.u32.u32.u32.sat %r0, %r1, %r2")(0xffffffff, 1), 0xffffffffu);
  EXPECT_EQ(Op("vadd.u32.u32.u32 %r0, %r1, %r2")(0xffffffff, 1), 0u);
  EXPECT_EQ(Op("vsub.s32.u32.u32.sat %r0, %r1, %r2")(0, 0xffffffff), 0x80000000u);
  EXPECT_EQ(Op("vabsdiff.u32.s32.s32.add %r0, %r1, %r2, %r3")(uint32_t(-5), 7, 100), 112u);
  EXPECT_EQ(Op("vmin.s32.s32.s32.max %r0, %r1, %r2, %r3")(uint32_t(-5), 7, uint32_t(-2)),
            uint32_t(-2));
  EXPECT_EQ(Op("vshl.u32.u32.u32.clamp %r0, %r1, %r2")(1, 40), 0u);
  EXPECT_EQ(Op("vshl.u32.u32.u32.wrap %r0, %r1, %r2")(1, 33), 2u);
  EXPECT_EQ(Op("vshr.s32.s32.u32.wrap %r0, %r1, %r2")(uint32_t(-8), 33), uint32_t(-4));
  EXPECT_EQ(Op("vset.s32.u32.lt %r0, %r1.b1, %r2.b2")(0x0000ff00, 0x00010000), 1u); // -1 < 1
  EXPECT_EQ(Op("vmad.s32.s32.s32 %r0, %r1.h0, %r2.h1, %r3")(0x0000fffe, 0x00030000, 10), 4u);
  EXPECT_EQ(Op("vmad.s32.s32.s32.shr7 %r0, %r1, %r2, %r3")(256, 256, 0), 512u);
}

// Every byte and half by itself.
TEST(Video, Packed) {
  Op diff4("vabsdiff4.u32.u32.u32.add %r0, %r1, %r2, %r3"),
      add4("vadd4.u32.u32.u32.sat %r0, %r1, %r2, %r3"),
      avg2("vavrg2.u32.u32.u32 %r0, %r1, %r2, %r3"), max4("vmax4.s32.s32.s32 %r0, %r1, %r2, %r3"),
      set4("vset4.u32.u32.ge %r0, %r1, %r2, %r3");
  Values draw;
  for (int i = 0; i < 3000; ++i) {
    uint32_t a = uint32_t(draw(32)), b = uint32_t(draw(32)), c = uint32_t(draw(32));
    uint32_t sum = c, sat = 0, average = 0, largest = 0, greater = 0;
    for (unsigned j = 0; j < 4; ++j) {
      int x = int(a >> (8 * j) & 255), y = int(b >> (8 * j) & 255);
      sum += uint32_t(std::abs(x - y));
      sat |= uint32_t(std::min(x + y, 255)) << (8 * j);
      largest |= uint32_t(uint8_t(std::max(int8_t(x), int8_t(y)))) << (8 * j);
      greater |= uint32_t(x >= y) << (8 * j);
    }
    for (unsigned j = 0; j < 2; ++j)
      average |= ((a >> (16 * j) & 0xffff) + (b >> (16 * j) & 0xffff) + 1) / 2 << (16 * j);
    ASSERT_EQ(diff4(a, b, c), sum);
    ASSERT_EQ(add4(a, b, c), sat);
    ASSERT_EQ(avg2(a, b, c), average);
    ASSERT_EQ(max4(a, b, c), largest);
    ASSERT_EQ(set4(a, b, c), greater);
  }
}

} // namespace
