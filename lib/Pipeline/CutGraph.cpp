//===- CutGraph.cpp - A graph to pieces of pipeline stages ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// 1. classify: each application belongs to a chunk, by its place in the chain, or to the encoder,
//    or to the key/value side of the layer that reads it.
// 2. place: every op is cloned into the draft of its piece (PieceKey: work, chunk or stage, and the
//    application where pieces are single blocks). What an operand needs from another piece becomes
//    an argument of the draft. Ops without parameters that read only inputs of the graph (the
//    rotary table) are formed again in every piece that reads them.
// 3. frames: values with the same producer and the same consumers lie together.
//
//      forward.chunk0 ----y----> forward.chunk1     between chunks: sent, a frame at each end
//           |                         |
//           | "forward>backward"      | residuals: within a chunk, a frame that both name
//           v                         v
//      backward.chunk0 <---dy--- backward.chunk1
//
// 4. the encoder's share: its pieces take this rank's images of a whole group of micro-batches, so
//    types with a dimension of images change in them, and image states have frames of a group.
// 5. piecesOf: the drafts as functions, their frames as attributes of arguments and results.
//
// The cut is deterministic: drafts are ordered by key, values by their place in the graph.
//
//===----------------------------------------------------------------------===//
#include "CutGraph.h"

#include "llamac/Plan/Schedule.h"
#include "llamac/Support/Alignment.h"
#include "llamac/Train/Retype.h"

#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Support/MathExtras.h"

#include <map>
#include <set>

using namespace mlir;
using namespace mlir::llama;
using func::FuncOp;

int64_t llamac::alignedBytes(Type type, int64_t alignment) {
  auto tensor = cast<RankedTensorType>(type);
  return llvm::alignTo(tensor.getNumElements() * tensor.getElementTypeBitWidth() / 8, alignment);
}

namespace {
using namespace llamac;

/// Inputs of the encoder, whose first two dimensions are samples and images.
bool countsImages(StringRef input) {
  return input == "pixels" || input == "aspect_ratio_ids" || input == "tiles";
}

using plan::Work; // BackwardInput is a Backward here

/// A piece by its work, its chunk, stage or part of the encoder and, if it is one
/// application, that.
struct PieceKey {
  Work work;
  int where;
  int64_t application = -1;
  auto operator<=>(const PieceKey &) const = default;
};

/// A piece while it is written down.
struct Draft {
  FuncOp function;
  size_t order = 0;                          // in which pieces are begun, and run
  IRMapping map;                             // values of the graph -> values here
  SmallVector<DictionaryAttr> attributes;    // of the arguments
  llvm::MapVector<Value, unsigned> crossing; // values of other pieces -> argument
  SmallVector<Value> results;                // values of the graph
  SmallVector<DictionaryAttr> resultAttributes;
  llvm::SetVector<Attribute> reads, writes; // frames
};

/// What is known of an application.
struct Application {
  StringRef part;      // empty: text
  bool shared = false; // formed again by every piece that reads it
  int chunk = 0;       // of the text; of a key/value side, that of its layer
};

class Cutter {
public:
  Cutter(FuncOp graph, StringRef prefix, const ChainCut &cut, const EncoderPlacement &encoder,
         ArrayRef<Axis> axes)
      : graph(graph), module(graph->getParentOfType<ModuleOp>()), symbols(module), prefix(prefix),
        cut(cut), encoder(encoder), axes(axes), builder(graph.getContext()) {}

  FailureOr<GraphCut> run();

private:
  LogicalResult classify();
  PieceKey keyOf(Operation *op);
  /// The part of the encoder's work that `application` is in: forward ones in their order,
  /// backward ones against it.
  int encoderPart(int64_t application, bool forward) const {
    int part = cut.encoderPart.lookup(application);
    return forward ? part : cut.encoderParts - 1 - part;
  }
  LogicalResult place(Operation *op);
  Value resolve(Draft &draft, Value value);
  void clone(Draft &draft, Operation *op);
  void keepArguments(ApplyOp apply);
  bool isStatesGradient(Operation *op);
  LogicalResult findStates();
  LogicalResult sumStatesGradients();
  LogicalResult assignFrames();
  LogicalResult retypeEncoder();
  LogicalResult retype(FuncOp function, ArrayRef<Type> arguments);
  void finish(Draft &draft);
  Pieces piecesOf(Work work, int where, int stage);
  Piece pieceOf(const PieceKey &key, int stage);
  SmallVector<PieceKey> keysOf(Work work, int where) const;
  /// Whether a rank has only a part of a group's images.
  bool splitsImages() const { return !encoder.tokens && encoder.ranks > 1; }
  /// The type of `value` where it is made: that of a rank's share.
  Type typeOf(Value value) { return drafts.at(producer[value]).map.lookup(value).getType(); }

