//===- MachineTest.cpp - Threads, calls, atomics, spaces --------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Harness.h"

#include <cmath>
#include <functional>
#include <set>

using namespace sgpu;
using namespace sgpu::machinetest;

namespace {
constexpr const char *prologue = R"(
	.reg .pred %p<16>;
	.reg .b16 %h<16>;
	.reg .b32 %r<64>;
	.reg .b64 %rd<32>;
	.reg .f32 %f<16>;
	ld.param.u64 %rd1, [k_0];
	mov.u32 %r1, %tid.x;
	mul.wide.u32 %rd2, %r1, 4;
	add.s64 %rd3, %rd1, %rd2;
)";

/// Runs `body` with out = k_0, one u32 for each thread, in %rd3.
std::vector<uint32_t> results(const std::string &body, uint32_t threads, uint64_t seed = 1,
                              const std::string &module = "", LaunchConfig config = {}) {
  Gpu gpu(".version 8.5\n.target sm_90\n.address_size 64\n" + module +
              ".visible .entry k(.param .u64 k_0)\n{\n" + prologue + body + "\n	ret;\n}\n",
          options(seed, 90));
  size_t count = size_t(threads) * config.grid.count();
  uint64_t out = gpu.upload(std::vector<uint32_t>(count, 0));
  config.block = config.block.count() > 1 ? config.block : Dim3{threads, 1, 1};
  gpu.run("k", config, out);
  EXPECT_TRUE(gpu.clean());
  return gpu.download<uint32_t>(out, count);
}
} // namespace

//===----------------------------------------------------------------------===//
// Lanes part and meet
//===----------------------------------------------------------------------===//

// A lock taken and given back by every lane of a warp: works only if the lanes really run apart.
TEST(Threads, ALockWithinAWarp) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    auto r = results(R"(
TRY:
	atom.acquire.gpu.global.cas.b32 %r3, [%rd1], 0, 1;
	setp.ne.u32 %p1, %r3, 0;
	@%p1 bra TRY;
	ld.global.u32 %r4, [%rd1+4];
	add.u32 %r4, %r4, 1;
	st.global.u32 [%rd1+4], %r4;
	atom.release.gpu.global.exch.b32 %r5, [%rd1], 0;
)",
                     64, seed);
    EXPECT_EQ(r[0], 0u);
    EXPECT_EQ(r[1], 64u);
  }
}

// Each lane waits for the one before it.
TEST(Threads, AChainOfLanes) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    auto r = results(R"(
	mov.u32 %r10, s;
	shl.b32 %r11, %r1, 2;
	add.u32 %r12, %r10, %r11;
	st.volatile.shared.u32 [%r12], 0;
	bar.warp.sync 0xffffffff;
	setp.eq.u32 %p1, %r1, 0;
	mov.u32 %r13, 0;
	@%p1 bra GO;
WAIT:
	ld.volatile.shared.u32 %r13, [%r12+-4];
	setp.eq.u32 %p2, %r13, 0;
	@%p2 bra WAIT;
GO:
	add.u32 %r14, %r13, 1;
	st.volatile.shared.u32 [%r12], %r14;
	st.global.u32 [%rd3], %r14;
)",
                     32, seed, ".shared .align 4 .b8 s[128];\n");
    for (uint32_t i = 0; i < 32; ++i)
      EXPECT_EQ(r[i], i + 1);
  }
}

// Lanes that left a loop early wait for the others: activemask after it is full (a hint that holds here).
TEST(Threads, LanesMeetAfterALoop) {
  auto r = results(R"(
	mov.u32 %r3, 0;
LOOP:
	add.u32 %r3, %r3, 1;
	setp.le.u32 %p1, %r3, %r1;
	@%p1 bra LOOP;
	activemask.b32 %r4;
	st.global.u32 [%rd3], %r4;
)",
                   32);
  for (uint32_t i = 0; i < 32; ++i)
    EXPECT_EQ(r[i], ~0u);
}

TEST(Threads, NestedBranches) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    auto r = results(R"(
	and.b32 %r3, %r1, 1;
	setp.eq.u32 %p1, %r3, 0;
	and.b32 %r4, %r1, 2;
	setp.eq.u32 %p2, %r4, 0;
	@%p1 bra EVEN;
	@%p2 bra ODD2;
	mov.u32 %r5, 3;
	bra JOIN;
ODD2:
	mov.u32 %r5, 1;
	bra JOIN;
EVEN:
	@%p2 bra EVEN2;
	mov.u32 %r5, 2;
	bra JOIN;
EVEN2:
	mov.u32 %r5, 0;
JOIN:
	shfl.sync.bfly.b32 %r6, %r5, 1, 31, 0xffffffff;
	st.global.u32 [%rd3], %r6;
)",
                     32, seed);
    for (uint32_t i = 0; i < 32; ++i)
      EXPECT_EQ(r[i], (i & 3) ^ 1);
  }
}

