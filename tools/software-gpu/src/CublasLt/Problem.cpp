//===- Problem.cpp - The rules of cublasLtMatmul, and its algorithms -*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Source of the rules: the documentation of cuBLAS 13, tables of cublasLtMatmul().
//===----------------------------------------------------------------------===//
#include "CublasLt/Problem.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sgpu::cublaslt {
using namespace abi;

std::optional<Element> elementOf(int32_t type) {
  switch (type) {
  case CUDA_R_16F:
    return Element::F16;
  case CUDA_R_16BF:
    return Element::BF16;
  case CUDA_R_32F:
    return Element::F32;
  case CUDA_R_64F:
    return Element::F64;
  case CUDA_R_8I:
    return Element::S8;
  case CUDA_R_32I:
    return Element::S32;
  case CUDA_R_8F_E4M3:
    return Element::E4M3;
  case CUDA_R_8F_E5M2:
    return Element::E5M2;
  }
  return std::nullopt;
}

std::string typeName(int32_t type) {
  switch (type) {
#define NAME(name, value)                                                                          \
  case value:                                                                                      \
    return #name;
    SGPU_CUDA_DATA_TYPES(NAME)
#undef NAME
  }
  return "cudaDataType " + std::to_string(type);
}

static std::string shape(const Layout &l) {
  return std::to_string(l.rows) + " x " + std::to_string(l.cols);
}

/// Whether compute, scale and matrix types are a row of the tables.
static Verdict checkTypes(const MatmulDesc &desc, const int32_t (&t)[4], int capability,
                          bool &eightBit) {
  auto [a, b, c, d] = t;
  auto is8 = [](int32_t type) { return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2; };
  auto all = [&](int32_t type) { return a == type && b == type && c == type && d == type; };
  eightBit = is8(a) || is8(b);
  bool fits = false;
  int32_t scale = desc.scaleType;
  switch (desc.computeType) {
  case CUBLAS_COMPUTE_16F:
  case CUBLAS_COMPUTE_16F_PEDANTIC:
    fits = scale == CUDA_R_16F && all(CUDA_R_16F);
    break;
  case CUBLAS_COMPUTE_32I:
  case CUBLAS_COMPUTE_32I_PEDANTIC:
    fits = a == CUDA_R_8I && b == CUDA_R_8I && c == d &&
           (scale == CUDA_R_32I ? d == CUDA_R_32I : scale == CUDA_R_32F && d == CUDA_R_8I);
    break;
  case CUBLAS_COMPUTE_32F_FAST_16F:
  case CUBLAS_COMPUTE_32F_FAST_16BF:
  case CUBLAS_COMPUTE_32F_FAST_TF32:
    fits = scale == CUDA_R_32F && all(CUDA_R_32F);
    break;
  case CUBLAS_COMPUTE_64F:
  case CUBLAS_COMPUTE_64F_PEDANTIC:
    fits = scale == CUDA_R_64F && all(CUDA_R_64F);
    break;
  case CUBLAS_COMPUTE_32F:
  case CUBLAS_COMPUTE_32F_PEDANTIC:
    if (scale != CUDA_R_32F)
      break;
    if (eightBit) {
      if (capability < 89)
        return unsupported("products of 8-bit floating-point types need sm_89 or later, the "
                           "device is sm_" +
                           std::to_string(capability));
      bool wide = c == CUDA_R_16BF || c == CUDA_R_16F;
      bool fromE5M2 = a == CUDA_R_8F_E5M2 || b == CUDA_R_8F_E5M2;
      fits = is8(a) && is8(b) && !(a == CUDA_R_8F_E5M2 && b == CUDA_R_8F_E5M2) &&
             ((c == CUDA_R_32F && d == CUDA_R_32F) ||
              (wide && (d == c || d == CUDA_R_8F_E4M3 || (fromE5M2 && d == CUDA_R_8F_E5M2))));
      break;
    }
    fits = a == b && c == d &&
           ((d == CUDA_R_32F &&
             (a == CUDA_R_32F || a == CUDA_R_16F || a == CUDA_R_16BF || a == CUDA_R_8I)) ||
            (d == a && (a == CUDA_R_16F || a == CUDA_R_16BF)));
    break;
  }
  if (fits)
    return {};
  return unsupported("no product of compute type " + std::to_string(desc.computeType) + ", scale " +
                     typeName(scale) + ", A " + typeName(a) + ", B " + typeName(b) + ", C " +
                     typeName(c) + ", D " + typeName(d));
}