  int stageOf(const PieceKey &key) const {
    switch (key.work) {
    case Work::Forward:
    case Work::BackwardInput:
    case Work::Backward:
    case Work::BackwardWeight:
      return cut.stageOfChunk[key.where];
    case Work::States:
    case Work::StatesGradient:
      return key.where;
    case Work::Encode:
    case Work::EncodeBackward:
      return 0;
    }
    return 0;
  }
  static bool isOfChunk(const PieceKey &key) { return key.work <= Work::BackwardWeight; }
  static bool isOfEncoder(const PieceKey &key) {
    return key.work == Work::Encode || key.work == Work::EncodeBackward;
  }
  std::string nameOf(const PieceKey &key, int stage) const;
  Draft &draftOf(const PieceKey &key);
  StringAttr frameAttr(const Twine &name) { return builder.getStringAttr(name); }
  /// Attributes of an argument or result that lies in a frame; `name` is that of the value.
  DictionaryAttr inFrame(StringAttr frame, int64_t offset, StringAttr name) {
    return builder.getDictionaryAttr(
        {builder.getNamedAttr(dist::kCrossingAttr, name),
         builder.getNamedAttr(dist::kFrameAttr,
                              builder.getArrayAttr({frame, builder.getI64IntegerAttr(offset)}))});
  }
  /// The name of a value of the graph: that of the graph, application, phase, and its number
  /// among the results of these.
  void nameValues();

  FuncOp graph;
  ModuleOp module;
  SymbolTable symbols;
  StringRef prefix;
  const ChainCut &cut;
  const EncoderPlacement &encoder;
  ArrayRef<Axis> axes;
  OpBuilder builder;

  std::map<int64_t, Application> applications; // by number
  std::map<PieceKey, Draft> drafts;
  llvm::DenseMap<Value, StringAttr> names;  // of the results of all ops
  llvm::DenseMap<Value, PieceKey> producer; // of a value that a piece makes
  llvm::SetVector<Value> statesGradients;   // of the image states: parts, and their sums
  SmallVector<Value> gradientParts;         // those that key/value sides make, in order
  Operation *statesSum = nullptr;           // an application of their addition
  Value states;                             // image states, if any piece reads them
  GraphCut result;
};
} // namespace

static int64_t applicationOf(Operation *op) {
  auto number = op->getAttrOfType<IntegerAttr>(kApplicationAttr);
  return number ? number.getInt() : -1;
}

static bool isForward(Operation *op) {
  auto phase = op->getAttrOfType<StringAttr>(kPhaseAttr);
  return phase && phase.getValue() == kForwardPhase;
}

//===----------------------------------------------------------------------===//
// Which piece
//===----------------------------------------------------------------------===//

/// Parts of applications, and which of the text are formed where they are read: those
/// that have no parameters and read only inputs of the graph (the rotary table).
static std::map<int64_t, Application> findApplications(FuncOp graph, SymbolTable &symbols) {
  std::map<int64_t, Application> applications;
  std::map<int64_t, bool> readsInputsOnly;
  for (Operation &op : graph.getBody().front().without_terminator()) {
    int64_t number = applicationOf(&op);
    Application &application = applications[number];
    auto apply = dyn_cast<ApplyOp>(op);
    if (apply)
      if (auto block = symbols.lookup<FuncOp>(apply.getBlock()))
        if (auto part = block->getAttrOfType<StringAttr>(kPartAttr))
          application.part = part.getValue();
    if (!isForward(&op))
      continue;
    bool simple = apply && apply.getParameters().empty() &&
                  llvm::all_of(op.getOperands(), [](Value v) { return isa<BlockArgument>(v); });
    auto [entry, isNew] = readsInputsOnly.try_emplace(number, simple);
    entry->second &= simple;
  }
  for (auto [number, simple] : readsInputsOnly)
    applications[number].shared = simple && applications[number].part.empty();
  return applications;
}

