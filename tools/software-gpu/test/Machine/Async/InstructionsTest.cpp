//===- InstructionsTest.cpp - Asynchronous and matrix instructions, one by one -===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/AsyncHarness.h"
#include "Machine/Tensor/Arithmetic.h"

#include <cmath>
#include <random>

using namespace sgpu;
using namespace sgpu::async_test;

namespace {

/// %r0 tid, %r1 rank, %r2 sm, %r3 bar, %rd0 in, %rd1 out, %p0 tid = 0, %p1 rank = 0.
std::string kernel(const std::string &body, const std::string &version = "8.7") {
  return ".version " + version + R"(
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out) {
  .shared .align 1024 .b8 sm[8192];
  .shared .align 8 .b64 bar;
  .reg .pred %p<8>; .reg .b32 %r<40>; .reg .b64 %rd<24>; .reg .f32 %f<16>; .reg .b16 %h<4>;
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, %cluster_ctarank;
  mov.u32 %r2, sm;
  mov.u32 %r3, bar;
  ld.param.u64 %rd0, [in];
  ld.param.u64 %rd1, [out];
  setp.eq.u32 %p0, %r0, 0;
  setp.eq.u32 %p1, %r1, 0;
)" + body +
         "\n  ret;\n}\n";
}

const Completion completions[] = {Completion::Late, Completion::Early, Completion::Random};

template <typename T> std::vector<T> counted(size_t n) {
  std::vector<T> v(n);
  for (size_t i = 0; i < n; ++i)
    v[i] = T(i + 1);
  return v;
}

//===----------------------------------------------------------------------===//
// cp.async
//===----------------------------------------------------------------------===//

// Bytes after src-size become zero; a source of no bytes is not looked at, even if it is no address.
TEST(CpAsync, FillsWithZeros) {
  for (Completion completion : completions) {
    Gpu gpu(kernel(R"(
  rem.u32 %r4, %r0, 17;
  mul.wide.u32 %rd2, %r0, 16;
  add.u64 %rd3, %rd0, %rd2;
  setp.eq.u32 %p2, %r4, 0;
  @%p2 mov.u64 %rd3, 16;
  shl.b32 %r5, %r0, 4;
  add.u32 %r5, %r2, %r5;
  cp.async.cg.shared.global [%r5], [%rd3], 16, %r4;
  cp.async.wait_all;
  ld.shared.v4.b32 {%r6, %r7, %r8, %r9}, [%r5];
  add.u64 %rd4, %rd1, %rd2;
  st.global.v4.b32 [%rd4], {%r6, %r7, %r8, %r9};)"),
            1, completion);
    std::vector<uint8_t> in = counted<uint8_t>(2048), want = in;
    for (size_t i = 0; i < want.size(); ++i)
      if (i % 16 >= i / 16 % 17)
        want[i] = 0;
    uint64_t out = gpu.zeros<uint8_t>(2048);
    gpu.run("k", {}, {gpu.upload(in), out});
    EXPECT_EQ(gpu.download<uint8_t>(out, 2048), want);
    EXPECT_EQ(gpu.faults(), "");
  }
}

