//===- AlgorithmsTest.cpp - Heuristics, algorithms, transforms, order in streams ----===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CublasLt/Product.h"
#include "Setup.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace {
using namespace sgpu::test;

/// A product of bf16 of 64 x 64 x 2048, from inputs of 1/4 and 1: every element is 512.
struct Long {
  Device device;
  int64_t m = 64, n = 64, k = 2048;
  Desc desc{CUBLAS_COMPUTE_32F, CUDA_R_32F};
  LayoutOf a{CUDA_R_16BF, m, k, m}, b{CUDA_R_16BF, k, n, k}, d{CUDA_R_32F, m, n, m};
  char *atA, *atB, *atD;
  float one = 1, zero = 0;
  Long() {
    Bytes x(size_t(m * k) * 2), y(size_t(k * n) * 2);
    for (int64_t i = 0; i < m * k; ++i)
      put(CUDA_R_16BF, x, i, 0.25);
    for (int64_t i = 0; i < k * n; ++i)
      put(CUDA_R_16BF, y, i, 1);
    atA = device.upload(x), atB = device.upload(y);
    atD = device.allocate(size_t(m * n) * 4);
  }
  int found(Preference &preference, std::vector<MatmulHeuristicResult> &results, int most = 16) {
    results.resize(size_t(most));
    int count = -1;
    int status = cublasLtMatmulAlgoGetHeuristic(device.handle, desc.desc, a.layout, b.layout,
                                                d.layout, d.layout, preference.preference, most,
                                                results.data(), &count);
    results.resize(size_t(std::max(count, 0)));
    return status;
  }
  int run(const MatmulAlgo *algo, size_t bytes, void *stream) {
    char *workspace = bytes ? device.allocate(bytes) : nullptr;
    return cublasLtMatmul(device.handle, desc.desc, &one, atA, a.layout, atB, b.layout, &zero, atD,
                          d.layout, atD, d.layout, algo, workspace, bytes, stream);
  }
  void check() {
    Bytes got = device.download(atD, size_t(m * n) * 4);
    for (int64_t i = 0; i < m * n; ++i)
      ASSERT_EQ(get(CUDA_R_32F, got, i), 512) << i;
  }
};

TEST(CublasLtAlgorithms, Heuristics) {
  EXPECT_TRUE(isClean(inProcess([] {
    Long p;
    std::vector<MatmulHeuristicResult> all, some;
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(32) << 20);
    EXPECT_EQ(p.found(preference, all), 0);
    EXPECT_GE(all.size(), 3u);
    std::vector<uint64_t> needs;
    for (const MatmulHeuristicResult &r : all) {
      EXPECT_EQ(r.state, 0);
      EXPECT_GT(r.wavesCount, 0);
      needs.push_back(r.workspaceSize);
      EXPECT_EQ(p.run(&r.algo, r.workspaceSize, p.device.stream), 0);
      p.check();
    }
    std::sort(needs.begin(), needs.end());
    EXPECT_NE(needs.front(), needs.back()); // different needs of workspace
    for (uint64_t limit : needs) {
      preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, limit);
      EXPECT_EQ(p.found(preference, some), 0);
      EXPECT_EQ(some.size(),
                size_t(std::upper_bound(needs.begin(), needs.end(), limit) - needs.begin()));
    }
    EXPECT_EQ(p.found(preference, some, 2), 0); // as many as were asked for
    EXPECT_EQ(some.size(), 2u);
    for (int i = 0; i < 4; ++i)
      preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i, uint32_t(2));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(4));
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(4));
    EXPECT_EQ(p.found(preference, some), 0);
    EXPECT_LT(some.size(), all.size()); // some need more than that
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(1));
    EXPECT_EQ(p.found(preference, some), CUBLAS_STATUS_NOT_SUPPORTED); // less than an element
    EXPECT_EQ(some.size(), 0u);
    int count;
    EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(nullptr, p.desc.desc, p.a.layout, p.b.layout,
                                             p.d.layout, p.d.layout, preference.preference, 1,
                                             all.data(), &count),
              CUBLAS_STATUS_NOT_INITIALIZED);
  })));
}

