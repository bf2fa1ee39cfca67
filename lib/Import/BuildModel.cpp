//===- BuildModel.cpp - Model description to model graph ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A block is written once: its inputs, its weights by the end of their
// checkpoint keys, its body. Applying it with a key prefix declares the
// parameters `prefix + end`. `@model` then reads like the forward pass:
//
//   pixels -> vision_embedding -> n x vision_layer -> vision_middle
//          -> m x vision_global_layer -> vision_output = image states Z
//   ids -> embedding -> (self_layer | cross_key_value(Z), cross_layer)... -> head
//
// Shapes: B samples, S text tokens, M images per sample, A = B * M, T tile
// slots, R tile size, p patch size, n tokens of a tile, D text width, Dv encoder
// width, V vocabulary, H heads, K key and value heads, hd head size.
//
// Source: llama3-vision specification B4, C, D1 (forward) and E1 (keys).
//
//===----------------------------------------------------------------------===//
#include "llamac/Import/BuildModel.h"

#include "dialects/Llama/IR/Llama.h"
#include "runtime/include/llrt/ProgramFields.h"

#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/StringSet.h"

#include <cmath>

using namespace mlir;
using namespace mlir::llama;
using namespace mlir::llamac;

namespace {

constexpr int64_t kAny = ShapedType::kDynamic;
constexpr Initializer kNormal = Initializer::Normal, kOnes = Initializer::Ones,
                      kZeros = Initializer::Zeros, kGate = Initializer::Gate;

/// A weight of a block.
struct Weight {
  std::string key; ///< end of the checkpoint key
  SmallVector<int64_t> shape;
  Initializer initializer = kNormal;
  /// Shape in the checkpoint, where that is another view of the elements.
  SmallVector<int64_t> checkpointShape = {};
  /// If given: rows [rowBegin, rowBegin + shape[0]) of the checkpoint tensor.
  std::optional<int64_t> rowBegin = {};
};

struct Input {
  StringRef name;
  Type type;
};

class ModelBuilder {
public:
  ModelBuilder(const ModelConfig &config, bool withImages, MLIRContext *context)
      : config(config), text(config.text), isTextOnly(config.vision && !withImages),
        builder(UnknownLoc::get(context), context), f32(builder.getF32Type()),
        indices(RankedTensorType::get({kAny, kAny}, builder.getI64Type())) {}

  OwningOpRef<ModuleOp> build();

private:
  bool hasImages() const { return config.vision && !isTextOnly; }
  /// Adds the block @name of `part` of the model (see kPartAttr). `body` gets
  /// its inputs and weights and returns its results.
  using Body = llvm::function_ref<SmallVector<Value>(ValueRange in, ValueRange w)>;
  func::FuncOp addBlock(StringRef name, ArrayRef<Input> inputs, std::vector<Weight> weights,
                        Body body, StringRef part = "");
  /// Applies @block, in @model, to the parameters whose keys begin with
  /// `prefix`; declares those not known yet.
  SmallVector<Value> apply(StringRef block, ValueRange inputs, const Twine &prefix);
  FlatSymbolRefAttr declare(const Weight &weight, StringRef prefix);

  void addTextBlocks();
  void addCrossBlocks();
  void addVisionBlocks();
  void addVisionLayer(StringRef name, bool isGated);
  /// Inputs of @model, by name.
  func::FuncOp addModel();
  Value encodeImages();
  DictionaryAttr computation();
  void describe();

