//===- ProgramText.cpp - What an executable interprets --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The form is that of runtime/include/llrt/Program.h, member by member, in the order
// given there. The hash is that of the printed device program, code included.
//
//===----------------------------------------------------------------------===//
#include "llamac/Emit/Emit.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Parallelize/Passes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_sha1_ostream.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using llama::ParameterOp;

/// Hexadecimal digits of the hash that an executable prints.
static constexpr size_t kHashDigits = 16;

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
  explicit TextWriter(ModuleOp program) : module(program), symbols(program), json(stream) {}

  FailureOr<ProgramText> write();

private:
  LogicalResult collect();
  LogicalResult addCall(Operation *op, StringRef block, ArrayAttr buffers);

  void writeAddress(StringRef name, AddressAttr address) {
    json.attributeArray(name, [&] { writeAddressItems(address); });
  }
  void writeAddressItems(AddressAttr address) {
    json.value(int64_t(arenas.find(address.getArena().getValue())->second));
    json.value(address.getOffset());
  }
  void writeBuffers(StringRef block, ArrayAttr buffers) {
    json.attribute("block", block);
    json.attributeArray("buffers", [&] {
      for (auto address : buffers.getAsRange<AddressAttr>())
        json.array([&] { writeAddressItems(address); });
    });
  }
  void writeTensor(Type type, AddressAttr address) {
    auto tensor = cast<RankedTensorType>(type);
    json.attribute("type", nameOf(tensor.getElementType()));
    json.attribute("shape", llvm::json::Array(tensor.getShape()));
    writeAddress("address", address);
  }
  void writeParameter(dist::StorageOp storage);
  void writeGraph(dist::GraphOp graph);
  void writeProgram(dist::ProgramOp program);
  void writeStage();

  ModuleOp module;
  SymbolTable symbols;
  SymbolTableCollection collection;
  ProgramText result;
  llvm::raw_string_ostream stream{result.json};
  llvm::json::OStream json;
  llvm::MapVector<StringRef, size_t> arenas; // name -> index
  llvm::MapVector<StringRef, dist::InputOp> inputs;
  llvm::StringMap<int64_t> scratch;   // bytes, by block
  llvm::StringMap<int64_t> rowsOfKey; // rows of the checkpoint tensor, by its key
};
} // namespace

