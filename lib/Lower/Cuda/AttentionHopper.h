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
// A place of a ring has a barrier that its copy completes (full), and one at which every warp of both consumers
// arrives when it has read it (empty). The tiles that the mask leaves anything of are listed before, by
// all threads. What the consumers leave in such places for other blocks is taken away by carriers,
// one thread of each of some more warps of the first group.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_ATTENTIONHOPPER_H
#define LLAMAC_LIB_LOWER_CUDA_ATTENTIONHOPPER_H

#include "lib/Lower/Cuda/Attention.h"
#include "lib/Lower/Cuda/Hopper.h"

namespace mlir::llamac {

/// What the kernels share; each derives from it.
class HopperKernel {
public:
  /// Rows of a block's own tile, of one consumer's part; threads of a consumer, of the block.
  static constexpr int64_t kOwnRows = 128, kPartRows = 64, kPartThreads = 128, kThreads = 384;
  static constexpr int64_t kConsumers = kOwnRows / kPartRows;

protected:
  /// `block` has the tile that the block owns.
  HopperKernel(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles,
               const AttentionBlock &block)
      : k(k), hopper(k), shape(shape), tiles(tiles), block(block), place{shape, block.b, block.kv} {
  }
  virtual ~HopperKernel() = default;

  /// A tensor as tiles of `rows` rows.
  struct Source {
    bool isRows; ///< of q's kind (row r is i * G + g), else of k's
    int64_t rows;
    Num map;
  };
  Source rowSource(unsigned buffer, int64_t rows);
  Source keySource(unsigned buffer, int64_t rows);

  /// What comes with each tile of a source: the `count` numbers (of 4 bytes) from `from` + tile * `count` on.
  struct Extra {
    Pointer from;
    int64_t count;
  };

  /// Places in shared memory that one side fills and the other one empties, in turn: the n-th thing (i32) is
  /// in place n % places. `fillers` and `readers` say how often `fulfil` and `release` are called for each.
  class Places {
  public:
    Places(HopperKernel &kernel, int64_t places, int64_t fillers, int64_t readers);
    /// By one thread, before all else.
    void initialize();
    void awaitEmpty(Num n);
    void awaitFull(Num n);
    /// By all threads of a warp: they have filled place n; they have read it.
    void fulfil(Num n);
    void release(Num n);
    /// The same by one thread.
    void releaseByOne(Num n);

  protected:
    Num full(Num n) const { return barriers + (n % places) * 16; }
    Num empty(Num n) const { return full(n) + 8; }
    Num parity(Num n) const { return (n / places) & 1; }

    HopperKernel &kernel;
    int64_t places, fillers, readers;
    Num barriers; // addresses
  };
  /// Warps of both consumers.
  static constexpr int64_t kConsumerWarps = kConsumers * kPartThreads / 32;

  /// Places for the tiles of a source.
  class Ring : public Places {
  public:
    Ring(HopperKernel &kernel, Source source, int64_t places, ArrayRef<Extra> extras = {});
    /// The producer: waits until place n is empty, and has tile `number` of the source copied there.
    void fill(Num n, Num number);
    /// A consumer: waits until tile n is there.
    SharedTile await(Num n);
    /// What came with tile n, after `await`.
    Pointer extra(size_t number, Num n) const;

  private:
    SharedTile place(Num n) const;

    Source source;
    SmallVector<Extra> extras;
    SmallVector<Pointer> extraPlaces;
    Num begin; // an address
  };

  /// The body of the kernel: the barriers of all places, then `produce` on one thread of the first
  /// group, `carry` on one of each of its next `carriers` warps (at most 3), with their numbers,
  /// and `consume` on each of the other groups, with the number of the consumer.
  void build(ArrayRef<Places *> all);
  virtual void produce() = 0;
  virtual int64_t carriers() const { return 0; }
  virtual void carry(Num number) {}
  virtual void consume(Num part) = 0;

  /// This thread in its consumer, and its lane.
  Num thread, lane;
  void findThread();
  /// The first of the two own rows (or keys) of this thread, in the own tile; the other is 8 below.
  Num ownRow(Num part) { return part * kPartRows + thread / 32 * 16 + lane / 4; }
  /// The first of the two columns that a thread has of columns 8 j to 8 j + 7 of sums.
  Num firstColumn(int64_t j) { return (lane % 4) * 2 + 8 * j; }

  /// The tiles of keys that the block's row tile sees anything of, and the other way round.
  TileList listKeys(Pointer rowExtremes, Pointer keyExtremes);
  TileList listRows(Pointer rowExtremes, Pointer keyExtremes);

  /// The masks of this example, for each row or key of a tile.
  Extra rowMasks(Pointer masks, int64_t rows) {
    return {masks + place.b * (tiles.paddedRows() * 4), 4 * rows};
  }
  Extra keyMasks(Pointer masks, int64_t keys) {
    return {masks + place.b * (tiles.paddedKeys() * 2), 2 * keys};
  }
  /// maskScore of the scores of a thread's own rows (keys) and the n-th tile of the others, unless all of it
  /// is seen. The masks are those of the own tile and of that of the others.
  Nums maskByRows(ArrayRef<Num> scores, Num part, const TileList &list, Num n, Pointer rowMasks,
                  Pointer keyMasks);
  Nums maskByKeys(ArrayRef<Num> scores, Num part, const TileList &list, Num n, Pointer rowMasks,
                  Pointer keyMasks);

  /// Sums [64, D] of a consumer: those of a thread.
  Nums zeroSums() { return Nums(shape.headSize / 2, k.number(0)); }
  /// Takes so many numbers off `state`.
  Nums takeSums(ArrayRef<Num> &state);
  /// Stores row `half` (0, 1) of the thread, times `scale`, narrowed.
  void storeRow(Pointer to, int half, ArrayRef<Num> sums, Num scale);

  KernelBuilder &k;
  Hopper hopper;
  const AttentionShape &shape;
  const AttentionTiles &tiles;
  AttentionBlock block;
  AttentionPlace place;
};

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_ATTENTIONHOPPER_H
