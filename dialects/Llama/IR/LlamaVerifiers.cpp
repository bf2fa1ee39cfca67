//===- LlamaVerifiers.cpp - Constraints of the llama ops ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One check per numbered constraint of an op's description. A check returns
// whether the constraint holds and reports if not; those of an op are joined by
// `&&`, so that a later one may rely on the ranks an earlier one has seen.
// Dynamic dimensions agree with every size.
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

#include <numeric>

using namespace mlir;
using namespace mlir::llama;

using Sizes = ArrayRef<int64_t>;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static Sizes sizesOf(Value value) { return tensorOf(value).getShape(); }
static Type elementOf(Value value) { return tensorOf(value).getElementType(); }

static std::string text(Sizes sizes) {
  std::string result = "[";
  llvm::raw_string_ostream os(result);
  llvm::interleaveComma(sizes, os, [&](int64_t size) {
    if (ShapedType::isDynamic(size))
      os << '?';
    else
      os << size;
  });
  return result + "]";
}

static bool agree(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b;
}

static bool agree(Sizes a, Sizes b) {
  return a.size() == b.size() && llvm::all_of(llvm::zip(a, b), [](auto p) {
           return agree(std::get<0>(p), std::get<1>(p));
         });
}

static bool isFloat(Type type) { return type.isF32() || type.isBF16() || type.isF64(); }

// Product, dynamic if a factor is.
static int64_t times(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) ? ShapedType::kDynamic : a * b;
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

static bool hasRank(Operation *op, StringRef name, Value value, int64_t rank) {
  if (tensorOf(value).getRank() == rank)
    return true;
  op->emitOpError("expects ") << name << " of rank " << rank << ", but got rank "
                              << tensorOf(value).getRank();
  return false;
}

static bool hasRankAtLeast(Operation *op, StringRef name, Value value, int64_t rank) {
  if (tensorOf(value).getRank() >= rank)
    return true;
  op->emitOpError("expects ") << name << " of rank " << rank << " or more, but got rank "
                              << tensorOf(value).getRank();
  return false;
}

// `what` is of `got`, e.g. "weight size"; `rule` of `wanted`, e.g. "the last input
// dimension".
static bool isSize(Operation *op, StringRef what, int64_t got, StringRef rule, int64_t wanted) {
  if (agree(got, wanted))
    return true;
  op->emitOpError("expects ") << what << " to equal " << rule << " " << wanted << ", but got "
                              << got;
  return false;
}

static bool hasShape(Operation *op, StringRef name, Value value, StringRef rule, Sizes wanted) {
  if (agree(sizesOf(value), wanted))
    return true;
  op->emitOpError("expects the shape of ")
      << name << " to be " << rule << " " << text(wanted) << ", but got " << text(sizesOf(value));
  return false;
}

static bool divides(Operation *op, StringRef name, int64_t divisor, StringRef of, int64_t size) {
  if (ShapedType::isDynamic(size) || ShapedType::isDynamic(divisor) ||
      (divisor > 0 && size % divisor == 0))
    return true;
  op->emitOpError("expects ") << name << " to divide " << of << " " << size << ", but got "
                              << divisor;
  return false;
}

static bool hasOneElement(Operation *op, StringRef name, Value value) {
  return hasShape(op, name, value, "that of one element", {1});
}

static bool hasElementType(Operation *op, StringRef name, Value value, StringRef of, Value other) {
  if (elementOf(value) == elementOf(other))
    return true;
  op->emitOpError("expects ") << name << " to have the element type of " << of << " "
                              << elementOf(other) << ", but got " << elementOf(value);
  return false;
}

// One type, where dynamic dimensions agree with static ones.
static bool hasType(Operation *op, StringRef name, Value value, StringRef of, Value other) {
  if (elementOf(value) == elementOf(other) && agree(sizesOf(value), sizesOf(other)))
    return true;
  op->emitOpError("expects ") << name << " to have the type of " << of << " " << other.getType()
                              << ", but got " << value.getType();
  return false;
}

static bool isNotNegative(Operation *op, StringRef name, const APFloat &value) {
  if (value.convertToDouble() >= 0)
    return true;
  op->emitOpError("expects ") << name << " of at least 0, but got " << value.convertToDouble();
  return false;
}

