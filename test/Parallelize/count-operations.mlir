// RUN: llama-opt %s --split-input-file --llama-count-operations=micro-batches=2 | FileCheck %s

// The linear layer [2, 8] x [8, 4] costs 2 * 2 * 8 * 4 = 128 operations.

// CHECK: module attributes {llama.operations = {step = 256 : i64}}
llama.parameter @w : tensor<4x8xf32> {initializer = #llama.initializer<normal>}
func.func private @layer(%x: tensor<2x8xf32>, %w: tensor<4x8xf32>) -> tensor<2x4xf32> attributes {llama.block} {
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<2x8xf32>, tensor<4x8xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
func.func @step(%x: tensor<2x8xf32>) -> tensor<2x4xf32> {
  %y = llama.apply @layer(%x) parameters [@w] : (tensor<2x8xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
