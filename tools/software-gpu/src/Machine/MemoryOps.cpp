//===- MemoryOps.cpp - Loads, stores, atomics, fences -----------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Decoders.h"
#include "Machine/Launch.h"
#include "Machine/Warp.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

using namespace sgpu;
using M = ptx::Modifier;
using O = ptx::Opcode;
using T = ptx::Type;

namespace {
// Instruction::mode of memory instructions.
enum Mode { SignedMode, ScopeMode, OrderMode, BitsMode, OperationMode, TypeMode, ReadOnlyMode };
enum Order : uint8_t { Relaxed = 0, AcquireBit = 1, ReleaseBit = 2 };

/// Space and order as written.
void decodeAccess(DecodeContext &c) {
  c.in.space = c.space(c.ast.space());
  c.in.bytes = uint8_t(ptx::bytesOf(c.ast.type()));
  c.in.count = c.ast.vector;
  Scope scope = c.scope();
  bool strong = c.ast.has(M::Relaxed) || c.ast.has(M::Acquire) || c.ast.has(M::Release) ||
                c.ast.has(M::AcqRel) || c.ast.has(M::Volatile) || c.ast.has(M::Mmio);
  if (strong && scope == Scope::Weak)
    scope = Scope::Sys;
  c.in.mode[ScopeMode] = uint8_t(scope);
  c.in.mode[OrderMode] = uint8_t((c.ast.has(M::Acquire) || c.ast.has(M::AcqRel) ? AcquireBit : 0) |
                                 (c.ast.has(M::Release) || c.ast.has(M::AcqRel) ? ReleaseBit : 0));
}

/// Operands behind the first `n` are cache policies: read, and of no effect.
void decodePolicies(DecodeContext &c, size_t n) {
  for (size_t i = n; i < c.ast.operands.size(); ++i)
    if (c.ast.operands[i].kind != ptx::Operand::Sink)
      c.source(c.ast.operands[i], T::B64);
}

bool isGlobal(uint64_t address) {
  switch (address & window::mask) {
  case window::shared:
  case window::local:
  case window::param:
    return false;
  default:
    return true;
  }
}

/// The addresses of an access of the active lanes, and what they have in common.
struct Addresses {
  uint64_t of[32]; ///< of active lanes
  bool same = true;
  bool sideBySide; ///< lane after lane, in order, without a gap

  Addresses(const Warp &w, const Instruction &in, unsigned bytes) {
    const AddressOperand &a = in.address;
    if (a.base.bytes == 8) { // of all lanes: without branches
      const uint64_t *base = w.u64(a.base);
      for (unsigned lane = 0; lane < 32; ++lane)
        of[lane] = base[lane] + uint64_t(a.offset);
    } else {
      for (unsigned lane = 0; lane < 32; ++lane)
        of[lane] = w.address(a, lane);
    }
    unsigned first = unsigned(std::countr_zero(w.active));
    uint32_t run = w.active >> first, others = 0, apart = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
      others |= uint32_t(of[lane] != of[first]) << lane;
      apart |= uint32_t(of[lane] != of[first] + uint64_t(int64_t(lane) - int64_t(first)) * bytes)
               << lane;
    }
    same = !(others & w.active);
    sideBySide = run > 1 && !(run & (run + 1)) && !(apart & w.active);
  }
};

/// Whether the active lanes know the same, so that their accesses are alike.
bool knowTheSame(const Warp &w) {
  const AgentClock &first = w.clocks[std::countr_zero(w.active)];
  bool same = true;
  forLanes(w.active, [&](unsigned lane) {
    const AgentClock &c = w.clocks[lane];
    same &= c.time == first.time && c.known.all.get() == first.known.all.get();
  });
  return same;
}

/// Tells the counters one request of the warp.
void count(Warp &w, const Instruction &in, const uint64_t *addresses, unsigned bytes,
           bool sideBySide = false) {
  uint32_t global = 0, shared = 0;
  switch (in.space) {
  case Space::Global:
  case Space::Const:
    global = w.active;
    break;
  case Space::Shared:
    shared = w.active;
    break;
  case Space::Generic:
    forLanes(w.active, [&](unsigned lane) {
      if (isGlobal(addresses[lane]))
        global |= 1u << lane;
      else if ((addresses[lane] & window::mask) == window::shared)
        shared |= 1u << lane;
    });
    break;
  default:
    return;
  }
  if (global)
    w.countGlobal(in, addresses, global, bytes, sideBySide);
  if (shared)
    w.countShared(in, addresses, shared, bytes, sideBySide);
}

