//===- Commands.h - What an executable can be asked to do ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_COMMANDS_H
#define LLRT_COMMANDS_COMMANDS_H

#include "src/Commands/Arguments.h"
#include "src/Program/Program.h"

namespace llrt {

// A command: `OUT name [options]`.
struct Command {
  std::string name;
  std::string summary;
  std::vector<Option> (*options)(const Program &);
  // Returns the exit status; throws Error or Failure.
  int (*run)(const Program &, const Arguments &);
};

// One per file; see `docs/commands/NAME.md`.
Command infoCommand();
Command stepCommand();
Command trainCommand();
Command evaluateCommand();
Command generateCommand();

// The entry of every executable. Returns the exit status: 0 done, 1 the work
// failed, 2 the command line, an input file or the machine does not fit.
int runMain(const LlrtProgram &program, int argc, char **argv);

} // namespace llrt
#endif // LLRT_COMMANDS_COMMANDS_H
