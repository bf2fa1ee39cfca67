//===- CountOperations.cpp - Count the operations of a step ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A step has more than 2^63 operations, so they are counted in 128 bits. Bytes and elements
// are counted in 64 bits everywhere: a step for which that is too little is refused here.
//
//===----------------------------------------------------------------------===//
#include "llamac/Cost/Passes.h"

#include "dialects/Llama/IR/Llama.h"
#include "llamac/Import/Count.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_COUNTOPERATIONSPASS
#include "llamac/Cost/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;

/// With so few bytes, all values of a step and all state together, every sum of bytes and of
/// elements that later passes form is a number of 64 bits.
static constexpr Count kMostBytes = Count(1) << 62;
/// More than any type has, and than weights, master, gradient, moments and their shards.
static constexpr int64_t kBytesOfElement = 8, kBytesOfParameter = 64;

static Count elementsOf(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  Count elements = tensor ? 1 : 0;
  for (int64_t size : tensor ? tensor.getShape() : ArrayRef<int64_t>())
    if (!ShapedType::isDynamic(size) && elements < kMostBytes)
      elements *= size;
  return elements;
}

namespace {
struct CountOperationsPass : llamac::impl::CountOperationsPassBase<CountOperationsPass> {
  using CountOperationsPassBase::CountOperationsPassBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);
    OpBuilder builder(module.getContext());
    struct Counts {
      Count operations = 0, bytes = 0;
    };
    llvm::StringMap<Counts> countsOfBlock; // every block is counted once
    NamedAttrList counts;
    Count bytes = 0;
    bool tooMany = false;
    for (auto parameter : module.getOps<llama::ParameterOp>())
      bytes += kBytesOfParameter * elementsOf(parameter.getTensorType());
    for (StringRef name : {"forward", "step"}) {
      auto graph = symbols.lookup<FuncOp>(name);
      if (!graph)
        continue;
      Count sum = 0;
      for (auto apply : graph.getOps<llama::ApplyOp>()) {
        auto [entry, isNew] = countsOfBlock.try_emplace(apply.getBlock());
        Counts &of = entry->second;
        if (isNew)
          symbols.lookup(apply.getBlock())->walk([&](Operation *op) {
            if (auto cost = dyn_cast<llama::CostOpInterface>(op)) {
              int64_t operations = cost.countOperations();
              tooMany |= operations == INT64_MAX;
              of.operations += operations;
            }
            for (Type type : op->getResultTypes())
              of.bytes += kBytesOfElement * elementsOf(type);
          });
        sum += of.operations;
        bytes += microBatches * of.bytes;
      }
      counts.set(name, countAttr(builder, microBatches * sum));
    }
    if (tooMany) {
      module.emitError("--batch, --text-length, --images: expected ops of less than 2^63 "
                       "operations");
      return signalPassFailure();
    }
    if (bytes > kMostBytes) {
      module.emitError("--batch, --text-length, --images, --micro-batches: expected values of a "
                       "step of less than 2^62 bytes, got ")
          << countText(bytes);
      return signalPassFailure();
    }
    module->setAttr(kOperationsAttr, counts.getDictionary(module.getContext()));
  }
};
} // namespace
