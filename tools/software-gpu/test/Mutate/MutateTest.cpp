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
  static std::string about(const test::Outcome &outcome, const std::string &mark) {
    std::string before = std::string(text).substr(0, std::string(text).find(mark));
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

TEST_F(Mutate, DrawsByASeed) {
  std::string three = run(recording(), {"--list", "--mutants", "3", "--seed", "5"}).text;
  EXPECT_EQ(std::count(three.begin(), three.end(), '\n'), 3);
  EXPECT_EQ(three, run(recording(), {"--list", "--mutants", "3", "--seed", "5"}).text);
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
}

} // namespace
