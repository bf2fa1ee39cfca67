//===- ReadItems.h - What the ops of a device program do to memory *- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_CHECK_READITEMS_H
#define LLAMAC_LIB_CHECK_READITEMS_H

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Check/Rules.h"
#include "llamac/Lower/Target.h"
#include "llamac/Support/Grid.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"

#include <map>
#include <optional>

namespace mlir::llamac {

/// Element types as numbers, and their bytes.
inline const check::ElementType kTypes[] = {{"i64", 8}, {"f64", 8}, {"f32", 4}, {"bf16", 2}};
inline int typeNumber(Type type) {
  return type.isInteger(64) ? 0 : type.isF64() ? 1 : type.isF32() ? 2 : type.isBF16() ? 3 : -1;
}
inline int64_t widthOf(Type type) { return type.getIntOrFloatBitWidth() / 8; }

/// What an item does with bytes [begin, end) of an arena (space >= 0) or of its frame
/// -1 - space. `value` >= 0: they belong to that value of the graph. `content`: the name of
/// what is there, as a number; 0: it has none. `gradient` >= 0: the item adds to the gradient
/// of that parameter (a number of ItemReader::parameters), for the application `application`.
struct Use {
  int space;
  int64_t begin, end;
  int type;
  int64_t value = -1;
  bool reads, writes;
  uint64_t content = 0;
  int gradient = -1;
  int64_t application = -1;
  bool scratch = false; ///< has no name: nothing that is read later is there
};

/// A call, a collective, an end of a transfer.
struct Item {
  int stream = 0;
  SmallVector<Use> uses;
  std::optional<check::Call> call;
  uint64_t factor = 0;  ///< of a sum over ranks of what has no name: what it makes of contents
  bool inPlace = false; ///< a collective whose result may take the place of its operand
  std::string what;
  BlockWork work = {false, 0, 0, {}}; ///< of its blocks
  int64_t held = 0;                   ///< multiprocessors, while it waits for other ranks
};

/// A value of a rank: its type there, and how the whole lies on the grid (null: whole on every
/// axis).
struct Lying {
  Type type;
  Attribute placement;
  bool operator==(const Lying &other) const {
    return type == other.type && placement == other.placement;
  }
};

struct GraphItems {
  llvm::MapVector<StringRef, int> frames;  ///< name -> number
  llvm::SmallDenseSet<int, 2> groupFrames; ///< of image states: their instances are groups
  struct Input {
    dist::AddressAttr address;
    Lying lying;
    int64_t value; ///< behind the values of the graph
  };
  llvm::StringMap<Input> named; ///< inputs
  llvm::DenseMap<int64_t, Lying> values;
  llvm::StringMap<Lying> outputValues; ///< outputs that lie apart from the workspace
  SmallVector<Use> inputs, outputs;
  std::vector<Item> items;
  /// Values that are there to be read, and what made them: gradients of values, sums, results of
  /// collectives.
  llvm::MapVector<int64_t, std::string> needed;
  ArrayAttr imageAxes; ///< of a graph of the encoder
  dist::OutputOp loss; ///< null: it does not give it
  /// Parameters whose weights an application reads.
  llvm::SetVector<std::pair<int64_t, StringRef>> weights;
};

/// Reads ops into items, a stage at a time.
class ItemReader {
public:
  ItemReader(ModuleOp module, int64_t stages, const Target &target,
             std::vector<check::Fault> &faults);

  /// What is read from now on is of this stage.
  void begin(int64_t stage);

