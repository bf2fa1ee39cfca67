//===- Attention.cpp - Attention by tiles, forward and backward -----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// B batch, S queries, T keys, H query heads, K key and value heads, D head
// size, G = H / K query heads that share one key and value head
//
// A query tile holds some queries of all G heads of one key and value head: row
// i * G + g is query i of head g. So a key tile is read once for G heads, and
// few queries still make a tile with enough rows. Two tiles meet in one-thread
// oneDNN products; what lies between the products is in RowLoops.inc.
//
//   forward    S = Q K^T; P = exp(scale S - max); O = O exp(..) + P V
//   backward   S = Q K^T; W = dO V^T; P = exp(scale S - lse);
//              dS = scale P (W - dO . O); dV += P^T dO; dK += dS^T Q; dQ += dS
//              K
//
// Keys at the ends of a key tile that no query of the other tile sees are left
// out, often the whole tile; if each query sees each key, there is no mask
// work. Every sum over tiles runs in ascending order in one task, so results do
// not depend on the number of threads.
//
// Source: FlashAttention-2 (arXiv 2307.08691), algorithms 1 and 2.
//
//===----------------------------------------------------------------------===//
#include "OneDnn.h"
#include "Rows.h"
#include "Scratch.h"
#include "Stream.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>

using namespace llrt;

// Largest tiles: rows (queries times heads that share a key) and keys. Measured
// on Zen 5 by test/bench/host/kernels.
static constexpr int64_t forwardRows = 128, forwardKeys = 512;
static constexpr int64_t backwardRows = 128, backwardKeys = 128;
// The part of a key tile that counts is cut out in multiples of this: the fewer
// different sizes, the fewer products to compile.
static constexpr int64_t keyStep = 32;

static constexpr float infinity = std::numeric_limits<float>::infinity();

//===----------------------------------------------------------------------===//
// Masks
//===----------------------------------------------------------------------===//

namespace {
// All three masks in one form: key j of an example is seen by query i if
// low[i] <= group[j] <= high[i] and keyRank[j] <= queryRank[i].
struct Mask {
  int64_t *low, *high, *queryRank; // [B, S]
  int64_t *group, *keyRank;        // [B, T]

  QueryMask query(int64_t i) const { return {low + i, high + i, queryRank + i}; }
  KeyMask key(int64_t j) const { return {group + j, keyRank + j}; }
};

// What a query tile sees of a key tile: nothing outside its keys [begin, end),
// which are multiples of keyStep or the end of the tile, and inside all or
// some.
struct SeenKeys {
  int64_t begin, end; // equal if nothing is seen
  bool all;
};
} // namespace

// The mask in memory of the calling thread, valid until its next call.
static Mask maskOf(const LlrtAttention &at, const int64_t *mask0, const int64_t *mask1,
                   const int64_t *mask2, const int64_t *mask3) {
  static thread_local Scratch scratch;
  const int64_t S = at.queries, T = at.keys;
  auto *memory =
      static_cast<int64_t *>(scratch.reserve(at.batch * (3 * S + 2 * T) * sizeof(int64_t)));
  auto next = [&](int64_t count) {
    int64_t *array = memory;
    memory += at.batch * count;
    return array;
  };
  Mask mask = {next(S), next(S), next(S), next(T), next(T)};
  const int64_t never = std::numeric_limits<int64_t>::min();

  for (int64_t b = 0; b != at.batch; ++b) {
    int64_t *low = mask.low + b * S, *high = mask.high + b * S;
    int64_t *queryRank = mask.queryRank + b * S;
    int64_t *group = mask.group + b * T, *keyRank = mask.keyRank + b * T;
    switch (at.mask) {
    case LLRT_MASK_CAUSAL: // groups are documents, ranks are positions
      for (int64_t i = 0; i != S; ++i) {
        int64_t document = mask1[b * S + i];
        bool padded = document < 0;
        low[i] = high[i] = padded ? -1 - document : document;
        queryRank[i] = mask0[b * S + i];
      }
      for (int64_t j = 0; j != T; ++j) {
        int64_t document = mask3[b * T + j];
        group[j] = document < 0 ? never : document;
        keyRank[j] = mask2[b * T + j];
      }
      break;
    case LLRT_MASK_ENCODER: { // group 0 the valid tokens, 1 the invalid ones
      auto invalid = [&](int64_t token) {
        return token / at.tile_stride >= mask0[b] || token % at.tile_stride >= at.tile_tokens;
      };
      for (int64_t i = 0; i != S; ++i) {
        low[i] = queryRank[i] = 0;
        high[i] = invalid(mask1[i]) ? 0 : 1;
      }
      for (int64_t j = 0; j != T; ++j) {
        group[j] = invalid(j) ? 1 : 0;
        keyRank[j] = 0;
      }
      break;
    }
    case LLRT_MASK_IMAGES: // groups are images, the padded tiles come last
      for (int64_t i = 0; i != S; ++i) {
        int64_t begin = mask0[b * S + i], end = mask1[b * S + i];
        bool every = begin >= end;
        low[i] = every ? 0 : begin;
        high[i] = every ? at.images : std::min(end, at.images) - 1;
        queryRank[i] = 0;
      }
      for (int64_t j = 0; j != T; ++j) {
        int64_t tile = j / at.tile_tokens, image = tile / at.tile_count;
        bool real = tile % at.tile_count < mask2[b * at.images + image];
        group[j] = real ? image : at.images;
        keyRank[j] = 0;
      }
      break;
    }
  }
  return mask;
}

