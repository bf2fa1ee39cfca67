// RUN: llama-opt %s | llama-opt | FileCheck %s
// RUN: llama-opt %s -mlir-print-op-generic | llama-opt | FileCheck %s

// The example of every op parses, verifies, prints and parses again.

// CHECK-LABEL: @gemm
func.func @gemm(%x: tensor<2x16x128xf32>, %w: tensor<384x128xf32>, %e: tensor<2x16x384xf32>) -> tensor<2x16x384xf32> {
  // CHECK: routine.gemm %arg0, %arg1 into %arg2 {k = 128 : i64, m = 32 : i64, n = 384 : i64, transpose_b} : (tensor<2x16x128xf32>, tensor<384x128xf32>, tensor<2x16x384xf32>) -> tensor<2x16x384xf32>
  %y = routine.gemm %x, %w into %e {m = 32 : i64, n = 384 : i64, k = 128 : i64, transpose_b} : (tensor<2x16x128xf32>, tensor<384x128xf32>, tensor<2x16x384xf32>) -> tensor<2x16x384xf32>
  return %y : tensor<2x16x384xf32>
}

// On buffers: no results. A product of bf16 may be written as f32, with a bias.
// CHECK-LABEL: @gemm_on_buffers
func.func @gemm_on_buffers(%x: memref<4x8xbf16>, %w: memref<8x2xbf16>, %bias: memref<2xbf16>, %y: memref<4x2xf32>) {
  // CHECK: routine.gemm %arg0, %arg1 bias %arg2 into %arg3 {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (memref<4x8xbf16>, memref<8x2xbf16>, memref<2xbf16>, memref<4x2xf32>) -> (){{$}}
  routine.gemm %x, %w bias %bias into %y {m = 4 : i64, n = 2 : i64, k = 8 : i64} : (memref<4x8xbf16>, memref<8x2xbf16>, memref<2xbf16>, memref<4x2xf32>) -> ()
  return
}

// CHECK-LABEL: @attention
func.func @attention(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // CHECK: routine.attention_forward %arg0, %arg1, %arg1 masks(%arg2, %arg2, %arg2, %arg2) into %arg3, %arg4 {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  %0:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  // CHECK: routine.attention_backward %arg3, %arg0, %arg1, %arg1, %arg3, %arg4 masks(%arg2, %arg2, %arg2, %arg2) into %arg3, %arg1, %arg5 {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  %1:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// Parts of matrices, one behind the other.
// CHECK-LABEL: @parts
func.func @parts(%x: tensor<4x8xf32>, %a: tensor<2x8xf32>, %b: tensor<3x8xf32>, %y: tensor<4x5xf32>) -> (tensor<4x5xf32>, tensor<2x8xf32>, tensor<3x8xf32>) {
  // CHECK: %[[Y:.*]] = routine.gemm %arg0, %arg1, %arg2 into %arg3 {k = 8 : i64, m = 4 : i64, n = 5 : i64, transpose_b}
  %0 = routine.gemm %x, %a, %b into %y {k = 8 : i64, m = 4 : i64, n = 5 : i64, transpose_b} : (tensor<4x8xf32>, tensor<2x8xf32>, tensor<3x8xf32>, tensor<4x5xf32>) -> tensor<4x5xf32>
  // CHECK: routine.gemm %[[Y]], %arg0 into %arg1, %arg2 {accumulate, k = 4 : i64, m = 5 : i64, n = 8 : i64, transpose_a}
  %1:2 = routine.gemm %0, %x into %a, %b {accumulate, k = 4 : i64, m = 5 : i64, n = 8 : i64, transpose_a} : (tensor<4x5xf32>, tensor<4x8xf32>, tensor<2x8xf32>, tensor<3x8xf32>) -> (tensor<2x8xf32>, tensor<3x8xf32>)
  return %0, %1#0, %1#1 : tensor<4x5xf32>, tensor<2x8xf32>, tensor<3x8xf32>
}

// A weight gradient and that of the bias.
// CHECK-LABEL: @bias_gradient
func.func @bias_gradient(%dy: tensor<4x5xbf16>, %x: tensor<4x8xbf16>, %a: tensor<2x8xf32>, %b: tensor<3x8xf32>, %g: tensor<5xf32>) -> (tensor<2x8xf32>, tensor<3x8xf32>, tensor<5xf32>) {
  // CHECK: routine.gemm %arg0, %arg1 into %arg2, %arg3 bias_gradient %arg4 {accumulate, k = 4 : i64, m = 5 : i64, n = 8 : i64, transpose_a}
  %0:3 = routine.gemm %dy, %x into %a, %b bias_gradient %g {accumulate, k = 4 : i64, m = 5 : i64, n = 8 : i64, transpose_a} : (tensor<4x5xbf16>, tensor<4x8xbf16>, tensor<2x8xf32>, tensor<3x8xf32>, tensor<5xf32>) -> (tensor<2x8xf32>, tensor<3x8xf32>, tensor<5xf32>)
  return %0#0, %0#1, %0#2 : tensor<2x8xf32>, tensor<3x8xf32>, tensor<5xf32>
}

// CHECK-LABEL: @attention_on_buffers
func.func @attention_on_buffers(%q: memref<1x2x2x8xbf16>, %k: memref<1x2x1x8xbf16>, %p: memref<1x2xi64>, %o: memref<1x2x2x8xbf16>, %l: memref<1x2x2xf32>, %dv: memref<1x2x1x8xbf16>) {
  // CHECK: routine.attention_forward %arg0, %arg1, %arg1 masks(%arg2, %arg2, %arg2, %arg2) into %arg3, %arg4 {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<1x2x2x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2x2x8xbf16>, memref<1x2x2xf32>) -> ()
  routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<1x2x2x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2x2x8xbf16>, memref<1x2x2xf32>) -> ()
  // CHECK: routine.attention_backward %arg3, %arg0, %arg1, %arg1, %arg3, %arg4 masks(%arg2, %arg2, %arg2, %arg2) into %arg3, %arg1, %arg5 {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<1x2x2x8xbf16>, memref<1x2x2x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2x2x8xbf16>, memref<1x2x2xf32>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2x2x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2x1x8xbf16>) -> ()
  routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<1x2x2x8xbf16>, memref<1x2x2x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2x2x8xbf16>, memref<1x2x2xf32>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2xi64>, memref<1x2x2x8xbf16>, memref<1x2x1x8xbf16>, memref<1x2x1x8xbf16>) -> ()
  return
}

