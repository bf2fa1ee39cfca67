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
//   backward K, V           Q, dO           S^T = K Q^T; dP^T = V dO^T; dV += P^T dO; dK += dS^T Q; dQ += dS K
//
// dQ is a sum over blocks, in f32 in scratch memory, in the order of key tiles: a block adds its part of a
// row tile when the one before, which sees anything of that, has added its own.
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

// Rows of a tile of the backward.
static constexpr int64_t kBackwardRows = 64;

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

HopperKernel::Places::Places(HopperKernel &kernel, int64_t places, int64_t fillers, int64_t readers)
    : kernel(kernel), places(places), fillers(fillers), readers(readers),
      barriers(kernel.hopper.address(kernel.k.shared(16 * places, kernel.k.getI8Type()))) {}

void HopperKernel::Places::initialize() {
  for (int64_t n = 0; n != places; ++n) {
    kernel.hopper.initialize(full(kernel.k.integer(n)), fillers);
    kernel.hopper.initialize(empty(kernel.k.integer(n)), readers);
  }
}

void HopperKernel::Places::awaitEmpty(Num n) { kernel.hopper.wait(empty(n), parity(n) ^ 1); }

void HopperKernel::Places::awaitFull(Num n) { kernel.hopper.wait(full(n), parity(n)); }

void HopperKernel::Places::fulfil(Num n) {
  kernel.k.syncWarp();
  kernel.k.when(kernel.lane == 0, [&] { kernel.hopper.arrive(full(n)); });
}

void HopperKernel::Places::release(Num n) {
  kernel.k.syncWarp();
  kernel.k.when(kernel.lane == 0, [&] { kernel.hopper.arrive(empty(n)); });
}

void HopperKernel::Places::releaseByOne(Num n) { kernel.hopper.arrive(empty(n)); }

HopperKernel::Ring::Ring(HopperKernel &kernel, Source source, int64_t places,
                         ArrayRef<Extra> extras)
    : Places(kernel, places, 1, kConsumerWarps), source(source), extras(extras) {
  KernelBuilder &k = kernel.k;
  const int64_t bytes = SharedTile::bytes(source.rows, kernel.shape.headSize);
  begin = kernel.hopper.address(k.shared(places * bytes, k.getI8Type(), SharedTile::kAlignment));
  for (const Extra &extra : extras)
    extraPlaces.push_back(k.shared(places * extra.count, extra.from.element));
}

Pointer HopperKernel::Ring::extra(size_t number, Num n) const {
  return extraPlaces[number] + (n % places) * extras[number].count;
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
  awaitEmpty(n);
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
  awaitFull(n);
  return place(n);
}

void HopperKernel::findThread() {
  thread = k.threadIdAnew() % kPartThreads;
  lane = thread % 32;
}

