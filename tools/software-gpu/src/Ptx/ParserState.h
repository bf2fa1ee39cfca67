//===- ParserState.h - What the parts of the PTX parser share --------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Recursive descent with one token of lookahead. A statement with an error is skipped up to its
// `;`, so that several errors of a text are told at once. Names: variables, functions and registers
// must be declared before they are used; labels and tables of targets may follow, they are resolved
// when the function ends. Inner scopes are flattened as described in Ast.h.
//
//   Parser.cpp             tokens and errors, names, the module's directives
//   ParseConstants.cpp     constant expressions
//   ParseVariables.cpp     types, variables and their initialisers, registers
//   ParseFunctions.cpp     functions: parameters, directives, bodies, labels
//   ParseInstructions.cpp  instructions: suffixes, operands, calls
//   CheckInstructions.cpp  whether an instruction is one that Opcodes.h knows, with these operands
//===----------------------------------------------------------------------===//
#ifndef SGPU_PTX_PARSERSTATE_H
#define SGPU_PTX_PARSERSTATE_H

#include "Ptx/Lexer.h"
#include "Ptx/Opcodes.h"
#include "Ptx/Parser.h"

#include <deque>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sgpu::ptx {

/// Errors that are told of a text.
constexpr size_t maxErrors = 20;
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
  /// `+ 4 - 8`, or nothing: added to `offset`.
  bool parseOffset(int64_t &offset);

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
  bool parseAttribute(TypeSpec &spec);
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

} // namespace sgpu::ptx

#endif // SGPU_PTX_PARSERSTATE_H
