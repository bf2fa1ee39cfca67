//===- CublasLt.cpp - cuBLASLt, loaded at run time ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/CublasLt.h"

#include "src/Control/Control.h"

using namespace llrt::cuda;

CublasLt::CublasLt(const Library &library) {
  find(library);
  library.find(cublasLtGetStatusName, "cublasLtGetStatusName");
  library.find(cublasLtGetVersion, "cublasLtGetVersion");
}

const CublasLt &llrt::cuda::cublasLt() {
  // The library of a major version of CUDA does not start with the driver of an earlier one.
  std::vector<const char *> names = {"libcublasLt.so.13", "libcublasLt.so.12"};
  const bool isOld = driver().version < 13000;
  if (isOld)
    names.erase(names.begin());
  static const CublasLt blas(Library(
      names, std::string("it is part of NVIDIA's CUDA toolkit and of the PyPI package ") +
                 (isOld ? "nvidia-cublas-cu12 (the driver is one for CUDA 12)" : "nvidia-cublas") +
                 "; LD_LIBRARY_PATH names its folder"));
  return blas;
}

void llrt::cuda::check(cublasStatus_t status, const char *what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Failure(std::string(what) + ": " + cublasLt().cublasLtGetStatusName(status));
}
