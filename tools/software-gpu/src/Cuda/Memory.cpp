//===- Memory.cpp - Allocation, copies, memsets, pointers -------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

#include <cstdlib>
#include <cstring>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace sgpu::abi;

//===----------------------------------------------------------------------===//
// Allocation
//===----------------------------------------------------------------------===//

/// Fails unless a live allocation starts at the address; a second free is told.
static void refuseFree(DeviceMemory &memory, CUdeviceptr address, const std::string &name) {
  std::shared_ptr<const Allocation> a = memory.find(address);
  if (a && a->address == address && a->freedBy.empty() && !a->host && !a->keep)
    return;
  bool again = a && !a->freedBy.empty();
  Report r{.check = again ? Check::UseAfterFree : Check::Argument,
           .message = again ? "the memory is freed a second time; it was freed by " + a->freedBy
                            : "no allocation of the program starts at this address",
           .place = callPlace(name)};
  r.hasAddress = true;
  r.address = address;
  r.memory = memory.describe(address);
  Driver::get().reporter.add(std::move(r));
  fail(CUDA_ERROR_INVALID_VALUE);
}

static CUdeviceptr allocate(Lock &lock, CUcontext context, size_t bytes, const char *name) {
  Driver &driver = Driver::get();
  uint64_t address = context->device->memory->allocate(bytes, name);
  if (!address) { // frees that are in streams may make room
    driver.waitAll(lock, context);
    address = context->device->memory->allocate(bytes, name);
  }
  require(address, CUDA_ERROR_OUT_OF_MEMORY);
  return address;
}

CUresult abi::cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize) {
  return call([&](Driver &, Lock &lock) {
    CUcontext c = current();
    require(dptr && bytesize);
    unsafeInCapture();
    *dptr = allocate(lock, c, bytesize, "cuMemAlloc_v2");
    c->memory.insert(*dptr);
  });
}

CUresult abi::cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes,
                                 size_t Height, unsigned int ElementSizeBytes) {
  return call([&](Driver &, Lock &lock) {
    CUcontext c = current();
    require(dptr && pPitch && WidthInBytes && Height);
    require(ElementSizeBytes == 4 || ElementSizeBytes == 8 || ElementSizeBytes == 16);
    unsafeInCapture();
    *pPitch = (WidthInBytes + 511) / 512 * 512;
    *dptr = allocate(lock, c, *pPitch * Height, "cuMemAllocPitch_v2");
    c->memory.insert(*dptr);
  });
}

/// The memory belongs to no context and no pool any more.
static void forget(CUdeviceptr address) {
  for (const auto &[context, object] : state().contexts.all())
    context->memory.erase(address);
  for (const auto &[pool, object] : state().pools.all())
    if (auto it = pool->live.find(address); it != pool->live.end()) {
      pool->used -= it->second;
      pool->live.erase(it);
    }
}

// Freeing waits for all work of the context, as NVIDIA's driver does.
CUresult abi::cuMemFree_v2(CUdeviceptr dptr) {
  return call([&](Driver &driver, Lock &lock) {
    CUcontext c = current();
    if (!dptr)
      return;
    Device *d = driver.deviceOf(dptr);
    require(d);
    unsafeInCapture();
    refuseFree(*d->memory, dptr, "cuMemFree_v2");
    driver.waitAll(lock, c);
    d->memory->free(dptr, "cuMemFree_v2");
    forget(dptr);
    require(c->error == CUDA_SUCCESS, c->error);
  });
}

CUresult abi::cuMemGetInfo_v2(size_t *free, size_t *total) {
  return call([&](Driver &, Lock &) {
    CUcontext c = current();
    require(free && total);
    DeviceMemory &m = *c->device->memory;
    *total = m.total();
    *free = m.total() - m.used();
  });
}

CUresult abi::cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr) {
  return call([&](Driver &driver, Lock &) {
    current();
    Device *d = driver.deviceOf(dptr);
    std::shared_ptr<const Allocation> a = d ? d->memory->find(dptr) : nullptr;
    require(a && a->freedBy.empty(), CUDA_ERROR_NOT_FOUND);
    if (pbase)
      *pbase = a->address;
    if (psize)
      *psize = a->bytes;
  });
}

// Allocation and free in stream order. Touching the memory is checked as all work is: before its
// allocation in another stream it is a race, after its free a use after free.
static TaskRef orderTask(const char *name, CUdeviceptr address, uint64_t bytes, bool frees) {
  auto task = std::make_shared<Task>();
  task->name = name;
  task->type = frees ? CU_GRAPH_NODE_TYPE_MEM_FREE : CU_GRAPH_NODE_TYPE_MEM_ALLOC;
  task->run = [=, name = std::string(name)](Op &op) {
    Driver &driver = Driver::get();
    DeviceMemory &m = *driver.deviceOf(address)->memory;
    Access access;
    access.write = true;
    access.work = &op.work;
    if (m.check(address, bytes, access, [&] { return callPlace(name); }))
      m.setState(address, bytes, ByteState::Undefined);
    if (frees && op.freesMemory)
      m.free(address, name);
    return sgpu_progress::Done;
  };
  return task;
}