/// What strong writes published at an address, to be looked at or changed by `body`.
template <typename Body>
void withReleased(Warp &w, Space space, uint64_t address, bool make, Body body) {
  if (space == Space::Generic) {
    if ((address & window::mask) == window::shared) {
      space = Space::Shared;
      address &= 0xffffffff;
    } else if (!isGlobal(address)) {
      return;
    }
  }
  if (space == Space::Shared) {
    uint32_t r = uint32_t(address) >> window::rankShift;
    if (r > w.block.cluster.blocks.size())
      return;
    Block &target = r ? *w.block.cluster.blocks[r - 1] : w.block;
    uint32_t offset = uint32_t(address) & ((1u << window::rankShift) - 1);
    auto &map = target.shared.released;
    auto it = make ? map.try_emplace(offset).first : map.find(offset);
    if (it != map.end())
      body(it->second);
    return;
  }
  Launch::Published &p = w.block.launch.publishedAt(address);
  std::lock_guard lock(p.mutex);
  auto it = make ? p.at.try_emplace(address).first : p.at.find(address);
  if (it != p.at.end())
    body(it->second);
}

void observe(Warp &w, const Instruction &in, unsigned lane, uint64_t address) {
  withReleased(w, in.space, address, false, [&](Released &r) {
    w.clocks[lane].observe(r, in.mode[OrderMode] & AcquireBit,
                           Scope(in.mode[ScopeMode]) == Scope::Cta, w.block.linear);
  });
}

void publish(Warp &w, const Instruction &in, unsigned lane, uint64_t address, bool keep) {
  AgentClock &clock = w.clocks[lane];
  bool releases = in.mode[OrderMode] & ReleaseBit;
  bool something = releases || clock.known.fenced || clock.known.fencedCta || clock.known.proxy;
  if (!something && keep)
    return;
  withReleased(w, in.space, address, something, [&](Released &r) {
    clock.publish(r, releases, keep, Scope(in.mode[ScopeMode]) == Scope::Cta, w.block.linear);
  });
}

/// Lanes of an operand that are defined.
uint32_t definedLanes(const Warp &w, Operand op) {
  return op.base == Operand::Register ? w.frame->defined[op.row] : ~0u;
}

bool isStrong(const Instruction &in) { return Scope(in.mode[ScopeMode]) != Scope::Weak; }

//===----------------------------------------------------------------------===//
// Loads
//===----------------------------------------------------------------------===//

/// Puts a loaded element into its register: sign-extended if so, zero-extended else.
void putElement(Warp &w, const Instruction &in, Operand d, unsigned lane, const uint8_t *from) {
  if (in.bytes == 16) {
    std::memcpy(reinterpret_cast<uint8_t *>(w.u32(d)) + lane * 16, from, 16);
    return;
  }
  uint64_t value = 0;
  switch (in.bytes) { // constant sizes are moves, not calls
  case 1:
    value = *from;
    break;
  case 2:
    std::memcpy(&value, from, 2);
    break;
  case 4:
    std::memcpy(&value, from, 4);
    break;
  default:
    std::memcpy(&value, from, 8);
    break;
  }
  if (in.mode[SignedMode]) {
    unsigned shift = 64 - in.bytes * 8;
    value = uint64_t(int64_t(value << shift) >> shift);
    if (in.mode[BitsMode] < 64)
      value &= (uint64_t(1) << in.mode[BitsMode]) - 1;
  }
  if (d.bytes == 8)
    w.u64(d)[lane] = value;
  else if (d.bytes == 4)
    w.u32(d)[lane] = uint32_t(value);
  else {
    uint8_t wide[16] = {};
    std::memcpy(wide, &value, 8);
    std::memcpy(reinterpret_cast<uint8_t *>(w.u32(d)) + lane * 16, wide, 16);
  }
}

