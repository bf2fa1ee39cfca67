//===- CheckStorage.cpp - Where parameters and their state lie, proved ----===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What holds of a device program whatever its entries do:
//
//   - the places of weights, masters, gradients and moments have the size of what lies there,
//     are within their arenas and do not overlap; shards of a unit lie together
//   - a rank's part of a parameter is what its axes leave of the whole, and the parameters
//     of a checkpoint tensor are all its rows
//   - every graph is run by one program of one stage, and the applications of the programs
//     have the same parameters
//
//===----------------------------------------------------------------------===//
#include "llamac/Check/Certificate.h"

#include "ReadItems.h"

#include <map>
#include <set>

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using llama::ParameterOp;

namespace {
class StorageChecker {
public:
  StorageChecker(ModuleOp module, std::vector<check::Fault> &faults)
      : module(module), symbols(module), axes(axesOf(module)), faults(faults) {}

  void run() {
    checkParameters();
    checkPlaces();
    checkUnits();
    checkGraphs();
  }

private:
  void fault(const Twine &message) { faults.push_back({"R7", message.str()}); }
  void checkParameters();
  void checkPlaces();
  void checkUnits();
  void checkGraphs();

  /// Bytes of an arena that are taken by a parameter, or by the shard of a unit.
  struct Taken {
    int64_t end;
    StringRef what, name;
    std::optional<std::pair<int64_t, int64_t>> shard; ///< begin, elements of its unit
  };

  ModuleOp module;
  SymbolTable symbols;
  SmallVector<Axis> axes;
  std::vector<check::Fault> &faults;
};
} // namespace

static int64_t product(ArrayRef<int64_t> sizes) {
  int64_t result = 1;
  for (int64_t size : sizes)
    result *= size;
  return result;
}

void StorageChecker::checkParameters() {
  std::map<StringRef, std::map<int64_t, std::pair<int64_t, StringRef>>> rows; // of checkpoint keys
  for (auto parameter : module.getOps<ParameterOp>()) {
    StringRef name = parameter.getSymName();
    ArrayRef<int64_t> local = parameter.getTensorType().getShape();
    ArrayRef<int64_t> whole = parameter.getGlobalShape().value_or(local);
    SmallVector<int64_t> part(whole);
    if (auto split = parameter.getSplit()) {
      if (split->size() != whole.size())
        fault("parameter '" + name + "' is split on other dimensions than it has");
      else
        for (auto [size, over] : llvm::zip(part, split->getAsRange<ArrayAttr>())) {
          for (auto axis : over.getAsRange<StringAttr>())
            if (llvm::none_of(axes, [&](const Axis &a) { return a.name == axis.getValue(); }))
              fault("parameter '" + name + "' is split over an axis that the grid does not have");
          int64_t ranks = ranksOver(axes, over);
          size = ranks > 0 && size % ranks == 0 ? size / ranks : -1;
        }
    }
    if (ArrayRef<int64_t>(part) != local)
      fault("parameter '" + name + "' is not what its axes leave of the whole");
    ArrayRef<int64_t> stored = parameter.getCheckpointShape().value_or(whole);
    // Padded (PadSizes.h): a split dimension is longer by less than one element for each rank.
    bool isPadded = stored.size() == whole.size() && parameter.getSplit() &&
                    parameter.getSplit()->size() == whole.size();
    for (size_t d = 0; isPadded && d < whole.size(); ++d) {
      auto over = dyn_cast<ArrayAttr>((*parameter.getSplit())[d]);
      int64_t more = whole[d] - stored[d];
      isPadded = over && more >= 0 && (more == 0 || more < ranksOver(axes, over));
    }
    if (product(stored) != product(whole) && !isPadded)
      fault("parameter '" + name + "' has other elements than in the checkpoint");
    int64_t begin = parameter.getRowBegin().value_or(0);
    if (!rows[parameter.getCheckpointKey()]
             .try_emplace(begin, begin + (stored.empty() ? 1 : stored.front()), name)
             .second)
      fault("parameter '" + name + "' has rows of the checkpoint that another has, too");
  }
  for (auto &[key, parts] : rows) {
    int64_t next = 0;
    for (auto &[begin, part] : parts) {
      if (begin != next)
        fault("parameter '" + part.second + "' does not go on where the rows of '" + key +
              "' before it end");
      next = part.first;
    }
  }
}

