// RUN: llama-opt %s -llama-emit-attention=chips=sm_90a | FileCheck %s
// RUN: llama-opt %s -llama-emit-attention=chips=sm_80,sm_90a,sm_100a | FileCheck %s --check-prefix=SEVERAL

// On sm_90a bf16 goes by warpgroups: 384 threads, tensor maps of chunks of 32 columns of Q, K and V (a head of 80:
// 96 in shared memory), products with the left side in shared memory and in registers, of 80 columns.
// CHECK-LABEL: func.func @forward(
// CHECK:         gpu.launch_func @attention_forward_hopper::@attention_forward_hopper
// CHECK-SAME:      llama.form = "hopper"
// CHECK-SAME:      llama.tensor_maps = [{argument = 0 : i64, box = array<i64: 32, 2, 1, 64, 1>, sizes = array<i64: 80, 2, 1, 65, 1>, strides = array<i64: 160, 320, 320, 20800>, swizzle = 64 : i64, type = bf16}
// CHECK-SAME:      {argument = 1 : i64, box = array<i64: 32, 1, 128, 1>, sizes = array<i64: 80, 1, 70, 1>, {{[^}]*}}, swizzle = 64 : i64,
// CHECK-SAME:      {argument = 2 : i64, box = array<i64: 32, 1, 128, 1>,
// CHECK:       gpu.module @attention_forward_hopper
// CHECK:         llvm.align = 64 : i64, llvm.byval = !llvm.array<128 x i8>, nvvm.grid_constant
// CHECK-SAME:    nvvm.maxnreg = 168 : i32, nvvm.reqntid = array<i32: 384, 1, 1>
// CHECK:         mbarrier.init.shared::cta.b64
// CHECK:         fence.mbarrier_init.release.cluster
// CHECK:         setmaxnreg.dec.sync.aligned.u32 24
// CHECK:         cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes
// CHECK:         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes
// CHECK:         setmaxnreg.inc.sync.aligned.u32 240
// CHECK:         wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16
// CHECK:         wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16
// A program for several chips has the launches of each form, for the chips that take it; both begin with the mask.
// SEVERAL-LABEL: func.func @forward(
// SEVERAL:         gpu.launch_func @attention_mask::@attention_mask {{.*}} {llama.chips = ["sm_80", "sm_100a"]}
// SEVERAL:         gpu.launch_func @attention_forward_mma::@attention_forward_mma {{.*}} {llama.attention = "mma forward: bf16, 1 x 65 queries, 70 keys, 2 heads on 1 of 80, causal", llama.chips = ["sm_80", "sm_100a"], llama.form = "mma"}
// SEVERAL:         gpu.launch_func @attention_mask_0::@attention_mask_0 {{.*}} {llama.chips = ["sm_90a"]}
// SEVERAL:         gpu.launch_func @attention_forward_hopper::@attention_forward_hopper {{.*}} {llama.attention = "hopper forward: {{.*}}", llama.chips = ["sm_90a"], llama.form = "hopper"
// SEVERAL-NOT:     gpu.launch_func
func.func @forward(%q: memref<1x65x2x80xbf16>, %k: memref<1x70x1x80xbf16>, %v: memref<1x70x1x80xbf16>, %p: memref<1x65xi64>, %d: memref<1x65xi64>, %kp: memref<1x70xi64>, %kd: memref<1x70xi64>, %o: memref<1x65x2x80xbf16>, %l: memref<1x65x2xf32>) {
  routine.attention_forward %q, %k, %v masks(%p, %d, %kp, %kd) into %o, %l {mask = #routine.mask<causal>, scale = 0.25 : f64, batch = 1 : i64, queries = 65 : i64, keys = 70 : i64, heads = 2 : i64, kv_heads = 1 : i64, head_size = 80 : i64, images = 0 : i64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<1x65x2x80xbf16>, memref<1x70x1x80xbf16>, memref<1x70x1x80xbf16>, memref<1x65xi64>, memref<1x65xi64>, memref<1x70xi64>, memref<1x70xi64>, memref<1x65x2x80xbf16>, memref<1x65x2xf32>) -> ()
  return
}
