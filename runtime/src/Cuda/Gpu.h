//===- Gpu.h - One GPU of this process --------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_GPU_H
#define LLRT_CUDA_GPU_H

#include "llrt/Program.h"
#include "src/Cuda/Driver.h"

#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace llrt::cuda {

// A kernel as it is loaded; one that is not for this chip has no function, its launches do nothing.
struct Kernel {
  const LlrtCudaKernel *code = nullptr;
  CUfunction function = nullptr;
};

// A GPU and the kernels of the program on it. The ranks of the process that use the GPU share
// one; any thread may call its functions once it is made.
class Gpu {
public:
  // The GPU with that number. Throws Error if the driver refuses it.
  explicit Gpu(int number);
  ~Gpu();
  Gpu(const Gpu &) = delete;
  Gpu &operator=(const Gpu &) = delete;

  int number() const { return ordinal; }
  const std::string &name() const { return deviceName; }
  // `sm_90`.
  std::string chip() const;
  int64_t multiprocessors() const { return multiprocessorCount; }
  // Bytes that are free.
  int64_t freeBytes() const;

  // Makes it the GPU of the calling thread.
  void enter() const;
  // What a thread enters that may outlive this object.
  CUcontext handle() const { return context; }

  // Loads all kernels that are for this GPU, in parallel. Throws Error if the program has no code for
  // it, or, with the kernel, if the driver is too old for the code.
  void load(const LlrtDeviceCode &code);

  // The kernel; null if it was not in the table that was loaded.
  const Kernel *find(const void *kernel) const {
    auto found = kernels.find(kernel);
    return found == kernels.end() ? nullptr : &found->second;
  }

private:
  CUfunction loadOne(const LlrtCudaKernel &kernel, const LlrtImage &image, CUmodule &module) const;
  // Lets the function have that much dynamic shared memory, and the kernel's clusters.
  static void allow(const LlrtCudaKernel &kernel, CUfunction function, int64_t shared);

  int ordinal;
  CUdevice device = 0;
  CUcontext context = nullptr;
  int major = 0, minor = 0, multiprocessorCount = 0;
  std::string deviceName;
  std::unordered_map<const void *, Kernel> kernels;
  std::vector<CUmodule> modules;
};

// Copies `rows` times `bytes` bytes whose beginnings are `toStride` and `fromStride` bytes
// apart, in the stream. One row may overlap itself.
void copyRows(CUstream stream, void *to, int64_t toStride, const void *from, int64_t fromStride,
              int64_t rows, int64_t bytes);

// Of the chips that a program has code for the one for a GPU of compute capability
// `major`.`minor`: exactly this chip (also with the suffix `a`), else the latest plain chip before
// it; null if there is none.
const char *chipFor(std::span<const char *const> chips, int major, int minor);

// Whether the driver may load the image's cubin on that chip: the same major version, and no
// later minor one; with the suffix `a` the chip itself.
bool cubinRuns(const LlrtImage &image, int major, int minor);

} // namespace llrt::cuda
#endif // LLRT_CUDA_GPU_H