void StorageChecker::checkPlaces() {
  const int64_t ranks = sizeOfAxis(axes, "dp");
  std::map<StringRef, std::multimap<int64_t, Taken>> arenas;
  for (auto place : module.getOps<dist::StorageOp>()) {
    auto parameter = symbols.lookup<ParameterOp>(place.getParameter());
    Type type = parameter.getTensorType().getElementType();
    const int64_t elements = parameter.getTensorType().getNumElements();
    const int64_t width = widthOf(type);
    const int64_t master = type.isF64() ? 8 : 4;
    std::optional<std::pair<int64_t, int64_t>> shard;
    if (auto given = place.getShard()) {
      shard = {(*given)[0], (*given)[1]};
      if (shard->first < 0 || shard->first + elements > shard->second || shard->second % ranks)
        fault("'" + parameter.getSymName() + "' does not fit into its unit");
    } else if (place.getShardStorage()) {
      fault("'" + parameter.getSymName() + "' is sharded, but in no unit");
    }
    auto take = [&](StringRef what, std::optional<AddressAttr> address, int64_t bytes,
                    bool sharded) {
      if (!address)
        return;
      int64_t size = sharded ? shard->second / ranks * bytes : elements * bytes;
      StringRef arena = address->getArena().getValue();
      int64_t begin = address->getOffset();
      auto op = symbols.lookup<dist::ArenaOp>(arena);
      if (!op || begin < 0 || begin + size > int64_t(op.getBytes()))
        fault(what + " of '" + parameter.getSymName() + "' are not within @" + arena);
      arenas[arena].emplace(
          begin, Taken{begin + size, what, parameter.getSymName(), sharded ? shard : std::nullopt});
    };
    // The accumulation type is that of the block arguments: half as wide if bf16 was asked for.
    auto options = module->getAttrOfType<DictionaryAttr>("llama.options");
    auto accumulate = options ? options.getAs<StringAttr>("accumulate") : StringAttr();
    const int64_t gradient =
        !type.isF64() && accumulate && accumulate.getValue() == "bf16" ? 2 : master;
    take("weights", place.getAddress(), width, place.getShardStorage() && shard);
    if (place.getMaster() != place.getAddress() || width != master)
      take("masters", place.getMaster(), master, bool(shard));
    take("gradients", place.getGradient(), gradient, bool(shard));
    take("first moments", place.getMoment1(), master, bool(shard));
    take("second moments", place.getMoment2(), master, bool(shard));
    take("sums of gradients", place.getGradientSum(), gradient, false);
  }
  for (auto &[arena, places] : arenas) {
    const Taken *last = nullptr;
    int64_t begin = 0;
    std::set<std::pair<int64_t, int64_t>> unit; // parts of the unit at `begin`
    for (auto &[at, taken] : places) {
      bool together = last && at == begin && taken.end == last->end && taken.what == last->what &&
                      taken.shard && last->shard && taken.shard->second == last->shard->second;
      if (last && at < last->end && !together)
        fault(taken.what + " of '" + taken.name + "' overlap " + last->what + " of '" + last->name +
              "' in @" + arena);
      if (!together)
        unit.clear();
      if (taken.shard) {
        int64_t first = taken.shard->first;
        int64_t end =
            first + symbols.lookup<ParameterOp>(taken.name).getTensorType().getNumElements();
        auto next = unit.lower_bound({first, 0});
        if ((next != unit.end() && next->first < end) ||
            (next != unit.begin() && std::prev(next)->second > first))
          fault("'" + taken.name + "' overlaps another parameter of its unit");
        unit.insert({first, end});
      }
      if (!last || taken.end > last->end || at >= last->end)
        last = &taken, begin = at;
    }
  }
}

