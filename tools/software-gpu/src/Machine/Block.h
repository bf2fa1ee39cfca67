//===- Block.h - Blocks and clusters while they run ----------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_BLOCK_H
#define SGPU_MACHINE_BLOCK_H

#include "Machine/Machine.h"
#include "Machine/Pending.h"
#include "Memory/DeviceMemory.h"

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace sgpu {

class Cluster;
class Warp;
struct Launch; // Launch.h: what all blocks of a launch share
struct Worker;

/// Addresses. A shared address has the offset in its low 24 bits. Above: 0 is the block's own
/// memory, r + 1 that of rank r of the cluster (what mapa makes). The low 32 bits of a generic
/// address into shared memory are its shared address, as on NVIDIA's machines.
namespace window {
[[maybe_unused]] constexpr uint64_t shared = uint64_t(1)
                                             << 56; ///< generic addresses of shared memory
[[maybe_unused]] constexpr uint64_t local = uint64_t(2) << 56;
[[maybe_unused]] constexpr uint64_t param = uint64_t(3) << 56;
constexpr uint64_t mask = uint64_t(0xff) << 56;
constexpr unsigned rankShift = 24;
constexpr uint32_t sharedStart = 1024; ///< the first KiB of shared memory belongs to the system
} // namespace window

/// Shared memory of one block. Offsets from 0; [0, window::sharedStart) does not exist.
struct SharedMemory {
  SharedMemory(uint32_t end, bool checkRaces)
      : end(end), bytes(end), state(end),
        races(checkRaces && end > window::sharedStart ? end : 0, false) {}
  uint32_t end; ///< first offset that does not exist
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> state; ///< ByteState
  RaceShadow races;
  std::unordered_map<uint32_t, Released> released; ///< by address: what strong writes published
  /// Like DeviceMemory::setState. The caller has checked the range.
  void setState(uint32_t offset, uint32_t bytes, ByteState state);
  uint64_t poisonSeed = 0;
};

/// What the race check knows of the accesses of an instruction, kept from lane to lane.
struct Accesses {
  std::optional<Access> global, shared;
};

/// Who accesses memory: a thread, or an asynchronous operation in its name.
struct Actor {
  Warp *warp = nullptr;
  unsigned lane = 0;
  const Instruction *instruction = nullptr;
  const AgentClock *clock = nullptr;
  uint32_t lanes = 0; ///< lanes of the warp that do the same at the same address; 0: one
  Scope scope = Scope::Weak;
  Proxy proxy = Proxy::Generic;
  const char *what = "";        ///< "ld", "cp.async.bulk": goes into messages
  const Place *place = nullptr; ///< where an asynchronous operation was issued; null: warp and lane
  Accesses *accesses = nullptr; ///< for lane after lane of one weak access; null: none
};

/// The clock of loads with .nc of a thread. What they read must not change as long as the kernel
/// runs, so nothing orders them and the writes of the launch: an agent of its own (of a kind that
/// else touches no global memory) that knows nothing, at a time that nobody knows of.
inline AgentClock readOnlyClock(AgentId thread) {
  AgentClock clock;
  clock.id = AgentId(thread.warp(), AgentKind::Wgmma, thread.lane());
  clock.time = lastTime;
  return clock;
}
inline bool isReadOnly(Epoch epoch) {
  return epoch.agent.kind() == AgentKind::Wgmma && epoch.time == lastTime;
}

/// One of the 16 barriers of a block (bar.sync a, b), or that of a cluster.
struct NamedBarrier {
  uint32_t expected = 0;       ///< threads, a multiple of 32; 0: all that have not exited
  uint64_t phase = 0;          ///< completed so far
  std::vector<uint32_t> lanes; ///< that have come, by warp; empty: none
  uint32_t extra = 0;          ///< threads of warps that have come more than once
  Knowledge coming, done;      ///< of those that come; of the phase completed last
  uint32_t population = 0;     ///< bar.red: of the predicates that came
  bool all = true, any = false;
  uint32_t donePopulation = 0; ///< of the phase completed last
  bool doneAll = false, doneAny = false;
  Warp *firstWarp = nullptr; ///< who came first, for messages
  uint32_t firstLane = 0;
  const Instruction *first = nullptr;
  uint32_t firstInEntry = 0; ///< index of that instruction, or of the call around it, in the entry
};

/// A block that runs.
class Block {
public:
  Block(Launch &launch, Cluster &cluster, Dim3 index, uint32_t rank);
  ~Block();

  Launch &launch;
  Cluster &cluster;
  const Dim3 index;      ///< %ctaid
  const uint64_t linear; ///< blocks of a cluster side by side, else x fastest
  const uint32_t rank;   ///< %cluster_ctarank
  SharedMemory shared;
  std::vector<std::unique_ptr<Warp>> warps;
  std::vector<NamedBarrier> barriers;
  unsigned live = 0;    ///< threads that have not exited
  bool started = false; ///< the constructor is done
  Random random;
  /// State of src/Machine/Async, made by it when first needed.
  std::shared_ptr<void> async;

  /// Says that something happened that a waiting group may wait for (an arrival, a completion, a
  /// store). Waiting groups run their instruction again.
  void notify();
  /// Makes the groups that wait in barrier `barrier` runnable.
  void wake(unsigned barrier);

  /// Says that threads have exited: barriers may be complete without them.
  void threadsExited();

  // Checked access to memory for `actor`. The address is in `space` (Generic, Global, Shared incl.
  // other ranks of the cluster, Local, Param, Const). Bytes come (and go) in one piece; alignment
  // to `alignment` is checked (1: none). A fault is reported; a refused read gives poison, a
  // refused write does nothing, and both return false.
  bool read(const Actor &actor, Space space, uint64_t address, uint32_t bytes, void *to,
            uint32_t alignment, bool checkWritten = true);
  bool write(const Actor &actor, Space space, uint64_t address, uint32_t bytes, const void *from,
             uint32_t alignment);
  /// The same for `count` lanes side by side in global or shared memory: the actor's lane accesses `size` bytes
  /// at `address`, the next one those behind, and so on; the lanes know the same. False if something has to be
  /// looked at lane by lane (a fault perhaps): nothing is reported, and the caller calls read or write for each.
  bool readLanes(const Actor &actor, Space space, uint64_t address, uint32_t size, unsigned count,
                 void *to);
  bool writeLanes(const Actor &actor, Space space, uint64_t address, uint32_t size, unsigned count,
                  const void *from);
  /// Reads many ranges of shared memory, one behind the other into `to`: cheaper than one by one.
  void readShared(const Actor &actor, std::span<const ByteRange> ranges, uint8_t *to,
                  uint32_t alignment);
  /// Only the checks (exists, alignment), as for an instruction that starts an asynchronous access.
  bool check(const Actor &actor, Space space, uint64_t address, uint64_t bytes, uint32_t alignment,
             bool write);
  /// An atomic read-modify-write on global or shared memory, see DeviceMemory::atomic.
  bool atomic(const Actor &actor, Space space, uint64_t address, uint32_t bytes,
              void (*update)(void *bytes, void *context), void *context);
  /// The block and offset that a shared address means; null (reported) if there is none.
  Block *sharedTarget(const Actor &actor, uint32_t address, uint32_t &offset);

private:
  bool readOne(const Actor &actor, const Access &access, uint32_t address, uint32_t bytes, void *to,
               uint32_t alignment, bool checkWritten);
};

/// Blocks that run together. Without clusters: one block.
class Cluster {
public:
  Cluster(Worker &worker, uint64_t linear);
  ~Cluster();
  Worker &worker;
  Launch &launch;
  const uint64_t linear;
  std::vector<std::unique_ptr<Block>> blocks; ///< by rank
  PendingQueue pending;
  Random random;
  uint64_t happenings = 0; ///< raised by Block::notify
  NamedBarrier barrier;    ///< barrier.cluster
  uint64_t executed = 0;   ///< instructions of warps
  uint64_t clock = 0;      ///< reads of %clock and its like, so that time goes on
  bool timeout = false;    ///< nothing else can run: waits that may end early (try_wait) do so now
  bool dead = false;       ///< killed (trap, deadlock): runs no more
};

} // namespace sgpu

#endif