  // Ops, with the types of this form.
  Value linear(Value x, Value w, Value bias = {}) {
    return LinearOp::create(builder, x, w, bias, f32, TypeAttr());
  }
  Value rmsNorm(Value x, Value w) {
    return RMSNormOp::create(builder, x, w, APFloat(text.epsilon), f32);
  }
  Value layerNorm(Value x, Value w, Value bias, double epsilon) {
    return LayerNormOp::create(builder, x, w, bias, APFloat(epsilon), f32);
  }
  Value add(Value x, Value y) { return AddOp::create(builder, x, y, TypeAttr()); }
  Value heads(Value x, int64_t size) { return SplitHeadsOp::create(builder, x, size); }
  Value gated(Value x, Value branch, Value gate, ValueRange masks, llama::RowMask rows) {
    return GatedResidualOp::create(builder, x, branch, gate, masks, rows, f32);
  }
  Value tileEmbed(Value x, Value table, Value gate, Value ids) {
    return TileEmbedAddOp::create(builder, x, table, gate, ids, f32);
  }
  /// Tokens are `tileCount` tiles of `stride`, `tokens` of them real.
  Value attention(Value q, Value k, Value v, ValueRange masks, Mask mask, int64_t headSize,
                  int64_t tileCount = 0, int64_t stride = 0, int64_t tokens = 0) {
    auto op =
        AttentionOp::create(builder, q, k, v, masks, mask, APFloat(1 / std::sqrt(double(headSize))),
                            tileCount, stride, tokens, f32);
    return MergeHeadsOp::create(builder, op.getResult());
  }
  /// `w` is gate_proj, up_proj, down_proj.
  Value feedForward(Value x, ValueRange w) {
    Value gate = linear(x, w[0]), up = linear(x, w[1]);
    return linear(SwiGLUOp::create(builder, gate, up, f32), w[2]);
  }

  RankedTensorType tensor(ArrayRef<int64_t> shape) { return RankedTensorType::get(shape, f32); }
  /// The token numbers of an image: its tiles, padded to `tokenMultiple`.
  RankedTensorType imagePositions() {
    const VisionConfig &vision = *config.vision;
    int64_t stride = llvm::alignTo(vision.tokens(), vision.tokenMultiple);
    return RankedTensorType::get({1, vision.tiles * stride}, builder.getI64Type());
  }

  const ModelConfig &config;
  const TextConfig &text;
  const bool isTextOnly; ///< a vision model without its images
  ImplicitLocOpBuilder builder;
  Type f32;
  RankedTensorType indices;
  ModuleOp module;
  Operation *lastParameter = nullptr;
  llvm::StringMap<std::vector<Weight>> weightsOfBlock;
  llvm::StringSet<> symbols;
  llvm::StringMap<Value> modelInputs;
};

} // namespace

//===----------------------------------------------------------------------===//
// Blocks and applications
//===----------------------------------------------------------------------===//

func::FuncOp ModelBuilder::addBlock(StringRef name, ArrayRef<Input> inputs,
                                    std::vector<Weight> weights, Body body, StringRef part) {
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToEnd(module.getBody());
  auto function = func::FuncOp::create(builder, name, builder.getFunctionType({}, {}));
  function.setPrivate();
  function->setAttr(kBlockAttr, builder.getUnitAttr());
  if (!part.empty())
    function->setAttr(kPartAttr, builder.getStringAttr(part));

  Block *entry = function.addEntryBlock();
  auto addArgument = [&](StringRef argument, Type type) {
    entry->addArgument(type, NameLoc::get(builder.getStringAttr(argument)));
  };
  for (const Input &input : inputs)
    addArgument(input.name, input.type);
  for (const Weight &weight : weights)
    addArgument(weight.key, tensor(weight.shape));

  builder.setInsertionPointToStart(entry);
  ValueRange arguments = entry->getArguments();
  SmallVector<Value> results =
      body(arguments.take_front(inputs.size()), arguments.drop_front(inputs.size()));
  func::ReturnOp::create(builder, results);
  function.setType(
      builder.getFunctionType(entry->getArgumentTypes(), ValueRange(results).getTypes()));
  weightsOfBlock[name] = std::move(weights);
  return function;
}

FlatSymbolRefAttr ModelBuilder::declare(const Weight &weight, StringRef prefix) {
  std::string key = (prefix + weight.key).str();
  std::string symbol = weight.rowBegin.value_or(0) ? key + ".extra" : key;
  if (symbols.insert(symbol).second) {
    OpBuilder::InsertionGuard guard(builder);
    if (lastParameter)
      builder.setInsertionPointAfter(lastParameter);
    else
      builder.setInsertionPointToStart(module.getBody());
    DenseI64ArrayAttr checkpointShape;
    if (!weight.checkpointShape.empty())
      checkpointShape = builder.getDenseI64ArrayAttr(weight.checkpointShape);
    StringAttr keyAttr;
    IntegerAttr rowBegin;
    if (weight.rowBegin) {
      keyAttr = builder.getStringAttr(key);
      rowBegin = builder.getI64IntegerAttr(*weight.rowBegin);
    }
    lastParameter = ParameterOp::create(builder, symbol, tensor(weight.shape), weight.initializer,
                                        checkpointShape, keyAttr, rowBegin, /*frozen=*/false,
                                        /*global_shape=*/DenseI64ArrayAttr(),
                                        /*split=*/ArrayAttr(), /*partial=*/ArrayAttr());
  }
  return FlatSymbolRefAttr::get(builder.getContext(), symbol);
}

