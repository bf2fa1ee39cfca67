//===- ModuleTest.cpp - Modules, libraries, functions, launches, tensor maps ---===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CudaTest.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <unistd.h>

using namespace sgpu::cudatest;

namespace {

/// Loads and unloads; the code, and what the error log says.
CUresult load(const void *image, std::string &log) {
  char text[2000] = "";
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void *values[] = {text, reinterpret_cast<void *>(sizeof text)};
  CUmodule m = nullptr;
  CUresult r = cuModuleLoadDataEx(&m, image, 2, options, values);
  log = text;
  if (m)
    EXPECT_EQ(cuModuleUnload(m), CUDA_SUCCESS);
  return r;
}

TEST_F(Cuda, Modules) {
  CUmodule m = nullptr;
  CUfunction f = nullptr;
  OK(cuModuleLoadData(&m, kernels));
  OK(cuModuleGetFunction(&f, m, "fill"));
  CUfunction again = nullptr;
  OK(cuModuleGetFunction(&again, m, "fill"));
  EXPECT_EQ(f, again);
  FAILS(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&again, m, "filll"));
  FAILS(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&again, m, ""));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleGetFunction(nullptr, m, "fill"));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleGetFunction(&again, m, nullptr));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuModuleGetFunction(&again, nullptr, "fill"));
  unsigned count = 0;
  OK(cuModuleGetFunctionCount(&count, m));
  EXPECT_EQ(count, 9u);
  std::vector<CUfunction> every(9);
  OK(cuModuleEnumerateFunctions(every.data(), 9, m));
  EXPECT_NE(std::find(every.begin(), every.end(), f), every.end());
  CUmodule of = nullptr;
  const char *name = nullptr;
  OK(cuFuncGetModule(&of, f));
  EXPECT_EQ(of, m);
  OK(cuFuncGetName(&name, f));
  EXPECT_STREQ(name, "fill");
  CUmoduleLoadingMode mode;
  OK(cuModuleGetLoadingMode(&mode));
  // Variables have an initial value; kernels and the host see the same bytes.
  CUdeviceptr p = 0;
  size_t bytes = 0;
  OK(cuModuleGetGlobal_v2(&p, &bytes, m, "counter"));
  EXPECT_EQ(bytes, 4u);
  OK(cuModuleGetGlobal_v2(nullptr, &bytes, m, "fixed"));
  EXPECT_EQ(bytes, 8u);
  FAILS(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal_v2(&p, &bytes, m, "nothing"));
  CUfunction variables;
  OK(cuModuleGetFunction(&variables, m, "variables"));
  Words w(3);
  OK(launch(variables, 1, 1, nullptr, {&w.p}));
  EXPECT_EQ(w.get(), (std::vector<unsigned>{7, 11, 12}));
  unsigned value = 0;
  OK(cuMemcpyDtoH_v2(&value, p, 4));
  EXPECT_EQ(value, 8u);
  value = 100;
  OK(cuMemcpyHtoD_v2(p, &value, 4));
  OK(launch(variables, 1, 1, nullptr, {&w.p}));
  EXPECT_EQ(w.get()[0], 100u);
  OK(cuModuleUnload(m));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(m));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuModuleGetFunction(&f, m, "fill"));
  FAILS(CUDA_ERROR_INVALID_HANDLE, launch(f, 1, 1, nullptr, {&w.p})); // its functions are gone
  FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(&m, nullptr));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(nullptr, kernels));
}

