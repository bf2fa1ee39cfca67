//===- Memory.h - The memory of the host -----------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Pages of an arena take memory when they are first touched. A host that has too
// little would end the process in the middle of a step, or other processes with
// it; so a command that touches all of them asks before it begins.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_MEMORY_H
#define LLRT_COMMANDS_MEMORY_H

#include "llrt/MemoryTable.h"
#include "src/Commands/Arguments.h"
#include "src/Program/Program.h"

namespace llrt {

// The arenas of a rank of each stage.
std::vector<ArenaSizes> memoryOf(const Program &program);

// What this process could still take, and what says so: the smallest of
// MemAvailable of /proc/meminfo and of the limits, less what is used, of the
// control groups that it is in. `root` is put before the paths of these files.
struct HostMemory {
  int64_t bytes;
  std::string source;
};
std::optional<HostMemory> findHostMemory(const std::string &root = "");

// The option that `requireMemory` reads.
Option memoryOption();

// Throws Error if the ranks of this host need more memory than it has.
void requireMemory(const Program &program, const Arguments &arguments);

} // namespace llrt
#endif // LLRT_COMMANDS_MEMORY_H
