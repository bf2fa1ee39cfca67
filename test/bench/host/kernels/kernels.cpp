//===- kernels.cpp - Speed of the host kernels ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// usage: kernels [THREADS]
//
// Prints GFLOP/s (best of several runs) of matrix products and of attention,
// the latter also as a share of a matrix product measured just before and after
// it. On one thread time is processor time, so that a busy machine disturbs
// less. Attention counts only pairs of query and key that see each other:
// forward two products, backward five, 2 D operations per pair and product.
//
//===----------------------------------------------------------------------===//
#include "runtime/src/Host/OneDnn.h"
#include "runtime/src/Host/Stream.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <numeric>
#include <vector>

static LlrtStream stream;

static double now() {
  timespec time;
  clock_gettime(stream.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

// Best time of a run in seconds: at least 5 runs and half a second.
static double measure(const std::function<void()> &run) {
  run();
  double best = INFINITY, start = now();
  for (int i = 0; i < 5 || now() - start < 0.5; ++i) {
    double before = now();
    run();
    best = std::min(best, now() - before);
  }
  return best;
}

static const char *name(int64_t type) {
  return type == LLRT_BF16 ? "bf16" : type == LLRT_F32 ? "f32" : "f64";
}

// `count` numbers in [-1, 1) of `type`, in an array of 8-byte units.
static std::vector<double> numbers(int64_t type, int64_t count) {
  std::vector<double> memory(count);
  uint32_t state = 1;
  for (int64_t i = 0; i != count; ++i) {
    state = state * 1664525 + 1013904223;
    float value = float(int32_t(state)) / 2147483648.f;
    if (type == LLRT_F64)
      memory[i] = value;
    else if (type == LLRT_F32)
      reinterpret_cast<float *>(memory.data())[i] = value;
    else
      reinterpret_cast<uint16_t *>(memory.data())[i] = *reinterpret_cast<uint32_t *>(&value) >> 16;
  }
  return memory;
}

// GFLOP/s of C = A B.
static double gemmRate(const LlrtGemm &g) {
  auto a = numbers(g.type, g.m * g.k), b = numbers(g.type, g.k * g.n);
  auto c = numbers(g.result_type, g.m * g.n);
  double time = measure([&] { llrt_gemm(&stream, &g, a.data(), b.data(), nullptr, c.data()); });
  return 2e-9 * g.m * g.n * g.k / time;
}

// GFLOP/s of one oneDNN product of the whole size on this thread: what cutting it
// into tiles that do not depend on the number of threads costs.
static double wholeRate(const LlrtGemm &g) {
  auto a = numbers(g.type, g.m * g.k), b = numbers(g.type, g.k * g.n);
  auto c = numbers(g.result_type, g.m * g.n);
  llrt::MatmulPlan *plan = llrt::findMatmul({.type = g.type,
                                             .resultType = g.result_type,
                                             .m = g.m,
                                             .n = g.n,
                                             .k = g.k,
                                             .aRow = g.transpose_a ? 1 : g.k,
                                             .aColumn = g.transpose_a ? g.m : 1,
                                             .bRow = g.transpose_b ? 1 : g.n,
                                             .bColumn = g.transpose_b ? g.k : 1,
                                             .cRow = g.n,
                                             .accumulate = g.accumulate != 0,
                                             .bias = false});
  return 2e-9 * g.m * g.n * g.k / measure([&] { plan->run(a.data(), b.data(), c.data()); });
}

static void gemm(int64_t type, int64_t resultType, int64_t m, int64_t n, int64_t k,
                 int64_t transposeA, int64_t transposeB, int64_t accumulate) {
  LlrtGemm g = {type, resultType, m, n, k, transposeA, transposeB, accumulate};
  double rate = gemmRate(g);
  printf("gemm %-4s -> %-4s %5ld x %5ld x %5ld %s%s%s  %7.1f GFLOP/s", name(type), name(resultType),
         long(m), long(n), long(k), transposeA ? "A^T " : "A ", transposeB ? "B^T" : "B",
         accumulate ? " +=" : "   ", rate);
  // On several threads oneDNN's own are not used; f64 and, on a CPU without its
  // instructions, bf16 have no such product.
  if (stream.threads == 1 && (type == LLRT_F32 || (type == LLRT_BF16 && llrt::hasBf16Matmul())))
    printf("  %3.0f %% of one product", 100 * rate / wholeRate(g));
  printf("\n");
}

struct Shape {
  const char *what;
  int64_t mask, batch, queries, keys, heads, kvHeads, headSize, images, tiles;
};

static void attention(int64_t type, const Shape &s) {
  LlrtAttention at = {.type = type,
                      .batch = s.batch,
                      .queries = s.queries,
                      .keys = s.keys,
                      .heads = s.heads,
                      .kv_heads = s.kvHeads,
                      .head_size = s.headSize,
                      .mask = s.mask,
                      .images = s.images,
                      .tile_count = s.tiles,
                      .tile_stride = s.tiles ? s.keys / s.tiles : 0,
                      .tile_tokens = 0,
                      .scale = 1 / std::sqrt(double(s.headSize))};
  // All tokens are real, every query sees all images.
  at.tile_tokens = s.tiles ? at.keys / at.tile_count / std::max<int64_t>(s.images, 1) : 0;
  std::vector<int64_t> mask0, mask1(s.batch * s.queries), mask2, mask3;
  double pairs = double(s.queries) * s.keys;
  if (s.mask == LLRT_MASK_CAUSAL) {
    for (int64_t i = 0; i != s.batch * s.queries; ++i)
      mask0.push_back(i % s.queries);
    mask2 = mask0;
    mask3 = mask1;
    pairs = s.queries * (s.queries + 1) / 2.;
  } else if (s.mask == LLRT_MASK_ENCODER) {
    mask0.assign(s.batch, s.tiles);
    mask1.resize(s.queries);
    std::iota(mask1.begin(), mask1.end(), 0);
  } else {
    mask0.assign(s.batch * s.queries, 0);
    mask1.assign(s.batch * s.queries, s.images);
    mask2.assign(s.batch * s.images, s.tiles);
  }
  int64_t queryCount = s.batch * s.queries * s.heads * s.headSize;
  int64_t keyCount = s.batch * s.keys * s.kvHeads * s.headSize;
  auto q = numbers(type, queryCount), dOut = q, out = q, dQ = q;
  auto k = numbers(type, keyCount), v = k, dK = k, dV = k;
  std::vector<float> lse(s.batch * s.queries * s.heads);
  LlrtGemm reference = {type, type, 256, 1024, 1024, 0, 0, 0};
  double peak = gemmRate(reference);
  double forward = measure([&] {
    llrt_attention_forward(&stream, &at, q.data(), k.data(), v.data(), mask0.data(), mask1.data(),
                           mask2.data(), mask3.data(), out.data(), lse.data());
  });
  double backward = measure([&] {
    llrt_attention_backward(&stream, &at, dOut.data(), q.data(), k.data(), v.data(), mask0.data(),
                            mask1.data(), mask2.data(), mask3.data(), out.data(), lse.data(),
                            dQ.data(), dK.data(), dV.data());
  });
  peak = std::max(peak, gemmRate(reference));
  double product = 2e-9 * pairs * s.batch * s.heads * s.headSize;
  printf("%-28s %-4s  forward %7.1f GFLOP/s %3.0f %%   backward %7.1f GFLOP/s "
         "%3.0f %%\n",
         s.what, name(type), 2 * product / forward, 200 * product / forward / peak,
         5 * product / backward, 500 * product / backward / peak);
}

int main(int argc, char **argv) {
  stream.threads = argc > 1 ? std::max(atoi(argv[1]), 1) : 1;
  printf("%ld threads\n", long(stream.threads));
  for (int64_t type : {LLRT_F32, LLRT_BF16}) {
    gemm(type, type, 2048, 2048, 2048, 0, 1, 0);
    gemm(type, LLRT_F32, 2048, 2048, 2048, 1, 0, 1);
    gemm(type, type, 256, 1024, 1024, 0, 0, 0);
    const Shape shapes[] = {
        {"text 2048, D 128, G 4", LLRT_MASK_CAUSAL, 1, 2048, 2048, 8, 2, 128, 0, 0},
        {"text 512, D 128, G 4", LLRT_MASK_CAUSAL, 2, 512, 512, 8, 2, 128, 0, 0},
        {"text 256, D 16, G 2", LLRT_MASK_CAUSAL, 4, 256, 256, 8, 4, 16, 0, 0},
        {"encoder 2336, D 80", LLRT_MASK_ENCODER, 1, 2336, 2336, 4, 4, 80, 0, 4},
        {"cross 192 x 2308, D 128, G 4", LLRT_MASK_IMAGES, 1, 192, 2308, 8, 2, 128, 1, 4},
    };
    for (const Shape &shape : shapes)
      attention(type, shape);
  }
  gemm(LLRT_F64, LLRT_F64, 512, 512, 512, 0, 1, 0);
}
