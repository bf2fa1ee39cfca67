//===- AttentionMma.cpp - Attention on tensor cores, mma.sync -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The form for bf16 on every chip from sm_80 on. All three kernels are one scheme: a block of 4 warps owns 64
// rows (or keys), 16 for each warp, and goes through tiles of the others, which cp.async brings into one
// of two stages while the tensor cores work on the other.
//
//                 own (64)     others       products of a pair of tiles
//   forward       Q            K, V         S = Q K^T             O  += P V
//   dQ            Q, dO        K, V         S = Q K^T   W = dO V^T   dQ += dS K
//   dK, dV        K, V         Q, dO        S^T = K Q^T W^T = V dO^T dK += dS^T Q   dV += P^T dO
//
// What a product leaves in registers is, packed to bf16, the left operand of the next one: scores never
// go through memory. A tile of others has 64 rows (forward) or 32 (backward), half of that where the head
// has more than 128 columns: then shared memory stays below the 99 KB that every chip has, and registers
// below 255 for a thread. The columns of dK and dV of such a head are divided between two blocks, each of
// which forms the scores; those of O where there are more than 192.
//
// The order of the others is listed when a block begins: those that its mask leaves anything of, rising,
// and whether all of it (then the mask is not looked at). Of very long sequences it lists a part at a time
// (overTiles): so shared memory does not depend on lengths.
//
// Shared memory holds rows in pieces of 16 bytes, one after the other, but pieces change places within their
// row so that the 8 rows of a matrix, which ldmatrix reads, lie in different banks (SharedTile). Nothing is
// padded: head sizes are multiples of 8, and a last half step of 8 columns is an m16n8k8.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Attention.h"

using namespace mlir;
using namespace mlir::llamac;

static constexpr int64_t kOwn = 64, kThreads = 128, kWarpRows = 16, kWarp = 32;
static constexpr int kStages = 2;

namespace {
// Rows of bf16 in shared memory, in pieces of 8 elements. With 2^s the greatest power of two, at most 8, that
// divides the number of pieces of a row, 8 rows begin in 8 / 2^s places of the 128 bytes of all banks;
// rows that begin in the same place have pieces of 2^s exchanged differently.
struct SharedTile {
  Pointer start; // bytes
  Num offset;    // of the tile, a multiple of 128 bytes
  int64_t rows, pieces;

  int64_t bytes() const { return rows * pieces * 16; }

  // Where piece `piece` + `even` of row `row` lies. Where `even` is not 0, `piece` is 0 or 1: then places of
  // one row differ in constants alone, which need no registers.
  Pointer at(Num row, Num piece, int64_t even = 0) const {
    const int64_t s = std::min(llvm::countr_zero(uint64_t(pieces)), 3), exchanged = even % (1 << s);
    if (s > 0)
      piece = piece ^ (row / (8 >> s) & ((1 << s) - 1));
    Num place = offset + (row * pieces + piece) * 16;
    return start + ((place ^ exchanged * 16) + (even - exchanged) * 16);
  }
  SharedTile operator+(Num bytes) const { return {start, offset + bytes, rows, pieces}; }
};

// What the kernels are made of.
class MmaKernel {
public:
  MmaKernel(KernelBuilder &k, const AttentionShape &shape, const AttentionBlock &block)
      : k(k), shape(shape), place{shape, block.b, block.kv}, pieces(shape.headSize / 8),
        thread(k.threadId()), lane(thread % kWarp), warp(thread / kWarp), group(lane / 4),
        pair(lane % 4 * 2) {}

  KernelBuilder &k;
  const AttentionShape &shape;
  AttentionPlace place;
  int64_t pieces; // of a row
  Num thread, lane, warp;
  Num group,
      pair; // of sums of 16 x 8 a lane has rows `group` and `group` + 8, columns `pair` and `pair` + 1

  SharedTile tile(int64_t rows, int count = 1) {
    SharedTile tile = {{}, k.integer(0), rows, pieces};
    tile.start = k.shared(tile.bytes() * count, k.getI8Type());
    return tile;
  }
  Pointer stages(int64_t bytes) { return k.shared(bytes * kStages, k.getI8Type()); }

  //===--- Copies ---===//

