//===- State.cpp ------------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/State.h"
#include "Machine/Launch.h"

#include <algorithm>

namespace sgpu {

BlockAsync &asyncOf(Block &block) {
  if (!block.async)
    block.async = std::make_shared<BlockAsync>();
  return *static_cast<BlockAsync *>(block.async.get());
}

WarpAsync &asyncOf(Warp &warp) {
  if (!warp.async)
    warp.async = std::make_shared<WarpAsync>();
  return *static_cast<WarpAsync *>(warp.async.get());
}

Knowledge startedBy(Warp &warp, uint32_t lanes) {
  Knowledge known;
  release(warp.clocks.data(), lanes, known);
  return known;
}

void tellCompletion(Knowledge &to, AgentId agent, uint32_t time) { raise(to.all, agent, time); }

DeviceMemory &memoryOf(Block &block) { return block.launch.memory; }

void countBarrier(Block &block) { ++block.cluster.worker.barriers; }

void reportAt(Block &block, Check check, const Place &place, std::string message) {
  Report r{check, std::move(message), place, false, 0, {}, {}};
  block.launch.reporter.add(std::move(r));
}

void reportAt(Block &block, Check check, const Place &place, std::string message, Block &memory,
              uint32_t offset) {
  Report r{check, std::move(message), place, true, offset, {}, {}};
  r.memory = "shared memory of block (" + std::to_string(memory.index.x) + "," +
             std::to_string(memory.index.y) + "," + std::to_string(memory.index.z) + "), byte " +
             std::to_string(offset);
  block.launch.reporter.add(std::move(r));
}

Block *sharedTarget(const Actor &actor, Space space, uint64_t address, uint32_t &offset) {
  Block &block = actor.warp->block;
  if (space == Space::Generic) {
    if ((address & window::mask) != window::shared) {
      actor.warp->report(Check::Argument, actor.lane, *actor.instruction,
                         std::string(actor.what) + " needs an address in shared memory");
      return nullptr;
    }
  }
  return block.sharedTarget(actor, static_cast<uint32_t>(address), offset);
}

Step waitFor(Warp &warp, std::string reason) {
  warp.reason = std::move(reason);
  return Step::Wait;
}

namespace {
class TaskPending : public Pending {
public:
  Pending **handle = nullptr;
  std::function<void()> run;
  std::function<bool()> outlives, isReady;
  bool ready() const override { return !isReady || isReady(); }
  void complete() override {
    *handle = nullptr;
    run();
  }
  bool mayOutlive() const override { return !outlives || outlives(); }
};
} // namespace

void Task::start(Cluster &cluster, const Place &place, std::vector<Pending::Range> writes,
                 std::function<void()> run, std::function<bool()> outlives,
                 std::function<bool()> ready) {
  auto work = std::make_unique<TaskPending>();
  work->place = place;
  work->writes = std::move(writes);
  work->run = std::move(run);
  work->outlives = std::move(outlives);
  work->isReady = std::move(ready);
  work->handle = &pending;
  started = true;
  pending = work.get();
  cluster.pending.add(std::move(work));
}

void Task::finish(Cluster &cluster) {
  if (pending)
    cluster.pending.complete(pending);
}

bool reportInFlight(const Actor &actor, Block &block, uint32_t offset, uint64_t bytes,
                    const char *use) {
  const std::vector<uint8_t> &state = block.shared.state;
  for (uint64_t i = offset; i < offset + bytes && i < state.size(); ++i) {
    if (state[i] != uint8_t(ByteState::InFlight))
      continue;
    if (!block.launch.reporter.enabled(Check::InFlight))
      return true;
    Report r{Check::InFlight,
             std::string(actor.what) + " " + use +
                 " shared memory that an asynchronous operation has not finished writing",
             actor.warp->place(actor.lane, *actor.instruction),
             true,
             i,
             {},
             {}};
    r.memory = "shared memory of the block, byte " + std::to_string(i);
    if (const Pending *other = block.cluster.pending.writing(&block, Space::Shared, i))
      r.others.push_back(other->place);
    block.launch.reporter.add(std::move(r));
    return true;
  }
  return false;
}

} // namespace sgpu
