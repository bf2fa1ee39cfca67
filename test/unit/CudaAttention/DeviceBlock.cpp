//===- DeviceBlock.cpp - A block's kernels on a driver --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "DeviceBlock.h"

#include "abi/cuda.h"

#include "dialects/Routine/IR/Routine.h"
#include "lib/Lower/Cuda/Ptx.h"
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <dlfcn.h>
#include <map>
#include <regex>

using namespace mlir;
using namespace llamac_test;
using namespace sgpu::abi;

[[noreturn]] static void fail(const std::string &message) {
  fprintf(stderr, "%s\n", message.c_str());
  exit(1);
}

namespace {
// The functions of libcuda.so.1 that a run needs.
struct Driver {
#define FUNCTION(name) decltype(&sgpu::abi::name) name;
  FUNCTION(cuInit)
  FUNCTION(cuDevicePrimaryCtxRetain)
  FUNCTION(cuCtxSetCurrent)
  FUNCTION(cuMemAlloc_v2)
  FUNCTION(cuMemFree_v2)
  FUNCTION(cuMemcpyHtoD_v2)
  FUNCTION(cuMemcpyDtoH_v2)
  FUNCTION(cuModuleLoadData)
  FUNCTION(cuModuleUnload)
  FUNCTION(cuModuleGetFunction)
  FUNCTION(cuFuncSetAttribute)
  FUNCTION(cuLaunchKernel)
  FUNCTION(cuTensorMapEncodeTiled)
  FUNCTION(cuCtxSynchronize)
#undef FUNCTION

  static const Driver &get() {
    static const Driver driver;
    return driver;
  }

private:
  Driver() {
    void *library = dlopen(LLAMAC_CUDA_LIBRARY, RTLD_NOW);
    if (!library)
      fail(dlerror());
    auto load = [&](auto &function, const char *name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      if (!function)
        fail(std::string(LLAMAC_CUDA_LIBRARY " has no ") + name);
    };
#define LOAD(name) load(name, #name);
    LOAD(cuInit)
    LOAD(cuDevicePrimaryCtxRetain)
    LOAD(cuCtxSetCurrent)
    LOAD(cuMemAlloc_v2)
    LOAD(cuMemFree_v2)
    LOAD(cuMemcpyHtoD_v2)
    LOAD(cuMemcpyDtoH_v2)
    LOAD(cuModuleLoadData)
    LOAD(cuModuleUnload)
    LOAD(cuModuleGetFunction)
    LOAD(cuFuncSetAttribute)
    LOAD(cuLaunchKernel)
    LOAD(cuTensorMapEncodeTiled)
    LOAD(cuCtxSynchronize)
#undef LOAD
    CUcontext context;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context))
      fail(LLAMAC_CUDA_LIBRARY ": no device");
  }
};
} // namespace

static void check(CUresult result, const char *what) {
  if (result != CUDA_SUCCESS)
    fail(std::string(what) + ": error " + std::to_string(result));
}

struct DeviceBlock::Code {
  std::string chip;
  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  std::vector<std::pair<std::string, std::string>> kernels;
};

static DialectRegistry dialects() {
  DialectRegistry registry;
  registerAllDialects(registry);
  registerAllExtensions(registry);
  registry.insert<routine::RoutineDialect>();
  llamac::registerObjectTranslations(registry);
  return registry;
}

DeviceBlock::DeviceBlock(const std::string &text, const std::string &chips, const std::string &chip)
    : code(std::make_unique<Code>()) {
  code->chip = chip;
  code->context.disableMultithreading();
  code->context.appendDialectRegistry(dialects());
  code->context.loadAllAvailableDialects();
  code->module = parseSourceString<ModuleOp>(text, &code->context);
  if (!code->module)
    fail("cannot parse " + text);
  PassManager pm(&code->context);
  pm.addPass(llamac::createEmitAttentionPass({chips}));
  pm.addNestedPass<gpu::GPUModuleOp>(llamac::createLowerKernelsPass());
  if (failed(pm.run(*code->module)))
    fail("cannot lower " + text);
  code->module->walk([&](gpu::LaunchFuncOp launch) {
    auto kernel =
        code->module->lookupSymbol<gpu::GPUModuleOp>(launch.getKernel().getRootReference());
    FailureOr<std::string> ptx = llamac::writePtx(kernel, chip);
    if (failed(ptx))
      fail("no PTX");
    code->kernels.emplace_back(kernel.getName().str(), *ptx);
  });
}

DeviceBlock::~DeviceBlock() = default;

const std::vector<std::pair<std::string, std::string>> &DeviceBlock::kernels() const {
  return code->kernels;
}

void DeviceBlock::change(const std::string &pattern, const std::string &by) {
  const std::regex expression(pattern);
  bool any = false;
  for (auto &[name, ptx] : code->kernels) {
    any |= std::regex_search(ptx, expression);
    ptx = std::regex_replace(ptx, expression, by);
  }
  if (!any)
    fail("no kernel has " + pattern);
}

std::vector<Assembled> DeviceBlock::assemble() const {
  llvm::Expected<const llamac::Ptxas *> ptxas = llamac::Ptxas::find();
  if (!ptxas)
    fail(llvm::toString(ptxas.takeError()));
  std::vector<Assembled> all;
  if (*ptxas)
    for (const auto &[name, ptx] : code->kernels) {
      llvm::Expected<llamac::Cubin> cubin = (*ptxas)->assemble(ptx, code->chip);
      if (!cubin)
        all.push_back({name, 0, 0, llvm::toString(cubin.takeError())});
      else
        all.push_back({name, cubin->resources.registers, cubin->resources.spills, cubin->warning});
    }
  return all;
}

