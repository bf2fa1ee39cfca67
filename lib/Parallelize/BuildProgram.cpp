//===- BuildProgram.cpp - List the actions of a step ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Parallelize/Passes.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_BUILDPROGRAMPASS
#include "llamac/Parallelize/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;

namespace {
struct BuildProgramPass : llamac::impl::BuildProgramPassBase<BuildProgramPass> {
  using BuildProgramPassBase::BuildProgramPassBase;

  void runOnOperation() override {
    if (failed(build(getOperation())))
      signalPassFailure();
  }

  LogicalResult build(ModuleOp module) {
    if (microBatches < 1)
      return module.emitError("micro-batches: expected at least 1, got ") << microBatches;
    SymbolTable symbols(module);
    auto step = symbols.lookup<func::FuncOp>("step");
    auto forward = symbols.lookup<func::FuncOp>("forward");
    for (auto [graph, name] : {std::pair(step, "step"), std::pair(forward, "forward")})
      if (!graph)
        return module.emitError("expected a training graph with a function '") << name << "'";
    bool trains = llvm::any_of(module.getOps<llama::ParameterOp>(),
                               [](llama::ParameterOp parameter) { return !parameter.getFrozen(); });
    for (StringRef name : {"gradient_norm", "adamw"})
      if (trains && !symbols.lookup<func::FuncOp>(name))
        return module.emitError("expected a block '") << name << "' that updates the parameters";

    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    Location loc = module.getLoc();
    for (func::FuncOp graph : {step, forward}) {
      OpBuilder::InsertionGuard guard(builder);
      auto program = dist::ProgramOp::create(builder, loc, graph.getName());
      builder.createBlock(&program.getBody());
      for (int64_t i = 0; i < microBatches; ++i)
        dist::RunOp::create(builder, loc, graph.getName(), i);
      if (graph == step && trains) {
        dist::GradientNormOp::create(builder, loc, "gradient_norm", ArrayAttr());
        dist::UpdateOp::create(builder, loc, "adamw", ArrayAttr());
      }
    }

    auto count = [&](func::FuncOp graph) {
      return builder.getNamedAttr(
          graph.getName(), builder.getI64IntegerAttr(microBatches * countOperations(graph, symbols)));
    };
    module->setAttr(llamac::kOperationsAttr,
                    builder.getDictionaryAttr({count(forward), count(step)}));
    return success();
  }

  /// Floating-point operations of one run of `graph`. Every block is counted once.
  int64_t countOperations(func::FuncOp graph, SymbolTable &symbols) {
    int64_t sum = 0;
    for (auto apply : graph.getOps<llama::ApplyOp>()) {
      auto [entry, isNew] = operationsOfBlock.try_emplace(apply.getBlock(), 0);
      if (isNew)
        symbols.lookup(apply.getBlock())->walk([&](llama::CostOpInterface op) {
          entry->second += op.countOperations();
        });
      sum += entry->second;
    }
    return sum;
  }

  llvm::StringMap<int64_t> operationsOfBlock;
};
} // namespace
