//===- CublasLt.h - cuBLASLt, loaded at run time ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Of the interface of libcublasLt what the runtime uses, as in Driver.h ("cuBLAS",
// docs.nvidia.com). Values are the same in versions 12 and 13.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_CUBLASLT_H
#define LLRT_CUDA_CUBLASLT_H

#include "src/Cuda/Driver.h"

namespace llrt::cuda {
// NOLINTBEGIN(readability-identifier-naming): NVIDIA's names

enum cublasStatus_t : int { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_NOT_SUPPORTED = 15 };
enum cublasOperation_t : int { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };
enum cublasComputeType_t : int { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_64F = 70 };
enum cudaDataType_t : int { CUDA_R_32F = 0, CUDA_R_64F = 1, CUDA_R_16BF = 14 };
enum cublasLtEpilogue_t : int {
  CUBLASLT_EPILOGUE_DEFAULT = 1,
  CUBLASLT_EPILOGUE_BIAS = 4,
  CUBLASLT_EPILOGUE_BGRADB = 512
};
enum cublasLtReductionScheme_t : int {
  CUBLASLT_REDUCTION_SCHEME_NONE = 0,
  CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2
};
enum cublasLtMatmulDescAttributes_t : int {
  CUBLASLT_MATMUL_DESC_TRANSA = 3,
  CUBLASLT_MATMUL_DESC_TRANSB = 4,
  CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
  CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8,
  CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26
};
enum cublasLtMatmulAlgoConfigAttributes_t : int { CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME = 3 };
enum cublasLtMatmulPreferenceAttributes_t : int {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
};

using cublasLtHandle_t = struct cublasLtContext *;
using cublasLtMatmulDesc_t = struct cublasLtMatmulDescOpaque_t *;
using cublasLtMatrixLayout_t = struct cublasLtMatrixLayoutOpaque_t *;
using cublasLtMatmulPreference_t = struct cublasLtMatmulPreferenceOpaque_t *;

struct cublasLtMatmulAlgo_t {
  uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
  int reserved[4];
};

// X(symbol, parameters); all but one return a status.
#define LLRT_CUBLASLT_FUNCTIONS(X)                                                                 \
  X(cublasLtCreate, (cublasLtHandle_t *))                                                          \
  X(cublasLtDestroy, (cublasLtHandle_t))                                                           \
  X(cublasLtMatmul,                                                                                \
    (cublasLtHandle_t, cublasLtMatmulDesc_t, const void *, const void *, cublasLtMatrixLayout_t,   \
     const void *, cublasLtMatrixLayout_t, const void *, const void *, cublasLtMatrixLayout_t,     \
     void *, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *, void *, size_t, CUstream))      \
  X(cublasLtMatrixLayoutCreate,                                                                    \
    (cublasLtMatrixLayout_t *, cudaDataType_t, uint64_t, uint64_t, int64_t))                       \
  X(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t))                                         \
  X(cublasLtMatmulDescCreate, (cublasLtMatmulDesc_t *, cublasComputeType_t, cudaDataType_t))       \
  X(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t))                                             \
  X(cublasLtMatmulDescSetAttribute,                                                                \
    (cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void *, size_t))                  \
  X(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t *))                                \
  X(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t))                                 \
  X(cublasLtMatmulPreferenceSetAttribute,                                                          \
    (cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void *, size_t))      \
  X(cublasLtMatmulAlgoCheck,                                                                       \
    (cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,       \
     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *,                 \
     cublasLtMatmulHeuristicResult_t *))                                                           \
  X(cublasLtMatmulAlgoConfigGetAttribute,                                                          \
    (const cublasLtMatmulAlgo_t *, cublasLtMatmulAlgoConfigAttributes_t, void *, size_t,           \
     size_t *))                                                                                    \
  X(cublasLtMatmulAlgoGetHeuristic,                                                                \
    (cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,       \
     cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,              \
     cublasLtMatmulHeuristicResult_t *, int *))

struct CublasLt {
  explicit CublasLt(const Library &library);

  using Result = cublasStatus_t;
  LLRT_LIBRARY_FUNCTIONS(LLRT_CUBLASLT_FUNCTIONS)
  const char *(*cublasLtGetStatusName)(cublasStatus_t) = nullptr;
  size_t (*cublasLtGetVersion)() = nullptr;
};

// The library. Throws Error if there is none.
const CublasLt &cublasLt();

// Throws Failure, `what: CUBLAS_STATUS_...`, unless `status` is success.
void check(cublasStatus_t status, const char *what);

// NOLINTEND(readability-identifier-naming)
} // namespace llrt::cuda
#endif // LLRT_CUDA_CUBLASLT_H