static bool isNotNegative(Operation *op, StringRef name, int64_t value) {
  if (value >= 0)
    return true;
  op->emitOpError("expects ") << name << " of at least 0, but got " << value;
  return false;
}

static bool isNotNegative(Operation *op, StringRef name, std::optional<int64_t> value) {
  return !value || isNotNegative(op, name, *value);
}

// The weight of a norm: one number per channel of `input`.
static bool isPerChannel(Operation *op, StringRef name, Value weight, Value input) {
  return isSize(op, (name + " size").str(), sizesOf(weight)[0], "the last input dimension",
                sizesOf(input).back());
}

static bool isPerRow(Operation *op, StringRef name, Value value, StringRef of, Value rows) {
  return hasRankAtLeast(op, of, rows, 1) &&
         hasShape(op, name, value, ("that of " + of + " without the last dimension").str(),
                  sizesOf(rows).drop_back());
}

// What every op promises beside its constraints: types in which it computes are
// types it can compute in.
static LogicalResult verified(Operation *op, bool constraints) {
  if (!constraints)
    return failure();
  for (StringRef name : {"statistics", "accumulation", "element_type"})
    if (auto type = op->getAttrOfType<TypeAttr>(name))
      if (!isFloat(type.getValue()))
        return op->emitOpError("expects ")
               << name << " f32, bf16 or f64, but got " << type.getValue();
  return success();
}

//===----------------------------------------------------------------------===//
// Parameter
//===----------------------------------------------------------------------===//

LogicalResult ParameterOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getType());
  if (!type || !type.hasStaticShape() || !isFloat(type.getElementType())) // parameter_c1
    return emitOpError("expects a static tensor of f32, bf16 or f64, but got ") << getType();
  auto elementsOf = [](Sizes sizes) {
    return std::accumulate(sizes.begin(), sizes.end(), int64_t(1), std::multiplies<>());
  };
  if (auto shape = getCheckpointShape()) {
    ArrayRef<int64_t> whole = getGlobalShape().value_or(type.getShape());
    int64_t elements = elementsOf(whole);
    bool isPadded = shape->size() == whole.size() &&
                    llvm::all_of_zip(*shape, whole, [](int64_t a, int64_t b) { return a <= b; });
    if (elementsOf(*shape) != elements && !isPadded) // parameter_c2
      return emitOpError("expects checkpoint_shape to have ")
             << elements << " elements, but got " << elementsOf(*shape);
  }
  if (getRowBegin() && !getKey()) // parameter_c3
    return emitOpError("expects row_begin to come with key");
  if (bool(getSplit()) != bool(getGlobalShape())) // parameter_c4
    return emitOpError("expects split and global_shape to come together");
  if (getSplit() && (int64_t(getSplit()->size()) != type.getRank() ||
                     int64_t(getGlobalShape()->size()) != type.getRank())) // parameter_c4
    return emitOpError("expects split and global_shape to have ")
           << type.getRank() << " entries, but got " << getSplit()->size() << " and "
           << getGlobalShape()->size();
  return success();
}

//===----------------------------------------------------------------------===//
// Embedding, norms, linear layers
//===----------------------------------------------------------------------===//

LogicalResult EmbedOp::verify() {
  Operation *op = *this;
  return verified(op,
                  hasRank(op, "table", getTable(), 2) &&                                // embed_c1
                      isNotNegative(op, "offset", static_cast<int64_t>(getOffset())) && // embed_c2
                      isNotNegative(op, "padding_index", getPaddingIndex()));           // embed_c3
}

LogicalResult ShiftIndexOp::verify() {
  Operation *op = *this;
  return verified(op, hasOneElement(op, "coordinate", getCoordinate()) &&         // shift_index_c1
                          isNotNegative(op, "padding_index", getPaddingIndex())); // shift_index_c2
}

LogicalResult EmbedGradOp::verify() {
  Operation *op = *this;
  return verified(op, isPerRow(op, "ids", getIds(), "cotangent", getCotangent()) && // embed_grad_c1
                          isNotNegative(op, "offset",
                                        static_cast<int64_t>(getOffset()))); // embed_grad_c2
}

