//===- ParseFunctions.cpp - Functions and their bodies ---------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/ParserState.h"

using namespace sgpu::ptx;

bool Parser::parseParameters(std::vector<Variable> &list, bool isEntry, bool inPrototype,
                             bool results) {
  if (!expect('('))
    return false;
  if (accept(')'))
    return true;
  do {
    TypeSpec spec;
    if (token.isDot("param"))
      spec.space = StateSpace::Param;
    else if (token.isDot("reg") && !isEntry)
      spec.space = StateSpace::Reg;
    else
      return expected(isEntry ? "'.param'" : "'.param' or '.reg'");
    advance();
    if (!parseTypeSpec(spec, true))
      return false;
    Token name = token;
    Variable variable;
    if (!parseDeclarator(spec, Linkage::Internal, variable))
      return false;
    if (name.text == "_") {
      if (!inPrototype)
        return errorAt(name, "expected a name for a parameter");
      variable.name.clear();
    }
    if (!inPrototype) {
      ScopeEntry entry;
      if (spec.space == StateSpace::Reg) {
        entry.type = spec.type;
        entry.vector = spec.vector;
        if (!declare(name, entry))
          return false;
        variable.reg = int32_t(makeRegister(name.text, scopes[scope].names[name.text]));
        variable.name = function->registers[size_t(variable.reg)].name;
      } else {
        entry.kind = results ? ScopeEntry::Result : ScopeEntry::Parameter;
        entry.index = uint32_t(list.size());
        if (!declare(name, entry))
          return false;
        variable.name = uniqueName(name.text);
      }
    }
    list.push_back(std::move(variable));
  } while (accept(','));
  return expect(')');
}

bool Parser::parseFunctionDirective(Function &f) {
  std::string_view word = token.text;
  auto dimensions = [&](std::optional<Dim3> &value) {
    advance();
    Dim3 result{1, 1, 1};
    for (size_t i = 0; i < 3; ++i) {
      Token at = token;
      if (!parseUnsigned(result[i], "an extent"))
        return false;
      if (result[i] == 0)
        return errorAt(at, "expected an extent of at least 1");
      if (!accept(','))
        break;
      if (i == 2)
        return error("expected at most three extents");
    }
    value = result;
    return true;
  };
  auto number = [&](std::optional<uint32_t> &value) {
    advance();
    uint32_t result;
    if (!parseUnsigned(result, "a number"))
      return false;
    value = result;
    return true;
  };
  auto flag = [&](bool &value) {
    advance();
    return value = true;
  };
  bool onlyEntries = true;
  bool good;
  if (word == "reqntid")
    good = dimensions(f.reqntid);
  else if (word == "maxntid")
    good = dimensions(f.maxntid);
  else if (word == "reqnctapercluster")
    good = dimensions(f.reqnctapercluster);
  else if (word == "minnctapersm")
    good = number(f.minnctapersm);
  else if (word == "maxnctapersm")
    good = number(f.maxnctapersm);
  else if (word == "maxnreg")
    good = number(f.maxnreg);
  else if (word == "maxclusterrank")
    good = number(f.maxclusterrank);
  else if (word == "explicitcluster")
    good = flag(f.explicitcluster);
  else if (word == "blocksareclusters")
    good = flag(f.blocksareclusters);
  else {
    onlyEntries = false;
    if (word == "noreturn")
      good = flag(f.noreturn);
    else if (word == "abi_preserve")
      good = number(f.abiPreserve);
    else if (word == "abi_preserve_control")
      good = number(f.abiPreserveControl);
    else if (word == "pragma") {
      std::string pragma;
      good = parsePragma(pragma);
      if (good)
        f.pragmas.push_back({0, std::move(pragma)});
    } else if (word == "attribute") {
      TypeSpec ignored;
      good = parseAttribute(ignored);
    } else
      return error("unknown directive '." + std::string(word) + "' of a function");
  }
  if (good && onlyEntries && !f.isEntry)
    return error("expected '." + std::string(word) + "' only for an '.entry'");
  return good;
}

