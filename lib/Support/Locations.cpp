//===- Locations.cpp - Where an op of a program comes from ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Support/Locations.h"

#include "dialects/Dist/IR/Dist.h"

using namespace mlir;
using namespace mlir::llamac;

// `first`, then `second`, where they are not empty.
static std::string joined(std::string first, StringRef separator, StringRef second) {
  if (!first.empty() && !second.empty())
    first += separator;
  return first += second;
}

std::string llamac::locationText(Location location) {
  if (auto place = dyn_cast<FileLineColLoc>(location))
    return (place.getFilename().getValue() + ":" + Twine(place.getLine()) + ":" +
            Twine(place.getColumn()))
        .str();
  if (auto name = dyn_cast<NameLoc>(location))
    return joined(name.getName().str(), ", ", locationText(name.getChildLoc()));
  if (auto call = dyn_cast<CallSiteLoc>(location))
    return joined(locationText(call.getCallee()), " in ", locationText(call.getCaller()));
  if (auto fused = dyn_cast<FusedLoc>(location)) {
    std::string text;
    if (auto name = dyn_cast_or_null<StringAttr>(fused.getMetadata()))
      text = name.str();
    for (Location part : fused.getLocations()) // each once
      text = joined(std::move(text), ", ", locationText(part));
    return text;
  }
  return "";
}

std::string llamac::sourceText(Operation *op) {
  std::string text;
  auto collective = dyn_cast<dist::CollectiveOp>(op);
  if (auto names = collective ? collective.getGradients().value_or(ArrayAttr()) : ArrayAttr();
      names && !names.empty()) {
    text = ("gradient of " + cast<FlatSymbolRefAttr>(names[0]).getValue()).str();
    if (names.size() > 1)
      text += " and " + std::to_string(names.size() - 1) + " more";
  }
  return joined(std::move(text), ", ", locationText(op->getLoc()));
}