SmallVector<Value> ModelBuilder::apply(StringRef block, ValueRange inputs, const Twine &prefix) {
  std::string keyPrefix = prefix.str();
  SmallVector<Attribute> parameters;
  for (const Weight &weight : weightsOfBlock[block])
    parameters.push_back(declare(weight, keyPrefix));
  auto function = module.lookupSymbol<func::FuncOp>(block);
  // `self_layer of model.layers.3`, as metadata: a NameLoc would name the results.
  StringRef owner = StringRef(keyPrefix).rtrim('.');
  Location location =
      FusedLoc::get(builder.getContext(), {},
                    builder.getStringAttr(owner.empty() ? block : block + " of " + owner));
  OpBuilder &at = builder;
  return ApplyOp::create(at, location, function.getResultTypes(), block, inputs,
                         builder.getArrayAttr(parameters))
      .getResults();
}

//===----------------------------------------------------------------------===//
// Text blocks
//===----------------------------------------------------------------------===//

void ModelBuilder::addTextBlocks() {
  int64_t width = text.width, size = text.headSize;
  int64_t queries = text.heads * size, keys = text.keyValueHeads * size;
  Input h = {"h", tensor({kAny, kAny, width})};

  addBlock("positions", {{"positions", indices}}, {}, [&](ValueRange in, ValueRange) {
    return SmallVector<Value>{
        RopeTableOp::create(builder, in[0], text.rope.frequencies(size), f32)};
  });

  std::vector<Weight> tables = {{"embed_tokens.weight", {text.vocabulary, width}}};
  if (text.extraRows) {
    tables[0].rowBegin = 0;
    tables.push_back(
        {"embed_tokens.weight", {text.extraRows, width}, kNormal, {}, text.vocabulary});
  }
  addBlock("embedding", {{"input_ids", indices}}, tables, [&](ValueRange in, ValueRange w) {
    IntegerAttr padding;
    if (text.padToken)
      padding = builder.getI64IntegerAttr(*text.padToken);
    auto embed = [&](Value table, int64_t offset) {
      return EmbedOp::create(builder, in[0], table, offset, padding);
    };
    Value h = embed(w[0], 0);
    if (text.extraRows)
      h = add(h, embed(w[1], text.vocabulary));
    return SmallVector<Value>{h};
  });

  addBlock("self_layer",
           {h,
            {"rope", tensor({kAny, kAny, 2, size / 2})},
            {"positions", indices},
            {"documents", indices},
            {"key_positions", indices},
            {"key_documents", indices}},
           {{"input_layernorm.weight", {width}, kOnes},
            {"self_attn.q_proj.weight", {queries, width}},
            {"self_attn.k_proj.weight", {keys, width}},
            {"self_attn.v_proj.weight", {keys, width}},
            {"self_attn.o_proj.weight", {width, queries}},
            {"post_attention_layernorm.weight", {width}, kOnes},
            {"mlp.gate_proj.weight", {text.feedForward, width}},
            {"mlp.up_proj.weight", {text.feedForward, width}},
            {"mlp.down_proj.weight", {width, text.feedForward}}},
           [&](ValueRange in, ValueRange w) {
             Value x = rmsNorm(in[0], w[0]);
             Value q = RopeOp::create(builder, heads(linear(x, w[1]), size), in[1]);
             Value k = RopeOp::create(builder, heads(linear(x, w[2]), size), in[1]);
             Value v = heads(linear(x, w[3]), size);
             Value o = attention(q, k, v, in.slice(2, 4), Mask::Causal, size);
             Value h1 = add(in[0], linear(o, w[4]));
             Value h2 = add(h1, feedForward(rmsNorm(h1, w[5]), w.slice(6, 3)));
             return SmallVector<Value>{h2};
           });

  addBlock("head", {h, {"labels", indices}},
           {{"model.norm.weight", {width}, kOnes},
            {text.tiedEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight",
             {text.vocabulary, width}}},
           [&](ValueRange in, ValueRange w) {
             Value logits = LinearOp::create(builder, rmsNorm(in[0], w[0]), w[1], Value(), f32,
                                             TypeAttr::get(f32));
             Value maximum = RowMaxOp::create(builder, logits, f32);
             Value sum = RowSumExpOp::create(builder, logits, maximum, f32);
             Value target = TargetLogitOp::create(builder, logits, in[1], f32);
             Value loss = CrossEntropyOp::create(builder, maximum, sum, target, in[1]);
             return SmallVector<Value>{loss, logits};
           });
}

