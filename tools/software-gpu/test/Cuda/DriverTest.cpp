//===- DriverTest.cpp - The driver, devices and contexts --------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CudaTest.h"

#include <set>
#include <thread>
#include <unistd.h>

using namespace sgpu::cudatest;

namespace {

TEST(BeforeInit, OnlyWhatNeedsNoDriverWorks) {
  EXPECT_EXIT(
      {
        int n;
        CUdevice d;
        CUcontext c;
        CUdeviceptr p;
        CUstream s;
        const char *text;
        WANT(cuDriverGetVersion(&n) == CUDA_SUCCESS && n >= 13000 && n < 14000);
        WANT(cuGetErrorName(CUDA_ERROR_NOT_INITIALIZED, &text) == CUDA_SUCCESS);
        WANT(cuDeviceGetCount(&n) == CUDA_ERROR_NOT_INITIALIZED);
        WANT(cuDeviceGet(&d, 0) == CUDA_ERROR_NOT_INITIALIZED);
        WANT(cuDevicePrimaryCtxRetain(&c, 0) == CUDA_ERROR_NOT_INITIALIZED);
        WANT(cuCtxGetCurrent(&c) == CUDA_ERROR_NOT_INITIALIZED);
        WANT(cuMemAlloc_v2(&p, 4) == CUDA_ERROR_NOT_INITIALIZED);
        WANT(cuStreamCreate(&s, 0) == CUDA_ERROR_NOT_INITIALIZED);
        WANT(cuInit(1) == CUDA_ERROR_INVALID_VALUE);
        WANT(cuInit(0) == CUDA_SUCCESS);
        WANT(cuInit(0) == CUDA_SUCCESS);
        WANT(cuDeviceGetCount(&n) == CUDA_SUCCESS && n == 2);
        std::exit(0);
      },
      testing::ExitedWithCode(0), "");
}

/// A product of tensor cores, all 16, through shared memory.
constexpr const char *sums = R"(
.version 8.0
.target sm_90
.address_size 64
.visible .entry sums(.param .u64 p)
{
  .reg .b64 %d<3>;
  .reg .b32 %r<9>;
  .reg .f32 %f<5>;
  .shared .align 4 .b32 words[32];
  ld.param.u64 %d1, [p];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, 0x3f803f80;
  mov.f32 %f1, 0f00000000;
  mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r2, %r2, %r2, %r2},
      {%r2, %r2}, {%f1, %f1, %f1, %f1};
  mov.u32 %r3, words;
  mad.lo.u32 %r4, %r1, 4, %r3;
  st.shared.f32 [%r4], %f1;
  ld.shared.u32 %r5, [%r4];
  mul.wide.u32 %d2, %r1, 4;
  add.u64 %d1, %d1, %d2;
  st.global.u32 [%d1], %r5;
  ret;
}
)";

/// Loads a module, launches, waits; ends the process, also within handlers of exit(), if that goes wrong.
void useAll() {
  CUmodule module;
  CUfunction f;
  CUdeviceptr p;
  unsigned words[32];
  void *parameters[] = {&p};
  if (cuModuleLoadData(&module, sums) || cuModuleGetFunction(&f, module, "sums") ||
      cuMemAlloc_v2(&p, sizeof words) ||
      cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, nullptr, parameters, nullptr) || cuCtxSynchronize() ||
      cuMemcpyDtoH_v2(words, p, sizeof words))
    _exit(2);
  for (unsigned w : words)
    if (w != 0x41800000) // 16.0
      _exit(3);
  if (cuMemFree_v2(p) || cuModuleUnload(module))
    _exit(4);
}

TEST(AtExit, HandlersAndStaticDestructorsMayUseAll) {
  // A handler runs after objects of the main thread, and those that the library has made since, are gone.
  CLEAN([] {
    std::atexit(useAll);
    useAll();
  });
  // exit() in another thread.
  CLEAN([] {
    CUcontext context;
    MUST(cuCtxGetCurrent(&context));
    std::thread([context] {
      MUST(cuCtxSetCurrent(context));
      static CUcontext again = context;
      std::atexit([] {
        if (cuCtxSetCurrent(again))
          _exit(5);
        useAll();
      });
      useAll();
      std::exit(0);
    }).join();
  });
}

