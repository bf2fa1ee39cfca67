//===- Run.cpp - From the command line to a command -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Commands.h"

#include "src/Commands/Ranks.h"
#include "src/Data/Error.h"
#include "src/Data/Utf8.h"

#include <csignal>
#include <filesystem>
#include <iostream>
#include <thread>

using namespace llrt;

static std::vector<Command> commands() {
  return {infoCommand(), stepCommand(), trainCommand(), evaluateCommand(), generateCommand()};
}

static std::string usage(const std::string &name) {
  std::string text = "usage: " + name + " COMMAND [--name=VALUE ...]\n\n";
  for (const Command &command : commands())
    text +=
        "  " + command.name + std::string(10 - command.name.size(), ' ') + command.summary + "\n";
  text += "\n" + name + " COMMAND --help lists the options of a command.\n\n";
  text += "All ranks of a program run in one process, or each in a process of its own:\n";
  for (const char *launcher :
       {"mpirun -n RANKS", "srun -n RANKS", "torchrun --no-python --nproc-per-node=RANKS"})
    text += std::string("  ") + launcher + " " + name + " COMMAND ...\n";
  return text + "or whatever sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.\n";
}

// Throws Error if this machine cannot run the blocks.
static void checkMachine(const LlrtProgram &compiled, const Program &program) {
  std::string missing;
  for (const std::string &feature : missingCpuFeatures(compiled.cpu_features))
    missing += (missing.empty() ? "" : ", ") + feature;
  if (!missing.empty())
    fail("this machine's CPU: expected one like ", compiled.cpu, ", got one without ", missing,
         "; compile on this machine, or for its CPU");
  checkTarget(program);
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
      std::cout << "usage: " << name << " " << command.name << " [--name=VALUE ...]\n"
                << command.summary << "\n\n"
                << arguments.helpText();
      return 0;
    }
    if (command.name != "info")
      checkMachine(compiled, program);
    return command.run(program, arguments);
  }
  fail("unknown command '", word, "'", didYouMean(word, names));
}

// Takes everything and keeps nothing.
namespace {
class NoOutput : public std::streambuf {
  int overflow(int c) override { return c == EOF ? 0 : c; }
};
} // namespace

// What to do about an error: rank 0 says it. If all processes have the same one
// (a wrong option), the launcher has ended the others before they speak.
static void report(const std::string &name, const std::string &message) {
  std::string what = replaceInvalidUtf8(message);
  if (int64_t process = Launch::process(); process > 0) {
    std::signal(SIGTERM, SIG_DFL);
    std::this_thread::sleep_for(std::chrono::seconds(2));
    std::cerr << name << ": error: rank " << process << ": " << what << "\n";
  } else {
    std::cerr << name << ": error: " << what << "\n";
  }
}

int llrt::runMain(const LlrtProgram &program, int argc, char **argv) {
  std::string name = argc > 0 ? std::filesystem::path(argv[0]).filename() : "llrt";
  NoOutput none;
  std::streambuf *standard = std::cout.rdbuf();
  if (Launch::process() > 0) // only rank 0 prints
    std::cout.rdbuf(&none);
  int status;
  try {
    status = runCommand(program, name, std::span(argv, argc).subspan(argc > 0 ? 1 : 0));
    if (!std::cout.flush())
      throw Failure("cannot write to the standard output");
  } catch (const PeerFailure &error) {
    // A launcher ends all when one ends: not before the one that has failed has spoken (`report`).
    std::signal(SIGTERM, SIG_DFL);
    std::this_thread::sleep_for(std::chrono::seconds(3));
    status = error.status;
  } catch (const Error &error) {
    report(name, error.what());
    status = 2;
  } catch (const std::exception &error) { // Failure, or out of memory
    report(name, error.what());
    status = 1;
  }
  std::cout.rdbuf(standard);
  return status;
}
