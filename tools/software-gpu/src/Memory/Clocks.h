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

/// Names an agent within one launch: warp (over the whole grid), kind, lane. 40 bits.
struct AgentId {
  uint64_t value = (uint64_t(1) << 40) - 1;
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
/// Times stop here: more than 16 million synchronisations of one thread.
constexpr uint32_t lastTime = (1u << 24) - 1;

/// For each agent the latest time known. Immutable once shared.
class VectorClock {
public:
  uint32_t of(AgentId agent) const {
    const uint32_t *times = row(agent.group());
    return times ? times[agent.lane()] : 0;
  }
  /// The times of the 32 lanes of a group; null if all are 0.
  const uint32_t *row(uint64_t group) const;
  /// Raises the time of `agent` to at least `time`.
  void raise(AgentId agent, uint32_t time);
  /// The times of the 32 lanes of a group, to be raised by hand.
  uint32_t *rowToRaise(uint64_t group);
  void join(const VectorClock &other);
  /// Forgets what `other` does not know.
  void meet(const VectorClock &other);
  /// Whether it knows all that `other` knows.
  bool covers(const VectorClock &other) const;

private:
  struct Entry {
    uint64_t group;
    uint32_t times[32];
  };
  std::vector<Entry> entries; // sorted by group
};
using ClockRef = std::shared_ptr<const VectorClock>; ///< null: knows nothing

/// `into` then knows what both knew; shares where it can.
void join(ClockRef &into, const ClockRef &other);
/// `into` knows that `agent` has come to `time`.
void raise(ClockRef &into, AgentId agent, uint32_t time);

/// What a barrier, an mbarrier or a point in time knows.
struct Knowledge {
  ClockRef all;       ///< happened before, for accesses of the same proxy
  ClockRef proxy;     ///< of these, what fence.proxy.async has made visible across the proxies
  ClockRef fenced;    ///< of these, what fences of scope cluster, gpu or sys have published
  ClockRef fencedCta; ///< the same with fences of scope cta
  ClockRef inits;     ///< of mbarrier.init alone, what fence.mbarrier_init has published
  void join(const Knowledge &other);
};

/// What a strong write has published at its address, for those that read it.
struct Released {
  ClockRef any; ///< to everybody
  ClockRef cta; ///< to threads of block `ctaId` only
  ClockRef proxy;
  uint64_t ctaId = 0;
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
  /// snapshot() is joined into `object`; later accesses of this agent are not covered.
  void release(Knowledge &object);
  void acquire(const Knowledge &object) { known.join(object); }
  /// fence.proxy.async: everything known now (own accesses included) is visible across proxies.
  void proxyFence();
  /// Fences, scope cta (`cta`) or wider.
  void fence(bool cta);
  /// fence.mbarrier_init: what this thread has initialised is known to those that it meets, even at a barrier
  /// that orders no memory (barrier.cluster.arrive.relaxed).
  void initFence();
  /// Whether mbarrier.init at `epoch` is known.
  bool knowsInit(Epoch epoch) const {
    return after(epoch) || (known.inits && known.inits->of(epoch.agent) >= epoch.time);
  }
  /// Whether a fence has published it, as work of the async proxy needs it to the letter.
  bool initFenced(Epoch epoch) const {
    return (known.inits && known.inits->of(epoch.agent) >= epoch.time) || afterProxyFence(epoch);
  }
  /// What an arrival without memory order tells: what fences of scope cluster or wider published before it.
  void releaseFenced(Knowledge &object);
  /// What a strong write publishes. `releases`: the write has release semantics of its own.
  /// A read-modify-write adds to what is there (`keep`). `cta`: scope of the write.
  void publish(Released &at, bool releases, bool keep, bool cta, uint64_t ctaId);
  /// A strong read of what was published.
  void observe(const Released &at, bool acquires, bool cta, uint64_t ctaId);
  void tick() { time += time < lastTime; }
};

/// The same for lanes of a warp together, `clocks` being those of its 32 threads: much cheaper than
/// one by one, since lanes mostly know the same.
void release(AgentClock *clocks, uint32_t lanes, Knowledge &object);
void acquire(AgentClock *clocks, uint32_t lanes, const Knowledge &object);
void proxyFence(AgentClock *clocks, uint32_t lanes);
void fence(AgentClock *clocks, uint32_t lanes, bool cta);

} // namespace sgpu

#endif
