//===- TensorBench.cpp - Time of a 64 x 64 x 64 product --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Prints microseconds for each type; the aim is under 100 for bf16. Not a test: machines differ.
//
//===----------------------------------------------------------------------===//
#include "Machine/Tensor/Arithmetic.h"

#include <chrono>
#include <cstdio>
#include <random>

int main() {
  using namespace sgpu;
  struct {
    const char *name;
    TensorType type;
    uint32_t mask, base;
  } types[] = {{"bf16", TensorType::BF16, 0x80ff, 0x3f00},
               {"f16", TensorType::F16, 0x87ff, 0x3800},
               {"tf32", TensorType::TF32, 0x80ffffff, 0x3f000000},
               {"e4m3", TensorType::E4M3, 0x8f, 0x30}};
  std::mt19937 random(1);
  for (auto &t : types) {
    SumRule rule = sumRuleFor(TensorUnit::Wgmma, 90, t.type, TensorType::F32);
    Multiplicand a, b;
    a.resize(64, 64), b.resize(64, 64);
    for (int k = 0; k < 64; ++k)
      for (int i = 0; i < 64; ++i) {
        a.set(t.type, i, k, (random() & t.mask) | t.base);
        b.set(t.type, i, k, (random() & t.mask) | t.base);
      }
    std::vector<uint32_t> acc(64 * 64);
    double best = 1e9;
    for (int round = 0; round < 50; ++round) {
      auto start = std::chrono::steady_clock::now();
      multiplyAdd(rule, a, b, acc.data());
      std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
      best = std::min(best, time.count());
    }
    std::printf("%s 64x64x64: %.1f us\n", t.name, best);
  }
}
