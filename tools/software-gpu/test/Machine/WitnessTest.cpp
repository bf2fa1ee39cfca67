//===- WitnessTest.cpp - Kernels of other compilers give the right results --===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// test/ptx/witnesses: PTX of Triton, nvcc, clang and numba (README.md there). Results are computed here
// in f64 and compared at the tolerance of the types; the bits must be the same for every seed.
//===----------------------------------------------------------------------===//
#include "Harness.h"

#include <cmath>
#include <numeric>

using namespace sgpu;
using namespace sgpu::machinetest;

namespace {
constexpr uint64_t seeds[] = {1, 2, 3};
} // namespace

TEST(Witness, TritonVadd) {
  for (auto [file, chip] : {std::pair("vadd_f32.sm80.ptx", 80), std::pair("vadd_f32.sm90.ptx", 90)})
    for (size_t n : {1, 1000, 1024, 1025, 5000})
      for (uint64_t seed : seeds) {
        Gpu gpu(ptxFile(std::string("witnesses/triton/") + file), options(seed, chip));
        auto x = numbers(n, 1), y = numbers(n, 2);
        uint64_t px = gpu.upload(x), py = gpu.upload(y), po = gpu.allocate<float>(n);
        uint64_t scratch = 0;
        gpu.run("vadd", {uint32_t((n + 1023) / 1024), 1, 1}, {128, 1, 1}, px, py, po, int(n),
                scratch, scratch);
        EXPECT_TRUE(gpu.clean());
        auto o = gpu.download<float>(po, n);
        for (size_t i = 0; i < n; ++i)
          ASSERT_EQ(o[i], x[i] + y[i]) << i;
      }
}

TEST(Witness, TritonRmsnorm) {
  for (auto [file, chip] :
       {std::pair("rmsnorm_bf16.sm80.ptx", 80), std::pair("rmsnorm_bf16.sm90.ptx", 90)})
    for (int cols : {16, 512, 1008, 2048}) {
      std::vector<uint16_t> first;
      for (uint64_t seed : seeds) {
        Gpu gpu(ptxFile(std::string("witnesses/triton/") + file), options(seed, chip));
        std::string name = gpu.module->kernels().at(0);
        const int rows = 5;
        auto fx = numbers(size_t(rows * cols), 3), fw = numbers(size_t(cols), 4);
        std::vector<uint16_t> x, w;
        for (float f : fx)
          x.push_back(bf16(f));
        for (float f : fw)
          w.push_back(bf16(f));
        uint64_t px = gpu.upload(x), pw = gpu.upload(w), po = gpu.allocate<uint16_t>(x.size());
        uint64_t scratch = 0;
        const KernelInfo &info = *gpu.module->kernel(name);
        LaunchConfig config;
        config.grid.x = rows;
        config.block = info.requiredBlock;
        config.dynamicShared = 64;
        gpu.run(name, config, px, pw, po, cols, 1e-5f, scratch, scratch);
        EXPECT_TRUE(gpu.clean());
        auto o = gpu.download<uint16_t>(po, x.size());
        if (first.empty())
          first = o;
        EXPECT_EQ(o, first) << "seed " << seed;
        for (int r = 0; r < rows; ++r) {
          double sum = 0;
          for (int c = 0; c < cols; ++c)
            sum += std::pow(double(bf16(x[size_t(r * cols + c)])), 2);
          double scale = 1 / std::sqrt(sum / cols + 1e-5);
          for (int c = 0; c < cols; ++c) {
            double want = bf16(x[size_t(r * cols + c)]) * scale * bf16(w[size_t(c)]);
            ASSERT_NEAR(bf16(o[size_t(r * cols + c)]), want, std::fabs(want) / 128 + 1e-6)
                << r << "," << c;
          }
        }
      }
    }
}

TEST(Witness, ClangSaxpy) {
  for (int n : {1, 255, 256, 1000})
    for (uint64_t seed : seeds) {
      Gpu gpu(ptxFile("witnesses/other/c80.sm80.ptx"), options(seed, 80));
      auto x = numbers(size_t(n), 1), y = numbers(size_t(n), 2);
      uint64_t px = gpu.upload(x), py = gpu.upload(y);
      gpu.run("saxpy", {uint32_t(n + 255) / 256, 1, 1}, {256, 1, 1}, 2.5f, px, py, n);
      EXPECT_TRUE(gpu.clean());
      auto o = gpu.download<float>(py, size_t(n));
      for (size_t i = 0; i < o.size(); ++i)
        ASSERT_EQ(o[i], std::fma(2.5f, x[i], y[i]));
    }
}

