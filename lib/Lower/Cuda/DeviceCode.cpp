//===- DeviceCode.cpp - All kernels of a program as one object ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What is equal is compiled once:
//
//   launch (a global with kLaunchAttr)  ->  kernel  ->  its text without names and places  ->  Code
//   Code                                ->  PTX of each chip (writePtx)  ->  cubin (ptxas)
//   table                               LlrtDeviceCode { LlrtCudaKernel of each launch
//                                         { images of its code: one LlrtImage for each chip }}
//
// Codes are compiled in parallel. The table is written by RuntimeTable, its strings are shared.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/DeviceCode.h"

#include "dialects/Routine/IR/Routine.h"
#include "lib/Lower/Cuda/CudaTarget.h"
#include "lib/Lower/Cuda/Ptx.h"
#include "lib/Lower/Host/HostTarget.h"
#include "llamac/Lower/RuntimeTable.h"
#include "llamac/Support/Locations.h"
#include "llamac/Support/WriteFile.h"
#include "runtime/include/llrt/Program.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/ThreadPool.h"
#include "llvm/Support/xxhash.h"

using namespace mlir;
using namespace mlir::llamac;

namespace {
// One launch of a block.
struct Launch {
  LLVM::GlobalOp global; ///< its symbol is the launch's
  DictionaryAttr what;   ///< kLaunchAttr
  size_t code;           ///< of its kernel
};

// What a call of a block puts into its stream.
struct BlockLaunches {
  LLVM::LLVMFuncOp function;
  std::vector<size_t> launches; ///< numbers of them, in order
  uint64_t products = 0;
};

// The code of one kernel or of several equal ones.
struct Code {
  gpu::GPUModuleOp kernel;
  std::vector<std::string> chips; ///< that it is for
  std::vector<std::string> ptx;   ///< for each chip
  std::vector<Cubin> cubins;      ///< the same; empty bytes without ptxas
  bool failed = false;
};
} // namespace

// The text of a kernel, symbols by number and without locations: equal texts are equal code.
static std::string textOf(gpu::GPUModuleOp kernel) {
  OwningOpRef<gpu::GPUModuleOp> copy = kernel.clone();
  unsigned number = 0;
  for (Operation &symbol : copy->getBodyRegion().getOps()) {
    if (!isa<SymbolOpInterface>(symbol))
      continue;
    std::string name = "symbol" + std::to_string(number++);
    (void)SymbolTable::replaceAllSymbolUses(&symbol, StringAttr::get(kernel.getContext(), name),
                                            *copy);
    SymbolTable::setSymbolName(&symbol, name);
  }
  copy->setName("kernel");
  std::string text;
  llvm::raw_string_ostream stream(text);
  copy->print(stream);
  return text;
}

// How often a call is done: as often as the loop that is its block, by the constant at its end.
static int64_t timesOf(LLVM::CallOp call) {
  auto branch = dyn_cast<LLVM::CondBrOp>(call->getBlock()->getTerminator());
  auto more = branch ? branch.getCondition().getDefiningOp<LLVM::ICmpOp>() : LLVM::ICmpOp();
  std::optional<int64_t> count = more ? getConstantIntValue(more.getRhs()) : std::nullopt;
  return count.value_or(1);
}

// Adds what `function` puts into its stream, and what it calls of the block (in chunks).
static void addLaunches(LLVM::LLVMFuncOp function, const llvm::StringMap<size_t> &numberOf,
                        BlockLaunches &of) {
  auto module = function->getParentOfType<ModuleOp>();
  function.walk([&](LLVM::CallOp call) {
    StringRef callee = call.getCallee().value_or("");
    of.products += callee == "llrt_gemm";
    if (callee == "llrt_launch") {
      if (auto kernel = call.getOperand(1).getDefiningOp<LLVM::AddressOfOp>())
        of.launches.push_back(numberOf.lookup(kernel.getGlobalName()));
    } else if (auto own = module.lookupSymbol<LLVM::LLVMFuncOp>(callee); own && !own.isExternal()) {
      for (int64_t time = timesOf(call); time > 0; --time)
        addLaunches(own, numberOf, of);
    }
  });
}