static Verdict checkEpilogue(const MatmulDesc &desc, Problem &problem) {
  Product &p = problem.product;
  bool known = false;
#define KNOWN(name, value) known |= desc.epilogue == value;
  SGPU_CUBLASLT_EPILOGUES(KNOWN)
#undef KNOWN
  if (!known)
    return invalid("epilogue " + std::to_string(desc.epilogue) + " does not exist");
  p.epilogue = desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT ? 0 : desc.epilogue;
  int32_t dType = problem.layouts[3].type, cType = problem.layouts[2].type;
  if (p.epilogue && (dType == CUDA_R_64F || dType == CUDA_R_32I || dType == CUDA_R_8I))
    return unsupported("epilogue " + std::to_string(desc.epilogue) + " with D of " +
                       typeName(dType));
  if (problem.eightBit && p.epilogue & (epilogueBiasGradientA | epilogueBiasGradientB))
    return unsupported("bias gradients of A or B with 8-bit floating-point types");
  int32_t wantedBias = dType; // type of the bias
  if (problem.eightBit)
    wantedBias = dType == CUDA_R_32F ? CUDA_R_16BF : cType;
  if (p.epilogue & epilogueAnyBias) {
    int32_t type = desc.biasType == -1 ? wantedBias : desc.biasType;
    if (type != wantedBias)
      return unsupported("bias of " + typeName(type) + ", expected " + typeName(wantedBias));
    p.biasElement = *elementOf(type);
    p.biasBatchStride = desc.biasBatchStride;
    int64_t length = p.epilogue & epilogueBiasGradientB ? p.n : p.m;
    if (!(p.epilogue & epilogueBias) && p.batches > 1 && std::abs(desc.biasBatchStride) < length)
      return invalid("CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE is " +
                     std::to_string(desc.biasBatchStride) + ", the bias gradient of a batch has " +
                     std::to_string(length) + " elements: batches overlap");
    if (!desc.bias)
      return invalid("epilogue " + std::to_string(desc.epilogue) +
                     " needs CUBLASLT_MATMUL_DESC_BIAS_POINTER");
  }
  if (p.epilogue & epilogueAux) {
    if (!desc.aux)
      return invalid("epilogue " + std::to_string(desc.epilogue) +
                     " needs CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER");
    bool bits = p.epilogue & (epilogueRelu | epilogueDRelu);
    int64_t multiple = bits ? 128 : 8;
    if (desc.auxLd < p.m || desc.auxLd % multiple)
      return invalid("CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD is " + std::to_string(desc.auxLd) +
                     ", expected a multiple of " + std::to_string(multiple) + " that is at least " +
                     std::to_string(p.m) + ", the rows of D");
    if (p.batches > 1 && desc.auxBatchStride % multiple)
      return invalid("CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE is " +
                     std::to_string(desc.auxBatchStride) + ", expected a multiple of " +
                     std::to_string(multiple));
    bool written = p.epilogue & (epilogueRelu | epilogueGelu);
    if (written && p.batches > 1 && std::abs(desc.auxBatchStride) < desc.auxLd * p.n)
      return invalid("CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE is " +
                     std::to_string(desc.auxBatchStride) + ", the aux matrix of a batch spans " +
                     std::to_string(desc.auxLd * p.n) + ": batches overlap");
    int32_t type = desc.auxType == -1 ? dType : desc.auxType;
    auto element = elementOf(type);
    if (!element || (!bits && type != dType && !(problem.eightBit && *element >= Element::F16)))
      return unsupported("aux of " + typeName(type) + " with D of " + typeName(dType));
    p.auxElement = *element;
    p.auxLd = desc.auxLd;
    p.auxBatchStride = desc.auxBatchStride;
  }
  if (p.epilogue && p.d.rowMajor)
    return unsupported("epilogue " + std::to_string(desc.epilogue) + " with D in row order");
  return {};
}

/// The rules of 8-bit floating-point types.
static Verdict checkEightBit(const Problem &problem) {
  const Product &p = problem.product;
  for (const Layout &l : problem.layouts)
    if (l.order != CUBLASLT_ORDER_COL)
      return unsupported("8-bit floating-point types need matrices in column order");
  if (!p.transA || p.transB)
    return unsupported(std::string("8-bit floating-point types need A transposed and B not (TN), "
                                   "found ") +
                       (p.transA ? "T" : "N") + (p.transB ? "T" : "N"));
  const char *names = "ABCD";
  for (int i = 0; i < 4; ++i) {
    const Layout &l = problem.layouts[i];
    if (i == 2 && p.betaZero)
      continue;
    int64_t bytes = l.ld * bytesOf(*elementOf(l.type));
    if (bytes % 16)
      return unsupported(std::string("leading dimension of ") + names[i] + " is " +
                         std::to_string(bytes) +
                         " bytes, expected a multiple of 16 for 8-bit floating-point types");
  }
  if (p.k % 16 || p.m % 16)
    return unsupported("8-bit floating-point types need m and k that are multiples of 16, found " +
                       std::to_string(p.m) + " and " + std::to_string(p.k));
  return {};
}

