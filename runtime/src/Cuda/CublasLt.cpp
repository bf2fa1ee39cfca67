//===- CublasLt.cpp - cuBLASLt, loaded at run time ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/CublasLt.h"

#include "src/Control/Control.h"
#include "src/Cuda/Library.h"

using namespace llrt::cuda;

static CublasLt load() {
  Library library({"libcublasLt.so.13", "libcublasLt.so.12"},
                  "it is part of NVIDIA's CUDA toolkit and of the PyPI package nvidia-cublas; "
                  "LD_LIBRARY_PATH names its folder");
  CublasLt blas;
#define X(name, parameters) library.find(blas.name, #name);
  LLRT_CUBLASLT_FUNCTIONS(X)
#undef X
  library.find(blas.cublasLtGetStatusName, "cublasLtGetStatusName");
  library.find(blas.cublasLtGetVersion, "cublasLtGetVersion");
  return blas;
}

const CublasLt &llrt::cuda::cublasLt() {
  static const CublasLt blas = load();
  return blas;
}

void llrt::cuda::check(cublasStatus_t status, const char *what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Failure(std::string(what) + ": " + cublasLt().cublasLtGetStatusName(status));
}