bool Parser::parseFunction(bool isEntry, Linkage linkage) {
  Function parsed;
  parsed.isEntry = isEntry;
  parsed.linkage = linkage;
  parsed.line = token.line;
  function = &parsed;
  scopes.clear();
  scopes.emplace_back();
  scope = 0;
  usedNames.clear();
  pending.clear();
  location = -1;
  struct Leave {
    Parser &parser;
    ~Leave() { parser.function = nullptr; }
  } leave{*this};

  while (token.isDot("attribute")) {
    TypeSpec ignored;
    if (!parseAttribute(ignored))
      return false;
  }
  if (!isEntry && token.is('(') && !parseParameters(parsed.results, false, false, true))
    return false;
  if (token.kind != Token::Word)
    return expected("a function name");
  Token name = token;
  parsed.name = std::string(token.text);
  advance();
  if (token.is('(') && !parseParameters(parsed.parameters, isEntry, false, false))
    return false;
  while (token.kind == Token::DotWord)
    if (!parseFunctionDirective(parsed))
      return false;
  if (!token.is('{') && !token.is(';'))
    return expected("'{' or ';'");
  parsed.isDeclaration = token.is(';');

  // One entry for all declarations and the definition.
  uint32_t index = uint32_t(module.functions.size());
  auto [it, inserted] = moduleNames.emplace(parsed.name, Symbol{Symbol::Function, index});
  if (!inserted) {
    if (it->second.kind != Symbol::Function)
      return errorAt(name, "'" + parsed.name + "' is declared twice");
    index = it->second.index;
    Function &earlier = module.functions[index];
    if (!parsed.isDeclaration && !earlier.isDeclaration)
      return errorAt(name, "'" + parsed.name + "' is defined twice");
    if (earlier.isEntry != isEntry || earlier.parameters.size() != parsed.parameters.size() ||
        earlier.results.size() != parsed.results.size())
      return errorAt(name, "'" + parsed.name + "' was declared with other parameters");
  } else {
    module.functions.push_back(parsed);
  }
  if (parsed.isDeclaration) {
    advance();
    return true;
  }
  bool good = parseBody();
  module.functions[index] = std::move(parsed);
  return good;
}

bool Parser::parseBody() {
  unsigned level = 0;
  auto leaveScope = [&] {
    --level;
    if (level > 0)
      scope = uint32_t(scopes[scope].parent);
  };
  do {
    if (token.kind == Token::End)
      return expected("'}'");
    if (tooManyErrors())
      return false;
    if (token.is('{')) {
      advance();
      if (++level > maxDepth)
        return error("scopes nested too deeply");
      if (level > 1) {
        scopes.emplace_back();
        scopes.back().parent = int32_t(scope);
        scope = uint32_t(scopes.size() - 1);
      }
    } else if (token.is('}')) {
      advance();
      leaveScope();
    } else if (accept(';')) {
      continue;
    } else {
      const char *start = token.start;
      if (token.kind == Token::DotWord ? parseBodyDirective() : parseInstruction())
        continue;
      // To the end of the statement. A brace that closes belongs to a vector, or ends the scope.
      unsigned inner = 0;
      while (token.kind != Token::End && !token.is(';')) {
        bool closes = token.is('}');
        inner += token.is('{');
        advance();
        if (!closes)
          continue;
        if (inner > 0) {
          --inner;
        } else if (!token.is(',') && !token.is(']') && !token.is(')') && !token.is(';')) {
          leaveScope();
          break;
        }
      }
      accept(';');
      if (token.start == start)
        advance();
    }
  } while (level > 0);
  resolvePending();
  return true;
}

bool Parser::parseBodyDirective() {
  std::string_view word = token.text;
  if (word == "reg") {
    advance();
    return parseRegisters();
  }
  static constexpr std::pair<std::string_view, StateSpace> spaces[] = {
      {"shared", StateSpace::Shared},
      {"local", StateSpace::Local},
      {"param", StateSpace::Param},
      {"global", StateSpace::Global},
      {"const", StateSpace::Const}};
  for (auto &[name, space] : spaces)
    if (word == name) {
      advance();
      return parseVariables(space, Linkage::Internal);
    }
  if (word == "extern") {
    advance();
    if (!acceptDot("shared"))
      return expected("'.shared'");
    return parseVariables(StateSpace::Shared, Linkage::Extern);
  }
  if (word == "loc")
    return parseLoc();
  if (word == "pragma") {
    std::string pragma;
    if (!parsePragma(pragma))
      return false;
    function->pragmas.push_back({uint32_t(function->instructions.size()), std::move(pragma)});
    return true;
  }
  if (word == "file")
    return parseFile();
  if (word == "section")
    return parseSection();
  return error("unknown directive '." + std::string(word) + "' in a function");
}

