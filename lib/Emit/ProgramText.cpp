//===- ProgramText.cpp - What an executable interprets --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The form is that of runtime/include/llrt/Program.h, member by member, in the order given
// there; names and words are those of llrt/ProgramFields.h, actions those of llrt/Actions.def. The
// hash is that of the printed device program, code included.
//
//   dist.arena, .storage, .graph, .program of a stage  ->  an element of "stages"
//   symbols of arenas, frames, communicators           ->  their number in the list above
//   events                                             ->  "after": numbers of entries
//   locations                                          ->  numbers of texts, each once
//
// collect() finds first what several parts of the text need, and what would make it no program.
//
//===----------------------------------------------------------------------===//
#include "llamac/Emit/Emit.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Check/Certificate.h"
#include "llamac/Cost/Passes.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Lower/Reserves.h"
#include "llamac/Support/Grid.h"
#include "llamac/Support/Locations.h"
#include "runtime/include/llrt/ProgramFields.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_sha1_ostream.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using llama::ParameterOp;
namespace field = llrt::field;

/// Hexadecimal digits of the hash that an executable prints.
static constexpr size_t kHashDigits = 16;

static_assert(std::size(llrt::initializerWords) == llama::getMaxEnumValForInitializer() + 1);

static std::string hashOf(ModuleOp program) {
  llvm::raw_sha1_ostream stream;
  program.print(stream);
  return llvm::toHex(stream.sha1(), /*LowerCase=*/true).substr(0, kHashDigits);
}

static std::string nameOf(Type type) {
  std::string name;
  llvm::raw_string_ostream(name) << type;
  return name;
}

/// Options and facts of the model as JSON.
static llvm::json::Value toJson(Attribute attribute) {
  if (auto value = dyn_cast<BoolAttr>(attribute))
    return value.getValue();
  if (auto value = dyn_cast<IntegerAttr>(attribute); value && value.getValue().getBitWidth() > 64)
    return value.getValue().roundToDouble(/*isSigned=*/false); // a count (countAttr)
  if (auto value = dyn_cast<IntegerAttr>(attribute))
    return value.getInt();
  if (auto value = dyn_cast<FloatAttr>(attribute))
    return value.getValueAsDouble();
  if (auto value = dyn_cast<StringAttr>(attribute))
    return value.getValue();
  if (auto value = dyn_cast<ArrayAttr>(attribute))
    return llvm::json::Array(llvm::map_range(value, toJson));
  if (auto value = dyn_cast<DenseI64ArrayAttr>(attribute))
    return llvm::json::Array(value.asArrayRef());
  if (auto value = dyn_cast<DictionaryAttr>(attribute)) {
    llvm::json::Object object;
    for (NamedAttribute member : value)
      object[member.getName().getValue()] = toJson(member.getValue());
    return object;
  }
  std::string text; // a type, a symbol: as MLIR prints it
  llvm::raw_string_ostream(text) << attribute;
  return text;
}

namespace {
class TextWriter {
public:
  explicit TextWriter(ModuleOp program)
      : module(program), symbols(program), axes(axesOf(program)), json(stream) {}

  FailureOr<ProgramText> write();

private:
  LogicalResult collect();
  LogicalResult addCall(Operation *op, StringRef block, ArrayAttr buffers);
  LogicalResult addStaging(dist::CollectiveOp op);

