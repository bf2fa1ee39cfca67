//===- RoutineOps.cpp - Calls of the runtime's routines -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The descriptions are the structures of the runtime's own header, filled by their names and
// read as words of 64 bits: neither positions nor numbers of enumerators are written twice.
//
//===----------------------------------------------------------------------===//
#include "dialects/Routine/IR/Routine.h"

#include "runtime/include/llrt/Kernels.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::routine;

#include "dialects/Routine/IR/RoutineDialect.cpp.inc"
#include "dialects/Routine/IR/RoutineEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Routine/IR/RoutineAttributes.cpp.inc"
#include "dialects/Routine/IR/RoutineInterfaces.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/Routine/IR/RoutineOps.cpp.inc"

void RoutineDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Routine/IR/RoutineAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Routine/IR/RoutineOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// What all calls have in common
//===----------------------------------------------------------------------===//

using Effects = SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>;

/// Memrefs are read and written; tensors are values.
static void addEffects(RoutineOpInterface op, Effects &effects) {
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType>(operand.get().getType()))
      continue;
    bool isOutput = op.isDpsInit(&operand);
    if (!isOutput || op.readsOutput(operand))
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
    if (isOutput)
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
  }
}

int64_t routine::runtimeType(Type element) {
  return element.isF32()    ? LLRT_F32
         : element.isBF16() ? LLRT_BF16
         : element.isF64()  ? LLRT_F64
                            : LLRT_I64;
}

template <typename Structure> static SmallVector<int64_t> words(const Structure &structure) {
  static_assert(sizeof(Structure) % sizeof(int64_t) == 0);
  SmallVector<int64_t> result(sizeof(Structure) / sizeof(int64_t));
  std::memcpy(result.data(), &structure, sizeof(Structure));
  return result;
}

namespace {
/// An operand, its name in messages and how many elements it must have.
struct Buffer {
  Value value;
  std::string name;
  int64_t elements;
};
} // namespace

