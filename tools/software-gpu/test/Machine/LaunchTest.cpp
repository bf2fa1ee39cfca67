//===- LaunchTest.cpp - What a launch may be, and what it counts ------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Harness.h"

#include <functional>

using namespace sgpu;
using namespace sgpu::machinetest;

//===----------------------------------------------------------------------===//
// Launches that the chip does not have
//===----------------------------------------------------------------------===//

namespace {
constexpr const char *registers = R"(
	.reg .pred %p<8>;
	.reg .b32 %r<64>;
	.reg .b64 %rd<16>;
	.reg .f32 %f<16>;
)";

struct Refusal {
  std::string message;
  LaunchStatus status;
  std::function<void(LaunchConfig &)> change;
};
} // namespace

TEST(Launch, RefusesWhatTheChipDoesNotHave) {
  // clang-format off
  std::string text = kernelText(
      "", std::string(".shared .align 4 .b8 s[1024];\n") + registers + "	st.shared.u32 [s], 1;\n",
      "sm_80");
  // clang-format on
  const Refusal refusals[] = {
      {"expected no zeros", LaunchStatus::InvalidConfiguration, [](auto &c) { c.block.x = 0; }},
      {"1024 in all", LaunchStatus::InvalidConfiguration, [](auto &c) { c.block = {1025, 1, 1}; }},
      {"1024 in all", LaunchStatus::InvalidConfiguration, [](auto &c) { c.block = {32, 33, 1}; }},
      {"1024 x 1024 x 64", LaunchStatus::InvalidConfiguration,
       [](auto &c) { c.block = {1, 1, 65}; }},
      {"65535", LaunchStatus::InvalidConfiguration, [](auto &c) { c.grid = {1, 65536, 1}; }},
      {"no clusters", LaunchStatus::InvalidConfiguration,
       [](auto &c) {
         c.grid = {2, 1, 1};
         c.cluster = {2, 1, 1};
       }},
      {"bytes of parameters", LaunchStatus::InvalidConfiguration,
       [](auto &c) { c.parameters.resize(8); }},
      {"at most 49152", LaunchStatus::OutOfResources,
       [](auto &c) { c.dynamicShared = 48 * 1024 - 1023; }},
      {"allows 50000", LaunchStatus::OutOfResources,
       [](auto &c) {
         c.maxDynamicShared = 50000;
         c.dynamicShared = 50001;
       }},
      {"at most 166912", LaunchStatus::OutOfResources,
       [](auto &c) {
         c.maxDynamicShared = 166912;
         c.dynamicShared = 166912;
       }},
  };
  for (const Refusal &r : refusals) {
    Gpu gpu(text, options(1, 80));
    LaunchConfig config;
    r.change(config);
    gpu.module->kernel("k");
    LaunchResult result = gpu.module->run("k", config);
    EXPECT_EQ(int(result.status), int(r.status)) << r.message;
    EXPECT_TRUE(gpu.only(Check::Launch));
    EXPECT_NE(gpu.text().find(r.message), std::string::npos) << r.message << "\n" << gpu.text();
  }
  // Their twins, at the limit.
  const std::function<void(LaunchConfig &)> allowed[] = {
      [](auto &c) { c.block = {1024, 1, 1}; },
      [](auto &c) { c.block = {32, 32, 1}; },
      [](auto &c) { c.block = {1, 1, 64}; },
      [](auto &c) { c.grid = {1, 65535, 1}; },
      [](auto &c) { c.dynamicShared = 48 * 1024 - 1024; },
      [](auto &c) { c.maxDynamicShared = c.dynamicShared = 50000; },
      [](auto &c) { c.maxDynamicShared = c.dynamicShared = 166912 - 1024; }};
  for (const auto &change : allowed) {
    Gpu gpu(text, options(1, 80));
    LaunchConfig config;
    change(config);
    EXPECT_EQ(int(gpu.module->run("k", config).status), int(LaunchStatus::Ok));
    EXPECT_TRUE(gpu.clean());
  }
}

