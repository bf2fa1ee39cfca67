//===- AttentionPlain.cpp - Attention without tensor cores ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The form for f32, for proof, and for what the others do not take: any head size, chip and type, f32
// arithmetic. Tiles have 64 rows and 64 keys; 256 threads, 16 x 16, each with a square of 4 x 4.
//
// The head is taken 64 columns at a time (a chunk), so shared memory does not depend on its size:
// two chunks of operands (f32, zeros behind the last row, key or column), and tiles of P and dS.
//
//                                thread (ty, tx)
//   scores  S[4 ty + i, tx + 16 j] += sum_c Q[4 ty + i, c] K[tx + 16 j, c]     timesTransposed
//   output  O[4 ty + i, 4 tx + j]  += sum_n P[4 ty + i, n] V[n, 4 tx + j]      times
//   dK, dV  dV[4 ty + i, 4 tx + j] += sum_m P[m, 4 ty + i] dO[m, 4 tx + j]     transposedTimes
//
// Rows of a tile lie 68 numbers apart: then the 16-byte accesses of the three products hit each bank once.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Attention.h"

using namespace mlir;
using namespace mlir::llamac;

static constexpr int64_t kTile = 64, kThreads = 256, kStride = 68;
// A thread has 4 rows and 4 columns; 16 threads side by side share a row.
static constexpr int kOwn = 4, kSide = 16;

namespace {
// The parts that the three kernels are made of.
class PlainKernel {
public:
  PlainKernel(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles)
      : k(k), shape(shape), tiles(tiles), place{shape, k.blockId(2), k.blockId(1)},
        tx(k.threadId() % kSide), ty(k.threadId() / kSide),
        chunks(llvm::divideCeil(shape.headSize, kTile)),
        depth(std::min<int64_t>(llvm::alignTo(shape.headSize, 4), kTile)) {}

  KernelBuilder &k;
  const AttentionShape &shape;
  const AttentionTiles &tiles;
  AttentionPlace place;
  Num tx, ty;
  int64_t chunks, depth; // of the head; columns of a chunk that may be other than 0

  Pointer tile() { return k.shared(kTile * kStride, k.getF32Type()); }
  Nums zeros(int64_t count) { return Nums(count, k.number(0)); }
  Num row(Num tile, int i) { return tile * kTile + ty * kOwn + i; }
  Num key(Num tile, int j) { return tile * kTile + tx + kSide * j; }

  // Columns [64 chunk, 64 chunk + 64) of 64 rows or keys to shared memory; `at(n)` is where the n-th of
  // the tile begins, of which there are `count`.
  void stage(Pointer from, Pointer to, Num chunk, Num count, llvm::function_ref<Num(Num n)> at) {
    const int64_t D = shape.headSize;
    const int lanes = D % 4 == 0 ? 4 : 1;
    Num zero = k.number(0);
    for (int i = 0; i != kOwn; ++i) {
      Num n = ty + kSide * i;
      Num here = n < count;
      Pointer start = from + at(k.min(n, count - 1));
      Num column = chunk * kTile + tx * 4;
      Nums four;
      for (int c = 0; c != 4; c += lanes) {
        Num loaded = start.loadFloat(k.min(column + c, k.integer(D - lanes)), lanes);
        Num inside = here & (column + c < D);
        for (int l = 0; l != lanes; ++l)
          four.push_back(k.select(inside, lanes == 1 ? loaded : loaded[l], zero));
      }
      to.store(n * kStride + tx * 4, k.vector(four));
    }
  }
  void stageRows(Pointer from, Pointer to, Num chunk, Num tile) {
    stage(from, to, chunk, k.integer(shape.rows()) - tile * kTile,
          [&](Num n) { return place.query(from, tile * kTile + n); });
  }
  void stageKeys(Pointer from, Pointer to, Num chunk, Num tile) {
    stage(from, to, chunk, k.integer(shape.keys) - tile * kTile,
          [&](Num n) { return place.key(from, tile * kTile + n); });
  }

