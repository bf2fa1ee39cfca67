//===- Register.h - Dialects and passes of the tools -----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TOOLS_REGISTER_H
#define LLAMAC_TOOLS_REGISTER_H

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "dialects/Routine/IR/Routine.h"
#include "llamac/Check/Passes.h"
#include "llamac/Cost/Passes.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Pipeline/Passes.h"
#include "llamac/Shard/Passes.h"
#include "llamac/Train/Passes.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"

namespace mlir::llamac {

/// Every dialect that a form of the program may use.
inline void registerToolDialects(DialectRegistry &registry) {
  registerAllDialects(registry);
  registerAllExtensions(registry);
  registry.insert<llama::LlamaDialect, dist::DistDialect, routine::RoutineDialect>();
  registerRoutineBufferization(registry);
}

/// Upstream's passes and ours, in the order of the data flow.
inline void registerToolPasses() {
  registerAllPasses();
  registerTrainPasses();
  registerCostPasses();
  registerShardPasses();
  registerPipelinePasses();
  registerLowerPasses();
  registerLowerBlocksPipeline();
  registerCheckPasses();
}

} // namespace mlir::llamac

#endif // LLAMAC_TOOLS_REGISTER_H