// .sync instructions wait for the lanes that they name, wherever these are now.
TEST(Threads, SyncGathersLanes) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    auto r = results(R"(
	mov.u32 %r3, 0;
	setp.lt.u32 %p1, %r1, 16;
	mov.u32 %r7, 0x0000ffff;
	@%p1 bra SKIP;
	mov.u32 %r7, 0xffff0000;
WORK:
	add.u32 %r3, %r3, 1;
	setp.lt.u32 %p2, %r3, %r1;
	@%p2 bra WORK;
SKIP:
	redux.sync.add.s32 %r5, %r1, %r7;
	vote.sync.ballot.b32 %r6, %p1, 0xffffffff;
	add.u32 %r5, %r5, %r6;
	st.global.u32 [%rd3], %r5;
)",
                     32, seed);
    for (uint32_t i = 0; i < 32; ++i)
      EXPECT_EQ(r[i], (i < 16 ? 120u : 376u) + 0xffff);
  }
}

TEST(Threads, BranchTable) {
  auto r = results(R"(
	and.b32 %r3, %r1, 3;
	table: .branchtargets A, B, C, D;
	brx.idx %r3, table;
A:
	mov.u32 %r4, 10; bra JOIN;
B:
	mov.u32 %r4, 11; bra JOIN;
C:
	mov.u32 %r4, 12; bra JOIN;
D:
	mov.u32 %r4, 13;
JOIN:
	activemask.b32 %r5;
	popc.b32 %r5, %r5;
	mad.lo.u32 %r4, %r5, 100, %r4;
	st.global.u32 [%rd3], %r4;
)",
                   32);
  for (uint32_t i = 0; i < 32; ++i)
    EXPECT_EQ(r[i], 3210 + i % 4);
}

//===----------------------------------------------------------------------===//
// Lanes work together
//===----------------------------------------------------------------------===//

TEST(Threads, Shuffles) {
  struct Case {
    const char *mode;
    uint32_t b, c;
    std::function<int(int)> source; // -1: out of range, keeps its own
  };
  const Case cases[] = {{"up", 3, 0, [](int i) { return i >= 3 ? i - 3 : -1; }},
                        {"down", 5, 31, [](int i) { return i + 5 <= 31 ? i + 5 : -1; }},
                        {"bfly", 6, 31, [](int i) { return i ^ 6; }},
                        {"idx", 9, 31, [](int) { return 9; }},
                        // Segments of 8 lanes: c = (32 - 8) << 8 | 7 (0 for up).
                        {"up", 3, 24 << 8, [](int i) { return i % 8 >= 3 ? i - 3 : -1; }},
                        {"down", 5, 24 << 8 | 7, [](int i) { return i % 8 + 5 <= 7 ? i + 5 : -1; }},
                        {"bfly", 4, 24 << 8 | 7, [](int i) { return i ^ 4; }},
                        {"idx", 9, 24 << 8 | 7, [](int i) { return i / 8 * 8 + 1; }},
                        {"idx", 3, 24 << 8 | 2, [](int i) { return -1; }}};
  for (const Case &c : cases) {
    auto r =
        results("	add.u32 %r2, %r1, 100;\n	shfl.sync." + std::string(c.mode) +
                    ".b32 %r3|%p1, %r2, " + std::to_string(c.b) + ", " + std::to_string(c.c) +
                    ", 0xffffffff;\n	selp.u32 %r4, 1000, 0, %p1;\n	add.u32 %r3, %r3, %r4;\n"
                    "	st.global.u32 [%rd3], %r3;\n",
                32);
    for (int i = 0; i < 32; ++i) {
      int j = c.source(i);
      EXPECT_EQ(r[size_t(i)], uint32_t(j < 0 ? i + 100 : j + 1100))
          << c.mode << " " << c.c << " lane " << i;
    }
  }
}

TEST(Threads, VotesAndMatches) {
  auto r = results(R"(
	setp.lt.u32 %p1, %r1, 20;
	setp.lt.u32 %p2, %r1, 40;
	vote.sync.all.pred %p3, %p1, 0xffffffff;
	vote.sync.any.pred %p4, %p1, 0xffffffff;
	vote.sync.uni.pred %p5, %p1, 0xffffffff;
	vote.sync.all.pred %p6, %p2, 0xffffffff;
	vote.sync.uni.pred %p7, %p2, 0xffffffff;
	selp.u32 %r3, 1, 0, %p3;
	selp.u32 %r4, 2, 0, %p4;
	or.b32 %r3, %r3, %r4;
	selp.u32 %r4, 4, 0, %p5;
	or.b32 %r3, %r3, %r4;
	selp.u32 %r4, 8, 0, %p6;
	or.b32 %r3, %r3, %r4;
	selp.u32 %r4, 16, 0, %p7;
	or.b32 %r3, %r3, %r4;
	and.b32 %r5, %r1, 1;
	match.any.sync.b32 %r6, %r5, 0xffffffff;
	match.all.sync.b32 %r7|%p8, %r5, 0xffffffff;
	mov.u32 %r9, 4;
	match.all.sync.b32 %r8|%p9, %r9, 0xffffffff;
	add.u32 %r3, %r3, %r6;
	add.u32 %r3, %r3, %r7;
	xor.b32 %r3, %r3, %r8;
	st.global.u32 [%rd3], %r3;
)",
                   32);
  for (uint32_t i = 0; i < 32; ++i)
    EXPECT_EQ(r[i], ~((2u | 8 | 16) + (i & 1 ? 0xaaaaaaaa : 0x55555555)));
}

