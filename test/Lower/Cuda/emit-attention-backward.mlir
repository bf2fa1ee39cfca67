// RUN: llama-opt %s -llama-emit-attention=chips=sm_90a | FileCheck %s

// The backward: who adds to dQ in which order, the kernel of all products, dQ of the sums. Blocks number themselves; each waits for the
// one before it, adds its part of 64 rows of 96 columns in f32, and stores its own number.
// CHECK-LABEL: func.func @backward(
// CHECK:         %[[ORDER:.*]] = memref.alloc() : memref<1x3x1xi32>
// CHECK:         %[[DONE:.*]] = memref.alloc() : memref<4xi32>
// CHECK:         %[[SUMS:.*]] = memref.alloc() : memref<3x6144xf32>
// CHECK:         gpu.launch_func @attention_order::@attention_order
// CHECK:         gpu.launch_func @attention_backward_hopper::@attention_backward_hopper
// CHECK-SAME:      %[[ORDER]] : memref<1x3x1xi32>, %[[DONE]] : memref<4xi32>, %[[SUMS]] : memref<3x6144xf32>
// CHECK-SAME:      llama.form = "hopper"
// CHECK:         gpu.launch_func @attention_dq_narrow::@attention_dq_narrow
// CHECK:       gpu.module @attention_backward_hopper attributes {llama.begun_in_order}
// CHECK-NOT:     ctaid
// CHECK:         llvm.atomicrmw add %{{.*}}, %{{.*}} syncscope("device") monotonic
// CHECK:         ld.acquire.gpu.global.b32
// CHECK:         cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [$0], [$1], 24576;
// CHECK:         st.release.gpu.global.b32
// CHECK:         wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
// CHECK:         wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16
// CHECK:         stmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK:         wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {{.*}}, more, 1, 1, 1, 1;
// CHECK:         wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {{.*}}, more, 1, 1, 1, 1;
func.func @backward(%do: memref<1x65x2x80xbf16>, %q: memref<1x65x2x80xbf16>, %k: memref<1x70x1x80xbf16>, %v: memref<1x70x1x80xbf16>, %o: memref<1x65x2x80xbf16>, %l: memref<1x65x2xf32>, %p: memref<1x65xi64>, %d: memref<1x65xi64>, %kp: memref<1x70xi64>, %kd: memref<1x70xi64>, %dq: memref<1x65x2x80xbf16>, %dk: memref<1x70x1x80xbf16>, %dv: memref<1x70x1x80xbf16>) {
  routine.attention_backward %do, %q, %k, %v, %o, %l masks(%p, %d, %kp, %kd) into %dq, %dk, %dv {mask = #routine.mask<causal>, scale = 0.25 : f64, batch = 1 : i64, queries = 65 : i64, keys = 70 : i64, heads = 2 : i64, kv_heads = 1 : i64, head_size = 80 : i64, images = 0 : i64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<1x65x2x80xbf16>, memref<1x65x2x80xbf16>, memref<1x70x1x80xbf16>, memref<1x70x1x80xbf16>, memref<1x65x2x80xbf16>, memref<1x65x2xf32>, memref<1x65xi64>, memref<1x65xi64>, memref<1x70xi64>, memref<1x70xi64>, memref<1x65x2x80xbf16>, memref<1x70x1x80xbf16>, memref<1x70x1x80xbf16>) -> ()
  return
}
