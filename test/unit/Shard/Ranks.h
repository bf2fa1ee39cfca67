//===- Ranks.h - Runs the graphs of a program on several ranks -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_PARALLELIZE_RANKS_H
#define LLAMAC_TEST_PARALLELIZE_RANKS_H

#include "llamac/Support/Grid.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace llamac_test {

/// A tensor of f64, or of i64 held as double. Row-major.
struct Tensor {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

/// |got - want| / max(|want|, 1e-3 sqrt(elements)), Euclidean norms.
double relativeError(const Tensor &got, const Tensor &want);

/// The axes that split each dimension, and those over which a tensor is a partial sum.
struct Layout {
  std::vector<std::vector<std::string>> split;
  std::vector<std::string> partial;
};
Layout layoutOf(mlir::ArrayAttr split, mlir::ArrayAttr partial);

/// A form whose graphs hold only `llama.apply` and collectives of `shard`, f64, its blocks
/// compiled (reference lowering) and loaded. All ranks run here, in step: one op on all
/// of them, then the next.
class Ranks {
public:
  /// `module` stays as it is. Ends the process with a message if a block does not compile.
  explicit Ranks(mlir::ModuleOp module);
  ~Ranks();

  using Values = std::map<std::string, Tensor>; // by name, whole

  /// Runs @`graph` on `inputs` and `parameters`, of which every rank gets its part.
  /// Returns the outputs by name, then, under their keys, the gradients of parameters,
  /// all put together from the parts, sums formed. Ranks that should hold the same must.
  Values run(llvm::StringRef graph, const Values &inputs, const Values &parameters) const;

private:
  std::vector<int64_t> coordinates(int64_t rank) const;
  int64_t indexOn(const std::vector<std::string> &names, int64_t rank) const;
  int64_t sizeOf(const std::vector<std::string> &names) const;
  Tensor part(const Tensor &whole, const Layout &layout, int64_t rank) const;
  Tensor whole(const std::vector<Tensor> &parts, const Layout &layout, llvm::StringRef name) const;
  std::vector<Tensor> collective(mlir::Operation *op, const std::vector<Tensor> &values) const;
  void call(llvm::StringRef block, const std::vector<Tensor *> &arguments,
            std::vector<Tensor> &results) const;

  struct State;
  std::unique_ptr<State> state;
  mlir::ModuleOp module;
  llvm::SmallVector<mlir::llamac::Axis> axes;
  int64_t ranks = 1;
};

} // namespace llamac_test

#endif // LLAMAC_TEST_PARALLELIZE_RANKS_H