static CUmemoryPool defaultPool(Device &d) {
  for (const auto &[pool, object] : state().pools.all())
    if (pool->isDefault && pool->device == d.ordinal)
      return pool;
  auto pool = std::make_unique<CUmemPoolHandle_st>();
  pool->device = d.ordinal;
  pool->isDefault = true;
  return state().pools.add(std::move(pool));
}

static CUmemoryPool currentPool(Device &d) { return d.pool ? d.pool : d.pool = defaultPool(d); }

static void allocateAsync(Lock &lock, CUdeviceptr *dptr, size_t bytes, CUmemoryPool pool,
                          CUstream hStream, const char *name) {
  CUstream stream = findStream(hStream);
  require(dptr && bytes);
  require(!pool || state().pools.contains(pool));
  Device &d = pool ? *Driver::get().devices[size_t(pool->device)] : *stream->context->device;
  uint64_t address = d.memory->allocate(bytes, name);
  if (!address) {
    Driver::get().waitAll(lock, stream->context);
    address = d.memory->allocate(bytes, name);
  }
  require(address, CUDA_ERROR_OUT_OF_MEMORY);
  if (!pool)
    pool = currentPool(d);
  if (stream->capture) { // it lives as long as the graph
    d.memory->setKeep(address);
    stream->capture->graph->memory.push_back(address);
  } else {
    pool->live[address] = bytes;
    pool->used += bytes;
    pool->high = std::max(pool->high, pool->used);
  }
  *dptr = address;
  issue(lock, stream, orderTask(name, address, bytes, false));
}

CUresult abi::cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream) {
  return call([&](Driver &, Lock &lock) {
    allocateAsync(lock, dptr, bytesize, nullptr, hStream, "cuMemAllocAsync");
  });
}

CUresult abi::cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool,
                                      CUstream hStream) {
  return call([&](Driver &, Lock &lock) {
    require(pool);
    allocateAsync(lock, dptr, bytesize, pool, hStream, "cuMemAllocFromPoolAsync");
  });
}

CUresult abi::cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
  return call([&](Driver &driver, Lock &lock) {
    CUstream stream = findStream(hStream);
    if (!dptr)
      return;
    Device *d = driver.deviceOf(dptr);
    require(d);
    std::shared_ptr<const Allocation> a = d->memory->find(dptr);
    bool ofGraph = false;
    for (const auto &[graph, object] : state().graphs.all())
      for (CUdeviceptr m : graph->memory)
        ofGraph |= m == dptr;
    if (!ofGraph)
      refuseFree(*d->memory, dptr, "cuMemFreeAsync");
    if (driver.freeing.contains(dptr)) {
      Report r{.check = Check::UseAfterFree,
               .message = "the memory is freed a second time; it was freed by cuMemFreeAsync",
               .place = callPlace("cuMemFreeAsync")};
      r.hasAddress = true;
      r.address = dptr;
      r.memory = d->memory->describe(dptr);
      driver.reporter.add(std::move(r));
      fail(CUDA_ERROR_INVALID_VALUE);
    }
    TaskRef task = orderTask("cuMemFreeAsync", dptr, a->bytes, true);
    if (!stream->capture && !ofGraph) {
      driver.freeing.insert(dptr);
      forget(dptr);
    }
    // In a graph the memory stays the graph's: its contents end.
    auto own = std::make_shared<Task>(*task);
    bool really = !stream->capture && !ofGraph;
    own->run = [run = task->run, really, dptr](Op &op) {
      op.freesMemory = really;
      sgpu_progress p = run(op);
      if (really)
        Driver::get().freeing.erase(dptr);
      return p;
    };
    issue(lock, stream, own);
  });
}

//===----------------------------------------------------------------------===//
// Pools
//===----------------------------------------------------------------------===//

static Device &deviceAt(Driver &driver, int ordinal) {
  require(ordinal >= 0 && ordinal < int(driver.devices.size()), CUDA_ERROR_INVALID_DEVICE);
  return *driver.devices[size_t(ordinal)];
}

static CUmemoryPool findPool(CUmemoryPool pool) {
  require(pool && state().pools.contains(pool));
  return pool;
}

CUresult abi::cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    require(pool_out);
    *pool_out = defaultPool(deviceAt(driver, dev));
  });
}

CUresult abi::cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    require(pool);
    *pool = currentPool(deviceAt(driver, dev));
  });
}

CUresult abi::cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(findPool(pool)->device == d.ordinal);
    d.pool = pool;
  });
}

