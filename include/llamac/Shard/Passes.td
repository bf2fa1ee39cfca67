//===- Passes.td - Training graph to the graph of one rank -*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SHARD_PASSES_TD
#define LLAMAC_SHARD_PASSES_TD

include "mlir/Pass/PassBase.td"

def ShardPass : Pass<"dist-shard", "mlir::ModuleOp"> {
  let summary = "Give every value a placement on the grid of ranks";
  let description = [{
    Needs a training graph: functions `@forward` and `@step` that apply blocks. Adds the
    grid of ranks, `shard.grid @grid`, and the names of its axes, `dist.axes`: dp, pp, cp,
    tp, outermost first. Where there are more tp ranks than heads of keys and values, tp is
    two axes: `tp`, which splits the heads, and in it `tpr`, along which ranks share one.

    Types get a placement for an encoding (`#dist.placement`), shapes stay those of the
    whole tensors, and `dist.convert` stands where a value is wanted otherwise than it lies:

    | value | placement |
    |---|---|
    | tokens of text: ids, labels, positions, documents, image intervals | split over cp |
    | text activations between blocks | tokens split over cp, tp, tpr |
    | weights of q, gate, up, embedding, output head; of k, v | rows split over tp, tpr; over tp |
    | weights of o, down | columns split over tp, tpr |
    | norms, gates, extra rows of the embedding, image states, the encoder | whole |
    | gradient of a parameter | as the parameter, and a partial sum over the axes that split the work |
    | gradient of the image states | a partial sum over tp |

    The encoder's work is split by images, of which this pass sees nothing, or by tokens over
    `encoder-axes`; then keys and values are gathered. dp and pp split nothing else. A
    size that the grid does not divide is an error.

    Before, with `grid=tp=2`:
    ```mlir
    llama.parameter @up_proj.weight : tensor<16x8xf32> {initializer = #llama.initializer<normal>}
    llama.parameter @down_proj.weight : tensor<8x16xf32> {initializer = #llama.initializer<normal>}
    func.func private @mlp(%x: tensor<1x4x8xf32>, %up: tensor<16x8xf32>, %down: tensor<8x16xf32>) -> tensor<1x4x8xf32> attributes {llama.block} {
      %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<16x8xf32>) -> tensor<1x4x16xf32>
      %d = llama.linear %u, %down {accumulation = f32} : (tensor<1x4x16xf32>, tensor<8x16xf32>) -> tensor<1x4x8xf32>
      return %d : tensor<1x4x8xf32>
    }
    ```
    After:
    ```mlir
    shard.grid @grid(shape = 1x1x1x2)
    llama.parameter @up_proj.weight : tensor<16x8xf32, #dist.placement<[["tp"], []]>> {initializer = #llama.initializer<normal>}
    llama.parameter @down_proj.weight : tensor<8x16xf32, #dist.placement<[[], ["tp"]]>> {initializer = #llama.initializer<normal>}
    func.func private @mlp(%x: tensor<1x4x8xf32>, %up: tensor<16x8xf32, #dist.placement<[["tp"], []]>>, %down: tensor<8x16xf32, #dist.placement<[[], ["tp"]]>>) -> tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>> attributes {llama.block} {
      %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<16x8xf32, #dist.placement<[["tp"], []]>>) -> tensor<1x4x16xf32, #dist.placement<[[], [], ["tp"]]>>
      %d = llama.linear %u, %down {accumulation = f32} : (tensor<1x4x16xf32, #dist.placement<[[], [], ["tp"]]>>, tensor<8x16xf32, #dist.placement<[[], ["tp"]]>>) -> tensor<1x4x8xf32, #dist.placement<[[], [], []], partial = ["tp"]>>
      %y = dist.convert %d : tensor<1x4x8xf32, #dist.placement<[[], [], []], partial = ["tp"]>> -> tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>>
      return %y : tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>>
    }
    ```
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
    Needs a module that dist-shard has been over. Types lose their placements and become
    those of one rank's parts; a `dist.convert` becomes collectives of `shard`. Parameters
    keep the shape of the whole tensor (`global_shape`), what splits it (`split`) and over
    which axes their gradient is a partial sum (`partial`); arguments and results of graphs
    that are not whole get `dist.split` and `dist.partial`.

    An op that looks up rows of a split vocabulary gets its ids shifted to the rank's part
    (`llama.shift_index`). The rank's coordinate is one more input of the block and of the
    graphs, named `coordinate:tp` or whatever the axes are.

    Before:
    ```mlir
    func.func private @mlp(%x: tensor<1x4x8xf32>, %up: tensor<16x8xf32, #dist.placement<[["tp"], []]>>, %down: tensor<8x16xf32, #dist.placement<[[], ["tp"]]>>) -> tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>> attributes {llama.block} {
      %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<16x8xf32, #dist.placement<[["tp"], []]>>) -> tensor<1x4x16xf32, #dist.placement<[[], [], ["tp"]]>>
      %d = llama.linear %u, %down {accumulation = f32} : (tensor<1x4x16xf32, #dist.placement<[[], [], ["tp"]]>>, tensor<8x16xf32, #dist.placement<[[], ["tp"]]>>) -> tensor<1x4x8xf32, #dist.placement<[[], [], []], partial = ["tp"]>>
      %y = dist.convert %d : tensor<1x4x8xf32, #dist.placement<[[], [], []], partial = ["tp"]>> -> tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>>
      return %y : tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>>
    }
    ```
    After:
    ```mlir
    func.func private @mlp(%x: tensor<1x4x8xf32>, %up: tensor<8x8xf32>, %down: tensor<8x8xf32>) -> tensor<1x2x8xf32> attributes {llama.block} {
      %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
      %d = llama.linear %u, %down {accumulation = f32} : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
      %y = shard.reduce_scatter %d on @grid grid_axes = [3] scatter_axis = 1 : tensor<1x4x8xf32> -> tensor<1x2x8xf32>
      return %y : tensor<1x2x8xf32>
    }
    ```
  }];
  let dependentDialects = ["::mlir::shard::ShardDialect"];
}

