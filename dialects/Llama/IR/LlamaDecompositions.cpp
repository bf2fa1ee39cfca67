//===- LlamaDecompositions.cpp - The meaning of the text ops --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each op as a few `linalg.generic`s. Row ops and elementwise ops view their
// tensors as [R, C], so that a chain of them becomes one loop over rows; a result
// is written to a tensor of its own. Attention forms its scores: it is the
// reference of the kernels that do not.
//
// R rows (all leading dimensions), C channels, B batch, S queries, T keys, H
// query heads, K key and value heads, G = H / K, D head size, V vocabulary
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/DecompositionBuilder.h"

#include <cmath>
#include <limits>
#include <numbers>

using namespace mlir;
using namespace mlir::llama;

using Values = SmallVector<Value>;
using Scalars = SmallVector<Scalar>;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

//===----------------------------------------------------------------------===//
// Embedding
//===----------------------------------------------------------------------===//

Values EmbedOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value ids = d.flat(getIds()), table = getTable();
  int64_t rows = shapeOf(table)[0];
  Value out = d.empty({shapeOf(ids)[0], shapeOf(table)[1]}, elementOf(table));
  Value result = d.one("pp", elementOf(table), {{ids, {0}}}, {out, {0, 1}}, [&](Body &x) {
    Scalar row = x[0] - getOffset(), inTable = row >= 0 & row < rows;
    Scalar value = x.extract(table, {select(inTable, row, row.constant(0)), x.index(1)});
    return select(inTable, value, x.constant(0));
  });
  return {d.view(result, shapeOf(getResult()))};
}

Values EmbedGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value sum = d.fill(shapeOf(getResult()), getAccumulation(), 0);
  return {d.scatterAdd(sum, d.rows(getCotangent()), d.flat(getIds()), getOffset(),
                       getPaddingIndex(), Value())};
}

Values ShiftIndexOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = elementOf(getIds());
  return d.elementwise(type, {getIds()}, {getResult().getType()}, [&](Body &x) -> Scalars {
    Scalar index = x[0] - x.scalar(getCoordinate()) * getSize();
    Scalar here = index >= 0 & index < getSize(), elsewhere = x.constant(-1);
    index = select(here, index, elsewhere);
    if (auto padding = getPaddingIndex())
      index = select(x[0] == *padding, elsewhere, index);
    return {index};
  });
}

//===----------------------------------------------------------------------===//
// Norms
//===----------------------------------------------------------------------===//

// sum over c of x[r, c]^2, shape [R].
static Value sumSquares(DecompositionBuilder &d, Value x, Type type) {
  return d.one("pr", type, {{x, {0, 1}}}, {d.fill({shapeOf(x)[0]}, type, 0), {0}},
               [](Body &x) { return x[1] + x[0] * x[0]; });
}

// 1 / sqrt(sum / channels + epsilon)
static Scalar inverseRoot(Scalar sum, int64_t channels, const APFloat &epsilon) {
  return sum.rsqrt(1.0 / channels, epsilon.convertToDouble());
}

Values RMSNormOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics(), element = elementOf(getInput());
  Value x = d.rows(getInput());
  int64_t channels = shapeOf(x)[1];
  Value out = d.one("pp", type, {{x, {0, 1}}, {getWeight(), {1}}, {sumSquares(d, x, type), {0}}},
                    {d.empty(shapeOf(x), element), {0, 1}}, [&](Body &x) {
                      Scalar normal = x[0] * inverseRoot(x[2], channels, getEpsilon());
                      return x[1] * normal.rounded(element);
                    });
  return {d.view(out, shapeOf(getResult()))};
}

Values RMSNormDxOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value dy = d.rows(getCotangent()), x = d.rows(getInput());
  int64_t rows = shapeOf(x)[0], channels = shapeOf(x)[1];
  Values sums =
      d.many("pr", type, {{dy, {0, 1}}, {x, {0, 1}}, {getWeight(), {1}}},
             {{d.fill({rows}, type, 0), {0}}, {d.fill({rows}, type, 0), {0}}},
             [](Body &x) -> Scalars { return {x[3] + x[1] * x[1], x[4] + x[2] * x[0] * x[1]}; });
  Value out = d.one("pp", type,
                    {{dy, {0, 1}}, {x, {0, 1}}, {getWeight(), {1}}, {sums[0], {0}}, {sums[1], {0}}},
                    {d.empty(shapeOf(x), elementOf(getResult())), {0, 1}}, [&](Body &x) {
                      Scalar r = inverseRoot(x[3], channels, getEpsilon());
                      return r * (x[2] * x[0]) - x[1] * (r * r * r * (x[4] * (1.0 / channels)));
                    });
  return {d.view(out, shapeOf(getResult()))};
}

Values RMSNormDwOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value dy = d.rows(getCotangent()), x = d.rows(getInput());
  int64_t channels = shapeOf(x)[1];
  return {d.columnSum(
      getAccumulation(), {{dy, {0, 1}}, {x, {0, 1}}, {sumSquares(d, x, getStatistics()), {0}}},
      channels,
      [&](Body &x) { return x[0] * (x[1] * inverseRoot(x[2], channels, getEpsilon())); })};
}

