// RUN: llama-opt %s -llama-specialize="batch=2 text-length=16 images=3" -split-input-file | FileCheck %s
// RUN: not llama-opt %s -llama-specialize="batch=0" -split-input-file 2>&1 | FileCheck %s --check-prefix=ZERO
// ZERO: error: expects batch to be at least 1, but got 0

// Samples and tokens become static in the inputs, the block and the result.
// CHECK-LABEL: func.func private @embedding(
// CHECK-SAME:      %{{.*}}: tensor<2x16xi64>, %{{.*}}: tensor<512x8xf32>) -> tensor<2x16x8xf32>
func.func private @embedding(%ids: tensor<?x?xi64>, %table: tensor<512x8xf32>) -> tensor<?x?x8xf32> attributes {llama.block} {
  %h = llama.embed %ids, %table : (tensor<?x?xi64>, tensor<512x8xf32>) -> tensor<?x?x8xf32>
  return %h : tensor<?x?x8xf32>
}
llama.parameter @table : tensor<512x8xf32> {initializer = #llama.initializer<normal>}
// CHECK-LABEL: func.func @model(
// CHECK:         llama.apply @embedding(%{{.*}}) parameters [@table] : (tensor<2x16xi64>) -> tensor<2x16x8xf32>
func.func @model(%ids: tensor<?x?xi64> {llama.input = "input_ids"}) -> tensor<?x?x8xf32> {
  %h = llama.apply @embedding(%ids) parameters [@table] : (tensor<?x?xi64>) -> tensor<?x?x8xf32>
  return %h : tensor<?x?x8xf32>
}

// -----

// Image inputs count images where text inputs count tokens; the encoder's batch
// is samples times images.
// CHECK-LABEL: func.func private @patches(
// CHECK-SAME:      %{{.*}}: tensor<2x3x4x3x28x28xf32>) -> tensor<6x16x588xf32>
func.func private @patches(%pixels: tensor<?x?x4x3x28x28xf32>) -> tensor<?x16x588xf32> attributes {llama.block} {
  %p = llama.patchify %pixels {patch_size = 14 : i64, element_type = f32} : (tensor<?x?x4x3x28x28xf32>) -> tensor<?x16x588xf32>
  return %p : tensor<?x16x588xf32>
}
func.func @model(%pixels: tensor<?x?x4x3x28x28xf32> {llama.input = "pixels"}) -> tensor<?x16x588xf32> {
  %p = llama.apply @patches(%pixels) : (tensor<?x?x4x3x28x28xf32>) -> tensor<?x16x588xf32>
  return %p : tensor<?x16x588xf32>
}

// -----

// A block that is never applied has no shapes: it goes.
// CHECK-NOT: @unused
// CHECK-LABEL: func.func @model(
func.func private @unused(%ids: tensor<?x?xi64>, %table: tensor<512x8xf32>) -> tensor<?x?x8xf32> attributes {llama.block} {
  %h = llama.embed %ids, %table : (tensor<?x?xi64>, tensor<512x8xf32>) -> tensor<?x?x8xf32>
  return %h : tensor<?x?x8xf32>
}
func.func @model(%ids: tensor<?x?xi64> {llama.input = "input_ids"}) -> tensor<?x?xi64> {
  return %ids : tensor<?x?xi64>
}
