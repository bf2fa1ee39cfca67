// RUN: llama-opt %s --split-input-file --dist-build-program=micro-batches=2 | FileCheck %s

// The step of one rank: each micro-batch goes forward and back; what backward needs is
// in a frame. Its loss is added to a sum. Then the norm of the gradients, the hyperparameters
// of the step and the update.

// CHECK:       dist.arena @parameters role = parameters bytes = 4096
// CHECK:       dist.arena @statistics role = statistics bytes = 384
// CHECK-LABEL: dist.program "step" {
// CHECK-NEXT:    dist.input "hyperparameters" at @statistics[64] : tensor<8xf64>
// CHECK-NEXT:    dist.input "once:" at @statistics[320] : tensor<1xf64>
// CHECK-NEXT:    dist.output "sums" at @statistics[0] : tensor<2xf64>
// CHECK-NEXT:    %{{.*}} = dist.zero bytes = 16 at @statistics[0]
// CHECK-NEXT:    %{{.*}} = dist.zero bytes = 4096 at @gradients[0]
// CHECK-NEXT:    %{{.*}} = dist.run @step.forward micro_batch = 0 writes [#dist.instance<"step.forward>step.backward", 0, 0>]
// CHECK-NEXT:    %{{.*}} = dist.call @add_once(@statistics[0], @statistics[192], @statistics[320]) micro_batch = 0
// CHECK-NEXT:    %{{.*}} = dist.run @step.backward micro_batch = 0 reads [#dist.instance<"step.forward>step.backward", 0, 0>]
// CHECK-NEXT:    %{{.*}} = dist.run @step.forward micro_batch = 1 writes [#dist.instance<"step.forward>step.backward", 1, 0>]
// CHECK-NEXT:    %{{.*}} = dist.call @add_once(@statistics[0], @statistics[192], @statistics[320]) micro_batch = 1
// CHECK-NEXT:    %{{.*}} = dist.run @step.backward micro_batch = 1 reads [#dist.instance<"step.forward>step.backward", 1, 0>]
// CHECK-NEXT:    %{{.*}} = dist.gradient_norm @gradient_norm(@gradients[0], @statistics[256])
// CHECK-NEXT:    %{{.*}} = dist.call @add_once(@statistics[8], @statistics[256], @statistics[320])
// CHECK-NEXT:    %[[CLIP:.*]] = dist.call @clip_norm(@statistics[0], @statistics[64], @statistics[128])
// CHECK-NEXT:    %{{.*}} = dist.update @adamw(@parameters[0], @moment1[0], @moment2[0], @gradients[0], @statistics[128]) after(%[[CLIP]])
// CHECK-NEXT:  }
// CHECK-NEXT:  dist.program "forward" {
// CHECK-NEXT:    dist.input "once:" at @statistics[320] : tensor<1xf64>
// CHECK-NEXT:    dist.output "sums" at @statistics[0] : tensor<2xf64>
// CHECK-NEXT:    %{{.*}} = dist.zero bytes = 16 at @statistics[0]
// CHECK-NEXT:    %{{.*}} = dist.run @forward.forward micro_batch = 0
// CHECK-NEXT:    %{{.*}} = dist.call @add_once(@statistics[0], @statistics[192], @statistics[320]) micro_batch = 0
// CHECK-NEXT:    %{{.*}} = dist.run @forward.forward micro_batch = 1
// CHECK-NEXT:    %{{.*}} = dist.call @add_once(@statistics[0], @statistics[192], @statistics[320]) micro_batch = 1
// CHECK-NEXT:  }
llama.parameter @w : tensor<4x8xf32> {initializer = #llama.initializer<normal>}
func.func private @head.forward(%x: tensor<2x8xf32>, %w: tensor<4x8xf32>) -> (tensor<1xf32>, tensor<2x4xf32>) attributes {llama.block} {
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<2x8xf32>, tensor<4x8xf32>) -> tensor<2x4xf32>
  %loss = arith.constant dense<0.0> : tensor<1xf32>
  return %loss, %y : tensor<1xf32>, tensor<2x4xf32>
}
func.func private @head.backward_weight(%dy: tensor<1xf32>, %x: tensor<2x8xf32>, %y: tensor<2x4xf32>, %g: tensor<4x8xf32>)
    -> (tensor<4x8xf32> {llama.in_place = 3 : i64}) attributes {llama.block} {
  %dw = llama.linear_dw %y, %x {accumulation = f32} : (tensor<2x4xf32>, tensor<2x8xf32>) -> tensor<4x8xf32>
  %sum = llama.add %g, %dw : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %sum : tensor<4x8xf32>
}
func.func private @gradient_norm(%g: tensor<1024xf32>) -> tensor<1xf32> attributes {llama.block} {
  %n = llama.sum_of_squares %g : (tensor<1024xf32>) -> tensor<1xf32>
  return %n : tensor<1xf32>
}
func.func private @add_once(%s: tensor<1xf64>, %v: tensor<1xf32>, %f: tensor<1xf64>) -> (tensor<1xf64> {llama.in_place = 0 : i64}) attributes {llama.block} {
  %t = llama.add_once %s, %v, %f : (tensor<1xf64>, tensor<1xf32>, tensor<1xf64>) -> tensor<1xf64>
  return %t : tensor<1xf64>
}
func.func private @clip_norm(%s: tensor<2xf64>, %g: tensor<8xf64>) -> tensor<8xf32> attributes {llama.block} {
  %h = llama.clip_norm %s, %g {element_type = f32} : (tensor<2xf64>, tensor<8xf64>) -> tensor<8xf32>
  return %h : tensor<8xf32>
}
func.func private @adamw(%p: tensor<1024xf32>, %m: tensor<1024xf32>, %v: tensor<1024xf32>, %g: tensor<1024xf32>, %h: tensor<8xf32>)
    -> (tensor<1024xf32> {llama.in_place = 0 : i64}, tensor<1024xf32> {llama.in_place = 1 : i64}, tensor<1024xf32> {llama.in_place = 2 : i64}) attributes {llama.block} {
  %a, %b, %c = llama.adamw %p, %m, %v, %g, %h : (tensor<1024xf32>, tensor<1024xf32>, tensor<1024xf32>, tensor<1024xf32>, tensor<8xf32>) -> (tensor<1024xf32>, tensor<1024xf32>, tensor<1024xf32>)
  return %a, %b, %c : tensor<1024xf32>, tensor<1024xf32>, tensor<1024xf32>
}
func.func @forward(%x: tensor<2x8xf32> {llama.input = "x"}) -> (tensor<1xf32> {llama.output = "loss"}) {
  %y:2 = llama.apply @head.forward(%x) parameters [@w] {llama.application = 0 : i64, llama.phase = "forward"} : (tensor<2x8xf32>) -> (tensor<1xf32>, tensor<2x4xf32>)
  return %y#0 : tensor<1xf32>
}
func.func @step(%x: tensor<2x8xf32> {llama.input = "x"}, %dy: tensor<1xf32> {llama.input = "loss_gradient"}) -> (tensor<1xf32> {llama.output = "loss"}) {
  %y:2 = llama.apply @head.forward(%x) parameters [@w] {llama.application = 0 : i64, llama.phase = "forward"} : (tensor<2x8xf32>) -> (tensor<1xf32>, tensor<2x4xf32>)
  llama.apply @head.backward_weight(%dy, %x, %y#1) gradients [@w] {llama.application = 0 : i64, llama.phase = "backward_weight"} : (tensor<1xf32>, tensor<2x8xf32>, tensor<2x4xf32>) -> ()
  return %y#0 : tensor<1xf32>
}
