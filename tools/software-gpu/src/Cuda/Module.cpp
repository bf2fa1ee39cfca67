//===- Module.cpp - Modules, libraries, functions, launches -----------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"
#include "Machine/Async/TensorMap.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace sgpu::abi;

//===----------------------------------------------------------------------===//
// Images
//===----------------------------------------------------------------------===//

namespace {
/// The log buffers that the caller gave.
struct JitLog {
  struct Buffer {
    char *text = nullptr;
    void **size = nullptr; ///< the value of the option: room in, bytes written out
  } info, error;

  JitLog(unsigned count, CUjit_option *options, void **values) {
    require(!count || (options && values));
    for (unsigned i = 0; i < count; ++i)
      switch (options[i]) {
      case CU_JIT_INFO_LOG_BUFFER:
        info.text = static_cast<char *>(values[i]);
        break;
      case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
        info.size = &values[i];
        break;
      case CU_JIT_ERROR_LOG_BUFFER:
        error.text = static_cast<char *>(values[i]);
        break;
      case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
        error.size = &values[i];
        break;
      default:
        require(options[i] >= 0 && options[i] <= CU_JIT_SPLIT_COMPILE);
      }
  }
  static void write(Buffer &b, const std::string &text) {
    if (!b.text || !b.size)
      return;
    size_t room = reinterpret_cast<size_t>(*b.size) & 0xffffffff;
    size_t bytes = room ? std::min(room - 1, text.size()) : 0;
    std::memcpy(b.text, text.data(), bytes);
    if (room)
      b.text[bytes] = 0;
    *b.size = reinterpret_cast<void *>(bytes ? bytes + 1 : 0);
  }
  void finish(const std::string &message) {
    write(info, "");
    write(error, message);
    if (!message.empty() && !(error.text && error.size))
      std::fprintf(stderr, "software-gpu: %s\n", message.c_str());
  }
};

/// Says why in the log, then fails.
[[noreturn]] void refuse(JitLog &log, CUresult code, const std::string &message) {
  log.finish(message);
  fail(code);
}

template <typename T> T read(const uint8_t *from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

constexpr uint32_t elfMagic = 0x464c457f, wrapperMagic = 0x466243b1, fatbinMagic = 0xba55ed50;

/// Major and minor version of the latest PTX that the driver of a version of CUDA compiles ("PTX ISA",
/// "Release History"); of the last one what the parser knows.
std::pair<unsigned, unsigned> newestPtx(int driver) {
  static constexpr unsigned char minors[] = {0, 1, 2, 3, 4, 5, 5, 6, 7, 8}; // of 12.0 to 12.9
  return driver >= 13000 ? std::pair(9u, 9u) : std::pair(8u, unsigned(minors[driver % 1000 / 10]));
}

/// The PTX of a fat binary that fits the chip best. Layout: header of 16 bytes (magic, version,
/// header bytes, bytes of all entries), then entries: kind (1: PTX), header bytes, payload bytes,
/// architecture at 28, flags at 40.
std::string ptxOfFatbin(const uint8_t *image, int capability, JitLog &log,
                        const std::string &call) {
  const uint8_t *entry = image + read<uint16_t>(image + 6),
                *end = entry + read<uint64_t>(image + 8);
  std::string best;
  uint32_t bestArchitecture = 0;
  bool compressed = false;
  while (entry + 48 <= end) {
    uint16_t kind = read<uint16_t>(entry);
    uint32_t header = read<uint32_t>(entry + 4);
    uint64_t bytes = read<uint64_t>(entry + 8);
    uint32_t architecture = read<uint32_t>(entry + 28);
    uint64_t flags = read<uint64_t>(entry + 40);
    if (header < 48 || bytes > uint64_t(end - entry) || header > uint64_t(end - entry) - bytes)
      refuse(log, CUDA_ERROR_INVALID_IMAGE,
             call + ": an entry of the fat binary goes beyond its end");
    if (kind == 1 && architecture <= uint32_t(capability) && architecture >= bestArchitecture) {
      if (flags & 0xb000) {
        compressed = true;
      } else {
        const char *text = reinterpret_cast<const char *>(entry + header);
        best.assign(text, strnlen(text, bytes));
        bestArchitecture = architecture;
      }
    }
    entry += header + bytes;
  }
  if (best.empty())
    refuse(log, CUDA_ERROR_NO_BINARY_FOR_GPU,
           call + ": the fat binary has no " + (compressed ? "uncompressed " : "") + "PTX for sm_" +
               std::to_string(capability) +
               (compressed ? "; build it with nvcc --no-compress"
                           : "; build it with -gencode arch=compute_" + std::to_string(capability) +
                                 ",code=compute_" + std::to_string(capability)));
  return best;
}

/// The PTX text of an image.
std::string textOf(const void *image, int capability, int driver, JitLog &log,
                   const std::string &call) {
  require(image);
  const auto *bytes = static_cast<const uint8_t *>(image);
  // Text may be shorter than a magic number: it ends with a zero.
  if (bytes[0] == (elfMagic & 0xff) && std::memcmp(bytes,
                                                   "\x7f"
                                                   "ELF",
                                                   4) == 0)
    refuse(log, driver < 13000 ? CUDA_ERROR_INVALID_IMAGE : CUDA_ERROR_NO_BINARY_FOR_GPU,
           call + ": the image is a cubin (machine code); the software GPU runs PTX");
  if (bytes[0] == (wrapperMagic & 0xff) && bytes[1] == 0x43 &&
      read<uint32_t>(bytes) == wrapperMagic) {
    bytes = reinterpret_cast<const uint8_t *>(read<uint64_t>(bytes + 8));
    require(bytes, CUDA_ERROR_INVALID_IMAGE);
  }
  if (bytes[0] == (fatbinMagic & 0xff) && bytes[1] == 0xed && read<uint32_t>(bytes) == fatbinMagic)
    return ptxOfFatbin(bytes, capability, log, call);
  std::string text = reinterpret_cast<const char *>(bytes);
  if (text.find(".version") == text.npos)
    refuse(log, CUDA_ERROR_INVALID_IMAGE,
           call + ": the image is neither PTX (there is no .version), nor a fat binary or cubin");
  return text;
}

CUmodule makeModule(CUcontext context, const std::string &text, const std::string &name,
                    JitLog &log) {
  Driver &driver = Driver::get();
  auto m = std::make_unique<CUmod_st>();
  m->context = context;
  m->name = name;
  m->text = std::make_shared<std::string>(driver.options.record.empty() ? "" : text);
  unsigned major = 0, minor = 0;
  std::sscanf(text.c_str() + std::min(text.find(".version"), text.size()), ".version %u.%u", &major,
              &minor);
  if (std::pair(major, minor) > newestPtx(driver.options.driver))
    refuse(log, CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
           "PTX .version " + std::to_string(major) + "." + std::to_string(minor) +
               " is later than the driver's, which is for CUDA " +
               std::to_string(driver.options.driver / 1000) + "." +
               std::to_string(driver.options.driver % 1000 / 10));
  try {
    m->module = sgpu::Module::load(text, name, *context->device->chip, *context->device->memory,
                                   driver.options, driver.reporter);
    for (const std::string &kernel : m->module->kernels())
      m->module->kernel(kernel); // an instruction that cannot be decoded is an error of the load
  } catch (const Error &e) {
    refuse(log, CUDA_ERROR_INVALID_PTX, e.what());
  }
  return state().modules.add(std::move(m));
}

std::string nextName() {
  static unsigned count = 0;
  return "module " + std::to_string(++count);
}
} // namespace

static CUmodule findModule(CUmodule module) {
  require(module && state().modules.contains(module), CUDA_ERROR_INVALID_HANDLE);
  return module;
}

static CUresult loadModule(CUmodule *module, const void *image, unsigned count,
                           CUjit_option *options, void **values, const char *name) {
  return call([&](Driver &driver, Lock &) {
    CUcontext c = current();
    require(module);
    *module = nullptr;
    JitLog log(count, options, values);
    std::string text = textOf(image, c->device->chip->capability, driver.options.driver, log, name);
    *module = makeModule(c, text, nextName(), log);
    log.finish("");
  });
}

CUresult abi::cuModuleLoadData(CUmodule *module, const void *image) {
  return loadModule(module, image, 0, nullptr, nullptr, "cuModuleLoadData");
}

CUresult abi::cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions,
                                 CUjit_option *options, void **optionValues) {
  return loadModule(module, image, numOptions, options, optionValues, "cuModuleLoadDataEx");
}

