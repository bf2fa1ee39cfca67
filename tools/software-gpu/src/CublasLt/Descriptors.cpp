//===- Descriptors.cpp - Attributes of the opaque structures --------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CublasLt/Descriptors.h"

#include <cstring>

namespace sgpu::cublaslt {
using namespace abi;

#define FIELD(structure, id, member)                                                               \
  {id, uint16_t(offsetof(structure, member)), uint16_t(sizeof(structure::member))}

static constexpr Attribute layoutTable[] = {
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_TYPE, type),
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_ORDER, order),
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_ROWS, rows),
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_COLS, cols),
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_LD, ld),
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, batchCount),
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, batchStride),
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, planeOffset),
    FIELD(Layout, CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, batchMode),
};

static constexpr Attribute descTable[] = {
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, computeType),
    {CUBLASLT_MATMUL_DESC_SCALE_TYPE, offsetof(MatmulDesc, scaleType), 4, false, true},
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_POINTER_MODE, pointerMode),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_TRANSA, transA),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_TRANSB, transB),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_TRANSC, transC),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_FILL_MODE, fillMode),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, biasBatchStride),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, auxLd),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, auxBatchStride),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_ALPHA_VECTOR_BATCH_STRIDE, alphaVectorBatchStride),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, smCountTarget),
    FIELD(MatmulDesc, 16, reserved16), // there, but not in the header
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, scaleA),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, scaleB),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_C_SCALE_POINTER, scaleC),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, scaleD),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, amaxD),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, auxType),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_POINTER, auxScale),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_AMAX_POINTER, auxAmax),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_FAST_ACCUM, fastAccumulation),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, biasType),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, scaleModeA),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, scaleModeB),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_C_SCALE_MODE, scaleModeC),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_D_SCALE_MODE, scaleModeD),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_MODE, auxScaleMode),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_D_OUT_SCALE_POINTER, outScaleD),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_D_OUT_SCALE_MODE, outScaleModeD),
    FIELD(MatmulDesc, CUBLASLT_MATMUL_DESC_EMULATION_DESCRIPTOR, emulation),
};

static constexpr Attribute transformTable[] = {
    FIELD(TransformDesc, CUBLASLT_MATRIX_TRANSFORM_DESC_SCALE_TYPE, scaleType),
    FIELD(TransformDesc, CUBLASLT_MATRIX_TRANSFORM_DESC_POINTER_MODE, pointerMode),
    FIELD(TransformDesc, CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSA, transA),
    FIELD(TransformDesc, CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSB, transB),
};

static constexpr Attribute preferenceTable[] = {
    FIELD(Preference, CUBLASLT_MATMUL_PREF_SEARCH_MODE, searchMode),
    FIELD(Preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, maxWorkspace),
    FIELD(Preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductionMask),
    FIELD(Preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, minAlignment[0]),
    FIELD(Preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, minAlignment[1]),
    FIELD(Preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, minAlignment[2]),
    FIELD(Preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, minAlignment[3]),
    FIELD(Preference, CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, maxWaves),
    FIELD(Preference, CUBLASLT_MATMUL_PREF_IMPL_MASK, implMask),
};

static constexpr Attribute emulationTable[] = {
    FIELD(EmulationDesc, CUBLASLT_EMULATION_DESC_STRATEGY, strategy),
    FIELD(EmulationDesc, CUBLASLT_EMULATION_DESC_SPECIAL_VALUES_SUPPORT, specialValues),
    FIELD(EmulationDesc, CUBLASLT_EMULATION_DESC_FIXEDPOINT_MANTISSA_CONTROL, mantissaControl),
    FIELD(EmulationDesc, CUBLASLT_EMULATION_DESC_FIXEDPOINT_MAX_MANTISSA_BIT_COUNT,
          maxMantissaBits),
    FIELD(EmulationDesc, CUBLASLT_EMULATION_DESC_FIXEDPOINT_MANTISSA_BIT_OFFSET, mantissaOffset),
    FIELD(EmulationDesc, CUBLASLT_EMULATION_DESC_FIXEDPOINT_MANTISSA_BIT_COUNT_POINTER,
          mantissaCount),
};

static constexpr Attribute configTable[] = {
    {CUBLASLT_ALGO_CONFIG_ID, offsetof(Algo, id), sizeof(Algo::id), true},
    FIELD(Algo, CUBLASLT_ALGO_CONFIG_TILE_ID, tile),
    FIELD(Algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, splitK),
    FIELD(Algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, reductionScheme),
    FIELD(Algo, CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, swizzling),
    FIELD(Algo, CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, customOption),
    FIELD(Algo, CUBLASLT_ALGO_CONFIG_STAGES_ID, stages),
    FIELD(Algo, CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, innerShape),
    FIELD(Algo, CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, clusterShape),
    FIELD(Algo, 10, reserved10), // there, but not in the header
};
#undef FIELD

const std::span<const Attribute> layoutAttributes = layoutTable, descAttributes = descTable,
                                 transformAttributes = transformTable,
                                 preferenceAttributes = preferenceTable,
                                 emulationAttributes = emulationTable,
                                 configAttributes = configTable;

static const Attribute *find(std::span<const Attribute> attributes, int32_t id) {
  for (const Attribute &attribute : attributes)
    if (attribute.id == id)
      return &attribute;
  return nullptr;
}

int setAttribute(std::span<const Attribute> attributes, void *object, int32_t id,
                 const void *buffer, size_t size) {
  const Attribute *attribute = find(attributes, id);
  if (object && attribute && attribute->final) {
    int32_t now;
    std::memcpy(&now, static_cast<char *>(object) + attribute->offset, sizeof now);
    if (now == -1)
      return CUBLAS_STATUS_NOT_INITIALIZED;
  }
  if (!object || !attribute || !buffer || size != attribute->size || attribute->readOnly)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(static_cast<char *>(object) + attribute->offset, buffer, size);
  return CUBLAS_STATUS_SUCCESS;
}

int getAttribute(std::span<const Attribute> attributes, const void *object, int32_t id,
                 void *buffer, size_t size, size_t *written) {
  const Attribute *attribute = find(attributes, id);
  if (!object || !attribute)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (size == 0) { // asks how large it is
    if (!written)
      return CUBLAS_STATUS_INVALID_VALUE;
    *written = attribute->size;
    return CUBLAS_STATUS_SUCCESS;
  }
  if (!buffer || size != attribute->size)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(buffer, static_cast<const char *>(object) + attribute->offset, size);
  if (written)
    *written = size;
  return CUBLAS_STATUS_SUCCESS;
}

} // namespace sgpu::cublaslt
