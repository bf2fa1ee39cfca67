//===- Nest.h - An outlined nest and the kernel that it becomes -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the mappings of nests to kernels share (llama-map-kernels).
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LOWER_CUDA_NEST_H
#define LLAMAC_LOWER_CUDA_NEST_H

#include "lib/Lower/LoopAccess.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"

namespace mlir::llamac {

/// Threads of a block where nothing else decides.
inline constexpr int64_t kThreadsPerBlock = 256;

/// A nest as llama-outline-loops left it, but its range constant again.
struct Nest {
  func::FuncOp function; ///< (buffers); its ops: constants, stack buffers, the outermost loop
  Operation *loop;       ///< the outermost loop
  func::CallOp call;     ///< the one place that runs it
};

/// An empty kernel `NAME` + `suffix` in a gpu.module of its own, with the nest's buffers and then
/// `scratch` (buffers of the block) as arguments, and its launch before the nest's call.
gpu::GPUFuncOp makeKernel(const Nest &nest, int64_t blocks, int64_t threads,
                          ValueRange scratch = {}, StringRef suffix = "");

/// Loops from `outermost` on that directly contain each other, with constant ranges.
SmallVector<Operation *> perfectBand(Operation *outermost);

/// The loops of `band` whose iterations together are independent, outer ones first: their
/// variables separate all of `written`. With `own`, each iteration of band[0] has stack buffers
/// of its own.
SmallVector<Operation *> parallelLoops(ArrayRef<Operation *> band, ArrayRef<Value> written,
                                       bool own);

/// Buffers that `op`, or what is in it, writes.
SmallVector<Value> writtenBuffers(Operation *op);

/// Maps a nest to teams of threads: one row per team, its columns in pieces of 16 bytes over
/// the team's threads; or, if all of its loops are parallel, pieces over all threads. False if
/// the nest does not have that form; nothing is changed then.
bool mapToTeams(const Nest &nest);

/// The nests that a nest becomes where its rows are too few for its long sums, in their order; the
/// nest alone if there is nothing to gain. Each has a call and a function of its own.
SmallVector<Nest> takeApart(const Nest &nest);

/// Of a kernel of several nests: the blocks of each, in their order.
inline constexpr llvm::StringLiteral kPartsAttr = "llama.parts";

/// Makes one launch of launches in `block` of kernels of nests, where they do not depend on each
/// other and gain by it.
void mergeLaunches(func::FuncOp block);

} // namespace mlir::llamac

#endif // LLAMAC_LOWER_CUDA_NEST_H
