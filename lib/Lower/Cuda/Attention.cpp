//===- Attention.cpp - What the forms of attention share ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Whatever the form (Attention.h), a call has the same pieces around its kernel:
//
//   masks     i64 of the routine -> AttentionMask: of each row an interval and a group, of each key
//             its number and group, of each tile whether all, some or none of its scores are seen
//   softmax   running maximum and sum of a row, in base 2, over the lanes that share it
//   rows      of the backward: dOut . out of each row, before the kernels that need it
//   means     of the values, for rows that see no key
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Attention.h"

#include "lib/Lower/Cuda/CudaTarget.h"
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

#include <limits>
#include <numbers>

namespace mlir::llamac {
#define GEN_PASS_DEF_EMITATTENTIONPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

static constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();
static constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
// The group of a key that is not there, and of one that is there but padding. Rows have low > kPadding
// unless they see no key.
static constexpr int32_t kNoKey = kLeast, kPadding = kLeast + 1;

static constexpr float kLog2E = std::numbers::log2e_v<float>;
static constexpr float kInfinity = std::numeric_limits<float>::infinity();

Value llamac::allocateScratch(Operation *op, ArrayRef<int64_t> shape, Type element) {
  OpBuilder builder(op);
  return memref::AllocOp::create(builder, op->getLoc(), MemRefType::get(shape, element));
}

//===----------------------------------------------------------------------===//
// Masks
//===----------------------------------------------------------------------===//

// Lanes of a warp go over the queries or keys of a tile.
static constexpr int kWarp = 32, kMaskWarps = 4;

namespace {
// The kernel that makes an AttentionMask. A warp has a tile of keys or of rows.
class MaskKernel {
public:
  MaskKernel(KernelBuilder &k, const AttentionShape &shape, const AttentionTiles &tiles, int masks,
             bool backward)
      : k(k), shape(shape), tiles(tiles), b(k.blockId(1)) {
    for (int i = 0; i != masks; ++i)
      mask.push_back(k.argument(i));
    if (backward)
      lse = k.argument(masks);
    int first = masks + backward;
    rows = k.argument(first);
    keys = k.argument(first + 1);
    rowTiles = k.argument(first + 2);
    keyTiles = k.argument(first + 3);
  }

  void build() {
    Num lane = k.threadId() % kWarp;
    Num tile = k.blockId(0) * kMaskWarps + k.threadId() / kWarp;
    k.when(tile < tiles.keyTiles, [&] { keyTile(tile, lane); });
    k.when((tile >= tiles.keyTiles) & (tile < tiles.keyTiles + tiles.rowTiles),
           [&] { rowTile(tile - tiles.keyTiles, lane); });
  }

private:
  KernelBuilder &k;
  const AttentionShape &shape;
  const AttentionTiles &tiles;
  SmallVector<Pointer> mask;
  Pointer lse, rows, keys, rowTiles, keyTiles;
  Num b;

  void keyTile(Num tile, Num lane) {
    // Greatest and least: of the groups that a row may see, of all groups, of the ranks.
    Nums extremes = {k.integer(kMost), k.integer(kLeast), k.integer(kMost), k.integer(kLeast),
                     k.integer(kMost)};
    extremes = k.loop(0, tiles.keys, kWarp, extremes, [&](Num first, ArrayRef<Num> before) {
      // The last lanes may have the last key again.
      Num n = first + lane, j = tile * tiles.keys + k.min(n, k.integer(tiles.keys - 1));
      KeyMask key = keyMask(j);
      k.when(n < tiles.keys, [&] {
        keys.store((b * tiles.paddedKeys() + j) * 2, k.vector({key.group, key.rank}));
      });
      Num real = key.group > kPadding, there = key.group > kNoKey;
      return Nums{k.min(before[0], k.select(real, key.group, k.integer(kMost))),
                  k.max(before[1], key.group),
                  k.min(before[2], k.select(there, key.rank, k.integer(kMost))),
                  k.max(before[3], key.rank), k.min(before[4], key.group)};
    });
    Nums whole = {k.warpMin(extremes[0]), k.warpMax(extremes[1]), k.warpMin(extremes[2]),
                  k.warpMax(extremes[3]), k.warpMin(extremes[4])};
    storeExtremes(keyTiles, b * tiles.keyTiles + tile, lane, whole);
  }

