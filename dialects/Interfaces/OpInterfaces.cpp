//===- OpInterfaces.cpp - Questions every op can answer -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Interfaces/OpInterfaces.h"

#include "llvm/ADT/SmallPtrSet.h"

#include <map>

using namespace mlir;
using namespace mlir::llama;

#include "dialects/Interfaces/AttrInterfaces.cpp.inc"
#include "dialects/Interfaces/OpInterfaces.cpp.inc"

// One letter for each dimension of a tensor of a rule: "bs(hd)" -> "bsh".
static std::string dimensionLetters(StringRef letters) {
  std::string result;
  bool inGroup = false, first = false;
  for (char c : letters) {
    if (c == '(' || c == ')') {
      inGroup = first = c == '(';
      continue;
    }
    if (!inGroup || first)
      result += c;
    first = false;
  }
  return result;
}

int64_t llama::detail::contractedElements(Operation *op) {
  PlacementRule rule = cast<PlacementOpInterface>(op).getPlacementRule();
  std::string kept;
  for (const std::string &letters : rule.results)
    kept += letters;
  std::map<char, int64_t> sizes;
  for (auto [type, letters] : llvm::zip(op->getOperandTypes(), rule.operands))
    for (auto [c, size] :
         llvm::zip(dimensionLetters(letters), cast<RankedTensorType>(type).getShape()))
      if (!StringRef(kept).contains(c))
        sizes[c] = std::max(sizes[c], size);
  int64_t length = 1;
  for (auto [c, size] : sizes)
    length *= size;
  return length;
}

int64_t llama::detail::bytesOfOperandsAndResults(Operation *op) {
  int64_t bytes = 0;
  auto add = [&](Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (tensor && tensor.hasStaticShape())
      bytes += tensor.getNumElements() * tensor.getElementTypeBitWidth() / 8;
  };
  llvm::SmallPtrSet<Value, 8> seen;
  for (Value operand : op->getOperands())
    if (seen.insert(operand).second)
      add(operand.getType());
  for (Type type : op->getResultTypes())
    add(type);
  return bytes;
}

LogicalResult llama::detail::verifyPlacement(Operation *op) {
  for (TypeRange types : {TypeRange(op->getOperandTypes()), TypeRange(op->getResultTypes())})
    for (Type type : types)
      if (auto tensor = dyn_cast<RankedTensorType>(type))
        if (auto placement = dyn_cast_or_null<PlacementAttrInterface>(tensor.getEncoding()))
          return placement.verifyPlacements(op);
  return success();
}
