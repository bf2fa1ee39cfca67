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
#ifdef LLAMAC_HAS_TRAIN
#include "llamac/Train/Passes.h"
#endif
#ifdef LLAMAC_HAS_PARALLELIZE
#include "llamac/Parallelize/Passes.h"
#endif
#ifdef LLAMAC_HAS_LOWER
#include "llamac/Lower/Passes.h"
#endif
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"

namespace mlir::llamac {

/// Every dialect that a form of the program may use.
inline void registerToolDialects(DialectRegistry &registry) {
  registerAllDialects(registry);
  registerAllExtensions(registry);
  registry.insert<llama::LlamaDialect, dist::DistDialect>();
#ifdef LLAMAC_HAS_LOWER
  registerKernelBufferization(registry);
#endif
}

/// Upstream's passes and ours, in the order of the data flow.
inline void registerToolPasses() {
  registerAllPasses();
#ifdef LLAMAC_HAS_TRAIN
  registerTrainPasses();
#endif
#ifdef LLAMAC_HAS_PARALLELIZE
  registerParallelizePasses();
#endif
#ifdef LLAMAC_HAS_LOWER
  registerLowerPasses();
  registerLowerBlocksPipeline();
#endif
}

} // namespace mlir::llamac

#endif // LLAMAC_TOOLS_REGISTER_H
