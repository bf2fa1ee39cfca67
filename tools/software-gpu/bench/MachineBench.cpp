//===- MachineBench.cpp - Lane-instructions per second ----------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// items_per_second is lane-instructions a second on one core.
//===----------------------------------------------------------------------===//
#include "Machine/Machine.h"

#include <benchmark/benchmark.h>
#include <cstring>

using namespace sgpu;

namespace {
/// A loop of 64 rounds around `body`.
std::string loop(const std::string &body) {
  std::string text = R"(.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y)
{
	.reg .pred %p<8>;
	.reg .b32 %r<32>;
	.reg .f32 %f<32>;
	.reg .b64 %rd<16>;
	.shared .align 16 .b8 s[4096];
	ld.param.u64 %rd1, [x];
	ld.param.u64 %rd2, [y];
	mov.u32 %r1, %tid.x;
	mov.u32 %r2, %ctaid.x;
	mad.lo.s32 %r3, %r2, 256, %r1;
	mul.wide.u32 %rd3, %r3, 4;
	add.s64 %rd4, %rd1, %rd3;
	add.s64 %rd5, %rd2, %rd3;
	mov.u32 %r4, s;
	shl.b32 %r5, %r1, 2;
	add.s32 %r6, %r4, %r5;
	xor.b32 %r15, %r5, 1020;
	add.s32 %r16, %r4, %r15;
	mov.f32 %f1, 0f3F800000;
	mov.f32 %f2, 0f3F000000;
	mov.u32 %r10, 0;
	mov.u32 %r7, 3;
	mov.u32 %r8, 5;
	setp.lt.s32 %p2, %r1, 7;
	st.shared.u32 [%r6], %r1;
	bar.sync 0;
LOOP:
)";
  for (int i = 0; i < 4; ++i)
    text += body;
  return text + R"(
	add.s32 %r10, %r10, 1;
	setp.lt.s32 %p1, %r10, 64;
	@%p1 bra LOOP;
	st.global.f32 [%rd5], %f1;
	ret;
}
)";
}

void run(benchmark::State &state, const std::string &body) {
  Options options;
  options.threads = 1;
  options.chip = 80;
  options.memory = uint64_t(256) << 20;
  Reporter reporter(options, true);
  DeviceMemory memory(0, options, reporter);
  auto module = Module::load(loop(body), "bench", *Chip::find(80), memory, options, reporter);
  LaunchConfig config;
  config.grid.x = 16;
  config.block.x = 256;
  std::vector<uint32_t> data(16 * 256, 7);
  uint64_t x = memory.allocate(data.size() * 4, "x"), y = memory.allocate(data.size() * 4, "y");
  Access access;
  access.write = true;
  memory.write(x, data.size() * 4, data.data(), access, {});
  config.parameters.resize(16);
  std::memcpy(config.parameters.data(), &x, 8);
  std::memcpy(config.parameters.data() + 8, &y, 8);
  uint64_t lanes = 0;
  uint32_t id = 0;
  for (auto _ : state) {
    config.work.id = ++id;
    lanes += module->run("k", config).counters.total().lanes;
  }
  state.SetItemsProcessed(int64_t(lanes));
}
} // namespace

BENCHMARK_CAPTURE(run, Float,
                  "	fma.rn.f32 %f1, %f1, %f2, %f2;\n	mul.f32 %f3, %f1, %f2;\n	"
                  "add.f32 %f4, %f3, %f2;\n");
BENCHMARK_CAPTURE(run, Integer,
                  "	add.s32 %r9, %r7, %r8;\n	shl.b32 %r11, %r9, 2;\n	and.b32 %r12, "
                  "%r11, 255;\n	mad.lo.s32 %r7, %r9, %r8, %r12;\n");
BENCHMARK_CAPTURE(
    run, Move,
    "	mov.u32 %r9, %r7;\n	mov.u32 %r11, 5;\n	selp.b32 %r12, %r9, %r11, %p2;\n");
BENCHMARK_CAPTURE(run, Exponential, "	ex2.approx.ftz.f32 %f3, %f1;\n");
BENCHMARK_CAPTURE(run, LoadGlobal, "	ld.global.u32 %r9, [%rd4];\n");
BENCHMARK_CAPTURE(run, StoreGlobal, "	st.global.u32 [%rd5], %r7;\n");
BENCHMARK_CAPTURE(run, LoadShared, "	ld.shared.u32 %r9, [%r6];\n");
BENCHMARK_CAPTURE(run, ExchangeShared,
                  "	bar.sync 0;\n	st.shared.u32 [%r6], %r7;\n	bar.sync 0;\n	"
                  "ld.shared.u32 %r9, [%r16];\n");
BENCHMARK_CAPTURE(run, Shuffle, "	shfl.sync.bfly.b32 %r9, %r7, 1, 31, 0xffffffff;\n");
