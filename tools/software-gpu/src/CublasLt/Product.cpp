//===- Product.cpp - The arithmetic of cublasLtMatmul ---------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CublasLt/Product.h"

#include <algorithm>
#include <array>
#include <vector>

#ifdef SGPU_OPENBLAS // the Debian package has the library without its headers
extern "C" {
void cblas_sgemm(int order, int transA, int transB, int m, int n, int k, float alpha,
                 const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);
void cblas_dgemm(int order, int transA, int transB, int m, int n, int k, double alpha,
                 const double *a, int lda, const double *b, int ldb, double beta, double *c,
                 int ldc);
void openblas_set_num_threads(int threads);
int openblas_get_num_threads();
}
#endif

namespace sgpu::cublaslt {

template <typename Real>
void blockedProduct(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const Real *a, int64_t lda,
                    const Real *b, int64_t ldb, Real *c) {
  constexpr int64_t rows = 64 / sizeof(Real), cols = 4; // what one pass over k sums up
  int64_t strips = (n + cols - 1) / cols;
  std::vector<Real> right(size_t(strips * k * cols), Real(0)), left(size_t(k * rows));
  for (int64_t j = 0; j < n; ++j)
    for (int64_t p = 0; p < k; ++p)
      right[size_t((j / cols * k + p) * cols + j % cols)] = tb ? b[j + p * ldb] : b[p + j * ldb];
  for (int64_t i = 0; i < m; i += rows) {
    int64_t height = std::min(rows, m - i);
    std::fill(left.begin(), left.end(), Real(0));
    for (int64_t p = 0; p < k; ++p)
      for (int64_t r = 0; r < height; ++r)
        left[size_t(p * rows + r)] = ta ? a[p + (i + r) * lda] : a[i + r + p * lda];
    for (int64_t strip = 0; strip < strips; ++strip) {
      Real sum[cols][rows] = {};
      const Real *x = left.data(), *y = right.data() + strip * k * cols;
      for (int64_t p = 0; p < k; ++p, x += rows, y += cols)
        for (int64_t q = 0; q < cols; ++q)
          for (int64_t r = 0; r < rows; ++r)
            sum[q][r] += x[r] * y[q];
      for (int64_t q = 0; q < std::min(cols, n - strip * cols); ++q)
        std::copy_n(sum[q], height, c + i + (strip * cols + q) * m);
    }
  }
}
template void blockedProduct(bool, bool, int64_t, int64_t, int64_t, const float *, int64_t,
                             const float *, int64_t, float *);
template void blockedProduct(bool, bool, int64_t, int64_t, int64_t, const double *, int64_t,
                             const double *, int64_t, double *);

#ifdef SGPU_OPENBLAS
/// One thread while it lives: the order of sums must not depend on the machine's cores. The program
/// may use OpenBLAS too and gets its number back.
struct OneThread {
  int before = openblas_get_num_threads();
  OneThread() { openblas_set_num_threads(1); }
  ~OneThread() { openblas_set_num_threads(before); }
};
static void gemm(bool ta, bool tb, int m, int n, int k, const float *a, int lda, const float *b,
                 int ldb, float *c) {
  OneThread one;
  cblas_sgemm(102, ta ? 112 : 111, tb ? 112 : 111, m, n, k, 1, a, lda, b, ldb, 0, c, m);
}
static void gemm(bool ta, bool tb, int m, int n, int k, const double *a, int lda, const double *b,
                 int ldb, double *c) {
  OneThread one; // 102: by columns, 111: as it is, 112: transposed
  cblas_dgemm(102, ta ? 112 : 111, tb ? 112 : 111, m, n, k, 1, a, lda, b, ldb, 0, c, m);
}
#else
template <typename Real>
static void gemm(bool ta, bool tb, int m, int n, int k, const Real *a, int lda, const Real *b,
                 int ldb, Real *c) {
  blockedProduct(ta, tb, m, n, k, a, lda, b, ldb, c);
}
#endif

/// The values of one batch, columns (rows, if row-major) packed one after the other.
template <typename Real>
static std::vector<Real> pack(const Matrix &matrix, int64_t batch, const Product &product) {
  int64_t length = matrix.rowMajor ? matrix.cols : matrix.rows;
  int64_t count = matrix.rowMajor ? matrix.rows : matrix.cols;
  std::vector<Real> values(size_t(length * count));
  const char *data = matrix.batch(batch);
  bool small = bytesOf(matrix.element) == 1 && matrix.element >= Element::F16;
  std::array<float, 256> table{};
  if (small)
    for (int i = 0; i < 256; ++i)
      table[i] = smallToFloat(matrix.element, uint16_t(i));
  for (int64_t j = 0; j < count; ++j) {
    Real *to = values.data() + j * length;
    const char *from = data + j * matrix.ld * bytesOf(matrix.element);
    if (small)
      for (int64_t i = 0; i < length; ++i)
        to[i] = Real(table[uint8_t(from[i])]);
    else if (matrix.element == Element::BF16)
      for (int64_t i = 0; i < length; ++i)
        to[i] = Real(std::bit_cast<float>(uint32_t(loadAs<uint16_t>(from + 2 * i)) << 16));
    else
      for (int64_t i = 0; i < length; ++i)
        to[i] = loadElement<Real>(matrix.element, from, i);
    if (product.roundTF32)
      for (int64_t i = 0; i < length; ++i)
        to[i] = Real(roundToTF32(float(to[i])));
    if (product.roundBF16 || product.roundF16) {
      Element element = product.roundBF16 ? Element::BF16 : Element::F16;
      for (int64_t i = 0; i < length; ++i)
        to[i] = Real(smallToFloat(element, floatToSmall(element, float(to[i]))));
    }
  }
  return values;
}

/// op(A) * op(B) of one batch, column-major m x n.
template <typename Real>
static std::vector<Real> sums(const Product &p, const std::vector<Real> &a,
                              const std::vector<Real> &b) {
  std::vector<Real> result(size_t(p.m * p.n), Real(0));
  if (p.k == 0 || result.empty())
    return result;
  bool ta = p.transA != p.a.rowMajor, tb = p.transB != p.b.rowMajor;
  int lda = int(ta ? p.k : p.m), ldb = int(tb ? p.n : p.k);
  std::vector<Real> part(p.splitK > 1 ? result.size() : 0);
  for (int64_t s = 0; s < p.parts(); ++s) {
    auto [from, to] = p.part(s);
    const Real *aPart = a.data() + (ta ? from : from * lda);
    const Real *bPart = b.data() + (tb ? from * ldb : from);
    Real *c = s ? part.data() : result.data();
    gemm(ta, tb, int(p.m), int(p.n), int(to - from), aPart, lda, bPart, ldb, c);
    if (s)
      for (size_t i = 0; i < result.size(); ++i)
        result[i] = p.inPlace && p.d.element != Element::F64
                        ? Real(float(result[i]) + float(part[i]))
                        : result[i] + part[i];
  }
  return result;
}

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

double geluDerivative(double x) {
  double t = std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

/// Sum along k of each row of op(A) (`ofA`) or of each column of op(B), in the parts of the
/// product.
template <typename Real>
static void biasGradient(const Product &p, const std::vector<Real> &packed, bool ofA, char *to) {
  int64_t count = ofA ? p.m : p.n;
  bool kFirst = ofA ? p.transA != p.a.rowMajor : p.transB == p.b.rowMajor;
  for (int64_t i = 0; i < count; ++i) {
    Real sum = 0;
    for (int64_t s = 0; s < p.parts(); ++s) {
      Real part = 0;
      auto [begin, end] = p.part(s);
      for (int64_t j = begin; j < end; ++j)
        part += packed[size_t(kFirst ? j + i * p.k : i + j * count)];
      sum += part;
    }
    storeElement(p.biasElement, to, i, sum);
  }
}

template <typename Real> static void multiplyIn(const Product &p) {
  auto factor = [](const char *at, int64_t i) { return at ? loadAs<float>(at + 4 * i) : 1.0f; };
  Real amax = 0, auxMax = 0;
  Real alpha = p.alphaVector ? Real(0) : loadElement<Real>(p.scale, p.alpha, 0);
  Real beta = p.betaZero || p.betaVector ? Real(0) : loadElement<Real>(p.scale, p.beta, 0);
  for (int64_t batch = 0; batch < p.batches; ++batch) {
    std::vector<Real> a = pack<Real>(p.a, batch, p), b = pack<Real>(p.b, batch, p);
    std::vector<Real> sum = sums(p, a, b);
    char *bias = p.bias ? p.bias + batch * p.biasBatchStride * bytesOf(p.biasElement) : nullptr;
    if (p.epilogue & epilogueBiasGradientA)
      biasGradient(p, a, true, bias);
    if (p.epilogue & epilogueBiasGradientB)
      biasGradient(p, b, false, bias);
    bool bits = p.epilogue & (epilogueRelu | epilogueDRelu);
    char *aux = p.aux;
    if (aux)
      aux += bits ? batch * p.auxBatchStride / 8 : batch * p.auxBatchStride * bytesOf(p.auxElement);
    std::vector<Real> gradient(p.epilogue & epilogueBiasGradient ? size_t(p.m) : 0, Real(0));
    const char *c = p.c.data ? p.c.batch(batch) : nullptr;
    char *d = p.d.batch(batch);
    for (int64_t j = 0; j < p.n; ++j) {
      for (int64_t i = 0; i < p.m; ++i) {
        if (p.alphaVector)
          alpha = loadElement<Real>(p.scale, p.alpha, batch * p.alphaBatchStride + i);
        if (p.betaVector)
          beta = loadElement<Real>(p.scale, p.beta, batch * p.alphaBatchStride + i);
        Real value = sum[size_t(i + j * p.m)] * alpha;
        if (p.scaleA || p.scaleB)
          value *=
              Real(factor(p.scaleA, p.scaleARows ? i : 0) * factor(p.scaleB, p.scaleBCols ? j : 0));
        if (beta != Real(0)) // else C is not read: it may hold NaN
          value +=
              beta * Real(factor(p.scaleC, 0)) * loadElement<Real>(p.c.element, c, p.c.index(i, j));
        if (p.epilogue & epilogueBias)
          value += loadElement<Real>(p.biasElement, bias, i);
        if (p.epilogue & epilogueRelu) {
          if (p.epilogue & epilogueAux) {
            int64_t bit = i + j * p.auxLd;
            char mask = char(1 << (bit & 7));
            aux[bit >> 3] = char(value > 0 ? aux[bit >> 3] | mask : aux[bit >> 3] & ~mask);
          }
          value = value > 0 || std::isnan(double(value)) ? value : Real(0);
        } else if (p.epilogue & epilogueGelu) {
          if (p.epilogue & epilogueAux) {
            auxMax = std::max(auxMax, std::abs(value));
            storeElement(p.auxElement, aux, i + j * p.auxLd, value * Real(factor(p.auxScale, 0)));
          }
          value = Real(gelu(double(value)));
        } else if (p.epilogue & epilogueDRelu) {
          int64_t bit = i + j * p.auxLd;
          value = aux[bit >> 3] >> (bit & 7) & 1 ? value : Real(0);
        } else if (p.epilogue & epilogueDGelu) {
          double x =
              loadElement<double>(p.auxElement, aux, i + j * p.auxLd) * factor(p.auxScale, 0);
          value *= Real(geluDerivative(x));
        }
        if (!gradient.empty())
          gradient[size_t(i)] += value;
        amax = std::max(amax, std::abs(value));
        if (p.scaleD)
          value *= Real(factor(p.scaleD, 0));
        storeElement(p.d.element, d, p.d.index(i, j), value);
      }
    }
    for (size_t i = 0; i < gradient.size(); ++i)
      storeElement(p.biasElement, bias, int64_t(i), gradient[i]);
  }
  if (p.amaxD)
    storeElement(Element::F32, p.amaxD, 0, amax);
  if (p.auxAmax)
    storeElement(Element::F32, p.auxAmax, 0, auxMax);
}

bool readsC(const Product &p) {
  if (p.betaZero)
    return false;
  for (int64_t batch = 0; batch < p.batches; ++batch)
    for (int64_t i = 0; i < (p.betaVector ? p.m : 1); ++i)
      if (loadElement<double>(p.scale, p.beta, p.betaVector ? batch * p.alphaBatchStride + i : 0) !=
          0)
        return true;
  return false;
}

void multiply(const Product &product) {
  // Sums of products of 8-bit integers are exact in f64.
  if (product.a.element == Element::F64 || product.scale == Element::S32 ||
      product.a.element == Element::S8)
    multiplyIn<double>(product);
  else
    multiplyIn<float>(product);
}

void transform(const Matrix &a, bool transA, double alpha, const Matrix &b, bool transB,
               double beta, const Matrix &c, int64_t batches) {
  auto at = [](const Matrix &matrix, bool trans, int64_t batch, int64_t i, int64_t j) {
    return loadElement<double>(matrix.element, matrix.batch(batch),
                               trans ? matrix.index(j, i) : matrix.index(i, j));
  };
  for (int64_t batch = 0; batch < batches; ++batch)
    for (int64_t j = 0; j < c.cols; ++j)
      for (int64_t i = 0; i < c.rows; ++i) {
        double value = 0;
        if (a.data && alpha != 0)
          value += alpha * at(a, transA, batch, i, j);
        if (b.data && beta != 0)
          value += beta * at(b, transB, batch, i, j);
        storeElement(c.element, c.batch(batch), c.index(i, j), value);
      }
}

} // namespace sgpu::cublaslt