CUresult abi::cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps) {
  return call([&](Driver &driver, Lock &) {
    require(pool && poolProps && poolProps->allocType == CU_MEM_ALLOCATION_TYPE_PINNED &&
            poolProps->location.type == CU_MEM_LOCATION_TYPE_DEVICE);
    require(!poolProps->handleTypes, CUDA_ERROR_NOT_SUPPORTED);
    auto p = std::make_unique<CUmemPoolHandle_st>();
    p->device = deviceAt(driver, poolProps->location.id).ordinal;
    *pool = state().pools.add(std::move(p));
  });
}

CUresult abi::cuMemPoolDestroy(CUmemoryPool pool) {
  return call([&](Driver &driver, Lock &) {
    require(!findPool(pool)->isDefault);
    for (auto &d : driver.devices)
      if (d->pool == pool)
        d->pool = nullptr;
    state().pools.remove(pool);
  });
}

CUresult abi::cuMemPoolTrimTo(CUmemoryPool pool, size_t) {
  return call([&](Driver &, Lock &) { findPool(pool); }); // nothing is held back
}

CUresult abi::cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value) {
  return call([&](Driver &, Lock &) {
    CUmemoryPool p = findPool(pool);
    require(value && attr >= 1 && attr <= CU_MEMPOOL_ATTR_USED_MEM_HIGH);
    if (attr <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES)
      *static_cast<int *>(value) = p->reuse[attr - 1];
    else
      *static_cast<cuuint64_t *>(value) =
          attr == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD ? p->releaseThreshold
          : attr == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH || attr == CU_MEMPOOL_ATTR_USED_MEM_HIGH
              ? p->high
              : p->used;
  });
}

CUresult abi::cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value) {
  return call([&](Driver &, Lock &) {
    CUmemoryPool p = findPool(pool);
    require(value);
    if (attr >= 1 && attr <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES) {
      p->reuse[attr - 1] = *static_cast<int *>(value);
    } else if (attr == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) {
      p->releaseThreshold = *static_cast<cuuint64_t *>(value);
    } else {
      require(attr == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH || attr == CU_MEMPOOL_ATTR_USED_MEM_HIGH);
      require(*static_cast<cuuint64_t *>(value) == 0);
      p->high = p->used;
    }
  });
}

CUresult abi::cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map, size_t count) {
  return call([&](Driver &driver, Lock &) {
    CUmemoryPool p = findPool(pool);
    require(map || !count);
    for (size_t i = 0; i < count; ++i) {
      require(map[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE);
      Device &other = deviceAt(driver, map[i].location.id);
      require(map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ||
              (map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE && other.ordinal != p->device));
      if (map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE)
        p->peers.erase(other.ordinal);
      else if (other.ordinal != p->device)
        p->peers.insert(other.ordinal);
      updatePeers(other);
    }
  });
}

CUresult abi::cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool memPool,
                                 CUmemLocation *location) {
  return call([&](Driver &driver, Lock &) {
    CUmemoryPool p = findPool(memPool);
    require(flags && location && location->type == CU_MEM_LOCATION_TYPE_DEVICE);
    int other = deviceAt(driver, location->id).ordinal;
    *flags = other == p->device || p->peers.contains(other) ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                                                            : CU_MEM_ACCESS_FLAGS_PROT_NONE;
  });
}

//===----------------------------------------------------------------------===//
// Pinned memory of the host
//===----------------------------------------------------------------------===//

static void addPinned(Driver &driver, void *pointer, size_t bytes, bool registered, unsigned flags,
                      const char *name) {
  driver.pinned[reinterpret_cast<uint64_t>(pointer)] = {bytes, registered, flags};
  for (auto &d : driver.devices)
    d->memory->addHost(pointer, bytes, name);
}

static CUresult hostAlloc(void **pp, size_t bytes, unsigned flags, const char *name) {
  return call([&](Driver &driver, Lock &) {
    current();
    require(pp && bytes && !(flags & ~7u));
    unsafeInCapture();
    size_t size = (bytes + 4095) / 4096 * 4096;
    void *pointer = std::aligned_alloc(4096, size);
    require(pointer, CUDA_ERROR_OUT_OF_MEMORY);
    std::memset(pointer, 0xa5 ^ int(driver.options.seed & 0xff), bytes); // nobody wrote it
    addPinned(driver, pointer, bytes, false, flags, name);
    *pp = pointer;
  });
}

CUresult abi::cuMemAllocHost_v2(void **pp, size_t bytesize) {
  return hostAlloc(pp, bytesize, 0, "cuMemAllocHost_v2");
}

CUresult abi::cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags) {
  return hostAlloc(pp, bytesize, Flags, "cuMemHostAlloc");
}

