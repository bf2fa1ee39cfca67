//===- Copies.cpp - Copies and memsets --------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

#include <cstring>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace sgpu::abi;

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
