//===- ParserTest.cpp - What the parser makes of PTX text -------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/Parser.h"
#include "Ptx/Printer.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace sgpu::ptx;

namespace {

constexpr const char *header = ".version 8.5\n.target sm_90a\n.address_size 64\n";

Module parseGood(const std::string &text) {
  std::vector<Diagnostic> diagnostics;
  std::optional<Module> module = parse(text, diagnostics);
  EXPECT_TRUE(module.has_value()) << (diagnostics.empty() ? "no module" : diagnostics[0].str())
                                  << "\n"
                                  << text;
  if (!module)
    return {};
  // Whatever parses prints to text of the same meaning.
  std::string printed = print(*module);
  std::optional<Module> again = parse(printed, diagnostics);
  EXPECT_TRUE(again && *again == *module)
      << (diagnostics.empty() ? "" : diagnostics[0].str()) << printed;
  return *module;
}
/// The only function of a module whose body is `body`.
Function body(const std::string &text) {
  Module module =
      parseGood(header + std::string(".visible .entry k(.param .u64 out)\n{\n") + text + "\n}\n");
  return module.functions.empty() ? Function{} : module.functions.back();
}
/// The first error of a text, as `line:column: message`.
std::string errorOf(const std::string &text) {
  std::vector<Diagnostic> diagnostics;
  std::optional<Module> module = parse(text, diagnostics);
  EXPECT_FALSE(module.has_value()) << text;
  if (diagnostics.empty())
    return "no error";
  return std::to_string(diagnostics[0].line) + ":" + std::to_string(diagnostics[0].column) + ": " +
         diagnostics[0].message;
}
/// The error of one instruction.
std::string errorOfInstruction(const std::string &text, const std::string &head = header) {
  std::string error =
      errorOf(head +
              ".visible .entry k()\n{\n.reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<9>; "
              ".reg .b64 %rd<9>; .reg .f32 %f<9>; .reg .f64 %fd<4>;\n" +
              text + "\n}\n");
  return error;
}
#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(Parser, ModuleDirectives) {
  Module m = parseGood(
      ".version 7.8 // comment\n.target sm_80, texmode_independent, debug /* another\n */\n"
      ".address_size 64\n.file 1 \"a b.cu\", 123, 456\n.file 2 \"c.h\"\n.pragma \"nounroll\";\n"
      ".section .debug_abbrev\n{\n.b8 1\n.b8 17 // }\n.b32 Lx\n}\n.section .debug_loc { }\n");
  EXPECT_EQ(m.versionMajor, 7u);
  EXPECT_EQ(m.versionMinor, 8u);
  EXPECT_EQ(m.sm, 80u);
  EXPECT_EQ(m.smSuffix, 0);
  EXPECT_EQ(m.targetOptions, (std::vector<std::string>{"texmode_independent", "debug"}));
  EXPECT_EQ(m.fileName(1), "a b.cu");
  EXPECT_EQ(m.fileName(2), "c.h");
  EXPECT_EQ(m.pragmas, std::vector<std::string>{"nounroll"});
  EXPECT_EQ(parseGood(header).smSuffix, 'a');
}