// The launches of all blocks, and each different code that they launch. A launch is for all of `chips` unless it
// states its own.
static LogicalResult collect(ModuleOp program, ArrayRef<std::string> chips,
                             std::vector<Launch> &launches, std::vector<Code> &codes,
                             std::vector<BlockLaunches> &blocks) {
  llvm::StringMap<size_t> known;
  for (auto block : program.getOps<ModuleOp>()) {
    SymbolTable symbols(block);
    llvm::DenseMap<Operation *, size_t> codeOf;
    llvm::StringMap<size_t> numberOf;
    for (auto global : block.getOps<LLVM::GlobalOp>()) {
      auto what = global->getAttrOfType<DictionaryAttr>(kLaunchAttr);
      if (!what)
        continue;
      auto kernel =
          symbols.lookup<gpu::GPUModuleOp>(what.getAs<SymbolRefAttr>("kernel").getRootReference());
      if (!kernel)
        return global.emitOpError("launches a kernel that is not there");
      auto [place, isNew] = codeOf.try_emplace(kernel, 0);
      if (isNew) {
        std::vector<std::string> own = chips;
        if (auto stated = what.getAs<ArrayAttr>("chips")) {
          own.clear();
          for (StringRef chip : stated.getAsValueRange<StringAttr>())
            own.push_back(chip.str());
        }
        auto [entry, isNewText] =
            known.try_emplace(llvm::join(own, ",") + textOf(kernel), codes.size());
        place->second = entry->second;
        if (isNewText)
          codes.push_back({kernel, std::move(own), {}, {}});
      }
      numberOf[global.getSymName()] = launches.size();
      launches.push_back({global, what, place->second});
    }
    for (auto function : block.getOps<LLVM::LLVMFuncOp>())
      if (!function.isExternal() && function.getLinkage() != LLVM::Linkage::Internal) {
        blocks.push_back({function, {}, 0});
        addLaunches(function, numberOf, blocks.back());
      }
  }
  return success();
}

// Fills in PTX and cubins of `code`.
static LogicalResult compile(Code &code, const Ptxas *ptxas) {
  for (StringRef chip : code.chips) {
    FailureOr<std::string> ptx = writePtx(code.kernel, chip);
    if (failed(ptx))
      return failure();
    Cubin cubin;
    if (ptxas) {
      llvm::Expected<Cubin> made = ptxas->assemble(*ptx, chip);
      if (!made)
        return code.kernel.emitError("kernel ") << code.kernel.getName() << " for " << chip << ": "
                                                << llvm::toString(made.takeError());
      cubin = std::move(*made);
      if (!cubin.warning.empty())
        code.kernel.emitWarning("kernel ")
            << code.kernel.getName() << " for " << chip << ": " << cubin.warning;
    }
    code.ptx.push_back(std::move(*ptx));
    code.cubins.push_back(std::move(cubin));
  }
  return success();
}

// Writes the files of all codes into `folder`, which is made if need be, and what launches them.
static LogicalResult writeFiles(Location loc, StringRef folder, ArrayRef<Launch> launches,
                                ArrayRef<Code> codes) {
  if (std::error_code error = llvm::sys::fs::create_directories(folder))
    return emitError(loc, "cannot make the folder ") << folder << ": " << error.message();
  auto write = [&](const Twine &name, StringRef bytes) -> LogicalResult {
    SmallString<128> path(folder);
    llvm::sys::path::append(path, name);
    if (llvm::Error error = writeFile(path, bytes))
      return emitError(loc) << llvm::toString(std::move(error));
    return success();
  };
  auto stemOf = [&](size_t number) {
    gpu::GPUModuleOp kernel = codes[number].kernel;
    return (entryName(kernel.getName()) + "." + Twine(number)).str();
  };
  for (auto [number, code] : llvm::enumerate(codes))
    for (auto [chip, ptx, cubin] : llvm::zip_equal(code.chips, code.ptx, code.cubins)) {
      std::string name = stemOf(number) + "." + chip + ".";
      if (failed(write(name + "ptx", ptx)) ||
          (!cubin.bytes.empty() &&
           failed(write(name + "cubin", StringRef(cubin.bytes.data(), cubin.bytes.size())))))
        return failure();
    }
  std::string lines;
  llvm::raw_string_ostream stream(lines);
  for (Launch launch : launches) {
    auto sizes = [&](StringRef name) {
      return llvm::json::Array(launch.what.getAs<DenseI64ArrayAttr>(name).asArrayRef());
    };
    stream << llvm::json::Value(llvm::json::Object{{"launch", launch.global.getSymName()},
                                                   {"code", stemOf(launch.code)},
                                                   {"grid", sizes("grid")},
                                                   {"block", sizes("block")}})
           << "\n";
  }
  return write("launches.jsonl", lines);
}