namespace {
/// Rows of a layer norm: mean[r] and the sum of squared differences from it.
struct RowMoments {
  Value mean, squares;
};
} // namespace

static RowMoments rowMoments(DecompositionBuilder &d, Value x, Type type) {
  int64_t rows = shapeOf(x)[0], channels = shapeOf(x)[1];
  Value sum = d.one("pr", type, {{x, {0, 1}}}, {d.fill({rows}, type, 0), {0}},
                    [](Body &x) { return x[1] + x[0]; });
  Value mean = d.one("p", type, {{sum, {0}}}, {d.empty({rows}, type), {0}},
                     [&](Body &x) { return x[0] * (1.0 / channels); });
  Value squares =
      d.one("pr", type, {{x, {0, 1}}, {mean, {0}}}, {d.fill({rows}, type, 0), {0}}, [](Body &x) {
        Scalar difference = x[0] - x[1];
        return x[2] + difference * difference;
      });
  return {mean, squares};
}

Values LayerNormOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value x = d.rows(getInput());
  int64_t channels = shapeOf(x)[1];
  auto [mean, squares] = rowMoments(d, x, type);
  Value out = d.one(
      "pp", type, {{x, {0, 1}}, {getWeight(), {1}}, {getBias(), {1}}, {mean, {0}}, {squares, {0}}},
      {d.empty(shapeOf(x), elementOf(getResult())), {0, 1}}, [&](Body &x) {
        Scalar r = inverseRoot(x[4], channels, getEpsilon());
        return x[1] * ((x[0] - x[3]) * r) + x[2];
      });
  return {d.view(out, shapeOf(getResult()))};
}

Values LayerNormDxOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value dy = d.rows(getCotangent()), x = d.rows(getInput());
  int64_t rows = shapeOf(x)[0], channels = shapeOf(x)[1];
  auto [mean, squares] = rowMoments(d, x, type);
  // sum of u and of u * (x - mean)
  Values sums = d.many("pr", type, {{dy, {0, 1}}, {x, {0, 1}}, {getWeight(), {1}}, {mean, {0}}},
                       {{d.fill({rows}, type, 0), {0}}, {d.fill({rows}, type, 0), {0}}},
                       [](Body &x) -> Scalars {
                         Scalar u = x[2] * x[0];
                         return {x[4] + u, x[5] + u * (x[1] - x[3])};
                       });
  Value out = d.one("pp", type,
                    {{dy, {0, 1}},
                     {x, {0, 1}},
                     {getWeight(), {1}},
                     {mean, {0}},
                     {squares, {0}},
                     {sums[0], {0}},
                     {sums[1], {0}}},
                    {d.empty(shapeOf(x), elementOf(getResult())), {0, 1}}, [&](Body &x) {
                      Scalar r = inverseRoot(x[4], channels, getEpsilon());
                      Scalar meanU = x[5] * (1.0 / channels);
                      Scalar slope = r * r * (x[6] * (1.0 / channels));
                      return r * (x[2] * x[0] - meanU - (x[1] - x[3]) * slope);
                    });
  return {d.view(out, shapeOf(getResult()))};
}

Values LayerNormDwOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value dy = d.rows(getCotangent()), x = d.rows(getInput());
  int64_t channels = shapeOf(x)[1];
  auto [mean, squares] = rowMoments(d, x, getStatistics());
  return {d.columnSum(getAccumulation(), {{dy, {0, 1}}, {x, {0, 1}}, {mean, {0}}, {squares, {0}}},
                      channels, [&](Body &x) {
                        Scalar r = inverseRoot(x[3], channels, getEpsilon());
                        return x[0] * ((x[1] - x[2]) * r);
                      })};
}

Values SumRowsOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value x = d.rows(getInput());
  return {
      d.columnSum(getAccumulation(), {{x, {0, 1}}}, shapeOf(x)[1], [](Body &x) { return x[0]; })};
}

//===----------------------------------------------------------------------===//
// Linear layers: the innermost loop runs over contiguous elements
//===----------------------------------------------------------------------===//

// sum of products in `type`, shape [rows, columns].
static Value product(DecompositionBuilder &d, StringRef iterators, Type type, Operand x, Operand y,
                     Operand out) {
  return d.one(iterators, type, {x, y}, out, [](Body &x) { return x[2] + x[0] * x[1]; });
}

Values LinearOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getAccumulation(), element = elementOf(getResult());
  Value x = d.rows(getInput());
  SmallVector<int64_t> shape = {shapeOf(x)[0], shapeOf(getWeight())[0]};
  Value out =
      product(d, "ppr", type, {x, {0, 2}}, {getWeight(), {1, 2}}, {d.fill(shape, type, 0), {0, 1}});
  if (getBias())
    out = d.one("pp", type, {{out, {0, 1}}, {getBias(), {1}}}, {d.empty(shape, element), {0, 1}},
                [](Body &x) { return x[0] + x[1]; });
  return {d.view(d.cast(out, element), shapeOf(getResult()))};
}

