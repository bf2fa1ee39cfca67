//===- Module.cpp - Modules, libraries, functions, launches -----------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

using namespace sgpu;
using namespace sgpu::cuda;
using namespace abi;

void sgpu::cuda::destroyModule(CUmodule module) {
  for (const auto &[name, function] : module->functions)
    state().functions.remove(function);
  state().modules.remove(module);
}
