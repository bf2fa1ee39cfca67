//===- Parser.cpp - PTX text to a module -----------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tokens and errors, names, and what stands outside of functions. ParserState.h says how the parser
// works and where its other parts are.
//===----------------------------------------------------------------------===//
#include "Ptx/ParserState.h"

#include <algorithm>

using namespace sgpu::ptx;

std::string Diagnostic::str() const {
  return "line " + std::to_string(line) + ":" + std::to_string(column) + ": " + message + "\n  " +
         text;
}

//===----------------------------------------------------------------------===//
// Tokens and errors
//===----------------------------------------------------------------------===//

bool Parser::errorAt(const Token &where, std::string message) {
  if (tooManyErrors())
    return false;
  Diagnostic diagnostic;
  const char *at = where.start ? where.start : text.data() + text.size();
  const char *first = at, *begin = text.data(), *last = at, *end = text.data() + text.size();
  while (first > begin && first[-1] != '\n')
    --first;
  while (last < end && *last != '\n' && *last != '\r' && *last)
    ++last;
  diagnostic.line = where.line;
  diagnostic.column = uint32_t(at - first) + 1;
  diagnostic.message = std::move(message);
  diagnostic.text = std::string(first, std::min<size_t>(size_t(last - first), 200));
  // One error for a place: what follows from it is not told.
  if (!diagnostics.empty() && diagnostics.back().line == diagnostic.line &&
      diagnostics.back().column == diagnostic.column)
    return false;
  diagnostics.push_back(std::move(diagnostic));
  return false;
}

bool Parser::expected(std::string_view what) {
  if (token.kind == Token::Bad)
    return false; // told already
  std::string found = token.kind == Token::End       ? "the end of the text"
                      : token.kind == Token::DotWord ? "'." + std::string(token.text) + "'"
                      : token.kind == Token::String  ? "a string"
                                                     : "'" + std::string(token.text) + "'";
  return error("expected " + std::string(what) + ", but got " + found);
}

void Parser::skipStatement() {
  while (token.kind != Token::End && !token.is(';') && !token.is('{') && !token.is('}'))
    advance();
  accept(';');
}

//===----------------------------------------------------------------------===//
// Names
//===----------------------------------------------------------------------===//

std::string Parser::uniqueName(std::string_view name) {
  std::string unique(name);
  for (unsigned i = 1; usedNames.count(unique); ++i)
    unique = std::string(name) + "$" + std::to_string(i);
  usedNames.insert(unique);
  return unique;
}

uint32_t Parser::makeRegister(std::string_view name, ScopeEntry &entry) {
  if (!entry.made) {
    entry.made = true;
    entry.index = uint32_t(function->registers.size());
    function->registers.push_back({uniqueName(name), entry.type, entry.vector});
  }
  return entry.index;
}

ScopeEntry *Parser::findRegisterInRange(std::string_view name, Scope &in) {
  for (const RegisterRange &range : in.ranges) {
    if (name.size() <= range.prefix.size() || !name.starts_with(range.prefix))
      continue;
    std::string_view digits = name.substr(range.prefix.size());
    if (digits.size() > 10 || (digits[0] == '0' && digits.size() > 1))
      continue;
    uint64_t number = 0;
    bool good = true;
    for (char c : digits) {
      good = good && c >= '0' && c <= '9';
      number = number * 10 + uint64_t(c - '0');
    }
    if (!good || number >= range.count)
      continue;
    ScopeEntry entry;
    entry.type = range.type;
    entry.vector = range.vector;
    return &(in.names[name] = entry);
  }
  return nullptr;
}

ScopeEntry *Parser::find(std::string_view name, uint32_t from) {
  for (int32_t at = int32_t(from); at >= 0; at = scopes[size_t(at)].parent) {
    Scope &in = scopes[size_t(at)];
    if (auto it = in.names.find(name); it != in.names.end())
      return &it->second;
    if (ScopeEntry *entry = findRegisterInRange(name, in))
      return entry;
  }
  return nullptr;
}

bool Parser::declare(const Token &name, ScopeEntry entry) {
  Scope &in = scopes[scope];
  if (!in.names.emplace(name.text, entry).second)
    return errorAt(name, "'" + std::string(name.text) + "' is declared twice in this scope");
  return true;
}

Symbol Parser::moduleSymbol(std::string_view name) const {
  auto it = moduleNames.find(std::string(name));
  return it == moduleNames.end() ? Symbol{} : it->second;
}

