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

// Rows of a tile of the others in the kernel of dK and dV, whose sums leave registers for scores of so
// many.
static constexpr int64_t kBackwardRows = 32;

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
  const int64_t D = shape.headSize, G = shape.group();
  Source source = {true, rows, {}};
  for (const TileChunk &chunk : chunks)
    if (Num &map = source.maps[chunk.width]; !map)
      map =
          k.tensorMap(buffer, {D, G, shape.kvHeads, shape.queries, shape.batch},
                      {2 * D, 2 * G * D, 2 * shape.heads * D, 2 * shape.queries * shape.heads * D},
                      {chunk.width, G, 1, rows / G, 1}, chunk.rowBytes());
  return source;
}

HopperKernel::Source HopperKernel::keySource(unsigned buffer, int64_t rows) {
  const int64_t D = shape.headSize;
  Source source = {false, rows, {}};
  for (const TileChunk &chunk : chunks)
    if (Num &map = source.maps[chunk.width]; !map)
      map = k.tensorMap(buffer, {D, shape.kvHeads, shape.keys, shape.batch},
                        {2 * D, 2 * shape.kvHeads * D, 2 * shape.keys * shape.kvHeads * D},
                        {chunk.width, 1, rows, 1}, chunk.rowBytes());
  return source;
}

HopperKernel::Ring::Ring(HopperKernel &kernel, Source source, int64_t places)
    : kernel(kernel), source(std::move(source)), places(places) {
  KernelBuilder &k = kernel.k;
  const int64_t bytes = SharedTile::bytes(this->source.rows, kernel.shape.headSize);
  begin = kernel.hopper.address(k.shared(places * bytes, k.getI8Type()));
}

void HopperKernel::Ring::initialize() {
  for (int64_t n = 0; n != places; ++n) {
    kernel.hopper.initialize(full(kernel.k.integer(n)), 1);
    kernel.hopper.initialize(empty(kernel.k.integer(n)), 2);
  }
}

void HopperKernel::Ring::fill(Num n, Num number) {
  KernelBuilder &k = kernel.k;
  const int64_t D = kernel.shape.headSize, G = kernel.shape.group();
  kernel.hopper.wait(empty(n), parity(n) ^ 1);
  kernel.hopper.arriveExpecting(full(n), 2 * source.rows * int64_t(llvm::alignTo(D, 16)));
  SharedTile to = {begin + (n % places) * SharedTile::bytes(source.rows, D), source.rows,
                   kernel.chunks};
  for (auto [index, chunk] : llvm::enumerate(kernel.chunks)) {
    SmallVector<Num> at = {k.integer(chunk.column)};
    if (source.isRows)
      at.append({k.integer(0), kernel.place.kv, number * (source.rows / G), kernel.place.b});
    else
      at.append({kernel.place.kv, number * source.rows, kernel.place.b});
    kernel.hopper.copy(to.begin + to.offset(index), source.maps.at(chunk.width), at, full(n));
  }
}

SharedTile HopperKernel::Ring::await(Num n) {
  kernel.hopper.wait(full(n), parity(n));
  return {begin + (n % places) * SharedTile::bytes(source.rows, kernel.shape.headSize), source.rows,
          kernel.chunks};
}