Values LinearDxOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getAccumulation();
  Value dy = d.rows(getCotangent());
  Value dx = product(d, "prp", type, {dy, {0, 1}}, {getWeight(), {1, 2}},
                     {d.fill({shapeOf(dy)[0], shapeOf(getWeight())[1]}, type, 0), {0, 2}});
  return {d.view(d.cast(dx, elementOf(getResult())), shapeOf(getResult()))};
}

Values LinearDwOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getAccumulation();
  Value dy = d.rows(getCotangent()), x = d.rows(getInput());
  return {product(d, "prp", type, {dy, {1, 0}}, {x, {1, 2}},
                  {d.fill(shapeOf(getResult()), type, 0), {0, 2}})};
}

//===----------------------------------------------------------------------===//
// Rotary positions, heads
//===----------------------------------------------------------------------===//

Values RopeTableOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  SmallVector<Attribute> values;
  for (double frequency : getFrequencies())
    values.push_back(FloatAttr::get(type, frequency));
  int64_t count = values.size();
  Value frequencies = arith::ConstantOp::create(
      b, getLoc(), DenseElementsAttr::get(RankedTensorType::get({count}, type), values));
  Value positions = d.flat(getPositions());
  Value out = d.one("ppp", type, {{positions, {0}}, {frequencies, {2}}},
                    {d.empty({shapeOf(positions)[0], 2, count}, type), {0, 1, 2}}, [&](Body &x) {
                      Scalar angle = x[0].to(type) * x[1];
                      return select(x.index(1) == 0, angle.cos(), angle.sin());
                    });
  return {d.view(out, shapeOf(getResult()))};
}

Values RopeOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  auto shape = shapeOf(getInput());
  int64_t rows = shape[0] * shape[1], heads = shape[2], half = shape[3] / 2;
  Value x = d.view(getInput(), {rows, heads, 2, half});
  Value table = d.view(getTable(), {rows, 2, half});
  AffineExpr r = b.getAffineDimExpr(0), h = b.getAffineDimExpr(1), p = b.getAffineDimExpr(2),
             i = b.getAffineDimExpr(3);
  AffineExpr zero = b.getAffineConstantExpr(0), one = b.getAffineConstantExpr(1);
  Value out =
      d.one("pppp", elementOf(table),
            {{x, {0, 1, 2, 3}},
             Operand::at(x, {r, h, one - p, i}), // the other half
             Operand::at(table, {r, zero, i}),
             Operand::at(table, {r, one, i})},
            {d.empty({rows, heads, 2, half}, elementOf(getResult())), {0, 1, 2, 3}}, [&](Body &x) {
              double sign = getInverse() ? 1 : -1;
              Scalar sine = select(x.index(2) == 0, x[3] * sign, x[3] * -sign);
              return x[0] * x[2] + x[1] * sine;
            });
  return {d.view(out, shapeOf(getResult()))};
}

Values SplitHeadsOp::decompose(OpBuilder &b) {
  return {DecompositionBuilder(b, getLoc()).view(getInput(), shapeOf(getResult()))};
}

