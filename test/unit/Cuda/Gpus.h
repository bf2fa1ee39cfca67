//===- Gpus.h - GPUs of tests -----------------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_CUDA_GPUS_H
#define LLRT_TEST_CUDA_GPUS_H

#include "../Rank/SmallProgram.h"

#include "src/Control/InProcess.h"
#include "src/Cuda/CudaDevice.h"
#include "src/Cuda/SharedGpu.h"

namespace llrt::test {

// A rank that is alone on GPU 0, with memory for the arenas of `program`.
struct OneGpu {
  Program program;
  InProcess control{1};
  cuda::Gpu gpu{0};
  cuda::SharedGpu shared;
  CudaDevice device;

  explicit OneGpu(Program of = makeProgram({}, {}, 0))
      : program(std::move(of)), shared(program, gpu),
        device(program, 0, gpu, shared.end(0), control.of(0), DeviceOptions()) {}

  // A copy of bytes of the host; null of null.
  void *put(const void *data, int64_t bytes) {
    if (!data)
      return nullptr;
    void *to = device.allocate(bytes, "data");
    device.write(0, to, bytes, [&](std::byte *at) { std::memcpy(at, data, size_t(bytes)); });
    return to;
  }
};

} // namespace llrt::test
#endif // LLRT_TEST_CUDA_GPUS_H
