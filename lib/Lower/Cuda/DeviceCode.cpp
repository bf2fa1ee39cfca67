//===- DeviceCode.cpp - All kernels of a program as one object ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/DeviceCode.h"

#include "lib/Lower/Cuda/CudaTarget.h"
#include "lib/Lower/Cuda/Ptx.h"
#include "lib/Lower/Host/HostTarget.h"
#include "llamac/Support/Locations.h"
#include "runtime/include/llrt/Program.h"

#include "llvm/IR/Constants.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
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

// The code of one kernel or of several equal ones.
struct Code {
  gpu::GPUModuleOp kernel;
  std::vector<std::string> ptx; ///< for each chip
  std::vector<Cubin> cubins;    ///< the same; empty bytes without ptxas
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

// The launches of all blocks, and each different code that they launch.
static LogicalResult collect(ModuleOp program, std::vector<Launch> &launches,
                             std::vector<Code> &codes) {
  llvm::StringMap<size_t> known;
  for (auto block : program.getOps<ModuleOp>()) {
    SymbolTable symbols(block);
    llvm::DenseMap<Operation *, size_t> codeOf;
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
        auto [entry, isNewText] = known.try_emplace(textOf(kernel), codes.size());
        place->second = entry->second;
        if (isNewText)
          codes.push_back({kernel, {}, {}});
      }
      launches.push_back({global, what, place->second});
    }
  }
  return success();
}

