//===- ParseVariables.cpp - Types, variables, registers --------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/ParserState.h"

#include <algorithm>
#include <bit>

using namespace sgpu::ptx;

/// An array with an initialiser is held in memory up to its last byte that is not zero.
static constexpr uint64_t maxInitializerBytes = 64 << 20;

static Type typeOfName(std::string_view name) {
  for (unsigned t = 1; t <= unsigned(Type::Pred); ++t)
    if (nameOf(Type(t)) == name)
      return Type(t);
  return Type::None;
}

bool Parser::parseAttribute(TypeSpec &spec) {
  advance();
  if (!expect('('))
    return false;
  do {
    if (acceptDot("managed")) {
      spec.managed = true;
    } else if (acceptDot("unified")) {
      spec.unified = true;
      uint32_t ignored;
      if (!expect('(') || !parseUnsigned(ignored, "an identifier") || !expect(',') ||
          !parseUnsigned(ignored, "an identifier") || !expect(')'))
        return false;
    } else {
      return expected("'.managed' or '.unified'");
    }
  } while (accept(','));
  return expect(')');
}

bool Parser::parseTypeSpec(TypeSpec &spec, bool isParameter) {
  while (token.kind == Token::DotWord) {
    std::string_view word = token.text;
    if (word == "align") {
      advance();
      Token at = token;
      if (!parseUnsigned(spec.alignment, "an alignment"))
        return false;
      if (!std::has_single_bit(spec.alignment))
        return errorAt(at, "expected an alignment that is a power of two");
    } else if (word == "v2" || word == "v4" || word == "v8") {
      spec.vector = uint8_t(word[1] - '0');
      advance();
    } else if (word == "texref" || word == "samplerref" || word == "surfref") {
      spec.opaque = true;
      spec.type = Type::U64;
      advance();
    } else if (word == "attribute") {
      if (!parseAttribute(spec))
        return false;
    } else if (word == "ptr" && isParameter) {
      spec.pointer = true;
      advance();
      static constexpr std::pair<std::string_view, StateSpace> spaces[] = {
          {"global", StateSpace::Global},
          {"const", StateSpace::Const},
          {"shared", StateSpace::Shared},
          {"local", StateSpace::Local}};
      for (auto &[name, space] : spaces)
        if (acceptDot(name))
          spec.pointerSpace = space;
      if (acceptDot("align")) {
        Token at = token;
        if (!parseUnsigned(spec.pointerAlignment, "an alignment"))
          return false;
        if (!std::has_single_bit(spec.pointerAlignment))
          return errorAt(at, "expected an alignment that is a power of two");
      }
    } else if (Type type = typeOfName(word); type != Type::None) {
      if (spec.type != Type::None)
        return error("a second type");
      static constexpr Type allowed[] = {Type::B8,  Type::B16,   Type::B32, Type::B64, Type::B128,
                                         Type::U8,  Type::U16,   Type::U32, Type::U64, Type::S8,
                                         Type::S16, Type::S32,   Type::S64, Type::F16, Type::F32,
                                         Type::F64, Type::F16x2, Type::Pred};
      if (std::find(std::begin(allowed), std::end(allowed), type) == std::end(allowed))
        return error("expected a fundamental type, but got '." + std::string(word) +
                     "'; declare it as .b" + std::to_string(std::max(8u, bitsOf(type))));
      spec.type = type;
      advance();
    } else {
      return error("unknown attribute '." + std::string(word) + "' of a variable");
    }
  }
  if (spec.type == Type::None)
    return expected("a type");
  if (spec.type == Type::Pred && spec.space != StateSpace::Reg)
    return error("expected '.pred' only in '.reg'");
  return true;
}

bool Parser::parseDeclarator(const TypeSpec &spec, Linkage linkage, Variable &variable) {
  if (token.kind != Token::Word)
    return expected("a name");
  variable.name = std::string(token.text);
  variable.line = token.line;
  variable.space = spec.space;
  variable.linkage = linkage;
  variable.type = spec.type;
  variable.opaque = spec.opaque;
  variable.vector = spec.vector;
  variable.managed = spec.managed;
  variable.unified = spec.unified;
  variable.pointer = spec.pointer;
  variable.pointerSpace = spec.pointerSpace;
  variable.pointerAlignment = spec.pointerAlignment;
  variable.alignment =
      spec.alignment ? spec.alignment : std::bit_ceil(spec.vector * bytesOf(spec.type));
  Token name = token;
  advance();
  if (token.is('<'))
    return error("expected a parametrised name only in '.reg'");
  while (accept('[')) {
    uint64_t extent = 0;
    if (!token.is(']')) {
      Token at = token;
      int64_t value;
      if (!parseInteger(value))
        return false;
      if (value < 0)
        return errorAt(at, "expected an array extent that is not negative");
      extent = uint64_t(value);
    } else if (!variable.extents.empty()) {
      return error("expected an extent: only the first may be left out");
    }
    if (!expect(']'))
      return false;
    variable.extents.push_back(extent);
    if (variable.extents.size() > 16)
      return error("expected at most 16 extents");
  }
  uint64_t size = uint64_t(variable.vector) * bytesOf(variable.type);
  for (uint64_t extent : variable.extents)
    if (extent && __builtin_mul_overflow(size, extent, &size))
      return errorAt(name, "the size of '" + variable.name + "' is more than 64 bits can hold");
  if (size > uint64_t(1) << 48)
    return errorAt(name, "expected a variable of at most 2^48 bytes");
  return true;
}

