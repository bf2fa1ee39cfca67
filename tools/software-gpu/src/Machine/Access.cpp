//===- Access.cpp - Checked access to every state space ---------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/State.h"
#include "Machine/Launch.h"
#include "Machine/Warp.h"

#include <algorithm>
#include <cstring>
#include <optional>

using namespace sgpu;

void SharedMemory::setState(uint32_t offset, uint32_t size, ByteState to) {
  std::memset(&state[offset], int(to), size);
  if (to == ByteState::Written)
    return;
  for (uint32_t i = offset; i < offset + size; ++i)
    bytes[i] = uint8_t(mix(poisonSeed ^ (i >> 3)) >> (i & 7) * 8);
}

namespace {
const char *spaceName(Space space) {
  switch (space) {
  case Space::Generic:
    return "generic";
  case Space::Global:
    return "global";
  case Space::Shared:
    return "shared";
  case Space::Local:
    return "local";
  case Space::Param:
    return "param";
  case Space::Const:
    return "constant";
  }
  return "";
}

/// Reports the faults of one actor, with all that is known of the place and the address.
class ActorSink final : public FaultSink {
public:
  ActorSink(Block &block, const Actor &actor, Space space, Block *target = nullptr)
      : block(block), actor(actor), space(space), target(target) {}

  void fault(const Fault &f) override {
    Launch &launch = block.launch;
    if (f.check == Check::OutOfBounds || f.check == Check::Misaligned ||
        f.check == Check::UseAfterFree)
      launch.fail(f.check);
    if (!launch.reporter.enabled(f.check))
      return;
    Report r{.check = f.check,
             .message = f.message,
             .place =
                 actor.place ? *actor.place : actor.warp->place(actor.lane, *actor.instruction)};
    r.place.what = actor.what;
    r.hasAddress = true;
    r.address = f.address;
    if (space == Space::Shared)
      r.memory = describeShared(uint32_t(f.address));
    else if (space == Space::Local)
      r.memory = "local memory of the thread";
    else if (space == Space::Param)
      r.memory = "parameters of the kernel";
    else
      r.memory = launch.memory.describe(f.address);
    if (f.conflict) {
      r.others.push_back(other(*f.conflict));
      if (f.check == Check::Race && isReadOnly({actor.clock->id, actor.clock->time}))
        r.message = "read with .nc of bytes that the same kernel writes";
      else if (f.check == Check::Race && isReadOnly(f.conflict->epoch))
        r.message = "write of bytes that the same kernel reads with .nc";
    }
    if (f.check == Check::InFlight)
      if (const Pending *p =
              block.cluster.pending.writing(target ? target : &block, space, f.address))
        r.others.push_back(p->place);
    launch.reporter.add(std::move(r));
  }

  Place other(const Conflict &c) const {
    Launch &launch = block.launch;
    Place p;
    p.what = c.write ? "write" : "read";
    if (space != Space::Shared && c.work != launch.config.work.id) {
      p.call = launch.config.work.name ? launch.config.work.name(c.work) : "earlier work";
      return p;
    }
    p.kernel = launch.kernel;
    p.line = int(c.site);
    uint64_t warp = c.epoch.agent.warp(), cta = warp / launch.warpsPerBlock;
    p.block = blockIndex(launch, cta);
    const Dim3 &b = launch.config.block;
    const bool bulk = c.epoch.agent.kind() == AgentKind::Bulk;
    std::optional<unsigned> lane = bulk ? issuerOf(c.epoch.agent) : c.epoch.agent.lane();
    uint32_t t = uint32_t(warp % launch.warpsPerBlock) * 32 + lane.value_or(0);
    p.thread = {t % b.x, t / b.x % b.y, t / b.x / b.y};
    if (c.epoch.agent.kind() != AgentKind::Thread && !isReadOnly(c.epoch))
      p.what +=
          lane ? " by an asynchronous operation" : " by an asynchronous operation of this warp";
    for (const auto &function : launch.program.functions)
      if (function)
        for (const Instruction &in : function->code)
          if (in.line == c.site && p.text.empty()) {
            p.text = function->text(in);
            p.source = function->source(in);
          }
    return p;
  }

private:
  /// The lane that issued a bulk copy; what warps of other clusters have issued is not known here.
  std::optional<unsigned> issuerOf(AgentId agent) const {
    for (const auto &b : block.cluster.blocks)
      for (const auto &w : b->warps)
        if (w->id == agent.warp())
          return asyncOf(*w).bulkIssuer[agent.lane()];
    return std::nullopt;
  }