TEST(AtExit, MemoryWhoseFreeNobodyWaitsForIsNoLeak) {
  CLEAN([] {
    CUdeviceptr p;
    MUST(cuMemAlloc_v2(&p, 128));
    MUST(cuMemFreeAsync(p, nullptr));
  });
  REPORTED("leak: allocation .* of 128 bytes is never freed", [] {
    CUdeviceptr p, other;
    MUST(cuMemAlloc_v2(&p, 128));
    MUST(cuMemAlloc_v2(&other, 64));
    MUST(cuMemFreeAsync(other, nullptr));
  });
}

TEST(Errors, HaveNamesAndTexts) {
  const char *text = nullptr;
  OK(cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &text));
  EXPECT_STREQ(text, "CUDA_ERROR_OUT_OF_MEMORY");
  std::set<std::string> names, texts;
  for (int code = 0; code < 1000; ++code) {
    const char *what = nullptr;
    CUresult r = cuGetErrorName(CUresult(code), &text);
    EXPECT_EQ(cuGetErrorString(CUresult(code), &what), r) << code;
    if (r != CUDA_SUCCESS)
      continue;
    EXPECT_TRUE(names.insert(text).second) << text;
    EXPECT_TRUE(texts.insert(what).second) << what;
  }
  EXPECT_EQ(names.size(), 101u);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGetErrorName(CUresult(12345), &text));
  EXPECT_EQ(text, nullptr);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGetErrorString(CUresult(12345), &text));
  EXPECT_EQ(text, nullptr);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGetErrorName(CUDA_SUCCESS, nullptr));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuDriverGetVersion(nullptr));
}

TEST_F(Cuda, ProcAddress) {
  void *f = nullptr;
  CUdriverProcAddressQueryResult found;
  auto get = [&](const char *name, int version) {
    f = nullptr;
    return cuGetProcAddress_v2(name, &f, version, CU_GET_PROC_ADDRESS_DEFAULT, &found);
  };
  OK(get("cuMemAlloc", 13000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuMemAlloc_v2));
  EXPECT_EQ(found, CU_GET_PROC_ADDRESS_SUCCESS);
  OK(get("cuLaunchKernel", 13000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuLaunchKernel));
  OK(get("cuMemcpy", 13000)); // not cuMemcpyHtoD nor cuMemcpy2D
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuMemcpy));
  OK(get("cuEventElapsedTime", 12000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuEventElapsedTime));
  OK(get("cuEventElapsedTime", 13000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuEventElapsedTime_v2));
  OK(get("cuCtxCreate", 12000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuCtxCreate_v2));
  OK(get("cuCtxCreate", 13000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuCtxCreate_v4));
  OK(get("cuGraphInstantiate", 12000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuGraphInstantiateWithFlags));
  OK(get("cuGraphAddDependencies", 12000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuGraphAddDependencies));
  OK(get("cuGraphAddDependencies", 13000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuGraphAddDependencies_v2));
  OK(get("cuCtxSynchronize", 13000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuCtxSynchronize));
  OK(get("cuMemAlloc_v2", 13000));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuMemAlloc_v2));
  OK(cuGetProcAddress("cuInit", &f, 11000, 0));
  EXPECT_EQ(f, reinterpret_cast<void *>(&cuInit));
  OK(get("cuFrobnicate", 13000)); // the status says it
  EXPECT_EQ(f, nullptr);
  EXPECT_EQ(found, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  FAILS(CUDA_ERROR_NOT_FOUND, cuGetProcAddress_v2("cuFrobnicate", &f, 13000, 0, nullptr));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2(nullptr, &f, 13000, 0, nullptr));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2("cuInit", nullptr, 13000, 0, nullptr));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2("cuInit", &f, 13000, 8, nullptr));
}

