//===- Reduce.h - Reductions of asynchronous copies ----------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_ASYNC_REDUCE_H
#define SGPU_MACHINE_ASYNC_REDUCE_H

#include "Ptx/Ast.h"

#include <cstdint>

namespace sgpu {

/// What cp.reduce.async.bulk, its tensor form and red.async do with each element.
struct Reduction {
  ptx::Modifier operation = ptx::Modifier::Add; ///< Add, Min, Max, Inc, Dec, And, Or, Xor
  ptx::Type type = ptx::Type::U32;

  /// Whether PTX has this operation for this type.
  bool exists() const;
  unsigned bytes() const { return ptx::bytesOf(type); }
  /// The new bits of an element. f32 sums flush subnormal inputs and results to zero, as adds in
  /// global memory do; f16 and bf16 keep them and round to nearest even.
  uint64_t apply(uint64_t old, uint64_t value) const;
};

} // namespace sgpu

#endif
