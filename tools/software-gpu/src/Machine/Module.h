//===- Module.h - Inside of Module ---------------------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_MODULE_H
#define SGPU_MACHINE_MODULE_H

#include "Machine/Launch.h"

namespace sgpu {

struct Module::Impl {
  Impl(const Chip &chip, DeviceMemory &memory, const Options &options, Reporter &reporter)
      : chip(chip), memory(memory), options(options), reporter(reporter) {}
  std::string name;
  ptx::Module ast;
  Chip chip;
  DeviceMemory &memory;
  const Options options;
  Reporter &reporter;
  std::vector<Variable> variables; ///< by index of ast.variables; address 0: has none (.shared)
  std::map<std::string, std::unique_ptr<Program>> programs;

  /// Null if there is no such kernel. Throws Error.
  Program *program(const std::string &kernel);
  void placeVariables();
};

/// Decodes a kernel and what it calls.
std::unique_ptr<Program> decode(Module::Impl &module, uint32_t entry);

/// Runs a launch whose configuration was checked.
void execute(Launch &launch);

} // namespace sgpu

#endif