  /// A graph is read once for each stage; `user` is to blame if there is none.
  FailureOr<const GraphItems *> readGraph(Operation *user, StringRef name);
  /// The buffers of a call: arguments, results not in place, scratch.
  LogicalResult readCall(Operation *op, StringRef block, std::optional<ArrayAttr> buffers,
                         GraphItems *graph, Item &item);
  LogicalResult readCollective(dist::CollectiveOp op, GraphItems *graph, Item &item);
  /// The block `name` that `op` calls, which the code was made for; null after an error.
  func::FuncOp readBlock(Operation *op, StringRef name);
  FailureOr<Use> use(Operation *op, dist::AddressAttr address, int64_t bytes, Type type, bool reads,
                     bool writes, const GraphItems *graph);
  /// Adds to `item` what a block asks of the device.
  void addWork(StringRef block, Item &item);
  /// The groups of a communicator that the stage belongs to: a number of `communicators`.
  int communicator(StringRef name);

  /// The number of a name, for Use::content.
  uint64_t content(const llvm::Twine &name);
  /// The name that `content` stands for.
  StringRef nameOf(uint64_t content) const {
    auto name = names.find(content);
    return name == names.end() ? StringRef("nothing that has a name") : StringRef(name->second);
  }
  /// What a sum over these axes (bits) makes of contents: it multiplies them.
  uint64_t factorOf(uint32_t bits) const;
  /// The address at which graphs find the whole weights, or the gradient's sum, of a parameter
  /// of the stage; null: nowhere.
  dist::AddressAttr placeOf(StringRef parameter, bool gradient);
  /// Says so if an arena in which parameters or their state lie has something else.
  void expectNoState(const Use &use, const llvm::Twine &what);
  void fault(const char *rule, const llvm::Twine &message) {
    faults.push_back({rule, message.str()});
  }

  SymbolTable symbols;
  const SmallVector<Axis> axes;
  const int64_t stages;
  Type gradientType;                              ///< in which gradients have to be summed
  int64_t groupSize = 1;                          ///< micro-batches that the encoder takes at once
  llvm::MapVector<StringRef, int> arenas;         ///< of the stage
  std::vector<check::Communicator> communicators; ///< of all that was read
  std::vector<StringRef> parameters;              ///< with gradients, by number
  llvm::StringMap<int> parameterNumber;
  llvm::StringMap<dist::StorageOp> storage;                ///< of the stage
  llvm::StringMap<dist::UnitOp> weightsUnit, gradientUnit; ///< of the stage's parameters

private:
  bool readOperand(Operation *op, Attribute operand, dist::AddressAttr address, Lying lying,
                   bool isResult, GraphItems &graph, Use &use);
  void checkPlaced(dist::CollectiveOp op, ArrayAttr placed, const llvm::Twine &what);
  LogicalResult readStaging(dist::CollectiveOp op, const dist::Collective &what, Item &item);

  ModuleOp module;
  const Target &target;
  std::vector<check::Fault> &faults;
  SymbolTableCollection collection;
  llvm::StringMap<BlockWork> works;                            // of blocks
  std::map<std::pair<StringRef, int64_t>, int> communicatorOf; // and stage, -1: all
  llvm::StringMap<int64_t> scratch;
  llvm::DenseMap<uint64_t, std::string> names; // of contents
  llvm::StringMap<Lying> crossings;            // of all stages
  llvm::DenseMap<int64_t, StringRef> families; // kinds of layers, of applications
  llvm::SmallDenseSet<int, 8> stateArenas;     // of the stage
  int64_t stage = 0;
  llvm::StringMap<GraphItems> graphs; // of the stage
};

/// `what`, and where `op` comes from.
std::string locationOf(Operation *op, const llvm::Twine &what);

/// A name without the stages that are in it: "stage3.".
std::string withoutStages(StringRef name);

/// A bit for each axis of `names` with more than one rank.
uint32_t bitsOf(ArrayRef<Axis> axes, ArrayAttr names);

/// The bits of the axes on which the gradient of a parameter is a partial sum: those that its
/// placement names, dp, those that split the images (`image`) if the encoder has it, else pp
/// if `stages` > 1 have it.
uint32_t gradientAxes(ArrayRef<Axis> axes, llama::ParameterOp parameter,
                      std::optional<uint32_t> image, unsigned stages);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_CHECK_READITEMS_H
