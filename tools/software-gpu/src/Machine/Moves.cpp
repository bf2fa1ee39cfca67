//===- Moves.cpp - Moves of values, that may be undefined -------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Decoders.h"
#include "Machine/Launch.h"
#include "Machine/Warp.h"

#include <cstring>

using namespace sgpu;
using M = ptx::Modifier;
using O = ptx::Opcode;
using T = ptx::Type;

/// Lanes of an operand that are defined.
static uint32_t definedLanes(const Warp &w, Operand op) {
  if (op.base == Operand::Constant || op.base == Operand::Special)
    return ~0u;
  return w.frame->defined[w.frame->function->definedIndex(op)];
}

static void setDefined(Warp &w, Operand op, uint32_t lanes) {
  uint32_t &d = w.frame->defined[w.frame->function->definedIndex(op)];
  d = (d & ~w.active) | (lanes & w.active);
}

template <typename Word> static void copyRows(Word *to, const Word *from, uint32_t lanes) {
  if (lanes == ~0u) {
    std::memmove(to, from, 32 * sizeof(Word));
    return;
  }
  for (unsigned lane = 0; lane < 32; ++lane)
    to[lane] = lanes >> lane & 1 ? from[lane] : to[lane];
}

static Step runMov32(Warp &w, const Instruction &in) {
  copyRows(w.u32(in.operands[0]), w.u32(in.operands[1]), w.active);
  setDefined(w, in.operands[0], definedLanes(w, in.operands[1]));
  return Step::Next;
}

static Step runMov64(Warp &w, const Instruction &in) {
  copyRows(w.u64(in.operands[0]), w.u64(in.operands[1]), w.active);
  setDefined(w, in.operands[0], definedLanes(w, in.operands[1]));
  return Step::Next;
}

/// Sizes that differ (a 32-bit value into a 64-bit register and the reverse), 128 bits.
static Step runMovAny(Warp &w, const Instruction &in) {
  Operand d = in.operands[0], s = in.operands[1];
  forLanes(w.active, [&](unsigned lane) {
    if (d.bytes == 16) {
      std::memcpy(reinterpret_cast<uint8_t *>(w.u32(d)) + lane * 16,
                  reinterpret_cast<const uint8_t *>(w.u32(s)) + lane * 16, 16);
    } else if (d.bytes == 8) {
      w.u64(d)[lane] = w.value(s, lane);
    } else {
      w.u32(d)[lane] = uint32_t(w.value(s, lane));
    }
  });
  setDefined(w, d, definedLanes(w, s));
  return Step::Next;
}

static Step runMovPredicate(Warp &w, const Instruction &in) {
  w.setPredicate(in.operands[0], w.predicate(in.operands[1]));
  setDefined(w, in.operands[0], definedLanes(w, in.operands[1]));
  return Step::Next;
}

/// Bits of a value of `bytes` (1, 2: of a 4-byte lane).
static void getBytes(const Warp &w, Operand op, unsigned lane, uint8_t *to, unsigned bytes) {
  const auto *row = reinterpret_cast<const uint8_t *>(w.u32(op));
  std::memcpy(to, row + lane * op.bytes, bytes);
}

/// mov.b32 %r, {%a, %b}: elements in rising order of bits; mode[0] is bytes of one. The
/// result counts as defined if any element is: compilers put together vectors of which some are never used.
static Step runPack(Warp &w, const Instruction &in) {
  Operand d = in.operands[0];
  uint32_t defined = 0;
  unsigned n = unsigned(in.operands.size()) - 1;
  for (unsigned i = 0; i < n; ++i)
    defined |= definedLanes(w, in.operands[i + 1]);
  auto *row = reinterpret_cast<uint8_t *>(w.u32(d));
  forLanes(w.active, [&](unsigned lane) {
    uint8_t bytes[16] = {};
    for (unsigned i = 0; i < n; ++i)
      getBytes(w, in.operands[i + 1], lane, bytes + i * in.mode[0], in.mode[0]);
    std::memcpy(row + lane * d.bytes, bytes, d.bytes);
  });
  setDefined(w, d, defined);
  return Step::Next;
}

