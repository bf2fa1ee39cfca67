//===- Products.h - Matrix products by cuBLASLt -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_PRODUCTS_H
#define LLRT_CUDA_PRODUCTS_H

#include "llrt/Kernels.h"
#include "src/Cuda/CublasLt.h"

#include <array>
#include <chrono>
#include <map>
#include <string>
#include <utility>

namespace llrt::cuda {

// The matrix products of a rank: for each description what cuBLASLt needs, made when it is
// first asked for. One thread calls all functions, in the context of the rank's GPU.
//
// Which algorithm is the fastest is measured before the first step (`prepare`). Ranks must
// agree, so that what they compute alike has the same bits: they tell each other what they
// chose, and the choice of the lowest rank holds. A file of the user keeps the choices, for
// this GPU and version of cuBLASLt:
//
//   $XDG_CACHE_HOME/llamac/products-130100-NVIDIA-H100.txt (~/.cache without the variable)
//     1 1 16 128 64 0 1 0 0 256 256 256 256 33554432 : 3f00...  type, shape, ..: algorithm
class Products {
public:
  // `gpu`: the name of the GPU. Throws Error without cuBLASLt.
  explicit Products(const std::string &gpu);
  ~Products();
  Products(const Products &) = delete;
  Products &operator=(const Products &) = delete;

  // llrt_gemm. Throws Failure if cuBLASLt refuses it.
  void run(CUstream stream, void *workspace, const LlrtGemm &gemm, const void *a, const void *b,
           void *bias, void *c);

  // Makes ready for `run` and chooses an algorithm; asked again, when others have told theirs
  // (`adopt`), lets cuBLASLt load the code of what was chosen. All operands are zero, C and the
  // gradient of a bias are so afterwards.
  void prepare(CUstream stream, void *workspace, const LlrtGemm &gemm, const void *a, const void *b,
               void *bias, void *c);

  // All choices, a line each; takes those of others, of which the first for a description
  // holds. Lines that are none, or that cuBLASLt does not take, are left out.
  std::string choices() const { return textOf(known); }
  void adopt(const std::string &lines);

  // Reads the user's file. What goes wrong is no error. But where choices cannot be kept nothing is
  // measured, and each product has what cuBLASLt proposes first: times differ from run to run, and
  // with them choices and last bits would.
  void load();
  // Writes the choices of all ranks there; what another process has kept since `load` holds, also in
  // `lines`. Where it returns false the ranks forget what they have measured.
  bool keep(std::string &lines) const;
  void forget();

private:
  // What a choice of algorithm depends on.
  using Key = std::array<int64_t, 14>;
  using Choices = std::map<Key, cublasLtMatmulAlgo_t>;
  struct Plan;
  struct Operands {
    const void *a, *b;
    void *bias, *c;
  };

  // The plan and whether it is new. Its algorithm is what `known` says, else the first one that
  // cuBLASLt proposes.
  std::pair<Plan *, bool> plan(const LlrtGemm &gemm, const Operands &operands, bool workspace);
  cublasStatus_t multiply(CUstream stream, void *workspace, const LlrtGemm &gemm, const Plan &plan,
                          const cublasLtMatmulAlgo_t &algorithm, const Operands &operands) const;
  void measure(CUstream stream, void *workspace, const LlrtGemm &gemm, Plan &plan,
               const Operands &operands);
  void use(Plan &plan, const cublasLtMatmulAlgo_t &algorithm) const;
  std::string file() const;
  static std::string textOf(const Choices &choices);
  static Choices parse(const std::string &lines);

  std::string gpu;
  cublasLtHandle_t handle = nullptr;
  std::map<Key, Plan> plans;
  Choices known;                          // measured, here or before
  Choices loaded;                         // from the user's file
  bool keeps = false;                     // whether the next run finds what is measured
  std::chrono::duration<double> spent{0}; // on measuring
};

} // namespace llrt::cuda
#endif // LLRT_CUDA_PRODUCTS_H
