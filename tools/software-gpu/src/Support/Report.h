//===- Report.h - Faults, in one shape -----------------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_SUPPORT_REPORT_H
#define SGPU_SUPPORT_REPORT_H

#include "Support/Options.h"

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

namespace sgpu {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t(x) * y * z; }
  bool operator==(const Dim3 &) const = default;
};

/// Where something happened: in a kernel (line > 0), or in a call of the host (kernel empty, call
/// set: "cuMemcpyDtoHAsync"), or in a rank of libnccl (rank set).
struct Place {
  std::string kernel;
  std::string call;
  std::string rank{}; ///< "rank 1 (process 17, device 0)"
  int line = 0;       ///< line of the PTX text, 1 is the first
  std::string text;   ///< the instruction as text, may be empty
  std::string source; ///< "file:line" from .loc, empty without
  Dim3 block{0, 0, 0};
  Dim3 thread{0, 0, 0};
  std::string what; ///< "store of 4 bytes", "cp.async.bulk"; may be empty
};

/// One fault. Text form:
///   software-gpu: race: <message>
///     at kernel k (PTX line 12, x.cu:3), block (0,0,0), thread (5,0,0): st.shared.f32 ...
///     address 0x..., 16 bytes into allocation #3 of 1024 bytes, made by cuMemAlloc
///     other: kernel k (PTX line 10, ...), block ..., thread ...
///     seed 1
struct Report {
  Check check = Check::Argument;
  std::string message{}; ///< lower case, no full stop: rule, wanted and found value
  Place place{};
  bool hasAddress = false;
  uint64_t address = 0;
  std::string
      memory{}; ///< what lies at the address: "shared memory of the block, byte 16", "allocation #3 ..."
  std::vector<Place>
      others{}; ///< the other side(s): of a race, of an operation in flight, who waits for what
};

/// Collects the faults of a process (or of one test). Thread-safe.
/// A fault does not stop the run. At most `limit` faults of one check at one place (kernel and PTX
/// line, or call) are printed; the others are counted, and the counts printed by `finish`.
class Reporter {
public:
  /// `text`: print the text form to stderr.
  Reporter(const Options &options, bool text);
  void add(Report report);
  /// All faults kept so far (those printed), oldest first.
  std::vector<Report> reports() const;
  /// Number of faults of a check, those not printed included.
  uint64_t count(Check check) const;
  uint64_t total() const;
  void clear();
  /// Prints how many faults there were, if any. Returns the exit status of the process: 0 without
  /// faults, else `faultStatus`.
  int finish();
  static constexpr int faultStatus = 86;
  static constexpr unsigned limit = 4;
  /// Told of every fault as it comes, if set; asks this reporter nothing.
  std::function<void(const Report &)> listener;
  bool enabled(Check check) const { return options.enabled(check); }

  static std::string toText(const Report &report, uint64_t seed);
  static std::string toJson(const Report &report, uint64_t seed); ///< one line, no newline

private:
  const Options options;
  const bool text;
  mutable std::mutex mutex;
  std::vector<Report> kept;
  std::map<std::tuple<Check, std::string, int>, uint64_t> seen;
  std::array<uint64_t, numChecks> counts{};
};

} // namespace sgpu

#endif
