//===- Passes.td - What a program costs --------------------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_COST_PASSES_TD
#define LLAMAC_COST_PASSES_TD

include "mlir/Pass/PassBase.td"

def CountOperationsPass : Pass<"llama-count-operations", "mlir::ModuleOp"> {
  let summary = "Count the operations of a step and of a forward call";
  let description = [{
    Counts the floating-point operations (`CostOpInterface`) of `@step` and `@forward` on
    all micro-batches of one coordinate of dp into the module attribute `llama.operations`: before sharding,
    so that work done twice is not counted twice, and before the ops are lowered.

    Before:
    ```mlir
    func.func private @layer(%x: tensor<2x8xf32>, %w: tensor<4x8xf32>) -> tensor<2x4xf32> attributes {llama.block} {
      %y = llama.linear %x, %w {accumulation = f32} : (tensor<2x8xf32>, tensor<4x8xf32>) -> tensor<2x4xf32>
      return %y : tensor<2x4xf32>
    }
    func.func @step(%x: tensor<2x8xf32>) -> tensor<2x4xf32> {
      %y = llama.apply @layer(%x) parameters [@w] : (tensor<2x8xf32>) -> tensor<2x4xf32>
      return %y : tensor<2x4xf32>
    }
    ```
    After, with `micro-batches=2`:
    ```mlir
    module attributes {llama.operations = {step = 256 : i64}} {
    ```
  }];
  let options = [Option<"microBatches", "micro-batches", "int64_t", "1",
                        "Micro-batches of one step on one coordinate of dp.">];
}

#endif // LLAMAC_COST_PASSES_TD
