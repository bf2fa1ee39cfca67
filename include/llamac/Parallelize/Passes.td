//===- Passes.td - Training graph to parallel program ------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PARALLELIZE_PASSES_TD
#define LLAMAC_PARALLELIZE_PASSES_TD

include "mlir/Pass/PassBase.td"

def ShardPass : Pass<"dist-shard", "mlir::ModuleOp"> {
  let summary = "Give every value a placement on the grid of ranks";
  let description = [{
    TODO
  }];
  let dependentDialects = ["::mlir::dist::DistDialect", "::mlir::shard::ShardDialect"];
  let options = [
    Option<"grid", "grid", "std::string", "\"\"",
           "Ranks along each axis, as in `tp=2,cp=1,pp=1,dp=1`.">,
    Option<"encoderShard", "encoder-shard", "std::string", "\"images\"",
           "What of the image encoder's work is split: `images` or `tokens`.">,
    ListOption<"encoderAxes", "encoder-axes", "std::string",
               "Axes that split the encoder's work: `tp`, `cp`, `pp`.">];
}

def LocalizePass : Pass<"dist-localize", "mlir::ModuleOp"> {
  let summary = "Shrink values to what a rank holds; conversions become collectives";
  let description = [{
    TODO
  }];
  let dependentDialects = ["::mlir::shard::ShardDialect"];
}

def SplitBlocksPass : Pass<"dist-split-blocks", "mlir::ModuleOp"> {
  let summary = "Cut blocks at their collectives";
  let description = [{
    TODO
  }];
  let dependentDialects = ["::mlir::shard::ShardDialect"];
}

def BuildProgramPass : Pass<"dist-build-program", "mlir::ModuleOp"> {
  let summary = "List the actions of a step and of a forward call";
  let description = [{
    Needs the graphs `@step` and `@forward` with static shapes. Adds one program for
    each: a run per micro-batch; the step ends with the gradient norm and the update,
    unless nothing is trained. Counts the floating-point operations of both programs
    (`CostOpInterface`) into the module attribute `llama.operations`, because the
    ops that know them are gone once blocks are lowered.

    Before:
    ```mlir
    func.func @step(%x: tensor<2x8xf32>, %dy: tensor<2x4xf32>) -> tensor<2x4xf32> {
      %y = llama.apply @head(%x) parameters [@w] : (tensor<2x8xf32>) -> tensor<2x4xf32>
      llama.apply @head.backward_weight(%dy, %x) gradients [@w] : (tensor<2x4xf32>, tensor<2x8xf32>) -> ()
      return %y : tensor<2x4xf32>
    }
    ```
    After, with `micro-batches=2`, also:
    ```mlir
    dist.program "step" {
      dist.run @step micro_batch = 0
      dist.run @step micro_batch = 1
      dist.gradient_norm @gradient_norm
      dist.update @adamw
    }
    ```
  }];
  let dependentDialects = ["::mlir::dist::DistDialect"];
  let options = [Option<"microBatches", "micro-batches", "int64_t", "1",
                        "Micro-batches of one step.">];
}

#endif // LLAMAC_PARALLELIZE_PASSES_TD
