//===- AsyncWitnessTest.cpp - Kernels of nvcc and Triton with asynchronous work -----===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// test/ptx/witnesses: text that other compilers made from kernels whose contract is a formula. Every
// kernel gives the right result at the tolerance of its types, the same bits for every seed and order
// of completion, and no report; every bad_* kernel is reported as what it is.
//===----------------------------------------------------------------------===//
#include "Machine/Async/AsyncHarness.h"

#include <cmath>
#include <functional>
#include <random>

using namespace sgpu;
using namespace sgpu::async_test;

namespace {

float fromBf16(uint16_t b) { return bf16(b); }
uint16_t toBf16(double v) { return bf16(float(v)); }

/// Values around zero that bf16 holds exactly.
std::vector<uint16_t> drawBf16(size_t n, unsigned seed, double scale = 1) {
  std::mt19937 random(seed);
  std::vector<uint16_t> v(n);
  for (uint16_t &x : v)
    x = toBf16(scale * (double(random() % 2001) - 1000) / 1000);
  return v;
}

std::vector<float> drawFloats(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> v(n);
  for (float &x : v)
    x = float(double(random() % 2001) - 1000) / 1000;
  return v;
}

/// Largest |got - want| relative to `scale`.
template <typename Got> double error(const std::vector<Got> &got, const std::vector<double> &want) {
  double worst = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    double g;
    if constexpr (std::is_same_v<Got, uint16_t>)
      g = fromBf16(got[i]);
    else
      g = double(got[i]);
    worst = std::isnan(g) ? INFINITY : std::max(worst, std::fabs(g - want[i]));
    size = std::max(size, std::fabs(want[i]));
  }
  return worst / std::max(size, 1e-30);
}

/// C [m, n] = A [m, k] B, where B is [n, k] if `transposed`, else [k, n].
std::vector<double> product(const std::vector<uint16_t> &a, const std::vector<uint16_t> &b, int m,
                            int n, int k, bool transposed) {
  std::vector<double> c(size_t(m) * n);
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      double s = 0;
      for (int l = 0; l < k; ++l)
        s += double(fromBf16(a[size_t(i) * k + l])) *
             fromBf16(transposed ? b[size_t(j) * k + l] : b[size_t(l) * n + j]);
      c[size_t(i) * n + j] = s;
    }
  return c;
}

struct Replay {
  uint64_t seed;
  Completion completion;
};
const Replay runs[] = {
    {1, Completion::Late}, {2, Completion::Late}, {3, Completion::Early}, {4, Completion::Random}};

/// Runs `body` for several seeds; it returns the bytes of the result, which must be the same each time,
/// and there must be no report.
void same(const std::string &file, int chip,
          const std::function<std::vector<uint8_t>(Gpu &)> &body) {
  std::string text = ptxFile("witnesses/" + file);
  std::vector<uint8_t> first;
  for (const Replay &r : runs) {
    Gpu gpu(text, r.seed, r.completion, chip);
    std::vector<uint8_t> result = body(gpu);
    ASSERT_EQ(gpu.reporter.total(), 0u) << "seed " << r.seed << "\n" << gpu.faults();
    if (first.empty())
      first = result;
    ASSERT_TRUE(result == first) << "other bits with seed " << r.seed;
  }
}

template <typename T> std::vector<uint8_t> rawBytes(const std::vector<T> &v) {
  std::vector<uint8_t> b(v.size() * sizeof(T));
  std::memcpy(b.data(), v.data(), b.size());
  return b;
}

TensorMap map2d(uint64_t address, uint64_t inner, uint64_t outer, uint32_t boxInner,
                uint32_t boxOuter) {
  TensorMap m;
  m.type = TensorMapType::BF16, m.rank = 2, m.address = address;
  m.extent = {inner, outer}, m.stride = {2, inner * 2}, m.box = {boxInner, boxOuter}, m.swizzle = 3;
  return m;
}

//===----------------------------------------------------------------------===//
// nvcc, sm_80
//===----------------------------------------------------------------------===//

TEST(Witness80, Wmma) {
  for (auto [m, n, k] : {std::tuple{16, 16, 16}, {32, 48, 64}})
    same("nvcc/k80.sm80.ptx", 80, [=](Gpu &gpu) {
      auto a = drawBf16(m * k, 1), b = drawBf16(k * n, 2);
      uint64_t c = gpu.allocate(m * n * 4);
      gpu.run("wmma_bf16", {{uint32_t(n / 16), uint32_t(m / 16), 1}, {32, 1, 1}},
              {gpu.upload(a), gpu.upload(b), c, m, n, k});
      auto got = gpu.download<float>(c, m * n);
      EXPECT_LT(error(got, product(a, b, m, n, k, false)), 1e-5);
      return rawBytes(got);
    });
}