  std::string describeShared(uint32_t offset) const {
    std::string s =
        "shared memory of block rank " + std::to_string((target ? target : &block)->rank);
    if (block.cluster.blocks.size() == 1)
      s = "shared memory of the block";
    const Program &program = block.launch.program;
    for (const auto &v : program.sharedVariables)
      if (offset - v.offset < v.bytes)
        return s + ", byte " + std::to_string(offset - v.offset) + " of " + v.name;
    if (offset >= program.dynamicStart && offset < block.launch.sharedEnd)
      return s + ", byte " + std::to_string(offset - program.dynamicStart) + " of the dynamic part";
    return s + ", which has " + std::to_string(block.launch.sharedEnd - window::sharedStart) +
           " bytes from " + std::to_string(window::sharedStart);
  }

  Block &block;
  const Actor &actor;
  Space space;
  Block *target;
};

Access accessOf(const Actor &actor, const Block &block, bool write, bool global) {
  Access a;
  a.agent = actor.clock;
  a.lanes = actor.lanes;
  a.work = global ? &block.launch.config.work : nullptr;
  a.site = actor.instruction->line;
  a.scope = actor.scope;
  a.proxy = actor.proxy;
  a.write = write;
  a.warpsPerCta = block.launch.warpsPerBlock;
  a.ctasPerCluster = uint32_t(block.launch.cluster.count());
  return a;
}

/// accessOf, or what is kept of it for the lanes of an instruction.
class AccessRef {
public:
  AccessRef(const Actor &actor, const Block &block, bool write, bool global) {
    std::optional<Access> &kept = !actor.accesses ? own
                                  : global        ? actor.accesses->global
                                                  : actor.accesses->shared;
    if (!kept) {
      kept.emplace(accessOf(actor, block, write, global));
    } else if (kept->agent != actor.clock) {
      const Knowledge &before = kept->agent->known, &now = actor.clock->known;
      if (before.all != now.all || before.proxy != now.proxy)
        kept->found = {};
      kept->agent = actor.clock;
    }
    access = &*kept;
  }
  operator const Access &() const { return *access; }

private:
  std::optional<Access> own;
  const Access *access;
};

std::string accessText(bool write, uint64_t bytes) {
  return std::string(write ? "write of " : "read of ") + std::to_string(bytes) + " bytes ";
}

/// Space and address of a generic address.
void resolve(Space &space, uint64_t &address) {
  if (space == Space::Const) {
    space = Space::Global;
  } else if (space == Space::Generic) {
    switch (address & window::mask) {
    case window::shared:
      space = Space::Shared;
      break;
    case window::local:
      space = Space::Local;
      break;
    case window::param:
      space = Space::Param;
      break;
    default:
      space = Space::Global;
      return;
    }
    address &= ~window::mask;
  }
}

void poisonInto(void *to, uint32_t bytes, uint64_t seed) {
  auto *out = static_cast<uint8_t *>(to);
  for (uint32_t i = 0; i < bytes; ++i)
    out[i] = uint8_t(mix(seed + i / 8) >> (i % 8) * 8);
}

constexpr uint64_t frameParam = uint64_t(1) << 40;
} // namespace

Block *Block::sharedTarget(const Actor &actor, uint32_t address, uint32_t &offset) {
  uint32_t r = address >> window::rankShift;
  offset = address & ((1u << window::rankShift) - 1);
  if (r == 0)
    return this;
  if (r - 1 < cluster.blocks.size())
    return cluster.blocks[r - 1].get();
  ActorSink sink(*this, actor, Space::Shared);
  sink.fault({Check::OutOfBounds,
              "address of block rank " + std::to_string(r - 1) + " in a cluster of " +
                  std::to_string(cluster.blocks.size()),
              address});
  return nullptr;
}

