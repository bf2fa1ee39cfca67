// RUN: llama-opt %s | llama-opt | FileCheck %s
// RUN: llama-opt %s -mlir-print-op-generic | llama-opt | FileCheck %s

// The example of every op parses, verifies, prints and parses again.

// CHECK-LABEL: @embed
// CHECK: llama.embed %
func.func @embed(%ids: tensor<2x16xi64>, %table: tensor<8x128xf32>) -> tensor<2x16x128xf32> {
  %h = llama.embed %ids, %table {offset = 512 : i64, padding_index = 504 : i64} : (tensor<2x16xi64>, tensor<8x128xf32>) -> tensor<2x16x128xf32>
  return %h : tensor<2x16x128xf32>
}

// CHECK-LABEL: @embed_grad
// CHECK: llama.embed_grad %
func.func @embed_grad(%dh: tensor<2x16x128xf32>, %ids: tensor<2x16xi64>) -> tensor<512x128xf32> {
  %d = llama.embed_grad %dh, %ids {rows = 512 : i64, offset = 0 : i64, accumulation = f32} : (tensor<2x16x128xf32>, tensor<2x16xi64>) -> tensor<512x128xf32>
  return %d : tensor<512x128xf32>
}

// CHECK-LABEL: @shift_index
// CHECK: llama.shift_index %
func.func @shift_index(%ids: tensor<2x16xi64>, %coordinate: tensor<1xi64>) -> tensor<2x16xi64> {
  %local = llama.shift_index %ids, %coordinate {size = 256 : i64} : (tensor<2x16xi64>, tensor<1xi64>) -> tensor<2x16xi64>
  return %local : tensor<2x16xi64>
}

// CHECK-LABEL: @rms_norm
// CHECK: llama.rms_norm %
func.func @rms_norm(%x: tensor<2x16x128xbf16>, %w: tensor<128xbf16>) -> tensor<2x16x128xbf16> {
  %y = llama.rms_norm %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x16x128xbf16>, tensor<128xbf16>) -> tensor<2x16x128xbf16>
  return %y : tensor<2x16x128xbf16>
}

// CHECK-LABEL: @rms_norm_dx
// CHECK: llama.rms_norm_dx %
func.func @rms_norm_dx(%dy: tensor<2x16x128xf32>, %x: tensor<2x16x128xf32>, %w: tensor<128xf32>) -> tensor<2x16x128xf32> {
  %dx = llama.rms_norm_dx %dy, %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x16x128xf32>, tensor<2x16x128xf32>, tensor<128xf32>) -> tensor<2x16x128xf32>
  return %dx : tensor<2x16x128xf32>
}

// CHECK-LABEL: @rms_norm_dw
// CHECK: llama.rms_norm_dw %
func.func @rms_norm_dw(%dy: tensor<2x16x128xf32>, %x: tensor<2x16x128xf32>) -> tensor<128xf32> {
  %dw = llama.rms_norm_dw %dy, %x {epsilon = 1.0e-5 : f64, statistics = f32, accumulation = f32} : (tensor<2x16x128xf32>, tensor<2x16x128xf32>) -> tensor<128xf32>
  return %dw : tensor<128xf32>
}

// CHECK-LABEL: @layer_norm
// CHECK: llama.layer_norm %
func.func @layer_norm(%x: tensor<2x64x64xf32>, %w: tensor<64xf32>, %b: tensor<64xf32>) -> tensor<2x64x64xf32> {
  %y = llama.layer_norm %x, %w, %b {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x64x64xf32>, tensor<64xf32>, tensor<64xf32>) -> tensor<2x64x64xf32>
  return %y : tensor<2x64x64xf32>
}

// CHECK-LABEL: @layer_norm_dx
// CHECK: llama.layer_norm_dx %
func.func @layer_norm_dx(%dy: tensor<2x64x64xf32>, %x: tensor<2x64x64xf32>, %w: tensor<64xf32>) -> tensor<2x64x64xf32> {
  %dx = llama.layer_norm_dx %dy, %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x64x64xf32>, tensor<2x64x64xf32>, tensor<64xf32>) -> tensor<2x64x64xf32>
  return %dx : tensor<2x64x64xf32>
}

