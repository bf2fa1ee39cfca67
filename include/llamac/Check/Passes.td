//===- Passes.td - What is proved of a device program -------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_CHECK_PASSES_TD
#define LLAMAC_CHECK_PASSES_TD

include "mlir/Pass/PassBase.td"

def NoteReductionsPass : Pass<"dist-note-reductions", "mlir::ModuleOp"> {
  let summary = "Note every sum that the blocks of a step form: in which type, of how many terms";
  let description = [{
    Reductions inside blocks are what the ops say of themselves (`ReductionOpInterface`), so this
    comes before blocks are lowered; how often a block runs, the programs say. Left on the module
    as `llama.reductions`, for `llamac check --precision-report`. A gradient that is summed in
    bf16, which `llama.options` do not ask for, is an error.

    Before:
    ```mlir
    func.func private @layer(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>) -> tensor<4x16xf32> attributes {llama.block} {
      %y = llama.linear %x, %w {accumulation = f32} : (tensor<4x8xf32>, tensor<16x8xf32>) -> tensor<4x16xf32>
      return %y : tensor<4x16xf32>
    }
    func.func @step(%x: tensor<4x8xf32>) -> tensor<4x16xf32> {
      %y = llama.apply @layer(%x) parameters [@w] : (tensor<4x8xf32>) -> tensor<4x16xf32>
      return %y : tensor<4x16xf32>
    }
    llama.parameter @w : tensor<16x8xf32> {frozen, initializer = #llama.initializer<ones>}
    dist.program "step" {
      %0 = dist.run @step micro_batch = 0
      %1 = dist.run @step micro_batch = 1
    }
    ```
    After:
    ```mlir
    module attributes {llama.reductions = [{count = 2 : i64, length = 8 : i64, op = "linear", result = f32, type = f32}, ...]} {
    ```
  }];
}

def CheckPass : Pass<"dist-check", "mlir::ModuleOp"> {
  let summary = "Prove that a device program neither hangs, nor races, nor adds up wrongly";
  let description = [{
    Needs a device program: graphs and programs on addresses, blocks with their code. Reads
    every `dist.program` back as launch lists, a class of ranks for each stage, and checks the
    rules of `llamac/Check/Rules.h`; checks that the places of parameters and of their state
    are those that the program uses. What holds is left on the module as `llama.certificate`.
    A program that breaks a rule is an error for each fault, with its places, and keeps no
    certificate of before. Nothing else changes. What the target's device has decides R5 and R6, and
    how many streams do not wait for each other; on the host they hold.

    Before:
    ```mlir
    dist.program "forward" needs (@workspace[128], @statistics[192], @inputs[64]) {
      dist.input "once:" at @statistics[128] : tensor<1xf64>
      dist.output "sums" at @statistics[0] : tensor<2xf64>
      %0 = dist.zero bytes = 16 at @statistics[0]
      %1 = dist.run @forward micro_batch = 0
      %2 = dist.call @add_once(@statistics[0], @statistics[64], @statistics[128], @workspace[0]) micro_batch = 0
    }
    ```
    After, for one rank:
    ```mlir
    module attributes {llama.certificate = {..., programs = {forward = {actions = 5 : i64, communications = 0 : i64, communicators = 0 : i64, launch_queue = 1 : i64}}, rank_classes = 1 : i64, ranks = 1 : i64}} {
    ```
  }];
  let options = [Option<"targetOption", "target", "std::string", "\"host\"",
                        "What runs the program.">,
                 Option<"chipOption", "chip", "std::string", "\"\"",
                        "Of a GPU, as --chip has it.">];
}

#endif // LLAMAC_CHECK_PASSES_TD
