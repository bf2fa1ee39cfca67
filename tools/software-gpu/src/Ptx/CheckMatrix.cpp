//===- CheckMatrix.cpp - Registers of matrix instructions -------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How many registers each thread gives for a fragment: elements * bits / (threads * 32), with the
// exceptions that the ISA lists. M rows of A and C, N columns of B and C, K the dimension summed over.
//===----------------------------------------------------------------------===//
#include "Ptx/Opcodes.h"

using namespace sgpu::ptx;

namespace {

MatrixFragment fragment(unsigned elements, unsigned threads, Type type) {
  if (type == Type::F64)
    return {elements / threads, 64, type};
  unsigned bits = elements * bitsOf(type) / threads;
  return {std::max(1u, bits / 32), 32, type};
}

bool isSparse(const Instruction &in) {
  return in.has(Modifier::Sp) || in.has(Modifier::SpOrderedMetadata);
}

/// D, A, B, C of mma.
MatrixFragment mmaFragment(const Instruction &in, size_t operand) {
  unsigned m = in.shape.m, n = in.shape.n, k = in.shape.k;
  Type type = in.type(operand);
  // m8n8k4 of f16 is four products, each of 8 threads.
  if (m == 8 && n == 8 && k == 4 && in.type(1) == Type::F16)
    return operand == 1 || operand == 2 ? MatrixFragment{2, 32, type}
                                        : MatrixFragment{type == Type::F32 ? 8u : 4u, 32, type};
  if (operand == 1)
    return fragment(m * k / (isSparse(in) ? 2 : 1), 32, type);
  return fragment(operand == 2 ? k * n : m * n, 32, type);
}

MatrixFragment wmmaFragment(Shape shape, char matrix, Type type) {
  if (matrix == 'c' || matrix == 'd')
    return fragment(unsigned(shape.m) * shape.n, 32, type);
  if (type == Type::F16)
    return {8, 32, type}; // every element is held twice
  return fragment(unsigned(matrix == 'a' ? shape.m : shape.n) * shape.k, 32, type);
}

/// Types of D, A, B, C of wmma.mma; the short form of f16 names D and C only.
Type wmmaType(const Instruction &in, size_t operand) {
  if (in.types.size() == 4)
    return in.type(operand);
  return operand == 0 ? in.type(0) : operand == 3 ? in.type(1) : Type::F16;
}

std::string checkFragment(const Function &function, const Operand &operand, MatrixFragment want,
                          const char *name) {
  std::string expected = std::to_string(want.count) + " register" + (want.count == 1 ? "" : "s") +
                         " of " + std::to_string(want.bits) + " bits";
  size_t count = operand.kind == Operand::Vector ? operand.elements.size() : 1;
  if (count != want.count)
    return std::string("expects ") + expected + " for " + name + ", but got " +
           std::to_string(count);
  auto checkOne = [&](const Operand &element) {
    if (element.kind != Operand::Register || element.component != Component::Whole)
      return false;
    const Register &reg = function.registers[element.index];
    bool isFloat = reg.type == Type::F32 || reg.type == Type::F64;
    return reg.vector == 1 && reg.type != Type::Pred && bitsOf(reg.type) == want.bits &&
           (!isFloat || reg.type == want.type);
  };
  bool good = true;
  if (operand.kind == Operand::Vector)
    for (const Operand &element : operand.elements)
      good = good && checkOne(element);
  else
    good = checkOne(operand);
  return good ? "" : std::string("expects ") + expected + " for " + name;
}

std::string checkWgmmaConstants(const Instruction &in) {
  size_t first = in.opcode == Opcode::WgmmaMmaAsyncSp ? 6 : 4;
  bool inRegisters = in.operands[1].kind == Operand::Vector;
  if (bitsOf(in.type(1)) == 16 && in.operands.size() != first + (inRegisters ? 3 : 4))
    return std::string("expects ") + (inRegisters ? "3" : "4") +
           " constants after scale-d: imm-scale-a, imm-scale-b, " +
           (inRegisters ? "imm-trans-b" : "imm-trans-a, imm-trans-b");
  for (size_t i = first; i < in.operands.size(); ++i) {
    int64_t value = int64_t(in.operands[i].bits);
    if (i < first + 2 ? value != 1 && value != -1 : value != 0 && value != 1)
      return i < first + 2 ? "expects 1 or -1 for imm-scale-a and imm-scale-b"
                           : "expects 0 or 1 for imm-trans-a and imm-trans-b";
  }
  return "";
}

} // namespace

