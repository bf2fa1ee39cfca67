// RUN: llama-opt %s -llama-differentiate -split-input-file | FileCheck %s
// RUN: llama-opt %s -llama-differentiate=recompute=selective -split-input-file | FileCheck %s --check-prefix=SELECTIVE
// RUN: llama-opt %s -llama-differentiate=recompute=full -split-input-file | FileCheck %s --check-prefix=FULL

// The weight's gradient is formed in a block of its own and added to what it was. The
// input of the model needs none, and the step holds what the block reads: no residuals.
// CHECK-LABEL: func.func @forward(
// CHECK:       func.func private @scale.backward_weight(%[[X:[a-z0-9]+]]: tensor<1xf32>, %[[DY:[a-z0-9]+]]: tensor<1xf32>, %[[SUM:[a-z0-9]+]]: tensor<1x1xf32>) -> (tensor<1x1xf32> {llama.in_place = 2 : i64})
// CHECK:         %[[DW:.*]] = llama.linear_dw %[[DY]], %[[X]]
// CHECK:         llama.add %[[SUM]], %[[DW]]
// CHECK-LABEL: func.func @step(
// CHECK-SAME:      %[[X:[a-z0-9]+]]: tensor<1xf32> {llama.input = "x"}, %[[SEED:[a-z0-9]+]]: tensor<1xf32> {llama.input = "loss_gradient"})
// CHECK:         %[[LOSS:.*]] = llama.apply @scale(%[[X]]) parameters [@w] {llama.application = 0 : i64, llama.phase = "forward"}
// CHECK-NEXT:    llama.apply @scale.backward_weight(%[[X]], %[[SEED]]) gradients [@w] {llama.application = 0 : i64, llama.phase = "backward_weight"}
// CHECK-NEXT:    return %[[LOSS]]
llama.parameter @w : tensor<1x1xf32> {initializer = #llama.initializer<normal>}
func.func private @scale(%x: tensor<1xf32>, %w: tensor<1x1xf32>) -> tensor<1xf32> attributes {llama.block} {
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<1xf32>, tensor<1x1xf32>) -> tensor<1xf32>
  return %y : tensor<1xf32>
}
func.func @model(%x: tensor<1xf32> {llama.input = "x"}) -> (tensor<1xf32> {llama.output = "loss"}) {
  %loss = llama.apply @scale(%x) parameters [@w] : (tensor<1xf32>) -> tensor<1xf32>
  return %loss : tensor<1xf32>
}

// -----

