//===- Memory.cpp - Allocation, pools, pinned memory, pointers --------------===//
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
