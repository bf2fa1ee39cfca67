// RUN: llama-opt %s --split-input-file --dist-localize | FileCheck %s

// The partial sum that is wanted split over tokens is a reduce-scatter.
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
  shard.grid @grid(shape = 1x1x1x2)
  // CHECK: llama.parameter @up : tensor<8x8xf32> {global_shape = array<i64: 16, 8>, {{.*}} split = {{\[\[}}"tp"], []]}
  llama.parameter @up : tensor<16x8xf32, #dist.placement<[["tp"], []]>> {initializer = #llama.initializer<normal>}
  // CHECK: llama.parameter @down : tensor<8x8xf32> {global_shape = array<i64: 8, 16>, {{.*}} split = {{\[\[}}], ["tp"]]}
  llama.parameter @down : tensor<8x16xf32, #dist.placement<[[], ["tp"]]>> {initializer = #llama.initializer<normal>}
  // CHECK-LABEL: @mlp(
  // CHECK-SAME: tensor<1x4x8xf32>, %{{.*}}: tensor<8x8xf32> {dist.placement = #dist.placement<{{\[\[}}"tp"], []]>}, %{{.*}}: tensor<8x8xf32> {dist.placement = #dist.placement<{{\[\[}}], ["tp"]]>}) -> (tensor<1x2x8xf32> {dist.placement = #dist.placement<{{\[\[}}], ["tp"], []]>})
  func.func private @mlp(%x: tensor<1x4x8xf32>, %up: tensor<16x8xf32, #dist.placement<[["tp"], []]>>, %down: tensor<8x16xf32, #dist.placement<[[], ["tp"]]>>) -> tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>> attributes {llama.block} {
    %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xf32>, tensor<16x8xf32, #dist.placement<[["tp"], []]>>) -> tensor<1x4x16xf32, #dist.placement<[[], [], ["tp"]]>>
    // CHECK: %[[SUM:.*]] = llama.linear {{.*}} -> tensor<1x4x8xf32>
    // CHECK-NEXT: %[[SUM:.*]] = llama.linear {{.*}} -> tensor<1x4x8xf32>
    %d = llama.linear %u, %down {accumulation = f32} : (tensor<1x4x16xf32, #dist.placement<[[], [], ["tp"]]>>, tensor<8x16xf32, #dist.placement<[[], ["tp"]]>>) -> tensor<1x4x8xf32, #dist.placement<[[], [], []], partial = ["tp"]>>
    // CHECK-NEXT: shard.reduce_scatter %[[SUM]] on @grid grid_axes = [3] scatter_axis = 1
    // CHECK-SAME: dist.placed = [tensor<1x4x8xf32, #dist.placement<{{\[\[}}], [], []], partial = ["tp"]>>, tensor<1x4x8xf32, #dist.placement<{{\[\[}}], ["tp"], []]>>]
    // CHECK-SAME: : tensor<1x4x8xf32> -> tensor<1x2x8xf32>
    %y = dist.convert %d : tensor<1x4x8xf32, #dist.placement<[[], [], []], partial = ["tp"]>> -> tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>>
    return %y : tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>>
  }
  // CHECK: func.func @step(%{{.*}}: tensor<1x4x8xf32>) -> (tensor<1x2x8xf32> {dist.split = {{\[\[}}], ["tp"], []]})
  func.func @step(%x: tensor<1x4x8xf32>) -> tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>> {
    %y = llama.apply @mlp(%x) parameters [@up, @down] : (tensor<1x4x8xf32>) -> tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>>
    return %y : tensor<1x4x8xf32, #dist.placement<[[], ["tp"], []]>>
  }
}

// -----

// Inner axes are gathered first, what nests outside stays; sums and slices of one dimension
// that follow each other are one collective each.
module attributes {dist.axes = ["dp", "pp", "cp", "tp", "tpr"]} {
  shard.grid @grid(shape = 1x1x2x2x2)
  // CHECK-LABEL: @conversions(
  func.func private @conversions(%x: tensor<1x16x8xf32, #dist.placement<[[], ["cp", "tp", "tpr"], []]>>, %sum: tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []], partial = ["tp", "tpr"]>>, %maximum: tensor<1x16xf32, #dist.placement<[[], ["cp"]], partial = ["tp"], reduction = max>>)
      -> (tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>, tensor<1x16x8xf32, #dist.placement<[[], ["cp", "tp", "tpr"], []]>>, tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>, tensor<1x16xf32, #dist.placement<[[], ["cp"]]>>, tensor<1x16x8xf32, #dist.placement<[[], ["tpr"], []]>>) attributes {llama.block} {
    // CHECK-NEXT: shard.all_gather %{{.*}} on @grid grid_axes = [3, 4] gather_axis = 1 {{.*}} : tensor<1x2x8xf32> -> tensor<1x8x8xf32>
    %0 = dist.convert %x : tensor<1x16x8xf32, #dist.placement<[[], ["cp", "tp", "tpr"], []]>> -> tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>
    // CHECK-NEXT: shard.reduce_scatter %{{.*}} on @grid grid_axes = [3, 4] scatter_axis = 1 {{.*}} : tensor<1x8x8xf32> -> tensor<1x2x8xf32>
    %1 = dist.convert %sum : tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []], partial = ["tp", "tpr"]>> -> tensor<1x16x8xf32, #dist.placement<[[], ["cp", "tp", "tpr"], []]>>
    // CHECK-NEXT: shard.all_reduce %{{.*}} on @grid grid_axes = [3, 4] {{.*}} : tensor<1x8x8xf32> -> tensor<1x8x8xf32>
    %2 = dist.convert %sum : tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []], partial = ["tp", "tpr"]>> -> tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>
    // CHECK-NEXT: shard.all_reduce %{{.*}} on @grid grid_axes = [3] reduction = max {{.*}} : tensor<1x8xf32> -> tensor<1x8xf32>
    %3 = dist.convert %maximum : tensor<1x16xf32, #dist.placement<[[], ["cp"]], partial = ["tp"], reduction = max>> -> tensor<1x16xf32, #dist.placement<[[], ["cp"]]>>
    // CHECK-NEXT: %[[ALL:.*]] = shard.all_gather %{{.*}} on @grid grid_axes = [2, 3, 4] gather_axis = 1 {{.*}} : tensor<1x2x8xf32> -> tensor<1x16x8xf32>
    // CHECK-NEXT: shard.all_slice %[[ALL]] on @grid grid_axes = [4] slice_axis = 1 {{.*}} : tensor<1x16x8xf32> -> tensor<1x8x8xf32>
    %4 = dist.convert %x : tensor<1x16x8xf32, #dist.placement<[[], ["cp", "tp", "tpr"], []]>> -> tensor<1x16x8xf32, #dist.placement<[[], ["tpr"], []]>>
    return %0, %1, %2, %3, %4 : tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>, tensor<1x16x8xf32, #dist.placement<[[], ["cp", "tp", "tpr"], []]>>, tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>, tensor<1x16xf32, #dist.placement<[[], ["cp"]]>>, tensor<1x16x8xf32, #dist.placement<[[], ["tpr"], []]>>
  }
}