// Which keys of one tile the queries of another see, by the extremes of both.
static SeenKeys seenKeys(QueryMask query, int64_t queries, KeyMask key, int64_t keys) {
  auto [lowMin, lowMax] = std::minmax_element(query.low, query.low + queries);
  auto [highMin, highMax] = std::minmax_element(query.high, query.high + queries);
  auto [rankMin, rankMax] = std::minmax_element(query.rank, query.rank + queries);
  bool all = true;
  int64_t begin = keys, end = 0; // keys that some query may see
  for (int64_t j = 0; j != keys; ++j) {
    int64_t group = key.group[j], rank = key.rank[j];
    all &= group >= *lowMax && group <= *highMin && rank <= *rankMin;
    if (group >= *lowMin && group <= *highMax && rank <= *rankMax) {
      begin = std::min(begin, j);
      end = j + 1;
    }
  }
  if (end == 0)
    return {0, 0, false};
  return {begin / keyStep * keyStep, std::min((end + keyStep - 1) / keyStep * keyStep, keys), all};
}

//===----------------------------------------------------------------------===//
// Tiles and tasks
//===----------------------------------------------------------------------===//

namespace {
// [0, size) in tiles of `tile`; the last one may be shorter.
struct Tiles {
  int64_t size, tile;

  // Tiles of nearly equal size, at most `most`, a multiple of `step` if
  // several.
  static Tiles divide(int64_t size, int64_t most, int64_t step) {
    int64_t count = (size + most - 1) / most;
    int64_t tile = (size + count - 1) / count;
    return {size, count == 1 ? size : (tile + step - 1) / step * step};
  }
  int64_t count() const { return (size + tile - 1) / tile; }
  int64_t begin(int64_t index) const { return index * tile; }
  int64_t length(int64_t index) const { return std::min(tile, size - index * tile); }
};

// One call: what all tasks read. See Rows.h for Store and Tile.
template <class Store, class Tile> struct Call {
  const LlrtAttention &at;
  const Mask mask;
  const Store *q, *k, *v;
  const Tiles queryTiles, keyTiles;
  const int64_t group = at.heads / at.kv_heads;
  const int64_t width = at.head_size;
  const TypedRows<Store, Tile> &typed = typedRows<Store, Tile>();

  // Element offsets of a query (its first head of the group) and of a key.
  int64_t queryAt(int64_t b, int64_t i, int64_t kv) const {
    return ((b * at.queries + i) * at.heads + kv * group) * width;
  }
  int64_t keyAt(int64_t b, int64_t j, int64_t kv) const {
    return ((b * at.keys + j) * at.kv_heads + kv) * width;
  }
  // Offset in lse.
  int64_t rowAt(int64_t b, int64_t i, int64_t kv) const {
    return (b * at.queries + i) * at.heads + kv * group;
  }
  // Elements between two keys as the products read them.
  int64_t keyStride() const { return std::is_same_v<Store, Tile> ? at.kv_heads * width : width; }

  // The rows of a query tile, next to each other.
  void loadQueries(const Store *from, int64_t b, int64_t first, int64_t count, int64_t kv,
                   Tile *to) const {
    for (int64_t i = 0; i != count; ++i)
      typed.load(from + queryAt(b, first + i, kv), to + i * group * width, group * width);
  }
  // The rows of a key tile, keyStride() apart: in place, or widened in
  // `buffer`.
  const Tile *loadKeys(const Store *from, int64_t b, int64_t first, int64_t count, int64_t kv,
                       Tile *buffer) const {
    if constexpr (std::is_same_v<Store, Tile>) {
      return from + keyAt(b, first, kv);
    } else {
      for (int64_t j = 0; j != count; ++j)
        typed.load(from + keyAt(b, first + j, kv), buffer + j * width, width);
      return buffer;
    }
  }
  // Elements that `loadKeys` needs for its buffer.
  int64_t keyBuffer() const { return std::is_same_v<Store, Tile> ? 0 : keyTiles.tile * width; }

  // The part of the mask for a pair of tiles, in `buffer`; null if all is seen.
  const int32_t *visible(bool all, int64_t b, int64_t firstQuery, int64_t queries, int64_t firstKey,
                         int64_t keys, int32_t *buffer) const {
    if (all)
      return nullptr;
    rows().visible(mask.query(b * at.queries + firstQuery), mask.key(b * at.keys + firstKey),
                   queries, keys, buffer);
    return buffer;
  }
  SeenKeys seen(int64_t b, int64_t queryTile, int64_t keyTile) const {
    return seenKeys(mask.query(b * at.queries + queryTiles.begin(queryTile)),
                    queryTiles.length(queryTile), mask.key(b * at.keys + keyTiles.begin(keyTile)),
                    keyTiles.length(keyTile));
  }
};
} // namespace

