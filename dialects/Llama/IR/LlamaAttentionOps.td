//===- LlamaAttentionOps.td - Positions, heads, attention, feed-forward *- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMAATTENTIONOPS_TD
#define LLAMAC_LLAMA_LLAMAATTENTIONOPS_TD

include "dialects/Llama/IR/LlamaBase.td"

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

#endif // LLAMAC_LLAMA_LLAMAATTENTIONOPS_TD
