//===- Decode.cpp - From PTX to code that runs ------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Block.h"
#include "Machine/Decoders.h"
#include "Machine/Module.h"
#include "Machine/Warp.h"
#include "Ptx/Printer.h"
#include "Scalar/Scalar.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <set>

using namespace sgpu;

//===----------------------------------------------------------------------===//
// Registry
//===----------------------------------------------------------------------===//

static std::array<Decoder, 256> &table() {
  static std::array<Decoder, 256> decoders{};
  return decoders;
}

RegisterDecoders::RegisterDecoders(
    std::initializer_list<std::pair<ptx::Opcode, Decoder>> decoders) {
  for (auto [opcode, decoder] : decoders) {
    assert(!table()[unsigned(opcode)] && "two decoders for an opcode");
    table()[unsigned(opcode)] = decoder;
  }
}

Decoder sgpu::findDecoder(ptx::Opcode opcode) { return table()[unsigned(opcode)]; }

//===----------------------------------------------------------------------===//
// Where variables are
//===----------------------------------------------------------------------===//

namespace {
constexpr uint32_t none = ~0u;

/// Offsets of the variables of a kernel and its functions that have no address of their own.
struct Layout {
  std::vector<uint32_t> moduleShared;                   // by module variable; none: not shared
  std::vector<std::vector<uint32_t>> functionVariables; // by function, variable
  std::vector<std::vector<uint32_t>> parameters, results;
};

uint32_t alignTo(uint32_t value, uint32_t alignment) {
  return alignment ? (value + alignment - 1) / alignment * alignment : value;
}
} // namespace

struct DecodeContext::Impl {
  Module::Impl &module;
  Program &program;
  const Layout &layout;
  uint32_t functionIndex;
  std::map<std::pair<uint64_t, unsigned>, uint32_t> constants; // bits, bytes -> row
  std::map<uint32_t, uint32_t> locals;                         // offset -> hidden row
  uint32_t sink = none;
  std::vector<uint32_t> reads, moves, writes;
  int sinkPredicate = -1;

  /// The address of a variable in its own space.
  std::optional<uint64_t> addressOf(const ptx::Symbol &symbol, bool isEntry) const {
    constexpr uint64_t frameParam = uint64_t(1) << 40;
    switch (symbol.kind) {
    case ptx::Symbol::ModuleVariable: {
      const ptx::Variable &v = module.ast.variables[symbol.index];
      if (v.space == ptx::StateSpace::Shared || v.space == ptx::StateSpace::SharedCta)
        return layout.moduleShared[symbol.index];
      return module.variables[symbol.index].address;
    }
    case ptx::Symbol::LocalVariable: {
      const ptx::Variable &v = module.ast.functions[functionIndex].variables[symbol.index];
      uint32_t offset = layout.functionVariables[functionIndex][symbol.index];
      return v.space == ptx::StateSpace::Param ? offset | frameParam : offset;
    }
    case ptx::Symbol::Parameter: {
      uint32_t offset = layout.parameters[functionIndex][symbol.index];
      return isEntry ? offset : offset | frameParam;
    }
    case ptx::Symbol::Result:
      return layout.results[functionIndex][symbol.index] | frameParam;
    case ptx::Symbol::Function:
      return functionWindow | symbol.index;
    default:
      return std::nullopt;
    }
  }

  bool isLocal(const ptx::Symbol &symbol) const {
    return symbol.kind == ptx::Symbol::LocalVariable &&
           module.ast.functions[functionIndex].variables[symbol.index].space ==
               ptx::StateSpace::Local;
  }
};

//===----------------------------------------------------------------------===//
// DecodeContext
//===----------------------------------------------------------------------===//

void DecodeContext::fail(const std::string &message) const {
  const Module::Impl &m = impl.module;
  throw Error(m.name + ": PTX line " + std::to_string(ast.line) + ": " + message + "\n  " +
              ptx::print(m.ast, *function.ast, ast));
}

void DecodeContext::needs(int capability) const {
  if (chip.capability < capability)
    fail("needs sm_" + std::to_string(capability) + ", the chip is sm_" +
         std::to_string(chip.capability));
}

int64_t DecodeContext::immediate(const ptx::Operand &op) const {
  if (!op.isImmediate())
    fail("expects an immediate operand");
  return int64_t(op.bits);
}

unsigned DecodeContext::registerBits(const ptx::Operand &op) const {
  return op.kind == ptx::Operand::Register ? ptx::bitsOf(function.ast->registers[op.index].type)
                                           : 64;
}

static Operand constant(DecodeContext &c, uint64_t bits, unsigned bytes) {
  auto [it, made] = c.impl.constants.try_emplace({bits, bytes}, 0);
  std::vector<uint32_t> &rows = c.function.constants;
  if (made) {
    it->second = uint32_t(rows.size() / 32);
    for (unsigned lane = 0; lane < 32; ++lane)
      if (bytes == 8) {
        rows.push_back(uint32_t(bits));
        rows.push_back(uint32_t(bits >> 32));
      } else {
        rows.push_back(uint32_t(bits));
      }
  }
  return {Operand::Constant, uint8_t(bytes), false, it->second};
}

static unsigned rowsOf(ptx::Type type) { return std::max(1u, ptx::bitsOf(type) / 32); }

static unsigned component(ptx::Component c) {
  switch (c) {
  case ptx::Component::Y:
    return 1;
  case ptx::Component::Z:
    return 2;
  case ptx::Component::W:
    return 3;
  default:
    return 0;
  }
}

