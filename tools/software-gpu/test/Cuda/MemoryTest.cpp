//===- MemoryTest.cpp - Allocation, copies, memsets, pointers ---------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CudaTest.h"

#include <numeric>

using namespace sgpu::cudatest;

namespace {

TEST_F(Cuda, Allocation) {
  CUdeviceptr p = 0, base = 0;
  size_t before = 0, free = 0, total = 0, size = 0;
  OK(cuMemGetInfo_v2(&before, &total));
  EXPECT_EQ(total, size_t(16) << 20);
  OK(cuMemAlloc_v2(&p, 1000));
  EXPECT_EQ(p % 256, 0u);
  OK(cuMemGetInfo_v2(&free, &total));
  EXPECT_LE(free, before - 1000);
  OK(cuMemGetAddressRange_v2(&base, &size, p + 999));
  EXPECT_EQ(base, p);
  EXPECT_EQ(size, 1000u);
  FAILS(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange_v2(&base, &size, p + 1000));
  OK(cuMemFree_v2(p));
  FAILS(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange_v2(&base, &size, p));
  OK(cuMemGetInfo_v2(&free, &total));
  EXPECT_EQ(free, before);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&p, 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(nullptr, 4));
  FAILS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&p, size_t(17) << 20));
  FAILS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&p, ~size_t(0) / 2));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(12345));
  // All of it, twice: what is freed can be had again.
  for (int i = 0; i < 2; ++i) {
    OK(cuMemAlloc_v2(&p, before));
    CUdeviceptr more;
    FAILS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&more, 1 << 20));
    OK(cuMemFree_v2(p));
  }
  size_t pitch = 0;
  OK(cuMemAllocPitch_v2(&p, &pitch, 1001, 3, 4));
  EXPECT_GE(pitch, 1001u);
  EXPECT_EQ(pitch % 512, 0u);
  OK(cuMemFree_v2(p));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemAllocPitch_v2(&p, &pitch, 100, 3, 5));
}

TEST(Allocation, FaultsAreReported) {
  REPORTED("use-after-free: the memory is freed a second time", [] {
    Words w(4);
    MUST(cuMemFree_v2(w.p));
    WANT(cuMemFree_v2(w.p) == CUDA_ERROR_INVALID_VALUE);
  });
  REPORTED("argument: no allocation of the program starts at this address", [] {
    Words w(4);
    WANT(cuMemFree_v2(w.p + 4) == CUDA_ERROR_INVALID_VALUE);
  });
  REPORTED("leak: allocation #[0-9]+ of 40 bytes is never freed", [] {
    CUdeviceptr p;
    MUST(cuMemAlloc_v2(&p, 40));
  });
  REPORTED("out-of-bounds", [] {
    Words w(4);
    char bytes[32];
    WANT(cuMemcpyDtoH_v2(bytes, w.p, 17) == CUDA_ERROR_INVALID_VALUE);
  });
  REPORTED("uninitialized", [] {
    Words w(4);
    w.get();
  });
  REPORTED("use-after-free", [] {
    CUdeviceptr p;
    MUST(cuMemAlloc_v2(&p, 400));
    MUST(cuMemFree_v2(p));
    MUST(fill(p, 1, 100));
    WANT(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  });
  CLEAN([] {
    Words w(4);
    MUST(fill(w.p, 1, 4));
    w.get();
  });
}

// A host that dereferences a device pointer crashes, as on a real machine.
TEST(Allocation, HostCannotTouchIt) {
  EXPECT_EXIT(
      {
        begin();
        Words w(4);
        *reinterpret_cast<volatile unsigned *>(w.p) = 1;
      },
      testing::KilledBySignal(SIGSEGV), "");
}

TEST_F(Cuda, PinnedMemory) {
  unsigned *p = nullptr, flags = 0;
  OK(cuMemHostAlloc(reinterpret_cast<void **>(&p), 4000, 2));
  CUdeviceptr d = 0;
  OK(cuMemHostGetDevicePointer_v2(&d, p, 0));
  EXPECT_EQ(d, reinterpret_cast<CUdeviceptr>(p)); // unified addressing
  OK(cuMemHostGetFlags(&flags, p));
  EXPECT_TRUE(flags & 2);
  OK(fill(d, 9, 1000)); // kernels see it
  OK(cuCtxSynchronize());
  EXPECT_EQ(p[0], 9u);
  EXPECT_EQ(p[999], 9u);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemHostAlloc(reinterpret_cast<void **>(&p), 4, 0x100));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemHostAlloc(nullptr, 4, 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(&flags));
  OK(cuMemFreeHost(p));
  std::vector<unsigned> own(1000);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemHostGetDevicePointer_v2(&d, own.data(), 0));
  OK(cuMemHostRegister_v2(own.data(), 4000, 0));
  FAILS(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(own.data(), 4000, 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(own.data()));
  OK(cuMemHostGetDevicePointer_v2(&d, own.data(), 0));
  OK(fill(d, 8, 1000));
  OK(cuCtxSynchronize());
  EXPECT_EQ(own, all(1000, 8));
  OK(cuMemHostUnregister(own.data()));
  FAILS(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(own.data()));
}