TEST(Witness, ClangBlockSum) {
  for (int n : {1, 256, 1000, 4096})
    for (uint64_t seed : seeds) {
      Gpu gpu(ptxFile("witnesses/other/c80.sm80.ptx"), options(seed, 80));
      std::vector<float> x(size_t(n), 0);
      std::iota(x.begin(), x.end(), 1.0f); // sums are exact: any order gives the same bits
      uint64_t px = gpu.upload(x), po = gpu.upload(std::vector<float>{0});
      gpu.run("block_sum", {uint32_t(n + 255) / 256, 1, 1}, {256, 1, 1}, px, po, n);
      EXPECT_TRUE(gpu.clean());
      EXPECT_EQ(gpu.download<float>(po, 1)[0], float(n) * float(n + 1) / 2);
    }
}

TEST(Witness, ClangWarpScan) {
  for (uint64_t seed : seeds) {
    Gpu gpu(ptxFile("witnesses/other/c80.sm80.ptx"), options(seed, 80));
    std::vector<int> x(128);
    std::iota(x.begin(), x.end(), 3);
    uint64_t px = gpu.upload(x), py = gpu.allocate<int>(128);
    gpu.run("warp_scan", {1, 1, 1}, {128, 1, 1}, px, py);
    EXPECT_TRUE(gpu.clean());
    auto y = gpu.download<int>(py, 128);
    for (int i = 0, sum = 0; i < 128; ++i) {
      sum = i % 32 ? sum + x[size_t(i)] : x[size_t(i)];
      ASSERT_EQ(y[size_t(i)], sum) << i;
    }
  }
}

TEST(Witness, NvccCooperativeGroupsReduce) {
  for (int n : {1, 31, 1000, 5000})
    for (uint64_t seed : seeds) {
      Gpu gpu(ptxFile("witnesses/nvcc/k80.sm80.ptx"), options(seed, 80));
      std::vector<float> x;
      double sum = 0;
      float positive = 0;
      for (float f : numbers(size_t(n), 5)) {
        x.push_back(std::round(f * 64) / 64); // sums are exact
        sum += x.back();
        positive += x.back() > 0;
      }
      uint64_t px = gpu.upload(x), po = gpu.upload(std::vector<float>{0, 0}),
               pl = gpu.allocate<int>(32);
      gpu.run("cg_reduce", {3, 1, 1}, {96, 1, 1}, px, po, pl, n);
      EXPECT_TRUE(gpu.clean());
      auto o = gpu.download<float>(po, 2);
      EXPECT_EQ(o[0], float(sum));
      EXPECT_EQ(o[1], positive);
      auto lanes = gpu.download<int>(pl, 32);
      for (int i = 0; i < 32; ++i)
        EXPECT_EQ(lanes[size_t(i)], i * (i - 1) / 2 + 8 + 1);
    }
}

TEST(Witness, NvccMath) {
  const int n = 200;
  std::vector<float> first;
  for (uint64_t seed : seeds) {
    Gpu gpu(ptxFile("witnesses/nvcc/k80.sm80.ptx"), options(seed, 80));
    std::vector<float> x = numbers(n, 6);
    for (float &f : x)
      f = f * 5 + (f >= 0 ? 0.01f : -0.01f);
    uint64_t px = gpu.upload(x), py = gpu.allocate<float>(17 * n);
    gpu.run("math_cov", {2, 1, 1}, {128, 1, 1}, px, py, n);
    EXPECT_TRUE(gpu.clean());
    auto y = gpu.download<float>(py, 17 * n);
    if (first.empty())
      first = y;
    for (size_t i = 0; i < y.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(y[i]), std::bit_cast<uint32_t>(first[i]));
    for (int i = 0; i < n; ++i) {
      double v = x[size_t(i)], a = std::fabs(v);
      // Bounds of CUDA's math functions (CUDA C++ Programming Guide, "Mathematical Functions"): a few ulp.
      const double ulp = std::ldexp(1.0, -23);
      auto near = [&](int k, double want, double ulps, double absolute = 0) {
        ASSERT_NEAR(y[size_t(k * n + i)], want, std::fabs(want) * ulp * ulps + absolute)
            << "function " << k << " of " << v;
      };
      near(0, std::exp(v), 2);
      near(1, std::log(a), 2, 1e-7);
      near(2, std::sin(v), 3, 1e-7);
      near(3, std::cos(v), 3, 1e-7);
      near(4, std::tanh(v), 3);
      near(5, std::erf(v), 3);
      near(6, 1 / std::sqrt(a), 3);
      near(7, 1 / v, 1);
      near(8, std::sqrt(a), 1);
      near(9, std::pow(a, 1.5), 9);
      near(10, std::fmod(v, double(0.7f)), 0, 1e-12);
      near(11, bf16(bf16(float(v))), 0);
      near(13, std::exp(v), 8 + 2 * a);
      near(14, std::nearbyint(v), 0);
      ASSERT_EQ(std::bit_cast<int>(y[size_t(15 * n + i)]), int(v));
      near(16, double(float(v)) * double(float(std::log(a + 1))), 2);
    }
  }
}

namespace {
struct Array { // numba's array of one dimension
  uint64_t meminfo = 0, parent = 0, items, itemsize, data, shape, stride;
  Array(uint64_t data, uint64_t items)
      : items(items), itemsize(4), data(data), shape(items), stride(4) {}
};
} // namespace

