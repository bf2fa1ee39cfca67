//===- Stream.h - A stream of a GPU -----------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_STREAM_H
#define LLRT_CUDA_STREAM_H

#include "llrt/Kernels.h"
#include "src/Cuda/Driver.h"

#include <string>

namespace llrt::cuda {
class Gpu;
class Products;
class TensorMaps;
} // namespace llrt::cuda

// What compiled blocks get. Their calls put work into `handle`; they throw nothing.
struct LlrtStream {
  const llrt::cuda::Gpu *gpu;
  llrt::cuda::CUstream handle;
  llrt::cuda::Products *products; // of the rank
  llrt::cuda::TensorMaps *maps;   // of the rank
  void *workspace;        // LLRT_CUDA_WORKSPACE_BYTES of products; null: this stream has none
  std::string error;      // the first one; empty: none
  bool preparing = false; // calls make ready what they need, and leave memory as it is

  void failed(const std::string &what) {
    if (error.empty())
      error = what;
  }
};

#endif // LLRT_CUDA_STREAM_H
