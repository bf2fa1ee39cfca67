//===- Certificate.cpp - What is proved of a device program ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Check/Certificate.h"
#include "llamac/Check/Passes.h"

#include "dialects/Dist/IR/Dist.h"
#include "llamac/Lower/Reserves.h"
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

/// The end of what is used, by stage and number of the arena on it.
using Peaks = std::map<std::pair<int64_t, int>, int64_t>;

/// Executables allocate what a program says that it needs: all that it uses, and of the arenas of
/// parameters and their state all or nothing, as they are loaded and saved. Says so where that
/// is not what it says.
static void checkNeeds(ModuleOp module, StringRef name, const Peaks &used,
                       std::vector<check::Fault> &faults) {
  llvm::DenseSet<Attribute> state;
  for (auto place : module.getOps<dist::StorageOp>())
    for (std::optional<dist::AddressAttr> address :
         {std::optional(place.getAddress()), place.getMaster(), place.getGradient(),
          place.getMoment1(), place.getMoment2(), place.getGradientSum()})
      if (address)
        state.insert(address->getArena());
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (program.getName() != name)
      continue;
    llvm::DenseMap<Attribute, int64_t> ends;
    ArrayAttr needs = program.getNeedsAttr();
    for (Attribute end : needs ? needs.getValue() : ArrayRef<Attribute>())
      ends[cast<dist::AddressAttr>(end).getArena()] = cast<dist::AddressAttr>(end).getOffset();
    const int64_t stage = program.getStage();
    int number = 0;
    for (auto arena : module.getOps<dist::ArenaOp>()) {
      if (int64_t(arena.getStage()) != stage)
        continue;
      auto peak = used.find({stage, number++});
      auto symbol = FlatSymbolRefAttr::get(arena.getSymNameAttr());
      const int64_t end = ends.lookup(symbol), size = arena.getBytes();
      if (ends.contains(symbol) && state.contains(symbol) && end != size)
        faults.push_back(
            {"R7", ("stage " + Twine(stage) + " needs " + Twine(end) + " bytes of @" +
                    arena.getSymName() + ", in which parameters or their state take " + Twine(size))
                       .str()});
      if (peak != used.end() && peak->second > end)
        faults.push_back({"R7", ("stage " + Twine(stage) + " uses " + Twine(peak->second) +
                                 " bytes of @" + arena.getSymName() + ", but needs " + Twine(end))
                                    .str()});
    }
  }
}

/// What is planned for the libraries of the target adds up: the runtime allocates that, and compares
/// it with what a device has.
static void checkReserves(ModuleOp module, const Target &target,
                          std::vector<check::Fault> &faults) {
  if (!target.limits())
    return;
  for (auto [stage, planned] : llvm::enumerate(reservesOf(module))) {
    int64_t communicators = 0;
    for (auto communicator : module.getOps<dist::CommunicatorOp>())
      if (std::optional<ArrayRef<int64_t>> edge = communicator.getEdge();
          !edge || llvm::is_contained(*edge, int64_t(stage)))
        communicators += shareOf(communicator).bytes;
    const int64_t products = int64_t(planned.productStreams.size()) * target.productBytes();
    for (auto [what, got, expected] : {std::tuple("products", planned.productBytes, products),
                                       {"communicators", planned.communicatorBytes, communicators}})
      if (got != expected)
        faults.push_back({"R7", ("stage " + Twine(stage) + " plans " + Twine(got) + " bytes for " +
                                 what + " (llama.reserves): expected " + Twine(expected))
                                    .str()});
  }
}

/// Checks every program of the module and leaves `llama.certificate`, or says what is wrong
/// and fails.
static LogicalResult certify(ModuleOp module, const Target &target) {
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

  Peaks peaks; // of all programs
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
  checkReserves(module, target, ofModule);
  print(ofModule, "");
  bool holds = ofModule.empty();
  for (StringRef name : names) {
    std::vector<check::Fault> faults;
    FailureOr<check::Program> program = readProgram(module, name, target, faults);
    if (failed(program))
      return failure();
    check::Certificate certificate = check::checkProgram(*program);
    Peaks used;
    for (auto [stage, cls] : llvm::enumerate(program->classes))
      for (const check::LaunchedAction &action : cls.actions)
        for (const check::Access &access : action.accesses)
          if (int64_t &peak = used[{stage, access.arena}]; peak < access.end)
            peak = access.end;
    checkNeeds(module, name, used, faults);
    for (auto [arena, peak] : used)
      peaks[arena] = std::max(peaks[arena], peak);
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
      }
      most = std::max<int64_t>(most, used.size());
    }
    NamedAttrList of;
    of.set(field::actions, builder.getI64IntegerAttr(actions));
    of.set("communications", builder.getI64IntegerAttr(calls));
    of.set(field::communicators, builder.getI64IntegerAttr(most));
    of.set(field::launchQueue, builder.getI64IntegerAttr(certificate.launchQueue));
    if (program->device) {
      of.set(field::held, builder.getI64IntegerAttr(certificate.held));
      of.set(field::multiprocessors, builder.getI64IntegerAttr(program->device->multiprocessors));
      of.set(field::streams, builder.getI64IntegerAttr(certificate.streams));
      of.set(field::queues, builder.getI64IntegerAttr(program->device->queues));
    }
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
    if (of.contains(field::multiprocessors))
      os << "  on the device: nothing stops it between entries; communication that waits holds at "
            "most "
         << number(of, field::held) << " of " << number(of, field::multiprocessors)
         << " multiprocessors; " << number(of, field::streams) << " streams in "
         << number(of, field::queues) << " queues\n";
  }
  os << "gradients: reduced once over exactly their axes, in "
     << number(facts, "gradient_reductions") << " pieces\n";
}

namespace {
struct CheckPass : llamac::impl::CheckPassBase<CheckPass> {
  using CheckPassBase::CheckPassBase;
  explicit CheckPass(std::shared_ptr<const Target> given) : target(std::move(given)) {}

  LogicalResult initialize(MLIRContext *context) override {
    return makeTarget(target, {.name = targetOption, .chip = chipOption}, context);
  }

  void runOnOperation() override {
    if (failed(certify(getOperation(), *target)))
      signalPassFailure();
  }

private:
  std::shared_ptr<const Target> target;
};
} // namespace

std::unique_ptr<Pass> llamac::createCheckPass(std::shared_ptr<const Target> target) {
  return std::make_unique<CheckPass>(std::move(target));
}
