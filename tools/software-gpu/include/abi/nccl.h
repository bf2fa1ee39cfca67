//===- nccl.h - Facts of the ABI of libnccl.so.2 --------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names and numbers as lists X(name, value); compared with NVIDIA's header where it is installed
// (test/Nccl/AbiTest.cpp).
//===----------------------------------------------------------------------===//
#ifndef SGPU_ABI_NCCL_H
#define SGPU_ABI_NCCL_H

#include <climits>
#include <cstddef>
#include <cstdint>

namespace sgpu::abi {

#define SGPU_NCCL_RESULTS(X)                                                                       \
  X(ncclSuccess, 0)                                                                                \
  X(ncclUnhandledCudaError, 1)                                                                     \
  X(ncclSystemError, 2)                                                                            \
  X(ncclInternalError, 3)                                                                          \
  X(ncclInvalidArgument, 4)                                                                        \
  X(ncclInvalidUsage, 5)                                                                           \
  X(ncclRemoteError, 6)                                                                            \
  X(ncclInProgress, 7)

#define SGPU_NCCL_OPS(X)                                                                           \
  X(ncclSum, 0)                                                                                    \
  X(ncclProd, 1)                                                                                   \
  X(ncclMax, 2)                                                                                    \
  X(ncclMin, 3)                                                                                    \
  X(ncclAvg, 4)                                                                                    \
  X(ncclNumOps, 5)

#define SGPU_NCCL_TYPES(X)                                                                         \
  X(ncclInt8, 0)                                                                                   \
  X(ncclUint8, 1)                                                                                  \
  X(ncclInt32, 2)                                                                                  \
  X(ncclUint32, 3)                                                                                 \
  X(ncclInt64, 4)                                                                                  \
  X(ncclUint64, 5)                                                                                 \
  X(ncclFloat16, 6)                                                                                \
  X(ncclFloat32, 7)                                                                                \
  X(ncclFloat64, 8)                                                                                \
  X(ncclBfloat16, 9)                                                                               \
  X(ncclFloat8e4m3, 10)                                                                            \
  X(ncclFloat8e5m2, 11)                                                                            \
  X(ncclNumTypes, 12)

#define SGPU_NCCL_CONSTANTS(X)                                                                     \
  SGPU_NCCL_RESULTS(X)                                                                             \
  SGPU_NCCL_OPS(X)                                                                                 \
  SGPU_NCCL_TYPES(X)                                                                               \
  X(ncclScalarDevice, 0)                                                                           \
  X(ncclScalarHostImmediate, 1)

#define SGPU_CONSTANT(name, value) constexpr int32_t name = value;
SGPU_NCCL_CONSTANTS(SGPU_CONSTANT)
#undef SGPU_CONSTANT

constexpr int ncclVersion = 22809, ncclUndefinedInt = INT_MIN, ncclSplitNoColor = -1;
constexpr unsigned ncclConfigMagic = 0xcafebeef, ncclSimInfoMagic = 0x74685283;

struct NcclUniqueId {
  char internal[128];
};
struct NcclConfig {
  size_t size;
  unsigned magic, version;
  int blocking, cgaClusterSize, minCTAs, maxCTAs;
  const char *netName;
  int splitShare, trafficClass;
  const char *commName;
  int collnetEnable, CTAPolicy, shrinkShare, nvlsCTAs, nChannelsPerNetPeer, nvlinkCentricSched;
};
struct NcclSimInfo {
  size_t size;
  unsigned magic, version;
  float estimatedTime;
};

} // namespace sgpu::abi

#endif
