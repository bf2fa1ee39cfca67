//===- ParseInstructions.cpp - Instructions and operands -------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/ParserState.h"

using namespace sgpu::ptx;

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

bool Parser::parseWordOperand(Operand &operand) {
  Token name = token;
  if (name.text == "WARP_SZ") {
    Constant constant;
    if (!parseConstant(constant))
      return false;
    operand.kind = Operand::Immediate;
    operand.bits = constant.bits;
    return true;
  }
  advance();
  if (name.text == "_") {
    operand.kind = Operand::Sink;
    return true;
  }
  auto component = [&](std::string_view choices) {
    if (token.kind != Token::DotWord)
      return true;
    static constexpr std::pair<std::string_view, Component> components[] = {
        {"x", Component::X},   {"y", Component::Y},   {"z", Component::Z},   {"w", Component::W},
        {"r", Component::X},   {"g", Component::Y},   {"b", Component::Z},   {"a", Component::W},
        {"b0", Component::B0}, {"b1", Component::B1}, {"b2", Component::B2}, {"b3", Component::B3},
        {"h0", Component::H0}, {"h1", Component::H1}};
    for (auto &[text, value] : components)
      if (token.text == text && (text.size() == 2) == (choices == "video")) {
        operand.component = value;
        advance();
        return true;
      }
    return error("unknown component '." + std::string(token.text) + "'");
  };
  if (ScopeEntry *entry = find(name.text, scope)) {
    static constexpr Symbol::Kind kinds[] = {
        Symbol::None,  Symbol::LocalVariable, Symbol::Parameter,   Symbol::Result,
        Symbol::Label, Symbol::BranchTargets, Symbol::CallTargets, Symbol::CallPrototype};
    if (entry->kind == ScopeEntry::Register) {
      operand.kind = Operand::Register;
      operand.index = makeRegister(name.text, *entry);
      return component(entry->vector > 1 ? "vector" : "video");
    }
    operand.kind = Operand::Symbol;
    operand.symbol = {kinds[entry->kind], entry->index};
  } else if (SpecialRegister special = findSpecial(name.text, operand.index);
             special != SpecialRegister::None) {
    operand.kind = Operand::Special;
    operand.special = special;
    bool isVector =
        special == SpecialRegister::Tid || special == SpecialRegister::Ntid ||
        special == SpecialRegister::Ctaid || special == SpecialRegister::Nctaid ||
        special == SpecialRegister::Clusterid || special == SpecialRegister::Nclusterid ||
        special == SpecialRegister::ClusterCtaid || special == SpecialRegister::ClusterNctaid;
    if (isVector != (token.kind == Token::DotWord))
      return error(isVector ? "expected .x, .y or .z after '" + std::string(name.text) + "'"
                            : "'" + std::string(name.text) + "' has no components");
    return component("vector");
  } else if (Symbol symbol = moduleSymbol(name.text); symbol.kind != Symbol::None) {
    operand.kind = Operand::Symbol;
    operand.symbol = symbol;
  } else {
    operand.kind = Operand::Symbol;
    operand.symbol = {Symbol::None, uint32_t(pending.size())};
    pending.push_back({name.text, scope, name});
    return true;
  }
  return parseOffset(operand.offset);
}

bool Parser::parseAddress(Operand &operand) {
  if (!expect('['))
    return false;
  operand.kind = Operand::Address;
  Token at = token;
  if (token.kind == Token::Word && token.text != "WARP_SZ") {
    Operand base;
    if (!parseWordOperand(base))
      return false;
    operand.index = base.index;
    operand.symbol = base.symbol;
    operand.offset = base.offset;
    if (base.kind == Operand::Register) {
      const Register &reg = function->registers[base.index];
      if (base.component != Component::Whole || reg.vector != 1 ||
          kindOf(reg.type) == TypeKind::Float || (bitsOf(reg.type) != 32 && bitsOf(reg.type) != 64))
        return errorAt(at, "expected an address register of 32 or 64 bits");
      operand.base = Operand::Base::Register;
    } else if (base.kind == Operand::Symbol) {
      operand.base = Operand::Base::Symbol;
      if (base.symbol.kind == Symbol::None) {
        pending.pop_back();
        return errorAt(at, "'" + std::string(at.text) + "' is not declared");
      }
      if (base.symbol.kind > Symbol::Function)
        return errorAt(at, "expected a register or a variable");
    } else {
      return errorAt(at, "expected a register or a variable");
    }
    if (!parseOffset(operand.offset))
      return false;
  } else {
    operand.base = Operand::Base::Absolute;
    if (!parseInteger(operand.offset))
      return false;
  }
  if (accept(',')) {
    Operand coordinates;
    if (!parseVector(coordinates))
      return false;
    operand.elements = std::move(coordinates.elements);
  }
  return expect(']');
}

