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

def BuildProgramPass : Pass<"dist-build-program", "mlir::ModuleOp"> {
  let summary = "Cut the graphs into pieces and list what every pipeline stage does";
  let description = [{
    Needs the graphs `@step` and `@forward` with static, rank-local shapes; the grid is in
    the module. Cuts the chain of text blocks into chunks of equal cost (exactly, by
    dynamic programming), makes the schedule, puts the image encoder's work into it, and
    cuts both graphs into the pieces that the schedule's actions run. What one piece leaves
    for another lies in frames. Then for every stage:

    - the layout of its parameters: trained ones first, those whose gradients are reduced
      over the same axes together (`dist.arena`, `dist.storage`)
    - `dist.program "step"`: runs, sends, receives, collectives of the image states, then
      reductions of gradients, the norm, the update
    - `dist.program "forward"`: the forward pieces, micro-batch after micro-batch

    With `fsdp=gradients` or `parameters` each application of the text and of the encoder
    is a piece of its own: weights of its units (`dist.unit`) are gathered into frames
    while the piece before it runs, gradients are reduced while the next one does.
    `llama.stages` on the module says how blocks and the encoder's work were shared out.
    Whoever has measured a program can bound the next one's stages by `stage-memory`.

    Before:
    ```mlir
    func.func @step(%x: tensor<2x8xf32> {llama.input = "x"}, %dy: tensor<1xf32> {llama.input = "loss_gradient"}) -> (tensor<1xf32> {llama.output = "loss"}) {
      %y:2 = llama.apply @head.forward(%x) parameters [@w] {llama.application = 0 : i64, llama.phase = "forward"} : (tensor<2x8xf32>) -> (tensor<1xf32>, tensor<2x4xf32>)
      llama.apply @head.backward_weight(%dy, %x, %y#1) gradients [@w] {llama.application = 0 : i64, llama.phase = "backward_weight"} : (tensor<1xf32>, tensor<2x8xf32>, tensor<2x4xf32>) -> ()
      return %y#0 : tensor<1xf32>
    }
    ```
    After, with `micro-batches=2`, also:
    ```mlir
    dist.program "step" {
      %0 = dist.zero bytes = 4096 at @gradients[0]
      %1 = dist.run @step.forward micro_batch = 0 writes [#dist.instance<"step.forward>step.backward", 0, 0>]
      %2 = dist.run @step.backward micro_batch = 0 reads [#dist.instance<"step.forward>step.backward", 0, 0>]
      %3 = dist.run @step.forward micro_batch = 1 writes [#dist.instance<"step.forward>step.backward", 1, 0>]
      %4 = dist.run @step.backward micro_batch = 1 reads [#dist.instance<"step.forward>step.backward", 1, 0>]
      %5 = dist.gradient_norm @gradient_norm(@gradients[0])
      %6 = dist.statistics at @statistics[0]
      %7 = dist.update @adamw
    }
    ```
  }];
  let dependentDialects = ["::mlir::dist::DistDialect", "::mlir::shard::ShardDialect"];
  let options = [
    Option<"microBatches", "micro-batches", "int64_t", "1", "Micro-batches of one step.">,
    Option<"scheduleOption", "schedule", "std::string", "\"1f1b\"",
           "1f1b, gpipe, interleaved, zero-bubble, or a CSV file.">,
    Option<"virtualStages", "virtual-stages", "int64_t", "1", "Chunks of a stage.">,
    Option<"consecutive", "consecutive", "int64_t", "0",
           "Micro-batches that pass a chunk before the next one; 0: as many as stages.">,
    Option<"encoderOption", "encoder", "std::string", "\"replicated\"",
           "Where the image encoder runs: replicated or first-stage.">,
    Option<"encoderShard", "encoder-shard", "std::string", "\"images\"",
           "What of its work is split: images or tokens.">,
    Option<"encoderAxes", "encoder-axes", "std::string", "\"\"",
           "Axes that split it, with commas between them.">,
    Option<"encoderGroup", "encoder-group", "int64_t", "1", "Micro-batches of a round.">,
    Option<"fsdp", "fsdp", "std::string", "\"none\"",
           "What is sharded over dp: none, optimizer, gradients, parameters.">,
    Option<"blocksInFlight", "blocks-in-flight", "int64_t", "2",
           "With fsdp=gradients, blocks that have whole gradients at once; with parameters, that "
           "have whole weights.">,
    Option<"machineOption", "machine", "std::string", "\"cpu\"",
           "What the stages are planned for: a preset or a JSON file.">,
    ListOption<"stageMemory", "stage-memory", "int64_t",
               "Bytes of each stage that what the partition counts may take; none: no cap. If no "
               "cut fits, the one that lacks least is taken.">];
}

def PlaceFramesPass : Pass<"dist-place-frames", "mlir::ModuleOp"> {
  let summary = "Give every frame instance an address, and entries their events";
  let description = [{
    Executes the programs of all stages on paper, puts their entries into the order of the
    times found, gives every frame instance an address in the arena `@activations` for the
    time in which it lives, and lets entries wait (`after`) for entries of other streams:
    for the writers of what they read, and for the last users of the bytes they write.
    What entries wait for already stays.

    Before:
    ```mlir
    dist.program "step" {
      %0 = dist.run @produce micro_batch = 0 writes [#dist.instance<"y", 0, 0>]
      %1 = dist.run @consume micro_batch = 0 reads [#dist.instance<"y", 0, 0>]
      %2 = dist.run @produce micro_batch = 1 writes [#dist.instance<"y", 1, 0>]
      %3 = dist.run @consume micro_batch = 1 reads [#dist.instance<"y", 1, 0>]
    }
    ```
    After:
    ```mlir
    dist.arena @activations bytes = 64
    dist.program "step" {
      %0 = dist.run @produce micro_batch = 0 writes [#dist.instance<"y", 0, 0>] at(@activations[0])
      %1 = dist.run @consume micro_batch = 0 reads [#dist.instance<"y", 0, 0>] at(@activations[0])
      %2 = dist.run @produce micro_batch = 1 writes [#dist.instance<"y", 1, 0>] at(@activations[0])
      %3 = dist.run @consume micro_batch = 1 reads [#dist.instance<"y", 1, 0>] at(@activations[0])
    }
    ```
  }];
  let dependentDialects = ["::mlir::dist::DistDialect"];
  let options = [Option<"machine", "machine", "std::string", "\"cpu\"",
                        "What tells how long a run takes: a preset or a JSON file.">];
}

#endif // LLAMAC_PARALLELIZE_PASSES_TD