TEST(Threads, ReduxAndElect) {
  std::set<uint32_t> leaders;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    auto r = results(R"(
	sub.s32 %r2, %r1, 16;
	redux.sync.min.s32 %r3, %r2, 0xffffffff;
	redux.sync.max.u32 %r4, %r2, 0xffffffff;
	redux.sync.xor.b32 %r5, %r1, 0xffffffff;
	redux.sync.or.b32 %r6, %r1, 0xffffffff;
	add.u32 %r3, %r3, %r4;
	add.u32 %r3, %r3, %r5;
	add.u32 %r3, %r3, %r6;
	elect.sync %r7|%p1, 0xffffffff;
	elect.sync _|%p2, 0xffffffff;
	selp.u32 %r8, 100, 0, %p1;
	selp.u32 %r9, 100, 0, %p2;
	add.u32 %r8, %r8, %r9;
	add.u32 %r8, %r8, %r7;
	setp.ne.u32 %p3, %r3, 14;
	@%p3 add.u32 %r8, %r8, 10000;
	st.global.u32 [%rd3], %r8;
)",
                     32, seed);
    // -16 + -1 (as unsigned the largest) + 0 + 31 = 14; one leader, the same both times.
    uint32_t leader = r[0] % 100;
    leaders.insert(leader);
    for (uint32_t i = 0; i < 32; ++i)
      EXPECT_EQ(r[i], leader + (i == leader ? 200 : 0));
  }
  EXPECT_GT(leaders.size(), 5u); // up to the seed
}

TEST(Threads, BarrierReductions) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    auto r = results(R"(
	setp.lt.u32 %p1, %r1, 50;
	setp.lt.u32 %p2, %r1, 500;
	bar.red.popc.u32 %r3, 0, %p1;
	bar.red.and.pred %p3, 0, %p1;
	bar.red.or.pred %p4, 0, %p1;
	bar.red.and.pred %p5, 1, 96, %p2;
	bar.red.popc.u32 %r6, 0, !%p1;
	selp.u32 %r4, 1000, 0, %p3;
	selp.u32 %r5, 2000, 0, %p4;
	add.u32 %r3, %r3, %r4;
	add.u32 %r3, %r3, %r5;
	selp.u32 %r5, 4000, 0, %p5;
	add.u32 %r3, %r3, %r5;
	mad.lo.u32 %r3, %r6, 10000, %r3;
	st.global.u32 [%rd3], %r3;
)",
                     96, seed);
    for (uint32_t v : r)
      EXPECT_EQ(v, 460000 + 6050u);
  }
}

TEST(Threads, ProducersArriveConsumersWait) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    auto r = results(R"(
	mov.u32 %r10, s;
	and.b32 %r11, %r1, 31;
	shl.b32 %r11, %r11, 2;
	add.u32 %r12, %r10, %r11;
	setp.lt.u32 %p1, %r1, 32;
	mov.u32 %r13, 0;
	mov.u32 %r15, 0;
	@%p1 bra PRODUCER;
CONSUMER:
	barrier.sync 1, 64;
	ld.shared.u32 %r14, [%r12];
	barrier.arrive 2, 64;
	add.u32 %r13, %r13, 1;
	add.u32 %r15, %r15, %r14;
	setp.lt.u32 %p2, %r13, 4;
	@%p2 bra CONSUMER;
	st.global.u32 [%rd3], %r15;
	bra DONE;
PRODUCER:
	add.u32 %r16, %r13, %r1;
	st.shared.u32 [%r12], %r16;
	barrier.arrive 1, 64;
	barrier.sync 2, 64;
	add.u32 %r13, %r13, 1;
	setp.lt.u32 %p2, %r13, 4;
	@%p2 bra PRODUCER;
DONE:
)",
                     64, seed, ".shared .align 4 .b8 s[128];\n");
    for (uint32_t i = 32; i < 64; ++i)
      EXPECT_EQ(r[i], 4 * (i - 32) + 0 + 1 + 2 + 3);
  }
}

//===----------------------------------------------------------------------===//
// Special registers, clusters
//===----------------------------------------------------------------------===//

