//===- OneDnn.h - Matrix products by oneDNN, loaded when first used -*- C++
//-*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// oneDNN is not linked: an executable starts without it and can say what is
// missing. Source: oneDNN 2.6, C interface (dnnl.h), matmul primitive.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_HOST_ONEDNN_H
#define LLRT_HOST_ONEDNN_H

#include <compare>
#include <cstdint>

namespace llrt {

// What the vector units can do, as oneDNN sees it (ONEDNN_MAX_CPU_ISA included,
// so that one variable makes all host kernels behave as on a smaller CPU).
enum class CpuLevel { Baseline, Avx2, Avx512, Avx512Bf16 };

// Null, or why oneDNN cannot be used and which Debian package brings it.
const char *oneDnnError();
CpuLevel cpuLevel();

// True if the CPU multiplies bf16 matrices. If not, oneDNN refuses (AVX2) or
// emulates at a third of its f32 speed (AVX-512): convert to f32 instead.
bool hasBf16Matmul();

// C[m, n] = A[m, k] B[k, n] (+ bias[n]) (+ C). Strides are in elements; the
// columns of C are contiguous. Types are those of llrt_gemm, f64 excluded.
struct Matmul {
  int64_t type, resultType;
  int64_t m, n, k;
  int64_t aRow, aColumn; // strides of A
  int64_t bRow, bColumn; // strides of B
  int64_t cRow;          // stride of C
  bool accumulate, bias;

  auto operator<=>(const Matmul &) const = default;
};

// A compiled product. It belongs to the thread that asked for it and runs on that
// thread alone: how work is shared among threads is decided by the caller.
class MatmulPlan {
public:
  // `bias` is read only if the description says so. Ends the process with a
  // message if oneDNN reports a fault.
  void run(const void *a, const void *b, void *c, const void *bias = nullptr) const;

private:
  friend MatmulPlan *findMatmul(const Matmul &);
  void *primitive = nullptr;                        // dnnl_primitive_t
  void *a = nullptr, *b = nullptr, *bias = nullptr; // dnnl_memory_t
  void *c = nullptr, *scratchpad = nullptr;
  int64_t scratchpadBytes = 0;
};

// The calling thread's plan for `matmul`, compiled when first asked for (0.1 to
// 0.5 ms), then found in a table. Never null; the plan lives as long as the
// thread. Ends the process with a message if oneDNN is missing.
MatmulPlan *findMatmul(const Matmul &matmul);

// Prints `message` and ends the process with status 1.
[[noreturn]] void stopProcess(const char *what, const char *message);

} // namespace llrt
#endif // LLRT_HOST_ONEDNN_H
