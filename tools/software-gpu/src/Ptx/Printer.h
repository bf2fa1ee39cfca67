//===- Printer.h - A module to PTX text --------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_PTX_PRINTER_H
#define SGPU_PTX_PRINTER_H

#include "Ptx/Ast.h"

namespace sgpu::ptx {

/// PTX text that parses back to a module equal to `module`.
std::string print(const Module &module);
/// One instruction of `function` as text without guard's newline: for messages and listings.
std::string print(const Module &module, const Function &function, const Instruction &instruction);

} // namespace sgpu::ptx

#endif // SGPU_PTX_PRINTER_H