Values MergeHeadsOp::decompose(OpBuilder &b) {
  return {DecompositionBuilder(b, getLoc()).view(getInput(), shapeOf(getResult()))};
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

// 0 where query s sees key t, else -infinity, shape [B, S, T].
template <typename Op> static Value attentionBias(DecompositionBuilder &d, Op op) {
  Type type = op.getStatistics();
  auto query = shapeOf(op.getQuery()), key = shapeOf(op.getKey());
  auto masks = op.getMasks();
  int64_t tileCount = op.getTileCount(), tileStride = op.getTileStride(),
          tileTokens = op.getTileTokens();
  SmallVector<Operand> ins;
  llvm::function_ref<Scalar(Body &)> sees;
  auto causal = [](Body &x) {
    Scalar document = select(x[2] < 0, -1 - x[2], x[2]);
    return x[3] >= 0 & x[3] == document & x[1] <= x[0];
  };
  auto encoder = [&](Body &x) {
    auto valid = [&](Scalar token) {
      return token / tileStride < x[0] & token % tileStride < tileTokens;
    };
    return valid(x[1]) | valid(x.index(2).to(x[1].type()));
  };
  auto images = [&](Body &x) {
    Scalar token = x.index(2), image = token / (tileCount * tileTokens);
    Scalar tiles = x.extract(masks[2], {x.index(0), image});
    Scalar tile = (token / tileTokens % tileCount).to(tiles.type());
    Scalar m = image.to(x[0].type());
    return x[0] >= x[1] | (x[0] <= m & m < x[1] & tile < tiles);
  };
  switch (op.getMask()) {
  case Mask::Causal:
    ins = {{masks[0], {0, 1}}, {masks[2], {0, 2}}, {masks[1], {0, 1}}, {masks[3], {0, 2}}};
    sees = causal;
    break;
  case Mask::Encoder:
    ins = {{d.flat(masks[0]), {0}}, {d.flat(masks[1]), {1}}};
    sees = encoder;
    break;
  case Mask::Images:
    ins = {{masks[0], {0, 1}}, {masks[1], {0, 1}}};
    sees = images;
    break;
  }
  Value out = d.empty({query[0], query[1], key[1]}, type);
  return d.one("ppp", type, ins, {out, {0, 1, 2}},
               [&](Body &x) { return select(sees(x), x.constant(0), x.constant(-kInfinity)); });
}

// scale * query . key with the mask, shape [B, K, G, S, T]: -infinity where the
// query does not see the key; a query that sees no key has score 0 for all.
// query is [B, S, K, G, D], key [B, T, K, D].
static Value attentionScores(DecompositionBuilder &d, Value query, Value key, Value bias,
                             double scale, Type type) {
  auto q = shapeOf(query);
  int64_t keys = shapeOf(key)[1];
  SmallVector<int64_t> shape = {q[0], q[2], q[3], q[1], keys};
  Value raw = product(d, "pppppr", type, {query, {0, 3, 1, 2, 5}}, {key, {0, 4, 1, 5}},
                      {d.fill(shape, type, 0), {0, 1, 2, 3, 4}});
  Value most =
      d.one("ppr", type, {{bias, {0, 1, 2}}}, {d.fill({q[0], q[1]}, type, -kInfinity), {0, 1}},
            [](Body &x) { return maximum(x[1], x[0]); });
  return d.one("ppppp", type, {{raw, {0, 1, 2, 3, 4}}, {bias, {0, 3, 4}}, {most, {0, 3}}},
               {d.empty(shape, type), {0, 1, 2, 3, 4}}, [&](Body &x) {
                 return select(x[2] == -kInfinity, x.constant(0), x[0] * scale + x[1]);
               });
}

// Heads [B, S, H, D] as groups [B, S, K, G, D].
static Value grouped(DecompositionBuilder &d, Value heads, int64_t kvHeads) {
  auto shape = shapeOf(heads);
  SmallVector<int64_t> groups = {shape[0], shape[1], kvHeads, shape[2] / kvHeads};
  if (shape.size() == 4)
    groups.push_back(shape[3]);
  return d.view(heads, groups);
}

Values AttentionOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value query = grouped(d, getQuery(), shapeOf(getKey())[2]), value = getValue();
  auto q = shapeOf(query); // B, S, K, G, D
  int64_t keys = shapeOf(value)[1];
  Value scores = attentionScores(d, query, getKey(), attentionBias(d, *this),
                                 getScale().convertToDouble(), type);
  SmallVector<int64_t> rows = {q[0], q[2], q[3], q[1]}, all = {q[0], q[2], q[3], q[1], keys};
  Value most = d.one("ppppr", type, {{scores, {0, 1, 2, 3, 4}}},
                     {d.fill(rows, type, -kInfinity), {0, 1, 2, 3}},
                     [](Body &x) { return maximum(x[1], x[0]); });
  Value weights =
      d.one("ppppp", type, {{scores, {0, 1, 2, 3, 4}}, {most, {0, 1, 2, 3}}},
            {d.empty(all, type), {0, 1, 2, 3, 4}}, [](Body &x) { return (x[0] - x[1]).exp(); });
  Value sum = d.one("ppppr", type, {{weights, {0, 1, 2, 3, 4}}},
                    {d.fill(rows, type, 0), {0, 1, 2, 3}}, [](Body &x) { return x[1] + x[0]; });
  // Loops: b, s, k, g, t, d.
  Value mixed = product(d, "pppprp", type, {weights, {0, 2, 3, 1, 4}}, {value, {0, 4, 2, 5}},
                        {d.fill(q, type, 0), {0, 1, 2, 3, 5}});
  Value out = d.one("ppppp", type, {{mixed, {0, 1, 2, 3, 4}}, {sum, {0, 2, 3, 1}}},
                    {d.empty(q, elementOf(getResult())), {0, 1, 2, 3, 4}},
                    [](Body &x) { return x[0] / x[1]; });
  Value lse = d.one("pppp", type, {{most, {0, 2, 3, 1}}, {sum, {0, 2, 3, 1}}},
                    {d.empty(ArrayRef(q).drop_back(), type), {0, 1, 2, 3}},
                    [](Body &x) { return x[0] + x[1].log(); });
  return {d.view(out, shapeOf(getResult())), d.view(lse, shapeOf(getLse()))};
}

