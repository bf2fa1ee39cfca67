//===- Measure.h - What a training graph costs, for a plan ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PIPELINE_MEASURE_H
#define LLAMAC_LIB_PIPELINE_MEASURE_H

#include "llamac/Cost/Machine.h"
#include "llamac/Plan/Plan.h"

#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// Costs of the graph @step of one rank, whose shapes are static: its chain (findChain), the
/// key/value side that each link reads, the encoder. Fails after a message.
FailureOr<plan::ModelCosts> measure(ModuleOp module, const Machine &machine);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_PIPELINE_MEASURE_H
