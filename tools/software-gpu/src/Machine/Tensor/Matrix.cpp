//===- Matrix.cpp - ldmatrix, stmatrix, movmatrix -----------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/State.h"
#include "Machine/Decoders.h"
#include "Machine/Tensor/Fragments.h"

#include <cstring>

namespace sgpu {

using ptx::Modifier;
using ptx::Opcode;

namespace {

enum { Transposed, Stores };

/// Rows of up to four 8 x 8 matrices of 16-bit elements; lane 8 j + i names row i of matrix j.
Step runMatrix(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  Block &block = warp.block;
  unsigned matrices = in.count;
  uint32_t lanes = warp.active & (matrices == 4 ? ~0u : (1u << (8 * matrices)) - 1);
  uint16_t data[4][8][8];
  uint64_t addresses[32];
  if (in.mode[Stores])
    for (unsigned j = 0; j < matrices; ++j)
      forLanes(warp.active, [&](unsigned l) {
        uint32_t value = warp.u32(in.operands[j])[l];
        for (int h = 0; h < 2; ++h) {
          Element e = fragmentMatrix8(in.mode[Transposed], int(l), h);
          data[j][e.row][e.column] = uint16_t(value >> 16 * h);
        }
      });
  forLanes(lanes, [&](unsigned l) {
    Actor actor = warp.actor(l, in);
    actor.what = in.mode[Stores] ? "stmatrix" : "ldmatrix";
    addresses[l] = warp.address(in.address, l);
    if (in.mode[Stores])
      block.write(actor, in.space, addresses[l], 16, data[l / 8][l % 8], 16);
    else
      block.read(actor, in.space, addresses[l], 16, data[l / 8][l % 8], 16);
  });
  warp.countShared(in, addresses, lanes, 16);
  if (!in.mode[Stores])
    for (unsigned j = 0; j < matrices; ++j)
      forLanes(warp.active, [&](unsigned l) {
        uint32_t value = 0;
        for (int h = 0; h < 2; ++h) {
          Element e = fragmentMatrix8(in.mode[Transposed], int(l), h);
          value |= uint32_t(data[j][e.row][e.column]) << 16 * h;
        }
        warp.u32(in.operands[j])[l] = value;
      });
  return Step::Next;
}

Step runMove(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  uint16_t data[8][8] = {};
  forLanes(warp.active, [&](unsigned l) {
    for (int h = 0; h < 2; ++h) {
      Element e = fragmentMatrix8(false, int(l), h);
      data[e.row][e.column] = uint16_t(warp.u32(in.operands[1])[l] >> 16 * h);
    }
  });
  forLanes(warp.active, [&](unsigned l) {
    uint32_t value = 0;
    for (int h = 0; h < 2; ++h) {
      Element e = fragmentMatrix8(true, int(l), h);
      value |= uint32_t(data[e.row][e.column]) << 16 * h;
    }
    warp.u32(in.operands[0])[l] = value;
  });
  return Step::Next;
}

void checkAligned(DecodeContext &c) {
  if (!c.ast.has(Modifier::Sync) || !c.ast.has(Modifier::Aligned))
    c.fail("expects .sync.aligned");
  c.in.gathers = true;
}

void decodeMatrix(DecodeContext &c) {
  bool stores = c.ast.opcode == Opcode::Stmatrix;
  c.needs(stores ? 90 : 80);
  checkAligned(c);
  if (c.ast.shape.m == 16 || c.ast.shape.n == 16 || c.ast.type() == ptx::Type::B8)
    c.fail("8-bit matrices need sm_100a");
  if (c.ast.shape != ptx::Shape{8, 8, 0} || c.ast.type() != ptx::Type::B16)
    c.fail("expects .m8n8 and .b16");
  c.in.count = c.ast.has(Modifier::X4)   ? 4
               : c.ast.has(Modifier::X2) ? 2
               : c.ast.has(Modifier::X1) ? 1
                                         : 0;
  if (!c.in.count)
    c.fail("expects .x1, .x2 or .x4");
  if (c.ast.operands.size() != 2)
    c.fail("expects a vector of registers and an address");
  c.in.space = c.space(c.ast.space());
  if (c.in.space != Space::Shared && c.in.space != Space::Generic)
    c.fail("expects an address in shared memory");
  const ptx::Operand &vector = c.ast.operands[stores ? 1 : 0];
  c.in.address = c.address(c.ast.operands[stores ? 0 : 1]);
  std::vector<Operand> list = stores ? c.sources(vector, ptx::Type::B32) : c.destinations(vector);
  if (list.size() != c.in.count)
    c.fail("expects " + std::to_string(c.in.count) + " registers, got " +
           std::to_string(list.size()));
  c.operands(list);
  c.in.mode[Transposed] = c.ast.has(Modifier::Trans);
  c.in.mode[Stores] = stores;
  c.in.execute = runMatrix;
}

void decodeMove(DecodeContext &c) {
  c.needs(80);
  checkAligned(c);
  if (c.ast.shape != ptx::Shape{8, 8, 0} || c.ast.type() != ptx::Type::B16 ||
      !c.ast.has(Modifier::Trans) || c.ast.operands.size() != 2)
    c.fail("expects .m8n8.trans.b16 d, a");
  Operand d = c.destination(c.ast.operands[0]), a = c.source(c.ast.operands[1], ptx::Type::B32);
  c.operands({d, a});
  c.in.execute = runMove;
}

const RegisterDecoders decoders({{Opcode::Ldmatrix, decodeMatrix},
                                 {Opcode::Stmatrix, decodeMatrix},
                                 {Opcode::Movmatrix, decodeMove}});

} // namespace
} // namespace sgpu
