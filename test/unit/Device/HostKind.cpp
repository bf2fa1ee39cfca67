//===- HostKind.cpp - The host as a device --------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "DeviceKind.h"

#include "src/Host/HostDevice.h"

#include <thread>

using namespace llrt;
using namespace llrt::test;

static void hostMix(LlrtStream *, void **buffers) {
  mixInto(*static_cast<Words *>(buffers[0]), Words(*static_cast<Words *>(buffers[1])));
}

static const DeviceKind host = {
    "Host",
    [](const Program &program, int64_t rank, Transport &transport, Control &control,
       std::chrono::duration<double> timeout) {
      return std::make_unique<HostDevice>(program, rank, 1, transport, control, timeout);
    },
    hostMix,
    [](LlrtStream *stream, void **buffers) {
      std::this_thread::sleep_for(std::chrono::microseconds(300));
      hostMix(stream, buffers);
    },
    [](LlrtStream *, void **) { throw std::runtime_error("out of luck"); },
    true,
    true};

std::vector<DeviceKind> llrt::test::deviceKinds() { return {host}; }
