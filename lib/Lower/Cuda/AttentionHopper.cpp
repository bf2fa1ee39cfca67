//===- AttentionHopper.cpp - Attention by warpgroups on sm_90a ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The form for bf16 on sm_90a: AttentionHopper.h has the picture. Scores never leave registers: the sums
// of one product are, narrowed to bf16, the left side of the next.
//
//   kernel   own tile       other tiles     products of a pair of tiles
//   forward  Q              K, V            S = Q K^T; O += P V
//   dQ       Q, dO          K, V            S = Q K^T; dP = dO V^T; dQ += dS K
//   dK, dV   K, V           Q, dO           S^T = K Q^T; dP^T = V dO^T; dV += P^T dO; dK += dS^T Q
//
// The two kernels of the backward form S and dP twice, but write nothing that another block writes.
//
// Source: FlashAttention-3 (arXiv 2407.08608), algorithm 1; FlashAttention-2 (arXiv 2307.08691),
// algorithm 2.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/AttentionHopper.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::llamac;

static constexpr int64_t kPlaces = 2; // of a ring
// Registers of a thread, of 65,536 in all: at the begin, then of the producer and of the consumers.
static constexpr int64_t kRegisters = 168, kProducerRegisters = 24, kConsumerRegisters = 240;

// Keys of a tile of the others in the kernel of dQ, rows in that of dK and dV.
static constexpr int64_t kBackwardKeys = 128, kBackwardRows = 64;

bool llamac::hasHopperForm(const AttentionShape &shape, bool backward) {
  const int64_t group = shape.group();
  return shape.element.isBF16() && shape.headSize % 8 == 0 &&
         shape.headSize <= (backward ? 128 : 256) && llvm::isPowerOf2_64(group) &&
         group <= (backward ? kBackwardRows : HopperKernel::kPartRows);
}

//===----------------------------------------------------------------------===//
// What the kernels share
//===----------------------------------------------------------------------===//

HopperKernel::Source HopperKernel::rowSource(unsigned buffer, int64_t rows) {
  const int64_t D = shape.headSize, G = shape.group(), width = SharedTile::width(D),
                stride = 2 * place.queryStride(k.argument(buffer));
  return {true, rows,
          k.tensorMap(buffer, {D, G, shape.kvHeads, shape.queries, shape.batch},
                      {2 * D, 2 * G * D, stride, shape.queries * stride},
                      {width, G, 1, rows / G, 1}, 2 * width)};
}

HopperKernel::Source HopperKernel::keySource(unsigned buffer, int64_t rows) {
  const int64_t D = shape.headSize, width = SharedTile::width(D),
                stride = 2 * place.keyStride(k.argument(buffer));
  return {false, rows,
          k.tensorMap(buffer, {D, shape.kvHeads, shape.keys, shape.batch},
                      {2 * D, stride, shape.keys * stride}, {width, 1, rows, 1}, 2 * width)};
}

HopperKernel::Ring::Ring(HopperKernel &kernel, Source source, int64_t places,
                         ArrayRef<Extra> extras)
    : kernel(kernel), source(source), places(places), extras(extras) {
  KernelBuilder &k = kernel.k;
  const int64_t bytes = SharedTile::bytes(source.rows, kernel.shape.headSize);
  begin = kernel.hopper.address(k.shared(places * bytes, k.getI8Type(), SharedTile::kAlignment));
  for (const Extra &extra : extras)
    extraPlaces.push_back(k.shared(places * extra.count, extra.from.element));
}

Pointer HopperKernel::Ring::extra(size_t number, Num n) const {
  return extraPlaces[number] + (n % places) * extras[number].count;
}

void HopperKernel::Ring::initialize() {
  for (int64_t n = 0; n != places; ++n) {
    kernel.hopper.initialize(full(kernel.k.integer(n)), 1);
    kernel.hopper.initialize(empty(kernel.k.integer(n)), kConsumers * kPartThreads / 32);
  }
}

