//===- Rows.cpp - Row loops of the host kernels ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// RowLoops.inc is compiled once per instruction set, in a namespace of its own.
//
//===----------------------------------------------------------------------===//
#include "Rows.h"

#include "OneDnn.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

using namespace llrt;

static constexpr float infinity = std::numeric_limits<float>::infinity();

namespace baseline {
#include "RowLoops.inc"
} // namespace baseline

#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
namespace avx2 {
#include "RowLoops.inc"
} // namespace avx2
#pragma clang attribute pop

#define LLRT_AVX512 "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"
#pragma clang attribute push(__attribute__((target(LLRT_AVX512), min_vector_width(512))),          \
                             apply_to = function)
namespace avx512 {
#include "RowLoops.inc"
} // namespace avx512
#pragma clang attribute pop

#define LLRT_CPU_ROUNDS_TO_BF16
#pragma clang attribute push(                                                                      \
    __attribute__((target(LLRT_AVX512 ",avx512bf16"), min_vector_width(512))),                     \
    apply_to = function)
namespace avx512bf16 {
#include "RowLoops.inc"
} // namespace avx512bf16
#pragma clang attribute pop

const Rows &llrt::rows() {
  static const Rows *const byLevel[] = {&baseline::untyped, &avx2::untyped, &avx512::untyped,
                                        &avx512bf16::untyped};
  return *byLevel[int(cpuLevel())];
}

template <class Store, class Tile> const TypedRows<Store, Tile> &llrt::typedRows() {
  static const TypedRows<Store, Tile> *const byLevel[] = {
      &baseline::typed<Store, Tile>, &avx2::typed<Store, Tile>, &avx512::typed<Store, Tile>,
      &avx512bf16::typed<Store, Tile>};
  return *byLevel[int(cpuLevel())];
}

template const TypedRows<float, float> &llrt::typedRows();
template const TypedRows<Bf16, Bf16> &llrt::typedRows();
template const TypedRows<Bf16, float> &llrt::typedRows();
