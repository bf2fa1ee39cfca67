//===- Function.h - A function as decoded code ---------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_FUNCTION_H
#define SGPU_MACHINE_FUNCTION_H

#include "Machine/Instruction.h"
#include "Machine/Machine.h"
#include "Ptx/Ast.h"

#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace sgpu {

/// Rows of the special registers, which every warp has filled when it starts (32-bit, but Gridid).
namespace special {
enum Row : uint32_t {
  TidX,
  TidY,
  TidZ,
  NtidX,
  NtidY,
  NtidZ,
  CtaidX,
  CtaidY,
  CtaidZ,
  NctaidX,
  NctaidY,
  NctaidZ,
  Laneid,
  Warpid,
  Nwarpid,
  Smid,
  Nsmid,
  Gridid,
  GrididHigh,
  ClusteridX,
  ClusteridY,
  ClusteridZ,
  NclusteridX,
  NclusteridY,
  NclusteridZ,
  ClusterCtaidX,
  ClusterCtaidY,
  ClusterCtaidZ,
  ClusterNctaidX,
  ClusterNctaidY,
  ClusterNctaidZ,
  ClusterCtarank,
  ClusterNctarank,
  LanemaskEq,
  LanemaskLe,
  LanemaskLt,
  LanemaskGe,
  LanemaskGt,
  TotalSmemSize,
  DynamicSmemSize,
  ReservedBegin,
  ReservedEnd,
  ReservedCap,
  Zero,
  ZeroHigh,
  Rows
};
} // namespace special

/// An entry or device function, decoded.
struct Function {
  const ptx::Module *module = nullptr;
  const ptx::Function *ast = nullptr;
  std::string name;
  uint32_t ordinal = 0;          ///< index in Program::functions
  std::vector<Instruction> code; ///< ends with an implicit exit or return
  uint32_t rows = 0;             ///< of registers
  uint32_t numPredicates = 0;
  std::vector<uint32_t> registerRow; ///< by index of ast->registers: row, or number of predicate
  std::vector<uint32_t> constants;   ///< 32 words for each constant row
  uint32_t paramBytes = 0;           ///< of the frame: own parameters, results, .param variables
  std::vector<uint32_t> parameterOffsets, resultOffsets; ///< of formals in .param, in the frame
  uint32_t localBytes = 0, localAlignment = 16;
  /// Hidden registers: rows of 8-byte lanes that get localBase + offset when a frame is made.
  struct LocalAddress {
    uint32_t row;
    uint32_t offset;
  };
  std::vector<LocalAddress> localAddresses;
  uint32_t carry = 0;  ///< hidden predicate: the condition code CC.CF
  uint32_t always = 0; ///< hidden predicate: true

  // Basic blocks, for where paths meet: the block of each instruction, and of each block its first
  // instruction and immediate post-dominator (~0: the end of the function).
  std::vector<uint32_t> blockOf, blockStart, postDominator;
  /// Whether every path from instruction `b` to the end goes through the block of `a`.
  bool postDominates(uint32_t a, uint32_t b) const;

  /// Index into Frame::defined, held: rows first, then predicates.
  uint32_t definedIndex(Operand op) const {
    return op.base == Operand::Predicate ? rows + op.row : op.row;
  }
  uint32_t numDefined() const { return rows + numPredicates; }
  /// What a source line is called, "file:line"; empty if not known.
  std::string source(const Instruction &in) const;
  std::string text(const Instruction &in) const; ///< the instruction as PTX

  uint32_t registersUsed() const; ///< most 32-bit registers that are live at one place
  /// 32-bit registers that hold values at an instruction which are needed after it and which a compiler cannot
  /// make again from constants, special registers and parameters.
  uint32_t registersKept(uint32_t index) const;

  /// Calls visit(instruction, rows live before it) for all, backwards within each block.
  template <typename F> void forLive(F visit) const;

  // Owners of what instructions point to.
  std::deque<std::vector<Operand>> operandLists;
  std::deque<std::vector<uint32_t>> indexLists;
  std::vector<std::shared_ptr<void>> extras;
};

} // namespace sgpu

#endif
