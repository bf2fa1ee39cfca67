// RUN: llama-opt %s --split-input-file --dist-split-blocks | FileCheck %s
// RUN: llama-opt %s --split-input-file --dist-split-blocks --mlir-print-debuginfo --mlir-print-local-scope | FileCheck %s --check-prefix=LOCATIONS

// One block, two functions: before and after the sum over ranks. The gather of the input
// waits for nothing.
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
  shard.grid @grid(shape = 1x1x1x2)
  llama.parameter @up : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
  llama.parameter @down : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
  func.func private @mlp(%x: tensor<1x2x8xf32>, %up: tensor<8x8xf32>, %down: tensor<8x8xf32>) -> tensor<1x2x8xf32> attributes {llama.block} {
    // A collective comes from its op and from the application of the block.
    // LOCATIONS: shard.all_gather {{.*}} loc(callsite("{{.*}}split-blocks.mlir":[[#@LINE+1]]:14 at "{{.*}}split-blocks.mlir":[[#@LINE+20]]:10))
    %whole = shard.all_gather %x on @grid grid_axes = [3] gather_axis = 1 : tensor<1x2x8xf32> -> tensor<1x4x8xf32>
    %u = llama.linear %whole, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
    %d = llama.linear %u, %down {accumulation = f32} : (tensor<1x4x8xf32>, tensor<8x8xf32>) -> tensor<1x4x8xf32>
    %part = shard.reduce_scatter %d on @grid grid_axes = [3] scatter_axis = 1 : tensor<1x4x8xf32> -> tensor<1x2x8xf32>
    %y = llama.add %x, %part : (tensor<1x2x8xf32>, tensor<1x2x8xf32>) -> tensor<1x2x8xf32>
    return %y : tensor<1x2x8xf32>
  }
  // CHECK-NOT: func.func private @mlp(
  // CHECK: func.func private @mlp.0(%{{.*}}: tensor<1x4x8xf32>, %{{.*}}: tensor<8x8xf32>, %{{.*}}: tensor<8x8xf32>) -> tensor<1x4x8xf32> attributes {llama.block}
  // CHECK-NOT: shard.
  // CHECK: func.func private @mlp.1(%{{.*}}: tensor<1x2x8xf32>, %{{.*}}: tensor<1x2x8xf32>) -> tensor<1x2x8xf32> attributes {llama.block}
  // CHECK-LABEL: func.func @forward(
  // CHECK-SAME: %[[X:.*]]: tensor<1x2x8xf32>)
  // CHECK-NEXT: %[[WHOLE:.*]] = shard.all_gather %[[X]]
  // CHECK-NEXT: %[[D:.*]] = llama.apply @mlp.0(%[[WHOLE]]) parameters [@up, @down]
  // CHECK-NEXT: %[[PART:.*]] = shard.reduce_scatter %[[D]]
  // CHECK-NEXT: %[[Y:.*]] = llama.apply @mlp.1(%[[X]], %[[PART]])
  // CHECK-NEXT: return %[[Y]]
  func.func @forward(%x: tensor<1x2x8xf32>) -> tensor<1x2x8xf32> {
    %y = llama.apply @mlp(%x) parameters [@up, @down] : (tensor<1x2x8xf32>) -> tensor<1x2x8xf32>
    return %y : tensor<1x2x8xf32>
  }
}

// -----

