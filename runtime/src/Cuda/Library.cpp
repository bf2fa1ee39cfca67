//===- Library.cpp - Libraries that are loaded at run time ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/Library.h"

#include "src/Data/Error.h"

#include <dlfcn.h>

using namespace llrt;
using namespace llrt::cuda;

Library::Library(const std::vector<const char *> &names, const std::string &remedy) {
  std::string tried;
  for (const char *each : names) {
    handle = dlopen(each, RTLD_NOW | RTLD_LOCAL);
    if (handle) {
      name = each;
      return;
    }
    const char *reason = dlerror();
    tried += (tried.empty() ? "" : "; ") + std::string(reason ? reason : each);
  }
  fail("this program runs on a GPU and needs ", names.front(), ": ", tried, "; ", remedy);
}

void *Library::find(const char *function) const {
  void *result = dlsym(handle, function);
  if (!result)
    fail(name, " is too old for this program: expected one with ", function);
  return result;
}
