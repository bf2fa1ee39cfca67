//===- Launch.h - Recorded launches, run by themselves -------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every buffer becomes an allocation of its own, far from the others: it begins where a parameter
// points, and ends behind the last byte that the recorded launch touched before the next
// parameter's. What the launch read is there; what it only wrote nobody has written yet; what lies
// between and was not touched holds bits. Parameters whose tensors lie between each other's rows
// have one buffer: the launch strays from one to the other.
//===----------------------------------------------------------------------===//
#ifndef SGPU_MUTATE_LAUNCH_H
#define SGPU_MUTATE_LAUNCH_H

#include "Cuda/Recording.h"
#include "Machine/Machine.h"

#include <functional>
#include <optional>
#include <set>

namespace sgpu::mutate {

struct Launch {
  std::string kernel, ptx;
  int chip = 90;                               ///< that of .target
  LaunchConfig config;                         ///< grid, block, cluster, shared memory
  using Begin = std::pair<uint32_t, uint64_t>; ///< a recorded buffer, a byte of it
  struct Buffer {
    Begin begin;
    uint64_t phase = 0; ///< its address modulo 256
    std::vector<uint8_t> bytes;
    std::vector<bool> written; ///< before the launch
  };
  std::vector<Buffer> buffers;
  struct Parameter {
    uint32_t at;     ///< byte of the parameters
    uint32_t buffer; ///< that it points to
    uint64_t offset; ///< in it
  };
  std::vector<Parameter> pointers, maps; ///< maps: `offset` of the tensor

  /// Each place that a parameter points to begins a buffer of its own, but for `joined`.
  static Launch of(const Recording &recording, const RecordedLaunch &launch,
                   const std::set<Begin> &joined);

  /// Memory as a launch leaves it: of each buffer the bytes, and whether they were written.
  using Memory = std::vector<std::vector<uint8_t>>;
  struct Outcome {
    Memory memory;
    std::string check;  ///< of the first report, Check::Strict last; empty without
    std::string report; ///< as text
    bool trapped = false;
    /// The first report is of an address between two buffers of one recorded buffer: where the
    /// second begins.
    std::optional<Begin> strayed;
  };
  /// Runs it with other code, on a device of its own with all checks and Check::Strict; `told` of
  /// each fault as it comes.
  Outcome run(const std::string &code, uint64_t seed, Completion completion,
              std::function<void(const Report &)> told = {}) const;

private:
  std::vector<uint8_t> parameters;
};

} // namespace sgpu::mutate

#endif
