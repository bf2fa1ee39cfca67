//===- Printer.cpp - A module to PTX text -----------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Order of the text: directives, a declaration of every function, variables, definitions, aliases; so
// that every name is declared before it is used.
//===----------------------------------------------------------------------===//
#include "Ptx/Printer.h"

#include <cinttypes>
#include <cstdio>

using namespace sgpu::ptx;

namespace {

class Printer {
public:
  explicit Printer(const Module &module) : module(module) {}

  void printModule();
  void printInstruction(const Function &function, const Instruction &in);
  std::string out;

private:
  void number(uint64_t value) { out += std::to_string(value); }
  void integer(int64_t value) { out += std::to_string(value); }
  void linkage(Linkage linkage);
  void typeSpec(const Variable &variable, bool isParameter);
  void variable(const Variable &variable, const char *indent);
  void initializer(const Variable &variable);
  void initialLevel(const Variable &variable, size_t level, uint64_t &element, size_t &relocation,
                    uint64_t last);
  void initialElement(const Variable &variable, uint64_t element, size_t &relocation);
  void parameters(const std::vector<Variable> &list);
  void header(const Function &function);
  void definition(const Function &function);
  void operand(const Function &function, const Operand &operand);
  void list(const Function &function, const std::vector<Operand> &elements);
  void offset(int64_t value);
  void loc(const Function &function, const SourceLocation &at);
  std::string_view name(const Function &function, Symbol symbol) const;

