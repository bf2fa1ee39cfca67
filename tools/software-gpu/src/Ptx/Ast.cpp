//===- Ast.cpp - Names, sizes and equality of a PTX module ------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/Ast.h"

#include <algorithm>
#include <bit>
#include <cmath>

using namespace sgpu::ptx;

namespace {
struct TypeFacts {
  std::string_view name;
  unsigned bits;
  TypeKind kind;
};
constexpr TypeFacts typeFacts[] = {
    {"", 0, TypeKind::None},
#define TYPE(enumerator, text, bits, kind) {text, bits, TypeKind::kind},
#include "Ptx/Types.def"
};
constexpr std::string_view opcodeNames[] = {
    "",
#define OPCODE(enumerator, text) text,
#include "Ptx/Opcodes.def"
};
constexpr std::string_view modifierNames[] = {
    "",
    "",
    "",
#define MODIFIER(enumerator, text) text,
#include "Ptx/Modifiers.def"
};
constexpr std::string_view spaceNames[] = {
    "",       "reg",         "const",           "global",
    "local",  "param",       "param::entry",    "param::func",
    "shared", "shared::cta", "shared::cluster", "tex"};
struct SpecialFacts {
  std::string_view name;
  unsigned bits;
};
constexpr SpecialFacts specialFacts[] = {
    {"", 0},
#define SPECIAL(enumerator, text, bits) {text, bits},
#include "Ptx/SpecialRegisters.def"
    {"%envreg", 32},
    {"%pm", 32},
    {"%pm", 64},
};
} // namespace

unsigned sgpu::ptx::bitsOf(Type type) { return typeFacts[size_t(type)].bits; }
unsigned sgpu::ptx::bytesOf(Type type) { return std::max(1u, bitsOf(type) / 8); }
TypeKind sgpu::ptx::kindOf(Type type) { return typeFacts[size_t(type)].kind; }
std::string_view sgpu::ptx::nameOf(Type type) { return typeFacts[size_t(type)].name; }
std::string_view sgpu::ptx::nameOf(Opcode opcode) { return opcodeNames[size_t(opcode)]; }
std::string_view sgpu::ptx::nameOf(Modifier modifier) { return modifierNames[size_t(modifier)]; }
std::string_view sgpu::ptx::nameOf(StateSpace space) { return spaceNames[size_t(space)]; }
std::string_view sgpu::ptx::nameOf(SpecialRegister special) {
  return specialFacts[size_t(special)].name;
}
unsigned sgpu::ptx::bitsOf(SpecialRegister special) { return specialFacts[size_t(special)].bits; }

uint64_t Variable::byteSize() const {
  uint64_t size = uint64_t(vector) * bytesOf(type);
  for (uint64_t extent : extents)
    size *= extent;
  return size;
}

bool Variable::operator==(const Variable &other) const {
  return name == other.name && space == other.space && linkage == other.linkage &&
         type == other.type && opaque == other.opaque && vector == other.vector &&
         alignment == other.alignment && extents == other.extents &&
         initializer == other.initializer && relocations == other.relocations &&
         pointer == other.pointer && pointerSpace == other.pointerSpace &&
         pointerAlignment == other.pointerAlignment && reg == other.reg &&
         managed == other.managed && unified == other.unified;
}

bool Instruction::has(Modifier modifier) const {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](const Suffix &suffix) { return suffix.modifier == modifier; });
}

Modifier Instruction::firstOf(std::initializer_list<Modifier> choices, Modifier none) const {
  for (const Suffix &suffix : suffixes)
    if (std::find(choices.begin(), choices.end(), suffix.modifier) != choices.end())
      return suffix.modifier;
  return none;
}

bool Instruction::operator==(const Instruction &other) const {
  return opcode == other.opcode && guard == other.guard && suffixes == other.suffixes &&
         shape == other.shape && operands == other.operands && location == other.location;
}

