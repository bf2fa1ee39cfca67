//===- CheckInstructions.cpp - Which instructions there are ----------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/ParserState.h"

#include <algorithm>
#include <bit>

using namespace sgpu::ptx;

std::string Parser::checkCall(const Instruction &in) const {
  const Operand &target = in.operands[1];
  if (target.kind == Operand::Register) {
    const Register &reg = function->registers[target.index];
    if (bitsOf(reg.type) != module.addressSize || kindOf(reg.type) == TypeKind::Float)
      return "expects an address register for the function";
    return "";
  }
  const Function &callee = module.functions[target.symbol.index];
  const std::pair<size_t, size_t> counts[] = {
      {in.operands[0].elements.size(), callee.results.size()},
      {in.operands[2].elements.size(), callee.parameters.size()}};
  for (int i = 0; i < 2; ++i)
    if (counts[i].first != counts[i].second)
      return "expects " + std::to_string(counts[i].second) + (i ? " argument(s)" : " result(s)") +
             " for '" + callee.name + "', but got " + std::to_string(counts[i].first);
  return "";
}

static std::string typeText(Type type) { return "." + std::string(nameOf(type)); }

std::string Parser::checkRegister(const Operand &operand, Type type, bool wide) const {
  const Register &reg = function->registers[operand.index];
  bool whole = operand.component == Component::Whole;
  if (whole && reg.vector != 1)
    return "is a vector; expected one of its components";
  if (operand.negated)
    return "is negated; expected the plain register";
  if (!whole && reg.vector == 1)
    return "has a component, which only video instructions take";
  if (type == Type::None)
    return "";
  auto wrong = [&] {
    return "is a register of " + typeText(reg.type) + ", which does not fit " + typeText(type);
  };
  if ((type == Type::Pred) != (reg.type == Type::Pred))
    return wrong();
  unsigned have = bitsOf(reg.type), want = bitsOf(type);
  if (type == Type::Pred)
    return "";
  if (wide ? have < want : have != want)
    return wrong();
  // Untyped registers fit all; a float needs a register of its type, an integer one of integers.
  TypeKind haveKind = kindOf(reg.type), wantKind = kindOf(type);
  if (haveKind == TypeKind::Bits || wantKind == TypeKind::Bits)
    return "";
  if ((haveKind == TypeKind::Float) != (wantKind == TypeKind::Float))
    return wrong();
  if (haveKind == TypeKind::Float && have != want)
    return wrong();
  return "";
}

static bool isVideo(Opcode opcode) {
  return opcode >= Opcode::Vabsdiff && opcode <= Opcode::Vsub4 && opcode != Opcode::Vote;
}

