//===- Driver.h - The CUDA driver, loaded at run time -----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Of the interface of libcuda.so.1 what the runtime uses: names, values and layouts are
// NVIDIA's ("CUDA Driver API", docs.nvidia.com) and those of CUDA 12 and 13. test/unit/Cuda
// compares them with <cuda.h> where that is installed.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_DRIVER_H
#define LLRT_CUDA_DRIVER_H

#include "src/Cuda/Library.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace llrt::cuda {
// NOLINTBEGIN(readability-identifier-naming,bugprone-tagged-union-member-count): NVIDIA's names

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st *;
using CUmodule = struct CUmod_st *;
using CUfunction = struct CUfunc_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;
using CUarray = struct CUarray_st *;
using CUgraph = struct CUgraph_st *;
using CUgraphExec = struct CUgraphExec_st *;

// The results that are told apart.
enum CUresult : int {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_STUB_LIBRARY = 34,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_PTX = 218,
  CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
  CUDA_ERROR_NOT_READY = 600,
};

enum CUdevice_attribute : int {
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
};

enum CUjit_option : int {
  CU_JIT_ERROR_LOG_BUFFER = 5,
  CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6,
};

enum CUfunction_attribute : int {
  CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1,
  CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3,
  CU_FUNC_ATTRIBUTE_NUM_REGS = 4,
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
  CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED = 14,
};

enum CUlaunchAttributeID : int { CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION = 4 };

enum CUstreamCaptureMode : int { CU_STREAM_CAPTURE_MODE_RELAXED = 2 };

enum CUmemorytype : int { CU_MEMORYTYPE_HOST = 1, CU_MEMORYTYPE_DEVICE = 2 };

