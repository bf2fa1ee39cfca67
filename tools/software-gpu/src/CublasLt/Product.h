//===- Product.h - The arithmetic of cublasLtMatmul -----------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// On bytes of the host, without checks: those are in Problem.h.
//===----------------------------------------------------------------------===//
#ifndef SGPU_CUBLASLT_PRODUCT_H
#define SGPU_CUBLASLT_PRODUCT_H

#include "Support/Element.h"

#include <algorithm>
#include <utility>

namespace sgpu::cublaslt {

/// A matrix in memory; the same for each of its batches, `batchStride` elements on.
struct Matrix {
  Element element = Element::F32;
  char *data = nullptr;
  int64_t rows = 0, cols = 0, ld = 0, batchStride = 0;
  bool rowMajor = false;

  /// The element at a place, counted from the start of its batch.
  int64_t index(int64_t row, int64_t col) const {
    return rowMajor ? row * ld + col : row + col * ld;
  }
  char *batch(int64_t b) const { return data + b * batchStride * bytesOf(element); }
};

/// Bits of an epilogue.
enum : int32_t {
  epilogueRelu = 2,
  epilogueBias = 4,
  epilogueDRelu = 8,
  epilogueBiasGradient = 16,
  epilogueGelu = 32,
  epilogueDGelu = 64,
  epilogueAux = 128,
  epilogueBiasGradientA = 256,
  epilogueBiasGradientB = 512,
  epilogueAnyGradient = epilogueBiasGradient | epilogueBiasGradientA | epilogueBiasGradientB,
  epilogueAnyBias = epilogueBias | epilogueAnyGradient,
};

/// D = epilogue(alpha * scaleA * op(A) * scaleB * op(B) + beta * scaleC * C) * scaleD
struct Product {
  int64_t m = 0, n = 0, k = 0, batches = 1;
  Matrix a, b, c, d;
  bool transA = false, transB = false;
  bool roundTF32 = false, roundBF16 = false, roundF16 = false; ///< inputs of f32 are rounded first
  Element scale = Element::F32; ///< of alpha and beta: F32, F64, F16, S32
  const char *alpha = nullptr, *beta = nullptr;
  /// One alpha (beta) for each row of D instead of one for all; elements from batch to batch.
  bool alphaVector = false, betaVector = false, betaZero = false;
  int64_t alphaBatchStride = 0;
  int splitK = 1;       ///< parts of k that are summed apart
  bool inPlace = false; ///< each is added to D, rounded to f32, when it is ready
  uint32_t rotated = 0; ///< which of them is the first then; the others follow in their order
  int64_t parts() const { return std::min<int64_t>(splitK, k); } ///< that are not empty
  /// The range of k whose sum is the s-th that is added.
  std::pair<int64_t, int64_t> part(int64_t s) const {
    int64_t number = (s + rotated) % parts();
    return {k * number / parts(), k * (number + 1) / parts()};
  }

  int32_t epilogue = 0;
  Element biasElement = Element::F32, auxElement = Element::F32;
  char *bias = nullptr, *aux = nullptr;
  int64_t biasBatchStride = 0, auxLd = 0, auxBatchStride = 0; ///< aux of RELU: in bits

  const char *scaleA = nullptr, *scaleB = nullptr, *scaleC = nullptr, *scaleD = nullptr,
             *auxScale = nullptr;              ///< f32; null: 1
  bool scaleARows = false, scaleBCols = false; ///< one for each row of op(A), column of op(B)
  char *amaxD = nullptr, *auxAmax = nullptr;   ///< f32
};

/// Whether some beta is not 0.
bool readsC(const Product &product);
/// Computes D and what the epilogue writes. Sums in f32 (f64 for f64 and integers).
void multiply(const Product &product);

/// C (m x n) = op(A) * op(B), all by columns, C without gaps: what is used where OpenBLAS is not. Every
/// element is one sum, k rising.
template <typename Real>
void blockedProduct(bool transA, bool transB, int64_t m, int64_t n, int64_t k, const Real *a,
                    int64_t lda, const Real *b, int64_t ldb, Real *c);

/// C = alpha * op(A) + beta * op(B). Matrices of equal shape after op; alpha and beta as f64.
void transform(const Matrix &a, bool transA, double alpha, const Matrix &b, bool transB,
               double beta, const Matrix &c, int64_t batches);

/// tanh form of GELU and its derivative.
double gelu(double x);
double geluDerivative(double x);

} // namespace sgpu::cublaslt

#endif
