//===- Machine.h - Load a module, run a kernel ---------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_MACHINE_H
#define SGPU_MACHINE_MACHINE_H

#include "Machine/Counters.h"
#include "Memory/DeviceMemory.h"
#include "Support/Options.h"
#include "Support/Report.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sgpu {

struct Function; // decoded code

/// What a chip has. Source: CUDA C++ Programming Guide 13.0, table "Technical Specifications per
/// Compute Capability".
struct Chip {
  int capability; ///< 80, 90
  const char *name;
  unsigned multiprocessors;
  uint32_t sharedPerBlock;      ///< without opting in: 49,152
  uint32_t sharedPerBlockOptin; ///< 166,912 (163 KiB), 232,448 (227 KiB)
  uint32_t sharedPerSm;
  uint32_t registersPerSm; ///< 65,536, also per block
  unsigned threadsPerBlock = 1024;
  unsigned threadsPerSm = 2048;
  unsigned blocksPerSm = 32;
  unsigned clusterBlocks;                  ///< 1 before sm_90; 8, portable
  static const Chip *find(int capability); ///< null if unknown
};

/// What is known of a kernel before it runs (cuFuncGetAttribute, cuFuncGetParamInfo).
struct KernelInfo {
  std::string name;
  std::vector<uint32_t> paramOffsets, paramSizes; ///< bytes
  uint32_t paramBytes = 0;
  uint32_t staticShared = 0;
  uint32_t localBytes = 0;       ///< per thread
  uint32_t constBytes = 0;       ///< of the module
  uint32_t registers = 0;        ///< estimate: most live 32-bit registers, at most 255 and .maxnreg
  uint32_t maxThreads = 1024;    ///< .maxntid, .reqntid
  Dim3 requiredBlock{0, 0, 0};   ///< .reqntid; 0: none
  Dim3 requiredCluster{0, 0, 0}; ///< .reqnctapercluster; 0: none
  bool explicitCluster = false;  ///< .explicitcluster
  int ptxVersion = 0;            ///< 88 for 8.8
  int target = 0;                ///< 80
};

struct LaunchConfig {
  Dim3 grid, block;
  Dim3 cluster{0, 0, 0}; ///< 0: as the kernel requires, else 1 x 1 x 1
  uint32_t dynamicShared = 0;
  uint32_t maxDynamicShared = 0;   ///< set by cuFuncSetAttribute; 0: chip default 48 KiB in all
  std::vector<uint8_t> parameters; ///< as in the .param layout; paramBytes of them
  uint64_t seed = 1;
  Work work; ///< for races with other work of the device
  bool cooperative = false;
  bool counts = true; ///< whether LaunchResult::counters are wanted
};

enum class LaunchStatus {
  Ok,
  InvalidConfiguration, ///< reported as Check::Launch; nothing ran (CUDA_ERROR_INVALID_VALUE)
  OutOfResources,       ///< the same (CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)
  Faulted, ///< ran; out of bounds, misaligned, trap or deadlock (CUDA_ERROR_LAUNCH_FAILED ...)
};

struct LaunchResult {
  LaunchStatus status = LaunchStatus::Ok;
  Check fault = Check::Trap; ///< with Faulted: the first fault that stops a real device
  Counters counters;
};

/// A module on one device: variables have addresses, kernels are decoded when first used.
class Module {
public:
  /// Parses and loads PTX text. `name` goes into messages. Throws Error: with line, text and what was expected;
  /// also if the module needs a newer chip.
  static std::unique_ptr<Module> load(std::string_view text, std::string name, const Chip &chip,
                                      DeviceMemory &memory, const Options &options,
                                      Reporter &reporter);
  ~Module(); ///< frees its variables

  /// Null if there is no such kernel. Throws Error if it cannot be decoded.
  const KernelInfo *kernel(const std::string &name);
  std::vector<std::string> kernels() const;
  struct Variable {
    uint64_t address = 0, bytes = 0;
  };
  /// A .global or .const variable; null if there is none.
  const Variable *variable(const std::string &name) const;

  /// Whether the chip and the kernel allow a launch; if not, it is reported.
  LaunchStatus check(const std::string &kernel, const LaunchConfig &config);
  /// Runs a kernel to its end, after the same check. One launch at a time per device.
  LaunchResult run(const std::string &kernel, const LaunchConfig &config);

  struct Impl; ///< Module.h

private:
  std::unique_ptr<Impl> impl;
  Module();
};

} // namespace sgpu

#endif