SpecialRegister Parser::findSpecial(std::string_view name, uint32_t &number) const {
  if (!name.starts_with('%'))
    return SpecialRegister::None;
  static const auto *names = [] { // a program may load modules while it ends
    auto *map = new std::unordered_map<std::string_view, SpecialRegister>;
    for (unsigned i = 1; i < unsigned(SpecialRegister::Envreg); ++i)
      (*map)[nameOf(SpecialRegister(i))] = SpecialRegister(i);
    return map;
  }();
  if (auto it = names->find(name); it != names->end())
    return it->second;
  auto numbered = [&](std::string_view prefix, std::string_view suffix, unsigned count) {
    if (!name.starts_with(prefix) || !name.ends_with(suffix) ||
        name.size() <= prefix.size() + suffix.size())
      return false;
    std::string_view digits =
        name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    number = 0;
    for (char c : digits) {
      if (c < '0' || c > '9' || digits.size() > 2)
        return false;
      number = number * 10 + uint32_t(c - '0');
    }
    return number < count && (digits[0] != '0' || digits.size() == 1);
  };
  if (numbered("%envreg", "", 32))
    return SpecialRegister::Envreg;
  if (numbered("%pm", "_64", 8))
    return SpecialRegister::Pm64;
  if (numbered("%pm", "", 8))
    return SpecialRegister::Pm;
  return SpecialRegister::None;
}

//===----------------------------------------------------------------------===//
// Module level
//===----------------------------------------------------------------------===//

std::optional<Module> Parser::run() {
  if (!token.isDot("version"))
    expected("'.version' at the start of a PTX text");
  while (token.kind != Token::End && !tooManyErrors()) {
    if (accept(';'))
      continue;
    const char *start = token.start;
    if (!parseDirective()) {
      skipStatement();
      // A body that belongs to a wrong header.
      if (token.is('{')) {
        unsigned level = 0;
        do {
          level += token.is('{');
          level -= token.is('}');
          advance();
        } while (level && token.kind != Token::End && !tooManyErrors());
      } else if (token.is('}')) {
        advance();
      }
      if (token.start == start && token.kind != Token::End)
        advance();
    }
  }
  if (diagnostics.size() == before && !hasTarget)
    error("expected a '.target' directive");
  if (diagnostics.size() != before)
    return std::nullopt;
  for (Function &f : module.functions)
    renameShadowing(f);
  return std::move(module);
}

bool Parser::parseDirective() {
  if (token.kind != Token::DotWord)
    return expected("a directive");
  std::string_view word = token.text;
  if (word == "version")
    return parseVersion();
  if (word == "target")
    return parseTarget();
  if (word == "address_size") {
    advance();
    Token at = token;
    if (!parseUnsigned(module.addressSize, "an address size"))
      return false;
    if (module.addressSize != 32 && module.addressSize != 64)
      return errorAt(at, "expected an address size of 32 or 64");
    return true;
  }
  if (word == "file")
    return parseFile();
  if (word == "section")
    return parseSection();
  if (word == "alias")
    return parseAlias();
  if (word == "pragma") {
    std::string pragma;
    if (!parsePragma(pragma))
      return false;
    module.pragmas.push_back(std::move(pragma));
    return true;
  }
  if (word == "loc") // outside a function it says nothing
    return parseLoc();
  if (!hasTarget)
    return error("expected '.target' before '." + std::string(word) + "'");
  Linkage linkage = Linkage::Internal;
  static constexpr std::pair<std::string_view, Linkage> linkages[] = {{"extern", Linkage::Extern},
                                                                      {"visible", Linkage::Visible},
                                                                      {"weak", Linkage::Weak},
                                                                      {"common", Linkage::Common}};
  for (auto &[name, value] : linkages)
    if (word == name) {
      linkage = value;
      advance();
      break;
    }
  if (token.isDot("entry") || token.isDot("func")) {
    bool isEntry = token.text == "entry";
    advance();
    return parseFunction(isEntry, linkage);
  }
  static constexpr std::pair<std::string_view, StateSpace> spaces[] = {
      {"global", StateSpace::Global}, {"const", StateSpace::Const}, {"shared", StateSpace::Shared}};
  for (auto &[name, space] : spaces)
    if (token.isDot(name)) {
      advance();
      return parseVariables(space, linkage);
    }
  if (linkage != Linkage::Internal)
    return expected("'.entry', '.func', '.global', '.const' or '.shared'");
  if (token.isDot("local") || token.isDot("param") || token.isDot("reg"))
    return error("expected '." + std::string(token.text) + "' only inside a function");
  return error("unknown directive '." + std::string(word) + "'");
}