TEST_F(Cuda, ModulesOfFiles) {
  std::string path = testing::TempDir() + "/software-gpu-" + std::to_string(getpid()) + ".ptx";
  std::ofstream(path) << kernels;
  CUmodule m = nullptr;
  CUfunction f;
  OK(cuModuleLoad(&m, path.c_str()));
  OK(cuModuleGetFunction(&f, m, "fill"));
  OK(cuModuleUnload(m));
  CUlibrary l;
  OK(cuLibraryLoadFromFile(&l, path.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  OK(cuLibraryUnload(l));
  std::filesystem::remove(path);
  FAILS(CUDA_ERROR_FILE_NOT_FOUND,
        cuLibraryLoadFromFile(&l, path.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  FAILS(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&m, path.c_str()));
}

TEST_F(Cuda, ImagesThatCannotBeLoaded) {
  std::string log;
  // Machine code: the driver's code for an image without PTX.
  alignas(8) unsigned char elf[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
  FAILS(CUDA_ERROR_NO_BINARY_FOR_GPU, load(elf, log));
  EXPECT_NE(log.find("cubin"), log.npos) << log;
  FAILS(CUDA_ERROR_INVALID_IMAGE, load("neither", log));
  FAILS(CUDA_ERROR_INVALID_IMAGE, load("", log));
  const char *head = ".version 8.0\n.target sm_90\n.address_size 64\n";
  FAILS(CUDA_ERROR_INVALID_PTX,
        load((head + std::string(".entry k() { frobnicate.u32 %r1; }")).c_str(), log));
  EXPECT_NE(log.find("frobnicate"), log.npos) << log; // opcode and line
  EXPECT_NE(log.find("4"), log.npos) << log;
  FAILS(CUDA_ERROR_INVALID_PTX, load((head + std::string(".entry k() { ret; ")).c_str(), log));
  EXPECT_NE(log, "");
  FAILS(CUDA_ERROR_INVALID_PTX, // for a later chip
        load(".version 8.6\n.target sm_100\n.address_size 64\n.entry k() { ret; }", log));
  EXPECT_NE(log.find("sm_100"), log.npos) << log;
  FAILS(CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        load(".version 99.0\n.target sm_90\n.address_size 64\n.entry k() { ret; }", log));
  EXPECT_NE(log.find("99.0"), log.npos) << log;
  // A log that is too short is cut off, with its zero.
  char text[11];
  std::fill(text, text + 11, 'x');
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void *values[] = {text, reinterpret_cast<void *>(10)};
  CUmodule m;
  FAILS(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadDataEx(&m, elf, 2, options, values));
  EXPECT_EQ(text[9], 0);
  EXPECT_EQ(text[10], 'x');
  FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleLoadDataEx(&m, kernels, 1, nullptr, values));
}

// What an older driver does not take: later machine code, later PTX.
TEST(OldDriver, RefusesWhatIsLater) {
  auto look = [] {
    setenv("SOFTWARE_GPU_DRIVER", "12.4", 1);
    CUcontext context;
    CUmodule m;
    int version = 0;
    alignas(8) unsigned char elf[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    auto load = [&](const char *of) {
      std::string text = std::string(".version ") + of +
                         "\n.target sm_80\n.address_size 64\n.visible .entry k() { ret; }\n";
      return cuModuleLoadData(&m, text.c_str());
    };
    bool good = cuDriverGetVersion(&version) == CUDA_SUCCESS && version == 12040 &&
                cuInit(0) == CUDA_SUCCESS &&
                cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS &&
                cuCtxSetCurrent(context) == CUDA_SUCCESS &&
                cuModuleLoadData(&m, elf) == CUDA_ERROR_INVALID_IMAGE &&
                load("8.5") == CUDA_ERROR_UNSUPPORTED_PTX_VERSION &&
                load("9.0") == CUDA_ERROR_UNSUPPORTED_PTX_VERSION && load("8.4") == CUDA_SUCCESS &&
                load("7.0") == CUDA_SUCCESS;
    std::exit(good ? 0 : 1);
  };
  EXPECT_EXIT(look(), testing::ExitedWithCode(0), "later than the driver's");
}

/// A fat binary of entries: kind (1: PTX, 2: machine code), architecture, bytes.
struct Entry {
  unsigned short kind;
  unsigned architecture;
  std::string bytes;
  unsigned long long flags = 0;
};
std::vector<unsigned char> fatbin(const std::vector<Entry> &entries) {
  std::vector<unsigned char> image(16);
  auto put = [&](size_t at, auto value) { std::memcpy(image.data() + at, &value, sizeof value); };
  for (const Entry &e : entries) {
    size_t at = image.size(), size = (e.bytes.size() + 1 + 7) / 8 * 8;
    image.resize(at + 64 + size);
    put(at, e.kind);
    put(at + 4, 64u);
    put(at + 8, (unsigned long long)size);
    put(at + 28, e.architecture);
    put(at + 40, e.flags);
    std::memcpy(image.data() + at + 64, e.bytes.data(), e.bytes.size());
  }
  put(0, 0xba55ed50u);
  put(4, (unsigned short)1);
  put(6, (unsigned short)16);
  put(8, (unsigned long long)(image.size() - 16));
  return image;
}

std::string entryNamed(const char *name, const char *target) {
  return std::string(".version 8.0\n.target ") + target + "\n.address_size 64\n.visible .entry " +
         name + "() { ret; }\n";
}

TEST_F(Cuda, FatBinaries) {
  // The newest PTX that the chip takes.
  std::vector<unsigned char> image = fatbin({{2, 90,
                                              "\x7f"
                                              "ELF"},
                                             {1, 80, entryNamed("k80", "sm_80")},
                                             {1, 90, entryNamed("k90", "sm_90")},
                                             {1, 100, entryNamed("k100", "sm_100")}});
  CUmodule m;
  CUfunction f;
  OK(cuModuleLoadFatBinary(&m, image.data()));
  OK(cuModuleGetFunction(&f, m, "k90"));
  OK(cuModuleUnload(m));
  // As nvcc wraps it.
  struct {
    unsigned magic, version;
    const void *data;
    void *unused;
  } wrapper{0x466243b1, 1, image.data(), nullptr};
  OK(cuModuleLoadData(&m, &wrapper));
  OK(cuModuleGetFunction(&f, m, "k90"));
  OK(cuModuleUnload(m));
  std::string log;
  FAILS(CUDA_ERROR_NO_BINARY_FOR_GPU, load(fatbin({{2, 90,
                                                    "\x7f"
                                                    "ELF"}})
                                               .data(),
                                           log));
  EXPECT_NE(log.find("compute_90"), log.npos) << log;
  FAILS(CUDA_ERROR_NO_BINARY_FOR_GPU,
        load(fatbin({{1, 100, entryNamed("k", "sm_100")}}).data(), log));
  FAILS(CUDA_ERROR_NO_BINARY_FOR_GPU, load(fatbin({{1, 90, "packed", 0x2000}}).data(), log));
  EXPECT_NE(log.find("--no-compress"), log.npos) << log;
  FAILS(CUDA_ERROR_NO_BINARY_FOR_GPU, load(fatbin({}).data(), log));
  image = fatbin({{1, 90, entryNamed("k", "sm_90")}});
  image[16 + 8 + 4] = 1; // the entry is longer than the file
  FAILS(CUDA_ERROR_INVALID_IMAGE, load(image.data(), log));
}

TEST_F(Cuda, Libraries) {
  CUlibrary l = nullptr;
  CUkernel k = nullptr, again = nullptr;
  OK(cuLibraryLoadData(&l, kernels, nullptr, nullptr, 0, nullptr, nullptr, 0));
  OK(cuLibraryGetKernel(&k, l, "fill"));
  OK(cuLibraryGetKernel(&again, l, "fill"));
  EXPECT_EQ(k, again);
  FAILS(CUDA_ERROR_NOT_FOUND, cuLibraryGetKernel(&again, l, "nothing"));
  unsigned count = 0;
  OK(cuLibraryGetKernelCount(&count, l));
  EXPECT_EQ(count, 9u);
  std::vector<CUkernel> every(9);
  OK(cuLibraryEnumerateKernels(every.data(), 9, l));
  EXPECT_NE(std::find(every.begin(), every.end(), k), every.end());
  CUlibrary home;
  OK(cuKernelGetLibrary(&home, k));
  EXPECT_EQ(home, l);
  OK(cuKernelSetCacheConfig(k, CU_FUNC_CACHE_PREFER_SHARED, 0));
  const char *name;
  OK(cuKernelGetName(&name, k));
  EXPECT_STREQ(name, "fill");
  CUfunction f;
  CUmodule m;
  OK(cuKernelGetFunction(&f, k));
  OK(cuLibraryGetModule(&m, l));
  CUmodule of;
  OK(cuFuncGetModule(&of, f));
  EXPECT_EQ(of, m);
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(m)); // it is the library's
  CUdeviceptr p;
  size_t bytes;
  OK(cuLibraryGetGlobal(&p, &bytes, l, "counter"));
  EXPECT_EQ(bytes, 4u);
  // A kernel stands for the function of the current context; its attributes are kept by device.
  Words w(10);
  unsigned value = 6, n = 10;
  OK(launch(reinterpret_cast<CUfunction>(k), 1, 64, nullptr, {&w.p, &value, &n}));
  EXPECT_EQ(w.get(), all(10, 6));
  OK(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100000, k, 0));
  int shared = 0;
  OK(cuKernelGetAttribute(&shared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, k, 0));
  EXPECT_EQ(shared, 100000);
  FAILS(CUDA_ERROR_INVALID_DEVICE,
        cuKernelGetAttribute(&shared, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, k, 5));
  CUcontext other;
  OK(cuCtxCreate_v2(&other, 0, 1));
  {
    Words there(10);
    OK(launch(reinterpret_cast<CUfunction>(k), 1, 64, nullptr, {&there.p, &value, &n}));
    EXPECT_EQ(there.get(), all(10, 6));
  }
  OK(cuCtxDestroy_v2(other));
  OK(cuLibraryUnload(l));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuLibraryUnload(l));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuKernelGetName(&name, k));
  FAILS(CUDA_ERROR_INVALID_HANDLE, launch(reinterpret_cast<CUfunction>(k), 1, 64, nullptr, {}));
  FAILS(CUDA_ERROR_INVALID_PTX,
        cuLibraryLoadData(&l, ".version 8.0\n.target sm_90\n.entry k() { nonsense; }", nullptr,
                          nullptr, 0, nullptr, nullptr, 0));
}

