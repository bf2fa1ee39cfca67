// RUN: llama-opt %s -llama-emit-attention=chips=sm_90a | FileCheck %s

// Keys and values that are columns of a wider matrix: the copy engine steps over the others. A row has
// 240 columns, so a token is 480 bytes further on.
// CHECK-LABEL: func.func @columns(
// CHECK:         gpu.launch_func @attention_forward_hopper{{.*}}::
// CHECK-SAME:      llama.tensor_maps = [{argument = 0 : i64, {{[^}]*}} strides = array<i64: 160, 160, 480, 31200>
// CHECK-SAME:      {argument = 1 : i64, {{[^}]*}} sizes = array<i64: 80, 1, 65, 1>, strides = array<i64: 160, 480, 31200>
// CHECK-SAME:      {argument = 2 : i64, {{[^}]*}} sizes = array<i64: 80, 1, 65, 1>, strides = array<i64: 160, 480, 31200>
func.func @columns(%all: memref<65x240xbf16>, %p: memref<1x65xi64>, %o: memref<1x65x1x80xbf16>, %l: memref<1x65x1xf32>) {
  %q = memref.reinterpret_cast %all to offset: [0], sizes: [65, 80], strides: [240, 1] : memref<65x240xbf16> to memref<65x80xbf16, strided<[240, 1]>>
  %k = memref.reinterpret_cast %all to offset: [80], sizes: [65, 80], strides: [240, 1] : memref<65x240xbf16> to memref<65x80xbf16, strided<[240, 1], offset: 80>>
  %v = memref.reinterpret_cast %all to offset: [160], sizes: [65, 80], strides: [240, 1] : memref<65x240xbf16> to memref<65x80xbf16, strided<[240, 1], offset: 160>>
  routine.attention_forward %q, %k, %v masks(%p, %p, %p, %p) into %o, %l {mask = #routine.mask<causal>, scale = 0.25 : f64, batch = 1 : i64, queries = 65 : i64, keys = 65 : i64, heads = 1 : i64, kv_heads = 1 : i64, head_size = 80 : i64, images = 0 : i64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<65x80xbf16, strided<[240, 1]>>, memref<65x80xbf16, strided<[240, 1], offset: 80>>, memref<65x80xbf16, strided<[240, 1], offset: 160>>, memref<1x65xi64>, memref<1x65xi64>, memref<1x65xi64>, memref<1x65xi64>, memref<1x65x1x80xbf16>, memref<1x65x1xf32>) -> ()
  return
}