SmallVector<int64_t> llamac::findChain(FuncOp graph) {
  SymbolTable symbols(graph->getParentOfType<ModuleOp>());
  SmallVector<int64_t> chain;
  for (auto &[number, application] : findApplications(graph, symbols))
    if (application.part.empty() && !application.shared)
      chain.push_back(number);
  return chain;
}

void Cutter::nameValues() {
  std::map<std::pair<int64_t, StringRef>, int64_t> count;
  for (Operation &op : graph.getBody().front().without_terminator())
    for (Value value : op.getResults()) {
      auto attribute = op.getAttrOfType<StringAttr>(kPhaseAttr);
      StringRef phase = attribute ? attribute.getValue() : "";
      int64_t number = count[{applicationOf(&op), phase}]++;
      names[value] = builder.getStringAttr(prefix + "." + Twine(applicationOf(&op)) + "." + phase +
                                           "." + Twine(number));
    }
}

LogicalResult Cutter::classify() {
  applications = findApplications(graph, symbols);
  size_t link = 0;
  int chunk = 0;
  for (auto &[number, application] : applications) {
    if (number < 0)
      return graph.emitOpError("expects every op to say its application (llama.application)");
    if (!application.part.empty() || application.shared)
      continue;
    while (link >= cut.begin[chunk + 1])
      ++chunk;
    application.chunk = chunk;
    ++link;
  }
  // A key/value side belongs to the layer that reads its results.
  for (Operation &op : graph.getBody().front().without_terminator()) {
    Application &application = applications[applicationOf(&op)];
    if (application.part != kKeyValuePart || !isForward(&op))
      continue;
    for (Operation *user : op.getUsers())
      if (Application &other = applications[applicationOf(user)]; other.part.empty())
        application.chunk = other.chunk;
  }
  return success();
}

PieceKey Cutter::keyOf(Operation *op) {
  const int64_t number = applicationOf(op);
  const Application &application = applications[number];
  bool forward = isForward(op);
  if (application.part == kEncoderPart)
    return {forward ? Work::Encode : Work::EncodeBackward, encoderPart(number, forward),
            cut.encoderByApplication ? number : -1};
  if (application.part == kKeyValuePart)
    return {forward ? Work::States : Work::StatesGradient, cut.stageOfChunk[application.chunk]};
  const int64_t part = cut.chunksByApplication[application.chunk] ? number : -1;
  if (forward)
    return {Work::Forward, application.chunk, part};
  auto phase = op->getAttrOfType<StringAttr>(kPhaseAttr);
  bool weight = phase && phase.getValue() == kBackwardWeightPhase;
  return {weight && cut.splitBackward ? Work::BackwardWeight : Work::Backward, application.chunk,
          part};
}

/// The pieces of a work, in the order in which they run.
SmallVector<PieceKey> Cutter::keysOf(Work work, int where) const {
  SmallVector<PieceKey> keys;
  for (auto &[key, draft] : drafts)
    if (key.work == work && key.where == where)
      keys.push_back(key);
  llvm::sort(keys, [&](const PieceKey &a, const PieceKey &b) {
    return drafts.at(a).order < drafts.at(b).order;
  });
  return keys;
}

std::string Cutter::nameOf(const PieceKey &key, int stage) const {
  // By plan::Work; BackwardInput is a Backward here.
  static constexpr StringRef names[] = {"forward",         "backward",       "backward",
                                        "backward_weight", "encode",         "states",
                                        "states_gradient", "encode_backward"};
  static_assert(std::size(names) == size_t(Work::EncodeBackward) + 1);
  std::string name;
  if (cut.stages > 1)
    name = "stage" + std::to_string(stage) + ".";
  name += (prefix + ".").str();
  name += key.work == Work::Backward && cut.splitBackward ? "backward_input"
                                                          : names[int(key.work)].str();
  if (isOfChunk(key) && int(cut.stageOfChunk.size()) > cut.stages)
    name += ".chunk" + std::to_string(llvm::count( // of the stage's chunks
                           ArrayRef(cut.stageOfChunk).take_front(key.where), stage));
  if (isOfEncoder(key) && cut.encoderParts > 1)
    name += ".part" + std::to_string(key.where);
  if (key.application >= 0)
    name += "." + std::to_string(key.application);
  return name;
}

