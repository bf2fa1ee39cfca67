// RUN: llama-opt %s --split-input-file --verify-diagnostics

// Each case breaks the numbered constraint it is named after.

// parameter_c1
// expected-error@+1 {{expects a static tensor of f32, bf16 or f64, but got 'tensor<?xf32>'}}
llama.parameter @w : tensor<?xf32> {initializer = #llama.initializer<ones>}

// -----

// parameter_c2
// expected-error@+1 {{expects checkpoint_shape to have 8 elements, but got 12}}
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>, checkpoint_shape = array<i64: 3, 4>}

// -----

// parameter_c3
// expected-error@+1 {{expects row_begin to come with key}}
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>, row_begin = 4 : i64}

// -----

// parameter_c2: a part of a tensor that has another shape in the checkpoint
// expected-error@+1 {{expects checkpoint_shape to have 64 elements, but got 32}}
llama.parameter @w : tensor<4x8xf32> {initializer = #llama.initializer<ones>, checkpoint_shape = array<i64: 4, 2, 4>, global_shape = array<i64: 8, 8>, split = [["tp"], []]}

// -----

// parameter_c4
// expected-error@+1 {{expects split and global_shape to come together}}
llama.parameter @w : tensor<4x8xf32> {initializer = #llama.initializer<ones>, split = [["tp"], []]}

// -----

// parameter_c4
// expected-error@+1 {{expects split and global_shape to have 2 entries, but got 1 and 2}}
llama.parameter @w : tensor<4x8xf32> {initializer = #llama.initializer<ones>, global_shape = array<i64: 8, 8>, split = [["tp"]]}

// -----

// apply_c1
func.func private @block(tensor<8xf32>) -> tensor<8xf32>
func.func @model(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects 'block' to name a function with the attribute llama.block}}
  %y = llama.apply @block(%x) : (tensor<8xf32>) -> tensor<8xf32>
  return
}

// -----

// apply_c2
// expected-note@+1 {{the block is here}}
func.func private @block(tensor<8xf32>) -> tensor<4xf32> attributes {llama.block}
func.func @model(%x: tensor<4xf32>) {
  // expected-error@+1 {{expects 'block' to have type '(tensor<4xf32>) -> tensor<4xf32>', but got '(tensor<8xf32>) -> tensor<4xf32>'}}
  %y = llama.apply @block(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

// apply_c2
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
func.func private @block(tensor<8xf32>) attributes {llama.block}
func.func @step(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects a block with at least 2 arguments, but 'block' has 1}}
  llama.apply @block(%x) gradients [@w] : (tensor<8xf32>) -> ()
  return
}

// -----

// apply_c2
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
func.func private @block(tensor<8xf32>, tensor<4xf32>) -> (tensor<4xf32> {llama.in_place = 1 : i64}) attributes {llama.block}
func.func @step(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects argument 1 of 'block' to be a gradient of 'w' ('tensor<8xf32>'), but got 'tensor<4xf32>'}}
  llama.apply @block(%x) gradients [@w] : (tensor<8xf32>) -> ()
  return
}

// -----

// apply_c3
// expected-note@+1 {{the block is here}}
func.func private @block(tensor<8xf32>) -> tensor<8xf32> attributes {llama.block}
func.func @model(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects 'block' to have type '(tensor<8xf32>) -> tensor<4xf32>', but got '(tensor<8xf32>) -> tensor<8xf32>'}}
  %y = llama.apply @block(%x) : (tensor<8xf32>) -> tensor<4xf32>
  return
}

// -----

// apply_c3: the new gradient is a result, too.
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
// expected-note@+1 {{the block is here}}
func.func private @block(tensor<8xf32>, tensor<8xf32>) attributes {llama.block}
func.func @step(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects 'block' to have type '(tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>', but got '(tensor<8xf32>, tensor<8xf32>) -> ()'}}
  llama.apply @block(%x) gradients [@w] : (tensor<8xf32>) -> ()
  return
}

// -----

// apply_c4
func.func private @block(tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32> attributes {llama.block}
func.func @model(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects 'w' to name a llama.parameter}}
  %y = llama.apply @block(%x) parameters [@w] : (tensor<8xf32>) -> tensor<8xf32>
  return
}

// -----

// apply_c4
llama.parameter @w : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
func.func private @block(tensor<8xf32>, tensor<8xf32>) -> (tensor<8xf32> {llama.in_place = 1 : i64}) attributes {llama.block}
func.func @step(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects a trainable parameter, but 'w' is frozen}}
  llama.apply @block(%x) gradients [@w] : (tensor<8xf32>) -> ()
  return
}

// -----

