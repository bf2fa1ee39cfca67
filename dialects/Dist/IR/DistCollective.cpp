//===- DistCollective.cpp - What a collective does ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Dist/IR/DistCollective.h"

#include "mlir/IR/MLIRContext.h"

using namespace mlir;
using namespace mlir::dist;

/// Parts of `outer` rows, in the order of the members or, in each row, of the parts: in one
/// dimension where that is the same.
static RankedTensorType shapeOf(const Collective &of, bool byMember, Type type) {
  const bool scatters = of.kind == CollectiveKind::ReduceScatter;
  const bool parts = scatters || of.kind == CollectiveKind::AllGather;
  if (!parts || of.outer == 1)
    return RankedTensorType::get({(parts ? of.members : 1) * of.outer * of.elements}, type);
  if (byMember)
    return RankedTensorType::get({of.members, of.outer, of.elements}, type);
  return RankedTensorType::get({of.outer, of.members, of.elements}, type);
}

static int64_t bytesOf(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return tensor.getNumElements() * tensor.getElementType().getIntOrFloatBitWidth() / 8;
}

Collective Collective::plain() const {
  Collective result = *this;
  result.elements = outer * elements;
  result.outer = 1;
  result.accumulate = false;
  const bool exact = maximum && type == toType; // rounds nothing
  if (reduces() && !exact) {
    MLIRContext *context = type.getContext();
    result.type = type.isF64() || toType.isF64() ? Type(Float64Type::get(context))
                                                 : Type(Float32Type::get(context));
    result.toType = result.type;
  }
  return result;
}

FunctionType Collective::packType() const {
  const Type sum = plain().type;
  const bool moves = kind == CollectiveKind::ReduceScatter && outer > 1;
  if (!moves && type == sum)
    return {};
  return FunctionType::get(type.getContext(), shapeOf(*this, false, type),
                           shapeOf(*this, true, sum));
}

FunctionType Collective::unpackType() const {
  const Type sum = plain().toType;
  const bool moves = kind == CollectiveKind::AllGather && outer > 1;
  if (!moves && toType == sum && !accumulate)
    return {};
  Type from = shapeOf(*this, true, sum), to = shapeOf(*this, false, toType);
  if (kind == CollectiveKind::ReduceScatter) { // of one part
    from = RankedTensorType::get({outer * elements}, sum);
    to = RankedTensorType::get({outer * elements}, toType);
  }
  SmallVector<Type, 2> arguments = {from};
  if (accumulate)
    arguments.push_back(to);
  return FunctionType::get(type.getContext(), arguments, to);
}

int64_t Collective::packedBytes() const {
  FunctionType pack = packType();
  return pack ? bytesOf(pack.getResult(0)) : 0;
}

int64_t Collective::receivedBytes() const {
  FunctionType unpack = unpackType();
  if (!unpack || (kind == CollectiveKind::AllReduce && packType()))
    return 0;
  return bytesOf(unpack.getInput(0));
}

int64_t Collective::stagedBytes(bool pack, bool unpack) const {
  int64_t bytes = 0;
  for (FunctionType type :
       {pack ? packType() : FunctionType(), unpack ? unpackType() : FunctionType()})
    if (type)
      for (Type part : llvm::concat<const Type>(type.getInputs(), type.getResults()))
        bytes += bytesOf(part);
  return bytes;
}
