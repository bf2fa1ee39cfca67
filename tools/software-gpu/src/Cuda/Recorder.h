//===- Recorder.h - Writes launches to a recording -----------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_CUDA_RECORDER_H
#define SGPU_CUDA_RECORDER_H

#include "Machine/Machine.h"

#include <functional>
#include <set>
#include <string>

namespace sgpu {

/// Appends to a file (SOFTWARE_GPU_RECORD) the first launch of every kernel with every geometry, with the bytes that
/// it read, from before, and those that it wrote, from after.
class Recorder {
public:
  /// An empty name: records nothing.
  explicit Recorder(std::string file) : file(std::move(file)) {}

  /// Calls `run`, and records it if it is new and has no fault. A launch that touches variables of modules or memory of the
  /// host is left out, and told once to stderr: it cannot be repeated elsewhere. One call at a time.
  LaunchResult record(const std::string &moduleText, const KernelInfo &info,
                      const LaunchConfig &config, DeviceMemory &memory,
                      const std::function<LaunchResult()> &run);

private:
  std::string file;
  std::set<std::string> seen;
};

} // namespace sgpu

#endif
