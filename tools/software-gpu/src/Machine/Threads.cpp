//===- Threads.cpp - Instructions by which threads work together ------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Decoders.h"
#include "Machine/Launch.h"
#include "Machine/Warp.h"

#include <algorithm>

using namespace sgpu;
using M = ptx::Modifier;
using O = ptx::Opcode;
using T = ptx::Type;

static unsigned firstOf(uint32_t lanes) { return unsigned(std::countr_zero(lanes)); }

//===----------------------------------------------------------------------===//
// Barriers of the block
//===----------------------------------------------------------------------===//

namespace {
enum class BarrierOp : uint8_t { Sync, Arrive, Popc, And, Or };
struct BarrierPlan {
  BarrierOp op = BarrierOp::Sync;
  bool aligned = true;
  bool negated = false;
  Operand id, count, predicate, result;
};

/// The instruction, or the call around it, in the entry.
uint32_t inEntry(const Warp &w, const Instruction &in) {
  uint32_t at = in.index;
  for (const Frame *f = w.frame; f->caller; f = f->caller.get())
    at = f->returnTo - 1;
  return at;
}

/// A barrier completes without threads that have exited. That is as it should be if they left early;
/// not if they ran code that comes after the barrier too.
void checkMissed(Block &block, const NamedBarrier &b) {
  const Function &entry = *block.launch.program.entry;
  for (auto &w : block.warps) {
    uint32_t missed = w->exists & w->exited & ~b.lanes[w->index];
    while (missed) {
      unsigned lane = firstOf(missed);
      missed &= missed - 1;
      uint32_t at = w->exitedAt[lane];
      bool ranCode = at > entry.blockStart[entry.blockOf[at]];
      if (!ranCode || !entry.postDominates(at, b.firstInEntry))
        continue;
      Report r{.check = Check::Barrier,
               .message = "part of the block never reaches a barrier that other threads wait in"};
      r.place = b.firstWarp->place(b.firstLane, *b.first);
      Place other = w->place(lane, entry.code[at]);
      other.what = "has exited without it";
      r.others.push_back(other);
      block.launch.reporter.add(std::move(r));
      return;
    }
  }
}

/// Completes the barrier if all have come. `live` lanes that have come make a warp count as 32.
bool tryComplete(Block &block, unsigned id) {
  NamedBarrier &b = block.barriers[id];
  if (b.lanes.empty())
    return false;
  uint32_t arrived = b.extra, wanted = b.expected;
  for (auto &w : block.warps) {
    uint32_t alive = w->exists & ~w->exited, came = b.lanes[w->index];
    if (came && !(alive & ~came))
      arrived += 32;
    if (!b.expected && (alive || came))
      wanted += 32;
  }
  if (arrived < wanted)
    return false;
  if (!b.expected)
    checkMissed(block, b);
  ++b.phase;
  ++block.cluster.worker.barriers;
  b.done = std::move(b.coming);
  b.coming = Knowledge();
  b.donePopulation = b.population;
  b.doneAll = b.all;
  b.doneAny = b.any;
  b.population = 0;
  b.all = true;
  b.any = false;
  b.lanes.clear();
  b.extra = 0;
  block.wake(id);
  return true;
}

Step runBarrier(Warp &w, const Instruction &in) {
  const auto &plan = *static_cast<const BarrierPlan *>(in.extra);
  Block &block = w.block;
  Group *g = w.group;
  if (!g->token) {
    if (plan.aligned) {
      if (!w.gatherAll(in))
        return Step::Wait;
      g = w.group;
    }
    unsigned lane = firstOf(w.active);
    uint32_t id = plan.id ? uint32_t(w.value(plan.id, lane)) : 0;
    uint32_t count = plan.count ? uint32_t(w.value(plan.count, lane)) : 0;
    uint32_t same = 0;
    forLanes(w.active, [&](unsigned l) {
      if ((!plan.id || uint32_t(w.value(plan.id, l)) == id) &&
          (!plan.count || uint32_t(w.value(plan.count, l)) == count))
        same |= 1u << l;
    });
    if (same != w.active && plan.aligned) {
      w.report(Check::Barrier, lane, in, "lanes of a warp name different barriers or counts");
    } else if (same != g->lanes) { // each barrier by a group of its own
      w.splitOff(same, g->pc, in.index + 1);
      return Step::Jump;
    }
    if (id > 15) {
      w.report(Check::Argument, lane, in,
               "barrier " + std::to_string(id) + ": a block has barriers 0 to 15");
      block.launch.fail(Check::Argument);
      return Step::Next;
    }
    if (count % 32 || (plan.count && !count)) {
      w.report(Check::Argument, lane, in,
               "barrier for " + std::to_string(count) + " threads: expects a multiple of 32");
      block.launch.fail(Check::Argument);
      return Step::Next;
    }
    NamedBarrier &b = block.barriers[id];
    if (b.lanes.empty()) {
      b.lanes.assign(block.warps.size(), 0);
      b.expected = count;
      b.firstWarp = &w;
      b.firstLane = lane;
      b.first = &in;
      b.firstInEntry = inEntry(w, in);
    } else if (b.expected != count) {
      w.report(Check::Barrier, lane, in,
               "barrier " + std::to_string(id) + " for " + std::to_string(count) +
                   " threads (0: all), the first to come said " + std::to_string(b.expected));
    }
    if (b.lanes[w.index] & w.active)
      b.extra += 32;
    b.lanes[w.index] |= w.active;
    release(w.clocks.data(), w.active, b.coming);
    if (plan.predicate) {
      uint32_t p = w.predicate(plan.predicate) & w.active;
      b.population += unsigned(std::popcount(p));
      b.all &= p == w.active;
      b.any |= p != 0;
    }
    if (plan.op == BarrierOp::Arrive) {
      block.notify();
      tryComplete(block, id);
      return Step::Next;
    }
    g->token = b.phase + 1;
    g->barrier = id;
    g->state = Group::AtBarrier;
    if (!tryComplete(block, id))
      return Step::Wait;
    g->state = Group::Runnable;
  }
  NamedBarrier &b = block.barriers[g->barrier];
  if (b.phase < g->token) {
    g->state = Group::AtBarrier;
    return Step::Wait;
  }
  g->token = 0;
  acquire(w.clocks.data(), w.active, b.done);
  switch (plan.op) {
  case BarrierOp::Popc:
    forLanes(w.active, [&](unsigned lane) { w.u32(plan.result)[lane] = b.donePopulation; });
    break;
  case BarrierOp::And:
    w.setPredicate(plan.result, b.doneAll ? ~0u : 0);
    break;
  case BarrierOp::Or:
    w.setPredicate(plan.result, b.doneAny ? ~0u : 0);
    break;
  default:
    break;
  }
  return Step::Next;
}

void decodeBarrier(DecodeContext &c) {
  BarrierPlan plan;
  plan.aligned = c.ast.opcode == O::Bar || c.ast.has(M::Aligned);
  const auto &ops = c.ast.operands;
  size_t next = 0;
  if (c.ast.has(M::Red)) {
    plan.op = c.ast.has(M::Popc)  ? BarrierOp::Popc
              : c.ast.has(M::And) ? BarrierOp::And
                                  : BarrierOp::Or;
    plan.result = c.destination(ops[next++]);
  } else if (c.ast.has(M::Arrive)) {
    plan.op = BarrierOp::Arrive;
  }
  size_t end = ops.size() - (c.ast.has(M::Red) ? 1 : 0);
  if (next < end)
    plan.id = c.source(ops[next++], T::U32);
  if (next < end)
    plan.count = c.source(ops[next++], T::U32);
  if (c.ast.has(M::Red))
    plan.predicate = c.source(ops[end], T::Pred);
  c.extra(plan);
  c.in.splits = true;
  c.in.gathers = plan.aligned;
  c.in.execute = runBarrier;
}

//===----------------------------------------------------------------------===//
// The barrier of the cluster
//===----------------------------------------------------------------------===//

bool tryCompleteCluster(Cluster &cluster) {
  NamedBarrier &b = cluster.barrier;
  if (b.lanes.empty())
    return false;
  size_t i = 0;
  for (auto &block : cluster.blocks)
    for (auto &w : block->warps)
      if (w->exists & ~w->exited & ~b.lanes[i++])
        return false;
  ++b.phase;
  ++cluster.worker.barriers;
  b.done = std::move(b.coming);
  b.coming = Knowledge();
  b.lanes.clear();
  for (auto &block : cluster.blocks)
    block->wake(16);
  return true;
}

Step runClusterArrive(Warp &w, const Instruction &in) {
  Cluster &cluster = w.block.cluster;
  if (in.mode[0] && !w.gatherAll(in))
    return Step::Wait;
  NamedBarrier &b = cluster.barrier;
  size_t warps = w.block.warps.size();
  if (b.lanes.empty())
    b.lanes.assign(cluster.blocks.size() * warps, 0);
  uint32_t &came = b.lanes[w.block.rank * warps + w.index];
  if (came & w.active)
    w.report(Check::Barrier, firstOf(came & w.active), in,
             "arrives at the barrier of the cluster twice without a wait");
  came |= w.active;
  w.clusterPhase.resize(32);
  forLanes(w.active, [&](unsigned lane) { w.clusterPhase[lane] = b.phase + 1; });
  if (in.mode[1]) // .relaxed
    forLanes(w.active, [&](unsigned lane) { w.clocks[lane].releaseFenced(b.coming); });
  else
    release(w.clocks.data(), w.active, b.coming);
  w.block.notify();
  tryCompleteCluster(cluster);
  return Step::Next;
}

Step runClusterWait(Warp &w, const Instruction &in) {
  NamedBarrier &b = w.block.cluster.barrier;
  Group *g = w.group;
  if (!g->token) {
    if (in.mode[0] && !w.gatherAll(in))
      return Step::Wait;
    g = w.group;
    w.clusterPhase.resize(32);
    uint64_t wanted = 0;
    forLanes(w.active, [&](unsigned lane) {
      if (!w.clusterPhase[lane])
        w.report(Check::Barrier, lane, in,
                 "waits for the barrier of the cluster without an arrive");
      wanted = std::max(wanted, w.clusterPhase[lane]);
      w.clusterPhase[lane] = 0;
    });
    g->token = wanted;
    g->barrier = 16;
  }
  if (b.phase < g->token) {
    g->state = Group::AtBarrier;
    return Step::Wait;
  }
  g->token = 0;
  acquire(w.clocks.data(), w.active, b.done);
  return Step::Next;
}

void decodeClusterBarrier(DecodeContext &c) {
  c.needs(90);
  c.in.mode[0] = c.ast.has(M::Aligned);
  c.in.mode[1] = c.ast.has(M::Relaxed);
  c.in.splits = true;
  c.in.gathers = c.in.mode[0];
  c.in.execute = c.ast.has(M::Arrive) ? runClusterArrive : runClusterWait;
}
} // namespace