Values AttentionGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  double scale = getScale().convertToDouble();
  Value key = getKey(), value = getValue();
  int64_t kvHeads = shapeOf(key)[2], keys = shapeOf(key)[1];
  Value query = grouped(d, getQuery(), kvHeads), dOut = grouped(d, getCotangent(), kvHeads),
        out = grouped(d, getOutput(), kvHeads), lse = grouped(d, getLse(), kvHeads);
  auto q = shapeOf(query); // B, S, K, G, D
  SmallVector<int64_t> all = {q[0], q[2], q[3], q[1], keys};
  Value scores = attentionScores(d, query, key, attentionBias(d, *this), scale, type);
  Value weights =
      d.one("ppppp", type, {{scores, {0, 1, 2, 3, 4}}, {lse, {0, 3, 1, 2}}},
            {d.empty(all, type), {0, 1, 2, 3, 4}}, [](Body &x) { return (x[0] - x[1]).exp(); });
  Value delta = product(d, "ppppr", type, {dOut, {0, 1, 2, 3, 4}}, {out, {0, 1, 2, 3, 4}},
                        {d.fill(ArrayRef(q).drop_back(), type, 0), {0, 1, 2, 3}});
  Value dWeights = product(d, "pppppr", type, {dOut, {0, 3, 1, 2, 5}}, {value, {0, 4, 1, 5}},
                           {d.fill(all, type, 0), {0, 1, 2, 3, 4}});
  Value dScores = d.one(
      "ppppp", type,
      {{weights, {0, 1, 2, 3, 4}}, {dWeights, {0, 1, 2, 3, 4}}, {delta, {0, 3, 1, 2}}},
      {d.empty(all, type), {0, 1, 2, 3, 4}}, [&](Body &x) { return x[0] * (x[1] - x[2]) * scale; });
  // Loops: b, s, k, g, t, d for the query; b, t, k, g, s, d for key and value.
  Value dQuery = product(d, "pppprp", type, {dScores, {0, 2, 3, 1, 4}}, {key, {0, 4, 2, 5}},
                         {d.fill(q, type, 0), {0, 1, 2, 3, 5}});
  auto overQueries = [&](Value rows, Value other) {
    return product(d, "ppprrp", type, {rows, {0, 2, 3, 4, 1}}, {other, {0, 4, 2, 3, 5}},
                   {d.fill(shapeOf(key), type, 0), {0, 1, 2, 5}});
  };
  Value dKey = overQueries(dScores, query), dValue = overQueries(weights, dOut);
  return {d.view(d.cast(dQuery, elementOf(query)), shapeOf(getQuery())),
          d.cast(dKey, elementOf(key)), d.cast(dValue, elementOf(value))};
}

//===----------------------------------------------------------------------===//
// Feed-forward, residual
//===----------------------------------------------------------------------===//

static Scalar sigmoid(Scalar x) { return 1.0 / (1.0 + (-1.0 * x).exp()); }

Values SwiGLUOp::decompose(OpBuilder &b) {
  return DecompositionBuilder(b, getLoc())
      .elementwise(getStatistics(), {getGate(), getUp()}, getOperation()->getResultTypes(),
                   [](Body &x) -> Scalars { return {x[0] * sigmoid(x[0]) * x[1]}; });
}

Values SwiGLUGradOp::decompose(OpBuilder &b) {
  return DecompositionBuilder(b, getLoc())
      .elementwise(getStatistics(), {getCotangent(), getGate(), getUp()},
                   getOperation()->getResultTypes(), [](Body &x) -> Scalars {
                     Scalar s = sigmoid(x[1]);
                     return {x[0] * x[2] * (s * (1.0 + x[1] * (1.0 - s))), x[0] * (x[1] * s)};
                   });
}

// Phi(x) of the standard normal distribution.
static Scalar normalDistribution(Scalar x) {
  return 0.5 + (x * (1 / std::numbers::sqrt2)).erf() * 0.5;
}

Values GeluOp::decompose(OpBuilder &b) {
  return DecompositionBuilder(b, getLoc())
      .elementwise(getStatistics(), {getInput()}, getOperation()->getResultTypes(),
                   [](Body &x) -> Scalars { return {x[0] * normalDistribution(x[0])}; });
}

Values GeluGradOp::decompose(OpBuilder &b) {
  return DecompositionBuilder(b, getLoc())
      .elementwise(getStatistics(), {getCotangent(), getInput()}, getOperation()->getResultTypes(),
                   [](Body &x) -> Scalars {
                     double root = std::sqrt(2 * std::numbers::pi);
                     Scalar density = (x[1] * x[1] * -0.5).exp() * (1 / root);
                     return {x[0] * (normalDistribution(x[1]) + x[1] * density)};
                   });
}

Values AddOp::decompose(OpBuilder &b) {
  Type lhs = elementOf(getLhs()), rhs = elementOf(getRhs());
  Type wider = lhs.getIntOrFloatBitWidth() >= rhs.getIntOrFloatBitWidth() ? lhs : rhs;
  return DecompositionBuilder(b, getLoc())
      .elementwise(wider, {getLhs(), getRhs()}, getOperation()->getResultTypes(),
                   [](Body &x) -> Scalars { return {x[0] + x[1]}; });
}

Values CastOp::decompose(OpBuilder &b) {
  return {DecompositionBuilder(b, getLoc()).cast(getInput(), getElementType())};
}

//===----------------------------------------------------------------------===//
// Gated residual
//===----------------------------------------------------------------------===//

