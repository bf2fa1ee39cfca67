// RUN: llama-opt %s -llama-emit-attention=chips=sm_80 | FileCheck %s

// Multiprocessors take blocks in the order of their numbers. With a causal mask (3 examples, 8 heads of keys: 24 in all; 400 rows of
// each: 7 tiles, 168 blocks) the tiles of 12 heads go side by side, the last ones, which see most, first.
// CHECK-LABEL: func.func @causal(
// CHECK:         %[[BLOCKS:.*]] = arith.constant 168 : index
// CHECK:         gpu.launch_func @attention_forward_mma::@attention_forward_mma blocks in (%[[BLOCKS]], %{{.*}}, %{{.*}}) threads in
func.func @causal(%a0: memref<3x200x16x64xbf16>, %a1: memref<3x200x8x64xbf16>, %a2: memref<3x200x8x64xbf16>, %a3: memref<3x200xi64>, %a4: memref<3x200xi64>, %a5: memref<3x200xi64>, %a6: memref<3x200xi64>, %a7: memref<3x200x16x64xbf16>, %a8: memref<3x200x16xf32>) {
  routine.attention_forward %a0, %a1, %a2 masks(%a3, %a4, %a5, %a6) into %a7, %a8 {mask = #routine.mask<causal>, scale = 0.25 : f64, batch = 3 : i64, queries = 200 : i64, keys = 200 : i64, heads = 16 : i64, kv_heads = 8 : i64, head_size = 64 : i64, images = 0 : i64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<3x200x16x64xbf16>, memref<3x200x8x64xbf16>, memref<3x200x8x64xbf16>, memref<3x200xi64>, memref<3x200xi64>, memref<3x200xi64>, memref<3x200xi64>, memref<3x200x16x64xbf16>, memref<3x200x16xf32>) -> ()
  return
}

// Elsewhere all tiles of a head follow each other.
// CHECK-LABEL: func.func @images(
// CHECK:         gpu.launch_func @attention_forward_mma_0::@attention_forward_mma_0
func.func @images(%a0: memref<3x200x16x64xbf16>, %a1: memref<3x200x8x64xbf16>, %a2: memref<3x200x8x64xbf16>, %a3: memref<3x200xi64>, %a4: memref<3x200xi64>, %a5: memref<3x2xi64>, %a6: memref<3x200x16x64xbf16>, %a7: memref<3x200x16xf32>) {
  routine.attention_forward %a0, %a1, %a2 masks(%a3, %a4, %a5) into %a6, %a7 {mask = #routine.mask<images>, scale = 0.25 : f64, batch = 3 : i64, queries = 200 : i64, keys = 200 : i64, heads = 16 : i64, kv_heads = 8 : i64, head_size = 64 : i64, images = 2 : i64, tile_count = 2 : i64, tile_stride = 0 : i64, tile_tokens = 50 : i64} : (memref<3x200x16x64xbf16>, memref<3x200x8x64xbf16>, memref<3x200x8x64xbf16>, memref<3x200xi64>, memref<3x200xi64>, memref<3x2xi64>, memref<3x200x16x64xbf16>, memref<3x200x16xf32>) -> ()
  return
}

// CHECK:       gpu.module @attention_forward_mma {
// CHECK:         %[[NUMBER:.*]] = nvvm.read.ptx.sreg.ctaid.x : i32
// CHECK:         %[[HEAD:.*]] = arith.remui %[[NUMBER]], %c12{{.*}} : i32
// CHECK:         %[[SECTION:.*]] = arith.divui %[[NUMBER]], %c84{{.*}} : i32
// CHECK:         %[[BEGIN:.*]] = arith.muli %[[SECTION]], %c12{{.*}} : i32
// CHECK:         arith.addi %[[HEAD]], %[[BEGIN]] : i32
// CHECK:         %[[TILE:.*]] = arith.divui %[[NUMBER]], %c12{{.*}} : i32
// CHECK:         %[[LATE:.*]] = arith.remui %[[TILE]], %c7{{.*}} : i32
// CHECK:         arith.subi %c6{{.*}}, %[[LATE]] : i32

// CHECK:       gpu.module @attention_forward_mma_0 {
// CHECK:         %[[NUMBER:.*]] = nvvm.read.ptx.sreg.ctaid.x : i32
// CHECK:         arith.divui %[[NUMBER]], %c7{{.*}} : i32
// CHECK:         arith.remui %[[NUMBER]], %c7{{.*}} : i32
