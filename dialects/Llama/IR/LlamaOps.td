//===- LlamaOps.td - Ops of the llama dialect --------------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMAOPS_TD
#define LLAMAC_LLAMA_LLAMAOPS_TD

include "dialects/Llama/IR/LlamaBase.td"

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

class Llama_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mlir::llama";
  let genSpecializedAttr = 0;
}

class Llama_EnumAttr<EnumInfo info, string mnemonic>
    : EnumAttr<Llama_Dialect, info, mnemonic> {
  let assemblyFormat = "`<` $value `>`";
}

def Llama_Mask : Llama_Enum<"Mask", "which keys a query sees", [
  I32EnumAttrCase<"Causal", 0, "causal">, I32EnumAttrCase<"Encoder", 1, "encoder">,
  I32EnumAttrCase<"Images", 2, "images">]>;
def Llama_MaskAttr : Llama_EnumAttr<Llama_Mask, "mask">;

def Llama_RowMask : Llama_Enum<"RowMask", "which rows a gated branch reaches", [
  I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Present", 1, "present">,
  I32EnumAttrCase<"Image", 2, "image">]>;
def Llama_RowMaskAttr : Llama_EnumAttr<Llama_RowMask, "rows">;

def Llama_Initializer : Llama_Enum<"Initializer", "how training from scratch fills a parameter", [
  I32EnumAttrCase<"Normal", 0, "normal">, I32EnumAttrCase<"Ones", 1, "ones">,
  I32EnumAttrCase<"Zeros", 2, "zeros">, I32EnumAttrCase<"Gate", 3, "gate">]>;
def Llama_InitializerAttr : Llama_EnumAttr<Llama_Initializer, "initializer">;

//===----------------------------------------------------------------------===//
// Parameters and blocks
//===----------------------------------------------------------------------===//

def ParameterOp : Llama_Op<"parameter", [Symbol, ParameterOpInterface]> {
  let summary = "Declare a parameter of the model";
  let description = [{
    The symbol is the HuggingFace checkpoint key. `checkpoint_shape` is the shape
    in the checkpoint where it differs from the type (same elements, row-major).
    `rows = [begin, end)` of the checkpoint tensor `key` are meant where a
    parameter is a part of one; `key` is given only then. `frozen` parameters have
    no gradient, master or moments.

    Where ranks hold a part of a parameter, the type is that of the part and
    `global_shape` that of all; `split` names, for each dimension, the axes of the grid
    that split it, outermost first. `partial` names the axes over which the gradient
    is a partial sum.

    - (C1) the type is a ranked tensor of static shape with element type f32, bf16 or f64
    - (C2) `checkpoint_shape` has as many elements as `global_shape`, or as the type without one; or it is nowhere larger: what is behind it is padding, zero and in no file
    - (C3) `row_begin` comes with `key`
    - (C4) `split` comes with `global_shape`, and both with one entry for each dimension of the type

    Example:
    ```mlir
    llama.parameter @"model.norm.weight" : tensor<128xf32> {initializer = #llama.initializer<ones>}
    ```
    Source: llama3-vision specification E1.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<AnyRankedTensor>:$type,
                       Llama_InitializerAttr:$initializer,
                       OptionalAttr<DenseI64ArrayAttr>:$checkpoint_shape,
                       OptionalAttr<StrAttr>:$key, OptionalAttr<I64Attr>:$row_begin,
                       UnitAttr:$frozen, OptionalAttr<DenseI64ArrayAttr>:$global_shape,
                       OptionalAttr<ArrayAttr>:$split, OptionalAttr<StrArrayAttr>:$partial);
  let assemblyFormat = "$sym_name `:` $type attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getType());
    }
    /// The key in checkpoint files.
    ::llvm::StringRef getCheckpointKey() { return getKey() ? *getKey() : getSymName(); }
    // Parameters live outside the IR's control flow: an unused one stays.
    static bool canDiscardOnUseEmpty() { return false; }
  }];
}

