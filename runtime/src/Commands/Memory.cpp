//===- Memory.cpp - The memory of the host --------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Memory.h"

#include "src/Control/Launch.h"
#include "src/Data/Error.h"
#include "src/Device/Device.h"

#include <fstream>
#include <sstream>

using namespace llrt;

std::vector<ArenaSizes> llrt::memoryOf(const Program &program,
                                       const std::vector<std::string> &runs) {
  std::vector<ArenaSizes> stages;
  for (size_t stage = 0; stage < program.stages.size(); ++stage)
    stages.push_back(memoryOf(program, stage, runs));
  return stages;
}

// The number that a file holds; nothing if it is not there or says `max`.
static std::optional<int64_t> numberIn(const std::string &path) {
  std::ifstream file(path);
  int64_t number;
  if (file >> number)
    return number;
  return std::nullopt;
}

// Of the file `memory.stat` of a control group: what can be given back.
static int64_t reclaimable(const std::string &path) {
  std::ifstream file(path);
  std::string name;
  int64_t bytes, sum = 0;
  while (file >> name >> bytes)
    if (name == "inactive_file" || name == "total_inactive_file")
      sum = bytes;
  return sum;
}

std::optional<HostMemory> llrt::findHostMemory(const std::string &root) {
  std::optional<HostMemory> least;
  auto note = [&](int64_t bytes, const std::string &source) {
    if (!least || bytes < least->bytes)
      least = {std::max<int64_t>(0, bytes), source};
  };
  std::ifstream meminfo(root + "/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    std::istringstream words(line);
    std::string name;
    int64_t kibibytes;
    if (words >> name >> kibibytes && name == "MemAvailable:")
      note(kibibytes * 1024, "MemAvailable");
  }
  // `0::/a/b` of cgroup 2, `4:memory:/a/b` of cgroup 1. A group is bounded by those
  // above it; in a container its own may be mounted at the top.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos)
      continue;
    std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && ("," + controllers + ",").find(",memory,") == std::string::npos)
      continue;
    const std::string top = root + (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    const char *limitName = unified ? "/memory.max" : "/memory.limit_in_bytes";
    const char *usageName = unified ? "/memory.current" : "/memory.usage_in_bytes";
    for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
      if (path == "/")
        path.clear();
      std::string folder = top + path;
      std::optional<int64_t> limit = numberIn(folder + limitName);
      if (limit && *limit < INT64_MAX / 2)
        note(*limit - numberIn(folder + usageName).value_or(0) +
                 reclaimable(folder + "/memory.stat"),
             "the limit of the control group " + (path.empty() ? "/" : path));
      if (path.empty() || path.rfind('/') == std::string::npos)
        break;
    }
  }
  return least;
}

Option llrt::memoryOption() {
  return {"over-memory", "refuse|allow", "refuse",
          "Whether to begin where the host (or the GPU) has less memory than is needed."};
}

bool llrt::mayExceedMemory(const Arguments &arguments) {
  return arguments.choice("over-memory", {"refuse", "allow"}) == "allow";
}

void llrt::requireMemory(const Program &program, const Arguments &arguments,
                         const std::vector<std::string> &runs) {
  if (mayExceedMemory(arguments) || program.device) // there the arenas are elsewhere
    return;
  std::optional<HostMemory> host = findHostMemory();
  if (!host)
    return;
  // The ranks of this host: all, or those that the launcher put here, which follow
  // each other unless it was told otherwise.
  Launch launch = Launch::find(program.grid.ranks());
  int64_t begin = 0, end = program.grid.ranks();
  if (launch.processes()) {
    begin = launch.rank / launch.localSize * launch.localSize;
    end = std::min(end, begin + launch.localSize);
  }
  std::vector<ArenaSizes> stages = memoryOf(program, runs);
  int64_t needed = 0;
  for (int64_t rank = begin; rank < end; ++rank)
    needed += totalBytes(stages[program.stageOf(rank)]);
  if (needed > host->bytes)
    fail("memory: expected ", gigabytes(needed), " GB for the ",
         end - begin == 1 ? "rank" : std::to_string(end - begin) + " ranks", " on this host, got ",
         gigabytes(host->bytes), " GB (", host->source,
         "); --over-memory=allow begins all the same");
}
