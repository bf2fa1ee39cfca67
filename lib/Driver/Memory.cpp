//===- Memory.cpp - What a program needs, and what fits -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A program that does not fit is refused, but not before the compiler has tried what does:
//
//   stages that fit   the chain is cut again with caps on each stage, which are what the rest of
//                     the stage leaves; at most kMostCuts cuts, the one that needs least is kept
//   changes that fit  each dimension (FSDP level, recomputation, micro-batch size, tp, pp) alone,
//                     as little as is enough; else two at their largest, then all, made smaller
//                     while the program fits. A trial stops where all addresses are known
//
//===----------------------------------------------------------------------===//
#include "llamac/Driver/Memory.h"

#include "dialects/Dist/IR/Dist.h"
#include "llamac/Lower/Reserves.h"
#include "llamac/Pipeline/StageReport.h"
#include "llamac/Support/Grid.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"

#include <map>
#include <set>

using namespace mlir;
using namespace mlir::llamac;

/// The arenas of the stages: all of each, or what `needs` says, and only those; and the libraries.
static std::vector<llrt::ArenaSizes>
arenasOf(ModuleOp module, const llvm::DenseMap<Attribute, int64_t> *needs = nullptr) {
  std::vector<llrt::ArenaSizes> stages;
  for (auto arena : module.getOps<dist::ArenaOp>()) {
    size_t stage = arena.getStage();
    if (stages.size() <= stage)
      stages.resize(stage + 1);
    if (needs && !needs->contains(arena.getSymNameAttr()))
      continue;
    stages[stage].push_back(
        {dist::stringifyArenaRole(arena.getRole()).str(),
         needs ? needs->lookup(arena.getSymNameAttr()) : int64_t(arena.getBytes())});
  }
  for (auto [stage, of] : llvm::enumerate(reservesOf(module)))
    if (stage < stages.size()) {
      if (of.productBytes)
        stages[stage].push_back({std::string(llrt::productMemory), of.productBytes});
      if (of.communicatorBytes)
        stages[stage].push_back({std::string(llrt::communicatorMemory), of.communicatorBytes});
    }
  return stages;
}

std::vector<llrt::ArenaSizes> llamac::memoryOf(ModuleOp module, StringRef program) {
  llvm::DenseMap<Attribute, int64_t> needs;
  for (auto each : module.getOps<dist::ProgramOp>())
    if (ArrayAttr ends = each.getName() == program ? each.getNeedsAttr() : ArrayAttr())
      for (auto end : ends.getAsRange<dist::AddressAttr>())
        needs[end.getArena().getAttr()] = end.getOffset();
  return arenasOf(module, &needs);
}

std::vector<llrt::ArenaSizes> llamac::memoryOf(ModuleOp module) {
  llvm::SetVector<StringRef> planned;
  for (auto program : module.getOps<dist::ProgramOp>())
    if (program.getNeeds())
      planned.insert(program.getName());
  std::vector<llrt::ArenaSizes> most =
      planned.empty() ? arenasOf(module) : memoryOf(module, planned.front());
  for (StringRef program : planned)
    for (auto [stage, arenas] : llvm::enumerate(memoryOf(module, program)))
      if (llrt::totalBytes(arenas) > llrt::totalBytes(most[stage]))
        most[stage] = std::move(arenas);
  return most;
}

int64_t llamac::neededBytes(ModuleOp module) {
  int64_t most = 0;
  for (const llrt::ArenaSizes &arenas : memoryOf(module))
    most = std::max(most, llrt::totalBytes(arenas));
  return most;
}

void llamac::printMemory(ModuleOp module, StringRef machine, std::optional<int64_t> memory,
                         llvm::raw_ostream &os) {
  os << llrt::memoryTables(memoryOf(module, "step"), memoryOf(module, "forward"),
                           memory ? ("; " + machine + " has " + llrt::gigabytes(*memory)).str()
                                  : std::string());
}

//===----------------------------------------------------------------------===//
// Stages that fit
//===----------------------------------------------------------------------===//