CUresult abi::cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin) {
  return loadModule(module, fatCubin, 0, nullptr, nullptr, "cuModuleLoadFatBinary");
}

static std::string readFile(const char *name) {
  std::ifstream file(name, std::ios::binary);
  require(bool(file), CUDA_ERROR_FILE_NOT_FOUND);
  std::string image((std::istreambuf_iterator<char>(file)), {});
  image.append(64, '\0');
  return image;
}

CUresult abi::cuModuleLoad(CUmodule *module, const char *fname) {
  return call([&](Driver &driver, Lock &) {
    CUcontext c = current();
    require(module && fname);
    std::string image = readFile(fname);
    JitLog log(0, nullptr, nullptr);
    std::string text = textOf(image.data(), c->device->chip->capability, driver.options.driver, log,
                              "cuModuleLoad");
    *module = makeModule(c, text, fname, log);
  });
}

void sgpu::cuda::destroyModule(CUmodule module) {
  for (const auto &[name, function] : module->functions)
    state().functions.remove(function);
  state().modules.remove(module);
}

// Waits for launches that are not done, which may use its variables.
CUresult abi::cuModuleUnload(CUmodule hmod) {
  return call([&](Driver &driver, Lock &lock) {
    CUmodule m = findModule(hmod);
    require(!m->library, CUDA_ERROR_INVALID_HANDLE);
    driver.waitAll(lock, m->context);
    destroyModule(m);
  });
}

