//===- LlamaLossOps.td - Logits and the loss ---------------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Four ops, so that a split vocabulary is legal by the ordinary rules.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMALOSSOPS_TD
#define LLAMAC_LLAMA_LLAMALOSSOPS_TD

include "dialects/Llama/IR/LlamaBase.td"

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

#endif // LLAMAC_LLAMA_LLAMALOSSOPS_TD