TEST(Witness80, MmaPipeline) {
  for (auto [m, n, k] : {std::tuple{64, 64, 32}, {64, 128, 96}, {128, 64, 160}})
    same("nvcc/k80.sm80.ptx", 80, [=](Gpu &gpu) {
      auto a = drawBf16(m * k, 1), b = drawBf16(n * k, 2);
      uint64_t c = gpu.allocate(m * n * 2);
      gpu.run("mma_pipe_bf16", {{uint32_t(n / 64), uint32_t(m / 64), 1}},
              {gpu.upload(a), gpu.upload(b), c, m, n, k});
      auto got = gpu.download<uint16_t>(c, m * n);
      EXPECT_LT(error(got, product(a, b, m, n, k, true)), 0.005);
      return rawBytes(got);
    });
}

TEST(Witness80, BarrierCopy) {
  same("nvcc/k80.sm80.ptx", 80, [](Gpu &gpu) {
    auto x = drawFloats(3 * 1024, 1);
    uint64_t y = gpu.allocate(x.size() * 4);
    gpu.run("barrier_copy", {{3, 1, 1}, {256, 1, 1}}, {gpu.upload(x), y});
    auto got = gpu.download<float>(y, x.size());
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_EQ(got[i], 2 * x[i / 256 * 256 + 255 - i % 256]) << i;
    return rawBytes(got);
  });
}

TEST(Witness80, PipelineCopy) {
  for (int iterations : {1, 2, 5})
    same("nvcc/k80.sm80.ptx", 80, [=](Gpu &gpu) {
      auto x = drawFloats(2 * size_t(iterations) * 128 * 4, 1);
      uint64_t y = gpu.allocate(x.size() * 4);
      gpu.run("pipe_copy", {{2, 1, 1}}, {gpu.upload(x), y, iterations});
      auto got = gpu.download<float>(y, x.size());
      for (size_t i = 0; i < x.size(); ++i)
        EXPECT_EQ(got[i], 3 * x[i]);
      return rawBytes(got);
    });
}

TEST(Witness80, BadNoWait) {
  for (uint64_t seed : {1, 2, 3}) {
    Gpu gpu(ptxFile("witnesses/nvcc/k80.sm80.ptx"), seed, Completion::Late, 80);
    auto x = drawFloats(256, 1);
    gpu.run("bad_nowait", {{1, 1, 1}, {256, 1, 1}}, {gpu.upload(x), gpu.allocate(1024)});
    EXPECT_GT(gpu.reporter.count(Check::InFlight), 0u) << gpu.faults();
    // The copy, late, also writes what was read without order: a race, and nothing else.
    EXPECT_EQ(gpu.reporter.count(Check::InFlight) + gpu.reporter.count(Check::Race),
              gpu.reporter.total())
        << gpu.faults();
  }
}

//===----------------------------------------------------------------------===//
// nvcc, sm_90a
//===----------------------------------------------------------------------===//

TEST(Witness90, WgmmaTiles) {
  for (const char *kernel : {"wgmma_ss_kmajor", "wgmma_ss_nmajor", "wgmma_rs"})
    same("nvcc/k90.sm90a.ptx", 90, [=](Gpu &gpu) {
      auto a = drawBf16(64 * 64, 1), b = drawBf16(64 * 64, 2);
      uint64_t c = gpu.allocate(64 * 64 * 4);
      gpu.run(kernel, {}, {gpu.upload(a), gpu.upload(b), c});
      auto got = gpu.download<float>(c, 64 * 64);
      EXPECT_LT(error(got, product(a, b, 64, 64, 64, std::string(kernel) != "wgmma_ss_nmajor")),
                1e-5)
          << kernel;
      return rawBytes(got);
    });
}

TEST(Witness90, WarpSpecialisedGemm) {
  for (auto [m, n, k] : {std::tuple{256, 64, 64}, {256, 128, 320}, {512, 64, 576}})
    same("nvcc/k90.sm90a.ptx", 90, [=](Gpu &gpu) {
      auto a = drawBf16(size_t(m) * k, 1), b = drawBf16(size_t(n) * k, 2);
      uint64_t pa = gpu.upload(a), pb = gpu.upload(b), pc = gpu.allocate(size_t(m) * n * 2);
      constexpr uint32_t shared = (4 * 128 * 64 + 4 * 64 * 64 + 128 * 64) * 2;
      gpu.run("gemm_ws", {{uint32_t(m / 128), uint32_t(n / 64), 1}, {384, 1, 1}, {0, 0, 0}, shared},
              {map2d(pa, k, m, 64, 64), map2d(pb, k, n, 64, 32), map2d(pc, n, m, 64, 64), k});
      auto got = gpu.download<uint16_t>(pc, size_t(m) * n);
      EXPECT_LT(error(got, product(a, b, m, n, k, true)), 0.005);
      return rawBytes(got);
    });
}