void Block::wake(unsigned barrier) {
  notify();
  for (auto &w : warps)
    for (auto &g : w->groups)
      if (g->state == Group::AtBarrier && g->barrier == barrier)
        g->state = Group::Runnable;
}

void Block::threadsExited() {
  for (unsigned id = 0; id < barriers.size(); ++id)
    tryComplete(*this, id);
  tryCompleteCluster(cluster);
}

//===----------------------------------------------------------------------===//
// Instructions of lanes that are named by a mask
//===----------------------------------------------------------------------===//

namespace {
/// bar.warp.sync: the lanes may come to it at different places.
Step runWarpSync(Warp &w, const Instruction &in) {
  Group *g = w.group;
  if (!g->token) {
    const uint32_t *masks = w.u32(in.operands[0]);
    uint32_t first = masks[firstOf(w.active)], same = 0;
    forLanes(w.active, [&](unsigned lane) {
      if (masks[lane] == first)
        same |= 1u << lane;
    });
    if (same != g->lanes) {
      w.splitOff(same, g->pc, in.index + 1);
      return Step::Jump;
    }
    if (!w.namesItself(in, first))
      return Step::Next;
    g->token = uint64_t(first) | uint64_t(1) << 32; // who waits for whom
    g->barrier = 17;
  }
  uint32_t mask = uint32_t(g->token), wanted = mask & w.exists & ~w.exited, came = 0;
  for (auto &other : w.groups)
    if (other->token == g->token && other->barrier == 17)
      came |= other->lanes;
  if (wanted & ~came)
    return Step::Wait;
  // All are here: they know what each of them knows.
  Knowledge all;
  release(w.clocks.data(), came, all);
  acquire(w.clocks.data(), came, all);
  uint64_t token = g->token;
  for (auto &other : w.groups)
    if (other->token == token && other->barrier == 17) {
      other->token = 0;
      if (other.get() != g) {
        other->state = Group::Runnable;
        ++other->pc;
      }
    }
  return Step::Next;
}

void decodeWarpSync(DecodeContext &c) {
  c.operands({c.source(c.ast.operands[0], T::B32)});
  c.in.splits = true;
  c.in.gathers = true;
  c.in.execute = runWarpSync;
}

enum ShflMode : uint8_t { Up, Down, Bfly, Idx };

Step runShfl(Warp &w, const Instruction &in) {
  // operands: d, p (or none), a, b, c, mask
  return w.forMasks(in, in.operands[5], [&] {
    uint32_t source[32], *d = w.u32(in.operands[0]);
    const uint32_t *a = w.u32(in.operands[2]);
    std::copy(a, a + 32, source);
    uint32_t aDefined =
        in.operands[2].base == Operand::Register ? w.frame->defined[in.operands[2].row] : ~0u;
    uint32_t inRange = 0, defined = 0;
    forLanes(w.active, [&](unsigned lane) {
      uint32_t b = uint32_t(w.value(in.operands[3], lane)) & 31;
      uint32_t c = uint32_t(w.value(in.operands[4], lane));
      uint32_t clamp = c & 31, segment = c >> 8 & 31;
      uint32_t most = (lane & segment) | (clamp & ~segment & 31), least = lane & segment;
      int j = 0;
      bool ok = false;
      switch (in.mode[0]) {
      case Up:
        j = int(lane) - int(b);
        ok = j >= int(most);
        break;
      case Down:
        j = int(lane + b);
        ok = j <= int(most);
        break;
      case Bfly:
        j = int(lane ^ b);
        ok = j <= int(most);
        break;
      case Idx:
        j = int(least | (b & ~segment & 31));
        ok = j <= int(most);
        break;
      }
      if (!ok)
        j = int(lane);
      inRange |= uint32_t(ok) << lane;
      if (w.active >> j & 1) {
        d[lane] = source[j];
        defined |= (aDefined >> j & 1) << lane;
      } else {
        d[lane] = uint32_t(w.random.next()); // of a lane that does not take part: anything
      }
    });
    uint32_t &known = w.frame->defined[in.operands[0].row];
    known = (known & ~w.active) | defined;
    if (in.operands[1]) {
      w.setPredicate(in.operands[1], inRange);
      w.frame->defined[w.frame->function->definedIndex(in.operands[1])] |= w.active;
    }
  });
}

void decodeShfl(DecodeContext &c) {
  if (!c.ast.has(M::Sync))
    c.fail("shfl without .sync is not supported from sm_70 on");
  Operand d, p;
  const ptx::Operand &to = c.ast.operands[0];
  if (to.kind == ptx::Operand::Pair) {
    d = c.destination(to.elements[0]);
    if (to.elements[1].kind != ptx::Operand::Sink)
      p = c.destination(to.elements[1]);
  } else {
    d = c.destination(to);
  }
  Operand a = c.moved(c.ast.operands[1], T::B32);
  Operand b = c.source(c.ast.operands[2], T::B32), k = c.source(c.ast.operands[3], T::B32);
  Operand mask = c.source(c.ast.operands[4], T::B32);
  c.operands({d, p, a, b, k, mask});
  c.in.mode[0] = c.ast.has(M::Up)     ? Up
                 : c.ast.has(M::Down) ? Down
                 : c.ast.has(M::Bfly) ? Bfly
                                      : Idx;
  c.in.propagates = true;
  c.in.gathers = true;
  c.in.execute = runShfl;
}

enum VoteMode : uint8_t { All, Any, Uni, Ballot };

Step runVote(Warp &w, const Instruction &in) {
  // operands: d, predicate, mask
  return w.forMasks(in, in.operands[2], [&] {
    uint32_t p = w.predicate(in.operands[1]) & w.active;
    switch (in.mode[0]) {
    case All:
      w.setPredicate(in.operands[0], p == w.active ? ~0u : 0);
      break;
    case Any:
      w.setPredicate(in.operands[0], p ? ~0u : 0);
      break;
    case Uni:
      w.setPredicate(in.operands[0], p == w.active || !p ? ~0u : 0);
      break;
    case Ballot:
      forLanes(w.active, [&](unsigned lane) { w.u32(in.operands[0])[lane] = p; });
      break;
    }
  });
}

void decodeVote(DecodeContext &c) {
  if (!c.ast.has(M::Sync))
    c.fail("vote without .sync is not supported from sm_70 on");
  Operand d = c.destination(c.ast.operands[0]);
  Operand p = c.source(c.ast.operands[1], T::Pred);
  c.operands({d, p, c.source(c.ast.operands[2], T::B32)});
  c.in.mode[0] = c.ast.has(M::Ballot) ? Ballot
                 : c.ast.has(M::All)  ? All
                 : c.ast.has(M::Any)  ? Any
                                      : Uni;
  c.in.gathers = true;
  c.in.execute = runVote;
}

Step runMatch(Warp &w, const Instruction &in) {
  // operands: d, p (or none), a, mask
  return w.forMasks(in, in.operands[3], [&] {
    uint32_t result[32] = {};
    uint32_t all = 0;
    forLanes(w.active, [&](unsigned lane) {
      uint64_t mine = w.value(in.operands[2], lane);
      forLanes(w.active, [&](unsigned other) {
        if (w.value(in.operands[2], other) == mine)
          result[lane] |= 1u << other;
      });
      if (result[lane] == w.active)
        all |= 1u << lane;
    });
    bool any = in.mode[0];
    forLanes(w.active, [&](unsigned lane) {
      w.u32(in.operands[0])[lane] = any ? result[lane] : all == w.active ? w.active : 0;
    });
    if (in.operands[1])
      w.setPredicate(in.operands[1], all == w.active ? ~0u : 0);
  });
}

void decodeMatch(DecodeContext &c) {
  Operand d, p;
  const ptx::Operand &to = c.ast.operands[0];
  if (to.kind == ptx::Operand::Pair) {
    d = c.destination(to.elements[0]);
    if (to.elements[1].kind != ptx::Operand::Sink)
      p = c.destination(to.elements[1]);
  } else {
    d = c.destination(to);
  }
  Operand a = c.source(c.ast.operands[1], c.ast.type());
  c.operands({d, p, a, c.source(c.ast.operands[2], T::B32)});
  c.in.mode[0] = c.ast.has(M::Any);
  c.in.gathers = true;
  c.in.execute = runMatch;
}

enum ReduxMode : uint8_t { RAdd, RMinU, RMaxU, RMinS, RMaxS, RAnd, ROr, RXor };

Step runRedux(Warp &w, const Instruction &in) {
  // operands: d, a, mask
  return w.forMasks(in, in.operands[2], [&] {
    const uint32_t *a = w.u32(in.operands[1]);
    uint32_t r = a[firstOf(w.active)];
    forLanes(w.active & (w.active - 1), [&](unsigned lane) {
      uint32_t v = a[lane];
      switch (in.mode[0]) {
      case RAdd:
        r += v;
        break;
      case RMinU:
        r = std::min(r, v);
        break;
      case RMaxU:
        r = std::max(r, v);
        break;
      case RMinS:
        r = uint32_t(std::min(int32_t(r), int32_t(v)));
        break;
      case RMaxS:
        r = uint32_t(std::max(int32_t(r), int32_t(v)));
        break;
      case RAnd:
        r &= v;
        break;
      case ROr:
        r |= v;
        break;
      case RXor:
        r ^= v;
        break;
      }
    });
    forLanes(w.active, [&](unsigned lane) { w.u32(in.operands[0])[lane] = r; });
  });
}

void decodeRedux(DecodeContext &c) {
  T type = c.ast.type();
  if (type == T::F32)
    c.fail("redux.sync of .f32 needs sm_100a, the chip is sm_" + std::to_string(c.chip.capability));
  bool isSigned = type == T::S32;
  c.in.mode[0] = c.ast.has(M::Add)   ? RAdd
                 : c.ast.has(M::Min) ? (isSigned ? RMinS : RMinU)
                 : c.ast.has(M::Max) ? (isSigned ? RMaxS : RMaxU)
                 : c.ast.has(M::And) ? RAnd
                 : c.ast.has(M::Or)  ? ROr
                                     : RXor;
  Operand d = c.destination(c.ast.operands[0]);
  Operand a = c.source(c.ast.operands[1], type);
  c.operands({d, a, c.source(c.ast.operands[2], T::B32)});
  c.in.gathers = true;
  c.in.execute = runRedux;
}

/// The elected lane is the same for the same mask, and up to the seed.
Step runElect(Warp &w, const Instruction &in) {
  // operands: d, p, mask
  return w.forMasks(in, in.operands[2], [&] {
    uint32_t mask = w.active;
    uint64_t draw = mix(w.block.launch.config.seed ^ mix(w.id) ^ mask);
    unsigned nth = unsigned(draw % unsigned(std::popcount(mask)));
    uint32_t rest = mask;
    for (; nth; --nth)
      rest &= rest - 1;
    unsigned leader = firstOf(rest);
    forLanes(w.active, [&](unsigned lane) { w.u32(in.operands[0])[lane] = leader; });
    if (in.operands[1])
      w.setPredicate(in.operands[1], 1u << leader);
  });
}

void decodeElect(DecodeContext &c) {
  c.needs(90);
  const ptx::Operand &to = c.ast.operands[0];
  if (to.kind != ptx::Operand::Pair)
    c.fail("expects a destination d|p");
  Operand d = c.destination(to.elements[0]), p;
  if (to.elements[1].kind != ptx::Operand::Sink)
    p = c.destination(to.elements[1]);
  c.operands({d, p, c.source(c.ast.operands[1], T::B32)});
  c.in.gathers = true;
  c.in.execute = runElect;
}

Step runActivemask(Warp &w, const Instruction &in) {
  forLanes(w.active, [&](unsigned lane) { w.u32(in.operands[0])[lane] = w.active; });
  return Step::Next;
}

void decodeActivemask(DecodeContext &c) {
  c.operands({c.destination(c.ast.operands[0])});
  c.in.execute = runActivemask;
}

const RegisterDecoders threads({{O::Bar, decodeBarrier},
                                {O::Barrier, decodeBarrier},
                                {O::BarrierCluster, decodeClusterBarrier},
                                {O::BarWarpSync, decodeWarpSync},
                                {O::Shfl, decodeShfl},
                                {O::Vote, decodeVote},
                                {O::Match, decodeMatch},
                                {O::Redux, decodeRedux},
                                {O::ElectSync, decodeElect},
                                {O::Activemask, decodeActivemask}});
} // namespace