// A product of tiles on one thread, with f32 results.
template <class Tile>
static MatmulPlan *tileProduct(int64_t m, int64_t n, int64_t k, int64_t aRow, int64_t aColumn,
                               int64_t bRow, int64_t bColumn, bool accumulate) {
  return findMatmul({.type = std::is_same_v<Tile, float> ? LLRT_F32 : LLRT_BF16,
                     .resultType = LLRT_F32,
                     .m = m,
                     .n = n,
                     .k = k,
                     .aRow = aRow,
                     .aColumn = aColumn,
                     .bRow = bRow,
                     .bColumn = bColumn,
                     .cRow = n,
                     .accumulate = accumulate,
                     .bias = false});
}

// Runs task(0) .. task(count - 1) on the rank's threads, each as soon as a
// thread is free: tasks under a mask differ much in length.
template <class Task> static void runTasks(LlrtStream *stream, int64_t count, const Task &task) {
  std::atomic<int64_t> next{0};
  void *args[] = {const_cast<Task *>(&task), &next, &count};
  auto body = [](void **args, int64_t, int64_t) {
    auto &next = *static_cast<std::atomic<int64_t> *>(args[1]);
    for (int64_t i; (i = next++) < *static_cast<int64_t *>(args[2]);)
      (*static_cast<const Task *>(args[0]))(i);
  };
  parallelFor(stream, body, args, std::min(count, stream->threads), 1);
}

static thread_local Scratch taskScratch;