TEST(CpAsync, IgnoresSourceByPredicate) {
  Gpu gpu(kernel(R"(
  and.b32 %r4, %r0, 1;
  setp.eq.u32 %p2, %r4, 1;
  mul.wide.u32 %rd2, %r0, 8;
  add.u64 %rd3, %rd0, %rd2;
  shl.b32 %r5, %r0, 3;
  add.u32 %r5, %r2, %r5;
  cp.async.ca.shared.global [%r5], [%rd3], 8, %p2;
  cp.async.wait_all;
  ld.shared.b64 %rd5, [%r5];
  add.u64 %rd4, %rd1, %rd2;
  st.global.b64 [%rd4], %rd5;)"));
  std::vector<uint64_t> in = counted<uint64_t>(128), want = in;
  for (size_t i = 1; i < 128; i += 2)
    want[i] = 0;
  uint64_t out = gpu.zeros<uint64_t>(128);
  gpu.run("k", {}, {gpu.upload(in), out});
  EXPECT_EQ(gpu.download<uint64_t>(out, 128), want);
  EXPECT_EQ(gpu.faults(), "");
}

// Without .noinc the arrival of the copies adds to the count of the phase: threads still arrive themselves.
TEST(CpAsync, ArrivesAtAnMbarrier) {
  for (Completion completion : completions) {
    Gpu gpu(kernel(R"(
  @%p0 mbarrier.init.shared.b64 [%r3], 128;
  bar.sync 0;
  shl.b32 %r4, %r0, 2;
  mul.wide.u32 %rd2, %r0, 4;
  add.u64 %rd3, %rd0, %rd2;
  add.u32 %r5, %r2, %r4;
  cp.async.ca.shared.global [%r5], [%rd3], 4;
  cp.async.mbarrier.arrive.shared.b64 [%r3];
  mbarrier.arrive.shared.b64 %rd5, [%r3];
W: mbarrier.test_wait.shared.b64 %p2, [%r3], %rd5;
  @!%p2 bra W;
  xor.b32 %r6, %r4, 508;
  add.u32 %r6, %r2, %r6;
  ld.shared.b32 %r7, [%r6];
  add.u64 %rd4, %rd1, %rd2;
  st.global.b32 [%rd4], %r7;)"),
            1, completion);
    std::vector<uint32_t> in = counted<uint32_t>(128), want(in.rbegin(), in.rend());
    uint64_t out = gpu.zeros<uint32_t>(128);
    gpu.run("k", {}, {gpu.upload(in), out});
    EXPECT_EQ(gpu.download<uint32_t>(out, 128), want);
    EXPECT_EQ(gpu.faults(), "");
  }
}

//===----------------------------------------------------------------------===//
// mbarrier
//===----------------------------------------------------------------------===//

TEST(Mbarrier, CountsPhasesAndDrops) {
  Gpu gpu(kernel(R"(
  @!%p0 bra D;
  mbarrier.init.shared.b64 [%r3], 2;
  mbarrier.arrive.shared.b64 %rd5, [%r3];
  mbarrier.pending_count.b64 %r4, %rd5;
  st.global.b32 [%rd1], %r4;
  mbarrier.test_wait.shared.b64 %p2, [%r3], %rd5;
  selp.b32 %r5, 1, 0, %p2;
  st.global.b32 [%rd1+4], %r5;
  mbarrier.arrive_drop.shared.b64 %rd6, [%r3];
  mbarrier.pending_count.b64 %r4, %rd6;
  st.global.b32 [%rd1+8], %r4;
  mbarrier.test_wait.shared.b64 %p2, [%r3], %rd5;
  selp.b32 %r5, 1, 0, %p2;
  st.global.b32 [%rd1+12], %r5;
  mbarrier.arrive.shared.b64 %rd7, [%r3];
  mbarrier.pending_count.b64 %r4, %rd7;
  st.global.b32 [%rd1+16], %r4;
  mbarrier.test_wait.parity.shared.b64 %p2, [%r3], 1;
  selp.b32 %r5, 1, 0, %p2;
  st.global.b32 [%rd1+20], %r5;
  mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r3], 64;
  mbarrier.arrive.shared.b64 %rd8, [%r3];
  mbarrier.test_wait.parity.shared.b64 %p2, [%r3], 0;
  selp.b32 %r5, 1, 0, %p2;
  st.global.b32 [%rd1+24], %r5;
  mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r3], 64;
  mbarrier.test_wait.parity.shared.b64 %p2, [%r3], 0;
  selp.b32 %r5, 1, 0, %p2;
  st.global.b32 [%rd1+28], %r5;
  mbarrier.inval.shared.b64 [%r3];
D:)"));
  uint64_t out = gpu.zeros<uint32_t>(8);
  gpu.run("k", {{1, 1, 1}, {32, 1, 1}}, {gpu.zeros<uint32_t>(4), out});
  // Pending before each arrival; phase 0 not complete, then complete; one arrival less from then on; a
  // phase is not complete while bytes are missing.
  EXPECT_EQ(gpu.download<uint32_t>(out, 8), (std::vector<uint32_t>{2, 0, 1, 1, 1, 1, 0, 1}));
  EXPECT_EQ(gpu.faults(), "");
}

// A thread that only asks, and does the awaited work itself in between, is not stuck.
TEST(Mbarrier, TryWaitEnds) {
  Gpu gpu(kernel(R"(
  @!%p0 bra D;
  mbarrier.init.shared.b64 [%r3], 3;
  mov.u32 %r4, 0;
L: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0;
  @%p2 bra E;
  add.u32 %r4, %r4, 1;
  mbarrier.arrive.shared::cta.b64 _, [%r3];
  bra L;
E: st.global.b32 [%rd1], %r4;
D:)"));
  uint64_t out = gpu.zeros<uint32_t>(1);
  gpu.run("k", {{1, 1, 1}, {32, 1, 1}}, {gpu.zeros<uint32_t>(4), out});
  EXPECT_EQ(gpu.download<uint32_t>(out, 1)[0], 3u);
  EXPECT_EQ(gpu.faults(), "");
}

//===----------------------------------------------------------------------===//
// Clusters
//===----------------------------------------------------------------------===//

const std::string openCluster = R"(
  @%p0 mbarrier.init.shared::cta.b64 [%r3], 1;
  @%p0 fence.mbarrier_init.release.cluster;
  shl.b32 %r10, %r0, 2;
  add.u32 %r11, %r2, %r10;
  mov.u32 %r12, %ctaid.x;
  shl.b32 %r13, %r12, 9;
  cvt.u64.u32 %rd10, %r13;
  cvt.u64.u32 %rd11, %r10;
  add.u64 %rd12, %rd10, %rd11;
  xor.b32 %r14, %r1, 1;
)";
const std::string meet = "  barrier.cluster.arrive.aligned;\n  barrier.cluster.wait.aligned;\n";
const std::string wait = R"(
W: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0;
  @!%p2 bra W;
)";

