//===- CudaTypes.cpp - include/abi/cuda.h against NVIDIA's cuda.h -----------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// That this file compiles is the test.
//===----------------------------------------------------------------------===//
#include <gtest/gtest.h>

#ifndef SGPU_NVIDIA_HEADER

TEST(CudaTypes, AreNvidias) {
  GTEST_SKIP() << "NVIDIA's cuda.h is not installed (/usr/local/cuda/include)";
}

#else

#define SGPU_ABI_TYPES_ONLY // C functions of one name have one type
#include "abi/cuda.h"

#define __CUDA_API_VERSION_INTERNAL // declares old forms of functions, too, by the names of symbols
#include <cuda.h>

#include <type_traits>

// All enumerators and the sizes of all structures: facts.def is made of our header.
#define SAME(name)                                                                                 \
  static_assert(static_cast<long long>(sgpu::abi::name) == static_cast<long long>(::name));
#define SAME_SIZE(name)                                                                            \
  static_assert(sizeof(sgpu::abi::name) == sizeof(::name) &&                                       \
                alignof(sgpu::abi::name) == alignof(::name));
#include "facts.def"

#define FIELD(type, field)                                                                         \
  static_assert(offsetof(sgpu::abi::type, field) == offsetof(::type, field) &&                     \
                sizeof(sgpu::abi::type::field) == sizeof(::type::field));
#define FIELDS1(t, a) FIELD(t, a)
#define FIELDS2(t, a, b) FIELD(t, a) FIELD(t, b)
#define FIELDS3(t, a, b, c) FIELDS2(t, a, b) FIELD(t, c)
#define FIELDS4(t, a, b, c, d) FIELDS2(t, a, b) FIELDS2(t, c, d)

FIELDS1(CUuuid, bytes)
FIELDS4(CUlaunchAttributeValue, pad, cooperative, clusterDim.x, clusterDim.y)
FIELDS4(CUlaunchAttributeValue, clusterDim.z, programmaticStreamSerializationAllowed,
        programmaticEvent.event, programmaticEvent.flags)
FIELDS3(CUlaunchAttributeValue, programmaticEvent.triggerAtBlockStart, priority, sharedMemCarveout)
FIELDS3(CUlaunchAttribute, id, pad, value)
FIELDS4(CUlaunchConfig, gridDimX, gridDimY, gridDimZ, blockDimX)
FIELDS4(CUlaunchConfig, blockDimY, blockDimZ, sharedMemBytes, hStream)
FIELDS2(CUlaunchConfig, attrs, numAttrs)
FIELDS4(CUDA_KERNEL_NODE_PARAMS, func, gridDimX, gridDimY, gridDimZ)
FIELDS4(CUDA_KERNEL_NODE_PARAMS, blockDimX, blockDimY, blockDimZ, sharedMemBytes)
FIELDS4(CUDA_KERNEL_NODE_PARAMS, kernelParams, extra, kern, ctx)
FIELDS4(CUDA_MEMSET_NODE_PARAMS, dst, pitch, value, elementSize)
FIELDS2(CUDA_MEMSET_NODE_PARAMS, width, height)
FIELDS2(CUDA_HOST_NODE_PARAMS, fn, userData)
FIELDS4(CUDA_MEMCPY2D, srcXInBytes, srcY, srcMemoryType, srcHost)
FIELDS4(CUDA_MEMCPY2D, srcDevice, srcArray, srcPitch, dstXInBytes)
FIELDS4(CUDA_MEMCPY2D, dstY, dstMemoryType, dstHost, dstDevice)
FIELDS4(CUDA_MEMCPY2D, dstArray, dstPitch, WidthInBytes, Height)
FIELDS4(CUDA_MEMCPY3D, srcXInBytes, srcY, srcZ, srcLOD)
FIELDS4(CUDA_MEMCPY3D, srcMemoryType, srcHost, srcDevice, srcArray)
FIELDS4(CUDA_MEMCPY3D, reserved0, srcPitch, srcHeight, dstXInBytes)
FIELDS4(CUDA_MEMCPY3D, dstY, dstZ, dstLOD, dstMemoryType)
FIELDS4(CUDA_MEMCPY3D, dstHost, dstDevice, dstArray, reserved1)
FIELDS4(CUDA_MEMCPY3D, dstPitch, dstHeight, WidthInBytes, Height)
FIELDS1(CUDA_MEMCPY3D, Depth)
FIELDS3(CUgraphExecUpdateResultInfo, result, errorNode, errorFromNode)
FIELDS4(CUgraphEdgeData, from_port, to_port, type, reserved)
FIELDS3(CUctxCreateParams, execAffinityParams, numExecAffinityParams, cigParams)
FIELDS2(CUmemLocation, type, id)
FIELDS2(CUmemAccessDesc, location, flags)
FIELDS4(CUmemPoolProps, allocType, handleTypes, location, win32SecurityAttributes)
FIELDS3(CUmemPoolProps, maxSize, usage, reserved)
FIELDS1(CUtensorMap, opaque)

// Our declarations, read with NVIDIA's types, are NVIDIA's.
#define CUDA_FUNCTION(name, parameters)                                                            \
  static_assert(std::is_same_v<decltype(::name), CUresult CUDAAPI parameters>);
#include "abi/cuda_functions.def"

static_assert(std::is_same_v<CUdevice, sgpu::abi::CUdevice> &&
              std::is_same_v<CUdeviceptr, sgpu::abi::CUdeviceptr> &&
              std::is_same_v<cuuint32_t, sgpu::abi::cuuint32_t> &&
              sizeof(cuuint64_t) == sizeof(sgpu::abi::cuuint64_t));
static_assert(sgpu::abi::hostAllocPortable == CU_MEMHOSTALLOC_PORTABLE &&
              sgpu::abi::hostAllocDeviceMap == CU_MEMHOSTALLOC_DEVICEMAP &&
              sgpu::abi::hostAllocWriteCombined == CU_MEMHOSTALLOC_WRITECOMBINED);

TEST(CudaTypes, AreNvidias) { // what is no constant expression
  auto same = [](const void *ours, const void *theirs) { EXPECT_EQ(ours, theirs); };
  same(sgpu::abi::streamLegacy, CU_STREAM_LEGACY);
  same(sgpu::abi::streamPerThread, CU_STREAM_PER_THREAD);
  same(sgpu::abi::launchParamEnd, CU_LAUNCH_PARAM_END);
  same(sgpu::abi::launchParamBufferPointer, CU_LAUNCH_PARAM_BUFFER_POINTER);
  same(sgpu::abi::launchParamBufferSize, CU_LAUNCH_PARAM_BUFFER_SIZE);
}

#endif