void StorageChecker::checkUnits() {
  std::map<std::pair<int64_t, StringRef>, dist::StorageOp> storage;
  auto stageOf = [&](AddressAttr address) {
    auto arena = symbols.lookup<dist::ArenaOp>(address.getArena().getValue());
    return arena ? int64_t(arena.getStage()) : -1;
  };
  for (auto place : module.getOps<dist::StorageOp>()) {
    storage[{stageOf(place.getAddress()), place.getParameter()}] = place;
    for (auto address : {place.getMaster(), place.getGradient(), place.getMoment1(),
                         place.getMoment2(), place.getGradientSum()})
      if (address && stageOf(*address) != stageOf(place.getAddress()))
        fault("'" + place.getParameter() + "' lies on two stages");
  }
  std::set<std::pair<int64_t, StringRef>> inUnit;
  for (auto unit : module.getOps<dist::UnitOp>()) {
    auto any = unit.getWeights() ? unit.getWeights() : unit.getGradient();
    int64_t stage = stageOf(*any);
    for (auto name : unit.getParameters().getAsRange<FlatSymbolRefAttr>()) {
      auto found = storage.find({stage, name.getValue()});
      auto parameter = symbols.lookup<ParameterOp>(name.getValue());
      bool fits = found != storage.end() && inUnit.insert({stage, name.getValue()}).second;
      if (fits) {
        dist::StorageOp place = found->second;
        auto shard = place.getShard();
        fits = shard && (*shard)[1] == int64_t(unit.getElements()) &&
               place.getShardStorage() == unit.getWeights().has_value() &&
               (!unit.getWeights() || unit.getWeights() == place.getAddress()) &&
               unit.getGradient() == place.getGradient() &&
               unit.getType() == parameter.getTensorType().getElementType();
      }
      if (!fits)
        fault("unit '" + unit.getSymName() + "' is not where '" + name.getValue() +
              "' says that it lies");
    }
  }
  for (auto &[key, place] : storage)
    if (place.getShard() && !place.getGradientSum() && !inUnit.count(key))
      fault("'" + key.second + "' is sharded, but in no unit");
}

void StorageChecker::checkGraphs() {
  std::map<StringRef, std::pair<StringRef, int64_t>> ownerOf;
  for (auto program : module.getOps<dist::ProgramOp>())
    for (auto run : program.getBody().getOps<dist::EntryOpInterface>()) {
      FlatSymbolRefAttr graph = run.getGraphAttr();
      if (!graph)
        continue;
      std::pair<StringRef, int64_t> owner(program.getName(), program.getStage());
      auto [entry, isNew] = ownerOf.try_emplace(graph.getValue(), owner);
      if (!isNew && entry->second != owner)
        fault("graph '" + graph.getValue() + "' is run by two programs");
    }
  // Weights of applications, by program.
  std::map<StringRef, std::map<int64_t, std::set<StringRef>>> weights;
  for (auto graph : module.getOps<dist::GraphOp>()) {
    auto owner = ownerOf.find(graph.getSymName());
    if (owner == ownerOf.end()) {
      fault("graph '" + graph.getSymName() + "' is not run by any program");
      continue;
    }
    for (auto call : graph.getBody().getOps<dist::CallOp>()) {
      auto application = call->getAttrOfType<IntegerAttr>(llama::kApplicationAttr);
      auto operands = call->getAttrOfType<ArrayAttr>(dist::kOperandsAttr);
      if (!application || !operands)
        continue;
      for (auto operand : operands.getAsRange<dist::OperandAttr>())
        if (auto name = dyn_cast_or_null<FlatSymbolRefAttr>(operand.getWhat());
            name && operand.getKind() == dist::OperandKind::Weights)
          weights[owner->second.first][application.getInt()].insert(name.getValue());
    }
  }
  if (!weights.count("step") || !weights.count("forward"))
    return;
  for (auto &[application, names] : weights["step"])
    if (names != weights["forward"][application])
      fault("application " + Twine(application) +
            " has other parameters in 'step' than in 'forward'");
}

void llamac::checkStorage(ModuleOp module, std::vector<check::Fault> &faults) {
  StorageChecker(module, faults).run();
}