TEST(Cluster, AsyncStoresAndReductions) {
  for (Completion completion : completions) {
    Gpu gpu(kernel(openCluster + "  st.shared.b32 [%r11], 5;\n" + meet + R"(
  mapa.shared::cluster.u32 %r20, %r2, 0;
  mapa.shared::cluster.u32 %r21, %r3, 0;
  not.pred %p3, %p1;
  and.pred %p4, %p3, %p0;
  @%p4 st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%r20], {77, 88}, [%r21];
  @%p4 red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r20+16], 37, [%r21];
  @%p3 bra D;
  @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 12;
)" + wait + R"(
  ld.shared.b32 %r22, [%r11];
  add.u64 %rd13, %rd1, %rd11;
  st.global.b32 [%rd13], %r22;
D:
)" + meet),
            1, completion);
    uint64_t out = gpu.zeros<uint32_t>(128);
    bool ran = false;
    try {
      gpu.run("k", {{2, 1, 1}, {128, 1, 1}, {2, 1, 1}}, {gpu.zeros<uint32_t>(4), out});
      ran = true;
    } catch (const Error &e) {
      FAIL() << e.what();
    }
    std::vector<uint32_t> want(128, 5);
    want[0] = 77, want[1] = 88, want[4] = 42;
    EXPECT_TRUE(ran);
    EXPECT_EQ(gpu.download<uint32_t>(out, 128), want);
    EXPECT_EQ(gpu.faults(), "");
  }
}

TEST(Cluster, BulkCopyToAnotherBlock) {
  for (Completion completion : completions) {
    Gpu gpu(kernel(openCluster + R"(
  add.u64 %rd13, %rd0, %rd12;
  ld.global.b32 %r22, [%rd13];
  st.shared.b32 [%r11], %r22;
  fence.proxy.async.shared::cta;
  @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 512;
)" + meet + R"(
  add.u32 %r24, %r2, 2048;
  mapa.shared::cluster.u32 %r20, %r24, %r14;
  mapa.shared::cluster.u32 %r21, %r3, %r14;
  @%p0 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r20], [%r2], 512, [%r21];
)" + wait + R"(
  ld.shared.b32 %r22, [%r11+2048];
  add.u64 %rd13, %rd1, %rd12;
  st.global.b32 [%rd13], %r22;
)" + meet),
            1, completion);
    std::vector<uint32_t> in = counted<uint32_t>(256), want(256);
    for (int i = 0; i < 256; ++i)
      want[i] = in[i ^ 128];
    uint64_t out = gpu.zeros<uint32_t>(256);
    gpu.run("k", {{2, 1, 1}, {128, 1, 1}, {2, 1, 1}}, {gpu.upload(in), out});
    EXPECT_EQ(gpu.download<uint32_t>(out, 256), want);
    EXPECT_EQ(gpu.faults(), "");
  }
}

TEST(Cluster, MulticastReachesEveryBlock) {
  for (Completion completion : completions) {
    Gpu gpu(kernel(openCluster +
                   "  @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 512;\n" + meet + R"(
  mov.u16 %h0, 3;
  and.pred %p4, %p1, %p0;
  @%p4 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r2], [%rd0], 512, [%r3], %h0;
)" + wait + R"(
  ld.shared.b32 %r22, [%r11];
  add.u64 %rd13, %rd1, %rd12;
  st.global.b32 [%rd13], %r22;
)" + meet),
            1, completion);
    std::vector<uint32_t> in = counted<uint32_t>(128), want = in;
    want.insert(want.end(), in.begin(), in.end());
    uint64_t out = gpu.zeros<uint32_t>(256);
    gpu.run("k", {{2, 1, 1}, {128, 1, 1}, {2, 1, 1}}, {gpu.upload(in), out});
    EXPECT_EQ(gpu.download<uint32_t>(out, 256), want);
    EXPECT_EQ(gpu.faults(), "");
  }
}

