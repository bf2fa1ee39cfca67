//===- Reduce.h - The arithmetic of collectives ---------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every step is rounded to the type, as the real library does; ranks are taken in rising order.
//===----------------------------------------------------------------------===//
#ifndef SGPU_NCCL_REDUCE_H
#define SGPU_NCCL_REDUCE_H

#include "Support/Element.h"

namespace sgpu::nccl {

/// How two values become one; how a sum is finished.
enum class Fold : uint8_t { Sum, Prod, Max, Min };

/// accumulator[i] = fold(accumulator[i], next[i]) for `count` elements.
void fold(Element element, Fold how, void *accumulator, const void *next, uint64_t count);
/// data[i] = data[i] * scalar; `scalar` is one element.
void scale(Element element, void *data, const void *scalar, uint64_t count);
/// data[i] = data[i] / ranks, of integers (toward zero).
void divide(Element element, void *data, uint64_t ranks, uint64_t count);
/// 1 / ranks as an element of a floating-point type.
void reciprocal(Element element, uint64_t ranks, void *to);
inline bool isFloating(Element element) { return element >= Element::F16; }

} // namespace sgpu::nccl

#endif