//===----------------------------------------------------------------------===//
// Writing pieces down
//===----------------------------------------------------------------------===//

Draft &Cutter::draftOf(const PieceKey &key) {
  auto [entry, isNew] = drafts.try_emplace(key);
  Draft &draft = entry->second;
  if (isNew) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPoint(graph);
    draft.order = drafts.size();
    draft.function = FuncOp::create(builder, graph.getLoc(), nameOf(key, stageOf(key)),
                                    builder.getFunctionType({}, {}));
    draft.function.addEntryBlock();
  }
  return draft;
}

void Cutter::clone(Draft &draft, Operation *op) {
  for (Value operand : op->getOperands())
    if (!draft.map.contains(operand))
      draft.map.map(operand, resolve(draft, operand));
  OpBuilder b = OpBuilder::atBlockEnd(&draft.function.getBody().front());
  Operation *copy = b.clone(*op, draft.map);
  copy->removeAttr(kPhaseAttr);
  if (auto apply = dyn_cast<ApplyOp>(copy))
    keepArguments(apply);
}

/// Lets `apply` write beside what comes from another piece, not in its place.
void Cutter::keepArguments(ApplyOp apply) {
  auto block = symbols.lookup<FuncOp>(apply.getBlock());
  SmallVector<unsigned> results;
  for (unsigned r = 0; r < apply.getNumResults(); ++r) {
    auto place = block.getResultAttrOfType<IntegerAttr>(r, kInPlaceAttr);
    if (place && place.getInt() < int64_t(apply.getInputs().size()) &&
        isa<BlockArgument>(apply.getInputs()[place.getInt()]))
      results.push_back(r);
  }
  if (results.empty())
    return;
  std::string name = (apply.getBlock() + ".apart").str();
  if (!symbols.lookup(name)) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPoint(graph);
    block = block.clone();
    block.setName(name);
    for (unsigned r : results)
      block.removeResultAttr(r, builder.getStringAttr(kInPlaceAttr));
    symbols.insert(block, builder.getInsertionPoint());
  }
  apply.setBlock(name);
}

/// What stands for `value` of the graph in `draft`, which does not have it yet.
Value Cutter::resolve(Draft &draft, Value value) {
  Block &body = draft.function.getBody().front();
  if (Operation *op = value.getDefiningOp(); op && applications[applicationOf(op)].shared) {
    clone(draft, op);
    return draft.map.lookup(value);
  }
  DictionaryAttr attributes = builder.getDictionaryAttr({});
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    if (DictionaryAttr given = graph.getArgAttrDict(argument.getArgNumber()))
      attributes = given;
  } else {
    draft.crossing[value] = body.getNumArguments();
  }
  draft.attributes.push_back(attributes);
  return body.addArgument(value.getType(), value.getLoc());
}

/// Whether `op` adds, or reduces, gradients of the image states.
bool Cutter::isStatesGradient(Operation *op) {
  return !isForward(op) && op->getNumOperands() > 0 && op->getNumResults() == 1 &&
         applications[applicationOf(op)].part == kEncoderPart &&
         llvm::all_of(op->getOperands(), [&](Value v) { return statesGradients.contains(v); }) &&
         (isa<shard::AllReduceOp>(op) ||
          (isa<ApplyOp>(op) && cast<ApplyOp>(op).getBlock().starts_with("add.")));
}

