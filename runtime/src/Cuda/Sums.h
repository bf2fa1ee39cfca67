//===- Sums.h - Sums over ranks that share a GPU ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The parameter of the kernels of Sums.c, for both sides. C.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_SUMS_H
#define LLRT_CUDA_SUMS_H

// The most members of a communicator whose ranks share a GPU.
#define LLRT_MOST_SUMMANDS 64

// to[t][i] = from[0][...] + from[1][...] + ..., element i of [outer][elements], in `from` with
// rows that are `stride` elements apart; the largest instead of the sum if `max`; added to what is
// there if `accumulate`. `to` may be one of `from`.
struct LlrtSum {
  const void *from[LLRT_MOST_SUMMANDS];
  void *to[LLRT_MOST_SUMMANDS];
  int members, targets, max, accumulate;
  long long outer, elements, stride;
};

#endif // LLRT_CUDA_SUMS_H
