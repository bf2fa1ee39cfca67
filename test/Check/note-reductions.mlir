// RUN: llama-opt %s -split-input-file -verify-diagnostics -dist-note-reductions | FileCheck %s

// Two micro-batches, each of which applies the layer once.
// CHECK: module attributes {llama.reductions = [{count = 2 : i64, length = 8 : i64, op = "linear", result = f32, type = f32}]} {
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

// -----

// A gradient is a sum over micro-batches; in bf16 only if that is asked for.
// CHECK: module attributes {llama.options = {accumulate = "bf16"}, llama.reductions = [{count = 1 : i64, length = 2 : i64, op = "gradient over micro-batches", result = bf16, type = bf16}]} {
module attributes {llama.options = {accumulate = "bf16"}} {
  func.func private @dw(%d: tensor<8xf32>, %g: tensor<8xbf16>) -> (tensor<8xbf16> {llama.in_place = 1 : i64}) attributes {llama.block}
  func.func @step(%d: tensor<8xf32>) {
    llama.apply @dw(%d) gradients [@w] : (tensor<8xf32>) -> ()
    return
  }
  llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
  dist.program "step" {
    %0 = dist.run @step micro_batch = 0
    %1 = dist.run @step micro_batch = 1
  }
}

// -----

func.func private @dw(%d: tensor<8xf32>, %g: tensor<8xbf16>) -> (tensor<8xbf16> {llama.in_place = 1 : i64}) attributes {llama.block}
func.func @step(%d: tensor<8xf32>) {
  // expected-error@+1 {{gradient of 'w' is summed in bf16 over 1 micro-batches, which --accumulate=bf16 would have to ask for}}
  llama.apply @dw(%d) gradients [@w] : (tensor<8xf32>) -> ()
  return
}
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}
