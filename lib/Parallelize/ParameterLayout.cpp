//===- ParameterLayout.cpp - Where parameters and their state lie ---------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ParameterLayout.h"

#include "llamac/Lower/ArenaPlan.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;

std::string llamac::arenaName(StringRef name, int stage, int stages) {
  return (stages > 1 ? "stage" + Twine(stage) + "." + name : Twine(name)).str();
}

FailureOr<ParameterLayout> llamac::layOutParameters(OpBuilder &builder,
                                                    ArrayRef<StageParameter> parameters,
                                                    Type gradientType, int stage, int stages,
                                                    Fsdp fsdp, int64_t dataRanks) {
  ParameterLayout layout;
  layout.gradientType = gradientType;
  Location loc = builder.getUnknownLoc();
  const int64_t ranks = fsdp == Fsdp::None ? 1 : dataRanks;

  SmallVector<std::pair<const StageParameter *, int64_t>> begins; // in its segment
  for (const StageParameter &parameter : parameters) {
    llama::ParameterOp op = parameter.op;
    loc = op.getLoc();
    if (op.getFrozen())
      continue;
    Type element = op.getTensorType().getElementType();
    if (!layout.storageType)
      layout.storageType = element;
    if (element != layout.storageType)
      return op.emitOpError("expects one storage type of all trained parameters, ")
             << layout.storageType << ", but got " << element;
    auto *segment = llvm::find_if(layout.segments, [&](const Segment &s) {
      return s.reduced == parameter.reduced && s.once == parameter.once;
    });
    if (segment == layout.segments.end()) {
      layout.segments.push_back({parameter.reduced, parameter.once, {}, 0, 0});
      segment = &layout.segments.back();
    }
    begins.push_back({&parameter, segment->elements});
    segment->parameters.push_back(op.getSymName());
    segment->elements += llvm::alignTo(op.getTensorType().getNumElements(), kParameterPadding);
  }
  for (Segment &segment : layout.segments) {
    segment.elements = llvm::alignTo(segment.elements, kSegmentPadding * ranks);
    segment.begin = layout.elements;
    layout.elements += segment.elements;
  }
  layout.masterType = layout.storageType && layout.storageType.isF64() ? Type(builder.getF64Type())
                                                                       : builder.getF32Type();
  if (!layout.gradientType)
    layout.gradientType = layout.masterType;

  llvm::MapVector<StringRef, int64_t> arenas; // name -> bytes
  auto address = [&](StringRef arena, int64_t offset) {
    return AddressAttr::get(builder.getContext(),
                            FlatSymbolRefAttr::get(builder.getContext(),
                                                   arenaName(arena, stage, stages)),
                            offset);
  };
  auto width = [](Type type) { return int64_t(type.getIntOrFloatBitWidth() / 8); };
  arenas["parameters"] = 0;
  const bool hasMasters = layout.storageType != layout.masterType || ranks > 1;
  int64_t bytes = 0;
  if (layout.elements) {
    bytes = layout.elements * width(layout.storageType);
    if (hasMasters)
      arenas["masters"] = layout.elements / ranks * width(layout.masterType);
    arenas["gradients"] = layout.elements * width(layout.gradientType);
    if (ranks > 1) {
      arenas["gradient_shard"] = layout.elements / ranks * width(layout.gradientType);
      if (layout.storageType != layout.masterType)
        arenas["weight_shard"] = layout.elements / ranks * width(layout.storageType);
    }
    arenas["moment1"] = arenas["moment2"] = layout.elements / ranks * width(layout.masterType);
  }
  SmallVector<dist::StorageOp> storage;
  for (const StageParameter &parameter : parameters) {
    llama::ParameterOp op = parameter.op;
    auto symbol = FlatSymbolRefAttr::get(op.getSymNameAttr());
    if (op.getFrozen()) {
      storage.push_back(dist::StorageOp::create(
          builder, op.getLoc(), symbol, address("parameters", bytes), AddressAttr(), AddressAttr(),
          AddressAttr(), AddressAttr(), AddressAttr(), DenseI64ArrayAttr(), UnitAttr()));
      bytes += llvm::alignTo(op.getTensorType().getNumElements() *
                                 width(op.getTensorType().getElementType()),
                             kArenaAlignment);
      continue;
    }
    auto *begin = llvm::find_if(begins, [&](auto &entry) { return entry.first == &parameter; });
    auto *segment = llvm::find_if(layout.segments, [&](const Segment &s) {
      return s.reduced == parameter.reduced && s.once == parameter.once;
    });
    int64_t whole = segment->begin + begin->second; // its first element
    // A shard is addressed by its segment; what is whole by itself.
    int64_t state = ranks > 1 ? segment->begin / ranks : whole;
    DenseI64ArrayAttr shard;
    if (ranks > 1)
      shard = builder.getDenseI64ArrayAttr({begin->second, segment->elements});
    storage.push_back(dist::StorageOp::create(
        builder, op.getLoc(), symbol, address("parameters", whole * width(layout.storageType)),
        address(hasMasters ? "masters" : "parameters", state * width(layout.masterType)),
        address(ranks > 1 ? "gradient_shard" : "gradients", state * width(layout.gradientType)),
        address("moment1", state * width(layout.masterType)),
        address("moment2", state * width(layout.masterType)),
        ranks > 1 ? address("gradients", whole * width(layout.gradientType)) : AddressAttr(), shard,
        UnitAttr()));
  }
  arenas["parameters"] = llvm::alignTo(bytes, kArenaAlignment);
  if (!storage.empty())
    builder.setInsertionPoint(storage.front());
  for (auto [name, size] : arenas)
    dist::ArenaOp::create(builder, loc, arenaName(name, stage, stages), size, stage);
  if (!storage.empty())
    builder.setInsertionPointAfter(storage.back());
  return layout;
}