// Sums in place are offered where they are allowed, and their order is another one each time.
TEST(CublasLtAlgorithms, SumsInPlaceHaveNoOrder) {
  EXPECT_TRUE(isClean(inProcess([] {
    Long p;
    Bytes x(size_t(p.m * p.k) * 2); // so that sums are rounded
    for (int64_t i = 0; i < p.m * p.k; ++i)
      put(CUDA_R_16BF, x, i, std::ldexp(1 + double(i % 97) / 128, int(i % 31) - 15));
    p.atA = p.atB = p.device.upload(x);
    char *gradient = p.device.allocate(size_t(p.n) * 4);
    p.desc.set(CUBLASLT_MATMUL_DESC_EPILOGUE, int32_t(CUBLASLT_EPILOGUE_BGRADB));
    p.desc.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, gradient);
    auto schemeOf = [](const MatmulAlgo &algo) {
      int32_t scheme = -1;
      size_t written = 0;
      EXPECT_EQ(cublasLtMatmulAlgoConfigGetAttribute(&algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                     &scheme, 4, &written),
                0);
      return scheme;
    };
    std::vector<MatmulHeuristicResult> results;
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(32) << 20);
    EXPECT_EQ(p.found(preference, results), 0);
    auto found = std::find_if(results.begin(), results.end(), [&](const MatmulHeuristicResult &r) {
      return schemeOf(r.algo) == CUBLASLT_REDUCTION_SCHEME_INPLACE;
    });
    ASSERT_NE(found, results.end());
    MatmulHeuristicResult first = *found;
    std::set<Bytes> bits, bitsOfGradient;
    auto run = [&](const MatmulHeuristicResult &r, int times) {
      bits.clear(), bitsOfGradient.clear();
      for (int i = 0; i < times; ++i) {
        EXPECT_EQ(p.run(&r.algo, r.workspaceSize, p.device.stream), 0);
        bits.insert(p.device.download(p.atD, size_t(p.m * p.n) * 4));
        bitsOfGradient.insert(p.device.download(gradient, size_t(p.n) * 4));
      }
    };
    run(first, 16);
    EXPECT_GT(bits.size(), 1u);
    EXPECT_GT(bitsOfGradient.size(), 1u);
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    EXPECT_EQ(p.found(preference, results), 0);
    for (const MatmulHeuristicResult &r : results) {
      EXPECT_NE(schemeOf(r.algo), CUBLASLT_REDUCTION_SCHEME_INPLACE);
      run(r, 4);
      EXPECT_EQ(bits.size(), 1u);
      EXPECT_EQ(bitsOfGradient.size(), 1u);
    }
  })));
}

TEST(CublasLtAlgorithms, ByHand) {
  EXPECT_TRUE(isClean(inProcess([] {
    Long p;
    int ids[16], count = 0;
    EXPECT_EQ(cublasLtMatmulAlgoGetIds(p.device.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF,
                                       CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F, 16, ids, &count),
              0);
    EXPECT_GE(count, 3);
    EXPECT_EQ(cublasLtMatmulAlgoGetIds(p.device.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF,
                                       CUDA_R_16F, CUDA_R_32F, CUDA_R_32F, 16, ids + 8, nullptr),
              CUBLAS_STATUS_NOT_SUPPORTED);
    bool split = false;
    for (int i = 0; i < count; ++i) {
      MatmulAlgo algo;
      EXPECT_EQ(cublasLtMatmulAlgoInit(p.device.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF,
                                       CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F, ids[i], &algo),
                0);
      int32_t id = -1, canSplit = -1;
      size_t written = 0;
      EXPECT_EQ(
          cublasLtMatmulAlgoConfigGetAttribute(&algo, CUBLASLT_ALGO_CONFIG_ID, &id, 4, &written),
          0);
      EXPECT_EQ(id, ids[i]);
      EXPECT_EQ(cublasLtMatmulAlgoCapGetAttribute(&algo, CUBLASLT_ALGO_CAP_SPLITK_SUPPORT,
                                                  &canSplit, 4, &written),
                0);
      MatmulHeuristicResult result{};
      EXPECT_EQ(cublasLtMatmulAlgoCheck(p.device.handle, p.desc.desc, p.a.layout, p.b.layout,
                                        p.d.layout, p.d.layout, &algo, &result),
                0);
      uint64_t before = result.workspaceSize;
      int32_t parts = 4, scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
      EXPECT_EQ(
          cublasLtMatmulAlgoConfigSetAttribute(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, 4),
          0);
      EXPECT_EQ(cublasLtMatmulAlgoConfigSetAttribute(&algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                     &scheme, 4),
                0);
      int status = cublasLtMatmulAlgoCheck(p.device.handle, p.desc.desc, p.a.layout, p.b.layout,
                                           p.d.layout, p.d.layout, &algo, &result);
      EXPECT_EQ(status, canSplit ? 0 : CUBLAS_STATUS_NOT_SUPPORTED);
      if (!canSplit)
        continue;
      split = true;
      EXPECT_GT(result.workspaceSize, before);
      EXPECT_EQ(p.run(&algo, result.workspaceSize, p.device.stream), 0);
      p.check();
    }
    EXPECT_TRUE(split);
    MatmulAlgo algo;
    EXPECT_EQ(cublasLtMatmulAlgoInit(p.device.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF,
                                     CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F, 12345, &algo),
              CUBLAS_STATUS_INVALID_VALUE);
  })));
}

