//===- AbiTest.cpp - Our declarations against NVIDIA's --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where NVIDIA's headers are installed they are compared with ours when this is compiled.
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/CublasLt.h"
#include "src/Cuda/Driver.h"
#include "src/Cuda/NcclLibrary.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <type_traits>

#if __has_include(<cuda.h>) && __has_include(<cublasLt.h>) && __has_include(<nccl.h>)
#include <cublasLt.h>
#include <cuda.h>
#include <nccl.h>
#define HAVE_HEADERS 1
#ifdef cuEventElapsedTime // a later version has the same form
#undef cuEventElapsedTime
static auto &cuEventElapsedTime = cuEventElapsedTime_v2;
#endif
#endif

#ifdef HAVE_HEADERS
namespace {

// Two types that are passed alike: pointers, or numbers of one size.
template <typename A, typename B>
constexpr bool alike = std::is_pointer_v<A> == std::is_pointer_v<B> && sizeof(A) == sizeof(B) &&
                       std::is_floating_point_v<A> == std::is_floating_point_v<B>;

template <typename R, typename... A, typename S, typename... B>
constexpr bool sameCall(R (*)(A...), S (*)(B...)) {
  if constexpr (sizeof...(A) != sizeof...(B))
    return false;
  else
    return alike<R, S> && (alike<A, B> && ...);
}

#define SAME_CALL(name, parameters)                                                                \
  static_assert(sameCall(decltype(llrt::cuda::Driver::name){}, &::name), #name);
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
LLRT_CUDA_FUNCTIONS(SAME_CALL)
#undef SAME_CALL
#define SAME_CALL(name, parameters)                                                                \
  static_assert(sameCall(decltype(llrt::cuda::CublasLt::name){}, &::name), #name);
LLRT_CUBLASLT_FUNCTIONS(SAME_CALL)
#undef SAME_CALL
#define SAME_CALL(name, parameters)                                                                \
  static_assert(sameCall(decltype(llrt::cuda::Nccl::name){}, &::name), #name);
LLRT_NCCL_FUNCTIONS(SAME_CALL)
#undef SAME_CALL
#pragma clang diagnostic pop

#define SAME(name) static_assert(int(llrt::cuda::name) == int(::name), #name)
static_assert(offsetof(llrt::cuda::ncclConfig_t, maxCTAs) == offsetof(::ncclConfig_t, maxCTAs));
static_assert(offsetof(llrt::cuda::ncclConfig_t, splitShare) ==
              offsetof(::ncclConfig_t, splitShare));
static_assert(llrt::cuda::ncclUndefined == NCCL_CONFIG_UNDEF_INT);
SAME(CUDA_SUCCESS);
SAME(CUDA_ERROR_OUT_OF_MEMORY);
SAME(CUDA_ERROR_STUB_LIBRARY);
SAME(CUDA_ERROR_NO_DEVICE);
SAME(CUDA_ERROR_INVALID_PTX);
SAME(CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
SAME(CUDA_ERROR_NOT_READY);
SAME(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(CU_JIT_ERROR_LOG_BUFFER);
SAME(CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
SAME(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
SAME(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
SAME(CU_FUNC_ATTRIBUTE_NUM_REGS);
SAME(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
SAME(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
SAME(CU_STREAM_CAPTURE_MODE_RELAXED);
SAME(CU_MEMORYTYPE_HOST);
SAME(CU_MEMORYTYPE_DEVICE);
SAME(CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
SAME(CU_TENSOR_MAP_DATA_TYPE_FLOAT64);
SAME(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
SAME(CU_TENSOR_MAP_INTERLEAVE_NONE);
SAME(CU_TENSOR_MAP_SWIZZLE_NONE);
SAME(CU_TENSOR_MAP_SWIZZLE_32B);
SAME(CU_TENSOR_MAP_SWIZZLE_64B);
SAME(CU_TENSOR_MAP_SWIZZLE_128B);
SAME(CU_TENSOR_MAP_L2_PROMOTION_L2_128B);
SAME(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
static_assert(llrt::cuda::streamNonBlocking == CU_STREAM_NON_BLOCKING);
static_assert(llrt::cuda::eventDisableTiming == CU_EVENT_DISABLE_TIMING);
static_assert(llrt::cuda::hostAllocPortable == CU_MEMHOSTALLOC_PORTABLE);
SAME(CUBLAS_STATUS_SUCCESS);
SAME(CUBLAS_STATUS_NOT_SUPPORTED);
SAME(CUBLAS_OP_N);
SAME(CUBLAS_OP_T);
SAME(CUBLAS_COMPUTE_32F);
SAME(CUBLAS_COMPUTE_64F);
SAME(CUDA_R_32F);
SAME(CUDA_R_64F);
SAME(CUDA_R_16BF);
SAME(CUBLASLT_EPILOGUE_DEFAULT);
SAME(CUBLASLT_EPILOGUE_BIAS);
SAME(CUBLASLT_EPILOGUE_BGRADB);
SAME(CUBLASLT_REDUCTION_SCHEME_NONE);
SAME(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
SAME(CUBLASLT_MATMUL_DESC_TRANSA);
SAME(CUBLASLT_MATMUL_DESC_TRANSB);
SAME(CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE);
SAME(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
SAME(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
SAME(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
SAME(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME(ncclSuccess);
SAME(ncclInvalidUsage);
SAME(ncclInProgress);
SAME(ncclSum);
SAME(ncclMax);
SAME(ncclInt64);
SAME(ncclFloat32);
SAME(ncclFloat64);
SAME(ncclBfloat16);
#undef SAME

#define SAME_FIELD(type, field)                                                                    \
  static_assert(offsetof(llrt::cuda::type, field) == offsetof(::type, field) &&                    \
                    sizeof(llrt::cuda::type::field) == sizeof(::type::field),                      \
                #type "." #field)
#define SAME_SIZE(type)                                                                            \
  static_assert(sizeof(llrt::cuda::type) == sizeof(::type) &&                                      \
                    alignof(llrt::cuda::type) >= alignof(::type),                                  \
                #type)
SAME_SIZE(CUlaunchAttributeValue);
SAME_SIZE(CUlaunchAttribute);
SAME_FIELD(CUlaunchAttribute, value);
SAME_FIELD(CUlaunchAttributeValue, clusterDim);
SAME_SIZE(CUlaunchConfig);
SAME_FIELD(CUlaunchConfig, sharedMemBytes);
SAME_FIELD(CUlaunchConfig, hStream);
SAME_FIELD(CUlaunchConfig, attrs);
SAME_FIELD(CUlaunchConfig, numAttrs);
SAME_SIZE(CUDA_MEMCPY2D);
SAME_FIELD(CUDA_MEMCPY2D, srcMemoryType);
SAME_FIELD(CUDA_MEMCPY2D, srcDevice);
SAME_FIELD(CUDA_MEMCPY2D, srcPitch);
SAME_FIELD(CUDA_MEMCPY2D, dstMemoryType);
SAME_FIELD(CUDA_MEMCPY2D, dstDevice);
SAME_FIELD(CUDA_MEMCPY2D, dstPitch);
SAME_FIELD(CUDA_MEMCPY2D, WidthInBytes);
SAME_FIELD(CUDA_MEMCPY2D, Height);
SAME_SIZE(CUtensorMap);
static_assert(sizeof(llrt::cuda::ncclUniqueId) == sizeof(::ncclUniqueId));
SAME_SIZE(cublasLtMatmulAlgo_t);
SAME_SIZE(cublasLtMatmulHeuristicResult_t);
SAME_FIELD(cublasLtMatmulHeuristicResult_t, workspaceSize);
SAME_FIELD(cublasLtMatmulHeuristicResult_t, state);
SAME_FIELD(cublasLtMatmulHeuristicResult_t, wavesCount);

} // namespace
#endif

TEST(Abi, IsNvidias) {
#ifndef HAVE_HEADERS
  GTEST_SKIP() << "NVIDIA's headers are not installed";
#endif
}
