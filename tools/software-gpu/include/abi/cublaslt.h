//===- cublaslt.h - Facts of the ABI of libcublasLt.so.13 ----------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names and numbers of the interface, as lists X(name, value). They are compared with NVIDIA's
// headers where those are installed (test/CublasLt/AbiTest.cpp).
//===----------------------------------------------------------------------===//
#ifndef SGPU_ABI_CUBLASLT_H
#define SGPU_ABI_CUBLASLT_H

#include <cstddef>
#include <cstdint>

namespace sgpu::abi {

#define SGPU_CUBLAS_STATUSES(X)                                                                    \
  X(CUBLAS_STATUS_SUCCESS, 0)                                                                      \
  X(CUBLAS_STATUS_NOT_INITIALIZED, 1)                                                              \
  X(CUBLAS_STATUS_ALLOC_FAILED, 3)                                                                 \
  X(CUBLAS_STATUS_INVALID_VALUE, 7)                                                                \
  X(CUBLAS_STATUS_ARCH_MISMATCH, 8)                                                                \
  X(CUBLAS_STATUS_MAPPING_ERROR, 11)                                                               \
  X(CUBLAS_STATUS_EXECUTION_FAILED, 13)                                                            \
  X(CUBLAS_STATUS_INTERNAL_ERROR, 14)                                                              \
  X(CUBLAS_STATUS_NOT_SUPPORTED, 15)                                                               \
  X(CUBLAS_STATUS_LICENSE_ERROR, 16)

#define SGPU_CUBLAS_OPERATIONS(X)                                                                  \
  X(CUBLAS_OP_N, 0)                                                                                \
  X(CUBLAS_OP_T, 1)                                                                                \
  X(CUBLAS_OP_C, 2)

#define SGPU_CUBLAS_FILL_MODES(X)                                                                  \
  X(CUBLAS_FILL_MODE_LOWER, 0)                                                                     \
  X(CUBLAS_FILL_MODE_UPPER, 1)                                                                     \
  X(CUBLAS_FILL_MODE_FULL, 2)

#define SGPU_CUBLAS_COMPUTE_TYPES(X)                                                               \
  X(CUBLAS_COMPUTE_16F, 64)                                                                        \
  X(CUBLAS_COMPUTE_16F_PEDANTIC, 65)                                                               \
  X(CUBLAS_COMPUTE_32F, 68)                                                                        \
  X(CUBLAS_COMPUTE_32F_PEDANTIC, 69)                                                               \
  X(CUBLAS_COMPUTE_32F_FAST_16F, 74)                                                               \
  X(CUBLAS_COMPUTE_32F_FAST_16BF, 75)                                                              \
  X(CUBLAS_COMPUTE_32F_FAST_TF32, 77)                                                              \
  X(CUBLAS_COMPUTE_32F_EMULATED_16BFX9, 78)                                                        \
  X(CUBLAS_COMPUTE_64F, 70)                                                                        \
  X(CUBLAS_COMPUTE_64F_PEDANTIC, 71)                                                               \
  X(CUBLAS_COMPUTE_64F_EMULATED_FIXEDPOINT, 79)                                                    \
  X(CUBLAS_COMPUTE_32I, 72)                                                                        \
  X(CUBLAS_COMPUTE_32I_PEDANTIC, 73)

#define SGPU_CUDA_DATA_TYPES(X)                                                                    \
  X(CUDA_R_16F, 2)                                                                                 \
  X(CUDA_R_16BF, 14)                                                                               \
  X(CUDA_R_32F, 0)                                                                                 \
  X(CUDA_R_64F, 1)                                                                                 \
  X(CUDA_R_8I, 3)                                                                                  \
  X(CUDA_R_8U, 8)                                                                                  \
  X(CUDA_R_32I, 10)                                                                                \
  X(CUDA_R_8F_E4M3, 28)                                                                            \
  X(CUDA_R_8F_E5M2, 29)

#define SGPU_CUBLASLT_POINTER_MODES(X)                                                             \
  X(CUBLASLT_POINTER_MODE_HOST, 0)                                                                 \
  X(CUBLASLT_POINTER_MODE_DEVICE, 1)                                                               \
  X(CUBLASLT_POINTER_MODE_DEVICE_VECTOR, 2)                                                        \
  X(CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_ZERO, 3)                                        \
  X(CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_HOST, 4)                                        \
  X(CUBLASLT_POINTER_MODE_MASK_HOST, 1)                                                            \
  X(CUBLASLT_POINTER_MODE_MASK_DEVICE, 2)                                                          \
  X(CUBLASLT_POINTER_MODE_MASK_DEVICE_VECTOR, 4)                                                   \
  X(CUBLASLT_POINTER_MODE_MASK_ALPHA_DEVICE_VECTOR_BETA_ZERO, 8)                                   \
  X(CUBLASLT_POINTER_MODE_MASK_ALPHA_DEVICE_VECTOR_BETA_HOST, 16)

#define SGPU_CUBLASLT_ORDERS(X)                                                                    \
  X(CUBLASLT_ORDER_COL, 0)                                                                         \
  X(CUBLASLT_ORDER_ROW, 1)                                                                         \
  X(CUBLASLT_ORDER_COL32, 2)                                                                       \
  X(CUBLASLT_ORDER_COL4_4R2_8C, 3)                                                                 \
  X(CUBLASLT_ORDER_COL32_2R_4R4, 4)

#define SGPU_CUBLASLT_BATCH_MODES(X)                                                               \
  X(CUBLASLT_BATCH_MODE_STRIDED, 0)                                                                \
  X(CUBLASLT_BATCH_MODE_POINTER_ARRAY, 1)

#define SGPU_CUBLASLT_SCALE_MODES(X)                                                               \
  X(CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F, 0)                                                    \
  X(CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3, 1)                                                   \
  X(CUBLASLT_MATMUL_MATRIX_SCALE_VEC32_UE8M0, 2)                                                   \
  X(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F, 3)                                                 \
  X(CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F, 4)                                                    \
  X(CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F, 5)

#define SGPU_CUBLASLT_EPILOGUES(X)                                                                 \
  X(CUBLASLT_EPILOGUE_DEFAULT, 1)                                                                  \
  X(CUBLASLT_EPILOGUE_RELU, 2)                                                                     \
  X(CUBLASLT_EPILOGUE_RELU_AUX, 130)                                                               \
  X(CUBLASLT_EPILOGUE_BIAS, 4)                                                                     \
  X(CUBLASLT_EPILOGUE_RELU_BIAS, 6)                                                                \
  X(CUBLASLT_EPILOGUE_RELU_AUX_BIAS, 134)                                                          \
  X(CUBLASLT_EPILOGUE_DRELU, 136)                                                                  \
  X(CUBLASLT_EPILOGUE_DRELU_BGRAD, 152)                                                            \
  X(CUBLASLT_EPILOGUE_GELU, 32)                                                                    \
  X(CUBLASLT_EPILOGUE_GELU_AUX, 160)                                                               \
  X(CUBLASLT_EPILOGUE_GELU_BIAS, 36)                                                               \
  X(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, 164)                                                          \
  X(CUBLASLT_EPILOGUE_DGELU, 192)                                                                  \
  X(CUBLASLT_EPILOGUE_DGELU_BGRAD, 208)                                                            \
  X(CUBLASLT_EPILOGUE_BGRADA, 256)                                                                 \
  X(CUBLASLT_EPILOGUE_BGRADB, 512)

#define SGPU_CUBLASLT_REDUCTION_SCHEMES(X)                                                         \
  X(CUBLASLT_REDUCTION_SCHEME_NONE, 0)                                                             \
  X(CUBLASLT_REDUCTION_SCHEME_INPLACE, 1)                                                          \
  X(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 2)                                                     \
  X(CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE, 4)                                                      \
  X(CUBLASLT_REDUCTION_SCHEME_MASK, 7)

#define SGPU_CUBLASLT_SEARCHES(X)                                                                  \
  X(CUBLASLT_SEARCH_BEST_FIT, 0)                                                                   \
  X(CUBLASLT_SEARCH_LIMITED_BY_ALGO_ID, 1)

#define SGPU_CUBLASLT_TILES(X)                                                                     \
  X(CUBLASLT_MATMUL_TILE_UNDEFINED, 0)                                                             \
  X(CUBLASLT_MATMUL_TILE_64x64, 15)                                                                \
  X(CUBLASLT_MATMUL_TILE_128x64, 18)                                                               \
  X(CUBLASLT_MATMUL_TILE_128x128, 20)                                                              \
  X(CUBLASLT_MATMUL_TILE_128x256, 23)

#define SGPU_CUBLASLT_STAGES(X)                                                                    \
  X(CUBLASLT_MATMUL_STAGES_UNDEFINED, 0)                                                           \
  X(CUBLASLT_MATMUL_STAGES_64x3, 15)                                                               \
  X(CUBLASLT_MATMUL_STAGES_64x4, 16)

#define SGPU_CUBLASLT_LAYOUT_ATTRIBUTES(X)                                                         \
  X(CUBLASLT_MATRIX_LAYOUT_TYPE, 0)                                                                \
  X(CUBLASLT_MATRIX_LAYOUT_ORDER, 1)                                                               \
  X(CUBLASLT_MATRIX_LAYOUT_ROWS, 2)                                                                \
  X(CUBLASLT_MATRIX_LAYOUT_COLS, 3)                                                                \
  X(CUBLASLT_MATRIX_LAYOUT_LD, 4)                                                                  \
  X(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 5)                                                         \
  X(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 6)                                                \
  X(CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, 7)                                                        \
  X(CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, 8)

#define SGPU_CUBLASLT_DESC_ATTRIBUTES(X)                                                           \
  X(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, 0)                                                          \
  X(CUBLASLT_MATMUL_DESC_SCALE_TYPE, 1)                                                            \
  X(CUBLASLT_MATMUL_DESC_POINTER_MODE, 2)                                                          \
  X(CUBLASLT_MATMUL_DESC_TRANSA, 3)                                                                \
  X(CUBLASLT_MATMUL_DESC_TRANSB, 4)                                                                \
  X(CUBLASLT_MATMUL_DESC_TRANSC, 5)                                                                \
  X(CUBLASLT_MATMUL_DESC_FILL_MODE, 6)                                                             \
  X(CUBLASLT_MATMUL_DESC_EPILOGUE, 7)                                                              \
  X(CUBLASLT_MATMUL_DESC_BIAS_POINTER, 8)                                                          \
  X(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, 10)                                                    \
  X(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, 11)                                                 \
  X(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 12)                                                      \
  X(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, 13)                                            \
  X(CUBLASLT_MATMUL_DESC_ALPHA_VECTOR_BATCH_STRIDE, 14)                                            \
  X(CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, 15)                                                      \
  X(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, 17)                                                      \
  X(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, 18)                                                      \
  X(CUBLASLT_MATMUL_DESC_C_SCALE_POINTER, 19)                                                      \
  X(CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, 20)                                                      \
  X(CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, 21)                                                       \
  X(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, 22)                                               \
  X(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_POINTER, 23)                                           \
  X(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_AMAX_POINTER, 24)                                            \
  X(CUBLASLT_MATMUL_DESC_FAST_ACCUM, 25)                                                           \
  X(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, 26)                                                       \
  X(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, 31)                                                         \
  X(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, 32)                                                         \
  X(CUBLASLT_MATMUL_DESC_C_SCALE_MODE, 33)                                                         \
  X(CUBLASLT_MATMUL_DESC_D_SCALE_MODE, 34)                                                         \
  X(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_MODE, 35)                                              \
  X(CUBLASLT_MATMUL_DESC_D_OUT_SCALE_POINTER, 36)                                                  \
  X(CUBLASLT_MATMUL_DESC_D_OUT_SCALE_MODE, 37)                                                     \
  X(CUBLASLT_MATMUL_DESC_EMULATION_DESCRIPTOR, 38)

#define SGPU_CUBLASLT_TRANSFORM_ATTRIBUTES(X)                                                      \
  X(CUBLASLT_MATRIX_TRANSFORM_DESC_SCALE_TYPE, 0)                                                  \
  X(CUBLASLT_MATRIX_TRANSFORM_DESC_POINTER_MODE, 1)                                                \
  X(CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSA, 2)                                                      \
  X(CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSB, 3)

#define SGPU_CUBLASLT_EMULATION_ATTRIBUTES(X)                                                      \
  X(CUBLASLT_EMULATION_DESC_STRATEGY, 0)                                                           \
  X(CUBLASLT_EMULATION_DESC_SPECIAL_VALUES_SUPPORT, 1)                                             \
  X(CUBLASLT_EMULATION_DESC_FIXEDPOINT_MANTISSA_CONTROL, 2)                                        \
  X(CUBLASLT_EMULATION_DESC_FIXEDPOINT_MAX_MANTISSA_BIT_COUNT, 3)                                  \
  X(CUBLASLT_EMULATION_DESC_FIXEDPOINT_MANTISSA_BIT_OFFSET, 4)                                     \
  X(CUBLASLT_EMULATION_DESC_FIXEDPOINT_MANTISSA_BIT_COUNT_POINTER, 5)

#define SGPU_CUBLASLT_PREFERENCE_ATTRIBUTES(X)                                                     \
  X(CUBLASLT_MATMUL_PREF_SEARCH_MODE, 0)                                                           \
  X(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 1)                                                   \
  X(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 3)                                                 \
  X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 5)                                                 \
  X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 6)                                                 \
  X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 7)                                                 \
  X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 8)                                                 \
  X(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, 9)                                                       \
  X(CUBLASLT_MATMUL_PREF_IMPL_MASK, 12)