TEST_F(Cuda, FunctionAttributes) {
  CUfunction f = kernel("small");
  auto attribute = [&](CUfunction_attribute a) {
    int value = -1;
    EXPECT_EQ(cuFuncGetAttribute(&value, a, f), CUDA_SUCCESS);
    return value;
  };
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 64); // .maxntid
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES), 256);
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES), 32);
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES), 8);
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_PTX_VERSION), 90);
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_BINARY_VERSION), 90);
  EXPECT_GT(attribute(CU_FUNC_ATTRIBUTE_NUM_REGS), 0);
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES), 49152 - 256);
  OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 232448 - 256));
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES), 232448 - 256);
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 232448 - 255));
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_NUM_REGS, 10)); // read only
  OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 50));
  EXPECT_EQ(attribute(CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT), 50);
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 101));
  int value;
  FAILS(CUDA_ERROR_INVALID_VALUE, cuFuncGetAttribute(&value, CUfunction_attribute(99), f));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuFuncGetAttribute(nullptr, CU_FUNC_ATTRIBUTE_NUM_REGS, f));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS, nullptr));
  size_t offset, size;
  OK(cuFuncGetParamInfo(f, 1, &offset, &size));
  EXPECT_EQ(offset, 8u);
  EXPECT_EQ(size, 1u);
  OK(cuFuncGetParamInfo(f, 2, &offset, &size));
  EXPECT_EQ(offset, 16u);
  EXPECT_EQ(size, 24u);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuFuncGetParamInfo(f, 3, &offset, &size));
  OK(cuFuncSetCacheConfig(f, CU_FUNC_CACHE_PREFER_L1));
  OK(cuFuncLoad(f));
  CUfunctionLoadingState state;
  OK(cuFuncIsLoaded(&state, f));
  EXPECT_EQ(state, CU_FUNCTION_LOADING_STATE_LOADED);
}

