// RUN: llama-opt %s -llama-chunk-rows | FileCheck %s
// RUN: llama-opt %s "-pass-pipeline=builtin.module(llama-lower-blocks)" | FileCheck %s --check-prefix=LOWER

// 20 rows: two chunks of 8, then 4 rows. The gradient of the weight is the sum that each call adds to; the
// other result that is not used is not formed.
// CHECK-LABEL: func.func private @lse.chunk0(%{{.*}}: tensor<8x4xbf16>, %{{.*}}: tensor<12x4xbf16>, %{{.*}}: tensor<8xi64>) -> (tensor<8x1xf32>, tensor<8xf32>)
// CHECK:         llama.linear {{.*}} -> tensor<8x12xf32>
// CHECK:         llama.row_max
// CHECK:         llama.row_sum_exp
// CHECK:         llama.target_logit
// CHECK-LABEL: func.func private @lse.chunk1(%{{.*}}: tensor<4x4xbf16>
// CHECK-LABEL: func.func @lse(
// CHECK-SAME:    %[[X:[a-z0-9]+]]: tensor<2x10x4xbf16>, %[[W:[a-z0-9]+]]: tensor<12x4xbf16>, %[[Y:[a-z0-9]+]]: tensor<2x10xi64>)
// CHECK:         %[[A:.*]]:2 = routine.chunks @lse.chunk0(%[[X]], %[[W]], %[[Y]]) into(%{{.*}}, %{{.*}}) {begins = array<i64: 0, 0, 0, 0, 0>, count = 2 : i64, steps = array<i64: 32, 0, 8, 8, 8>}
// CHECK:         %[[B:.*]]:2 = routine.chunks @lse.chunk1(%[[X]], %[[W]], %[[Y]]) into(%[[A]]#0, %[[A]]#1) {begins = array<i64: 64, 0, 16, 16, 16>, count = 1 : i64, steps = array<i64: 16, 0, 4, 4, 4>}
// CHECK:         return %[[B]]#0, %[[B]]#1

// A loop over the chunks, and scratch memory for one of them.
// LOWER-LABEL: llvm.func internal @lse.chunk0(
// LOWER:         llvm.call @llrt_gemm
// LOWER-LABEL: llvm.func @lse(
// LOWER:       ^[[LOOP:bb[0-9]+]](%[[I:.*]]: i64):
// LOWER:         llvm.call @lse.chunk0(
// LOWER:         llvm.cond_br %{{.*}}, ^[[LOOP]](
// LOWER:         llvm.call @lse.chunk1(
func.func @lse(%x: tensor<2x10x4xbf16>, %w: tensor<12x4xbf16>, %y: tensor<2x10xi64>) -> (tensor<2x10x1xf32>, tensor<2x10xf32>) attributes {llama.block} {
  %lse, %t = llama.linear_lse %x, %w, %y {parts = 1 : i64, chunk = 5 : i64, statistics = f32} : (tensor<2x10x4xbf16>, tensor<12x4xbf16>, tensor<2x10xi64>) -> (tensor<2x10x1xf32>, tensor<2x10xf32>)
  return %lse, %t : tensor<2x10x1xf32>, tensor<2x10xf32>
}

// CHECK-LABEL: func.func private @gradient.chunk{{[0-9]+}}(
// CHECK-SAME:    %[[SUM:[a-z0-9]+]]: tensor<12x4xf32>) -> (tensor<12x4xf32> {llama.in_place = 6 : i64})
// CHECK:         %[[DW:.*]] = llama.linear_dw
// CHECK-NOT:     llama.linear_dx
// CHECK:         llama.add %[[SUM]], %[[DW]]
// CHECK-LABEL: func.func @gradient(
// CHECK-SAME:    %[[SUM:[a-z0-9]+]]: tensor<12x4xf32>) ->
// CHECK:         %[[NEW:.*]] = routine.chunks @gradient.chunk{{[0-9]+}}({{.*}}) into(%[[SUM]]) {begins = array<i64: 0, 0, 0, 0, 0, 0, 0>, count = 2 : i64, steps = array<i64: 8, 8, 32, 0, 8, 8, 0>}
// CHECK-NOT:     llama.add
// CHECK:         return %[[NEW]]
func.func @gradient(%dl: tensor<16x1xf32>, %dt: tensor<16xf32>, %x: tensor<16x4xbf16>, %w: tensor<12x4xbf16>, %y: tensor<16xi64>, %lse: tensor<16x1xf32>, %sum: tensor<12x4xf32>) -> (tensor<12x4xf32> {llama.in_place = 6 : i64}) attributes {llama.block} {
  %dx, %dw = llama.linear_lse_grad %dl, %dt, %x, %w, %y, %lse {chunk = 8 : i64, statistics = f32, accumulation = f32, element_type = bf16} : (tensor<16x1xf32>, tensor<16xf32>, tensor<16x4xbf16>, tensor<12x4xbf16>, tensor<16xi64>, tensor<16x1xf32>) -> (tensor<16x4xbf16>, tensor<12x4xf32>)
  %new = llama.add %sum, %dw : (tensor<12x4xf32>, tensor<12x4xf32>) -> tensor<12x4xf32>
  return %new : tensor<12x4xf32>
}

// What fits one chunk is in no loop.
// CHECK-LABEL: func.func @one_chunk(
// CHECK-NOT:     routine.chunks
// CHECK:         llama.linear
// CHECK-NOT:     routine.chunks
// CHECK:         return
func.func @one_chunk(%x: tensor<2x10x4xbf16>, %w: tensor<12x4xbf16>, %y: tensor<2x10xi64>) -> (tensor<2x10x1xf32>, tensor<2x10xf32>) attributes {llama.block} {
  %lse, %t = llama.linear_lse %x, %w, %y {parts = 1 : i64, chunk = 0 : i64, statistics = f32} : (tensor<2x10x4xbf16>, tensor<12x4xbf16>, tensor<2x10xi64>) -> (tensor<2x10x1xf32>, tensor<2x10xf32>)
  return %lse, %t : tensor<2x10x1xf32>, tensor<2x10xf32>
}
