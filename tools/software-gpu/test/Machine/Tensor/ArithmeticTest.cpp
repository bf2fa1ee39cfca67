//===- ArithmeticTest.cpp - Sums of the tensor cores -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Machine/Tensor/Arithmetic.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <random>

using namespace sgpu;
using T = TensorType;

namespace {

// A file of products made with mmasim (data/make_golden.py): per case A [M][K], B [K][N] in their
// types, C [M][N] and D [M][N] in the type of D.
struct Golden {
  const char *name;
  TensorUnit unit;
  int sm, m, n, k;
  T a, b, d;
  int cases;
};

const Golden goldens[] = {
    {"ampere_mma", TensorUnit::Mma, 80, 16, 8, 16, T::BF16, T::BF16, T::F32, 24},
    {"hopper_mma", TensorUnit::Mma, 90, 16, 8, 16, T::BF16, T::BF16, T::F32, 24},
    {"hopper_wgmma", TensorUnit::Wgmma, 90, 64, 8, 16, T::BF16, T::BF16, T::F32, 24},
    {"ampere_mma_f32_f16", TensorUnit::Mma, 80, 16, 8, 16, T::F16, T::F16, T::F32, 10},
    {"ampere_mma_f16_f16", TensorUnit::Mma, 80, 16, 8, 16, T::F16, T::F16, T::F16, 10},
    {"ampere_mma_f32_tf32", TensorUnit::Mma, 80, 16, 8, 8, T::TF32, T::TF32, T::F32, 10},
    {"ampere_mma_f32_bf16", TensorUnit::Mma, 80, 16, 8, 16, T::BF16, T::BF16, T::F32, 10},
    {"hopper_mma_f32_f16", TensorUnit::Mma, 90, 16, 8, 16, T::F16, T::F16, T::F32, 10},
    {"hopper_mma_f16_f16", TensorUnit::Mma, 90, 16, 8, 16, T::F16, T::F16, T::F16, 10},
    {"hopper_mma_f32_tf32", TensorUnit::Mma, 90, 16, 8, 8, T::TF32, T::TF32, T::F32, 10},
    {"hopper_mma_f32_bf16", TensorUnit::Mma, 90, 16, 8, 16, T::BF16, T::BF16, T::F32, 10},
    {"hopper_wgmma_f32_f16_f16", TensorUnit::Wgmma, 90, 64, 8, 16, T::F16, T::F16, T::F32, 10},
    {"hopper_wgmma_f16_f16_f16", TensorUnit::Wgmma, 90, 64, 8, 16, T::F16, T::F16, T::F16, 10},
    {"hopper_wgmma_f32_tf32_tf32", TensorUnit::Wgmma, 90, 64, 8, 8, T::TF32, T::TF32, T::F32, 10},
    {"hopper_wgmma_f32_bf16_bf16", TensorUnit::Wgmma, 90, 64, 8, 16, T::BF16, T::BF16, T::F32, 10},
    {"hopper_wgmma_f32_e4m3_e4m3", TensorUnit::Wgmma, 90, 64, 8, 32, T::E4M3, T::E4M3, T::F32, 10},
    {"hopper_wgmma_f32_e5m2_e4m3", TensorUnit::Wgmma, 90, 64, 8, 32, T::E5M2, T::E4M3, T::F32, 10},
    {"hopper_wgmma_f16_e4m3_e5m2", TensorUnit::Wgmma, 90, 64, 8, 32, T::E4M3, T::E5M2, T::F16, 10},
    {"hopper_wgmma_f16_e5m2_e5m2", TensorUnit::Wgmma, 90, 64, 8, 32, T::E5M2, T::E5M2, T::F16, 10},
};

class Tensor : public testing::TestWithParam<Golden> {};

uint32_t readBits(const std::string &file, size_t &at, T type) {
  uint32_t bits = 0;
  std::memcpy(&bits, file.data() + at, bitsOf(type) / 8);
  at += bitsOf(type) / 8;
  return bits;
}

// Every product of the golden files, bit by bit, by the fast path and by the definition.
TEST_P(Tensor, EqualsGoldenBits) {
  Golden g = GetParam();
  std::ifstream in(std::string(SGPU_TEST_DIR) + "/Machine/Tensor/data/" + g.name + ".bin",
                   std::ios::binary);
  ASSERT_TRUE(in) << g.name;
  std::string file((std::istreambuf_iterator<char>(in)), {});
  SumRule rule = sumRuleFor(g.unit, g.sm, g.a, g.d);
  size_t at = 0;
  int wrong = 0;
  for (int c = 0; c < g.cases; ++c) {
    Multiplicand a, b;
    a.resize(g.m, g.k), b.resize(g.n, g.k);
    for (int i = 0; i < g.m; ++i)
      for (int k = 0; k < g.k; ++k)
        a.set(g.a, i, k, readBits(file, at, g.a));
    for (int k = 0; k < g.k; ++k)
      for (int j = 0; j < g.n; ++j)
        b.set(g.b, j, k, readBits(file, at, g.b));
    std::vector<uint32_t> acc(g.m * g.n), byDefinition(g.m * g.n), expected(g.m * g.n);
    for (std::vector<uint32_t> *to : {&acc, &expected})
      for (int i = 0; i < g.m; ++i)
        for (int j = 0; j < g.n; ++j)
          (*to)[j * g.m + i] = readBits(file, at, g.d);
    for (int i = 0; i < g.m * g.n; ++i)
      byDefinition[i] = sumOfProducts(rule, a, i % g.m, b, i / g.m, acc[i]);
    std::vector<uint32_t> before = acc;
    multiplyAdd(rule, a, b, acc.data());
    for (int i = 0; i < g.m * g.n; ++i)
      if ((acc[i] != expected[i] || byDefinition[i] != expected[i]) && ++wrong < 4)
        ADD_FAILURE() << g.name << " case " << c << " row " << i % g.m << " column " << i / g.m
                      << std::hex << ": C " << before[i] << ", fast " << acc[i] << ", definition "
                      << byDefinition[i] << ", expected " << expected[i];
  }
  EXPECT_EQ(at, file.size());
  EXPECT_EQ(wrong, 0);
}

INSTANTIATE_TEST_SUITE_P(Goldens, Tensor, testing::ValuesIn(goldens),
                         [](const auto &i) { return std::string(i.param.name); });

// The two paths agree on drawn bits of every kind: normal, subnormal, zero, infinite, NaN.
TEST(TensorArithmetic, FastPathEqualsDefinition) {
  std::mt19937 random(11);
  const std::pair<T, int> types[] = {
      {T::BF16, 16}, {T::F16, 16}, {T::TF32, 8}, {T::E4M3, 32}, {T::E5M2, 32}};
  for (auto [type, k] : types)
    for (T d : {T::F32, T::F16})
      for (int sm : {80, 89, 90})
        for (TensorUnit unit : {TensorUnit::Mma, TensorUnit::Wgmma})
          for (int round = 0; round < 6; ++round) {
            Multiplicand a, b;
            a.resize(16, k), b.resize(8, k);
            auto draw = [&](T t) -> uint32_t {
              uint32_t bits = random();
              if (round % 3 == 0) // near one
                bits = t == T::BF16  ? (bits & 0x807f) | 0x3f80
                       : t == T::F16 ? (bits & 0x83ff) | 0x3c00
                                     : bits;
              if (round % 2 && random() % 3 == 0)
                bits = 0;
              return bitsOf(t) == 32 ? bits : bits & ((1u << bitsOf(t)) - 1);
            };
            for (int l = 0; l < k; ++l) {
              for (int i = 0; i < 16; ++i)
                a.set(type, i, l, draw(type));
              for (int j = 0; j < 8; ++j)
                b.set(type, j, l, draw(type));
            }
            SumRule rule = sumRuleFor(unit, sm, type, d);
            std::vector<uint32_t> acc(128), expected(128);
            for (int i = 0; i < 128; ++i) {
              acc[i] = d == T::F16 ? random() & 0xffff : random();
              expected[i] = sumOfProducts(rule, a, i % 16, b, i / 16, acc[i]);
            }
            multiplyAdd(rule, a, b, acc.data());
            ASSERT_EQ(acc, expected) << int(type) << " " << int(d) << " sm_" << sm;
          }
}

// Sixteen products of largest magnitude do not overflow the integer sums.
TEST(TensorArithmetic, LargestSums) {
  for (uint32_t sign : {0u, 0x8000u}) {
    Multiplicand a, b;
    a.resize(16, 16), b.resize(1, 16);
    for (int k = 0; k < 16; ++k) {
      for (int i = 0; i < 16; ++i)
        a.set(T::F16, i, k, 0x3fff);
      b.set(T::F16, 0, k, 0x3fff | sign);
    }
    uint32_t acc[16] = {};
    multiplyAdd(sumRuleFor(TensorUnit::Mma, 90, T::F16, T::F32), a, b, acc);
    double exact = 16 * (2 - std::ldexp(1, -10)) * (2 - std::ldexp(1, -10));
    float f;
    std::memcpy(&f, acc, 4);
    EXPECT_EQ(f, static_cast<float>(sign ? -exact : exact));
  }
}

TEST(TensorArithmetic, IntegersWrapOrSaturate) {
  int32_t a[4] = {127, 127, 127, 127}, b[4] = {127, 127, 127, 127}, acc = INT32_MAX - 5;
  multiplyAddInteger(1, 1, 4, a, b, &acc, true);
  EXPECT_EQ(acc, INT32_MAX);
  acc = INT32_MAX - 5;
  multiplyAddInteger(1, 1, 4, a, b, &acc, false);
  EXPECT_EQ(acc, static_cast<int32_t>(static_cast<uint32_t>(INT32_MAX) - 5 + 4 * 127 * 127));
  EXPECT_EQ(integerOf(T::S8, 0x80), -128);
  EXPECT_EQ(integerOf(T::U8, 0x80), 128);
  EXPECT_EQ(integerOf(T::S4, 0x8), -8);
  EXPECT_EQ(integerOf(T::U4, 0xf), 15);
}

// f64 products are a chain of fused multiply-adds: the order shows in the last bit.
TEST(TensorArithmetic, F64IsAFusedChain) {
  double a[2] = {1 + std::ldexp(1, -30), 1}, b[2] = {1 + std::ldexp(1, -30), -1}, acc = 0;
  multiplyAddF64(1, 1, 2, a, b, &acc);
  EXPECT_EQ(acc, std::fma(a[1], b[1], std::fma(a[0], b[0], 0)));
}

} // namespace
