//===- NcclLibrary.h - NCCL, loaded at run time -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Of the interface of libnccl what the runtime uses, as in Driver.h ("NCCL",
// docs.nvidia.com).
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_NCCLLIBRARY_H
#define LLRT_CUDA_NCCLLIBRARY_H

#include "src/Cuda/Driver.h"

#include <climits>

namespace llrt::cuda {
// NOLINTBEGIN(readability-identifier-naming): NVIDIA's names

enum ncclResult_t : int { ncclSuccess = 0, ncclInvalidUsage = 5, ncclInProgress = 7 };
enum ncclRedOp_t : int { ncclSum = 0, ncclMax = 2 };
enum ncclDataType_t : int {
  ncclInt64 = 4,
  ncclFloat32 = 7,
  ncclFloat64 = 8,
  ncclBfloat16 = 9,
};
using ncclComm_t = struct ncclComm *;
constexpr int ncclUndefined = INT_MIN; // NCCL_CONFIG_UNDEF_INT
struct ncclUniqueId {
  char internal[128];
};
// As it is since NCCL 2.18; later versions have more members, which they take from `size`.
struct ncclConfig_t {
  size_t size = sizeof(ncclConfig_t);
  unsigned magic = 0xcafebeef, version = 21800;
  int blocking = ncclUndefined, cgaClusterSize = ncclUndefined, minCTAs = ncclUndefined,
      maxCTAs = ncclUndefined;
  const char *netName = nullptr;
  int splitShare = ncclUndefined;
};

// X(symbol, parameters); all return a result.
#define LLRT_NCCL_FUNCTIONS(X)                                                                     \
  X(ncclGetUniqueId, (ncclUniqueId *))                                                             \
  X(ncclCommInitRankConfig, (ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *))                \
  X(ncclCommDestroy, (ncclComm_t))                                                                 \
  X(ncclCommAbort, (ncclComm_t))                                                                   \
  X(ncclCommGetAsyncError, (ncclComm_t, ncclResult_t *))                                           \
  X(ncclAllReduce,                                                                                 \
    (const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, CUstream))             \
  X(ncclReduceScatter,                                                                             \
    (const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, CUstream))             \
  X(ncclAllGather, (const void *, void *, size_t, ncclDataType_t, ncclComm_t, CUstream))           \
  X(ncclBroadcast, (const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, CUstream))      \
  X(ncclSend, (const void *, size_t, ncclDataType_t, int, ncclComm_t, CUstream))                   \
  X(ncclRecv, (void *, size_t, ncclDataType_t, int, ncclComm_t, CUstream))

struct Nccl {
  explicit Nccl(const Library &library);

  using Result = ncclResult_t;
  LLRT_LIBRARY_FUNCTIONS(LLRT_NCCL_FUNCTIONS)
  const char *(*ncclGetErrorString)(ncclResult_t) = nullptr;
  const char *(*ncclGetLastError)(ncclComm_t) = nullptr;
};

// The library. Throws Error if there is none.
const Nccl &nccl();

// Throws Failure, with what NCCL says, unless `result` is success.
void check(ncclResult_t result, const char *what);

// NOLINTEND(readability-identifier-naming)
} // namespace llrt::cuda
#endif // LLRT_CUDA_NCCLLIBRARY_H
