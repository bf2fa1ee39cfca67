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
  static const CublasLt blas(
      Library({"libcublasLt.so.13", "libcublasLt.so.12"},
              "it is part of NVIDIA's CUDA toolkit and of the PyPI package nvidia-cublas; "
              "LD_LIBRARY_PATH names its folder"));
  return blas;
}

void llrt::cuda::check(cublasStatus_t status, const char *what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Failure(std::string(what) + ": " + cublasLt().cublasLtGetStatusName(status));
}