/// A register of the function, or a part of a vector register.
static Operand registerOf(const DecodeContext &c, const ptx::Operand &op) {
  const ptx::Register &r = c.function.ast->registers[op.index];
  uint32_t first = c.function.registerRow[op.index];
  if (r.type == ptx::Type::Pred)
    return {Operand::Predicate, 0, op.negated, first};
  return {Operand::Register, uint8_t(std::max(4u, ptx::bytesOf(r.type))), false,
          first + component(op.component) * rowsOf(r.type)};
}

static Operand hiddenRow(DecodeContext &c, unsigned bytes) {
  Operand op{Operand::Register, uint8_t(bytes), false, c.function.rows};
  c.function.rows += bytes / 4;
  return op;
}

static std::optional<Operand> specialOf(const ptx::Operand &op) {
  using S = ptx::SpecialRegister;
  unsigned part = component(op.component);
  auto row = [](uint32_t r, unsigned bytes = 4) {
    return Operand{Operand::Special, uint8_t(bytes), false, r};
  };
  auto triple = [&](uint32_t first) {
    return row(part < 3 ? first + part : uint32_t(special::Zero));
  };
  switch (op.special) {
  case S::Tid:
    return triple(special::TidX);
  case S::Ntid:
    return triple(special::NtidX);
  case S::Ctaid:
    return triple(special::CtaidX);
  case S::Nctaid:
    return triple(special::NctaidX);
  case S::Clusterid:
    return triple(special::ClusteridX);
  case S::Nclusterid:
    return triple(special::NclusteridX);
  case S::ClusterCtaid:
    return triple(special::ClusterCtaidX);
  case S::ClusterNctaid:
    return triple(special::ClusterNctaidX);
  case S::ClusterCtarank:
    return row(special::ClusterCtarank);
  case S::ClusterNctarank:
    return row(special::ClusterNctarank);
  case S::Laneid:
    return row(special::Laneid);
  case S::Warpid:
    return row(special::Warpid);
  case S::Nwarpid:
    return row(special::Nwarpid);
  case S::Smid:
    return row(special::Smid);
  case S::Nsmid:
    return row(special::Nsmid);
  case S::Gridid:
    return row(special::Gridid, 8);
  case S::LanemaskEq:
    return row(special::LanemaskEq);
  case S::LanemaskLe:
    return row(special::LanemaskLe);
  case S::LanemaskLt:
    return row(special::LanemaskLt);
  case S::LanemaskGe:
    return row(special::LanemaskGe);
  case S::LanemaskGt:
    return row(special::LanemaskGt);
  case S::TotalSmemSize:
    return row(special::TotalSmemSize);
  case S::AggrSmemSize:
    return row(special::TotalSmemSize);
  case S::DynamicSmemSize:
    return row(special::DynamicSmemSize);
  case S::ReservedSmemOffsetBegin:
    return row(special::ReservedBegin);
  case S::ReservedSmemOffsetEnd:
    return row(special::ReservedEnd);
  case S::ReservedSmemOffsetCap:
    return row(special::ReservedCap);
  case S::Envreg:
  case S::Pm:
  case S::ReservedSmemOffset0:
  case S::ReservedSmemOffset1:
    return row(special::Zero);
  case S::Pm64:
  case S::CurrentGraphExec:
    return row(special::Zero, 8);
  default:
    return std::nullopt; // clocks: `mov` only
  }
}

Operand DecodeContext::source(const ptx::Operand &op, ptx::Type type) {
  switch (op.kind) {
  case ptx::Operand::Register: {
    Operand r = registerOf(*this, op);
    impl.reads.push_back(r.base == Operand::Predicate ? r.row | 1u << 31 : r.row);
    return r;
  }
  case ptx::Operand::Immediate:
    if (type == ptx::Type::Pred)
      return {Operand::Predicate, 0, op.bits == 0, function.always};
    return constant(*this, ptx::immediateAs(op, type), ptx::bytesOf(type) == 8 ? 8 : 4);
  case ptx::Operand::Special:
    if (op.special == ptx::SpecialRegister::IsExplicitCluster)
      return {Operand::Predicate, 0,
              !(impl.program.info.explicitCluster || impl.program.info.requiredCluster.x),
              function.always};
    if (std::optional<Operand> s = specialOf(op))
      return *s;
    fail("reads a special register that only mov may read");
  case ptx::Operand::Symbol: {
    std::optional<uint64_t> address = impl.addressOf(op.symbol, function.ast->isEntry);
    if (!address)
      fail("uses a name whose address cannot be taken");
    if (impl.isLocal(op.symbol)) {
      uint32_t offset = uint32_t(*address + uint64_t(op.offset));
      auto [it, made] = impl.locals.try_emplace(offset, 0);
      if (made) {
        it->second = hiddenRow(*this, 8).row;
        function.localAddresses.push_back({it->second, offset});
      }
      return {Operand::Register, 8, false, it->second};
    }
    return constant(*this, *address + uint64_t(op.offset), ptx::bytesOf(type) == 4 ? 4 : 8);
  }
  default:
    fail("has an operand of a kind that it cannot read");
  }
}

Operand DecodeContext::moved(const ptx::Operand &op, ptx::Type type) {
  size_t before = impl.reads.size();
  Operand s = source(op, type);
  impl.moves.insert(impl.moves.end(), impl.reads.begin() + ptrdiff_t(before), impl.reads.end());
  impl.reads.resize(before);
  return s;
}

