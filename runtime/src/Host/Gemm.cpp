//===- Gemm.cpp - Matrix products of compiled blocks ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// f32 and bf16 go to oneDNN, f64 to OpenBLAS; bf16 on a CPU without bf16 products
// is widened to f32 first. Neither library promises the same bits for any number
// of threads (oneDNN on AVX2 has others for 3 than for 1). So the products are cut
// here, by their sizes alone, and each part is computed by one thread.
//
//===----------------------------------------------------------------------===//
#include "OneDnn.h"
#include "Rows.h"
#include "Scratch.h"
#include "Stream.h"

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
  void (*dgemm)(int order, int transposeA, int transposeB, int m, int n, int k, double alpha,
                const double *a, int lda, const double *b, int ldb, double beta, double *c,
                int ldc) = nullptr;
  std::string error;

  OpenBlas() {
    void *handle = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      error = std::string("cannot load OpenBLAS: ") + dlerror() + " (Debian package libopenblas0)";
      return;
    }
    dgemm = reinterpret_cast<decltype(dgemm)>(dlsym(handle, "cblas_dgemm"));
    auto setThreads = reinterpret_cast<void (*)(int)>(dlsym(handle, "openblas_set_num_threads"));
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

static void gemmF64(LlrtStream *stream, const LlrtGemm &gemm, const double *a, const double *b,
                    const double *bias, double *c) {
  if (!openBlas().error.empty())
    stopProcess("llrt_gemm", openBlas().error.c_str());

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
            cRows[i * g.n + j] = bias[j] + (g.accumulate ? cRows[i * g.n + j] : 0);
      openBlas().dgemm(OpenBlas::RowMajor,
                       g.transpose_a ? OpenBlas::Transpose : OpenBlas::NoTranspose,
                       g.transpose_b ? OpenBlas::Transpose : OpenBlas::NoTranspose, rows, g.n, g.k,
                       1, a + row * (g.transpose_a ? 1 : g.k), g.transpose_a ? g.m : g.k, b,
                       g.transpose_b ? g.k : g.n, g.accumulate || bias ? 1 : 0, cRows, g.n);
    }
  };
  parallelFor(stream, body, args, (gemm.m + f64Rows - 1) / f64Rows, 1);
}

//===----------------------------------------------------------------------===//
// f32 and bf16
//===----------------------------------------------------------------------===//

// How C is cut into tiles that one thread each computes: by its sizes alone, so that
// the number of threads does not change a bit of the result.
namespace {
struct Tiles {
  int64_t rows, columns; // of a tile; the last ones may be smaller
  int64_t down, across;  // numbers of tiles
};
} // namespace

// Strips of rows first, since all that a strip repeats is packing B; columns where
// strips alone are few. A part worth less than 4 million operations is not worth a
// thread. Below about 384 x 1024 oneDNN on AVX2 no longer packs its operands, which
// for a transposed A costs more than half of the speed (docs/performance.md).
static Tiles cut(const LlrtGemm &g) {
  constexpr int64_t leastOperations = 4'000'000, mostStrips = 8, mostTiles = 32,
                    leastColumns = 1024;
  double operations = 2.0 * g.m * g.n * g.k;
  int64_t parts = std::clamp<double>(operations / leastOperations, 1, mostTiles);
  int64_t leastRows = g.m < 768 ? 128 : 384;
  // `size` in at most `parts` pieces of at least `least`, multiples of 64.
  auto divide = [](int64_t size, int64_t parts, int64_t least) {
    parts = std::clamp<int64_t>(size / least, 1, parts);
    int64_t piece = (size + parts - 1) / parts;
    return std::min((piece + 63) / 64 * 64, size);
  };
  Tiles tiles;
  tiles.rows = divide(g.m, std::min(parts, mostStrips), leastRows);
  tiles.down = (g.m + tiles.rows - 1) / tiles.rows;
  tiles.columns = divide(g.n, std::max<int64_t>(parts / tiles.down, 1), leastColumns);
  tiles.across = (g.n + tiles.columns - 1) / tiles.columns;
  return tiles;
}

