// RUN: llama-opt %s -llama-isolate-blocks -split-input-file -verify-diagnostics

// Memory is planned for sizes that are known.
// expected-error @+1 {{expects sizes that are all known, but got 'tensor<?x8xf32>'}}
func.func private @norm(%x: tensor<?x8xf32>) -> tensor<?x8xf32> attributes {llama.block} {
  return %x : tensor<?x8xf32>
}
