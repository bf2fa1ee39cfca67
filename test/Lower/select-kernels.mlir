// RUN: llama-opt %s -llama-select-kernels | FileCheck %s
// RUN: llama-opt %s -llama-select-kernels=lower=reference | FileCheck %s --check-prefix=REFERENCE

// RUN: not llama-opt %s -llama-select-kernels=target=abacus 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not llama-opt %s "-pass-pipeline=builtin.module(llama-lower-blocks{target=abacus})" 2>&1 | FileCheck %s --check-prefix=NONE
// NONE: --target=abacus: expected one that this version has: host

// A weight gradient that is only added to an accumulator is summed into it.
// CHECK-LABEL: @accumulate
// REFERENCE-LABEL: @accumulate
// REFERENCE: llama.linear_dw
func.func @accumulate(%dy: tensor<4x3xbf16>, %x: tensor<4x2xbf16>, %sum: tensor<3x2xf32>) -> tensor<3x2xf32> {
  // CHECK-NOT: llama.add
  // CHECK: routine.gemm %arg0, %arg1 into %arg2 {accumulate, k = 4 : i64, m = 3 : i64, n = 2 : i64, transpose_a}
  %g = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<4x3xbf16>, tensor<4x2xbf16>) -> tensor<3x2xf32>
  %n = llama.add %sum, %g : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
  return %n : tensor<3x2xf32>
}

// A product that something else reads too is not.
// CHECK-LABEL: @two_uses
func.func @two_uses(%dy: tensor<4x3xf32>, %x: tensor<4x2xf32>, %sum: tensor<3x2xf32>) -> (tensor<3x2xf32>, tensor<3x2xf32>) {
  // CHECK: %[[G:.*]] = routine.gemm
  // CHECK-NOT: accumulate
  // CHECK: llama.add %arg2, %[[G]]
  %g = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<4x3xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
  %n = llama.add %sum, %g : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
  return %n, %g : tensor<3x2xf32>, tensor<3x2xf32>
}

// The runtime has no product of f32 into bf16: it makes f32, then a cast.
// CHECK-LABEL: @cast_after
func.func @cast_after(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xbf16> {
  // CHECK: %[[Y:.*]] = routine.gemm {{.*}} {k = 8 : i64, m = 8 : i64, n = 16 : i64, transpose_b} : {{.*}} -> tensor<2x4x16xf32>
  // CHECK: llama.cast %[[Y]] {element_type = bf16}
  %y = llama.linear %x, %w {accumulation = f32, element_type = bf16} : (tensor<2x4x8xf32>, tensor<16x8xf32>) -> tensor<2x4x16xbf16>
  return %y : tensor<2x4x16xbf16>
}

// A bias is added to a result of its own type; to logits behind the product.
// CHECK-LABEL: @bias
func.func @bias(%x: tensor<2x4x8xbf16>, %w: tensor<16x8xbf16>, %b: tensor<16xbf16>) -> (tensor<2x4x16xbf16>, tensor<2x4x16xf32>) {
  // CHECK: routine.gemm %arg0, %arg1 bias %arg2 into
  %y = llama.linear %x, %w, %b {accumulation = f32} : (tensor<2x4x8xbf16>, tensor<16x8xbf16>, tensor<16xbf16>) -> tensor<2x4x16xbf16>
  // CHECK: %[[Z:.*]] = routine.gemm %arg0, %arg1 into {{.*}} -> tensor<2x4x16xf32>
  // CHECK: %[[B:.*]] = llama.cast %arg2 {element_type = f32}
  // CHECK: linalg.generic {{.*}} ins(%[[Z]], %[[B]] : tensor<2x4x16xf32>, tensor<16xf32>)
  // CHECK: arith.addf
  %z = llama.linear %x, %w, %b {accumulation = f32, element_type = f32} : (tensor<2x4x8xbf16>, tensor<16x8xbf16>, tensor<16xbf16>) -> tensor<2x4x16xf32>
  return %y, %z : tensor<2x4x16xbf16>, tensor<2x4x16xf32>
}

// Before it is rounded.
// CHECK-LABEL: @bias_cast_after
func.func @bias_cast_after(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>, %b: tensor<16xf32>) -> tensor<2x4x16xbf16> {
  // CHECK: %[[Y:.*]] = routine.gemm %arg0, %arg1 bias %arg2 into
  // CHECK: llama.cast %[[Y]] {element_type = bf16}
  %y = llama.linear %x, %w, %b {accumulation = f32, element_type = bf16} : (tensor<2x4x8xf32>, tensor<16x8xf32>, tensor<16xf32>) -> tensor<2x4x16xbf16>
  return %y : tensor<2x4x16xbf16>
}

// The reference takes products from a library in f64 only.
// REFERENCE-LABEL: @reference_f64
// REFERENCE: routine.gemm
func.func @reference_f64(%dy: tensor<4x3xf64>, %w: tensor<3x2xf64>) -> tensor<4x2xf64> {
  %dx = llama.linear_dx %dy, %w {accumulation = f64} : (tensor<4x3xf64>, tensor<3x2xf64>) -> tensor<4x2xf64>
  return %dx : tensor<4x2xf64>
}