// -----

// Rows of a split table are looked up by shifted ids. The coordinate becomes an input behind
// the others, before the gradient, whose number changes. The padding token, which brings no
// gradient, is sorted out before ids are shifted; `rows` is the size of the part.
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
  shard.grid @grid(shape = 1x1x2x2)
  // CHECK: llama.parameter @table : tensor<16x8xf32> {{.*}} partial = ["cp"], split = {{\[\[}}"tp"], []]
  llama.parameter @table : tensor<32x8xf32, #dist.placement<[["tp"], []]>> {initializer = #llama.initializer<normal>}
  // CHECK-LABEL: @embedding.backward_weight(
  // CHECK-SAME: %[[IDS:[^ ]*]]: tensor<1x8xi64> {{{[^}]*}}}, %[[DY:[^ ]*]]: tensor<1x8x8xf32> {{{[^}]*}}}, %[[COORDINATE:[^ ]*]]: tensor<1xi64>, %[[SUM:[^ ]*]]: tensor<16x8xf32> {dist.placement = #dist.placement<{{\[\[}}"tp"], []], partial = ["cp"]>}) -> (tensor<16x8xf32> {{{.*}}llama.in_place = 3 : i64})
  func.func private @embedding.backward_weight(%ids: tensor<1x16xi64, #dist.placement<[[], ["cp"]]>>, %dy: tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>, %sum: tensor<32x8xf32, #dist.placement<[["tp"], []], partial = ["cp"]>>)
      -> (tensor<32x8xf32, #dist.placement<[["tp"], []], partial = ["cp"]>> {llama.in_place = 2 : i64}) attributes {llama.block} {
    // CHECK-NEXT: %[[LOCAL:.*]] = llama.shift_index %[[IDS]], %[[COORDINATE]] {padding_index = 3 : i64, size = 16 : i64}
    // CHECK-NEXT: llama.embed_grad %[[DY]], %[[LOCAL]] {accumulation = f32, {{.*}}offset = 0 : i64, rows = 16 : i64}
    %0 = llama.embed_grad %dy, %ids {rows = 32 : i64, offset = 0 : i64, padding_index = 3 : i64, accumulation = f32} : (tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>, tensor<1x16xi64, #dist.placement<[[], ["cp"]]>>) -> tensor<32x8xf32, #dist.placement<[["tp"], []], partial = ["cp"]>>
    %1 = llama.add %sum, %0 : (tensor<32x8xf32, #dist.placement<[["tp"], []], partial = ["cp"]>>, tensor<32x8xf32, #dist.placement<[["tp"], []], partial = ["cp"]>>) -> tensor<32x8xf32, #dist.placement<[["tp"], []], partial = ["cp"]>>
    return %1 : tensor<32x8xf32, #dist.placement<[["tp"], []], partial = ["cp"]>>
  }
  // CHECK: func.func @step(%{{.*}}: tensor<1x8xi64> {dist.split = {{\[\[}}], ["cp"]], llama.input = "input_ids"}, %{{.*}}: tensor<1x8x8xf32> {dist.split = {{\[\[}}], ["cp"], []]}, %[[TP:.*]]: tensor<1xi64> {llama.input = "coordinate:tp"})
  // CHECK-NEXT: llama.apply @embedding.backward_weight(%{{.*}}, %{{.*}}, %[[TP]]) gradients [@table]
  func.func @step(%ids: tensor<1x16xi64, #dist.placement<[[], ["cp"]]>> {llama.input = "input_ids"}, %dy: tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>) {
    llama.apply @embedding.backward_weight(%ids, %dy) gradients [@table] : (tensor<1x16xi64, #dist.placement<[[], ["cp"]]>>, tensor<1x16x8xf32, #dist.placement<[[], ["cp"], []]>>) -> ()
    return
  }
}
