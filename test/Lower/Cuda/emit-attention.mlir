// RUN: llama-opt %s -llama-emit-attention=chips=sm_80 | FileCheck %s

// Forward: the mask in the form that kernels read, then a block of threads for each tile of 64 rows,
// here 65 queries of 2 heads: 3 tiles. Temporaries are buffers of the block.
// CHECK-LABEL: func.func @forward(
// CHECK-SAME:    %[[Q:[^ ]*]]: memref<1x65x2x16xf32>, %[[K:[^ ]*]]: memref<1x70x1x16xf32>
// CHECK:         %[[ROWS:.*]] = memref.alloc() : memref<1x192x4xi32>
// CHECK:         %[[KEYS:.*]] = memref.alloc() : memref<1x128x2xi32>
// CHECK:         memref.alloc() : memref<1x3x8xi32>
// CHECK:         memref.alloc() : memref<1x2x8xi32>
// CHECK:         gpu.launch_func @[[MASK:.*]]::@[[MASK]] blocks in (%{{.*}}, %{{.*}}, %{{.*}}) threads in
// CHECK-SAME:      args({{.*}}, %[[ROWS]] : memref<1x192x4xi32>, %[[KEYS]] : memref<1x128x2xi32>,
// CHECK:         %[[TILES:.*]] = arith.constant 3 : index
// CHECK:         gpu.launch_func @attention_forward_plain::@attention_forward_plain blocks in (%[[TILES]],
// CHECK-SAME:      args(%[[Q]] : {{.*}}) {llama.attention = "plain forward: f32, 1 x 65 queries, 70 keys, 2 heads on 1 of 16, causal", llama.form = "plain"}
// CHECK-NOT:     routine
func.func @forward(%q: memref<1x65x2x16xf32>, %k: memref<1x70x1x16xf32>, %v: memref<1x70x1x16xf32>, %p: memref<1x65xi64>, %d: memref<1x65xi64>, %kp: memref<1x70xi64>, %kd: memref<1x70xi64>, %o: memref<1x65x2x16xf32>, %l: memref<1x65x2xf32>) {
  routine.attention_forward %q, %k, %v masks(%p, %d, %kp, %kd) into %o, %l {mask = #routine.mask<causal>, scale = 0.25 : f64, batch = 1 : i64, queries = 65 : i64, keys = 70 : i64, heads = 2 : i64, kv_heads = 1 : i64, head_size = 16 : i64, images = 0 : i64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<1x65x2x16xf32>, memref<1x70x1x16xf32>, memref<1x70x1x16xf32>, memref<1x65xi64>, memref<1x65xi64>, memref<1x70xi64>, memref<1x70xi64>, memref<1x65x2x16xf32>, memref<1x65x2xf32>) -> ()
  return
}

// Backward: rowsum(dO * O) and lse of each row, the mask with rows that saw nothing, dQ by row tiles, dK and dV by key tiles;
// bf16 on tensor cores.
// CHECK-LABEL: func.func @backward(
// CHECK:         gpu.launch_func @attention_rows::
// CHECK:         gpu.launch_func @attention_mask{{.*}}::
// CHECK:         gpu.launch_func @attention_dq_mma::
// CHECK:         gpu.launch_func @attention_dkv_mma::
func.func @backward(%do: memref<1x40x2x16xbf16>, %q: memref<1x40x2x16xbf16>, %k: memref<1x24x2x16xbf16>, %v: memref<1x24x2x16xbf16>, %o: memref<1x40x2x16xbf16>, %l: memref<1x40x2xf32>, %b: memref<1x40xi64>, %e: memref<1x40xi64>, %t: memref<1x2xi64>, %dq: memref<1x40x2x16xbf16>, %dk: memref<1x24x2x16xbf16>, %dv: memref<1x24x2x16xbf16>) {
  routine.attention_backward %do, %q, %k, %v, %o, %l masks(%b, %e, %t) into %dq, %dk, %dv {mask = #routine.mask<images>, scale = 0.25 : f64, batch = 1 : i64, queries = 40 : i64, keys = 24 : i64, heads = 2 : i64, kv_heads = 2 : i64, head_size = 16 : i64, images = 2 : i64, tile_count = 3 : i64, tile_stride = 0 : i64, tile_tokens = 4 : i64} : (memref<1x40x2x16xbf16>, memref<1x40x2x16xbf16>, memref<1x24x2x16xbf16>, memref<1x24x2x16xbf16>, memref<1x40x2x16xbf16>, memref<1x40x2xf32>, memref<1x40xi64>, memref<1x40xi64>, memref<1x2xi64>, memref<1x40x2x16xbf16>, memref<1x24x2x16xbf16>, memref<1x24x2x16xbf16>) -> ()
  return
}

// Each kernel is alone in its module, with the number of its threads; what it only reads cannot change.
// CHECK:       gpu.module @attention_forward_plain {
// CHECK-NEXT:    llvm.mlir.global external @smem() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>
// CHECK-NEXT:    llvm.func @attention_forward_plain(%{{.*}}: !llvm.ptr<1> {llvm.noalias, llvm.readonly}
// CHECK-SAME:      gpu.kernel, nvvm.kernel, nvvm.minctasm = 1 : i32, nvvm.reqntid = array<i32: 256, 1, 1>
// CHECK-NOT:   atomic