CUresult abi::cuModuleGetLoadingMode(CUmoduleLoadingMode *mode) {
  if (!mode)
    return CUDA_ERROR_INVALID_VALUE;
  *mode = CU_MODULE_EAGER_LOADING;
  return CUDA_SUCCESS;
}

static CUfunction functionOf(CUmodule module, const std::string &name) {
  if (auto it = module->functions.find(name); it != module->functions.end())
    return it->second;
  const KernelInfo *info = module->module->kernel(name);
  require(info, CUDA_ERROR_NOT_FOUND);
  auto f = std::make_unique<CUfunc_st>();
  f->module = module;
  f->name = name;
  f->info = info;
  return module->functions[name] = state().functions.add(std::move(f));
}

CUresult abi::cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name) {
  return call([&](Driver &, Lock &) {
    CUmodule m = findModule(hmod);
    require(hfunc && name);
    *hfunc = functionOf(m, name);
  });
}

CUresult abi::cuModuleGetFunctionCount(unsigned int *count, CUmodule mod) {
  return call([&](Driver &, Lock &) {
    require(count);
    *count = unsigned(findModule(mod)->module->kernels().size());
  });
}

CUresult abi::cuModuleEnumerateFunctions(CUfunction *functions, unsigned int numFunctions,
                                         CUmodule mod) {
  return call([&](Driver &, Lock &) {
    CUmodule m = findModule(mod);
    require(functions || !numFunctions);
    std::vector<std::string> names = m->module->kernels();
    for (unsigned i = 0; i < std::min(numFunctions, unsigned(names.size())); ++i)
      functions[i] = functionOf(m, names[i]);
  });
}

static void globalOf(CUdeviceptr *dptr, size_t *bytes, CUmodule module, const char *name) {
  require(name);
  const sgpu::Module::Variable *v = module->module->variable(name);
  require(v, CUDA_ERROR_NOT_FOUND);
  if (dptr)
    *dptr = v->address;
  if (bytes)
    *bytes = v->bytes;
}

CUresult abi::cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod,
                                   const char *name) {
  return call([&](Driver &, Lock &) { globalOf(dptr, bytes, findModule(hmod), name); });
}

//===----------------------------------------------------------------------===//
// Libraries
//===----------------------------------------------------------------------===//

static CUlibrary findLibrary(CUlibrary library) {
  require(library && state().libraries.contains(library), CUDA_ERROR_INVALID_HANDLE);
  return library;
}

/// The module of a library in a context; loaded when first asked for.
static CUmodule moduleOf(CUlibrary library, CUcontext context) {
  CUmodule &m = library->modules[context];
  if (!m || !state().modules.contains(m)) {
    JitLog log(0, nullptr, nullptr);
    m = makeModule(context, library->text, library->name, log);
    m->library = library;
  }
  return m;
}

// The text is parsed and decoded at once, on every device, so that its errors show here.
CUresult abi::cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions,
                                void **jitOptionsValues, unsigned int numJitOptions,
                                CUlibraryOption *libraryOptions, void **libraryOptionValues,
                                unsigned int numLibraryOptions) {
  return call([&](Driver &driver, Lock &) {
    require(library && (!numLibraryOptions || (libraryOptions && libraryOptionValues)));
    *library = nullptr;
    JitLog log(numJitOptions, jitOptions, jitOptionsValues);
    auto l = std::make_unique<CUlib_st>();
    Device &d = *driver.devices.front();
    l->text = textOf(code, d.chip->capability, driver.options.driver, log, "cuLibraryLoadData");
    l->name = nextName();
    CUctx_st probe;
    probe.device = &d;
    state().modules.remove(makeModule(&probe, l->text, l->name, log));
    log.finish("");
    *library = state().libraries.add(std::move(l));
  });
}

CUresult abi::cuLibraryLoadFromFile(CUlibrary *library, const char *fileName,
                                    CUjit_option *jitOptions, void **jitOptionsValues,
                                    unsigned int numJitOptions, CUlibraryOption *libraryOptions,
                                    void **libraryOptionValues, unsigned int numLibraryOptions) {
  std::string image;
  CUresult result = call([&](Driver &, Lock &) {
    require(fileName);
    image = readFile(fileName);
  });
  return result != CUDA_SUCCESS
             ? result
             : cuLibraryLoadData(library, image.data(), jitOptions, jitOptionsValues, numJitOptions,
                                 libraryOptions, libraryOptionValues, numLibraryOptions);
}