TEST_F(Cuda, CopiesOfEveryKind) {
  constexpr unsigned n = 500;
  Words a(n), b(n);
  std::vector<unsigned> values(n), back(n);
  std::iota(values.begin(), values.end(), 1u);
  unsigned *pinned[2];
  for (unsigned *&p : pinned)
    OK(cuMemAllocHost_v2(reinterpret_cast<void **>(&p), n * 4));
  CUstream s;
  OK(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  auto clear = [&] {
    EXPECT_EQ(cuMemsetD32_v2(a.p, 0, n), CUDA_SUCCESS);
    EXPECT_EQ(cuMemsetD32_v2(b.p, 0, n), CUDA_SUCCESS);
    EXPECT_EQ(cuCtxSynchronize(), CUDA_SUCCESS);
    std::fill(back.begin(), back.end(), 0u);
  };
  // Pageable memory is read before the call returns: the program may change it at once.
  clear();
  std::vector<unsigned> changing = values;
  OK(cuMemcpyHtoDAsync_v2(a.p, changing.data(), n * 4, s));
  std::fill(changing.begin(), changing.end(), 0u);
  OK(cuMemcpyDtoDAsync_v2(b.p, a.p, n * 4, s));
  OK(cuMemcpyDtoHAsync_v2(back.data(), b.p, n * 4, s)); // pageable: done when it returns
  EXPECT_EQ(back, values);
  // Pinned memory.
  clear();
  std::copy(values.begin(), values.end(), pinned[0]);
  OK(cuMemcpyHtoDAsync_v2(a.p, pinned[0], n * 4, s));
  OK(cuMemcpyDtoHAsync_v2(pinned[1], a.p, n * 4, s));
  OK(cuStreamSynchronize(s));
  EXPECT_TRUE(std::equal(values.begin(), values.end(), pinned[1]));
  // cuMemcpy knows what the addresses are.
  clear();
  OK(cuMemcpy(a.p, reinterpret_cast<CUdeviceptr>(values.data()), n * 4));
  OK(cuMemcpy(b.p, a.p, n * 4));
  OK(cuMemcpy(reinterpret_cast<CUdeviceptr>(back.data()), b.p, n * 4));
  EXPECT_EQ(back, values);
  clear();
  OK(cuMemcpyAsync(a.p, reinterpret_cast<CUdeviceptr>(pinned[0]), n * 4, s));
  OK(cuMemcpyAsync(reinterpret_cast<CUdeviceptr>(pinned[1]), a.p, n * 4, s));
  OK(cuStreamSynchronize(s));
  EXPECT_TRUE(std::equal(values.begin(), values.end(), pinned[1]));
  // From host to host.
  OK(cuMemcpy(reinterpret_cast<CUdeviceptr>(back.data()),
              reinterpret_cast<CUdeviceptr>(values.data()), n * 4));
  EXPECT_EQ(back, values);
  OK(cuMemcpyHtoD_v2(a.p, values.data(), 0)); // nothing
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(0, values.data(), 4));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(a.p, nullptr, 4));
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuMemcpyHtoD_v2(reinterpret_cast<CUdeviceptr>(back.data()), values.data(), 4));
  for (unsigned *p : pinned)
    OK(cuMemFreeHost(p));
  OK(cuStreamDestroy_v2(s));
}

