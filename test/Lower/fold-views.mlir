// RUN: llama-opt %s -split-input-file -llama-fold-views | FileCheck %s

// The buffer gets the shape of the view that is accessed.
// CHECK-LABEL: func.func @f(
// CHECK-SAME:      %[[M:.*]]: memref<8x8xf32>, %{{.*}}: memref<8x8xf32>)
// CHECK:         affine.load %[[M]][%{{.*}}, %{{.*}}] : memref<8x8xf32>
func.func @f(%m: memref<2x4x8xf32>, %n: memref<8x8xf32>) {
  %v = memref.collapse_shape %m [[0, 1], [2]] : memref<2x4x8xf32> into memref<8x8xf32>
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 8 {
      %x = affine.load %v[%i, %j] : memref<8x8xf32>
      affine.store %x, %n[%i, %j] : memref<8x8xf32>
    }
  }
  return
}

// -----

// Accessed as [2, 4, 8] and as [8, 8]: the shape that both refine, [8, 8].
// CHECK-LABEL: func.func @two_views(
// CHECK-SAME:      %[[M:.*]]: memref<8x8xf32>)
// CHECK:         affine.for %[[A:.*]] = 0 to 2
// CHECK:           affine.for %[[B:.*]] = 0 to 4
// CHECK:             affine.for %[[J:.*]] = 0 to 8
// CHECK:               affine.load %[[M]][%[[A]] * 4 + %[[B]], %[[J]]]
// CHECK:               affine.store %{{.*}}, %[[M]][%[[A]], %[[J]]]
func.func @two_views(%m: memref<2x4x8xf32>) {
  %v = memref.collapse_shape %m [[0, 1], [2]] : memref<2x4x8xf32> into memref<8x8xf32>
  affine.for %a = 0 to 2 {
    affine.for %b = 0 to 4 {
      affine.for %j = 0 to 8 {
        %x = affine.load %m[%a, %b, %j] : memref<2x4x8xf32>
        affine.store %x, %v[%a, %j] : memref<8x8xf32>
      }
    }
  }
  return
}

// -----

// Row %r of a table that is also accessed flat begins at 8 * %r. (The row's dropped
// dimension is that of the table, not of the flat buffer.)
// CHECK: #[[AT:.*]] = affine_map<(d0)[s0] -> (d0 + s0 * 8)>
// CHECK-LABEL: func.func @row_of_flat_table(
// CHECK-SAME:      %[[TABLE:[a-z0-9]+]]: memref<128xf32>)
// CHECK:         scf.for %[[I:.*]] = %c0
// CHECK:           %[[R:.*]] = memref.load %arg0[%[[I]]]
// CHECK:           %[[FROM:.*]] = affine.apply #[[AT]](%[[I]])[%[[R]]]
// CHECK:           memref.load %[[TABLE]][%[[FROM]]]
// CHECK:           %[[TO:.*]] = affine.apply #[[AT]](%[[I]])[%[[R]]]
// CHECK:           memref.store %{{.*}}, %[[TABLE]][%[[TO]]]
func.func @row_of_flat_table(%ids: memref<4xindex>, %table: memref<16x8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %zero = arith.constant 0.0 : f32
  %flat = memref.collapse_shape %table [[0, 1]] : memref<16x8xf32> into memref<128xf32>
  affine.for %i = 0 to 128 {
    affine.store %zero, %flat[%i] : memref<128xf32>
  }
  scf.for %i = %c0 to %c4 step %c1 {
    %r = memref.load %ids[%i] : memref<4xindex>
    %row = memref.subview %table[%r, 0] [1, 8] [1, 1] : memref<16x8xf32> to memref<8xf32, strided<[1], offset: ?>>
    %x = memref.load %row[%i] : memref<8xf32, strided<[1], offset: ?>>
    memref.store %x, %row[%i] : memref<8xf32, strided<[1], offset: ?>>
  }
  return
}

// -----

// A routine of the runtime asks for elements, not for a shape: it gets the buffer.
// CHECK-LABEL: func.func @routine(
// CHECK-SAME:      %[[M:[a-z0-9]+]]: memref<2x4x8xf32>,
// CHECK:         routine.gemm %[[M]],
func.func @routine(%m: memref<2x4x8xf32>, %w: memref<4x8xf32>, %n: memref<8x4xf32>) {
  %v = memref.collapse_shape %m [[0, 1], [2]] : memref<2x4x8xf32> into memref<8x8xf32>
  routine.gemm %v, %w into %n {k = 8 : i64, m = 8 : i64, n = 4 : i64, transpose_b} : (memref<8x8xf32>, memref<4x8xf32>, memref<8x4xf32>) -> ()
  return
}

// -----

// Attention takes columns of a wider matrix where they are: keys from column 16 on of 32, in rows of
// all tokens.
// CHECK-LABEL: func.func @columns(
// CHECK-SAME:      %[[ALL:[a-z0-9]+]]: memref<2x4x4x8xf32>
// CHECK-DAG:     %[[Q:.*]] = memref.reinterpret_cast %[[ALL]] to offset: [0], sizes: [8, 16], strides: [32, 1]
// CHECK-DAG:     %[[K:.*]] = memref.reinterpret_cast %[[ALL]] to offset: [16], sizes: [8, 8], strides: [32, 1]
// CHECK-DAG:     %[[V:.*]] = memref.reinterpret_cast %[[ALL]] to offset: [24], sizes: [8, 8], strides: [32, 1]
// CHECK:         routine.attention_forward %[[Q]], %[[K]], %[[V]] masks
func.func @columns(%all: memref<2x4x32xf32>, %p: memref<2x4xi64>, %o: memref<2x4x2x8xf32>, %l: memref<2x4x2xf32>) {
  %heads = memref.expand_shape %all [[0], [1], [2, 3]] output_shape [2, 4, 4, 8] : memref<2x4x32xf32> into memref<2x4x4x8xf32>
  %q = memref.subview %heads[0, 0, 0, 0] [2, 4, 2, 8] [1, 1, 1, 1] : memref<2x4x4x8xf32> to memref<2x4x2x8xf32, strided<[128, 32, 8, 1]>>
  %k = memref.subview %heads[0, 0, 2, 0] [2, 4, 1, 8] [1, 1, 1, 1] : memref<2x4x4x8xf32> to memref<2x4x1x8xf32, strided<[128, 32, 8, 1], offset: 16>>
  %v = memref.subview %heads[0, 0, 3, 0] [2, 4, 1, 8] [1, 1, 1, 1] : memref<2x4x4x8xf32> to memref<2x4x1x8xf32, strided<[128, 32, 8, 1], offset: 24>>
  routine.attention_forward %q, %k, %v masks(%p, %p, %p, %p) into %o, %l {batch = 2 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 4 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 4 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<2x4x2x8xf32, strided<[128, 32, 8, 1]>>, memref<2x4x1x8xf32, strided<[128, 32, 8, 1], offset: 16>>, memref<2x4x1x8xf32, strided<[128, 32, 8, 1], offset: 24>>, memref<2x4xi64>, memref<2x4xi64>, memref<2x4xi64>, memref<2x4xi64>, memref<2x4x2x8xf32>, memref<2x4x2xf32>) -> ()
  return
}