Verdict makeProblem(const MatmulDesc &desc, const Layout &a, const Layout &b, const Layout &c,
                    const Layout &d, int capability, Problem &problem) {
  problem = Problem{};
  problem.desc = desc;
  problem.layouts[0] = a, problem.layouts[1] = b, problem.layouts[2] = c, problem.layouts[3] = d;
  Product &p = problem.product;
  int32_t types[4] = {a.type, b.type, c.type, d.type};
  if (Verdict verdict = checkTypes(desc, types, capability, problem.eightBit); !verdict)
    return verdict;
  for (int32_t op : {desc.transA, desc.transB})
    if (op < CUBLAS_OP_N || op > CUBLAS_OP_C)
      return invalid("operation " + std::to_string(op) + " does not exist");
  if (desc.transC != CUBLAS_OP_N)
    return unsupported("CUBLASLT_MATMUL_DESC_TRANSC must be CUBLAS_OP_N");
  if (desc.fillMode != CUBLAS_FILL_MODE_FULL)
    return unsupported("CUBLASLT_MATMUL_DESC_FILL_MODE must be CUBLAS_FILL_MODE_FULL");
  if (desc.pointerMode < CUBLASLT_POINTER_MODE_HOST ||
      desc.pointerMode > CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_HOST)
    return invalid("pointer mode " + std::to_string(desc.pointerMode) + " does not exist");
  if (desc.emulation)
    return unsupported("emulated floating point");
  p.transA = desc.transA != CUBLAS_OP_N;
  p.transB = desc.transB != CUBLAS_OP_N;
  p.alphaVector = desc.pointerMode >= CUBLASLT_POINTER_MODE_DEVICE_VECTOR;
  p.betaVector = desc.pointerMode == CUBLASLT_POINTER_MODE_DEVICE_VECTOR;
  p.betaZero = desc.pointerMode == CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_ZERO;
  p.alphaBatchStride = desc.alphaVectorBatchStride;

  const char *names = "ABCD";
  Matrix *matrices[4] = {&p.a, &p.b, &p.c, &p.d};
  for (int i = 0; i < 4; ++i) {
    const Layout &l = problem.layouts[i];
    std::string name = std::string("matrix ") + names[i];
    if (l.order != CUBLASLT_ORDER_COL && l.order != CUBLASLT_ORDER_ROW)
      return unsupported(name + " has order " + std::to_string(l.order) +
                         ", expected column (0) or row order (1)");
    if (l.batchMode != CUBLASLT_BATCH_MODE_STRIDED)
      return unsupported(name + " is a batch of pointers");
    if (l.planeOffset)
      return unsupported(name + " has a plane offset");
    if (l.rows > INT32_MAX || l.cols > INT32_MAX)
      return unsupported(name + " is " + shape(l) + ", expected at most 2^31 - 1 rows and columns");
    bool row = l.order == CUBLASLT_ORDER_ROW;
    int64_t least = int64_t(row ? l.cols : l.rows);
    if (l.ld < least)
      return invalid(name + " has leading dimension " + std::to_string(l.ld) +
                     ", expected at least " + std::to_string(least) +
                     (row ? ", its columns" : ", its rows"));
    if (l.batchCount < 1)
      return invalid(name + " has batch count " + std::to_string(l.batchCount));
    *matrices[i] = Matrix{*elementOf(l.type),
                          nullptr,
                          int64_t(l.rows),
                          int64_t(l.cols),
                          l.ld,
                          l.batchCount > 1 ? l.batchStride : 0,
                          row};
  }
  p.batches = d.batchCount;
  for (const Layout *l : {&a, &b, &c})
    if (l->batchCount != p.batches)
      return invalid("batch counts of the matrices differ: " + std::to_string(l->batchCount) +
                     " and " + std::to_string(p.batches));
  p.m = int64_t(d.rows), p.n = int64_t(d.cols);
  p.k = int64_t(p.transA ? a.rows : a.cols);
  auto wrong = [&](const char *name, const Layout &l, int64_t rows, int64_t cols) -> Verdict {
    return invalid(std::string("matrix ") + name + " is " + shape(l) + ", expected " +
                   std::to_string(rows) + " x " + std::to_string(cols) + " for D of " + shape(d) +
                   " and k of " + std::to_string(p.k));
  };
  if (int64_t(p.transA ? a.cols : a.rows) != p.m)
    return wrong("A", a, p.transA ? p.k : p.m, p.transA ? p.m : p.k);
  if (int64_t(p.transB ? b.cols : b.rows) != p.k || int64_t(p.transB ? b.rows : b.cols) != p.n)
    return wrong("B", b, p.transB ? p.n : p.k, p.transB ? p.k : p.n);
  if (c.rows != d.rows || c.cols != d.cols)
    return wrong("C", c, p.m, p.n);
  if (c.order != d.order)
    return invalid("C and D have different orders");
  // Columns (batches) of D may not lie on each other: each is written.
  if (p.batches > 1) {
    int64_t span = (p.d.rowMajor ? p.m : p.n) * d.ld;
    if (std::abs(d.batchStride) < span && p.m && p.n)
      return invalid("batches of D overlap: stride " + std::to_string(d.batchStride) +
                     " elements, a batch spans " + std::to_string(span));
  }
  p.scale = *elementOf(desc.scaleType);
  p.roundTF32 = desc.computeType == CUBLAS_COMPUTE_32F_FAST_TF32;
  p.roundBF16 = desc.computeType == CUBLAS_COMPUTE_32F_FAST_16BF;
  p.roundF16 = desc.computeType == CUBLAS_COMPUTE_32F_FAST_16F;
  struct {
    int32_t mode;
    const char *name;
  } modes[] = {{desc.scaleModeA, "A"}, {desc.scaleModeB, "B"},     {desc.scaleModeC, "C"},
               {desc.scaleModeD, "D"}, {desc.auxScaleMode, "aux"}, {desc.outScaleModeD, "D (out)"}};
  bool outer = desc.scaleModeA == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
  for (auto [mode, name] : modes) {
    bool vectorAllowed = (name[0] == 'A' || name[0] == 'B') && problem.eightBit;
    if (mode != CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F &&
        !(vectorAllowed && mode == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F))
      return unsupported(std::string("scale mode ") + std::to_string(mode) + " of " + name);
  }
  if (outer != (desc.scaleModeB == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F))
    return unsupported("scale modes of A and B must both be scalars or both be vectors");
  p.scaleARows = p.scaleBCols = outer;
  bool scales = desc.scaleA || desc.scaleB || desc.scaleC || desc.scaleD || desc.amaxD;
  if (scales && !problem.eightBit)
    return unsupported("scales and amax without 8-bit floating-point types");
  bool eightOut = bytesOf(p.d.element) == 1;
  if (problem.eightBit && !eightOut && (desc.scaleD || desc.amaxD))
    return unsupported("scale or amax of D with D of " + typeName(d.type));
  if (desc.outScaleD)
    return unsupported("CUBLASLT_MATMUL_DESC_D_OUT_SCALE_POINTER");
  if (Verdict verdict = checkEpilogue(desc, problem); !verdict)
    return verdict;
  return problem.eightBit ? checkEightBit(problem) : Verdict{};
}

