//===- ProgramBuilder.h - The programs of one stage -------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Writes the entries of `dist.program`s: runs of pieces, transfers, collectives. Entries
// are in the order in which a rank without overlap would do them; dist-place-frames finds
// their times, and adds the waits for data. What is not a wait for data is added here:
//
//   - image states that are gathered again wait for the run before the last, so that they
//     travel during one run and take no memory earlier
//   - so many blocks at a time have whole weights, and so many whole gradients: weights that
//     are gathered wait for the last reader of those that make room; a run waits for the
//     reduction of the gradients that make room
//   - the norm and the update wait for the last reduction of gradients
//
// No number goes through the host between entries. The arena of statistics has, each where a
// value may begin (with an alignment of 64 bytes):
//
//   byte 0         64                128                     192    256     320
//   | loss squares | hyperparameters | those of this step    | loss | norm  | once:AXES | ...
//   | two sums     | given, input    | with the clip's scale | of a | of a  | inputs
//   |              |                 |                       | run  | block |
//
// A run writes its loss, a block of gradients its norm; `add_once` adds them to the sums, an
// all-reduce makes them those of all ranks, `clip_norm` finds the scale, the update reads it.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PIPELINE_PROGRAMBUILDER_H
#define LLAMAC_LIB_PIPELINE_PROGRAMBUILDER_H

#include "CutGraph.h"
#include "ParameterLayout.h"

namespace mlir::llamac {

class ProgramBuilder {
public:
  ProgramBuilder(OpBuilder &builder, SymbolTable &symbols, ArrayRef<Axis> axes,
                 const EncoderPlacement &encoder, int64_t microBatches, int64_t blocksInFlight,
                 int stage, int stages, const ParameterLayout &layout);

  /// Begins the program `name`; entries are added to it from now on.
  void begin(StringRef name);
  /// Runs `pieces` on micro-batch (encoder: group) `number`, with the weights that they
  /// need gathered and the gradients that they add reduced.
  void run(const Pieces &pieces, int64_t number);
  /// The ends on this stage of what chunk `chunk` sends on.
  void transfer(bool send, StringRef direction, int from, int to, ArrayRef<Boundary> boundaries,
                int chunk, int64_t microBatch);
  /// The image states of a group, from every rank's share to all ranks.
  void gatherStates(const GraphCut &graph, int64_t group);
  /// Keeps a rank's share of them until restoreStates, if they are split.
  void keepStates(const GraphCut &graph, int64_t group);
  void restoreStates(const GraphCut &graph, int64_t group);
  /// Zeros where a stage adds nothing to the gradient of a group's states: everywhere if
  /// it has no cross-attention layers, else behind the group's images.
  void zeroStates(const GraphCut &graph, int64_t group);
  /// The gradient of a group's states, from every stage's part to the ranks that encoded
  /// the images.
  void reduceStates(const GraphCut &graph, int64_t group);
  /// Gradients are sums: they start at zero.
  void beginStep();
  /// Reduces what is left to reduce, and updates the parameters.
  void finishStep();
  /// Sums the loss, and the squares of the gradient, over the grid.
  void reduceSums();
  /// Bytes of the arena of statistics, once all programs are there.
  int64_t statisticsBytes() const { return statistics * spacing; }

private:
  /// An address or a frame instance.
  struct Side {
    dist::InstanceAttr instance;
    dist::AddressAttr address;
    Side(dist::InstanceAttr instance) : instance(instance) {}
    Side(dist::AddressAttr address) : address(address) {}
  };
  dist::CollectiveOp collective(dist::CollectiveKind kind, StringRef name, ArrayRef<StringRef> over,
                                Side from, Side to, int64_t elements, Type type,
                                ArrayAttr gradients = {}, ValueRange after = {});
  /// How the flat elements of a group's image states, or of their gradient, lie.
  struct Flat {
    SmallVector<StringRef> split, partial;
  };
  /// Says of `op` between which placements of a value of so many elements it goes.
  void place(dist::CollectiveOp op, StringRef crossing, int64_t elements, const Flat &before,
             const Flat &after);
  void runPiece(const Piece &piece, int64_t number);
  void addLoss(func::FuncOp function, int64_t microBatch);
  dist::AddressAttr input(StringRef name, int64_t number, int64_t count);
  /// Byte `byte` of one of the arena of statistics.
  dist::AddressAttr statistic(int64_t number, int64_t byte = 0) {
    return address(dist::ArenaRole::Statistics, number * spacing + byte, builder.getI8Type());
  }
  void addOnce(bool toLoss, dist::AddressAttr value, ArrayRef<StringRef> once,
               IntegerAttr microBatch = {});
  Value call(StringRef block, ArrayRef<Attribute> buffers, IntegerAttr microBatch = {});
  void gatherWeights(ArrayAttr units);
  SmallVector<Value, 2> roomForGradients(dist::UnitOp unit);
  dist::InstanceAttr instance(const FrameUse &use, int64_t number);
  dist::InstanceAttr instance(StringAttr frame, int64_t number) {
    return dist::InstanceAttr::get(builder.getContext(), frame, number, 0);
  }
  dist::AddressAttr address(dist::ArenaRole arena, int64_t elements, Type type);
  /// Streams of communicators that work beside compute, which is on stream 0: 1, 2, ...
  int64_t streamOf(dist::CommunicatorOp communicator) {
    return streams.try_emplace(communicator.getSymName(), int64_t(streams.size()) + 1)
        .first->second;
  }
  func::FuncOp sizedBlock(StringRef name, int64_t elements);
  /// What a gather that is ahead of its reader by one run waits for.
  SmallVector<Value, 1> beforeLastRun() {
    return runs.size() < 2 ? SmallVector<Value, 1>() : SmallVector<Value, 1>{runs[runs.size() - 2]};
  }
  /// The unit `symbol`, of this stage.
  dist::UnitOp unitOf(Attribute symbol) {
    return units.lookup(cast<FlatSymbolRefAttr>(symbol).getValue());
  }

  OpBuilder &builder;
  SymbolTable &symbols;
  ModuleOp module;
  ArrayRef<Axis> axes;
  const EncoderPlacement &encoder;
  int64_t microBatches, blocksInFlight;
  int stage, stages;
  const ParameterLayout &layout;
  Type event;
  llvm::StringMap<dist::UnitOp> units;
  int64_t spacing;                   // bytes from one statistic to the next
  int64_t statistics;                // so many so far
  llvm::StringMap<int64_t> counters; // axes of inputs `once:` -> their number

  // Of the program.
  dist::ProgramOp program;
  llvm::StringMap<int64_t> streams; // of its communicators
  SmallVector<Value> runs;          // that they are done
  Value lastReduction;              // of a unit's gradients
  /// The units that a run reads together, whole.
  struct WholeBlock {
    ArrayAttr units;
    Value reader; // the last run that read them
    bool has(Attribute unit) const { return llvm::is_contained(units, unit); }
  };
  SmallVector<WholeBlock> whole;    // at most blocksInFlight, the one read last at the end
  llvm::StringMap<int64_t> gathers; // unit -> the instance of its whole weights
  SmallVector<Value> reducedBlocks; // of runs that add to gradients of units: the last reduction
  struct Reductions {
    int64_t count = 0;
    Value last;
  };
  llvm::StringMap<Reductions> reductions; // of the gradients of a unit
};

} // namespace mlir::llamac

#endif // LLAMAC_LIB_PIPELINE_PROGRAMBUILDER_H
