//===- Instruction.h - A decoded instruction -----------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A function is decoded once into a flat array of these; branches are indices into it. A handler
// runs one instruction for the lanes `warp.active` of a warp.
//
// Registers lie in rows of 128 bytes: 32 lanes of 4 bytes. A register of up to 32 bits takes one
// row (smaller ones are kept zero-extended), one of 64 bits takes two (32 lanes of 8 bytes, side by
// side), one of 128 bits takes four. Predicates are masks of 32 bits, one bit for each lane.
// Immediates, addresses of variables and special registers have rows of their own, so that a source
// operand is always a row.
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_INSTRUCTION_H
#define SGPU_MACHINE_INSTRUCTION_H

#include <cstdint>
#include <span>

namespace sgpu {

class Warp;
struct Instruction;

/// What the warp does after a handler.
enum class Step : uint8_t {
  Next, ///< the next instruction
  Wait, ///< not done: the group of lanes runs this instruction again after something happened.
        ///< The handler has changed nothing for good, except in Warp state that it owns.
  Jump, ///< the handler has set the pc of the group, or has split or ended it (control flow)
};
using Handler = Step (*)(Warp &, const Instruction &);

enum class Space : uint8_t { Generic, Global, Shared, Local, Param, Const };

/// Where a value is. Use Warp::u32, u64, predicate to reach it.
struct Operand {
  enum Base : uint8_t { Register, Constant, Special, Predicate, None };
  Base base = None;
  uint8_t bytes = 0;    ///< 4 (also smaller registers), 8, 16; 0 for predicates
  bool negated = false; ///< predicates: !p
  uint32_t row = 0;     ///< first row in its base, or the number of the predicate
  explicit operator bool() const { return base != None; }
};

/// [register + offset], [variable + offset], [immediate].
struct AddressOperand {
  Operand base; ///< a row of 4 or 8 byte lanes
  int64_t offset = 0;
};

/// Fields that many instructions have; a decoder that needs more puts a structure into `extra`.
struct Instruction {
  Handler execute = nullptr;
  Operand guard;            ///< a predicate, or None
  bool splits = false;      ///< control flow and barriers: if the guard is true for some lanes
                            ///< only, these become a group of their own first
  bool propagates = false;  ///< handler says itself which lanes of its results are defined
  bool gathers = false;     ///< `.sync`: waits for lanes of the warp (Warp::gather)
  bool touchesHeld = false; ///< may touch registers that asynchronous operations hold (wgmma)
  uint8_t count = 1;        ///< elements of a vector access
  uint8_t bytes = 4;        ///< bytes of one element
  Space space = Space::Generic;
  uint8_t mode[8] = {};     ///< what the decoder wants: operation, type, scope, ...
  uint32_t line = 0;        ///< of the PTX text
  uint32_t index = 0;       ///< in the function's code
  uint32_t target = 0;      ///< of a branch; of setmaxnreg: Function::registersKept
  uint32_t meet = ~0u;      ///< of a branch: index where its paths meet again; ~0: nowhere
  void *function = nullptr; ///< a pure function of src/Scalar
  AddressOperand address;
  std::span<const Operand> operands; ///< flattened, vectors too; owned by the function
  /// Register rows and predicates (see Function::definedIndex) read and written, for the checks of
  /// undefined registers. Filled by DecodeContext::source and destination. The first `checked` of
  /// the reads must be defined; the others are only moved (DecodeContext::moved).
  std::span<const uint32_t> reads, writes;
  uint32_t checked = 0;
  const void *extra = nullptr; ///< owned by the function
};

} // namespace sgpu

#endif
