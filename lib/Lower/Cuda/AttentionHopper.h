//===- AttentionHopper.h - Tiles of attention on sm_90a --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A block has three groups of four warps: one thread of the first orders copies, the two others compute,
// 64 rows of the block's own tile each. Own tiles are copied once, the tiles of the other side come
// one after the other through rings of two places:
//
//   producer     own tiles    tile 0       tile 1                  tile 2 ...      copy engine
//                |full        |full        |full      empty|       |
//   consumer 0   wait . . . . products of tile 0 . . . . . | products of tile 1 ...
//   consumer 1   the same for rows 64 to 127
//
// A place of a ring has a barrier that its copy completes (full), and one at which both consumers arrive
// when they have read it (empty). Producer and consumers skip the same pairs of tiles.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_ATTENTIONHOPPER_H
#define LLAMAC_LIB_LOWER_CUDA_ATTENTIONHOPPER_H

#include "lib/Lower/Cuda/Attention.h"
#include "lib/Lower/Cuda/Hopper.h"

#include <map>

namespace mlir::llamac {

/// What the kernels share; each derives from it.
class HopperKernel {
public:
  /// Rows of a block's own tile, of one consumer's part; threads of a consumer, of the block.
  static constexpr int64_t kOwnRows = 128, kPartRows = 64, kPartThreads = 128, kThreads = 384;

protected:
  HopperKernel(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles)
      : k(k), hopper(k), shape(shape), tiles(tiles), chunks(chunksOf(shape.headSize)),
        runs(runsOf(chunks)), place{shape, k.blockId(2), k.blockId(1)} {}
  virtual ~HopperKernel() = default;

  /// A tensor as tiles of `rows` rows: a tensor map for each width of chunk.
  struct Source {
    bool isRows; ///< of q's kind (row r is i * G + g), else of k's
    int64_t rows;
    std::map<int64_t, Num> maps;
  };
  Source rowSource(unsigned buffer, int64_t rows);
  Source keySource(unsigned buffer, int64_t rows);

  /// Places for the tiles of a source, filled in turn. The n-th tile (i32) lies in place n % places.
  class Ring {
  public:
    Ring(HopperKernel &kernel, Source source, int64_t places);
    /// By one thread, before all else.
    void initialize();
    /// The producer: waits until place n is empty, and has tile `number` of the source copied there.
    void fill(Num n, Num number);
    /// A consumer: waits until tile n is there.
    SharedTile await(Num n);
    /// A consumer, by all its threads: tile n has been read.
    void release(Num n);

  private:
    friend class HopperKernel;
    Num full(Num n) const { return barriers + (n % places) * 16; }
    Num empty(Num n) const { return full(n) + 8; }
    Num parity(Num n) const { return (n / places) & 1; }

    HopperKernel &kernel;
    Source source;
    int64_t places;
    Num begin, barriers; // addresses
  };

  /// The body of the kernel: the rings' barriers, then `produce` on one thread of the first group and
  /// `consume` on each of the others, with the number of the consumer.
  void build(ArrayRef<Ring *> rings);
  virtual void produce() = 0;
  virtual void consume(Num part) = 0;

  /// This thread in its consumer, and its lane.
  Num thread, lane;
  /// The first of the two own rows of this thread, in the own tile; the other is 8 below.
  Num firstRow(Num part) { return part * kPartRows + (thread / 32) * 16 + lane / 4; }
  /// The first of the two columns that a thread has of columns 8 j to 8 j + 7 of sums.
  Num firstColumn(int64_t j) { return (lane % 4) * 2 + 8 * j; }

  /// Where the masks of this thread's keys among the columns of a key tile lie: 16 i32 from one pair to
  /// the next.
  Pointer columnMasks(Pointer keyMasks, Num keyTile) {
    Num key = place.b * tiles.paddedKeys() + keyTile * tiles.keys + firstColumn(0);
    return keyMasks + key * 2;
  }

  /// Sums [64, D] of a consumer: a list for each run of chunks.
  SmallVector<Nums> zeroSums();
  static void append(Nums &state, ArrayRef<Nums> sums);
  SmallVector<Nums> takeSums(ArrayRef<Num> &state);
  void waitFor(MutableArrayRef<Nums> sums);
  /// Stores row `half` (0, 1) of the thread, times `scale`, narrowed.
  void storeRow(Pointer to, int half, ArrayRef<Nums> sums, Num scale);

  KernelBuilder &k;
  Hopper hopper;
  const AttentionShape &shape;
  const AttentionTiles &tiles;
  SmallVector<TileChunk> chunks;
  SmallVector<ChunkRun> runs;
  AttentionPlace place;
};

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_ATTENTIONHOPPER_H
