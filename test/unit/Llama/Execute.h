//===- Execute.h - Runs one op of the llama dialect ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_LLAMA_EXECUTE_H
#define LLAMAC_TEST_LLAMA_EXECUTE_H

#include "dialects/Interfaces/OpInterfaces.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace llamac_test {

/// A tensor: values are rounded to `type` (f64, f32, bf16 or i64) when an op reads
/// them. Row-major.
struct Array {
  std::vector<int64_t> shape;
  std::string type;
  std::vector<double> values;

  double &operator[](size_t i) { return values[i]; }
  double operator[](size_t i) const { return values[i]; }
  size_t size() const { return values.size(); }
};

/// One op, decomposed, lowered to LLVM IR by upstream passes and compiled in process.
class CompiledOp {
public:
  /// `op` with its dialect, e.g. "llama.gelu"; `attributes` as in IR, with braces;
  /// of `inputs` only shape and type count. Ends the test process with a message if
  /// any step fails.
  CompiledOp(const std::string &op, const std::string &attributes,
             const std::vector<Array> &inputs);
  ~CompiledOp();

  /// The results for these inputs (shapes and types as at construction).
  std::vector<Array> operator()(const std::vector<Array> &inputs) const;

private:
  struct State;
  std::unique_ptr<State> state;
};

/// Compiles and runs once.
inline std::vector<Array> execute(const std::string &op, const std::string &attributes,
                                  const std::vector<Array> &inputs) {
  return CompiledOp(op, attributes, inputs)(inputs);
}

/// How the op may be split; arguments as those of CompiledOp.
mlir::llama::PlacementRule placementRule(const std::string &op, const std::string &attributes,
                                         const std::vector<Array> &inputs);

/// The names of all ops that have such a rule.
std::vector<std::string> opsWithPlacementRule();

} // namespace llamac_test

#endif // LLAMAC_TEST_LLAMA_EXECUTE_H
