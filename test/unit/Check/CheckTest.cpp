//===- CheckTest.cpp - The check of programs that the compiler made -------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Small models on small grids are compiled as far as the device program and read back
// as launch lists. All of them are proved, and faults that are put into them are found.
// What counts as a fault is decided by the interpreter of unit/Rules/Mutations.h.
//
//===----------------------------------------------------------------------===//
#include "../Rules/Mutations.h"

#include "dialects/Dist/IR/Dist.h"
#include "llamac/Check/Certificate.h"
#include "llamac/Driver/Pipeline.h"
#include "llamac/Import/BuildModel.h"
#include "llamac/Import/ModelConfig.h"
#include "tools/llama-opt/Register.h"

#include "mlir/IR/Verifier.h"
#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>

using namespace mlir;
using namespace mlir::llamac;
using testing::Contains;
using testing::HasSubstr;

namespace {

struct Case {
  const char *grid;
  int64_t microBatches;
  const char *schedule = "1f1b", *fsdp = "none", *encoder = "replicated", *shard = "images",
             *axes = "tp,cp,pp";
  int64_t group = 1, chunks = 1;
};

MLIRContext &context() {
  static MLIRContext *made = [] {
    DialectRegistry registry;
    registerToolDialects(registry);
    return new MLIRContext(registry, MLIRContext::Threading::DISABLED);
  }();
  return *made;
}

/// The device program of the small model.
OwningOpRef<ModuleOp> compile(const Case &c) {
  auto config = findModelConfig(LLRT_TEST_DATA_DIR "/small.json");
  if (!config) {
    ADD_FAILURE() << llvm::toString(config.takeError());
    return {};
  }
  OwningOpRef<ModuleOp> module = buildModel(*config, &context());
  CompileOptions options;
  options.textLength = 16;
  options.microBatches = c.microBatches;
  options.lower = "reference";
  options.grid = c.grid;
  options.fsdp = c.fsdp;
  options.schedule = c.schedule;
  options.virtualStages = c.chunks;
  options.encoder = c.encoder;
  options.encoderShard = c.shard;
  options.encoderAxes = c.axes;
  options.encoderGroup = c.group;
  recordOptions(*module, options);
  PassManager pm(&context());
  pm.enableVerifier(false);
  buildPipeline(pm, options, Step::Import, Step::Lower);
  EXPECT_TRUE(succeeded(pm.run(*module))) << c.grid;
  EXPECT_TRUE(succeeded(verify(*module))) << c.grid;
  return module;
}

std::string faultsOf(ArrayRef<check::Fault> faults) {
  std::string text;
  for (const check::Fault &fault : faults)
    text += fault.rule + ": " + fault.message + "\n";
  return text;
}

const Case kCases[] = {
    {"tp=1", 2},
    {"pp=2", 2},
    {"pp=2,dp=2", 3, "zero-bubble", "gradients"},
    {"tp=2,pp=2", 2, "gpipe", "none", "first-stage", "images", "tp"},
    {"tp=2,cp=2,pp=2", 4, "1f1b", "none", "replicated", "images", "tp,pp", 4},
    {"tp=2,pp=2,dp=2", 2, "1f1b", "parameters", "replicated", "tokens", "tp,pp"},
    {"pp=2,dp=2", 4, "interleaved", "optimizer", "replicated", "images", "pp", 2, 2},
};

check::Program programOf(const Case &c, StringRef name) {
  static std::map<const Case *, OwningOpRef<ModuleOp>> compiled;
  OwningOpRef<ModuleOp> &module = compiled[&c];
  if (!module)
    module = compile(c);
  std::vector<check::Fault> faults;
  FailureOr<check::Program> program =
      readProgram(*module, name, *llvm::cantFail(makeTarget({})), faults);
  EXPECT_TRUE(succeeded(program) && faults.empty()) << c.grid << ": " << faultsOf(faults);
  return succeeded(program) ? std::move(*program) : check::Program();
}

// For messages: an action names the layer that it comes from, or the gradients.
TEST(Check, ActionsSayWhatTheyBelongTo) {
  check::Program program = programOf(kCases[3], "step"); // tp and pp of 2
  std::vector<std::string> first, last;
  for (const check::LaunchedAction &action : program.classes[0].actions)
    first.push_back(action.location);
  for (const check::LaunchedAction &action : program.classes[1].actions)
    last.push_back(action.location);
  auto gathers = [](const std::string &layer) {
    return Contains(HasSubstr("forward 1: all_gather @tp, " + layer));
  };
  EXPECT_THAT(first, gathers("self_layer of language_model.model.layers.0"));
  EXPECT_THAT(last, gathers("head of language_model"));
  EXPECT_THAT(last, Contains(HasSubstr("all_reduce @tp, gradient of language_model.")));
}

// No false alarm, and the interpreter sees the same in every order, also with the launch
// queue that the certificate names.
TEST(Check, CompiledProgramsAreProved) {
  std::mt19937 random(1);
  for (const Case &c : kCases)
    for (const char *name : {"step", "forward"}) {
      check::Program program = programOf(c, name);
      check::Certificate certificate = check::checkProgram(program);
      ASSERT_TRUE(certificate) << c.grid << ", " << name << ":\n" << faultsOf(certificate.faults);
      check::Outcome one = check::interpret(program, random);
      check::Outcome other = check::interpret(program, random, certificate.launchQueue);
      EXPECT_FALSE(one.hangs || other.hangs) << c.grid;
      EXPECT_EQ(one.written, other.written) << c.grid;
    }
}

// Nine kinds of fault in programs of the compiler: what hangs, races or gives other values in
// one of a few random orders is found, and so is what breaks a rule whatever the order.
TEST(Check, MutationsAreFound) {
  std::mt19937 random(7);
  std::vector<check::Program> programs;
  std::vector<check::Outcome> wants;
  for (const Case &c : ArrayRef(kCases).drop_front()) { // the first has no other rank
    programs.push_back(programOf(c, "step"));
    wants.push_back(check::interpret(programs.back(), random));
  }
  int counted[check::kMutationKinds] = {}, total = 0, refused = 0, missed = 0;
  for (int trial = 0; trial < 400; ++trial) {
    size_t number = random() % programs.size();
    check::Program program = programs[number];
    int kind = trial % check::kMutationKinds;
    if (!check::mutate(program, kind, random))
      continue;
    check::Certificate certificate = check::checkProgram(program);
    bool broken = kind == 2 || kind == 5; // types and counts that differ break R1
    for (int order = 0; order < 3 && !broken; ++order) {
      check::Outcome got = check::interpret(program, random);
      broken = got.hangs || got.written != wants[number].written;
    }
    if (!broken) {
      refused += !certificate;
      continue;
    }
    ++counted[kind], ++total;
    missed += bool(certificate);
    EXPECT_FALSE(certificate) << check::kMutations[kind] << ", trial " << trial << ", grid "
                              << kCases[number + 1].grid;
  }
  EXPECT_GE(total, 200);
  for (int kind = 0; kind < check::kMutationKinds; ++kind)
    EXPECT_GE(counted[kind], 3) << check::kMutations[kind];
  std::printf("%d mutants counted, %d missed; %d more refused by rule\n", total, missed, refused);
  for (int kind = 0; kind < check::kMutationKinds; ++kind)
    std::printf("  %s: %d\n", check::kMutations[kind], counted[kind]);
}

} // namespace