SharedTile HopperKernel::Ring::place(Num n) const {
  const int64_t D = kernel.shape.headSize;
  return {begin + (n % places) * SharedTile::bytes(source.rows, D), source.rows, D};
}

void HopperKernel::Ring::fill(Num n, Num number) {
  KernelBuilder &k = kernel.k;
  Hopper &hopper = kernel.hopper;
  const int64_t D = kernel.shape.headSize, G = kernel.shape.group();
  const SharedTile to = place(n);
  hopper.wait(empty(n), parity(n) ^ 1);
  int64_t bytes = SharedTile::chunks(D) * to.chunkBytes();
  for (const Extra &extra : extras)
    bytes += 4 * extra.count;
  hopper.arriveExpecting(full(n), bytes);
  for (int64_t chunk = 0; chunk != SharedTile::chunks(D); ++chunk) {
    SmallVector<Num> at = {k.integer(chunk * SharedTile::width(D))};
    if (source.isRows)
      at.append({k.integer(0), kernel.place.kv, number * (source.rows / G), kernel.place.b});
    else
      at.append({kernel.place.kv, number * source.rows, kernel.place.b});
    hopper.copy(to.begin + chunk * to.chunkBytes(), source.map, at, full(n));
  }
  for (auto [i, extra] : llvm::enumerate(extras))
    hopper.copy(hopper.address(this->extra(i, n)), extra.from + number * extra.count,
                4 * extra.count, full(n));
}

SharedTile HopperKernel::Ring::await(Num n) {
  kernel.hopper.wait(full(n), parity(n));
  return place(n);
}

void HopperKernel::Ring::release(Num n) {
  kernel.k.syncWarp();
  kernel.k.when(kernel.lane == 0, [&] { kernel.hopper.arrive(empty(n)); });
}

void HopperKernel::build(ArrayRef<Ring *> rings) {
  k.limitRegisters(kRegisters);
  Num barriers = hopper.address(k.shared(16 * kPlaces * int64_t(rings.size()), k.getI8Type()));
  for (auto [number, ring] : llvm::enumerate(rings))
    ring->barriers = barriers + int64_t(16 * kPlaces * number);
  k.when(k.threadId() == 0, [&] {
    for (Ring *ring : rings)
      ring->initialize();
    hopper.fenceInitialized();
  });
  k.barrier();
  // The same in all lanes, which the compiler cannot know of a thread's number.
  Num group = k.shuffle(k.threadId() / kPartThreads, 0);
  k.when(
      group == 0,
      [&] {
        hopper.giveRegisters(kProducerRegisters);
        k.when(k.threadId() == 0, [&] { produce(); });
      },
      [&] {
        hopper.takeRegisters(kConsumerRegisters);
        thread = k.threadId() % kPartThreads;
        lane = thread % 32;
        consume(group - 1);
      });
}

Nums HopperKernel::takeSums(ArrayRef<Num> &state) {
  Nums sums(state.take_front(shape.headSize / 2));
  state = state.drop_front(sums.size());
  return sums;
}

void HopperKernel::storeRow(Pointer to, int half, ArrayRef<Num> sums, Num scale) {
  for (int64_t j = 0; j != shape.headSize / 8; ++j)
    to.storeFloat(firstColumn(j),
                  k.vector({sums[4 * j + 2 * half] * scale, sums[4 * j + 2 * half + 1] * scale}));
}

TileList HopperKernel::listKeys(Pointer rowExtremes, Pointer keyExtremes) {
  TileExtremes own = TileExtremes::ofRows(k, rowExtremes, place.b * tiles.rowTiles + block.tile);
  return {k, kThreads, k.integer(0), tiles.keyTiles, tiles.keyTiles, [&](Num tile) {
            return TileSight::of(
                shape, own, TileExtremes::ofKeys(k, keyExtremes, place.b * tiles.keyTiles + tile));
          }};
}