CUresult abi::cuLibraryUnload(CUlibrary library) {
  return call([&](Driver &driver, Lock &lock) {
    CUlibrary l = findLibrary(library);
    driver.waitAll(lock, nullptr);
    for (const auto &[context, module] : l->modules)
      if (state().modules.contains(module))
        destroyModule(module);
    for (const auto &[name, kernel] : l->kernels)
      state().kernels.remove(kernel);
    state().libraries.remove(l);
  });
}

static std::vector<std::string> kernelsOf(CUlibrary library) {
  return moduleOf(library, current())->module->kernels();
}

static CUkernel kernelOf(CUlibrary library, const std::string &name) {
  CUkernel &kernel = library->kernels[name];
  if (!kernel) {
    auto k = std::make_unique<CUkern_st>();
    k->library = library;
    k->name = name;
    kernel = state().kernels.add(std::move(k));
  }
  return kernel;
}

CUresult abi::cuLibraryGetKernel(CUkernel *pKernel, CUlibrary library, const char *name) {
  return call([&](Driver &, Lock &) {
    CUlibrary l = findLibrary(library);
    require(pKernel && name);
    std::vector<std::string> names = kernelsOf(l);
    require(std::find(names.begin(), names.end(), name) != names.end(), CUDA_ERROR_NOT_FOUND);
    *pKernel = kernelOf(l, name);
  });
}

CUresult abi::cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int numKernels, CUlibrary lib) {
  return call([&](Driver &, Lock &) {
    CUlibrary l = findLibrary(lib);
    require(kernels || !numKernels);
    std::vector<std::string> names = kernelsOf(l);
    for (unsigned i = 0; i < std::min(numKernels, unsigned(names.size())); ++i)
      kernels[i] = kernelOf(l, names[i]);
  });
}

CUresult abi::cuLibraryGetKernelCount(unsigned int *count, CUlibrary lib) {
  return call([&](Driver &, Lock &) {
    require(count);
    *count = unsigned(kernelsOf(findLibrary(lib)).size());
  });
}

CUresult abi::cuLibraryGetModule(CUmodule *pMod, CUlibrary library) {
  return call([&](Driver &, Lock &) {
    require(pMod);
    *pMod = moduleOf(findLibrary(library), current());
  });
}

CUresult abi::cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library,
                                 const char *name) {
  return call([&](Driver &, Lock &) {
    globalOf(dptr, bytes, moduleOf(findLibrary(library), current()), name);
  });
}

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

static CUkernel findKernel(CUkernel kernel) {
  require(kernel && state().kernels.contains(kernel), CUDA_ERROR_INVALID_HANDLE);
  return kernel;
}

static CUfunction functionOf(CUkernel kernel, CUcontext context) {
  CUfunction f = functionOf(moduleOf(kernel->library, context), kernel->name);
  auto it = kernel->maxDynamicShared.find(context->device->ordinal);
  if (it != kernel->maxDynamicShared.end() && !f->maxDynamicShared)
    f->maxDynamicShared = it->second;
  return f;
}

CUfunction sgpu::cuda::findFunction(CUfunction handle) {
  require(handle, CUDA_ERROR_INVALID_HANDLE);
  if (state().functions.contains(handle))
    return handle;
  return functionOf(findKernel(reinterpret_cast<CUkernel>(handle)), current());
}

CUresult abi::cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel) {
  return call([&](Driver &, Lock &) {
    require(pFunc);
    *pFunc = functionOf(findKernel(kernel), current());
  });
}

CUresult abi::cuKernelGetLibrary(CUlibrary *pLib, CUkernel kernel) {
  return call([&](Driver &, Lock &) {
    require(pLib);
    *pLib = findKernel(kernel)->library;
  });
}

CUresult abi::cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    findKernel(kernel);
    require(dev >= 0 && dev < int(driver.devices.size()), CUDA_ERROR_INVALID_DEVICE);
    require(config >= 0 && config <= CU_FUNC_CACHE_PREFER_EQUAL);
  });
}

CUresult abi::cuKernelGetName(const char **name, CUkernel hfunc) {
  return call([&](Driver &, Lock &) {
    require(name);
    *name = findKernel(hfunc)->name.c_str();
  });
}

CUresult abi::cuFuncGetName(const char **name, CUfunction hfunc) {
  return call([&](Driver &, Lock &) {
    require(name);
    *name = findFunction(hfunc)->name.c_str();
  });
}

CUresult abi::cuFuncGetModule(CUmodule *hmod, CUfunction hfunc) {
  return call([&](Driver &, Lock &) {
    require(hmod);
    *hmod = findFunction(hfunc)->module;
  });
}

static void parameterOf(CUfunction f, size_t index, size_t *offset, size_t *size) {
  require(offset && index < f->info->paramOffsets.size());
  *offset = f->info->paramOffsets[index];
  if (size)
    *size = f->info->paramSizes[index];
}

