// A pass of a plugin, on a block of the training graph.
// RUN: llama-opt %s --load-pass-plugin=%plugins/example-pass-plugin.so --pass-pipeline='builtin.module(example-count-ops)' -o /dev/null 2>&1 | FileCheck %s

// CHECK: remark: 'layer': 2 ops, 256 operations
func.func private @layer(%x: tensor<2x2x8xf32>, %w: tensor<4x8xf32>) -> tensor<2x2x4xf32> attributes {llama.block} {
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<2x2x8xf32>, tensor<4x8xf32>) -> tensor<2x2x4xf32>
  %z = llama.gelu %y {statistics = f32} : (tensor<2x2x4xf32>) -> tensor<2x2x4xf32>
  return %z : tensor<2x2x4xf32>
}
