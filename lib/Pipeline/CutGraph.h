//===- CutGraph.h - A graph to pieces of pipeline stages -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A graph (@step, @forward) is one list of applications for one micro-batch. Cutting
// gives each application to a *piece*: what one action of the schedule runs.
//
//   encode, encode_backward        the image encoder, on a group of micro-batches
//   states, states_gradient        key/value sides of a stage's cross-attention layers
//   forward, backward of a chunk   or backward_input and backward_weight
//
// Values that flow from piece to piece lie in frames: all values of one producer that
// have the same consumers are one frame. Between chunks they are sent.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PIPELINE_CUTGRAPH_H
#define LLAMAC_LIB_PIPELINE_CUTGRAPH_H

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Support/Grid.h"

#include "mlir/IR/BuiltinOps.h"

#include <vector>

namespace mlir::llamac {

/// Where the image encoder runs.
struct EncoderPlacement {
  bool firstStage = false;     ///< on stage 0 only, else on all
  bool tokens = false;         ///< its tokens are split, else its images
  SmallVector<StringRef> axes; ///< of size above 1, outermost first; who shares the work
  int64_t ranks = 1;           ///< product of their sizes
  int64_t group = 1;           ///< micro-batches of a round
};

/// How the chain of text applications is cut.
struct ChainCut {
  SmallVector<size_t> begin;     ///< first application of each chunk, and the number of all
  SmallVector<int> stageOfChunk; ///< pipeline stage that holds it
  int stages = 1;
  bool splitBackward = false;               ///< backward in two pieces (zero-bubble)
  llvm::DenseMap<int64_t, int> encoderPart; ///< of an application of the encoder; 0: absent
  int encoderParts = 1;
  /// Each application of these chunks, and of the encoder, is a piece of its own: weights or
  /// gradients are sharded, and come and go with it.
  SmallVector<bool> chunksByApplication;
  bool encoderByApplication = false;
};

/// A use of a frame by a piece.
struct FrameUse {
  StringAttr frame;
  /// Instances are groups; micro-batch i of a group uses byte `i * stride` on. Else
  /// instances are micro-batches.
  bool byGroup = false;
  int64_t stride = 0;
};

struct Piece {
  func::FuncOp function;
  SmallVector<FrameUse> reads, writes;
};

/// What one action runs, in order; empty: nothing to do.
using Pieces = SmallVector<Piece, 1>;

/// A value that one chunk sends the next (forward) or the one before (backward).
struct Boundary {
  StringAttr from;    ///< frame of the sender
  int64_t offset = 0; ///< of the value in it, in bytes
  StringAttr to;      ///< frame of the receiver: the value alone; null: the same memory
  RankedTensorType type;
  LocationAttr location; ///< of the op that makes the value
  StringAttr name;       ///< of the value (dist.crossing)
};

struct Chunk {
  Pieces forward, backward, backwardWeight; ///< backward: only its input half if split
  SmallVector<Boundary> forwardOut;         ///< to the next chunk
  SmallVector<Boundary> backwardOut;        ///< to the chunk before
};

struct Stage {
  Pieces states, statesGradient;
  SmallVector<Pieces, 1> encode, encodeBackward; ///< in parts, in the order in which they run
};

struct GraphCut {
  std::vector<Chunk> chunks;
  std::vector<Stage> stages;
  // Image states, if there are any. Frames of a group; null if nothing needs them.
  StringAttr encoded;                  ///< what a rank encoded
  StringAttr states;                   ///< of all images of the group
  StringAttr keptStates;               ///< a rank's part of them, for the gradient
  StringAttr restoredStates;           ///< whole again; `states` if they are not split
  StringAttr statesGradient;           ///< a stage's part of their gradient
  StringAttr encodedGradient;          ///< gradient of what a rank encoded
  RankedTensorType stateType;          ///< of a micro-batch, [B, N, D]
  Type stateGradientElement;           ///< f32; null if they have no gradient
  SmallVector<StringRef> statePartial; ///< axes over which a stage's part is partial
  RankedTensorType encodedType;        ///< what a rank encodes of a group
  int64_t groupElements = 0;           ///< of the states of a group, padding included
  SmallVector<StringRef> keptOver;     ///< axes over which states are kept split
};

/// Numbers of the applications that are the chain of text blocks, in order: one for
/// each layer, the embedding and the head.
SmallVector<int64_t> findChain(func::FuncOp graph);

/// Cuts `graph`; the pieces are functions named `prefix` + what they do, their stage
/// before that if there are several. Types of the encoder's blocks are changed to what a
/// rank has of a group. An error is printed.
FailureOr<GraphCut> cutGraph(func::FuncOp graph, StringRef prefix, const ChainCut &cut,
                             const EncoderPlacement &encoder, ArrayRef<Axis> axes);

/// Bytes of a value, rounded up as in a frame.
int64_t alignedBytes(Type type, int64_t alignment);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_PIPELINE_CUTGRAPH_H