bool Parser::parseInitialElement(Variable &variable, uint64_t element) {
  unsigned bytes = bytesOf(variable.type);
  uint64_t offset = element * bytes;
  Token at = token;
  auto address = [&](bool generic, uint8_t shift) {
    if (token.kind != Token::Word)
      return expected("a variable or a function");
    Relocation relocation;
    relocation.symbol = moduleSymbol(token.text);
    if (relocation.symbol.kind == Symbol::None)
      return error("'" + std::string(token.text) + "' is not declared before this initialiser");
    advance();
    relocation.offset = offset;
    relocation.bytes = uint8_t(bytes);
    relocation.generic = generic;
    relocation.shift = shift;
    if (kindOf(variable.type) == TypeKind::Float || bytes > 8)
      return errorAt(at, "expected an integer type for an address");
    variable.relocations.push_back(relocation);
    return true;
  };
  auto addend = [&] { return parseOffset(variable.relocations.back().addend); };
  if (token.kind == Token::Word && token.text == "generic") {
    advance();
    if (!expect('(') || !address(true, 0) || !expect(')'))
      return false;
    return addend();
  }
  if (token.kind == Token::Word && token.text != "WARP_SZ")
    return address(false, 0) && addend();
  Constant constant;
  if (!parseConstant(constant))
    return false;
  if (constant.kind == Operand::ImmediateKind::Integer && token.is('(')) {
    // `0xff00(symbol)`: one byte of an address.
    if (bytes != 1)
      return errorAt(at, "expected a mask of an address only in an initialiser of bytes");
    unsigned shift = unsigned(std::countr_zero(constant.bits));
    if (constant.bits == 0 || shift % 8 || constant.bits >> shift != 0xff)
      return errorAt(at, "expected a mask of one byte such as 0xff00");
    advance();
    bool generic = token.kind == Token::Word && token.text == "generic";
    if (generic) {
      advance();
      if (!expect('('))
        return false;
    }
    if (!address(generic, uint8_t(shift)))
      return false;
    if (generic && !expect(')'))
      return false;
    return addend() && expect(')');
  }
  Operand operand;
  operand.kind = Operand::Immediate;
  operand.immediate = constant.kind;
  operand.bits = constant.bits;
  if (constant.kind != Operand::ImmediateKind::Integer &&
      (kindOf(variable.type) == TypeKind::Unsigned || kindOf(variable.type) == TypeKind::Signed))
    return errorAt(at, "expected an integer");
  uint64_t bits = immediateAs(operand, variable.type);
  for (unsigned i = 0; i < std::min(bytes, 8u); ++i) {
    uint8_t byte = uint8_t(bits >> (8 * i));
    if (!byte)
      continue;
    if (offset + i >= maxInitializerBytes)
      return errorAt(at, "expected an initialiser of at most 64 MiB");
    if (variable.initializer.size() <= offset + i)
      variable.initializer.resize(offset + i + 1);
    variable.initializer[offset + i] = byte;
  }
  return true;
}

