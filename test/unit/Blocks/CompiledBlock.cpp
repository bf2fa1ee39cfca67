//===- CompiledBlock.cpp - Compile a block and run it ---------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "CompiledBlock.h"

#include "LoadObjects.h"

#include "dialects/Llama/IR/Llama.h"
#include "dialects/Routine/IR/Routine.h"
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Object/ObjectFile.h"

#include <cstring>
#include <random>

using namespace mlir;
using namespace llamac_test;

namespace {
// Bytes around each buffer that nothing may change.
constexpr size_t kGuard = 64;
constexpr char kGuardByte = 0x5a;

[[noreturn]] void fail(const std::string &message) {
  fprintf(stderr, "%s\n", message.c_str());
  abort();
}

size_t bytesPerElement(const std::string &type) {
  return type == "bf16" ? 2 : type == "f32" ? 4 : 8;
}

// A buffer between guards.
struct Buffer {
  std::unique_ptr<char[]> memory;
  char *data;
  size_t bytes;

  explicit Buffer(size_t bytes) : bytes(bytes) {
    memory.reset(new char[bytes + 2 * kGuard + 64]);
    data = memory.get() + kGuard;
    data += (64 - reinterpret_cast<uintptr_t>(data) % 64) % 64;
    std::memset(data - kGuard, kGuardByte, bytes + 2 * kGuard);
  }
  bool guardsHold() const {
    auto holds = [](const char *p) {
      return std::all_of(p, p + kGuard, [](char c) { return c == kGuardByte; });
    };
    return holds(data - kGuard) && holds(data + bytes);
  }
};

void store(const Array &array, char *data) {
  for (int64_t i = 0; i < array.elements; ++i) {
    double value = array.values[i];
    if (array.type == "f64") {
      std::memcpy(data + 8 * i, &value, 8);
    } else if (array.type == "i64") {
      int64_t integer = int64_t(value);
      std::memcpy(data + 8 * i, &integer, 8);
    } else {
      llvm::APFloat number(value);
      bool lost;
      number.convert(array.type == "f32" ? llvm::APFloat::IEEEsingle() : llvm::APFloat::BFloat(),
                     llvm::APFloat::rmNearestTiesToEven, &lost);
      uint64_t bits = number.bitcastToAPInt().getZExtValue();
      std::memcpy(data + bytesPerElement(array.type) * i, &bits, bytesPerElement(array.type));
    }
  }
}

void load(Array &array, const char *data) {
  array.values.resize(array.elements);
  for (int64_t i = 0; i < array.elements; ++i) {
    if (array.type == "f64") {
      std::memcpy(&array.values[i], data + 8 * i, 8);
    } else if (array.type == "i64") {
      int64_t integer;
      std::memcpy(&integer, data + 8 * i, 8);
      array.values[i] = double(integer);
    } else {
      uint32_t bits = 0;
      std::memcpy(&bits, data + bytesPerElement(array.type) * i, bytesPerElement(array.type));
      if (array.type == "bf16")
        bits <<= 16;
      float number;
      std::memcpy(&number, &bits, 4);
      array.values[i] = number;
    }
  }
}

Array arrayOf(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  std::string name;
  llvm::raw_string_ostream(name) << tensor.getElementType();
  Array array;
  array.type = name;
  array.elements = tensor.getNumElements();
  return array;
}

MLIRContext &context() {
  static MLIRContext *context = [] {
    DialectRegistry registry;
    registerAllDialects(registry);
    registerAllExtensions(registry);
    registry.insert<llama::LlamaDialect, routine::RoutineDialect>();
    llamac::registerRoutineBufferization(registry);
    llamac::registerObjectTranslations(registry);
    auto *made = new MLIRContext(registry);
    made->allowUnregisteredDialects(); // test.* attributes
    return made;
  }();
  return *context;
}
} // namespace

struct CompiledBlock::State {
  std::vector<Array> arguments, results;
  int64_t scratch = 0;
  std::string lowered;
  SmallVector<char, 0> object;
  std::unique_ptr<llvm::orc::LLJIT> jit;
  LlrtBlock function = nullptr;
};