TEST(Threads, SpecialRegisters) {
  Gpu gpu(kernelText(".param .u64 k_0", std::string(prologue) + R"(
	mov.u32 %r2, %tid.y;
	mov.u32 %r3, %tid.z;
	mov.u32 %r4, %ntid.x;
	mov.u32 %r5, %ntid.y;
	mov.u32 %r6, %ctaid.x;
	mov.u32 %r7, %ctaid.y;
	mov.u32 %r8, %nctaid.x;
	mad.lo.u32 %r9, %r3, %r5, %r2;
	mad.lo.u32 %r9, %r9, %r4, %r1;
	mad.lo.u32 %r10, %r7, %r8, %r6;
	mad.lo.u32 %r10, %r10, 48, %r9;
	mul.wide.u32 %rd4, %r10, 32;
	add.s64 %rd5, %rd1, %rd4;
	mov.u32 %r11, %laneid;
	mov.u32 %r12, %warpid;
	mov.u32 %r13, %lanemask_lt;
	mov.u32 %r14, %lanemask_ge;
	mov.u32 %r15, %cluster_ctarank;
	mov.u32 %r16, %cluster_nctarank;
	mov.u32 %r17, %clusterid.x;
	mov.u32 %r18, %nclusterid.y;
	st.global.v4.u32 [%rd5], {%r11, %r12, %r13, %r14};
	st.global.v4.u32 [%rd5+16], {%r15, %r16, %r17, %r18};
)",
                     "sm_90"));
  LaunchConfig config;
  config.grid = {4, 6, 1};
  config.block = {8, 3, 2};
  config.cluster = {2, 3, 1};
  uint64_t out = gpu.allocate<uint32_t>(24 * 48 * 8);
  gpu.run("k", config, out);
  EXPECT_TRUE(gpu.clean());
  auto r = gpu.download<uint32_t>(out, 24 * 48 * 8);
  for (uint32_t cta = 0; cta < 24; ++cta)
    for (uint32_t t = 0; t < 48; ++t) {
      const uint32_t *v = &r[(cta * 48 + t) * 8];
      uint32_t x = cta % 4, y = cta / 4, lane = t % 32;
      EXPECT_EQ(v[0], lane);
      EXPECT_EQ(v[1], t / 32);
      EXPECT_EQ(v[2], (1u << lane) - 1);
      EXPECT_EQ(v[3], ~((1u << lane) - 1));
      EXPECT_EQ(v[4], x % 2 + y % 3 * 2);
      EXPECT_EQ(v[5], 6u);
      EXPECT_EQ(v[6], x / 2);
      EXPECT_EQ(v[7], 2u);
    }
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

TEST(Calls, DirectIndirectAndRecursive) {
  const char *module = R"(
.func (.param .b32 r) twice(.param .b32 a) {
	.reg .b32 %x<3>;
	ld.param.u32 %x1, [a];
	add.u32 %x2, %x1, %x1;
	st.param.b32 [r], %x2;
	ret;
}
.func (.reg .u32 r) square(.reg .u32 a) {
	mul.lo.u32 r, a, a;
	ret;
}
.func (.param .b32 r) thrice(.param .b32 a) {
	.reg .b32 %x<3>;
	ld.param.u32 %x1, [a];
	mul.lo.u32 %x2, %x1, 3;
	st.param.b32 [r], %x2;
	ret;
}
.func (.param .b32 r) fibonacci(.param .b32 n) {
	.reg .pred %p;
	.reg .b32 %x<8>;
	.local .align 4 .b8 saved[4];
	ld.param.u32 %x1, [n];
	setp.lt.u32 %p, %x1, 2;
	@%p bra SMALL;
	sub.u32 %x2, %x1, 1;
	{
	.param .b32 a0;
	.param .b32 r0;
	st.param.b32 [a0], %x2;
	call (r0), fibonacci, (a0);
	ld.param.b32 %x3, [r0];
	}
	st.local.u32 [saved], %x3;
	sub.u32 %x2, %x1, 2;
	{
	.param .b32 a0;
	.param .b32 r0;
	st.param.b32 [a0], %x2;
	call (r0), fibonacci, (a0);
	ld.param.b32 %x4, [r0];
	}
	ld.local.u32 %x3, [saved];
	add.u32 %x1, %x3, %x4;
SMALL:
	st.param.b32 [r], %x1;
	ret;
}
.global .align 8 .u64 functions[2] = {twice, thrice};
)";
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    auto r = results(R"(
	.param .b32 a0;
	.param .b32 r0;
	st.param.b32 [a0], %r1;
	call (r0), twice, (a0);
	ld.param.b32 %r2, [r0];
	call (%r3), square, (%r1);
	and.b32 %r4, %r1, 7;
	st.param.b32 [a0], %r4;
	call (r0), fibonacci, (a0);
	ld.param.b32 %r5, [r0];
	// Lanes call different functions.
	and.b32 %r6, %r1, 1;
	mul.wide.u32 %rd4, %r6, 8;
	mov.u64 %rd5, functions;
	add.s64 %rd5, %rd5, %rd4;
	ld.global.u64 %rd6, [%rd5];
	st.param.b32 [a0], %r1;
	proto: .callprototype (.param .b32 _) _ (.param .b32 _);
	call (r0), %rd6, (a0), proto;
	ld.param.b32 %r7, [r0];
	activemask.b32 %r8;
	setp.ne.u32 %p1, %r8, 0xffffffff;
	@%p1 add.u32 %r7, %r7, 100000;
	add.u32 %r2, %r2, %r3;
	add.u32 %r2, %r2, %r5;
	add.u32 %r2, %r2, %r7;
	st.global.u32 [%rd3], %r2;
)",
                     32, seed, module);
    const uint32_t fib[] = {0, 1, 1, 2, 3, 5, 8, 13};
    for (uint32_t i = 0; i < 32; ++i)
      EXPECT_EQ(r[i], 2 * i + i * i + fib[i & 7] + (i & 1 ? 3 : 2) * i) << i;
  }
}

