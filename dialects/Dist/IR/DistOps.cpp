//===- DistOps.cpp - The dist dialect -------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// In three parts: how addresses and lists of them are printed, what entries answer to
// EntryOpInterface where that is more than an argument (getUses: which bytes an entry reads and
// writes), and verifiers. An address `@name[N]` is one of an arena, or, within a graph that has a
// frame of that name, of the frame:
//
//   verifyAddress   @workspace[64], 256 bytes   64 + 256 <= bytes of dist.arena @workspace
//                   @kept[0] in a graph         bytes of its dist.frame "kept"
//   verifyBuffers   dist.call @block(...)       as many as arguments, results not in place, scratch
//
// Constraints are numbered as in DistOps.td: `// zero_c1` is (C1) of dist.zero.
//
//===----------------------------------------------------------------------===//
#include "dialects/Dist/IR/Dist.h"

#include "dialects/Interfaces/OpInterfaces.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::dist;

/// Parses `@arena[offset]`.
static ParseResult parseAddress(OpAsmParser &parser, AddressAttr &address) {
  StringAttr arena;
  int64_t offset;
  if (parser.parseSymbolName(arena) || parser.parseLSquare() || parser.parseInteger(offset) ||
      parser.parseRSquare())
    return failure();
  address = AddressAttr::get(parser.getContext(), FlatSymbolRefAttr::get(arena), offset);
  return success();
}

static void printAddress(OpAsmPrinter &printer, Operation *, AddressAttr address) {
  if (!address) // an op that does not verify
    return;
  printer << address.getArena() << '[' << address.getOffset() << ']';
}

/// Parses addresses with commas between them, perhaps none.
static ParseResult parseBuffers(OpAsmParser &parser, ArrayAttr &buffers) {
  SmallVector<Attribute> addresses;
  StringAttr arena;
  if (succeeded(parser.parseOptionalSymbolName(arena))) {
    int64_t offset;
    auto rest = [&]() -> ParseResult {
      if (parser.parseLSquare() || parser.parseInteger(offset) || parser.parseRSquare())
        return failure();
      addresses.push_back(
          AddressAttr::get(parser.getContext(), FlatSymbolRefAttr::get(arena), offset));
      return success();
    };
    if (rest())
      return failure();
    while (succeeded(parser.parseOptionalComma()))
      if (parser.parseSymbolName(arena) || rest())
        return failure();
  }
  buffers = parser.getBuilder().getArrayAttr(addresses);
  return success();
}

static void printBuffers(OpAsmPrinter &printer, Operation *op, ArrayAttr buffers) {
  llvm::interleaveComma(buffers.getAsRange<AddressAttr>(), printer,
                        [&](AddressAttr address) { printAddress(printer, op, address); });
}

/// Parses a region of one block, perhaps empty.
static ParseResult parseBody(OpAsmParser &parser, Region &body) {
  if (parser.parseRegion(body))
    return failure();
  if (body.empty())
    body.emplaceBlock();
  return success();
}

static void printBody(OpAsmPrinter &printer, Operation *, Region &body) {
  printer.printRegion(body);
}

#include "dialects/Dist/IR/DistDialect.cpp.inc"
#include "dialects/Dist/IR/DistEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Dist/IR/DistAttributes.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Dist/IR/DistInterfaces.cpp.inc"
#include "dialects/Dist/IR/DistTypes.cpp.inc"
#define GET_OP_CLASSES
#include "dialects/Dist/IR/DistOps.cpp.inc"

void DistDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Dist/IR/DistAttributes.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/Dist/IR/DistTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/Dist/IR/DistOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Checks that several ops share
//===----------------------------------------------------------------------===//

/// The frames of a graph, which come first: looking for more would take the time of its
/// calls for each of their addresses.
static SmallVector<FrameOp, 8> leadingFrames(GraphOp graph) {
  SmallVector<FrameOp, 8> frames;
  for (Operation &op : graph.getBody().front()) {
    auto frame = dyn_cast<FrameOp>(op);
    if (!frame)
      break;
    frames.push_back(frame);
  }
  return frames;
}

