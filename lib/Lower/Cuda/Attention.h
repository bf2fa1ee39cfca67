//===- Attention.h - What the forms of attention share ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// B batch, S queries, T keys, H query heads, K key and value heads, D head size, G = H / K query
// heads that share one key and value head
//
// Every form goes by tiles of rows and of keys, for one example b and one key and value head kv.
// Row r = i * G + g is query i of head kv * G + g: so a key tile is read once for G heads, and the
// sums over the heads that share a key are sums over rows.
//
//                    keys of (b, kv) ->                    one block of threads owns
//                  +------+------+------+                    forward:  a row tile of O, lse
//   rows r of      | S, P | S, P |      |  row tile          dQ:       a row tile of dQ
//   (b, kv)        +------+------+------+                    dK, dV:   a key tile of dK, dV
//     |            | S, P |      |      |                  and goes through the other tiles in
//     v            +------+------+------+                  rising order, skipping those that
//                  key tile                                the mask leaves nothing of
//
// No block writes what another one writes, but for the backward on sm_90a, whose blocks add to dQ
// in a fixed order (AttentionHopper.cpp): the bits do not depend on the order of blocks. Scores
// exist only in registers and shared memory, a tile at a time.
//
// Masks come in one form, which a kernel of its own makes of the op's (`emitMask`): row r sees key j if
//
//   low[r] <= group[j] <= high[r]  and  rank[j] <= rank[r]
//
//   causal   groups are documents, ranks positions
//   encoder  group 0 the valid tokens, 1 the others; ranks 0
//   images   groups are images, the padded tiles come last; ranks 0
//
// with the extremes of each tile, from which a pair of tiles is known to have nothing to see (skipped)
// or nothing that is masked. Keys behind the last one and rows behind the last one are in no range.
//
// A row that sees no key has P = 1 / T and lse = -inf (Kernels.h). Where that is known beforehand the row
// is even: it sees all T keys, with scores 0. It is known for the backward (lse), and for encoder and
// images; for causal the forward finds out and puts the mean of all values in.
//
// Source: FlashAttention-2 (arXiv 2307.08691), algorithms 1 and 2.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_ATTENTION_H
#define LLAMAC_LIB_LOWER_CUDA_ATTENTION_H

#include "dialects/Routine/IR/Routine.h"
#include "lib/Lower/Cuda/KernelBuilder.h"

namespace mlir::llamac {

/// How an attention is computed.
enum class AttentionForm {
  Plain,  ///< f32 arithmetic, any type, head size and chip
  Mma,    ///< bf16 on tensor cores (mma.sync), head sizes that are multiples of 8 up to 256
  Hopper, ///< bf16 by warpgroups and the copy engine, sm_90a
};
StringRef nameOf(AttentionForm form);

/// The sizes of one attention, and its type.
struct AttentionShape {
  routine::Mask mask;
  double scale;
  int64_t batch, queries, keys, heads, kvHeads, headSize;
  int64_t images, tileCount, tileStride, tileTokens;
  Type element; ///< of q, k, v, out and their gradients

  template <typename Op> static AttentionShape of(Op op) {
    return {op.getMask(),
            op.getScale().convertToDouble(),
            int64_t(op.getBatch()),
            int64_t(op.getQueries()),
            int64_t(op.getKeys()),
            int64_t(op.getHeads()),
            int64_t(op.getKvHeads()),
            int64_t(op.getHeadSize()),
            int64_t(op.getImages()),
            int64_t(op.getTileCount()),
            int64_t(op.getTileStride()),
            int64_t(op.getTileTokens()),
            getElementTypeOrSelf(op.getQ())};
  }
  int64_t group() const { return heads / kvHeads; }  ///< G
  int64_t rows() const { return queries * group(); } ///< of one key and value head
  bool ranked() const { return mask == routine::Mask::Causal; }
};

/// Rows and keys of a tile, and how many tiles there are.
struct AttentionTiles {
  int64_t rows, keys, rowTiles, keyTiles;

