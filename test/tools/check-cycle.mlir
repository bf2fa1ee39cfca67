// Both stages receive before they send, each on one stream: each waits for the other.
// RUN: not llamac check %s 2>&1 | FileCheck %s

// CHECK: llamac: error: program 'step', rule R4: these actions wait for each other:
// CHECK-NEXT: stage 0, action 0 (receive of chunk 1, micro-batch 0, value 0, {{.*}}check-cycle.mlir:[[#@LINE+12]]:10)
// CHECK-NEXT: stage 0, action 1 (zero, {{.*}}check-cycle.mlir:[[#@LINE+12]]:10)
// CHECK-NEXT: stage 0, action 2 (send of chunk 0, micro-batch 0, value 0, {{.*}}check-cycle.mlir:[[#@LINE+12]]:10)
// CHECK-NEXT: stage 1, action 0 (receive of chunk 0, micro-batch 0, value 0, {{.*}}check-cycle.mlir:[[#@LINE+14]]:10)
// CHECK-NEXT: stage 1, action 1 (send of chunk 1, micro-batch 0, value 0, {{.*}}check-cycle.mlir:[[#@LINE+14]]:10)
module attributes {dist.axes = ["pp"]} {
  shard.grid @grid(shape = 2)
  dist.communicator @"forward 0 to 1" edge [0, 1]
  dist.communicator @"backward 1 to 0" edge [1, 0]
  dist.arena @stage0.activations role = activations bytes = 256
  dist.arena @stage1.activations role = activations bytes = 256 {stage = 1 : i64}
  dist.program "step" {
    %0 = dist.receive @"backward 1 to 0" <"dy", 0, 0> : 16 x f32 tag [1, 0, 0] at @stage0.activations[0]
    %1 = dist.zero writes #dist.instance<"y", 0, 0> bytes = 64 at @stage0.activations[64]
    %2 = dist.send @"forward 0 to 1" <"y", 0, 0> : 16 x f32 tag [0, 0, 0] at @stage0.activations[64]
  }
  dist.program "step" attributes {stage = 1 : i64} {
    %0 = dist.receive @"forward 0 to 1" <"x", 0, 0> : 16 x f32 tag [0, 0, 0] at @stage1.activations[0]
    %1 = dist.send @"backward 1 to 0" <"x", 0, 0> : 16 x f32 tag [1, 0, 0] at @stage1.activations[0]
  }
}
