//===- AsyncChecksTest.cpp - Each check of asynchronous work, and its near twin ----===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A case is the body of a kernel. Lines that begin with GOOD: are only in the right version, lines
// that begin with BAD: only in the faulty one. The faulty one must be reported as `check` with a
// message that holds `says`; the right one must not be reported, with any seed and order of completion.
//===----------------------------------------------------------------------===//
#include "Machine/Async/AsyncHarness.h"

#include <sstream>

using namespace sgpu;
using namespace sgpu::async_test;

namespace {

struct Case {
  const char *name;
  Check check;
  const char *says;
  const char *body;
  uint32_t cluster = 1;
  bool onlyLate = false; ///< the fault needs work that completes late
};

/// Threads of a block of 128: %r0 tid, %rd3 in + 4 tid, %rd4 out + 4 tid, %r2 sm, %r3 sm + 4 tid, %r4 bar,
/// %p0 tid = 0. `in` and `out` have 4096 words.
std::string kernel(const Case &c, bool bad) {
  std::istringstream lines(c.body);
  std::string s = R"(.version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out, .param .align 64 .b8 map[128]) {
  .shared .align 1024 .b8 sm[16384];
  .shared .align 8 .b64 bar;
  .reg .pred %p<8>; .reg .b32 %r<40>; .reg .b64 %rd<24>; .reg .f32 %f<40>; .reg .b16 %h<4>;
  mov.u32 %r0, %tid.x;
  ld.param.u64 %rd0, [in];
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r0, 4;
  add.u64 %rd3, %rd0, %rd2;
  add.u64 %rd4, %rd1, %rd2;
  shl.b32 %r1, %r0, 2;
  mov.u32 %r2, sm;
  add.u32 %r3, %r2, %r1;
  mov.u32 %r4, bar;
  setp.eq.u32 %p0, %r0, 0;
  mov.b64 %rd8, map;
  cvta.param.u64 %rd8, %rd8;
)";
  std::string line;
  while (std::getline(lines, line)) {
    size_t at = line.find_first_not_of(' ');
    if (at == std::string::npos)
      continue;
    if (line.compare(at, 5, "GOOD:") == 0) {
      if (!bad)
        s += "  " + line.substr(at + 5) + "\n";
    } else if (line.compare(at, 4, "BAD:") == 0) {
      if (bad)
        s += "  " + line.substr(at + 4) + "\n";
    } else {
      s += line + "\n";
    }
  }
  return s + "  ret;\n}\n";
}

#define INIT                                                                                       \
  "@%p0 mbarrier.init.shared::cta.b64 [%r4], 1;\n"                                                 \
  "bar.sync 0;\n"
#define WAIT(phase)                                                                                \
  "W" #phase ": mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], " #phase ";\n"                \
  "@!%p1 bra W" #phase ";\n"
#define LOAD                                                                                       \
  "@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;\n"                                \
  "@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 512, "    \
  "[%r4];\n"
// Accumulators %f0 to %f3 of m64n8k16; A and B are what `in` holds, K-major without swizzle.
#define TILE                                                                                       \
  "ld.global.v4.b32 {%r10, %r11, %r12, %r13}, [%rd0];\n"                                           \
  "shl.b32 %r14, %r0, 4;\n"                                                                        \
  "add.u32 %r14, %r2, %r14;\n"                                                                     \
  "st.shared.v4.b32 [%r14], {%r10, %r11, %r12, %r13};\n"                                           \
  "st.shared.v4.b32 [%r14+2048], {%r10, %r11, %r12, %r13};\n"
#define DESCRIPTORS                                                                                \
  "shr.u32 %r15, %r2, 4;\n"                                                                        \
  "cvt.u64.u32 %rd10, %r15;\n"                                                                     \
  "or.b64 %rd10, %rd10, 34363932672;\n" /* LBO 1024 >> 4 << 16 | SBO 128 >> 4 << 32 */             \
  "add.u64 %rd11, %rd10, 128;\n"                                                                   \
  "setp.eq.u32 %p7, %r0, %r0;\n"                                                                   \
  "mov.f32 %f0, 0f00000000;\n"                                                                     \
  "mov.f32 %f1, 0f00000000;\n"                                                                     \
  "mov.f32 %f2, 0f00000000;\n"                                                                     \
  "mov.f32 %f3, 0f00000000;\n"
#define PRODUCT                                                                                    \
  "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, %rd10, %rd11, %p7, 1, "  \
  "1, 0, 0;\n"

