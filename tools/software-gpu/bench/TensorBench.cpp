//===- TensorBench.cpp - Time of 64 x 64 x 64 products ------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The sums of a tensor core alone, on one core (the aim is under 100 microseconds for bf16), and four
// wgmma.mma_async with all that the machine does for them: operands from swizzled shared memory, checks of
// races, proxies and registers.
//===----------------------------------------------------------------------===//
#include "Machine/Machine.h"
#include "Machine/Tensor/Arithmetic.h"

#include <benchmark/benchmark.h>
#include <random>
#include <string>

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
BENCHMARK_CAPTURE(product, tf32, TensorType::TF32, 0x80ffffff, 0x3f000000)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(product, e4m3, TensorType::E4M3, 0x8f, 0x30)->Unit(benchmark::kMicrosecond);

/// A block that fills two tiles of 64 x 64 bf16 and multiplies them 100 times, in steps of 16.
static std::string wgmmaKernel() {
  std::string acc = "{%f0", text;
  for (int i = 1; i < 32; ++i)
    acc += ", %f" + std::to_string(i);
  acc += "}";
  text = R"(.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u32 rounds) {
  .shared .align 1024 .b8 sm[16384];
  .reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %rd<16>; .reg .f32 %f<32>;
  mov.u32 %r0, %tid.x;
  ld.param.u32 %r5, [rounds];
  mov.u32 %r1, sm;
  mov.u32 %r2, %r0;
L:
  shl.b32 %r3, %r2, 2;
  add.u32 %r3, %r1, %r3;
  st.shared.b32 [%r3], 0x3f803f80;
  add.u32 %r2, %r2, 128;
  setp.lt.u32 %p0, %r2, 4096;
  @%p0 bra L;
  fence.proxy.async.shared::cta;
  bar.sync 0;
  shr.u32 %r4, %r1, 4;
  cvt.u64.u32 %rd0, %r4;
  or.b64 %rd0, %rd0, 0x4000004000010000;
  setp.eq.u32 %p1, %r0, %r0;
)";
  for (int i = 0; i < 32; ++i)
    text += "  mov.f32 %f" + std::to_string(i) + ", 0f00000000;\n";
  for (int k = 0; k < 4; ++k)
    text += "  add.u64 %rd" + std::to_string(1 + k) + ", %rd0, " + std::to_string(2 * k) +
            ";\n  add.u64 %rd" + std::to_string(5 + k) + ", %rd0, " + std::to_string(512 + 2 * k) +
            ";\n";
  text += "M:\n  wgmma.fence.sync.aligned;\n";
  for (int k = 0; k < 4; ++k)
    text += "  wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " + acc + ", %rd" +
            std::to_string(1 + k) + ", %rd" + std::to_string(5 + k) + ", %p1, 1, 1, 0, 0;\n";
  return text + R"(  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
  sub.u32 %r5, %r5, 1;
  setp.ne.u32 %p2, %r5, 0;
  @%p2 bra M;
  ret;
}
)";
}

/// Time of one round; the filling is a part in a hundred.
static void wgmma(benchmark::State &state) {
  Options options;
  options.memory = uint64_t(1) << 24;
  options.threads = 1;
  Reporter reporter(options, true);
  DeviceMemory memory(0, options, reporter);
  auto module = Module::load(wgmmaKernel(), "bench", *Chip::find(90), memory, options, reporter);
  module->kernel("k");
  uint32_t rounds = 100;
  LaunchConfig config;
  config.grid = {1, 1, 1}, config.block = {128, 1, 1};
  config.parameters.resize(4);
  std::copy_n(reinterpret_cast<uint8_t *>(&rounds), 4, config.parameters.begin());
  for (auto _ : state)
    module->run("k", config);
  state.counters["per_round"] = benchmark::Counter(
      rounds, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  if (reporter.total())
    state.SkipWithError("faults");
}
BENCHMARK(wgmma)->Unit(benchmark::kMicrosecond);
