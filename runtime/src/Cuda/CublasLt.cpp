//===- CublasLt.cpp - cuBLASLt, loaded at run time ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/CublasLt.h"

#include "src/Control/Control.h"
#include "src/Data/Error.h"

using namespace llrt;
using namespace llrt::cuda;

CublasLt::CublasLt(const Library &library) {
  find(library);
  library.find(cublasLtGetStatusName, "cublasLtGetStatusName");
  library.find(cublasLtGetVersion, "cublasLtGetVersion");
  const size_t version = cublasLtGetVersion();
  if (const int most = driver().version / 1000; int(version / 10000) > most)
    fail("cuBLASLt: expected one for CUDA ", most, ", as NVIDIA's driver is, got ", version / 10000,
         ".", version % 10000 / 100);
}

// The library of a major version of CUDA does not start with the driver of an earlier one.
static Library load() {
  const bool isOld = driver().version < 13000;
  std::vector<const char *> names = {"libcublasLt.so.12"};
  if (!isOld)
    names.insert(names.begin(), "libcublasLt.so.13");
  return {names,
          std::string("it is part of NVIDIA's CUDA toolkit and of the PyPI package ") +
              (isOld ? "nvidia-cublas-cu12 (the driver is one for CUDA 12)" : "nvidia-cublas") +
              "; LD_LIBRARY_PATH names its folder"};
}

const CublasLt &llrt::cuda::cublasLt() {
  static const CublasLt blas(load());
  return blas;
}

void llrt::cuda::check(cublasStatus_t status, const char *what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Failure(std::string(what) + ": " + cublasLt().cublasLtGetStatusName(status));
}