  /// So many tiles that whole groups of `multiple` hold all rows, and all keys.
  static AttentionTiles of(const AttentionShape &shape, int64_t rows, int64_t keys,
                           int64_t multiple = 1) {
    auto count = [&](int64_t all, int64_t tile) -> int64_t {
      return llvm::divideCeil(all, tile * multiple) * multiple;
    };
    return {rows, keys, count(shape.rows(), rows), count(shape.keys, keys)};
  }
  /// With those behind the last, of one example (and key and value head).
  int64_t paddedRows() const { return rowTiles * rows; }
  int64_t paddedKeys() const { return keyTiles * keys; }
};

//===----------------------------------------------------------------------===//
// Masks
//===----------------------------------------------------------------------===//

/// Scratch memory for the launches before `op`.
Value allocateScratch(Operation *op, ArrayRef<int64_t> shape, Type element);

/// A mask in the form above, in scratch memory (all i32).
struct AttentionMask {
  Value rows;     ///< [B, padded rows, 4]: low, high, rank, 0
  Value keys;     ///< [B, padded keys, 2]: group, rank
  Value rowTiles; ///< [B, row tiles, 8]: see TileExtremes
  Value keyTiles; ///< [B, key tiles, 8]
};

/// Makes the mask of an attention, before `op`. For a backward `lse` is that of the forward, else null.
AttentionMask emitMask(Operation *op, const AttentionShape &shape, const AttentionTiles &tiles,
                       ValueRange masks, Value lse);

/// The mask of one row and of one key, in registers.
struct RowMask {
  Num low, high, rank;

  /// Row `row` of the example and row tile that `rows` points to.
  static RowMask load(Pointer rows, Num row);
  /// Whether the row is even (see above).
  Num isEven() const;
};
struct KeyMask {
  Num group, rank;

  static KeyMask load(Pointer keys, Num key);
};
/// The score of a row and a key: -inf if the row does not see the key, 0 if it is even.
Num maskScore(KernelBuilder &k, const AttentionShape &shape, const RowMask &row, const KeyMask &key,
              Num score);

/// Extremes of `count` tiles from `tile` on, of AttentionMask::rowTiles or keyTiles.
///
///   rows   least low, greatest high, greatest rank, greatest low, least high, least rank
///   keys   least and greatest group of keys that are not padding, least and greatest rank, least group
struct TileExtremes {
  Num values[6];

  static TileExtremes ofRows(KernelBuilder &k, Pointer tiles, Num tile, int count = 1);
  static TileExtremes ofKeys(KernelBuilder &k, Pointer tiles, Num tile, int count = 1);
};

/// What rows may see of keys, from the extremes of both.
struct TileSight {
  Num some; ///< false: no row sees any key
  Num all;  ///< true: maskScore changes nothing

  static TileSight of(const AttentionShape &shape, const TileExtremes &rows,
                      const TileExtremes &keys);
};

/// The tiles of a side that a block has to look at, in shared memory: 2 * tile + 1 where it sees all of the
/// tile, 2 * tile where the mask must be applied, rising.
class TileList {
public:
  /// Made by all `threads` threads of the block, which meet at barriers, for the `count` tiles from
  /// `first` on of `all`; `sight` is that of one of them.
  TileList(KernelBuilder &k, int64_t threads, Num first, int64_t count, int64_t all,
           llvm::function_ref<TileSight(Num tile)> sight);

  Num size() const { return listed; }
  Num tile(Num n) const;
  Num seesAll(Num n) const; ///< 0 or 1

private:
  Pointer list;
  Num listed;
};

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

/// The running softmax of one row: the greatest score so far, in units of log 2, and this thread's part
/// of the sum of 2^(score - max).
struct SoftmaxRow {
  Num max, sum;

  static SoftmaxRow begin(KernelBuilder &k);
  /// Takes the scores of a key tile that this thread has, turns them into weights 2^(factor * score -
  /// max), and returns the factor for what was summed up before. The row is shared by the lanes that
  /// differ in the bits of `lanes`.
  Num step(KernelBuilder &k, float factor, MutableArrayRef<Num> scores, int lanes);
  /// After the last tile: sums up over the lanes.
  void finish(KernelBuilder &k, int lanes);
  /// Whether the row saw no key. A row that has a NaN saw one.
  Num sawNone() const { return sum == 0.f; }
  /// lse of the row, -inf if it saw no key or is even.
  Num lse(KernelBuilder &k, Num isEven) const;
};

/// The factor of a score: scale * log2 e.
float scoreFactor(const AttentionShape &shape);

/// What the backward knows of a row; 0 behind the last one.
struct GradientRow {
  Num lse;   ///< in units of log 2; log2 T for a row that sees no key
  Num delta; ///< rowsum(dO * O)