// Functions for programs whose stream 0 is the default stream of each thread.
TEST_F(Cuda, DefaultStreamOfTheThread) {
  void *f = nullptr;
  OK(cuGetProcAddress_v2("cuStreamGetId", &f, 13000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM,
                         nullptr));
  unsigned long long legacy = 0, mine = 0, own = 0, another = 0;
  OK(cuStreamGetId(nullptr, &legacy));
  OK(cuStreamGetId(streamPerThread, &mine));
  auto get = reinterpret_cast<decltype(&cuStreamGetId)>(f);
  OK(get(nullptr, &own));
  EXPECT_EQ(own, mine);
  EXPECT_NE(own, legacy);
  OK(get(streamLegacy, &own)); // said so
  EXPECT_EQ(own, legacy);
  OK(cuStreamGetId(nullptr, &own));
  EXPECT_EQ(own, legacy);
  std::thread([&] {
    EXPECT_EQ(cuCtxSetCurrent(context), CUDA_SUCCESS);
    EXPECT_EQ(get(nullptr, &another), CUDA_SUCCESS);
  }).join();
  EXPECT_NE(another, mine);
  EXPECT_NE(another, legacy);
}

TEST_F(Cuda, Devices) {
  CUdevice d = -1;
  OK(cuDeviceGet(&d, 1));
  EXPECT_EQ(d, 1);
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&d, 2));
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&d, -1));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuDeviceGet(nullptr, 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuDeviceGetCount(nullptr));
  char name[64], bus[2][16];
  OK(cuDeviceGetName(name, sizeof name, 0));
  EXPECT_NE(std::string(name), "");
  char three[3];
  OK(cuDeviceGetName(three, 3, 0)); // cut off
  EXPECT_EQ(std::string(three), std::string(name).substr(0, 2));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuDeviceGetName(nullptr, 4, 0));
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetName(name, sizeof name, 7));
  CUuuid ids[2];
  for (int i = 0; i < 2; ++i) {
    OK(cuDeviceGetUuid_v2(&ids[i], i));
    OK(cuDeviceGetPCIBusId(bus[i], sizeof bus[i], i));
  }
  EXPECT_NE(std::memcmp(&ids[0], &ids[1], sizeof ids[0]), 0);
  EXPECT_STRNE(bus[0], bus[1]);
  OK(cuDeviceGetByPCIBusId(&d, bus[1]));
  EXPECT_EQ(d, 1);
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetByPCIBusId(&d, "0000:ff:00.0"));
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetByPCIBusId(&d, "nonsense"));
  size_t total = 0;
  OK(cuDeviceTotalMem_v2(&total, 0));
  EXPECT_EQ(total, size_t(16) << 20);
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceTotalMem_v2(&total, 3));
}

TEST_F(Cuda, DeviceAttributes) {
  auto attribute = [](CUdevice_attribute a) {
    int value = -1;
    EXPECT_EQ(cuDeviceGetAttribute(&value, a, 0), CUDA_SUCCESS);
    return value;
  };
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR), 9);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR), 0);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 132);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK), 1024);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK), 49152);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN), 232448);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR), 233472);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR), 65536);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR), 2048);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH), 1);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING), 1);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED), 1);
  EXPECT_EQ(attribute(CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY), 0);
  int major = 0, minor = -1, value;
  OK(cuDeviceComputeCapability(&major, &minor, 0));
  EXPECT_EQ(major * 10 + minor, 90);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, CUdevice_attribute(0), 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(&value, CUdevice_attribute(100000), 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuDeviceGetAttribute(nullptr, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0));
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 9));
}