// C = 2 op(A) - B, from one type and order to others.
TEST(CublasLtAlgorithms, Transforms) {
  EXPECT_TRUE(isClean(inProcess([] {
    std::mt19937_64 draw(7);
    for (int i = 0; i < 60; ++i) {
      Device device;
      int types[] = {CUDA_R_32F, CUDA_R_16BF, CUDA_R_16F, CUDA_R_64F, CUDA_R_8I};
      int ta = types[draw() % 5], tb = types[draw() % 5], tc = types[draw() % 4];
      int64_t m = 1 + int64_t(draw() % 9), n = 1 + int64_t(draw() % 9);
      bool trans = draw() % 2, rowA = draw() % 2, rowB = draw() % 2, rowC = draw() % 2,
           withB = draw() % 2;
      int64_t ra = trans ? n : m, ca = trans ? m : n;
      int64_t lda = (rowA ? ca : ra) + 1, ldb = (rowB ? n : m) + 2, ldc = (rowC ? n : m);
      auto fill = [&](int type, int64_t count) {
        Bytes bytes(size_t(count) * sizeOf(type));
        for (int64_t j = 0; j < count; ++j)
          put(type, bytes, j, double(draw() % 9) - 4);
        return bytes;
      };
      Bytes a = fill(ta, lda * (rowA ? ra : ca)), b = fill(tb, ldb * (rowB ? m : n));
      LayoutOf la(ta, ra, ca, lda, rowA), lb(tb, m, n, ldb, rowB), lc(tc, m, n, ldc, rowC);
      void *desc = nullptr;
      EXPECT_EQ(cublasLtMatrixTransformDescCreate(&desc, CUDA_R_32F), 0);
      int32_t op = trans;
      EXPECT_EQ(cublasLtMatrixTransformDescSetAttribute(desc, CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSA,
                                                        &op, 4),
                0);
      float two = 2, minus = -1;
      char *c = device.allocate(size_t(m * n) * sizeOf(tc));
      EXPECT_EQ(cublasLtMatrixTransform(device.handle, desc, &two, device.upload(a), la.layout,
                                        &minus, withB ? device.upload(b) : nullptr,
                                        withB ? lb.layout : nullptr, c, lc.layout, device.stream),
                0);
      Bytes got = device.download(c, size_t(m * n) * sizeOf(tc));
      for (int64_t x = 0; x < m; ++x)
        for (int64_t y = 0; y < n; ++y) {
          int64_t ix = trans ? y : x, iy = trans ? x : y;
          double want = 2 * get(ta, a, rowA ? ix * lda + iy : ix + iy * lda) -
                        (withB ? get(tb, b, rowB ? x * ldb + y : x + y * ldb) : 0);
          EXPECT_EQ(get(tc, got, rowC ? x * ldc + y : x + y * ldc), want) << "case " << i;
        }
      EXPECT_EQ(cublasLtMatrixTransformDescDestroy(desc), 0);
    }
  })));
}

// D is poison until the stream order allows to read it.
TEST(CublasLtAlgorithms, ResultReadBeforeItIsThere) {
  for (bool faulty : {false, true}) {
    Outcome outcome = inProcess([=] {
      Long p;
      EXPECT_EQ(cuStreamSynchronize(p.device.stream), 0);
      CUstream other;
      EXPECT_EQ(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING), 0);
      EXPECT_EQ(p.run(nullptr, 0, p.device.stream), 0);
      if (!faulty)
        EXPECT_EQ(cuStreamSynchronize(p.device.stream), 0);
      float got = 0;
      EXPECT_EQ(cuMemcpyDtoHAsync_v2(&got, CUdeviceptr(p.atD), 4, other), 0);
      EXPECT_EQ(cuStreamSynchronize(other), 0);
      EXPECT_EQ(got == 512, !faulty);
      EXPECT_EQ(cuStreamSynchronize(p.device.stream), 0);
      EXPECT_EQ(cuStreamDestroy_v2(other), 0);
    });
    if (faulty)
      EXPECT_TRUE(isReported(outcome, {"stream: ", "call cublasLtMatmul"}));
    else
      EXPECT_TRUE(isClean(outcome));
  }
}

