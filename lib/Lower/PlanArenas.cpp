//===- PlanArenas.cpp - Fix every address of a program --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A graph is a list of applications and collectives. Op i is position i; a value lives
// from the op that makes it to the last one that reads it, outputs to the end of the
// graph. A result that takes the place of an argument is one value with it. What leaves
// for another graph lies in a frame, whose offsets are known. ArenaPlan.h solves the rest;
// graphs of a stage run one after another and share the workspace.
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Support/ArenaPlan.h"
#include "llamac/Support/Grid.h"
#include "runtime/include/llrt/MemoryTable.h"

#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MathExtras.h"

#include <map>

namespace mlir::llamac {
#define GEN_PASS_DEF_PLANARENASPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using func::FuncOp;
using llama::ApplyOp;

/// Bytes of a tensor that executables know; failure after an error.
static FailureOr<int64_t> bytesOf(Operation *op, Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  Type element = tensor ? tensor.getElementType() : Type();
  if (!tensor || !tensor.hasStaticShape() ||
      !(element.isF32() || element.isBF16() || element.isF64() || element.isSignlessInteger(64)))
    return op->emitOpError("expects tensors of static shape of f32, bf16, f64 or i64, but got ")
           << type;
  return tensor.getNumElements() * (element.getIntOrFloatBitWidth() / 8);
}

/// The argument whose place result `index` of `block` takes, if any.
static std::optional<int64_t> placeOfResult(FuncOp block, unsigned index) {
  if (auto place = block.getResultAttrOfType<IntegerAttr>(index, llama::kInPlaceAttr))
    return place.getInt();
  return std::nullopt;
}

namespace {
struct PlanArenasPass : llamac::impl::PlanArenasPassBase<PlanArenasPass> {
  using PlanArenasPassBase::PlanArenasPassBase;

  void runOnOperation() override;
};

class Planner {
public:
  explicit Planner(ModuleOp module)
      : module(module), symbols(module), builder(module.getContext()) {}

  LogicalResult run();

private:
  LogicalResult planInputs(FuncOp graph, int64_t stage);
  LogicalResult planGraph(FuncOp graph, int64_t stage);
  LogicalResult planEntries(dist::ProgramOp program);
  void emitCollective(Operation *op, AddressAttr from, AddressAttr to,
                      ArrayRef<Attribute> operands);
  dist::OperandAttr operand(dist::OperandKind kind, Attribute what = {}) {
    return dist::OperandAttr::get(module.getContext(), kind, what);
  }
  void declareArenas();

  std::string nameOf(StringRef arena, int64_t stage) const {
    return arenaName(arena, stage, isPipeline);
  }
  AddressAttr address(StringRef arena, int64_t offset, int64_t stage) {
    return symbolAddress(builder.getStringAttr(nameOf(arena, stage)), offset);
  }
  AddressAttr symbolAddress(StringAttr symbol, int64_t offset) {
    return AddressAttr::get(module.getContext(), FlatSymbolRefAttr::get(symbol), offset);
  }
  /// Notes that `arena` has at least `bytes` bytes.
  void reserve(StringRef arena, int64_t bytes, int64_t stage) {
    int64_t &size = arenas[{stage, arena.str()}];
    size = std::max<int64_t>(size, llvm::alignTo(bytes, kArenaAlignment));
  }
  FailureOr<int64_t> scratchOf(Operation *user, StringRef block);
  LogicalResult plan(Operation *op, MutableArrayRef<PlannedValue> values, int64_t stage);

