//===- RaceShadow.h - Last accesses of every byte ------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MEMORY_RACESHADOW_H
#define SGPU_MEMORY_RACESHADOW_H

#include "Memory/Clocks.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace sgpu {

enum class Scope : uint8_t { Weak, Cta, Cluster, Gpu, Sys }; ///< Weak: an ordinary access
enum class Proxy : uint8_t { Generic, Async };

/// Work of a device on its memory: a kernel launch, a copy, a library call. Ids increase; 0 is no
/// work: always ordered.
struct Work {
  uint32_t id = 0;
  /// Whether work `earlier` is complete before this one starts, by stream order, events or
  /// synchronisation of the host. Empty: always.
  std::function<bool(uint32_t earlier)> ordered;
  /// What work `id` was, for messages: "launch of kernel k in stream 2".
  std::function<std::string(uint32_t id)> name;
};

/// One access of one agent (or of lanes of a warp that know the same), as the race check sees it.
struct Access {
  const AgentClock *agent = nullptr; ///< null: work of the host or of a library, as a whole
  uint32_t lanes = 0;                ///< of the agent's group; 0: only the agent's
  const Work *work = nullptr;        ///< null in memory that no other work sees (shared memory)
  uint32_t site = 0;                 ///< line of the PTX text, at most 2^24 - 1
  Scope scope = Scope::Weak;
  Proxy proxy = Proxy::Generic;
  bool write = false;
  uint32_t warpsPerCta = 1, ctasPerCluster = 1; ///< to know from a warp its block, for scopes
  /// What the agent knows of groups of lanes, looked up once. Cells side by side have few writers.
  class Rows {
  public:
    struct Row {
      uint64_t group = ~uint64_t(0);
      const uint32_t *times = nullptr;
      const uint32_t *proxyTimes = nullptr; ///< of accesses by the async proxy
      uint32_t used = 0;
      uint32_t least = 0; ///< every lane is known up to this; found out for rows used often
    };
    const Row &find(const AgentClock &agent, Proxy proxy, uint64_t group) {
      Row &r = rows[group >> 2 & 3];
      bool async = proxy == Proxy::Async;
      auto rowOf = [&](const ClockRef &clock) { return clock ? clock->row(group) : nullptr; };
      if (r.group != group)
        r = {group, rowOf(agent.known.all), async ? rowOf(agent.known.proxy) : nullptr, 0, 0};
      if (++r.used == 4 && r.times && (!async || r.proxyTimes)) {
        uint32_t least = ~0u;
        for (unsigned lane = 0; lane < 32; ++lane)
          least = std::min(least, r.times[lane]);
        for (unsigned lane = 0; lane < 32 && async; ++lane)
          least = std::min(least, r.proxyTimes[lane]);
        r.least = least;
      }
      return r;
    }
    /// Whether every lane of a group is known up to `time`, as far as was found out.
    bool knows(uint64_t group, uint32_t time) const {
      const Row &r = rows[group >> 2 & 3];
      return r.group == group && time <= r.least;
    }

  private:
    Row rows[4];
  };
  mutable Rows rows;
};

/// The other side of a race.
struct Conflict {
  Epoch epoch;
  uint32_t work = 0;
  uint32_t site = 0;
  bool write = false;
  bool proxyOnly = false; ///< ordered, but not across the proxies
  uint64_t offset = 0;    ///< first byte in conflict
};

/// Shadow of a range of bytes, in cells of 4 bytes that split into bytes where accesses are smaller.
/// Memory comes from the system when touched.
class RaceShadow {
public:
  RaceShadow(uint64_t bytes, bool threadSafe);
  ~RaceShadow();
  RaceShadow(const RaceShadow &) = delete;
  RaceShadow &operator=(const RaceShadow &) = delete;

  /// Records an access to [offset, offset + bytes). Returns true and fills `conflict` if it is in
  /// conflict with an earlier one. `sameValue`: a write leaves the bytes as they are, which is not
  /// in conflict with other writes.
  bool access(uint64_t offset, uint64_t bytes, const Access &access, bool sameValue,
              Conflict &conflict);
  /// Forgets all accesses to the range (allocation made or freed, mbarrier invalidated).
  void forget(uint64_t offset, uint64_t bytes);

private:
  struct Cell;
  struct Reader;
  class QuickRead;
  struct Stripe {
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
    std::unordered_map<const Cell *, std::vector<Reader>> readers; // more than the one in the cell
  };
  static constexpr unsigned numStripes = 256;
  static constexpr unsigned stripeShift = 12; // bytes of one stripe side by side
  bool accessCell(Stripe &stripe, Cell &cell, const Access &access, bool sameValue,
                  Conflict &conflict);
  void split(Stripe &stripe, uint64_t cell);
  static bool conflicts(const Reader &earlier, const Access &now, bool strongAllowed);

  uint64_t bytes, mapped = 0;
  bool threadSafe;
  Cell *cells = nullptr;     // one for 4 bytes
  Cell *byteCells = nullptr; // one for each byte
  std::unique_ptr<Stripe[]> stripes;
};

} // namespace sgpu

#endif
