//===- ProductsTest.cpp - Matrix products against plain loops -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../Data/TestFiles.h"
#include "../Host/GemmReference.h"
#include "Gpus.h"

#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <thread>

using namespace llrt;
using namespace llrt::test;
using namespace values;

namespace {

struct Call {
  const LlrtGemm *gemm;
  bool bias;
} current;

// A block of one product; buffers: a, b, bias, c.
void product(LlrtStream *stream, void **buffers) {
  llrt_gemm(stream, current.gemm, buffers[0], buffers[1], current.bias ? buffers[2] : nullptr,
            buffers[3]);
}

// A program with a block in stream 0, so that the stream has a workspace, or without.
Program programWith(bool workspace) {
  Program program = makeProgram({}, {}, 0);
  if (workspace)
    program.stages[0].productStreams = {0};
  return program;
}

void checkGemm(OneGpu &one, std::mt19937 &generator, const LlrtGemm &g, bool withBias,
               double tolerance) {
  SCOPED_TRACE(testing::Message() << describe(g) << ", bias " << withBias);
  Array a = draw(generator, g.type, g.m * g.k), b = draw(generator, g.type, g.k * g.n);
  Array bias = draw(generator, g.type, g.n), c = draw(generator, g.result_type, g.m * g.n);
  Doubles wanted = reference(g, a, b, withBias ? &bias : nullptr, c);
  Array gradient(LLRT_F32, g.m);
  auto put = [&](const Array &array, int64_t type) {
    return one.put(array.data(), int64_t(array.size()) * bytesOf(type));
  };
  void *to = put(c, g.result_type);
  void *vector = g.bias_gradient ? one.device.allocate(g.m * 4, "gradient") : put(bias, g.type);
  current = {&g, withBias || g.bias_gradient};
  static const Action action = callOf(product, {});
  one.device.call(0, product, {put(a, g.type), put(b, g.type), vector, to}, {&action, 0});
  one.device.read(0, to, g.m * g.n * bytesOf(g.result_type), c.data());
  expectClose(c.doubles(), wanted, tolerance, "C");
  if (!g.bias_gradient)
    return;
  one.device.read(0, vector, g.m * 4, gradient.data());
  expectClose(gradient.doubles(), biasGradient(g, a), 1e-5, "gradient of the bias");
}

TEST(Products, EveryVariantMatchesPlainLoops) {
  std::mt19937 generator(1);
  const std::tuple<int, int, int> sizes[] = {{1, 1, 1},    {1, 7, 3},     {3, 4, 1},
                                             {17, 33, 65}, {130, 96, 40}, {64, 128, 256}};
  for (bool workspace : {true, false}) {
    OneGpu one(programWith(workspace));
    for (const Types &t : types)
      for (auto [m, n, k] : sizes)
        for (int variant = 0; variant != 24; ++variant) {
          bool bias = variant >> 3 == 1, gradient = variant >> 3 == 2;
          if (bias && (t.type != t.resultType || (t.type == LLRT_F64 && variant >> 2 & 1)))
            continue; // see below
          if (gradient && t.resultType != LLRT_F32)
            continue;
          checkGemm(one, generator,
                    {t.type, t.resultType, m, n, k, variant & 1, variant >> 1 & 1, variant >> 2 & 1,
                     gradient},
                    bias, t.tolerance);
        }
  }
}

// Operands that begin anywhere in an arena, as parts of shards do.
TEST(Products, OperandsThatAreNotAligned) {
  OneGpu one;
  LlrtGemm g = {LLRT_F32, LLRT_F32, 5, 8, 16, 0, 0, 0, 0};
  std::mt19937 generator(2);
  Array a = draw(generator, g.type, g.m * g.k + 1), b = draw(generator, g.type, g.k * g.n);
  auto *at = static_cast<float *>(one.put(a.data(), (g.m * g.k + 1) * 4));
  Array shifted(g.type, g.m * g.k), c(g.type, g.m * g.n);
  std::memcpy(shifted.data(), static_cast<float *>(a.data()) + 1, size_t(g.m * g.k) * 4);
  void *to = one.device.allocate(g.m * g.n * 4, "c");
  current = {&g, false};
  static const Action action = callOf(product, {});
  one.device.call(0, product, {at + 1, one.put(b.data(), g.k * g.n * 4), nullptr, to},
                  {&action, 0});
  one.device.read(0, to, g.m * g.n * 4, c.data());
  expectClose(c.doubles(), reference(g, shifted, b, nullptr, c), 1e-5, "C");
}

// What is measured is kept in the user's file; memory is zero afterwards; what a file holds
// besides is left out.
TEST(Products, ChoicesAreKept) {
  Folder folder;
  setenv("XDG_CACHE_HOME", (folder / "").c_str(), 1);
  LlrtGemm g = {LLRT_F32, LLRT_F32, 24, 16, 40, 0, 1, 1, 0};
  auto prepared = [&](const std::string &extra) {
    OneGpu one(programWith(true));
    void *a = one.device.allocate(24 * 40 * 4, "a"), *b = one.device.allocate(40 * 16 * 4, "b");
    void *c = one.device.allocate(24 * 16 * 4, "c");
    current = {&g, false};
    one.device.prepare([&](const Device::Visitor &visitor) {
      for (int i = 0; i < 3; ++i)
        visitor.call(0, product, {a, b, nullptr, c});
    });
    Array zero(LLRT_F32, Doubles(24 * 16, 0)), got(LLRT_F32, 24 * 16);
    one.device.read(0, c, 24 * 16 * 4, got.data());
    EXPECT_EQ(got, zero);
    cuda::Products fresh(one.gpu.name());
    fresh.adopt(extra);
    fresh.load();
    return fresh.choices();
  };
  std::string first = prepared("");
  EXPECT_EQ(std::count(first.begin(), first.end(), '\n'), 1) << first;
  EXPECT_TRUE(first.starts_with("0 0 24 16 40 0 1 1 1 256 256 256 256 33554432 : ")) << first;
  EXPECT_EQ(prepared("no line\n1 2 3 : 4\n" + first.substr(0, first.size() / 2)), first);
  // An algorithm that there is not: it is measured again.
  auto file = std::filesystem::directory_iterator(folder / "llamac")->path();
  EXPECT_TRUE(file.filename().string().starts_with("products-")) << file;
  std::ofstream(file) << first.substr(0, first.find(':') + 1) + " ff ff ff ff ff ff ff ff\nrest";
  EXPECT_EQ(prepared(""), first);
  unsetenv("XDG_CACHE_HOME");
}

// A line of a file of choices: a product of that many rows, by one of two algorithms.
std::string choiceOf(int rows, int algorithm) {
  return "0 0 " + std::to_string(rows) + " 16 40 0 1 1 1 256 256 256 256 33554432 : 1700000042 " +
         std::to_string(algorithm) + " 0 10 44080808080000 100000000 0 0\n";
}

// Ranks of a process, and processes, keep their choices at the same time: what was there first holds,
// but for what this one has found and not taken.
TEST(Products, ChoicesOfSeveralProcesses) {
  Folder folder;
  setenv("XDG_CACHE_HOME", (folder / "").c_str(), 1);
  OneGpu one;
  auto kept = [](const cuda::Products &products, std::string lines) {
    EXPECT_TRUE(products.keep(lines));
    return lines;
  };
  cuda::Products first(one.gpu.name()), second(one.gpu.name()), third(one.gpu.name());
  first.load();
  second.load();
  EXPECT_EQ(kept(first, choiceOf(24, 1)), choiceOf(24, 1));
  EXPECT_EQ(kept(second, choiceOf(24, 2) + choiceOf(32, 2)), choiceOf(24, 1) + choiceOf(32, 2));
  third.load();
  EXPECT_EQ(third.choices(), choiceOf(24, 1) + choiceOf(32, 2));
  EXPECT_EQ(kept(third, choiceOf(24, 2)), choiceOf(24, 2) + choiceOf(32, 2));
  {
    std::vector<std::jthread> ranks;
    for (int rank = 0; rank < 8; ++rank)
      ranks.emplace_back([&, rank] {
        one.gpu.enter();
        cuda::Products products(one.gpu.name());
        products.load();
        kept(products, choiceOf(40 + rank, 1));
      });
  }
  std::filesystem::directory_iterator files(folder / "llamac");
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "unfinished files are left";
  unsetenv("XDG_CACHE_HOME");
}

// A relative folder is none; what stands there and is no file stays.
TEST(Products, NoPlaceForChoices) {
  Folder folder;
  OneGpu one;
  auto isKept = [&] {
    cuda::Products products(one.gpu.name());
    products.load();
    std::string lines = choiceOf(24, 1);
    return products.keep(lines);
  };
  std::string before = std::getenv("HOME") ? std::getenv("HOME") : "";
  setenv("HOME", "", 1);
  setenv("XDG_CACHE_HOME", "relative-folder", 1);
  EXPECT_FALSE(isKept());
  EXPECT_FALSE(std::filesystem::exists("relative-folder"));
  setenv("XDG_CACHE_HOME", "/dev/null", 1);
  EXPECT_FALSE(isKept());
  setenv("XDG_CACHE_HOME", (folder / "").c_str(), 1);
  EXPECT_TRUE(isKept());
  auto file = std::filesystem::directory_iterator(folder / "llamac")->path();
  std::filesystem::remove(file);
  ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
  EXPECT_FALSE(isKept());
  EXPECT_TRUE(std::filesystem::is_fifo(file));
  setenv("HOME", before.c_str(), 1);
  unsetenv("XDG_CACHE_HOME");
}

// Where operands lie at multiples of 4 bytes only, the software GPU's algorithm that adds parts of
// k in place, in another order each time, is what it would propose first.
constexpr LlrtGemm longSum = {LLRT_BF16, LLRT_F32, 24, 16, 4096, 1, 0, 1, 1};

TEST(Products, SumsHaveOneOrder) {
  Array a(LLRT_BF16, 24 * 4096 + 2), b(LLRT_BF16, 4096 * 16);
  for (int64_t i = 0; i != 24 * 4096 + 2; ++i) // so that sums are rounded
    a.set(i, std::ldexp(1 + double(i % 97) / 128, int(i % 31) - 15));
  for (int64_t i = 0; i != 4096 * 16; ++i)
    b.set(i, 1);
  OneGpu one(programWith(true));
  current = {&longSum, true};
  static const Action action = callOf(product, {});
  void *left = static_cast<std::byte *>(one.put(a.data(), (24 * 4096 + 2) * 2)) + 4;
  void *right = one.put(b.data(), 4096 * 16 * 2);
  std::set<std::string> sums, gradients;
  for (int run = 0; run != 16; ++run) {
    std::string c(24 * 16 * 4, '\0'), gradient(24 * 4, '\0');
    void *to = one.put(c.data(), 24 * 16 * 4), *vector = one.device.allocate(24 * 4, "gradient");
    one.device.call(0, product, {left, right, vector, to}, {&action, 0});
    one.device.read(0, to, 24 * 16 * 4, c.data());
    one.device.read(0, vector, 24 * 4, gradient.data());
    sums.insert(c);
    gradients.insert(gradient);
  }
  EXPECT_EQ(sums.size(), 1u);
  EXPECT_EQ(gradients.size(), 1u);
}

// Nor where a file names such an algorithm.
TEST(Products, SumsOfNoOrderAreNotTaken) {
  Folder folder;
  setenv("XDG_CACHE_HOME", (folder / "").c_str(), 1);
  auto chosen = [&] { // the algorithm, as the file has it
    OneGpu one(programWith(true));
    auto *a = static_cast<std::byte *>(one.device.allocate(24 * 4096 * 2 + 4, "a"));
    void *b = one.device.allocate(4096 * 16 * 2, "b"), *c = one.device.allocate(24 * 16 * 4, "c");
    void *gradient = one.device.allocate(24 * 4, "gradient");
    current = {&longSum, true};
    one.device.prepare(
        [&](const Device::Visitor &visitor) { visitor.call(0, product, {a + 4, b, gradient, c}); });
    cuda::Products fresh(one.gpu.name());
    fresh.load();
    return fresh.choices();
  };
  auto schemeOf = [](const cuda::cublasLtMatmulAlgo_t &algorithm) {
    uint32_t scheme = 99;
    size_t written = 0;
    cuda::cublasLt().cublasLtMatmulAlgoConfigGetAttribute(
        &algorithm, cuda::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof(scheme), &written);
    return scheme;
  };
  auto algorithmOf = [](const std::string &line) {
    cuda::cublasLtMatmulAlgo_t algorithm = {};
    std::istringstream words(line.substr(line.find(':') + 1));
    for (uint64_t &word : algorithm.data)
      words >> std::hex >> word;
    return algorithm;
  };
  std::string first = chosen();
  cuda::cublasLtMatmulAlgo_t algorithm = algorithmOf(first);
  EXPECT_NE(schemeOf(algorithm), 1u) << first;

  // The same with its parts added in place, which cuBLASLt would do.
  void *library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_NOLOAD);
  ASSERT_TRUE(library) << dlerror();
  auto *set = reinterpret_cast<cuda::cublasStatus_t (*)(cuda::cublasLtMatmulAlgo_t *, int,
                                                        const void *, size_t)>(
      dlsym(library, "cublasLtMatmulAlgoConfigSetAttribute"));
  int32_t parts = 4, inPlace = 1;
  EXPECT_EQ(set(&algorithm, /*CUBLASLT_ALGO_CONFIG_SPLITK_NUM*/ 2, &parts, 4), 0);
  EXPECT_EQ(set(&algorithm, cuda::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &inPlace, 4), 0);
  ASSERT_EQ(schemeOf(algorithm), 1u);
  std::ostringstream line;
  line << first.substr(0, first.find(':') + 1) << std::hex;
  for (uint64_t word : algorithm.data)
    line << " " << word;
  auto file = std::filesystem::directory_iterator(folder / "llamac")->path();
  std::ofstream(file) << line.str() << "\n";
  EXPECT_NE(schemeOf(algorithmOf(chosen())), 1u);
  unsetenv("XDG_CACHE_HOME");
}

TEST(Products, WhatCublasLtRefusesIsNamed) {
  OneGpu one;
  LlrtGemm g = {LLRT_BF16, LLRT_F32, 5, 8, 16, 0, 0, 0, 0};
  void *memory = one.device.allocate(4096, "memory");
  current = {&g, true};
  Action action = callOf(product, {});
  action.call.name = "linear";
  try {
    one.device.call(0, product, {memory, memory, memory, memory}, {&action, 3});
    FAIL() << "expected a failure";
  } catch (const Failure &failure) {
    EXPECT_STREQ(failure.what(), "call of block 'linear', entry 3: matrix product of 5 x 16 and "
                                 "16 x 8: cuBLASLt adds no bias of bf16 to f32");
  }
  g.result_type = LLRT_BF16;
  g.bias_gradient = 1;
  try {
    one.device.call(0, product, {memory, memory, memory, memory}, {&action, 3});
    FAIL() << "expected a failure";
  } catch (const Failure &failure) {
    EXPECT_TRUE(std::string(failure.what())
                    .ends_with("forms a bias gradient of f32 only beside a result of f32"))
        << failure.what();
  }
}

} // namespace