std::vector<Piece> piecesOf(const Matrix &matrix, int64_t batches, uint64_t address) {
  std::vector<Piece> pieces;
  uint64_t size = bytesOf(matrix.element);
  int64_t length = matrix.rowMajor ? matrix.cols : matrix.rows;
  int64_t count = matrix.rowMajor ? matrix.rows : matrix.cols;
  if (!length || !count)
    return pieces;
  if (matrix.batchStride == 0)
    batches = 1;
  for (int64_t b = 0; b < batches; ++b) {
    uint64_t start = address + uint64_t(b * matrix.batchStride) * size;
    if (length == matrix.ld) {
      pieces.push_back({start, uint64_t(length * count) * size});
      continue;
    }
    for (int64_t j = 0; j < count; ++j)
      pieces.push_back({start + uint64_t(j * matrix.ld) * size, uint64_t(length) * size});
  }
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece &x, const Piece &y) { return x.address < y.address; });
  // Batches that lie one after the other are one piece.
  size_t kept = 0;
  for (size_t i = 1; i < pieces.size(); ++i) {
    Piece &last = pieces[kept];
    if (pieces[i].address <= last.address + last.bytes)
      last.bytes = std::max(last.bytes, pieces[i].address + pieces[i].bytes - last.address);
    else
      pieces[++kept] = pieces[i];
  }
  pieces.resize(kept + 1);
  return pieces;
}

