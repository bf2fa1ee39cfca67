//===- Barriers.cpp - mbarrier instructions ---------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/State.h"
#include "Machine/Decoders.h"
#include "Machine/Launch.h"

namespace sgpu {

using ptx::Modifier;
using ptx::Opcode;

namespace {

struct BarrierExtra {
  AddressOperand address;
  Operand result; ///< state, or predicate, or count
  Operand value;  ///< count, bytes, state or parity
  Operand limit;  ///< of the time that try_wait waits
  const char *what = "";
};

enum { Relaxed, ExpectTx, NoComplete, Drop, Parity, Limited };

/// An mbarrier operand of one lane.
struct Target {
  Block *block = nullptr;
  uint32_t offset = 0;
  MBarrier *barrier = nullptr;
};

PlaceOf placeOf(Warp &warp, unsigned l, const Instruction &in) {
  return [&warp, l, &in] { return warp.place(l, in); };
}

Actor actorOf(Warp &warp, unsigned l, const Instruction &in, const BarrierExtra &x) {
  Actor a = warp.actor(l, in);
  a.what = x.what;
  return a;
}

/// The mbarrier that a lane names; barrier null (reported) if there is none. A thread must know of
/// the mbarrier.init by another.
Target target(Warp &warp, unsigned l, const Instruction &in, const BarrierExtra &x) {
  Target t;
  t.block = sharedTarget(actorOf(warp, l, in, x), in.space, warp.address(x.address, l), t.offset);
  if (!t.block)
    return t;
  if (t.block != &warp.block && !t.block->live) {
    warp.report(Check::OutOfBounds, l, in,
                "uses an mbarrier of a block of the cluster that has exited");
    return t;
  }
  t.barrier = findMBarrier(*t.block, t.offset, placeOf(warp, l, in));
  if (t.barrier && !warp.clocks[l].knowsInit(t.barrier->madeBy))
    warp.report(Check::Race, l, in,
                "mbarrier used without an order after its mbarrier.init by another thread");
  return t;
}

Step runInit(Warp &warp, const Instruction &in) {
  const auto &x = *static_cast<const BarrierExtra *>(in.extra);
  forLanes(warp.active, [&](unsigned l) {
    Actor actor = actorOf(warp, l, in, x);
    uint64_t address = warp.address(x.address, l), zero = 0;
    uint32_t offset = 0;
    Block *block = sharedTarget(actor, in.space, address, offset);
    if (!block)
      return;
    // A write like any other for those that used the bytes before.
    if (!warp.block.write(actor, in.space, address, 8, &zero, 8))
      return;
    AgentClock &clock = warp.clocks[l];
    initMBarrier(*block, offset, uint32_t(warp.value(x.value, l)), {clock.id, clock.time},
                 placeOf(warp, l, in));
  });
  return Step::Next;
}

Step runInvalidate(Warp &warp, const Instruction &in) {
  const auto &x = *static_cast<const BarrierExtra *>(in.extra);
  forLanes(warp.active, [&](unsigned l) {
    Target t = target(warp, l, in, x);
    if (t.barrier)
      invalidateMBarrier(*t.block, t.offset, placeOf(warp, l, in));
  });
  return Step::Next;
}

/// expect_tx and complete_tx (mode[Drop]: the latter).
Step runTransactions(Warp &warp, const Instruction &in) {
  const auto &x = *static_cast<const BarrierExtra *>(in.extra);
  forLanes(warp.active, [&](unsigned l) {
    Target t = target(warp, l, in, x);
    if (!t.barrier)
      return;
    uint32_t bytes = uint32_t(warp.value(x.value, l));
    if (in.mode[Drop])
      completeBytes(*t.block, t.offset, *t.barrier, bytes, {}, placeOf(warp, l, in));
    else
      expectBytes(*t.block, t.offset, *t.barrier, bytes, placeOf(warp, l, in));
  });
  return Step::Next;
}

Step runArrive(Warp &warp, const Instruction &in) {
  const auto &x = *static_cast<const BarrierExtra *>(in.extra);
  Knowledge known;
  if (!in.mode[Relaxed])
    release(warp.clocks.data(), warp.active, known);
  forLanes(warp.active, [&](unsigned l) {
    Target t = target(warp, l, in, x);
    uint64_t state = 0;
    if (t.barrier) {
      uint32_t count = 1;
      if (in.mode[ExpectTx])
        expectBytes(*t.block, t.offset, *t.barrier, uint32_t(warp.value(x.value, l)),
                    placeOf(warp, l, in));
      else if (x.value)
        count = uint32_t(warp.value(x.value, l));
      state = t.barrier->state();
      arrive(*t.block, t.offset, *t.barrier, count, known, in.mode[Drop], !in.mode[NoComplete],
             placeOf(warp, l, in));
    }
    if (x.result)
      warp.u64(x.result)[l] = state;
  });
  return Step::Next;
}

Step runPendingCount(Warp &warp, const Instruction &in) {
  const auto &x = *static_cast<const BarrierExtra *>(in.extra);
  forLanes(warp.active, [&](unsigned l) {
    warp.u32(x.result)[l] = uint32_t(warp.value(x.value, l)) & MBarrier::maxCount;
  });
  return Step::Next;
}

/// test_wait and try_wait: both wait while no lane's phase is complete, but not for ever: while nothing
/// else can run they give up (Cluster::timeout), so that a thread that only asks goes on. And now and
/// then they give up at once, as the ISA allows; with a time limit of 0 always.
Step runWait(Warp &warp, const Instruction &in) {
  const auto &x = *static_cast<const BarrierExtra *>(in.extra);
  uint32_t done = 0, bad = 0;
  Target targets[32];
  forLanes(warp.active, [&](unsigned l) {
    Target &t = targets[l] = target(warp, l, in, x);
    if (!t.barrier || t.block != &warp.block) {
      if (t.barrier)
        warp.report(Check::Argument, l, in, "waits on an mbarrier of another block");
      bad |= 1u << l;
      return;
    }
    uint64_t value = warp.value(x.value, l), phase = t.barrier->phase;
    if (in.mode[Parity]) {
      if ((phase & 1) != (value & 1))
        done |= 1u << l;
      return;
    }
    uint64_t asked = value >> 20;
    if (asked > phase || asked + 1 < phase) {
      warp.report(Check::MBarrier, l, in,
                  "waits for phase " + std::to_string(asked) +
                      " by its state, but the mbarrier is in phase " + std::to_string(phase) +
                      ": only the present and the one before can be asked for");
    }
    if (asked < phase)
      done |= 1u << l;
  });
  unsigned l = unsigned(std::countr_zero(warp.active));
  bool waits = !in.mode[Limited] || uint32_t(warp.value(x.limit, l));
  if (!done && !bad && waits && !warp.block.cluster.timeout && warp.random.below(4)) {
    return waitFor(warp, "the mbarrier at shared byte " + std::to_string(targets[l].offset) +
                             ": its " + targets[l].barrier->describe());
  }
  if (!in.mode[Relaxed]) {
    // Mostly all lanes wait for one mbarrier.
    uint32_t rest = done;
    while (rest) {
      MBarrier *barrier = targets[std::countr_zero(rest)].barrier;
      uint32_t same = 0;
      forLanes(rest, [&](unsigned l) { same |= targets[l].barrier == barrier ? 1u << l : 0; });
      acquire(warp.clocks.data(), same, barrier->completed);
      rest &= ~same;
    }
  }
  warp.setPredicate(x.result, done | bad);
  return Step::Next;
}

//===----------------------------------------------------------------------===//
// Decoders
//===----------------------------------------------------------------------===//

/// The checks that all have, and mode bits of the modifiers.
BarrierExtra begin(DecodeContext &c, size_t least, size_t most) {
  c.needs(80);
  size_t n = c.ast.operands.size();
  if (n < least || n > most)
    c.fail("expects " + std::to_string(least) +
           (least == most ? "" : " to " + std::to_string(most)) + " operands, got " +
           std::to_string(n));
  if (c.ast.type() != ptx::Type::B64)
    c.fail("expects .b64");
  BarrierExtra x;
  x.what = ptx::nameOf(c.ast.opcode).data();
  c.in.space = c.space(c.ast.space());
  if (c.in.space != Space::Shared && c.in.space != Space::Generic)
    c.fail("expects an mbarrier in shared memory");
  c.in.mode[Relaxed] = c.ast.has(Modifier::Relaxed);
  c.in.mode[ExpectTx] = c.ast.has(Modifier::ExpectTx);
  c.in.mode[NoComplete] = c.ast.has(Modifier::NoComplete);
  c.in.mode[Parity] = c.ast.has(Modifier::Parity);
  return x;
}

void decodeInit(DecodeContext &c) {
  BarrierExtra x = begin(c, 2, 2);
  x.address = c.address(c.ast.operands[0]);
  x.value = c.source(c.ast.operands[1], ptx::Type::U32);
  c.extra(x);
  c.in.execute = runInit;
}

void decodeInval(DecodeContext &c) {
  BarrierExtra x = begin(c, 1, 1);
  x.address = c.address(c.ast.operands[0]);
  c.extra(x);
  c.in.execute = runInvalidate;
}

void decodeTransactions(DecodeContext &c) {
  c.needs(90);
  BarrierExtra x = begin(c, 2, 2);
  x.address = c.address(c.ast.operands[0]);
  x.value = c.source(c.ast.operands[1], ptx::Type::U32);
  c.in.mode[Drop] = c.ast.opcode == Opcode::MbarrierCompleteTx;
  c.extra(x);
  c.in.execute = runTransactions;
}

void decodeArrive(DecodeContext &c) {
  BarrierExtra x = begin(c, 2, 3);
  bool needsValue = c.in.mode[ExpectTx] || c.in.mode[NoComplete];
  const auto &ops = c.ast.operands;
  if (needsValue && ops.size() != 3)
    c.fail("expects state, [mbarrier], " + std::string(c.in.mode[ExpectTx] ? "bytes" : "count"));
  if (ops[0].kind != ptx::Operand::Sink) {
    if (c.ast.space() == ptx::StateSpace::SharedCluster)
      c.fail("expects the sink _ in place of a state for .shared::cluster");
    x.result = c.destination(ops[0]);
  }
  x.address = c.address(ops[1]);
  if (ops.size() == 3)
    x.value = c.source(ops[2], ptx::Type::U32);
  c.in.mode[Drop] = c.ast.opcode == Opcode::MbarrierArriveDrop;
  c.extra(x);
  c.in.execute = runArrive;
}

void decodeWait(DecodeContext &c) {
  BarrierExtra x = begin(c, 3, 4);
  const auto &ops = c.ast.operands;
  if (c.ast.opcode == Opcode::MbarrierTryWait)
    c.needs(90);
  else if (ops.size() != 3)
    c.fail("expects 3 operands");
  x.result = c.destination(ops[0]);
  x.address = c.address(ops[1]);
  x.value = c.source(ops[2], c.in.mode[Parity] ? ptx::Type::U32 : ptx::Type::B64);
  if ((c.in.mode[Limited] = ops.size() == 4))
    x.limit = c.source(ops[3], ptx::Type::U32);
  c.extra(x);
  c.in.execute = runWait;
}

void decodePendingCount(DecodeContext &c) {
  BarrierExtra x = begin(c, 2, 2);
  x.result = c.destination(c.ast.operands[0]);
  x.value = c.source(c.ast.operands[1], ptx::Type::B64);
  c.extra(x);
  c.in.execute = runPendingCount;
}

const RegisterDecoders decoders({{Opcode::MbarrierInit, decodeInit},
                                 {Opcode::MbarrierInval, decodeInval},
                                 {Opcode::MbarrierExpectTx, decodeTransactions},
                                 {Opcode::MbarrierCompleteTx, decodeTransactions},
                                 {Opcode::MbarrierArrive, decodeArrive},
                                 {Opcode::MbarrierArriveDrop, decodeArrive},
                                 {Opcode::MbarrierTestWait, decodeWait},
                                 {Opcode::MbarrierTryWait, decodeWait},
                                 {Opcode::MbarrierPendingCount, decodePendingCount}});

} // namespace
} // namespace sgpu