CUresult abi::cuMemFreeHost(void *p) {
  return call([&](Driver &driver, Lock &lock) {
    CUcontext c = current();
    auto it = driver.pinned.find(reinterpret_cast<uint64_t>(p));
    require(it != driver.pinned.end() && !it->second.registered);
    unsafeInCapture();
    driver.waitAll(lock, nullptr);
    for (auto &d : driver.devices)
      d->memory->free(reinterpret_cast<uint64_t>(p), "cuMemFreeHost");
    driver.pinned.erase(reinterpret_cast<uint64_t>(p));
    std::free(p);
    require(c->error == CUDA_SUCCESS, c->error);
  });
}

CUresult abi::cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags) {
  return call([&](Driver &driver, Lock &) {
    current();
    require(p && bytesize && !(Flags & ~0xfu));
    uint64_t start = reinterpret_cast<uint64_t>(p);
    for (const auto &[other, pin] : driver.pinned)
      require(other >= start + bytesize || start >= other + pin.bytes,
              CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    addPinned(driver, p, bytesize, true, Flags, "cuMemHostRegister_v2");
  });
}

CUresult abi::cuMemHostUnregister(void *p) {
  return call([&](Driver &driver, Lock &lock) {
    current();
    auto it = driver.pinned.find(reinterpret_cast<uint64_t>(p));
    require(it != driver.pinned.end() && it->second.registered,
            CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    driver.waitAll(lock, nullptr);
    for (auto &d : driver.devices)
      d->memory->free(reinterpret_cast<uint64_t>(p), "cuMemHostUnregister");
    driver.pinned.erase(reinterpret_cast<uint64_t>(p));
  });
}

CUresult abi::cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags) {
  return call([&](Driver &driver, Lock &) {
    current();
    require(pdptr && !Flags && driver.isPinned(p));
    *pdptr = reinterpret_cast<uint64_t>(p);
  });
}

CUresult abi::cuMemHostGetFlags(unsigned int *pFlags, void *p) {
  return call([&](Driver &driver, Lock &) {
    current();
    uint64_t start;
    require(pFlags && driver.isPinned(p, &start));
    *pFlags = driver.pinned[start].flags | hostAllocDeviceMap;
  });
}

//===----------------------------------------------------------------------===//
// Pointers
//===----------------------------------------------------------------------===//

static void pointerAttribute(Driver &driver, void *data, CUpointer_attribute attribute,
                             CUdeviceptr pointer) {
  require(data);
  Device *d = driver.deviceOf(pointer);
  std::shared_ptr<const Allocation> a = d ? d->memory->find(pointer) : nullptr;
  if (a && (!a->freedBy.empty() || pointer - a->address >= a->bytes))
    a = nullptr;
  uint64_t start = 0, bytes = 0;
  bool pinned = driver.isPinned(reinterpret_cast<void *>(pointer), &start, &bytes);
  require(a || pinned);
  if (a)
    start = a->address, bytes = a->bytes;
  switch (attribute) {
  case CU_POINTER_ATTRIBUTE_CONTEXT: {
    CUcontext owner = nullptr;
    for (const auto &[c, object] : state().contexts.all())
      if (c->memory.contains(start))
        owner = c;
    *static_cast<CUcontext *>(data) = owner ? owner : d ? d->primary : current();
    break;
  }
  case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    *static_cast<unsigned *>(data) = a ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    break;
  case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    *static_cast<CUdeviceptr *>(data) = pointer;
    break;
  case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    require(pinned);
    *static_cast<void **>(data) = reinterpret_cast<void *>(pointer);
    break;
  case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    *static_cast<int *>(data) = 0;
    break;
  case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    *static_cast<unsigned long long *>(data) = a ? a->id : start;
    break;
  case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    *static_cast<bool *>(data) = false;
    break;
  case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    *static_cast<int *>(data) = d ? d->ordinal : current()->device->ordinal;
    break;
  case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    *static_cast<bool *>(data) = false;
    break;
  case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    *static_cast<CUdeviceptr *>(data) = start;
    break;
  case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    *static_cast<size_t *>(data) = bytes;
    break;
  case CU_POINTER_ATTRIBUTE_MAPPED:
    *static_cast<bool *>(data) = true;
    break;
  case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
    *static_cast<unsigned long long *>(data) = 3;
    break;
  case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: {
    CUmemoryPool found = nullptr;
    for (const auto &[pool, object] : state().pools.all())
      if (pool->live.contains(start))
        found = pool;
    *static_cast<CUmemoryPool *>(data) = found;
    break;
  }
  default:
    fail(CUDA_ERROR_NOT_SUPPORTED);
  }
}

CUresult abi::cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr ptr) {
  return call([&](Driver &driver, Lock &) {
    current();
    pointerAttribute(driver, data, attribute, ptr);
  });
}