Operand DecodeContext::destination(const ptx::Operand &op) {
  if (op.kind == ptx::Operand::Register) {
    Operand r = registerOf(*this, op);
    impl.writes.push_back(r.base == Operand::Predicate ? r.row | 1u << 31 : r.row);
    return r;
  }
  if (op.kind != ptx::Operand::Sink)
    fail("has a destination that is not a register");
  if (impl.sink == none) {
    impl.sink = hiddenRow(*this, 16).row;
    impl.sinkPredicate = int(function.numPredicates++);
  }
  return {Operand::Register, 4, false, impl.sink};
}

std::vector<Operand> DecodeContext::sources(const ptx::Operand &op, ptx::Type type,
                                            bool onlyMoved) {
  std::vector<Operand> list;
  auto one = [&](const ptx::Operand &o) { return onlyMoved ? moved(o, type) : source(o, type); };
  if (op.kind == ptx::Operand::Vector || op.kind == ptx::Operand::List)
    for (const ptx::Operand &element : op.elements)
      list.push_back(one(element));
  else if (op.isRegister() && op.component == ptx::Component::Whole &&
           function.ast->registers[op.index].vector > 1)
    for (unsigned i = 0; i < function.ast->registers[op.index].vector; ++i) {
      ptx::Operand part = op;
      part.component = ptx::Component(unsigned(ptx::Component::X) + i);
      list.push_back(one(part));
    }
  else
    list.push_back(one(op));
  return list;
}

std::vector<Operand> DecodeContext::destinations(const ptx::Operand &op) {
  std::vector<Operand> list;
  if (op.kind == ptx::Operand::Vector || op.kind == ptx::Operand::List)
    for (const ptx::Operand &element : op.elements)
      list.push_back(destination(element));
  else if (op.isRegister() && op.component == ptx::Component::Whole &&
           function.ast->registers[op.index].vector > 1)
    for (unsigned i = 0; i < function.ast->registers[op.index].vector; ++i) {
      ptx::Operand part = op;
      part.component = ptx::Component(unsigned(ptx::Component::X) + i);
      list.push_back(destination(part));
    }
  else
    list.push_back(destination(op));
  return list;
}

AddressOperand DecodeContext::address(const ptx::Operand &op) {
  if (op.kind != ptx::Operand::Address)
    fail("expects an address [...]");
  AddressOperand a;
  a.offset = op.offset;
  if (op.base == ptx::Operand::Base::Register) {
    ptx::Operand r;
    r.kind = ptx::Operand::Register;
    r.index = op.index;
    r.component = op.component;
    a.base = source(r, ptx::Type::U64);
    if (a.base.bytes != 4 && a.base.bytes != 8)
      fail("has an address that is not of 32 or 64 bits");
  } else if (op.base == ptx::Operand::Base::Symbol) {
    std::optional<uint64_t> address = impl.addressOf(op.symbol, function.ast->isEntry);
    if (!address)
      fail("uses a name whose address cannot be taken");
    if (impl.isLocal(op.symbol)) {
      ptx::Operand s;
      s.kind = ptx::Operand::Symbol;
      s.symbol = op.symbol;
      a.base = source(s, ptx::Type::U64);
    } else {
      a.offset += int64_t(*address);
    }
  }
  return a;
}

void DecodeContext::operands(std::vector<Operand> list) {
  function.operandLists.push_back(std::move(list));
  in.operands = function.operandLists.back();
}

std::optional<uint64_t> DecodeContext::paramAddress(const ptx::Operand &op) const {
  switch (op.symbol.kind) {
  case ptx::Symbol::LocalVariable:
    if (function.ast->variables[op.symbol.index].space != ptx::StateSpace::Param)
      return std::nullopt;
    [[fallthrough]];
  case ptx::Symbol::Parameter:
  case ptx::Symbol::Result:
    return impl.addressOf(op.symbol, function.ast->isEntry);
  default:
    return std::nullopt;
  }
}

Space DecodeContext::space(ptx::StateSpace space) const {
  switch (space) {
  case ptx::StateSpace::Generic:
    return Space::Generic;
  case ptx::StateSpace::Global:
    return Space::Global;
  case ptx::StateSpace::Const:
    return Space::Const;
  case ptx::StateSpace::Local:
    return Space::Local;
  case ptx::StateSpace::Param:
  case ptx::StateSpace::ParamEntry:
  case ptx::StateSpace::ParamFunc:
    return Space::Param;
  case ptx::StateSpace::Shared:
  case ptx::StateSpace::SharedCta:
  case ptx::StateSpace::SharedCluster:
    return Space::Shared;
  default:
    fail("uses a state space that is not supported: ." + std::string(ptx::nameOf(space)));
  }
}

Scope DecodeContext::scope() const {
  using M = ptx::Modifier;
  if (ast.has(M::Volatile) || ast.has(M::Mmio))
    return Scope::Sys;
  if (ast.has(M::Cta))
    return Scope::Cta;
  if (ast.has(M::Cluster))
    return Scope::Cluster;
  if (ast.has(M::Gpu) || ast.has(M::Gl))
    return Scope::Gpu;
  if (ast.has(M::Sys))
    return Scope::Sys;
  return Scope::Weak;
}

//===----------------------------------------------------------------------===//
// Scalar instructions: src/Scalar knows them
//===----------------------------------------------------------------------===//

