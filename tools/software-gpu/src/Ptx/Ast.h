//===- Ast.h - A PTX module as plain data -----------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the parser makes of PTX text and what the machine decodes. Plain data: no pointers into the
// text, names are resolved to indices, nested scopes are flattened (a register, variable or label of
// an inner scope whose name is taken in its function gets a new name, `%r1$1`). Two modules are equal
// if they mean the same text up to comments, layout and PTX line numbers: `parse(print(m)) == m`.
//
// The vocabulary lies in .def files beside this one: Types.def, Opcodes.def, Modifiers.def,
// SpecialRegisters.def. Source of the language: PTX ISA 9.0.
//
//===----------------------------------------------------------------------===//
#ifndef SGPU_PTX_AST_H
#define SGPU_PTX_AST_H

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sgpu::ptx {

//===----------------------------------------------------------------------===//
// Vocabulary
//===----------------------------------------------------------------------===//

enum class Type : uint8_t {
  None,
#define TYPE(enumerator, text, bits, kind) enumerator,
#include "Types.def"
};

enum class TypeKind : uint8_t { None, Bits, Unsigned, Signed, Float, Predicate };

/// Bits of one value, all elements of a packed type together; 1 for pred, 0 for None.
unsigned bitsOf(Type type);
/// Bytes that a value takes in memory: bits / 8, at least 1.
unsigned bytesOf(Type type);
TypeKind kindOf(Type type);
/// The suffix without the dot: "f32".
std::string_view nameOf(Type type);

enum class Opcode : uint8_t {
  None,
#define OPCODE(enumerator, text) enumerator,
#include "Opcodes.def"
};
/// The dotted name: "cp.async.bulk".
std::string_view nameOf(Opcode opcode);

enum class Modifier : uint16_t {
  Type,  ///< The suffix is a type: see Suffix::type.
  Space, ///< The suffix is a state space: see Suffix::space.
  Shape, ///< The suffix is a matrix shape: the numbers are in Instruction::shape.
#define MODIFIER(enumerator, text) enumerator,
#include "Modifiers.def"
};
/// The text without the dot; empty for Type, Space and Shape.
std::string_view nameOf(Modifier modifier);

enum class StateSpace : uint8_t {
  Generic, ///< No space written: a generic address.
  Reg,
  Const,
  Global,
  Local,
  Param,         ///< .param: of the entry, of the function, or of a call in the body.
  ParamEntry,    ///< .param::entry
  ParamFunc,     ///< .param::func
  Shared,        ///< .shared, which means .shared::cta
  SharedCta,     ///< .shared::cta
  SharedCluster, ///< .shared::cluster
  Tex,           ///< .tex (deprecated)
};
/// The text without the dot: "shared::cta"; empty for Generic.
std::string_view nameOf(StateSpace space);

enum class SpecialRegister : uint8_t {
  None,
#define SPECIAL(enumerator, text, bits) enumerator,
#include "SpecialRegisters.def"
  Envreg, ///< %envreg<N>, N in Operand::index
  Pm,     ///< %pm<N>
  Pm64,   ///< %pm<N>_64
};
/// With the per cent sign: "%tid".
std::string_view nameOf(SpecialRegister special);
/// Bits of the register: 32, 64 or 1 (predicate).
unsigned bitsOf(SpecialRegister special);

//===----------------------------------------------------------------------===//
// Symbols and variables
//===----------------------------------------------------------------------===//

/// What a name stands for.
struct Symbol {
  enum Kind : uint8_t {
    None,
    ModuleVariable, ///< Module::variables[index]
    LocalVariable,  ///< Function::variables[index]
    Parameter,      ///< Function::parameters[index]
    Result,         ///< Function::results[index]: the `(.param .b32 r)` before a function's name
    Function,       ///< Module::functions[index]
    Label,          ///< Function::labels[index]
    BranchTargets,  ///< Function::branchTargets[index]: the table of brx.idx
    CallTargets,    ///< Function::callTargets[index]
    CallPrototype,  ///< Function::callPrototypes[index]
  };
  Kind kind = None;
  uint32_t index = 0;
  bool operator==(const Symbol &) const = default;
};

/// One place of an initialiser that holds an address. The bytes there are zero (or beyond the end)
/// in Variable::initializer.
struct Relocation {
  uint64_t offset = 0;  ///< Bytes from the start of the variable.
  uint8_t bytes = 8;    ///< Size of the place: 1, 2, 4 or 8.
  Symbol symbol;        ///< A module variable or a function.
  int64_t addend = 0;   ///< Bytes added to the address.
  bool generic = false; ///< `generic(symbol)`: its generic address, else the one in its own space.
  uint8_t shift = 0; ///< `0xff00(symbol)`: bits by which the address is shifted right; 0 without.
  bool operator==(const Relocation &) const = default;
};

enum class Linkage : uint8_t { Internal, Extern, Visible, Weak, Common };

/// A variable, or a parameter or result of a function or prototype.
struct Variable {
  std::string name; ///< Empty only in prototypes (`_`).
  StateSpace space = StateSpace::Global;
  Linkage linkage = Linkage::Internal;
  Type type = Type::None; ///< Of one element.
  /// .texref, .samplerref or .surfref: an opaque handle of 8 bytes; `type` is U64.
  bool opaque = false;
  uint8_t vector = 1; ///< 1, or 2, 4, 8 for .v2, .v4, .v8.
  /// Bytes; as written by .align, else the natural one: vector * bytesOf(type).
  uint32_t alignment = 0;
  /// Extents of an array, outermost first; empty for a scalar. The first is 0 for `x[]` (extern
  /// dynamic shared memory, or an array that takes its size from its initialiser: then it is set).
  std::vector<uint64_t> extents;
  /// The first bytes; the rest of the variable, or all of it where this is empty, starts as zero
  /// (.global and .const; other spaces start undefined). Never ends with a zero byte.
  std::vector<uint8_t> initializer;
  std::vector<Relocation> relocations; ///< In order of offset.
  /// Parameters of entries: `.ptr .space .align N`: what the pointer promises.
  bool pointer = false;
  StateSpace pointerSpace = StateSpace::Generic;
  uint32_t pointerAlignment = 0; ///< Bytes; 0 if not promised.
  /// .reg parameters of a function: the register of Function::registers that holds it, else -1.
  int32_t reg = -1;
  bool managed = false; ///< .attribute(.managed)
  bool unified = false; ///< .attribute(.unified(...))
  uint32_t line = 0;    ///< Of the PTX text, from 1; not part of equality.

  /// Elements of all extents together (1 for a scalar, 0 for `x[]`) * vector * bytesOf(type).
  uint64_t byteSize() const;
  bool operator==(const Variable &) const;
};

//===----------------------------------------------------------------------===//
// Instructions
//===----------------------------------------------------------------------===//

/// A register of a function; only those that occur in its text have an entry.
struct Register {
  std::string name;       ///< With the per cent sign, if it was written so.
  Type type = Type::None; ///< As declared: B32, F32, Pred ...
  uint8_t vector = 1;     ///< 2 or 4 for `.reg .v4 .f32 %v`: then components .x .y .z .w exist.
  bool operator==(const Register &) const = default;
};

/// Part of a register that an operand names.
enum class Component : uint8_t { Whole, X, Y, Z, W, B0, B1, B2, B3, H0, H1 };

struct Operand {
  enum Kind : uint8_t {
    Register,  ///< `%r1`, `%v.x`, `!%p1`: index into Function::registers, `component`, `negated`
    Special,   ///< `%tid.x`: `special`, `component`; `index` is N of %envregN
    Immediate, ///< `bits`, `immediate`
    Symbol,    ///< `x`, `x+4`, a label, a function: `symbol`, `offset`
    Address,   ///< `[base+offset]`: `base` says what; `elements` holds tensor coordinates `{x, y}`
    Vector,    ///< `{a, b}`: `elements`
    Pair,      ///< `p|q`: two `elements` (each a Register or a Sink)
    Sink,      ///< `_`: the result is dropped
    List,      ///< `(a, b)` of a call: `elements`, perhaps none
  };
  enum class ImmediateKind : uint8_t {
    Integer, ///< `bits` is the value, sign-extended to 64 bits
    F32,     ///< `0f3F800000`: bits of f32 in the low half
    F64,     ///< `0d...` or a decimal `1.5`: bits of f64
  };
  enum class Base : uint8_t { Register, Symbol, Absolute };

  Kind kind = Sink;
  uint32_t index = 0; ///< Register (also the base of an Address)
  Component component = Component::Whole;
  bool negated = false; ///< `!%p`: a predicate used inverted
  SpecialRegister special = SpecialRegister::None;
  ImmediateKind immediate = ImmediateKind::Integer;
  uint64_t bits = 0;
  ptx::Symbol symbol;
  Base base = Base::Register; ///< Of an Address; Absolute: `[16]`, only `offset` counts
  int64_t offset = 0;         ///< Bytes, of an Address or a Symbol
  std::vector<Operand> elements;

  bool isRegister() const { return kind == Register; }
  bool isImmediate() const { return kind == Immediate; }
  bool operator==(const Operand &) const = default;
};

/// The bits that an Immediate operand has when an instruction reads it as `type`: an integer is cut
/// to the width of `type` (for F32 and F64 it is converted); 0f and 0d literals keep their bits in
/// types of the same width and are converted, rounding to nearest even, to F16, BF16, F32 and F64.
uint64_t immediateAs(const Operand &operand, Type type);

/// `@%p` or `@!%p` in front of an instruction.
struct Guard {
  int32_t reg = -1; ///< Function::registers; -1: always executed
  bool negated = false;
  bool operator==(const Guard &) const = default;
};

/// One dotted part after the opcode.
struct Suffix {
  Modifier modifier = Modifier::Type;
  Type type = Type::None;                 ///< if modifier == Modifier::Type
  StateSpace space = StateSpace::Generic; ///< if modifier == Modifier::Space
  bool operator==(const Suffix &) const = default;
};

/// m, n, k of `.m16n8k16`; k is 0 for `.m8n8` (ldmatrix).
struct Shape {
  uint16_t m = 0, n = 0, k = 0;
  bool operator==(const Shape &) const = default;
};

/// An instruction. The suffixes stand as written, in order; the other fields repeat what decoders ask
/// for most. The operands stand as written, with two exceptions. `{%r1}` of a scalar ld or st is the
/// register. `call` always has three or four operands:
/// List of results (perhaps empty), target (Symbol or Register), List of arguments, and, for an
/// indirect call, the Symbol of its prototype or targets.
struct Instruction {
  Opcode opcode = Opcode::None;
  Guard guard;
  std::vector<Suffix> suffixes;
  /// All type suffixes in order: cvt.rn.f16.f32 has {F16, F32} (destination first, as written).
  std::vector<Type> types;
  /// All state spaces in order: cp.async.ca.shared.global has {Shared, Global}. Empty: generic.
  std::vector<StateSpace> spaces;
  Shape shape;
  uint8_t vector = 1; ///< 2, 4, 8 for .v2, .v4, .v8
  std::vector<Operand> operands;
  int32_t location = -1; ///< Function::locations: the `.loc` in force; -1: none
  uint32_t line = 0;     ///< Of the PTX text, from 1; not part of equality

  bool has(Modifier modifier) const;
  /// The i-th type, None if there are fewer.
  Type type(size_t i = 0) const { return i < types.size() ? types[i] : Type::None; }
  /// The i-th space, Generic if there are fewer.
  StateSpace space(size_t i = 0) const {
    return i < spaces.size() ? spaces[i] : StateSpace::Generic;
  }
  /// The first suffix that is one of `choices`, else `none`: the comparison, the rounding, ...
  Modifier firstOf(std::initializer_list<Modifier> choices, Modifier none = Modifier::Type) const;
  bool operator==(const Instruction &) const;
};

//===----------------------------------------------------------------------===//
// Functions and modules
//===----------------------------------------------------------------------===//

/// `.loc file line column [, function_name label+offset, inlined_at file line column]`.
struct SourceLocation {
  uint32_t file = 0; ///< As in Module::files
  uint32_t line = 0;
  uint32_t column = 0;
  /// The place that inlined this one: index into Function::locations; -1: none. The entry there is
  /// one that the text wrote before, or one made for it.
  int32_t inlinedAt = -1;
  bool operator==(const SourceLocation &) const = default;
};

struct Label {
  std::string name;
  uint32_t instruction = 0; ///< Index of the instruction that follows; may equal the count.
  bool operator==(const Label &) const = default;
};

/// `name: .branchtargets a, b;` or `name: .calltargets f, g;`
struct TargetTable {
  std::string name;
  std::vector<uint32_t> targets; ///< Indices of Function::labels, or of Module::functions
  bool operator==(const TargetTable &) const = default;
};

/// `name: .callprototype (.param .b32 _) _ (.param .b64 _);`
struct CallPrototype {
  std::string name;
  std::vector<Variable> results;
  std::vector<Variable> parameters;
  bool noreturn = false;
  bool operator==(const CallPrototype &) const = default;
};

/// `.pragma "nounroll";`
struct Pragma {
  uint32_t instruction = 0; ///< Index of the instruction that follows; 0 before the body.
  std::string text;
  bool operator==(const Pragma &) const = default;
};

using Dim3 = std::array<uint32_t, 3>;

/// An .entry or .func.
struct Function {
  std::string name;
  bool isEntry = false;
  bool isDeclaration = false; ///< No body: a forward declaration that no definition followed.
  Linkage linkage = Linkage::Internal;
  std::vector<Variable> results; ///< Of .func; at most one in practice.
  std::vector<Variable> parameters;

  // Directives. Absent: not written; extents that are left out are 1.
  std::optional<Dim3> reqntid;                ///< .reqntid
  std::optional<Dim3> maxntid;                ///< .maxntid
  std::optional<uint32_t> minnctapersm;       ///< .minnctapersm
  std::optional<uint32_t> maxnctapersm;       ///< .maxnctapersm (deprecated)
  std::optional<uint32_t> maxnreg;            ///< .maxnreg
  std::optional<Dim3> reqnctapercluster;      ///< .reqnctapercluster
  bool explicitcluster = false;               ///< .explicitcluster
  std::optional<uint32_t> maxclusterrank;     ///< .maxclusterrank
  bool blocksareclusters = false;             ///< .blocksareclusters
  bool noreturn = false;                      ///< .noreturn
  std::optional<uint32_t> abiPreserve;        ///< .abi_preserve
  std::optional<uint32_t> abiPreserveControl; ///< .abi_preserve_control

  std::vector<Register> registers;
  std::vector<Variable> variables; ///< .shared, .local and .param variables of the body
  std::vector<Instruction> instructions;
  std::vector<Label> labels; ///< In order of the text
  std::vector<TargetTable> branchTargets;
  std::vector<TargetTable> callTargets;
  std::vector<CallPrototype> callPrototypes;
  std::vector<SourceLocation> locations;
  std::vector<Pragma> pragmas;
  uint32_t line = 0; ///< Of the PTX text; not part of equality

  bool operator==(const Function &) const;
};

/// `.file index "name"`.
struct SourceFile {
  uint32_t index = 0;
  std::string name;
  bool operator==(const SourceFile &) const = default;
};

/// `.alias name, aliasee;`: Module::functions[alias] (a declaration) is [aliasee].
struct Alias {
  uint32_t alias = 0, aliasee = 0;
  bool operator==(const Alias &) const = default;
};

struct Module {
  uint32_t versionMajor = 0, versionMinor = 0; ///< .version 9.0
  uint32_t sm = 0;                             ///< .target sm_90a: 90
  char smSuffix = 0;                           ///< 'a' (architecture), 'f' (family) or 0
  std::vector<std::string> targetOptions; ///< The rest of .target: "debug", "texmode_unified" ...
  uint32_t addressSize = 64;              ///< .address_size; 64 if not written
  std::vector<SourceFile> files;
  std::vector<Variable> variables; ///< In order of the text
  std::vector<Function>
      functions; ///< In order of the text; one entry for declaration and definition
  std::vector<Alias> aliases;
  std::vector<std::string> pragmas; ///< Of the module

  /// The name of a file index, empty if there is none.
  std::string_view fileName(uint32_t index) const;
  /// The function of this name, null if there is none.
  const Function *findFunction(std::string_view name) const;
  bool operator==(const Module &) const = default;
};

} // namespace sgpu::ptx

#endif // SGPU_PTX_AST_H