std::string Parser::checkOperand(const OperandPattern &pattern, const Operand &operand,
                                 const Instruction &in) const {
  using K = OperandKind;
  Type type = operandType(pattern, in);
  auto is = [&](std::initializer_list<Operand::Kind> kinds) {
    return std::find(kinds.begin(), kinds.end(), operand.kind) != kinds.end();
  };
  auto immediate = [&](const Operand &value, Type as) -> std::string {
    bool isInteger = value.immediate == Operand::ImmediateKind::Integer;
    TypeKind kind = kindOf(as);
    if (as == Type::F32 || as == Type::F64)
      return isInteger ? "is an integer; expected a floating-point constant such as 0f3F800000"
                       : "";
    if (!isInteger &&
        (kind == TypeKind::Unsigned || kind == TypeKind::Signed || kind == TypeKind::Predicate))
      return "is a floating-point constant; expected an integer";
    return "";
  };
  auto value = [&](const Operand &part, bool wide, bool destination) -> std::string {
    if (part.kind == Operand::Register) {
      if (part.component >= Component::B0 && isVideo(in.opcode)) {
        const Register &reg = function->registers[part.index];
        return bitsOf(reg.type) == 32 && kindOf(reg.type) != TypeKind::Float
                   ? ""
                   : "expected an integer register of 32 bits";
      }
      return checkRegister(part, type, wide);
    }
    if (destination)
      return part.kind == Operand::Sink ? "" : "expected a register";
    if (part.kind == Operand::Immediate)
      return immediate(part, type);
    return "expected a register or a constant";
  };
  switch (pattern.kind) {
  case K::Destination:
  case K::WideDestination:
    return value(operand, pattern.kind == K::WideDestination, true);
  case K::Source:
  case K::WideSource:
    return value(operand, pattern.kind == K::WideSource, false);
  case K::Special:
    if (operand.kind == Operand::Special)
      return "";
    return value(operand, true, false);
  case K::DestinationOrPair: {
    if (operand.kind != Operand::Pair)
      return value(operand, false, true);
    if (std::string error = value(operand.elements[0], false, true); !error.empty())
      return error;
    const Operand &second = operand.elements[1];
    return second.kind == Operand::Sink ? "" : checkRegister(second, Type::Pred, false);
  }
  case K::VectorDestination:
  case K::VectorSource: {
    bool destination = pattern.kind == K::VectorDestination;
    if (operand.kind == Operand::Register) {
      const Register &reg = function->registers[operand.index];
      if (in.vector > 1 && reg.vector == in.vector && operand.component == Component::Whole) {
        Operand component = operand;
        component.component = Component::X;
        return value(component, true, destination);
      }
    }
    if (in.vector == 1)
      return operand.kind == Operand::Vector ? "expected a register, not a vector"
                                             : value(operand, true, destination);
    if (operand.kind != Operand::Vector || operand.elements.size() != in.vector)
      return "expected a vector of " + std::to_string(in.vector);
    unsigned width = 0;
    for (const Operand &element : operand.elements) {
      if (std::string error = value(element, true, destination); !error.empty())
        return error;
      if (element.kind != Operand::Register)
        continue;
      unsigned bits = bitsOf(function->registers[element.index].type);
      if (width && bits != width)
        return "expected registers of one width";
      width = bits;
    }
    // Wider ones are forms of their own, of later chips.
    return in.vector * bitsOf(type) > 128 && module.sm < 100
               ? "expected a vector of at most 128 bits"
               : "";
  }
  case K::MovDestination:
  case K::Movable: {
    bool destination = pattern.kind == K::MovDestination;
    const Operand &other = in.operands[destination ? 1 : 0];
    if (operand.kind == Operand::Vector && in.opcode == Opcode::Mov) {
      // Packing and unpacking: the elements share the bits of the other side.
      unsigned bits = bitsOf(type), count = unsigned(operand.elements.size());
      if (other.kind == Operand::Vector)
        return "expected a vector on one side only";
      if (kindOf(type) != TypeKind::Bits || (count != 2 && count != 4) || bits / count < 8)
        return "expected 2 or 4 elements of a .b type";
      for (const Operand &element : operand.elements) {
        if (element.kind == Operand::Sink && destination)
          continue;
        if (element.kind == Operand::Immediate && !destination)
          continue;
        if (element.kind != Operand::Register)
          return destination ? "expected registers" : "expected registers or constants";
        const Register &reg = function->registers[element.index];
        if (reg.type == Type::Pred || bitsOf(reg.type) != bits / count ||
            (reg.vector != 1 && element.component == Component::Whole))
          return "expected registers of " + std::to_string(bits / count) + " bits";
      }
      return "";
    }
    if (destination)
      return value(operand, false, true);
    if (operand.kind == Operand::Symbol) {
      if (operand.symbol.kind > Symbol::Function)
        return "expected a variable or a function";
      return bitsOf(type) >= 32 && kindOf(type) != TypeKind::Float
                 ? ""
                 : "is an address; expected a type of 32 or 64 bits";
    }
    if (operand.kind == Operand::Special && in.opcode == Opcode::Mov)
      return "";
    return value(operand, false, false);
  }
  case K::PredicateDestination:
  case K::PredicatePair: {
    auto predicate = [&](const Operand &part) -> std::string {
      if (part.kind == Operand::Sink)
        return "";
      return part.kind == Operand::Register ? checkRegister(part, Type::Pred, false)
                                            : "expected a predicate register";
    };
    if (operand.kind == Operand::Pair && pattern.kind == K::PredicatePair) {
      std::string error = predicate(operand.elements[0]);
      return error.empty() ? predicate(operand.elements[1]) : error;
    }
    return predicate(operand);
  }
  case K::Predicate: {
    if (operand.kind == Operand::Immediate)
      return immediate(operand, Type::Pred);
    if (operand.kind != Operand::Register)
      return "expected a predicate";
    Operand plain = operand;
    plain.negated = false;
    return checkRegister(plain, Type::Pred, false);
  }
  case K::Address:
    return operand.kind == Operand::Address && operand.elements.empty()
               ? ""
               : "expected an address in brackets";
  case K::TensorAddress: {
    if (operand.kind != Operand::Address || operand.elements.empty())
      return "expected [map, {coordinates}]";
    size_t want = 1;
    static constexpr std::pair<Modifier, size_t> dims[] = {{Modifier::Dim1, 1},
                                                           {Modifier::Dim2, 2},
                                                           {Modifier::Dim3, 3},
                                                           {Modifier::Dim4, 4},
                                                           {Modifier::Dim5, 5}};
    for (auto &[modifier, count] : dims)
      if (in.has(modifier))
        want = count;
    if (in.has(Modifier::TileGather4) || in.has(Modifier::TileScatter4))
      want = 5; // one column and four rows
    if (operand.elements.size() != want)
      return "expected " + std::to_string(want) + " coordinates";
    for (const Operand &element : operand.elements) {
      if (element.kind == Operand::Immediate)
        continue;
      if (element.kind != Operand::Register)
        return "expected coordinates in registers of .b32";
      if (std::string error = checkRegister(element, Type::S32, false); !error.empty())
        return "coordinate " + error;
    }
    return "";
  }
  case K::Label:
  case K::Table:
    return operand.kind == Operand::Symbol && operand.offset == 0 &&
                   (operand.symbol.kind == Symbol::None ||
                    operand.symbol.kind ==
                        (pattern.kind == K::Label ? Symbol::Label : Symbol::BranchTargets))
               ? ""
           : pattern.kind == K::Label ? "expected a label"
                                      : "expected a table of .branchtargets";
  case K::Integer:
    return operand.kind == Operand::Immediate &&
                   operand.immediate == Operand::ImmediateKind::Integer
               ? ""
               : "expected an integer constant";
  case K::Registers:
    return is({Operand::Register, Operand::Vector}) ? "" : "expected registers in braces";
  case K::IntVector:
    if (operand.kind != Operand::Vector)
      return "expected im2col offsets in braces";
    for (const Operand &element : operand.elements)
      if (element.kind == Operand::Register) {
        if (std::string error = checkRegister(element, Type::B16, false); !error.empty())
          return error;
      } else if (element.kind != Operand::Immediate) {
        return "expected registers of .b16";
      }
    return "";
  case K::Call:
    return "";
  }
  return "";
}