#define SGPU_CUBLASLT_CAPS(X)                                                                      \
  X(CUBLASLT_ALGO_CAP_SPLITK_SUPPORT, 0)                                                           \
  X(CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK, 1)                                                    \
  X(CUBLASLT_ALGO_CAP_CTA_SWIZZLING_SUPPORT, 2)                                                    \
  X(CUBLASLT_ALGO_CAP_STRIDED_BATCH_SUPPORT, 3)                                                    \
  X(CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT, 4)                                              \
  X(CUBLASLT_ALGO_CAP_UPLO_SUPPORT, 5)                                                             \
  X(CUBLASLT_ALGO_CAP_TILE_IDS, 6)                                                                 \
  X(CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX, 7)                                                        \
  X(CUBLASLT_ALGO_CAP_CUSTOM_MEMORY_ORDER, 10)                                                     \
  X(CUBLASLT_ALGO_CAP_POINTER_MODE_MASK, 11)                                                       \
  X(CUBLASLT_ALGO_CAP_EPILOGUE_MASK, 12)                                                           \
  X(CUBLASLT_ALGO_CAP_STAGES_IDS, 13)                                                              \
  X(CUBLASLT_ALGO_CAP_LD_NEGATIVE, 14)                                                             \
  X(CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, 15)                                                    \
  X(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES, 16)                                                   \
  X(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES, 17)                                                   \
  X(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES, 18)                                                   \
  X(CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES, 19)                                                   \
  X(CUBLASLT_ALGO_CAP_POINTER_ARRAY_BATCH_SUPPORT, 21)                                             \
  X(CUBLASLT_ALGO_CAP_FLOATING_POINT_EMULATION_SUPPORT, 22)