bool Function::operator==(const Function &other) const {
  return name == other.name && isEntry == other.isEntry && isDeclaration == other.isDeclaration &&
         linkage == other.linkage && results == other.results && parameters == other.parameters &&
         reqntid == other.reqntid && maxntid == other.maxntid &&
         minnctapersm == other.minnctapersm && maxnctapersm == other.maxnctapersm &&
         maxnreg == other.maxnreg && reqnctapercluster == other.reqnctapercluster &&
         explicitcluster == other.explicitcluster && maxclusterrank == other.maxclusterrank &&
         blocksareclusters == other.blocksareclusters && noreturn == other.noreturn &&
         abiPreserve == other.abiPreserve && abiPreserveControl == other.abiPreserveControl &&
         registers == other.registers && variables == other.variables &&
         instructions == other.instructions && labels == other.labels &&
         branchTargets == other.branchTargets && callTargets == other.callTargets &&
         callPrototypes == other.callPrototypes && locations == other.locations &&
         pragmas == other.pragmas;
}

std::string_view Module::fileName(uint32_t index) const {
  for (const SourceFile &file : files)
    if (file.index == index)
      return file.name;
  return {};
}

const Function *Module::findFunction(std::string_view name) const {
  for (const Function &function : functions)
    if (function.name == name)
      return &function;
  return nullptr;
}

namespace {
/// Rounds an f64 to nearest even in a format of `exponentBits` and `mantissaBits` (without the
/// hidden one); NaN becomes the quiet NaN of all ones without the sign.
uint64_t roundTo(double value, unsigned exponentBits, unsigned mantissaBits) {
  uint64_t bits = std::bit_cast<uint64_t>(value);
  uint64_t sign = (bits >> 63) << (exponentBits + mantissaBits);
  uint64_t maxExponent = (1u << exponentBits) - 1;
  if (std::isnan(value))
    return (uint64_t(1) << (exponentBits + mantissaBits)) - 1;
  if (std::isinf(value))
    return sign | (maxExponent << mantissaBits);
  int bias = (1 << (exponentBits - 1)) - 1;
  int exponent = 0;
  double magnitude = std::fabs(value);
  if (magnitude == 0)
    return sign;
  std::frexp(magnitude, &exponent); // magnitude in [2^(exponent-1), 2^exponent)
  int lowest = std::max(exponent - 1, 1 - bias) - int(mantissaBits); // weight of the last bit
  uint64_t significand = uint64_t(std::nearbyint(std::ldexp(magnitude, -lowest)));
  // The significand counts units of the last bit; adding it to the exponent field carries properly.
  uint64_t exponentField = uint64_t(std::max(exponent - 1, 1 - bias) + bias);
  uint64_t result = significand < (uint64_t(1) << mantissaBits)
                        ? significand
                        : ((exponentField - 1) << mantissaBits) + significand;
  return sign | std::min(result, maxExponent << mantissaBits);
}
} // namespace

uint64_t sgpu::ptx::immediateAs(const Operand &operand, Type type) {
  uint64_t bits = operand.bits;
  using Kind = Operand::ImmediateKind;
  if (operand.immediate == Kind::Integer) {
    unsigned width = bitsOf(type);
    if (type == Type::F32)
      return std::bit_cast<uint32_t>(float(int64_t(bits)));
    if (type == Type::F64)
      return std::bit_cast<uint64_t>(double(int64_t(bits)));
    return width >= 64 || width == 0 ? bits : bits & ((uint64_t(1) << width) - 1);
  }
  bool narrow = operand.immediate == Kind::F32;
  switch (type) {
  case Type::F64:
  case Type::B64:
    return narrow && type == Type::F64
               ? std::bit_cast<uint64_t>(double(std::bit_cast<float>(uint32_t(bits))))
               : bits;
  case Type::F16:
    return roundTo(narrow ? std::bit_cast<float>(uint32_t(bits)) : std::bit_cast<double>(bits), 5,
                   10);
  case Type::BF16:
    return roundTo(narrow ? std::bit_cast<float>(uint32_t(bits)) : std::bit_cast<double>(bits), 8,
                   7);
  default:
    return narrow ? bits : roundTo(std::bit_cast<double>(bits), 8, 23);
  }
}
