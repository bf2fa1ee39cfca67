//===- Parser.cpp - PTX text to a module ------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recursive descent with one token of lookahead. A statement with an error is skipped up to its `;`,
// so that several errors of a text are told at once. Names: variables, functions and registers must be
// declared before they are used; labels and tables of targets may follow, they are resolved when the
// function ends. Inner scopes are flattened as described in Ast.h.
//===----------------------------------------------------------------------===//
#include "Ptx/Parser.h"
#include "Ptx/Lexer.h"
#include "Ptx/Opcodes.h"

#include <algorithm>
#include <bit>
#include <deque>
#include <map>
#include <set>
#include <unordered_map>

using namespace sgpu::ptx;

std::string Diagnostic::str() const {
  return "line " + std::to_string(line) + ":" + std::to_string(column) + ": " + message + "\n  " +
         text;
}

namespace {

constexpr size_t maxErrors = 20;
/// An array with an initialiser is held in memory up to its last byte that is not zero.
constexpr uint64_t maxInitializerBytes = 64 << 20;
/// Nested braces and parentheses deeper than this are refused.
constexpr unsigned maxDepth = 100;

/// The value of a constant expression: an integer, or one float literal.
struct Constant {
  Operand::ImmediateKind kind = Operand::ImmediateKind::Integer;
  uint64_t bits = 0;
  bool isUnsigned = false;
};

struct ScopeEntry {
  enum Kind : uint8_t {
    Register,
    Variable,
    Parameter,
    Result,
    Label,
    BranchTargets,
    CallTargets,
    CallPrototype
  };
  Kind kind = Register;
  uint32_t index = 0;
  /// Registers: made when first used.
  bool made = false;
  Type type = Type::None;
  uint8_t vector = 1;
};

/// `.reg .b32 %r<10>`
struct RegisterRange {
  std::string_view prefix;
  uint64_t count;
  Type type;
  uint8_t vector;
};

struct Scope {
  int32_t parent = -1;
  std::unordered_map<std::string_view, ScopeEntry> names;
  std::vector<RegisterRange> ranges;
};

/// A name that was used before it was declared, if it ever is.
struct Pending {
  std::string_view name;
  uint32_t scope;
  Token token;
};

class Parser {
public:
  Parser(std::string_view text, std::vector<Diagnostic> &diagnostics)
      : text(text), lexer(text), diagnostics(diagnostics), before(diagnostics.size()) {
    advance(); // which may be an error already
  }
  std::optional<Module> run();

private:
  // Tokens and errors.
  void advance() {
    token = lexer.next();
    if (token.kind == Token::Bad)
      error(lexer.error);
  }
  bool error(std::string message) { return errorAt(token, std::move(message)); }
  bool errorAt(const Token &where, std::string message);
  bool expected(std::string_view what);
  bool accept(char punct) {
    if (!token.is(punct))
      return false;
    advance();
    return true;
  }
  bool expect(char punct) {
    if (accept(punct))
      return true;
    return expected(std::string("'") + punct + "'");
  }
  bool acceptDot(std::string_view word) {
    if (!token.isDot(word))
      return false;
    advance();
    return true;
  }
  void skipStatement();
  bool tooManyErrors() const { return diagnostics.size() >= maxErrors; }

  // Constants.
  bool parseConstant(Constant &result, int minimumPrecedence = 0);
  bool parseUnary(Constant &result);
  bool parseUnsigned(uint32_t &value, std::string_view what);
  bool parseInteger(int64_t &value);

  // Module level.
  bool parseDirective();
  bool parseVersion();
  bool parseTarget();
  bool parseFile();
  bool parseAlias();
  bool parseSection();
  bool parsePragma(std::string &text);

  // Variables.
  struct TypeSpec {
    StateSpace space;
    Type type = Type::None;
    uint8_t vector = 1;
    uint32_t alignment = 0;
    bool opaque = false, managed = false, unified = false, pointer = false;
    StateSpace pointerSpace = StateSpace::Generic;
    uint32_t pointerAlignment = 0;
  };
  bool parseTypeSpec(TypeSpec &spec, bool isParameter);
  bool parseDeclarator(const TypeSpec &spec, Linkage linkage, Variable &variable);
  bool parseInitializer(Variable &variable);
  bool parseInitializerLevel(Variable &variable, size_t level, uint64_t &element);
  bool parseInitialElement(Variable &variable, uint64_t element);
  bool parseVariables(StateSpace space, Linkage linkage);
  bool parseRegisters();
  bool finishVariable(Variable &variable, const Token &name);

  // Functions.
  bool parseFunction(bool isEntry, Linkage linkage);
  bool parseParameters(std::vector<Variable> &list, bool isEntry, bool inPrototype, bool results);
  bool parseFunctionDirective(Function &f);
  bool parseBody();
  bool parseBodyDirective();
  bool parseLoc();
  bool parsePrototype(std::string_view name);
  bool parseTargets(std::string_view name, bool branch);
  bool defineLabel(const Token &name);
  void resolvePending();
  void renameShadowing(Function &f);