CUresult abi::cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t *paramOffset,
                                 size_t *paramSize) {
  return call([&](Driver &, Lock &) {
    parameterOf(findFunction(func), paramIndex, paramOffset, paramSize);
  });
}

CUresult abi::cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t *paramOffset,
                                   size_t *paramSize) {
  return call([&](Driver &, Lock &) {
    parameterOf(functionOf(findKernel(kernel), current()), paramIndex, paramOffset, paramSize);
  });
}

static const Chip &chipOf(CUfunction f) { return *f->module->context->device->chip; }

/// Dynamic shared memory that a launch may ask for.
static uint32_t dynamicLimit(CUfunction f) {
  if (f->maxDynamicShared)
    return f->maxDynamicShared;
  uint32_t most = chipOf(f).sharedPerBlock;
  return most > f->info->staticShared ? most - f->info->staticShared : 0;
}

static int attributeOf(CUfunction f, CUfunction_attribute attribute) {
  const KernelInfo &k = *f->info;
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: {
    uint32_t perThread = (k.registers + 7) / 8 * 8;
    uint32_t fits = perThread ? chipOf(f).registersPerSm / perThread / 32 * 32 : 1024;
    return int(std::min({k.maxThreads, chipOf(f).threadsPerBlock, fits}));
  }
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    return int(k.staticShared);
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    return int(k.constBytes);
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    return int(k.localBytes);
  case CU_FUNC_ATTRIBUTE_NUM_REGS:
    return int(k.registers);
  case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    return k.target;
  case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
    return chipOf(f).capability;
  case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    return 0;
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    return int(dynamicLimit(f));
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    return f->carveout;
  case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
    return k.explicitCluster && !k.requiredCluster.x;
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    return int(k.requiredCluster.x);
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    return int(k.requiredCluster.y);
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
    return int(k.requiredCluster.z);
  case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    return f->nonPortableCluster;
  case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    return 0;
  }
  fail(CUDA_ERROR_INVALID_VALUE);
}

static void requireDynamicShared(CUfunction f, int value) {
  require(value >= 0 && uint32_t(value) + f->info->staticShared <= chipOf(f).sharedPerBlockOptin);
}

static void setAttribute(CUfunction f, CUfunction_attribute attribute, int value) {
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    requireDynamicShared(f, value);
    f->maxDynamicShared = uint32_t(value);
    break;
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    require(value >= -1 && value <= 100);
    f->carveout = value;
    break;
  case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    require(value == 0 || value == 1);
    f->nonPortableCluster = value;
    break;
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    f->requiredCluster.x = uint32_t(value);
    break;
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    f->requiredCluster.y = uint32_t(value);
    break;
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
    f->requiredCluster.z = uint32_t(value);
    break;
  case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    break;
  default:
    fail(CUDA_ERROR_INVALID_VALUE); // they cannot be set
  }
}

CUresult abi::cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc) {
  return call([&](Driver &, Lock &) {
    require(pi);
    *pi = attributeOf(findFunction(hfunc), attrib);
  });
}

CUresult abi::cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
  return call([&](Driver &, Lock &) { setAttribute(findFunction(hfunc), attrib, value); });
}

CUresult abi::cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel,
                                   CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    require(dev >= 0 && dev < int(driver.devices.size()), CUDA_ERROR_INVALID_DEVICE);
    require(pi);
    *pi = attributeOf(functionOf(findKernel(kernel), current()), attrib);
  });
}

CUresult abi::cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel,
                                   CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    require(dev >= 0 && dev < int(driver.devices.size()), CUDA_ERROR_INVALID_DEVICE);
    CUkernel k = findKernel(kernel);
    setAttribute(functionOf(k, current()), attrib, val);
    if (attrib == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
      k->maxDynamicShared[dev] = uint32_t(val);
      for (const auto &[context, module] : k->library->modules)
        if (state().modules.contains(module) && context->device->ordinal == dev)
          functionOf(module, k->name)->maxDynamicShared = uint32_t(val);
    }
  });
}

CUresult abi::cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config) {
  return call([&](Driver &, Lock &) {
    findFunction(hfunc);
    require(config >= 0 && config <= CU_FUNC_CACHE_PREFER_EQUAL);
  });
}

CUresult abi::cuFuncLoad(CUfunction function) {
  return call([&](Driver &, Lock &) { findFunction(function); });
}