TEST_F(Cuda, Launches) {
  Words w(64);
  CUfunction f = kernel("fill");
  unsigned value = 5, n = 64;
  void *parameters[] = {&w.p, &value, &n};
  OK(cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 0, nullptr, parameters, nullptr));
  EXPECT_EQ(w.get(), all(64, 5));
  // All parameters in one buffer.
  struct {
    CUdeviceptr p;
    unsigned value, n;
  } buffer{w.p, 6, 64};
  size_t size = sizeof buffer;
  void *extra[] = {launchParamBufferPointer, &buffer, launchParamBufferSize, &size, launchParamEnd};
  OK(cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 0, nullptr, nullptr, extra));
  EXPECT_EQ(w.get(), all(64, 6));
  size = 8; // too few bytes
  FAILS(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 0, nullptr, nullptr, extra));
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 0, nullptr, parameters, extra));
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 0, nullptr, nullptr, nullptr));
  FAILS(CUDA_ERROR_INVALID_HANDLE,
        cuLaunchKernel(nullptr, 1, 1, 1, 64, 1, 1, 0, nullptr, parameters, nullptr));
  // The values of parameters are those at the call.
  value = 9;
  OK(cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 0, nullptr, parameters, nullptr));
  value = 10;
  EXPECT_EQ(w.get(), all(64, 9));
  // Dynamic shared memory, also more than 48 KiB after the attribute.
  CUfunction backwards = kernel("backwards");
  void *p[] = {&w.p};
  std::vector<unsigned> want(64);
  for (unsigned i = 0; i < 64; ++i)
    want[i] = 63 - i;
  OK(cuLaunchKernel(backwards, 1, 1, 1, 64, 1, 1, 256, nullptr, p, nullptr));
  EXPECT_EQ(w.get(), want);
  OK(cuFuncSetAttribute(backwards, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 200000));
  OK(cuLaunchKernel(backwards, 1, 1, 1, 64, 1, 1, 200000, nullptr, p, nullptr));
  OK(cuCtxSynchronize());
}

