//===- Context.cpp - The driver, devices and contexts -----------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"
#include "Support/OfThread.h"

#include <cstdio>
#include <cstring>
#include <string_view>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace sgpu::abi;

//===----------------------------------------------------------------------===//
// Errors, the driver
//===----------------------------------------------------------------------===//

namespace {
struct ErrorText {
  CUresult code;
  const char *name, *text;
};
constexpr ErrorText errorTexts[] = {
#define CUDA_ERROR_TEXT(code, text) {code, #code, text},
#include "Errors.def"
};
const ErrorText *errorText(CUresult error) {
  for (const ErrorText &e : errorTexts)
    if (e.code == error)
      return &e;
  return nullptr;
}

/// A function for programs whose default stream is that of the thread.
template <auto function> struct PerThread;
template <typename... Parameters, CUresult (*function)(Parameters...)> struct PerThread<function> {
  static CUresult call(Parameters... parameters) {
    DefaultStreamOfThread scope;
    return function(parameters...);
  }
};

struct Export {
  const char *name;
  void *address, *perThread;
};
const Export functions[] = {
#define CUDA_FUNCTION(name, parameters)                                                            \
  {#name, reinterpret_cast<void *>(&abi::name),                                                    \
   reinterpret_cast<void *>(&PerThread<&abi::name>::call)},
#include "abi/cuda_functions.def"
};
} // namespace

CUresult abi::cuGetErrorString(CUresult error, const char **pStr) {
  if (!pStr)
    return CUDA_ERROR_INVALID_VALUE;
  const ErrorText *e = errorText(error);
  *pStr = e ? e->text : nullptr;
  return e ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult abi::cuGetErrorName(CUresult error, const char **pStr) {
  if (!pStr)
    return CUDA_ERROR_INVALID_VALUE;
  const ErrorText *e = errorText(error);
  *pStr = e ? e->name : nullptr;
  return e ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult abi::cuInit(unsigned int Flags) {
  if (Flags)
    return CUDA_ERROR_INVALID_VALUE;
  Driver::get();
  return CUDA_SUCCESS;
}

CUresult abi::cuDriverGetVersion(int *version) {
  if (!version)
    return CUDA_ERROR_INVALID_VALUE;
  // Also before cuInit, which tells of variables that are wrong.
  static const int driver = [] {
    try {
      return Options::fromEnvironment().driver;
    } catch (const Error &) {
      return Options().driver;
    }
  }();
  *version = driver;
  return CUDA_SUCCESS;
}

// The newest version of the name that is not newer than what the caller was built with.
CUresult abi::cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags,
                                  CUdriverProcAddressQueryResult *symbolStatus) {
  if (!symbol || !pfn || cudaVersion < 0 || flags > 2)
    return CUDA_ERROR_INVALID_VALUE;
  std::string_view wanted = symbol;
  if (wanted == "cuGraphInstantiate" && cudaVersion >= 11040)
    wanted = "cuGraphInstantiateWithFlags"; // what its name means since CUDA 11.4
  const Export *found = nullptr;
  for (const Export &f : functions) {
    std::string_view name = f.name, rest = name;
    // Names that got another form later, for programs that were built before.
    bool tooNew =
        (name == "cuCtxCreate_v4" && cudaVersion < 12050) ||
        (name == "cuStreamGetCaptureInfo_v3" && cudaVersion < 12030) ||
        (name == "cuGetProcAddress_v2" && cudaVersion < 12000) ||
        (name == "cuCtxGetDevice_v2" || name == "cuCtxSynchronize_v2") || // other parameters
        ((name == "cuGraphAddDependencies_v2" || name == "cuGraphRemoveDependencies_v2" ||
          name == "cuGraphGetEdges_v2" || name == "cuGraphNodeGetDependencies_v2" ||
          name == "cuGraphNodeGetDependentNodes_v2" ||
          name == "cuStreamUpdateCaptureDependencies_v2") &&
         cudaVersion < 13000) ||
        (name == "cuEventElapsedTime_v2" && cudaVersion < 12080);
    if (!name.starts_with(wanted) || (tooNew && name != wanted))
      continue;
    rest.remove_prefix(wanted.size());
    if (rest.empty() ? !found
                     : rest.size() == 3 && rest.starts_with("_v") && rest[2] >= '2' &&
                           (!found || name > found->name))
      found = &f;
  }
  *pfn = !found                                                  ? nullptr
         : flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM ? found->perThread
                                                                 : found->address;
  if (symbolStatus)
    *symbolStatus = found ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return found || symbolStatus ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult abi::cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, nullptr);
}