func.func @embed_c1(%0: tensor<2xi64>, %1: tensor<8xf32>) {
  // expected-error@+1 {{expects table of rank 2, but got rank 1}}
  %r = llama.embed %0, %1 {} : (tensor<2xi64>, tensor<8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @embed_c2(%0: tensor<2xi64>, %1: tensor<8x4xf32>) {
  // expected-error@+1 {{expects offset of at least 0, but got -8}}
  %r = llama.embed %0, %1 {offset = -8 : i64} : (tensor<2xi64>, tensor<8x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @embed_c3(%0: tensor<2xi64>, %1: tensor<8x4xf32>) {
  // expected-error@+1 {{expects padding_index of at least 0, but got -1}}
  %r = llama.embed %0, %1 {padding_index = -1 : i64} : (tensor<2xi64>, tensor<8x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @embed_grad_c1(%0: tensor<2x4xf32>, %1: tensor<3xi64>) {
  // expected-error@+1 {{expects the shape of ids to be that of cotangent without the last dimension [2], but got [3]}}
  %r = llama.embed_grad %0, %1 {rows = 8 : i64, offset = 0 : i64, accumulation = f32} : (tensor<2x4xf32>, tensor<3xi64>) -> tensor<8x4xf32>
  return
}

// -----

func.func @embed_grad_c2(%0: tensor<2x4xf32>, %1: tensor<2xi64>) {
  // expected-error@+1 {{expects offset of at least 0, but got -1}}
  %r = llama.embed_grad %0, %1 {rows = 8 : i64, offset = -1 : i64, accumulation = f32} : (tensor<2x4xf32>, tensor<2xi64>) -> tensor<8x4xf32>
  return
}

// -----

func.func @shift_index_c1(%0: tensor<2xi64>, %1: tensor<2xi64>) {
  // expected-error@+1 {{expects the shape of coordinate to be that of one element [1], but got [2]}}
  %r = llama.shift_index %0, %1 {size = 4 : i64} : (tensor<2xi64>, tensor<2xi64>) -> tensor<2xi64>
  return
}

// -----

func.func @shift_index_c2(%0: tensor<2xi64>, %1: tensor<1xi64>) {
  // expected-error@+1 {{expects padding_index of at least 0, but got -1}}
  %r = llama.shift_index %0, %1 {size = 4 : i64, padding_index = -1 : i64} : (tensor<2xi64>, tensor<1xi64>) -> tensor<2xi64>
  return
}

// -----

func.func @rms_norm_c1(%0: tensor<2x8xf32>, %1: tensor<8x1xf32>) {
  // expected-error@+1 {{expects weight of rank 1, but got rank 2}}
  %r = llama.rms_norm %0, %1 {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x8xf32>, tensor<8x1xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @rms_norm_c2(%0: tensor<2x8xf32>, %1: tensor<4xf32>) {
  // expected-error@+1 {{expects weight size to equal the last input dimension 8, but got 4}}
  %r = llama.rms_norm %0, %1 {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x8xf32>, tensor<4xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @rms_norm_c3(%0: tensor<2x8xf32>, %1: tensor<8xf32>) {
  // expected-error@+1 {{expects epsilon of at least 0, but got -1}}
  %r = llama.rms_norm %0, %1 {epsilon = -1.0 : f64, statistics = f32} : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @rms_norm_dx_c1(%0: tensor<3x8xf32>, %1: tensor<2x8xf32>, %2: tensor<8xf32>) {
  // expected-error@+1 {{expects the shape of cotangent to be that of input [2, 8], but got [3, 8]}}
  %r = llama.rms_norm_dx %0, %1, %2 {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<3x8xf32>, tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @rms_norm_dx_c2(%0: tensor<2x8xf32>, %1: tensor<2x8xf32>, %2: tensor<4xf32>) {
  // expected-error@+1 {{expects weight size to equal the last input dimension 8, but got 4}}
  %r = llama.rms_norm_dx %0, %1, %2 {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x8xf32>, tensor<2x8xf32>, tensor<4xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @rms_norm_dw_c1(%0: tensor<3x8xf32>, %1: tensor<2x8xf32>) {
  // expected-error@+1 {{expects the shape of cotangent to be that of input [2, 8], but got [3, 8]}}
  %r = llama.rms_norm_dw %0, %1 {epsilon = 1.0e-5 : f64, statistics = f32, accumulation = f32} : (tensor<3x8xf32>, tensor<2x8xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @layer_norm_c1(%0: tensor<2x8xf32>, %1: tensor<8xf32>, %2: tensor<1x8xf32>) {
  // expected-error@+1 {{expects bias of rank 1, but got rank 2}}
  %r = llama.layer_norm %0, %1, %2 {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x8xf32>, tensor<8xf32>, tensor<1x8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @layer_norm_c2(%0: tensor<2x8xf32>, %1: tensor<8xf32>, %2: tensor<4xf32>) {
  // expected-error@+1 {{expects bias size to equal the last input dimension 8, but got 4}}
  %r = llama.layer_norm %0, %1, %2 {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x8xf32>, tensor<8xf32>, tensor<4xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @layer_norm_c3(%0: tensor<2x8xf32>, %1: tensor<8xf32>, %2: tensor<8xf32>) {
  // expected-error@+1 {{expects epsilon of at least 0, but got -1}}
  %r = llama.layer_norm %0, %1, %2 {epsilon = -1.0 : f64, statistics = f32} : (tensor<2x8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @layer_norm_dx_c1(%0: tensor<3x8xf32>, %1: tensor<2x8xf32>, %2: tensor<8xf32>) {
  // expected-error@+1 {{expects the shape of cotangent to be that of input [2, 8], but got [3, 8]}}
  %r = llama.layer_norm_dx %0, %1, %2 {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<3x8xf32>, tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @layer_norm_dx_c2(%0: tensor<2x8xf32>, %1: tensor<2x8xf32>, %2: tensor<4xf32>) {
  // expected-error@+1 {{expects weight size to equal the last input dimension 8, but got 4}}
  %r = llama.layer_norm_dx %0, %1, %2 {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x8xf32>, tensor<2x8xf32>, tensor<4xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @layer_norm_dw_c1(%0: tensor<3x8xf32>, %1: tensor<2x8xf32>) {
  // expected-error@+1 {{expects the shape of cotangent to be that of input [2, 8], but got [3, 8]}}
  %r = llama.layer_norm_dw %0, %1 {epsilon = 1.0e-5 : f64, statistics = f32, accumulation = f32} : (tensor<3x8xf32>, tensor<2x8xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @sum_rows_c1(%0: tensor<f32>) {
  // expected-error@+1 {{expects input of rank 1 or more, but got rank 0}}
  %r = llama.sum_rows %0 {accumulation = f32} : (tensor<f32>) -> tensor<1xf32>
  return
}

// -----

func.func @linear_c1(%0: tensor<2x8xf32>, %1: tensor<8xf32>) {
  // expected-error@+1 {{expects weight of rank 2, but got rank 1}}
  %r = llama.linear %0, %1 {accumulation = f32} : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @linear_c2(%0: tensor<2x8xf32>, %1: tensor<4x6xf32>) {
  // expected-error@+1 {{expects the last weight dimension to equal the last input dimension 8, but got 6}}
  %r = llama.linear %0, %1 {accumulation = f32} : (tensor<2x8xf32>, tensor<4x6xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @linear_c3(%0: tensor<2x8xf32>, %1: tensor<4x8xf32>, %2: tensor<8xf32>) {
  // expected-error@+1 {{expects the shape of bias to be one number per row of weight [4], but got [8]}}
  %r = llama.linear %0, %1, %2 {accumulation = f32} : (tensor<2x8xf32>, tensor<4x8xf32>, tensor<8xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @linear_c4(%0: tensor<2x8xf32>, %1: tensor<4x8xbf16>) {
  // expected-error@+1 {{expects weight to have the element type of input 'f32', but got 'bf16'}}
  %r = llama.linear %0, %1 {accumulation = f32} : (tensor<2x8xf32>, tensor<4x8xbf16>) -> tensor<2x4xf32>
  return
}

// -----

func.func @linear_dx_c1(%0: tensor<2x8xf32>, %1: tensor<8xf32>) {
  // expected-error@+1 {{expects weight of rank 2, but got rank 1}}
  %r = llama.linear_dx %0, %1 {accumulation = f32} : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @linear_dx_c2(%0: tensor<2x8xf32>, %1: tensor<4x6xf32>) {
  // expected-error@+1 {{expects the first weight dimension to equal the last cotangent dimension 8, but got 4}}
  %r = llama.linear_dx %0, %1 {accumulation = f32} : (tensor<2x8xf32>, tensor<4x6xf32>) -> tensor<2x6xf32>
  return
}

// -----

func.func @linear_dx_c3(%0: tensor<2x4xf32>, %1: tensor<4x8xbf16>) {
  // expected-error@+1 {{expects weight to have the element type of cotangent 'f32', but got 'bf16'}}
  %r = llama.linear_dx %0, %1 {accumulation = f32} : (tensor<2x4xf32>, tensor<4x8xbf16>) -> tensor<2x8xf32>
  return
}

// -----

func.func @linear_dw_c1(%0: tensor<3x4xf32>, %1: tensor<2x8xf32>) {
  // expected-error@+1 {{expects cotangent to have the rows of input [2], but got [3]}}
  %r = llama.linear_dw %0, %1 {accumulation = f32} : (tensor<3x4xf32>, tensor<2x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @linear_dw_c2(%0: tensor<2x4xf32>, %1: tensor<2x8xbf16>) {
  // expected-error@+1 {{expects cotangent to have the element type of input 'bf16', but got 'f32'}}
  %r = llama.linear_dw %0, %1 {accumulation = f32} : (tensor<2x4xf32>, tensor<2x8xbf16>) -> tensor<4x8xf32>
  return
}

// -----

func.func @rope_table_c1(%0: tensor<2xi64>) {
  // expected-error@+1 {{expects positions of rank 2, but got rank 1}}
  %r = llama.rope_table %0 {frequencies = array<f64: 1.0>, statistics = f32} : (tensor<2xi64>) -> tensor<2x2x1xf32>
  return
}

// -----

func.func @rope_table_c2(%0: tensor<2x3xi64>) {
  // expected-error@+1 {{expects at least one frequency, but got none}}
  %r = llama.rope_table %0 {frequencies = array<f64>, statistics = f32} : (tensor<2x3xi64>) -> tensor<2x3x2x0xf32>
  return
}

// -----

func.func @rope_c1(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x3x2xf32>) {
  // expected-error@+1 {{expects table dimension 2 to equal cosine and sine, 2, but got 3}}
  %r = llama.rope %0, %1 {} : (tensor<2x16x8x4xf32>, tensor<2x16x3x2xf32>) -> tensor<2x16x8x4xf32>
  return
}

// -----

func.func @rope_c2(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x2x4xf32>) {
  // expected-error@+1 {{expects twice table dimension 3 to equal input dimension 3 4, but got 8}}
  %r = llama.rope %0, %1 {} : (tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>) -> tensor<2x16x8x4xf32>
  return
}

// -----

func.func @split_heads_c1(%0: tensor<2x8xf32>) {
  // expected-error@+1 {{expects head_size to divide the last input dimension 8, but got 3}}
  %r = llama.split_heads %0 {head_size = 3 : i64} : (tensor<2x8xf32>) -> tensor<2x2x3xf32>
  return
}

// -----

func.func @merge_heads_c1(%0: tensor<8xf32>) {
  // expected-error@+1 {{expects input of rank 2 or more, but got rank 1}}
  %r = llama.merge_heads %0 {} : (tensor<8xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @attention_c1(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x2x4xf32>, %2: tensor<2x16x2x8xf32>, %3: tensor<2x16xi64>, %4: tensor<2x16xi64>) {
  // expected-error@+1 {{expects value to have the type of key 'tensor<2x16x2x4xf32>', but got 'tensor<2x16x2x8xf32>'}}
  %r:2 = llama.attention %0, %1, %2, %3, %4, %3, %4 {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x8xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x8xf32>)
  return
}

// -----

func.func @attention_c2(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x3x4xf32>, %2: tensor<2x16x3x4xf32>, %3: tensor<2x16xi64>, %4: tensor<2x16xi64>) {
  // expected-error@+1 {{expects key heads to divide query heads 8, but got 3}}
  %r:2 = llama.attention %0, %1, %2, %3, %4, %3, %4 {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x4xf32>, tensor<2x16x3x4xf32>, tensor<2x16x3x4xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x8xf32>)
  return
}

// -----

func.func @attention_c3(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x2x4xf32>, %2: tensor<2x16x2x4xf32>, %3: tensor<2x16xi64>) {
  // expected-error@+1 {{expects 4 masks for 'causal', but got 1}}
  %r:2 = llama.attention %0, %1, %2, %3 {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x8xf32>)
  return
}

// -----

func.func @attention_c3_keys(%0: tensor<2x16x8x4xf32>, %1: tensor<2x24x2x4xf32>, %2: tensor<2x24x2x4xf32>, %3: tensor<2x16xi64>) {
  // expected-error@+1 {{expects the shape of key_positions to be that of the key rows [2, 24], but got [2, 16]}}
  %r:2 = llama.attention %0, %1, %2, %3, %3, %3, %3 {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x4xf32>, tensor<2x24x2x4xf32>, tensor<2x24x2x4xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x8xf32>)
  return
}

// -----

func.func @attention_c3_encoder(%0: tensor<2x8x8x4xf32>, %1: tensor<2x16x2x4xf32>, %2: tensor<2x16x2x4xf32>, %3: tensor<2x1xi64>, %4: tensor<2x8xi64>) {
  // expected-error@+1 {{expects the shape of positions to be one row of the queries [1, 8], but got [2, 8]}}
  %r:2 = llama.attention %0, %1, %2, %3, %4 {mask = #llama.mask<encoder>, scale = 0.25 : f64, tile_count = 4 : i64, tile_stride = 4 : i64, tile_tokens = 3 : i64, statistics = f32} : (tensor<2x8x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x1xi64>, tensor<2x8xi64>) -> (tensor<2x8x8x4xf32>, tensor<2x8x8xf32>)
  return
}

// -----

func.func @attention_c4(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x2x4xf32>, %2: tensor<2x16x2x4xf32>, %3: tensor<2x1xi64>, %4: tensor<1x16xi64>) {
  // expected-error@+1 {{expects tile_count and tile_tokens above 0 and tile_stride not below tile_tokens, but got 4, 5 and 4}}
  %r:2 = llama.attention %0, %1, %2, %3, %4 {mask = #llama.mask<encoder>, scale = 0.25 : f64, tile_count = 4 : i64, tile_stride = 4 : i64, tile_tokens = 5 : i64, statistics = f32} : (tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x1xi64>, tensor<1x16xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x8xf32>)
  return
}

// -----

func.func @attention_c4_images(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x2x4xf32>, %2: tensor<2x16x2x4xf32>, %3: tensor<2x16xi64>, %4: tensor<2x16xi64>, %5: tensor<2x3xi64>) {
  // expected-error@+1 {{expects keys to equal images * tile_count * tile_tokens 24, but got 16}}
  %r:2 = llama.attention %0, %1, %2, %3, %4, %5 {mask = #llama.mask<images>, scale = 0.25 : f64, tile_count = 4 : i64, tile_stride = 0 : i64, tile_tokens = 2 : i64, statistics = f32} : (tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x3xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x8xf32>)
  return
}

// -----

func.func @attention_grad_c1(%0: tensor<2x16x8x2xf32>, %1: tensor<2x16x8x4xf32>, %2: tensor<2x16x2x4xf32>, %3: tensor<2x16x2x4xf32>, %4: tensor<2x16x8x4xf32>, %5: tensor<2x16x8xf32>, %6: tensor<2x16xi64>, %7: tensor<2x16xi64>) {
  // expected-error@+1 {{expects the shape of cotangent to be that of query [2, 16, 8, 4], but got [2, 16, 8, 2]}}
  %r:3 = llama.attention_grad %0, %1, %2, %3, %4, %5, %6, %7, %6, %7 {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x2xf32>, tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x8x4xf32>, tensor<2x16x8xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>)
  return
}

// -----

func.func @attention_grad_c2(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x8x4xf32>, %2: tensor<2x16x2x4xf32>, %3: tensor<2x16x2x4xf32>, %4: tensor<2x16x8x4xf32>, %5: tensor<2x16xf32>, %6: tensor<2x16xi64>, %7: tensor<2x16xi64>) {
  // expected-error@+1 {{expects the shape of lse to be that of query without the last dimension [2, 16, 8], but got [2, 16]}}
  %r:3 = llama.attention_grad %0, %1, %2, %3, %4, %5, %6, %7, %6, %7 {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x4xf32>, tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x8x4xf32>, tensor<2x16xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>)
  return
}

// -----

func.func @attention_grad_c3(%0: tensor<2x16x8x4xf32>, %1: tensor<2x16x8x4xf32>, %2: tensor<2x16x2x4xf32>, %3: tensor<2x16x2x4xf32>, %4: tensor<2x16x8x4xf32>, %5: tensor<2x16x8xf32>, %6: tensor<2x16xi64>) {
  // expected-error@+1 {{expects 4 masks for 'causal', but got 1}}
  %r:3 = llama.attention_grad %0, %1, %2, %3, %4, %5, %6 {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32} : (tensor<2x16x8x4xf32>, tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x8x4xf32>, tensor<2x16x8xf32>, tensor<2x16xi64>) -> (tensor<2x16x8x4xf32>, tensor<2x16x2x4xf32>, tensor<2x16x2x4xf32>)
  return
}

// -----

func.func @swiglu_c1(%0: tensor<2x8xf32>, %1: tensor<2x4xf32>) {
  // expected-error@+1 {{expects up to have the type of gate 'tensor<2x8xf32>', but got 'tensor<2x4xf32>'}}
  %r = llama.swiglu %0, %1 {statistics = f32} : (tensor<2x8xf32>, tensor<2x4xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @swiglu_grad_c1(%0: tensor<2x8xf32>, %1: tensor<2x8xf32>, %2: tensor<2x4xf32>) {
  // expected-error@+1 {{expects up to have the type of cotangent 'tensor<2x8xf32>', but got 'tensor<2x4xf32>'}}
  %r:2 = llama.swiglu_grad %0, %1, %2 {statistics = f32} : (tensor<2x8xf32>, tensor<2x8xf32>, tensor<2x4xf32>) -> (tensor<2x8xf32>, tensor<2x4xf32>)
  return
}

// -----

func.func @gelu_c1(%0: tensor<2x8xf32>) {
  // expected-error@+2 {{inferred type(s) 'tensor<2x8xf32>' are incompatible with return type(s) of operation 'tensor<2x4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %r = llama.gelu %0 {statistics = f32} : (tensor<2x8xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @gelu_grad_c1(%0: tensor<2x4xf32>, %1: tensor<2x8xf32>) {
  // expected-error@+1 {{expects cotangent to have the type of input 'tensor<2x8xf32>', but got 'tensor<2x4xf32>'}}
  %r = llama.gelu_grad %0, %1 {statistics = f32} : (tensor<2x4xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @add_c1(%0: tensor<2x8xf32>, %1: tensor<2x4xf32>) {
  // expected-error@+1 {{expects the shape of rhs to be that of lhs [2, 8], but got [2, 4]}}
  %r = llama.add %0, %1 {} : (tensor<2x8xf32>, tensor<2x4xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @cast_c1(%0: tensor<2x8xf32>) {
  // expected-error@+1 {{result #0 must be ranked tensor of 32-bit float or bfloat16 type or 64-bit float values, but got 'tensor<2x8xf16>'}}
  %r = llama.cast %0 {element_type = f16} : (tensor<2x8xf32>) -> tensor<2x8xf16>
  return
}

// -----

func.func @gated_residual_c1(%0: tensor<1x2x8xf32>, %1: tensor<1x2x4xf32>, %2: tensor<1xf32>) {
  // expected-error@+1 {{expects branch to have the type of input 'tensor<1x2x8xf32>', but got 'tensor<1x2x4xf32>'}}
  %r = llama.gated_residual %0, %1, %2 {rows = #llama.rows<none>, statistics = f32} : (tensor<1x2x8xf32>, tensor<1x2x4xf32>, tensor<1xf32>) -> tensor<1x2x8xf32>
  return
}

// -----

func.func @gated_residual_c2(%0: tensor<1x2x8xf32>, %1: tensor<1x2x8xf32>, %2: tensor<2xf32>) {
  // expected-error@+1 {{expects the shape of gate to be that of one element [1], but got [2]}}
  %r = llama.gated_residual %0, %1, %2 {rows = #llama.rows<none>, statistics = f32} : (tensor<1x2x8xf32>, tensor<1x2x8xf32>, tensor<2xf32>) -> tensor<1x2x8xf32>
  return
}

// -----

func.func @gated_residual_c3(%0: tensor<1x2x8xf32>, %1: tensor<1x2x8xf32>, %2: tensor<1xf32>) {
  // expected-error@+1 {{expects 2 masks for 'image', but got 0}}
  %r = llama.gated_residual %0, %1, %2 {rows = #llama.rows<image>, statistics = f32} : (tensor<1x2x8xf32>, tensor<1x2x8xf32>, tensor<1xf32>) -> tensor<1x2x8xf32>
  return
}

// -----

func.func @gated_residual_grad_c1(%0: tensor<1x2x8xf32>, %1: tensor<2xf32>) {
  // expected-error@+1 {{expects the shape of gate to be that of one element [1], but got [2]}}
  %r = llama.gated_residual_grad %0, %1 {rows = #llama.rows<none>, statistics = f32} : (tensor<1x2x8xf32>, tensor<2xf32>) -> tensor<1x2x8xf32>
  return
}

// -----

func.func @gated_residual_grad_c2(%0: tensor<1x2x8xf32>, %1: tensor<1xf32>, %2: tensor<1x2xi64>, %3: tensor<1x3xi64>) {
  // expected-error@+1 {{expects the shape of end to be that of cotangent without the last dimension [1, 2], but got [1, 3]}}
  %r = llama.gated_residual_grad %0, %1, %2, %3 {rows = #llama.rows<present>, statistics = f32} : (tensor<1x2x8xf32>, tensor<1xf32>, tensor<1x2xi64>, tensor<1x3xi64>) -> tensor<1x2x8xf32>
  return
}

// -----

func.func @gate_grad_c1(%0: tensor<1x2x8xf32>, %1: tensor<1x2x4xf32>, %2: tensor<1xf32>) {
  // expected-error@+1 {{expects branch to have the type of cotangent 'tensor<1x2x8xf32>', but got 'tensor<1x2x4xf32>'}}
  %r = llama.gate_grad %0, %1, %2 {rows = #llama.rows<none>, accumulation = f32} : (tensor<1x2x8xf32>, tensor<1x2x4xf32>, tensor<1xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @gate_grad_c2(%0: tensor<1x2x8xf32>, %1: tensor<1x2x8xf32>, %2: tensor<2xf32>) {
  // expected-error@+1 {{expects the shape of gate to be that of one element [1], but got [2]}}
  %r = llama.gate_grad %0, %1, %2 {rows = #llama.rows<none>, accumulation = f32} : (tensor<1x2x8xf32>, tensor<1x2x8xf32>, tensor<2xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @gate_grad_c3(%0: tensor<1x2x8xf32>, %1: tensor<1x2x8xf32>, %2: tensor<1xf32>, %3: tensor<1x2xi64>, %4: tensor<1x2xi64>) {
  // expected-error@+1 {{expects 0 masks for 'none', but got 2}}
  %r = llama.gate_grad %0, %1, %2, %3, %4 {rows = #llama.rows<none>, accumulation = f32} : (tensor<1x2x8xf32>, tensor<1x2x8xf32>, tensor<1xf32>, tensor<1x2xi64>, tensor<1x2xi64>) -> tensor<1xf32>
  return
}

// -----

func.func @patchify_c1(%0: tensor<1x1x4x3x4x6xf32>) {
  // expected-error@+1 {{expects pixel columns to equal pixel rows 4, but got 6}}
  %r = llama.patchify %0 {patch_size = 2 : i64, element_type = f32} : (tensor<1x1x4x3x4x6xf32>) -> tensor<1x16x12xf32>
  return
}

// -----

func.func @patchify_c2(%0: tensor<1x1x4x3x4x4xf32>) {
  // expected-error@+1 {{expects patch_size to divide the tile side 4, but got 3}}
  %r = llama.patchify %0 {patch_size = 3 : i64, element_type = f32} : (tensor<1x1x4x3x4x4xf32>) -> tensor<1x4x27xf32>
  return
}

// -----

func.func @tile_embed_add_c1(%0: tensor<2x8x4xf32>, %1: tensor<9x4x4xf32>, %2: tensor<1xf32>, %3: tensor<2xi64>) {
  // expected-error@+1 {{expects ids of rank 2, but got rank 1}}
  %r = llama.tile_embed_add %0, %1, %2, %3 {statistics = f32} : (tensor<2x8x4xf32>, tensor<9x4x4xf32>, tensor<1xf32>, tensor<2xi64>) -> tensor<2x8x4xf32>
  return
}

// -----

func.func @tile_embed_add_c2(%0: tensor<2x8x4xf32>, %1: tensor<9x4x2xf32>, %2: tensor<1xf32>, %3: tensor<2x1xi64>) {
  // expected-error@+1 {{expects table width to equal input width 4, but got 2}}
  %r = llama.tile_embed_add %0, %1, %2, %3 {statistics = f32} : (tensor<2x8x4xf32>, tensor<9x4x2xf32>, tensor<1xf32>, tensor<2x1xi64>) -> tensor<2x8x4xf32>
  return
}

// -----

func.func @tile_embed_add_c3(%0: tensor<2x8x4xf32>, %1: tensor<9x3x4xf32>, %2: tensor<1xf32>, %3: tensor<2x1xi64>) {
  // expected-error@+1 {{expects table dimension 1 to divide input dimension 1 8, but got 3}}
  %r = llama.tile_embed_add %0, %1, %2, %3 {statistics = f32} : (tensor<2x8x4xf32>, tensor<9x3x4xf32>, tensor<1xf32>, tensor<2x1xi64>) -> tensor<2x8x4xf32>
  return
}

// -----

func.func @tile_embed_add_c4(%0: tensor<2x8x4xf32>, %1: tensor<9x4x4xf32>, %2: tensor<2xf32>, %3: tensor<2x1xi64>) {
  // expected-error@+1 {{expects the shape of gate to be that of one element [1], but got [2]}}
  %r = llama.tile_embed_add %0, %1, %2, %3 {statistics = f32} : (tensor<2x8x4xf32>, tensor<9x4x4xf32>, tensor<2xf32>, tensor<2x1xi64>) -> tensor<2x8x4xf32>
  return
}

// -----

func.func @tile_embed_grad_c1(%0: tensor<2x8x4xf32>, %1: tensor<9x4x4xf32>, %2: tensor<1xf32>, %3: tensor<3x1xi64>) {
  // expected-error@+1 {{expects images of ids to equal cotangent dimension 0 2, but got 3}}
  %r:2 = llama.tile_embed_grad %0, %1, %2, %3 {accumulation = f32} : (tensor<2x8x4xf32>, tensor<9x4x4xf32>, tensor<1xf32>, tensor<3x1xi64>) -> (tensor<9x4x4xf32>, tensor<1xf32>)
  return
}

// -----

func.func @prepend_class_c1(%0: tensor<2x8x4xf32>, %1: tensor<3xf32>) {
  // expected-error@+1 {{expects token size to equal the last input dimension 4, but got 3}}
  %r = llama.prepend_class %0, %1 {tiles = 4 : i64} : (tensor<2x8x4xf32>, tensor<3xf32>) -> tensor<2x12x4xf32>
  return
}

// -----

func.func @prepend_class_c2(%0: tensor<2x8x4xf32>, %1: tensor<4xf32>) {
  // expected-error@+1 {{expects tiles to divide input dimension 1 8, but got 3}}
  %r = llama.prepend_class %0, %1 {tiles = 3 : i64} : (tensor<2x8x4xf32>, tensor<4xf32>) -> tensor<2x9x4xf32>
  return
}

// -----

func.func @drop_class_c1(%0: tensor<8x4xf32>) {
  // expected-error@+1 {{expects input of rank 3, but got rank 2}}
  %r = llama.drop_class %0 {tiles = 4 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  return
}

// -----

func.func @drop_class_c2(%0: tensor<2x8x4xf32>) {
  // expected-error@+1 {{expects tiles to divide input dimension 1 8, but got 3}}
  %r = llama.drop_class %0 {tiles = 3 : i64} : (tensor<2x8x4xf32>) -> tensor<2x3x4xf32>
  return
}

// -----

func.func @take_class_c1(%0: tensor<8x4xf32>) {
  // expected-error@+1 {{expects input of rank 3, but got rank 2}}
  %r = llama.take_class %0 {tiles = 4 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  return
}

// -----

func.func @take_class_c2(%0: tensor<2x8x4xf32>) {
  // expected-error@+1 {{expects tiles to divide input dimension 1 8, but got 3}}
  %r = llama.take_class %0 {tiles = 3 : i64} : (tensor<2x8x4xf32>) -> tensor<2x3x4xf32>
  return
}

// -----

func.func @position_embed_add_c1(%0: tensor<2x8x4xf32>, %1: tensor<2x3xf32>, %2: tensor<1xf32>) {
  // expected-error@+1 {{expects table width to equal input width 4, but got 3}}
  %r = llama.position_embed_add %0, %1, %2 {statistics = f32} : (tensor<2x8x4xf32>, tensor<2x3xf32>, tensor<1xf32>) -> tensor<2x8x4xf32>
  return
}

// -----

func.func @position_embed_add_c2(%0: tensor<2x8x4xf32>, %1: tensor<3x4xf32>, %2: tensor<1xf32>) {
  // expected-error@+1 {{expects table dimension 0 to divide input dimension 1 8, but got 3}}
  %r = llama.position_embed_add %0, %1, %2 {statistics = f32} : (tensor<2x8x4xf32>, tensor<3x4xf32>, tensor<1xf32>) -> tensor<2x8x4xf32>
  return
}

// -----

func.func @position_embed_add_c3(%0: tensor<2x8x4xf32>, %1: tensor<2x4xf32>, %2: tensor<2xf32>) {
  // expected-error@+1 {{expects the shape of gate to be that of one element [1], but got [2]}}
  %r = llama.position_embed_add %0, %1, %2 {statistics = f32} : (tensor<2x8x4xf32>, tensor<2x4xf32>, tensor<2xf32>) -> tensor<2x8x4xf32>
  return
}

// -----

func.func @position_embed_grad_c1(%0: tensor<2x8x4xf32>, %1: tensor<3x4xf32>, %2: tensor<1xf32>) {
  // expected-error@+1 {{expects table dimension 0 to divide cotangent dimension 1 8, but got 3}}
  %r:2 = llama.position_embed_grad %0, %1, %2 {accumulation = f32} : (tensor<2x8x4xf32>, tensor<3x4xf32>, tensor<1xf32>) -> (tensor<3x4xf32>, tensor<1xf32>)
  return
}

// -----

func.func @pad_tokens_c1(%0: tensor<8x4xf32>) {
  // expected-error@+1 {{expects input of rank 3, but got rank 2}}
  %r = llama.pad_tokens %0 {tiles = 4 : i64, multiple = 8 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  return
}

// -----

func.func @pad_tokens_c2(%0: tensor<2x8x4xf32>) {
  // expected-error@+1 {{expects tiles to divide input dimension 1 8, but got 3}}
  %r = llama.pad_tokens %0 {tiles = 3 : i64, multiple = 8 : i64} : (tensor<2x8x4xf32>) -> tensor<2x24x4xf32>
  return
}

// -----

func.func @drop_tokens_c1(%0: tensor<8x4xf32>) {
  // expected-error@+1 {{expects input of rank 3, but got rank 2}}
  %r = llama.drop_tokens %0 {tiles = 4 : i64, tokens = 1 : i64} : (tensor<8x4xf32>) -> tensor<8x4xf32>
  return
}

// -----

func.func @drop_tokens_c2(%0: tensor<2x8x4xf32>) {
  // expected-error@+1 {{expects tiles to divide input dimension 1 8, but got 3}}
  %r = llama.drop_tokens %0 {tiles = 3 : i64, tokens = 1 : i64} : (tensor<2x8x4xf32>) -> tensor<2x3x4xf32>
  return
}

// -----

func.func @drop_tokens_c3(%0: tensor<2x8x4xf32>) {
  // expected-error@+1 {{expects at most the 2 tokens of a tile, but got 3}}
  %r = llama.drop_tokens %0 {tiles = 4 : i64, tokens = 3 : i64} : (tensor<2x8x4xf32>) -> tensor<2x12x4xf32>
  return
}

// -----

func.func @tap_concat_c1(%0: tensor<2x4xf32>, %1: tensor<2x3xf32>) {
  // expected-error@+1 {{expects tap to have the type of final 'tensor<2x4xf32>', but got 'tensor<2x3xf32>'}}
  %r = llama.tap_concat %0, %1 {} : (tensor<2x4xf32>, tensor<2x3xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @tap_split_c1(%0: tensor<2x8xf32>) {
  // expected-error@+1 {{expects taps + 1 to divide the last input dimension 8, but got 3}}
  %r:3 = llama.tap_split %0 {taps = 2 : i64} : (tensor<2x8xf32>) -> (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>)
  return
}

// -----

func.func @images_to_tokens_c1(%0: tensor<4x8xf32>, %1: tensor<2x2xi64>) {
  // expected-error@+1 {{expects input of rank 3, but got rank 2}}
  %r = llama.images_to_tokens %0, %1 {} : (tensor<4x8xf32>, tensor<2x2xi64>) -> tensor<2x16xf32>
  return
}

// -----

func.func @images_to_tokens_c2(%0: tensor<3x8x4xf32>, %1: tensor<2x2xi64>) {
  // expected-error@+1 {{expects input dimension 0 to equal the number of images 4, but got 3}}
  %r = llama.images_to_tokens %0, %1 {} : (tensor<3x8x4xf32>, tensor<2x2xi64>) -> tensor<2x16x4xf32>
  return
}

// -----

func.func @tokens_to_images_c1(%0: tensor<2x16x4xf32>, %1: tensor<4xi64>) {
  // expected-error@+1 {{expects like of rank 2, but got rank 1}}
  %r = llama.tokens_to_images %0, %1 {} : (tensor<2x16x4xf32>, tensor<4xi64>) -> tensor<4x8x4xf32>
  return
}

// -----

func.func @tokens_to_images_c2(%0: tensor<2x16x4xf32>, %1: tensor<2x3xi64>) {
  // expected-error@+1 {{expects like dimension 1 to divide input dimension 1 16, but got 3}}
  %r = llama.tokens_to_images %0, %1 {} : (tensor<2x16x4xf32>, tensor<2x3xi64>) -> tensor<6x5x4xf32>
  return
}

// -----

func.func @row_max_c1(%0: tensor<f32>) {
  // expected-error@+1 {{expects logits of rank 1 or more, but got rank 0}}
  %r = llama.row_max %0 {statistics = f32} : (tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func @row_sum_exp_c1(%0: tensor<2x8xf32>, %1: tensor<3xf32>) {
  // expected-error@+1 {{expects the shape of maximum to be that of logits without the last dimension [2], but got [3]}}
  %r = llama.row_sum_exp %0, %1 {statistics = f32} : (tensor<2x8xf32>, tensor<3xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @row_sum_exp_grad_c1(%0: tensor<3xf32>, %1: tensor<2x8xf32>, %2: tensor<2xf32>) {
  // expected-error@+1 {{expects the shape of cotangent to be that of logits without the last dimension [2], but got [3]}}
  %r = llama.row_sum_exp_grad %0, %1, %2 {statistics = f32} : (tensor<3xf32>, tensor<2x8xf32>, tensor<2xf32>) -> tensor<2x8xf32>
  return
}

// -----

func.func @target_logit_c1(%0: tensor<2x8xf32>, %1: tensor<3xi64>) {
  // expected-error@+1 {{expects the shape of labels to be that of logits without the last dimension [2], but got [3]}}
  %r = llama.target_logit %0, %1 {statistics = f32} : (tensor<2x8xf32>, tensor<3xi64>) -> tensor<2xf32>
  return
}

// -----

func.func @target_logit_grad_c1(%0: tensor<3xf32>, %1: tensor<2xi64>) {
  // expected-error@+1 {{expects the shape of cotangent to be that of labels [2], but got [3]}}
  %r = llama.target_logit_grad %0, %1 {size = 8 : i64, element_type = f32} : (tensor<3xf32>, tensor<2xi64>) -> tensor<2x8xf32>
  return
}

// -----

func.func @linear_lse_c1(%0: tensor<2x8xf32>, %1: tensor<6x7xf32>, %2: tensor<2xi64>) {
  // expected-error@+1 {{expects the last weight dimension to equal the last input dimension 8, but got 7}}
  %r:2 = llama.linear_lse %0, %1, %2 {parts = 1 : i64, chunk = 0 : i64, statistics = f32} : (tensor<2x8xf32>, tensor<6x7xf32>, tensor<2xi64>) -> (tensor<2x1xf32>, tensor<2xf32>)
  return
}

// -----

func.func @linear_lse_c2(%0: tensor<2x8xf32>, %1: tensor<6x8xf32>, %2: tensor<3xi64>) {
  // expected-error@+1 {{expects the shape of labels to be that of input without the last dimension [2], but got [3]}}
  %r:2 = llama.linear_lse %0, %1, %2 {parts = 1 : i64, chunk = 0 : i64, statistics = f32} : (tensor<2x8xf32>, tensor<6x8xf32>, tensor<3xi64>) -> (tensor<2x1xf32>, tensor<2xf32>)
  return
}

// -----

func.func @linear_lse_c3(%0: tensor<2x8xf32>, %1: tensor<6x8xf32>, %2: tensor<2xi64>, %3: tensor<5xf32>) {
  // expected-error@+1 {{expects the shape of bias to be one number per row of weight [6], but got [5]}}
  %r:2 = llama.linear_lse %0, %1, %2, %3 {parts = 1 : i64, chunk = 0 : i64, statistics = f32} : (tensor<2x8xf32>, tensor<6x8xf32>, tensor<2xi64>, tensor<5xf32>) -> (tensor<2x1xf32>, tensor<2xf32>)
  return
}

// -----

func.func @linear_lse_c4(%0: tensor<2x8xf32>, %1: tensor<6x8xf32>, %2: tensor<2xi64>) {
  // expected-error@+1 {{expects parts to divide weight dimension 0 6, but got 4}}
  %r:2 = llama.linear_lse %0, %1, %2 {parts = 4 : i64, chunk = 0 : i64, statistics = f32} : (tensor<2x8xf32>, tensor<6x8xf32>, tensor<2xi64>) -> (tensor<2x4xf32>, tensor<2xf32>)
  return
}

// -----

func.func @linear_lse_c5(%0: tensor<2x8xf32>, %1: tensor<6x8xf32>, %2: tensor<2xi64>) {
  // expected-error@+1 {{expects chunk of at least 0, but got -1}}
  %r:2 = llama.linear_lse %0, %1, %2 {parts = 1 : i64, chunk = -1 : i64, statistics = f32} : (tensor<2x8xf32>, tensor<6x8xf32>, tensor<2xi64>) -> (tensor<2x1xf32>, tensor<2xf32>)
  return
}

// -----

func.func @linear_lse_grad_c1(%0: tensor<2x3xf32>, %1: tensor<2xf32>, %2: tensor<2x8xf32>, %3: tensor<6x8xf32>, %4: tensor<2xi64>, %5: tensor<2x1xf32>) {
  // expected-error@+1 {{expects the shape of d_lse to be that of lse [2, 1], but got [2, 3]}}
  %r:2 = llama.linear_lse_grad %0, %1, %2, %3, %4, %5 {chunk = 0 : i64, statistics = f32, accumulation = f32, element_type = f32} : (tensor<2x3xf32>, tensor<2xf32>, tensor<2x8xf32>, tensor<6x8xf32>, tensor<2xi64>, tensor<2x1xf32>) -> (tensor<2x8xf32>, tensor<6x8xf32>)
  return
}

// -----

func.func @linear_lse_grad_c2(%0: tensor<2x1xf32>, %1: tensor<3xf32>, %2: tensor<2x8xf32>, %3: tensor<6x8xf32>, %4: tensor<2xi64>, %5: tensor<2x1xf32>) {
  // expected-error@+1 {{expects the shape of d_target to be that of input without the last dimension [2], but got [3]}}
  %r:2 = llama.linear_lse_grad %0, %1, %2, %3, %4, %5 {chunk = 0 : i64, statistics = f32, accumulation = f32, element_type = f32} : (tensor<2x1xf32>, tensor<3xf32>, tensor<2x8xf32>, tensor<6x8xf32>, tensor<2xi64>, tensor<2x1xf32>) -> (tensor<2x8xf32>, tensor<6x8xf32>)
  return
}

// -----

func.func @linear_lse_grad_c3(%0: tensor<2x1xf32>, %1: tensor<2xf32>, %2: tensor<2x8xf32>, %3: tensor<6x7xf32>, %4: tensor<2xi64>, %5: tensor<2x1xf32>) {
  // expected-error@+1 {{expects the last weight dimension to equal the last input dimension 8, but got 7}}
  %r:2 = llama.linear_lse_grad %0, %1, %2, %3, %4, %5 {chunk = 0 : i64, statistics = f32, accumulation = f32, element_type = f32} : (tensor<2x1xf32>, tensor<2xf32>, tensor<2x8xf32>, tensor<6x7xf32>, tensor<2xi64>, tensor<2x1xf32>) -> (tensor<2x8xf32>, tensor<6x7xf32>)
  return
}

// -----

func.func @take_tokens_c1(%0: tensor<2x4x8xf32>, %1: tensor<3x2xi64>) {
  // expected-error@+1 {{expects tokens dimension 0 to equal input dimension 0 2, but got 3}}
  %r = llama.take_tokens %0, %1 : (tensor<2x4x8xf32>, tensor<3x2xi64>) -> tensor<2x2x8xf32>
  return
}

// -----

func.func @cross_entropy_c1(%0: tensor<2xf32>, %1: tensor<2xf32>, %2: tensor<3xf32>, %3: tensor<2xi64>) {
  // expected-error@+1 {{expects target to have the type of sum 'tensor<2xf32>', but got 'tensor<3xf32>'}}
  %r = llama.cross_entropy %0, %1, %2, %3 {} : (tensor<2xf32>, tensor<2xf32>, tensor<3xf32>, tensor<2xi64>) -> tensor<1xf32>
  return
}

// -----

func.func @cross_entropy_grad_c1(%0: tensor<2xf32>, %1: tensor<2xf32>, %2: tensor<2xi64>) {
  // expected-error@+1 {{expects the shape of cotangent to be that of one element [1], but got [2]}}
  %r:2 = llama.cross_entropy_grad %0, %1, %2 {} : (tensor<2xf32>, tensor<2xf32>, tensor<2xi64>) -> (tensor<2xf32>, tensor<2xf32>)
  return
}

// -----

func.func @cross_entropy_grad_c2(%0: tensor<1xf32>, %1: tensor<2xf32>, %2: tensor<3xi64>) {
  // expected-error@+1 {{expects the shape of sum to be that of labels [3], but got [2]}}
  %r:2 = llama.cross_entropy_grad %0, %1, %2 {} : (tensor<1xf32>, tensor<2xf32>, tensor<3xi64>) -> (tensor<2xf32>, tensor<2xf32>)
  return
}

// -----

func.func @sum_of_squares_c1(%0: tensor<2x1024xf32>) {
  // expected-error@+1 {{expects input of rank 1, but got rank 2}}
  %r = llama.sum_of_squares %0 {} : (tensor<2x1024xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @sum_of_squares_c2(%0: tensor<1000xf32>) {
  // expected-error@+1 {{expects a multiple of 1024 elements, but got 1000}}
  %r = llama.sum_of_squares %0 {} : (tensor<1000xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @add_once_c1(%0: tensor<1xf64>, %1: tensor<2xf32>) {
  // expected-error@+1 {{expects the shape of value to be that of one number [1], but got [2]}}
  %r = llama.add_once %0, %1, %0 {} : (tensor<1xf64>, tensor<2xf32>, tensor<1xf64>) -> tensor<1xf64>
  return
}

// -----

func.func @clip_norm_c1(%0: tensor<2xf64>, %1: tensor<7xf64>) {
  // expected-error@+1 {{expects the shape of given to be that of eight numbers [8], but got [7]}}
  %r = llama.clip_norm %0, %1 {element_type = f32} : (tensor<2xf64>, tensor<7xf64>) -> tensor<7xf32>
  return
}

// -----

func.func @clip_norm_c2(%0: tensor<2xf64>, %1: tensor<8xf32>) {
  // expected-error@+1 {{expects given to have the element type of sums 'f64', but got 'f32'}}
  %r = llama.clip_norm %0, %1 {element_type = f32} : (tensor<2xf64>, tensor<8xf32>) -> tensor<8xf32>
  return
}

// -----

func.func @adamw_c1(%0: tensor<16xf32>, %1: tensor<16xf32>, %2: tensor<16xf32>, %3: tensor<8xf32>, %4: tensor<8xf32>) {
  // expected-error@+1 {{expects the shape of gradient to be that of master [16], but got [8]}}
  %r:3 = llama.adamw %0, %1, %2, %3, %4 {} : (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>)
  return
}

// -----

func.func @adamw_c2(%0: tensor<16xf32>, %1: tensor<16xf32>, %2: tensor<16xf32>, %3: tensor<16xf32>, %4: tensor<7xf32>) {
  // expected-error@+1 {{expects the shape of hyperparameters to be that of eight numbers [8], but got [7]}}
  %r:3 = llama.adamw %0, %1, %2, %3, %4 {} : (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<7xf32>) -> (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>)
  return
}

// -----

func.func @adamw_c3(%0: tensor<16xf32>, %1: tensor<16xf32>, %2: tensor<16xf32>, %3: tensor<16xf32>, %4: tensor<8xf64>) {
  // expected-error@+1 {{expects hyperparameters to have the element type of master 'f32', but got 'f64'}}
  %r:3 = llama.adamw %0, %1, %2, %3, %4 {} : (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<16xf32>, tensor<8xf64>) -> (tensor<16xf32>, tensor<16xf32>, tensor<16xf32>)
  return
}

// -----

func.func @statistics_type(%0: tensor<2x8xf32>, %1: tensor<8xf32>) {
  // expected-error@+1 {{expects statistics f32, bf16 or f64, but got 'i32'}}
  %r = llama.rms_norm %0, %1 {epsilon = 1.0e-5 : f64, statistics = i32} : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  return
}