bool Block::check(const Actor &actor, Space space, uint64_t address, uint64_t bytes,
                  uint32_t alignment, bool write) {
  resolve(space, address);
  ActorSink sink(*this, actor, space);
  if (alignment > 1 && address % alignment) {
    sink.fault({Check::Misaligned,
                accessText(write, bytes) + "at an address that is not a multiple of " +
                    std::to_string(alignment),
                address});
    return false;
  }
  switch (space) {
  case Space::Shared: {
    uint32_t offset;
    Block *target = sharedTarget(actor, uint32_t(address), offset);
    if (!target)
      return false;
    if (offset < window::sharedStart || offset + bytes > target->shared.end) {
      sink.fault(
          {Check::OutOfBounds, accessText(write, bytes) + "outside of shared memory", offset});
      return false;
    }
    if (target != this && !target->live && target->started) {
      sink.fault({Check::OutOfBounds,
                  accessText(write, bytes) + "in shared memory of a block that has exited",
                  offset});
      return false;
    }
    return true;
  }
  case Space::Local:
    if (address < actor.warp->frame->localTop && bytes <= actor.warp->frame->localTop - address)
      return true;
    sink.fault({Check::OutOfBounds, accessText(write, bytes) + "outside of local memory", address});
    return false;
  case Space::Param: {
    bool ofFrame = address & frameParam;
    uint64_t offset = address & ~frameParam;
    uint64_t end =
        ofFrame ? actor.warp->frame->function->paramBytes : launch.config.parameters.size();
    if (offset < end && bytes <= end - offset)
      return true;
    sink.fault(
        {Check::OutOfBounds, accessText(write, bytes) + "outside of the parameters", address});
    return false;
  }
  default: {
    if (launch.memory.host(address, bytes))
      return true;
    // Says what is wrong, without a trace in the shadow.
    uint8_t dropped[128];
    Access none;
    none.write = write;
    return launch.memory.read(address, std::min<uint64_t>(bytes, sizeof dropped), dropped, none,
                              sink, false) &&
           (sink.fault({Check::OutOfBounds,
                        accessText(write, bytes) + "past the end of the allocation", address}),
            false);
  }
  }
}

/// The state of bytes of shared or local memory that are read; tells the first that is not written.
static void checkStates(const uint8_t *state, uint64_t address, uint32_t bytes, FaultSink &sink) {
  constexpr uint32_t written = 0x01010101 * uint32_t(ByteState::Written);
  uint32_t i = 0, word;
  while (i + 4 <= bytes && (std::memcpy(&word, state + i, 4), word == written))
    i += 4;
  for (; i < bytes; ++i) {
    if (state[i] == uint8_t(ByteState::Written))
      continue;
    bool inFlight = state[i] == uint8_t(ByteState::InFlight);
    sink.fault(
        {inFlight ? Check::InFlight : Check::Uninitialized,
         accessText(false, bytes) + (inFlight ? "that an asynchronous operation has yet to write"
                                              : "that were never written"),
         address + i});
    return;
  }
}

static void raceShared(SharedMemory &shared, uint32_t offset, uint32_t bytes, const Access &access,
                       bool same, bool strict, FaultSink &sink) {
  Conflict conflict;
  if (!shared.races.access(offset, bytes, access, same, conflict) ||
      (conflict.sameValue && !strict))
    return;
  std::string mine = access.write ? "write" : "read", other = conflict.write ? "write" : "read";
  Fault f{conflict.sameValue   ? Check::Strict
          : conflict.proxyOnly ? Check::Proxy
                               : Check::Race,
          "", conflict.offset, &conflict};
  f.message = conflict.proxyOnly ? mine + " by the async proxy of bytes that a generic " + other +
                                       " left, without fence.proxy.async between"
                                 : mine + (conflict.sameValue ? " of the same value" : "") +
                                       " races with a " + other + " by another thread";
  sink.fault(f);
}

/// Of shared memory; `access` is what accessOf says.
bool Block::readOne(const Actor &actor, const Access &access, uint32_t address, uint32_t bytes,
                    void *to, uint32_t alignment, bool checkWritten) {
  uint32_t offset = address;
  Block *target = this;
  bool plain = address >= window::sharedStart && uint64_t(address) + bytes <= shared.end &&
               address % alignment == 0;
  if (!plain) {
    if (!check(actor, Space::Shared, address, bytes, alignment, false)) {
      poisonInto(to, bytes, address);
      return false;
    }
    target = sharedTarget(actor, address, offset);
  }
  SharedMemory &s = target->shared;
  std::memcpy(to, &s.bytes[offset], bytes);
  ActorSink sink(*this, actor, Space::Shared, target);
  if (checkWritten)
    checkStates(&s.state[offset], offset, bytes, sink);
  if (launch.checkRaces)
    raceShared(s, offset, bytes, access, false, false, sink);
  return true;
}