  // Rows `first` to `first + tile.rows` of the queries' or keys' matrix `from`, zeros behind the last. A
  // thread copies one piece of every `step`-th row.
  void copyRows(Pointer from, const SharedTile &tile, Num first, bool keys) {
    const int64_t step = kThreads / pieces, last = keys ? shape.keys : shape.rows();
    // Rows that far apart are so many elements apart, if `step` rows are whole queries.
    const bool even = keys || step % shape.group() == 0;
    const int64_t apart =
        keys ? step * place.keyStride(from) : step / shape.group() * place.queryStride(from);
    Num row = thread / pieces, piece = thread % pieces;
    auto placeOf = [&](Num r) { return keys ? place.key(from, r) : place.query(from, r); };
    auto copy = [&](int64_t done) {
      Num r = first + row + done;
      Num at = even ? placeOf(first + row) + done / step * apart : placeOf(r);
      k.copyAsync(tile.at(row + done, piece), from + at + piece.wide() * 8, r < last);
    };
    auto copyAll = [&] {
      for (int64_t done = 0; done < tile.rows; done += step)
        if (done + step <= tile.rows)
          copy(done);
        else
          k.when(row + done < tile.rows, [&] { copy(done); });
    };
    if (step * pieces == kThreads)
      copyAll();
    else
      k.when(thread < step * pieces, copyAll);
  }

  // `bytes` bytes that lie next to each other.
  void copyBytes(Pointer from, Pointer to, int64_t bytes) {
    Num yes = k.constant(k.getI1Type(), int64_t(1));
    for (int64_t done = 0; done < bytes; done += kThreads * 16)
      k.when(thread < (bytes - done) / 16, [&] {
        Num at = thread * 16 + done;
        k.copyAsync(to + at, from.as(k.getI8Type()) + at, yes);
      });
  }

  //===--- Tiles of the others ---===//

  // values = body(list, values) for lists of the `count` tiles of which `sight` leaves something: one list, unless it
  // would be too long for shared memory.
  Nums overTiles(int64_t count, ArrayRef<Num> values, llvm::function_ref<TileSight(Num tile)> sight,
                 llvm::function_ref<Nums(const TileList &list, ArrayRef<Num> values)> body) {
    const int64_t most = shape.headSize <= 192 ? 2048 : 32;
    if (count <= most)
      return body({k, kThreads, k.integer(0), count, count, sight}, values);
    return k.loop(0, count, most, values, [&](Num first, ArrayRef<Num> before) {
      return body({k, kThreads, first, most, count, sight}, before);
    });
  }

  //===--- Fragments: see the PTX ISA, m16n8k16 ---===//

  // The warp's 16 rows of `tile`, columns 16 step ..: a left operand.
  Nums left(const SharedTile &tile, int64_t step) {
    Num row = warp * kWarpRows + lane % 16;
    if (isHalf(step))
      return k.loadMatrices(tile.at(row, k.integer(0), 2 * step), 2);
    return k.loadMatrices(tile.at(row, lane / 16, 2 * step), 4);
  }
  // Rows 16 n .. of `tile`, columns 16 step ..: two right operands, for a product with the transposed tile.
  Nums rightTransposed(const SharedTile &tile, int64_t n, int64_t step) {
    if (isHalf(step))
      return k.loadMatrices(tile.at(lane % 16 + 16 * n, k.integer(0), 2 * step), 2);
    Num row = lane % 8 + lane / 16 * 8 + 16 * n;
    return k.loadMatrices(tile.at(row, lane / 8 % 2, 2 * step), 4);
  }
  // Rows 16 step .. of `tile`, 8 or 16 columns from piece `piece` + `even` on: one or two right operands.
  Nums right(const SharedTile &tile, int64_t step, Num piece, int64_t even, bool both) {
    Num row = lane % 16 + 16 * step;
    Num side = both ? lane / 16 : k.integer(0);
    Pointer at = getConstantIntValue(piece.value) == 0 ? tile.at(row, side, even)
                                                       : tile.at(row, piece + even + side);
    return k.loadMatrices(at, both ? 4 : 2, true);
  }

  // Steps of 16 columns of the head, of which the last may be half a one.
  int64_t steps() const { return (pieces + 1) / 2; }
  bool isHalf(int64_t step) const { return 2 * step + 1 == pieces; }

