//===- Parser.h - PTX text to a module ---------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_PTX_PARSER_H
#define SGPU_PTX_PARSER_H

#include "Ptx/Ast.h"

namespace sgpu::ptx {

/// An error of the text.
struct Diagnostic {
  uint32_t line = 0;   ///< From 1.
  uint32_t column = 0; ///< From 1.
  std::string message; ///< What was expected and what was found.
  std::string text;    ///< The line of the PTX text.
  /// `line 12:8: message` and, indented, the text.
  std::string str() const;
};

/// Parses and checks `text` (a whole PTX file, with or without a final zero). Every opcode, modifier,
/// type and operand count is checked against the table of Opcodes.h; names must be declared. Returns
/// nothing if there were errors, which are then in `diagnostics` (at most 20 are collected).
std::optional<Module> parse(std::string_view text, std::vector<Diagnostic> &diagnostics);

} // namespace sgpu::ptx

#endif // SGPU_PTX_PARSER_H
