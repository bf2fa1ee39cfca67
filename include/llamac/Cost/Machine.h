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

#include "llamac/Plan/Network.h"

#include "mlir/IR/Types.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <optional>
#include <string>

namespace mlir::llamac {

struct Machine : plan::Network {
  std::string name; ///< of the preset, or the file

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

  /// Peak operations per second for operands of `element`, f64 for types that
  /// have no rate of their own.
  double peakOf(Type element) const;
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
