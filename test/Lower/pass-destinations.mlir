// RUN: llama-opt %s -split-input-file -llama-pass-destinations | FileCheck %s
// RUN: llama-opt %s -split-input-file -llama-pass-destinations -eliminate-empty-tensors -one-shot-bufferize | FileCheck %s --check-prefix=BUFFERS

// The sum reads the old value only where it writes the new one: it is made in place.
// CHECK-LABEL: func.func @f(
// CHECK-SAME:      %[[SUM:.*]]: memref<4xf32>, %[[G:.*]]: memref<4xf32>) {
// CHECK:         %[[OLD:.*]] = bufferization.to_tensor %[[SUM]] restrict writable
// CHECK:         %[[NEW:.*]] = linalg.generic {{.*}} outs(%[[OLD]] : tensor<4xf32>)
// CHECK:         bufferization.materialize_in_destination %[[NEW]] in restrict writable %[[SUM]]
#id = affine_map<(d0) -> (d0)>
func.func @f(%sum: tensor<4xf32>, %g: tensor<4xf32>) -> (tensor<4xf32> {llama.in_place = 0 : i64}) {
  %e = tensor.empty() : tensor<4xf32>
  %n = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]} ins(%sum, %g : tensor<4xf32>, tensor<4xf32>) outs(%e : tensor<4xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %0 = arith.addf %a, %b : f32
    linalg.yield %0 : f32
  } -> tensor<4xf32>
  return %n : tensor<4xf32>
}

// -----

// Element 3 - i of the old value is read where element i is written: a copy.
// CHECK-LABEL: func.func @reversed(
// CHECK:         %[[OLD:.*]] = bufferization.to_tensor %arg0 restrict writable
// CHECK:         %[[NEW:.*]] = linalg.generic {{.*}} outs(%{{.*}} : tensor<4xf32>)
// CHECK:         linalg.copy ins(%[[NEW]] : tensor<4xf32>) outs(%[[OLD]] : tensor<4xf32>)
func.func @reversed(%x: tensor<4xf32>) -> (tensor<4xf32> {llama.in_place = 0 : i64}) {
  %e = tensor.empty() : tensor<4xf32>
  %n = linalg.generic {indexing_maps = [affine_map<(d0) -> (3 - d0)>, affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
  ^bb0(%a: f32, %out: f32):
    linalg.yield %a : f32
  } -> tensor<4xf32>
  return %n : tensor<4xf32>
}

// -----

// CSE makes one zero-filled tensor of two. The products get one each again, and
// each product is written into the buffer of its own result.
// CHECK-LABEL: func.func @two_products(
// CHECK:         %[[FILL0:.*]] = linalg.fill
// CHECK-NEXT:    linalg.matmul {{.*}} outs(%[[FILL0]] :
// CHECK:         %[[FILL1:.*]] = linalg.fill
// CHECK-NEXT:    linalg.matmul {{.*}} outs(%[[FILL1]] :
// BUFFERS-LABEL: func.func @two_products(
// BUFFERS-SAME:      %[[P:[a-z0-9]+]]: memref<4x2xf32>, %[[Q:[a-z0-9]+]]: memref<4x2xf32>) {
// BUFFERS-NOT:     memref.alloc
// BUFFERS:         linalg.fill {{.*}} outs(%[[P]] :
// BUFFERS-NEXT:    linalg.matmul ins(%arg0, %arg1 : {{.*}} outs(%[[P]] :
// BUFFERS-NEXT:    linalg.fill {{.*}} outs(%[[Q]] :
// BUFFERS-NEXT:    linalg.matmul ins(%arg0, %arg2 : {{.*}} outs(%[[Q]] :
func.func @two_products(%x: tensor<4x8xf32>, %a: tensor<8x2xf32>, %b: tensor<8x2xf32>) -> (tensor<4x2xf32>, tensor<4x2xf32>) {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<4x2xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<4x2xf32>) -> tensor<4x2xf32>
  %p = linalg.matmul ins(%x, %a : tensor<4x8xf32>, tensor<8x2xf32>) outs(%f : tensor<4x2xf32>) -> tensor<4x2xf32>
  %q = linalg.matmul ins(%x, %b : tensor<4x8xf32>, tensor<8x2xf32>) outs(%f : tensor<4x2xf32>) -> tensor<4x2xf32>
  return %p, %q : tensor<4x2xf32>, tensor<4x2xf32>
}

// -----

// A view of a product is its result: the product is written through that view.
// BUFFERS-LABEL: func.func @view(
// BUFFERS:         %[[VIEW:.*]] = memref.expand_shape %arg2
// BUFFERS:         linalg.matmul {{.*}} outs(%[[VIEW]] :
func.func @view(%x: tensor<4x8xf32>, %a: tensor<8x2xf32>) -> tensor<8xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<4x2xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<4x2xf32>) -> tensor<4x2xf32>
  %p = linalg.matmul ins(%x, %a : tensor<4x8xf32>, tensor<8x2xf32>) outs(%f : tensor<4x2xf32>) -> tensor<4x2xf32>
  %v = tensor.collapse_shape %p [[0, 1]] : tensor<4x2xf32> into tensor<8xf32>
  return %v : tensor<8xf32>
}