  void rowTile(Num tile, Num lane) {
    Nums extremes = {k.integer(kMost),  k.integer(kLeast), k.integer(kLeast),
                     k.integer(kLeast), k.integer(kMost),  k.integer(kMost)};
    extremes = k.loop(0, tiles.rows, kWarp, extremes, [&](Num first, ArrayRef<Num> before) {
      Num n = first + lane, r = tile * tiles.rows + k.min(n, k.integer(tiles.rows - 1));
      RowMask row = rowMask(r / shape.group());
      k.when(n < tiles.rows, [&] {
        rows.store((b * tiles.paddedRows() + r) * 4,
                   k.vector({row.low, row.high, row.rank, k.integer(0)}));
      });
      return Nums{k.min(before[0], row.low), k.max(before[1], row.high), k.max(before[2], row.rank),
                  // A tile with an even row never sees all: its scores change.
                  k.max(before[3], k.select(row.isEven(), k.integer(kMost), row.low)),
                  k.min(before[4], row.high), k.min(before[5], row.rank)};
    });
    Nums whole = {k.warpMin(extremes[0]), k.warpMax(extremes[1]), k.warpMax(extremes[2]),
                  k.warpMax(extremes[3]), k.warpMin(extremes[4]), k.warpMin(extremes[5])};
    storeExtremes(rowTiles, b * tiles.rowTiles + tile, lane, whole);
  }

  void storeExtremes(Pointer to, Num tile, Num lane, Nums values) {
    while (values.size() < 8)
      values.push_back(k.integer(0));
    k.when(lane == 0, [&] {
      to.store(tile * 8, k.vector(ArrayRef(values).take_front(4)));
      to.store(tile * 8 + 4, k.vector(ArrayRef(values).drop_front(4)));
    });
  }

  // Whether a token of an encoder (i32) is padding.
  Num invalid(Num token) {
    Num tilesOfImage = k.narrow(mask[0].load(b));
    return (token / shape.tileStride >= tilesOfImage) |
           (token % shape.tileStride >= shape.tileTokens);
  }

  KeyMask keyMask(Num j) {
    Num there = j < shape.keys;
    Num at = k.min(j, k.integer(shape.keys - 1));
    KeyMask key = {k.integer(0), k.integer(0)};
    switch (shape.mask) {
    case routine::Mask::Causal: {
      Num document = k.narrow(mask[3].load(b * shape.keys + at));
      key.group = k.select(document < 0, k.integer(kPadding), document);
      key.rank = k.narrow(mask[2].load(b * shape.keys + at));
      break;
    }
    case routine::Mask::Encoder:
      key.group = k.select(invalid(at), k.integer(1), k.integer(0));
      break;
    case routine::Mask::Images: {
      Num tile = at / shape.tileTokens, image = tile / shape.tileCount;
      Num real = tile % shape.tileCount < k.narrow(mask[2].load(b * shape.images + image));
      key.group = k.select(real, image, k.integer(shape.images));
      break;
    }
    }
    return {k.select(there, key.group, k.integer(kNoKey)), key.rank};
  }