// CHECK-LABEL: @layer_norm_dw
// CHECK: llama.layer_norm_dw %
func.func @layer_norm_dw(%dy: tensor<2x64x64xf32>, %x: tensor<2x64x64xf32>) -> tensor<64xf32> {
  %dw = llama.layer_norm_dw %dy, %x {epsilon = 1.0e-5 : f64, statistics = f32, accumulation = f32} : (tensor<2x64x64xf32>, tensor<2x64x64xf32>) -> tensor<64xf32>
  return %dw : tensor<64xf32>
}

// CHECK-LABEL: @sum_rows
// CHECK: llama.sum_rows %
func.func @sum_rows(%dy: tensor<2x64x256xbf16>) -> tensor<256xf32> {
  %db = llama.sum_rows %dy {accumulation = f32} : (tensor<2x64x256xbf16>) -> tensor<256xf32>
  return %db : tensor<256xf32>
}

// CHECK-LABEL: @linear
// CHECK: llama.linear %
func.func @linear(%x: tensor<2x16x128xbf16>, %w: tensor<384x128xbf16>, %b: tensor<384xbf16>) -> tensor<2x16x384xbf16> {
  %y = llama.linear %x, %w, %b {accumulation = f32} : (tensor<2x16x128xbf16>, tensor<384x128xbf16>, tensor<384xbf16>) -> tensor<2x16x384xbf16>
  return %y : tensor<2x16x384xbf16>
}

// CHECK-LABEL: @linear_dx
// CHECK: llama.linear_dx %
func.func @linear_dx(%dy: tensor<2x16x384xbf16>, %w: tensor<384x128xbf16>) -> tensor<2x16x128xbf16> {
  %dx = llama.linear_dx %dy, %w {accumulation = f32} : (tensor<2x16x384xbf16>, tensor<384x128xbf16>) -> tensor<2x16x128xbf16>
  return %dx : tensor<2x16x128xbf16>
}

// CHECK-LABEL: @linear_dw
// CHECK: llama.linear_dw %
func.func @linear_dw(%dy: tensor<2x16x384xbf16>, %x: tensor<2x16x128xbf16>) -> tensor<384x128xf32> {
  %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<2x16x384xbf16>, tensor<2x16x128xbf16>) -> tensor<384x128xf32>
  return %dw : tensor<384x128xf32>
}

// CHECK-LABEL: @rope_table
// CHECK: llama.rope_table %
func.func @rope_table(%p: tensor<2x16xi64>) -> tensor<2x16x2x2xf32> {
  %t = llama.rope_table %p {frequencies = array<f64: 1.0, 0.1>, statistics = f32} : (tensor<2x16xi64>) -> tensor<2x16x2x2xf32>
  return %t : tensor<2x16x2x2xf32>
}

// CHECK-LABEL: @rope
// CHECK: llama.rope %
func.func @rope(%x: tensor<2x16x8x4xf32>, %t: tensor<2x16x2x2xf32>) -> tensor<2x16x8x4xf32> {
  %y = llama.rope %x, %t : (tensor<2x16x8x4xf32>, tensor<2x16x2x2xf32>) -> tensor<2x16x8x4xf32>
  return %y : tensor<2x16x8x4xf32>
}

// CHECK-LABEL: @split_heads
// CHECK: llama.split_heads %
func.func @split_heads(%x: tensor<2x16x128xf32>) -> tensor<2x16x8x16xf32> {
  %q = llama.split_heads %x {head_size = 16 : i64} : (tensor<2x16x128xf32>) -> tensor<2x16x8x16xf32>
  return %q : tensor<2x16x8x16xf32>
}

// CHECK-LABEL: @merge_heads
// CHECK: llama.merge_heads %
func.func @merge_heads(%o: tensor<2x16x8x16xf32>) -> tensor<2x16x128xf32> {
  %x = llama.merge_heads %o : (tensor<2x16x8x16xf32>) -> tensor<2x16x128xf32>
  return %x : tensor<2x16x128xf32>
}

