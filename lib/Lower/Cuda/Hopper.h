//===- Hopper.h - Instructions of sm_90a -----------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What kernels for sm_90a have beyond others: barriers in shared memory (mbarrier), copies by the
// copy engine (TMA), and products of a group of four warps (wgmma) on tiles in shared memory.
//
// A tile of n rows and d columns of bf16 lies in shared memory in chunks of `width` columns, one behind the
// other, a row of a chunk behind the other, swizzled over as many bytes as such a row has:
//
//   d = 80     chunks of 32: columns 0-31, n rows of 64 bytes | 32-63 | 64-95, of which 80-95 are zeros
//
// Products take d columns, or the next multiple of 16 where d is the inner dimension: what is behind d are
// zeros, filled in by TMA.
//
// Source: PTX ISA 9.0, sections "Asynchronous Warpgroup Level Matrix Instructions", "mbarrier".
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_HOPPER_H
#define LLAMAC_LIB_LOWER_CUDA_HOPPER_H

#include "lib/Lower/Cuda/KernelBuilder.h"

namespace mlir::llamac {

/// A tile in shared memory, or several of one shape behind each other.
struct SharedTile {
  static constexpr int64_t kAlignment = 1024;

  Num begin; ///< i32: the address of the tile, a multiple of kAlignment
  int64_t rows, columns;

  /// Columns of a chunk, 64 or 32: the most that leave no more than 16 columns unused.
  static int64_t width(int64_t columns);
  static int64_t chunks(int64_t columns) { return llvm::divideCeil(columns, width(columns)); }
  static int64_t bytes(int64_t rows, int64_t columns);
  int64_t rowBytes() const { return 2 * width(columns); } ///< of a chunk; also of the swizzle
  int64_t chunkBytes() const { return rows * rowBytes(); }
};

/// The instructions. One object per kernel.
class Hopper {
public:
  explicit Hopper(KernelBuilder &k) : k(k) {}

  /// The address of shared memory, i32.
  Num address(Pointer shared);

  //===--- Barriers in shared memory; `barrier` is the address of 8 bytes ---===//
  void initialize(Num barrier, int64_t arrivals);
  /// Makes initialized barriers known to the copy engine; a barrier of the block must follow.
  void fenceInitialized();
  void arrive(Num barrier);
  /// Arrives, and announces `bytes` bytes of copies.
  void arriveExpecting(Num barrier, int64_t bytes);
  /// Waits until the phase with parity `parity` (i32, 0 or 1) is complete.
  void wait(Num barrier, Num parity);

  /// Copies a box of a tensor (LlrtTensorMap) at `coordinates` (i32, innermost first) to the address
  /// `to`; `barrier` gets its bytes.
  void copy(Num to, Num map, ArrayRef<Num> coordinates, Num barrier);
  /// Copies `bytes` bytes, a multiple of 16, that lie next to each other.
  void copy(Num to, Pointer from, int64_t bytes, Num barrier);

  /// Makes what this thread has stored known to the copy engine and to products, in shared or in global memory.
  void fenceShared();
  void fenceGlobal();
  /// Copies `bytes` bytes, a multiple of 16, from the address `from` to global memory, or adds them to what is
  /// there as f32, each number once. `waitRead` waits until what this thread has begun no longer needs its
  /// source, `waitWritten` until all is written.
  void copyOut(Pointer to, Num from, int64_t bytes);
  void addOut(Pointer to, Num from, int64_t bytes);
  void waitRead();
  void waitWritten();

  /// Sets the number of registers of each thread of the warps' group, a multiple of 8.
  void giveRegisters(int64_t count);
  void takeRegisters(int64_t count);

  //===--- Products of four warps: sums [64, n], f32 ---===//
  // Thread t of the group has, of row 16 (t / 32 % 4) + t % 32 / 4 and of the one 8 below, columns 8 j
  // + 2 (t % 4) and the one behind, in sums[4 j], sums[4 j + 1]; sums[4 j + 2], sums[4 j + 3].

  /// sums = a[64, d] . b[n, d]^T for all columns of two tiles, begun: `wait` gives the sums. Row
  /// `aRow` of a is the first; a multiple of 64.
  Nums beginTransposed(const SharedTile &a, Num aRow, const SharedTile &b);

  /// sums += a[64, m] . b[m, d], a in registers: bf16 pairs, four for each 16 of m, as `pairs` makes
  /// them. Begun.
  void begin(ArrayRef<Num> a, const SharedTile &b, Nums &sums);

  /// sums = a[m, 64]^T . b[m, n], begun; the columns of b are those of `chunks` chunks from number `first` on.
  Nums beginOuter(const SharedTile &a, const SharedTile &b, Num first, int64_t chunks);

  /// Waits until at most `pending` of the begun products are not done. `sums` are those that are done.
  void wait(int pending, ArrayRef<Nums *> sums);

  /// Sums as the left side of a product: pairs of bf16.
  Nums pairs(ArrayRef<Num> sums);
  /// Stores pairs of a warp, 16 rows of a product from row `row` (a multiple of 16) of the tile on.
  void store(const SharedTile &to, Num row, Num lane, ArrayRef<Num> pairs);

  KernelBuilder &k;

private:
  Num descriptor(const SharedTile &tile, Num begin, int64_t byte, bool transposed);
  Nums assemble(const std::string &text, ArrayRef<Num> inputs, ArrayRef<Num> tied);
};

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_HOPPER_H