llama.parameter @norm : tensor<8xf32> {initializer = #llama.initializer<ones>}
llama.parameter @w : tensor<16x8xf32> {initializer = #llama.initializer<normal>}
llama.parameter @frozen : tensor<8x16xf32> {initializer = #llama.initializer<normal>, frozen}

// Kept: what the backward ops read. A frozen weight has no gradient op, and the
// activation that only this op would read is not kept; x and y, which the step
// holds anyway, are not residuals.
func.func private @mlp(%x: tensor<4x8xf32>, %norm: tensor<8xf32>, %w: tensor<16x8xf32>, %f: tensor<8x16xf32>) -> tensor<4x8xf32> attributes {llama.block} {
  %n = llama.rms_norm %x, %norm {epsilon = 1.0e-5 : f64, statistics = f32} : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  %u = llama.linear %n, %w {accumulation = f32} : (tensor<4x8xf32>, tensor<16x8xf32>) -> tensor<4x16xf32>
  %a = llama.gelu %u {statistics = f32} : (tensor<4x16xf32>) -> tensor<4x16xf32>
  %d = llama.linear %a, %f {accumulation = f32} : (tensor<4x16xf32>, tensor<8x16xf32>) -> tensor<4x8xf32>
  %y = llama.add %x, %d : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}
func.func private @loss(%x: tensor<4x8xf32>, %labels: tensor<4xi64>) -> tensor<1xf32> attributes {llama.block} {
  %m = llama.row_max %x {statistics = f32} : (tensor<4x8xf32>) -> tensor<4xf32>
  %s = llama.row_sum_exp %x, %m {statistics = f32} : (tensor<4x8xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = llama.target_logit %x, %labels {statistics = f32} : (tensor<4x8xf32>, tensor<4xi64>) -> tensor<4xf32>
  %l = llama.cross_entropy %m, %s, %t, %labels : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xi64>) -> tensor<1xf32>
  return %l : tensor<1xf32>
}
func.func @model(%x: tensor<4x8xf32> {llama.input = "x"}, %labels: tensor<4xi64> {llama.input = "labels"}) -> (tensor<1xf32> {llama.output = "loss"}) {
  %h = llama.apply @mlp(%x) parameters [@norm, @w, @frozen] : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = llama.apply @mlp(%h) parameters [@norm, @w, @frozen] : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %l = llama.apply @loss(%y, %labels) : (tensor<4x8xf32>, tensor<4xi64>) -> tensor<1xf32>
  return %l : tensor<1xf32>
}
// @model becomes @forward, which keeps nothing.
// CHECK-LABEL: func.func @forward(
// CHECK:         llama.apply @mlp(%{{.*}}) parameters [@norm, @w, @frozen] {{.*}} : (tensor<4x8xf32>) -> tensor<4x8xf32>
// FULL-LABEL: func.func @forward(
// SELECTIVE-LABEL: func.func @forward(

// The first application of @mlp wants no gradient of its input, the second does:
// two variants. No weight gradient is formed for the frozen weight.
// CHECK-LABEL: func.func private @mlp.backward_weight(
// CHECK-NOT:     llama.linear_dw {{.*}} -> tensor<8x16xf32>
// CHECK:         return
// What the backward ops read is kept; what only the frozen weight's gradient
// would read is not.
// CHECK-LABEL: func.func private @mlp.forward(
// CHECK:         %[[N:.*]] = llama.rms_norm
// CHECK:         %[[U:.*]] = llama.linear
// CHECK:         %[[Y:.*]] = llama.add
// CHECK:         return %[[Y]], %[[N]], %[[U]] :
// CHECK-LABEL: func.func private @mlp.backward_input.2(
// CHECK-NOT:   @mlp.forward.2
// CHECK-LABEL: func.func private @mlp.backward_weight.2(

// Selective recomputation keeps the product and forms the norm again.
// SELECTIVE-LABEL: func.func private @mlp.backward_weight(
// SELECTIVE:         llama.rms_norm
// SELECTIVE-LABEL: func.func private @mlp.forward(
// SELECTIVE:         %[[U:.*]] = llama.linear
// SELECTIVE:         %[[Y:.*]] = llama.add
// SELECTIVE:         return %[[Y]], %[[U]] :

// Full recomputation keeps nothing: backward runs the block again.
// FULL-LABEL: func.func private @mlp.backward_weight(
// FULL:         llama.rms_norm
// FULL:         llama.linear
// FULL:         llama.gelu_grad
// FULL-NOT:   @mlp.forward

// Backward runs over the applications in reverse; weight gradients are added to
// those of the parameters.
// CHECK-LABEL: func.func @step(
// CHECK-SAME:      %[[SEED:[a-z0-9]+]]: tensor<1xf32> {llama.input = "loss_gradient"})
// CHECK:         %[[H:.*]]:3 = llama.apply @mlp.forward(
// CHECK:         %[[Y:.*]]:3 = llama.apply @mlp.forward(%[[H]]#0)
// CHECK:         llama.apply @loss.backward_input({{.*}}%[[SEED]]
// CHECK:         %[[DH:.*]]:{{[0-9]+}} = llama.apply @mlp.backward_input.2(
// CHECK:         llama.apply @mlp.backward_weight.2({{.*}}) gradients [@norm, @w]
// CHECK:         llama.apply @mlp.backward_weight({{.*}}%[[DH]]#0{{.*}}) {{.*}}gradients [@norm, @w]

// -----

// A value with two readers gets the sum of their gradients.
llama.parameter @w : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
func.func private @linear(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> tensor<4x8xf32> attributes {llama.block} {
  %y = llama.linear %x, %w {accumulation = f32} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}
func.func private @pair(%a: tensor<4x8xf32>, %b: tensor<4x8xf32>, %labels: tensor<4xi64>) -> tensor<1xf32> attributes {llama.block} {
  %x = llama.add %a, %b : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %m = llama.row_max %x {statistics = f32} : (tensor<4x8xf32>) -> tensor<4xf32>
  %s = llama.row_sum_exp %x, %m {statistics = f32} : (tensor<4x8xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = llama.target_logit %x, %labels {statistics = f32} : (tensor<4x8xf32>, tensor<4xi64>) -> tensor<4xf32>
  %l = llama.cross_entropy %m, %s, %t, %labels : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xi64>) -> tensor<1xf32>
  return %l : tensor<1xf32>
}
func.func @model(%x: tensor<4x8xf32> {llama.input = "x"}, %labels: tensor<4xi64> {llama.input = "labels"}) -> (tensor<1xf32> {llama.output = "loss"}) {
  %h = llama.apply @linear(%x) parameters [@w] : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = llama.apply @linear(%h) parameters [@w] : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %l = llama.apply @pair(%h, %y, %labels) : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4xi64>) -> tensor<1xf32>
  return %l : tensor<1xf32>
}
// CHECK-LABEL: func.func private @add.4.8.f32(
// CHECK-SAME:      -> (tensor<4x8xf32> {llama.in_place = 0 : i64})
// CHECK-LABEL: func.func @step(
// CHECK:         llama.apply @add.4.8.f32(

// -----

// Of two results of a block one depends on what trains: the block that reads both forms the
// gradient of that one only.
llama.parameter @w : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
llama.parameter @frozen : tensor<8x8xf32> {initializer = #llama.initializer<normal>, frozen}
func.func private @two(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %v: tensor<8x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) attributes {llama.block} {
  %a = llama.linear %x, %w {accumulation = f32} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %b = llama.linear %x, %v {accumulation = f32} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  return %a, %b : tensor<4x8xf32>, tensor<4x8xf32>
}
func.func private @both(%a: tensor<4x8xf32>, %b: tensor<4x8xf32>, %labels: tensor<4xi64>) -> tensor<1xf32> attributes {llama.block} {
  %x = llama.add %a, %b : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %m = llama.row_max %x {statistics = f32} : (tensor<4x8xf32>) -> tensor<4xf32>
  %s = llama.row_sum_exp %x, %m {statistics = f32} : (tensor<4x8xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = llama.target_logit %x, %labels {statistics = f32} : (tensor<4x8xf32>, tensor<4xi64>) -> tensor<4xf32>
  %l = llama.cross_entropy %m, %s, %t, %labels : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xi64>) -> tensor<1xf32>
  return %l : tensor<1xf32>
}
func.func @model(%x: tensor<4x8xf32> {llama.input = "x"}, %labels: tensor<4xi64> {llama.input = "labels"}) -> (tensor<1xf32> {llama.output = "loss"}) {
  %h:2 = llama.apply @two(%x) parameters [@w, @frozen] : (tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>)
  %l = llama.apply @both(%h#0, %h#1, %labels) : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4xi64>) -> tensor<1xf32>
  return %l : tensor<1xf32>
}
// CHECK-LABEL: func.func private @both.backward_input(
// CHECK-SAME:      -> (tensor<4x8xf32> {llama.gradient_of = 0 : i64}) attributes
