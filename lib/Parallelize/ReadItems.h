//===- ReadItems.h - What the ops of a device program do to memory *- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PARALLELIZE_READITEMS_H
#define LLAMAC_LIB_PARALLELIZE_READITEMS_H

#include "dialects/Dist/IR/Dist.h"
#include "llamac/Parallelize/Grid.h"
#include "llamac/Parallelize/Plan/Deadlock.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"

#include <map>
#include <optional>

namespace mlir::llamac {

/// Element types as numbers, and their bytes.
inline const plan::ElementType kTypes[] = {{"i64", 8}, {"f64", 8}, {"f32", 4}, {"bf16", 2}};
inline int typeNumber(Type type) {
  return type.isInteger(64) ? 0 : type.isF64() ? 1 : type.isF32() ? 2 : type.isBF16() ? 3 : -1;
}
inline int64_t widthOf(Type type) { return type.getIntOrFloatBitWidth() / 8; }

/// What an item does with bytes [begin, end) of an arena (space >= 0) or of its frame
/// -1 - space. `value` >= 0: they belong to that value of the graph.
struct Use {
  int space;
  int64_t begin, end;
  int type;
  int64_t value = -1;
  bool reads, writes;
};

/// A call, a collective, an end of a transfer.
struct Item {
  int stream = 0;
  SmallVector<unsigned> after; ///< earlier items of the graph
  SmallVector<Use> uses;
  std::optional<plan::Call> call;
  std::string what;
};

struct GraphItems {
  llvm::MapVector<StringRef, int> frames; ///< name -> number
  SmallVector<Use> inputs, outputs;
  std::vector<Item> items;
};

/// Reads ops into items, a stage at a time.
class ItemReader {
public:
  ItemReader(ModuleOp module, int64_t stages, std::vector<plan::Fault> &faults);

  /// What is read from now on is of this stage.
  void begin(int64_t stage);

  /// A graph is read once for each stage; `user` is to blame if there is none.
  FailureOr<const GraphItems *> readGraph(Operation *user, StringRef name);
  /// The buffers of a call: arguments, results not in place, scratch.
  LogicalResult readCall(Operation *op, StringRef block, std::optional<ArrayAttr> buffers,
                         DenseI64ArrayAttr values, const GraphItems *graph, Item &item);
  LogicalResult readCollective(dist::CollectiveOp op, const GraphItems *graph, Item &item);
  FailureOr<Use> use(Operation *op, dist::AddressAttr address, int64_t bytes, Type type,
                     bool reads, bool writes, const GraphItems *graph);
  /// The groups of a communicator that the stage belongs to: a number of `communicators`.
  int communicator(StringRef name);

  SymbolTable symbols;
  const SmallVector<Axis> axes;
  const int64_t stages;
  Type gradientType;                      ///< in which gradients have to be summed
  llvm::MapVector<StringRef, int> arenas; ///< of the stage
  std::vector<plan::Communicator> communicators; ///< of all that was read

private:
  ModuleOp module;
  std::vector<plan::Fault> &faults;
  SymbolTableCollection collection;
  std::map<std::pair<StringRef, int64_t>, int> communicatorOf; // and stage, -1: all
  llvm::StringMap<int64_t> scratch;
  int64_t stage = 0;
  llvm::StringMap<GraphItems> graphs; // of the stage
};

/// `what`, and where `op` comes from.
std::string locationOf(Operation *op, const llvm::Twine &what);

/// A name without the stages that are in it: "stage3.".
std::string withoutStages(StringRef name);

/// A bit for each axis of `names` with more than one rank.
uint32_t bitsOf(ArrayRef<Axis> axes, ArrayAttr names);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_PARALLELIZE_READITEMS_H