/// mov.b32 {%a, %b}, %r
static Step runUnpack(Warp &w, const Instruction &in) {
  Operand s = in.operands[0];
  unsigned n = unsigned(in.operands.size()) - 1;
  uint32_t defined = definedLanes(w, s);
  forLanes(w.active, [&](unsigned lane) {
    uint8_t bytes[16];
    getBytes(w, s, lane, bytes, s.bytes);
    for (unsigned i = 0; i < n; ++i) {
      Operand d = in.operands[i + 1];
      uint8_t value[16] = {};
      std::memcpy(value, bytes + i * in.mode[0], in.mode[0]);
      std::memcpy(reinterpret_cast<uint8_t *>(w.u32(d)) + lane * d.bytes, value, d.bytes);
    }
  });
  for (unsigned i = 0; i < n; ++i)
    setDefined(w, in.operands[i + 1], defined);
  return Step::Next;
}

/// Clocks: instructions of the cluster, so that they are the same on every run; 1 GHz.
static Step runClock(Warp &w, const Instruction &in) {
  uint64_t now = ++w.block.cluster.clock + w.block.cluster.executed;
  Operand d = in.operands[0];
  if (in.mode[0]) // the high half
    now >>= 32;
  forLanes(w.active, [&](unsigned lane) {
    if (d.bytes == 8)
      w.u64(d)[lane] = now;
    else
      w.u32(d)[lane] = uint32_t(now);
  });
  setDefined(w, d, ~0u);
  return Step::Next;
}

static void decodeMov(DecodeContext &c) {
  const ptx::Operand &to = c.ast.operands[0], &from = c.ast.operands[1];
  T type = c.ast.type();
  c.in.propagates = true;
  if (to.kind == ptx::Operand::Vector) {
    Operand s = c.moved(from, type);
    std::vector<Operand> list{s};
    for (Operand d : c.destinations(to))
      list.push_back(d);
    c.in.mode[0] = uint8_t(ptx::bytesOf(type) / to.elements.size());
    c.operands(std::move(list));
    c.in.execute = runUnpack;
    return;
  }
  Operand d = c.destination(to);
  if (from.kind == ptx::Operand::Vector) {
    std::vector<Operand> list{d};
    unsigned bytes = ptx::bytesOf(type) / unsigned(from.elements.size());
    T element = bytes == 1 ? T::B8 : bytes == 2 ? T::B16 : bytes == 4 ? T::B32 : T::B64;
    for (const ptx::Operand &e : from.elements)
      list.push_back(c.moved(e, element));
    c.in.mode[0] = uint8_t(bytes);
    c.operands(std::move(list));
    c.in.execute = runPack;
    return;
  }
  if (from.kind == ptx::Operand::Special) {
    using S = ptx::SpecialRegister;
    switch (from.special) {
    case S::ClockHi:
    case S::GlobaltimerHi:
      c.in.mode[0] = 1;
      [[fallthrough]];
    case S::Clock:
    case S::Clock64:
    case S::Globaltimer:
    case S::GlobaltimerLo:
      c.operands({d});
      c.in.execute = runClock;
      return;
    default:
      break;
    }
  }
  Operand s = c.moved(from, type);
  if ((d.base == Operand::Predicate) != (s.base == Operand::Predicate))
    c.fail("moves between a predicate and another register");
  c.operands({d, s});
  c.in.execute = d.base == Operand::Predicate   ? runMovPredicate
                 : d.bytes == 4 && s.bytes == 4 ? runMov32
                 : d.bytes == 8 && s.bytes == 8 ? runMov64
                                                : runMovAny;
}

