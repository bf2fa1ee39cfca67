//===- AsyncHarness.h - Runs kernels for the tests of asynchronous work -*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_MACHINE_ASYNC_ASYNCHARNESS_H
#define SGPU_TEST_MACHINE_ASYNC_ASYNCHARNESS_H

#include "Harness.h"
#include "Machine/Async/TensorMap.h"

namespace sgpu::async_test {

using machinetest::bf16;
using machinetest::ptxFile;

/// `text` with every `from` replaced.
inline std::string replaced(std::string text, const std::string &from, const std::string &to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

/// A parameter of a kernel: a number, a structure, or the bytes of a tensor map.
struct Argument {
  std::vector<uint8_t> bytes;
  template <typename T> Argument(T value) : bytes(sizeof(T)) { // NOLINT: implicit on purpose
    std::memcpy(bytes.data(), &value, sizeof(T));
  }
  Argument(const TensorMap &map) : bytes(TensorMap::encodedBytes) { // NOLINT
    EXPECT_EQ(map.check(90), "");
    map.encode(bytes.data());
  }
};

struct Shape3 {
  Dim3 grid{1, 1, 1}, block{128, 1, 1}, cluster{0, 0, 0};
  uint32_t dynamicShared = 0;
};

/// A device with one module, whose blocks run on one host thread.
class Gpu : public machinetest::Gpu {
public:
  explicit Gpu(const std::string &ptx, uint64_t seed = 1, Completion completion = Completion::Late,
               int chip = 90, bool strict = false)
      : machinetest::Gpu(ptx, machinetest::options(seed, chip, completion, strict)) {}

  uint64_t allocate(uint64_t bytes) { return machinetest::Gpu::allocate<uint8_t>(bytes); }
  /// `count` values that are all zero.
  template <typename T> uint64_t zeros(size_t count) { return upload(std::vector<T>(count)); }
  /// The bytes as they are: that a kernel left some unwritten shows in the values.
  template <typename T> std::vector<T> download(uint64_t address, size_t count) {
    std::vector<T> values(count);
    std::memcpy(values.data(), memory.host(address, count * sizeof(T)), count * sizeof(T));
    return values;
  }

  LaunchResult run(const std::string &kernel, const Shape3 &shape,
                   std::vector<Argument> arguments) {
    const KernelInfo *info = module->kernel(kernel);
    EXPECT_TRUE(info) << kernel;
    if (!info)
      return {};
    LaunchConfig config;
    config.grid = shape.grid, config.block = shape.block, config.cluster = shape.cluster;
    config.dynamicShared = shape.dynamicShared;
    config.maxDynamicShared = shape.dynamicShared;
    config.seed = opt.seed;
    config.work.id = ++launches;
    config.parameters.resize(info->paramBytes);
    EXPECT_EQ(arguments.size(), info->paramOffsets.size()) << kernel;
    for (size_t i = 0; i < arguments.size() && i < info->paramOffsets.size(); ++i) {
      EXPECT_EQ(arguments[i].bytes.size(), info->paramSizes[i]) << kernel << " parameter " << i;
      std::memcpy(config.parameters.data() + info->paramOffsets[i], arguments[i].bytes.data(),
                  std::min<size_t>(arguments[i].bytes.size(), info->paramSizes[i]));
    }
    return module->run(kernel, config);
  }

  std::string faults() const { return text(); }
};

} // namespace sgpu::async_test

#endif
