//===- LlamaCost.cpp - Operations that the llama ops count ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The counting rule of CostOpInterface (llama3-vision specification D3): two
// operations per multiplication of a product, all keys of every query, no credit
// for masks, none for scores that the backward pass forms again. Bytes are those
// of operands and results, except where an op reads or writes a part of them.
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"

using namespace mlir;
using namespace mlir::llama;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

// 2 * (elements of `rows`) * `width`: each element meets `width` others. That many times; what
// is more than 2^63 - 1 counts as that.
static int64_t productOperations(Value rows, int64_t width, int64_t times = 1) {
  __extension__ using Wide = __int128;
  Wide operations = Wide(2) * tensorOf(rows).getNumElements() * width;
  return operations < INT64_MAX / times ? int64_t(operations) * times : INT64_MAX;
}

int64_t LinearOp::countOperations() {
  return productOperations(getInput(), tensorOf(getWeight()).getDimSize(0));
}

int64_t LinearDxOp::countOperations() {
  return productOperations(getCotangent(), tensorOf(getWeight()).getDimSize(1));
}

int64_t LinearDwOp::countOperations() {
  return productOperations(getCotangent(), tensorOf(getInput()).getShape().back());
}

// Q K^T and P V: 4 S T H D of each sample.
int64_t AttentionOp::countOperations() {
  return productOperations(getQuery(), tensorOf(getKey()).getDimSize(1), 2);
}

// dO V^T, P^T dO, dS K and dS^T Q: 8 S T H D of each sample.
int64_t AttentionGradOp::countOperations() {
  return productOperations(getQuery(), tensorOf(getKey()).getDimSize(1), 4);
}

int64_t LinearLseOp::countOperations() {
  return productOperations(getInput(), tensorOf(getWeight()).getDimSize(0));
}

// Logits that are formed again do not count.
int64_t LinearLseGradOp::countOperations() {
  int64_t products = !getDInput().use_empty() + !getDWeight().use_empty();
  return products ? productOperations(getInput(), tensorOf(getWeight()).getDimSize(0), products)
                  : 0;
}

//===----------------------------------------------------------------------===//
// Bytes
//===----------------------------------------------------------------------===//

int64_t SplitHeadsOp::countBytes() { return 0; }
int64_t MergeHeadsOp::countBytes() { return 0; }
int64_t ImagesToTokensOp::countBytes() { return 0; }
int64_t TokensToImagesOp::countBytes() { return 0; }

static int64_t bytesOf(Value value, int64_t elementBits) {
  return tensorOf(value).getNumElements() * elementBits / 8;
}

// A row of the table is read and written for each id.
int64_t EmbedOp::countBytes() {
  int64_t bits = tensorOf(getTable()).getElementTypeBitWidth();
  return bytesOf(getIds(), 64) + 2 * bytesOf(getResult(), bits);
}

// A row of cotangents is read for each id, a row of sums read and written.
int64_t EmbedGradOp::countBytes() {
  return bytesOf(getIds(), 64) +
         bytesOf(getCotangent(), tensorOf(getCotangent()).getElementTypeBitWidth()) +
         2 * bytesOf(getCotangent(), getAccumulation().getIntOrFloatBitWidth());
}

// Operands and results, the logits of all rows `passes` times, and for each chunk after the first
// `again` bytes once more.
template <typename Op> static int64_t bytesByChunks(Op op, int64_t passes, int64_t again) {
  int64_t rows = tensorOf(op.getLabels()).getNumElements();
  int64_t vocabulary = tensorOf(op.getWeight()).getDimSize(0);
  int64_t logit = op.getStatistics().getIntOrFloatBitWidth() / 8;
  int64_t chunk = headChunk(op.getChunk(), rows, vocabulary, logit);
  int64_t chunks = chunk ? llvm::divideCeil(rows, chunk) : 1;
  return llama::detail::bytesOfOperandsAndResults(op) + passes * rows * vocabulary * logit +
         std::max<int64_t>(0, chunks - 1) * again;
}

// Logits are written, and read by the three reductions of a row.
int64_t LinearLseOp::countBytes() {
  return bytesByChunks(*this, 4,
                       bytesOf(getWeight(), tensorOf(getWeight()).getElementTypeBitWidth()));
}

// Logits are written and read, and their gradient is written and read by each product; a chunk
// reads the weight twice, and reads and writes its gradient.
int64_t LinearLseGradOp::countBytes() {
  int64_t bits = tensorOf(getWeight()).getElementTypeBitWidth();
  int64_t again = bytesOf(getWeight(), (1 + !getDInput().use_empty()) * bits);
  if (!getDWeight().use_empty())
    again += 2 * bytesOf(getDWeight(), getAccumulation().getIntOrFloatBitWidth());
  int64_t uses = 1 + !getDInput().use_empty() + !getDWeight().use_empty();
  return bytesByChunks(*this, 2, again) +
         uses * bytesOf(getLabels(), bits) * tensorOf(getWeight()).getDimSize(0);
}