TEST(Calls, Printf) {
  Gpu gpu(R"(.version 8.0
.target sm_80
.address_size 64
.extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
.global .align 1 .b8 format[] = {37, 100, 32, 37, 46, 50, 102, 32, 37, 115, 32, 37, 108, 108, 117, 10, 0};
.global .align 1 .b8 word[] = {104, 105, 0};
.visible .entry k(.param .u64 k_0)
{
	.local .align 8 .b8 list[32];
	.reg .b64 %rd<8>;
	.reg .b32 %r<4>;
	mov.u64 %rd1, list;
	cvta.local.u64 %rd2, %rd1;
	st.local.u32 [list], -7;
	mov.f64 %rd3, 0d3FF8000000000000;
	st.local.u64 [list+8], %rd3;
	mov.u64 %rd4, word;
	cvta.global.u64 %rd4, %rd4;
	st.local.u64 [list+16], %rd4;
	st.local.u64 [list+24], 12345678901;
	mov.u64 %rd5, format;
	cvta.global.u64 %rd5, %rd5;
	{
	.param .b64 a0;
	.param .b64 a1;
	.param .b32 r0;
	st.param.b64 [a0], %rd5;
	st.param.b64 [a1], %rd2;
	call (r0), vprintf, (a0, a1);
	ld.param.b32 %r1, [r0];
	}
	ld.param.u64 %rd6, [k_0];
	st.global.u32 [%rd6], %r1;
	ret;
}
)",
          options(1, 80));
  uint64_t out = gpu.allocate<uint32_t>(1);
  ::testing::internal::CaptureStdout();
  gpu.run("k", {1, 1, 1}, {1, 1, 1}, out);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "-7 1.50 hi 12345678901\n");
  EXPECT_TRUE(gpu.clean());
  EXPECT_EQ(gpu.download<uint32_t>(out, 1)[0], 23u);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

TEST(Spaces, GenericAddresses) {
  auto r = results(R"(
	.local .align 8 .b8 stack[8];
	.shared .align 8 .b8 s[8];
	mov.u64 %rd4, stack;
	cvta.local.u64 %rd5, %rd4;
	mov.u64 %rd6, s;
	cvta.shared.u64 %rd7, %rd6;
	cvta.global.u64 %rd8, %rd1;
	mov.u64 %rd9, table;
	cvta.const.u64 %rd10, %rd9;
	st.u32 [%rd5], %r1;
	setp.eq.u32 %p1, %r1, 0;
	@%p1 st.u32 [%rd7], 5;
	bar.sync 0;
	ld.local.u32 %r2, [stack];
	ld.shared.u32 %r3, [s];
	ld.u32 %r4, [%rd7];
	ld.u32 %r5, [%rd10+4];
	ld.const.u32 %r6, [table];
	isspacep.local %p2, %rd5;
	isspacep.shared %p3, %rd7;
	isspacep.global %p4, %rd8;
	isspacep.global %p5, %rd7;
	isspacep.shared %p6, %rd8;
	isspacep.const %p7, %rd10;
	cvta.to.shared.u64 %rd11, %rd7;
	setp.eq.u64 %p8, %rd11, %rd6;
	and.pred %p2, %p2, %p3;
	and.pred %p2, %p2, %p4;
	and.pred %p2, %p2, %p7;
	and.pred %p2, %p2, %p8;
	or.pred %p5, %p5, %p6;
	not.pred %p5, %p5;
	and.pred %p2, %p2, %p5;
	selp.u32 %r7, 1000, 0, %p2;
	add.u32 %r2, %r2, %r3;
	add.u32 %r2, %r2, %r4;
	add.u32 %r2, %r2, %r5;
	add.u32 %r2, %r2, %r6;
	add.u32 %r2, %r2, %r7;
	st.global.u32 [%rd3], %r2;
)",
                   40, 1, ".const .align 4 .u32 table[2] = {30, 400};\n");
  for (uint32_t i = 0; i < 40; ++i)
    EXPECT_EQ(r[i], i + 5 + 5 + 400 + 30 + 1000);
}

TEST(Spaces, SmallTypesAreExtended) {
  auto r = results(R"(
	.local .align 8 .b8 stack[8];
	st.local.u32 [stack], 0x80ff7f81;
	ld.local.s8 %r2, [stack];
	ld.local.u8 %r3, [stack];
	ld.local.s16 %r4, [stack+2];
	ld.local.u16 %r5, [stack+2];
	ld.local.s8 %h1, [stack+2];
	cvt.u32.u16 %r6, %h1;
	ld.local.s8 %rd4, [stack];
	shr.u64 %rd4, %rd4, 32;
	cvt.u32.u64 %r7, %rd4;
	setp.ne.u32 %p1, %r2, 0xffffff81;
	setp.ne.u32 %p2, %r3, 0x81;
	setp.ne.u32 %p3, %r4, 0xffff80ff;
	setp.ne.u32 %p4, %r5, 0x80ff;
	setp.ne.u32 %p5, %r6, 0xffff;
	setp.ne.u32 %p6, %r7, 0xffffffff;
	selp.u32 %r8, 1, 0, %p1;
	@%p2 add.u32 %r8, %r8, 2;
	@%p3 add.u32 %r8, %r8, 4;
	@%p4 add.u32 %r8, %r8, 8;
	@%p5 add.u32 %r8, %r8, 16;
	@%p6 add.u32 %r8, %r8, 32;
	st.local.u8 [stack+4], %r1;
	st.local.u16 [stack+6], %r4;
	ld.local.u8 %r9, [stack+4];
	setp.ne.u32 %p1, %r9, %r1;
	@%p1 add.u32 %r8, %r8, 64;
	st.global.u32 [%rd3], %r8;
)",
                   32);
  for (uint32_t v : r)
    EXPECT_EQ(v, 0u);
}