// Of a pointer that the driver does not know all are 0, without an error.
CUresult abi::cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute *attributes,
                                     void **data, CUdeviceptr ptr) {
  return call([&](Driver &driver, Lock &) {
    current();
    require(numAttributes && attributes && data);
    for (unsigned i = 0; i < numAttributes; ++i) {
      try {
        pointerAttribute(driver, data[i], attributes[i], ptr);
      } catch (const Failure &) {
        switch (attributes[i]) {
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
          *static_cast<unsigned *>(data[i]) = 0;
          break;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
          *static_cast<int *>(data[i]) = -2;
          break;
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
          *static_cast<int *>(data[i]) = 0;
          break;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_MAPPED:
          *static_cast<bool *>(data[i]) = false;
          break;
        default:
          *static_cast<uint64_t *>(data[i]) = 0;
        }
      }
    }
  });
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

namespace {
enum class Memory { Device, Pinned, Pageable };

struct Side { ///< of a copy
  Memory memory = Memory::Pageable;
  uint64_t address = 0, pitch = 0, slice = 0;   ///< bytes between rows and between planes
  std::shared_ptr<std::vector<uint8_t>> staged; ///< rows one after the other
  uint64_t row(uint64_t y, uint64_t z) const { return address + y * pitch + z * slice; }
};
} // namespace

static Memory memoryOf(Driver &driver, uint64_t address) {
  return driver.deviceOf(address)                             ? Memory::Device
         : driver.isPinned(reinterpret_cast<void *>(address)) ? Memory::Pinned
                                                              : Memory::Pageable;
}

bool sgpu::cuda::isPageable(Driver &driver, uint64_t address) {
  return memoryOf(driver, address) == Memory::Pageable;
}

static std::vector<sgpu_range> rowsOf(const Side &s, uint64_t width, uint64_t height,
                                      uint64_t depth) {
  std::vector<sgpu_range> rows;
  for (uint64_t z = 0; z < depth; ++z)
    for (uint64_t y = 0; y < height; ++y)
      rows.push_back({s.row(y, z), width});
  return rows;
}

/// Fails with a report unless rows lie in one live allocation.
static void requireRows(Driver &driver, const Side &side, const std::string &name, uint64_t width,
                        uint64_t height, uint64_t depth, bool write) {
  if (side.memory != Memory::Device)
    return;
  DeviceMemory &m = *driver.deviceOf(side.address)->memory;
  uint64_t bytes = side.row(height - 1, depth - 1) + width - side.address;
  if (m.host(side.address, bytes))
    return;
  Access access;
  access.write = write;
  m.check(side.address, bytes, access, [&] { return callPlace(name); });
  fail(CUDA_ERROR_INVALID_VALUE);
}

static Side sideOf(Driver &driver, CUmemorytype type, const void *host, CUdeviceptr device,
                   size_t pitch, size_t height, size_t x, size_t y, size_t z, size_t width) {
  Side s;
  require(type != CU_MEMORYTYPE_ARRAY, CUDA_ERROR_NOT_SUPPORTED);
  require(type == CU_MEMORYTYPE_HOST || type == CU_MEMORYTYPE_DEVICE ||
          type == CU_MEMORYTYPE_UNIFIED);
  s.address = type == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(host) : device;
  require(s.address);
  s.memory = memoryOf(driver, s.address);
  require(
      type == CU_MEMORYTYPE_UNIFIED ||
      (type == CU_MEMORYTYPE_DEVICE ? s.memory != Memory::Pageable : s.memory != Memory::Device));
  s.pitch = pitch ? pitch : x + width;
  s.slice = s.pitch * height;
  s.address += x + y * s.pitch + z * s.slice;
  return s;
}

TaskRef sgpu::cuda::copyTask(Driver &driver, const std::string &name, const CUDA_MEMCPY3D &copy,
                             bool stage, bool &pageableTarget) {
  uint64_t width = copy.WidthInBytes, height = copy.Height, depth = copy.Depth;
  Side from = sideOf(driver, copy.srcMemoryType, copy.srcHost, copy.srcDevice, copy.srcPitch,
                     copy.srcHeight, copy.srcXInBytes, copy.srcY, copy.srcZ, width);
  Side to = sideOf(driver, copy.dstMemoryType, copy.dstHost, copy.dstDevice, copy.dstPitch,
                   copy.dstHeight, copy.dstXInBytes, copy.dstY, copy.dstZ, width);
  require(height <= 1 || (from.pitch >= width && to.pitch >= width));
  require(copy.srcPitch <= INT32_MAX && copy.dstPitch <= INT32_MAX); // MAX_PITCH
  pageableTarget = to.memory == Memory::Pageable;
  auto task = std::make_shared<Task>();
  task->name = name;
  task->type = CU_GRAPH_NODE_TYPE_MEMCPY;
  task->copy = copy;
  task->faultCode = CUDA_ERROR_ILLEGAL_ADDRESS;
  task->nanoseconds = 1000 + width * height * depth / 20;
  requireRows(driver, from, name, width, height, depth, false);
  requireRows(driver, to, name, width, height, depth, true);
  task->reads = rowsOf(from, width, height, depth);
  task->writes = rowsOf(to, width, height, depth);
  if (from.memory == Memory::Pageable && stage) {
    from.staged = std::make_shared<std::vector<uint8_t>>(width * height * depth);
    for (uint64_t z = 0; z < depth; ++z)
      for (uint64_t y = 0; y < height; ++y)
        std::memcpy(from.staged->data() + (z * height + y) * width,
                    reinterpret_cast<void *>(from.row(y, z)), width);
    task->reads.clear();
  }
  task->run = [from, to, width, height, depth, name](Op &op) {
    Driver &driver = Driver::get();
    auto memory = [&](uint64_t address) -> DeviceMemory & {
      Device *d = driver.deviceOf(address);
      return d ? *d->memory : *op.context->device->memory;
    };
    auto at = [&] { return callPlace(name); };
    Access reads, writes;
    reads.work = writes.work = &op.work;
    writes.write = true;
    std::vector<uint8_t> buffer(width);
    bool exists = true;
    for (uint64_t z = 0; z < depth; ++z)
      for (uint64_t y = 0; y < height; ++y) {
        uint64_t source = from.row(y, z), target = to.row(y, z);
        bool checkedSource = from.memory != Memory::Pageable;
        if (checkedSource && to.memory == Memory::Device && &memory(source) == &memory(target)) {
          exists &= memory(source).copy(target, source, width, reads, writes, at);
          continue;
        }
        const void *bytes = buffer.data();
        if (checkedSource)
          exists &= memory(source).read(source, width, buffer.data(), reads, at);
        else
          bytes = from.staged ? from.staged->data() + (z * height + y) * width
                              : reinterpret_cast<void *>(source);
        if (to.memory == Memory::Pageable)
          std::memcpy(reinterpret_cast<void *>(target), bytes, width);
        else
          exists &= memory(target).write(target, width, bytes, writes, at);
      }
    return exists ? sgpu_progress::Done : sgpu_progress::Fault;
  };
  return task;
}

/// How a call returns: cuMemcpy... or cuMemcpy...Async.
enum class Returns { Synchronous, Asynchronous };

/// Issues a copy and returns as the API's rules say ("API synchronization behavior").
static void copyBytes(Driver &driver, Lock &lock, const char *name, CUDA_MEMCPY3D copy,
                      CUstream hStream, Returns returns) {
  CUstream stream = findStream(hStream);
  if (!copy.WidthInBytes || !copy.Height || !copy.Depth)
    return;
  if (returns == Returns::Synchronous)
    unsafeInCapture();
  bool pageableTarget = false;
  if (returns == Returns::Synchronous)
    waitFor(lock, stream); // what was there before is done when the host's bytes are read
  TaskRef task = copyTask(driver, name, copy, !stream->capture, pageableTarget);
  bool fromDevice = !task->reads.empty() && driver.deviceOf(task->reads[0].address);
  bool toDevice = driver.deviceOf(task->writes[0].address);
  bool staged = task->reads.empty();
  OpRef op = issue(lock, stream, task);
  if (!op)
    return; // captured
  // Nobody can see a host that reads too early, but it can get poison: what comes before the copy is
  // done now (or not), so that the copy alone is late.
  if (returns == Returns::Asynchronous && !toDevice &&
      driver.options.completion != Completion::Early && driver.random.below(2))
    driver.bringForward(lock, op);
  bool waits = pageableTarget || (!fromDevice && !toDevice);
  if (returns == Returns::Synchronous)
    waits = !(fromDevice && toDevice) && !(staged && toDevice);
  if (waits)
    waitChecked(lock, stream->context, op);
}

static CUDA_MEMCPY3D line(CUmemorytype toType, uint64_t to, CUmemorytype fromType, uint64_t from,
                          size_t bytes) {
  CUDA_MEMCPY3D c{};
  c.srcMemoryType = fromType;
  c.srcHost = reinterpret_cast<void *>(from);
  c.srcDevice = from;
  c.dstMemoryType = toType;
  c.dstHost = reinterpret_cast<void *>(to);
  c.dstDevice = to;
  c.WidthInBytes = bytes;
  c.Height = c.Depth = 1;
  return c;
}

static CUresult copyLine(const char *name, CUmemorytype toType, uint64_t to, CUmemorytype fromType,
                         uint64_t from, size_t bytes, CUstream stream, Returns returns) {
  return call([&](Driver &driver, Lock &lock) {
    copyBytes(driver, lock, name, line(toType, to, fromType, from, bytes), stream, returns);
  });
}

static uint64_t number(const void *p) { return reinterpret_cast<uint64_t>(p); }

CUresult abi::cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
  return copyLine("cuMemcpy", CU_MEMORYTYPE_UNIFIED, dst, CU_MEMORYTYPE_UNIFIED, src, ByteCount,
                  nullptr, Returns::Synchronous);
}
CUresult abi::cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
  return copyLine("cuMemcpyAsync", CU_MEMORYTYPE_UNIFIED, dst, CU_MEMORYTYPE_UNIFIED, src,
                  ByteCount, hStream, Returns::Asynchronous);
}
CUresult abi::cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount) {
  return copyLine("cuMemcpyHtoD_v2", CU_MEMORYTYPE_DEVICE, dstDevice, CU_MEMORYTYPE_HOST,
                  number(srcHost), ByteCount, nullptr, Returns::Synchronous);
}
CUresult abi::cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
  return copyLine("cuMemcpyDtoH_v2", CU_MEMORYTYPE_HOST, number(dstHost), CU_MEMORYTYPE_DEVICE,
                  srcDevice, ByteCount, nullptr, Returns::Synchronous);
}
CUresult abi::cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
  return copyLine("cuMemcpyDtoD_v2", CU_MEMORYTYPE_DEVICE, dstDevice, CU_MEMORYTYPE_DEVICE,
                  srcDevice, ByteCount, nullptr, Returns::Synchronous);
}
CUresult abi::cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount,
                                   CUstream hStream) {
  return copyLine("cuMemcpyHtoDAsync_v2", CU_MEMORYTYPE_DEVICE, dstDevice, CU_MEMORYTYPE_HOST,
                  number(srcHost), ByteCount, hStream, Returns::Asynchronous);
}
CUresult abi::cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount,
                                   CUstream hStream) {
  return copyLine("cuMemcpyDtoHAsync_v2", CU_MEMORYTYPE_HOST, number(dstHost), CU_MEMORYTYPE_DEVICE,
                  srcDevice, ByteCount, hStream, Returns::Asynchronous);
}
CUresult abi::cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount,
                                   CUstream hStream) {
  return copyLine("cuMemcpyDtoDAsync_v2", CU_MEMORYTYPE_DEVICE, dstDevice, CU_MEMORYTYPE_DEVICE,
                  srcDevice, ByteCount, hStream, Returns::Asynchronous);
}

