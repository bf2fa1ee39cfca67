//===- OpcodeTest.cpp - Every scalar instruction through the machine --------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A kernel for each drawn instruction: it loads every register that the instruction names, runs it
// (perhaps with a guard), and stores them all. The same is computed here with src/Scalar, whose own
// meaning test/Scalar checks. So every form, width, constant, negated predicate, pair, carry flag and
// lane that is not active goes the whole way from text to memory.
//===----------------------------------------------------------------------===//
#include "Harness.h"
#include "Ptx/Draw.h"
#include "Ptx/Parser.h"
#include "Scalar/Evaluate.h"

#include <map>

using namespace sgpu;
namespace test = sgpu::machinetest;
using ptx::bitsOf;
using ptx::Opcode;
using ptx::Type;

namespace {

constexpr unsigned threads = 50; // the second warp is not full

/// One kernel and what it needs.
struct Case {
  std::string line;
  ptx::Module module; ///< the instruction by itself, as drawn
  scalar::Operation operation;
  bool readsCarry = false, writesCarry = false;
  const ptx::Function &function() const { return module.functions.back(); }
  const ptx::Instruction &instruction() const { return function().instructions[0]; }
};

std::string loadOf(const std::string &name, Type type, unsigned slot) {
  std::string text = "ld.global.u64 %zt, [%zb+" + std::to_string(slot * threads * 8) + "];\n";
  switch (bitsOf(type)) {
  case 1:
    return text + "setp.ne.u64 " + name + ", %zt, 0;\n";
  case 16:
    return text + "cvt.u16.u64 " + name + ", %zt;\n";
  case 32:
    return text + "cvt.u32.u64 %zw, %zt;\nmov.b32 " + name + ", %zw;\n";
  default:
    return text + "mov.b64 " + name + ", %zt;\n";
  }
}
std::string storeOf(const std::string &name, Type type, unsigned slot) {
  std::string text;
  switch (bitsOf(type)) {
  case 1:
    text = "selp.u64 %zt, 1, 0, " + name + ";\n";
    break;
  case 16:
    text = "cvt.u64.u16 %zt, " + name + ";\n";
    break;
  case 32:
    text = "mov.b32 %zw, " + name + ";\ncvt.u64.u32 %zt, %zw;\n";
    break;
  default:
    text = "mov.b64 %zt, " + name + ";\n";
  }
  return text + "st.global.u64 [%zo+" + std::to_string(slot * threads * 8) + "], %zt;\n";
}

std::string kernelOf(const Case &c, const std::string &name) {
  std::string text = ".visible .entry " + name +
                     "(.param .u64 in, .param .u64 out)\n{\n"
                     ".reg .pred %p<8>; .reg .b16 %h<300>; .reg .b32 %r<300>; .reg .b64 %rd<300>;\n"
                     ".reg .f32 %f<300>; .reg .f64 %fd<300>;\n"
                     ".reg .b64 %zt, %zb, %zo; .reg .b32 %zw, %zc;\n"
                     "ld.param.u64 %zb, [in];\nld.param.u64 %zo, [out];\nmov.u32 %zw, %tid.x;\n"
                     "mul.wide.u32 %zt, %zw, 8;\nadd.u64 %zb, %zb, %zt;\nadd.u64 %zo, %zo, %zt;\n";
  const auto &registers = c.function().registers;
  unsigned count = unsigned(registers.size());
  for (unsigned i = 0; i < count; ++i)
    text += loadOf(registers[i].name, registers[i].type, i);
  // The flag is the carry of 0 or 1 plus all ones.
  text += loadOf("%zc", Type::B32, count) + "add.cc.u32 %zc, %zc, 0xffffffff;\n";
  text += c.line + "\n";
  if (c.writesCarry)
    text += "addc.u32 %zc, 0, 0;\n" + storeOf("%zc", Type::B32, count);
  for (unsigned i = 0; i < count; ++i)
    text += storeOf(registers[i].name, registers[i].type, i);
  return text + "ret;\n}\n";
}

/// The rows of one warp: registers in order, then the carry flags.
struct Rows {
  alignas(64) uint64_t words[12][32] = {};
};

void setLane(uint64_t *row, Type type, unsigned lane, uint64_t value) {
  if (type == Type::Pred)
    *reinterpret_cast<uint32_t *>(row) |= uint32_t(value != 0) << lane;
  else if (bitsOf(type) == 64)
    row[lane] = value;
  else
    reinterpret_cast<uint32_t *>(row)[lane] = uint32_t(value);
}
uint64_t lane(const uint64_t *row, Type type, unsigned lane) {
  if (type == Type::Pred)
    return *reinterpret_cast<const uint32_t *>(row) >> lane & 1;
  return bitsOf(type) == 64 ? row[lane] : reinterpret_cast<const uint32_t *>(row)[lane];
}

void runModel(const Case &c, Rows &rows, uint32_t exists) {
  const ptx::Instruction &in = c.instruction();
  const auto &registers = c.function().registers;
  uint32_t active = exists;
  if (in.guard.reg >= 0) {
    uint32_t mask = *reinterpret_cast<uint32_t *>(rows.words[in.guard.reg]);
    active &= in.guard.negated ? ~mask : mask;
  }
  auto operandOf = [&](const scalar::Slot &slot) -> const ptx::Operand * {
    const ptx::Operand &operand = in.operands[size_t(slot.operand)];
    if (operand.kind == ptx::Operand::Pair)
      return &operand.elements[slot.element];
    return slot.element ? nullptr : &operand;
  };
  uint64_t *carry = rows.words[registers.size()];
  static thread_local uint64_t sink[2][32];
  alignas(64) uint64_t copies[scalar::maxSources][32];
  void *d[scalar::maxDestinations];
  const void *s[scalar::maxSources];
  for (unsigned i = 0; i < c.operation.destinations; ++i) {
    const scalar::Slot &slot = c.operation.destination[i];
    const ptx::Operand *operand = slot.operand < 0 ? nullptr : operandOf(slot);
    d[i] = slot.operand < 0                                     ? carry
           : operand && operand->kind == ptx::Operand::Register ? rows.words[operand->index]
                                                                : sink[i];
  }
  for (unsigned i = 0; i < c.operation.sources; ++i) {
    const scalar::Slot &slot = c.operation.source[i];
    if (slot.operand < 0) {
      s[i] = carry;
      continue;
    }
    const ptx::Operand &operand = *operandOf(slot);
    if (operand.kind == ptx::Operand::Immediate) {
      uint64_t value = ptx::immediateAs(operand, slot.type);
      std::memset(copies[i], 0, sizeof copies[i]);
      for (unsigned j = 0; j < 32; ++j)
        setLane(copies[i],
                slot.lane == scalar::Lane::Mask   ? Type::Pred
                : slot.lane == scalar::Lane::Long ? Type::B64
                                                  : Type::B32,
                j, value);
    } else {
      std::memcpy(copies[i], rows.words[operand.index], sizeof copies[i]);
      if (operand.negated)
        *reinterpret_cast<uint32_t *>(copies[i]) ^= ~0u;
    }
    s[i] = copies[i];
  }
  c.operation.run(d, s, active, c.operation.control);
}

/// Whether all operands are registers (whole or parts that video instructions take), constants, sinks.
bool isPlain(const ptx::Instruction &in) {
  for (const ptx::Operand &operand : in.operands)
    if (operand.kind == ptx::Operand::Special || operand.kind == ptx::Operand::Vector ||
        operand.kind == ptx::Operand::Symbol || operand.kind == ptx::Operand::Address)
      return false;
  return true;
}

std::vector<Case> drawCases(unsigned perForm) {
  std::vector<Case> cases;
  ptx::Drawer draw(3);
  for (unsigned o = 1; o <= unsigned(Opcode::Xor); ++o)
    for (const ptx::Form &form : ptx::formsOf(Opcode(o))) {
      if (form.minimumSm > 90)
        continue;
      for (unsigned i = 0; i < perForm; ++i) {
        std::string line = draw.instruction(form);
        if (line.empty())
          continue;
        if (draw.below(2))
          line = (draw.below(2) ? "@%p7 " : "@!%p6 ") + line;
        std::vector<ptx::Diagnostic> diagnostics;
        auto parsed = ptx::parse(ptx::Drawer::prologue() + line + "\n" + ptx::Drawer::epilogue(),
                                 diagnostics);
        if (!parsed) {
          ADD_FAILURE() << line << diagnostics[0].str();
          continue;
        }
        Case c{line, std::move(*parsed), {}, false, false};
        if (!isPlain(c.instruction()))
          continue;
        std::string message;
        c.operation = scalar::find(c.function(), c.instruction(), message);
        if (!c.operation.run)
          continue;
        for (unsigned j = 0; j < c.operation.sources; ++j)
          c.readsCarry |= c.operation.source[j].operand < 0;
        for (unsigned j = 0; j < c.operation.destinations; ++j)
          c.writesCarry |= c.operation.destination[j].operand < 0;
        cases.push_back(std::move(c));
      }
    }
  return cases;
}

TEST(Opcodes, OneInstructionKernelsAgreeWithTheScalarModel) {
  std::vector<Case> cases = drawCases(4);
  EXPECT_GT(cases.size(), 700u);
  std::string text = ".version 9.0\n.target sm_90a\n.address_size 64\n";
  for (size_t i = 0; i < cases.size(); ++i)
    text += kernelOf(cases[i], "k" + std::to_string(i));
  Options options = test::options();
  options.threads = 1;
  test::Gpu gpu(text, options);
  scalar::Values values(9);
  std::map<std::string, unsigned> opcodes;
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case &c = cases[i];
    ++opcodes[std::string(ptx::nameOf(c.instruction().opcode))];
    const auto &registers = c.function().registers;
    size_t slots = registers.size() + 1;
    ASSERT_LT(slots, 12u) << c.line;
    std::vector<uint64_t> in(slots * threads);
    for (size_t r = 0; r < slots; ++r)
      for (unsigned t = 0; t < threads; ++t) {
        Type type = r < registers.size() ? registers[r].type : Type::Pred;
        uint64_t &value = in[r * threads + t];
        bool asFloat = values.random() % 2;
        switch (bitsOf(type)) {
        case 1:
          value = values.random() % 2;
          break;
        case 16:
          value = asFloat ? (values.random() % 2 ? values.f16() : values.bf16()) : values(16);
          break;
        case 32:
          value = asFloat ? values.f32() : values(32);
          break;
        default:
          value = asFloat ? values.f64() : values(64);
        }
      }
    uint64_t inAddress = gpu.upload(in),
             outAddress = gpu.upload(std::vector<uint64_t>(slots * threads));
    Dim3 block{threads, 1, 1}, grid{1, 1, 1};
    gpu.run("k" + std::to_string(i), grid, block, inAddress, outAddress);
    ASSERT_TRUE(gpu.clean()) << c.line;
    std::vector<uint64_t> out = gpu.download<uint64_t>(outAddress, slots * threads);
    for (unsigned first = 0; first < threads; first += 32) {
      Rows rows;
      unsigned lanes = std::min(32u, threads - first);
      for (unsigned t = 0; t < lanes; ++t)
        for (size_t r = 0; r < slots; ++r)
          setLane(rows.words[r], r < registers.size() ? registers[r].type : Type::Pred, t,
                  in[r * threads + first + t]);
      Rows before = rows;
      runModel(c, rows, lanes == 32 ? ~0u : (1u << lanes) - 1);
      for (size_t r = 0; r < slots - !c.writesCarry; ++r) {
        Type type = r < registers.size() ? registers[r].type : Type::Pred;
        for (unsigned t = 0; t < lanes; ++t)
          ASSERT_EQ(out[r * threads + first + t], lane(rows.words[r], type, t))
              << c.line << ": " << (r < registers.size() ? registers[r].name : "carry")
              << " of thread " << first + t << ", before " << std::hex
              << lane(before.words[r], type, t);
      }
    }
  }
  // Every opcode that src/Scalar knows was run.
  for (const char *name :
       {"abs",      "add",       "addc",     "and",   "bfe",  "bfi",      "bfind", "bmsk", "brev",
        "clz",      "cnot",      "copysign", "cos",   "cvt",  "cvt.pack", "div",   "dp2a", "dp4a",
        "ex2",      "fma",       "fns",      "lg2",   "lop3", "mad",      "mad24", "madc", "max",
        "min",      "mov",       "mul",      "mul24", "neg",  "not",      "or",    "popc", "prmt",
        "rcp",      "rem",       "rsqrt",    "sad",   "selp", "set",      "setp",  "shf",  "shl",
        "shr",      "sin",       "slct",     "sqrt",  "sub",  "subc",     "szext", "tanh", "testp",
        "vabsdiff", "vabsdiff4", "vadd",     "vadd4", "vmad", "vset",     "xor"})
    EXPECT_GT(opcodes[name], 0u) << name;
}

} // namespace