#define SGPU_CUBLASLT_CONFIGS(X)                                                                   \
  X(CUBLASLT_ALGO_CONFIG_ID, 0)                                                                    \
  X(CUBLASLT_ALGO_CONFIG_TILE_ID, 1)                                                               \
  X(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 2)                                                            \
  X(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 3)                                                      \
  X(CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4)                                                         \
  X(CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 5)                                                         \
  X(CUBLASLT_ALGO_CONFIG_STAGES_ID, 6)                                                             \
  X(CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 7)                                                        \
  X(CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 8)

#define SGPU_CUBLASLT_CONSTANTS(X)                                                                 \
  SGPU_CUBLAS_STATUSES(X)                                                                          \
  SGPU_CUBLAS_OPERATIONS(X)                                                                        \
  SGPU_CUBLAS_FILL_MODES(X)                                                                        \
  SGPU_CUBLAS_COMPUTE_TYPES(X)                                                                     \
  SGPU_CUDA_DATA_TYPES(X)                                                                          \
  SGPU_CUBLASLT_POINTER_MODES(X)                                                                   \
  SGPU_CUBLASLT_ORDERS(X)                                                                          \
  SGPU_CUBLASLT_BATCH_MODES(X)                                                                     \
  SGPU_CUBLASLT_SCALE_MODES(X)                                                                     \
  SGPU_CUBLASLT_EPILOGUES(X)                                                                       \
  SGPU_CUBLASLT_REDUCTION_SCHEMES(X)                                                               \
  SGPU_CUBLASLT_SEARCHES(X)                                                                        \
  SGPU_CUBLASLT_TILES(X)                                                                           \
  SGPU_CUBLASLT_STAGES(X)                                                                          \
  SGPU_CUBLASLT_LAYOUT_ATTRIBUTES(X)                                                               \
  SGPU_CUBLASLT_DESC_ATTRIBUTES(X)                                                                 \
  SGPU_CUBLASLT_TRANSFORM_ATTRIBUTES(X)                                                            \
  SGPU_CUBLASLT_EMULATION_ATTRIBUTES(X)                                                            \
  SGPU_CUBLASLT_PREFERENCE_ATTRIBUTES(X)                                                           \
  SGPU_CUBLASLT_CAPS(X)                                                                            \
  SGPU_CUBLASLT_CONFIGS(X)