TEST(Witness90, DistributedSharedMemory) {
  same("nvcc/k90.sm90a.ptx", 90, [](Gpu &gpu) {
    auto x = drawFloats(8 * 128, 1);
    uint64_t y = gpu.allocate(x.size() * 4);
    gpu.run("dsmem_sum", {{8, 1, 1}}, {gpu.upload(x), y});
    auto got = gpu.download<float>(y, x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      float sum = 0;
      for (int r = 0; r < 4; ++r)
        sum += x[i / 512 * 512 + r * 128 + i % 128];
      EXPECT_EQ(got[i], sum);
    }
    return rawBytes(got);
  });
}

TEST(Witness90, VectorReductions) {
  // Sums of small integers: exact in every order.
  std::string text = ptxFile("witnesses/nvcc/k90.sm90a.ptx");
  for (const Replay &r : runs) {
    Gpu gpu(text, r.seed, r.completion);
    constexpr int blocks = 3;
    std::vector<float> x(blocks * 128 * 4);
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = float(i % 7);
    std::vector<float> y(4), z(128);
    uint64_t py = gpu.upload(y), ph = gpu.zeros<uint16_t>(4), pz = gpu.upload(z);
    gpu.run("vec_red", {{blocks, 1, 1}}, {gpu.upload(x), py, ph, pz});
    for (int b = 0; b < blocks; ++b)
      for (int t = 0; t < 128; ++t) {
        for (int i = 0; i < 4; ++i)
          y[i] += x[(b * 128 + t) * 4 + i];
        z[t] += x[(b * 128 + t) * 4];
      }
    EXPECT_EQ(gpu.download<float>(py, 4), y);
    EXPECT_EQ(gpu.download<float>(pz, 128), z);
    auto h = gpu.download<uint16_t>(ph, 4);
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(fromBf16(h[i]), blocks * 64.f * float(1 + i % 2));
    EXPECT_EQ(gpu.faults(), "");
  }
}

TEST(Witness90, BulkCopies) {
  same("nvcc/k90.sm90a.ptx", 90, [](Gpu &gpu) {
    auto x = drawFloats(3 * 1024, 1);
    uint64_t y = gpu.allocate(x.size() * 4);
    gpu.run("bulk_1d", {{3, 1, 1}, {256, 1, 1}}, {gpu.upload(x), y});
    auto got = gpu.download<float>(y, x.size());
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_EQ(got[i], x[i] + 1);
    return rawBytes(got);
  });
}

TEST(Witness90, BadKernels) {
  std::string text = ptxFile("witnesses/nvcc/k90.sm90a.ptx");
  for (const Replay &r : runs) {
    Gpu gpu(text, r.seed, r.completion);
    auto a = drawBf16(64 * 64, 1), b = drawBf16(64 * 64, 2);
    gpu.run("bad_wgmma_nofence", {}, {gpu.upload(a), gpu.upload(b), gpu.allocate(64 * 64 * 4)});
    EXPECT_GT(gpu.reporter.count(Check::Proxy), 0u) << gpu.faults();
    EXPECT_EQ(gpu.reporter.count(Check::Proxy), gpu.reporter.total()) << gpu.faults();
    gpu.reporter.clear();
    gpu.run("bad_bulk_tx", {{1, 1, 1}, {256, 1, 1}},
            {gpu.upload(drawFloats(1024, 1)), gpu.allocate(4096)});
    EXPECT_GT(gpu.reporter.count(Check::MBarrier), 0u) << gpu.faults();
    EXPECT_EQ(gpu.reporter.count(Check::MBarrier), gpu.reporter.total()) << gpu.faults();
  }
}

//===----------------------------------------------------------------------===//
// Triton
//===----------------------------------------------------------------------===//

struct MatmulForm {
  const char *file;
  int chip;
  uint32_t threads, shared;
};