// What an encoder's token sees, and what a text token sees of images.
// CHECK-LABEL: @masks
func.func @masks(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>, %t: tensor<1xi64>, %s: tensor<2xi64>) {
  // CHECK: mask = #routine.mask<encoder>
  %0:2 = routine.attention_forward %q, %k, %k masks(%t, %s) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<encoder>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 1 : i64, tile_stride = 2 : i64, tile_tokens = 1 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1xi64>, tensor<2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  // CHECK: mask = #routine.mask<images>
  %1:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %t) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 1 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<images>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 1 : i64, tile_stride = 0 : i64, tile_tokens = 2 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// CHECK-LABEL: @chunks
func.func @chunks(%x: tensor<2x16x8xf32>, %w: tensor<4x8xf32>, %y: tensor<2x16xf32>, %s: tensor<4x8xf32>) -> (tensor<2x16xf32>, tensor<4x8xf32>) {
  // CHECK: routine.chunks @chunk(%arg0, %arg1) into(%arg2, %arg3) {begins = array<i64: 0, 0, 0, 0>, count = 4 : i64, steps = array<i64: 64, 0, 8, 0>} : (tensor<2x16x8xf32>, tensor<4x8xf32>, tensor<2x16xf32>, tensor<4x8xf32>) -> (tensor<2x16xf32>, tensor<4x8xf32>)
  %0:2 = routine.chunks @chunk(%x, %w) into(%y, %s) {begins = array<i64: 0, 0, 0, 0>, count = 4 : i64, steps = array<i64: 64, 0, 8, 0>} : (tensor<2x16x8xf32>, tensor<4x8xf32>, tensor<2x16xf32>, tensor<4x8xf32>) -> (tensor<2x16xf32>, tensor<4x8xf32>)
  return %0#0, %0#1 : tensor<2x16xf32>, tensor<4x8xf32>
}

// CHECK-LABEL: @chunks_on_buffers
func.func @chunks_on_buffers(%x: memref<2x16x8xf32>, %y: memref<2x16xf32>) {
  // CHECK: routine.chunks @chunk(%arg0) into(%arg1) {begins = array<i64: 192, 24>, count = 1 : i64, steps = array<i64: 64, 8>} : (memref<2x16x8xf32>, memref<2x16xf32>) -> ()
  routine.chunks @chunk(%x) into(%y) {begins = array<i64: 192, 24>, count = 1 : i64, steps = array<i64: 64, 8>} : (memref<2x16x8xf32>, memref<2x16xf32>) -> ()
  return
}