// CHECK-LABEL: @attention
// CHECK: llama.attention %
func.func @attention(%q: tensor<2x16x8x16xf32>, %k: tensor<2x32x2x16xf32>, %v: tensor<2x32x2x16xf32>, %p: tensor<2x16xi64>, %d: tensor<2x16xi64>, %kp: tensor<2x32xi64>, %kd: tensor<2x32xi64>) -> (tensor<2x16x8x16xf32>, tensor<2x16x8xf32>) {
  %o, %lse = llama.attention %q, %k, %v, %p, %d, %kp, %kd {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x32xi64>, tensor<2x32xi64>) -> (tensor<2x16x8x16xf32>, tensor<2x16x8xf32>)
  return %o, %lse : tensor<2x16x8x16xf32>, tensor<2x16x8xf32>
}

// Half of the tokens of an image as queries.
// CHECK-LABEL: @attention_encoder
// CHECK: llama.attention %
func.func @attention_encoder(%q: tensor<2x8x2x4xf32>, %k: tensor<2x16x2x4xf32>, %tiles: tensor<2x1xi64>, %p: tensor<1x8xi64>) -> tensor<2x8x2x4xf32> {
  %o, %lse = llama.attention %q, %k, %k, %tiles, %p {mask = #llama.mask<encoder>, scale = 0.25 : f64, tile_count = 4 : i64, tile_stride = 4 : i64, tile_tokens = 3 : i64, statistics = f32} : (tensor<2x8x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x1xi64>, tensor<1x8xi64>) -> (tensor<2x8x2x4xf32>, tensor<2x8x2xf32>)
  return %o : tensor<2x8x2x4xf32>
}

// CHECK-LABEL: @attention_grad
// CHECK: llama.attention_grad %
func.func @attention_grad(%do: tensor<2x16x8x16xf32>, %q: tensor<2x16x8x16xf32>, %k: tensor<2x32x2x16xf32>, %v: tensor<2x32x2x16xf32>, %o: tensor<2x16x8x16xf32>, %lse: tensor<2x16x8xf32>, %p: tensor<2x16xi64>, %d: tensor<2x16xi64>, %kp: tensor<2x32xi64>, %kd: tensor<2x32xi64>) -> (tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>) {
  %dq, %dk, %dv = llama.attention_grad %do, %q, %k, %v, %o, %lse, %p, %d, %kp, %kd {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x16xf32>, tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>, tensor<2x16x8x16xf32>, tensor<2x16x8xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x32xi64>, tensor<2x32xi64>) -> (tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>)
  return %dq, %dk, %dv : tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>
}

// CHECK-LABEL: @swiglu
// CHECK: llama.swiglu %
func.func @swiglu(%g: tensor<2x16x384xf32>, %u: tensor<2x16x384xf32>) -> tensor<2x16x384xf32> {
  %y = llama.swiglu %g, %u {statistics = f32} : (tensor<2x16x384xf32>, tensor<2x16x384xf32>) -> tensor<2x16x384xf32>
  return %y : tensor<2x16x384xf32>
}

// CHECK-LABEL: @swiglu_grad
// CHECK: llama.swiglu_grad %
func.func @swiglu_grad(%dy: tensor<2x16x384xf32>, %g: tensor<2x16x384xf32>, %u: tensor<2x16x384xf32>) -> (tensor<2x16x384xf32>, tensor<2x16x384xf32>) {
  %dg, %du = llama.swiglu_grad %dy, %g, %u {statistics = f32} : (tensor<2x16x384xf32>, tensor<2x16x384xf32>, tensor<2x16x384xf32>) -> (tensor<2x16x384xf32>, tensor<2x16x384xf32>)
  return %dg, %du : tensor<2x16x384xf32>, tensor<2x16x384xf32>
}

// CHECK-LABEL: @gelu
// CHECK: llama.gelu %
func.func @gelu(%x: tensor<2x64x256xf32>) -> tensor<2x64x256xf32> {
  %y = llama.gelu %x {statistics = f32} : (tensor<2x64x256xf32>) -> tensor<2x64x256xf32>
  return %y : tensor<2x64x256xf32>
}

// CHECK-LABEL: @gelu_grad
// CHECK: llama.gelu_grad %
func.func @gelu_grad(%dy: tensor<2x64x256xf32>, %x: tensor<2x64x256xf32>) -> tensor<2x64x256xf32> {
  %dx = llama.gelu_grad %dy, %x {statistics = f32} : (tensor<2x64x256xf32>, tensor<2x64x256xf32>) -> tensor<2x64x256xf32>
  return %dx : tensor<2x64x256xf32>
}

// CHECK-LABEL: @add
// CHECK: llama.add %
func.func @add(%a: tensor<2x16x128xf32>, %b: tensor<2x16x128xf32>) -> tensor<2x16x128xf32> {
  %y = llama.add %a, %b : (tensor<2x16x128xf32>, tensor<2x16x128xf32>) -> tensor<2x16x128xf32>
  return %y : tensor<2x16x128xf32>
}

// CHECK-LABEL: @cast
// CHECK: llama.cast %
func.func @cast(%x: tensor<4xf32>) -> tensor<4xbf16> {
  %y = llama.cast %x {element_type = bf16} : (tensor<4xf32>) -> tensor<4xbf16>
  return %y : tensor<4xbf16>
}

// CHECK-LABEL: @gated_residual
// CHECK: llama.gated_residual %
func.func @gated_residual(%x: tensor<2x16x128xf32>, %f: tensor<2x16x128xf32>, %g: tensor<1xf32>, %b: tensor<2x16xi64>, %e: tensor<2x16xi64>) -> tensor<2x16x128xf32> {
  %y = llama.gated_residual %x, %f, %g, %b, %e {rows = #llama.rows<image>, statistics = f32} : (tensor<2x16x128xf32>, tensor<2x16x128xf32>, tensor<1xf32>, tensor<2x16xi64>, tensor<2x16xi64>) -> tensor<2x16x128xf32>
  return %y : tensor<2x16x128xf32>
}

// CHECK-LABEL: @gated_residual_grad
// CHECK: llama.gated_residual_grad %
func.func @gated_residual_grad(%dy: tensor<2x16x128xf32>, %g: tensor<1xf32>) -> tensor<2x16x128xf32> {
  %df = llama.gated_residual_grad %dy, %g {rows = #llama.rows<none>, statistics = f32} : (tensor<2x16x128xf32>, tensor<1xf32>) -> tensor<2x16x128xf32>
  return %df : tensor<2x16x128xf32>
}

// CHECK-LABEL: @gate_grad
// CHECK: llama.gate_grad %
func.func @gate_grad(%dy: tensor<2x16x128xf32>, %f: tensor<2x16x128xf32>, %g: tensor<1xf32>) -> tensor<1xf32> {
  %dg = llama.gate_grad %dy, %f, %g {rows = #llama.rows<none>, accumulation = f32} : (tensor<2x16x128xf32>, tensor<2x16x128xf32>, tensor<1xf32>) -> tensor<1xf32>
  return %dg : tensor<1xf32>
}

// CHECK-LABEL: @patchify
// CHECK: llama.patchify %
func.func @patchify(%x: tensor<2x1x4x3x42x42xf32>) -> tensor<2x36x588xbf16> {
  %p = llama.patchify %x {patch_size = 14 : i64, element_type = bf16} : (tensor<2x1x4x3x42x42xf32>) -> tensor<2x36x588xbf16>
  return %p : tensor<2x36x588xbf16>
}

// CHECK-LABEL: @tile_embed_add
// CHECK: llama.tile_embed_add %
func.func @tile_embed_add(%x: tensor<2x36x64xf32>, %table: tensor<9x4x64xf32>, %g: tensor<1xf32>, %ids: tensor<2x1xi64>) -> tensor<2x36x64xf32> {
  %y = llama.tile_embed_add %x, %table, %g, %ids {statistics = f32} : (tensor<2x36x64xf32>, tensor<9x4x64xf32>, tensor<1xf32>, tensor<2x1xi64>) -> tensor<2x36x64xf32>
  return %y : tensor<2x36x64xf32>
}

// CHECK-LABEL: @tile_embed_grad
// CHECK: llama.tile_embed_grad %
func.func @tile_embed_grad(%dy: tensor<2x36x64xf32>, %table: tensor<9x4x64xf32>, %g: tensor<1xf32>, %ids: tensor<2x1xi64>) -> (tensor<9x4x64xf32>, tensor<1xf32>) {
  %dt, %dg = llama.tile_embed_grad %dy, %table, %g, %ids {accumulation = f32} : (tensor<2x36x64xf32>, tensor<9x4x64xf32>, tensor<1xf32>, tensor<2x1xi64>) -> (tensor<9x4x64xf32>, tensor<1xf32>)
  return %dt, %dg : tensor<9x4x64xf32>, tensor<1xf32>
}

// CHECK-LABEL: @prepend_class
// CHECK: llama.prepend_class %
func.func @prepend_class(%x: tensor<2x36x64xf32>, %c: tensor<64xf32>) -> tensor<2x40x64xf32> {
  %y = llama.prepend_class %x, %c {tiles = 4 : i64} : (tensor<2x36x64xf32>, tensor<64xf32>) -> tensor<2x40x64xf32>
  return %y : tensor<2x40x64xf32>
}

// CHECK-LABEL: @drop_class
// CHECK: llama.drop_class %
func.func @drop_class(%x: tensor<2x40x64xf32>) -> tensor<2x36x64xf32> {
  %y = llama.drop_class %x {tiles = 4 : i64} : (tensor<2x40x64xf32>) -> tensor<2x36x64xf32>
  return %y : tensor<2x36x64xf32>
}

// CHECK-LABEL: @take_class
// CHECK: llama.take_class %
func.func @take_class(%x: tensor<2x40x64xf32>) -> tensor<2x4x64xf32> {
  %y = llama.take_class %x {tiles = 4 : i64} : (tensor<2x40x64xf32>) -> tensor<2x4x64xf32>
  return %y : tensor<2x4x64xf32>
}

// CHECK-LABEL: @position_embed_add
// CHECK: llama.position_embed_add %
func.func @position_embed_add(%x: tensor<2x40x64xf32>, %e: tensor<10x64xf32>, %g: tensor<1xf32>) -> tensor<2x40x64xf32> {
  %y = llama.position_embed_add %x, %e, %g {statistics = f32} : (tensor<2x40x64xf32>, tensor<10x64xf32>, tensor<1xf32>) -> tensor<2x40x64xf32>
  return %y : tensor<2x40x64xf32>
}

// CHECK-LABEL: @position_embed_grad
// CHECK: llama.position_embed_grad %
func.func @position_embed_grad(%dy: tensor<2x40x64xf32>, %e: tensor<10x64xf32>, %g: tensor<1xf32>) -> (tensor<10x64xf32>, tensor<1xf32>) {
  %dt, %dg = llama.position_embed_grad %dy, %e, %g {accumulation = f32} : (tensor<2x40x64xf32>, tensor<10x64xf32>, tensor<1xf32>) -> (tensor<10x64xf32>, tensor<1xf32>)
  return %dt, %dg : tensor<10x64xf32>, tensor<1xf32>
}

// CHECK-LABEL: @pad_tokens
// CHECK: llama.pad_tokens %
func.func @pad_tokens(%x: tensor<2x40x64xf32>) -> tensor<2x64x64xf32> {
  %y = llama.pad_tokens %x {tiles = 4 : i64, multiple = 8 : i64} : (tensor<2x40x64xf32>) -> tensor<2x64x64xf32>
  return %y : tensor<2x64x64xf32>
}

// CHECK-LABEL: @drop_tokens
// CHECK: llama.drop_tokens %
func.func @drop_tokens(%x: tensor<2x64x64xf32>) -> tensor<2x40x64xf32> {
  %y = llama.drop_tokens %x {tiles = 4 : i64, tokens = 10 : i64} : (tensor<2x64x64xf32>) -> tensor<2x40x64xf32>
  return %y : tensor<2x40x64xf32>
}

// CHECK-LABEL: @tap_concat
// CHECK: llama.tap_concat %
func.func @tap_concat(%f: tensor<2x40x64xf32>, %t0: tensor<2x40x64xf32>, %t1: tensor<2x40x64xf32>) -> tensor<2x40x192xf32> {
  %y = llama.tap_concat %f, %t0, %t1 : (tensor<2x40x64xf32>, tensor<2x40x64xf32>, tensor<2x40x64xf32>) -> tensor<2x40x192xf32>
  return %y : tensor<2x40x192xf32>
}

// CHECK-LABEL: @tap_split
// CHECK: llama.tap_split %
func.func @tap_split(%dy: tensor<2x40x192xf32>) -> (tensor<2x40x64xf32>, tensor<2x40x64xf32>, tensor<2x40x64xf32>) {
  %df, %d0, %d1 = llama.tap_split %dy {taps = 2 : i64} : (tensor<2x40x192xf32>) -> (tensor<2x40x64xf32>, tensor<2x40x64xf32>, tensor<2x40x64xf32>)
  return %df, %d0, %d1 : tensor<2x40x64xf32>, tensor<2x40x64xf32>, tensor<2x40x64xf32>
}

// CHECK-LABEL: @images_to_tokens
// CHECK: llama.images_to_tokens %
func.func @images_to_tokens(%x: tensor<4x40x128xf32>, %tiles: tensor<2x2xi64>) -> tensor<2x80x128xf32> {
  %z = llama.images_to_tokens %x, %tiles : (tensor<4x40x128xf32>, tensor<2x2xi64>) -> tensor<2x80x128xf32>
  return %z : tensor<2x80x128xf32>
}

// CHECK-LABEL: @tokens_to_images
// CHECK: llama.tokens_to_images %
func.func @tokens_to_images(%z: tensor<2x80x128xf32>, %tiles: tensor<2x2xi64>) -> tensor<4x40x128xf32> {
  %x = llama.tokens_to_images %z, %tiles : (tensor<2x80x128xf32>, tensor<2x2xi64>) -> tensor<4x40x128xf32>
  return %x : tensor<4x40x128xf32>
}

// CHECK-LABEL: @row_max
// CHECK: llama.row_max %
func.func @row_max(%l: tensor<2x16x512xf32>) -> tensor<2x16xf32> {
  %m = llama.row_max %l {statistics = f32} : (tensor<2x16x512xf32>) -> tensor<2x16xf32>
  return %m : tensor<2x16xf32>
}

// CHECK-LABEL: @row_sum_exp
// CHECK: llama.row_sum_exp %
func.func @row_sum_exp(%l: tensor<2x16x512xf32>, %m: tensor<2x16xf32>) -> tensor<2x16xf32> {
  %s = llama.row_sum_exp %l, %m {statistics = f32} : (tensor<2x16x512xf32>, tensor<2x16xf32>) -> tensor<2x16xf32>
  return %s : tensor<2x16xf32>
}

// CHECK-LABEL: @row_sum_exp_grad
// CHECK: llama.row_sum_exp_grad %
func.func @row_sum_exp_grad(%ds: tensor<2x16xf32>, %l: tensor<2x16x512xf32>, %m: tensor<2x16xf32>) -> tensor<2x16x512xf32> {
  %dl = llama.row_sum_exp_grad %ds, %l, %m {statistics = f32} : (tensor<2x16xf32>, tensor<2x16x512xf32>, tensor<2x16xf32>) -> tensor<2x16x512xf32>
  return %dl : tensor<2x16x512xf32>
}

// CHECK-LABEL: @target_logit
// CHECK: llama.target_logit %
func.func @target_logit(%l: tensor<2x16x512xf32>, %y: tensor<2x16xi64>) -> tensor<2x16xf32> {
  %t = llama.target_logit %l, %y {statistics = f32} : (tensor<2x16x512xf32>, tensor<2x16xi64>) -> tensor<2x16xf32>
  return %t : tensor<2x16xf32>
}

// CHECK-LABEL: @target_logit_grad
// CHECK: llama.target_logit_grad %
func.func @target_logit_grad(%dt: tensor<2x16xf32>, %y: tensor<2x16xi64>) -> tensor<2x16x512xf32> {
  %dl = llama.target_logit_grad %dt, %y {size = 512 : i64, element_type = f32} : (tensor<2x16xf32>, tensor<2x16xi64>) -> tensor<2x16x512xf32>
  return %dl : tensor<2x16x512xf32>
}

// CHECK-LABEL: @linear_lse
// CHECK: llama.linear_lse %
func.func @linear_lse(%x: tensor<2x16x128xf32>, %w: tensor<512x128xf32>, %y: tensor<2x16xi64>) -> (tensor<2x16x2xf32>, tensor<2x16xf32>) {
  %lse, %t = llama.linear_lse %x, %w, %y {parts = 2 : i64, chunk = 8 : i64, statistics = f32} : (tensor<2x16x128xf32>, tensor<512x128xf32>, tensor<2x16xi64>) -> (tensor<2x16x2xf32>, tensor<2x16xf32>)
  return %lse, %t : tensor<2x16x2xf32>, tensor<2x16xf32>
}

// CHECK-LABEL: @linear_lse_grad
// CHECK: llama.linear_lse_grad %
func.func @linear_lse_grad(%dl: tensor<2x16x2xf32>, %dt: tensor<2x16xf32>, %x: tensor<2x16x128xf32>, %w: tensor<512x128xf32>, %y: tensor<2x16xi64>, %lse: tensor<2x16x2xf32>) -> (tensor<2x16x128xf32>, tensor<512x128xf32>) {
  %dx, %dw = llama.linear_lse_grad %dl, %dt, %x, %w, %y, %lse {chunk = 8 : i64, statistics = f32, accumulation = f32, element_type = f32} : (tensor<2x16x2xf32>, tensor<2x16xf32>, tensor<2x16x128xf32>, tensor<512x128xf32>, tensor<2x16xi64>, tensor<2x16x2xf32>) -> (tensor<2x16x128xf32>, tensor<512x128xf32>)
  return %dx, %dw : tensor<2x16x128xf32>, tensor<512x128xf32>
}

// CHECK-LABEL: @take_tokens
// CHECK: llama.take_tokens %
func.func @take_tokens(%x: tensor<2x16x128xf32>, %t: tensor<2x4xi64>) -> tensor<2x4x128xf32> {
  %y = llama.take_tokens %x, %t : (tensor<2x16x128xf32>, tensor<2x4xi64>) -> tensor<2x4x128xf32>
  return %y : tensor<2x4x128xf32>
}

// CHECK-LABEL: @cross_entropy
// CHECK: llama.cross_entropy %
func.func @cross_entropy(%m: tensor<2x16xf32>, %s: tensor<2x16xf32>, %t: tensor<2x16xf32>, %y: tensor<2x16xi64>) -> tensor<1xf32> {
  %loss = llama.cross_entropy %m, %s, %t, %y : (tensor<2x16xf32>, tensor<2x16xf32>, tensor<2x16xf32>, tensor<2x16xi64>) -> tensor<1xf32>
  return %loss : tensor<1xf32>
}

// CHECK-LABEL: @cross_entropy_grad
// CHECK: llama.cross_entropy_grad %
func.func @cross_entropy_grad(%c: tensor<1xf32>, %s: tensor<2x16xf32>, %y: tensor<2x16xi64>) -> (tensor<2x16xf32>, tensor<2x16xf32>) {
  %ds, %dt = llama.cross_entropy_grad %c, %s, %y : (tensor<1xf32>, tensor<2x16xf32>, tensor<2x16xi64>) -> (tensor<2x16xf32>, tensor<2x16xf32>)
  return %ds, %dt : tensor<2x16xf32>, tensor<2x16xf32>
}

// CHECK-LABEL: @sum_of_squares
// CHECK: llama.sum_of_squares %
func.func @sum_of_squares(%g: tensor<4096xf32>) -> tensor<1xf32> {
  %n = llama.sum_of_squares %g : (tensor<4096xf32>) -> tensor<1xf32>
  return %n : tensor<1xf32>
}

// CHECK-LABEL: @add_once
// CHECK: llama.add_once %
func.func @add_once(%s: tensor<1xf64>, %v: tensor<1xf32>, %f: tensor<1xf64>) -> tensor<1xf64> {
  %t = llama.add_once %s, %v, %f : (tensor<1xf64>, tensor<1xf32>, tensor<1xf64>) -> tensor<1xf64>
  return %t : tensor<1xf64>
}

// CHECK-LABEL: @clip_norm
// CHECK: llama.clip_norm %{{.*}} {element_type = f32}
func.func @clip_norm(%s: tensor<2xf64>, %g: tensor<8xf64>) -> tensor<8xf32> {
  %h = llama.clip_norm %s, %g {element_type = f32} : (tensor<2xf64>, tensor<8xf64>) -> tensor<8xf32>
  return %h : tensor<8xf32>
}

// CHECK-LABEL: @adamw
// CHECK: llama.adamw %
func.func @adamw(%p0: tensor<4096xf32>, %m0: tensor<4096xf32>, %v0: tensor<4096xf32>, %g: tensor<4096xf32>, %h: tensor<8xf32>) -> (tensor<4096xf32>, tensor<4096xf32>, tensor<4096xf32>) {
  %p, %m, %v = llama.adamw %p0, %m0, %v0, %g, %h : (tensor<4096xf32>, tensor<4096xf32>, tensor<4096xf32>, tensor<4096xf32>, tensor<8xf32>) -> (tensor<4096xf32>, tensor<4096xf32>, tensor<4096xf32>)
  return %p, %m, %v : tensor<4096xf32>, tensor<4096xf32>, tensor<4096xf32>
}
// A block, its parameters, and gradients that take the place of the old ones.
// CHECK: llama.parameter @weight : tensor<8x16xf32> {{.*}}initializer<normal>
llama.parameter @weight : tensor<8x16xf32> {initializer = #llama.initializer<normal>}
// CHECK: llama.parameter @part : tensor<4x16xf32> {{.*}}key = "whole"{{.*}}row_begin = 8
llama.parameter @part : tensor<4x16xf32> {initializer = #llama.initializer<zeros>, key = "whole", row_begin = 8 : i64, frozen}

// Dynamic sizes agree with every size.
// CHECK-LABEL: @layer
func.func private @layer(%x: tensor<?x16xf32>, %w: tensor<8x16xf32>) -> tensor<?x8xf32> attributes {llama.block} {
  // CHECK: llama.linear {{.*}} -> tensor<?x8xf32>
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<?x16xf32>, tensor<8x16xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
func.func private @layer.backward_weight(%dy: tensor<?x8xf32>, %x: tensor<?x16xf32>, %sum: tensor<8x16xf32>) -> tensor<8x16xf32> attributes {llama.block} {
  %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<?x8xf32>, tensor<?x16xf32>) -> tensor<8x16xf32>
  %new = llama.add %sum, %dw : (tensor<8x16xf32>, tensor<8x16xf32>) -> tensor<8x16xf32>
  return %new : tensor<8x16xf32>
}
// CHECK-LABEL: @model
func.func @model(%x: tensor<?x16xf32>) -> tensor<?x8xf32> {
  // CHECK: llama.apply @layer(%{{.*}}) parameters [@weight] :
  %y = llama.apply @layer(%x) parameters [@weight] : (tensor<?x16xf32>) -> tensor<?x8xf32>
  // CHECK: llama.apply @layer.backward_weight(%{{.*}}, %{{.*}}) gradients [@weight] :
  llama.apply @layer.backward_weight(%y, %x) gradients [@weight] : (tensor<?x8xf32>, tensor<?x16xf32>) -> ()
  return %y : tensor<?x8xf32>
}
