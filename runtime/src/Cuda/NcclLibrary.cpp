//===- NcclLibrary.cpp - NCCL, loaded at run time -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/NcclLibrary.h"

#include "src/Control/Control.h"
#include "src/Data/Error.h"

using namespace llrt;
using namespace llrt::cuda;

Nccl::Nccl(const Library &library) {
  ncclResult_t (*getVersion)(int *) = nullptr;
  library.find(getVersion, "ncclGetVersion");
  int version = 0;
  getVersion(&version); // cannot fail
  // Earlier ones do not take all of ncclConfig_t: communicators would hold more multiprocessors than
  // is planned. Before 2.9 a version was written as 2804.
  const int unit = version < 10000 ? 1000 : 10000;
  if (version < 21800)
    fail("NCCL is too old: expected 2.18 or later, got ", version / unit, ".",
         version % unit / 100);
  find(library);
  library.find(ncclGetErrorString, "ncclGetErrorString");
  library.find(ncclGetLastError, "ncclGetLastError");
}

const Nccl &llrt::cuda::nccl() {
  static const Nccl nccl(Library(
      {"libnccl.so.2"}, "it is NVIDIA's NCCL (Debian: package libnccl2; PyPI: nvidia-nccl-cu13); "
                        "LD_LIBRARY_PATH names its folder"));
  return nccl;
}

void llrt::cuda::check(ncclResult_t result, const char *what) {
  if (result == ncclSuccess)
    return;
  const char *last = nccl().ncclGetLastError(nullptr);
  throw Failure(std::string(what) + ": " + nccl().ncclGetErrorString(result) +
                (last && *last ? "; " + std::string(last) : ""));
}