CUresult abi::cuFuncIsLoaded(CUfunctionLoadingState *loading, CUfunction function) {
  return call([&](Driver &, Lock &) {
    require(loading);
    findFunction(function);
    *loading = CU_FUNCTION_LOADING_STATE_LOADED;
  });
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

/// The bytes of the parameters, from pointers to each or from one buffer.
static std::vector<uint8_t> parametersOf(CUfunction f, void **parameters, void **extra) {
  const KernelInfo &k = *f->info;
  std::vector<uint8_t> bytes(k.paramBytes);
  require(!parameters || !extra);
  if (extra) {
    const void *buffer = nullptr;
    const size_t *size = nullptr;
    for (; *extra != launchParamEnd; extra += 2) {
      require(*extra == launchParamBufferPointer || *extra == launchParamBufferSize);
      if (*extra == launchParamBufferPointer)
        buffer = extra[1];
      else
        size = static_cast<const size_t *>(extra[1]);
    }
    require(buffer && size && *size >= k.paramBytes);
    std::memcpy(bytes.data(), buffer, k.paramBytes);
    return bytes;
  }
  require(parameters || k.paramOffsets.empty());
  for (size_t i = 0; i < k.paramOffsets.size(); ++i) {
    require(parameters[i]);
    std::memcpy(bytes.data() + k.paramOffsets[i], parameters[i], k.paramSizes[i]);
  }
  return bytes;
}

static CUresult faultCode(Check fault) {
  switch (fault) {
  case Check::OutOfBounds:
  case Check::UseAfterFree:
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  case Check::Misaligned:
    return CUDA_ERROR_MISALIGNED_ADDRESS;
  case Check::Deadlock:
    return CUDA_ERROR_LAUNCH_TIMEOUT;
  default:
    return CUDA_ERROR_LAUNCH_FAILED;
  }
}

TaskRef sgpu::cuda::launchTask(CUfunction f, LaunchConfig config, void **parameters, void **extra) {
  config.parameters = parametersOf(f, parameters, extra);
  config.maxDynamicShared = f->maxDynamicShared;
  if (!config.cluster.x && f->requiredCluster.x)
    config.cluster = {f->requiredCluster.x, std::max(f->requiredCluster.y, 1u),
                      std::max(f->requiredCluster.z, 1u)};
  switch (f->module->module->check(f->name, config)) {
  case LaunchStatus::Ok:
    break;
  case LaunchStatus::OutOfResources:
    fail(config.dynamicShared > dynamicLimit(f) ? CUDA_ERROR_INVALID_VALUE
                                                : CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  default:
    fail(config.cluster.count() > chipOf(f).clusterBlocks ? CUDA_ERROR_INVALID_CLUSTER_SIZE
                                                          : CUDA_ERROR_INVALID_VALUE);
  }
  auto task = std::make_shared<Task>();
  task->name = "launch of kernel " + f->name;
  task->type = CU_GRAPH_NODE_TYPE_KERNEL;
  task->nanoseconds = 2000;
  task->function = f;
  task->launch = std::make_shared<LaunchConfig>(std::move(config));
  task->run = [module = f->module->module, text = f->module->text, info = *f->info,
               launch = task->launch](Op &op) {
    Driver &driver = Driver::get();
    LaunchConfig c = *launch;
    c.work = op.work;
    c.counts = !driver.options.counters.empty();
    LaunchResult result = driver.recorder.record(*text, info, c, *op.context->device->memory,
                                                 [&] { return module->run(info.name, c); });
    driver.countLaunch(result.counters);
    if (result.status == LaunchStatus::Ok)
      return sgpu_progress::Done;
    op.faultCode = faultCode(result.fault);
    return sgpu_progress::Fault;
  };
  return task;
}

static void launch(Lock &lock, CUfunction f, const LaunchConfig &config, CUstream hStream,
                   void **parameters, void **extra) {
  CUfunction function = findFunction(f);
  CUstream stream = findStream(hStream);
  require(function->module->context == stream->context, CUDA_ERROR_INVALID_HANDLE);
  if (config.cooperative)
    require(config.grid.count() <=
                uint64_t(activeBlocks(function, config.block.count(), config.dynamicShared)) *
                    chipOf(function).multiprocessors,
            CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
  issue(lock, stream, launchTask(function, config, parameters, extra));
}

CUresult abi::cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                             unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                             unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                             void **kernelParams, void **extra) {
  return call([&](Driver &, Lock &lock) {
    LaunchConfig c;
    c.grid = {gridDimX, gridDimY, gridDimZ};
    c.block = {blockDimX, blockDimY, blockDimZ};
    c.dynamicShared = sharedMemBytes;
    launch(lock, f, c, hStream, kernelParams, extra);
  });
}

CUresult abi::cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                        unsigned int gridDimZ, unsigned int blockDimX,
                                        unsigned int blockDimY, unsigned int blockDimZ,
                                        unsigned int sharedMemBytes, CUstream hStream,
                                        void **kernelParams) {
  return call([&](Driver &, Lock &lock) {
    LaunchConfig c;
    c.grid = {gridDimX, gridDimY, gridDimZ};
    c.block = {blockDimX, blockDimY, blockDimZ};
    c.dynamicShared = sharedMemBytes;
    c.cooperative = true;
    launch(lock, f, c, hStream, kernelParams, nullptr);
  });
}

static LaunchConfig configOf(const CUlaunchConfig &config) {
  LaunchConfig c;
  c.grid = {config.gridDimX, config.gridDimY, config.gridDimZ};
  c.block = {config.blockDimX, config.blockDimY, config.blockDimZ};
  c.dynamicShared = config.sharedMemBytes;
  require(!config.numAttrs || config.attrs);
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const CUlaunchAttribute &a = config.attrs[i];
    switch (a.id) {
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
      c.cluster = {a.value.clusterDim.x, a.value.clusterDim.y, a.value.clusterDim.z};
      require(c.cluster.count(), CUDA_ERROR_INVALID_VALUE);
      break;
    case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
      c.cooperative = a.value.cooperative;
      break;
    // Hints, and permissions to start before earlier work is done, which need not be used.
    case CU_LAUNCH_ATTRIBUTE_IGNORE:
    case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
    case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
    case CU_LAUNCH_ATTRIBUTE_PRIORITY:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
    case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      break;
    default:
      fail(CUDA_ERROR_NOT_SUPPORTED);
    }
  }
  return c;
}

