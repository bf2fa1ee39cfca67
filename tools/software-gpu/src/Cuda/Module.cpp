//===- Module.cpp - Images, modules, libraries ------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

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

/// Major and minor version of the latest PTX that the driver of a version of CUDA compiles ("PTX
/// ISA", "Release History"); of the last one what the parser knows.
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
std::string textOf(const void *image, int capability, JitLog &log, const std::string &call) {
  require(image);
  const auto *bytes = static_cast<const uint8_t *>(image);
  // Text may be shorter than a magic number: it ends with a zero.
  if (bytes[0] == (elfMagic & 0xff) && std::memcmp(bytes,
                                                   "\x7f"
                                                   "ELF",
                                                   4) == 0)
    refuse(log,
           Driver::get().options.driver < 13000 ? CUDA_ERROR_INVALID_IMAGE
                                                : CUDA_ERROR_NO_BINARY_FOR_GPU,
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
  return call([&](Driver &, Lock &) {
    CUcontext c = current();
    require(module);
    *module = nullptr;
    JitLog log(count, options, values);
    std::string text = textOf(image, c->device->chip->capability, log, name);
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
  return call([&](Driver &, Lock &) {
    CUcontext c = current();
    require(module && fname);
    std::string image = readFile(fname);
    JitLog log(0, nullptr, nullptr);
    std::string text = textOf(image.data(), c->device->chip->capability, log, "cuModuleLoad");
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

CUfunction sgpu::cuda::functionOf(CUmodule module, const std::string &name) {
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

CUmodule sgpu::cuda::moduleOf(CUlibrary library, CUcontext context) {
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
    l->text = textOf(code, d.chip->capability, log, "cuLibraryLoadData");
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
