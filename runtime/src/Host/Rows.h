//===- Rows.h - Row loops of the host kernels -------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What happens between two matrix products, one vector at a time. Every loop is
// compiled for four instruction sets (CpuLevel); `rows` gives those for this
// CPU.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_HOST_ROWS_H
#define LLRT_HOST_ROWS_H

#include <cstdint>

namespace llrt {

struct Bf16 {
  uint16_t bits; // the upper half of an f32
};

// Scores of one query tile and one key tile. Row r is a query and a head;
// `group` consecutive rows are the heads of one query and see the same keys.
struct ScoreTile {
  int64_t rows, keys, group;
  float scale; // > 0
  // visible[r / group][key] is 0 where the key is hidden, else -1; null if
  // every row sees every key.
  const int32_t *visible;
};

// What decides which keys a query sees: a key is seen if its group lies in
// [low, high] and its rank is at most the query's rank. See maskOf in
// Attention.cpp.
struct QueryMask {
  const int64_t *low, *high, *rank;
};
struct KeyMask {
  const int64_t *group, *rank;
};

// Loops that know no type of q, k and v.
struct Rows {
  // visible[queries, keys] for ScoreTile.
  void (*visible)(QueryMask query, KeyMask key, int64_t queries, int64_t keys, int32_t *visible);
};

// Store: type of q, k, v in memory. Tile: type of the factors of a product,
// Store or, on a CPU without bf16 products, float.
template <class Store, class Tile> struct TypedRows {
  // to[i] = from[i]
  void (*load)(const Store *from, Tile *to, int64_t count);
  // to[i] = from[i] * factor, rounded to nearest even
  void (*store)(const float *from, float factor, Store *to, int64_t count);
  // sum_i a[i] b[i]
  float (*dot)(const Store *a, const Store *b, int64_t count);
  // One step of the online softmax. Takes the products q . k [rows, keys],
  // turns them into weights exp(scale * score - max), 0 where hidden, and
  // brings `max`, `sum` (of the weights) [rows] and `out` [rows, width] to the
  // new maximum. `weights` may be the memory of `scores`.
  void (*softmax)(const ScoreTile &tile, float *scores, Tile *weights, float *max, float *sum,
                  float *out, int64_t width);
  // From the products q . k and d_out . v [rows, keys] and, per row, lse and
  // delta = d_out . out: the weights P = exp(scale * score - lse), 0 where
  // hidden, and the gradients of the products, scale * P * (dWeights - delta).
  // A row whose lse is -inf has P = uniform. Outputs may be the memory of the
  // inputs.
  void (*gradient)(const ScoreTile &tile, const float *scores, const float *dWeights,
                   const float *lse, const float *delta, float uniform, Tile *weights,
                   Tile *dScores);
};

// The loops for this CPU. For (float, float), (Bf16, Bf16) and (Bf16, float).
const Rows &rows();
template <class Store, class Tile> const TypedRows<Store, Tile> &typedRows();

} // namespace llrt
#endif // LLRT_HOST_ROWS_H
