//===- Gpu.cpp - One GPU of this process ----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/Gpu.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

using namespace llrt;
using namespace llrt::cuda;

//===----------------------------------------------------------------------===//
// Chips and images
//===----------------------------------------------------------------------===//

namespace {
struct Chip {
  int major, minor;
  bool exact; // `sm_90a`: nothing else runs it

  bool operator<(const Chip &other) const {
    return std::pair(major, minor) < std::pair(other.major, other.minor);
  }
};
} // namespace

// None if the name is not one.
static std::optional<Chip> parseChip(std::string_view name) {
  if (!name.starts_with("sm_"))
    return std::nullopt;
  int number = 0;
  auto [rest, error] = std::from_chars(name.data() + 3, name.data() + name.size(), number);
  std::string_view suffix(rest, name.data() + name.size() - rest);
  if (error != std::errc() || number < 10 || (!suffix.empty() && suffix != "a"))
    return std::nullopt;
  return Chip{number / 10, number % 10, !suffix.empty()};
}

const char *llrt::cuda::chipFor(std::span<const char *const> chips, int major, int minor) {
  Chip here = {major, minor, false}, bestChip = {};
  const char *best = nullptr;
  for (const char *name : chips) {
    std::optional<Chip> chip = parseChip(name);
    if (!chip || here < *chip)
      continue;
    bool same = !(*chip < here);
    if (chip->exact && !same)
      continue;
    if (best && (*chip < bestChip || (!(bestChip < *chip) && !chip->exact)))
      continue;
    best = name;
    bestChip = *chip;
  }
  return best;
}

bool llrt::cuda::cubinRuns(const LlrtImage &image, int major, int minor) {
  std::optional<Chip> chip = parseChip(image.chip);
  return image.cubin && chip && chip->major == major &&
         (chip->exact ? chip->minor == minor : chip->minor <= minor);
}

//===----------------------------------------------------------------------===//
// The GPU
//===----------------------------------------------------------------------===//

Gpu::Gpu(int number) : ordinal(number) {
  const Driver &cuda = driver();
  auto need = [&](CUresult result, const char *what) {
    if (result != CUDA_SUCCESS)
      fail("GPU ", number, ": ", what, ": ", errorText(result));
  };
  need(cuda.cuDeviceGet(&device, number), "cuDeviceGet");
  char text[256] = {};
  need(cuda.cuDeviceGetName(text, sizeof(text) - 1, device), "cuDeviceGetName");
  deviceName = text;
  need(cuda.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device),
       "cuDeviceGetAttribute");
  need(cuda.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device),
       "cuDeviceGetAttribute");
  need(cuda.cuDeviceGetAttribute(&multiprocessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                                 device),
       "cuDeviceGetAttribute");
  need(cuda.cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
}

Gpu::~Gpu() {
  const Driver &cuda = driver();
  cuda.cuCtxSetCurrent(context);
  for (CUmodule module : modules)
    cuda.cuModuleUnload(module);
  cuda.cuCtxSetCurrent(nullptr);
  cuda.cuDevicePrimaryCtxRelease_v2(device);
}

std::string Gpu::chip() const { return "sm_" + std::to_string(major) + std::to_string(minor); }

int64_t Gpu::freeBytes() const {
  enter();
  size_t free = 0, total = 0;
  check(driver().cuMemGetInfo_v2(&free, &total), "cuMemGetInfo");
  return int64_t(free);
}

void Gpu::enter() const { check(driver().cuCtxSetCurrent(context), "cuCtxSetCurrent"); }

CUfunction Gpu::loadOne(const LlrtCudaKernel &kernel, const LlrtImage &image,
                        CUmodule &module) const {
  const Driver &cuda = driver();
  auto wrong = [&](const std::string &what) {
    fail("kernel ", kernel.name, *kernel.location ? std::string(" (") + kernel.location + ")" : "",
         ": ", what);
  };
  bool useCubin = cubinRuns(image, major, minor);
  char log[4096];
  auto load = [&](const void *code) {
    *log = 0;
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    // The driver writes there how much it has said.
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver takes it so
    void *values[] = {log, reinterpret_cast<void *>(sizeof(log) - 1)};
    CUresult result = cuda.cuModuleLoadDataEx(&module, code, 2, options, values);
    log[sizeof(log) - 1] = 0;
    return result;
  };
  CUresult result = load(useCubin ? image.cubin : image.ptx);
  // A driver older than the ptxas of the cubin says CUDA_ERROR_INVALID_IMAGE, one that takes PTX alone
  // CUDA_ERROR_NO_BINARY_FOR_GPU.
  if (useCubin && result != CUDA_SUCCESS && result != CUDA_ERROR_OUT_OF_MEMORY)
    result = load(image.ptx);
  if (result == CUDA_ERROR_UNSUPPORTED_PTX_VERSION) {
    std::string_view text(image.ptx), version = text.substr(0, text.find('\n'));
    if (size_t at = text.find(".version "); at != text.npos)
      version = text.substr(at, text.find('\n', at) - at);
    wrong("NVIDIA's driver (for CUDA " + std::to_string(cuda.version / 1000) + "." +
          std::to_string(cuda.version % 1000 / 10) + ") is too old for its code (PTX " +
          std::string(version) + "): install a later driver");
  }
  if (result != CUDA_SUCCESS)
    wrong("GPU " + std::to_string(ordinal) + " (" + chip() + ") cannot load its code for " +
          image.chip + ": " + errorText(result) + (*log ? "\n" + std::string(log) : ""));
  CUfunction function = nullptr;
  if (CUresult found = cuda.cuModuleGetFunction(&function, module, kernel.name))
    wrong("not in its code: " + errorText(found));
  return function;
}

