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
#include <span>
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
  /// What the agent knows of groups of lanes and of earlier work, looked up once: cells side by side
  /// have few writers.
  class Found {
  public:
    struct Row {
      uint64_t group = ~uint64_t(0);
      const uint32_t *times = nullptr;
      const uint32_t *proxyTimes = nullptr; ///< of accesses by the async proxy
      uint32_t least = 0;                   ///< every lane is known up to this
      bool hasLeast = false;
    };
    Row &row(const AgentClock &agent, Proxy proxy, uint64_t group) {
      Row &r = rows[(group >> 2 & 3) + (group & 3 ? 4 : 0)]; // four warps, and what they started
      auto rowOf = [&](const ClockRef &clock) { return clock ? clock->row(group) : nullptr; };
      if (r.group != group)
        r = {group, rowOf(agent.known.all),
             proxy == Proxy::Async ? rowOf(agent.known.proxy) : nullptr, 0, false};
      return r;
    }
    /// Every lane of the group is known up to this time.
    uint32_t least(const AgentClock &agent, Proxy proxy, uint64_t group) {
      Row &r = row(agent, proxy, group);
      if (!r.hasLeast) {
        bool async = proxy == Proxy::Async;
        r.hasLeast = true;
        if (r.times && (!async || r.proxyTimes)) {
          r.least = ~0u;
          for (unsigned lane = 0; lane < 32; ++lane)
            r.least = std::min(r.least, r.times[lane]);
          for (unsigned lane = 0; lane < 32 && async; ++lane)
            r.least = std::min(r.least, r.proxyTimes[lane]);
        }
      }
      return r.least;
    }
    /// Whether work `earlier`, another one than `now`, comes before it.
    bool before(const Work &now, uint32_t earlier) {
      if (!earlier || !now.ordered || earlier == ordered)
        return true;
      if (!now.ordered(earlier))
        return false;
      ordered = earlier;
      return true;
    }

  private:
    Row rows[8];
    uint32_t ordered = 0; ///< looked up last
  };
  mutable Found found;
};

/// The other side of a race.
struct Conflict {
  Epoch epoch;
  uint32_t work = 0;
  uint32_t site = 0;
  bool write = false;
  bool proxyOnly = false; ///< ordered, but not across the proxies
  bool sameValue = false; ///< both write, and the bytes stay as they are: nobody can tell
  uint64_t offset = 0;    ///< first byte in conflict
};

struct ByteRange {
  uint32_t offset, bytes;
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
  /// conflict with an earlier one. `sameValue`: a write leaves the bytes as they are; a conflict with
  /// another write (Conflict::sameValue) is told only if there is none of another kind.
  bool access(uint64_t offset, uint64_t bytes, const Access &access, bool sameValue,
              Conflict &conflict);
  /// The same for ranges one after the other, as long as there is nothing to tell and little to look at: returns how
  /// many it has done. The caller goes on with `access`. Not thread-safe.
  size_t accessRanges(std::span<const ByteRange> ranges, const Access &access);
  /// Records an access of `count` lanes of one warp that know the same, side by side in memory: the lane
  /// of `access` accesses `size` bytes at `offset`, the next one those behind, and so on. False if
  /// something has to be looked at lane by lane: then the caller calls `access` for each, and nothing
  /// is lost or told twice.
  bool accessLanes(uint64_t offset, uint64_t size, unsigned count, const Access &access);
  /// Forgets all accesses to the range (allocation made or freed, mbarrier invalidated).
  void forget(uint64_t offset, uint64_t bytes);

private:
  struct Line;
  struct Cell;
  struct Reader;
  struct Quick;
  struct Spares;
  struct Stripe {
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
    std::unordered_map<uint64_t, std::vector<Reader>>
        readers; // by Cell::key: more than the one there
  };
  static constexpr unsigned numStripes = 256;
  static constexpr unsigned stripeShift = 12; // bytes of one stripe side by side
  Cell wordCell(uint64_t index) const;
  Cell byteCell(uint64_t offset) const;
  Stripe &lock(uint64_t offset);
  void unlock(Stripe &stripe);
  bool accessCell(Stripe &stripe, Cell cell, const Access &access, bool sameValue,
                  Conflict &conflict);
  void split(Stripe &stripe, uint64_t cell);
  static bool conflicts(const Reader &earlier, const Access &now, bool strongAllowed);
  static bool quickLine(Line &line, uint32_t cells, Quick &quick, unsigned shift, uint32_t lane);
  uint64_t quickRange(Quick &quick, uint64_t at, uint64_t end) const;

  uint64_t bytes, mapped = 0;
  bool threadSafe;
  bool hasSplit = false;     // some cells are split; only where it is not thread-safe
  Line *words = nullptr;     // a cell for 4 bytes
  Line *byteLines = nullptr; // a cell for each byte
  std::unique_ptr<Stripe[]> stripes;
};

} // namespace sgpu

#endif