bool Parser::parseLoc() {
  advance();
  SourceLocation at;
  if (!parseUnsigned(at.file, "a file number") || !parseUnsigned(at.line, "a line number") ||
      !parseUnsigned(at.column, "a column number"))
    return false;
  if (!function)
    return true;
  std::vector<SourceLocation> &all = function->locations;
  auto samePlace = [](const SourceLocation &a, const SourceLocation &b) {
    return a.file == b.file && a.line == b.line && a.column == b.column;
  };
  while (accept(',')) {
    if (token.kind != Token::Word)
      return expected("'function_name' or 'inlined_at'");
    if (token.text == "function_name") {
      advance();
      if (token.kind != Token::Word)
        return expected("a label");
      advance();
      if (accept('+')) {
        int64_t ignored;
        if (!parseInteger(ignored))
          return false;
      }
    } else if (token.text == "inlined_at") {
      advance();
      SourceLocation caller;
      if (!parseUnsigned(caller.file, "a file number") ||
          !parseUnsigned(caller.line, "a line number") ||
          !parseUnsigned(caller.column, "a column number"))
        return false;
      // The latest place that the text named so.
      at.inlinedAt = int32_t(all.size());
      for (size_t i = all.size(); i-- > 0;)
        if (samePlace(all[i], caller)) {
          at.inlinedAt = int32_t(i);
          break;
        }
      if (at.inlinedAt == int32_t(all.size()))
        all.push_back(caller);
    } else {
      return expected("'function_name' or 'inlined_at'");
    }
  }
  for (size_t i = all.size(); i-- > 0;)
    if (all[i] == at) {
      location = int32_t(i);
      return true;
    }
  location = int32_t(all.size());
  all.push_back(at);
  return true;
}

bool Parser::parsePrototype(std::string_view name) {
  advance();
  CallPrototype prototype;
  if (token.is('(') && !parseParameters(prototype.results, false, true, true))
    return false;
  if (token.kind != Token::Word)
    return expected("'_'");
  advance();
  if (token.is('(') && !parseParameters(prototype.parameters, false, true, false))
    return false;
  while (token.kind == Token::DotWord) {
    if (token.text == "noreturn") {
      prototype.noreturn = true;
      advance();
    } else if (token.text == "abi_preserve" || token.text == "abi_preserve_control") {
      advance();
      uint32_t ignored;
      if (!parseUnsigned(ignored, "a number"))
        return false;
    } else {
      return expected("'.noreturn' or ';'");
    }
  }
  prototype.name = uniqueName(name);
  for (std::vector<Variable> *list : {&prototype.results, &prototype.parameters})
    for (Variable &variable : *list)
      variable.name.clear();
  function->callPrototypes.push_back(std::move(prototype));
  return expect(';');
}

bool Parser::parseTargets(std::string_view name, bool branch) {
  advance();
  TargetTable table;
  do {
    if (token.kind != Token::Word)
      return expected(branch ? "a label" : "a function");
    if (branch) {
      pending.push_back({token.text, scope, token});
      table.targets.push_back(uint32_t(pending.size() - 1)); // until resolvePending
    } else {
      Symbol symbol = moduleSymbol(token.text);
      if (symbol.kind != Symbol::Function)
        return error("'" + std::string(token.text) + "' is not a function declared before");
      table.targets.push_back(symbol.index);
    }
    advance();
  } while (accept(','));
  table.name = uniqueName(name);
  (branch ? function->branchTargets : function->callTargets).push_back(std::move(table));
  return expect(';');
}