  void writeAction(dist::EntryOpInterface op);
  void writeField(Operation *op, StringRef name);
  void writeCommunicator(StringRef name) {
    json.attribute(field::communicator, int64_t(communicators.find(name)->second));
  }
  void writeAddress(StringRef name, AddressAttr address) {
    json.attributeArray(name, [&] { writeAddressItems(address); });
  }
  void writeAddressItems(AddressAttr address) {
    StringRef name = address.getArena().getValue();
    auto *frame = frames.find(name);
    json.value(frame != frames.end() ? -1 - int64_t(frame->second)
                                     : int64_t(arenas.find(name)->second));
    json.value(address.getOffset());
  }
  void writeAddresses(StringRef name, ArrayAttr addresses) {
    json.attributeArray(name, [&] {
      if (addresses)
        for (auto address : addresses.getAsRange<AddressAttr>())
          json.array([&] { writeAddressItems(address); });
    });
  }
  void writeTensor(Type type, AddressAttr address, std::optional<ArrayAttr> split) {
    auto tensor = cast<RankedTensorType>(type);
    json.attribute(field::type, nameOf(tensor.getElementType()));
    json.attribute(field::shape, llvm::json::Array(tensor.getShape()));
    writeAddress(field::address, address);
    if (split)
      json.attribute(field::split, toJson(*split));
  }
  void writeLocation(Operation *op);
  void writeParameter(dist::StorageOp storage);
  /// Calls `action` for each of the actions that do a collective, with what writes it.
  void writeCollective(dist::CollectiveOp op,
                       llvm::function_ref<void(llvm::function_ref<void()>)> action);
  void writeDone(dist::CollectiveOp op, const dist::Collective &done, AddressAttr from,
                 AddressAttr to);
  void writeGraph(dist::GraphOp graph);
  void writeProgram(dist::ProgramOp program);
  void writeNeeds(dist::ArenaOp arena);
  void writeLogits();
  void writeStage(int64_t stage);
  bool isOf(AddressAttr address, int64_t stage) {
    return int64_t(symbols.lookup<dist::ArenaOp>(address.getArena().getValue()).getStage()) ==
           stage;
  }

  ModuleOp module;
  SymbolTable symbols;
  SymbolTableCollection collection;
  SmallVector<Axis> axes;
  ProgramText result;
  llvm::raw_string_ostream stream{result.json};
  llvm::json::OStream json;
  llvm::MapVector<StringRef, size_t> arenas;        // of the stage: name -> index
  llvm::MapVector<StringRef, size_t> frames;        // of the graph: name -> index
  llvm::MapVector<StringRef, size_t> communicators; // name -> index
  llvm::StringMap<int64_t> locations;               // text -> index
  std::vector<StringRef> locationTexts;
  int64_t stages = 1;
  llvm::MapVector<std::pair<int64_t, StringRef>, dist::InputOp> inputs; // by stage and name
  llvm::MapVector<StringRef, int64_t> graphs; // name -> stage that runs it
  llvm::StringMap<int64_t> scratch;           // bytes, by block
  llvm::StringMap<int64_t> rowsOfKey;         // rows of the checkpoint tensor, by its key
};
} // namespace

/// Notes the block of a call; its scratch memory, the last buffer, must fit.
LogicalResult TextWriter::addCall(Operation *op, StringRef block, ArrayAttr buffers) {
  if (!buffers || buffers.empty())
    return op->emitOpError("expects planned memory (llama-plan-arenas)");
  auto [entry, isNew] = scratch.try_emplace(block, 0);
  if (isNew) {
    auto code = symbols.lookup(block)->getAttrOfType<SymbolRefAttr>(kCodeAttr);
    auto function =
        code ? dyn_cast_or_null<LLVM::LLVMFuncOp>(collection.lookupSymbolIn(module, code))
             : LLVM::LLVMFuncOp();
    auto bytes = function ? function->getAttrOfType<IntegerAttr>(kScratchAttr) : IntegerAttr();
    if (!bytes)
      return op->emitOpError("expects a lowered block, but '")
             << block << "' has no code with the attribute " << kScratchAttr;
    entry->second = bytes.getInt();
    result.blocks.push_back({block.str(), code});
  }
  auto place = cast<AddressAttr>(buffers[buffers.size() - 1]);
  int64_t size = symbols.lookup<dist::ArenaOp>(place.getArena().getValue()).getBytes();
  if (place.getOffset() + entry->second > size)
    return op->emitOpError("expects ")
           << entry->second << " bytes of scratch memory at " << place.getArena() << '['
           << place.getOffset() << "], but the arena ends at " << size;
  return success();
}

