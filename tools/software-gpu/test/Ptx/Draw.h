//===- Draw.h - Instructions drawn from the table ------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_PTX_DRAW_H
#define SGPU_TEST_PTX_DRAW_H

#include "Ptx/Opcodes.h"

#include <random>
#include <string>

namespace sgpu::ptx {

/// Draws instructions as text that the parser must accept inside `prologue`.
class Drawer {
public:
  explicit Drawer(uint64_t seed) : random(seed) {}

  /// Everything in front of drawn instructions: target, variables, registers.
  static std::string prologue(const std::string &target = "sm_90a") {
    return ".version 9.0\n.target " + target +
           "\n.address_size 64\n"
           ".global .align 16 .b8 global_variable[256];\n"
           ".func (.param .b32 result) callee(.param .b64 a) { ret; }\n"
           ".visible .entry drawn(.param .u64 parameter)\n{\n"
           "\t.reg .pred %p<8>;\n\t.reg .b16 %h<300>;\n\t.reg .b32 %r<300>;\n\t.reg .b64 "
           "%rd<300>;\n"
           "\t.reg .f32 %f<300>;\n\t.reg .f64 %fd<300>;\n\t.reg .b128 %rq<8>;\n"
           "\t.shared .align 16 .b8 shared_variable[256];\n\t.local .align 16 .b8 local[64];\n"
           "table: .branchtargets here;\nhere:\n";
  }
  static std::string epilogue() { return "\tret;\n}\n"; }

  /// One instruction of a form, without guard; empty if the drawn types do not go together.
  std::string instruction(const Form &form) {
    Instruction in;
    in.opcode = form.opcode;
    std::string text(nameOf(form.opcode));
    for (const SuffixPattern &pattern : form.suffixes) {
      if (pattern.optional && below(2))
        continue;
      Suffix suffix = suffixOf(pattern.choices[below(pattern.choices.size())]);
      addSuffix(in, suffix, pattern, text);
    }
    if (!checkMatrixTypes(in).empty() || !together(in))
      return "";
    const char *separator = " ";
    for (size_t i = 0; i < form.operands.size(); ++i) {
      const OperandPattern &pattern = form.operands[i];
      if (pattern.optional && !optionalOperand(form, in, i))
        continue;
      text += separator + operand(form, pattern, in, i);
      separator = ", ";
    }
    return text + ";";
  }

  size_t below(size_t limit) { return size_t(random() % limit); }

private:
  void addSuffix(Instruction &in, Suffix suffix, const SuffixPattern &pattern, std::string &text) {
    in.suffixes.push_back(suffix);
    text += '.';
    if (suffix.modifier == Modifier::Type) {
      in.types.push_back(suffix.type);
      text += nameOf(suffix.type);
    } else if (suffix.modifier == Modifier::Space) {
      in.spaces.push_back(suffix.space);
      text += nameOf(suffix.space);
    } else if (suffix.modifier == Modifier::Shape) {
      in.shape = pattern.shapes[below(pattern.shapes.size())];
      if (in.opcode == Opcode::WgmmaMmaAsync || in.opcode == Opcode::WgmmaMmaAsyncSp)
        in.shape.n = uint16_t(8 * (1 + below(32)));
      text += "m" + std::to_string(in.shape.m) + "n" + std::to_string(in.shape.n);
      if (in.shape.k)
        text += "k" + std::to_string(in.shape.k);
    } else {
      text += nameOf(suffix.modifier);
      in.vector = suffix.modifier == Modifier::V2   ? 2
                  : suffix.modifier == Modifier::V4 ? 4
                  : suffix.modifier == Modifier::V8 ? 8
                                                    : in.vector;
    }
  }

