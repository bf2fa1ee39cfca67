//===- DeviceInfo.h - What an executable has for a device ------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Read off the tables of the executable: no driver is asked.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_DEVICEINFO_H
#define LLRT_COMMANDS_DEVICEINFO_H

#include "src/Program/Program.h"

#include <iosfwd>
#include <map>
#include <string>
#include <vector>

namespace llrt {

// What a kernel takes of a multiprocessor of one chip that it is for. -1: it is not known, as there is
// no machine code.
struct KernelCode {
  std::string chip;
  int64_t registers, shared; // of a thread; static shared memory of a block, bytes
  int64_t stack, spills;     // bytes of a thread
  bool hasMachineCode;
};

// A kernel as it is launched: with the same code and sizes wherever it is.
struct KernelUse {
  const LlrtCudaKernel *kernel; // the first of these
  std::vector<KernelCode> codes;
  std::map<std::string, int64_t> launches; // by program, of the stage that has most

  int64_t threads() const { return kernel->block[0] * kernel->block[1] * kernel->block[2]; }
};

// What a program puts into the streams of a rank of a stage. Kernels: of the chip that has most, where
// some are for other chips.
struct Launched {
  int64_t kernels = 0, products = 0, communications = 0, memsets = 0;
  bool operator==(const Launched &) const = default;
};

struct DeviceFacts {
  struct Chip {
    std::string name, ptxVersion; // `sm_90a`, `8.0`
    bool hasMachineCode;          // for all of its kernels
    Chip(std::string name, std::string ptxVersion, bool hasMachineCode)
        : name(std::move(name)), ptxVersion(std::move(ptxVersion)), hasMachineCode(hasMachineCode) {
    }
  };
  std::vector<Chip> chips;
  std::vector<KernelUse> kernels;                        // in the order of the table
  std::map<std::string, std::vector<Launched>> launched; // by program, of each stage
  std::map<std::string, int64_t> attention; // by form and sizes: calls of a step, of all stages
};

// `program` has a device.
DeviceFacts deviceFacts(const Program &program);

// The facts for eyes: a few lines; with `all` one more for each kernel.
void printDevice(const DeviceFacts &facts, bool all, std::ostream &out);

nlohmann::json deviceJson(const DeviceFacts &facts);

} // namespace llrt
#endif // LLRT_COMMANDS_DEVICEINFO_H