//===----------------------------------------------------------------------===//
// The object
//===----------------------------------------------------------------------===//

// The table of all kernels, with its images and tensor maps.
namespace {
class DeviceTable {
public:
  explicit DeviceTable(llvm::Module &module) : module(module), table(module) {}

  void write(ArrayRef<Launch> launches, ArrayRef<Code> codes, ArrayRef<BlockLaunches> blocks,
             ArrayRef<std::string> chips) {
    std::vector<llvm::Constant *> images, kernels, names, works;
    for (const Code &code : codes) {
      SmallVector<llvm::Constant *> list;
      for (auto [chip, ptx, cubin] : llvm::zip_equal(code.chips, code.ptx, code.cubins))
        list.push_back(imageOf(chip, ptx, cubin));
      images.push_back(table.array(list));
    }
    for (Launch launch : launches)
      kernels.push_back(kernelOf(launch, codes[launch.code], images[launch.code]));
    for (StringRef chip : chips)
      names.push_back(table.string(chip));
    names.push_back(table.null());
    for (const BlockLaunches &of : blocks)
      works.push_back(workOf(of, kernels));
    table.define(kDeviceCodeSymbol,
                 table.structure<LlrtDeviceCode>(
                     {{&LlrtDeviceCode::kernel_count, table.number(kernels.size())},
                      {&LlrtDeviceCode::kernels, table.array(kernels)},
                      {&LlrtDeviceCode::chips, table.array(names)},
                      {&LlrtDeviceCode::block_count, table.number(works.size())},
                      {&LlrtDeviceCode::blocks, table.array(works)}}));
  }

private:
  llvm::Module &module;
  RuntimeTable table;

  llvm::Constant *workOf(const BlockLaunches &of, ArrayRef<llvm::Constant *> kernels) {
    LLVM::LLVMFuncOp function = of.function;
    llvm::Type *pointer = table.null()->getType();
    auto *type = llvm::FunctionType::get(llvm::Type::getVoidTy(module.getContext()),
                                         {pointer, pointer}, false);
    auto *block =
        cast<llvm::Constant>(module.getOrInsertFunction(function.getSymName(), type).getCallee());
    auto launches =
        llvm::map_to_vector(of.launches, [&](size_t number) { return kernels[number]; });
    using W = LlrtBlockWork;
    return table.structure<W>({{&W::block, block},
                               {&W::launch_count, table.number(launches.size())},
                               {&W::launches, table.array(launches)},
                               {&W::product_count, table.number(of.products)}});
  }

  // The kernel of a launch; its symbol is the launch's.
  llvm::Constant *kernelOf(Launch launch, const Code &code, llvm::Constant *images) {
    gpu::GPUModuleOp kernel = code.kernel;
    auto sizes = [&](StringRef name) {
      auto given = launch.what.getAs<DenseI64ArrayAttr>(name);
      return table.numbers(given ? given.asArrayRef() : ArrayRef<int64_t>{1, 1, 1});
    };
    auto word = [&](StringRef name) {
      return table.number(launch.what.getAs<IntegerAttr>(name).getInt());
    };
    auto maps = launch.what.getAs<ArrayAttr>("maps");
    auto attention = launch.what.getAs<StringAttr>("attention");
    using K = LlrtCudaKernel;
    llvm::Constant *value =
        table.structure<K>({{&K::name, table.string(entryName(kernel.getName()))},
                            {&K::location, table.string(locationText(launch.global.getLoc()))},
                            {&K::attention, attention ? table.string(attention) : table.null()},
                            {&K::image_count, table.number(code.chips.size())},
                            {&K::images, images},
                            {&K::grid, sizes("grid")},
                            {&K::block, sizes("block")},
                            {&K::cluster, sizes("cluster")},
                            {&K::shared, word("shared")},
                            {&K::buffers, word("buffers")},
                            {&K::map_count, table.number(maps ? maps.size() : 0)},
                            {&K::maps, mapsOf(maps)},
                            {&K::key, table.number(llvm::xxh3_64bits(llvm::join(code.ptx, "")))}});
    return table.define(launch.global.getSymName(), value);
  }