TEST(Chip, Sm80IsAnA100) {
  EXPECT_EXIT(
      {
        setenv("SOFTWARE_GPU_CHIP", "sm_80", 1);
        begin();
        int value;
        MUST(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
        WANT(value == 8);
        MUST(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
        WANT(value == 108);
        MUST(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 0));
        WANT(value == 0);
        MUST(
            cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0));
        WANT(value == 166912);
        CUmodule module; // .target sm_90
        WANT(cuModuleLoadData(&module, kernels) == CUDA_ERROR_INVALID_PTX);
        std::exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST_F(Cuda, Contexts) {
  CUcontext mine = nullptr, now = nullptr;
  OK(cuCtxCreate_v4(&mine, nullptr, CU_CTX_SCHED_SPIN, 1));
  OK(cuCtxGetCurrent(&now));
  EXPECT_EQ(now, mine); // creation makes it current
  CUdevice d = -1;
  OK(cuCtxGetDevice(&d));
  EXPECT_EQ(d, 1);
  unsigned flags = 0, version = 0;
  OK(cuCtxGetFlags(&flags));
  EXPECT_EQ(flags, unsigned(CU_CTX_SCHED_SPIN));
  OK(cuCtxGetApiVersion(mine, &version));
  EXPECT_GE(version, 3020u);
  unsigned long long id = 0, other = 0;
  OK(cuCtxGetId(nullptr, &id));
  OK(cuCtxGetId(context, &other));
  EXPECT_NE(id, other);
  OK(cuCtxPushCurrent_v2(context));
  OK(cuCtxGetDevice(&d));
  EXPECT_EQ(d, 0);
  OK(cuCtxPopCurrent_v2(&now));
  EXPECT_EQ(now, context);
  OK(cuCtxGetCurrent(&now));
  EXPECT_EQ(now, mine);
  // Its handles end with it.
  CUstream s;
  CUevent e;
  OK(cuStreamCreate(&s, 0));
  OK(cuEventCreate(&e, 0));
  OK(cuCtxDestroy_v2(mine));
  OK(cuCtxGetCurrent(&now));
  EXPECT_EQ(now, context);
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(s));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(e));
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent(mine));
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxPushCurrent_v2(mine));
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(mine));
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(nullptr));
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuCtxCreate_v4(&mine, nullptr, 0, 5));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuCtxCreate_v4(nullptr, nullptr, 0, 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuCtxCreate_v4(&mine, nullptr, 0x10000, 0));
}

TEST_F(Cuda, WithoutAContext) {
  std::thread([] { // a thread begins without one
    CUcontext now = reinterpret_cast<CUcontext>(1);
    EXPECT_EQ(cuCtxGetCurrent(&now), CUDA_SUCCESS);
    EXPECT_EQ(now, nullptr);
    CUdevice d;
    CUdeviceptr p;
    CUstream s;
    CUevent e;
    CUmodule m;
    FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxGetDevice(&d));
    FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
    FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxPopCurrent_v2(&now));
    FAILS(CUDA_ERROR_INVALID_CONTEXT, cuMemAlloc_v2(&p, 4));
    FAILS(CUDA_ERROR_INVALID_CONTEXT, cuStreamCreate(&s, 0));
    FAILS(CUDA_ERROR_INVALID_CONTEXT, cuEventCreate(&e, 0));
    FAILS(CUDA_ERROR_INVALID_CONTEXT, cuModuleLoadData(&m, kernels));
    FAILS(CUDA_ERROR_INVALID_CONTEXT, cuStreamSynchronize(nullptr));
  })
      .join();
}

TEST_F(Cuda, DestroyedContextOfAnotherThread) {
  CUcontext c;
  OK(cuCtxCreate_v2(&c, 0, 1));
  OK(cuCtxPopCurrent_v2(nullptr));
  std::thread([c] {
    EXPECT_EQ(cuCtxSetCurrent(c), CUDA_SUCCESS);
    std::thread([c] { EXPECT_EQ(cuCtxDestroy_v2(c), CUDA_SUCCESS); }).join();
    CUdeviceptr p;
    FAILS(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuMemAlloc_v2(&p, 4));
    FAILS(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
  }).join();
}

TEST_F(Cuda, PrimaryContexts) {
  CUcontext a = nullptr, b = nullptr;
  unsigned flags = 9;
  int active = -1;
  OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  EXPECT_EQ(active, 0);
  OK(cuDevicePrimaryCtxSetFlags_v2(1, CU_CTX_SCHED_BLOCKING_SYNC));
  OK(cuDevicePrimaryCtxRetain(&a, 1));
  OK(cuDevicePrimaryCtxRetain(&b, 1));
  EXPECT_EQ(a, b);
  OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  EXPECT_EQ(active, 1);
  EXPECT_EQ(flags, unsigned(CU_CTX_SCHED_BLOCKING_SYNC));
  OK(cuDevicePrimaryCtxRelease_v2(1));
  OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  EXPECT_EQ(active, 1);
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxDestroy_v2(a)); // only released
  OK(cuDevicePrimaryCtxRelease_v2(1));
  OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  EXPECT_EQ(active, 0);
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(1));
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDevicePrimaryCtxRetain(&a, 2));
  OK(cuDevicePrimaryCtxRetain(&a, 1));
  OK(cuDevicePrimaryCtxReset_v2(1));
  OK(cuDevicePrimaryCtxGetState(1, &flags, &active));
  EXPECT_EQ(active, 0);
  OK(cuDevicePrimaryCtxSetFlags_v2(1, 0));
}

