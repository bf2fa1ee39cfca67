// RUN: llama-opt %s --split-input-file --dist-build-program=micro-batches=2 | FileCheck %s

// A step runs its graph once per micro-batch, then takes the gradient norm and
// updates. The linear layer [2, 8] x [8, 4] costs 2 * 2 * 8 * 4 = 128 operations:
// twice in the forward program, and in the step as often again for its weight's
// gradient. The optimizer does no matrix work.

// CHECK: module attributes {llama.operations = {forward = 256 : i64, step = 512 : i64}}
llama.parameter @w : tensor<4x8xf32> {initializer = #llama.initializer<normal>}
func.func private @head(%x: tensor<2x8xf32>, %w: tensor<4x8xf32>) -> tensor<2x4xf32> attributes {llama.block} {
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<2x8xf32>, tensor<4x8xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
func.func private @head.backward_weight(%dy: tensor<2x4xf32>, %x: tensor<2x8xf32>, %g: tensor<4x8xf32>)
    -> (tensor<4x8xf32> {llama.in_place = 2 : i64}) attributes {llama.block} {
  %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<2x4xf32>, tensor<2x8xf32>) -> tensor<4x8xf32>
  %sum = llama.add %g, %dw : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %sum : tensor<4x8xf32>
}
func.func private @gradient_norm(%g: tensor<1024xf32>) -> tensor<1xf32> attributes {llama.block}
func.func private @adamw(%p: tensor<1024xf32>, %m: tensor<1024xf32>, %v: tensor<1024xf32>, %g: tensor<1024xf32>, %h: tensor<8xf32>)
    -> (tensor<1024xf32> {llama.in_place = 0 : i64}, tensor<1024xf32> {llama.in_place = 1 : i64}, tensor<1024xf32> {llama.in_place = 2 : i64}) attributes {llama.block}
func.func @forward(%x: tensor<2x8xf32>) -> tensor<2x4xf32> {
  %y = llama.apply @head(%x) parameters [@w] : (tensor<2x8xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
func.func @step(%x: tensor<2x8xf32>, %dy: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %y = llama.apply @head(%x) parameters [@w] : (tensor<2x8xf32>) -> tensor<2x4xf32>
  llama.apply @head.backward_weight(%dy, %x) gradients [@w] : (tensor<2x4xf32>, tensor<2x8xf32>) -> ()
  return %y : tensor<2x4xf32>
}

// CHECK:      dist.program "step" {
// CHECK-NEXT:   dist.run @step micro_batch = 0
// CHECK-NEXT:   dist.run @step micro_batch = 1
// CHECK-NEXT:   dist.gradient_norm @gradient_norm
// CHECK-NEXT:   dist.update @adamw
// CHECK-NEXT: }
// CHECK-NEXT: dist.program "forward" {
// CHECK-NEXT:   dist.run @forward micro_batch = 0
// CHECK-NEXT:   dist.run @forward micro_batch = 1
// CHECK-NEXT: }

// -----

// Where nothing is trained there is nothing to update, and no block to do it.
// CHECK:      dist.program "step" {
// CHECK-NEXT:   dist.run @step micro_batch = 0
// CHECK-NEXT:   dist.run @step micro_batch = 1
// CHECK-NEXT: }
llama.parameter @w : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
func.func @forward(%x: tensor<8xf32>) -> tensor<8xf32> {
  return %x : tensor<8xf32>
}
func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
  return %x : tensor<8xf32>
}