CUresult abi::cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams,
                               void **extra) {
  return call([&](Driver &, Lock &lock) {
    require(config);
    launch(lock, f, configOf(*config), config->hStream, kernelParams, extra);
  });
}

//===----------------------------------------------------------------------===//
// Occupancy
//===----------------------------------------------------------------------===//

// Registers are given to warps in pieces of 256, shared memory to blocks in pieces of 128 bytes
// after 1 KiB of the system's. Source: CUDA C++ Programming Guide, "Technical Specifications".
static uint32_t sharedOfBlock(CUfunction f, uint64_t dynamicShared) {
  return uint32_t((f->info->staticShared + dynamicShared + 1024 + 127) / 128 * 128);
}

int sgpu::cuda::activeBlocks(CUfunction f, uint64_t threads, uint64_t dynamicShared) {
  const Chip &chip = chipOf(f);
  require(threads > 0);
  if (threads > uint64_t(attributeOf(f, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)) ||
      dynamicShared > std::max(dynamicLimit(f), f->maxDynamicShared))
    return 0;
  uint32_t warps = uint32_t((threads + 31) / 32);
  uint32_t registersOfWarp = (std::max(f->info->registers, 1u) * 32 + 255) / 256 * 256;
  return int(std::min({chip.blocksPerSm, chip.threadsPerSm / (warps * 32),
                       chip.registersPerSm / registersOfWarp / warps,
                       chip.sharedPerSm / sharedOfBlock(f, dynamicShared)}));
}

CUresult abi::cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *numBlocks, CUfunction func,
                                                                   int blockSize,
                                                                   size_t dynamicSMemSize,
                                                                   unsigned int flags) {
  return call([&](Driver &, Lock &) {
    require(numBlocks && blockSize > 0 && flags <= 1);
    *numBlocks = activeBlocks(findFunction(func), uint64_t(blockSize), dynamicSMemSize);
  });
}

CUresult abi::cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func,
                                                          int blockSize, size_t dynamicSMemSize) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(numBlocks, func, blockSize,
                                                              dynamicSMemSize, 0);
}

CUresult abi::cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
                                               CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                               size_t dynamicSMemSize, int blockSizeLimit) {
  return cuOccupancyMaxPotentialBlockSizeWithFlags(
      minGridSize, blockSize, func, blockSizeToDynamicSMemSize, dynamicSMemSize, blockSizeLimit, 0);
}

