//===- Passes.td - Model graph to training graph -----------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TRAIN_PASSES_TD
#define LLAMAC_TRAIN_PASSES_TD

include "mlir/Pass/PassBase.td"

def SpecializePass : Pass<"llama-specialize", "mlir::ModuleOp"> {
  let summary = "Fix the number of samples, tokens and images of a micro-batch";
  let description = [{
    Needs a model graph (`@model` applies blocks). Gives the inputs of `@model`
    static shapes by name, then the blocks and their applications by inference.

    Before, with `batch=2 text-length=16`:
    ```mlir
    func.func private @embedding(%ids: tensor<?x?xi64>, %table: tensor<512x8xf32>) -> tensor<?x?x8xf32> attributes {llama.block} {
    ```
    After:
    ```mlir
    func.func private @embedding(%ids: tensor<2x16xi64>, %table: tensor<512x8xf32>) -> tensor<2x16x8xf32> attributes {llama.block} {
    ```
  }];
  let options = [
    Option<"batch", "batch", "int64_t", "1", "Samples of a micro-batch.">,
    Option<"textLength", "text-length", "int64_t", "192", "Text tokens of a sample.">,
    Option<"images", "images", "int64_t", "1", "Images of a sample (vision models).">];
}

def AssignPrecisionPass : Pass<"llama-assign-precision", "mlir::ModuleOp"> {
  let summary = "Assign storage, compute, statistics and accumulation types";
  let description = [{
    Needs a model graph. Gives parameters the storage type and activations the
    compute type, sets `statistics` and `accumulation` of every op, and records on
    block arguments the type in which gradients are summed
    (`llama.gradient_type`). Runs before differentiation, so that backward ops
    are born with their types.

    | precision | storage, compute | statistics | accumulation |
    |---|---|---|---|
    | bf16 | bf16 | f32 | f32 (`accumulate=bf16` to see what goes wrong) |
    | f32 | f32 | f32 | f32 |
    | f64 | f64 | f64 | f64 |

    Before, with `precision=bf16`:
    ```mlir
    llama.parameter @w : tensor<32x8xf32> {initializer = #llama.initializer<normal>}
    func.func private @embedding(%ids: tensor<2x4xi64>, %w: tensor<32x8xf32>) -> tensor<2x4x8xf32> attributes {llama.block} {
      %h = llama.embed %ids, %w : (tensor<2x4xi64>, tensor<32x8xf32>) -> tensor<2x4x8xf32>
    ```
    After:
    ```mlir
    llama.parameter @w : tensor<32x8xbf16> {initializer = #llama.initializer<normal>}
    func.func private @embedding(%ids: tensor<2x4xi64>, %w: tensor<32x8xbf16> {llama.gradient_type = f32}) -> tensor<2x4x8xbf16> attributes {llama.block} {
      %h = llama.embed %ids, %w : (tensor<2x4xi64>, tensor<32x8xbf16>) -> tensor<2x4x8xbf16>
    ```
  }];
  let options = [
    Option<"precision", "precision", "std::string", "\"bf16\"", "bf16, f32 or f64.">,
    Option<"accumulate", "accumulate", "std::string", "\"f32\"",
           "Type in which parameter gradients are summed: f32 or bf16.">];
}

def FreezePass : Pass<"llama-freeze", "mlir::ModuleOp"> {
  let summary = "Mark the parameters that are not trained";
  let description = [{
    `trainable` is `all`; `adapter` (image encoder, projector, cross-attention
    layers, the extra embedding rows); `adapter-without-rows`; or patterns of
    checkpoint keys with `*`, separated by commas. Each pattern must name a
    parameter. Source of `adapter`: llama3-vision specification F.

    Before, with `trainable=head.*`:
    ```mlir
    llama.parameter @head.weight : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
    llama.parameter @norm.weight : tensor<8xf32> {initializer = #llama.initializer<ones>}
    ```
    After:
    ```mlir
    llama.parameter @head.weight : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
    llama.parameter @norm.weight : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
    ```
  }];
  let options = [Option<"trainable", "trainable", "std::string", "\"all\"",
                        "all, adapter, adapter-without-rows or patterns.">];
}

