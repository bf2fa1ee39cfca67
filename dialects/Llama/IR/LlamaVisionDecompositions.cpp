//===- LlamaVisionDecompositions.cpp - The meaning of the vision ops ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// As in LlamaDecompositions.cpp. Ops that move or look up tokens read row
// `source(r)` for row r, by index arithmetic: they are row ops like the others
// and make no copies of slices.
//
// R rows, C channels, A images of all samples, T tiles of an image (as the table
// divides it), P tokens of a tile
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/DecompositionBuilder.h"

using namespace mlir;
using namespace mlir::llama;

using Values = SmallVector<Value>;
using Scalars = SmallVector<Scalar>;
using Source = std::pair<Scalar, std::optional<Scalar>>;

Values PatchifyOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  auto shape = shapeOf(getPixels()); // B, M, T, colours, side, side
  int64_t images = shape[0] * shape[1] * shape[2], colours = shape[3], patch = getPatchSize(),
          side = shape[4] / patch;
  Value pixels = d.view(getPixels(), {images, colours, side, patch, side, patch});
  // Loops: image, y, x, colour, i, j.
  Value out = d.one(
      "pppppp", elementOf(pixels), {{pixels, {0, 3, 1, 4, 2, 5}}},
      {d.empty({images, side, side, colours, patch, patch}, getElementType()), {0, 1, 2, 3, 4, 5}},
      [](Body &x) { return x[0]; });
  return {d.view(out, shapeOf(getResult()))};
}

//===----------------------------------------------------------------------===//
// Tile and position embeddings
//===----------------------------------------------------------------------===//

Values TileEmbedAddOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value x = d.rows(getInput()), ids = d.flat(getIds()), table = getTable();
  Value gate = d.tanh(getGate(), type);
  int64_t tokens = shapeOf(getInput())[1], tiles = shapeOf(table)[1];
  Value out =
      d.one("pp", type, {{x, {0, 1}}}, {d.empty(shapeOf(x), elementOf(x)), {0, 1}}, [&](Body &x) {
        Scalar row = x.index(0), id = x.extract(ids, {row / tokens});
        Scalar tile = row % tokens / (tokens / tiles);
        return x[0] + x.scalar(gate) * x.extract(table, {id, tile, x.index(1)});
      });
  return {d.view(out, shapeOf(getResult()))};
}

Values TileEmbedGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getAccumulation();
  auto shape = shapeOf(getCotangent()), tableShape = shapeOf(getTable());
  int64_t images = shape[0], tokens = shape[1], channels = shape[2], tiles = tableShape[1];
  Value ids = d.flat(getIds()), table = getTable();
  Value perToken = d.view(getCotangent(), {images * tiles, tokens / tiles, channels});
  Value perTile = d.one("prp", type, {{perToken, {0, 1, 2}}},
                        {d.fill({images * tiles, channels}, type, 0), {0, 2}},
                        [](Body &x) { return x[1] + x[0]; });

  Value zero = d.fill({tableShape[0], tiles * channels}, type, 0);
  Value dTable = d.scatterAdd(zero, d.view(perTile, {images, tiles * channels}), ids, 0,
                              std::nullopt, d.tanh(getGate(), type));

  Value sums = d.one("pr", type, {{perTile, {0, 1}}}, {d.fill({images * tiles}, type, 0), {0}},
                     [&](Body &x) {
                       Scalar row = x.index(0), id = x.extract(ids, {row / tiles});
                       return x[1] + x[0] * x.extract(table, {id, row % tiles, x.index(1)});
                     });
  Value total = d.total(sums);
  Value dGate =
      d.one("p", type, {{total, {0}}, {getGate(), {0}}}, {d.empty({1}, type), {0}}, [](Body &x) {
        Scalar t = x[1].tanh();
        return (1.0 - t * t) * x[0];
      });
  return {d.view(dTable, tableShape), dGate};
}

Values PositionEmbedAddOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getStatistics();
  Value x = d.rows(getInput()), table = getTable(), gate = d.tanh(getGate(), type);
  int64_t positions = shapeOf(table)[0];
  Value out =
      d.one("pp", type, {{x, {0, 1}}}, {d.empty(shapeOf(x), elementOf(x)), {0, 1}}, [&](Body &x) {
        Scalar position = x.index(0) % positions;
        Scalar value = x.extract(table, {position, x.index(1)});
        return x[0] + (1.0 - x.scalar(gate)) * value;
      });
  return {d.view(out, shapeOf(getResult()))};
}

Values PositionEmbedGradOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Type type = getAccumulation();
  auto shape = shapeOf(getCotangent()), tableShape = shapeOf(getTable());
  int64_t positions = tableShape[0], columns = positions * shape[2];
  Value dy = d.view(getCotangent(), {shape[0] * shape[1] / positions, columns});
  Value sums =
      d.view(d.columnSum(type, {{dy, {0, 1}}}, columns, [](Body &x) { return x[0]; }), tableShape);
  Value gate = d.tanh(getGate(), type);
  Value dTable = d.one("pp", type, {{sums, {0, 1}}}, {d.empty(tableShape, type), {0, 1}},
                       [&](Body &x) { return (1.0 - x.scalar(gate)) * x[0]; });
  Value perRow =
      d.one("pr", type, {{sums, {0, 1}}, {getTable(), {0, 1}}}, {d.fill({positions}, type, 0), {0}},
            [](Body &x) { return x[2] + x[0] * x[1]; });
  Value dGate = d.one("p", type, {{d.total(perRow), {0}}, {getGate(), {0}}},
                      {d.empty({1}, type), {0}}, [](Body &x) {
                        Scalar t = x[1].tanh();
                        return (t * t - 1.0) * x[0];
                      });
  return {dTable, dGate};
}