//===----------------------------------------------------------------------===//
// Devices
//===----------------------------------------------------------------------===//

static Device &deviceAt(Driver &driver, CUdevice ordinal) {
  require(ordinal >= 0 && ordinal < int(driver.devices.size()), CUDA_ERROR_INVALID_DEVICE);
  return *driver.devices[size_t(ordinal)];
}

CUresult abi::cuDeviceGet(CUdevice *device, int ordinal) {
  return call([&](Driver &driver, Lock &) {
    require(device);
    *device = deviceAt(driver, ordinal).ordinal;
  });
}

CUresult abi::cuDeviceGetCount(int *count) {
  return call([&](Driver &driver, Lock &) {
    require(count);
    *count = int(driver.devices.size());
  });
}

CUresult abi::cuDeviceGetName(char *name, int len, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(name && len > 0);
    std::snprintf(name, size_t(len), "%s", d.chip->name);
  });
}

CUresult abi::cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(uuid);
    std::memcpy(uuid->bytes, "software-gpu-0000", 16);
    uuid->bytes[15] = char('0' + d.ordinal);
  });
}

CUresult abi::cuDeviceGetUuid(CUuuid *uuid, CUdevice dev) { return cuDeviceGetUuid_v2(uuid, dev); }

CUresult abi::cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(bytes);
    *bytes = d.memory->total();
  });
}

// A100 SXM and H100 SXM. Sources: CUDA C++ Programming Guide 13.0, "Compute Capabilities"; what
// deviceQuery prints on them, for clocks, buses and caches.
static int attributeOf(const Driver &driver, const Device &d, CUdevice_attribute attribute) {
  bool hopper = d.chip->capability >= 90;
  int devices = int(driver.devices.size());
  switch (attribute) {
#define ATTRIBUTE(name, ampereValue, hopperValue)                                                  \
  case CU_DEVICE_ATTRIBUTE_##name:                                                                 \
    return hopper ? int(hopperValue) : int(ampereValue);
#include "Attributes.def"
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
    return d.chip->capability / 10;
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
    return d.chip->capability % 10;
  case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
    return int(d.chip->multiprocessors);
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    return int(d.chip->threadsPerBlock);
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
    return int(d.chip->threadsPerSm);
  case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
    return int(d.chip->blocksPerSm);
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
    return int(d.chip->sharedPerBlock);
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
    return int(d.chip->sharedPerBlockOptin);
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
    return int(d.chip->sharedPerSm);
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    return int(d.chip->registersPerSm);
  case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
    return 0x10 + d.ordinal;
  case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID:
  case CU_DEVICE_ATTRIBUTE_NUMA_ID:
    return attribute == CU_DEVICE_ATTRIBUTE_NUMA_ID ? -1 : 0;
  case CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED:
    return hopper && devices > 1;
  default:
    // What is left is 0: features that the software GPU lacks.
    require(attribute >= 1 &&
            attribute <= CU_DEVICE_ATTRIBUTE_ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED);
    return 0;
  }
}

CUresult abi::cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(pi);
    *pi = attributeOf(driver, d, attrib);
  });
}

CUresult abi::cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(pciBusId && len >= 13);
    std::snprintf(pciBusId, size_t(len), "0000:%02x:00.0", unsigned(0x10 + d.ordinal));
  });
}

CUresult abi::cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId) {
  return call([&](Driver &driver, Lock &) {
    require(dev && pciBusId);
    unsigned domain, bus, slot, function = 0;
    require(std::sscanf(pciBusId, "%x:%x:%x.%x", &domain, &bus, &slot, &function) >= 3 && !domain &&
                !slot && !function && bus >= 0x10 && bus - 0x10 < driver.devices.size(),
            CUDA_ERROR_INVALID_DEVICE);
    *dev = int(bus - 0x10);
  });
}

