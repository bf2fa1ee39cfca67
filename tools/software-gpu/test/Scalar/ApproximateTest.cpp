//===- ApproximateTest.cpp - Approximations within the ISA's bounds ---------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Against the host's long double functions. Bounds: PTX ISA 9.0, 9.7.3.8 to 9.7.3.22 and 9.7.4.
//===----------------------------------------------------------------------===//
#include "Evaluate.h"
#include "Formats.h"

#include <numbers>

using namespace sgpu::scalar;

namespace {

constexpr uint32_t nan32 = 0x7fffffff, infinity32 = 0x7f800000;

/// Special values: pairs of bits in and out.
void special(const std::string &text, std::initializer_list<std::pair<uint32_t, uint32_t>> pairs) {
  Op op(text);
  for (auto [in, out] : pairs)
    EXPECT_EQ(op(in), out) << text << std::hex << " " << in;
}

/// Largest error over drawn values: in units of the last place of the exact result (subnormals share
/// the smallest unit), relative, absolute.
struct Error {
  double ulp = 0, relative = 0, absolute = 0;
};
template <typename Model>
Error errorOf(Op &op, uint32_t low, uint32_t high, Model model, bool bothSigns) {
  Error error;
  std::mt19937_64 random(11);
  for (int i = 0; i < 60000; ++i) {
    uint32_t x = low + uint32_t(random() % (uint64_t(high) - low + 1));
    if (bothSigns && random() % 2)
      x |= 0x80000000;
    long double want = model((long double)asFloat(x));
    float got = asFloat(op(x));
    if (fabsl(want) > 3.4028234e38L) {
      EXPECT_TRUE(std::isinf(got) || fabsf(got) > 3.4028e38f) << op.text << " " << asFloat(x);
      continue;
    }
    int exponent;
    frexpl(want, &exponent);
    long double unit = ldexpl(1, std::max(exponent - 24, -149));
    long double difference = fabsl(got - want);
    error.ulp = std::max(error.ulp, double(difference / unit));
    error.absolute = std::max(error.absolute, double(difference));
    if (fabsl(want) >= 0x1p-126L)
      error.relative = std::max(error.relative, double(difference / fabsl(want)));
  }
  return error;
}
constexpr uint32_t smallest = 1, normal = 0x00800000, largest = 0x7f7fffff;

TEST(Approximate, Ex2) {
  Op op("ex2.approx.f32 %f0, %f1");
  EXPECT_LE(
      errorOf(op, smallest, bits(130.0f), [](long double x) { return exp2l(x); }, true).ulp, 2);
  EXPECT_LE(
      errorOf(op, bits(0.01f), bits(149.0f), [](long double x) { return exp2l(x); }, true).ulp, 2);
  special("ex2.approx.f32 %f0, %f1", {{0, bits(1.0f)},
                                      {0x80000000, bits(1.0f)},
                                      {infinity32, infinity32},
                                      {0xff800000, 0},
                                      {0x7fc00000, nan32},
                                      {bits(-149.0f), 1},
                                      {bits(-200.0f), 0},
                                      {bits(128.0f), infinity32},
                                      {bits(10.0f), bits(1024.0f)}});
  special("ex2.approx.ftz.f32 %f0, %f1",
          {{bits(-127.0f), 0}, {bits(-126.0f), normal}, {1, bits(1.0f)}});
}

TEST(Approximate, Lg2) {
  Op op("lg2.approx.f32 %f0, %f1");
  auto model = [](long double x) { return log2l(x); };
  EXPECT_LE(errorOf(op, bits(0.5f), bits(2.0f), model, false).absolute, 0x1p-22);
  EXPECT_LE(errorOf(op, smallest, bits(0.5f), model, false).relative, 0x1p-22);
  EXPECT_LE(errorOf(op, bits(2.0f), largest, model, false).relative, 0x1p-22);
  special("lg2.approx.f32 %f0, %f1", {{0, 0xff800000},
                                      {0x80000000, 0xff800000},
                                      {infinity32, infinity32},
                                      {0xff800000, nan32},
                                      {bits(-1.0f), nan32},
                                      {nan32, nan32},
                                      {bits(1.0f), 0},
                                      {bits(8.0f), bits(3.0f)},
                                      {1, bits(-149.0f)}});
  special("lg2.approx.ftz.f32 %f0, %f1", {{1, 0xff800000}, {0x80000001, 0xff800000}});
}

TEST(Approximate, ReciprocalAndRoots) {
  Op rcp("rcp.approx.f32 %f0, %f1"), rsqrt("rsqrt.approx.f32 %f0, %f1"),
      sqrt("sqrt.approx.f32 %f0, %f1");
  EXPECT_LE(errorOf(rcp, smallest, largest, [](long double x) { return 1 / x; }, true).ulp, 1);
  EXPECT_LE(errorOf(
                rsqrt, smallest, largest, [](long double x) { return 1 / sqrtl(x); }, false)
                .relative,
            0x1.1p-23);
  EXPECT_LE(errorOf(
                sqrt, smallest, largest, [](long double x) { return sqrtl(x); }, false)
                .relative,
            0x1p-23);
  special("rcp.approx.f32 %f0, %f1", {{0, infinity32},
                                      {0x80000000, 0xff800000},
                                      {infinity32, 0},
                                      {0xff800000, 0x80000000},
                                      {0x7fc00001, nan32},
                                      {bits(4.0f), bits(0.25f)}});
  special("rcp.approx.ftz.f32 %f0, %f1",
          {{1, infinity32}, {0x80000001, 0xff800000}, {bits(0x1p127f), 0}});
  special("rsqrt.approx.f32 %f0, %f1", {{0, infinity32},
                                        {0x80000000, 0xff800000},
                                        {infinity32, 0},
                                        {bits(-1.0f), nan32},
                                        {0xff800000, nan32},
                                        {bits(4.0f), bits(0.5f)}});
  special("rsqrt.approx.ftz.f32 %f0, %f1", {{1, infinity32}, {0x80000001, 0xff800000}});
  special("sqrt.approx.f32 %f0, %f1",
          {{0, 0}, {0x80000000, 0x80000000}, {infinity32, infinity32}, {bits(-1.0f), nan32}});
  special("sqrt.approx.ftz.f32 %f0, %f1", {{1, 0}, {0x80000001, 0x80000000}});
  // The upper half of an f64.
  Op gross("rcp.approx.ftz.f64 %fd0, %fd1"), grossRoot("rsqrt.approx.ftz.f64 %fd0, %fd1"),
      root("rsqrt.approx.f64 %fd0, %fd1");
  std::mt19937_64 random(5);
  for (int i = 0; i < 5000; ++i) {
    double x = std::ldexp(1 + double(random() % 1000000) / 1e6, int(random() % 1000) - 500);
    uint64_t got = gross(bits(x));
    ASSERT_EQ(got & 0xffffffff, 0u);
    ASSERT_LT(std::fabs(asDouble(got) * x - 1), 0x1p-18);
    got = grossRoot(bits(x));
    ASSERT_EQ(got & 0xffffffff, 0u);
    ASSERT_LT(std::fabs(asDouble(got) * std::sqrt(x) - 1), 0x1p-18);
    ASSERT_LT(std::fabs(asDouble(root(bits(x))) * std::sqrt(x) - 1), 0x1p-50);
  }
  EXPECT_EQ(gross(uint64_t(1)), 0x7ff0000000000000u);
  EXPECT_EQ(gross(uint64_t(0x8000000000000001)), 0xfff0000000000000u);
  EXPECT_EQ(gross(uint64_t(0x7ff8000000000001)), 0x7fffffff00000000u);
  EXPECT_EQ(gross(bits(-__builtin_inf())), uint64_t(1) << 63);
  EXPECT_EQ(grossRoot(bits(-1.0)), 0x7fffffff00000000u);
}

TEST(Approximate, SinCosTanh) {
  Op sin("sin.approx.f32 %f0, %f1"), cos("cos.approx.f32 %f0, %f1"),
      tanh("tanh.approx.f32 %f0, %f1");
  float twoPi = float(2 * std::numbers::pi), many = float(100 * std::numbers::pi);
  EXPECT_LE(errorOf(
                sin, smallest, bits(twoPi), [](long double x) { return sinl(x); }, true)
                .absolute,
            0x1p-20);
  EXPECT_LE(errorOf(
                cos, smallest, bits(twoPi), [](long double x) { return cosl(x); }, true)
                .absolute,
            0x1p-20);
  EXPECT_LE(errorOf(
                sin, bits(1.0f), bits(many), [](long double x) { return sinl(x); }, true)
                .absolute,
            0x1p-15);
  EXPECT_LE(errorOf(
                cos, bits(1.0f), bits(many), [](long double x) { return cosl(x); }, true)
                .absolute,
            0x1p-15);
  EXPECT_LE(errorOf(
                tanh, smallest, largest, [](long double x) { return tanhl(x); }, true)
                .relative,
            0x1p-11);
  EXPECT_LE(errorOf(
                tanh, bits(1e-6f), bits(30.0f), [](long double x) { return tanhl(x); }, true)
                .relative,
            0x1p-11);
  special(
      "sin.approx.f32 %f0, %f1",
      {{0, 0}, {0x80000000, 0x80000000}, {infinity32, nan32}, {0xff800000, nan32}, {nan32, nan32}});
  special("cos.approx.f32 %f0, %f1",
          {{0, bits(1.0f)}, {0x80000000, bits(1.0f)}, {infinity32, nan32}});
  special("tanh.approx.f32 %f0, %f1", {{0, 0},
                                       {0x80000000, 0x80000000},
                                       {infinity32, bits(1.0f)},
                                       {0xff800000, bits(-1.0f)},
                                       {0x7fc00000, nan32},
                                       {1, 1},
                                       {0x80000123, 0x80000123}});
}

TEST(Approximate, Division) {
  Op approx("div.approx.f32 %f0, %f1, %f2"), full("div.full.f32 %f0, %f1, %f2"),
      ftz("div.full.ftz.f32 %f0, %f1, %f2");
  std::mt19937_64 random(5);
  for (int i = 0; i < 40000; ++i) {
    float a = std::ldexp(1 + float(random() % (1 << 23)) * 0x1p-23f, int(random() % 250) - 125);
    float b = std::ldexp(1 + float(random() % (1 << 23)) * 0x1p-23f, int(random() % 250) - 125);
    double want = double(a) / double(b);
    if (want > 3e38 || want < 0x1p-126)
      continue;
    int exponent;
    std::frexp(want, &exponent);
    double unit = std::ldexp(1.0, exponent - 24);
    ASSERT_LE(std::fabs(asFloat(approx(bits(a), bits(b))) - want), 2 * unit);
    ASSERT_LE(std::fabs(asFloat(full(bits(a), bits(b))) - want), 2 * unit);
  }
  float huge = 0x1.8p126f;
  EXPECT_EQ(approx(bits(1e30f), bits(huge)), 0u);
  EXPECT_EQ(approx(bits(-1e30f), bits(huge)), 0x80000000u);
  EXPECT_EQ(approx(infinity32, bits(huge)), nan32);
  EXPECT_EQ(full(bits(huge), bits(huge)), bits(1.0f));
  EXPECT_EQ(full(0, 0), nan32);
  EXPECT_EQ(full(bits(-1.0f), 0), 0xff800000u);
  EXPECT_EQ(ftz(bits(1.0f), 1), infinity32);
  EXPECT_EQ(ftz(1, bits(1.0f)), 0u);
}

// Short formats: the nearest value of the format, or its neighbour.
TEST(Approximate, ShortFormats) {
  struct Case {
    const char *text;
    const Table &table;
    double (*model)(double);
  };
  for (const Case &c :
       {Case{"ex2.approx.f16 %h0, %h1", tableF16(), [](double x) { return std::exp2(x); }},
        Case{"tanh.approx.f16 %h0, %h1", tableF16(), [](double x) { return std::tanh(x); }},
        Case{"tanh.approx.bf16 %h0, %h1", tableBF16(), [](double x) { return std::tanh(x); }},
        Case{"ex2.approx.ftz.bf16 %h0, %h1", tableBF16(), [](double x) { return std::exp2(x); }}}) {
    Op op(c.text);
    bool ftz = strstr(c.text, "ftz");
    for (uint32_t x = 0; x < 0x10000; x += 7) {
      uint32_t magnitude = x & 0x7fff;
      if (magnitude >= c.table.infinity)
        continue;
      double value = c.table.value(magnitude) * (x & 0x8000 ? -1 : 1);
      double want = c.model(value);
      uint32_t got = uint32_t(op(x));
      uint32_t nearest = c.table.round(want, std::signbit(want), Mode::Nearest);
      if (ftz && !(nearest & c.table.infinity))
        nearest &= 0x8000;
      ASSERT_LE(std::abs(int(got) - int(nearest)), 1) << c.text << " " << value;
    }
    EXPECT_EQ(op(c.table.nan), c.table.nan);
  }
  EXPECT_EQ(Op("ex2.approx.f16x2 %r0, %r1")(0x3c000000), 0x40003c00u);
  EXPECT_EQ(Op("tanh.approx.bf16x2 %r0, %r1")(0x00007f80), 0x00003f80u);
}

} // namespace