/// `address` names an arena, or a frame of the graph around `op`, that has `bytes` bytes
/// from there on.
static LogicalResult verifyAddress(Operation *op, SymbolTableCollection &symbols,
                                   AddressAttr address, int64_t bytes) {
  if (auto graph = dyn_cast_or_null<GraphOp>(op->getParentOp()))
    for (FrameOp frame : leadingFrames(graph)) {
      if (frame.getName() != address.getArena().getValue())
        continue;
      int64_t size = frame.getBytes(), offset = address.getOffset();
      if (offset < 0 || offset > size || bytes > size - offset)
        return op->emitOpError("expects ") << bytes << " bytes at " << address.getArena() << '['
                                           << offset << "], but the frame ends at " << size;
      return success();
    }
  auto arena = symbols.lookupNearestSymbolFrom<ArenaOp>(op, address.getArena());
  if (!arena)
    return op->emitOpError("expects '")
           << address.getArena().getValue() << "' to name a dist.arena";
  int64_t size = arena.getBytes(), offset = address.getOffset();
  if (offset < 0 || offset > size || bytes > size - offset) {
    auto error = op->emitOpError("expects ") << bytes << " bytes at " << address.getArena() << '['
                                             << offset << "], but the arena ends at " << size;
    error.attachNote(arena.getLoc()) << "the arena is here";
    return error;
  }
  return success();
}

/// `symbol` names a function; a `func.func` is a block. Null after an error.
static FunctionOpInterface lookupBlock(Operation *op, SymbolTableCollection &symbols,
                                       FlatSymbolRefAttr symbol) {
  auto block =
      dyn_cast_or_null<FunctionOpInterface>(symbols.lookupNearestSymbolFrom(op, symbol.getAttr()));
  if (block && (!isa<func::FuncOp>(block) || block->hasAttr(llama::kBlockAttr)))
    return block;
  op->emitOpError("expects '") << symbol.getValue() << "' to name a block";
  return nullptr;
}

/// Buffers of a call of `block`: arguments, results not in place, scratch. -1 where
/// the block is lowered and its type no longer tells.
static int64_t countBuffers(FunctionOpInterface block) {
  auto function = dyn_cast<func::FuncOp>(block.getOperation());
  if (!function)
    return -1;
  int64_t count = function.getNumArguments() + 1;
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    count += !function.getResultAttr(i, llama::kInPlaceAttr);
  return count;
}

/// An entry of a program has none before memory is planned, or all but scratch.
static LogicalResult verifyBuffers(Operation *op, SymbolTableCollection &symbols,
                                   FunctionOpInterface block, std::optional<ArrayAttr> given) {
  const bool isEntry = isa_and_nonnull<ProgramOp>(op->getParentOp());
  if (!given && isEntry)
    return success();
  ArrayAttr buffers = given.value_or(ArrayAttr::get(op->getContext(), {}));
  int64_t expected = countBuffers(block), count = buffers.size();
  if (expected >= 0 && count != expected && !(isEntry && count + 1 == expected))
    return op->emitOpError("expects ")
           << expected << " buffers for '" << block.getName() << "', but got " << count;
  for (auto address : buffers.getAsRange<AddressAttr>())
    if (failed(verifyAddress(op, symbols, address, 0)))
      return failure();
  return success();
}

/// Whether `type` is a float tensor of shape [size]; any size if -1.
static bool isVector(Type type, int64_t size = -1) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() == 1 && tensor.hasStaticShape() &&
         isa<FloatType>(tensor.getElementType()) && (size < 0 || tensor.getDimSize(0) == size);
}

/// Whether executables know elements of this type.
static bool isKnown(Type type) {
  return type.isF32() || type.isBF16() || type.isF64() || type.isSignlessInteger(64);
}

static LogicalResult verifyElement(Operation *op, Type type) {
  if (isKnown(type))
    return success();
  return op->emitOpError("expects elements of f32, bf16, f64 or i64, but got ") << type;
}

/// Bytes of a tensor of a type that executables know, 0 of any other type.
static int64_t sizeOf(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || !tensor.hasStaticShape())
    return 0;
  Type element = tensor.getElementType();
  if (!isKnown(element))
    return 0;
  return tensor.getNumElements() * (element.getIntOrFloatBitWidth() / 8);
}

