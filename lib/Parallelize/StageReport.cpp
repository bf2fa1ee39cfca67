//===- StageReport.cpp - How the work was shared out ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Parallelize/StageReport.h"

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
  auto seconds = [&](StringRef name) {
    return facts.getAs<FloatAttr>(name).getValueAsDouble();
  };
  ArrayRef<int64_t> blocks = facts.getAs<DenseI64ArrayAttr>("blocks").asArrayRef();
  if (blocks.size() > 1)
    os << llvm::formatv("stages: {0} blocks of the chain in {1}; slowest {2:f3} ms of a "
                        "micro-batch, lower bound {3:f3} ms, gap {4:f2} %\n",
                        std::accumulate(blocks.begin(), blocks.end(), int64_t(0)), runsOf(blocks),
                        seconds("slowest") * 1e3, seconds("lower_bound") * 1e3,
                        (seconds("slowest") / seconds("lower_bound") - 1) * 100);
  auto encoder = facts.getAs<DictionaryAttr>("encoder");
  if (!encoder)
    return;
  auto number = [&](StringRef name) { return encoder.getAs<IntegerAttr>(name).getInt(); };
  SmallVector<StringRef> axes(encoder.getAs<ArrayAttr>("axes").getAsValueRange<StringAttr>());
  os << llvm::formatv("encoder: {0} over {1} ({2} ranks); micro-batches of a group: {3}, parts: "
                      "{4}, images of padding: {5}\n",
                      encoder.getAs<StringAttr>("shard").getValue(), llvm::join(axes, ","),
                      number("ranks"), number("group"), number("parts"), number("padding"));
}
