// RUN: llama-opt %s -llama-specialize="batch=2" -split-input-file -verify-diagnostics

// A block that is applied has a body.
// expected-error @+1 {{expects a body of one block}}
func.func private @norm(tensor<?x8xf32>) -> tensor<?x8xf32> attributes {llama.block}
func.func @model(%x: tensor<?x8xf32> {llama.input = "x"}) -> tensor<?x8xf32> {
  %y = llama.apply @norm(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