bool Block::read(const Actor &actor, Space space, uint64_t address, uint32_t bytes, void *to,
                 uint32_t alignment, bool checkWritten) {
  resolve(space, address);
  if (space == Space::Global) {
    if (alignment > 1 && address % alignment) {
      check(actor, space, address, bytes, alignment, false);
      poisonInto(to, bytes, address);
      return false;
    }
    ActorSink sink(*this, actor, space);
    return launch.memory.read(address, bytes, to, AccessRef(actor, *this, false, true), sink,
                              checkWritten);
  }
  if (space == Space::Shared)
    return readOne(actor, AccessRef(actor, *this, false, false), uint32_t(address), bytes, to,
                   alignment, checkWritten);
  if (!check(actor, space, address, bytes, alignment, false)) {
    poisonInto(to, bytes, address);
    return false;
  }
  switch (space) {
  case Space::Local: {
    const Warp &w = *actor.warp;
    size_t at = size_t(actor.lane) * w.localStride + address;
    std::memcpy(to, &w.local[at], bytes);
    if (std::memchr(&w.localState[at], 0, bytes)) {
      for (uint32_t i = 0; i < bytes; ++i)
        if (!w.localState[at + i])
          static_cast<uint8_t *>(to)[i] = uint8_t(mix(shared.poisonSeed + address + i));
      ActorSink sink(*this, actor, space);
      if (checkWritten)
        checkStates(&w.localState[at], address, bytes, sink);
    }
    return true;
  }
  default:
    if (address & frameParam)
      std::memcpy(
          to,
          &actor.warp->frame->params[size_t(actor.lane) * actor.warp->frame->function->paramBytes +
                                     (address & ~frameParam)],
          bytes);
    else
      std::memcpy(to, &launch.config.parameters[address], bytes);
    return true;
  }
}

bool Block::readLanes(const Actor &actor, Space space, uint64_t address, uint32_t size,
                      unsigned count, void *to) {
  resolve(space, address);
  if (address % size)
    return false;
  if (space == Space::Global)
    return launch.memory.readLanes(address, size, count, to, accessOf(actor, *this, false, true));
  uint64_t bytes = uint64_t(size) * count;
  if (space != Space::Shared || address < window::sharedStart || address + bytes > shared.end ||
      !allWritten(&shared.state[address], bytes) ||
      (launch.checkRaces &&
       !shared.races.accessLanes(address, size, count, accessOf(actor, *this, false, false))))
    return false;
  std::memcpy(to, &shared.bytes[address], bytes);
  return true;
}

bool Block::writeLanes(const Actor &actor, Space space, uint64_t address, uint32_t size,
                       unsigned count, const void *from) {
  resolve(space, address);
  if (address % size)
    return false;
  ++cluster.worker.events;
  if (space == Space::Global)
    return launch.memory.writeLanes(address, size, count, from, accessOf(actor, *this, true, true));
  uint64_t bytes = uint64_t(size) * count;
  if (space != Space::Shared || address < window::sharedStart || address + bytes > shared.end ||
      std::memchr(&shared.state[address], int(ByteState::InFlight), bytes) ||
      (launch.checkRaces &&
       !shared.races.accessLanes(address, size, count, accessOf(actor, *this, true, false))))
    return false;
  std::memcpy(&shared.bytes[address], from, bytes);
  std::memset(&shared.state[address], int(ByteState::Written), bytes);
  return true;
}

