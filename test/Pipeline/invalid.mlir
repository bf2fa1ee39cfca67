// RUN: llama-opt %s --split-input-file --verify-diagnostics --dist-build-program

// expected-error@+1 {{expected a training graph with a function 'step'}}
module {
  func.func @forward(%x: tensor<8xf32>) -> tensor<8xf32> {
    return %x : tensor<8xf32>
  }
}

// -----

// A trained parameter needs the optimizer's blocks.
// expected-error@+1 {{expected a block 'gradient_norm' that updates the parameters}}
module {
  llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
  func.func @forward(%x: tensor<8xf32>) -> tensor<8xf32> {
    return %x : tensor<8xf32>
  }
  func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
    return %x : tensor<8xf32>
  }
}

// -----

// Losses are added by a block.
// expected-error@+1 {{expected a block 'add_once' (llama-add-optimizer)}}
module {
  func.func @forward(%x: tensor<8xf32>) -> tensor<8xf32> {
    return %x : tensor<8xf32>
  }
  func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
    return %x : tensor<8xf32>
  }
}
