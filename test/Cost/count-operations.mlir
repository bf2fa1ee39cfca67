// RUN: llama-opt %s --split-input-file --llama-count-operations=micro-batches=2 | FileCheck %s

// The linear layer [2, 8] x [8, 4] costs 2 * 2 * 8 * 4 = 128 operations.

// RUN: llama-opt %s --split-input-file --llama-count-operations=micro-batches=9007199254740992 | FileCheck %s --check-prefix=MANY
// RUN: not llama-opt %s --split-input-file --llama-count-operations=micro-batches=1152921504606846976 2>&1 | FileCheck %s --check-prefix=BYTES

// 2^53 micro-batches: 2^60 operations are an i64, 2^63 an i128.
// MANY: llama.operations = {step = 1152921504606846976 : i64}
// MANY: llama.operations = {step = 9223372036854775808 : i128}
// BYTES: error: --batch, --text-length, --images, --micro-batches: expected values of a step of less than 2^62 bytes, got 737869762948382{{[0-9]+}}

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

// -----

func.func private @layer(%x: tensor<2x64xf32>, %w: tensor<4x64xf32>) -> tensor<2x4xf32> attributes {llama.block} {
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<2x64xf32>, tensor<4x64xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
llama.parameter @w : tensor<4x64xf32> {initializer = #llama.initializer<normal>}
func.func @step(%x: tensor<2x64xf32>) -> tensor<2x4xf32> {
  %y = llama.apply @layer(%x) parameters [@w] : (tensor<2x64xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}