CUresult abi::cuDeviceComputeCapability(int *major, int *minor, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(major && minor);
    *major = d.chip->capability / 10;
    *minor = d.chip->capability % 10;
  });
}

CUresult abi::cuDeviceCanAccessPeer(int *canAccessPeer, CUdevice dev, CUdevice peerDev) {
  return call([&](Driver &driver, Lock &) {
    require(canAccessPeer);
    *canAccessPeer = &deviceAt(driver, dev) != &deviceAt(driver, peerDev);
  });
}

CUresult abi::cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attrib, CUdevice srcDevice,
                                      CUdevice dstDevice) {
  return call([&](Driver &driver, Lock &) {
    require(value && attrib >= 1 && attrib <= 5);
    require(&deviceAt(driver, srcDevice) != &deviceAt(driver, dstDevice),
            CUDA_ERROR_INVALID_DEVICE);
    *value = attrib == CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED ||
             attrib == CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED;
  });
}

//===----------------------------------------------------------------------===//
// Contexts
//===----------------------------------------------------------------------===//

std::vector<CUcontext> &sgpu::cuda::contextStack() {
  struct Stack {
    std::vector<CUcontext> contexts;
  };
  return ofThread<Stack>().contexts;
}

static CUcontext findContext(CUcontext context) {
  require(context && state().contexts.contains(context), CUDA_ERROR_INVALID_CONTEXT);
  return context;
}

CUcontext sgpu::cuda::current() {
  std::vector<CUcontext> &stack = contextStack();
  require(!stack.empty() && stack.back(), CUDA_ERROR_INVALID_CONTEXT);
  require(state().contexts.contains(stack.back()), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  require(stack.back()->error == CUDA_SUCCESS, stack.back()->error);
  return stack.back();
}

CUcontext sgpu::cuda::makeContext(Device &device, bool primary) {
  auto context = std::make_unique<CUctx_st>();
  context->device = &device;
  context->primary = primary;
  context->flags = primary ? device.primaryFlags : 0;
  CUcontext c = state().contexts.add(std::move(context));
  c->legacy = makeStream(c, CU_STREAM_DEFAULT, 0);
  c->legacy->isLegacy = true;
  return c;
}

void sgpu::cuda::updatePeers(Device &device) {
  for (auto &other : Driver::get().devices) {
    bool enabled = false;
    for (const auto &[context, object] : state().contexts.all())
      enabled |= context->device == &device && context->peers.contains(other->ordinal);
    for (const auto &[pool, object] : state().pools.all())
      enabled |= pool->device == other->ordinal && pool->peers.contains(device.ordinal);
    if (other.get() != &device)
      device.memory->setPeer(*other->memory, enabled);
  }
}

void sgpu::cuda::destroyContext(Lock &lock, CUcontext context) {
  Driver &driver = Driver::get();
  State &s = state();
  driver.waitAll(lock, context);
  auto removeOwned = [&](auto &handles) {
    std::vector<std::remove_reference_t<decltype(*handles.all().begin()->first)> *> owned;
    for (const auto &[p, object] : handles.all())
      if (p->context == context)
        owned.push_back(p);
    return owned;
  };
  for (CUgraphExec e : removeOwned(s.graphExecs))
    s.graphExecs.remove(e);
  for (CUevent e : removeOwned(s.events))
    s.events.remove(e);
  for (CUstream stream : removeOwned(s.streams)) {
    if (stream->capture)
      invalidate(*stream->capture);
    s.streams.remove(stream);
  }
  for (CUmodule m : removeOwned(s.modules))
    destroyModule(m);
  for (const auto &[library, object] : s.libraries.all())
    library->modules.erase(context);
  // Memory of a context ends with it; the program should have freed it.
  Device &device = *context->device;
  for (uint64_t address : context->memory) {
    if (std::shared_ptr<const Allocation> a = device.memory->find(address)) {
      Report r{.check = Check::Leak,
               .message =
                   std::to_string(a->bytes) + " bytes are still allocated when their context ends",
               .place = callPlace(context->primary ? "cuDevicePrimaryCtxRelease_v2"
                                                   : "cuCtxDestroy_v2")};
      r.hasAddress = true;
      r.address = address;
      r.memory = device.memory->describe(address);
      driver.reporter.add(std::move(r));
    }
    device.memory->free(address, "the end of its context");
  }
  if (device.primary == context)
    device.primary = nullptr;
  s.contexts.remove(context);
  updatePeers(device);
}

CUresult abi::cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(pctx);
    if (!d.primary)
      d.primary = makeContext(d, true);
    ++d.retained;
    *pctx = d.primary;
  });
}