LogicalResult RMSNormOp::verify() {
  Operation *op = *this;
  return verified(op, hasRankAtLeast(op, "input", getInput(), 1) && // rms_norm_c1
                          hasRank(op, "weight", getWeight(), 1) &&
                          isPerChannel(op, "weight", getWeight(), getInput()) && // rms_norm_c2
                          isNotNegative(op, "epsilon", getEpsilon()));           // rms_norm_c3
}

// C1 and C2 of the gradients of norms for their input.
template <typename Op> static LogicalResult verifyNormDx(Op op) {
  return verified(op, hasShape(op, "cotangent", op.getCotangent(), "that of input",
                               sizesOf(op.getInput())) && // rms_norm_dx_c1, layer_norm_dx_c1
                          hasRankAtLeast(op, "input", op.getInput(), 1) &&
                          hasRank(op, "weight", op.getWeight(), 1) &&
                          isPerChannel(op, "weight", op.getWeight(),
                                       op.getInput())); // rms_norm_dx_c2, layer_norm_dx_c2
}
LogicalResult RMSNormDxOp::verify() { return verifyNormDx(*this); }
LogicalResult LayerNormDxOp::verify() { return verifyNormDx(*this); }

LogicalResult RMSNormDwOp::verify() {
  return verified(*this, hasShape(*this, "cotangent", getCotangent(), "that of input",
                                  sizesOf(getInput()))); // rms_norm_dw_c1
}

LogicalResult LayerNormDwOp::verify() {
  return verified(*this, hasShape(*this, "cotangent", getCotangent(), "that of input",
                                  sizesOf(getInput()))); // layer_norm_dw_c1
}

LogicalResult LayerNormOp::verify() {
  Operation *op = *this;
  return verified(op, hasRankAtLeast(op, "input", getInput(), 1) && // layer_norm_c1
                          hasRank(op, "weight", getWeight(), 1) &&
                          hasRank(op, "bias", getBias(), 1) &&
                          isPerChannel(op, "weight", getWeight(), getInput()) && // layer_norm_c2
                          isPerChannel(op, "bias", getBias(), getInput()) &&
                          isNotNegative(op, "epsilon", getEpsilon())); // layer_norm_c3
}

LogicalResult SumRowsOp::verify() {
  return verified(*this, hasRankAtLeast(*this, "input", getInput(), 1)); // sum_rows_c1
}

LogicalResult LinearOp::verify() {
  Operation *op = *this;
  bool holds = hasRankAtLeast(op, "input", getInput(), 1) && // linear_c1
               hasRank(op, "weight", getWeight(), 2) &&
               isSize(op, "the last weight dimension", sizesOf(getWeight())[1],
                      "the last input dimension", sizesOf(getInput()).back()); // linear_c2
  if (holds && getBias())
    holds = hasShape(op, "bias", getBias(), "one number per row of weight",
                     {sizesOf(getWeight())[0]}) &&                      // linear_c3
            hasElementType(op, "bias", getBias(), "input", getInput()); // linear_c4
  return verified(op, holds && hasElementType(op, "weight", getWeight(), "input",
                                              getInput())); // linear_c4
}

LogicalResult LinearDxOp::verify() {
  Operation *op = *this;
  return verified(op, hasRankAtLeast(op, "cotangent", getCotangent(), 1) &&
                          hasRank(op, "weight", getWeight(), 2) && // linear_dx_c1
                          isSize(op, "the first weight dimension", sizesOf(getWeight())[0],
                                 "the last cotangent dimension",
                                 sizesOf(getCotangent()).back()) && // linear_dx_c2
                          hasElementType(op, "weight", getWeight(), "cotangent",
                                         getCotangent())); // linear_dx_c3
}

LogicalResult LinearDwOp::verify() {
  Operation *op = *this;
  auto rows = [](Value value) { return sizesOf(value).drop_back(); };
  bool holds = hasRankAtLeast(op, "cotangent", getCotangent(), 1) &&
               hasRankAtLeast(op, "input", getInput(), 1);
  if (holds && !agree(rows(getCotangent()), rows(getInput()))) // linear_dw_c1
    return emitOpError("expects cotangent to have the rows of input ")
           << text(rows(getInput())) << ", but got " << text(rows(getCotangent()));
  return verified(op, holds && hasElementType(op, "cotangent", getCotangent(), "input",
                                              getInput())); // linear_dw_c2
}