/// Notes the blocks around a collective.
LogicalResult TextWriter::addStaging(dist::CollectiveOp op) {
  dist::StagingAttr staging = op.getStagingAttr();
  if (staging && ((staging.getBytes() && !staging.getScratch()) ||
                  (staging.getPack() && !staging.getPacked()) ||
                  (staging.getUnpack() && !staging.getReceived() && !staging.getPacked())))
    return op.emitOpError("expects planned memory (llama-plan-arenas)");
  if (staging)
    for (FlatSymbolRefAttr block : {staging.getPack(), staging.getUnpack()}) {
      SmallVector<Attribute, 1> scratch;
      if (staging.getScratch())
        scratch.push_back(staging.getScratch());
      if (block && failed(addCall(op, block.getValue(), ArrayAttr::get(op.getContext(), scratch))))
        return failure();
    }
  return success();
}

/// The action that an op is in the text; null if it is none.
static const llrt::ActionInfo *actionOf(dist::EntryOpInterface op) {
  return llrt::findAction(op.getBlockAttr() ? llrt::actionName(llrt::ActionKind::Call)
                                            : op->getName().stripDialect());
}

/// Reads what several parts of the text need, and checks it.
LogicalResult TextWriter::collect() {
  const char *counted[] = {llrt::known::step, llrt::known::forward};
  for (auto [name, members] : {std::pair(StringRef("llama.model"), ArrayRef(llrt::model::required)),
                               {StringRef("llama.options"), ArrayRef(llrt::option::all)},
                               {StringRef(kOperationsAttr), ArrayRef(counted)}}) {
    auto facts = module->getAttrOfType<DictionaryAttr>(name);
    if (!facts)
      return module.emitError("expected the module attribute '") << name << "'";
    for (StringRef member : members)
      if (!facts.get(member))
        return module.emitError("expected the module attribute '")
               << name << "' to have '" << member << "'";
  }
  for (auto communicator : module.getOps<dist::CommunicatorOp>())
    communicators.insert({communicator.getSymName(), communicators.size()});
  for (auto program : module.getOps<dist::ProgramOp>()) {
    stages = std::max<int64_t>(stages, program.getStage() + 1);
    for (auto entry : program.getBody().getOps<dist::EntryOpInterface>())
      if (FlatSymbolRefAttr graph = entry.getGraphAttr())
        graphs.insert({graph.getValue(), program.getStage()});
  }
  for (auto parameter : module.getOps<ParameterOp>()) {
    int64_t &rows = rowsOfKey[parameter.getCheckpointKey()];
    auto global = parameter->getAttrOfType<DenseI64ArrayAttr>("global_shape");
    ArrayRef<int64_t> shape = parameter.getCheckpointShape().value_or(
        global ? global.asArrayRef() : parameter.getTensorType().getShape());
    rows = std::max<int64_t>(rows, parameter.getRowBegin().value_or(0) +
                                       (shape.empty() ? 1 : shape.front()));
  }
  for (auto graph : module.getOps<dist::GraphOp>())
    for (Operation &op : graph.getBody().front()) {
      if (auto call = dyn_cast<dist::CallOp>(op)) {
        if (failed(addCall(call, call.getBlock(), call.getBuffersAttr())))
          return failure();
      } else if (auto collective = dyn_cast<dist::CollectiveOp>(op)) {
        if (failed(addStaging(collective)))
          return failure();
      } else if (auto input = dyn_cast<dist::InputOp>(op)) {
        auto [entry, isNew] =
            inputs.insert({{graphs.lookup(graph.getSymName()), input.getName()}, input});
        dist::InputOp other = entry->second;
        if (!isNew &&
            (other.getType() != input.getType() || other.getAddress() != input.getAddress())) {
          auto error = input.emitOpError("expects input '")
                       << input.getName() << "' to be the same in all graphs";
          error.attachNote(other.getLoc()) << "it is here in another graph";
          return error;
        }
      }
    }
  bool hasProgram = false;
  for (auto program : module.getOps<dist::ProgramOp>()) {
    for (auto input : program.getBody().getOps<dist::InputOp>())
      inputs.insert({{program.getStage(), input.getName()}, input});
    if (!program.getNeeds())
      return program.emitOpError("expects planned memory (llama-plan-arenas)");
    for (auto entry : program.getBody().getOps<dist::EntryOpInterface>()) {
      hasProgram = true;
      auto collective = dyn_cast<dist::CollectiveOp>(*entry);
      if (collective && failed(addStaging(collective)))
        return failure();
      if (!collective && !actionOf(entry))
        return entry->emitOpError("expects to be an action of the runtime (llrt/Actions.def)");
      FlatSymbolRefAttr block = entry.getBlockAttr(), graph = entry.getGraphAttr();
      if (block &&
          failed(addCall(entry, block.getValue(), entry.getBuffers().value_or(ArrayAttr()))))
        return failure();
      if (graph && !symbols.lookup<dist::GraphOp>(graph.getAttr()))
        return entry->emitOpError("expects planned memory (llama-plan-arenas)");
    }
  }
  if (!hasProgram)
    return module.emitError("expected a program (dist.program)");
  return success();
}