/// Empty if the operands fit the form, else why not.
std::string Parser::operandMismatch(const Form &form, const Instruction &in) const {
  const auto &patterns = form.operands;
  size_t given = in.operands.size();
  size_t required = 0;
  for (const OperandPattern &pattern : patterns)
    required += !pattern.optional;
  if (given < required || given > patterns.size())
    return "expects " + std::to_string(required) +
           (required == patterns.size() ? "" : " to " + std::to_string(patterns.size())) +
           " operand" + (patterns.size() == 1 ? "" : "s") + ", but got " + std::to_string(given);
  // Optional places are few (at most three): try every choice of those that are left out.
  std::string firstError;
  unsigned optionals = unsigned(patterns.size() - required);
  unsigned leftOut = unsigned(patterns.size() - given);
  for (unsigned mask = 0; mask < (1u << optionals); ++mask) {
    if (unsigned(std::popcount(mask)) != leftOut)
      continue;
    size_t at = 0;
    unsigned optional = 0;
    std::string error;
    for (const OperandPattern &pattern : patterns) {
      if (pattern.optional && (mask >> optional++ & 1))
        continue;
      const Operand &operand = in.operands[at++];
      error = checkOperand(pattern, operand, in);
      if (!error.empty()) {
        error = "operand " + std::to_string(at) + ": " + error;
        break;
      }
    }
    if (error.empty())
      return "";
    if (firstError.empty())
      firstError = error;
  }
  return firstError;
}

