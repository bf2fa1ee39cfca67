//===- Problem.h - What a matmul is asked to do, and the rules ------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_CUBLASLT_PROBLEM_H
#define SGPU_CUBLASLT_PROBLEM_H

#include "CublasLt/Descriptors.h"
#include "CublasLt/Product.h"

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace sgpu::cublaslt {

/// A status of the library, and why: the rule, what was wanted and what was found.
struct Verdict {
  int status = abi::CUBLAS_STATUS_SUCCESS;
  std::string why;
  explicit operator bool() const { return status == abi::CUBLAS_STATUS_SUCCESS; }
};
inline Verdict invalid(std::string why) {
  return {abi::CUBLAS_STATUS_INVALID_VALUE, std::move(why)};
}
inline Verdict unsupported(std::string why) {
  return {abi::CUBLAS_STATUS_NOT_SUPPORTED, std::move(why)};
}

/// The element that a cudaDataType stands for, if it is one that products take.
std::optional<Element> elementOf(int32_t cudaType);
/// "CUDA_R_16BF"
std::string typeName(int32_t cudaType);

/// The problem of a descriptor and four layouts. `product` has no pointers yet.
struct Problem {
  Product product;
  MatmulDesc desc;
  Layout layouts[4];     ///< A, B, C, D
  bool eightBit = false; ///< A and B are e4m3 or e5m2
  uint64_t outputBytes() const { return uint64_t(product.m * product.n * product.batches) * 4; }
};

/// Checks shapes, types, epilogue and leading dimensions for a chip (80, 90), and fills `problem`.
Verdict makeProblem(const MatmulDesc &desc, const Layout &a, const Layout &b, const Layout &c,
                    const Layout &d, int capability, Problem &problem);

/// Bytes that something occupies: the pieces that are touched, in rising order.
struct Piece {
  uint64_t address, bytes;
};
std::vector<Piece> piecesOf(const Matrix &matrix, int64_t batches, uint64_t address);
/// Whether two lists of pieces share a byte; the first shared one.
std::optional<uint64_t> overlap(const std::vector<Piece> &a, const std::vector<Piece> &b);

/// An algorithm of ours.
struct Kind {
  int32_t id, tile, stages;
  int32_t rows, cols;    ///< of a tile
  unsigned alignment;    ///< of A, B, C, D, their columns and batches, in bytes
  bool splitK, counters; ///< can split k; needs a counter of 256 bytes for each tile
};
extern const std::array<Kind, 3> kinds;
const Kind *findKind(int32_t id);

/// Whether an algorithm can do a problem. Fills bytes of workspace and waves.
Verdict checkAlgo(const Problem &problem, const Algo &algo, uint64_t &workspace, float &waves);
/// The largest power of two, at most 256, that a column (batch) start of a matrix keeps, if the
/// matrix itself starts at a multiple of `promised`.
unsigned keptAlignment(const Layout &layout, unsigned promised);
/// All algorithms (or forms of one) that fit a preference, best first.
std::vector<abi::MatmulHeuristicResult> search(const Problem &problem, const Preference &preference,
                                               std::optional<int32_t> only = std::nullopt);
/// An algorithm that has been set up for some types.
Algo makeAlgo(const Kind &kind, const int32_t (&types)[6]);
uint64_t implFlags(const Algo &algo);

} // namespace sgpu::cublaslt

#endif
