//===- Setup.h - A matmul of a test ---------------------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_CUBLASLT_SETUP_H
#define SGPU_TEST_CUBLASLT_SETUP_H

#include "Child.h"
#include "Types.h"
#include "abi/cublaslt.h"
#include "abi/cuda.h"

#include <random>

namespace sgpu::abi {
extern "C" {
#define CUBLASLT_FUNCTION(result, name, parameters) result name parameters;
#include "abi/cublaslt_functions.def"
#undef CUBLASLT_FUNCTION
}
} // namespace sgpu::abi

namespace sgpu::test {
using namespace sgpu::abi;

inline size_t sizeOf(int type) {
  switch (type) {
  case CUDA_R_64F:
    return 8;
  case CUDA_R_32F:
  case CUDA_R_32I:
    return 4;
  case CUDA_R_16F:
  case CUDA_R_16BF:
    return 2;
  default:
    return 1;
  }
}
template <typename F> auto withType(int type, F f) {
  switch (type) {
  case CUDA_R_64F:
    return f(double());
  case CUDA_R_32F:
    return f(float());
  case CUDA_R_32I:
    return f(int32_t());
  case CUDA_R_8I:
    return f(int8_t());
  case CUDA_R_16F:
    return f(_Float16());
  case CUDA_R_16BF:
    return f(BF16());
  case CUDA_R_8F_E4M3:
    return f(E4M3());
  default:
    return f(E5M2());
  }
}
/// Half of the distance of neighbours, over the value.
inline double roundingOf(int type) {
  switch (type) {
  case CUDA_R_64F:
    return 1.2e-16;
  case CUDA_R_32F:
    return 6e-8;
  case CUDA_R_16F:
    return 0x1p-11;
  case CUDA_R_16BF:
    return 0x1p-8;
  case CUDA_R_8F_E4M3:
    return 0x1p-4;
  case CUDA_R_8F_E5M2:
    return 0x1p-3;
  default:
    return 0;
  }
}

using Bytes = std::vector<char>;
inline double get(int type, const Bytes &bytes, int64_t i) {
  return withType(type, [&]<typename T>(T x) {
    std::memcpy(&x, bytes.data() + i * int64_t(sizeof x), sizeof x);
    return double(x);
  });
}
inline void put(int type, Bytes &bytes, int64_t i, double value) {
  withType(type, [&]<typename T>(T x) {
    x = T(value);
    std::memcpy(bytes.data() + i * int64_t(sizeof x), &x, sizeof x);
    return 0;
  });
}

/// Device 0, a stream, a handle of libcublasLt; frees all.
struct Device {
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  void *handle = nullptr;
  std::vector<CUdeviceptr> memory;
  Device() {
    EXPECT_EQ(cuInit(0), 0);
    EXPECT_EQ(cuDevicePrimaryCtxRetain(&context, 0), 0);
    EXPECT_EQ(cuCtxSetCurrent(context), 0);
    EXPECT_EQ(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), 0);
    EXPECT_EQ(cublasLtCreate(&handle), 0);
  }
  ~Device() {
    for (CUdeviceptr p : memory)
      cuMemFree_v2(p);
    cuStreamDestroy_v2(stream);
    EXPECT_EQ(cublasLtDestroy(handle), 0);
  }
  char *allocate(size_t bytes) {
    CUdeviceptr p = 0;
    EXPECT_EQ(cuMemAlloc_v2(&p, bytes ? bytes : 1), 0);
    memory.push_back(p);
    return reinterpret_cast<char *>(p);
  }
  char *upload(const void *data, size_t bytes) {
    char *p = allocate(bytes);
    if (bytes)
      EXPECT_EQ(cuMemcpyHtoDAsync_v2(CUdeviceptr(p), data, bytes, stream), 0);
    return p;
  }
  char *upload(const Bytes &bytes) { return upload(bytes.data(), bytes.size()); }
  Bytes download(const void *p, size_t bytes) {
    Bytes data(bytes);
    if (bytes)
      EXPECT_EQ(cuMemcpyDtoHAsync_v2(data.data(), CUdeviceptr(p), bytes, stream), 0);
    EXPECT_EQ(cuStreamSynchronize(stream), 0);
    return data;
  }
};

/// Layout of a matrix that is freed at its end.
struct LayoutOf {
  void *layout = nullptr;
  LayoutOf(int type, int64_t rows, int64_t cols, int64_t ld, bool row = false, int batches = 1,
           int64_t stride = 0) {
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&layout, type, uint64_t(rows), uint64_t(cols), ld), 0);
    int32_t order = row ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
    set(CUBLASLT_MATRIX_LAYOUT_ORDER, order);
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t(batches));
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }
  LayoutOf(const LayoutOf &) = delete;
  ~LayoutOf() { cublasLtMatrixLayoutDestroy(layout); }
  template <typename T> void set(int attribute, T value) {
    EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof value), 0);
  }
};
struct Desc {
  void *desc = nullptr;
  Desc(int compute, int scale) { EXPECT_EQ(cublasLtMatmulDescCreate(&desc, compute, scale), 0); }
  Desc(const Desc &) = delete;
  ~Desc() { cublasLtMatmulDescDestroy(desc); }
  template <typename T> void set(int attribute, T value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value), 0)
        << attribute;
  }
};
struct Preference {
  void *preference = nullptr;
  Preference() { EXPECT_EQ(cublasLtMatmulPreferenceCreate(&preference), 0); }
  Preference(const Preference &) = delete;
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference); }
  template <typename T> void set(int attribute, T value) {
    EXPECT_EQ(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value), 0);
  }
};

} // namespace sgpu::test

#endif
