//===- Passes.td - Graphs of a rank to programs of stages --*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PIPELINE_PASSES_TD
#define LLAMAC_PIPELINE_PASSES_TD

include "mlir/Pass/PassBase.td"

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
      reductions of gradients, the norm, the update; the loss of each run is added to a sum
    - `dist.program "forward"`: the forward pieces, micro-batch after micro-batch

    With `fsdp=gradients` or `parameters` each application of the text and of the encoder
    is a piece of its own: weights of its units (`dist.unit`) are gathered into frames
    while the piece before it runs, gradients are reduced while the next one does.
    `llama.stages` on the module says how blocks and the encoder's work were shared out,
    `dist.alignment` where values begin (without it at multiples of 64 bytes).
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
      dist.input "hyperparameters" at @statistics[64] : tensor<8xf64>
      dist.input "once:" at @statistics[320] : tensor<1xf64>
      dist.output "sums" at @statistics[0] : tensor<2xf64>
      %0 = dist.zero bytes = 16 at @statistics[0]
      %1 = dist.zero bytes = 4096 at @gradients[0]
      %2 = dist.run @step.forward micro_batch = 0 writes [#dist.instance<"step.forward>step.backward", 0, 0>]
      %3 = dist.call @add_once(@statistics[0], @statistics[192], @statistics[320]) micro_batch = 0
      %4 = dist.run @step.backward micro_batch = 0 reads [#dist.instance<"step.forward>step.backward", 0, 0>]
      %5 = dist.run @step.forward micro_batch = 1 writes [#dist.instance<"step.forward>step.backward", 1, 0>]
      %6 = dist.call @add_once(@statistics[0], @statistics[192], @statistics[320]) micro_batch = 1
      %7 = dist.run @step.backward micro_batch = 1 reads [#dist.instance<"step.forward>step.backward", 1, 0>]
      %8 = dist.gradient_norm @gradient_norm(@gradients[0], @statistics[256])
      %9 = dist.call @add_once(@statistics[8], @statistics[256], @statistics[320])
      %10 = dist.call @clip_norm(@statistics[0], @statistics[64], @statistics[128])
      %11 = dist.update @adamw(@parameters[0], @moment1[0], @moment2[0], @gradients[0], @statistics[128]) after(%10)
    }
    ```
  }];
  let dependentDialects = ["::mlir::dist::DistDialect", "::mlir::shard::ShardDialect"];
  let options = [
    Option<"microBatches", "micro-batches", "int64_t", "1", "Micro-batches of one step.">,
    Option<"scheduleOption", "schedule", "std::string", "\"1f1b\"",
           "1f1b, gpipe, interleaved, sequential, zero-bubble, or a CSV file.">,
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
    Option<"alignment", "alignment", "int64_t", "64",
           "Bytes at a multiple of which arenas, and values in them, begin: a power of two.">,
    Option<"parameterAlignment", "parameter-alignment", "int64_t", "32",
           "The same of parameters, their gradients, masters and moments.">,
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
    dist.arena @activations role = activations bytes = 64
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

#endif // LLAMAC_PIPELINE_PASSES_TD