void ModelBuilder::addCrossBlocks() {
  int64_t width = text.width, size = text.headSize;
  int64_t queries = text.heads * size, keys = text.keyValueHeads * size;
  const VisionConfig &vision = *config.vision;
  auto keyType = tensor({kAny, kAny, text.keyValueHeads, size});

  auto keyValue = addBlock(
      "cross_key_value", {{"states", tensor({kAny, kAny, width})}},
      {{"cross_attn.k_proj.weight", {keys, width}},
       {"cross_attn.v_proj.weight", {keys, width}},
       {"cross_attn.k_norm.weight", {size}, kOnes}},
      [&](ValueRange in, ValueRange w) {
        Value k = rmsNorm(heads(linear(in[0], w[0]), size), w[2]);
        Value v = heads(linear(in[0], w[1]), size);
        return SmallVector<Value>{k, v};
      },
      kKeyValuePart);
  // Every cross layer adds to the gradient of the image states: sum it in f32.
  keyValue.setArgAttr(0, kGradientTypeAttr, TypeAttr::get(f32));

  addBlock("cross_layer",
           {{"h", tensor({kAny, kAny, width})},
            {"key", keyType},
            {"value", keyType},
            {"image_begin", indices},
            {"image_end", indices},
            {"tiles", indices}},
           {{"input_layernorm.weight", {width}, kOnes},
            {"cross_attn.q_proj.weight", {queries, width}},
            {"cross_attn.q_norm.weight", {size}, kOnes},
            {"cross_attn.o_proj.weight", {width, queries}},
            {"cross_attn_attn_gate", {1}, kGate},
            {"post_attention_layernorm.weight", {width}, kOnes},
            {"mlp.gate_proj.weight", {text.feedForward, width}},
            {"mlp.up_proj.weight", {text.feedForward, width}},
            {"mlp.down_proj.weight", {width, text.feedForward}},
            {"cross_attn_mlp_gate", {1}, kGate}},
           [&](ValueRange in, ValueRange w) {
             ValueRange interval = in.slice(3, 2), masks = in.slice(3, 3);
             auto attentionRows = vision.rowMask == llamac::RowMask::Both ? llama::RowMask::Image
                                                                          : llama::RowMask::Present;
             Value q = rmsNorm(heads(linear(rmsNorm(in[0], w[0]), w[1]), size), w[2]);
             Value o = attention(q, in[1], in[2], masks, Mask::Images, size, vision.tiles,
                                 vision.tokens(), vision.tokens());
             Value h1 = gated(in[0], linear(o, w[3]), w[4], interval, attentionRows);
             Value f = feedForward(rmsNorm(h1, w[5]), w.slice(6, 3));
             return SmallVector<Value>{gated(h1, f, w[9], interval, llama::RowMask::Image)};
           });
}

//===----------------------------------------------------------------------===//
// Vision blocks
//===----------------------------------------------------------------------===//

