//===- LlamaOptimizerOps.td - Gradient norm and AdamW ------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMAOPTIMIZEROPS_TD
#define LLAMAC_LLAMA_LLAMAOPTIMIZEROPS_TD

include "dialects/Llama/IR/LlamaBase.td"

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

#endif // LLAMAC_LLAMA_LLAMAOPTIMIZEROPS_TD
