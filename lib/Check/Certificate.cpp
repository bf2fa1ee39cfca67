//===- Certificate.cpp - What is proved of a device program ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Check/Certificate.h"
#include "llamac/Check/Passes.h"

#include "dialects/Dist/IR/Dist.h"
#include "llamac/Support/Grid.h"
#include "runtime/include/llrt/ProgramFields.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/SetVector.h"

#include <map>
#include <set>

namespace mlir::llamac {
#define GEN_PASS_DEF_CHECKPASS
#include "llamac/Check/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
namespace field = llrt::field;

/// Checks every program of the module and leaves `llama.certificate`, or says what is wrong
/// and fails.
static LogicalResult certify(ModuleOp module) {
  Builder builder(module.getContext());
  module->removeAttr(kCertificateAttr);
  llvm::SetVector<StringRef> names;
  for (auto program : module.getOps<dist::ProgramOp>())
    names.insert(program.getName());
  if (names.empty())
    return module.emitError("expected a device program: no dist.program");
  SmallVector<Axis> axes = axesOf(module);
  int64_t ranks = 1, stages = 1, gradients = 0;
  for (const Axis &axis : axes)
    ranks *= axis.size;

  std::map<std::pair<int64_t, int>, int64_t> peaks; // stage, arena -> end of what is used
  NamedAttrList programs;
  // Of each rule at most ten, each once.
  auto print = [&](ArrayRef<check::Fault> faults, const Twine &where) {
    std::map<std::string, std::set<std::string>> printed;
    for (const check::Fault &fault : faults)
      if (auto &messages = printed[fault.rule];
          messages.size() < 10 && messages.insert(fault.message).second)
        emitError(UnknownLoc::get(module.getContext()))
            << where << "rule " << fault.rule << ": " << fault.message;
  };
  std::vector<check::Fault> ofModule;
  checkStorage(module, ofModule);
  print(ofModule, "");
  bool holds = ofModule.empty();
  for (StringRef name : names) {
    std::vector<check::Fault> faults;
    FailureOr<check::Program> program = readProgram(module, name, faults);
    if (failed(program))
      return failure();
    check::Certificate certificate = check::checkProgram(*program);
    print(faults, "program '" + name + "', ");
    print(certificate.faults, "program '" + name + "', ");
    holds &= faults.empty() && certificate.faults.empty();
    int64_t actions = 0, calls = 0, most = 0;
    stages = program->classes.size();
    for (auto [stage, cls] : llvm::enumerate(program->classes)) {
      gradients += cls.gradients.size();
      actions += cls.actions.size();
      llvm::DenseSet<int> used;
      for (const check::LaunchedAction &action : cls.actions) {
        for (const check::Call &call : action.calls) {
          used.insert(call.communicator);
          ++calls;
        }
        for (const check::Access &access : action.accesses)
          if (int64_t &peak = peaks[{stage, access.arena}]; peak < access.end)
            peak = access.end;
      }
      most = std::max<int64_t>(most, used.size());
    }
    NamedAttrList of;
    of.set(field::actions, builder.getI64IntegerAttr(actions));
    of.set("communications", builder.getI64IntegerAttr(calls));
    of.set(field::communicators, builder.getI64IntegerAttr(most));
    of.set(field::launchQueue, builder.getI64IntegerAttr(certificate.launchQueue));
    programs.set(name, of.getDictionary(module.getContext()));
  }
  if (!holds)
    return failure();
  SmallVector<Attribute> arenas;
  std::map<int64_t, int> next; // number of an arena on its stage
  for (auto arena : module.getOps<dist::ArenaOp>()) {
    int64_t stage = arena.getStage();
    arenas.push_back(builder.getDictionaryAttr(
        {builder.getNamedAttr("bytes", builder.getI64IntegerAttr(arena.getBytes())),
         builder.getNamedAttr("name", arena.getSymNameAttr()),
         builder.getNamedAttr("peak", builder.getI64IntegerAttr(peaks[{stage, next[stage]++}])),
         builder.getNamedAttr("stage", builder.getI64IntegerAttr(stage))}));
  }
  module->setAttr(
      kCertificateAttr,
      builder.getDictionaryAttr(
          {builder.getNamedAttr("arenas", builder.getArrayAttr(arenas)),
           builder.getNamedAttr("gradient_reductions", builder.getI64IntegerAttr(gradients)),
           builder.getNamedAttr(field::programs, programs.getDictionary(module.getContext())),
           builder.getNamedAttr("rank_classes", builder.getI64IntegerAttr(stages)),
           builder.getNamedAttr("ranks", builder.getI64IntegerAttr(ranks))}));
  return success();
}

void llamac::printCertificate(ModuleOp module, llvm::raw_ostream &os) {
  auto facts = module->getAttrOfType<DictionaryAttr>(kCertificateAttr);
  if (!facts)
    return;
  auto number = [](DictionaryAttr from, StringRef name) {
    auto value = from.getAs<IntegerAttr>(name);
    return value ? value.getInt() : 0;
  };
  os << "checked: " << number(facts, "ranks") << " ranks in " << number(facts, "rank_classes")
     << (number(facts, "rank_classes") == 1 ? " class\n" : " classes\n");
  for (NamedAttribute program : facts.getAs<DictionaryAttr>(field::programs)) {
    auto of = cast<DictionaryAttr>(program.getValue());
    os << "program '" << program.getName().getValue() << "': no deadlock, no race; "
       << number(of, field::actions) << " actions, " << number(of, "communications")
       << " communications on at most " << number(of, field::communicators)
       << " communicators of a rank, launch queue of " << number(of, field::launchQueue) << "\n";
  }
  os << "gradients: reduced once over exactly their axes, in "
     << number(facts, "gradient_reductions") << " pieces\n";
}

namespace {
struct CheckPass : llamac::impl::CheckPassBase<CheckPass> {
  using CheckPassBase::CheckPassBase;
  void runOnOperation() override {
    if (failed(certify(getOperation())))
      signalPassFailure();
  }
};
} // namespace