TileList HopperKernel::listRows(Pointer rowExtremes, Pointer keyExtremes) {
  TileExtremes own = TileExtremes::ofKeys(k, keyExtremes, place.b * tiles.keyTiles + block.tile);
  return {k, kThreads, k.integer(0), tiles.rowTiles, tiles.rowTiles, [&](Num tile) {
            return TileSight::of(
                shape, TileExtremes::ofRows(k, rowExtremes, place.b * tiles.rowTiles + tile), own);
          }};
}

Nums HopperKernel::maskByRows(ArrayRef<Num> scores, Num part, const TileList &list, Num n,
                              Pointer rowMasks, Pointer keyMasks) {
  return k.when(list.seesAll(n) == 0, scores, [&] {
    RowMask rows[2] = {RowMask::load(rowMasks, ownRow(part)),
                       RowMask::load(rowMasks, ownRow(part) + 8)};
    Nums masked(scores);
    for (int64_t j = 0; j != tiles.keys / 8; ++j) {
      Num two = (keyMasks + 2 * firstColumn(0)).load(k.integer(16 * j), 4);
      KeyMask keys[2] = {{two[0], two[1]}, {two[2], two[3]}};
      for (int i = 0; i != 4; ++i)
        masked[4 * j + i] = maskScore(k, shape, rows[i / 2], keys[i % 2], masked[4 * j + i]);
    }
    return masked;
  });
}