static LogicalResult verifyBuffers(Operation *op, ArrayRef<Buffer> buffers) {
  bool onTensors = isa<RankedTensorType>(buffers.front().value.getType());
  for (const Buffer &buffer : buffers) {
    auto type = cast<ShapedType>(buffer.value.getType());
    // gemm_c1, attention_forward_c1, attention_forward_c2, the same of attention_backward
    if (!type.hasStaticShape() || type.getNumElements() != buffer.elements)
      return op->emitOpError("expects ")
             << buffer.name << " to have " << buffer.elements << " elements, but got " << type;
    // gemm_c3, attention_forward_c4, attention_backward_c4
    if (isa<RankedTensorType>(type) != onTensors || (!onTensors && !isa<MemRefType>(type)))
      return op->emitOpError("expects tensors only or memrefs only, but ")
             << buffer.name << " is " << type;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Matrix products
//===----------------------------------------------------------------------===//

LogicalResult GemmOp::verify() {
  if (getB().empty() || getC().empty()) // gemm_c4
    return emitOpError("expects at least one b and one c");
  SmallVector<Buffer> buffers{{getA(), "a", int64_t(getM() * getK())}};
  // The parts of a matrix of `elements` elements in rows of `row`.
  auto addParts = [&](OperandRange parts, const char *name, int64_t elements, int64_t row) {
    if (parts.size() == 1) {
      buffers.push_back({parts[0], name, elements});
      return success();
    }
    int64_t sum = 0;
    for (auto [i, part] : llvm::enumerate(parts)) {
      auto type = cast<ShapedType>(part.getType());
      if (!type.hasStaticShape() || type.getNumElements() % row) // gemm_c4
        return failure();
      buffers.push_back(
          {part, (Twine("part ") + Twine(i) + " of " + name).str(), type.getNumElements()});
      sum += type.getNumElements();
    }
    return success(sum == elements); // gemm_c1
  };
  if (failed(addParts(getB(), "b", int64_t(getK() * getN()), getTransposeB() ? getK() : getN())) ||
      failed(addParts(getC(), "c", int64_t(getM() * getN()), getN())))
    return emitOpError("expects parts of whole rows that are b or c together, but got ")
           << getOperandTypes();
  if (getBias())
    buffers.push_back({getBias(), "bias", int64_t(getN())});
  if (getBiasGradient())
    buffers.push_back({getBiasGradient(), "bias_gradient", int64_t(getM())});
  if (failed(verifyBuffers(*this, buffers)))
    return failure();
  Type type = getElementTypeOrSelf(getA()), to = getElementTypeOrSelf(getC().front());
  auto are = [](OperandRange parts, Type element) {
    return llvm::all_of(parts, [&](Value part) { return getElementTypeOrSelf(part) == element; });
  };
  bool known = (type.isF32() || type.isBF16() || type.isF64()) && are(getB(), type) &&
               (!getBias() || getElementTypeOrSelf(getBias()) == type) && are(getC(), to) &&
               (to == type || (type.isBF16() && to.isF32()));
  if (!known) // gemm_c2
    return emitOpError("expects operands of one type, f32, bf16 or f64, and c of that type, or "
                       "f32 if it is bf16, but got ")
           << getOperandTypes();
  if (getBiasGradient() &&
      (getBias() || !to.isF32() || !getElementTypeOrSelf(getBiasGradient()).isF32())) // gemm_c5
    return emitOpError("expects bias_gradient, and c beside it, of f32, and no bias, but got ")
           << getOperandTypes();
  return success();
}

StringRef GemmOp::getRoutine() { return "llrt_gemm"; }

SmallVector<int64_t> GemmOp::getDescription() {
  return words(LlrtGemm{.type = runtimeType(getElementTypeOrSelf(getA())),
                        .result_type = runtimeType(getElementTypeOrSelf(getC().front())),
                        .m = int64_t(getM()),
                        .n = int64_t(getN()),
                        .k = int64_t(getK()),
                        .transpose_a = getTransposeA(),
                        .transpose_b = getTransposeB(),
                        .accumulate = getAccumulate(),
                        .bias_gradient = getBiasGradient() != nullptr});
}

SmallVector<Value> GemmOp::getRoutineArguments() {
  return {getA(), getB().front(), getBiasGradient() ? getBiasGradient() : getBias(),
          getC().front()};
}

void GemmOp::getEffects(Effects &effects) { addEffects(*this, effects); }

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

static_assert(int64_t(Mask::Causal) == LLRT_MASK_CAUSAL &&
              int64_t(Mask::Encoder) == LLRT_MASK_ENCODER &&
              int64_t(Mask::Images) == LLRT_MASK_IMAGES);

/// The elements of each mask.
template <typename Op> static SmallVector<int64_t> maskElements(Op op) {
  int64_t batch = op.getBatch(), queries = op.getQueries(), keys = op.getKeys();
  switch (op.getMask()) {
  case Mask::Causal:
    return {batch * queries, batch * queries, batch * keys, batch * keys};
  case Mask::Encoder:
    return {batch, queries};
  case Mask::Images:
    return {batch * queries, batch * queries, batch * int64_t(op.getImages())};
  }
  llvm_unreachable("unknown mask");
}

/// Checks what both ops want. `perQuery` and `perKey`: the other operands of the shape of q
/// and k.
template <typename Op>
static LogicalResult verifyAttention(Op op, ArrayRef<std::pair<Value, StringRef>> perQuery,
                                     ArrayRef<std::pair<Value, StringRef>> perKey) {
  int64_t rows = op.getBatch() * op.getQueries() * op.getHeads();
  int64_t keyRows = op.getBatch() * op.getKeys() * op.getKvHeads(), size = op.getHeadSize();
  if (op.getHeads() % op.getKvHeads() != 0) // attention_forward_c5, attention_backward_c5
    return op.emitOpError("expects kv_heads to divide heads, but got ")
           << op.getKvHeads() << " and " << op.getHeads();
  int64_t covered = op.getMask() == Mask::Encoder ? op.getTileCount() * op.getTileStride()
                    : op.getMask() == Mask::Images
                        ? op.getImages() * op.getTileCount() * op.getTileTokens()
                        : int64_t(op.getKeys());
  if (covered != int64_t(op.getKeys())) // attention_forward_c6, attention_backward_c6
    return op.emitOpError("expects ") << op.getKeys() << " keys, but the tiles have " << covered;
  if (!(op.getScale().convertToDouble() > 0)) // attention_forward_c6, attention_backward_c6
    return op.emitOpError("expects a scale above 0, but got ") << op.getScaleAttr();

  SmallVector<int64_t> masks = maskElements(op);
  if (op.getMasks().size() != masks.size()) // attention_forward_c2, attention_backward_c2
    return op.emitOpError("expects ")
           << masks.size() << " masks for " << stringifyMask(op.getMask()) << ", but got "
           << op.getMasks().size();
  SmallVector<Buffer> buffers;
  for (auto [value, name] : perQuery)
    buffers.push_back({value, name.str(), rows * size});
  for (auto [value, name] : perKey)
    buffers.push_back({value, name.str(), keyRows * size});
  buffers.push_back({op.getLse(), "lse", rows});
  for (auto [index, mask, elements] : llvm::enumerate(op.getMasks(), masks))
    buffers.push_back({mask, "mask " + std::to_string(index), elements});
  if (failed(verifyBuffers(op, buffers)))
    return failure();

  Type type = getElementTypeOrSelf(op.getQ());
  bool known = (type.isF32() || type.isBF16()) && getElementTypeOrSelf(op.getLse()).isF32();
  for (auto [value, name] : llvm::concat<const std::pair<Value, StringRef>>(perQuery, perKey))
    known &= getElementTypeOrSelf(value) == type;
  for (Value mask : op.getMasks())
    known &= getElementTypeOrSelf(mask).isInteger(64);
  if (!known) // attention_forward_c3, attention_backward_c3
    return op.emitOpError("expects operands of one type, f32 or bf16, with lse of f32 and masks of "
                          "i64, but got ")
           << op->getOperandTypes();
  return success();
}

template <typename Op> static SmallVector<int64_t> describeAttention(Op op) {
  return words(LlrtAttention{.type = runtimeType(getElementTypeOrSelf(op.getQ())),
                             .batch = int64_t(op.getBatch()),
                             .queries = int64_t(op.getQueries()),
                             .keys = int64_t(op.getKeys()),
                             .heads = int64_t(op.getHeads()),
                             .kv_heads = int64_t(op.getKvHeads()),
                             .head_size = int64_t(op.getHeadSize()),
                             .mask = int64_t(op.getMask()),
                             .images = int64_t(op.getImages()),
                             .tile_count = int64_t(op.getTileCount()),
                             .tile_stride = int64_t(op.getTileStride()),
                             .tile_tokens = int64_t(op.getTileTokens()),
                             .scale = op.getScale().convertToDouble()});
}

/// The routines take four masks, of which the last ones may be null.
static void appendMasks(SmallVectorImpl<Value> &arguments, ValueRange masks) {
  llvm::append_range(arguments, masks);
  arguments.append(4 - masks.size(), Value());
}

LogicalResult AttentionForwardOp::verify() {
  return verifyAttention(*this, {{getQ(), "q"}, {getOut(), "out"}}, {{getK(), "k"}, {getV(), "v"}});
}

StringRef AttentionForwardOp::getRoutine() { return "llrt_attention_forward"; }

SmallVector<int64_t> AttentionForwardOp::getDescription() { return describeAttention(*this); }

SmallVector<Value> AttentionForwardOp::getRoutineArguments() {
  SmallVector<Value> arguments{getQ(), getK(), getV()};
  appendMasks(arguments, getMasks());
  arguments.append({getOut(), getLse()});
  return arguments;
}

void AttentionForwardOp::getEffects(Effects &effects) { addEffects(*this, effects); }

LogicalResult AttentionBackwardOp::verify() {
  return verifyAttention(*this,
                         {{getDOut(), "d_out"}, {getQ(), "q"}, {getOut(), "out"}, {getDQ(), "d_q"}},
                         {{getK(), "k"}, {getV(), "v"}, {getDK(), "d_k"}, {getDV(), "d_v"}});
}

StringRef AttentionBackwardOp::getRoutine() { return "llrt_attention_backward"; }

SmallVector<int64_t> AttentionBackwardOp::getDescription() { return describeAttention(*this); }

SmallVector<Value> AttentionBackwardOp::getRoutineArguments() {
  SmallVector<Value> arguments{getDOut(), getQ(), getK(), getV()};
  appendMasks(arguments, getMasks());
  arguments.append({getOut(), getLse(), getDQ(), getDK(), getDV()});
  return arguments;
}

void AttentionBackwardOp::getEffects(Effects &effects) { addEffects(*this, effects); }

//===----------------------------------------------------------------------===//
// Chunks of rows
//===----------------------------------------------------------------------===//

LogicalResult ChunksOp::verify() {
  size_t operands = (*this)->getNumOperands();
  if (getBegins().size() != operands || getSteps().size() != operands) // chunks_c1
    return emitOpError("expects begins and steps for ")
           << operands << " operands, but got " << getBegins().size() << " and "
           << getSteps().size();
  SmallVector<Buffer> buffers;
  for (auto [index, operand, begin, step] :
       llvm::enumerate((*this)->getOperands(), getBegins(), getSteps())) {
    auto type = cast<ShapedType>(operand.getType());
    int64_t elements = type.hasStaticShape() ? type.getNumElements() : 0;
    if (begin < 0 || step < 0 || begin > elements ||
        (step > 0 && int64_t(getCount()) > (elements - begin) / step)) // chunks_c1
      return emitOpError("expects operand ")
             << index << " to have " << getCount() << " parts of " << step << " elements from "
             << begin << " on, but got " << type;
    buffers.push_back({operand, "operand " + std::to_string(index), elements});
  }
  return verifyBuffers(*this, buffers); // chunks_c2
}

StringRef ChunksOp::getRoutine() { return getCallee(); }

SmallVector<int64_t> ChunksOp::getDescription() { return {}; }

SmallVector<Value> ChunksOp::getRoutineArguments() { return (*this)->getOperands(); }

void ChunksOp::getEffects(Effects &effects) { addEffects(*this, effects); }
