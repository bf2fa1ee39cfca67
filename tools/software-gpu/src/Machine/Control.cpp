//===- Control.cpp - Branches, calls, ends ----------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Decoders.h"
#include "Machine/Launch.h"
#include "Machine/Module.h"
#include "Machine/Print.h"
#include "Machine/Warp.h"

#include <cstring>

using namespace sgpu;
using M = ptx::Modifier;
using O = ptx::Opcode;

//===----------------------------------------------------------------------===//
// Branches
//===----------------------------------------------------------------------===//

static Step runBra(Warp &w, const Instruction &in) {
  w.branch(in, w.active, in.target);
  return Step::Jump;
}

static void decodeBra(DecodeContext &c) {
  const ptx::Operand &target = c.ast.operands[0];
  if (target.kind != ptx::Operand::Symbol || target.symbol.kind != ptx::Symbol::Label)
    c.fail("expects a label");
  c.in.target = c.function.ast->labels[target.symbol.index].instruction;
  c.in.execute = runBra;
}

namespace {
struct Targets {
  std::vector<uint32_t> code;
};
} // namespace

static Step runBrx(Warp &w, const Instruction &in) {
  const auto &targets = *static_cast<const Targets *>(in.extra);
  // One index after the other; lanes with other indices come back here.
  uint32_t rest = w.active,
           first = uint32_t(w.value(in.operands[0], unsigned(std::countr_zero(rest))));
  uint32_t same = 0;
  forLanes(rest, [&](unsigned lane) {
    if (uint32_t(w.value(in.operands[0], lane)) == first)
      same |= 1u << lane;
  });
  if (first >= targets.code.size()) {
    w.report(Check::Argument, unsigned(std::countr_zero(same)), in,
             "index " + std::to_string(first) + " of a table of " +
                 std::to_string(targets.code.size()) + " branch targets");
    w.block.launch.fail(Check::Argument);
    first = 0;
  }
  if (same == w.group->lanes) {
    w.group->pc = targets.code[first];
  } else {
    w.splitOff(same, targets.code[first], in.meet);
  }
  return Step::Jump;
}

static void decodeBrx(DecodeContext &c) {
  Targets targets;
  for (uint32_t label : c.function.ast->branchTargets[c.ast.operands[1].symbol.index].targets)
    targets.code.push_back(c.function.ast->labels[label].instruction);
  c.operands({c.source(c.ast.operands[0], ptx::Type::U32)});
  c.extra(std::move(targets));
  c.in.splits = true;
  c.in.execute = runBrx;
}

//===----------------------------------------------------------------------===//
// Ends
//===----------------------------------------------------------------------===//

static Step runExit(Warp &w, const Instruction &in) {
  w.exitLanes(in);
  return Step::Jump;
}

static void decodeExit(DecodeContext &c) {
  c.in.splits = true;
  c.in.execute = runExit;
}

static Step runTrap(Warp &w, const Instruction &in) {
  w.report(Check::Trap, unsigned(std::countr_zero(w.active)), in, "the kernel traps");
  w.block.launch.fail(Check::Trap);
  w.exitLanes(in);
  return Step::Jump;
}

static void decodeTrap(DecodeContext &c) {
  c.in.splits = true;
  c.in.execute = runTrap;
}

