// RUN: llama-opt %s -split-input-file -llama-decompose | FileCheck %s
// RUN: llama-opt %s -split-input-file -llama-decompose=fast=true | FileCheck %s --check-prefix=FAST
//
// What each op's decomposition computes is executed in test/unit/Llama; its form is in
// test/dialects/Llama/decompose.mlir. Here: what the pass does beside calling it.

// An op becomes linalg; only `fast` lets sums be taken in another order.
// CHECK-LABEL: @add
// CHECK:         linalg.generic {{.*}} ins(%arg0, %arg1
// CHECK:         arith.addf %{{.*}}, %{{.*}} : f32
// FAST-LABEL:  @add
// FAST:          arith.addf %{{.*}}, %{{.*}} fastmath<reassoc,contract> : f32
func.func @add(%a: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {
  %y = llama.add %a, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// A sum that is only added to an argument begins at the argument.
// CHECK-LABEL: @accumulate
// CHECK:         %[[N:.*]] = linalg.generic {{.*}} ins(%arg1 : tensor<2x4xf32>) outs(%arg0 : tensor<4xf32>)
// CHECK-NOT:     linalg.generic
// CHECK:         return %[[N]]
func.func @accumulate(%sum: tensor<4xf32>, %dy: tensor<2x4xf32>) -> tensor<4xf32> {
  %g = llama.sum_rows %dy {accumulation = f32} : (tensor<2x4xf32>) -> tensor<4xf32>
  %n = llama.add %sum, %g : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %n : tensor<4xf32>
}

// -----

// A sum that is read elsewhere too begins at zeros, and is added after.
// CHECK-LABEL: @two_uses
// CHECK:         %[[ZEROS:.*]] = linalg.fill
// CHECK:         %[[G:.*]] = linalg.generic {{.*}} ins(%arg1 : tensor<2x4xf32>) outs(%[[ZEROS]] :
// CHECK:         linalg.generic {{.*}} ins(%arg0, %[[G]] :
func.func @two_uses(%sum: tensor<4xf32>, %dy: tensor<2x4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %g = llama.sum_rows %dy {accumulation = f32} : (tensor<2x4xf32>) -> tensor<4xf32>
  %n = llama.add %sum, %g : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %n, %g : tensor<4xf32>, tensor<4xf32>
}

// -----

// Rows summed by index go into the argument, too: no second table.
// CHECK-LABEL: @rows_by_index
// CHECK:         %[[N:.*]] = scf.for {{.*}} iter_args(%{{.*}} = %arg0) -> (tensor<8x4xf32>)
// CHECK:         return %[[N]]
func.func @rows_by_index(%sum: tensor<8x4xf32>, %dh: tensor<2x4xf32>, %ids: tensor<2xi64>) -> tensor<8x4xf32> {
  %g = llama.embed_grad %dh, %ids {rows = 8 : i64, offset = 0 : i64, accumulation = f32} : (tensor<2x4xf32>, tensor<2xi64>) -> tensor<8x4xf32>
  %n = llama.add %sum, %g : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  return %n : tensor<8x4xf32>
}

// -----

// A call of the runtime stays.
// CHECK-LABEL: @routine
// CHECK-NEXT:    routine.gemm
func.func @routine(%x: tensor<2x8xf32>, %w: tensor<4x8xf32>, %e: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %y = routine.gemm %x, %w into %e {k = 8 : i64, m = 2 : i64, n = 4 : i64, transpose_b} : (tensor<2x8xf32>, tensor<4x8xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  return %y : tensor<2x4xf32>
}

// -----

// What is read in another shape is a slice of the whole in another shape, not a copy.
// CHECK-LABEL: @heads_of_columns
// CHECK:         %[[HEADS:.*]] = tensor.expand_shape %{{.*}} output_shape [8, 3, 2, 2]
// CHECK:         %[[PART:.*]] = tensor.extract_slice %[[HEADS]][0, 1, 0, 0] [8, 2, 2, 2] [1, 1, 1, 1]
// CHECK:         linalg.generic {{.*}} ins(%[[PART]], %[[PART]],
func.func @heads_of_columns(%both: tensor<2x4x12xf32>, %table: tensor<2x4x2x2xf32>) -> tensor<2x4x2x4xf32> {
  %part = tensor.extract_slice %both[0, 0, 4] [2, 4, 8] [1, 1, 1] : tensor<2x4x12xf32> to tensor<2x4x8xf32>
  %heads = llama.split_heads %part {head_size = 4 : i64} : (tensor<2x4x8xf32>) -> tensor<2x4x2x4xf32>
  %r = llama.rope %heads, %table : (tensor<2x4x2x4xf32>, tensor<2x4x2x2xf32>) -> tensor<2x4x2x4xf32>
  return %r : tensor<2x4x2x4xf32>
}
