// RUN: llama-opt %s -llama-decompose | FileCheck %s

// What the decompositions compute is executed in test/unit/Llama. Here: the form that
// the Lower step relies on.

// Rows are viewed as [R, C]; the statistic is a reduction in f32, bf16 is widened on load.
// CHECK-LABEL: @row_op
// CHECK-NOT:   llama.
// CHECK:       tensor.collapse_shape {{.*}} : tensor<2x3x8xbf16> into tensor<6x8xbf16>
// CHECK:       linalg.generic {{.*}}iterator_types = ["parallel", "reduction"]
// CHECK:         arith.extf {{.*}} : bf16 to f32
// CHECK:       -> tensor<6xf32>
// CHECK:       linalg.generic {{.*}}iterator_types = ["parallel", "parallel"]
// CHECK:         math.rsqrt {{.*}} fastmath<reassoc,contract> : f32
// CHECK:       tensor.expand_shape {{.*}} : tensor<6x8xbf16> into tensor<2x3x8xbf16>
func.func @row_op(%x: tensor<2x3x8xbf16>, %w: tensor<8xbf16>) -> tensor<2x3x8xbf16> {
  %y = llama.rms_norm %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x3x8xbf16>, tensor<8xbf16>) -> tensor<2x3x8xbf16>
  return %y : tensor<2x3x8xbf16>
}

// A column sum is a leading reduction over a trailing parallel loop.
// CHECK-LABEL: @column_sum
// CHECK:       linalg.generic {{.*}}iterator_types = ["reduction", "parallel"]
// CHECK:       -> tensor<8xf32>
func.func @column_sum(%dy: tensor<2x3x8xbf16>) -> tensor<8xf32> {
  %db = llama.sum_rows %dy {accumulation = f32} : (tensor<2x3x8xbf16>) -> tensor<8xf32>
  return %db : tensor<8xf32>
}

// Results of one op are results of one generic.
// CHECK-LABEL:     @several_results
// CHECK-COUNT-1:   linalg.generic
// CHECK-NOT:       linalg.generic
// CHECK:           return
func.func @several_results(%p: tensor<16xf32>, %m: tensor<16xf32>, %v: tensor<16xf32>, %g: tensor<16xf32>, %h: tensor<8xf32>) -> (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>) {
  %r:3 = llama.adamw %p, %m, %v, %g, %h : (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<8xf32>) -> (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>)
  return %r#0, %r#1, %r#2 : tensor<16xf32>, tensor<16xf32>, tensor<16xf32>
}

// The gate's tanh is computed once, outside of the loop over elements.
// CHECK-LABEL: @gate
// CHECK:       linalg.generic
// CHECK:         math.tanh
// CHECK:       -> tensor<1xf32>
// CHECK:       linalg.generic {{.*}}iterator_types = ["parallel", "parallel"]
// CHECK-NOT:     math.tanh
// CHECK:       return
func.func @gate(%x: tensor<1x2x8xf32>, %f: tensor<1x2x8xf32>, %g: tensor<1xf32>) -> tensor<1x2x8xf32> {
  %y = llama.gated_residual %x, %f, %g {rows = #llama.rows<none>, statistics = f32} : (tensor<1x2x8xf32>, tensor<1x2x8xf32>, tensor<1xf32>) -> tensor<1x2x8xf32>
  return %y : tensor<1x2x8xf32>
}

// The rows of a scatter are added one after the other, in place.
// CHECK-LABEL: @scatter
// CHECK:       scf.for
// CHECK:         scf.if
// CHECK:           tensor.extract_slice
// CHECK:           tensor.insert_slice
func.func @scatter(%dh: tensor<6x8xf32>, %ids: tensor<6xi64>) -> tensor<16x8xf32> {
  %d = llama.embed_grad %dh, %ids {rows = 16 : i64, offset = 0 : i64, accumulation = f32} : (tensor<6x8xf32>, tensor<6xi64>) -> tensor<16x8xf32>
  return %d : tensor<16x8xf32>
}
