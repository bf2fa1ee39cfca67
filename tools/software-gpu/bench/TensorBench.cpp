//===- TensorBench.cpp - Time of 64 x 64 x 64 products ------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The sums of a tensor core alone, on one core. The aim is under 100 microseconds for bf16.
//===----------------------------------------------------------------------===//
#include "Machine/Tensor/Arithmetic.h"

#include <benchmark/benchmark.h>
#include <random>

using namespace sgpu;

/// Operands of moderate size: the bits of `mask` are drawn, those of `base` set.
static void product(benchmark::State &state, TensorType type, uint32_t mask, uint32_t base) {
  std::mt19937 random(1);
  SumRule rule = sumRuleFor(TensorUnit::Wgmma, 90, type, TensorType::F32);
  Multiplicand a, b;
  a.resize(64, 64), b.resize(64, 64);
  for (int k = 0; k < 64; ++k)
    for (int i = 0; i < 64; ++i) {
      a.set(type, i, k, (uint32_t(random()) & mask) | base);
      b.set(type, i, k, (uint32_t(random()) & mask) | base);
    }
  std::vector<uint32_t> acc(64 * 64);
  for (auto _ : state) {
    multiplyAdd(rule, a, b, acc.data());
    benchmark::DoNotOptimize(acc.data());
  }
}
BENCHMARK_CAPTURE(product, bf16, TensorType::BF16, 0x80ff, 0x3f00)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(product, f16, TensorType::F16, 0x87ff, 0x3800)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(product, tf32, TensorType::TF32, 0x80ffffff, 0x3f000000)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(product, e4m3, TensorType::E4M3, 0x8f, 0x30)->Unit(benchmark::kMicrosecond);