TEST(Spaces, StackGrowsByAlloca) {
  auto r = results(R"(
	stacksave.u64 %rd4;
	add.u32 %r2, %r1, 1;
	mul.wide.u32 %rd5, %r2, 8;
	alloca.u64 %rd6, %rd5, 8;
	st.local.u32 [%rd6], %r1;
	alloca.u64 %rd7, 16;
	st.local.u32 [%rd7], 9;
	ld.local.u32 %r3, [%rd6];
	ld.local.u32 %r4, [%rd7];
	stackrestore.u64 %rd4;
	add.u32 %r3, %r3, %r4;
	st.global.u32 [%rd3], %r3;
)",
                   32);
  for (uint32_t i = 0; i < 32; ++i)
    EXPECT_EQ(r[i], i + 9);
}

TEST(Spaces, ParametersOfKernels) {
  Gpu gpu(kernelText(".param .u64 k_0, .param .align 16 .b8 k_1[20], .param .s16 k_2", R"(
	.reg .b64 %rd<8>;
	.reg .b32 %r<8>;
	ld.param.u64 %rd1, [k_0];
	mov.b64 %rd2, k_1;
	cvta.param.u64 %rd3, %rd2;
	ld.u32 %r1, [%rd3+16];
	ld.param.v2.u32 {%r2, %r3}, [k_1+8];
	ld.param.s16 %r4, [k_2];
	ld.param.u32 %r5, [%rd2];
	st.global.v4.u32 [%rd1], {%r1, %r2, %r3, %r4};
	st.global.u32 [%rd1+16], %r5;
)",
                     "sm_80"));
  struct alignas(16) Block {
    uint32_t v[5];
  };
  uint64_t out = gpu.allocate<uint32_t>(5);
  LaunchConfig config;
  config.parameters.resize(gpu.module->kernel("k")->paramBytes);
  const KernelInfo &info = *gpu.module->kernel("k");
  uint32_t v[5] = {1, 2, 3, 4, 5};
  int16_t s = -6;
  std::memcpy(&config.parameters[info.paramOffsets[0]], &out, 8);
  std::memcpy(&config.parameters[info.paramOffsets[1]], v, 20);
  std::memcpy(&config.parameters[info.paramOffsets[2]], &s, 2);
  config.work.id = 1;
  gpu.module->run("k", config);
  EXPECT_TRUE(gpu.clean());
  EXPECT_EQ(gpu.download<uint32_t>(out, 5), (std::vector<uint32_t>{5, 3, 4, uint32_t(-6), 1}));
}

TEST(Spaces, DynamicSharedMemoryComesAfterStatic) {
  LaunchConfig config;
  config.dynamicShared = 256;
  auto r = results(R"(
	.shared .align 4 .b8 fixed[12];
	mov.u32 %r2, fixed;
	mov.u32 %r3, dynamic;
	sub.u32 %r4, %r3, %r2;
	and.b32 %r5, %r3, 127;
	shl.b32 %r6, %r1, 2;
	add.u32 %r7, %r3, %r6;
	st.shared.u32 [%r7+128], %r1;
	mov.u32 %r8, %dynamic_smem_size;
	add.u32 %r4, %r4, %r5;
	add.u32 %r4, %r4, %r8;
	st.global.u32 [%rd3], %r4;
)",
                   32, 1, ".extern .shared .align 128 .b8 dynamic[];\n", config);
  EXPECT_EQ(r[0], 128u + 0 + 256);
}

//===----------------------------------------------------------------------===//
// Atomic operations
//===----------------------------------------------------------------------===//

namespace {
/// All 64 threads of 2 blocks apply an operation with `operand` to the first bytes of `start`.
template <typename T>
T atomics(const std::string &type, const std::string &operation, const std::string &operand,
          T start, const std::string &space = "global") {
  unsigned bits = sizeof(T) * 8;
  std::string reg = bits == 64 ? "%rd" : bits == 16 ? "%h" : "%r";
  std::string body = prologue;
  body += "	mov.u32 %r30, %ctaid.x;\n	mad.lo.u32 %r31, %r30, 64, %r1;\n	"
          "cvt.u64.u32 %rd20, %r31;\n"
          "	cvt.rn.f32.u32 %f1, %r31;\n	cvt.u16.u32 %h9, %r31;\n";
  body += operand;
  bool shared = space == "shared";
  std::string where = shared ? "[s]" : "[%rd1]", b = std::to_string(bits);
  if (shared)
    body = "	.shared .align 8 .b8 s[8];\n" + body +
           "	setp.ne.u32 %p9, %r1, 0;\n	@%p9 bra READY;\n	ld.global.b" + b + " " +
           reg + "15, [%rd1];\n	st.shared.b" + b + " [s], " + reg +
           "15;\nREADY:\n	bar.sync 0;\n";
  bool reduces = operation != "exch" && operation != "cas";
  body += std::string(reduces ? "	red." : "	atom.") + space + "." + operation + "." +
          type + " " + (reduces ? "" : reg + "14, ") + where + ", " + reg + "10" +
          (operation == "cas" ? ", " + reg + "11" : "") + ";\n";
  if (shared)
    body += "	bar.sync 0;\n	@%p9 bra DONE;\n	ld.shared.b" + b + " " + reg +
            "15, [s];\n	st.global.b" + b + " [%rd1], " + reg + "15;\nDONE:\n";
  Gpu gpu(kernelText(".param .u64 k_0", body, "sm_90"), options(5, 90));
  uint64_t x = gpu.upload(std::vector<T>{start});
  gpu.run("k", {shared ? 1u : 2u, 1, 1}, {64, 1, 1}, x);
  EXPECT_TRUE(gpu.clean()) << operation << " " << type;
  return gpu.download<T>(x, 1)[0];
}
} // namespace