Nums HopperKernel::maskByKeys(ArrayRef<Num> scores, Num part, const TileList &list, Num n,
                              Pointer rowMasks, Pointer keyMasks) {
  return k.when(list.seesAll(n) == 0, scores, [&] {
    KeyMask keys[2] = {KeyMask::load(keyMasks, ownRow(part)),
                       KeyMask::load(keyMasks, ownRow(part) + 8)};
    Pointer from = rowMasks + 4 * firstColumn(0);
    Nums masked(scores);
    for (int64_t j = 0; j != tiles.rows / 8; ++j) {
      RowMask rows[2] = {RowMask::load(from, k.integer(8 * j)),
                         RowMask::load(from, k.integer(8 * j + 1))};
      for (int i = 0; i != 4; ++i)
        masked[4 * j + i] = maskScore(k, shape, rows[i % 2], keys[i / 2], masked[4 * j + i]);
    }
    return masked;
  });
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

namespace {
class Forward : HopperKernel {
public:
  enum Buffer { Q, K, V, RowMasks, KeyMasks, RowExtremes, KeyExtremes, Out, Lse };

  Forward(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles,
          const AttentionBlock &block)
      : HopperKernel(k, shape, tiles, block),
        queries(*this, rowSource(Q, kOwnRows), 1, rowMasks(k.argument(RowMasks), kOwnRows)),
        keys(*this, keySource(K, tiles.keys), kPlaces, keyMasks(k.argument(KeyMasks), tiles.keys)),
        values(*this, keySource(V, tiles.keys), kPlaces),
        list(listKeys(k.argument(RowExtremes), k.argument(KeyExtremes))) {
    build({&queries, &keys, &values});
  }

private:
  void produce() override;
  void consume(Num part) override;
  Nums weigh(Nums &scores, Num part, Num n, MutableArrayRef<SoftmaxRow> rows);
  void addMean(ArrayRef<Num> none, Nums &sums);

  Ring queries, keys, values;
  TileList list;
};
} // namespace

void Forward::produce() {
  k.when(list.size() > 0, [&] { queries.fill(k.integer(0), block.tile); });
  k.loop(k.integer(0), list.size(), 1, [&](Num n) {
    Num keyTile = list.tile(n);
    keys.fill(n, keyTile);
    values.fill(n, keyTile);
  });
}

// Adds the mean of all values to the sums of rows that saw no key, which are 0.
void Forward::addMean(ArrayRef<Num> none, Nums &sums) {
  sums = k.when(none[0] | none[1], sums, [&] {
    Nums means = k.loop(0, shape.keys, 1, Nums(sums.size() / 2, k.number(0)),
                        [&](Num key, ArrayRef<Num> before) {
                          Nums after(before);
                          Pointer from = k.argument(V) + place.key(k.argument(V), key);
                          for (int64_t j = 0; j != shape.headSize / 8; ++j) {
                            Num two = from.loadFloat(firstColumn(j), 2);
                            for (int i = 0; i != 2; ++i)
                              after[2 * j + i] = after[2 * j + i] + two[i];
                          }
                          return after;
                        });
    Nums result(sums);
    for (size_t i = 0; i != sums.size(); ++i)
      result[i] =
          k.select(none[i / 2 % 2], means[i / 4 * 2 + i % 2] * (1.f / float(shape.keys)), sums[i]);
    return result;
  });
}

// Scores of the n-th tile become weights, in pairs. Returns the factors of the sums so far.
Nums Forward::weigh(Nums &scores, Num part, Num n, MutableArrayRef<SoftmaxRow> rows) {
  const float factor = scoreFactor(shape);
  scores = maskByRows(scores, part, list, n, queries.extra(0, k.integer(0)), keys.extra(0, n));
  Nums factors;
  for (int i = 0; i != 2; ++i) {
    Nums ofRow;
    for (size_t j = 2 * i; j < scores.size(); j += 4)
      ofRow.append({scores[j], scores[j + 1]});
    factors.push_back(rows[i].step(k, factor, ofRow, 3));
    for (size_t j = 2 * i, at = 0; j < scores.size(); j += 4, at += 2) {
      scores[j] = ofRow[at];
      scores[j + 1] = ofRow[at + 1];
    }
  }
  scores = hopper.pairs(scores);
  return factors;
}

// While the tensor cores multiply the weights of one tile with its values, the warps weigh the scores of
// the next one, whose product was begun before:
//
//   tensor cores   Q K0^T | Q K1^T  P0 V0 | Q K2^T  P1 V1 | ... | Pn Vn
//   warps                 | weigh 0       | weigh 1       | ...
void Forward::consume(Num part) {
  Num numbers[2] = {block.tile * kOwnRows + ownRow(part), block.tile * kOwnRows + ownRow(part) + 8};
  // What goes on: two rows and the sums; in the loop also weights.
  auto rowsOf = [&](ArrayRef<Num> state) {
    return std::array<SoftmaxRow, 2>{SoftmaxRow{state[0], state[1]},
                                     SoftmaxRow{state[2], state[3]}};
  };
  auto stateOf = [&](ArrayRef<SoftmaxRow> rows, ArrayRef<Num> sums) {
    Nums state = {rows[0].max, rows[0].sum, rows[1].max, rows[1].sum};
    state.append(sums.begin(), sums.end());
    return state;
  };
  SoftmaxRow empty = SoftmaxRow::begin(k);
  Nums state = stateOf({empty, empty}, zeroSums());
  state = k.when(list.size() > 0, state, [&] {
    Num zero = k.integer(0);
    SharedTile own = queries.await(zero);
    std::array<SoftmaxRow, 2> rows = {empty, empty};
    Nums scores = hopper.beginTransposed(own, part * kPartRows, keys.await(zero));
    hopper.wait(0, {&scores});
    weigh(scores, part, zero, rows);
    keys.release(zero);
    Nums before = stateOf(rows, zeroSums());
    before.append(scores);
    Nums last = k.loop(k.integer(1), list.size(), 1, before, [&](Num n, ArrayRef<Num> before) {
      std::array<SoftmaxRow, 2> rows = rowsOf(before);
      ArrayRef<Num> weights = before.drop_front(4);
      Nums sums = takeSums(weights);
      Nums scores = hopper.beginTransposed(own, part * kPartRows, keys.await(n));
      hopper.begin(weights, values.await(n - 1), sums);
      hopper.wait(1, {&scores});
      Nums factors = weigh(scores, part, n, rows);
      keys.release(n);
      hopper.wait(0, {&sums});
      values.release(n - 1);
      for (auto [j, sum] : llvm::enumerate(sums))
        sum = sum * factors[j / 2 % 2];
      Nums after = stateOf(rows, sums);
      after.append(scores);
      return after;
    });
    ArrayRef<Num> weights = ArrayRef(last).drop_front(4);
    Nums sums = takeSums(weights);
    hopper.begin(weights, values.await(list.size() - 1), sums);
    hopper.wait(0, {&sums});
    return stateOf(rowsOf(last), sums);
  });

  ArrayRef<Num> rest = ArrayRef(state).drop_front(4);
  Nums sums = takeSums(rest);
  std::array<SoftmaxRow, 2> softmax = rowsOf(state);
  Num none[2], scale[2];
  for (int i = 0; i != 2; ++i) {
    softmax[i].finish(k, 3);
    none[i] = softmax[i].sawNone();
    scale[i] = k.select(none[i], k.number(1), k.reciprocal(softmax[i].sum));
  }
  if (shape.ranked()) // elsewhere such rows were even
    addMean(none, sums);
  for (int i = 0; i != 2; ++i)
    k.when(numbers[i] < shape.rows(), [&] {
      storeRow(k.argument(Out) + place.query(k.argument(Out), numbers[i]), i, sums, scale[i]);
      k.when(lane % 4 == 0, [&] {
        Num even =
            RowMask::load(k.argument(RowMasks), place.b * tiles.paddedRows() + numbers[i]).isEven();
        k.argument(Lse).store(place.headOf(numbers[i]), softmax[i].lse(k, even));
      });
    });
}

void llamac::emitHopperForward(routine::AttentionForwardOp op) {
  const AttentionShape shape = AttentionShape::of(op);
  const AttentionTiles tiles = AttentionTiles::of(shape, HopperKernel::kOwnRows,
                                                  shape.headSize <= 128   ? 128
                                                  : shape.headSize <= 192 ? 64
                                                                          : 32);
  AttentionMask mask = emitMask(op, shape, tiles, op.getMasks(), {});
  KernelBuilder k(op, "attention_forward_hopper",
                  {op.getQ(), op.getK(), op.getV(), mask.rows, mask.keys, mask.rowTiles,
                   mask.keyTiles, op.getOut(), op.getLse()},
                  7, HopperKernel::kThreads);
  const AttentionBlock block(k, shape, tiles.rowTiles, /*rising=*/true);
  [[maybe_unused]] const Forward kernel(k, shape, tiles, block);
  stateForm(k.launch(block.grid), AttentionForm::Hopper);
}

//===----------------------------------------------------------------------===//
// Backward
//===----------------------------------------------------------------------===//

namespace {
// What the two kernels of the backward share.
class Backward : protected HopperKernel {
public:
  enum Buffer { DOut, Q, K, V, Rows, RowMasks, KeyMasks, RowExtremes, KeyExtremes, Results };

protected:
  using HopperKernel::HopperKernel;

  // GradientRow of the rows of this example and head.
  Pointer gradients() {
    Num head = place.b * shape.kvHeads + place.kv;
    return k.argument(Rows) + head.wide() * (tiles.paddedRows() * 2);
  }
};

// A block owns 128 rows.
class DQuery : Backward {
public:
  DQuery(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles,
         const AttentionBlock &block)
      : Backward(k, shape, tiles, block),
        queries(*this, rowSource(Q, kOwnRows), 1, rowMasks(k.argument(RowMasks), kOwnRows)),
        cotangents(*this, rowSource(DOut, kOwnRows), 1),
        keys(*this, keySource(K, tiles.keys), kPlaces, keyMasks(k.argument(KeyMasks), tiles.keys)),
        values(*this, keySource(V, tiles.keys), kPlaces),
        list(listKeys(k.argument(RowExtremes), k.argument(KeyExtremes))) {
    build({&queries, &cotangents, &keys, &values});
  }

private:
  void produce() override {
    k.when(list.size() > 0, [&] {
      queries.fill(k.integer(0), block.tile);
      cotangents.fill(k.integer(0), block.tile);
    });
    k.loop(k.integer(0), list.size(), 1, [&](Num n) {
      Num keyTile = list.tile(n);
      keys.fill(n, keyTile);
      values.fill(n, keyTile);
    });
  }

  void consume(Num part) override {
    const float factor = scoreFactor(shape);
    Num numbers[2] = {block.tile * kOwnRows + ownRow(part),
                      block.tile * kOwnRows + ownRow(part) + 8};
    const GradientRow rows[2] = {GradientRow::load(gradients(), numbers[0]),
                                 GradientRow::load(gradients(), numbers[1])};
    Nums sums = k.when(list.size() > 0, zeroSums(), [&] {
      SharedTile q = queries.await(k.integer(0)), dOut = cotangents.await(k.integer(0));
      return k.loop(k.integer(0), list.size(), 1, zeroSums(), [&](Num n, ArrayRef<Num> before) {
        Nums sums(before);
        SharedTile key = keys.await(n);
        Nums weights = hopper.beginTransposed(q, part * kPartRows, key);
        Nums dScores = hopper.beginTransposed(dOut, part * kPartRows, values.await(n));
        hopper.wait(1, {&weights});
        weights =
            maskByRows(weights, part, list, n, queries.extra(0, k.integer(0)), keys.extra(0, n));
        for (auto [i, weight] : llvm::enumerate(weights))
          weight = rows[i / 2 % 2].weight(k, factor, weight);
        hopper.wait(0, {&dScores});
        values.release(n);
        for (auto [i, dScore] : llvm::enumerate(dScores))
          dScore = weights[i] * (dScore - rows[i / 2 % 2].delta);
        hopper.begin(hopper.pairs(dScores), key, sums);
        hopper.wait(0, {&sums});
        keys.release(n);
        return sums;
      });
    });
    for (int i = 0; i != 2; ++i)
      k.when(numbers[i] < shape.rows(), [&] {
        storeRow(k.argument(Results) + place.query(k.argument(Results), numbers[i]), i, sums,
                 k.number(float(shape.scale)));
      });
  }

  Ring queries, cotangents, keys, values;
  TileList list;
};

// A block owns 128 keys.
class DKeyValue : Backward {
public:
  DKeyValue(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles,
            const AttentionBlock &block)
      : Backward(k, shape, tiles, block),
        keys(*this, keySource(K, kOwnRows), 1, keyMasks(k.argument(KeyMasks), kOwnRows)),
        values(*this, keySource(V, kOwnRows), 1),
        queries(*this, rowSource(Q, tiles.rows), kPlaces,
                {{gradients(), 2 * tiles.rows}, rowMasks(k.argument(RowMasks), tiles.rows)}),
        cotangents(*this, rowSource(DOut, tiles.rows), kPlaces),
        list(listRows(k.argument(RowExtremes), k.argument(KeyExtremes))) {
    build({&keys, &values, &queries, &cotangents});
  }

private:
  void produce() override {
    k.when(list.size() > 0, [&] {
      keys.fill(k.integer(0), block.tile);
      values.fill(k.integer(0), block.tile);
    });
    k.loop(k.integer(0), list.size(), 1, [&](Num n) {
      Num rowTile = list.tile(n);
      queries.fill(n, rowTile);
      cotangents.fill(n, rowTile);
    });
  }

  void consume(Num part) override {
    const float factor = scoreFactor(shape);
    Num numbers[2] = {block.tile * kOwnRows + ownRow(part),
                      block.tile * kOwnRows + ownRow(part) + 8};
    Nums state = zeroSums(); // of keys, then of values
    state.append(zeroSums());
    state = k.when(list.size() > 0, state, [&] {
      SharedTile key = keys.await(k.integer(0)), value = values.await(k.integer(0));
      return k.loop(k.integer(0), list.size(), 1, state, [&](Num n, ArrayRef<Num> before) {
        Nums dKeys = takeSums(before), dValues = takeSums(before);
        SharedTile q = queries.await(n);
        Nums weights = hopper.beginTransposed(key, part * kPartRows, q);
        SharedTile dOut = cotangents.await(n);
        Nums dScores = hopper.beginTransposed(value, part * kPartRows, dOut);
        hopper.wait(1, {&weights});
        weights =
            maskByKeys(weights, part, list, n, queries.extra(1, n), keys.extra(0, k.integer(0)));
        // Loaded anew for each product: there are no registers to keep them in.
        auto overRows = [&](llvm::function_ref<void(size_t i, const GradientRow &row)> body) {
          Pointer from = queries.extra(0, n) + 2 * firstColumn(0);
          for (int64_t j = 0; j != tiles.rows / 8; ++j) {
            Num two = from.load(k.integer(16 * j), 4);
            GradientRow rows[2] = {{two[0], two[1]}, {two[2], two[3]}};
            for (int i = 0; i != 4; ++i)
              body(4 * j + i, rows[i % 2]);
          }
        };
        overRows([&](size_t i, const GradientRow &row) {
          weights[i] = row.weight(k, factor, weights[i]);
        });
        hopper.wait(0, {&dScores});
        overRows([&](size_t i, const GradientRow &row) {
          dScores[i] = weights[i] * (dScores[i] - row.delta);
        });
        hopper.begin(hopper.pairs(weights), dOut, dValues);
        hopper.begin(hopper.pairs(dScores), q, dKeys);
        hopper.wait(0, {&dKeys, &dValues});
        queries.release(n);
        cotangents.release(n);
        Nums after = dKeys;
        after.append(dValues);
        return after;
      });
    });
    ArrayRef<Num> rest = state;
    Nums dKeys = takeSums(rest), dValues = takeSums(rest);
    for (int i = 0; i != 2; ++i)
      k.when(numbers[i] < shape.keys, [&] {
        storeRow(k.argument(Results) + place.key(k.argument(Results), numbers[i]), i, dKeys,
                 k.number(float(shape.scale)));
        storeRow(k.argument(Results + 1) + place.key(k.argument(Results + 1), numbers[i]), i,
                 dValues, k.number(1));
      });
  }

  Ring keys, values, queries, cotangents;
  TileList list;
};
} // namespace

void llamac::emitHopperBackward(routine::AttentionBackwardOp op) {
  const AttentionShape shape = AttentionShape::of(op);
  auto emit = [&](StringRef name, const AttentionTiles &tiles, ArrayRef<Value> results,
                  llvm::function_ref<Grid(KernelBuilder &)> body) {
    Value rows = emitGradientRows(op, shape, tiles, op.getDOut(), op.getOut(), op.getLse());
    AttentionMask mask = emitMask(op, shape, tiles, op.getMasks(), op.getLse());
    SmallVector<Value> buffers = {op.getDOut(), op.getQ(), op.getK(),     op.getV(),    rows,
                                  mask.rows,    mask.keys, mask.rowTiles, mask.keyTiles};
    const unsigned written = buffers.size();
    buffers.append(results.begin(), results.end());
    KernelBuilder k(op, name, buffers, written, HopperKernel::kThreads);
    Grid grid = body(k);
    stateForm(k.launch(grid), AttentionForm::Hopper);
  };
  const AttentionTiles byRows = AttentionTiles::of(shape, HopperKernel::kOwnRows, kBackwardKeys);
  emit("attention_dq_hopper", byRows, {op.getDQ()}, [&](KernelBuilder &k) {
    const AttentionBlock block(k, shape, byRows.rowTiles, /*rising=*/true);
    [[maybe_unused]] const DQuery kernel(k, shape, byRows, block);
    return block.grid;
  });
  const AttentionTiles byKeys = AttentionTiles::of(shape, kBackwardRows, HopperKernel::kOwnRows);
  emit("attention_dkv_hopper", byKeys, {op.getDK(), op.getDV()}, [&](KernelBuilder &k) {
    const AttentionBlock block(k, shape, byKeys.keyTiles, /*rising=*/false);
    [[maybe_unused]] const DKeyValue kernel(k, shape, byKeys, block);
    return block.grid;
  });
}
