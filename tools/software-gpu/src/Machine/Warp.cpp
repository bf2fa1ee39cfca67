//===- Warp.cpp - Groups of lanes: how they part and meet -------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A warp is a set of groups; the lanes of a group are at the same instruction of the same frame. A
// branch that lanes take differently splits a group. The parts meet again at the post-dominator of
// the branch: who comes first parks there. Whoever would wait for ever (parked lanes hold what the
// others spin on) is freed by the scheduler: a split is a hint, never a barrier.
//===----------------------------------------------------------------------===//
#include "Machine/Warp.h"
#include "Machine/Launch.h"

#include <algorithm>
#include <array>
#include <cstring>

using namespace sgpu;

static uint32_t maskOf(uint32_t threads) { return threads >= 32 ? ~0u : (1u << threads) - 1; }

/// Bits of the seed: a word for the register, other bits of it in every lane.
static void poisonRow(uint32_t *row, uint32_t lanes, uint32_t word) {
  static constexpr std::array<uint32_t, 32> salts = [] {
    std::array<uint32_t, 32> s{};
    for (uint32_t lane = 0; lane < 32; ++lane)
      s[lane] = uint32_t(mix(lane));
    return s;
  }();
  for (unsigned lane = 0; lane < 32; ++lane)
    row[lane] = lanes >> lane & 1 ? word ^ salts[lane] : row[lane];
}

Warp::Warp(Block &block, unsigned index)
    : block(block), index(index), id(block.linear * block.launch.warpsPerBlock + index),
      specials(special::Rows * 32), exitedAt(32, 0), random(block.random.split(index)) {
  const Launch &launch = block.launch;
  const LaunchConfig &config = launch.config;
  uint32_t threads = uint32_t(config.block.count());
  exists = maskOf(threads - std::min(threads, index * 32));
  clocks.resize(32);
  const Dim3 &b = config.block, &g = config.grid, &c = launch.cluster;
  auto row = [&](uint32_t r) { return &specials[r * 32]; };
  auto fill = [&](uint32_t r, uint32_t value) { std::fill_n(row(r), 32, value); };
  auto triple = [&](uint32_t r, const Dim3 &d) {
    fill(r, d.x), fill(r + 1, d.y), fill(r + 2, d.z);
  };
  triple(special::NtidX, b);
  triple(special::CtaidX, block.index);
  triple(special::NctaidX, g);
  triple(special::ClusteridX, {block.index.x / c.x, block.index.y / c.y, block.index.z / c.z});
  triple(special::NclusteridX, {g.x / c.x, g.y / c.y, g.z / c.z});
  triple(special::ClusterCtaidX, {block.index.x % c.x, block.index.y % c.y, block.index.z % c.z});
  triple(special::ClusterNctaidX, c);
  fill(special::ClusterCtarank, block.rank);
  fill(special::ClusterNctarank, uint32_t(c.count()));
  fill(special::Warpid, index);
  fill(special::Nwarpid, launch.chip.threadsPerSm / 32);
  fill(special::Smid, uint32_t(block.linear % launch.chip.multiprocessors));
  fill(special::Nsmid, launch.chip.multiprocessors);
  fill(special::TotalSmemSize, launch.sharedEnd - window::sharedStart);
  fill(special::DynamicSmemSize, config.dynamicShared);
  fill(special::ReservedEnd, window::sharedStart);
  fill(special::ReservedCap, window::sharedStart);
  for (unsigned lane = 0; lane < 32; ++lane) {
    clocks[lane].id = AgentId(id, AgentKind::Thread, lane);
    uint32_t t = index * 32 + lane, less = (1u << lane) - 1, equal = 1u << lane;
    row(special::TidX)[lane] = t % b.x;
    row(special::TidX + 1)[lane] = t / b.x % b.y;
    row(special::TidX + 2)[lane] = t / b.x / b.y;
    row(special::Laneid)[lane] = lane;
    row(special::LanemaskEq)[lane] = equal;
    row(special::LanemaskLt)[lane] = less;
    row(special::LanemaskLe)[lane] = less | equal;
    row(special::LanemaskGe)[lane] = ~less;
    row(special::LanemaskGt)[lane] = ~less & ~equal;
  }
  auto *gridid = reinterpret_cast<uint64_t *>(&specials[special::Gridid * 32]);
  std::fill(gridid, gridid + 32, config.work.id);
  auto first = std::make_unique<Group>();
  first->lanes = exists;
  first->frame = makeFrame(*launch.program.entry, exists, nullptr);
  groups.push_back(std::move(first));
}