bool Parser::parseVector(Operand &operand) {
  if (!expect('{'))
    return false;
  operand.kind = Operand::Vector;
  do {
    Operand element;
    if (token.kind == Token::Word) {
      if (!parseWordOperand(element))
        return false;
      if (element.kind == Operand::Symbol)
        return element.symbol.kind == Symbol::None
                   ? errorAt(pending.back().token,
                             "'" + std::string(pending.back().name) + "' is not declared")
                   : error("expected registers or constants in a vector");
    } else {
      Constant constant;
      if (!parseConstant(constant))
        return false;
      element.kind = Operand::Immediate;
      element.immediate = constant.kind;
      element.bits = constant.bits;
    }
    operand.elements.push_back(std::move(element));
    if (operand.elements.size() > 256)
      return error("expected at most 256 elements");
  } while (accept(','));
  return expect('}');
}

bool Parser::parseOperand(Operand &operand) {
  if (token.is('['))
    return parseAddress(operand);
  if (token.is('{'))
    return parseVector(operand);
  if (token.is('!')) {
    Token at = token;
    advance();
    if (token.kind != Token::Word)
      return expected("a predicate after '!'");
    if (!parseWordOperand(operand))
      return false;
    if (operand.kind != Operand::Register || function->registers[operand.index].type != Type::Pred)
      return errorAt(at, "expected a predicate after '!'");
    operand.negated = true;
    return true;
  }
  if (token.kind == Token::Word) {
    Operand first;
    if (!parseWordOperand(first))
      return false;
    if (!token.is('|')) {
      operand = std::move(first);
      return true;
    }
    Token at = token;
    advance();
    Operand second;
    if (token.kind != Token::Word)
      return expected("a predicate after '|'");
    if (!parseWordOperand(second))
      return false;
    auto good = [](const Operand &part) {
      return part.kind == Operand::Register || part.kind == Operand::Sink;
    };
    if (!good(first) || !good(second))
      return errorAt(at, "expected two registers around '|'");
    operand.kind = Operand::Pair;
    operand.elements.push_back(std::move(first));
    operand.elements.push_back(std::move(second));
    return true;
  }
  Constant constant;
  if (!parseConstant(constant))
    return false;
  operand.kind = Operand::Immediate;
  operand.immediate = constant.kind;
  operand.bits = constant.bits;
  return true;
}

//===----------------------------------------------------------------------===//
// Instructions
//===----------------------------------------------------------------------===//

bool Parser::parseSuffixes(Instruction &in, std::vector<std::string_view> &words) {
  Token start = token;
  while (token.kind == Token::Word || token.kind == Token::DotWord) {
    if (!words.empty() && token.kind == Token::Word)
      break;
    words.push_back(token.text);
    advance();
    if (words.size() > 32)
      return errorAt(start, "expected at most 32 parts of an instruction name");
  }
  size_t taken = 0;
  in.opcode = findOpcode(words, taken);
  if (in.opcode == Opcode::None)
    return errorAt(start, "unknown opcode '" + std::string(words[0]) + "'");
  for (size_t i = taken; i < words.size();) {
    Suffix suffix;
    size_t used = findSuffix(std::span(words).subspan(i), suffix, in.shape);
    if (used == 0)
      return errorAt(start, "unknown modifier '." + std::string(words[i]) + "' of '" +
                                std::string(nameOf(in.opcode)) + "'");
    in.suffixes.push_back(suffix);
    if (suffix.modifier == Modifier::Type)
      in.types.push_back(suffix.type);
    else if (suffix.modifier == Modifier::Space)
      in.spaces.push_back(suffix.space);
    else if (suffix.modifier == Modifier::V2)
      in.vector = 2;
    else if (suffix.modifier == Modifier::V4)
      in.vector = 4;
    else if (suffix.modifier == Modifier::V8)
      in.vector = 8;
    i += used;
  }
  return true;
}