TEST(Witness, NumbaSaxpy) {
  for (size_t n : {1, 255, 256, 1000})
    for (uint64_t seed : seeds) {
      Gpu gpu(ptxFile("witnesses/other/saxpy.sm80.ptx"), options(seed, 80));
      auto vx = numbers(n, 1), vy = numbers(n, 2);
      Array x(gpu.upload(vx), n), y(gpu.upload(vy), n);
      gpu.run(gpu.module->kernels().at(0), {uint32_t(n + 255) / 256, 1, 1}, {256, 1, 1}, 2.5f,
              x.meminfo, x.parent, x.items, x.itemsize, x.data, x.shape, x.stride, y.meminfo,
              y.parent, y.items, y.itemsize, y.data, y.shape, y.stride);
      EXPECT_TRUE(gpu.clean());
      auto o = gpu.download<float>(y.data, n);
      for (size_t i = 0; i < n; ++i) // numba contracts
        ASSERT_EQ(o[i], std::fma(2.5f, vx[i], vy[i])) << i;
    }
}

TEST(Witness, NumbaBlocksum) {
  for (size_t n : {1, 255, 1000, 2048})
    for (uint64_t seed : seeds) {
      Gpu gpu(ptxFile("witnesses/other/blocksum.sm90.ptx"), options(seed, 90));
      std::vector<float> v(n);
      std::iota(v.begin(), v.end(), 1.0f); // sums are exact: any order gives the same bits
      Array x(gpu.upload(v), n), o(gpu.upload(std::vector<float>{0}), 1);
      gpu.run(gpu.module->kernels().at(0), {uint32_t(n + 255) / 256, 1, 1}, {256, 1, 1}, x.meminfo,
              x.parent, x.items, x.itemsize, x.data, x.shape, x.stride, o.meminfo, o.parent,
              o.items, o.itemsize, o.data, o.shape, o.stride);
      EXPECT_TRUE(gpu.clean());
      EXPECT_EQ(gpu.download<float>(o.data, 1)[0], float(n) * float(n + 1) / 2);
    }
}

//===----------------------------------------------------------------------===//
// Kernels with one fault each
//===----------------------------------------------------------------------===//

namespace {
std::vector<float> runBad(Gpu &gpu, const std::string &kernel, uint32_t block) {
  std::vector<float> x(block);
  std::iota(x.begin(), x.end(), 0.0f);
  uint64_t px = gpu.upload(x), py = gpu.allocate<float>(block);
  gpu.run(kernel, {1, 1, 1}, {block, 1, 1}, px, py);
  return gpu.download<float>(py, block);
}
} // namespace

TEST(Faults, Race) {
  for (uint64_t seed : seeds) {
    Gpu gpu(ptxFile("witnesses/nvcc/k80.sm80.ptx"), options(seed, 80));
    runBad(gpu, "bad_race", 256);
    EXPECT_GT(gpu.reporter.count(Check::Race), 0u);
    // Words that are read before they are written are not written yet, which is said too.
    EXPECT_EQ(gpu.reporter.count(Check::Race) + gpu.reporter.count(Check::Uninitialized),
              gpu.reporter.total())
        << gpu.text();
  }
}

TEST(Faults, Uninitialized) {
  for (uint64_t seed : seeds) {
    Gpu gpu(ptxFile("witnesses/nvcc/k80.sm80.ptx"), options(seed, 80));
    runBad(gpu, "bad_uninit", 256);
    EXPECT_TRUE(gpu.only(Check::Uninitialized));
    EXPECT_EQ(gpu.reporter.reports()[0].place.thread.x, 255u);
  }
}

TEST(Faults, OutOfBounds) {
  for (uint64_t seed : seeds) {
    Gpu gpu(ptxFile("witnesses/nvcc/k80.sm80.ptx"), options(seed, 80));
    runBad(gpu, "bad_oob", 256);
    EXPECT_TRUE(gpu.only(Check::OutOfBounds));
    EXPECT_EQ(gpu.reporter.reports()[0].place.thread.x, 255u);
    EXPECT_EQ(gpu.reporter.total(), 1u);
  }
}

TEST(Faults, DivergentBarrier) {
  for (uint64_t seed : seeds) {
    Gpu gpu(ptxFile("witnesses/nvcc/k80.sm80.ptx"), options(seed, 80));
    runBad(gpu, "bad_divbar", 256);
    EXPECT_TRUE(gpu.only(Check::Barrier));
  }
}

TEST(Faults, BankConflictIsNoFault) {
  for (uint64_t seed : seeds) {
    Gpu gpu(ptxFile("witnesses/nvcc/k80.sm80.ptx"), options(seed, 80));
    auto y = runBad(gpu, "bad_bank", 1024);
    EXPECT_TRUE(gpu.clean());
    for (size_t i = 0; i < y.size(); ++i)
      ASSERT_EQ(y[i], float(i));
  }
}
