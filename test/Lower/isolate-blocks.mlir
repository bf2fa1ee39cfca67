// RUN: llama-opt %s -split-input-file -llama-isolate-blocks | FileCheck %s

// The body moves into a module of its own; a declaration stays, which names the code.
// CHECK:      func.func private @norm(tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.code = @norm.code::@norm}
// CHECK-NEXT: module @norm.code attributes {llama.blocks = ["norm"], llama.signature = [(tensor<8xf32>) -> tensor<8xf32>, array<i64: -1>]} {
// CHECK-NEXT:   func.func @norm(%[[X:.*]]: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block} {
// CHECK-NEXT:     return %[[X]]
func.func private @norm(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block} {
  return %x : tensor<8xf32>
}

// -----

// Blocks that compute the same share the code of the first.
// CHECK: @a(tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.code = @a.code::@a}
// CHECK: @b(tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.code = @a.code::@a}
// CHECK-NOT: @b.code
func.func private @a(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block} {
  %y = llama.add %x, %x : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}
func.func private @b(%z: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block} {
  %y = llama.add %z, %z : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}

// -----

// A result in the place of an argument is not the same as a result of its own.
// CHECK: llama.code = @a.code::@a
// CHECK: llama.code = @in_place.code::@in_place
func.func private @a(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block} {
  return %x : tensor<8xf32>
}
func.func private @in_place(%x: tensor<8xf32>) -> (tensor<8xf32> {llama.in_place = 0 : i64}) attributes {llama.block} {
  return %x : tensor<8xf32>
}

// -----

// A function that is no block stays as it is.
// CHECK:     func.func @step(
// CHECK-NOT: @step.code
func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
  return %x : tensor<8xf32>
}
