//===- Crossings.h - Values that pass between blocks ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Results of one block that others read, within a graph or by way of a frame, as one value:
//
//   %g, %u = apply @f(%x)                            %gu = apply @f(%x)
//   return %g {frame ["k", 0]}, %u {["k", 512]}  =>  return %gu {frame ["k", 0]}
//   (%g: {frame ["k", 0]}, %u: {["k", 512]})         (%gu: {frame ["k", 0]})
//   apply @b(%g, %u)                                 apply @b(%gu)
//
// The columns of the parts lie beside each other in it. Heads and what is in them are columns too.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CROSSINGS_H
#define LLAMAC_LIB_LOWER_CROSSINGS_H

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace mlir::llamac {

/// `type` with heads and what is in them as one dimension.
RankedTensorType withoutHeads(RankedTensorType type);

/// Results of a block, and the blocks that read them, all of them in the order of the results.
struct Crossing {
  struct Reader {
    func::FuncOp block;
    SmallVector<unsigned> arguments;
  };
  func::FuncOp producer;
  SmallVector<unsigned> results;
  SmallVector<Reader> readers;
};

/// The graphs of a module: what is read where.
class Crossings {
public:
  explicit Crossings(ModuleOp module) : module(module) { index(); }

  ArrayRef<llama::ApplyOp> applicationsOf(func::FuncOp block) const;

  /// All that read `results` of `producer`. Fails, with a reason, if they cannot be one value.
  FailureOr<Crossing> find(func::FuncOp producer, ArrayRef<unsigned> results,
                           std::string &reason) const;
  /// The block whose results are `arguments` of `reader` in all applications.
  std::optional<std::pair<func::FuncOp, SmallVector<unsigned>>>
  producerOf(func::FuncOp reader, ArrayRef<unsigned> arguments) const;

  /// Makes the results one, `whole` in the producer. `split` gets the argument that is it in a
  /// reader and has to replace the uses of the old ones.
  void join(const Crossing &crossing, Value whole,
            llvm::function_ref<void(func::FuncOp reader, Value whole, ArrayRef<Value> old)> split);

private:
  struct Site {
    func::FuncOp graph;
    unsigned index; // of an argument or a result
  };
  void index();
  StringAttr nameOf(Site site, bool isResult) const;
  LogicalResult checkFrames(ArrayRef<Value> parts, std::string &reason) const;
  void replace(ArrayRef<Value> parts, Value whole);

  ModuleOp module;
  llvm::DenseMap<Operation *, SmallVector<llama::ApplyOp>> applications;
  llvm::DenseMap<StringAttr, SmallVector<Site>> writers, readers; // by the name of what crosses
};

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CROSSINGS_H
