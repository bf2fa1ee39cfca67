// RUN: llama-opt %s --split-input-file --verify-diagnostics

// placement_c1
// expected-error@+1 {{expects a placement of 2 dimensions, but got 1}}
func.func private @placement_c1(tensor<4x4xf32, #dist.placement<[["tp"]]>>)

// -----

// placement_c1
// expected-error@+1 {{expects an array of names for each dimension, but got "tp"}}
func.func private @placement_c1(tensor<4xf32, #dist.placement<["tp"]>>)

// -----

// placement_c1
// expected-error@+1 {{expects names of axes, but got 3}}
func.func private @placement_c1(tensor<4xf32, #dist.placement<[[]], partial = [3]>>)

// -----

// placement_c2
// expected-error@+1 {{expects axis "tp" to be named once}}
func.func private @placement_c2(tensor<4xf32, #dist.placement<[["tp"]], partial = ["tp"]>>)

// -----

func.func @convert_c1(%x: tensor<4xf32>) {
  // expected-error@+1 {{expects input and result to differ in their placements only, but got 'tensor<4xf32>' and 'tensor<8xf32>'}}
  %y = dist.convert %x : tensor<4xf32> -> tensor<8xf32>
  return
}

// -----

func.func @convert_c2(%x: tensor<4xf32>) {
  // expected-error@+1 {{cannot make a partial sum over axis "tp" of what is whole}}
  %y = dist.convert %x : tensor<4xf32> -> tensor<4xf32, #dist.placement<[[]], partial = ["tp"]>>
  return
}

// -----

func.func @convert_c2(%x: tensor<4xf32, #dist.placement<[[]], partial = ["tp"], reduction = max>>) {
  // expected-error@+1 {{cannot make a partial sum over axis "tp" of what is a partial maximum}}
  %y = dist.convert %x : tensor<4xf32, #dist.placement<[[]], partial = ["tp"], reduction = max>> -> tensor<4xf32, #dist.placement<[[]], partial = ["tp"]>>
  return
}

// -----

func.func @convert_c3(%x: tensor<4x4xf32, #dist.placement<[["tp"], []]>>) {
  // expected-error@+1 {{cannot move axis "tp" from dimension 0 to dimension 1}}
  %y = dist.convert %x : tensor<4x4xf32, #dist.placement<[["tp"], []]>> -> tensor<4x4xf32, #dist.placement<[[], ["tp"]]>>
  return
}

// -----

// A partial sum may not reach an op that is not linear.
// expected-note@+1 {{operand 0 is a partial sum over "tp" here; reduce it first}}
func.func @gelu(%x: tensor<4xf32, #dist.placement<[[]], partial = ["tp"]>>) {
  // expected-error@+2 {{'llama.gelu' op has no rule for its placements on axis "tp"}}
  // expected-note@+1 {{result 0 is a partial sum over "tp"}}
  %y = llama.gelu %x {statistics = f32} : (tensor<4xf32, #dist.placement<[[]], partial = ["tp"]>>) -> tensor<4xf32, #dist.placement<[[]], partial = ["tp"]>>
  return
}

// -----

// A sum over split channels is a partial sum, whatever the type says.
// expected-note@+2 {{operand 0 is split on dimension 1 over "tp" here}}
// expected-note@+1 {{operand 1 is split on dimension 1 over "tp" here}}
func.func @linear(%x: tensor<2x8xf32, #dist.placement<[[], ["tp"]]>>, %w: tensor<4x8xf32, #dist.placement<[[], ["tp"]]>>) {
  // expected-error@+2 {{'llama.linear' op has no rule for its placements on axis "tp"}}
  // expected-note@+1 {{result 0 is whole over "tp"}}
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<2x8xf32, #dist.placement<[[], ["tp"]]>>, tensor<4x8xf32, #dist.placement<[[], ["tp"]]>>) -> tensor<2x4xf32>
  return
}

// -----

// Rows are normalized as a whole.
// expected-note@+2 {{operand 0 is split on dimension 2 over "tp" here}}
// expected-note@+1 {{operand 1 is split on dimension 0 over "tp" here}}
func.func @rms_norm(%x: tensor<2x4x8xf32, #dist.placement<[[], [], ["tp"]]>>, %w: tensor<8xf32, #dist.placement<[["tp"]]>>) {
  // expected-error@+2 {{'llama.rms_norm' op has no rule for its placements on axis "tp"}}
  // expected-note@+1 {{result 0 is split on dimension 2 over "tp"}}
  %y = llama.rms_norm %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x4x8xf32, #dist.placement<[[], [], ["tp"]]>>, tensor<8xf32, #dist.placement<[["tp"]]>>) -> tensor<2x4x8xf32, #dist.placement<[[], [], ["tp"]]>>
  return
}
