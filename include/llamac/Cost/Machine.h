//===- Machine.h - What a program runs on ----------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rates for the stage partition and the simulator, and how much memory there is.
// "GPU" is what runs one rank; for the preset `cpu` it is a core of the host.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_COST_MACHINE_H
#define LLAMAC_COST_MACHINE_H

#include "llamac/Plan/Timeline.h"

#include "mlir/IR/Types.h"
#include "llvm/Support/Error.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlir::llamac {

struct Machine {
  std::string name; ///< of the preset, or the file
  int64_t gpusPerServer = 8;

  /// Dense floating-point operations per second of one GPU, by operand type.
  struct {
    double bf16, f32, f64;
  } peak;
  double memoryBandwidth;             ///< bytes per second of one GPU
  std::optional<int64_t> memoryBytes; ///< of one GPU; absent: not known, so no cap
  double launchSeconds;               ///< of one kernel, where launches are not hidden

  /// Parts of the peak that good kernels reach on large shapes.
  struct {
    double gemm = 1, attentionForward = 1, attentionBackward = 1, memory = 1;
  } efficiency;

  /// Of one GPU, in one direction; what collectives and transfers really get.
  plan::Link insideServer, betweenServers;

  /// Speed of each server, 1 is the one described above; empty: all alike.
  std::vector<double> serverSpeeds;

  /// Peak operations per second for operands of `element`, f64 for types that
  /// have no rate of their own.
  double peakOf(Type element) const;

  /// The link between two GPUs, numbered through all servers.
  const plan::Link &link(int64_t from, int64_t to) const {
    return from / gpusPerServer == to / gpusPerServer ? insideServer : betweenServers;
  }
  /// Seconds of an all-gather or reduce-scatter of `ranks` GPUs, `stride` apart: each
  /// sends its part of `bytes` (of the whole tensor) to all others. An all-reduce is
  /// one of both. Source: bus bandwidth as nccl-tests define it. Between servers a ring
  /// goes through the network cards of all members in a server: 8 with 400 Gb/s each
  /// reach what the links inside do.
  double collectiveSeconds(int64_t ranks, int64_t stride, double bytes) const {
    if (ranks == 1)
      return 0;
    const bool within = ranks * stride <= gpusPerServer;
    const int64_t together = std::clamp<int64_t>(gpusPerServer / stride, 1, ranks);
    const double rate = within ? insideServer.bytesPerSecond
                               : std::min(insideServer.bytesPerSecond,
                                          double(together) * betweenServers.bytesPerSecond);
    return (within ? insideServer : betweenServers).latency +
           bytes * double(ranks - 1) / double(ranks) / rate;
  }
  /// Speed of a GPU. Servers past the end of the list have speed 1.
  double speed(int64_t gpu) const {
    size_t server = gpu / gpusPerServer;
    return server < serverSpeeds.size() ? serverSpeeds[server] : 1;
  }
};

/// Names of machines that need no file.
llvm::ArrayRef<llvm::StringRef> machineNames();

/// The machine that a command line names: a preset or FILE.json. The file gives
/// what differs from the preset that its field `like` names (default h100-sxm):
///   {"like": "h100-sxm", "gpus_per_server": 4, "peak": {"bf16": 9.89e14},
///    "between_servers": {"latency": 5e-6, "bytes_per_second": 5e10},
///    "server_speeds": [1, 0.8]}
/// Errors are one line, `FILE: field 'x': expected ..., got ...`.
llvm::Expected<Machine> findMachine(llvm::StringRef name);

} // namespace mlir::llamac

#endif // LLAMAC_COST_MACHINE_H