std::string Parser::checkVersion(const Form &form) const {
  uint32_t version = module.versionMajor * 10 + std::min(module.versionMinor, 9u);
  bool good = version >= form.minimumVersion && module.sm >= form.minimumSm;
  bool exact = !form.architectureOnly || module.smSuffix != 0;
  bool wgmma = form.opcode == Opcode::WgmmaMmaAsync || form.opcode == Opcode::WgmmaMmaAsyncSp ||
               form.opcode == Opcode::WgmmaFence || form.opcode == Opcode::WgmmaCommitGroup ||
               form.opcode == Opcode::WgmmaWaitGroup;
  if (wgmma && module.sm != 90)
    exact = false;
  if (good && exact)
    return "";
  std::string text = "needs PTX " + std::to_string(std::max<int>(form.minimumVersion, 30) / 10) +
                     "." + std::to_string(form.minimumVersion % 10) + " and sm_" +
                     std::to_string(form.minimumSm) + (form.architectureOnly ? "a" : "") +
                     (form.architectureOnly ? "" : " or later") + "; the module is PTX " +
                     std::to_string(module.versionMajor) + "." +
                     std::to_string(module.versionMinor) + " for sm_" + std::to_string(module.sm);
  if (module.smSuffix)
    text += module.smSuffix;
  return text;
}

bool Parser::checkInstruction(Instruction &in, const Token &start) {
  std::string name(nameOf(in.opcode));
  std::span<const Form> forms = formsOf(in.opcode);
  std::string operandError, versionError;
  bool anySuffixes = false;
  for (const Form &form : forms) {
    if (!suffixesFit(form, in))
      continue;
    anySuffixes = true;
    std::string error = in.opcode == Opcode::Call ? checkCall(in) : operandMismatch(form, in);
    if (error.empty())
      error = checkMatrix(*function, in);
    if (!error.empty()) {
      if (operandError.empty())
        operandError = error;
      continue;
    }
    error = checkVersion(form);
    if (error.empty())
      return true;
    if (versionError.empty())
      versionError = error;
  }
  std::string full = name;
  for (const Suffix &suffix : in.suffixes) {
    full += '.';
    full += suffix.modifier == Modifier::Type    ? nameOf(suffix.type)
            : suffix.modifier == Modifier::Space ? nameOf(suffix.space)
                                                 : nameOf(suffix.modifier);
    if (suffix.modifier == Modifier::Shape)
      full += "m" + std::to_string(in.shape.m) + "n" + std::to_string(in.shape.n) +
              (in.shape.k ? "k" + std::to_string(in.shape.k) : "");
  }
  if (!versionError.empty())
    return errorAt(start, "'" + full + "' " + versionError);
  if (anySuffixes)
    return errorAt(start, "'" + full + "': " + operandError);
  // Name the suffix that no form of the opcode has, or say what forms there are.
  for (const Suffix &suffix : in.suffixes) {
    bool known = false;
    for (const Form &form : forms)
      for (const SuffixPattern &pattern : form.suffixes)
        known = known || std::find(pattern.choices.begin(), pattern.choices.end(),
                                   suffixCode(suffix)) != pattern.choices.end();
    if (!known) {
      std::string text(suffix.modifier == Modifier::Type    ? nameOf(suffix.type)
                       : suffix.modifier == Modifier::Space ? nameOf(suffix.space)
                                                            : nameOf(suffix.modifier));
      return errorAt(start, "unknown modifier '." + text + "' of '" + name + "'");
    }
  }
  std::string known;
  for (size_t i = 0; i < std::min<size_t>(forms.size(), 6); ++i)
    known += (i ? "; " : "") + forms[i].text;
  return errorAt(start, "'" + full + "' is no form of '" + name + "'; known are: " + known +
                            (forms.size() > 6 ? "; ..." : ""));
}
