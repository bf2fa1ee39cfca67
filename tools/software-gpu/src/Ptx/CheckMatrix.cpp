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

/// What a fragment operand must be.
struct Fragment {
  unsigned count; ///< registers
  unsigned bits;  ///< of each: 32 or 64
  Type type;      ///< F32 and F64 fragments may lie in registers of that type
};

Fragment fragment(unsigned elements, unsigned threads, Type type) {
  if (type == Type::F64)
    return {elements / threads, 64, type};
  unsigned bits = elements * bitsOf(type) / threads;
  return {std::max(1u, bits / 32), 32, type};
}

std::string checkFragment(const Function &function, const Operand &operand, Fragment want,
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

std::string checkMma(const Function &function, const Instruction &in) {
  unsigned m = in.shape.m, n = in.shape.n, k = in.shape.k;
  Type d = in.type(0), a = in.type(1), b = in.type(2), c = in.type(3);
  bool sparse = in.has(Modifier::Sp) || in.has(Modifier::SpOrderedMetadata);
  if (d != c && !(m == 8 && k == 4))
    return "expects the same type for D and C";
  if ((a == Type::BF16 || a == Type::TF32) && a != b)
    return "expects the same type for A and B";
  if (bitsOf(a) != bitsOf(b))
    return "expects types of the same width for A and B";
  if (a == Type::TF32 && k == (sparse ? 32u : 16u))
    return "expects .k4 or .k8 (.sp: .k8 or .k16) for .tf32";
  bool quadPairs = m == 8 && n == 8 && k == 4 && a == Type::F16; // 8 threads for each of 4 products
  Fragment fragments[4] = {fragment(m * n, 32, d), fragment(m * k / (sparse ? 2 : 1), 32, a),
                           fragment(k * n, 32, b), fragment(m * n, 32, c)};
  if (quadPairs) {
    fragments[0] = {d == Type::F32 ? 8u : 4u, 32, d};
    fragments[1] = fragments[2] = {2, 32, Type::F16};
    fragments[3] = {c == Type::F32 ? 8u : 4u, 32, c};
  }
  static const char *names[] = {"D", "A", "B", "C"};
  for (unsigned i = 0; i < 4; ++i)
    if (std::string error = checkFragment(function, in.operands[i], fragments[i], names[i]);
        !error.empty())
      return error;
  return "";
}

Fragment wmmaFragment(Shape shape, char matrix, Type type) {
  if (matrix == 'c' || matrix == 'd')
    return fragment(unsigned(shape.m) * shape.n, 32, type);
  if (type == Type::F16)
    return {8, 32, type}; // every element is held twice
  unsigned outer = matrix == 'a' ? shape.m : shape.n;
  return fragment(outer * shape.k, 32, type);
}

std::string checkWmma(const Function &function, const Instruction &in) {
  if (in.opcode == Opcode::WmmaMma) {
    size_t last = in.types.size() - 1;
    Type a = in.types.size() == 4 ? in.type(1) : Type::F16;
    Type b = in.types.size() == 4 ? in.type(2) : Type::F16;
    if (a != b && bitsOf(a) >= 16)
      return "expects the same type for A and B";
    Fragment fragments[4] = {
        wmmaFragment(in.shape, 'd', in.type(0)), wmmaFragment(in.shape, 'a', a),
        wmmaFragment(in.shape, 'b', b), wmmaFragment(in.shape, 'c', in.type(last))};
    static const char *names[] = {"D", "A", "B", "C"};
    for (unsigned i = 0; i < 4; ++i)
      if (std::string error = checkFragment(function, in.operands[i], fragments[i], names[i]);
          !error.empty())
        return error;
    return "";
  }
  char matrix = in.has(Modifier::A) ? 'a' : in.has(Modifier::B) ? 'b' : 'c';
  Type type = in.type();
  Shape shape = in.shape;
  if (matrix == 'c') {
    bool good = shape.k == 4     ? type == Type::F64
                : shape.k == 8   ? type == Type::F32
                : shape.k == 16  ? type != Type::F64
                                 : type == Type::S32;
    if (!good)
      return "expects the accumulator type of this shape";
  }
  return checkFragment(function, in.operands[in.opcode == Opcode::WmmaLoad ? 0 : 1],
                       wmmaFragment(shape, matrix, type), "the fragment");
}

std::string checkWgmma(const Function &function, const Instruction &in) {
  Type d = in.type(0), a = in.type(1);
  unsigned n = in.shape.n;
  if (d == Type::S32 && n > 32 && n % 16)
    return "expects an N of 8, 16, 24, 32 or a multiple of 16 for .s32";
  if (a == Type::TF32 ? in.type(2) != Type::TF32 : false)
    return "expects the same type for A and B";
  if (std::string error =
          checkFragment(function, in.operands[0], fragment(64 * n, 128, d), "D");
      !error.empty())
    return error;
  const Operand &matrixA = in.operands[1];
  bool inRegisters = matrixA.kind == Operand::Vector;
  if (inRegisters) {
    if (std::string error = checkFragment(function, matrixA, {4, 32, a}, "A"); !error.empty())
      return error;
  } else if (std::string error = checkFragment(function, matrixA, {1, 64, Type::B64},
                                               "the descriptor of A");
             !error.empty()) {
    return error;
  }
  if (bitsOf(a) == 16) {
    size_t before = in.opcode == Opcode::WgmmaMmaAsyncSp ? 6 : 4;
    size_t want = before + (inRegisters ? 3 : 4);
    if (in.operands.size() != want)
      return std::string("expects ") + (inRegisters ? "3" : "4") +
             " constants after scale-d: imm-scale-a, imm-scale-b, " +
             (inRegisters ? "imm-trans-b" : "imm-trans-a, imm-trans-b");
  }
  size_t first = in.opcode == Opcode::WgmmaMmaAsyncSp ? 6 : 4;
  for (size_t i = first; i < in.operands.size(); ++i) {
    int64_t value = int64_t(in.operands[i].bits);
    if (i < first + 2 ? value != 1 && value != -1 : value != 0 && value != 1)
      return i < first + 2 ? "expects 1 or -1 for imm-scale-a and imm-scale-b"
                           : "expects 0 or 1 for imm-trans-a and imm-trans-b";
  }
  return "";
}

} // namespace

std::string sgpu::ptx::checkMatrix(const Function &function, const Instruction &in) {
  switch (in.opcode) {
  case Opcode::Mma:
    return checkMma(function, in);
  case Opcode::WmmaLoad:
  case Opcode::WmmaStore:
  case Opcode::WmmaMma:
    return checkWmma(function, in);
  case Opcode::WgmmaMmaAsync:
  case Opcode::WgmmaMmaAsyncSp:
    return checkWgmma(function, in);
  case Opcode::Ldmatrix:
  case Opcode::Stmatrix: {
    unsigned count = in.has(Modifier::X4) ? 4 : in.has(Modifier::X2) ? 2 : 1;
    return checkFragment(function, in.operands[in.opcode == Opcode::Ldmatrix ? 0 : 1],
                         {count, 32, Type::B32}, "the matrices");
  }
  default:
    return "";
  }
}
