//===- RowsTest.cpp - Row loops against the C library in double -----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "../../../runtime/src/Host/Rows.h"

#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <vector>

using namespace llrt;

namespace {

// The weights of one row whose scores are `scores` and whose maximum is 0.
std::vector<float> weightsOf(std::vector<float> scores) {
  float max = 0, sum = 0, out = 0;
  int64_t keys = scores.size();
  ScoreTile tile = {1, keys, 1, 1.f, nullptr};
  typedRows<float, float>().softmax(tile, scores.data(), scores.data(), &max, &sum, &out, 1);
  return scores;
}

// The exponential is right to 1.5 units in the last place down to -87, and 0
// from there on; vectors and the rest of a row agree with it alike.
TEST(Rows, ExponentialIsAccurate) {
  std::vector<float> scores;
  for (float x = 0; x > -87.2f; x -= 0.00137f)
    scores.push_back(x);
  std::vector<float> found = weightsOf(scores);
  for (size_t i = 0; i != scores.size(); ++i) {
    float exact = float(std::exp(double(scores[i])));
    double unit = std::nextafter(exact, INFINITY) - double(exact);
    ASSERT_LE(std::abs(found[i] - std::exp(double(scores[i]))), 1.5 * unit)
        << "exp(" << scores[i] << ")";
  }
  for (float x : {-88.f, -1000.f, -INFINITY})
    EXPECT_EQ(weightsOf({x})[0], 0) << x;
  EXPECT_TRUE(std::isnan(weightsOf({NAN})[0]));
  EXPECT_EQ(weightsOf({0.f})[0], 1);
}

// bf16 numbers are rounded to nearest, ties to even; NaN and infinity stay.
TEST(Rows, Bf16RoundsToNearestEven) {
  struct Case {
    uint32_t from;
    uint16_t to;
  };
  const Case cases[] = {{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, // tie, down to even
                        {0x3f818000, 0x3f82},                       // tie, up to even
                        {0x3f808001, 0x3f81}, {0x3f807fff, 0x3f80}, {0x7f7fffff, 0x7f80},
                        {0xff800000, 0xff80}, {0x80000000, 0x8000}, {0xc2f0c000, 0xc2f1}};
  for (int64_t repeat : {1, 40}) // the rest of a row, and whole vectors
    for (const Case &c : cases) {
      std::vector<float> from(repeat, std::bit_cast<float>(c.from));
      std::vector<Bf16> to(repeat);
      typedRows<Bf16, Bf16>().store(from.data(), 1.f, to.data(), repeat);
      for (Bf16 value : to)
        EXPECT_EQ(value.bits, c.to) << std::hex << c.from;
    }
  Bf16 nan;
  float value = NAN;
  typedRows<Bf16, Bf16>().store(&value, 1.f, &nan, 1);
  EXPECT_GT(nan.bits & 0x7fff, 0x7f80);
}

} // namespace