void Gpu::allow(const LlrtCudaKernel &kernel, CUfunction function, int64_t shared) {
  auto set = [&](CUfunction_attribute attribute, int64_t value, const char *what) {
    if (CUresult result = driver().cuFuncSetAttribute(function, attribute, int(value)))
      fail("kernel ", kernel.name, ": ", what, ": ", errorText(result));
  };
  if (shared > 0)
    set(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared, "bytes of shared memory");
  if (kernel.cluster[0] * kernel.cluster[1] * kernel.cluster[2] > 8)
    set(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1, "clusters of more than 8 blocks");
}

void Gpu::load(const LlrtDeviceCode &code) {
  std::vector<const char *> chips;
  for (const char *const *name = code.chips; *name; ++name)
    chips.push_back(*name);
  const char *best = chipFor(chips, major, minor);
  if (!best) {
    std::string list;
    for (const char *name : chips)
      list += (list.empty() ? "" : ", ") + std::string(name);
    fail("GPU ", ordinal, " (", deviceName, ") is ", chip(), ", the program has code for ", list,
         "; --chip=", chip(), " of llamac compile");
  }
  auto imageOf = [&](const LlrtCudaKernel &kernel) -> const LlrtImage * {
    std::span images(kernel.images, kernel.image_count);
    auto found = std::ranges::find_if(
        images, [&](const LlrtImage &image) { return !strcmp(image.chip, best); });
    return found == images.end() ? nullptr : &*found;
  };
  // Kernels of one code share what is loaded.
  struct Loaded {
    const LlrtCudaKernel *kernel;
    const LlrtImage *image;
    CUfunction function = nullptr;
    CUmodule module = nullptr;
    int64_t shared = 0; // the most that one of them asks for
  };
  std::vector<Loaded> all;
  std::map<uint64_t, size_t> byKey;
  for (uint64_t i = 0; i < code.kernel_count; ++i)
    if (const LlrtImage *image = imageOf(*code.kernels[i]))
      if (byKey.emplace(code.kernels[i]->key, all.size()).second)
        all.push_back({code.kernels[i], image});
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  auto work = [&] {
    try {
      enter();
      for (size_t i; (i = next++) < all.size();)
        all[i].function = loadOne(*all[i].kernel, *all[i].image, all[i].module);
    } catch (...) {
      std::lock_guard lock(mutex);
      failure = std::current_exception();
      next = all.size();
    }
  };
  {
    size_t count = std::min<size_t>(std::thread::hardware_concurrency(), all.size());
    std::vector<std::jthread> threads;
    for (size_t i = 1; i < count; ++i)
      threads.emplace_back(work);
    work();
  }
  for (const Loaded &each : all)
    if (each.module)
      modules.push_back(each.module);
  if (failure)
    std::rethrow_exception(failure);
  for (uint64_t i = 0; i < code.kernel_count; ++i) {
    const LlrtCudaKernel *kernel = code.kernels[i];
    if (!imageOf(*kernel)) {
      kernels[kernel] = {kernel, nullptr};
      continue;
    }
    Loaded &loaded = all[byKey.at(kernel->key)];
    loaded.shared = std::max(loaded.shared, kernel->shared);
    allow(*kernel, loaded.function, loaded.shared);
    kernels[kernel] = {kernel, loaded.function};
  }
}

void llrt::cuda::copyRows(CUstream stream, void *to, int64_t toStride, const void *from,
                          int64_t fromStride, int64_t rows, int64_t bytes) {
  if (rows <= 0 || bytes <= 0 || to == from)
    return;
  const Driver &cuda = driver();
  if (rows > 1 && (toStride != bytes || fromStride != bytes)) {
    // CU_DEVICE_ATTRIBUTE_MAX_PITCH of every chip.
    constexpr int64_t MostPitch = INT32_MAX;
    if (std::max(toStride, fromStride) > MostPitch) {
      for (int64_t row = 0; row < rows; ++row)
        copyRows(stream, static_cast<std::byte *>(to) + row * toStride, bytes,
                 static_cast<const std::byte *>(from) + row * fromStride, bytes, 1, bytes);
      return;
    }
    // NOLINTNEXTLINE(bugprone-invalid-enum-default-initialization): the driver takes it so
    CUDA_MEMCPY2D what = {};
    what.srcMemoryType = what.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    what.srcDevice = CUdeviceptr(from);
    what.dstDevice = CUdeviceptr(to);
    what.srcPitch = size_t(fromStride);
    what.dstPitch = size_t(toStride);
    what.WidthInBytes = size_t(bytes);
    what.Height = size_t(rows);
    return check(cuda.cuMemcpy2DAsync_v2(&what, stream), "cuMemcpy2DAsync");
  }
  // What overlaps itself goes in pieces that do not, from the end that is free.
  auto begin = CUdeviceptr(to), source = CUdeviceptr(from);
  int64_t total = rows * bytes;
  int64_t distance = begin > source ? int64_t(begin - source) : int64_t(source - begin);
  int64_t piece = std::min(total, distance);
  for (int64_t done = 0; done < total; done += piece) {
    int64_t count = std::min(piece, total - done);
    auto at = CUdeviceptr(begin > source ? total - done - count : done);
    check(cuda.cuMemcpyDtoDAsync_v2(begin + at, source + at, size_t(count), stream),
          "cuMemcpyDtoDAsync");
  }
}