//===----------------------------------------------------------------------===//
// Rotary positions, heads, attention
//===----------------------------------------------------------------------===//

LogicalResult RopeTableOp::verify() {
  if (!hasRank(*this, "positions", getPositions(), 2)) // rope_table_c1
    return failure();
  if (getFrequencies().empty()) // rope_table_c2
    return emitOpError("expects at least one frequency, but got none");
  return verified(*this, true);
}

LogicalResult RopeOp::verify() {
  Operation *op = *this;
  if (!hasRank(op, "input", getInput(), 4) || !hasRank(op, "table", getTable(), 4)) // rope_c1
    return failure();
  auto input = sizesOf(getInput()), table = sizesOf(getTable());
  return verified(
      op,
      isSize(op, "table dimension 2", table[2], "cosine and sine,", 2) && // rope_c1
          isSize(op, "table dimension 0", table[0], "input dimension 0",
                 input[0]) && // rope_c2
          isSize(op, "table dimension 1", table[1], "input dimension 1", input[1]) &&
          isSize(op, "twice table dimension 3", times(2, table[3]), "input dimension 3", input[3]));
}

LogicalResult SplitHeadsOp::verify() {
  return verified(*this, hasRankAtLeast(*this, "input", getInput(), 1) &&
                             divides(*this, "head_size", getHeadSize(), "the last input dimension",
                                     sizesOf(getInput()).back())); // split_heads_c1
}

LogicalResult MergeHeadsOp::verify() {
  return verified(*this, hasRankAtLeast(*this, "input", getInput(), 2)); // merge_heads_c1
}

// The constraints of llama.attention, for it and its gradient.
template <typename Op> static bool isAttention(Op attention) {
  Operation *op = attention;
  Value query = attention.getQuery(), key = attention.getKey(), value = attention.getValue();
  if (!hasRank(op, "query", query, 4) || !hasRank(op, "key", key, 4) || // attention_c1
      !hasRank(op, "value", value, 4) || !hasType(op, "value", value, "key", key) ||
      !hasElementType(op, "key", key, "query", query) ||
      !isSize(op, "key batch", sizesOf(key)[0], "query batch", sizesOf(query)[0]) ||
      !isSize(op, "key head size", sizesOf(key)[3], "query head size", sizesOf(query)[3]))
    return false;
  auto q = sizesOf(query), k = sizesOf(key);
  if (!divides(op, "key heads", k[2], "query heads", q[2])) // attention_c2
    return false;

  auto masks = attention.getMasks();
  bool causal = attention.getMask() == Mask::Causal, encoder = attention.getMask() == Mask::Encoder;
  size_t wanted = causal ? 4 : encoder ? 2 : 3;
  if (masks.size() != wanted) { // attention_c3
    op->emitOpError("expects ") << wanted << " masks for '" << stringifyMask(attention.getMask())
                                << "', but got " << masks.size();
    return false;
  }
  auto perQuery = [&](StringRef name, Value mask) {
    return hasShape(op, name, mask, "that of the query rows", q.take_front(2));
  };
  auto perKey = [&](StringRef name, Value mask) {
    return hasShape(op, name, mask, "that of the key rows", k.take_front(2));
  };
  if (causal)
    return perQuery("positions", masks[0]) && perQuery("documents", masks[1]) &&
           perKey("key_positions", masks[2]) && perKey("key_documents", masks[3]);
  int64_t count = attention.getTileCount(), stride = attention.getTileStride(),
          tokens = attention.getTileTokens();
  if (count <= 0 || tokens <= 0 || (encoder && stride < tokens)) { // attention_c4
    op->emitOpError("expects tile_count and tile_tokens above 0")
        << (encoder ? " and tile_stride not below tile_tokens" : "") << ", but got " << count
        << ", " << tokens << (encoder ? " and " : "") << (encoder ? std::to_string(stride) : "");
    return false;
  }
  if (encoder)
    return hasRank(op, "tiles", masks[0], 2) && // attention_c3
           isSize(op, "images of tiles", times(sizesOf(masks[0])[0], sizesOf(masks[0])[1]),
                  "query batch", q[0]) &&
           hasShape(op, "positions", masks[1], "one row of the queries", {1, q[1]}) &&
           isSize(op, "keys", k[1], "tile_count * tile_stride", count * stride); // attention_c4
  return perQuery("begin", masks[0]) && perQuery("end", masks[1]) &&             // attention_c3
         hasRank(op, "tiles", masks[2], 2) &&
         isSize(op, "batch of tiles", sizesOf(masks[2])[0], "query batch", q[0]) &&
         isSize(op, "keys", k[1], "images * tile_count * tile_tokens", // attention_c4
                times(sizesOf(masks[2])[1], count * tokens));
}