def FuseLossPass : Pass<"llama-fuse-loss", "mlir::ModuleOp"> {
  let summary = "Form logits and loss in chunks of tokens";
  let description = [{
    Where a block multiplies by the table of the vocabulary and takes row maximum, sum of exponentials
    and target of the logits, makes one op of the product and these: llama.linear_lse, which has the
    logits of some tokens at a time. Its gradient op does the same, and forms logits once more.

    `head-chunk` says when, and how many tokens at a time: `none` never; `auto` where the logits of a
    micro-batch take more than 1 GiB, in chunks of the size that `headChunk` (Llama.h) finds; a number, always, with
    so many tokens of a rank, rounded up to a multiple of 8.

    Logits that the model returns are then those of some tokens of each sample, as many as fit a chunk
    (all of them if they fit): which ones, a new input `logit_tokens` [B, K] says.

    Before:
    ```mlir
    %l = llama.linear %h, %w {accumulation = f32, element_type = f32} : (tensor<2x16x8xf32>, tensor<24x8xf32>) -> tensor<2x16x24xf32>
    %m = llama.row_max %l {statistics = f32} : (tensor<2x16x24xf32>) -> tensor<2x16xf32>
    %s = llama.row_sum_exp %l, %m {statistics = f32} : (tensor<2x16x24xf32>, tensor<2x16xf32>) -> tensor<2x16xf32>
    %t = llama.target_logit %l, %labels {statistics = f32} : (tensor<2x16x24xf32>, tensor<2x16xi64>) -> tensor<2x16xf32>
    ```
    After, with `head-chunk=8`:
    ```mlir
    %lse, %t = llama.linear_lse %h, %w, %labels {chunk = 8 : i64, parts = 1 : i64, statistics = f32} : (tensor<2x16x8xf32>, tensor<24x8xf32>, tensor<2x16xi64>) -> (tensor<2x16x1xf32>, tensor<2x16xf32>)
    %m = llama.row_max %lse {statistics = f32} : (tensor<2x16x1xf32>) -> tensor<2x16xf32>
    %s = llama.row_sum_exp %lse, %m {statistics = f32} : (tensor<2x16x1xf32>, tensor<2x16xf32>) -> tensor<2x16xf32>
    %x = llama.take_tokens %h, %logit_tokens : (tensor<2x16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
    %l = llama.linear %x, %w {accumulation = f32, element_type = f32} : (tensor<2x4x8xf32>, tensor<24x8xf32>) -> tensor<2x4x24xf32>
    ```
  }];
  let dependentDialects = ["mlir::llama::LlamaDialect"];
  let options = [Option<"headChunk", "head-chunk", "std::string", "\"auto\"",
                        "auto, none, or tokens whose logits exist together.">];
}

