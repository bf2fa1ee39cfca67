//===- Harness.h - A device, modules and buffers for tests ---------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_HARNESS_H
#define SGPU_TEST_HARNESS_H

#include "Machine/Machine.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace sgpu::machinetest {

inline std::string readFile(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// A file of test/ptx.
inline std::string ptxFile(const std::string &name) {
  return readFile(std::string(SGPU_TEST_DIR) + "/ptx/" + name);
}

/// A module around the body of one kernel, `k`, for short cases. `parameters` as in PTX.
inline std::string kernelText(const std::string &parameters, const std::string &body,
                              const std::string &target = "sm_90a") {
  return ".version 8.5\n.target " + target + "\n.address_size 64\n.visible .entry k(" + parameters +
         ")\n{\n" + body + "\nret;\n}\n";
}

inline Options options(uint64_t seed = 1, int chip = 90, Completion completion = Completion::Late,
                       bool strict = false) {
  Options o;
  if (strict)
    o.checks |= 1u << unsigned(Check::Strict);
  o.seed = seed;
  o.chip = chip;
  o.completion = completion;
  o.memory = uint64_t(256) << 20;
  o.threads = 2;
  return o;
}

/// One device with one module.
class Gpu {
public:
  Gpu(const std::string &text, Options o = options())
      : opt(o), reporter(o, false), memory(0, o, reporter),
        module(Module::load(text, "test.ptx", *Chip::find(o.chip), memory, o, reporter)) {}

  /// Device memory with these values.
  template <typename T> uint64_t upload(const std::vector<T> &values) {
    uint64_t a = memory.allocate(values.size() * sizeof(T), "test");
    EXPECT_NE(a, 0u);
    Access access;
    access.write = true;
    memory.write(a, values.size() * sizeof(T), values.data(), access, {});
    return a;
  }
  /// Device memory that nobody wrote.
  template <typename T> uint64_t allocate(size_t count) {
    return memory.allocate(count * sizeof(T), "test");
  }
  template <typename T> std::vector<T> download(uint64_t address, size_t count) {
    std::vector<T> values(count);
    memory.read(address, count * sizeof(T), values.data(), Access{}, {});
    return values;
  }

  /// Launches a kernel; arguments in order, each of the size of its parameter.
  template <typename... Args>
  LaunchResult run(const std::string &kernel, Dim3 grid, Dim3 block, const Args &...args) {
    LaunchConfig config;
    config.grid = grid;
    config.block = block;
    return run(kernel, config, args...);
  }
  template <typename... Args>
  LaunchResult run(const std::string &kernel, LaunchConfig config, const Args &...args) {
    const KernelInfo *info = module->kernel(kernel);
    EXPECT_NE(info, nullptr) << kernel;
    if (!info)
      return {};
    EXPECT_EQ(info->paramOffsets.size(), sizeof...(args));
    config.parameters.assign(info->paramBytes, 0);
    size_t i = 0;
    auto put = [&](const auto &value) {
      EXPECT_EQ(info->paramSizes.at(i), sizeof value) << "argument " << i;
      std::memcpy(config.parameters.data() + info->paramOffsets.at(i), &value, sizeof value);
      ++i;
    };
    (put(args), ...);
    config.seed = opt.seed;
    config.work.id = ++launches;
    return module->run(kernel, config);
  }

  /// The reports as text, for messages of tests.
  std::string text() const {
    std::string s;
    for (const Report &r : reporter.reports())
      s += Reporter::toText(r, opt.seed);
    return s;
  }
  /// Nothing was reported.
  ::testing::AssertionResult clean() const {
    if (!reporter.total())
      return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << text();
  }
  /// This check, and no other, was reported.
  ::testing::AssertionResult only(Check check) const {
    if (reporter.count(check) && reporter.count(check) == reporter.total())
      return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "expected only " << checkName(check) << ", got:\n"
                                         << text();
  }

  const Options opt;
  Reporter reporter;
  DeviceMemory memory;
  std::unique_ptr<Module> module;
  uint32_t launches = 0;
};

inline float bf16(uint16_t b) { return std::bit_cast<float>(uint32_t(b) << 16); }
inline uint16_t bf16(float f) { // to nearest, ties to even
  uint32_t u = std::bit_cast<uint32_t>(f);
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
/// Numbers from -1 to 1 of a seed.
inline std::vector<float> numbers(size_t count, uint64_t seed) {
  Random r(seed);
  std::vector<float> v(count);
  for (float &x : v)
    x = float(int64_t(r.next() >> 40) - (1 << 23)) / float(1 << 23);
  return v;
}

} // namespace sgpu::machinetest

#endif