  //===--- Products ---===//

  Nums zeros(int64_t count) { return Nums(count, k.number(0)); }

  // sums += a[4 i ..] * b[size i ..] for n-block `n`; `sums` has 4 numbers for each block of 8 columns.
  void add(MutableArrayRef<Num> sums, int64_t block, ArrayRef<Num> a, ArrayRef<Num> b) {
    llvm::copy(k.multiply(a, b, sums.slice(4 * block, 4)), sums.begin() + 4 * block);
  }

  // own * others^T: 4 numbers for each 8 rows of `others`. `fragments`: left(own, step), if they are kept.
  Nums scores(const SharedTile &own, ArrayRef<Nums> fragments, const SharedTile &others) {
    Nums sums = zeros(others.rows / 8 * 4);
    for (int64_t step = 0; step != steps(); ++step) {
      Nums a = fragments.empty() ? left(own, step) : fragments[step];
      for (int64_t n = 0; n != others.rows / 16; ++n) {
        Nums b = rightTransposed(others, n, step);
        const int64_t half = b.size() / 2;
        add(sums, 2 * n, a, ArrayRef(b).take_front(half));
        add(sums, 2 * n + 1, a, ArrayRef(b).drop_front(half));
      }
    }
    return sums;
  }

  // sums += weights * others, for `count` pieces from `piece` on; `weights` as `scores` gives them.
  void addProduct(MutableArrayRef<Num> sums, ArrayRef<Num> weights, const SharedTile &others,
                  Num piece, int64_t count) {
    for (int64_t step = 0; step != others.rows / 16; ++step) {
      ArrayRef<Num> w = weights.slice(8 * step, 8);
      Nums a = {k.pack(w[0], w[1]), k.pack(w[2], w[3]), k.pack(w[4], w[5]), k.pack(w[6], w[7])};
      for (int64_t p = 0; p < count; p += 2) {
        const bool both = p + 1 < count;
        Nums b = right(others, step, piece, p, both);
        add(sums, p, a, ArrayRef(b).take_front(2));
        if (both)
          add(sums, p + 1, a, ArrayRef(b).drop_front(2));
      }
    }
  }

  //===--- Results ---===//

  // Writes the warp's 16 rows, `count` pieces from `piece` on, first to `staging` (whose rows only this
  // warp reads), then in pieces of 16 bytes to memory. Skips pieces before `firstPiece`.
  void storeRows(ArrayRef<Num> sums, const SharedTile &staging, Pointer to, Num first, bool keys,
                 Num piece, int64_t count, Num firstPiece) {
    k.syncWarp();
    for (int64_t p = 0; p != count; ++p)
      for (int half = 0; half != 2; ++half) {
        Num row = warp * kWarpRows + group + 8 * half;
        Num both = k.pack(sums[4 * p + 2 * half], sums[4 * p + 2 * half + 1]);
        (staging.at(row, piece + p) + pair * 2).as(k.getI32Type()).store(k.integer(0), both);
      }
    k.syncWarp();
    const int64_t all = kWarpRows * count, last = keys ? shape.keys : shape.rows();
    for (int64_t done = 0; done < all; done += kWarp) {
      Num index = lane + done, own = index / count, p = piece + index % count;
      Num row = warp * kWarpRows + own, r = first + row;
      Num there = (r < last) & (p >= firstPiece);
      if (done + kWarp > all)
        there = there & (index < all);
      k.when(there, [&] {
        Num value = staging.at(row, p).as(k.getI32Type()).load(k.integer(0), 4);
        Num at = keys ? place.key(to, r) : place.query(to, r);
        (to + at + p.wide() * 8).as(k.getI32Type()).store(k.integer(0), value);
      });
    }
  }
};
} // namespace