  /// What the ISA asks for beyond the table; the parser takes more.
  bool together(const Instruction &in) {
    if (in.vector > 1 && in.vector * bitsOf(in.type()) > 128)
      return false;
    return true;
  }
  bool optionalOperand(const Form &form, const Instruction &in, size_t i) {
    const OperandPattern &pattern = form.operands[i];
    if (form.opcode == Opcode::WgmmaMmaAsync || form.opcode == Opcode::WgmmaMmaAsyncSp)
      return !aInRegisters;
    // A cache policy and its modifier come together.
    if (pattern.kind == OperandKind::Source && pattern.fixed == Type::B64 && pattern.typeIndex < 0)
      return in.has(Modifier::L2CacheHint);
    if (pattern.kind == OperandKind::IntVector)
      return in.has(Modifier::Im2col) && !in.has(Modifier::Dim1) && !in.has(Modifier::Dim2);
    return below(2);
  }
  std::string number(const char *prefix, size_t count) {
    return prefix + std::to_string(below(count));
  }
  std::string reg(Type type, bool wide = false) {
    switch (bitsOf(type)) {
    case 1:
      if (type == Type::Pred)
        return number("%p", 8);
      [[fallthrough]];
    case 4:
    case 8:
    case 16:
      if (wide && below(4) == 0 && kindOf(type) != TypeKind::Float)
        return number(below(2) ? "%r" : "%rd", 300);
      return number("%h", 300);
    case 32:
      if (wide && below(4) == 0 && kindOf(type) != TypeKind::Float)
        return number("%rd", 300);
      return number(type == Type::F32 && below(2) ? "%f" : "%r", 300);
    case 64:
      return number(type == Type::F64 && below(2) ? "%fd" : "%rd", 300);
    case 128:
      return number("%rq", 8);
    }
    return number("%rd", 300);
  }
  std::string constant(Type type) {
    char text[32];
    if (type == Type::F32)
      snprintf(text, sizeof text, "0f%08X", unsigned(random()));
    else if (type == Type::F64)
      snprintf(text, sizeof text, "0d%016llX", static_cast<unsigned long long>(random()));
    else
      snprintf(text, sizeof text, "%d", int(below(200)) - 100);
    return text;
  }
  /// Registers of one kind.
  std::string vectorOf(unsigned count, Type type, bool wide) {
    std::string first = reg(type, wide),
                prefix = first.substr(0, first.find_first_of("0123456789"));
    std::string text = "{" + first;
    for (unsigned i = 1; i < count; ++i)
      text += ", " + number(prefix.c_str(), 300);
    return text + "}";
  }
  std::string distinct(unsigned count, unsigned bits, Type type) {
    // Fragments have registers of their own.
    std::string text = "{";
    const char *prefix = bits == 64 ? (type == Type::F64 && below(2) ? "%fd" : "%rd")
                                    : (type == Type::F32 && below(2) ? "%f" : "%r");
    for (unsigned i = 0; i < count; ++i)
      text += (i ? ", " : "") + (prefix + std::to_string(nextDistinct++ % 300));
    return text + "}";
  }
  std::string address(const Instruction &in) {
    bool global = !in.spaces.empty() && in.spaces[0] == StateSpace::Global;
    if (below(4) == 0)
      return "[%rd" + std::to_string(below(300)) + "+" + std::to_string(16 * below(16)) + "]";
    if (global && in.spaces.size() == 1 && below(4) == 0)
      return "[global_variable+" + std::to_string(16 * below(8)) + "]";
    return "[%rd" + std::to_string(below(300)) + "]";
  }
  std::string operand(const Form &form, const OperandPattern &pattern, const Instruction &in,
                      size_t index) {
    using K = OperandKind;
    Type type = operandType(pattern, in);
    bool wgmma = form.opcode == Opcode::WgmmaMmaAsync || form.opcode == Opcode::WgmmaMmaAsyncSp;
    switch (pattern.kind) {
    case K::Destination:
      if (in.opcode == Opcode::MbarrierArrive || in.opcode == Opcode::MbarrierArriveDrop)
        return in.space() == StateSpace::SharedCluster || below(4) == 0 ? "_" : reg(type);
      return reg(type);
    case K::WideDestination:
      return reg(type, true);
    case K::Source:
      if (below(4) == 0 && takesConstants(in.opcode) && kindOf(type) != TypeKind::None &&
          !isPacked(type) && bitsOf(type) >= 16 && type != Type::Pred &&
          (kindOf(type) != TypeKind::Float || type == Type::F32 || type == Type::F64) &&
          bitsOf(type) <= 64 && pattern.fixed != Type::B64)
        return constant(type);
      return reg(type);
    case K::WideSource:
    case K::Special:
      return reg(type, true);
    case K::DestinationOrPair:
      return below(2) ? reg(type) : reg(type) + "|" + reg(Type::Pred);
    case K::VectorDestination:
    case K::VectorSource:
      return in.vector > 1 ? vectorOf(in.vector, type, true) : reg(type, true);
    case K::Movable:
      switch (below(4)) {
      case 0:
        if (bitsOf(type) == 64 && kindOf(type) != TypeKind::Float)
          return below(2) ? "global_variable+8" : "shared_variable";
        break;
      case 1:
        if (type == Type::U32 && in.opcode == Opcode::Mov)
          return "%tid.x";
        break;
      case 2:
        if (type != Type::B128 && in.opcode == Opcode::Mov)
          return constant(type);
        break;
      default:
        if (in.opcode == Opcode::Mov && type == Type::B64)
          return "{%r1, %r2}";
        if (in.opcode == Opcode::Mov && type == Type::B32)
          return "{%h1, %h2}";
      }
      return reg(type);
    case K::MovDestination:
      return reg(type);
    case K::PredicateDestination:
      return reg(Type::Pred);
    case K::PredicatePair:
      return below(2) ? reg(Type::Pred) : reg(Type::Pred) + "|" + reg(Type::Pred);
    case K::Predicate:
      return (below(2) && in.opcode != Opcode::Selp && !wgmma ? "!" : "") + reg(Type::Pred);
    case K::Address:
      return address(in);
    case K::TensorAddress: {
      unsigned count = in.has(Modifier::TileGather4) || in.has(Modifier::TileScatter4) ? 5
                       : in.has(Modifier::Dim5)                                        ? 5
                       : in.has(Modifier::Dim4)                                        ? 4
                       : in.has(Modifier::Dim3)                                        ? 3
                       : in.has(Modifier::Dim2)                                        ? 2
                                                                                       : 1;
      return "[%rd1, " + vectorOf(count, Type::B32, false) + "]";
    }
    case K::Label:
      return "here";
    case K::Table:
      return "table";
    case K::Integer:
      return wgmma ? integerOfWgmma(form, index) : integer(in);
    case K::Registers: {
      if (wgmma && index == 1) {
        aInRegisters = below(2);
        if (!aInRegisters)
          return "%rd7";
      }
      MatrixFragment fragment = matrixFragment(in, index);
      return distinct(fragment.count, fragment.bits, fragment.type);
    }
    case K::IntVector: {
      unsigned count = in.has(Modifier::Dim5) ? 3 : in.has(Modifier::Dim4) ? 2 : 1;
      return vectorOf(count, Type::B16, false);
    }
    case K::Call:
      return "(%r1), callee, (%rd1)";
    }
    return "";
  }
  static bool isPacked(Type type) { return type == Type::U16x2 || type == Type::S16x2; }
  /// Constants of others must lie in ranges of their own.
  static bool takesConstants(Opcode opcode) {
    std::string_view name = nameOf(opcode);
    return !name.starts_with("bar") && !name.starts_with("cp.") && !name.starts_with("v") &&
           !name.starts_with("bf") && !name.starts_with("mbarrier") && !name.starts_with("w") &&
           !name.starts_with("tensormap") && !name.starts_with("createpolicy") &&
           !name.starts_with("sh") && opcode != Opcode::Mma && opcode != Opcode::Fns;
  }
  std::string integerOfWgmma(const Form &form, size_t index) {
    size_t first = form.opcode == Opcode::WgmmaMmaAsyncSp ? 6 : 4;
    if (index < first) // selector of sparsity
      return "0";
    return index < first + 2 ? (below(2) ? "1" : "-1") : (below(2) ? "1" : "0");
  }
  std::string integer(const Instruction &in) {
    switch (in.opcode) {
    case Opcode::CpAsync:
      return in.has(Modifier::Cg) ? "16" : below(2) ? "4" : "8";
    case Opcode::Setmaxnreg:
      return std::to_string(24 + 8 * below(28));
    case Opcode::TensormapCpFenceproxy:
    case Opcode::FenceProxy:
    case Opcode::Applypriority:
    case Opcode::Discard:
      return "128";
    case Opcode::TensormapReplace:
      return "0";
    case Opcode::Mma:
      return "0";
    case Opcode::Alloca:
      return "8";
    default:
      return std::to_string(below(8));
    }
  }

  std::mt19937_64 random;
  unsigned nextDistinct = 0;
  bool aInRegisters = false;
};

} // namespace sgpu::ptx

#endif
