//===- Products.h - Matrix products by cuBLASLt -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_PRODUCTS_H
#define LLRT_CUDA_PRODUCTS_H

#include "llrt/Kernels.h"
#include "src/Cuda/CublasLt.h"

#include <array>
#include <map>

namespace llrt::cuda {

// The matrix products of a rank: for each description what cuBLASLt needs, made when it is
// first asked for. One thread calls all functions, in the context of the rank's GPU.
class Products {
public:
  Products(); // throws Error without cuBLASLt
  ~Products();
  Products(const Products &) = delete;
  Products &operator=(const Products &) = delete;

  // llrt_gemm. Throws Failure if cuBLASLt refuses it.
  void run(CUstream stream, void *workspace, const LlrtGemm &gemm, const void *a, const void *b,
           const void *bias, void *c);

private:
  // What a choice of algorithm depends on.
  using Key = std::array<int64_t, 13>;
  struct Plan;

  Plan &plan(const LlrtGemm &gemm, const void *bias, const std::array<int64_t, 3> &alignments,
             int64_t workspaceBytes);

  cublasLtHandle_t handle = nullptr;
  std::map<Key, Plan> plans;
};

} // namespace llrt::cuda
#endif // LLRT_CUDA_PRODUCTS_H
