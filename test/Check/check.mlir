// RUN: llama-opt %s -dist-check | FileCheck %s
// RUN: sed '/%2 = dist.call @add_once/d' %s | not llama-opt -dist-check 2>&1 | FileCheck %s --check-prefix=FAULT
// RUN: sed 's/@statistics\[192\], @inputs/@statistics[128], @inputs/' %s | not llama-opt -dist-check 2>&1 | FileCheck %s --check-prefix=LITTLE
// RUN: sed 's/, @inputs\[64\])/)/' %s | not llama-opt -dist-check 2>&1 | FileCheck %s --check-prefix=NONE

// What was proved of a program of one rank: the sums are zero, a run begins, calls a block and
// ends, its loss is added. Of the block's code only the declaration counts.
// CHECK:      module attributes {llama.certificate = {arenas = [
// CHECK-SAME:   {bytes = 64 : i64, name = "inputs", peak = 32 : i64, stage = 0 : i64}
// CHECK-SAME:   gradient_reductions = 0 : i64
// CHECK-SAME:   programs = {forward = {actions = 5 : i64, communications = 0 : i64, communicators = 0 : i64, launch_queue = 1 : i64}}
// CHECK-SAME:   rank_classes = 1 : i64, ranks = 1 : i64}
// CHECK:      dist.program "forward"
// CHECK:        dist.run @forward micro_batch = 0
// CHECK-NEXT:   dist.call @add_once(@statistics[0], @statistics[64], @statistics[128], @workspace[0]) micro_batch = 0

// A program that breaks a rule has no certificate, also if it had one.
// FAULT: error: program 'forward', rule R9: stage 0: program 'forward' does not add what its last entry gives to the sums
// An executable allocates what a program needs: it must be all that it uses.
// LITTLE: error: program 'forward', rule R7: stage 0 uses 136 bytes of @statistics, but needs 128
// NONE: error: program 'forward', rule R7: stage 0 uses 32 bytes of @inputs, but needs 0
module attributes {llama.certificate = {ranks = 8 : i64}} {
  dist.arena @inputs role = inputs bytes = 64
  dist.arena @workspace role = workspace bytes = 128
  dist.arena @statistics role = statistics bytes = 192
  func.func private @head(tensor<8xf32>) -> tensor<1xf32> attributes {llama.block, llama.code = @head.code::@head, llama.scratch = 64 : i64}
  module @head.code attributes {llama.blocks = ["head"], llama.signature = [(tensor<8xf32>) -> tensor<1xf32>, array<i64: -1>]} {
    llvm.func @head(%stream: !llvm.ptr, %buffers: !llvm.ptr) attributes {llama.scratch = 64 : i64} {
      llvm.return
    }
  }
  func.func private @add_once(tensor<1xf64>, tensor<1xf32>, tensor<1xf64>) -> (tensor<1xf64> {llama.in_place = 0 : i64}) attributes {llama.block, llama.code = @add_once.code::@add_once, llama.scratch = 0 : i64}
  module @add_once.code attributes {llama.blocks = ["add_once"], llama.signature = [(tensor<1xf64>, tensor<1xf32>, tensor<1xf64>) -> tensor<1xf64>, array<i64: 0>]} {
    llvm.func @add_once(%stream: !llvm.ptr, %buffers: !llvm.ptr) attributes {llama.scratch = 0 : i64} {
      llvm.return
    }
  }
  dist.graph @forward {
    dist.input "x" at @inputs[0] : tensor<8xf32>
    dist.call @head(@inputs[0], @statistics[64], @workspace[64]) {dist.operands = [#dist.operand<input, "x">, #dist.operand<output, "loss">, #dist.operand<scratch>]}
    dist.output "loss" at @statistics[64] {dist.operands = [#dist.operand<output, "loss">]} : tensor<1xf32>
  }
  dist.program "forward" needs (@workspace[128], @statistics[192], @inputs[64]) {
    dist.input "once:" at @statistics[128] : tensor<1xf64>
    dist.output "sums" at @statistics[0] : tensor<2xf64>
    %0 = dist.zero bytes = 16 at @statistics[0]
    %1 = dist.run @forward micro_batch = 0
    %2 = dist.call @add_once(@statistics[0], @statistics[64], @statistics[128], @workspace[0]) micro_batch = 0
  }
}