TEST(WitnessTriton, Matmul) {
  for (const MatmulForm &f : {MatmulForm{"triton/matmul_bf16.sm80.ptx", 80, 128, 65536},
                              MatmulForm{"triton/matmul_bf16.sm90.ptx", 90, 256, 98304}})
    for (auto [m, n, k] : {std::tuple{128, 128, 64}, {144, 160, 208}})
      same(f.file, f.chip, [=](Gpu &gpu) {
        auto a = drawBf16(size_t(m) * k, 1), b = drawBf16(size_t(k) * n, 2);
        uint64_t c = gpu.allocate(size_t(m) * n * 2), none = 0;
        gpu.run("matmul",
                {{uint32_t(m + 127) / 128, uint32_t(n + 127) / 128, 1},
                 {f.threads, 1, 1},
                 {0, 0, 0},
                 f.shared},
                {gpu.upload(a), gpu.upload(b), c, m, n, k, k, n, n, none, none});
        auto got = gpu.download<uint16_t>(c, size_t(m) * n);
        EXPECT_LT(error(got, product(a, b, m, n, k, false)), 0.005) << f.file;
        return rawBytes(got);
      });
}

TEST(WitnessTriton, MatmulByTensorMaps) {
  for (auto [m, n, k] : {std::tuple{128, 128, 64}, {128, 256, 320}})
    same("triton/matmul_tma_bf16.sm90.ptx", 90, [=](Gpu &gpu) {
      auto a = drawBf16(size_t(m) * k, 1), b = drawBf16(size_t(n) * k, 2);
      uint64_t pa = gpu.upload(a), pb = gpu.upload(b), pc = gpu.allocate(size_t(m) * n * 2),
               none = 0;
      int64_t one = 1;
      gpu.run("matmul_tma",
              {{uint32_t(m / 128), uint32_t(n / 128), 1}, {128, 1, 1}, {0, 0, 0}, 98328},
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
      auto got = gpu.download<uint16_t>(pc, size_t(m) * n);
      EXPECT_LT(error(got, product(a, b, m, n, k, true)), 0.005);
      return rawBytes(got);
    });
}

TEST(WitnessTriton, FlashAttention) {
  struct Form {
    const char *file;
    int chip, rows;
    uint32_t shared;
  };
  for (const Form &f : {Form{"triton/flash_causal_bf16.sm80.ptx", 80, 64, 24576},
                        Form{"triton/flash_causal_bf16.sm90.ptx", 90, 128, 49152}})
    for (int t : {64, 200})
      same(f.file, f.chip, [=](Gpu &gpu) {
        constexpr int heads = 2, d = 64;
        float scale = 0.125f;
        auto q = drawBf16(size_t(heads) * t * d, 1, 2), k = drawBf16(size_t(heads) * t * d, 2, 2),
             v = drawBf16(size_t(heads) * t * d, 3);
        uint64_t o = gpu.allocate(size_t(heads) * t * d * 2), lse = gpu.allocate(heads * t * 4),
                 none = 0;
        gpu.run("flash_fwd",
                {{uint32_t((t + f.rows - 1) / f.rows), heads, 1}, {128, 1, 1}, {0, 0, 0}, f.shared},
                {gpu.upload(q), gpu.upload(k), gpu.upload(v), o, lse, t, scale, none, none});
        std::vector<double> want(size_t(heads) * t * d), wantLse(heads * t);
        for (int h = 0; h < heads; ++h)
          for (int i = 0; i < t; ++i) {
            std::vector<double> p(i + 1);
            double sum = 0, top = -INFINITY;
            auto at = [&](int row) { return (size_t(h) * t + row) * d; };
            for (int j = 0; j <= i; ++j) {
              for (int e = 0; e < d; ++e)
                p[j] += double(fromBf16(q[at(i) + e])) * fromBf16(k[at(j) + e]);
              p[j] *= scale;
              top = std::max(top, p[j]);
            }
            for (double &x : p)
              sum += x = std::exp(x - top);
            for (int j = 0; j <= i; ++j)
              for (int e = 0; e < d; ++e)
                want[at(i) + e] += p[j] / sum * fromBf16(v[at(j) + e]);
            wantLse[h * t + i] = top + std::log(sum);
          }
        auto got = gpu.download<uint16_t>(o, want.size());
        auto gotLse = gpu.download<float>(lse, wantLse.size());
        EXPECT_LT(error(got, want), 0.01) << f.file << " T " << t;
        EXPECT_LT(error(gotLse, wantLse), 1e-4) << f.file << " T " << t;
        auto bytes = rawBytes(got), more = rawBytes(gotLse);
        bytes.insert(bytes.end(), more.begin(), more.end());
        return bytes;
      });
}

} // namespace