static void requireContext(CUcontext context, CUdeviceptr address) {
  require(context && state().contexts.contains(context), CUDA_ERROR_INVALID_CONTEXT);
  require(Driver::get().deviceOf(address) == context->device);
}

CUresult abi::cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                                CUcontext srcContext, size_t ByteCount, CUstream hStream) {
  return call([&](Driver &driver, Lock &lock) {
    requireContext(dstContext, dstDevice);
    requireContext(srcContext, srcDevice);
    copyBytes(driver, lock, "cuMemcpyPeerAsync",
              line(CU_MEMORYTYPE_DEVICE, dstDevice, CU_MEMORYTYPE_DEVICE, srcDevice, ByteCount),
              hStream, Returns::Asynchronous);
  });
}

CUresult abi::cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice,
                           CUcontext srcContext, size_t ByteCount) {
  return cuMemcpyPeerAsync(dstDevice, dstContext, srcDevice, srcContext, ByteCount, nullptr);
}

static CUDA_MEMCPY3D solid(const CUDA_MEMCPY2D &p) {
  CUDA_MEMCPY3D c{};
  c.srcXInBytes = p.srcXInBytes, c.srcY = p.srcY, c.srcMemoryType = p.srcMemoryType;
  c.srcHost = p.srcHost, c.srcDevice = p.srcDevice, c.srcPitch = p.srcPitch;
  c.dstXInBytes = p.dstXInBytes, c.dstY = p.dstY, c.dstMemoryType = p.dstMemoryType;
  c.dstHost = p.dstHost, c.dstDevice = p.dstDevice, c.dstPitch = p.dstPitch;
  c.WidthInBytes = p.WidthInBytes, c.Height = p.Height, c.Depth = 1;
  return c;
}