void ModelBuilder::addVisionLayer(StringRef name, bool isGated) {
  const VisionConfig &vision = *config.vision;
  int64_t width = vision.width, size = vision.headSize();
  int64_t stride = llvm::alignTo(vision.tokens(), vision.tokenMultiple);
  std::vector<Weight> weights = {{"input_layernorm.weight", {width}, kOnes},
                                 {"input_layernorm.bias", {width}, kZeros},
                                 {"self_attn.q_proj.weight", {width, width}},
                                 {"self_attn.k_proj.weight", {width, width}},
                                 {"self_attn.v_proj.weight", {width, width}},
                                 {"self_attn.o_proj.weight", {width, width}},
                                 {"post_attention_layernorm.weight", {width}, kOnes},
                                 {"post_attention_layernorm.bias", {width}, kZeros},
                                 {"mlp.fc1.weight", {vision.feedForward, width}},
                                 {"mlp.fc1.bias", {vision.feedForward}, kZeros},
                                 {"mlp.fc2.weight", {width, vision.feedForward}},
                                 {"mlp.fc2.bias", {width}, kZeros}};
  if (isGated) {
    weights.push_back({"gate_attn", {1}, kGate});
    weights.push_back({"gate_ffn", {1}, kGate});
  }
  addBlock(
      name,
      {{"x", tensor({kAny, vision.tiles * stride, width})},
       {"tiles", indices},
       {"image_positions", imagePositions()}},
      weights,
      [&](ValueRange in, ValueRange w) {
        auto residual = [&](Value x, Value branch, unsigned gate) {
          return isGated ? gated(x, branch, w[gate], {}, llama::RowMask::None) : add(x, branch);
        };
        Value y = layerNorm(in[0], w[0], w[1], vision.epsilon);
        Value q = heads(linear(y, w[2]), size), k = heads(linear(y, w[3]), size),
              v = heads(linear(y, w[4]), size);
        Value o = attention(q, k, v, in.slice(1, 2), Mask::Encoder, size, vision.tiles, stride,
                            vision.tokens());
        Value x1 = residual(in[0], linear(o, w[5]), 12);
        Value f = linear(layerNorm(x1, w[6], w[7], vision.epsilon), w[8], w[9]);
        f = linear(GeluOp::create(builder, f, f32), w[10], w[11]);
        return SmallVector<Value>{residual(x1, f, 13)};
      },
      kEncoderPart);
}

void ModelBuilder::addVisionBlocks() {
  const VisionConfig &vision = *config.vision;
  int64_t width = vision.width, patch = vision.patchSize, n = vision.tokens();
  int64_t tiles = vision.tiles, ratios = vision.aspectRatios, channels = vision.channels;
  int64_t patchWidth = channels * patch * patch;
  int64_t padded = tiles * llvm::alignTo(n, vision.tokenMultiple);
  Type stateType = tensor({kAny, padded, width});

  auto pixels = tensor({kAny, kAny, tiles, channels, vision.tileSize, vision.tileSize});
  addBlock(
      "vision_embedding", {{"pixels", pixels}, {"aspect_ratio_ids", indices}},
      {{"patch_embedding.weight", {width, patchWidth}, kNormal, {width, channels, patch, patch}},
       {"pre_tile_positional_embedding.embedding.weight",
        {ratios, tiles, width},
        kNormal,
        {ratios, tiles * width}},
       {"pre_tile_positional_embedding.gate", {1}, kGate},
       {"class_embedding", {width}},
       {"gated_positional_embedding.embedding", {n, width}},
       {"gated_positional_embedding.tile_embedding.weight",
        {ratios, tiles * n, width},
        kNormal,
        {ratios, tiles * n * width}},
       {"gated_positional_embedding.gate", {1}, kGate},
       {"layernorm_pre.weight", {width}, kOnes},
       {"layernorm_pre.bias", {width}, kZeros}},
      [&](ValueRange in, ValueRange w) {
        Value x = PatchifyOp::create(builder, in[0], patch, f32);
        x = tileEmbed(linear(x, w[0]), w[1], w[2], in[1]);
        x = PrependClassOp::create(builder, x, w[3], tiles);
        x = PositionEmbedAddOp::create(builder, x, w[4], w[6], f32);
        x = layerNorm(tileEmbed(x, w[5], w[6], in[1]), w[7], w[8], vision.outerEpsilon);
        return SmallVector<Value>{PadTokensOp::create(builder, x, tiles, vision.tokenMultiple)};
      },
      kEncoderPart);

  addVisionLayer("vision_layer", /*isGated=*/false);
  addBlock(
      "vision_middle", {{"x", stateType}, {"aspect_ratio_ids", indices}},
      {{"layernorm_post.weight", {width}, kOnes},
       {"layernorm_post.bias", {width}, kZeros},
       {"post_tile_positional_embedding.embedding.weight",
        {ratios, tiles, width},
        kNormal,
        {ratios, tiles * width}},
       {"post_tile_positional_embedding.gate", {1}, kGate}},
      [&](ValueRange in, ValueRange w) {
        return SmallVector<Value>{
            tileEmbed(layerNorm(in[0], w[0], w[1], vision.outerEpsilon), w[2], w[3], in[1])};
      },
      kEncoderPart);
  if (vision.globalLayers)
    addVisionLayer("vision_global_layer", /*isGated=*/true);

  std::vector<std::string> tapNames;
  for (int64_t tap : vision.taps)
    tapNames.push_back("tap_" + std::to_string(tap));
  SmallVector<Input> inputs = {{"x", stateType}};
  for (const std::string &name : tapNames)
    inputs.push_back({name, stateType});
  inputs.push_back({"tiles", indices});
  int64_t features = width * (1 + vision.taps.size());
  addBlock(
      "vision_output", inputs,
      {{"multi_modal_projector.weight", {text.width, features}},
       {"multi_modal_projector.bias", {text.width}, kZeros}},
      [&](ValueRange in, ValueRange w) {
        SmallVector<Value> states;
        for (Value state : in.drop_back())
          states.push_back(DropTokensOp::create(builder, state, tiles, n));
        Value x = TapConcatOp::create(builder, states[0], ValueRange(states).drop_front());
        return SmallVector<Value>{
            ImagesToTokensOp::create(builder, linear(x, w[0], w[1]), in.back())};
      },
      kEncoderPart);
}