#define SGPU_CONSTANT(name, value) constexpr int32_t name = value;
SGPU_CUBLASLT_CONSTANTS(SGPU_CONSTANT)
#undef SGPU_CONSTANT

constexpr uint64_t implFMA = 1, implHMMA = 2, implIMMA = 4, implDMMA = 8; // numerical impl flags
constexpr uint64_t implAccumulator16F = 1 << 8, implAccumulator32F = 2 << 8,
                   implAccumulator64F = 4 << 8, implAccumulator32I = 8 << 8;
constexpr uint64_t implInput16F = 1 << 16, implInput16BF = 2 << 16, implInputTF32 = 4 << 16,
                   implInput32F = 8 << 16, implInput64F = 16 << 16, implInput8I = 32 << 16,
                   implInputE4M3 = 64 << 16, implInputE5M2 = 128 << 16;

constexpr size_t cublasLtVersion = 130100, cublasLtCudartVersion = 13000;

/// Sizes of the opaque structures.
constexpr size_t layoutBytes = 64, algoBytes = 64, descBytes = 256, transformBytes = 64,
                 preferenceBytes = 64, emulationBytes = 64;

struct MatmulAlgo {
  uint64_t data[8];
};
struct MatmulHeuristicResult {
  MatmulAlgo algo;
  size_t workspaceSize;
  int32_t state;
  float wavesCount;
  int32_t reserved[4];
};

} // namespace sgpu::abi

#endif
