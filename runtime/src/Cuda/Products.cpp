//===- Products.cpp - Matrix products by cuBLASLt -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// cuBLASLt takes matrices by columns. A matrix by rows is its transpose by columns, so
// C = op(A) op(B) is asked for as
//
//   C^T [n, m] = op(B)^T [n, k] * op(A)^T [k, m]
//
// whose operands lie in memory as they should: the roles of A and B change, the leading
// dimensions are the row lengths, and bias[n] is one number for each row of C^T, as the
// epilogue wants it.
//
// The same bits each time: sums over k are not split, or the parts are added in a fixed order
// (no CUBLASLT_REDUCTION_SCHEME_INPLACE), and each stream has its own workspace. Products of
// f32 are in f32: TF32 is not asked for.
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/Products.h"

#include "src/Control/Control.h"
#include "src/Cuda/Gpu.h"
#include "src/Cuda/Stream.h"

#include <algorithm>
#include <cstring>

using namespace llrt;
using namespace llrt::cuda;

struct Products::Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t left = nullptr, right = nullptr, result = nullptr;
  cublasLtMatmulHeuristicResult_t choice = {};

  Plan() = default;
  Plan(const Plan &) = delete;
  Plan &operator=(const Plan &) = delete;
  ~Plan() {
    const CublasLt &blas = cublasLt();
    for (cublasLtMatrixLayout_t layout : {left, right, result})
      if (layout)
        blas.cublasLtMatrixLayoutDestroy(layout);
    if (operation)
      blas.cublasLtMatmulDescDestroy(operation);
  }
};

Products::Products() { check(cublasLt().cublasLtCreate(&handle), "cublasLtCreate"); }

Products::~Products() {
  plans.clear();
  cublasLt().cublasLtDestroy(handle);
}

static cudaDataType_t dataTypeOf(int64_t type) {
  switch (type) {
  case LLRT_BF16:
    return CUDA_R_16BF;
  case LLRT_F64:
    return CUDA_R_64F;
  default:
    return CUDA_R_32F;
  }
}

// What cuBLASLt may count on at most.
static constexpr int64_t MostAlignment = 256;

static int64_t alignmentOf(const void *pointer) {
  auto bits = reinterpret_cast<uintptr_t>(pointer) | uintptr_t(MostAlignment);
  return int64_t(bits & (~bits + 1));
}

Products::Plan &Products::plan(const LlrtGemm &gemm, const void *bias,
                               const std::array<int64_t, 3> &alignments, int64_t workspaceBytes) {
  Key key = {gemm.type,        gemm.result_type, gemm.m,          gemm.n,          gemm.k,
             gemm.transpose_a, gemm.transpose_b, gemm.accumulate, bias != nullptr, alignments[0],
             alignments[1],    alignments[2],    workspaceBytes};
  auto [entry, isNew] = plans.try_emplace(key);
  Plan &plan = entry->second;
  if (!isNew)
    return plan;
  try {
    const CublasLt &blas = cublasLt();
    cudaDataType_t type = dataTypeOf(gemm.type), resultType = dataTypeOf(gemm.result_type);
    bool isDouble = gemm.type == LLRT_F64;
    check(blas.cublasLtMatmulDescCreate(&plan.operation,
                                        isDouble ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                        isDouble ? CUDA_R_64F : CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
      check(blas.cublasLtMatmulDescSetAttribute(plan.operation, attribute, &value, sizeof(value)),
            "cublasLtMatmulDescSetAttribute");
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, gemm.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, gemm.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    auto layout = [&](cublasLtMatrixLayout_t &into, cudaDataType_t of, int64_t rows,
                      int64_t columns) { // of the stored matrix, by columns
      check(blas.cublasLtMatrixLayoutCreate(&into, of, uint64_t(rows), uint64_t(columns), rows),
            "cublasLtMatrixLayoutCreate");
    };
    layout(plan.left, type, gemm.transpose_b ? gemm.k : gemm.n, gemm.transpose_b ? gemm.n : gemm.k);
    layout(plan.right, type, gemm.transpose_a ? gemm.m : gemm.k,
           gemm.transpose_a ? gemm.k : gemm.m);
    layout(plan.result, resultType, gemm.n, gemm.m);

    cublasLtMatmulPreference_t preference = nullptr;
    check(blas.cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(blas.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(workspaceBytes));
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(alignments[1]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t(alignments[0]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(alignments[2]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(alignments[2]));
    int found = 0;
    cublasStatus_t status = blas.cublasLtMatmulAlgoGetHeuristic(
        handle, plan.operation, plan.left, plan.right, plan.result, plan.result, preference, 1,
        &plan.choice, &found);
    blas.cublasLtMatmulPreferenceDestroy(preference);
    check(found ? status : CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
  } catch (...) {
    plans.erase(entry);
    throw;
  }
  return plan;
}

// Every row of `to` becomes `row`: each copy doubles what there is.
static void fillRows(CUstream stream, void *to, const void *row, int64_t rows, int64_t bytes) {
  copyRows(stream, to, bytes, row, bytes, 1, bytes);
  for (int64_t done = 1; done < rows; done *= 2)
    copyRows(stream, static_cast<std::byte *>(to) + done * bytes, bytes, to, bytes,
             std::min(done, rows - done), bytes);
}

void Products::run(CUstream stream, void *workspace, const LlrtGemm &gemm, const void *a,
                   const void *b, const void *bias, void *c) {
  int64_t workspaceBytes = workspace ? LLRT_CUDA_WORKSPACE_BYTES : 0;
  if (bias && gemm.type != gemm.result_type)
    throw Failure("cuBLASLt adds no bias of bf16 to f32");
  if (bias && gemm.type == LLRT_F64) {
    // cuBLASLt adds no bias to f64 either: C is the bias in every row, then the product is added.
    if (gemm.accumulate)
      throw Failure("no bias where the result is added to another, of f64");
    fillRows(stream, c, bias, gemm.m, gemm.n * int64_t(sizeof(double)));
    LlrtGemm added = gemm;
    added.accumulate = 1;
    return run(stream, workspace, added, a, b, nullptr, c);
  }
  Plan &plan =
      this->plan(gemm, bias, {alignmentOf(a), alignmentOf(b), alignmentOf(c)}, workspaceBytes);
  const CublasLt &blas = cublasLt();
  if (bias)
    check(blas.cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                              &bias, sizeof(bias)),
          "cublasLtMatmulDescSetAttribute");
  double one = 1, zero = 0;
  float oneF = 1, zeroF = 0;
  bool isDouble = gemm.type == LLRT_F64;
  const void *alpha = isDouble ? static_cast<void *>(&one) : &oneF;
  const void *beta = gemm.accumulate ? alpha : isDouble ? static_cast<void *>(&zero) : &zeroF;
  check(blas.cublasLtMatmul(handle, plan.operation, alpha, b, plan.left, a, plan.right, beta, c,
                            plan.result, c, plan.result, &plan.choice.algo, workspace,
                            size_t(workspaceBytes), stream),
        "cublasLtMatmul");
}

void llrt_gemm(LlrtStream *stream, const LlrtGemm *gemm, const void *a, const void *b,
               const void *bias, void *c) {
  try {
    stream->products->run(stream->handle, stream->workspace, *gemm, a, b, bias, c);
  } catch (const std::exception &error) {
    stream->failed("matrix product of " + std::to_string(gemm->m) + " x " +
                   std::to_string(gemm->k) + " and " + std::to_string(gemm->k) + " x " +
                   std::to_string(gemm->n) + ": " + error.what());
  }
}
