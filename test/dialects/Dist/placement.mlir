// RUN: llama-opt %s | llama-opt | FileCheck %s

// The encoding prints as it was read; ops take values that their rule allows.

// CHECK-LABEL: @convert
// CHECK-SAME: tensor<2x64x512xf32, #dist.placement<{{\[\[}}], [], []], partial = ["tp"]>>
func.func @convert(%x: tensor<2x64x512xf32, #dist.placement<[[], [], []], partial = ["tp"]>>) -> tensor<2x64x512xf32, #dist.placement<[[], ["tp"], []]>> {
  // CHECK: dist.convert %{{.*}} : {{.*}} -> tensor<2x64x512xf32, #dist.placement<{{\[\[}}], ["tp"], []]>>
  %y = dist.convert %x : tensor<2x64x512xf32, #dist.placement<[[], [], []], partial = ["tp"]>> -> tensor<2x64x512xf32, #dist.placement<[[], ["tp"], []]>>
  return %y : tensor<2x64x512xf32, #dist.placement<[[], ["tp"], []]>>
}

// Columns of the weight: the channels of the result. A maximum over a split vocabulary.
// CHECK-LABEL: @head
func.func @head(%x: tensor<2x16x32xf32, #dist.placement<[[], ["cp"], []]>>, %w: tensor<64x32xf32, #dist.placement<[["tp"], []]>>) -> tensor<2x16xf32, #dist.placement<[[], ["cp"]], partial = ["tp"], reduction = max>> {
  %l = llama.linear %x, %w {accumulation = f32} : (tensor<2x16x32xf32, #dist.placement<[[], ["cp"], []]>>, tensor<64x32xf32, #dist.placement<[["tp"], []]>>) -> tensor<2x16x64xf32, #dist.placement<[[], ["cp"], ["tp"]]>>
  // CHECK: llama.row_max {{.*}} -> tensor<2x16xf32, #dist.placement<{{\[\[}}], ["cp"]], partial = ["tp"], reduction = max>>
  %m = llama.row_max %l {statistics = f32} : (tensor<2x16x64xf32, #dist.placement<[[], ["cp"], ["tp"]]>>) -> tensor<2x16xf32, #dist.placement<[[], ["cp"]], partial = ["tp"], reduction = max>>
  return %m : tensor<2x16xf32, #dist.placement<[[], ["cp"]], partial = ["tp"], reduction = max>>
}

// Ranks that share a head of keys and values split the queries that share it, and bring
// partial sums to its gradient; so do queries of other tokens.
// CHECK-LABEL: @shared_heads
func.func @shared_heads(%q: tensor<1x8x4x2xf32, #dist.placement<[[], ["cp"], ["tp", "tpr"], []]>>, %k: tensor<1x8x2x2xf32, #dist.placement<[[], [], ["tp"], []]>>, %lse: tensor<1x8x4xf32, #dist.placement<[[], ["cp"], ["tp", "tpr"]]>>, %p: tensor<1x8xi64, #dist.placement<[[], ["cp"]]>>, %all: tensor<1x8xi64>) -> tensor<1x8x2x2xf32, #dist.placement<[[], [], ["tp"], []], partial = ["cp", "tpr"]>> {
  // CHECK: llama.attention_grad
  %dq, %dk, %dv = llama.attention_grad %q, %q, %k, %k, %q, %lse, %p, %p, %all, %all {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = f32}
    : (tensor<1x8x4x2xf32, #dist.placement<[[], ["cp"], ["tp", "tpr"], []]>>, tensor<1x8x4x2xf32, #dist.placement<[[], ["cp"], ["tp", "tpr"], []]>>, tensor<1x8x2x2xf32, #dist.placement<[[], [], ["tp"], []]>>, tensor<1x8x2x2xf32, #dist.placement<[[], [], ["tp"], []]>>, tensor<1x8x4x2xf32, #dist.placement<[[], ["cp"], ["tp", "tpr"], []]>>, tensor<1x8x4xf32, #dist.placement<[[], ["cp"], ["tp", "tpr"]]>>, tensor<1x8xi64, #dist.placement<[[], ["cp"]]>>, tensor<1x8xi64, #dist.placement<[[], ["cp"]]>>, tensor<1x8xi64>, tensor<1x8xi64>)
    -> (tensor<1x8x4x2xf32, #dist.placement<[[], ["cp"], ["tp", "tpr"], []]>>, tensor<1x8x2x2xf32, #dist.placement<[[], [], ["tp"], []], partial = ["cp", "tpr"]>>, tensor<1x8x2x2xf32, #dist.placement<[[], [], ["tp"], []], partial = ["cp", "tpr"]>>)
  return %dk : tensor<1x8x2x2xf32, #dist.placement<[[], [], ["tp"], []], partial = ["cp", "tpr"]>>
}