static void gemmOneDnn(LlrtStream *stream, const LlrtGemm &g, int64_t type, int64_t resultType,
                       const void *a, const void *b, const void *bias, void *c) {
  struct Operands {
    const LlrtGemm &gemm;
    int64_t type, resultType;
    const char *a, *b, *bias;
    char *c;
    Tiles tiles;
  } operands{g,
             type,
             resultType,
             static_cast<const char *>(a),
             static_cast<const char *>(b),
             static_cast<const char *>(bias),
             static_cast<char *>(c),
             cut(g)};
  void *args[] = {&operands};
  auto body = [](void **args, int64_t lo, int64_t hi) {
    auto &[g, type, resultType, a, b, bias, c, tiles] = *static_cast<Operands *>(args[0]);
    auto bytes = [](int64_t type, int64_t elements) {
      return elements * (type == LLRT_BF16 ? 2 : 4);
    };
    for (int64_t tile = lo; tile != hi; ++tile) {
      int64_t row = tile / tiles.across * tiles.rows, column = tile % tiles.across * tiles.columns;
      Matmul matmul = {.type = type,
                       .resultType = resultType,
                       .m = std::min(tiles.rows, g.m - row),
                       .n = std::min(tiles.columns, g.n - column),
                       .k = g.k,
                       .aRow = g.transpose_a ? 1 : g.k,
                       .aColumn = g.transpose_a ? g.m : 1,
                       .bRow = g.transpose_b ? 1 : g.n,
                       .bColumn = g.transpose_b ? g.k : 1,
                       .cRow = g.n,
                       .accumulate = g.accumulate != 0,
                       .bias = bias != nullptr};
      findMatmul(matmul)->run(
          a + bytes(type, row * matmul.aRow), b + bytes(type, column * matmul.bColumn),
          c + bytes(resultType, row * g.n + column), bias ? bias + bytes(type, column) : nullptr);
    }
  };
  parallelFor(stream, body, args, operands.tiles.down * operands.tiles.across, 1);
}

// Elements worth a thread of their own when a matrix is widened.
static constexpr int64_t convertGrain = 16384;

static void widen(LlrtStream *stream, const void *from, float *to, int64_t count) {
  void *args[] = {const_cast<void *>(from), to};
  auto body = [](void **args, int64_t lo, int64_t hi) {
    typedRows<Bf16, float>().load(static_cast<const Bf16 *>(args[0]) + lo,
                                  static_cast<float *>(args[1]) + lo, hi - lo);
  };
  parallelFor(stream, body, args, count, convertGrain);
}

static void narrow(LlrtStream *stream, float *from, void *to, int64_t count) {
  void *args[] = {from, to};
  auto body = [](void **args, int64_t lo, int64_t hi) {
    typedRows<Bf16, float>().store(static_cast<const float *>(args[0]) + lo, 1.f,
                                   static_cast<Bf16 *>(args[1]) + lo, hi - lo);
  };
  parallelFor(stream, body, args, count, convertGrain);
}

// bf16 in memory, f32 in the product.
static void gemmWidened(LlrtStream *stream, const LlrtGemm &g, const void *a, const void *b,
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

  widen(stream, a, wideA, g.m * g.k);
  widen(stream, b, wideB, g.k * g.n);
  if (bias)
    widen(stream, bias, wideBias, g.n);
  if (wideResult)
    wideC = static_cast<float *>(c);
  else if (g.accumulate)
    widen(stream, c, wideC, g.m * g.n);
  gemmOneDnn(stream, g, LLRT_F32, LLRT_F32, wideA, wideB, bias ? wideBias : nullptr, wideC);
  if (!wideResult)
    narrow(stream, wideC, c, g.m * g.n);
}

void llrt_gemm(LlrtStream *stream, const LlrtGemm *gemm, const void *a, const void *b, void *bias,
               void *c) {
  const LlrtGemm &g = *gemm;
  if (g.m == 0 || g.n == 0)
    return;
  if (g.type == LLRT_F64)
    gemmF64(stream, g, static_cast<const double *>(a), static_cast<const double *>(b),
            static_cast<const double *>(bias), static_cast<double *>(c));
  else if (g.type == LLRT_BF16 && !hasBf16Matmul())
    gemmWidened(stream, g, a, b, bias, c);
  else
    gemmOneDnn(stream, g, g.type, g.result_type, a, b, bias, c);
}

const char *llrt_host_library_error(int64_t type) {
  if (type == LLRT_F64)
    return openBlas().error.empty() ? nullptr : openBlas().error.c_str();
  return type == LLRT_I64 ? nullptr : oneDnnError();
}