LogicalResult Cutter::place(Operation *op) {
  if (applications[applicationOf(op)].shared)
    return success();
  if (isStatesGradient(op)) {
    statesGradients.insert(op->getResult(0));
    if (auto reduce = dyn_cast<shard::AllReduceOp>(op)) {
      for (int16_t axis : reduce.getGridAxes())
        result.statePartial.push_back(axes[axis].name);
    } else {
      statesSum = op;
    }
    return success();
  }
  PieceKey key = keyOf(op);
  Draft &draft = draftOf(key);
  clone(draft, op);
  for (Value value : op->getResults()) {
    producer[value] = key;
    // A gradient of the image states: what a key/value side gives the encoder.
    if (key.work != Work::StatesGradient)
      continue;
    bool leaves = llvm::any_of(value.getUsers(), [&](Operation *user) {
      return applications[applicationOf(user)].part == kEncoderPart;
    });
    if (leaves) {
      statesGradients.insert(value);
      gradientParts.push_back(value);
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Frames
//===----------------------------------------------------------------------===//

/// Finds the value that the encoder gives the key/value sides.
LogicalResult Cutter::findStates() {
  for (auto &[key, draft] : drafts) {
    if (key.work != Work::States && key.work != Work::StatesGradient)
      continue;
    for (auto [value, number] : draft.crossing) {
      if (producer[value].work != Work::Encode)
        continue;
      if (states && states != value)
        return graph.emitOpError("expects one value of image states");
      states = value;
    }
  }
  if (!states)
    return success();
  result.stateType = cast<RankedTensorType>(states.getType());
  result.states = frameAttr(prefix + ".states");
  result.encoded = splitsImages() ? frameAttr(prefix + ".encoded") : result.states;
  return success();
}

/// Lets every stage add its parts of the gradient of the image states.
LogicalResult Cutter::sumStatesGradients() {
  if (gradientParts.empty())
    return success();
  result.statesGradient = frameAttr(prefix + ".states_gradient");
  result.encodedGradient =
      splitsImages() ? frameAttr(prefix + ".encoded_gradient") : result.statesGradient;
  result.stateGradientElement = cast<RankedTensorType>(gradientParts[0].getType()).getElementType();
  for (int stage = 0; stage < cut.stages; ++stage) {
    auto found = drafts.find({Work::StatesGradient, stage});
    if (found == drafts.end())
      continue;
    Draft &draft = found->second;
    Value sum;
    OpBuilder b = OpBuilder::atBlockEnd(&draft.function.getBody().front());
    for (Value part : gradientParts) {
      if (producer[part].where != stage)
        continue;
      Value here = draft.map.lookup(part);
      if (!sum) {
        sum = here;
        continue;
      }
      if (!statesSum || sum.getType() != here.getType())
        return graph.emitOpError("expects the gradients of image states to be of one type and "
                                 "added by a block");
      auto add = cast<ApplyOp>(statesSum);
      sum = ApplyOp::create(b, graph.getLoc(), TypeRange(sum.getType()), add.getBlockAttr(),
                            ValueRange{sum, here}, b.getArrayAttr({}), b.getArrayAttr({}))
                .getResult(0);
    }
    if (!sum)
      continue;
    // Stands for the first part in the list of results.
    draft.results.push_back(gradientParts[0]);
    draft.map.map(gradientParts[0], sum);
    draft.resultAttributes.push_back(
        inFrame(result.statesGradient, 0, builder.getStringAttr(dist::kStatesGradientCrossing)));
  }
  return success();
}

LogicalResult Cutter::assignFrames() {
  result.chunks.resize(cut.stageOfChunk.size());
  result.stages.resize(cut.stages);

  // Consumers of every value that crosses.
  llvm::MapVector<Value, std::set<PieceKey>> consumers;
  for (Operation &op : graph.getBody().front().without_terminator())
    for (Value value : op.getResults())
      for (auto &[key, draft] : drafts)
        if (draft.crossing.contains(value))
          consumers[value].insert(key);

  auto nameOfValue = [&](Value value) {
    return statesGradients.contains(value) ? builder.getStringAttr(dist::kStatesGradientCrossing)
           : value == states               ? builder.getStringAttr(dist::kStatesCrossing)
                                           : names.lookup(value);
  };
  auto setArgument = [&](Draft &draft, Value value, StringAttr frame, int64_t offset) {
    draft.attributes[draft.crossing.lookup(value)] = inFrame(frame, offset, nameOfValue(value));
  };
  auto addResult = [&](Draft &draft, Value value, StringAttr frame, int64_t offset) {
    draft.results.push_back(value);
    draft.resultAttributes.push_back(inFrame(frame, offset, nameOfValue(value)));
  };
  auto describe = [&](const std::set<PieceKey> &keys, bool sent) {
    std::string text;
    for (const PieceKey &key : keys)
      text += (text.empty() ? "" : ",") + nameOf(key, stageOf(key));
    if (sent)
      text += text.empty() ? "send" : ",send";
    return text;
  };

  struct Frame {
    std::string name;
    StringAttr attribute;
    int64_t bytes = 0;
  };
  // By producer, consumers, and whether others receive it.
  std::map<std::tuple<PieceKey, std::set<PieceKey>, bool>, Frame> frames;
  for (auto &[value, keys] : consumers) {
    if (statesGradients.contains(value)) { // the encoder's backward reads it, reduced
      for (const PieceKey &key : keys)
        setArgument(drafts[key], value, result.encodedGradient, 0);
      continue;
    }
    const PieceKey from = producer[value];
    if (value == states) {
      addResult(drafts[from], value, result.encoded, 0);
      for (const PieceKey &key : keys)
        setArgument(drafts[key], value,
                    isOfEncoder(key)                   ? result.encoded
                    : key.work == Work::StatesGradient ? result.restoredStates
                                                       : result.states,
                    0);
      continue;
    }
    for (const PieceKey &key : keys)
      if (key.work == from.work && (key.where == from.where || isOfEncoder(key)) &&
          drafts[key].order < drafts[from].order)
        return graph.emitOpError("expects a value of application ")
               << from.application << " to be read behind it, but application " << key.application
               << " comes before";
    // Other chunks receive it.
    std::set<PieceKey> local;
    std::map<int, std::set<PieceKey>> remote;
    for (const PieceKey &key : keys)
      (isOfChunk(from) && isOfChunk(key) && key.where != from.where ? remote[key.where] : local)
          .insert(key);
    auto [entry, isNew] = frames.try_emplace({from, local, !remote.empty()});
    auto &[name, frame, bytes] = entry->second;
    if (isNew) {
      name = nameOf(from, stageOf(from)) + ">" + describe(local, !remote.empty());
      frame = frameAttr(name);
    }
    int64_t offset = bytes;
    bytes += alignedBytes(typeOf(value), alignmentOf(module));
    addResult(drafts[from], value, frame, offset);
    for (const PieceKey &key : local)
      setArgument(drafts[key], value, frame, offset);
    for (auto &[chunk, there] : remote) {
      int step = chunk - from.where;
      bool forward = from.work == Work::Forward;
      if (step != (forward ? 1 : -1))
        return graph.emitOpError("expects values to pass from chunk to next chunk, but one goes "
                                 "from chunk ")
               << from.where << " to chunk " << chunk;
      Chunk &sender = result.chunks[from.where];
      auto &list = forward ? sender.forwardOut : sender.backwardOut;
      bool sameStage = cut.stageOfChunk[chunk] == cut.stageOfChunk[from.where];
      StringAttr to =
          sameStage
              ? frame
              : frameAttr(name + "#" + std::to_string(list.size()) + ">" + describe(there, false));
      for (const PieceKey &key : there)
        setArgument(drafts[key], value, to, sameStage ? offset : 0);
      list.push_back({frame, offset, sameStage ? StringAttr() : to,
                      cast<RankedTensorType>(value.getType()), value.getLoc(), nameOfValue(value)});
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// The encoder's share
//===----------------------------------------------------------------------===//

LogicalResult Cutter::retype(FuncOp function, ArrayRef<Type> arguments) {
  Block &body = function.getBody().front();
  for (auto [argument, type] : llvm::zip_equal(body.getArguments(), arguments))
    argument.setType(type);
  for (Operation &op : body.without_terminator()) {
    auto apply = dyn_cast<ApplyOp>(op);
    if (!apply) { // a collective: the number of images changes
      auto operand = cast<RankedTensorType>(op.getOperand(0).getType());
      for (Value value : op.getResults()) {
        auto old = cast<RankedTensorType>(value.getType());
        SmallVector<int64_t> shape(old.getShape());
        shape[0] = operand.getDimSize(0);
        value.setType(old.clone(shape));
      }
      continue;
    }
    auto block = symbols.lookup<FuncOp>(apply.getBlock());
    SmallVector<Type> types(block.getArgumentTypes());
    llvm::copy(apply.getInputs().getTypes(), types.begin());
    if (block.getArgumentTypes() != ArrayRef<Type>(types)) {
      // Others may apply it to what it was.
      bool elsewhere = false;
      for (auto &[key, draft] : drafts)
        if (!isOfEncoder(key))
          for (auto other : draft.function.getOps<ApplyOp>())
            elsewhere |= other.getBlock() == apply.getBlock();
      if (elsewhere) {
        block = block.clone();
        block.setName((apply.getBlock() + ".images").str());
        OpBuilder::InsertionGuard guard(builder);
        builder.setInsertionPoint(graph);
        symbols.insert(block, builder.getInsertionPoint());
        apply.setBlock(block.getName());
      }
      if (failed(retypeBlock(block, types, [](Operation *) {})))
        return failure();
    }
    for (auto [value, type] : llvm::zip(apply.getResults(), block.getResultTypes()))
      value.setType(type);
  }
  return success();
}

LogicalResult Cutter::retypeEncoder() {
  // Types of what a piece reads: the inputs of a rank's images of a group, and values of
  // pieces before it.
  auto typesOf = [&](Draft &draft) {
    SmallVector<Type> types(draft.function.getBody().getArgumentTypes());
    for (auto [index, type] : llvm::enumerate(types)) {
      auto name = draft.attributes[index].getAs<StringAttr>(kInputAttr);
      if (!name || !countsImages(name.getValue()))
        continue;
      auto tensor = cast<RankedTensorType>(type);
      SmallVector<int64_t> shape(tensor.getShape());
      int64_t images = shape[0] * shape[1] * encoder.group;
      SmallVector<Attribute> values = {builder.getI64IntegerAttr(encoder.group)};
      shape[0] = splitsImages() ? llvm::divideCeil(images, encoder.ranks) : images;
      shape[1] = 1;
      if (splitsImages())
        for (StringRef axis : encoder.axes)
          values.push_back(builder.getStringAttr(axis));
      type = tensor.clone(shape);
      NamedAttrList attributes(draft.attributes[index]);
      attributes.set(kInputAttr, builder.getStringAttr("encoder:" + name.getValue()));
      attributes.set(dist::kImagesAttr, builder.getArrayAttr(values));
      draft.attributes[index] = attributes.getDictionary(builder.getContext());
    }
    for (auto [value, number] : draft.crossing)
      types[number] = statesGradients.contains(value)
                          ? Type(result.encodedType.clone(result.stateGradientElement))
                          : typeOf(value);
    return types;
  };
  for (Work work : {Work::Encode, Work::EncodeBackward}) {
    for (int part = 0; part < cut.encoderParts; ++part)
      for (const PieceKey &key : keysOf(work, part)) {
        Draft &draft = drafts[key];
        if (failed(retype(draft.function, typesOf(draft))))
          return failure();
        draft.function->setAttr(dist::kImageAxesAttr,
                                builder.getStrArrayAttr(splitsImages() ? ArrayRef(encoder.axes)
                                                                       : ArrayRef<StringRef>()));
      }
    if (states)
      result.encodedType = cast<RankedTensorType>(typeOf(states));
  }
  if (!states)
    return success();
  result.groupElements = result.encodedType.getNumElements() * (splitsImages() ? encoder.ranks : 1);
  result.restoredStates = result.states;
  bool readAgain = llvm::any_of(drafts, [&](auto &entry) {
    return entry.first.work == Work::StatesGradient && entry.second.crossing.contains(states);
  });
  if (!readAgain)
    return success();
  // Ranks that share a layer have the same states: between their uses each keeps a part.
  int64_t parts = 1;
  for (const Axis &axis : axes)
    if ((axis.name == "tp" || axis.name == "tpr") && axis.size > 1) {
      result.keptOver.push_back(axis.name);
      parts *= axis.size;
    }
  if (result.groupElements % parts != 0)
    result.keptOver.clear();
  if (!result.keptOver.empty()) {
    result.keptStates = frameAttr(prefix + ".kept_states");
    result.restoredStates = frameAttr(prefix + ".restored_states");
  }
  return success();
}

//===----------------------------------------------------------------------===//
// The answer
//===----------------------------------------------------------------------===//

void Cutter::finish(Draft &draft) {
  FuncOp function = draft.function;
  OpBuilder b = OpBuilder::atBlockEnd(&function.getBody().front());
  SmallVector<Value> results =
      llvm::map_to_vector(draft.results, [&](Value value) { return draft.map.lookup(value); });
  func::ReturnOp::create(b, graph.getLoc(), results);
  function.setFunctionType(
      b.getFunctionType(function.getBody().getArgumentTypes(), ValueRange(results).getTypes()));
  function.setAllArgAttrs(draft.attributes);
  function.setAllResultAttrs(draft.resultAttributes);
  // A run names frames in the order of the arguments and results.
  auto collect = [](ArrayRef<DictionaryAttr> list, llvm::SetVector<Attribute> &frames) {
    for (DictionaryAttr attributes : list)
      if (auto frame = attributes ? attributes.getAs<ArrayAttr>(dist::kFrameAttr) : ArrayAttr())
        frames.insert(frame[0]);
  };
  collect(draft.attributes, draft.reads);
  collect(draft.resultAttributes, draft.writes);
}

/// What `stage` runs for a work.
Pieces Cutter::piecesOf(Work work, int where, int stage) {
  Pieces pieces;
  for (const PieceKey &key : keysOf(work, where))
    pieces.push_back(pieceOf(key, stage));
  return pieces;
}

Piece Cutter::pieceOf(const PieceKey &key, int stage) {
  Draft &draft = drafts.at(key);
  Piece piece;
  piece.function = draft.function;
  if (stage != stageOf(key)) { // the encoder on another stage
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPoint(graph);
    piece.function = cast<FuncOp>(builder.clone(*draft.function));
    piece.function.setName(nameOf(key, stage));
  }
  auto use = [&](Attribute frame) {
    FrameUse use = {cast<StringAttr>(frame)};
    bool ofMicroBatch = key.work == Work::States || key.work == Work::StatesGradient;
    if (ofMicroBatch && (frame == result.states || frame == result.restoredStates ||
                         frame == result.statesGradient)) {
      use.byGroup = true;
      Type element = frame == result.statesGradient ? result.stateGradientElement
                                                    : result.stateType.getElementType();
      use.stride = result.stateType.getNumElements() * element.getIntOrFloatBitWidth() / 8;
    }
    return use;
  };
  piece.reads = llvm::map_to_vector(draft.reads, use);
  piece.writes = llvm::map_to_vector(draft.writes, use);
  return piece;
}

FailureOr<GraphCut> Cutter::run() {
  if (failed(classify()))
    return failure();
  nameValues();
  for (Operation &op : graph.getBody().front().without_terminator()) {
    if (!isa<ApplyOp, shard::AllGatherOp, shard::AllReduceOp, shard::ReduceScatterOp,
             shard::AllSliceOp>(op))
      return op.emitOpError("does not belong in a graph: it holds applications of blocks and "
                            "collectives");
    if (failed(place(&op)))
      return failure();
  }
  // Outputs of the graph.
  for (OpOperand &output : graph.getBody().front().getTerminator()->getOpOperands()) {
    if (!producer.contains(output.get()))
      return graph.emitOpError("expects result ")
             << output.getOperandNumber() << " to be made by a piece of it";
    Draft &draft = draftOf(producer[output.get()]);
    draft.results.push_back(output.get());
    draft.resultAttributes.push_back(graph.getResultAttrDict(output.getOperandNumber()));
  }
  if (failed(findStates()) || failed(sumStatesGradients()) || failed(retypeEncoder()) ||
      failed(assignFrames()))
    return failure();
  for (auto &[key, draft] : drafts)
    finish(draft);
  for (int chunk = 0, e = cut.stageOfChunk.size(); chunk < e; ++chunk) {
    int stage = cut.stageOfChunk[chunk];
    result.chunks[chunk].forward = piecesOf(Work::Forward, chunk, stage);
    result.chunks[chunk].backward = piecesOf(Work::Backward, chunk, stage);
    result.chunks[chunk].backwardWeight = piecesOf(Work::BackwardWeight, chunk, stage);
  }
  for (int stage = 0; stage < cut.stages; ++stage) {
    result.stages[stage].states = piecesOf(Work::States, stage, stage);
    result.stages[stage].statesGradient = piecesOf(Work::StatesGradient, stage, stage);
    if (stage > 0 && encoder.firstStage)
      continue;
    for (int part = 0; part < cut.encoderParts; ++part) {
      result.stages[stage].encode.push_back(piecesOf(Work::Encode, part, stage));
      result.stages[stage].encodeBackward.push_back(piecesOf(Work::EncodeBackward, part, stage));
    }
  }
  return std::move(result);
}

FailureOr<GraphCut> llamac::cutGraph(FuncOp graph, StringRef prefix, const ChainCut &cut,
                                     const EncoderPlacement &encoder, ArrayRef<Axis> axes) {
  return Cutter(graph, prefix, cut, encoder, axes).run();
}