// Fills in PTX and cubins of `code`.
static LogicalResult compile(Code &code, ArrayRef<std::string> chips, const Ptxas *ptxas) {
  for (StringRef chip : chips) {
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

// Writes the files of all codes into `folder`, which is made if need be.
static LogicalResult writeFiles(Location loc, StringRef folder, ArrayRef<Code> codes,
                                ArrayRef<std::string> chips) {
  if (std::error_code error = llvm::sys::fs::create_directories(folder))
    return emitError(loc, "cannot make the folder ") << folder << ": " << error.message();
  auto write = [&](const Twine &name, StringRef bytes) -> LogicalResult {
    SmallString<128> path(folder);
    llvm::sys::path::append(path, name);
    if (llvm::Error error = llvm::writeToOutput(path, [&](llvm::raw_ostream &os) {
          os << bytes;
          return llvm::Error::success();
        }))
      return emitError(loc, "cannot write ") << path << ": " << llvm::toString(std::move(error));
    return success();
  };
  for (auto [number, code] : llvm::enumerate(codes)) {
    gpu::GPUModuleOp kernel = code.kernel;
    for (auto [chip, ptx, cubin] : llvm::zip_equal(chips, code.ptx, code.cubins)) {
      std::string name =
          (entryName(kernel.getName()) + "." + Twine(number) + "." + chip + ".").str();
      if (failed(write(name + "ptx", ptx)) ||
          (!cubin.bytes.empty() &&
           failed(write(name + "cubin", StringRef(cubin.bytes.data(), cubin.bytes.size())))))
        return failure();
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// The object
//===----------------------------------------------------------------------===//

namespace {
// Constants in the layout of llrt/Kernels.h and llrt/Program.h, member by member.
class TableWriter {
public:
  TableWriter(llvm::Module &module)
      : module(module), context(module.getContext()), pointer(llvm::PointerType::get(context, 0)),
        i64(llvm::Type::getInt64Ty(context)) {}

  void write(ArrayRef<Launch> launches, ArrayRef<Code> codes, ArrayRef<std::string> chips) {
    std::vector<llvm::Constant *> images, keys, kernels, names;
    for (const Code &code : codes) {
      SmallVector<llvm::Constant *> list;
      for (auto [chip, ptx, cubin] : llvm::zip_equal(chips, code.ptx, code.cubins))
        list.push_back(imageOf(chip, ptx, cubin));
      images.push_back(arrayOf(list));
      keys.push_back(number(llvm::xxh3_64bits(code.ptx.front())));
    }
    for (Launch launch : launches) {
      gpu::GPUModuleOp kernel = codes[launch.code].kernel;
      auto sizes = [&](StringRef name) {
        auto given = launch.what.getAs<DenseI64ArrayAttr>(name);
        SmallVector<int64_t> values =
            given ? llvm::to_vector(given.asArrayRef()) : SmallVector<int64_t>{1, 1, 1};
        return llvm::ConstantDataArray::get(context, values);
      };
      auto count = [&](StringRef name) {
        return number(launch.what.getAs<IntegerAttr>(name).getInt());
      };
      Location from = launch.global.getLoc();
      auto maps = launch.what.getAs<ArrayAttr>("maps");
      kernels.push_back(structOf<LlrtCudaKernel>(
          {string(entryName(kernel.getName())), string(locationText(from)), number(chips.size()),
           images[launch.code], sizes("grid"), sizes("block"), sizes("cluster"), count("shared"),
           count("buffers"), number(maps ? maps.size() : 0), mapsOf(maps), keys[launch.code]},
          launch.global.getSymName()));
    }
    for (StringRef chip : chips)
      names.push_back(string(chip));
    names.push_back(null());
    structOf<LlrtDeviceCode>({number(kernels.size()), arrayOf(kernels), arrayOf(names)},
                             kDeviceCodeSymbol);
  }

private:
  llvm::Module &module;
  llvm::LLVMContext &context;
  llvm::PointerType *pointer;
  llvm::Type *i64;
  llvm::StringMap<llvm::Constant *> strings;

  llvm::Constant *null() { return llvm::ConstantPointerNull::get(pointer); }
  llvm::Constant *number(uint64_t value) { return llvm::ConstantInt::get(i64, value); }

  // A global with `value`, of other modules too if it has a name.
  llvm::Constant *global(llvm::Constant *value, StringRef name = {}) {
    return new llvm::GlobalVariable(module, value->getType(), /*isConstant=*/true,
                                    name.empty() ? llvm::GlobalValue::PrivateLinkage
                                                 : llvm::GlobalValue::ExternalLinkage,
                                    value, name);
  }
  llvm::Constant *string(StringRef text) {
    llvm::Constant *&known = strings[text];
    if (!known)
      known = global(llvm::ConstantDataArray::getString(context, text));
    return known;
  }
  llvm::Constant *arrayOf(ArrayRef<llvm::Constant *> values) {
    llvm::Type *type = values.empty() ? pointer : values.front()->getType();
    return global(llvm::ConstantArray::get(llvm::ArrayType::get(type, values.size()), values));
  }
  // A constant T of its members; a global if it has a name.
  template <typename T>
  llvm::Constant *structOf(ArrayRef<llvm::Constant *> members, StringRef name = {}) {
    llvm::Constant *value = llvm::ConstantStruct::getAnon(context, members);
    assert(module.getDataLayout().getTypeAllocSize(value->getType()) == sizeof(T));
    return name.empty() ? value : global(value, name);
  }

  // An array of tensor maps; null if there are none.
  llvm::Constant *mapsOf(ArrayAttr maps) {
    if (!maps)
      return null();
    SmallVector<llvm::Constant *> list;
    for (auto map : maps.getAsRange<DictionaryAttr>()) {
      auto word = [&](StringRef name) { return number(map.getAs<IntegerAttr>(name).getInt()); };
      auto words = [&](StringRef name, size_t count) -> llvm::Constant * {
        auto values = llvm::to_vector(map.getAs<DenseI64ArrayAttr>(name).asArrayRef());
        values.resize(count);
        return llvm::ConstantDataArray::get(context, values);
      };
      Type type = map.getAs<TypeAttr>("type").getValue();
      int64_t element = type.isF32()    ? LLRT_F32
                        : type.isBF16() ? LLRT_BF16
                        : type.isF64()  ? LLRT_F64
                                        : LLRT_I64;
      list.push_back(structOf<LlrtTensorMap>(
          {word("argument"), number(element), number(map.getAs<DenseI64ArrayAttr>("sizes").size()),
           words("sizes", 5), words("strides", 4), words("box", 5), word("swizzle")}));
    }
    return arrayOf(list);
  }

  llvm::Constant *imageOf(StringRef chip, StringRef ptx, const Cubin &cubin) {
    llvm::Constant *bytes = null();
    if (!cubin.bytes.empty())
      bytes = global(
          llvm::ConstantDataArray::getRaw(StringRef(cubin.bytes.data(), cubin.bytes.size()),
                                          cubin.bytes.size(), llvm::Type::getInt8Ty(context)));
    return structOf<LlrtImage>(
        {string(chip), string(ptx), number(ptx.size() + 1), bytes, number(cubin.bytes.size())});
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
  if (failed(collect(program, launches, codes)))
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
        codes[i].failed = failed(compile(codes[i], chips, *ptxas));
        diagnostics.eraseOrderIDForThread();
      });
    pool.wait();
  }
  if (llvm::any_of(codes, [](const Code &code) { return code.failed; }))
    return failure();
  if (!folder.empty() && failed(writeFiles(program.getLoc(), folder, codes, chips)))
    return failure();

  return compileData(program.getLoc(), cpu, "llrt_device", [&](llvm::Module &module) {
    TableWriter(module).write(launches, codes, chips);
  });
}
