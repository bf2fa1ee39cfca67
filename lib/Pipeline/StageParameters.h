//===- StageParameters.h - The parameters that a stage has ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PIPELINE_STAGEPARAMETERS_H
#define LLAMAC_LIB_PIPELINE_STAGEPARAMETERS_H

#include "CutGraph.h"
#include "ParameterLayout.h"

#include "llvm/ADT/StringMap.h"

namespace mlir::llamac {

/// The stages that apply each parameter, by its name.
using StagesOfParameters = llvm::StringMap<SmallVector<int, 2>>;
StagesOfParameters stagesOfParameters(ArrayRef<SmallVector<func::FuncOp>> functionsOfStage);

/// Parameters that the pieces `functions` of a stage apply, in their order in the module, with
/// the axes of their gradients. Fails, with a message, if a parameter is shared by stages that
/// cannot share it.
FailureOr<SmallVector<StageParameter>> parametersOf(SymbolTable &symbols, ArrayRef<Axis> axes,
                                                    const EncoderPlacement &encoder,
                                                    ArrayRef<func::FuncOp> functions,
                                                    const StagesOfParameters &stagesOf);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_PIPELINE_STAGEPARAMETERS_H
