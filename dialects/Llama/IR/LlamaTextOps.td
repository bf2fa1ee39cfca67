//===- LlamaTextOps.td - Embedding, norms, linear layers ---*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMATEXTOPS_TD
#define LLAMAC_LLAMA_LLAMATEXTOPS_TD

include "dialects/Llama/IR/LlamaBase.td"

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

#endif // LLAMAC_LLAMA_LLAMATEXTOPS_TD
