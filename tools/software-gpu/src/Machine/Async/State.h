//===- State.h - What blocks and warps keep for asynchronous work -*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_ASYNC_STATE_H
#define SGPU_MACHINE_ASYNC_STATE_H

#include "Machine/Async/MBarrier.h"
#include "Machine/Warp.h"

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace sgpu {

class CopyBatch; // Copy.cpp: one cp.async of a warp
class BulkCopy;  // Bulk.h: one bulk copy of a thread
class WgmmaOp;   // Wgmma.cpp: one wgmma.mma_async of a warpgroup

/// Accumulator registers of one warp that wgmma operations own.
struct Accumulator;

/// Four warps that run wgmma together. Operations are numbered in the order of issue, which is the
/// same in all four.
struct Warpgroup {
  std::deque<std::shared_ptr<WgmmaOp>> ops; ///< not complete; oldest first
  std::array<uint64_t, 4> issued{};         ///< operations that each warp has issued
  uint64_t completed = 0;                   ///< number of ops.front()
  /// Where each wgmma.mma_async stands, for messages.
  std::map<const Instruction *, std::shared_ptr<const Place>> places;
};

/// Of a block.
struct BlockAsync {
  std::map<uint32_t, MBarrier> mbarriers;      ///< by offset in shared memory
  std::map<uint32_t, std::string> invalidated; ///< offset: who invalidated it
  std::vector<Warpgroup> warpgroups;
  std::vector<uint32_t> registers; ///< of each warp, registers per thread (setmaxnreg)
  int64_t freeRegisters = -1;      ///< of the block; -1: setmaxnreg was not used yet
};

/// cp.async of one thread.
struct CopyLane {
  std::vector<std::shared_ptr<CopyBatch>> open;               ///< not committed
  std::deque<std::vector<std::shared_ptr<CopyBatch>>> groups; ///< committed, oldest first
};

/// Bulk copies of one thread that complete by groups.
struct BulkLane {
  std::vector<std::shared_ptr<BulkCopy>> open;
  std::deque<std::vector<std::shared_ptr<BulkCopy>>> groups;
};

/// Of a warp.
struct WarpAsync {
  CopyLane copies[32];
  BulkLane bulk[32];
  std::array<uint32_t, 32> copyTime{}, bulkTime{}; ///< of the agents AsyncCopy and Bulk
  std::array<uint32_t, 32> bulkCopies{};           ///< that each lane has issued
  std::array<uint8_t, 32> bulkIssuer{};            ///< the lane whose copy an agent Bulk is
  // wgmma, of this warp
  std::deque<uint64_t> groupEnds; ///< committed groups: number of the operation after the last
  uint64_t committed = 0,
           waited = 0; ///< operations before these are in groups, have been waited for
  std::map<uint64_t, std::shared_ptr<WgmmaOp>> mine;      ///< issued and not waited for
  std::vector<std::shared_ptr<Accumulator>> accumulators; ///< that registers are held for
  std::map<uint32_t, uint32_t> heldSources;               ///< operations that read a register (row)
  uint64_t fences = 0;                                    ///< wgmma.fence run so far
  /// A register when it was last given back by a wait.
  struct Released {
    const Frame *frame;
    uint64_t fences;
    std::array<uint32_t, 32> words;
  };
  std::map<uint32_t, Released> released; ///< by row
  /// Check::Strict: the registers of a frame at the last wgmma.fence; those that a wait has given back since, as
  /// they were then.
  const Frame *fencedFrame = nullptr;
  std::vector<uint32_t> fencedRows;
};

BlockAsync &asyncOf(Block &block);
WarpAsync &asyncOf(Warp &warp);

/// What an asynchronous operation knows that these threads of the warp start now; they run beside it
/// from now on.
Knowledge startedBy(Warp &warp, uint32_t lanes);
/// What the completion of an operation tells: its own accesses, and no more.
void tellCompletion(Knowledge &to, AgentId agent, uint32_t time);

DeviceMemory &memoryOf(Block &block);
/// One more barrier or phase for the counters.
void countBarrier(Block &block);
/// A fault of an operation that has no running instruction any more.
void reportAt(Block &block, Check check, const Place &place, std::string message);
void reportAt(Block &block, Check check, const Place &place, std::string message, Block &memory,
              uint32_t offset);

/// The block and offset that an address of shared memory means: `.shared::cta`, `.shared::cluster`,
/// or generic. Reports and returns null if it is no shared memory.
Block *sharedTarget(const Actor &actor, Space space, uint64_t address, uint32_t &offset);

/// Says what the running group waits for, and waits.
Step waitFor(Warp &warp, std::string reason);

/// Work in the queue of a cluster that calls `run` when it completes, once. `handle()` is null when it
/// has completed.
class Task {
public:
  /// Puts it into the queue. `outlives`, `ready`: see Pending::mayOutlive, ready.
  void start(Cluster &cluster, const Place &place, std::vector<Pending::Range> writes,
             std::function<void()> run, std::function<bool()> outlives = {},
             std::function<bool()> ready = {});
  bool done() const { return started && !pending; }
  /// Completes it now, if it has not.
  void finish(Cluster &cluster);

private:
  Pending *pending = nullptr;
  bool started = false;
};

/// Whether a byte of [offset, offset + bytes) will still be written by an asynchronous operation: then
/// reports InFlight at the actor's instruction.
bool reportInFlight(const Actor &actor, Block &block, uint32_t offset, uint64_t bytes,
                    const char *use);

} // namespace sgpu

#endif
