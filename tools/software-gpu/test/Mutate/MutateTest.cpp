//===- MutateTest.cpp - What software-gpu-mutate says of each kind of mutant --------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Child.h"
#include "Cuda/Recording.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace sgpu;

namespace {

/// 128 threads turn 100 words around; one of them writes a word of shared memory.
const char *const text = R"(.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y)
{
  .shared .align 4 .b8 s[512];
  .shared .align 4 .b8 one[4];
  .reg .pred %p<8>; .reg .b32 %r<16>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y];
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r1, 100;
  mul.wide.u32 %rd3, %r1, 4;
  mov.u64 %rd4, %rd1;
  add.u64 %rd1, %rd1, %rd3; add.u64 %rd2, %rd2, %rd3;
  shl.b32 %r2, %r1, 2;
  mov.u32 %r3, s;
  add.u32 %r4, %r3, %r2;
  mov.u32 %r5, 0;
  .loc 1 7 0
  @%p1 ld.global.u32 %r5, [%rd1]; // LOAD
  st.shared.u32 [%r4], %r5;
  bar.sync 0; // BARRIER
  sub.u32 %r6, 396, %r2;
  add.u32 %r6, %r3, %r6;
  membar.cta; // FENCE that nothing needs
  @!%p1 bra after; // BRANCH
  ld.shared.u32 %r7, [%r6];
  st.global.u32 [%rd2], %r7;
after:
  setp.eq.u32 %p2, %r1, 0;
  @%p2 st.shared.u32 [one], 7; // LEADER: all would write the same
  setp.lt.u32 %p3, %r1, 128;
  @%p3 ld.shared.u32 %r8, [%r4]; // ALWAYS
  mov.u32 %r9, 1;
  @!%p1 bra end; // ONLY_LOADS: what other threads would load is the same, and nobody uses it
  ld.global.u32 %r9, [%rd4];
end:
  setp.eq.u32 %p4, %r9, 0;
  bra last;
  bar.sync 1; // NEVER
last:
  ret;
}
.file 1 "k.cu"
)";

/// 64 threads: the first waits for a phase before the first, then twice for the last thread, which
/// leaves it a word between.
const char *const waits = R"(.version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 x)
{
  .shared .align 8 .b8 m[8];
  .shared .align 8 .b8 n[8];
  .shared .align 8 .b8 untouched[8];
  .shared .align 4 .b8 s[4];
  .reg .pred %p<8>; .reg .b32 %r<16>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [x];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, m; mov.u32 %r3, n; mov.u32 %r4, s; mov.u32 %r6, untouched;
  setp.eq.u32 %p1, %r1, 0; setp.ne.u32 %p2, %r1, 0; setp.ne.u32 %p3, %r1, 63;
  @%p1 mbarrier.init.shared.b64 [%r2], 1;
  @%p1 mbarrier.init.shared.b64 [%r3], 1;
  @%p1 mbarrier.init.shared.b64 [%r6], 1;
  bar.sync 0;
  @%p2 bra others;
before:
  mbarrier.try_wait.parity.shared.b64 %p4, [%r6], 1; // BEFORE
  @!%p4 bra before;
first:
  mbarrier.try_wait.parity.shared.b64 %p4, [%r3], 0; // NOT_NEEDED
  @!%p4 bra first;
second:
  mbarrier.try_wait.parity.shared.b64 %p4, [%r2], 0; // NEEDED
  @!%p4 bra second;
  ld.shared.u32 %r5, [%r4];
  st.global.u32 [%rd1], %r5;
  bra end;
others:
  @%p3 bra end;
  mbarrier.arrive.shared.b64 _, [%r3];
  st.shared.u32 [%r4], 7;
  mbarrier.arrive.shared.b64 _, [%r2];
end:
  ret;
}
)";

/// Every second word of a buffer goes into the word behind it.
const char *const pairs = R"(.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y)
{
  .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y];
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r1, 20;
  mul.wide.u32 %rd3, %r1, 8;
  add.u64 %rd1, %rd1, %rd3; add.u64 %rd2, %rd2, %rd3;
  @%p1 ld.global.u32 %r2, [%rd1]; // LOAD
  @%p1 st.global.u32 [%rd2], %r2; // STORE
  ret;
}
)";