TEST(Launch, RefusesWhatTheKernelDoesNotAllow) {
  auto text = [](const std::string &directive) {
    return ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k()\n" + directive +
           "\n{\nret;\n}\n";
  };
  auto run = [&](const std::string &directive, Dim3 block, Dim3 grid = {4, 1, 1}) {
    Gpu gpu(text(directive));
    LaunchConfig config;
    config.block = block;
    config.grid = grid;
    bool ok = gpu.module->run("k", config).status == LaunchStatus::Ok;
    EXPECT_EQ(ok, gpu.reporter.total() == 0);
    return ok;
  };
  EXPECT_TRUE(run(".reqntid 64, 2, 1", {64, 2, 1}));
  EXPECT_FALSE(run(".reqntid 64, 2, 1", {128, 1, 1}));
  EXPECT_TRUE(run(".maxntid 64, 2, 1", {128, 1, 1}));
  EXPECT_FALSE(run(".maxntid 64, 2, 1", {129, 1, 1}));
  EXPECT_TRUE(run(".reqnctapercluster 2, 1, 1", {32, 1, 1}));
  EXPECT_FALSE(run(".reqnctapercluster 3, 1, 1", {32, 1, 1})); // 4 blocks
  EXPECT_FALSE(run(".reqnctapercluster 16, 1, 1", {32, 1, 1}, {16, 1, 1}));
}

TEST(Launch, RefusesBlocksWhoseRegistersDoNotFit) {
  // 100 values that are alive together.
  std::string body = "	.reg .b32 %r<101>;\n	.reg .b64 %rd<4>;\n	ld.param.u64 %rd1, "
                     "[k_0];\n";
  for (int i = 0; i < 100; ++i)
    body += "	ld.global.u32 %r" + std::to_string(i) + ", [%rd1+" + std::to_string(4 * i) + "];\n";
  for (int i = 0; i < 100; ++i)
    body += "	st.global.u32 [%rd1+" + std::to_string(4 * i) + "], %r" + std::to_string(99 - i) +
            ";\n";
  for (uint32_t threads : {512u, 640u}) {
    Gpu gpu(kernelText(".param .u64 k_0", body, "sm_80"), options(1, 80));
    uint64_t x = gpu.upload(std::vector<uint32_t>(100, 1));
    EXPECT_GT(gpu.module->kernel("k")->registers, 100u);
    EXPECT_LT(gpu.module->kernel("k")->registers, 128u);
    LaunchResult r = gpu.run("k", {1, 1, 1}, {threads, 1, 1}, x);
    EXPECT_EQ(r.status == LaunchStatus::OutOfResources, threads > 512) << threads;
  }
}

TEST(Launch, WhatIsKnownOfAKernel) {
  Gpu gpu(
      ".version 8.3\n.target sm_90\n.address_size 64\n.const .b32 c[3];\n"
      ".visible .entry k(.param .u8 a, .param .u64 b, .param .align 16 .b8 s[20], .param .u16 e)\n"
      ".maxntid 128\n{\n	.shared .align 8 .b8 x[12];\n	.local .align 8 .b8 l[40];\n	"
      ".reg .b32 %r1;\n"
      "	mov.u32 %r1, x;\n	mov.u32 %r1, l;\n	ret;\n}\n");
  const KernelInfo &k = *gpu.module->kernel("k");
  EXPECT_EQ(k.paramOffsets, (std::vector<uint32_t>{0, 8, 16, 36}));
  EXPECT_EQ(k.paramSizes, (std::vector<uint32_t>{1, 8, 20, 2}));
  EXPECT_EQ(k.paramBytes, 38u);
  EXPECT_EQ(k.staticShared, 12u);
  EXPECT_EQ(k.localBytes, 40u);
  EXPECT_EQ(k.constBytes, 12u);
  EXPECT_EQ(k.maxThreads, 128u);
  EXPECT_EQ(k.ptxVersion, 83);
  EXPECT_EQ(k.target, 90);
  EXPECT_EQ(gpu.module->kernel("no"), nullptr);
  EXPECT_EQ(gpu.module->variable("c")->bytes, 12u);
}

TEST(Launch, ModulesOfOtherChipsAreRefused) {
  EXPECT_THROW(Gpu(kernelText("", "", "sm_90"), options(1, 80)), Error);
  EXPECT_THROW(Gpu(kernelText("", "", "sm_80a"), options(1, 90)), Error);
  EXPECT_NO_THROW(Gpu(kernelText("", "", "sm_80"), options(1, 90)));
  EXPECT_NO_THROW(Gpu(kernelText("", "", "sm_90a"), options(1, 90)));
}

//===----------------------------------------------------------------------===//
// Counters, against counts by hand
//===----------------------------------------------------------------------===//