//===----------------------------------------------------------------------===//
// Programs and actions
//===----------------------------------------------------------------------===//

LogicalResult CommunicatorOp::verify() {
  auto fail = [&] {
    return emitOpError("expects axes, at least one and all different, or an edge of two "
                       "different stages");
  };
  if (bool(getAxes()) == bool(getEdge())) // communicator_c1
    return fail();
  if (auto edge = getEdge())
    return edge->size() == 2 && (*edge)[0] >= 0 && (*edge)[1] >= 0 && (*edge)[0] != (*edge)[1]
               ? success()
               : LogicalResult(fail());
  llvm::StringSet<> names;
  for (auto axis : getAxes()->getAsRange<StringAttr>())
    if (!names.insert(axis.getValue()).second)
      return fail();
  return names.empty() ? LogicalResult(fail()) : success();
}

CommunicatorOp CommunicatorOp::declare(SymbolTable &symbols, StringRef name, ArrayAttr axes,
                                       DenseI64ArrayAttr edge) {
  if (auto known = symbols.lookup<CommunicatorOp>(name))
    return known;
  Operation *module = symbols.getOp();
  OpBuilder builder(module->getContext());
  auto made = create(builder, module->getLoc(), name, axes, edge);
  symbols.insert(made, module->getRegion(0).front().begin());
  return made;
}

LogicalResult ProgramOp::verify() {
  for (Operation &op : getBody().front())
    if (!isa<EntryOpInterface, InputOp, OutputOp>(op)) // program_c1
      return op.emitOpError("is not an entry of a program");
  for (Operation *op = (*this)->getPrevNode(); op; op = op->getPrevNode())
    if (auto other = dyn_cast<ProgramOp>(op);
        other && other.getName() == getName() && other.getStage() == getStage()) { // program_c2
      auto error = emitOpError("expects a name of its own, but '") << getName() << "' is taken";
      error.attachNote(other.getLoc()) << "the other program is here";
      return error;
    }
  return success();
}

