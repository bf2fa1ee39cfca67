// RUN: llama-opt %s -llama-assign-precision="precision=bf16" -split-input-file | FileCheck %s --check-prefixes=CHECK,BF16
// RUN: llama-opt %s -llama-assign-precision="precision=f64" -split-input-file | FileCheck %s --check-prefixes=CHECK,F64
// RUN: llama-opt %s -llama-assign-precision="precision=bf16 accumulate=bf16" -split-input-file | FileCheck %s --check-prefix=ACC
// RUN: not llama-opt %s -llama-assign-precision="precision=f16" -split-input-file 2>&1 | FileCheck %s --check-prefix=BAD
// BAD: error: expects precision to be bf16, f32 or f64, but got 'f16'

// The weight has the storage type, activations the compute type; the gradient of the
// weight is summed in f32.
// BF16: llama.parameter @w : tensor<32x8xbf16>
// BF16: func.func private @embedding(%{{.*}}: tensor<2x4xi64>, %{{.*}}: tensor<32x8xbf16> {llama.gradient_type = f32}) -> tensor<2x4x8xbf16> attributes {llama.block}
llama.parameter @w : tensor<32x8xf32> {initializer = #llama.initializer<normal>}
func.func private @embedding(%ids: tensor<2x4xi64>, %w: tensor<32x8xf32>) -> tensor<2x4x8xf32> attributes {llama.block} {
  %h = llama.embed %ids, %w : (tensor<2x4xi64>, tensor<32x8xf32>) -> tensor<2x4x8xf32>
  return %h : tensor<2x4x8xf32>
}
func.func @model(%ids: tensor<2x4xi64> {llama.input = "input_ids"}) -> tensor<2x4x8xf32> {
  %h = llama.apply @embedding(%ids) parameters [@w] : (tensor<2x4xi64>) -> tensor<2x4x8xf32>
  return %h : tensor<2x4x8xf32>
}

// -----


// BF16: llama.parameter @w : tensor<8xbf16>
// F64:  llama.parameter @w : tensor<8xf64>
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
llama.parameter @head : tensor<32x8xf32> {initializer = #llama.initializer<normal>}

// Gradients of parameters are summed in f32 unless asked otherwise; statistics
// never follow the compute type down.
// BF16-LABEL: func.func private @norm(%{{.*}}: tensor<2x4x8xbf16>, %{{.*}}: tensor<8xbf16> {llama.gradient_type = f32}
// F64-LABEL:  func.func private @norm(%{{.*}}: tensor<2x4x8xf64>, %{{.*}}: tensor<8xf64> {llama.gradient_type = f64}
// ACC-LABEL:  func.func private @norm(%{{.*}}: tensor<2x4x8xbf16>, %{{.*}}: tensor<8xbf16> {llama.gradient_type = bf16}
// BF16:         llama.rms_norm {{.*}}statistics = f32
// F64:          llama.rms_norm {{.*}}statistics = f64
// ACC:          llama.rms_norm {{.*}}statistics = f32
// The logits have the type of statistics.
// BF16:         llama.linear {{.*}}element_type = f32{{.*}} -> tensor<2x4x32xf32>
// F64:          llama.linear {{.*}} -> tensor<2x4x32xf64>
func.func private @norm(%x: tensor<2x4x8xf32>, %w: tensor<8xf32>, %h: tensor<32x8xf32>) -> tensor<2x4x32xf32> attributes {llama.block} {
  %y = llama.rms_norm %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<2x4x8xf32>, tensor<8xf32>) -> tensor<2x4x8xf32>
  %l = llama.linear %y, %h {accumulation = f32, element_type = f32} : (tensor<2x4x8xf32>, tensor<32x8xf32>) -> tensor<2x4x32xf32>
  return %l : tensor<2x4x32xf32>
}
// Pixels stay f32; patchify rounds them to the compute type.
// BF16-LABEL: func.func private @patches(%{{.*}}: tensor<2x1x1x2x2x2xf32>) -> tensor<2x4x2xbf16>
func.func private @patches(%p: tensor<2x1x1x2x2x2xf32>) -> tensor<2x4x2xf32> attributes {llama.block} {
  %x = llama.patchify %p {patch_size = 1 : i64, element_type = f32} : (tensor<2x1x1x2x2x2xf32>) -> tensor<2x4x2xf32>
  return %x : tensor<2x4x2xf32>
}
func.func private @ids(%ids: tensor<2x4xi64>, %table: tensor<32x8xf32>) -> tensor<2x4x8xf32> attributes {llama.block} {
  %h = llama.embed %ids, %table : (tensor<2x4xi64>, tensor<32x8xf32>) -> tensor<2x4x8xf32>
  return %h : tensor<2x4x8xf32>
}
// CHECK-LABEL: func.func @model(
func.func @model(%i: tensor<2x4xi64> {llama.input = "input_ids"}, %p: tensor<2x1x1x2x2x2xf32> {llama.input = "pixels"}) -> (tensor<2x4x32xf32>, tensor<2x4x2xf32>) {
  %h = llama.apply @ids(%i) parameters [@head] : (tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %y = llama.apply @norm(%h) parameters [@w, @head] : (tensor<2x4x8xf32>) -> tensor<2x4x32xf32>
  %x = llama.apply @patches(%p) : (tensor<2x1x1x2x2x2xf32>) -> tensor<2x4x2xf32>
  return %y, %x : tensor<2x4x32xf32>, tensor<2x4x2xf32>
}