const Case cases[] = {
    //===------------------------------------------------------------------===//
    // cp.async
    //===------------------------------------------------------------------===//
    {"CopyReadBeforeWait", Check::InFlight, "has yet to write", R"(
      cp.async.ca.shared.global [%r3], [%rd3], 4;
      cp.async.commit_group;
      GOOD: cp.async.wait_group 0;
      ld.shared.f32 %f0, [%r3];
      st.global.f32 [%rd4], %f0;)",
     1, true},
    {"CopyWaitsForTooFewGroups", Check::InFlight, "has yet to write", R"(
      cp.async.ca.shared.global [%r3], [%rd3], 4;
      cp.async.commit_group;
      cp.async.ca.shared.global [%r3+512], [%rd3+512], 4;
      cp.async.commit_group;
      GOOD: cp.async.wait_group 0;
      BAD: cp.async.wait_group 1;
      ld.shared.f32 %f0, [%r3+512];
      st.global.f32 [%rd4], %f0;)",
     1, true},
    {"CopyNotCommitted", Check::InFlight, "has yet to write", R"(
      cp.async.ca.shared.global [%r3], [%rd3], 4;
      GOOD: cp.async.commit_group;
      cp.async.wait_group 0;
      ld.shared.f32 %f0, [%r3];
      st.global.f32 [%rd4], %f0;)",
     1, true},
    {"CopySeenByOthersWithoutBarrier", Check::Race, "races", R"(
      cp.async.ca.shared.global [%r3], [%rd3], 4;
      cp.async.wait_all;
      GOOD: bar.sync 0;
      xor.b32 %r5, %r1, 508;
      add.u32 %r5, %r2, %r5;
      ld.shared.f32 %f0, [%r5];
      st.global.f32 [%rd4], %f0;)",
     1, true},
    {"CopyDestinationOverwritten", Check::InFlight, "has yet to write", R"(
      cp.async.ca.shared.global [%r3], [%rd3], 4;
      GOOD: cp.async.wait_all;
      st.shared.b32 [%r3], %r0;
      cp.async.wait_all;)",
     1, true},
    {"CopyDestinationTwice", Check::InFlight, "overwrites", R"(
      cp.async.ca.shared.global [%r3], [%rd3], 4;
      GOOD: cp.async.wait_all;
      cp.async.ca.shared.global [%r3], [%rd3+512], 4;
      cp.async.wait_all;)",
     1, true},
    {"CopySourceOverwritten", Check::Race, "races", R"(
      cp.async.ca.shared.global [%r3], [%rd3], 4;
      GOOD: cp.async.wait_all;
      st.global.b32 [%rd3], %r0;
      cp.async.wait_all;)"},
    {"CopyMoreThanItsSize", Check::Argument, "src-size", R"(
      GOOD: mov.u32 %r5, 2;
      BAD: mov.u32 %r5, 8;
      cp.async.ca.shared.global [%r3], [%rd3], 4, %r5;
      cp.async.wait_all;)"},
    {"CopyMisaligned", Check::Misaligned, "multiple of 8", R"(
      shl.b32 %r6, %r0, 3;
      add.u32 %r6, %r2, %r6;
      mul.wide.u32 %rd6, %r0, 8;
      add.u64 %rd6, %rd0, %rd6;
      BAD: add.u64 %rd6, %rd6, 4;
      cp.async.ca.shared.global [%r6], [%rd6], 8;
      cp.async.wait_all;)"},
    {"CopyArrivesBeforeItsWait", Check::InFlight, "has yet to write", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 128;
      bar.sync 0;
      cp.async.ca.shared.global [%r3], [%rd3], 4;
      cp.async.mbarrier.arrive.noinc.shared.b64 [%r4];
      GOOD: W: mbarrier.test_wait.parity.shared.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W;
      xor.b32 %r5, %r1, 508;
      add.u32 %r5, %r2, %r5;
      ld.shared.f32 %f0, [%r5];
      st.global.f32 [%rd4], %f0;)",
     1, true},
    // The second copy of a thread is over: that tells nothing of the first, though it is over, too.
    {"BulkCopyBeforeAnother", Check::Race, "races", R"(
      add.u32 %r6, %r2, 8192;
      add.u32 %r7, %r2, 8200;
      @%p0 mbarrier.init.shared.b64 [%r4], 1;
      @%p0 mbarrier.init.shared.b64 [%r6], 1;
      @%p0 mbarrier.init.shared.b64 [%r7], 1;
      bar.sync 0;
      @!%p0 bra O;
      mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r6], 512;
      cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 512, [%r4];
      cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+512], [%rd0+512], 512, [%r6];
      A: mbarrier.test_wait.parity.shared.b64 %p1, [%r4], 0;
      @!%p1 bra A;
      mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%r7];
      O:
      GOOD: F: mbarrier.test_wait.parity.shared.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra F;
      S: mbarrier.test_wait.parity.shared.b64 %p1, [%r6], 0;
      @!%p1 bra S;
      T: mbarrier.test_wait.parity.shared.b64 %p1, [%r7], 0;
      @!%p1 bra T;
      ld.shared.f32 %f0, [%r3];
      st.global.f32 [%rd4], %f0;)"},
    //===------------------------------------------------------------------===//
    // mbarrier
    //===------------------------------------------------------------------===//
    {"BarrierArrivedTooOften", Check::MBarrier, "misses only", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 130;
      bar.sync 0;
      GOOD: @%p0 mbarrier.arrive.shared::cta.b64 _, [%r4], 2;
      BAD: @%p0 mbarrier.arrive.shared::cta.b64 _, [%r4], 131;
      bar.sync 0;
      GOOD: mbarrier.arrive.shared::cta.b64 _, [%r4];)"},
    {"BarrierNeverInitialised", Check::MBarrier, "never initialised", R"(
      GOOD: @%p0 mbarrier.init.shared.b64 [%r4], 128;
      bar.sync 0;
      mbarrier.arrive.shared::cta.b64 _, [%r4];)"},
    {"BarrierInvalidated", Check::MBarrier, "invalidated", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 128;
      bar.sync 0;
      BAD: @%p0 mbarrier.inval.shared.b64 [%r4];
      BAD: bar.sync 0;
      mbarrier.arrive.shared::cta.b64 _, [%r4];)"},
    {"BarrierInitialisedTwice", Check::MBarrier, "invalidated first", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 128;
      GOOD: @%p0 mbarrier.inval.shared.b64 [%r4];
      @%p0 mbarrier.init.shared.b64 [%r4], 64;)"},
    {"BarrierOverwritten", Check::MBarrier, "overwritten", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 128;
      BAD: @%p0 st.shared.b32 [%r4], %r0;
      bar.sync 0;
      mbarrier.arrive.shared::cta.b64 _, [%r4];)"},
    {"BarrierInitNotSeen", Check::Race, "mbarrier.init", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 1;
      GOOD: bar.sync 0;
      BAD: setp.eq.u32 %p3, %r0, 1;
      BAD: @%p0 bra D;
      BAD: L: mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r4], 1;
      BAD: D:
      setp.eq.u32 %p2, %r0, 64;
      @%p2 mbarrier.arrive.shared::cta.b64 _, [%r4];)"},
    // In a cluster: a barrier that orders no memory shows the mbarrier to others only after this fence ...
    {"ClusterInitWithoutFence", Check::Race, "mbarrier.init", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 2;
      GOOD: fence.mbarrier_init.release.cluster;
      barrier.cluster.arrive.relaxed.aligned;
      barrier.cluster.wait.acquire.aligned;
      mapa.shared::cluster.u32 %r7, %r4, 1;
      @%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r7];
      barrier.cluster.arrive.aligned;
      barrier.cluster.wait.aligned;)",
     2},
    // ... which is nothing without a barrier.
    {"ClusterInitWithoutBarrier", Check::Race, "mbarrier.init", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 2;
      fence.mbarrier_init.release.cluster;
      GOOD: barrier.cluster.arrive.relaxed.aligned;
      GOOD: barrier.cluster.wait.acquire.aligned;
      BAD: bar.sync 0;
      mov.u32 %r8, %cluster_ctarank;
      setp.eq.u32 %p2, %r8, 1;
      @%p2 bra L;
      mapa.shared::cluster.u32 %r7, %r4, 1;
      BAD: mov.u32 %r9, 0;
      BAD: S: add.u32 %r9, %r9, 1;
      BAD: setp.lt.u32 %p3, %r9, 2000;
      BAD: @%p3 bra S;
      @%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r7];
      L: barrier.cluster.arrive.aligned;
      barrier.cluster.wait.aligned;)",
     2},
    // A store is not what fence.mbarrier_init publishes; fence.acq_rel publishes both.
    {"ClusterStoreWithoutFence", Check::Race, "races", R"(
      st.shared.b32 [%r3], %r0;
      GOOD: fence.acq_rel.cluster;
      BAD: fence.mbarrier_init.release.cluster;
      barrier.cluster.arrive.relaxed.aligned;
      barrier.cluster.wait.acquire.aligned;
      mov.u32 %r8, %cluster_ctarank;
      xor.b32 %r8, %r8, 1;
      mapa.shared::cluster.u32 %r7, %r3, %r8;
      ld.shared::cluster.b32 %r9, [%r7];
      mul.wide.u32 %rd5, %r8, 512;
      add.u64 %rd4, %rd4, %rd5;
      st.global.b32 [%rd4], %r9;
      barrier.cluster.arrive.aligned;
      barrier.cluster.wait.aligned;)",
     2},
    {"BarrierNoComplete", Check::MBarrier, "noComplete", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 2;
      GOOD: @%p0 mbarrier.arrive.noComplete.shared.b64 %rd5, [%r4], 1;
      BAD: @%p0 mbarrier.arrive.noComplete.shared.b64 %rd5, [%r4], 2;)"},
    {"BarrierOldState", Check::MBarrier, "only the present", R"(
      @%p0 mbarrier.init.shared.b64 [%r4], 1;
      @%p0 mbarrier.arrive.shared.b64 %rd5, [%r4];
      BAD: @%p0 mbarrier.arrive.shared.b64 %rd6, [%r4];
      @%p0 mbarrier.test_wait.shared.b64 %p1, [%r4], %rd5;)"},
    {"BarrierBytesThatNeverCome", Check::Deadlock, "", "" INIT R"(
      GOOD: @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      BAD: @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 1024;
      @%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 512, [%r4];
      )" WAIT(0)},
    {"BarrierTooFewBytesExpected", Check::MBarrier, "cannot come out", "" INIT R"(
      GOOD: @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      BAD: @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 256;
      @%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 512, [%r4];
      )" WAIT(0)},
    {"BarrierWaitForArrivalsThatNeverCome", Check::Deadlock, "", R"(
      @%p0 mbarrier.init.shared::cta.b64 [%r4], 128;
      bar.sync 0;
      GOOD: mbarrier.arrive.shared::cta.b64 _, [%r4];
      BAD: @!%p0 mbarrier.arrive.shared::cta.b64 _, [%r4];
      )" WAIT(0)},
    {"BarrierMisaligned", Check::Misaligned, "multiple of 8", R"(
      BAD: add.u32 %r4, %r4, 4;
      @%p0 mbarrier.init.shared::cta.b64 [%r4], 1;)"},
    //===------------------------------------------------------------------===//
    // Bulk copies
    //===------------------------------------------------------------------===//
    {"BulkReadBeforeWait", Check::InFlight, "has yet to write", "" INIT LOAD R"(
      BAD: bar.sync 0;
      GOOD: V: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra V;
      ld.shared.f32 %f0, [%r3];
      st.global.f32 [%rd4], %f0;
      )" WAIT(0),
     1, true},
    {"BulkStoreWithoutProxyFence", Check::Proxy, "fence.proxy.async", R"(
      st.shared.b32 [%r3], %r0;
      GOOD: fence.proxy.async.shared::cta;
      bar.sync 0;
      @%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 512;
      @%p0 cp.async.bulk.commit_group;
      @%p0 cp.async.bulk.wait_group 0;)"},
    {"BulkLoadOverStoreWithoutProxyFence", Check::Proxy, "write by the async proxy", "" INIT R"(
      st.shared.b32 [%r3], %r0;
      GOOD: fence.proxy.async.shared::cta;
      bar.sync 0;
      )" LOAD WAIT(0) R"(
      ld.shared.b32 %r5, [%r3];
      st.global.b32 [%rd4], %r5;)"},
    {"BulkStoreOverGlobalStoreWithoutProxyFence", Check::Proxy, "write by the async proxy", R"(
      st.shared.b32 [%r3], %r0;
      fence.proxy.async.shared::cta;
      st.global.b32 [%rd4], %r0;
      GOOD: fence.proxy.async.global;
      bar.sync 0;
      @%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 512;
      @%p0 cp.async.bulk.commit_group;
      @%p0 cp.async.bulk.wait_group 0;)"},
    {"BulkStoreWithoutBarrier", Check::Race, "races", R"(
      st.shared.b32 [%r3], %r0;
      fence.proxy.async.shared::cta;
      GOOD: bar.sync 0;
      @%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 512;
      @%p0 cp.async.bulk.commit_group;
      @%p0 cp.async.bulk.wait_group 0;)",
     1, true},
    {"BulkSourceOverwritten", Check::Race, "races", R"(
      st.shared.b32 [%r3], %r0;
      fence.proxy.async.shared::cta;
      bar.sync 0;
      @%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 512;
      @%p0 cp.async.bulk.commit_group;
      GOOD: @%p0 cp.async.bulk.wait_group.read 0;
      @%p0 st.shared.b32 [%r3], 7;
      @%p0 cp.async.bulk.wait_group 0;)"},
    {"BulkResultReadBeforeItIsThere", Check::InFlight, "yet to write", R"(
      st.shared.b32 [%r3], %r0;
      fence.proxy.async.shared::cta;
      bar.sync 0;
      @%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 512;
      @%p0 cp.async.bulk.commit_group;
      GOOD: @%p0 cp.async.bulk.wait_group 0;
      BAD: @%p0 cp.async.bulk.wait_group.read 0;
      @%p0 ld.global.f32 %f0, [%rd1];
      @%p0 st.global.f32 [%rd0], %f0;)",
     1, true},
    {"BulkStoreNotReadWhenBlockEnds", Check::InFlight, "when its block ends", R"(
      st.shared.b32 [%r3], %r0;
      fence.proxy.async.shared::cta;
      bar.sync 0;
      @%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 512;
      @%p0 cp.async.bulk.commit_group;
      GOOD: @%p0 cp.async.bulk.wait_group.read 0;)",
     1, true},
    {"BulkLoadOverBytesInFlight", Check::InFlight, "overwrites", "" INIT LOAD R"(
      GOOD: W0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W0;
      bar.sync 0;
      @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      @%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0+512], 512, [%r4];
      GOOD: W1: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 1;
      GOOD: @!%p1 bra W1;
      BAD: @%p0 bra D;
      BAD: D:)",
     1, true},
    {"BulkSizeNotOfSixteen", Check::Argument, "multiple of 16", "" INIT R"(
      GOOD: mov.u32 %r5, 512;
      BAD: mov.u32 %r5, 504;
      @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      @%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], %r5, [%r4];
      GOOD: W0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W0;)"},
    {"BulkMisaligned", Check::Misaligned, "multiple of 16", "" INIT R"(
      BAD: add.u32 %r2, %r2, 8;
      @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      @%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 512, [%r4];
      GOOD: W0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W0;)"},
    {"BulkPastTheEnd", Check::OutOfBounds, "", "" INIT R"(
      BAD: add.u64 %rd0, %rd0, 16128;
      @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      @%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], 512, [%r4];
      GOOD: W0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W0;)"},
    {"BulkStoreOfBytesNeverWritten", Check::Uninitialized, "never written", R"(
      setp.lt.u32 %p2, %r0, 100;
      GOOD: setp.lt.u32 %p2, %r0, 128;
      @%p2 st.shared.b32 [%r3], %r0;
      fence.proxy.async.shared::cta;
      bar.sync 0;
      @%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 512;
      @%p0 cp.async.bulk.commit_group;
      @%p0 cp.async.bulk.wait_group 0;)"},
    {"TensorMapOverwritten", Check::Argument, "tensor map", "" INIT R"(
      BAD: mov.u64 %rd8, %rd0;
      @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd8, {0, 0}], [%r4];
      GOOD: W0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W0;)"},
    {"TensorMapOfOtherRank", Check::Argument, "rank 2", "" INIT R"(
      @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      GOOD: @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd8, {0, 0}], [%r4];
      BAD: @%p0 cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd8, {0, 0, 0}], [%r4];
      GOOD: W0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W0;)"},
    {"TensorMisaligned", Check::Misaligned, "multiple of 128", "" INIT R"(
      BAD: add.u32 %r2, %r2, 64;
      @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd8, {0, 0}], [%r4];
      GOOD: W0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W0;)"},
    {"MulticastToBlocksThatAreNot", Check::Argument, "multicast mask", "" INIT R"(
      fence.mbarrier_init.release.cluster;
      barrier.cluster.arrive.aligned;
      barrier.cluster.wait.aligned;
      GOOD: mov.u16 %h0, 3;
      BAD: mov.u16 %h0, 5;
      mov.u32 %r5, %cluster_ctarank;
      setp.eq.and.u32 %p3, %r5, 0, %p0;
      @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 512;
      @%p3 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r2], [%rd0], 512, [%r4], %h0;
      GOOD: W0: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r4], 0;
      GOOD: @!%p1 bra W0;
      barrier.cluster.arrive.aligned;
      barrier.cluster.wait.aligned;)",
     2},
    //===------------------------------------------------------------------===//
    // wgmma
    //===------------------------------------------------------------------===//
    {"WgmmaWithoutProxyFence", Check::Proxy, "fence.proxy.async", "" TILE R"(
      GOOD: fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      wgmma.fence.sync.aligned;
      )" PRODUCT R"(
      wgmma.commit_group.sync.aligned;
      wgmma.wait_group.sync.aligned 0;
      st.global.f32 [%rd4], %f0;)"},
    {"WgmmaResultReadBeforeWait", Check::InFlight, "until its wait", "" TILE R"(
      fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      wgmma.fence.sync.aligned;
      )" PRODUCT R"(
      wgmma.commit_group.sync.aligned;
      GOOD: wgmma.wait_group.sync.aligned 0;
      st.global.f32 [%rd4], %f0;
      wgmma.wait_group.sync.aligned 0;)"},
    {"WgmmaAccumulatorWrittenBeforeWait", Check::InFlight, "writes register", "" TILE R"(
      fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      wgmma.fence.sync.aligned;
      )" PRODUCT R"(
      wgmma.commit_group.sync.aligned;
      BAD: mov.f32 %f1, 0f00000000;
      wgmma.wait_group.sync.aligned 0;
      mov.f32 %f1, 0f00000000;
      st.global.f32 [%rd4], %f0;)"},
    {"WgmmaWithoutFence", Check::InFlight, "wgmma.fence", "" TILE R"(
      fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      GOOD: wgmma.fence.sync.aligned;
      )" PRODUCT R"(
      wgmma.commit_group.sync.aligned;
      wgmma.wait_group.sync.aligned 0;
      st.global.f32 [%rd4], %f0;)"},
    {"WgmmaChangedBetweenTwo", Check::InFlight, "with no wgmma.fence since", "" TILE R"(
      fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      wgmma.fence.sync.aligned;
      )" PRODUCT R"(
      wgmma.commit_group.sync.aligned;
      wgmma.wait_group.sync.aligned 0;
      add.f32 %f0, %f0, 0f3F800000;
      GOOD: wgmma.fence.sync.aligned;
      )" PRODUCT R"(
      wgmma.commit_group.sync.aligned;
      wgmma.wait_group.sync.aligned 0;
      st.global.f32 [%rd4], %f0;)"},
    {"WgmmaFirstValuesAfterFence", Check::Strict, "after the last wgmma.fence", "" TILE R"(
      fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      wgmma.fence.sync.aligned;
      BAD: mov.f32 %f2, 0f3F800000;
      )" PRODUCT R"(
      wgmma.commit_group.sync.aligned;
      wgmma.wait_group.sync.aligned 0;
      mov.b32 %r20, %f0; mov.b32 %r21, %r0; mov.b32 %r22, %r0; mov.b32 %r23, %r0;
      GOOD: wgmma.fence.sync.aligned;
      wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, {%r20,%r21,%r22,%r23}, %rd11, %p7, 1, 1, 0;
      wgmma.commit_group.sync.aligned;
      wgmma.wait_group.sync.aligned 0;
      st.global.f32 [%rd4], %f0;)"},
    {"BulkInitNotFenced", Check::Strict, "mbarrier.init", R"(
      @%p0 mbarrier.init.shared::cta.b64 [%r4], 1;
      GOOD: fence.mbarrier_init.release.cluster;
      bar.sync 0;
      )" LOAD WAIT(0) R"(
      ld.shared.f32 %f0, [%r3];
      st.global.f32 [%rd4], %f0;)"},
    {"BulkInitNotFencedByProxyFence", Check::Strict, "mbarrier.init", R"(
      @%p0 mbarrier.init.shared::cta.b64 [%r4], 1;
      bar.sync 0;
      GOOD: fence.proxy.async.shared::cta;
      )" LOAD WAIT(0) R"(
      ld.shared.f32 %f0, [%r3];
      st.global.f32 [%rd4], %f0;)"},
    {"WgmmaSourceRegisterWrittenBeforeWait", Check::InFlight, "writes register", "" TILE R"(
      fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      mov.b32 %r20, %r0; mov.b32 %r21, %r0; mov.b32 %r22, %r0; mov.b32 %r23, %r0;
      wgmma.fence.sync.aligned;
      wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0,%f1,%f2,%f3}, {%r20,%r21,%r22,%r23}, %rd11, %p7, 1, 1, 0;
      wgmma.commit_group.sync.aligned;
      BAD: mov.b32 %r22, 0;
      wgmma.wait_group.sync.aligned 0;
      mov.b32 %r22, 1;
      st.global.f32 [%rd4], %f0;)"},
    {"WgmmaOperandOverwrittenBeforeWait", Check::Race, "races", "" TILE R"(
      fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      wgmma.fence.sync.aligned;
      )" PRODUCT R"(
      wgmma.commit_group.sync.aligned;
      BAD: st.shared.b32 [%r3], 0;
      wgmma.wait_group.sync.aligned 0;
      bar.sync 0;
      st.shared.b32 [%r3], 0;
      st.global.f32 [%rd4], %f0;)"},
    {"WgmmaAccumulatorNeverWritten", Check::Uninitialized, "never written", "" TILE R"(
      fence.proxy.async.shared::cta;
      bar.sync 0;
      )" DESCRIPTORS R"(
      GOOD: mov.f32 %f4, 0f00000000;
      mov.f32 %f5, 0f00000000; mov.f32 %f6, 0f00000000; mov.f32 %f7, 0f00000000;
      wgmma.fence.sync.aligned;
      wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f4,%f5,%f6,%f7}, %rd10, %rd11, %p7, 1, 1, 0, 0;
      wgmma.commit_group.sync.aligned;
      wgmma.wait_group.sync.aligned 0;
      st.global.f32 [%rd4], %f4;)"},
    //===------------------------------------------------------------------===//
    // Matrices, clusters, registers
    //===------------------------------------------------------------------===//
    {"MatrixMisaligned", Check::Misaligned, "multiple of 16", R"(
      st.shared.b32 [%r3], %r0;
      bar.sync 0;
      GOOD: and.b32 %r5, %r1, 112;
      BAD: and.b32 %r5, %r1, 124;
      add.u32 %r5, %r2, %r5;
      ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r6}, [%r5];
      st.global.b32 [%rd4], %r6;)"},
    {"MatrixReadWithoutBarrier", Check::Race, "races", R"(
      st.shared.b32 [%r3], %r0;
      GOOD: bar.sync 0;
      xor.b32 %r5, %r1, 508;
      and.b32 %r5, %r5, 496;
      add.u32 %r5, %r2, %r5;
      ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r6,%r7,%r8,%r9}, [%r5];
      st.global.b32 [%rd4], %r6;)",
     1, true},
    {"RankOutsideOfCluster", Check::Argument, "rank", R"(
      GOOD: mov.u32 %r5, 1;
      BAD: mov.u32 %r5, 2;
      mapa.shared::cluster.u32 %r6, %r2, %r5;)",
     2},
    {"RemoteReadWithoutBarrier", Check::Race, "races", R"(
      st.shared.b32 [%r3], %r0;
      GOOD: barrier.cluster.arrive.release.aligned;
      BAD: barrier.cluster.arrive.relaxed.aligned;
      barrier.cluster.wait.acquire.aligned;
      mov.u32 %r5, %cluster_ctarank;
      xor.b32 %r5, %r5, 1;
      mapa.shared::cluster.u32 %r6, %r3, %r5;
      ld.shared::cluster.f32 %f0, [%r6];
      mov.u32 %r7, %ctaid.x;
      mul.wide.u32 %rd5, %r7, 512;
      add.u64 %rd4, %rd4, %rd5;
      st.global.f32 [%rd4], %f0;
      barrier.cluster.arrive.aligned;
      barrier.cluster.wait.aligned;)",
     2},
    // 30 loaded values and the addresses do not fit into 24 registers; what can be computed again does not count.
    {"RegistersThatAreNeeded", Check::Argument, "would have to be spilled",
     "GOOD: setmaxnreg.dec.sync.aligned.u32 24;\n"
     "ld.global.b32 %r10, [%rd3+40];\nld.global.b32 %r11, [%rd3+44];\n"
     "ld.global.b32 %r12, [%rd3+48];\nld.global.b32 %r13, [%rd3+52];\n"
     "ld.global.b32 %r14, [%rd3+56];\nld.global.b32 %r15, [%rd3+60];\n"
     "ld.global.b32 %r16, [%rd3+64];\nld.global.b32 %r17, [%rd3+68];\n"
     "ld.global.b32 %r18, [%rd3+72];\nld.global.b32 %r19, [%rd3+76];\n"
     "ld.global.b32 %r20, [%rd3+80];\nld.global.b32 %r21, [%rd3+84];\n"
     "ld.global.b32 %r22, [%rd3+88];\nld.global.b32 %r23, [%rd3+92];\n"
     "ld.global.b32 %r24, [%rd3+96];\nld.global.b32 %r25, [%rd3+100];\n"
     "ld.global.b32 %r26, [%rd3+104];\nld.global.b32 %r27, [%rd3+108];\n"
     "ld.global.b32 %r28, [%rd3+112];\nld.global.b32 %r29, [%rd3+116];\n"
     "ld.global.b32 %r30, [%rd3+120];\nld.global.b32 %r31, [%rd3+124];\n"
     "ld.global.b32 %r32, [%rd3+128];\nld.global.b32 %r33, [%rd3+132];\n"
     "ld.global.b32 %r34, [%rd3+136];\nld.global.b32 %r35, [%rd3+140];\n"
     "ld.global.b32 %r36, [%rd3+144];\nld.global.b32 %r37, [%rd3+148];\n"
     "ld.global.b32 %r38, [%rd3+152];\nld.global.b32 %r39, [%rd3+156];\n"
     "BAD: setmaxnreg.dec.sync.aligned.u32 24;\n"
     "st.global.b32 [%rd4+0], %r10;\nst.global.b32 [%rd4+512], %r11;\n"
     "st.global.b32 [%rd4+1024], %r12;\nst.global.b32 [%rd4+1536], %r13;\n"
     "st.global.b32 [%rd4+2048], %r14;\nst.global.b32 [%rd4+2560], %r15;\n"
     "st.global.b32 [%rd4+3072], %r16;\nst.global.b32 [%rd4+3584], %r17;\n"
     "st.global.b32 [%rd4+4096], %r18;\nst.global.b32 [%rd4+4608], %r19;\n"
     "st.global.b32 [%rd4+5120], %r20;\nst.global.b32 [%rd4+5632], %r21;\n"
     "st.global.b32 [%rd4+6144], %r22;\nst.global.b32 [%rd4+6656], %r23;\n"
     "st.global.b32 [%rd4+7168], %r24;\nst.global.b32 [%rd4+7680], %r25;\n"
     "st.global.b32 [%rd4+8192], %r26;\nst.global.b32 [%rd4+8704], %r27;\n"
     "st.global.b32 [%rd4+9216], %r28;\nst.global.b32 [%rd4+9728], %r29;\n"
     "st.global.b32 [%rd4+10240], %r30;\nst.global.b32 [%rd4+10752], %r31;\n"
     "st.global.b32 [%rd4+11264], %r32;\nst.global.b32 [%rd4+11776], %r33;\n"
     "st.global.b32 [%rd4+12288], %r34;\nst.global.b32 [%rd4+12800], %r35;\n"
     "st.global.b32 [%rd4+13312], %r36;\nst.global.b32 [%rd4+13824], %r37;\n"
     "st.global.b32 [%rd4+14336], %r38;\nst.global.b32 [%rd4+14848], %r39;\n"},
    {"RegistersThatNobodyGivesBack", Check::Deadlock, "", R"(
      GOOD: setmaxnreg.dec.sync.aligned.u32 40;
      BAD: setmaxnreg.inc.sync.aligned.u32 256;)"},
};