/// Notes the block of a call; its scratch memory, the last buffer, must fit.
LogicalResult TextWriter::addCall(Operation *op, StringRef block, ArrayAttr buffers) {
  if (!buffers || buffers.empty())
    return op->emitOpError("expects planned memory (llama-plan-arenas)");
  auto [entry, isNew] = scratch.try_emplace(block, 0);
  if (isNew) {
    auto code = symbols.lookup(block)->getAttrOfType<SymbolRefAttr>(kCodeAttr);
    auto function = code ? dyn_cast_or_null<LLVM::LLVMFuncOp>(collection.lookupSymbolIn(module, code))
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

/// Reads what several parts of the text need, and checks it.
LogicalResult TextWriter::collect() {
  for (StringRef name : {StringRef("llama.model"), StringRef("llama.options"), StringRef(kOperationsAttr)})
    if (!module->getAttrOfType<DictionaryAttr>(name))
      return module.emitError("expected the module attribute '") << name << "'";
  for (auto arena : module.getOps<dist::ArenaOp>())
    arenas.insert({arena.getName(), arenas.size()});
  for (auto parameter : module.getOps<ParameterOp>()) {
    int64_t &rows = rowsOfKey[parameter.getCheckpointKey()];
    ArrayRef<int64_t> shape =
        parameter.getCheckpointShape().value_or(parameter.getTensorType().getShape());
    rows = std::max<int64_t>(rows, parameter.getRowBegin().value_or(0) +
                                       (shape.empty() ? 1 : shape.front()));
  }
  for (auto graph : module.getOps<dist::GraphOp>())
    for (Operation &op : graph.getBody().front()) {
      if (auto call = dyn_cast<dist::CallOp>(op)) {
        if (failed(addCall(call, call.getBlock(), call.getBuffers())))
          return failure();
      } else if (auto input = dyn_cast<dist::InputOp>(op)) {
        auto [entry, isNew] = inputs.insert({input.getName(), input});
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
  for (auto program : module.getOps<dist::ProgramOp>())
    for (Operation &op : program.getBody().front()) {
      hasProgram = true;
      if (auto norm = dyn_cast<dist::GradientNormOp>(op)) {
        if (failed(addCall(norm, norm.getBlock(), norm.getBuffersAttr())))
          return failure();
      } else if (auto update = dyn_cast<dist::UpdateOp>(op)) {
        if (failed(addCall(update, update.getBlock(), update.getBuffersAttr())))
          return failure();
      } else if (auto run = cast<dist::RunOp>(op); !symbols.lookup<dist::GraphOp>(run.getGraph())) {
        return run.emitOpError("expects planned memory (llama-plan-arenas)");
      }
    }
  if (!hasProgram)
    return module.emitError("expected a program (dist.program)");
  return success();
}

void TextWriter::writeParameter(dist::StorageOp storage) {
  auto parameter = symbols.lookup<ParameterOp>(storage.getParameter());
  RankedTensorType type = parameter.getTensorType();
  SmallVector<int64_t> shape(parameter.getCheckpointShape().value_or(type.getShape()));
  int64_t rowBegin = parameter.getRowBegin().value_or(0);
  int64_t rows = shape.empty() ? 1 : shape.front();
  if (!shape.empty())
    shape.front() = rowsOfKey.lookup(parameter.getCheckpointKey());
  json.object([&] {
    json.attribute("name", parameter.getSymName());
    json.attribute("checkpoint_key", parameter.getCheckpointKey());
    json.attribute("checkpoint_shape", llvm::json::Array(shape));
    json.attribute("row_begin", rowBegin);
    json.attribute("row_end", rowBegin + rows);
    json.attribute("shape", llvm::json::Array(type.getShape()));
    json.attribute("type", nameOf(type.getElementType()));
    json.attribute("elements", type.getNumElements());
    json.attribute("trainable", !parameter.getFrozen());
    json.attribute("initializer", stringifyInitializer(parameter.getInitializer()));
    writeAddress("address", storage.getAddress());
    if (parameter.getFrozen())
      return;
    writeAddress("master", *storage.getMaster());
    writeAddress("gradient", *storage.getGradient());
    // The type in which gradients are summed, as the training graph chose it.
    auto precision = module->getAttrOfType<DictionaryAttr>("llama.precision");
    auto accumulation = precision ? precision.getAs<TypeAttr>("accumulation") : TypeAttr();
    Type master = type.getElementType().isF64() ? Float64Type::get(module.getContext())
                                                : Type(Float32Type::get(module.getContext()));
    json.attribute("gradient_type", nameOf(accumulation ? accumulation.getValue() : master));
    writeAddress("moment1", *storage.getMoment1());
    writeAddress("moment2", *storage.getMoment2());
  });
}

void TextWriter::writeGraph(dist::GraphOp graph) {
  json.attributeObject(graph.getSymName(), [&] {
    json.attributeArray("frames", [] {});
    json.attributeArray("inputs", [&] {
      for (auto input : graph.getBody().getOps<dist::InputOp>())
        json.value(input.getName());
    });
    json.attributeArray("items", [&] {
      for (auto call : graph.getBody().getOps<dist::CallOp>())
        json.object([&] {
          json.attribute("do", "call");
          writeBuffers(call.getBlock(), call.getBuffers());
        });
    });
    json.attributeObject("outputs", [&] {
      for (auto output : graph.getBody().getOps<dist::OutputOp>())
        json.attributeObject(output.getName(),
                             [&] { writeTensor(output.getType(), output.getAddress()); });
    });
  });
}

void TextWriter::writeProgram(dist::ProgramOp program) {
  auto bufferOf = [](std::optional<ArrayAttr> buffers, unsigned index) {
    return cast<AddressAttr>((*buffers)[index]);
  };
  auto writeCalls = [&](auto op, StringRef field, unsigned index) {
    json.attributeArray("calls", [&] {
      json.object([&] {
        writeBuffers(op.getBlock(), *op.getBuffers());
        writeAddress(field, bufferOf(op.getBuffers(), index));
      });
    });
  };
  // The sums of loss and squares lie in an arena of their own, the last one.
  auto writeSums = [&] {
    json.attributeArray("to", [&] {
      json.value(int64_t(arenas.size()));
      json.value(0);
    });
  };
  bool hasSums = false;
  for (Operation &action : program.getBody().front())
    json.object([&] {
      if (auto run = dyn_cast<dist::RunOp>(action)) {
        json.attribute("do", "run");
        json.attribute("graph", run.getGraph());
        json.attribute("micro_batch", run.getMicroBatch());
        json.attributeArray("frames", [] {});
      } else if (auto norm = dyn_cast<dist::GradientNormOp>(action)) {
        json.attribute("do", "statistics");
        writeCalls(norm, "result", 1);
        writeSums();
        hasSums = true;
      } else if (auto update = dyn_cast<dist::UpdateOp>(action)) {
        json.attribute("do", "update");
        writeCalls(update, "hyperparameters", 4);
      }
    });
  if (!hasSums)
    json.object([&] {
      json.attribute("do", "statistics");
      json.attributeArray("calls", [] {});
      writeSums();
    });
}

void TextWriter::writeStage() {
  json.attributeArray("arenas", [&] {
    auto writeArena = [&](StringRef name, int64_t bytes) {
      json.object([&] {
        json.attribute("name", name);
        json.attribute("bytes", bytes);
      });
    };
    for (auto arena : module.getOps<dist::ArenaOp>())
      writeArena(arena.getName(), arena.getBytes());
    writeArena("statistics", 2 * sizeof(double));
  });
  json.attributeArray("parameters", [&] {
    for (auto storage : module.getOps<dist::StorageOp>())
      writeParameter(storage);
  });
  json.attributeArray("inputs", [&] {
    for (auto [name, input] : inputs)
      json.object([&, name = name, input = input]() mutable {
        json.attribute("name", name);
        writeTensor(input.getType(), input.getAddress());
      });
  });
  json.attributeObject("graphs", [&] {
    for (auto graph : module.getOps<dist::GraphOp>())
      writeGraph(graph);
  });
  json.attributeObject("programs", [&] {
    for (auto program : module.getOps<dist::ProgramOp>())
      json.attributeArray(program.getName(), [&] { writeProgram(program); });
  });
}

FailureOr<ProgramText> TextWriter::write() {
  if (failed(collect()))
    return failure();
  json.object([&] {
    json.attribute("version", 2);
    json.attribute("options", toJson(module->getAttr("llama.options")));
    llvm::json::Value model = toJson(module->getAttr("llama.model"));
    (*model.getAsObject())["hash"] = hashOf(module);
    json.attribute("model", model);
    json.attribute("operations", toJson(module->getAttr(kOperationsAttr)));
    json.attributeArray("axes", [] {});
    json.attributeArray("communicators", [] {});
    json.attributeArray("stages", [&] { json.object([&] { writeStage(); }); });
  });
  json.flush();
  stream.flush();
  return std::move(result);
}

FailureOr<ProgramText> llamac::writeProgramText(ModuleOp program) {
  return TextWriter(program).write();
}