  // sums[4 i + j] += a[4 ty + i, :] . b[tx + 16 j, :] over a chunk.
  Nums timesTransposed(Pointer a, Pointer b, ArrayRef<Num> sums) {
    return k.loop(0, depth, 4, sums, [&](Num c, ArrayRef<Num> before) {
      Nums left, right;
      for (int i = 0; i != kOwn; ++i) {
        left.push_back(a.load((ty * kOwn + i) * kStride + c, 4));
        right.push_back(b.load((tx + kSide * i) * kStride + c, 4));
      }
      Nums after(before);
      for (int x = 0; x != 4; ++x)
        for (int i = 0; i != kOwn; ++i)
          for (int j = 0; j != kOwn; ++j)
            after[i * kOwn + j] = k.fma(left[i][x], right[j][x], after[i * kOwn + j]);
      return after;
    });
  }
  // sums[4 i + j] += a[4 ty + i, :] . b[:, 4 tx + j] over 64 keys.
  Nums times(Pointer a, Pointer b, ArrayRef<Num> sums) {
    return k.loop(0, kTile, 4, sums, [&](Num n, ArrayRef<Num> before) {
      Nums left, right;
      for (int i = 0; i != kOwn; ++i) {
        left.push_back(a.load((ty * kOwn + i) * kStride + n, 4));
        right.push_back(b.load((n + i) * kStride + tx * kOwn, 4));
      }
      Nums after(before);
      for (int x = 0; x != 4; ++x)
        for (int i = 0; i != kOwn; ++i)
          for (int j = 0; j != kOwn; ++j)
            after[i * kOwn + j] = k.fma(left[i][x], right[x][j], after[i * kOwn + j]);
      return after;
    });
  }
  // sums[4 i + j] += a[:, 4 ty + i] . b[:, 4 tx + j] over 64 rows.
  Nums transposedTimes(Pointer a, Pointer b, ArrayRef<Num> sums) {
    return k.loop(0, kTile, 1, sums, [&](Num m, ArrayRef<Num> before) {
      Num left = a.load(m * kStride + ty * kOwn, 4), right = b.load(m * kStride + tx * kOwn, 4);
      Nums after(before);
      for (int i = 0; i != kOwn; ++i)
        for (int j = 0; j != kOwn; ++j)
          after[i * kOwn + j] = k.fma(left[i], right[j], after[i * kOwn + j]);
      return after;
    });
  }

  // rows . keys^T for a pair of tiles, over all chunks.
  Nums scores(Pointer rows, Num rowTile, Pointer keys, Num keyTile, Pointer a, Pointer b) {
    return k.loop(0, chunks, 1, zeros(kOwn * kOwn), [&](Num chunk, ArrayRef<Num> sums) {
      k.barrier();
      stageRows(rows, a, chunk, rowTile);
      stageKeys(keys, b, chunk, keyTile);
      k.barrier();
      return timesTransposed(a, b, sums);
    });
  }

  // A square of a tile of scores, into shared memory.
  void storeSquare(Pointer to, ArrayRef<Num> square) {
    for (int i = 0; i != kOwn; ++i)
      for (int j = 0; j != kOwn; ++j)
        to.store((ty * kOwn + i) * kStride + tx + kSide * j, square[i * kOwn + j]);
  }

  // Row i of a square of a chunk of results, to memory at `at` if `there`.
  void storeRow(Pointer to, Num at, Num there, Num chunk, ArrayRef<Num> four) {
    const int64_t D = shape.headSize;
    Num column = tx * kOwn + chunk * kTile;
    Pointer start = to + at;
    if (D % 4 == 0) {
      k.when(there & (column < D), [&] { start.storeFloat(column, k.vector(four)); });
      return;
    }
    for (int j = 0; j != kOwn; ++j)
      k.when(there & (column + j < D), [&] { start.storeFloat(column + j, four[j]); });
  }
};
} // namespace