LogicalResult ProgramOp::verifySymbolUses(SymbolTableCollection &symbols) {
  llvm::SmallDenseSet<Attribute, 16> named;
  ArrayAttr needs = getNeedsAttr();
  for (Attribute each : needs ? needs.getValue() : ArrayRef<Attribute>()) { // program_c3
    auto end = cast<AddressAttr>(each);
    if (failed(verifyAddress(*this, symbols, end, 0)))
      return failure();
    auto arena = symbols.lookupNearestSymbolFrom<ArenaOp>(*this, end.getArena());
    if (arena.getStage() != getStage() || !named.insert(end.getArena()).second)
      return emitOpError("expects to need arenas of its stage, each once, but got ")
             << end.getArena();
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

static int64_t bytesOf(Type element, int64_t elements) {
  return elements * element.getIntOrFloatBitWidth() / 8;
}

SmallVector<EntryUse> RunOp::getUses(int64_t) {
  SmallVector<EntryUse> uses;
  for (auto instance : getReads().getAsRange<InstanceAttr>())
    uses.push_back({instance, {}, 0, {}, true, false});
  for (auto instance : getWrites().getAsRange<InstanceAttr>())
    uses.push_back({instance, {}, 0, {}, false, true});
  if (getFrames() && getFrames()->size() == uses.size())
    for (auto [use, address] : llvm::zip_equal(uses, getFrames()->getAsRange<AddressAttr>()))
      use.address = address;
  return uses;
}

void RunOp::setPlaces(ArrayRef<AddressAttr> places) {
  if (!places.empty())
    setFramesAttr(
        Builder(getContext()).getArrayAttr(SmallVector<Attribute>(places.begin(), places.end())));
}

template <typename Op> static SmallVector<EntryUse> usesOfTransfer(Op op, bool sends) {
  return {{op.getInstance(), op.getAddressAttr(), bytesOf(op.getType(), op.getElements()),
           op.getType(), sends, !sends}};
}

SmallVector<EntryUse> SendOp::getUses(int64_t) { return usesOfTransfer(*this, true); }
SmallVector<EntryUse> ReceiveOp::getUses(int64_t) { return usesOfTransfer(*this, false); }
void SendOp::setPlaces(ArrayRef<AddressAttr> places) { setAddressAttr(places[0]); }
void ReceiveOp::setPlaces(ArrayRef<AddressAttr> places) { setAddressAttr(places[0]); }

Collective CollectiveOp::getCollective(int64_t members) {
  return {getKind(),           members,
          int64_t(getOuter()), int64_t(getElements()),
          getType(),           getToType().value_or(getType()),
          getMaximum(),        getAccumulate()};
}

SmallVector<EntryUse> CollectiveOp::getUses(int64_t members) {
  const CollectiveKind kind = getKind();
  const bool scatters = kind == CollectiveKind::ReduceScatter || kind == CollectiveKind::Slice;
  const bool gathers = kind == CollectiveKind::AllGather;
  const int64_t share = getOuter() * getElements(), whole = share * members;
  Type to = getToType().value_or(getType());
  // A broadcast that reads no instance takes what another member has.
  const bool reads = kind != CollectiveKind::Broadcast || getReadsAttr();
  SmallVector<EntryUse> uses = {{getReadsAttr(), getFromAttr(),
                                 bytesOf(getType(), scatters ? whole : share), getType(), reads,
                                 false},
                                {getWritesAttr(), getToAttr(), bytesOf(to, gathers ? whole : share),
                                 to, getAccumulate(), true}};
  if (StagingAttr staging = getStagingAttr()) {
    Collective what = getCollective(members);
    for (auto [address, bytes] : {std::pair(staging.getPacked(), what.packedBytes()),
                                  {staging.getReceived(), what.receivedBytes()},
                                  {staging.getScratch(), staging.getBytes()}})
      if (address && bytes)
        uses.push_back({{}, address, bytes, {}, false, true});
  }
  return uses;
}

void CollectiveOp::setPlaces(ArrayRef<AddressAttr> places) {
  if (places[1])
    setToAttr(places[1]);
  if (places[0])
    setFromAttr(places[0]);
  else if (!getFrom()) // of a broadcast that only writes
    setFromAttr(getToAttr());
}

SmallVector<EntryUse> ZeroOp::getUses(int64_t) {
  return {{getWritesAttr(), getAddressAttr(), int64_t(getBytes()), {}, false, true}};
}

void ZeroOp::setPlaces(ArrayRef<AddressAttr> places) {
  if (places[0])
    setAddressAttr(places[0]);
}

LogicalResult RunOp::verifySymbolUses(SymbolTableCollection &symbols) {
  Operation *graph = symbols.lookupNearestSymbolFrom(*this, getGraphAttr().getAttr());
  if (!isa_and_nonnull<func::FuncOp, GraphOp>(graph)) // run_c1
    return emitOpError("expects '") << getGraph() << "' to name a graph";
  if (!getFrames())
    return success();
  size_t expected = getReads().size() + getWrites().size();
  auto planned = dyn_cast<GraphOp>(graph);
  size_t declared = planned ? leadingFrames(planned).size() : expected;
  if (getFrames()->size() != expected || declared != expected) // run_c3
    return emitOpError("expects an address for each of ")
           << expected << " frame instances and " << declared << " frames of '" << getGraph()
           << "', but got " << getFrames()->size();
  for (auto address : getFrames()->getAsRange<AddressAttr>())
    if (failed(verifyAddress(*this, symbols, address, 0)))
      return failure();
  return success();
}

template <typename Op> static LogicalResult verifyTransfer(Op op, SymbolTableCollection &symbols) {
  auto edge = symbols.lookupNearestSymbolFrom<CommunicatorOp>(op, op.getCommunicatorAttr());
  if (!edge || !edge.getEdge()) // send_c1, receive_c1
    return op.emitOpError("expects '")
           << op.getCommunicator() << "' to name a dist.communicator with an edge";
  if (op.getTag().size() != 3) // send_c2, receive_c2
    return op.emitOpError("expects a tag of three numbers, but got ") << op.getTag().size();
  if (failed(verifyElement(op, op.getType()))) // send_c3, receive_c3
    return failure();
  return op.getAddress() ? verifyAddress(op, symbols, *op.getAddress(), 0) : success();
}

LogicalResult SendOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyTransfer(*this, symbols);
}

LogicalResult ReceiveOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyTransfer(*this, symbols);
}

