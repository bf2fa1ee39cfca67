//===- TensorMapOps.cpp - tensormap.replace, tensormap.cp_fenceproxy ----------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/State.h"
#include "Machine/Async/TensorMap.h"
#include "Machine/Decoders.h"

namespace sgpu {

using ptx::Modifier;
using ptx::Opcode;

namespace {

/// mode[0]: the field; mode[1]: its dimension; operands: the value.
Step runReplace(Warp &warp, const Instruction &in) {
  Block &block = warp.block;
  forLanes(warp.active, [&](unsigned l) {
    Actor actor = warp.actor(l, in);
    actor.what = "tensormap.replace";
    uint64_t address = warp.address(in.address, l);
    uint8_t bytes[TensorMap::encodedBytes];
    if (!block.read(actor, in.space, address, sizeof bytes, bytes, TensorMap::encodedAlignment))
      return;
    std::string fault = TensorMap::replace(bytes, TensorMap::Field(in.mode[0]), in.mode[1],
                                           warp.value(in.operands[0], l));
    if (!fault.empty())
      return warp.report(Check::Argument, l, in, fault);
    block.write(actor, in.space, address, sizeof bytes, bytes, TensorMap::encodedAlignment);
  });
  return Step::Next;
}

struct CopyExtra {
  AddressOperand to, from;
};

/// One copy of 128 bytes for the warp, released to the tensor map proxy.
Step runCopy(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  const auto &x = *static_cast<const CopyExtra *>(in.extra);
  unsigned l = unsigned(std::countr_zero(warp.active));
  Actor actor = warp.actor(l, in);
  actor.what = "tensormap.cp_fenceproxy";
  uint8_t bytes[TensorMap::encodedBytes];
  if (warp.block.read(actor, Space::Shared, warp.address(x.from, l), sizeof bytes, bytes, 128))
    warp.block.write(actor, Space::Global, warp.address(x.to, l), sizeof bytes, bytes, 128);
  proxyFence(warp.clocks.data(), warp.active);
  fence(warp.clocks.data(), warp.active, false);
  return Step::Next;
}

void decodeReplace(DecodeContext &c) {
  c.needs(90);
  using F = TensorMap::Field;
  static constexpr std::pair<Modifier, F> fields[] = {{Modifier::GlobalAddress, F::GlobalAddress},
                                                      {Modifier::Rank, F::Rank},
                                                      {Modifier::BoxDim, F::BoxDim},
                                                      {Modifier::GlobalDim, F::GlobalDim},
                                                      {Modifier::GlobalStride, F::GlobalStride},
                                                      {Modifier::ElementStride, F::ElementStride},
                                                      {Modifier::Elemtype, F::ElementType},
                                                      {Modifier::InterleaveLayout, F::Interleave},
                                                      {Modifier::SwizzleMode, F::Swizzle},
                                                      {Modifier::FillMode, F::Fill}};
  const std::pair<Modifier, F> *field = nullptr;
  for (const auto &f : fields)
    if (c.ast.has(f.first))
      field = &f;
  if (!field)
    c.fail("this field of a tensor map needs sm_100");
  F f = field->second;
  bool ordinal =
      f == F::BoxDim || f == F::GlobalDim || f == F::GlobalStride || f == F::ElementStride;
  const auto &ops = c.ast.operands;
  if (ops.size() != (ordinal ? 3 : 2))
    c.fail(ordinal ? "expects [tensor map], dimension, value" : "expects [tensor map], value");
  c.in.space = c.space(c.ast.space());
  c.in.address = c.address(ops[0]);
  c.in.mode[0] = uint8_t(f);
  if (ordinal) {
    int64_t d = c.immediate(ops[1]);
    if (d < 0 || d > 4)
      c.fail("expects a dimension from 0 to 4");
    c.in.mode[1] = uint8_t(d);
  }
  bool wide = f == F::GlobalAddress || f == F::GlobalStride;
  c.operands({c.source(ops.back(), wide ? ptx::Type::B64 : ptx::Type::B32)});
  c.in.execute = runReplace;
}

void decodeCopy(DecodeContext &c) {
  c.needs(90);
  const auto &ops = c.ast.operands;
  if (ops.size() != 3 || c.immediate(ops[2]) != 128)
    c.fail("expects [global], [shared], 128");
  c.extra(CopyExtra{c.address(ops[0]), c.address(ops[1])});
  c.in.gathers = true;
  c.in.execute = runCopy;
}

const RegisterDecoders decoders({{Opcode::TensormapReplace, decodeReplace},
                                 {Opcode::TensormapCpFenceproxy, decodeCopy}});

} // namespace
} // namespace sgpu
