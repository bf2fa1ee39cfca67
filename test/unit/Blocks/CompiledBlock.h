//===- CompiledBlock.h - Compile a block and run it ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_BLOCKS_COMPILEDBLOCK_H
#define LLAMAC_TEST_BLOCKS_COMPILEDBLOCK_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace llamac_test {

/// An argument or result of a block: type and values (every type held as double).
struct Array {
  std::string type; // f32, bf16, f64, i64
  int64_t elements = 0;
  int64_t inPlace = -1; // results: the argument whose place it takes
  int64_t below = 2;    // i64 arguments: values are drawn from [least, below)
  int64_t least = 0;
  bool counts = false; // i64 arguments: values are 0, 1, 2, ... below `below`, again and again
  std::vector<double> values;
};

/// A block taken through llama-lower-blocks and Target::compile, loaded into this
/// process.
class CompiledBlock {
public:
  /// `text`: a module with one block. Ends the test process with the diagnostics
  /// if any step fails. `cpu` as for `llamac --cpu`; without, the environment's
  /// LLAMAC_TEST_CPU or this machine's (test/processors/run.py).
  CompiledBlock(const std::string &text, bool reference, std::string cpu = "");
  ~CompiledBlock();

  /// The arguments by type, without values.
  const std::vector<Array> &arguments() const;
  /// Runs the block on `threads` threads; returns its results, in the order of the function type. Ends
  /// the process if the block writes outside of its buffers or to a read-only one.
  std::vector<Array> operator()(const std::vector<Array> &arguments, int64_t threads = 1) const;
  /// The lowered module, printed.
  const std::string &lowered() const;
  /// Names of undefined symbols of the object file.
  std::vector<std::string> undefinedSymbols() const;

private:
  struct State;
  std::unique_ptr<State> state;
};

/// Arguments with values: drawn by `seed`, the same for every element type.
std::vector<Array> drawArguments(const CompiledBlock &block, unsigned seed);

} // namespace llamac_test

#endif // LLAMAC_TEST_BLOCKS_COMPILEDBLOCK_H
