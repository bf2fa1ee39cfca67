//===- CudaTest.h - A context and kernels for tests of the driver --*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Two devices of 16 MiB. What is reported makes the process end with status 86; a test that wants a
// report runs in a process of its own (REPORTED), and so does its twin (CLEAN).
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_CUDATEST_H
#define SGPU_TEST_CUDATEST_H

#include "abi/cuda.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace sgpu::cudatest {

using namespace sgpu::abi;

#define OK(call) ASSERT_EQ(call, CUDA_SUCCESS)
#define FAILS(code, call) EXPECT_EQ(call, code)

/// Ends a process of its own with status 1 if the call fails.
inline void must(CUresult result, const char *text) {
  if (result == CUDA_SUCCESS)
    return;
  const char *name = "?";
  cuGetErrorName(result, &name);
  std::fprintf(stderr, "%s: %s\n", text, name);
  std::exit(1);
}
#define MUST(call) must(call, #call)
/// Inside of REPORTED and CLEAN.
#define WANT(condition)                                                                            \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      std::fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);                         \
      std::exit(1);                                                                                \
    }                                                                                              \
  } while (0)

/// A function without arguments (the last argument) runs alone, with a context, in a process that
/// must end with a report whose text matches: REPORTED; without any report: CLEAN. ..._WITH sets
/// SOFTWARE_GPU_COMPLETION.
#define ALONE(completion, status, text, ...)                                                       \
  EXPECT_EXIT(                                                                                     \
      {                                                                                            \
        setenv("SOFTWARE_GPU_COMPLETION", completion, 1);                                          \
        begin();                                                                                   \
        (__VA_ARGS__)();                                                                           \
        std::exit(0);                                                                              \
      },                                                                                           \
      testing::ExitedWithCode(status), text)
#define REPORTED_WITH(completion, text, ...) ALONE(completion, 86, text, __VA_ARGS__)
#define CLEAN_WITH(completion, ...) ALONE(completion, 0, "", __VA_ARGS__)
#define REPORTED(text, ...) REPORTED_WITH("late", text, __VA_ARGS__)
#define CLEAN(...) CLEAN_WITH("late", __VA_ARGS__)

/// Kernels: fill(p, value, n): n words; increment(p, n): each word one more; wild(p): writes 1 MiB
/// past p; cluster(p): 100 times blocks of the cluster plus rank, for each block; backwards(p): 64
/// threads, through dynamic shared memory; counter(p): the words of variables `counter`, `fixed`.
extern const char *const kernels;

inline CUcontext begin() {
  CUcontext context;
  MUST(cuInit(0));
  MUST(cuDevicePrimaryCtxRetain(&context, 0));
  MUST(cuCtxSetCurrent(context));
  return context;
}

inline CUfunction kernel(const char *name, CUmodule *module = nullptr) {
  static CUmodule loaded;
  if (!loaded)
    MUST(cuModuleLoadData(&loaded, kernels));
  if (module)
    *module = loaded;
  CUfunction f;
  MUST(cuModuleGetFunction(&f, loaded, name));
  return f;
}

inline CUresult launch(CUfunction f, unsigned blocks, unsigned threads, CUstream stream,
                       std::vector<void *> parameters) {
  return cuLaunchKernel(f, blocks, 1, 1, threads, 1, 1, 0, stream, parameters.data(), nullptr);
}
inline CUresult fill(CUdeviceptr p, unsigned value, unsigned n, CUstream stream = nullptr) {
  return launch(kernel("fill"), (n + 63) / 64, 64, stream, {&p, &value, &n});
}
inline CUresult increment(CUdeviceptr p, unsigned n, CUstream stream = nullptr) {
  return launch(kernel("increment"), (n + 63) / 64, 64, stream, {&p, &n});
}

/// Words in device memory.
struct Words {
  CUdeviceptr p = 0;
  unsigned n;
  explicit Words(unsigned n) : n(n) { MUST(cuMemAlloc_v2(&p, n * 4)); }
  ~Words() { cuMemFree_v2(p); }
  std::vector<unsigned> get() const {
    std::vector<unsigned> v(n);
    MUST(cuMemcpyDtoH_v2(v.data(), p, n * 4));
    return v;
  }
};

inline std::vector<unsigned> all(unsigned n, unsigned value) {
  return std::vector<unsigned>(n, value);
}

/// Tests in the process of the test program: the primary context of device 0 is current.
class Cuda : public testing::Test {
protected:
  void SetUp() override {
    context = begin();
    ASSERT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
  }
  void TearDown() override {
    EXPECT_EQ(cuCtxSetCurrent(context), CUDA_SUCCESS);
    EXPECT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
    // One reference stays: the module of `kernel` lives until the end.
    static bool first = true;
    if (!first)
      EXPECT_EQ(cuDevicePrimaryCtxRelease_v2(0), CUDA_SUCCESS);
    first = false;
  }
  CUcontext context = nullptr;
};

} // namespace sgpu::cudatest

#endif
