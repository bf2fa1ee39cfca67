//===- llama-lsp-server.cpp - Editor support for all forms ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Speaks the language server protocol on standard input and output: definitions,
// uses, types and diagnostics of .mlir files, in any editor with an MLIR plug-in.
//
//===----------------------------------------------------------------------===//
#include "tools/llama-opt/Register.h"

#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::llamac::registerToolDialects(registry);
  return failed(mlir::MlirLspServerMain(argc, argv, registry));
}