namespace {
struct ScalarPlan {
  scalar::RowFunction run;
  uint32_t control;
  uint8_t destinations, sources;
};

/// All operands are rows.
Step runRows(Warp &w, const Instruction &in) {
  const auto &plan = *static_cast<const ScalarPlan *>(in.extra);
  void *d[scalar::maxDestinations];
  const void *s[scalar::maxSources];
  const Operand *op = in.operands.data();
  for (unsigned i = 0; i < plan.destinations; ++i)
    d[i] = w.u32(*op++);
  for (unsigned i = 0; i < plan.sources; ++i)
    s[i] = w.u32(*op++);
  plan.run(d, s, w.active, plan.control);
  return Step::Next;
}

/// Some are predicates.
Step runMixed(Warp &w, const Instruction &in) {
  const auto &plan = *static_cast<const ScalarPlan *>(in.extra);
  void *d[scalar::maxDestinations];
  const void *s[scalar::maxSources];
  uint32_t masks[scalar::maxSources];
  const Operand *op = in.operands.data();
  for (unsigned i = 0; i < plan.destinations; ++i, ++op)
    d[i] = op->base == Operand::Predicate ? &w.frame->predicates[op->row] : w.u32(*op);
  for (unsigned i = 0; i < plan.sources; ++i, ++op)
    if (op->base == Operand::Predicate) {
      masks[i] = w.predicate(*op);
      s[i] = &masks[i];
    } else {
      s[i] = w.u32(*op);
    }
  plan.run(d, s, w.active, plan.control);
  return Step::Next;
}

/// prmt puts bytes together, some of which may never be used (see runPack in Moves.cpp). mode[0]: uses a,
/// mode[1]: uses b.
Step runPermute(Warp &w, const Instruction &in) {
  uint32_t defined = 0;
  for (unsigned i = 0; i < 2; ++i)
    if (Operand s = in.operands[1 + i]; in.mode[i])
      defined |= s.base == Operand::Register ? w.frame->defined[s.row] : ~0u;
  Step step = runRows(w, in);
  uint32_t &d = w.frame->defined[in.operands[0].row];
  d = (d & ~w.active) | (defined & w.active);
  return step;
}

void decodePermute(DecodeContext &c) {
  const ptx::Operand &selector = c.ast.operands[3];
  using M = ptx::Modifier;
  bool known = selector.isImmediate() &&
               c.ast.firstOf({M::F4e, M::B4e, M::Rc8, M::Ecl, M::Ecr, M::Rc16}) == M::Type;
  c.in.mode[0] = c.in.mode[1] = !known;
  if (known)
    for (unsigned i = 0; i < 4; ++i)
      c.in.mode[c.immediate(selector) >> (4 * i) >> 2 & 1] = 1;
  c.in.propagates = true;
  c.in.execute = runPermute;
}

/// The operand that a slot names; an element of a vector or pair, else the whole.
const ptx::Operand &slotOperand(const ptx::Instruction &in, const scalar::Slot &slot) {
  const ptx::Operand &op = in.operands[unsigned(slot.operand)];
  if ((op.kind == ptx::Operand::Pair || op.kind == ptx::Operand::Vector) &&
      slot.element < op.elements.size())
    return op.elements[slot.element];
  return op;
}

void decodeScalar(DecodeContext &c) {
  std::string message;
  scalar::Operation op = scalar::find(*c.function.ast, c.ast, message);
  if (!op.run)
    c.fail(message.empty()
               ? "the opcode " + std::string(ptx::nameOf(c.ast.opcode)) + " is not supported"
               : message);
  std::vector<Operand> list;
  bool masks = false;
  static const ptx::Operand dropped; // a sink
  for (unsigned i = 0; i < op.destinations; ++i) {
    const scalar::Slot &slot = op.destination[i];
    Operand d;
    if (slot.operand < 0) {
      d = {Operand::Predicate, 0, false, c.function.carry};
    } else {
      const ptx::Operand &o = slotOperand(c.ast, slot);
      bool whole = &o == &c.ast.operands[unsigned(slot.operand)];
      d = c.destination(whole && slot.element > 0 ? dropped : o);
      if (slot.lane == scalar::Lane::Mask && d.base != Operand::Predicate)
        d = {Operand::Predicate, 0, false, uint32_t(c.impl.sinkPredicate)};
    }
    masks |= d.base == Operand::Predicate;
    list.push_back(d);
  }
  for (unsigned i = 0; i < op.sources; ++i) {
    const scalar::Slot &slot = op.source[i];
    bool moved = c.ast.opcode == ptx::Opcode::Prmt && i < 2;
    Operand s = slot.operand < 0 ? Operand{Operand::Predicate, 0, false, c.function.carry}
                : moved          ? c.moved(slotOperand(c.ast, slot), slot.type)
                                 : c.source(slotOperand(c.ast, slot), slot.type);
    masks |= s.base == Operand::Predicate;
    if (slot.lane == scalar::Lane::Long && s.bytes == 4 && s.base == Operand::Constant)
      s = constant(c, c.function.constants[s.row * 32], 8);
    list.push_back(s);
  }
  c.extra(ScalarPlan{op.run, op.control, op.destinations, op.sources});
  c.operands(std::move(list));
  c.in.execute = masks ? runMixed : runRows;
  if (c.ast.opcode == ptx::Opcode::Prmt)
    decodePermute(c);
}
} // namespace

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

std::string Function::source(const Instruction &in) const {
  if (in.index >= ast->instructions.size())
    return "";
  int32_t location = ast->instructions[in.index].location;
  if (location < 0)
    return "";
  const ptx::SourceLocation &l = ast->locations[unsigned(location)];
  std::string file(module->fileName(l.file));
  if (!l.line || file.empty())
    return "";
  return file + ":" + std::to_string(l.line);
}