void Warp::growLocal(uint32_t bytes) {
  if (bytes <= localStride)
    return;
  uint32_t stride = std::max(bytes, localStride * 2);
  std::vector<uint8_t> data(size_t(stride) * 32), state(size_t(stride) * 32);
  for (unsigned lane = 0; lane < 32; ++lane) {
    std::copy_n(local.begin() + ptrdiff_t(lane) * localStride, localStride,
                data.begin() + ptrdiff_t(lane) * stride);
    std::copy_n(localState.begin() + ptrdiff_t(lane) * localStride, localStride,
                state.begin() + ptrdiff_t(lane) * stride);
  }
  local = std::move(data);
  localState = std::move(state);
  localStride = stride;
}

std::shared_ptr<Frame> Warp::makeFrame(const Function &function, uint32_t lanes,
                                       const std::shared_ptr<Frame> &caller) {
  auto f = std::make_shared<Frame>();
  f->function = &function;
  f->caller = caller;
  // Registers start with bits of the seed: nobody may count on zeros.
  f->rows.resize(size_t(function.rows) * 32);
  for (uint32_t r = 0; r < function.rows; ++r)
    poisonRow(&f->rows[size_t(r) * 32], ~0u, uint32_t(random.next()));
  f->predicates.resize(function.numPredicates);
  for (uint32_t &p : f->predicates)
    p = uint32_t(random.next());
  f->predicates[function.always] = ~0u;
  f->defined.resize(function.numDefined());
  f->defined[function.rows + function.always] = ~0u;
  f->params.resize(size_t(function.paramBytes) * 32);
  if (function.localBytes) {
    uint32_t start = caller ? caller->localTop : 0, a = function.localAlignment;
    f->localBase = (start + a - 1) / a * a;
    f->localTop = f->localBase + function.localBytes;
    growLocal(f->localTop);
    forLanes(lanes, [&](unsigned lane) {
      std::memset(&localState[size_t(lane) * localStride + f->localBase], 0, function.localBytes);
    });
  } else {
    f->localBase = f->localTop = caller ? caller->localTop : 0;
  }
  for (const Function::LocalAddress &a : function.localAddresses) {
    auto *row = reinterpret_cast<uint64_t *>(&f->rows[a.row * 32]);
    std::fill(row, row + 32, f->localBase + a.offset);
    f->defined[a.row] = ~0u;
  }
  return f;
}

void Warp::enter(Group &g) {
  group = &g;
  frame = g.frame.get();
  bases[Operand::Register] = frame->rows.data();
  bases[Operand::Constant] = frame->function->constants.data();
  bases[Operand::Special] = specials.data();
  counts = &block.cluster.worker.counts[frame->function->ordinal];
}

//===----------------------------------------------------------------------===//
// Splits
//===----------------------------------------------------------------------===//

/// Lets the parked lanes of a split go on if nobody else is expected there.
static void releaseIfComplete(Warp &w, const std::shared_ptr<Split> &split) {
  for (auto &g : w.groups)
    if (g->state == Group::Parked && g->splits.back() == split && g->lanes == split->members) {
      g->splits.pop_back();
      g->state = Group::Runnable;
      w.quiet = 0;
      return;
    }
}

void Warp::leaveSplits(Group &g, size_t from) {
  while (g.splits.size() > from) {
    std::shared_ptr<Split> split = g.splits.back();
    g.splits.pop_back();
    split->members &= ~g.lanes;
    releaseIfComplete(*this, split);
  }
}

Group &Warp::splitOff(uint32_t lanes, uint32_t pc, uint32_t meet) {
  if (meet != ~0u) {
    bool same = !group->splits.empty() && group->splits.back()->pc == meet &&
                group->splits.back()->frame == group->frame;
    if (!same) {
      auto split = std::make_shared<Split>();
      split->pc = meet;
      split->frame = group->frame;
      split->members = group->lanes;
      group->splits.push_back(std::move(split));
    }
  }
  auto part = std::make_unique<Group>();
  part->lanes = lanes;
  part->pc = pc;
  part->frame = group->frame;
  part->splits = group->splits;
  group->lanes &= ~lanes;
  active &= group->lanes;
  groups.push_back(std::move(part));
  return *groups.back();
}