//===----------------------------------------------------------------------===//
// The model
//===----------------------------------------------------------------------===//

func::FuncOp ModelBuilder::addModel() {
  auto token = [&](StringRef name) { return Input{name, indices}; };
  SmallVector<Input> inputs = {token("input_ids"), token("labels"),        token("positions"),
                               token("documents"), token("key_positions"), token("key_documents")};
  if (hasImages()) {
    const VisionConfig &vision = *config.vision;
    inputs.append({token("image_begin"),
                   token("image_end"),
                   token("tiles"),
                   token("aspect_ratio_ids"),
                   {"image_positions", imagePositions()}});
    inputs.push_back({"pixels", tensor({kAny, kAny, vision.tiles, vision.channels, vision.tileSize,
                                        vision.tileSize})});
  }
  auto head = module.lookupSymbol<func::FuncOp>("head");
  SmallVector<Type> types;
  for (const Input &input : inputs)
    types.push_back(input.type);
  builder.setInsertionPointToEnd(module.getBody());
  auto model =
      func::FuncOp::create(builder, "model", builder.getFunctionType(types, head.getResultTypes()));
  Block *entry = model.addEntryBlock();
  for (auto [index, input] : llvm::enumerate(inputs)) {
    StringAttr name = builder.getStringAttr(input.name);
    model.setArgAttr(index, kInputAttr, name);
    entry->getArgument(index).setLoc(NameLoc::get(name));
    modelInputs[input.name] = entry->getArgument(index);
  }
  model.setResultAttr(0, kOutputAttr, builder.getStringAttr(llrt::known::loss));
  model.setResultAttr(1, kOutputAttr, builder.getStringAttr("logits"));
  builder.setInsertionPointToStart(entry);
  return model;
}

// The image states Z [B, M * T * n, D].
Value ModelBuilder::encodeImages() {
  const VisionConfig &vision = *config.vision;
  Value ids = modelInputs["aspect_ratio_ids"], tiles = modelInputs["tiles"],
        positions = modelInputs["image_positions"];
  Value x = apply("vision_embedding", {modelInputs["pixels"], ids}, "vision_model.")[0];
  SmallVector<Value> taps;
  for (int64_t layer = 0; layer < vision.layers; ++layer) {
    Value y = apply("vision_layer", {x, tiles, positions},
                    "vision_model.transformer.layers." + Twine(layer) + ".")[0];
    if (llvm::is_contained(vision.taps, layer))
      taps.push_back(vision.featureTaps == FeatureTaps::Input ? x : y);
    x = y;
  }
  x = apply("vision_middle", {x, ids}, "vision_model.")[0];
  for (int64_t layer = 0; layer < vision.globalLayers; ++layer)
    x = apply("vision_global_layer", {x, tiles, positions},
              "vision_model.global_transformer.layers." + Twine(layer) + ".")[0];
  SmallVector<Value> inputs = {x};
  inputs.append(taps);
  inputs.push_back(tiles);
  return apply("vision_output", inputs, "")[0];
}