TEST_F(Cuda, CopiesInTwoAndThreeDimensions) {
  // 5 rows of 12 bytes from a host array of 20 bytes a row to a device array of 512.
  std::vector<unsigned char> host(20 * 9 * 3), back(host.size(), 0);
  std::iota(host.begin(), host.end(), 0);
  CUdeviceptr p;
  size_t pitch;
  OK(cuMemAllocPitch_v2(&p, &pitch, 12, 5, 4));
  CUDA_MEMCPY2D c{};
  c.srcMemoryType = CU_MEMORYTYPE_HOST;
  c.srcHost = host.data();
  c.srcPitch = 20;
  c.srcXInBytes = 3;
  c.srcY = 2;
  c.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  c.dstDevice = p;
  c.dstPitch = pitch;
  c.WidthInBytes = 12;
  c.Height = 5;
  OK(cuMemcpy2D_v2(&c));
  CUDA_MEMCPY2D d{};
  d.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  d.srcDevice = p;
  d.srcPitch = pitch;
  d.dstMemoryType = CU_MEMORYTYPE_HOST;
  d.dstHost = back.data();
  d.dstPitch = 20;
  d.WidthInBytes = 12;
  d.Height = 5;
  OK(cuMemcpy2DUnaligned_v2(&d));
  for (int y = 0; y < 5; ++y)
    for (int x = 0; x < 20; ++x)
      EXPECT_EQ(back[y * 20 + x], x < 12 ? host[(y + 2) * 20 + x + 3] : 0) << y << " " << x;
  d.dstPitch = 11; // less than a row
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&d));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(nullptr));
  d.dstPitch = size_t(1) << 31; // more than MAX_PITCH
  d.Height = 1;
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&d));
  d.dstPitch = 20;
  d.srcMemoryType = CUmemorytype(9);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&d));
  OK(cuMemFree_v2(p));

  OK(cuMemAlloc_v2(&p, 4 * 3 * 2)); // 2 planes of 3 rows of 4 bytes
  CUDA_MEMCPY3D e{};
  e.srcMemoryType = CU_MEMORYTYPE_HOST;
  e.srcHost = host.data();
  e.srcPitch = 20;
  e.srcHeight = 9;
  e.srcXInBytes = 1;
  e.srcY = 4;
  e.srcZ = 1;
  e.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  e.dstDevice = p;
  e.dstPitch = 4;
  e.dstHeight = 3;
  e.WidthInBytes = 4;
  e.Height = 3;
  e.Depth = 2;
  OK(cuMemcpy3D_v2(&e));
  std::vector<unsigned char> dense(24);
  OK(cuMemcpyDtoH_v2(dense.data(), p, 24));
  for (int z = 0; z < 2; ++z)
    for (int y = 0; y < 3; ++y)
      for (int x = 0; x < 4; ++x)
        EXPECT_EQ(dense[(z * 3 + y) * 4 + x], host[((z + 1) * 9 + y + 4) * 20 + x + 1]);
  e.Depth = 3; // the third plane is not there
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3DAsync_v2(nullptr, nullptr));
  OK(cuMemFree_v2(p));
}

