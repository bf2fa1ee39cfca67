//===- Proxies.cpp - Proxy fences, addresses in clusters, registers -----------===//
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

Step runNothing(Warp &, const Instruction &) { return Step::Next; }

//===----------------------------------------------------------------------===//
// Fences
//===----------------------------------------------------------------------===//

Step runProxyFence(Warp &warp, const Instruction &) {
  proxyFence(warp.clocks.data(), warp.active);
  return Step::Next;
}

Step runInitFence(Warp &warp, const Instruction &) {
  forLanes(warp.active, [&](unsigned l) { warp.clocks[l].initFence(); });
  return Step::Next;
}

void decodeFenceProxy(DecodeContext &c) {
  bool alias = c.ast.has(Modifier::Alias);
  bool tensormap = c.ast.has(Modifier::TensormapGeneric);
  bool async = c.ast.has(Modifier::Async) || c.ast.has(Modifier::AsyncGlobal) ||
               c.ast.has(Modifier::AsyncSharedCta) || c.ast.has(Modifier::AsyncSharedCluster) ||
               c.ast.has(Modifier::AsyncGeneric);
  if (!alias)
    c.needs(90);
  if (alias + tensormap + async != 1)
    c.fail("expects .alias, .async or .tensormap::generic");
  for (const ptx::Operand &op : c.ast.operands) {
    if (op.kind == ptx::Operand::Address)
      c.address(op);
    else
      c.source(op, ptx::Type::U32);
  }
  c.in.execute = alias ? runNothing : runProxyFence;
}

void decodeInitFence(DecodeContext &c) {
  c.needs(90);
  c.in.execute = runInitFence;
}

//===----------------------------------------------------------------------===//
// Clusters
//===----------------------------------------------------------------------===//

/// mapa and getctarank: operands d, a{, b}; mode[0]: a is generic.
Step runMapa(Warp &warp, const Instruction &in) {
  Operand d = in.operands[0], a = in.operands[1], b = in.operands[2];
  forLanes(warp.active, [&](unsigned l) {
    uint64_t address = warp.value(a, l);
    uint32_t rank = uint32_t(warp.value(b, l));
    if (in.mode[0] && (address & window::mask) != window::shared) {
      warp.report(Check::Argument, l, in, "mapa of a generic address that is not in shared memory");
    } else if (rank >= warp.block.cluster.blocks.size()) {
      warp.report(Check::Argument, l, in,
                  "mapa to rank " + std::to_string(rank) + " of a cluster of " +
                      std::to_string(warp.block.cluster.blocks.size()) + " blocks");
    } else {
      constexpr uint64_t offsetMask = (uint64_t(1) << window::rankShift) - 1;
      address = (in.mode[0] ? window::shared : 0) | (address & offsetMask) |
                uint64_t(rank + 1) << window::rankShift;
    }
    if (d.bytes == 8)
      warp.u64(d)[l] = address;
    else
      warp.u32(d)[l] = uint32_t(address);
  });
  return Step::Next;
}

Step runRank(Warp &warp, const Instruction &in) {
  Operand d = in.operands[0], a = in.operands[1];
  forLanes(warp.active, [&](unsigned l) {
    uint64_t address = warp.value(a, l);
    uint32_t rank = uint32_t(address >> window::rankShift) & 0xff;
    if (in.mode[0] && (address & window::mask) != window::shared)
      warp.report(Check::Argument, l, in,
                  "getctarank of a generic address that is not in shared memory");
    warp.u32(d)[l] = rank ? rank - 1 : warp.block.rank;
  });
  return Step::Next;
}

void decodeMapa(DecodeContext &c) {
  c.needs(90);
  bool rankOf = c.ast.opcode == Opcode::Getctarank;
  const auto &ops = c.ast.operands;
  if (ops.size() != (rankOf ? 2 : 3))
    c.fail(rankOf ? "expects d, address" : "expects d, address, rank");
  if (!c.ast.spaces.empty() && c.ast.space() != ptx::StateSpace::SharedCluster)
    c.fail("expects .shared::cluster or a generic address");
  if (c.ast.type() != ptx::Type::U32 && c.ast.type() != ptx::Type::U64)
    c.fail("expects .u32 or .u64");
  Operand d = c.destination(ops[0]);
  Operand a = c.source(ops[1], c.ast.type());
  std::vector<Operand> list{d, a};
  if (!rankOf)
    list.push_back(c.source(ops[2], ptx::Type::U32));
  c.operands(list);
  c.in.mode[0] = c.ast.spaces.empty();
  c.in.execute = rankOf ? runRank : runMapa;
}