def SplitBlocksPass : Pass<"dist-split-blocks", "mlir::ModuleOp"> {
  let summary = "Cut blocks at their collectives";
  let description = [{
    Needs local shapes (dist-localize). A block with collectives becomes as many functions
    as there are rounds of them, `@mlp.0`, `@mlp.1`, ..., and the collectives move between the
    applications in the graphs, with `llama.application` and `llama.phase` of the application
    that they come from. Blocks without collectives stay. After it blocks compute and graphs
    communicate.

    Before:
    ```mlir
    func.func private @mlp(%x: tensor<1x2x8xf32>, %up: tensor<8x8xf32>, %down: tensor<8x8xf32>) -> tensor<1x2x8xf32> attributes {llama.block} {
      %whole = shard.all_gather %x on @grid grid_axes = [3] gather_axis = 1 : tensor<1x2x8xf32> -> tensor<1x4x8xf32>
      %u = llama.linear %whole, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
      %d = llama.linear %u, %down {accumulation = f32} : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
      %part = shard.reduce_scatter %d on @grid grid_axes = [3] scatter_axis = 1 : tensor<1x4x8xf32> -> tensor<1x2x8xf32>
      %y = llama.add %x, %part : (tensor<1x2x8xf32>, tensor<1x2x8xf32>) -> tensor<1x2x8xf32>
      return %y : tensor<1x2x8xf32>
    }
    func.func @forward(%x: tensor<1x2x8xf32>) -> tensor<1x2x8xf32> {
      %y = llama.apply @mlp(%x) parameters [@up, @down] : (tensor<1x2x8xf32>) -> tensor<1x2x8xf32>
      return %y : tensor<1x2x8xf32>
    }
    ```
    After:
    ```mlir
    func.func @forward(%x: tensor<1x2x8xf32>) -> tensor<1x2x8xf32> {
      %whole = shard.all_gather %x on @grid grid_axes = [3] gather_axis = 1 : tensor<1x2x8xf32> -> tensor<1x4x8xf32>
      %d = llama.apply @mlp.0(%whole) parameters [@up, @down] : (tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
      %part = shard.reduce_scatter %d on @grid grid_axes = [3] scatter_axis = 1 : tensor<1x4x8xf32> -> tensor<1x2x8xf32>
      %y = llama.apply @mlp.1(%x, %part) : (tensor<1x2x8xf32>, tensor<1x2x8xf32>) -> tensor<1x2x8xf32>
      return %y : tensor<1x2x8xf32>
    }
    ```
  }];
  let dependentDialects = ["::mlir::shard::ShardDialect"];
}

#endif // LLAMAC_SHARD_PASSES_TD