TEST(Launch, LimitsAreReportedAndRefused) {
  REPORTED("launch: ", [] {
    Words w(64);
    unsigned value = 5, n = 64;
    void *parameters[] = {&w.p, &value, &n};
    CUfunction f = kernel("fill");
    auto go = [&](unsigned gx, unsigned gy, unsigned bx, unsigned by, unsigned bz,
                  unsigned shared) {
      return cuLaunchKernel(f, gx, gy, 1, bx, by, bz, shared, nullptr, parameters, nullptr);
    };
    WANT(go(1, 1, 1025, 1, 1, 0) == CUDA_ERROR_INVALID_VALUE);
    WANT(go(1, 1, 32, 33, 1, 0) == CUDA_ERROR_INVALID_VALUE);
    WANT(go(1, 1, 1, 1, 65, 0) == CUDA_ERROR_INVALID_VALUE);
    WANT(go(0, 1, 32, 1, 1, 0) == CUDA_ERROR_INVALID_VALUE);
    WANT(go(1, 1, 0, 1, 1, 0) == CUDA_ERROR_INVALID_VALUE);
    WANT(go(1, 65536, 1, 1, 1, 0) == CUDA_ERROR_INVALID_VALUE);
    WANT(go(1, 1, 32, 1, 1, 49153) == CUDA_ERROR_INVALID_VALUE);
    WANT(go(1, 1, 64, 1, 1, 49152) == CUDA_SUCCESS);
    MUST(cuCtxSynchronize());
    CUfunction small = kernel("small");
    void *none[] = {&w.p, &value, &value};
    WANT(cuLaunchKernel(small, 1, 1, 1, 65, 1, 1, 0, nullptr, none, nullptr) != CUDA_SUCCESS);
  });
}

CUresult launchCluster(CUfunction f, unsigned blocks, unsigned cluster, CUdeviceptr *p) {
  CUlaunchAttribute a{};
  a.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  a.value.clusterDim = {cluster, 1, 1};
  CUlaunchConfig c{};
  c.gridDimX = blocks;
  c.gridDimY = c.gridDimZ = c.blockDimY = c.blockDimZ = 1;
  c.blockDimX = 32;
  c.attrs = &a;
  c.numAttrs = 1;
  void *parameters[] = {p};
  return cuLaunchKernelEx(&c, f, parameters, nullptr);
}

