// RUN: llama-opt %s -split-input-file -verify-diagnostics -llama-pass-destinations

// expected-error@+1 {{expects arguments and results to be tensors of static shape, but got 'tensor<?xf32>'}}
func.func @shape(%x: tensor<?xf32>) -> tensor<?xf32> {
  return %x : tensor<?xf32>
}

// -----

// expected-error@+1 {{expects llama.in_place of result 0 to name an argument of its type that no other result names, but got 1}}
func.func @place(%x: tensor<4xf32>) -> (tensor<4xf32> {llama.in_place = 1 : i64}) {
  return %x : tensor<4xf32>
}

// -----

// expected-error@+1 {{expects llama.in_place of result 1 to name an argument of its type that no other result names, but got 0}}
func.func @twice(%x: tensor<4xf32>) -> (tensor<4xf32> {llama.in_place = 0 : i64}, tensor<4xf32> {llama.in_place = 0 : i64}) {
  return %x, %x : tensor<4xf32>, tensor<4xf32>
}