CUresult abi::cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy) {
  return call([&](Driver &driver, Lock &lock) {
    require(pCopy);
    copyBytes(driver, lock, "cuMemcpy2D_v2", solid(*pCopy), nullptr, Returns::Synchronous);
  });
}
CUresult abi::cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *pCopy) { return cuMemcpy2D_v2(pCopy); }
CUresult abi::cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pCopy, CUstream hStream) {
  return call([&](Driver &driver, Lock &lock) {
    require(pCopy);
    copyBytes(driver, lock, "cuMemcpy2DAsync_v2", solid(*pCopy), hStream, Returns::Asynchronous);
  });
}
CUresult abi::cuMemcpy3D_v2(const CUDA_MEMCPY3D *pCopy) {
  return call([&](Driver &driver, Lock &lock) {
    require(pCopy);
    copyBytes(driver, lock, "cuMemcpy3D_v2", *pCopy, nullptr, Returns::Synchronous);
  });
}
CUresult abi::cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *pCopy, CUstream hStream) {
  return call([&](Driver &driver, Lock &lock) {
    require(pCopy);
    copyBytes(driver, lock, "cuMemcpy3DAsync_v2", *pCopy, hStream, Returns::Asynchronous);
  });
}

//===----------------------------------------------------------------------===//
// Memsets
//===----------------------------------------------------------------------===//