bool Parser::parseVersion() {
  advance();
  Token at = token;
  // `9.0` is one token, a float; its text has the numbers.
  if (token.kind != Token::F64 && token.kind != Token::Integer)
    return expected("a version such as 8.0");
  std::string_view number = token.text;
  size_t dot = number.find('.');
  auto digits = [](std::string_view part, uint32_t &value) {
    value = 0;
    if (part.empty() || part.size() > 3)
      return false;
    for (char c : part) {
      if (c < '0' || c > '9')
        return false;
      value = value * 10 + uint32_t(c - '0');
    }
    return true;
  };
  uint32_t major = 0, minor = 0;
  if (dot == std::string_view::npos || !digits(number.substr(0, dot), major) ||
      !digits(number.substr(dot + 1), minor))
    return expected("a version such as 8.0");
  advance();
  if (hasVersion)
    return errorAt(at, "'.version' is given twice");
  hasVersion = true;
  module.versionMajor = major;
  module.versionMinor = minor;
  if (major < 3 || major > 9)
    return errorAt(at, "expected a PTX version of 3.0 to 9.x, but got " + std::string(number));
  return true;
}

bool Parser::parseTarget() {
  advance();
  if (!hasVersion)
    return error("expected '.version' before '.target'");
  if (hasTarget)
    return error("'.target' is given twice");
  do {
    if (token.kind != Token::Word)
      return expected("a target such as sm_90a");
    std::string_view name = token.text;
    if (!name.starts_with("sm_")) {
      static constexpr std::string_view options[] = {"debug", "texmode_unified",
                                                     "texmode_independent", "map_f64_to_f32"};
      if (std::find(std::begin(options), std::end(options), name) == std::end(options))
        return expected("a target such as sm_90a, or debug, texmode_unified, texmode_independent");
      module.targetOptions.emplace_back(name);
      advance();
      continue;
    }
    uint32_t sm = 0;
    size_t at = 3;
    while (at < name.size() && at < 7 && name[at] >= '0' && name[at] <= '9')
      sm = sm * 10 + uint32_t(name[at++] - '0');
    char suffix = 0;
    if (at < name.size() && (name[at] == 'a' || name[at] == 'f'))
      suffix = name[at++];
    if (at != name.size() || sm == 0)
      return expected("a target such as sm_90a");
    module.sm = sm;
    module.smSuffix = suffix;
    hasTarget = true;
    advance();
  } while (accept(','));
  if (!hasTarget)
    return expected("a target such as sm_90a");
  return true;
}

bool Parser::parseFile() {
  advance();
  SourceFile file;
  if (!parseUnsigned(file.index, "a file number"))
    return false;
  if (token.kind != Token::String)
    return expected("a file name in quotes");
  file.name = std::string(token.text);
  advance();
  for (int i = 0; i < 2 && accept(','); ++i) { // time stamp and size
    int64_t ignored;
    if (!parseInteger(ignored))
      return false;
  }
  module.files.push_back(std::move(file));
  return true;
}

bool Parser::parseSection() {
  advance(); // to the name; the bytes follow in braces
  if (token.kind != Token::DotWord && token.kind != Token::Word)
    return expected("a section name");
  Token at = token;
  if (!lexer.skipBraces())
    return errorAt(at, "expected the section's bytes in braces");
  advance();
  return true;
}

bool Parser::parseAlias() {
  advance();
  uint32_t index[2];
  for (int i = 0; i < 2; ++i) {
    if (token.kind != Token::Word)
      return expected("a function name");
    Symbol symbol = moduleSymbol(token.text);
    if (symbol.kind != Symbol::Function)
      return error("'" + std::string(token.text) + "' is not a function that was declared before");
    index[i] = symbol.index;
    advance();
    if (i == 0 && !expect(','))
      return false;
  }
  module.aliases.push_back({index[0], index[1]});
  return expect(';');
}

bool Parser::parsePragma(std::string &pragma) {
  advance();
  if (token.kind != Token::String)
    return expected("a string in quotes after '.pragma'");
  pragma = std::string(token.text);
  advance();
  while (accept(',')) {
    if (token.kind != Token::String)
      return expected("a string in quotes after '.pragma'");
    pragma += "\", \"" + std::string(token.text);
    advance();
  }
  return expect(';');
}

std::optional<Module> sgpu::ptx::parse(std::string_view text,
                                       std::vector<Diagnostic> &diagnostics) {
  return Parser(text, diagnostics).run();
}