/// What is known of the bytes of an access to local memory; null for other spaces, or if they do not
/// exist. A thread may copy its undefined bytes (padding, variables that a debug build spills): then
/// what it copies them to is undefined.
uint8_t *localState(Warp &w, const Instruction &in, unsigned lane, uint64_t address,
                    unsigned bytes) {
  if (in.space == Space::Generic && (address & window::mask) == window::local)
    address &= ~window::mask;
  else if (in.space != Space::Local)
    return nullptr;
  if (address >= w.localStride || bytes > w.localStride - address)
    return nullptr;
  return &w.localState[size_t(lane) * w.localStride + address];
}

/// Puts loaded elements, one behind the other in memory, into the registers of lanes side by side.
void putSideBySide(Warp &w, const Instruction &in, const uint8_t *data) {
  unsigned first = unsigned(std::countr_zero(w.active)), bytes = in.bytes * in.count;
  unsigned count = unsigned(std::popcount(w.active));
  for (unsigned i = 0; i < in.count; ++i) {
    Operand d = in.operands[i];
    if (in.bytes == d.bytes && d.bytes == 4 && in.mode[BitsMode] >= 32) {
      uint32_t *row = w.u32(d) + first;
      for (unsigned l = 0; l < count; ++l)
        std::memcpy(row + l, data + l * bytes + i * 4, 4);
    } else if (in.bytes == d.bytes && d.bytes == 8 && in.mode[BitsMode] >= 64) {
      uint64_t *row = w.u64(d) + first;
      for (unsigned l = 0; l < count; ++l)
        std::memcpy(row + l, data + l * bytes + i * 8, 8);
    } else {
      for (unsigned l = 0; l < count; ++l)
        putElement(w, in, d, first + l, data + l * bytes + i * in.bytes);
    }
    if (in.propagates)
      w.frame->defined[d.row] |= w.active;
  }
}

Step runLoad(Warp &w, const Instruction &in) {
  unsigned bytes = in.bytes * in.count;
  uint32_t lanes = w.active;
  unsigned firstLane = unsigned(std::countr_zero(lanes));
  Addresses addresses(w, in, bytes);
  count(w, in, addresses.of, bytes, addresses.sideBySide);
  Actor actor = w.actor(firstLane, in, Scope(in.mode[ScopeMode]));
  AgentClock readOnly;
  if (in.mode[ReadOnlyMode]) {
    readOnly = readOnlyClock(actor.clock->id);
    actor.clock = &readOnly;
  }
  alignas(64) uint8_t data[32 * 64];
  bool strong = isStrong(in);
  uint64_t first = addresses.of[firstLane];
  // Lanes that know the same and read the same, or side by side, are one access.
  bool together =
      (addresses.same || addresses.sideBySide) && !strong && in.space != Space::Local &&
      in.space != Space::Param &&
      (in.space != Space::Generic || isGlobal(first) || (first & window::mask) == window::shared) &&
      knowTheSame(w);
  if (together && addresses.same) {
    actor.lanes = lanes;
    w.block.read(actor, in.space, first, bytes, data, bytes);
    for (unsigned i = 0; i < in.count; ++i) {
      forLanes(lanes, [&](unsigned lane) {
        putElement(w, in, in.operands[i], lane, data + i * in.bytes);
      });
      if (in.propagates)
        w.frame->defined[in.operands[i].row] |= lanes;
    }
    return Step::Next;
  }
  if (together &&
      w.block.readLanes(actor, in.space, first, bytes, unsigned(std::popcount(lanes)), data)) {
    putSideBySide(w, in, data);
    return Step::Next;
  }
  Accesses accesses;
  actor.accesses = strong ? nullptr : &accesses;
  forLanes(lanes, [&](unsigned lane) {
    actor.lane = lane;
    if (in.mode[ReadOnlyMode])
      readOnly = readOnlyClock(w.clocks[lane].id);
    else
      actor.clock = &w.clocks[lane];
    uint64_t address = addresses.of[lane];
    uint8_t *local = localState(w, in, lane, address, bytes);
    w.block.read(actor, in.space, address, bytes, data, bytes, !local);
    if (strong)
      observe(w, in, lane, address);
    for (unsigned i = 0; i < in.count; ++i) {
      putElement(w, in, in.operands[i], lane, data + i * in.bytes);
      if (in.propagates) {
        bool undefined = local && std::memchr(local + i * in.bytes, 0, in.bytes);
        uint32_t &d = w.frame->defined[in.operands[i].row];
        d = (d & ~(1u << lane)) | uint32_t(!undefined) << lane;
      }
    }
  });
  return Step::Next;
}