namespace {
/// One warp reads (or writes) through `access` at x + tid * stride + offset.
Counts countGlobal(const std::string &access, unsigned stride, unsigned offset,
                   unsigned block = 32) {
  Gpu gpu(kernelText(".param .u64 k_0",
                     std::string(registers) + R"(
	ld.param.u64 %rd1, [k_0];
	mov.u32 %r1, %tid.x;
	mul.wide.u32 %rd2, %r1, )" +
                         std::to_string(stride) + R"(;
	add.s64 %rd3, %rd1, %rd2;
	mov.u32 %r2, 0; mov.u32 %r3, 0; mov.u32 %r4, 0; mov.u32 %r5, 0;
	)" + access + " \n",
                     "sm_80"),
          options(1, 80));
  uint64_t x = gpu.upload(std::vector<uint32_t>(8192, 1));
  LaunchResult r = gpu.run("k", {1, 1, 1}, {block, 1, 1}, x + offset);
  EXPECT_TRUE(gpu.clean());
  for (auto &[line, counts] : r.counters.lines)
    if (counts.requests)
      return counts;
  return {};
}
const char *load4 = "ld.global.u32 %r2, [%rd3];";
const char *load16 = "ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd3];";
} // namespace

TEST(Counters, SectorsOfGlobalMemory) {
  struct Case {
    const char *access;
    unsigned stride, offset;
    uint64_t bytes, sectors;
  };
  // 32 lanes of 4 bytes side by side are 128 bytes: 4 sectors of 32.
  const Case cases[] = {
      {load4, 4, 0, 128, 4},   // stride 1
      {load4, 8, 0, 128, 8},   // stride 2
      {load4, 16, 0, 128, 16}, // stride 4
      {load4, 32, 0, 128, 32}, // each its own
      {load4, 256, 0, 128, 32},
      {load4, 4, 4, 128, 5},    // begins within a sector
      {load4, 4, 32, 128, 4},   // the next sector
      {load4, 0, 0, 128, 1},    // all the same word
      {load16, 16, 0, 512, 16}, // 512 bytes
      {load16, 16, 16, 512, 17},
      {load16, 32, 0, 512, 32},
      {"ld.global.u8 %r2, [%rd3];", 1, 0, 32, 1},
      {"ld.global.u8 %r2, [%rd3];", 1, 1, 32, 2},
      {"st.global.u32 [%rd3], %r2;", 8, 0, 128, 8},
      {"ld.global.u64 %rd4, [%rd3];", 8, 0, 256, 8},
      {"red.global.add.u32 [%rd3], %r2;", 4, 0, 128, 4},
  };
  for (const Case &c : cases) {
    Counts n = countGlobal(c.access, c.stride, c.offset);
    EXPECT_EQ(n.requests, 1u) << c.access;
    EXPECT_EQ(n.bytes, c.bytes) << c.access << " stride " << c.stride;
    EXPECT_EQ(n.sectors, c.sectors) << c.access << " stride " << c.stride << " offset " << c.offset;
  }
  // 40 threads are two requests: 4 sectors and one.
  Counts n = countGlobal(load4, 4, 0, 40);
  EXPECT_EQ(n.requests, 2u);
  EXPECT_EQ(n.bytes, 160u);
  EXPECT_EQ(n.sectors, 5u);
}

