// RUN: llama-opt %s -split-input-file -llama-plan-reserves="target=cuda chip=sm_90a" | FileCheck %s
// RUN: llama-opt %s -split-input-file -llama-plan-reserves="target=cuda chip=sm_90a" | FileCheck %s --check-prefix=FIRST
// RUN: llama-opt %s -split-input-file -llama-plan-reserves="target=cuda chip=sm_87" | FileCheck %s --check-prefix=SMALL
// RUN: llama-opt %s -split-input-file -llama-plan-reserves | FileCheck %s --check-prefix=HOST
// RUN: llama-opt %s -split-input-file -llama-plan-reserves="target=cuda chip=sm_90a" -llama-plan-reserves | FileCheck %s --check-prefix=HOST

// The sum of 16 MB takes as many multiprocessors as there are for what runs beside blocks.
// FIRST:      module attributes {{.*}}llama.reserves = [{communicators = 308281344 : i64, product_bytes = 0 : i64, product_streams = array<i64>}]
// FIRST:      dist.communicator @dp axes ["dp"] {llama.share = {bytes = 308281344 : i64, multiprocessors = 8 : i64}}
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
shard.grid @grid(shape = 2x1x1x1)
dist.communicator @dp axes ["dp"]
dist.arena @gradients role = gradients bytes = 16777216
dist.program "step" needs (@gradients[16777216]) {
  %0 = dist.collective all_reduce @dp from @gradients[0] to @gradients[0] : 1 x 4194304 x f32
}
}

// -----

// A sum of two numbers needs one multiprocessor, one of 16 MB as many as there are for what runs beside blocks. Each has two
// connections of its ring, and two to its one neighbour in a tree. A transfer has two. What no program uses is there all the same.
// CHECK:      module attributes {{.*}}llama.reserves = [{communicators = 404619264 : i64, product_bytes = 0 : i64, product_streams = array<i64>},
// CHECK-SAME:   {communicators = 404619264 : i64, product_bytes = 33554432 : i64, product_streams = array<i64: 0>}]
// CHECK-DAG:  dist.communicator @sums axes ["dp"] {llama.share = {bytes = 38535168 : i64, multiprocessors = 1 : i64}}
// CHECK-DAG:  dist.communicator @gradients axes ["dp"] {llama.share = {bytes = 308281344 : i64, multiprocessors = 8 : i64}}
// CHECK-DAG:  dist.communicator @forward edge [0, 1] {llama.share = {bytes = 38535168 : i64, multiprocessors = 2 : i64}}
// CHECK-DAG:  dist.communicator @idle axes ["dp"] {llama.share = {bytes = 19267584 : i64, multiprocessors = 1 : i64}}

// All streams together leave half of a small device to blocks: shares are halved until they do.
// SMALL-DAG:  dist.communicator @gradients axes ["dp"] {llama.share = {bytes = 154140672 : i64, multiprocessors = 4 : i64}}
// SMALL-DAG:  dist.communicator @forward edge [0, 1] {llama.share = {bytes = 19267584 : i64, multiprocessors = 1 : i64}}

// The host has neither.
// HOST-NOT: llama.reserves
// HOST-NOT: llama.share
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
  shard.grid @grid(shape = 2x2x1x1)
  dist.communicator @sums axes ["dp"]
  dist.communicator @gradients axes ["dp"]
  dist.communicator @forward edge [0, 1]
  dist.communicator @idle axes ["dp"]
  dist.arena @stage0.gradients role = gradients bytes = 16777216
  dist.arena @stage1.gradients role = gradients bytes = 16777216 {stage = 1 : i64}
  dist.arena @stage1.workspace role = workspace bytes = 4096 {stage = 1 : i64}
  func.func private @layer(tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.code = @layer.code::@layer, llama.scratch = 0 : i64}
  module @layer.code attributes {llama.blocks = ["layer"]} {
    llvm.func @llrt_gemm(!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr)
    llvm.func @layer(%stream: !llvm.ptr, %buffers: !llvm.ptr) attributes {llama.scratch = 0 : i64} {
      %a = llvm.load %buffers : !llvm.ptr -> !llvm.ptr
      %none = llvm.mlir.zero : !llvm.ptr
      llvm.call @llrt_gemm(%stream, %none, %a, %a, %none, %a) : (!llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr, !llvm.ptr) -> ()
      llvm.return
    }
  }
  dist.program "step" {
    %0 = dist.collective all_reduce @sums from @stage0.gradients[0] to @stage0.gradients[0] : 1 x 2 x f64
    %1 = dist.collective all_reduce @gradients from @stage0.gradients[0] to @stage0.gradients[0] : 1 x 4194304 x f32 {stream = 1 : i64}
    %2 = dist.send @forward <"h", 0, 0> : 262144 x f32 tag [0, 0, 0] at @stage0.gradients[0] {stream = 2 : i64}
  }
  dist.program "step" attributes {stage = 1 : i64} {
    %0 = dist.collective all_reduce @sums from @stage1.gradients[0] to @stage1.gradients[0] : 1 x 2 x f64
    %1 = dist.collective all_reduce @gradients from @stage1.gradients[0] to @stage1.gradients[0] : 1 x 4194304 x f32 {stream = 1 : i64}
    %2 = dist.receive @forward <"h", 0, 0> : 262144 x f32 tag [0, 0, 0] at @stage1.gradients[0] {stream = 2 : i64}
    %3 = dist.call @layer(@stage1.workspace[0], @stage1.workspace[64], @stage1.workspace[128])
  }
}
