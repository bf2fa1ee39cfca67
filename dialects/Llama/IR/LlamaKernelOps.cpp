//===- LlamaKernelOps.cpp - Calls of runtime routines ---------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

using namespace mlir;
using namespace mlir::llama;

void KernelOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  for (OpOperand &operand : getInputsMutable())
    if (isa<MemRefType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  for (OpOperand &operand : getOutputsMutable())
    if (isa<MemRefType>(operand.get().getType())) {
      if (getAccumulate())
        effects.emplace_back(MemoryEffects::Read::get(), &operand);
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
    }
}

// The element counts that `sizes` gives each operand, inputs first; optional
// trailing inputs (bias, masks) are added by the caller.
static SmallVector<int64_t> operandElements(KernelOp op) {
  ArrayRef<int64_t> s = op.getSizes();
  if (op.getKernel() == Kernel::Gemm) {
    SmallVector<int64_t> counts{s[0] * s[2], s[2] * s[1]};
    if (op.getInputs().size() == 3)
      counts.push_back(s[1]);
    counts.push_back(s[0] * s[1]);
    return counts;
  }
  int64_t batch = s[0], queries = s[1], keys = s[2], heads = s[3], kvHeads = s[4], size = s[5];
  int64_t q = batch * queries * heads * size, kv = batch * keys * kvHeads * size;
  int64_t lse = batch * queries * heads;
  bool forward = op.getKernel() == Kernel::AttentionForward;
  SmallVector<int64_t> counts =
      forward ? SmallVector<int64_t>{q, kv, kv} : SmallVector<int64_t>{q, q, kv, kv, q, lse};
  switch (*op.getMask()) {
  case Mask::Causal:
    counts.append(2, batch * queries);
    counts.append(2, batch * keys);
    break;
  case Mask::Encoder:
    counts.append({batch, queries});
    break;
  case Mask::Images:
    counts.append(2, batch * queries);
    counts.push_back(batch * s[6]);
    break;
  }
  counts.append(forward ? SmallVector<int64_t>{q, lse} : SmallVector<int64_t>{q, kv, kv});
  return counts;
}

LogicalResult KernelOp::verify() {
  bool gemm = getKernel() == Kernel::Gemm;
  bool forward = getKernel() == Kernel::AttentionForward;
  size_t sizes = gemm ? 3 : 7, outputs = gemm ? 1 : forward ? 2 : 3;
  if (getSizes().size() != sizes) // kernel_c1
    return emitOpError("expects ") << sizes << " sizes, but got " << getSizes().size();
  if (getOutputs().size() != outputs) // kernel_c1
    return emitOpError("expects ") << outputs << " outputs, but got " << getOutputs().size();
  if (gemm == getMask().has_value() || gemm == getScale().has_value()) // kernel_c4
    return emitOpError("expects mask and scale for attention, and only there");
  if (!gemm && (getTransposeA() || getTransposeB() || getAccumulate())) // kernel_c4
    return emitOpError("expects transpose_a, transpose_b and accumulate for gemm only");

  SmallVector<Value> operands(getInputs());
  llvm::append_range(operands, getOutputs());
  if (gemm ? getInputs().size() < 2 || getInputs().size() > 3
           : getInputs().size() != operandElements(*this).size() - outputs) // kernel_c1
    return emitOpError("expects another number of inputs, but got ") << getInputs().size();

  bool onTensors = isa<RankedTensorType>(operands.front().getType());
  for (auto [index, pair] : llvm::enumerate(llvm::zip_equal(operands, operandElements(*this)))) {
    auto [operand, count] = pair;
    auto type = cast<ShapedType>(operand.getType());
    if (!type.hasStaticShape() || type.getNumElements() != count) // kernel_c2
      return emitOpError("expects operand ")
             << index << " to have " << count << " elements, but got " << type;
    if (isa<RankedTensorType>(type) != onTensors || (!onTensors && !isa<MemRefType>(type)))
      return emitOpError("expects tensors only or memrefs only, but operand ") // kernel_c5
             << index << " is " << type;
  }

  auto element = [&](size_t index) { return getElementTypeOrSelf(operands[index].getType()); };
  size_t count = operands.size();
  Type type = element(0);
  bool known = gemm ? type.isF32() || type.isBF16() || type.isF64() : type.isF32() || type.isBF16();
  for (size_t i = 0; i < count; ++i) { // kernel_c3
    bool isLse = !gemm && i == (forward ? count - 1 : 5);
    bool isMask = !gemm && i >= (forward ? 3u : 6u) && i < count - outputs;
    if (isLse)
      known &= element(i).isF32();
    else if (isMask)
      known &= element(i).isInteger(64);
    else if (gemm && i + 1 == count)
      known &= element(i) == type || (type.isBF16() && element(i).isF32());
    else
      known &= element(i) == type;
  }
  if (!known)
    return emitOpError("expects element types that the runtime routine has, but got ")
           << getOperandTypes();
  return success();
}