TEST(CublasLtAlgorithms, Graph) {
  EXPECT_TRUE(isClean(inProcess([] {
    Long p;
    EXPECT_EQ(cuStreamBeginCapture_v2(p.device.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), 0);
    EXPECT_EQ(p.run(nullptr, 0, p.device.stream), 0);
    CUgraph graph;
    CUgraphExec exec;
    EXPECT_EQ(cuStreamEndCapture(p.device.stream, &graph), 0);
    EXPECT_EQ(cuGraphInstantiateWithFlags(&exec, graph, 0), 0);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(cuMemsetD8Async(CUdeviceptr(p.atD), 0, size_t(p.m * p.n) * 4, p.device.stream), 0);
      EXPECT_EQ(cuGraphLaunch(exec, p.device.stream), 0);
      p.check();
    }
    EXPECT_EQ(cuGraphExecDestroy(exec), 0);
    EXPECT_EQ(cuGraphDestroy(graph), 0);
  })));
}

// The same bits whatever the number of threads and the seed.
TEST(CublasLtAlgorithms, BitsDoNotDependOnThreads) {
  std::string first;
  for (const char *threads : {"1", "2", "7"}) {
    Outcome outcome = inProcess(
        [] {
          Device device;
          int64_t n = 150;
          std::mt19937_64 draw(3);
          Bytes x(size_t(n * n) * 4), y = x;
          for (int64_t i = 0; i < n * n; ++i) {
            put(CUDA_R_32F, x, i, double(draw() % 100001) / 7777);
            put(CUDA_R_32F, y, i, double(draw() % 100001) / 3333 - 15);
          }
          LayoutOf l(CUDA_R_32F, n, n, n);
          Desc desc(CUBLAS_COMPUTE_32F, CUDA_R_32F);
          float one = 1, zero = 0;
          char *d = device.allocate(x.size());
          EXPECT_EQ(cublasLtMatmul(device.handle, desc.desc, &one, device.upload(x), l.layout,
                                   device.upload(y), l.layout, &zero, d, l.layout, d, l.layout,
                                   nullptr, nullptr, 0, device.stream),
                    0);
          uint64_t hash = 1469598103934665603u;
          for (char c : device.download(d, x.size()))
            hash = (hash ^ uint8_t(c)) * 1099511628211u;
          std::printf("hash %llx\n", static_cast<unsigned long long>(hash));
        },
        {{"OMP_NUM_THREADS", threads},
         {"OPENBLAS_NUM_THREADS", threads},
         {"SOFTWARE_GPU_THREADS", threads},
         {"SOFTWARE_GPU_SEED", threads}});
    EXPECT_TRUE(isClean(outcome));
    if (first.empty())
      first = outcome.text;
    EXPECT_EQ(outcome.text, first);
    EXPECT_NE(first.find("hash "), std::string::npos);
  }
}

// What multiplies where OpenBLAS is not.
template <typename Real> void blocked() {
  std::mt19937_64 draw(5);
  for (int i = 0; i < 60; ++i) {
    int64_t m = 1 + int64_t(draw() % 40), n = 1 + int64_t(draw() % 20), k = int64_t(draw() % 50);
    bool ta = draw() % 2, tb = draw() % 2;
    int64_t lda = (ta ? k : m) + 2, ldb = (tb ? n : k) + 1;
    std::vector<Real> a(size_t(lda * (ta ? m : k))), b(size_t(ldb * (tb ? k : n))),
        c(size_t(m * n), Real(9));
    for (Real &x : a)
      x = Real(int(draw() % 9) - 4);
    for (Real &x : b)
      x = Real(int(draw() % 9) - 4);
    sgpu::cublaslt::blockedProduct(ta, tb, m, n, k, a.data(), lda, b.data(), ldb, c.data());
    for (int64_t x = 0; x < m; ++x)
      for (int64_t y = 0; y < n; ++y) {
        Real want = 0;
        for (int64_t p = 0; p < k; ++p)
          want +=
              a[size_t(ta ? p + x * lda : x + p * lda)] * b[size_t(tb ? y + p * ldb : p + y * ldb)];
        ASSERT_EQ(c[size_t(x + y * m)], want) << m << " " << n << " " << k;
      }
  }
}
TEST(CublasLtAlgorithms, BlockedProduct) {
  blocked<float>();
  blocked<double>();
}

} // namespace
