//===- CountOperations.cpp - Count the operations of a step ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Parallelize/Passes.h"

#include "dialects/Llama/IR/Llama.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_COUNTOPERATIONSPASS
#include "llamac/Parallelize/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;

namespace {
struct CountOperationsPass : llamac::impl::CountOperationsPassBase<CountOperationsPass> {
  using CountOperationsPassBase::CountOperationsPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);
    OpBuilder builder(module.getContext());
    llvm::StringMap<int64_t> operationsOfBlock; // every block is counted once
    NamedAttrList counts;
    for (StringRef name : {"forward", "step"}) {
      auto graph = symbols.lookup<FuncOp>(name);
      if (!graph)
        continue;
      int64_t sum = 0;
      for (auto apply : graph.getOps<llama::ApplyOp>()) {
        auto [entry, isNew] = operationsOfBlock.try_emplace(apply.getBlock(), 0);
        if (isNew)
          symbols.lookup(apply.getBlock())->walk([&](llama::CostOpInterface op) {
            entry->second += op.countOperations();
          });
        sum += entry->second;
      }
      counts.set(name, builder.getI64IntegerAttr(microBatches * sum));
    }
    module->setAttr(kOperationsAttr, counts.getDictionary(module.getContext()));
  }
};
} // namespace
