//===- ProgramReader.h - A device program as launch lists -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads the programs of one name, a stage after the other, and checks on the way what the rules
// of launch lists (Check/Rules.h) do not know. Memory is kept by name beside the addresses: of
// each arena, each instance of a frame and each value of the running graph, which bytes hold what
//
//     named[arena 3]       |--- value 17 ---|-- value 40 --|     bytes, who wrote them last
//     named["kept" 2]      |------- "step.4.forward.1" -----|     and what that is (content)
//     entry                reads bytes 64 .. 128 of arena 3: has to find value 17
//     check::Action        the same bytes by address: the rules say what is found there
//
//   ReadProgram.cpp    stages, entries and the items of their runs become actions
//   ReadGradients.cpp  where each gradient is, over which axes it is reduced, and by what
//   CheckStep.cpp      what a step has to do: every run once, sums, norm, update, gathers
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_CHECK_PROGRAMREADER_H
#define LLAMAC_LIB_CHECK_PROGRAMREADER_H

#include "ReadItems.h"

#include "llamac/Lower/Reserves.h"

#include "llvm/ADT/SetVector.h"

#include <map>
#include <set>

namespace mlir::llamac {

class ProgramReader {
public:
  ProgramReader(ModuleOp module, int64_t stages, const Target &target,
                std::vector<check::Fault> &faults)
      : module(module), target(target), items(module, stages, target, faults),
        reserves(reservesOf(module)), faults(faults) {
    for (auto unit : module.getOps<dist::UnitOp>()) {
      weightsOf[dist::weightsFrame(unit.getSymName())] = unit;
      gradientOf[dist::gradientFrame(unit.getSymName())] = unit;
    }
    for (auto op : module.getOps<dist::StorageOp>())
      ++stagesOf[op.getParameter()];
    auto options = module->getAttrOfType<DictionaryAttr>("llama.options");
    auto given = options ? options.getAs<IntegerAttr>("micro_batches") : IntegerAttr();
    microBatches = given ? std::max<int64_t>(0, given.getInt()) : 0;
  }

  FailureOr<check::Program> read(ArrayRef<dist::ProgramOp> programs);

private:
  /// A frame of an entry: whose memory it is, and where.
  struct Place {
    int name; ///< of the memory by name
    int64_t shift;
    int arena;
    int64_t address;
  };

  /// The last value of some bytes by name. `content`: the name of what it is, or, of a gradient
  /// and of its shards, the sum of what was added, each term times the axes that it was summed
  /// over (ItemReader::factorOf).
  struct Written {
    int64_t end;
    uint64_t value, content;
    int64_t first; ///< byte of what was written at once
  };

  /// What an access has to find: a value, and where its first byte is.
  static uint64_t valueAt(uint64_t value, int64_t first) {
    return llvm::hash_combine(value, first) | 1;
  }

  /// The content of zeros in the gradient of image states: where a stage has no layers, or a
  /// group no images.
  static constexpr uint64_t kZeros = 2;

  /// Bytes by name, by their first.
  using Named = std::map<int64_t, Written>;

