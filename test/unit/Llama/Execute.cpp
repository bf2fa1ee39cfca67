//===- Execute.cpp - Runs one op of the llama dialect ---------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A function of one op is decomposed and lowered by upstream passes only: fusion,
// bufferization, loops, LLVM dialect, ORC. What a decomposition means is tested here,
// not how the Lower step makes it fast. The function becomes
// `void main(ptr input..., ptr result...)`, reached through a wrapper that takes the
// pointers as an array.
//
//===----------------------------------------------------------------------===//
#include "Execute.h"

#include "dialects/Llama/IR/Llama.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Linalg/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/InitAllPasses.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Target/LLVMIR/Dialect/All.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/Support/TargetSelect.h"

#include <cstring>

using namespace mlir;
using namespace llamac_test;

static constexpr const char *kBufferize =
    "func.func(linalg-generalize-named-ops,linalg-fuse-elementwise-ops),eliminate-empty-tensors,"
    "one-shot-bufferize{bufferize-function-boundaries=true "
    "function-boundary-type-conversion=identity-layout-map},canonicalize,cse,"
    "buffer-results-to-out-params{hoist-static-allocs=true modify-public-functions=true},"
    "canonicalize";
static constexpr const char *kToLLVM =
    "func.func(convert-linalg-to-loops),fold-memref-alias-ops,"
    "expand-strided-metadata,lower-affine,"
    "convert-scf-to-cf,arith-expand{include-bf16=true},convert-math-to-llvm,convert-math-to-libm,"
    "convert-arith-to-llvm,convert-index-to-llvm,finalize-memref-to-llvm,"
    "convert-func-to-llvm{use-bare-ptr-memref-call-conv=1},convert-cf-to-llvm,canonicalize,"
    "reconcile-unrealized-casts";

struct CompiledOp::State {
  std::unique_ptr<llvm::orc::LLJIT> jit;
  void (*function)(void **) = nullptr;
  std::vector<Array> results; // shape and type of each
};

static MLIRContext &context() {
  static MLIRContext *context = [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    DialectRegistry registry;
    registerAllDialects(registry);
    registerAllExtensions(registry);
    registerAllToLLVMIRTranslations(registry);
    registerAllPasses();
    registry.insert<llama::LlamaDialect>();
    auto *context = new MLIRContext(registry, MLIRContext::Threading::DISABLED);
    context->loadAllAvailableDialects();
    return context;
  }();
  return *context;
}

static void require(bool condition, const llvm::Twine &what) {
  if (!condition)
    llvm::report_fatal_error(what, /*gen_crash_diag=*/false);
}

static std::string typeName(Type type) {
  std::string name;
  llvm::raw_string_ostream(name) << type;
  return name;
}

// A function `main` that holds the op, in a new module.
static OwningOpRef<ModuleOp> moduleOf(const std::string &name, const std::string &attributes,
                                      const std::vector<Array> &inputs) {
  MLIRContext *ctx = &context();
  Location loc = UnknownLoc::get(ctx);
  SmallVector<Type> types;
  for (const Array &input : inputs)
    types.push_back(RankedTensorType::get(input.shape, parseType(input.type, ctx)));
  auto values = dyn_cast_or_null<DictionaryAttr>(parseAttribute(attributes, ctx));
  require(bool(values), name + ": attributes expected, got " + attributes);

  OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
  auto b = OpBuilder::atBlockEnd(module->getBody());
  auto function = func::FuncOp::create(b, loc, "main", b.getFunctionType(types, {}));
  b.setInsertionPointToStart(function.addEntryBlock());
  OperationState operation(loc, name, function.getArguments(), {}, values.getValue());
  // An op without results only to hold the attributes that the result types follow from.
  Operation *untyped = Operation::create(operation);
  SmallVector<Type> resultTypes;
  require(succeeded(untyped->getName().getInterface<InferTypeOpInterface>()->inferReturnTypes(
              ctx, loc, untyped->getOperands(), untyped->getDiscardableAttrDictionary(),
              untyped->getPropertiesStorage(), {}, resultTypes)),
          name + ": no result types");
  untyped->destroy();
  operation.addTypes(resultTypes);
  Operation *op = b.create(operation);
  require(succeeded(op->getName().verifyInvariants(op)), name + ": not valid");
  function.setFunctionType(b.getFunctionType(types, resultTypes));
  return module;
}

static Operation *opOf(ModuleOp module) {
  return &module.lookupSymbol<func::FuncOp>("main").getBody().front().front();
}

llama::PlacementRule llamac_test::placementRule(const std::string &op,
                                                const std::string &attributes,
                                                const std::vector<Array> &inputs) {
  OwningOpRef<ModuleOp> module = moduleOf(op, attributes, inputs);
  return cast<llama::PlacementOpInterface>(opOf(*module)).getPlacementRule();
}

std::vector<std::string> llamac_test::opsWithPlacementRule() {
  std::vector<std::string> names;
  for (RegisteredOperationName name : context().getRegisteredOperations())
    if (name.hasInterface<llama::PlacementOpInterface>())
      names.push_back(name.getStringRef().str());
  return names;
}

