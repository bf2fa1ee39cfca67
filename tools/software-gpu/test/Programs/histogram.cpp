//===- histogram.cpp - Counts of bytes by atomics; the twin adds without ---===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Program.h"

int main(int argc, char **argv) {
  Gpu gpu;
  int n = 5000;
  std::vector<unsigned char> x(n);
  std::vector<unsigned> bins(256), want(256);
  for (int i = 0; i < n; ++i)
    ++want[x[i] = (unsigned char)(i * i)];
  CUdeviceptr dx, dbins;
  CHECK(cuMemAlloc(&dx, n));
  CHECK(cuMemAlloc(&dbins, 256 * sizeof(unsigned)));
  CHECK(cuMemcpyHtoD(dx, x.data(), n));
  CHECK(cuMemsetD32(dbins, 0, 256));
  CUfunction histogram = gpu.kernel(faulty(argc, argv) ? "histogram_plain" : "histogram");
  void *parameters[] = {&dx, &dbins, &n};
  CHECK(cuLaunchKernel(histogram, 5, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
  CHECK(cuMemcpyDtoH(bins.data(), dbins, 256 * sizeof(unsigned)));
  CHECK(cuMemFree(dx));
  CHECK(cuMemFree(dbins));
  return compare(bins, want);
}