void TextWriter::writeLocation(Operation *op) {
  std::string text = sourceText(op);
  if (text.empty())
    return;
  auto [entry, isNew] = locations.try_emplace(text, locationTexts.size());
  if (isNew)
    locationTexts.push_back(entry->first());
  json.attribute(field::location, entry->second);
}

void TextWriter::writeParameter(dist::StorageOp storage) {
  auto parameter = symbols.lookup<ParameterOp>(storage.getParameter());
  RankedTensorType type = parameter.getTensorType();
  auto global = parameter->getAttrOfType<DenseI64ArrayAttr>("global_shape");
  ArrayRef<int64_t> own = global ? global.asArrayRef() : type.getShape();
  SmallVector<int64_t> shape(parameter.getCheckpointShape().value_or(own));
  int64_t rowBegin = parameter.getRowBegin().value_or(0);
  int64_t rows = shape.empty() ? 1 : shape.front();
  if (!shape.empty())
    shape.front() = rowsOfKey.lookup(parameter.getCheckpointKey());
  json.object([&] {
    json.attribute(field::name, parameter.getSymName());
    json.attribute(field::checkpointKey, parameter.getCheckpointKey());
    json.attribute(field::checkpointShape, llvm::json::Array(shape));
    json.attribute(field::rowBegin, rowBegin);
    json.attribute(field::rowEnd, rowBegin + rows);
    json.attribute(field::shape, llvm::json::Array(own));
    if (auto split = parameter->getAttrOfType<ArrayAttr>("split"))
      json.attribute(field::split, toJson(split));
    if (auto shard = storage.getShard())
      json.attributeObject(field::shard, [&] {
        json.attribute(field::axis, "dp");
        json.attribute(field::begin, (*shard)[0]);
        json.attribute(field::elements, (*shard)[1]);
        json.attribute(field::storage, storage.getShardStorage());
      });
    json.attribute(field::type, nameOf(type.getElementType()));
    json.attribute(field::elements, type.getNumElements());
    json.attribute(field::trainable, !parameter.getFrozen());
    json.attribute(field::initializer, llrt::initializerWords[size_t(parameter.getInitializer())]);
    writeAddress(field::address, storage.getAddress());
    if (parameter.getFrozen())
      return;
    writeAddress(field::master, *storage.getMaster());
    writeAddress(field::gradient, *storage.getGradient());
    // The type in which gradients are summed, as the training graph chose it.
    auto precision = module->getAttrOfType<DictionaryAttr>("llama.precision");
    auto accumulation = precision ? precision.getAs<TypeAttr>("accumulation") : TypeAttr();
    Type master = type.getElementType().isF64() ? Float64Type::get(module.getContext())
                                                : Type(Float32Type::get(module.getContext()));
    json.attribute(field::gradientType, nameOf(accumulation ? accumulation.getValue() : master));
    writeAddress(field::moment1, *storage.getMoment1());
    writeAddress(field::moment2, *storage.getMoment2());
  });
}

