//===- LlamaInference.cpp - Result types of the llama ops -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The type of a result follows from the operands and attributes, dynamic
// dimensions included, so that one walk re-types a block (lib/Train/Specialize,
// AssignPrecision). Operands may be wrong here, verifiers run later: inference
// only makes sure that it can compute, and fails with a message if it cannot.
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::llama;

using Types = SmallVectorImpl<Type>;
using Location_ = std::optional<Location>;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

static Type elementOr(std::optional<Type> chosen, Value value) {
  return chosen ? *chosen : tensorOf(value).getElementType();
}

// The shape of `type` with its last dimension replaced.
static SmallVector<int64_t> withLast(RankedTensorType type, int64_t size) {
  SmallVector<int64_t> shape(type.getShape());
  if (!shape.empty())
    shape.back() = size;
  return shape;
}

static int64_t product(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) ? ShapedType::kDynamic : a * b;
}

static int64_t quotient(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || b == 0 ? ShapedType::kDynamic
                                                                        : a / b;
}

// Fails with a message unless `value` has the wanted rank.
static LogicalResult expectRank(Location_ loc, StringRef op, StringRef name, Value value,
                                int64_t least, int64_t most = 64) {
  int64_t rank = tensorOf(value).getRank();
  if (rank >= least && rank <= most)
    return success();
  return emitOptionalError(loc, "'llama.", op, "' op expects ", name, " of rank ", least,
                           least == most ? "" : " or more", ", but got rank ", rank);
}

// Ops whose result has the type of one operand.
#define SAME_AS(OP, OPERAND)                                                                       \
  LogicalResult OP::inferReturnTypes(MLIRContext *, Location_, Adaptor adaptor, Types &types) {    \
    types.push_back(adaptor.OPERAND().getType());                                                  \
    return success();                                                                              \
  }
SAME_AS(ShiftIndexOp, getIds)
SAME_AS(RMSNormOp, getInput)
SAME_AS(RMSNormDxOp, getInput)
SAME_AS(LayerNormOp, getInput)
SAME_AS(LayerNormDxOp, getInput)
SAME_AS(RopeOp, getInput)
SAME_AS(SwiGLUOp, getGate)
SAME_AS(GeluOp, getInput)
SAME_AS(GeluGradOp, getInput)
SAME_AS(GatedResidualOp, getInput)
SAME_AS(GatedResidualGradOp, getCotangent)
SAME_AS(TileEmbedAddOp, getInput)
SAME_AS(PositionEmbedAddOp, getInput)
SAME_AS(RowSumExpGradOp, getLogits)
#undef SAME_AS

LogicalResult EmbedOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "embed", "table", a.getTable(), 2, 2)))
    return failure();
  SmallVector<int64_t> shape(tensorOf(a.getIds()).getShape());
  shape.push_back(tensorOf(a.getTable()).getDimSize(1));
  types.push_back(tensorOf(a.getTable()).clone(shape));
  return success();
}

LogicalResult EmbedGradOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "embed_grad", "cotangent", a.getCotangent(), 1)))
    return failure();
  types.push_back(RankedTensorType::get(
      {static_cast<int64_t>(a.getRows()), tensorOf(a.getCotangent()).getShape().back()},
      a.getAccumulation()));
  return success();
}

// Ops whose result is one value per channel, summed over rows.
template <typename Adaptor>
static LogicalResult perChannel(Location_ loc, StringRef op, Value value, Adaptor a, Types &types) {
  if (failed(expectRank(loc, op, "a tensor", value, 1)))
    return failure();
  types.push_back(RankedTensorType::get({tensorOf(value).getShape().back()}, a.getAccumulation()));
  return success();
}
LogicalResult RMSNormDwOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  return perChannel(loc, "rms_norm_dw", a.getInput(), a, types);
}
LogicalResult LayerNormDwOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                              Types &types) {
  return perChannel(loc, "layer_norm_dw", a.getInput(), a, types);
}
LogicalResult SumRowsOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  return perChannel(loc, "sum_rows", a.getInput(), a, types);
}

LogicalResult LinearOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "linear", "input", a.getInput(), 1)) ||
      failed(expectRank(loc, "linear", "weight", a.getWeight(), 2, 2)))
    return failure();
  auto shape = withLast(tensorOf(a.getInput()), tensorOf(a.getWeight()).getDimSize(0));
  types.push_back(RankedTensorType::get(shape, elementOr(a.getElementType(), a.getInput())));
  return success();
}

LogicalResult LinearDxOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "linear_dx", "cotangent", a.getCotangent(), 1)) ||
      failed(expectRank(loc, "linear_dx", "weight", a.getWeight(), 2, 2)))
    return failure();
  auto shape = withLast(tensorOf(a.getCotangent()), tensorOf(a.getWeight()).getDimSize(1));
  types.push_back(RankedTensorType::get(shape, elementOr(a.getElementType(), a.getCotangent())));
  return success();
}

