//===- Commands.h - What an executable can be asked to do ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_COMMANDS_H
#define LLRT_COMMANDS_COMMANDS_H

#include "src/Commands/Arguments.h"
#include "src/Machine/Program.h"

#include <stdexcept>

namespace llrt {

// The work failed though the input was right (a disk is full, the loss is not a
// number): exit status 1. `Error` (input or command line): exit status 2.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

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

// The option --threads and its value. `spare`: threads the command needs
// itself.
Option threadsOption(int64_t spare = 0);
int64_t threads(const Arguments &arguments);

// The entry of every executable. Returns the exit status: 0 done, 1 the work
// failed, 2 the command line, an input file or the machine does not fit.
int runMain(const LlrtProgram &program, int argc, char **argv);

} // namespace llrt
#endif // LLRT_COMMANDS_COMMANDS_H