TaskRef sgpu::cuda::setTask(Driver &driver, const std::string &name, CUdeviceptr to, size_t pitch,
                            uint32_t value, unsigned elementSize, size_t width, size_t height) {
  Side side;
  side.memory = memoryOf(driver, to);
  side.address = to;
  side.pitch = pitch;
  uint64_t bytes = width * elementSize;
  require(side.memory != Memory::Pageable && to % elementSize == 0);
  require(elementSize == 1 || elementSize == 2 || elementSize == 4);
  require(height <= 1 || (pitch >= bytes && pitch % elementSize == 0));
  requireRows(driver, side, name, bytes, height, 1, true);
  auto task = std::make_shared<Task>();
  task->name = name;
  task->type = CU_GRAPH_NODE_TYPE_MEMSET;
  task->set = {to, pitch, value, elementSize, width, height};
  task->faultCode = CUDA_ERROR_ILLEGAL_ADDRESS;
  task->nanoseconds = 1000 + bytes * height / 1000;
  task->writes = rowsOf(side, bytes, height, 1);
  task->run = [=](Op &op) {
    Driver &driver = Driver::get();
    Device *d = driver.deviceOf(to);
    DeviceMemory &m = d ? *d->memory : *op.context->device->memory;
    Access writes;
    writes.work = &op.work;
    writes.write = true;
    std::vector<uint8_t> row(bytes);
    for (uint64_t i = 0; i < bytes; i += elementSize)
      std::memcpy(row.data() + i, &value, elementSize);
    bool exists = true;
    for (uint64_t y = 0; y < height; ++y)
      exists &= m.write(side.row(y, 0), bytes, row.data(), writes, [&] { return callPlace(name); });
    return exists ? sgpu_progress::Done : sgpu_progress::Fault;
  };
  return task;
}

/// Memsets do not wait, those without Async neither, but for pinned memory.
static CUresult setBytes(const char *name, CUdeviceptr to, size_t pitch, uint32_t value,
                         unsigned elementSize, size_t width, size_t height, CUstream hStream,
                         Returns returns) {
  return call([&](Driver &driver, Lock &lock) {
    CUstream stream = findStream(hStream);
    if (!width || !height)
      return;
    if (returns == Returns::Synchronous)
      unsafeInCapture();
    TaskRef task = setTask(driver, name, to, pitch, value, elementSize, width, height);
    OpRef op = issue(lock, stream, task);
    if (op && returns == Returns::Synchronous && !driver.deviceOf(to))
      waitChecked(lock, stream->context, op);
  });
}

#define SET(type, bits, size)                                                                      \
  CUresult abi::cuMemsetD##bits##_v2(CUdeviceptr dstDevice, type value, size_t N) {                \
    return setBytes("cuMemsetD" #bits "_v2", dstDevice, 0, value, size, N, 1, nullptr,             \
                    Returns::Synchronous);                                                         \
  }                                                                                                \
  CUresult abi::cuMemsetD##bits##Async(CUdeviceptr dstDevice, type value, size_t N,                \
                                       CUstream hStream) {                                         \
    return setBytes("cuMemsetD" #bits "Async", dstDevice, 0, value, size, N, 1, hStream,           \
                    Returns::Asynchronous);                                                        \
  }                                                                                                \
  CUresult abi::cuMemsetD2D##bits##_v2(CUdeviceptr dstDevice, size_t dstPitch, type value,         \
                                       size_t Width, size_t Height) {                              \
    return setBytes("cuMemsetD2D" #bits "_v2", dstDevice, dstPitch, value, size, Width, Height,    \
                    nullptr, Returns::Synchronous);                                                \
  }                                                                                                \
  CUresult abi::cuMemsetD2D##bits##Async(CUdeviceptr dstDevice, size_t dstPitch, type value,       \
                                         size_t Width, size_t Height, CUstream hStream) {          \
    return setBytes("cuMemsetD2D" #bits "Async", dstDevice, dstPitch, value, size, Width, Height,  \
                    hStream, Returns::Asynchronous);                                               \
  }
SET(unsigned char, 8, 1)
SET(unsigned short, 16, 2)
SET(unsigned int, 32, 4)
#undef SET
