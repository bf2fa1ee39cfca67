//===- GemmReference.h - Matrix products by plain loops ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For the tests of every target.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_HOST_GEMMREFERENCE_H
#define LLRT_TEST_HOST_GEMMREFERENCE_H

#include "Values.h"

#include <sstream>

namespace values {

struct Types {
  int64_t type, resultType;
  double tolerance; // of the result type's rounding, in units of its rms
};
inline constexpr Types types[] = {{LLRT_F32, LLRT_F32, 1e-5},
                                  {LLRT_BF16, LLRT_BF16, 1e-2},
                                  {LLRT_BF16, LLRT_F32, 1e-5},
                                  {LLRT_F64, LLRT_F64, 1e-13}};

inline Doubles reference(const LlrtGemm &g, const Array &a, const Array &b, const Array *bias,
                         const Array &c) {
  Doubles result(g.m * g.n);
  for (int64_t i = 0; i != g.m; ++i)
    for (int64_t j = 0; j != g.n; ++j) {
      double sum = (g.accumulate ? c.get(i * g.n + j) : 0) + (bias ? bias->get(j) : 0);
      for (int64_t l = 0; l != g.k; ++l)
        sum += a.get(g.transpose_a ? l * g.m + i : i * g.k + l) *
               b.get(g.transpose_b ? j * g.k + l : l * g.n + j);
      result[i * g.n + j] = sum;
    }
  return result;
}

// Of each row of op(A) its sum over k.
inline Doubles biasGradient(const LlrtGemm &g, const Array &a) {
  Doubles result(g.m, 0);
  for (int64_t i = 0; i != g.m; ++i)
    for (int64_t l = 0; l != g.k; ++l)
      result[i] += a.get(g.transpose_a ? l * g.m + i : i * g.k + l);
  return result;
}

inline std::string describe(const LlrtGemm &g) {
  std::ostringstream text;
  text << "type " << g.type << " to " << g.result_type << ", " << g.m << " x " << g.n << " x "
       << g.k << ", transposed " << g.transpose_a << g.transpose_b << ", accumulate "
       << g.accumulate << ", bias gradient " << g.bias_gradient;
  return text.str();
}

} // namespace values
#endif // LLRT_TEST_HOST_GEMMREFERENCE_H