void TextWriter::writeAction(dist::EntryOpInterface op) {
  const llrt::ActionInfo &action = *actionOf(op);
  json.attribute(field::action, action.word);
  for (const char *const *name = llrt::fieldsOf(action.members); *name; ++name)
    writeField(op, *name);
}

/// Writes what `op` has as the attribute `name`, if it has it.
void TextWriter::writeField(Operation *op, StringRef name) {
  Attribute value = op->getAttr(name == field::at ? "address" : name);
  if (name == field::communicator) {
    writeCommunicator(cast<FlatSymbolRefAttr>(value).getValue());
  } else if (name == field::tag) { // the stage that sends comes first
    auto edge = symbols.lookup<dist::CommunicatorOp>(
        dist::EntryOpInterface(op).getCommunicatorAttr().getValue());
    SmallVector<int64_t> tag = {(*edge.getEdge())[0]};
    llvm::append_range(tag, cast<DenseI64ArrayAttr>(value).asArrayRef());
    json.attribute(name, llvm::json::Array(tag));
  } else if (name == field::buffers || name == field::frames) {
    writeAddresses(name, cast_or_null<ArrayAttr>(value));
  } else if (auto address = dyn_cast_or_null<AddressAttr>(value)) {
    writeAddress(name, address);
  } else if (auto symbol = dyn_cast_or_null<FlatSymbolRefAttr>(value)) {
    json.attribute(name, symbol.getValue());
  } else if (value) {
    json.attribute(name, toJson(value));
  }
}

void TextWriter::writeDone(dist::CollectiveOp op, const dist::Collective &done, AddressAttr from,
                           AddressAttr to) {
  json.attribute(field::action, dist::stringifyCollectiveKind(done.kind));
  writeCommunicator(op.getCommunicator());
  json.attribute(field::type, nameOf(done.type));
  json.attribute(field::outer, done.outer);
  json.attribute(field::elements, done.elements);
  writeAddress(field::from, from);
  writeAddress(field::to, to);
  if (done.maximum)
    json.attribute(field::reduction, llrt::known::max);
  if (done.toType != done.type)
    json.attribute(field::toType, nameOf(done.toType));
  if (done.accumulate)
    json.attribute(field::accumulate, true);
  if (dist::StagingAttr staging = op.getStagingAttr(); staging && staging.getBytes()) {
    writeAddress(field::scratch, staging.getScratch());
    json.attribute(field::scratchBytes, staging.getBytes());
  }
}

// The collective; or a call that packs its operand, its plain form, a call that unpacks.
void TextWriter::writeCollective(dist::CollectiveOp op,
                                 llvm::function_ref<void(llvm::function_ref<void()>)> action) {
  auto group = symbols.lookup<dist::CommunicatorOp>(op.getCommunicator());
  const dist::Collective what = op.getCollective(ranksOf(axes, group));
  AddressAttr from = *op.getFrom(), to = *op.getTo();
  dist::StagingAttr staging = op.getStagingAttr();
  if (!staging || (!staging.getPack() && !staging.getUnpack()))
    return action([&] { writeDone(op, what, from, to); });
  auto call = [&](FlatSymbolRefAttr block, AddressAttr given, AddressAttr made) {
    if (block)
      action([&] {
        json.attribute(field::action, llrt::actionName(llrt::ActionKind::Call));
        json.attribute(field::block, block.getValue());
        writeAddresses(field::buffers,
                       ArrayAttr::get(op.getContext(), {given, made, staging.getScratch()}));
      });
  };
  AddressAttr packed = staging.getPack() ? staging.getPacked() : from;
  AddressAttr received = !staging.getUnpack()    ? to
                         : staging.getReceived() ? staging.getReceived()
                                                 : packed;
  call(staging.getPack(), from, packed);
  action([&] { writeDone(op, what.plain(), packed, received); });
  call(staging.getUnpack(), received, to);
}