void llamac::emitPlainForward(routine::AttentionForwardOp op) {
  const AttentionShape shape = AttentionShape::of(op);
  const AttentionTiles tiles = AttentionTiles::of(shape, kTile, kTile);
  AttentionMask mask = emitMask(op, shape, tiles, op.getMasks(), {});

  KernelBuilder k(op, "attention_forward_plain",
                  {op.getQ(), op.getK(), op.getV(), mask.rows, mask.keys, mask.rowTiles,
                   mask.keyTiles, op.getOut(), op.getLse()},
                  7, kThreads);
  Pointer q = k.argument(0), keys = k.argument(1), values = k.argument(2);
  Pointer rowMasks = k.argument(3), keyMasks = k.argument(4), rowExtremes = k.argument(5),
          keyExtremes = k.argument(6), out = k.argument(7), lse = k.argument(8);
  const float factor = scoreFactor(shape);
  PlainKernel plain(k, shape, tiles);
  Pointer a = plain.tile(), b = plain.tile(), weights = plain.tile();

  // The last tiles of a causal mask have most to do: they start first.
  Num tile = tiles.rowTiles - 1 - k.blockId(0);
  TileExtremes own = TileExtremes::ofRows(k, rowExtremes, plain.place.b * tiles.rowTiles + tile);
  Pointer ownMasks = rowMasks + plain.place.b * (tiles.paddedRows() * 4);
  Pointer otherMasks = keyMasks + plain.place.b * (tiles.paddedKeys() * 2);
  RowMask rowMask[kOwn];
  for (int i = 0; i != kOwn; ++i)
    rowMask[i] = RowMask::load(ownMasks, plain.row(tile, i));

  // All that goes from one key tile to the next: rows, then sums of each chunk.
  Nums state;
  for (int i = 0; i != kOwn; ++i) {
    SoftmaxRow row = SoftmaxRow::begin(k);
    state.append({row.max, row.sum});
  }
  state.append(plain.zeros(kOwn * kOwn * plain.chunks));

  state = k.loop(0, tiles.keyTiles, 1, state, [&](Num keyTile, ArrayRef<Num> before) {
    TileExtremes other =
        TileExtremes::ofKeys(k, keyExtremes, plain.place.b * tiles.keyTiles + keyTile);
    return k.when(TileSight::of(shape, own, other).some, before, [&] {
      Nums scores = plain.scores(q, tile, keys, keyTile, a, b);
      for (int j = 0; j != kOwn; ++j) {
        KeyMask key = KeyMask::load(otherMasks, plain.key(keyTile, j));
        for (int i = 0; i != kOwn; ++i) {
          Num &score = scores[i * kOwn + j];
          score = maskScore(k, shape, rowMask[i], key, score);
        }
      }
      Nums after(before);
      for (int i = 0; i != kOwn; ++i) {
        SoftmaxRow row = {before[2 * i], before[2 * i + 1]};
        Num old = row.step(k, factor, MutableArrayRef(scores).slice(i * kOwn, kOwn), kSide - 1);
        after[2 * i] = row.max;
        after[2 * i + 1] = row.sum;
        for (int64_t chunk = 0; chunk != plain.chunks; ++chunk)
          for (int j = 0; j != kOwn; ++j) {
            Num &sum = after[2 * kOwn + (chunk * kOwn + i) * kOwn + j];
            sum = sum * old;
          }
      }
      plain.storeSquare(weights, scores);
      for (int64_t chunk = 0; chunk != plain.chunks; ++chunk) {
        k.barrier();
        plain.stageKeys(values, b, k.integer(chunk), keyTile);
        k.barrier();
        MutableArrayRef<Num> sums =
            MutableArrayRef(after).slice(2 * kOwn + chunk * kOwn * kOwn, kOwn * kOwn);
        llvm::copy(plain.times(weights, b, sums), sums.begin());
      }
      return after;
    });
  });

  // Rows that saw no key get the mean of all values.
  SoftmaxRow rows[kOwn];
  Num none;
  for (int i = 0; i != kOwn; ++i) {
    rows[i] = {state[2 * i], state[2 * i + 1]};
    rows[i].finish(k, kSide - 1);
    none = none ? none | rows[i].sawNone() : rows[i].sawNone();
  }
  Pointer mean = k.shared(shape.headSize, k.getF32Type());
  k.when(k.barrierAny(none), [&] { meanOfValues(k, plain.place, values, mean, kThreads); });
  for (int i = 0; i != kOwn; ++i) {
    Num row = plain.row(tile, i), there = row < shape.rows(), saw = rows[i].sawNone();
    Num at = plain.place.query(out, row);
    Num scale = k.reciprocal(k.select(saw, k.number(1), rows[i].sum));
    for (int64_t chunk = 0; chunk != plain.chunks; ++chunk) {
      Nums four;
      for (int j = 0; j != kOwn; ++j) {
        Num column = plain.tx * kOwn + (chunk * kTile + j);
        Num sum = state[2 * kOwn + (chunk * kOwn + i) * kOwn + j] * scale;
        four.push_back(k.when(saw, {sum}, [&] {
          return Nums{mean.load(k.min(column, k.integer(shape.headSize - 1)))};
        })[0]);
      }
      plain.storeRow(out, at, there, k.integer(chunk), four);
    }
    k.when(there & (plain.tx == 0),
           [&] { lse.store(plain.place.headOf(row), rows[i].lse(k, rowMask[i].isEven())); });
  }
  Operation *launch = k.launch({tiles.rowTiles, shape.kvHeads, shape.batch});
  stateForm(launch, AttentionForm::Plain);
}