TEST(Cluster, RanksAndAddresses) {
  Gpu gpu(kernel(R"(
  xor.b32 %r4, %r1, 1;
  mapa.shared::cluster.u32 %r5, %r2, %r4;
  getctarank.shared::cluster.u32 %r6, %r5;
  getctarank.shared::cluster.u32 %r7, %r2;
  mul.wide.u32 %rd2, %r1, 8;
  add.u64 %rd3, %rd1, %rd2;
  @%p0 st.global.v2.b32 [%rd3], {%r6, %r7};)"));
  uint64_t out = gpu.zeros<uint32_t>(4);
  gpu.run("k", {{2, 1, 1}, {32, 1, 1}, {2, 1, 1}}, {gpu.zeros<uint32_t>(4), out});
  EXPECT_EQ(gpu.download<uint32_t>(out, 4), (std::vector<uint32_t>{1, 0, 0, 1}));
  EXPECT_EQ(gpu.faults(), "");
}

// Two warpgroups give registers back, the third takes them: it waits until they are free.
TEST(Registers, MoveBetweenWarpgroups) {
  for (uint64_t seed : {1, 2, 3}) {
    Gpu gpu(kernel(R"(
  setp.lt.u32 %p2, %r0, 128;
  @%p2 bra P;
  setmaxnreg.inc.sync.aligned.u32 232;
  bra D;
P: setmaxnreg.dec.sync.aligned.u32 40;
D:)"),
            seed);
    gpu.run("k", {{1, 1, 1}, {384, 1, 1}}, {gpu.zeros<uint32_t>(4), gpu.zeros<uint32_t>(4)});
    EXPECT_EQ(gpu.faults(), "");
  }
}

//===----------------------------------------------------------------------===//
// Bulk reductions
//===----------------------------------------------------------------------===//

TEST(BulkReduce, AllTypes) {
  struct {
    const char *op;
    unsigned bytes;
    uint64_t (*value)(unsigned); ///< bits of the i-th element
    uint64_t (*apply)(uint64_t, uint64_t);
  } forms[] = {
      {"add.noftz.f16", 2, [](unsigned i) { return uint64_t(roundedTo(TensorType::F16, i % 9)); },
       [](uint64_t a, uint64_t b) {
         return uint64_t(roundedTo(TensorType::F16, valueOf(TensorType::F16, uint32_t(a)) +
                                                        valueOf(TensorType::F16, uint32_t(b))));
       }},
      {"max.bf16", 2,
       [](unsigned i) { return uint64_t(roundedTo(TensorType::BF16, int(i % 9) - 4)); },
       [](uint64_t a, uint64_t b) {
         return valueOf(TensorType::BF16, uint32_t(a)) < valueOf(TensorType::BF16, uint32_t(b)) ? b
                                                                                                : a;
       }},
      {"add.noftz.bf16", 2, [](unsigned i) { return uint64_t(roundedTo(TensorType::BF16, i % 9)); },
       [](uint64_t a, uint64_t b) {
         return uint64_t(roundedTo(TensorType::BF16, valueOf(TensorType::BF16, uint32_t(a)) +
                                                         valueOf(TensorType::BF16, uint32_t(b))));
       }},
      {"add.f64", 8, [](unsigned i) { return std::bit_cast<uint64_t>(double(i) / 4); },
       [](uint64_t a, uint64_t b) {
         return std::bit_cast<uint64_t>(std::bit_cast<double>(a) + std::bit_cast<double>(b));
       }},
      {"add.u64", 8, [](unsigned i) { return uint64_t(i) << 33; },
       [](uint64_t a, uint64_t b) { return a + b; }},
      {"min.s64", 8, [](unsigned i) { return uint64_t(int64_t(i % 5) - 2); },
       [](uint64_t a, uint64_t b) { return uint64_t(std::min(int64_t(a), int64_t(b))); }},
      {"xor.b64", 8, [](unsigned i) { return uint64_t(i) * 0x123456789; },
       [](uint64_t a, uint64_t b) { return a ^ b; }},
      {"and.b32", 4, [](unsigned i) { return uint64_t(i) * 77; },
       [](uint64_t a, uint64_t b) { return a & b; }},
      {"inc.u32", 4, [](unsigned i) { return uint64_t(i % 4); },
       [](uint64_t a, uint64_t b) { return a >= b ? 0 : a + 1; }},
  };
  for (auto &f : forms) {
    Gpu gpu(kernel(std::string(R"(
  mul.wide.u32 %rd2, %r0, 4;
  add.u64 %rd3, %rd0, %rd2;
  ld.global.b32 %r4, [%rd3];
  shl.b32 %r5, %r0, 2;
  add.u32 %r5, %r2, %r5;
  st.shared.b32 [%r5], %r4;
  fence.proxy.async.shared::cta;
  bar.sync 0;
  @%p0 cp.reduce.async.bulk.global.shared::cta.bulk_group.)") +
                   f.op + R"( [%rd1], [%r2], 512;
  @%p0 cp.async.bulk.commit_group;
  @%p0 cp.async.bulk.wait_group 0;)"));
    std::vector<uint8_t> in(512), before(512), want(512);
    for (unsigned i = 0; i < 512 / f.bytes; ++i) {
      uint64_t a = f.value(i * 3 + 1), b = f.value(i);
      std::memcpy(&before[i * f.bytes], &a, f.bytes);
      std::memcpy(&in[i * f.bytes], &b, f.bytes);
      uint64_t r = f.apply(a, b);
      std::memcpy(&want[i * f.bytes], &r, f.bytes);
    }
    uint64_t out = gpu.upload(before);
    gpu.run("k", {}, {gpu.upload(in), out});
    EXPECT_EQ(gpu.download<uint8_t>(out, 512), want) << f.op;
    EXPECT_EQ(gpu.faults(), "") << f.op;
  }
}

//===----------------------------------------------------------------------===//
// ldmatrix, stmatrix, movmatrix
//===----------------------------------------------------------------------===//

/// Register j of a lane of an 8 x 8 matrix j whose element (r, c) is 64 j + 8 r + c.
uint32_t matrixWord(unsigned lane, unsigned j, bool trans) {
  uint32_t word = 0;
  for (unsigned h = 0; h < 2; ++h) {
    unsigned row = trans ? lane % 4 * 2 + h : lane / 4,
             column = trans ? lane / 4 : lane % 4 * 2 + h;
    word |= (64 * j + 8 * row + column) << 16 * h;
  }
  return word;
}

TEST(Matrices, LoadAndStore) {
  for (unsigned n : {1, 2, 4})
    for (bool trans : {false, true}) {
      std::string registers = "{%r20", form = ".x" + std::to_string(n) + (trans ? ".trans" : "");
      std::string loads, stores;
      for (unsigned j = 0; j < n; ++j) {
        registers += j ? ", %r2" + std::to_string(j) : "";
        stores += "  st.global.b32 [%rd4+" + std::to_string(128 * j) + "], %r2" +
                  std::to_string(j) + ";\n";
        loads += "  ld.global.b32 %r2" + std::to_string(j) + ", [%rd3+" + std::to_string(128 * j) +
                 "];\n";
      }
      registers += "}";
      std::string common = R"(
  mul.wide.u32 %rd2, %r0, 4;
  add.u64 %rd3, %rd0, %rd2;
  add.u64 %rd4, %rd1, %rd2;
  shl.b32 %r4, %r0, 4;
  add.u32 %r4, %r2, %r4;
  mul.wide.u32 %rd5, %r0, 16;
)";
      // Load: rows of 16 bytes, dense.
      Gpu load(kernel(common + R"(
  add.u64 %rd6, %rd0, %rd5;
  ld.global.v4.b32 {%r10, %r11, %r12, %r13}, [%rd6];
  st.shared.v4.b32 [%r4], {%r10, %r11, %r12, %r13};
  bar.warp.sync 0xffffffff;
  ldmatrix.sync.aligned.m8n8)" +
                      form + ".shared.b16 " + registers + ", [%r4];\n" + stores));
      std::vector<uint16_t> image(256);
      for (size_t i = 0; i < 256; ++i)
        image[i] = uint16_t(i);
      std::vector<uint32_t> words(n * 32);
      for (unsigned j = 0; j < n; ++j)
        for (unsigned l = 0; l < 32; ++l)
          words[j * 32 + l] = matrixWord(l, j, trans);
      uint64_t out = load.zeros<uint32_t>(128);
      load.run("k", {{1, 1, 1}, {32, 1, 1}}, {load.upload(image), out});
      EXPECT_EQ(load.download<uint32_t>(out, n * 32), words) << form;
      EXPECT_EQ(load.faults(), "");
      // Store: the way back.
      Gpu store(kernel(common + loads + "  stmatrix.sync.aligned.m8n8" + form +
                       ".shared.b16 [%r4], " + registers + R"(;
  bar.warp.sync 0xffffffff;
  setp.ge.u32 %p2, %r0, )" +
                       std::to_string(8 * n) + R"(;
  @%p2 bra D;
  ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r4];
  add.u64 %rd6, %rd1, %rd5;
  st.global.v4.b32 [%rd6], {%r10, %r11, %r12, %r13};
D:)"));
      out = store.zeros<uint16_t>(256);
      store.run("k", {{1, 1, 1}, {32, 1, 1}}, {store.upload(words), out});
      image.resize(64 * n);
      EXPECT_EQ(store.download<uint16_t>(out, 64 * n), image) << form;
      EXPECT_EQ(store.faults(), "");
    }
}

