//===- AbiTest.cpp - Our cublasLt against NVIDIA's header and library -------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "SameShape.h"
#include "abi/cublaslt.h"

#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <random>
#include <regex>
#include <set>
#include <string>

#ifdef SGPU_CUDA_HEADERS
#include <cublasLt.h>

#define SAME(name, value) static_assert(int64_t(::name) == value, #name);
SGPU_CUBLASLT_CONSTANTS(SAME)
#undef SAME
namespace facts = sgpu::abi;
static_assert(sizeof(cublasLtMatrixLayoutOpaque_t) == facts::layoutBytes);
static_assert(sizeof(cublasLtMatmulAlgo_t) == facts::algoBytes);
static_assert(sizeof(cublasLtMatmulDescOpaque_t) == facts::descBytes);
static_assert(sizeof(cublasLtMatrixTransformDescOpaque_t) == facts::transformBytes);
static_assert(sizeof(cublasLtMatmulPreferenceOpaque_t) == facts::preferenceBytes);
static_assert(sizeof(cublasLtEmulationDescOpaque_t) == facts::emulationBytes);
using Result = cublasLtMatmulHeuristicResult_t;
static_assert(sizeof(Result) == sizeof(facts::MatmulHeuristicResult));
static_assert(offsetof(Result, workspaceSize) ==
              offsetof(facts::MatmulHeuristicResult, workspaceSize));
static_assert(offsetof(Result, state) == offsetof(facts::MatmulHeuristicResult, state));
static_assert(offsetof(Result, wavesCount) == offsetof(facts::MatmulHeuristicResult, wavesCount));
static_assert(CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA == facts::implHMMA &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_IMMA == facts::implIMMA &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_DMMA == facts::implDMMA &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA == facts::implFMA &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F == facts::implAccumulator16F &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F == facts::implAccumulator32F &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_64F == facts::implAccumulator64F &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32I == facts::implAccumulator32I &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F == facts::implInput16F &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF == facts::implInput16BF &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32 == facts::implInputTF32 &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F == facts::implInput32F &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_64F == facts::implInput64F &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_8I == facts::implInput8I &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_8F_E4M3 == facts::implInputE4M3 &&
              CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_8F_E5M2 == facts::implInputE5M2);
namespace shapes {
using namespace sgpu::abi;
#define CUBLASLT_FUNCTION(result, name, parameters)                                                \
  using name = result parameters;                                                                  \
  static_assert(sgpu::test::SameShape<decltype(::name), shapes::name>::value, #name);
#include "abi/cublaslt_functions.def"
#undef CUBLASLT_FUNCTION
} // namespace shapes
#endif

namespace {

TEST(CublasLtAbi, Header) {
#ifdef SGPU_CUDA_HEADERS
  SUCCEED() << "compared when this file was compiled";
#else
  GTEST_SKIP() << "cublasLt.h is not in /usr/local/cuda/include: nothing to compare with";
#endif
}

/// The same calls to both libraries.
struct Library {
  void *library = nullptr;
  explicit Library(const char *path) : library(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {}
  template <typename... Args> int call(const char *name, Args... args) const {
    auto *function = reinterpret_cast<int (*)(Args...)>(dlsym(library, name));
    EXPECT_TRUE(function) << name;
    return function ? function(args...) : -999;
  }
  const char *text(const char *name, int value) const {
    return reinterpret_cast<const char *(*)(int)>(dlsym(library, name))(value);
  }
};

struct CublasLtDifferential : ::testing::Test {
  Library ours{SGPU_LIBRARY_DIR "/libcublasLt.so.13"};
  Library real{"/usr/local/cuda/lib64/libcublasLt.so.13"};
  void SetUp() override {
    ASSERT_TRUE(ours.library) << dlerror();
    if (!real.library)
      GTEST_SKIP() << "the real library is not at /usr/local/cuda/lib64/libcublasLt.so.13";
  }

