//===- Harness.h - Runs kernels for the tests of asynchronous work -*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_MACHINE_ASYNC_HARNESS_H
#define SGPU_TEST_MACHINE_ASYNC_HARNESS_H

#include "Machine/Async/TensorMap.h"
#include "Machine/Machine.h"

#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

namespace sgpu::test {

/// Text of a file below test/.
inline std::string readFile(const std::string &name) {
  std::ifstream in(std::string(SGPU_TEST_DIR) + "/" + name, std::ios::binary);
  EXPECT_TRUE(in) << name;
  return std::string((std::istreambuf_iterator<char>(in)), {});
}

/// `text` with every `from` replaced.
inline std::string replaced(std::string text, const std::string &from, const std::string &to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

/// A parameter of a kernel.
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

/// A device with one module.
class Gpu {
public:
  explicit Gpu(const std::string &ptx, uint64_t seed = 1, Completion completion = Completion::Late,
               int chip = 90)
      : options(makeOptions(seed, completion, chip)), reporter(options, false),
        memory(0, options, reporter),
        module(Module::load(ptx, "test", *Chip::find(chip), memory, options, reporter)) {}

  uint64_t allocate(uint64_t bytes) { return memory.allocate(bytes, "test"); }
  template <typename T> uint64_t upload(const std::vector<T> &values) {
    uint64_t bytes = values.size() * sizeof(T), address = allocate(bytes);
    memory.setState(address, bytes, ByteState::Written);
    std::memcpy(memory.host(address, bytes), values.data(), bytes);
    return address;
  }
  /// `count` values that are all zero.
  template <typename T> uint64_t zeros(size_t count) { return upload(std::vector<T>(count)); }
  template <typename T> std::vector<T> download(uint64_t address, size_t count) {
    std::vector<T> values(count);
    std::memcpy(values.data(), memory.host(address, count * sizeof(T)), count * sizeof(T));
    return values;
  }
  bool written(uint64_t address, uint64_t bytes) { return memory.written(address, bytes); }

  LaunchResult run(const std::string &kernel, const Shape3 &shape, std::vector<Argument> arguments) {
    const KernelInfo *info = module->kernel(kernel);
    EXPECT_TRUE(info) << kernel;
    if (!info)
      return {};
    LaunchConfig config;
    config.grid = shape.grid, config.block = shape.block, config.cluster = shape.cluster;
    config.dynamicShared = shape.dynamicShared;
    config.maxDynamicShared = 227 * 1024;
    config.seed = options.seed;
    config.work.id = ++works;
    config.parameters.resize(info->paramBytes);
    EXPECT_EQ(arguments.size(), info->paramOffsets.size()) << kernel;
    for (size_t i = 0; i < arguments.size() && i < info->paramOffsets.size(); ++i) {
      EXPECT_EQ(arguments[i].bytes.size(), info->paramSizes[i]) << kernel << " parameter " << i;
      std::memcpy(config.parameters.data() + info->paramOffsets[i], arguments[i].bytes.data(),
                  std::min<size_t>(arguments[i].bytes.size(), info->paramSizes[i]));
    }
    return module->run(kernel, config);
  }

  /// The faults so far as text, for messages of tests.
  std::string faults() const {
    std::string s;
    for (const Report &r : reporter.reports())
      s += Reporter::toText(r, options.seed) + "\n";
    return s;
  }

  const Options options;
  Reporter reporter;
  DeviceMemory memory;
  std::unique_ptr<Module> module;

private:
  static Options makeOptions(uint64_t seed, Completion completion, int chip) {
    Options o;
    o.seed = seed, o.completion = completion, o.chip = chip;
    o.memory = uint64_t(1) << 28;
    o.threads = 1;
    return o;
  }
  uint32_t works = 0;
};

} // namespace sgpu::test

#endif
