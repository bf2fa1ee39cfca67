// RUN: llama-opt %s -dist-check | FileCheck %s
// RUN: sed '/dist.statistics/d' %s | not llama-opt -dist-check 2>&1 | FileCheck %s --check-prefix=FAULT

// What was proved of a program of one rank: a run begins, calls a block and ends, its loss is
// written down. Of the block's code only the declaration counts.
// CHECK:      module attributes {llama.certificate = {arenas = [
// CHECK-SAME:   {bytes = 64 : i64, name = "inputs", peak = 32 : i64, stage = 0 : i64}
// CHECK-SAME:   gradient_reductions = 0 : i64
// CHECK-SAME:   programs = {forward = {actions = 4 : i64, communications = 0 : i64, communicators = 0 : i64, launch_queue = 1 : i64}}
// CHECK-SAME:   rank_classes = 1 : i64, ranks = 1 : i64}
// CHECK:      dist.program "forward" {
// CHECK-NEXT:   dist.run @forward micro_batch = 0
// CHECK-NEXT:   dist.statistics at @statistics[0]

// A program that breaks a rule has no certificate, also if it had one.
// FAULT: error: program 'forward', rule R9: stage 0: program 'forward' does not end with the sum of its losses
module attributes {llama.certificate = {ranks = 8 : i64}} {
  dist.arena @inputs bytes = 64
  dist.arena @workspace bytes = 128
  dist.arena @statistics bytes = 16
  func.func private @head(tensor<8xf32>) -> tensor<1xf32> attributes {llama.block, llama.code = @head.code::@head, llama.scratch = 64 : i64}
  module @head.code attributes {llama.blocks = ["head"], llama.signature = [(tensor<8xf32>) -> tensor<1xf32>, array<i64: -1>]} {
    llvm.func @head(%stream: !llvm.ptr, %buffers: !llvm.ptr) attributes {llama.scratch = 64 : i64} {
      llvm.return
    }
  }
  dist.graph @forward {
    dist.input "x" at @inputs[0] : tensor<8xf32>
    dist.call @head(@inputs[0], @workspace[0], @workspace[64]) {dist.operands = [#dist.operand<input, "x">, #dist.operand<value, 0 : i64>, #dist.operand<scratch>]}
    dist.output "loss" at @workspace[0] {dist.operands = [#dist.operand<value, 0 : i64>]} : tensor<1xf32>
  }
  dist.program "forward" {
    %0 = dist.run @forward micro_batch = 0
    %1 = dist.statistics at @statistics[0]
  }
}