  /// Every id, every size, null pointers, and values of all kinds.
  void compare(const std::string &prefix, void *o, void *r) {
    std::string set = prefix + "SetAttribute", get = prefix + "GetAttribute";
    auto read = [&](const Library &l, void *object, int id, size_t size, bool buffer, bool count,
                    unsigned char *out, size_t &written) {
      std::memset(out, 0xa5, 64);
      written = 777;
      return l.call(get.c_str(), object, id, buffer ? static_cast<void *>(out) : nullptr, size,
                    count ? &written : nullptr);
    };
    for (int id = -2; id < 70; ++id) {
      for (size_t size = 0; size <= 32; ++size)
        for (int how = 0; how < 4; ++how) {
          unsigned char x[64], y[64];
          size_t wx, wy;
          int a = read(ours, o, id, size, how & 1, how & 2, x, wx);
          int b = read(real, r, id, size, how & 1, how & 2, y, wy);
          std::string what = get + " " + std::to_string(id) + " size " + std::to_string(size) +
                             " how " + std::to_string(how);
          EXPECT_EQ(a, b) << what;
          EXPECT_EQ(wx, wy) << what;
          EXPECT_EQ(std::memcmp(x, y, 64), 0) << what;
        }
      for (uint64_t value : {uint64_t(0), uint64_t(1), uint64_t(2), uint64_t(3), uint64_t(7),
                             uint64_t(68), uint64_t(9999), ~uint64_t(0), uint64_t(1) << 40})
        for (size_t size : {0, 1, 2, 3, 4, 7, 8, 9, 16}) {
          unsigned char x[64] = {}, y[64];
          std::memcpy(x, &value, 8);
          std::string what = set + " " + std::to_string(id) + " size " + std::to_string(size) +
                             " value " + std::to_string(value);
          EXPECT_EQ(ours.call(set.c_str(), o, id, static_cast<const void *>(x), size),
                    real.call(set.c_str(), r, id, static_cast<const void *>(x), size))
              << what;
          size_t wx, wy;
          for (size_t length : {1, 2, 4, 8}) {
            EXPECT_EQ(read(ours, o, id, length, true, true, x, wx),
                      read(real, r, id, length, true, true, y, wy))
                << what;
            EXPECT_EQ(std::memcmp(x, y, 64), 0) << what;
          }
        }
      EXPECT_EQ(ours.call(set.c_str(), o, id, static_cast<const void *>(nullptr), size_t(4)),
                real.call(set.c_str(), r, id, static_cast<const void *>(nullptr), size_t(4)));
    }
  }
};

TEST_F(CublasLtDifferential, Texts) {
  EXPECT_EQ(reinterpret_cast<size_t (*)()>(dlsym(ours.library, "cublasLtGetVersion"))(),
            reinterpret_cast<size_t (*)()>(dlsym(real.library, "cublasLtGetVersion"))());
  EXPECT_EQ(reinterpret_cast<size_t (*)()>(dlsym(ours.library, "cublasLtGetCudartVersion"))(),
            reinterpret_cast<size_t (*)()>(dlsym(real.library, "cublasLtGetCudartVersion"))());
  for (int status = -2; status < 30; ++status) {
    EXPECT_STREQ(ours.text("cublasLtGetStatusName", status),
                 real.text("cublasLtGetStatusName", status));
    EXPECT_STREQ(ours.text("cublasLtGetStatusString", status),
                 real.text("cublasLtGetStatusString", status));
  }
  for (int type = -2; type < 6; ++type) {
    int x = -7, y = -7;
    EXPECT_EQ(ours.call("cublasLtGetProperty", type, &x),
              real.call("cublasLtGetProperty", type, &y));
    EXPECT_EQ(x, y);
  }
}

TEST_F(CublasLtDifferential, Desc) {
  void *o = nullptr, *r = nullptr;
  for (int compute : {64, 68, 77, 70, 72, 0, -1, 999})
    for (int scale : {0, 1, 2, 10, 14, -1, 99})
      EXPECT_EQ(ours.call("cublasLtMatmulDescCreate", &o, compute, scale),
                real.call("cublasLtMatmulDescCreate", &r, compute, scale));
  EXPECT_EQ(ours.call("cublasLtMatmulDescCreate", static_cast<void **>(nullptr), 68, 0),
            real.call("cublasLtMatmulDescCreate", static_cast<void **>(nullptr), 68, 0));
  ours.call("cublasLtMatmulDescCreate", &o, 68, 0);
  real.call("cublasLtMatmulDescCreate", &r, 68, 0);
  compare("cublasLtMatmulDesc", o, r);
  EXPECT_EQ(ours.call("cublasLtMatmulDescDestroy", o), real.call("cublasLtMatmulDescDestroy", r));
  EXPECT_EQ(ours.call("cublasLtMatmulDescDestroy", static_cast<void *>(nullptr)),
            real.call("cublasLtMatmulDescDestroy", static_cast<void *>(nullptr)));
}

TEST_F(CublasLtDifferential, Layout) {
  void *o = nullptr, *r = nullptr;
  for (int type = -2; type < 40; ++type)
    for (int64_t rows : {-1, 0, 1, 64})
      for (int64_t ld : {-1, 0, 32, 64})
        EXPECT_EQ(
            ours.call("cublasLtMatrixLayoutCreate", &o, type, uint64_t(rows), uint64_t(8), ld),
            real.call("cublasLtMatrixLayoutCreate", &r, type, uint64_t(rows), uint64_t(8), ld));
  ours.call("cublasLtMatrixLayoutCreate", &o, 14, uint64_t(128), uint64_t(64), int64_t(128));
  real.call("cublasLtMatrixLayoutCreate", &r, 14, uint64_t(128), uint64_t(64), int64_t(128));
  compare("cublasLtMatrixLayout", o, r);
}

TEST_F(CublasLtDifferential, Preference) {
  void *o = nullptr, *r = nullptr;
  EXPECT_EQ(ours.call("cublasLtMatmulPreferenceCreate", &o),
            real.call("cublasLtMatmulPreferenceCreate", &r));
  compare("cublasLtMatmulPreference", o, r);
}

TEST_F(CublasLtDifferential, Transform) {
  void *o = nullptr, *r = nullptr;
  EXPECT_EQ(ours.call("cublasLtMatrixTransformDescCreate", &o, 0),
            real.call("cublasLtMatrixTransformDescCreate", &r, 0));
  compare("cublasLtMatrixTransformDesc", o, r);
}

TEST_F(CublasLtDifferential, Emulation) {
  void *o = nullptr, *r = nullptr;
  EXPECT_EQ(ours.call("cublasLtEmulationDescCreate", &o),
            real.call("cublasLtEmulationDescCreate", &r));
  compare("cublasLtEmulationDesc", o, r);
}

TEST_F(CublasLtDifferential, AlgoConfig) {
  uint64_t o[8] = {}, r[8] = {};
  compare("cublasLtMatmulAlgoConfig", o, r);
  for (int id = -1; id < 30; ++id) {
    size_t written = 0;
    EXPECT_EQ(ours.call("cublasLtMatmulAlgoCapGetAttribute", static_cast<void *>(o), id,
                        static_cast<void *>(nullptr), size_t(0), &written),
              real.call("cublasLtMatmulAlgoCapGetAttribute", static_cast<void *>(r), id,
                        static_cast<void *>(nullptr), size_t(0), &written));
  }
}

TEST_F(CublasLtDifferential, Init) {
  uint64_t o[64], r[64];
  for (size_t size : {0, 8, 32, 64, 128, 256}) {
    EXPECT_EQ(ours.call("cublasLtMatrixLayoutInit_internal", static_cast<void *>(o), size, 0,
                        uint64_t(4), uint64_t(4), int64_t(4)),
              real.call("cublasLtMatrixLayoutInit_internal", static_cast<void *>(r), size, 0,
                        uint64_t(4), uint64_t(4), int64_t(4)));
    EXPECT_EQ(ours.call("cublasLtMatmulPreferenceInit_internal", static_cast<void *>(o), size),
              real.call("cublasLtMatmulPreferenceInit_internal", static_cast<void *>(r), size));
  }
  for (size_t size : {0, 8, 32, 256})
    EXPECT_EQ(ours.call("cublasLtMatmulDescInit_internal", static_cast<void *>(o), size, 68, 0),
              real.call("cublasLtMatmulDescInit_internal", static_cast<void *>(r), size, 68, 0));
}

TEST_F(CublasLtDifferential, NullHandles) {
  int n = -5;
  EXPECT_EQ(ours.call("cublasLtCreate", static_cast<void *>(nullptr)),
            real.call("cublasLtCreate", static_cast<void *>(nullptr)));
  EXPECT_EQ(ours.call("cublasLtDestroy", static_cast<void *>(nullptr)),
            real.call("cublasLtDestroy", static_cast<void *>(nullptr)));
  int ids[4];
  EXPECT_EQ(ours.call("cublasLtMatmulAlgoGetIds", static_cast<void *>(nullptr), 68, 0, 0, 0, 0, 0,
                      4, static_cast<int *>(ids), &n),
            real.call("cublasLtMatmulAlgoGetIds", static_cast<void *>(nullptr), 68, 0, 0, 0, 0, 0,
                      4, static_cast<int *>(ids), &n));
}

TEST_F(CublasLtDifferential, Cache) {
  for (size_t wanted : {0, 1, 31, 32, 33, 100, 5000, 8192}) {
    EXPECT_EQ(ours.call("cublasLtHeuristicsCacheSetCapacity", wanted),
              real.call("cublasLtHeuristicsCacheSetCapacity", wanted));
    size_t x = 7, y = 7;
    EXPECT_EQ(ours.call("cublasLtHeuristicsCacheGetCapacity", &x),
              real.call("cublasLtHeuristicsCacheGetCapacity", &y));
    EXPECT_EQ(x, y) << wanted;
  }
  size_t *none = nullptr;
  EXPECT_EQ(ours.call("cublasLtHeuristicsCacheGetCapacity", none),
            real.call("cublasLtHeuristicsCacheGetCapacity", none));
}

TEST_F(CublasLtDifferential, Logger) {
  void *null = nullptr;
  for (int level : {7, 8, -1, -2, 0})
    EXPECT_EQ(ours.call("cublasLtLoggerSetLevel", level),
              real.call("cublasLtLoggerSetLevel", level))
        << level;
  for (int mask : {-1, 0, 64})
    EXPECT_EQ(ours.call("cublasLtLoggerSetMask", mask), real.call("cublasLtLoggerSetMask", mask));
  for (const char *file : {"/nowhere/at/all", static_cast<const char *>(nullptr)})
    EXPECT_EQ(ours.call("cublasLtLoggerOpenFile", file), real.call("cublasLtLoggerOpenFile", file));
  for (const char *name : {"cublasLtLoggerSetFile", "cublasLtLoggerSetCallback"})
    EXPECT_EQ(ours.call(name, null), real.call(name, null)) << name;
  EXPECT_EQ(ours.call("cublasLtLoggerForceDisable"), real.call("cublasLtLoggerForceDisable"));
}

/// Drawn sequences of calls: what an earlier call has set changes what a later one may.
TEST_F(CublasLtDifferential, DrawnSequences) {
  struct Kind {
    const char *prefix;
    int ids;
  };
  for (const Kind &kind :
       {Kind{"cublasLtMatmulDesc", 42}, Kind{"cublasLtMatrixLayout", 12},
        Kind{"cublasLtMatmulPreference", 16}, Kind{"cublasLtMatrixTransformDesc", 8},
        Kind{"cublasLtEmulationDesc", 9}, Kind{"cublasLtMatmulAlgoConfig", 14}})
    for (uint64_t seed = 0; seed < 60; ++seed) {
      std::mt19937_64 draw(seed);
      alignas(8) char o[512] = {}, r[512] = {};
      std::string prefix = kind.prefix;
      auto init = [&](const Library &l, char *object) {
        if (prefix == "cublasLtMatmulDesc")
          return l.call("cublasLtMatmulDescInit_internal", static_cast<void *>(object), size_t(256),
                        68, 0);
        if (prefix == "cublasLtMatrixLayout")
          return l.call("cublasLtMatrixLayoutInit_internal", static_cast<void *>(object),
                        size_t(64), 14, uint64_t(64), uint64_t(32), int64_t(64));
        if (prefix == "cublasLtMatrixTransformDesc")
          return l.call("cublasLtMatrixTransformDescInit_internal", static_cast<void *>(object),
                        size_t(64), 0);
        if (prefix == "cublasLtMatmulAlgoConfig")
          return 0;
        return l.call((prefix + "Init_internal").c_str(), static_cast<void *>(object), size_t(64));
      };
      ASSERT_EQ(init(ours, o), init(real, r));
      for (int step = 0; step < 100; ++step) {
        int id = int(draw() % uint64_t(kind.ids)) - 1;
        size_t sizes[] = {4, 8, 4, 8, 1, 2, 0, 3, 16}, size = sizes[draw() % 9];
        uint64_t values[] = {0, 1, ~uint64_t(0), 14, 68, draw(), draw() % 64, uint64_t(1) << 33};
        uint64_t value = values[draw() % 8];
        bool null = draw() % 16 == 0, set = draw() % 2;
        char x[64], y[64];
        std::memset(x, 0x5a, sizeof x);
        std::memcpy(x, &value, sizeof value);
        std::memcpy(y, x, sizeof x);
        std::string what = prefix + (set ? " set " : " get ") + std::to_string(id) + " size " +
                           std::to_string(size) + " step " + std::to_string(step) + " seed " +
                           std::to_string(seed);
        if (set) {
          std::string name = prefix + "SetAttribute";
          const void *px = null ? nullptr : x, *py = null ? nullptr : y;
          ASSERT_EQ(ours.call(name.c_str(), static_cast<void *>(o), id, px, size),
                    real.call(name.c_str(), static_cast<void *>(r), id, py, size))
              << what;
        } else {
          std::string name = prefix + "GetAttribute";
          void *px = null ? nullptr : x, *py = null ? nullptr : y;
          size_t wx = 777, wy = 777;
          bool count = draw() % 4 != 0;
          ASSERT_EQ(ours.call(name.c_str(), static_cast<const void *>(o), id, px, size,
                              count ? &wx : nullptr),
                    real.call(name.c_str(), static_cast<const void *>(r), id, py, size,
                              count ? &wy : nullptr))
              << what;
          ASSERT_EQ(wx, wy) << what;
        }
        ASSERT_EQ(std::memcmp(x, y, sizeof x), 0) << what;
      }
    }
}

/// Of the functions that NVIDIA's header declares, both libraries have the same.
TEST(CublasLtAbi, Symbols) {
  Library ours(SGPU_LIBRARY_DIR "/libcublasLt.so.13");
  ASSERT_TRUE(ours.library) << dlerror();
  Library real("/usr/local/cuda/lib64/libcublasLt.so.13");
  std::ifstream header("/usr/local/cuda/include/cublasLt.h");
  if (!real.library || !header)
    GTEST_SKIP() << "/usr/local/cuda has no lib64/libcublasLt.so.13 or no include/cublasLt.h: "
                    "nothing to compare with";
  std::string text((std::istreambuf_iterator<char>(header)), {});
  std::regex call("\\b(cublasLt[A-Z]\\w*)\\(");
  std::set<std::string> names;
  for (std::sregex_iterator i(text.begin(), text.end(), call), end; i != end; ++i)
    names.insert((*i)[1]);
  int compared = 0;
  for (const std::string &name : names) {
    bool has = dlsym(real.library, name.c_str());
    compared += has;
    EXPECT_EQ(bool(dlsym(ours.library, name.c_str())), has) << name;
  }
  EXPECT_GE(compared, 45);
}

} // namespace
