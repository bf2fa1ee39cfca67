// RUN: llama-opt %s --split-input-file --verify-diagnostics --dist-localize

// expected-error@+1 {{expected a module on a grid, as dist-shard makes it}}
module {
  func.func @step() {
    return
  }
}

// -----

// A grid whose sizes are not known is none.
// expected-error@+1 {{expected a module on a grid, as dist-shard makes it}}
module attributes {dist.axes = ["tp"]} {
  shard.grid @grid(shape = ?)
}

// -----

module attributes {dist.axes = ["tp"]} {
  shard.grid @grid(shape = 2)
  // expected-error@+1 {{names an axis that the grid does not have: "cp"}}
  func.func private @b(%x: tensor<4xf32, #dist.placement<[["cp"]]>>) attributes {llama.block} {
    return
  }
}

// -----

module attributes {dist.axes = ["tp"]} {
  shard.grid @grid(shape = 3)
  // expected-error@+1 {{has a value that its axes do not divide: 'tensor<4xf32}}
  func.func private @b(%x: tensor<4xf32, #dist.placement<[["tp"]]>>) attributes {llama.block} {
    return
  }
}
