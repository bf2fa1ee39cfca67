//===- Run.cpp - From the command line to a command -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Commands.h"

#include "src/Data/Error.h"

#include <filesystem>
#include <iostream>
#include <sched.h>

using namespace llrt;

// The cores that this process may use.
static int64_t availableCores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

Option llrt::threadsOption(int64_t spare) {
  return {"threads", "N",
          std::to_string(std::max<int64_t>(1, availableCores() - spare)),
          "Threads that compute."};
}

int64_t llrt::threads(const Arguments &arguments) {
  constexpr int64_t most = 4096; // more than OpenMP can start on any machine
  int64_t count = arguments.integer("threads", 1);
  if (count > most)
    fail("option '--threads': expected at most ", most, ", got ", count);
  return count;
}

static std::vector<Command> commands() {
  return {infoCommand(), stepCommand(), trainCommand(), evaluateCommand(),
          generateCommand()};
}

static std::string usage(const std::string &name) {
  std::string text = "usage: " + name + " COMMAND [--name=VALUE ...]\n\n";
  for (const Command &command : commands())
    text += "  " + command.name + std::string(10 - command.name.size(), ' ') +
            command.summary + "\n";
  return text + "\n" + name +
         " COMMAND --help lists the options of a command.\n";
}

// Throws Error if this machine cannot run the blocks.
static void checkMachine(const LlrtProgram &compiled, const Program &program) {
  std::string missing;
  for (const std::string &feature : missingCpuFeatures(compiled.cpu_features))
    missing += (missing.empty() ? "" : ", ") + feature;
  if (!missing.empty())
    fail("this machine's CPU: expected one like ", compiled.cpu,
         ", got one without ", missing,
         "; compile on this machine, or for its CPU");
  LlrtType type = program.precision == "f64"    ? LLRT_F64
                  : program.precision == "bf16" ? LLRT_BF16
                                                : LLRT_F32;
  // Only f64's reference code calls a library for matrix products.
  if (type == LLRT_F64 || program.options.value("lower", "") == "fast")
    if (const char *cause = llrt_host_library_error(type))
      throw Error(cause);
}

static int runCommand(const LlrtProgram &compiled, const std::string &name,
                      std::span<char *const> words) {
  if (words.empty()) {
    std::cerr << usage(name);
    return 2;
  }
  std::string word = words[0];
  if (word == "--help") {
    std::cout << usage(name);
    return 0;
  }
  Program program = Program::parse(compiled);
  if (word == "--version") {
    std::cout << "llrt 1, program " << program.model.hash << "\n";
    return 0;
  }
  std::vector<std::string> names = {"--help", "--version"};
  for (const Command &command : commands()) {
    names.push_back(command.name);
    if (command.name != word)
      continue;
    Arguments arguments(command.options(program), words.subspan(1));
    if (arguments.helpAsked()) {
      std::cout << "usage: " << name << " " << command.name
                << " [--name=VALUE ...]\n"
                << command.summary << "\n\n"
                << arguments.helpText();
      return 0;
    }
    if (command.name != "info")
      checkMachine(compiled, program);
    return command.run(program, arguments);
  }
  fail("unknown command '", word, "', the nearest is '", nearest(word, names),
       "'");
}

int llrt::runMain(const LlrtProgram &program, int argc, char **argv) {
  std::string name =
      argc > 0 ? std::filesystem::path(argv[0]).filename() : "llrt";
  int status;
  try {
    status = runCommand(program, name,
                        std::span(argv, argc).subspan(argc > 0 ? 1 : 0));
    if (!std::cout.flush())
      throw Failure("cannot write to the standard output");
  } catch (const Error &error) {
    std::cerr << name << ": error: " << error.what() << "\n";
    status = 2;
  } catch (const std::exception &error) { // Failure, or out of memory
    std::cerr << name << ": error: " << error.what() << "\n";
    status = 1;
  }
  return status;
}