// What is computed with the weights and cannot be read off their shapes.
DictionaryAttr ModelBuilder::computation() {
  auto integer = [&](int64_t value) { return builder.getI64IntegerAttr(value); };
  auto number = [&](double value) { return builder.getF64FloatAttr(value); };
  NamedAttrList result;
  result.set("heads", integer(text.heads));
  result.set("epsilon", number(text.epsilon));
  result.set("rope_theta", number(text.rope.theta));
  result.set("rope_divisor", number(text.rope.divisor));
  if (auto &scaling = text.rope.scaling)
    result.set("rope_llama3",
               builder.getF64ArrayAttr({scaling->factor, scaling->lowFrequencyFactor,
                                        scaling->highFrequencyFactor,
                                        static_cast<double>(scaling->originalLength)}));
  if (config.vision) {
    const VisionConfig &vision = *config.vision;
    result.set("feature_taps", builder.getStringAttr(nameOf(vision.featureTaps)));
    result.set("row_mask", builder.getStringAttr(nameOf(vision.rowMask)));
    result.set("tapped_layers", builder.getI64ArrayAttr(vision.taps));
    result.set("encoder_heads", integer(vision.heads));
    result.set("encoder_epsilon", number(vision.epsilon));
  }
  return result.getDictionary(builder.getContext());
}

// What the executable needs to know of the model (llrt/Program.h, "model").
void ModelBuilder::describe() {
  auto integer = [&](int64_t value) { return builder.getI64IntegerAttr(value); };
  namespace field = llrt::model;
  NamedAttrList model;
  model.set(field::type, builder.getStringAttr(config.vision ? "mllama" : "llama"));
  model.set(field::vocabulary, integer(text.vocabulary));
  model.set(field::extraRows, integer(text.extraRows));
  model.set(field::beginToken, integer(text.beginToken));
  model.set(field::endTokens, builder.getI64ArrayAttr(text.endTokens));
  // Without a padding token any token will do: padded rows are masked.
  model.set(field::padToken, integer(text.padToken.value_or(text.beginToken)));
  model.set(field::initializerRange, builder.getF64FloatAttr(text.initializerRange));
  model.set(field::computation, computation());
  if (isTextOnly) { // tensors of the checkpoint that the program does not have
    SmallVector<std::string> carried = {"vision_model.", "multi_modal_projector."};
    for (int64_t layer : text.crossLayers)
      carried.push_back("language_model.model.layers." + std::to_string(layer) + ".");
    model.set(field::carried,
              builder.getStrArrayAttr(SmallVector<StringRef>(carried.begin(), carried.end())));
  }
  if (hasImages()) {
    model.set(field::imageToken, integer(config.vision->imageToken));
    model.set(field::tileSize, integer(config.vision->tileSize));
    model.set(field::tiles, integer(config.vision->tiles));
  }
  model.set(field::config, builder.getStringAttr(writeModelConfig(config)));
  module->setAttr("llama.model", model.getDictionary(builder.getContext()));
}

OwningOpRef<ModuleOp> ModelBuilder::build() {
  OwningOpRef<ModuleOp> owner = ModuleOp::create(builder.getLoc());
  module = *owner;
  describe();
  addTextBlocks();
  if (hasImages()) {
    addCrossBlocks();
    addVisionBlocks();
  }

  addModel();
  Value states = hasImages() ? encodeImages() : Value();
  auto in = [&](StringRef name) { return modelInputs[name]; };
  std::string prefix = config.vision ? "language_model." : "";
  Value rope = apply("positions", {in("positions")}, "")[0];
  Value h = apply("embedding", {in("input_ids")}, prefix + "model.")[0];
  for (int64_t layer = 0; layer < text.layers; ++layer) {
    std::string keys = prefix + "model.layers." + std::to_string(layer) + ".";
    if (llvm::is_contained(text.crossLayers, layer)) {
      if (isTextOnly) // nothing to attend: such a layer changes nothing
        continue;
      SmallVector<Value> keyValue = apply("cross_key_value", {states}, keys);
      h = apply("cross_layer",
                {h, keyValue[0], keyValue[1], in("image_begin"), in("image_end"), in("tiles")},
                keys)[0];
    } else {
      h = apply(
          "self_layer",
          {h, rope, in("positions"), in("documents"), in("key_positions"), in("key_documents")},
          keys)[0];
    }
  }
  func::ReturnOp::create(builder, apply("head", {h, in("labels")}, prefix));
  return owner;
}

OwningOpRef<ModuleOp> llamac::buildModel(const ModelConfig &config, MLIRContext *context,
                                         bool withImages) {
  context->loadDialect<LlamaDialect>();
  return ModelBuilder(config, withImages, context).build();
}
