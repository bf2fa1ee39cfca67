//===- Opcodes.h - Which instructions exist ----------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One table (in Opcodes.cpp) of all forms of all opcodes: modifiers, types, operands, and the PTX
// version and chip that they need. The parser checks every instruction against it; tests draw
// instructions from it.
//===----------------------------------------------------------------------===//
#ifndef SGPU_PTX_OPCODES_H
#define SGPU_PTX_OPCODES_H

#include "Ptx/Ast.h"

#include <span>

namespace sgpu::ptx {

/// What may stand in one place of an operand list.
enum class OperandKind : uint8_t {
  Destination,       ///< `d`: a register or `_`
  Source,            ///< `a`: a register or an immediate
  WideDestination,   ///< `D`: a register of the type's width or more (ld, cvt), or `_`
  WideSource,        ///< `A`: the same for sources
  DestinationOrPair, ///< `dp`: `d` or `d|p`
  VectorDestination, ///< `dv`: as `D`; with .v2, .v4, .v8 a vector of that many
  VectorSource,      ///< `av`
  Movable, ///< `M`: source of mov and cvta: register, immediate, special register, symbol,
           ///< vector; `dm`: its destination: register or vector
  MovDestination,
  Special,              ///< `S`: as `A`, special registers too
  PredicateDestination, ///< `p`: a predicate register or `_`
  PredicatePair,        ///< `pq`: `p` or `p|q`
  Predicate,            ///< `P`: a predicate register, perhaps `!p`
  Address,              ///< `m`: `[...]`
  TensorAddress,        ///< `t`: `[map, {coordinates}]`
  Label,                ///< `l`
  Table,                ///< `T`: name of .branchtargets
  Integer,              ///< `i`: an integer constant
  Registers,            ///< `x`: registers or a vector of them; checkMatrix knows how many
  IntVector,            ///< `v`: a vector of 16-bit registers or immediates (im2col offsets)
  Call,                 ///< operands of call, checked by the parser
};

/// One place of an operand list.
struct OperandPattern {
  OperandKind kind;
  bool optional = false;
  /// The type: of the i-th type suffix, or a fixed one; `doubled` for the wide result of mul.wide.
  int8_t typeIndex = 0; ///< -1: `fixed`
  Type fixed = Type::None;
  bool doubled = false;
};

/// One place of a suffix list: one of `choices` (codes, see suffixCode).
struct SuffixPattern {
  std::vector<uint16_t> choices;
  std::vector<Shape> shapes; ///< If Modifier::Shape is a choice: which.
  bool optional = false;
  bool isType = false;
};

/// One form of an opcode.
struct Form {
  Opcode opcode;
  std::vector<SuffixPattern> suffixes;
  std::vector<OperandPattern> operands;
  uint16_t minimumVersion; ///< PTX version times ten: 78 is 7.8; 0: any
  uint16_t minimumSm;      ///< 90 is sm_90; 0: any
  bool architectureOnly;   ///< needs the `a` (or `f`) target of a chip: sm_90a
  std::string text;        ///< as in the table, for messages
};

/// All forms of an opcode.
std::span<const Form> formsOf(Opcode opcode);

/// A number for a suffix: modifier, type or state space; Modifier::Shape for every shape.
uint16_t suffixCode(const Suffix &suffix);
/// The suffix of a code.
Suffix suffixOf(uint16_t code);

/// The longest opcode that the dotted `words` begin with, and how many words it takes.
Opcode findOpcode(std::span<const std::string_view> words, size_t &taken);
/// The suffix that `words` begin with (`xorsign.abs` takes two), with the numbers of a shape.
/// Returns the number of words taken, 0 if it is none.
size_t findSuffix(std::span<const std::string_view> words, Suffix &suffix, Shape &shape);

/// Whether the suffixes fit the form: each fits one place, every place that is not optional has one,
/// types in order. Modifiers may stand in any order, as ptxas takes them.
bool suffixesFit(const Form &form, const Instruction &instruction);

/// The type of an operand place for an instruction; Type::None if it has none.
Type operandType(const OperandPattern &pattern, const Instruction &instruction);

/// The registers that a thread gives for an operand of a matrix instruction.
struct MatrixFragment {
  unsigned count = 0, bits = 0; ///< of each
  Type type = Type::None;       ///< of the elements
};
/// Of operand `operand` of mma (D, A, B, C), wmma, wgmma (D; A if in registers), ldmatrix, stmatrix.
MatrixFragment matrixFragment(const Instruction &instruction, size_t operand);

/// Checks what the table cannot say of matrix instructions: which types go together, and (checkMatrix)
/// number and width of the registers. Returns an empty string, or what is wrong.
std::string checkMatrixTypes(const Instruction &instruction);
std::string checkMatrix(const Function &function, const Instruction &instruction);

} // namespace sgpu::ptx

#endif