//===----------------------------------------------------------------------===//
// Tokens of every tile
//===----------------------------------------------------------------------===//

Values PrependClassOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value x = d.rows(getInput());
  auto shape = shapeOf(getResult());
  int64_t tokens = shape[1] / static_cast<int64_t>(getTiles()); // with the class token
  Value out =
      d.one("pp", elementOf(x), {{getToken(), {1}}},
            {d.empty({shape[0] * shape[1], shape[2]}, elementOf(x)), {0, 1}}, [&](Body &body) {
              Scalar row = body.index(0), tile = row / tokens, token = row % tokens;
              Scalar isClass = token == 0;
              Scalar patch = select(isClass, token, token - 1);
              return select(isClass, body[0],
                            body.extract(x, {tile * (tokens - 1) + patch, body.index(1)}));
            });
  return {d.view(out, shape)};
}

// result row t * after + j = row t * before + first + j of the input, j < after
// tokens of every tile t; zero from token `real` on.
static Value selectTokens(OpBuilder &b, Location loc, Value input, Value result, int64_t tiles,
                          int64_t first) {
  DecompositionBuilder d(b, loc);
  auto shape = shapeOf(result);
  int64_t before = shapeOf(input)[1] / tiles, after = shape[1] / tiles;
  Value rows = d.gatherRows(d.rows(input), shape[0] * shape[1], [&](Scalar row) -> Source {
    Scalar tile = row / after, token = row % after;
    if (after <= before)
      return {tile * before + token + first, std::nullopt};
    Scalar real = token < before;
    return {tile * before + select(real, token, token.constant(0)), real};
  });
  return d.view(rows, shape);
}

Values DropClassOp::decompose(OpBuilder &b) {
  return {selectTokens(b, getLoc(), getInput(), getResult(), getTiles(), 1)};
}

Values TakeClassOp::decompose(OpBuilder &b) {
  return {selectTokens(b, getLoc(), getInput(), getResult(), getTiles(), 0)};
}

Values PadTokensOp::decompose(OpBuilder &b) {
  return {selectTokens(b, getLoc(), getInput(), getResult(), getTiles(), 0)};
}

Values DropTokensOp::decompose(OpBuilder &b) {
  return {selectTokens(b, getLoc(), getInput(), getResult(), getTiles(), 0)};
}

//===----------------------------------------------------------------------===//
// Taps, views
//===----------------------------------------------------------------------===//

// Each part is written where it belongs: the final state in columns [0, C), tap t in columns
// C + c * taps + t.
Values TapConcatOp::decompose(OpBuilder &b) {
  if (getTaps().empty())
    return {getFinal()};
  DecompositionBuilder d(b, getLoc());
  Value final = d.rows(getFinal());
  int64_t rows = shapeOf(final)[0], channels = shapeOf(final)[1], count = getTaps().size();
  Value out = d.empty({rows, channels * (count + 1)}, elementOf(final));
  auto insert = [&](Value part, int64_t column, int64_t step) {
    auto attributes = [&](ArrayRef<int64_t> numbers) {
      return getAsIndexOpFoldResult(b.getContext(), numbers);
    };
    out = tensor::InsertSliceOp::create(b, getLoc(), part, out, attributes({0, column}),
                                        attributes({rows, channels}), attributes({1, step}));
  };
  insert(final, 0, 1);
  for (auto [i, tap] : llvm::enumerate(getTaps()))
    insert(d.rows(tap), channels + int64_t(i), count);
  return {d.view(out, shapeOf(getResult()))};
}

Values TapSplitOp::decompose(OpBuilder &b) {
  DecompositionBuilder d(b, getLoc());
  Value x = d.rows(getInput());
  Type element = elementOf(x);
  int64_t taps = getTaps(), rows = shapeOf(x)[0], channels = shapeOf(x)[1] / (taps + 1);
  SmallVector<Operand> outs;
  for (int64_t i = 0; i <= taps; ++i)
    outs.push_back({d.empty({rows, channels}, element), {0, 1}});
  Values parts = d.many("pp", element, {}, outs, [&](Body &body) {
    Scalar row = body.index(0), channel = body.index(1);
    Scalars values = {body.extract(x, {row, channel})};
    for (int64_t i = 0; i < taps; ++i)
      values.push_back(body.extract(x, {row, channel * taps + (channels + i)}));
    return values;
  });
  for (Value &part : parts)
    part = d.view(part, shapeOf(getFinal()));
  return parts;
}

Values ImagesToTokensOp::decompose(OpBuilder &b) {
  return {DecompositionBuilder(b, getLoc()).view(getInput(), shapeOf(getResult()))};
}

Values TokensToImagesOp::decompose(OpBuilder &b) {
  return {DecompositionBuilder(b, getLoc()).view(getInput(), shapeOf(getResult()))};
}
