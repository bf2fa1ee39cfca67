//===- Launch.h - Tensor maps of launches -----------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_LAUNCH_H
#define LLRT_CUDA_LAUNCH_H

#include "llrt/Kernels.h"
#include "src/Cuda/Driver.h"

#include <map>

namespace llrt::cuda {

// The tensor maps of a rank, each made when it is first asked for. Addresses of a program
// are fixed: there are as many as its calls name.
class TensorMaps {
public:
  // `map` of the buffer at `address`. Throws Failure if the driver refuses it.
  CUtensorMap *get(const LlrtTensorMap &map, void *address);

private:
  std::map<std::pair<const LlrtTensorMap *, void *>, CUtensorMap> made;
};

} // namespace llrt::cuda
#endif // LLRT_CUDA_LAUNCH_H
