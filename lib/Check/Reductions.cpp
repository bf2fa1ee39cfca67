//===- Reductions.cpp - Every sum of a step: what, in which type, how long ===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reductions inside blocks are what the ops say of themselves (ReductionOpInterface, which every
// compute op of llama must implement), before blocks are lowered. Those between ranks are read off
// the collectives of the device program.
//
//   dist.program "step": runs of @g   ->  how often each block is applied, each gradient added to
//   @block { llama.linear ... }       ->  {op = "linear", type = f32, length = 8, count = 2}
//
//===----------------------------------------------------------------------===//
#include "llamac/Check/Certificate.h"
#include "llamac/Check/Passes.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Support/Grid.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"

#include <map>
#include <tuple>

namespace mlir::llamac {
#define GEN_PASS_DEF_NOTEREDUCTIONSPASS
#include "llamac/Check/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;

namespace {
/// What is summed (or maximized), in which type, what the result has, of how many terms.
struct Reduction {
  std::string op;
  Type type, result;
  int64_t length;

  auto key() const {
    return std::tuple(op, type.getAsOpaquePointer(), result.getAsOpaquePointer(), length);
  }
};
} // namespace

/// The reductions that an op forms.
static SmallVector<Reduction> reductionsOf(Operation *op) {
  SmallVector<Reduction> found;
  auto reducing = dyn_cast<llama::ReductionOpInterface>(op);
  if (!reducing || op->getNumResults() == 0)
    return found;
  std::string name = op->getName().stripDialect().str();
  Type result = getElementTypeOrSelf(op->getResult(0));
  for (const llama::Reduction &reduction : reducing.getReductions())
    found.push_back({name + reduction.what.str(), reduction.type, result, reduction.length});
  return found;
}

static std::string textOf(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

/// How often a step runs each graph, on all stages.
static llvm::MapVector<StringRef, int64_t> runsOfStep(ModuleOp module) {
  llvm::MapVector<StringRef, int64_t> runs;
  for (auto program : module.getOps<dist::ProgramOp>())
    if (program.getName() == "step")
      for (auto entry : program.getBody().getOps<dist::EntryOpInterface>())
        if (FlatSymbolRefAttr graph = entry.getGraphAttr())
          ++runs[graph.getValue()];
  return runs;
}

/// Notes in `llama.reductions` every sum and maximum that an op of a block forms, and how
/// often it does in one step of a rank.
static LogicalResult noteReductions(ModuleOp module) {
  SymbolTable symbols(module);
  auto options = module->getAttrOfType<DictionaryAttr>("llama.options");
  auto accumulate = options ? options.getAs<StringAttr>("accumulate") : StringAttr();
  const bool mayUseBf16 = accumulate && accumulate.getValue() == "bf16";

  llvm::MapVector<StringRef, int64_t> calls;                       // block -> calls
  llvm::MapVector<StringAttr, std::pair<Type, int64_t>> additions; // parameter -> type, number
  for (auto [name, count] : runsOfStep(module)) {
    auto graph = symbols.lookup<FuncOp>(name);
    if (!graph)
      continue;
    for (auto apply : graph.getOps<llama::ApplyOp>()) {
      calls[apply.getBlock()] += count;
      auto block = symbols.lookup<FuncOp>(apply.getBlock());
      unsigned first = apply.getInputs().size() + apply.getParameters().size();
      for (auto [k, parameter] :
           llvm::enumerate(apply.getGradients().getAsRange<FlatSymbolRefAttr>())) {
        Type type = cast<RankedTensorType>(block.getArgumentTypes()[first + k]).getElementType();
        if (type.isBF16() && !mayUseBf16)
          return apply.emitError("gradient of '")
                 << parameter.getValue() << "' is summed in bf16 over " << count
                 << " micro-batches, which --accumulate=bf16 would have to ask for";
        auto &entry = additions[parameter.getAttr()];
        entry.first = type;
        entry.second += count;
      }
    }
  }
  for (auto program : module.getOps<dist::ProgramOp>())
    for (auto entry : program.getBody().getOps<dist::EntryOpInterface>())
      if (FlatSymbolRefAttr block = entry.getBlockAttr())
        ++calls[block.getValue()];

  using Key = decltype(std::declval<Reduction>().key());
  std::map<Key, std::pair<Reduction, int64_t>> rows;
  auto add = [&](const Reduction &reduction, int64_t count) {
    rows.try_emplace(reduction.key(), reduction, 0).first->second.second += count;
  };
  for (auto [name, count] : calls)
    if (auto block = symbols.lookup<FuncOp>(name))
      block.walk([&, count = count](Operation *op) {
        for (const Reduction &reduction : reductionsOf(op))
          add(reduction, count);
      });
  for (auto &[parameter, entry] : additions)
    add({"gradient over micro-batches", entry.first, entry.first, entry.second}, 1);

  Builder b(module.getContext());
  SmallVector<std::pair<Reduction, int64_t>> sorted;
  for (auto &[key, row] : rows)
    sorted.push_back(row);
  llvm::stable_sort(sorted, [](auto &x, auto &y) {
    return std::tuple(x.first.op, textOf(x.first.type), textOf(x.first.result), x.first.length) <
           std::tuple(y.first.op, textOf(y.first.type), textOf(y.first.result), y.first.length);
  });
  SmallVector<Attribute> list;
  for (auto &[reduction, count] : sorted)
    list.push_back(
        b.getDictionaryAttr({b.getNamedAttr("count", b.getI64IntegerAttr(count)),
                             b.getNamedAttr("length", b.getI64IntegerAttr(reduction.length)),
                             b.getNamedAttr("op", b.getStringAttr(reduction.op)),
                             b.getNamedAttr("result", TypeAttr::get(reduction.result)),
                             b.getNamedAttr("type", TypeAttr::get(reduction.type))}));
  module->setAttr(kReductionsAttr, b.getArrayAttr(list));
  return success();
}

namespace {
struct NoteReductionsPass : llamac::impl::NoteReductionsPassBase<NoteReductionsPass> {
  using NoteReductionsPassBase::NoteReductionsPassBase;
  void runOnOperation() override {
    if (failed(noteReductions(getOperation())))
      signalPassFailure();
  }
};
} // namespace

void llamac::printPrecisionReport(ModuleOp module, llvm::raw_ostream &os) {
  os << "\nreductions of a step between ranks: what, elements at most, summed in, result, ranks, "
        "axes, how often\n";
  SymbolTable symbols(module);
  SmallVector<Axis> axes = axesOf(module);
  struct Row {
    int64_t elements = 0, count = 0;
  };
  std::map<std::tuple<std::string, std::string, std::string, int64_t, std::string>, Row> rows;
  auto note = [&](dist::CollectiveOp op, StringRef what, int64_t count) {
    if (op.getKind() != dist::CollectiveKind::AllReduce &&
        op.getKind() != dist::CollectiveKind::ReduceScatter)
      return;
    auto group = symbols.lookup<dist::CommunicatorOp>(op.getCommunicator());
    const int64_t ranks = ranksOf(axes, group);
    SmallVector<StringRef> names = axesOf(group);
    Type result = op.getToType().value_or(op.getType());
    std::string text = op.getMaximum()     ? "maximum"
                       : op.getGradients() ? "gradients of parameters"
                                           : what.str();
    // Sums of bf16 are formed in f32 and rounded once.
    std::string in = op.getMaximum()   ? textOf(op.getType())
                     : result.isBF16() ? "f32"
                                       : textOf(result);
    Row &row = rows[{text + ", " + stringifyCollectiveKind(op.getKind()).str(), in, textOf(result),
                     ranks, llvm::join(names, ",")}];
    row.elements = std::max<int64_t>(row.elements, op.getOuter() * op.getElements());
    row.count += count;
  };
  for (auto program : module.getOps<dist::ProgramOp>())
    if (program.getName() == "step")
      for (auto collective : program.getBody().getOps<dist::CollectiveOp>())
        note(collective,
             collective.getReads() ? "gradient of image states" : "loss and gradient norm", 1);
  for (auto [name, count] : runsOfStep(module))
    if (auto graph = symbols.lookup<dist::GraphOp>(name))
      for (auto collective : graph.getBody().getOps<dist::CollectiveOp>())
        note(collective, "activations and their gradients", count);
  for (auto &[key, row] : rows) {
    auto &[what, in, result, ranks, over] = key;
    os << "  " << what << ": " << row.elements << " x " << in << " -> " << result << ", " << ranks
       << " ranks, axes " << over << ", " << row.count << " times\n";
  }
  if (rows.empty())
    os << "  none\n";

  auto list = module->getAttrOfType<ArrayAttr>(kReductionsAttr);
  if (!list)
    return;
  os << "\nreductions inside blocks: op, summed in, result, terms, how often\n";
  for (Attribute entry : list) {
    auto row = dyn_cast<DictionaryAttr>(entry);
    auto op = row ? row.getAs<StringAttr>("op") : StringAttr();
    auto type = row ? row.getAs<TypeAttr>("type") : TypeAttr();
    auto result = row ? row.getAs<TypeAttr>("result") : TypeAttr();
    auto length = row ? row.getAs<IntegerAttr>("length") : IntegerAttr();
    auto count = row ? row.getAs<IntegerAttr>("count") : IntegerAttr();
    if (!op || !type || !result || !length || !count)
      continue; // of an edited file
    os << "  " << op.getValue() << ": " << textOf(type.getValue()) << " -> "
       << textOf(result.getValue()) << ", " << length.getInt() << " terms, " << count.getInt()
       << " times\n";
  }
}
