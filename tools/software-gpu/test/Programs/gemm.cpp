//===- gemm.cpp - C = A B in tiles; the twin lacks the second barrier ---===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Program.h"

int main(int argc, char **argv) {
  Gpu gpu;
  int m = 40, n = 50, k = 33; // not multiples of the tile
  std::vector<float> a(m * k), b(k * n), c(m * n), want(m * n);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = float(int(i * 7 % 11) - 5);
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = float(int(i * 5 % 13) - 6);
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j)
      for (int l = 0; l < k; ++l)
        want[i * n + j] += a[i * k + l] * b[l * n + j];
  CUdeviceptr da, db, dc;
  CHECK(cuMemAlloc(&da, a.size() * sizeof(float)));
  CHECK(cuMemAlloc(&db, b.size() * sizeof(float)));
  CHECK(cuMemAlloc(&dc, c.size() * sizeof(float)));
  CHECK(cuMemcpyHtoD(da, a.data(), a.size() * sizeof(float)));
  CHECK(cuMemcpyHtoD(db, b.data(), b.size() * sizeof(float)));
  CUfunction gemm = gpu.kernel(faulty(argc, argv) ? "gemm_one_barrier" : "gemm");
  void *parameters[] = {&da, &db, &dc, &m, &n, &k};
  CHECK(cuLaunchKernel(gemm, (n + 15) / 16, (m + 15) / 16, 1, 16, 16, 1, 0, nullptr, parameters,
                       nullptr));
  CHECK(cuMemcpyDtoH(c.data(), dc, c.size() * sizeof(float)));
  CHECK(cuMemFree(da));
  CHECK(cuMemFree(db));
  CHECK(cuMemFree(dc));
  return compare(c, want);
}