LogicalResult LinearDwOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "linear_dw", "cotangent", a.getCotangent(), 1)) ||
      failed(expectRank(loc, "linear_dw", "input", a.getInput(), 1)))
    return failure();
  types.push_back(RankedTensorType::get(
      {tensorOf(a.getCotangent()).getShape().back(), tensorOf(a.getInput()).getShape().back()},
      a.getAccumulation()));
  return success();
}

LogicalResult RopeTableOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "rope_table", "positions", a.getPositions(), 2, 2)))
    return failure();
  auto shape = tensorOf(a.getPositions()).getShape();
  types.push_back(RankedTensorType::get(
      {shape[0], shape[1], 2, static_cast<int64_t>(a.getFrequencies().size())}, a.getStatistics()));
  return success();
}

LogicalResult SplitHeadsOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                             Types &types) {
  if (failed(expectRank(loc, "split_heads", "input", a.getInput(), 1)))
    return failure();
  auto type = tensorOf(a.getInput());
  int64_t size = a.getHeadSize();
  auto shape = withLast(type, quotient(type.getShape().back(), size));
  shape.push_back(size);
  types.push_back(type.clone(shape));
  return success();
}

LogicalResult MergeHeadsOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                             Types &types) {
  if (failed(expectRank(loc, "merge_heads", "input", a.getInput(), 2)))
    return failure();
  auto type = tensorOf(a.getInput());
  SmallVector<int64_t> shape(type.getShape().drop_back());
  shape.back() = product(shape.back(), type.getShape().back());
  types.push_back(type.clone(shape));
  return success();
}

LogicalResult AttentionOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "attention", "query", a.getQuery(), 4, 4)))
    return failure();
  auto type = tensorOf(a.getQuery());
  types.push_back(type);
  types.push_back(RankedTensorType::get(type.getShape().drop_back(), a.getStatistics()));
  return success();
}

LogicalResult AttentionGradOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.append({a.getQuery().getType(), a.getKey().getType(), a.getValue().getType()});
  return success();
}

LogicalResult SwiGLUGradOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.append({a.getGate().getType(), a.getUp().getType()});
  return success();
}

LogicalResult AddOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(tensorOf(a.getLhs()).clone(elementOr(a.getElementType(), a.getLhs())));
  return success();
}

LogicalResult CastOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(tensorOf(a.getInput()).clone(a.getElementType()));
  return success();
}

LogicalResult GateGradOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(RankedTensorType::get({1}, a.getAccumulation()));
  return success();
}

LogicalResult PatchifyOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "patchify", "pixels", a.getPixels(), 6, 6)))
    return failure();
  auto shape = tensorOf(a.getPixels()).getShape();
  int64_t patch = a.getPatchSize(), side = quotient(shape[4], patch);
  types.push_back(
      RankedTensorType::get({product(shape[0], shape[1]), product(shape[2], product(side, side)),
                             product(shape[3], patch * patch)},
                            a.getElementType()));
  return success();
}

LogicalResult TileEmbedGradOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(tensorOf(a.getTable()).clone(a.getAccumulation()));
  types.push_back(RankedTensorType::get({1}, a.getAccumulation()));
  return success();
}

LogicalResult PositionEmbedGradOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a,
                                                    Types &types) {
  types.push_back(tensorOf(a.getTable()).clone(a.getAccumulation()));
  types.push_back(RankedTensorType::get({1}, a.getAccumulation()));
  return success();
}

// Ops that change the number of tokens of every tile: [A, tiles * before, C] to
// [A, tiles * after(before), C].
static LogicalResult perTile(Location_ loc, StringRef op, Value input, int64_t tiles,
                             llvm::function_ref<int64_t(int64_t)> after, Types &types) {
  if (failed(expectRank(loc, op, "input", input, 3, 3)))
    return failure();
  auto type = tensorOf(input);
  int64_t before = quotient(type.getDimSize(1), tiles);
  int64_t tokens = ShapedType::isDynamic(before) ? before : after(before);
  types.push_back(type.clone({type.getDimSize(0), product(tiles, tokens), type.getDimSize(2)}));
  return success();
}
LogicalResult PrependClassOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                               Types &types) {
  return perTile(
      loc, "prepend_class", a.getInput(), a.getTiles(), [](int64_t n) { return n + 1; }, types);
}
LogicalResult DropClassOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  return perTile(
      loc, "drop_class", a.getInput(), a.getTiles(), [](int64_t n) { return n - 1; }, types);
}
LogicalResult TakeClassOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  return perTile(loc, "take_class", a.getInput(), a.getTiles(), [](int64_t) { return 1; }, types);
}
LogicalResult PadTokensOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  int64_t multiple = a.getMultiple();
  return perTile(
      loc, "pad_tokens", a.getInput(), a.getTiles(),
      [&](int64_t n) { return llvm::alignTo(n, multiple); }, types);
}
LogicalResult DropTokensOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                             Types &types) {
  int64_t tokens = a.getTokens();
  return perTile(
      loc, "drop_tokens", a.getInput(), a.getTiles(), [&](int64_t) { return tokens; }, types);
}