TEST(Counters, BankConflictsOfSharedMemory) {
  struct Case {
    const char *address; // %r2 from %r1 = tid
    const char *access;
    uint64_t wavefronts, ideal;
  };
  const char *word = "ld.shared.u32 %r10, [%r5];";
  const char *wide = "ld.shared.v2.u32 {%r10, %r11}, [%r5];";
  const char *widest = "ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r5];";
  const Case cases[] = {
      {"shl.b32 %r2, %r1, 2;", word, 1, 1},      // one word for each bank
      {"shl.b32 %r2, %r1, 3;", word, 2, 1},      // stride 2: two words in every second bank
      {"shl.b32 %r2, %r1, 4;", word, 4, 1},      // stride 4
      {"shl.b32 %r2, %r1, 7;", word, 32, 1},     // a column of [32][32]: 32 ways
      {"mul.lo.u32 %r2, %r1, 132;", word, 1, 1}, // a column of [32][33]: none
      {"mov.u32 %r2, 64;", word, 1, 1},          // one word for all
      {"and.b32 %r2, %r1, 1; shl.b32 %r2, %r2, 7;", word, 2, 1}, // two words of one bank
      {"shl.b32 %r2, %r1, 3;", wide, 2, 2},                      // 256 bytes: two passes
      {"shl.b32 %r2, %r1, 4;", wide, 4, 2},
      {"shl.b32 %r2, %r1, 4;", widest, 4, 4},  // 512 bytes: four passes
      {"shl.b32 %r2, %r1, 7;", widest, 32, 4}, // rows of 128 bytes, the same 16 bytes of each
      // The 128-byte swizzle: piece (lane % 8) ^ row of each row: no conflicts.
      {"and.b32 %r3, %r1, 7; shl.b32 %r4, %r3, 4; shl.b32 %r2, %r1, 7; or.b32 %r2, %r2, %r4;",
       widest, 4, 4},
  };
  for (const Case &c : cases) {
    Gpu gpu(kernelText("",
                       std::string("	.shared .align 128 .b8 s[8192];\n") + registers + R"(
	mov.u32 %r1, %tid.x;
	mov.u32 %r20, s;
	mov.u32 %r21, 0;
FILL:
	add.u32 %r22, %r20, %r21;
	st.shared.u32 [%r22], 0;
	add.u32 %r21, %r21, 4;
	setp.lt.u32 %p1, %r21, 8192;
	@%p1 bra FILL;
	bar.sync 0;
	)" + c.address + "\n	add.u32 %r5, %r20, %r2;\n" +
                           c.access + "\n",
                       "sm_80"),
            options(1, 80));
    LaunchResult r = gpu.run("k", {1, 1, 1}, {32, 1, 1});
    EXPECT_TRUE(gpu.clean()) << c.address;
    const LineCounters &n = r.counters.lines.rbegin()->second.opcode == "ret"
                                ? std::prev(std::prev(r.counters.lines.end()))->second
                                : r.counters.lines.rbegin()->second;
    EXPECT_EQ(n.sharedRequests, 1u) << c.address;
    EXPECT_EQ(n.wavefronts, c.wavefronts) << c.address << " " << c.access;
    EXPECT_EQ(n.idealWavefronts, c.ideal) << c.address << " " << c.access;
  }
}

TEST(Counters, ExecutionsLanesAndBarriers) {
  Gpu gpu(kernelText(".param .u64 k_0", std::string(registers) + R"(
	ld.param.u64 %rd1, [k_0];
	mov.u32 %r1, %tid.x;
	mov.u32 %r2, 0;
LOOP:
	bar.sync 0;
	add.u32 %r2, %r2, 1;
	setp.lt.u32 %p1, %r2, 5;
	@%p1 bra LOOP;
	setp.lt.u32 %p2, %r1, 8;
	@%p2 red.global.add.u32 [%rd1], 1;
)",
                     "sm_80"),
          options(3, 80));
  uint64_t x = gpu.upload(std::vector<uint32_t>{0});
  LaunchResult r = gpu.run("k", {3, 1, 1}, {80, 1, 1}, x); // 3 warps, the last of 16 lanes
  EXPECT_TRUE(gpu.clean());
  std::map<std::string, LineCounters> byOpcode;
  for (auto &[line, c] : r.counters.lines)
    byOpcode[c.opcode] = c;
  EXPECT_EQ(r.counters.blocks, 3u);
  EXPECT_EQ(r.counters.barriers, 15u);
  EXPECT_EQ(byOpcode["bar.sync"].executions, 3u * 3 * 5);
  EXPECT_EQ(byOpcode["bar.sync"].lanes, 3u * 80 * 5);
  EXPECT_EQ(byOpcode["add.u32"].lanes, 3u * 80 * 5);
  EXPECT_EQ(byOpcode["red.global.add.u32"].lanes, 3u * 8);
  EXPECT_EQ(byOpcode["red.global.add.u32"].requests, 3u);
  // Summed over launches, and as JSON.
  Counters sum;
  sum.add(r.counters);
  sum.add(gpu.run("k", {1, 1, 1}, {32, 1, 1}, x).counters);
  EXPECT_EQ(sum.launches, 2u);
  EXPECT_EQ(sum.barriers, 20u);
  std::string json = sum.toJson();
  EXPECT_NE(json.find("\"kernel\":\"k\",\"launches\":2,\"blocks\":4,\"barriers\":20"),
            std::string::npos)
      << json;
  EXPECT_NE(json.find("\"bar.sync\":50"), std::string::npos) << json;
}