LogicalResult AttentionOp::verify() { return verified(*this, isAttention(*this)); }

LogicalResult AttentionGradOp::verify() {
  Operation *op = *this;
  auto query = sizesOf(getQuery());
  return verified(
      op, hasShape(op, "cotangent", getCotangent(), "that of query", query) && // attention_grad_c1
              hasShape(op, "output", getOutput(), "that of query", query) &&
              isPerRow(op, "lse", getLse(), "query", getQuery()) && // attention_grad_c2
              isAttention(*this));                                  // attention_grad_c3
}

//===----------------------------------------------------------------------===//
// Feed-forward, residual
//===----------------------------------------------------------------------===//

LogicalResult SwiGLUOp::verify() {
  return verified(*this, hasType(*this, "up", getUp(), "gate", getGate())); // swiglu_c1
}

LogicalResult SwiGLUGradOp::verify() {
  return verified(
      *this, hasType(*this, "gate", getGate(), "cotangent", getCotangent()) && // swiglu_grad_c1
                 hasType(*this, "up", getUp(), "cotangent", getCotangent()));
}

// gelu_c1 is a consequence of result type inference.
LogicalResult GeluOp::verify() { return verified(*this, true); }

LogicalResult GeluGradOp::verify() {
  return verified(*this, hasType(*this, "cotangent", getCotangent(), "input",
                                 getInput())); // gelu_grad_c1
}

LogicalResult AddOp::verify() {
  return verified(*this, hasShape(*this, "rhs", getRhs(), "that of lhs",
                                  sizesOf(getLhs()))); // add_c1
}

LogicalResult CastOp::verify() { return verified(*this, true); } // cast_c1

// `masks` are none, or begin and end of each row of `rows`.
template <typename Op> static bool hasRowMasks(Op op, StringRef name, Value rows) {
  size_t wanted = op.getRows() == RowMask::None ? 0 : 2;
  if (op.getMasks().size() != wanted) {
    op->emitOpError("expects ") << wanted << " masks for '" << stringifyRowMask(op.getRows())
                                << "', but got " << op.getMasks().size();
    return false;
  }
  return wanted == 0 || (isPerRow(op, "begin", op.getMasks()[0], name, rows) &&
                         isPerRow(op, "end", op.getMasks()[1], name, rows));
}

LogicalResult GatedResidualOp::verify() {
  Operation *op = *this;
  return verified(op,
                  hasType(op, "branch", getBranch(), "input", getInput()) && // gated_residual_c1
                      hasOneElement(op, "gate", getGate()) &&                // gated_residual_c2
                      hasRowMasks(*this, "input", getInput()));              // gated_residual_c3
}

LogicalResult GatedResidualGradOp::verify() {
  return verified(*this, hasOneElement(*this, "gate", getGate()) && // gated_residual_grad_c1
                             hasRowMasks(*this, "cotangent",
                                         getCotangent())); // gated_residual_grad_c2
}

LogicalResult GateGradOp::verify() {
  Operation *op = *this;
  return verified(op,
                  hasType(op, "branch", getBranch(), "cotangent", getCotangent()) && // gate_grad_c1
                      hasOneElement(op, "gate", getGate()) &&                        // gate_grad_c2
                      hasRowMasks(*this, "cotangent", getCotangent()));              // gate_grad_c3
}