void Warp::branch(const Instruction &in, uint32_t taken, uint32_t target) {
  if (taken == group->lanes) {
    group->pc = target;
  } else if (!taken) {
    group->pc = in.index + 1;
  } else {
    Group &other = splitOff(taken, target, in.meet);
    group->pc = in.index + 1;
    if (random.next() & 1) // who goes first is up to the seed
      enter(other);
  }
}

void Warp::exitLanes(const Instruction &in) {
  uint32_t gone = group->lanes;
  const Frame *f = frame;
  uint32_t at = in.index;
  while (f->caller) {
    at = f->returnTo - 1;
    f = f->caller.get();
  }
  forLanes(gone, [&](unsigned lane) { exitedAt[lane] = at; });
  leaveSplits(*group, 0);
  exited |= gone;
  block.live -= unsigned(std::popcount(gone));
  std::erase_if(groups, [&](const auto &g) { return g.get() == group; });
  group = nullptr;
  ++block.cluster.worker.events;
  block.notify();
  block.threadsExited();
}

/// Groups `into` and `other` become one; both are at the same place. What the two do not have in
/// common of their splits is left.
static void merge(Warp &w, Group &into, Group *other) {
  size_t common = 0;
  while (common < into.splits.size() && common < other->splits.size() &&
         into.splits[common] == other->splits[common])
    ++common;
  std::unique_ptr<Group> gone;
  for (auto it = w.groups.begin(); it != w.groups.end(); ++it)
    if (it->get() == other) {
      gone = std::move(*it);
      w.groups.erase(it);
      break;
    }
  w.leaveSplits(into, common);
  w.leaveSplits(*gone, common);
  into.lanes |= gone->lanes;
}

bool Warp::namesItself(const Instruction &in, uint32_t mask) {
  uint32_t missing = active & ~mask;
  if (!missing)
    return true;
  char text[96];
  std::snprintf(text, sizeof text,
                "runs an instruction whose mask of lanes, 0x%08x, does not name it", mask);
  report(Check::Barrier, unsigned(std::countr_zero(missing)), in, text);
  return false;
}

bool Warp::gather(const Instruction &in, uint32_t members) {
  uint32_t wanted = members & exists & ~exited;
  if (!(wanted & ~active))
    return true;
  // Other groups that wait here, or are about to come here.
  for (size_t i = 0; i < groups.size();) {
    Group *g = groups[i].get();
    if (g != group && g->pc == group->pc && g->frame == group->frame &&
        (g->state == Group::Waiting || g->state == Group::Runnable) && !g->token &&
        !(g->lanes & ~wanted)) {
      Group *self = group;
      merge(*this, *self, g);
      i = 0;
    } else {
      ++i;
    }
  }
  active = group->lanes;
  if (in.guard)
    active &= frame->predicates[in.guard.row] ^ (in.guard.negated ? ~0u : 0u);
  reason.clear(); // the message of a deadlock says it by itself
  return !(wanted & ~active);
}

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

Place Warp::place(unsigned lane, const Instruction &in) const {
  Place p;
  p.kernel = block.launch.kernel;
  const Function *f = block.launch.program.entry; // an instruction may outlive its frame
  for (const auto &function : block.launch.program.functions)
    if (function && &in >= function->code.data() &&
        &in < function->code.data() + function->code.size())
      f = function.get();
  p.line = int(in.line);
  p.text = f->text(in);
  p.source = f->source(in);
  p.block = block.index;
  const Dim3 &b = block.launch.config.block;
  uint32_t t = index * 32 + lane;
  p.thread = {t % b.x, t / b.x % b.y, t / b.x / b.y};
  return p;
}

void Warp::report(Check check, unsigned lane, const Instruction &in, std::string message) {
  Reporter &reporter = block.launch.reporter;
  if (reporter.enabled(check))
    reporter.add({.check = check, .message = std::move(message), .place = place(lane, in)});
}