std::string Function::text(const Instruction &in) const {
  return in.index < ast->instructions.size()
             ? ptx::print(*module, *ast, ast->instructions[in.index])
             : "end of the function";
}

bool Function::postDominates(uint32_t a, uint32_t b) const {
  uint32_t block = blockOf[b];
  if (block == blockOf[a])
    return a >= b;
  while (block != none && block != blockOf[a])
    block = postDominator[block];
  return block != none;
}

/// Successors of an instruction: where it can go, beside the end.
template <typename Visit>
static void successors(const Function &f, const Instruction &in, Visit visit) {
  if (in.index >= f.ast->instructions.size())
    return; // the implicit end
  const ptx::Instruction &ast = f.ast->instructions[in.index];
  bool always = ast.guard.reg < 0;
  switch (ast.opcode) {
  case ptx::Opcode::Bra:
    visit(in.target);
    if (!always)
      visit(in.index + 1);
    return;
  case ptx::Opcode::BrxIdx:
    for (const ptx::Operand &op : ast.operands)
      if (op.kind == ptx::Operand::Symbol && op.symbol.kind == ptx::Symbol::BranchTargets)
        for (uint32_t label : f.ast->branchTargets[op.symbol.index].targets)
          visit(f.ast->labels[label].instruction);
    if (!always)
      visit(in.index + 1);
    return;
  case ptx::Opcode::Ret:
  case ptx::Opcode::Exit:
  case ptx::Opcode::Trap:
    if (!always)
      visit(in.index + 1);
    return;
  default:
    visit(in.index + 1);
  }
}

/// Basic blocks and immediate post-dominators. Source of the method: Cooper, Harvey, Kennedy, "A
/// Simple, Fast Dominance Algorithm", 2001, on the reversed graph.
static void findMeetingPoints(Function &f) {
  size_t n = f.code.size();
  std::vector<bool> leader(n, false);
  leader[0] = true;
  for (const Instruction &in : f.code) {
    bool straight = false;
    unsigned count = 0;
    successors(f, in, [&](uint32_t to) {
      ++count;
      straight |= to == in.index + 1;
    });
    if (count != 1 || !straight)
      successors(f, in, [&](uint32_t to) { leader[to] = true; });
    if ((count != 1 || !straight) && in.index + 1 < n)
      leader[in.index + 1] = true;
  }
  for (const ptx::Label &label : f.ast->labels)
    if (label.instruction < n)
      leader[label.instruction] = true;
  f.blockOf.resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    if (leader[i])
      f.blockStart.push_back(i);
    f.blockOf[i] = uint32_t(f.blockStart.size() - 1);
  }
  size_t blocks = f.blockStart.size();
  std::vector<std::vector<uint32_t>> next(blocks), previous(blocks + 1);
  uint32_t end = uint32_t(blocks); // virtual
  for (uint32_t b = 0; b < blocks; ++b) {
    uint32_t last = b + 1 < blocks ? f.blockStart[b + 1] - 1 : uint32_t(n - 1);
    successors(f, f.code[last], [&](uint32_t to) { next[b].push_back(f.blockOf[to]); });
    const ptx::Opcode opcode =
        last < f.ast->instructions.size() ? f.ast->instructions[last].opcode : ptx::Opcode::Exit;
    if (next[b].empty() || opcode == ptx::Opcode::Ret || opcode == ptx::Opcode::Exit)
      next[b].push_back(end);
    for (uint32_t to : next[b])
      previous[to].push_back(b);
  }
  // Post-order from the end over reversed edges. Blocks that never get there (endless loops) have none.
  std::vector<uint32_t> order, number(blocks + 1, none);
  std::vector<std::pair<uint32_t, size_t>> stack{{end, 0}};
  std::vector<bool> seen(blocks + 1, false);
  seen[end] = true;
  while (!stack.empty()) {
    auto &[b, i] = stack.back();
    if (i < previous[b].size()) {
      uint32_t p = previous[b][i++];
      if (!seen[p]) {
        seen[p] = true;
        stack.push_back({p, 0});
      }
    } else {
      number[b] = uint32_t(order.size());
      order.push_back(b);
      stack.pop_back();
    }
  }
  std::vector<uint32_t> dominator(blocks + 1, none);
  dominator[end] = end;
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = order.size(); i-- > 0;) {
      uint32_t b = order[i];
      if (b == end)
        continue;
      uint32_t best = none;
      for (uint32_t s : next[b]) {
        if (number[s] == none || dominator[s] == none)
          continue;
        if (best == none) {
          best = s;
          continue;
        }
        uint32_t x = s;
        while (x != best) {
          while (number[x] < number[best])
            x = dominator[x];
          while (number[best] < number[x])
            best = dominator[best];
        }
      }
      if (best != none && dominator[b] != best) {
        dominator[b] = best;
        changed = true;
      }
    }
  }
  f.postDominator.resize(blocks);
  for (uint32_t b = 0; b < blocks; ++b)
    f.postDominator[b] = dominator[b] == end ? none : dominator[b];
  for (Instruction &in : f.code) {
    uint32_t meet = f.postDominator[f.blockOf[in.index]];
    if (in.index + 1 == n || f.blockOf[in.index] != f.blockOf[in.index + 1])
      in.meet = meet == none ? none : f.blockStart[meet];
  }
}