TEST(Atomics, Integers) {
  // The operand is the number of the thread, 0 to 127 (in shared memory 0 to 63), minus 20.
  const char *minus32 = "	sub.u32 %r10, %r31, 20;\n";
  const char *minus64 = "	sub.u64 %rd10, %rd20, 20;\n";
  const char *all32 = "	mov.u32 %r10, %r31;\n",
             *bit = "	and.b32 %r10, %r31, 31;\n	shl.b32 %r10, 1, %r10;\n";
  EXPECT_EQ(atomics<uint32_t>("u32", "add", all32, 7), 7u + 127 * 64);
  EXPECT_EQ(atomics<uint32_t>("u32", "add", all32, 7, "shared"), 7u + 63 * 32);
  EXPECT_EQ(atomics<int32_t>("s32", "add", minus32, 7), 7 + 127 * 64 - 20 * 128);
  EXPECT_EQ(atomics<uint64_t>("u64", "add", "	mov.u64 %rd10, 0x100000001;\n", 7),
            7 + 128 * 0x100000001);
  EXPECT_EQ(atomics<int32_t>("s32", "min", minus32, 7), -20);
  EXPECT_EQ(atomics<uint32_t>("u32", "min", minus32, 7), 0u);
  EXPECT_EQ(atomics<int32_t>("s32", "max", minus32, 7), 107);
  EXPECT_EQ(atomics<uint32_t>("u32", "max", minus32, 7), uint32_t(-1));
  EXPECT_EQ(atomics<int64_t>("s64", "min", minus64, 7), -20);
  EXPECT_EQ(atomics<uint64_t>("u64", "max", minus64, 7, "shared"), ~uint64_t(0));
  EXPECT_EQ(atomics<uint32_t>("b32", "or", bit, 0), ~0u);
  EXPECT_EQ(atomics<uint32_t>("b32", "and", "	not.b32 %r10, %r31;\n", ~0u), ~127u);
  EXPECT_EQ(atomics<uint32_t>("b32", "xor", bit, 5), 5u);
  EXPECT_EQ(atomics<uint64_t>("b64", "or", "	shl.b64 %rd10, 1, %r31;\n", 0, "shared"),
            ~uint64_t(0));
  EXPECT_EQ(atomics<uint32_t>("u32", "inc", "	mov.u32 %r10, 9;\n", 3), (3u + 128) % 10);
  EXPECT_EQ(atomics<uint32_t>("u32", "dec", "	mov.u32 %r10, 9;\n", 3),
            10u - (128 - 4) % 10 - 1 + 0u);
  EXPECT_LT(atomics<uint32_t>("b32", "exch", all32, 999), 128u);
  EXPECT_LT(atomics<uint64_t>("b64", "exch", "	mov.u64 %rd10, %rd20;\n", 999), 128u);
  EXPECT_EQ(atomics<uint32_t>("b32", "cas", "	mov.u32 %r10, 999;\n	mov.u32 %r11, 5;\n", 999),
            5u);
  EXPECT_EQ(atomics<uint32_t>("b32", "cas", "	mov.u32 %r10, 998;\n	mov.u32 %r11, 5;\n", 999),
            999u);
  EXPECT_EQ(atomics<uint16_t>("b16", "cas", "	mov.u16 %h10, 999;\n	mov.u16 %h11, 5;\n", 999),
            5u);
}

TEST(Atomics, Floats) {
  EXPECT_EQ(atomics<float>("f32", "add", "	mov.b32 %r10, %f1;\n", 0.5f), 0.5f + 127 * 64);
  EXPECT_EQ(atomics<double>("f64", "add", "	mov.b64 %rd10, 0d3FF8000000000000;\n", 1),
            1 + 128 * 1.5);
  // Subnormal numbers count as zero in global memory, and not in shared memory.
  float tiny = std::bit_cast<float>(3u);
  EXPECT_EQ(atomics<float>("f32", "add", "	mov.b32 %r10, 1;\n", tiny), 0.0f);
  // clang-format off
  EXPECT_EQ(
      std::bit_cast<uint32_t>(atomics<float>("f32", "add", "	mov.b32 %r10, 1;\n", tiny, "shared")),
      67u);
  // clang-format on
  // 1.0 in f16 is 0x3c00, in bf16 0x3f80.
  EXPECT_EQ(atomics<uint32_t>("f16x2", "add.noftz", "	mov.b32 %r10, 0x3c003800;\n", 0),
            0x58005400u);
  EXPECT_EQ(atomics<uint32_t>("bf16x2", "add.noftz", "	mov.b32 %r10, 0x3f803f00;\n", 0),
            0x43004280u);
  EXPECT_EQ(atomics<uint16_t>("f16", "add.noftz", "	mov.b16 %h10, 0x3c00;\n", 0), 0x5800u);
  EXPECT_EQ(atomics<uint16_t>("bf16", "add.noftz", "	mov.b16 %h10, 0x3f80;\n", 0), 0x4300u);
}

