//===- Counters.h - What a launch did, counted exactly -------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_COUNTERS_H
#define SGPU_MACHINE_COUNTERS_H

#include <cstdint>
#include <map>
#include <string>

namespace sgpu {

/// Of one instruction.
struct Counts {
  uint64_t executions = 0;      ///< by a warp (or a part of one that runs together)
  uint64_t lanes = 0;           ///< executions times active lanes
  uint64_t requests = 0;        ///< accesses to global memory, one for each executing warp
  uint64_t bytes = 0;           ///< moved by them, lanes times size
  uint64_t sectors = 0;         ///< distinct aligned pieces of 32 bytes that they touch
  uint64_t sharedRequests = 0;  ///< accesses to shared memory
  uint64_t wavefronts = 0;      ///< passes that they take: see Warp::countShared
  uint64_t idealWavefronts = 0; ///< passes that their size needs at least
  uint64_t tensorOps = 0;       ///< multiply-adds of tensor cores

  void add(const Counts &other);
};

/// Of one PTX line of one kernel.
struct LineCounters : Counts {
  std::string opcode; ///< with its modifiers
};

/// Of one launch, or summed over the launches of a kernel.
struct Counters {
  std::string kernel;
  uint64_t launches = 0;
  uint64_t blocks = 0;
  uint64_t barriers = 0; ///< bar.sync, bar.red, barrier.cluster and mbarrier phases completed
  std::map<uint32_t, LineCounters> lines; ///< by PTX line

  void add(const Counters &other);
  /// Sum over the lines.
  Counts total() const;
  /// One line: {"kernel":..., "launches":..., "totals":{...}, "opcodes":{"add.s32":n,...},
  /// "lines":[{"line":..., "opcode":..., ...}]}.
  std::string toJson() const;
};

} // namespace sgpu

#endif