  // Instructions.
  bool parseInstruction();
  bool parseSuffixes(Instruction &in, std::vector<std::string_view> &words);
  bool parseOperand(Operand &operand);
  bool parseWordOperand(Operand &operand);
  bool parseAddress(Operand &operand);
  bool parseVector(Operand &operand);
  bool parseCall(Instruction &in);
  bool checkInstruction(Instruction &in, const Token &start);
  std::string operandMismatch(const Form &form, const Instruction &in) const;
  std::string checkOperand(const OperandPattern &pattern, const Operand &operand,
                           const Instruction &in) const;
  std::string checkRegister(const Operand &operand, Type type, bool wide) const;
  std::string checkVersion(const Form &form) const;
  std::string checkCall(const Instruction &in) const;

  // Names.
  ScopeEntry *find(std::string_view name, uint32_t from);
  ScopeEntry *findRegisterInRange(std::string_view name, Scope &scope);
  uint32_t makeRegister(std::string_view name, ScopeEntry &entry);
  bool declare(const Token &name, ScopeEntry entry);
  std::string uniqueName(std::string_view name);
  SpecialRegister findSpecial(std::string_view name, uint32_t &number) const;
  Symbol moduleSymbol(std::string_view name) const;

  std::string_view text;
  Lexer lexer;
  Token token;
  std::vector<Diagnostic> &diagnostics;
  const size_t before; ///< errors of others
  unsigned depth = 0;

  Module module;
  bool hasVersion = false, hasTarget = false;
  std::unordered_map<std::string, Symbol> moduleNames;

