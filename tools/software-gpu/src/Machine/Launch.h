//===- Launch.h - What the blocks of a launch share ----------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_LAUNCH_H
#define SGPU_MACHINE_LAUNCH_H

#include "Machine/Function.h"
#include "Machine/Machine.h"

#include <array>
#include <atomic>
#include <mutex>
#include <unordered_map>

namespace sgpu {

/// A kernel with all that it can call, decoded. Shared variables have offsets for this kernel.
struct Program {
  KernelInfo info;
  std::vector<std::unique_ptr<Function>>
      functions; ///< by index in ptx::Module::functions; null: not reached
  Function *entry = nullptr;
  uint32_t sharedEnd = 0;    ///< static variables end here (offset)
  uint32_t dynamicStart = 0; ///< offset of .extern .shared arrays
  struct SharedVariable {
    std::string name;
    uint32_t offset, bytes;
  };
  std::vector<SharedVariable> sharedVariables;
  bool communicates = false; ///< has strong accesses or atomics on global memory: blocks may depend
  ///< on each other, so they run on one host thread, in an order of the seed
};

/// Functions have "addresses", for indirect calls.
constexpr uint64_t functionWindow = uint64_t(5) << 56;

struct Launch {
  Program &program;
  const LaunchConfig &config;
  const Chip &chip;
  const Options &options;
  DeviceMemory &memory;
  Reporter &reporter;
  std::string kernel;
  Dim3 cluster; ///< blocks in each direction, at least 1
  unsigned warpsPerBlock = 1;
  uint32_t sharedEnd = 0;
  Random random;
  std::atomic<bool> stop{false};          ///< a fault that ends the launch
  std::mutex mutex{};                     ///< of what follows
  bool checkRaces = true, strict = false; ///< Check::Strict
  bool faulted = false;
  Check fault = Check::Trap;
  Counters counters{};
  std::vector<std::string> output{}; ///< of vprintf

  /// What strong writes published, by address of global memory.
  struct Published {
    std::mutex mutex;
    std::unordered_map<uint64_t, Released> at;
  };
  std::array<Published, 64> published{};
  Published &publishedAt(uint64_t address) { return published[address / 16 % 64]; }

  /// Notes a fault that a real device would stop at.
  void fail(Check check);
};

/// What one host thread keeps while it runs blocks of a launch.
struct Worker {
  Launch &launch;
  std::vector<std::vector<Counts>> counts; ///< by function, instruction
  uint64_t events = 0;                     ///< stores, atomics, barriers: signs of life
  uint64_t barriers = 0;
};

/// The index of a block from its number (Block::linear).
Dim3 blockIndex(const Launch &launch, uint64_t linear);

} // namespace sgpu

#endif