/// d = p ? a : b. What is not chosen may be undefined.
template <typename Word> static Step runSelp(Warp &w, const Instruction &in) {
  auto row = [&](Operand op) { return reinterpret_cast<Word *>(w.u32(op)); };
  uint32_t p = w.predicate(in.operands[3]);
  Word *d = row(in.operands[0]);
  const Word *a = row(in.operands[1]), *b = row(in.operands[2]);
  uint32_t lanes = w.active;
  for (unsigned lane = 0; lane < 32; ++lane) {
    Word value = p >> lane & 1 ? a[lane] : b[lane];
    d[lane] = lanes >> lane & 1 ? value : d[lane];
  }
  setDefined(w, in.operands[0],
             (definedLanes(w, in.operands[1]) & p) | (definedLanes(w, in.operands[2]) & ~p));
  return Step::Next;
}

static void decodeSelp(DecodeContext &c) {
  Operand d = c.destination(c.ast.operands[0]);
  Operand a = c.moved(c.ast.operands[1], c.ast.type());
  Operand b = c.moved(c.ast.operands[2], c.ast.type());
  Operand p = c.source(c.ast.operands[3], T::Pred);
  if (a.bytes != d.bytes || b.bytes != d.bytes)
    c.fail("has operands of different sizes");
  c.in.propagates = true;
  c.operands({d, a, b, p});
  c.in.execute = d.bytes == 8 ? runSelp<uint64_t> : runSelp<uint32_t>;
}

//===----------------------------------------------------------------------===//
// Addresses
//===----------------------------------------------------------------------===//

namespace {
/// mode[0]: to generic; the window of the space in `address.offset`.
Step runCvta(Warp &w, const Instruction &in) {
  Operand d = in.operands[0], s = in.operands[1];
  uint64_t base = uint64_t(in.address.offset);
  forLanes(w.active, [&](unsigned lane) {
    uint64_t value = w.value(s, lane);
    // A null pointer stays null both ways only in global memory: as on NVIDIA's machines.
    uint64_t result = in.mode[0] ? value + base : value - base;
    if (d.bytes == 8)
      w.u64(d)[lane] = result;
    else
      w.u32(d)[lane] = uint32_t(result);
  });
  return Step::Next;
}

uint64_t windowOf(DecodeContext &c) {
  switch (c.space(c.ast.space())) {
  case Space::Shared:
    return window::shared;
  case Space::Local:
    return window::local;
  case Space::Param:
    return window::param;
  default:
    return 0;
  }
}

void decodeCvta(DecodeContext &c) {
  c.in.mode[0] = !c.ast.has(M::To);
  c.in.address.offset = int64_t(windowOf(c));
  Operand d = c.destination(c.ast.operands[0]);
  c.operands({d, c.source(c.ast.operands[1], c.ast.type())});
  c.in.execute = runCvta;
}

Step runIsspacep(Warp &w, const Instruction &in) {
  uint64_t base = uint64_t(in.address.offset);
  uint32_t result = 0;
  forLanes(w.active, [&](unsigned lane) {
    uint64_t address = w.value(in.operands[1], lane);
    bool yes = (address & window::mask) == base;
    if (in.mode[0]) // .shared::cta: of this block only
      yes &= (address & 0xffffffff) >> window::rankShift == 0 ||
             (address & 0xffffffff) >> window::rankShift == w.block.rank + 1;
    if (in.mode[1]) // .const: module variables that are read-only
      if (yes) {
        auto a = w.block.launch.memory.find(address);
        yes = a && a->readOnly;
      }
    result |= uint32_t(yes) << lane;
  });
  w.setPredicate(in.operands[0], result);
  return Step::Next;
}

void decodeIsspacep(DecodeContext &c) {
  c.in.address.offset = int64_t(windowOf(c));
  c.in.mode[0] =
      c.ast.space() == ptx::StateSpace::Shared || c.ast.space() == ptx::StateSpace::SharedCta;
  c.in.mode[1] = c.ast.space() == ptx::StateSpace::Const;
  Operand d = c.destination(c.ast.operands[0]);
  c.operands({d, c.source(c.ast.operands[1], T::U64)});
  c.in.execute = runIsspacep;
}

const RegisterDecoders moves({{O::Mov, decodeMov},
                              {O::Selp, decodeSelp},
                              {O::Cvta, decodeCvta},
                              {O::Isspacep, decodeIsspacep}});
} // namespace