  // An array of tensor maps; null if there are none.
  llvm::Constant *mapsOf(ArrayAttr maps) {
    if (!maps)
      return table.null();
    SmallVector<llvm::Constant *> list;
    for (auto map : maps.getAsRange<DictionaryAttr>()) {
      auto word = [&](StringRef name) {
        return table.number(map.getAs<IntegerAttr>(name).getInt());
      };
      auto words = [&](StringRef name, size_t count) {
        auto values = llvm::to_vector(map.getAs<DenseI64ArrayAttr>(name).asArrayRef());
        values.resize(count);
        return table.numbers(values);
      };
      using M = LlrtTensorMap;
      list.push_back(table.structure<M>(
          {{&M::argument, word("argument")},
           {&M::type, table.number(routine::runtimeType(map.getAs<TypeAttr>("type").getValue()))},
           {&M::rank, table.number(map.getAs<DenseI64ArrayAttr>("sizes").size())},
           {&M::sizes, words("sizes", std::extent_v<decltype(M::sizes)>)},
           {&M::strides, words("strides", std::extent_v<decltype(M::strides)>)},
           {&M::box, words("box", std::extent_v<decltype(M::box)>)},
           {&M::swizzle, word("swizzle")}}));
    }
    return table.array(list);
  }

  llvm::Constant *imageOf(StringRef chip, StringRef ptx, const Cubin &cubin) {
    using I = LlrtImage;
    return table.structure<I>(
        {{&I::chip, table.string(chip)},
         {&I::ptx, table.string(ptx)},
         {&I::ptx_bytes, table.number(ptx.size() + 1)},
         {&I::cubin, table.bytes(StringRef(cubin.bytes.data(), cubin.bytes.size()))},
         {&I::cubin_bytes, table.number(cubin.bytes.size())},
         {&I::registers, table.number(cubin.resources.registers)},
         {&I::shared, table.number(cubin.resources.shared)},
         {&I::stack, table.number(cubin.resources.stack)},
         {&I::spills, table.number(cubin.resources.spills)}});
  }
};
} // namespace

FailureOr<ObjectFile> llamac::compileKernels(ModuleOp program, ArrayRef<std::string> chips,
                                             const CpuTarget &cpu, unsigned threads,
                                             StringRef folder) {
  llvm::Expected<const Ptxas *> ptxas = Ptxas::find();
  if (!ptxas)
    return emitError(program.getLoc(), llvm::toString(ptxas.takeError()));
  std::vector<Launch> launches;
  std::vector<Code> codes;
  std::vector<BlockLaunches> blocks;
  if (failed(collect(program, chips, launches, codes, blocks)))
    return failure();
  if (!*ptxas)
    emitRemark(program.getLoc(), "no ptxas: the executable has PTX only, which the driver compiles "
                                 "when it starts; LLAMAC_PTXAS names one");
  {
    ParallelDiagnosticHandler diagnostics(program.getContext()); // in order of the kernels
    llvm::DefaultThreadPool pool(llvm::hardware_concurrency(threads));
    for (size_t i = 0; i < codes.size(); ++i)
      pool.async([&, i] {
        diagnostics.setOrderIDForThread(i);
        codes[i].failed = failed(compile(codes[i], *ptxas));
        diagnostics.eraseOrderIDForThread();
      });
    pool.wait();
  }
  if (llvm::any_of(codes, [](const Code &code) { return code.failed; }))
    return failure();
  if (!folder.empty() && failed(writeFiles(program.getLoc(), folder, launches, codes)))
    return failure();

  return compileData(program.getLoc(), cpu, "llrt_device", [&](llvm::Module &module) {
    DeviceTable(module).write(launches, codes, blocks, chips);
  });
}