std::vector<uint8_t> bytesOf(uint32_t first, int step, size_t count) {
  std::vector<uint8_t> bytes(4 * count);
  for (size_t i = 0; i < count; ++i) {
    uint32_t value = first + uint32_t(step * int(i));
    std::memcpy(&bytes[4 * i], &value, 4);
  }
  return bytes;
}

/// Both buffers lie in one allocation, side by side, as in the arena of a program.
std::string recording() {
  RecordedLaunch launch;
  launch.module = 1;
  launch.kernel = "k";
  launch.grid[0] = launch.grid[1] = launch.grid[2] = 1;
  launch.block[0] = 128, launch.block[1] = launch.block[2] = 1;
  launch.parameters.resize(16);
  launch.pointers = {{0, 0, 0}, {8, 0, 512}};
  RecordedBuffer buffer;
  buffer.bytes = 1024;
  buffer.reads = {{0, bytesOf(5, 1, 100)}};
  buffer.writes = {{512, bytesOf(104, -1, 100)}};
  launch.buffers = {buffer};
  return recordOf(1, text) + recordOf(launch);
}

/// A launch of one block of `pairs` or `waits`; parameters point to words of one buffer.
std::string recording(const char *code, uint32_t threads, const std::vector<uint64_t> &words,
                      RecordedBuffer buffer) {
  RecordedLaunch launch;
  launch.module = 1;
  launch.kernel = "k";
  launch.grid[0] = launch.grid[1] = launch.grid[2] = 1;
  launch.block[0] = threads, launch.block[1] = launch.block[2] = 1;
  launch.parameters.resize(8 * words.size());
  for (size_t i = 0; i < words.size(); ++i)
    launch.pointers.push_back({uint32_t(8 * i), 0, 4 * words[i]});
  launch.buffers = {std::move(buffer)};
  return recordOf(1, code) + recordOf(launch);
}

class Mutate : public testing::Test {
protected:
  std::string file = testing::TempDir() + "mutate-" + std::to_string(getpid());
  ~Mutate() override { std::remove(file.c_str()); }

  test::Outcome run(const std::string &contents, const std::vector<std::string> &options = {}) {
    std::ofstream(file, std::ios::binary) << contents;
    return test::inProcess([&] {
      std::vector<char *> arguments{const_cast<char *>(SGPU_MUTATE)};
      for (const std::string &o : options)
        arguments.push_back(const_cast<char *>(o.c_str()));
      arguments.push_back(const_cast<char *>(file.c_str()));
      arguments.push_back(nullptr);
      execv(SGPU_MUTATE, arguments.data());
      _exit(127);
    });
  }
  /// The line of the mutant whose line of PTX has `mark` in its comment.
  static std::string about(const test::Outcome &outcome, const std::string &mark,
                           const std::string &code = text) {
    std::string before = code.substr(0, code.find(mark));
    auto number = 1 + std::count(before.begin(), before.end(), '\n');
    size_t at = outcome.text.find("\"line\":" + std::to_string(number) + ",");
    return at == outcome.text.npos ? "" : outcome.text.substr(at, outcome.text.find('\n', at) - at);
  }
};

TEST_F(Mutate, SaysWhatGivesAMutantAway) {
  test::Outcome outcome = run(recording(), {"--jobs", "2"});
  EXPECT_EQ(outcome.status, 1) << outcome.text;
  const std::pair<const char *, const char *> expected[] = {
      {"LOAD",
       R"("kind":"guard","text":"@%p1 ld.global.u32 %r5, [%rd1];","outcome":"reported","check":"out-of-bounds")"},
      {"BARRIER", R"("kind":"barrier","text":"bar.sync 0;","outcome":"reported","check":)"},
      {"FENCE", R"("kind":"fence","text":"membar.cta;","outcome":"missed")"},
      {"BRANCH", R"("kind":"guard","text":"@!%p1 bra after;","outcome":"reported","check":)"},
      {"LEADER",
       R"("kind":"guard","text":"@%p2 st.shared.u32 [one], 7;","outcome":"reported","check":"strict")"},
      {"ALWAYS", R"("kind":"guard","text":"@%p3 ld.shared.u32 %r8, [%r4];","outcome":"idle")"},
      {"ONLY_LOADS", R"("kind":"guard","text":"@!%p1 bra end;","outcome":"unused")"},
      {"NEVER", R"("kind":"barrier","text":"bar.sync 1;","outcome":"unreached")"}};
  for (auto [mark, words] : expected)
    EXPECT_NE(about(outcome, mark).find(words), std::string::npos) << mark << "\n" << outcome.text;
  EXPECT_EQ(std::count(outcome.text.begin(), outcome.text.end(), '\n'), 8) << outcome.text;
}

