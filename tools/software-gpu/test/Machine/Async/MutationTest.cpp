//===- MutationTest.cpp - Witnesses with one wait, fence or barrier removed ----===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every line of a witness that holds a wait, a fence, a barrier or an arrival is removed, one at a time.
// The kernel must then be reported, or its result must be wrong, unless the line is one of those listed
// as redundant, each with its reason.
//===----------------------------------------------------------------------===//
#include "Machine/Async/AsyncHarness.h"

#include <functional>
#include <random>
#include <set>

using namespace sgpu;
using namespace sgpu::async_test;

namespace {

struct Subject {
  const char *file, *kernel;
  int chip;
  /// Launches the kernel and returns the bytes of its result.
  std::vector<uint8_t> (*run)(Gpu &);
  /// PTX lines that may be removed without a trace.
  std::set<int> redundant;
};

const char *const guards[] = {"bar.sync",
                              "barrier.sync",
                              "fence.proxy.async",
                              "fence.mbarrier_init",
                              "cp.async.wait_group",
                              "cp.async.commit_group",
                              "cp.async.bulk.wait_group",
                              "cp.async.bulk.commit_group",
                              "wgmma.fence",
                              "wgmma.commit_group",
                              "wgmma.wait_group",
                              "mbarrier.try_wait",
                              "mbarrier.test_wait",
                              "mbarrier.arrive",
                              "mbarrier.init",
                              "barrier.cluster.arrive",
                              "barrier.cluster.wait",
                              "@!complete bra"};

std::vector<uint16_t> halves(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint16_t> v(n);
  for (uint16_t &x : v)
    x = bf16(float(int(random() % 17)) / 8 - 1);
  return v;
}

TensorMap map2d(uint64_t address, uint64_t inner, uint64_t outer, uint32_t boxInner,
                uint32_t boxOuter) {
  TensorMap m;
  m.type = TensorMapType::BF16, m.rank = 2, m.address = address;
  m.extent = {inner, outer}, m.stride = {2, inner * 2}, m.box = {boxInner, boxOuter}, m.swizzle = 3;
  return m;
}

std::vector<uint8_t> runTile(Gpu &gpu, const char *kernel) {
  uint64_t c = gpu.zeros<float>(64 * 64);
  gpu.run(kernel, {}, {gpu.upload(halves(64 * 64, 1)), gpu.upload(halves(64 * 64, 2)), c});
  return gpu.download<uint8_t>(c, 64 * 64 * 4);
}

// 11 steps: both unrolled loops, and their rests.
std::vector<uint8_t> runGemm(Gpu &gpu) {
  constexpr int m = 256, n = 64, k = 704;
  uint64_t pa = gpu.upload(halves(m * k, 1)), pb = gpu.upload(halves(n * k, 2)),
           pc = gpu.zeros<uint16_t>(m * n);
  gpu.run("gemm_ws",
          {{2, 1, 1}, {384, 1, 1}, {0, 0, 0}, (4 * 128 * 64 + 4 * 64 * 64 + 128 * 64) * 2},
          {map2d(pa, k, m, 64, 64), map2d(pb, k, n, 64, 32), map2d(pc, n, m, 64, 64), k});
  return gpu.download<uint8_t>(pc, m * n * 2);
}

std::vector<uint8_t> runTritonTma(Gpu &gpu) {
  constexpr int m = 128, n = 128, k = 320;
  uint64_t pa = gpu.upload(halves(m * k, 1)), pb = gpu.upload(halves(n * k, 2)),
           pc = gpu.zeros<uint16_t>(m * n), none = 0;
  int64_t one = 1;
  gpu.run("matmul_tma", {{1, 1, 1}, {128, 1, 1}, {0, 0, 0}, 98328},
          {map2d(pa, k, m, 64, 128),
           m,
           k,
           int64_t(k),
           one,
           map2d(pb, k, n, 64, 128),
           n,
           k,
           int64_t(k),
           one,
           map2d(pc, n, m, 64, 128),
           m,
           n,
           int64_t(n),
           one,
           m,
           n,
           k,
           none,
           none});
  return gpu.download<uint8_t>(pc, m * n * 2);
}

std::vector<uint8_t> runPipeline(Gpu &gpu) {
  std::vector<uint8_t> all;
  for (int k : {32, 160}) {
    constexpr int m = 64, n = 64;
    uint64_t c = gpu.zeros<uint16_t>(m * n);
    gpu.run("mma_pipe_bf16", {},
            {gpu.upload(halves(m * k, 1)), gpu.upload(halves(n * k, 2)), c, m, n, k});
    auto one = gpu.download<uint8_t>(c, m * n * 2);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

std::vector<uint8_t> runCopies(Gpu &gpu, const char *kernel, uint32_t threads, size_t count) {
  std::vector<float> x(count);
  for (size_t i = 0; i < count; ++i)
    x[i] = float(i % 1000);
  uint64_t y = gpu.zeros<float>(count);
  if (std::string(kernel) == "pipe_copy")
    gpu.run(kernel, {{1, 1, 1}, {threads, 1, 1}}, {gpu.upload(x), y, 4});
  else
    gpu.run(kernel, {{1, 1, 1}, {threads, 1, 1}}, {gpu.upload(x), y});
  return gpu.download<uint8_t>(y, count * 4);
}

const Subject subjects[] = {
    {"nvcc/k90.sm90a.ptx",
     "wgmma_ss_kmajor",
     90,
     [](Gpu &g) { return runTile(g, "wgmma_ss_kmajor"); },
     {}},
    {"nvcc/k90.sm90a.ptx", "wgmma_rs", 90, [](Gpu &g) { return runTile(g, "wgmma_rs"); }, {}},
    {"nvcc/k90.sm90a.ptx",
     "bulk_1d",
     90,
     [](Gpu &g) { return runCopies(g, "bulk_1d", 256, 1024); },
     {1778}}, // within a block the barrier orders the init; Triton leaves this fence out
    {"nvcc/k90.sm90a.ptx",
     "gemm_ws",
     90,
     runGemm,
     // Only wgmma has changed the accumulators since the first fence (1072, 1177); the slot of the last
     // step is not filled again (1252).
     {1072, 1177, 1252}},
    {"triton/matmul_tma_bf16.sm90.ptx",
     "matmul_tma",
     90,
     runTritonTma,
     // Barriers of one warpgroup that other things make redundant: bytes may come before expect_tx while
     // the arrival is missing (100, 111, 122, 129, 142); each thread has waited itself (444); a wait for
     // wgmma is one for all four warps (545, 557, 567, 586, 593); the end (722).
     {100, 111, 122, 129, 142, 444, 545, 557, 567, 586, 593, 722}},
    {"nvcc/k80.sm80.ptx", "mma_pipe_bf16", 80, runPipeline, {}},
    {"nvcc/k80.sm80.ptx",
     "barrier_copy",
     80,
     [](Gpu &g) { return runCopies(g, "barrier_copy", 256, 1024); },
     {1473, 1559, 1643, 1727}}, // b.sync(): the mbarrier of the other buffer orders the same
    {"nvcc/k80.sm80.ptx",
     "pipe_copy",
     80,
     [](Gpu &g) { return runCopies(g, "pipe_copy", 128, 4 * 128 * 4); },
     {}},
};

class Mutation : public testing::TestWithParam<Subject> {};

TEST_P(Mutation, IsFound) {
  const Subject &s = GetParam();
  std::string text = ptxFile(std::string("witnesses/") + s.file);
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  size_t begin = 0;
  while (lines[begin].find(".entry " + std::string(s.kernel) + "(") == std::string::npos)
    ++begin;
  size_t end = begin + 1;
  while (end < lines.size() && lines[end].find(".entry ") == std::string::npos)
    ++end;
  Gpu whole(text, 1, Completion::Late, s.chip);
  std::vector<uint8_t> right = s.run(whole);
  ASSERT_EQ(whole.faults(), "");
  int mutants = 0;
  for (size_t i = begin; i < end; ++i) {
    bool isGuard = false;
    for (const char *g : guards)
      isGuard |= lines[i].find(g) != std::string::npos && lines[i].find("//") == std::string::npos;
    if (!isGuard)
      continue;
    ++mutants;
    std::string mutant;
    for (size_t j = 0; j < lines.size(); ++j)
      mutant += (j == i ? "" : lines[j]) + "\n";
    bool found = false;
    for (uint64_t seed = 1; seed <= 3 && !found; ++seed) {
      Gpu gpu(mutant, seed, seed == 3 ? Completion::Random : Completion::Late, s.chip);
      found = s.run(gpu) != right || gpu.reporter.total();
    }
    bool redundant = s.redundant.count(int(i + 1));
    EXPECT_NE(found, redundant) << s.kernel << " without PTX line " << i + 1 << ": " << lines[i];
  }
  EXPECT_GT(mutants, 3);
}

INSTANTIATE_TEST_SUITE_P(Witnesses, Mutation, testing::ValuesIn(subjects),
                         [](const auto &i) { return std::string(i.param.kernel); });

} // namespace
