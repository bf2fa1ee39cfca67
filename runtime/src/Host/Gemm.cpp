//===- Gemm.cpp - Matrix products of compiled blocks ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// f32 and bf16 go to oneDNN, which uses the rank's threads by itself. bf16 on a
// CPU without bf16 products is widened to f32 first. f64 goes to OpenBLAS on
// one thread, called for blocks of rows inside our own parallel loop.
//
//===----------------------------------------------------------------------===//
#include "OneDnn.h"
#include "Rows.h"
#include "Scratch.h"
#include "llrt/Kernels.h"

#include <algorithm>
#include <dlfcn.h>
#include <string>

using namespace llrt;

//===----------------------------------------------------------------------===//
// f64
//===----------------------------------------------------------------------===//

namespace {
// Source: the C interface of the reference BLAS (cblas.h), 32-bit sizes.
struct OpenBlas {
  enum { RowMajor = 101, NoTranspose = 111, Transpose = 112 };
  void (*dgemm)(int order, int transposeA, int transposeB, int m, int n, int k,
                double alpha, const double *a, int lda, const double *b,
                int ldb, double beta, double *c, int ldc) = nullptr;
  std::string error;

  OpenBlas() {
    void *handle = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      error = std::string("cannot load OpenBLAS: ") + dlerror() +
              " (Debian package libopenblas0)";
      return;
    }
    dgemm = reinterpret_cast<decltype(dgemm)>(dlsym(handle, "cblas_dgemm"));
    auto setThreads = reinterpret_cast<void (*)(int)>(
        dlsym(handle, "openblas_set_num_threads"));
    if (!dgemm || !setThreads)
      error = "libopenblas.so.0 has no function cblas_dgemm or "
              "openblas_set_num_threads (Debian package libopenblas0)";
    else
      setThreads(1);
  }
};
} // namespace

static const OpenBlas &openBlas() {
  static const OpenBlas *library = new OpenBlas;
  return *library;
}

// Rows of C that one OpenBLAS call computes. Fixed, so that the number of
// threads does not change a bit of the result.
static constexpr int64_t f64Rows = 64;

static void gemmF64(const LlrtGemm &gemm, const double *a, const double *b,
                    const double *bias, double *c) {
  if (!openBlas().error.empty())
    fail("llrt_gemm", openBlas().error.c_str());

  struct Operands {
    const LlrtGemm &gemm;
    const double *a, *b, *bias;
    double *c;
  } operands{gemm, a, b, bias, c};
  void *args[] = {&operands};
  auto body = [](void **args, int64_t lo, int64_t hi) {
    auto &[g, a, b, bias, c] = *static_cast<Operands *>(args[0]);
    for (int64_t block = lo; block != hi; ++block) {
      int64_t row = block * f64Rows, rows = std::min(f64Rows, g.m - row);
      double *cRows = c + row * g.n;
      if (bias)
        for (int64_t i = 0; i != rows; ++i)
          for (int64_t j = 0; j != g.n; ++j)
            cRows[i * g.n + j] =
                bias[j] + (g.accumulate ? cRows[i * g.n + j] : 0);
      openBlas().dgemm(
          OpenBlas::RowMajor,
          g.transpose_a ? OpenBlas::Transpose : OpenBlas::NoTranspose,
          g.transpose_b ? OpenBlas::Transpose : OpenBlas::NoTranspose, rows,
          g.n, g.k, 1, a + row * (g.transpose_a ? 1 : g.k),
          g.transpose_a ? g.m : g.k, b, g.transpose_b ? g.k : g.n,
          g.accumulate || bias ? 1 : 0, cRows, g.n);
    }
  };
  llrt_parallel_for(body, args, (gemm.m + f64Rows - 1) / f64Rows, 1);
}

//===----------------------------------------------------------------------===//
// f32 and bf16
//===----------------------------------------------------------------------===//

static void gemmOneDnn(const LlrtGemm &g, int64_t type, int64_t resultType,
                       const void *a, const void *b, const void *bias,
                       void *c) {
  Matmul matmul = {.type = type,
                   .resultType = resultType,
                   .m = g.m,
                   .n = g.n,
                   .k = g.k,
                   .aRow = g.transpose_a ? 1 : g.k,
                   .aColumn = g.transpose_a ? g.m : 1,
                   .bRow = g.transpose_b ? 1 : g.n,
                   .bColumn = g.transpose_b ? g.k : 1,
                   .cRow = g.n,
                   .accumulate = g.accumulate != 0,
                   .bias = bias != nullptr,
                   .threads = llrt_threads()};
  findMatmul(matmul)->run(a, b, c, bias);
}

// Elements worth a thread of their own when a matrix is widened.
static constexpr int64_t convertGrain = 16384;

static void widen(const void *from, float *to, int64_t count) {
  void *args[] = {const_cast<void *>(from), to};
  auto body = [](void **args, int64_t lo, int64_t hi) {
    typedRows<Bf16, float>().load(static_cast<const Bf16 *>(args[0]) + lo,
                                  static_cast<float *>(args[1]) + lo, hi - lo);
  };
  llrt_parallel_for(body, args, count, convertGrain);
}

static void narrow(float *from, void *to, int64_t count) {
  void *args[] = {from, to};
  auto body = [](void **args, int64_t lo, int64_t hi) {
    typedRows<Bf16, float>().store(static_cast<const float *>(args[0]) + lo,
                                   1.f, static_cast<Bf16 *>(args[1]) + lo,
                                   hi - lo);
  };
  llrt_parallel_for(body, args, count, convertGrain);
}

// bf16 in memory, f32 in the product.
static void gemmWidened(const LlrtGemm &g, const void *a, const void *b,
                        const void *bias, void *c) {
  static thread_local Scratch scratch;
  bool wideResult = g.result_type == LLRT_F32;
  Carver carver;
  float *wideA, *wideB, *wideBias, *wideC;
  auto carve = [&] {
    wideA = carver.take<float>(g.m * g.k);
    wideB = carver.take<float>(g.k * g.n);
    wideBias = carver.take<float>(bias ? g.n : 0);
    wideC = carver.take<float>(wideResult ? 0 : g.m * g.n);
  };
  carve();
  carver = Carver(scratch.reserve(carver.bytes()));
  carve();

  widen(a, wideA, g.m * g.k);
  widen(b, wideB, g.k * g.n);
  if (bias)
    widen(bias, wideBias, g.n);
  if (wideResult)
    wideC = static_cast<float *>(c);
  else if (g.accumulate)
    widen(c, wideC, g.m * g.n);
  gemmOneDnn(g, LLRT_F32, LLRT_F32, wideA, wideB, bias ? wideBias : nullptr,
             wideC);
  if (!wideResult)
    narrow(wideC, c, g.m * g.n);
}

void llrt_gemm(const LlrtGemm *gemm, const void *a, const void *b,
               const void *bias, void *c) {
  const LlrtGemm &g = *gemm;
  if (g.m == 0 || g.n == 0)
    return;
  if (g.type == LLRT_F64)
    gemmF64(g, static_cast<const double *>(a), static_cast<const double *>(b),
            static_cast<const double *>(bias), static_cast<double *>(c));
  else if (g.type == LLRT_BF16 && !hasBf16Matmul())
    gemmWidened(g, a, b, bias, c);
  else
    gemmOneDnn(g, g.type, g.result_type, a, b, bias, c);
}

const char *llrt_host_library_error(int64_t type) {
  if (type == LLRT_F64)
    return openBlas().error.empty() ? nullptr : openBlas().error.c_str();
  return type == LLRT_I64 ? nullptr : oneDnnError();
}
