//===- Clocks.cpp -----------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Memory/Clocks.h"

#include <algorithm>
#include <bit>

using namespace sgpu;

const uint32_t *VectorClock::row(uint64_t group) const {
  // Mostly it holds the threads of one block: groups 4 apart.
  if (entries.empty())
    return nullptr;
  uint64_t guess = (group - entries.front().group) >> 2;
  if (guess < entries.size() && entries[guess].group == group)
    return entries[guess].times;
  auto it = std::lower_bound(entries.begin(), entries.end(), group,
                             [](const Entry &e, uint64_t g) { return e.group < g; });
  return it != entries.end() && it->group == group ? it->times : nullptr;
}

uint32_t *VectorClock::rowToRaise(uint64_t group) {
  if (const uint32_t *times = row(group))
    return const_cast<uint32_t *>(times);
  auto it = std::lower_bound(entries.begin(), entries.end(), group,
                             [](const Entry &e, uint64_t g) { return e.group < g; });
  return entries.insert(it, Entry{group, {}})->times;
}

void VectorClock::raise(AgentId agent, uint32_t time) {
  uint32_t &t = rowToRaise(agent.group())[agent.lane()];
  t = std::max(t, time);
}

void VectorClock::join(const VectorClock &other) {
  if (entries.size() == other.entries.size() &&
      std::equal(entries.begin(), entries.end(), other.entries.begin(),
                 [](const Entry &a, const Entry &b) { return a.group == b.group; })) {
    for (size_t i = 0; i < entries.size(); ++i)
      for (unsigned l = 0; l < 32; ++l)
        entries[i].times[l] = std::max(entries[i].times[l], other.entries[i].times[l]);
    return;
  }
  std::vector<Entry> merged;
  merged.reserve(entries.size() + other.entries.size());
  auto a = entries.begin();
  auto b = other.entries.begin();
  while (a != entries.end() || b != other.entries.end()) {
    if (b == other.entries.end() || (a != entries.end() && a->group < b->group)) {
      merged.push_back(*a++);
    } else if (a == entries.end() || b->group < a->group) {
      merged.push_back(*b++);
    } else {
      merged.push_back(*a);
      for (unsigned l = 0; l < 32; ++l)
        merged.back().times[l] = std::max(a->times[l], b->times[l]);
      ++a, ++b;
    }
  }
  entries = std::move(merged);
}

void VectorClock::meet(const VectorClock &other) {
  for (Entry &e : entries) {
    const uint32_t *times = other.row(e.group);
    for (unsigned l = 0; l < 32; ++l)
      e.times[l] = times ? std::min(e.times[l], times[l]) : 0;
  }
}

bool VectorClock::covers(const VectorClock &other) const {
  for (const Entry &e : other.entries) {
    const uint32_t *times = row(e.group);
    for (unsigned l = 0; l < 32; ++l)
      if (e.times[l] > (times ? times[l] : 0))
        return false;
  }
  return true;
}

/// The clock behind `into`, to be changed: a copy if others share it.
static VectorClock &own(ClockRef &into) {
  if (!into)
    into = std::make_shared<VectorClock>();
  else if (into.use_count() > 1)
    into = std::make_shared<VectorClock>(*into);
  return const_cast<VectorClock &>(*into);
}

void sgpu::join(ClockRef &into, const ClockRef &other) {
  if (!other || into == other)
    return;
  if (!into || other->covers(*into))
    into = other;
  else if (!into->covers(*other))
    own(into).join(*other);
}

void sgpu::raise(ClockRef &into, AgentId agent, uint32_t time) {
  if (!into || into->of(agent) < time)
    own(into).raise(agent, time);
}

void Knowledge::join(const Knowledge &other) {
  sgpu::join(all, other.all);
  sgpu::join(proxy, other.proxy);
  sgpu::join(fenced, other.fenced);
  sgpu::join(fencedCta, other.fencedCta);
  sgpu::join(inits, other.inits);
}

Knowledge AgentClock::snapshot() const {
  Knowledge k = known;
  raise(k.all, id, time);
  return k;
}

void AgentClock::release(Knowledge &object) {
  object.join(known);
  raise(object.all, id, time);
  tick();
}

void AgentClock::proxyFence() {
  known.proxy = known.all;
  raise(known.proxy, id, time);
  tick();
}

