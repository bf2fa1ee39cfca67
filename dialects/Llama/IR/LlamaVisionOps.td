//===- LlamaVisionOps.td - Tiles, embeddings, taps, image states *- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMAVISIONOPS_TD
#define LLAMAC_LLAMA_LLAMAVISIONOPS_TD

include "dialects/Llama/IR/LlamaBase.td"

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

#endif // LLAMAC_LLAMA_LLAMAVISIONOPS_TD