void HopperKernel::build(ArrayRef<Places *> all) {
  k.limitRegisters(kRegisters);
  k.when(k.threadId() == 0, [&] {
    for (Places *places : all)
      places->initialize();
    hopper.fenceInitialized();
  });
  k.barrier();
  findThread();
  // The same in all lanes, which the compiler cannot know of a thread's number.
  Num group = k.shuffle(k.threadId() / kPartThreads, 0);
  k.when(
      group == 0,
      [&] {
        hopper.giveRegisters(kProducerRegisters);
        k.when(k.threadId() == 0, [&] { produce(); });
        if (Num warp = k.threadId() / 32; carriers())
          k.when((lane == 0) & (warp > 0) & (warp <= carriers()), [&] { carry(warp - 1); });
      },
      [&] {
        hopper.takeRegisters(kConsumerRegisters);
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

// The sums of dQ lie in scratch memory, f32 [B, K, row tiles, columns / 8, 128 threads, 4]: what
// thread t of a consumer has of 8 columns of a tile (Hopper.h) is one piece of 16 bytes.

// Columns of a tile of sums, with those behind the head that the chunks of a tile bring.
static int64_t sumColumns(const AttentionShape &shape) {
  return SharedTile::chunks(shape.headSize) * SharedTile::width(shape.headSize);
}

static int64_t sumBytes(const AttentionShape &shape) {
  return 4 * kBackwardRows * sumColumns(shape);
}

// Places for parts of dQ; 0: one is too much for the shared memory of a block.
static int64_t sumPlaces(const AttentionShape &shape) {
  constexpr int64_t all = 227 << 10, others = 8 << 10; // masks, rows, barriers
  const int64_t D = shape.headSize, own = HopperKernel::kOwnRows,
                list = 4 * int64_t(llvm::divideCeil(shape.rows(), kBackwardRows)),
                used = 2 * SharedTile::bytes(own, D) +
                       2 * kPlaces * SharedTile::bytes(kBackwardRows, D) +
                       SharedTile::bytes(own, kBackwardRows) + list + others;
  return std::clamp<int64_t>((all - used) / sumBytes(shape), 0, kPlaces);
}

bool llamac::hasHopperForm(const AttentionShape &shape, bool backward) {
  const int64_t group = shape.group();
  return shape.element.isBF16() && shape.headSize % 8 == 0 &&
         shape.headSize <= (backward ? 128 : 256) && llvm::isPowerOf2_64(group) &&
         group <= (backward ? kBackwardRows : HopperKernel::kPartRows) &&
         (!backward || sumPlaces(shape) > 0);
}

// Who comes next: `order`, i32 [B, row tiles, key tiles], is 1 + the key tile before this one that
// sees anything of the row tile, 0 where there is none. `done`, i32 [B * K * row tiles + 1], is 1 +
// the key tile that has added its part last, and behind all these the number of blocks that have
// begun: 0 when the backward begins.
static void emitOrder(Operation *op, const AttentionShape &shape, const AttentionTiles &tiles,
                      const AttentionMask &mask, Value order, Value done) {
  constexpr int64_t warps = 4;
  KernelBuilder k(op, "attention_order", {mask.rowTiles, mask.keyTiles, order, done}, 2,
                  32 * warps);
  Num tile = k.blockId(0) * warps + k.threadId() / 32, lane = k.threadId() % 32, b = k.blockId(1);
  k.when(tile < tiles.rowTiles, [&] {
    Num row = b * tiles.rowTiles + tile;
    const TileExtremes rows = TileExtremes::ofRows(k, k.argument(0), row);
    k.loop(0, tiles.keyTiles, 32, {k.integer(0)}, [&](Num first, ArrayRef<Num> before) {
      Num number = first + lane;
      const TileExtremes keys = TileExtremes::ofKeys(
          k, k.argument(1), b * tiles.keyTiles + k.min(number, k.integer(tiles.keyTiles - 1)));
      Num bits = k.ballot((number < tiles.keyTiles) & TileSight::of(shape, rows, keys).some);
      auto last = [&](Num bits) {
        return k.select(bits == 0, before[0], first + 32 - k.countLeadingZeros(bits));
      };
      Num below = k.shiftLeft(k.integer(1), lane) - 1;
      k.when(number < tiles.keyTiles, [&] {
        k.argument(2).store(row.wide() * tiles.keyTiles + number.wide(), last(bits & below));
      });
      return Nums{last(bits)};
    });
    k.loop(lane, k.integer(shape.kvHeads), 32, [&](Num kv) {
      k.argument(3).store((b * shape.kvHeads + kv) * tiles.rowTiles + tile, k.integer(0));
    });
    k.when((b == 0) & (tile == 0) & (lane == 0), [&] {
      k.argument(3).store(k.integer(shape.batch * shape.kvHeads * tiles.rowTiles), k.integer(0));
    });
  });
  k.launch({int64_t(llvm::divideCeil(tiles.rowTiles, warps)), shape.batch});
}

namespace {
// A block owns 128 keys; the tiles of rows come from the last to the first.
class Backward : HopperKernel {
public:
  enum Buffer {
    DOut,
    Q,
    K,
    V,
    Rows,
    RowMasks,
    KeyMasks,
    RowExtremes,
    KeyExtremes,
    Order,
    Done,
    Sums,
    DK,
    DV
  };

  /// `number` is that of beginInOrder.
  Backward(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles,
           Pointer number)
      : HopperKernel(k, shape, tiles, blockOf(shape, tiles, number)), number(number),
        keys(*this, keySource(K, kOwnRows), 1, keyMasks(k.argument(KeyMasks), kOwnRows)),
        values(*this, keySource(V, kOwnRows), 1),
        queries(*this, rowSource(Q, tiles.rows), kPlaces,
                {{gradients(), 2 * tiles.rows}, rowMasks(k.argument(RowMasks), tiles.rows)}),
        cotangents(*this, rowSource(DOut, tiles.rows), kPlaces),
        scores(*this, 1, kConsumerWarps, kConsumerWarps),
        parts(*this, sumPlaces(shape), kConsumerWarps, 1),
        scoreTile{hopper.address(k.shared(SharedTile::bytes(kOwnRows, tiles.rows), k.getI8Type(),
                                          SharedTile::kAlignment)),
                  kOwnRows, tiles.rows},
        partPlaces(k.shared(sumPlaces(shape) * sumBytes(shape) / 4, k.getF32Type())),
        list(listRows(k.argument(RowExtremes), k.argument(KeyExtremes))),
        count(k.shared(1, k.getI32Type())) {
    k.when(k.threadId() == 0, [&] { count.store(k.integer(0), list.size()); });
    build({&keys, &values, &queries, &cotangents, &scores, &parts});
  }

  static AttentionBlock blockOf(const AttentionShape &shape, const AttentionTiles &tiles,
                                Pointer number) {
    return AttentionBlock::inOrder(shape, tiles.keyTiles,
                                   number.load(number.base.kernel->integer(0)));
  }

  Grid grid() const { return block.grid; }

private:
  // What is the same for all threads is read anew: in the main loop there are no registers to keep it in.
  Num steps() { return count.load(k.integer(0)); }
  void findBlock() {
    block = blockOf(shape, tiles, number);
    place.b = block.b;
    place.kv = block.kv;
  }
  // GradientRow of the rows of this example and head.
  Pointer gradients() { return k.argument(Rows) + head().wide() * (tiles.paddedRows() * 2); }
  Num head() { return place.b * shape.kvHeads + place.kv; }
  // The n-th row tile, and its place in the list.
  Num placeOf(Num n) { return steps() - 1 - n; }
  Num rowTile(Num n) { return list.tile(placeOf(n)); }
  // Where the n-th part of dQ lies in shared memory.
  Pointer partOf(Num n) { return partPlaces + (n % sumPlaces(shape)) * (sumBytes(shape) / 4); }

  void produce() override {
    findBlock();
    k.when(steps() > 0, [&] {
      keys.fill(k.integer(0), block.tile);
      values.fill(k.integer(0), block.tile);
    });
    k.loop(k.integer(0), steps(), 1, [&](Num n) {
      Num tile = rowTile(n);
      queries.fill(n, tile);
      cotangents.fill(n, tile);
    });
  }

  // Adds the parts of dQ to the sums, each when the key tile before has added its own. Each place
  // has a carrier: while one waits until its part is written the next part is on its way.
  int64_t carriers() const override { return sumPlaces(shape); }
  void carry(Num carrier) override {
    findBlock();
    k.loop(carrier, steps(), sumPlaces(shape), [&](Num n) {
      Num tile = rowTile(n), number = head() * tiles.rowTiles + tile;
      Num before = k.argument(Order).load(
          (place.b * tiles.rowTiles + tile).wide() * tiles.keyTiles + block.tile.wide());
      Pointer done = k.argument(Done) + number,
              sums = k.argument(Sums) + number.wide() * (sumBytes(shape) / 4);
      Num from = hopper.address(partOf(n));
      parts.awaitFull(n);
      k.when(
          before == 0, [&] { hopper.copyOut(sums, from, sumBytes(shape)); },
          [&] {
            k.awaitValue(done, before);
            hopper.fenceGlobal();
            hopper.addOut(sums, from, sumBytes(shape));
          });
      hopper.waitRead();
      parts.releaseByOne(n);
      hopper.waitWritten();
      k.storeReleased(done, block.tile + 1);
    });
  }

  // Forms and stores the part of dQ in `chunks` chunks of columns from `first` on. All products are done then.
  void storePart(Num n, SharedTile key, Num first, int64_t chunks) {
    Nums part = hopper.beginOuter(scoreTile, key, first, chunks);
    hopper.wait(0, {&part});
    parts.awaitEmpty(n);
    // kPartThreads pieces of 4 numbers for each 8 columns.
    Pointer to =
        partOf(n) + first * (SharedTile::width(shape.headSize) / 8 * kPartThreads * 4) + thread * 4;
    for (size_t j = 0; j != part.size() / 4; ++j)
      to.store(k.integer(int64_t(j) * kPartThreads * 4), k.vector(ArrayRef(part).slice(4 * j, 4)));
  }

  void consume(Num part) override {
    const float factor = scoreFactor(shape);
    Nums state = zeroSums(); // of keys, then of values
    state.append(zeroSums());
    state = k.when(steps() > 0, state, [&] {
      SharedTile key = keys.await(k.integer(0)), value = values.await(k.integer(0));
      return k.loop(k.integer(0), steps(), 1, state, [&](Num n, ArrayRef<Num> before) {
        Nums dKeys = takeSums(before), dValues = takeSums(before);
        SharedTile q = queries.await(n);
        Nums weights = hopper.beginTransposed(key, part * kPartRows, q);
        SharedTile dOut = cotangents.await(n);
        Nums dScores = hopper.beginTransposed(value, part * kPartRows, dOut);
        hopper.wait(1, {&weights});
        weights = maskByKeys(weights, part, list, placeOf(n), queries.extra(1, n),
                             keys.extra(0, k.integer(0)));
        // Of the two rows of columns 8 j on that are this thread's.
        auto loadRows = [&](int64_t j) {
          Num two = (queries.extra(0, n) + 2 * firstColumn(0)).load(k.integer(16 * j), 4);
          return std::array<GradientRow, 2>{GradientRow{two[0], two[1]},
                                            GradientRow{two[2], two[3]}};
        };
        SmallVector<std::array<GradientRow, 2>> rows;
        for (int64_t j = 0; j != tiles.rows / 8; ++j) {
          rows.push_back(loadRows(j));
          for (int i = 0; i != 4; ++i)
            weights[4 * j + i] = rows[j][i % 2].weight(k, factor, weights[4 * j + i]);
        }
        hopper.begin(hopper.pairs(weights), dOut, dValues);
        hopper.wait(1, {&dScores});
        for (int64_t j = 0; j != tiles.rows / 8; ++j) {
          if (j >= tiles.rows / 16) // there are registers to keep half of them in
            rows[j] = loadRows(j);
          for (int i = 0; i != 4; ++i)
            dScores[4 * j + i] = weights[4 * j + i] * (dScores[4 * j + i] - rows[j][i % 2].delta);
        }
        Nums left = hopper.pairs(dScores);
        scores.awaitEmpty(n);
        hopper.store(scoreTile, part * kPartRows + thread / 32 * 16, lane, left);
        hopper.fenceShared();
        scores.fulfil(n);
        hopper.begin(left, q, dKeys);
        scores.awaitFull(n);
        const int64_t chunks = SharedTile::chunks(shape.headSize), half = (chunks + 1) / 2;
        if (chunks % 2 == 0)
          storePart(n, key, part * half, half);
        else
          k.when(
              part == 0, [&] { storePart(n, key, k.integer(0), half); },
              [&] {
                if (half != chunks)
                  storePart(n, key, k.integer(half), chunks - half);
              });
        hopper.wait(0, {&dKeys, &dValues});
        scores.release(n);
        queries.release(n);
        cotangents.release(n);
        hopper.fenceShared();
        parts.fulfil(n);
        Nums after = dKeys;
        after.append(dValues);
        return after;
      });
    });
    findBlock();
    findThread();
    Num numbers[2] = {block.tile * kOwnRows + ownRow(part),
                      block.tile * kOwnRows + ownRow(part) + 8};
    ArrayRef<Num> rest = state;
    Nums dKeys = takeSums(rest), dValues = takeSums(rest);
    for (int i = 0; i != 2; ++i)
      k.when(numbers[i] < shape.keys, [&] {
        storeRow(k.argument(DK) + place.key(k.argument(DK), numbers[i]), i, dKeys,
                 k.number(float(shape.scale)));
        storeRow(k.argument(DV) + place.key(k.argument(DV), numbers[i]), i, dValues, k.number(1));
      });
  }

  Pointer number;
  Ring keys, values, queries, cotangents;
  Places scores, parts; // dS^T; parts of dQ, which wait to be added
  SharedTile scoreTile;
  Pointer partPlaces;
  TileList list;
  Pointer count; // of the list
};
} // namespace

// Number s of lane q becomes number q of lane s, in each four lanes.
static void transposeFour(KernelBuilder &k, Num lane, MutableArrayRef<Num> numbers) {
  for (int bit : {1, 2}) {
    Num upper = (lane & bit) == bit;
    for (int a = 0; a != 4; ++a) {
      if (a & bit)
        continue;
      Num &low = numbers[a], &high = numbers[a | bit];
      Num got = k.shuffleXor(k.select(upper, low, high), bit);
      low = k.select(upper, got, low);
      high = k.select(upper, high, got);
    }
  }
}

// dQ of the sums: scaled, narrowed, 0 in rows that no key sees. A block has 32 columns of a tile;
// of each 8 a thread reads what it would have in a consumer, and four threads exchange theirs so
// that each has 8 columns of two rows.
static void emitNarrow(Operation *op, const AttentionShape &shape, const AttentionTiles &tiles,
                       Value sums, Value done, Value dQ) {
  constexpr int64_t threads = HopperKernel::kPartThreads;
  KernelBuilder k(op, "attention_dq_narrow", {sums, done, dQ}, 2, threads);
  const AttentionPlace place = {shape, k.blockId(2) / shape.kvHeads, k.blockId(2) % shape.kvHeads};
  Num tile = k.blockId(1), number = k.blockId(2) * tiles.rowTiles + tile, eight = k.blockId(0) * 4;
  Num thread = k.threadId(), lane = thread % 32;
  Pointer from =
      k.argument(0) + number.wide() * (sumBytes(shape) / 4) + eight * (threads * 4) + thread * 4;
  Nums pairs = k.when(k.argument(1).load(number) > 0, Nums(8, k.integer(0)), [&] {
    Nums read, low, high;
    for (int j = 0; j != 4; ++j)
      read.push_back(from.load(k.integer(j * threads * 4), 4));
    const float scale = float(shape.scale);
    for (Num four : read) {
      low.push_back(k.pack(four[0] * scale, four[1] * scale));
      high.push_back(k.pack(four[2] * scale, four[3] * scale));
    }
    low.append(high);
    return low;
  });
  Num column = (eight + lane % 4) * 8;
  for (int half = 0; half != 2; ++half) {
    MutableArrayRef<Num> mine = MutableArrayRef(pairs).slice(4 * half, 4);
    transposeFour(k, lane, mine);
    Num row = tile * kBackwardRows + thread / 32 * 16 + lane / 4 + 8 * half;
    k.when((row < shape.rows()) & (column < shape.headSize), [&] {
      Pointer to = k.argument(2) + place.query(k.argument(2), row) + column;
      to.as(k.getI32Type()).store(k.integer(0), k.vector(mine));
    });
  }
  k.launch({sumColumns(shape) / 32, tiles.rowTiles, shape.batch * shape.kvHeads});
}

void llamac::emitHopperBackward(routine::AttentionBackwardOp op) {
  const AttentionShape shape = AttentionShape::of(op);
  const AttentionTiles tiles = AttentionTiles::of(shape, kBackwardRows, HopperKernel::kOwnRows);
  Builder b(op.getContext());
  const int64_t tilesOfAll = shape.batch * shape.kvHeads * tiles.rowTiles;
  Value rows = emitGradientRows(op, shape, tiles, op.getDOut(), op.getOut(), op.getLse());
  AttentionMask mask = emitMask(op, shape, tiles, op.getMasks(), op.getLse());
  Value order = allocateScratch(op, {shape.batch, tiles.rowTiles, tiles.keyTiles}, b.getI32Type());
  Value done = allocateScratch(op, {tilesOfAll + 1}, b.getI32Type());
  Value sums = allocateScratch(op, {tilesOfAll, sumBytes(shape) / 4}, b.getF32Type());
  emitOrder(op, shape, tiles, mask, order, done);
  KernelBuilder k(op, "attention_backward_hopper",
                  {op.getDOut(), op.getQ(), op.getK(), op.getV(), rows, mask.rows, mask.keys,
                   mask.rowTiles, mask.keyTiles, order, done, sums, op.getDK(), op.getDV()},
                  Backward::Done, HopperKernel::kThreads);
  const Backward kernel(k, shape, tiles, k.beginInOrder(k.argument(Backward::Done) + tilesOfAll));
  stateForm(k.launch(kernel.grid()), AttentionForm::Hopper);
  emitNarrow(op, shape, tiles, sums, done, op.getDQ());
}