CUresult
abi::cuOccupancyMaxPotentialBlockSizeWithFlags(int *minGridSize, int *blockSize, CUfunction func,
                                               CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                               size_t dynamicSMemSize, int blockSizeLimit,
                                               unsigned int flags) {
  return call([&](Driver &, Lock &) {
    CUfunction f = findFunction(func);
    require(minGridSize && blockSize && blockSizeLimit >= 0 && flags <= 1);
    int most = attributeOf(f, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    if (blockSizeLimit)
      most = std::min(most, blockSizeLimit);
    int best = 0, bestBlocks = 0, bestThreads = -1;
    for (int threads = most; threads > 0; threads = (threads - 1) / 32 * 32) {
      size_t shared =
          blockSizeToDynamicSMemSize ? blockSizeToDynamicSMemSize(threads) : dynamicSMemSize;
      int blocks = activeBlocks(f, uint64_t(threads), shared);
      if (blocks * threads > bestThreads)
        best = threads, bestBlocks = blocks, bestThreads = blocks * threads;
    }
    *blockSize = best;
    *minGridSize = bestBlocks * int(chipOf(f).multiprocessors);
  });
}

CUresult abi::cuOccupancyAvailableDynamicSMemPerBlock(size_t *dynamicSmemSize, CUfunction func,
                                                      int numBlocks, int blockSize) {
  return call([&](Driver &, Lock &) {
    CUfunction f = findFunction(func);
    require(dynamicSmemSize && numBlocks > 0 && blockSize > 0);
    uint32_t each = chipOf(f).sharedPerSm / uint32_t(numBlocks) / 128 * 128;
    uint32_t taken = f->info->staticShared + 1024;
    uint32_t most = chipOf(f).sharedPerBlockOptin - f->info->staticShared;
    *dynamicSmemSize = each > taken ? std::min(each - taken, most) : 0;
  });
}

CUresult abi::cuOccupancyMaxPotentialClusterSize(int *clusterSize, CUfunction func,
                                                 const CUlaunchConfig *config) {
  return call([&](Driver &, Lock &) {
    CUfunction f = findFunction(func);
    require(clusterSize && config);
    configOf(*config);
    *clusterSize = int(chipOf(f).clusterBlocks);
  });
}

CUresult abi::cuOccupancyMaxActiveClusters(int *numClusters, CUfunction func,
                                           const CUlaunchConfig *config) {
  return call([&](Driver &, Lock &) {
    CUfunction f = findFunction(func);
    require(numClusters && config);
    LaunchConfig c = configOf(*config);
    uint64_t cluster = std::max<uint64_t>(c.cluster.x ? c.cluster.count() : 1, 1);
    require(cluster <= chipOf(f).clusterBlocks, CUDA_ERROR_INVALID_CLUSTER_SIZE);
    *numClusters = int(uint64_t(activeBlocks(f, c.block.count(), c.dynamicShared)) *
                       chipOf(f).multiprocessors / cluster);
  });
}

//===----------------------------------------------------------------------===//
// Tensor maps
//===----------------------------------------------------------------------===//

static void refuseTensorMap(const char *name, const std::string &why) {
  Driver::get().reporter.add(
      Report{.check = Check::Argument, .message = why, .place = callPlace(name)});
  fail(CUDA_ERROR_INVALID_VALUE);
}

CUresult abi::cuTensorMapEncodeTiled(CUtensorMap *tensorMap, CUtensorMapDataType tensorDataType,
                                     cuuint32_t tensorRank, void *globalAddress,
                                     const cuuint64_t *globalDim, const cuuint64_t *globalStrides,
                                     const cuuint32_t *boxDim, const cuuint32_t *elementStrides,
                                     CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                     CUtensorMapL2promotion l2Promotion,
                                     CUtensorMapFloatOOBfill oobFill) {
  return call([&](Driver &driver, Lock &) {
    const char *name = "cuTensorMapEncodeTiled";
    require(tensorMap);
    if (reinterpret_cast<uint64_t>(tensorMap) % TensorMap::encodedAlignment)
      refuseTensorMap(name, "tensorMap is not aligned to 64 bytes");
    if (tensorRank < 1 || tensorRank > TensorMap::maxRank)
      refuseTensorMap(name, "tensorRank " + std::to_string(tensorRank) + " is not 1 to 5");
    if (!globalDim || !boxDim || !elementStrides || (tensorRank > 1 && !globalStrides))
      refuseTensorMap(name, "globalDim, globalStrides, boxDim or elementStrides is null");
    TensorMap map;
    map.type = TensorMapType(std::min(unsigned(tensorDataType), 255u));
    map.rank = tensorRank;
    map.address = reinterpret_cast<uint64_t>(globalAddress);
    for (uint32_t d = 0; d < tensorRank; ++d) {
      map.extent[d] = globalDim[d];
      map.box[d] = boxDim[d];
      map.elementStride[d] = elementStrides[d];
      if (d)
        map.stride[d] = globalStrides[d - 1];
    }
    map.interleave = unsigned(interleave);
    map.swizzle = unsigned(swizzle);
    map.l2Promotion = unsigned(l2Promotion);
    map.oobFill = unsigned(oobFill);
    std::string why = map.check(driver.devices.front()->chip->capability);
    if (!why.empty())
      refuseTensorMap(name, why);
    map.stride[0] = bytesOf(map.type);
    map.encode(tensorMap);
  });
}

CUresult abi::cuTensorMapReplaceAddress(CUtensorMap *tensorMap, void *globalAddress) {
  return call([&](Driver &, Lock &) {
    const char *name = "cuTensorMapReplaceAddress";
    TensorMap map;
    if (!tensorMap || !TensorMap::decode(tensorMap, map))
      refuseTensorMap(name, "tensorMap was not made by cuTensorMapEncodeTiled");
    if (!globalAddress || reinterpret_cast<uint64_t>(globalAddress) % 16)
      refuseTensorMap(name, "globalAddress is null or not a multiple of 16 bytes");
    map.address = reinterpret_cast<uint64_t>(globalAddress);
    map.encode(tensorMap);
  });
}