TEST(Atomics, ReturnTheValueBefore) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    auto r = results("	mov.u64 %rd4, g;\n	atom.global.add.u32 %r2, [%rd4], 1;\n	"
                     "st.global.u32 [%rd3], %r2;\n",
                     64, seed, ".global .align 4 .u32 g = 5;\n");
    std::set<uint32_t> values(r.begin(), r.end());
    EXPECT_EQ(values.size(), 64u);
    EXPECT_EQ(*values.begin(), 5u);
    EXPECT_EQ(*values.rbegin(), 68u);
  }
}

//===----------------------------------------------------------------------===//
// Blocks that wait for each other
//===----------------------------------------------------------------------===//

// A barrier of the whole grid: all blocks must have room.
TEST(Blocks, NeedRoomForThoseTheyWaitFor) {
  const std::string text = kernelText(".param .u64 x", R"(
	.reg .pred %p<2>;
	.reg .b32 %r<4>;
	.reg .b64 %rd<2>;
	ld.param.u64 %rd1, [x];
	mov.u32 %r1, %nctaid.x;
	atom.acq_rel.gpu.global.add.u32 %r2, [%rd1], 1;
WAIT:
	ld.acquire.gpu.global.u32 %r2, [%rd1];
	setp.lt.u32 %p1, %r2, %r1;
	@%p1 bra WAIT;
)");
  constexpr uint32_t blocks = 6;
  for (int resident : {0, 5, 6, 7}) {
    Options o = options();
    o.resident = resident;
    Gpu gpu(text, o);
    uint64_t arrived = gpu.upload(std::vector<uint32_t>{0});
    gpu.run("k", {blocks, 1, 1}, {1, 1, 1}, arrived);
    EXPECT_TRUE(resident == 5 ? gpu.only(Check::Deadlock) : gpu.clean())
        << resident << " at one time";
  }
}

//===----------------------------------------------------------------------===//
// The seed decides
//===----------------------------------------------------------------------===//

TEST(Seeds, DecideTheOrderAndReplayIt) {
  const char *body =
      "	mov.u64 %rd4, g;\n	mov.u32 %r5, %ctaid.x;\n	atom.global.add.u32 %r2, [%rd4], "
      "1;\n"
      "	mad.lo.u32 %r6, %r5, 64, %r1;\n	mul.wide.u32 %rd5, %r6, 4;\n	add.s64 %rd6, %rd1, %rd5;\n"
      "	st.global.u32 [%rd6], %r2;\n";
  LaunchConfig config;
  config.grid.x = 8;
  std::set<std::vector<uint32_t>> orders;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    auto a = results(body, 64, seed, ".global .align 4 .u32 g = 0;\n", config);
    auto b = results(body, 64, seed, ".global .align 4 .u32 g = 0;\n", config);
    EXPECT_EQ(a, b);
    orders.insert(a);
  }
  EXPECT_EQ(orders.size(), 10u);
}

TEST(Seeds, ChooseTheElectedLane) {
  const char *body = "	elect.sync %r5|%p1, 0xffffffff;\n	st.global.u32 [%rd4], %r5;\n";
  std::set<uint32_t> lanes;
  for (uint64_t seed = 1; seed <= 16; ++seed) {
    auto a = results(
        std::string("	mul.wide.u32 %rd3, %r1, 4;\n	add.s64 %rd4, %rd1, %rd3;\n") + body, 32,
        seed, "", {});
    EXPECT_TRUE(
        std::all_of(a.begin(), a.begin() + 32, [&](uint32_t l) { return l == a[0] && l < 32; }));
    EXPECT_EQ(a, results(std::string(
                             "	mul.wide.u32 %rd3, %r1, 4;\n	add.s64 %rd4, %rd1, %rd3;\n") +
                             body,
                         32, seed, "", {}));
    lanes.insert(a[0]);
  }
  EXPECT_GT(lanes.size(), 4u);
}

TEST(Errors, NameLineTextAndWhatWasExpected) {
  for (auto [body, wanted] :
       {std::pair("	.reg .b32 %r<4>;\n	ld.global.u64 %r1, [%r2];\n", "line"),
        {"	.reg .b32 %r<4>;\n	tex.2d.v4.f32.s32 {%r1,%r1,%r1,%r1}, [t, {%r1,%r2}];\n",
         "tex"},
        {"	.reg .b32 %r<4>;\n	.reg .b32 a;\n	elect.sync %r1|%r2, -1;\n", "line"}}) {
    try {
      Gpu gpu(kernelText("", body, "sm_90"));
      gpu.module->kernel("k");
      ADD_FAILURE() << body;
    } catch (const Error &e) {
      EXPECT_NE(std::string(e.what()).find(wanted), std::string::npos) << e.what();
    }
  }
}