//===----------------------------------------------------------------------===//
// Vision
//===----------------------------------------------------------------------===//

LogicalResult PatchifyOp::verify() {
  Operation *op = *this;
  if (!hasRank(op, "pixels", getPixels(), 6)) // patchify_c1
    return failure();
  auto sizes = sizesOf(getPixels());
  return verified(op,
                  isSize(op, "pixel columns", sizes[5], "pixel rows", sizes[4]) && // patchify_c1
                      divides(op, "patch_size", getPatchSize(), "the tile side",
                              sizes[4])); // patchify_c2
}

// The constraints of llama.tile_embed_add; `rows` is input or cotangent.
static bool isTileEmbed(Operation *op, StringRef name, Value rows, Value table, Value gate,
                        Value ids) {
  return hasRank(op, name, rows, 3) && hasRank(op, "table", table, 3) && // tile_embed_add_c1
         hasRank(op, "ids", ids, 2) &&
         isSize(op, "images of ids", times(sizesOf(ids)[0], sizesOf(ids)[1]),
                (name + " dimension 0").str(), sizesOf(rows)[0]) &&
         isSize(op, "table width", sizesOf(table)[2], (name + " width").str(),
                sizesOf(rows)[2]) && // tile_embed_add_c2
         divides(op, "table dimension 1", sizesOf(table)[1], (name + " dimension 1").str(),
                 sizesOf(rows)[1]) &&     // tile_embed_add_c3
         hasOneElement(op, "gate", gate); // tile_embed_add_c4
}

LogicalResult TileEmbedAddOp::verify() {
  return verified(*this, isTileEmbed(*this, "input", getInput(), getTable(), getGate(), getIds()));
}

LogicalResult TileEmbedGradOp::verify() {
  return verified(*this, isTileEmbed(*this, "cotangent", getCotangent(), getTable(), getGate(),
                                     getIds())); // tile_embed_grad_c1
}

// Tokens of `tiles` tiles: [A, tiles * tokens, C].
static bool isTiled(Operation *op, Value input, int64_t tiles) {
  return hasRank(op, "input", input, 3) &&
         divides(op, "tiles", tiles, "input dimension 1", sizesOf(input)[1]);
}

LogicalResult PrependClassOp::verify() {
  Operation *op = *this;
  return verified(op, hasRank(op, "input", getInput(), 3) && // prepend_class_c1
                          hasRank(op, "token", getToken(), 1) &&
                          isPerChannel(op, "token", getToken(), getInput()) &&
                          isTiled(op, getInput(), getTiles())); // prepend_class_c2
}

LogicalResult DropClassOp::verify() { // drop_class_c1, drop_class_c2
  return verified(*this, isTiled(*this, getInput(), getTiles()));
}

LogicalResult TakeClassOp::verify() { // take_class_c1, take_class_c2
  return verified(*this, isTiled(*this, getInput(), getTiles()));
}

// The constraints of llama.position_embed_add; `rows` is input or cotangent.
static bool isPositionEmbed(Operation *op, StringRef name, Value rows, Value table, Value gate) {
  return hasRank(op, name, rows, 3) && hasRank(op, "table", table, 2) && // position_embed_add_c1
         isSize(op, "table width", sizesOf(table)[1], (name + " width").str(), sizesOf(rows)[2]) &&
         divides(op, "table dimension 0", sizesOf(table)[0], (name + " dimension 1").str(),
                 sizesOf(rows)[1]) &&     // position_embed_add_c2
         hasOneElement(op, "gate", gate); // position_embed_add_c3
}

LogicalResult PositionEmbedAddOp::verify() {
  return verified(*this, isPositionEmbed(*this, "input", getInput(), getTable(), getGate()));
}

LogicalResult PositionEmbedGradOp::verify() {
  return verified(*this, isPositionEmbed(*this, "cotangent", getCotangent(), getTable(),
                                         getGate())); // position_embed_grad_c1
}

LogicalResult PadTokensOp::verify() { // pad_tokens_c1, pad_tokens_c2
  return verified(*this, isTiled(*this, getInput(), getTiles()));
}