// Rows or keys of a tile of the others.
static int64_t othersOf(const AttentionShape &shape, int64_t most) {
  return shape.headSize <= 128 ? most : most / 2;
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

void llamac::emitMmaForward(routine::AttentionForwardOp op) {
  const AttentionShape shape = AttentionShape::of(op);
  const AttentionTiles tiles = AttentionTiles::of(shape, kOwn, othersOf(shape, 64));
  AttentionMask mask = emitMask(op, shape, tiles, op.getMasks(), {});
  KernelBuilder k(op, "attention_forward_mma",
                  {op.getQ(), op.getK(), op.getV(), mask.rows, mask.keys, mask.rowTiles,
                   mask.keyTiles, op.getOut(), op.getLse()},
                  7, kThreads);
  // Blocks that divide the columns of O, where they would be too many registers.
  const AttentionBlock block(k, shape, tiles.rowTiles, /*rising=*/true,
                             shape.headSize <= 192 ? 1 : 2);
  MmaKernel mma(k, shape, block);
  const Num b = mma.place.b;
  Pointer keys = k.argument(1), values = k.argument(2);
  Pointer rowMasks = k.argument(3) + b * (tiles.paddedRows() * 4),
          keyMasks = k.argument(4) + b * (tiles.paddedKeys() * 2);
  const float factor = scoreFactor(shape);

  SharedTile q = mma.tile(kOwn), k0 = mma.tile(tiles.keys, kStages),
             v0 = mma.tile(tiles.keys, kStages);
  const int64_t maskBytes = tiles.keys * 8;
  Pointer ownMasks = k.shared(kOwn * 16, k.getI8Type()), otherMasks = mma.stages(maskBytes);
  Pointer mean = k.shared(shape.headSize, k.getF32Type());

  // `columns` pieces of O; the last part may overlap the one before.
  const int64_t columns = llvm::divideCeil(mma.pieces, block.parts);
  Num piece = k.min(block.part * columns, k.integer(mma.pieces - columns));
  Num tile = block.tile, first = tile * kOwn;
  mma.copyRows(k.argument(0), q, first, /*keys=*/false);
  mma.copyBytes(rowMasks + first * 4, ownMasks, kOwn * 16);
  TileExtremes own = TileExtremes::ofRows(k, k.argument(5), b * tiles.rowTiles + tile);
  auto sight = [&](Num keyTile) {
    return TileSight::of(shape, own,
                         TileExtremes::ofKeys(k, k.argument(6), b * tiles.keyTiles + keyTile));
  };
  auto rowMask = [&](int half) {
    return RowMask::load(ownMasks.as(k.getI32Type()), mma.warp * kWarpRows + mma.group + 8 * half);
  };

  // All that goes from one key tile to the next: two rows, then O.
  Nums state;
  for (int half = 0; half != 2; ++half) {
    SoftmaxRow row = SoftmaxRow::begin(k);
    state.append({row.max, row.sum});
  }
  state.append(mma.zeros(columns * 4));
  state =
      mma.overTiles(tiles.keyTiles, state, sight, [&](const TileList &list, ArrayRef<Num> state) {
        const Num count = list.size();
        auto load = [&](Num number) {
          Num keyTile = list.tile(number), stage = number % 2;
          mma.copyRows(keys, k0 + stage * k0.bytes(), keyTile * tiles.keys, /*keys=*/true);
          mma.copyRows(values, v0 + stage * v0.bytes(), keyTile * tiles.keys, /*keys=*/true);
          mma.copyBytes(keyMasks + keyTile * (tiles.keys * 2), otherMasks + stage * maskBytes,
                        maskBytes);
        };
        k.when(count > 0, [&] { load(k.integer(0)); });
        k.commitCopies();
        k.waitCopies(0);
        k.barrier();
        SmallVector<Nums> fragments;
        if (shape.headSize <= 128)
          for (int64_t step = 0; step != mma.steps(); ++step)
            fragments.push_back(mma.left(q, step));
        return k.loop(k.integer(0), count, 1, state, [&](Num number, ArrayRef<Num> before) {
          // What was copied is there, and no warp still reads the other stage.
          k.waitCopies(0);
          k.barrier();
          k.when(number + 1 < count, [&] { load(number + 1); });
          k.commitCopies();
          Num stage = number % 2;
          Nums scores = mma.scores(q, fragments, k0 + stage * k0.bytes());
          scores = k.when(list.seesAll(number) == 0, scores, [&] {
            Nums masked(scores);
            Pointer masks = (otherMasks + stage * maskBytes).as(k.getI32Type());
            RowMask rows[] = {rowMask(0), rowMask(1)};
            for (int64_t n = 0; n != tiles.keys / 8; ++n) {
              Num two = masks.load((mma.pair + 8 * n) * 2, 4);
              KeyMask pair[] = {{two[0], two[1]}, {two[2], two[3]}};
              for (int i = 0; i != 4; ++i)
                masked[4 * n + i] =
                    maskScore(k, shape, rows[i / 2], pair[i % 2], scores[4 * n + i]);
            }
            return masked;
          });
          Nums after(before);
          for (int half = 0; half != 2; ++half) {
            Nums row;
            for (int64_t n = 0; n != tiles.keys / 8; ++n)
              row.append({scores[4 * n + 2 * half], scores[4 * n + 2 * half + 1]});
            SoftmaxRow softmax = {before[2 * half], before[2 * half + 1]};
            Num old = softmax.step(k, factor, row, /*lanes=*/3);
            after[2 * half] = softmax.max;
            after[2 * half + 1] = softmax.sum;
            for (int64_t n = 0; n != tiles.keys / 8; ++n)
              for (int i = 0; i != 2; ++i)
                scores[4 * n + 2 * half + i] = row[2 * n + i];
            for (int64_t p = 0; p != columns; ++p)
              for (int i = 0; i != 2; ++i) {
                Num &sum = after[4 + 4 * p + 2 * half + i];
                sum = sum * old;
              }
          }
          mma.addProduct(MutableArrayRef(after).drop_front(4), scores, v0 + stage * v0.bytes(),
                         piece, columns);
          return after;
        });
      });

  Num row[2], scale[2], none[2];
  for (int half = 0; half != 2; ++half) {
    SoftmaxRow softmax = {state[2 * half], state[2 * half + 1]};
    softmax.finish(k, /*lanes=*/3);
    row[half] = first + mma.warp * kWarpRows + mma.group + 8 * half;
    none[half] = softmax.sawNone();
    scale[half] = k.reciprocal(k.select(none[half], k.number(1), softmax.sum));
    Num even = rowMask(half).isEven();
    k.when((row[half] < shape.rows()) & (mma.pair == 0),
           [&] { k.argument(8).store(mma.place.headOf(row[half]), softmax.lse(k, even)); });
  }
  Nums sums(ArrayRef(state).drop_front(4));
  for (size_t i = 0; i != sums.size(); ++i)
    sums[i] = sums[i] * scale[i / 2 % 2];
  if (shape.ranked()) // rows that saw no key get the mean of all values; elsewhere they were even
    sums = k.when(k.barrierAny(none[0] | none[1]), sums, [&] {
      meanOfValues(k, mma.place, values, mean, kThreads);
      Nums with(sums);
      for (int64_t p = 0; p != columns; ++p) {
        Num two = mean.load(mma.pair + (piece + p) * 8, 2);
        for (int i = 0; i != 4; ++i)
          with[4 * p + i] = k.select(none[i / 2], two[i % 2], sums[4 * p + i]);
      }
      return with;
    });
  mma.storeRows(sums, q, k.argument(7), first, /*keys=*/false, piece, columns,
                block.part * columns);
  stateForm(k.launch(block.grid), AttentionForm::Mma);
}

//===----------------------------------------------------------------------===//
// Backward
//===----------------------------------------------------------------------===//

// The kernel of dQ, or that of dK and dV (`ownKeys`): see the table at the head.
static void emitGradient(routine::AttentionBackwardOp op, const AttentionShape &shape,
                         const AttentionTiles &tiles, const AttentionMask &mask, Value rowValues,
                         bool ownKeys) {
  SmallVector<Value> buffers = {op.getDOut(), op.getQ(), op.getK(),     op.getV(),    rowValues,
                                mask.rows,    mask.keys, mask.rowTiles, mask.keyTiles};
  const unsigned inputs = buffers.size();
  if (ownKeys)
    llvm::append_values(buffers, op.getDK(), op.getDV());
  else
    buffers.push_back(op.getDQ());
  KernelBuilder k(op, ownKeys ? "attention_dkv_mma" : "attention_dq_mma", buffers, inputs,
                  kThreads);
  const int64_t others = tiles.rows, perOwn = kOwn / others;
  const int64_t otherCount = ownKeys ? tiles.rowTiles : tiles.keyTiles;
  // Blocks that divide the columns of dK and dV, if they are more than 128.
  const AttentionBlock block(k, shape, (ownKeys ? tiles.keyTiles : tiles.rowTiles) / perOwn,
                             /*rising=*/!ownKeys,
                             ownKeys ? llvm::divideCeil(shape.headSize, 128) : 1);
  MmaKernel mma(k, shape, block);
  const Num b = mma.place.b;
  const float factor = scoreFactor(shape), scale = float(shape.scale);
  // `count` pieces of what is summed up; the last part may overlap the one before.
  const int64_t count = llvm::divideCeil(mma.pieces, block.parts);

  // Operands of the scores, then of the gradients of the weights.
  Pointer own[] = {k.argument(ownKeys ? 2 : 1), k.argument(ownKeys ? 3 : 0)};
  Pointer other[] = {k.argument(ownKeys ? 1 : 2), k.argument(ownKeys ? 0 : 3)};
  Pointer rowsOf =
      k.argument(4) + (b * shape.kvHeads + mma.place.kv).wide() * (tiles.paddedRows() * 2);
  Pointer rowMasks = k.argument(5) + b * (tiles.paddedRows() * 4),
          keyMasks = k.argument(6) + b * (tiles.paddedKeys() * 2);

  SharedTile ownTiles[] = {mma.tile(kOwn), mma.tile(kOwn)};
  SharedTile otherTiles[] = {mma.tile(others, kStages), mma.tile(others, kStages)};
  // Of a row: mask 16 bytes, lse and delta 8; of a key: mask 8.
  const int64_t ownMaskBytes = ownKeys ? 8 : 16, otherMaskBytes = others * (ownKeys ? 16 : 8);
  Pointer ownMasks = k.shared(kOwn * ownMaskBytes, k.getI8Type()),
          otherMasks = mma.stages(otherMaskBytes);
  Pointer otherValues = mma.stages(ownKeys ? others * 8 : 0);
  Num tile = block.tile, first = tile * kOwn;
  Num piece = k.min(block.part * count, k.integer(mma.pieces - count));
  for (int i = 0; i != 2; ++i)
    mma.copyRows(own[i], ownTiles[i], first, ownKeys);
  mma.copyBytes(ownKeys ? keyMasks + first * 2 : rowMasks + first * 4, ownMasks,
                kOwn * ownMaskBytes);
  auto rowExtremes = [&](Num tile, int count) {
    return TileExtremes::ofRows(k, k.argument(7), b * tiles.rowTiles + tile, count);
  };
  auto keyExtremes = [&](Num tile, int count) {
    return TileExtremes::ofKeys(k, k.argument(8), b * tiles.keyTiles + tile, count);
  };
  TileExtremes ownExtremes =
      ownKeys ? keyExtremes(tile * perOwn, perOwn) : rowExtremes(tile * perOwn, perOwn);
  auto sight = [&](Num tile) {
    return ownKeys ? TileSight::of(shape, rowExtremes(tile, 1), ownExtremes)
                   : TileSight::of(shape, ownExtremes, keyExtremes(tile, 1));
  };
  // Sums: dQ, or dK and dV.
  const int64_t sumCount = count * 4;
  Nums sums = mma.zeros(sumCount * (ownKeys ? 2 : 1));
  sums = mma.overTiles(otherCount, sums, sight, [&](const TileList &list, ArrayRef<Num> sums) {
    const Num listed = list.size();
    auto load = [&](Num number) {
      Num stage = number % 2, start = list.tile(number) * others;
      for (int i = 0; i != 2; ++i)
        mma.copyRows(other[i], otherTiles[i] + stage * otherTiles[i].bytes(), start, !ownKeys);
      mma.copyBytes(ownKeys ? rowMasks + start * 4 : keyMasks + start * 2,
                    otherMasks + stage * otherMaskBytes, otherMaskBytes);
      if (ownKeys)
        mma.copyBytes(rowsOf + start * 2, otherValues + stage * (others * 8), others * 8);
    };
    k.when(listed > 0, [&] { load(k.integer(0)); });
    k.commitCopies();
    k.waitCopies(0);
    k.barrier();
    SmallVector<Nums> fragments[2];
    GradientRow ownValues[2];
    if (!ownKeys) {
      if (shape.headSize <= 128)
        for (int i = 0; i != 2; ++i)
          for (int64_t step = 0; step != mma.steps(); ++step)
            fragments[i].push_back(mma.left(ownTiles[i], step));
      for (int half = 0; half != 2; ++half)
        ownValues[half] =
            GradientRow::load(rowsOf, first + mma.warp * kWarpRows + mma.group + 8 * half);
    }

    return k.loop(k.integer(0), listed, 1, sums, [&](Num number, ArrayRef<Num> before) {
      k.waitCopies(0);
      k.barrier();
      k.when(number + 1 < listed, [&] { load(number + 1); });
      k.commitCopies();
      Num stage = number % 2;
      SharedTile now[] = {otherTiles[0] + stage * otherTiles[0].bytes(),
                          otherTiles[1] + stage * otherTiles[1].bytes()};
      Nums scores = mma.scores(ownTiles[0], fragments[0], now[0]);
      scores = k.when(list.seesAll(number) == 0, scores, [&] {
        Nums masked(scores);
        Pointer here = ownMasks.as(k.getI32Type()),
                there = (otherMasks + stage * otherMaskBytes).as(k.getI32Type());
        Num ownRow = mma.warp * kWarpRows + mma.group;
        RowMask rows[2];
        KeyMask keys[2];
        for (int half = 0; half != 2; ++half)
          if (ownKeys)
            keys[half] = KeyMask::load(here, ownRow + 8 * half);
          else
            rows[half] = RowMask::load(here, ownRow + 8 * half);
        for (int64_t n = 0; n != others / 8; ++n)
          for (int i = 0; i != 2; ++i) {
            Num column = mma.pair + (8 * n + i);
            RowMask row;
            KeyMask key;
            if (ownKeys)
              row = RowMask::load(there, column);
            else
              key = KeyMask::load(there, column);
            for (int half = 0; half != 2; ++half) {
              Num &score = masked[4 * n + 2 * half + i];
              score = maskScore(k, shape, ownKeys ? row : rows[half], ownKeys ? keys[half] : key,
                                score);
            }
          }
        return masked;
      });
      Nums dScores = mma.scores(ownTiles[1], fragments[1], now[1]);
      for (int64_t n = 0; n != others / 8; ++n) {
        Num two;
        if (ownKeys)
          two = (otherValues + stage * (others * 8))
                    .as(k.getF32Type())
                    .load((mma.pair + 8 * n) * 2, 4);
        for (int i = 0; i != 4; ++i) {
          GradientRow row =
              ownKeys ? GradientRow{two[2 * (i % 2)], two[2 * (i % 2) + 1]} : ownValues[i / 2];
          Num &weight = scores[4 * n + i], &dScore = dScores[4 * n + i];
          weight = row.weight(k, factor, weight);
          dScore = weight * (dScore - row.delta);
        }
      }
      Nums after(before);
      mma.addProduct(MutableArrayRef(after).take_front(sumCount), dScores, now[0], piece, count);
      if (ownKeys)
        mma.addProduct(MutableArrayRef(after).drop_front(sumCount), scores, now[1], piece, count);
      return after;
    });
  });

  for (Num &sum : MutableArrayRef(sums).take_front(sumCount))
    sum = sum * scale;
  for (int64_t i = 0; i != (ownKeys ? 2 : 1); ++i)
    mma.storeRows(ArrayRef(sums).slice(i * sumCount, sumCount), ownTiles[i], k.argument(inputs + i),
                  first, ownKeys, piece, count, block.part * count);
  stateForm(k.launch(block.grid), AttentionForm::Mma);
}

void llamac::emitMmaBackward(routine::AttentionBackwardOp op) {
  const AttentionShape shape = AttentionShape::of(op);
  const int64_t others = othersOf(shape, 32);
  const AttentionTiles tiles = AttentionTiles::of(shape, others, others, kOwn / others);
  Value rowValues = emitGradientRows(op, shape, tiles, op.getDOut(), op.getOut(), op.getLse());
  AttentionMask mask = emitMask(op, shape, tiles, op.getMasks(), op.getLse());
  emitGradient(op, shape, tiles, mask, rowValues, /*ownKeys=*/false);
  emitGradient(op, shape, tiles, mask, rowValues, /*ownKeys=*/true);
}