CUresult abi::cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
  return call([&](Driver &driver, Lock &lock) {
    Device &d = deviceAt(driver, dev);
    require(d.primary && d.retained, CUDA_ERROR_INVALID_CONTEXT);
    if (--d.retained == 0)
      destroyContext(lock, d.primary);
  });
}

CUresult abi::cuDevicePrimaryCtxReset_v2(CUdevice dev) {
  return call([&](Driver &driver, Lock &lock) {
    Device &d = deviceAt(driver, dev);
    if (d.primary)
      destroyContext(lock, d.primary);
    d.retained = 0;
  });
}

CUresult abi::cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(flags && active);
    *flags = d.primaryFlags;
    *active = d.primary != nullptr;
  });
}

CUresult abi::cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags) {
  return call([&](Driver &driver, Lock &) {
    Device &d = deviceAt(driver, dev);
    require(!(flags & ~unsigned(CU_CTX_FLAGS_MASK)));
    d.primaryFlags = flags;
    if (d.primary)
      d.primary->flags = flags;
  });
}

static void createContext(CUcontext *pctx, unsigned flags, CUdevice dev) {
  Device &d = deviceAt(Driver::get(), dev);
  require(pctx && !(flags & ~unsigned(CU_CTX_FLAGS_MASK)));
  *pctx = makeContext(d, false);
  (*pctx)->flags = flags;
  contextStack().push_back(*pctx);
}

CUresult abi::cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev) {
  return call([&](Driver &, Lock &) { createContext(pctx, flags, dev); });
}

CUresult abi::cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams,
                             unsigned int flags, CUdevice dev) {
  return call([&](Driver &, Lock &) {
    // Execution affinity and graphics interoperation do not exist here.
    require(!ctxCreateParams ||
                (!ctxCreateParams->numExecAffinityParams && !ctxCreateParams->cigParams),
            CUDA_ERROR_NOT_SUPPORTED);
    createContext(pctx, flags, dev);
  });
}

CUresult abi::cuCtxDestroy_v2(CUcontext ctx) {
  return call([&](Driver &, Lock &lock) {
    CUcontext c = findContext(ctx);
    require(!c->primary, CUDA_ERROR_INVALID_CONTEXT);
    std::vector<CUcontext> &stack = contextStack();
    if (!stack.empty() && stack.back() == c)
      stack.pop_back();
    destroyContext(lock, c);
  });
}

CUresult abi::cuCtxPushCurrent_v2(CUcontext ctx) {
  return call([&](Driver &, Lock &) { contextStack().push_back(findContext(ctx)); });
}

CUresult abi::cuCtxPopCurrent_v2(CUcontext *pctx) {
  return call([&](Driver &, Lock &) {
    std::vector<CUcontext> &stack = contextStack();
    require(!stack.empty(), CUDA_ERROR_INVALID_CONTEXT);
    if (pctx)
      *pctx = stack.back();
    stack.pop_back();
  });
}

CUresult abi::cuCtxSetCurrent(CUcontext ctx) {
  return call([&](Driver &, Lock &) {
    std::vector<CUcontext> &stack = contextStack();
    if (ctx)
      findContext(ctx);
    if (!stack.empty())
      stack.pop_back();
    if (ctx)
      stack.push_back(ctx);
  });
}

CUresult abi::cuCtxGetCurrent(CUcontext *pctx) {
  return call([&](Driver &, Lock &) {
    require(pctx);
    std::vector<CUcontext> &stack = contextStack();
    *pctx = stack.empty() ? nullptr : stack.back();
  });
}

