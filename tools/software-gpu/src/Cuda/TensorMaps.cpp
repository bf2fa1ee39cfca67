//===- TensorMaps.cpp - Tensor maps for kernels ------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"
#include "Machine/Async/TensorMap.h"

#include <algorithm>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace sgpu::abi;

static void refuseTensorMap(const char *name, const std::string &why) {
  Driver::get().reporter.add(
      Report{.check = Check::Argument, .message = why, .place = callPlace(name)});
  fail(CUDA_ERROR_INVALID_VALUE);
}

CUresult abi::cuTensorMapEncodeTiled(CUtensorMap *tensorMap, CUtensorMapDataType tensorDataType,
                                     cuuint32_t tensorRank, void *globalAddress,
                                     const cuuint64_t *globalDim, const cuuint64_t *globalStrides,
                                     const cuuint32_t *boxDim, const cuuint32_t *elementStrides,
                                     CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                     CUtensorMapL2promotion l2Promotion,
                                     CUtensorMapFloatOOBfill oobFill) {
  return call([&](Driver &driver, Lock &) {
    const char *name = "cuTensorMapEncodeTiled";
    require(tensorMap);
    if (reinterpret_cast<uint64_t>(tensorMap) % TensorMap::encodedAlignment)
      refuseTensorMap(name, "tensorMap is not aligned to 64 bytes");
    if (tensorRank < 1 || tensorRank > TensorMap::maxRank)
      refuseTensorMap(name, "tensorRank " + std::to_string(tensorRank) + " is not 1 to 5");
    if (!globalDim || !boxDim || !elementStrides || (tensorRank > 1 && !globalStrides))
      refuseTensorMap(name, "globalDim, globalStrides, boxDim or elementStrides is null");
    TensorMap map;
    map.type = TensorMapType(std::min(unsigned(tensorDataType), 255u));
    map.rank = tensorRank;
    map.address = reinterpret_cast<uint64_t>(globalAddress);
    for (uint32_t d = 0; d < tensorRank; ++d) {
      map.extent[d] = globalDim[d];
      map.box[d] = boxDim[d];
      map.elementStride[d] = elementStrides[d];
      if (d)
        map.stride[d] = globalStrides[d - 1];
    }
    map.interleave = unsigned(interleave);
    map.swizzle = unsigned(swizzle);
    map.l2Promotion = unsigned(l2Promotion);
    map.oobFill = unsigned(oobFill);
    std::string why = map.check(driver.devices.front()->chip->capability);
    if (!why.empty())
      refuseTensorMap(name, why);
    map.stride[0] = bytesOf(map.type);
    map.encode(tensorMap);
  });
}

CUresult abi::cuTensorMapReplaceAddress(CUtensorMap *tensorMap, void *globalAddress) {
  return call([&](Driver &, Lock &) {
    const char *name = "cuTensorMapReplaceAddress";
    TensorMap map;
    if (!tensorMap || !TensorMap::decode(tensorMap, map))
      refuseTensorMap(name, "tensorMap was not made by cuTensorMapEncodeTiled");
    if (!globalAddress || reinterpret_cast<uint64_t>(globalAddress) % 16)
      refuseTensorMap(name, "globalAddress is null or not a multiple of 16 bytes");
    map.address = reinterpret_cast<uint64_t>(globalAddress);
    map.encode(tensorMap);
  });
}
