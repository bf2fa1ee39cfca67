//===- reduction.cpp - Sum of a vector; the twin lacks a barrier ---===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Program.h"

int main(int argc, char **argv) {
  Gpu gpu;
  int n = 10000, blocks = 4;
  std::vector<float> x(n), sums(blocks);
  float total = 0, want = 0;
  for (int i = 0; i < n; ++i)
    want += x[i] = float(i % 17);
  CUdeviceptr dx, dsums;
  CHECK(cuMemAlloc(&dx, n * sizeof(float)));
  CHECK(cuMemAlloc(&dsums, blocks * sizeof(float)));
  CHECK(cuMemcpyHtoD(dx, x.data(), n * sizeof(float)));
  CUfunction reduce = gpu.kernel(faulty(argc, argv) ? "reduce_unsynchronized" : "reduce");
  void *parameters[] = {&dx, &dsums, &n};
  CHECK(cuLaunchKernel(reduce, blocks, 1, 1, 256, 1, 1, 0, nullptr, parameters, nullptr));
  CHECK(cuMemcpyDtoH(sums.data(), dsums, blocks * sizeof(float)));
  for (float s : sums)
    total += s;
  CHECK(cuMemFree(dx));
  CHECK(cuMemFree(dsums));
  return compare<float>({total}, {want});
}