void HopperKernel::Ring::release(Num n) {
  kernel.k.when(kernel.thread == 0, [&] { kernel.hopper.arrive(empty(n)); });
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

SmallVector<Nums> HopperKernel::zeroSums() {
  return llvm::map_to_vector(
      runs, [&](const ChunkRun &run) { return Nums(run.columns / 2, k.number(0)); });
}

void HopperKernel::append(Nums &state, ArrayRef<Nums> sums) {
  for (const Nums &part : sums)
    state.append(part.begin(), part.end());
}

SmallVector<Nums> HopperKernel::takeSums(ArrayRef<Num> &state) {
  return llvm::map_to_vector(runs, [&](const ChunkRun &run) {
    Nums part(state.take_front(run.columns / 2));
    state = state.drop_front(run.columns / 2);
    return part;
  });
}

void HopperKernel::waitFor(MutableArrayRef<Nums> sums) {
  SmallVector<Nums *> parts;
  for (Nums &part : sums)
    parts.push_back(&part);
  hopper.wait(0, parts);
}

void HopperKernel::storeRow(Pointer to, int half, ArrayRef<Nums> sums, Num scale) {
  for (auto [run, part] : llvm::zip_equal(runs, sums))
    for (int64_t j = 0; j != run.columns / 8; ++j)
      if (int64_t column = chunks[run.first].column; column + 8 * j < shape.headSize)
        to.storeFloat(firstColumn(j) + column, k.vector({part[4 * j + 2 * half] * scale,
                                                         part[4 * j + 2 * half + 1] * scale}));
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

namespace {
class Forward : HopperKernel {
public:
  enum Buffer { Q, K, V, RowMasks, KeyMasks, RowExtremes, KeyExtremes, Out, Lse };

  Forward(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles)
      : HopperKernel(k, shape, tiles), queries(*this, rowSource(Q, kOwnRows), 1),
        keys(*this, keySource(K, tiles.keys), kPlaces),
        values(*this, keySource(V, tiles.keys), kPlaces) {
    // The last tiles of a causal mask have most to do: they start first.
    rowTile = tiles.rowTiles - 1 - k.blockId(0);
    own = TileExtremes::ofRows(k, k.argument(RowExtremes), place.b * tiles.rowTiles + rowTile);
    build({&queries, &keys, &values});
  }

private:
  void produce() override;
  void consume(Num part) override;
  TileSight sight(Num keyTile) {
    return TileSight::of(
        shape, own,
        TileExtremes::ofKeys(k, k.argument(KeyExtremes), place.b * tiles.keyTiles + keyTile));
  }
  void maskScores(Nums &scores, Num keyTile, ArrayRef<RowMask> rows);
  Nums weigh(Nums &scores, Num keyTile, ArrayRef<RowMask> masks, MutableArrayRef<SoftmaxRow> rows);
  void addMean(ArrayRef<Num> none, SmallVector<Nums> &sums);

  Ring queries, keys, values;
  Num rowTile;
  TileExtremes own;
};
} // namespace

void Forward::produce() {
  queries.fill(k.integer(0), rowTile);
  k.loop(0, tiles.keyTiles, 1, {k.integer(0)}, [&](Num keyTile, ArrayRef<Num> taken) {
    return k.when(sight(keyTile).some, taken, [&] {
      keys.fill(taken[0], keyTile);
      values.fill(taken[0], keyTile);
      return Nums{taken[0] + 1};
    });
  });
}

// Scores of keys that a row does not see are -inf.
void Forward::maskScores(Nums &scores, Num keyTile, ArrayRef<RowMask> rows) {
  Pointer from = columnMasks(k.argument(KeyMasks), keyTile);
  for (int64_t j = 0; j != tiles.keys / 8; ++j) {
    Num two = from.load(k.integer(16 * j), 4);
    KeyMask keys[2] = {{two[0], two[1]}, {two[2], two[3]}};
    for (int row = 0; row != 2; ++row)
      for (int side = 0; side != 2; ++side) {
        Num &score = scores[4 * j + 2 * row + side];
        score = maskScore(k, shape, rows[row], keys[side], score);
      }
  }
}

// Adds the mean of all values to the sums of rows that saw no key, which are 0.
void Forward::addMean(ArrayRef<Num> none, SmallVector<Nums> &sums) {
  Nums all;
  append(all, sums);
  all = k.when(none[0] | none[1], all, [&] {
    Nums means = k.loop(0, shape.keys, 1, Nums(all.size() / 2, k.number(0)),
                        [&](Num key, ArrayRef<Num> before) {
                          Nums after(before);
                          Pointer from = k.argument(V) + place.key(key);
                          size_t at = 0;
                          for (const ChunkRun &run : runs)
                            for (int64_t j = 0; j != run.columns / 8; ++j, at += 2) {
                              int64_t column = chunks[run.first].column;
                              if (column + 8 * j >= shape.headSize)
                                continue;
                              Num two = from.loadFloat(firstColumn(j) + column, 2);
                              after[at] = after[at] + two[0];
                              after[at + 1] = after[at + 1] + two[1];
                            }
                          return after;
                        });
    Nums result(all);
    for (size_t i = 0; i != all.size(); ++i)
      result[i] =
          k.select(none[i / 2 % 2], means[i / 4 * 2 + i % 2] * (1.f / float(shape.keys)), all[i]);
    return result;
  });
  ArrayRef<Num> rest = all;
  sums = takeSums(rest);
}

// Turns the scores of a key tile into weights, as the left side of a product. Returns the factors of what
// the rows have summed up before.
Nums Forward::weigh(Nums &scores, Num keyTile, ArrayRef<RowMask> masks,
                    MutableArrayRef<SoftmaxRow> rows) {
  const float factor = scoreFactor(shape);
  scores = k.when(sight(keyTile).all == 0, scores, [&] {
    Nums masked(scores);
    maskScores(masked, keyTile, masks);
    return masked;
  });
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
  Num numbers[2] = {rowTile * kOwnRows + firstRow(part), rowTile * kOwnRows + firstRow(part) + 8};
  RowMask masks[2];
  for (int i = 0; i != 2; ++i)
    masks[i] = RowMask::load(k.argument(RowMasks) + place.b * (tiles.paddedRows() * 4), numbers[i]);
  Num first = k.loop(
      0, tiles.keyTiles, 1, {k.integer(tiles.keyTiles)}, [&](Num keyTile, ArrayRef<Num> least) {
        return Nums{k.select(sight(keyTile).some, k.min(least[0], keyTile), least[0])};
      })[0];

  // What goes on: two rows and the sums; in the loop also how many tiles were begun, and weights.
  auto rowsOf = [&](ArrayRef<Num> state) {
    return std::array<SoftmaxRow, 2>{SoftmaxRow{state[0], state[1]},
                                     SoftmaxRow{state[2], state[3]}};
  };
  auto stateOf = [&](ArrayRef<SoftmaxRow> rows, ArrayRef<Nums> sums) {
    Nums state = {rows[0].max, rows[0].sum, rows[1].max, rows[1].sum};
    append(state, sums);
    return state;
  };
  SoftmaxRow empty = SoftmaxRow::begin(k);
  Nums state = stateOf({empty, empty}, zeroSums());
  state = k.when(first < tiles.keyTiles, state, [&] {
    SharedTile own = queries.await(k.integer(0));
    std::array<SoftmaxRow, 2> rows = {empty, empty};
    Nums scores = hopper.beginTransposed(own, part * kPartRows, keys.await(k.integer(0)));
    hopper.wait(0, {&scores});
    keys.release(k.integer(0));
    weigh(scores, first, masks, rows);
    Nums before = stateOf(rows, zeroSums());
    before.push_back(k.integer(1));
    before.append(scores);
    Nums last = k.loop(
        first + 1, k.integer(tiles.keyTiles), 1, before, [&](Num keyTile, ArrayRef<Num> before) {
          return k.when(sight(keyTile).some, before, [&] {
            std::array<SoftmaxRow, 2> rows = rowsOf(before);
            ArrayRef<Num> rest = before.drop_front(4);
            SmallVector<Nums> sums = takeSums(rest);
            Num begun = rest[0];
            Nums scores = hopper.beginTransposed(own, part * kPartRows, keys.await(begun));
            hopper.begin(rest.drop_front(), values.await(begun - 1), sums);
            hopper.wait(1, {&scores});
            keys.release(begun);
            Nums factors = weigh(scores, keyTile, masks, rows);
            waitFor(sums);
            values.release(begun - 1);
            for (Nums &run : sums)
              for (auto [j, sum] : llvm::enumerate(run))
                sum = sum * factors[j / 2 % 2];
            Nums after = stateOf(rows, sums);
            after.push_back(begun + 1);
            after.append(scores);
            return after;
          });
        });
    rows = rowsOf(last);
    ArrayRef<Num> rest = ArrayRef(last).drop_front(4);
    SmallVector<Nums> sums = takeSums(rest);
    hopper.begin(rest.drop_front(), values.await(rest[0] - 1), sums);
    waitFor(sums);
    return stateOf(rows, sums);
  });

  ArrayRef<Num> rest = ArrayRef(state).drop_front(4);
  SmallVector<Nums> sums = takeSums(rest);
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
      storeRow(k.argument(Out) + place.query(numbers[i]), i, sums, scale[i]);
      k.when(lane % 4 == 0, [&] {
        k.argument(Lse).store(place.headOf(numbers[i]), softmax[i].lse(k, masks[i].isEven()));
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
  [[maybe_unused]] const Forward kernel(k, shape, tiles);
  stateForm(k.launch({tiles.rowTiles, shape.kvHeads, shape.batch}), AttentionForm::Hopper);
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

  struct Row {
    RowMask mask;
    GradientRow gradient;
  };
  // Of row `first` and those `rows` further on.
  struct RowsFrom {
    Pointer gradients, masks;
  };
  RowsFrom rowsFrom(Num first) {
    Num row = (place.b * shape.kvHeads + place.kv) * (tiles.rowTiles * tiles.rows) + first;
    Num masked = place.b * (tiles.rowTiles * tiles.rows) + first;
    return {k.argument(Rows) + row * 2, k.argument(RowMasks) + masked * 4};
  }
  Row loadRow(const RowsFrom &from, int64_t rows) {
    return {RowMask::load(from.masks, k.integer(rows)),
            GradientRow::load(from.gradients, k.integer(rows))};
  }
  TileExtremes rowExtremes(Num tile) {
    return TileExtremes::ofRows(k, k.argument(RowExtremes), place.b * tiles.rowTiles + tile);
  }
  TileExtremes keyExtremes(Num tile) {
    return TileExtremes::ofKeys(k, k.argument(KeyExtremes), place.b * tiles.keyTiles + tile);
  }
  // One score and its cotangent become P and P * (dP - delta).
  void weigh(const Row &row, const KeyMask &key, Num &score, Num &cotangent) {
    score = row.gradient.weight(k, scoreFactor(shape), maskScore(k, shape, row.mask, key, score));
    cotangent = score * (cotangent - row.gradient.delta);
  }
};

// A block owns 128 rows.
class DQuery : Backward {
public:
  DQuery(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles)
      : Backward(k, shape, tiles), queries(*this, rowSource(Q, kOwnRows), 1),
        cotangents(*this, rowSource(DOut, kOwnRows), 1),
        keys(*this, keySource(K, tiles.keys), kPlaces),
        values(*this, keySource(V, tiles.keys), kPlaces) {
    rowTile = tiles.rowTiles - 1 - k.blockId(0);
    own = rowExtremes(rowTile);
    build({&queries, &cotangents, &keys, &values});
  }

private:
  void produce() override {
    queries.fill(k.integer(0), rowTile);
    cotangents.fill(k.integer(0), rowTile);
    k.loop(0, tiles.keyTiles, 1, {k.integer(0)}, [&](Num keyTile, ArrayRef<Num> taken) {
      return k.when(TileSight::of(shape, own, keyExtremes(keyTile)).some, taken, [&] {
        keys.fill(taken[0], keyTile);
        values.fill(taken[0], keyTile);
        return Nums{taken[0] + 1};
      });
    });
  }

  void consume(Num part) override {
    Num rows[2] = {rowTile * kOwnRows + firstRow(part), rowTile * kOwnRows + firstRow(part) + 8};
    Row row[2] = {loadRow(rowsFrom(rows[0]), 0), loadRow(rowsFrom(rows[1]), 0)};
    Nums state = {k.integer(0)};
    append(state, zeroSums());
    SharedTile q = queries.await(k.integer(0)), dOut = cotangents.await(k.integer(0));
    state = k.loop(0, tiles.keyTiles, 1, state, [&](Num keyTile, ArrayRef<Num> before) {
      return k.when(TileSight::of(shape, own, keyExtremes(keyTile)).some, before, [&] {
        Num taken = before[0];
        SharedTile key = keys.await(taken), value = values.await(taken);
        Nums weights = hopper.beginTransposed(q, part * kPartRows, key);
        Nums dScores = hopper.beginTransposed(dOut, part * kPartRows, value);
        hopper.wait(0, {&weights, &dScores});
        values.release(taken);
        Pointer from = columnMasks(k.argument(KeyMasks), keyTile);
        for (int64_t j = 0; j != tiles.keys / 8; ++j) {
          Num two = from.load(k.integer(16 * j), 4);
          KeyMask masks[2] = {{two[0], two[1]}, {two[2], two[3]}};
          for (int i = 0; i != 4; ++i)
            weigh(row[i / 2], masks[i % 2], weights[4 * j + i], dScores[4 * j + i]);
        }
        ArrayRef<Num> rest = before.drop_front();
        SmallVector<Nums> sums = takeSums(rest);
        hopper.begin(hopper.pairs(dScores), key, sums);
        waitFor(sums);
        keys.release(taken);
        Nums after = {taken + 1};
        append(after, sums);
        return after;
      });
    });
    ArrayRef<Num> rest = ArrayRef(state).drop_front();
    SmallVector<Nums> sums = takeSums(rest);
    for (int i = 0; i != 2; ++i)
      k.when(rows[i] < shape.rows(), [&] {
        storeRow(k.argument(Results) + place.query(rows[i]), i, sums, k.number(float(shape.scale)));
      });
  }

  Ring queries, cotangents, keys, values;
  Num rowTile;
  TileExtremes own;
};

// A block owns 128 keys.
class DKeyValue : Backward {
public:
  DKeyValue(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles)
      : Backward(k, shape, tiles), keys(*this, keySource(K, kOwnRows), 1),
        values(*this, keySource(V, kOwnRows), 1), queries(*this, rowSource(Q, tiles.rows), kPlaces),
        cotangents(*this, rowSource(DOut, tiles.rows), kPlaces) {
    keyTile = k.blockId(0);
    own = keyExtremes(keyTile);
    build({&keys, &values, &queries, &cotangents});
  }

private:
  void produce() override {
    keys.fill(k.integer(0), keyTile);
    values.fill(k.integer(0), keyTile);
    k.loop(0, tiles.rowTiles, 1, {k.integer(0)}, [&](Num rowTile, ArrayRef<Num> taken) {
      return k.when(TileSight::of(shape, rowExtremes(rowTile), own).some, taken, [&] {
        queries.fill(taken[0], rowTile);
        cotangents.fill(taken[0], rowTile);
        return Nums{taken[0] + 1};
      });
    });
  }

  void consume(Num part) override {
    Num own[2] = {keyTile * kOwnRows + firstRow(part), keyTile * kOwnRows + firstRow(part) + 8};
    KeyMask masks[2];
    for (int i = 0; i != 2; ++i)
      masks[i] = KeyMask::load(k.argument(KeyMasks) + place.b * (tiles.paddedKeys() * 2), own[i]);
    Nums state = {k.integer(0)};
    append(state, zeroSums()); // of keys
    append(state, zeroSums()); // of values
    SharedTile key = keys.await(k.integer(0)), value = values.await(k.integer(0));
    state = k.loop(0, tiles.rowTiles, 1, state, [&](Num rowTile, ArrayRef<Num> before) {
      return k.when(TileSight::of(shape, rowExtremes(rowTile), this->own).some, before, [&] {
        Num taken = before[0];
        SharedTile q = queries.await(taken), dOut = cotangents.await(taken);
        Nums weights = hopper.beginTransposed(key, part * kPartRows, q);
        Nums dScores = hopper.beginTransposed(value, part * kPartRows, dOut);
        hopper.wait(0, {&weights, &dScores});
        Num column = firstColumn(0);
        RowsFrom from = rowsFrom(rowTile * tiles.rows + column);
        for (int64_t j = 0; j != tiles.rows / 8; ++j) {
          Row rows[2] = {loadRow(from, 8 * j), loadRow(from, 8 * j + 1)};
          for (int i = 0; i != 4; ++i)
            weigh(rows[i % 2], masks[i / 2], weights[4 * j + i], dScores[4 * j + i]);
        }
        ArrayRef<Num> rest = before.drop_front();
        SmallVector<Nums> dKeys = takeSums(rest), dValues = takeSums(rest);
        hopper.begin(hopper.pairs(weights), dOut, dValues);
        hopper.begin(hopper.pairs(dScores), q, dKeys);
        SmallVector<Nums *> both;
        for (SmallVector<Nums> *sums : {&dKeys, &dValues})
          for (Nums &run : *sums)
            both.push_back(&run);
        hopper.wait(0, both);
        queries.release(taken);
        cotangents.release(taken);
        Nums after = {taken + 1};
        append(after, dKeys);
        append(after, dValues);
        return after;
      });
    });
    ArrayRef<Num> rest = ArrayRef(state).drop_front();
    SmallVector<Nums> dKeys = takeSums(rest), dValues = takeSums(rest);
    for (int i = 0; i != 2; ++i)
      k.when(own[i] < shape.keys, [&] {
        storeRow(k.argument(Results) + place.key(own[i]), i, dKeys, k.number(float(shape.scale)));
        storeRow(k.argument(Results + 1) + place.key(own[i]), i, dValues, k.number(1));
      });
  }

  Ring keys, values, queries, cotangents;
  Num keyTile;
  TileExtremes own;
};
} // namespace

void llamac::emitHopperBackward(routine::AttentionBackwardOp op) {
  const AttentionShape shape = AttentionShape::of(op);
  // One side's tile is a block's own, so that there are two masks.
  const int64_t keys = 64, rows = kBackwardRows;
  auto emit = [&](StringRef name, const AttentionTiles &tiles, ArrayRef<Value> results,
                  int64_t blocks, llvm::function_ref<void(KernelBuilder &)> body) {
    Value rows = emitGradientRows(op, shape, tiles, op.getDOut(), op.getOut(), op.getLse());
    AttentionMask mask = emitMask(op, shape, tiles, op.getMasks(), op.getLse());
    SmallVector<Value> buffers = {op.getDOut(), op.getQ(), op.getK(),     op.getV(),    rows,
                                  mask.rows,    mask.keys, mask.rowTiles, mask.keyTiles};
    const unsigned written = buffers.size();
    buffers.append(results.begin(), results.end());
    KernelBuilder k(op, name, buffers, written, HopperKernel::kThreads);
    body(k);
    stateForm(k.launch({blocks, shape.kvHeads, shape.batch}), AttentionForm::Hopper);
  };
  const AttentionTiles byRows = AttentionTiles::of(shape, HopperKernel::kOwnRows, keys);
  emit("attention_dq_hopper", byRows, {op.getDQ()}, byRows.rowTiles,
       [&](KernelBuilder &k) { [[maybe_unused]] const DQuery kernel(k, shape, byRows); });
  const AttentionTiles byKeys = AttentionTiles::of(shape, rows, HopperKernel::kOwnRows);
  emit("attention_dkv_hopper", byKeys, {op.getDK(), op.getDV()}, byKeys.keyTiles,
       [&](KernelBuilder &k) { [[maybe_unused]] const DKeyValue kernel(k, shape, byKeys); });
}
