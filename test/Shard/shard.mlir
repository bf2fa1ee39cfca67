// RUN: llama-opt %s --split-input-file "--dist-shard=grid=tp=2" | FileCheck %s

// Columns, then rows: the hidden channels are split, the result is a partial sum and leaves
// the block split over tokens.

// CHECK: module attributes {dist.axes = ["dp", "pp", "cp", "tp"]}
// CHECK-NEXT: shard.grid @grid(shape = 1x1x1x2)
// CHECK-NEXT: llama.parameter @up_proj.weight : tensor<16x8xf32, #dist.placement<{{\[\[}}"tp"], []]>>
llama.parameter @up_proj.weight : tensor<16x8xf32> {initializer = #llama.initializer<normal>}
// CHECK-NEXT: llama.parameter @down_proj.weight : tensor<8x16xf32, #dist.placement<{{\[\[}}], ["tp"]]>>
llama.parameter @down_proj.weight : tensor<8x16xf32> {initializer = #llama.initializer<normal>}
// CHECK-LABEL: func.func private @mlp(
func.func private @mlp(%x: tensor<1x4x8xf32>, %up: tensor<16x8xf32>, %down: tensor<8x16xf32>) -> tensor<1x4x8xf32> attributes {llama.block} {
  // CHECK-NEXT: llama.linear {{.*}} -> tensor<1x4x16xf32, #dist.placement<{{\[\[}}], [], ["tp"]]>>
  %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<16x8xf32>) -> tensor<1x4x16xf32>
  // CHECK-NEXT: llama.linear {{.*}} -> tensor<1x4x8xf32, #dist.placement<{{\[\[}}], [], []], partial = ["tp"]>>
  %d = llama.linear %u, %down {accumulation = f32} : (tensor<1x4x16xf32>, tensor<8x16xf32>) -> tensor<1x4x8xf32>
  // CHECK-NEXT: dist.convert {{.*}} partial = ["tp"]>> -> tensor<1x4x8xf32, #dist.placement<{{\[\[}}], ["tp"], []]>>
  return %d : tensor<1x4x8xf32>
}
func.func @forward(%x: tensor<1x4x8xf32>) -> tensor<1x4x8xf32> {
  %y = llama.apply @mlp(%x) parameters [@up_proj.weight, @down_proj.weight] {llama.application = 0 : i64, llama.phase = "forward"} : (tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
  return %y : tensor<1x4x8xf32>
}
func.func @step(%x: tensor<1x4x8xf32>) -> tensor<1x4x8xf32> {
  %y = llama.apply @mlp(%x) parameters [@up_proj.weight, @down_proj.weight] {llama.application = 0 : i64, llama.phase = "forward"} : (tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
  return %y : tensor<1x4x8xf32>
}

// -----

// A block applied to values that lie otherwise is sharded again, under another name: the
// first input is whole, the second is split over tokens by what made it.
llama.parameter @up_proj.weight : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
llama.parameter @o_proj.weight : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
llama.parameter @norm.weight : tensor<8xf32> {initializer = #llama.initializer<ones>}
// CHECK-LABEL: func.func private @norm(
func.func private @norm(%x: tensor<1x4x8xf32>, %w: tensor<8xf32>) -> tensor<1x4x8xf32> attributes {llama.block} {
  %y = llama.rms_norm %x, %w {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<1x4x8xf32>, tensor<8xf32>) -> tensor<1x4x8xf32>
  return %y : tensor<1x4x8xf32>
}
func.func private @mlp(%x: tensor<1x4x8xf32>, %up: tensor<8x8xf32>, %o: tensor<8x8xf32>) -> tensor<1x4x8xf32> attributes {llama.block} {
  %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
  %d = llama.linear %u, %o {accumulation = f32} : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
  return %d : tensor<1x4x8xf32>
}
// CHECK: func.func @forward
// CHECK-NEXT: llama.apply @norm(%{{.*}}) parameters [@norm.weight] {{.*}} : (tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
// CHECK-NEXT: llama.apply @mlp(
// CHECK-NEXT: llama.apply @norm.placed2(%{{.*}}) parameters [@norm.weight] {{.*}} -> tensor<1x4x8xf32, #dist.placement<{{\[\[}}], ["tp"], []]>>
func.func @forward(%x: tensor<1x4x8xf32>) -> tensor<1x4x8xf32> {
  %0 = llama.apply @norm(%x) parameters [@norm.weight] {llama.application = 0 : i64, llama.phase = "forward"} : (tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
  %1 = llama.apply @mlp(%0) parameters [@up_proj.weight, @o_proj.weight] {llama.application = 1 : i64, llama.phase = "forward"} : (tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
  %2 = llama.apply @norm(%1) parameters [@norm.weight] {llama.application = 2 : i64, llama.phase = "forward"} : (tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
  return %2 : tensor<1x4x8xf32>
}
func.func @step(%x: tensor<1x4x8xf32>) -> tensor<1x4x8xf32> {
  return %x : tensor<1x4x8xf32>
}