class AsyncChecks : public testing::TestWithParam<Case> {
protected:
  /// Runs it; what the reporter then holds is in `gpu`.
  std::unique_ptr<Gpu> run(bool bad, uint64_t seed, Completion completion) {
    const Case &c = GetParam();
    auto gpu =
        std::make_unique<Gpu>(kernel(c, bad), seed, completion, 90, c.check == Check::Strict);
    std::vector<uint32_t> in(4096);
    for (size_t i = 0; i < in.size(); ++i)
      in[i] = 0x3f803f80;
    uint64_t a = gpu->upload(in), o = gpu->zeros<uint32_t>(4096);
    TensorMap map;
    map.type = TensorMapType::F32, map.rank = 2, map.address = a;
    map.extent = {64, 64}, map.stride = {4, 256}, map.box = {32, 4};
    gpu->run("k", {{c.cluster, 1, 1}, {128, 1, 1}, {c.cluster, 1, 1}}, {a, o, map});
    return gpu;
  }
};

TEST_P(AsyncChecks, FindsTheFault) {
  const Case &c = GetParam();
  for (uint64_t seed : {1, 2, 3}) {
    auto gpu = run(true, seed, Completion::Late);
    EXPECT_GT(gpu->reporter.count(c.check), 0u) << "seed " << seed << "\n" << gpu->faults();
    bool said = false;
    for (const Report &r : gpu->reporter.reports())
      said |= r.check == c.check && r.message.find(c.says) != std::string::npos;
    EXPECT_TRUE(said) << "no message says: " << c.says << "\n" << gpu->faults();
  }
  for (Completion completion : {Completion::Early, Completion::Random}) {
    auto gpu = run(true, 4, completion);
    if (!c.onlyLate) {
      EXPECT_GT(gpu->reporter.count(c.check), 0u) << int(completion) << "\n" << gpu->faults();
    }
  }
}