// The masks as operands of a loop nest whose dimension `row` runs over rows.
template <typename Op>
static SmallVector<Operand> rowMasks(DecompositionBuilder &d, Op op, unsigned row) {
  SmallVector<Operand> operands;
  for (Value mask : op.getMasks())
    operands.push_back({d.flat(mask), {row}});
  return operands;
}

// `x` on rows that the branch reaches, else 0; `begin` and `end` are arguments
// `first` and `first + 1` of the body.
static Scalar onRows(RowMask rows, Body &body, unsigned first, Scalar x) {
  if (rows == RowMask::None)
    return x;
  Scalar begin = body[first], end = body[first + 1];
  return select(rows == RowMask::Present ? begin <= end : begin < end, x, x.constant(0));
}

Values GatedResidualOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value x = d.rows(getInput());
  Value gate = d.tanh(getGate(), type);
  SmallVector<Operand> ins = {{x, {0, 1}}, {d.rows(getBranch()), {0, 1}}};
  llvm::append_range(ins, rowMasks(d, *this, 0));
  Value out = d.one("pp", type, ins, {d.empty(shapeOf(x), elementOf(x)), {0, 1}},
                    [&](Body &x) { return x[0] + onRows(getRows(), x, 2, x.scalar(gate) * x[1]); });
  return {d.view(out, shapeOf(getResult()))};
}

Values GatedResidualGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value dy = d.rows(getCotangent()), gate = d.tanh(getGate(), type);
  SmallVector<Operand> ins = {{dy, {0, 1}}};
  llvm::append_range(ins, rowMasks(d, *this, 0));
  Value out = d.one("pp", type, ins, {d.empty(shapeOf(dy), elementOf(getResult())), {0, 1}},
                    [&](Body &x) { return onRows(getRows(), x, 1, x.scalar(gate) * x[0]); });
  return {d.view(out, shapeOf(getResult()))};
}

Values GateGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getAccumulation();
  Value dy = d.rows(getCotangent()), branch = d.rows(getBranch());
  Value sums = product(d, "pr", type, {dy, {0, 1}}, {branch, {0, 1}},
                       {d.fill({shapeOf(dy)[0]}, type, 0), {0}});
  SmallVector<Operand> ins = {{sums, {1}}};
  llvm::append_range(ins, rowMasks(d, *this, 1));
  Value total = d.one("pr", type, ins, {d.fill({1}, type, 0), {0}},
                      [&](Body &x) { return x[ins.size()] + onRows(getRows(), x, 1, x[0]); });
  return {
      d.one("p", type, {{total, {0}}, {getGate(), {0}}}, {d.empty({1}, type), {0}}, [](Body &x) {
        Scalar t = x[1].tanh();
        return (1.0 - t * t) * x[0];
      })};
}

//===----------------------------------------------------------------------===//
// Loss
//===----------------------------------------------------------------------===//

Values RowMaxOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value x = d.rows(getLogits());
  Value out = d.one("pr", type, {{x, {0, 1}}}, {d.fill({shapeOf(x)[0]}, type, -kInfinity), {0}},
                    [](Body &x) { return maximum(x[1], x[0]); });
  return {d.view(out, shapeOf(getResult()))};
}

Values RowSumExpOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value x = d.rows(getLogits());
  Value out = d.one("pr", type, {{x, {0, 1}}, {d.flat(getMaximum()), {0}}},
                    {d.fill({shapeOf(x)[0]}, type, 0), {0}},
                    [](Body &x) { return x[2] + (x[0] - x[1]).exp(); });
  return {d.view(out, shapeOf(getResult()))};
}

Values RowSumExpGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value x = d.rows(getLogits());
  Value out = d.one("pp", getStatistics(),
                    {{d.flat(getCotangent()), {0}}, {x, {0, 1}}, {d.flat(getMaximum()), {0}}},
                    {d.empty(shapeOf(x), elementOf(x)), {0, 1}},
                    [](Body &x) { return x[0] * (x[1] - x[2]).exp(); });
  return {d.view(out, shapeOf(getResult()))};
}

Values TargetLogitOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value logits = d.rows(getLogits()), labels = d.flat(getLabels());
  int64_t vocabulary = shapeOf(logits)[1];
  Value out =
      d.one("p", type, {{labels, {0}}}, {d.empty(shapeOf(labels), type), {0}}, [&](Body &x) {
        Scalar valid = x[0] >= 0 & x[0] < vocabulary;
        Scalar label = select(valid, x[0], x[0].constant(0));
        return select(valid, x.extract(logits, {x.index(0), label}), x.constant(0));
      });
  return {d.view(out, shapeOf(getResult()))};
}

Values TargetLogitGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type element = getElementType();
  Value labels = d.flat(getLabels());
  SmallVector<int64_t> shape = {shapeOf(labels)[0], static_cast<int64_t>(getSize())};
  Value out = d.one("pp", element, {{d.flat(getCotangent()), {0}}, {labels, {0}}},
                    {d.empty(shape, element), {0, 1}}, [](Body &x) {
                      return select(x.index(1).to(x[1].type()) == x[1], x[0], x.constant(0));
                    });
  return {d.view(out, shapeOf(getResult()))};
}