CompiledOp::CompiledOp(const std::string &name, const std::string &attributes,
                       const std::vector<Array> &inputs)
    : state(std::make_unique<State>()) {
  OwningOpRef<ModuleOp> module = moduleOf(name, attributes, inputs);
  Operation *op = opOf(*module);
  for (Type type : op->getResultTypes()) {
    auto tensor = cast<RankedTensorType>(type);
    state->results.push_back({tensor.getShape().vec(), typeName(tensor.getElementType()), {}});
  }
  OpBuilder b(op);
  SmallVector<Value> results = cast<llama::DecompositionOpInterface>(op).decompose(b);
  func::ReturnOp::create(b, op->getLoc(), results);
  op->erase();

  auto run = [&](const char *pipeline) {
    PassManager passes(&context());
    require(succeeded(parsePassPipeline(pipeline, passes)), "pipeline does not parse");
    require(succeeded(passes.run(*module)), name + ": does not lower");
  };
  run(kBufferize);
  // Copies become loops: of strided ones LLVM would make calls of a runtime that is not here.
  IRRewriter rewriter(&context());
  module->walk([&](memref::CopyOp copy) {
    rewriter.setInsertionPoint(copy);
    linalg::makeMemRefCopyOp(rewriter, copy.getLoc(), copy.getSource(), copy.getTarget());
    rewriter.eraseOp(copy);
  });
  run(kToLLVM);

  auto llvmContext = std::make_unique<llvm::LLVMContext>();
  std::unique_ptr<llvm::Module> llvmModule = translateModuleToLLVMIR(*module, *llvmContext);
  require(bool(llvmModule), name + ": does not translate");
  // void call(ptr pointers): main(pointers[0], pointers[1], ...)
  llvm::IRBuilder<> ir(*llvmContext);
  auto *pointer = ir.getPtrTy();
  auto *call = llvm::Function::Create(llvm::FunctionType::get(ir.getVoidTy(), {pointer}, false),
                                      llvm::Function::ExternalLinkage, "call", *llvmModule);
  ir.SetInsertPoint(llvm::BasicBlock::Create(*llvmContext, "", call));
  SmallVector<llvm::Value *> arguments;
  for (size_t i = 0; i < inputs.size() + state->results.size(); ++i)
    arguments.push_back(ir.CreateLoad(pointer, ir.CreateConstGEP1_64(pointer, call->getArg(0), i)));
  ir.CreateCall(llvmModule->getFunction("main"), arguments);
  ir.CreateRetVoid();

  state->jit = llvm::cantFail(llvm::orc::LLJITBuilder().create());
  llvmModule->setDataLayout(state->jit->getDataLayout());
  llvm::cantFail(state->jit->addIRModule({std::move(llvmModule), std::move(llvmContext)}));
  state->function = llvm::cantFail(state->jit->lookup("call")).toPtr<void (*)(void **)>();
}

CompiledOp::~CompiledOp() = default;

// The bytes of the values in the array's type.
static std::vector<char> encode(const Array &array) {
  std::vector<char> bytes;
  auto put = [&](auto value) {
    const char *from = reinterpret_cast<const char *>(&value);
    bytes.insert(bytes.end(), from, from + sizeof(value));
  };
  for (double value : array.values) {
    if (array.type == "f64")
      put(value);
    else if (array.type == "f32")
      put(static_cast<float>(value));
    else if (array.type == "i64")
      put(static_cast<int64_t>(value));
    else {
      require(array.type == "bf16", "unknown type " + array.type);
      llvm::APFloat rounded(value);
      bool lost;
      rounded.convert(llvm::APFloat::BFloat(), llvm::APFloat::rmNearestTiesToEven, &lost);
      put(static_cast<uint16_t>(rounded.bitcastToAPInt().getZExtValue()));
    }
  }
  return bytes;
}

static size_t elementBytes(const std::string &type) {
  return type == "bf16" ? 2 : type == "f32" ? 4 : 8;
}

static void decode(const std::vector<char> &bytes, Array &array) {
  for (size_t at = 0; at < bytes.size(); at += elementBytes(array.type)) {
    if (array.type == "f64") {
      double value;
      std::memcpy(&value, &bytes[at], sizeof(value));
      array.values.push_back(value);
      continue;
    }
    if (array.type == "i64") {
      int64_t value;
      std::memcpy(&value, &bytes[at], sizeof(value));
      array.values.push_back(value);
      continue;
    }
    uint32_t bits = 0; // bf16: the upper half of an f32
    std::memcpy(reinterpret_cast<char *>(&bits) + (array.type == "bf16" ? 2 : 0), &bytes[at],
                elementBytes(array.type));
    array.values.push_back(llvm::bit_cast<float>(bits));
  }
}

std::vector<Array> CompiledOp::operator()(const std::vector<Array> &inputs) const {
  std::vector<std::vector<char>> buffers;
  std::vector<void *> pointers;
  for (const Array &input : inputs)
    buffers.push_back(encode(input));
  std::vector<Array> results = state->results;
  for (Array &result : results) {
    size_t count = 1;
    for (int64_t size : result.shape)
      count *= size;
    buffers.emplace_back(count * elementBytes(result.type), '\xff'); // NaN where nothing is written
  }
  for (std::vector<char> &buffer : buffers)
    pointers.push_back(buffer.data());
  state->function(pointers.data());
  for (size_t i = 0; i < results.size(); ++i)
    decode(buffers[inputs.size() + i], results[i]);
  return results;
}