/// A parameter of the kernel: the same for all lanes.
Step runLoadParameter(Warp &w, const Instruction &in) {
  const uint8_t *from = w.block.launch.config.parameters.data() + in.address.offset;
  for (unsigned i = 0; i < in.count; ++i)
    forLanes(w.active,
             [&](unsigned lane) { putElement(w, in, in.operands[i], lane, from + i * in.bytes); });
  return Step::Next;
}

void decodeLoad(DecodeContext &c) {
  decodeAccess(c);
  c.in.mode[SignedMode] = ptx::kindOf(c.ast.type()) == ptx::TypeKind::Signed;
  c.in.mode[ReadOnlyMode] = c.ast.has(M::Nc);
  std::vector<Operand> d = c.destinations(c.ast.operands[0]);
  if (d.size() != c.in.count)
    c.fail("loads " + std::to_string(c.in.count) + " elements into " + std::to_string(d.size()) +
           " registers");
  const ptx::Operand &first =
      c.ast.operands[0].elements.empty() ? c.ast.operands[0] : c.ast.operands[0].elements[0];
  c.in.mode[BitsMode] = uint8_t(std::min(64u, c.registerBits(first)));
  if (c.in.mode[BitsMode] < c.in.bytes * 8u && c.in.bytes <= 8)
    c.fail("loads " + std::to_string(c.in.bytes * 8) + " bits into a register of " +
           std::to_string(c.in.mode[BitsMode]));
  c.in.address = c.address(c.ast.operands[1]);
  decodePolicies(c, 2);
  c.operands(std::move(d));
  c.in.propagates = c.in.space == Space::Local || c.in.space == Space::Generic;
  bool parameter = c.in.space == Space::Param && c.function.ast->isEntry && !c.in.address.base &&
                   c.in.address.offset < (int64_t(1) << 32);
  if (parameter) {
    uint32_t end = 0;
    for (const ptx::Variable &p : c.function.ast->parameters) {
      uint32_t a = std::max(1u, p.alignment);
      end = (end + a - 1) / a * a + uint32_t(p.byteSize());
    }
    if (c.in.address.offset < 0 || c.in.address.offset + c.in.bytes * c.in.count > end)
      c.fail("reads past the end of the parameters");
  }
  c.in.execute = parameter ? runLoadParameter : runLoad;
}

//===----------------------------------------------------------------------===//
// Stores
//===----------------------------------------------------------------------===//

/// Two lanes that write the same bytes in one instruction: with the same value that is a race only to the
/// letter (Check::Strict); else it is one, and one of them wins.
uint32_t dropOverwritten(Warp &w, const Instruction &in, const uint64_t *addresses, unsigned bytes,
                         const uint8_t (*data)[64]) {
  uint32_t lanes = w.active;
  uint64_t last = 0;
  bool rising = true, any = false;
  forLanes(lanes, [&](unsigned lane) {
    rising &= !any || addresses[lane] >= last + bytes;
    last = addresses[lane];
    any = true;
  });
  if (rising || in.space == Space::Local || in.space == Space::Param)
    return lanes;
  uint32_t keep = lanes;
  if (in.space == Space::Generic) // local memory is every thread's own
    forLanes(lanes, [&](unsigned lane) {
      uint64_t where = addresses[lane] & window::mask;
      if (where == window::local || where == window::param)
        lanes &= ~(1u << lane);
    });
  forLanes(lanes, [&](unsigned a) {
    forLanes(lanes & keep & ~((2u << a) - 1u), [&](unsigned b) {
      if (addresses[a] != addresses[b] || !(keep >> a & 1))
        return;
      bool same = !std::memcmp(data[a], data[b], bytes);
      if (!isStrong(in) && (!same || w.block.launch.strict)) {
        Report r{.check = same ? Check::Strict : Check::Race,
                 .message = std::string("write of ") + (same ? "the same" : "another") +
                            " value to the same address by another lane of the warp",
                 .place = w.place(a, in)};
        r.hasAddress = true;
        r.address = addresses[a];
        r.others.push_back(w.place(b, in));
        w.block.launch.reporter.add(std::move(r));
      }
      keep &= ~(1u << (w.random.next() & 1 && !same ? b : a));
    });
  });
  return keep;
}

