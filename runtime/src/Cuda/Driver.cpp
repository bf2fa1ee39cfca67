//===- Driver.cpp - The CUDA driver, loaded at run time -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/Driver.h"

#include "src/Control/Control.h"
#include "src/Data/Error.h"

#include <cstdlib>

using namespace llrt;
using namespace llrt::cuda;

static std::string textOf(const Driver &driver, CUresult result) {
  const char *name = nullptr, *text = nullptr;
  driver.cuGetErrorName(result, &name);
  driver.cuGetErrorString(result, &text);
  return name ? std::string(name) + (text ? ": " + std::string(text) : "")
              : "result " + std::to_string(result);
}

Driver::Driver(const Library &library) {
  // What every driver has. What else an old one lacks is told by its version.
  library.find(cuGetErrorName, "cuGetErrorName");
  library.find(cuGetErrorString, "cuGetErrorString");
  library.find(cuInit, "cuInit");
  library.find(cuDriverGetVersion, "cuDriverGetVersion");
  // Streams that share a queue wait for each other. The compiler counts on as many queues as there
  // can be, whatever the environment says.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*overwrite=*/1);
  CUresult result = cuInit(0);
  if (result == CUDA_ERROR_NO_DEVICE)
    fail("no NVIDIA GPU: the driver finds none (nvidia-smi lists them; CUDA_VISIBLE_DEVICES may "
         "hide them)");
  if (result == CUDA_ERROR_STUB_LIBRARY)
    fail("libcuda.so.1 is a stub to link with, not NVIDIA's driver: take its folder out of "
         "LD_LIBRARY_PATH");
  if (result != CUDA_SUCCESS)
    fail("NVIDIA's driver does not start: cuInit: ", textOf(*this, result));
  cuDriverGetVersion(&version); // cannot fail
  if (version < 12000)
    fail("NVIDIA's driver is too old: expected one for CUDA 12.0 or later, got one for ",
         version / 1000, ".", version % 1000 / 10);
  find(library);
}

const Driver &llrt::cuda::driver() {
  static const Driver driver(Library(
      {"libcuda.so.1"}, "it comes with NVIDIA's driver (Debian: package libcuda1); a program for "
                        "the CPU is made by --target=host"));
  return driver;
}

std::string llrt::cuda::errorText(CUresult result) { return textOf(driver(), result); }

void llrt::cuda::check(CUresult result, const char *what) {
  if (result != CUDA_SUCCESS)
    throw Failure(std::string(what) + ": " + errorText(result));
}
