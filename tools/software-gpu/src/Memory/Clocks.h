//===- Clocks.h - What happened before what ------------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Vector clocks with shared, immutable parts: after a barrier all threads of a block know the same,
// so they share one clock. An agent is a thread of a launch, or an asynchronous operation that a
// thread issued (cp.async, bulk copy, wgmma): those run beside the thread, so they have a time of
// their own. Source of the method: Flanagan and Freund, "FastTrack", PLDI 2009.
//===----------------------------------------------------------------------===//
#ifndef SGPU_MEMORY_CLOCKS_H
#define SGPU_MEMORY_CLOCKS_H

#include <cstdint>
#include <memory>
#include <vector>

namespace sgpu {

/// What a thread does beside its own instructions. Operations of one kind and thread have
/// increasing times in the order of issue.
enum class AgentKind : uint8_t { Thread, AsyncCopy, Bulk, Wgmma };

/// Names an agent within one launch: warp (over the whole grid), kind, lane.
struct AgentId {
  uint64_t value = ~uint64_t(0);
  AgentId() = default;
  AgentId(uint64_t warp, AgentKind kind, unsigned lane)
      : value(warp << 7 | uint64_t(kind) << 5 | lane) {}
  uint64_t group() const { return value >> 5; } ///< 32 lanes of one warp and kind
  unsigned lane() const { return value & 31; }
  AgentKind kind() const { return AgentKind(value >> 5 & 3); }
  uint64_t warp() const { return value >> 7; }
  bool operator==(const AgentId &) const = default;
};

/// A point in an agent's life. Time 0: never.
struct Epoch {
  AgentId agent;
  uint32_t time = 0;
};

/// For each agent the latest time known. Immutable once shared.
class VectorClock {
public:
  uint32_t of(AgentId agent) const;
  /// Raises the time of `agent` to at least `time`.
  void raise(AgentId agent, uint32_t time);
  void join(const VectorClock &other);

private:
  struct Entry {
    uint64_t group;
    uint32_t times[32];
  };
  Entry &entry(uint64_t group);
  std::vector<Entry> entries; // sorted by group
};
using ClockRef = std::shared_ptr<const VectorClock>; ///< null: knows nothing

/// The least clock that knows what both know; shares where it can.
ClockRef join(const ClockRef &a, const ClockRef &b);

/// What a synchronisation object (barrier, mbarrier, released word) or a point in time knows.
struct Knowledge {
  ClockRef all;    ///< happened before, for accesses of the same proxy
  ClockRef proxy;  ///< of these, what fence.proxy.async has made visible across the proxies
  ClockRef fenced; ///< of these, what fences have published at gpu scope
  void join(const Knowledge &other);
};

/// The clock of one agent.
struct AgentClock {
  AgentId id;
  uint32_t time = 1; ///< accesses get this time; raised by every release
  Knowledge known;   ///< of others
  ClockRef pending;  ///< read by relaxed loads; becomes known at the next fence

  /// Whether the epoch happened before what this agent does next.
  bool after(Epoch epoch) const {
    return epoch.time == 0 || epoch.agent == id ||
           (known.all && known.all->of(epoch.agent) >= epoch.time);
  }
  /// Whether it is also visible across the proxies (fence.proxy.async between).
  bool afterProxyFence(Epoch epoch) const {
    return epoch.time == 0 || (known.proxy && known.proxy->of(epoch.agent) >= epoch.time);
  }
  /// All that happened before now, this agent included.
  Knowledge snapshot() const;
  /// snapshot(), joined into `object`; later accesses are not covered.
  void release(Knowledge &object);
  void acquire(const Knowledge &object) { known.join(object); }
  /// fence.proxy.async: everything known now (own accesses included) is visible across proxies.
  void proxyFence();
  /// fence.acq_rel / fence.sc / membar.
  void fence();
};

} // namespace sgpu

#endif