//===----------------------------------------------------------------------===//
// Registers, grids
//===----------------------------------------------------------------------===//

/// setmaxnreg: mode[0] increases; bytes: the count / 8. A block begins with what 65,536 registers
/// give to each of its threads, in eights; .inc waits until warps of the block have given back enough.
Step runSetmaxnreg(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  Block &block = warp.block;
  BlockAsync &async = asyncOf(block);
  unsigned l = unsigned(std::countr_zero(warp.active));
  if (async.freeRegisters < 0) {
    uint32_t perThread = std::min<uint32_t>(255, block.launch.chip.registersPerSm /
                                                     uint32_t(block.warps.size() * 32)) /
                         8 * 8;
    async.registers.assign(block.warps.size(), perThread);
    async.freeRegisters = 0;
  }
  uint32_t &mine = async.registers[warp.index], wanted = in.bytes * 8u;
  if (in.mode[0] ? wanted < mine : wanted > mine) {
    warp.report(Check::Argument, l, in,
                "setmaxnreg " + std::string(in.mode[0] ? ".inc to " : ".dec to ") +
                    std::to_string(wanted) + ", but the warp has " + std::to_string(mine) +
                    " registers per thread");
    return Step::Next;
  }
  if (!in.mode[0] && in.target > wanted)
    warp.report(
        Check::Argument, l, in,
        "setmaxnreg.dec to " + std::to_string(wanted) + ", but " + std::to_string(in.target) +
            " registers hold values that are needed after it: they would have to be spilled");
  int64_t change = (int64_t(wanted) - mine) * 32;
  if (change > async.freeRegisters)
    return waitFor(warp, "setmaxnreg.inc: " + std::to_string(change) + " registers, of which " +
                             std::to_string(async.freeRegisters) + " are free in the block");
  async.freeRegisters -= change;
  mine = wanted;
  block.notify();
  return Step::Next;
}

void decodeSetmaxnreg(DecodeContext &c) {
  c.needs(90);
  bool inc = c.ast.has(Modifier::Inc);
  if (inc == c.ast.has(Modifier::Dec))
    c.fail("expects .inc or .dec");
  if (!c.ast.has(Modifier::Sync) || !c.ast.has(Modifier::Aligned) || c.ast.operands.size() != 1)
    c.fail("expects .sync.aligned.u32 and a number of registers");
  int64_t n = c.immediate(c.ast.operands[0]);
  if (n < 24 || n > 256 || n % 8)
    c.fail("expects a multiple of 8 from 24 to 256");
  c.in.mode[0] = inc;
  c.in.bytes = uint8_t(n / 8);
  c.in.gathers = true;
  c.in.execute = runSetmaxnreg;
}

/// Grids of a stream run one after the other here, so that what griddepcontrol.wait waits for is over.
void decodeGriddepcontrol(DecodeContext &c) {
  c.needs(90);
  c.in.execute = runNothing;
}

void decodeMultimem(DecodeContext &c) { c.fail("multimem is not supported"); }

const RegisterDecoders decoders({{Opcode::FenceProxy, decodeFenceProxy},
                                 {Opcode::MembarProxy, decodeFenceProxy},
                                 {Opcode::FenceMbarrierInit, decodeInitFence},
                                 {Opcode::Mapa, decodeMapa},
                                 {Opcode::Getctarank, decodeMapa},
                                 {Opcode::Setmaxnreg, decodeSetmaxnreg},
                                 {Opcode::GriddepcontrolWait, decodeGriddepcontrol},
                                 {Opcode::GriddepcontrolLaunchDependents, decodeGriddepcontrol},
                                 {Opcode::MultimemLdReduce, decodeMultimem},
                                 {Opcode::MultimemSt, decodeMultimem},
                                 {Opcode::MultimemRed, decodeMultimem}});

} // namespace
} // namespace sgpu