std::optional<uint64_t> overlap(const std::vector<Piece> &a, const std::vector<Piece> &b) {
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    uint64_t from = std::max(a[i].address, b[j].address);
    uint64_t aEnd = a[i].address + a[i].bytes, bEnd = b[j].address + b[j].bytes;
    if (from < std::min(aEnd, bEnd))
      return from;
    aEnd <= bEnd ? ++i : ++j;
  }
  return std::nullopt;
}

// Best first. The numbers are ours: those of the real library mean nothing to others either.
const std::array<Kind, 3> kinds{{
    {66, CUBLASLT_MATMUL_TILE_128x256, CUBLASLT_MATMUL_STAGES_64x4, 128, 256, 16, false, true},
    {21, CUBLASLT_MATMUL_TILE_128x128, CUBLASLT_MATMUL_STAGES_64x3, 128, 128, 16, true, false},
    {6, CUBLASLT_MATMUL_TILE_64x64, CUBLASLT_MATMUL_STAGES_64x3, 64, 64, 1, true, false},
}};

const Kind *findKind(int32_t id) {
  for (const Kind &kind : kinds)
    if (kind.id == id)
      return &kind;
  return nullptr;
}

Algo makeAlgo(const Kind &kind, const int32_t (&types)[6]) {
  Algo algo{};
  algo.id = kind.id;
  algo.tile = kind.tile;
  algo.stages = kind.stages;
  algo.splitK = 1;
  algo.filled = 1;
  for (int i = 0; i < 6; ++i)
    algo.types[i] = int8_t(types[i]);
  for (int i = 0; i < 4; ++i) {
    unsigned element = bytesOf(elementOf(types[i + 2]).value_or(Element::F64));
    algo.alignment[i] = uint8_t(std::countr_zero(std::max(kind.alignment, element)));
  }
  return algo;
}

uint64_t implFlags(const Algo &algo) {
  uint64_t flags = 0;
  int32_t compute = algo.types[0], a = algo.types[2];
  bool half = compute == CUBLAS_COMPUTE_16F || compute == CUBLAS_COMPUTE_16F_PEDANTIC;
  bool integer = compute == CUBLAS_COMPUTE_32I || compute == CUBLAS_COMPUTE_32I_PEDANTIC;
  flags |= half              ? implAccumulator16F
           : integer         ? implAccumulator32I
           : a == CUDA_R_64F ? implAccumulator64F
                             : implAccumulator32F;
  switch (compute) {
  case CUBLAS_COMPUTE_32F_FAST_TF32:
    return flags | implHMMA | implInputTF32;
  case CUBLAS_COMPUTE_32F_FAST_16BF:
    return flags | implHMMA | implInput16BF;
  case CUBLAS_COMPUTE_32F_FAST_16F:
    return flags | implHMMA | implInput16F;
  }
  switch (a) {
  case CUDA_R_16F:
    return flags | implHMMA | implInput16F;
  case CUDA_R_16BF:
    return flags | implHMMA | implInput16BF;
  case CUDA_R_8F_E4M3:
    return flags | implHMMA | implInputE4M3;
  case CUDA_R_8F_E5M2:
    return flags | implHMMA | implInputE5M2;
  case CUDA_R_64F:
    return flags | implDMMA | implInput64F;
  case CUDA_R_8I:
    return flags | implIMMA | implInput8I;
  default:
    return flags | implFMA | implInput32F;
  }
}

unsigned keptAlignment(const Layout &layout, unsigned promised) {
  uint64_t size = bytesOf(elementOf(layout.type).value_or(Element::F64));
  uint64_t bits = 256 | promised;
  uint64_t count = layout.order == CUBLASLT_ORDER_ROW ? layout.rows : layout.cols;
  if (count > 1)
    bits |= uint64_t(layout.ld) * size;
  if (layout.batchCount > 1)
    bits |= uint64_t(layout.batchStride) * size;
  return 1u << std::countr_zero(bits);
}

static uint64_t tiles(const Problem &problem, const Kind &kind) {
  const Product &p = problem.product;
  return uint64_t((p.m + kind.rows - 1) / kind.rows) * ((p.n + kind.cols - 1) / kind.cols) *
         p.batches;
}

