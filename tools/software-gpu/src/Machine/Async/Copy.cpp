//===- Copy.cpp - cp.async ---------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Copies of 4, 8 or 16 bytes by each thread, from global to shared memory, that complete in groups or
// by an mbarrier. They work in the generic proxy. A warp's copies of one instruction are one object;
// a thread that waits completes only its own.
//===----------------------------------------------------------------------===//
#include "Machine/Async/State.h"
#include "Machine/Decoders.h"
#include "Machine/Launch.h"

#include <cstring>

namespace sgpu {

/// One cp.async of a warp.
class CopyBatch {
public:
  struct Lane {
    uint64_t from = 0;
    uint32_t to = 0;   ///< offset in the block's shared memory
    uint32_t read = 0; ///< bytes that are copied; the others become zero
    uint32_t time = 0; ///< of the lane's agent
  };
  Warp *warp;
  const Instruction *in;
  uint32_t bytes;     ///< 4, 8, 16
  uint32_t remaining; ///< lanes that have not been copied
  Knowledge known;
  std::array<Lane, 32> lanes;
  Place place; ///< of the first lane
  Task task;

  void complete(uint32_t which);
};

void CopyBatch::complete(uint32_t which) {
  which &= remaining;
  remaining &= ~which;
  Block &block = warp->block;
  forLanes(which, [&](unsigned l) {
    const Lane &lane = lanes[l];
    AgentClock clock;
    clock.id = AgentId(warp->id, AgentKind::AsyncCopy, l);
    clock.time = lane.time;
    clock.known = known;
    Actor actor;
    actor.warp = warp, actor.lane = l, actor.instruction = in, actor.clock = &clock;
    actor.what = "cp.async";
    actor.place = &place;
    uint8_t data[16] = {};
    block.shared.setState(lane.to, bytes, ByteState::Undefined); // no longer in flight
    if (lane.read)
      block.read(actor, Space::Global, lane.from, lane.read, data, 1, false);
    block.write(actor, Space::Shared, lane.to, bytes, data, 1);
    // Bytes without a value stay without one: who uses them is reported, not who copies them.
    if (lane.read && !memoryOf(block).written(lane.from, lane.read))
      for (uint32_t i = 0; i < lane.read; ++i)
        if (!memoryOf(block).written(lane.from + i, 1))
          block.shared.setState(lane.to + i, 1, ByteState::Undefined);
  });
  if (which)
    block.notify();
}

namespace {

struct CopyExtra {
  AddressOperand to, from;
  Operand sourceBytes;  ///< None: all
  Operand ignoreSource; ///< predicate: read nothing
};

enum { ModeBytes, ModeSpace };

Step runCopy(Warp &warp, const Instruction &in) {
  const auto &x = *static_cast<const CopyExtra *>(in.extra);
  Block &block = warp.block;
  WarpAsync &async = asyncOf(warp);
  auto batch = std::make_shared<CopyBatch>();
  batch->warp = &warp;
  batch->in = &in;
  batch->bytes = in.bytes;
  batch->remaining = 0;
  uint32_t ignored = x.ignoreSource ? warp.predicate(x.ignoreSource) : 0;
  uint64_t globals[32], shareds[32];
  uint32_t reading = 0;
  std::vector<Pending::Range> writes;
  forLanes(warp.active, [&](unsigned l) {
    Actor actor = warp.actor(l, in);
    actor.what = "cp.async";
    CopyBatch::Lane &lane = batch->lanes[l];
    lane.from = warp.address(x.from, l);
    uint64_t to = warp.address(x.to, l);
    lane.read = in.bytes;
    if (x.sourceBytes)
      lane.read = static_cast<uint32_t>(warp.value(x.sourceBytes, l));
    if (ignored >> l & 1)
      lane.read = 0;
    if (lane.read > in.bytes) {
      warp.report(Check::Argument, l, in,
                  "cp.async src-size " + std::to_string(lane.read) + " is more than cp-size " +
                      std::to_string(in.bytes));
      lane.read = in.bytes;
    }
    uint32_t offset = 0;
    Block *target = sharedTarget(actor, Space::Shared, to, offset);
    if (!target || !block.check(actor, Space::Shared, to, in.bytes, in.bytes, true))
      return;
    if (lane.read) {
      if (!block.check(actor, Space::Global, lane.from, lane.read, in.bytes, false))
        return;
    }
    reportInFlight(actor, block, offset, in.bytes, "overwrites");
    lane.to = offset;
    lane.time = ++async.copyTime[l];
    globals[l] = lane.from, shareds[l] = to;
    reading |= lane.read ? 1u << l : 0;
    batch->remaining |= 1u << l;
  });
  uint32_t lanes = batch->remaining;
  if (reading)
    warp.countGlobal(in, globals, reading, in.bytes);
  if (!lanes)
    return Step::Next;
  warp.countShared(in, shareds, lanes, in.bytes);
  batch->known = startedBy(warp, lanes);
  forLanes(lanes, [&](unsigned l) {
    block.shared.setState(batch->lanes[l].to, in.bytes, ByteState::InFlight);
    writes.push_back({&block, Space::Shared, batch->lanes[l].to, in.bytes});
    async.copies[l].open.push_back(batch);
  });
  batch->place = warp.place(static_cast<unsigned>(std::countr_zero(lanes)), in);
  batch->place.what = "cp.async";
  CopyBatch *b = batch.get();
  batch->task.start(block.cluster, batch->place, std::move(writes),
                    [b, keep = batch] { b->complete(b->remaining); });
  return Step::Next;
}

/// Completes one lane's copies of a group.
void finishGroup(Warp &warp, unsigned lane, std::vector<std::shared_ptr<CopyBatch>> &group) {
  for (auto &batch : group) {
    batch->complete(1u << lane);
    if (!batch->remaining)
      batch->task.finish(warp.block.cluster);
  }
}

uint32_t lastTime(const std::vector<std::shared_ptr<CopyBatch>> &group, unsigned lane) {
  return group.empty() ? 0 : group.back()->lanes[lane].time;
}

Step runCommit(Warp &warp, const Instruction &) {
  WarpAsync &async = asyncOf(warp);
  forLanes(warp.active, [&](unsigned l) {
    CopyLane &lane = async.copies[l];
    lane.groups.push_back(std::move(lane.open));
    lane.open.clear();
  });
  return Step::Next;
}

/// mode[0]: groups that may stay pending; 255 for wait_all.
Step runWait(Warp &warp, const Instruction &in) {
  WarpAsync &async = asyncOf(warp);
  bool all = in.mode[1];
  forLanes(warp.active, [&](unsigned l) {
    CopyLane &lane = async.copies[l];
    uint32_t time = 0;
    if (all) {
      lane.groups.push_back(std::move(lane.open));
      lane.open.clear();
    }
    while (lane.groups.size() > in.mode[0]) {
      finishGroup(warp, l, lane.groups.front());
      time = std::max(time, lastTime(lane.groups.front(), l));
      lane.groups.pop_front();
    }
    if (time) {
      Knowledge k;
      tellCompletion(k, AgentId(warp.id, AgentKind::AsyncCopy, l), time);
      warp.clocks[l].acquire(k);
    }
  });
  return Step::Next;
}

struct ArriveExtra {
  AddressOperand barrier;
};

/// cp.async.mbarrier.arrive: mode[0] noinc. The arrivals of a warp come together, when the copies that
/// its threads have issued so far are complete.
Step runArrive(Warp &warp, const Instruction &in) {
  struct Arrival {
    unsigned lane;
    Block *block;
    uint32_t offset, time;
    std::vector<std::shared_ptr<CopyBatch>> copies;
  };
  const auto &x = *static_cast<const ArriveExtra *>(in.extra);
  WarpAsync &async = asyncOf(warp);
  Block &block = warp.block;
  std::vector<Arrival> arrivals;
  forLanes(warp.active, [&](unsigned l) {
    Actor actor = warp.actor(l, in);
    actor.what = "cp.async.mbarrier.arrive";
    Arrival a{l, nullptr, 0, async.copyTime[l], {}};
    a.block = sharedTarget(actor, in.space, warp.address(x.barrier, l), a.offset);
    if (!a.block)
      return;
    PlaceOf place = [&warp, l, &in] { return warp.place(l, in); };
    MBarrier *barrier = findMBarrier(*a.block, a.offset, place);
    if (!barrier)
      return;
    if (!in.mode[0])
      expectArrival(*a.block, a.offset, *barrier, place);
    auto remember = [&](const std::shared_ptr<CopyBatch> &batch) {
      if (batch->remaining >> l & 1)
        a.copies.push_back(batch);
    };
    for (auto &group : async.copies[l].groups)
      for (auto &batch : group)
        remember(batch);
    for (auto &batch : async.copies[l].open)
      remember(batch);
    arrivals.push_back(std::move(a));
  });
  if (arrivals.empty())
    return Step::Next;
  auto task = std::make_shared<Task>();
  Place where = warp.place(arrivals.front().lane, in);
  Warp *w = &warp;
  task->start(block.cluster, where, {}, [w, where, arrivals, keep = task]() mutable {
    PlaceOf at = [&where] { return where; };
    for (Arrival &a : arrivals) {
      finishGroup(*w, a.lane, a.copies);
      MBarrier *b = findMBarrier(*a.block, a.offset, at);
      if (!b)
        continue;
      Knowledge k;
      tellCompletion(k, AgentId(w->id, AgentKind::AsyncCopy, a.lane), a.time);
      arrive(*a.block, a.offset, *b, 1, k, false, true, at);
    }
  });
  return Step::Next;
}

void decodeCopy(DecodeContext &c) {
  c.needs(80);
  const auto &ops = c.ast.operands;
  bool hint = c.ast.has(ptx::Modifier::L2CacheHint);
  size_t count = ops.size() - (hint ? 1 : 0);
  if (ops.size() < 3 || count < 3 || count > 4)
    c.fail("expects [dst], [src], cp-size{, src-size}{, cache-policy}");
  if (c.ast.spaces.size() != 2 || c.space(c.ast.space(0)) != Space::Shared ||
      c.space(c.ast.space(1)) != Space::Global)
    c.fail("expects .shared.global");
  int64_t bytes = c.immediate(ops[2]);
  bool cg = c.ast.has(ptx::Modifier::Cg);
  if (cg ? bytes != 16 : bytes != 4 && bytes != 8 && bytes != 16)
    c.fail(cg ? "expects cp-size 16 for .cg" : "expects cp-size 4, 8 or 16");
  CopyExtra x;
  x.to = c.address(ops[0]);
  x.from = c.address(ops[1]);
  if (count == 4) {
    Operand op = c.source(ops[3], ptx::Type::U32);
    (op.base == Operand::Predicate ? x.ignoreSource : x.sourceBytes) = op;
  }
  if (hint)
    c.source(ops.back(), ptx::Type::B64);
  c.in.bytes = static_cast<uint8_t>(bytes);
  c.extra(x);
  c.in.execute = runCopy;
}

void decodeCommit(DecodeContext &c) {
  c.needs(80);
  c.in.execute = runCommit;
}

void decodeWait(DecodeContext &c) {
  c.needs(80);
  bool all = c.ast.opcode == ptx::Opcode::CpAsyncWaitAll;
  int64_t n = 0;
  if (!all) {
    if (c.ast.operands.size() != 1)
      c.fail("expects the number of groups that may stay pending");
    n = c.immediate(c.ast.operands[0]);
    if (n < 0 || n > 255)
      c.fail("expects 0 to 255 groups");
  }
  c.in.mode[0] = static_cast<uint8_t>(n);
  c.in.mode[1] = all;
  c.in.execute = runWait;
}

void decodeArrive(DecodeContext &c) {
  c.needs(80);
  if (c.ast.operands.size() != 1)
    c.fail("expects [mbarrier]");
  c.in.space = c.space(c.ast.space());
  ArriveExtra x{c.address(c.ast.operands[0])};
  c.in.mode[0] = c.ast.has(ptx::Modifier::Noinc);
  c.extra(x);
  c.in.execute = runArrive;
}

const RegisterDecoders decoders({{ptx::Opcode::CpAsync, decodeCopy},
                                 {ptx::Opcode::CpAsyncCommitGroup, decodeCommit},
                                 {ptx::Opcode::CpAsyncWaitGroup, decodeWait},
                                 {ptx::Opcode::CpAsyncWaitAll, decodeWait},
                                 {ptx::Opcode::CpAsyncMbarrierArrive, decodeArrive}});

} // namespace
} // namespace sgpu