/// Stores of lanes side by side that know the same, in one go. False if they have to be looked at one by one.
bool storeSideBySide(Warp &w, const Instruction &in, uint64_t address, unsigned bytes) {
  if (isStrong(in) || in.space == Space::Local || in.space == Space::Param || !knowTheSame(w))
    return false;
  unsigned first = unsigned(std::countr_zero(w.active));
  unsigned count = unsigned(std::popcount(w.active));
  alignas(64) uint8_t data[32 * 64];
  for (unsigned i = 0; i < in.count; ++i) {
    Operand s = in.operands[i];
    if (in.propagates && (w.active & ~definedLanes(w, s)))
      return false;
    const auto *row = reinterpret_cast<const uint8_t *>(w.u32(s)) + first * s.bytes;
    auto copy = [&](auto size) { // constant sizes are moves, not calls
      for (unsigned l = 0; l < count; ++l)
        std::memcpy(data + l * bytes + i * size, row + l * s.bytes, size);
    };
    switch (in.bytes) {
    case 1:
      copy(std::integral_constant<unsigned, 1>());
      break;
    case 2:
      copy(std::integral_constant<unsigned, 2>());
      break;
    case 4:
      copy(std::integral_constant<unsigned, 4>());
      break;
    case 8:
      copy(std::integral_constant<unsigned, 8>());
      break;
    default:
      copy(std::integral_constant<unsigned, 16>());
    }
  }
  return w.block.writeLanes(w.actor(first, in), in.space, address, bytes, count, data);
}

Step runStore(Warp &w, const Instruction &in) {
  unsigned bytes = in.bytes * in.count;
  Addresses where(w, in, bytes);
  const uint64_t (&addresses)[32] = where.of;
  count(w, in, addresses, bytes, where.sideBySide);
  if (where.sideBySide && storeSideBySide(w, in, addresses[std::countr_zero(w.active)], bytes))
    return Step::Next;
  alignas(16) uint8_t data[32][64];
  for (unsigned i = 0; i < in.count; ++i) {
    Operand s = in.operands[i];
    const auto *row = reinterpret_cast<const uint8_t *>(w.u32(s));
    if (in.bytes == 4)
      forLanes(w.active,
               [&](unsigned lane) { std::memcpy(data[lane] + i * 4, row + lane * s.bytes, 4); });
    else
      forLanes(w.active, [&](unsigned lane) {
        std::memcpy(data[lane] + i * in.bytes, row + lane * s.bytes, in.bytes);
      });
  }
  uint32_t lanes = dropOverwritten(w, in, addresses, bytes, data);
  Actor actor = w.actor(0, in, Scope(in.mode[ScopeMode]));
  bool strong = isStrong(in);
  Accesses accesses;
  actor.accesses = strong ? nullptr : &accesses;
  uint32_t undefined = 0;
  if (in.propagates)
    for (unsigned i = 0; i < in.count; ++i)
      undefined |= ~definedLanes(w, in.operands[i]);
  forLanes(lanes, [&](unsigned lane) {
    actor.lane = lane;
    actor.clock = &w.clocks[lane];
    bool done = w.block.write(actor, in.space, addresses[lane], bytes, data[lane], bytes);
    if (strong)
      publish(w, in, lane, addresses[lane], false);
    if (!done || !(undefined >> lane & 1))
      return;
    if (uint8_t *local = localState(w, in, lane, addresses[lane], bytes)) {
      for (unsigned i = 0; i < in.count; ++i)
        if (!(definedLanes(w, in.operands[i]) >> lane & 1))
          std::memset(local + i * in.bytes, int(ByteState::Undefined), in.bytes);
    } else if (in.space != Space::Param) {
      w.report(Check::Uninitialized, lane, in, "stores a register that was never written");
    }
  });
  return Step::Next;
}

