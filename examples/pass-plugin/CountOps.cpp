//===- CountOps.cpp - A pass in a file of its own -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A pass that llama-opt loads at run time:
//
//   llama-opt train.mlir --load-pass-plugin=build/lib/example-pass-plugin.so \
//     --pass-pipeline='builtin.module(example-count-ops)' -o /dev/null
//
// prints a remark at every block: its ops, and what they cost. It asks the ops through
// their interface, so ops that are added later are counted without a change here.
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Tools/Plugins/PassPlugin.h"
#include "llvm/Config/llvm-config.h"

using namespace mlir;

namespace {

struct CountOpsPass : PassWrapper<CountOpsPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CountOpsPass)

  StringRef getArgument() const final { return "example-count-ops"; }
  StringRef getDescription() const final { return "Print the ops and operations of every block"; }

  void runOnOperation() final {
    markAllAnalysesPreserved();
    for (auto block : getOperation().getOps<func::FuncOp>()) {
      if (!block->hasAttr(llama::kBlockAttr))
        continue;
      int64_t ops = 0, operations = 0;
      block.walk([&](llama::CostOpInterface op) {
        ++ops;
        operations += op.countOperations();
      });
      block.emitRemark() << "'" << block.getName() << "': " << ops << " ops, " << operations
                         << " operations";
    }
  }
};

} // namespace

extern "C" PassPluginLibraryInfo LLVM_ATTRIBUTE_WEAK mlirGetPassPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "example-pass-plugin", LLVM_VERSION_STRING,
          [] { PassRegistration<CountOpsPass>(); }};
}