def ApplyOp : Llama_Op<"apply", [DeclareOpInterfaceMethods<SymbolUserOpInterface>,
                                 DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "Apply a block to activations and parameters";
  let description = [{
    Calls the block with `inputs`, then the values of `parameters`, then, for each
    of `gradients`, the gradient of that parameter so far. The block returns the
    results, then the new gradients in the same order, which take the place of the
    old ones. Pure if it has no `gradients`.

    - (C1) `block` names a function with the attribute `llama.block`
    - (C2) its arguments have the types of inputs, parameters and gradients
    - (C3) its results have the types of the results and of the gradients
    - (C4) each of `parameters` and `gradients` names a `llama.parameter`; those of `gradients` are not frozen

    Example:
    ```mlir
    %y = llama.apply @layer(%x) parameters [@"model.layers.0.mlp.up_proj.weight"] : (tensor<2x16xf32>) -> tensor<2x8xf32>
    llama.apply @layer.backward_weight(%dy, %x) gradients [@"model.layers.0.mlp.up_proj.weight"] : (tensor<2x8xf32>, tensor<2x16xf32>) -> ()
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$block, Variadic<AnyRankedTensor>:$inputs,
                       DefaultValuedAttr<Llama_SymbolArray, "{}">:$parameters,
                       DefaultValuedAttr<Llama_SymbolArray, "{}">:$gradients);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $block `(` $inputs `)` (`parameters` $parameters^)? (`gradients` $gradients^)? attr-dict
    `:` functional-type($inputs, $results)
  }];
}

//===----------------------------------------------------------------------===//
// Text: embedding, norms, linear layers
//===----------------------------------------------------------------------===//

def EmbedOp : Llama_ComputeOp<"embed", [Llama_Vjp, Llama_OwnBytes]> {
  let summary = "Look up the embedding of each token";
  let description = [{
    `result[.., c] = table[ids[..] - offset, c]` if `0 <= ids[..] - offset < V`, else 0: the
    table holds the rows of the ids from `offset` on, and the embeddings of tables that share
    the ids add up. The id `padding_index` brings its row no gradient.

    - (C1) `rank(table) = 2`
    - (C2) `offset >= 0`
    - (C3) `padding_index >= 0`

    Example:
    ```mlir
    %h = llama.embed %ids, %table {offset = 512 : i64, padding_index = 504 : i64} : (tensor<2x16xi64>, tensor<8x128xf32>) -> tensor<2x16x128xf32>
    ```
    Source: meta-llama/llama-models, models/llama3/multimodal/model.py, learnable_embedding; torch.nn.Embedding.
  }];
  let arguments = (ins Llama_IndexTensor:$ids, Llama_Tensor:$table,
                       DefaultValuedAttr<I64Attr, "0">:$offset, OptionalAttr<I64Attr>:$padding_index);
  let results = (outs Llama_Tensor:$result);
}

def EmbedGradOp : Llama_ComputeOp<"embed_grad", [Llama_OwnBytes]> {
  let summary = "Sum the cotangents of each embedding row";
  let description = [{
    `result[r, c] = sum over tokens t with ids[t] = offset + r, ids[t] != padding_index, of
    cotangent[t, c]`, r in [0, rows).

    - (C1) `shape(cotangent) = shape(ids) + [C]`
    - (C2) `offset >= 0`

    Example:
    ```mlir
    %d = llama.embed_grad %dh, %ids {rows = 512 : i64, offset = 0 : i64, accumulation = f32} : (tensor<2x16x128xf32>, tensor<2x16xi64>) -> tensor<512x128xf32>
    ```
    Source: transpose of llama.embed.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_IndexTensor:$ids, Llama_PositiveInt:$rows,
                       I64Attr:$offset, OptionalAttr<I64Attr>:$padding_index,
                       TypeAttr:$accumulation);
  let results = (outs Llama_Tensor:$result);
}

def ShiftIndexOp : Llama_ComputeOp<"shift_index", [Llama_NoCost]> {
  let summary = "Count ids from the first of this rank's part of a split dimension";
  let description = [{
    `result[..] = ids[..] - coordinate[0] * size` if that is in [0, size), else -1. The id
    `padding_index` becomes -1 too. `coordinate` says which part of the dimension, in parts
    of `size` rows, the rank holds.

    - (C1) `coordinate` has one element
    - (C2) `padding_index >= 0`

    Example:
    ```mlir
    %local = llama.shift_index %ids, %coordinate {size = 256 : i64} : (tensor<2x16xi64>, tensor<1xi64>) -> tensor<2x16xi64>
    ```
    Source: arXiv 1909.08053, section 3 (embedding split over the vocabulary).
  }];
  let arguments = (ins Llama_IndexTensor:$ids, Llama_IndexTensor:$coordinate,
                       Llama_PositiveInt:$size, OptionalAttr<I64Attr>:$padding_index);
  let results = (outs Llama_IndexTensor:$result);
}

def RMSNormOp : Llama_ComputeOp<"rms_norm", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Divide each row by its root mean square, then scale it";
  let description = [{
    `result[.., c] = weight[c] * input[.., c] / sqrt(mean(input[.., :]^2) + epsilon)`. The
    row is normalized in `statistics`, rounded to the element type, then scaled.

    - (C1) `rank(input) >= 1` and `rank(weight) = 1`
    - (C2) `dim(weight, 0) = dim(input, -1)`
    - (C3) `epsilon >= 0`

    Example:
    ```mlir
    %y = llama.rms_norm %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x16x128xbf16>, tensor<128xbf16>) -> tensor<2x16x128xbf16>
    ```
    Source: meta-llama/llama-models, models/llama3/model.py, class RMSNorm (arXiv 1910.07467).
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$weight, F64Attr:$epsilon, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def RMSNormDxOp : Llama_ComputeOp<"rms_norm_dx", [Llama_NoCost]> {
  let summary = "Gradient of llama.rms_norm for its input";
  let description = [{
    With `r = 1 / sqrt(mean(x^2) + epsilon)` and `u = weight * cotangent`: `result = r * u -
    x * r^3 * mean(u * x)`, in `statistics`.

    - (C1) `shape(cotangent) = shape(input)`
    - (C2) `rank(weight) = 1` and `dim(weight, 0) = dim(input, -1)`

    Example:
    ```mlir
    %dx = llama.rms_norm_dx %dy, %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x16x128xf32>, tensor<2x16x128xf32>, tensor<128xf32>) -> tensor<2x16x128xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$input, Llama_Tensor:$weight, F64Attr:$epsilon,
                       TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def RMSNormDwOp : Llama_ComputeOp<"rms_norm_dw", [Llama_NoCost]> {
  let summary = "Gradient of llama.rms_norm for its weight";
  let description = [{
    `result[c] = sum over rows of cotangent[.., c] * input[.., c] * r`, r as in
    llama.rms_norm_dx.

    - (C1) `shape(cotangent) = shape(input)`

    Example:
    ```mlir
    %dw = llama.rms_norm_dw %dy, %x {epsilon = 1.0e-5 : f64, statistics = f32, accumulation = f32} : (tensor<2x16x128xf32>, tensor<2x16x128xf32>) -> tensor<128xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$input, F64Attr:$epsilon, TypeAttr:$statistics,
                       TypeAttr:$accumulation);
  let results = (outs Llama_Tensor:$result);
}

def LayerNormOp : Llama_ComputeOp<"layer_norm", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Give each row mean 0 and variance 1, then scale and shift it";
  let description = [{
    `result[.., c] = weight[c] * (input[.., c] - mean) / sqrt(variance + epsilon) +
    bias[c]`, mean and (biased) variance of the row, all in `statistics`.

    - (C1) `rank(input) >= 1` and `rank(weight) = rank(bias) = 1`
    - (C2) `dim(weight, 0) = dim(bias, 0) = dim(input, -1)`
    - (C3) `epsilon >= 0`

    Example:
    ```mlir
    %y = llama.layer_norm %x, %w, %b {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x64x64xf32>, tensor<64xf32>, tensor<64xf32>) -> tensor<2x64x64xf32>
    ```
    Source: torch.nn.LayerNorm (arXiv 1607.06450).
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$weight, Llama_Tensor:$bias, F64Attr:$epsilon,
                       TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def LayerNormDxOp : Llama_ComputeOp<"layer_norm_dx", [Llama_NoCost]> {
  let summary = "Gradient of llama.layer_norm for its input";
  let description = [{
    With `xhat` the normalized row and `u = weight * cotangent`: `result = (u - mean(u) -
    xhat * mean(u * xhat)) / sqrt(variance + epsilon)`.

    - (C1) `shape(cotangent) = shape(input)`
    - (C2) `rank(weight) = 1` and `dim(weight, 0) = dim(input, -1)`

    Example:
    ```mlir
    %dx = llama.layer_norm_dx %dy, %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x64x64xf32>, tensor<2x64x64xf32>, tensor<64xf32>) -> tensor<2x64x64xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$input, Llama_Tensor:$weight, F64Attr:$epsilon,
                       TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def LayerNormDwOp : Llama_ComputeOp<"layer_norm_dw", [Llama_NoCost]> {
  let summary = "Gradient of llama.layer_norm for its weight";
  let description = [{
    `result[c] = sum over rows of cotangent[.., c] * xhat[.., c]`, xhat the normalized row.

    - (C1) `shape(cotangent) = shape(input)`

    Example:
    ```mlir
    %dw = llama.layer_norm_dw %dy, %x {epsilon = 1.0e-5 : f64, statistics = f32, accumulation = f32} : (tensor<2x64x64xf32>, tensor<2x64x64xf32>) -> tensor<64xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$input, F64Attr:$epsilon, TypeAttr:$statistics,
                       TypeAttr:$accumulation);
  let results = (outs Llama_Tensor:$result);
}

def SumRowsOp : Llama_ComputeOp<"sum_rows", [Llama_NoCost]> {
  let summary = "Sum over all dimensions but the last";
  let description = [{
    `result[c] = sum over rows of input[.., c]`: the gradient of a bias.

    - (C1) `rank(input) >= 1`

    Example:
    ```mlir
    %db = llama.sum_rows %dy {accumulation = f32} : (tensor<2x64x256xbf16>) -> tensor<256xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$input, TypeAttr:$accumulation);
  let results = (outs Llama_Tensor:$result);
}

def LinearOp : Llama_ComputeOp<"linear", [Llama_Vjp, Llama_Cost]> {
  let summary = "Multiply by a weight, add a bias";
  let description = [{
    `result[.., n] = sum_k input[.., k] * weight[n, k] (+ bias[n])`, summed in
    `accumulation`, rounded to `element_type` (default: that of `input`).

    - (C1) `rank(input) >= 1` and `rank(weight) = 2`
    - (C2) `dim(weight, 1) = dim(input, -1)`
    - (C3) `bias`, if present, has shape `[dim(weight, 0)]`
    - (C4) operands have one element type

    Example:
    ```mlir
    %y = llama.linear %x, %w, %b {accumulation = f32} : (tensor<2x16x128xbf16>, tensor<384x128xbf16>, tensor<384xbf16>) -> tensor<2x16x384xbf16>
    ```
    Source: torch.nn.Linear.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$weight, Optional<Llama_Tensor>:$bias,
                       TypeAttr:$accumulation, OptionalAttr<TypeAttr>:$element_type);
  let results = (outs Llama_Tensor:$result);
}

def LinearDxOp : Llama_ComputeOp<"linear_dx", [Llama_Cost]> {
  let summary = "Gradient of llama.linear for its input";
  let description = [{
    `result[.., k] = sum_n cotangent[.., n] * weight[n, k]`, summed in `accumulation`,
    rounded to `element_type` (default: that of `cotangent`).

    - (C1) `rank(weight) = 2`
    - (C2) `dim(weight, 0) = dim(cotangent, -1)`
    - (C3) operands have one element type

    Example:
    ```mlir
    %dx = llama.linear_dx %dy, %w {accumulation = f32} : (tensor<2x16x384xbf16>, tensor<384x128xbf16>) -> tensor<2x16x128xbf16>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$weight, TypeAttr:$accumulation,
                       OptionalAttr<TypeAttr>:$element_type);
  let results = (outs Llama_Tensor:$result);
}

def LinearDwOp : Llama_ComputeOp<"linear_dw", [Llama_Cost]> {
  let summary = "Gradient of llama.linear for its weight";
  let description = [{
    `result[n, k] = sum over rows of cotangent[.., n] * input[.., k]`, in `accumulation`.

    - (C1) `cotangent` and `input` agree in all dimensions but the last
    - (C2) operands have one element type

    Example:
    ```mlir
    %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<2x16x384xbf16>, tensor<2x16x128xbf16>) -> tensor<384x128xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$input, TypeAttr:$accumulation);
  let results = (outs Llama_Tensor:$result);
}

//===----------------------------------------------------------------------===//
// Text: rotary positions, heads, attention, feed-forward
//===----------------------------------------------------------------------===//

def RopeTableOp : Llama_ComputeOp<"rope_table", [Llama_NoCost]> {
  let summary = "Cosine and sine of the rotation of each position";
  let description = [{
    `result[b, s, 0, i] = cos(positions[b, s] * frequencies[i])`, `result[b, s, 1, i]` the
    sine, in `statistics`. The frequencies hold theta and the Llama 3.1 scaling.

    - (C1) `rank(positions) = 2`
    - (C2) `frequencies` is not empty

    Example:
    ```mlir
    %t = llama.rope_table %p {frequencies = array<f64: 1.0, 0.1>, statistics = f32} : (tensor<2x16xi64>) -> tensor<2x16x2x2xf32>
    ```
    Source: meta-llama/llama-models, models/llama3/model.py, precompute_freqs_cis and apply_scaling (arXiv 2104.09864).
  }];
  let arguments = (ins Llama_IndexTensor:$positions, DenseF64ArrayAttr:$frequencies, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def RopeOp : Llama_ComputeOp<"rope", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Rotate pairs of channels of each head by position";
  let description = [{
    With `x1, x2` the halves of a head and `c, s` the table: `result = [x1 * c - x2 * s, x2
    * c + x1 * s]` (half layout of HuggingFace checkpoints), in the table's type. With
    `inverse` the angle is negative.

    - (C1) `rank(input) = 4`, `rank(table) = 4`, `dim(table, 2) = 2`
    - (C2) `dim(table, 0..1) = dim(input, 0..1)` and `2 * dim(table, 3) = dim(input, 3)`

    Example:
    ```mlir
    %y = llama.rope %x, %t : (tensor<2x16x8x4xf32>, tensor<2x16x2x2xf32>) -> tensor<2x16x8x4xf32>
    ```
    Source: llama3-vision specification D1, E3.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$table, UnitAttr:$inverse);
  let results = (outs Llama_Tensor:$result);
}

def SplitHeadsOp : Llama_ComputeOp<"split_heads", [Llama_View, Llama_Vjp, Llama_OwnBytes]> {
  let summary = "View channels as heads";
  let description = [{
    `result[.., h, d] = input[.., h * head_size + d]`.

    - (C1) `head_size` divides `dim(input, -1)`

    Example:
    ```mlir
    %q = llama.split_heads %x {head_size = 16 : i64} : (tensor<2x16x128xf32>) -> tensor<2x16x8x16xf32>
    ```
    Source: view.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_PositiveInt:$head_size);
  let results = (outs Llama_Tensor:$result);
  let hasCanonicalizeMethod = 1;
}

def MergeHeadsOp : Llama_ComputeOp<"merge_heads", [Llama_View, Llama_Vjp, Llama_OwnBytes]> {
  let summary = "View heads as channels";
  let description = [{
    `result[.., h * D + d] = input[.., h, d]`.

    - (C1) `rank(input) >= 2`

    Example:
    ```mlir
    %x = llama.merge_heads %o : (tensor<2x16x8x16xf32>) -> tensor<2x16x128xf32>
    ```
    Source: view.
  }];
  let arguments = (ins Llama_Tensor:$input);
  let results = (outs Llama_Tensor:$result);
  let hasCanonicalizeMethod = 1;
}

def AttentionOp : Llama_ComputeOp<"attention", [Llama_Vjp, Llama_Cost]> {
  let summary = "Softmax attention with grouped heads and a mask given by positions";
  let description = [{
    `result[b, s, h, :] = sum_t P[b, h, s, t] * value[b, t, h / (H / K), :]`, `P =
    softmax_t(scale * query[b, s, h, :] . key[b, t, h / (H / K), :])`
    over the keys that query s sees; `lse[b, s, h]` is the logarithm of the softmax
    denominator, in `statistics`. No S x T tensor exists. What a query sees:
    - `causal`: masks `positions`, `documents` [B, S] of the queries, `key_positions`,
      `key_documents` [B, T] of the keys. A padded token carries document `-1 - d` instead of
      d. Query s sees key t if t is not padded, both belong to the same document and
      `key_positions[t] <= positions[s]`. A query that sees no key weighs all keys alike.
    - `encoder`: masks `tiles` [B, M] (query dimension 0 is B * M), the number of real tiles,
      and `positions` [1, S], the token of its image that a query is. The tokens (the keys)
      are `tile_count` tiles of `tile_stride` tokens, the first `tile_tokens` of a tile are
      real. Invalid tokens (of padding tiles, or past `tile_tokens`) do not see invalid
      tokens; all else is seen.
    - `images`: masks `begin`, `end` [B, S] and `tiles` [B, M]. Keys are
      [M][tile_count][tile_tokens]. Query s sees the real tiles of images begin <= m < end;
      if begin >= end it sees all keys.

    - (C1) `query`, `key`, `value` have rank 4, one element type, one batch and one head
      size; `key` and `value` have one shape
    - (C2) `dim(key, 2)` divides `dim(query, 2)`
    - (C3) `masks` are as `mask` wants: 2 of [B, S] and 2 of [B, T]; 1 of rank 2 and 1 of
      [1, S]; 2 of [B, S] and 1 of rank 2
    - (C4) `encoder`: `dim(key, 1) = tile_count * tile_stride`; `images`: `dim(key, 1) = M *
      tile_count * tile_tokens`

    Example:
    ```mlir
    %o, %lse = llama.attention %q, %k, %v, %p, %d, %kp, %kd {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x32xi64>, tensor<2x32xi64>) -> (tensor<2x16x8x16xf32>, tensor<2x16x8xf32>)
    ```
    Source: arXiv 2307.08691; masks: llama3-vision specification B5, C, D1.
  }];
  let arguments = (ins Llama_Tensor:$query, Llama_Tensor:$key, Llama_Tensor:$value,
                       Variadic<Llama_IndexTensor>:$masks, Llama_MaskAttr:$mask,
                       F64Attr:$scale, I64Attr:$tile_count, I64Attr:$tile_stride,
                       I64Attr:$tile_tokens, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result, Llama_Tensor:$lse);
}

def AttentionGradOp : Llama_ComputeOp<"attention_grad", [Llama_Cost]> {
  let summary = "Gradients of llama.attention";
  let description = [{
    `dV = P^T dO; dP = dO V^T; dS = P * (dP - rowsum(dO * O)); dQ = scale * dS K; dK = scale
    * dS^T Q`; dK and dV are summed over the query heads that share them. P is formed again
    from `lse`.

    - (C1) `cotangent` and `output` have the shape of `query`
    - (C2) `shape(lse) = shape(query)[0..2]`
    - (C3) the constraints of llama.attention

    Example:
    ```mlir
    %dq, %dk, %dv = llama.attention_grad %do, %q, %k, %v, %o, %lse, %p, %d, %kp, %kd {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x16xf32>, tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>, tensor<2x16x8x16xf32>, tensor<2x16x8xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x32xi64>, tensor<2x32xi64>) -> (tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>)
    ```
    Source: arXiv 2307.08691, algorithm 2; llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$query, Llama_Tensor:$key, Llama_Tensor:$value,
                       Llama_Tensor:$output, Llama_Tensor:$lse,
                       Variadic<Llama_IndexTensor>:$masks, Llama_MaskAttr:$mask,
                       F64Attr:$scale, I64Attr:$tile_count, I64Attr:$tile_stride,
                       I64Attr:$tile_tokens, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$d_query, Llama_Tensor:$d_key, Llama_Tensor:$d_value);
}

def SwiGLUOp : Llama_ComputeOp<"swiglu", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Gate one value with the SiLU of another";
  let description = [{
    `result = gate * sigmoid(gate) * up`, formed in `statistics`.

    - (C1) `gate` and `up` have one type

    Example:
    ```mlir
    %y = llama.swiglu %g, %u {statistics = f32} : (tensor<2x16x384xf32>, tensor<2x16x384xf32>) -> tensor<2x16x384xf32>
    ```
    Source: arXiv 2002.05202.
  }];
  let arguments = (ins Llama_Tensor:$gate, Llama_Tensor:$up, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def SwiGLUGradOp : Llama_ComputeOp<"swiglu_grad", [Llama_NoCost]> {
  let summary = "Gradients of llama.swiglu";
  let description = [{
    With `s = sigmoid(gate)`: `d_gate = cotangent * up * s * (1 + gate * (1 - s))`, `d_up =
    cotangent * gate * s`.

    - (C1) operands have one type

    Example:
    ```mlir
    %dg, %du = llama.swiglu_grad %dy, %g, %u {statistics = f32} : (tensor<2x16x384xf32>, tensor<2x16x384xf32>, tensor<2x16x384xf32>) -> (tensor<2x16x384xf32>, tensor<2x16x384xf32>)
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$gate, Llama_Tensor:$up, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$d_gate, Llama_Tensor:$d_up);
}

def GeluOp : Llama_ComputeOp<"gelu", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Gaussian error linear unit, exact";
  let description = [{
    `result = input * (1 + erf(input / sqrt(2))) / 2`, formed in `statistics`.

    - (C1) the result has the type of `input`

    Example:
    ```mlir
    %y = llama.gelu %x {statistics = f32} : (tensor<2x64x256xf32>) -> tensor<2x64x256xf32>
    ```
    Source: arXiv 1606.08415.
  }];
  let arguments = (ins Llama_Tensor:$input, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def GeluGradOp : Llama_ComputeOp<"gelu_grad", [Llama_NoCost]> {
  let summary = "Gradient of llama.gelu";
  let description = [{
    `result = cotangent * (Phi(x) + x * phi(x))`, Phi and phi the normal distribution and
    density.

    - (C1) operands have one type

    Example:
    ```mlir
    %dx = llama.gelu_grad %dy, %x {statistics = f32} : (tensor<2x64x256xf32>, tensor<2x64x256xf32>) -> tensor<2x64x256xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$input, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def AddOp : Llama_ComputeOp<"add", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Add two tensors";
  let description = [{
    `result = lhs + rhs`, formed in the wider element type, rounded to `element_type`
    (default: that of `lhs`).

    - (C1) `shape(lhs) = shape(rhs)`

    Example:
    ```mlir
    %y = llama.add %a, %b : (tensor<2x16x128xf32>, tensor<2x16x128xf32>) -> tensor<2x16x128xf32>
    ```
    Source: residual connection.
  }];
  let arguments = (ins Llama_Tensor:$lhs, Llama_Tensor:$rhs, OptionalAttr<TypeAttr>:$element_type);
  let results = (outs Llama_Tensor:$result);
}

def CastOp : Llama_ComputeOp<"cast", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Round to, or widen to, another element type";
  let description = [{
    `result = input` in `element_type`, to nearest even.

    - (C1) `element_type` is f32, bf16 or f64

    Example:
    ```mlir
    %y = llama.cast %x {element_type = bf16} : (tensor<4xf32>) -> tensor<4xbf16>
    ```
    Source: IEEE 754 round to nearest even.
  }];
  let arguments = (ins Llama_Tensor:$input, TypeAttr:$element_type);
  let results = (outs Llama_Tensor:$result);
  let hasFolder = 1;
}

def GatedResidualOp : Llama_ComputeOp<"gated_residual", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Add a gated branch to the residual stream";
  let description = [{
    `result[b, s, :] = input[b, s, :] + tanh(gate[0]) * row[b, s] * branch[b, s, :]`. With
    `rows = none`, row is 1; with `present` it is 0 where `begin > end` (no image in the
    whole batch), else 1; with `image` it is 1 where `begin < end` (the text row attends an
    image), else 0. `masks` are `begin`, `end` [B, S].

    - (C1) `input` and `branch` have one type
    - (C2) `gate` has one element
    - (C3) `masks` are none if `rows = none`, else two of shape `shape(input)[0..1]`

    Example:
    ```mlir
    %y = llama.gated_residual %x, %f, %g, %b, %e {rows = #llama.rows<image>, statistics = f32} : (tensor<2x16x128xf32>, tensor<2x16x128xf32>, tensor<1xf32>, tensor<2x16xi64>, tensor<2x16xi64>) -> tensor<2x16x128xf32>
    ```
    Source: llama3-vision specification C (cross layer), J2.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$branch, Llama_Scalar:$gate,
                       Variadic<Llama_IndexTensor>:$masks, Llama_RowMaskAttr:$rows,
                       TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def GatedResidualGradOp : Llama_ComputeOp<"gated_residual_grad", [Llama_NoCost]> {
  let summary = "Gradient of llama.gated_residual for its branch";
  let description = [{
    `result = tanh(gate[0]) * row * cotangent`.

    - (C1) `gate` has one element
    - (C2) `masks` as in llama.gated_residual

    Example:
    ```mlir
    %df = llama.gated_residual_grad %dy, %g {rows = #llama.rows<none>, statistics = f32} : (tensor<2x16x128xf32>, tensor<1xf32>) -> tensor<2x16x128xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Scalar:$gate, Variadic<Llama_IndexTensor>:$masks,
                       Llama_RowMaskAttr:$rows, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def GateGradOp : Llama_ComputeOp<"gate_grad", [Llama_NoCost]> {
  let summary = "Gradient of llama.gated_residual for its gate";
  let description = [{
    `result[0] = (1 - tanh(gate[0])^2) * sum(row * cotangent * branch)`, in `accumulation`.

    - (C1) `cotangent` and `branch` have one type
    - (C2) `gate` has one element
    - (C3) `masks` as in llama.gated_residual

    Example:
    ```mlir
    %dg = llama.gate_grad %dy, %f, %g {rows = #llama.rows<none>, accumulation = f32} : (tensor<2x16x128xf32>, tensor<2x16x128xf32>, tensor<1xf32>) -> tensor<1xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$branch, Llama_Scalar:$gate,
                       Variadic<Llama_IndexTensor>:$masks, Llama_RowMaskAttr:$rows,
                       TypeAttr:$accumulation);
  let results = (outs Llama_Tensor:$result);
}

//===----------------------------------------------------------------------===//
// Vision: tiles, embeddings, taps, image states
//===----------------------------------------------------------------------===//

def PatchifyOp : Llama_ComputeOp<"patchify", [Llama_Cheap, Llama_NoCost]> {
  let summary = "Cut image tiles into patches";
  let description = [{
    `result[b * M + m, t * g * g + y * g + x, c * P * P + i * P + j] = pixels[b, m, t, c, y
    * P + i, x * P + j]`, P the patch size, g = R / P, rounded to `element_type`. With a
    linear layer it is the patch convolution.

    - (C1) `rank(pixels) = 6`, `dim(pixels, 4) = dim(pixels, 5)`
    - (C2) `patch_size` divides `dim(pixels, 4)`

    Example:
    ```mlir
    %p = llama.patchify %x {patch_size = 14 : i64, element_type = bf16} : (tensor<2x1x4x3x42x42xf32>) -> tensor<2x36x588xbf16>
    ```
    Source: llama3-vision specification B4 step 2.
  }];
  let arguments = (ins Llama_Tensor:$pixels, Llama_PositiveInt:$patch_size, TypeAttr:$element_type);
  let results = (outs Llama_Tensor:$result);
}

def TileEmbedAddOp : Llama_ComputeOp<"tile_embed_add", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Add the gated embedding of each tile";
  let description = [{
    `result[a, t * P + p, c] = input[a, t * P + p, c] + tanh(gate[0]) * table[ids[a], t,
    c]`; `ids` [B, M] is read row-major as [A]; P = dim(input, 1) / dim(table, 1).

    - (C1) `rank(input) = rank(table) = 3`, `rank(ids) = 2`
    - (C2) `dim(table, 2) = dim(input, 2)`
    - (C3) `dim(table, 1)` divides `dim(input, 1)`
    - (C4) `gate` has one element

    Example:
    ```mlir
    %y = llama.tile_embed_add %x, %table, %g, %ids {statistics = f32} : (tensor<2x36x64xf32>, tensor<9x4x64xf32>, tensor<1xf32>, tensor<2x1xi64>) -> tensor<2x36x64xf32>
    ```
    Source: llama3-vision specification B4 steps 3, 5, 11.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$table, Llama_Scalar:$gate, Llama_IndexTensor:$ids,
                       TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def TileEmbedGradOp : Llama_ComputeOp<"tile_embed_grad", [Llama_NoCost]> {
  let summary = "Gradients of llama.tile_embed_add for table and gate";
  let description = [{
    `d_table[r, t, c] = tanh(gate[0]) * sum over a with ids[a] = r, and p, of cotangent[a, t
    * P + p, c]`; `d_gate[0] = (1 - tanh(gate[0])^2) * sum cotangent[a, t * P + p, c] *
    table[ids[a], t, c]`; in `accumulation`.

    - (C1) the constraints of llama.tile_embed_add, with `cotangent` for `input`

    Example:
    ```mlir
    %dt, %dg = llama.tile_embed_grad %dy, %table, %g, %ids {accumulation = f32} : (tensor<2x36x64xf32>, tensor<9x4x64xf32>, tensor<1xf32>, tensor<2x1xi64>) -> (tensor<9x4x64xf32>, tensor<1xf32>)
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$table, Llama_Scalar:$gate,
                       Llama_IndexTensor:$ids, TypeAttr:$accumulation);
  let results = (outs Llama_Tensor:$d_table, Llama_Tensor:$d_gate);
}

def PrependClassOp : Llama_ComputeOp<"prepend_class", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Put the class vector before the patches of every tile";
  let description = [{
    `result[a, t * (P + 1), c] = token[c]`, `result[a, t * (P + 1) + 1 + p, c] = input[a, t
    * P + p, c]`, P = dim(input, 1) / tiles.

    - (C1) `rank(input) = 3`, `rank(token) = 1`, `dim(token, 0) = dim(input, 2)`
    - (C2) `tiles` divides `dim(input, 1)`

    Example:
    ```mlir
    %y = llama.prepend_class %x, %c {tiles = 4 : i64} : (tensor<2x36x64xf32>, tensor<64xf32>) -> tensor<2x40x64xf32>
    ```
    Source: llama3-vision specification B4 step 4.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$token, Llama_PositiveInt:$tiles);
  let results = (outs Llama_Tensor:$result);
}

def DropClassOp : Llama_ComputeOp<"drop_class", [Llama_NoCost]> {
  let summary = "Take the patches of every tile, without the class token";
  let description = [{
    `result[a, t * P + p, c] = input[a, t * (P + 1) + 1 + p, c]`: the transpose of
    llama.prepend_class for its input.

    - (C1) `rank(input) = 3`
    - (C2) `tiles` divides `dim(input, 1)`

    Example:
    ```mlir
    %y = llama.drop_class %x {tiles = 4 : i64} : (tensor<2x40x64xf32>) -> tensor<2x36x64xf32>
    ```
    Source: transpose of llama.prepend_class.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_PositiveInt:$tiles);
  let results = (outs Llama_Tensor:$result);
}

def TakeClassOp : Llama_ComputeOp<"take_class", [Llama_NoCost]> {
  let summary = "Take the class token of every tile";
  let description = [{
    `result[a, t, c] = input[a, t * (P + 1), c]`: with llama.sum_rows, the transpose of
    llama.prepend_class for its token.

    - (C1) `rank(input) = 3`
    - (C2) `tiles` divides `dim(input, 1)`

    Example:
    ```mlir
    %y = llama.take_class %x {tiles = 4 : i64} : (tensor<2x40x64xf32>) -> tensor<2x4x64xf32>
    ```
    Source: transpose of llama.prepend_class.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_PositiveInt:$tiles);
  let results = (outs Llama_Tensor:$result);
}

def PositionEmbedAddOp : Llama_ComputeOp<"position_embed_add", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Add the gated embedding of each position within a tile";
  let description = [{
    `result[a, t * n + j, c] = input[a, t * n + j, c] + (1 - tanh(gate[0])) * table[j, c]`,
    n = dim(table, 0).

    - (C1) `rank(input) = 3`, `rank(table) = 2`, `dim(table, 1) = dim(input, 2)`
    - (C2) `dim(table, 0)` divides `dim(input, 1)`
    - (C3) `gate` has one element

    Example:
    ```mlir
    %y = llama.position_embed_add %x, %e, %g {statistics = f32} : (tensor<2x40x64xf32>, tensor<10x64xf32>, tensor<1xf32>) -> tensor<2x40x64xf32>
    ```
    Source: llama3-vision specification B4 step 5.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$table, Llama_Scalar:$gate, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def PositionEmbedGradOp : Llama_ComputeOp<"position_embed_grad", [Llama_NoCost]> {
  let summary = "Gradients of llama.position_embed_add for table and gate";
  let description = [{
    `d_table[j, c] = (1 - tanh(gate[0])) * sum over a, t of cotangent[a, t * n + j, c]`;
    `d_gate[0] = -(1 - tanh(gate[0])^2) * sum cotangent[a, t * n + j, c] * table[j, c]`; in
    `accumulation`.

    - (C1) the constraints of llama.position_embed_add, with `cotangent` for `input`

    Example:
    ```mlir
    %dt, %dg = llama.position_embed_grad %dy, %e, %g {accumulation = f32} : (tensor<2x40x64xf32>, tensor<10x64xf32>, tensor<1xf32>) -> (tensor<10x64xf32>, tensor<1xf32>)
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$table, Llama_Scalar:$gate,
                       TypeAttr:$accumulation);
  let results = (outs Llama_Tensor:$d_table, Llama_Tensor:$d_gate);
}

def PadTokensOp : Llama_ComputeOp<"pad_tokens", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Append zero tokens to every tile up to a multiple";
  let description = [{
    With n = dim(input, 1) / tiles and n8 the next multiple of `multiple`: `result[a, t * n8
    + j, c] = input[a, t * n + j, c]` for j < n, 0 for the rest.

    - (C1) `rank(input) = 3`
    - (C2) `tiles` divides `dim(input, 1)`

    Example:
    ```mlir
    %y = llama.pad_tokens %x {tiles = 4 : i64, multiple = 8 : i64} : (tensor<2x40x64xf32>) -> tensor<2x64x64xf32>
    ```
    Source: llama3-vision specification B4 step 7.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_PositiveInt:$tiles, Llama_PositiveInt:$multiple);
  let results = (outs Llama_Tensor:$result);
}

def DropTokensOp : Llama_ComputeOp<"drop_tokens", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Keep the first tokens of every tile";
  let description = [{
    With n8 = dim(input, 1) / tiles: `result[a, t * tokens + j, c] = input[a, t * n8 + j,
    c]`, j < tokens. Its transpose is llama.pad_tokens.

    - (C1) `rank(input) = 3`
    - (C2) `tiles` divides `dim(input, 1)`
    - (C3) `tokens <= dim(input, 1) / tiles`

    Example:
    ```mlir
    %y = llama.drop_tokens %x {tiles = 4 : i64, tokens = 10 : i64} : (tensor<2x64x64xf32>) -> tensor<2x40x64xf32>
    ```
    Source: llama3-vision specification B4 step 13.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_PositiveInt:$tiles, Llama_PositiveInt:$tokens);
  let results = (outs Llama_Tensor:$result);
}

def TapConcatOp : Llama_ComputeOp<"tap_concat", [Llama_Cheap, Llama_Vjp, Llama_NoCost]> {
  let summary = "Join the final state and the tapped states, taps interleaved";
  let description = [{
    `result[.., c] = final[.., c]` for c < C; `result[.., C + k * d + i] = taps[i][.., d]`,
    k the number of taps.

    - (C1) all operands have one type

    Example:
    ```mlir
    %y = llama.tap_concat %f, %t0, %t1 : (tensor<2x40x64xf32>, tensor<2x40x64xf32>, tensor<2x40x64xf32>) -> tensor<2x40x192xf32>
    ```
    Source: llama3-vision specification B4 step 14, J6.
  }];
  let arguments = (ins Llama_Tensor:$final, Variadic<Llama_Tensor>:$taps);
  let results = (outs Llama_Tensor:$result);
}

def TapSplitOp : Llama_ComputeOp<"tap_split", [Llama_NoCost]> {
  let summary = "Transpose of llama.tap_concat";
  let description = [{
    `final[.., c] = input[.., c]`, `taps[i][.., d] = input[.., C + k * d + i]`, k = `taps`,
    C = dim(input, -1) / (k + 1).

    - (C1) `taps >= 0` and `taps + 1` divides `dim(input, -1)`

    Example:
    ```mlir
    %df, %d0, %d1 = llama.tap_split %dy {taps = 2 : i64} : (tensor<2x40x192xf32>) -> (tensor<2x40x64xf32>, tensor<2x40x64xf32>, tensor<2x40x64xf32>)
    ```
    Source: transpose of llama.tap_concat.
  }];
  let arguments = (ins Llama_Tensor:$input, I64Attr:$taps);
  let results = (outs Llama_Tensor:$final, Variadic<Llama_Tensor>:$parts);
}

def ImagesToTokensOp : Llama_ComputeOp<"images_to_tokens", [Llama_View, Llama_Vjp, Llama_OwnBytes]> {
  let summary = "View the tokens of a sample's images as one sequence";
  let description = [{
    `result[b, m * N + j, c] = input[b * M + m, j, c]`; `like` [B, M] gives B and M.

    - (C1) `rank(input) = 3`, `rank(like) = 2`
    - (C2) `dim(input, 0) = dim(like, 0) * dim(like, 1)`

    Example:
    ```mlir
    %z = llama.images_to_tokens %x, %tiles : (tensor<4x40x128xf32>, tensor<2x2xi64>) -> tensor<2x80x128xf32>
    ```
    Source: view.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_IndexTensor:$like);
  let results = (outs Llama_Tensor:$result);
}

def TokensToImagesOp : Llama_ComputeOp<"tokens_to_images", [Llama_View, Llama_OwnBytes]> {
  let summary = "Transpose of llama.images_to_tokens";
  let description = [{
    `result[b * M + m, j, c] = input[b, m * N + j, c]`; `like` [B, M] gives B and M.

    - (C1) `rank(input) = 3`, `rank(like) = 2`
    - (C2) `dim(input, 0) = dim(like, 0)` and `dim(like, 1)` divides `dim(input, 1)`

    Example:
    ```mlir
    %x = llama.tokens_to_images %z, %tiles : (tensor<2x80x128xf32>, tensor<2x2xi64>) -> tensor<4x40x128xf32>
    ```
    Source: view.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_IndexTensor:$like);
  let results = (outs Llama_Tensor:$result);
}

def TakeTokensOp : Llama_ComputeOp<"take_tokens", [Llama_NoCost]> {
  let summary = "Take some tokens of each sample";
  let description = [{
    `result[b, k, :] = input[b, tokens[b, k], :]`, 0 where the number is not in [0, S).

    - (C1) `rank(input) = 3`, `rank(tokens) = 2` and `dim(input, 0) = dim(tokens, 0)`

    Example:
    ```mlir
    %y = llama.take_tokens %x, %t : (tensor<2x16x128xf32>, tensor<2x4xi64>) -> tensor<2x4x128xf32>
    ```
    Source: the tokens whose logits a command reads.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_IndexTensor:$tokens);
  let results = (outs Llama_Tensor:$result);
}

//===----------------------------------------------------------------------===//
// Loss: four ops, so that a split vocabulary is legal by the ordinary rules
//===----------------------------------------------------------------------===//

def RowMaxOp : Llama_ComputeOp<"row_max", [Llama_NoCost]> {
  let summary = "Largest entry of each row";
  let description = [{
    `result[..] = max_v logits[.., v]`, in `statistics`. It only keeps exponentials in
    range: it has no gradient.

    - (C1) `rank(logits) >= 1`

    Example:
    ```mlir
    %m = llama.row_max %l {statistics = f32} : (tensor<2x16x512xf32>) -> tensor<2x16xf32>
    ```
    Source: log-sum-exp.
  }];
  let arguments = (ins Llama_Tensor:$logits, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def RowSumExpOp : Llama_ComputeOp<"row_sum_exp", [Llama_Vjp, Llama_NoCost]> {
  let summary = "Sum of exponentials of each row";
  let description = [{
    `result[..] = sum_v exp(logits[.., v] - maximum[..])`, in `statistics`.

    - (C1) `shape(maximum) = shape(logits)` without the last dimension

    Example:
    ```mlir
    %s = llama.row_sum_exp %l, %m {statistics = f32} : (tensor<2x16x512xf32>, tensor<2x16xf32>) -> tensor<2x16xf32>
    ```
    Source: log-sum-exp.
  }];
  let arguments = (ins Llama_Tensor:$logits, Llama_Tensor:$maximum, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def RowSumExpGradOp : Llama_ComputeOp<"row_sum_exp_grad", [Llama_NoCost]> {
  let summary = "Gradient of llama.row_sum_exp for its logits";
  let description = [{
    `result[.., v] = cotangent[..] * exp(logits[.., v] - maximum[..])`, in the element type
    of `logits`.

    - (C1) `cotangent` and `maximum` have the shape of `logits` without the last dimension

    Example:
    ```mlir
    %dl = llama.row_sum_exp_grad %ds, %l, %m {statistics = f32} : (tensor<2x16xf32>, tensor<2x16x512xf32>, tensor<2x16xf32>) -> tensor<2x16x512xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_Tensor:$logits, Llama_Tensor:$maximum,
                       TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def TargetLogitOp : Llama_ComputeOp<"target_logit", [Llama_Vjp, Llama_NoCost]> {
  let summary = "Pick the logit of each row's label";
  let description = [{
    `result[..] = logits[.., labels[..]]`, 0 where the label is not in [0, V) (-100: no
    target), in `statistics`.

    - (C1) `shape(labels) = shape(logits)` without the last dimension

    Example:
    ```mlir
    %t = llama.target_logit %l, %y {statistics = f32} : (tensor<2x16x512xf32>, tensor<2x16xi64>) -> tensor<2x16xf32>
    ```
    Source: llama3-vision specification C (loss).
  }];
  let arguments = (ins Llama_Tensor:$logits, Llama_IndexTensor:$labels, TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$result);
}

def TargetLogitGradOp : Llama_ComputeOp<"target_logit_grad", [Llama_NoCost]> {
  let summary = "Gradient of llama.target_logit for its logits";
  let description = [{
    `result[.., v] = cotangent[..]` if `v = labels[..]`, else 0; `size` is V.

    - (C1) `shape(cotangent) = shape(labels)`

    Example:
    ```mlir
    %dl = llama.target_logit_grad %dt, %y {size = 512 : i64, element_type = f32} : (tensor<2x16xf32>, tensor<2x16xi64>) -> tensor<2x16x512xf32>
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Tensor:$cotangent, Llama_IndexTensor:$labels, Llama_PositiveInt:$size,
                       TypeAttr:$element_type);
  let results = (outs Llama_Tensor:$result);
}

def LinearLseOp : Llama_ComputeOp<"linear_lse", [Llama_Vjp, Llama_OwnCost]> {
  let summary = "Log-sum-exp and target of logits that are never all there";
  let description = [{
    With `logits[.., v] = sum_k input[.., k] * weight[v, k] (+ bias[v])`, formed in `statistics`:
    `lse[.., p] = log sum_v exp(logits[.., v])` over part p of the vocabulary, which lies in
    `parts` equal parts, and `target[..] = logits[.., labels[..]]`, 0 where the label is not in
    [0, V). Logits exist for `chunk` rows at a time (0: as many as `headChunk` says).

    One part for each rank that has a part of the vocabulary: the row maximum and the sum of
    exponentials of `lse` are those of the whole vocabulary.

    - (C1) `rank(input) >= 1`, `rank(weight) = 2` and `dim(weight, 1)` is the last of `input`
    - (C2) `shape(labels) = shape(input)` without the last dimension
    - (C3) `bias` has V elements
    - (C4) `parts` divides V
    - (C5) `chunk >= 0`

    Example:
    ```mlir
    %lse, %t = llama.linear_lse %x, %w, %y {parts = 2 : i64, chunk = 8 : i64, statistics = f32} : (tensor<2x16x128xf32>, tensor<512x128xf32>, tensor<2x16xi64>) -> (tensor<2x16x2xf32>, tensor<2x16xf32>)
    ```
    Source: llama3-vision specification C (loss); linear and cross-entropy in one, arXiv 2411.09009.
  }];
  let arguments = (ins Llama_Tensor:$input, Llama_Tensor:$weight, Llama_IndexTensor:$labels,
                       Optional<Llama_Tensor>:$bias, Llama_PositiveInt:$parts, I64Attr:$chunk,
                       TypeAttr:$statistics);
  let results = (outs Llama_Tensor:$lse, Llama_Tensor:$target);
  let extraClassDeclaration = extraTypes # [{
    /// The same by the ops that have all logits of the rows of `input`: values of the results' types.
    ::llvm::SmallVector<::mlir::Value> expand(::mlir::OpBuilder &builder);
  }];
}

def LinearLseGradOp : Llama_ComputeOp<"linear_lse_grad", [Llama_OwnCost]> {
  let summary = "Gradients of llama.linear_lse";
  let description = [{
    `d_logits[.., v] = d_lse[.., p] * exp(logits[.., v] - lse[.., p])`, p the part of v, plus
    `d_target[..]` where `v = labels[..]`, rounded to the type of `weight`; `d_input = d_logits
    weight`, in `element_type`; `d_weight = d_logits^T input`, summed in `accumulation`. Logits are
    formed again, for `chunk` rows at a time. A result that is not used is not formed.

    - (C1) `shape(lse) = shape(d_lse) = shape(labels) + [P]`, P divides V
    - (C2) `shape(d_target) = shape(labels)`
    - (C3) the constraints of llama.linear_lse

    Example:
    ```mlir
    %dx, %dw = llama.linear_lse_grad %dl, %dt, %x, %w, %y, %lse {chunk = 8 : i64, statistics = f32, accumulation = f32, element_type = f32} : (tensor<2x16x2xf32>, tensor<2x16xf32>, tensor<2x16x128xf32>, tensor<512x128xf32>, tensor<2x16xi64>, tensor<2x16x2xf32>) -> (tensor<2x16x128xf32>, tensor<512x128xf32>)
    ```
    Source: llama3-vision specification D2; arXiv 2411.09009.
  }];
  let arguments = (ins Llama_Tensor:$d_lse, Llama_Tensor:$d_target, Llama_Tensor:$input,
                       Llama_Tensor:$weight, Llama_IndexTensor:$labels, Llama_Tensor:$lse,
                       Optional<Llama_Tensor>:$bias, I64Attr:$chunk, TypeAttr:$statistics,
                       TypeAttr:$accumulation, TypeAttr:$element_type);
  let results = (outs Llama_Tensor:$d_input, Llama_Tensor:$d_weight);
  let extraClassDeclaration = extraTypes # [{
    /// The same by the ops that have all logits of the rows of `input`: values of the results'
    /// types, null for a result that is not used.
    ::llvm::SmallVector<::mlir::Value> expand(::mlir::OpBuilder &builder);
  }];
}

def CrossEntropyOp : Llama_ComputeOp<"cross_entropy", [Llama_Vjp, Llama_NoCost]> {
  let summary = "Sum of the cross-entropies of the valid rows";
  let description = [{
    `result[0] = sum over rows with labels[..] >= 0 of log(sum[..]) + maximum[..] -
    target[..]`. Not divided by the number of valid rows: that is the cotangent's business.

    - (C1) operands have one shape; `maximum`, `sum`, `target` one element type

    Example:
    ```mlir
    %loss = llama.cross_entropy %m, %s, %t, %y : (tensor<2x16xf32>, tensor<2x16xf32>, tensor<2x16xf32>, tensor<2x16xi64>) -> tensor<1xf32>
    ```
    Source: llama3-vision specification C (loss).
  }];
  let arguments = (ins Llama_Tensor:$maximum, Llama_Tensor:$sum, Llama_Tensor:$target,
                       Llama_IndexTensor:$labels);
  let results = (outs Llama_Tensor:$result);
}

def CrossEntropyGradOp : Llama_ComputeOp<"cross_entropy_grad", [Llama_NoCost]> {
  let summary = "Gradients of llama.cross_entropy for sum and target";
  let description = [{
    `d_sum[..] = cotangent[0] / sum[..]`, `d_target[..] = -cotangent[0]` on rows with
    labels[..] >= 0, else 0. The gradient for `maximum` is left out: it cancels against that
    of llama.row_sum_exp.

    - (C1) `cotangent` has one element
    - (C2) `shape(sum) = shape(labels)`

    Example:
    ```mlir
    %ds, %dt = llama.cross_entropy_grad %c, %s, %y : (tensor<1xf32>, tensor<2x16xf32>, tensor<2x16xi64>) -> (tensor<2x16xf32>, tensor<2x16xf32>)
    ```
    Source: llama3-vision specification D2.
  }];
  let arguments = (ins Llama_Scalar:$cotangent, Llama_Tensor:$sum, Llama_IndexTensor:$labels);
  let results = (outs Llama_Tensor:$d_sum, Llama_Tensor:$d_target);
}

//===----------------------------------------------------------------------===//
// Optimizer
//===----------------------------------------------------------------------===//

def SumOfSquaresOp : Llama_ComputeOp<"sum_of_squares", [Llama_NoCost]> {
  let summary = "Sum of the squares of all elements";
  let description = [{
    `result[0] = sum input^2`: rows of 1024 elements first, then the rows, always in the
    same order.

    - (C1) `rank(input) = 1`
    - (C2) 1024 divides `dim(input, 0)`

    Example:
    ```mlir
    %n = llama.sum_of_squares %g : (tensor<4096xf32>) -> tensor<1xf32>
    ```
    Source: global-norm clipping, torch.nn.utils.clip_grad_norm_.
  }];
  let arguments = (ins Llama_Tensor:$input);
  let results = (outs Llama_Tensor:$result);
}

def AddOnceOp : Llama_ComputeOp<"add_once", [Llama_NoCost]> {
  let summary = "Add a number to a sum, on one of the ranks that have it";
  let description = [{
    `result[0] = sum[0] + value[0]`, in the type of the sum; `sum[0]` where `factor[0] = 0`, also
    if the value is not finite.

    - (C1) `sum`, `value` and `factor` have shape [1]

    Example:
    ```mlir
    %t = llama.add_once %s, %v, %f : (tensor<1xf64>, tensor<1xf32>, tensor<1xf64>) -> tensor<1xf64>
    ```
    Source: sums of loss and squared gradients over all ranks; torch.nn.utils.clip_grad_norm_.
  }];
  let arguments = (ins Llama_Tensor:$sum, Llama_Tensor:$value, Llama_Tensor:$factor);
  let results = (outs Llama_Tensor:$result);
}

def ClipNormOp : Llama_ComputeOp<"clip_norm", [Llama_NoCost]> {
  let summary = "The hyperparameters of an update, from the norm of the gradient";
  let description = [{
    `sums` = [sum of the losses, sum of the squares of the gradient], `given` = [clip, rate,
    beta1, beta2, epsilon, decay, 1 - beta1^t, 1 - beta2^t]. Result, each rounded to
    `element_type`: [scale, rate, ...], as llama.adamw wants them. With `norm =
    sqrt(sums[1])`: `scale = min(1, clip / (norm + 1e-6))`, 1 if `clip <= 0`; NaN where a
    sum is not finite: no update.

    - (C1) `sums` has shape [2], `given` has shape [8]
    - (C2) `sums` and `given` have one element type

    Example:
    ```mlir
    %h = llama.clip_norm %s, %g {element_type = f32} : (tensor<2xf64>, tensor<8xf64>) -> tensor<8xf32>
    ```
    Source: torch.nn.utils.clip_grad_norm_.
  }];
  let arguments = (ins Llama_Tensor:$sums, Llama_Tensor:$given, TypeAttr:$element_type);
  let results = (outs Llama_Tensor:$result);
}

def AdamWOp : Llama_ComputeOp<"adamw", [Llama_NoCost]> {
  let summary = "One AdamW update";
  let description = [{
    `hyperparameters` = [scale, rate, beta1, beta2, epsilon, decay, 1 - beta1^t, 1 -
    beta2^t]. With `g = scale * gradient`:
    `m = beta1 * moment1 + (1 - beta1) * g`, `v = beta2 * moment2 + (1 - beta2) * g^2`,
    `master' = master * (1 - rate * decay) - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 -
    beta2^t)) + epsilon)`.
    Results: master', m, v; what was there where the scale is NaN.

    - (C1) `rank(master) = 1`; `master`, `moment1`, `moment2`, `gradient` have one shape
    - (C2) `hyperparameters` has shape [8]
    - (C3) `master`, `moment1`, `moment2`, `hyperparameters` have one element type

    Example:
    ```mlir
    %p, %m, %v = llama.adamw %p0, %m0, %v0, %g, %h : (tensor<4096xf32>, tensor<4096xf32>, tensor<4096xf32>, tensor<4096xf32>, tensor<8xf32>) -> (tensor<4096xf32>, tensor<4096xf32>, tensor<4096xf32>)
    ```
    Source: arXiv 1711.05101, algorithm 2; torch.optim.AdamW.
  }];
  let arguments = (ins Llama_Tensor:$master, Llama_Tensor:$moment1, Llama_Tensor:$moment2,
                       Llama_Tensor:$gradient, Llama_Tensor:$hyperparameters);
  let results = (outs Llama_Tensor:$new_master, Llama_Tensor:$new_moment1, Llama_Tensor:$new_moment2);
}

#endif // LLAMAC_LLAMA_LLAMAOPS_TD
