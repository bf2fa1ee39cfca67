//===- llama-opt.cpp - Run any pass on any form of a program --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "tools/llama-opt/Register.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  mlir::llamac::registerToolDialects(registry);
  mlir::llamac::registerToolPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "llamac's pass driver\n", registry));
}