LogicalResult DropTokensOp::verify() {
  if (!isTiled(*this, getInput(), getTiles())) // drop_tokens_c1, drop_tokens_c2
    return failure();
  int64_t size = sizesOf(getInput())[1], tokens = getTokens(), tiles = getTiles();
  if (!ShapedType::isDynamic(size) && tokens > size / tiles) // drop_tokens_c3
    return emitOpError("expects at most the ")
           << size / tiles << " tokens of a tile, but got " << tokens;
  return success();
}

LogicalResult TapConcatOp::verify() {
  return verified(*this, llvm::all_of(getTaps(), [&](Value tap) {
    return hasType(*this, "tap", tap, "final", getFinal()); // tap_concat_c1
  }));
}

LogicalResult TapSplitOp::verify() {
  int64_t taps = getTaps();
  return verified(*this, isNotNegative(*this, "taps", taps) && // tap_split_c1
                             hasRankAtLeast(*this, "input", getInput(), 1) &&
                             divides(*this, "taps + 1", taps + 1, "the last input dimension",
                                     sizesOf(getInput()).back()));
}

LogicalResult ImagesToTokensOp::verify() {
  Operation *op = *this;
  if (!hasRank(op, "input", getInput(), 3) || !hasRank(op, "like", getLike(), 2))
    return failure(); // images_to_tokens_c1
  auto like = sizesOf(getLike());
  return verified(op,
                  isSize(op, "input dimension 0", sizesOf(getInput())[0], "the number of images",
                         times(like[0], like[1]))); // images_to_tokens_c2
}

LogicalResult TokensToImagesOp::verify() {
  Operation *op = *this;
  if (!hasRank(op, "input", getInput(), 3) || !hasRank(op, "like", getLike(), 2))
    return failure(); // tokens_to_images_c1
  auto input = sizesOf(getInput()), like = sizesOf(getLike());
  return verified(op, isSize(op, "input dimension 0", input[0], "like dimension 0", like[0]) &&
                          divides(op, "like dimension 1", like[1], "input dimension 1",
                                  input[1])); // tokens_to_images_c2
}

//===----------------------------------------------------------------------===//
// Loss, optimizer
//===----------------------------------------------------------------------===//

LogicalResult RowMaxOp::verify() {
  return verified(*this, hasRankAtLeast(*this, "logits", getLogits(), 1)); // row_max_c1
}

LogicalResult RowSumExpOp::verify() {
  return verified(*this, isPerRow(*this, "maximum", getMaximum(), "logits",
                                  getLogits())); // row_sum_exp_c1
}

LogicalResult RowSumExpGradOp::verify() {
  Operation *op = *this; // row_sum_exp_grad_c1
  return verified(op, isPerRow(op, "cotangent", getCotangent(), "logits", getLogits()) &&
                          isPerRow(op, "maximum", getMaximum(), "logits", getLogits()));
}

LogicalResult TargetLogitOp::verify() {
  return verified(*this, isPerRow(*this, "labels", getLabels(), "logits",
                                  getLogits())); // target_logit_c1
}

LogicalResult TargetLogitGradOp::verify() {
  return verified(*this, hasShape(*this, "cotangent", getCotangent(), "that of labels",
                                  sizesOf(getLabels()))); // target_logit_grad_c1
}

// What llama.linear_lse and its gradient want alike.
template <typename Op> static bool isLinearLse(Op op) {
  Operation *at = op;
  Value input = op.getInput(), weight = op.getWeight();
  bool holds = hasRankAtLeast(at, "input", input, 1) && hasRank(at, "weight", weight, 2) &&
               isSize(at, "the last weight dimension", sizesOf(weight)[1],
                      "the last input dimension", sizesOf(input).back()) && // linear_lse_c1
               hasElementType(at, "weight", weight, "input", input) &&
               isPerRow(at, "labels", op.getLabels(), "input", input); // linear_lse_c2
  if (holds && op.getBias())
    holds = hasShape(at, "bias", op.getBias(), "one number per row of weight",
                     {sizesOf(weight)[0]}) && // linear_lse_c3
            hasElementType(at, "bias", op.getBias(), "input", input);
  return holds && isNotNegative(at, "chunk", int64_t(op.getChunk())); // linear_lse_c5
}