void Block::readShared(const Actor &actor, std::span<const ByteRange> ranges, uint8_t *to,
                       uint32_t alignment) {
  Access access = accessOf(actor, *this, false, false);
  auto good = [&](const ByteRange &r) {
    return r.offset >= window::sharedStart && uint64_t(r.offset) + r.bytes <= shared.end &&
           r.offset % alignment == 0 && allWritten(&shared.state[r.offset], r.bytes);
  };
  if (!std::all_of(ranges.begin(), ranges.end(), good)) {
    for (const ByteRange &r : ranges) {
      readOne(actor, access, r.offset, r.bytes, to, alignment, true);
      to += r.bytes;
    }
    return;
  }
  for (const ByteRange &r : ranges) {
    if (r.bytes == 32) // a constant size is a move, not a call
      std::memcpy(to, &shared.bytes[r.offset], 32);
    else
      std::memcpy(to, &shared.bytes[r.offset], r.bytes);
    to += r.bytes;
  }
  for (size_t i = 0; launch.checkRaces && i < ranges.size(); ++i) {
    i += shared.races.accessRanges(ranges.subspan(i), access);
    if (i == ranges.size())
      break;
    ActorSink sink(*this, actor, Space::Shared, this);
    raceShared(shared, ranges[i].offset, ranges[i].bytes, access, false, false, sink);
  }
}

bool Block::write(const Actor &actor, Space space, uint64_t address, uint32_t bytes,
                  const void *from, uint32_t alignment) {
  resolve(space, address);
  ++cluster.worker.events;
  if (space == Space::Global) {
    if (alignment > 1 && address % alignment)
      return check(actor, space, address, bytes, alignment, true);
    ActorSink sink(*this, actor, space);
    return launch.memory.write(address, bytes, from, AccessRef(actor, *this, true, true), sink);
  }
  if (!check(actor, space, address, bytes, alignment, true))
    return false;
  switch (space) {
  case Space::Shared: {
    uint32_t offset;
    Block *target = sharedTarget(actor, uint32_t(address), offset);
    SharedMemory &s = target->shared;
    ActorSink sink(*this, actor, space, target);
    uint8_t *data = &s.bytes[offset], *state = &s.state[offset];
    if (actor.proxy == Proxy::Generic && std::memchr(state, int(ByteState::InFlight), bytes))
      sink.fault({Check::InFlight,
                  accessText(true, bytes) + "that an asynchronous operation has yet to write",
                  offset});
    bool same = !std::memcmp(data, from, bytes) && !std::memchr(state, 0, bytes);
    if (launch.checkRaces)
      raceShared(s, offset, bytes, AccessRef(actor, *this, true, false), same, launch.strict, sink);
    std::memcpy(data, from, bytes);
    std::memset(state, int(ByteState::Written), bytes);
    return true;
  }
  case Space::Local: {
    Warp &w = *actor.warp;
    size_t at = size_t(actor.lane) * w.localStride + address;
    std::memcpy(&w.local[at], from, bytes);
    std::memset(&w.localState[at], int(ByteState::Written), bytes);
    return true;
  }
  default:
    if (!(address & frameParam)) {
      ActorSink sink(*this, actor, space);
      sink.fault({Check::OutOfBounds, "write to the parameters of the kernel", address});
      return false;
    }
    std::memcpy(
        &actor.warp->frame->params[size_t(actor.lane) * actor.warp->frame->function->paramBytes +
                                   (address & ~frameParam)],
        from, bytes);
    return true;
  }
}

bool Block::atomic(const Actor &actor, Space space, uint64_t address, uint32_t bytes,
                   void (*update)(void *, void *), void *context) {
  resolve(space, address);
  ++cluster.worker.events;
  if (space != Space::Global && space != Space::Shared) {
    ActorSink sink(*this, actor, space);
    sink.fault({Check::OutOfBounds,
                std::string("atomic operation in ") + spaceName(space) + " memory", address});
    return false;
  }
  if (space == Space::Global) {
    if (address % bytes)
      return check(actor, space, address, bytes, bytes, true);
    ActorSink sink(*this, actor, space);
    return launch.memory.atomic(address, bytes, update, context, accessOf(actor, *this, true, true),
                                sink);
  }
  if (!check(actor, space, address, bytes, bytes, true))
    return false;
  uint32_t offset;
  Block *target = sharedTarget(actor, uint32_t(address), offset);
  SharedMemory &s = target->shared;
  ActorSink sink(*this, actor, space, target);
  checkStates(&s.state[offset], offset, bytes, sink);
  if (launch.checkRaces)
    raceShared(s, offset, bytes, accessOf(actor, *this, true, false), false, false, sink);
  update(&s.bytes[offset], context);
  std::memset(&s.state[offset], int(ByteState::Written), bytes);
  return true;
}