def DifferentiatePass : Pass<"llama-differentiate", "mlir::ModuleOp"> {
  let summary = "Make the training step: forward, then backward by blocks";
  let description = [{
    Needs `@model` with static shapes. For each block and each set of arguments
    that need a gradient, forward and backward ops are built in one body, which is
    then sliced into `@B.forward` (results and residuals), `@B.backward_input`
    (gradients of inputs) and `@B.backward_weight` (adds gradients of parameters
    to those so far). A residual is where a slice stops: with `recompute=none` at
    every forward value, `selective` not at norms, activations, products and
    sums, `full` only at the block's arguments. Views are never kept. A frozen
    parameter loses its gradient op and the residuals that only it reads, because
    nothing asks for them.

    `@model` is renamed `@forward`; `@step` takes its inputs and `loss_gradient`,
    the cotangent of the loss sum. A value that several applications read gets
    the sum of their gradients by `@add.*` blocks. Every application says which one
    of the model graph it belongs to (`llama.application`, counted from 0) and in what
    part of the work it is (`llama.phase`): what cuts the step into stages.

    Before:
    ```mlir
    func.func private @scale(%x: tensor<1xf32>, %w: tensor<1x1xf32>) -> tensor<1xf32> attributes {llama.block} {
      %y = llama.linear %x, %w {accumulation = f32} : (tensor<1xf32>, tensor<1x1xf32>) -> tensor<1xf32>
      return %y : tensor<1xf32>
    }
    func.func @model(%x: tensor<1xf32> {llama.input = "x"}) -> (tensor<1xf32> {llama.output = "loss"}) {
      %loss = llama.apply @scale(%x) parameters [@w] : (tensor<1xf32>) -> tensor<1xf32>
      return %loss : tensor<1xf32>
    }
    ```
    After:
    ```mlir
    func.func private @scale.backward_weight(%x: tensor<1xf32>, %dy: tensor<1xf32>, %sum: tensor<1x1xf32>) -> (tensor<1x1xf32> {llama.in_place = 2 : i64}) attributes {llama.block} {
      %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<1xf32>, tensor<1xf32>) -> tensor<1x1xf32>
      %new = llama.add %sum, %dw : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
      return %new : tensor<1x1xf32>
    }
    func.func @step(%x: tensor<1xf32> {llama.input = "x"}, %d: tensor<1xf32> {llama.input = "loss_gradient"}) -> (tensor<1xf32> {llama.output = "loss"}) {
      %loss = llama.apply @scale(%x) parameters [@w] {llama.application = 0 : i64, llama.phase = "forward"} : (tensor<1xf32>) -> tensor<1xf32>
      llama.apply @scale.backward_weight(%x, %d) gradients [@w] {llama.application = 0 : i64, llama.phase = "backward_weight"} : (tensor<1xf32>, tensor<1xf32>) -> ()
      return %loss : tensor<1xf32>
    }
    ```
  }];
  let options = [Option<"recompute", "recompute", "std::string", "\"none\"",
                        "none, selective or full.">];
}

def AddOptimizerPass : Pass<"llama-add-optimizer", "mlir::ModuleOp"> {
  let summary = "Add the blocks of the optimizer";
  let description = [{
    Adds `@gradient_norm` (sum of squares) and `@adamw`, each over all trainable
    elements at once: every trainable parameter in the order of its declaration,
    padded to a multiple of 16 elements, the whole to a multiple of 1024. Where the
    storage type is not the type of the master, `@adamw` also returns the rounded
    weights. `@add_once` adds a loss or a norm to the sum of a step, in f64; `@clip_norm`
    makes the hyperparameters of `@adamw` from the sums and from those of the user.

    Before:
    ```mlir
    llama.parameter @w : tensor<3xf32> {initializer = #llama.initializer<ones>}
    llama.parameter @frozen : tensor<4096xf32> {frozen, initializer = #llama.initializer<ones>}
    llama.parameter @v : tensor<20xf32> {initializer = #llama.initializer<ones>}
    ```
    After, also:
    ```mlir
    func.func private @gradient_norm(%gradient: tensor<1024xf32>) -> tensor<1xf32> attributes {llama.block} {
      %0 = llama.sum_of_squares %gradient : (tensor<1024xf32>) -> tensor<1xf32>
      return %0 : tensor<1xf32>
    }
    func.func private @add_once(%sum: tensor<1xf64>, %value: tensor<1xf32>, %factor: tensor<1xf64>) -> (tensor<1xf64> {llama.in_place = 0 : i64}) attributes {llama.block} {
      %0 = llama.add_once %sum, %value, %factor : (tensor<1xf64>, tensor<1xf32>, tensor<1xf64>) -> tensor<1xf64>
      return %0 : tensor<1xf64>
    }
    func.func private @clip_norm(%sums: tensor<2xf64>, %given: tensor<8xf64>) -> tensor<8xf32> attributes {llama.block} {
      %0 = llama.clip_norm %sums, %given {element_type = f32} : (tensor<2xf64>, tensor<8xf64>) -> tensor<8xf32>
      return %0 : tensor<8xf32>
    }
    func.func private @adamw(%master: tensor<1024xf32>, %m: tensor<1024xf32>, %v: tensor<1024xf32>, %gradient: tensor<1024xf32>, %h: tensor<8xf32>) -> (tensor<1024xf32> {llama.in_place = 0 : i64}, tensor<1024xf32> {llama.in_place = 1 : i64}, tensor<1024xf32> {llama.in_place = 2 : i64}) attributes {llama.block} {
    ```
  }];
}

#endif // LLAMAC_TRAIN_PASSES_TD