LogicalResult LinearLseOp::verify() {
  return verified(*this, isLinearLse(*this) &&
                             divides(*this, "parts", int64_t(getParts()), "weight dimension 0",
                                     sizesOf(getWeight())[0])); // linear_lse_c4
}

LogicalResult LinearLseGradOp::verify() {
  Operation *op = *this;
  return verified(
      op, isLinearLse(*this) &&                                              // linear_lse_grad_c3
              isPerRow(op, "d_target", getDTarget(), "input", getInput()) && // linear_lse_grad_c2
              isPerRow(op, "labels", getLabels(), "lse", getLse()) &&        // linear_lse_grad_c1
              hasShape(op, "d_lse", getDLse(), "that of lse", sizesOf(getLse())) &&
              divides(op, "the last lse dimension", sizesOf(getLse()).back(), "weight dimension 0",
                      sizesOf(getWeight())[0]));
}

LogicalResult TakeTokensOp::verify() {
  Operation *op = *this; // take_tokens_c1
  return verified(op, hasRank(op, "input", getInput(), 3) &&
                          hasRank(op, "tokens", getTokens(), 2) &&
                          isSize(op, "tokens dimension 0", sizesOf(getTokens())[0],
                                 "input dimension 0", sizesOf(getInput())[0]));
}

LogicalResult CrossEntropyOp::verify() {
  Operation *op = *this; // cross_entropy_c1
  return verified(op, hasType(op, "maximum", getMaximum(), "sum", getSum()) &&
                          hasType(op, "target", getTarget(), "sum", getSum()) &&
                          hasShape(op, "labels", getLabels(), "that of sum", sizesOf(getSum())));
}

LogicalResult CrossEntropyGradOp::verify() {
  Operation *op = *this;
  return verified(op, hasOneElement(op, "cotangent", getCotangent()) && // cross_entropy_grad_c1
                          hasShape(op, "sum", getSum(), "that of labels",
                                   sizesOf(getLabels()))); // cross_entropy_grad_c2
}

LogicalResult SumOfSquaresOp::verify() {
  if (!hasRank(*this, "input", getInput(), 1)) // sum_of_squares_c1
    return failure();
  int64_t size = sizesOf(getInput())[0];
  if (!ShapedType::isDynamic(size) && size % 1024 != 0) // sum_of_squares_c2
    return emitOpError("expects a multiple of 1024 elements, but got ") << size;
  return success();
}

LogicalResult AddOnceOp::verify() {
  Operation *op = *this;
  return verified(op, hasShape(op, "sum", getSum(), "that of one number", {1}) && // add_once_c1
                          hasShape(op, "value", getValue(), "that of one number", {1}) &&
                          hasShape(op, "factor", getFactor(), "that of one number", {1}));
}

LogicalResult ClipNormOp::verify() {
  Operation *op = *this;
  return verified(op,
                  hasShape(op, "sums", getSums(), "that of two numbers", {2}) && // clip_norm_c1
                      hasShape(op, "given", getGiven(), "that of eight numbers", {8}) &&
                      hasElementType(op, "given", getGiven(), "sums", getSums())); // clip_norm_c2
}

LogicalResult AdamWOp::verify() {
  Operation *op = *this;
  if (!hasRank(op, "master", getMaster(), 1)) // adamw_c1
    return failure();
  auto shape = sizesOf(getMaster());
  return verified(
      op, hasShape(op, "moment1", getMoment1(), "that of master", shape) && // adamw_c1
              hasShape(op, "moment2", getMoment2(), "that of master", shape) &&
              hasShape(op, "gradient", getGradient(), "that of master", shape) &&
              hasShape(op, "hyperparameters", getHyperparameters(), "that of eight numbers",
                       {8}) &&                                                      // adamw_c2
              hasElementType(op, "moment1", getMoment1(), "master", getMaster()) && // adamw_c3
              hasElementType(op, "moment2", getMoment2(), "master", getMaster()) &&
              hasElementType(op, "hyperparameters", getHyperparameters(), "master", getMaster()));
}