TEST_P(AsyncChecks, LeavesTheTwinAlone) {
  for (Completion completion : {Completion::Late, Completion::Early, Completion::Random})
    for (uint64_t seed : {1, 2, 3}) {
      auto gpu = run(false, seed, completion);
      ASSERT_EQ(gpu->reporter.total(), 0u)
          << "seed " << seed << ", completion " << int(completion) << "\n"
          << gpu->faults();
    }
}

// The other side of a race is named: the thread that issued a copy, or its warp if that is in
// another cluster.
TEST(AsyncPlaces, WhoIssuedABulkCopy) {
  const Case c = {"", Check::Race, "", R"(
      setp.ne.u32 %p1, %r0, 40;
      @%p1 bra O;
      mov.u32 %r5, %ctaid.x;
      st.shared.v4.b32 [%r2], {%r5, %r5, %r5, %r5};
      fence.proxy.async.shared::cta;
      cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 16;
      cp.async.bulk.global.shared::cta.bulk_group [%rd1+512], [%r2], 16;
      cp.async.bulk.commit_group;
      cp.async.bulk.wait_group 0;
      O:)"};
  for (uint32_t cluster : {1, 2}) {
    Gpu gpu(kernel(c, true), 1, Completion::Late, 90);
    uint64_t in = gpu.zeros<uint32_t>(4096), out = gpu.zeros<uint32_t>(4096);
    TensorMap map;
    map.type = TensorMapType::F32, map.rank = 2, map.address = in;
    map.extent = {64, 64}, map.stride = {4, 256}, map.box = {32, 4};
    gpu.run("k", {{2, 1, 1}, {128, 1, 1}, {cluster, 1, 1}}, {in, out, map});
    const std::vector<Report> reports = gpu.reporter.reports();
    ASSERT_FALSE(reports.empty());
    for (const Report &r : reports) {
      EXPECT_EQ(r.check, Check::Race);
      EXPECT_EQ(r.place.thread.x, 40u);
      ASSERT_EQ(r.others.size(), 1u);
      const Place &other = r.others[0];
      EXPECT_NE(other.block.x, r.place.block.x);
      EXPECT_EQ(other.thread.x, cluster == 2 ? 40u : 32u);
      EXPECT_EQ(other.what, cluster == 2 ? "write by an asynchronous operation"
                                         : "write by an asynchronous operation of this warp");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, AsyncChecks, testing::ValuesIn(cases),
                         [](const auto &i) { return std::string(i.param.name); });

} // namespace