Values TakeTokensOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value rows = d.rows(getInput()), tokens = d.flat(getTokens());
  int64_t ofSample = shapeOf(getInput())[1], taken = shapeOf(getTokens())[1];
  Value out = d.empty({shapeOf(tokens)[0], shapeOf(rows)[1]}, elementOf(rows));
  Value result = d.one("pp", elementOf(rows), {{tokens, {0}}}, {out, {0, 1}}, [&](Body &x) {
    Scalar token = x[0], exists = token >= 0 & token < ofSample;
    Scalar sample = x.index(0).to(token.type()) / taken;
    Scalar row = sample * ofSample + select(exists, token, token.constant(0));
    return select(exists, x.extract(rows, {row, x.index(1)}), x.constant(0));
  });
  return {d.view(result, shapeOf(getResult()))};
}

int64_t llama::headChunk(int64_t asked, int64_t rows, int64_t vocabulary, int64_t bytes) {
  constexpr int64_t kMostBytes = 256 << 20, kLeastRows = 1024, kStep = 128;
  if (asked)
    return std::min<int64_t>(rows, llvm::alignTo(asked, kChunkStep));
  int64_t most = std::max(kLeastRows, kMostBytes / (vocabulary * bytes) / kStep * kStep);
  int64_t chunks = std::max<int64_t>(1, llvm::divideCeil(rows, most));
  return std::min<int64_t>(rows, llvm::alignTo(llvm::divideCeil(rows, chunks), kStep));
}

// The logits [R, V] that `op`, llama.linear_lse or its gradient, speaks of, and the same as
// [R, P, V / P], or as they are where there is one part.
template <typename Op>
static std::pair<Value, Value> logitsOf(Op op, DecompositionBuilder &d, OpBuilder &b) {
  Value logits = LinearOp::create(b, op.getLoc(), d.rows(op.getInput()), op.getWeight(),
                                  op.getBias(), op.getStatisticsAttr(), op.getStatisticsAttr());
  int64_t rows = shapeOf(logits)[0], size = shapeOf(logits)[1];
  int64_t parts = shapeOf(op.getLse()).back();
  return {logits, parts == 1 ? logits : d.view(logits, {rows, parts, size / parts})};
}

Values LinearLseOp::expand(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  TypeAttr statistics = getStatisticsAttr();
  auto [logits, parts] = logitsOf(*this, d, b);
  Value maximum = RowMaxOp::create(b, getLoc(), parts, statistics);
  Value sum = RowSumExpOp::create(b, getLoc(), parts, maximum, statistics);
  Value target = TargetLogitOp::create(b, getLoc(), logits, d.flat(getLabels()), statistics);
  Value lse = d.elementwise(getStatistics(), {maximum, sum}, {maximum.getType()},
                            [](Body &x) -> Scalars { return {x[0] + x[1].log()}; })[0];
  return {d.view(lse, shapeOf(getLse())), d.view(target, shapeOf(getTarget()))};
}

// Both gradients of `op`, or null for those that are not wanted.
static Values expandGradient(LinearLseGradOp op, OpBuilder &b, bool wantsInput, bool wantsWeight) {
  DecompositionBuilder d(b, op.getLoc());
  TypeAttr statistics = op.getStatisticsAttr();
  auto [logits, parts] = logitsOf(op, d, b);
  SmallVector<int64_t> perPart(shapeOf(parts));
  perPart.pop_back();
  Value ofParts = RowSumExpGradOp::create(b, op.getLoc(), d.view(op.getDLse(), perPart), parts,
                                          d.view(op.getLse(), perPart), statistics);
  Value ofTarget =
      TargetLogitGradOp::create(b, op.getLoc(), d.flat(op.getDTarget()), d.flat(op.getLabels()),
                                b.getI64IntegerAttr(shapeOf(logits)[1]), statistics);
  Value gradient =
      AddOp::create(b, op.getLoc(), ofTarget, d.view(ofParts, shapeOf(logits)), statistics);
  Type element = elementOf(op.getWeight());
  if (element != op.getStatistics()) // rounded once, as an input of the two products
    gradient = CastOp::create(b, op.getLoc(), gradient, TypeAttr::get(element));
  Values results(2);
  if (wantsInput)
    results[0] = d.view(LinearDxOp::create(b, op.getLoc(), gradient, op.getWeight(), statistics,
                                           op.getElementTypeAttr()),
                        shapeOf(op.getDInput()));
  if (wantsWeight)
    results[1] = LinearDwOp::create(b, op.getLoc(), gradient, d.rows(op.getInput()),
                                    op.getAccumulationAttr());
  return results;
}

Values LinearLseGradOp::expand(OpBuilder &b) {
  return expandGradient(*this, b, !getDInput().use_empty(), !getDWeight().use_empty());
}