bool Parser::defineLabel(const Token &name) {
  ScopeEntry entry;
  if (token.isDot("callprototype") || token.isDot("branchtargets") || token.isDot("calltargets")) {
    bool prototype = token.text == "callprototype", branch = token.text == "branchtargets";
    entry.kind = prototype ? ScopeEntry::CallPrototype
                 : branch  ? ScopeEntry::BranchTargets
                           : ScopeEntry::CallTargets;
    entry.index = uint32_t(prototype ? function->callPrototypes.size()
                           : branch  ? function->branchTargets.size()
                                     : function->callTargets.size());
    return declare(name, entry) &&
           (prototype ? parsePrototype(name.text) : parseTargets(name.text, branch));
  }
  entry.kind = ScopeEntry::Label;
  entry.index = uint32_t(function->labels.size());
  if (!declare(name, entry))
    return false;
  function->labels.push_back({uniqueName(name.text), uint32_t(function->instructions.size())});
  return true;
}

void Parser::resolvePending() {
  std::vector<Symbol> resolved(pending.size());
  for (size_t i = 0; i < pending.size(); ++i) {
    ScopeEntry *entry = find(pending[i].name, pending[i].scope);
    static constexpr std::pair<ScopeEntry::Kind, Symbol::Kind> kinds[] = {
        {ScopeEntry::Label, Symbol::Label},
        {ScopeEntry::BranchTargets, Symbol::BranchTargets},
        {ScopeEntry::CallTargets, Symbol::CallTargets},
        {ScopeEntry::CallPrototype, Symbol::CallPrototype}};
    if (entry)
      for (auto &[from, to] : kinds)
        if (entry->kind == from)
          resolved[i] = {to, entry->index};
    if (resolved[i].kind == Symbol::None)
      errorAt(pending[i].token, "'" + std::string(pending[i].name) + "' is not declared");
  }
  for (TargetTable &table : function->branchTargets)
    for (uint32_t &target : table.targets) {
      if (resolved[target].kind != Symbol::Label && resolved[target].kind != Symbol::None)
        errorAt(pending[target].token,
                "'" + std::string(pending[target].name) + "' is not a label");
      target = resolved[target].index;
    }
  for (Instruction &in : function->instructions)
    for (size_t i = 0; i < in.operands.size(); ++i) {
      Operand &operand = in.operands[i];
      if (operand.kind != Operand::Symbol || operand.symbol.kind != Symbol::None)
        continue;
      const Pending &name = pending[operand.symbol.index];
      operand.symbol = resolved[operand.symbol.index];
      if (operand.symbol.kind == Symbol::None)
        continue;
      bool good = in.opcode == Opcode::Bra      ? operand.symbol.kind == Symbol::Label
                  : in.opcode == Opcode::BrxIdx ? operand.symbol.kind == Symbol::BranchTargets
                                                : i == 3 && operand.symbol.kind != Symbol::Label &&
                                                      operand.symbol.kind != Symbol::BranchTargets;
      if (!good)
        errorAt(name.token, "'" + std::string(name.name) + "' cannot stand here: expected " +
                                (in.opcode == Opcode::Bra      ? "a label"
                                 : in.opcode == Opcode::BrxIdx ? "a table of .branchtargets"
                                                               : "a .callprototype"));
    }
}

/// Gives names of a function that module-level names hide a suffix, so that the flattened text
/// means the same.
void Parser::renameShadowing(Function &f) {
  usedNames.clear();
  auto every = [&](auto visit) {
    for (Register &reg : f.registers)
      visit(reg.name);
    for (std::vector<Variable> *list : {&f.results, &f.parameters})
      for (Variable &variable : *list)
        if (variable.reg < 0)
          visit(variable.name);
    for (Variable &variable : f.variables)
      visit(variable.name);
    for (Label &label : f.labels)
      visit(label.name);
    for (std::vector<TargetTable> *list : {&f.branchTargets, &f.callTargets})
      for (TargetTable &table : *list)
        visit(table.name);
    for (CallPrototype &prototype : f.callPrototypes)
      visit(prototype.name);
  };
  bool any = false;
  every([&](std::string &name) {
    usedNames.insert(name);
    any |= moduleNames.count(name) != 0;
  });
  if (any) {
    for (auto &[name, symbol] : moduleNames)
      usedNames.insert(name);
    every([&](std::string &name) {
      if (moduleNames.count(name))
        name = uniqueName(name);
    });
  }
  for (std::vector<Variable> *list : {&f.results, &f.parameters})
    for (Variable &variable : *list)
      if (variable.reg >= 0)
        variable.name = f.registers[size_t(variable.reg)].name;
}