LogicalResult CollectiveOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (!symbols.lookupNearestSymbolFrom<CommunicatorOp>(*this, getCommunicatorAttr()))
    return emitOpError("expects '") // collective_c1
           << getCommunicator() << "' to name a dist.communicator";
  if (getOuter() < 1 || getElements() < 1) // collective_c2
    return emitOpError("expects at least one element, but got ")
           << getOuter() << " x " << getElements();
  for (Type type : {getType(), getToType().value_or(getType())}) // collective_c4
    if (failed(verifyElement(*this, type)))
      return failure();
  int64_t bytes = getOuter() * getElements() * getType().getIntOrFloatBitWidth() / 8;
  for (auto address : {getFrom(), getTo()}) // collective_c3
    if (address && failed(verifyAddress(*this, symbols, *address,
                                        getTo() == address && getToType() ? 0 : bytes)))
      return failure();
  if (getAccumulate() && getKind() != CollectiveKind::ReduceScatter) // collective_c5
    return emitOpError("expects 'accumulate' of a reduce_scatter only");
  StagingAttr staging = getStagingAttr();
  if (!staging)
    return success();
  for (FlatSymbolRefAttr block : {staging.getPack(), staging.getUnpack()}) // collective_c6
    if (block && !lookupBlock(*this, symbols, block))
      return failure();
  for (auto [address, room] : {std::pair(staging.getPacked(), int64_t(0)),
                               {staging.getReceived(), int64_t(0)},
                               {staging.getScratch(), staging.getBytes()}}) // collective_c6
    if (address && failed(verifyAddress(*this, symbols, address, room)))
      return failure();
  return success();
}

LogicalResult ZeroOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (!getWrites() && !getAddress()) // zero_c1
    return emitOpError("expects a frame instance or an address");
  return getAddress() ? verifyAddress(*this, symbols, *getAddress(), getBytes()) // zero_c2
                      : success();
}

LogicalResult GradientNormOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FunctionOpInterface block = lookupBlock(*this, symbols, getBlockAttr()); // gradient_norm_c1
  if (!block)
    return failure();
  if (auto function = dyn_cast<func::FuncOp>(block.getOperation())) {
    FunctionType type = function.getFunctionType();
    if (type.getNumInputs() != 1 || type.getNumResults() != 1 || !isVector(type.getInput(0)) ||
        !isVector(type.getResult(0), 1)) // gradient_norm_c1
      return emitOpError("expects a block of type (tensor<NxT>) -> tensor<1xU>, but got ") << type;
  }
  if (getBuffers() && getBuffers()->size() != 2 && getBuffers()->size() != 3) // gradient_norm_c2
    return emitOpError("expects 2 or 3 buffers, but got ") << getBuffers()->size();
  return verifyBuffers(*this, symbols, block, getBuffers());
}

LogicalResult UpdateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FunctionOpInterface block = lookupBlock(*this, symbols, getBlockAttr()); // update_c1
  if (!block)
    return failure();
  if (auto function = dyn_cast<func::FuncOp>(block.getOperation())) {
    FunctionType type = function.getFunctionType();
    bool matches = type.getNumInputs() == 5 && isVector(type.getInputs().back(), 8) &&
                   isVector(type.getInput(0)) && llvm::all_equal(type.getInputs().take_front(3)) &&
                   isVector(type.getInput(3), cast<ShapedType>(type.getInput(0)).getDimSize(0)) &&
                   (type.getNumResults() == 3 || type.getNumResults() == 4) &&
                   llvm::equal(type.getResults().take_front(3), type.getInputs().take_front(3));
    if (!matches) // update_c1
      return emitOpError("expects a block that maps masters, two moments, gradients and 8 "
                         "hyperparameters to new masters and moments, but got ")
             << type;
  }
  if (getBuffers() && (getBuffers()->size() < 5 || getBuffers()->size() > 7)) // update_c2
    return emitOpError("expects 5 to 7 buffers, but got ") << getBuffers()->size();
  return verifyBuffers(*this, symbols, block, getBuffers());
}

//===----------------------------------------------------------------------===//
// Planned memory
//===----------------------------------------------------------------------===//