Verdict checkAlgo(const Problem &problem, const Algo &algo, uint64_t &workspace, float &waves) {
  const Kind *kind = findKind(algo.id);
  if (!algo.filled || !kind)
    return invalid("algorithm was not made by a heuristic or by cublasLtMatmulAlgoInit");
  int32_t types[6] = {problem.desc.computeType, problem.desc.scaleType};
  for (int i = 0; i < 4; ++i)
    types[i + 2] = problem.layouts[i].type;
  for (int i = 0; i < 6; ++i)
    if (algo.types[i] != types[i])
      return invalid("algorithm was made for other types");
  if (algo.tile != kind->tile || (algo.stages && algo.stages != kind->stages))
    return unsupported("algorithm " + std::to_string(algo.id) + " has no such tile or stages");
  if (algo.splitK < 0 || algo.splitK > 64 || (algo.splitK > 1 && !kind->splitK))
    return unsupported("algorithm " + std::to_string(algo.id) + " with k split in " +
                       std::to_string(algo.splitK));
  bool split = algo.splitK > 1;
  if (split && algo.reductionScheme != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE &&
      algo.reductionScheme != CUBLASLT_REDUCTION_SCHEME_INPLACE)
    return unsupported("k split in parts needs CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE or INPLACE");
  const char *names = "ABCD";
  for (int i = 0; i < 4; ++i) {
    unsigned element = bytesOf(*elementOf(problem.layouts[i].type));
    unsigned needed = std::max(kind->alignment, element);
    unsigned kept = keptAlignment(problem.layouts[i], 1u << algo.alignment[i]);
    if (kept < needed)
      return unsupported("algorithm " + std::to_string(algo.id) + " needs columns and batches of " +
                         std::string(1, names[i]) + " at multiples of " + std::to_string(needed) +
                         " bytes, the layout gives " + std::to_string(kept));
  }
  workspace = 0;
  if (kind->counters)
    workspace = tiles(problem, *kind) * 256;
  if (split && algo.reductionScheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
    workspace = (problem.outputBytes() * uint64_t(algo.splitK) + 255) / 256 * 256;
  waves = float(tiles(problem, *kind) * uint64_t(std::max(1, algo.splitK))) / 132.0f;
  return {};
}

std::vector<MatmulHeuristicResult> search(const Problem &problem, const Preference &preference,
                                          std::optional<int32_t> only) {
  std::vector<MatmulHeuristicResult> results;
  const Product &p = problem.product;
  int32_t types[6] = {problem.desc.computeType, problem.desc.scaleType};
  for (int i = 0; i < 4; ++i)
    types[i + 2] = problem.layouts[i].type;
  // Parts of k, and how they are summed up.
  constexpr std::pair<int32_t, int32_t> ways[] = {{4, CUBLASLT_REDUCTION_SCHEME_INPLACE},
                                                  {4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE},
                                                  {2, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE},
                                                  {1, CUBLASLT_REDUCTION_SCHEME_NONE}};
  for (const Kind &kind : kinds)
    for (auto [splitK, scheme] : ways) {
      if (only && *only != kind.id)
        continue;
      if (splitK > 1 && (!kind.splitK || p.k < 256 * splitK))
        continue;
      Algo algo = makeAlgo(kind, types);
      algo.splitK = splitK;
      algo.reductionScheme = scheme;
      if (p.epilogue & epilogueAnyBias)
        algo.biasAlignment = uint8_t(std::min(4, std::countr_zero(problem.desc.bias)));
      if (splitK > 1 && !(preference.reductionMask & uint32_t(algo.reductionScheme)))
        continue;
      if (!(preference.implMask & implFlags(algo)))
        continue;
      bool aligned = true;
      for (int i = 0; i < 4; ++i) { // what the caller promises
        unsigned promised = std::clamp(preference.minAlignment[i], 1u, 256u);
        promised = 1u << std::countr_zero(promised);
        aligned &= promised >= 1u << algo.alignment[i];
        algo.alignment[i] = uint8_t(std::countr_zero(promised));
      }
      MatmulHeuristicResult result{};
      uint64_t workspace;
      if (!aligned || !checkAlgo(problem, algo, workspace, result.wavesCount) ||
          workspace > preference.maxWorkspace ||
          (preference.maxWaves > 0 && result.wavesCount > preference.maxWaves))
        continue;
      std::memcpy(&result.algo, &algo, sizeof algo);
      result.workspaceSize = workspace;
      result.state = CUBLAS_STATUS_SUCCESS;
      results.push_back(result);
    }
  return results;
}

} // namespace sgpu::cublaslt