// Bytes between the rows of a copy belong to others: they keep their values.
TEST_F(Cuda, CopyOfRowsLeavesTheGaps) {
  Words w(64);
  OK(cuMemsetD32_v2(w.p, 3, 64));
  std::vector<unsigned> host(8, 5);
  unsigned *pinned;
  OK(cuMemAllocHost_v2(reinterpret_cast<void **>(&pinned), 64 * 4));
  std::fill(pinned, pinned + 64, 7u);
  CUDA_MEMCPY2D c{};
  c.srcMemoryType = CU_MEMORYTYPE_HOST;
  c.srcHost = host.data();
  c.srcPitch = 4;
  c.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  c.dstDevice = w.p;
  c.dstPitch = 32;
  c.WidthInBytes = 4;
  c.Height = 8;
  OK(cuMemcpy2DAsync_v2(&c, nullptr));
  CUDA_MEMCPY2D d{};
  d.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  d.srcDevice = w.p;
  d.srcPitch = 32;
  d.dstMemoryType = CU_MEMORYTYPE_HOST;
  d.dstHost = pinned;
  d.dstPitch = 32;
  d.WidthInBytes = 4;
  d.Height = 8;
  OK(cuMemcpy2DAsync_v2(&d, nullptr));
  for (int i = 0; i < 64; ++i)
    if (i % 8)
      EXPECT_EQ(pinned[i], 7u);
  OK(cuCtxSynchronize());
  std::vector<unsigned> got = w.get();
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(got[i], i % 8 ? 3u : 5u) << i;
    EXPECT_EQ(pinned[i], i % 8 ? 7u : 5u) << i;
  }
  OK(cuMemFreeHost(pinned));
}

TEST_F(Cuda, Memsets) {
  Words w(64);
  OK(cuMemsetD8_v2(w.p, 0xab, 256));
  EXPECT_EQ(w.get(), all(64, 0xabababab));
  OK(cuMemsetD16_v2(w.p, 0x1234, 128));
  EXPECT_EQ(w.get(), all(64, 0x12341234));
  OK(cuMemsetD32Async(w.p, 77, 64, nullptr));
  EXPECT_EQ(w.get(), all(64, 77));
  OK(cuMemsetD2D32_v2(w.p + 4, 32, 1, 3, 8)); // words 1 to 3 of 8 rows of 8 words
  std::vector<unsigned> got = w.get();
  for (unsigned i = 0; i < 64; ++i)
    EXPECT_EQ(got[i], i % 8 >= 1 && i % 8 <= 3 ? 1u : 77u) << i;
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(w.p + 2, 0, 1)); // not aligned
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(0, 0, 1));
  OK(cuMemsetD32_v2(w.p, 0, 0));
}

TEST_F(Cuda, PointerAttributes) {
  Words w(10);
  unsigned type = 0;
  OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, w.p + 4));
  EXPECT_EQ(type, unsigned(CU_MEMORYTYPE_DEVICE));
  int ordinal = -1;
  OK(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, w.p));
  EXPECT_EQ(ordinal, 0);
  CUdeviceptr start = 0;
  size_t bytes = 0;
  OK(cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, w.p + 4));
  OK(cuPointerGetAttribute(&bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, w.p + 4));
  EXPECT_EQ(start, w.p);
  EXPECT_EQ(bytes, 40u);
  CUcontext owner = nullptr;
  OK(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, w.p));
  EXPECT_EQ(owner, context);
  int own = 0;
  CUdeviceptr foreign = reinterpret_cast<CUdeviceptr>(&own);
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, foreign));
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuPointerGetAttribute(nullptr, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, w.p));
  CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                      CU_POINTER_ATTRIBUTE_DEVICE_POINTER};
  void *values[] = {&type, &start};
  OK(cuPointerGetAttributes(2, attributes, values,
                            foreign)); // of memory that it does not know: zeros
  EXPECT_EQ(type, 0u);
  EXPECT_EQ(start, 0u);
}

