//===- Function.cpp - Functions, launches, occupancy ------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

#include <algorithm>
#include <cstring>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace sgpu::abi;

//===----------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------===//

static CUkernel findKernel(CUkernel kernel) {
  require(kernel && state().kernels.contains(kernel), CUDA_ERROR_INVALID_HANDLE);
  return kernel;
}

/// The function of a kernel in a context, with the dynamic shared memory that the kernel was given.
static CUfunction functionIn(CUkernel kernel, CUcontext context) {
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
  return functionIn(findKernel(reinterpret_cast<CUkernel>(handle)), current());
}

CUresult abi::cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel) {
  return call([&](Driver &, Lock &) {
    require(pFunc);
    *pFunc = functionIn(findKernel(kernel), current());
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
    parameterOf(functionIn(findKernel(kernel), current()), paramIndex, paramOffset, paramSize);
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
    *pi = attributeOf(functionIn(findKernel(kernel), current()), attrib);
  });
}

CUresult abi::cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel,
                                   CUdevice dev) {
  return call([&](Driver &driver, Lock &) {
    require(dev >= 0 && dev < int(driver.devices.size()), CUDA_ERROR_INVALID_DEVICE);
    CUkernel k = findKernel(kernel);
    setAttribute(functionIn(k, current()), attrib, val);
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