  /// Row `row` of what emitGradientRows made, from the example and head that `rows` points to.
  static GradientRow load(Pointer rows, Num row);
  /// P of a score after maskScore.
  Num weight(KernelBuilder &k, float factor, Num score) const;
};

/// GradientRow of every row, f32 [B, K, padded rows, 2], by a kernel of its own.
Value emitGradientRows(Operation *op, const AttentionShape &shape, const AttentionTiles &tiles,
                       Value dOut, Value out, Value lse);

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

/// Where things of one example and one key and value head lie. Elements.
struct AttentionPlace {
  const AttentionShape &shape;
  Num b, kv;

  /// Of row r in `of`: q, out or a gradient of them; i64.
  Num query(Pointer of, Num row) const;
  /// Of row r in lse and delta; i64.
  Num headOf(Num row) const;
  /// Of key j in `of`: k, v or a gradient of them; i64.
  Num key(Pointer of, Num key) const;
  /// Elements from token to token of `of`.
  int64_t queryStride(Pointer of) const {
    return of.rowStride ? of.rowStride : shape.heads * shape.headSize;
  }
  int64_t keyStride(Pointer of) const {
    return of.rowStride ? of.rowStride : shape.kvHeads * shape.headSize;
  }
};

/// What a block of threads does: number `tile` of the `tiles` tiles of (b, kv), of which it may make one of
/// `parts` parts of the columns.
///
/// Multiprocessors take blocks in the order of their numbers. Where the mask is causal the tiles with most to
/// do come first, for several heads at once: else the last head would begin its longest ones when the
/// others are done. Elsewhere all tiles of a head follow each other, so that they find its keys in the L2.
struct AttentionBlock {
  /// `rising`: the later a tile of a causal mask the more it has to do (rows), else the earlier (keys).
  AttentionBlock(KernelBuilder &k, const AttentionShape &shape, int64_t tiles, bool rising,
                 int64_t parts = 1);
  /// For a kernel whose blocks begin in order (`number`, KernelBuilder::beginInOrder) and wait for those of the
  /// same head before them: as many heads as possible side by side, whatever the mask.
  static AttentionBlock inOrder(const AttentionShape &shape, int64_t tiles, Num number);

  int64_t parts;
  Grid grid; ///< of the launch
  Num b, kv, tile, part;

private:
  AttentionBlock(const AttentionShape &shape, int64_t tiles, int64_t parts, int64_t most,
                 Num number);
};

/// Writes the mean of all T values of (b, kv) to `mean` (D f32 in shared memory), with all `threads`
/// threads of the block, which have just met at a barrier and meet at one after it.
void meanOfValues(KernelBuilder &k, const AttentionPlace &place, Pointer v, Pointer mean,
                  int64_t threads);

//===----------------------------------------------------------------------===//
// Forms
//===----------------------------------------------------------------------===//

/// The form in which an attention is computed on `chip` (`sm_80`, `sm_90a` ...).
AttentionForm chooseAttentionForm(const AttentionShape &shape, bool backward, StringRef chip);

/// Whether the form for sm_90a takes the shape. The sums of the backward must fit into registers.
bool hasHopperForm(const AttentionShape &shape, bool backward);

/// States the form on a launch, for `info`: `llama.form = "plain"`.
void stateForm(Operation *launch, AttentionForm form);

/// Emit kernels and launches before the op, which the caller erases.
void emitPlainForward(routine::AttentionForwardOp op);
void emitPlainBackward(routine::AttentionBackwardOp op);
void emitMmaForward(routine::AttentionForwardOp op);
void emitMmaBackward(routine::AttentionBackwardOp op);
void emitHopperForward(routine::AttentionForwardOp op);
void emitHopperBackward(routine::AttentionBackwardOp op);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_ATTENTION_H