TEST_F(Cuda, AllocationInStreamOrder) {
  CUstream s;
  OK(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  size_t before = 0, now = 0, total;
  OK(cuMemGetInfo_v2(&before, &total));
  CUdeviceptr p = 0;
  OK(cuMemAllocAsync(&p, 400, s));
  OK(fill(p, 4, 100, s));
  std::vector<unsigned> got(100);
  OK(cuMemcpyDtoHAsync_v2(got.data(), p, 400, s));
  EXPECT_EQ(got, all(100, 4));
  OK(cuMemFreeAsync(p, s));
  OK(cuStreamSynchronize(s));
  OK(cuMemGetInfo_v2(&now, &total));
  EXPECT_EQ(now, before);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemAllocAsync(&p, 0, s));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemAllocAsync(nullptr, 4, s));
  FAILS(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocAsync(&p, size_t(1) << 30, s));
  // Memory whose free waits in a stream makes room when it is needed.
  for (int i = 0; i < 3; ++i) {
    OK(cuMemAllocAsync(&p, size_t(10) << 20, s));
    OK(cuMemFreeAsync(p, s));
  }
  OK(cuStreamSynchronize(s));
  OK(cuStreamDestroy_v2(s));
}

TEST_F(Cuda, MemoryPools) {
  CUmemoryPool pool = nullptr, standard = nullptr, now = nullptr;
  OK(cuDeviceGetDefaultMemPool(&standard, 0));
  OK(cuDeviceGetMemPool(&now, 0));
  EXPECT_EQ(now, standard);
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  OK(cuMemPoolCreate(&pool, &props));
  OK(cuDeviceSetMemPool(0, pool));
  OK(cuDeviceGetMemPool(&now, 0));
  EXPECT_EQ(now, pool);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuDeviceSetMemPool(1, pool)); // of another device
  cuuint64_t value = 1 << 20;
  OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value));
  value = 0;
  OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value));
  EXPECT_EQ(value, cuuint64_t(1) << 20);
  CUdeviceptr a, b;
  OK(cuMemAllocAsync(&a, 1000, nullptr)); // of the current pool
  OK(cuMemAllocFromPoolAsync(&b, 500, pool, nullptr));
  OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value));
  EXPECT_EQ(value, 1500u);
  CUmemoryPool of = nullptr;
  OK(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, a));
  EXPECT_EQ(of, pool);
  OK(cuMemFreeAsync(a, nullptr));
  OK(cuMemFree_v2(b)); // cuMemFree may free it, too
  OK(cuCtxSynchronize());
  OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value));
  EXPECT_EQ(value, 0u);
  OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &value));
  EXPECT_EQ(value, 1500u);
  value = 5;
  FAILS(CUDA_ERROR_INVALID_VALUE,
        cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &value));
  value = 0;
  OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &value));
  OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &value));
  EXPECT_EQ(value, 0u);
  // Open to kernels of the other device.
  CUmemLocation other{CU_MEM_LOCATION_TYPE_DEVICE, 1};
  CUmemAccess_flags access;
  OK(cuMemPoolGetAccess(&access, pool, &other));
  EXPECT_EQ(access, CU_MEM_ACCESS_FLAGS_PROT_NONE);
  CUmemAccessDesc open{other, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  OK(cuMemPoolSetAccess(pool, &open, 1));
  OK(cuMemPoolGetAccess(&access, pool, &other));
  EXPECT_EQ(access, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
  OK(cuMemAllocFromPoolAsync(&a, 400, pool, nullptr));
  OK(cuCtxSynchronize());
  {
    CUcontext there;
    OK(cuCtxCreate_v2(&there, 0, 1));
    CUmodule module;
    CUfunction f;
    OK(cuModuleLoadData(&module, kernels));
    OK(cuModuleGetFunction(&f, module, "fill"));
    unsigned nine = 9, hundred = 100;
    OK(launch(f, 2, 64, nullptr, {&a, &nine, &hundred}));
    OK(cuCtxSynchronize());
    OK(cuCtxDestroy_v2(there));
  }
  std::vector<unsigned> got(100);
  OK(cuMemcpyDtoH_v2(got.data(), a, 400));
  EXPECT_EQ(got, all(100, 9));
  OK(cuMemFreeAsync(a, nullptr));
  open.flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
  OK(cuMemPoolSetAccess(pool, &open, 1));
  open.location.id = 0; // the own device cannot be shut out
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemPoolSetAccess(pool, &open, 1));
  OK(cuMemPoolTrimTo(pool, 0));
  OK(cuMemPoolDestroy(pool));
  OK(cuDeviceGetMemPool(&now, 0));
  EXPECT_EQ(now, standard);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(standard));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuMemPoolCreate(&pool, nullptr));
}

