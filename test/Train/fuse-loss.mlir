// RUN: llama-opt %s -llama-fuse-loss=head-chunk=8 | FileCheck %s
// RUN: llama-opt %s -llama-fuse-loss=head-chunk=none | FileCheck %s --check-prefix=NONE
// RUN: llama-opt %s -llama-fuse-loss | FileCheck %s --check-prefix=NONE
// RUN: llama-opt %s -llama-fuse-loss=head-chunk=8 -llama-differentiate | FileCheck %s --check-prefix=STEP
// RUN: not llama-opt %s -llama-fuse-loss=head-chunk=some 2>&1 | FileCheck %s --check-prefix=ERROR
// RUN: not llama-opt %s -llama-fuse-loss=head-chunk=0 2>&1 | FileCheck %s --check-prefix=ERROR

// ERROR: --head-chunk: expected auto, none or a number of tokens from 1 to 1073741824, got '{{some|0}}'

// Logits of 2 samples of 16 tokens are few: they fit a chunk.
// NONE-NOT: linear_lse
// NONE-NOT: logit_tokens
// NONE: llama.cross_entropy

// The logits that the model returns are those of 4 tokens of each sample.
// CHECK-LABEL: func.func private @head(
// CHECK-SAME:    %[[H:[a-z0-9_]+]]: tensor<2x16x8xf32>, %[[Y:[a-z0-9_]+]]: tensor<2x16xi64>, %[[T:[a-z0-9_]+]]: tensor<2x4xi64>, %[[W:[a-z0-9_]+]]: tensor<24x8xf32>)
// CHECK-SAME:    -> (tensor<1xf32>, tensor<2x4x24xf32>)
// CHECK-DAG:     %[[LSE:[a-z0-9_]+]], %[[TARGET:[a-z0-9_]+]] = llama.linear_lse %[[H]], %[[W]], %[[Y]] {chunk = 8 : i64, parts = 1 : i64, statistics = f32}
// CHECK-DAG:     %[[M:.*]] = llama.row_max %[[LSE]]
// CHECK-DAG:     %[[S:.*]] = llama.row_sum_exp %[[LSE]], %[[M]]
// CHECK-DAG:     llama.cross_entropy %[[M]], %[[S]], %[[TARGET]], %[[Y]]
// CHECK-DAG:     %[[X:.*]] = llama.take_tokens %[[H]], %[[T]]
// CHECK-DAG:     llama.linear %[[X]], %[[W]]
// CHECK-LABEL: func.func @model(
// CHECK-SAME:    tensor<2x4xi64> {llama.input = "logit_tokens"}
// CHECK-SAME:    tensor<2x4x24xf32> {llama.output = "logits"}

// The step forms no logits to return; one function makes both gradients, and adds to that of the weight.
// STEP-LABEL: func.func private @head.backward(
// STEP-SAME:    %[[SUM:[a-z0-9]+]]: tensor<24x8xf32>) -> (tensor<2x16x8xf32> {llama.gradient_of = 0 : i64}, tensor<24x8xf32> {llama.in_place = [[# ]] : i64})
// STEP:         %[[DX:[a-z0-9_]+]], %[[DW:[a-z0-9_]+]] = llama.linear_lse_grad
// STEP:         %[[ADD:.*]] = llama.add %[[SUM]], %[[DW]]
// STEP:         return %[[DX]], %[[ADD]]
// STEP-LABEL: func.func private @head.forward(
// STEP-NOT:     llama.linear %
// STEP:         return
// STEP-LABEL: func.func @step(
// STEP-NOT:     logit_tokens
// STEP:         llama.apply @head.backward({{.*}}) parameters [@w] gradients [@w] {llama.application = 1 : i64, llama.phase = "backward_input"}
// STEP-NOT:     head.backward_weight
llama.parameter @w : tensor<24x8xf32> {initializer = #llama.initializer<normal>}
func.func private @first(%ids: tensor<2x16xi64>, %w: tensor<24x8xf32>) -> tensor<2x16x8xf32> attributes {llama.block} {
  %h = llama.embed %ids, %w {offset = 0 : i64} : (tensor<2x16xi64>, tensor<24x8xf32>) -> tensor<2x16x8xf32>
  return %h : tensor<2x16x8xf32>
}
func.func private @head(%h: tensor<2x16x8xf32>, %labels: tensor<2x16xi64>, %w: tensor<24x8xf32>) -> (tensor<1xf32>, tensor<2x16x24xf32>) attributes {llama.block} {
  %l = llama.linear %h, %w {accumulation = f32, element_type = f32} : (tensor<2x16x8xf32>, tensor<24x8xf32>) -> tensor<2x16x24xf32>
  %m = llama.row_max %l {statistics = f32} : (tensor<2x16x24xf32>) -> tensor<2x16xf32>
  %s = llama.row_sum_exp %l, %m {statistics = f32} : (tensor<2x16x24xf32>, tensor<2x16xf32>) -> tensor<2x16xf32>
  %t = llama.target_logit %l, %labels {statistics = f32} : (tensor<2x16x24xf32>, tensor<2x16xi64>) -> tensor<2x16xf32>
  %loss = llama.cross_entropy %m, %s, %t, %labels : (tensor<2x16xf32>, tensor<2x16xf32>, tensor<2x16xf32>, tensor<2x16xi64>) -> tensor<1xf32>
  return %loss, %l : tensor<1xf32>, tensor<2x16x24xf32>
}
func.func @model(%ids: tensor<2x16xi64> {llama.input = "input_ids"}, %labels: tensor<2x16xi64> {llama.input = "labels"}) -> (tensor<1xf32> {llama.output = "loss"}, tensor<2x16x24xf32> {llama.output = "logits"}) {
  %h = llama.apply @first(%ids) parameters [@w] : (tensor<2x16xi64>) -> tensor<2x16x8xf32>
  %loss, %logits = llama.apply @head(%h, %labels) parameters [@w] : (tensor<2x16x8xf32>, tensor<2x16xi64>) -> (tensor<1xf32>, tensor<2x16x24xf32>)
  return %loss, %logits : tensor<1xf32>, tensor<2x16x24xf32>
}