void TextWriter::writeGraph(dist::GraphOp graph) {
  frames.clear();
  for (auto frame : graph.getBody().getOps<dist::FrameOp>())
    frames.insert({frame.getName(), frames.size()});
  json.attributeObject(graph.getSymName(), [&] {
    json.attributeArray(field::frames, [&] {
      for (auto frame : graph.getBody().getOps<dist::FrameOp>())
        json.object([&] {
          json.attribute(field::name, frame.getName());
          json.attribute(field::bytes, frame.getBytes());
        });
    });
    json.attributeArray(field::inputs, [&] {
      for (auto input : graph.getBody().getOps<dist::InputOp>())
        json.value(input.getName());
    });
    json.attributeArray(field::items, [&] {
      for (Operation &op : graph.getBody().front()) {
        auto action = [&](llvm::function_ref<void()> write) {
          json.object([&] {
            write();
            writeLocation(&op);
          });
        };
        if (auto call = dyn_cast<dist::CallOp>(op))
          action([&] { writeAction(call); });
        else if (auto collective = dyn_cast<dist::CollectiveOp>(op))
          writeCollective(collective, action);
      }
    });
    json.attributeObject(field::outputs, [&] {
      for (auto output : graph.getBody().getOps<dist::OutputOp>())
        json.attributeObject(output.getName(), [&] {
          writeTensor(output.getType(), output.getAddress(), output.getSplit());
          if (output.getPartial())
            json.attribute(field::partial, toJson(*output.getPartial()));
        });
    });
  });
  frames.clear();
}

void TextWriter::writeProgram(dist::ProgramOp program) {
  llvm::DenseMap<Operation *, int64_t> indexOf; // of the last action of an entry
  int64_t count = 0;
  for (auto op : program.getBody().getOps<dist::EntryOpInterface>()) {
    llvm::SmallSetVector<int64_t, 4> after;
    for (Value event : op.getAfter())
      after.insert(indexOf.lookup(event.getDefiningOp()));
    auto action = [&](llvm::function_ref<void()> write) {
      json.object([&] {
        write();
        writeLocation(op);
        if (int64_t stream = op.getStream())
          json.attribute(field::stream, stream);
        if (!after.empty())
          json.attributeArray(field::after, [&] {
            for (int64_t index : after)
              json.value(index);
          });
      });
      after.clear(); // the others come behind the first, in its stream
      indexOf[op] = count++;
    };
    if (auto collective = dyn_cast<dist::CollectiveOp>(*op))
      writeCollective(collective, action);
    else
      action([&] { writeAction(op); });
  }
}

/// The bytes of an arena that each program needs.
void TextWriter::writeNeeds(dist::ArenaOp arena) {
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (program.getStage() != arena.getStage())
      continue;
    for (auto end : program.getNeeds()->getAsRange<AddressAttr>())
      if (end.getArena().getValue() == arena.getSymName())
        json.attribute(program.getName(), end.getOffset());
  }
}