TEST(StreamOrder, AllocationsAreReported) {
  REPORTED("use-after-free", [] { // used after its free in the stream
    CUdeviceptr p;
    MUST(cuMemAllocAsync(&p, 400, nullptr));
    MUST(cuMemFreeAsync(p, nullptr));
    MUST(fill(p, 4, 100));
    cuCtxSynchronize();
  });
  REPORTED("freed a second time", [] {
    CUdeviceptr p;
    MUST(cuMemAllocAsync(&p, 400, nullptr));
    MUST(cuMemFreeAsync(p, nullptr));
    WANT(cuMemFreeAsync(p, nullptr) == CUDA_ERROR_INVALID_VALUE);
    cuCtxSynchronize();
  });
  REPORTED("stream", [] { // used in another stream that does not wait for the allocation
    CUstream a, b;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    CUdeviceptr p;
    MUST(cuMemAllocAsync(&p, 400, a));
    MUST(fill(p, 4, 100, b));
    cuCtxSynchronize();
    MUST(cuMemFree_v2(p));
  });
  CLEAN([] {
    CUstream a, b;
    CUevent e;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&e, 0));
    CUdeviceptr p;
    MUST(cuMemAllocAsync(&p, 400, a));
    MUST(cuEventRecord(e, a));
    MUST(cuStreamWaitEvent(b, e, 0));
    MUST(fill(p, 4, 100, b));
    MUST(cuMemFreeAsync(p, b));
    MUST(cuCtxSynchronize());
  });
}

// What is in flight holds poison: a host that does not wait cannot get the right values.
TEST(Poison, HostThatReadsTooEarlySeesIt) {
  CLEAN([] {
    Words w(100);
    MUST(fill(w.p, 1234, 100));
    MUST(cuCtxSynchronize());
    unsigned *pinned;
    MUST(cuMemAllocHost_v2(reinterpret_cast<void **>(&pinned), 400));
    std::fill(pinned, pinned + 100, 1234u); // the values of the step before
    unsigned wrong = 0, rounds = 50;
    for (unsigned round = 0; round < rounds; ++round) {
      MUST(increment(w.p, 100));
      MUST(cuMemsetD32Async(w.p, 1234, 100, nullptr));
      MUST(cuMemcpyDtoHAsync_v2(pinned, w.p, 400, nullptr));
      wrong += pinned[50] != 1234;
      MUST(cuCtxSynchronize());
      WANT(pinned[50] == 1234);
    }
    WANT(wrong > rounds / 4); // drawn anew each time
    // With nothing before it the copy is in flight at once.
    MUST(cuMemcpyDtoHAsync_v2(pinned, w.p, 400, nullptr));
    WANT(pinned[50] != 1234);
    MUST(cuCtxSynchronize());
    MUST(cuMemFreeHost(pinned));
  });
}

TEST(Poison, KernelThatReadsTooEarlyIsReported) {
  REPORTED("stream", [] {
    Words w(100), x(100);
    MUST(cuMemsetD32_v2(w.p, 1, 100));
    MUST(cuMemsetD32_v2(x.p, 1, 100));
    MUST(cuCtxSynchronize());
    CUstream a, b;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    MUST(cuMemcpyDtoDAsync_v2(w.p, x.p, 400, a));
    MUST(increment(w.p, 100, b));
    MUST(cuStreamSynchronize(b));
    MUST(cuStreamSynchronize(a));
    for (unsigned v : w.get())
      WANT(v != 2); // poison, never the value that luck would give
  });
}

} // namespace
