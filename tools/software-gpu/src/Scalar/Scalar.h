//===- Scalar.h - The meaning of PTX arithmetic on raw bits ------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every instruction whose result depends on its source values alone (no memory, no other thread):
// integer and float arithmetic, comparisons, selections, logic, shifts, conversions, byte and bit
// moves, approximations. One function runs it for the 32 lanes of a warp.
//
// Rows: a value of up to 32 bits is a lane of `uint32_t[32]`, zero-extended; one of 64 bits a lane
// of `uint64_t[32]`. A predicate is one uint32_t, bit i for lane i.
//===----------------------------------------------------------------------===//
#ifndef SGPU_SCALAR_SCALAR_H
#define SGPU_SCALAR_SCALAR_H

#include "Ptx/Ast.h"

#include <string>

namespace sgpu::scalar {

/// How an operand lies in memory.
enum class Lane : uint8_t {
  Word, ///< uint32_t[32]
  Long, ///< uint64_t[32]
  Mask, ///< uint32_t: a predicate, or the carry flags (CC.CF) of the lanes
};

/// Runs an operation for the lanes in `active`.
///   destinations  in order of Operation::destination; lanes that are not active keep their value.
///                 A destination may be a source too (the same row); nothing else may overlap.
///   sources       in order of Operation::source
///   control       Operation::control
using RowFunction = void (*)(void *const *destinations, const void *const *sources, uint32_t active,
                             uint32_t control);

constexpr unsigned maxDestinations = 2, maxSources = 5;

/// One operand of an operation.
struct Slot {
  Lane lane = Lane::Word;
  /// What an immediate is read as (ptx::immediateAs); None for carry flags.
  ptx::Type type = ptx::Type::None;
  /// Index into ptx::Instruction::operands; `element` is the index within a Vector or Pair there,
  /// else 0. An operand `p|q` is two destinations; one that is a sink `_` or not written has no slot
  /// value: pass a scratch row. -1: the carry flags.
  int8_t operand = 0;
  uint8_t element = 0;
};

struct Operation {
  RowFunction run = nullptr; ///< null: not found
  uint32_t control = 0;
  uint8_t destinations = 0, sources = 0;
  Slot destination[maxDestinations];
  Slot source[maxSources];
};

/// The operation of an instruction of `function`. run is null if the opcode is none of the scalar
/// ones (memory, control, threads, matrices) or if this form is not known: then `message` says
/// which. `mov` is one only for a single value (register, immediate, special register); symbols,
/// packing and unpacking of vectors are the machine's.
Operation find(const ptx::Function &function, const ptx::Instruction &instruction,
               std::string &message);

} // namespace sgpu::scalar

#endif
