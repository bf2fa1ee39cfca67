//===- DeviceKind.h - A device as its tests see it -------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// DeviceTest.cpp is linked with each library of a target, and with a file that says what the
// devices of that target are: HostKind.cpp, ../Cuda/CudaKind.cpp.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_DEVICE_DEVICEKIND_H
#define LLRT_TEST_DEVICE_DEVICEKIND_H

#include "src/Device/Device.h"

#include <array>

namespace llrt::test {

constexpr int64_t Lanes = 4; // of a buffer that blocks work on: u32[Lanes]
using Words = std::array<uint32_t, Lanes>;

struct DeviceKind {
  const char *name;
  std::function<std::unique_ptr<Device>(const Program &, int64_t rank, Transport &, Control &,
                                        std::chrono::duration<double> timeout)>
      make;
  LlrtBlock mix;     // buffers: to, from; to[i] = mixed(to[i], from[i])
  LlrtBlock slowMix; // the same after a while
  LlrtBlock fail;    // buffers: none; fails with `out of luck`
  bool keepsTime;    // times of events are those of the host's clock; else only ordered
  bool compares;     // what members do, so that it tells where they disagree
};

// Neither commutes nor forgets.
inline uint32_t mixed(uint32_t to, uint32_t from) { return to * 1664525u + from + 1013904223u; }

inline void mixInto(Words &to, const Words &from) {
  for (int64_t i = 0; i < Lanes; ++i)
    to[i] = mixed(to[i], from[i]);
}

// Those of the library that the test is linked with.
std::vector<DeviceKind> deviceKinds();

} // namespace llrt::test
#endif // LLRT_TEST_DEVICE_DEVICEKIND_H