LogicalResult TapConcatOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "tap_concat", "final", a.getFinal(), 1)))
    return failure();
  auto type = tensorOf(a.getFinal());
  int64_t parts = a.getTaps().size() + 1;
  types.push_back(type.clone(withLast(type, product(type.getShape().back(), parts))));
  return success();
}

LogicalResult TapSplitOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  int64_t parts = a.getTaps() + 1;
  if (parts < 1 || failed(expectRank(loc, "tap_split", "input", a.getInput(), 1)))
    return failure();
  auto type = tensorOf(a.getInput());
  types.append(parts, type.clone(withLast(type, quotient(type.getShape().back(), parts))));
  return success();
}

LogicalResult ImagesToTokensOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                                 Types &types) {
  if (failed(expectRank(loc, "images_to_tokens", "input", a.getInput(), 3, 3)) ||
      failed(expectRank(loc, "images_to_tokens", "like", a.getLike(), 2, 2)))
    return failure();
  auto type = tensorOf(a.getInput()), like = tensorOf(a.getLike());
  types.push_back(type.clone(
      {like.getDimSize(0), product(like.getDimSize(1), type.getDimSize(1)), type.getDimSize(2)}));
  return success();
}

LogicalResult TokensToImagesOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                                 Types &types) {
  if (failed(expectRank(loc, "tokens_to_images", "input", a.getInput(), 3, 3)) ||
      failed(expectRank(loc, "tokens_to_images", "like", a.getLike(), 2, 2)))
    return failure();
  auto type = tensorOf(a.getInput()), like = tensorOf(a.getLike());
  types.push_back(
      type.clone({product(like.getDimSize(0), like.getDimSize(1)),
                  quotient(type.getDimSize(1), like.getDimSize(1)), type.getDimSize(2)}));
  return success();
}

LogicalResult TakeTokensOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                             Types &types) {
  if (failed(expectRank(loc, "take_tokens", "input", a.getInput(), 3, 3)) ||
      failed(expectRank(loc, "take_tokens", "tokens", a.getTokens(), 2, 2)))
    return failure();
  auto type = tensorOf(a.getInput());
  types.push_back(
      type.clone({type.getDimSize(0), tensorOf(a.getTokens()).getDimSize(1), type.getDimSize(2)}));
  return success();
}

LogicalResult LinearLseOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  if (failed(expectRank(loc, "linear_lse", "input", a.getInput(), 1)))
    return failure();
  auto input = tensorOf(a.getInput());
  types.push_back(RankedTensorType::get(withLast(input, a.getParts()), a.getStatistics()));
  types.push_back(RankedTensorType::get(input.getShape().drop_back(), a.getStatistics()));
  return success();
}

LogicalResult LinearLseGradOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(tensorOf(a.getInput()).clone(a.getElementType()));
  types.push_back(tensorOf(a.getWeight()).clone(a.getAccumulation()));
  return success();
}

// Ops with one value per row of logits.
template <typename Adaptor>
static LogicalResult perRow(Location_ loc, StringRef op, Adaptor a, Types &types) {
  if (failed(expectRank(loc, op, "logits", a.getLogits(), 1)))
    return failure();
  types.push_back(
      RankedTensorType::get(tensorOf(a.getLogits()).getShape().drop_back(), a.getStatistics()));
  return success();
}
LogicalResult RowMaxOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  return perRow(loc, "row_max", a, types);
}
LogicalResult RowSumExpOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a, Types &types) {
  return perRow(loc, "row_sum_exp", a, types);
}
LogicalResult TargetLogitOp::inferReturnTypes(MLIRContext *, Location_ loc, Adaptor a,
                                              Types &types) {
  return perRow(loc, "target_logit", a, types);
}

LogicalResult TargetLogitGradOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a,
                                                  Types &types) {
  SmallVector<int64_t> shape(tensorOf(a.getLabels()).getShape());
  shape.push_back(a.getSize());
  types.push_back(RankedTensorType::get(shape, a.getElementType()));
  return success();
}

LogicalResult CrossEntropyOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(tensorOf(a.getSum()).clone({1}));
  return success();
}

LogicalResult CrossEntropyGradOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a,
                                                   Types &types) {
  types.append(2, a.getSum().getType());
  return success();
}

LogicalResult SumOfSquaresOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(tensorOf(a.getInput()).clone({1}));
  return success();
}

LogicalResult AddOnceOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(a.getSum().getType());
  return success();
}

LogicalResult ClipNormOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.push_back(tensorOf(a.getGiven()).clone(a.getElementType()));
  return success();
}

LogicalResult AdamWOp::inferReturnTypes(MLIRContext *, Location_, Adaptor a, Types &types) {
  types.append({a.getMaster().getType(), a.getMoment1().getType(), a.getMoment2().getType()});
  return success();
}