/// Whether an instruction gives values of memory, of other threads or of counters: they cannot be made again.
static bool opcodeLoads(ptx::Opcode opcode) {
  using O = ptx::Opcode;
  switch (opcode) {
  case O::Mov:
  case O::Add:
  case O::Sub:
  case O::Mul:
  case O::Mad:
  case O::Shl:
  case O::Shr:
  case O::And:
  case O::Or:
  case O::Xor:
  case O::Cvt:
  case O::Cvta:
  case O::Selp:
  case O::Setp:
    return false;
  default:
    return true;
  }
}

template <typename F> void Function::forLive(F visit) const {
  // Rows live at each place, backwards until nothing changes.
  size_t words = (rows + 63) / 64, blocks = blockStart.size();
  using Set = std::vector<uint64_t>;
  std::vector<Set> in(blocks, Set(words));
  auto walk = [&](uint32_t b, bool last) {
    uint32_t first = blockStart[b];
    uint32_t end = b + 1 < blocks ? blockStart[b + 1] : uint32_t(code.size());
    Set live(words);
    successors(*this, code[end - 1], [&](uint32_t to) {
      for (size_t w = 0; w < words; ++w)
        live[w] |= in[blockOf[to]][w];
    });
    for (uint32_t i = end; i-- > first;) {
      const Instruction &x = code[i];
      if (!x.guard)
        for (uint32_t r : x.writes)
          if (r < rows)
            live[r / 64] &= ~(uint64_t(1) << r % 64);
      for (uint32_t r : x.reads)
        if (r < rows)
          live[r / 64] |= uint64_t(1) << r % 64;
      if (last)
        visit(x, live);
    }
    bool changed = live != in[b];
    in[b] = std::move(live);
    return changed;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t b = uint32_t(blocks); b-- > 0;)
      changed |= walk(b, false);
  }
  for (uint32_t b = 0; b < blocks; ++b)
    walk(b, true);
}

/// 32-bit registers of each row: those of 64 bits have 2, 128 bits 4.
static std::vector<uint8_t> rowWidths(const Function &f) {
  std::vector<uint8_t> width(f.rows, 1);
  for (size_t r = 0; r < f.ast->registers.size(); ++r)
    if (f.ast->registers[r].type != ptx::Type::Pred)
      width[f.registerRow[r]] = uint8_t(rowsOf(f.ast->registers[r].type));
  return width;
}

static uint32_t countLive(const std::vector<uint64_t> &live, const std::vector<uint8_t> &width) {
  uint32_t count = 0;
  for (size_t w = 0; w < live.size(); ++w)
    for (uint64_t bits = live[w]; bits; bits &= bits - 1)
      count += width[w * 64 + unsigned(std::countr_zero(bits))];
  return count;
}

uint32_t Function::registersUsed() const {
  std::vector<uint8_t> width = rowWidths(*this);
  uint32_t most = 0;
  forLive([&](const Instruction &, const std::vector<uint64_t> &live) {
    most = std::max(most, countLive(live, width));
  });
  return most;
}

uint32_t Function::registersKept(uint32_t index) const {
  std::vector<uint8_t> width = rowWidths(*this);
  // Rows that only get what can be made again, of constants and of each other.
  std::vector<uint8_t> again(rows, 1);
  for (bool changed = true; changed;) {
    changed = false;
    for (const Instruction &x : code) {
      bool kept = x.space != Space::Param && x.index < ast->instructions.size() &&
                  opcodeLoads(ast->instructions[x.index].opcode);
      for (uint32_t r : x.reads)
        kept |= r < rows && !again[r];
      for (uint32_t r : x.writes)
        if (kept && r < rows && again[r])
          again[r] = 0, changed = true;
    }
  }
  for (uint32_t r = 0; r < rows; ++r)
    if (again[r])
      width[r] = 0;
  uint32_t kept = 0;
  forLive([&](const Instruction &x, const std::vector<uint64_t> &live) {
    if (x.index == index)
      kept = countLive(live, width);
  });
  return kept;
}

/// The implicit end of a function: as `ret`, which at the entry is `exit`.
namespace sgpu {
Step runReturn(Warp &w, const Instruction &in); // Control.cpp
}