  RowMask rowMask(Num i) {
    Num there = i < shape.queries;
    Num at = k.min(i, k.integer(shape.queries - 1));
    Num place = b * shape.queries + at;
    RowMask row = {k.integer(0), k.integer(0), k.integer(0)};
    Num none; // whether the row sees no key, if that is known
    switch (shape.mask) {
    case routine::Mask::Causal: {
      Num document = k.narrow(mask[1].load(place));
      row.low = row.high = k.select(document < 0, -1 - document, document);
      row.rank = k.narrow(mask[0].load(place));
      break;
    }
    case routine::Mask::Encoder: {
      row.high = k.select(invalid(k.narrow(mask[1].load(at))), k.integer(0), k.integer(1));
      none = (row.high == 0) & (k.narrow(mask[0].load(b)) <= 0);
      break;
    }
    case routine::Mask::Images: {
      Num begin = mask[0].load(place), end = mask[1].load(place);
      Num every = begin >= end;
      Num last = k.narrow(k.min(end, k.constant(end.type(), shape.images))) - 1;
      row.low = k.select(every, k.integer(0), k.narrow(begin));
      row.high = k.select(every, k.integer(shape.images), last);
      // Nothing is seen if no image of the range has a real tile.
      Num seen = k.loop(0, shape.images, 1, {k.select(every, k.integer(1), k.integer(0))},
                        [&](Num image, ArrayRef<Num> before) {
                          Num real = (image >= row.low) & (image <= last) &
                                     (k.narrow(mask[2].load(b * shape.images + image)) > 0);
                          return Nums{k.select(real, k.integer(1), before[0])};
                        })[0];
      none = seen == 0;
      break;
    }
    }
    if (lse.element)
      none = lse.load(place * shape.heads) == -kInfinity;
    if (none) {
      row.low = k.select(none, k.integer(kPadding), row.low);
      row.high = k.select(none, k.integer(kMost), row.high);
      row.rank = k.select(none, k.integer(kMost), row.rank);
    }
    return {k.select(there, row.low, k.integer(kMost)),
            k.select(there, row.high, k.integer(kLeast)),
            k.select(there, row.rank, k.integer(kLeast))};
  }
};
} // namespace

AttentionMask llamac::emitMask(Operation *op, const AttentionShape &shape,
                               const AttentionTiles &tiles, ValueRange masks, Value lse) {
  Type i32 = IntegerType::get(op->getContext(), 32);
  AttentionMask mask = {
      allocateScratch(op, {shape.batch, tiles.paddedRows(), 4}, i32),
      allocateScratch(op, {shape.batch, tiles.paddedKeys(), 2}, i32),
      allocateScratch(op, {shape.batch, tiles.rowTiles, 8}, i32),
      allocateScratch(op, {shape.batch, tiles.keyTiles, 8}, i32),
  };
  SmallVector<Value> buffers(masks);
  if (lse)
    buffers.push_back(lse);
  const unsigned written = buffers.size();
  llvm::append_values(buffers, mask.rows, mask.keys, mask.rowTiles, mask.keyTiles);
  KernelBuilder k(op, "attention_mask", buffers, written, kMaskWarps * kWarp);
  MaskKernel(k, shape, tiles, masks.size(), bool(lse)).build();
  k.launch({int64_t(llvm::divideCeil(tiles.keyTiles + tiles.rowTiles, kMaskWarps)), shape.batch});
  return mask;
}

RowMask RowMask::load(Pointer rows, Num row) {
  Num all = rows.load(row * 4, 4);
  return {all[0], all[1], all[2]};
}

Num RowMask::isEven() const { return low == kPadding; }

KeyMask KeyMask::load(Pointer keys, Num key) {
  Num both = keys.load(key * 2, 2);
  return {both[0], both[1]};
}

Num llamac::maskScore(KernelBuilder &k, const AttentionShape &shape, const RowMask &row,
                      const KeyMask &key, Num score) {
  Num seen = (key.group >= row.low) & (key.group <= row.high);
  if (shape.ranked())
    seen = seen & (key.rank <= row.rank);
  return k.select(seen, k.select(row.isEven(), k.number(0), score), k.number(-kInfinity));
}

// The numbers of several tiles; those in the bits of `greatest` are greatest, the others least.
static TileExtremes extremesOf(KernelBuilder &k, Pointer tiles, Num tile, int count,
                               unsigned greatest) {
  TileExtremes all;
  for (int i = 0; i != count; ++i) {
    Num first = tiles.load((tile + i) * 8, 4), second = tiles.load((tile + i) * 8 + 4, 4);
    for (int n = 0; n != 6; ++n) {
      Num value = n < 4 ? first[n] : second[n - 4];
      Num &so = all.values[n];
      so = i == 0 ? value : greatest & (1u << n) ? k.max(so, value) : k.min(so, value);
    }
  }
  return all;
}

TileExtremes TileExtremes::ofRows(KernelBuilder &k, Pointer tiles, Num tile, int count) {
  return extremesOf(k, tiles, tile, count, 0b001110);
}

TileExtremes TileExtremes::ofKeys(KernelBuilder &k, Pointer tiles, Num tile, int count) {
  return extremesOf(k, tiles, tile, count, 0b001010);
}

TileSight TileSight::of(const AttentionShape &shape, const TileExtremes &rows,
                        const TileExtremes &keys) {
  auto [lowMin, highMax, rowRankMax, lowMax, highMin, rowRankMin] = rows.values;
  auto [groupMin, groupMax, rankMin, rankMax, groupLeast, unused] = keys.values;
  TileSight sight = {(groupMax >= lowMin) & (groupMin <= highMax),
                     (groupLeast >= lowMax) & (groupMax <= highMin)};
  if (shape.ranked()) {
    sight.some = sight.some & (rankMin <= rowRankMax);
    sight.all = sight.all & (rankMax <= rowRankMin);
  }
  return sight;
}

TileList::TileList(KernelBuilder &k, int64_t threads, Num first, int64_t count, int64_t all,
                   llvm::function_ref<TileSight(Num tile)> sight)
    : list(k.shared(count, k.getI32Type())) {
  const int warps = int(threads / kWarp);
  Pointer counts = k.shared(warps, k.getI32Type());
  Num thread = k.threadId(), lane = thread % kWarp, warp = thread / kWarp;
  listed = k.loop(0, count, threads, {k.integer(0)}, [&](Num done, ArrayRef<Num> before) {
    Num number = done + thread, tile = first + number;
    TileSight seen = sight(k.min(tile, k.integer(all - 1)));
    Num worth = (number < count) & (tile < all) & seen.some;
    Num bits = k.ballot(worth);
    k.when(lane == 0, [&] { counts.store(warp, k.countBits(bits)); });
    k.barrier();
    Num at = before[0], sum = before[0];
    for (int w = 0; w != warps; ++w) {
      Num ofWarp = counts.load(k.integer(w));
      at = at + k.select(warp > w, ofWarp, k.integer(0));
      sum = sum + ofWarp;
    }
    Num below = k.shiftLeft(k.integer(1), lane) - 1;
    k.when(worth, [&] {
      list.store(at + k.countBits(bits & below),
                 tile * 2 + k.select(seen.all, k.integer(1), k.integer(0)));
    });
    k.barrier();
    return Nums{sum};
  })[0];
}

Num TileList::tile(Num n) const { return n.kernel->shiftRight(list.load(n), 1); }

Num TileList::seesAll(Num n) const { return list.load(n) & 1; }

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

float llamac::scoreFactor(const AttentionShape &shape) {
  return float(shape.scale * std::numbers::log2e);
}

// Combines `value` over the lanes that differ in the bits of `lanes`.
static Num overLanes(KernelBuilder &k, Num value, int lanes,
                     llvm::function_ref<Num(Num, Num)> combine) {
  for (int bit = 1; bit <= lanes; bit *= 2)
    if (lanes & bit)
      value = combine(value, k.shuffleXor(value, bit));
  return value;
}

SoftmaxRow SoftmaxRow::begin(KernelBuilder &k) { return {k.number(-kInfinity), k.number(0)}; }

Num SoftmaxRow::step(KernelBuilder &k, float factor, MutableArrayRef<Num> scores, int lanes) {
  auto greater = [&](Num a, Num b) { return k.max(a, b); };
  Num tileMax = scores[0];
  for (Num score : scores.drop_front())
    tileMax = greater(tileMax, score);
  Num next = greater(max, overLanes(k, tileMax, lanes, greater) * factor);
  // Nothing seen so far: any finite number will do, all weights become 0.
  Num base = k.select(next == -kInfinity, k.number(0), next);
  Num tileSum;
  for (Num &score : scores) {
    score = k.exp2(k.fma(score, k.number(factor), 0.f - base));
    tileSum = tileSum ? tileSum + score : score;
  }
  Num old = k.exp2(max - base);
  sum = k.fma(sum, old, tileSum);
  max = next;
  return old;
}

void SoftmaxRow::finish(KernelBuilder &k, int lanes) {
  sum = overLanes(k, sum, lanes, [](Num a, Num b) { return a + b; });
}

Num SoftmaxRow::lse(KernelBuilder &k, Num isEven) const {
  Num found = (max + k.log2(sum)) * std::numbers::ln2_v<float>;
  return k.select(isEven | sawNone(), k.number(-kInfinity), found);
}

GradientRow GradientRow::load(Pointer rows, Num row) {
  Num both = rows.load(row * 2, 2);
  return {both[0], both[1]};
}

Num GradientRow::weight(KernelBuilder &k, float factor, Num score) const {
  return k.exp2(k.fma(score, k.number(factor), 0.f - lse));
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

Num AttentionPlace::headOf(Num row) const {
  const int64_t G = shape.group();
  Num query = row / G, head = kv * G + row % G;
  return (b.wide() * shape.queries + query.wide()) * shape.heads + head.wide();
}

Num AttentionPlace::query(Pointer of, Num row) const {
  if (!of.rowStride)
    return headOf(row) * shape.headSize;
  const int64_t G = shape.group();
  Num query = row / G, head = kv * G + row % G;
  return (b.wide() * shape.queries + query.wide()) * of.rowStride + head.wide() * shape.headSize;
}

Num AttentionPlace::key(Pointer of, Num key) const {
  if (!of.rowStride)
    return ((b.wide() * shape.keys + key.wide()) * shape.kvHeads + kv.wide()) * shape.headSize;
  return (b.wide() * shape.keys + key.wide()) * of.rowStride + kv.wide() * shape.headSize;
}

Value llamac::emitGradientRows(Operation *op, const AttentionShape &shape,
                               const AttentionTiles &tiles, Value dOut, Value out, Value lse) {
  const int64_t D = shape.headSize, threads = 256;
  // As many lanes for a row as it has pieces of 16 bytes.
  const int64_t most = shape.element.isF32() ? 4 : 8;
  const int64_t piece = D % most == 0 ? most : D % 4 == 0 ? 4 : 1;
  const int64_t lanes = std::min<int64_t>(llvm::PowerOf2Ceil(D / piece), kWarp);
  const int64_t rows = threads / lanes; // of a block of threads
  Value result = allocateScratch(op, {shape.batch, shape.kvHeads, tiles.paddedRows(), 2},
                                 Float32Type::get(op->getContext()));
  KernelBuilder k(op, "attention_rows", {dOut, out, lse, result}, 3, threads);
  AttentionPlace place = {shape, k.blockId(2), k.blockId(1)};
  Num row = k.blockId(0) * rows + k.threadId() / lanes, lane = k.threadId() % lanes;
  Num there = row < shape.rows(), at = k.min(row, k.integer(shape.rows() - 1));
  Pointer a = k.argument(0) + place.query(k.argument(0), at),
          b = k.argument(1) + place.query(k.argument(1), at);
  Num delta = k.loop(lane * piece, k.integer(D), lanes * piece, {k.number(0)},
                     [&](Num d, ArrayRef<Num> before) {
                       Num sum = before[0];
                       Num left = a.loadFloat(d, piece), right = b.loadFloat(d, piece);
                       for (int i = 0; i != piece; ++i)
                         sum = piece == 1 ? k.fma(left, right, sum) : k.fma(left[i], right[i], sum);
                       return Nums{sum};
                     })[0];
  delta = overLanes(k, delta, lanes - 1, [](Num a, Num b) { return a + b; });
  k.when((lane == 0) & (row < tiles.paddedRows()), [&] {
    Num found = k.argument(2).load(place.headOf(at)), none = found == -kInfinity,
        zero = k.number(0);
    Num log = k.select(none, k.number(std::log2(float(shape.keys))), found * kLog2E);
    Num to = (place.b * shape.kvHeads + place.kv) * tiles.paddedRows() + row;
    k.argument(3).store(to.wide() * 2,
                        k.vector({k.select(there, log, zero), k.select(there, delta, zero)}));
  });
  k.launch({int64_t(llvm::divideCeil(tiles.paddedRows(), rows)), shape.kvHeads, shape.batch});
  return result;
}

// Heads whose tiles go side by side where the mask is causal: with so few of them the blocks that run at one
// time still share the tiles that they read.
static constexpr int64_t kHeadsAtOnce = 16;

AttentionBlock::AttentionBlock(KernelBuilder &k, const AttentionShape &shape, int64_t tiles,
                               bool rising, int64_t parts)
    : AttentionBlock(shape, tiles, parts, shape.ranked() ? kHeadsAtOnce : 1, k.blockId(0)) {
  if (rising)
    tile = tiles - 1 - tile;
}

AttentionBlock AttentionBlock::inOrder(const AttentionShape &shape, int64_t tiles, Num number) {
  return {shape, tiles, 1, kHeadsAtOnce, number};
}

// At most `most` heads side by side.
AttentionBlock::AttentionBlock(const AttentionShape &shape, int64_t tiles, int64_t parts,
                               int64_t most, Num number)
    : parts(parts) {
  const int64_t all = shape.batch * shape.kvHeads;
  int64_t atOnce = std::min(all, most);
  while (all % atOnce)
    --atOnce;
  grid = {tiles * parts * all};
  part = number % parts;
  number = number / parts;
  Num head = number % atOnce + number / (tiles * atOnce) * atOnce;
  b = head / shape.kvHeads;
  kv = head % shape.kvHeads;
  tile = number / atOnce % tiles;
}

void llamac::meanOfValues(KernelBuilder &k, const AttentionPlace &place, Pointer v, Pointer mean,
                          int64_t threads) {
  const AttentionShape &shape = place.shape;
  k.loop(k.threadId(), k.integer(shape.headSize), threads, [&](Num d) {
    Num sum = k.loop(0, shape.keys, 1, {k.number(0)}, [&](Num j, ArrayRef<Num> before) {
      return Nums{before[0] + (v + place.key(v, j)).loadFloat(d)};
    })[0];
    mean.store(d, sum * (1.f / float(shape.keys)));
  });
  k.barrier();
}

//===----------------------------------------------------------------------===//
// Forms
//===----------------------------------------------------------------------===//

/// The attribute of stateForm.
static constexpr llvm::StringLiteral kFormAttr = "llama.form";

/// `bf16, 2 x 192 queries, 192 keys, 32 heads on 8 of 128, causal`.
static std::string textOf(const AttentionShape &shape) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << shape.element << ", " << shape.batch << " x " << shape.queries << " queries, " << shape.keys
     << " keys, " << shape.heads << " heads";
  if (shape.kvHeads != shape.heads)
    os << " on " << shape.kvHeads;
  os << " of " << shape.headSize << ", " << routine::stringifyMask(shape.mask);
  return text;
}

StringRef llamac::nameOf(AttentionForm form) {
  switch (form) {
  case AttentionForm::Plain:
    return "plain";
  case AttentionForm::Mma:
    return "mma";
  case AttentionForm::Hopper:
    return "hopper";
  }
  llvm_unreachable("unknown form");
}

void llamac::stateForm(Operation *launch, AttentionForm form) {
  launch->setAttr(kFormAttr, StringAttr::get(launch->getContext(), nameOf(form)));
}

AttentionForm llamac::chooseAttentionForm(const AttentionShape &shape, bool backward,
                                          StringRef chip) {
  if (chip == "sm_90a" && hasHopperForm(shape, backward))
    return AttentionForm::Hopper;
  // Every chip has what `mma` needs: sm_80 is the oldest that there is a target for.
  if (shape.element.isBF16() && shape.headSize % 8 == 0 && shape.headSize <= 256)
    return AttentionForm::Mma;
  return AttentionForm::Plain;
}

namespace {
struct EmitAttentionPass : llamac::impl::EmitAttentionPassBase<EmitAttentionPass> {
  using EmitAttentionPassBase::EmitAttentionPassBase;