// Memory for one task of this thread, cut up by `carve(carver)`.
template <class Carve> static void carveScratch(const Carve &carve) {
  Carver size;
  carve(size);
  Carver carver(taskScratch.reserve(size.bytes()));
  carve(carver);
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

// out and lse of one query tile.
template <class Store, class Tile>
static void forwardTile(const Call<Store, Tile> &call, int64_t b, int64_t kv, int64_t queryTile,
                        Store *out, float *lse) {
  const int64_t D = call.width, G = call.group;
  const int64_t first = call.queryTiles.begin(queryTile);
  const int64_t queries = call.queryTiles.length(queryTile), R = queries * G;
  const int64_t mostKeys = call.keyTiles.tile;

  Tile *q, *weights, *keys;
  float *scores, *sum, *max, *o, *mean;
  int32_t *visible;
  carveScratch([&](Carver &carver) {
    q = carver.take<Tile>(R * D);
    keys = carver.take<Tile>(call.keyBuffer());
    scores = carver.take<float>(R * mostKeys);
    if constexpr (std::is_same_v<Tile, float>)
      weights = scores;
    else
      weights = carver.take<Tile>(R * mostKeys);
    o = carver.take<float>(R * D);
    max = carver.take<float>(R);
    sum = carver.take<float>(R);
    mean = carver.take<float>(2 * D);
    visible = carver.take<int32_t>(queries * mostKeys);
  });
  call.loadQueries(call.q, b, first, queries, kv, q);
  std::fill_n(o, R * D, 0.f);
  std::fill_n(max, R, -infinity);
  std::fill_n(sum, R, 0.f);

  MatmulPlan *qk = nullptr, *pv = nullptr;
  int64_t planned = 0;
  for (int64_t keyTile = 0; keyTile != call.keyTiles.count(); ++keyTile) {
    const SeenKeys seen = call.seen(b, queryTile, keyTile);
    if (seen.begin == seen.end)
      continue;
    const int64_t firstKey = call.keyTiles.begin(keyTile) + seen.begin;
    const int64_t N = seen.end - seen.begin;
    if (planned != N) {
      qk = tileProduct<Tile>(R, N, D, D, 1, 1, call.keyStride(), false);
      pv = tileProduct<Tile>(R, D, N, N, 1, call.keyStride(), 1, true);
      planned = N;
    }
    qk->run(q, call.loadKeys(call.k, b, firstKey, N, kv, keys), scores);
    ScoreTile tile = {R, N, G, float(call.at.scale),
                      call.visible(seen.all, b, first, queries, firstKey, N, visible)};
    call.typed.softmax(tile, scores, weights, max, sum, o, D);
    pv->run(weights, call.loadKeys(call.v, b, firstKey, N, kv, keys), o);
  }

  bool haveMean = false;
  for (int64_t r = 0; r != R; ++r) {
    const int64_t i = first + r / G, g = r % G;
    Store *outRow = out + call.queryAt(b, i, kv) + g * D;
    float &rowLse = lse[call.rowAt(b, i, kv) + g];
    if (max[r] != -infinity || std::isnan(sum[r])) {
      call.typed.store(o + r * D, 1.f / sum[r], outRow, D);
      rowLse = max[r] + std::log(sum[r]);
      continue;
    }
    // This query sees no key: it weighs all of them alike.
    if (!haveMean) {
      std::fill_n(mean, D, 0.f);
      for (int64_t j = 0; j != call.at.keys; ++j) {
        typedRows<Store, float>().load(call.v + call.keyAt(b, j, kv), mean + D, D);
        for (int64_t d = 0; d != D; ++d)
          mean[d] += mean[D + d];
      }
      haveMean = true;
    }
    call.typed.store(mean, 1.f / call.at.keys, outRow, D);
    rowLse = -infinity;
  }
}

template <class Store, class Tile>
static void forward(LlrtStream *stream, const LlrtAttention &at, Mask mask, const void *q,
                    const void *k, const void *v, void *out, float *lse) {
  const int64_t G = at.heads / at.kv_heads;
  const Call<Store, Tile> call = {
      .at = at,
      .mask = mask,
      .q = static_cast<const Store *>(q),
      .k = static_cast<const Store *>(k),
      .v = static_cast<const Store *>(v),
      .queryTiles = Tiles::divide(at.queries, std::max<int64_t>(1, forwardRows / G), 1),
      .keyTiles = Tiles::divide(at.keys, forwardKeys, keyStep)};
  const int64_t perHead = call.queryTiles.count();
  runTasks(stream, at.batch * at.kv_heads * perHead, [&](int64_t task) {
    // The last tiles of a causal mask have most to do: they start first.
    forwardTile(call, task / perHead / at.kv_heads, task / perHead % at.kv_heads,
                perHead - 1 - task % perHead, static_cast<Store *>(out), lse);
  });
}

void llrt_attention_forward(LlrtStream *stream, const LlrtAttention *attention, const void *q,
                            const void *k, const void *v, const int64_t *mask0,
                            const int64_t *mask1, const int64_t *mask2, const int64_t *mask3,
                            void *out, float *lse) {
  const LlrtAttention &at = *attention;
  Mask mask = maskOf(at, mask0, mask1, mask2, mask3);
  if (at.type == LLRT_F32)
    forward<float, float>(stream, at, mask, q, k, v, out, lse);
  else if (hasBf16Matmul())
    forward<Bf16, Bf16>(stream, at, mask, q, k, v, out, lse);
  else
    forward<Bf16, float>(stream, at, mask, q, k, v, out, lse);
}

//===----------------------------------------------------------------------===//
// Backward
//===----------------------------------------------------------------------===//

namespace {
// Pairs of tiles that one task goes through, and which gradients it is to give.
// Those for keys are complete only if the task covers all query tiles, that for
// queries only if it covers all key tiles.
struct BackwardTask {
  int64_t b, kv;
  int64_t queryBegin, queryEnd, keyBegin, keyEnd; // tiles
  bool forQueries, forKeys;
};

template <class Store> struct Gradients {
  const Store *dOut, *out;
  const float *lse;
  Store *dQ, *dK, *dV;
};
} // namespace

template <class Store, class Tile>
static void backwardTask(const Call<Store, Tile> &call, const Gradients<Store> &grad,
                         const BackwardTask &task) {
  const int64_t D = call.width, G = call.group, b = task.b, kv = task.kv;
  const int64_t mostRows = call.queryTiles.tile * G;
  const int64_t mostKeys = call.keyTiles.tile;
  const int64_t keysBegin = call.keyTiles.begin(task.keyBegin);
  const int64_t keysEnd =
      call.keyTiles.begin(task.keyEnd - 1) + call.keyTiles.length(task.keyEnd - 1);

  Tile *q, *dOut, *k, *v, *weights, *dScores;
  float *scores, *dWeights, *lse, *delta, *dQ, *dK, *dV;
  int32_t *visible;
  carveScratch([&](Carver &carver) {
    q = carver.take<Tile>(mostRows * D);
    dOut = carver.take<Tile>(mostRows * D);
    k = carver.take<Tile>(call.keyBuffer());
    v = carver.take<Tile>(call.keyBuffer());
    scores = carver.take<float>(mostRows * mostKeys);
    dWeights = carver.take<float>(mostRows * mostKeys);
    if constexpr (std::is_same_v<Tile, float>) {
      weights = scores;
      dScores = dWeights;
    } else {
      weights = carver.take<Tile>(mostRows * mostKeys);
      dScores = carver.take<Tile>(mostRows * mostKeys);
    }
    lse = carver.take<float>(mostRows);
    delta = carver.take<float>(mostRows);
    dQ = carver.take<float>(mostRows * D);
    dK = carver.take<float>(task.forKeys ? (keysEnd - keysBegin) * D : 0);
    dV = carver.take<float>(task.forKeys ? (keysEnd - keysBegin) * D : 0);
    visible = carver.take<int32_t>(call.queryTiles.tile * mostKeys);
  });
  if (task.forKeys) {
    std::fill_n(dK, (keysEnd - keysBegin) * D, 0.f);
    std::fill_n(dV, (keysEnd - keysBegin) * D, 0.f);
  }

  for (int64_t queryTile = task.queryBegin; queryTile != task.queryEnd; ++queryTile) {
    const int64_t first = call.queryTiles.begin(queryTile);
    const int64_t queries = call.queryTiles.length(queryTile);
    const int64_t R = queries * G;
    bool uniformRows = false; // some query sees no key: it weighs all alike
    for (int64_t r = 0; r != R; ++r) {
      lse[r] = grad.lse[call.rowAt(b, first + r / G, kv) + r % G];
      uniformRows |= lse[r] == -infinity;
    }
    std::fill_n(dQ, task.forQueries ? R * D : 0, 0.f);

    bool loaded = false;
    int64_t planned = 0;
    MatmulPlan *qk = nullptr, *ov = nullptr, *po = nullptr, *sq = nullptr, *sk = nullptr;
    for (int64_t keyTile = task.keyBegin; keyTile != task.keyEnd; ++keyTile) {
      SeenKeys seen = call.seen(b, queryTile, keyTile);
      if (uniformRows)
        seen = {0, call.keyTiles.length(keyTile), seen.all};
      if (seen.begin == seen.end)
        continue;
      const int64_t firstKey = call.keyTiles.begin(keyTile) + seen.begin;
      const int64_t N = seen.end - seen.begin;
      if (!loaded) {
        call.loadQueries(call.q, b, first, queries, kv, q);
        call.loadQueries(grad.dOut, b, first, queries, kv, dOut);
        for (int64_t r = 0; r != R; ++r) {
          int64_t at = call.queryAt(b, first + r / G, kv) + r % G * D;
          delta[r] = call.typed.dot(grad.dOut + at, grad.out + at, D);
        }
        loaded = true;
      }
      if (planned != N) {
        const int64_t stride = call.keyStride();
        qk = tileProduct<Tile>(R, N, D, D, 1, 1, stride, false);
        ov = qk;
        po = tileProduct<Tile>(N, D, R, 1, N, D, 1, true);
        sq = po;
        sk = tileProduct<Tile>(R, D, N, N, 1, stride, 1, true);
        planned = N;
      }
      const Tile *keys = call.loadKeys(call.k, b, firstKey, N, kv, k);
      const Tile *values = call.loadKeys(call.v, b, firstKey, N, kv, v);
      qk->run(q, keys, scores);
      ov->run(dOut, values, dWeights);
      ScoreTile tile = {R, N, G, float(call.at.scale),
                        call.visible(seen.all, b, first, queries, firstKey, N, visible)};
      call.typed.gradient(tile, scores, dWeights, lse, delta, 1.f / call.at.keys, weights, dScores);
      if (task.forKeys) {
        const int64_t at = (firstKey - keysBegin) * D;
        po->run(weights, dOut, dV + at);
        sq->run(dScores, q, dK + at);
      }
      if (task.forQueries)
        sk->run(dScores, keys, dQ);
    }
    if (task.forQueries)
      for (int64_t i = 0; i != queries; ++i)
        call.typed.store(dQ + i * G * D, 1.f, grad.dQ + call.queryAt(b, first + i, kv), G * D);
  }
  if (task.forKeys)
    for (int64_t j = keysBegin; j != keysEnd; ++j) {
      const int64_t from = (j - keysBegin) * D, to = call.keyAt(b, j, kv);
      call.typed.store(dK + from, 1.f, grad.dK + to, D);
      call.typed.store(dV + from, 1.f, grad.dV + to, D);
    }
}

template <class Store, class Tile>
static void backward(LlrtStream *stream, const LlrtAttention &at, Mask mask, const void *dOut,
                     const void *q, const void *k, const void *v, const void *out, const float *lse,
                     void *dQ, void *dK, void *dV) {
  const int64_t G = at.heads / at.kv_heads;
  const Call<Store, Tile> call = {
      .at = at,
      .mask = mask,
      .q = static_cast<const Store *>(q),
      .k = static_cast<const Store *>(k),
      .v = static_cast<const Store *>(v),
      .queryTiles = Tiles::divide(at.queries, std::max<int64_t>(1, backwardRows / G), 1),
      .keyTiles = Tiles::divide(at.keys, backwardKeys, keyStep)};
  const Gradients<Store> grad = {
      static_cast<const Store *>(dOut), static_cast<const Store *>(out), lse,
      static_cast<Store *>(dQ),         static_cast<Store *>(dK),        static_cast<Store *>(dV)};
  const int64_t queryTiles = call.queryTiles.count();
  const int64_t keyTiles = call.keyTiles.count();
  const int64_t groups = at.batch * at.kv_heads, threads = stream->threads;

  // One task per example and key and value head costs 5 products per pair of
  // tiles. Tasks per tile, first for queries, then for keys, cost 3 + 4, but
  // keep all threads busy. Both add up the same numbers in the same order.
  const int64_t rounds = (groups + threads - 1) / threads;
  if (5 * rounds * threads <= 7 * groups) {
    runTasks(stream, groups, [&](int64_t task) {
      backwardTask(
          call, grad,
          {task / at.kv_heads, task % at.kv_heads, 0, queryTiles, 0, keyTiles, true, true});
    });
    return;
  }
  runTasks(stream, groups * queryTiles, [&](int64_t task) {
    int64_t group = task / queryTiles, tile = queryTiles - 1 - task % queryTiles;
    backwardTask(
        call, grad,
        {group / at.kv_heads, group % at.kv_heads, tile, tile + 1, 0, keyTiles, true, false});
  });
  runTasks(stream, groups * keyTiles, [&](int64_t task) {
    int64_t group = task / keyTiles, tile = task % keyTiles;
    backwardTask(
        call, grad,
        {group / at.kv_heads, group % at.kv_heads, 0, queryTiles, tile, tile + 1, false, true});
  });
}

void llrt_attention_backward(LlrtStream *stream, const LlrtAttention *attention, const void *d_out,
                             const void *q, const void *k, const void *v, const int64_t *mask0,
                             const int64_t *mask1, const int64_t *mask2, const int64_t *mask3,
                             const void *out, const float *lse, void *d_q, void *d_k, void *d_v) {
  const LlrtAttention &at = *attention;
  Mask mask = maskOf(at, mask0, mask1, mask2, mask3);
  if (at.type == LLRT_F32)
    backward<float, float>(stream, at, mask, d_out, q, k, v, out, lse, d_q, d_k, d_v);
  else if (hasBf16Matmul())
    backward<Bf16, Bf16>(stream, at, mask, d_out, q, k, v, out, lse, d_q, d_k, d_v);
  else
    backward<Bf16, float>(stream, at, mask, d_out, q, k, v, out, lse, d_q, d_k, d_v);
}