CompiledBlock::CompiledBlock(const std::string &text, bool reference, std::string cpuName)
    : state(std::make_unique<State>()) {
  OwningOpRef<ModuleOp> module = parseSourceString<ModuleOp>(text, &context());
  if (!module)
    fail("the block does not parse:\n" + text);
  auto block = *module->getOps<func::FuncOp>().begin();
  std::string name = block.getSymName().str();
  for (auto [index, type] : llvm::enumerate(block.getArgumentTypes())) {
    Array array = arrayOf(type);
    if (auto below = block.getArgAttrOfType<IntegerAttr>(index, "test.below"))
      array.below = below.getInt();
    if (auto least = block.getArgAttrOfType<IntegerAttr>(index, "test.least"))
      array.least = least.getInt();
    array.counts = block.getArgAttr(index, "test.counts") != nullptr;
    state->arguments.push_back(array);
  }
  for (auto [index, type] : llvm::enumerate(block.getResultTypes())) {
    state->results.push_back(arrayOf(type));
    if (auto place = block.getResultAttrOfType<IntegerAttr>(index, llama::kInPlaceAttr))
      state->results.back().inPlace = place.getInt();
  }

  if (cpuName.empty()) {
    const char *level = std::getenv("LLAMAC_TEST_CPU");
    cpuName = level ? level : "native";
  }
  auto target =
      llamac::makeTarget({.lower = reference ? "reference" : "fast", .cpu = std::move(cpuName)});
  if (!target)
    fail(llvm::toString(target.takeError()));
  PassManager pm(&context());
  llamac::buildLowerBlocksPipeline(pm, *target);
  if (failed(pm.run(*module)))
    fail("the block does not lower");
  llvm::raw_string_ostream(state->lowered) << *module;
  auto code = *module->getOps<ModuleOp>().begin();
  auto lowered = code.lookupSymbol<LLVM::LLVMFuncOp>(name);
  state->scratch = lowered->getAttrOfType<IntegerAttr>(llamac::kScratchAttr).getInt();

  auto objects = (*target)->compile(*module, 1);
  if (failed(objects) || objects->size() != 1)
    fail("the block does not compile");
  state->jit = loadObjects(*objects);
  state->function = findBlock(*state->jit, name);
  state->object = std::move(objects->front().bytes);
}

CompiledBlock::~CompiledBlock() = default;

const std::vector<Array> &CompiledBlock::arguments() const { return state->arguments; }
const std::string &CompiledBlock::lowered() const { return state->lowered; }

std::vector<Array> CompiledBlock::operator()(const std::vector<Array> &arguments,
                                             int64_t threads) const {
  std::vector<Buffer> buffers;
  for (const Array &array : arguments) {
    buffers.emplace_back(array.elements * bytesPerElement(array.type));
    store(array, buffers.back().data);
  }
  std::vector<size_t> places;
  for (const Array &array : state->results) {
    places.push_back(array.inPlace >= 0 ? array.inPlace : buffers.size());
    if (array.inPlace < 0)
      buffers.emplace_back(array.elements * bytesPerElement(array.type));
  }
  buffers.emplace_back(state->scratch);
  std::vector<void *> pointers;
  for (Buffer &buffer : buffers)
    pointers.push_back(buffer.data);
  LlrtStream stream{threads};
  state->function(&stream, pointers.data());

  for (size_t i = 0; i < buffers.size(); ++i)
    if (!buffers[i].guardsHold())
      fail("the block writes outside of buffer " + std::to_string(i));
  for (size_t i = 0; i < arguments.size(); ++i) {
    Buffer original(buffers[i].bytes);
    store(arguments[i], original.data);
    if (std::memcmp(original.data, buffers[i].data, original.bytes) != 0 &&
        llvm::none_of(state->results, [&](const Array &r) { return r.inPlace == int64_t(i); }))
      fail("the block writes to argument " + std::to_string(i));
  }
  std::vector<Array> results = state->results;
  for (size_t i = 0; i < results.size(); ++i)
    load(results[i], buffers[places[i]].data);
  return results;
}

std::vector<std::string> CompiledBlock::undefinedSymbols() const {
  llvm::ExitOnError orDie("reading an object file: ");
  auto buffer = llvm::MemoryBuffer::getMemBuffer(
      StringRef(state->object.data(), state->object.size()), "", false);
  auto file = orDie(llvm::object::ObjectFile::createObjectFile(buffer->getMemBufferRef()));
  std::vector<std::string> names;
  for (const llvm::object::SymbolRef &symbol : file->symbols())
    if (orDie(symbol.getFlags()) & llvm::object::SymbolRef::SF_Undefined)
      if (std::string name = orDie(symbol.getName()).str(); !name.empty())
        names.push_back(name);
  return names;
}

std::vector<Array> llamac_test::drawArguments(const CompiledBlock &block, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<Array> arguments = block.arguments();
  for (Array &array : arguments)
    for (int64_t i = 0; i < array.elements; ++i) {
      uint32_t random = generator();
      if (array.type != "i64")
        array.values.push_back(random / 4294967296.0 * 2 - 1);
      else if (array.counts)
        array.values.push_back(double(i % array.below));
      else
        array.values.push_back(double(array.least + int64_t(random % (array.below - array.least))));
    }
  return arguments;
}
