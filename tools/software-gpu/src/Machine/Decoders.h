//===- Decoders.h - From PTX instructions to handlers --------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A decoder checks the form of an instruction, chooses its handler and says what it reads and
// writes. Files register theirs with a static object:
//
//   void decodeX(DecodeContext &c) {
//     Operand d = c.destination(c.ast.operands[0]);   // before the sources, if it matters to you
//     Operand a = c.source(c.ast.operands[1], c.ast.type());
//     c.operands({d, a});
//     c.in.execute = runX;
//   }
//   const RegisterDecoders x({{ptx::Opcode::X, decodeX}});
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_DECODERS_H
#define SGPU_MACHINE_DECODERS_H

#include "Machine/Function.h"

#include <initializer_list>
#include <optional>
#include <utility>

namespace sgpu {

class DecodeContext {
public:
  const ptx::Instruction &ast;
  Instruction &in;
  Function &function;
  const Chip &chip;

  /// Where the value of an operand is; recorded as read. A register (with component), immediate as
  /// `type`, special register, address of a variable in its own space, predicate (also immediate
  /// true and false). `type` matters only to immediates.
  Operand source(const ptx::Operand &op, ptx::Type type);
  /// The same for a value that is only moved: it may be undefined, then so is the result. For
  /// instructions with in.propagates.
  Operand moved(const ptx::Operand &op, ptx::Type type);
  /// A register or predicate; a sink `_` gives a register that nobody reads. Recorded as written.
  Operand destination(const ptx::Operand &op);
  /// Each element of a vector `{a, b}` (or the one operand) as source (`onlyMoved`: see moved) or
  /// destination.
  std::vector<Operand> sources(const ptx::Operand &op, ptx::Type type, bool onlyMoved = false);
  std::vector<Operand> destinations(const ptx::Operand &op);
  /// The address part `[base + offset]`; its base register is recorded as read.
  AddressOperand address(const ptx::Operand &op);
  /// The address in .param space of a parameter, result or .param variable; nothing for others.
  std::optional<uint64_t> paramAddress(const ptx::Operand &op) const;
  /// Sets in.operands.
  void operands(std::vector<Operand> list);
  /// A structure of the decoder's own, kept with the function: in.extra.
  template <typename T> T &extra(T value) {
    auto owner = std::make_shared<T>(std::move(value));
    in.extra = owner.get();
    function.extras.push_back(owner);
    return *owner;
  }
  /// The space of the instruction for memory accesses, from a PTX space.
  Space space(ptx::StateSpace space) const;
  /// `relaxed.gpu` and so on: Scope::Weak without one of them; volatile is Sys.
  Scope scope() const;
  /// Throws Error: module, PTX line, text of the instruction, `message`.
  [[noreturn]] void fail(const std::string &message) const;
  /// fails with "needs sm_90" if the chip is older.
  void needs(int capability) const;
  /// Bits of a register as declared (8, 16, 32, 64, 128), of a sink 64.
  unsigned registerBits(const ptx::Operand &op) const;
  /// The integer of an immediate operand; fails if it is none.
  int64_t immediate(const ptx::Operand &op) const;

  struct Impl;
  Impl &impl; ///< of Decode.cpp
};

using Decoder = void (*)(DecodeContext &);

/// Makes decoders known; from a static object. One decoder for each opcode.
struct RegisterDecoders {
  RegisterDecoders(std::initializer_list<std::pair<ptx::Opcode, Decoder>> decoders);
};
/// Null if there is none: the instruction is then an error at load.
Decoder findDecoder(ptx::Opcode opcode);

} // namespace sgpu

#endif