void TextWriter::writeStage(int64_t stage) {
  arenas.clear();
  for (auto arena : module.getOps<dist::ArenaOp>())
    if (int64_t(arena.getStage()) == stage)
      arenas.insert({arena.getSymName(), arenas.size()});
  json.attributeArray(field::arenas, [&] {
    for (auto arena : module.getOps<dist::ArenaOp>())
      if (int64_t(arena.getStage()) == stage)
        json.object([&] {
          json.attribute(field::name, dist::stringifyArenaRole(arena.getRole()));
          json.attributeObject(field::bytes, [&] { writeNeeds(arena); });
        });
  });
  if (std::vector<StageReserves> reserves = reservesOf(module); size_t(stage) < reserves.size())
    json.attributeObject(field::reserves, [&] {
      json.attribute(field::productStreams, llvm::json::Array(reserves[stage].productStreams));
      json.attribute(field::productBytes, reserves[stage].productBytes);
    });
  json.attributeArray(field::parameters, [&] {
    for (auto storage : module.getOps<dist::StorageOp>())
      if (isOf(storage.getAddress(), stage))
        writeParameter(storage);
  });
  json.attributeArray(field::inputs, [&] {
    for (auto &[key, input] : inputs) {
      if (key.first != stage)
        continue;
      json.object([&, input = input]() mutable {
        json.attribute(field::name, input.getName());
        writeTensor(input.getType(), input.getAddress(), input.getSplit());
        if (auto images = input.getImages())
          json.attributeObject(field::images, [&] {
            json.attribute(field::axes, toJson(ArrayAttr::get(module.getContext(),
                                                              images->getValue().drop_front())));
            json.attribute(field::group, toJson((*images)[0]));
          });
      });
    }
  });
  json.attributeObject(field::graphs, [&] {
    for (auto graph : module.getOps<dist::GraphOp>())
      if (graphs.lookup(graph.getSymName()) == stage)
        writeGraph(graph);
  });
  for (auto program : module.getOps<dist::ProgramOp>())
    if (int64_t(program.getStage()) == stage && program.getName() == llrt::known::step)
      for (auto output : program.getBody().getOps<dist::OutputOp>())
        if (output.getName() == field::sums)
          writeAddress(field::sums, output.getAddress());
  json.attributeObject(field::programs, [&] {
    for (auto program : module.getOps<dist::ProgramOp>())
      if (int64_t(program.getStage()) == stage)
        json.attributeArray(program.getName(), [&] { writeProgram(program); });
  });
}

/// What llama-chunk-rows left of each block that has logits.
void TextWriter::writeLogits() {
  for (auto code : module.getOps<ModuleOp>()) {
    auto logits = code->getAttrOfType<ArrayAttr>(kLogitsAttr);
    auto blocks = code->getAttrOfType<ArrayAttr>(kBlocksAttr);
    if (!logits || !blocks)
      continue;
    for (auto block : blocks.getAsRange<StringAttr>())
      for (auto of : logits.getAsRange<DictionaryAttr>())
        json.object([&] {
          json.attribute(field::block, block.getValue());
          for (NamedAttribute each : of)
            json.attribute(each.getName(), toJson(each.getValue()));
        });
  }
}

FailureOr<ProgramText> TextWriter::write() {
  if (failed(collect()))
    return failure();
  json.object([&] {
    json.attribute(field::version, llrt::kProgramVersion);
    json.attribute(field::options, toJson(module->getAttr("llama.options")));
    llvm::json::Value model = toJson(module->getAttr("llama.model"));
    (*model.getAsObject())[llrt::model::hash] = hashOf(module);
    json.attribute(field::model, model);
    json.attribute(field::operations, toJson(module->getAttr(kOperationsAttr)));
    if (Attribute certificate = module->getAttr(kCertificateAttr))
      json.attribute(field::certificate, toJson(certificate));
    json.attributeArray(field::logits, [&] { writeLogits(); });
    json.attributeArray(field::axes, [&] {
      for (const Axis &axis : axes)
        json.object([&] {
          json.attribute(field::name, axis.name);
          json.attribute(field::size, axis.size);
        });
    });
    json.attributeArray(field::communicators, [&] {
      for (auto communicator : module.getOps<dist::CommunicatorOp>())
        json.object([&] {
          json.attribute(field::name, communicator.getSymName());
          if (auto axes = communicator.getAxes())
            json.attribute(field::axes, toJson(*axes));
          if (auto edge = communicator.getEdge())
            json.attribute(field::edge, llvm::json::Array(*edge));
          if (CommunicatorShare share = shareOf(communicator); share.multiprocessors) {
            json.attribute(field::multiprocessors, share.multiprocessors);
            json.attribute(field::bytes, share.bytes);
          }
        });
    });
    json.attributeArray(field::stages, [&] {
      for (int64_t stage = 0; stage < stages; ++stage)
        json.object([&] { writeStage(stage); });
    });
    json.attributeArray(field::locations, [&] {
      for (StringRef text : locationTexts)
        json.value(text);
    });
  });
  json.flush();
  stream.flush();
  return std::move(result);
}

FailureOr<ProgramText> llamac::writeProgramText(ModuleOp program) {
  return TextWriter(program).write();
}
