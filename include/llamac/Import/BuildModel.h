//===- BuildModel.h - Model description to model graph ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_IMPORT_BUILDMODEL_H
#define LLAMAC_IMPORT_BUILDMODEL_H

#include "llamac/Import/ModelConfig.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace mlir::llamac {

/// Builds the model graph: `llama.parameter` ops under their checkpoint keys,
/// one block per kind of layer, and `@model` that applies them. Everything is
/// f32; samples, text tokens and images are unknown dimensions.
/// Without images a vision model is its text layers: the encoder is left out, and so are
/// cross-attention layers, which change nothing where no image is.
/// Loads the dialects it needs into `context`.
OwningOpRef<ModuleOp> buildModel(const ModelConfig &config, MLIRContext *context,
                                 bool withImages = true);

} // namespace mlir::llamac

#endif // LLAMAC_IMPORT_BUILDMODEL_H