  const Module &module;
};

void Printer::linkage(Linkage linkage) {
  static const char *texts[] = {"", ".extern ", ".visible ", ".weak ", ".common "};
  out += texts[size_t(linkage)];
}

void Printer::typeSpec(const Variable &v, bool isParameter) {
  out += '.';
  out += nameOf(v.space);
  if (v.managed || v.unified) {
    out += " .attribute(";
    if (v.managed)
      out += ".managed";
    if (v.unified)
      out += v.managed ? ", .unified(0, 0)" : ".unified(0, 0)";
    out += ")";
  }
  if (v.space != StateSpace::Reg) {
    out += " .align ";
    number(v.alignment);
  }
  if (v.vector > 1) {
    out += " .v";
    number(v.vector);
  }
  if (v.opaque) {
    out += " .texref";
  } else {
    out += " .";
    out += nameOf(v.type);
  }
  if (isParameter && v.pointer) {
    out += " .ptr";
    if (v.pointerSpace != StateSpace::Generic) {
      out += " .";
      out += nameOf(v.pointerSpace);
    }
    if (v.pointerAlignment) {
      out += " .align ";
      number(v.pointerAlignment);
    }
  }
}

void extents(std::string &out, const Variable &v) {
  for (size_t i = 0; i < v.extents.size(); ++i)
    out += i == 0 && v.extents[0] == 0 ? "[]" : "[" + std::to_string(v.extents[i]) + "]";
}

std::string_view Printer::name(const Function &function, Symbol symbol) const {
  switch (symbol.kind) {
  case Symbol::None:
    return "?";
  case Symbol::ModuleVariable:
    return module.variables[symbol.index].name;
  case Symbol::LocalVariable:
    return function.variables[symbol.index].name;
  case Symbol::Parameter:
    return function.parameters[symbol.index].name;
  case Symbol::Result:
    return function.results[symbol.index].name;
  case Symbol::Function:
    return module.functions[symbol.index].name;
  case Symbol::Label:
    return function.labels[symbol.index].name;
  case Symbol::BranchTargets:
    return function.branchTargets[symbol.index].name;
  case Symbol::CallTargets:
    return function.callTargets[symbol.index].name;
  case Symbol::CallPrototype:
    return function.callPrototypes[symbol.index].name;
  }
  return "?";
}

void Printer::offset(int64_t value) {
  if (!value)
    return;
  if (value > 0)
    out += '+';
  integer(value);
}

void Printer::initialElement(const Variable &v, uint64_t element, size_t &relocation) {
  unsigned bytes = bytesOf(v.type);
  uint64_t at = element * bytes;
  if (relocation < v.relocations.size() && v.relocations[relocation].offset == at) {
    const Relocation &r = v.relocations[relocation++];
    if (bytes == 1) {
      char mask[24];
      std::snprintf(mask, sizeof mask, "0x%" PRIx64 "(", uint64_t(0xff) << r.shift);
      out += mask;
    }
    if (r.generic)
      out += "generic(";
    out += name(Function(), r.symbol);
    if (r.generic)
      out += ')';
    offset(r.addend);
    if (bytes == 1)
      out += ')';
    return;
  }
  uint64_t bits = 0;
  for (unsigned i = 0; i < std::min(bytes, 8u) && at + i < v.initializer.size(); ++i)
    bits |= uint64_t(v.initializer[at + i]) << (8 * i);
  char text[32];
  if (v.type == Type::F32)
    std::snprintf(text, sizeof text, "0f%08" PRIX64, bits);
  else if (v.type == Type::F64)
    std::snprintf(text, sizeof text, "0d%016" PRIX64, bits);
  else
    std::snprintf(text, sizeof text, "%" PRIu64, bits);
  out += text;
}

void Printer::initialLevel(const Variable &v, size_t level, uint64_t &element, size_t &relocation,
                           uint64_t last) {
  bool isVector = level == v.extents.size();
  uint64_t extent = isVector ? v.vector : v.extents[level];
  bool leaf = isVector || (level + 1 == v.extents.size() && v.vector == 1);
  uint64_t stride = 1;
  if (!leaf) {
    stride = v.vector;
    for (size_t i = level + 1; i < v.extents.size(); ++i)
      stride *= v.extents[i];
  }
  uint64_t end = element + extent * stride;
  out += '{';
  for (uint64_t i = 0; i < extent && element <= last; ++i) {
    if (i)
      out += ", ";
    if (leaf)
      initialElement(v, element++, relocation);
    else
      initialLevel(v, level + 1, element, relocation, last);
  }
  element = end;
  out += '}';
}

void Printer::initializer(const Variable &v) {
  if (v.initializer.empty() && v.relocations.empty())
    return;
  out += " = ";
  unsigned bytes = bytesOf(v.type);
  uint64_t last = v.initializer.empty() ? 0 : (v.initializer.size() - 1) / bytes;
  if (!v.relocations.empty())
    last = std::max(last, v.relocations.back().offset / bytes);
  uint64_t element = 0;
  size_t relocation = 0;
  if (v.extents.empty() && v.vector == 1)
    initialElement(v, 0, relocation);
  else
    initialLevel(v, 0, element, relocation, last);
}

void Printer::variable(const Variable &v, const char *indent) {
  out += indent;
  linkage(v.linkage);
  typeSpec(v, false);
  out += ' ';
  out += v.name;
  extents(out, v);
  initializer(v);
  out += ";\n";
}

void Printer::parameters(const std::vector<Variable> &list) {
  out += '(';
  for (size_t i = 0; i < list.size(); ++i) {
    if (i)
      out += ", ";
    typeSpec(list[i], true);
    out += ' ';
    out += list[i].name.empty() ? "_" : list[i].name;
    extents(out, list[i]);
  }
  out += ')';
}

void Printer::header(const Function &f) {
  linkage(f.linkage);
  out += f.isEntry ? ".entry " : ".func ";
  if (!f.results.empty()) {
    parameters(f.results);
    out += ' ';
  }
  out += f.name;
  parameters(f.parameters);
  auto dimensions = [&](const char *directive, const std::optional<Dim3> &value) {
    if (!value)
      return;
    out += directive;
    number((*value)[0]);
    out += ", ";
    number((*value)[1]);
    out += ", ";
    number((*value)[2]);
  };
  auto count = [&](const char *directive, const std::optional<uint32_t> &value) {
    if (!value)
      return;
    out += directive;
    number(*value);
  };
  dimensions(" .reqntid ", f.reqntid);
  dimensions(" .maxntid ", f.maxntid);
  count(" .minnctapersm ", f.minnctapersm);
  count(" .maxnctapersm ", f.maxnctapersm);
  count(" .maxnreg ", f.maxnreg);
  if (f.explicitcluster)
    out += " .explicitcluster";
  dimensions(" .reqnctapercluster ", f.reqnctapercluster);
  count(" .maxclusterrank ", f.maxclusterrank);
  if (f.blocksareclusters)
    out += " .blocksareclusters";
  if (f.noreturn)
    out += " .noreturn";
  count(" .abi_preserve ", f.abiPreserve);
  count(" .abi_preserve_control ", f.abiPreserveControl);
}

void Printer::list(const Function &f, const std::vector<Operand> &elements) {
  for (size_t i = 0; i < elements.size(); ++i) {
    if (i)
      out += ", ";
    operand(f, elements[i]);
  }
}

void Printer::operand(const Function &f, const Operand &op) {
  static const char *components[] = {"",    ".x",  ".y",  ".z",  ".w", ".b0",
                                     ".b1", ".b2", ".b3", ".h0", ".h1"};
  switch (op.kind) {
  case Operand::Register:
    if (op.negated)
      out += '!';
    out += f.registers[op.index].name;
    out += components[size_t(op.component)];
    break;
  case Operand::Special:
    out += nameOf(op.special);
    if (op.special >= SpecialRegister::Envreg)
      number(op.index);
    if (op.special == SpecialRegister::Pm64)
      out += "_64";
    out += components[size_t(op.component)];
    break;
  case Operand::Immediate: {
    char text[32];
    if (op.immediate == Operand::ImmediateKind::F32)
      std::snprintf(text, sizeof text, "0f%08" PRIX64, op.bits);
    else if (op.immediate == Operand::ImmediateKind::F64)
      std::snprintf(text, sizeof text, "0d%016" PRIX64, op.bits);
    else
      std::snprintf(text, sizeof text, "%" PRId64, int64_t(op.bits));
    // -2^63 as text would be the negation of a number that is unsigned: the same bits.
    out += text;
    break;
  }
  case Operand::Symbol:
    out += name(f, op.symbol);
    offset(op.offset);
    break;
  case Operand::Address:
    out += '[';
    if (op.base == Operand::Base::Register)
      out += f.registers[op.index].name;
    else if (op.base == Operand::Base::Symbol)
      out += name(f, op.symbol);
    if (op.base == Operand::Base::Absolute)
      integer(op.offset);
    else
      offset(op.offset);
    if (!op.elements.empty()) {
      out += ", {";
      list(f, op.elements);
      out += '}';
    }
    out += ']';
    break;
  case Operand::Vector:
    out += '{';
    list(f, op.elements);
    out += '}';
    break;
  case Operand::Pair:
    operand(f, op.elements[0]);
    out += '|';
    operand(f, op.elements[1]);
    break;
  case Operand::Sink:
    out += '_';
    break;
  case Operand::List:
    out += '(';
    list(f, op.elements);
    out += ')';
    break;
  }
}

void Printer::printInstruction(const Function &f, const Instruction &in) {
  if (in.guard.reg >= 0) {
    out += in.guard.negated ? "@!" : "@";
    out += f.registers[size_t(in.guard.reg)].name;
    out += ' ';
  }
  out += nameOf(in.opcode);
  for (const Suffix &suffix : in.suffixes) {
    out += '.';
    switch (suffix.modifier) {
    case Modifier::Type:
      out += nameOf(suffix.type);
      break;
    case Modifier::Space:
      out += nameOf(suffix.space);
      break;
    case Modifier::Shape:
      out += 'm';
      number(in.shape.m);
      out += 'n';
      number(in.shape.n);
      if (in.shape.k) {
        out += 'k';
        number(in.shape.k);
      }
      break;
    default:
      out += nameOf(suffix.modifier);
    }
  }
  const char *separator = " ";
  for (size_t i = 0; i < in.operands.size(); ++i) {
    // An empty list of results of a call is not written.
    if (in.opcode == Opcode::Call && i == 0 && in.operands[0].elements.empty())
      continue;
    out += separator;
    separator = ", ";
    operand(f, in.operands[i]);
  }
  out += ';';
}

void Printer::loc(const Function &f, const SourceLocation &at) {
  auto place = [&](const SourceLocation &l) {
    number(l.file);
    out += ' ';
    number(l.line);
    out += ' ';
    number(l.column);
  };
  out += "\t.loc ";
  place(at);
  if (at.inlinedAt >= 0) {
    out += ", inlined_at ";
    place(f.locations[size_t(at.inlinedAt)]);
  }
  out += '\n';
}

void Printer::definition(const Function &f) {
  header(f);
  out += "\n{\n";
  std::vector<bool> isParameter(f.registers.size());
  for (const std::vector<Variable> *list : {&f.results, &f.parameters})
    for (const Variable &v : *list)
      if (v.reg >= 0)
        isParameter[size_t(v.reg)] = true;
  for (size_t i = 0; i < f.registers.size(); ++i) {
    if (isParameter[i])
      continue;
    const Register &reg = f.registers[i];
    out += "\t.reg ";
    if (reg.vector > 1) {
      out += ".v";
      number(reg.vector);
      out += ' ';
    }
    out += '.';
    out += nameOf(reg.type);
    out += ' ';
    out += reg.name;
    out += ";\n";
  }
  for (const Variable &v : f.variables)
    variable(v, "\t");
  for (const TargetTable &table : f.branchTargets) {
    out += table.name;
    out += ": .branchtargets ";
    for (size_t i = 0; i < table.targets.size(); ++i) {
      out += i ? ", " : "";
      out += f.labels[table.targets[i]].name;
    }
    out += ";\n";
  }
  for (const TargetTable &table : f.callTargets) {
    out += table.name;
    out += ": .calltargets ";
    for (size_t i = 0; i < table.targets.size(); ++i) {
      out += i ? ", " : "";
      out += module.functions[table.targets[i]].name;
    }
    out += ";\n";
  }
  for (const CallPrototype &prototype : f.callPrototypes) {
    out += prototype.name;
    out += ": .callprototype ";
    if (!prototype.results.empty()) {
      parameters(prototype.results);
      out += ' ';
    }
    out += "_ ";
    parameters(prototype.parameters);
    out += prototype.noreturn ? " .noreturn;\n" : ";\n";
  }
  size_t label = 0, pragma = 0, locations = 0;
  int32_t location = -1;
  for (size_t i = 0; i <= f.instructions.size(); ++i) {
    for (; pragma < f.pragmas.size() && f.pragmas[pragma].instruction == i; ++pragma)
      out += "\t.pragma \"" + f.pragmas[pragma].text + "\";\n";
    for (; label < f.labels.size() && f.labels[label].instruction == i; ++label) {
      out += f.labels[label].name;
      out += ":\n";
    }
    if (i == f.instructions.size())
      break;
    const Instruction &in = f.instructions[i];
    // Locations that no instruction has are told too: others may be inlined there.
    for (; int32_t(locations) <= in.location; ++locations) {
      loc(f, f.locations[locations]);
      location = int32_t(locations);
    }
    if (in.location >= 0 && in.location != location) {
      loc(f, f.locations[size_t(in.location)]);
      location = in.location;
    }
    out += '\t';
    printInstruction(f, in);
    out += '\n';
  }
  for (; locations < f.locations.size(); ++locations)
    loc(f, f.locations[locations]);
  out += "}\n";
}

void Printer::printModule() {
  out += ".version ";
  number(module.versionMajor);
  out += '.';
  number(module.versionMinor);
  out += "\n.target sm_";
  number(module.sm);
  if (module.smSuffix)
    out += module.smSuffix;
  for (const std::string &option : module.targetOptions)
    out += ", " + option;
  out += "\n.address_size ";
  number(module.addressSize);
  out += '\n';
  for (const SourceFile &file : module.files) {
    out += ".file ";
    number(file.index);
    out += " \"" + file.name + "\"\n";
  }
  for (const std::string &pragma : module.pragmas)
    out += ".pragma \"" + pragma + "\";\n";
  for (const Function &f : module.functions) {
    header(f);
    out += ";\n";
  }
  for (const Variable &v : module.variables)
    variable(v, "");
  for (const Function &f : module.functions)
    if (!f.isDeclaration)
      definition(f);
  for (const Alias &alias : module.aliases)
    out += ".alias " + module.functions[alias.alias].name + ", " +
           module.functions[alias.aliasee].name + ";\n";
}

} // namespace

std::string sgpu::ptx::print(const Module &module) {
  Printer printer(module);
  printer.printModule();
  return std::move(printer.out);
}

std::string sgpu::ptx::print(const Module &module, const Function &function,
                             const Instruction &instruction) {
  Printer printer(module);
  printer.printInstruction(function, instruction);
  return std::move(printer.out);
}
