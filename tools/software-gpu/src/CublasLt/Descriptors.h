//===- Descriptors.h - The opaque structures of libcublasLt ---------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What our bytes behind the opaque structures mean, and the attributes that can be read and set.
// Sizes, defaults and refusals of attributes are those of the real library; values are not looked
// at before they are used, as there.
//===----------------------------------------------------------------------===//
#ifndef SGPU_CUBLASLT_DESCRIPTORS_H
#define SGPU_CUBLASLT_DESCRIPTORS_H

#include "abi/cublaslt.h"

#include <span>

namespace sgpu::cublaslt {

struct Layout {
  int32_t type = 0, order = abi::CUBLASLT_ORDER_COL;
  uint64_t rows = 0, cols = 0;
  int64_t ld = 0;
  int32_t batchCount = 1, batchMode = 0;
  int64_t batchStride = 0, planeOffset = 0; ///< in elements
};
static_assert(sizeof(Layout) <= abi::layoutBytes);

struct MatmulDesc {
  int32_t computeType = 0, scaleType = 0, pointerMode = 0, transA = 0, transB = 0, transC = 0;
  int32_t fillMode = abi::CUBLAS_FILL_MODE_FULL, epilogue = abi::CUBLASLT_EPILOGUE_DEFAULT;
  uint64_t bias = 0;
  int64_t biasBatchStride = 0;
  uint64_t aux = 0;
  int64_t auxLd = 0, auxBatchStride = 0, alphaVectorBatchStride = 0;
  int32_t smCountTarget = 0, reserved16 = 0;
  uint64_t scaleA = 0, scaleB = 0, scaleC = 0, scaleD = 0, amaxD = 0, auxScale = 0, auxAmax = 0;
  int32_t auxType = -1, biasType = -1; ///< -1: chosen from the other types
  uint8_t fastAccumulation = 0;
  int32_t scaleModeA = 0, scaleModeB = 0, scaleModeC = 0, scaleModeD = 0, auxScaleMode = 0,
          outScaleModeD = 0;
  uint64_t outScaleD = 0, emulation = 0;
};
static_assert(sizeof(MatmulDesc) <= abi::descBytes);

struct TransformDesc {
  int32_t scaleType = 0, pointerMode = 0, transA = 0, transB = 0;
};
static_assert(sizeof(TransformDesc) <= abi::transformBytes);

struct Preference {
  uint64_t maxWorkspace = 0, implMask = ~uint64_t(0);
  int32_t searchMode = 0;
  uint32_t reductionMask = abi::CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t minAlignment[4] = {256, 256, 256, 256}; ///< of A, B, C, D in bytes
  float maxWaves = 0;                              ///< 0: no limit
};
static_assert(sizeof(Preference) <= abi::preferenceBytes);

struct EmulationDesc {
  int32_t strategy = 0, specialValues = 0xffff, mantissaControl = 0, maxMantissaBits = 0,
          mantissaOffset = 0;
  uint64_t mantissaCount = 0;
};
static_assert(sizeof(EmulationDesc) <= abi::emulationBytes);

/// An algorithm: all zero until cublasLtMatmulAlgoInit or a heuristic fills it.
struct Algo {
  int32_t id, tile, splitK, reductionScheme, swizzling, customOption, stages;
  uint16_t innerShape, clusterShape, reserved10;
  uint8_t alignment[4];  ///< promised for A, B, C, D: log2 of the bytes
  int8_t types[6];       ///< compute, scale, A, B, C, D
  uint8_t filled;        ///< 1: it was made by the library
  uint8_t biasAlignment; ///< of the bias pointer when it was chosen: log2 of the bytes, at most 4
};
static_assert(sizeof(Algo) <= abi::algoBytes);

/// An attribute: where its value is in the structure.
struct Attribute {
  int32_t id;
  uint16_t offset, size;
  bool readOnly = false;
  bool final = false; ///< once it is -1 it cannot be set again: NOT_INITIALIZED
};
extern const std::span<const Attribute> layoutAttributes, descAttributes, transformAttributes,
    preferenceAttributes, emulationAttributes, configAttributes;

/// Sets and reads an attribute; the status that the library returns.
int setAttribute(std::span<const Attribute> attributes, void *object, int32_t id,
                 const void *buffer, size_t size);
int getAttribute(std::span<const Attribute> attributes, const void *object, int32_t id,
                 void *buffer, size_t size, size_t *written);

} // namespace sgpu::cublaslt

#endif