  ModuleOp module;
  SymbolTableCollection collection;
  SymbolTable symbols;
  OpBuilder builder;
  bool isPipeline = false;                                                 // several stages
  std::map<std::pair<int64_t, std::string>, int64_t> arenas;               // stage, name -> bytes
  llvm::DenseMap<std::pair<int64_t, StringAttr>, dist::StorageOp> storage; // stage, parameter
  llvm::MapVector<std::pair<int64_t, StringAttr>, std::pair<Type, AddressAttr>> inputs;
  llvm::StringMap<int64_t> scratch; // by block
};
} // namespace

/// Bytes of scratch memory of a lowered block: `llama.scratch` of its code.
FailureOr<int64_t> Planner::scratchOf(Operation *user, StringRef name) {
  auto [entry, isNew] = scratch.try_emplace(name, 0);
  if (!isNew)
    return entry->second;
  Operation *block = symbols.lookup(name), *declaration = block;
  if (auto code = block->getAttrOfType<SymbolRefAttr>(kCodeAttr))
    block = collection.lookupSymbolIn(module, code);
  auto bytes = block ? block->getAttrOfType<IntegerAttr>(kScratchAttr) : IntegerAttr();
  if (!bytes || bytes.getInt() < 0)
    return user->emitOpError("expects a lowered block, but '")
           << name << "' has no code with the attribute " << kScratchAttr;
  declaration->setAttr(kScratchAttr, bytes);
  return entry->second = bytes.getInt();
}

/// Plans `values` into the workspace of a stage and checks the plan.
LogicalResult Planner::plan(Operation *op, MutableArrayRef<PlannedValue> values, int64_t stage) {
  int64_t bytes = planArena(values);
  if (findConflict(values, bytes))
    return op->emitOpError("internal error: two values that live at the same time overlap");
  reserve("workspace", bytes, stage);
  return success();
}

LogicalResult Planner::planInputs(FuncOp graph, int64_t stage) {
  for (unsigned i = 0; i < graph.getNumArguments(); ++i) {
    auto name = graph.getArgAttrOfType<StringAttr>(i, llama::kInputAttr);
    Type type = graph.getArgumentTypes()[i];
    FailureOr<int64_t> bytes = bytesOf(graph, type);
    if (failed(bytes))
      return failure();
    if (graph.getArgAttrOfType<ArrayAttr>(i, dist::kFrameAttr))
      continue;
    if (!name)
      return graph.emitOpError("expects argument ") << i << " to have a name (" << llama::kInputAttr
                                                    << ") or a frame (" << dist::kFrameAttr << ")";
    int64_t offset = arenas[{stage, "inputs"}];
    auto [entry, isNew] = inputs.insert({{stage, name}, {type, address("inputs", offset, stage)}});
    if (isNew)
      reserve("inputs", offset + *bytes, stage);
    else if (entry->second.first != type)
      return graph.emitOpError("expects input '")
             << name.getValue() << "' to have one type in all graphs, but got " << type << " and "
             << entry->second.first;
  }
  return success();
}

/// The frame of an argument or result: [name, offset]; null if it has none.
static ArrayAttr frameOf(ArrayAttr list, unsigned index) {
  if (!list || index >= list.size())
    return {};
  return cast<DictionaryAttr>(list[index]).getAs<ArrayAttr>(dist::kFrameAttr);
}

/// Adds the collective of `op` on addresses. Values are [outer][share] on a rank.
void Planner::emitCollective(Operation *op, AddressAttr from, AddressAttr to,
                             ArrayRef<Attribute> operands) {
  auto names = module->getAttrOfType<ArrayAttr>(kAxesAttr);
  auto shapeOf = [](Value value) { return cast<RankedTensorType>(value.getType()).getShape(); };
  ArrayRef<int16_t> axes;
  dist::CollectiveKind kind = dist::CollectiveKind::AllReduce;
  ArrayRef<int64_t> share = shapeOf(op->getResult(0));
  int64_t dimension = 0;
  bool maximum = false;
  if (auto gather = dyn_cast<shard::AllGatherOp>(op)) {
    kind = dist::CollectiveKind::AllGather;
    axes = gather.getGridAxes();
    share = shapeOf(gather.getInput());
    dimension = gather.getGatherAxis().getSExtValue();
  } else if (auto reduce = dyn_cast<shard::AllReduceOp>(op)) {
    axes = reduce.getGridAxes();
    maximum = reduce.getReduction() == shard::ReductionKind::Max;
  } else if (auto scatter = dyn_cast<shard::ReduceScatterOp>(op)) {
    kind = dist::CollectiveKind::ReduceScatter;
    axes = scatter.getGridAxes();
    dimension = scatter.getScatterAxis().getSExtValue();
    maximum = scatter.getReduction() == shard::ReductionKind::Max;
  } else {
    auto slice = cast<shard::AllSliceOp>(op);
    kind = dist::CollectiveKind::Slice;
    axes = slice.getGridAxes();
    dimension = slice.getSliceAxis().getSExtValue();
  }
  SmallVector<Attribute> over;
  for (int16_t axis : axes)
    over.push_back(names[axis]);
  std::string name = llvm::join(
      llvm::map_range(over, [](Attribute axis) { return cast<StringAttr>(axis).getValue(); }), ",");
  name = dist::CommunicatorOp::declare(symbols, name, builder.getArrayAttr(over)).getSymName();
  auto product = [](ArrayRef<int64_t> sizes) {
    int64_t result = 1;
    for (int64_t size : sizes)
      result *= size;
    return result;
  };
  Type type = cast<RankedTensorType>(op->getOperand(0).getType()).getElementType();
  Type toType = cast<RankedTensorType>(op->getResult(0).getType()).getElementType();
  auto collective = dist::CollectiveOp::create(
      builder, op->getLoc(), builder.getType<dist::EventType>(), ValueRange(), kind, name,
      dist::InstanceAttr(), dist::InstanceAttr(), from, to, product(share.take_front(dimension)),
      product(share.drop_front(dimension)), type,
      toType == type ? TypeAttr() : TypeAttr::get(toType), maximum, false, ArrayAttr(), 0);
  collective->setAttr(dist::kOperandsAttr, builder.getArrayAttr(operands));
  if (Attribute application = op->getAttr(llama::kApplicationAttr))
    collective->setAttr(llama::kApplicationAttr, application);
  auto placed = op->getAttrOfType<ArrayAttr>(dist::kPlacedAttr);
  if (!placed || placed.size() != 2)
    return;
  // The encoder's values have other sizes than when this was noted: those of its images.
  SmallVector<Attribute> types;
  for (auto [value, attribute] : llvm::zip(SmallVector<Value>{op->getOperand(0), op->getResult(0)},
                                           placed.getAsRange<TypeAttr>())) {
    auto local = cast<RankedTensorType>(value.getType());
    auto known = cast<RankedTensorType>(attribute.getValue());
    SmallVector<int64_t> shape(local.getShape());
    if (auto placement = dyn_cast_or_null<dist::PlacementAttr>(known.getEncoding()))
      for (auto [size, over] : llvm::zip(shape, placement.getSplit().getAsRange<ArrayAttr>()))
        size *= ranksOver(axesOf(module), over);
    types.push_back(
        TypeAttr::get(RankedTensorType::get(shape, local.getElementType(), known.getEncoding())));
  }
  collective->setAttr(dist::kPlacedAttr, builder.getArrayAttr(types));
}

LogicalResult Planner::planGraph(FuncOp graph, int64_t stage) {
  if (!graph.getBody().hasOneBlock())
    return graph.emitOpError("expects one block of applications");
  Block &body = graph.getBody().front();
  SmallVector<Operation *> ops;
  for (Operation &op : body.without_terminator()) {
    if (!isa<ApplyOp, shard::AllGatherOp, shard::AllReduceOp, shard::ReduceScatterOp,
             shard::AllSliceOp>(op))
      return op.emitOpError("is no application of a block and no collective, which is all a graph "
                            "may hold");
    ops.push_back(&op);
  }
  const int64_t end = ops.size(); // the position of the return

  // 1. Values that share a place have one entry in `planned`; arguments have -1 - their
  // number.
  SmallVector<PlannedValue> planned;
  DenseMap<Value, int64_t> entryOf;
  DenseMap<Operation *, int64_t> position;
  for (BlockArgument argument : body.getArguments())
    entryOf[argument] = -1 - int64_t(argument.getArgNumber());
  for (auto [i, op] : llvm::enumerate(ops))
    position[op] = i;
  position[body.getTerminator()] = end;

  auto add = [&](Operation *op, Value result, int64_t i) -> LogicalResult {
    FailureOr<int64_t> bytes = bytesOf(op, result.getType());
    if (failed(bytes))
      return failure();
    entryOf[result] = planned.size();
    planned.push_back({i, i, *bytes});
    return success();
  };
  for (auto [i, op] : llvm::enumerate(ops)) {
    for (Value input : op->getOperands())
      if (int64_t entry = entryOf.lookup(input); entry >= 0)
        planned[entry].end = i;
    auto apply = dyn_cast<ApplyOp>(op);
    if (!apply) {
      if (failed(add(op, op->getResult(0), i)))
        return failure();
      continue;
    }
    auto block = symbols.lookup<FuncOp>(apply.getBlock());
    const unsigned firstGradient = apply.getInputs().size() + apply.getParameters().size();
    for (unsigned r = 0; r < block.getNumResults(); ++r) {
      std::optional<int64_t> place = placeOfResult(block, r);
      if (r >= apply.getNumResults()) { // a gradient
        unsigned k = r - apply.getNumResults();
        if (!place || *place != firstGradient + k)
          return apply.emitOpError("expects result ")
                 << r << " of '" << apply.getBlock() << "' to take the place of argument "
                 << firstGradient + k << ", the gradient so far";
        continue;
      }
      Value result = apply.getResult(r);
      if (!place) {
        if (failed(add(apply, result, i)))
          return failure();
        continue;
      }
      // The old value dies here: nothing may read it any more.
      if (*place < 0 || *place >= int64_t(apply.getInputs().size()))
        return apply.emitOpError("expects result ")
               << r << " to take the place of an input, but got argument " << *place;
      Value old = apply.getInputs()[*place];
      bool readLater = llvm::any_of(old.getUses(), [&](OpOperand &use) {
        return position.lookup(use.getOwner()) > int64_t(i) ||
               (use.getOwner() == apply && use.getOperandNumber() != *place);
      });
      if (entryOf.lookup(old) < 0 || readLater)
        return apply.emitOpError("expects input ")
               << *place << ", whose place result " << r
               << " takes, to be no input of the graph and not to be read any more";
      entryOf[result] = entryOf.lookup(old);
    }
  }

  // 2. Places: in frames, else in the workspace, together with the blocks' scratch.
  DenseMap<int64_t, AddressAttr> frameOfEntry;
  DenseMap<int64_t, Attribute> crossingOfEntry, crossingOfArgument; // names
  auto crossing = [&](ArrayAttr list, unsigned index) -> Attribute {
    auto attributes = cast<DictionaryAttr>(list[index]);
    if (Attribute name = attributes.get(dist::kCrossingAttr))
      return name;
    auto frame = attributes.getAs<ArrayAttr>(dist::kFrameAttr); // of a graph made by hand
    return builder.getStringAttr(cast<StringAttr>(frame[0]).getValue() + " " +
                                 Twine(cast<IntegerAttr>(frame[1]).getInt()));
  };
  llvm::MapVector<StringAttr, int64_t> frames; // bytes
  auto note = [&](ArrayAttr frame, Type type) -> AddressAttr {
    auto name = cast<StringAttr>(frame[0]);
    int64_t offset = cast<IntegerAttr>(frame[1]).getInt();
    int64_t &bytes = frames[name];
    bytes =
        std::max<int64_t>(bytes, llvm::alignTo(offset + *bytesOf(graph, type), kArenaAlignment));
    return symbolAddress(name, offset);
  };
  // In the order in which a run names them.
  DenseMap<int64_t, AddressAttr> argumentPlace;
  ArrayAttr argumentAttrs = graph.getAllArgAttrs(), resultAttrs = graph.getAllResultAttrs();
  for (BlockArgument argument : body.getArguments())
    if (ArrayAttr frame = frameOf(argumentAttrs, argument.getArgNumber())) {
      argumentPlace[argument.getArgNumber()] = note(frame, argument.getType());
      crossingOfArgument[argument.getArgNumber()] =
          crossing(argumentAttrs, argument.getArgNumber());
    }
  // Whole weights and gradients of units: the frame of each parameter.
  DenseMap<StringAttr, StringAttr> weightsOf, gradientOf;
  auto noteUnits = [&](bool gradients, DenseMap<StringAttr, StringAttr> &frameOfParameter) {
    StringRef attribute = gradients ? dist::kGradientsAttr : dist::kWeightsAttr;
    auto list = graph->getAttrOfType<ArrayAttr>(attribute);
    for (Attribute symbol : list ? list.getValue() : ArrayRef<Attribute>()) {
      auto name = dyn_cast<FlatSymbolRefAttr>(symbol);
      auto unit = name ? symbols.lookup<dist::UnitOp>(name.getValue()) : dist::UnitOp();
      if (!unit || !(gradients ? unit.getGradient() : unit.getWeights()))
        return LogicalResult(graph.emitOpError("expects ")
                             << symbol << " in " << attribute << " to name a dist.unit with "
                             << (gradients ? "a gradient" : "weights"));
      StringAttr frame = builder.getStringAttr(gradients ? dist::gradientFrame(name.getValue())
                                                         : dist::weightsFrame(name.getValue()));
      Type type = gradients ? *unit.getGradientType() : unit.getType();
      frames[frame] =
          llvm::alignTo(unit.getElements() * type.getIntOrFloatBitWidth() / 8, kArenaAlignment);
      for (auto parameter : unit.getParameters().getAsRange<FlatSymbolRefAttr>())
        frameOfParameter[parameter.getAttr()] = frame;
    }
    return success();
  };
  if (failed(noteUnits(false, weightsOf)))
    return failure();
  DenseMap<int64_t, StringAttr> outputOfEntry; // names, of what entries read
  for (OpOperand &output : body.getTerminator()->getOpOperands()) {
    int64_t entry = entryOf.lookup(output.get());
    const unsigned index = output.getOperandNumber();
    ArrayAttr frame = frameOf(resultAttrs, index);
    if (entry < 0)
      return graph.emitOpError("expects result ")
             << output.getOperandNumber() << " to be made by the graph";
    planned[entry].end = end;
    if (frame) {
      frameOfEntry[entry] = note(frame, output.get().getType());
      crossingOfEntry[entry] = crossing(resultAttrs, index);
    } else if (auto at = graph.getResultAttrOfType<AddressAttr>(index, dist::kAddressAttr)) {
      frameOfEntry[entry] = at;
      outputOfEntry[entry] = graph.getResultAttrOfType<StringAttr>(index, llama::kOutputAttr);
    }
  }
  if (failed(noteUnits(true, gradientOf)))
    return failure();
  SmallVector<PlannedValue> workspace;
  SmallVector<size_t> placeOfEntry; // number in the workspace
  for (auto [entry, value] : llvm::enumerate(planned)) {
    placeOfEntry.push_back(workspace.size());
    if (!frameOfEntry.contains(entry))
      workspace.push_back(value);
  }
  const size_t firstScratch = workspace.size();
  for (auto [i, op] : llvm::enumerate(ops)) {
    auto apply = dyn_cast<ApplyOp>(op);
    FailureOr<int64_t> bytes = apply ? scratchOf(apply, apply.getBlock()) : 0;
    if (failed(bytes))
      return failure();
    workspace.push_back({int64_t(i), int64_t(i), *bytes});
  }
  if (failed(plan(graph, workspace, stage)))
    return failure();

  // 3. The same graph on addresses.
  auto placeOf = [&](Value value) -> AddressAttr {
    int64_t entry = entryOf.lookup(value);
    if (entry < 0) {
      if (AddressAttr frame = argumentPlace.lookup(-1 - entry))
        return frame;
      return inputs
          .lookup({stage, graph.getArgAttrOfType<StringAttr>(-1 - entry, llama::kInputAttr)})
          .second;
    }
    if (AddressAttr frame = frameOfEntry.lookup(entry))
      return frame;
    return address("workspace", workspace[placeOfEntry[entry]].offset, stage);
  };
  // What a value is, for the check of the program.
  using Kind = dist::OperandKind;
  auto nameOf = [&](Value value) -> Attribute {
    int64_t entry = entryOf.lookup(value);
    if (entry < 0) {
      if (Attribute name = crossingOfArgument.lookup(-1 - entry))
        return operand(Kind::Crossing, name);
      return operand(Kind::Input,
                     graph.getArgAttrOfType<StringAttr>(-1 - entry, llama::kInputAttr));
    }
    if (Attribute name = crossingOfEntry.lookup(entry))
      return operand(Kind::Crossing, name);
    if (StringAttr name = outputOfEntry.lookup(entry))
      return operand(Kind::Output, name);
    return operand(Kind::Value, builder.getI64IntegerAttr(entry));
  };
  builder.setInsertionPoint(graph);
  auto result = dist::GraphOp::create(builder, graph.getLoc(), graph.getSymNameAttr());
  if (Attribute imageAxes = graph->getAttr(dist::kImageAxesAttr))
    result->setAttr(dist::kImageAxesAttr, imageAxes);
  builder.createBlock(&result.getBody());
  for (auto [name, bytes] : frames)
    dist::FrameOp::create(builder, graph.getLoc(), name, bytes);
  for (BlockArgument argument : body.getArguments()) {
    unsigned i = argument.getArgNumber();
    if (!argumentPlace.contains(i))
      dist::InputOp::create(builder, graph.getLoc(),
                            graph.getArgAttrOfType<StringAttr>(i, llama::kInputAttr),
                            placeOf(argument), TypeAttr::get(argument.getType()),
                            graph.getArgAttrOfType<ArrayAttr>(i, kSplitAttr),
                            graph.getArgAttrOfType<ArrayAttr>(i, dist::kImagesAttr));
  }
  for (auto [i, op] : llvm::enumerate(ops)) {
    auto apply = dyn_cast<ApplyOp>(op);
    if (!apply) {
      emitCollective(op, placeOf(op->getOperand(0)), placeOf(op->getResult(0)),
                     {nameOf(op->getOperand(0)), nameOf(op->getResult(0))});
      continue;
    }
    auto block = symbols.lookup<FuncOp>(apply.getBlock());
    SmallVector<Attribute> buffers;
    SmallVector<Attribute> operands;
    for (Value input : apply.getInputs()) {
      buffers.push_back(placeOf(input));
      operands.push_back(nameOf(input));
    }
    for (bool gradient : {false, true})
      for (auto parameter : (gradient ? apply.getGradients() : apply.getParameters())
                                .getAsRange<FlatSymbolRefAttr>()) {
        dist::StorageOp place = storage.lookup({stage, parameter.getAttr()});
        // With a sharded state the sum of this rank's gradients lies apart, whole.
        auto where = !place ? std::optional<AddressAttr>()
                     : gradient
                         ? place.getGradientSum() ? place.getGradientSum() : place.getGradient()
                         : place.getAddress();
        if (!where)
          return apply.emitOpError("expects a dist.storage of '")
                 << parameter.getValue() << "' on stage " << stage
                 << (gradient ? " with a gradient" : "");
        if (StringAttr frame = (gradient ? gradientOf : weightsOf).lookup(parameter.getAttr())) {
          if (!place.getShard()) // where it is in its unit
            return place.emitOpError("expects a shard of its dist.unit");
          Type type =
              cast<RankedTensorType>(block.getArgumentTypes()[buffers.size()]).getElementType();
          where = symbolAddress(frame, (*place.getShard())[0] * type.getIntOrFloatBitWidth() / 8);
        }
        buffers.push_back(*where);
        operands.push_back(operand(gradient ? Kind::Gradient : Kind::Weights, parameter));
      }
    for (unsigned r = 0; r < apply.getNumResults(); ++r)
      if (!placeOfResult(block, r)) {
        buffers.push_back(placeOf(apply.getResult(r)));
        operands.push_back(nameOf(apply.getResult(r)));
      }
    buffers.push_back(address("workspace", workspace[firstScratch + i].offset, stage));
    operands.push_back(operand(Kind::Scratch));
    auto call = dist::CallOp::create(builder, apply.getLoc(), builder.getType<dist::EventType>(),
                                     ValueRange(), apply.getBlock(), builder.getArrayAttr(buffers),
                                     IntegerAttr(), 0);
    call->setAttr(dist::kOperandsAttr, builder.getArrayAttr(operands));
    if (Attribute application = apply->getAttr(llama::kApplicationAttr))
      call->setAttr(llama::kApplicationAttr, application);
  }
  for (OpOperand &output : body.getTerminator()->getOpOperands()) {
    unsigned i = output.getOperandNumber();
    if (frameOf(resultAttrs, i))
      continue;
    auto name = graph.getResultAttrOfType<StringAttr>(i, llama::kOutputAttr);
    if (!name)
      return graph.emitOpError("expects result ") << i << " to have a name (" << llama::kOutputAttr
                                                  << ") or a frame (" << dist::kFrameAttr << ")";
    auto place = dist::OutputOp::create(builder, graph.getLoc(), name, placeOf(output.get()),
                                        TypeAttr::get(output.get().getType()),
                                        graph.getResultAttrOfType<ArrayAttr>(i, kSplitAttr),
                                        graph.getResultAttrOfType<ArrayAttr>(i, kPartialAttr));
    place->setAttr(dist::kOperandsAttr, builder.getArrayAttr({nameOf(output.get())}));
  }
  return success();
}

/// Gives the blocks that entries call their scratch. They run when no graph does: the whole
/// workspace is theirs.
LogicalResult Planner::planEntries(dist::ProgramOp program) {
  const int64_t stage = program.getStage();
  for (auto entry : program.getBody().getOps<dist::EntryOpInterface>()) {
    FlatSymbolRefAttr name = entry.getBlockAttr();
    if (!name)
      continue;
    Operation &op = *entry;
    ArrayAttr buffers = entry.getBuffers().value_or(ArrayAttr());
    auto block = symbols.lookup<FuncOp>(name.getValue());
    if (!block)
      return op.emitOpError("expects a block");
    SmallVector<Type> types(block.getArgumentTypes());
    for (unsigned r = 0; r < block.getNumResults(); ++r)
      if (!placeOfResult(block, r))
        types.push_back(block.getResultTypes()[r]);
    if (!buffers || buffers.size() != types.size())
      return op.emitOpError("expects an address for each of ")
             << types.size() << " buffers of '" << name.getValue() << "'";
    for (auto [index, address] : llvm::enumerate(buffers.getAsRange<AddressAttr>())) {
      FailureOr<int64_t> bytes = bytesOf(&op, types[index]);
      if (failed(bytes))
        return failure();
      auto arena = symbols.lookup<dist::ArenaOp>(address.getArena().getValue());
      if (!arena || address.getOffset() + *bytes > int64_t(arena.getBytes()))
        return op.emitOpError("expects buffer ")
               << index << " of '" << name.getValue() << "' to fit into " << address.getArena()
               << ", but got " << types[index];
    }
    FailureOr<int64_t> scratch = scratchOf(&op, name.getValue());
    if (failed(scratch))
      return failure();
    reserve("workspace", *scratch, stage);
    SmallVector<Attribute> all(buffers.getValue());
    all.push_back(address("workspace", 0, stage));
    op.setAttr("buffers", builder.getArrayAttr(all));
  }
  return success();
}

/// After the arenas that are there; then all are put in their order (llrt/MemoryTable.h).
void Planner::declareArenas() {
  Operation *last = nullptr;
  for (auto arena : module.getOps<dist::ArenaOp>())
    last = arena;
  if (last)
    builder.setInsertionPointAfter(last);
  else
    builder.setInsertionPointToStart(module.getBody());
  for (const auto &[key, bytes] : arenas)
    dist::ArenaOp::create(builder, module.getLoc(), nameOf(key.second, key.first), bytes,
                          key.first);
  SmallVector<dist::ArenaOp> list(module.getOps<dist::ArenaOp>());
  auto orderOf = [](dist::ArenaOp arena) {
    StringRef name = arena.getSymName();
    if (name.starts_with("stage"))
      name = name.split('.').second;
    return std::pair(int64_t(arena.getStage()), llrt::arenaNumber(name));
  };
  llvm::stable_sort(list,
                    [&](dist::ArenaOp a, dist::ArenaOp b) { return orderOf(a) < orderOf(b); });
  for (dist::ArenaOp arena : list)
    arena->moveBefore(builder.getInsertionBlock(), builder.getInsertionPoint());
}

LogicalResult Planner::run() {
  llvm::MapVector<Operation *, int64_t> graphs; // and their stages
  for (auto program : module.getOps<dist::ProgramOp>())
    isPipeline |= program.getStage() > 0;
  for (auto program : module.getOps<dist::ProgramOp>())
    for (auto action : program.getBody().getOps<dist::EntryOpInterface>()) {
      FlatSymbolRefAttr name = action.getGraphAttr();
      if (Operation *graph = name ? symbols.lookup(name.getAttr()) : nullptr) {
        auto [entry, isNew] = graphs.insert({graph, program.getStage()});
        if (!isNew && entry->second != int64_t(program.getStage()))
          return action->emitOpError("expects a graph that only stage ")
                 << entry->second << " runs";
      }
    }
  if (graphs.empty())
    return module.emitError("expected a program (dist.program) that runs a graph");
  for (auto [graph, stage] : graphs)
    if (!isa<FuncOp>(graph))
      return graph->emitOpError("has its memory planned already");
  for (auto place : module.getOps<dist::StorageOp>()) {
    auto arena = symbols.lookup<dist::ArenaOp>(place.getAddress().getArena().getAttr());
    storage[{int64_t(arena.getStage()), place.getParameterAttr().getAttr()}] = place;
  }

  for (auto [graph, stage] : graphs) {
    arenas.insert({{stage, "inputs"}, 0});
    arenas.insert({{stage, "workspace"}, 0});
  }
  for (auto [graph, stage] : graphs)
    if (failed(planInputs(cast<FuncOp>(graph), stage)))
      return failure();
  for (auto [graph, stage] : graphs)
    if (failed(planGraph(cast<FuncOp>(graph), stage)))
      return failure();
  for (auto program : module.getOps<dist::ProgramOp>())
    if (failed(planEntries(program)))
      return failure();
  for (auto [graph, stage] : graphs)
    graph->erase();
  declareArenas();
  return success();
}

void PlanArenasPass::runOnOperation() {
  if (failed(Planner(getOperation()).run()))
    signalPassFailure();
}