//===----------------------------------------------------------------------===//
// Backward
//===----------------------------------------------------------------------===//

namespace {
// P and dS of one pair of tiles, for both kernels of the backward.
struct PlainGradient {
  PlainKernel &plain;
  Pointer dOut, q, keys, values, rows, rowMasks, keyMasks;

  PlainGradient(PlainKernel &plain)
      : plain(plain), dOut(plain.k.argument(0)), q(plain.k.argument(1)), keys(plain.k.argument(2)),
        values(plain.k.argument(3)) {
    const AttentionPlace &at = plain.place;
    rows = plain.k.argument(4) +
           (at.b * plain.shape.kvHeads + at.kv).wide() * (plain.tiles.paddedRows() * 2);
    rowMasks = plain.k.argument(5) + at.b * (plain.tiles.paddedRows() * 4);
    keyMasks = plain.k.argument(6) + at.b * (plain.tiles.paddedKeys() * 2);
  }

  struct Row {
    RowMask mask;
    GradientRow gradient;
  };
  Row row(Num tile, int i) {
    Num row = plain.row(tile, i);
    return {RowMask::load(rowMasks, row), GradientRow::load(rows, row)};
  }

  // weights = P, scores = P * (dP - delta): dS but for the factor `scale`.
  void compute(ArrayRef<Row> rows, Num rowTile, Num keyTile, Pointer a, Pointer b, Nums &weights,
               Nums &dScores) {
    KernelBuilder &k = plain.k;
    const float factor = scoreFactor(plain.shape);
    weights = plain.scores(q, rowTile, keys, keyTile, a, b);
    dScores = plain.scores(dOut, rowTile, values, keyTile, a, b);
    for (int j = 0; j != kOwn; ++j) {
      KeyMask key = KeyMask::load(keyMasks, plain.key(keyTile, j));
      for (int i = 0; i != kOwn; ++i) {
        Num &weight = weights[i * kOwn + j], &dScore = dScores[i * kOwn + j];
        weight = rows[i].gradient.weight(k, factor,
                                         maskScore(k, plain.shape, rows[i].mask, key, weight));
        dScore = weight * (dScore - rows[i].gradient.delta);
      }
    }
  }
};
} // namespace

