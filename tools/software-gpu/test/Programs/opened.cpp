//===- opened.cpp - c = a + b by a library opened at run time; the twin writes past the end ---===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Linked with no CUDA library: libcuda.so.1 is opened by name, its functions come from
// cuGetProcAddress by their names without version, and it is closed before the end.
//===----------------------------------------------------------------------===//
#include "abi/cuda.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

using namespace sgpu::abi;

static decltype(&cuGetProcAddress_v2) procAddress;

template <typename F> static F *function(const char *name) {
  void *f = nullptr;
  CUdriverProcAddressQueryResult found;
  if (procAddress(name, &f, 13000, CU_GET_PROC_ADDRESS_DEFAULT, &found) != CUDA_SUCCESS || !f) {
    std::printf("no %s\n", name);
    std::exit(1);
  }
  return reinterpret_cast<F *>(f);
}

static void check(CUresult result, int line) {
  if (result == CUDA_SUCCESS)
    return;
  const char *name = "?";
  function<decltype(cuGetErrorName)>("cuGetErrorName")(result, &name);
  std::printf("line %d: %s\n", line, name);
  std::exit(1);
}
/// Calls a function by its name without version; `symbol` gives its type.
#define CALL(name, symbol, ...) check(function<decltype(symbol)>(#name)(__VA_ARGS__), __LINE__)

int main(int argc, char **argv) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    std::printf("%s\n", dlerror());
    return 1;
  }
  procAddress = reinterpret_cast<decltype(procAddress)>(dlsym(library, "cuGetProcAddress_v2"));
  if (!procAddress)
    return 1;
  CALL(cuInit, cuInit, 0);
  CUcontext context;
  CALL(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, &context, 0);
  CALL(cuCtxSetCurrent, cuCtxSetCurrent, context);
  std::ifstream file(SGPU_PROGRAM_PTX);
  std::string ptx((std::istreambuf_iterator<char>(file)), {});
  CUmodule module;
  CUfunction add;
  CALL(cuModuleLoadData, cuModuleLoadData, &module, ptx.c_str());
  bool faulty = argc > 1 && !std::strcmp(argv[1], "faulty");
  CALL(cuModuleGetFunction, cuModuleGetFunction, &add, module, faulty ? "add_unbounded" : "add");
  int n = 300;
  std::vector<float> x(n, 2), sum(n);
  CUdeviceptr dx, dsum;
  CALL(cuMemAlloc, cuMemAlloc_v2, &dx, n * sizeof(float));
  CALL(cuMemAlloc, cuMemAlloc_v2, &dsum, n * sizeof(float));
  CALL(cuMemcpyHtoD, cuMemcpyHtoD_v2, dx, x.data(), n * sizeof(float));
  void *parameters[] = {&dx, &dx, &dsum, &n};
  CALL(cuLaunchKernel, cuLaunchKernel, add, 3, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr);
  CALL(cuMemcpyDtoH, cuMemcpyDtoH_v2, sum.data(), dsum, n * sizeof(float));
  CALL(cuMemFree, cuMemFree_v2, dx);
  CALL(cuMemFree, cuMemFree_v2, dsum);
  CALL(cuModuleUnload, cuModuleUnload, module);
  CALL(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, 0);
  dlclose(library);
  for (float s : sum)
    if (s != 4)
      return 1;
  std::printf("right\n");
}
