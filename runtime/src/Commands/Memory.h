//===- Memory.h - The memory of the host -----------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A command allocates what its programs need, and nothing else. Linux gives the pages of an
// arena when they are first touched; a host that has too few would end the process in the
// middle of a step, or other processes with it: so every command asks before it begins.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_MEMORY_H
#define LLRT_COMMANDS_MEMORY_H

#include "llrt/MemoryTable.h"
#include "src/Commands/Arguments.h"
#include "src/Program/Program.h"

namespace llrt {

// The arenas that a rank of each stage has where the programs named `runs` are run.
std::vector<ArenaSizes> memoryOf(const Program &program, const std::vector<std::string> &runs);

// What this process could still take, and what says so: the smallest of
// MemAvailable of /proc/meminfo and of the limits, less what is used, of the
// control groups that it is in. `root` is put before the paths of these files.
struct HostMemory {
  int64_t bytes;
  std::string source;
};
std::optional<HostMemory> findHostMemory(const std::string &root = "");

// The option that `requireMemory` reads, and whether it says `allow`.
Option memoryOption();
bool mayExceedMemory(const Arguments &arguments);

// Throws Error if the ranks of this host need more memory than it has, to run the programs
// named `runs`.
void requireMemory(const Program &program, const Arguments &arguments,
                   const std::vector<std::string> &runs);

} // namespace llrt
#endif // LLRT_COMMANDS_MEMORY_H
