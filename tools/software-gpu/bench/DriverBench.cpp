//===- DriverBench.cpp - What calls of the libraries cost ---------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Launches, modules, copies and small products through libcuda and libcublasLt, all checks on.
//===----------------------------------------------------------------------===//
#include "abi/cublaslt.h"
#include "abi/cuda.h"

#include <benchmark/benchmark.h>
#include <cstdlib>
#include <string>
#include <vector>

namespace sgpu::abi {
extern "C" {
#define CUBLASLT_FUNCTION(result, name, parameters) result name parameters;
#include "abi/cublaslt_functions.def"
#undef CUBLASLT_FUNCTION
}
} // namespace sgpu::abi
using namespace sgpu::abi;

namespace {
void check(int result, const char *call) {
  if (!result)
    return;
  std::fprintf(stderr, "%s: error %d\n", call, result);
  std::exit(1);
}
#define CHECK(call) check(int(call), #call)

CUstream stream;
void start() {
  if (stream)
    return;
  CUcontext context;
  CHECK(cuInit(0));
  CHECK(cuDevicePrimaryCtxRetain(&context, 0));
  CHECK(cuCtxSetCurrent(context));
  CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
}

/// A kernel of about `lines` lines, such as compilers write for a row: `name` reads x, adds and multiplies, writes y.
std::string kernel(const std::string &name, int lines) {
  std::string text = R"(.version 8.0
.target sm_80
.address_size 64
.visible .entry )" + name +
                     R"((.param .u64 x, .param .u64 y, .param .u32 n)
{
  .reg .pred %p<4>; .reg .b32 %r<16>; .reg .f32 %f<64>; .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [x];
  ld.param.u64 %rd2, [y];
  ld.param.u32 %r1, [n];
  mov.u32 %r2, %tid.x;
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mad.lo.s32 %r5, %r3, %r4, %r2;
  setp.ge.s32 %p1, %r5, %r1;
  @%p1 bra END;
  mul.wide.s32 %rd3, %r5, 4;
  add.s64 %rd4, %rd1, %rd3;
  add.s64 %rd5, %rd2, %rd3;
  ld.global.f32 %f1, [%rd4];
)";
  for (int i = 0; i + 18 < lines; ++i)
    text += "  fma.rn.f32 %f" + std::to_string(2 + i % 60) + ", %f1, %f1, %f1;\n";
  return text + R"(  st.global.f32 [%rd5], %f2;
END:
  ret;
}
)";
}

