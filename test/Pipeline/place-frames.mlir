// RUN: llama-opt %s --split-input-file --dist-place-frames | FileCheck %s

// One after the other: the second instance takes the place of the first.

// CHECK:      dist.arena @activations role = activations bytes = 64
// CHECK-LABEL: dist.program "step" {
// CHECK-NEXT:    %{{.*}} = dist.run @produce micro_batch = 0 writes [#dist.instance<"y", 0, 0>] at(@activations[0])
// CHECK-NEXT:    %{{.*}} = dist.run @consume micro_batch = 0 reads [#dist.instance<"y", 0, 0>] at(@activations[0])
// CHECK-NEXT:    %{{.*}} = dist.run @produce micro_batch = 1 writes [#dist.instance<"y", 1, 0>] at(@activations[0])
// CHECK-NEXT:    %{{.*}} = dist.run @consume micro_batch = 1 reads [#dist.instance<"y", 1, 0>] at(@activations[0])
func.func private @f() -> tensor<8xf32> attributes {llama.block} {
  %y = arith.constant dense<0.0> : tensor<8xf32>
  return %y : tensor<8xf32>
}
func.func @produce() -> (tensor<8xf32> {dist.frame = ["y", 0]}) {
  %y = llama.apply @f() : () -> tensor<8xf32>
  return %y : tensor<8xf32>
}
func.func @consume(%y: tensor<8xf32> {dist.frame = ["y", 0]}) {
  return
}
dist.program "step" {
  %0 = dist.run @produce micro_batch = 0 writes [#dist.instance<"y", 0, 0>]
  %1 = dist.run @consume micro_batch = 0 reads [#dist.instance<"y", 0, 0>]
  %2 = dist.run @produce micro_batch = 1 writes [#dist.instance<"y", 1, 0>]
  %3 = dist.run @consume micro_batch = 1 reads [#dist.instance<"y", 1, 0>]
}

// -----

// Between stages: a run waits for what it receives; a send waits for the run that makes
// what it sends, and whoever takes its memory next waits for the send.

// CHECK:       dist.arena @stage0.activations role = activations bytes = 128
// CHECK-NEXT:  dist.arena @stage1.activations role = activations bytes = 64 {stage = 1 : i64}
// CHECK-LABEL: dist.program "step" {
// CHECK-NEXT:    %[[MADE0:.*]] = dist.run @produce micro_batch = 0 {{.*}} at(@stage0.activations[0])
// CHECK-NEXT:    %[[SENT0:.*]] = dist.send @forward <"y", 0, 0> : 8 x f32 tag [0, 0, 0] at @stage0.activations[0] after(%[[MADE0]]) {stream = 1 : i64}
// CHECK-NEXT:    %[[MADE1:.*]] = dist.run @produce micro_batch = 1 {{.*}} at(@stage0.activations[64])
// CHECK-NEXT:    dist.send @forward <"y", 1, 0> : 8 x f32 tag [0, 1, 0] at @stage0.activations[64] after(%[[MADE1]]) {stream = 1 : i64}
// CHECK-NEXT:    dist.run @produce micro_batch = 2 {{.*}} at(@stage0.activations[0]) after(%[[SENT0]])
// CHECK-LABEL: dist.program "step" attributes {stage = 1 : i64} {
// CHECK-NEXT:    %[[GOT:.*]] = dist.receive @forward <"x", 0, 0> {{.*}} at @stage1.activations[0] {stream = 1 : i64}
// CHECK-NEXT:    dist.run @consume micro_batch = 0 {{.*}} after(%[[GOT]])
func.func private @f() -> tensor<8xf32> attributes {llama.block, llama.seconds = 1.0 : f64} {
  %y = arith.constant dense<0.0> : tensor<8xf32>
  return %y : tensor<8xf32>
}
dist.communicator @forward edge [0, 1]
func.func @produce() -> (tensor<8xf32> {dist.frame = ["y", 0]}) {
  %y = llama.apply @f() : () -> tensor<8xf32>
  return %y : tensor<8xf32>
}
func.func @consume(%x: tensor<8xf32> {dist.frame = ["x", 0]}) {
  return
}
dist.program "step" {
  %0 = dist.run @produce micro_batch = 0 writes [#dist.instance<"y", 0, 0>]
  %1 = dist.send @forward <"y", 0, 0> : 8 x f32 tag [0, 0, 0] {stream = 1 : i64}
  %2 = dist.run @produce micro_batch = 1 writes [#dist.instance<"y", 1, 0>]
  %3 = dist.send @forward <"y", 1, 0> : 8 x f32 tag [0, 1, 0] {stream = 1 : i64}
  %4 = dist.run @produce micro_batch = 2 writes [#dist.instance<"y", 2, 0>]
}
dist.program "step" attributes {stage = 1 : i64} {
  %0 = dist.receive @forward <"x", 0, 0> : 8 x f32 tag [0, 0, 0] {stream = 1 : i64}
  %1 = dist.run @consume micro_batch = 0 reads [#dist.instance<"x", 0, 0>]
  %2 = dist.receive @forward <"x", 1, 0> : 8 x f32 tag [0, 1, 0] {stream = 1 : i64}
  %3 = dist.run @consume micro_batch = 1 reads [#dist.instance<"x", 1, 0>]
}