enum CUtensorMapDataType : int {
  CU_TENSOR_MAP_DATA_TYPE_FLOAT32 = 7,
  CU_TENSOR_MAP_DATA_TYPE_FLOAT64 = 8,
  CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9,
};
enum CUtensorMapInterleave : int { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle : int {
  CU_TENSOR_MAP_SWIZZLE_NONE = 0,
  CU_TENSOR_MAP_SWIZZLE_32B = 1,
  CU_TENSOR_MAP_SWIZZLE_64B = 2,
  CU_TENSOR_MAP_SWIZZLE_128B = 3,
};
enum CUtensorMapL2promotion : int { CU_TENSOR_MAP_L2_PROMOTION_L2_128B = 2 };
enum CUtensorMapFloatOOBfill : int { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };

// Macros in NVIDIA's header.
constexpr unsigned streamNonBlocking = 1;  // CU_STREAM_NON_BLOCKING
constexpr unsigned hostAllocPortable = 1;  // CU_MEMHOSTALLOC_PORTABLE
constexpr unsigned eventDisableTiming = 2; // CU_EVENT_DISABLE_TIMING

union alignas(8) CUlaunchAttributeValue {
  char pad[64];
  struct {
    unsigned x, y, z;
  } clusterDim;
};
struct CUlaunchAttribute {
  CUlaunchAttributeID id;
  char pad[4];
  CUlaunchAttributeValue value;
};
struct CUlaunchConfig {
  unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
  CUstream hStream;
  CUlaunchAttribute *attrs;
  unsigned numAttrs;
};
struct CUDA_MEMCPY2D {
  size_t srcXInBytes, srcY;
  CUmemorytype srcMemoryType;
  const void *srcHost;
  CUdeviceptr srcDevice;
  CUarray srcArray;
  size_t srcPitch, dstXInBytes, dstY;
  CUmemorytype dstMemoryType;
  void *dstHost;
  CUdeviceptr dstDevice;
  CUarray dstArray;
  size_t dstPitch, WidthInBytes, Height;
};
struct alignas(128) CUtensorMap {
  uint64_t opaque[16];
};

// X(symbol, parameters); a suffix _v2 is that of the symbol.
#define LLRT_CUDA_FUNCTIONS(X)                                                                     \
  X(cuGetErrorString, (CUresult, const char **))                                                   \
  X(cuGetErrorName, (CUresult, const char **))                                                     \
  X(cuInit, (unsigned))                                                                            \
  X(cuDriverGetVersion, (int *))                                                                   \
  X(cuDeviceGet, (CUdevice *, int))                                                                \
  X(cuDeviceGetCount, (int *))                                                                     \
  X(cuDeviceGetName, (char *, int, CUdevice))                                                      \
  X(cuDeviceGetAttribute, (int *, CUdevice_attribute, CUdevice))                                   \
  X(cuDevicePrimaryCtxRetain, (CUcontext *, CUdevice))                                             \
  X(cuDevicePrimaryCtxRelease_v2, (CUdevice))                                                      \
  X(cuCtxSetCurrent, (CUcontext))                                                                  \
  X(cuCtxGetStreamPriorityRange, (int *, int *))                                                   \
  X(cuCtxSynchronize, ())                                                                          \
  X(cuMemGetInfo_v2, (size_t *, size_t *))                                                         \
  X(cuMemAlloc_v2, (CUdeviceptr *, size_t))                                                        \
  X(cuMemFree_v2, (CUdeviceptr))                                                                   \
  X(cuMemHostAlloc, (void **, size_t, unsigned))                                                   \
  X(cuMemFreeHost, (void *))                                                                       \
  X(cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void *, size_t, CUstream))                           \
  X(cuMemcpyDtoHAsync_v2, (void *, CUdeviceptr, size_t, CUstream))                                 \
  X(cuMemcpyDtoDAsync_v2, (CUdeviceptr, CUdeviceptr, size_t, CUstream))                            \
  X(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *, CUstream))                                         \
  X(cuMemsetD8Async, (CUdeviceptr, unsigned char, size_t, CUstream))                               \
  X(cuModuleLoadDataEx, (CUmodule *, const void *, unsigned, CUjit_option *, void **))             \
  X(cuModuleUnload, (CUmodule))                                                                    \
  X(cuModuleGetFunction, (CUfunction *, CUmodule, const char *))                                   \
  X(cuFuncGetAttribute, (int *, CUfunction_attribute, CUfunction))                                 \
  X(cuFuncSetAttribute, (CUfunction, CUfunction_attribute, int))                                   \
  X(cuLaunchKernelEx, (const CUlaunchConfig *, CUfunction, void **, void **))                      \
  X(cuTensorMapEncodeTiled,                                                                        \
    (CUtensorMap *, CUtensorMapDataType, uint32_t, void *, const uint64_t *, const uint64_t *,     \
     const uint32_t *, const uint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,                \
     CUtensorMapL2promotion, CUtensorMapFloatOOBfill))                                             \
  X(cuStreamCreateWithPriority, (CUstream *, unsigned, int))                                       \
  X(cuStreamDestroy_v2, (CUstream))                                                                \
  X(cuStreamWaitEvent, (CUstream, CUevent, unsigned))                                              \
  X(cuStreamBeginCapture_v2, (CUstream, CUstreamCaptureMode))                                      \
  X(cuStreamEndCapture, (CUstream, CUgraph *))                                                     \
  X(cuGraphInstantiateWithFlags, (CUgraphExec *, CUgraph, unsigned long long))                     \
  X(cuGraphLaunch, (CUgraphExec, CUstream))                                                        \
  X(cuGraphDestroy, (CUgraph))                                                                     \
  X(cuGraphExecDestroy, (CUgraphExec))                                                             \
  X(cuEventCreate, (CUevent *, unsigned))                                                          \
  X(cuEventDestroy_v2, (CUevent))                                                                  \
  X(cuEventRecord, (CUevent, CUstream))                                                            \
  X(cuEventQuery, (CUevent))                                                                       \
  X(cuEventSynchronize, (CUevent))                                                                 \
  X(cuEventElapsedTime, (float *, CUevent, CUevent))

struct Driver {
  explicit Driver(const Library &library);

  using Result = CUresult;
  LLRT_LIBRARY_FUNCTIONS(LLRT_CUDA_FUNCTIONS)
  int version = 0; // 12040: 12.4
};

// The driver, initialized. Throws Error if there is none, or no GPU, or if it is older than
// CUDA 12.0.
const Driver &driver();

// `CUDA_ERROR_NOT_FOUND: named symbol not found`.
std::string errorText(CUresult result);

// Throws Failure, `what: CUDA_ERROR_...`, unless `result` is success.
void check(CUresult result, const char *what);

// NOLINTEND(readability-identifier-naming,bugprone-tagged-union-member-count)
} // namespace llrt::cuda
#endif // LLRT_CUDA_DRIVER_H
