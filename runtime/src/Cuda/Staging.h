//===- Staging.h - Pinned memory of the host --------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_STAGING_H
#define LLRT_CUDA_STAGING_H

#include "src/Cuda/Driver.h"

#include <cstddef>
#include <map>
#include <vector>

namespace llrt::cuda {

// Pinned memory for copies between host and GPU that are under way. A piece is used again
// when its copy is done.
class Staging {
public:
  // The largest piece.
  static constexpr int64_t MostBytes = int64_t(16) << 20;

  ~Staging();

  // A piece of at least `bytes` bytes, at most MostBytes. Throws Error if there is no memory.
  std::byte *take(int64_t bytes);
  // Gives back a piece of `take(bytes)` whose copy was the last work of `stream`.
  void give(std::byte *piece, int64_t bytes, CUstream stream);
  // The same where the copy is done.
  void give(std::byte *piece, int64_t bytes);

  // Takes what pieces of these sizes, all at once, need beside what there is: later nothing is
  // allocated for them.
  void reserve(const std::vector<int64_t> &pieces);

  // Bytes of copies under way.
  int64_t underWay();

private:
  struct Busy {
    std::byte *piece;
    int64_t size;
    CUevent done;
  };

  // Takes back what is done.
  void collect();

  std::map<int64_t, std::vector<std::byte *>> free; // by size, a power of two
  std::vector<Busy> busy;
  std::vector<CUevent> events; // not in use
  int64_t busyBytes = 0;
};

} // namespace llrt::cuda
#endif // LLRT_CUDA_STAGING_H