static Step runNothing(Warp &, const Instruction &) { return Step::Next; }
static void decodeNothing(DecodeContext &c) {
  for (const ptx::Operand &op : c.ast.operands)
    c.source(op, ptx::Type::U32);
  c.in.execute = runNothing;
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

namespace {
/// A value that is passed: between .param variables, or registers.
struct Pass {
  bool param = false;
  uint32_t from = 0, to = 0, bytes = 0; // offsets in the frames' params
  Operand value;                        // else: of the caller's frame
  Operand formal;                       // of the callee's frame
};
constexpr uint64_t frameParam = uint64_t(1) << 40;
} // namespace

/// Fills what a call passes, when it happens: the callee may be known only then.
static std::vector<Pass>
passes(const Function &caller, const Function &callee, const std::vector<ptx::Operand> &actual,
       const std::vector<ptx::Variable> &formal, const std::vector<uint32_t> &formalOffsets,
       const std::vector<uint32_t> &variableOffsets, const std::vector<Operand> &values) {
  std::vector<Pass> list;
  for (size_t i = 0; i < formal.size() && i < actual.size(); ++i) {
    Pass p;
    if (formal[i].reg >= 0) {
      const ptx::Register &r = callee.ast->registers[unsigned(formal[i].reg)];
      uint32_t row = callee.registerRow[unsigned(formal[i].reg)];
      p.formal =
          r.type == ptx::Type::Pred
              ? Operand{Operand::Predicate, 0, false, row}
              : Operand{Operand::Register, uint8_t(std::max(4u, ptx::bytesOf(r.type))), false, row};
      p.value = values[i];
    } else {
      p.param = true;
      p.bytes = uint32_t(formal[i].byteSize());
      p.to = formalOffsets[i];
      p.from = variableOffsets[i];
    }
    list.push_back(p);
  }
  return list;
}

static void copyParams(Frame &to, Frame &from, uint32_t toOffset, uint32_t fromOffset,
                       uint32_t bytes, uint32_t lanes) {
  uint32_t toStride = to.function->paramBytes, fromStride = from.function->paramBytes;
  forLanes(lanes, [&](unsigned lane) {
    std::memcpy(&to.params[size_t(lane) * toStride + toOffset],
                &from.params[size_t(lane) * fromStride + fromOffset], bytes);
  });
}

static void copyRow(Frame &to, Operand target, const uint32_t *source, uint32_t sourceBytes,
                    uint32_t lanes) {
  uint32_t *row = &to.rows[target.row * 32];
  forLanes(lanes, [&](unsigned lane) {
    if (target.bytes == 8)
      reinterpret_cast<uint64_t *>(row)[lane] =
          sourceBytes == 8 ? reinterpret_cast<const uint64_t *>(source)[lane] : source[lane];
    else
      row[lane] = sourceBytes == 8 ? uint32_t(reinterpret_cast<const uint64_t *>(source)[lane])
                                   : source[lane];
  });
}

namespace {
/// What a call needs of its site, kept with the instruction.
struct CallSite {
  std::vector<ptx::Operand> arguments, results;       // as written
  std::vector<Operand> argumentValues, resultValues;  // registers, where not .param
  std::vector<uint32_t> argumentParams, resultParams; // offsets, where .param
  Operand target;                                     // indirect
};
} // namespace

static void enterCall(Warp &w, const Instruction &in, const CallSite &site,
                      const Function &callee) {
  const Function &caller = *w.frame->function;
  std::shared_ptr<Frame> frame = w.makeFrame(callee, w.active, w.group->frame);
  frame->returnTo = in.index + 1;
  frame->call = &in;
  for (const Pass &p : passes(caller, callee, site.arguments, callee.ast->parameters,
                              callee.parameterOffsets, site.argumentParams, site.argumentValues)) {
    if (p.param) {
      copyParams(*frame, *w.frame, p.to, p.from, p.bytes, w.active);
    } else if (p.formal.base == Operand::Predicate) {
      frame->predicates[p.formal.row] = w.predicate(p.value);
      frame->defined[callee.definedIndex(p.formal)] |= w.active;
    } else {
      copyRow(*frame, p.formal, w.u32(p.value), p.value.bytes, w.active);
      frame->defined[callee.definedIndex(p.formal)] |= w.active;
    }
  }
  w.group->frame = std::move(frame);
  w.group->pc = 0;
  w.enter(*w.group);
}

static const Function *functionAt(const Launch &launch, uint64_t address) {
  uint64_t index = address & ~window::mask;
  if ((address & window::mask) != functionWindow || index >= launch.program.functions.size())
    return nullptr;
  return launch.program.functions[index].get();
}

static Step runCall(Warp &w, const Instruction &in) {
  const auto &site = *static_cast<const CallSite *>(in.extra);
  const Launch &launch = w.block.launch;
  const Function *callee = nullptr;
  if (!site.target) {
    callee = launch.program.functions[in.target].get();
  } else {
    uint64_t first = w.value(site.target, unsigned(std::countr_zero(w.active)));
    uint32_t same = 0;
    forLanes(w.active, [&](unsigned lane) {
      if (w.value(site.target, lane) == first)
        same |= 1u << lane;
    });
    if (same != w.group->lanes) { // lanes that call other functions come back here
      w.splitOff(same, w.group->pc, in.index + 1);
      return Step::Jump;
    }
    callee = functionAt(launch, first);
    if (!callee || callee->ast->parameters.size() != site.arguments.size()) {
      w.report(Check::Argument, unsigned(std::countr_zero(w.active)), in,
               callee ? "calls " + callee->name + " with " + std::to_string(site.arguments.size()) +
                            " arguments, it has " + std::to_string(callee->ast->parameters.size())
                      : "calls an address that is not a function's");
      w.block.launch.fail(Check::Argument);
      w.exitLanes(in);
      return Step::Jump;
    }
  }
  enterCall(w, in, site, *callee);
  return Step::Jump;
}

namespace sgpu {
/// ret; the end of a function without one. At the entry: exit.
Step runReturn(Warp &w, const Instruction &in) {
  std::shared_ptr<Frame> frame = w.group->frame;
  if (!frame->caller) {
    w.exitLanes(in);
    return Step::Jump;
  }
  // Splits inside of the function are left behind.
  size_t keep = w.group->splits.size();
  while (keep && w.group->splits[keep - 1]->frame == frame)
    --keep;
  w.leaveSplits(*w.group, keep);
  const auto &site = *static_cast<const CallSite *>(frame->call->extra);
  const Function &callee = *frame->function;
  w.group->frame = frame->caller;
  w.group->pc = frame->returnTo;
  w.enter(*w.group);
  uint32_t lanes = w.group->lanes;
  for (const Pass &p : passes(*w.frame->function, callee, site.results, callee.ast->results,
                              callee.resultOffsets, site.resultParams, site.resultValues)) {
    if (p.param) {
      copyParams(*w.frame, *frame, p.from, p.to, p.bytes, lanes);
      continue;
    }
    uint32_t index = w.frame->function->definedIndex(p.value);
    uint32_t defined = frame->defined[callee.definedIndex(p.formal)] & lanes;
    w.frame->defined[index] = (w.frame->defined[index] & ~lanes) | defined;
    if (p.formal.base == Operand::Predicate) {
      uint32_t &to = w.frame->predicates[p.value.row];
      to = (to & ~lanes) | (frame->predicates[p.formal.row] & lanes);
    } else {
      copyRow(*w.frame, p.value, &frame->rows[p.formal.row * 32], p.formal.bytes, lanes);
    }
  }
  return Step::Jump;
}
} // namespace sgpu

static void decodeRet(DecodeContext &c) {
  c.in.splits = true;
  c.in.execute = runReturn;
}

//===----------------------------------------------------------------------===//
// Functions of the system
//===----------------------------------------------------------------------===//

/// A parameter of the frame as a number.
static uint64_t paramValue(const Frame &frame, uint32_t offset, uint32_t bytes, unsigned lane) {
  uint64_t value = 0;
  std::memcpy(&value, &frame.params[size_t(lane) * frame.function->paramBytes + offset], bytes);
  return value;
}

static std::string readString(Warp &w, unsigned lane, const Instruction &in, uint64_t address) {
  std::string text;
  for (unsigned i = 0; i < 65536; ++i) {
    char c = 0;
    if (!w.block.read(w.actor(lane, in), Space::Generic, address + i, 1, &c, 1) || !c)
      break;
    text += c;
  }
  return text;
}

/// int vprintf(const char *format, void *arguments)
static Step runVprintf(Warp &w, const Instruction &in) {
  const auto &site = *static_cast<const CallSite *>(in.extra);
  forLanes(w.active, [&](unsigned lane) {
    auto argument = [&](size_t i) {
      return site.argumentValues[i] ? w.value(site.argumentValues[i], lane)
                                    : paramValue(*w.frame, site.argumentParams[i], 8, lane);
    };
    std::string format = readString(w, lane, in, argument(0));
    uint64_t list = argument(1), at = 0;
    auto next = [&](unsigned bytes) {
      at = (at + bytes - 1) / bytes * bytes;
      uint64_t value = 0;
      w.block.read(w.actor(lane, in), Space::Generic, list + at, bytes, &value, bytes);
      at += bytes;
      return value;
    };
    std::string text = formatPrint(
        format, next, [&](uint64_t address) { return readString(w, lane, in, address); });
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
    std::lock_guard lock(w.block.launch.mutex);
    w.block.launch.output.push_back(text);
    uint32_t count = uint32_t(text.size());
    if (!site.resultParams.empty() && !site.resultValues[0])
      std::memcpy(
          &w.frame->params[size_t(lane) * w.frame->function->paramBytes + site.resultParams[0]],
          &count, 4);
  });
  return Step::Next;
}

/// void __assertfail(const char *message, const char *file, unsigned line, const char *function, size_t)
static Step runAssertFail(Warp &w, const Instruction &in) {
  const auto &site = *static_cast<const CallSite *>(in.extra);
  unsigned lane = unsigned(std::countr_zero(w.active));
  auto argument = [&](size_t i, uint32_t bytes) {
    return site.argumentValues[i] ? w.value(site.argumentValues[i], lane)
                                  : paramValue(*w.frame, site.argumentParams[i], bytes, lane);
  };
  std::string message = "assertion failed: " + readString(w, lane, in, argument(0, 8)) + ", " +
                        readString(w, lane, in, argument(1, 8)) + ":" +
                        std::to_string(argument(2, 4)) + ", " +
                        readString(w, lane, in, argument(3, 8));
  w.report(Check::Trap, lane, in, message);
  w.block.launch.fail(Check::Trap);
  w.exitLanes(in);
  return Step::Jump;
}

static void decodeCall(DecodeContext &c) {
  CallSite site;
  site.results = c.ast.operands[0].elements;
  site.arguments = c.ast.operands[2].elements;
  auto split = [&](const std::vector<ptx::Operand> &list, std::vector<Operand> &values,
                   std::vector<uint32_t> &params, bool result) {
    for (const ptx::Operand &op : list) {
      bool param = op.kind == ptx::Operand::Symbol;
      values.push_back(param                                     ? Operand()
                       : result || op.kind == ptx::Operand::Sink ? c.destination(op)
                                                                 : c.source(op, ptx::Type::B64));
      params.push_back(0);
      if (param) {
        std::optional<uint64_t> address = c.paramAddress(op);
        if (!address || !(*address & frameParam))
          c.fail("passes a name that is not a .param variable of the function");
        params.back() = uint32_t(*address & ~frameParam) + uint32_t(op.offset);
      }
    }
  };
  split(site.arguments, site.argumentValues, site.argumentParams, false);
  split(site.results, site.resultValues, site.resultParams, true);
  const ptx::Operand &target = c.ast.operands[1];
  c.in.splits = true;
  c.in.execute = runCall;
  if (target.kind == ptx::Operand::Symbol && target.symbol.kind == ptx::Symbol::Function) {
    const ptx::Module &module = *c.function.module;
    uint32_t index = target.symbol.index;
    for (const ptx::Alias &alias : module.aliases)
      if (alias.alias == index)
        index = alias.aliasee;
    const ptx::Function &f = module.functions[index];
    if (f.parameters.size() != site.arguments.size() || f.results.size() != site.results.size())
      c.fail("passes " + std::to_string(site.arguments.size()) + " arguments and takes " +
             std::to_string(site.results.size()) + " results; " + f.name + " has " +
             std::to_string(f.parameters.size()) + " and " + std::to_string(f.results.size()));
    c.in.target = index;
    if (f.isDeclaration) {
      if (f.name == "vprintf" && f.parameters.size() == 2) {
        c.in.execute = runVprintf;
        c.in.splits = false;
      } else if (f.name == "__assertfail" && f.parameters.size() >= 4) {
        c.in.execute = runAssertFail;
      } else {
        c.fail("calls " + f.name + ", which the module only declares");
      }
    }
  } else {
    site.target = c.source(target, ptx::Type::U64);
  }
  c.extra(std::move(site));
}

//===----------------------------------------------------------------------===//
// Stack
//===----------------------------------------------------------------------===//

static Step runStacksave(Warp &w, const Instruction &in) {
  forLanes(w.active, [&](unsigned lane) {
    if (in.operands[0].bytes == 8)
      w.u64(in.operands[0])[lane] = w.frame->localTop;
    else
      w.u32(in.operands[0])[lane] = w.frame->localTop;
  });
  return Step::Next;
}

static Step runStackrestore(Warp &w, const Instruction &in) {
  w.frame->localTop = uint32_t(w.value(in.operands[0], unsigned(std::countr_zero(w.active))));
  return Step::Next;
}

/// All lanes get the largest size that one of them asks for: they share the frame.
static Step runAlloca(Warp &w, const Instruction &in) {
  uint64_t most = 0;
  forLanes(w.active, [&](unsigned lane) { most = std::max(most, w.value(in.operands[1], lane)); });
  uint32_t alignment = std::max<uint32_t>(16, uint32_t(in.address.offset));
  uint64_t start = (uint64_t(w.frame->localTop) + alignment - 1) / alignment * alignment;
  if (most > (1u << 19)) {
    w.report(Check::OutOfBounds, unsigned(std::countr_zero(w.active)), in,
             "takes " + std::to_string(most) + " bytes of the stack, a thread has 512 KiB");
    w.block.launch.fail(Check::OutOfBounds);
    most = 0;
  }
  w.frame->localTop = uint32_t(start + most);
  w.growLocal(w.frame->localTop);
  forLanes(w.active, [&](unsigned lane) {
    if (most)
      std::memset(&w.localState[size_t(lane) * w.localStride + start], 0, most);
    if (in.operands[0].bytes == 8)
      w.u64(in.operands[0])[lane] = start;
    else
      w.u32(in.operands[0])[lane] = uint32_t(start);
  });
  return Step::Next;
}

static void decodeStack(DecodeContext &c) {
  ptx::Type type = c.ast.type() == ptx::Type::None ? ptx::Type::U64 : c.ast.type();
  switch (c.ast.opcode) {
  case O::Stacksave:
    c.operands({c.destination(c.ast.operands[0])});
    c.in.execute = runStacksave;
    break;
  case O::Stackrestore:
    c.operands({c.source(c.ast.operands[0], type)});
    c.in.execute = runStackrestore;
    break;
  default: {
    Operand size = c.source(c.ast.operands[1], type);
    c.operands({c.destination(c.ast.operands[0]), size});
    if (c.ast.operands.size() > 2)
      c.in.address.offset = c.immediate(c.ast.operands[2]);
    c.in.execute = runAlloca;
  }
  }
}

static const RegisterDecoders control({{O::Bra, decodeBra},
                                       {O::BrxIdx, decodeBrx},
                                       {O::Exit, decodeExit},
                                       {O::Ret, decodeRet},
                                       {O::Trap, decodeTrap},
                                       {O::Brkpt, decodeTrap},
                                       {O::Call, decodeCall},
                                       {O::Alloca, decodeStack},
                                       {O::Stacksave, decodeStack},
                                       {O::Stackrestore, decodeStack},
                                       {O::Nanosleep, decodeNothing},
                                       {O::Pmevent, decodeNothing}});