TEST_F(Cuda, ClusterLaunches) {
  Words w(8);
  CUfunction f = kernel("cluster");
  CUlaunchConfig plain{};
  plain.gridDimX = 8;
  plain.gridDimY = plain.gridDimZ = plain.blockDimX = plain.blockDimY = plain.blockDimZ = 1;
  void *parameters[] = {&w.p};
  OK(cuLaunchKernelEx(&plain, f, parameters, nullptr));
  EXPECT_EQ(w.get(), all(8, 100)); // clusters of one block
  std::vector<unsigned> want(8);
  for (unsigned size : {2u, 4u, 8u}) {
    plain.blockDimX = 1;
    CUlaunchAttribute a{};
    a.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    a.value.clusterDim = {size, 1, 1};
    plain.attrs = &a;
    plain.numAttrs = 1;
    OK(cuLaunchKernelEx(&plain, f, parameters, nullptr));
    for (unsigned i = 0; i < 8; ++i)
      want[i] = size * 100 + i % size;
    EXPECT_EQ(w.get(), want);
  }
  int clusters = 0;
  plain.attrs = nullptr;
  plain.numAttrs = 0;
  OK(cuOccupancyMaxPotentialClusterSize(&clusters, f, &plain));
  EXPECT_EQ(clusters, 8);
  OK(cuOccupancyMaxActiveClusters(&clusters, f, &plain));
  EXPECT_GT(clusters, 0);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(nullptr, f, parameters, nullptr));
  plain.numAttrs = 1; // of none
  FAILS(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(&plain, f, parameters, nullptr));
}

TEST(Launch, ClustersThatCannotBe) {
  REPORTED("launch: ", [] {
    Words w(32);
    WANT(launchCluster(kernel("cluster"), 32, 16, &w.p) == CUDA_ERROR_INVALID_CLUSTER_SIZE);
    WANT(launchCluster(kernel("cluster"), 9, 2, &w.p) ==
         CUDA_ERROR_INVALID_VALUE); // not a multiple
  });
}

TEST_F(Cuda, CooperativeLaunches) {
  Words w(64);
  unsigned value = 3, n = 64;
  void *parameters[] = {&w.p, &value, &n};
  OK(cuLaunchCooperativeKernel(kernel("fill"), 1, 1, 1, 64, 1, 1, 0, nullptr, parameters));
  EXPECT_EQ(w.get(), all(64, 3));
  FAILS(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
        cuLaunchCooperativeKernel(kernel("fill"), 132 * 32 + 1, 1, 1, 64, 1, 1, 0, nullptr,
                                  parameters));
}

TEST_F(Cuda, Occupancy) {
  int blocks = -1, threads = -1;
  CUfunction f = kernel("fill"); // few registers: threads and blocks are the limits
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 1024, 0));
  EXPECT_EQ(blocks, 2);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 256, 0));
  EXPECT_EQ(blocks, 8);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 32, 0));
  EXPECT_EQ(blocks, 32);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 33, 0)); // as 64
  EXPECT_EQ(blocks, 32);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 32,
                                                 48 * 1024)); // shared memory: 228 KiB
  EXPECT_EQ(blocks, 4);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 32,
                                                 49 * 1024)); // more than it may have
  EXPECT_EQ(blocks, 0);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 2000, 0));
  EXPECT_EQ(blocks, 0);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 0, 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(nullptr, f, 32, 0));
  FAILS(CUDA_ERROR_INVALID_HANDLE,
        cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nullptr, 32, 0));
  OK(cuOccupancyMaxPotentialBlockSize(&blocks, &threads, f, nullptr, 0, 0));
  EXPECT_EQ(threads, 1024);
  EXPECT_EQ(blocks, 2 * 132);
  OK(cuOccupancyMaxPotentialBlockSize(&blocks, &threads, f, nullptr, 0, 128));
  EXPECT_EQ(threads, 128);
  EXPECT_EQ(blocks, 16 * 132);
  OK(cuOccupancyMaxPotentialBlockSize(
      &blocks, &threads, f, [](int size) { return size_t(size) * 64; }, 0, 0));
  EXPECT_EQ(size_t(threads) * 64 <= 49152, true);
  size_t bytes = 0;
  OK(cuOccupancyAvailableDynamicSMemPerBlock(&bytes, f, 4, 32));
  int fits = 0;
  OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 200000));
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&fits, f, 32, bytes));
  EXPECT_EQ(fits, 4);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&fits, f, 32, bytes + 128));
  EXPECT_EQ(fits, 3);
}