void decodeStore(DecodeContext &c) {
  decodeAccess(c);
  if (c.in.space == Space::Const)
    c.fail("stores to .const, which is read-only");
  c.in.address = c.address(c.ast.operands[0]);
  c.in.propagates = c.in.space != Space::Global && c.in.space != Space::Shared;
  std::vector<Operand> s = c.sources(c.ast.operands[1], c.ast.type(), c.in.propagates);
  if (s.size() != c.in.count)
    c.fail("stores " + std::to_string(c.in.count) + " elements from " + std::to_string(s.size()) +
           " registers");
  for (Operand op : s)
    if (op.bytes < std::min<unsigned>(c.in.bytes, 16) && op.bytes < c.in.bytes)
      c.fail("stores more bits than its register has");
  decodePolicies(c, 2);
  c.operands(std::move(s));
  c.in.execute = runStore;
}

//===----------------------------------------------------------------------===//
// Atomics
//===----------------------------------------------------------------------===//

enum Operation : uint8_t { Add, Min, Max, Inc, Dec, And, Or, Xor, Exch, Cas };

float halfToFloat(uint16_t h) {
  uint32_t sign = uint32_t(h >> 15) << 31, exponent = h >> 10 & 31, mantissa = h & 1023;
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  float f = exponent ? std::ldexp(float(1024 + mantissa), int(exponent) - 25)
                     : std::ldexp(float(mantissa), -24);
  return sign ? -f : f;
}

uint16_t floatToHalf(float f) {
  uint32_t bits = std::bit_cast<uint32_t>(f), sign = bits >> 16 & 0x8000;
  if (std::isnan(f))
    return 0x7fff;
  float a = std::fabs(f);
  if (a >= 65520.0f)
    return uint16_t(sign | 0x7c00);
  int exponent = 0;
  std::frexp(a, &exponent);
  int shift = std::max(exponent - 11, -24);             // of the last bit that stays
  float scaled = std::nearbyint(std::ldexp(a, -shift)); // to even
  uint32_t value = uint32_t(scaled);
  if (shift == -24)
    return uint16_t(sign | value);
  return uint16_t(sign | (uint32_t(shift + 25) << 10) + (value - 1024));
}

float bfloatToFloat(uint16_t b) { return std::bit_cast<float>(uint32_t(b) << 16); }