  // Emits each form that a chip takes; if there are several, their launches state the chips that they are for.
  template <typename Op>
  void emit(Op op, bool backward, void (*plain)(Op), void (*mma)(Op), void (*hopper)(Op)) {
    const AttentionShape shape = AttentionShape::of(op);
    llvm::MapVector<AttentionForm, SmallVector<StringRef>> forms;
    for (StringRef chip : llvm::split(chips, ','))
      forms[chooseAttentionForm(shape, backward, chip)].push_back(chip);
    for (const auto &[form, its] : forms) {
      Operation *before = op->getPrevNode();
      (form == AttentionForm::Plain ? plain : form == AttentionForm::Mma ? mma : hopper)(op);
      Builder b(&getContext());
      Attribute text =
          b.getStringAttr(nameOf(form) + (backward ? " backward: " : " forward: ") + textOf(shape));
      for (Operation *made = before ? before->getNextNode() : &op->getBlock()->front(); made != op;
           made = made->getNextNode()) {
        if (!isa<gpu::LaunchFuncOp>(made))
          continue;
        if (forms.size() > 1)
          made->setAttr(kChipsAttr, b.getStrArrayAttr(its));
        if (made->hasAttr(kFormAttr))
          made->setAttr(kAttentionAttr, text);
      }
    }
  }

  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa<routine::AttentionForwardOp, routine::AttentionBackwardOp>(op))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      if (auto forward = dyn_cast<routine::AttentionForwardOp>(op))
        emit(forward, false, emitPlainForward, emitMmaForward, emitHopperForward);
      else
        emit(cast<routine::AttentionBackwardOp>(op), true, emitPlainBackward, emitMmaBackward,
             emitHopperBackward);
      op->erase();
    }
  }
};
} // namespace