TEST(Parser, InitialValues) {
  Module m = parseGood(std::string(header) +
                       ".func f(.param .b64 x);\n"
                       ".global .align 8 .u32 a[2][3] = {{1, 2}, {4, 5, 6}};\n"
                       ".const .f32 b[] = {1.5, 0f40000000, -2.0};\n"
                       ".visible .global .b8 c[8] = {0xff, -1, 3};\n"
                       ".global .u64 p[3] = {a, generic(a)+8, f};\n"
                       ".global .b8 bytes[4] = {0xff(a), 0xff00(a), 0xFF0000(generic(a)+4), 9};\n"
                       ".weak .global .v4 .u16 v[2] = {{1, 2, 3, 4}, {5, 6, 7, 8}};\n"
                       ".extern .shared .align 16 .b8 dynamic[];\n"
                       ".common .global .b32 zero;\n"
                       ".global .s64 expression = (1 << 4) + 3 * 2 - (7 > 2 ? 1 : 0);\n"
                       ".global .attribute(.managed) .b64 managed = 0x8000000000000000;\n"
                       ".global .texref t;\n");
  ASSERT_EQ(m.variables.size(), 11u);
  auto words = [](const Variable &v, size_t bytes) {
    std::vector<uint64_t> out;
    for (size_t i = 0; i < v.byteSize() / bytes; ++i) {
      uint64_t x = 0;
      for (size_t b = 0; b < bytes; ++b)
        if (i * bytes + b < v.initializer.size())
          x |= uint64_t(v.initializer[i * bytes + b]) << (8 * b);
      out.push_back(x);
    }
    return out;
  };
  EXPECT_EQ(words(m.variables[0], 4), (std::vector<uint64_t>{1, 2, 0, 4, 5, 6}));
  EXPECT_EQ(m.variables[0].alignment, 8u);
  EXPECT_EQ(m.variables[1].extents, std::vector<uint64_t>{3});
  EXPECT_EQ(words(m.variables[1], 4), (std::vector<uint64_t>{0x3fc00000, 0x40000000, 0xc0000000}));
  EXPECT_EQ(m.variables[1].space, StateSpace::Const);
  EXPECT_EQ(words(m.variables[2], 1), (std::vector<uint64_t>{0xff, 0xff, 3, 0, 0, 0, 0, 0}));
  EXPECT_EQ(m.variables[2].linkage, Linkage::Visible);
  const Variable &p = m.variables[3];
  ASSERT_EQ(p.relocations.size(), 3u);
  EXPECT_EQ(p.relocations[0].symbol, (Symbol{Symbol::ModuleVariable, 0}));
  EXPECT_FALSE(p.relocations[0].generic);
  EXPECT_TRUE(p.relocations[1].generic);
  EXPECT_EQ(p.relocations[1].addend, 8);
  EXPECT_EQ(p.relocations[1].offset, 8u);
  EXPECT_EQ(p.relocations[2].symbol, (Symbol{Symbol::Function, 0}));
  const Variable &bytes = m.variables[4];
  ASSERT_EQ(bytes.relocations.size(), 3u);
  EXPECT_EQ(bytes.relocations[1].shift, 8);
  EXPECT_EQ(bytes.relocations[2].shift, 16);
  EXPECT_TRUE(bytes.relocations[2].generic);
  EXPECT_EQ(bytes.initializer, (std::vector<uint8_t>{0, 0, 0, 9}));
  EXPECT_EQ(words(m.variables[5], 2), (std::vector<uint64_t>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(m.variables[5].alignment, 8u);
  EXPECT_EQ(m.variables[6].byteSize(), 0u);
  EXPECT_EQ(m.variables[6].alignment, 16u);
  EXPECT_EQ(m.variables[7].linkage, Linkage::Common);
  EXPECT_EQ(words(m.variables[8], 8), std::vector<uint64_t>{21});
  EXPECT_TRUE(m.variables[9].managed);
  EXPECT_EQ(words(m.variables[9], 8), std::vector<uint64_t>{uint64_t(1) << 63});
  EXPECT_TRUE(m.variables[10].opaque);
}

TEST(Parser, FunctionsAndDirectives) {
  Module m = parseGood(
      std::string(header) +
      ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n"
      ".func (.reg .b32 %r) add(.reg .b32 %x, .reg .b32 %y) .noreturn\n{ add.s32 %r, %x, %y; ret; "
      "}\n"
      ".visible .entry k(.param .u64 .ptr .global .align 16 p, .param .align 64 .b8 map[128])\n"
      ".reqntid 128, 2\n.maxnreg 64 .minnctapersm 2\n.explicitcluster .reqnctapercluster 2, 1, 1\n"
      "{ ret; }\n.weak .entry w() .maxntid 256 .maxclusterrank 8 { ret; }\n"
      ".func g();\n.func h() { ret; }\n.alias g, h;\n"
      ".func .attribute(.unified(1, 2)) i();\n.func j() .attribute(.unified(3, 4)) .noreturn;\n");
  ASSERT_EQ(m.functions.size(), 8u);
  EXPECT_TRUE(m.functions[0].isDeclaration);
  EXPECT_EQ(m.functions[0].results.size(), 1u);
  const Function &add = m.functions[1];
  EXPECT_TRUE(add.noreturn);
  EXPECT_EQ(add.parameters[1].reg, int32_t(add.instructions[0].operands[2].index));
  EXPECT_EQ(add.results[0].reg, int32_t(add.instructions[0].operands[0].index));
  const Function &k = m.functions[2];
  EXPECT_TRUE(k.isEntry);
  EXPECT_EQ(*k.reqntid, (Dim3{128, 2, 1}));
  EXPECT_EQ(*k.maxnreg, 64u);
  EXPECT_EQ(*k.minnctapersm, 2u);
  EXPECT_TRUE(k.explicitcluster);
  EXPECT_EQ(*k.reqnctapercluster, (Dim3{2, 1, 1}));
  EXPECT_TRUE(k.parameters[0].pointer);
  EXPECT_EQ(k.parameters[0].pointerSpace, StateSpace::Global);
  EXPECT_EQ(k.parameters[0].pointerAlignment, 16u);
  EXPECT_EQ(k.parameters[1].alignment, 64u);
  EXPECT_EQ(k.parameters[1].byteSize(), 128u);
  EXPECT_EQ(*m.functions[3].maxntid, (Dim3{256, 1, 1}));
  EXPECT_EQ(m.aliases, (std::vector<Alias>{{4, 5}}));
  EXPECT_TRUE(m.functions[7].noreturn);
}

TEST(Parser, Operands) {
  Function f = body(
      ".reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<9>; .reg .v4 .f32 %v;\n"
      ".reg .f64 %fd<2>; .shared .align 4 .b8 s[64];\n"
      "@!%p1 setp.lt.and.f32 %p0|_, %f0, 0f3F800000, !%p1;\n"
      "ld.global.v4.f32 {%f0, %f1, _, %f3}, [%rd1+-16];\n"
      "mov.u32 %r1, %ctaid.y;\n"
      "mov.u64 %rd2, s+8;\n"
      "ld.shared.b32 {%r2}, [ s + 4 ];\n"
      "mov.f32 %f4, %v.y;\n"
      "mov.b64 %rd3, {%r1, %r2};\n"
      "add.s32 %r1, %r2, WARP_SZ-1;\n"
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%rd1], [%rd2, {%r1, %r2}], [%rd3];\n"
      "mov.u32 %r1, %envreg31;\n"
      "shfl.sync.idx.b32 %r1|%p2, %r2, 0, 0x1f, 0xffffffff;\n"
      "vadd.s32.u32.s32 %r1, %r2.b3, %r2.h1;\n"
      "mov.f64 %fd0, 1.5;\n"
      "ret;");
  ASSERT_EQ(f.instructions.size(), 14u);
  const Instruction &setp = f.instructions[0];
  EXPECT_TRUE(setp.guard.negated);
  EXPECT_EQ(f.registers[size_t(setp.guard.reg)].name, "%p1");
  EXPECT_EQ(setp.operands[0].kind, Operand::Pair);
  EXPECT_EQ(setp.operands[0].elements[1].kind, Operand::Sink);
  EXPECT_EQ(setp.operands[2].immediate, Operand::ImmediateKind::F32);
  EXPECT_EQ(setp.operands[2].bits, 0x3f800000u);
  EXPECT_TRUE(setp.operands[3].negated);
  EXPECT_EQ(setp.type(), Type::F32);
  EXPECT_TRUE(setp.has(Modifier::Lt) && setp.has(Modifier::And));
  const Instruction &ld = f.instructions[1];
  EXPECT_EQ(ld.vector, 4);
  EXPECT_EQ(ld.space(), StateSpace::Global);
  EXPECT_EQ(ld.operands[0].elements[2].kind, Operand::Sink);
  EXPECT_EQ(ld.operands[1].offset, -16);
  EXPECT_EQ(f.instructions[2].operands[1].special, SpecialRegister::Ctaid);
  EXPECT_EQ(f.instructions[2].operands[1].component, Component::Y);
  EXPECT_EQ(f.instructions[3].operands[1].symbol, (Symbol{Symbol::LocalVariable, 0}));
  EXPECT_EQ(f.instructions[3].operands[1].offset, 8);
  EXPECT_EQ(f.instructions[4].operands[0].kind, Operand::Register);
  EXPECT_EQ(f.instructions[4].operands[1].base, Operand::Base::Symbol);
  EXPECT_EQ(f.instructions[5].operands[1].component, Component::Y);
  EXPECT_EQ(f.instructions[6].operands[1].elements.size(), 2u);
  EXPECT_EQ(f.instructions[7].operands[2].bits, 31u);
  const Instruction &tensor = f.instructions[8];
  EXPECT_EQ(tensor.opcode, Opcode::CpAsyncBulkTensor);
  EXPECT_EQ(tensor.operands[1].elements.size(), 2u);
  EXPECT_EQ(tensor.spaces,
            (std::vector<StateSpace>{StateSpace::SharedCluster, StateSpace::Global}));
  EXPECT_EQ(f.instructions[9].operands[1].special, SpecialRegister::Envreg);
  EXPECT_EQ(f.instructions[9].operands[1].index, 31u);
  EXPECT_EQ(f.instructions[11].operands[1].component, Component::B3);
  EXPECT_EQ(f.instructions[12].operands[1].bits, 0x3ff8000000000000u);
}

// A name of an inner scope hides the outer one; the flattened function keeps both apart.
TEST(Parser, ScopesAreFlattened) {
  Function f =
      body(".reg .b32 %r<3>; .reg .b32 %x;\nmov.b32 %x, 1;\n"
           "{ .reg .b64 %x; mov.b64 %x, 2; L: bra L; }\n"
           "{ .reg .b16 %x; .param .b32 p; mov.b16 %x, 3; L: bra L; { .param .b64 p; bra L; } }\n"
           "mov.b32 %x, %r2; bra M; M: ret;");
  ASSERT_EQ(f.registers.size(), 4u);
  EXPECT_EQ(f.registers[0].name, "%x");
  EXPECT_EQ(f.registers[1].name, "%x$1");
  EXPECT_EQ(f.registers[1].type, Type::B64);
  EXPECT_EQ(f.registers[2].name, "%x$2");
  EXPECT_EQ(f.registers[3].name, "%r2");
  ASSERT_EQ(f.labels.size(), 3u);
  EXPECT_EQ(f.labels[1].name, "L$1");
  EXPECT_EQ(f.instructions[4].operands[0].symbol.index, 1u);
  EXPECT_EQ(f.instructions[5].operands[0].symbol.index, 1u);
  EXPECT_EQ(f.variables[1].name, "p$1");
  EXPECT_EQ(f.labels[2].instruction, 8u);
}

// A local name equal to one of the module, before and after it is declared.
TEST(Parser, LocalNamesHideModuleNames) {
  Module m =
      parseGood(std::string(header) + ".global .b32 x;\n.entry k() { .reg .b64 %rd; { .shared .b32 "
                                      "x; mov.u64 %rd, x; } mov.u64 %rd, x; "
                                      ".shared .b32 y; mov.u64 %rd, y; ret; }\n.global .b32 y;\n");
  const Function &f = m.functions[0];
  EXPECT_EQ(f.instructions[0].operands[1].symbol, (Symbol{Symbol::LocalVariable, 0}));
  EXPECT_EQ(f.instructions[1].operands[1].symbol, (Symbol{Symbol::ModuleVariable, 0}));
  EXPECT_EQ(f.instructions[2].operands[1].symbol, (Symbol{Symbol::LocalVariable, 1}));
}

TEST(Parser, RegisterRanges) {
  Function f = body(".reg .b32 %r<3>, %r1<5>;\nmov.b32 %r2, %r14;\nmov.b32 %r0, %r10;");
  EXPECT_EQ(f.registers.size(), 4u);
  // A huge range costs nothing.
  EXPECT_EQ(body(".reg .b32 %r<4000000000>;\nmov.b32 %r3999999999, 1;").registers.size(), 1u);
  EXPECT_HAS(errorOfInstruction("mov.b32 %r9, 1;"), "'%r9' is not declared");
  EXPECT_HAS(errorOfInstruction("mov.b32 %r01, 1;"), "'%r01' is not declared");
}

TEST(Parser, CallsAndTables) {
  Module m =
      parseGood(std::string(header) +
                ".func (.param .b32 r) f(.param .b64 a, .param .b32 b);\n.func g() { ret; }\n"
                ".entry k()\n{\n.reg .b32 %r<4>; .reg .b64 %rd<4>;\n"
                "p: .callprototype (.param .b32 _) _ (.param .b64 _, .param .b32 _) .noreturn;\n"
                "t: .branchtargets a, b;\nfs: .calltargets g;\n"
                "{ .param .b32 r0; .param .b64 a0; .param .b32 a1;\nst.param.b64 [a0+0], %rd1;\n"
                "call.uni (r0), f, (a0, a1);\nld.param.b32 %r1, [r0+0];\n"
                "call (r0), %rd2, (a0, a1), p;\n}\n"
                "call g;\ncall %rd2, (), fs;\nbrx.idx %r1, t;\na: bra.uni b;\nb: ret;\n}\n");
  const Function &k = m.functions[2];
  EXPECT_TRUE(k.callPrototypes[0].noreturn);
  EXPECT_EQ(k.callPrototypes[0].parameters.size(), 2u);
  EXPECT_EQ(k.branchTargets[0].targets, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(k.callTargets[0].targets, std::vector<uint32_t>{1});
  const Instruction &direct = k.instructions[1], &indirect = k.instructions[3],
                    &plain = k.instructions[4];
  ASSERT_EQ(direct.operands.size(), 3u);
  EXPECT_EQ(direct.operands[1].symbol, (Symbol{Symbol::Function, 0}));
  ASSERT_EQ(indirect.operands.size(), 4u);
  EXPECT_EQ(indirect.operands[3].symbol, (Symbol{Symbol::CallPrototype, 0}));
  EXPECT_EQ(plain.operands[0].elements.size() + plain.operands[2].elements.size(), 0u);
  EXPECT_EQ(k.instructions[6].operands[1].symbol, (Symbol{Symbol::BranchTargets, 0}));
}

TEST(Parser, SourceLocations) {
  Function f =
      body(".reg .b32 %r<3>;\n.loc 1 10 3\nmov.b32 %r0, 1;\n.loc 1 20 5\n"
           ".loc 2 7 1, function_name $L__info_string0, inlined_at 1 20 5\nmov.b32 %r1, 1;\n"
           ".loc 1 10 3\nmov.b32 %r2, 1;\n.loc 3 1 1, function_name a+4, inlined_at 9 9 9\nret;");
  ASSERT_EQ(f.instructions.size(), 4u);
  auto at = [&](size_t i) { return f.locations[size_t(f.instructions[i].location)]; };
  EXPECT_EQ(at(0).line, 10u);
  EXPECT_EQ(at(1).file, 2u);
  EXPECT_EQ(f.locations[size_t(at(1).inlinedAt)].line, 20u);
  EXPECT_EQ(at(2), at(0));
  EXPECT_EQ(f.locations[size_t(at(3).inlinedAt)].file, 9u);
  EXPECT_EQ(f.instructions[0].line, 8u);
}

TEST(Parser, ErrorsNamePlaceAndExpectation) {
  EXPECT_EQ(errorOf(""),
            "1:1: expected '.version' at the start of a PTX text, but got the end of the text");
  EXPECT_HAS(errorOf(".version 2.1\n.target sm_90"),
             "1:10: expected a PTX version of 3.0 to 9.x, but got 2.1");
  EXPECT_HAS(errorOf(".version 8.0\n.target compute_90"), "2:9: expected a target such as sm_90a");
  EXPECT_HAS(errorOf(".version 8.0\n.global .b32 x;"), "expected '.target' before '.global'");
  EXPECT_HAS(errorOf(std::string(header) + ".foo 3"), "unknown directive '.foo'");
  EXPECT_HAS(errorOf(std::string(header) + ".global .b32 x = y;"),
             "'y' is not declared before this initialiser");
  EXPECT_HAS(errorOf(std::string(header) + ".global .b32 x; .global .b32 x;"),
             "'x' is declared twice");
  EXPECT_HAS(errorOf(std::string(header) + ".global .b32 x[2] = {1, 2, 3};"),
             "expected at most 2 initial values");
  EXPECT_HAS(errorOf(std::string(header) + ".global .align 3 .b32 x;"),
             "expected an alignment that is a power of two");
  EXPECT_HAS(errorOf(std::string(header) + ".global .bf16 x;"), "expected a fundamental type");
  EXPECT_HAS(errorOf(std::string(header) + ".entry k() { ret;"),
             "expected '}', but got the end of the text");
  EXPECT_HAS(errorOf(std::string(header) + "/* no end"), "comment without an end");
  EXPECT_EQ(errorOfInstruction("foo.b32 %r1;"), "7:1: unknown opcode 'foo'");
  EXPECT_EQ(errorOfInstruction("add.foo.s32 %r1, %r2, %r3;"),
            "7:1: unknown modifier '.foo' of 'add'");
  EXPECT_EQ(errorOfInstruction("add.trans.s32 %r1, %r2, %r3;"),
            "7:1: unknown modifier '.trans' of 'add'");
  EXPECT_HAS(errorOfInstruction("add.sat.u32 %r1, %r2, %r3;"),
             "'add.sat.u32' is no form of 'add'; known are: add sat? s32");
  EXPECT_HAS(errorOfInstruction("add.s32 %r1, %r2;"), "expects 3 operands, but got 2");
  EXPECT_HAS(errorOfInstruction("add.s32 %r1, %rd2, %r3;"),
             "operand 2: is a register of .b64, which does not fit .s32");
  EXPECT_HAS(errorOfInstruction("add.s32 %f1, %r2, %r3;"),
             "operand 1: is a register of .f32, which does not fit .s32");
  EXPECT_HAS(errorOfInstruction("add.f32 %f1, %f2, 1;"),
             "operand 3: is an integer; expected a floating-point constant");
  EXPECT_HAS(errorOfInstruction("add.s32 %r1, %r2, 1.5;"),
             "operand 3: is a floating-point constant; expected an integer");
  EXPECT_HAS(errorOfInstruction("add.s32 5, %r2, %r3;"), "operand 1: expected a register");
  EXPECT_HAS(errorOfInstruction("add.s32 %r1, %tid.x, %r3;"),
             "operand 2: expected a register or a constant");
  EXPECT_HAS(errorOfInstruction("mov.u32 %r1, %tid;"), "expected .x, .y or .z after '%tid'");
  EXPECT_HAS(errorOfInstruction("mov.u32 %r1, %laneid.x;"), "'%laneid' has no components");
  EXPECT_HAS(errorOfInstruction("ld.global.v2.b32 %r1, [%rd1];"),
             "operand 1: expected a vector of 2");
  EXPECT_HAS(errorOfInstruction("ld.global.v4.b64 {%rd1, %rd2, %rd3, %rd4}, [%rd1];"),
             "at most 128 bits");
  EXPECT_HAS(errorOfInstruction("ld.global.b32 %r1, [x];"), "'x' is not declared");
  EXPECT_HAS(errorOfInstruction("ld.global.b32 %r1, [%f1];"),
             "expected an address register of 32 or 64 bits");
  EXPECT_HAS(errorOfInstruction("bra L;"), "'L' is not declared");
  EXPECT_HAS(errorOfInstruction("{ L: ret; } bra L;"), "'L' is not declared");
  EXPECT_HAS(errorOfInstruction("@%r1 ret;"), "expected a predicate register, but got '%r1'");
  EXPECT_HAS(errorOfInstruction("call f;"), "expected a function declared before, or a register");
  EXPECT_HAS(errorOfInstruction("selp.b32 %r1, %r2, %r3, %r4;"),
             "operand 4: is a register of .b32");
  EXPECT_HAS(
      errorOfInstruction(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3}, {%r1,%r2,%r3,%r4}, "
          "{%r1,%r2}, {%f1,%f2,%f3,%f4};"),
      "expects 4 registers of 32 bits for D, but got 3");
  EXPECT_HAS(errorOfInstruction(
                 "mma.sync.aligned.m16n8k12.row.col.f32.bf16.bf16.f32 {%f1}, {%r1}, {%r1}, {%f1};"),
             "is no form of 'mma'");
  EXPECT_HAS(errorOfInstruction("mov.b32 %r1, 0f3F80;"), "expected 8 hexadecimal digits after 0f");
  EXPECT_HAS(errorOfInstruction("mov.b32 %r1, 5/0;"), "division by zero");
  EXPECT_HAS(errorOfInstruction("mov.b32 %r1, 99999999999999999999;"), "at most 64 bits");
}

TEST(Parser, VersionsAndChips) {
  std::string sm80 = ".version 7.8\n.target sm_80\n.address_size 64\n",
              sm90 = ".version 8.5\n.target sm_90\n.address_size 64\n";
  EXPECT_HAS(errorOfInstruction("wgmma.fence.sync.aligned;", sm90),
             "needs PTX 8.0 and sm_90a; the module is PTX 8.5 for sm_90");
  EXPECT_HAS(errorOfInstruction("fence.proxy.async;", sm80),
             "needs PTX 8.0 and sm_90 or later; the module is PTX 7.8 for sm_80");
  EXPECT_HAS(errorOfInstruction("elect.sync %r1|%p1, 1;",
                                ".version 7.8\n.target sm_90\n.address_size 64\n"),
             "needs PTX 8.0");
  EXPECT_HAS(errorOfInstruction("add.bf16 %h1, %h2, %h3;", sm80),
             "needs PTX 7.8 and sm_90 or later");
  parseGood(sm80 + ".entry k() { .reg .b16 %h; fma.rn.bf16 %h, %h, %h, %h; ret; }");
}

// One statement with an error does not hide the next; at most twenty are told.
TEST(Parser, TellsSeveralErrors) {
  std::vector<Diagnostic> diagnostics;
  std::string text =
      std::string(header) +
      ".entry k() {\n.reg .b32 %r<4>;\nfoo %r1;\nadd.s32 %r1, %r2, %r3;\nbar.foo 1;\n}\n";
  EXPECT_FALSE(parse(text, diagnostics));
  ASSERT_EQ(diagnostics.size(), 2u);
  EXPECT_EQ(diagnostics[0].line, 6u);
  EXPECT_EQ(diagnostics[1].line, 8u);
  EXPECT_EQ(diagnostics[1].str(), "line 8:1: unknown modifier '.foo' of 'bar'\n  bar.foo 1;");
  // A wrong first token is an error too.
  diagnostics.clear();
  EXPECT_FALSE(parse(std::string(".<8>;\n") + header, diagnostics));
  EXPECT_EQ(diagnostics.size(), 1u);
  // Braces of vectors do not end the function.
  text =
      std::string(header) +
      ".entry k() {\n.reg .b32 %r<4>;\ntex.2d.v4.u32.s32 {%r1, %r1, %r1, %r1}, [%r1, {%r1, %r2}];\n"
      "{ foo {%r1}; }\nld.foo.v2.u32 {%r1, %r2}, [%r2];\nbar.foo 1;\n}\n.entry l() { zap; }";
  diagnostics.clear();
  EXPECT_FALSE(parse(text, diagnostics));
  ASSERT_EQ(diagnostics.size(), 5u);
  std::vector<unsigned> lines;
  for (const Diagnostic &d : diagnostics)
    lines.push_back(d.line);
  EXPECT_EQ(lines, (std::vector<unsigned>{6, 7, 8, 9, 11}));
  text = std::string(header) + ".entry k() {\n";
  for (int i = 0; i < 50; ++i)
    text += "foo;\n";
  diagnostics.clear();
  EXPECT_FALSE(parse(text + "}", diagnostics));
  EXPECT_EQ(diagnostics.size(), 20u);
}

TEST(Parser, ImmediatesAsTypes) {
  auto literal = [](const char *text) {
    Function f = body(std::string(".reg .b64 %rd;\nmov.b64 %rd, ") + text + ";");
    return f.instructions.empty() ? Operand{} : f.instructions[0].operands[1];
  };
  EXPECT_EQ(immediateAs(literal("-1"), Type::U16), 0xffffu);
  EXPECT_EQ(immediateAs(literal("0x123456789"), Type::B32), 0x23456789u);
  EXPECT_EQ(immediateAs(literal("1.5"), Type::F32), 0x3fc00000u);
  EXPECT_EQ(immediateAs(literal("0f3FC00000"), Type::F64), 0x3ff8000000000000u);
  EXPECT_EQ(immediateAs(literal("-1.5"), Type::F16), 0xbe00u);
  EXPECT_EQ(immediateAs(literal("1.00390625"), Type::BF16), 0x3f80u); // a tie, to even
  EXPECT_EQ(immediateAs(literal("65520.0"), Type::F16), 0x7c00u);
  EXPECT_EQ(immediateAs(literal("6.0e-8"), Type::F16), 1u);
  EXPECT_EQ(immediateAs(literal("0d7ff8000000000000"), Type::F32), 0x7fffffffu);
  EXPECT_EQ(literal("017").bits, 15u);
  EXPECT_EQ(literal("0b101U").bits, 5u);
  EXPECT_EQ(literal("~0").bits, ~uint64_t(0));
  EXPECT_EQ(literal("(-7)/2").bits, uint64_t(-3));
  EXPECT_EQ(literal("1 ? 2 : 3").bits, 2u);
  EXPECT_EQ(literal("0xffffffffffffffff > 1").bits, 1u);
  EXPECT_EQ(literal("-1 > 1").bits, 0u);
}

} // namespace