void AgentClock::fence(bool cta) {
  if (pending) {
    join(known.all, pending);
    pending = nullptr;
  }
  ClockRef &published = cta ? known.fencedCta : known.fenced;
  published = known.all;
  raise(published, id, time);
  tick();
}

void AgentClock::initFence() {
  raise(known.inits, id, time);
  tick();
}

void AgentClock::releaseFenced(Knowledge &object) {
  Knowledge k;
  k.all = k.fenced = known.fenced;
  k.inits = known.inits;
  if (k.all)
    k.proxy = known.proxy; // of what is ordered
  object.join(k);
  tick();
}

void AgentClock::publish(Released &at, bool releases, bool keep, bool cta, uint64_t ctaId) {
  if (!keep)
    at = Released();
  if (at.cta && at.ctaId != ctaId)
    at.cta = nullptr;
  at.ctaId = ctaId;
  if (releases) {
    ClockRef now = known.all;
    raise(now, id, time);
    join(cta ? at.cta : at.any, now);
    tick();
  } else {
    join(cta ? at.cta : at.any, known.fenced);
    join(at.cta, known.fencedCta);
  }
  join(at.proxy, known.proxy);
}

void AgentClock::observe(const Released &at, bool acquires, bool cta, uint64_t ctaId) {
  ClockRef &into = acquires ? known.all : pending;
  if (!cta || at.ctaId == ctaId)
    join(into, at.any);
  if (at.ctaId == ctaId)
    join(into, at.cta);
  join(known.proxy, at.proxy);
}

/// Runs body(first lane, lanes) for every set of lanes that know the same.
template <typename Body> static void forAlike(AgentClock *clocks, uint32_t lanes, Body body) {
  while (lanes) {
    unsigned first = std::countr_zero(lanes);
    const Knowledge &k = clocks[first].known;
    uint32_t alike = 0;
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
      unsigned l = std::countr_zero(rest);
      const Knowledge &other = clocks[l].known;
      if (other.all == k.all && other.proxy == k.proxy && other.fenced == k.fenced &&
          other.fencedCta == k.fencedCta && other.inits == k.inits)
        alike |= 1u << l;
    }
    body(first, alike);
    lanes &= ~alike;
  }
}

static void raiseAll(ClockRef &into, AgentClock *clocks, uint32_t lanes) {
  uint32_t *times = own(into).rowToRaise(clocks[0].id.group()); // threads of one warp
  for (; lanes; lanes &= lanes - 1) {
    unsigned lane = unsigned(std::countr_zero(lanes));
    times[lane] = std::max(times[lane], clocks[lane].time);
    clocks[lane].tick();
  }
}

void sgpu::release(AgentClock *clocks, uint32_t lanes, Knowledge &object) {
  forAlike(clocks, lanes, [&](unsigned first, uint32_t alike) {
    object.join(clocks[first].known);
    raiseAll(object.all, clocks, alike);
  });
}

void sgpu::acquire(AgentClock *clocks, uint32_t lanes, const Knowledge &object) {
  forAlike(clocks, lanes, [&](unsigned first, uint32_t alike) {
    Knowledge k = clocks[first].known;
    k.join(object);
    for (; alike; alike &= alike - 1)
      clocks[std::countr_zero(alike)].known = k;
  });
}

void sgpu::proxyFence(AgentClock *clocks, uint32_t lanes) {
  forAlike(clocks, lanes, [&](unsigned first, uint32_t alike) {
    ClockRef proxy = clocks[first].known.all;
    raiseAll(proxy, clocks, alike);
    for (; alike; alike &= alike - 1)
      clocks[std::countr_zero(alike)].known.proxy = proxy;
  });
}

void sgpu::fence(AgentClock *clocks, uint32_t lanes, bool cta) {
  uint32_t waiting = 0;
  for (uint32_t rest = lanes; rest; rest &= rest - 1)
    if (unsigned l = std::countr_zero(rest); clocks[l].pending)
      waiting |= 1u << l;
  for (uint32_t rest = waiting; rest; rest &= rest - 1)
    clocks[std::countr_zero(rest)].fence(cta);
  forAlike(clocks, lanes & ~waiting, [&](unsigned first, uint32_t alike) {
    ClockRef published = clocks[first].known.all;
    raiseAll(published, clocks, alike);
    for (; alike; alike &= alike - 1) {
      Knowledge &k = clocks[std::countr_zero(alike)].known;
      (cta ? k.fencedCta : k.fenced) = published;
    }
  });
}
