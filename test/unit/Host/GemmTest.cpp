//===- GemmTest.cpp - Matrix products against plain loops in double -------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "GemmReference.h"
#include "src/Host/Stream.h"

#include <thread>
#include <tuple>

using namespace values;

namespace {

void checkGemm(LlrtStream stream, std::mt19937 &generator, const LlrtGemm &g, bool withBias,
               double tolerance) {
  SCOPED_TRACE(testing::Message() << describe(g) << ", bias " << withBias);
  Array a = draw(generator, g.type, g.m * g.k);
  Array b = draw(generator, g.type, g.k * g.n);
  Array bias = draw(generator, g.type, g.n);
  // Without `accumulate` C may hold anything, NaN too.
  Array c =
      g.accumulate ? draw(generator, g.result_type, g.m * g.n) : Array(g.result_type, g.m * g.n);
  Doubles wanted = reference(g, a, b, withBias ? &bias : nullptr, c);
  llrt_gemm(&stream, &g, a.data(), b.data(), withBias ? bias.data() : nullptr, c.data());
  expectClose(c.doubles(), wanted, tolerance, "C");
}

// The parameter is the number of threads.
class Gemm : public testing::TestWithParam<int> {};

// All types, transposes, accumulation and bias, at sizes small, odd and large
// enough to be shared among threads.
TEST_P(Gemm, EveryVariantMatchesPlainLoops) {
  std::mt19937 generator(1);
  const std::tuple<int, int, int> sizes[] = {{1, 1, 1},     {1, 7, 3},      {5, 1, 2},
                                             {3, 4, 1},     {17, 33, 65},   {1, 300, 80},
                                             {130, 96, 40}, {200, 160, 144}};
  for (const Types &t : types)
    for (auto [m, n, k] : sizes)
      for (int variant = 0; variant != 16; ++variant)
        checkGemm({GetParam()}, generator,
                  {t.type, t.resultType, m, n, k, variant & 1, variant >> 1 & 1, variant >> 2 & 1},
                  variant >> 3 & 1, t.tolerance);
}

// A second call finds the compiled product and reads its own operands.
TEST_P(Gemm, RepeatedCallsUseTheirOwnOperands) {
  std::mt19937 generator(2);
  for (int call = 0; call != 3; ++call)
    checkGemm({GetParam()}, generator, {LLRT_F32, LLRT_F32, 24, 40, 56, 0, 1, 0}, false, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Threads, Gemm, testing::Values(1, 2));

// Sizes on both sides of those at which a product is cut by rows and by columns.
TEST(GemmThreads, TheirNumberChangesNoBit) {
  std::mt19937 generator(5);
  const std::tuple<int, int, int> sizes[] = {
      {300, 160, 144}, {37, 2100, 300}, {700, 64, 1500}, {1000, 2100, 70}, {1, 4000, 900}};
  for (const Types &t : types)
    for (auto [m, n, k] : sizes)
      for (int variant = 0; variant != 4; ++variant) {
        LlrtGemm g{t.type, t.resultType, m, n, k, variant & 1, variant >> 1 & 1, 1};
        SCOPED_TRACE(testing::Message() << "type " << t.type << " to " << t.resultType << ", " << m
                                        << " x " << n << " x " << k << ", variant " << variant);
        Array a = draw(generator, g.type, m * k), b = draw(generator, g.type, k * n);
        Array bias = draw(generator, g.type, n), start = draw(generator, g.result_type, m * n);
        auto product = [&](int64_t threads) {
          LlrtStream stream{threads};
          Array c = start;
          llrt_gemm(&stream, &g, a.data(), b.data(), bias.data(), c.data());
          return c.doubles();
        };
        Doubles one = product(1);
        for (int64_t threads : {2, 3, 7})
          EXPECT_TRUE(product(threads) == one) << "1 and " << threads << " threads differ";
      }
}

// Ranks that are threads multiply at the same time, each with its own plans.
TEST(GemmRanks, ThreadsOfOneProcessDoNotDisturbEachOther) {
  auto rank = [](int seed) {
    std::mt19937 generator(seed);
    for (int call = 0; call != 20; ++call)
      for (const Types &t : types)
        checkGemm({}, generator, {t.type, t.resultType, 33, 48, 20, 0, 1, 1}, true, t.tolerance);
  };
  std::thread first(rank, 3), second(rank, 4);
  first.join();
  second.join();
}

TEST(HostLibraries, AreFoundForEveryType) {
  for (int64_t type : {LLRT_F32, LLRT_BF16, LLRT_F64, LLRT_I64}) {
    const char *error = llrt_host_library_error(type);
    EXPECT_EQ(error, nullptr) << error;
  }
}

} // namespace