static std::unique_ptr<Function> decodeFunction(Module::Impl &module, Program &program,
                                                const Layout &layout, uint32_t index) {
  const ptx::Function &ast = module.ast.functions[index];
  auto f = std::make_unique<Function>();
  f->module = &module.ast;
  f->ast = &ast;
  f->name = ast.name;
  for (const ptx::Register &r : ast.registers)
    if (r.type == ptx::Type::Pred) {
      f->registerRow.push_back(f->numPredicates++);
    } else {
      f->registerRow.push_back(f->rows);
      f->rows += rowsOf(r.type) * std::max<unsigned>(1, r.vector);
    }
  f->carry = f->numPredicates++;
  f->always = f->numPredicates++;
  // .param and .local variables of the body.
  for (size_t i = 0; i < ast.variables.size(); ++i) {
    const ptx::Variable &v = ast.variables[i];
    uint32_t end = layout.functionVariables[index][i] + uint32_t(v.byteSize());
    if (v.space == ptx::StateSpace::Param)
      f->paramBytes = std::max(f->paramBytes, end);
    else if (v.space == ptx::StateSpace::Local) {
      f->localBytes = std::max(f->localBytes, end);
      f->localAlignment = std::max(f->localAlignment, v.alignment);
    }
  }
  auto formals = [&](const std::vector<ptx::Variable> &list, const std::vector<uint32_t> &offsets) {
    for (size_t i = 0; i < list.size(); ++i)
      if (list[i].reg < 0)
        f->paramBytes = std::max(f->paramBytes, offsets[i] + uint32_t(list[i].byteSize()));
  };
  f->parameterOffsets = layout.parameters[index];
  f->resultOffsets = layout.results[index];
  if (!ast.isEntry) {
    formals(ast.parameters, layout.parameters[index]);
    formals(ast.results, layout.results[index]);
  }
  DecodeContext::Impl impl{module, program, layout, index, {}, {}, none, {}, {}, {}, -1};
  size_t n = ast.instructions.size();
  f->code.resize(n + 1);
  for (uint32_t i = 0; i < n; ++i) {
    const ptx::Instruction &source = ast.instructions[i];
    Instruction &in = f->code[i];
    in.index = i;
    in.line = source.line;
    impl.reads.clear();
    impl.moves.clear();
    impl.writes.clear();
    DecodeContext c{source, in, *f, module.chip, impl};
    if (source.guard.reg >= 0) {
      ptx::Operand guard;
      guard.kind = ptx::Operand::Register;
      guard.index = uint32_t(source.guard.reg);
      guard.negated = source.guard.negated;
      in.guard = registerOf(c, guard);
    }
    if (Decoder decoder = findDecoder(source.opcode))
      decoder(c);
    else
      decodeScalar(c);
    in.checked = uint32_t(impl.reads.size());
    impl.reads.insert(impl.reads.end(), impl.moves.begin(), impl.moves.end());
    f->indexLists.push_back(impl.reads);
    in.reads = f->indexLists.back();
    f->indexLists.push_back(impl.writes);
    in.writes = f->indexLists.back();
  }
  Instruction &last = f->code[n];
  last.index = uint32_t(n);
  last.line = n ? ast.instructions[n - 1].line : ast.line;
  last.execute = runReturn;
  // Now that all rows are known: predicates come behind them.
  for (std::vector<uint32_t> &list : f->indexLists)
    for (uint32_t &i : list)
      if (i >> 31)
        i = f->rows + (i & ~(1u << 31));
  findMeetingPoints(*f);
  return f;
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

static bool isShared(const ptx::Variable &v) {
  return v.space == ptx::StateSpace::Shared || v.space == ptx::StateSpace::SharedCta ||
         v.space == ptx::StateSpace::SharedCluster;
}

/// Runs visit(operand) for an operand and its elements.
template <typename Visit> static void forOperands(const ptx::Operand &op, const Visit &visit) {
  visit(op);
  for (const ptx::Operand &element : op.elements)
    forOperands(element, visit);
}

/// Whether an instruction takes part in communication over global memory.
static bool isStrongGlobal(const ptx::Instruction &in) {
  using O = ptx::Opcode;
  using M = ptx::Modifier;
  auto shared = [&] {
    for (ptx::StateSpace s : in.spaces)
      if (s == ptx::StateSpace::Shared || s == ptx::StateSpace::SharedCta ||
          s == ptx::StateSpace::SharedCluster)
        return true;
    return false;
  };
  switch (in.opcode) {
  case O::Atom:
  case O::Red:
    return !shared();
  case O::CpReduceAsyncBulk:
  case O::CpReduceAsyncBulkTensor:
    return true;
  case O::Ld:
  case O::St:
    return !shared() && (in.has(M::Volatile) || in.has(M::Relaxed) || in.has(M::Acquire) ||
                         in.has(M::Release) || in.has(M::Mmio));
  default:
    return false;
  }
}

std::unique_ptr<Program> sgpu::decode(Module::Impl &module, uint32_t entry) {
  const ptx::Module &ast = module.ast;
  auto program = std::make_unique<Program>();
  // What can be reached: calls and functions whose address is taken.
  std::vector<bool> reached(ast.functions.size(), false);
  std::set<uint32_t> shared;
  std::vector<uint32_t> work{entry};
  auto reach = [&](uint32_t index) {
    for (const ptx::Alias &alias : ast.aliases)
      if (alias.alias == index)
        index = alias.aliasee;
    if (!reached[index]) {
      reached[index] = true;
      work.push_back(index);
    }
  };
  reached[entry] = true;
  for (const ptx::Variable &v : ast.variables)
    for (const ptx::Relocation &r : v.relocations)
      if (r.symbol.kind == ptx::Symbol::Function)
        reach(r.symbol.index);
  while (!work.empty()) {
    const ptx::Function &f = ast.functions[work.back()];
    work.pop_back();
    for (const ptx::TargetTable &t : f.callTargets)
      for (uint32_t target : t.targets)
        reach(target);
    for (const ptx::Instruction &in : f.instructions) {
      program->communicates |= isStrongGlobal(in);
      for (const ptx::Operand &op : in.operands)
        forOperands(op, [&](const ptx::Operand &o) {
          if (o.symbol.kind == ptx::Symbol::Function)
            reach(o.symbol.index);
          else if (o.symbol.kind == ptx::Symbol::ModuleVariable &&
                   isShared(ast.variables[o.symbol.index]))
            shared.insert(o.symbol.index);
        });
    }
  }
  // Offsets.
  Layout layout;
  layout.moduleShared.assign(ast.variables.size(), none);
  layout.functionVariables.resize(ast.functions.size());
  layout.parameters.resize(ast.functions.size());
  layout.results.resize(ast.functions.size());
  uint32_t sharedEnd = window::sharedStart, dynamicAlignment = 16;
  auto isDynamic = [](const ptx::Variable &v) {
    return v.linkage == ptx::Linkage::Extern || v.byteSize() == 0;
  };
  auto place = [&](const ptx::Variable &v, uint32_t &at) {
    at = alignTo(sharedEnd, v.alignment);
    sharedEnd = at + uint32_t(v.byteSize());
    program->sharedVariables.push_back({v.name, at, uint32_t(v.byteSize())});
  };
  for (uint32_t i : shared)
    if (isDynamic(ast.variables[i]))
      dynamicAlignment = std::max(dynamicAlignment, ast.variables[i].alignment);
    else
      place(ast.variables[i], layout.moduleShared[i]);
  for (uint32_t i = 0; i < ast.functions.size(); ++i) {
    if (!reached[i])
      continue;
    const ptx::Function &f = ast.functions[i];
    uint32_t local = 0, param = 0;
    auto formals = [&](const std::vector<ptx::Variable> &list, std::vector<uint32_t> &offsets) {
      for (const ptx::Variable &v : list) {
        param = alignTo(param, std::max(1u, v.alignment));
        offsets.push_back(param);
        param += uint32_t(v.byteSize());
      }
    };
    formals(f.parameters, layout.parameters[i]);
    if (f.isEntry)
      param = 0; // those lie in the buffer of the launch
    formals(f.results, layout.results[i]);
    for (const ptx::Variable &v : f.variables) {
      uint32_t at = 0;
      if (isShared(v)) {
        if (isDynamic(v))
          dynamicAlignment = std::max(dynamicAlignment, v.alignment), at = none;
        else
          place(v, at);
      } else if (v.space == ptx::StateSpace::Local) {
        at = local = alignTo(local, std::max(1u, v.alignment));
        local += uint32_t(v.byteSize());
      } else if (v.space == ptx::StateSpace::Param) {
        at = param = alignTo(param, std::max(8u, v.alignment));
        param += uint32_t(v.byteSize());
      } else {
        throw Error(module.name + ": PTX line " + std::to_string(v.line) + ": variable " + v.name +
                    ": expected .shared, .local or .param in a function");
      }
      layout.functionVariables[i].push_back(at);
    }
  }
  program->sharedEnd = sharedEnd;
  program->dynamicStart = alignTo(sharedEnd, dynamicAlignment);
  for (uint32_t i : shared)
    if (isDynamic(ast.variables[i]))
      layout.moduleShared[i] = program->dynamicStart;
  for (uint32_t i = 0; i < ast.functions.size(); ++i)
    for (size_t v = 0; v < layout.functionVariables[i].size(); ++v)
      if (layout.functionVariables[i][v] == none)
        layout.functionVariables[i][v] = program->dynamicStart;

  // What is known before it runs.
  const ptx::Function &f = ast.functions[entry];
  KernelInfo &info = program->info;
  info.name = f.name;
  for (size_t i = 0; i < f.parameters.size(); ++i) {
    info.paramOffsets.push_back(layout.parameters[entry][i]);
    info.paramSizes.push_back(uint32_t(f.parameters[i].byteSize()));
    info.paramBytes = std::max(info.paramBytes, info.paramOffsets[i] + info.paramSizes[i]);
  }
  info.staticShared = sharedEnd - window::sharedStart;
  for (size_t i = 0; i < ast.variables.size(); ++i)
    if (ast.variables[i].space == ptx::StateSpace::Const)
      info.constBytes += uint32_t(ast.variables[i].byteSize());
  auto dim = [](const std::optional<ptx::Dim3> &d) {
    return d ? Dim3{(*d)[0], (*d)[1], (*d)[2]} : Dim3{0, 0, 0};
  };
  info.requiredBlock = dim(f.reqntid);
  info.requiredCluster = dim(f.reqnctapercluster);
  info.explicitCluster = f.explicitcluster;
  info.maxThreads = f.reqntid   ? uint32_t(info.requiredBlock.count())
                    : f.maxntid ? uint32_t(dim(f.maxntid).count())
                                : module.chip.threadsPerBlock;
  info.ptxVersion = int(ast.versionMajor * 10 + ast.versionMinor);
  info.target = int(ast.sm);

  program->functions.resize(ast.functions.size());
  uint32_t registers = 0;
  for (uint32_t i = 0; i < ast.functions.size(); ++i) {
    if (!reached[i] || ast.functions[i].isDeclaration)
      continue;
    program->functions[i] = decodeFunction(module, *program, layout, i);
    program->functions[i]->ordinal = i;
    registers = std::max(registers, program->functions[i]->registersUsed());
    for (Instruction &in : program->functions[i]->code)
      if (in.index < ast.functions[i].instructions.size() &&
          ast.functions[i].instructions[in.index].opcode == ptx::Opcode::Setmaxnreg)
        in.target = program->functions[i]->registersKept(in.index);
    info.localBytes += program->functions[i]->localBytes;
  }
  for (const ptx::Alias &alias : ast.aliases)
    if (reached[alias.aliasee] && !program->functions[alias.alias]) {
      program->functions[alias.alias] = decodeFunction(module, *program, layout, alias.aliasee);
      program->functions[alias.alias]->ordinal = alias.alias;
    }
  program->entry = program->functions[entry].get();
  // A compiler spills to keep its promises: .maxnreg, and that a block of .maxntid threads fits.
  uint32_t most = std::min<uint32_t>(255, f.maxnreg.value_or(255));
  if (f.maxntid || f.reqntid)
    most = std::min(most, std::max(16u, module.chip.registersPerSm /
                                            std::max(32u, alignTo(info.maxThreads, 32)) / 8 * 8));
  info.registers = std::min(most, std::max(8u, alignTo(registers + 4, 8)));
  return program;
}
