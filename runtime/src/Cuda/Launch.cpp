//===- Launch.cpp - Kernels of compiled blocks ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/Launch.h"

#include "src/Control/Control.h"
#include "src/Cuda/Gpu.h"
#include "src/Cuda/Stream.h"

#include <stdexcept>

using namespace llrt;
using namespace llrt::cuda;

static CUtensorMapDataType dataTypeOf(int64_t type) {
  switch (type) {
  case LLRT_BF16:
    return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  case LLRT_F64:
    return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
  default:
    return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  }
}

static CUtensorMapSwizzle swizzleOf(int64_t bytes) {
  return bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
         : bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
         : bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                       : CU_TENSOR_MAP_SWIZZLE_NONE;
}

CUtensorMap *TensorMaps::get(const LlrtTensorMap &map, void *address) {
  auto [entry, isNew] = made.try_emplace({&map, address});
  if (!isNew)
    return &entry->second;
  uint64_t sizes[5], strides[4];
  uint32_t box[5], steps[5];
  for (int64_t i = 0; i < map.rank; ++i) {
    sizes[i] = uint64_t(map.sizes[i]);
    box[i] = uint32_t(map.box[i]);
    steps[i] = 1;
    if (i > 0)
      strides[i - 1] = uint64_t(map.strides[i - 1]);
  }
  CUresult result = driver().cuTensorMapEncodeTiled(
      &entry->second, dataTypeOf(map.type), uint32_t(map.rank), address, sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, swizzleOf(map.swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    made.erase(entry);
    check(result, "cuTensorMapEncodeTiled");
  }
  return &entry->second;
}

static void launch(LlrtStream &stream, const Kernel &kernel, void **args) {
  const LlrtCudaKernel &code = *kernel.code;
  void *parameters[64];
  int64_t count = code.buffers + int64_t(code.map_count);
  if (count > int64_t(std::size(parameters)))
    throw Failure("more than 64 parameters");
  for (int64_t i = 0; i < code.buffers; ++i)
    // NOLINTNEXTLINE(bugprone-multi-level-implicit-pointer-conversion): the driver takes it so
    parameters[i] = &args[i];
  for (uint64_t i = 0; i < code.map_count; ++i) {
    const LlrtTensorMap &map = code.maps[i];
    parameters[code.buffers + int64_t(i)] = stream.maps->get(map, args[map.argument]);
  }
  if (stream.preparing)
    return;
  CUlaunchConfig config = {};
  config.gridDimX = unsigned(code.grid[0]);
  config.gridDimY = unsigned(code.grid[1]);
  config.gridDimZ = unsigned(code.grid[2]);
  config.blockDimX = unsigned(code.block[0]);
  config.blockDimY = unsigned(code.block[1]);
  config.blockDimZ = unsigned(code.block[2]);
  config.sharedMemBytes = unsigned(code.shared);
  config.hStream = stream.handle;
  // NOLINTNEXTLINE(bugprone-invalid-enum-default-initialization): the driver takes it so
  CUlaunchAttribute cluster = {};
  if (code.cluster[0] * code.cluster[1] * code.cluster[2] > 1) {
    cluster.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    cluster.value.clusterDim = {unsigned(code.cluster[0]), unsigned(code.cluster[1]),
                                unsigned(code.cluster[2])};
    config.attrs = &cluster;
    config.numAttrs = 1;
  }
  check(driver().cuLaunchKernelEx(&config, kernel.function, parameters, nullptr),
        "cuLaunchKernelEx");
}

void llrt_launch(LlrtStream *stream, const void *kernel, void **args) {
  const auto &code = *static_cast<const LlrtCudaKernel *>(kernel);
  try {
    const Kernel *found = stream->gpu->find(kernel);
    if (!found)
      throw Failure("not in the table of kernels");
    if (found->function) // else it is for other chips
      launch(*stream, *found, args);
  } catch (const std::exception &error) {
    stream->failed(std::string("kernel ") + code.name +
                   (*code.location ? std::string(" (") + code.location + ")" : "") + ": " +
                   error.what());
  }
}
