//===- Options.h - What the environment asks of the software GPU ---*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_SUPPORT_OPTIONS_H
#define SGPU_SUPPORT_OPTIONS_H

#include <cstdint>
#include <stdexcept>
#include <string>

namespace sgpu {

/// What a user or his program did wrong and the machine cannot go on with: bad PTX, a bad value of
/// an environment variable. The text names the place and what was expected.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The kinds of fault that the machine reports. Each has a name for SOFTWARE_GPU_CHECKS and for
/// the field "check" of a JSON line; see checkName.
enum class Check : uint8_t {
  Uninitialized, ///< memory or a register is read that was never written
  OutOfBounds,   ///< outside of every allocation, or in a redzone
  UseAfterFree,  ///< in an allocation that was freed
  Misaligned,    ///< address is not a multiple of the size of the access
  Leak,          ///< still allocated at the end of the process
  Race,          ///< two accesses, one a write, that nothing orders
  InFlight,      ///< memory or registers touched while an asynchronous operation owns them
  Proxy,         ///< generic write read by the async proxy (or the reverse) without a proxy fence
  Barrier,       ///< a barrier that part of a block never reaches, wrong counts
  Deadlock,      ///< nothing of a block (cluster) can go on
  MBarrier,      ///< phases, counts and transaction counts that cannot be
  Launch,        ///< a launch that the chip cannot take
  Stream,        ///< work in two streams on the same bytes without an order between them
  Argument,      ///< a value that an instruction or a library call may not have
  Trap,          ///< trap, brkpt, failed assert
  Strict,        ///< what the ISA forbids and compilers do all the same; only if asked for
};
constexpr unsigned numChecks = unsigned(Check::Strict) + 1;
/// Every check but Strict.
constexpr uint32_t allChecks = (1u << unsigned(Check::Strict)) - 1;

/// The name of a check: "uninitialized", "out-of-bounds", ...
const char *checkName(Check check);

/// When asynchronous work completes, within what the ISA allows.
enum class Completion : uint8_t { Late, Early, Random };

/// Everything that the environment can set. Documented in docs/software-gpu.md.
struct Options {
  int devices = 1;                          ///< SOFTWARE_GPU_DEVICES: 1 to 16
  int chip = 90;                            ///< SOFTWARE_GPU_CHIP: sm_80 or sm_90
  int driver = 13000;                       ///< SOFTWARE_GPU_DRIVER: CUDA 12.0 to 13.0, as 12040
  uint64_t memory = uint64_t(16) << 30;     ///< SOFTWARE_GPU_MEMORY: bytes per device (K, M, G)
  uint64_t seed = 1;                        ///< SOFTWARE_GPU_SEED
  Completion completion = Completion::Late; ///< SOFTWARE_GPU_COMPLETION: late, early, random
  int threads = 0;                          ///< SOFTWARE_GPU_THREADS: host threads; 0: all cores
  int resident = 0;                         ///< SOFTWARE_GPU_RESIDENT: clusters at once; 0: open
  int timeout = 300;                        ///< SOFTWARE_GPU_TIMEOUT: seconds that a rank waits
  uint32_t checks = allChecks; ///< SOFTWARE_GPU_CHECKS: all, none, race,leak,..., -race
  std::string report;          ///< SOFTWARE_GPU_REPORT: file for JSON lines
  std::string counters;        ///< SOFTWARE_GPU_COUNTERS: file for JSON lines

  std::string record; ///< SOFTWARE_GPU_RECORD: file for launches
  std::string orders; ///< SOFTWARE_GPU_ORDERS: file for names, one for each order
  std::string omit;   ///< SOFTWARE_GPU_OMIT: the name of an order that is left out

  bool enabled(Check check) const { return checks >> unsigned(check) & 1; }

  /// Reads the environment. Throws Error that names the variable, its value and what is accepted.
  static Options fromEnvironment();
};

} // namespace sgpu

#endif