LogicalResult StorageOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto parameter =
      symbols.lookupNearestSymbolFrom<llama::ParameterOpInterface>(*this, getParameterAttr());
  if (!parameter) // storage_c1
    return emitOpError("expects '") << getParameter() << "' to name a llama.parameter";
  AddressAttr state[] = {getMasterAttr(), getGradientAttr(), getMoment1Attr(), getMoment2Attr()};
  for (AddressAttr address : state)
    if (bool(address) == parameter.getFrozen()) // storage_c2
      return emitOpError("expects master, gradient and moments exactly if the parameter is "
                         "trainable, but '")
             << getParameter() << "' is " << (parameter.getFrozen() ? "frozen" : "trainable");
  if (getShard() && getShard()->size() != 2)
    return emitOpError("expects shard = [begin, elements]");
  int64_t bytes = getShardStorage() ? 0 : sizeOf(parameter.getTensorType());
  if (failed(verifyAddress(*this, symbols, getAddress(), bytes))) // storage_c3
    return failure();
  int64_t width = parameter.getTensorType().getElementType().isF64() ? 8 : 4;
  int64_t elements = getShard() ? 0 : parameter.getTensorType().getNumElements();
  for (AddressAttr address : state)
    if (address && failed(verifyAddress(*this, symbols, address, // storage_c3
                                        elements * (address == getGradientAttr() ? 2 : width))))
      return failure();
  return success();
}

LogicalResult UnitOp::verifySymbolUses(SymbolTableCollection &symbols) {
  for (auto name : getParameters().getAsRange<FlatSymbolRefAttr>())
    if (!symbols.lookupNearestSymbolFrom<llama::ParameterOpInterface>(*this, name)) // unit_c1
      return emitOpError("expects '") << name.getValue() << "' to name a llama.parameter";
  if (!getWeights() && !getGradient()) // unit_c2
    return emitOpError("expects the address of weights or of a gradient");
  for (auto address : {getWeights(), getGradient()})
    if (address && failed(verifyAddress(*this, symbols, *address, 0))) // unit_c2
      return failure();
  for (Type type : {getType(), getGradientType().value_or(getType())}) // unit_c3
    if (failed(verifyElement(*this, type)))
      return failure();
  return success();
}

LogicalResult GraphOp::verify() {
  llvm::StringSet<> frames, inputs, outputs;
  for (Operation &op : getBody().front()) {
    if (!isa<FrameOp, InputOp, CallOp, CollectiveOp, OutputOp>(op)) // graph_c1
      return op.emitOpError("does not belong in a graph");
    bool isNew = true;
    if (auto input = dyn_cast<InputOp>(op))
      isNew = inputs.insert(input.getName()).second;
    else if (auto output = dyn_cast<OutputOp>(op))
      isNew = outputs.insert(output.getName()).second;
    else if (auto frame = dyn_cast<FrameOp>(op)) {
      if (auto *before = op.getPrevNode(); before && !isa<FrameOp>(before)) // graph_c3
        return op.emitOpError("expects to come before what is no frame");
      isNew = frames.insert(frame.getName()).second;
    }
    if (!isNew) // graph_c2
      return op.emitOpError("expects a name of its own");
    if (auto stream = op.getAttrOfType<IntegerAttr>("stream");
        op.getNumOperands() || (stream && stream.getInt())) // graph_c4
      return op.emitOpError("expects neither a stream nor events within a graph: its run has them");
  }
  return success();
}

template <typename Op>
static LogicalResult verifyNamedBuffer(Op op, SymbolTableCollection &symbols) {
  int64_t bytes = sizeOf(op.getType());
  if (!bytes) // input_c1, output_c1
    return op.emitOpError("expects a static shape of f32, bf16, f64 or i64, but got ")
           << op.getType();
  return verifyAddress(op, symbols, op.getAddress(), bytes); // input_c2, output_c2
}

LogicalResult InputOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyNamedBuffer(*this, symbols);
}

LogicalResult OutputOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyNamedBuffer(*this, symbols);
}

LogicalResult CallOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FunctionOpInterface block = lookupBlock(*this, symbols, getBlockAttr()); // call_c1
  if (!block)
    return failure();
  return verifyBuffers(*this, symbols, block, getBuffers()); // call_c2, call_c3
}