TEST(Matrices, Transpose) {
  Gpu gpu(kernel(R"(
  mul.wide.u32 %rd2, %r0, 4;
  add.u64 %rd3, %rd0, %rd2;
  add.u64 %rd4, %rd1, %rd2;
  ld.global.b32 %r4, [%rd3];
  movmatrix.sync.aligned.m8n8.trans.b16 %r5, %r4;
  st.global.b32 [%rd4], %r5;)"));
  std::vector<uint32_t> in(32), want(32);
  for (unsigned l = 0; l < 32; ++l)
    in[l] = matrixWord(l, 0, false), want[l] = matrixWord(l, 0, true);
  uint64_t out = gpu.zeros<uint32_t>(32);
  gpu.run("k", {{1, 1, 1}, {32, 1, 1}}, {gpu.upload(in), out});
  EXPECT_EQ(gpu.download<uint32_t>(out, 32), want);
  EXPECT_EQ(gpu.faults(), "");
}

// Rows of 128 bytes, one below the other, lie in the same banks: eight passes for each matrix. Swizzled
// they take one.
TEST(Matrices, BankConflictsAreCounted) {
  for (bool swizzled : {false, true}) {
    Gpu gpu(kernel(
        std::string(R"(
  mov.u32 %r4, %r0;
L: shl.b32 %r5, %r4, 4;
  add.u32 %r5, %r2, %r5;
  st.shared.v4.b32 [%r5], {%r0, %r0, %r0, %r0};
  add.u32 %r4, %r4, 32;
  setp.lt.u32 %p2, %r4, 256;
  @%p2 bra L;
  bar.warp.sync 0xffffffff;
  shl.b32 %r5, %r0, 7;
)") +
        (swizzled ? "  and.b32 %r6, %r0, 7;\n  shl.b32 %r6, %r6, 4;\n  xor.b32 %r5, %r5, %r6;\n"
                  : "") +
        R"(
  add.u32 %r5, %r2, %r5;
  ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r5];
  st.global.b32 [%rd1], %r20;)"));
    LaunchResult r =
        gpu.run("k", {{1, 1, 1}, {32, 1, 1}}, {gpu.zeros<uint32_t>(4), gpu.zeros<uint32_t>(4)});
    bool found = false;
    for (auto &[line, c] : r.counters.lines)
      if (c.opcode.rfind("ldmatrix", 0) == 0) {
        found = true;
        EXPECT_EQ(c.sharedRequests, 1u);
        EXPECT_EQ(c.idealWavefronts, 4u);
        EXPECT_EQ(c.wavefronts, swizzled ? 4u : 32u);
      }
    EXPECT_TRUE(found);
  }
}

TEST(Counters, TensorOperations) {
  std::string text = ptxFile("witnesses/nvcc/k90.sm90a.ptx");
  Gpu gpu(text);
  std::vector<uint16_t> tile(64 * 64, 0x3f80);
  LaunchResult r = gpu.run("wgmma_ss_kmajor", {},
                           {gpu.upload(tile), gpu.upload(tile), gpu.zeros<float>(64 * 64)});
  EXPECT_EQ(r.counters.total().tensorOps, 64u * 64 * 64);
}

//===----------------------------------------------------------------------===//
// wmma
//===----------------------------------------------------------------------===//

struct Wmma {
  const char *shape, *d, *ab; ///< suffixes of PTX
  int m, n, k;
  TensorType type, acc;
  int ra, rb, rc; ///< registers
};

const Wmma wmmas[] = {
    {"m16n16k16", "f32", "f16", 16, 16, 16, TensorType::F16, TensorType::F32, 8, 8, 8},
    {"m32n8k16", "f32", "f16", 32, 8, 16, TensorType::F16, TensorType::F32, 8, 8, 8},
    {"m8n32k16", "f16", "f16", 8, 32, 16, TensorType::F16, TensorType::F16, 8, 8, 4},
    {"m16n16k16", "f32", "bf16", 16, 16, 16, TensorType::BF16, TensorType::F32, 4, 4, 8},
    {"m32n8k16", "f32", "bf16", 32, 8, 16, TensorType::BF16, TensorType::F32, 8, 2, 8},
    {"m8n32k16", "f32", "bf16", 8, 32, 16, TensorType::BF16, TensorType::F32, 2, 8, 8},
    {"m16n16k8", "f32", "tf32", 16, 16, 8, TensorType::TF32, TensorType::F32, 4, 4, 8},
    {"m16n16k16", "s32", "s8", 16, 16, 16, TensorType::S8, TensorType::S32, 2, 2, 8},
    {"m32n8k16", "s32", "u8", 32, 8, 16, TensorType::U8, TensorType::S32, 4, 1, 8},
    {"m8n32k16", "s32", "s8", 8, 32, 16, TensorType::S8, TensorType::S32, 1, 4, 8},
    {"m8n8k32", "s32", "s4", 8, 8, 32, TensorType::S4, TensorType::S32, 1, 1, 2},
    {"m8n8k4", "f64", "f64", 8, 8, 4, TensorType::F64, TensorType::F64, 1, 1, 2},
};

TEST(WmmaInstructions, EqualPlainProducts) {
  for (const Wmma &w : wmmas)
    for (int layout = 0; layout < 8; ++layout) {
      bool rowA = layout & 1, rowB = layout & 2, rowC = layout & 4, small = bitsOf(w.type) < 8;
      if (small && (!rowA || rowB))
        continue;
      bool wide = w.type == TensorType::F64;
      auto list = [&](const char *name, int count) {
        std::string s = "{";
        for (int i = 0; i < count; ++i)
          s += (i ? ", %" : "%") + std::string(name) + std::to_string(i);
        return s + "}";
      };
      std::string la = rowA ? "row" : "col", lb = rowB ? "row" : "col", lc = rowC ? "row" : "col";
      std::string loadType = w.ab, accType = std::string(w.d);
      std::string accRegister = w.acc == TensorType::F32 ? "f32" : wide ? "f64" : "b32";
      std::string mmaTypes = w.type == TensorType::F16
                                 ? std::string(w.d) + "." + w.d
                                 : std::string(w.d) + "." + w.ab + "." + w.ab + "." + w.d;
      std::string text =
          std::string(
              ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 a, "
              ".param .u64 b, .param .u64 c, .param .u64 d, .param .u32 sa, .param .u32 sb, .param "
              ".u32 sc) {\n"
              "  .reg .b64 %q<4>; .reg .b32 %s<3>; .reg .") +
          (wide ? "f64" : "b32") + " %a<8>, %b<8>; .reg ." + accRegister + " %c<8>, %d<8>;\n" +
          "  ld.param.u64 %q0, [a]; ld.param.u64 %q1, [b]; ld.param.u64 %q2, [c]; ld.param.u64 "
          "%q3, [d];\n"
          "  ld.param.u32 %s0, [sa]; ld.param.u32 %s1, [sb]; ld.param.u32 %s2, [sc];\n"
          "  wmma.load.a.sync.aligned." +
          la + "." + w.shape + ".global." + loadType + " " + list("a", w.ra) +
          ", [%q0], %s0;\n"
          "  wmma.load.b.sync.aligned." +
          lb + "." + w.shape + ".global." + loadType + " " + list("b", w.rb) +
          ", [%q1], %s1;\n"
          "  wmma.load.c.sync.aligned." +
          lc + "." + w.shape + ".global." + accType + " " + list("c", w.rc) +
          ", [%q2], %s2;\n"
          "  wmma.mma.sync.aligned." +
          la + "." + lb + "." + w.shape + "." + mmaTypes + " " + list("d", w.rc) + ", " +
          list("a", w.ra) + ", " + list("b", w.rb) + ", " + list("c", w.rc) +
          ";\n"
          "  wmma.store.d.sync.aligned." +
          lc + "." + w.shape + ".global." + accType + " [%q3], " + list("d", w.rc) +
          ", %s2;\n  ret;\n}\n";
      Gpu gpu(text, 1, Completion::Late, 80);
      std::mt19937 random(3);
      int bits = bitsOf(w.type), accBits = bitsOf(w.acc);
      auto number = [&](TensorType t, int v) -> uint64_t {
        if (t == TensorType::F64)
          return std::bit_cast<uint64_t>(double(v));
        if (t == TensorType::F32 || t == TensorType::TF32)
          return std::bit_cast<uint32_t>(float(v));
        if (t == TensorType::F16 || t == TensorType::BF16)
          return roundedTo(t, v);
        return uint64_t(v) & (bitsOf(t) == 32 ? ~0u : (1u << bitsOf(t)) - 1);
      };
      // A matrix in memory with its leading dimension and 16 or so elements of padding.
      auto lay = [&](const std::vector<int> &v, int rows, int columns, bool row, int b,
                     TensorType t, int ld) {
        std::vector<uint8_t> image(size_t(row ? rows : columns) * ld * b / 8 + 64);
        for (int i = 0; i < rows; ++i)
          for (int j = 0; j < columns; ++j) {
            size_t at = size_t(row ? i * ld + j : j * ld + i) * b;
            uint64_t x = number(t, v[i * columns + j]);
            if (b < 8)
              image[at / 8] |= uint8_t(x << at % 8);
            else
              std::memcpy(&image[at / 8], &x, b / 8);
          }
        return image;
      };
      std::vector<int> a(w.m * w.k), b(w.k * w.n), c(w.m * w.n), d(w.m * w.n);
      bool isUnsigned = w.type == TensorType::U8;
      for (auto *v : {&a, &b})
        for (int &x : *v)
          x = int(random() % 5) - (isUnsigned ? 0 : 2);
      for (int i = 0; i < w.m; ++i)
        for (int j = 0; j < w.n; ++j) {
          d[i * w.n + j] = c[i * w.n + j] = int(random() % 5);
          for (int l = 0; l < w.k; ++l)
            d[i * w.n + j] += a[i * w.k + l] * b[l * w.n + j];
        }
      uint32_t lda = (rowA ? w.k : w.m) + 32, ldb = (rowB ? w.n : w.k) + 32,
               ldc = (rowC ? w.n : w.m) + 32;
      auto want = lay(d, w.m, w.n, rowC, accBits, w.acc, int(ldc));
      uint64_t out = gpu.zeros<uint8_t>(want.size());
      gpu.run("k", {{1, 1, 1}, {32, 1, 1}},
              {gpu.upload(lay(a, w.m, w.k, rowA, bits, w.type, int(lda))),
               gpu.upload(lay(b, w.k, w.n, rowB, bits, w.type, int(ldb))),
               gpu.upload(lay(c, w.m, w.n, rowC, accBits, w.acc, int(ldc))), out, lda, ldb, ldc});
      EXPECT_EQ(gpu.download<uint8_t>(out, want.size()), want)
          << w.shape << " " << w.ab << " " << layout;
      EXPECT_EQ(gpu.faults(), "") << w.shape << " " << w.ab;
    }
}

//===----------------------------------------------------------------------===//
// What is refused, by name
//===----------------------------------------------------------------------===//

TEST(Refused, ByName) {
  struct {
    const char *body, *says;
  } cases[] = {
      {"multimem.st.global.b32 [%rd0], %r0;", "multimem"},
      {"ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r4, %r5}, [%r2];", "b8"},
      {"cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r2], "
       "[%rd0, {%r4, %r5, %r6}], [%r3], {%h0};",
       "im2col"},
      {"setmaxnreg.inc.sync.aligned.u32 100;", "multiple of 8"},
      {"cp.async.cg.shared.global [%r2], [%rd0], 8;", "16"},
      {"tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [%rd0, {%f0, %f1}];", "unknown opcode 'tex'"},
      {"suld.b.1d.b32.trap %r4, [%rd0, {%r1}];", "unknown opcode 'suld'"},
      {"sust.b.1d.b32.trap [%rd0, {%r1}], %r2;", "unknown opcode 'sust'"},
      {"txq.width.b32 %r0, [%rd0];", "unknown opcode 'txq'"},
      {"tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r2], 32;",
       "unknown opcode 'tcgen05'"},
      {"clusterlaunchcontrol.query_cancel.is_canceled.pred.b128 %p0, %rd0;",
       "unknown opcode 'clusterlaunchcontrol'"},
      {"add.sideways.u32 %r0, %r1, %r2;", "unknown modifier '.sideways' of 'add'"},
      {"wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %rd0, %rd1, "
       "%r0, 0, %p0, 1, 1, 0, 0;",
       "sparse wgmma"},
      {"mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r0, %r1}, "
       "{%r0, %r1}, {%f0, %f1, %f2, %f3}, %r4, 0x0;",
       "sparse mma"},
      {"mma.sync.aligned.m8n8k4.row.col.f16.f16.f16.f16 {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%r0, "
       "%r1}, {%r0, %r1, %r2, %r3};",
       "m8n8k4"},
      {"wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc {%r0, %r1, %r2, %r3}, %rd0, "
       "%rd1, %p0;",
       ".b1"},
      {"wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3, %f4, %f5}, %rd0, "
       "%rd1, %p0, 1, 1, 0, 0;",
       "m64n12k16"},
  };
  for (auto &c : cases) {
    std::string message;
    try {
      Gpu gpu(kernel(std::string("  ") + c.body));
      gpu.module->kernel("k");
    } catch (const Error &e) {
      message = e.what();
    }
    EXPECT_NE(message.find(c.says), std::string::npos) << c.body << "\n" << message;
    EXPECT_NE(message.find("line"), std::string::npos) << message;
  }
}

} // namespace