/// Cuts of the chain that are tried at most.
static constexpr size_t kMostCuts = 6;

/// Bytes that a rank of the program needs at least however it is cut, as far as is planned.
static int64_t meanBytes(ModuleOp module) {
  std::vector<llrt::ArenaSizes> stages = memoryOf(module);
  double sum = 0;
  for (const llrt::ArenaSizes &arenas : stages)
    sum += double(llrt::totalBytes(arenas));
  return stages.empty() ? 0 : int64_t(sum / double(stages.size()));
}

/// Numbers that dist-build-program notes of the stages.
static std::vector<int64_t> stageFacts(ModuleOp module, StringRef name) {
  auto facts = module->getAttrOfType<DictionaryAttr>(kStagesAttr);
  auto list = facts ? facts.getAs<DenseI64ArrayAttr>(name) : DenseI64ArrayAttr();
  return list ? list.asArrayRef().vec() : std::vector<int64_t>();
}

/// Puts what is in `from` into `module`, in place of what is there.
static void replaceContents(ModuleOp module, ModuleOp from) {
  module.getBody()->clear();
  module.getBody()->getOperations().splice(module.getBody()->end(),
                                           from.getBody()->getOperations());
  module->setAttrs(from->getAttrDictionary());
}

LogicalResult llamac::buildPrograms(ModuleOp module, const CompileOptions &options, Step from,
                                    Step to, std::optional<int64_t> memory, TimingScope &timing,
                                    llvm::function_ref<bool(ModuleOp)> goesOn) {
  auto build = [&](ModuleOp program, ArrayRef<int64_t> caps) -> LogicalResult {
    for (auto [step, name] :
         {std::pair(Step::Parallelize, "Parallelize"), {Step::Lower, "Lower"}}) {
      if (step <= from || step > to)
        continue;
      TimingScope scope = timing.nest(name);
      // Verified at the end of the step: after every pass would cost more than the passes for
      // a model of many layers.
      PassManager pm(module.getContext());
      pm.enableTiming(scope);
      pm.enableVerifier(false);
      buildPipeline(pm, options, Step(int(step) - 1), step, caps);
      if ((step == Step::Lower && goesOn && !goesOn(program)) || failed(pm.run(program)) ||
          failed(verify(program)))
        return failure();
    }
    return success();
  };
  // Only a pipeline can be cut in another way.
  FailureOr<Grid> grid = parseGrid(options.grid, module.getLoc());
  if (failed(grid))
    return failure();
  OwningOpRef<ModuleOp> start;
  if (memory && grid->pp > 1 && from < Step::Parallelize)
    start = module.clone();
  if (failed(build(module, {})))
    return failure();
  if (!start)
    return success();

  OwningOpRef<ModuleOp> last; // null: it is `module`, which needs least of all so far
  std::set<std::vector<int64_t>> tried;
  while (neededBytes(module) > *memory && meanBytes(module) <= *memory &&
         tried.size() + 1 < kMostCuts) {
    ModuleOp measured = last ? *last : module;
    if (!tried.insert(stageFacts(measured, "blocks")).second)
      break;
    // The partition may take what the rest of the program leaves.
    std::vector<int64_t> counted = stageFacts(measured, "counted"), caps;
    for (auto [stage, arenas] : llvm::enumerate(memoryOf(measured)))
      caps.push_back(std::max<int64_t>(0, *memory - llrt::totalBytes(arenas) + counted[stage]));
    last = start->clone();
    if (failed(build(*last, caps)))
      return failure();
    if (neededBytes(*last) < neededBytes(module)) {
      OwningOpRef<ModuleOp> better = last->clone();
      replaceContents(module, *better);
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Changes that fit
//===----------------------------------------------------------------------===//

/// Programs that are compiled at most to find changes.
static constexpr size_t kMostTrials = 20;

namespace {

class RemedyFinder {
public:
  RemedyFinder(ModuleOp model, Step from, const CompileOptions &options, int64_t memory,
               llvm::function_ref<bool(CompileOptions &)> settle)
      : model(model), from(from), options(options), memory(memory), settle(settle) {}

  std::vector<Remedy> run();

private:
  using Change = std::function<void(CompileOptions &, Grid &)>;
  /// One thing to change, the larger the change the further back.
  struct Dimension {
    std::vector<Change> changes;
    size_t largest = 0; ///< so many of them, the last of which made a program
  };
  /// How far each dimension is changed: 0 not at all, else as changes[level - 1] says.
  using Levels = std::vector<size_t>;

  void findDimensions();
  CompileOptions optionsOf(const Levels &levels);
  /// Bytes that a rank needs, or more than `memory` and at most that; nothing if that is no
  /// program, or if enough were tried.
  std::optional<int64_t> bytesOf(const Levels &levels, bool exact = false);
  bool fits(const Levels &levels) {
    std::optional<int64_t> bytes = bytesOf(levels);
    return bytes && *bytes <= memory;
  }
  /// Makes changes smaller while the program fits, those of more ranks first.
  void weaken(Levels &levels);
  Remedy remedyOf(const Levels &levels);

  ModuleOp model;
  Step from;
  const CompileOptions &options;
  int64_t memory;
  llvm::function_ref<bool(CompileOptions &)> settle;
  std::vector<Dimension> dimensions;
  std::map<Levels, std::optional<int64_t>> known;
};

} // namespace

void RemedyFinder::findDimensions() {
  const Grid grid = *parseGrid(options.grid, model.getLoc());
  auto later = [](std::string CompileOptions::*field, StringRef now, ArrayRef<StringRef> order) {
    Dimension dimension;
    for (StringRef level : order.drop_front(llvm::find(order, now) - order.begin() + 1))
      dimension.changes.push_back(
          [field, level](CompileOptions &o, Grid &) { o.*field = level.str(); });
    return dimension;
  };
  if (grid.dp > 1)
    dimensions.push_back(later(&CompileOptions::fsdp, options.fsdp,
                               {"none", "optimizer", "gradients", "parameters"}));
  if (from < Step::Train) {
    dimensions.push_back(
        later(&CompileOptions::recompute, options.recompute, {"none", "selective", "full"}));
    Dimension smaller; // with the same samples in a step
    for (int64_t by = 2; by <= options.batch; ++by)
      if (options.batch % by == 0)
        smaller.changes.push_back([by](CompileOptions &o, Grid &) {
          o.batch /= by;
          o.microBatches *= by;
        });
    dimensions.push_back(std::move(smaller));
  }
  for (int64_t Grid::*axis : {&Grid::tp, &Grid::pp}) {
    Dimension more;
    for (int64_t by : {2, 4})
      more.changes.push_back([axis, by](CompileOptions &, Grid &g) { g.*axis *= by; });
    dimensions.push_back(std::move(more));
  }
}

CompileOptions RemedyFinder::optionsOf(const Levels &levels) {
  CompileOptions changed = options;
  Grid grid = *parseGrid(options.grid, model.getLoc());
  for (auto [dimension, level] : llvm::zip_equal(dimensions, levels))
    if (level)
      dimension.changes[level - 1](changed, grid);
  changed.grid = "tp=" + std::to_string(grid.tp) + ",cp=" + std::to_string(grid.cp) +
                 ",pp=" + std::to_string(grid.pp) + ",dp=" + std::to_string(grid.dp);
  return changed;
}

std::optional<int64_t> RemedyFinder::bytesOf(const Levels &levels, bool exact) {
  auto [entry, isNew] = known.try_emplace(levels);
  if (!isNew && !exact)
    return entry->second;
  if (known.size() > kMostTrials && !exact)
    return std::nullopt;
  CompileOptions changed = optionsOf(levels);
  // What is no program says so in messages that nobody asked for.
  ScopedDiagnosticHandler quiet(model.getContext(), [](Diagnostic &) { return success(); });
  FailureOr<Grid> grid = parseGrid(changed.grid, model.getLoc());
  if (failed(grid) || !settle(changed))
    return std::nullopt;
  OwningOpRef<ModuleOp> program = model.clone();
  DefaultTimingManager timing;
  TimingScope scope = timing.getRootScope();
  if (from < Step::Train) {
    PassManager pm(model.getContext());
    pm.enableVerifier(false);
    buildPipeline(pm, changed, from, Step::Train);
    if (failed(pm.run(*program)))
      return std::nullopt;
  }
  // The first cut of a pipeline has to do: a trial is to be quick. Many need too much already
  // without the workspace of their blocks.
  int64_t atLeast = 0;
  LogicalResult built = buildPrograms(*program, changed, Step::Train, Step::Lower, std::nullopt,
                                      scope, [&](ModuleOp parallel) {
                                        atLeast = neededBytes(parallel);
                                        return exact || atLeast <= memory;
                                      });
  if (succeeded(built))
    entry->second = neededBytes(*program);
  else if (atLeast > memory)
    entry->second = atLeast;
  return entry->second;
}

void RemedyFinder::weaken(Levels &levels) {
  for (size_t d = levels.size(); d-- > 0;)
    for (size_t level = levels[d]; level-- > 0;) {
      Levels less = levels;
      less[d] = level;
      if (!bytesOf(less)) // no program
        continue;
      if (!fits(less))
        break;
      levels = less;
    }
}

Remedy RemedyFinder::remedyOf(const Levels &levels) {
  CompileOptions changed = optionsOf(levels);
  SmallVector<std::string> flags;
  if (changed.fsdp != options.fsdp)
    flags.push_back("--fsdp=" + changed.fsdp);
  if (changed.recompute != options.recompute)
    flags.push_back("--recompute=" + changed.recompute);
  if (changed.batch != options.batch)
    flags.push_back("--batch=" + std::to_string(changed.batch) +
                    " --micro-batches=" + std::to_string(changed.microBatches));
  Grid before = *parseGrid(options.grid, model.getLoc());
  Grid grid = *parseGrid(changed.grid, model.getLoc());
  if (grid.ranks() != before.ranks())
    flags.push_back("--grid=" + changed.grid);
  return {llvm::join(flags, " "), bytesOf(levels, /*exact=*/!fits(levels)).value_or(0)};
}

std::vector<Remedy> RemedyFinder::run() {
  findDimensions();
  std::vector<Remedy> remedies;
  const Levels none(dimensions.size(), 0);
  for (auto [d, dimension] : llvm::enumerate(dimensions))
    for (size_t level = 1; level <= dimension.changes.size(); ++level) {
      Levels levels = none;
      levels[d] = level;
      if (bytesOf(levels))
        dimension.largest = level;
      if (fits(levels)) {
        remedies.push_back(remedyOf(levels));
        break;
      }
    }
  for (size_t a = 0; remedies.empty() && a < dimensions.size(); ++a)
    for (size_t b = a + 1; b < dimensions.size(); ++b) {
      Levels levels = none;
      levels[a] = dimensions[a].largest;
      levels[b] = dimensions[b].largest;
      if (levels[a] && levels[b] && fits(levels)) {
        weaken(levels);
        remedies.push_back(remedyOf(levels));
      }
    }
  Levels levels = none;
  for (size_t d = 0; remedies.empty() && d < dimensions.size(); ++d) {
    levels[d] = dimensions[d].largest;
    if (fits(levels)) {
      weaken(levels);
      remedies.push_back(remedyOf(levels));
    }
  }
  if (remedies.empty()) {
    const Levels *least = nullptr;
    for (auto &[tried, bytes] : known)
      if (bytes && (!least || *bytes < *known.at(*least)))
        least = &tried;
    if (least)
      remedies.push_back(remedyOf(Levels(*least)));
  }
  return remedies;
}

std::vector<Remedy> llamac::findRemedies(ModuleOp model, Step from, const CompileOptions &options,
                                         int64_t memory,
                                         llvm::function_ref<bool(CompileOptions &)> settle) {
  return RemedyFinder(model, from, options, memory, settle).run();
}