  /// A trained parameter of the stage: where its sharded or whole gradient lies.
  struct Trained {
    StringRef name;
    dist::StorageOp place;
    llama::ParameterOp op;
    int arena;
    int64_t begin, end; ///< of the gradient's sum, or of the shard of its unit
    int64_t elements;   ///< in it
    uint32_t axes;      ///< over which it is summed
  };
  void checkInstances(dist::RunOp run, const GraphItems &graph, ArrayRef<dist::InstanceAttr> used);
  void checkCollective(dist::CollectiveOp op, const Item &item);
  void checkNorm(dist::GradientNormOp op, const Item &item);
  void checkUpdate(dist::UpdateOp op, const Item &item);
  void checkGradients(const Use &use, const Twine &where, llvm::SetVector<size_t> &covered);
  void checkEntries(dist::ProgramOp program);
  void checkRuns(dist::ProgramOp program);
  LogicalResult readTrained(dist::ProgramOp program);
  int64_t statesBytes(const GraphItems &graph, int frame);
  uint64_t expected(const Trained &one);
  /// Micro-batches, or groups of them for the encoder, of the program.
  int64_t runsOf(bool ofEncoder) const {
    return ofEncoder ? (count + items.groupSize - 1) / items.groupSize : count;
  }
  bool isAt(std::optional<dist::AddressAttr> address, const Use &use, int64_t offset) {
    auto *arena = address ? items.arenas.find(address->getArena().getValue()) : items.arenas.end();
    return arena != items.arenas.end() && arena->second == use.space &&
           address->getOffset() == use.begin + offset;
  }
  LogicalResult checkCommunicators();
  LogicalResult readStage(dist::ProgramOp program);
  LogicalResult readEntry(dist::EntryOpInterface op);
  std::vector<int> readsBefore(dist::EntryOpInterface op);
  LogicalResult readActions(dist::EntryOpInterface op);
  FailureOr<int> readRun(dist::RunOp run, ArrayRef<int> after);
  LogicalResult readAction(dist::EntryOpInterface op, Item &item);
  template <typename Op> LogicalResult readTransfer(Op op, Item &item);
  void readReduced(dist::CollectiveOp op, Item &item);
  void readZero(dist::ZeroOp op, Item &item);
  LogicalResult readGradients();
  uint32_t axesOfGradient(llama::ParameterOp parameter);
  void checkUnit(dist::CollectiveOp op, const Item &item);

  int emit(const Item &item, const llvm::Twine &where, ArrayRef<Place> places, uint64_t tag,
           int64_t number = -1);
  uint64_t contribution(int parameter, int64_t application, int64_t number) const {
    return llvm::hash_combine(parameter, application, number);
  }
  static void cut(Named &bytes, int64_t where);
  void await(int action, int other);
  int spaceOf(const dist::InstanceAttr &instance);
  uint64_t newValue() { return llvm::hash_combine(stage, ++values) | 1; }

  ModuleOp module;
  const Target &target;
  ItemReader items;
  std::vector<StageReserves> reserves; // of the stages; empty: none
  std::vector<check::Fault> &faults;
  llvm::StringMap<dist::UnitOp> weightsOf, gradientOf; // by the frame of what is whole
  llvm::StringMap<unsigned> stagesOf;                  // of parameters
  int64_t microBatches = 0;                            // 0: not known
  int64_t losses = 0;                                  // graphs that give it
  check::Program program;

  // Of the stage that is being read.
  int64_t stage = 0;
  std::vector<Trained> trained;
  llvm::StringMap<uint32_t> imageAxes; // of the encoder's parameters: what splits its images
  llvm::SetVector<size_t> inNorm;      // of `trained`, counted in the norm
  check::RankClass *cls = nullptr;
  std::map<std::pair<StringRef, int64_t>, int> instances; // frame, number -> name
  std::vector<Named> named;                               // arenas first
  llvm::DenseMap<int64_t, Named> graphValues;             // of the run
  std::map<std::pair<StringRef, int64_t>, int> begun;     // gradients by frame and number
  llvm::MapVector<StringRef, std::set<int64_t>> ran;      // graph -> numbers of its runs
  int64_t count = 0;                                      // micro-batches
  llvm::StringMap<llvm::SetVector<std::pair<int64_t, int>>>
      applications; // of a parameter; 1: of the encoder
  struct Updated {  // sharded weights after the update
    dist::AddressAttr from;
    int64_t elements; // of the shard
    Type type;
    SmallVector<dist::StorageOp, 4> parameters;
  };
  std::vector<Updated> updated;
  uint64_t values = 0;
  llvm::DenseMap<Operation *, int> doneBy; // entry -> its last action
  bool isRead = false;                     // whether the host reads outputs between entries
  SmallVector<dist::RunOp> unread;         // whose outputs it has not read yet
  llvm::DenseMap<Attribute, int> units;    // list of gradients -> its number
};

} // namespace mlir::llamac

#endif // LLAMAC_LIB_CHECK_PROGRAMREADER_H