void llamac::emitPlainBackward(routine::AttentionBackwardOp op) {
  const AttentionShape shape = AttentionShape::of(op);
  const AttentionTiles tiles = AttentionTiles::of(shape, kTile, kTile);
  const float scale = float(shape.scale);
  Value rows = emitGradientRows(op, shape, tiles, op.getDOut(), op.getOut(), op.getLse());
  AttentionMask mask = emitMask(op, shape, tiles, op.getMasks(), op.getLse());
  SmallVector<Value> inputs = {op.getDOut(), op.getQ(), op.getK(),     op.getV(),    rows,
                               mask.rows,    mask.keys, mask.rowTiles, mask.keyTiles};
  const unsigned count = inputs.size();

  // dQ: a block owns a row tile.
  {
    SmallVector<Value> buffers(inputs);
    buffers.push_back(op.getDQ());
    KernelBuilder k(op, "attention_dq_plain", buffers, count, kThreads);
    PlainKernel plain(k, shape, tiles);
    PlainGradient gradient(plain);
    Pointer a = plain.tile(), b = plain.tile(), dScoreTile = plain.tile();
    Num tile = tiles.rowTiles - 1 - k.blockId(0);
    TileExtremes own =
        TileExtremes::ofRows(k, k.argument(7), plain.place.b * tiles.rowTiles + tile);
    SmallVector<PlainGradient::Row> rows;
    for (int i = 0; i != kOwn; ++i)
      rows.push_back(gradient.row(tile, i));
    Nums sums = k.loop(0, tiles.keyTiles, 1, plain.zeros(kOwn * kOwn * plain.chunks),
                       [&](Num keyTile, ArrayRef<Num> before) {
                         TileExtremes other = TileExtremes::ofKeys(
                             k, k.argument(8), plain.place.b * tiles.keyTiles + keyTile);
                         return k.when(TileSight::of(shape, own, other).some, before, [&] {
                           Nums weights, dScores, after;
                           gradient.compute(rows, tile, keyTile, a, b, weights, dScores);
                           plain.storeSquare(dScoreTile, dScores);
                           for (int64_t chunk = 0; chunk != plain.chunks; ++chunk) {
                             k.barrier();
                             plain.stageKeys(gradient.keys, b, k.integer(chunk), keyTile);
                             k.barrier();
                             after.append(plain.times(
                                 dScoreTile, b, before.slice(chunk * kOwn * kOwn, kOwn * kOwn)));
                           }
                           return after;
                         });
                       });
    for (int i = 0; i != kOwn; ++i) {
      Num row = plain.row(tile, i);
      for (int64_t chunk = 0; chunk != plain.chunks; ++chunk) {
        Nums four;
        for (int j = 0; j != kOwn; ++j)
          four.push_back(sums[(chunk * kOwn + i) * kOwn + j] * scale);
        plain.storeRow(k.argument(count), plain.place.query(k.argument(count), row),
                       row < shape.rows(), k.integer(chunk), four);
      }
    }
    Operation *launch = k.launch({tiles.rowTiles, shape.kvHeads, shape.batch});
    stateForm(launch, AttentionForm::Plain);
  }

  // dK and dV: a block owns a key tile, and two chunks of the head, for which registers are enough.
  {
    SmallVector<Value> buffers(inputs);
    llvm::append_values(buffers, op.getDK(), op.getDV());
    KernelBuilder k(op, "attention_dkv_plain", buffers, count, kThreads);
    PlainKernel plain(k, shape, tiles);
    PlainGradient gradient(plain);
    Pointer a = plain.tile(), b = plain.tile(), weightTile = plain.tile(),
            dScoreTile = plain.tile();
    const int64_t mine = std::min<int64_t>(plain.chunks, 2),
                  parts = llvm::divideCeil(plain.chunks, mine);
    Num tile = k.blockId(0) / parts, firstChunk = k.blockId(0) % parts * mine;
    TileExtremes own =
        TileExtremes::ofKeys(k, k.argument(8), plain.place.b * tiles.keyTiles + tile);
    // dK, then dV, chunk by chunk.
    const int64_t square = kOwn * kOwn, half = square * mine;
    Nums sums =
        k.loop(0, tiles.rowTiles, 1, plain.zeros(2 * half), [&](Num rowTile, ArrayRef<Num> before) {
          TileExtremes other =
              TileExtremes::ofRows(k, k.argument(7), plain.place.b * tiles.rowTiles + rowTile);
          return k.when(TileSight::of(shape, other, own).some, before, [&] {
            SmallVector<PlainGradient::Row> rows;
            for (int i = 0; i != kOwn; ++i)
              rows.push_back(gradient.row(rowTile, i));
            Nums weights, dScores, after(before);
            gradient.compute(rows, rowTile, tile, a, b, weights, dScores);
            plain.storeSquare(weightTile, weights);
            plain.storeSquare(dScoreTile, dScores);
            for (int64_t chunk = 0; chunk != mine; ++chunk) {
              k.barrier();
              plain.stageRows(gradient.q, a, firstChunk + chunk, rowTile);
              plain.stageRows(gradient.dOut, b, firstChunk + chunk, rowTile);
              k.barrier();
              auto add = [&](Pointer tile, Pointer operand, int64_t at) {
                MutableArrayRef<Num> sums = MutableArrayRef(after).slice(at, square);
                llvm::copy(plain.transposedTimes(tile, operand, sums), sums.begin());
              };
              add(dScoreTile, a, chunk * square);
              add(weightTile, b, half + chunk * square);
            }
            return after;
          });
        });
    for (int i = 0; i != kOwn; ++i) {
      Num key = plain.row(tile, i), there = key < shape.keys;
      for (int64_t chunk = 0; chunk != mine; ++chunk) {
        Nums dK, dV;
        for (int j = 0; j != kOwn; ++j) {
          dK.push_back(sums[chunk * square + i * kOwn + j] * scale);
          dV.push_back(sums[half + chunk * square + i * kOwn + j]);
        }
        plain.storeRow(k.argument(count), plain.place.key(k.argument(count), key), there,
                       firstChunk + chunk, dK);
        plain.storeRow(k.argument(count + 1), plain.place.key(k.argument(count + 1), key), there,
                       firstChunk + chunk, dV);
      }
    }
    Operation *launch = k.launch({tiles.keyTiles * parts, shape.kvHeads, shape.batch});
    stateForm(launch, AttentionForm::Plain);
  }
}
