//===- LlvmIr.cpp - Drawn LLVM IR: by the machine as by the host ---------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   software-gpu-llvm-ir <kernels> <seed> [folder for files]
// Draws kernels in LLVM IR (Draw.h). LLVM's NVPTX back end makes PTX of them (at -O0 to -O3, for sm_80 and
// sm_90), which runs here; clang makes a library of the same text, which runs on the host. Results must be the same,
// NaN being NaN, and nothing may be reported. Exit status 77: no llc or clang.
//===----------------------------------------------------------------------===//
#include "LlvmIr/Draw.h"
#include "Machine/Machine.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <unistd.h>

using namespace sgpu;
using namespace sgpu::llvmir;

namespace {

constexpr int perModule = 10;
constexpr uint32_t blocks = 2, threads = 64, all = blocks * threads;

int run(const std::string &command) { return std::system(command.c_str()); }

struct Data {
  std::vector<int64_t> integers, out;
  std::vector<double> doubles, doublesOut;
  std::vector<uint32_t> counts;
};

Data draw(uint64_t seed) {
  Random random(seed);
  Data d;
  static const int64_t edges[] = {0,     1,     -1,        2,         127,       128,      255,
                                  32767, 65535, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
  static const double special[] = {0.,        -0.,         1.,           -1.,         INFINITY,
                                   -INFINITY, NAN,         0.5,          1e-40,       -1e-40,
                                   1e-310,    65504.,      65520.,       6e-8,        3.4e38,
                                   1e300,     2147483647., -2147483648., 4294967296., 0.1};
  for (size_t i = 0; i < all * integersIn; ++i)
    d.integers.push_back(random.below(3) ? int64_t(random.next()) >> random.below(64)
                                         : edges[random.below(std::size(edges))]);
  for (size_t i = 0; i < all * floatsIn; ++i) {
    double x = double(int64_t(random.next())) / 9.2e18;
    d.doubles.push_back(random.below(4) ? std::ldexp(x, int(random.below(24)) - 12)
                                        : special[random.below(std::size(special))]);
  }
  d.out.assign(all * integersOut, 0);
  d.doublesOut.assign(all * floatsOut, 0);
  d.counts.assign(counters, 0);
  return d;
}

bool same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : !std::memcmp(&a, &b, sizeof a);
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: %s <kernels> <seed> [folder for files]\n", argv[0]);
    return 2;
  }
  auto environment = [](const char *name, const char *otherwise) {
    const char *v = std::getenv(name);
    return std::string(v ? v : otherwise);
  };
  std::string llc = environment("SGPU_LLC", "llc-22"),
              clang = environment("SGPU_CLANG", "clang-22");
  if (run(llc + " --version > /dev/null 2>&1") || run(clang + " --version > /dev/null 2>&1")) {
    std::printf("skipped: %s and %s (LLVM 22) are not there\n", llc.c_str(), clang.c_str());
    return 77;
  }
  namespace fs = std::filesystem;
  bool keep = argc == 4;
  fs::path folder =
      keep ? fs::path(argv[3])
           : fs::temp_directory_path() / ("llvm-ir-" + std::to_string(uint64_t(getpid())));
  fs::create_directories(folder);
  int kernels = std::atoi(argv[1]), faults = 0, done = 0;
  uint64_t seed = std::strtoull(argv[2], nullptr, 10);
  for (int m = 0; done < kernels; ++m) {
    uint64_t moduleSeed = mix(seed + uint64_t(m));
    int count = std::min(perModule, kernels - done);
    done += count;
    std::string stem = (folder / ("m" + std::to_string(m))).string();
    std::ofstream(stem + ".ll") << Draw(moduleSeed).module(count, true);
    std::ofstream(stem + ".host.ll") << Draw(moduleSeed).module(count, false);
    // What optimizes differs from module to module.
    int chip = m % 3 ? 90 : 80, level = m % 4;
    std::string target =
        " -mtriple=nvptx64-nvidia-cuda -mcpu=sm_" + std::to_string(chip) + (chip == 90 ? "a" : "");
    std::string make = llc + target + " -O" + std::to_string(level) + " -fp-contract=off -o " +
                       stem + ".ptx " + stem + ".ll";
    if (m % 2) // inlined, unrolled, vectorized
      make = clang + " -x ir --target=nvptx64-nvidia-cuda -O" + std::to_string(1 + m % 3) +
             " -S -emit-llvm -Wno-override-module -o " + stem + ".o.ll " + stem + ".ll && " + llc +
             target + " -O" + std::to_string(level) + " -fp-contract=off -o " + stem + ".ptx " +
             stem + ".o.ll";
    if (run(make) ||
        run(clang + " -x ir -O1 -ffp-contract=off -shared -fPIC -Wno-override-module -o " + stem +
            ".so " + stem + ".host.ll")) {
      std::printf("module %d (seed %llu): LLVM does not take what was drawn: %s.ll\n", m,
                  (unsigned long long)seed, stem.c_str());
      return 1;
    }
    void *library = dlopen((stem + ".so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      std::printf("%s\n", dlerror());
      return 1;
    }
    std::ifstream in(stem + ".ptx");
    std::string ptx{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    Options options;
    options.chip = chip, options.seed = moduleSeed, options.memory = uint64_t(64) << 20,
    options.threads = 1;
    Reporter reporter(options, true);
    DeviceMemory memory(0, options, reporter);
    std::unique_ptr<Module> module;
    try {
      module = Module::load(ptx, stem + ".ptx", *Chip::find(chip), memory, options, reporter);
    } catch (const Error &e) {
      std::printf("%s\n", e.what());
      ++faults;
      continue;
    }
    for (int k = 0; k < count; ++k) {
      std::string number = std::to_string(k), name = "k" + number;
      Data host = draw(moduleSeed + uint64_t(k)), device = host;
      auto body = reinterpret_cast<void (*)(int32_t, void *, void *, void *, void *, void *)>(
          dlsym(library, ("body" + number).c_str()));
      for (uint32_t t = 0; t < all; ++t)
        body(int32_t(t), host.integers.data(), host.doubles.data(), host.out.data(),
             host.doublesOut.data(), host.counts.data());
      Access write, read;
      write.write = true;
      std::vector<uint64_t> addresses;
      auto upload = [&](const auto &v) {
        uint64_t a = memory.allocate(v.size() * sizeof v[0], "test");
        memory.write(a, v.size() * sizeof v[0], v.data(), write, {});
        addresses.push_back(a);
      };
      upload(device.integers), upload(device.doubles), upload(device.out),
          upload(device.doublesOut), upload(device.counts);
      LaunchConfig config;
      config.grid.x = blocks, config.block.x = threads, config.seed = moduleSeed;
      config.work.id = uint32_t(k + 1);
      try {
        config.parameters.resize(module->kernel(name)->paramBytes);
        std::memcpy(config.parameters.data(), addresses.data(), 40);
        module->run(name, config);
      } catch (const Error &e) {
        std::printf("%s: %s\n", name.c_str(), e.what());
        ++faults;
        continue;
      }
      auto download = [&](auto &v, int i) {
        memory.read(addresses[size_t(i)], v.size() * sizeof v[0], v.data(), read, {});
      };
      download(device.out, 2), download(device.doublesOut, 3), download(device.counts, 4);
      int bad = 0;
      auto tell = [&](const char *what, size_t i, size_t per, auto got, auto want) {
        if (bad++ < 3)
          std::printf("%s.ptx %s: %s %zu of thread %zu: %s, the host has %s\n", stem.c_str(),
                      name.c_str(), what, i % per, i / per, std::to_string(got).c_str(),
                      std::to_string(want).c_str());
      };
      for (size_t i = 0; i < host.out.size(); ++i)
        if (host.out[i] != device.out[i])
          tell("integer", i, integersOut, device.out[i], host.out[i]);
      for (size_t i = 0; i < host.doublesOut.size(); ++i)
        if (!same(host.doublesOut[i], device.doublesOut[i]))
          tell("double", i, floatsOut, device.doublesOut[i], host.doublesOut[i]);
      for (size_t i = 0; i < host.counts.size(); ++i)
        if (host.counts[i] != device.counts[i])
          tell("counter", i, counters, device.counts[i], host.counts[i]);
      faults += bad != 0;
    }
    faults += reporter.total() != 0;
    dlclose(library);
  }
  std::printf("%d kernels, %d faulty\n", kernels, faults);
  if (!keep)
    fs::remove_all(folder);
  return faults ? 1 : 0;
}
