//===- Attention.cpp - What the forms of attention share ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Attention.h"

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

static Value allocate(Operation *op, ArrayRef<int64_t> shape, Type element) {
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
    queries = k.argument(first);
    keys = k.argument(first + 1);
    queryTiles = k.argument(first + 2);
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
  Pointer lse, queries, keys, queryTiles, keyTiles;
  Num b;

  void keyTile(Num tile, Num lane) {
    // Greatest and least: of the groups that a row may see, of all groups, of the ranks.
    Nums extremes = {k.integer(kMost), k.integer(kLeast), k.integer(kMost), k.integer(kLeast),
                     k.integer(kMost)};
    extremes = k.loop(0, tiles.keys, kWarp, extremes, [&](Num step, ArrayRef<Num> before) {
      // A tile has a multiple of 32 keys.
      Num j = tile * tiles.keys + step + lane;
      KeyMask key = keyMask(j);
      keys.store((b * tiles.paddedKeys() + j) * 2, k.vector({key.group, key.rank}));
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
    // The tile's queries, of which the first may belong to the tile before as well.
    const int64_t group = shape.group();
    Num firstRow = tile * tiles.rows;
    Num first = firstRow / group, last = (firstRow + (tiles.rows - 1)) / group;
    const int64_t most = (tiles.rows - 1) / group + 2;
    Nums extremes = {k.integer(kMost),  k.integer(kLeast), k.integer(kLeast),
                     k.integer(kLeast), k.integer(kMost),  k.integer(kMost)};
    extremes = k.loop(0, most, kWarp, extremes, [&](Num step, ArrayRef<Num> before) {
      Num i = first + step + lane;
      Num inside = i <= last;
      i = k.min(i, last);
      RowMask row = rowMask(i);
      k.when(inside & (i * group >= firstRow), [&] {
        queries.store((b * tiles.paddedQueries(shape) + i) * 4,
                      k.vector({row.low, row.high, row.rank, k.integer(0)}));
      });
      return Nums{k.min(before[0], row.low),  k.max(before[1], row.high),
                  k.max(before[2], row.rank), k.max(before[3], row.low),
                  k.min(before[4], row.high), k.min(before[5], row.rank)};
    });
    Nums whole = {k.warpMin(extremes[0]), k.warpMax(extremes[1]), k.warpMax(extremes[2]),
                  k.warpMax(extremes[3]), k.warpMin(extremes[4]), k.warpMin(extremes[5])};
    storeExtremes(queryTiles, b * tiles.rowTiles + tile, lane, whole);
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
    switch (shape.mask) {
    case routine::Mask::Causal: {
      Num document = k.narrow(mask[1].load(place));
      row.low = row.high = k.select(document < 0, -1 - document, document);
      row.rank = k.narrow(mask[0].load(place));
      break;
    }
    case routine::Mask::Encoder:
      row.high = k.select(invalid(k.narrow(mask[1].load(at))), k.integer(0), k.integer(1));
      break;
    case routine::Mask::Images: {
      Num begin = mask[0].load(place), end = mask[1].load(place);
      Num every = begin >= end;
      Num last = k.narrow(k.min(end, k.constant(end.type(), shape.images))) - 1;
      row.low = k.select(every, k.integer(0), k.narrow(begin));
      row.high = k.select(every, k.integer(shape.images), last);
      break;
    }
    }
    if (lse.element) { // a row that saw no key now sees all
      Num none = lse.load(place * shape.heads) == -kInfinity;
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
      allocate(op, {shape.batch, tiles.paddedQueries(shape), 4}, i32),
      allocate(op, {shape.batch, tiles.paddedKeys(), 2}, i32),
      allocate(op, {shape.batch, tiles.rowTiles, 8}, i32),
      allocate(op, {shape.batch, tiles.keyTiles, 8}, i32),
  };
  SmallVector<Value> buffers(masks);
  if (lse)
    buffers.push_back(lse);
  const unsigned written = buffers.size();
  llvm::append_values(buffers, mask.queries, mask.keys, mask.queryTiles, mask.keyTiles);
  KernelBuilder k(op, "attention_mask", buffers, written, kMaskWarps * kWarp);
  MaskKernel(k, shape, tiles, masks.size(), bool(lse)).build();
  k.launch({int64_t(llvm::divideCeil(tiles.keyTiles + tiles.rowTiles, kMaskWarps)), shape.batch});
  return mask;
}

RowMask llamac::loadRowMask(Pointer queries, const AttentionShape &shape,
                            const AttentionTiles &tiles, Num b, Num query) {
  Num all = queries.load((b * tiles.paddedQueries(shape) + query) * 4, 4);
  return {all[0], all[1], all[2]};
}

KeyMask llamac::loadKeyMask(Pointer keys, const AttentionTiles &tiles, Num b, Num key) {
  Num both = keys.load((b * tiles.paddedKeys() + key) * 2, 2);
  return {both[0], both[1]};
}

Num llamac::sees(const AttentionShape &shape, const RowMask &row, const KeyMask &key) {
  Num seen = (key.group >= row.low) & (key.group <= row.high);
  return shape.ranked() ? seen & (key.rank <= row.rank) : seen;
}

TileExtremes llamac::loadExtremes(Pointer tiles, Num tile) {
  Num first = tiles.load(tile * 8, 4), second = tiles.load(tile * 8 + 4, 4);
  return {{first[0], first[1], first[2], first[3], second[0], second[1]}};
}

TileSight llamac::sightOf(const AttentionShape &shape, const TileExtremes &rows,
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

Num SoftmaxRow::step(KernelBuilder &k, MutableArrayRef<Num> scores, int lanes) {
  auto greater = [&](Num a, Num b) { return k.max(a, b); };
  Num tileMax = scores[0];
  for (Num score : scores.drop_front())
    tileMax = greater(tileMax, score);
  Num next = greater(max, overLanes(k, tileMax, lanes, greater));
  // Nothing seen so far: any finite number will do, all weights become 0.
  Num base = k.select(next == -kInfinity, k.number(0), next);
  Num tileSum;
  for (Num &score : scores) {
    score = k.exp2(score - base);
    tileSum = tileSum ? tileSum + score : score;
  }
  Num factor = k.exp2(max - base);
  sum = k.fma(sum, factor, tileSum);
  max = next;
  return factor;
}

void SoftmaxRow::finish(KernelBuilder &k, int lanes) {
  sum = overLanes(k, sum, lanes, [](Num a, Num b) { return a + b; });
}

Num SoftmaxRow::lse(KernelBuilder &k) const {
  Num found = (max + k.log2(sum)) * std::numbers::ln2_v<float>;
  return k.select(sawNone(), k.number(-kInfinity), found);
}

GradientRow GradientRow::of(KernelBuilder &k, const AttentionShape &shape, Num lse, Num delta) {
  Num none = lse == -kInfinity;
  return {k.select(none, k.number(0), k.number(scoreFactor(shape))),
          k.select(none, k.number(std::log2(float(shape.keys))), lse * kLog2E), delta};
}

Num GradientRow::weight(KernelBuilder &k, Num score) const {
  return k.exp2(k.fma(score, factor, 0.f - lse));
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

Num AttentionPlace::headOf(Num row) const {
  const int64_t G = shape.group();
  Num query = row / G, head = kv * G + row % G;
  return (b.wide() * shape.queries + query.wide()) * shape.heads + head.wide();
}

Num AttentionPlace::key(Num key) const {
  return ((b.wide() * shape.keys + key.wide()) * shape.kvHeads + kv.wide()) * shape.headSize;
}

Value llamac::emitDelta(Operation *op, const AttentionShape &shape, Value dOut, Value out) {
  // A warp for each row.
  const int64_t warps = 8, rows = shape.batch * shape.queries * shape.heads, D = shape.headSize;
  const int lanes = D % 8 == 0 && !shape.element.isF32() ? 8 : D % 4 == 0 ? 4 : 1;
  Value delta =
      allocate(op, {shape.batch, shape.queries, shape.heads}, Float32Type::get(op->getContext()));
  KernelBuilder k(op, "attention_delta", {dOut, out, delta}, 2, warps * kWarp);
  Num row = k.blockId(0) * warps + k.threadId() / kWarp, lane = k.threadId() % kWarp;
  k.when(row < rows, [&] {
    Num from = row.wide() * D;
    Pointer a = k.argument(0) + from, b = k.argument(1) + from;
    Num sum = k.loop(lane * lanes, k.integer(D), kWarp * lanes, {k.number(0)},
                     [&](Num d, ArrayRef<Num> before) {
                       Num sum = before[0];
                       Num left = a.loadFloat(d, lanes), right = b.loadFloat(d, lanes);
                       for (int i = 0; i != lanes; ++i)
                         sum = lanes == 1 ? k.fma(left, right, sum) : k.fma(left[i], right[i], sum);
                       return Nums{sum};
                     })[0];
    sum = overLanes(k, sum, kWarp - 1, [](Num a, Num b) { return a + b; });
    k.when(lane == 0, [&] { k.argument(2).store(row, sum); });
  });
  k.launch({int64_t(llvm::divideCeil(rows, warps))});
  return delta;
}

void llamac::meanOfValues(KernelBuilder &k, const AttentionPlace &place, Pointer v, Pointer mean,
                          int64_t threads) {
  const AttentionShape &shape = place.shape;
  k.barrier();
  k.loop(k.threadId(), k.integer(shape.headSize), threads, [&](Num d) {
    Num sum = k.loop(0, shape.keys, 1, {k.number(0)}, [&](Num j, ArrayRef<Num> before) {
      return Nums{before[0] + (v + place.key(j)).loadFloat(d)};
    })[0];
    mean.store(d, sum * (1.f / float(shape.keys)));
  });
  k.barrier();
}

//===----------------------------------------------------------------------===//
// Forms
//===----------------------------------------------------------------------===//

StringRef llamac::nameOf(AttentionForm form) {
  switch (form) {
  case AttentionForm::Plain:
    return "plain";
  case AttentionForm::Hopper:
    return "hopper";
  }
  llvm_unreachable("unknown form");
}

void llamac::stateForm(Operation *launch, AttentionForm form) {
  launch->setAttr("llama.form", StringAttr::get(launch->getContext(), nameOf(form)));
}

AttentionForm llamac::chooseAttentionForm(const AttentionShape &shape, bool backward,
                                          ArrayRef<StringRef> chips) {
  if (!chips.empty() && llvm::all_of(chips, [](StringRef chip) { return chip == "sm_90a"; }) &&
      hasHopperForm(shape, backward))
    return AttentionForm::Hopper;
  return AttentionForm::Plain;
}

namespace {
struct EmitAttentionPass : llamac::impl::EmitAttentionPassBase<EmitAttentionPass> {
  using EmitAttentionPassBase::EmitAttentionPassBase;

  void runOnOperation() override {
    SmallVector<StringRef> names;
    StringRef(chips).split(names, ',', -1, /*KeepEmpty=*/false);
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa<routine::AttentionForwardOp, routine::AttentionBackwardOp>(op))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      if (auto forward = dyn_cast<routine::AttentionForwardOp>(op)) {
        bool hopper =
            chooseAttentionForm(AttentionShape::of(forward), false, names) == AttentionForm::Hopper;
        (hopper ? emitHopperForward : emitPlainForward)(forward);
      } else {
        auto backward = cast<routine::AttentionBackwardOp>(op);
        bool hopper =
            chooseAttentionForm(AttentionShape::of(backward), true, names) == AttentionForm::Hopper;
        (hopper ? emitHopperBackward : emitPlainBackward)(backward);
      }
      op->erase();
    }
  }
};
} // namespace