Actor Warp::actor(unsigned lane, const Instruction &in, Scope scope) {
  Actor a;
  a.warp = this;
  a.lane = lane;
  a.instruction = &in;
  a.clock = &clocks[lane];
  a.scope = scope;
  return a;
}

//===----------------------------------------------------------------------===//
// Registers that asynchronous operations own
//===----------------------------------------------------------------------===//

void Warp::hold(std::span<const uint32_t> defined, uint32_t lanes, bool forWrite,
                std::shared_ptr<const Place> by) {
  auto &mask = forWrite ? frame->heldForWrite : frame->held;
  if (mask.empty())
    mask.resize(frame->function->numDefined());
  frame->holders.resize(frame->function->numDefined());
  uint32_t rows = frame->function->rows;
  for (uint32_t i : defined) {
    mask[i] |= lanes;
    frame->holders[i] = by;
    if (forWrite || i >= rows)
      continue;
    poisonRow(&frame->rows[i * 32], lanes, uint32_t(random.next()));
  }
}

void Warp::unhold(Frame &f, std::span<const uint32_t> defined, uint32_t lanes) {
  for (auto *mask : {&f.held, &f.heldForWrite})
    if (!mask->empty())
      for (uint32_t i : defined)
        (*mask)[i] &= ~lanes;
}

//===----------------------------------------------------------------------===//
// Counters
//===----------------------------------------------------------------------===//

void Warp::countGlobal(const Instruction &in, const uint64_t *addresses, uint32_t lanes,
                       unsigned bytes, bool sideBySide) {
  Counts &c = (*counts)[in.index];
  ++c.requests;
  uint64_t total = uint64_t(std::popcount(lanes)) * bytes;
  c.bytes += total;
  if (sideBySide) {
    uint64_t first = addresses[std::countr_zero(lanes)];
    c.sectors += (first + total - 1) / 32 - first / 32 + 1;
    return;
  }
  // Sectors: mostly in rising order, so the last one is often the same.
  uint64_t seen[32 * 2];
  unsigned count = 0;
  uint64_t last = ~uint64_t(0);
  bool rising = true;
  forLanes(lanes, [&](unsigned lane) {
    uint64_t first = addresses[lane] / 32, end = (addresses[lane] + bytes - 1) / 32;
    for (uint64_t s = first; s <= end; ++s) {
      if (s == last)
        continue;
      rising &= count == 0 || s > last;
      last = s;
      if (count < 64)
        seen[count++] = s;
    }
  });
  if (!rising) {
    std::sort(seen, seen + count);
    count = unsigned(std::unique(seen, seen + count) - seen);
  }
  c.sectors += count;
}

/// Shared memory has 32 banks of 4 bytes and serves one row of them in a pass. Lanes that ask for
/// the same word are served together. Accesses of 8 bytes go in two halves of the warp, those of 16
/// bytes in four quarters, each of which takes as many passes as its worst bank has different words.
void Warp::countShared(const Instruction &in, const uint64_t *addresses, uint32_t lanes,
                       unsigned bytes, bool sideBySide) {
  Counts &c = (*counts)[in.index];
  ++c.sharedRequests;
  unsigned words = std::max(1u, bytes / 4), group = 32 / std::min(words, 32u);
  for (unsigned first = 0; first < 32; first += group) {
    uint32_t part = lanes & (maskOf(group) << first);
    if (!part)
      continue;
    ++c.idealWavefronts;
    if (sideBySide) {
      ++c.wavefronts;
      continue;
    }
    uint32_t distinct[32][32]; // words asked of each bank
    uint8_t asked[32] = {};
    unsigned worst = 0;
    forLanes(part, [&](unsigned lane) {
      uint32_t start = uint32_t(addresses[lane]) / 4;
      for (uint32_t w = start; w < start + words; ++w) {
        unsigned bank = w % 32, i = 0;
        while (i < asked[bank] && distinct[bank][i] != w)
          ++i;
        if (i == asked[bank] && i < 32) {
          distinct[bank][i] = w;
          worst = std::max(worst, unsigned(++asked[bank]));
        }
      }
    });
    c.wavefronts += worst;
  }
}

void Warp::countTensor(const Instruction &in, uint64_t multiplyAdds) {
  (*counts)[in.index].tensorOps += multiplyAdds;
}
