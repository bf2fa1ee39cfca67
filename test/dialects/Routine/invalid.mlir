// RUN: llama-opt %s --split-input-file --verify-diagnostics

// Each case breaks the numbered constraint it is named after.

func.func @gemm_size(%a: tensor<4x8xf32>, %b: tensor<8x2xf32>, %c: tensor<4x2xf32>) {
  // expected-error@+1 {{attribute 'k' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  %r = routine.gemm %a, %b into %c {k = 0 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, tensor<8x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @gemm_c1_a(%a: tensor<4x7xf32>, %b: tensor<8x2xf32>, %c: tensor<4x2xf32>) {
  // expected-error@+1 {{expects a to have 32 elements, but got 'tensor<4x7xf32>'}}
  %r = routine.gemm %a, %b into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x7xf32>, tensor<8x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @gemm_c1_b(%a: tensor<4x8xf32>, %b: tensor<8x3xf32>, %c: tensor<4x2xf32>) {
  // expected-error@+1 {{expects b to have 16 elements, but got 'tensor<8x3xf32>'}}
  %r = routine.gemm %a, %b into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, tensor<8x3xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @gemm_c1_bias(%a: tensor<4x8xf32>, %b: tensor<8x2xf32>, %bias: tensor<3xf32>, %c: tensor<4x2xf32>) {
  // expected-error@+1 {{expects bias to have 2 elements, but got 'tensor<3xf32>'}}
  %r = routine.gemm %a, %b bias %bias into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, tensor<8x2xf32>, tensor<3xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @gemm_c1_c(%a: tensor<4x8xf32>, %b: tensor<8x2xf32>, %c: tensor<4x3xf32>) {
  // expected-error@+1 {{expects c to have 8 elements, but got 'tensor<4x3xf32>'}}
  %r = routine.gemm %a, %b into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, tensor<8x2xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>
  return
}

// -----

func.func @gemm_c1_dynamic(%a: tensor<4x8xf32>, %b: tensor<?x2xf32>, %c: tensor<4x2xf32>) {
  // expected-error@+1 {{expects b to have 16 elements, but got 'tensor<?x2xf32>'}}
  %r = routine.gemm %a, %b into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, tensor<?x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @gemm_c2(%a: tensor<4x8xf32>, %b: tensor<8x2xbf16>, %c: tensor<4x2xf32>) {
  // expected-error@+1 {{expects operands of one type, f32, bf16 or f64, and c of that type, or f32 if it is bf16, but got 'tensor<4x8xf32>', 'tensor<8x2xbf16>', 'tensor<4x2xf32>'}}
  %r = routine.gemm %a, %b into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, tensor<8x2xbf16>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @gemm_c2_bias(%a: tensor<4x8xf32>, %b: tensor<8x2xf32>, %bias: tensor<2xf64>, %c: tensor<4x2xf32>) {
  // expected-error@+1 {{expects operands of one type, f32, bf16 or f64}}
  %r = routine.gemm %a, %b bias %bias into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, tensor<8x2xf32>, tensor<2xf64>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @gemm_c2_result(%a: tensor<4x8xf32>, %b: tensor<8x2xf32>, %c: tensor<4x2xbf16>) {
  // expected-error@+1 {{expects operands of one type, f32, bf16 or f64}}
  %r = routine.gemm %a, %b into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, tensor<8x2xf32>, tensor<4x2xbf16>) -> tensor<4x2xbf16>
  return
}

// -----

func.func @gemm_c2_f16(%a: tensor<4x8xf16>, %b: tensor<8x2xf16>, %c: tensor<4x2xf16>) {
  // expected-error@+1 {{expects operands of one type, f32, bf16 or f64}}
  %r = routine.gemm %a, %b into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf16>, tensor<8x2xf16>, tensor<4x2xf16>) -> tensor<4x2xf16>
  return
}

// -----

func.func @gemm_c3(%a: tensor<4x8xf32>, %b: memref<8x2xf32>, %c: tensor<4x2xf32>) {
  // expected-error@+1 {{expects tensors only or memrefs only, but b is 'memref<8x2xf32>'}}
  %r = routine.gemm %a, %b into %c {k = 8 : i64, m = 4 : i64, n = 2 : i64} : (tensor<4x8xf32>, memref<8x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  return
}

// -----

func.func @attention_forward_c1(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects q to have 48 elements, but got 'tensor<1x2x2x8xf32>'}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 3 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c1_keys(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects k to have 24 elements, but got 'tensor<1x2x1x8xf32>'}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 3 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c2(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 4 masks for causal, but got 3}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c2_encoder(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 2 masks for encoder, but got 4}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<encoder>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 1 : i64, tile_stride = 2 : i64, tile_tokens = 1 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c2_images(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 3 masks for images, but got 4}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 1 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<images>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 1 : i64, tile_stride = 0 : i64, tile_tokens = 2 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c5(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects kv_heads to divide heads, but got 3 and 2}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 3 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c6_encoder(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 2 keys, but the tiles have 4}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<encoder>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 2 : i64, tile_stride = 2 : i64, tile_tokens = 1 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c6_images(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 2 keys, but the tiles have 6}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 2 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<images>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 1 : i64, tile_stride = 0 : i64, tile_tokens = 3 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c6_scale(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects a scale above 0, but got 0.000000e+00 : f64}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 0.000000e+00 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_backward_c1(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects d_out to have 48 elements}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 3 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_backward_c1_keys(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects k to have 24 elements, but got 'tensor<1x2x1x8xf32>'}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 3 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_backward_c2(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 4 masks for causal, but got 3}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_backward_c2_encoder(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 2 masks for encoder, but got 4}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<encoder>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 1 : i64, tile_stride = 2 : i64, tile_tokens = 1 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_backward_c2_images(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 3 masks for images, but got 4}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 1 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<images>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 1 : i64, tile_stride = 0 : i64, tile_tokens = 2 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_backward_c5(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects kv_heads to divide heads, but got 3 and 2}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 3 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_backward_c6_encoder(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 2 keys, but the tiles have 4}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<encoder>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 2 : i64, tile_stride = 2 : i64, tile_tokens = 1 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_backward_c6_images(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects 2 keys, but the tiles have 6}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 2 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<images>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 1 : i64, tile_stride = 0 : i64, tile_tokens = 3 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_backward_c6_scale(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects a scale above 0, but got 0.000000e+00 : f64}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 0.000000e+00 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>)
  return
}

// -----

func.func @attention_forward_c2_elements(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>, %t: tensor<3xi64>) {
  // expected-error@+1 {{expects mask 3 to have 2 elements, but got 'tensor<3xi64>'}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %t) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<3xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_forward_c3(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xbf16>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects operands of one type, f32 or bf16, with lse of f32 and masks of i64}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xbf16>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xbf16>)
  return
}

// -----

func.func @attention_forward_c3_masks(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>, %t: tensor<2xi32>) {
  // expected-error@+1 {{expects operands of one type, f32 or bf16, with lse of f32 and masks of i64}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %t) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<2xi32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @attention_backward_c3(%q: tensor<1x2x2x8xf32>, %k: tensor<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xbf16>) {
  // expected-error@+1 {{expects operands of one type, f32 or bf16, with lse of f32 and masks of i64}}
  %r:3 = routine.attention_backward %o, %q, %k, %k, %o, %l masks(%p, %p, %p, %p) into %o, %k, %dv {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xbf16>) -> (tensor<1x2x2x8xf32>, tensor<1x2x1x8xf32>, tensor<1x2x1x8xbf16>)
  return
}

// -----

func.func @attention_forward_c4(%q: tensor<1x2x2x8xf32>, %k: memref<1x2x1x8xf32>, %p: tensor<1x2xi64>, %o: tensor<1x2x2x8xf32>, %l: tensor<1x2x2xf32>, %dv: tensor<1x2x1x8xf32>) {
  // expected-error@+1 {{expects tensors only or memrefs only, but k is 'memref<1x2x1x8xf32>'}}
  %r:2 = routine.attention_forward %q, %k, %k masks(%p, %p, %p, %p) into %o, %l {batch = 1 : i64, head_size = 8 : i64, heads = 2 : i64, images = 0 : i64, keys = 2 : i64, kv_heads = 1 : i64, mask = #routine.mask<causal>, queries = 2 : i64, scale = 2.500000e-01 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<1x2x2x8xf32>, memref<1x2x1x8xf32>, memref<1x2x1x8xf32>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2xi64>, tensor<1x2x2x8xf32>, tensor<1x2x2xf32>) -> (tensor<1x2x2x8xf32>, tensor<1x2x2xf32>)
  return
}

// -----

func.func @gemm_c1_parts(%a: tensor<4x8xf32>, %b: tensor<2x8xf32>, %b2: tensor<3x8xf32>, %c: tensor<4x6xf32>) {
  // expected-error@+1 {{expects parts of whole rows that are b or c together}}
  %r = routine.gemm %a, %b, %b2 into %c {k = 8 : i64, m = 4 : i64, n = 6 : i64, transpose_b} : (tensor<4x8xf32>, tensor<2x8xf32>, tensor<3x8xf32>, tensor<4x6xf32>) -> tensor<4x6xf32>
  return
}

// -----

func.func @gemm_c4(%a: tensor<4x8xf32>, %b: tensor<2x7xf32>, %b2: tensor<2x9xf32>, %c: tensor<4x4xf32>) {
  // expected-error@+1 {{expects parts of whole rows that are b or c together}}
  %r = routine.gemm %a, %b, %b2 into %c {k = 8 : i64, m = 4 : i64, n = 4 : i64, transpose_b} : (tensor<4x8xf32>, tensor<2x7xf32>, tensor<2x9xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return
}

// -----

func.func @gemm_c1_bias_gradient(%dy: tensor<4x5xbf16>, %x: tensor<4x8xbf16>, %c: tensor<5x8xf32>, %g: tensor<8xf32>) {
  // expected-error@+1 {{expects bias_gradient to have 5 elements, but got 'tensor<8xf32>'}}
  %r:2 = routine.gemm %dy, %x into %c bias_gradient %g {k = 4 : i64, m = 5 : i64, n = 8 : i64, transpose_a} : (tensor<4x5xbf16>, tensor<4x8xbf16>, tensor<5x8xf32>, tensor<8xf32>) -> (tensor<5x8xf32>, tensor<8xf32>)
  return
}

// -----

func.func @gemm_c5(%dy: tensor<4x5xbf16>, %x: tensor<4x8xbf16>, %c: tensor<5x8xf32>, %g: tensor<5xbf16>) {
  // expected-error@+1 {{expects bias_gradient, and c beside it, of f32, and no bias, but got}}
  %r:2 = routine.gemm %dy, %x into %c bias_gradient %g {k = 4 : i64, m = 5 : i64, n = 8 : i64, transpose_a} : (tensor<4x5xbf16>, tensor<4x8xbf16>, tensor<5x8xf32>, tensor<5xbf16>) -> (tensor<5x8xf32>, tensor<5xbf16>)
  return
}

// -----

func.func @gemm_c5_c(%dy: tensor<4x5xbf16>, %x: tensor<4x8xbf16>, %c: tensor<5x8xbf16>, %g: tensor<5xf32>) {
  // expected-error@+1 {{expects bias_gradient, and c beside it, of f32, and no bias, but got}}
  %r:2 = routine.gemm %dy, %x into %c bias_gradient %g {k = 4 : i64, m = 5 : i64, n = 8 : i64, transpose_a} : (tensor<4x5xbf16>, tensor<4x8xbf16>, tensor<5x8xbf16>, tensor<5xf32>) -> (tensor<5x8xbf16>, tensor<5xf32>)
  return
}

// -----

func.func @gemm_c5_bias(%dy: tensor<4x5xf32>, %x: tensor<4x8xf32>, %c: tensor<5x8xf32>, %bias: tensor<8xf32>, %g: tensor<5xf32>) {
  // expected-error@+1 {{expects bias_gradient, and c beside it, of f32, and no bias, but got}}
  %r:2 = routine.gemm %dy, %x bias %bias into %c bias_gradient %g {k = 4 : i64, m = 5 : i64, n = 8 : i64, transpose_a} : (tensor<4x5xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<5x8xf32>, tensor<5xf32>) -> (tensor<5x8xf32>, tensor<5xf32>)
  return
}

// -----

func.func @gemm_c2_parts(%a: tensor<4x8xf32>, %b: tensor<2x8xf32>, %b2: tensor<2x8xf64>, %c: tensor<4x4xf32>) {
  // expected-error@+1 {{expects operands of one type}}
  %r = routine.gemm %a, %b, %b2 into %c {k = 8 : i64, m = 4 : i64, n = 4 : i64, transpose_b} : (tensor<4x8xf32>, tensor<2x8xf32>, tensor<2x8xf64>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return
}

// -----

func.func @chunks_c1_count(%x: tensor<16x8xf32>, %y: tensor<16xf32>) {
  // expected-error@+1 {{expects begins and steps for 2 operands, but got 1 and 2}}
  %r = routine.chunks @chunk(%x) into(%y) {begins = array<i64: 0>, count = 2 : i64, steps = array<i64: 64, 8>} : (tensor<16x8xf32>, tensor<16xf32>) -> tensor<16xf32>
  return
}

// -----

func.func @chunks_c1_end(%x: tensor<16x8xf32>, %y: tensor<16xf32>) {
  // expected-error@+1 {{expects operand 1 to have 2 parts of 8 elements from 8 on, but got 'tensor<16xf32>'}}
  %r = routine.chunks @chunk(%x) into(%y) {begins = array<i64: 0, 8>, count = 2 : i64, steps = array<i64: 64, 8>} : (tensor<16x8xf32>, tensor<16xf32>) -> tensor<16xf32>
  return
}

// -----

func.func @chunks_c2(%x: memref<16x8xf32>, %y: tensor<16xf32>) {
  // expected-error@+1 {{expects tensors only or memrefs only, but operand 1 is 'tensor<16xf32>'}}
  %r = routine.chunks @chunk(%x) into(%y) {begins = array<i64: 0, 0>, count = 2 : i64, steps = array<i64: 64, 8>} : (memref<16x8xf32>, tensor<16xf32>) -> tensor<16xf32>
  return
}