/// The kernel on `threads` elements in blocks of 128; 64 launches, then one wait.
void launch(benchmark::State &state) {
  start();
  CUmodule module;
  CUfunction f;
  CUdeviceptr x, y;
  unsigned n = unsigned(state.range(0));
  CHECK(cuModuleLoadData(&module, kernel("k", 20).c_str()));
  CHECK(cuModuleGetFunction(&f, module, "k"));
  CHECK(cuMemAlloc_v2(&x, n * 4 + 4));
  CHECK(cuMemAlloc_v2(&y, n * 4 + 4));
  CHECK(cuMemsetD32_v2(x, 0, n + 1));
  CHECK(cuCtxSynchronize());
  void *parameters[] = {&x, &y, &n};
  for (auto _ : state) {
    for (int i = 0; i < 64; ++i)
      CHECK(cuLaunchKernel(f, n ? (n + 127) / 128 : 1, 1, 1, 128, 1, 1, 0, stream, parameters,
                           nullptr));
    CHECK(cuStreamSynchronize(stream));
  }
  state.counters["per_launch"] = benchmark::Counter(
      64, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  CHECK(cuMemFree_v2(x));
  CHECK(cuMemFree_v2(y));
  CHECK(cuModuleUnload(module));
}
BENCHMARK(launch)->Arg(0)->Arg(128)->Arg(1024)->Arg(65536)->Unit(benchmark::kMicrosecond);

/// 4000 launches in a stream before anybody waits.
void manyLaunches(benchmark::State &state) {
  start();
  CUmodule module;
  CUfunction f;
  CUdeviceptr x = 0, y = 0;
  unsigned n = 0;
  CHECK(cuModuleLoadData(&module, kernel("k", 20).c_str()));
  CHECK(cuModuleGetFunction(&f, module, "k"));
  void *parameters[] = {&x, &y, &n};
  for (auto _ : state) {
    for (int i = 0; i < 4000; ++i)
      CHECK(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr));
    CHECK(cuStreamSynchronize(stream));
  }
  state.counters["per_launch"] = benchmark::Counter(
      4000, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  CHECK(cuModuleUnload(module));
}
BENCHMARK(manyLaunches)->Unit(benchmark::kMillisecond);

/// Load, get the function (decode), unload.
void module(benchmark::State &state) {
  start();
  std::string text = kernel("k", int(state.range(0)));
  for (auto _ : state) {
    CUmodule module;
    CUfunction f;
    CHECK(cuModuleLoadData(&module, text.c_str()));
    CHECK(cuModuleGetFunction(&f, module, "k"));
    CHECK(cuModuleUnload(module));
  }
}
BENCHMARK(module)->Arg(20)->Arg(300)->Unit(benchmark::kMicrosecond);

/// A product of f32 matrices of size x size, with heuristic, and one wait for 16 of them.
void matmul(benchmark::State &state) {
  start();
  int n = int(state.range(0));
  void *handle, *desc, *layout, *preference;
  CHECK(cublasLtCreate(&handle));
  CHECK(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  CHECK(cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, uint64_t(n), uint64_t(n), n));
  CHECK(cublasLtMatmulPreferenceCreate(&preference));
  CUdeviceptr a, d;
  CHECK(cuMemAlloc_v2(&a, size_t(n) * n * 4));
  CHECK(cuMemAlloc_v2(&d, size_t(n) * n * 4));
  CHECK(cuMemsetD32_v2(a, 0x3f800000, size_t(n) * n));
  CHECK(cuCtxSynchronize());
  MatmulHeuristicResult best;
  int found = 0;
  CHECK(cublasLtMatmulAlgoGetHeuristic(handle, desc, layout, layout, layout, layout, preference, 1,
                                       &best, &found));
  float one = 1, zero = 0;
  auto pointer = [](CUdeviceptr p) { return reinterpret_cast<void *>(p); };
  for (auto _ : state) {
    for (int i = 0; i < 16; ++i)
      CHECK(cublasLtMatmul(handle, desc, &one, pointer(a), layout, pointer(a), layout, &zero,
                           pointer(d), layout, pointer(d), layout, &best.algo, nullptr, 0, stream));
    CHECK(cuStreamSynchronize(stream));
  }
  state.counters["per_product"] = benchmark::Counter(
      16, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  CHECK(cuMemFree_v2(a));
  CHECK(cuMemFree_v2(d));
  CHECK(cublasLtDestroy(handle));
}
BENCHMARK(matmul)->Arg(16)->Arg(64)->Arg(256)->Unit(benchmark::kMicrosecond);

/// To the device and back.
void copy(benchmark::State &state) {
  start();
  size_t bytes = size_t(state.range(0));
  std::vector<char> host(bytes);
  CUdeviceptr p;
  CHECK(cuMemAlloc_v2(&p, bytes));
  for (auto _ : state) {
    CHECK(cuMemcpyHtoDAsync_v2(p, host.data(), bytes, stream));
    CHECK(cuMemcpyDtoHAsync_v2(host.data(), p, bytes, stream));
    CHECK(cuStreamSynchronize(stream));
  }
  state.SetBytesProcessed(int64_t(2 * bytes * state.iterations()));
  CHECK(cuMemFree_v2(p));
}
BENCHMARK(copy)->Arg(4096)->Arg(1 << 20)->Unit(benchmark::kMicrosecond);
} // namespace