std::string sgpu::ptx::checkMatrixTypes(const Instruction &in) {
  unsigned k = in.shape.k;
  switch (in.opcode) {
  case Opcode::Mma: {
    Type d = in.type(0), a = in.type(1), b = in.type(2), c = in.type(3);
    if (d != c && !(in.shape.m == 8 && k == 4))
      return "expects the same type for D and C";
    if ((a == Type::BF16 || a == Type::TF32) && a != b)
      return "expects the same type for A and B";
    if (bitsOf(a) != bitsOf(b))
      return "expects types of the same width for A and B";
    if (a == Type::TF32 && k == (isSparse(in) ? 32u : 16u) && !isSparse(in))
      return "expects .k4 or .k8 for .tf32";
    return "";
  }
  case Opcode::WmmaMma:
    return wmmaType(in, 1) != wmmaType(in, 2) && bitsOf(wmmaType(in, 1)) >= 8
               ? "expects the same type for A and B"
               : "";
  case Opcode::WmmaLoad:
  case Opcode::WmmaStore: {
    if (in.has(Modifier::A) || in.has(Modifier::B))
      return "";
    bool good = k == 4    ? in.type() == Type::F64
                : k == 8  ? in.type() == Type::F32
                : k == 16 ? in.type() != Type::F64
                          : in.type() == Type::S32;
    return good ? "" : "expects the accumulator type of this shape";
  }
  case Opcode::WgmmaMmaAsync:
  case Opcode::WgmmaMmaAsyncSp:
    if (in.type(0) == Type::S32 && in.shape.n > 32 && in.shape.n % 16)
      return "expects an N of 8, 16, 24, 32 or a multiple of 16 for .s32";
    return "";
  default:
    return "";
  }
}

MatrixFragment sgpu::ptx::matrixFragment(const Instruction &in, size_t operand) {
  switch (in.opcode) {
  case Opcode::Mma:
    return mmaFragment(in, operand);
  case Opcode::WmmaMma:
    return wmmaFragment(in.shape, "dabc"[operand], wmmaType(in, operand));
  case Opcode::WmmaLoad:
  case Opcode::WmmaStore:
    return wmmaFragment(in.shape,
                        in.has(Modifier::A)   ? 'a'
                        : in.has(Modifier::B) ? 'b'
                                              : 'c',
                        in.type());
  case Opcode::WgmmaMmaAsync:
  case Opcode::WgmmaMmaAsyncSp:
    if (operand == 0)
      return fragment(64u * in.shape.n, 128, in.type(0));
    return {4, 32, in.type(1)}; // or a descriptor
  case Opcode::Ldmatrix:
  case Opcode::Stmatrix:
    return {in.has(Modifier::X4) ? 4u : in.has(Modifier::X2) ? 2u : 1u, 32, Type::B32};
  default:
    return {};
  }
}

std::string sgpu::ptx::checkMatrix(const Function &function, const Instruction &in) {
  std::string error = checkMatrixTypes(in);
  if (!error.empty())
    return error;
  auto check = [&](size_t operand, MatrixFragment want, const char *name) {
    if (error.empty())
      error = checkFragment(function, in.operands[operand], want, name);
  };
  static const char *const names[] = {"D", "A", "B", "C"};
  switch (in.opcode) {
  case Opcode::Mma:
  case Opcode::WmmaMma:
    for (size_t i = 0; i < 4; ++i)
      check(i, matrixFragment(in, i), names[i]);
    return error;
  case Opcode::WgmmaMmaAsync:
  case Opcode::WgmmaMmaAsyncSp:
    check(0, matrixFragment(in, 0), "D");
    if (in.operands[1].kind == Operand::Vector)
      check(1, matrixFragment(in, 1), "A");
    else
      check(1, {1, 64, Type::B64}, "the descriptor of A");
    return error.empty() ? checkWgmmaConstants(in) : error;
  case Opcode::WmmaLoad:
  case Opcode::Ldmatrix:
    check(0, matrixFragment(in, 0), "the fragment");
    return error;
  case Opcode::WmmaStore:
  case Opcode::Stmatrix:
    check(1, matrixFragment(in, 1), "the fragment");
    return error;
  default:
    return "";
  }
}
