//===- Passes.td - What is proved of a device program -------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_CHECK_PASSES_TD
#define LLAMAC_CHECK_PASSES_TD

include "mlir/Pass/PassBase.td"

def CheckPass : Pass<"dist-check", "mlir::ModuleOp"> {
  let summary = "Prove that a device program neither hangs, nor races, nor adds up wrongly";
  let description = [{
    Needs a device program: graphs and programs on addresses, blocks with their code. Reads
    every `dist.program` back as launch lists, a class of ranks for each stage, and checks the
    rules of `llamac/Check/Rules.h`; checks that the places of parameters and of their state
    are those that the program uses. What holds is left on the module as `llama.certificate`.
    A program that breaks a rule is an error for each fault, with its places, and keeps no
    certificate of before. Nothing else changes.

    Before:
    ```mlir
    dist.program "forward" {
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
}

#endif // LLAMAC_CHECK_PASSES_TD
