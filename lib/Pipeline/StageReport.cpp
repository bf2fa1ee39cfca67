//===- StageReport.cpp - How the work was shared out ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Pipeline/StageReport.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <numeric>

using namespace mlir;
using namespace mlir::llamac;

/// `3 x 5, 4, 2 x 5`
static std::string runsOf(ArrayRef<int64_t> numbers) {
  std::string text;
  for (size_t i = 0, next; i < numbers.size(); i = next) {
    for (next = i + 1; next < numbers.size() && numbers[next] == numbers[i];)
      ++next;
    text += text.empty() ? "" : ", ";
    if (next - i > 1)
      text += std::to_string(next - i) + " x ";
    text += std::to_string(numbers[i]);
  }
  return text;
}

void llamac::printStages(ModuleOp module, llvm::raw_ostream &os) {
  auto facts = module->getAttrOfType<DictionaryAttr>(kStagesAttr);
  if (!facts)
    return;
  // What an edited file no longer says is not printed.
  auto blocks = facts.getAs<DenseI64ArrayAttr>("blocks");
  auto slowest = facts.getAs<FloatAttr>("slowest"), bound = facts.getAs<FloatAttr>("lower_bound");
  if (blocks && blocks.size() > 1 && slowest && bound)
    os << llvm::formatv(
        "stages: {0} blocks of the chain in {1}; slowest {2:f3} ms of a micro-batch, lower bound "
        "{3:f3} ms, gap {4:f2} %\n",
        std::accumulate(blocks.asArrayRef().begin(), blocks.asArrayRef().end(), int64_t(0)),
        runsOf(blocks), slowest.getValueAsDouble() * 1e3, bound.getValueAsDouble() * 1e3,
        (slowest.getValueAsDouble() / bound.getValueAsDouble() - 1) * 100);
  auto encoder = facts.getAs<DictionaryAttr>("encoder");
  if (!encoder)
    return;
  auto shard = encoder.getAs<StringAttr>("shard");
  auto list = encoder.getAs<ArrayAttr>("axes");
  auto number = [&](StringRef name) { return encoder.getAs<IntegerAttr>(name); };
  auto ranks = number("ranks"), group = number("group"), parts = number("parts"),
       padding = number("padding");
  if (!shard || !list || !llvm::all_of(list, llvm::IsaPred<StringAttr>) || !ranks || !group ||
      !parts || !padding)
    return;
  SmallVector<StringRef> axes(list.getAsValueRange<StringAttr>());
  os << llvm::formatv("encoder: {0} over {1} ({2} ranks); micro-batches of a group: {3}, parts: "
                      "{4}, images of padding: {5}\n",
                      shard.getValue(), llvm::join(axes, ","), ranks.getInt(), group.getInt(),
                      parts.getInt(), padding.getInt());
}