bool Parser::parseInitializerLevel(Variable &variable, size_t level, uint64_t &element) {
  // Elements of one entry of this level.
  uint64_t stride = variable.vector;
  for (size_t i = level + 1; i < variable.extents.size(); ++i)
    stride *= variable.extents[i];
  bool isVector = level == variable.extents.size(); // `{x, y}` of a vector type
  uint64_t extent = isVector ? variable.vector : variable.extents[level];
  if (isVector)
    stride = 1;
  bool open = level == 0 && !isVector && extent == 0; // `x[] = {...}`
  uint64_t first = element, count = 0;
  if (!expect('{'))
    return false;
  while (!token.is('}')) {
    if (!open && count >= extent)
      return error("expected at most " + std::to_string(extent) + " initial values");
    uint64_t at = first + count * stride;
    if (token.is('{')) {
      if (isVector || (level + 1 == variable.extents.size() && variable.vector == 1))
        return error("braces nested deeper than the array");
      if (!parseInitializerLevel(variable, level + 1, at))
        return false;
      ++count;
    } else {
      // Without inner braces the elements follow one another.
      uint64_t total = open ? ~uint64_t(0) : first + extent * stride;
      if (at >= total || !parseInitialElement(variable, at))
        return at >= total ? error("too many initial values") : false;
      if (stride == 1) {
        ++count;
      } else {
        uint64_t next = at + 1;
        for (; token.is(',') && next < at + stride; ++next) {
          advance();
          if (token.is('}') || token.is('{'))
            break;
          if (!parseInitialElement(variable, next))
            return false;
        }
        ++count;
        if (token.is('{'))
          continue;
      }
    }
    if (!accept(','))
      break;
  }
  if (!expect('}'))
    return false;
  if (open)
    variable.extents[0] = count;
  element = first + (open ? count : extent) * stride;
  return true;
}

bool Parser::parseInitializer(Variable &variable) {
  if (variable.space != StateSpace::Global && variable.space != StateSpace::Const)
    return error("expected an initialiser only for '.global' and '.const'");
  if (variable.linkage == Linkage::Extern)
    return error("expected no initialiser for an '.extern' variable");
  if (variable.opaque) { // the fields of a sampler: not kept
    unsigned level = 0;
    do {
      level += token.is('{');
      level -= token.is('}') && level;
      advance();
    } while (level && token.kind != Token::End);
    return true;
  }
  uint64_t element = 0;
  if (token.is('{')) {
    if (variable.extents.empty() && variable.vector == 1) {
      advance();
      return parseInitialElement(variable, 0) && expect('}');
    }
    return parseInitializerLevel(variable, 0, element);
  }
  if (!variable.extents.empty() || variable.vector != 1)
    return expected("'{'");
  return parseInitialElement(variable, 0);
}

/// Puts a variable of the module or the function where it belongs and makes its name known.
bool Parser::finishVariable(Variable &variable, const Token &name) {
  if (function && variable.space != StateSpace::Global && variable.space != StateSpace::Const) {
    ScopeEntry entry;
    entry.kind = ScopeEntry::Variable;
    entry.index = uint32_t(function->variables.size());
    if (!declare(name, entry))
      return false;
    variable.name = uniqueName(name.text);
    function->variables.push_back(std::move(variable));
    return true;
  }
  Symbol symbol{Symbol::ModuleVariable, uint32_t(module.variables.size())};
  auto [it, inserted] = moduleNames.emplace(variable.name, symbol);
  if (!inserted) {
    if (it->second.kind != Symbol::ModuleVariable)
      return errorAt(name, "'" + variable.name + "' is declared twice");
    Variable &earlier = module.variables[it->second.index];
    if (earlier.linkage != Linkage::Extern && variable.linkage != Linkage::Extern)
      return errorAt(name, "'" + variable.name + "' is declared twice");
    if (earlier.type != variable.type || earlier.space != variable.space)
      return errorAt(name, "'" + variable.name + "' was declared with another type or space");
    if (earlier.linkage == Linkage::Extern)
      earlier = std::move(variable);
    return true;
  }
  module.variables.push_back(std::move(variable));
  return true;
}

bool Parser::parseVariables(StateSpace space, Linkage linkage) {
  TypeSpec spec;
  spec.space = space;
  if (!parseTypeSpec(spec, false))
    return false;
  do {
    Token name = token;
    Variable variable;
    if (!parseDeclarator(spec, linkage, variable))
      return false;
    if (accept('=') && !parseInitializer(variable))
      return false;
    if (!finishVariable(variable, name))
      return false;
  } while (accept(','));
  return expect(';');
}

bool Parser::parseRegisters() {
  TypeSpec spec;
  spec.space = StateSpace::Reg;
  if (!parseTypeSpec(spec, false))
    return false;
  do {
    if (token.kind != Token::Word)
      return expected("a register name");
    Token name = token;
    advance();
    if (accept('<')) {
      if (token.kind != Token::Integer) // not an expression: `>` ends it
        return expected("a number of registers");
      scopes[scope].ranges.push_back({name.text, token.bits, spec.type, spec.vector});
      advance();
      if (!expect('>'))
        return false;
      continue;
    }
    ScopeEntry entry;
    entry.type = spec.type;
    entry.vector = spec.vector;
    if (!declare(name, entry))
      return false;
  } while (accept(','));
  return expect(';');
}