struct Map {
  alignas(128) CUtensorMap map{};
  cuuint64_t extent[5] = {64, 32, 8, 4, 2}, stride[4] = {256, 8192, 65536, 262144};
  cuuint32_t box[5] = {16, 8, 2, 1, 1}, step[5] = {1, 1, 1, 1, 1}, rank = 2;
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  CUtensorMapInterleave interleave = CU_TENSOR_MAP_INTERLEAVE_NONE;
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_NONE;
  CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_NONE;
  CUtensorMapFloatOOBfill fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  CUdeviceptr address = 0;
  CUresult encode() {
    return cuTensorMapEncodeTiled(&map, type, rank, reinterpret_cast<void *>(address), extent,
                                  stride, box, step, interleave, swizzle, promotion, fill);
  }
};

TEST_F(Cuda, TensorMaps) {
  Words w(64 * 32 * 8 * 4 * 2);
  for (unsigned rank = 1; rank <= 5; ++rank) {
    Map m;
    m.address = w.p;
    m.rank = rank;
    OK(m.encode());
    OK(cuTensorMapReplaceAddress(&m.map, reinterpret_cast<void *>(w.p + 16)));
  }
  Map m;
  m.address = w.p;
  m.swizzle = CU_TENSOR_MAP_SWIZZLE_64B;
  m.type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  m.promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
  m.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
  OK(m.encode());
}

// Every field, with the least that is wrong.
TEST(TensorMaps, FieldsAreChecked) {
  REPORTED("argument: ", [] {
    Words w(64 * 32);
    auto refused = [&](auto change) {
      Map m;
      m.address = w.p;
      change(m);
      return m.encode() == CUDA_ERROR_INVALID_VALUE;
    };
    WANT(!refused([](Map &) {}));
    WANT(refused([](Map &m) { m.address += 8; }));
    WANT(refused([](Map &m) { m.rank = 0; }));
    WANT(refused([](Map &m) { m.rank = 6; }));
    WANT(refused([](Map &m) { m.type = CUtensorMapDataType(99); }));
    WANT(refused([](Map &m) { m.extent[1] = 0; }));
    WANT(refused([](Map &m) { m.extent[0] = (cuuint64_t(1) << 32) + 1; }));
    WANT(refused([](Map &m) { m.stride[0] = 264; })); // not a multiple of 16
    WANT(refused([](Map &m) { m.stride[0] = cuuint64_t(1) << 40; }));
    WANT(refused([](Map &m) { m.box[0] = 257; }));
    WANT(refused([](Map &m) { m.box[1] = 0; }));
    WANT(refused([](Map &m) { m.box[0] = 3; }));   // 12 bytes
    WANT(!refused([](Map &m) { m.step[0] = 0; })); // not used
    WANT(refused([](Map &m) { m.step[1] = 0; }));
    WANT(refused([](Map &m) { m.step[1] = 9; }));
    WANT(refused([](Map &m) { m.swizzle = CU_TENSOR_MAP_SWIZZLE_32B; })); // 64 bytes of box
    WANT(refused([](Map &m) { m.swizzle = CUtensorMapSwizzle(9); }));
    WANT(refused([](Map &m) { m.interleave = CUtensorMapInterleave(9); }));
    WANT(refused([](Map &m) { m.promotion = CUtensorMapL2promotion(9); }));
    WANT(refused([](Map &m) { m.fill = CUtensorMapFloatOOBfill(9); }));
    WANT(refused([](Map &m) { // NaN fill is for floats
      m.type = CU_TENSOR_MAP_DATA_TYPE_INT32;
      m.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
    }));
    Map m;
    WANT(cuTensorMapReplaceAddress(&m.map, reinterpret_cast<void *>(w.p)) ==
         CUDA_ERROR_INVALID_VALUE);
  });
}

} // namespace