// The decomposition of the ops to which `expand` expands `op`, for which it returns values.
static Values decomposeExpanded(Operation *op, llvm::function_ref<Values()> expand) {
  Operation *before = op->getPrevNode();
  Values results = expand();
  auto *block = op->getBlock();
  auto first = before ? std::next(before->getIterator()) : block->begin();
  for (Operation &made : llvm::make_early_inc_range(llvm::make_range(first, op->getIterator())))
    if (auto inner = dyn_cast<DecompositionOpInterface>(made)) {
      OpBuilder at(&made);
      Values values = inner.decompose(at);
      for (auto [old, now] : llvm::zip_equal(made.getResults(), values))
        for (Value &result : results)
          if (result == old)
            result = now;
      made.replaceAllUsesWith(values);
      made.erase();
    }
  return results;
}

Values LinearLseOp::decompose(OpBuilder &b) {
  return decomposeExpanded(*this, [&] { return expand(b); });
}

Values LinearLseGradOp::decompose(OpBuilder &b) {
  return decomposeExpanded(
      *this, [&] { return expandGradient(*this, b, /*wantsInput=*/true, /*wantsWeight=*/true); });
}

Values CrossEntropyOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = elementOf(getSum());
  return {d.one("pr", type,
                {{d.flat(getMaximum()), {1}},
                 {d.flat(getSum()), {1}},
                 {d.flat(getTarget()), {1}},
                 {d.flat(getLabels()), {1}}},
                {d.fill({1}, type, 0), {0}}, [](Body &x) {
                  return x[4] + select(x[3] >= 0, x[1].log() + x[0] - x[2], x.constant(0));
                })};
}

Values CrossEntropyGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = elementOf(getSum());
  Value sum = d.flat(getSum());
  Values out =
      d.many("p", type, {{sum, {0}}, {d.flat(getLabels()), {0}}},
             {{d.empty(shapeOf(sum), type), {0}}, {d.empty(shapeOf(sum), type), {0}}},
             [&](Body &x) -> Scalars {
               Scalar cotangent = x.scalar(getCotangent());
               Scalar valid = x[1] >= 0, zero = x.constant(0);
               return {select(valid, cotangent / x[0], zero), select(valid, 0.0 - cotangent, zero)};
             });
  return {d.view(out[0], shapeOf(getDSum())), d.view(out[1], shapeOf(getDTarget()))};
}

//===----------------------------------------------------------------------===//
// Optimizer
//===----------------------------------------------------------------------===//

Values SumOfSquaresOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = elementOf(getInput());
  constexpr int64_t kRow = 1024;
  Value rows = sumSquares(d, d.view(getInput(), {shapeOf(getInput())[0] / kRow, kRow}), type);
  return {d.total(rows)};
}

Values AddOnceOp::decompose(OpBuilder &b) {
  return DecompositionBuilder(b, getLoc())
      .elementwise(elementOf(getSum()), {getSum(), getValue(), getFactor()},
                   getOperation()->getResultTypes(),
                   [&](Body &x) -> Scalars { return {select(x[2] == 0.0, x[0], x[0] + x[1])}; });
}

Values ClipNormOp::decompose(OpBuilder &b) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return DecompositionBuilder(b, getLoc())
      .elementwise(
          elementOf(getSums()), {getGiven()}, getOperation()->getResultTypes(),
          [&](Body &x) -> Scalars {
            auto sum = [&](int64_t i) { return x.extract(getSums(), {x.indexConstant(i)}); };
            Scalar loss = sum(0), squares = sum(1), clip = x[0];
            Scalar one = x.constant(1), ratio = clip / (squares.sqrt() + 1e-6);
            Scalar scale = select(x.constant(0) < clip, select(ratio < 1.0, ratio, one), one);
            // A comparison with NaN is false.
            Scalar isFinite = (x.constant(-infinity) < loss) & (loss < infinity) &
                              (x.constant(-infinity) < squares) & (squares < infinity);
            scale = select(isFinite, scale, x.constant(std::nan("")));
            return {select(x.index(0) == x.indexConstant(0), scale, x[0])};
          });
}

Values AdamWOp::decompose(OpBuilder &b) {
  Type type = elementOf(getMaster());
  return DecompositionBuilder(b, getLoc())
      .elementwise(type, {getMaster(), getMoment1(), getMoment2(), getGradient()},
                   getOperation()->getResultTypes(), [&](Body &x) -> Scalars {
                     auto parameter = [&](int64_t i) {
                       return x.extract(getHyperparameters(), {x.indexConstant(i)});
                     };
                     Scalar scale = parameter(0), rate = parameter(1), beta1 = parameter(2),
                            beta2 = parameter(3), epsilon = parameter(4), decay = parameter(5),
                            correction1 = parameter(6), correction2 = parameter(7);
                     Scalar g = scale * x[3];
                     Scalar m = beta1 * x[1] + (1.0 - beta1) * g;
                     Scalar v = beta2 * x[2] + (1.0 - beta2) * (g * g);
                     Scalar step = rate / correction1 * m / ((v / correction2).sqrt() + epsilon);
                     Scalar any = scale == scale; // not NaN
                     return {select(any, x[0] * (1.0 - rate * decay) - step, x[0]),
                             select(any, m, x[1]), select(any, v, x[2])};
                   });
}
