//===- IsolateBlocks.cpp - Give each block a module of its own ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/Llama.h"
#include "llamac/Support/Locations.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_ISOLATEBLOCKSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

/// For each result the argument whose place it takes, or -1.
static SmallVector<int64_t> placesOfResults(func::FuncOp block) {
  return llvm::map_to_vector(llvm::seq(block.getNumResults()), [&](unsigned r) {
    auto place = block.getResultAttrOfType<IntegerAttr>(r, llama::kInPlaceAttr);
    return place ? place.getInt() : int64_t(-1);
  });
}

// Whether two blocks compute the same, names and locations aside.
static bool sameCode(func::FuncOp a, func::FuncOp b) {
  if (a.getFunctionType() != b.getFunctionType() || placesOfResults(a) != placesOfResults(b))
    return false;
  return OperationEquivalence::isRegionEquivalentTo(&a.getBody(), &b.getBody(),
                                                    OperationEquivalence::IgnoreLocations);
}

// Buffers have sizes that are known now.
static LogicalResult checkShapes(func::FuncOp block) {
  auto isKnown = [](Type type) {
    auto shaped = dyn_cast<ShapedType>(type);
    return !shaped || shaped.hasStaticShape();
  };
  for (Type type : llvm::concat<const Type>(block.getArgumentTypes(), block.getResultTypes()))
    if (!isKnown(type))
      return block.emitOpError("expects sizes that are all known, but got ") << type;
  WalkResult result = block.walk([&](Operation *op) {
    for (Type type : op->getResultTypes())
      if (!isKnown(type)) {
        op->emitOpError("expects sizes that are all known, but got ") << type;
        return WalkResult::interrupt();
      }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

// Names each op that comes from no file after itself and its block: messages of kernels tell it.
static void nameLocations(func::FuncOp block) {
  MLIRContext *context = block.getContext();
  auto named = [&](const Twine &name) {
    return FusedLoc::get(context, {UnknownLoc::get(context)}, StringAttr::get(context, name));
  };
  block.walk([&](Operation *op) {
    if (!locationText(op->getLoc()).empty())
      return;
    op->setLoc(op == block ? named(block.getSymName())
                           : named(op->getName().stripDialect() + " in " + block.getSymName()));
  });
}

namespace {
struct IsolateBlocksPass : llamac::impl::IsolateBlocksPassBase<IsolateBlocksPass> {
  void runOnOperation() override {
    SmallVector<func::FuncOp> blocks, originals;
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (function->hasAttr(llama::kBlockAttr) && !function.isExternal())
        blocks.push_back(function);
    for (func::FuncOp block : blocks)
      if (failed(checkShapes(block)))
        return signalPassFailure();

    for (func::FuncOp block : blocks) {
      auto same = llvm::find_if(originals, [&](func::FuncOp o) { return sameCode(o, block); });
      StringAttr name = block.getSymNameAttr();
      if (same == originals.end()) {
        OpBuilder builder(block->getContext());
        builder.setInsertionPointAfter(block);
        auto code = ModuleOp::create(builder, block.getLoc(), (name.getValue() + ".code").str());
        code->setAttr(kSignatureAttr,
                      builder.getArrayAttr({TypeAttr::get(block.getFunctionType()),
                                            builder.getDenseI64ArrayAttr(placesOfResults(block))}));
        code->setAttr(kBlocksAttr, builder.getArrayAttr({}));
        builder.setInsertionPointToStart(code.getBody());
        originals.push_back(cast<func::FuncOp>(builder.clone(*block)));
        originals.back().setPublic();
        nameLocations(originals.back());
        same = std::prev(originals.end());
      }
      StringAttr function = same->getSymNameAttr();
      auto module = cast<ModuleOp>((*same)->getParentOp());
      SmallVector<Attribute> names(module->getAttrOfType<ArrayAttr>(kBlocksAttr).getValue());
      names.push_back(name);
      module->setAttr(kBlocksAttr, ArrayAttr::get(block.getContext(), names));
      block.getBody().getBlocks().clear();
      block.setPrivate();
      block->setAttr(kCodeAttr, SymbolRefAttr::get(module.getSymNameAttr(),
                                                   {FlatSymbolRefAttr::get(function)}));
    }
  }
};
} // namespace