TEST_F(Cuda, LimitsAndPriorities) {
  size_t value = 0;
  OK(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 4096));
  OK(cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE));
  EXPECT_EQ(value, 4096u);
  FAILS(CUDA_ERROR_UNSUPPORTED_LIMIT, cuCtxGetLimit(&value, CUlimit(77)));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuCtxGetLimit(nullptr, CU_LIMIT_STACK_SIZE));
  CUfunc_cache cache;
  OK(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_L1));
  OK(cuCtxGetCacheConfig(&cache));
  EXPECT_EQ(cache, CU_FUNC_CACHE_PREFER_L1);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuCtxSetCacheConfig(CUfunc_cache(8)));
  OK(cuCtxSetCacheConfig(CU_FUNC_CACHE_PREFER_NONE));
  unsigned flags = 1;
  OK(cuCtxSetFlags(CU_CTX_SCHED_YIELD));
  OK(cuCtxGetFlags(&flags));
  EXPECT_EQ(flags, unsigned(CU_CTX_SCHED_YIELD));
  OK(cuCtxSetFlags(0));
  CUdevice d = 9;
  OK(cuCtxGetDevice_v2(&d, context));
  EXPECT_EQ(d, 0);
  OK(cuCtxSynchronize_v2(context));
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize_v2(reinterpret_cast<CUcontext>(5)));
  int least = 9, greatest = 9;
  OK(cuCtxGetStreamPriorityRange(&least, &greatest));
  EXPECT_EQ(least, 0);
  EXPECT_LT(greatest, 0);
}

TEST_F(Cuda, PeerAccess) {
  int can = -1;
  OK(cuDeviceCanAccessPeer(&can, 0, 1));
  EXPECT_EQ(can, 1);
  OK(cuDeviceCanAccessPeer(&can, 0, 0));
  EXPECT_EQ(can, 0);
  FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceCanAccessPeer(&can, 0, 2));
  OK(cuDeviceGetP2PAttribute(&can, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 1));
  EXPECT_EQ(can, 1);
  FAILS(CUDA_ERROR_INVALID_DEVICE,
        cuDeviceGetP2PAttribute(&can, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 1, 1));
  CUcontext peer;
  OK(cuDevicePrimaryCtxRetain(&peer, 1));
  FAILS(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, cuCtxDisablePeerAccess(peer));
  OK(cuCtxEnablePeerAccess(peer, 0));
  FAILS(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, cuCtxEnablePeerAccess(peer, 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuCtxEnablePeerAccess(peer, 1));
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuCtxEnablePeerAccess(nullptr, 0));
  // A kernel of device 0 writes memory of device 1; copies between both.
  OK(cuCtxPushCurrent_v2(peer));
  Words there(100);
  OK(cuCtxPopCurrent_v2(nullptr));
  OK(fill(there.p, 5, 100));
  OK(cuCtxSynchronize());
  Words here(100);
  OK(cuMemcpyPeer(here.p, context, there.p, peer, 400));
  EXPECT_EQ(here.get(), all(100, 5));
  OK(increment(here.p, 100));
  OK(cuMemcpyPeerAsync(there.p, peer, here.p, context, 400, nullptr));
  OK(cuCtxSynchronize());
  EXPECT_EQ(there.get(), all(100, 6));
  FAILS(CUDA_ERROR_INVALID_CONTEXT, cuMemcpyPeer(here.p, nullptr, there.p, peer, 400));
  OK(cuCtxDisablePeerAccess(peer));
  OK(cuCtxSetCurrent(peer));
  OK(cuMemFree_v2(there.p));
  there.p = 0;
  OK(cuCtxSetCurrent(context));
  OK(cuDevicePrimaryCtxRelease_v2(1));
}

TEST(PeerAccess, KernelWithoutItIsReported) {
  REPORTED("another device", [] {
    CUcontext peer;
    MUST(cuDevicePrimaryCtxRetain(&peer, 1));
    MUST(cuCtxPushCurrent_v2(peer));
    Words there(100);
    MUST(cuCtxPopCurrent_v2(nullptr));
    MUST(fill(there.p, 5, 100));
    WANT(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  });
}

} // namespace