TEST_F(Mutate, SaysWhereAPlaceIs) {
  test::Outcome outcome = run(recording(), {"--list"});
  EXPECT_NE(about(outcome, "BARRIER")
                .find(R"("number":1,"of":2,"around":"add.u64 add.u64 shl.b32 add.u32 )"
                      R"(ld.global.u32 st.shared.u32 * sub.u32 add.u32 membar.cta bra )"
                      R"(ld.shared.u32 st.global.u32")"),
            std::string::npos)
      << outcome.text;
}

// A wait that is over is told from one that is not, though nothing needs it.
TEST_F(Mutate, Waits) {
  RecordedBuffer buffer;
  buffer.bytes = 4;
  buffer.writes = {{0, bytesOf(7, 0, 1)}};
  test::Outcome outcome = run(recording(waits, 64, {0}, buffer));
  for (auto [mark, words] : {std::pair("BEFORE", R"("outcome":"idle")"),
                             {"NEEDED", R"("outcome":"reported","check":"race")"},
                             {"NOT_NEEDED", R"("outcome":"missed")"}})
    EXPECT_NE(about(outcome, std::string("// ") + mark + "\n", waits).find(words),
              std::string::npos)
        << mark << "\n"
        << outcome.text;
}

TEST_F(Mutate, BuffersBetweenEachOthersRows) {
  RecordedBuffer buffer;
  buffer.bytes = 160;
  for (uint64_t i = 0; i < 20; ++i) {
    buffer.reads.push_back({8 * i, bytesOf(uint32_t(i), 0, 1)});
    buffer.writes.push_back({8 * i + 4, bytesOf(uint32_t(i), 0, 1)});
  }
  test::Outcome outcome = run(recording(pairs, 32, {0, 1}, buffer));
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  EXPECT_NE(about(outcome, "LOAD", pairs).find(R"("outcome":"reported","check":"out-of-bounds")"),
            std::string::npos)
      << outcome.text;
}

TEST_F(Mutate, DrawsByASeed) {
  std::string three = run(recording(), {"--list", "--mutants", "3", "--seed", "5"}).text;
  EXPECT_EQ(std::count(three.begin(), three.end(), '\n'), 3);
  EXPECT_EQ(three, run(recording(), {"--list", "--mutants", "3", "--seed", "5"}).text);
}

TEST_F(Mutate, TakesSomeKernels) {
  EXPECT_EQ(run(recording(), {"--list", "--kernels", "(?!k).*"}).text, "");
  EXPECT_EQ(run(recording(), {"--list", "--kernels", "k"}).text, run(recording(), {"--list"}).text);
}

TEST_F(Mutate, RefusesALaunchWithAFault) {
  std::string faulty = recording();
  faulty.replace(faulty.find("bar.sync 0"), 10, "// nothing");
  test::Outcome outcome = run(faulty);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.text.find("the launch itself has a fault"), std::string::npos) << outcome.text;
}

TEST_F(Mutate, RefusesWhatItCannotRead) {
  EXPECT_EQ(run("nothing of the kind").status, 2);
  EXPECT_EQ(run(recording(), {"--jobs", "many"}).status, 2);
  test::Outcome outcome = run(recording(), {"--kernels", "("});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.text.find("--kernels (: expected a regular expression"), std::string::npos)
      << outcome.text;
}

} // namespace
