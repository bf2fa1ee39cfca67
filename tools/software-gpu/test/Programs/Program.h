//===- Program.h - What the small programs share -------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The programs are written as against NVIDIA's cuda.h, and compiled with it where it is installed
// (SGPU_NVIDIA_HEADER), else with ours: one text for both.
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_PROGRAM_H
#define SGPU_TEST_PROGRAM_H

#ifdef SGPU_NVIDIA_HEADER
#include <cuda.h>
#else
#include "abi/cuda.h"
using namespace sgpu::abi;
#define cuDevicePrimaryCtxRelease cuDevicePrimaryCtxRelease_v2
#define cuMemAlloc cuMemAlloc_v2
#define cuMemFree cuMemFree_v2
#define cuMemAllocHost cuMemAllocHost_v2
#define cuMemcpyHtoD cuMemcpyHtoD_v2
#define cuMemcpyDtoH cuMemcpyDtoH_v2
#define cuMemcpyHtoDAsync cuMemcpyHtoDAsync_v2
#define cuMemcpyDtoHAsync cuMemcpyDtoHAsync_v2
#define cuMemsetD32 cuMemsetD32_v2
#define cuStreamDestroy cuStreamDestroy_v2
#define cuEventDestroy cuEventDestroy_v2
#define cuEventElapsedTime cuEventElapsedTime_v2
#define cuStreamBeginCapture cuStreamBeginCapture_v2
#define cuGraphInstantiate cuGraphInstantiateWithFlags
#endif

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

/// Ends the program with status 1 unless the call succeeds.
#define CHECK(call)                                                                                \
  do {                                                                                             \
    CUresult result_ = (call);                                                                     \
    if (result_ != CUDA_SUCCESS) {                                                                 \
      const char *name_ = "?";                                                                     \
      cuGetErrorName(result_, &name_);                                                             \
      std::printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, name_);                            \
      std::exit(1);                                                                                \
    }                                                                                              \
  } while (0)

/// The first device, its primary context and the module of kernels.ptx.
struct Gpu {
  CUdevice device;
  CUcontext context;
  CUmodule module;

  Gpu() {
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    std::ifstream file(SGPU_PROGRAM_PTX);
    std::string ptx((std::istreambuf_iterator<char>(file)), {});
    char log[4096];
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, reinterpret_cast<void *>(sizeof log)};
    if (cuModuleLoadDataEx(&module, ptx.c_str(), 2, options, values) != CUDA_SUCCESS) {
      std::printf("%s\n", log);
      std::exit(1);
    }
  }
  ~Gpu() {
    CHECK(cuModuleUnload(module));
    CHECK(cuDevicePrimaryCtxRelease(device));
  }
  CUfunction kernel(const char *name) {
    CUfunction f;
    CHECK(cuModuleGetFunction(&f, module, name));
    return f;
  }
};

inline bool faulty(int argc, char **argv) { return argc > 1 && !std::strcmp(argv[1], "faulty"); }

/// Says where the result is wrong; the exit status of the program.
template <typename T> int compare(const std::vector<T> &got, const std::vector<T> &want) {
  for (size_t i = 0; i < want.size(); ++i)
    if (!(got[i] == want[i])) {
      std::printf("result %zu is %g, expected %g\n", i, double(got[i]), double(want[i]));
      return 1;
    }
  std::printf("right\n");
  return 0;
}

#endif