  // Of the function that is parsed.
  Function *function = nullptr;
  std::deque<Scope> scopes;
  uint32_t scope = 0;
  std::set<std::string, std::less<>> usedNames;
  std::vector<Pending> pending;
  int32_t location = -1;
};

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
// Constants
//===----------------------------------------------------------------------===//

int precedenceOf(std::string_view op) {
  static constexpr std::pair<std::string_view, int> table[] = {
      {"?", 1},  {"||", 2}, {"&&", 3}, {"|", 4},  {"^", 5},  {"&", 6},  {"==", 7},
      {"!=", 7}, {"<", 8},  {"<=", 8}, {">", 8},  {">=", 8}, {"<<", 9}, {">>", 9},
      {"+", 10}, {"-", 10}, {"*", 11}, {"/", 11}, {"%", 11}};
  for (auto &[text, precedence] : table)
    if (text == op)
      return precedence;
  return -1;
}

bool Parser::parseUnary(Constant &result) {
  if (++depth > maxDepth)
    return error("expression nested too deeply");
  struct Leave {
    unsigned &depth;
    ~Leave() { --depth; }
  } leave{depth};
  using Kind = Operand::ImmediateKind;
  if (token.kind == Token::Integer || token.kind == Token::F32 || token.kind == Token::F64) {
    result.kind = token.kind == Token::Integer ? Kind::Integer
                  : token.kind == Token::F32   ? Kind::F32
                                               : Kind::F64;
    result.bits = token.bits;
    result.isUnsigned = token.isUnsigned;
    advance();
    return true;
  }
  if (token.kind == Token::Word && token.text == "WARP_SZ") {
    result = {Kind::Integer, 32, false};
    advance();
    return true;
  }
  if (token.is('(')) {
    advance();
    if (token.isDot("s64") || token.isDot("u64")) { // a cast
      bool isUnsigned = token.text == "u64";
      advance();
      if (!expect(')') || !parseUnary(result))
        return false;
      if (result.kind != Kind::Integer)
        return error("expected an integer after a cast");
      result.isUnsigned = isUnsigned;
      return true;
    }
    return parseConstant(result) && expect(')');
  }
  for (char op : {'-', '+', '~', '!'}) {
    if (!token.is(op))
      continue;
    Token at = token;
    advance();
    if (!parseUnary(result))
      return false;
    if (result.kind != Kind::Integer) {
      if (op == '-')
        result.bits ^= result.kind == Kind::F32 ? uint64_t(1) << 31 : uint64_t(1) << 63;
      else if (op != '+')
        return errorAt(at, "expected an integer after this operator");
      return true;
    }
    if (op == '-')
      result.bits = -result.bits;
    else if (op == '~')
      result.bits = ~result.bits;
    else if (op == '!')
      result = {Kind::Integer, result.bits == 0, false};
    return true;
  }
  return expected("a constant");
}

bool Parser::parseConstant(Constant &result, int minimumPrecedence) {
  if (!parseUnary(result))
    return false;
  using Kind = Operand::ImmediateKind;
  while (token.kind == Token::Punct) {
    std::string_view op = token.text;
    int precedence = precedenceOf(op);
    if (precedence < 0 || precedence < minimumPrecedence)
      break;
    if (result.kind != Kind::Integer)
      return error("expected no operator after a floating-point constant");
    Token at = token;
    advance();
    if (op == "?") {
      Constant yes, no;
      if (!parseConstant(yes, 1) || !expect(':') || !parseConstant(no, 1))
        return false;
      if (yes.kind != Kind::Integer || no.kind != Kind::Integer)
        return errorAt(at, "expected integers in a constant expression");
      bool isUnsigned = yes.isUnsigned || no.isUnsigned;
      result = result.bits ? yes : no;
      result.isUnsigned = isUnsigned;
      continue;
    }
    Constant right;
    if (!parseConstant(right, precedence + 1))
      return false;
    if (right.kind != Kind::Integer)
      return errorAt(at, "expected integers in a constant expression");
    uint64_t a = result.bits, b = right.bits;
    bool isUnsigned = result.isUnsigned || right.isUnsigned;
    auto less = [&] { return isUnsigned ? a < b : int64_t(a) < int64_t(b); };
    bool isComparison = false;
    if (op == "+")
      a += b;
    else if (op == "-")
      a -= b;
    else if (op == "*")
      a *= b;
    else if (op == "/" || op == "%") {
      if (b == 0)
        return errorAt(at, "division by zero in a constant expression");
      bool quotient = op == "/";
      if (isUnsigned)
        a = quotient ? a / b : a % b;
      else if (b == ~uint64_t(0))
        a = quotient ? -a : 0;
      else
        a = uint64_t(quotient ? int64_t(a) / int64_t(b) : int64_t(a) % int64_t(b));
    } else if (op == "&")
      a &= b;
    else if (op == "|")
      a |= b;
    else if (op == "^")
      a ^= b;
    else if (op == "<<") {
      a = b > 63 ? 0 : a << b;
      isUnsigned = result.isUnsigned;
    } else if (op == ">>") {
      isUnsigned = result.isUnsigned;
      unsigned amount = unsigned(std::min<uint64_t>(b, 63));
      a = isUnsigned ? (b > 63 ? 0 : a >> amount) : uint64_t(int64_t(a) >> amount);
    } else {
      isComparison = true;
      bool value = op == "&&"   ? a && b
                   : op == "||" ? a || b
                   : op == "==" ? a == b
                   : op == "!=" ? a != b
                   : op == "<"  ? less()
                   : op == ">=" ? !less()
                   : op == ">"  ? !less() && a != b
                                : less() || a == b;
      a = value;
    }
    result = {Kind::Integer, a, !isComparison && isUnsigned};
  }
  return true;
}

bool Parser::parseInteger(int64_t &value) {
  Token at = token;
  Constant constant;
  if (!parseConstant(constant))
    return false;
  if (constant.kind != Operand::ImmediateKind::Integer)
    return errorAt(at, "expected an integer");
  value = int64_t(constant.bits);
  return true;
}

bool Parser::parseUnsigned(uint32_t &value, std::string_view what) {
  Token at = token;
  int64_t wide;
  if (!parseInteger(wide))
    return false;
  if (wide < 0 || wide > int64_t(UINT32_MAX))
    return errorAt(at, "expected " + std::string(what) + " of 0 to 4294967295");
  value = uint32_t(wide);
  return true;
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

//===----------------------------------------------------------------------===//
// Variables
//===----------------------------------------------------------------------===//

Type typeOfName(std::string_view name) {
  for (unsigned t = 1; t <= unsigned(Type::Pred); ++t)
    if (nameOf(Type(t)) == name)
      return Type(t);
  return Type::None;
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
      if (!expect(')'))
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
  auto addend = [&] {
    while (token.is('+') || token.is('-')) {
      int64_t value;
      Constant constant;
      bool minus = token.is('-');
      advance();
      if (!parseConstant(constant, 11))
        return false;
      if (constant.kind != Operand::ImmediateKind::Integer)
        return error("expected an integer");
      value = int64_t(minus ? -constant.bits : constant.bits);
      Relocation &relocation = variable.relocations.back();
      relocation.addend = int64_t(uint64_t(relocation.addend) + uint64_t(value));
    }
    return true;
  };
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

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

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
      ignored.space = StateSpace::Global;
      ignored.type = Type::U64;
      good = parseTypeSpec(ignored, false);
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
    ignored.space = StateSpace::Global;
    ignored.type = Type::U64;
    if (!parseTypeSpec(ignored, false))
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

/// Gives names of a function that module-level names hide a suffix, so that the flattened text means
/// the same.
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
  while (token.is('+') || token.is('-')) {
    bool minus = token.is('-');
    advance();
    Constant constant;
    if (!parseConstant(constant, 11))
      return false;
    if (constant.kind != Operand::ImmediateKind::Integer)
      return error("expected an integer offset");
    operand.offset = int64_t(uint64_t(operand.offset) + (minus ? -constant.bits : constant.bits));
  }
  return true;
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
    while (token.is('+') || token.is('-')) {
      bool minus = token.is('-');
      advance();
      Constant constant;
      if (!parseConstant(constant, 11))
        return false;
      if (constant.kind != Operand::ImmediateKind::Integer)
        return error("expected an integer offset");
      operand.offset = int64_t(uint64_t(operand.offset) + (minus ? -constant.bits : constant.bits));
    }
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

std::string typeText(Type type) { return "." + std::string(nameOf(type)); }

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

bool isVideo(Opcode opcode) {
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

} // namespace

std::optional<Module> sgpu::ptx::parse(std::string_view text,
                                       std::vector<Diagnostic> &diagnostics) {
  return Parser(text, diagnostics).run();
}
