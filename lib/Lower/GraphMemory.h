//===- GraphMemory.h - From the values of a graph to addresses --*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// llama-plan-arenas turns graphs of values into graphs of addresses, in three parts. What
// one part knows is plain data for the next:
//
//   func.func @g(%x {llama.input}, %k {dist.frame = ["kept", 0]}) -> ({dist.frame = ["out", 0]})
//
//                             findLifetimes        findPlaces                 emitGraph
//     %x                      argument             @inputs[0], input          dist.input
//     %k                      argument             @kept[0], crossing         dist.frame
//   0 %a = apply @f(%x)       v0 [0 .. 2]          @workspace[0], value 0     dist.call
//   1 %b = all_reduce %a      v1 [1 .. 2]          @workspace[512], value 1   dist.collective
//   2 %c = apply @add(%a, %b) v0, in its place     @workspace[0], value 0     dist.call
//   3 %d = apply @h(%c, %k)   v2 [3 .. 4]          @out[0], crossing          dist.call
//   4 return %d
//     scratch of op 0         lives at 0           @workspace[1024]           its last buffer
//
// ModuleMemory has what all graphs of a module share: the arenas, and what lies in them
// longer than one graph.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_GRAPHMEMORY_H
#define LLAMAC_LIB_LOWER_GRAPHMEMORY_H

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Support/ArenaPlan.h"
#include "llamac/Support/Grid.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

#include <map>

namespace mlir::llamac {

/// Bytes of a tensor that executables know; failure after an error at `op`.
FailureOr<int64_t> bytesOf(Operation *op, Type type);

/// The argument whose place result `index` of `block` takes, if any.
std::optional<int64_t> placeOfResult(func::FuncOp block, unsigned index);

/// Memory of a collective beside operand and result, as dist::StagingAttr names it: bytes.
struct StagingBytes {
  int64_t packed = 0, received = 0, scratch = 0;
};

/// `staging` with the addresses of its memory, where there is any.
dist::StagingAttr placeStaging(dist::StagingAttr staging, const StagingBytes &bytes,
                               dist::AddressAttr packed, dist::AddressAttr received,
                               dist::AddressAttr scratch);

/// The arenas of a module, and what lies in them longer than one graph.
class ModuleMemory {
public:
  /// `isPipeline`: several stages.
  ModuleMemory(ModuleOp module, bool isPipeline);

  /// Makes sure that the stage has the arena, and that it has `bytes` bytes at least.
  void reserve(dist::ArenaRole role, int64_t stage, int64_t bytes);
  dist::AddressAttr address(dist::ArenaRole role, int64_t stage, int64_t offset);

  /// Places the inputs of `graph` that have a name: one place for all graphs of the stage.
  LogicalResult addInputs(func::FuncOp graph, int64_t stage);
  dist::AddressAttr input(int64_t stage, StringAttr name) const {
    return inputs.lookup({stage, name}).second;
  }
  /// Where the stage has a parameter and its state; null if it does not have it.
  dist::StorageOp storageOf(int64_t stage, StringAttr parameter) const {
    return storage.lookup({stage, parameter});
  }
  /// Bytes of scratch memory of a lowered block, `llama.scratch` of its code; failure after an
  /// error at `user`.
  FailureOr<int64_t> scratchOf(Operation *user, StringRef block);
  /// Bytes of what `staging` of `user`, the collective `what`, is to have addresses for; the
  /// scratch memory is that of the target and of the blocks, one after the other.
  FailureOr<StagingBytes> stagingOf(Operation *user, dist::StagingAttr staging,
                                    const dist::Collective &what);

  /// Writes a dist.arena for each that was reserved, then puts all in the order of their
  /// stages and roles.
  void declareArenas();

  ModuleOp module;
  SymbolTable symbols;
  const SmallVector<Axis> axes; ///< of the grid
  const int64_t alignment;      ///< of all values

private:
  using Key = std::pair<int64_t, StringAttr>; // stage, name
  SymbolTableCollection collection;
  bool isPipeline;
  std::map<std::pair<int64_t, dist::ArenaRole>, int64_t> arenas; // by stage: bytes
  llvm::DenseMap<Key, dist::StorageOp> storage;
  llvm::MapVector<Key, std::pair<Type, dist::AddressAttr>> inputs;
  llvm::StringMap<int64_t> scratch; // by block: bytes
};

/// When the values of a graph live. Op i is position i, the return the one behind the last.
/// A value lives from the op that makes it to the last that reads it; a result of the graph
/// to the return. A result in the place of an argument is one value with it.
struct GraphLifetimes {
  SmallVector<Operation *> ops;         ///< applications of blocks and collectives
  SmallVector<PlannedValue> values;     ///< without places
  llvm::DenseMap<Value, size_t> number; ///< of results of ops: in `values`
};

/// Fails after an error if an op is neither an application nor a collective, or if something
/// is read after its place was taken.
FailureOr<GraphLifetimes> findLifetimes(func::FuncOp graph, const SymbolTable &symbols);

/// A buffer of an op: where it is, and what it is to be, for the check of the program.
struct Buffer {
  dist::AddressAttr address;
  dist::OperandAttr is;
};

/// Where everything lies that a graph touches.
struct GraphPlaces {
  llvm::MapVector<StringAttr, int64_t> frames; ///< bytes, in the order in which a run names them
  llvm::DenseMap<Value, Buffer> values;        ///< arguments of the graph and results of ops
  SmallVector<SmallVector<Buffer>> parameters; ///< by op: its parameters, then its gradients
  SmallVector<Buffer> scratch;                 ///< by op
  llvm::DenseMap<Operation *, dist::StagingAttr> staging; ///< of collectives that have any
};

/// Values that cross to other graphs are in frames, parameters where their storage or their
/// unit's frame says; the rest and the scratch of ops share the workspace of the stage, which
/// grows as far as this graph needs.
FailureOr<GraphPlaces> findPlaces(func::FuncOp graph, int64_t stage,
                                  const GraphLifetimes &lifetimes, ModuleMemory &memory);

/// Writes the dist.graph before `graph`, which it replaces.
void emitGraph(func::FuncOp graph, const GraphLifetimes &lifetimes, const GraphPlaces &places,
               ModuleMemory &memory);

/// The frame of an argument or result: [name, offset]; null if it has none.
ArrayAttr frameOf(ArrayAttr attributes, unsigned index);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_GRAPHMEMORY_H
