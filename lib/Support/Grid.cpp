//===- Grid.cpp - The ranks and their axes --------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Support/Grid.h"

#include "dialects/Llama/IR/Llama.h"
#include "runtime/include/llrt/Program.h"

#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;
using namespace mlir::llamac;

static constexpr int64_t kMostRanks = LLRT_MOST_RANKS;

FailureOr<Grid> llamac::parseGrid(StringRef text, Location loc) {
  Grid grid;
  SmallVector<StringRef> parts, seen;
  text.split(parts, ',', -1, /*KeepEmpty=*/false);
  for (StringRef part : parts) {
    auto [name, size] = part.split('=');
    int64_t *field = llvm::StringSwitch<int64_t *>(name)
                         .Case("dp", &grid.dp)
                         .Case("pp", &grid.pp)
                         .Case("cp", &grid.cp)
                         .Case("tp", &grid.tp)
                         .Default(nullptr);
    if (!field || llvm::is_contained(seen, name))
      return emitError(loc) << "--grid: expected each of tp, cp, pp and dp at most once, as in "
                               "'tp=2,cp=1,pp=1,dp=1', got '"
                            << part << "'";
    seen.push_back(name);
    if (size.getAsInteger(10, *field) || *field < 1 || *field > kMostRanks)
      return emitError(loc) << "--grid: expected '" << name
                            << "' to be a number of ranks from 1 to " << kMostRanks << ", got '"
                            << size << "'";
    if (grid.ranks() > kMostRanks)
      return emitError(loc) << "--grid: expected at most " << kMostRanks << " ranks, got '" << text
                            << "'";
  }
  return grid;
}

SmallVector<Axis> llamac::axesOf(ModuleOp module) {
  SmallVector<Axis> axes;
  auto grid = module.lookupSymbol<shard::GridOp>(kGridSymbol);
  auto names = module->getAttrOfType<ArrayAttr>(kAxesAttr);
  if (!grid || !names || names.size() != grid.getShape().size())
    return axes;
  for (auto [attribute, size] : llvm::zip(names, grid.getShape())) {
    auto name = dyn_cast<StringAttr>(attribute);
    if (!name || size < 1)
      return {};
    axes.push_back({name.getValue().str(), size});
  }
  return axes;
}

int64_t llamac::encoderTokens(ModuleOp module) {
  int64_t tokens = 0;
  module.walk([&](llama::AttentionOp attention) {
    if (attention.getMask() == llama::Mask::Encoder)
      tokens = cast<RankedTensorType>(attention.getKey().getType()).getDimSize(1);
  });
  return tokens;
}

int64_t llamac::sizeOfAxis(ArrayRef<Axis> axes, StringRef name) {
  const auto *axis = llvm::find_if(axes, [&](const Axis &axis) { return axis.name == name; });
  return axis == axes.end() ? 1 : axis->size;
}

int64_t llamac::ranksOver(ArrayRef<Axis> axes, ArrayAttr names) {
  int64_t ranks = 1;
  for (StringRef name : names.getAsValueRange<StringAttr>())
    ranks *= sizeOfAxis(axes, name);
  return ranks;
}

int64_t llamac::ranksOf(ArrayRef<Axis> axes, dist::CommunicatorOp communicator) {
  return communicator.getEdge() ? 2 : ranksOver(axes, *communicator.getAxes());
}

SmallVector<StringRef> llamac::axesOf(dist::CommunicatorOp communicator) {
  if (communicator.getEdge())
    return {"pp"};
  return SmallVector<StringRef>(communicator.getAxes()->getAsValueRange<StringAttr>());
}

std::string llamac::arenaName(dist::ArenaRole role, int64_t stage, bool isPipeline) {
  StringRef name = dist::stringifyArenaRole(role);
  return (isPipeline ? "stage" + Twine(stage) + "." + name : Twine(name)).str();
}