std::string DeviceBlock::form() const {
  std::string form;
  code->module->walk([&](gpu::LaunchFuncOp launch) {
    if (auto stated = launch->getAttrOfType<StringAttr>("llama.form"))
      form = stated.str();
  });
  return form;
}

// One of `llama.tensor_maps`, of a buffer at `address`.
static CUtensorMap encode(const Driver &driver, DictionaryAttr map, CUdeviceptr address) {
  auto numbers = [&](StringRef name) { return map.getAs<DenseI64ArrayAttr>(name).asArrayRef(); };
  std::vector<cuuint64_t> sizes(numbers("sizes").begin(), numbers("sizes").end()),
      strides(numbers("strides").begin(), numbers("strides").end());
  std::vector<cuuint32_t> box(numbers("box").begin(), numbers("box").end()), steps(box.size(), 1);
  std::map<int64_t, CUtensorMapSwizzle> swizzles = {{0, CU_TENSOR_MAP_SWIZZLE_NONE},
                                                    {32, CU_TENSOR_MAP_SWIZZLE_32B},
                                                    {64, CU_TENSOR_MAP_SWIZZLE_64B},
                                                    {128, CU_TENSOR_MAP_SWIZZLE_128B}};
  if (!map.getAs<TypeAttr>("type").getValue().isBF16())
    fail("tensor map: expected bf16");
  CUtensorMap result;
  check(driver.cuTensorMapEncodeTiled(
            &result, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, box.size(),
            reinterpret_cast<void *>(address), sizes.data(), strides.data(), box.data(),
            steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzles.at(map.getAs<IntegerAttr>("swizzle").getInt()),
            CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
        "cuTensorMapEncodeTiled");
  return result;
}

static unsigned constantOf(Value value) { return unsigned(*getConstantIntValue(value)); }

void DeviceBlock::run(const std::vector<HostBuffer> &arguments) const {
  const Driver &driver = Driver::get();
  auto function = *code->module->getOps<func::FuncOp>().begin();
  llvm::DenseMap<Value, CUdeviceptr> memory;
  auto allocate = [&](Value value, size_t bytes) {
    CUdeviceptr at = 0;
    check(driver.cuMemAlloc_v2(&at, bytes), "cuMemAlloc");
    memory[value] = at;
    return at;
  };
  for (auto [argument, buffer] : llvm::zip_equal(function.getArguments(), arguments)) {
    CUdeviceptr at = allocate(argument, buffer.bytes);
    if (!buffer.written)
      check(driver.cuMemcpyHtoD_v2(at, buffer.data, buffer.bytes), "cuMemcpyHtoD");
  }
  std::map<std::string, CUmodule> loaded;
  size_t number = 0;
  for (Operation &op : function.getBody().front()) {
    if (auto alloc = dyn_cast<memref::AllocOp>(op)) {
      MemRefType type = alloc.getType();
      allocate(alloc, type.getNumElements() * type.getElementTypeBitWidth() / 8);
      continue;
    }
    auto launch = dyn_cast<gpu::LaunchFuncOp>(op);
    if (!launch)
      continue;
    const auto &[name, ptx] = code->kernels[number++];
    CUmodule &module = loaded[name];
    if (!module)
      check(driver.cuModuleLoadData(&module, ptx.c_str()), "cuModuleLoadData");
    CUfunction kernel;
    check(driver.cuModuleGetFunction(&kernel, module, name.c_str()), "cuModuleGetFunction");
    unsigned shared = 0;
    if (Value size = launch.getDynamicSharedMemorySize())
      shared = constantOf(size);
    if (shared > 48 << 10)
      check(driver.cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                      int(shared)),
            "cuFuncSetAttribute");
    std::vector<CUdeviceptr> pointers;
    for (Value operand : launch.getKernelOperands())
      pointers.push_back(memory.at(operand));
    std::vector<void *> parameters;
    for (CUdeviceptr &pointer : pointers)
      parameters.push_back(&pointer);
    std::vector<CUtensorMap> maps;
    if (auto all = launch->getAttrOfType<ArrayAttr>("llama.tensor_maps"))
      for (auto map : all.getAsRange<DictionaryAttr>())
        maps.push_back(encode(driver, map, pointers[map.getAs<IntegerAttr>("argument").getInt()]));
    for (CUtensorMap &map : maps)
      parameters.push_back(&map);
    gpu::KernelDim3 grid = launch.getGridSizeOperandValues(),
                    block = launch.getBlockSizeOperandValues();
    check(driver.cuLaunchKernel(kernel, constantOf(grid.x), constantOf(grid.y), constantOf(grid.z),
                                constantOf(block.x), constantOf(block.y), constantOf(block.z),
                                shared, nullptr, parameters.data(), nullptr),
          "cuLaunchKernel");
  }
  check(driver.cuCtxSynchronize(), "cuCtxSynchronize");
  for (auto [argument, buffer] : llvm::zip_equal(function.getArguments(), arguments))
    if (buffer.written)
      check(driver.cuMemcpyDtoH_v2(buffer.data, memory.at(argument), buffer.bytes), "cuMemcpyDtoH");
  for (auto [value, at] : memory)
    check(driver.cuMemFree_v2(at), "cuMemFree");
  for (auto &[name, module] : loaded)
    check(driver.cuModuleUnload(module), "cuModuleUnload");
}