// -----

// A product that accumulates into the argument is in place already.
// BUFFERS-LABEL: func.func @accumulate(
// BUFFERS-NOT:     memref.alloc
// BUFFERS:         routine.gemm {{.*}} into %arg0 {accumulate,
func.func @accumulate(%sum: tensor<2x2xf32>, %x: tensor<2x2xf32>) -> (tensor<2x2xf32> {llama.in_place = 0 : i64}) {
  %n = routine.gemm %x, %x into %sum {accumulate, k = 2 : i64, m = 2 : i64, n = 2 : i64} : (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  return %n : tensor<2x2xf32>
}

// -----

// An empty tensor that two ops write becomes two: each result has its own buffer.
// CHECK-LABEL: @two_results
// CHECK:         %[[E0:.*]] = tensor.empty()
// CHECK:         %[[A:.*]] = linalg.generic {{.*}} outs(%[[E0]] :
// CHECK:         %[[E1:.*]] = tensor.empty()
// CHECK:         linalg.generic {{.*}} ins(%[[A]] : {{.*}} outs(%[[E1]] :
#id = affine_map<(d0) -> (d0)>
func.func @two_results(%x: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  %e = tensor.empty() : tensor<8xf32>
  %a = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]} ins(%x : tensor<8xf32>) outs(%e : tensor<8xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = math.exp %in : f32
    linalg.yield %0 : f32
  } -> tensor<8xf32>
  %b = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]} ins(%a : tensor<8xf32>) outs(%e : tensor<8xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.negf %in : f32
    linalg.yield %0 : f32
  } -> tensor<8xf32>
  return %a, %b : tensor<8xf32>, tensor<8xf32>
}

// -----

// Tensors side by side are written where they lie, in the shape in which they are made: the second
// as [2, 2, 4] of [2, 3, 4]. Here it is a result, and read too.
// CHECK-LABEL: @side_by_side
// CHECK-SAME:    %[[X:[a-z0-9]+]]: memref<2x4xf32>, %[[OUT:[a-z0-9]+]]: memref<2x12xf32>
// CHECK-DAG:     %[[FIRST:.*]] = memref.subview %[[OUT]][0, 0] [2, 4] [1, 1]
// CHECK-DAG:     %[[HEADS:.*]] = memref.expand_shape %[[OUT]] {{\[\[}}0], [1, 2]] output_shape [2, 3, 4]
// CHECK-DAG:     %[[SECOND:.*]] = memref.subview %[[HEADS]][0, 1, 0] [2, 2, 4] [1, 1, 1]
// CHECK:         bufferization.materialize_in_destination %{{.*}} in restrict writable %[[FIRST]]
// CHECK:         bufferization.materialize_in_destination %{{.*}} in restrict writable %[[SECOND]]
// CHECK:         %[[BOTH:.*]] = bufferization.to_tensor %[[OUT]] restrict
// CHECK:         routine.gemm %[[BOTH]]
// BUFFERS-LABEL: @side_by_side
// BUFFERS-NOT:     memref.alloc
// BUFFERS:         linalg.generic {{.*}} outs(%subview : memref<2x4xf32, strided<[12, 1]>>)
// BUFFERS:         linalg.generic {{.*}} outs(%{{.*}} : memref<2x2x4xf32, strided<[12, 4, 1], offset: 4>>)
// BUFFERS:         routine.gemm %arg1
#id2 = affine_map<(d0, d1) -> (d0, d1)>
#first = affine_map<(d0, d1, d2) -> (d0, d2)>
#id3 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
func.func @side_by_side(%x: tensor<2x4xf32>) -> (tensor<2x12xf32>, tensor<2x2xf32>) {
  %e = tensor.empty() : tensor<2x4xf32>
  %a = linalg.generic {indexing_maps = [#id2, #id2], iterator_types = ["parallel", "parallel"]} ins(%x : tensor<2x4xf32>) outs(%e : tensor<2x4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = math.exp %in : f32
    linalg.yield %0 : f32
  } -> tensor<2x4xf32>
  %f = tensor.empty() : tensor<2x2x4xf32>
  %b = linalg.generic {indexing_maps = [#first, #id3], iterator_types = ["parallel", "parallel", "parallel"]} ins(%x : tensor<2x4xf32>) outs(%f : tensor<2x2x4xf32>) {
  ^bb0(%in: f32, %out: f32):
    linalg.yield %in : f32
  } -> tensor<2x2x4xf32>
  %v = tensor.collapse_shape %b [[0], [1, 2]] : tensor<2x2x4xf32> into tensor<2x8xf32>
  %both = tensor.concat dim(1) %a, %v : (tensor<2x4xf32>, tensor<2x8xf32>) -> tensor<2x12xf32>
  %g = tensor.empty() : tensor<2x2xf32>
  %y = routine.gemm %both, %both into %g {k = 12 : i64, m = 2 : i64, n = 2 : i64, transpose_b} : (tensor<2x12xf32>, tensor<2x12xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  return %both, %y : tensor<2x12xf32>, tensor<2x2xf32>
}