bool Parser::parseCall(Instruction &in) {
  auto list = [&](Operand &operand) {
    operand.kind = Operand::List;
    if (!expect('('))
      return false;
    if (accept(')'))
      return true;
    do {
      Operand element;
      if (!parseOperand(element))
        return false;
      bool good =
          element.kind == Operand::Register || element.kind == Operand::Immediate ||
          element.kind == Operand::Sink ||
          (element.kind == Operand::Symbol &&
           (element.symbol.kind == Symbol::LocalVariable ||
            element.symbol.kind == Symbol::Parameter || element.symbol.kind == Symbol::Result));
      if (!good)
        return error("expected a .param variable, a register or a constant");
      operand.elements.push_back(std::move(element));
    } while (accept(','));
    return expect(')');
  };
  Operand results, target, arguments;
  results.kind = arguments.kind = Operand::List;
  if (token.is('(') && (!list(results) || !expect(',')))
    return false;
  Token at = token;
  if (token.kind != Token::Word)
    return expected("a function or a register");
  if (!parseWordOperand(target))
    return false;
  bool direct = target.kind == Operand::Symbol && target.symbol.kind == Symbol::Function;
  if (!direct && target.kind != Operand::Register)
    return errorAt(at, "expected a function declared before, or a register");
  if (accept(',')) {
    if (token.is('(')) {
      if (!list(arguments))
        return false;
    } else {
      // `call %r, prototype;` is not PTX; the prototype follows the arguments.
      return expected("'(' and the arguments");
    }
  }
  in.operands.push_back(std::move(results));
  in.operands.push_back(std::move(target));
  in.operands.push_back(std::move(arguments));
  if (accept(',')) {
    Operand prototype;
    if (token.kind != Token::Word)
      return expected("a prototype");
    if (!parseWordOperand(prototype))
      return false;
    if (prototype.kind != Operand::Symbol ||
        (prototype.symbol.kind != Symbol::None && prototype.symbol.kind != Symbol::CallPrototype &&
         prototype.symbol.kind != Symbol::CallTargets))
      return error("expected a .callprototype or .calltargets");
    in.operands.push_back(std::move(prototype));
  } else if (!direct) {
    return error("expected a .callprototype or .calltargets for an indirect call");
  }
  return true;
}

bool Parser::parseInstruction() {
  Instruction in;
  Token start = token;
  if (accept('@')) {
    in.guard.negated = accept('!');
    Token at = token;
    if (token.kind != Token::Word)
      return expected("a predicate");
    Operand guard;
    if (!parseWordOperand(guard))
      return false;
    if (guard.kind != Operand::Register || function->registers[guard.index].type != Type::Pred)
      return errorAt(at, "expected a predicate register, but got '" + std::string(at.text) + "'");
    in.guard.reg = int32_t(guard.index);
    start = token;
  }
  if (token.kind != Token::Word)
    return expected("an instruction");
  Token first = token;
  std::vector<std::string_view> words;
  // A label is a word and a colon.
  if (in.guard.reg < 0) {
    Lexer saved = lexer;
    Token following = lexer.next();
    if (following.is(':')) {
      advance();
      return defineLabel(first);
    }
    lexer = saved;
  }
  in.line = first.line;
  if (!parseSuffixes(in, words))
    return false;
  if (in.opcode == Opcode::Call) {
    if (!parseCall(in))
      return false;
  } else if (!token.is(';')) {
    do {
      Operand operand;
      if (!parseOperand(operand))
        return false;
      if (operand.kind == Operand::Symbol && operand.symbol.kind == Symbol::None &&
          in.opcode != Opcode::Bra && in.opcode != Opcode::BrxIdx)
        return errorAt(pending.back().token,
                       "'" + std::string(pending.back().name) + "' is not declared");
      in.operands.push_back(std::move(operand));
    } while (accept(','));
  }
  if (!token.is(';'))
    return expected("',' or ';'");
  // `ld.b32 {%r1}, [...]` is `ld.b32 %r1, [...]`.
  if (in.vector == 1 && (in.opcode == Opcode::Ld || in.opcode == Opcode::St))
    for (Operand &operand : in.operands)
      if (operand.kind == Operand::Vector && operand.elements.size() == 1)
        operand = Operand(operand.elements[0]);
  if (!checkInstruction(in, start))
    return false;
  advance();
  in.location = location;
  function->instructions.push_back(std::move(in));
  return true;
}
