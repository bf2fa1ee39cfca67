//===- Llama.h - The llama dialect -----------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMA_H
#define LLAMAC_LLAMA_LLAMA_H

#include "dialects/Interfaces/OpInterfaces.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace mlir::llama {
/// Whether the types are the same tensors, their encodings (placements) aside.
bool equalButForEncodings(TypeRange a, TypeRange b);

/// An op whose result costs nothing to form again: the elements of its operand, in their order.
template <typename Op> class IsView : public OpTrait::TraitBase<Op, IsView> {};
/// An op whose result costs one pass over memory, which is small beside the products.
template <typename Op> class IsCheap : public OpTrait::TraitBase<Op, IsCheap> {};
} // namespace mlir::llama

#include "dialects/Llama/IR/LlamaDialect.h.inc"
#include "dialects/Llama/IR/LlamaEnums.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Llama/IR/LlamaAttributes.h.inc"
#define GET_OP_CLASSES
#include "dialects/Llama/IR/LlamaOps.h.inc"

namespace mlir::llama {

/// Attribute of a block: the part of the model it belongs to, if not the text
/// decoder: the image encoder, or the key and value side of a cross-attention layer.
inline constexpr llvm::StringLiteral kPartAttr = "llama.part";
inline constexpr llvm::StringLiteral kEncoderPart = "encoder";
inline constexpr llvm::StringLiteral kKeyValuePart = "key_value";

/// Attribute of a block's argument: element type of its gradient where that is
/// not its own (image states: f32, the sum of many layers' contributions).
inline constexpr llvm::StringLiteral kGradientTypeAttr = "llama.gradient_type";

/// Attribute of a result of a backward function: the number of the block's argument
/// whose gradient it is. Other results are values that the weight half reads.
inline constexpr llvm::StringLiteral kGradientOfAttr = "llama.gradient_of";

/// Attributes of a graph's arguments and results: the name of the input or output.
inline constexpr llvm::StringLiteral kInputAttr = "llama.input";
inline constexpr llvm::StringLiteral kOutputAttr = "llama.output";

/// Attributes of an application in a training graph: the number of the application
/// of the model graph that it belongs to, and what part of the work it is.
inline constexpr llvm::StringLiteral kApplicationAttr = "llama.application";
inline constexpr llvm::StringLiteral kPhaseAttr = "llama.phase";
inline constexpr llvm::StringLiteral kForwardPhase = "forward";
inline constexpr llvm::StringLiteral kBackwardInputPhase = "backward_input";
inline constexpr llvm::StringLiteral kBackwardWeightPhase = "backward_weight";

/// How many of `rows` rows of logits, each of `vocabulary` numbers of `bytes` bytes, exist
/// together where they are formed in chunks: `asked`, rounded up to a multiple of kChunkStep, or if
/// that is 0 as many as take 256 MiB, but at least 1,024 (with fewer, adding to the gradient of the
/// weight in memory takes longer than its products), and then chunks of about the same size.
/// At most `rows`.
int64_t headChunk(int64_t asked, int64_t rows, int64_t vocabulary, int64_t bytes);

/// Chunks begin at multiples of so many rows: 16 bytes of any type, the widest access of a kernel.
inline constexpr int64_t kChunkStep = 8;

/// Type of the cotangent of `value`: its own type, with the element type of
/// `llama.gradient_type` if it is a block argument that carries one.
RankedTensorType cotangentType(Value value);

} // namespace mlir::llama

#endif // LLAMAC_LLAMA_LLAMA_H
