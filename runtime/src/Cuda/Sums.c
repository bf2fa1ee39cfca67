//===- Sums.c - Sums over ranks that share a GPU --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Kernels: when this is built clang makes PTX of it, which is part of libllrt_cuda.a (see
// runtime/CMakeLists.txt). One for each pair of types, sum_f32_bf16 of f32 to bf16. Sums are
// formed in the order of members in f32, in f64 if either type is f64, and rounded once, so
// that the bits are those of src/Transport/Communication.cpp.
//
//===----------------------------------------------------------------------===//

#include "Sums.h"

typedef unsigned short bf16; // the bits

static float from_bf16(bf16 value) {
  union {
    unsigned bits;
    float number;
  } result = {(unsigned)value << 16};
  return result.number;
}

// To the nearest, ties to even; not a number stays so.
static bf16 to_bf16(float value) {
  union {
    float number;
    unsigned bits;
  } from = {value};
  if (value != value)
    return (bf16)(from.bits >> 16 | 0x40);
  return (bf16)((from.bits + 0x7fff + (from.bits >> 16 & 1)) >> 16);
}

// By way of f32 a value may be rounded twice: it is cut there, and what was cut off leaves a
// mark in the last bit.
static bf16 double_to_bf16(double value) {
  float nearest = (float)value;
  union {
    float number;
    unsigned bits;
  } odd = {nearest};
  if ((double)nearest != value && value == value) {
    int over = value < 0 ? (double)nearest < value : (double)nearest > value;
    if (over)
      --odd.bits;
    odd.bits |= 1;
  }
  return to_bf16(odd.number);
}

#define READ_f32(pointer, i, wide) ((wide)((const float *)(pointer))[i])
#define READ_f64(pointer, i, wide) ((wide)((const double *)(pointer))[i])
#define READ_bf16(pointer, i, wide) ((wide)from_bf16(((const bf16 *)(pointer))[i]))
#define WRITE_f32(pointer, i, value) ((float *)(pointer))[i] = (float)(value)
#define WRITE_f64(pointer, i, value) ((double *)(pointer))[i] = (value)
#define WRITE_bf16(pointer, i, value)                                                              \
  ((bf16 *)(pointer))[i] = sizeof(value) == 4 ? to_bf16((float)(value)) : double_to_bf16(value)

#define TYPE_f32 float
#define TYPE_f64 double
#define TYPE_bf16 bf16
#define ACCUMULATE_f32 float
#define ACCUMULATE_f64 double
#define ACCUMULATE_bf16 float

#define SUM(type, toType, wide)                                                                    \
  __attribute__((nvptx_kernel)) void sum_##type##_##toType(struct LlrtSum sum) {                   \
    long long step = (long long)__nvvm_read_ptx_sreg_nctaid_x() * __nvvm_read_ptx_sreg_ntid_x();   \
    for (long long i = (long long)__nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() + \
                       __nvvm_read_ptx_sreg_tid_x();                                               \
         i < sum.outer * sum.elements; i += step) {                                                \
      long long at = i / sum.elements * sum.stride + i % sum.elements;                             \
      wide total = READ_##type(sum.from[0], at, wide);                                             \
      for (int member = 1; member < sum.members; ++member) {                                       \
        wide value = READ_##type(sum.from[member], at, wide);                                      \
        if (!sum.max)                                                                              \
          total += value;                                                                          \
        else if (value > total || value != value)                                                  \
          total = value;                                                                           \
      }                                                                                            \
      for (int target = 0; target < sum.targets; ++target) {                                       \
        void *to = sum.to[target];                                                                 \
        if (sum.accumulate) { /* what is added has been rounded */                                 \
          TYPE_##toType rounded;                                                                   \
          WRITE_##toType(&rounded, 0, total);                                                      \
          ACCUMULATE_##toType before = READ_##toType(to, i, ACCUMULATE_##toType);                  \
          WRITE_##toType(to, i, before + READ_##toType(&rounded, 0, ACCUMULATE_##toType));         \
        } else {                                                                                   \
          WRITE_##toType(to, i, total);                                                            \
        }                                                                                          \
      }                                                                                            \
    }                                                                                              \
  }

SUM(f32, f32, float)
SUM(f32, f64, double)
SUM(f32, bf16, float)
SUM(f64, f32, double)
SUM(f64, f64, double)
SUM(f64, bf16, double)
SUM(bf16, f32, float)
SUM(bf16, f64, double)
SUM(bf16, bf16, float)