// A gradient goes to the function that adds to it, in place, and so do the tags; the
// collective gets them too.
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
  shard.grid @grid(shape = 1x1x1x2)
  llama.parameter @norm : tensor<8xf32> {initializer = #llama.initializer<ones>}
  llama.parameter @up : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
  func.func private @b.backward_weight(%dy: tensor<1x2x8xf32>, %x: tensor<1x2x8xf32>, %norm: tensor<8xf32>, %up: tensor<8x8xf32>)
      -> (tensor<8xf32> {llama.in_place = 2 : i64}, tensor<8x8xf32> {llama.in_place = 3 : i64}) attributes {llama.block, llama.part = "key_value"} {
    %0 = llama.rms_norm_dw %dy, %x {epsilon = 1.0e-5 : f64, statistics = f32, accumulation = f32} : (tensor<1x2x8xf32>, tensor<1x2x8xf32>) -> tensor<8xf32>
    %1 = llama.add %norm, %0 : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
    %2 = llama.gelu %x {statistics = f32} : (tensor<1x2x8xf32>) -> tensor<1x2x8xf32>
    %3 = shard.all_gather %2 on @grid grid_axes = [3] gather_axis = 1 : tensor<1x2x8xf32> -> tensor<1x4x8xf32>
    %4 = llama.linear_dw %3, %3 {accumulation = f32} : (tensor<1x4x8xf32>, tensor<1x4x8xf32>) -> tensor<8x8xf32>
    %5 = llama.add %up, %4 : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
    return %1, %5 : tensor<8xf32>, tensor<8x8xf32>
  }
  // CHECK: @b.backward_weight.0({{.*}}) -> (tensor<1x2x8xf32>, tensor<8xf32> {llama.in_place = 2 : i64}) attributes {llama.block, llama.part = "key_value"}
  // CHECK: @b.backward_weight.1({{.*}}) -> (tensor<8x8xf32> {llama.in_place = 1 : i64}) attributes {llama.block, llama.part = "key_value"}
  // CHECK-LABEL: func.func @step(
  // CHECK-NEXT: %[[G:.*]] = llama.apply @b.backward_weight.0(%{{.*}}, %{{.*}}) gradients [@norm] {llama.application = 5 : i64, llama.phase = "backward_weight"}
  // CHECK-NEXT: %[[ALL:.*]] = shard.all_gather %[[G]] on @grid grid_axes = [3] gather_axis = 1 {llama.application = 5 : i64, llama.phase = "backward_weight"}
  // CHECK-NEXT: llama.apply @b.backward_weight.1(%[[ALL]]) gradients [@up] {llama.application = 5 : i64, llama.phase = "backward_weight"}
  func.func @step(%dy: tensor<1x2x8xf32>, %x: tensor<1x2x8xf32>) {
    llama.apply @b.backward_weight(%dy, %x) gradients [@norm, @up] {llama.application = 5 : i64, llama.phase = "backward_weight"} : (tensor<1x2x8xf32>, tensor<1x2x8xf32>) -> ()
    return
  }
}

// -----

// A result keeps the place of an argument only where nothing outside of the function reads
// the argument: here the collective does.
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
  shard.grid @grid(shape = 1x1x1x2)
  func.func private @add(%a: tensor<4xf32>, %b: tensor<4xf32>) -> (tensor<4xf32> {llama.in_place = 0 : i64}, tensor<8xf32>) attributes {llama.block} {
    %0 = llama.add %a, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    %1 = shard.all_gather %a on @grid grid_axes = [3] gather_axis = 0 : tensor<4xf32> -> tensor<8xf32>
    return %0, %1 : tensor<4xf32>, tensor<8xf32>
  }
  // CHECK: func.func private @add(%{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xf32>) -> tensor<4xf32> attributes {llama.block}
  // CHECK-LABEL: func.func @step(
  // CHECK-NEXT: shard.all_gather
  // CHECK-NEXT: llama.apply @add(
  func.func @step(%a: tensor<4xf32>, %b: tensor<4xf32>) -> (tensor<4xf32>, tensor<8xf32>) {
    %0:2 = llama.apply @add(%a, %b) : (tensor<4xf32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<8xf32>)
    return %0#0, %0#1 : tensor<4xf32>, tensor<8xf32>
  }
}

// -----

// A block without collectives stays as it is.
// CHECK: func.func private @plain(
// CHECK: llama.apply @plain(
func.func private @plain(%x: tensor<4xf32>) -> tensor<4xf32> attributes {llama.block} {
  %0 = llama.add %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = llama.apply @plain(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