CUresult abi::cuCtxGetDevice(CUdevice *device) {
  return call([&](Driver &, Lock &) {
    require(device);
    *device = current()->device->ordinal;
  });
}

CUresult abi::cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx) {
  return call([&](Driver &, Lock &) {
    require(device);
    *device = (ctx ? findContext(ctx) : current())->device->ordinal;
  });
}

CUresult abi::cuCtxSetFlags(unsigned int flags) {
  return call([&](Driver &, Lock &) {
    CUcontext c = current();
    require(!(flags & ~unsigned(CU_CTX_FLAGS_MASK)));
    c->flags = flags;
  });
}

// The software GPU has no caches: the preference is kept.
CUresult abi::cuCtxGetCacheConfig(CUfunc_cache *pconfig) {
  return call([&](Driver &, Lock &) {
    require(pconfig);
    *pconfig = current()->cacheConfig;
  });
}

CUresult abi::cuCtxSetCacheConfig(CUfunc_cache config) {
  return call([&](Driver &, Lock &) {
    CUcontext c = current();
    require(config >= 0 && config <= CU_FUNC_CACHE_PREFER_EQUAL);
    c->cacheConfig = config;
  });
}

CUresult abi::cuCtxResetPersistingL2Cache(void) {
  return call([&](Driver &, Lock &) { current(); });
}

CUresult abi::cuCtxGetFlags(unsigned int *flags) {
  return call([&](Driver &, Lock &) {
    require(flags);
    *flags = current()->flags;
  });
}

CUresult abi::cuCtxGetId(CUcontext ctx, unsigned long long *ctxId) {
  return call([&](Driver &, Lock &) {
    require(ctxId);
    *ctxId = (ctx ? findContext(ctx) : current())->legacy->id;
  });
}

CUresult abi::cuCtxGetApiVersion(CUcontext ctx, unsigned int *version) {
  return call([&](Driver &, Lock &) {
    require(version);
    if (ctx)
      findContext(ctx);
    *version = 3020;
  });
}

CUresult abi::cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority) {
  return call([&](Driver &, Lock &) {
    current();
    if (leastPriority)
      *leastPriority = leastPriorityOfStreams;
    if (greatestPriority)
      *greatestPriority = greatestPriorityOfStreams;
  });
}

// Limits are kept and given back; the machine needs none of them.
static size_t *limitOf(CUcontext context, CUlimit limit) {
  require(limit <= CU_LIMIT_SHMEM_SIZE && limit >= 0 && limit != CU_LIMIT_SHMEM_SIZE &&
              limit != CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH,
          CUDA_ERROR_UNSUPPORTED_LIMIT);
  return &context->limits[limit];
}

CUresult abi::cuCtxGetLimit(size_t *pvalue, CUlimit limit) {
  return call([&](Driver &, Lock &) {
    require(pvalue);
    *pvalue = *limitOf(current(), limit);
  });
}

CUresult abi::cuCtxSetLimit(CUlimit limit, size_t value) {
  return call([&](Driver &, Lock &) { *limitOf(current(), limit) = value; });
}

CUresult abi::cuCtxSynchronize(void) { return cuCtxSynchronize_v2(nullptr); }

CUresult abi::cuCtxSynchronize_v2(CUcontext ctx) {
  return call([&](Driver &driver, Lock &lock) {
    CUcontext c = ctx ? findContext(ctx) : current();
    unsafeInCapture(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, true);
    driver.waitAll(lock, c);
    require(c->error == CUDA_SUCCESS, c->error);
  });
}

CUresult abi::cuCtxEnablePeerAccess(CUcontext peerContext, unsigned int Flags) {
  return call([&](Driver &, Lock &) {
    CUcontext c = current(), peer = findContext(peerContext);
    require(!Flags);
    require(peer->device != c->device, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
    require(c->peers.insert(peer->device->ordinal).second, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
    updatePeers(*c->device);
  });
}

CUresult abi::cuCtxDisablePeerAccess(CUcontext peerContext) {
  return call([&](Driver &, Lock &) {
    require(current()->peers.erase(findContext(peerContext)->device->ordinal),
            CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
    updatePeers(*current()->device);
  });
}