uint16_t floatToBfloat(float f) {
  if (std::isnan(f))
    return 0x7fff;
  uint32_t bits = std::bit_cast<uint32_t>(f);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <typename Float> Float flushed(Float f) {
  return std::fpclassify(f) == FP_SUBNORMAL ? std::copysign(Float(0), f) : f;
}

/// min and max: a number wins over NaN, -0 is less than +0.
template <typename Float> Float minMax(Float a, Float b, bool max) {
  if (std::isnan(a))
    return b;
  if (std::isnan(b))
    return a;
  if (a == b)
    return std::signbit(a) == max ? b : a;
  return (a < b) == max ? b : a;
}

/// One small float of 16 bits.
uint16_t apply16(Operation op, bool bf, uint16_t a, uint16_t b) {
  float x = bf ? bfloatToFloat(a) : halfToFloat(a), y = bf ? bfloatToFloat(b) : halfToFloat(b);
  float r = op == Add ? x + y : minMax(x, y, op == Max);
  return bf ? floatToBfloat(r) : floatToHalf(r);
}

template <typename Int, typename Signed>
Int applyInt(Operation op, bool isSigned, Int a, Int b, Int c) {
  switch (op) {
  case Add:
    return a + b;
  case Min:
    return isSigned ? Int(std::min(Signed(a), Signed(b))) : std::min(a, b);
  case Max:
    return isSigned ? Int(std::max(Signed(a), Signed(b))) : std::max(a, b);
  case Inc:
    return a >= b ? 0 : a + 1;
  case Dec:
    return a == 0 || a > b ? b : a - 1;
  case And:
    return a & b;
  case Or:
    return a | b;
  case Xor:
    return a ^ b;
  case Exch:
    return b;
  case Cas:
    return a == b ? c : a;
  }
  return a;
}

struct Update {
  Operation op;
  T type;
  bool flush; ///< f32 in global memory: subnormals count as zero
  uint8_t b[16] = {}, c[16] = {}, old[16] = {};
};

template <typename V> V get(const void *p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

void update(void *bytes, void *context) {
  Update &u = *static_cast<Update *>(context);
  std::memcpy(u.old, bytes, ptx::bytesOf(u.type));
  auto put = [&](auto v) { std::memcpy(bytes, &v, sizeof v); };
  switch (u.type) {
  case T::F32: {
    float a = get<float>(bytes), b = get<float>(u.b);
    if (u.op != Add)
      return put(minMax(a, b, u.op == Max));
    float r = u.flush ? flushed(flushed(a) + flushed(b)) : a + b;
    return put(std::isnan(r) ? std::bit_cast<float>(0x7fffffffu) : r);
  }
  case T::F64: {
    double r = get<double>(bytes) + get<double>(u.b);
    return put(std::isnan(r) ? std::bit_cast<double>(uint64_t(0x7fffffffffffffff)) : r);
  }
  case T::F16:
  case T::BF16:
    return put(apply16(u.op, u.type == T::BF16, get<uint16_t>(bytes), get<uint16_t>(u.b)));
  case T::F16x2:
  case T::BF16x2: {
    uint32_t a = get<uint32_t>(bytes), b = get<uint32_t>(u.b);
    bool bf = u.type == T::BF16x2;
    return put(uint32_t(apply16(u.op, bf, uint16_t(a), uint16_t(b))) |
               uint32_t(apply16(u.op, bf, uint16_t(a >> 16), uint16_t(b >> 16))) << 16);
  }
  default:
    break;
  }
  bool isSigned = ptx::kindOf(u.type) == ptx::TypeKind::Signed;
  switch (ptx::bytesOf(u.type)) {
  case 2:
    return put(applyInt<uint16_t, int16_t>(u.op, isSigned, get<uint16_t>(bytes), get<uint16_t>(u.b),
                                           get<uint16_t>(u.c)));
  case 4:
    return put(applyInt<uint32_t, int32_t>(u.op, isSigned, get<uint32_t>(bytes), get<uint32_t>(u.b),
                                           get<uint32_t>(u.c)));
  case 8:
    return put(applyInt<uint64_t, int64_t>(u.op, isSigned, get<uint64_t>(bytes), get<uint64_t>(u.b),
                                           get<uint64_t>(u.c)));
  case 16:
    if (u.op == Exch)
      std::memcpy(bytes, u.b, 16);
    else if (!std::memcmp(bytes, u.b, 16))
      std::memcpy(bytes, u.c, 16);
  }
}

struct AtomicPlan {
  bool returns = false;
  std::vector<Operand> d, b, c;
};

Step runAtomic(Warp &w, const Instruction &in) {
  const auto &plan = *static_cast<const AtomicPlan *>(in.extra);
  unsigned bytes = in.bytes * in.count;
  uint64_t addresses[32];
  forLanes(w.active, [&](unsigned lane) { addresses[lane] = w.address(in.address, lane); });
  count(w, in, addresses, bytes);
  Actor actor = w.actor(0, in, Scope(in.mode[ScopeMode]));
  actor.what = plan.returns ? "atomic operation" : "reduction";
  // Lanes come one after the other in an order of the seed.
  unsigned turn = w.random.below(32);
  uint32_t lanes = w.active;
  for (unsigned i = 0; i < 32; ++i) {
    unsigned lane = (i + turn) % 32;
    if (!(lanes >> lane & 1))
      continue;
    actor.lane = lane;
    actor.clock = &w.clocks[lane];
    if (bytes > in.bytes && addresses[lane] % bytes) {
      w.block.check(actor, in.space, addresses[lane], bytes, bytes, true);
      continue;
    }
    observe(w, in, lane, addresses[lane]);
    for (unsigned e = 0; e < in.count; ++e) {
      Update u;
      u.op = Operation(in.mode[OperationMode]);
      u.type = T(in.mode[TypeMode]);
      u.flush =
          in.space == Space::Global || (in.space == Space::Generic && isGlobal(addresses[lane]));
      auto value = [&](const std::vector<Operand> &list, uint8_t *to) {
        if (!list.empty())
          std::memcpy(to, reinterpret_cast<const uint8_t *>(w.u32(list[e])) + lane * list[e].bytes,
                      in.bytes);
      };
      value(plan.b, u.b);
      value(plan.c, u.c);
      w.block.atomic(actor, in.space, addresses[lane] + e * in.bytes, in.bytes, update, &u);
      if (plan.returns) {
        Operand d = plan.d[e];
        uint8_t old[16] = {};
        std::memcpy(old, u.old, in.bytes);
        std::memcpy(reinterpret_cast<uint8_t *>(w.u32(d)) + lane * d.bytes, old, d.bytes);
      }
    }
    publish(w, in, lane, addresses[lane], true);
  }
  return Step::Next;
}

void decodeAtomic(DecodeContext &c) {
  decodeAccess(c);
  bool isAtom = c.ast.opcode == O::Atom;
  if (Scope(c.in.mode[ScopeMode]) == Scope::Weak ||
      (!c.ast.has(M::Cta) && !c.ast.has(M::Cluster) && !c.ast.has(M::Sys) && !c.ast.has(M::Gpu)))
    c.in.mode[ScopeMode] = uint8_t(Scope::Gpu);
  static const std::pair<M, Operation> operations[] = {
      {M::Add, Add}, {M::Min, Min}, {M::Max, Max}, {M::Inc, Inc},   {M::Dec, Dec},
      {M::And, And}, {M::Or, Or},   {M::Xor, Xor}, {M::Exch, Exch}, {M::Cas, Cas}};
  bool found = false;
  for (auto [modifier, operation] : operations)
    if (c.ast.has(modifier)) {
      c.in.mode[OperationMode] = operation;
      found = true;
    }
  if (!found)
    c.fail("names no operation");
  T type = c.ast.type();
  c.in.mode[TypeMode] = uint8_t(type);
  AtomicPlan plan;
  size_t next = 0;
  if (isAtom) {
    plan.returns = true;
    plan.d = c.destinations(c.ast.operands[next++]);
  }
  c.in.address = c.address(c.ast.operands[next++]);
  plan.b = c.sources(c.ast.operands[next++], type);
  if (c.in.mode[OperationMode] == Cas)
    plan.c = c.sources(c.ast.operands[next++], type);
  if (plan.b.size() != c.in.count || (isAtom && plan.d.size() != c.in.count))
    c.fail("has vectors of different lengths");
  decodePolicies(c, next);
  if (c.in.count > 1)
    c.needs(90);
  c.extra(std::move(plan));
  c.in.execute = runAtomic;
}

//===----------------------------------------------------------------------===//
// Fences and hints
//===----------------------------------------------------------------------===//

Step runFence(Warp &w, const Instruction &in) {
  fence(w.clocks.data(), w.active, in.mode[0]);
  return Step::Next;
}

void decodeFence(DecodeContext &c) {
  c.in.mode[0] = c.ast.has(M::Cta) || c.ast.has(M::SyncRestrictSharedCta);
  c.in.execute = runFence;
}

Step runHint(Warp &, const Instruction &) { return Step::Next; }

/// Prefetches and the like: no effect that could be seen.
void decodeHint(DecodeContext &c) {
  for (const ptx::Operand &op : c.ast.operands)
    if (op.kind == ptx::Operand::Address)
      c.address(op);
    else if (op.kind == ptx::Operand::Register)
      c.source(op, T::B64);
  c.in.execute = runHint;
}

/// createpolicy: a policy is an opaque number.
Step runPolicy(Warp &w, const Instruction &in) {
  forLanes(w.active, [&](unsigned lane) { w.u64(in.operands[0])[lane] = 0x10f0000000000000; });
  return Step::Next;
}

void decodePolicy(DecodeContext &c) {
  Operand d = c.destination(c.ast.operands[0]);
  for (size_t i = 1; i < c.ast.operands.size(); ++i)
    if (c.ast.operands[i].kind == ptx::Operand::Address)
      c.address(c.ast.operands[i]);
    else
      c.source(c.ast.operands[i], T::B64);
  c.operands({d});
  c.in.execute = runPolicy;
}

const RegisterDecoders memory({{O::Ld, decodeLoad},
                               {O::Ldu, decodeLoad},
                               {O::St, decodeStore},
                               {O::Atom, decodeAtomic},
                               {O::Red, decodeAtomic},
                               {O::Fence, decodeFence},
                               {O::Membar, decodeFence},
                               {O::Prefetch, decodeHint},
                               {O::Prefetchu, decodeHint},
                               {O::Discard, decodeHint},
                               {O::Applypriority, decodeHint},
                               {O::Createpolicy, decodePolicy}});
} // namespace
